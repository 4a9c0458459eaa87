//! A seeded history of a store: appends of all signals, spills, seals, evictions, expiry, merges, wipes,
//! imports, compactions, restarts, and migrations of old databases.

use super::{
    check::{Contents, Evictions, Known, contents, evictions},
    disk::{Event, Image, Journal, beside, folder},
};
use crate::{
    common::{Random, STACK, home_in_memory, server},
    model::store::{self, Size},
};
use flate2::read::GzDecoder;
use gridctl_telemetry::{
    Error, Record, ServerName, Signal, Store, StoreOptions, Timestamp, WriterOptions,
    import::{ImportBatch, Importer},
    maintenance::{CompactOptions, WipeScope},
    testing::{ClockReading, DiskOperation, SimulatedWriter},
};
use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};
use tempfile::TempDir;

const SECOND: i64 = 1_000_000_000;
/// 2026-01-01T00:00:00Z
const START: i64 = 1_767_225_600 * SECOND;
const SERVERS: [&str; 3] = ["files", "a/../b", "日本"];
/// The names of the servers that other processes write to.
pub(crate) const OTHERS: [&str; 2] = ["after the crash", "beside"];
/// The number of records of one series that follow each other.
const RUN_RECORDS: u64 = 14;
pub(crate) const SIGNALS: [Signal; 3] = [Signal::Logs, Signal::Metrics, Signal::Traces];

/// What happens in a step of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Kind {
    #[default]
    Open,
    Append,
    Spill,
    Wipe,
    Import,
    Maintain,
    Compact,
    Limits,
    Restart,
}

/// A step of a workload, and the records before and after it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Step {
    pub(crate) kind: Kind,
    /// The time of the system clock, in nanoseconds since the epoch.
    pub(crate) clock: i64,
    pub(crate) before: Arc<Contents>,
    pub(crate) after: Arc<Contents>,
    /// The records that the step stores, all or none.
    pub(crate) batch: Contents,
    /// The records that are not committed and may be in a spill.
    pub(crate) spilled: Contents,
    /// Whether the store has limits, so that storing what is in a spill may evict records.
    pub(crate) may_evict: bool,
    /// Whether `after` was foretold before the step, without what limits delete in it.
    pub(crate) is_foretold: bool,
    /// How many records limits had deleted before the step, and after it.
    pub(crate) evicted: Evictions,
    pub(crate) evicted_after: Evictions,
}

/// A workload that has run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Workload {
    /// What was on the disk before.
    pub(crate) base: Image,
    /// Whether that was a database of an old version, which has hundreds of records.
    pub(crate) migrates: bool,
    pub(crate) journal: Vec<Event>,
    pub(crate) steps: Vec<Step>,
    pub(crate) known: Known,
}

impl Workload {
    /// Runs the workload of `seed`, which ends after about this many operations.
    pub(crate) fn run(seed: u64, operations: usize) -> Workload {
        let fixture = (seed % 4 == 3).then(|| 1 + Random::new(seed).below(FIXTURES_MAX));
        let base = fixture.map(fixture_of_version).unwrap_or_default();
        let journal = Journal::new(true);
        let home = home_in_memory();
        put_image(home.path(), &base);
        let hook = journal.hook(&folder(home.path()));
        let mut run = Run::new(home, seed, hook);
        run.journal = journal;
        run.open(&base);
        // Reading the hundreds of records of an old database after every crash takes long.
        let operations = if fixture.is_some() {
            operations / 4
        } else {
            operations
        };
        while run.journal.len() < operations {
            run.any_step();
        }
        run.restart();
        Workload {
            base,
            migrates: fixture.is_some(),
            journal: run.journal.take(),
            steps: run.steps,
            known: run.known,
        }
    }
}

/// The newest version whose fixture is older than the present one.
pub(crate) const FIXTURES_MAX: usize = 6;

/// The database of an old version.
pub(crate) fn fixture_of_version(version: usize) -> Image {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/fixtures");
    let packed = File::open(path.join(format!("v{version}.redb.gz"))).unwrap();
    let mut image = Image::default();
    GzDecoder::new(packed)
        .read_to_end(&mut image.database)
        .unwrap();
    image
}

/// Replaces the files of the store below `home`.
pub(crate) fn put_image(home: &Path, image: &Image) {
    let folder = folder(home);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    if !image.database.is_empty() {
        std::fs::write(folder.join("telemetry.redb"), &image.database).unwrap();
    }
    for (name, bytes) in &image.beside {
        std::fs::write(folder.join(name), bytes).unwrap();
    }
}

/// Options of a store on a machine whose system clock shows this time.
pub(crate) fn options_now(clock: &Arc<AtomicI64>) -> StoreOptions {
    let clock = Arc::clone(clock);
    StoreOptions::default().clock(move || {
        let wall = clock.load(Ordering::Relaxed);
        ClockReading {
            wall: Timestamp::from_unix_nanos(wall),
            boot_nanos: (wall - START).cast_unsigned(),
            boot: 1,
        }
    })
}

/// Options of a writer that seals, merges and evicts after few records.
pub(crate) fn writer_options() -> WriterOptions {
    let never = Duration::from_secs(3600);
    WriterOptions::default()
        .commit_interval_min(never)
        .commit_interval_max(never)
        .redactor(None)
        .tiering(12, 15, 8)
}

/// A store that a workload runs on.
pub(crate) struct Run {
    pub(crate) home: PathBuf,
    /// The folder of the home, if it goes with this value.
    folder: Option<TempDir>,
    pub(crate) options: StoreOptions,
    pub(crate) store: Option<Store>,
    pub(crate) writer: Option<SimulatedWriter>,
    pub(crate) random: Random,
    clock: Arc<AtomicI64>,
    /// The writer's time.
    time: Duration,
    journal: Journal,
    steps: Vec<Step>,
    pub(crate) known: Known,
    contents: Arc<Contents>,
    /// How many records limits have deleted.
    evicted: Evictions,
    /// The records that were offered and not committed.
    pending: Contents,
    /// Those of them that are in the spill.
    spilled: Contents,
    has_limits: bool,
    /// Whether no other process uses the store, so that everything may be wiped.
    pub(crate) is_alone: bool,
    /// Told of each step when it begins and when it ends.
    pub(crate) observer: Option<Observer>,
}

/// Called with a step and whether it has ended. Until then, `after` and `spilled` are what is expected.
pub(crate) type Observer = Box<dyn Fn(&Step, bool)>;

impl Run {
    /// A run in a folder that goes with it.
    pub(crate) fn new(
        home: TempDir,
        seed: u64,
        hook: impl Fn(DiskOperation<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Run {
        let mut run = Run::new_in(home.path(), seed, hook);
        run.folder = Some(home);
        run
    }

    pub(crate) fn new_in(
        home: &Path,
        seed: u64,
        hook: impl Fn(DiskOperation<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Run {
        let clock = Arc::new(AtomicI64::new(START));
        Run {
            options: options_now(&clock).disk_hook(hook),
            home: home.to_owned(),
            folder: None,
            store: None,
            writer: None,
            random: Random::new(seed),
            clock,
            time: Duration::ZERO,
            journal: Journal::default(),
            steps: Vec::new(),
            known: Known::new(seed),
            contents: Arc::default(),
            evicted: Evictions::new(),
            pending: Contents::new(),
            spilled: Contents::new(),
            has_limits: false,
            is_alone: true,
            observer: None,
        }
    }

    pub(crate) fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    pub(crate) fn writer(&mut self) -> &mut SimulatedWriter {
        self.writer.as_mut().unwrap()
    }

    fn step(&mut self, kind: Kind, batch: Contents, act: impl FnOnce(&mut Run)) {
        self.deleting_step(kind, batch, &Contents::new(), act);
    }

    /// A step that deletes the records `deleted`, besides those that exceed limits.
    fn deleting_step(
        &mut self,
        kind: Kind,
        batch: Contents,
        deleted: &Contents,
        act: impl FnOnce(&mut Run),
    ) {
        let number = self.steps.len();
        let expected = self.contents.union(&batch).copied();
        let mut step = Step {
            kind,
            clock: self.clock.load(Ordering::Relaxed),
            before: Arc::clone(&self.contents),
            after: Arc::new(expected.filter(|it| !deleted.contains(it)).collect()),
            batch,
            spilled: self.spilled.union(&self.pending).copied().collect(),
            may_evict: self.has_limits,
            is_foretold: false,
            evicted: self.evicted.clone(),
            evicted_after: self.evicted.clone(),
        };
        self.observe(&step, false);
        self.journal.push(Event::Begin(number));
        act(self);
        let files = beside(&folder(&self.home));
        self.journal.push(Event::Beside(Arc::new(files)));
        self.journal.push(Event::End(number));
        self.refresh();
        step.after = Arc::clone(&self.contents);
        step.evicted_after.clone_from(&self.evicted);
        if kind == Kind::Spill {
            step.spilled.clone_from(&self.spilled);
        }
        self.observe(&step, true);
        self.steps.push(step);
    }

    fn observe(&self, step: &Step, has_ended: bool) {
        if let Some(observer) = &self.observer {
            observer(step, has_ended);
        }
    }

    /// Opens the store for the first time. The records that it has then are known from here on.
    pub(crate) fn open(&mut self, base: &Image) {
        if !base.database.is_empty() {
            // In another home, for all of them are expected after the first operation.
            let other = home_in_memory();
            put_image(other.path(), base);
            let store = Store::open(other.path(), STACK, options_now(&self.clock)).unwrap();
            self.known.learn(&store);
            self.contents = Arc::new(contents(&store, &self.known).unwrap());
        }
        let expected = Arc::clone(&self.contents);
        self.step(Kind::Open, Contents::new(), Run::start);
        assert_eq!(self.contents, expected);
    }

    pub(crate) fn start(&mut self) {
        let store = Store::open(&self.home, STACK, self.options.clone()).unwrap();
        self.writer = Some(SimulatedWriter::with_spill(&store, writer_options()).unwrap());
        self.store = Some(store);
    }

    pub(crate) fn any_step(&mut self) {
        match self.random.below(20) {
            0..8 => self.append(),
            8..10 => self.spill(),
            10 => self.wipe(),
            11..13 => self.import(),
            13..17 => self.maintain(),
            17 => self.compact(),
            18 => self.limit(),
            _ => self.restart(),
        }
        self.stay_small();
    }

    /// A step of this kind.
    pub(crate) fn step_of(&mut self, kind: Kind) {
        match kind {
            Kind::Open | Kind::Append => self.append(),
            Kind::Limits => self.limit(),
            Kind::Spill => self.spill(),
            Kind::Wipe => self.wipe(),
            Kind::Import => self.import(),
            Kind::Maintain => self.maintain(),
            Kind::Compact => self.compact(),
            Kind::Restart => self.restart(),
        }
    }

    fn stay_small(&mut self) {
        // A small database is checked faster.
        if self.contents.len() > 90 {
            self.wipe();
        }
    }

    /// Offers a few records.
    pub(crate) fn offer(&mut self) -> Contents {
        let mut offered = Contents::new();
        for _ in 0..=self.random.below(25) {
            self.clock.fetch_add(SECOND, Ordering::Relaxed);
            let (number, server, record) = self.known.add();
            let writer = self.writer.as_mut().unwrap();
            writer.record(server, record, self.time).unwrap();
            offered.insert(number);
        }
        self.pending.extend(&offered);
        offered
    }

    /// A series that has records now and then.
    fn any_series(&mut self) -> (&'static str, Signal) {
        series_of(self.random.next())
    }

    fn append(&mut self) {
        // Before the step, so that its time is that of all readers.
        self.offer();
        let batch = std::mem::take(&mut self.pending);
        self.refresh();
        self.step(Kind::Append, batch.clone(), |run| {
            let time = run.time;
            run.writer().flush(time).unwrap();
            run.spilled.clear();
        });
        if !self.has_limits {
            let last = self.steps.last().unwrap();
            assert!(last.before.is_subset(&last.after), "an append deletes");
        }
    }

    /// Reads the records again, some of which may have expired.
    fn refresh(&mut self) {
        self.contents = Arc::new(contents(self.store(), &self.known).unwrap());
        self.evicted = evictions(self.store()).unwrap();
    }

    fn spill(&mut self) {
        self.offer();
        self.refresh();
        self.step(Kind::Spill, Contents::new(), |run| {
            let time = run.time;
            run.writer().spill(time);
            run.spilled.clone_from(&run.pending);
        });
    }

    fn wipe(&mut self) {
        let (name, signal) = self.any_series();
        let before = self.clock.load(Ordering::Relaxed) - 60 * SECOND;
        let before = Timestamp::from_unix_nanos(before);
        let (of_server, of_signal, until) = match self.random.below(5) {
            0..3 if !self.is_alone => (true, false, false),
            0 => (false, false, false),
            1 => (false, true, false),
            2 => (false, false, true),
            3 => (true, false, false),
            _ => (true, true, false),
        };
        let scope = WipeScope::everything()
            .server(of_server.then(|| server(name)))
            .signal(of_signal.then_some(signal))
            .before(until.then_some(before));
        let is_covered = |number: &u64| {
            let (server, record) = self.known.of(*number);
            (!of_server || server.as_str() == name)
                && (!of_signal || record.signal() == signal)
                && (!until || record.timestamp() < before)
        };
        let wiped: Contents = (self.contents.iter().chain(&self.pending).copied())
            .filter(is_covered)
            .collect();
        let by_writer = self.random.one_in(2);
        self.deleting_step(Kind::Wipe, Contents::new(), &wiped, |run| {
            if by_writer {
                run.writer().wipe(&scope).unwrap();
            } else {
                run.store().wipe(&scope).unwrap();
            }
        });
        assert!(wiped.is_disjoint(&self.contents), "a wipe leaves records");
        // Nor are those stored that were not committed.
        self.pending.retain(|number| !wiped.contains(number));
        self.spilled.retain(|number| !wiped.contains(number));
    }

    fn import(&mut self) {
        let mut batch = ImportBatch::default();
        let mut numbers = Contents::new();
        for _ in 0..=self.random.below(25) {
            self.clock.fetch_add(SECOND, Ordering::Relaxed);
            let (number, server, record) = self.known.add();
            batch.push(server, record).unwrap();
            numbers.insert(number);
        }
        self.refresh();
        self.step(Kind::Import, numbers, |run| {
            let mut importer = Importer::new(run.store()).unwrap();
            importer.add(batch).unwrap();
        });
    }

    fn maintain(&mut self) {
        if !self.pending.is_empty() {
            return self.append();
        }
        let count = 1 + self.random.below(6);
        self.step(Kind::Maintain, Contents::new(), |run| {
            for _ in 0..count {
                run.time = run.writer().due();
                let time = run.time;
                run.writer().advance(time).unwrap();
            }
        });
    }

    fn compact(&mut self) {
        self.step(Kind::Compact, Contents::new(), |run| {
            match run.store().compact(CompactOptions::default()) {
                // Another process reads.
                Err(Error::ReaderInTheWay { .. }) if !run.is_alone => {}
                outcome => drop(outcome.unwrap()),
            }
        });
    }

    /// Sets limits that delete something, or none.
    fn limit(&mut self) {
        // Other processes judge age by another clock.
        if !self.pending.is_empty() || !self.is_alone {
            return self.append();
        }
        let bytes = [2000, 8000, 30_000][self.random.below(3)];
        let age = Duration::from_secs([120, 600, 100_000][self.random.below(3)]);
        let total = [None, Some(500_000), Some(700_000)][self.random.below(3)];
        let is_on = self.random.one_in(2);
        // They may be in force when the step has not ended.
        self.has_limits |= is_on;
        self.step(Kind::Limits, Contents::new(), |run| {
            let servers = [("", bytes, age)];
            let servers = if is_on { &servers[..] } else { &[] };
            let (total, time) = (total.filter(|_| is_on), run.time);
            (run.writer().set_small_limits(servers, total, time)).unwrap();
            // What exceeds them is deleted at once, in this step and not when the next record is offered.
            run.writer().advance(time).unwrap();
        });
    }

    pub(crate) fn restart(&mut self) {
        let batch = std::mem::take(&mut self.pending);
        self.step(Kind::Restart, batch, |run| {
            let time = run.time;
            run.writer.take().unwrap().close(time).unwrap();
            run.spilled.clear();
            run.store = None;
            run.time = Duration::ZERO;
            run.start();
        });
    }
}

fn series_of(number: u64) -> (&'static str, Signal) {
    let mut random = Random::new(number);
    let name = SERVERS[random.below(SERVERS.len())];
    (name, SIGNALS[random.below(SIGNALS.len())])
}

/// The time of the record with this number, unless it is late.
pub(crate) fn time_of(number: u64) -> Timestamp {
    Timestamp::from_unix_nanos(START + number.cast_signed() * SECOND)
}

/// The record with this number in the workload of `seed`.
pub(crate) fn record_of(seed: u64, number: u64) -> (ServerName, Record) {
    let (name, signal) = series_of(seed.wrapping_add(number / RUN_RECORDS));
    let mut random = Random::new(seed ^ number);
    let late = [0, 0, 0, 30, 300][random.below(5)];
    let size = match random.below(24) {
        0 => Size::Noise(1500),
        1..6 => Size::Noise(40),
        6..12 => Size::Text(random.below(200)),
        _ => Size::Tiny,
    };
    let time = START + (number.cast_signed() - late) * SECOND;
    let model = store::Known::new(signal, time, size);
    (server(name), store::record(signal, number, &model))
}
