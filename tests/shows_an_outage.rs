//! While a writer cannot store, its statistics, other processes and a listener report the error and the
//! time since which it fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{HANG, Helper, STACK, helper_arguments, on_demand, open, record, say, server};
use gridctl_telemetry::{
    Store, StoreOptions, Timestamp, Writer, ingest::OutageEvent, testing::DiskOperation,
};
use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
};

/// A store whose disk is full while the flag is set.
fn open_on_a_disk_that_fills(home: &Path) -> (Store, Arc<AtomicBool>) {
    let full = Arc::new(AtomicBool::new(false));
    let hook = {
        let full = Arc::clone(&full);
        move |operation: DiskOperation<'_>| match operation {
            DiskOperation::Write { .. } if full.load(Ordering::Relaxed) => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    };
    let options = StoreOptions::default().disk_hook(hook);
    (Store::open(home, STACK, options).unwrap(), full)
}

#[test]
fn an_outage_has_a_begin_a_reason_and_an_end() {
    let home = common::home();
    let (store, full) = open_on_a_disk_that_fills(home.path());
    let (sender, events) = mpsc::channel();
    let options = on_demand().on_outage(move |event| {
        sender.send(event).unwrap();
        panic!("this must not stop the writer");
    });
    let before = Timestamp::now();
    let (writer, guard) = Writer::start(&store, options).unwrap();
    assert_eq!(writer.stats().last_commit, None);
    writer.log(&server("github"), &record(1)).unwrap();
    writer.flush().unwrap();
    let stats = writer.stats();
    let committed = stats.last_commit.unwrap();
    assert!(committed >= before);
    assert_eq!((stats.failing_since, stats.last_error), (None, None));

    // Another process sees the same.
    let other = open(home.path());
    let writer_status = || {
        let found = other.writers().unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        found.into_iter().next().unwrap()
    };
    let running = writer_status();
    assert_eq!(running.process_id, std::process::id());
    assert!(running.is_running && running.since.unwrap() >= before);
    assert_eq!((running.failing_since, running.last_error), (None, None));
    assert!(other.snapshot().unwrap().last_commit().unwrap().unwrap() >= before);

    full.store(true, Ordering::Relaxed);
    writer.log(&server("github"), &record(2)).unwrap();
    for _ in 0..2 {
        writer.flush().unwrap_err();
    }
    let stats = writer.stats();
    let since = stats.failing_since.unwrap();
    assert!(since >= committed && stats.last_commit == Some(committed));
    assert!(stats.queued_bytes > 0);
    let error = stats.last_error.unwrap();
    assert!(error.contains("free some space"), "{error}");
    let failing = writer_status();
    assert_eq!(failing.failing_since, Some(since));
    // The error may be truncated.
    assert!(error.starts_with(&failing.last_error.unwrap()));
    let began = events.recv_timeout(HANG).unwrap();
    assert!(
        matches!(&began, OutageEvent::Began { since: at, .. } if *at == since),
        "{began:?}"
    );

    full.store(false, Ordering::Relaxed);
    writer.flush().unwrap();
    let ended = events.recv_timeout(HANG).unwrap();
    assert!(
        matches!(&ended, OutageEvent::Ended { since: at, until, .. } if *at == since && *until >= since),
        "{ended:?}"
    );
    let stats = writer.stats();
    assert_eq!((stats.stored, stats.queued, stats.queued_bytes), (2, 0, 0));
    assert_eq!(stats.failing_since, None);
    assert!(stats.last_error.is_some(), "it is kept");
    assert!(stats.last_commit > Some(committed));
    assert_eq!(
        (writer_status().failing_since, writer_status().last_error),
        (None, None)
    );
    guard.close().unwrap();
    assert_eq!(other.writers().unwrap(), []);
    assert!(
        events.try_recv().is_err(),
        "two events, however often it failed"
    );
}

#[test]
fn helper_stores_until_it_is_killed() {
    if let Some(arguments) = helper_arguments() {
        let store = open(Path::new(&arguments[0]));
        let (_writer, _guard) = Writer::start(&store, on_demand()).unwrap();
        say("ready");
        common::told();
    }
}

#[test]
fn a_killed_writer_is_told_from_a_running_one() {
    let home = common::home();
    let path = home.path().to_str().unwrap();
    let mut helper = Helper::start("helper_stores_until_it_is_killed", &[path]);
    assert_eq!(helper.heard(), "ready");
    let store = open(home.path());
    let running = store.writers().unwrap();
    assert!(running.len() == 1 && running[0].is_running);
    assert_ne!(running[0].process_id, std::process::id());
    helper.kill();
    let killed = store.writers().unwrap();
    assert!(killed.len() == 1 && !killed[0].is_running, "{killed:?}");
    assert_eq!(killed[0].since, running[0].since);
}
