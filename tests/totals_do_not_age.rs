//! After a restart, a daemon continues from the totals that arrived last for each server, however old
//! they are and whichever records were evicted. Only a wipe deletes them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Metered, home, open, server};
use gridctl_telemetry::{
    MetricsSnapshot, Query, Record, Signal, Store, Timestamp, Value, Writer, WriterOptions,
    config::{Retention, RetentionPolicy},
    import::{ImportBatch, Importer},
    maintenance::WipeScope,
    metrics::{Attribution, SeedReport, SeededServer},
    query::SeedRange,
    record::{CostCounts, TokenCounts},
};
use std::{path::Path, time::Duration};

const MINUTE: i64 = 60_000_000_000;
const DAY: i64 = 24 * 60 * MINUTE;

impl Metered {
    fn start(home: &Path) -> Metered {
        let retention = RetentionPolicy::new(Retention::default().max_age_days(7));
        let options = WriterOptions::default().retention(Some(retention));
        Metered::start_with(home, options, ["github"])
    }

    fn seed(&self, range: SeedRange) -> SeedReport {
        self.flusher.seed(&self.store, range).unwrap()
    }

    fn count(&self, input: u64, micro_usd: i64, at: Timestamp) {
        let name = server("github");
        let to = Attribution::new(&name);
        self.accumulator.record_tokens(to, input, 0, at);
        let cost = CostCounts {
            input_micro_usd: micro_usd,
            ..CostCounts::default()
        };
        if micro_usd > 0 {
            self.accumulator.record_cost(to, cost, at);
        }
        self.flush_at(at);
    }

    fn stored(&self) -> Vec<MetricsSnapshot> {
        self.store
            .scan(&Query::new(Signal::Metrics))
            .unwrap()
            .map(|record| record.unwrap().record.into_metrics().unwrap())
            .collect()
    }
}

fn tokens(input: i64) -> TokenCounts {
    TokenCounts {
        input_tokens: input,
        output_tokens: 0,
        total_tokens: input,
    }
}

fn ago(nanos: i64) -> Timestamp {
    Timestamp::from_unix_nanos(Timestamp::now().unix_nanos() - nanos)
}

/// The totals of a server that a daemon restores when it starts now.
fn found(home: &Path, name: &str) -> Option<SeededServer> {
    let daemon = Metered::start(home);
    let mut report = daemon.seed(SeedRange::default());
    daemon.guard.close().unwrap();
    report.servers.remove(&server(name))
}

fn snapshot(total: i64, at: Timestamp) -> MetricsSnapshot {
    let mut snapshot = MetricsSnapshot::new(at);
    snapshot.total = tokens(total);
    snapshot
}

fn import(store: &Store, snapshots: &[MetricsSnapshot]) -> u64 {
    let mut importer = Importer::new(store).unwrap();
    let mut added = 0;
    // Batches of one record, so that the order must hold across batches.
    for snapshot in snapshots {
        let mut batch = ImportBatch::default();
        let record = Record::Metrics(snapshot.clone());
        batch.push(&server("github"), &record).unwrap();
        added += importer.add(batch).unwrap().added;
    }
    added
}

#[test]
fn totals_outlive_the_limit_of_age() {
    let home = home();
    let daemon = Metered::start(home.path());
    daemon.count(150, 0, ago(8 * DAY));
    assert!(daemon.stored().is_empty(), "it is too old to be read");
    daemon.guard.close().unwrap();

    let daemon = Metered::start(home.path());
    let seeded = &daemon.seed(SeedRange::default()).servers[&server("github")];
    assert_eq!((seeded.tokens, seeded.snapshots), (tokens(150), 0));
    daemon.count(5, 0, Timestamp::now());
    let stored = daemon.stored();
    assert_eq!(stored.len(), 1);
    assert!(!stored[0].reset, "counting went on");
    assert_eq!((stored[0].diff, stored[0].total), (tokens(5), tokens(155)));
    daemon.guard.close().unwrap();
}

#[test]
fn a_cost_is_kept_however_long_only_tokens_moved() {
    let home = home();
    let daemon = Metered::start(home.path());
    daemon.count(1, 1000, ago(20 * MINUTE));
    for minute in 0..10 {
        daemon.count(1, 0, ago((19 - minute) * MINUTE));
    }
    daemon.guard.close().unwrap();

    let daemon = Metered::start(home.path());
    let seeded = &daemon.seed(SeedRange::Newest(5)).servers[&server("github")];
    assert_eq!(seeded.cost.unwrap().input_micro_usd, 1000);
    assert_eq!((seeded.tokens, seeded.snapshots), (tokens(11), 5));
    daemon.guard.close().unwrap();
}

#[test]
fn a_clock_that_is_set_back_changes_no_total() {
    // In a commit each, and in one commit, as rows and as a block.
    for (apart, direct_records) in [(true, 100), (false, 100), (false, 2)] {
        let home = home();
        let store = open(home.path());
        let never = Duration::from_secs(3600);
        let options = WriterOptions::default()
            .commit_interval_min(never)
            .commit_interval_max(never)
            .tiering(100, direct_records, 100);
        let (writer, guard) = Writer::start(&store, options).unwrap();
        let steps = [(100, 120), (110, 119), (115, 179), (120, 178)];
        for (total, minutes_ago) in steps {
            let snapshot = snapshot(total, ago(minutes_ago * MINUTE));
            writer.metrics(&server("github"), &snapshot).unwrap();
            if apart {
                writer.flush().unwrap();
            }
        }
        guard.close().unwrap();
        drop(store);
        let seeded = found(home.path(), "github").unwrap();
        assert_eq!(seeded.tokens, tokens(120), "{apart} {direct_records}");
        assert_eq!(seeded.snapshots, 4);
    }
}

#[test]
fn a_seed_says_what_it_found_within_a_span_of_time() {
    let home = home();
    let daemon = Metered::start(home.path());
    let times = [ago(90 * MINUTE), ago(30 * MINUTE), ago(20 * MINUTE)];
    for at in times {
        daemon.count(1, 0, at);
    }
    daemon.guard.close().unwrap();
    let daemon = Metered::start(home.path());
    let range = SeedRange::Within(Duration::from_secs(3600));
    let report = daemon.seed(range);
    let seeded = &report.servers[&server("github")];
    assert_eq!((seeded.tokens, seeded.snapshots), (tokens(3), 2));
    assert_eq!(
        (seeded.oldest_time, seeded.newest_time),
        (Some(times[1]), Some(times[2]))
    );
    assert_eq!(seeded.last_snapshot, times[2]);
    let counting_since = daemon.accumulator.counting_since(&server("github"));
    assert_eq!(counting_since, Some(seeded.counting_since));
    let series = daemon
        .accumulator
        .query(Duration::from_secs(7200), Timestamp::now());
    assert_eq!(series.session.len(), 2);
    daemon.guard.close().unwrap();
}

#[test]
fn a_wipe_takes_the_totals_it_covers() {
    let scope = WipeScope::everything;
    for (scope, goes) in [
        (scope(), true),
        (scope().server(server("github")), true),
        (scope().signal(Signal::Metrics), true),
        (
            scope().server(server("github")).signal(Signal::Metrics),
            true,
        ),
        (scope().signal(Signal::Logs), false),
        (scope().server(server("jira")), false),
    ] {
        let home = home();
        let daemon = Metered::start(home.path());
        // The snapshot has expired, so that only totals are stored.
        daemon.count(150, 0, ago(8 * DAY));
        daemon.guard.close().unwrap();
        assert_eq!(daemon.store.wipe(&scope).unwrap(), usize::from(goes));
        drop(daemon.store);
        assert_eq!(found(home.path(), "github").is_none(), goes, "{scope:?}");
    }
}

#[test]
fn snapshots_that_a_wipe_found_in_the_queue_leave_no_totals() {
    let home = home();
    let store = open(home.path());
    let never = Duration::from_secs(3600);
    let options = WriterOptions::default()
        .commit_interval_min(never)
        .commit_interval_max(never);
    let (writer, guard) = Writer::start(&store, options).unwrap();
    writer
        .metrics(&server("github"), &snapshot(150, ago(0)))
        .unwrap();
    // Without the writer, as another process does it.
    store.wipe(&WipeScope::everything()).unwrap();
    guard.close().unwrap();
    drop(store);
    assert_eq!(found(home.path(), "github"), None);
}

#[test]
fn a_wipe_says_first_whose_counters_it_deletes() {
    let home = home();
    let store = open(home.path());
    let retention = RetentionPolicy::new(Retention::default().max_age_days(7));
    let (writer, guard) = Writer::start(&store, WriterOptions::default()).unwrap();
    writer.set_retention(retention).unwrap();
    guard.close().unwrap();
    // Too old to be stored, and counted all the same.
    import(&store, &[snapshot(150, ago(8 * DAY))]);
    let would = |scope: &WipeScope| {
        store
            .snapshot()
            .unwrap()
            .would_wipe_counters(scope)
            .unwrap()
    };
    let everything = WipeScope::everything();
    assert_eq!(would(&everything), [server("github")]);
    let metrics = everything.clone().signal(Signal::Metrics);
    assert_eq!(would(&metrics.server(server("github"))), [server("github")]);
    for scope in [
        WipeScope::everything().signal(Signal::Logs),
        WipeScope::everything().server(server("other")),
        WipeScope::everything().before(ago(0)),
    ] {
        assert_eq!(would(&scope), []);
    }
    // Where there are records, they are listed.
    import(&store, &[snapshot(160, ago(MINUTE))]);
    assert_eq!(would(&everything), []);
    assert_eq!(
        store
            .snapshot()
            .unwrap()
            .would_wipe(&everything)
            .unwrap()
            .len(),
        1
    );
    assert_eq!(store.wipe(&everything).unwrap(), 1);
    assert_eq!(would(&everything), []);
}

#[test]
fn a_store_of_imported_files_counts_on_from_them() {
    let home = home();
    let store = open(home.path());
    // The clock was set back between the second and the third.
    let lines = [
        snapshot(100, ago(9 * DAY)),
        snapshot(150, ago(8 * DAY)),
        snapshot(160, ago(10 * DAY)),
    ];
    let retention = RetentionPolicy::new(Retention::default().max_age_days(7));
    let (writer, guard) = Writer::start(&store, WriterOptions::default()).unwrap();
    writer.set_retention(retention).unwrap();
    guard.close().unwrap();
    assert_eq!(import(&store, &lines), 0, "all are too old to be stored");
    // An older file is imported later.
    import(&store, &[snapshot(70, ago(20 * DAY))]);
    drop((store, writer));
    assert_eq!(found(home.path(), "github").unwrap().tokens, tokens(160));
}

#[test]
fn an_import_leaves_the_totals_of_a_running_daemon_alone() {
    let home = home();
    let daemon = Metered::start(home.path());
    daemon.count(1000, 0, ago(5 * MINUTE));
    let newer = snapshot(50, ago(0));
    import(&daemon.store, &[snapshot(70, ago(DAY)), newer.clone()]);
    daemon.count(1, 0, ago(0));
    daemon.guard.close().unwrap();
    drop(daemon.store);
    assert_eq!(found(home.path(), "github").unwrap().tokens, tokens(1001));
    // Files that another daemon wrote meanwhile are newer, and no daemon counts here.
    let store = open(home.path());
    import(&store, &[snapshot(70, ago(DAY))]);
    assert_eq!(found(home.path(), "github").unwrap().tokens, tokens(1001));
    import(&store, &[snapshot(1500, ago(-MINUTE))]);
    assert_eq!(found(home.path(), "github").unwrap().tokens, tokens(1500));
}

#[test]
fn a_metric_of_another_program_is_no_total() {
    let home = home();
    let daemon = Metered::start(home.path());
    daemon.count(7, 0, ago(MINUTE));
    let mut foreign = MetricsSnapshot::new(ago(0));
    foreign
        .extra
        .push(("otlp".to_owned(), Value::Object(Vec::new())));
    daemon.writer.metrics(&server("github"), &foreign).unwrap();
    daemon.writer.metrics(&server("other"), &foreign).unwrap();
    daemon.guard.close().unwrap();
    drop(daemon.store);
    assert_eq!(found(home.path(), "github").unwrap().tokens, tokens(7));
    assert_eq!(found(home.path(), "other"), None);
}
