//! Tests of the encoding of payloads.

use super::*;
use crate::record::arbitrary::{any_entries, any_utc_offset};
use opentelemetry_proto::tonic::{
    common::v1::{ArrayValue, InstrumentationScope, KeyValueList},
    resource::v1::Resource,
    trace::v1::{ScopeSpans, Status, span},
};
use proptest::prelude::*;

const AT: Timestamp = Timestamp::from_unix_nanos(1_778_297_943_123_456_789);

fn encoded(record: &LogRecord) -> Vec<u8> {
    let mut out = Vec::new();
    record.encode_payload(&mut out).unwrap();
    out
}

/// Equality by bits: NaN is equal to itself, and -0.0 is not 0.0.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        // All NaN are stored as one.
        (Value::Float(a), Value::Float(b)) if a.is_nan() => b.to_bits() == f64::NAN.to_bits(),
        (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => same_entries(a, b),
        _ => a == b,
    }
}

fn same_entries(a: &[(String, Value)], b: &[(String, Value)]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && same(&a.1, &b.1))
}

/// A value nested in `levels` alternating arrays and objects.
fn nested(levels: usize) -> Value {
    (0..levels).fold(Value::Null, |inner, level| {
        if level % 2 == 0 {
            Value::Array(vec![inner])
        } else {
            Value::Object(vec![("k".into(), inner)])
        }
    })
}

#[test]
fn a_log_has_the_documented_bytes() {
    let mut record = LogRecord::new(AT, Level::WARN, "hi")
        .with("a", 1_i64)
        .with("a", Value::Number("1e400".into()))
        .with("u", u64::MAX)
        .with("n", Value::Null);
    record.utc_offset = UtcOffset::from_hms(-4, 0, 0).unwrap();
    let mut expected = vec![0x94, 0xd1, 0xff, 0x10, 4, 0xa2, b'h', b'i', 0x84];
    expected.extend([0xa1, b'a', 1, 0xa1, b'a', 0xc7, 5, 1]);
    expected.extend(b"1e400");
    expected.extend([0xa1, b'u', 0xcf, 255, 255, 255, 255, 255, 255, 255, 255]);
    expected.extend([0xa1, b'n', 0xc0]);
    assert_eq!(encoded(&record), expected);
    assert_eq!(LogRecord::decode_payload(AT, &expected).unwrap(), record);
}

#[test]
fn a_snapshot_has_the_documented_bytes() {
    let mut snapshot = MetricsSnapshot::new(AT);
    snapshot.reset = true;
    snapshot.cost_reset = true;
    snapshot.diff.output_tokens = 2;
    snapshot.total.total_tokens = -1;
    snapshot.cost_total = Some(CostCounts {
        input_micro_usd: 1,
        output_micro_usd: 2,
        cache_read_micro_usd: 3,
        cache_write_micro_usd: 4,
    });
    let mut out = Vec::new();
    snapshot.encode_payload(&mut out).unwrap();
    assert_eq!(
        out,
        [
            0x97, 0, 3, 0x93, 0, 2, 0, 0x93, 0, 0, 0xff, 0xc0, 0x94, 1, 2, 3, 4, 0x80
        ]
    );
    assert_eq!(MetricsSnapshot::decode_payload(AT, &out).unwrap(), snapshot);
}

#[test]
fn nesting_is_bounded_where_records_are_made() {
    let at_limit = LogRecord::new(AT, Level::INFO, "").with("k", nested(DEPTH_MAX - 1));
    let payload = encoded(&at_limit);
    assert_eq!(LogRecord::decode_payload(AT, &payload).unwrap(), at_limit);

    let mut out = b"before".to_vec();
    let beyond = LogRecord::new(AT, Level::INFO, "").with("deep", nested(DEPTH_MAX));
    let error = beyond.encode_payload(&mut out).unwrap_err();
    assert_eq!(error, PayloadError::TooDeep { key: "deep".into() });
    let mut snapshot = MetricsSnapshot::new(AT);
    snapshot.extra = beyond.attributes;
    assert_eq!(snapshot.encode_payload(&mut out).unwrap_err(), error);
    assert_eq!(out, b"before");
}

#[test]
fn nesting_is_bounded_where_payloads_are_read() {
    // A log with one attribute: a million nested arrays.
    let mut payload = vec![0x94, 0, 0, 0xa0, 0x81, 0xa0];
    payload.resize(1_000_000, 0x91);
    assert!(matches!(
        LogRecord::decode_payload(AT, &payload),
        Err(PayloadError::Unexpected { .. })
    ));
}

#[test]
fn lengths_are_not_believed() {
    for head in [[0xdd, 255, 255, 255, 255], [0xdf, 255, 255, 255, 255]] {
        let mut payload = vec![0x94, 0, 0, 0xa0, 0x81, 0xa0];
        payload.extend(head);
        payload.resize(1000, 0xc0);
        assert_eq!(
            LogRecord::decode_payload(AT, &payload).unwrap_err(),
            PayloadError::Truncated { offset: 11 }
        );
    }
}

#[test]
fn what_no_encoder_writes_is_refused() {
    for (payload, offset) in [
        (&[0x93, 0, 0, 0xa0][..], 0),                      // too few parts
        (&[0x94, 0xcd, 0x06, 0x18, 0, 0xa0, 0x80][..], 1), // 26 hours
        (&[0x94, 0, 0xce, 255, 255, 255, 255, 0xa0, 0x80][..], 2), // level beyond 32 bits
        (&[0x94, 0, 0, 0xa1, 0xff, 0x80][..], 3),          // not UTF-8
        (&[0x94, 0, 0, 0xa0, 0x81, 1, 1][..], 5),          // a key that is not a string
        (&[0x94, 0, 0, 0xa0, 0x81, 0xa0, 0xc4, 0][..], 6), // binary
        (&[0x94, 0, 0, 0xa0, 0x81, 0xa0, 0xd4, 2, 0][..], 6), // another extension
        (&[0x94, 0, 0, 0xa0, 0x80, 0][..], 5),             // a byte too many
    ] {
        match LogRecord::decode_payload(AT, payload) {
            Err(PayloadError::Unexpected { offset: found, .. }) => assert_eq!(found, offset),
            other => panic!("{payload:?}: {other:?}"),
        }
    }
}

#[test]
fn a_span_payload_is_what_prost_makes_of_its_envelope() {
    for record in [SpanRecord::default(), full_span(), {
        let mut record = full_span();
        record.resource = Some(Resource::default());
        record.scope = Some(InstrumentationScope::default());
        record.span.name = "n".repeat(300);
        record
    }] {
        let mut out = Vec::new();
        record.encode_payload(&mut out).unwrap();
        assert_eq!(out, envelope(&record).encode_to_vec());
        assert_eq!(SpanRecord::decode_payload(&out).unwrap(), record);
    }
}

#[test]
fn a_span_payload_holds_one_span() {
    let scope = |spans: usize| ScopeSpans {
        spans: vec![Span::default(); spans],
        ..ScopeSpans::default()
    };
    for (scope_spans, scopes, spans) in [
        (vec![], 0, 0),
        (vec![scope(1), scope(1)], 2, 0),
        (vec![scope(0)], 1, 0),
        (vec![scope(2)], 1, 2),
    ] {
        let payload = ResourceSpans {
            scope_spans,
            ..ResourceSpans::default()
        }
        .encode_to_vec();
        assert_eq!(
            SpanRecord::decode_payload(&payload).unwrap_err(),
            PayloadError::SpanCount { scopes, spans }
        );
    }
}

#[test]
fn a_span_is_refused_exactly_when_prost_would_not_decode_it() {
    type Place = fn(&mut SpanRecord, KeyValue);
    let places: [Place; 5] = [
        |record, entry| record.span.attributes.push(entry),
        |record, entry| {
            record.span.events.push(span::Event {
                attributes: vec![entry],
                ..span::Event::default()
            });
        },
        |record, entry| {
            record.span.links.push(span::Link {
                attributes: vec![entry],
                ..span::Link::default()
            });
        },
        |record, entry| {
            record.resource = Some(Resource {
                attributes: vec![entry],
                ..Resource::default()
            });
        },
        |record, entry| {
            record.scope = Some(InstrumentationScope {
                attributes: vec![entry],
                ..InstrumentationScope::default()
            });
        },
    ];
    for place in places {
        for wrap in [in_array as fn(AnyValue) -> AnyValue, in_list] {
            let (mut fitted, mut refused) = (0, 0);
            for levels in 20..60 {
                let value = (0..levels).fold(AnyValue::default(), |inner, _| wrap(inner));
                let mut record = SpanRecord::default();
                place(&mut record, key_value("deep", value));
                let decodes = ResourceSpans::decode(&*envelope(&record).encode_to_vec()).is_ok();
                let mut out = Vec::new();
                match record.encode_payload(&mut out) {
                    Ok(()) => {
                        fitted += 1;
                        assert!(decodes, "{levels}");
                        assert_eq!(SpanRecord::decode_payload(&out).unwrap(), record);
                    }
                    Err(error) => {
                        refused += 1;
                        assert!(!decodes, "{levels}");
                        assert_eq!(error, PayloadError::TooDeep { key: "deep".into() });
                        assert!(out.is_empty());
                    }
                }
            }
            assert!(fitted > 0 && refused > 0);
        }
    }
}

fn in_array(inner: AnyValue) -> AnyValue {
    AnyValue {
        value: Some(any_value::Value::ArrayValue(ArrayValue {
            values: vec![inner],
        })),
    }
}

fn in_list(inner: AnyValue) -> AnyValue {
    AnyValue {
        value: Some(any_value::Value::KvlistValue(KeyValueList {
            values: vec![key_value("k", inner)],
        })),
    }
}

fn key_value(key: &str, value: AnyValue) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(value),
        ..KeyValue::default()
    }
}

fn envelope(record: &SpanRecord) -> ResourceSpans {
    let record = record.clone();
    ResourceSpans {
        resource: record.resource,
        scope_spans: vec![ScopeSpans {
            scope: record.scope,
            spans: vec![record.span],
            schema_url: record.scope_schema_url,
        }],
        schema_url: record.resource_schema_url,
    }
}

fn full_span() -> SpanRecord {
    SpanRecord {
        resource: Some(Resource {
            attributes: vec![key_value("service.name", in_list(AnyValue::default()))],
            dropped_attributes_count: 3,
            ..Resource::default()
        }),
        resource_schema_url: "https://example.com/resource".into(),
        scope: Some(InstrumentationScope {
            name: "scope".into(),
            ..InstrumentationScope::default()
        }),
        scope_schema_url: "https://example.com/scope".into(),
        span: Span {
            trace_id: vec![1; 16],
            span_id: vec![2; 8],
            name: "call".into(),
            start_time_unix_nano: 1,
            end_time_unix_nano: u64::MAX,
            status: Some(Status::default()),
            ..Span::default()
        },
    }
}

proptest! {
    #[test]
    fn every_log_comes_back(
        message in any::<String>(),
        level in any::<i32>(),
        utc_offset in any_utc_offset(),
        attributes in any_entries(),
    ) {
        let record = LogRecord { timestamp: AT, utc_offset, level: Level(level), message, attributes };
        let back = LogRecord::decode_payload(AT, &encoded(&record)).unwrap();
        prop_assert!(same_entries(&record.attributes, &back.attributes), "{:?}", back);
        prop_assert_eq!(
            (back.timestamp, back.utc_offset, back.level, back.message),
            (AT, utc_offset, record.level, record.message)
        );
    }

    #[test]
    fn every_snapshot_comes_back(
        flags in any::<(bool, bool)>(),
        tokens in any::<[i64; 6]>(),
        costs in any::<[Option<[i64; 4]>; 2]>(),
        utc_offset in any_utc_offset(),
        interval in any::<Option<([i64; 8], (bool, bool))>>(),
        extra in any_entries(),
    ) {
        let counts = |counts: &[i64]| TokenCounts {
            input_tokens: counts[0],
            output_tokens: counts[1],
            total_tokens: counts[2],
        };
        let [cost_diff, cost_total] = costs.map(|costs| costs.map(|costs| CostCounts {
            input_micro_usd: costs[0],
            output_micro_usd: costs[1],
            cache_read_micro_usd: costs[2],
            cache_write_micro_usd: costs[3],
        }));
        let mut snapshot = MetricsSnapshot {
            timestamp: AT,
            utc_offset,
            reset: flags.0,
            cost_reset: flags.1,
            diff: counts(&tokens[..3]),
            total: counts(&tokens[3..]),
            cost_diff,
            cost_total,
            extra,
            interval: interval.map(|(counters, cleared)| Interval {
                tokens: counts(&counters[..3]),
                cost: CostCounts {
                    input_micro_usd: counters[3],
                    output_micro_usd: counters[4],
                    cache_read_micro_usd: counters[5],
                    cache_write_micro_usd: counters[6],
                },
                tokens_cleared: cleared.0,
                cost_cleared: cleared.1,
                counting_since: Timestamp::from_unix_nanos(counters[7]),
            }),
        };
        let mut out = Vec::new();
        snapshot.encode_payload(&mut out).unwrap();
        let mut back = MetricsSnapshot::decode_payload(AT, &out).unwrap();
        prop_assert!(same_entries(&snapshot.extra, &back.extra));
        // In a line there is no interval.
        let mut line = Vec::new();
        let without = MetricsSnapshot { interval: None, ..snapshot.clone() };
        without.encode_payload(&mut line).unwrap();
        prop_assert_eq!(&*MetricsSnapshot::line_payload(&out), &line[..]);
        snapshot.extra.clear();
        back.extra.clear();
        prop_assert_eq!(snapshot, back);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = LogRecord::decode_payload(AT, &bytes);
        let _ = MetricsSnapshot::decode_payload(AT, &bytes);
        let _ = SpanRecord::decode_payload(&bytes);
    }

    #[test]
    fn no_damaged_payload_panics_or_reads_as_another_length(
        attributes in any_entries(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut record = LogRecord::new(AT, Level::INFO, "message");
        record.attributes = attributes;
        let mut payload = encoded(&record);
        let cut = at.index(payload.len());
        prop_assert!(LogRecord::decode_payload(AT, &payload[..cut]).is_err());
        payload[cut] = byte;
        if let Ok(other) = LogRecord::decode_payload(AT, &payload) {
            let _ = encoded(&other);
        }
    }
}
