//! The records that a daemon fills its buffers with after a restart, and the live records that follow
//! them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use gridctl_telemetry::{
    Level, LogRecord, Query, ServerName, Signal, SpanRecord, Store, StoreOptions, Timestamp,
    Writer, WriterOptions, query::ScopeFilter, testing::DiskOperation,
};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    trace::v1::{Span, Status},
};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

fn name(server: &str) -> ServerName {
    ServerName::new(server).unwrap()
}

fn log(nanos: i64, message: &str) -> LogRecord {
    LogRecord::new(Timestamp::from_unix_nanos(nanos), Level::INFO, message)
}

fn span(trace: u8, id: u8, end: u64, failed: bool) -> SpanRecord {
    SpanRecord::new(Span {
        trace_id: vec![trace; 16],
        span_id: vec![id; 8],
        end_time_unix_nano: end,
        status: failed.then(|| Status {
            code: 2,
            ..Status::default()
        }),
        ..Span::default()
    })
}

#[test]
fn the_newest_logs_come_merged_by_time_and_oldest_first() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path(), "gw", StoreOptions::default()).unwrap();
    let (writer, guard) = Writer::start(&store, WriterOptions::default()).unwrap();
    // Servers take turns, and times are out of order.
    for number in 0..100 {
        let nanos = (number * 37) % 100;
        let server = name(["github", "jira", "slack"][usize::try_from(number).unwrap() % 3]);
        writer
            .log(&server, &log(nanos, &format!("at {nanos}")))
            .unwrap();
    }
    guard.close().unwrap();
    let store = Store::open(home.path(), "gw", StoreOptions::default()).unwrap();
    let seed = store.seed_logs(10).unwrap();
    let messages: Vec<_> = seed
        .records
        .iter()
        .map(|(_, record)| record.message.clone())
        .collect();
    assert_eq!(
        messages,
        (90..100)
            .map(|nanos| format!("at {nanos}"))
            .collect::<Vec<_>>()
    );
    let servers: BTreeSet<_> = seed
        .records
        .iter()
        .map(|(server, _)| server.as_str())
        .collect();
    assert_eq!(servers.len(), 3);
    assert_eq!(store.seed_logs(1000).unwrap().records.len(), 100);
}

#[test]
fn traces_come_whole_with_their_error_state() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path(), "gw", StoreOptions::default()).unwrap();
    let (writer, guard) = Writer::start(&store, WriterOptions::default()).unwrap();
    let spans = [
        ("github", span(1, 1, 10, false)),
        ("jira", span(2, 2, 20, false)),
        ("github", span(2, 3, 30, true)),
        ("github", span(1, 4, 40, false)),
        ("jira", span(3, 5, 50, false)),
        // A span that succeeds after one that failed.
        ("github", span(2, 6, 60, false)),
    ];
    for (server, span) in &spans {
        writer.span(&name(server), span).unwrap();
    }
    guard.close().unwrap();
    let traces = store.seed_traces(100).unwrap().records;
    let shown: Vec<_> = traces
        .iter()
        .map(|trace| {
            let spans: Vec<u8> = trace
                .spans
                .iter()
                .map(|(_, span)| span.span.span_id[0])
                .collect();
            (trace.trace_id[0], trace.is_error, spans)
        })
        .collect();
    assert_eq!(
        shown,
        [
            (1, false, vec![1, 4]),
            (2, true, vec![2, 3, 6]),
            (3, false, vec![5])
        ]
    );
    assert_eq!(traces[1].spans[0].0, name("jira"), "a span has its server");
}

#[test]
fn of_a_trace_that_reaches_far_back_the_newest_spans_come() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path(), "gw", StoreOptions::default()).unwrap();
    let (writer, _guard) = Writer::start(&store, WriterOptions::default()).unwrap();
    for id in 0..30 {
        let span = span(id % 3, id, u64::from(id), false);
        writer.span(&name("github"), &span).unwrap();
    }
    writer.flush().unwrap();
    let ids = |count| -> Vec<Vec<u8>> {
        let seed = store.seed_traces(count).unwrap();
        let traces = seed.records.into_iter();
        traces
            .map(|trace| {
                let spans = trace.spans.iter();
                spans.map(|(_, span)| span.span.span_id[0]).collect()
            })
            .collect()
    };
    assert_eq!(ids(5), [vec![25, 28], vec![26, 29], vec![27]]);
    assert_eq!(ids(1), [[29]]);
    assert_eq!(ids(0), [[0; 0]; 0]);
}

#[test]
fn a_trace_says_whether_the_limit_cut_it() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path(), "gw", StoreOptions::default()).unwrap();
    let (writer, _guard) = Writer::start(&store, WriterOptions::default()).unwrap();
    let minute = 60_000_000_000;
    // Trace 1 has the oldest span and the newest one, trace 2 all of its spans in between.
    for (trace, id, end) in [(1, 1, 10), (3, 2, 11), (2, 3, 12), (2, 4, 13), (1, 5, 14)] {
        let mut span = span(trace, id, end * minute, false);
        span.span.start_time_unix_nano = 9 * minute;
        writer.span(&name("github"), &span).unwrap();
    }
    writer.flush().unwrap();
    let cut = |count| -> Vec<(u8, bool)> {
        let traces = store.seed_traces(count).unwrap().records.into_iter();
        traces
            .map(|trace| (trace.trace_id[0], trace.is_cut))
            .collect()
    };
    assert_eq!(cut(5), [(1, false), (3, false), (2, false)]);
    assert_eq!(cut(4), [(3, false), (2, false), (1, true)]);
    assert_eq!(cut(3), [(2, false), (1, true)]);
    assert_eq!(cut(2), [(2, true), (1, true)]);
    assert_eq!(cut(0), []);
}

#[test]
fn traces_are_chosen_by_scope_and_know_their_tool_and_client() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path(), "gw", StoreOptions::default()).unwrap();
    let (writer, _guard) = Writer::start(&store, WriterOptions::default()).unwrap();
    let attribute = |key: &str, text: &str| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(any_value::Value::StringValue(text.to_owned())),
        }),
        ..KeyValue::default()
    };
    let scopes = [
        Some("gridctl.gateway"),
        Some("hyper"),
        None,
        Some("gridctl.gateway"),
    ];
    for (id, scope) in (1..).zip(scopes) {
        let mut span = span(id % 4, id, u64::from(id), false);
        if id == 1 {
            span.span.attributes = vec![
                attribute("tool", "other"),
                attribute("tool.name", "search"),
                attribute("client", "session-1"),
            ];
        }
        let scope = scope.map(|name| InstrumentationScope {
            name: name.to_owned(),
            ..InstrumentationScope::default()
        });
        let span = span.scope(scope, String::new());
        writer.span(&name("github"), &span).unwrap();
    }
    writer.flush().unwrap();
    let ids = |scopes, count| -> Vec<u8> {
        let seed = store.seed_traces_of(&scopes, count).unwrap();
        let traces = seed.records.into_iter();
        traces
            .map(|trace| trace.spans[0].1.span.span_id[0])
            .collect()
    };
    assert_eq!(ids(ScopeFilter::All, 10), [1, 2, 3, 4]);
    assert_eq!(ids(ScopeFilter::gridctl(), 10), [1, 4]);
    // The limit counts the spans that are wanted.
    assert_eq!(ids(ScopeFilter::gridctl(), 2), [1, 4]);
    assert_eq!(ids(ScopeFilter::gridctl(), 1), [4]);
    let traces = store.seed_traces(10).unwrap().records;
    assert_eq!(traces[0].tool.as_deref(), Some("search"));
    assert_eq!(traces[0].client.as_deref(), Some("session-1"));
    assert_eq!((&traces[1].tool, &traces[1].client), (&None, &None));
}

#[test]
fn a_store_without_records_seeds_nothing_and_says_where_it_begins() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path(), "gw", StoreOptions::default()).unwrap();
    let (logs, traces) = (store.seed_logs(10).unwrap(), store.seed_traces(10).unwrap());
    assert!(logs.records.is_empty() && traces.records.is_empty());
    let (writer, _guard) = Writer::start(&store, WriterOptions::default()).unwrap();
    writer.log(&name("github"), &log(1, "the first")).unwrap();
    writer.flush().unwrap();
    let since = |sequence| {
        let query = Query::new(Signal::Logs).since_sequence(sequence);
        store.scan(&query).unwrap().count()
    };
    assert_eq!(since(logs.next_sequence), 1);
    assert_eq!(since(store.seed_logs(10).unwrap().next_sequence), 0);
}

#[test]
fn a_commit_in_the_middle_of_seeding_is_history_or_live_and_not_both() {
    let offer = |writer: &Writer, number: u8| {
        let nanos = i64::from(number);
        writer.log(&name("github"), &log(nanos, "one")).unwrap();
        let span = span(number, number, u64::from(number), false);
        writer.span(&name("jira"), &span).unwrap();
    };
    // No commit can finish while a snapshot begins: the flush does not wait for that.
    let options = WriterOptions::default().flush_timeout(Duration::from_millis(100));
    let flush = |writer: &Writer| while writer.flush().is_err() {};
    // The number of records of history, and the sequence at which live data begins.
    let seed = |store: &Store, signal| {
        if signal == Signal::Logs {
            let seed = store.seed_logs(100).unwrap();
            (seed.records.len(), seed.next_sequence)
        } else {
            let seed = store.seed_traces(100).unwrap();
            (seed.records.len(), seed.next_sequence)
        }
    };
    for signal in [Signal::Logs, Signal::Traces] {
        // Once for each time that seeding reads the file.
        for read in 0.. {
            let home = tempfile::tempdir().unwrap();
            let store = Store::open(home.path(), "gw", StoreOptions::default()).unwrap();
            let (writer, _guard) = Writer::start(&store, options.clone()).unwrap();
            (0..10).for_each(|number| offer(&writer, number));
            flush(&writer);

            let reads_left = Arc::new(AtomicUsize::new(usize::MAX));
            let committed = Arc::new(AtomicBool::new(false));
            let hook = {
                let (reads_left, committed) = (Arc::clone(&reads_left), Arc::clone(&committed));
                let writer = writer.clone();
                move |operation: DiskOperation<'_>| {
                    if matches!(operation, DiskOperation::Read { .. })
                        && reads_left.fetch_sub(1, Ordering::Relaxed) == 0
                    {
                        offer(&writer, 10);
                        let _ = writer.flush();
                        committed.store(true, Ordering::Relaxed);
                    }
                    Ok(())
                }
            };
            // Opened again, as another process does it, so that the file is read and not memory.
            let options = StoreOptions::default().disk_hook(hook);
            let reader = Store::open(home.path(), "gw", options).unwrap();
            reads_left.store(read, Ordering::Relaxed);
            let (history, next_sequence) = seed(&reader, signal);
            reads_left.store(usize::MAX, Ordering::Relaxed);
            if !committed.load(Ordering::Relaxed) {
                assert!(read > 0, "seeding read nothing");
                break;
            }
            flush(&writer);
            let query = Query::new(signal).since_sequence(next_sequence);
            let live = store.scan(&query).unwrap().count();
            assert_eq!(history + live, 11, "{signal}: a commit at read {read}");
        }
    }
}

#[test]
fn history_and_live_data_neither_overlap_nor_leave_a_gap() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path(), "gw", StoreOptions::default()).unwrap();
    let options = WriterOptions::default().tiering(50, 40, 32);
    let (writer, guard) = Writer::start(&store, options).unwrap();
    let github = name("github");
    let total = 3000;
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..total {
                // Some records are late: a new record is not always the newest.
                let nanos = if number % 5 == 0 { number / 7 } else { number };
                writer
                    .log(&github, &log(nanos, &format!("record {number}")))
                    .unwrap();
                if number % 20 == 0 {
                    writer.flush().unwrap();
                }
            }
            writer.flush().unwrap();
        });
        let mut seen = BTreeSet::new();
        let history = store.seed_logs(usize::MAX).unwrap();
        seen.extend(
            history
                .records
                .into_iter()
                .map(|(_, record)| record.message),
        );
        let mut next = history.next_sequence;
        while seen.len() < usize::try_from(total).unwrap() {
            let snapshot = store.snapshot().unwrap();
            let query = Query::new(Signal::Logs).since_sequence(next);
            for stored in snapshot.scan(&query).unwrap().records() {
                let message = stored.unwrap().record.into_log().unwrap().message;
                assert!(seen.insert(message.clone()), "{message} came twice");
            }
            next = snapshot.next_sequence().unwrap();
        }
    });
    guard.close().unwrap();
}
