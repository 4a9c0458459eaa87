//! The three kinds of records, as producers make them and readers get them.

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
    level::Level,
    log::LogRecord,
    metrics::{CostCounts, MetricsSnapshot, TokenCounts},
    server::ServerName,
    span::SpanRecord,
    value::Value,
};
