//! What produces records: the side of the daemon that is being observed.

mod log_router;
#[cfg(feature = "otel-sdk")]
mod span_exporter;
mod trace_client;

#[cfg(feature = "otel-sdk")]
pub use self::span_exporter::TelemetrySpanExporter;
pub use self::{
    log_router::{LogOptions, LogRouter, RouterFilter, RouterLayer},
    trace_client::{SkippedSpans, TraceClient},
};
