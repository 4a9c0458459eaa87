//! The disk is full, fails or hangs: producers neither panic nor wait, the outage is reported once, and
//! afterwards every record that was kept is stored once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{HANG, STACK, numbers_of, on_demand, open, record, server, without_hang};
use gridctl_telemetry::{
    Error, Signal, Store, StoreOptions, Writer, WriterOptions, ingest::DropCause,
    ledger::LossCause, maintenance::WipeScope, testing::DiskOperation,
};
use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, OnceLock},
    time::Duration,
};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// A disk whose failures a test controls.
#[derive(Clone, Default)]
struct Disk {
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    fault: Option<Fault>,
    /// The number of operations so far.
    operations: usize,
    /// Whether an operation hangs.
    hanging: bool,
}

#[derive(Clone, Copy)]
enum Fault {
    /// Every write, sync and change of length fails with this error of the operating system.
    Changes(i32),
    /// Every operation fails.
    Everything(i32),
    /// This many operations fail, from this one on.
    From { first: usize, count: usize },
    /// Every write hangs.
    Hang,
}

const ENOSPC: i32 = rustix::io::Errno::NOSPC.raw_os_error();
const EIO: i32 = rustix::io::Errno::IO.raw_os_error();

impl Disk {
    fn open(&self, home: &Path) -> Result<Store, Error> {
        let disk = self.clone();
        let options = StoreOptions::default().disk_hook(move |operation| disk.operate(operation));
        Store::open(home, STACK, options)
    }

    fn operate(&self, operation: DiskOperation<'_>) -> io::Result<()> {
        let (state, changed) = &*self.state;
        let mut state = state.lock().unwrap();
        state.operations += 1;
        let at = state.operations;
        let reads = matches!(operation, DiskOperation::Read { .. });
        let code = match state.fault {
            Some(Fault::Changes(code)) if !reads => code,
            Some(Fault::Everything(code)) => code,
            Some(Fault::From { first, count }) if (first..first + count).contains(&at) => EIO,
            Some(Fault::Hang) if !reads => {
                state.hanging = true;
                changed.notify_all();
                drop(
                    changed
                        .wait_while(state, |state| matches!(state.fault, Some(Fault::Hang)))
                        .unwrap(),
                );
                return Ok(());
            }
            _ => return Ok(()),
        };
        Err(io::Error::from_raw_os_error(code))
    }

    fn fail(&self, fault: Fault) {
        self.state.0.lock().unwrap().fault = Some(fault);
    }

    fn heal(&self) {
        let (state, changed) = &*self.state;
        let mut state = state.lock().unwrap();
        state.fault = None;
        state.hanging = false;
        changed.notify_all();
    }

    fn operations(&self) -> usize {
        self.state.0.lock().unwrap().operations
    }

    /// Waits until an operation hangs in the disk.
    fn wait_for_victim(&self) {
        let (state, changed) = &*self.state;
        let (_state, timeout) = changed
            .wait_timeout_while(state.lock().unwrap(), HANG, |state| !state.hanging)
            .unwrap();
        assert!(!timeout.timed_out(), "no operation hangs");
    }
}

/// The errors that were reported with `subsystem="telemetry"`, of all tests: each names its file.
fn reported() -> &'static Mutex<Vec<String>> {
    static REPORTED: OnceLock<Mutex<Vec<String>>> = OnceLock::new();
    REPORTED.get_or_init(|| {
        let subscriber = tracing_subscriber::registry().with(Collect);
        tracing::subscriber::set_global_default(subscriber).unwrap();
        Mutex::default()
    })
}

struct Collect;

impl<S: tracing::Subscriber> Layer<S> for Collect {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        if *event.metadata().level() == tracing::Level::ERROR && fields.subsystem == "telemetry" {
            reported().lock().unwrap().push(fields.error);
        }
    }
}

#[derive(Default)]
struct Fields {
    subsystem: String,
    error: String,
}

impl tracing::field::Visit for Fields {
    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        match field.name() {
            "subsystem" => value.clone_into(&mut self.subsystem),
            "error" => value.clone_into(&mut self.error),
            _ => {}
        }
    }

    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// A store on a disk that can fail, and its writer.
struct Case {
    disk: Disk,
    home: tempfile::TempDir,
    store: Store,
    logged: u64,
}

impl Case {
    fn new() -> Case {
        reported();
        let disk = Disk::default();
        let home = common::home();
        let store = disk.open(home.path()).unwrap();
        Case {
            disk,
            home,
            store,
            logged: 0,
        }
    }

    fn log(&mut self, writer: &Writer, count: usize) {
        for _ in 0..count {
            writer.log(&server("github"), &record(self.logged)).unwrap();
            self.logged += 1;
        }
    }

    fn outages(&self) -> usize {
        let path: PathBuf = self.store.path();
        let path = path.to_str().unwrap();
        let reported = reported().lock().unwrap();
        reported.iter().filter(|error| error.contains(path)).count()
    }

    /// Checks that every logged record is stored once, as seen by the store that had the outage and by
    /// another one.
    fn check(&self) {
        let all: Vec<u64> = (0..self.logged).collect();
        assert_eq!(numbers_of(&self.store, "github"), all);
        assert_eq!(numbers_of(&open(self.home.path()), "github"), all);
    }
}

fn settled(writer: &Writer) {
    let stats = writer.stats();
    assert_eq!(
        stats.offered,
        stats.stored + stats.dropped_total(),
        "{stats:?}"
    );
    assert_eq!((stats.queued, stats.queued_bytes), (0, 0), "{stats:?}");
}

#[test]
fn an_outage_is_reported_once_and_loses_nothing() {
    for fault in [
        Fault::Changes(ENOSPC),
        Fault::Changes(EIO),
        Fault::Everything(EIO),
    ] {
        let mut case = Case::new();
        let (writer, guard) = Writer::start(&case.store, on_demand()).unwrap();
        case.log(&writer, 100);
        writer.flush().unwrap();
        for outage in 1..3 {
            case.disk.fail(fault);
            for _ in 0..3 {
                case.log(&writer, 50);
                let error = writer.flush().unwrap_err();
                assert!(matches!(error, Error::NotFlushed { .. }), "{error}");
                let source = std::error::Error::source(&error).unwrap();
                let source = source.downcast_ref::<Error>().unwrap();
                assert!(error.to_string().ends_with(&source.to_string()), "{error}");
                assert!(writer.wipe(&WipeScope::everything()).is_err());
            }
            assert_eq!(writer.stats().queued, 150);
            assert_eq!(case.outages(), outage);
            case.disk.heal();
            writer.flush().unwrap();
            case.check();
            settled(&writer);
            assert_eq!(case.outages(), outage);
        }
        guard.close().unwrap();
        assert_eq!(writer.stats().dropped, []);
    }
}

/// A batch whose commit failed may be on the disk anyway.
#[test]
fn a_fault_at_any_operation_loses_and_doubles_nothing() {
    for count in [1, 1000] {
        let mut case = Case::new();
        let options = on_demand().record_bytes_max(1000);
        let (writer, guard) = Writer::start(&case.store, options).unwrap();
        let too_large = record(0).with("filler", "x".repeat(1000));
        let mut survived = 0;
        for nth in 1.. {
            let first = case.disk.operations() + nth;
            case.disk.fail(Fault::From { first, count });
            for records in [9, 2] {
                case.log(&writer, records);
                writer.log(&server("github"), &too_large).unwrap_err();
                let flushed = writer.flush();
                // The disk can also fail after all records are stored, while rows are sealed.
                let works = flushed.is_ok() && writer.stats().failing_since.is_none();
                survived = if works { survived + 1 } else { 0 };
            }
            case.disk.heal();
            writer.flush().unwrap();
            let stats = writer.stats();
            assert_eq!((stats.stored, stats.queued), (case.logged, 0));
            // Some flushes have more operations than others, because they seal.
            if survived >= 10 {
                break;
            }
        }
        guard.close().unwrap();
        settled(&writer);
        case.check();
        let losses = open(case.home.path()).snapshot().unwrap().ledger(..);
        let lost: u64 = losses.unwrap().iter().map(|loss| loss.count).sum();
        assert_eq!(lost, writer.stats().dropped_total(), "the ledger");
    }
}

#[test]
fn closing_fails_only_if_records_are_not_stored() {
    for count in [1, usize::MAX / 2] {
        let mut failed = 0;
        for nth in 1.. {
            let mut case = Case::new();
            let (writer, guard) = Writer::start(&case.store, on_demand()).unwrap();
            case.log(&writer, 39);
            writer.flush().unwrap();
            // With these, the rows are sealed.
            case.log(&writer, 2);
            let first = case.disk.operations() + nth;
            case.disk.fail(Fault::From { first, count });
            let closed = guard.close();
            let hit = case.disk.operations() >= first;
            case.disk.heal();
            let is_stored = writer.stats().stored == case.logged;
            assert_eq!(closed.is_ok(), is_stored, "{nth}: {closed:?}");
            failed += u64::from(!is_stored);
            let numbers = numbers_of(&open(case.home.path()), "github");
            // A commit that failed may be on the disk nevertheless.
            let all: Vec<u64> = (0..case.logged).collect();
            assert!(
                numbers == all || !is_stored && numbers == all[..39],
                "{nth}"
            );
            if !hit {
                break;
            }
        }
        // One fault never keeps the last attempt from storing them.
        assert_eq!(failed > 0, count > 1);
    }
}

#[test]
fn a_wipe_that_failed_can_be_repeated() {
    let mut case = Case::new();
    let (writer, _guard) = Writer::start(&case.store, on_demand()).unwrap();
    case.log(&writer, 30);
    writer.flush().unwrap();
    case.disk.fail(Fault::Changes(EIO));
    assert!(writer.wipe(&WipeScope::everything()).is_err());
    case.disk.heal();
    // No record was logged that would have made the writer open the store again.
    assert_eq!(writer.wipe(&WipeScope::everything()).unwrap(), 1);
    assert!(numbers_of(&case.store, "github").is_empty());
}

#[test]
fn what_was_wiped_in_an_outage_is_counted_once() {
    let mut case = Case::new();
    let (writer, _guard) = Writer::start(&case.store, on_demand()).unwrap();
    let (kept, wiped) = (server("kept"), server("wiped"));
    for nth in 1..40 {
        let before = writer.stats().dropped_total();
        writer.log(&wiped, &record(0)).unwrap();
        writer.log(&kept, &record(nth)).unwrap();
        let scope = WipeScope::everything().server(wiped.clone());
        open(case.home.path()).wipe(&scope).unwrap();
        let first = case.disk.operations() + usize::try_from(nth).unwrap();
        case.disk.fail(Fault::From { first, count: 3 });
        let _ = writer.flush();
        case.disk.heal();
        writer.flush().unwrap();
        settled(&writer);
        assert_eq!(writer.stats().dropped_total(), before + 1);
        assert!(numbers_of(&case.store, "wiped").is_empty());
        assert_eq!(numbers_of(&case.store, "kept").len() as u64, nth);
    }
    case.log(&writer, 1);
    writer.flush().unwrap();
    case.check();
}

#[test]
fn a_disk_that_hangs_is_nothing_that_producers_notice() {
    let mut case = Case::new();
    let bytes_max = 256 << 10;
    let options = on_demand()
        .flush_timeout(Duration::from_millis(20))
        .queue_records_max(1000)
        .queue_bytes_max(bytes_max)
        .batch_records_max(10);
    let (writer, guard) = Writer::start(&case.store, options).unwrap();
    case.disk.fail(Fault::Hang);
    case.log(&writer, 10);
    case.disk.wait_for_victim();

    let producer = writer.clone();
    let dropped = without_hang("a producer", move || {
        let name = server("flood");
        let mut dropped = 0;
        for number in 0..20_000 {
            match producer.log(&name, &record(number)) {
                Ok(()) => {}
                Err(DropCause::QueueFull) => dropped += 1,
                Err(other) => panic!("{other}"),
            }
            assert!(producer.stats().queued_bytes <= bytes_max);
        }
        assert!(producer.flush().is_err());
        dropped
    });
    let stats = writer.stats();
    assert_eq!((stats.offered, stats.stored), (20_010, 0));
    assert_eq!(stats.queued, 20_010 - dropped);
    let [drops] = &stats.dropped[..] else {
        panic!("{stats:?}");
    };
    assert_eq!(
        (
            drops.server.as_str(),
            drops.signal,
            drops.cause,
            drops.count
        ),
        ("flood", Signal::Logs, LossCause::QueueFull, dropped)
    );

    case.disk.heal();
    drop(guard);
    without_hang("the writer", {
        let writer = writer.clone();
        move || ended(&writer)
    });
    settled(&writer);
    let stored = numbers_of(&case.store, "flood").len() + numbers_of(&case.store, "github").len();
    assert_eq!(writer.stats().stored, stored as u64);
    // A slow disk is not an outage.
    assert_eq!(case.outages(), 0);
}

/// Waits until the writer's thread has ended.
fn ended(writer: &Writer) {
    while !matches!(writer.flush(), Err(Error::WriterClosed)) {}
}

#[test]
fn a_guard_that_is_dropped_in_an_outage_counts_what_is_lost() {
    let mut case = Case::new();
    let (writer, guard) = Writer::start(&case.store, on_demand()).unwrap();
    case.log(&writer, 30);
    writer.flush().unwrap();
    case.disk.fail(Fault::Changes(ENOSPC));
    let span = gridctl_telemetry::SpanRecord::default();
    for number in 0..40 {
        writer.log(&server("a"), &record(number)).unwrap();
        writer.span(&server("b"), &span).unwrap();
    }
    without_hang("the guard", move || drop(guard));
    case.disk.heal();
    settled(&writer);
    assert_eq!(writer.log(&server("a"), &record(0)), Err(DropCause::Closed));
    let drops: Vec<_> = writer
        .stats()
        .dropped
        .into_iter()
        .map(|drops| (drops.server.to_string(), drops.cause, drops.count))
        .collect();
    assert_eq!(
        drops,
        [
            ("a".to_owned(), LossCause::Closed, 1),
            ("a".to_owned(), LossCause::DiskFault, 40),
            ("b".to_owned(), LossCause::DiskFault, 40),
        ]
    );
    let stored: Vec<u64> = (0..30).collect();
    assert_eq!(numbers_of(&open(case.home.path()), "github"), stored);
}

#[test]
fn a_guard_that_is_dropped_while_the_disk_hangs_comes_back() {
    let mut case = Case::new();
    let options = on_demand().flush_timeout(Duration::from_millis(20));
    let (writer, guard) = Writer::start(&case.store, options).unwrap();
    case.disk.fail(Fault::Hang);
    case.log(&writer, 30);
    without_hang("the guard", move || drop(guard));
    case.disk.wait_for_victim();
    assert_eq!(writer.stats().queued, 30);
    // If the disk works again after all, nothing is lost.
    case.disk.heal();
    without_hang("the writer", {
        let writer = writer.clone();
        move || ended(&writer)
    });
    settled(&writer);
    case.check();
}

/// A handle that failed to write fails every operation until it is opened again, which needs to write, too.
#[test]
fn stored_records_are_read_while_no_write_works() {
    for code in [EIO, ENOSPC] {
        let mut case = Case::new();
        let (writer, guard) = Writer::start(&case.store, on_demand()).unwrap();
        case.log(&writer, 100);
        writer.flush().unwrap();
        let stored: Vec<u64> = (0..100).collect();
        assert_eq!(numbers_of(&case.store, "github"), stored);
        case.disk.fail(Fault::Changes(code));
        case.log(&writer, 1);
        for _ in 0..3 {
            writer.flush().unwrap_err();
            assert_eq!(numbers_of(&case.store, "github"), stored);
        }
        case.disk.heal();
        guard.close().unwrap();
        case.check();
    }
}

/// Also a store without a writer that would notice the failure.
#[test]
fn readers_recover_from_an_outage() {
    let mut case = Case::new();
    let (writer, guard) = Writer::start(&case.store, on_demand()).unwrap();
    case.log(&writer, 100);
    guard.close().unwrap();
    let disk = case.disk.clone();
    // Without a page cache, which would answer in place of the disk.
    let options = StoreOptions::default()
        .page_cache_bytes(0)
        .disk_hook(move |operation| disk.operate(operation));
    let read_only = Store::open_read_only(case.home.path(), STACK, options).unwrap();
    for store in [&case.store, &read_only.unwrap()] {
        for _ in 0..2 {
            assert_eq!(numbers_of(store, "github").len(), 100);
            case.disk.fail(Fault::Everything(EIO));
            for _ in 0..2 {
                let read = store
                    .snapshot()
                    .and_then(|snapshot| snapshot.inventory(None));
                assert!(matches!(read, Err(Error::Database { .. })), "{read:?}");
            }
            case.disk.heal();
        }
        assert_eq!(numbers_of(store, "github").len(), 100);
    }
}

/// The queue is so full that the guard cannot send its message that the writer is to end.
#[test]
fn a_writer_that_was_left_behind_ends_when_the_disk_comes_back() {
    let mut case = Case::new();
    let options = on_demand()
        .flush_timeout(Duration::from_millis(20))
        .queue_records_max(5)
        .batch_records_max(1);
    let (writer, guard) = Writer::start(&case.store, options).unwrap();
    case.disk.fail(Fault::Hang);
    case.log(&writer, 1);
    case.disk.wait_for_victim();
    case.log(&writer, 5);
    without_hang("the guard", move || drop(guard));
    case.disk.heal();
    without_hang("the writer", {
        let writer = writer.clone();
        move || ended(&writer)
    });
    settled(&writer);
    case.check();
}

#[test]
fn a_store_that_cannot_be_opened_or_read_is_an_error() {
    let home = common::home();
    let disk = Disk::default();
    let mut failures = 0;
    // Opening fails at each of its operations in turn, until there are no more.
    for nth in 1.. {
        let first = disk.operations() + nth;
        disk.fail(Fault::From { first, count: 1000 });
        match disk.open(home.path()) {
            Ok(_) => break,
            Err(Error::Database { .. }) => failures += 1,
            Err(error) => panic!("{error:?}"),
        }
        disk.heal();
    }
    assert!(failures > 10, "{failures}");

    let mut case = Case::new();
    let (writer, guard) = Writer::start(&case.store, WriterOptions::default()).unwrap();
    case.log(&writer, 10);
    guard.close().unwrap();
    let store = case.disk.open(case.home.path()).unwrap();
    case.disk.fail(Fault::Everything(EIO));
    assert!(matches!(
        store.snapshot().and_then(|it| it.inventory(None)),
        Err(Error::Database { .. })
    ));
    assert!(matches!(
        Writer::start(&store, WriterOptions::default()),
        Err(Error::Database { .. })
    ));
    assert!(matches!(
        store.wipe(&WipeScope::everything()),
        Err(Error::Database { .. })
    ));
    case.disk.heal();
    case.check();
}
