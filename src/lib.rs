//! Embedded, crash-safe store for the logs, metrics and traces of a gateway daemon.

mod error;
mod home;
mod jsonl;
mod record;
mod signal;
mod store;
mod time;

pub use crate::{
    error::{Error, Result},
    record::{CostCounts, Level, LogRecord, MetricsSnapshot, SpanRecord, TokenCounts, Value},
    signal::{Signal, is_valid_signal},
    time::Timestamp,
};
