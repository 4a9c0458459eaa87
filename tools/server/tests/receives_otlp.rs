//! What is sent to the receiver is in the store: every record once, whatever the encoding and the compression, and
//! what is not stored is counted in the answer, with a reason.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{JSON, PROTOBUF, Running};
use gridctl_telemetry::{
    Query, Record, ServerName, Signal, SpanRecord, StoreOptions, WriterOptions,
    external::opentelemetry_proto::tonic::{
        collector::trace::v1::ExportTraceServiceResponse,
        common::v1::{AnyValue, KeyValue, any_value::Value as Any},
        logs::v1::{LogRecord, LogsData, ResourceLogs, ScopeLogs},
        resource::v1::Resource,
        trace::v1::{ResourceSpans, ScopeSpans, Span, TracesData},
    },
    lines::{Found, LineFormat, LineWriter, RecordReader},
    receive::OtlpWriter,
    testing::DiskOperation,
    traces::hex,
};
use prost::Message;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

fn text(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(Any::StringValue(value.to_owned())),
        }),
        ..KeyValue::default()
    }
}

fn resource(attributes: &[(&str, &str)]) -> Resource {
    let attributes = attributes.iter();
    Resource {
        attributes: attributes.map(|(key, value)| text(key, value)).collect(),
        ..Resource::default()
    }
}

/// Spans that are numbered from `first`, of one resource.
fn spans(attributes: &[(&str, &str)], first: u64, count: u64) -> ResourceSpans {
    let span = |number: u64| Span {
        trace_id: u128::from(number + 1).to_be_bytes().to_vec(),
        span_id: (number + 1).to_be_bytes().to_vec(),
        name: format!("span {number}"),
        start_time_unix_nano: 1_790_000_000_000_000_000 + number,
        end_time_unix_nano: 1_790_000_000_000_001_000 + number,
        ..Span::default()
    };
    ResourceSpans {
        resource: Some(resource(attributes)),
        scope_spans: vec![ScopeSpans {
            spans: (first..first + count).map(span).collect(),
            ..ScopeSpans::default()
        }],
        ..ResourceSpans::default()
    }
}

fn traces(resource_spans: Vec<ResourceSpans>) -> TracesData {
    TracesData { resource_spans }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The records of a signal that are stored, by server, as OTLP/JSON lines, sorted.
fn lines(running: &Running, signal: Signal) -> BTreeMap<String, Vec<String>> {
    running.writer.flush().unwrap();
    let snapshot = running.store.snapshot().unwrap();
    let mut scan = snapshot.scan(&Query::new(signal)).unwrap();
    let mut found = BTreeMap::<String, Vec<String>>::new();
    while let Some(record) = scan.next().unwrap() {
        let (mut writer, mut line) = (LineWriter::new(LineFormat::Otlp), Vec::new());
        writer.write(&record, &mut line).unwrap();
        writer.finish(&mut line);
        let lines = found.entry(record.server.to_string()).or_default();
        lines.push(String::from_utf8(line).unwrap());
    }
    for lines in found.values_mut() {
        lines.sort();
    }
    found
}

#[test]
fn a_record_belongs_to_the_server_that_it_names() {
    let running = Running::start();
    let mut own = spans(&[("service.name", "gateway")], 0, 1);
    own.scope_spans[0].spans[0].attributes = vec![text("server.name", "github")];
    let sent = traces(vec![
        own,
        spans(&[("service.name", "app")], 1, 1),
        spans(&[("service.name", "app"), ("server.name", "slack")], 2, 1),
    ]);
    let answer = running.export(Signal::Traces, &[PROTOBUF], &sent.encode_to_vec());
    assert_eq!((answer.status, answer.body.len()), (200, 0), "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/x-protobuf");
    let stored = running.stored(Signal::Traces);
    let names: Vec<&str> = stored.iter().map(|(server, _)| server.as_str()).collect();
    assert_eq!(names, ["github", "app", "slack"]);
}

#[test]
fn what_is_not_stored_is_counted_in_the_answer() {
    let running = Running::start();
    let long = "x".repeat(2 << 20);
    let mut bad = spans(&[("service.name", "app")], 10, 2);
    bad.scope_spans[0].spans[0].trace_id.pop();
    bad.scope_spans[0].spans[1].name = long;
    let sent = traces(vec![
        spans(&[], 0, 3),
        spans(&[("service.name", "app")], 5, 4),
        bad,
    ]);
    let answer = running.export(Signal::Traces, &[PROTOBUF], &sent.encode_to_vec());
    assert_eq!(answer.status, 200);
    let said = ExportTraceServiceResponse::decode(&*answer.body).unwrap();
    let said = said.partial_success.unwrap();
    assert_eq!(said.rejected_spans, 5);
    assert!(
        said.error_message.contains("3: the record names no server"),
        "{said:?}"
    );
    assert_eq!(running.stored(Signal::Traces).len(), 4);

    let logs = json!({ "resourceLogs": [
        { "scopeLogs": [{ "logRecords": [{ "body": { "stringValue": "whose?" } }] }] },
        { "resource": { "attributes": [{ "key": "service.name", "value": { "stringValue": "app" } }] },
          "scopeLogs": [{ "logRecords": [{ "body": { "stringValue": "mine" } }] }] },
    ] });
    let answer = running.export(Signal::Logs, &[JSON], logs.to_string().as_bytes());
    let expected = json!({ "partialSuccess": {
        "rejectedLogRecords": "1", "errorMessage": "1: the record names no server",
    } });
    assert_eq!((answer.status, answer.json()), (200, expected));
    assert_eq!(running.stored(Signal::Logs).len(), 1);
}

/// A daemon's own writer stores the servers that are configured.
#[test]
fn a_daemon_decides_which_servers_are_stored() {
    let running = Running::start_with(|options| options);
    let otlp = OtlpWriter::new(running.writer.clone());
    otlp.add_server("github", Signal::Traces).unwrap();
    let daemon = Running::start_with(|options| options.receiver(otlp));
    let mut named = spans(&[("service.name", "gateway")], 0, 1);
    named.scope_spans[0].spans[0].attributes = vec![text("server.name", "github")];
    let sent = traces(vec![named, spans(&[("service.name", "app")], 1, 1)]);
    let answer = daemon.export(Signal::Traces, &[PROTOBUF], &sent.encode_to_vec());
    let said = ExportTraceServiceResponse::decode(&*answer.body).unwrap();
    assert_eq!(said.partial_success.unwrap().rejected_spans, 1);
    assert_eq!(running.stored(Signal::Traces).len(), 1);
}

#[test]
fn encodings_and_compressions_agree() {
    let sent = traces(vec![spans(&[("service.name", "app")], 0, 500)]);
    let protobuf = sent.encode_to_vec();
    let json = serde_json::to_vec(&json!({ "resourceSpans": [{
        "resource": { "attributes": [{ "key": "service.name", "value": { "stringValue": "app" } }] },
        "scopeSpans": [{ "spans": sent.resource_spans[0].scope_spans[0].spans.iter().map(|span| json!({
            "traceId": hex(&span.trace_id), "spanId": hex(&span.span_id), "name": span.name,
            "startTimeUnixNano": span.start_time_unix_nano.to_string(),
            "endTimeUnixNano": span.end_time_unix_nano.to_string(),
        })).collect::<Vec<Value>>() }],
    }] }))
    .unwrap();
    let mut found = Vec::new();
    for (content_type, body) in [(PROTOBUF, protobuf), (JSON, json)] {
        let packed = [
            ("identity", body.clone()),
            ("gzip", gzip(&body)),
            ("zstd", zstd::encode_all(&*body, 3).unwrap()),
        ];
        for (encoding, body) in packed {
            let running = Running::start();
            let encoding = format!("Content-Encoding: {encoding}");
            let answer = running.export(Signal::Traces, &[content_type, &encoding], &body);
            assert_eq!(answer.status, 200, "{content_type} {encoding} {answer:?}");
            found.push(lines(&running, Signal::Traces));
        }
    }
    assert_eq!(found[0]["app"].len(), 500);
    assert!(found.iter().all(|lines| *lines == found[0]));
}

/// More records than the queue holds.
#[test]
fn a_message_that_is_larger_than_the_queue_is_stored_whole() {
    let options = WriterOptions::default()
        .queue_records_max(10_000)
        .batch_records_max(2_000);
    let running = Running::start_over(options, |options| options);
    let sent = traces(vec![
        spans(&[("service.name", "app")], 0, 30_000),
        spans(&[("service.name", "db")], 30_000, 10_000),
    ]);
    let answer = running.export(Signal::Traces, &[PROTOBUF], &sent.encode_to_vec());
    assert_eq!((answer.status, answer.body.len()), (200, 0), "{answer:?}");
    let stored = running.stored(Signal::Traces);
    assert_eq!(stored.len(), 40_000);
    assert_eq!(running.writer.stats().dropped_total(), 0);
}

#[test]
fn a_full_queue_refuses_whole_messages_for_a_while() {
    // The disk does not answer until the test lets it, so what is queued stays.
    let (open, disk) = std::sync::mpsc::channel::<()>();
    let disk = std::sync::Mutex::new(disk);
    let is_stuck = Arc::new(AtomicBool::new(false));
    let stuck = Arc::clone(&is_stuck);
    let store = StoreOptions::default().disk_hook(move |operation| {
        if stuck.load(Ordering::Acquire) && matches!(operation, DiskOperation::Sync) {
            // Ends when the sender is dropped.
            let _ = disk.lock().unwrap().recv();
        }
        Ok(())
    });
    let options = WriterOptions::default().queue_records_max(1000);
    let running = Running::start_in(store, options, |options| options);
    is_stuck.store(true, Ordering::Release);
    let message = traces(vec![spans(&[("service.name", "app")], 0, 400)]).encode_to_vec();
    let mut accepted = 0;
    let refused = loop {
        let answer = running.export(Signal::Traces, &[PROTOBUF], &message);
        if answer.status != 200 {
            break answer;
        }
        accepted += 400;
        assert!(accepted < 1 << 20);
        let said = ExportTraceServiceResponse::decode(&*answer.body).unwrap();
        assert_eq!(said.partial_success, None);
    };
    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"));
    is_stuck.store(false, Ordering::Release);
    drop(open);
    assert_eq!(running.stored(Signal::Traces).len(), accepted);
    assert_eq!(running.writer.stats().dropped_total(), 0);
}

#[test]
fn a_writer_that_is_closed_takes_nothing() {
    let mut running = Running::start();
    running.close_writer();
    let message = traces(vec![spans(&[("service.name", "app")], 0, 3)]).encode_to_vec();
    let answer = running.export(Signal::Traces, &[PROTOBUF], &message);
    assert_eq!((answer.status, answer.header("retry-after")), (503, "1"));
}

/// Secrets are replaced as in every other record.
#[test]
fn received_records_are_redacted() {
    let running = Running::start();
    let secret = format!("password={}", "hunter".repeat(2));
    let data = LogsData {
        resource_logs: vec![ResourceLogs {
            resource: Some(resource(&[("service.name", "app")])),
            scope_logs: vec![ScopeLogs {
                log_records: vec![LogRecord {
                    body: text("", &secret).value,
                    ..LogRecord::default()
                }],
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    };
    let answer = running.export(Signal::Logs, &[PROTOBUF], &data.encode_to_vec());
    assert_eq!(answer.status, 200);
    let found = format!("{:?}", running.stored(Signal::Logs));
    assert!(
        found.contains("password=[REDACTED]") && !found.contains("hunter"),
        "{found}"
    );
}

/// The OTLP files of other programs, if they are available: what the receiver stores of a line is what an import of
/// it stores.
#[test]
fn files_of_other_programs_arrive_as_an_import_reads_them() {
    let Some(data) = std::env::var_os("GRIDCTL_TELEMETRY_SHARED_DATA").map(PathBuf::from) else {
        return;
    };
    let mut sent = 0;
    for folder in ["otlp-jsonl", "otlp-examples"] {
        for path in files(&data.join(folder)) {
            let signal = signal_of(&path);
            let bytes = fs::read(&path).unwrap();
            match path.extension().unwrap().to_str().unwrap() {
                "json" => sent += same(signal, &path, [&*bytes]),
                "jsonl" => {
                    let lines = bytes.split(|byte| *byte == b'\n');
                    sent += same(signal, &path, lines.filter(|line| !line.is_empty()));
                }
                _ => {}
            }
        }
    }
    assert!(sent > 100, "{sent}");
}

/// Compares what the receiver and an import store. Returns the number of records.
fn same<'a>(signal: Signal, path: &Path, bodies: impl IntoIterator<Item = &'a [u8]>) -> usize {
    let (received, imported) = (Running::start(), Running::start());
    let path = path.display();
    let mut rejected = 0;
    for body in bodies {
        let answer = received.export(signal, &[JSON], body);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        rejected += answer.json()["partialSuccess"]
            .as_object()
            .map_or(0, |said| {
                let counts = said.values().filter_map(Value::as_str);
                counts.filter_map(|count| count.parse::<usize>().ok()).sum()
            });
        let line: Vec<u8> = body.iter().copied().filter(|byte| *byte != b'\n').collect();
        let mut reader = RecordReader::new(signal);
        let mut import = |found| match found {
            Found::Record(found) => {
                let server = match &found.record {
                    Record::Span(span) => service_of(span),
                    _ => found.server.clone().unwrap(),
                };
                imported.writer.record(&server, &found.record).unwrap();
            }
            Found::Problem(error) => panic!("{path}: {error}"),
            _ => {}
        };
        reader.read_line(&line, &mut import);
        reader.finish(&mut import);
    }
    let (ours, theirs) = (lines(&received, signal), lines(&imported, signal));
    let count = |lines: &BTreeMap<String, Vec<String>>| lines.values().map(Vec::len).sum::<usize>();
    assert_eq!(rejected, 0, "{path}");
    assert_eq!(ours, theirs, "{path}");
    count(&ours)
}

/// The receiver takes the server of these spans from their service, and an import from the attribute `component`.
fn service_of(span: &SpanRecord) -> ServerName {
    let attributes = &span.resource.as_ref().unwrap().attributes;
    let service = attributes
        .iter()
        .find(|it| it.key == "service.name")
        .unwrap();
    match service.value.as_ref().unwrap().value.as_ref().unwrap() {
        Any::StringValue(name) => ServerName::new(name).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn invalid_files_are_refused_with_the_place_of_the_error() {
    let Some(data) = std::env::var_os("GRIDCTL_TELEMETRY_SHARED_DATA").map(PathBuf::from) else {
        return;
    };
    let running = Running::start();
    let mut count = 0;
    for path in files(&data.join("otlp-jsonl/invalid")) {
        let answer = running.export(signal_of(&path), &[JSON], &fs::read(&path).unwrap());
        assert_eq!(answer.status, 400, "{}: {answer:?}", path.display());
        let said = answer.json();
        assert_eq!(said["code"], 3);
        let message = said["message"].as_str().unwrap();
        assert!(message.contains(" at byte "), "{message}");
        count += 1;
    }
    assert_eq!(count, 6);
    for signal in Signal::ALL {
        assert_eq!(running.stored(signal), []);
    }
}

/// The same messages as lines and as protobuf.
#[test]
fn paired_files_arrive_alike() {
    let Some(data) = std::env::var_os("GRIDCTL_TELEMETRY_SHARED_DATA").map(PathBuf::from) else {
        return;
    };
    for (signal, name) in [(Signal::Logs, "logs"), (Signal::Traces, "traces")] {
        let folder = data.join("otlp-jsonl");
        let [json, protobuf] = [Running::start(), Running::start()];
        let text = fs::read(folder.join(format!("{name}.jsonl"))).unwrap();
        for line in text
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            assert_eq!(json.export(signal, &[JSON], line).status, 200);
        }
        // Messages in a row are one message with longer lists.
        let bytes = fs::read(folder.join(format!("{name}.pb"))).unwrap();
        assert_eq!(protobuf.export(signal, &[PROTOBUF], &bytes).status, 200);
        let found = lines(&json, signal);
        assert!(!found.is_empty());
        assert_eq!(found, lines(&protobuf, signal), "{name}");
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.is_file());
    files.sort();
    files
}

fn signal_of(path: &Path) -> Signal {
    let name = path.file_name().unwrap().to_str().unwrap();
    match name {
        _ if name.starts_with("trace") => Signal::Traces,
        _ if name.starts_with("metric") => Signal::Metrics,
        _ => Signal::Logs,
    }
}
