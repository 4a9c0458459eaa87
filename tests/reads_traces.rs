//! Traces and calls of tools: the spans and logs of many servers, put together again.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{home_in_memory, on_demand, open, server};
use gridctl_telemetry::{
    Error, Level, LogRecord, Query, Record, Signal, SpanRecord, Store, Timestamp, Writer,
    WriterGuard,
    query::{
        CallQuery, ErrorSource, Filter, TextPattern, ToolStats, Trace, TracePlace, TraceQuery,
        TraceSummary, TraceTree,
    },
};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value},
    trace::v1::{Span, Status, span::Event},
};
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tempfile::TempDir;

const SECOND: u64 = 1_000_000_000;
/// The beginning of all times here.
const BEGIN: u64 = 1_700_000_000 * SECOND;

fn at(nanos: u64) -> Timestamp {
    Timestamp::from_unix_nanos((BEGIN + nanos).cast_signed())
}

fn id(trace: u8) -> String {
    format!("{trace:02x}").repeat(16)
}

/// A span of a trace, from and to these nanoseconds.
fn span(trace: u8, id: u8, parent: u8, from: u64, to: u64) -> SpanRecord {
    let id_of = |id: u8| if id == 0 { Vec::new() } else { vec![id; 8] };
    SpanRecord::new(Span {
        trace_id: vec![trace; 16],
        span_id: id_of(id),
        parent_span_id: id_of(parent),
        name: format!("span {id}"),
        start_time_unix_nano: BEGIN + from,
        end_time_unix_nano: BEGIN + to,
        ..Span::default()
    })
}

fn text(key: &str, text: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(any_value::Value::StringValue(text.to_owned())),
        }),
        ..KeyValue::default()
    }
}

fn failed(mut span: SpanRecord, message: &str) -> SpanRecord {
    span.span.status = Some(Status {
        code: 2,
        message: message.to_owned(),
    });
    span
}

fn with(mut span: SpanRecord, key: &str, value: &str) -> SpanRecord {
    span.span.attributes.push(text(key, value));
    span
}

struct Daemon {
    _home: TempDir,
    store: Store,
    writer: Writer,
    _guard: WriterGuard,
}

impl Daemon {
    fn start() -> Daemon {
        let home = home_in_memory();
        let store = open(home.path());
        let (writer, guard) = Writer::start(&store, on_demand()).unwrap();
        Daemon {
            _home: home,
            store,
            writer,
            _guard: guard,
        }
    }

    fn with(spans: &[(&str, SpanRecord)]) -> Daemon {
        let daemon = Daemon::start();
        for (name, span) in spans {
            daemon.writer.span(&server(name), span).unwrap();
        }
        daemon.writer.flush().unwrap();
        daemon
    }

    fn log(&self, name: &str, nanos: u64, level: Level, message: &str, ids: [&str; 2]) {
        let mut log = LogRecord::new(at(nanos), level, message);
        for (key, id) in ["trace_id", "span_id"].into_iter().zip(ids) {
            if !id.is_empty() {
                log = log.with(key, id);
            }
        }
        self.writer.log(&server(name), &log).unwrap();
        self.writer.flush().unwrap();
    }

    fn trace(&self, id: &str) -> Trace {
        let trace = self.store.trace(id).unwrap().expect("the trace");
        let tree = self.store.trace_tree(id).unwrap().expect("the tree");
        assert_eq!((&tree.summary, tree.logs), (&trace.summary, trace.logs));
        if !trace.is_cut {
            assert_same_tree(&tree, &trace);
        }
        trace
    }

    fn list(&self, query: &TraceQuery, count: usize) -> (String, bool) {
        let list = self.store.traces(query, count).unwrap();
        let ids = list.traces.iter().map(|trace| &trace.trace_id[..2]);
        (ids.collect::<Vec<_>>().join(" "), list.has_more)
    }
}

/// A tree of encoded records is that of the decoded ones.
fn assert_same_tree(tree: &TraceTree, trace: &Trace) {
    assert_eq!(tree.nodes.len(), trace.entries.len());
    for (number, (node, entry)) in tree.nodes.iter().zip(&trace.entries).enumerate() {
        assert_eq!((node.depth, node.place), (entry.depth, entry.place));
        assert_eq!(tree.record(node).to_stored().unwrap(), entry.stored);
        let after = &trace.entries[number + 1..];
        let below = after.iter().take_while(|after| after.depth > node.depth);
        assert_eq!(node.below, below.count());
        let is_error = match &entry.stored.record {
            Record::Span(span) => span.is_error(),
            Record::Log(log) => log.level >= Level::ERROR,
            other => panic!("{other:?}"),
        };
        assert_eq!(node.is_error, is_error);
    }
}

/// Each entry in one line: its indent, its mark, its name.
fn shown(trace: &Trace) -> Vec<String> {
    (trace.entries.iter())
        .map(|entry| {
            let mark = match entry.place {
                TracePlace::Orphan => "?",
                TracePlace::Cycle => "@",
                _ => "",
            };
            let name = match &entry.stored.record {
                Record::Span(record) => &record.span.name,
                Record::Log(log) => &log.message,
                other => panic!("{other:?}"),
            };
            format!("{}{mark}{name}", " ".repeat(entry.depth))
        })
        .collect()
}

fn all() -> Query {
    Query::new(Signal::Traces)
}

#[test]
fn a_trace_is_a_tree_of_all_servers_with_its_logs_in_place() {
    let daemon = Daemon::with(&[
        ("github", span(0xa1, 3, 2, 20, 30)),
        ("gateway", span(0xa1, 1, 0, 0, 100)),
        ("github", failed(span(0xa1, 2, 1, 10, 40), "denied")),
        ("slack", span(0xa1, 5, 9, 50, 60)),
        ("github", span(0xa2, 1, 0, 0, 100)),
    ]);
    let [trace_id, upper] = [id(0xa1), id(0xa1).to_uppercase()];
    let log = |nanos: u64, message: &str, ids: [&str; 2]| {
        daemon.log("github", nanos, Level::INFO, message, ids);
    };
    log(25, "in span 3", [&trace_id, &"03".repeat(8)]);
    log(35, "after span 3", [&upper, &"02".repeat(8)]);
    log(38, "without a span", [&trace_id, ""]);
    log(500, "too late", [&trace_id, &"77".repeat(8)]);
    log(25, "of another trace", [&id(0xa2), ""]);

    let trace = daemon.trace(&trace_id);
    assert_eq!(
        shown(&trace),
        [
            "span 1",
            " span 2",
            "  span 3",
            "   in span 3",
            "  after span 3",
            "  without a span",
            "?span 5",
            "too late",
        ]
    );
    let summary = &trace.summary;
    assert_eq!((summary.spans, summary.errors, trace.logs), (4, 1, 4));
    assert_eq!((&*summary.name, &*summary.server), ("span 1", "gateway"));
    assert_eq!((summary.start, summary.end), (at(0), at(100)));
    assert_eq!(summary.duration, Duration::from_nanos(100));
    assert_eq!(summary.servers, ["gateway", "github", "slack"].map(server));
    assert!(!trace.is_cut && !summary.is_rootless);
}

#[test]
fn a_part_of_an_id_finds_a_trace_or_names_those_that_it_may_be() {
    let daemon = Daemon::with(&[
        ("github", span(0x12, 1, 0, 0, 10)),
        ("github", span(0x21, 1, 0, 0, 10)),
        ("slack", span(0xcd, 1, 0, 0, 10)),
    ]);
    daemon.log("github", 5, Level::INFO, "alone", [&id(0xef), ""]);
    let found = |part: &str| daemon.store.trace(part).unwrap();
    let found_id = |part: &str| found(part).map(|trace| trace.summary.trace_id);
    assert_eq!(found_id("CDC"), Some(id(0xcd)));
    assert_eq!(found_id("dcd"), Some(id(0xcd)));
    assert_eq!(found_id(&id(0x12)), Some(id(0x12)));
    // Both have it, and one begins with it.
    assert_eq!(found_id("12"), Some(id(0x12)));
    assert_eq!(found_id("77"), None);
    assert_eq!(found_id(&id(0x77)), None);
    assert!(matches!(
        daemon.store.trace("an id"),
        Err(Error::InvalidFilter { .. })
    ));
    // Only a log has it.
    let trace = found("ef").unwrap();
    assert_eq!(shown(&trace), ["alone"]);
    assert_eq!((trace.summary.spans, trace.logs), (0, 1));
    assert_eq!(trace.summary.start, at(5));

    daemon.log(
        "github",
        5,
        Level::INFO,
        "one more",
        [&format!("12{}", "0".repeat(30)), ""],
    );
    let error = daemon.store.trace("12").unwrap_err();
    assert!(
        matches!(&error, Error::AmbiguousTraceId { ids, has_more: false, .. } if ids.len() == 2),
        "{error}"
    );
    assert!(error.to_string().contains(&id(0x12)), "{error}");
}

#[test]
fn a_huge_trace_is_counted_whole_and_says_that_it_was_cut() {
    let daemon = Daemon::start();
    let count = Trace::RECORDS_MAX as u64 + 100;
    for number in 0..count {
        let mut span = span(0xa1, 0, 7, number, number + 1);
        span.span.span_id = number.to_be_bytes().to_vec();
        daemon.writer.span(&server("github"), &span).unwrap();
        if number % 5000 == 0 {
            daemon.writer.flush().unwrap();
        }
    }
    let root = span(0xa1, 7, 0, 0, count + 1);
    daemon.writer.span(&server("gateway"), &root).unwrap();
    daemon.writer.flush().unwrap();
    let trace = daemon.trace(&id(0xa1));
    assert!(trace.is_cut);
    assert_eq!(trace.summary.spans, count + 1);
    assert_eq!(trace.entries.len(), Trace::RECORDS_MAX);
    assert_eq!(&*trace.summary.server, "gateway");
    assert!(trace.entries[1..].iter().all(|entry| entry.depth == 1));
    let tree = daemon.store.trace_tree(&id(0xa1)).unwrap().unwrap();
    assert!(!tree.is_cut);
    assert_eq!(tree.nodes.len() as u64, count + 1);
    assert_eq!(tree.nodes[0].below as u64, count);
}

#[test]
fn traces_are_listed_by_what_a_span_says_and_counted_whole() {
    let daemon = Daemon::with(&[
        ("gateway", span(0xa1, 1, 0, 0, 100)),
        ("github", failed(span(0xa1, 2, 1, 10, 40), "denied")),
        (
            "gateway",
            with(span(0xa2, 1, 0, 200, 250), "tool", "search"),
        ),
        // It began before its parent, as clocks differ.
        ("slack", span(0xa2, 2, 1, 190, 900)),
        ("slack", span(0xa3, 2, 9, 300, 310)),
    ]);
    let query = TraceQuery::new(all());
    let list = |query: TraceQuery| daemon.list(&query, 10).0;
    assert_eq!(daemon.list(&query, 10), ("a2 a3 a1".into(), false));
    assert_eq!(daemon.list(&query, 3), ("a2 a3 a1".into(), false));
    assert_eq!(daemon.list(&query, 2), ("a2 a3".into(), true));
    assert_eq!(daemon.list(&query, 0), (String::new(), true));
    assert_eq!(list(query.clone().slowest_first()), "a2 a1 a3");
    assert_eq!(list(query.clone().only_failed()), "a1");
    let at_least = |nanos| list(query.clone().duration_at_least(Duration::from_nanos(nanos)));
    assert_eq!(at_least(100), "a2 a1");
    assert_eq!(at_least(101), "a2");
    assert_eq!(
        list(TraceQuery::new(all().server(server("slack")))),
        "a2 a3"
    );
    let denied = Filter::text(TextPattern::substring("denied").unwrap());
    assert_eq!(list(TraceQuery::new(all().filter(denied))), "a1");
    assert_eq!(list(TraceQuery::new(all().range(at(50)..at(300)))), "a2 a1");

    let of_slack = TraceQuery::new(all().server(server("slack")));
    let traces = daemon.store.traces(&of_slack, 10).unwrap().traces;
    let [a2, a3] = &traces[..] else {
        panic!("{traces:?}")
    };
    assert_eq!(
        (a2.spans, a2.tool.as_deref(), a2.is_rootless),
        (2, Some("search"), false)
    );
    assert_eq!(a2.servers, ["gateway", "slack"].map(server));
    assert_eq!((a2.start, a2.end), (at(190), at(900)));
    assert_eq!((&*a2.name, &*a2.server), ("span 1", "gateway"));
    assert_eq!((&*a3.name, a3.is_rootless), ("span 2", true));
}

#[test]
fn the_newest_of_many_traces_come_first() {
    let daemon = Daemon::start();
    for number in 0..12_000_u64 {
        // The third is the slowest.
        let took = if number == 2 { 2 * SECOND } else { SECOND };
        let mut span = span(0, 1, 0, number * SECOND, number * SECOND + took);
        span.span.trace_id = u128::from(number + 1).to_be_bytes().to_vec();
        daemon.writer.span(&server("github"), &span).unwrap();
        if number % 5000 == 0 {
            daemon.writer.flush().unwrap();
        }
    }
    daemon.writer.flush().unwrap();
    let first = |query: &TraceQuery, count| -> Vec<u128> {
        let list = daemon.store.traces(query, count).unwrap();
        assert!(list.has_more && !list.is_cut);
        let ids = list.traces.iter().map(|trace| &trace.trace_id);
        ids.map(|id| u128::from_str_radix(id, 16).unwrap())
            .collect()
    };
    let query = TraceQuery::new(all());
    assert_eq!(first(&query, 3), [12_000, 11_999, 11_998]);
    assert_eq!(first(&query.slowest_first(), 1), [3]);
}

#[test]
fn a_call_is_counted_once_however_many_spans_name_its_tool() {
    let tool = |span, tool| with(span, "tool.name", tool);
    let daemon = Daemon::with(&[
        // The gateway, something between, the client; and a tool that this one calls.
        ("gateway", tool(span(0xa1, 1, 0, 0, 100), "search")),
        ("github", span(0xa1, 2, 1, 10, 90)),
        ("github", tool(span(0xa1, 3, 2, 20, 80), "search")),
        ("github", tool(span(0xa1, 4, 3, 30, 70), "fetch")),
        // It ends after the call that it is in.
        ("gateway", tool(span(0xa2, 1, 0, 200, 250), "search")),
        ("github", tool(span(0xa2, 2, 1, 210, 300), "search")),
        // In a circle, and of a parent that is not there.
        ("slack", tool(span(0xa3, 1, 1, 400, 410), "post")),
        ("slack", tool(span(0xa3, 2, 9, 400, 420), "post")),
        ("slack", span(0xa3, 3, 0, 400, 430)),
    ]);
    let stats = |query: Query| -> Vec<String> {
        let tools = daemon.store.tools(&CallQuery::new(query)).unwrap().tools;
        (tools.iter())
            .map(|tool| {
                let [median, high, max] = [tool.median, tool.percentile_95, tool.max]
                    .map(|duration| duration.unwrap().as_nanos());
                let ToolStats {
                    server,
                    tool,
                    calls,
                    ..
                } = tool;
                format!("{server} {tool} {calls}: {median} {high} {max}")
            })
            .collect()
    };
    let every = [
        "gateway search 2: 50 100 100",
        "slack post 2: 10 20 20",
        "github fetch 1: 40 40 40",
    ];
    assert_eq!(stats(all()), every);
    assert_eq!(
        stats(all().server(server("github"))),
        ["github fetch 1: 40 40 40"]
    );
    // The span above ends after the range.
    assert_eq!(stats(all().range(..at(95))), ["github fetch 1: 40 40 40"]);
    let query = CallQuery::new(all()).tool(TextPattern::substring("SEA").unwrap());
    let ends = |query: &CallQuery, count| -> (Vec<Timestamp>, bool) {
        let list = daemon.store.calls(query, count).unwrap();
        (
            list.calls.iter().map(|call| call.end).collect(),
            list.has_more,
        )
    };
    assert_eq!(ends(&query, 5), (vec![at(250), at(100)], false));
    assert_eq!(ends(&query, 1), (vec![at(250)], true));
    assert_eq!(ends(&query.slowest_first(), 1), (vec![at(100)], true));
}

#[test]
fn a_failed_call_says_why() {
    let call = |trace, to| with(span(trace, 1, 0, 0, to), "tool", "search");
    let mut raised = failed(call(0xa3, 30), "");
    raised.span.events.push(Event {
        name: "exception".to_owned(),
        attributes: vec![
            text("exception.type", "IoError"),
            text("exception.message", "it broke"),
        ],
        ..Event::default()
    });
    let daemon = Daemon::with(&[
        ("github", call(0xa1, 10)),
        ("github", failed(call(0xa2, 20), "the status")),
        ("github", raised),
        ("github", failed(call(0xa4, 40), "")),
        (
            "slack",
            failed(span(0xa4, 2, 1, 1, 5), "the request failed"),
        ),
        ("slack", failed(span(0xa4, 3, 2, 1, 5), "refused")),
        ("github", failed(call(0xa5, 50), "")),
        ("github", failed(call(0xa6, 60), "")),
    ]);
    daemon.log(
        "github",
        7,
        Level::INFO,
        "begun",
        [&id(0xa5), &"01".repeat(8)],
    );
    let log = LogRecord::new(at(9), Level::ERROR, "call failed")
        .with("error", "no route")
        .with("trace_id", id(0xa5))
        .with("span_id", "01".repeat(8));
    daemon.writer.log(&server("github"), &log).unwrap();
    daemon.writer.flush().unwrap();

    let query = CallQuery::new(all().filter(Filter::failed()));
    let calls = daemon.store.calls(&query, 10).unwrap().calls;
    let reasons: Vec<_> = (calls.iter())
        .map(|call| {
            let reason = call.error.as_ref();
            let reason = reason.map(|reason| (&*reason.message, &*reason.server, reason.source));
            (&call.trace_id[..2], reason)
        })
        .collect();
    assert_eq!(
        reasons,
        [
            ("a6", None),
            (
                "a5",
                Some(("call failed: no route", "github", ErrorSource::Log))
            ),
            ("a4", Some(("refused", "slack", ErrorSource::Status))),
            ("a3", Some(("it broke", "github", ErrorSource::Event))),
            ("a2", Some(("the status", "github", ErrorSource::Status))),
        ]
    );
    let every = CallQuery::new(all());
    let calls = daemon.store.calls(&every, 10).unwrap().calls;
    assert_eq!(calls.iter().filter(|call| call.is_error).count(), 5);
    assert_eq!(calls.last().unwrap().error, None);
}

/// A span: trace, id, parent, server, start, length, whether it failed, its tool.
type Made = (u8, u8, u8, u8, u64, u64, bool, u8);

fn made() -> impl Strategy<Value = Made> {
    (
        1..6_u8,
        1..8_u8,
        0..8_u8,
        0..3_u8,
        0..500_u64,
        0..300_u64,
        any::<bool>(),
        0..4_u8,
    )
}

fn store(spans: &[Made]) -> (Daemon, Vec<(String, SpanRecord)>) {
    let spans: Vec<(String, SpanRecord)> = (spans.iter())
        .map(
            |&(trace, id, parent, server, from, took, is_failed, tool)| {
                let mut span = span(trace, id, parent, from, from + took);
                if is_failed {
                    span = failed(span, "it failed");
                }
                if tool > 0 {
                    span = with(span, "tool", &format!("tool {tool}"));
                }
                (format!("server {server}"), span)
            },
        )
        .collect();
    let daemon = Daemon::start();
    for (name, span) in &spans {
        daemon.writer.span(&server(name), span).unwrap();
    }
    daemon.writer.flush().unwrap();
    (daemon, spans)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn lists_and_trees_agree_with_a_plain_grouping(
        spans in proptest::collection::vec(made(), 1..80),
        wanted_server in 0..3_u8,
        duration_min in 0..400_u64,
        only_failed: bool,
        count in 1..6_usize,
    ) {
        let (daemon, spans) = store(&spans);
        let mut traces: BTreeMap<u8, Vec<&(String, SpanRecord)>> = BTreeMap::new();
        for span in &spans {
            traces.entry(span.1.span.trace_id[0]).or_default().push(span);
        }
        let wanted_server = format!("server {wanted_server}");
        let mut expected: Vec<(u64, u8, TraceNumbers)> = Vec::new();
        for (trace, spans) in &traces {
            let start = spans.iter().map(|(_, span)| span.span.start_time_unix_nano).min().unwrap();
            let end = spans.iter().map(|(_, span)| span.span.end_time_unix_nano).max().unwrap();
            let errors = spans.iter().filter(|(_, span)| span.is_error()).count() as u64;
            let servers: BTreeSet<String> = spans.iter().map(|(name, _)| name.clone()).collect();
            if servers.contains(&wanted_server)
                && end - start >= duration_min
                && (errors > 0 || !only_failed)
            {
                let numbers = (end - start, spans.len() as u64, errors, servers);
                expected.push((end, *trace, numbers));
            }
        }
        expected.sort_by_key(|trace| std::cmp::Reverse((trace.0, trace.1)));
        let mut query = TraceQuery::new(all().server(server(&wanted_server)))
            .duration_at_least(Duration::from_nanos(duration_min));
        if only_failed {
            query = query.only_failed();
        }
        let list = daemon.store.traces(&query, count).unwrap();
        prop_assert_eq!(list.has_more, expected.len() > count);
        expected.truncate(count);
        let found: Vec<_> = list.traces.iter().map(numbers).collect();

        // Pages, each from the cursor of the one before it, are the whole list.
        for query in [query.clone(), query.slowest_first()] {
            let whole = daemon.store.traces(&query, usize::MAX).unwrap().traces;
            let mut paged: Vec<TraceSummary> = Vec::new();
            loop {
                let query = match paged.last() {
                    Some(last) => {
                        let cursor = query.cursor_after(last).to_string();
                        query.clone().after(cursor.parse().unwrap())
                    }
                    None => query.clone(),
                };
                let page = daemon.store.traces(&query, count).unwrap();
                paged.extend(page.traces);
                if !page.has_more {
                    break;
                }
            }
            prop_assert_eq!(paged, whole);
        }
        let expected: Vec<_> = expected.into_iter().map(|(_, trace, numbers)| (id(trace), numbers)).collect();
        prop_assert_eq!(found, expected);

        // Each span of each trace is in its tree once.
        for (trace, spans) in traces {
            let tree = daemon.trace(&id(trace));
            let mut found: Vec<(String, String, u64)> = (tree.entries.into_iter())
                .map(|entry| {
                    let span = entry.stored.record.into_span().unwrap().span;
                    (entry.stored.server.to_string(), span.name, span.start_time_unix_nano)
                })
                .collect();
            let mut stored: Vec<(String, String, u64)> = (spans.into_iter())
                .map(|(name, span)| {
                    let span = &span.span;
                    (name.clone(), span.name.clone(), span.start_time_unix_nano)
                })
                .collect();
            found.sort();
            stored.sort();
            prop_assert_eq!(found, stored);
        }
    }

    /// Ids are unique here, since of two spans with one id any may be the one above.
    #[test]
    fn calls_agree_with_a_search_for_the_spans_above(
        mut spans in proptest::collection::vec(made(), 1..60),
    ) {
        spans.sort_by_key(|span| (span.0, span.1));
        spans.dedup_by_key(|span| (span.0, span.1));
        let (daemon, spans) = store(&spans);
        let tool_of = |span: &SpanRecord| {
            let value = span.span.attributes.first()?.value.as_ref()?.value.as_ref()?;
            let any_value::Value::StringValue(tool) = value else { return None };
            Some(tool.clone())
        };
        let is_call = |span: &SpanRecord| {
            let Some(tool) = tool_of(span) else { return false };
            let (mut at, mut seen) = (span, BTreeSet::new());
            while seen.insert(at.span.span_id.clone()) {
                let above = spans.iter().map(|(_, above)| above).find(|above| {
                    above.span.trace_id == span.span.trace_id && above.span.span_id == at.span.parent_span_id
                });
                match above {
                    Some(above) if above.span.span_id == span.span.span_id => return true,
                    Some(above) => match tool_of(above) {
                        Some(other) => return other != tool,
                        None => at = above,
                    },
                    None => return true,
                }
            }
            true
        };
        let mut expected: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
        for (name, span) in spans.iter().filter(|(_, span)| is_call(span)) {
            let counts = expected.entry((name.clone(), tool_of(span).unwrap())).or_default();
            counts.0 += 1;
            counts.1 += u64::from(span.is_error());
        }
        let tools = daemon.store.tools(&CallQuery::new(all())).unwrap().tools;
        let found: BTreeMap<(String, String), (u64, u64)> = (tools.into_iter())
            .map(|tool| ((tool.server.to_string(), tool.tool), (tool.calls, tool.errors)))
            .collect();
        prop_assert_eq!(found, expected);
    }
}

/// Duration, spans, failed spans, servers.
type TraceNumbers = (u64, u64, u64, BTreeSet<String>);

fn numbers(trace: &TraceSummary) -> (String, TraceNumbers) {
    let servers = trace.servers.iter().map(ToString::to_string).collect();
    let nanos = u64::try_from(trace.duration.as_nanos()).unwrap();
    (
        trace.trace_id.clone(),
        (nanos, trace.spans, trace.errors, servers),
    )
}
