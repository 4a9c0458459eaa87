//! A wipe of the records before a time deletes these and no others, wherever they are: in rows, in
//! blocks that it cuts, in the queues of other processes, and in what a killed one left. Counters go on.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{
    Helper, Metered, Random, SERVERS, STACK, Writers, helper_arguments, home_in_memory, numbers,
    numbers_of, on_demand, open, record, say, server,
};
use gridctl_telemetry::{
    Query, Signal, Snapshot, Store, Timestamp, Writer, WriterOptions,
    maintenance::{WipeScope, wipe},
    metrics::Attribution,
    query::SeedRange,
};
use std::{collections::BTreeMap, path::Path, time::Duration};

/// The time of a record.
fn time(number: u64) -> Timestamp {
    record(number).timestamp
}

fn before(number: u64) -> WipeScope {
    WipeScope::everything().before(time(number))
}

/// The number of records of each server that a wipe is said to delete.
fn said(snapshot: &Snapshot, scope: &WipeScope) -> BTreeMap<String, u64> {
    let mut said = BTreeMap::new();
    for entry in snapshot.would_wipe(scope).unwrap() {
        let deleted: Vec<Timestamp> = snapshot
            .scan(&Query::new(entry.signal).server(entry.server.clone()))
            .unwrap()
            .records()
            .map(|record| record.unwrap().timestamp)
            .filter(|time| scope.before.is_none_or(|before| *time < before))
            .collect();
        assert_eq!(deleted.first(), Some(&entry.oldest_time));
        assert_eq!(deleted.last(), Some(&entry.newest_time));
        said.insert(entry.server.to_string(), entry.record_count);
    }
    said
}

#[test]
fn any_sequence_of_wipes_leaves_what_they_do_not_cover() {
    let mut random = Random::from_env();
    let mut writers = Writers::start(home_in_memory());
    for step in 0..600 {
        match random.below(10) {
            0..=4 => writers.log(40, &mut random),
            5 | 6 => writers.flush(&mut random),
            7 => writers.restart(&mut random),
            kind => {
                let only = (kind == 8).then(|| SERVERS[random.below(3)]);
                let mut scope = WipeScope::everything().server(only.map(server));
                if random.one_in(4) {
                    scope = scope.signal([Signal::Logs, Signal::Traces][random.below(2)]);
                }
                if !random.one_in(6) {
                    let back = random.next() % (1 + writers.next / 4);
                    scope = scope.before(time(writers.next - back));
                }
                if random.one_in(2) {
                    let store = open(writers.home.path());
                    let snapshot = store.snapshot().unwrap();
                    let (stored, said) = (numbers(&snapshot), said(&snapshot, &scope));
                    writers.wipe_from_outside(&scope);
                    let left = numbers(&store.snapshot().unwrap());
                    for (name, stored) in &stored {
                        // A writer may have stored more since.
                        let is_left = |number| left.get(name).is_some_and(|it| it.contains(number));
                        let deleted = stored.iter().filter(|number| !is_left(number)).count();
                        let said = said.get(name).copied().unwrap_or(0);
                        assert_eq!(deleted as u64, said, "{name}: {scope:?}");
                    }
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

/// Logs records that are never committed, and says when all of them are in the file beside the
/// database.
#[test]
fn helper_never_commits() {
    if let Some(arguments) = helper_arguments() {
        let home = Path::new(&arguments[0]);
        let store = open(home);
        let (writer, _guard) = Writer::start(&store, on_demand()).unwrap();
        let folder = home.join("telemetry").join(STACK);
        let spill = folder.join("telemetry.0.spill");
        for number in 0..20 {
            let before = spill.metadata().unwrap().len();
            writer.log(&server("github"), &record(number)).unwrap();
            while spill.metadata().unwrap().len() == before {
                std::thread::yield_now();
            }
        }
        say("spilled");
        common::told();
    }
}

#[test]
fn what_a_killed_process_left_is_wiped_up_to_the_time() {
    for is_killed_first in [true, false] {
        let home = common::home();
        let mut helper = Helper::start("helper_never_commits", &[home.path().to_str().unwrap()]);
        assert_eq!(helper.heard(), "spilled");
        let scope = before(12);
        if is_killed_first {
            helper.kill();
            wipe(home.path(), STACK, &scope).unwrap();
        } else {
            // Its records are not in the database yet, and it does not know of the wipe.
            wipe(home.path(), STACK, &scope).unwrap();
            helper.kill();
        }
        let kept: Vec<u64> = (0..20).filter(|number| time(*number) >= time(12)).collect();
        assert!((1..20).contains(&kept.len()));
        for _ in 0..2 {
            assert_eq!(numbers_of(&open(home.path()), "github"), kept);
        }
    }
}

#[test]
fn counters_go_on_after_their_history_is_wiped() {
    let home = home_in_memory();
    let never = Duration::from_secs(3600);
    let start = || {
        let options = WriterOptions::default()
            .commit_interval_min(never)
            .commit_interval_max(never);
        let daemon = Metered::start_with(home.path(), options, ["github"]);
        let seeded = daemon.flusher.seed(&daemon.store, SeedRange::default());
        seeded.unwrap();
        daemon
    };
    let minute = |number: i64| {
        Timestamp::from_unix_nanos(1_700_000_000_000_000_000 + number * 60_000_000_000)
    };
    let github = server("github");
    let count = |daemon: &Metered, tokens: u64, at: Timestamp| {
        let to = Attribution::new(&github);
        daemon.accumulator.record_tokens(to, tokens, 0, at);
        daemon.flush_at(at);
    };
    let times = |store: &Store| {
        let found = store.scan(&Query::new(Signal::Metrics)).unwrap();
        let times = found.map(|record| record.unwrap().timestamp);
        times.collect::<Vec<_>>()
    };
    let daemon = start();
    for number in 0..4 {
        count(&daemon, 100, minute(number));
    }
    let scope = WipeScope::everything().before(minute(2));
    // By another process, and by the daemon itself.
    assert_eq!(wipe(home.path(), STACK, &scope).unwrap(), 1);
    assert_eq!(daemon.writer.wipe(&scope).unwrap(), 0);
    assert_eq!(times(&daemon.store), [minute(2), minute(3)]);
    count(&daemon, 7, minute(4));
    assert_eq!(times(&daemon.store), [minute(2), minute(3), minute(4)]);
    let total = |daemon: &Metered| daemon.accumulator.snapshot().servers["github"].total_tokens;
    assert_eq!(total(&daemon), 407);
    daemon.guard.close().unwrap();
    drop((daemon.flusher, daemon.writer));
    // Also when no record is left.
    let all = WipeScope::everything().before(minute(5));
    assert_eq!(daemon.store.wipe(&all).unwrap(), 1);
    assert!(times(&daemon.store).is_empty());
    let restarted = start();
    assert_eq!(total(&restarted), 407);
    restarted.guard.close().unwrap();
}
