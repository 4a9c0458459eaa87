//! The line formats, in both directions.

mod json;
mod line;
pub(crate) mod log_line;
pub(crate) mod metrics_line;
mod otlp;
