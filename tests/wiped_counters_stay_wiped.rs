//! Wiping metrics wipes the counters, too: no later snapshot of a running daemon brings the old totals
//! back, whether the daemon itself or another process wiped them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Metered, home_in_memory, open, server};
use gridctl_telemetry::{
    MetricsSnapshot, Query, Signal, Timestamp, WriterOptions, maintenance::WipeScope,
    metrics::Attribution, query::SeedRange, record::TokenCounts,
};
use std::{path::Path, time::Duration};

impl Metered {
    fn start(home: &Path) -> Metered {
        let never = Duration::from_secs(3600);
        let options = WriterOptions::default()
            .commit_interval_min(never)
            .commit_interval_max(never);
        let daemon = Metered::start_with(home, options, ["github", "jira"]);
        daemon
            .flusher
            .seed(&daemon.store, SeedRange::default())
            .unwrap();
        daemon
    }

    fn count(&self, name: &str, tokens: u64) {
        let name = server(name);
        let to = Attribution::new(&name);
        self.accumulator
            .record_tokens(to, tokens, 0, Timestamp::now());
    }

    fn flush(&self) {
        self.flush_at(Timestamp::now());
    }

    fn stored(&self, name: &str) -> Vec<MetricsSnapshot> {
        let query = Query::new(Signal::Metrics).server(server(name));
        let records = self.store.scan(&query).unwrap();
        records
            .map(|record| record.unwrap().record.into_metrics().unwrap())
            .collect()
    }

    fn total(&self, name: &str) -> TokenCounts {
        self.accumulator.snapshot().servers[name]
    }

    fn chart(&self, name: &str) -> i64 {
        let series = self
            .accumulator
            .query(Duration::from_secs(3600), Timestamp::now());
        let points = series.servers.get(name).into_iter().flatten();
        points.map(|point| point.counts.total_tokens).sum()
    }

    fn restart(self, home: &Path) -> Metered {
        self.guard.close().unwrap();
        drop((self.flusher, self.writer, self.store));
        Metered::start(home)
    }
}

fn tokens(input: i64) -> TokenCounts {
    TokenCounts {
        input_tokens: input,
        output_tokens: 0,
        total_tokens: input,
    }
}

fn metrics_of_github() -> WipeScope {
    WipeScope::everything()
        .server(server("github"))
        .signal(Signal::Metrics)
}

#[test]
fn a_wipe_through_the_daemon_clears_the_counters() {
    let home = home_in_memory();
    let daemon = Metered::start(home.path());
    daemon.count("github", 100);
    daemon.count("jira", 10);
    daemon.flush();
    let daemon = daemon.restart(home.path());
    daemon.count("github", 7);
    assert_eq!(daemon.total("github"), tokens(107));
    assert_eq!(daemon.writer.wipe(&metrics_of_github()).unwrap(), 1);
    assert_eq!(daemon.total("github"), tokens(0));
    assert_eq!(daemon.chart("github"), 0);
    assert_eq!(
        (daemon.total("jira"), daemon.chart("jira")),
        (tokens(10), 10)
    );

    // There is nothing to say, and then everything is new.
    daemon.flush();
    assert!(daemon.stored("github").is_empty());
    daemon.count("github", 5);
    daemon.flush();
    let stored = daemon.stored("github");
    assert_eq!(stored.len(), 1);
    assert!(stored[0].reset);
    assert_eq!((stored[0].diff, stored[0].total), (tokens(5), tokens(5)));
    let daemon = daemon.restart(home.path());
    assert_eq!(
        (daemon.total("github"), daemon.chart("github")),
        (tokens(5), 5)
    );
    assert_eq!(daemon.total("jira"), tokens(10));
    daemon.guard.close().unwrap();
}

#[test]
fn a_wipe_of_logs_leaves_the_counters_alone() {
    let home = home_in_memory();
    let daemon = Metered::start(home.path());
    daemon.count("github", 100);
    daemon.flush();
    let scope = WipeScope::everything().signal(Signal::Logs);
    daemon.writer.wipe(&scope).unwrap();
    open(home.path()).wipe(&scope).unwrap();
    daemon.count("github", 1);
    daemon.flush();
    assert_eq!(daemon.total("github"), tokens(101));
    assert!(!daemon.stored("github")[1].reset);
    daemon.guard.close().unwrap();
}

#[test]
fn a_wipe_by_another_process_is_not_undone() {
    let home = home_in_memory();
    let daemon = Metered::start(home.path());
    daemon.count("github", 60);
    daemon.flush();
    let daemon = daemon.restart(home.path());
    daemon.count("github", 40);
    daemon.flush();
    let other = open(home.path());
    for wipe in 0..2 {
        other.wipe(&metrics_of_github()).unwrap();
        daemon.count("github", 5);
        daemon.flush();
        let stored = daemon.stored("github");
        assert_eq!(stored.len(), 1, "after wipe {wipe}");
        assert!(stored[0].reset);
        assert_eq!(stored[0].total, tokens(5), "what was counted since");
        assert_eq!(
            (daemon.total("github"), daemon.chart("github")),
            (tokens(5), 5)
        );
        daemon.count("github", 1);
        daemon.flush();
        assert_eq!(daemon.stored("github")[1].diff, tokens(1));
    }
    drop(other);
    let daemon = daemon.restart(home.path());
    assert_eq!(
        (daemon.total("github"), daemon.chart("github")),
        (tokens(6), 6)
    );
    daemon.guard.close().unwrap();
}

#[test]
fn a_snapshot_made_before_a_wipe_is_not_stored_after_it() {
    let home = home_in_memory();
    let daemon = Metered::start(home.path());
    daemon.count("github", 100);
    daemon.flush();
    daemon.count("github", 1);
    // The snapshot is queued when another process wipes, and is made of counters from before.
    daemon.flusher.flush(Timestamp::now());
    open(home.path()).wipe(&metrics_of_github()).unwrap();
    daemon.writer.flush().unwrap();
    assert!(daemon.stored("github").is_empty());
    daemon.count("github", 2);
    daemon.flush();
    let stored = daemon.stored("github");
    assert_eq!((stored.len(), stored[0].total), (1, tokens(2)));
    let daemon = daemon.restart(home.path());
    assert_eq!(daemon.total("github"), tokens(2));
    daemon.guard.close().unwrap();
}
