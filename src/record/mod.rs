//! The three kinds of records, as producers build them and readers receive them, and their encoding
//! in the database.

mod any;
#[cfg(test)]
pub(crate) mod arbitrary;
pub(crate) mod calls;
mod encoded;
mod level;
mod log;
pub(crate) mod messagepack;
mod metrics;
pub(crate) mod names;
pub(crate) mod payload;
pub(crate) mod protobuf;
mod server;
mod span;
mod span_message;
mod totals;
mod value;

pub use self::{
    any::Record,
    calls::CallCounts,
    encoded::EncodedLog,
    level::Level,
    log::LogRecord,
    metrics::{CostCounts, Interval, MetricsSnapshot, TokenCounts},
    server::ServerName,
    span::SpanRecord,
    value::Value,
};

pub(crate) use self::totals::Totals;
