//! Producers: the parts of a daemon that turn log events, counters and spans into records.

mod accumulator;
mod flush_rule;
#[cfg(feature = "otel-sdk")]
mod log_exporter;
mod log_router;
#[cfg(feature = "otel-sdk")]
mod metric_exporter;
mod metrics_flusher;
mod otlp_message;
mod otlp_writer;
#[cfg(feature = "otel-sdk")]
mod span_exporter;
mod trace_client;

pub use self::{
    accumulator::{
        Accumulator, Attribution, CostUsd, Point, Recorder, RefusedCosts, TimeSeries, Usage,
    },
    log_router::{
        LogOptions, LogRouter, PanicHook, PanicOptions, RouterFilter, RouterLayer, UnroutedEvents,
        UnroutedKey,
    },
    metrics_flusher::{MetricsFlusher, SeedReport, SeededServer},
    otlp_message::{OtlpMessage, OtlpMessageError},
    otlp_writer::{OtlpOutcome, OtlpReason, OtlpWriter},
    trace_client::{SkippedSpans, TraceClient},
};
#[cfg(feature = "otel-sdk")]
pub use self::{
    log_exporter::TelemetryLogExporter, metric_exporter::TelemetryMetricExporter,
    span_exporter::TelemetrySpanExporter,
};
