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
    Query, Signal, Snapshot, Telemetry, TelemetryConfig, TelemetryOptions, Timestamp,
    lines::{LineFormat, LineWriter},
    metrics::Accumulator,
};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span::Event},
};
use std::{fmt::Write as _, fs, sync::Arc};
use tracing_subscriber::prelude::*;

/// A value that is a secret only because it is registered.
const REGISTERED: &str = "canary-registered-77";

fn text(text: &str) -> AnyValue {
    AnyValue {
        value: Some(Value::StringValue(text.to_owned())),
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
        value: Some(Value::KvlistValue(KeyValueList {
            values: vec![
                attribute("auth_token", text("canary-kvlist-7")),
                attribute(
                    "list",
                    AnyValue {
                        value: Some(Value::ArrayValue(ArrayValue {
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

#[test]
fn no_canary_is_found_anywhere() {
    let home = tempfile::tempdir().unwrap();
    let config: TelemetryConfig = serde_json::from_str(
        r#"{"persist":{"logs":true,"metrics":true,"traces":true},"servers":{"github":{}}}"#,
    )
    .unwrap();
    let (telemetry, _) = Telemetry::from_config(
        home.path(),
        "gw",
        &config,
        Arc::new(Accumulator::new()),
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
    let store = telemetry.store().clone();
    let stats = telemetry.shutdown().unwrap();
    assert_eq!((stats.offered, stats.stored), (7, 7));

    let all = decoded_and_exported(&store.snapshot().unwrap());
    assert_eq!(
        all.matches("tools/call").count(),
        2,
        "the records are there"
    );
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
