//! Producers: the parts of a daemon that turn log events, counters and spans into records.

mod accumulator;
mod flush_rule;
mod log_router;
mod metrics_flusher;
#[cfg(feature = "otel-sdk")]
mod span_exporter;
mod trace_client;

#[cfg(feature = "otel-sdk")]
pub use self::span_exporter::TelemetrySpanExporter;
pub use self::{
    accumulator::{
        Accumulator, Attribution, CostUsd, Point, Recorder, RefusedCosts, TimeSeries, Usage,
    },
    log_router::{
        LogOptions, LogRouter, PanicHook, PanicOptions, RouterFilter, RouterLayer, UnroutedEvents,
        UnroutedKey,
    },
    metrics_flusher::{MetricsFlusher, SeedReport, SeededServer},
    trace_client::{SkippedSpans, TraceClient},
};
