//! A process is killed as by `kill -9`: what it had logged a moment before is stored, once, also what was
//! not committed, and what arrived during a commit.
//!
//! `GRIDCTL_TELEMETRY_KILLS` sets the number of kills at a random moment, 10 by default. How many records
//! are lost then is printed. None of them may be older than 50 ms, besides the time that the threads of the
//! writer waited for a processor, so that a busy machine fails no test. In every other round the process is
//! stopped before it is killed, which is when the system adds the wait of each thread; in the others, a kill
//! can cut off a write, and only the order of the stored records is checked.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{
    Helper, Random, helper_arguments, numbers_of, open, open_with_disk, record, say, server,
};
use gridctl_telemetry::{
    Level, LogRecord, Query, Signal, Store, StoreOptions, Timestamp, Writer, WriterOptions,
    ledger::LossCause, redact::Redactor, testing::DiskOperation,
};
use rustix::time::{ClockId, clock_gettime};
use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

/// The length of the files beside the database that have the records of the first writer.
fn spilled_bytes(home: &Path) -> u64 {
    let files = spill_files(home).into_iter();
    files.map(|file| file.metadata().unwrap().len()).sum()
}

fn spill_files(home: &Path) -> [PathBuf; 2] {
    let folder = home.join("telemetry").join(common::STACK);
    ["spill", "spill2"].map(|end| folder.join(format!("telemetry.0.{end}")))
}

/// Logs records until the files beside the database have all of them, each before the next. `begun`
/// is the number of bytes whose write has begun.
fn log_until_spilled(writer: &Writer, home: &Path, begun: &AtomicU64, numbers: Range<u64>) {
    for number in numbers {
        let before = begun.load(Ordering::Acquire);
        writer.log(&server("github"), &record(number)).unwrap();
        while begun.load(Ordering::Acquire) == before {
            std::thread::yield_now();
        }
        // A write can be seen half done.
        while spilled_bytes(home) < 2 * HEADER_BYTES + begun.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
    }
}

/// The age up to which a kill may lose a record.
const YOUNG: Duration = Duration::from_millis(50);

/// The length of each file without records, in bytes.
const HEADER_BYTES: u64 = 512;

/// The time on a clock that all processes share.
fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(
        now.tv_sec.try_into().unwrap(),
        now.tv_nsec.try_into().unwrap(),
    )
}

/// How long the threads of the writer in this process have waited for a processor until they ran last. Zero
/// where the system does not say.
fn waited(process: u32) -> Duration {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{process}/task")) else {
        return Duration::ZERO;
    };
    let nanos = tasks.filter_map(|task| {
        let task = task.ok()?.path();
        let name = std::fs::read_to_string(task.join("comm")).ok()?;
        let times = std::fs::read_to_string(task.join("schedstat")).ok()?;
        (name.starts_with("gridctl-"))
            .then(|| times.split(' ').nth(1)?.parse::<u64>().ok())
            .flatten()
    });
    Duration::from_nanos(nanos.sum())
}

/// Logs a record every 5 ms until it is killed, and says when each call has returned. Syncs take up to 40 ms.
#[test]
fn helper_logs_steadily() {
    if let Some(arguments) = helper_arguments() {
        let random = Mutex::new(Random::new(arguments[1].parse().unwrap()));
        let store = open_with_disk(Path::new(&arguments[0]), move |operation| {
            // Not for synchronisation: a slow disk, so that records arrive during commits.
            if matches!(operation, DiskOperation::Sync) {
                let micros = random.lock().unwrap().next() % 40_000;
                std::thread::sleep(Duration::from_micros(micros));
            }
        });
        let (writer, _guard) = Writer::start(&store, WriterOptions::default()).unwrap();
        for number in 0.. {
            writer.log(&server("github"), &record(number)).unwrap();
            say(now().as_nanos());
            // Not for synchronisation: this is the pace of the promise.
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn count_spilled(operation: DiskOperation<'_>, begun: &AtomicU64) {
    if let DiskOperation::Spill { bytes } = operation {
        begun.fetch_add(bytes as u64, Ordering::Release);
    }
}

/// Logs records that are never committed, and says when all of them are in the file beside the
/// database.
#[test]
fn helper_never_commits() {
    if let Some(arguments) = helper_arguments() {
        let home = Path::new(&arguments[0]);
        let begun = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&begun);
        let store = open_with_disk(home, move |operation| count_spilled(operation, &counted));
        let (writer, _guard) = Writer::start(&store, common::on_demand()).unwrap();
        log_until_spilled(&writer, home, &begun, 0..20);
        assert_eq!(writer.stats().stored, 0);
        say("spilled");
        common::told();
    }
}

/// Logs records while a commit hangs.
#[test]
fn helper_hangs_in_a_commit() {
    if let Some(arguments) = helper_arguments() {
        let home = Path::new(&arguments[0]);
        let hangs = Arc::new(AtomicBool::new(false));
        let hung = Arc::new(Barrier::new(2));
        let begun = Arc::new(AtomicU64::new(0));
        let store = open_with_disk(home, {
            let (hangs, hung) = (Arc::clone(&hangs), Arc::clone(&hung));
            let begun = Arc::clone(&begun);
            move |operation| {
                count_spilled(operation, &begun);
                if matches!(operation, DiskOperation::Sync) && hangs.load(Ordering::Acquire) {
                    hung.wait();
                    loop {
                        std::thread::park();
                    }
                }
            }
        });
        let (writer, _guard) = Writer::start(&store, common::on_demand()).unwrap();
        log_until_spilled(&writer, home, &begun, 0..5);
        hangs.store(true, Ordering::Release);
        let flushing = writer.clone();
        std::thread::spawn(move || flushing.flush());
        hung.wait();
        log_until_spilled(&writer, home, &begun, 5..20);
        assert_eq!(writer.stats().stored, 0);
        say("spilled");
        common::told();
    }
}

#[test]
fn a_kill_loses_nothing_that_the_writer_has_taken() {
    kill_and_recover("helper_never_commits");
}

#[test]
fn a_kill_during_a_commit_loses_nothing_that_arrived_meanwhile() {
    kill_and_recover("helper_hangs_in_a_commit");
}

/// Kills a helper that has spilled 20 records and committed none.
fn kill_and_recover(helper: &str) {
    let home = common::home();
    let mut helper = Helper::start(helper, &[home.path().to_str().unwrap()]);
    assert_eq!(helper.heard(), "spilled");
    helper.kill();
    // Any number of openings store it once.
    for _ in 0..2 {
        let store = open(home.path());
        let all: Vec<u64> = (0..20).collect();
        assert_eq!(numbers_of(&store, "github"), all);
        let ledger = store.snapshot().unwrap().ledger(..).unwrap();
        assert_eq!(ledger.len(), 1, "{ledger:?}");
        assert_eq!(ledger[0].cause, LossCause::Crash);
        assert_eq!((ledger[0].count, ledger[0].recovered), (0, 20));
    }
}

#[test]
fn a_kill_at_any_moment_loses_the_newest_records_at_most() {
    if helper_arguments().is_some() {
        return;
    }
    let kills: usize = common::number_from_env("GRIDCTL_TELEMETRY_KILLS", 10);
    let mut random = Random::from_env();
    let (mut old, mut young, mut logged, mut recovered) = (0, 0, 0, 0);
    let mut waited_longest = Duration::ZERO;
    for round in 0..kills {
        let home = common::home_in_memory();
        let path = home.path().to_str().unwrap();
        let seed = random.next().to_string();
        let mut helper = Helper::start("helper_logs_steadily", &[path, &seed]);
        let mut returned = vec![helper.heard()];
        // Anywhere within the intervals and commits of the writer.
        std::thread::sleep(Duration::from_micros(random.next() % 1_900_000));
        let before = waited(helper.id());
        std::thread::sleep(YOUNG * 2);
        let killed_at = now();
        // A stop and not a kill in every other round: the system adds the wait of a thread when it runs.
        let is_judged = round % 2 == 0;
        let mut excused = YOUNG;
        if is_judged {
            helper.stop();
            let waited = waited(helper.id()).saturating_sub(before);
            waited_longest = waited_longest.max(waited);
            excused += waited;
        }
        helper.kill();
        while let Some(line) = helper.hear() {
            returned.push(line);
        }
        let store = open(home.path());
        let found = numbers_of(&store, "github");
        let expected = returned
            .iter()
            .map(|nanos| Duration::from_nanos(nanos.parse().unwrap()))
            .filter(|at| is_judged && *at + excused <= killed_at)
            .count();
        let all: Vec<u64> = (0..found.len() as u64).collect();
        assert_eq!(
            found, all,
            "older records are missing while newer ones are stored"
        );
        let is_missing = |number: &usize| !found.contains(&(*number as u64));
        old += (0..expected).filter(is_missing).count();
        young += (expected..returned.len()).filter(is_missing).count();
        logged += returned.len();
        let ledger = store.snapshot().unwrap().ledger(..).unwrap();
        assert_eq!(ledger.len(), 1, "{ledger:?}");
        assert_eq!(ledger[0].cause, LossCause::Crash);
        assert!(ledger[0].count <= 1, "only the last write can be cut off");
        recovered += ledger[0].recovered;
    }
    println!(
        "{kills} kills, {logged} records: {recovered} recovered, {young} lost that were younger than 50 ms and the \
         time waited for a processor, {waited_longest:.1?} at most, {old} older"
    );
    assert_eq!(old, 0, "records are lost that the writer had time to spill");
}

#[test]
fn records_keep_their_order_while_commits_take_long() {
    let home = common::home();
    let store = open_with_disk(home.path(), |operation| {
        // Not for synchronisation: a slow disk, so that records arrive during commits.
        if matches!(operation, DiskOperation::Sync) {
            std::thread::sleep(Duration::from_millis(15));
        }
    });
    let options = WriterOptions::default().commit_interval_max(Duration::from_millis(20));
    let (writer, guard) =
        Writer::start(&store, options.commit_interval_min(Duration::ZERO)).unwrap();
    let mut random = Random::from_env();
    let count = 600;
    for number in 0..count {
        let record = LogRecord::new(Timestamp::from_unix_nanos(number), Level::INFO, "in order");
        writer.log(&server("github"), &record).unwrap();
        match random.below(60) {
            // The records before it are stored, whichever thread has taken it from the queue.
            0 => {
                writer.flush().unwrap();
                let stored = store.scan(&Query::new(Signal::Logs)).unwrap().count();
                assert_eq!(stored as u64, number.cast_unsigned() + 1);
            }
            1..20 => std::thread::sleep(Duration::from_millis(1)),
            _ => {}
        }
    }
    guard.close().unwrap();
    assert_eq!(writer.stats().stored, count.cast_unsigned());
    let mut sequences = Vec::new();
    for record in store.scan(&Query::new(Signal::Logs)).unwrap() {
        sequences.push(record.unwrap().sequence);
    }
    assert_eq!(sequences, (0..count.cast_unsigned()).collect::<Vec<_>>());
    assert!(spill_files(home.path()).iter().all(|file| !file.exists()));
}

#[test]
fn no_secret_is_spilled() {
    let home = common::home();
    let store = open(home.path());
    // Not written out, so that no scanner takes it for a leaked one.
    let token = format!("ghp_{}", "a1B2".repeat(9));
    let redactor = Redactor::new();
    redactor.register_value("a value from the vault").unwrap();
    let options = common::on_demand().redactor(Some(redactor));
    let (writer, guard) = Writer::start(&store, options).unwrap();
    let before = spilled_bytes(home.path());
    let record = LogRecord::new(Timestamp::now(), Level::INFO, format!("sent {token} on"))
        .with("password", "hunter2-hunter2")
        .with("note", "it has a value from the vault")
        .with("mark", "kept as it is");
    writer.log(&server("github"), &record).unwrap();
    while spilled_bytes(home.path()) == before {
        std::thread::yield_now();
    }
    let spilled: Vec<u8> = (spill_files(home.path()).iter())
        .flat_map(|file| std::fs::read(file).unwrap())
        .collect();
    let has = |text: &str| spilled.windows(text.len()).any(|it| it == text.as_bytes());
    assert!(has("kept as it is"));
    for secret in [&token, "hunter2-hunter2", "a value from the vault"] {
        assert!(!has(secret), "{secret}");
    }
    guard.close().unwrap();
}

#[test]
fn statistics_say_that_records_cannot_be_spilled() {
    let home = common::home();
    let fails = Arc::new(AtomicBool::new(true));
    let failing = Arc::clone(&fails);
    let options = StoreOptions::default().disk_hook(move |operation| match operation {
        DiskOperation::Spill { .. } if failing.load(Ordering::Acquire) => {
            Err(io::Error::other("on purpose"))
        }
        _ => Ok(()),
    });
    let store = Store::open(home.path(), common::STACK, options).unwrap();
    let (writer, guard) = Writer::start(&store, common::on_demand()).unwrap();
    assert_eq!(writer.stats().spill_error, None);
    writer.log(&server("github"), &record(0)).unwrap();
    while writer.stats().spill_error.is_none() {
        std::thread::yield_now();
    }
    assert_eq!(writer.stats().spill_error.as_deref(), Some("on purpose"));
    assert_eq!(writer.stats().failing_since, None);
    fails.store(false, Ordering::Release);
    // The next attempt comes by itself.
    while writer.stats().spill_error.is_some() {
        std::thread::yield_now();
    }
    assert!(spilled_bytes(home.path()) > 2 * HEADER_BYTES);
    guard.close().unwrap();
    assert_eq!(numbers_of(&store, "github"), [0]);
}
