//! A decoded OTLP message of one signal, and how a receiver gets it.

use crate::{
    lines::{json::JsonReason, otlp_json::message_in},
    otlp::memory,
    signal::Signal,
};
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    logs::v1::{LogsData, ResourceLogs, ScopeLogs},
    metrics::v1::{MetricsData, ResourceMetrics},
    trace::v1::{ResourceSpans, ScopeSpans, TracesData},
};
use prost::Message;

/// An OTLP message of one signal.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum OtlpMessage {
    /// Log records.
    Logs(LogsData),
    /// Metrics.
    Metrics(MetricsData),
    /// Spans.
    Traces(TracesData),
}

/// Why a text or bytes are no [`OtlpMessage`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OtlpMessageError {
    /// It is not protobuf or JSON, or not a message of the signal.
    #[error("{reason}")]
    Malformed {
        /// What is wrong, and where.
        reason: String,
    },
    /// The message would take more memory than a receiver allows.
    #[error("the message takes more than {bytes_max} bytes of memory: send fewer records at once")]
    TooLarge {
        /// The maximum.
        bytes_max: usize,
    },
}

impl OtlpMessage {
    /// Maximum memory of a message that is decoded, in bytes, besides its texts and bytes: 64 MiB.
    pub const BYTES_MAX: usize = 64 << 20;

    /// Decodes the protobuf message that a client sends to export records of `signal`.
    ///
    /// # Errors
    ///
    /// [`OtlpMessageError::TooLarge`] before it takes more than [`OtlpMessage::BYTES_MAX`];
    /// [`OtlpMessageError::Malformed`].
    pub fn from_protobuf(signal: Signal, bytes: &[u8]) -> Result<OtlpMessage, OtlpMessageError> {
        if !memory::fits(signal, bytes, OtlpMessage::BYTES_MAX) {
            return Err(OtlpMessage::too_large());
        }
        let decoded = match signal {
            Signal::Logs => LogsData::decode(bytes).map(OtlpMessage::Logs),
            Signal::Metrics => MetricsData::decode(bytes).map(OtlpMessage::Metrics),
            Signal::Traces => TracesData::decode(bytes).map(OtlpMessage::Traces),
        };
        decoded.map_err(|error| OtlpMessageError::Malformed {
            reason: error.to_string(),
        })
    }

    /// Reads the OTLP/JSON message that a client sends to export records of `signal`. Like an import, it takes
    /// the names of enums and ids in base64, too.
    ///
    /// # Errors
    ///
    /// Like [`OtlpMessage::from_protobuf`].
    pub fn from_json(signal: Signal, text: &[u8]) -> Result<OtlpMessage, OtlpMessageError> {
        let bytes_max = OtlpMessage::BYTES_MAX;
        let read = match signal {
            Signal::Logs => message_in(text, bytes_max).map(OtlpMessage::Logs),
            Signal::Metrics => message_in(text, bytes_max).map(OtlpMessage::Metrics),
            Signal::Traces => message_in(text, bytes_max).map(OtlpMessage::Traces),
        };
        read.map_err(|error| match error.reason() {
            JsonReason::TooMuchMemory => OtlpMessage::too_large(),
            _ => OtlpMessageError::Malformed {
                reason: error.to_string(),
            },
        })
    }

    /// The signal of its records.
    #[must_use]
    pub fn signal(&self) -> Signal {
        match self {
            OtlpMessage::Logs(_) => Signal::Logs,
            OtlpMessage::Metrics(_) => Signal::Metrics,
            OtlpMessage::Traces(_) => Signal::Traces,
        }
    }

    /// The same records as several messages, each of at most `records_max` log records or spans (at least one).
    /// The metrics of a scope stay together: a snapshot can be made of several.
    #[must_use]
    pub fn split(self, records_max: usize) -> Box<dyn Iterator<Item = OtlpMessage>> {
        let records_max = records_max.max(1);
        match self {
            OtlpMessage::Logs(data) => Box::new(data.resource_logs.into_iter().flat_map(
                move |ResourceLogs {
                          resource,
                          scope_logs,
                          schema_url,
                      }| {
                    scope_logs.into_iter().flat_map(move |scope_logs| {
                        let (resource, schema_url) = (resource.clone(), schema_url.clone());
                        let ScopeLogs {
                            scope,
                            log_records,
                            schema_url: scope_url,
                        } = scope_logs;
                        Chunks::new(log_records, records_max).map(move |log_records| {
                            OtlpMessage::from(vec![ResourceLogs {
                                resource: resource.clone(),
                                scope_logs: vec![ScopeLogs {
                                    scope: scope.clone(),
                                    log_records,
                                    schema_url: scope_url.clone(),
                                }],
                                schema_url: schema_url.clone(),
                            }])
                        })
                    })
                },
            )),
            OtlpMessage::Traces(data) => Box::new(data.resource_spans.into_iter().flat_map(
                move |ResourceSpans {
                          resource,
                          scope_spans,
                          schema_url,
                      }| {
                    scope_spans.into_iter().flat_map(move |scope_spans| {
                        let (resource, schema_url) = (resource.clone(), schema_url.clone());
                        let ScopeSpans {
                            scope,
                            spans,
                            schema_url: scope_url,
                        } = scope_spans;
                        Chunks::new(spans, records_max).map(move |spans| {
                            OtlpMessage::from(vec![ResourceSpans {
                                resource: resource.clone(),
                                scope_spans: vec![ScopeSpans {
                                    scope: scope.clone(),
                                    spans,
                                    schema_url: scope_url.clone(),
                                }],
                                schema_url: schema_url.clone(),
                            }])
                        })
                    })
                },
            )),
            OtlpMessage::Metrics(data) => Box::new(data.resource_metrics.into_iter().flat_map(
                |ResourceMetrics {
                     resource,
                     scope_metrics,
                     schema_url,
                 }| {
                    scope_metrics.into_iter().map(move |scope_metrics| {
                        OtlpMessage::from(vec![ResourceMetrics {
                            resource: resource.clone(),
                            scope_metrics: vec![scope_metrics],
                            schema_url: schema_url.clone(),
                        }])
                    })
                },
            )),
        }
    }

    fn too_large() -> OtlpMessageError {
        OtlpMessageError::TooLarge {
            bytes_max: OtlpMessage::BYTES_MAX,
        }
    }
}

/// The items of a list, so many at a time.
struct Chunks<T> {
    items: std::vec::IntoIter<T>,
    size: usize,
}

impl<T> Chunks<T> {
    fn new(items: Vec<T>, size: usize) -> Chunks<T> {
        let items = items.into_iter();
        Chunks { items, size }
    }
}

impl<T> Iterator for Chunks<T> {
    type Item = Vec<T>;

    fn next(&mut self) -> Option<Vec<T>> {
        let chunk: Vec<T> = self.items.by_ref().take(self.size).collect();
        (!chunk.is_empty()).then_some(chunk)
    }
}

impl From<LogsData> for OtlpMessage {
    fn from(data: LogsData) -> OtlpMessage {
        OtlpMessage::Logs(data)
    }
}

impl From<Vec<ResourceLogs>> for OtlpMessage {
    fn from(resource_logs: Vec<ResourceLogs>) -> OtlpMessage {
        OtlpMessage::Logs(LogsData { resource_logs })
    }
}

impl From<ExportLogsServiceRequest> for OtlpMessage {
    fn from(request: ExportLogsServiceRequest) -> OtlpMessage {
        request.resource_logs.into()
    }
}

impl From<MetricsData> for OtlpMessage {
    fn from(data: MetricsData) -> OtlpMessage {
        OtlpMessage::Metrics(data)
    }
}

impl From<Vec<ResourceMetrics>> for OtlpMessage {
    fn from(resource_metrics: Vec<ResourceMetrics>) -> OtlpMessage {
        OtlpMessage::Metrics(MetricsData { resource_metrics })
    }
}

impl From<ExportMetricsServiceRequest> for OtlpMessage {
    fn from(request: ExportMetricsServiceRequest) -> OtlpMessage {
        request.resource_metrics.into()
    }
}

impl From<TracesData> for OtlpMessage {
    fn from(data: TracesData) -> OtlpMessage {
        OtlpMessage::Traces(data)
    }
}

impl From<Vec<ResourceSpans>> for OtlpMessage {
    fn from(resource_spans: Vec<ResourceSpans>) -> OtlpMessage {
        OtlpMessage::Traces(TracesData { resource_spans })
    }
}

impl From<ExportTraceServiceRequest> for OtlpMessage {
    fn from(request: ExportTraceServiceRequest) -> OtlpMessage {
        request.resource_spans.into()
    }
}
