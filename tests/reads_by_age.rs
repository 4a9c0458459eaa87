//! A record older than its limit is gone, to the nanosecond, and no wrong clock deletes a record that
//! is not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;
mod model;

use common::{Random, STACK, home, number, on_demand, record, server};
use gridctl_telemetry::{
    MetricsSnapshot, Query, Record, Signal, Store, Timestamp, Writer, WriterOptions,
    config::{Retention, RetentionPolicy},
    import::{ImportBatch, Importer},
    query::Direction,
    testing::SimulatedWriter,
};
use model::{DAY, HOUR, MINUTE, START, clock::Clock, world::World};
use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock, Mutex},
    thread::{self, ThreadId},
    time::Duration,
};
use tracing::field::{Field, Visit};
use tracing_subscriber::{Layer, layer::Context, prelude::*};

const NOTHING: [i64; 0] = [];

/// The age limit of servers without limits of their own, in days.
const DAYS: i64 = 7;
/// The age limit of the server `LONG`, in days.
const LONG_DAYS: i64 = 30;
const LONG: &str = "long";

fn policy() -> RetentionPolicy {
    let days = |days: i64| Retention::default().max_age_days(days.cast_unsigned());
    RetentionPolicy::new(days(DAYS)).server(LONG, days(LONG_DAYS))
}

/// A store on a machine, and the times of all records that were logged, by server.
struct Aging {
    world: World,
    logged: BTreeMap<&'static str, Vec<i64>>,
    numbers: u64,
}

impl Aging {
    fn new(options: WriterOptions) -> Aging {
        Aging {
            world: World::new(options),
            logged: BTreeMap::new(),
            numbers: 0,
        }
    }

    fn with_limits() -> Aging {
        Aging::new(on_demand().retention(Some(policy())))
    }

    /// Logs a record of this time.
    fn log(&mut self, name: &'static str, time: i64) {
        let mut record = record(self.numbers);
        record.timestamp = Timestamp::from_unix_nanos(time);
        self.numbers += 1;
        self.world.offer(name, &Record::Log(record));
        self.logged.entry(name).or_default().push(time);
    }

    /// Logs and commits this many records, at times of the last minute by the system clock.
    fn log_some(&mut self, name: &'static str, count: i64) {
        for number in (0..count).rev() {
            self.log(name, self.world.clock.wall() - number * MINUTE / count);
        }
        self.work();
    }

    /// Commits all logged records, and does all maintenance that is due.
    fn work(&mut self) {
        self.world.work(Duration::from_secs(3600 * 2));
    }

    /// Lets time pass, in which the writer works.
    fn wait(&mut self, nanos: i64) {
        let step = nanos / 24;
        for _ in 0..24 {
            self.world.clock.wait(step);
            self.work();
        }
    }

    /// The times of the records that a reader finds, oldest first, the same in whatever way it reads.
    fn found(&self, name: &'static str) -> Vec<i64> {
        found(&self.world.reader(&self.world.clock), name)
    }

    /// The times of the records that are still in the file, read at a time when none has expired.
    fn in_the_file(&self, name: &'static str) -> Vec<i64> {
        let clock = Clock::new();
        clock.set(-50 * 365 * DAY);
        found(&self.world.reader(&clock), name)
    }

    /// The times of all logged records from `cutoff` on.
    fn logged_from(&self, name: &'static str, cutoff: i64) -> Vec<i64> {
        let all = self.logged.get(name).into_iter().flatten().copied();
        let mut times: Vec<i64> = all.filter(|time| *time >= cutoff).collect();
        times.sort_unstable();
        times
    }

    /// Checks that readers find every logged record, and that the file has it.
    fn assert_complete(&self, name: &'static str) {
        let all = self.logged_from(name, i64::MIN);
        assert_eq!(self.found(name), all, "{name}");
        assert_eq!(self.in_the_file(name), all, "{name}, in the file");
    }

    /// Checks that expired records are no longer in the file, except in blocks with other records.
    fn assert_freed(&self, name: &'static str) {
        let (logged, file) = (self.logged[name].len(), self.in_the_file(name).len());
        assert!(file < logged, "{file} of {logged} records are in the file");
    }

    fn clock_jumped(&self) -> bool {
        self.world
            .store
            .snapshot()
            .unwrap()
            .clock_jump()
            .unwrap()
            .is_some()
    }
}

/// The times of a server's logs. Panics unless every way of reading finds the same.
fn found(store: &Store, name: &str) -> Vec<i64> {
    let snapshot = store.snapshot().unwrap();
    let query = Query::new(Signal::Logs).server(server(name));
    let read = |query: &Query| -> Vec<(i64, u64)> {
        let records = snapshot.scan(query).unwrap().records();
        records
            .map(|record| {
                let record = record.unwrap();
                (record.timestamp.unix_nanos(), record.sequence)
            })
            .collect()
    };
    let all = read(&query);
    assert!(all.is_sorted());
    let mut backward = read(&query.clone().direction(Direction::Backward).memory_bytes(0));
    backward.reverse();
    assert_eq!(backward, all, "backward");
    assert_eq!(read(&query.clone().since_sequence(1)).len(), {
        all.iter().filter(|(_, sequence)| *sequence > 0).count()
    });
    let since_ever = query.clone().range(Timestamp::MIN..);
    assert_eq!(read(&since_ever), all, "with a range");
    let last = snapshot.last(&query, 10).unwrap();
    assert_eq!(last.len(), all.len().min(10));
    let entry = snapshot
        .inventory(Some(name))
        .unwrap()
        .into_iter()
        .find(|entry| entry.signal == Signal::Logs);
    match (&entry, all.first(), all.last()) {
        (None, None, None) => {}
        (Some(entry), Some((oldest, _)), Some((newest, _))) => {
            assert_eq!(entry.record_count, all.len() as u64, "the inventory");
            assert_eq!(entry.oldest_time.unix_nanos(), *oldest, "the inventory");
            assert_eq!(entry.newest_time.unix_nanos(), *newest, "the inventory");
            assert!(entry.size_bytes > 0);
        }
        _ => panic!("{entry:?} of {} records", all.len()),
    }
    all.into_iter().map(|(time, _)| time).collect()
}

#[test]
fn records_are_gone_to_the_nanosecond() {
    let mut random = Random::from_env();
    // Only readers judge age here: the writer does nothing, so the file keeps all records.
    let mut aging = Aging::with_limits();
    for round in 0..12 {
        let name = ["a", LONG][round % 2];
        // Rows, direct blocks, blocks sealed from rows, late records and ties.
        for _ in 0..[5, 30, 50][round % 3] {
            let late = if random.one_in(4) { 40 * MINUTE } else { 0 };
            let time = START - late - random.below(20).cast_signed() as i64 * MINUTE;
            aging.log(name, time);
        }
        aging.work();
    }
    for name in ["a", LONG] {
        aging.assert_complete(name);
    }
    let ages = [("a", DAYS * DAY), (LONG, LONG_DAYS * DAY)];
    for (name, age) in ages {
        let mut times = aging.logged_from(name, i64::MIN);
        times.dedup();
        for time in times {
            // The last moment at which a record has not expired, and the next one.
            for cutoff in [time, time + 1] {
                aging
                    .world
                    .clock
                    .wait(cutoff + age - aging.world.clock.wall());
                assert_eq!(aging.found(name), aging.logged_from(name, cutoff), "{name}");
                assert_eq!(found(&aging.world.store, name), aging.found(name));
            }
        }
        // The newest one, too.
        assert_eq!(aging.found(name), NOTHING);
        assert_eq!(aging.in_the_file(name), aging.logged_from(name, i64::MIN));
    }
    // And the file is as empty once the writer has worked.
    assert!(!aging.in_the_file("a").is_empty());
    aging.work();
    for name in ["a", LONG] {
        assert_eq!(aging.in_the_file(name), NOTHING);
    }
}

#[test]
fn what_a_block_holds_beyond_the_limit_is_gone_for_seeds_and_totals_too() {
    let home = home();
    let clock = Clock::new();
    let store = Store::open(home.path(), STACK, clock.options()).unwrap();
    let options = on_demand().retention(Some(policy()));
    let (writer, guard) = Writer::start(&store, options).unwrap();
    let name = server("a");
    let day = |number: i64| Timestamp::from_unix_nanos(START + number * DAY);
    for number in 0_i64..30 {
        let mut log = record(number.cast_unsigned());
        log.timestamp = day(number / 3);
        writer.log(&name, &log).unwrap();
        let metrics = MetricsSnapshot::new(day(number / 3));
        writer.metrics(&name, &metrics).unwrap();
    }
    writer.flush().unwrap();
    assert_eq!(store.seed_logs(100).unwrap().records.len(), 30);
    // The days 0 to 4 have expired, which are half of a block.
    clock.wait((DAYS + 5) * DAY);
    let seed = store.seed_logs(100).unwrap();
    assert_eq!(seed.records.len(), 15);
    assert!(seed.records.iter().all(|(_, log)| log.timestamp >= day(5)));
    let inventory = store.snapshot().unwrap().inventory(None).unwrap();
    let counts: Vec<u64> = inventory.iter().map(|entry| entry.record_count).collect();
    assert_eq!(counts, [15, 15]);
    guard.close().unwrap();
}

#[test]
fn a_store_without_limits_keeps_everything_until_it_is_told() {
    let mut aging = Aging::new(on_demand());
    aging.log_some("a", 60);
    aging.log_some(LONG, 60);
    aging.wait(3651 * DAY);
    aging.assert_complete("a");
    // Limits set through another handle apply to readers of this one.
    let other = Store::open(aging.world.home.path(), STACK, aging.world.clock.options()).unwrap();
    aging.log_some("a", 3);
    let now = aging.world.clock.wall();
    let mut other = SimulatedWriter::new(&other, on_demand()).unwrap();
    other.set_retention(policy(), Duration::ZERO).unwrap();
    assert_eq!(aging.found("a"), aging.logged_from("a", now - DAY));
    assert_eq!(found(&aging.world.store, "a").len(), 3);
    assert_eq!(aging.found(LONG), NOTHING);
    // A raised limit brings records back only if their disk space was not freed yet.
    let lenient = RetentionPolicy::new(Retention::default().max_age_days(3650));
    assert_eq!(aging.in_the_file(LONG).len(), 60);
    other.set_retention(lenient, Duration::ZERO).unwrap();
    assert_eq!(aging.found("a").len(), 3);
    aging.log_some("a", 1);
    aging.wait(DAY);
    assert_eq!(aging.found("a").len(), 4);
    assert_eq!(aging.in_the_file(LONG), NOTHING);
}

/// The reports of clock jumps, with the thread that made them.
#[derive(Default)]
struct Reports(Mutex<Vec<(ThreadId, String)>>);

static REPORTS: LazyLock<Arc<Reports>> = LazyLock::new(|| {
    let reports = Arc::new(Reports::default());
    // For all threads, because one without a subscriber could switch off the events of the others.
    let layer = ReportsLayer(Arc::clone(&reports));
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer)).unwrap();
    reports
});

impl Reports {
    /// The reports of the calling thread.
    fn own(&self) -> Vec<String> {
        let all = self.0.lock().unwrap();
        let own = all.iter().filter(|(id, _)| *id == thread::current().id());
        own.map(|(_, message)| message.clone()).collect()
    }
}

struct ReportsLayer(Arc<Reports>);

impl<S: tracing::Subscriber> Layer<S> for ReportsLayer {
    fn on_event(&self, event: &tracing::Event<'_>, _context: Context<'_, S>) {
        struct Message(String);
        impl Visit for Message {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                if field.name() == "message" {
                    self.0 = format!("{value:?}");
                }
            }
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        if message.0.contains("clock") {
            let id = thread::current().id();
            self.0.0.lock().unwrap().push((id, message.0));
        }
    }
}

#[test]
fn a_jump_ahead_deletes_nothing_and_is_reported_once() {
    LazyLock::force(&REPORTS);
    let mut aging = Aging::with_limits();
    aging.log_some("a", 70);
    aging.world.clock.set(365 * DAY);
    // Records of this year arrive, and none of the last year expires.
    aging.log_some("a", 30);
    aging.wait(22 * HOUR);
    aging.log_some("a", 3);
    aging.assert_complete("a");
    assert!(aging.clock_jumped());
    aging.world.clock.set(-365 * DAY);
    aging.log_some("a", 3);
    aging.wait(DAY);
    aging.assert_complete("a");
    assert!(!aging.clock_jumped());
    let reports = REPORTS.own();
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert!(
        reports[0].contains("jumped ahead to 2027-01-01"),
        "{reports:?}"
    );
}

/// The clock was wrong before it jumped.
#[test]
fn a_jump_ahead_that_stands_for_a_day_is_believed() {
    let mut aging = Aging::with_limits();
    aging.log_some("a", 70);
    aging.world.clock.set(365 * DAY);
    let corrected = aging.world.clock.wall();
    aging.log_some("a", 30);
    aging.wait(23 * HOUR);
    aging.assert_complete("a");
    aging.wait(2 * HOUR);
    let kept = aging.logged_from("a", corrected - DAY);
    assert_eq!(kept.len(), 30);
    assert_eq!(aging.found("a"), kept);
    aging.assert_freed("a");
    assert!(!aging.clock_jumped());
}

/// The writer does not run while the clock is wrong, or has nothing to store.
#[test]
fn readers_judge_as_the_writer_does() {
    let mut aging = Aging::with_limits();
    aging.log_some("a", 70);
    aging.world.clock.wait(DAY);
    aging.world.clock.set(365 * DAY);
    // Only readers see the jump, however long it persists.
    aging.world.clock.wait(2 * DAY);
    assert!(aging.clock_jumped());
    aging.assert_complete("a");
    // Time goes on without it: the third day passes, and then the eighth.
    aging.world.clock.wait(5 * DAY);
    assert_eq!(aging.found("a"), NOTHING);
    assert!(!aging.in_the_file("a").is_empty());
    aging.work();
    assert_eq!(aging.in_the_file("a"), NOTHING);
}

#[test]
fn a_clock_that_is_set_back_deletes_nothing() {
    let mut aging = Aging::with_limits();
    aging.log_some("a", 70);
    aging.world.clock.set(-60 * DAY);
    // Records from two months ago by the clock are new nevertheless.
    aging.log_some("a", 30);
    aging.wait(3 * DAY);
    aging.log_some("a", 30);
    aging.assert_complete("a");
    // By now that clock is trusted, and its first records have expired.
    aging.wait(5 * DAY);
    let kept = aging.logged_from("a", aging.world.clock.wall() - DAYS * DAY);
    assert_eq!(kept.len(), 100);
    assert_eq!(aging.found("a"), kept);
}

/// The clock was wrong from the beginning. A store that trusted it for good would delete all records
/// that arrive once it is right.
#[test]
fn a_wrong_year_that_was_believed_does_not_delete_the_present() {
    let mut aging = Aging::with_limits();
    aging.world.clock.set(365 * DAY);
    aging.log_some("a", 70);
    aging.wait(3 * DAY);
    assert!(!aging.clock_jumped());
    aging.world.clock.set(-365 * DAY);
    for _ in 0..4 {
        aging.log_some("a", 10);
        aging.wait(DAY);
        aging.assert_complete("a");
    }
    assert!(!aging.clock_jumped());
    // New records expire as they should.
    aging.wait(DAYS * DAY);
    let kept = aging.logged_from("a", START + 300 * DAY);
    assert_eq!(aging.found("a"), kept);
    aging.assert_freed("a");
}

#[test]
fn a_machine_that_was_off_finds_its_records_too_old() {
    let mut aging = Aging::with_limits();
    for name in ["a", LONG] {
        aging.log_some(name, 70);
    }
    aging.world.clock.reboot(20 * DAY);
    assert_eq!(aging.found("a"), NOTHING);
    assert!(!aging.clock_jumped());
    aging.work();
    assert_eq!(aging.in_the_file("a"), NOTHING);
    aging.assert_complete(LONG);
}

/// The clock may be wrong instead, which is undecided until the machine has been on for a day.
#[test]
fn a_machine_that_was_off_for_months_keeps_its_records_for_a_day() {
    let mut aging = Aging::with_limits();
    for name in ["a", LONG] {
        aging.log_some(name, 70);
    }
    aging.world.clock.reboot(90 * DAY);
    for _ in 0..2 {
        aging.wait(9 * HOUR);
        aging.assert_complete("a");
        aging.assert_complete(LONG);
        assert!(aging.clock_jumped());
        aging.world.clock.reboot(15 * HOUR);
    }
    aging.wait(9 * HOUR);
    assert!(!aging.clock_jumped());
    for name in ["a", LONG] {
        assert_eq!(aging.found(name), NOTHING);
        assert_eq!(aging.in_the_file(name), NOTHING);
    }
}

#[test]
fn records_of_the_future_make_no_other_record_old() {
    let mut aging = Aging::with_limits();
    aging.log_some("a", 20);
    for number in 0..50 {
        aging.log("a", START + 100 * DAY + number);
        aging.log("a", i64::MAX - number);
    }
    aging.log_some("a", 20);
    aging.wait(DAY);
    aging.assert_complete("a");
    assert!(!aging.clock_jumped());
    // They expire at their own time.
    aging.wait((98 + DAYS) * DAY);
    assert_eq!(aging.found("a").len(), 100);
    aging.wait(2 * DAY);
    let kept = aging.logged_from("a", START + 101 * DAY);
    assert_eq!(kept.len(), 50);
    assert_eq!(aging.found("a"), kept);
    aging.assert_freed("a");
}

/// Importing again stores no record twice, not even an expired one.
#[test]
fn what_is_too_old_is_no_less_a_duplicate() {
    let home = home();
    let clock = Clock::new();
    let store = Store::open(home.path(), STACK, clock.options()).unwrap();
    let options = on_demand().retention(Some(policy()));
    let (_, guard) = Writer::start(&store, options).unwrap();
    guard.close().unwrap();
    let import = || {
        let mut batch = ImportBatch::default();
        for number in 0..300 {
            // Records from 2023.
            batch
                .push(&server("a"), &Record::Log(record(number)))
                .unwrap();
        }
        Importer::new(&store).unwrap().add(batch).unwrap()
    };
    let counts = import();
    assert_eq!((counts.added, counts.too_old), (0, 300));
    assert_eq!(found(&store, "a"), NOTHING);
    // They are stored once where they have not expired.
    clock.set(-4 * 365 * DAY);
    assert_eq!(import().added, 300);
    assert_eq!(import().duplicates, 300);
    let query = Query::new(Signal::Logs);
    let mut numbers: Vec<u64> = store
        .scan(&query)
        .unwrap()
        .map(|found| number(&found.unwrap().record.into_log().unwrap()))
        .collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..300));
}
