//! Fuzzing of blocks. Their checksums are corrected, so that changes reach the codecs.
//!
//! An input begins with a header. Behind it is a body, or the sections of one, each after its length in
//! two bytes: changes of a compressed frame hardly ever give another valid one.

#![allow(clippy::unwrap_used, reason = "a fuzzer reports by panicking")]

use super::{
    BlockEncoder, BlockHeader, BlockRecord, DecodedBlock, Decoding, EncodedBlock, HEADER_BYTES,
    Summary, Wanted,
    bytes::Reader,
    narrow,
    sections::{PackedSections, Sections},
    summarize, summary,
};
use crate::{
    filter::{Filter, TextPattern},
    record::Level,
    signal::Signal,
};
use std::sync::LazyLock;

/// Filters that take different ways through a block.
static FILTERS: LazyLock<Vec<Filter>> = LazyLock::new(|| {
    vec![
        Filter::all([]),
        Filter::level_at_least(Level::WARN),
        Filter::text(TextPattern::substring("call").unwrap()),
        !Filter::text(TextPattern::regex("c(a|b)+l{1,3}").unwrap()),
        Filter::field("number>=10").unwrap(),
        Filter::field("!a.b").unwrap(),
        Filter::trace_id(&"07".repeat(16)).unwrap(),
    ]
});

fn encode(signal: Signal, records: &[(i64, Vec<u8>)]) -> EncodedBlock {
    let records: Vec<BlockRecord<'_>> = (0..)
        .zip(records)
        .map(|(sequence, (timestamp, payload))| BlockRecord {
            timestamp: *timestamp,
            sequence,
            payload,
        })
        .collect();
    BlockEncoder::new().encode(signal, &records)
}

/// A header with a body.
pub(crate) fn body_input(signal: Signal, records: &[(i64, Vec<u8>)]) -> Vec<u8> {
    let block = encode(signal, records);
    [&block.header.to_bytes(), block.body.as_slice()].concat()
}

/// A header with sections.
pub(crate) fn sections_input(signal: Signal, records: &[(i64, Vec<u8>)]) -> Vec<u8> {
    let block = encode(signal, records);
    let mut input = block.header.to_bytes().to_vec();
    let sections = PackedSections::open(&block.body).unwrap();
    for index in 0..sections.len() {
        let section = sections.get(index).unwrap();
        let length = u16::try_from(section.len()).unwrap_or(u16::MAX);
        input.extend(length.to_le_bytes());
        input.extend(section.iter().take(length.into()));
    }
    input
}

/// A header with a summary, if the block has one.
pub(crate) fn summary_input(signal: Signal, records: &[(i64, Vec<u8>)]) -> Option<Vec<u8>> {
    let block = encode(signal, records);
    Some([&block.header.to_bytes(), block.summary?.as_slice()].concat())
}

/// Decodes a header and a body.
pub(crate) fn body(input: &[u8]) {
    if let Some((header, body)) = input.split_at_checked(HEADER_BYTES) {
        read(header, body);
    }
}

/// Packs sections into a body, and decodes it.
pub(crate) fn sections(input: &[u8]) {
    let Some((header, rest)) = input.split_at_checked(HEADER_BYTES) else {
        return;
    };
    let mut rest = Reader::new(rest);
    let mut sections = Sections::new();
    while let (Some(low), Some(high)) = (rest.u8(), rest.u8()) {
        let length = usize::from(u16::from_le_bytes([low, high]));
        let Some(section) = rest.bytes(length) else {
            break;
        };
        sections.push(section.to_vec());
    }
    read(header, &sections.pack());
}

/// Reads a summary.
pub(crate) fn summary(input: &[u8]) {
    let Some((header, summary)) = input.split_at_checked(HEADER_BYTES) else {
        return;
    };
    let Ok(header) = BlockHeader::from_bytes(header) else {
        return;
    };
    let mut summary = summary.to_vec();
    summary::put_checksum(&mut summary, &header);
    for signal in SIGNALS {
        if let Some(summary) = Summary::read(signal, &header, &summary) {
            let _ = summary.levels();
            for filter in FILTERS.iter() {
                let _ = summary.may_match(filter);
            }
        }
    }
}

const SIGNALS: [Signal; 3] = [Signal::Logs, Signal::Metrics, Signal::Traces];

/// Reads a block in every way.
fn read(header: &[u8], body: &[u8]) {
    let Ok(mut header) = BlockHeader::from_bytes(header) else {
        return;
    };
    header.body_bytes = narrow(body.len());
    header.checksum = header.checksum_of(body);
    let _ = (header.span_class(), header.merge_level());
    let _ = header.timestamps(body);
    let _ = DecodedBlock::decode_window(&header, body, |keys| 1..keys.len().min(3));
    let _ = DecodedBlock::decode_part(
        &header,
        body,
        2..7,
        Decoding::Payloads,
        DecodedBlock::default(),
    );
    for part in [2..7, 0..header.count as usize] {
        if let Ok(logs) = DecodedBlock::decode_part(
            &header,
            body,
            part,
            Decoding::LogParts,
            DecodedBlock::default(),
        ) {
            for log in (0..logs.len()).filter_map(|index| logs.log(index)) {
                let _ = log.write_payload(&mut Vec::new());
            }
        }
    }
    let decoded = DecodedBlock::decode(&header, body);
    for signal in SIGNALS {
        let _ = header.levels(signal, body);
        for filter in FILTERS.iter() {
            let wanted = Wanted {
                signal,
                filter,
                first: (i64::MIN, 0),
                last: (i64::MAX, u64::MAX),
                since_sequence: 0,
            };
            let _ = DecodedBlock::decode_matching(&header, body, &wanted);
        }
        if let Ok(block) = &decoded {
            let _ = summarize(signal, &header, block);
        }
    }
    if let Ok(block) = decoded {
        let _ = block.lower_bound((0, 0));
        let _ = block.slice(0..block.len() / 2).records().count();
    }
}
