//! Every offered record is stored or dropped, and every drop is counted by server, signal and cause.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{STACK, numbers, numbers_of, on_demand, open, record, server, without_hang};
use gridctl_telemetry::{
    LogRecord, MetricsSnapshot, Query, Signal, SpanRecord, Store, StoreOptions, Timestamp, Value,
    Writer, WriterOptions,
    ingest::{DropCause, WhenFull, WriterStats},
    ledger::LossCause,
    testing::DiskOperation,
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

type Counts = BTreeMap<(String, Signal, LossCause), u64>;

const THREADS: u64 = 8;

fn counts(stats: &WriterStats) -> Counts {
    stats
        .dropped
        .iter()
        .map(|drop| {
            let key = (drop.server.to_string(), drop.signal, drop.cause);
            (key, drop.count)
        })
        .collect()
}

fn stored(store: &Store) -> u64 {
    let snapshot = store.snapshot().unwrap();
    let of = |signal| {
        snapshot
            .scan(&Query::new(signal))
            .unwrap()
            .records()
            .count() as u64
    };
    of(Signal::Logs) + of(Signal::Metrics) + of(Signal::Traces)
}

fn check(stats: &WriterStats, store: &Store, offered: u64, dropped: &Counts) {
    assert_eq!(stats.offered, offered);
    assert_eq!(counts(stats), *dropped);
    assert_eq!(stats.offered, stats.stored + stats.dropped_total());
    assert_eq!((stats.queued, stats.queued_bytes), (0, 0));
    assert_eq!(stored(store), stats.stored);
    let mut ledger = Counts::new();
    for loss in store.snapshot().unwrap().ledger(..).unwrap() {
        let key = (
            loss.server.unwrap().to_string(),
            loss.signal.unwrap(),
            loss.cause,
        );
        *ledger.entry(key).or_default() += loss.count;
    }
    // Records that come after the writer was closed cannot be entered in the ledger.
    let mut entered = dropped.clone();
    entered.retain(|(_, _, cause), _| *cause != LossCause::Closed);
    assert_eq!(ledger, entered, "the ledger");
}

/// Eight threads offer records of all signals, and note the answers.
fn offer(writer: &Writer) -> (u64, Counts) {
    let told: Vec<(u64, Counts)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| scope.spawn(move || offer_some(writer, thread)))
            .collect();
        threads.into_iter().map(|it| it.join().unwrap()).collect()
    });
    let mut counts = Counts::new();
    for (key, count) in told.iter().flat_map(|(_, counts)| counts) {
        *counts.entry(key.clone()).or_default() += count;
    }
    (told.iter().map(|(offered, _)| offered).sum(), counts)
}

fn offer_some(writer: &Writer, thread: u64) -> (u64, Counts) {
    let mut counts = Counts::new();
    let names = [server("github"), server(&format!("server {}", thread % 3))];
    let mut offered = 0;
    for number in 0..200 {
        let name = &names[usize::from(number % 4 == 0)];
        let (signal, told) = match number % 10 {
            7 => {
                let snapshot = MetricsSnapshot::new(Timestamp::from_unix_nanos(number));
                (Signal::Metrics, writer.metrics(name, &snapshot))
            }
            8 => (Signal::Traces, writer.span(name, &SpanRecord::default())),
            9 if number % 20 == 9 => (Signal::Logs, writer.log(name, &too_large())),
            9 => (Signal::Logs, writer.log(name, &too_deep())),
            _ => (
                Signal::Logs,
                writer.log(name, &record(number.cast_unsigned())),
            ),
        };
        offered += 1;
        if let Err(cause) = told {
            *counts
                .entry((name.to_string(), signal, cause.into()))
                .or_default() += 1;
        }
    }
    (offered, counts)
}

fn too_large() -> LogRecord {
    record(0).with("filler", "x".repeat(5000))
}

fn too_deep() -> LogRecord {
    let mut value = Value::Null;
    for _ in 0..1000 {
        value = Value::Array(vec![value]);
    }
    record(0).with("deep", value)
}

fn small_queue() -> WriterOptions {
    on_demand().queue_records_max(20).record_bytes_max(4000)
}

#[test]
fn what_overflows_is_counted_exactly() {
    for options in [
        small_queue(),
        small_queue()
            .queue_records_max(10_000)
            .queue_bytes_max(8 << 10),
    ] {
        let home = common::home();
        let store = open(home.path());
        let (writer, guard) = Writer::start(&store, options).unwrap();
        let (offered, dropped) = offer(&writer);
        guard.close().unwrap();
        let causes: Vec<LossCause> = dropped.keys().map(|(_, _, cause)| *cause).collect();
        for cause in [
            LossCause::QueueFull,
            LossCause::TooLarge,
            LossCause::Invalid,
        ] {
            assert!(causes.contains(&cause), "the test causes no {cause}");
        }
        check(&writer.stats(), &store, offered, &dropped);
    }
}

#[test]
fn a_producer_that_waits_for_room_loses_nothing() {
    for options in [
        small_queue(),
        small_queue()
            .queue_records_max(10_000)
            .queue_bytes_max(8 << 10),
    ] {
        let home = common::home();
        let store = open(home.path());
        // Batches of this size make room in the queue.
        let options = options.when_full(WhenFull::Block).batch_records_max(10);
        let (writer, guard) = Writer::start(&store, options).unwrap();
        let (offered, dropped) = without_hang("a producer that waits for room", {
            let writer = writer.clone();
            move || offer(&writer)
        });
        guard.close().unwrap();
        let refused = |cause: &LossCause| matches!(cause, LossCause::TooLarge | LossCause::Invalid);
        assert!(
            dropped.keys().all(|(_, _, cause)| refused(cause)),
            "{dropped:?}"
        );
        check(&writer.stats(), &store, offered, &dropped);
    }
}

/// The queue is smaller than a batch, and the next commit is an hour away.
#[test]
fn a_queue_that_is_nearly_full_is_committed_at_once() {
    let home = common::home();
    let store = open(home.path());
    let options = on_demand()
        .when_full(WhenFull::Block)
        .queue_bytes_max(4 << 10);
    let (writer, guard) = Writer::start(&store, options).unwrap();
    without_hang("a producer that waits for room", move || {
        for number in 0..100 {
            writer.log(&server("github"), &record(number)).unwrap();
        }
    });
    guard.close().unwrap();
    assert_eq!(numbers_of(&store, "github").len(), 100);
}

/// A producer can be anywhere in its call when the writer closes: also where it has found the writer
/// open and sends its record after the queue has no receiver any more.
#[test]
fn what_is_offered_while_the_writer_closes_is_stored_or_counted() {
    // Encoding these records takes about as long as closing the writer.
    let long: Vec<LogRecord> = (1..=8_i64)
        .map(|size| (0..size * 20_000).fold(record(0), |it, key| it.with("key", key)))
        .collect();
    let mut late = 0;
    for round in 0..16 {
        let records = [
            &long[round % 8],
            &long[(round + 3) % 8],
            &long[(round + 6) % 8],
        ];
        let home = common::home();
        let disk = StoreOptions::default().disk_hook(|operation| {
            // Not for synchronisation: it makes the end of the writer take longer.
            if matches!(operation, DiskOperation::Sync) {
                std::thread::sleep(Duration::from_millis(3));
            }
            Ok(())
        });
        let store = Store::open(home.path(), STACK, disk).unwrap();
        let options = on_demand().record_bytes_max(16 << 20);
        let (writer, guard) = Writer::start(&store, options).unwrap();
        std::thread::scope(|scope| {
            for record in records {
                let writer = &writer;
                scope.spawn(move || writer.log(&server("github"), record));
            }
            let count = records.len() as u64;
            while writer.stats().offered < count {
                std::thread::yield_now();
            }
            guard.close().unwrap();
        });
        let stats = writer.stats();
        assert_eq!(
            stats.offered,
            stats.stored + stats.dropped_total(),
            "{stats:?}"
        );
        assert_eq!((stats.queued, stats.queued_bytes), (0, 0));
        assert_eq!(stored(&store), stats.stored);
        late += stats.dropped_total();
    }
    println!("{late} records came too late to be stored");
}

/// Producers that wait for space in the queue when the writer closes do not wait for ever.
#[test]
fn what_waits_for_room_while_the_writer_closes_is_stored_or_counted() {
    let home = common::home();
    let store = open(home.path());
    let options = small_queue()
        .when_full(WhenFull::Block)
        .queue_records_max(1)
        .batch_records_max(10);
    let (writer, guard) = Writer::start(&store, options).unwrap();
    let (barrier, closed) = (Barrier::new(9), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                barrier.wait();
                while !closed.load(Ordering::Acquire) {
                    let _ = writer.log(&server("github"), &record(0));
                }
            });
        }
        barrier.wait();
        while writer.stats().stored < 100 {
            std::thread::yield_now();
        }
        guard.close().unwrap();
        closed.store(true, Ordering::Release);
    });
    let stats = writer.stats();
    assert_eq!(
        stats.offered,
        stats.stored + stats.dropped_total(),
        "{stats:?}"
    );
    assert_eq!((stats.queued, stats.queued_bytes), (0, 0));
    assert_eq!(stored(&store), stats.stored);
}

/// Each commit enters in the ledger what producers have dropped, and while it does so they drop more.
#[test]
fn a_queue_that_always_overflows_is_still_emptied() {
    let home = common::home();
    let store = common::open_with_disk(home.path(), |operation| {
        // Not for synchronisation: commits take so long that producers drop records in each.
        if matches!(operation, DiskOperation::Sync) {
            std::thread::sleep(Duration::from_millis(3));
        }
    });
    let (writer, guard) = Writer::start(&store, small_queue().batch_records_max(10)).unwrap();
    let stored = Arc::new(AtomicBool::new(false));
    let producers: Vec<_> = (0..2)
        .map(|_| {
            let (writer, stored) = (writer.clone(), Arc::clone(&stored));
            std::thread::spawn(move || {
                while !stored.load(Ordering::Acquire) {
                    let _ = writer.log(&server("github"), &record(0));
                }
            })
        })
        .collect();
    without_hang("a writer whose queue overflows", {
        let writer = writer.clone();
        move || {
            while writer.stats().stored < 300 {
                std::thread::yield_now();
            }
        }
    });
    stored.store(true, Ordering::Release);
    for producer in producers {
        producer.join().unwrap();
    }
    guard.close().unwrap();
    assert!(writer.stats().dropped_total() > 0);
}

#[test]
fn drops_after_the_end_are_counted() {
    let home = common::home();
    let store = open(home.path());
    let (writer, guard) = Writer::start(&store, on_demand()).unwrap();
    for number in 0..5 {
        writer.log(&server("github"), &record(number)).unwrap();
    }
    guard.close().unwrap();
    for number in 5..10 {
        let told = writer.log(&server("github"), &record(number));
        assert_eq!(told, Err(DropCause::Closed));
    }
    let key = ("github".to_owned(), Signal::Logs, LossCause::Closed);
    check(&writer.stats(), &store, 10, &Counts::from([(key, 5)]));
    assert_eq!(numbers_of(&store, "github"), [0, 1, 2, 3, 4]);
    assert_eq!(numbers(&store.snapshot().unwrap()).len(), 1);
    let [drop] = &writer.stats().dropped[..] else {
        panic!("one count");
    };
    assert_eq!(
        (drop.first, drop.last),
        (record(5).timestamp, record(9).timestamp)
    );
}
