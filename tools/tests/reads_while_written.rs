//! Every command works on a stack to which another process appends 10,000 records a second, and which is
//! killed and restarted meanwhile.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Helper, Home, helper_arguments, say};
use gridctl_telemetry::{
    Level, LogRecord, MetricsSnapshot, ServerName, SpanRecord, Store, StoreOptions, Timestamp,
    Writer, WriterOptions,
    external::opentelemetry_proto::tonic::{
        common::v1::{AnyValue, KeyValue, any_value::Value as Any},
        trace::v1::Span,
    },
};
use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

const SERVERS: [&str; 3] = ["github", "slack", "jira"];
/// Records a second, and a batch of them.
const RATE: u64 = 10_000;
const BATCH: u64 = 100;

/// Commands, and the exit codes that they may have. None changes the records of `github`.
///
/// Nothing is found by commands that look for a record that need not be there.
const COMMANDS: &[(&[&str], &[i32])] = &[
    (&["status"], &[0]),
    (&["status", "--json"], &[0]),
    (&["logs", "-n", "100"], &[0]),
    (&["logs", "-r", "-n", "100", "-o", "json"], &[0]),
    (
        &["logs", "github", "-l", "error", "-C", "2", "-n", "50"],
        &[0],
    ),
    (
        &[
            "logs",
            "--field",
            "number>=1000",
            "-g",
            "call",
            "-n",
            "5",
            "-o",
            "verbose",
        ],
        &[0],
    ),
    (&["logs", "--since", "2s", "-o", "otlp"], &[0]),
    (
        &["logs", "--trace", "00000000000000000000000000000001"],
        &[0],
    ),
    (&["logs", "--signal", "traces", "-n", "10"], &[0]),
    (&["logs", "--signal", "metrics", "-n", "10"], &[0]),
    (&["logs", "-g", "no such word"], &[1]),
    (&["tail"], &[0]),
    (&["tail", "slack", "jira", "-n", "20"], &[0]),
    (&["traces", "-n", "5"], &[0]),
    (&["traces", "--slowest", "3", "--since", "1m"], &[0]),
    (&["trace", "0000000000000000000000000000000a"], &[0]),
    (&["calls"], &[0]),
    (&["calls", "--slowest", "-n", "3"], &[0]),
    (&["usage"], &[0]),
    (&["usage", "--by", "tool,hour", "--json"], &[0]),
    (&["count"], &[0]),
    (&["count", "--by", "10s,server", "--since", "1m"], &[0]),
    (&["count", "-l", "error", "--by", "field:number"], &[0]),
    (
        &[
            "export-jsonl",
            "--stack",
            "gw",
            "--signal",
            "metrics",
            "--stdout",
        ],
        &[0],
    ),
    (&["losses"], &[0, 1]),
    (&["losses", "--since", "1m", "--json"], &[0, 1]),
    (&["wipe", "gw", "slack", "-y", "--before", "1s"], &[0]),
    (&["compact"], &[0]),
];

/// A daemon that appends records of all signals until it is killed.
#[test]
fn helper_appends() {
    let Some(arguments) = helper_arguments() else {
        return;
    };
    let [home, first] = &arguments[..] else {
        panic!("{arguments:?}");
    };
    let store = Store::open(Path::new(home), "gw", StoreOptions::default()).unwrap();
    let (writer, _guard) = Writer::start(&store, WriterOptions::default()).unwrap();
    let servers = SERVERS.map(|name| ServerName::new(name).unwrap());
    let begun = Instant::now();
    let first: u64 = first.parse().unwrap();
    for number in first.. {
        let server = &servers[usize::try_from(number % 3).unwrap()];
        let level = if number % 100 == 0 {
            Level::ERROR
        } else {
            Level::INFO
        };
        let record = LogRecord::new(Timestamp::now(), level, format!("call {number}"))
            .with("number", number)
            .with("trace_id", format!("{:032x}", number / 10));
        // A queue that is full, because the machine is busy, drops the record and counts it.
        let _ = writer.log(server, &record);
        if number % BATCH != 0 {
            continue;
        }
        let now = Timestamp::now().unix_nanos().cast_unsigned();
        let span = Span {
            trace_id: (u128::from(number) / 10).to_be_bytes().to_vec(),
            span_id: (number + 1).to_be_bytes().to_vec(),
            name: "tools/call".into(),
            start_time_unix_nano: now - 1_000_000,
            end_time_unix_nano: now,
            attributes: vec![KeyValue {
                key: "tool".into(),
                value: Some(AnyValue {
                    value: Some(Any::StringValue("search".into())),
                }),
                ..KeyValue::default()
            }],
            ..Span::default()
        };
        let _ = writer.span(server, &SpanRecord::new(span));
        let mut counters = MetricsSnapshot::new(Timestamp::now());
        counters.diff.input_tokens = 1;
        counters.diff.total_tokens = 1;
        let _ = writer.metrics(server, &counters);
        if number == first + BATCH * 10 - first % BATCH {
            writer.flush().unwrap();
            say(number);
        }
        // The pace, not a wait for an event.
        let due = begun + Duration::from_millis((number - first) * 1000 / RATE);
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

fn start(home: &Home, first: u64) -> Helper {
    let mut daemon = Helper::start(
        "helper_appends",
        &[home.path().to_str().unwrap(), &first.to_string()],
    );
    daemon.heard();
    daemon
}

#[test]
fn every_command_works_while_a_daemon_appends_and_is_killed() {
    let home = Home::new();
    let mut daemon = start(&home, 0);
    let mut tail = home.start(&["tail", "-f", "-n0", "-o", "cat", "-g", "call"]);
    let folder = tempfile::tempdir().unwrap();
    let cursor = folder.path().join("cursor");
    let cursor = cursor.to_str().unwrap();
    let mut paged = Vec::new();
    let mut page = |home: &Home| {
        let args = ["logs", "github", "-o", "cat", "--cursor-file", cursor];
        let shown = home.run(&args);
        assert!([0, 1].contains(&shown.code), "{shown:?}");
        paged.extend(shown.stdout.lines().map(str::to_owned));
    };
    for round in 1..=2 {
        for (number, (args, codes)) in COMMANDS.iter().enumerate() {
            if number == COMMANDS.len() / 2 {
                daemon.kill();
                daemon = start(&home, round * 10_000_000);
            }
            let shown = home.run(args);
            let is_clean = !shown.stderr.contains("panicked");
            assert!(
                codes.contains(&shown.code) && is_clean,
                "{args:?}: {shown:?}"
            );
            tail.line();
        }
        page(&home);
    }
    daemon.kill();
    // The next one that opens it to write recovers the records that waited for their commit.
    Store::open(home.path(), "gw", StoreOptions::default()).unwrap();
    page(&home);
    // Page by page, each record once.
    let mut all: Vec<String> = home
        .run(&["logs", "github", "-o", "cat"])
        .stdout
        .lines()
        .map(str::to_owned)
        .collect();
    all.sort_unstable();
    paged.sort_unstable();
    assert!(all == paged, "{} and {}", all.len(), paged.len());
    assert!(all.len() > 1000, "{}", all.len());
    assert_eq!(tail.interrupt().0, 0);
}
