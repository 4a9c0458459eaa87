//! Random operations on a store with limits, and on a list in memory: the same records, always.
//!
//! What is too old follows from the list and the clock alone. What a limit of bytes takes does not:
//! it depends on how well blocks compress. So of that the promise is checked: nothing goes from a
//! series that is within its limit, the series is within it afterwards, no younger record goes
//! before an older block, and the ledger counts every one.
//!
//! `GRIDCTL_TELEMETRY_CASES` says how many runs there are.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{STACK, server};
use gridctl_telemetry::{
    ClockReading, CompactOptions, DropCause, Level, LogRecord, Query, Signal, SimulatedWriter,
    Snapshot, Store, StoreOptions, Timestamp, WipeScope, WriterOptions,
};
use proptest::prelude::*;
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
use tempfile::TempDir;

const SERVERS: [&str; 3] = ["github", "a/../b", "日本"];
const SECOND: i64 = 1_000_000_000;
const HOUR: i64 = 3600 * SECOND;
const DAY: i64 = 24 * HOUR;
/// 2026-01-01T00:00:00Z
const START: i64 = 1_767_225_600 * SECOND;
/// Longer than the writer waits with a commit, and with its upkeep.
const WHILE: Duration = Duration::from_secs(61);

#[derive(Debug, Clone)]
enum Operation {
    /// Log records that are so old.
    Log {
        server: usize,
        ages: Vec<i64>,
    },
    /// Let the writer commit, and do what it does between batches.
    Work,
    /// Let hours go by in which the machine sleeps.
    Sleep {
        hours: i64,
    },
    /// Set the clock wrong by so many days, or right again.
    SetClock {
        days: i64,
    },
    /// Keep so many bytes of each series, for so many days.
    Limit {
        bytes: u64,
        days: u64,
    },
    Wipe {
        server: Option<usize>,
    },
    Compact,
    Restart,
}

fn age() -> impl Strategy<Value = i64> {
    prop_oneof![
        // As they come, ties included.
        8 => (0i64..40).prop_map(|millis| millis * 1_000_000),
        // Late ones, around the limits of age.
        3 => (0i64..20).prop_map(|half_days| half_days * DAY / 2 + 1),
        1 => 0i64..2000 * DAY,
        // From a server whose clock is ahead.
        1 => -3 * DAY..0,
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        8 => (0usize..3, prop::collection::vec(age(), 1..60))
            .prop_map(|(server, ages)| Operation::Log { server, ages }),
        6 => Just(Operation::Work),
        2 => (1i64..40).prop_map(|hours| Operation::Sleep { hours }),
        1 => prop_oneof![Just(0i64), 1i64..400].prop_map(|days| Operation::SetClock { days }),
        2 => (prop_oneof![300u64..6000, Just(1 << 40)], 1u64..10)
            .prop_map(|(bytes, days)| Operation::Limit { bytes, days }),
        1 => prop::option::of(0usize..3).prop_map(|server| Operation::Wipe { server }),
        1 => Just(Operation::Compact),
        1 => Just(Operation::Restart),
    ]
}

/// A record: its time and its number.
type Known = (i64, u64);

struct World {
    home: TempDir,
    clock: Arc<Mutex<ClockReading>>,
    /// The time that no program knows.
    true_time: i64,
    wrong_since: Option<i64>,
    store: Store,
    writer: Option<SimulatedWriter>,
    writer_time: Duration,
    limits: Option<(u64, i64)>,
    /// What was logged and not yet committed.
    pending: [Vec<Known>; 3],
    /// What is in the file.
    stored: [Vec<Known>; 3],
    /// What limits took, by what the file lost.
    taken: [u64; 3],
    logged: u64,
}

fn folder() -> TempDir {
    // The promises here are not about disks, and ten thousand runs sync often.
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

impl World {
    fn new() -> World {
        let home = folder();
        let clock = Arc::new(Mutex::new(ClockReading {
            wall: Timestamp::from_unix_nanos(START),
            boot_nanos: HOUR.cast_unsigned(),
            boot: 1,
        }));
        let store = open(home.path(), &clock);
        let mut world = World {
            home,
            clock,
            true_time: START,
            wrong_since: None,
            store,
            writer: None,
            writer_time: Duration::ZERO,
            limits: None,
            pending: Default::default(),
            stored: Default::default(),
            taken: [0; 3],
            logged: 0,
        };
        world.start();
        // From here on the store knows what time it is.
        world.apply(&Operation::Log {
            server: 0,
            ages: vec![0],
        });
        world.work();
        world
    }

    fn start(&mut self) {
        let options = WriterOptions::default()
            .redactor(None)
            .commit_interval_min(Duration::from_secs(1))
            .commit_interval_max(Duration::from_secs(1))
            .tiering(40, 25, 16);
        self.writer = Some(SimulatedWriter::new(&self.store, &options).unwrap());
        self.writer_time = Duration::ZERO;
    }

    fn writer(&mut self) -> &mut SimulatedWriter {
        self.writer.as_mut().unwrap()
    }

    /// Lets time go by.
    fn pass(&mut self, nanos: i64) {
        self.true_time += nanos;
        let mut clock = self.clock.lock().unwrap();
        clock.wall = Timestamp::from_unix_nanos(clock.wall.unix_nanos() + nanos);
        clock.boot_nanos += nanos.cast_unsigned();
    }

    fn set_clock(&mut self, days: i64) {
        self.clock.lock().unwrap().wall = Timestamp::from_unix_nanos(self.true_time + days * DAY);
        self.wrong_since = (days != 0).then_some(self.true_time);
    }

    /// Lets the writer commit and look after the store.
    fn work(&mut self) {
        self.pass(i64::try_from(WHILE.as_nanos()).unwrap());
        self.writer_time += WHILE;
        let now = self.writer_time;
        self.writer().advance(now).unwrap();
        for (stored, pending) in self.stored.iter_mut().zip(&mut self.pending) {
            stored.append(pending);
        }
        self.compare(true);
    }

    fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Log { server: at, ages } => {
                let name = server(SERVERS[*at]);
                for age in ages {
                    let time = self.true_time - age;
                    let record = record(time, self.logged);
                    let now = self.writer_time;
                    self.writer().log(&name, &record, now).unwrap();
                    self.pending[*at].push((time, self.logged));
                    self.logged += 1;
                }
            }
            Operation::Work => self.work(),
            Operation::Sleep { hours } => {
                // A wrong clock is believed after a day, which is another test's promise.
                if self.wrong_since.is_some() {
                    self.set_clock(0);
                    self.work();
                }
                self.pass(hours * HOUR);
            }
            Operation::SetClock { days } => self.set_clock(*days),
            Operation::Limit { bytes, days } => {
                let age = Duration::from_hours(days * 24);
                let now = self.writer_time;
                self.writer().set_small_limits(*bytes, age, now).unwrap();
                self.limits = Some((*bytes, days.cast_signed() * DAY));
                self.work();
            }
            Operation::Wipe { server: at } => {
                // What is queued would be dropped when it is committed, by a clock of its own.
                self.work();
                self.store
                    .wipe(&WipeScope {
                        server: at.map(|at| server(SERVERS[at])),
                        signal: None,
                    })
                    .unwrap();
                for (number, stored) in self.stored.iter_mut().enumerate() {
                    if at.is_none_or(|at| at == number) {
                        stored.clear();
                    }
                }
            }
            Operation::Compact => {
                self.store.compact(&CompactOptions::default()).unwrap();
            }
            Operation::Restart => {
                self.work();
                self.writer = None;
                self.store = open(self.home.path(), &self.clock);
                self.start();
            }
        }
        self.compare(false);
    }

    /// Compares what is read, and what is in the file, with the list.
    fn compare(&mut self, worked: bool) {
        let snapshot = self.store.snapshot().unwrap();
        let read = by_server(&snapshot);
        let cutoff = self
            .limits
            .map_or(i64::MIN, |(_, age)| self.true_time - age);
        let sizes: BTreeMap<String, (u64, u64)> = snapshot
            .inventory(None)
            .unwrap()
            .into_iter()
            .map(|entry| {
                (
                    entry.server.to_string(),
                    (entry.size_bytes, entry.record_count),
                )
            })
            .collect();
        let ledger: BTreeMap<String, u64> = snapshot
            .losses(..)
            .unwrap()
            .into_iter()
            .filter(|loss| loss.cause == DropCause::Retention)
            .map(|loss| (loss.server.unwrap().to_string(), loss.count))
            .collect();
        drop(snapshot);
        // To a reader whose clock stands at the beginning of time nothing is too old.
        let never = ClockReading {
            wall: Timestamp::from_unix_nanos(START - 10_000 * DAY),
            boot_nanos: 0,
            boot: 7,
        };
        let options = StoreOptions::for_tools().clock(move || never);
        let reader = Store::open_read_only(self.home.path(), STACK, options)
            .unwrap()
            .unwrap();
        let in_file = by_server(&reader.snapshot().unwrap());
        let none = Vec::new();
        for (at, name) in SERVERS.iter().enumerate() {
            let in_file = in_file.get(*name).unwrap_or(&none);
            let read = read.get(*name).unwrap_or(&none);
            let mut stored = std::mem::take(&mut self.stored[at]);
            // In the order of time, and of arrival where that is equal.
            stored.sort_by_key(|(time, number)| (*time, *number));
            let gone: Vec<Known> = stored
                .iter()
                .filter(|known| in_file.binary_search(known).is_err())
                .copied()
                .collect();
            stored.retain(|known| in_file.binary_search(known).is_ok());
            assert_eq!(*in_file, stored, "{name}: the file has what nobody wrote");
            let young: Vec<Known> = stored
                .iter()
                .filter(|(time, _)| *time >= cutoff)
                .copied()
                .collect();
            assert_eq!(*read, young, "{name}: read by age");
            let (size, count) = sizes.get(*name).copied().unwrap_or_default();
            assert_eq!(count, read.len() as u64, "{name}: the inventory");
            self.taken[at] += gone.len() as u64;
            let counted = ledger.get(*name).copied().unwrap_or_default();
            assert_eq!(counted, self.taken[at], "{name}: the ledger");
            // What was young enough must have been too much.
            let (bytes_max, _) = self.limits.unwrap_or((u64::MAX, 0));
            if gone.iter().any(|(time, _)| *time >= cutoff) {
                // Together with old ones, perhaps, that were in a block with it.
                let bound = gone.len() as u64 * RECORD_BYTES + 200;
                assert!(
                    size + bound > bytes_max,
                    "{name}: {} records went, and the rest takes {size} of {bytes_max}",
                    gone.len()
                );
            }
            if worked && size > bytes_max {
                // Rows become blocks first, and blocks alone are taken out.
                assert!(
                    stored.len() < 40,
                    "{name}: {size} bytes are stored, {bytes_max} are allowed"
                );
            }
            self.stored[at] = stored;
        }
    }
}

/// No record takes more, in whichever tier.
const RECORD_BYTES: u64 = 150;

fn open(home: &Path, clock: &Arc<Mutex<ClockReading>>) -> Store {
    let clock = Arc::clone(clock);
    let options = StoreOptions::default().clock(move || *clock.lock().unwrap());
    Store::open(home, STACK, options).unwrap()
}

fn record(time: i64, number: u64) -> LogRecord {
    LogRecord::new(
        Timestamp::from_unix_nanos(time),
        Level::INFO,
        "tool call completed",
    )
    .with("number", number)
    .with(
        "trace_id",
        format!("{:032x}", u128::from(number) * 0x9e37_79b9_7f4a_7c15_f39c),
    )
}

/// The records of each server, each of which is as it was.
fn by_server(snapshot: &Snapshot) -> BTreeMap<String, Vec<Known>> {
    let mut found: BTreeMap<String, Vec<Known>> = BTreeMap::new();
    for stored in snapshot.scan(&Query::new(Signal::Logs)).unwrap().records() {
        let stored = stored.unwrap();
        let log = stored.record.into_log().unwrap();
        let Some(gridctl_telemetry::Value::Int(number)) = log.attribute("number") else {
            panic!("a record that nobody wrote: {log:?}");
        };
        let number = number.cast_unsigned();
        let time = log.timestamp.unix_nanos();
        assert_eq!(log, record(time, number));
        found
            .entry(stored.server.to_string())
            .or_default()
            .push((time, number));
    }
    found
}

fn cases() -> u32 {
    std::env::var("GRIDCTL_TELEMETRY_CASES").map_or(24, |cases| cases.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_store_keeps_what_its_limits_allow_and_nothing_else(
        operations in prop::collection::vec(operation(), 1..40)
    ) {
        let mut world = World::new();
        for operation in &operations {
            world.apply(operation);
        }
        world.work();
    }
}
