//! A Collector identifies a file by its first 1000 bytes, and receives every exported file.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../../tests/collector/mod.rs"]
mod collector;
mod common;

use collector::{Collector, report};
use common::Home;
use gridctl_telemetry::Signal;
use opentelemetry_proto::tonic::{
    logs::v1::LogsData,
    metrics::v1::{MetricsData, metric},
    trace::v1::TracesData,
};
use prost::Message;
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// The number of bytes at the start of a file by which a Collector identifies it.
const KNOWN_BY_BYTES: usize = 1000;
const SERVERS: [&str; 2] = ["github", "jira"];
/// The number of records of a server that fill three files of a MiB in every format.
const COUNT: u64 = 3000;

/// Records that differ between servers as late as possible, and between files of a server only in the
/// name of the record.
fn flat_stack(folder: &Path) {
    let filler = "x".repeat(1200);
    for server in SERVERS {
        let folder = folder.join(server);
        fs::create_dir(&folder).unwrap();
        let (mut logs, mut metrics, mut traces) = (String::new(), String::new(), String::new());
        for number in 0..COUNT {
            writeln!(
                logs,
                r#"{{"ts":"2026-05-08T00:00:00Z","level":"INFO","msg":"{filler}","name":"{server} {number}"}}"#
            )
            .unwrap();
            // The resource has more bytes than those that identify a file, and names the server last.
            writeln!(
                metrics,
                r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{{"key":"process.command","value":{{"stringValue":"{filler}"}}}},{{"key":"service.name","value":{{"stringValue":"{server}"}}}}]}},"scopeMetrics":[{{"metrics":[{{"name":"{server} {number}","description":"{filler}","gauge":{{"dataPoints":[{{"timeUnixNano":"1778198400000000000","asDouble":1}}]}}}}]}}]}}]}}"#,
            )
            .unwrap();
            writeln!(
                traces,
                r#"{{"resourceSpans":[{{"resource":{{"attributes":[{{"key":"process.command","value":{{"stringValue":"{filler}"}}}}]}},"scopeSpans":[{{"spans":[{{"traceId":"69842a979911036cf3e822086ecaa007","spanId":"5a69fc178ba8f837","name":"{filler}","startTimeUnixNano":"1778198400000000000","endTimeUnixNano":"1778198400000000000","attributes":[{{"key":"name","value":{{"stringValue":"{server} {number}"}}}},{{"key":"server.name","value":{{"stringValue":"{server}"}}}}]}}]}}]}}]}}"#
            )
            .unwrap();
        }
        fs::write(folder.join("logs.jsonl"), logs).unwrap();
        fs::write(folder.join("metrics.jsonl"), metrics).unwrap();
        fs::write(folder.join("traces.jsonl"), traces).unwrap();
    }
}

fn home() -> Home {
    let home = Home::new();
    let flat = tempfile::tempdir().unwrap();
    flat_stack(flat.path());
    let import = home.run(&["import-jsonl", "gw", flat.path().to_str().unwrap()]);
    assert_eq!(import.code, 0, "{import:?}");
    home
}

/// Exports the files of one signal, several for each server.
fn export(
    home: &Home,
    signal: Signal,
    format: &str,
    options: &[&str],
) -> (tempfile::TempDir, Vec<PathBuf>) {
    let out = tempfile::tempdir().unwrap();
    let mut args = vec!["export-jsonl", "--stack", "gw", "--max-size-mb", "1"];
    args.extend(["--format", format, "--signal", signal.as_str()]);
    args.extend(["--out", out.path().to_str().unwrap()]);
    args.extend(options);
    let export = home.run(&args);
    assert_eq!(export.code, 0, "{export:?}");
    let mut files = Vec::new();
    for server in SERVERS {
        let folder = fs::read_dir(out.path().join("gw").join(server)).unwrap();
        let before = files.len();
        files.extend(folder.map(|entry| entry.unwrap().path()));
        assert!(files.len() - before >= 3, "{files:?}");
    }
    (out, files)
}

/// Panics unless every record was received once.
fn each_once(what: &str, files: usize, received: impl IntoIterator<Item = String>) {
    let mut found: BTreeMap<String, u64> = BTreeMap::new();
    for name in received {
        *found.entry(name).or_default() += 1;
    }
    let expected = SERVERS.len() as u64 * COUNT;
    report(&format!(
        "a Collector reads {files} files of {what}: {expected} exported, {} received",
        found.values().sum::<u64>()
    ));
    for server in SERVERS {
        for number in 0..COUNT {
            assert_eq!(
                found.get(&format!("{server} {number}")),
                Some(&1),
                "{server} {number}"
            );
        }
    }
}

fn receive<M: Message + Default>(
    collector: &Collector,
    signal: Signal,
    files: &[PathBuf],
) -> Vec<M> {
    let expected = SERVERS.len() * usize::try_from(COUNT).unwrap();
    collector.receive(signal, files, expected)
}

/// The value of the attribute that names a record.
fn name_in(attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue]) -> String {
    let attribute = attributes.iter().find(|it| it.key == "name").unwrap();
    match attribute.value.as_ref().unwrap().value.as_ref().unwrap() {
        opentelemetry_proto::tonic::common::v1::any_value::Value::StringValue(name) => name.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn of_logs_metrics_and_traces() {
    let Some(collector) = Collector::build("of_logs_metrics_and_traces") else {
        return;
    };
    let home = home();
    for options in [&[][..], &["--compress", "gzip"]] {
        let (_out, files) = export(&home, Signal::Metrics, "otlp", options);
        let received: Vec<MetricsData> = receive(&collector, Signal::Metrics, &files);
        let metrics = received
            .into_iter()
            .flat_map(|data| data.resource_metrics)
            .flat_map(|resource| resource.scope_metrics)
            .flat_map(|scope| scope.metrics)
            .filter(|metric| matches!(metric.data, Some(metric::Data::Gauge(_))))
            .map(|metric| metric.name);
        each_once("metrics", files.len(), metrics);
    }

    let (_out, files) = export(&home, Signal::Logs, "otlp", &[]);
    let received: Vec<LogsData> = receive(&collector, Signal::Logs, &files);
    let logs = received
        .into_iter()
        .flat_map(|data| data.resource_logs)
        .flat_map(|resource| resource.scope_logs)
        .flat_map(|scope| scope.log_records)
        .map(|record| name_in(&record.attributes));
    each_once("logs", files.len(), logs);

    for format in ["otlp", "ndjson"] {
        let (_out, files) = export(&home, Signal::Traces, format, &[]);
        let received: Vec<TracesData> = receive(&collector, Signal::Traces, &files);
        let spans = received
            .into_iter()
            .flat_map(|data| data.resource_spans)
            .flat_map(|resource| resource.scope_spans)
            .flat_map(|scope| scope.spans)
            .map(|span| name_in(&span.attributes));
        each_once("traces", files.len(), spans);
    }
}

/// The other receivers of a Collector identify files in the same way.
#[test]
fn that_begins_as_no_other_does() {
    let home = home();
    for signal in Signal::ALL {
        for format in ["otlp", "ndjson"] {
            for options in [&[][..], &["--resume", "progress.json"]] {
                let progress = tempfile::tempdir().unwrap();
                let path = progress.path().join("progress.json");
                let mut options = options.to_vec();
                if let Some(file) = options.get_mut(1) {
                    *file = path.to_str().unwrap();
                }
                let (_out, files) = export(&home, signal, format, &options);
                let mut heads: Vec<Vec<u8>> = files
                    .iter()
                    .map(|path| {
                        let mut text = fs::read(path).unwrap();
                        text.truncate(KNOWN_BY_BYTES);
                        text
                    })
                    .collect();
                heads.sort();
                // A Collector takes a file that begins with the whole of another for that file, grown.
                let alike = heads.windows(2).any(|pair| pair[1].starts_with(&pair[0]));
                assert!(!alike, "{signal} {format} {options:?}");
            }
        }
    }
}
