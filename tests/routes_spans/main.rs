//! The trace client stores each span unchanged under the server that it names: one test for each
//! promise.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../common/mod.rs"]
mod common;
mod sdk;

use common::{home, on_demand, open_with_disk, server, without_hang};
use gridctl_telemetry::{
    Error, Query, ServerName, Signal, SpanRecord, Store, Writer, WriterGuard,
    ledger::LossCause,
    lines::{LineFormat, LineWriter, ParsedLine, parse_line},
    testing::DiskOperation,
    traces::{SkippedSpans, TraceClient},
};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span},
};
use std::sync::{Arc, Condvar, Mutex};
use tempfile::TempDir;

/// A store, its writer, and a client with servers.
struct Routed {
    store: Store,
    writer: Writer,
    _guard: WriterGuard,
    client: TraceClient,
    _home: TempDir,
}

impl Routed {
    fn to(servers: &[&str]) -> Routed {
        Routed::with_disk(servers, |_| {})
    }

    /// A client whose store's disk calls `hook` before each operation.
    fn with_disk(
        servers: &[&str],
        hook: impl Fn(DiskOperation<'_>) + Send + Sync + 'static,
    ) -> Routed {
        let home = home();
        let store = open_with_disk(home.path(), hook);
        let (writer, guard) = Writer::start(&store, on_demand()).unwrap();
        let client = TraceClient::new(writer.clone());
        for server in servers {
            client.add_server(server).unwrap();
        }
        Routed {
            client,
            writer,
            _guard: guard,
            store,
            _home: home,
        }
    }

    /// The stored spans by time. Checks that each comes back from its exported line.
    fn stored(&self) -> Vec<(ServerName, SpanRecord)> {
        self.client.flush().unwrap();
        let snapshot = self.store.snapshot().unwrap();
        let mut scan = snapshot.scan(&Query::new(Signal::Traces)).unwrap();
        let mut stored = Vec::new();
        while let Some(raw) = scan.next().unwrap() {
            let record = raw.decode().unwrap().into_span().unwrap();
            let mut writer = LineWriter::new(LineFormat::Ndjson);
            let mut line = Vec::new();
            writer.write(&raw, &mut line).unwrap();
            writer.finish(&mut line);
            let Ok(ParsedLine::Spans(read)) = parse_line(Signal::Traces, line.trim_ascii_end())
            else {
                panic!("{}", String::from_utf8(line).unwrap());
            };
            assert_eq!(read, [(Some(raw.server.to_string()), record.clone())]);
            stored.push((raw.server.clone(), record));
        }
        stored
    }

    /// The stored spans: `server: name`.
    fn names(&self) -> Vec<String> {
        self.stored()
            .into_iter()
            .map(|(server, record)| format!("{server}: {}", record.span.name))
            .collect()
    }

    fn dropped(&self) -> Vec<(String, LossCause, u64)> {
        let stats = self.writer.stats();
        (stats.dropped.into_iter())
            .map(|drop| (drop.server.to_string(), drop.cause, drop.count))
            .collect()
    }
}

fn text(text: impl Into<String>) -> Option<AnyValue> {
    value(any_value::Value::StringValue(text.into()))
}

#[expect(clippy::unnecessary_wraps, reason = "what a field takes")]
fn value(value: any_value::Value) -> Option<AnyValue> {
    Some(AnyValue { value: Some(value) })
}

fn attribute(key: &str, value: Option<AnyValue>) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value,
        ..KeyValue::default()
    }
}

/// A span without a server. Spans end in the order of their `number`.
fn span(number: u8) -> Span {
    Span {
        trace_id: vec![7; 16],
        span_id: vec![number; 8],
        name: format!("span {number}"),
        kind: span::SpanKind::Client.into(),
        start_time_unix_nano: 5,
        end_time_unix_nano: 10 + u64::from(number),
        ..Span::default()
    }
}

fn span_of(number: u8, server: &str) -> Span {
    Span {
        attributes: vec![
            attribute("tool", text("search")),
            attribute("server.name", text(server)),
        ],
        ..span(number)
    }
}

/// A batch with one empty resource and one empty scope.
fn batch(spans: Vec<Span>) -> Vec<ResourceSpans> {
    vec![ResourceSpans {
        scope_spans: vec![ScopeSpans {
            spans,
            ..ScopeSpans::default()
        }],
        ..ResourceSpans::default()
    }]
}

fn scope(name: &str) -> InstrumentationScope {
    InstrumentationScope {
        name: name.to_owned(),
        version: "1.2.3".to_owned(),
        attributes: vec![attribute("library", text(name))],
        dropped_attributes_count: 1,
    }
}

// The server of a span.

#[test]
fn each_span_goes_to_the_server_that_its_server_name_names() {
    let routed = Routed::to(&["github", "slack"]);
    routed.client.upload(batch(vec![
        span_of(1, "github"),
        span_of(2, "slack"),
        span_of(3, "github"),
    ]));
    routed.client.upload(Vec::new());
    routed.client.upload(vec![ResourceSpans::default()]);
    routed.client.upload(batch(Vec::new()));
    assert_eq!(
        routed.names(),
        ["github: span 1", "slack: span 2", "github: span 3"]
    );
    assert_eq!(routed.client.skipped(), SkippedSpans::default());
}

#[test]
fn spans_without_a_server_are_counted() {
    let routed = Routed::to(&["github"]);
    let named = |number, name| Span {
        attributes: vec![attribute("server.name", name)],
        ..span(number)
    };
    let mut elsewhere = batch(vec![span(1)]);
    // An attribute of the resource does not count.
    elsewhere[0].resource = Some(Resource {
        attributes: vec![attribute("server.name", text("github"))],
        ..Resource::default()
    });
    routed.client.upload(elsewhere);
    routed.client.upload(batch(vec![
        span(2),
        named(3, None),
        named(4, Some(AnyValue { value: None })),
        named(5, value(any_value::Value::IntValue(5))),
        named(6, value(any_value::Value::BytesValue(b"github".to_vec()))),
        named(7, text("")),
        named(8, text("x".repeat(256))),
        named(9, text("x".repeat(64 << 10))),
        span_of(10, "github"),
    ]));
    assert_eq!(routed.names(), ["github: span 10"]);
    let skipped = routed.client.skipped();
    assert_eq!((skipped.without_server, skipped.not_configured), (9, 0));
}

#[test]
fn spans_of_servers_that_are_not_configured_are_counted() {
    let routed = Routed::to(&["github"]);
    routed
        .client
        .upload(batch(vec![span_of(1, "slack"), span_of(2, "Github")]));
    assert_eq!(routed.names(), [""; 0]);
    let skipped = routed.client.skipped();
    assert_eq!((skipped.without_server, skipped.not_configured), (0, 2));
    // These spans are not to be stored, so they are not counted as lost.
    assert_eq!(routed.writer.stats().offered, 0);
}

// Servers.

#[test]
fn servers_come_and_go_while_spans_are_uploaded() {
    let routed = Routed::to(&["slack", "github", "github"]);
    let clone = routed.client.clone();
    assert_eq!(
        clone.configured_servers(),
        [server("github"), server("slack")]
    );
    let upload = |number| {
        clone.upload(batch(vec![
            span_of(number, "github"),
            span_of(number, "slack"),
        ]));
    };
    upload(1);
    clone.remove_server("github");
    clone.remove_server("nobody");
    assert_eq!(routed.client.configured_servers(), [server("slack")]);
    upload(2);
    clone.add_server("github").unwrap();
    upload(3);
    assert_eq!(
        routed.names(),
        [
            "github: span 1",
            "slack: span 1",
            "slack: span 2",
            "github: span 3",
            "slack: span 3"
        ]
    );
    assert_eq!(routed.client.skipped().not_configured, 1);
}

#[test]
fn close_may_be_called_again_and_the_client_stays_usable() {
    let routed = Routed::to(&["github"]);
    routed.client.close();
    routed.client.close();
    assert_eq!(routed.client.configured_servers(), []);
    routed.client.upload(batch(vec![span_of(1, "github")]));
    routed.client.add_server("github").unwrap();
    routed.client.upload(batch(vec![span_of(2, "github")]));
    assert_eq!(routed.names(), ["github: span 2"]);
}

#[test]
fn add_server_refuses_a_name_that_is_empty_or_endless() {
    let routed = Routed::to(&[]);
    for name in [String::new(), "x".repeat(64 << 10)] {
        assert!(matches!(
            routed.client.add_server(&name),
            Err(Error::InvalidServerName { bytes }) if bytes == name.len()
        ));
    }
    assert_eq!(routed.client.configured_servers(), []);
}

// The stored record.

#[test]
fn resource_scope_and_schema_urls_are_kept_and_scopes_stay_apart() {
    let routed = Routed::to(&["github", "slack"]);
    let resource = |name: &str| {
        Some(Resource {
            attributes: vec![attribute("service.name", text(name))],
            dropped_attributes_count: 2,
            ..Resource::default()
        })
    };
    let scope_spans = |name: Option<&str>, spans| ScopeSpans {
        scope: name.map(scope),
        schema_url: name.map_or(String::new(), |name| format!("https://{name}/schema")),
        spans,
    };
    let batch = vec![
        ResourceSpans {
            resource: resource("gateway"),
            schema_url: "https://gateway/schema".to_owned(),
            scope_spans: vec![
                scope_spans(Some("a"), vec![span_of(1, "github"), span_of(2, "slack")]),
                scope_spans(Some("b"), vec![span_of(3, "github")]),
                scope_spans(None, vec![span_of(4, "github")]),
            ],
        },
        ResourceSpans {
            scope_spans: vec![scope_spans(Some("b"), vec![span_of(5, "slack")])],
            ..ResourceSpans::default()
        },
    ];
    routed.client.upload(batch);
    let expected = |number, server_name: &str, service: Option<&str>, scope_name: Option<&str>| {
        let url = |name: Option<&str>| {
            name.map_or(String::new(), |name| format!("https://{name}/schema"))
        };
        let record = SpanRecord::new(span_of(number, server_name))
            .resource(service.and_then(resource), url(service))
            .scope(scope_name.map(scope), url(scope_name));
        (server(server_name), record)
    };
    assert_eq!(
        routed.stored(),
        [
            expected(1, "github", Some("gateway"), Some("a")),
            expected(2, "slack", Some("gateway"), Some("a")),
            expected(3, "github", Some("gateway"), Some("b")),
            expected(4, "github", Some("gateway"), None),
            expected(5, "slack", None, Some("b")),
        ]
    );
}

#[test]
fn everything_of_a_span_is_kept() {
    let routed = Routed::to(&["github"]);
    let full = Span {
        trace_state: "vendor=1".to_owned(),
        parent_span_id: vec![9; 8],
        flags: 0x301,
        dropped_attributes_count: 1,
        events: vec![span::Event {
            time_unix_nano: 7,
            name: "retry".to_owned(),
            attributes: vec![attribute("attempt", value(any_value::Value::IntValue(2)))],
            dropped_attributes_count: 3,
        }],
        dropped_events_count: 4,
        links: vec![span::Link {
            trace_id: vec![8; 16],
            span_id: vec![8; 8],
            trace_state: "vendor=2".to_owned(),
            attributes: vec![attribute("why", text("batch"))],
            dropped_attributes_count: 5,
            flags: 1,
        }],
        dropped_links_count: 6,
        status: Some(Status {
            message: "no".to_owned(),
            code: 2,
        }),
        ..span_of(1, "github")
    };
    routed.client.upload(batch(vec![full.clone()]));
    let (_, record) = routed.stored().remove(0);
    assert!(record.is_error());
    assert_eq!(record.span, full);
}

// Bad input.

#[test]
fn a_span_whose_ids_have_a_wrong_length_is_refused_and_counted() {
    let routed = Routed::to(&["github"]);
    let with = |change: fn(&mut Span)| {
        let mut span = span_of(1, "github");
        change(&mut span);
        span
    };
    let link = |trace_id: usize, span_id: usize| span::Link {
        trace_id: vec![1; trace_id],
        span_id: vec![1; span_id],
        ..span::Link::default()
    };
    let mut linked = [span_of(1, "github"), span_of(1, "github")];
    linked[0].links = vec![link(16, 8), link(15, 8)];
    linked[1].links = vec![link(16, 9)];
    let wrong = [
        with(|span| span.trace_id = vec![1; 15]),
        with(|span| span.trace_id = vec![1; 32]),
        with(|span| span.span_id = vec![1; 7]),
        with(|span| span.span_id = vec![1; 16]),
        with(|span| span.parent_span_id = vec![1; 9]),
    ];
    routed.client.upload(batch(wrong.into()));
    routed.client.upload(batch(linked.into()));
    // An absent id is valid.
    let mut absent = span_of(2, "github");
    absent.trace_id.clear();
    absent.span_id.clear();
    absent.links = vec![link(0, 0)];
    routed.client.upload(batch(vec![absent]));
    assert_eq!(routed.names(), ["github: span 2"]);
    assert_eq!(
        routed.dropped(),
        [("github".to_owned(), LossCause::Invalid, 7)]
    );
    let losses = routed.store.snapshot().unwrap().ledger(..).unwrap();
    assert_eq!((losses[0].cause, losses[0].count), (LossCause::Invalid, 7));
    assert_eq!(losses[0].signal, Some(Signal::Traces));
}

#[test]
fn a_span_that_is_too_large_or_too_deep_is_refused_and_counted() {
    let routed = Routed::to(&["github"]);
    let mut large = span_of(1, "github");
    large
        .attributes
        .push(attribute("body", text("x".repeat(100 << 20))));
    let mut deep = span_of(2, "github");
    let mut nested = text("bottom");
    for _ in 0..1000 {
        let array = ArrayValue {
            values: nested.into_iter().collect(),
        };
        nested = value(any_value::Value::ArrayValue(array));
    }
    deep.attributes.push(attribute("deep", nested));
    routed
        .client
        .upload(batch(vec![large, deep, span_of(3, "github")]));
    assert_eq!(routed.names(), ["github: span 3"]);
    assert_eq!(
        routed.dropped(),
        [
            ("github".to_owned(), LossCause::TooLarge, 1),
            ("github".to_owned(), LossCause::Invalid, 1)
        ]
    );
}

#[test]
fn an_upload_does_not_wait_for_the_disk() {
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let routed = Routed::with_disk(&["github"], {
        let gate = Arc::clone(&gate);
        move |operation| {
            if matches!(operation, DiskOperation::Write { .. }) {
                let shut = gate.0.lock().unwrap();
                drop(gate.1.wait_while(shut, |shut| *shut).unwrap());
            }
        }
    });
    *gate.0.lock().unwrap() = true;
    let client = routed.client.clone();
    without_hang("an upload", move || {
        for number in 0..200 {
            // Failed spans are committed at once, and that commit hangs.
            let status = Some(Status {
                code: 2,
                ..Status::default()
            });
            let span = Span {
                status,
                ..span_of(number, "github")
            };
            client.upload(batch(vec![span]));
        }
    });
    *gate.0.lock().unwrap() = false;
    gate.1.notify_all();
    assert_eq!(routed.names().len(), 200);
}
