//! Tests of the block format.

use super::*;
use crate::{
    filter::{
        TextPattern,
        arbitrary::{Draw, Said},
    },
    record::{Level, LogRecord, Record, SpanRecord, Value},
    time::Timestamp,
};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, KeyValueList, any_value},
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
        prop_assert_eq!(header.codec, Codec::Packed);
    }

    #[test]
    fn spans_come_back(payloads in prop::collection::vec(span_payload(), 1..30)) {
        let (header, _) = encode_and_decode(Signal::Traces, &payloads);
        prop_assert_eq!(header.codec, Codec::Packed);
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

/// Templates, ids and numbers, many of them alike.
fn varied_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "request [0-9]{1,6} forwarded",
        "upstream answered [0-9]{1,20} bytes in 0?[0-9]{1,3}\\.[0-9]{1,4} ms",
        "GET /repos/[a-c]/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        "commit [0-9a-f]{40} is [0-9a-f]{8,9}",
        "[\u{0}-\u{5}]{0,3}[0-9]{0,3}",
        "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        "[0-9a-f]{16}",
        Just("tool call completed".to_owned()),
    ]
}

/// Payloads of one to three shapes, whose values are drawn from small and large pools.
fn alike_payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let texts = prop::collection::vec(varied_text(), 1..40);
    (texts, any::<u64>(), 1u64..4, 1usize..700, 0u32..64).prop_map(
        |(texts, seed, shapes, count, shift)| {
            let mut random = seed;
            let mut next = move || {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                random >> 16
            };
            let payload = |_| {
                let shape = next() % shapes;
                let text = &texts[usize::try_from(next() % texts.len() as u64).unwrap()];
                // Some texts are the same, and some differ in a number.
                let text = if next() % 2 == 0 {
                    text.clone()
                } else {
                    format!("{text} {}", next() % 5000)
                };
                let mut out = Vec::new();
                rmp::encode::write_map_len(&mut out, u32::try_from(shape).unwrap() + 3).unwrap();
                rmp::encode::write_str(&mut out, "text").unwrap();
                rmp::encode::write_str(&mut out, &text).unwrap();
                rmp::encode::write_str(&mut out, "shape").unwrap();
                rmp::encode::write_sint(&mut out, shape.cast_signed()).unwrap();
                rmp::encode::write_str(&mut out, "number").unwrap();
                rmp::encode::write_sint(&mut out, (next() << 16 >> shift).cast_signed()).unwrap();
                for extra in 0..shape {
                    rmp::encode::write_str(&mut out, &format!("extra{extra}")).unwrap();
                    rmp::encode::write_f64(&mut out, f64::from_bits(next())).unwrap();
                }
                out
            };
            (0..count).map(payload).collect()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn templates_and_orders_come_back(payloads in alike_payloads()) {
        let (header, _) = encode_and_decode(Signal::Logs, &payloads);
        prop_assert_eq!(header.codec, Codec::Packed);
    }

    /// A part of a block is that part of the whole.
    #[test]
    fn a_window_has_its_records(
        payloads in alike_payloads(),
        spans in prop::collection::vec(span_payload(), 1..30),
        start: prop::sample::Index,
        end: prop::sample::Index,
        is_span: bool,
    ) {
        let (signal, payloads) =
            if is_span { (Signal::Traces, spans) } else { (Signal::Logs, payloads) };
        let records: Vec<BlockRecord<'_>> = payloads
            .iter()
            .zip(0..)
            .map(|(payload, number)| BlockRecord {
                timestamp: number * 1_000_003,
                sequence: number.cast_unsigned(),
                payload,
            })
            .collect();
        let EncodedBlock { header, body, .. } = BlockEncoder::new().encode(signal, &records);
        let start = start.index(records.len() + 1);
        let end = start + end.index(records.len() + 1 - start);
        let window = DecodedBlock::decode_window(&header, &body, |_| start..end).unwrap();
        let part = DecodedBlock::decode_part(&header, &body, start..end, Decoding::Payloads, DecodedBlock::default()).unwrap();
        let wanted: Vec<(i64, u64, &[u8])> = records[start..end]
            .iter()
            .map(|it| (it.timestamp, it.sequence, it.payload))
            .collect();
        for found in [window, part] {
            let found: Vec<(i64, u64, &[u8])> = found
                .records()
                .map(|it| (it.timestamp, it.sequence, it.payload))
                .collect();
            prop_assert_eq!(&found, &wanted);
        }
    }

    /// Decoding must neither panic nor take memory without bound, whatever another program wrote.
    #[test]
    fn no_packed_body_makes_decoding_panic(
        payloads in alike_payloads(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let records: Vec<BlockRecord<'_>> = payloads
            .iter()
            .map(|payload| BlockRecord { timestamp: 0, sequence: 0, payload })
            .collect();
        let (header, body) = changed(Signal::Logs, &records, &changes);
        prop_assert!(is_whole_or_refused(Signal::Logs, &header, &body));
        let filter = Filter::text(TextPattern::substring("request 1").unwrap());
        let wanted = Wanted {
            signal: Signal::Logs,
            filter: &filter,
            first: (i64::MIN, 0),
            last: (i64::MAX, u64::MAX),
            since_sequence: 0,
        };
        let _ = DecodedBlock::decode_matching(&header, &body, &wanted);
        let _ = DecodedBlock::decode_window(&header, &body, |_| 3..9);
        for part in [0..2, 3..9, records.len() / 2..records.len()] {
            let _ = DecodedBlock::decode_part(&header, &body, part, Decoding::Payloads, DecodedBlock::default());
        }
    }
}

/// A block of `records` with changes in its sections, and a checksum that agrees.
fn changed(
    signal: Signal,
    records: &[BlockRecord<'_>],
    changes: &[(prop::sample::Index, u8)],
) -> (BlockHeader, Vec<u8>) {
    let EncodedBlock {
        mut header, body, ..
    } = BlockEncoder::new().encode(signal, records);
    // The sections are changed before they are packed, for zstd finds most changes after it.
    let mut sections = PackedSections::open(&body).unwrap().to_sections();
    for (at, byte) in changes {
        sections.change(*at, *byte);
    }
    let body = sections.pack();
    header.body_bytes = narrow(body.len());
    header.checksum = header.checksum_of(&body);
    (header, body)
}

/// Reads a block that may be damaged, and single columns of it. Returns `false` if it was read and has payloads of
/// another length than its header says.
fn is_whole_or_refused(signal: Signal, header: &BlockHeader, body: &[u8]) -> bool {
    let _ = header.timestamps(body);
    let _ = header.levels(signal, body);
    match DecodedBlock::decode(header, body) {
        Ok(block) => block.payloads.len() == header.payload_bytes as usize,
        Err(_) => true,
    }
}

/// Spans of traces that overlap, as numbers of a draw: most follow each other as those of a gateway do, and some have
/// ids and times of any other kind.
fn traces(seed: u64, count: usize, oddities: u64) -> Vec<Span> {
    let mut draw = Draw(seed);
    let mut below = |bound: u64| draw.below(usize::try_from(bound).unwrap()) as u64;
    let mut time = 1_778_000_000_000_000_000;
    let mut open: Vec<(u64, Vec<u64>, u64)> = Vec::new();
    let mut next_id = 0;
    let mut new_id = || {
        next_id += 1;
        next_id
    };
    let bytes = |id: u64| xxhash_rust::xxh3::xxh3_128(&id.to_le_bytes()).to_be_bytes();
    let mut spans = Vec::new();
    for _ in 0..count {
        time += below(2_000_000);
        if open.is_empty() || below(3) == 0 {
            open.push((new_id(), vec![new_id()], time));
        }
        let at = usize::try_from(below(open.len() as u64)).unwrap();
        let is_odd = below(100) < oddities;
        let ends = !is_odd && below(3) == 0;
        let (trace, ids, since) = &mut open[at];
        let parent = ids[usize::try_from(below(ids.len() as u64)).unwrap()];
        let own = if ends { ids[0] } else { new_id() };
        if below(4) == 0 {
            ids.push(own);
        }
        let mut span = Span {
            trace_id: bytes(*trace).to_vec(),
            span_id: bytes(own)[..8].to_vec(),
            parent_span_id: bytes(parent)[..8].to_vec(),
            name: ["authorize", "call", "forward"][usize::try_from(below(3)).unwrap()].to_owned(),
            start_time_unix_nano: time - below(time - *since + 1),
            end_time_unix_nano: time,
            ..Span::default()
        };
        if ends {
            span.parent_span_id.clear();
            open.swap_remove(at);
        }
        if is_odd {
            match below(5) {
                0 => span.start_time_unix_nano = below(u64::MAX) + 1,
                1 => span.trace_id = vec![7; 16],
                2 => span.span_id = vec![7; 8],
                3 => span.parent_span_id.clear(),
                _ => span.parent_span_id.clone_from(&span.span_id),
            }
        }
        spans.push(span);
    }
    spans
}

/// The records of spans, each at its end.
fn payloads_of(spans: Vec<Span>) -> (Vec<i64>, Vec<Vec<u8>>) {
    let payload = |span: Span| {
        let end = span.end_time_unix_nano.cast_signed();
        let mut payload = Vec::new();
        let record = Record::Span(Box::new(SpanRecord::new(span)));
        record.encode_payload(&mut payload).unwrap();
        (end, payload)
    };
    spans.into_iter().map(payload).unzip()
}

fn records_at<'a>(times: &[i64], payloads: &'a [Vec<u8>]) -> Vec<BlockRecord<'a>> {
    let records = times.iter().zip(BlockRecord::numbered(payloads));
    records
        .map(|(timestamp, record)| BlockRecord {
            timestamp: *timestamp,
            ..record
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// What of a span follows from others comes back, whatever is read of a block.
    #[test]
    fn spans_of_traces_come_back(
        seed: u64,
        count in prop_oneof![1usize..70, 300usize..1500],
        oddities in 0u64..40,
        start: prop::sample::Index,
        end: prop::sample::Index,
    ) {
        let (times, payloads) = payloads_of(traces(seed, count, oddities));
        let records = records_at(&times, &payloads);
        let EncodedBlock { header, body, summary } =
            BlockEncoder::new().encode(Signal::Traces, &records);
        prop_assert_eq!(header.codec, Codec::Spans);
        let whole = DecodedBlock::decode(&header, &body).unwrap();
        prop_assert!(whole.records().map(|it| it.payload).eq(records.iter().map(|it| it.payload)));
        prop_assert_eq!(summarize(Signal::Traces, &header, &whole), summary);
        prop_assert_eq!(header.timestamps(&body).unwrap(), times);
        let start = start.index(count + 1);
        let end = start + end.index(count + 1 - start);
        let window = DecodedBlock::decode_window(&header, &body, |_| start..end).unwrap();
        let part = DecodedBlock::decode_part(&header, &body, start..end, Decoding::of(Signal::Traces), window);
        let part = part.unwrap();
        let wanted = records.iter().skip(start).take(end - start);
        let key = |it: &BlockRecord<'_>| (it.timestamp, it.sequence, it.payload.to_vec());
        prop_assert!(part.records().map(|it| key(&it)).eq(wanted.map(key)));
        let window = DecodedBlock::decode_window(&header, &body, |_| start..end).unwrap();
        prop_assert!(window.records().map(|it| key(&it)).eq(part.records().map(|it| key(&it))));
    }

    /// One id of another length, or a span without a start, and all are stored as they are.
    #[test]
    fn spans_without_a_lineage_come_back(seed: u64, count in 2usize..200, oddity in 0u8..5) {
        let mut spans = traces(seed, count, 10);
        let odd = &mut spans[usize::try_from(seed % count as u64).unwrap()];
        match oddity {
            0 => odd.trace_id.truncate(15),
            1 => odd.span_id.push(0),
            2 => odd.parent_span_id = vec![1; 9],
            3 => odd.start_time_unix_nano = 0,
            _ => odd.span_id.clear(),
        }
        let (times, payloads) = payloads_of(spans);
        let records = records_at(&times, &payloads);
        let EncodedBlock { header, body, .. } = BlockEncoder::new().encode(Signal::Traces, &records);
        prop_assert_eq!(header.codec, Codec::Packed);
        let whole = DecodedBlock::decode(&header, &body).unwrap();
        prop_assert!(whole.records().map(|it| it.payload).eq(records.iter().map(|it| it.payload)));
    }

    /// As for logs above.
    #[test]
    fn no_body_of_spans_makes_decoding_panic(
        seed: u64,
        count in 1usize..400,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let (times, payloads) = payloads_of(traces(seed, count, 10));
        let records = records_at(&times, &payloads);
        let (header, body) = changed(Signal::Traces, &records, &changes);
        prop_assert!(is_whole_or_refused(Signal::Traces, &header, &body));
        for filter in [
            Filter::trace_id(&"07".repeat(16)).unwrap(),
            Filter::failed(),
            Filter::name(TextPattern::substring("call").unwrap()),
        ] {
            let wanted = all_that_match(Signal::Traces, &filter);
            let _ = DecodedBlock::decode_matching(&header, &body, &wanted);
        }
    }

    /// The ids and times of spans are searched where they are stored once.
    #[test]
    fn spans_of_traces_are_selected_as_one_by_one(seed: u64, count in 4usize..120) {
        let spans = traces(seed, count, 20).into_iter();
        let spans: Vec<Record> = spans
            .map(|span| Record::Span(Box::new(SpanRecord::new(span))))
            .collect();
        check_selection(Signal::Traces, &encoded(&spans), seed)?;
    }
}

/// Ids take their own bytes once, and the rest of a span takes little.
#[test]
fn spans_of_traces_take_little_more_than_their_ids() {
    let spans = traces(7, 4000, 0);
    let mut ids: Vec<&[u8]> = Vec::new();
    for span in &spans {
        ids.extend([&*span.trace_id, &*span.span_id, &*span.parent_span_id]);
    }
    ids.sort_unstable();
    ids.dedup();
    let id_bytes: usize = ids.iter().map(|id| id.len()).sum();
    let (times, payloads) = payloads_of(spans);
    let records = records_at(&times, &payloads);
    let EncodedBlock { body, .. } = BlockEncoder::new().encode(Signal::Traces, &records);
    // A time has 21 bits, a start some 25, a shape and a name 1.6 each, and which trace it is takes 3.
    let rest = (body.len() - id_bytes) * 8 / 4000;
    assert!(rest < 60, "{rest} bits beside the ids");
}

proptest! {
    #[test]
    fn the_parts_of_logs_are_those_of_their_payloads(
        logs in prop::collection::vec(
            (any::<i32>(), "[a-cé]{0,2}", prop::collection::vec(
                ("[a-c]", prop_oneof![
                    any::<i64>().prop_map(Value::from),
                    (0i64..9).prop_map(Value::from),
                    any::<u64>().prop_map(Value::from),
                    any::<bool>().prop_map(Value::from),
                    (-9i32..9).prop_map(|it| Value::from(f64::from(it) / 4.0)),
                    "[ab]{0,2}".prop_map(Value::from),
                    "took [0-9]{1,5} ms of é [0-9a-f]{16}".prop_map(Value::from),
                    "[0-9a-f]{32}".prop_map(Value::from),
                    "[a-zé]{20,40}".prop_map(Value::from),
                ]),
                0..4,
            )),
            1..200,
        ),
        nested: bool,
        start: prop::sample::Index,
        end: prop::sample::Index,
    ) {
        let mut payloads = Vec::new();
        for (level, message, attributes) in logs {
            let mut log = LogRecord::new(Timestamp::default(), Level(level), message);
            log.attributes = attributes;
            let mut payload = Vec::new();
            log.encode_payload(&mut payload).unwrap();
            payloads.push(payload);
        }
        if nested {
            let log = LogRecord::new(Timestamp::default(), Level(0), "").with("a", Value::Null);
            let mut payload = Vec::new();
            log.encode_payload(&mut payload).unwrap();
            payloads.insert(payloads.len() / 2, payload);
        }
        let records = BlockRecord::numbered(&payloads);
        let EncodedBlock { header, body, .. } = BlockEncoder::new().encode(Signal::Logs, &records);
        let start = start.index(records.len() + 1);
        let end = start + end.index(records.len() + 1 - start);
        let part = DecodedBlock::decode_part(&header, &body, start..end, Decoding::LogParts, DecodedBlock::default()).unwrap();
        prop_assert_eq!(part.len(), end - start);
        let has_nested = nested && (start..end).contains(&((payloads.len() - 1) / 2));
        prop_assert_eq!(part.has_logs(), !has_nested && start < end);
        for (index, expected) in payloads[start..end].iter().enumerate() {
            let found = match part.log(index) {
                Some(log) => {
                    let mut payload = Vec::new();
                    log.write_payload(&mut payload).unwrap();
                    payload
                }
                None => part.payload(index).unwrap().to_vec(),
            };
            prop_assert_eq!(&found, expected);
            prop_assert_eq!(part.key(index).unwrap().1, (start + index) as u64);
        }
    }
}

/// Columns are read from the beginning of a run, and counted from the nearer end.
#[test]
fn a_part_of_a_large_block_is_that_part_of_the_whole() {
    let EncodedBlock { header, body, .. } = gateway_block(5000);
    let regular = DecodedBlock::decode(&header, &body).unwrap();
    let whole: Vec<BlockRecord<'_>> = (regular.records().zip(0..))
        .map(|(record, number): (_, i64)| BlockRecord {
            timestamp: number * 1_000_000 + number * 7919 % 400_000,
            sequence: (number * 5 + number * 31 % 5).cast_unsigned(),
            ..record
        })
        .collect();
    let EncodedBlock { header, body, .. } = BlockEncoder::new().encode(Signal::Logs, &whole);
    for range in [
        0..20,
        0..5000,
        900..1100,
        1023..1025,
        1024..2048,
        2400..2600,
        3072..3073,
        4096..5000,
        4980..5000,
        5000..5000,
        4990..6000,
    ] {
        let part = DecodedBlock::decode_part(
            &header,
            &body,
            range.clone(),
            Decoding::Payloads,
            DecodedBlock::default(),
        )
        .unwrap();
        let wanted = whole.iter().skip(range.start).take(range.len());
        let key = |it: &BlockRecord<'_>| (it.timestamp, it.sequence, it.payload.to_vec());
        assert!(
            part.records().map(|it| key(&it)).eq(wanted.map(key)),
            "{range:?}"
        );
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
        let wanted = all_that_match(signal, &filter);
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

/// The records of `fixtures/*.block`, each of which was written when its codec was.
fn old_records(signal: Signal) -> Vec<Record> {
    let id =
        |number: u64| u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c834);
    let low = |number: u64| u64::try_from(id(number) & u128::from(u64::MAX)).unwrap();
    let tool = |number: u64| ["search", "fetch", "list"][usize::try_from(number % 3).unwrap()];
    let log = |number: u64| {
        let level = if number.is_multiple_of(50) {
            Level::WARN
        } else {
            Level::INFO
        };
        let message = match number % 3 {
            0 => format!("request {number} forwarded"),
            1 => "cache hit".to_owned(),
            _ => format!("took {}.0{} ms", number * 7, number % 10),
        };
        let time = crate::Timestamp::from_unix_nanos(number.cast_signed() * 1_000_003);
        let log = LogRecord::new(time, level, message)
            .with("tool", tool(number))
            .with("duration_ms", number * 7919 % 5000)
            .with("ratio", f64::from(u32::try_from(number).unwrap()) / 7.0)
            .with("trace_id", format!("{:032x}", id(number)))
            .with("session", format!("{:016x}", id(number % 9) >> 64));
        Record::Log(if number.is_multiple_of(4) {
            log.with("fresh", number.is_multiple_of(8))
        } else {
            log
        })
    };
    let span = |number: u64| {
        let start = 1_000_000 + number * 1_000_003;
        Record::Span(Box::new(SpanRecord::new(Span {
            trace_id: id(number / 5).to_be_bytes().into(),
            span_id: low(number).to_be_bytes().into(),
            name: format!("tools/call {}", tool(number)),
            kind: 3,
            start_time_unix_nano: start,
            end_time_unix_nano: start + number * 7919 % 5000,
            attributes: vec![KeyValue {
                key: "tool".to_owned(),
                value: Some(AnyValue {
                    value: Some(any_value::Value::StringValue(tool(number).to_owned())),
                }),
                ..KeyValue::default()
            }],
            status: number.is_multiple_of(50).then(|| Status {
                code: 2,
                message: "deadline exceeded".to_owned(),
            }),
            ..Span::default()
        })))
    };
    (0..300)
        .map(|number| {
            if signal == Signal::Logs {
                log(number)
            } else {
                span(number)
            }
        })
        .collect()
}

#[test]
fn blocks_of_earlier_codecs_are_read_and_searched() {
    for (signal, codec, bytes) in [
        (
            Signal::Logs,
            Codec::Columns,
            include_bytes!("fixtures/columns.logs.block").as_slice(),
        ),
        (
            Signal::Traces,
            Codec::Columns,
            include_bytes!("fixtures/columns.spans.block"),
        ),
        (
            Signal::Traces,
            Codec::Packed,
            include_bytes!("fixtures/packed.spans.block"),
        ),
    ] {
        let records = encoded(&old_records(signal));
        let (header, body) = bytes.split_at(HEADER_BYTES);
        let header = BlockHeader::from_bytes(header).unwrap();
        assert_eq!(header.codec, codec);
        let block = DecodedBlock::decode(&header, body).unwrap();
        let payloads = || block.records().map(|it| it.payload);
        assert!(payloads().eq(records.iter().map(|(_, payload)| payload.as_slice())));
        assert!(
            block
                .keys()
                .eq((0..300_i64).map(|it| (it * 1_000_003, 77 + it.cast_unsigned())))
        );
        for part in [
            DecodedBlock::decode_window(&header, body, |_| 17..203).unwrap(),
            DecodedBlock::decode_part(
                &header,
                body,
                17..203,
                Decoding::Payloads,
                DecodedBlock::default(),
            )
            .unwrap(),
        ] {
            let part = part.records().map(|it| it.payload);
            assert!(part.eq(payloads().skip(17).take(186)));
        }
        let times = header.timestamps(body).unwrap();
        assert!(
            times
                .iter()
                .copied()
                .eq((0..300_i64).map(|it| it * 1_000_003))
        );
        assert_eq!(header.levels(signal, body).unwrap().len(), 300);

        let values: Vec<Record> = records.iter().map(|(record, _)| record.clone()).collect();
        let said = Said::by(&values);
        let mut draw = Draw(7);
        for _ in 0..200 {
            let filter = said.filter(&mut draw, 2);
            let wanted = all_that_match(signal, &filter);
            let found = DecodedBlock::decode_matching(&header, body, &wanted).unwrap();
            let expected = payloads().filter(|payload| filter.matches(signal, payload));
            assert!(
                found.records().map(|it| it.payload).eq(expected),
                "{filter:?}"
            );
        }
    }
}

/// Messages are walked down to a bound, and what is deeper is kept as it is.
#[test]
fn spans_with_deeply_nested_values_come_back() {
    let nested = |levels: usize| {
        let leaf = AnyValue {
            value: Some(any_value::Value::IntValue(7)),
        };
        (0..levels).fold(leaf, |inner, _| AnyValue {
            value: Some(any_value::Value::KvlistValue(KeyValueList {
                values: vec![KeyValue {
                    key: "in".to_owned(),
                    value: Some(inner),
                    ..KeyValue::default()
                }],
            })),
        })
    };
    for levels in [1, 5, 6, 7, 8, 9, 20, 25] {
        let span = Span {
            attributes: vec![KeyValue {
                key: "deep".to_owned(),
                value: Some(nested(levels)),
                ..KeyValue::default()
            }],
            ..Span::default()
        };
        let span = Record::Span(Box::new(SpanRecord::new(span)));
        let payloads = encoded(&[span]);
        assert_eq!(payloads.len(), 1, "{levels}");
        let payloads: Vec<Vec<u8>> = payloads.into_iter().map(|(_, it)| it).collect();
        encode_and_decode(Signal::Traces, &payloads);
    }
}

/// A column of times that follow those of the records is stored as what they differ by, one by one.
#[test]
fn times_near_those_of_the_records_come_back_however_many_a_record_has() {
    // Far apart, and at no regular distance.
    let time = |number: u64| 1_778_000_000_000_000_000 + number * number * 1_234_567_891;
    // Returns the length of the body of a block of spans with these numbers of events.
    let check = |count: u64, events_of_each: u64, events_of_last: u64| {
        let payloads: Vec<Vec<u8>> = (0..count)
            .map(|number| {
                let event = |after: u64| Event {
                    time_unix_nano: time(number) + number % 7 + after,
                    ..Event::default()
                };
                let is_last = number == count - 1;
                let events = 0..if is_last {
                    events_of_last
                } else {
                    events_of_each
                };
                let span = Span {
                    name: "call".to_owned(),
                    events: events.map(event).collect(),
                    ..Span::default()
                };
                let mut payload = Vec::new();
                let record = Record::Span(Box::new(SpanRecord::new(span)));
                record.encode_payload(&mut payload).unwrap();
                payload
            })
            .collect();
        let records: Vec<BlockRecord<'_>> = (payloads.iter().zip(0..))
            .map(|(payload, number)| BlockRecord {
                timestamp: time(number).cast_signed(),
                sequence: number,
                payload,
            })
            .collect();
        let EncodedBlock { header, body, .. } =
            BlockEncoder::new().encode(Signal::Traces, &records);
        let block = DecodedBlock::decode(&header, &body).unwrap();
        let found = block.records().map(|it| it.payload);
        assert!(
            found.eq(payloads.iter().map(Vec::as_slice)),
            "{count} spans, {events_of_last} events of the last"
        );
        body.len()
    };
    for count in [300, 2000] {
        let without = check(count, 0, 0);
        let with = check(count, 1, 1);
        assert!(with < without + 300, "{without} became {with}");
        for events_of_last in [0, 2, 3] {
            check(count, 1, events_of_last);
        }
    }
}

/// The encoding of a protobuf field with these bytes.
fn field_of(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).unwrap();
    [&[number << 3 | 2, length], bytes].concat()
}

/// Of a field that is there twice the last one counts, and a key that follows a value is its key. The
/// columns of such a span say something else than its decoded form.
#[test]
fn spans_that_repeat_a_field_are_selected_as_they_are_decoded() {
    let failed = field_of(15, &[3 << 3, 2]);
    let succeeded = field_of(15, &[3 << 3, 1]);
    let text = |text: &str| field_of(2, &field_of(1, text.as_bytes()));
    let key = |key: &str| field_of(1, key.as_bytes());
    let late_key = [key("old"), text("value"), key("new")].concat();
    let two_keys = [key("old"), key("new"), text("value")].concat();
    let two_values = [key("new"), text("old"), text("value")].concat();
    let name = |name: &str| field_of(5, name.as_bytes());
    let spans = [
        [failed.clone(), succeeded.clone()].concat(),
        [succeeded, failed].concat(),
        field_of(9, &late_key),
        field_of(9, &two_keys),
        field_of(9, &two_values),
        [name("old"), name("new")].concat(),
    ];
    for span in spans {
        let payload = field_of(2, &field_of(2, &span));
        let records: Vec<BlockRecord<'_>> = (0..300)
            .map(|number| BlockRecord {
                timestamp: number,
                sequence: number.cast_unsigned(),
                payload: &payload,
            })
            .collect();
        let EncodedBlock {
            header,
            body,
            summary,
        } = BlockEncoder::new().encode(Signal::Traces, &records);
        assert_eq!(header.codec, Codec::Packed);
        let summary =
            (summary.as_deref()).and_then(|it| Summary::read(Signal::Traces, &header, it));
        for filter in [
            Filter::failed(),
            Filter::field("old=value").unwrap(),
            Filter::field("new=value").unwrap(),
            Filter::field("new").unwrap(),
            Filter::name(TextPattern::substring("old").unwrap()),
            Filter::name(TextPattern::substring("new").unwrap()),
        ] {
            for filter in [filter.clone(), !filter] {
                let is_match = filter.matches(Signal::Traces, &payload);
                let wanted = all_that_match(Signal::Traces, &filter);
                let found = DecodedBlock::decode_matching(&header, &body, &wanted).unwrap();
                let expected = if is_match { 300 } else { 0 };
                assert_eq!(found.len(), expected, "{filter:?} of {span:?}");
                let may_match = (summary.as_ref()).is_none_or(|it| it.may_match(&filter));
                assert!(may_match || !is_match, "{filter:?} of {span:?}");
            }
        }
    }
}

/// Log records with values of each form that has a column of its own.
fn varied_logs() -> Vec<Record> {
    let mut state = 7_u64;
    let mut random = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state >> 33
    };
    (0..300_u64)
        .map(|number| {
            let id = format!(
                "{:032x}",
                (u128::from(random()) << 96) | u128::from(random())
            );
            let uuid = [&id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]].join("-");
            let time = number * 1_000_003;
            let at = crate::Timestamp::from_unix_nanos(time.cast_signed());
            let log = LogRecord::new(at, Level::INFO, format!("user {} came", random() % 97))
                .with("id", uuid)
                .with("counter", number)
                .with("at", time + random() % 100)
                .with("micros", random() % 500 * 1000)
                .with("user", format!("user-{:05}", number * number % 97))
                .with(
                    "code",
                    [200_u64, 404, 500][usize::try_from(random() % 3).unwrap()],
                )
                .with("hash", format!("{:08X}", random()))
                .with("run", format!("run {}", number / 50 * 7919));
            Record::Log(log)
        })
        .collect()
}

/// What a column costs decides its form, and no test of what comes back shows that a wrong form was taken.
#[test]
fn blocks_take_no_more_than_they_did() {
    for (what, signal, records, (body_max, summary_max)) in [
        ("logs", Signal::Logs, old_records(Signal::Logs), (6970, 540)),
        (
            "spans",
            Signal::Traces,
            old_records(Signal::Traces),
            (4030, 595),
        ),
        ("varied logs", Signal::Logs, varied_logs(), (7640, 482)),
    ] {
        let payloads = encoded(&records);
        let records: Vec<BlockRecord<'_>> = (payloads.iter().zip(0..))
            .map(|((_, payload), number)| BlockRecord {
                timestamp: number * 1_000_003,
                sequence: number.cast_unsigned(),
                payload,
            })
            .collect();
        let EncodedBlock { body, summary, .. } = BlockEncoder::new().encode(signal, &records);
        let (body, summary) = (body.len(), summary.map_or(0, |it| it.len()));
        // A block without a summary is read whole by every query.
        assert!(
            body <= body_max && (summary_max * 9 / 10..=summary_max).contains(&summary),
            "{what}: {body}, {summary}"
        );
    }
}

/// Records that a filter cannot match are not decoded.
#[test]
fn a_condition_that_one_record_meets_selects_that_one() {
    let id = |number: u64| format!("{:032x}", (u128::from(number) << 64) | 0xabcd);
    let logs = (0..300).map(|number| {
        let is_rare = number == 150;
        let (level, message, tool) = if is_rare {
            (Level::ERROR, "a needle".to_owned(), "rare")
        } else {
            (Level::INFO, format!("request {number} sent"), "common")
        };
        let log = LogRecord::new(crate::Timestamp::default(), level, message)
            .with("tool", tool)
            .with("bytes", if is_rare { 7_u64 } else { 8 })
            .with("ratio", if is_rare { 0.75 } else { 0.25 })
            .with("peer", if is_rare { u64::MAX } else { u64::MAX - 1 })
            .with("trace_id", id(number));
        Record::Log(log)
    });
    let payloads = encoded(&logs.collect::<Vec<_>>());
    let records: Vec<BlockRecord<'_>> = (payloads.iter().zip(0..))
        .map(|((_, payload), number)| BlockRecord {
            timestamp: number,
            sequence: number.cast_unsigned(),
            payload,
        })
        .collect();
    let EncodedBlock { header, body, .. } = BlockEncoder::new().encode(Signal::Logs, &records);
    for filter in [
        Filter::level_at_least(Level::ERROR),
        Filter::text(TextPattern::substring("needle").unwrap()),
        Filter::trace_id(&id(150)).unwrap(),
        Filter::field("tool=rare").unwrap(),
        Filter::field("bytes<8").unwrap(),
        Filter::field("ratio>0.5").unwrap(),
        Filter::field("peer=18446744073709551615").unwrap(),
    ] {
        let selection = std::cell::Cell::new(None);
        let select = |_: &DecodedBlock, shaped: Option<&Shaped<'_>>| {
            selection.set(Selector::new(Signal::Logs, shaped.unwrap()).select(&filter));
            Ok(None)
        };
        DecodedBlock::decode_some(&header, &body, select, |_| true).unwrap();
        let Some(Selection::Some(found)) = selection.take() else {
            panic!("all records are selected for {filter:?}");
        };
        let found: Vec<usize> = (0..300).filter(|index| found.contains(*index)).collect();
        assert_eq!(found, [150], "{filter:?}");
    }
}

/// All records of a block that `filter` matches.
fn all_that_match(signal: Signal, filter: &Filter) -> Wanted<'_> {
    Wanted {
        signal,
        filter,
        first: (i64::MIN, 0),
        last: (i64::MAX, u64::MAX),
        since_sequence: 0,
    }
}

/// A block of logs that a gateway might write.
fn gateway_block(count: u64) -> EncodedBlock {
    let payloads: Vec<Vec<u8>> = (0..count)
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
            .with("peer", u64::MAX - number % 3)
            .with("trace_id", trace_id(number));
            let mut payload = Vec::new();
            log.encode_payload(&mut payload).unwrap();
            payload
        })
        .collect();
    let records = BlockRecord::numbered(&payloads);
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
    } = gateway_block(4096);
    let bytes = summary.unwrap();
    assert!(bytes.len() > 3000 && bytes.len() <= crate::store::layout::footprint::summary_bytes(1));
    let summary = Summary::read(Signal::Logs, &header, &bytes).unwrap();
    let text = |text: &str| Filter::text(TextPattern::substring(text).unwrap());
    let field = |text: &str| Filter::field(text).unwrap();
    for filter in [
        Filter::trace_id(&trace_id(77)).unwrap(),
        text("FORWARD"),
        text("search"),
        field("tool=fetch"),
        field("attempt=3"),
        field("peer=18446744073709551613"),
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
        field("peer=18446744073709551612"),
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
fn the_summary_of_spans_says_that_none_has_failed() {
    let mut payloads = encoded(&old_records(Signal::Traces));
    payloads.retain(|(_, payload)| !Filter::failed().matches(Signal::Traces, payload));
    let payloads: Vec<Vec<u8>> = payloads.into_iter().map(|(_, payload)| payload).collect();
    let records = BlockRecord::numbered(&payloads);
    let EncodedBlock {
        header, summary, ..
    } = BlockEncoder::new().encode(Signal::Traces, &records);
    let bytes = summary.unwrap();
    let summary = Summary::read(Signal::Traces, &header, &bytes).unwrap();
    assert_eq!(summary.levels().unwrap(), [(Level::INFO, 294)]);
    assert!(!summary.may_match(&Filter::failed()));
    assert!(summary.may_match(&!Filter::failed()));
}

#[test]
fn the_summary_of_a_large_block_takes_two_pages_and_has_all_ids() {
    let EncodedBlock {
        header, summary, ..
    } = gateway_block(RECORDS_MAX as u64);
    let bytes = summary.unwrap();
    let page = crate::store::layout::footprint::summary_bytes(1);
    assert!(bytes.len() > page && bytes.len() <= crate::store::layout::footprint::summary_bytes(2));
    let summary = Summary::read(Signal::Logs, &header, &bytes).unwrap();
    let may_have = |number| summary.may_match(&Filter::trace_id(&trace_id(number)).unwrap());
    assert!((0..RECORDS_MAX as u64).all(may_have));
    let maybe = (10_000..11_000).filter(|number| may_have(*number)).count();
    assert!(
        maybe < 150,
        "{maybe} of 1000 ids that are absent may be there"
    );
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
    for class in 0..64 {
        assert_eq!(span_class(0, span_max(class).cast_signed()), class);
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
