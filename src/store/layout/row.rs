//! The values of rows.
//!
//! A row holds one record, or several of one series that were committed together, which have consecutive
//! sequences and ascending timestamps. Its key names the last of them. A row of several fits a page, and costs one
//! insertion into a tree instead of one for each record.
//!
//! ```text
//! of one record:   payload, checksum
//! of several:      0xc1, count, span, checksum of these,
//!                  { time since the record before, length of payload }, payloads, checksum
//! ```
//!
//! Numbers are base-128 integers, and the span is the time from the first record to the last. With a checksum of its
//! own, the count can be trusted when the rest is damaged, and without reading the rest. No payload begins with 0xc1: `MessagePack` never uses it, and the message of a span has no field 24. Rows of before version 7 hold one
//! record each.

use crate::store::layout::{
    block::{
        BlockRecord,
        bytes::{Reader, Writer, varint_bytes},
    },
    checked::{self, CHECKSUM_BYTES},
    footprint,
    keys::{self, Position},
    series::SeriesId,
    tables::RowKey,
};
use std::ops::Range;

/// What the value of a row of several records begins with.
const SEVERAL: u8 = 0xc1;
/// The longest time from the first record of a row to its last, in nanoseconds. A reader looks for a record in the rows
/// that end up to this time after it.
pub(crate) const SPAN_MAX: u64 = 10_000_000_000;
/// The longest value of a row of several records.
const SEVERAL_BYTES_MAX: usize = footprint::row_bytes(1);
/// The most that the head of a row of several takes: all before the times and lengths.
const HEAD_BYTES_MAX: usize = 1 + 5 + 5 + CHECKSUM_BYTES;

/// The first of `records` as the value of a row, which is written to `value`. Returns the key of the row and the number
/// of records in it, which is 0 only without records.
pub(crate) fn encode(
    series: SeriesId,
    records: &[BlockRecord<'_>],
    value: &mut Vec<u8>,
) -> (RowKey, usize) {
    value.clear();
    let count = fitting(records);
    let taken = records.get(..count).unwrap_or_default();
    let (Some(first), Some(last)) = (taken.first(), taken.last()) else {
        return (keys::row_key(series, keys::POSITION_MIN), 0);
    };
    let key = keys::row_key(series, (last.timestamp, last.sequence));
    // A payload that is no record must not pass for several.
    if count == 1 && first.payload.first() != Some(&SEVERAL) {
        checked::encode(&key, first.payload, value);
        return (key, count);
    }
    value.push(SEVERAL);
    value.varint(count as u64);
    value.varint(last.timestamp.abs_diff(first.timestamp));
    checked::seal(&key, value);
    let mut before = first.timestamp;
    for record in taken {
        value.varint(record.timestamp.abs_diff(before));
        value.varint(record.payload.len() as u64);
        before = record.timestamp;
    }
    for record in taken {
        value.extend_from_slice(record.payload);
    }
    checked::seal(&key, value);
    (key, count)
}

/// The number of the first `records` that fit a row. At least one, whatever its size.
fn fitting(records: &[BlockRecord<'_>]) -> usize {
    let Some(first) = records.first() else {
        return 0;
    };
    let mut bytes = HEAD_BYTES_MAX + CHECKSUM_BYTES;
    let mut before = (first.timestamp, first.sequence.wrapping_sub(1));
    let fits = |record: &&BlockRecord<'_>| {
        let since = record.timestamp.abs_diff(before.0);
        let length = record.payload.len();
        bytes = bytes
            .saturating_add(varint_bytes(since) + varint_bytes(length as u64))
            .saturating_add(length);
        let follows = record.timestamp >= before.0 && record.sequence == before.1.wrapping_add(1);
        before = (record.timestamp, record.sequence);
        follows
            && bytes <= SEVERAL_BYTES_MAX
            && record.timestamp.abs_diff(first.timestamp) <= SPAN_MAX
    };
    records.iter().take_while(fits).count().max(1)
}

/// Whether the value of a row is that of one record which is longer than a page.
pub(crate) fn is_long(stored: &[u8]) -> bool {
    stored.len() > SEVERAL_BYTES_MAX
}

/// The head of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Head {
    One,
    Several { count: u64, span: u64 },
    Damaged,
}

impl Head {
    /// Reads the head of the row at `key`, and leaves `rest` after it.
    fn read(key: &RowKey, rest: &mut Reader<'_>) -> Head {
        let stored = rest.rest();
        if stored.first() != Some(&SEVERAL) {
            return Head::One;
        }
        Head::of_several(key, stored, rest).unwrap_or(Head::Damaged)
    }

    fn of_several(key: &RowKey, stored: &[u8], rest: &mut Reader<'_>) -> Option<Head> {
        rest.u8()?;
        let (count, span) = (rest.varint()?, rest.varint()?);
        rest.bytes(CHECKSUM_BYTES)?;
        checked::decode(key, stored.get(..stored.len() - rest.remaining())?)?;
        Some(Head::Several { count, span })
    }
}

/// What a row holds, without its payloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowExtent {
    /// The number of its records; `None` when that is damaged.
    pub(crate) count: Option<u64>,
    /// The timestamp of its first record, or of its last if that is all that is known.
    pub(crate) first: i64,
    /// The timestamp of its last record.
    pub(crate) last: i64,
}

impl RowExtent {
    /// The number of its records, of which at least one is known to have been there.
    pub(crate) fn records(self) -> u64 {
        self.count.unwrap_or(1)
    }
}

/// What the row at `key` holds, from its head alone: the rest can be damaged.
pub(crate) fn extent(key: &RowKey, stored: &[u8]) -> RowExtent {
    let (last, _) = keys::row_position(key);
    let (count, span) = match Head::read(key, &mut Reader::new(stored)) {
        Head::One => (Some(1), 0),
        Head::Several { count, span } => (Some(count), span),
        Head::Damaged => (None, 0),
    };
    RowExtent {
        count,
        first: last.saturating_sub_unsigned(span),
        last,
    }
}

/// The records of a row, in order.
#[derive(Debug, Clone)]
pub(crate) struct RowRecords<'v> {
    value: &'v [u8],
    /// Times and lengths; `None` in a row of one record.
    index: Option<Reader<'v>>,
    left: u64,
    /// The timestamp of the record before, and the sequence of the next one.
    timestamp: i64,
    sequence: u64,
    /// Where the next payload begins in `value`.
    at: usize,
}

impl<'v> RowRecords<'v> {
    /// Opens the value of the row at `key`; `None` when the row is damaged.
    pub(crate) fn read(key: &RowKey, stored: &'v [u8]) -> Option<RowRecords<'v>> {
        let value = checked::decode(key, stored)?;
        let (last, sequence) = keys::row_position(key);
        let mut reader = Reader::new(value);
        let (count, span) = match Head::read(key, &mut reader) {
            Head::Several { count, span } => (count, span),
            Head::Damaged => return None,
            Head::One => {
                return Some(RowRecords {
                    value,
                    index: None,
                    left: 1,
                    timestamp: last,
                    sequence,
                    at: 0,
                });
            }
        };
        let index = reader.clone();
        let (mut times, mut lengths) = (0u64, 0u64);
        for _ in 0..count {
            times = times.checked_add(reader.varint()?)?;
            lengths = lengths.checked_add(reader.varint()?)?;
        }
        let is_whole =
            lengths == reader.remaining() as u64 && times == span && span <= SPAN_MAX && count > 0;
        let records = RowRecords {
            value,
            index: Some(index),
            left: count,
            timestamp: last.checked_sub_unsigned(span)?,
            sequence: sequence.checked_sub(count.checked_sub(1)?)?,
            at: value.len() - reader.remaining(),
        };
        is_whole.then_some(records)
    }

    /// The payloads with the checksum taken off, in which the ranges of [`next_range`](Self::next_range) are.
    pub(crate) fn value(&self) -> &'v [u8] {
        self.value
    }

    /// The position of the next record, and where its payload is in the value.
    pub(crate) fn next_range(&mut self) -> Option<(Position, Range<usize>)> {
        self.left = self.left.checked_sub(1)?;
        let length = match &mut self.index {
            None => self.value.len(),
            Some(index) => {
                let since = index.varint()?;
                self.timestamp = self.timestamp.checked_add_unsigned(since)?;
                index.length()?
            }
        };
        let payload = self.at..self.at.checked_add(length)?;
        self.at = payload.end;
        let position = (self.timestamp, self.sequence);
        self.sequence = self.sequence.wrapping_add(1);
        Some((position, payload))
    }
}

impl<'v> Iterator for RowRecords<'v> {
    type Item = (Position, &'v [u8]);

    fn next(&mut self) -> Option<(Position, &'v [u8])> {
        let (position, payload) = self.next_range()?;
        Some((position, self.value.get(payload)?))
    }
}

/// Fuzzing of rows.
#[cfg(feature = "simulation")]
pub(crate) mod fuzz {
    use super::{
        BlockRecord, CHECKSUM_BYTES, Reader, RowKey, RowRecords, SeriesId, checked, encode, extent,
        keys,
    };

    const SERIES: SeriesId = SeriesId(7);

    /// Reads an input as the value of a row, with its checksums corrected. What can be read is stored the same again.
    pub(crate) fn value(input: &[u8]) {
        let key = keys::row_key(SERIES, (1 << 60, 1 << 40));
        let mut value = input.to_vec();
        correct_head(&key, &mut value);
        let _ = extent(&key, &value);
        checked::seal(&key, &mut value);
        let Some(read) = RowRecords::read(&key, &value) else {
            return;
        };
        let records: Vec<_> = read.collect();
        let again: Vec<_> = records
            .iter()
            .map(|(position, payload)| BlockRecord::new(*position, payload))
            .collect();
        let mut rest = again.as_slice();
        let mut stored = Vec::new();
        let mut found = Vec::new();
        while !rest.is_empty() {
            let (key, count) = encode(SERIES, rest, &mut stored);
            let read = RowRecords::read(&key, &stored);
            found.extend(read.into_iter().flatten().map(|(at, it)| (at, it.to_vec())));
            rest = rest.get(count..).unwrap_or_default();
        }
        let is_same = found.iter().map(|(at, it)| (*at, it.as_slice()));
        assert!(is_same.eq(records), "a row changes when it is stored again");
    }

    fn correct_head(key: &RowKey, value: &mut Vec<u8>) {
        let mut rest = Reader::new(value);
        if rest.u8() != Some(super::SEVERAL) || rest.varint().is_none() || rest.varint().is_none() {
            return;
        }
        let Some(after) = rest.clone().bytes(CHECKSUM_BYTES).map(|_| rest.remaining()) else {
            return;
        };
        let rest = value.split_off(value.len() - after);
        checked::seal(key, value);
        value.extend(rest.into_iter().skip(CHECKSUM_BYTES));
    }

    /// Rows of one record and of several, without their checksums.
    pub(crate) fn seeds() -> Vec<Vec<u8>> {
        let payloads: Vec<Vec<u8>> = (1..9).map(|length| vec![0x90; length * 7]).collect();
        let records: Vec<_> = (0_i64..)
            .zip(&payloads)
            .map(|(number, payload)| {
                let position = ((1 << 60) + number * 1_234_567, 40 + number.cast_unsigned());
                BlockRecord::new(position, payload)
            })
            .collect();
        [1, 2, records.len()]
            .into_iter()
            .map(|count| {
                let mut value = Vec::new();
                encode(SERIES, records.get(..count).unwrap_or_default(), &mut value);
                value.truncate(value.len() - CHECKSUM_BYTES);
                value
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SERIES: SeriesId = SeriesId(7);

    /// The rows of `records`.
    fn rows(records: &[BlockRecord<'_>]) -> Vec<(RowKey, Vec<u8>)> {
        let mut rest = records;
        let mut rows = Vec::new();
        let mut value = Vec::new();
        while !rest.is_empty() {
            let (key, count) = encode(SERIES, rest, &mut value);
            assert!(count > 0);
            rows.push((key, value.clone()));
            rest = &rest[count..];
        }
        rows
    }

    proptest! {
        #[test]
        fn records_come_back(
            times in prop::collection::vec((any::<i64>(), 0i64..4_000_000_000, 0u8..10), 0..60),
            lengths in prop::collection::vec(0usize..600, 60),
            long in 0usize..60,
            first_sequence in 0u64..u64::MAX - 60,
            head: u8,
        ) {
            let mut at = 0i64;
            let payloads: Vec<Vec<u8>> = (0..times.len())
                .map(|place| {
                    let length = lengths[place] + usize::from(place == long) * 9000;
                    let mut payload = vec![place.to_le_bytes()[0]; length];
                    payload.iter_mut().take(1).for_each(|first| *first = head | 0xc0);
                    payload
                })
                .collect();
            let records: Vec<BlockRecord<'_>> = times
                .iter()
                .zip(&payloads)
                .zip(first_sequence..)
                .map(|(((anywhere, later, kind), payload), sequence)| {
                    at = if *kind == 0 { *anywhere } else { at.saturating_add(*later) };
                    BlockRecord { timestamp: at, sequence, payload }
                })
                .collect();
            let rows = rows(&records);
            let mut found = Vec::new();
            for (key, value) in &rows {
                let read = RowRecords::read(key, value).unwrap();
                let of_row: Vec<_> = read.collect();
                prop_assert!(of_row.is_sorted_by(|a, b| a.0 < b.0));
                let extent = extent(key, value);
                prop_assert_eq!(extent.count, Some(of_row.len() as u64));
                prop_assert_eq!(extent.first, of_row[0].0.0);
                prop_assert_eq!(extent.last, of_row[of_row.len() - 1].0.0);
                prop_assert!(extent.last.abs_diff(extent.first) <= SPAN_MAX);
                prop_assert!(of_row.len() == 1 || value.len() <= SEVERAL_BYTES_MAX);
                prop_assert_eq!(keys::row_position(key), of_row[of_row.len() - 1].0);
                found.extend(of_row);
            }
            let expected: Vec<_> = records
                .iter()
                .map(|it| ((it.timestamp, it.sequence), it.payload))
                .collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn no_value_makes_it_panic(
            timestamp: i64,
            sequence: u64,
            mut value in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let key = keys::row_key(SERIES, (timestamp, sequence));
            value.insert(0, SEVERAL);
            let rest = value.split_off(value.len().min(3));
            checked::seal(&key, &mut value);
            value.extend(rest);
            extent(&key, &value);
            checked::seal(&key, &mut value);
            let records = RowRecords::read(&key, &value);
            let count = records.clone().map_or(0, Iterator::count);
            prop_assert!(count <= value.len());
            prop_assert!(records.is_none_or(|it| it.clone().count() as u64 == it.left));
        }
    }

    #[test]
    fn records_that_follow_each_other_share_rows() {
        let payloads = vec![vec![0x90; 100]; 200];
        let records = BlockRecord::numbered(&payloads);
        assert_eq!(rows(&records).len(), 6);
    }
}
