//! Blocks: many settled records of one series, sorted and compressed together.
//!
//! A block belongs to exactly one (server, signal) pair, holds its records in (timestamp, sequence)
//! order, and is written once and never changed. This module encodes records as a header and a body
//! and decodes them; it does no I/O, and knows neither servers nor tables.
//!
//! # Header
//!
//! 54 bytes, integers little-endian:
//!
//! ```text
//! offset  bytes  field
//!      0      1  version: 1
//!      1      1  codec of the body
//!      2      4  number of records
//!      6      8  timestamp of the first record, signed
//!     14      8  timestamp of the last record, signed
//!     22      8  lowest sequence
//!     30      8  highest sequence
//!     38      4  bytes of all payloads, decoded
//!     42      4  bytes of the body, encoded
//!     46      8  checksum: XXH3-64 of bytes 0 to 45 and the body
//! ```
//!
//! The checksum is verified before the body is decoded.
//!
//! # Body
//!
//! A list of sections, in a container that compresses them, see [`sections`]:
//!
//! ```text
//! part         content
//! directory    varint number of sections; for each section, and then for the shared frame:
//!              u8 method, varint length, and for methods 1 and 3 varint compressed length
//! shared frame all sections shorter than 1 KiB, one after another
//! frames       each longer section in a frame of its own
//!
//! method  0 uncompressed   1 zstd   2 in the shared frame   3 by frequencies, see [`frequencies`]
//! ```
//!
//! The codec says which sections there are. All codecs return every payload byte for byte.
//!
//! ```text
//! codec       section  content
//! 1 Verbatim  0        timestamps, a column of integers
//!             1        sequences, a column of integers
//!             2        lengths of the payloads, a column of integers
//!             3        the payloads, one after another
//! 2 Columns   0, 1     the same
//!             2        the shapes, the number of values of each column, and the forms of the
//!                      columns of bytes, see [`shapes`]
//!             3        the shape of each record, a column of integers
//!             4..      one section per column: first the columns of integers, then those of bytes,
//!                      see [`columns`]
//! 3 Packed    0        the parameters of the timestamps, the sequences and the shape of each record;
//!                      the shapes; for each column, the number of its values, u8 order, and its
//!                      parameters: first the columns of integers, see [`pack`], then those of bytes,
//!                      see [`strings`]
//!             1..      the other parts of the timestamps, and so on in the same order
//! 4 Spans     0        the parameters of the sequences; varint number of shapes, and for each, varint number of its
//!                      records; varint shape of the first record; the parameters of the next shapes and of the gaps;
//!                      the shapes; varint number of the column of parents + 1, or 0; the parameters of traces, parents
//!                      and spans; a base for each group; the parameters of the starts, see [`lineage`]; the columns
//!                      as in 3. Those of order 2 end there, if they are strings after u8 which ids: 0 of the trace,
//!                      1 its own, 2 of the parent
//!             1..      the other parts of all of these, with those of the lineage followed by all trace ids, and by
//!                      all ids of spans
//!
//! order  0 the records'   1 by the shapes of the records, and those of one shape in the records'
//!        2 the records', and the values have a lineage
//! ```
//!
//! The last three codecs separate what many records have in common, their *shape* (structure and keys),
//! from their values. A shape is stored once, and the values at one place of a structure are stored
//! next to each other, where they compress several times better. [`Codec::Verbatim`] is the fallback
//! for payloads that cannot be divided so. [`Codec::Columns`] is read, and no longer written. [`Codec::Spans`]
//! is that of spans with ids of the usual lengths.
//!
//! The logs of `benches/workload.rs` have 23.4 bytes of entropy each, 16.0 of them in trace ids. In blocks of
//! 8,192 they take 24.2 bytes each, of which 16.0 are trace ids, 3.0 timestamps, 1.3 sessions, 0.6 tools and
//! 0.4 shapes. With [`Codec::Columns`], in blocks of 4,096, they took 29.0.
//!
//! The spans have 19.3 bytes of entropy each. In blocks of 4,800 they take 20.7 bytes each, with [`Codec::Packed`] 25.9:
//!
//! ```text
//!                                              Packed   Spans   entropy
//! trace ids                                      5.68    5.10      4.85
//! ids of spans and their parents                11.12    8.03      8.00
//! timestamps                                     2.62    2.50      4.29 with the starts
//! starts                                         3.03    1.76
//! shapes of the records                          0.24    0.15      0.12
//! sessions, 0.50 of it the 300 different ones    0.82    0.82      0.31
//! lengths and numbers of tokens                  1.34    1.33      1.30
//! names of spans and tools                       0.48    0.45      0.17
//! all other values                               0.33    0.31      0.22
//! shapes and parameters                          0.27    0.29
//! ```

mod bits;
pub(super) mod bytes;
mod columns;
mod frequencies;
#[cfg(feature = "simulation")]
pub(crate) mod fuzz;
mod join;
mod lineage;
mod logs;
mod messagepack;
mod pack;
mod places;
mod protobuf;
mod sections;
mod select;
mod shapes;
mod strings;
mod summary;
mod templates;

use self::{
    bits::Bits,
    bytes::Reader,
    columns::{Decoded, IntColumn, Ints, Section},
    join::Joiner,
    logs::DecodedLogs,
    sections::{PackedSections, Sections},
    select::{Selection, Selector},
    shapes::{ShapeEncoder, Shaped, ShapedRecords},
    summary::Contents,
};
pub(crate) use self::{
    logs::{Common, LogParts, LogValue, Piece},
    summary::Summary,
};
use crate::{
    filter::{Encoded, Filter},
    record::Level,
    signal::Signal,
};
use std::{ops::Range, rc::Rc};
use xxhash_rust::xxh3::Xxh3;

/// Maximum size of a stored payload, in bytes.
pub(crate) const RECORD_BYTES_MAX: usize = 16 << 20;
/// The maximum number of records in a block. With 4,096, each takes 1.6 % more space. With 16,384, it takes
/// 0.8 % less, but the last 1,000 of a block take twice as long to decode.
pub(crate) const RECORDS_MAX: usize = 8192;
/// The payload bytes after which a block is closed.
pub(crate) const PAYLOAD_BYTES_TARGET: usize = 2 << 20;
/// Maximum number of payload bytes in a block: it is closed at the target, and its last record may
/// have the maximum size.
const PAYLOAD_BYTES_MAX: usize = PAYLOAD_BYTES_TARGET + RECORD_BYTES_MAX;
/// The highest merge level, see [`BlockHeader::merge_level`].
const LEVEL_MAX: u8 = 6;
/// The fullness of a full block, in the unit used to compute merge levels.
const FULLNESS: u64 = 1 << 13;
/// The version of the layout of header and body.
const VERSION: u8 = 1;

/// A record to be encoded in a block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockRecord<'a> {
    pub(crate) timestamp: i64,
    pub(crate) sequence: u64,
    pub(crate) payload: &'a [u8],
}

impl<'a> BlockRecord<'a> {
    /// The record at a position.
    pub(crate) fn new((timestamp, sequence): (i64, u64), payload: &'a [u8]) -> BlockRecord<'a> {
        BlockRecord {
            timestamp,
            sequence,
            payload,
        }
    }

    /// Its place in reading order.
    pub(crate) fn position(&self) -> (i64, u64) {
        (self.timestamp, self.sequence)
    }
}

#[cfg(test)]
impl<'a> BlockRecord<'a> {
    /// Records whose timestamps and sequences are the places of their payloads.
    pub(crate) fn numbered(payloads: &'a [Vec<u8>]) -> Vec<BlockRecord<'a>> {
        let record = |(payload, number): (&'a Vec<u8>, i64)| BlockRecord {
            timestamp: number,
            sequence: number.cast_unsigned(),
            payload,
        };
        payloads.iter().zip(0..).map(record).collect()
    }
}

/// The encoding of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    /// Payloads, one after another.
    Verbatim = 1,
    /// Shapes and columns. No longer written.
    Columns = 2,
    /// Shapes and columns, packed closer.
    Packed = 3,
    /// The same with coded sections, and what of spans follows from others is left out.
    Spans = 4,
}

impl Codec {
    /// Whether columns are packed.
    fn is_packed(self) -> bool {
        matches!(self, Codec::Packed | Codec::Spans)
    }
}

/// The header of a block: what readers know without reading the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockHeader {
    pub(crate) codec: Codec,
    pub(crate) count: u32,
    /// The earliest timestamp.
    pub(crate) first: i64,
    /// The latest timestamp.
    pub(crate) last: i64,
    /// The lowest sequence.
    pub(crate) sequence_min: u64,
    /// The highest sequence.
    pub(crate) sequence_max: u64,
    /// The length of all payloads together, in bytes.
    pub(crate) payload_bytes: u32,
    /// The length of the body, in bytes.
    pub(crate) body_bytes: u32,
    checksum: u64,
}

/// Why bytes are not a valid block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BlockError {
    #[error("the header has {0} bytes instead of {HEADER_BYTES}")]
    HeaderLength(usize),
    #[error("the block version is {0}, and only {VERSION} is known")]
    Version(u8),
    #[error("codec {0} is unknown")]
    Codec(u8),
    #[error("the checksum does not match")]
    Checksum,
    #[error("cannot decode the {0} of the body")]
    Body(&'static str),
}

/// The length of an encoded header, in bytes.
pub(crate) const HEADER_BYTES: usize = 1 + 1 + 4 + 8 * 4 + 4 + 4 + 8;

impl BlockHeader {
    /// The number of bits of the time span that the block covers. A block of span class `class`
    /// covers less than `2^class` nanoseconds, which tells a reader how far outside a time range to
    /// search for the blocks of that class that overlap it.
    pub(crate) fn span_class(&self) -> u8 {
        span_class(self.first, self.last)
    }

    /// How far the block is from full, in powers of four; `None` when it is at least half full.
    ///
    /// Merging four blocks of a level gives a block of the next lower level, or one that is not
    /// merged again. So merging rewrites a record at most [`LEVEL_MAX`] times.
    pub(crate) fn merge_level(&self) -> Option<u8> {
        let records = FULLNESS * u64::from(self.count) / RECORDS_MAX as u64;
        let bytes = FULLNESS * u64::from(self.payload_bytes) / PAYLOAD_BYTES_TARGET as u64;
        let mut full = FULLNESS / 2;
        for level in 0..LEVEL_MAX {
            if records.max(bytes) >= full {
                return (level > 0).then_some(level);
            }
            full /= 4;
        }
        Some(LEVEL_MAX)
    }

    pub(crate) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        let (fields, checksum) = out.split_at_mut(HEADER_BYTES - 8);
        fields.copy_from_slice(&self.checked_fields());
        checksum.copy_from_slice(&self.checksum.to_le_bytes());
        out
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<BlockHeader, BlockError> {
        if bytes.len() != HEADER_BYTES {
            return Err(BlockError::HeaderLength(bytes.len()));
        }
        Self::read(bytes).ok_or(BlockError::HeaderLength(bytes.len()))?
    }

    fn read(bytes: &[u8]) -> Option<Result<BlockHeader, BlockError>> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8()?;
        if version != VERSION {
            return Some(Err(BlockError::Version(version)));
        }
        let codec = match reader.u8()? {
            1 => Codec::Verbatim,
            2 => Codec::Columns,
            3 => Codec::Packed,
            4 => Codec::Spans,
            other => return Some(Err(BlockError::Codec(other))),
        };
        Some(Ok(BlockHeader {
            codec,
            count: reader.u32()?,
            first: reader.u64()?.cast_signed(),
            last: reader.u64()?.cast_signed(),
            sequence_min: reader.u64()?,
            sequence_max: reader.u64()?,
            payload_bytes: reader.u32()?,
            body_bytes: reader.u32()?,
            checksum: reader.u64()?,
        }))
    }

    fn checked_fields(&self) -> [u8; HEADER_BYTES - 8] {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.push(VERSION);
        out.push(self.codec as u8);
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(&self.last.to_le_bytes());
        out.extend_from_slice(&self.sequence_min.to_le_bytes());
        out.extend_from_slice(&self.sequence_max.to_le_bytes());
        out.extend_from_slice(&self.payload_bytes.to_le_bytes());
        out.extend_from_slice(&self.body_bytes.to_le_bytes());
        out.try_into().unwrap_or([0; HEADER_BYTES - 8])
    }

    fn checksum_of(&self, body: &[u8]) -> u64 {
        let mut hash = Xxh3::new();
        hash.update(&self.checked_fields());
        hash.update(body);
        hash.digest()
    }

    /// Verifies that `body` belongs to this header, and returns the number of its records.
    fn verify(&self, body: &[u8]) -> Result<usize, BlockError> {
        if self.checksum != self.checksum_of(body) {
            return Err(BlockError::Checksum);
        }
        // Bounds are still checked below: a matching checksum does not prove that this encoder
        // wrote the bytes.
        let count = self.count as usize;
        let payload_bytes = self.payload_bytes as usize;
        if count == 0 || count > RECORDS_MAX || payload_bytes > PAYLOAD_BYTES_MAX {
            return Err(BlockError::Body("size"));
        }
        Ok(count)
    }

    /// Verifies `body` and decodes only the timestamps of its records, which ascend.
    pub(crate) fn timestamps(&self, body: &[u8]) -> Result<Vec<i64>, BlockError> {
        let count = self.verify(body)?;
        let sections = PackedSections::open(body).ok_or(BlockError::Body("sections"))?;
        let timestamps = self.read_timestamps(&sections, count)?;
        Ok(timestamps.into_iter().map(u64::cast_signed).collect())
    }
}

/// The keys of packed records, and what is known beside them.
struct Keys<'a> {
    timestamps: Ints<'a>,
    sequences: Ints<'a>,
    /// The shapes of the records, if they were decoded for the timestamps.
    shapes: Option<Rc<[u16]>>,
}

/// Timestamps, sequences and shapes, as in [`Keys`].
type DecodedKeys = (Vec<u64>, Vec<u64>, Option<Rc<[u16]>>);

impl BlockHeader {
    fn read_timestamps(
        &self,
        sections: &PackedSections<'_>,
        count: usize,
    ) -> Result<Vec<u64>, BlockError> {
        let timestamps = if self.codec.is_packed() {
            self.packed_keys(sections, count)
                .and_then(|keys| keys.timestamps.into_values())
        } else {
            read_column(sections, 0, count)
        };
        timestamps.ok_or(BlockError::Body("timestamps"))
    }

    /// The timestamps and sequences of the records.
    fn read_keys(
        &self,
        sections: &PackedSections<'_>,
        count: usize,
    ) -> Result<DecodedKeys, BlockError> {
        if self.codec.is_packed() {
            let keys = self.packed_keys(sections, count);
            let keys = keys.ok_or(BlockError::Body("timestamps"))?;
            let timestamps = keys.timestamps.into_values();
            return Ok((
                timestamps.ok_or(BlockError::Body("timestamps"))?,
                (keys.sequences.into_values()).ok_or(BlockError::Body("sequences"))?,
                keys.shapes,
            ));
        }
        let timestamps = self.read_timestamps(sections, count)?;
        let sequences = read_column(sections, 1, count);
        let sequences = sequences.ok_or(BlockError::Body("sequences"))?;
        Ok((timestamps, sequences, None))
    }

    /// Opens the columns of all records, whose timestamps these are, and whose shapes if they are known already.
    fn open_columns<'a>(
        &self,
        sections: &'a PackedSections<'a>,
        count: usize,
        timestamps: Decoded<'a>,
        shapes: Option<Rc<[u16]>>,
    ) -> Result<Shaped<'a>, BlockError> {
        let payload_bytes = self.payload_bytes as usize;
        Shaped::open(
            self.codec,
            sections,
            count,
            timestamps,
            shapes,
            payload_bytes,
        )
        .ok_or(BlockError::Body("shapes"))
    }

    /// The keys of packed records.
    fn packed_keys<'a>(&self, sections: &'a PackedSections<'a>, count: usize) -> Option<Keys<'a>> {
        let mut small = Reader::new(sections.get(0)?);
        let mut columns = Section::all_from(sections, 1);
        let none = Decoded::default();
        if self.codec == Codec::Spans {
            let sequences = Ints::read_packed(&mut small, &mut columns, count, none)?;
            let first = self.first.cast_unsigned();
            let keys = lineage::Keys::read(&mut small, &mut columns, count)?;
            let (shapes, timestamps) = keys.decode(first)?;
            return Some(Keys {
                timestamps: Ints::known(timestamps),
                sequences,
                shapes: Some(shapes),
            });
        }
        let timestamps = Ints::read_packed(&mut small, &mut columns, count, none)?;
        let sequences = Ints::read_packed(&mut small, &mut columns, count, none)?;
        // The records are in the order of time.
        Some(Keys {
            timestamps: timestamps.ending_with(self.last.cast_unsigned()),
            sequences,
            shapes: None,
        })
    }

    /// Verifies `body` and decodes only the timestamps and severities of its records.
    pub(crate) fn levels(
        &self,
        signal: Signal,
        body: &[u8],
    ) -> Result<Vec<(i64, Option<Level>)>, BlockError> {
        if self.codec != Codec::Verbatim {
            let count = self.verify(body)?;
            let sections = PackedSections::open(body).ok_or(BlockError::Body("sections"))?;
            let (timestamps, _, of_records) = self.read_keys(&sections, count)?;
            let keys = Decoded::all(&timestamps);
            let shaped = self.open_columns(&sections, count, keys, of_records)?;
            if let Some(levels) = Selector::new(signal, &shaped).levels() {
                let timestamps = timestamps.iter().map(|it| it.cast_signed());
                return Ok(timestamps.zip(levels.into_iter().map(Some)).collect());
            }
        }
        let block = DecodedBlock::decode(self, body)?;
        let level = |record: BlockRecord<'_>| {
            let payload = record.payload;
            (record.timestamp, Encoded { signal, payload }.level())
        };
        Ok(block.records().map(level).collect())
    }
}

/// Reads a column of [`Codec::Verbatim`] and of the keys of [`Codec::Columns`].
fn read_column(sections: &PackedSections<'_>, index: usize, count: usize) -> Option<Vec<u64>> {
    columns::read_ints(&mut Reader::new(sections.get(index)?), count)
}

/// The span class of a time span, see [`BlockHeader::span_class`].
pub(crate) fn span_class(first: i64, last: i64) -> u8 {
    let span = last.abs_diff(first);
    u8::try_from(u64::BITS - span.leading_zeros()).unwrap_or(64)
}

/// The longest time span of a block of `class`, in nanoseconds.
pub(crate) fn span_max(class: u8) -> u64 {
    1u64.checked_shl(u32::from(class))
        .map_or(u64::MAX, |bound| bound - 1)
}

/// Encodes records as blocks. Keep one for many blocks: it holds buffers and compression state.
pub(crate) struct BlockEncoder {
    sections: Sections,
    summarizes: bool,
}

/// An encoded block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EncodedBlock {
    pub(crate) header: BlockHeader,
    pub(crate) body: Vec<u8>,
    /// `None` when nothing is known about the records without reading them.
    pub(crate) summary: Option<Vec<u8>>,
}

impl std::fmt::Debug for BlockEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockEncoder").finish_non_exhaustive()
    }
}

impl BlockEncoder {
    pub(crate) fn new() -> BlockEncoder {
        BlockEncoder {
            sections: Sections::new(),
            summarizes: true,
        }
    }

    /// Whether blocks get summaries. For benchmarks of their cost.
    pub(crate) fn summarizes(mut self, summarizes: bool) -> BlockEncoder {
        self.summarizes = summarizes;
        self
    }

    /// The number of `records`, counted from the first, that go into the next block: at most
    /// `records_max`, and no further ones once their payloads reach `payload_bytes_max`.
    pub(crate) fn cut(
        records: &[BlockRecord<'_>],
        records_max: usize,
        payload_bytes_max: usize,
    ) -> usize {
        let records_max = records_max.clamp(1, RECORDS_MAX);
        let payload_bytes_max = payload_bytes_max.clamp(1, PAYLOAD_BYTES_TARGET);
        let mut bytes = 0;
        let fit = records
            .iter()
            .take(records_max)
            .take_while(|record| {
                let fits = bytes < payload_bytes_max;
                bytes += record.payload.len();
                fits
            })
            .count();
        // Avoids a tiny last block: 4,200 records make two blocks of equal size.
        let rest = records.len();
        if fit == records_max && rest > records_max && rest < 2 * records_max {
            rest.div_ceil(2)
        } else {
            fit
        }
    }

    /// Encodes `records` as one block. They must belong to one series, be in (timestamp, sequence)
    /// order, not be empty, and not exceed [`BlockEncoder::cut`].
    pub(crate) fn encode(&mut self, signal: Signal, records: &[BlockRecord<'_>]) -> EncodedBlock {
        debug_assert!(!records.is_empty() && records.len() <= RECORDS_MAX);
        let shaped = shape(signal, records);
        let has_lineage = shaped.as_ref().is_some_and(ShapedRecords::has_lineage);
        self.sections.clear(has_lineage);
        let timestamps: Vec<u64> = records
            .iter()
            .map(|record| record.timestamp.cast_unsigned())
            .collect();
        let sequences: Vec<u64> = records.iter().map(|record| record.sequence).collect();
        let codec = if let Some(shaped) = &shaped {
            let mut small = Vec::new();
            let first = self.sections.reserve();
            let codec = shaped.write(&timestamps, &sequences, &mut small, &mut self.sections);
            self.sections.fill(first, small);
            codec
        } else {
            self.sections.push(IntColumn::from(timestamps).to_bytes());
            self.sections.push(IntColumn::from(sequences).to_bytes());
            push_verbatim(&mut self.sections, records);
            Codec::Verbatim
        };
        let body = self.sections.pack();
        let sequences = || records.iter().map(|record| record.sequence);
        let payload_bytes: usize = records.iter().map(|record| record.payload.len()).sum();
        let mut header = BlockHeader {
            codec,
            count: narrow(records.len()),
            first: records.first().map_or(0, |record| record.timestamp),
            last: records.last().map_or(0, |record| record.timestamp),
            sequence_min: sequences().min().unwrap_or(0),
            sequence_max: sequences().max().unwrap_or(0),
            payload_bytes: narrow(payload_bytes),
            body_bytes: narrow(body.len()),
            checksum: 0,
        };
        header.checksum = header.checksum_of(&body);
        let summary = shaped
            .filter(|_| self.summarizes)
            .and_then(|shaped| Contents::of(signal, &shaped))
            .map(|contents| contents.summarize(&header));
        EncodedBlock {
            header,
            body,
            summary,
        }
    }
}

/// The summary of a block that was decoded; `None` when its records are not understood.
pub(crate) fn summarize(
    signal: Signal,
    header: &BlockHeader,
    block: &DecodedBlock,
) -> Option<Vec<u8>> {
    let records: Vec<BlockRecord<'_>> = block.records().collect();
    let contents = Contents::of(signal, &shape(signal, &records)?)?;
    Some(contents.summarize(header))
}

/// Divides records into shapes and columns; `None` when one is not understood or they are too diverse.
fn shape<'a>(signal: Signal, records: &[BlockRecord<'a>]) -> Option<ShapedRecords<'a>> {
    let mut shapes = ShapeEncoder::new(records.len());
    if signal == Signal::Traces {
        shapes = shapes.with_parents_at(protobuf::path_of_parents());
    }
    for record in records {
        match signal {
            Signal::Logs | Signal::Metrics => messagepack::split(record.payload, &mut shapes)?,
            Signal::Traces => protobuf::split(record.payload, &mut shapes)?,
        }
    }
    let spans = match signal {
        Signal::Logs | Signal::Metrics => None,
        Signal::Traces => protobuf::span_columns(&shapes),
    };
    Some(shapes.finish(spans))
}

fn push_verbatim(sections: &mut Sections, records: &[BlockRecord<'_>]) {
    let lengths: IntColumn = records
        .iter()
        .map(|record| record.payload.len() as u64)
        .collect();
    sections.push(lengths.to_bytes());
    let mut payloads = Vec::new();
    for record in records {
        payloads.extend_from_slice(record.payload);
    }
    sections.push(payloads);
}

/// The records of a series that a scan wants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) signal: Signal,
    pub(crate) filter: &'a Filter,
    /// The first and the last position.
    pub(crate) first: (i64, u64),
    pub(crate) last: (i64, u64),
    /// The lowest sequence.
    pub(crate) since_sequence: u64,
}

/// The records of a block that are kept while it is decoded.
#[derive(Default)]
struct Kept {
    indexes: Vec<usize>,
    ends: Vec<u32>,
    payloads: Vec<u8>,
}

impl Kept {
    /// Makes room for all records of a block.
    fn reserve(&mut self, count: usize, payload_bytes: usize) {
        self.indexes.reserve_exact(count);
        self.ends.reserve_exact(count);
        self.payloads
            .reserve_exact(payload_bytes + join::SLACK_BYTES);
    }

    /// Ends the payload of record `index`, and removes it unless `is_kept` accepts it.
    #[inline]
    fn end(&mut self, index: usize, is_kept: impl Fn(&[u8]) -> bool) {
        let start = self.ends.last().map_or(0, |end| *end as usize);
        if is_kept(self.payloads.get(start..).unwrap_or_default()) {
            self.indexes.push(index);
            self.ends.push(narrow(self.payloads.len()));
        } else {
            self.payloads.truncate(start);
        }
    }
}

/// A block decoded into its records, or into some of them.
#[derive(Debug, Default)]
pub(crate) struct DecodedBlock {
    timestamps: Vec<u64>,
    sequences: Vec<u64>,
    /// The end offset of each payload.
    ends: Vec<u32>,
    payloads: Vec<u8>,
    /// The records in place of their payloads, if they are logs and wanted so.
    logs: Option<DecodedLogs>,
}

/// How records are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decoding {
    /// Their payloads.
    Payloads,
    /// The parts of logs, if all of those that are decoded together are simple, and their payloads else.
    LogParts,
}

impl Decoding {
    /// What is faster for most readers.
    pub(crate) fn of(signal: Signal) -> Decoding {
        match signal {
            Signal::Logs => Decoding::LogParts,
            Signal::Metrics | Signal::Traces => Decoding::Payloads,
        }
    }
}

impl DecodedBlock {
    /// Verifies and decodes `body`.
    pub(crate) fn decode(header: &BlockHeader, body: &[u8]) -> Result<DecodedBlock, BlockError> {
        let all = 0..header.count as usize;
        let block = DecodedBlock::decode_part(
            header,
            body,
            all,
            Decoding::Payloads,
            DecodedBlock::default(),
        )?;
        if block.payloads.len() == header.payload_bytes as usize {
            Ok(block)
        } else {
            Err(BlockError::Body("payloads"))
        }
    }

    /// Verifies `body` and decodes the records in `range`, without the keys and columns of the others. Uses the
    /// memory of `spare`, because pages that are new to a process take a quarter of the time of a scan.
    pub(crate) fn decode_part(
        header: &BlockHeader,
        body: &[u8],
        range: Range<usize>,
        decoding: Decoding,
        spare: DecodedBlock,
    ) -> Result<DecodedBlock, BlockError> {
        if !header.codec.is_packed() {
            return DecodedBlock::decode_window(header, body, |_| range);
        }
        let count = header.verify(body)?;
        let payload_bytes = header.payload_bytes as usize;
        let range = range.start.min(count)..range.end.min(count);
        let sections = PackedSections::open(body).ok_or(BlockError::Body("sections"))?;
        let keys = header
            .packed_keys(&sections, count)
            .ok_or(BlockError::Body("timestamps"))?;
        keys.timestamps.want(range.clone());
        keys.sequences.want(range.clone());
        let timestamps = (keys.timestamps.decoded()).ok_or(BlockError::Body("timestamps"))?;
        let sequences = (keys.sequences.decoded()).ok_or(BlockError::Body("sequences"))?;
        let mut block = spare;
        for (keys, part, what) in [
            (timestamps, &mut block.timestamps, "timestamps"),
            (sequences, &mut block.sequences, "sequences"),
        ] {
            part.clear();
            part.extend(keys.part(range.clone()).ok_or(BlockError::Body(what))?);
        }
        block.ends.clear();
        block.payloads.clear();
        let logs = block.logs.take();
        if range.is_empty() {
            return Ok(block);
        }
        let of_records = keys.shapes.clone();
        let shaped = header.open_columns(&sections, count, timestamps, of_records)?;
        if range.len() < count {
            shaped
                .want(range.clone())
                .ok_or(BlockError::Body("shapes"))?;
        }
        if decoding == Decoding::LogParts {
            let logs = logs.unwrap_or_default();
            block.logs = DecodedLogs::decode(&shaped, &range, payload_bytes, logs);
            if block.logs.is_some() {
                return Ok(block);
            }
        }
        block.ends.reserve(range.len());
        if range.len() == count {
            block.payloads.reserve(payload_bytes + join::SLACK_BYTES);
        }
        let mut joiner = Joiner::new(&shaped, &range).ok_or(BlockError::Body("shapes"))?;
        for _ in range {
            joiner
                .join(&mut block.payloads, payload_bytes)
                .ok_or(BlockError::Body("columns"))?;
            block.ends.push(narrow(block.payloads.len()));
        }
        Ok(block)
    }

    /// Verifies `body` and decodes the records in the range of indexes that `window` chooses. It is
    /// given the keys of all records.
    pub(crate) fn decode_window(
        header: &BlockHeader,
        body: &[u8],
        window: impl FnOnce(&DecodedBlock) -> Range<usize>,
    ) -> Result<DecodedBlock, BlockError> {
        let select = |keys: &DecodedBlock, _: Option<&Shaped<'_>>| {
            let window = window(keys);
            let mut selected = Bits::new(keys.timestamps.len());
            window.for_each(|index| selected.insert(index));
            Ok(Some(selected))
        };
        DecodedBlock::decode_some(header, body, select, |_| true)
    }

    /// Verifies `body` and decodes the records of it that `wanted` describes. Columns that neither the
    /// filter nor a selected record needs are not inflated.
    pub(crate) fn decode_matching(
        header: &BlockHeader,
        body: &[u8],
        wanted: &Wanted<'_>,
    ) -> Result<DecodedBlock, BlockError> {
        let select = |keys: &DecodedBlock, shaped: Option<&Shaped<'_>>| {
            let mut selected = Bits::new(keys.timestamps.len());
            for (index, key) in keys.keys().enumerate() {
                if (wanted.first..=wanted.last).contains(&key) && key.1 >= wanted.since_sequence {
                    selected.insert(index);
                }
            }
            if let Some(shaped) = shaped
                && !selected.is_empty()
            {
                let selection = Selector::new(wanted.signal, shaped)
                    .select(wanted.filter)
                    .ok_or(BlockError::Body("columns"))?;
                if let Selection::Some(found) = selection {
                    selected.intersect(&found);
                }
            }
            Ok(Some(selected))
        };
        DecodedBlock::decode_some(header, body, select, |payload| {
            wanted.filter.matches(wanted.signal, payload)
        })
    }

    /// Verifies `body` and decodes the records that `select` selects, all when it returns `None`, and
    /// keeps those whose payload `is_kept` accepts. `select` is given the keys of all records, and the
    /// columns of the others if there are any.
    fn decode_some(
        header: &BlockHeader,
        body: &[u8],
        select: impl FnOnce(&DecodedBlock, Option<&Shaped<'_>>) -> Result<Option<Bits>, BlockError>,
        is_kept: impl Fn(&[u8]) -> bool,
    ) -> Result<DecodedBlock, BlockError> {
        let count = header.verify(body)?;
        let payload_bytes = header.payload_bytes as usize;
        let sections = PackedSections::open(body).ok_or(BlockError::Body("sections"))?;
        let (timestamps, sequences, of_records) = header.read_keys(&sections, count)?;
        let mut block = DecodedBlock {
            timestamps,
            sequences,
            ends: Vec::new(),
            payloads: Vec::new(),
            logs: None,
        };
        let mut kept = Kept::default();
        match header.codec {
            Codec::Verbatim => {
                let selected = select(&block, None)?;
                if selected.is_none() {
                    kept.reserve(count, payload_bytes);
                }
                let payloads = sections.get(3).ok_or(BlockError::Body("payloads"))?;
                let mut rest = Reader::new(payloads);
                let lengths =
                    read_column(&sections, 2, count).ok_or(BlockError::Body("lengths"))?;
                for (index, length) in lengths.into_iter().enumerate() {
                    let payload = usize::try_from(length)
                        .ok()
                        .and_then(|length| rest.bytes(length))
                        .ok_or(BlockError::Body("lengths"))?;
                    if selected.as_ref().is_none_or(|it| it.contains(index)) {
                        kept.payloads.extend_from_slice(payload);
                        kept.end(index, &is_kept);
                    }
                }
                if !rest.is_empty() {
                    return Err(BlockError::Body("payloads"));
                }
            }
            Codec::Columns | Codec::Packed | Codec::Spans => {
                let keys = Decoded::all(&block.timestamps);
                let shaped = header.open_columns(&sections, count, keys, of_records)?;
                let selected = select(&block, Some(&shaped))?;
                if selected.is_none() {
                    kept.reserve(count, payload_bytes);
                }
                let range = selected.as_ref().map_or(0..count, Bits::range);
                if !range.is_empty() {
                    if range.len() < count {
                        shaped
                            .want(range.clone())
                            .ok_or(BlockError::Body("shapes"))?;
                    }
                    let mut joiner =
                        Joiner::new(&shaped, &range).ok_or(BlockError::Body("shapes"))?;
                    for index in range {
                        if selected.as_ref().is_none_or(|it| it.contains(index)) {
                            joiner
                                .join(&mut kept.payloads, payload_bytes)
                                .ok_or(BlockError::Body("columns"))?;
                            kept.end(index, &is_kept);
                        } else {
                            joiner.pass().ok_or(BlockError::Body("columns"))?;
                        }
                    }
                }
            }
        }
        if kept.indexes.len() < count {
            let key_of =
                |keys: &[u64], index: &usize| keys.get(*index).copied().unwrap_or_default();
            block.timestamps = (kept.indexes.iter())
                .map(|index| key_of(&block.timestamps, index))
                .collect();
            block.sequences = (kept.indexes.iter())
                .map(|index| key_of(&block.sequences, index))
                .collect();
        }
        block.ends = kept.ends;
        block.payloads = kept.payloads;
        Ok(block)
    }

    pub(crate) fn len(&self) -> usize {
        self.timestamps.len()
    }

    /// The timestamps of the records, as their bits.
    pub(crate) fn timestamps(&self) -> &[u64] {
        &self.timestamps
    }

    /// The approximate memory of this value, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        let logs_bytes = self.logs.as_ref().map_or(0, DecodedLogs::memory_bytes);
        self.payloads.len() + logs_bytes + self.len() * 20
    }

    /// The position of record `index` in reading order.
    pub(crate) fn key(&self, index: usize) -> Option<(i64, u64)> {
        Some((
            self.timestamps.get(index)?.cast_signed(),
            *self.sequences.get(index)?,
        ))
    }

    fn keys(&self) -> impl Iterator<Item = (i64, u64)> {
        let timestamps = self.timestamps.iter().map(|it| it.cast_signed());
        timestamps.zip(self.sequences.iter().copied())
    }

    /// Whether there are [parts of logs](Decoding::LogParts) and no payloads.
    pub(crate) fn has_logs(&self) -> bool {
        self.logs.is_some()
    }

    /// The parts of record `index`.
    #[inline]
    pub(crate) fn log(&self, index: usize) -> Option<LogParts<'_>> {
        self.logs.as_ref()?.get(index)
    }

    /// The payload of record `index`.
    pub(crate) fn payload(&self, index: usize) -> Option<&[u8]> {
        let start = match index.checked_sub(1) {
            Some(previous) => *self.ends.get(previous)? as usize,
            None => 0,
        };
        self.payloads.get(start..*self.ends.get(index)? as usize)
    }

    /// All records.
    pub(crate) fn records(&self) -> impl Iterator<Item = BlockRecord<'_>> {
        (0..self.len()).filter_map(|index| {
            let (timestamp, sequence) = self.key(index)?;
            Some(BlockRecord {
                timestamp,
                sequence,
                payload: self.payload(index)?,
            })
        })
    }

    /// The index of the first record at or after `key`.
    pub(crate) fn lower_bound(&self, key: (i64, u64)) -> usize {
        let (mut low, mut high) = (0, self.timestamps.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.key(middle).is_some_and(|at| at < key) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// A copy of the records in `range`, which have payloads, for when the whole block takes too much memory.
    pub(crate) fn slice(&self, range: Range<usize>) -> DecodedBlock {
        let mut part = DecodedBlock {
            timestamps: self
                .timestamps
                .get(range.clone())
                .unwrap_or_default()
                .to_vec(),
            sequences: self
                .sequences
                .get(range.clone())
                .unwrap_or_default()
                .to_vec(),
            ends: Vec::with_capacity(range.len()),
            payloads: Vec::new(),
            logs: None,
        };
        for payload in range.filter_map(|index| self.payload(index)) {
            part.payloads.extend_from_slice(payload);
            part.ends.push(narrow(part.payloads.len()));
        }
        part
    }
}

/// Lengths inside a block fit 32 bits, because all payloads of a block together do.
fn narrow(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

const _: () = assert!(PAYLOAD_BYTES_MAX < u32::MAX as usize / 2);

#[cfg(test)]
mod tests;
