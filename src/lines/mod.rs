//! The line formats, in both directions.

pub(crate) mod json;
pub(crate) mod ndjson;
pub(crate) mod otlp_json;
mod parse;
mod writer;

pub(crate) use self::{otlp_json::records::is_foreign, parse::server_name};
pub use self::{
    parse::{LineError, ParsedLine, parse_line},
    writer::{LineFormat, LineWriter},
};
