//! A line that is written record by record.

use super::message::{Message, write_message};
use crate::{lines::json::write_string, signal::Signal};
use opentelemetry_proto::tonic::{common::v1::InstrumentationScope, resource::v1::Resource};

/// What the records of one line share: the resource and the scope that they come from.
///
/// A line is what [`open`](Envelope::open) writes, the records as
/// [`write_message`](super::write_message) writes them with a comma between two, and what
/// [`close`](Envelope::close) writes. So its length is known before each record is added.
///
/// Spans stand before their resource: a Collector takes files for one whose first 1000 bytes are
/// the same, and a gateway's files of several servers have the same resource, which can be longer
/// than that. Logs and metrics have a resource that begins with the server's name.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Envelope<'a> {
    /// What produced the records; absent when that is not known.
    pub(crate) resource: Option<&'a Resource>,
    /// The schema URL of the resource, or nothing.
    pub(crate) resource_schema_url: &'a str,
    /// The instrumentation that produced the records; absent when that is not known.
    pub(crate) scope: Option<&'a InstrumentationScope>,
    /// The schema URL of the scope and the records, or nothing.
    pub(crate) scope_schema_url: &'a str,
}

impl Envelope<'_> {
    /// Appends everything that stands before the first record, which is a `Span` for traces, a
    /// `LogRecord` for logs, a `Metric` for metrics.
    pub(crate) fn open(&self, signal: Signal, out: &mut Vec<u8>) {
        let [resources, scopes, records] = match signal {
            Signal::Traces => ["resourceSpans", "scopeSpans", "spans"],
            Signal::Logs => ["resourceLogs", "scopeLogs", "logRecords"],
            Signal::Metrics => ["resourceMetrics", "scopeMetrics", "metrics"],
        };
        let origins_first = signal != Signal::Traces;
        out.push(b'{');
        open_list(resources, out);
        out.push(b'{');
        if origins_first {
            self.write_resource(out);
        }
        open_list(scopes, out);
        out.push(b'{');
        if origins_first {
            self.write_scope(out);
        }
        open_list(records, out);
    }

    /// Appends everything that stands behind the last record, without the line feed.
    pub(crate) fn close(&self, signal: Signal, out: &mut Vec<u8>) {
        out.push(b']');
        if signal == Signal::Traces {
            out.push(b',');
            self.write_scope(out);
            out.pop();
        }
        out.extend_from_slice(b"}]");
        if signal == Signal::Traces {
            out.push(b',');
            self.write_resource(out);
            out.pop();
        }
        out.extend_from_slice(b"}]}");
    }

    fn write_resource(&self, out: &mut Vec<u8>) {
        write_origin("resource", self.resource, self.resource_schema_url, out);
    }

    fn write_scope(&self, out: &mut Vec<u8>) {
        write_origin("scope", self.scope, self.scope_schema_url, out);
    }
}

fn open_list(key: &str, out: &mut Vec<u8>) {
    write_key(key, out);
    out.push(b'[');
}

/// Writes where records come from, as entries with a comma behind each.
fn write_origin<M: Message>(key: &str, origin: Option<&M>, schema_url: &str, out: &mut Vec<u8>) {
    if let Some(origin) = origin {
        write_key(key, out);
        write_message(origin, out);
        out.push(b',');
    }
    if !schema_url.is_empty() {
        write_key("schemaUrl", out);
        write_string(schema_url, out);
        out.push(b',');
    }
}

fn write_key(key: &str, out: &mut Vec<u8>) {
    write_string(key, out);
    out.push(b':');
}

#[cfg(test)]
mod tests {
    use super::{
        super::{message::read_message, tests::assert_same},
        *,
    };
    use crate::otlp::arbitrary::{log_record, metric, resource, schema_url, scope, span};
    use opentelemetry_proto::tonic::{
        logs::v1::{LogsData, ResourceLogs, ScopeLogs},
        metrics::v1::{MetricsData, ResourceMetrics, ScopeMetrics},
        trace::v1::{ResourceSpans, ScopeSpans, TracesData},
    };
    use proptest::{collection::vec, option, prelude::*};

    fn line<M: Message>(envelope: Envelope<'_>, signal: Signal, records: &[M]) -> Vec<u8> {
        let mut line = Vec::new();
        envelope.open(signal, &mut line);
        for (index, record) in records.iter().enumerate() {
            if index > 0 {
                line.push(b',');
            }
            write_message(record, &mut line);
        }
        envelope.close(signal, &mut line);
        line
    }

    proptest! {
        #[test]
        fn a_line_written_record_by_record_is_the_whole_message(
            (resource, resource_schema_url) in (option::of(resource()), schema_url()),
            (scope, scope_schema_url) in (option::of(scope()), schema_url()),
            spans in vec(span(), 0..3),
            log_records in vec(log_record(), 0..3),
            metrics in vec(metric(), 0..3),
        ) {
            let envelope = Envelope {
                resource: resource.as_ref(),
                resource_schema_url: &resource_schema_url,
                scope: scope.as_ref(),
                scope_schema_url: &scope_schema_url,
            };
            let traces = line(envelope, Signal::Traces, &spans);
            let logs = line(envelope, Signal::Logs, &log_records);
            let metrics_line = line(envelope, Signal::Metrics, &metrics);
            assert_same(
                &read_message::<TracesData>(&traces).expect("TracesData"),
                &TracesData {
                    resource_spans: vec![ResourceSpans {
                        resource: resource.clone(),
                        scope_spans: vec![ScopeSpans {
                            scope: scope.clone(),
                            spans,
                            schema_url: scope_schema_url.clone(),
                        }],
                        schema_url: resource_schema_url.clone(),
                    }],
                },
            );
            assert_same(
                &read_message::<LogsData>(&logs).expect("LogsData"),
                &LogsData {
                    resource_logs: vec![ResourceLogs {
                        resource: resource.clone(),
                        scope_logs: vec![ScopeLogs {
                            scope: scope.clone(),
                            log_records,
                            schema_url: scope_schema_url.clone(),
                        }],
                        schema_url: resource_schema_url.clone(),
                    }],
                },
            );
            assert_same(
                &read_message::<MetricsData>(&metrics_line).expect("MetricsData"),
                &MetricsData {
                    resource_metrics: vec![ResourceMetrics {
                        resource,
                        scope_metrics: vec![ScopeMetrics {
                            scope,
                            metrics,
                            schema_url: scope_schema_url,
                        }],
                        schema_url: resource_schema_url,
                    }],
                },
            );
        }
    }
}
