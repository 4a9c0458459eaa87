//! JSON text, read strictly (RFC 8259) and written without an intermediate tree.
//!
//! Every line format shares this module: a [`Reader`] that is pulled through one line, functions
//! that append to a line, and the conversion of [`Value`](crate::record::Value) in both directions.

mod error;
mod read;
mod scan;
mod value;
mod write;

#[cfg(test)]
pub(crate) use self::error::JsonReason;
pub(crate) use self::{
    error::{JsonError, JsonResult},
    read::{Kind, NESTING_MAX, Number, Reader},
    value::{read_value, write_number, write_value},
    write::{write_f64, write_i64, write_string, write_u64},
};
