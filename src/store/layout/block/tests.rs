//! Tests of the block format.

use super::*;
use crate::{
    filter::{
        TextPattern,
        arbitrary::{Draw, Said},
    },
    record::{Level, LogRecord, Record, SpanRecord},
};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span::Event},
};
use proptest::prelude::*;
use prost::Message as _;

fn encode_and_decode(signal: Signal, payloads: &[Vec<u8>]) -> (BlockHeader, usize) {
    let records: Vec<BlockRecord<'_>> = payloads
        .iter()
        .enumerate()
        .map(|(index, payload)| BlockRecord {
            timestamp: 1_778_000_000_000_000_000 + i64::try_from(index).unwrap() * 1_234_567,
            sequence: 77 + index as u64,
            payload,
        })
        .collect();
    let EncodedBlock { header, body, .. } = BlockEncoder::new().encode(signal, &records);
    let header = BlockHeader::from_bytes(&header.to_bytes()).unwrap();
    let block = DecodedBlock::decode(&header, &body).unwrap();
    assert_eq!(block.len(), records.len());
    let timestamps = records.iter().map(|record| record.timestamp);
    assert!(timestamps.eq(header.timestamps(&body).unwrap()));
    for (index, record) in records.iter().enumerate() {
        assert_eq!(block.key(index), Some((record.timestamp, record.sequence)));
        assert_eq!(
            block.payload(index),
            Some(record.payload),
            "payload {index}"
        );
    }
    (header, body.len())
}

/// Any `MessagePack` value, in the shortest form or not.
fn messagepack() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        Just(vec![0xc0]),
        Just(vec![0xc2]),
        Just(vec![0xc3]),
        any::<i64>().prop_map(|value| {
            let mut out = Vec::new();
            rmp::encode::write_sint(&mut out, value).unwrap();
            out
        }),
        any::<i16>().prop_map(|value| {
            let mut out = vec![0xd3];
            out.extend(i64::from(value).to_be_bytes());
            out
        }),
        any::<u64>().prop_map(|value| {
            let mut out = Vec::new();
            rmp::encode::write_uint(&mut out, value).unwrap();
            out
        }),
        any::<f64>().prop_map(|value| {
            let mut out = Vec::new();
            rmp::encode::write_f64(&mut out, value).unwrap();
            out
        }),
        "[0-9a-f]{16}|.{0,40}".prop_map(|text| {
            let mut out = Vec::new();
            rmp::encode::write_str(&mut out, &text).unwrap();
            out
        }),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| {
            let mut out = vec![0xdb];
            out.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
            out.extend(bytes);
            out
        }),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| {
            let mut out = Vec::new();
            rmp::encode::write_ext_meta(&mut out, u32::try_from(bytes.len()).unwrap(), 1).unwrap();
            out.extend(bytes);
            out
        }),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(|items| {
                let mut out = Vec::new();
                rmp::encode::write_array_len(&mut out, u32::try_from(items.len()).unwrap())
                    .unwrap();
                out.extend(items.concat());
                out
            }),
            prop::collection::vec(("[a-c]{1,2}", inner), 0..6).prop_map(|entries| {
                let mut out = Vec::new();
                rmp::encode::write_map_len(&mut out, u32::try_from(entries.len()).unwrap())
                    .unwrap();
                for (key, value) in entries {
                    rmp::encode::write_str(&mut out, &key).unwrap();
                    out.extend(value);
                }
                out
            }),
        ]
    })
}

fn any_value() -> impl Strategy<Value = AnyValue> {
    prop_oneof![
        Just(AnyValue { value: None }),
        "[0-9a-f]{16}|.{0,20}".prop_map(|text| AnyValue {
            value: Some(any_value::Value::StringValue(text))
        }),
        any::<i64>().prop_map(|value| AnyValue {
            value: Some(any_value::Value::IntValue(value))
        }),
        any::<f64>().prop_map(|value| AnyValue {
            value: Some(any_value::Value::DoubleValue(value))
        }),
    ]
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    prop::collection::vec(
        ("[a-c]{1,2}", prop::option::of(any_value())).prop_map(|(key, value)| KeyValue {
            key,
            value,
            ..KeyValue::default()
        }),
        0..5,
    )
}

fn span_payload() -> impl Strategy<Value = Vec<u8>> {
    (
        attributes(),
        attributes(),
        attributes(),
        any::<[u8; 16]>(),
        any::<u64>(),
        "[a-z ]{0,200}",
    )
        .prop_map(|(resource, span, event, trace_id, end, message)| {
            ResourceSpans {
                resource: Some(Resource {
                    attributes: resource,
                    ..Resource::default()
                }),
                scope_spans: vec![ScopeSpans {
                    spans: vec![Span {
                        trace_id: trace_id.to_vec(),
                        end_time_unix_nano: end,
                        attributes: span,
                        events: vec![Event {
                            attributes: event,
                            ..Event::default()
                        }],
                        status: Some(Status { message, code: 2 }),
                        ..Span::default()
                    }],
                    ..ScopeSpans::default()
                }],
                ..ResourceSpans::default()
            }
            .encode_to_vec()
        })
}

proptest! {
    #[test]
    fn messagepack_comes_back(payloads in prop::collection::vec(messagepack(), 1..60)) {
        let (header, _) = encode_and_decode(Signal::Logs, &payloads);
        prop_assert_eq!(header.codec, Codec::Columns);
    }

    #[test]
    fn spans_come_back(payloads in prop::collection::vec(span_payload(), 1..30)) {
        let (header, _) = encode_and_decode(Signal::Traces, &payloads);
        prop_assert_eq!(header.codec, Codec::Columns);
    }

    #[test]
    fn any_bytes_come_back(payloads in prop::collection::vec(any::<Vec<u8>>(), 1..30)) {
        for signal in Signal::ALL {
            encode_and_decode(signal, &payloads);
        }
    }

    #[test]
    fn a_flipped_bit_is_found(
        payloads in prop::collection::vec(messagepack(), 1..10),
        at: prop::sample::Index,
        bit in 0u8..8,
    ) {
        let records: Vec<_> = payloads
            .iter()
            .map(|payload| BlockRecord { timestamp: 0, sequence: 0, payload })
            .collect();
        let EncodedBlock { header, body, .. } = BlockEncoder::new().encode(Signal::Logs, &records);
        let mut bytes = header.to_bytes().to_vec();
        bytes.extend(body);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let (header, body) = bytes.split_at(HEADER_BYTES);
        if let Ok(header) = BlockHeader::from_bytes(header) {
            prop_assert_eq!(
                DecodedBlock::decode(&header, body).unwrap_err(),
                BlockError::Checksum
            );
            prop_assert_eq!(header.timestamps(body).unwrap_err(), BlockError::Checksum);
        }
    }

    /// Decoding must not panic even if the checksum matches: another program may have written the
    /// bytes.
    #[test]
    fn no_body_makes_decoding_panic(
        payloads in prop::collection::vec(messagepack(), 1..10),
        at: prop::sample::Index,
        byte: u8,
        count in 0u32..20,
    ) {
        let records: Vec<_> = payloads
            .iter()
            .map(|payload| BlockRecord { timestamp: 0, sequence: 0, payload })
            .collect();
        let EncodedBlock { mut header, mut body, .. } = BlockEncoder::new().encode(Signal::Logs, &records);
        let at = at.index(body.len());
        body[at] = byte;
        header.count = count;
        header.checksum = header.checksum_of(&body);
        let _ = DecodedBlock::decode(&header, &body);
        let _ = header.timestamps(&body);
    }
}

fn encoded(records: &[Record]) -> Vec<(Record, Vec<u8>)> {
    let payload = |record: &Record| {
        let mut payload = Vec::new();
        record.encode_payload(&mut payload).ok()?;
        Some((record.clone(), payload))
    };
    records.iter().filter_map(payload).collect()
}

/// The records that a filter finds in a block are those that it matches one by one.
fn check_selection(
    signal: Signal,
    payloads: &[(Record, Vec<u8>)],
    seed: u64,
) -> Result<(), TestCaseError> {
    // Enough for a summary with a filter.
    let records: Vec<BlockRecord<'_>> = payloads
        .iter()
        .cycle()
        .zip(0..300)
        .map(|((_, payload), number)| BlockRecord {
            timestamp: number,
            sequence: number.cast_unsigned(),
            payload,
        })
        .collect();
    if records.is_empty() {
        return Ok(());
    }
    let EncodedBlock {
        header,
        body,
        summary,
    } = BlockEncoder::new().encode(signal, &records);
    let decoded = DecodedBlock::decode(&header, &body).unwrap();
    prop_assert_eq!(&summary, &summarize(signal, &header, &decoded));
    let summary = summary
        .as_deref()
        .and_then(|it| Summary::read(signal, &header, it));
    let values: Vec<Record> = payloads.iter().map(|(record, _)| record.clone()).collect();
    let said = Said::by(&values);
    let mut draw = Draw(seed);
    for _ in 0..8 {
        let filter = said.filter(&mut draw, 2);
        let wanted = Wanted {
            signal,
            filter: &filter,
            first: (i64::MIN, 0),
            last: (i64::MAX, u64::MAX),
            since_sequence: 0,
        };
        let block = DecodedBlock::decode_matching(&header, &body, &wanted).unwrap();
        let found: Vec<_> = block
            .records()
            .map(|it| (it.sequence, it.payload))
            .collect();
        let expected: Vec<_> = records
            .iter()
            .filter(|record| filter.matches(signal, record.payload))
            .map(|record| (record.sequence, record.payload))
            .collect();
        let may_match = summary.as_ref().is_none_or(|it| it.may_match(&filter));
        prop_assert!(may_match || expected.is_empty(), "{:?}", filter);
        prop_assert_eq!(found, expected, "{:?}", filter);
    }
    Ok(())
}

fn any_log() -> impl Strategy<Value = LogRecord> {
    (
        prop_oneof![-8..13i32, any::<i32>()],
        "[a-cK\u{17f}\u{212a} ]{0,9}|.{0,20}|request [0-9]{5} forwarded|er\u{1b}\\[31mror",
        crate::record::arbitrary::any_entries(),
        prop::option::of("[0-9a-f]{32}|[0-9A-F]{32}|.{0,5}"),
    )
        .prop_map(|(level, message, attributes, trace_id)| {
            let mut log = LogRecord::new(crate::Timestamp::default(), Level(level), message);
            log.attributes = attributes;
            log.attributes.extend(
                trace_id
                    .into_iter()
                    .map(|id| ("trace_id".to_owned(), id.into())),
            );
            log
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn logs_are_selected_as_one_by_one(
        logs in prop::collection::vec(any_log(), 1..40),
        seed: u64,
    ) {
        let logs: Vec<Record> = logs.into_iter().map(Record::Log).collect();
        check_selection(Signal::Logs, &encoded(&logs), seed)?;
    }

    #[test]
    fn spans_are_selected_as_one_by_one(
        spans in prop::collection::vec(crate::otlp::arbitrary::span(), 1..20),
        seed: u64,
    ) {
        let spans: Vec<Record> = spans
            .into_iter()
            .map(|span| Record::Span(Box::new(SpanRecord::new(span))))
            .collect();
        check_selection(Signal::Traces, &encoded(&spans), seed)?;
    }
}

/// A block of 4,096 logs that a gateway might write.
fn gateway_block() -> EncodedBlock {
    let payloads: Vec<Vec<u8>> = (0..4096_u64)
        .map(|number| {
            let log = LogRecord::new(
                crate::Timestamp::from_unix_nanos(number.cast_signed()),
                if number % 100 == 0 {
                    Level::WARN
                } else {
                    Level::INFO
                },
                format!("request {number} forwarded"),
            )
            .with(
                "tool",
                ["search", "fetch", "list"][usize::try_from(number % 3).unwrap()],
            )
            .with("duration_ms", number * 7919 % 5000)
            .with("attempt", number % 4)
            .with("trace_id", trace_id(number));
            let mut payload = Vec::new();
            log.encode_payload(&mut payload).unwrap();
            payload
        })
        .collect();
    let records: Vec<BlockRecord<'_>> = payloads
        .iter()
        .zip(0..)
        .map(|(payload, number)| BlockRecord {
            timestamp: number,
            sequence: number.cast_unsigned(),
            payload,
        })
        .collect();
    BlockEncoder::new().encode(Signal::Logs, &records)
}

fn trace_id(number: u64) -> String {
    let half = |seed| xxhash_rust::xxh3::xxh3_64_with_seed(&number.to_le_bytes(), seed);
    format!("{:016x}{:016x}", half(0), half(1))
}

#[test]
fn a_summary_fits_a_page_and_excludes_what_is_not_there() {
    let EncodedBlock {
        header, summary, ..
    } = gateway_block();
    let bytes = summary.unwrap();
    assert!(
        bytes.len() > 3000 && bytes.len() <= crate::store::layout::footprint::SUMMARY_BYTES_MAX
    );
    let summary = Summary::read(Signal::Logs, &header, &bytes).unwrap();
    let text = |text: &str| Filter::text(TextPattern::substring(text).unwrap());
    let field = |text: &str| Filter::field(text).unwrap();
    for filter in [
        Filter::trace_id(&trace_id(77)).unwrap(),
        text("FORWARD"),
        text("search"),
        field("tool=fetch"),
        field("attempt=3"),
        // Not known: too many values, a comparison, a part of an id.
        field("duration_ms=12"),
        field("duration_ms>100000"),
        Filter::trace_id("abc").unwrap(),
        Filter::level_at_least(Level::WARN),
        !Filter::level_at_least(Level::WARN),
        Filter::any([text("quasar"), text("forwarded")]),
    ] {
        assert!(summary.may_match(&filter), "{filter:?}");
    }
    for filter in [
        text("quasar"),
        Filter::text(TextPattern::regex("quasar [0-9]+ forwarded").unwrap()),
        field("tool=quasar"),
        field("attempt=4"),
        field("quasar"),
        field("quasar>5"),
        Filter::level_at_least(Level::ERROR),
        !Filter::level_at_most(Level::WARN),
        Filter::all([text("quasar"), text("forwarded")]),
        Filter::failed(),
    ] {
        assert!(!summary.may_match(&filter), "{filter:?}");
    }
    let absent = (5000..6000).map(|number| Filter::trace_id(&trace_id(number)).unwrap());
    let maybe = absent.filter(|absent| summary.may_match(absent)).count();
    assert!(
        maybe < 100,
        "{maybe} of 1000 ids that are absent may be there"
    );
    assert_eq!(
        summary.levels().unwrap(),
        [(Level::INFO, 4055), (Level::WARN, 41)]
    );

    // A summary that is not whole, or of another block, is none.
    for at in [0, 1, 9, 12, bytes.len() / 2, bytes.len() - 1] {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert!(
            Summary::read(Signal::Logs, &header, &changed).is_none(),
            "{at}"
        );
        assert!(Summary::read(Signal::Logs, &header, &bytes[..at]).is_none());
    }
    let mut other = header;
    other.checksum ^= 1;
    assert!(Summary::read(Signal::Logs, &other, &bytes).is_none());
}

#[test]
fn too_many_shapes_fall_back_to_rows() {
    let payloads: Vec<Vec<u8>> = (0..2000)
        .map(|index| {
            let mut out = Vec::new();
            rmp::encode::write_map_len(&mut out, 1).unwrap();
            rmp::encode::write_str(&mut out, &format!("key{index}")).unwrap();
            rmp::encode::write_sint(&mut out, index).unwrap();
            out
        })
        .collect();
    let (header, _) = encode_and_decode(Signal::Logs, &payloads);
    assert_eq!(header.codec, Codec::Verbatim);
}

#[test]
fn span_classes_bound_their_spans() {
    assert_eq!(span_class(5, 5), 0);
    assert_eq!(span_class(i64::MIN, i64::MAX), 64);
    for (first, last) in [
        (0, 1),
        (0, 255),
        (0, 256),
        (-7, 1 << 40),
        (i64::MIN, i64::MAX),
    ] {
        assert!(span_max(span_class(first, last)) >= last.abs_diff(first));
    }
}

#[test]
fn records_are_cut_into_blocks_of_even_size() {
    let record = BlockRecord {
        timestamp: 0,
        sequence: 0,
        payload: &[0xc0],
    };
    assert_eq!(
        BlockEncoder::cut(&vec![record; 100], RECORDS_MAX, PAYLOAD_BYTES_TARGET),
        100
    );
    assert_eq!(
        BlockEncoder::cut(
            &vec![record; RECORDS_MAX],
            RECORDS_MAX,
            PAYLOAD_BYTES_TARGET
        ),
        RECORDS_MAX
    );
    assert_eq!(
        BlockEncoder::cut(
            &vec![record; RECORDS_MAX + 4],
            RECORDS_MAX,
            PAYLOAD_BYTES_TARGET
        ),
        RECORDS_MAX / 2 + 2
    );
    let large = vec![0; PAYLOAD_BYTES_TARGET];
    let record = BlockRecord {
        timestamp: 0,
        sequence: 0,
        payload: &large,
    };
    assert_eq!(
        BlockEncoder::cut(&[record, record], RECORDS_MAX, PAYLOAD_BYTES_TARGET),
        1
    );
}
