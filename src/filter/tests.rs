//! Filters and single fields, compared with decoded records.

use super::*;
use crate::{
    otlp::{arbitrary, attributes::key_value, id::hex},
    record::{Level, LogRecord, MetricsSnapshot, Record, SpanRecord, TokenCounts, Value},
    time::Timestamp,
};
use opentelemetry_proto::tonic::{
    common::v1::any_value::Value as Any,
    resource::v1::Resource,
    trace::v1::{
        Span, Status,
        span::{Event, SpanKind},
        status::StatusCode,
    },
};
use proptest::prelude::*;
use std::time::Duration;

fn matches(filter: &Filter, record: &Record) -> bool {
    let mut payload = Vec::new();
    record.encode_payload(&mut payload).unwrap();
    filter.matches(record.signal(), &payload)
}

fn log() -> Record {
    Record::Log(
        LogRecord::new(
            Timestamp::default(),
            Level::WARN,
            "Tool call \u{1b}[31mfai\u{1b}[0mled",
        )
        .with("tool", "search")
        .with("attempt", 2_i64)
        .with("ratio", 0.5)
        .with("ok", false)
        .with("status", "500")
        .with("dotted.key", "flat")
        .with(
            "http",
            Value::Object(vec![
                ("url".to_owned(), "http://a/b".into()),
                ("none".to_owned(), Value::Null),
            ]),
        )
        .with(
            "tags",
            Value::Array(vec![
                "red".into(),
                Value::Int(7),
                Value::Array(vec!["deep".into()]),
            ]),
        )
        .with("empty", Value::Array(Vec::new()))
        .with("big", Value::Number("1e999".into()))
        .with("repeated", 1_i64)
        .with("repeated", 2_i64)
        .with("trace_id", "0af7651916cd43dd8448eb211c80319c")
        .with("span_id", "not hex"),
    )
}

fn span() -> Record {
    let text = |key: &str, text: &str| key_value(key, Any::StringValue(text.to_owned()));
    Record::Span(Box::new(
        SpanRecord::new(Span {
            trace_id: vec![0xab; 16],
            span_id: vec![0xcd; 8],
            name: "tools/call search".to_owned(),
            kind: SpanKind::Client.into(),
            start_time_unix_nano: 1_000_000_000,
            end_time_unix_nano: 1_500_000_000,
            attributes: vec![text("tool", "search"), key_value("n", Any::IntValue(-3))],
            events: vec![Event {
                name: "exception".to_owned(),
                attributes: vec![text("exception.type", "Timeout")],
                ..Event::default()
            }],
            status: Some(Status {
                message: "deadline exceeded".to_owned(),
                code: StatusCode::Error.into(),
            }),
            ..Span::default()
        })
        .resource(
            Resource {
                attributes: vec![text("service.name", "gateway")],
                ..Resource::default()
            },
            "",
        ),
    ))
}

fn metrics() -> Record {
    let mut snapshot = MetricsSnapshot::new(Timestamp::default());
    snapshot.diff = TokenCounts {
        input_tokens: 3,
        output_tokens: 4,
        total_tokens: 7,
    };
    snapshot.extra = vec![("note".to_owned(), "by hand".into())];
    Record::Metrics(snapshot)
}

#[test]
fn expressions_match_entries_as_documented() {
    for (record, expression, expected) in [
        (log(), "tool=search", true),
        (log(), "tool=Search", false),
        (log(), "tool!=search", false),
        (log(), "tool!=query", true),
        (log(), "absent!=query", false),
        (log(), "absent", false),
        (log(), "!absent", true),
        (log(), "tool", true),
        (log(), "!tool", false),
        (log(), " tool =search", true),
        (log(), "tool~^SEA", true),
        (log(), "tool!~x", true),
        (log(), "attempt=2", true),
        (log(), "attempt=2.0", true),
        (log(), "attempt=\"2\"", false),
        (log(), "attempt>1", true),
        (log(), "attempt>2", false),
        (log(), "attempt>=2", true),
        (log(), "attempt<=1.5", false),
        (log(), "attempt~2", true),
        (log(), "ratio<0.6", true),
        (log(), "ratio=0.5", true),
        (log(), "ok=false", true),
        (log(), "ok=true", false),
        (log(), "status>=500", true),
        (log(), "status=500", true),
        (log(), "status=\"500\"", true),
        (log(), "status=500.0", false),
        (log(), "dotted.key=flat", true),
        (log(), "http.url~//a/", true),
        (log(), "http.none=null", true),
        (log(), "http", true),
        (log(), "http.absent", false),
        (log(), "tags=red", true),
        (log(), "tags=7", true),
        (log(), "tags=deep", true),
        (log(), "tags!=red", false),
        (log(), "empty", true),
        (log(), "empty=x", false),
        (log(), "big=1e999", true),
        (log(), "repeated=1", true),
        (log(), "repeated=2", true),
        (span(), "tool=search", true),
        (span(), "service.name=gateway", true),
        (span(), "exception.type=Timeout", true),
        (span(), "n<-2", true),
        (span(), "n=-3", true),
        (metrics(), "diff.total_tokens>=7", true),
        (metrics(), "total.total_tokens=0", true),
        (metrics(), "cost_diff", false),
        (metrics(), "reset=false", true),
        (metrics(), "note=by hand", true),
    ] {
        let filter = Filter::field(expression).unwrap();
        assert_eq!(matches(&filter, &record), expected, "{expression}");
        assert_eq!(matches(&!filter, &record), !expected, "not {expression}");
    }
    for (expression, reason) in [
        ("", "the key is missing"),
        ("=x", "the key is missing"),
        ("!", "the key is missing"),
        ("a>b", "expected a number"),
        ("a>inf", "expected a number"),
        ("a~(", "unclosed group"),
    ] {
        let error = Filter::field(expression).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    assert!(Filter::field(&"a".repeat(100_000)).is_err());
}

#[test]
fn conditions_apply_to_the_signals_that_have_them() {
    let text = |text: &str| Filter::text(TextPattern::substring(text).unwrap());
    let name = |text: &str| Filter::name(TextPattern::words(text).unwrap());
    let ms = Duration::from_millis;
    let (is_log, is_span, is_metrics) = (
        [true, false, false],
        [false, true, false],
        [false, false, true],
    );
    let none = [false; 3];
    let both = [true, true, false];
    for (filter, expected) in [
        (Filter::level_at_least(Level::WARN), both),
        (Filter::level_at_least(Level::ERROR), is_span),
        (Filter::level_at_most(Level::WARN), is_log),
        (text("FAILED"), is_log),
        (text("http://a"), is_log),
        (text("deep"), is_log),
        (text("[31m"), none),
        (text("tools/call"), is_span),
        (text("deadline"), is_span),
        (text("exception"), is_span),
        (text("timeout"), is_span),
        (text("gateway"), is_span),
        (text("by hand"), is_metrics),
        (
            Filter::trace_id("0AF7651916cd43dd8448eb211c80319c").unwrap(),
            is_log,
        ),
        (
            Filter::trace_id("0af76519-16cd-43dd-8448-eb211c80319c").unwrap(),
            is_log,
        ),
        (Filter::trace_id("16cd43").unwrap(), is_log),
        (Filter::trace_id(&"ab".repeat(16)).unwrap(), is_span),
        (Filter::span_id("cdcd").unwrap(), is_span),
        (Filter::parent_span_id("cdcd").unwrap(), none),
        (name("call"), is_span),
        (name("cal"), none),
        (Filter::kind(SpanKind::Client), is_span),
        (Filter::kind(SpanKind::Unspecified), none),
        (Filter::failed(), is_span),
        (Filter::status(StatusCode::Unset), none),
        (Filter::duration(ms(500)..), is_span),
        (Filter::duration(ms(501)..), none),
        (Filter::duration(..ms(500)), none),
        (Filter::duration(..=ms(500)), is_span),
        (Filter::duration(..ms(0)), none),
        (Filter::all([]), [true; 3]),
        (Filter::any([]), none),
        (Filter::any([text("failed"), Filter::failed()]), both),
        (Filter::all([text("failed"), Filter::failed()]), none),
    ] {
        let found = [log(), span(), metrics()].map(|record| matches(&filter, &record));
        assert_eq!(found, expected, "{filter:?}");
    }
    for id in ["", "xyz", "-", &"0".repeat(33)] {
        assert!(Filter::trace_id(id).is_err(), "{id}");
    }
    assert!(Filter::span_id(&"0".repeat(17)).is_err());
}

#[test]
fn values_are_read_without_the_rest() {
    let mut payload = Vec::new();
    log().encode_payload(&mut payload).unwrap();
    let record = Encoded {
        signal: crate::signal::Signal::Logs,
        payload: &payload,
    };
    assert_eq!(record.value("repeated").unwrap(), Some(Value::Int(2)));
    assert_eq!(record.value("http.url").unwrap(), Some("http://a/b".into()));
    assert!(matches!(
        record.value("tags").unwrap(),
        Some(Value::Array(_))
    ));
    assert_eq!(record.value("absent").unwrap(), None);
    assert_eq!(record.id(IdKind::Span).unwrap().text(), "not hex");
}

proptest! {
    #[test]
    fn the_fields_of_a_span_are_those_of_the_decoded_one(span in arbitrary::span()) {
        let record = SpanRecord::new(span);
        let mut payload = Vec::new();
        prop_assume!(record.encode_payload(&mut payload).is_ok());
        let encoded = Encoded { signal: crate::signal::Signal::Traces, payload: &payload };
        let SpanRecord { span, .. } = SpanRecord::decode_payload(&payload).unwrap();
        let id = |kind| encoded.id(kind).map(|id| id.text().into_owned()).unwrap_or_default();
        prop_assert_eq!(id(IdKind::Trace), hex(&span.trace_id));
        prop_assert_eq!(id(IdKind::Span), hex(&span.span_id));
        prop_assert_eq!(id(IdKind::Parent), hex(&span.parent_span_id));
        prop_assert_eq!(encoded.name(), Some(span.name.as_str()));
        prop_assert_eq!(encoded.kind(), Some(span.kind));
        let status = span.status.as_ref();
        prop_assert_eq!(encoded.status(), Some(status.map_or(0, |status| status.code)));
        prop_assert_eq!(encoded.message().unwrap_or_default(), status.map_or("", |status| &status.message));
        let known = span.start_time_unix_nano != 0 && span.end_time_unix_nano != 0;
        let nanos = span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano);
        prop_assert_eq!(encoded.duration(), known.then_some(nanos));
        for entry in &span.attributes {
            prop_assert!(entry.key.is_empty() || encoded.any_value(&entry.key, &mut |_| true).unwrap());
        }
    }

    #[test]
    fn no_payload_panics(payload: Vec<u8>) {
        let filter = Filter::all([
            Filter::level_at_most(Level::ERROR),
            Filter::text(TextPattern::substring("a").unwrap()),
            Filter::field("a.b=1").unwrap(),
            Filter::duration(..),
        ]);
        for signal in crate::signal::Signal::ALL {
            let _ = filter.matches(signal, &payload);
        }
    }
}
