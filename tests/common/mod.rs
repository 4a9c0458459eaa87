//! Helpers for several tests: homes, records that follow from a number, random numbers, and processes.
#![allow(dead_code, unused_imports, reason = "each test uses a part of it")]

mod helper;
mod writers;

pub(crate) use helper::{Helper, helper_arguments, say, told};
pub(crate) use writers::{SERVERS, Writers};

use gridctl_telemetry::{
    Level, LogRecord, Query, ServerName, Signal, Snapshot, Store, StoreOptions, Timestamp, Writer,
    WriterGuard, WriterOptions,
    metrics::{Accumulator, MetricsFlusher},
    testing::DiskOperation,
};
use std::{
    collections::BTreeMap,
    fmt::Debug,
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Arc, mpsc},
    time::Duration,
};
use tempfile::TempDir;

/// The stack of every test.
pub(crate) const STACK: &str = "stack";

/// How long a test waits for an event before it reports a hang. No event takes nearly as long, so
/// whether a test passes does not depend on it.
pub(crate) const HANG: Duration = Duration::from_secs(60 * 2);

pub(crate) fn home() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// A home in memory, if the system has a file system there: for tests that commit thousands of times
/// and are not about disks.
pub(crate) fn home_in_memory() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        home()
    }
}

/// The file of the database of [`STACK`].
pub(crate) fn database(home: &Path) -> PathBuf {
    home.join("telemetry").join(STACK).join("telemetry.redb")
}

/// The number in the environment variable `name`, or `default` without it.
pub(crate) fn number_from_env<T: FromStr<Err: Debug>>(name: &str, default: T) -> T {
    std::env::var(name).map_or(default, |number| number.parse().unwrap())
}

pub(crate) fn open(home: &Path) -> Store {
    Store::open(home, STACK, StoreOptions::default()).unwrap()
}

/// The store of `home`, whose disk calls `hook` before each operation.
pub(crate) fn open_with_disk(
    home: &Path,
    hook: impl Fn(DiskOperation<'_>) + Send + Sync + 'static,
) -> Store {
    let options = StoreOptions::default().disk_hook(move |operation| {
        hook(operation);
        Ok(())
    });
    Store::open(home, STACK, options).unwrap()
}

pub(crate) fn server(name: &str) -> ServerName {
    ServerName::new(name).unwrap()
}

/// The arguments of this process, a store in the home that the first one names, and its writer; `None` in the
/// test run itself.
pub(crate) fn helper_writer() -> Option<(Vec<String>, Store, Writer, WriterGuard)> {
    let arguments = helper_arguments()?;
    let store = open(Path::new(&arguments[0]));
    let (writer, guard) = Writer::start(&store, on_demand()).unwrap();
    Some((arguments, store, writer, guard))
}

/// Options of a writer that commits only when flushed, and seals after so few records that a test
/// sees all tiers.
pub(crate) fn on_demand() -> WriterOptions {
    let never = Duration::from_secs(3600);
    WriterOptions::default()
        .commit_interval_min(never)
        .commit_interval_max(never)
        .flush_timeout(HANG)
        .tiering(40, 25, 16)
}

/// Random numbers that follow from a seed: `SplitMix64`.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The seed is `GRIDCTL_TELEMETRY_SEED`, or random. It is printed, and shown when a test fails.
    pub(crate) fn from_env() -> Random {
        let now = Timestamp::now().unix_nanos().cast_unsigned();
        let seed = number_from_env("GRIDCTL_TELEMETRY_SEED", now);
        println!("GRIDCTL_TELEMETRY_SEED={seed}");
        Random(seed)
    }

    /// The seed of these numbers.
    pub(crate) fn seed(&self) -> u64 {
        self.0
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    /// True once in `times`, on average.
    pub(crate) fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

/// The record of a number: all of it follows from the number, so a reader can tell whether it came
/// back unchanged. Some records are late, and some have equal times.
pub(crate) fn record(number: u64) -> LogRecord {
    let mut random = Random::new(number);
    let late = if random.one_in(10) { 500_000 } else { 0 };
    let time = (number / 3 * 1000).cast_signed() - late;
    let filler = "tool call completed ".repeat(random.below(20));
    LogRecord::new(
        Timestamp::from_unix_nanos(1_700_000_000_000_000_000 + time),
        Level::INFO,
        filler,
    )
    .with("number", number)
    .with("trace_id", format!("{:016x}", random.next()))
}

/// The number of a record. Panics unless the record is the one of that number.
pub(crate) fn number(found: &LogRecord) -> u64 {
    let Some(gridctl_telemetry::Value::Int(number)) = found.attribute("number") else {
        panic!("a record that was never written: {found:?}");
    };
    let number = number.cast_unsigned();
    assert_eq!(*found, record(number));
    number
}

/// The numbers of the log records of each server, sorted. Panics when a record was changed, is
/// stored twice or out of order, or when the inventory has another count.
pub(crate) fn numbers(snapshot: &Snapshot) -> BTreeMap<String, Vec<u64>> {
    let mut found: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut last = None;
    for record in snapshot.scan(&Query::new(Signal::Logs)).unwrap().records() {
        let record = record.unwrap();
        let at = Some((record.timestamp, record.sequence));
        assert!(at > last, "{at:?} comes after {last:?}");
        last = at;
        let number = number(&record.record.into_log().unwrap());
        found
            .entry(record.server.to_string())
            .or_default()
            .push(number);
    }
    for (server, numbers) in &mut found {
        numbers.sort_unstable();
        if let Some([twice, ..]) = numbers.windows(2).find(|pair| pair[0] == pair[1]) {
            panic!("record {twice} of {server} is stored twice");
        }
    }
    let counts: Vec<(String, u64)> = snapshot
        .inventory(None)
        .unwrap()
        .iter()
        .map(|entry| (entry.server.to_string(), entry.record_count))
        .collect();
    let expected: Vec<(String, u64)> = found
        .iter()
        .map(|(server, numbers)| (server.clone(), numbers.len() as u64))
        .collect();
    assert_eq!(counts, expected, "the inventory");
    found
}

/// The numbers of one server's log records in the current state of `store`, see [`numbers`].
pub(crate) fn numbers_of(store: &Store, server: &str) -> Vec<u64> {
    numbers(&store.snapshot().unwrap())
        .remove(server)
        .unwrap_or_default()
}

/// Runs `operation` on a thread of its own, and fails when it hangs.
pub(crate) fn without_hang<T: Send + 'static>(
    what: &str,
    operation: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (sender, receiver) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let _ = sender.send(operation());
    });
    match receiver.recv_timeout(HANG) {
        Ok(outcome) => outcome,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{what} hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            std::panic::resume_unwind(thread.join().err().unwrap())
        }
    }
}

/// A daemon that counts: its counters, and what stores them. A test flushes it by hand.
pub(crate) struct Metered {
    pub(crate) store: Store,
    pub(crate) accumulator: Arc<Accumulator>,
    pub(crate) flusher: MetricsFlusher,
    pub(crate) writer: Writer,
    pub(crate) guard: WriterGuard,
}

impl Metered {
    /// Starts a daemon whose counters are zero.
    pub(crate) fn start_with(
        home: &Path,
        options: WriterOptions,
        servers: impl IntoIterator<Item = &'static str>,
    ) -> Metered {
        let store = open(home);
        let (writer, guard) = Writer::start(&store, options).unwrap();
        let accumulator = Arc::new(Accumulator::new());
        let flusher = MetricsFlusher::new(Arc::clone(&accumulator), writer.clone(), Duration::ZERO);
        for server in servers {
            flusher.add_server(server).unwrap();
        }
        Metered {
            store,
            accumulator,
            flusher,
            writer,
            guard,
        }
    }

    /// Stores a snapshot of each server whose counters have changed.
    pub(crate) fn flush_at(&self, at: Timestamp) {
        self.flusher.flush(at);
        self.writer.flush().unwrap();
    }
}
