//! OTLP messages of every signal are stored, from the OpenTelemetry SDK or as a receiver has them, and
//! what is not stored is counted with a reason.
#![cfg(feature = "otel-sdk")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{STACK, home, on_demand, open, server};
use gridctl_telemetry::{
    Level, LogRecord, Query, Signal, Store, Telemetry, TelemetryConfig, TelemetryOptions, Value,
    Writer, WriterGuard,
    ingest::DropCause,
    lines::{LineFormat, LineWriter},
    logs::TelemetryLogExporter,
    metrics::{Accumulator, TelemetryMetricExporter},
    receive::{OtlpReason, OtlpWriter},
    traces::TelemetrySpanExporter,
};
use opentelemetry::{
    KeyValue,
    logs::{AnyValue, LogRecord as _, Logger as _, LoggerProvider as _, Severity},
    metrics::MeterProvider as _,
    trace::{Span as _, TraceContextExt as _, Tracer as _, TracerProvider as _},
};
use opentelemetry_proto::tonic::{
    common::v1::{self as proto, any_value},
    logs::v1::{LogRecord as OtlpLogRecord, ResourceLogs, ScopeLogs},
    metrics::v1::{Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric::Data},
    resource::v1::Resource as OtlpResource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use opentelemetry_sdk::{
    Resource,
    logs::SdkLoggerProvider,
    metrics::{Aggregation, Instrument, SdkMeterProvider, Stream},
    trace::SdkTracerProvider,
};
use std::sync::Arc;
use tempfile::TempDir;

/// A store and a writer of OTLP messages without servers.
struct Received {
    store: Store,
    writer: Writer,
    _guard: WriterGuard,
    otlp: OtlpWriter,
    _home: TempDir,
}

impl Received {
    fn new() -> Received {
        let home = home();
        let store = open(home.path());
        let (writer, guard) = Writer::start(&store, on_demand().record_bytes_max(10_000)).unwrap();
        Received {
            otlp: OtlpWriter::new(writer.clone()),
            store,
            writer,
            _guard: guard,
            _home: home,
        }
    }
}

/// The stored log records with their servers.
fn logs(store: &Store) -> Vec<(String, LogRecord)> {
    let stored = store.last(&Query::new(Signal::Logs), 100).unwrap();
    (stored.into_iter())
        .map(|it| (it.server.to_string(), it.record.into_log().unwrap()))
        .collect()
}

/// The stored metrics as OTLP: servers and metrics, by name.
fn metrics(store: &Store) -> Vec<(String, serde_json::Value)> {
    let snapshot = store.snapshot().unwrap();
    let mut scan = snapshot.scan(&Query::new(Signal::Metrics)).unwrap();
    let mut found = Vec::new();
    while let Some(raw) = scan.next().unwrap() {
        let mut writer = LineWriter::new(LineFormat::Otlp);
        let mut line = Vec::new();
        writer.write(&raw, &mut line).unwrap();
        writer.finish(&mut line);
        let message: serde_json::Value = serde_json::from_slice(&line).unwrap();
        let metric = message["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0].clone();
        found.push((raw.server.to_string(), metric));
    }
    found.sort_by_key(|(_, metric)| metric["name"].as_str().unwrap().to_owned());
    found
}

fn resource() -> Resource {
    Resource::builder_empty()
        .with_service_name("gateway")
        .build()
}

#[test]
fn logs_of_the_sdk_are_stored_with_the_ids_of_their_trace() {
    let received = Received::new();
    for name in ["github", "gateway"] {
        received.otlp.add_server(name, Signal::Logs).unwrap();
    }
    let provider = SdkLoggerProvider::builder()
        .with_resource(resource())
        .with_batch_exporter(TelemetryLogExporter::new(received.otlp.clone()))
        .build();
    let logger = provider.logger("mcp");
    let tracer = SdkTracerProvider::builder().build().tracer("mcp");
    let span = tracer.start("call");
    let ids = span.span_context().clone();
    let context = opentelemetry::Context::new().with_span(span);
    for component in [Some("github"), Some("not configured"), None] {
        let _attached = context.clone().attach();
        let mut record = logger.create_log_record();
        record.set_severity_number(Severity::Warn);
        record.set_body(AnyValue::from("slow answer"));
        record.add_attribute("rows", 3);
        if let Some(component) = component {
            record.add_attribute("component", component);
        }
        logger.emit(record);
    }
    provider.shutdown().unwrap();
    let stored = logs(&received.store);
    let mut servers: Vec<_> = stored.iter().map(|(server, _)| &**server).collect();
    servers.sort_unstable();
    assert_eq!(servers, ["gateway", "gateway", "github"]);
    for (_, record) in &stored {
        assert_eq!(record.level, Level::WARN);
        assert_eq!(record.message, "slow answer");
        assert_eq!(record.attribute("rows"), Some(&Value::Int(3)));
        assert_eq!(record.trace_id(), Some(&*ids.trace_id().to_string()));
        let span_id = Value::from(ids.span_id().to_string());
        assert_eq!(record.attribute("span_id"), Some(&span_id));
    }
}

#[test]
fn metrics_of_the_sdk_are_stored_whole() {
    let received = Received::new();
    received
        .otlp
        .add_server("gateway", Signal::Metrics)
        .unwrap();
    let exponential = |instrument: &Instrument| {
        let aggregation = Aggregation::Base2ExponentialHistogram {
            max_size: 160,
            max_scale: 20,
            record_min_max: true,
        };
        (instrument.name() == "exponential")
            .then(|| Stream::builder().with_aggregation(aggregation).build().ok())
            .flatten()
    };
    let provider = SdkMeterProvider::builder()
        .with_resource(resource())
        .with_view(exponential)
        .with_periodic_exporter(TelemetryMetricExporter::new(received.otlp.clone()))
        .build();
    let meter = provider.meter("mcp");
    let tool = [KeyValue::new("tool", "search")];
    meter.u64_counter("counter").build().add(5, &tool);
    meter
        .i64_up_down_counter("in_flight")
        .build()
        .add(-2, &tool);
    meter.f64_gauge("gauge").build().record(0.5, &tool);
    let histogram = meter.f64_histogram("histogram").build();
    let exponential = meter.f64_histogram("exponential").build();
    for value in [1.0, 20.0, 300.0] {
        histogram.record(value, &tool);
        exponential.record(value, &tool);
    }
    provider.shutdown().unwrap();
    let stored = metrics(&received.store);
    assert!(stored.iter().all(|(server, _)| server == "gateway"));
    let names: Vec<_> = stored
        .iter()
        .map(|(_, it)| it["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["counter", "exponential", "gauge", "histogram", "in_flight"]
    );
    let point = |metric: usize, kind: &str| &stored[metric].1[kind]["dataPoints"][0];
    assert_eq!(point(0, "sum")["asInt"], "5");
    assert_eq!(stored[0].1["sum"]["isMonotonic"], true);
    assert_eq!(point(1, "exponentialHistogram")["count"], "3");
    assert_eq!(point(1, "exponentialHistogram")["sum"], 321.0);
    assert!(point(1, "exponentialHistogram")["positive"]["bucketCounts"].is_array());
    assert_eq!(point(2, "gauge")["asDouble"], 0.5);
    assert_eq!(point(3, "histogram")["count"], "3");
    assert_eq!(point(3, "histogram")["max"], 300.0);
    assert_eq!(point(4, "sum")["asInt"], "-2");
    assert_eq!(
        point(4, "sum")["attributes"][0]["value"]["stringValue"],
        "search"
    );
}

fn text(text: &str) -> proto::AnyValue {
    let value = Some(any_value::Value::StringValue(text.to_owned()));
    proto::AnyValue { value }
}

fn attribute(key: &str, value: &str) -> proto::KeyValue {
    proto::KeyValue {
        key: key.to_owned(),
        value: Some(text(value)),
        ..proto::KeyValue::default()
    }
}

fn service(name: &str) -> OtlpResource {
    OtlpResource {
        attributes: vec![attribute("service.name", name)],
        ..OtlpResource::default()
    }
}

#[test]
fn a_receiver_learns_which_log_records_were_rejected_and_why() {
    let received = Received::new();
    let log = |attributes: &[(&str, &str)], body: &str| OtlpLogRecord {
        time_unix_nano: 1_700_000_000_000_000_000,
        attributes: (attributes.iter())
            .map(|(key, value)| attribute(key, value))
            .collect(),
        body: Some(text(body)),
        ..OtlpLogRecord::default()
    };
    let message = |resource, log_records| {
        vec![ResourceLogs {
            resource,
            scope_logs: vec![ScopeLogs {
                log_records,
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }]
    };
    received.otlp.add_server("github", Signal::Logs).unwrap();
    let outcome = received.otlp.store(message(
        Some(service("gateway")),
        vec![
            log(&[("component", "github")], "one"),
            log(&[("component", "sidebar"), ("server", "github")], "two"),
            log(&[("server.name", "github")], "three"),
            log(&[], "not configured"),
            log(
                &[("component", "github"), ("subsystem", "telemetry")],
                "own",
            ),
            log(&[("component", "github")], &"x".repeat(20_000)),
        ],
    ));
    assert_eq!(outcome.accepted, 3);
    assert_eq!(
        outcome.rejected,
        [
            (OtlpReason::NotConfigured, 1),
            (OtlpReason::Own, 1),
            (OtlpReason::Dropped(DropCause::TooLarge), 1),
        ]
    );
    let unnamed = message(None, vec![log(&[], "no server"); 2]);
    let outcome = received.otlp.store(unnamed.clone());
    assert_eq!(outcome.rejected, [(OtlpReason::WithoutServer, 2)]);
    // A server may take them, if it is configured.
    received.otlp.set_unrouted_server(Some(server("daemon")));
    assert_eq!(received.otlp.store(unnamed.clone()).accepted, 0);
    received.otlp.add_server("daemon", Signal::Logs).unwrap();
    assert_eq!(received.otlp.store(unnamed).accepted, 2);

    received.otlp.flush().unwrap();
    let messages: Vec<_> = (logs(&received.store).into_iter())
        .map(|(server, record)| format!("{server}: {}", record.message))
        .collect();
    assert_eq!(
        messages,
        [
            "github: one",
            "github: two",
            "github: three",
            "daemon: no server",
            "daemon: no server"
        ]
    );
    assert_eq!(received.writer.stats().dropped_total(), 1);
}

#[test]
fn a_receiver_learns_which_spans_were_rejected_and_why() {
    let received = Received::new();
    received.otlp.add_server("daemon", Signal::Traces).unwrap();
    // A span without a server is dropped, whichever server takes unrouted records.
    received.otlp.set_unrouted_server(Some(server("daemon")));
    let span = |attributes, trace_id| Span {
        trace_id,
        span_id: vec![1; 8],
        attributes,
        ..Span::default()
    };
    let outcome = received.otlp.store(vec![ResourceSpans {
        resource: Some(service("daemon")),
        scope_spans: vec![ScopeSpans {
            spans: vec![
                span(vec![attribute("component", "daemon")], vec![1; 16]),
                span(vec![attribute("component", "daemon")], vec![1; 3]),
                span(Vec::new(), vec![1; 16]),
            ],
            ..ScopeSpans::default()
        }],
        ..ResourceSpans::default()
    }]);
    assert_eq!(outcome.accepted, 1);
    assert_eq!(
        outcome.rejected,
        [
            (OtlpReason::Dropped(DropCause::Invalid), 1),
            (OtlpReason::WithoutServer, 1)
        ]
    );
}

#[test]
fn a_receiver_learns_how_many_points_were_rejected() {
    let received = Received::new();
    let gauge = |name: &str, points: usize| Metric {
        name: name.to_owned(),
        data: Some(Data::Gauge(Gauge {
            data_points: vec![NumberDataPoint::default(); points],
        })),
        ..Metric::default()
    };
    let message = |name: &str| {
        vec![ResourceMetrics {
            resource: Some(service(name)),
            scope_metrics: vec![ScopeMetrics {
                metrics: vec![gauge("a", 3), gauge("b", 2)],
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }]
    };
    received.otlp.add_server("github", Signal::Metrics).unwrap();
    assert_eq!(received.otlp.store(message("github")).accepted, 5);
    let outcome = received.otlp.store(message("slack"));
    assert_eq!(outcome.rejected, [(OtlpReason::NotConfigured, 5)]);
    assert_eq!(outcome.rejected_total(), 5);
    received.otlp.flush().unwrap();
    assert_eq!(metrics(&received.store).len(), 2);
}

/// The attributes of a metric are kept as OTLP/JSON, where each name stands beside `key`.
#[test]
fn attributes_of_metrics_keep_their_names_and_lose_their_secrets() {
    let received = Received::new();
    received.otlp.set_takes_any_server(true);
    let text = |text: &str| any_value::Value::StringValue(text.to_owned());
    let attribute = |key: &str, value| proto::KeyValue {
        key: key.to_owned(),
        value: Some(proto::AnyValue { value: Some(value) }),
        ..proto::KeyValue::default()
    };
    let secret = "hunter".repeat(2);
    let list = any_value::Value::ArrayValue(proto::ArrayValue {
        values: vec![proto::AnyValue {
            value: Some(text(&secret)),
        }],
    });
    let message = vec![ResourceMetrics {
        resource: Some(OtlpResource {
            attributes: vec![attribute("service.name", text("app"))],
            ..OtlpResource::default()
        }),
        scope_metrics: vec![ScopeMetrics {
            metrics: vec![Metric {
                name: "a".to_owned(),
                data: Some(Data::Gauge(Gauge {
                    data_points: vec![NumberDataPoint {
                        attributes: vec![
                            attribute("tool", text("search")),
                            attribute("cache_key", text("k")),
                            attribute("password", text(&secret)),
                            attribute("api_key", list),
                            attribute("auth_token", any_value::Value::IntValue(5)),
                        ],
                        ..NumberDataPoint::default()
                    }],
                })),
                ..Metric::default()
            }],
            ..ScopeMetrics::default()
        }],
        ..ResourceMetrics::default()
    }];
    assert_eq!(received.otlp.store(message).accepted, 1);
    received.otlp.flush().unwrap();
    let stored = metrics(&received.store);
    let [(server, metric)] = stored.as_slice() else {
        panic!("{stored:?}")
    };
    assert_eq!(server, "app");
    assert_eq!(
        metric["gauge"]["dataPoints"][0]["attributes"],
        serde_json::json!([
            { "key": "tool", "value": { "stringValue": "search" } },
            { "key": "cache_key", "value": { "stringValue": "k" } },
            { "key": "password", "value": { "stringValue": "[REDACTED]" } },
            { "key": "api_key", "value": { "arrayValue": { "values": [{ "stringValue": "[REDACTED]" }] } } },
            { "key": "auth_token", "value": { "intValue": "5" } },
        ])
    );
}

#[test]
fn a_daemon_stores_what_its_configuration_has_on() {
    let home = home();
    let config = |text: &str| -> TelemetryConfig { serde_json::from_str(text).unwrap() };
    let (telemetry, _) = Telemetry::from_config(
        home.path(),
        STACK,
        &config(r#"{"persist":{"logs":true,"traces":true},"servers":{"github":{}}}"#),
        Arc::new(Accumulator::new()),
        TelemetryOptions::default().unrouted_server(server("daemon")),
    )
    .unwrap();
    let otlp = telemetry.otlp_writer();
    let configured = || {
        [Signal::Logs, Signal::Metrics, Signal::Traces].map(|signal| {
            let servers = otlp.configured_servers(signal);
            servers.iter().map(ToString::to_string).collect::<Vec<_>>()
        })
    };
    assert_eq!(
        configured(),
        [vec!["daemon", "github"], vec![], vec!["github"]]
    );
    telemetry
        .apply(&config(
            r#"{"persist":{"metrics":true},"servers":{"github":{}}}"#,
        ))
        .unwrap();
    assert_eq!(configured(), [vec![], vec!["daemon", "github"], vec![]]);
    telemetry
        .apply(&config(
            r#"{"persist":{"traces":true},"servers":{"slack":{}}}"#,
        ))
        .unwrap();
    assert_eq!(configured(), [vec![], vec![], vec!["slack"]]);
    // The exporter of spans and the writer share their servers.
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(TelemetrySpanExporter::new(telemetry.trace_client().clone()))
        .build();
    let mut span = provider.tracer("mcp").start("call");
    span.set_attribute(KeyValue::new("server.name", "slack"));
    span.end();
    provider.shutdown().unwrap();
    assert_eq!(telemetry.shutdown().unwrap().stored, 1);
}
