//! Small blocks are merged into full ones, in whatever order their records arrive, and no record is
//! rewritten more often than the logarithm of the number of records.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;
mod model;

use common::{Random, number, on_demand, record};
use gridctl_telemetry::{
    Level, LogRecord, Query, Record, Signal, Timestamp, query::StoredRecord, testing::CheckedBlock,
};
use model::{HOUR, SECOND, START, world::World};
use std::time::Duration;

/// A round of maintenance begins at least this often, and none lasts as long.
const ROUND: Duration = Duration::from_secs(60 * 2);
/// Maximum number of blocks of a merge level after a round, see `BlockHeader::merge_level`.
const OF_A_LEVEL_MAX: u32 = 8;

/// A store in which each commit becomes blocks.
struct Merging(World);

impl Merging {
    fn new() -> Merging {
        Merging(World::new(on_demand().tiering(1, 1, 4096)))
    }

    fn commit(&mut self, records: impl IntoIterator<Item = LogRecord>) {
        for record in records {
            self.0.offer("a", &Record::Log(record));
        }
        self.0.commit();
    }

    /// Runs rounds of maintenance until one finds nothing to do.
    fn settle(&mut self) {
        let mut rewritten = None;
        while rewritten != Some(self.rewritten()) {
            rewritten = Some(self.rewritten());
            self.0.work(ROUND);
        }
    }

    fn rewritten(&self) -> u64 {
        self.0.writer.stats().maintenance.rewritten_bytes
    }

    fn blocks(&self) -> Vec<CheckedBlock> {
        let layout = self.0.store.snapshot().unwrap().check().unwrap();
        assert!(layout[0].rows.is_empty());
        layout[0].blocks.clone()
    }
}

#[test]
fn nothing_is_written_again_more_often_than_it_quadruples() {
    let mut merging = Merging::new();
    let mut written = 0;
    let mut part_before: Option<u64> = None;
    let mut number = 0;
    for levels in 2u32..=5 {
        while number < 4u64.pow(levels) {
            merging.commit([record(number)]);
            let newest = merging
                .blocks()
                .into_iter()
                .max_by_key(|block| block.last.1);
            written += newest.unwrap().disk_bytes;
            number += 1;
            if number.is_multiple_of(8) {
                merging.settle();
            }
        }
        merging.settle();
        // Rewritten bytes, in percent of written ones.
        let part = merging.rewritten() * 100 / written;
        assert!(part > 0, "nothing is merged");
        if let Some(before) = part_before {
            assert!(part <= before + 100, "{number}: {before} became {part}");
        }
        part_before = Some(part);
        let blocks = merging.blocks();
        let most = OF_A_LEVEL_MAX * levels;
        assert!(blocks.len() <= most as usize, "{} blocks", blocks.len());
    }
    let read: Vec<u64> = (merging.0.store.scan(&Query::new(Signal::Logs)).unwrap())
        .map(|stored| number_of(stored.unwrap()))
        .collect();
    let mut sorted = read.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..number).collect::<Vec<_>>());
}

fn number_of(stored: StoredRecord) -> u64 {
    number(&stored.record.into_log().unwrap())
}

#[test]
fn late_records_come_to_lie_between_those_of_their_time() {
    const HOURS: i64 = 100;
    /// The number of blocks from which they are merged however far apart they are.
    const APART_MAX: usize = 48;
    let mut merging = Merging::new();
    let at = |nanos: i64| {
        let time = Timestamp::from_unix_nanos(START + nanos);
        LogRecord::new(time, Level::INFO, "tool call completed")
    };
    for hour in 0..HOURS {
        merging.commit((0..400).map(|number| at(hour * HOUR + number * 9 * SECOND)));
    }
    merging.settle();
    let full = merging.blocks();
    let mut random = Random::new(5);
    let mut most = 0;
    for late in 0..300 {
        let hour = i64::try_from(random.below(100)).unwrap();
        merging.commit([at(hour * HOUR + late)]);
        if late % 8 == 0 {
            merging.settle();
            most = most.max(merging.blocks().len());
        }
    }
    merging.settle();
    let blocks = merging.blocks();
    let records: u64 = blocks.iter().map(|block| block.records).sum();
    assert_eq!(records, 400 * HOURS.cast_unsigned() + 300);
    // Three levels: blocks of 1, of 4 and of 16.
    assert!(most <= full.len() + 3 * APART_MAX, "{most} blocks");
    assert!(
        blocks.len() < full.len() + 300 / 2,
        "{} blocks",
        blocks.len()
    );
    // Reading an hour reads the blocks of that hour and few others.
    for hour in 0..HOURS {
        let time = Timestamp::from_unix_nanos(START + hour * HOUR + HOUR / 2);
        let covers = |block: &&CheckedBlock| block.first <= time && time <= block.last.0;
        let covering = blocks.iter().filter(covers).count();
        assert!(covering <= 8, "{covering} blocks for the hour {hour}");
    }
}
