//! The line formats, in both directions.

mod format;
pub(crate) mod json;
mod line;
pub(crate) mod log_line;
pub(crate) mod metrics_line;
pub(crate) mod otlp;
mod parse;

pub(crate) use self::parse::server_name;
pub use self::{
    format::{LineFormat, LineWriter},
    parse::{LineError, ParsedLine, parse_line},
};
