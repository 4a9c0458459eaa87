//! The project's shared files of OTLP/JSON, where `GRIDCTL_TELEMETRY_SHARED_DATA` names their folder:
//! all of it by OpenTelemetry's own writers, unlike the rest of our tests.

use super::{
    message::{Message, read_message},
    tests::{assert_reads_back, assert_same},
};
use crate::lines::json::JsonError;
use opentelemetry_proto::tonic::{
    logs::v1::LogsData, metrics::v1::MetricsData, trace::v1::TracesData,
};
use std::{fs, path::PathBuf};

/// The folder, or none, which is said.
fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("GRIDCTL_TELEMETRY_SHARED_DATA").map(PathBuf::from);
    if folder.is_none() {
        println!("skipped: GRIDCTL_TELEMETRY_SHARED_DATA does not name the shared data's folder");
    }
    folder
}

fn read_file(folder: &std::path::Path, name: &str) -> Vec<u8> {
    fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Every line of the file, each of which must read and survive our own writer.
fn lines<M: Message + prost::Message + std::fmt::Debug>(
    folder: &std::path::Path,
    name: &str,
) -> Vec<M> {
    let text = read_file(folder, name);
    let lines = text.split(|byte| *byte == b'\n');
    lines
        .filter(|line| !line.is_empty())
        .enumerate()
        .map(|(index, line)| {
            let message = read_message(line)
                .unwrap_or_else(|error| panic!("{name}, line {}: {error}", index + 1));
            assert_reads_back::<M>(&message);
            message
        })
        .collect()
}

#[test]
fn the_lines_of_traces_and_logs_equal_their_protobuf_files() {
    let Some(folder) = folder() else { return };
    let lines_of_traces = lines::<TracesData>(&folder, "otlp-jsonl/traces.jsonl");
    assert_eq!(lines_of_traces.len(), 19);
    let traces = TracesData {
        resource_spans: lines_of_traces
            .into_iter()
            .flat_map(|line| line.resource_spans)
            .collect(),
    };
    // The messages of a `.pb` file stand one behind the other, which Protocol Buffers reads as one
    // message with the lists joined.
    let bytes = read_file(&folder, "otlp-jsonl/traces.pb");
    let expected: TracesData = prost::Message::decode(bytes.as_slice()).expect("traces.pb");
    assert_same(&traces, &expected);

    let lines_of_logs = lines::<LogsData>(&folder, "otlp-jsonl/logs.jsonl");
    assert_eq!(lines_of_logs.len(), 81);
    let logs = LogsData {
        resource_logs: lines_of_logs
            .into_iter()
            .flat_map(|line| line.resource_logs)
            .collect(),
    };
    let bytes = read_file(&folder, "otlp-jsonl/logs.pb");
    let expected: LogsData = prost::Message::decode(bytes.as_slice()).expect("logs.pb");
    assert_same(&logs, &expected);
}

#[test]
fn every_kind_of_metric_reads() {
    let Some(folder) = folder() else { return };
    for kind in [
        "exponential_histogram",
        "gauge",
        "histogram",
        "mixed",
        "sum",
        "summary",
    ] {
        let name = format!("otlp-jsonl/metrics_{kind}.jsonl");
        let lines = lines::<MetricsData>(&folder, &name);
        let metrics = lines
            .iter()
            .flat_map(|line| &line.resource_metrics)
            .flat_map(|resource| &resource.scope_metrics)
            .flat_map(|scope| &scope.metrics);
        assert!(metrics.clone().count() > 0, "{name}");
        assert!(
            metrics.clone().all(|metric| metric.data.is_some()),
            "{name}"
        );
    }
}

#[test]
fn the_examples_of_the_specification_read() {
    fn example<M: Message + prost::Message + std::fmt::Debug>(
        folder: &std::path::Path,
        name: &str,
    ) -> M {
        let text = read_file(folder, name);
        let message = read_message(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_reads_back::<M>(&message);
        message
    }

    let Some(folder) = folder() else { return };
    let traces: TracesData = example(&folder, "otlp-examples/trace.json");
    let span = &traces.resource_spans[0].scope_spans[0].spans[0];
    assert_eq!(span.trace_id[..4], [0x5b, 0x8e, 0xff, 0xf7]);
    let logs: LogsData = example(&folder, "otlp-examples/logs.json");
    let record = &logs.resource_logs[0].scope_logs[0].log_records[0];
    assert_eq!((record.severity_number, record.attributes.len()), (10, 6));
    let metrics: MetricsData = example(&folder, "otlp-examples/metrics.json");
    assert_eq!(
        metrics.resource_metrics[0].scope_metrics[0].metrics.len(),
        4
    );
}

#[test]
fn every_invalid_file_is_refused_with_its_reason() {
    fn refusal<M: Message + std::fmt::Debug>(text: &[u8]) -> JsonError {
        read_message::<M>(text).expect_err("an invalid file")
    }

    let Some(folder) = folder() else { return };
    let reasons = [
        (
            "log_invalid_severity",
            "unknown name \"INVALID_SEVERITY_VALUE\" for the enum SeverityNumber",
            "resourceLogs[0].scopeLogs[0].logRecords[0].severityNumber",
        ),
        (
            "malformed",
            "expected ',' or '}', found '/'",
            "resourceLogs[0].scopeLogs[0].logRecords[0]",
        ),
        (
            "metrics_invalid_temporality",
            "unknown name \"INVALID_TEMPORALITY_VALUE\" for the enum AggregationTemporality",
            "resourceMetrics[0].scopeMetrics[0].metrics[0].sum.aggregationTemporality",
        ),
        (
            "trace_invalid_base64",
            "invalid id \"!!!INVALID_BASE64!!!\": expected 16 bytes",
            "resourceSpans[0].scopeSpans[0].spans[0].traceId",
        ),
        (
            "trace_invalid_kind",
            "unknown name \"SPAN_KIND_INVALID_TYPE\" for the enum SpanKind",
            "resourceSpans[0].scopeSpans[0].spans[0].kind",
        ),
        (
            "trace_mixed_encoding",
            "invalid id \"zzz\": expected 16 bytes",
            "resourceSpans[0].scopeSpans[0].spans[0].traceId",
        ),
    ];
    for (name, reason, path) in reasons {
        let text = read_file(&folder, &format!("otlp-jsonl/invalid/{name}.json"));
        let error = match name {
            _ if name.starts_with("trace") => refusal::<TracesData>(&text),
            _ if name.starts_with("metrics") => refusal::<MetricsData>(&text),
            _ => refusal::<LogsData>(&text),
        };
        println!("{name}.json: {error}");
        assert!(error.to_string().starts_with(reason), "{name}: {error}");
        assert_eq!(error.path(), path, "{name}: {error}");
    }
    let files = fs::read_dir(folder.join("otlp-jsonl/invalid")).expect("the folder");
    assert_eq!(files.count(), reasons.len(), "a file without a test");
}
