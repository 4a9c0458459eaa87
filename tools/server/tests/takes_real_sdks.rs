//! Real SDKs send to the receiver, and a real Collector: every record that was sent is found once, and as it was sent.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../../../tests/collector/mod.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod collector;
mod common;

use collector::{Collector, report};
use common::Running;
use gridctl_telemetry::{
    Level, Query, Record, Signal, Value,
    external::opentelemetry_proto::tonic::common::v1::{
        KeyValue as Attribute, any_value::Value as Any,
    },
    lines::{LineFormat, LineWriter},
    traces::hex,
};
use opentelemetry::{
    KeyValue,
    logs::{AnyValue, LogRecord as _, Logger as _, LoggerProvider as _, Severity},
    metrics::MeterProvider as _,
    trace::{Span as _, SpanKind, Status, TraceContextExt as _, Tracer as _, TracerProvider as _},
};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{
    LogExporter, MetricExporter, Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::{
    Resource,
    logs::{BatchConfigBuilder as LogBatch, BatchLogProcessor, SdkLoggerProvider},
    metrics::SdkMeterProvider,
    trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    pin::Pin,
    process::Command,
};

/// When set to `1`, an SDK that cannot be run fails the test instead of skipping it.
const REQUIRE: &str = "GRIDCTL_TELEMETRY_REQUIRE_SDKS";
/// The interpreter of Python that has the SDK's packages.
const PYTHON: &str = "GRIDCTL_TELEMETRY_SDK_PYTHON";

/// The number of spans that each SDK sends, of log records and of metrics.
const COUNT: usize = 2000;

/// The HTTP client of the SDK's exporters. The one that comes with them would double the packages of a build.
#[derive(Debug)]
struct Client(ureq::Agent);

impl HttpClient for Client {
    fn send_bytes<'client, 'future>(
        &'client self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'future>>
    where
        'client: 'future,
        Self: 'future,
    {
        Box::pin(async {
            let (parts, mut body) = self.0.run(request.map(Vec::from))?.into_parts();
            Ok(Response::from_parts(parts, body.read_to_vec()?.into()))
        })
    }
}

#[test]
fn of_rust() {
    let running = Running::start();
    let url = |signal: &str| format!("{}/v1/{signal}", running.url());
    let resource = Resource::builder_empty()
        .with_service_name("sdk-rust")
        .build();
    let spans = SpanExporter::builder()
        .with_http()
        .with_http_client(Client(ureq::agent()))
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(url("traces"))
        .build()
        .unwrap();
    let queue = BatchConfigBuilder::default()
        .with_max_queue_size(2 * COUNT)
        .build();
    let traces = SdkTracerProvider::builder()
        .with_resource(resource.clone())
        .with_span_processor(
            BatchSpanProcessor::builder(spans)
                .with_batch_config(queue)
                .build(),
        )
        .build();
    let records = LogExporter::builder()
        .with_http()
        .with_http_client(Client(ureq::agent()))
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(url("logs"))
        .build()
        .unwrap();
    let queue = LogBatch::default().with_max_queue_size(2 * COUNT).build();
    let logs = SdkLoggerProvider::builder()
        .with_resource(resource.clone())
        .with_log_processor(
            BatchLogProcessor::builder(records)
                .with_batch_config(queue)
                .build(),
        )
        .build();
    let points = MetricExporter::builder()
        .with_http()
        .with_http_client(Client(ureq::agent()))
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(url("metrics"))
        .build()
        .unwrap();
    let metrics = SdkMeterProvider::builder()
        .with_resource(resource)
        .with_periodic_exporter(points)
        .build();

    let (span_source, log_source, meter) = (
        traces.tracer("test"),
        logs.logger("test"),
        metrics.meter("test"),
    );
    for number in 0..i64::try_from(COUNT).unwrap() {
        let (ratio, text) = (ratio_of(number), text_of(number));
        let mut span = span_source
            .span_builder(format!("span {number}"))
            .with_kind(SpanKind::Client)
            .start(&span_source);
        span.set_attributes([
            KeyValue::new("number", number),
            KeyValue::new("ratio", ratio),
            KeyValue::new("even", number % 2 == 0),
            KeyValue::new("text", text.clone()),
        ]);
        span.add_event("event", vec![KeyValue::new("number", number)]);
        if number % 3 == 0 {
            span.set_status(Status::error("failed"));
        }
        let context = opentelemetry::Context::new().with_span(span);
        let attached = context.attach();
        let mut record = log_source.create_log_record();
        record.set_timestamp(std::time::SystemTime::now());
        record.set_severity_number(Severity::Warn);
        record.set_body(AnyValue::from(format!("log {number}")));
        record.add_attribute("number", number);
        record.add_attribute("ratio", ratio);
        record.add_attribute("even", number % 2 == 0);
        record.add_attribute("text", text.clone());
        log_source.emit(record);
        drop(attached);
        let counter = meter.u64_counter(format!("metric.{number}")).build();
        counter.add(number.unsigned_abs(), &[KeyValue::new("text", text)]);
    }
    traces.shutdown().unwrap();
    logs.shutdown().unwrap();
    metrics.shutdown().unwrap();
    all_are_found(&running, "sdk-rust");
}

#[test]
fn of_go() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk-go");
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sdk-go");
    let mut build = Command::new("go");
    build
        .args(["build", "-trimpath", "-buildvcs=false", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(folder)
        .env("CGO_ENABLED", "0");
    if is_missing("of_go", "go", Command::new("go").arg("version")) {
        return;
    }
    // It says what it downloads.
    succeeds(&mut build);
    let running = Running::start();
    run(Command::new(program).args([running.url(), COUNT.to_string()]));
    all_are_found(&running, "sdk-go");
}

#[test]
fn of_python() {
    let python = env::var_os(PYTHON).unwrap_or_else(|| "python3".into());
    let imports = "import opentelemetry.sdk, opentelemetry.exporter.otlp.proto.http";
    if is_missing(
        "of_python",
        &python,
        Command::new(&python).args(["-c", imports]),
    ) {
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk_python.py");
    let running = Running::start();
    run(Command::new(python)
        .arg(script)
        .args([running.url(), COUNT.to_string()]));
    all_are_found(&running, "sdk-python");
}

/// Whether a program cannot be run, which is reported.
fn is_missing(test: &str, program: impl AsRef<OsStr>, check: &mut Command) -> bool {
    if check.output().is_ok_and(|output| output.status.success()) {
        return false;
    }
    let program = program.as_ref().display().to_string();
    let required = env::var_os(REQUIRE).is_some_and(|value| value == "1");
    assert!(
        !required,
        "{REQUIRE} is set, and {program} cannot run {check:?}"
    );
    report(&format!(
        "{test}: LEFT OUT, for {program} is missing, or its SDK"
    ));
    true
}

fn run(command: &mut Command) {
    // An SDK reports what it could not send, and goes on.
    assert_eq!(succeeds(command), "", "{command:?}");
}

/// Runs a command to its end. Returns what it has written to its standard error.
fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    said
}

fn ratio_of(number: i64) -> f64 {
    f64::from(i32::try_from(number).unwrap()) / 8.0
}

fn text_of(number: i64) -> String {
    format!("text {number} \"<&>\" 日本")
}

/// Compares what is stored with what an SDK was told to send.
fn all_are_found(running: &Running, server: &str) {
    let mut ids = BTreeMap::new();
    let mut differences = Vec::new();
    let mut differ = |what: String, is_same: bool| {
        if !is_same {
            differences.push(what);
        }
    };
    let spans = running.stored(Signal::Traces);
    for (owner, record) in &spans {
        let Record::Span(record) = record else {
            panic!("{record:?}")
        };
        let span = &record.span;
        let number = integer(&span.attributes, "number");
        let failed = span.status.as_ref().is_some_and(|status| status.code == 2);
        let is_same = owner.as_str() == server
            && span.name == format!("span {number}")
            && span.kind == 3
            && span.start_time_unix_nano <= span.end_time_unix_nano
            && any(&span.attributes, "ratio") == Some(&Any::DoubleValue(ratio_of(number)))
            && any(&span.attributes, "even") == Some(&Any::BoolValue(number % 2 == 0))
            && any(&span.attributes, "text") == Some(&Any::StringValue(text_of(number)))
            && span.events.len() == 1
            && integer(&span.events[0].attributes, "number") == number
            && failed == (number % 3 == 0);
        differ(format!("{owner} {span:?}"), is_same);
        ids.insert(number, (hex(&span.trace_id), hex(&span.span_id)));
    }
    let logs = running.stored(Signal::Logs);
    let mut logged = BTreeSet::new();
    for (owner, record) in &logs {
        let Record::Log(log) = record else {
            panic!("{record:?}")
        };
        let Some(Value::Int(number)) = log.attribute("number") else {
            panic!("{log:?}")
        };
        let (trace_id, span_id) = &ids[number];
        let is_same = owner.as_str() == server
            && log.message == format!("log {number}")
            && log.level == Level::WARN
            && log.attribute("ratio") == Some(&Value::Float(ratio_of(*number)))
            && log.attribute("even") == Some(&Value::Bool(number % 2 == 0))
            && log.attribute("text") == Some(&Value::from(text_of(*number)))
            && log.trace_id() == Some(trace_id)
            && log.attribute("span_id") == Some(&Value::from(span_id.clone()));
        differ(format!("{owner} {log:?}"), is_same);
        logged.insert(*number);
    }
    let metrics = metrics(running);
    let mut counted = BTreeSet::new();
    for (owner, metric) in &metrics {
        let number: i64 = metric["name"].as_str().unwrap()["metric.".len()..]
            .parse()
            .unwrap();
        let points = metric["sum"]["dataPoints"].as_array().unwrap();
        let is_same = owner == server
            && metric["sum"]["isMonotonic"] == true
            && points.len() == 1
            && points[0]["asInt"].as_str() == Some(number.to_string().as_str())
            && points[0]["attributes"][0]["value"]["stringValue"] == text_of(number);
        differ(format!("{owner} {metric}"), is_same);
        counted.insert(number);
    }
    report(&format!(
        "{server}: of {COUNT} sent, {} spans, {} log records, {} metrics found, {} differences",
        spans.len(),
        logs.len(),
        metrics.len(),
        differences.len()
    ));
    assert!(
        differences.is_empty(),
        "{:#?}",
        &differences[..differences.len().min(3)]
    );
    assert_eq!([spans.len(), logs.len(), metrics.len()], [COUNT; 3]);
    assert_eq!([ids.len(), logged.len(), counted.len()], [COUNT; 3]);
}

fn any<'a>(attributes: &'a [Attribute], key: &str) -> Option<&'a Any> {
    let found = attributes.iter().find(|it| it.key == key)?;
    found.value.as_ref()?.value.as_ref()
}

fn integer(attributes: &[Attribute], key: &str) -> i64 {
    match any(attributes, key) {
        Some(Any::IntValue(number)) => *number,
        other => panic!("{key}: {other:?}"),
    }
}

/// The stored metrics as OTLP/JSON, with their servers.
fn metrics(running: &Running) -> Vec<(String, serde_json::Value)> {
    let lines = lines(running, Signal::Metrics);
    let metric = |(server, line): (String, String)| {
        let message: serde_json::Value = serde_json::from_str(&line).unwrap();
        let metric = message["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0].clone();
        (server, metric)
    };
    lines.into_iter().map(metric).collect()
}

/// The stored records of a signal as lines of OTLP/JSON, with their servers.
fn lines(running: &Running, signal: Signal) -> Vec<(String, String)> {
    running.writer.flush().unwrap();
    let snapshot = running.store.snapshot().unwrap();
    let mut scan = snapshot.scan(&Query::new(signal)).unwrap();
    let mut found = Vec::new();
    while let Some(record) = scan.next().unwrap() {
        let (mut writer, mut line) = (LineWriter::new(LineFormat::Otlp), Vec::new());
        writer.write(&record, &mut line).unwrap();
        writer.finish(&mut line);
        found.push((record.server.to_string(), String::from_utf8(line).unwrap()));
    }
    found
}

#[test]
fn of_a_collector() {
    let Some(collector) = Collector::build("of_a_collector") else {
        return;
    };
    for (signal, settings) in [
        (Signal::Traces, ["proto", "gzip"]),
        (Signal::Traces, ["json", "none"]),
        (Signal::Logs, ["proto", "zstd"]),
        (Signal::Logs, ["json", "gzip"]),
        (Signal::Metrics, ["proto", "none"]),
        (Signal::Metrics, ["json", "zstd"]),
    ] {
        let running = Running::start();
        let sent = Sent::new(signal);
        collector.send(signal, &sent.files, COUNT, &running.url(), settings);
        sent.is_found(&running, &settings.join(", "));
    }
}

#[cfg(feature = "grpc")]
#[test]
fn of_a_collector_over_grpc() {
    let Some(collector) = Collector::build("of_a_collector_over_grpc") else {
        return;
    };
    for signal in Signal::ALL {
        let running = Running::start_grpc();
        let sent = Sent::new(signal);
        collector.send_grpc(signal, &sent.files, COUNT, &running.address.to_string());
        sent.is_found(&running, "gRPC");
    }
}

/// What a Collector sends.
struct Sent {
    signal: Signal,
    text: String,
    files: [PathBuf; 1],
    _folder: tempfile::TempDir,
}

impl Sent {
    fn new(signal: Signal) -> Sent {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sent.jsonl");
        let text = sent(signal);
        fs::write(&file, &text).unwrap();
        Sent {
            signal,
            text,
            files: [file],
            _folder: folder,
        }
    }

    /// Compares what is stored with what was sent.
    fn is_found(&self, running: &Running, how: &str) {
        let signal = self.signal;
        let mut expected: Vec<String> = self.text.lines().map(normal).collect();
        let found = lines(running, signal);
        assert!(found.iter().all(|(server, _)| server == "collector"));
        let mut found: Vec<String> = found.iter().map(|(_, line)| normal(line)).collect();
        expected.sort();
        found.sort();
        let same = expected.iter().zip(&found).filter(|(a, b)| a == b).count();
        report(&format!(
            "a Collector sends {signal} ({how}): {COUNT} sent, {} found, {} differences",
            found.len(),
            COUNT - same
        ));
        assert_eq!(found.len(), COUNT);
        for (expected, found) in expected.iter().zip(&found) {
            assert_eq!(expected, found);
        }
    }
}

/// Lines of OTLP/JSON, a record each.
fn sent(signal: Signal) -> String {
    let record = |number: usize| {
        let time = (1_790_000_000_000_000_000 + number).to_string();
        let attributes = serde_json::json!([
            { "key": "number", "value": { "intValue": number.to_string() } },
            { "key": "text", "value": { "stringValue": text_of(i64::try_from(number).unwrap()) } },
        ]);
        let resource = serde_json::json!({ "attributes": [
            { "key": "service.name", "value": { "stringValue": "collector" } },
        ] });
        let line = match signal {
            Signal::Traces => {
                serde_json::json!({ "resourceSpans": [{ "resource": resource, "scopeSpans": [{
                "scope": {}, "spans": [{
                    "traceId": format!("{:032x}", number + 1), "spanId": format!("{:016x}", number + 1),
                    "name": format!("span {number}"), "kind": 3, "startTimeUnixNano": time,
                    "endTimeUnixNano": time, "attributes": attributes, "status": {},
                }],
            }] }] })
            }
            Signal::Logs => {
                serde_json::json!({ "resourceLogs": [{ "resource": resource, "scopeLogs": [{
                "scope": {}, "logRecords": [{
                    "timeUnixNano": time, "severityNumber": 13, "severityText": "WARN",
                    "body": { "stringValue": format!("log {number}") }, "attributes": attributes,
                }],
            }] }] })
            }
            Signal::Metrics => {
                serde_json::json!({ "resourceMetrics": [{ "resource": resource, "scopeMetrics": [{
                "scope": {}, "metrics": [{ "name": format!("metric.{number}"), "gauge": { "dataPoints": [{
                    "timeUnixNano": time, "asInt": number.to_string(), "attributes": attributes,
                }] } }],
            }] }] })
            }
        };
        line.to_string() + "\n"
    };
    (0..COUNT).map(record).collect()
}

/// A line without the fields that are at their defaults, which a Collector may add and our export leaves out.
fn normal(line: &str) -> String {
    fn prune(value: serde_json::Value) -> serde_json::Value {
        use serde_json::Value::{Array, Object};
        match value {
            Object(fields) => Object(
                fields
                    .into_iter()
                    .map(|(key, value)| (key, prune(value)))
                    .filter(|(_, value)| {
                        !value.as_object().is_some_and(serde_json::Map::is_empty)
                            && !value.as_str().is_some_and(str::is_empty)
                    })
                    .collect(),
            ),
            Array(items) => Array(items.into_iter().map(prune).collect()),
            value => value,
        }
    }
    prune(serde_json::from_str(line).unwrap()).to_string()
}
