//! Secrets are logged through every producer and appear nowhere: not in a decoded record, not in an
//! export, not in the bytes of the database.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use gridctl_telemetry::{
    Level, LogRecord, MetricsSnapshot, Query, Record, ServerName, Signal, Snapshot, SpanRecord,
    Store, StoreOptions, Telemetry, TelemetryConfig, TelemetryOptions, Timestamp, Writer,
    WriterOptions,
    import::{ImportBatch, Importer},
    lines::{LineFormat, LineWriter},
    metrics::{Accumulator, Attribution},
    redact::Redactor,
    traces::{TelemetrySpanExporter, TraceClient},
};
use opentelemetry::trace::{Span as _, Tracer as _, TracerProvider as _};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList, any_value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span::Event},
};
use opentelemetry_sdk::trace::SdkTracerProvider;
use std::{fmt::Write as _, fs, sync::Arc};
use tracing_subscriber::prelude::*;

/// A value that is a secret only because it is registered.
const REGISTERED: &str = "canary-registered-77";

fn text(text: &str) -> AnyValue {
    AnyValue {
        value: Some(any_value::Value::StringValue(text.to_owned())),
    }
}

fn attribute(key: &str, value: AnyValue) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(value),
        ..KeyValue::default()
    }
}

fn log() {
    let span = tracing::info_span!(
        "call",
        component = "github",
        api_key = "canary-span-field-1"
    );
    let _entered = span.enter();
    tracing::info!("Authorization: Basic canary-message-2 and more");
    tracing::warn!(
        header = "Bearer canary-bearer-3",
        password = "canary-password-4",
        body = format!("{{\"nested\": \"token: canary-nested-5\", \"vault\": \"{REGISTERED}\"}}"),
        "calling https://user/{REGISTERED}/path"
    );
    tracing::error!(error = ?std::io::Error::other("secret=canary-error-6"), "failed");
}

fn spans() -> Vec<ResourceSpans> {
    let nested = AnyValue {
        value: Some(any_value::Value::KvlistValue(KeyValueList {
            values: vec![
                attribute("auth_token", text("canary-kvlist-7")),
                attribute(
                    "list",
                    AnyValue {
                        value: Some(any_value::Value::ArrayValue(ArrayValue {
                            values: vec![text("apikey=canary-array-8")],
                        })),
                    },
                ),
            ],
        })),
    };
    vec![ResourceSpans {
        resource: Some(Resource {
            attributes: vec![attribute("credentials", text("canary-resource-9"))],
            ..Resource::default()
        }),
        scope_spans: vec![ScopeSpans {
            spans: vec![Span {
                trace_id: vec![7; 16],
                span_id: vec![8; 8],
                name: "tools/call".to_owned(),
                end_time_unix_nano: Timestamp::now().unix_nanos().cast_unsigned(),
                attributes: vec![
                    attribute("server.name", text("github")),
                    attribute("arguments", nested),
                    attribute("url", text(&format!("https://{REGISTERED}@host"))),
                ],
                events: vec![Event {
                    name: "exception".to_owned(),
                    attributes: vec![attribute("message", text("passwd: canary-event-10"))],
                    ..Event::default()
                }],
                status: Some(Status {
                    message: "denied for Bearer canary-status-11".to_owned(),
                    code: 2,
                }),
                ..Span::default()
            }],
            ..ScopeSpans::default()
        }],
        ..ResourceSpans::default()
    }]
}

/// Exports a span of the SDK.
fn export_span(client: TraceClient) {
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(TelemetrySpanExporter::new(client))
        .build();
    let mut span = provider
        .tracer("gridctl.gateway")
        .start("secret=canary-sdk-17");
    span.set_attribute(opentelemetry::KeyValue::new("server.name", "github"));
    span.set_attribute(opentelemetry::KeyValue::new("api_key", "canary-sdk-18"));
    span.end();
    provider.shutdown().unwrap();
}

fn decoded_and_exported(snapshot: &Snapshot) -> String {
    let mut all = String::new();
    for signal in Signal::ALL {
        for record in snapshot.scan(&Query::new(signal)).unwrap().records() {
            writeln!(all, "{:?}", record.unwrap().record).unwrap();
        }
        let mut scan = snapshot.scan(&Query::new(signal)).unwrap();
        let (mut writer, mut lines) = (LineWriter::new(LineFormat::Ndjson), Vec::new());
        while let Some(record) = scan.next().unwrap() {
            writer.write(&record, &mut lines).unwrap();
        }
        writer.finish(&mut lines);
        all.push_str(std::str::from_utf8(&lines).unwrap());
    }
    all
}

/// Fails when a canary is in a record, in an export, or in the bytes of the database, and when a
/// signal has another number of records than `counts` says: logs, metrics, traces.
fn check(store: &Store, counts: [usize; 3]) {
    let snapshot = store.snapshot().unwrap();
    for (signal, count) in Signal::ALL.into_iter().zip(counts) {
        let records = snapshot.scan(&Query::new(signal)).unwrap().records();
        assert_eq!(records.count(), count, "the {signal} are there");
    }
    let all = decoded_and_exported(&snapshot);
    assert!(all.contains("[REDACTED]"));
    let file = fs::read(store.path()).unwrap();
    let raw = String::from_utf8_lossy(&file);
    for (place, text) in [("a record or an export", all.as_str()), ("the file", &*raw)] {
        if let Some(at) = text.find("canary") {
            panic!(
                "in {place}: …{}",
                text[at..].chars().take(60).collect::<String>()
            );
        }
    }
}

fn span_record() -> SpanRecord {
    let [resource_spans] = spans().try_into().unwrap();
    let [scope_spans] = resource_spans.scope_spans.try_into().unwrap();
    let [span] = scope_spans.spans.try_into().unwrap();
    let mut record = SpanRecord::default();
    record.resource = resource_spans.resource;
    record.span = span;
    record
}

/// A record of each signal with canaries.
fn records() -> [Record; 3] {
    let now = Timestamp::now();
    let mut snapshot = MetricsSnapshot::new(now);
    snapshot.extra = vec![
        ("note".into(), "--token canary-snapshot-12".into()),
        (REGISTERED.into(), 1_i64.into()),
    ];
    let log = LogRecord::new(now, Level::ERROR, format!("x{REGISTERED}y"))
        .with(
            "env",
            gridctl_telemetry::Value::Array(vec!["OPENAI_KEY=canary-list-13".into()]),
        )
        .with(
            "url",
            "https://user:canary-url-14@host/?sig=canary-query-15",
        );
    [
        Record::Log(log),
        Record::Metrics(snapshot),
        Record::Span(Box::new(span_record())),
    ]
}

fn registered() -> Redactor {
    let redactor = Redactor::new();
    redactor.register_value(REGISTERED).unwrap();
    redactor
}

#[test]
fn every_method_of_a_writer_redacts() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path(), "gw", StoreOptions::default()).unwrap();
    let options = WriterOptions::default().redactor(Some(registered()));
    let (writer, guard) = Writer::start(&store, options).unwrap();
    let server = ServerName::new("github").unwrap();
    for record in records() {
        writer.record(&server, &record).unwrap();
        match &record {
            Record::Log(record) => writer.log(&server, record).unwrap(),
            Record::Metrics(record) => writer.metrics(&server, record).unwrap(),
            Record::Span(record) => writer.span(&server, record).unwrap(),
            other => panic!("{other:?}"),
        }
    }
    guard.close().unwrap();
    check(&store, [2, 2, 2]);
}

#[test]
fn an_import_redacts() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path(), "gw", StoreOptions::default()).unwrap();
    let server = ServerName::new("github").unwrap();
    let mut batch = ImportBatch::default().redactor(Some(registered()));
    for record in records() {
        batch.push(&server, &record).unwrap();
    }
    Importer::new(&store).unwrap().add(batch).unwrap();
    check(&store, [1, 1, 1]);
}

#[test]
fn no_canary_is_found_anywhere() {
    let home = tempfile::tempdir().unwrap();
    let config: TelemetryConfig = serde_json::from_str(
        r#"{"persist":{"logs":true,"metrics":true,"traces":true},"servers":{"github":{}}}"#,
    )
    .unwrap();
    let accumulator = Arc::new(Accumulator::new());
    let (telemetry, _) = Telemetry::from_config(
        home.path(),
        "gw",
        &config,
        Arc::clone(&accumulator),
        TelemetryOptions::default(),
    )
    .unwrap();
    let subscriber = tracing_subscriber::registry().with(telemetry.log_router().layer());
    tracing::subscriber::with_default(subscriber, || {
        log();
        // Takes effect from here on, also for a layer that exists already.
        telemetry.redactor().register_value(REGISTERED).unwrap();
        log();
    });
    telemetry.trace_client().upload(spans());
    export_span(telemetry.trace_client().clone());
    // The flusher writes the names of clients and replicas as keys and values.
    let server = ServerName::new("github").unwrap();
    let (client, replica) = ("gca2a_c1_canary-16", format!("a {REGISTERED} b"));
    accumulator.record_tokens(
        Attribution::new(&server).client(client).replica(&*replica),
        1,
        2,
        Timestamp::now(),
    );
    telemetry.metrics_flusher().flush(Timestamp::now());
    let store = telemetry.store().clone();
    let stats = telemetry.shutdown().unwrap();
    assert_eq!((stats.offered, stats.stored), (9, 9));

    check(&store, [6, 1, 2]);
}
