//! A process is killed as by `kill -9`: what its writer thread had taken from the queue is stored, once,
//! also what was not committed.
//!
//! `GRIDCTL_TELEMETRY_KILLS` sets the number of kills at a random moment, 10 by default. How many records
//! are lost then is printed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Helper, Random, helper_arguments, numbers_of, open, record, say, server};
use gridctl_telemetry::{Writer, WriterOptions, ledger::LossCause};
use rustix::time::{ClockId, clock_gettime};
use std::{path::Path, time::Duration};

/// The time on a clock that all processes share.
fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(
        now.tv_sec.try_into().unwrap(),
        now.tv_nsec.try_into().unwrap(),
    )
}

/// Logs a record every 5 ms until it is killed, and says when each call has returned.
#[test]
fn helper_logs_steadily() {
    if let Some(arguments) = helper_arguments() {
        let store = open(Path::new(&arguments[0]));
        let (writer, _guard) = Writer::start(&store, WriterOptions::default()).unwrap();
        for number in 0.. {
            writer.log(&server("github"), &record(number)).unwrap();
            say(now().as_nanos());
            // Not for synchronisation: this is the pace of the promise.
            std::thread::sleep(Duration::from_millis(5));
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
        let (writer, _guard) = Writer::start(&store, common::on_demand()).unwrap();
        let folder = home.join("telemetry").join(common::STACK);
        let spill = folder.join("telemetry.0.spill");
        for number in 0..20 {
            let before = spill.metadata().unwrap().len();
            writer.log(&server("github"), &record(number)).unwrap();
            while spill.metadata().unwrap().len() == before {
                std::thread::yield_now();
            }
        }
        assert_eq!(writer.stats().stored, 0);
        say("spilled");
        common::told();
    }
}

#[test]
fn a_kill_loses_nothing_that_the_writer_has_taken() {
    let home = common::home();
    let mut helper = Helper::start("helper_never_commits", &[home.path().to_str().unwrap()]);
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
    let kills: usize =
        std::env::var("GRIDCTL_TELEMETRY_KILLS").map_or(10, |kills| kills.parse().unwrap());
    let mut random = Random::from_env();
    let (mut old, mut young, mut logged, mut recovered) = (0, 0, 0, 0);
    for _ in 0..kills {
        let home = common::home();
        let path = home.path().to_str().unwrap();
        let mut helper = Helper::start("helper_logs_steadily", &[path]);
        let mut returned = vec![helper.heard()];
        // Anywhere within the intervals and commits of the writer.
        std::thread::sleep(Duration::from_micros(random.next() % 2_000_000));
        let killed_at = now();
        helper.kill();
        while let Some(line) = helper.hear() {
            returned.push(line);
        }
        let store = open(home.path());
        let found = numbers_of(&store, "github");
        let expected = returned
            .iter()
            .map(|nanos| Duration::from_nanos(nanos.parse().unwrap()))
            .filter(|at| *at + Duration::from_millis(50) <= killed_at)
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
        assert_eq!((ledger[0].cause, ledger[0].count), (LossCause::Crash, 0));
        recovered += ledger[0].recovered;
    }
    println!(
        "{kills} kills, {logged} records: {recovered} recovered, {young} lost that were younger \
         than 50 ms, {old} older"
    );
}
