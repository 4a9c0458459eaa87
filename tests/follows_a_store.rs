//! A store is followed: stored records first, then those that arrive, whatever happens to the store.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{HANG, Helper, STACK, helper_arguments, on_demand, open, say, server};
use gridctl_telemetry::{
    Level, LogRecord, Query, Signal, Store, StoreOptions, Timestamp, Writer, WriterOptions,
    maintenance::WipeScope,
    query::{Follow, StoredRecord},
};
use std::{fs, path::Path, sync::mpsc, thread, time::Duration};

/// A record whose time grows with its number.
fn record(number: u64) -> LogRecord {
    let time = 1_700_000_000_000_000_000 + number.cast_signed() * 1000;
    LogRecord::new(Timestamp::from_unix_nanos(time), Level::INFO, "followed")
}

fn log(store: &Store, numbers: impl IntoIterator<Item = u64>) {
    let (writer, guard) = Writer::start(store, on_demand()).unwrap();
    for number in numbers {
        writer.log(&server("github"), &record(number)).unwrap();
    }
    guard.close().unwrap();
}

fn logs() -> Query {
    Query::new(Signal::Logs)
}

fn next(follow: &mut Follow) -> StoredRecord {
    follow.next_timeout(HANG).unwrap().expect("a record")
}

fn timestamps(follow: &mut Follow, count: usize) -> Vec<i64> {
    (0..count)
        .map(|_| next(follow).timestamp.unix_nanos())
        .collect()
}

fn of(numbers: impl IntoIterator<Item = u64>) -> Vec<i64> {
    let records = numbers.into_iter().map(record);
    records
        .map(|record| record.timestamp.unix_nanos())
        .collect()
}

fn is_quiet(follow: &mut Follow) -> bool {
    follow.next_timeout(Duration::ZERO).unwrap().is_none()
}

#[test]
fn stored_records_come_first_and_new_ones_after_them_each_once() {
    let home = common::home();
    let store = open(home.path());
    // More than one page.
    log(&store, 1..=700);
    let mut follow = store.follow(logs()).unwrap();
    let mut new_only = store
        .follow(logs().since_sequence(store.snapshot().unwrap().next_sequence().unwrap()))
        .unwrap();
    assert_eq!(timestamps(&mut follow, 300), of(1..=300));
    // Older than what was read already, while a pass is under way.
    log(&store, [0]);
    assert_eq!(timestamps(&mut follow, 400), of(301..=700));
    assert_eq!(timestamps(&mut follow, 1), of([0]));
    assert!(is_quiet(&mut follow));
    assert_eq!(timestamps(&mut new_only, 1), of([0]));
    assert!(is_quiet(&mut new_only));
}

#[test]
fn following_survives_wipes_restarts_and_another_database() {
    let home = common::home();
    let store = open(home.path());
    log(&store, 1..=3);
    let mut follow = store.follow(logs()).unwrap();
    assert_eq!(timestamps(&mut follow, 3), of(1..=3));
    store.wipe(&WipeScope::everything()).unwrap();
    assert!(is_quiet(&mut follow));
    log(&store, 4..=5);
    assert_eq!(timestamps(&mut follow, 2), of(4..=5));
    drop(store);
    let store = open(home.path());
    log(&store, 6..=6);
    assert_eq!(timestamps(&mut follow, 1), of(6..=6));
    drop(store);
    let folder = home.path().join("telemetry").join(STACK);
    fs::remove_dir_all(&folder).unwrap();
    assert!(is_quiet(&mut follow));
    let store = open(home.path());
    log(&store, 7..=8);
    assert_eq!(timestamps(&mut follow, 2), of(7..=8));
    assert!(is_quiet(&mut follow));
}

/// Logs records from a number on, flushes after each tenth, and says so.
#[test]
fn helper_writes_on() {
    if let Some(arguments) = helper_arguments() {
        let store = open(Path::new(&arguments[0]));
        let (writer, _guard) = Writer::start(&store, WriterOptions::default()).unwrap();
        for number in arguments[1].parse().unwrap().. {
            writer.log(&server("github"), &record(number)).unwrap();
            if number % 10 == 0 {
                writer.flush().unwrap();
                say(number);
            }
        }
    }
}

#[test]
fn following_survives_that_the_writing_process_is_killed_and_starts_again() {
    let home = common::home();
    // Opened to read only: it must be the next writer that stores what the killed one left.
    drop(open(home.path()));
    let store = Store::open_read_only(home.path(), STACK, StoreOptions::default());
    let mut follow = store.unwrap().unwrap().follow(logs()).unwrap();
    let mut found = Vec::new();
    let mut first = 1;
    for _ in 0..4 {
        let arguments = [home.path().to_str().unwrap(), &first.to_string()];
        let mut helper = Helper::start("helper_writes_on", &arguments);
        let mut flushed = 0;
        for _ in 0..8 {
            flushed = helper.heard().parse().unwrap();
            // The follower is behind, or has all: it must not matter.
            if flushed % 3 == 0 {
                found.extend(timestamps(&mut follow, 5));
            }
        }
        helper.kill();
        first = flushed + 1000;
    }
    let store = open(home.path());
    while let Some(record) = follow.next_timeout(Duration::from_millis(500)).unwrap() {
        found.push(record.timestamp.unix_nanos());
    }
    found.sort_unstable();
    let stored: Vec<i64> = (store.scan(&logs()).unwrap())
        .map(|record| record.unwrap().timestamp.unix_nanos())
        .collect();
    assert!(stored.len() > 4 * 70);
    assert_eq!(found, stored);
}

#[test]
fn a_handle_ends_a_follower_that_waits() {
    let home = common::home();
    let store = open(home.path());
    let mut follow = store.follow(logs()).unwrap();
    let handle = follow.handle();
    let (sender, ended) = mpsc::channel();
    let waiting = thread::spawn(move || {
        sender.send(follow.next().is_none()).unwrap();
        follow
    });
    handle.stop();
    assert!(ended.recv_timeout(HANG).unwrap());
    let mut follow = waiting.join().unwrap();
    log(&store, 1..=1);
    assert!(is_quiet(&mut follow), "it stays ended");
}

mod stream {
    use super::*;
    use futures_core::Stream;
    use std::{
        pin::Pin,
        sync::Arc,
        task::{Context, Poll, Wake, Waker},
    };

    struct Unpark(thread::Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    /// What an executor does, on this thread.
    fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        loop {
            match Pin::new(&mut *stream).poll_next(&mut Context::from_waker(&waker)) {
                Poll::Ready(item) => return item,
                Poll::Pending => thread::park(),
            }
        }
    }

    #[test]
    fn a_stream_gives_every_record_and_ends_by_its_handle() {
        let home = common::home();
        let store = open(home.path());
        // More than wait to be taken.
        log(&store, 1..=200);
        let mut stream = store.follow(logs()).unwrap().into_stream().unwrap();
        let mut found = Vec::new();
        for _ in 0..200 {
            let record = next(&mut stream).unwrap().unwrap();
            found.push(record.timestamp.unix_nanos());
        }
        assert_eq!(found, of(1..=200));
        let handle = stream.handle();
        let waiting = thread::spawn(move || next(&mut stream).is_none());
        handle.stop();
        assert!(waiting.join().unwrap());
    }
}
