//! The line formats, in both directions.

mod json;
mod line;
mod log_line;
mod otlp;
