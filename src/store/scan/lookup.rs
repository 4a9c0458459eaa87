//! Finds the stored records of a series that have given timestamps.

use crate::store::{
    engine::fault::{Fault, guarded},
    layout::{
        block::{BlockHeader, DecodedBlock, span_max},
        keys::{self, Position},
        row::RowRecords,
        series::SeriesState,
        tables::{BLOCK_CHUNKS, BLOCKS, BlockKey, ROWS, RowKey},
    },
    tiers::{blocks, rows},
};
use redb::ReadTransaction;
use std::{
    collections::BTreeMap,
    ops::{ControlFlow, Range},
};

/// Maximum number of ranges of a set of sequences, which bounds its memory.
const RANGES_MAX: usize = 1 << 20;

/// A set of sequences.
#[derive(Debug, Default)]
pub(crate) struct Sequences {
    /// The end of each range, by its start. No two of them touch.
    ranges: BTreeMap<u64, u64>,
}

impl Sequences {
    /// Adds the sequences of a range, unless there are more than a million gaps.
    pub(crate) fn insert(&mut self, range: Range<u64>) {
        let Range { mut start, mut end } = range;
        if start >= end {
            return;
        }
        while let Some((found, found_end)) = self.up_to(end).filter(|(_, it)| *it >= start) {
            self.ranges.remove(&found);
            (start, end) = (start.min(found), end.max(found_end));
        }
        if self.ranges.len() < RANGES_MAX {
            self.ranges.insert(start, end);
        }
    }

    /// The last range that starts at `sequence` or before.
    fn up_to(&self, sequence: u64) -> Option<(u64, u64)> {
        let (start, end) = self.ranges.range(..=sequence).next_back()?;
        Some((*start, *end))
    }

    /// Whether all sequences up to and including `last` are in the set.
    fn contains(&self, first: u64, last: u64) -> bool {
        self.up_to(first).is_some_and(|(_, end)| last < end)
    }
}

/// Calls `found` with the position and payload of each record whose timestamp is one of
/// `timestamps`, in no particular order. `timestamps` must be sorted. Records whose sequence is in
/// `ignored` are left out. Ends when `found` breaks. Returns
/// the number of blocks read.
///
/// A block is read at most once, however far apart the timestamps are, and only if one of them is
/// between its first record and its last. One block is in memory at a time.
pub(crate) fn records_at(
    transaction: &ReadTransaction,
    state: &SeriesState,
    timestamps: &[i64],
    ignored: &Sequences,
    mut found: impl FnMut(Position, &[u8]) -> ControlFlow<()>,
) -> Result<usize, Fault> {
    let (Some(first), Some(last)) = (timestamps.first(), timestamps.last()) else {
        return Ok(0);
    };
    let rows = transaction.open_table(ROWS)?;
    let (from, to) = rows::keys_between(state.id, *first, *last);
    for entry in rows.range::<&RowKey>(&from..=&to)? {
        let (key, value) = entry?;
        // A damaged record is no duplicate: it is stored again.
        let row = RowRecords::read(key.value(), value.value());
        for (position, payload) in row.into_iter().flatten() {
            if timestamps.binary_search(&position.0).is_ok()
                && !ignored.contains(position.1, position.1)
                && found(position, payload).is_break()
            {
                return Ok(0);
            }
        }
    }
    let headers = transaction.open_table(BLOCKS)?;
    let chunks = transaction.open_table(BLOCK_CHUNKS)?;
    let mut blocks_read = 0;
    for (class, _) in &state.span_classes {
        // Every block that begins at or before the last timestamp ends at most one span after it.
        let end = last.saturating_add_unsigned(span_max(*class));
        let from = keys::block_key(state.id, *class, (*first, 0));
        let to = keys::block_key(state.id, *class, (end, u64::MAX));
        for entry in headers.range::<&BlockKey>(&from..=&to)? {
            let (key, header) = entry?;
            let Ok(header) = blocks::read_header(key.value(), header.value()) else {
                continue;
            };
            let within = within(timestamps, &header);
            if !within.is_empty() && !ignored.contains(header.sequence_min, header.sequence_max) {
                blocks_read += 1;
                let block = match guarded(|| blocks::load(&chunks, key.value(), &header)) {
                    Ok(block) => block,
                    Err(fault) if fault.is_damage() => continue,
                    Err(fault) => return Err(fault),
                };
                let outcome = records_of(&block, within, |position, payload| {
                    if ignored.contains(position.1, position.1) {
                        ControlFlow::Continue(())
                    } else {
                        found(position, payload)
                    }
                });
                if outcome.is_break() {
                    return Ok(blocks_read);
                }
            }
        }
    }
    Ok(blocks_read)
}

/// The timestamps between a block's first record and its last.
fn within<'a>(timestamps: &'a [i64], header: &BlockHeader) -> &'a [i64] {
    let start = timestamps.partition_point(|timestamp| *timestamp < header.first);
    let end = timestamps.partition_point(|timestamp| *timestamp <= header.last);
    timestamps.get(start..end).unwrap_or_default()
}

/// Calls `found` for the records of a block that have one of `timestamps`.
fn records_of(
    block: &DecodedBlock,
    timestamps: &[i64],
    mut found: impl FnMut(Position, &[u8]) -> ControlFlow<()>,
) -> ControlFlow<()> {
    for same in timestamps.chunk_by(|a, b| a == b) {
        let Some(timestamp) = same.first() else {
            continue;
        };
        for index in block.lower_bound((*timestamp, 0))..block.len() {
            match (block.key(index), block.payload(index)) {
                (Some(position), Some(payload)) if position.0 == *timestamp => {
                    found(position, payload)?;
                }
                _ => break,
            }
        }
    }
    ControlFlow::Continue(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        record::{Level, LogRecord, Record, ServerName},
        store::{ImportBatch, Importer, Store, StoreOptions},
        time::Timestamp,
    };

    const HOUR: i64 = 3_600_000_000_000;

    /// A store with one record per hour since 1970.
    fn hourly(folder: &tempfile::TempDir, hours: i64) -> (Store, Importer) {
        let store = Store::open(folder.path(), "gw", StoreOptions::default()).unwrap();
        let mut importer = Importer::new(&store).unwrap();
        let server = ServerName::new("github").unwrap();
        let mut batch = ImportBatch::default();
        for hour in 0..hours {
            let time = Timestamp::from_unix_nanos(hour * HOUR);
            let record = LogRecord::new(time, Level::INFO, format!("hour {hour}"));
            batch.push(&server, &Record::Log(record)).unwrap();
        }
        importer.add(batch).unwrap();
        (store, importer)
    }

    fn sequences(ranges: &[Range<u64>]) -> Sequences {
        let mut sequences = Sequences::default();
        for range in ranges {
            sequences.insert(range.clone());
        }
        sequences
    }

    #[test]
    fn ranges_that_touch_become_one() {
        let mut set = sequences(&[5..7, 0..2, 9..12, 7..8, 3..3]);
        let expected = BTreeMap::from([(0, 2), (5, 8), (9, 12)]);
        assert_eq!(set.ranges, expected);
        for sequence in 0..14 {
            let is_in = [0..2, 5..8, 9..12].iter().any(|it| it.contains(&sequence));
            assert_eq!(set.contains(sequence, sequence), is_in);
        }
        assert!(set.contains(5, 7) && !set.contains(5, 8) && !set.contains(4, 5));
        set.insert(1..10);
        assert_eq!(set.ranges, BTreeMap::from([(0, 12)]));
    }

    fn lookup(store: &Store, timestamps: &[i64], ignored: &[Range<u64>]) -> (Vec<Position>, usize) {
        let snapshot = store.snapshot().unwrap();
        let state = snapshot.view().series().unwrap().remove(0).state;
        let mut positions = Vec::new();
        let blocks_read = records_at(
            snapshot.view().transaction(),
            &state,
            timestamps,
            &sequences(ignored),
            |position, _| {
                positions.push(position);
                ControlFlow::Continue(())
            },
        )
        .unwrap();
        positions.sort_unstable();
        (positions, blocks_read)
    }

    #[test]
    fn each_block_is_read_once_however_far_apart_its_records_are() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = hourly(&folder, 10_000);
        let all: Vec<i64> = (0..10_000).map(|hour| hour * HOUR).collect();
        let (positions, blocks_read) = lookup(&store, &all, &[]);
        assert_eq!(positions.len(), 10_000);
        assert!((1..100).contains(&blocks_read), "{blocks_read}");
        // There are no records between two hours.
        let between: Vec<i64> = all.iter().map(|timestamp| timestamp + 1).collect();
        assert_eq!(lookup(&store, &between, &[]).0, []);
    }

    #[test]
    fn only_blocks_that_can_hold_a_record_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = hourly(&folder, 10_000);
        let (positions, blocks_read) = lookup(&store, &[-HOUR, 0, 0, 20_000 * HOUR], &[]);
        assert_eq!((positions, blocks_read), (vec![(0, 0)], 1));
        assert_eq!(lookup(&store, &[-HOUR, 20_000 * HOUR], &[]).1, 0);
        assert_eq!(lookup(&store, &[], &[]), (vec![], 0));
    }

    #[test]
    fn what_is_ignored_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = hourly(&folder, 10_000);
        let all: Vec<i64> = (0..10_000).map(|hour| hour * HOUR).collect();
        assert_eq!(
            lookup(&store, &all, std::slice::from_ref(&(0..10_000))),
            (vec![], 0)
        );
        let (positions, _) = lookup(&store, &all, &[0..5, 7..9_999]);
        let sequences: Vec<u64> = positions.iter().map(|(_, sequence)| *sequence).collect();
        assert_eq!(sequences, [5, 6, 9_999]);
    }

    #[test]
    fn nothing_more_is_read_once_enough_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = hourly(&folder, 10_000);
        let all: Vec<i64> = (0..10_000).map(|hour| hour * HOUR).collect();
        let snapshot = store.snapshot().unwrap();
        let state = snapshot.view().series().unwrap().remove(0).state;
        let mut count = 0;
        let transaction = snapshot.view().transaction();
        let blocks_read = records_at(transaction, &state, &all, &sequences(&[]), |_, _| {
            count += 1;
            ControlFlow::Break(())
        });
        assert_eq!((blocks_read.unwrap(), count), (1, 1));
    }
}
