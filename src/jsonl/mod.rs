//! The line formats, in both directions.

mod format;
pub(crate) mod json;
mod line;
pub(crate) mod log_line;
pub(crate) mod metrics_line;
pub(crate) mod otlp;
mod parse;

pub use self::{
    format::{LineFormat, LineWriter},
    parse::{LineError, ParsedLine, parse_line},
};
pub(crate) use self::{otlp::records::is_foreign, parse::server_name};
