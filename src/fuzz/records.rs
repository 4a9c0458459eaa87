//! Stored payloads: decoded, filtered, redacted, and written as lines.

use super::FuzzTarget;
use crate::{
    filter::{Encoded, Filter, IdKind, TextPattern},
    lines::{LineFormat, LineWriter},
    query::RawRecord,
    record::{
        CostCounts, Level, LogRecord, MetricsSnapshot, Record, ServerName, SpanRecord, TokenCounts,
        Value,
    },
    redact::Redactor,
    signal::Signal,
    store::fuzz_blocks,
    time::Timestamp,
};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value},
    resource::v1::Resource,
    trace::v1::{
        Span, Status,
        span::{Event, Link},
    },
};
use std::sync::LazyLock;

pub(super) const SIGNALS: [Signal; 3] = [Signal::Logs, Signal::Metrics, Signal::Traces];
const TIME: i64 = 1_778_000_000_000_000_000;

pub(super) static SERVER: LazyLock<ServerName> =
    LazyLock::new(|| ServerName::new("github").unwrap());

/// Filters that take different ways through a record.
pub(super) static FILTERS: LazyLock<Vec<Filter>> = LazyLock::new(|| {
    vec![
        Filter::level_at_least(Level::WARN),
        Filter::text(TextPattern::substring("call").unwrap()),
        !Filter::text(TextPattern::regex("c(a|b)+l{1,3}").unwrap()),
        Filter::field("number>=10").unwrap(),
        Filter::field("tool~sear.h").unwrap(),
        Filter::field("!a.b.0").unwrap(),
        Filter::trace_id(&"07".repeat(16)).unwrap(),
    ]
});

static REDACTOR: LazyLock<Redactor> = LazyLock::new(|| {
    let redactor = Redactor::new();
    redactor.register_value("swordfish-swordfish").unwrap();
    redactor
});

pub(super) fn targets() -> Vec<FuzzTarget> {
    let none = &[];
    vec![
        FuzzTarget::new("log payload", log, payloads(Signal::Logs), none),
        FuzzTarget::new("metrics payload", metrics, payloads(Signal::Metrics), none),
        FuzzTarget::new("span payload", span, payloads(Signal::Traces), none),
    ]
}

fn log(payload: &[u8]) {
    read_payload(Signal::Logs, payload);
}

fn metrics(payload: &[u8]) {
    read_payload(Signal::Metrics, payload);
}

fn span(payload: &[u8]) {
    read_payload(Signal::Traces, payload);
}

/// Reads a payload in every way.
fn read_payload(signal: Signal, payload: &[u8]) {
    let timestamp = Timestamp::from_unix_nanos(TIME);
    let encoded = Encoded { signal, payload };
    let _ = (encoded.level(), encoded.message(), encoded.name());
    let _ = (encoded.kind(), encoded.status(), encoded.duration());
    for kind in [IdKind::Trace, IdKind::Span, IdKind::Parent] {
        let _ = encoded.id(kind);
    }
    let _ = encoded.span_texts().count();
    let _ = encoded.value("a.b.0");
    for filter in FILTERS.iter() {
        let _ = filter.matches(signal, payload);
    }
    if let Ok(redacted) = REDACTOR.rules().redact_payload(signal, payload) {
        let again = REDACTOR.rules().redact_payload(signal, &redacted);
        assert!(again.is_ok(), "a redacted payload cannot be read");
    }
    for format in [LineFormat::Ndjson, LineFormat::Otlp] {
        let raw = RawRecord {
            server: &SERVER,
            signal,
            timestamp,
            sequence: 7,
            content: crate::store::ReadRecord::Payload(payload),
        };
        let (mut lines, mut out) = (LineWriter::new(format), Vec::new());
        let _ = lines.write(&raw, &mut out);
        lines.finish(&mut out);
        let _ = serde_json::to_vec(&raw.json(format));
    }
    let Ok(record) = Record::decode_payload(signal, timestamp, payload) else {
        return;
    };
    // What was read is stored the same from then on.
    let mut first = Vec::new();
    if record.encode_payload(&mut first).is_ok() {
        let back = Record::decode_payload(signal, record.timestamp(), &first).unwrap();
        let mut second = Vec::new();
        back.encode_payload(&mut second).unwrap();
        assert!(first == second, "a record changes when it is stored again");
    }
}

fn text(text: &str) -> AnyValue {
    AnyValue {
        value: Some(any_value::Value::StringValue(text.to_owned())),
    }
}

fn entry(key: &str, value: AnyValue) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(value),
        ..KeyValue::default()
    }
}

/// Records of one signal, as different as they can be.
pub(super) fn records(signal: Signal) -> Vec<Record> {
    let at = |number: i64| Timestamp::from_unix_nanos(TIME + number * 1_234_567);
    (0..12)
        .map(|number| match signal {
            Signal::Logs => {
                let log = LogRecord::new(at(number), Level::WARN, format!("call {number}"));
                let nested = Value::Object(vec![
                    (
                        "b".to_owned(),
                        Value::Array(vec![Value::Int(number), Value::Null]),
                    ),
                    ("c".to_owned(), Value::Float(0.5)),
                ]);
                Record::Log(match number % 4 {
                    0 => log,
                    1 => log.with("number", number).with("tool", "search"),
                    2 => log.with("a", nested).with("trace_id", "07".repeat(16)),
                    _ => log
                        .with("token", "swordfish-swordfish")
                        .with("big", u64::MAX),
                })
            }
            Signal::Metrics => {
                let mut snapshot = MetricsSnapshot::new(at(number));
                snapshot.total = TokenCounts {
                    input_tokens: number,
                    output_tokens: 2 * number,
                    total_tokens: 3 * number,
                };
                snapshot.reset = number == 0;
                if number % 3 == 1 {
                    snapshot.cost_total = Some(CostCounts {
                        input_micro_usd: number,
                        ..CostCounts::default()
                    });
                    snapshot.extra = vec![("note".to_owned(), Value::String("a".repeat(9)))];
                }
                Record::Metrics(snapshot)
            }
            Signal::Traces => {
                let start = at(number).unix_nanos().cast_unsigned();
                let id = u8::try_from(number).unwrap();
                let mut record = SpanRecord::new(Span {
                    trace_id: vec![id / 3 + 1; 16],
                    span_id: vec![id + 1; 8],
                    name: "tools/call".to_owned(),
                    start_time_unix_nano: start,
                    end_time_unix_nano: start + 5_000_000,
                    attributes: vec![entry("tool.name", text("search"))],
                    ..Span::default()
                });
                if number % 3 == 1 {
                    record.resource = Some(Resource {
                        attributes: vec![entry("service.name", text("github"))],
                        ..Resource::default()
                    });
                    record.scope = Some(InstrumentationScope {
                        name: "scope".to_owned(),
                        ..InstrumentationScope::default()
                    });
                    let list = any_value::Value::ArrayValue(ArrayValue {
                        values: vec![text("one")],
                    });
                    record
                        .span
                        .attributes
                        .push(entry("list", AnyValue { value: Some(list) }));
                    record.span.events = vec![Event {
                        name: "exception".to_owned(),
                        attributes: vec![entry("exception.message", text("denied"))],
                        ..Event::default()
                    }];
                    record.span.links = vec![Link {
                        trace_id: vec![9; 16],
                        ..Link::default()
                    }];
                    record.span.status = Some(Status {
                        code: 2,
                        message: "denied".to_owned(),
                    });
                }
                Record::Span(Box::new(record))
            }
        })
        .collect()
}

fn payloads(signal: Signal) -> Vec<Vec<u8>> {
    let payload = |record: &Record| {
        let mut payload = Vec::new();
        record.encode_payload(&mut payload).unwrap();
        payload
    };
    records(signal).iter().map(payload).collect()
}

/// Blocks of each signal, of few records and of many, and of payloads that no codec understands.
fn blocks() -> impl Iterator<Item = (Signal, Vec<(i64, Vec<u8>)>)> {
    SIGNALS.into_iter().flat_map(|signal| {
        let times = records(signal)
            .into_iter()
            .map(|it| it.timestamp().unix_nanos());
        let few: Vec<(i64, Vec<u8>)> = times.zip(payloads(signal)).collect();
        let many = (0..300).map(|number| {
            let (time, payload) = &few[number % few.len()];
            (
                time + i64::try_from(number).unwrap() * 1_000_000_000,
                payload.clone(),
            )
        });
        let verbatim = (0..5).map(|number| (TIME + number, vec![0xc1; 9]));
        let blocks = [few.clone(), many.collect(), verbatim.collect()];
        blocks.map(|records| (signal, records))
    })
}

pub(super) fn bodies() -> Vec<Vec<u8>> {
    blocks()
        .map(|(signal, records)| fuzz_blocks::body_input(signal, &records))
        .collect()
}

pub(super) fn sections() -> Vec<Vec<u8>> {
    blocks()
        .map(|(signal, records)| fuzz_blocks::sections_input(signal, &records))
        .collect()
}

pub(super) fn summaries() -> Vec<Vec<u8>> {
    blocks()
        .filter_map(|(signal, records)| fuzz_blocks::summary_input(signal, &records))
        .collect()
}
