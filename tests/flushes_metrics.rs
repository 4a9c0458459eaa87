//! The metrics flusher: what it stores, when, and what it restores after a restart.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::Metered;
use gridctl_telemetry::{
    MetricsSnapshot, Query, ServerName, Signal, Timestamp, Writer, WriterOptions,
    lines::{LineFormat, LineWriter},
    metrics::{Attribution, MetricsFlusher},
    query::SeedRange,
    record::{CostCounts, TokenCounts},
};
use std::{fs, sync::Arc, time::Duration};

const MINUTE: i64 = 60_000_000_000;

fn github() -> ServerName {
    ServerName::new("github").unwrap()
}

fn at(minute: i64) -> Timestamp {
    Timestamp::from_unix_nanos(1_778_283_600_000_000_000 + minute * MINUTE)
}

impl Metered {
    fn start(home: &tempfile::TempDir, options: WriterOptions) -> Metered {
        Metered::start_with(home.path(), options, ["github"])
    }

    fn count(&self, input: u64, output: u64, micro_usd: i64, minute: i64) {
        let name = github();
        let by = Attribution::new(&name);
        self.accumulator
            .record_tokens(by, input, output, at(minute));
        if micro_usd > 0 {
            let cost = CostCounts {
                input_micro_usd: micro_usd,
                ..CostCounts::default()
            };
            self.accumulator.record_cost(by, cost, at(minute));
        }
    }

    fn flush(&self, minute: i64) {
        self.flush_at(at(minute));
    }

    fn stored(&self) -> Vec<MetricsSnapshot> {
        self.store
            .scan(&Query::new(Signal::Metrics))
            .unwrap()
            .map(|record| record.unwrap().record.into_metrics().unwrap())
            .collect()
    }

    fn lines(&self) -> String {
        let mut scan = self
            .store
            .snapshot()
            .unwrap()
            .scan(&Query::new(Signal::Metrics))
            .unwrap();
        let (mut writer, mut lines) = (LineWriter::new(LineFormat::Ndjson), Vec::new());
        while let Some(record) = scan.next().unwrap() {
            writer.write(&record, &mut lines).unwrap();
        }
        String::from_utf8(lines).unwrap()
    }
}

fn tokens(input: i64, output: i64) -> TokenCounts {
    TokenCounts {
        input_tokens: input,
        output_tokens: output,
        total_tokens: input + output,
    }
}

#[test]
fn the_files_of_the_go_package_would_say_the_same() {
    let home = tempfile::tempdir().unwrap();
    let daemon = Metered::start(&home, WriterOptions::default());
    daemon.count(100, 50, 0, 0);
    daemon.flush(0);
    daemon.count(10, 5, 30, 1);
    daemon.flush(1);
    daemon.flush(2);
    assert_eq!(
        daemon.lines(),
        concat!(
            r#"{"reset":true,"ts":"2026-05-08T23:40:00Z","server":"github"}"#,
            "\n",
            r#"{"ts":"2026-05-08T23:40:00Z","server":"github","reset":true,"diff":{"input_tokens":100,"output_tokens":50,"total_tokens":150},"total":{"input_tokens":100,"output_tokens":50,"total_tokens":150}}"#,
            "\n",
            r#"{"ts":"2026-05-08T23:41:00Z","server":"github","diff":{"input_tokens":10,"output_tokens":5,"total_tokens":15},"total":{"input_tokens":110,"output_tokens":55,"total_tokens":165},"cost_diff":{"input_micro_usd":30},"cost_total":{"input_micro_usd":30}}"#,
            "\n",
        ),
        "and nothing of the minute in which nothing was counted"
    );
}

#[test]
fn after_a_seed_the_next_flush_is_a_difference_and_no_reset() {
    let home = tempfile::tempdir().unwrap();
    let daemon = Metered::start(&home, WriterOptions::default());
    daemon.count(100, 50, 1000, 0);
    daemon.flush(0);
    daemon.count(10, 5, 30, 1);
    daemon.flush(1);
    daemon.count(1, 1, 0, 2);
    daemon.flush(2);
    let file = home.path().join("metrics.jsonl");
    fs::write(&file, format!("not json\n{}", daemon.lines())).unwrap();
    daemon.guard.close().unwrap();

    for from_file in [false, true] {
        let daemon = Metered::start(&home, WriterOptions::default());
        if from_file {
            daemon
                .flusher
                .seed_from_file(&file, SeedRange::Newest(100))
                .unwrap();
        } else {
            daemon
                .flusher
                .seed(&daemon.store, SeedRange::Newest(100))
                .unwrap();
        }
        // The cumulative counters, although the last snapshot has no cost.
        let usage = daemon.accumulator.snapshot();
        assert_eq!(usage.servers["github"], tokens(111, 56));
        let cost = daemon.accumulator.cost_snapshot();
        assert_eq!(cost.servers["github"].input_micro_usd, 1030);
        // The series: a line does not say whether the difference of a reset is what its minute counted,
        // and the stored record does.
        let series = daemon.accumulator.query(Duration::from_secs(3600), at(3));
        let points: Vec<_> = series
            .session
            .iter()
            .map(|point| (point.time, point.counts))
            .collect();
        let expected = [
            (at(0), tokens(100, 50)),
            (at(1), tokens(10, 5)),
            (at(2), tokens(1, 1)),
        ];
        assert_eq!(points, expected[usize::from(from_file)..]);
        let series = daemon
            .accumulator
            .query_cost(Duration::from_secs(3600), at(3));
        assert_eq!(series.session.len(), if from_file { 1 } else { 2 });
        // The flusher's last snapshot is restored as well.
        let before = daemon.stored().len();
        daemon.flush(3);
        assert_eq!(daemon.stored().len(), before, "nothing was counted since");
        if from_file {
            daemon.count(5, 5, 7, 4);
            daemon.flush(4);
            let last = daemon.stored().pop().unwrap();
            assert!(!last.reset && !last.cost_reset);
            assert_eq!((last.diff, last.total), (tokens(5, 5), tokens(116, 61)));
            assert_eq!(last.cost_diff.unwrap().input_micro_usd, 7);
            assert_eq!(last.cost_total.unwrap().input_micro_usd, 1037);
        }
        daemon.guard.close().unwrap();
    }
}

#[test]
fn missing_history_is_no_error() {
    let home = tempfile::tempdir().unwrap();
    let daemon = Metered::start(&home, WriterOptions::default());
    daemon
        .flusher
        .seed(&daemon.store, SeedRange::Newest(100))
        .unwrap();
    daemon
        .flusher
        .seed_from_file(&home.path().join("nothing.jsonl"), SeedRange::Newest(100))
        .unwrap();
    assert!(daemon.accumulator.snapshot().servers.is_empty());
}

#[test]
fn a_clear_makes_the_next_snapshot_a_reset() {
    let home = tempfile::tempdir().unwrap();
    let daemon = Metered::start(&home, WriterOptions::default());
    daemon.count(100, 50, 40, 0);
    daemon.flush(0);
    daemon.accumulator.clear_cost();
    daemon.count(1, 1, 3, 1);
    daemon.flush(1);
    daemon.accumulator.clear();
    daemon.count(2, 2, 0, 2);
    daemon.flush(2);
    let stored = daemon.stored();
    assert_eq!(stored.len(), 3);
    assert!(
        !stored[1].reset && stored[1].cost_reset,
        "cost begins anew by itself"
    );
    assert_eq!(stored[1].diff, tokens(1, 1));
    assert!(stored[2].reset);
    assert_eq!(
        (stored[2].diff, stored[2].total),
        (tokens(2, 2), tokens(2, 2))
    );
}

#[test]
fn a_snapshot_that_finds_no_room_is_in_the_next_one() {
    let home = tempfile::tempdir().unwrap();
    // No record fits into a queue this small.
    let daemon = Metered::start(&home, WriterOptions::default().record_bytes_max(1));
    daemon.count(100, 50, 0, 0);
    daemon.flush(0);
    daemon.count(10, 10, 0, 1);
    daemon.flush(1);
    assert!(daemon.stored().is_empty());
    assert_eq!(daemon.writer.stats().dropped_total(), 2);
    drop(daemon.flusher);
    let (writer, guard) = Writer::start(&daemon.store, WriterOptions::default()).unwrap();
    let flusher = MetricsFlusher::new(Arc::clone(&daemon.accumulator), writer, Duration::ZERO);
    flusher.add_server("github").unwrap();
    flusher.flush(at(2));
    guard.close().unwrap();
    let stored: Vec<_> = daemon
        .store
        .scan(&Query::new(Signal::Metrics))
        .unwrap()
        .collect();
    assert_eq!(stored.len(), 1);
    let snapshot = stored
        .into_iter()
        .next()
        .unwrap()
        .unwrap()
        .record
        .into_metrics()
        .unwrap();
    assert_eq!(snapshot.diff, tokens(110, 60), "nothing of it is lost");
}

#[test]
fn a_server_added_again_goes_on_and_one_that_was_removed_begins_anew() {
    let home = tempfile::tempdir().unwrap();
    let daemon = Metered::start(&home, WriterOptions::default());
    daemon.count(1, 1, 0, 0);
    daemon.flush(0);
    daemon.flusher.add_server("github").unwrap();
    daemon.count(1, 1, 0, 1);
    daemon.flush(1);
    assert!(!daemon.stored()[1].reset);
    daemon.flusher.remove_server("github");
    assert!(daemon.flusher.configured_servers().is_empty());
    daemon.count(1, 1, 0, 2);
    daemon.flush(2);
    assert_eq!(
        daemon.stored().len(),
        2,
        "nothing is stored of a server that was removed"
    );
    daemon.flusher.add_server("github").unwrap();
    daemon.flush(3);
    let stored = daemon.stored();
    assert!(stored[2].reset);
    assert_eq!(stored[2].total, tokens(3, 3));
}

#[test]
fn stop_flushes_a_last_time_and_start_and_stop_may_be_called_again() {
    let home = tempfile::tempdir().unwrap();
    let daemon = Metered::start(&home, WriterOptions::default());
    daemon.flusher.start().unwrap();
    daemon.flusher.start().unwrap();
    daemon.count(1, 1, 0, 0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| daemon.flusher.stop());
        }
    });
    daemon.flusher.stop();
    daemon.flusher.start().unwrap();
    daemon.count(1, 1, 0, 0);
    daemon.flusher.stop();
    daemon.writer.flush().unwrap();
    let stored = daemon.stored();
    assert_eq!(
        stored.len(),
        1,
        "the interval is a minute, so the stop stored it"
    );
    assert_eq!(stored[0].total, tokens(1, 1));
}
