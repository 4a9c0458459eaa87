//! Compacting returns disk blocks to the file system and changes nothing else: not while other
//! processes write and read, not when it is cancelled at any operation, not when its process is killed.
//!
//! `GRIDCTL_TELEMETRY_KILLS` sets the number of kills, 8 by default.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{
    Helper, Random, STACK, helper_arguments, number, numbers, numbers_of, on_demand, open, record,
    say, server, told,
};
use gridctl_telemetry::{
    Error, Query, ServerName, Signal, Snapshot, Store, StoreOptions, Writer,
    maintenance::{CompactOptions, CompactProgress, WipeScope},
};
use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

const PATIENT: Duration = common::HANG;

fn of_server(name: &str) -> WipeScope {
    WipeScope::everything().server(ServerName::new(name).unwrap())
}

fn log(writer: &Writer, name: &str, numbers: std::ops::Range<u64>) {
    for number in numbers {
        writer.log(&server(name), &record(number)).unwrap();
        if number % 1000 == 999 {
            writer.flush().unwrap();
        }
    }
    writer.flush().unwrap();
}

/// Stores `kept` records after and between records that are then wiped, so that the file has gaps
/// before live pages.
fn with_gaps(store: &Store, kept: u64) {
    let (writer, guard) = Writer::start(store, on_demand()).unwrap();
    log(&writer, "wiped", 0..kept * 2);
    log(&writer, "kept", 0..kept);
    guard.close().unwrap();
    store.wipe(&of_server("wiped")).unwrap();
}

fn all(count: u64) -> Vec<u64> {
    (0..count).collect()
}

#[test]
fn what_was_wiped_comes_back_to_the_disk() {
    const KEPT: u64 = 3000;
    let home = common::home();
    let store = open(home.path());
    with_gaps(&store, KEPT);
    let steps: Arc<Mutex<Vec<CompactProgress>>> = Arc::default();
    let heard = Arc::clone(&steps);
    let options = CompactOptions::default().on_progress(move |step| {
        heard.lock().unwrap().push(step);
    });

    let wiped = store.space().unwrap();
    let compacted = store.compact(options).unwrap();
    let left = store.space().unwrap();
    assert_eq!((compacted.before, compacted.after), (wiped, left));
    assert_eq!(
        compacted.returned_bytes(),
        wiped.used_bytes - left.used_bytes
    );
    assert!(
        compacted.returned_bytes() > wiped.free_bytes / 2,
        "{compacted:?}"
    );
    // The live data is the same; the fullness of pages may change.
    assert!(left.live_bytes.abs_diff(wiped.live_bytes) < wiped.live_bytes / 20);
    assert_eq!(numbers_of(&store, "kept"), all(KEPT));
    assert_eq!(numbers_of(&open(home.path()), "kept"), all(KEPT));

    let steps = steps.lock().unwrap();
    assert!(steps.is_sorted_by_key(|step| step.moved_bytes));
    assert!(
        steps
            .iter()
            .all(|step| step.moved_bytes <= step.total_bytes)
    );
    assert!(steps.last().unwrap().moved_bytes > 0);

    // A second compaction returns nothing and costs nothing.
    let again = store.compact(CompactOptions::default()).unwrap();
    assert!(again.returned_bytes() < 64 << 10, "{again:?}");
    assert!(again.after.used_bytes <= left.used_bytes + (64 << 10));

    // Wiping everything leaves next to nothing.
    store.wipe(&WipeScope::everything()).unwrap();
    let compacted = store.compact(CompactOptions::default()).unwrap();
    assert!(compacted.after.live_bytes < 256 << 10, "{compacted:?}");
    assert!(compacted.after.free_bytes < 256 << 10, "{compacted:?}");
}

#[test]
fn a_store_opened_for_reading_is_refused() {
    let home = common::home();
    with_gaps(&open(home.path()), 100);
    let store = Store::open_read_only(home.path(), STACK, StoreOptions::for_tools())
        .unwrap()
        .unwrap();
    let refused = store.compact(CompactOptions::default());
    assert!(
        matches!(refused, Err(Error::ReadOnly { .. })),
        "{refused:?}"
    );
}

/// Holds a snapshot until it is told to drop it.
#[test]
fn helper_holds_a_snapshot() {
    let Some(arguments) = helper_arguments() else {
        return;
    };
    let home = Path::new(&arguments[0]);
    let store = Store::open_read_only(home, STACK, StoreOptions::for_tools())
        .unwrap()
        .unwrap();
    let snapshot = store.snapshot().unwrap();
    say("holding");
    told();
    // The records of the snapshot are still complete.
    say(numbers(&snapshot)["kept"].len());
}

#[test]
fn readers_are_waited_for_as_long_as_was_said() {
    const KEPT: u64 = 500;
    let home = common::home();
    let store = open(home.path());
    with_gaps(&store, KEPT);
    let impatient = CompactOptions::default();
    let in_the_way = |outcome| matches!(outcome, Err(Error::ReaderInTheWay { .. }));

    // A reader in this process ends while the compaction waits for it.
    let held: Arc<Mutex<Option<Snapshot>>> = Arc::new(Mutex::new(Some(store.snapshot().unwrap())));
    let looks = Arc::new(AtomicUsize::new(0));
    let looking = Arc::clone(&looks);
    let counted = CompactOptions::default().cancel_when(move || {
        looking.fetch_add(1, Ordering::Relaxed);
        false
    });
    assert!(in_the_way(store.compact(counted)));
    let looks_left = AtomicUsize::new(looks.load(Ordering::Relaxed) + 5);
    let reader = Arc::clone(&held);
    let patient = CompactOptions::default()
        .patience(PATIENT)
        .cancel_when(move || {
            // By now the engine has refused to compact because of the reader.
            if looks_left.fetch_sub(1, Ordering::Relaxed) == 1 {
                drop(reader.lock().unwrap().take());
            }
            false
        });
    let compacted = store.compact(patient).unwrap();
    assert!(held.lock().unwrap().is_none());
    assert!(compacted.returned_bytes() > 0, "{compacted:?}");

    // A reader in another process does so, too.
    let mut helper = Helper::start("helper_holds_a_snapshot", &[home.path().to_str().unwrap()]);
    assert_eq!(helper.heard(), "holding");
    assert!(in_the_way(store.compact(impatient.clone())));
    let started = std::time::Instant::now();
    let patience = Duration::from_millis(20);
    let error = store
        .compact(CompactOptions::default().patience(patience))
        .unwrap_err();
    assert!(started.elapsed() >= patience);
    assert!(matches!(error, Error::ReaderInTheWay { waited, .. } if waited >= patience));
    helper.tell("let go");
    assert_eq!(helper.heard(), KEPT.to_string());
    helper.end();
    store.compact(impatient).unwrap();
    assert_eq!(numbers_of(&store, "kept"), all(KEPT));
}

/// Options that cancel at the nth check.
fn cancelled_at(nth: usize) -> CompactOptions {
    let asked = AtomicUsize::new(0);
    CompactOptions::default()
        .patience(PATIENT)
        .cancel_when(move || asked.fetch_add(1, Ordering::Relaxed) == nth)
}

#[test]
fn a_compaction_that_is_cancelled_at_any_operation_loses_nothing() {
    let mut random = Random::from_env();
    let home = common::home();
    // Without a page cache, so that every page is an operation.
    let options = StoreOptions::default().page_cache_bytes(0);
    let mut store = Store::open(home.path(), STACK, options.clone()).unwrap();
    with_gaps(&store, 400);
    let (mut writer, mut guard) = Writer::start(&store, on_demand()).unwrap();
    let (mut kept, mut nth, mut cancelled) = (400, 0, 0);
    loop {
        match store.compact(cancelled_at(nth)) {
            Err(Error::Cancelled { .. }) => cancelled += 1,
            Ok(_) => break,
            Err(error) => panic!("{error:?}"),
        }
        // Stores opened before go on, once with a write first and once with a read.
        if random.one_in(2) {
            assert_eq!(numbers_of(&store, "kept"), all(kept), "cancelled at {nth}");
        }
        if random.one_in(2) {
            log(&writer, "kept", kept..kept + 3);
            kept += 3;
            assert_eq!(numbers_of(&store, "kept"), all(kept), "cancelled at {nth}");
        }
        // The file can be opened again, also after all handles were dropped.
        if random.one_in(4) {
            guard.close().unwrap();
            drop((writer, store));
            let read_only = Store::open_read_only(home.path(), STACK, StoreOptions::for_tools());
            assert_eq!(numbers_of(&read_only.unwrap().unwrap(), "kept"), all(kept));
            store = Store::open(home.path(), STACK, options.clone()).unwrap();
            (writer, guard) = Writer::start(&store, on_demand()).unwrap();
        }
        nth += 1 + random.below(12);
    }
    assert!(cancelled > 20, "{cancelled}");
    log(&writer, "kept", kept..kept + 100);
    guard.close().unwrap();
    assert_eq!(numbers_of(&open(home.path()), "kept"), all(kept + 100));
}

/// A daemon keeps its handle open all the time.
#[test]
fn a_process_compacts_its_own_store_while_it_writes_and_reads() {
    let home = common::home();
    let store = open(home.path());
    with_gaps(&store, 500);
    let (writer, guard) = Writer::start(&store, on_demand()).unwrap();
    let written = AtomicU64::new(500);
    let over = AtomicBool::new(false);
    let mut returned = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut next = 500;
            while !over.load(Ordering::Acquire) {
                log(&writer, "kept", next..next + 20);
                next += 20;
                written.store(next, Ordering::Release);
            }
        });
        scope.spawn(|| {
            let query = Query::new(Signal::Logs).server(server("kept"));
            let mut read = 0;
            while !over.load(Ordering::Acquire) {
                let acknowledged = written.load(Ordering::Acquire);
                // The compaction would wait for ever for a reader that never pauses.
                if acknowledged < read + 60 {
                    std::thread::yield_now();
                    continue;
                }
                read = acknowledged;
                let snapshot = store.snapshot().unwrap();
                let entry = &snapshot.inventory(Some("kept")).unwrap()[0];
                assert!(entry.record_count >= acknowledged);
                for found in snapshot.last(&query, 100).unwrap() {
                    number(&found.record.into_log().unwrap());
                }
            }
        });
        let (noise, noise_guard) = Writer::start(&store, on_demand()).unwrap();
        for _ in 0..8 {
            let before = written.load(Ordering::Acquire);
            log(&noise, "noise", 0..1000);
            store.wipe(&of_server("noise")).unwrap();
            let options = CompactOptions::default().patience(PATIENT);
            returned += store.compact(options).unwrap().returned_bytes();
            while written.load(Ordering::Acquire) == before {
                std::thread::yield_now();
            }
        }
        over.store(true, Ordering::Release);
        noise_guard.close().unwrap();
    });
    guard.close().unwrap();
    assert!(returned > 0);
    let written = written.load(Ordering::Acquire);
    assert_eq!(numbers_of(&store, "kept"), all(written));
    assert_eq!(writer.stats().dropped, []);
}

/// Makes gaps and compacts until it is killed.
#[test]
fn helper_compacts() {
    let Some((_, store, writer, _guard)) = common::helper_writer() else {
        return;
    };
    loop {
        log(&writer, "noise", 0..1000);
        store.wipe(&of_server("noise")).unwrap();
        say("compacts");
        let progress = CompactOptions::default()
            .patience(PATIENT)
            .on_progress(|_| say("moves"));
        store.compact(progress).unwrap();
        say("compacted");
    }
}

/// Appends until it is told to end, and reports which records are on the disk.
#[test]
fn helper_appends() {
    let Some((_, _store, writer, guard)) = common::helper_writer() else {
        return;
    };
    let mut next = 0;
    while told().is_some() {
        log(&writer, "kept", next..next + 30);
        next += 30;
        say(next);
    }
    guard.close().unwrap();
}

/// Reads until it is told to end.
#[test]
fn helper_reads() {
    let Some(arguments) = helper_arguments() else {
        return;
    };
    let home = Path::new(&arguments[0]);
    let long_lived = Store::open_read_only(home, STACK, StoreOptions::for_tools())
        .unwrap()
        .unwrap();
    while let Some(line) = told() {
        let at_least: usize = line.parse().unwrap();
        let fresh = Store::open_read_only(home, STACK, StoreOptions::for_tools())
            .unwrap()
            .unwrap();
        for store in [&long_lived, &fresh] {
            let found = numbers_of(store, "kept");
            assert!(found.len() >= at_least, "{} of {at_least}", found.len());
            assert_eq!(found, all(found.len() as u64));
        }
        say("read");
    }
}

#[test]
fn a_compaction_that_is_killed_at_any_moment_loses_nothing() {
    if helper_arguments().is_some() {
        return;
    }
    let kills: usize = common::number_from_env("GRIDCTL_TELEMETRY_KILLS", 8);
    let mut random = Random::from_env();
    let home = common::home();
    let path = home.path().to_str().unwrap();
    with_gaps(&open(home.path()), 0);
    let mut appender = Helper::start("helper_appends", &[path]);
    let mut reader = Helper::start("helper_reads", &[path]);
    let mut acknowledged = 0;
    let mut killed_inside = 0;
    for _ in 0..kills {
        let mut compactor = Helper::start("helper_compacts", &[path]);
        // The helper has finished some rounds when it is killed, and is somewhere in the last one.
        for _ in 0..=random.below(2) {
            while compactor.heard() != "compacts" {}
        }
        appender.tell("append");
        reader.tell(&acknowledged.to_string());
        let mut last = String::from("compacts");
        for _ in 0..random.below(40) {
            last = compactor.heard();
        }
        // Not for synchronisation, but to kill anywhere within an operation.
        std::thread::sleep(Duration::from_micros(random.next() % 1000));
        compactor.kill();
        while let Some(line) = compactor.hear() {
            last = line;
        }
        killed_inside += usize::from(last == "moves");
        acknowledged = appender.heard().parse().unwrap();
        assert_eq!(reader.heard(), "read");
        let found = numbers_of(&open(home.path()), "kept");
        assert_eq!(found, all(acknowledged));
    }
    appender.end();
    reader.end();
    println!("{kills} kills, {killed_inside} while it moved pages, {acknowledged} records");

    // A later compaction reclaims the gaps that they left.
    let store = open(home.path());
    store.wipe(&of_server("noise")).unwrap();
    let compacted = store.compact(CompactOptions::default()).unwrap();
    assert!(compacted.after.free_bytes < 256 << 10, "{compacted:?}");
    assert_eq!(numbers_of(&store, "kept"), all(acknowledged));
    let query = Query::new(Signal::Logs).server(server("noise"));
    assert!(store.last(&query, 1).unwrap().is_empty());
}
