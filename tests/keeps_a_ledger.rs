//! Each record that is not stored is counted in the ledger, and the counts add up.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use gridctl_telemetry::{
    Level, LogRecord, ServerName, Signal, Store, StoreOptions, Timestamp, Writer, WriterOptions,
    ingest::DropCause,
    ledger::{LedgerEntry, LossCause},
    maintenance::WipeScope,
    testing::DiskOperation,
};
use std::{
    collections::BTreeSet,
    io,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

fn github() -> ServerName {
    ServerName::new("github").unwrap()
}

fn log(nanos: i64) -> LogRecord {
    LogRecord::new(
        Timestamp::from_unix_nanos(nanos),
        Level::INFO,
        "x".repeat(100),
    )
}

fn open(home: &Path) -> Store {
    Store::open(home, "gw", StoreOptions::default()).unwrap()
}

fn losses(store: &Store) -> Vec<LedgerEntry> {
    store.snapshot().unwrap().ledger(..).unwrap()
}

fn lost(store: &Store, cause: LossCause) -> u64 {
    losses(store)
        .iter()
        .filter(|loss| loss.cause == cause)
        .map(|loss| loss.count)
        .sum()
}

#[test]
fn offered_is_stored_and_lost_through_overflow_and_outage() {
    let home = tempfile::tempdir().unwrap();
    let failing = Arc::new(AtomicBool::new(false));
    let hook = {
        let failing = Arc::clone(&failing);
        move |operation: DiskOperation<'_>| match operation {
            DiskOperation::Write { .. } | DiskOperation::Sync
                if failing.load(Ordering::Relaxed) =>
            {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    };
    let store = Store::open(home.path(), "gw", StoreOptions::default().disk_hook(hook)).unwrap();
    let options = WriterOptions::default()
        .queue_bytes_max(64 << 10)
        .record_bytes_max(4 << 10);
    let (writer, guard) = Writer::start(&store, options).unwrap();
    let mut offered = 0;
    let mut offer = |count: i64| {
        for nanos in 0..count {
            let _ = writer.log(&github(), &log(nanos));
        }
        offered += u64::try_from(count).unwrap();
    };
    offer(100);
    writer.flush().unwrap();
    // The disk fails for a while, and more records come than the queue holds.
    failing.store(true, Ordering::Relaxed);
    offer(5000);
    assert!(writer.flush().is_err());
    failing.store(false, Ordering::Relaxed);
    // Also a record that can never be stored.
    let mut huge = log(7);
    huge.message = "x".repeat(5 << 10);
    assert_eq!(writer.log(&github(), &huge), Err(DropCause::TooLarge));
    writer.flush().unwrap();
    offer(100);
    guard.close().unwrap();

    let stored = store.snapshot().unwrap().inventory(None).unwrap()[0].record_count;
    let store = open(home.path());
    let full = lost(&store, LossCause::QueueFull);
    assert!(full > 0);
    assert_eq!(lost(&store, LossCause::TooLarge), 1);
    assert_eq!(
        offered + 1,
        stored + full + 1,
        "each record is stored or in the ledger"
    );
    for loss in losses(&store) {
        assert_eq!(
            (loss.server, loss.signal),
            (Some(github()), Some(Signal::Logs))
        );
        assert!(loss.from <= loss.to);
    }
}

#[test]
fn losses_of_one_minute_are_one_entry_from_the_first_to_the_last() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    let options = WriterOptions::default().record_bytes_max(100);
    let (writer, guard) = Writer::start(&store, options).unwrap();
    // Entered one by one, out of order.
    for nanos in [100, 50, 200, 120] {
        assert_eq!(writer.log(&github(), &log(nanos)), Err(DropCause::TooLarge));
        writer.flush().unwrap();
    }
    let jira = ServerName::new("jira").unwrap();
    writer.log(&jira, &log(1000)).unwrap_err();
    guard.close().unwrap();
    drop(store);

    // The entries outlive the process that made them.
    let store = open(home.path());
    let found = losses(&store);
    let of_github: Vec<_> = found
        .iter()
        .filter(|loss| loss.server == Some(github()))
        .collect();
    // Two entries if a minute ended in between.
    assert!(of_github.len() <= 2, "{of_github:?}");
    assert_eq!(of_github.iter().map(|loss| loss.count).sum::<u64>(), 4);
    let nanos = |timestamp: Timestamp| timestamp.unix_nanos();
    assert_eq!(
        of_github.iter().map(|loss| nanos(loss.from)).min(),
        Some(50)
    );
    assert_eq!(of_github.iter().map(|loss| nanos(loss.to)).max(), Some(200));

    // A range selects the entries that overlap it; its end is excluded.
    let at = Timestamp::from_unix_nanos;
    let servers = |since, until| -> BTreeSet<String> {
        let losses = store.snapshot().unwrap().ledger(at(since)..at(until));
        let servers = losses.unwrap().into_iter().filter_map(|loss| loss.server);
        servers.map(|server| server.to_string()).collect()
    };
    assert_eq!(servers(0, 50), BTreeSet::new());
    assert!(servers(0, 51).contains("github") && !servers(0, 51).contains("jira"));
    assert!(servers(200, 201).contains("github"));
    assert_eq!(servers(201, 1000), BTreeSet::new());
    assert_eq!(servers(201, 1001), ["jira".to_owned()].into());
    assert_eq!(servers(1001, i64::MAX), BTreeSet::new());
}

#[test]
fn what_somebody_wiped_is_no_loss() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    let never = Duration::from_secs(3600);
    let options = WriterOptions::default()
        .commit_interval_max(never)
        .commit_interval_min(never);
    let (writer, guard) = Writer::start(&store, options).unwrap();
    writer.log(&github(), &log(1)).unwrap();
    // Wiped by another process before the commit.
    open(home.path()).wipe(&WipeScope::everything()).unwrap();
    writer.flush().unwrap();
    writer.log(&github(), &log(2)).unwrap();
    guard.close().unwrap();
    let stats = writer.stats();
    assert_eq!((stats.offered, stats.stored), (2, 1));
    assert_eq!(stats.dropped[0].cause, LossCause::Wiped);
    assert_eq!(losses(&store), []);
}

#[test]
fn a_disk_that_fails_until_the_end_is_noted_at_the_next_start() {
    let home = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper_ends_on_a_disk_that_fails", "--nocapture"])
        .env(CHILD_HOME, home.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    // The process could not enter the loss itself.
    let options = StoreOptions::default();
    let reader = Store::open_read_only(home.path(), "gw", options).unwrap();
    assert_eq!(losses(&reader.unwrap()), []);
    let store = open(home.path());
    let (_writer, _guard) = Writer::start(&store, WriterOptions::default()).unwrap();
    let found = losses(&store);
    assert_eq!((found[0].cause, found[0].count), (LossCause::Crash, 0));
    assert_eq!(found.len(), 1);
}

/// Not a test by itself: the process that ends in the test above.
#[test]
fn helper_ends_on_a_disk_that_fails() {
    let Some(home) = std::env::var_os(CHILD_HOME) else {
        return;
    };
    let failing = Arc::new(AtomicBool::new(false));
    let hook = {
        let failing = Arc::clone(&failing);
        move |operation: DiskOperation<'_>| match operation {
            DiskOperation::Write { .. } | DiskOperation::Spill { .. }
                if failing.load(Ordering::Relaxed) =>
            {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    };
    let options = StoreOptions::default().disk_hook(hook);
    let store = Store::open(Path::new(&home), "gw", options).unwrap();
    let (writer, guard) = Writer::start(&store, WriterOptions::default()).unwrap();
    writer.log(&github(), &log(1)).unwrap();
    writer.flush().unwrap();
    failing.store(true, Ordering::Relaxed);
    writer.log(&github(), &log(2)).unwrap();
    assert!(guard.close().is_err());
    let stats = writer.stats();
    assert_eq!((stats.offered, stats.stored, stats.queued), (2, 1, 0));
    assert_eq!(stats.dropped[0].cause, LossCause::DiskFault);
}

const CHILD_HOME: &str = "GRIDCTL_TELEMETRY_LEDGER_HOME";

/// Not a test by itself: the process that is killed in the test below.
#[test]
fn helper_waits_to_be_killed() {
    let Some(home) = std::env::var_os(CHILD_HOME) else {
        return;
    };
    let store = open(Path::new(&home));
    let (writer, _guard) = Writer::start(&store, WriterOptions::default()).unwrap();
    writer.log(&github(), &log(1)).unwrap();
    writer.flush().unwrap();
    println!("ready");
    std::thread::sleep(Duration::from_secs(60 * 10));
}

#[test]
fn an_unclean_end_is_noted_at_the_next_start_and_a_clean_one_is_not() {
    let home = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let store = open(home.path());
        let (_writer, guard) = Writer::start(&store, WriterOptions::default()).unwrap();
        guard.close().unwrap();
    }
    assert!(losses(&open(home.path())).is_empty());

    let before = Timestamp::now();
    let mut child = start_writer_to_kill(home.path());
    // A running process has not crashed, even if another writer starts.
    let store = open(home.path());
    let (_writer, guard) = Writer::start(&store, WriterOptions::default()).unwrap();
    assert!(losses(&store).is_empty());
    guard.close().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let mut noted = None;
    for _ in 0..2 {
        let (_writer, guard) = Writer::start(&store, WriterOptions::default()).unwrap();
        let losses = losses(&store);
        assert_eq!(losses.len(), 1);
        let first = noted.get_or_insert_with(|| losses.clone());
        assert_eq!(losses, *first, "noted once, however often a writer starts");
        assert_eq!((losses[0].cause, losses[0].count), (LossCause::Crash, 0));
        assert!(losses[0].from >= before && losses[0].to >= losses[0].from);
        guard.close().unwrap();
    }
}

/// Starts a process with a writer, and returns once it has stored a record.
fn start_writer_to_kill(home: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper_waits_to_be_killed", "--nocapture"])
        .env(CHILD_HOME, home)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = io::BufRead::lines(io::BufReader::new(child.stdout.take().unwrap()));
    assert!(lines.any(|line| line.unwrap().contains("ready")));
    child
}

#[test]
fn every_kill_is_an_entry() {
    let home = tempfile::tempdir().unwrap();
    for _ in 0..4 {
        let mut child = start_writer_to_kill(home.path());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let store = open(home.path());
    let (_writer, _guard) = Writer::start(&store, WriterOptions::default()).unwrap();
    let found = losses(&store);
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(found.iter().all(|loss| loss.cause == LossCause::Crash));
}

#[cfg(target_os = "linux")]
#[test]
fn a_zombie_was_killed() {
    let home = tempfile::tempdir().unwrap();
    let mut child = start_writer_to_kill(home.path());
    child.kill().unwrap();
    // It stays a zombie until this process waits for it. Its state shows when the signal has been
    // delivered.
    let stat = format!("/proc/{}/stat", child.id());
    while !std::fs::read_to_string(&stat).unwrap().contains(") Z ") {
        std::thread::yield_now();
    }
    let store = open(home.path());
    let (_writer, _guard) = Writer::start(&store, WriterOptions::default()).unwrap();
    let found = losses(&store);
    child.wait().unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].cause, LossCause::Crash);
}

#[test]
fn what_a_full_disk_kept_from_being_stored_is_entered_with_the_room_of_the_reserve() {
    let home = tempfile::tempdir().unwrap();
    let full = Arc::new(AtomicBool::new(false));
    let reserve = home.path().join("telemetry/gw/telemetry.reserve");
    let hook = {
        let full = Arc::clone(&full);
        move |operation: DiskOperation<'_>| match operation {
            DiskOperation::Read { .. } => Ok(()),
            _ if !full.load(Ordering::Relaxed) => Ok(()),
            // Only the blocks of the reserve are left.
            _ if std::fs::metadata(&reserve).is_ok_and(|it| it.len() == 0) => Ok(()),
            _ => Err(io::ErrorKind::StorageFull.into()),
        }
    };
    let store = Store::open(home.path(), "gw", StoreOptions::default().disk_hook(hook)).unwrap();
    let (writer, guard) = Writer::start(&store, WriterOptions::default()).unwrap();
    writer.log(&github(), &log(1)).unwrap();
    writer.flush().unwrap();
    full.store(true, Ordering::Relaxed);
    for nanos in 2..20_000 {
        writer.log(&github(), &log(nanos)).unwrap();
    }
    assert!(guard.close().is_err());
    assert_eq!(writer.stats().queued, 0);
    assert_eq!(store.writers().unwrap(), []);
    full.store(false, Ordering::Relaxed);
    let (_writer, _guard) = Writer::start(&store, WriterOptions::default()).unwrap();
    let found = losses(&store);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        (found[0].cause, found[0].count),
        (LossCause::DiskFault, 19_998)
    );
    assert_eq!(found[0].from, Timestamp::from_unix_nanos(2));
}
