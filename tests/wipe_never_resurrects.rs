//! Records emitted before a wipe never come back, even those queued in another process; records emitted
//! after it are stored.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{
    Helper, Random, SERVERS, STACK, Writers, number, numbers, numbers_of, on_demand, open, record,
    say, server, told,
};
use gridctl_telemetry::{
    MetricsSnapshot, Query, Record, Signal, SpanRecord, Store, StoreOptions, Timestamp, Writer,
    import::Importer,
    ledger::LossCause,
    maintenance::{WipeScope, wipe},
    query::inventory,
};
use std::path::Path;

fn of_server(name: &str) -> WipeScope {
    WipeScope::everything().server(server(name))
}

fn of_signal(signal: Signal) -> WipeScope {
    WipeScope::everything().signal(signal)
}

/// Runs commands: `log N` (N more records, which stay queued), `flush`, `wipe`.
#[test]
fn helper_writes() {
    let Some((arguments, _store, writer, _guard)) = common::helper_writer() else {
        return;
    };
    let name = server(&arguments[1]);
    let mut next = 0;
    say("ready");
    while let Some(line) = told() {
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("log", count) => {
                for _ in 0..count.parse().unwrap() {
                    writer.log(&name, &record(next)).unwrap();
                    next += 1;
                }
            }
            ("flush", _) => writer.flush().unwrap(),
            ("wipe", _) => drop(writer.wipe(&WipeScope::everything()).unwrap()),
            _ => panic!("{line}"),
        }
        say(next);
    }
}

fn asked(helper: &mut Helper, line: &str) -> u64 {
    helper.tell(line);
    helper.heard().parse().unwrap()
}

fn start(home: &Path, name: &str) -> Helper {
    let mut helper = Helper::start("helper_writes", &[home.to_str().unwrap(), name]);
    assert_eq!(helper.heard(), "ready");
    helper
}

#[test]
fn what_another_process_has_queued_does_not_reappear() {
    let home = common::home();
    let mut daemon = start(home.path(), "github");
    let mut random = Random::from_env();
    let mut next = 0;
    for round in 0..20 {
        asked(&mut daemon, &format!("log {}", random.below(100)));
        if random.one_in(2) {
            // Some records are stored, sealed or not, and some are queued.
            asked(&mut daemon, "flush");
            asked(&mut daemon, &format!("log {}", random.below(100)));
        }
        let scope = match round % 3 {
            0 => WipeScope::everything(),
            1 => of_server("github"),
            _ => of_signal(Signal::Logs),
        };
        let first = asked(&mut daemon, "log 0");
        wipe(home.path(), STACK, &scope).unwrap();
        let store = open(home.path());
        assert!(numbers_of(&store, "github").is_empty());
        // The daemon does not know of the wipe, and goes on.
        let wanted = random.below(50);
        next = asked(&mut daemon, &format!("log {wanted}"));
        assert!(numbers_of(&store, "github").is_empty());
        asked(&mut daemon, "flush");
        assert_eq!(
            numbers_of(&store, "github"),
            (first..next).collect::<Vec<u64>>()
        );
    }
    assert!(next > 0);
    daemon.end();
}

#[test]
fn a_wipe_of_one_writer_reaches_what_another_has_queued() {
    let home = common::home();
    let mut first = start(home.path(), "a");
    let mut second = start(home.path(), "b");
    for _ in 0..5 {
        asked(&mut first, "log 30");
        let from = asked(&mut second, "log 30");
        asked(&mut first, "wipe");
        let to = asked(&mut second, "log 10");
        asked(&mut first, "flush");
        asked(&mut second, "flush");
        let found = numbers(&open(home.path()).snapshot().unwrap());
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found["b"], (from..to).collect::<Vec<u64>>());
    }
    first.end();
    second.end();
}

/// Stores one record of each signal for each of three servers.
fn of_everything(writer: &Writer) {
    for name in ["a", "b", "c"] {
        let name = server(name);
        writer.log(&name, &record(1)).unwrap();
        let snapshot = MetricsSnapshot::new(Timestamp::from_unix_nanos(1));
        writer.metrics(&name, &snapshot).unwrap();
        writer.span(&name, &SpanRecord::default()).unwrap();
    }
}

fn found(home: &Path) -> Vec<(String, Signal)> {
    inventory(home, STACK, None)
        .unwrap()
        .into_iter()
        .map(|entry| {
            assert_eq!(entry.record_count, 1);
            (entry.server.to_string(), entry.signal)
        })
        .collect()
}

#[test]
fn a_wipe_takes_what_it_covers_and_nothing_else() {
    for name in [None, Some("a"), Some("b"), Some("none")] {
        for signal in [
            None,
            Some(Signal::Logs),
            Some(Signal::Metrics),
            Some(Signal::Traces),
        ] {
            for queued in [false, true] {
                let home = common::home();
                let store = open(home.path());
                let (writer, guard) = Writer::start(&store, on_demand()).unwrap();
                of_everything(&writer);
                if !queued {
                    writer.flush().unwrap();
                }
                let mut left: Vec<(String, Signal)> = ["a", "b", "c"]
                    .into_iter()
                    .flat_map(|name| {
                        [Signal::Logs, Signal::Metrics, Signal::Traces]
                            .map(|signal| (name.to_owned(), signal))
                    })
                    .collect();
                left.retain(|(of, which)| {
                    name.is_some_and(|name| name != of)
                        || signal.is_some_and(|signal| signal != *which)
                });
                let scope = WipeScope::everything()
                    .server(name.map(server))
                    .signal(signal);
                let wiped = wipe(home.path(), STACK, &scope).unwrap();
                assert_eq!(wiped, if queued { 0 } else { 9 - left.len() }, "{scope:?}");
                writer.flush().unwrap();
                assert_eq!(found(home.path()), left, "{scope:?}");
                let stats = writer.stats();
                let dropped = if queued { 9 - left.len() as u64 } else { 0 };
                assert_eq!(stats.dropped_total(), dropped);
                assert!(
                    stats
                        .dropped
                        .iter()
                        .all(|drop| drop.cause == LossCause::Wiped)
                );

                // The next record is stored again.
                wipe(home.path(), STACK, &WipeScope::everything()).unwrap();
                of_everything(&writer);
                guard.close().unwrap();
                assert_eq!(found(home.path()).len(), 9);
                // A wipe is not a loss.
                assert_eq!(store.snapshot().unwrap().ledger(..).unwrap(), []);
            }
        }
    }
}

/// The marks of wipes accumulate, cover each other, and apply to a writer only if they are newer.
#[test]
fn any_sequence_of_wipes_leaves_what_came_after_them() {
    let mut random = Random::from_env();
    let mut writers = Writers::start(common::home());
    for step in 0..300 {
        match random.below(10) {
            0..=4 => writers.log(20, &mut random),
            5 => writers.flush(&mut random),
            6 => writers.restart(&mut random),
            kind => {
                let scope = match kind {
                    7 => WipeScope::everything(),
                    8 => of_server(SERVERS[random.below(3)]),
                    _ => of_signal([Signal::Logs, Signal::Traces][random.below(2)]),
                };
                if random.one_in(2) {
                    writers.wipe_from_outside(&scope);
                } else {
                    writers.wipe(&scope, &mut random);
                }
            }
        }
        if step % 50 == 49 {
            writers.check();
        }
    }
}

#[test]
fn wiped_records_can_be_imported_again() {
    let home = common::home();
    let store = open(home.path());
    let mut importer = Importer::new(&store).unwrap();
    for _ in 0..3 {
        let mut batch = gridctl_telemetry::import::ImportBatch::default();
        for number in 0..100 {
            let record = Record::Log(record(number));
            batch.push(&server("github"), &record).unwrap();
        }
        assert_eq!(importer.add(batch).unwrap().added, 100);
        assert_eq!(numbers_of(&store, "github").len(), 100);
        assert_eq!(store.wipe(&WipeScope::everything()).unwrap(), 1);
        assert!(numbers_of(&store, "github").is_empty());
    }
}

#[test]
fn a_stack_without_telemetry_is_wiped_already() {
    let home = common::home();
    assert_eq!(
        wipe(home.path(), STACK, &WipeScope::everything()).unwrap(),
        0
    );
    assert_eq!(
        wipe(&home.path().join("none"), STACK, &WipeScope::everything()).unwrap(),
        0
    );
    let nothing: Vec<_> = std::fs::read_dir(home.path()).unwrap().collect();
    assert!(nothing.is_empty(), "a wipe creates {nothing:?}");

    let store = open(home.path());
    assert_eq!(
        wipe(home.path(), STACK, &WipeScope::everything()).unwrap(),
        0
    );
    let (writer, guard) = Writer::start(&store, on_demand()).unwrap();
    writer.log(&server("github"), &record(7)).unwrap();
    guard.close().unwrap();
    assert_eq!(numbers_of(&store, "github"), [7]);
}

/// A reader goes on with the state that it began to read.
#[test]
fn a_scan_that_has_begun_is_not_disturbed() {
    let home = common::home();
    let store = open(home.path());
    let (writer, _guard) = Writer::start(&store, on_demand()).unwrap();
    for number in 0..200 {
        writer.log(&server("github"), &record(number)).unwrap();
    }
    writer.flush().unwrap();
    let reader = Store::open_read_only(home.path(), STACK, StoreOptions::for_tools())
        .unwrap()
        .unwrap();
    let mut scan = reader.scan(&Query::new(Signal::Logs)).unwrap();
    let first = scan.next().unwrap().unwrap();
    wipe(home.path(), STACK, &WipeScope::everything()).unwrap();
    for number in 0..200 {
        writer
            .log(&server("github"), &record(1000 + number))
            .unwrap();
    }
    writer.flush().unwrap();
    let mut read: Vec<u64> = std::iter::once(first)
        .chain(scan.map(Result::unwrap))
        .map(|found| number(&found.record.into_log().unwrap()))
        .collect();
    read.sort_unstable();
    assert_eq!(read, (0..200).collect::<Vec<u64>>());
}
