//! Random operations on a store that has limits, and on a list in memory: the store keeps what it
//! was told to keep, never holds more than it was told, and counts whatever it gives up.
//!
//! What is promised, and compared after every single step of the writer:
//!
//! - **Age is exact.** A reader sees no record that is older than its limit, whether or not its room
//!   was given back, and every one that is not, unless another limit took it.
//! - **Bytes are exact.** After a commit no series that it touched, and after a pass of the upkeep
//!   no series at all, takes more than its limit. There are two exceptions. Of a series that has many
//!   tiny blocks one transaction takes some; the rest goes with the next pass, which comes at once.
//!   And what an import leaves in the row tier stays there until a writer's next commit or pass.
//! - **Nothing is taken without need.** A series that loses something to its limit of bytes would
//!   be over it with the last block that it lost, and a series within its limit loses nothing.
//! - **The oldest goes first.** What is left in blocks reaches at least as far as anything that was
//!   lost; what was in the row tier at that time, or came with the same commit, may be older.
//! - **Nothing goes uncounted.** What was stored is there, or in the ledger, or was wiped.
//! - **What is there is as it was written**: byte for byte, in order, at its place for every cursor.
//! - **A limit of the whole takes from the largest**: no server loses anything to it that has less
//!   than its share, nothing goes while there is room, and the disk blocks used stay near it.
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

/// So many records of a series in one batch become blocks at once, see [`on_demand`].
const DIRECT: usize = 25;
/// So many in one import do.
const DIRECT_IMPORT: usize = 160;
/// So many blocks are taken by one transaction at most, beyond those that it writes.
const BLOCKS_PER_STEP: usize = 32;
/// A step that is due later than this begins a new pass.
const BETWEEN_PASSES: Duration = Duration::from_secs(9);

/// How many runs there are, of a test of which each takes as long as so many of others.
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

/// When a record happened.
#[derive(Debug, Clone, Copy)]
enum When {
    /// Nanoseconds ago.
    Recent(i64),
    /// Hours ago, or ahead.
    Hours(i64),
    /// So many nanoseconds after the first time that is not too old.
    Edge(i64),
    Years(i64),
    First,
    Last,
}

/// Records of one series in the order in which they come.
#[derive(Debug, Clone)]
struct Burst {
    series: SeriesKey,
    records: Vec<(When, Size)>,
}

#[derive(Debug, Clone)]
enum Operation {
    Log(Burst),
    Commit,
    /// The same again, with a commit each time.
    Often(Burst, usize),
    /// So many steps of the upkeep.
    Upkeep(usize),
    /// A whole pass of the upkeep.
    Pass,
    Limits(Limits),
    Wipe {
        server: Option<usize>,
        signal: Option<Signal>,
        /// By another process, as far as the writer knows.
        foreign: bool,
    },
    Compact,
    /// So many hours go by.
    Wait(i64),
    /// The system's clock is set, ahead or back.
    SetClock(i64),
    /// The machine was off for so many hours.
    Reboot(i64),
    Restart,
    Import(Burst),
    Read {
        backward: bool,
    },
}

/// Bytes and hours that a series may have.
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

/// What the test knows of a series besides its records.
#[derive(Debug, Default)]
struct Series {
    committed: u64,
    retired: u64,
    /// The earliest and the latest time of what limits took.
    lost: Option<(i64, i64)>,
    wiped: u64,
    /// Whether it must be within its limit by now.
    settled: bool,
    before: Option<CheckedSeries>,
}

/// A store that has limits, and the model of it.
struct Limited {
    world: World,
    model: Model,
    limits: Limits,
    series: BTreeMap<SeriesKey, Series>,
    /// What the writer has and did not commit.
    queued: Vec<(SeriesKey, u64, Known)>,
}

/// What a step was.
#[derive(Debug)]
struct Step {
    /// The numbers of the records that it committed.
    fresh: BTreeMap<SeriesKey, BTreeSet<u64>>,
    /// So many of one series become blocks at once.
    direct: usize,
    /// Whether rows may have become blocks after something was taken.
    seals: bool,
    /// Whether anything may be taken.
    takes: bool,
}

impl Step {
    fn quiet() -> Step {
        Step {
            fresh: BTreeMap::new(),
            direct: 0,
            seals: false,
            takes: false,
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

    /// Commits a record, with which the store takes note of the time.
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

    /// The model commits what is queued.
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
            takes: true,
        }
    }

    /// One step of the upkeep.
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
                takes: true,
                ..Step::quiet()
            }
        };
        self.observe(&step);
    }

    /// What the writer would do first, is done and looked at first.
    fn catch_up(&mut self) {
        while self.world.writer.due() <= self.world.time {
            self.step();
        }
    }

    fn is_idle(&self) -> bool {
        self.world.writer.due() >= self.world.time + BETWEEN_PASSES
    }

    /// A whole pass of the upkeep.
    fn pass(&mut self) {
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
            Operation::Upkeep(steps) => {
                for _ in 0..*steps {
                    self.step();
                }
            }
            Operation::Pass => self.pass(),
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
            series.wiped = series.committed - series.retired;
            series.before = None;
        }
        self.observe(&Step::quiet());
    }

    /// What is queued is lost, as when the process is killed.
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

    /// Compares everything that is there.
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

    /// Compares what is cheap to compare, and the records of those series that lost some.
    fn observe(&mut self, step: &Step) {
        let snapshot = self.world.store.snapshot().unwrap();
        let mut layouts: BTreeMap<SeriesKey, CheckedSeries> = snapshot
            .check()
            .unwrap()
            .into_iter()
            .map(|layout| ((position(layout.server.as_str()), layout.signal), layout))
            .collect();
        let mut retired = BTreeMap::new();
        for loss in snapshot.ledger(TimeRange::default()).unwrap() {
            assert_eq!(loss.cause, LossCause::Retention, "{loss:?}");
            let server = position(loss.server.as_ref().unwrap().as_str());
            retired.insert((server, loss.signal.unwrap()), loss);
        }
        let shares = Shares::of(&layouts);
        if let Some(total) = self.limits.total {
            let used = self.world.store.disk_usage().unwrap().used_bytes;
            // As much as possible is kept, so what one commit writes before the engine can reuse
            // what it replaces comes on top, and that is a part of a small limit.
            assert!(used <= total + total / 4, "{used} are used of {total}");
        }
        let keys: Vec<SeriesKey> = self.series.keys().copied().collect();
        for key in keys {
            let after = layouts.remove(&key);
            let records = after.as_ref().map_or(0, CheckedSeries::records);
            let loss = retired.remove(&key);
            let gone = loss.as_ref().map_or(0, |loss| loss.count);
            let series = self.series.get_mut(&key).unwrap();
            assert_eq!(
                series.committed,
                records + gone + series.wiped,
                "{key:?}: {records} are there, {gone} in the ledger and {} wiped",
                series.wiped
            );
            let more = gone - series.retired;
            series.retired = gone;
            let before = series.before.take();
            if more > 0 {
                assert!(step.takes, "{key:?} lost {more} records");
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
                    let taken = Taken {
                        key,
                        before: before.as_ref(),
                        after: after.as_ref(),
                        missing: &missing,
                        step,
                    };
                    taken.is_oldest(&self.model.series[&key]);
                    if !taken.is_needed(self.limits.bytes_of(key.0)) {
                        let total = self.limits.total;
                        let total =
                            total.unwrap_or_else(|| panic!("its limit allows that: {taken:#?}"));
                        // Of a limit of the whole, a quarter may be needed beside the records.
                        let held = shares.held() + taken.last_block_disk_bytes();
                        assert!(held * 4 > total * 3 - (2 << 20), "{held}: {taken:#?}");
                        taken.is_largest(&shares);
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
                    assert!(at_once || !step.seals, "the rest must go at once");
                    series.settled = false;
                } else if step.seals || series.has_blocks() {
                    series.check_limit(key, limit);
                }
            }
        }
        assert!(
            layouts.is_empty() && retired.is_empty(),
            "{layouts:?} {retired:?}"
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

    /// Panics when the series takes more than it may.
    fn check_limit(&self, key: SeriesKey, limit: u64) {
        assert!(
            self.bytes() <= limit,
            "{key:?} has {} bytes and may have {limit}: {:#?}",
            self.bytes(),
            self.before
        );
    }
}

/// What the servers have of the disk.
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

/// What a step took of a series for want of room.
#[derive(Debug)]
struct Taken<'a> {
    key: SeriesKey,
    before: Option<&'a CheckedSeries>,
    after: Option<&'a CheckedSeries>,
    missing: &'a Records,
    step: &'a Step,
}

impl Taken<'_> {
    fn fresh(&self, number: u64) -> bool {
        let fresh = self.step.fresh.get(&self.key);
        fresh.is_some_and(|fresh| fresh.contains(&number))
    }

    /// Whether a record was in a row, or nowhere, before the step.
    fn was_no_block(&self, number: u64, known: &Known) -> bool {
        let at = known
            .sequence
            .map(|sequence| (Timestamp::from_unix_nanos(known.time), sequence));
        self.fresh(number)
            || self
                .before
                .is_some_and(|before| at.is_some_and(|at| before.rows.contains(&at)))
    }

    /// Panics when a block is left that is older than what was taken.
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
            "{:?}: {newest} was taken, and {older} records are in blocks before it: {self:#?}",
            self.key
        );
    }

    /// What the last block that was taken had at most, in bytes.
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

    /// Whether the series would be over its limit with the last block that was taken.
    fn is_needed(&self, limit: u64) -> bool {
        let mut bytes = self.after.map_or(0, CheckedSeries::bytes) + self.last_block_bytes();
        let fresh = self.step.fresh.get(&self.key).map_or(0, BTreeSet::len);
        if self.step.seals && fresh < self.step.direct {
            // What was in rows when it was taken may be in blocks now, and smaller.
            bytes += self.before.map_or(0, |before| before.row_bytes);
            bytes += 6000 * fresh as u64;
        }
        bytes > limit
    }

    /// What the last block that was taken had at most of the disk, where values take whole pages.
    fn last_block_disk_bytes(&self) -> u64 {
        self.last_block_bytes() * 2 + 8192
    }

    /// Panics when the server had less than its share before the last block of it was taken.
    fn is_largest(&self, shares: &Shares) {
        let share = shares.held() / shares.0.len().max(1) as u64;
        let own = shares.0.get(&self.key.0).copied().unwrap_or(0);
        let least = share.saturating_sub(self.last_block_disk_bytes());
        assert!(own >= least, "{own} is no share of {shares:?}: {self:#?}");
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
    // Together most of the time, as bursts are, and in each place of the series' past.
    let records = prop_oneof![
        4 => (when(), size(), 1usize..60).prop_map(|(when, size, count)| vec![(when, size); count]),
        4 => prop::collection::vec((rarely(when()), size()), 1..40),
        1 => (when(), 1usize..3).prop_map(|(when, count)| vec![(when, Size::Noise(5000)); count]),
        // Of which a half can become too old.
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
        6 => (1usize..6).prop_map(Operation::Upkeep),
        2 => Just(Operation::Pass),
        2 => limits().prop_map(Operation::Limits),
        1 => (prop::option::of(0usize..3), prop::option::of(signal()), any::<bool>()).prop_map(
            |(server, signal, foreign)| Operation::Wipe { server, signal, foreign }
        ),
        1 => Just(Operation::Compact),
        2 => (1i64..60).prop_map(Operation::Wait),
        // Even hours: what differs by one is no jump.
        1 => (-2000i64..20_000).prop_map(|hours| Operation::SetClock(hours * 2)),
        1 => (0i64..700).prop_map(Operation::Reboot),
        1 => Just(Operation::Restart),
        2 => burst().prop_map(Operation::Import),
        2 => any::<bool>().prop_map(|backward| Operation::Read { backward }),
    ]
}

/// Operations, shown a line each.
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
        for operation in [Operation::Commit, Operation::Pass, Operation::Read { backward: false }] {
            limited.apply(&operation);
        }
    }
}

/// Bursts of large records that do not compress, and what else happens while the disk has no more
/// room for them.
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
        4 => (1usize..6).prop_map(Operation::Upkeep),
        1 => Just(Operation::Pass),
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
