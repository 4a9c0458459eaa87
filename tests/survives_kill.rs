//! A process is killed as by `kill -9`, at any moment or at a named point, alone or beside other processes:
//! every record that it acknowledged is stored once and unchanged, and the store can still be used.
//!
//! A named point is an operation on the disk within a step of a workload (an append with its seals, a spill, a
//! merge, a wipe, an import, a compaction, a migration, a restart, a change of the limits), or the moment after the last one, before
//! the step is acknowledged. Half of the processes that are alone have limits small enough to evict: the ledger
//! then says how many records of each series are missing.
//!
//! `GRIDCTL_TELEMETRY_KILLS` sets the number of kills of each test, 20 by default.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;
mod model;
mod simulated;

use common::{
    Helper, Random, STACK, helper_arguments, home_in_memory, numbers, on_demand, open, record, say,
    server,
};
use gridctl_telemetry::{
    Error, Query, Signal, Store, StoreOptions, Writer,
    maintenance::{CompactOptions, VerifyOptions, WipeScope},
    testing::DiskOperation,
};
use simulated::{
    check::{Contents, Evictions, Expected, Known, Opening, contents},
    disk::Image,
    workload::{FIXTURES_MAX, Kind, OTHERS, Run, Step, fixture_of_version, options_now, put_image},
};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    },
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
    let kills: usize = common::number_from_env("GRIDCTL_TELEMETRY_KILLS", 20);
    let mut random = Random::from_env();
    let mut opens = Vec::new();
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
            opens.push(started.elapsed());
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
    opens.sort_unstable();
    println!(
        "{killed} kills, {acknowledged} records acknowledged; an open took {:.1?} at the median, {:.1?} at worst",
        opens[opens.len() / 2],
        opens[opens.len() - 1]
    );
}

/// The kinds of steps that a process is killed in.
const POINTS: [Kind; 9] = [
    Kind::Open,
    Kind::Append,
    Kind::Spill,
    Kind::Wipe,
    Kind::Import,
    Kind::Maintain,
    Kind::Compact,
    Kind::Restart,
    Kind::Limits,
];

/// Kills this process as `kill -9` does.
fn kill_this_process() -> ! {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    unreachable!("a process survives its kill")
}

/// Runs the steps of a workload, reports each, and kills itself at an operation of a step of one kind.
#[test]
fn helper_works() {
    let Some(arguments) = helper_arguments() else {
        return;
    };
    let [home, seed, point, operation, steps, version, is_alone] = &arguments[..] else {
        panic!("{arguments:?}");
    };
    let point = POINTS[point.parse::<usize>().unwrap()];
    let armed = Arc::new(AtomicBool::new(false));
    let left = Arc::new(AtomicUsize::new(operation.parse().unwrap()));
    let hook = {
        let armed = Arc::clone(&armed);
        move |operation: DiskOperation<'_>| {
            let changes = !matches!(operation, DiskOperation::Read { .. });
            if changes && armed.load(Ordering::Relaxed) && left.fetch_sub(1, Ordering::Relaxed) == 0
            {
                kill_this_process();
            }
            Ok(())
        }
    };
    let version: usize = version.parse().unwrap();
    let base = match version {
        0 => Image::default(),
        version => fixture_of_version(version),
    };
    let mut run = Run::new_in(Path::new(home), seed.parse().unwrap(), hook);
    run.is_alone = is_alone == "true";
    let is_last = Arc::new(AtomicBool::new(point == Kind::Open));
    run.observer = Some({
        let is_last = Arc::clone(&is_last);
        Box::new(move |step, has_ended| {
            if has_ended && armed.load(Ordering::Relaxed) {
                kill_this_process();
            }
            say(tell(step, has_ended));
            let arms = is_last.load(Ordering::Relaxed) && step.kind == point;
            armed.store(arms, Ordering::Relaxed);
        })
    });
    run.open(&base);
    for _ in 0..steps.parse().unwrap() {
        run.any_step();
    }
    if run.is_alone && run.random.one_in(2) {
        // So that the last steps evict.
        run.step_of(Kind::Limits);
    }
    is_last.store(true, Ordering::Relaxed);
    loop {
        run.step_of(point);
    }
}

/// A step as a line.
fn tell(step: &Step, has_ended: bool) -> String {
    let list = |numbers: &Contents| {
        let numbers: Vec<String> = numbers.iter().map(u64::to_string).collect();
        numbers.join(",")
    };
    let kind = POINTS.iter().position(|kind| *kind == step.kind);
    format!(
        "{has_ended} {} {} {} {} {} [{}] [{}] [{}] [{}]",
        kind.unwrap_or(1),
        step.clock,
        step.may_evict,
        tell_evictions(&step.evicted),
        tell_evictions(&step.evicted_after),
        list(&step.before),
        list(&step.after),
        list(&step.batch),
        list(&step.spilled)
    )
}

fn tell_evictions(evictions: &Evictions) -> String {
    let told = evictions.iter().map(|((server, signal), count)| {
        assert!(!server.contains([' ', '=', ';']));
        format!("{server}={signal}={count};")
    });
    format!("[{}", told.collect::<String>())
}

fn evictions_heard(told: &str) -> Evictions {
    let entries = told[1..].split_terminator(';').map(|entry| {
        let [server, signal, count] = entry.split('=').collect::<Vec<_>>()[..] else {
            panic!("{told:?}");
        };
        let key = (common::server(server), signal.parse().unwrap());
        (key, count.parse().unwrap())
    });
    entries.collect()
}

/// A step from its line, and whether it has ended.
fn heard(line: &str) -> Option<(Step, bool)> {
    let words: Vec<&str> = line.split(' ').collect();
    let [
        has_ended,
        kind,
        clock,
        may_evict,
        evicted,
        evicted_after,
        sets @ ..,
    ] = &words[..]
    else {
        return None;
    };
    let mut sets = sets.iter().map(|set| {
        let numbers = set.trim_matches(['[', ']']).split(',');
        (numbers.filter(|number| !number.is_empty()))
            .map(|number| number.parse().unwrap())
            .collect::<Contents>()
    });
    let step = Step {
        kind: POINTS[kind.parse::<usize>().ok()?],
        clock: clock.parse().ok()?,
        before: Arc::new(sets.next()?),
        after: Arc::new(sets.next()?),
        batch: sets.next()?,
        spilled: sets.next()?,
        may_evict: *may_evict == "true",
        is_foretold: true,
        evicted: evictions_heard(evicted),
        evicted_after: evictions_heard(evicted_after),
    };
    Some((step, *has_ended == "true"))
}

/// Reads, or deletes, compacts and verifies, until it is killed.
#[test]
fn helper_disturbs() {
    let Some(arguments) = helper_arguments() else {
        return;
    };
    let [home, role] = &arguments[..] else {
        panic!("{arguments:?}");
    };
    let home = Path::new(home);
    loop {
        if role == "reader" {
            let options = StoreOptions::for_tools();
            if let Some(store) = Store::open_read_only(home, STACK, options).unwrap() {
                let snapshot = store.snapshot().unwrap();
                for signal in [Signal::Logs, Signal::Metrics, Signal::Traces] {
                    let scan = snapshot.scan(&Query::new(signal)).unwrap();
                    scan.records().for_each(|record| drop(record.unwrap()));
                }
            }
        } else {
            let store = open(home);
            let scope = WipeScope::everything().server(server(OTHERS[0]));
            store.wipe(&scope).unwrap();
            match store.compact(CompactOptions::default()) {
                Ok(_) | Err(Error::ReaderInTheWay { .. }) => {}
                Err(error) => panic!("{error:?}"),
            }
            let mut findings = Vec::new();
            let options = VerifyOptions::default();
            (store.verify(&options, |finding| findings.push(finding))).unwrap();
            assert_eq!(findings, []);
        }
        say("went round");
    }
}

/// A kill at a named point.
#[derive(Debug)]
struct NamedKill {
    seed: u64,
    /// The index in [`POINTS`].
    point: usize,
    operation: usize,
    steps: usize,
    /// The version of the database before; 0 when there is none.
    version: usize,
    /// No other process, another writer, a reader, or a reader and an operator.
    company: usize,
}

impl NamedKill {
    fn new(number: usize, random: &mut Random) -> NamedKill {
        let point = number % POINTS.len();
        NamedKill {
            seed: random.next() >> 1,
            point,
            operation: random.below(30),
            steps: random.below(8),
            version: match POINTS[point] {
                // A creation, or a migration.
                Kind::Open => random.below(FIXTURES_MAX + 1),
                _ if random.one_in(4) => 1 + random.below(FIXTURES_MAX),
                _ => 0,
            },
            company: match POINTS[point] {
                // Other processes judge age by another clock.
                Kind::Limits => 0,
                _ => [0, 0, 0, 1, 2, 3][random.below(6)],
            },
        }
    }

    /// The records of the workload.
    fn known(&self, home: &Path) -> Known {
        let mut known = Known::new(self.seed);
        if self.version > 0 {
            let other = home_in_memory();
            let image = fixture_of_version(self.version);
            put_image(other.path(), &image);
            known.learn(&open(other.path()));
            put_image(home, &image);
        }
        while known.next_number() < 4000 {
            known.add();
        }
        known
    }

    /// Runs the workload until it is killed. Returns its last step, whether that was acknowledged, and the
    /// other writer.
    fn run(&self, home: &Path, random: &mut Random) -> (Step, bool, Option<Appender>) {
        let path = home.to_str().unwrap();
        let mut beside = (self.company == 1).then(|| Appender::start(home, OTHERS[1], 0, "tiny"));
        let mut others: Vec<Helper> = ["reader", "operator"][..self.company.saturating_sub(1)]
            .iter()
            .map(|role| Helper::start("helper_disturbs", &[path, role]))
            .collect();
        let arguments = [
            path,
            &self.seed.to_string(),
            &self.point.to_string(),
            &self.operation.to_string(),
            &self.steps.to_string(),
            &self.version.to_string(),
            &(self.company == 0).to_string(),
        ];
        let mut helper = Helper::start("helper_works", &arguments);
        let mut last = None;
        while let Some(line) = helper.hear() {
            last = heard(&line).or(last);
        }
        helper.was_killed();
        // The others go on.
        for other in &mut others {
            for _ in 0..2 {
                assert_eq!(other.heard(), "went round");
            }
            other.kill();
        }
        if let Some(beside) = &mut beside {
            let before = beside.acknowledged;
            while beside.acknowledged == before {
                beside.hear(1);
            }
            beside.kill(random);
        }
        let (step, is_done) = last.expect("the helper ended before it began");
        (step, is_done, beside)
    }
}

#[test]
fn a_kill_at_a_named_point_loses_nothing_that_was_acknowledged() {
    if helper_arguments().is_some() {
        return;
    }
    let kills: usize = common::number_from_env("GRIDCTL_TELEMETRY_KILLS", 20);
    let mut random = Random::from_env();
    let mut opens = Vec::new();
    let mut acknowledged = 0;
    for number in 0..kills {
        let kill = NamedKill::new(number, &mut random);
        println!("{:?}: {kill:?}", POINTS[kill.point]);
        let home = home_in_memory();
        let known = kill.known(home.path());
        let (step, is_done, beside) = kill.run(home.path(), &mut random);
        acknowledged += if is_done { &step.after } else { &step.before }.len();
        let clock = Arc::new(AtomicI64::new(step.clock));
        let opening = if random.one_in(4) {
            Opening::ToRead
        } else {
            Opening::ToWrite
        };
        let expected = Expected {
            step: &step,
            is_done,
            has_spill: !step.spilled.is_empty(),
        };
        let started = Instant::now();
        let store = opening.open(home.path(), options_now(&clock), &expected);
        opens.push(started.elapsed());
        let Some(store) = store.unwrap() else {
            continue;
        };
        let found = contents(&store, &known).unwrap();
        (expected.compare(true, opening, &store, &known, &found)).unwrap();
        store.snapshot().unwrap().check().unwrap();
        drop(store);
        if let Some(beside) = beside {
            let store = Store::open(home.path(), STACK, options_now(&clock)).unwrap();
            let query = Query::new(Signal::Logs).server(server(OTHERS[1]));
            let mut found: Vec<u64> = (store.scan(&query).unwrap())
                .map(|found| common::number(&found.unwrap().record.into_log().unwrap()))
                .collect();
            found.sort_unstable();
            beside.check(&BTreeMap::from([(OTHERS[1].to_owned(), found)]));
        }
    }
    opens.sort_unstable();
    println!(
        "{kills} kills at named points, {acknowledged} records acknowledged; an open took {:.1?} at the median, \
         {:.1?} at worst",
        opens[opens.len() / 2],
        opens[opens.len() - 1]
    );
}
