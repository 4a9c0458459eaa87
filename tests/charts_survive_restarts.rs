//! The chart of tokens and cost is the same before and after a restart: the sum over its minutes is the
//! number of tokens counted since the counters were cleared, except for those that were never flushed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Metered, home_in_memory, server};
use gridctl_telemetry::{
    Query, Record, Signal, Timestamp, WriterOptions,
    import::{ImportBatch, Importer},
    lines::{LineFormat, LineWriter, ParsedLine, parse_line},
    metrics::Attribution,
    query::SeedRange,
    record::{CostCounts, TokenCounts},
};
use proptest::prelude::*;
use std::{path::Path, time::Duration};

const SERVERS: [&str; 2] = ["github", "jira"];
const WEEK: Duration = Duration::from_secs(10_000 * 60);

impl Metered {
    fn start(home: &Path, on: [bool; 2]) -> Metered {
        let servers = SERVERS.into_iter().zip(on).filter(|(_, on)| *on);
        let servers = servers.map(|(name, _)| name);
        let daemon = Metered::start_with(home, WriterOptions::default(), servers);
        daemon
            .flusher
            .seed(&daemon.store, SeedRange::default())
            .unwrap();
        daemon
    }

    /// Tokens and cost of a server: in the chart, and in total.
    fn shown(&self, name: &str, now: Timestamp) -> [Counts; 2] {
        let tokens = self.accumulator.query(WEEK, now);
        let costs = self.accumulator.query_cost(WEEK, now);
        let points = tokens.servers.get(name).into_iter().flatten();
        let tokens_shown = points.map(|point| point.counts.total_tokens).sum();
        let points = costs.servers.get(name).into_iter().flatten();
        let cost_shown = points.map(|point| point.counts.input_micro_usd).sum();
        let tokens = self.accumulator.snapshot().servers.get(name).copied();
        let cost = self.accumulator.cost_snapshot().servers.get(name).copied();
        let total = (
            tokens.unwrap_or_default().total_tokens,
            cost.unwrap_or_default().input_micro_usd,
        );
        [(tokens_shown, cost_shown), total]
    }
}

/// Tokens and cost.
type Counts = (i64, i64);

#[derive(Debug, Clone)]
enum Operation {
    Record(usize, u16, u16),
    Wait(i64),
    Flush,
    Clear,
    ClearCost,
    Switch(usize),
    Restart,
    Kill,
}

fn operation() -> impl Strategy<Value = Operation> {
    let counts = || prop_oneof![Just(0), Just(7), 1_u16..500];
    prop_oneof![
        6 => (0..2_usize, counts(), counts()).prop_map(|(server, tokens, cost)| {
            Operation::Record(server, tokens, cost)
        }),
        2 => (0..5_i64).prop_map(Operation::Wait),
        4 => Just(Operation::Flush),
        1 => Just(Operation::Clear),
        1 => Just(Operation::ClearCost),
        2 => (0..2_usize).prop_map(Operation::Switch),
        1 => Just(Operation::Restart),
        2 => Just(Operation::Kill),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_sum_of_a_chart_is_what_was_counted(operations in proptest::collection::vec(operation(), 1..40)) {
        let home = home_in_memory();
        let mut on = [true, false];
        let mut daemon = Metered::start(home.path(), on);
        let mut minute = 0;
        let start = Timestamp::now().unix_nanos() - 3_600_000_000_000;
        let at = |minute: i64| Timestamp::from_unix_nanos(start + minute * 60_000_000_000);
        // The counted values, and those that a flush has stored.
        let mut counted = [Counts::default(); 2];
        let mut stored = [Counts::default(); 2];
        for operation in operations {
            match operation {
                Operation::Record(index, tokens, cost) => {
                    let name = server(SERVERS[index]);
                    let to = Attribution::new(&name);
                    daemon.accumulator.record_tokens(to, tokens.into(), 0, at(minute));
                    let micro_usd = CostCounts { input_micro_usd: cost.into(), ..CostCounts::default() };
                    daemon.accumulator.record_cost(to, micro_usd, at(minute));
                    counted[index].0 += i64::from(tokens);
                    counted[index].1 += i64::from(cost);
                }
                Operation::Wait(minutes) => minute += minutes,
                Operation::Flush => {
                    daemon.flush_at(at(minute));
                    for index in (0..2).filter(|index| on[*index]) {
                        stored[index] = counted[index];
                    }
                }
                Operation::Clear => {
                    daemon.accumulator.clear();
                    for counted in &mut counted {
                        counted.0 = 0;
                    }
                }
                Operation::ClearCost => {
                    daemon.accumulator.clear_cost();
                    for counted in &mut counted {
                        counted.1 = 0;
                    }
                }
                Operation::Switch(index) => {
                    on[index] = !on[index];
                    if on[index] {
                        daemon.flusher.add_server(SERVERS[index]).unwrap();
                    } else {
                        daemon.flusher.remove_server(SERVERS[index]);
                    }
                }
                Operation::Restart | Operation::Kill => {
                    if matches!(operation, Operation::Restart) {
                        daemon.flush_at(at(minute));
                        for index in (0..2).filter(|index| on[*index]) {
                            stored[index] = counted[index];
                        }
                    }
                    daemon.guard.close().unwrap();
                    drop((daemon.flusher, daemon.writer, daemon.store));
                    daemon = Metered::start(home.path(), on);
                    counted = stored;
                }
            }
            for (name, counted) in SERVERS.iter().zip(counted) {
                prop_assert_eq!(daemon.shown(name, at(minute)), [counted; 2], "{} after {:?}", name, &operation);
            }
        }
        daemon.guard.close().unwrap();
    }
}

#[test]
fn the_minute_of_the_first_flush_is_in_the_chart_after_a_restart() {
    let home = home_in_memory();
    let now = Timestamp::now();
    let daemon = Metered::start(home.path(), [true, true]);
    let name = server("github");
    daemon
        .accumulator
        .record_tokens(Attribution::new(&name), 521_335, 0, now);
    daemon.flush_at(now);
    let before = daemon.accumulator.query(WEEK, now);
    let since = daemon.accumulator.counting_since(&name);
    daemon.guard.close().unwrap();
    drop((daemon.flusher, daemon.writer, daemon.store));
    let daemon = Metered::start(home.path(), [true, true]);
    assert_eq!(daemon.accumulator.query(WEEK, now), before);
    assert_eq!(daemon.accumulator.counting_since(&name), since);
    assert!(since.is_some());
    daemon.guard.close().unwrap();
}

#[test]
fn switching_off_and_on_repeats_no_total() {
    let home = home_in_memory();
    let now = Timestamp::now();
    let daemon = Metered::start(home.path(), [true, true]);
    let name = server("github");
    let record = |tokens| {
        let to = Attribution::new(&name);
        daemon.accumulator.record_tokens(to, tokens, 0, now);
        daemon.flush_at(now);
    };
    record(463_525);
    daemon.flusher.remove_server("github");
    record(100);
    daemon.flusher.add_server("github").unwrap();
    record(638_637);
    let stored = daemon.store.scan(&Query::new(Signal::Metrics)).unwrap();
    let last = stored
        .last()
        .unwrap()
        .unwrap()
        .record
        .into_metrics()
        .unwrap();
    // The exported line keeps its old values, and the record has the right ones.
    let total = TokenCounts {
        input_tokens: 1_102_262,
        output_tokens: 0,
        total_tokens: 1_102_262,
    };
    assert!(last.reset);
    assert_eq!((last.diff, last.total), (total, total));
    assert_eq!(last.tokens_counted().unwrap().total_tokens, 638_737);
    daemon.guard.close().unwrap();
    drop((daemon.flusher, daemon.writer, daemon.store));
    let daemon = Metered::start(home.path(), [true, true]);
    assert_eq!(daemon.shown("github", now), [(1_102_262, 0); 2]);
    daemon.guard.close().unwrap();
}

#[test]
fn what_is_exported_says_nothing_of_it_and_is_a_duplicate_of_what_is_stored() {
    let home = home_in_memory();
    let daemon = Metered::start(home.path(), [true, true]);
    let name = server("github");
    let now = Timestamp::now();
    for tokens in [5, 4] {
        let to = Attribution::new(&name);
        daemon.accumulator.record_tokens(to, tokens, 0, now);
        daemon.flush_at(now);
        daemon.accumulator.clear();
    }
    daemon.guard.close().unwrap();
    for format in [LineFormat::Ndjson, LineFormat::Otlp] {
        let snapshot = daemon.store.snapshot().unwrap();
        let mut scan = snapshot.scan(&Query::new(Signal::Metrics)).unwrap();
        let (mut writer, mut lines) = (LineWriter::new(format), Vec::new());
        while let Some(record) = scan.next().unwrap() {
            writer.write(&record, &mut lines).unwrap();
        }
        writer.finish(&mut lines);
        let text = std::str::from_utf8(&lines).unwrap();
        assert!(
            !text.contains("interval") && !text.contains("cleared"),
            "{text}"
        );
        let mut importer = Importer::new(&daemon.store).unwrap();
        let mut batch = ImportBatch::default();
        for line in lines
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            let ParsedLine::Metrics(found) = parse_line(Signal::Metrics, line).unwrap() else {
                // The line that announces a reset.
                continue;
            };
            for (_, snapshot) in found {
                batch.push(&name, &Record::Metrics(snapshot)).unwrap();
            }
        }
        let counts = importer.add(batch).unwrap();
        assert_eq!((counts.added, counts.duplicates), (0, 2), "{format:?}");
    }
}

#[test]
fn a_cost_that_was_cleared_and_counted_again_survives_a_restart() {
    let home = home_in_memory();
    let now = Timestamp::now();
    let daemon = Metered::start(home.path(), [true, true]);
    let name = server("github");
    let cost = CostCounts {
        input_micro_usd: 7,
        ..CostCounts::default()
    };
    let to = Attribution::new(&name);
    daemon.accumulator.record_cost(to, cost, now);
    daemon.flush_at(now);
    daemon.accumulator.clear_cost();
    daemon.accumulator.record_tokens(to, 7, 0, now);
    daemon.accumulator.record_cost(to, cost, now);
    daemon.flush_at(now);
    daemon.guard.close().unwrap();
    drop((daemon.flusher, daemon.writer, daemon.store));
    let daemon = Metered::start(home.path(), [true, true]);
    assert_eq!(daemon.shown("github", now), [(7, 7); 2]);
    daemon.guard.close().unwrap();
}
