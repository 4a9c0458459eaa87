//! The line formats, in both directions.

mod json;
mod otlp;
