//! The line formats, in both directions.

mod batch;
pub(crate) mod json;
pub(crate) mod ndjson;
pub(crate) mod otlp_json;
mod parse;
mod reader;
#[cfg(test)]
mod tests;
mod view;
mod writer;

pub use self::{
    batch::{OtlpBatch, origin},
    ndjson::dialect::Dialect,
    parse::{ParsedLine, parse_line},
    reader::{Found, FoundLog, FoundRecord, LineError, Place, RecordReader},
    view::JsonView,
    writer::{COLLECTOR_LINE_BYTES_MAX, LineFormat, LineWriter},
};
