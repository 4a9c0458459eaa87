//! DuckDB answers the README's five questions over the files of two machines as the library answers them over their
//! stores.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::Home;
use gridctl_telemetry::{
    Level, LogRecord, MetricsSnapshot, Query, Record, ServerName, Signal, SpanRecord, Store,
    StoreOptions, Timestamp,
    external::opentelemetry_proto::tonic::{
        common::v1::{AnyValue, KeyValue, any_value::Value as Any},
        resource::v1::Resource,
        trace::v1::{Span, Status},
    },
    import::{ImportBatch, Importer},
    query::{CallQuery, CountBy, Interval, UsageBy, UsageQuery},
    record::CostCounts,
};
use serde_json::{Value as Json, json};
use std::{
    cmp::Reverse,
    collections::BTreeMap,
    env,
    ffi::OsStr,
    io::Write,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

/// When set to `1`, a DuckDB that cannot be run fails the test instead of skipping it.
const REQUIRE: &str = "GRIDCTL_TELEMETRY_REQUIRE_SDKS";
/// The interpreter of Python that has DuckDB's package.
const PYTHON: &str = "GRIDCTL_TELEMETRY_SDK_PYTHON";

/// Runs the queries that standard input has as JSON, and prints their rows.
const SCRIPT: &str = "
import duckdb, json, sys
print(json.dumps([
    [[str(value) if value is not None and not isinstance(value, (int, float)) else value for value in row]
     for row in duckdb.sql(query).fetchall()]
    for query in json.load(sys.stdin)
]))
";

/// 2026-05-08T00:00:00Z
const BEGIN: i64 = 1_778_198_400_000_000_000;
const SECOND: i64 = 1_000_000_000;
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// The rows of the README's queries over a folder; `None` without DuckDB.
fn answers(out: &Path) -> Option<Vec<Vec<Vec<Json>>>> {
    let python = env::var_os(PYTHON);
    let python = python.as_deref().unwrap_or(OsStr::new("python3"));
    let probe = Command::new(python).args(["-c", "import duckdb"]).output();
    if !probe.is_ok_and(|probe| probe.status.success()) {
        assert_ne!(
            env::var(REQUIRE).as_deref(),
            Ok("1"),
            "DuckDB cannot be run"
        );
        eprintln!("skipped: {} has no package duckdb", python.display());
        return None;
    }
    let readme = include_str!("../../README.md");
    let section = readme
        .split("\n## Parquet, and five questions in SQL\n")
        .nth(1)
        .unwrap();
    let section = section.split("\n## ").next().unwrap();
    let queries: Vec<String> = section
        .split("```sql\n")
        .skip(1)
        .map(|block| block.split("```").next().unwrap())
        .map(|query| query.replace("'lake/", &format!("'{}/", out.display())))
        .collect();
    assert_eq!(queries.len(), 5);
    let mut child = Command::new(python)
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input
        .write_all(json!(queries).to_string().as_bytes())
        .unwrap();
    drop(input);
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success());
    Some(serde_json::from_slice(&done.stdout).unwrap())
}

fn attribute(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(Any::StringValue(value.to_owned())),
        }),
        ..KeyValue::default()
    }
}

/// A source of numbers below a limit, the same ones for the same machine.
fn numbers(machine: i64) -> impl FnMut(u64) -> u64 {
    let mut random = machine.cast_unsigned() + 7;
    move |below| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (random >> 33) % below
    }
}

/// Three days of a machine; the second one is silent on the last day.
fn fill(home: &Home, machine: i64) {
    let store = Store::open(home.path(), "gw", StoreOptions::default()).unwrap();
    let mut batch = ImportBatch::default();
    let mut next = numbers(machine);
    let seconds = if machine == 0 { 3 * 86_400 } else { 86_400 };
    for number in 0..1200_i64 {
        let server = ["github", "slack", "postgres"][usize::try_from(next(3)).unwrap()];
        let server = ServerName::new(server).unwrap();
        let nanos = BEGIN + i64::try_from(next(seconds)).unwrap() * SECOND;
        let levels = [Level::INFO, Level::WARN, Level::ERROR, Level(12)];
        let level = levels[usize::try_from(next(4)).unwrap()];
        let at = Timestamp::from_unix_nanos(nanos);
        let log = LogRecord::new(at, level, format!("record {number} of {machine}"));
        batch.push(&server, &Record::Log(log)).unwrap();
        if number % 4 == 0 {
            let span = call(number, nanos.cast_unsigned(), &mut next);
            batch.push(&server, &Record::Span(Box::new(span))).unwrap();
        }
    }
    for server in ["github", "slack"] {
        count(&ServerName::new(server).unwrap(), &mut batch, &mut next);
    }
    if machine == 0 {
        fail(&mut batch);
    }
    Importer::new(&store).unwrap().add(batch).unwrap();
}

/// A call of a tool that ended at `end`.
fn call(number: i64, end: u64, next: &mut impl FnMut(u64) -> u64) -> SpanRecord {
    let tool = format!("tool {}", next(5));
    let key = ["tool", "tool.name"][usize::from(next(2) == 0)];
    let span = Span {
        trace_id: (u128::from(next(1 << 30)) + 1).to_be_bytes().to_vec(),
        span_id: (number + 1).to_be_bytes().to_vec(),
        name: "tools/call".to_owned(),
        start_time_unix_nano: end - next(900_000_000),
        end_time_unix_nano: end,
        attributes: vec![attribute(key, &tool)],
        status: Some(Status {
            code: [1, 2][usize::from(next(3) == 0)],
            ..Status::default()
        }),
        ..Span::default()
    };
    let resource = Resource {
        attributes: vec![attribute("service.name", "gateway")],
        ..Resource::default()
    };
    SpanRecord::new(span).resource(resource, "")
}

/// The counters of a server, hour by hour. They begin anew in between.
fn count(server: &ServerName, batch: &mut ImportBatch, next: &mut impl FnMut(u64) -> u64) {
    let (mut total, mut cost) = (0, CostCounts::default());
    for hour in 0..60_i64 {
        let at = Timestamp::from_unix_nanos(BEGIN + hour * 3600 * SECOND);
        let mut snapshot = MetricsSnapshot::new(at);
        let counted = i64::try_from(next(1000)).unwrap();
        snapshot.reset = hour % 20 == 0;
        if snapshot.reset {
            (total, cost) = (0, CostCounts::default());
        }
        total += counted;
        snapshot.diff.input_tokens = counted;
        snapshot.diff.total_tokens = counted;
        snapshot.total.input_tokens = total;
        snapshot.total.total_tokens = total;
        let diff = CostCounts {
            input_micro_usd: counted * 3,
            cache_read_micro_usd: counted,
            ..CostCounts::default()
        };
        cost = cost.saturating_add(diff);
        snapshot.cost_diff = Some(diff);
        snapshot.cost_total = Some(cost);
        batch.push(server, &Record::Metrics(snapshot)).unwrap();
    }
}

/// An error after all other records, with its trace.
fn fail(batch: &mut ImportBatch) {
    let begin = BEGIN + 3 * 86_400 * SECOND;
    let github = ServerName::new("github").unwrap();
    for (step, level, message) in [(1, Level::INFO, "calling"), (3, Level::ERROR, "failed")] {
        let at = Timestamp::from_unix_nanos(begin + step * SECOND);
        let log = LogRecord::new(at, level, message).with("trace_id", TRACE);
        batch.push(&github, &Record::Log(log)).unwrap();
    }
    let trace_id = u128::from_str_radix(TRACE, 16).unwrap();
    for (name, server) in [("a", "slack"), ("b", "github")] {
        let start = begin.cast_unsigned() + u64::from(name == "b");
        let span = SpanRecord::new(Span {
            trace_id: trace_id.to_be_bytes().to_vec(),
            span_id: vec![name.as_bytes()[0]; 8],
            name: name.to_owned(),
            start_time_unix_nano: start,
            end_time_unix_nano: start + 5_000_000_000,
            ..Span::default()
        });
        let server = ServerName::new(server).unwrap();
        batch.push(&server, &Record::Span(Box::new(span))).unwrap();
    }
}

/// A time as DuckDB prints it.
fn time(at: Timestamp) -> String {
    let text = at.to_string();
    text.trim_end_matches('Z').replace('T', " ")
}

#[test]
fn as_the_library_does() {
    let machines = [Home::new(), Home::new()];
    let lake = tempfile::tempdir().unwrap();
    let mut stores = Vec::new();
    for (number, home) in (0..).zip(&machines) {
        fill(home, number);
        export(home, lake.path());
        let store = Store::open_read_only(home.path(), "gw", StoreOptions::default());
        stores.push(store.unwrap().unwrap());
    }
    let Some(answers) = answers(lake.path()) else {
        return;
    };
    assert_eq!(json!(answers[0]), json!(errors(&stores)));
    assert_eq!(json!(rounded(&answers[2])), json!(usage(&stores)));
    assert_eq!(records(&answers[3]), trace(&stores[0]));
    assert_eq!(
        answers[3].last().unwrap()[1..3],
        [json!("failed"), json!("ERROR")]
    );
    // The second machine is silent on the last day.
    let found: Vec<Json> = answers[4].iter().map(|row| json!(row[1..])).collect();
    assert_eq!(json!(found), json!(last_logs(&stores[1])));
    assert!(answers[4].iter().all(|row| row[0].is_string()));
}

#[test]
fn percentiles_as_the_library_does() {
    // A percentile is that of all calls, so one machine is asked.
    let home = Home::new();
    let lake = tempfile::tempdir().unwrap();
    fill(&home, 0);
    export(&home, lake.path());
    let Some(answers) = answers(lake.path()) else {
        return;
    };
    let store = Store::open_read_only(home.path(), "gw", StoreOptions::default());
    let tools = store
        .unwrap()
        .unwrap()
        .tools(&CallQuery::new(Query::new(Signal::Traces)));
    let tools = tools.unwrap().tools;
    assert!(tools.len() > 10 && tools.iter().all(|tool| tool.is_exact));
    let mut expected: Vec<_> = tools
        .iter()
        .map(|it| {
            let nanos = u64::try_from(it.percentile_95.unwrap().as_nanos()).unwrap();
            (
                Reverse(nanos),
                it.server.to_string(),
                it.tool.clone(),
                it.calls,
                it.errors,
            )
        })
        .collect();
    expected.sort();
    let expected: Vec<Json> = expected
        .into_iter()
        .map(|(nanos, server, tool, calls, errors)| json!([server, tool, calls, errors, nanos.0]))
        .collect();
    assert_eq!(json!(answers[1]), json!(expected));
}

fn export(home: &Home, lake: &Path) {
    let done = home.run(&["export-parquet", "gw", "--out", lake.to_str().unwrap()]);
    assert_eq!(done.code, 0, "{done:?}");
}

/// The errors of each server, hour by hour.
fn errors(stores: &[Store]) -> Vec<Json> {
    let mut errors: BTreeMap<(String, String), u64> = BTreeMap::new();
    for store in stores {
        let hour = Interval::every(Duration::from_secs(3600)).unwrap();
        let by = [CountBy::Interval(hour), CountBy::Server];
        let query = Query::new(Signal::Logs).level_at_least(Level::ERROR);
        for row in store.count(&query, &by).unwrap().rows {
            let key = (time(row.time.unwrap()), row.server.unwrap().to_string());
            *errors.entry(key).or_default() += row.count;
        }
    }
    let rows = errors.into_iter();
    rows.map(|((hour, server), count)| json!([hour, server, count]))
        .collect()
}

/// The tokens and the micro-USD of each server, day by day.
fn usage(stores: &[Store]) -> Vec<Json> {
    let mut usage: BTreeMap<(String, String), (i64, i64)> = BTreeMap::new();
    for store in stores {
        let query = UsageQuery::new().by(UsageBy::Day).by(UsageBy::Server);
        for row in store.usage(&query).unwrap().rows {
            let day = row.time.unwrap().to_string()[..10].to_owned();
            let counted = usage
                .entry((day, row.server.unwrap().to_string()))
                .or_default();
            counted.0 += row.counts.tokens.input_tokens + row.counts.tokens.output_tokens;
            let cost = row.counts.cost.unwrap_or_default();
            counted.1 += cost.input_micro_usd + cost.cache_read_micro_usd;
        }
    }
    let rows = usage.into_iter();
    rows.map(|((day, server), (tokens, micros))| {
        json!([day, server, tokens.to_string(), micros.to_string()])
    })
    .collect()
}

/// The same, of doubles.
fn rounded(rows: &[Vec<Json>]) -> Vec<Json> {
    let number = |value: &Json, factor: f64| format!("{:.0}", value.as_f64().unwrap() * factor);
    rows.iter()
        .map(|row| json!([row[0], row[1], number(&row[2], 1.0), number(&row[3], 1e6)]))
        .collect()
}

/// The names of the spans of the trace and the messages of its logs, with their status and level.
fn trace(store: &Store) -> Vec<(String, String)> {
    let trace = store.trace(TRACE).unwrap().unwrap();
    let records = trace
        .entries
        .iter()
        .map(|entry| match &entry.stored.record {
            Record::Log(log) => (log.message.clone(), log.level.to_string()),
            record => {
                let span = record.clone().into_span().unwrap().span;
                (span.name, "Unset".to_owned())
            }
        });
    let mut records: Vec<_> = records.collect();
    assert_eq!(records.len(), 4);
    records.sort();
    records
}

fn records(rows: &[Vec<Json>]) -> Vec<(String, String)> {
    let text = |value: &Json| value.as_str().unwrap().to_owned();
    let mut records: Vec<_> = rows
        .iter()
        .map(|row| (text(&row[1]), text(&row[2])))
        .collect();
    records.sort();
    records
}

/// The last log of each server of a machine.
fn last_logs(store: &Store) -> Vec<Json> {
    let snapshot = store.snapshot().unwrap();
    let instance = format!("{:016x}", snapshot.database_id().unwrap().unwrap());
    let series = snapshot.inventory(None).unwrap();
    let mut rows: Vec<Json> = series
        .iter()
        .filter(|series| series.signal == Signal::Logs)
        .map(|it| {
            json!([
                instance,
                it.server.as_str(),
                it.record_count,
                time(it.newest_time)
            ])
        })
        .collect();
    rows.sort_by_key(|row| row[3].to_string());
    rows
}
