//! The three kinds of records, as producers build them and readers receive them, and their encoding
//! in the database.

mod any;
#[cfg(test)]
pub(crate) mod arbitrary;
mod level;
mod log;
pub(crate) mod messagepack;
mod metrics;
pub(crate) mod payload;
mod server;
mod span;
mod value;

pub use self::{
    any::Record,
    level::Level,
    log::LogRecord,
    metrics::{CostCounts, MetricsSnapshot, TokenCounts},
    server::ServerName,
    span::SpanRecord,
    value::Value,
};
