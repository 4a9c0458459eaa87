//! Counts are those of the records that a scan of the same query returns, whether they come from
//! headers, timestamps or records.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Random, home_in_memory, on_demand, open, server};
use gridctl_telemetry::{
    Level, LogRecord, MetricsSnapshot, Query, Record, Signal, Snapshot, SpanRecord, Store,
    Timestamp, Value, Writer,
    config::{Retention, RetentionPolicy},
    external::{
        opentelemetry_proto::tonic::trace::v1::{Span, Status, status::StatusCode},
        time::{OffsetDateTime, UtcOffset},
    },
    query::{CountBy, Direction, Interval},
};
use std::{collections::BTreeMap, time::Duration};

const SECOND: i64 = 1_000_000_000;
const SERVERS: [&str; 3] = ["atlassian", "github", "zapier"];
const LEVELS: [Level; 4] = [Level::DEBUG, Level::INFO, Level::WARN, Level::ERROR];

/// What distinguishes a row: time, server, level, name and value.
type Key = (
    Option<Timestamp>,
    Option<String>,
    Option<Level>,
    Option<String>,
    Option<String>,
);

/// Stores logs, spans and snapshots of two days before `end`, many of them late.
fn fill(store: &Store, end: i64, random: &mut Random) {
    let retention = RetentionPolicy::new(Retention::default().max_age_days(1));
    let retention = retention.server("zapier", Retention::default().max_age_days(7));
    let options = on_demand().retention(Some(retention));
    let (writer, guard) = Writer::start(store, options).unwrap();
    for number in 0..900_i64 {
        let late = if random.one_in(9) { 5000 } else { 0 };
        let time = end - (900 - number) * 2 * 86_400 / 900 * SECOND - late * SECOND;
        let at = Timestamp::from_unix_nanos(time);
        let server = server(SERVERS[random.below(SERVERS.len())]);
        let mut span = Span {
            name: format!("call {}", random.below(3)),
            trace_id: vec![1; 16],
            span_id: vec![2; 8],
            end_time_unix_nano: time.cast_unsigned(),
            ..Span::default()
        };
        if random.one_in(5) {
            span.status = Some(Status {
                code: StatusCode::Error.into(),
                ..Status::default()
            });
        }
        let mut log = LogRecord::new(at, LEVELS[random.below(LEVELS.len())], "call");
        log = match random.below(4) {
            0 => log,
            1 => log.with("tool", number % 3),
            2 => log.with("tool", Value::Array(vec![])),
            _ => log.with("tool", "search"),
        };
        writer.log(&server, &log).unwrap();
        writer.span(&server, &SpanRecord::new(span)).unwrap();
        if random.one_in(10) {
            writer.metrics(&server, &MetricsSnapshot::new(at)).unwrap();
        }
        if random.one_in(25) {
            writer.flush().unwrap();
        }
    }
    guard.close().unwrap();
}

/// The counts of the records that a scan returns, by everything of which `by` has the bit.
fn expected(snapshot: &Snapshot, query: &Query, by: usize) -> BTreeMap<Key, u64> {
    let mut counts = BTreeMap::new();
    for stored in snapshot.scan(query).unwrap().records() {
        let stored = stored.unwrap();
        let day = OffsetDateTime::from(stored.timestamp).to_offset(zone());
        let day = Timestamp::from(day.replace_time(OffsetDateTime::UNIX_EPOCH.time()));
        let (level, name, value) = match stored.record {
            Record::Log(log) => {
                let value = match log.attribute("tool") {
                    Some(Value::Int(number)) => Some(number.to_string()),
                    Some(Value::String(text)) => Some(text.clone()),
                    _ => None,
                };
                (Some(log.level), None, value)
            }
            Record::Span(span) if span.is_error() => {
                (Some(Level::ERROR), Some(span.span.name), None)
            }
            Record::Span(span) => (Some(Level::INFO), Some(span.span.name), None),
            _ => (None, None, None),
        };
        let is_by = |bit: usize| by & (1 << bit) != 0;
        let key = (
            is_by(0).then_some(day),
            is_by(1).then(|| stored.server.to_string()),
            level.filter(|_| is_by(2)),
            name.filter(|_| is_by(3)),
            value.filter(|_| is_by(4)),
        );
        *counts.entry(key).or_default() += 1;
    }
    counts
}

fn zone() -> UtcOffset {
    UtcOffset::from_hms(-7, 0, 0).unwrap()
}

fn counted(snapshot: &Snapshot, query: &Query, by: usize) -> BTreeMap<Key, u64> {
    let all = [
        CountBy::Interval(Interval::days(|_| zone())),
        CountBy::Server,
        CountBy::Level,
        CountBy::Name,
        CountBy::Field("tool".to_owned()),
    ];
    let asked = all.into_iter().enumerate();
    let asked: Vec<CountBy> = asked
        .filter(|(bit, _)| by & (1 << bit) != 0)
        .map(|(_, by)| by)
        .collect();
    let report = snapshot.count(query, &asked).unwrap();
    assert_eq!(report.others, 0);
    let sum: u64 = report.rows.iter().map(|row| row.count).sum();
    assert_eq!(report.total, sum);
    let mut counts = BTreeMap::new();
    let mut last = None;
    for row in report.rows {
        let server = row.server.map(|server| server.to_string());
        let key = (row.time, server, row.level, row.name, row.value);
        assert!(last.is_none_or(|last| last < key), "rows are in order");
        last = Some(key.clone());
        counts.insert(key, row.count);
    }
    counts
}

#[test]
fn a_range_of_a_nanosecond_is_counted() {
    let home = home_in_memory();
    let store = open(home.path());
    let (writer, guard) = Writer::start(&store, on_demand()).unwrap();
    let at = Timestamp::from_unix_nanos;
    for time in [4, 5, 5, 6] {
        let record = LogRecord::new(at(time), Level::INFO, "call");
        writer.log(&server("github"), &record).unwrap();
    }
    guard.close().unwrap();
    for (from, to, count) in [(5, 6, 2), (6, 7, 1), (7, 8, 0), (5, 5, 0), (6, 5, 0)] {
        let query = Query::new(Signal::Logs).range(at(from)..at(to));
        let counted = store.count(&query, &[]).unwrap();
        assert_eq!(counted.total, count, "{from} to {to}");
    }
}

#[test]
fn counts_are_those_of_the_records() {
    let mut random = Random::from_env();
    let home = home_in_memory();
    let store = open(home.path());
    let end = Timestamp::now().unix_nanos();
    fill(&store, end, &mut random);
    // One snapshot, because records expire meanwhile.
    let snapshot = store.snapshot().unwrap();
    let mut found = 0;
    for _ in 0..150 {
        let signal = Signal::ALL[random.below(3)];
        let mut query = Query::new(signal);
        let time = |random: &mut Random| {
            let ago = i64::try_from(random.below(50 * 3600)).unwrap();
            Timestamp::from_unix_nanos(end - ago * SECOND)
        };
        if random.one_in(2) {
            let (a, b) = (time(&mut random), time(&mut random));
            query = query.range(a.min(b)..a.max(b));
        }
        if random.one_in(3) {
            query = query.server(server(SERVERS[random.below(SERVERS.len())]));
        }
        if random.one_in(4) {
            query = query.level_at_least(Level::WARN);
        }
        if random.one_in(6) {
            query = query.since_sequence(random.below(2000) as u64);
        }
        if random.one_in(6)
            && let Some(record) = snapshot
                .scan(&query)
                .unwrap()
                .records()
                .nth(random.below(200))
        {
            query = query.after(record.unwrap().cursor());
        }
        if random.one_in(4) {
            query = query.direction(Direction::Backward);
        }
        let by = random.below(1 << 5);
        let expected = expected(&snapshot, &query, by);
        found += expected.values().sum::<u64>();
        assert_eq!(
            counted(&snapshot, &query, by),
            expected,
            "{query:?} by {by:b}"
        );
        // Headers and timestamps tell these.
        for by in 0..4 {
            let expected = self::expected(&snapshot, &query, by);
            assert_eq!(
                counted(&snapshot, &query, by),
                expected,
                "{query:?} by {by:b}"
            );
        }
    }
    assert!(found > 1000, "{found} records were counted");
}

#[test]
fn a_histogram_has_intervals_of_any_length() {
    let home = home_in_memory();
    let store = open(home.path());
    let (writer, guard) = Writer::start(&store, on_demand()).unwrap();
    for second in [0, 1, 299, 300, 1000] {
        let at = Timestamp::from_unix_nanos(1_600_000_200 * SECOND + second * SECOND);
        let log = LogRecord::new(at, Level::WARN, "call");
        writer.log(&server("github"), &log).unwrap();
    }
    guard.close().unwrap();
    let interval = Interval::every(Duration::from_secs(300)).unwrap();
    let by = [CountBy::Interval(interval), CountBy::Level];
    let report = store.count(&Query::new(Signal::Logs), &by).unwrap();
    assert_eq!(
        serde_json::to_string(&report).unwrap(),
        r#"{"rows":[{"time":"2020-09-13T12:30:00Z","level":"WARN","count":3},{"time":"2020-09-13T12:35:00Z","level":"WARN","count":1},{"time":"2020-09-13T12:45:00Z","level":"WARN","count":1}],"total":5,"others":0}"#
    );
}
