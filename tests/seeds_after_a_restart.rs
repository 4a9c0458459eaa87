//! What a daemon fills its buffers with after a restart, and how live data goes on behind it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use gridctl_telemetry::{
    Level, LogRecord, Query, ServerName, Signal, SpanRecord, Store, StoreOptions, Timestamp,
    Writer, WriterOptions,
};
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use std::{collections::BTreeSet, thread};

fn name(server: &str) -> ServerName {
    ServerName::new(server).unwrap()
}

fn log(nanos: i64, message: &str) -> LogRecord {
    LogRecord::new(Timestamp::from_unix_nanos(nanos), Level::INFO, message)
}

fn span(trace: u8, id: u8, end: u64, failed: bool) -> SpanRecord {
    SpanRecord {
        span: Span {
            trace_id: vec![trace; 16],
            span_id: vec![id; 8],
            end_time_unix_nano: end,
            status: failed.then(|| Status {
                code: 2,
                ..Status::default()
            }),
            ..Span::default()
        },
        ..SpanRecord::default()
    }
}

#[test]
fn the_newest_logs_come_merged_by_time_and_oldest_first() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path(), "gw", StoreOptions::default()).unwrap();
    let (writer, guard) = Writer::start(&store, &WriterOptions::default()).unwrap();
    // Servers in turns, the times in no order.
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
    let (writer, guard) = Writer::start(&store, &WriterOptions::default()).unwrap();
    let spans = [
        ("github", span(1, 1, 10, false)),
        ("jira", span(2, 2, 20, false)),
        ("github", span(2, 3, 30, true)),
        ("github", span(1, 4, 40, false)),
        ("jira", span(3, 5, 50, false)),
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
            (2, true, vec![2, 3]),
            (3, false, vec![5])
        ]
    );
    assert_eq!(
        traces[1].spans[0].0,
        name("jira"),
        "a span says whose it is"
    );
}

#[test]
fn history_and_live_data_neither_overlap_nor_leave_a_gap() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path(), "gw", StoreOptions::default()).unwrap();
    let options = WriterOptions::default().tiering(50, 40, 32);
    let (writer, guard) = Writer::start(&store, &options).unwrap();
    let github = name("github");
    let total = 3000;
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..total {
                // Late ones among them: what is new is not always what is newest.
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
            let query = Query::new(Signal::Logs).arrived_from(next);
            for stored in snapshot.scan(&query).unwrap().records() {
                let message = stored.unwrap().record.into_log().unwrap().message;
                assert!(seen.insert(message.clone()), "{message} came twice");
            }
            next = snapshot.next_sequence().unwrap();
        }
    });
    guard.close().unwrap();
}
