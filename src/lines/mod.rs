//! The line formats, in both directions.

pub(crate) mod json;
pub(crate) mod ndjson;
pub(crate) mod otlp_json;
mod parse;
#[cfg(test)]
mod tests;
mod writer;

pub use self::{
    parse::{LineError, ParsedLine, parse_line},
    writer::{LineFormat, LineWriter},
};
