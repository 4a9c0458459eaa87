//! Random operations on a store with limits and on a model in memory: the store keeps the records
//! that it should keep, stays within its limits, and counts every record that it evicts.
//!
//! The test checks these promises after every step of the writer:
//!
//! - **Age is exact.** A reader sees no record older than its limit, whether or not its disk space
//!   was freed, and sees every other record unless another limit evicted it.
//! - **Bytes are exact.** No series exceeds its limit after a commit that touched it, and no series at
//!   all does after a round of maintenance. There are two exceptions. From a series with many tiny
//!   blocks, one transaction evicts some; the next round evicts the rest and begins at once. Rows left
//!   by an import stay until the writer's next commit or round.
//! - **Nothing is evicted without need.** A series from which its limit of bytes evicts a block would
//!   exceed the limit with that block, and a series within its limit loses nothing.
//! - **The oldest records are evicted first.** No block that remains is older than an evicted record.
//!   Records that were rows at that time, or that came with the same commit, may be older.
//! - **Every record is counted.** A stored record can be read, is in the ledger, or was wiped.
//! - **Records come back as they were written**: byte for byte, in order, at the same place for every
//!   cursor.
//! - **The total limit evicts from the largest servers**: a server below its fair share loses
//!   nothing, nothing is evicted while there is space, and the used disk blocks stay near the limit.
//!
//! `GRIDCTL_TELEMETRY_CASES` sets the number of runs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;
mod model;

use common::{on_demand, server};
use gridctl_telemetry::{
    Query, Signal, Timestamp,
    import::{ImportBatch, Importer},
    ledger::LossCause,
    maintenance::{CompactOptions, WipeScope},
    query::TimeRange,
    testing::CheckedSeries,
};
use model::{
    DAY, HOUR, SERVERS, SeriesKey,
    store::{Known, Model, Records, Size, all_of, covers, position, record},
    world::World,
};
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

/// The number of records of a series in one batch that become a block at once, see [`on_demand`].
const DIRECT: usize = 25;
/// The same for an import.
const DIRECT_IMPORT: usize = 160;
/// Maximum number of blocks that one transaction evicts, beyond those that it writes.
const BLOCKS_PER_STEP: usize = 32;
/// A step that is due later than this begins a new round of maintenance.
const BETWEEN_ROUNDS: Duration = Duration::from_secs(9);

/// The number of runs of a test whose runs each take as long as `cost` runs of other tests.
fn cases(default: u32, cost: u32) -> ProptestConfig {
    let cases = std::env::var("GRIDCTL_TELEMETRY_CASES");
    let cases = cases.map_or(default, |cases| cases.parse().unwrap());
    ProptestConfig {
        cases: cases.div_ceil(cost),
        failure_persistence: None,
        max_shrink_time: 120_000,
        ..ProptestConfig::default()
    }
}

/// The time of a record.
#[derive(Debug, Clone, Copy)]
enum When {
    /// Nanoseconds ago.
    Recent(i64),
    /// Hours ago, or ahead.
    Hours(i64),
    /// Nanoseconds after the earliest time that has not expired.
    Edge(i64),
    Years(i64),
    First,
    Last,
}

/// Records of one series in the order of their arrival.
#[derive(Debug, Clone)]
struct Burst {
    series: SeriesKey,
    records: Vec<(When, Size)>,
}

#[derive(Debug, Clone)]
enum Operation {
    Log(Burst),
    Commit,
    /// The burst this many times, each time with a commit.
    Often(Burst, usize),
    /// This many steps of maintenance.
    Steps(usize),
    /// A whole round of maintenance.
    Round,
    Limits(Limits),
    Wipe {
        server: Option<usize>,
        signal: Option<Signal>,
        /// Without the writer, as another process does it.
        foreign: bool,
    },
    Compact,
    /// This many hours pass.
    Wait(i64),
    /// The system clock is set ahead or back by this many hours.
    SetClock(i64),
    /// The machine was off for this many hours.
    Reboot(i64),
    Restart,
    Import(Burst),
    Read {
        backward: bool,
    },
}

/// The limits of a series in bytes and hours.
type SeriesLimit = (u64, i64);

#[derive(Debug, Clone, Default, PartialEq)]
struct Limits {
    default: Option<SeriesLimit>,
    own: BTreeMap<usize, SeriesLimit>,
    total: Option<u64>,
}

impl Limits {
    fn of(&self, server: usize) -> Option<SeriesLimit> {
        self.own.get(&server).copied().or(self.default)
    }

    fn bytes_of(&self, server: usize) -> u64 {
        self.of(server).map_or(u64::MAX, |(bytes, _)| bytes)
    }
}

/// The state of a series besides its records.
#[derive(Debug, Default)]
struct Series {
    committed: u64,
    evicted: u64,
    /// The earliest and the latest time of the evicted records.
    lost: Option<(i64, i64)>,
    wiped: u64,
    /// Whether the series must be within its limit by now.
    settled: bool,
    before: Option<CheckedSeries>,
}

/// A store with limits, and its model.
struct Limited {
    world: World,
    model: Model,
    limits: Limits,
    series: BTreeMap<SeriesKey, Series>,
    /// The records that the writer has not committed.
    queued: Vec<(SeriesKey, u64, Known)>,
}

/// What a step did, and may have done.
#[derive(Debug)]
struct Step {
    /// The numbers of the records that the step committed.
    fresh: BTreeMap<SeriesKey, BTreeSet<u64>>,
    /// The number of records of one series that become a block at once.
    direct: usize,
    /// Whether rows may have been sealed after an eviction.
    seals: bool,
    /// Whether the step may evict records.
    may_evict: bool,
}

impl Step {
    fn quiet() -> Step {
        Step {
            fresh: BTreeMap::new(),
            direct: 0,
            seals: false,
            may_evict: false,
        }
    }
}

impl Limited {
    fn new() -> Limited {
        let mut limited = Limited {
            world: World::new(on_demand()),
            model: Model::default(),
            limits: Limits::default(),
            series: BTreeMap::new(),
            queued: Vec::new(),
        };
        limited.mark();
        limited
    }

    /// Commits a record, so that the store notes the time.
    fn mark(&mut self) {
        self.log(&Burst {
            series: (0, Signal::Logs),
            records: vec![(When::Recent(0), Size::Tiny)],
        });
        self.commit();
    }

    fn cutoff(&self, server: usize) -> i64 {
        let limit = self.limits.of(server);
        limit.map_or(i64::MIN, |(_, hours)| {
            self.world.clock.trusted().saturating_sub(hours * HOUR)
        })
    }

    fn known(&self, (server, signal): SeriesKey, (when, size): (When, Size)) -> Known {
        let wall = self.world.clock.wall();
        let time = match when {
            When::Recent(nanos) => wall - nanos,
            When::Hours(hours) => wall - hours * HOUR,
            When::Edge(nanos) => self.cutoff(server).max(0) + nanos,
            When::Years(years) => wall - years * 365 * DAY,
            When::First => i64::MIN,
            When::Last => i64::MAX,
        };
        Known::new(signal, time, size)
    }

    fn log(&mut self, burst: &Burst) {
        for spec in &burst.records {
            self.catch_up();
            let known = self.known(burst.series, *spec);
            let number = self.model.number();
            let record = record(burst.series.1, number, &known);
            self.world.offer(SERVERS[burst.series.0], &record);
            self.queued.push((burst.series, number, known));
        }
    }

    fn commit(&mut self) {
        self.world.commit();
        let step = self.committed(DIRECT);
        self.observe(&Step {
            seals: true,
            ..step
        });
    }

    /// Commits the queued records in the model.
    fn committed(&mut self, direct: usize) -> Step {
        let mut fresh: BTreeMap<SeriesKey, BTreeSet<u64>> = BTreeMap::new();
        for (key, number, known) in std::mem::take(&mut self.queued) {
            let series = self.series.entry(key).or_insert_with(|| Series {
                settled: true,
                ..Series::default()
            });
            series.committed += 1;
            self.model.add(key, number, known);
            fresh.entry(key).or_default().insert(number);
        }
        Step {
            fresh,
            direct,
            seals: false,
            may_evict: true,
        }
    }

    /// One step of the writer.
    fn step(&mut self) {
        let world = &mut self.world;
        let commits = world.writer.commits();
        world.time = world.writer.due();
        world.work(Duration::ZERO);
        let step = if self.world.writer.commits() > commits {
            Step {
                seals: true,
                ..self.committed(DIRECT)
            }
        } else {
            Step {
                may_evict: true,
                ..Step::quiet()
            }
        };
        self.observe(&step);
    }

    /// Runs and checks the steps that the writer would take before the next record.
    fn catch_up(&mut self) {
        while self.world.writer.due() <= self.world.time {
            self.step();
        }
    }

    fn is_idle(&self) -> bool {
        self.world.writer.due() >= self.world.time + BETWEEN_ROUNDS
    }

    /// A whole round of maintenance.
    fn round(&mut self) {
        while !self.is_idle() {
            self.step();
        }
        self.step();
        while !self.is_idle() {
            self.step();
        }
        for (key, series) in &mut self.series {
            series.settled = true;
            series.check_limit(*key, self.limits.bytes_of(key.0));
        }
    }

    fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Log(burst) => self.log(burst),
            Operation::Commit => self.commit(),
            Operation::Often(burst, times) => {
                for _ in 0..*times {
                    self.log(burst);
                    self.commit();
                }
            }
            Operation::Steps(steps) => {
                for _ in 0..*steps {
                    self.step();
                }
            }
            Operation::Round => self.round(),
            Operation::Limits(limits) => self.set_limits(limits),
            Operation::Wipe {
                server,
                signal,
                foreign,
            } => self.wipe(*server, *signal, *foreign),
            Operation::Compact => {
                self.world.store.compact(CompactOptions::default()).unwrap();
                self.observe(&Step::quiet());
            }
            Operation::Wait(hours) => {
                self.world.clock.wait(hours * HOUR);
                self.mark();
            }
            Operation::SetClock(hours) => {
                self.world.clock.set(hours * HOUR);
                self.mark();
            }
            Operation::Reboot(off) => {
                if !self.world.clock.has_jumped() {
                    self.world.clock.reboot(off * HOUR);
                    self.restart();
                    self.mark();
                }
            }
            Operation::Restart => self.restart(),
            Operation::Import(burst) => self.import(burst),
            Operation::Read { backward } => self.read(*backward),
        }
    }

    fn set_limits(&mut self, limits: &Limits) {
        self.catch_up();
        let hours = |hours: i64| Duration::from_secs(3600 * hours.cast_unsigned());
        let default = limits.default.map(|(bytes, age)| ("", bytes, hours(age)));
        let own = limits.own.iter();
        let all: Vec<_> = default
            .into_iter()
            .chain(own.map(|(server, (bytes, age))| (SERVERS[*server], *bytes, hours(*age))))
            .collect();
        self.world
            .writer
            .set_small_limits(&all, limits.total, self.world.time)
            .unwrap();
        for ((server, _), series) in &mut self.series {
            if limits.bytes_of(*server) < self.limits.bytes_of(*server) {
                series.settled = false;
            }
        }
        self.limits = limits.clone();
        self.observe(&Step::quiet());
    }

    fn wipe(&mut self, server: Option<usize>, signal: Option<Signal>, foreign: bool) {
        let scope = WipeScope::everything()
            .server(server.map(|server| common::server(SERVERS[server])))
            .signal(signal);
        if foreign {
            self.world.store.wipe(&scope).unwrap();
        } else {
            self.world.writer.wipe(&scope).unwrap();
        }
        let covers = |key: &SeriesKey| covers(server, signal, *key);
        self.model.wipe(server, signal);
        self.queued.retain(|(key, _, _)| !covers(key));
        for (_, series) in self.series.iter_mut().filter(|(key, _)| covers(key)) {
            series.wiped = series.committed - series.evicted;
            series.before = None;
        }
        self.observe(&Step::quiet());
    }

    /// Restarts the writer as after a kill: queued records are lost.
    fn restart(&mut self) {
        self.queued.clear();
        self.world.restart();
        self.observe(&Step::quiet());
    }

    fn import(&mut self, burst: &Burst) {
        let cutoff = self.cutoff(burst.series.0);
        let waiting = std::mem::take(&mut self.queued);
        let mut importer = Importer::new(&self.world.store).unwrap();
        let mut batch = ImportBatch::default();
        let mut too_old = 0;
        for spec in &burst.records {
            let known = self.known(burst.series, *spec);
            let number = self.model.number();
            let record = record(burst.series.1, number, &known);
            batch
                .push(&server(SERVERS[burst.series.0]), &record)
                .unwrap();
            if known.time < cutoff {
                too_old += 1;
            } else {
                self.queued.push((burst.series, number, known));
            }
        }
        let counts = importer.add(batch).unwrap();
        assert_eq!(
            (counts.added, counts.too_old, counts.duplicates),
            (self.queued.len() as u64, too_old, 0)
        );
        let step = self.committed(DIRECT_IMPORT);
        self.queued = waiting;
        self.observe(&step);
    }

    /// Compares all records and the inventory with the model.
    fn read(&mut self, backward: bool) {
        let snapshot = self.world.store.snapshot().unwrap();
        let cutoffs = [0, 1, 2].map(|server| self.cutoff(server));
        let keep = |key: SeriesKey, time: i64| time >= cutoffs[key.0];
        for signal in Signal::ALL {
            let found = all_of(&snapshot, Query::new(signal), backward);
            self.model.compare(signal, found, keep);
        }
        let inventory = snapshot.inventory(None).unwrap();
        self.model.compare_inventory(&inventory, keep);
        for entry in &inventory {
            let key = (position(entry.server.as_str()), entry.signal);
            let layout = self.series[&key].before.as_ref().unwrap();
            let kept = |time: Timestamp| keep(key, time.unix_nanos());
            let blocks = layout.blocks.iter().filter(|block| kept(block.last.0));
            let bytes: u64 = blocks.map(|block| block.bytes).sum();
            assert!(entry.size_bytes >= bytes && entry.size_bytes <= bytes + layout.row_bytes);
            if layout.rows.iter().all(|(time, _)| kept(*time)) {
                assert_eq!(entry.size_bytes, bytes + layout.row_bytes);
            }
        }
    }

    /// Compares counts and sizes, and the records of each series that lost some.
    fn observe(&mut self, step: &Step) {
        let snapshot = self.world.store.snapshot().unwrap();
        let mut layouts: BTreeMap<SeriesKey, CheckedSeries> = snapshot
            .check()
            .unwrap()
            .into_iter()
            .map(|layout| ((position(layout.server.as_str()), layout.signal), layout))
            .collect();
        let mut in_ledger = BTreeMap::new();
        for loss in snapshot.ledger(TimeRange::default()).unwrap() {
            assert_eq!(loss.cause, LossCause::Retention, "{loss:?}");
            let server = position(loss.server.as_ref().unwrap().as_str());
            in_ledger.insert((server, loss.signal.unwrap()), loss);
        }
        let shares = Shares::of(&layouts);
        if let Some(total) = self.limits.total {
            let used = self.world.store.disk_usage().unwrap().used_bytes;
            // The store keeps as much as possible. A commit writes new pages before the engine can
            // reuse those that they replace, which matters under a small limit.
            assert!(
                used <= total + total / 4,
                "{used} bytes are used, and the limit is {total}"
            );
        }
        let keys: Vec<SeriesKey> = self.series.keys().copied().collect();
        for key in keys {
            let after = layouts.remove(&key);
            let records = after.as_ref().map_or(0, CheckedSeries::records);
            let loss = in_ledger.remove(&key);
            let gone = loss.as_ref().map_or(0, |loss| loss.count);
            let series = self.series.get_mut(&key).unwrap();
            assert_eq!(
                series.committed,
                records + gone + series.wiped,
                "{key:?}: {records} are stored, {gone} in the ledger and {} wiped",
                series.wiped
            );
            let more = gone - series.evicted;
            series.evicted = gone;
            let before = series.before.take();
            if more > 0 {
                assert!(step.may_evict, "{key:?} lost {more} records");
                let query = Query::new(key.1).server(server(SERVERS[key.0]));
                let world = &self.world;
                let past = world.clock.long_ago(|| world.store.snapshot().unwrap());
                let found = all_of(&past, query, false);
                let missing = self.model.reconcile(key, &found, |_| true);
                assert_eq!(missing.len() as u64, more, "{key:?}: {missing:?}");
                let cutoff = self.cutoff(key.0);
                let series = self.series.get_mut(&key).unwrap();
                for known in missing.values() {
                    series.lost.get_or_insert((known.time, known.time));
                    let (from, to) = series.lost.as_mut().unwrap();
                    *from = known.time.min(*from);
                    *to = known.time.max(*to);
                }
                let loss = loss.unwrap();
                let range = (loss.from.unix_nanos(), loss.to.unix_nanos());
                assert_eq!(Some(range), series.lost, "{key:?}");
                if missing.values().any(|known| known.time >= cutoff) {
                    let eviction = Eviction {
                        key,
                        before: before.as_ref(),
                        after: after.as_ref(),
                        missing: &missing,
                        step,
                    };
                    eviction.is_oldest(&self.model.series[&key]);
                    if !eviction.is_needed(self.limits.bytes_of(key.0)) {
                        let total = self.limits.total;
                        let total = total.unwrap_or_else(|| {
                            panic!("evicted although within the limit: {eviction:#?}")
                        });
                        // Up to a quarter of a total limit may be needed for other things than records.
                        let held = shares.held() + eviction.last_block_disk_bytes();
                        assert!(held * 4 > total * 3 - (2 << 20), "{held}: {eviction:#?}");
                        eviction.is_largest(&shares);
                    }
                }
            }
            let series = self.series.get_mut(&key).unwrap();
            let known = self.model.series[&key].len();
            assert_eq!(records, known as u64, "{key:?}");
            let gone = before.iter().flat_map(|it| &it.blocks).filter(|block| {
                let after = after.as_ref().map_or(&[][..], |after| &after.blocks);
                !after.contains(block)
            });
            let many = gone.count() >= BLOCKS_PER_STEP;
            series.before = after;
            if step.fresh.contains_key(&key) && series.settled {
                let limit = self.limits.bytes_of(key.0);
                if many && series.bytes() > limit {
                    let at_once = self.world.writer.due() <= self.world.time;
                    assert!(at_once || !step.seals, "the rest must be evicted at once");
                    series.settled = false;
                } else if step.seals || series.has_blocks() {
                    series.check_limit(key, limit);
                }
            }
        }
        assert!(
            layouts.is_empty() && in_ledger.is_empty(),
            "{layouts:?} {in_ledger:?}"
        );
    }
}

impl Series {
    fn bytes(&self) -> u64 {
        self.before.as_ref().map_or(0, CheckedSeries::bytes)
    }

    fn has_blocks(&self) -> bool {
        let layout = self.before.as_ref();
        layout.is_some_and(|layout| !layout.blocks.is_empty())
    }

    /// Panics when the series exceeds its limit.
    fn check_limit(&self, key: SeriesKey, limit: u64) {
        assert!(
            self.bytes() <= limit,
            "{key:?} has {} bytes, and its limit is {limit}: {:#?}",
            self.bytes(),
            self.before
        );
    }
}

/// The disk space of each server, in bytes.
#[derive(Debug)]
struct Shares(BTreeMap<usize, u64>);

impl Shares {
    fn held(&self) -> u64 {
        self.0.values().sum()
    }

    fn of(layouts: &BTreeMap<SeriesKey, CheckedSeries>) -> Shares {
        let mut servers = BTreeMap::new();
        for ((server, _), layout) in layouts {
            let blocks: u64 = layout.blocks.iter().map(|block| block.disk_bytes).sum();
            *servers.entry(*server).or_default() += blocks + 2 * layout.row_bytes;
        }
        Shares(servers)
    }
}

/// The records that a step evicted from a series because of a size limit.
#[derive(Debug)]
struct Eviction<'a> {
    key: SeriesKey,
    before: Option<&'a CheckedSeries>,
    after: Option<&'a CheckedSeries>,
    missing: &'a Records,
    step: &'a Step,
}

impl Eviction<'_> {
    fn fresh(&self, number: u64) -> bool {
        let fresh = self.step.fresh.get(&self.key);
        fresh.is_some_and(|fresh| fresh.contains(&number))
    }

    /// Whether a record was a row, or was not stored, before the step.
    fn was_no_block(&self, number: u64, known: &Known) -> bool {
        let at = known
            .sequence
            .map(|sequence| (Timestamp::from_unix_nanos(known.time), sequence));
        self.fresh(number)
            || self
                .before
                .is_some_and(|before| at.is_some_and(|at| before.rows.contains(&at)))
    }

    /// Panics when a remaining block is older than an evicted record.
    fn is_oldest(&self, records: &Records) {
        let newest = self.missing.values().map(|known| known.time).max().unwrap();
        let newest = Timestamp::from_unix_nanos(newest);
        let Some(after) = self.after else { return };
        let older: u64 = after
            .blocks
            .iter()
            .filter(|block| block.last.0 < newest)
            .map(|block| block.records)
            .sum();
        let came_later = records
            .iter()
            .filter(|(number, known)| {
                Timestamp::from_unix_nanos(known.time) < newest
                    && (self.was_no_block(**number, known) || known.sequence.is_none())
            })
            .count() as u64;
        assert!(
            older <= came_later,
            "{:?}: {newest} was evicted, and {older} older records are still in blocks: {self:#?}",
            self.key
        );
    }

    /// The maximum size of the last evicted block, in bytes.
    fn last_block_bytes(&self) -> u64 {
        let after = self.after.map_or(&[][..], |after| &after.blocks);
        let gone = self
            .before
            .map_or(&[][..], |before| &before.blocks)
            .iter()
            .filter(|block| !after.contains(block))
            .map(|block| block.bytes)
            .max();
        let new: u64 = self
            .missing
            .iter()
            .filter(|(number, known)| {
                self.was_no_block(**number, known) || known.sequence.is_none()
            })
            .map(|(_, known)| known.bytes_max())
            .sum();
        gone.unwrap_or(0).max(if new > 0 { new + 200 } else { 0 })
    }

    /// Whether the series would exceed its limit with the last evicted block.
    fn is_needed(&self, limit: u64) -> bool {
        let mut bytes = self.after.map_or(0, CheckedSeries::bytes) + self.last_block_bytes();
        let fresh = self.step.fresh.get(&self.key).map_or(0, BTreeSet::len);
        if self.step.seals && fresh < self.step.direct {
            // Records that were rows at the eviction may be in blocks now, which are smaller.
            bytes += self.before.map_or(0, |before| before.row_bytes);
            bytes += 6000 * fresh as u64;
        }
        bytes > limit
    }

    /// The maximum disk space of the last evicted block, whose values take whole pages, in bytes.
    fn last_block_disk_bytes(&self) -> u64 {
        self.last_block_bytes() * 2 + 8192
    }

    /// Panics when the server was below its fair share before its last block was evicted.
    fn is_largest(&self, shares: &Shares) {
        let share = shares.held() / shares.0.len().max(1) as u64;
        let own = shares.0.get(&self.key.0).copied().unwrap_or(0);
        let least = share.saturating_sub(self.last_block_disk_bytes());
        assert!(
            own >= least,
            "{own} bytes are below the fair share of {shares:?}: {self:#?}"
        );
    }
}

fn when() -> impl Strategy<Value = When> {
    prop_oneof![
        8 => (0i64..50).prop_map(When::Recent),
        4 => (-20i64..200).prop_map(When::Hours),
        2 => (-2i64..3).prop_map(When::Edge),
        1 => (1i64..20).prop_map(When::Years),
    ]
}

fn rarely(usual: impl Strategy<Value = When>) -> impl Strategy<Value = When> {
    prop_oneof![40 => usual, 1 => prop_oneof![Just(When::First), Just(When::Last)]]
}

fn size() -> impl Strategy<Value = Size> {
    prop_oneof![
        4 => Just(Size::Tiny),
        3 => (10usize..2000).prop_map(Size::Text),
        2 => (10usize..1000).prop_map(Size::Noise),
    ]
}

fn signal() -> impl Strategy<Value = Signal> {
    prop_oneof![6 => Just(Signal::Logs), 1 => Just(Signal::Metrics), 2 => Just(Signal::Traces)]
}

fn burst() -> impl Strategy<Value = Burst> {
    let server = prop_oneof![6 => Just(0usize), 2 => Just(1), 1 => Just(2)];
    // Mostly together, as in a burst, and anywhere in the past of the series.
    let records = prop_oneof![
        4 => (when(), size(), 1usize..60).prop_map(|(when, size, count)| vec![(when, size); count]),
        4 => prop::collection::vec((rarely(when()), size()), 1..40),
        1 => (when(), 1usize..3).prop_map(|(when, count)| vec![(when, Size::Noise(5000)); count]),
        // Records of which half can expire.
        1 => prop::collection::vec((0i64..200).prop_map(When::Hours), 17..40)
            .prop_map(|all| all.into_iter().map(|when| (when, Size::Noise(3000))).collect()),
    ];
    ((server, signal()), records).prop_map(|(series, records)| Burst { series, records })
}

fn limits() -> impl Strategy<Value = Limits> {
    let series = || {
        let bytes = prop_oneof![
            1 => Just(0u64),
            2 => 100u64..2_000,
            8 => 2_000u64..40_000,
            6 => Just(u64::MAX),
        ];
        let hours = prop_oneof![1 => Just(0i64), 6 => 1i64..300, 3 => Just(100 * 365 * 24)];
        (bytes, hours)
    };
    (
        prop::option::weighted(0.9, series()),
        prop::collection::btree_map(0usize..3, series(), 0..2),
    )
        .prop_map(|(default, own)| Limits {
            default,
            own,
            total: None,
        })
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        12 => burst().prop_map(Operation::Log),
        10 => Just(Operation::Commit),
        4 => (burst(), 1usize..10).prop_map(|(burst, times)| Operation::Often(burst, times)),
        6 => (1usize..6).prop_map(Operation::Steps),
        2 => Just(Operation::Round),
        2 => limits().prop_map(Operation::Limits),
        1 => (prop::option::of(0usize..3), prop::option::of(signal()), any::<bool>()).prop_map(
            |(server, signal, foreign)| Operation::Wipe { server, signal, foreign }
        ),
        1 => Just(Operation::Compact),
        2 => (1i64..60).prop_map(Operation::Wait),
        // Even hours: a difference of one hour is not a jump.
        1 => (-2000i64..20_000).prop_map(|hours| Operation::SetClock(hours * 2)),
        1 => (0i64..700).prop_map(Operation::Reboot),
        1 => Just(Operation::Restart),
        2 => burst().prop_map(Operation::Import),
        2 => any::<bool>().prop_map(|backward| Operation::Read { backward }),
    ]
}

/// Operations, printed one a line.
#[derive(Clone)]
struct Run(Vec<Operation>);

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|it| write!(f, "\n    {it:?}"))
    }
}

proptest! {
    #![proptest_config(cases(32, 1))]

    #[test]
    fn a_store_keeps_what_the_model_keeps(
        first in limits(),
        run in prop::collection::vec(operation(), 1..40).prop_map(Run),
    ) {
        let mut limited = Limited::new();
        limited.apply(&Operation::Limits(first));
        for operation in &run.0 {
            limited.apply(operation);
        }
        for operation in [Operation::Commit, Operation::Round, Operation::Read { backward: false }] {
            limited.apply(&operation);
        }
    }
}

/// Bursts of large incompressible records on a disk without space for more, and other operations.
fn flood() -> impl Strategy<Value = Operation> {
    let server = prop_oneof![10 => Just(0usize), 2 => Just(1), 1 => Just(2)];
    let signal = prop_oneof![3 => Just(Signal::Logs), 1 => Just(Signal::Traces)];
    let burst = ((server, signal), 1usize..40, 10_000usize..60_000, 0i64..50).prop_map(
        |(series, count, bytes, hours)| Burst {
            series,
            records: vec![(When::Hours(hours), Size::Noise(bytes)); count],
        },
    );
    prop_oneof![
        20 => burst.prop_map(|burst| Operation::Often(burst, 1)),
        4 => (1usize..6).prop_map(Operation::Steps),
        1 => Just(Operation::Round),
        1 => (0usize..3).prop_map(|server| Operation::Wipe {
            server: Some(server),
            signal: None,
            foreign: true,
        }),
        1 => Just(Operation::Compact),
        1 => Just(Operation::Restart),
    ]
}

proptest! {
    #![proptest_config(cases(32, 50))]

    #[test]
    fn a_limit_of_the_whole_takes_from_the_largest(
        quiet in burst(),
        run in prop::collection::vec(flood(), 20..60).prop_map(Run),
    ) {
        let mut limited = Limited::new();
        let total = Some(8 << 20);
        limited.apply(&Operation::Limits(Limits { total, ..Limits::default() }));
        let series = (2, Signal::Metrics);
        limited.apply(&Operation::Often(Burst { series, ..quiet }, 1));
        for operation in &run.0 {
            limited.apply(operation);
        }
        limited.apply(&Operation::Read { backward: false });
    }
}
