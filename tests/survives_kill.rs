//! An appending process is killed at any moment, as by `kill -9`: every record whose flush was
//! acknowledged is stored once and unchanged, and the store can still be used.
//!
//! `GRIDCTL_TELEMETRY_KILLS` sets the number of kills, 20 by default.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Helper, Random, STACK, helper_arguments, numbers, on_demand, open, record, say};
use gridctl_telemetry::{Store, StoreOptions, Writer};
use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

/// Appends until it is killed, flushes after every few records, and reports the acknowledged ones.
#[test]
fn helper_appends() {
    let Some(arguments) = helper_arguments() else {
        return;
    };
    let [home, server, first, tiers] = &arguments[..] else {
        panic!("{arguments:?}");
    };
    let server = common::server(server);
    let mut number: u64 = first.parse().unwrap();
    let mut random = Random::new(number);
    let options = match tiers.as_str() {
        "tiny" => on_demand(),
        _ => on_demand().tiering(4096, 1024, 4096),
    };
    let (writer, _guard) = Writer::start(&open(Path::new(home)), options).unwrap();
    loop {
        for _ in 0..random.below(60) {
            writer.log(&server, &record(number)).unwrap();
            number += 1;
            if random.one_in(20) {
                say("appends");
            }
        }
        writer.flush().unwrap();
        say(number);
    }
}

/// A helper that appends, and the records that were acknowledged.
struct Appender {
    helper: Helper,
    server: &'static str,
    first: u64,
    acknowledged: u64,
}

impl Appender {
    fn start(home: &Path, server: &'static str, first: u64, tiers: &str) -> Appender {
        let arguments = [home.to_str().unwrap(), server, &first.to_string(), tiers];
        Appender {
            helper: Helper::start("helper_appends", &arguments),
            server,
            first,
            acknowledged: first,
        }
    }

    /// Reads this many lines of the helper.
    fn hear(&mut self, lines: usize) {
        for _ in 0..lines {
            let line = self.helper.heard();
            self.note(&line);
        }
    }

    fn note(&mut self, line: &str) {
        if let Ok(number) = line.parse() {
            self.acknowledged = number;
        }
    }

    fn kill(&mut self, random: &mut Random) {
        // Not for synchronisation: it kills anywhere within a commit, and not always right after
        // the helper has reported.
        std::thread::sleep(Duration::from_micros(random.next() % 5000));
        self.helper.kill();
        while let Some(line) = self.helper.hear() {
            self.note(&line);
        }
    }

    /// Checks that the store has all records of this appender up to some record at or after the last
    /// acknowledged one. Returns the number after it.
    fn check(&self, found: &BTreeMap<String, Vec<u64>>) -> u64 {
        let empty = Vec::new();
        let own = found
            .get(self.server)
            .unwrap_or(&empty)
            .iter()
            .copied()
            .filter(|number| number / STRIDE == self.first / STRIDE && *number >= self.first);
        let mut next = self.first;
        for number in own {
            assert_eq!(number, next, "a record of {} is missing", self.server);
            next += 1;
        }
        assert!(
            next >= self.acknowledged,
            "{}: acknowledged up to {}, found up to {next}",
            self.server,
            self.acknowledged
        );
        next
    }
}

/// The distance between the numbers of two appenders of one server.
const STRIDE: u64 = 1 << 32;

#[test]
fn a_kill_at_any_moment_loses_nothing_that_was_acknowledged() {
    if helper_arguments().is_some() {
        return;
    }
    let kills: usize =
        std::env::var("GRIDCTL_TELEMETRY_KILLS").map_or(20, |kills| kills.parse().unwrap());
    let mut random = Random::from_env();
    let mut worst_open = Duration::ZERO;
    let mut acknowledged = 0;
    let mut killed = 0;
    while killed < kills {
        let home = common::home();
        // Appenders for the same server and for others, so that their records mix.
        let mut next = [0, STRIDE, 0];
        for _ in 0..5 {
            let mut appenders = match random.below(4) {
                0 => vec![Appender::start(home.path(), "github", next[0], "default")],
                1 => vec![Appender::start(home.path(), "github", next[0], "tiny")],
                2 => vec![
                    Appender::start(home.path(), "github", next[0], "default"),
                    Appender::start(home.path(), "slack", next[2], "tiny"),
                ],
                _ => vec![
                    Appender::start(home.path(), "github", next[0], "tiny"),
                    Appender::start(home.path(), "github", next[1], "tiny"),
                ],
            };
            let lines = random.below(40);
            appenders[0].hear(lines);
            appenders[0].kill(&mut random);
            killed += 1;
            if let Some(other) = appenders.get_mut(1) {
                // The second appender goes on, wherever the first was killed.
                let before = other.acknowledged;
                while other.acknowledged == before {
                    other.hear(1);
                }
                other.kill(&mut random);
                killed += 1;
            }

            let started = Instant::now();
            let store = if random.one_in(2) {
                Store::open_read_only(home.path(), STACK, StoreOptions::for_tools()).unwrap()
            } else {
                Some(open(home.path()))
            };
            worst_open = worst_open.max(started.elapsed());
            let seen =
                store.map_or_else(BTreeMap::new, |store| numbers(&store.snapshot().unwrap()));
            // A process that opens it to write also stores what the killed ones had not committed.
            let found = numbers(&open(home.path()).snapshot().unwrap());
            for (server, seen) in &seen {
                assert!(seen.iter().all(|number| found[server].contains(number)));
            }
            assert_eq!(numbers(&open(home.path()).snapshot().unwrap()), found);
            for appender in &appenders {
                acknowledged += appender.acknowledged - appender.first;
                let place = match (appender.server, appender.first / STRIDE) {
                    ("slack", _) => 2,
                    (_, 0) => 0,
                    _ => 1,
                };
                next[place] = appender.check(&found);
            }
        }
    }
    assert!(acknowledged > 0, "nothing was acknowledged in any round");
    println!(
        "{killed} kills, {acknowledged} records acknowledged, the slowest open took {worst_open:?}"
    );
}
