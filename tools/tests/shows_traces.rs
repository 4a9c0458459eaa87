//! `traces`, `trace` and `calls` through the built program: what they find, how they show it, and what they
//! do in terminals, pipes and on damaged files.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Home, Output};
use gridctl_telemetry::{
    Level, LogRecord, ServerName, SpanRecord, Store, StoreOptions, Timestamp, Writer,
    WriterOptions,
    external::opentelemetry_proto::tonic::{
        common::v1::{AnyValue, KeyValue, any_value::Value as Any},
        trace::v1::{Span, Status, status::StatusCode},
    },
};
use redb::{Database, ReadableTable, TableDefinition};
use serde_json::Value;

/// 2026-05-08T12:00:00Z.
const NOON: u64 = 1_778_241_600_000_000_000;
const MILLISECOND: u64 = 1_000_000;

/// What a program must never print as it is: it colours, hides and reverses.
const HOSTILE: &str = "bad\u{1b}[31m gate\u{202e}way\u{9b}2J";

fn nanos(millis: u64) -> u64 {
    NOON + millis * MILLISECOND
}

fn id(trace: u8) -> String {
    format!("{trace:02x}").repeat(16)
}

/// A span of a trace, from and to these milliseconds.
fn span(trace: u8, id: u8, parent: u8, name: &str, times: [u64; 2]) -> Span {
    let id_of = |id: u8| if id == 0 { Vec::new() } else { vec![id; 8] };
    Span {
        trace_id: vec![trace; 16],
        span_id: id_of(id),
        parent_span_id: id_of(parent),
        name: name.to_owned(),
        start_time_unix_nano: nanos(times[0]),
        end_time_unix_nano: nanos(times[1]),
        ..Span::default()
    }
}

fn with(mut span: Span, key: &str, value: &str) -> Span {
    span.attributes.push(KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(Any::StringValue(value.to_owned())),
        }),
        ..KeyValue::default()
    });
    span
}

fn failed(mut span: Span, message: &str) -> Span {
    span.status = Some(Status {
        code: StatusCode::Error.into(),
        message: message.to_owned(),
    });
    span
}

fn log(trace: u8, span: u8, millis: u64, level: Level, message: &str) -> LogRecord {
    let time = Timestamp::from_unix_nanos(nanos(millis).cast_signed());
    LogRecord::new(time, level, message)
        .with("trace_id", id(trace))
        .with("span_id", format!("{span:02x}").repeat(8))
}

fn write(home: &Home, spans: Vec<(&str, Span)>, logs: Vec<(&str, LogRecord)>) {
    let store = Store::open(home.path(), "gw", StoreOptions::default()).unwrap();
    let options = WriterOptions::default().tiering(40, 25, 16);
    let (writer, guard) = Writer::start(&store, options).unwrap();
    for (server, span) in spans {
        let server = ServerName::new(server).unwrap();
        writer.span(&server, &SpanRecord::new(span)).unwrap();
    }
    for (server, log) in logs {
        writer.log(&ServerName::new(server).unwrap(), &log).unwrap();
    }
    writer.flush().unwrap();
    guard.close().unwrap();
}

/// Three traces: a failed one over three servers, a slow one, and one that says nothing of why it failed.
fn example() -> Home {
    let home = Home::new();
    let call = |trace, tool, times| with(span(trace, 1, 0, "tools/call", times), "tool", tool);
    let spans = vec![
        (
            "gateway",
            failed(call(0xa1, "search", [0, 100]), "upstream failed"),
        ),
        (
            "github",
            failed(
                with(span(0xa1, 2, 1, "POST /search", [10, 60]), "tool", "search"),
                "refused:\nno route",
            ),
        ),
        ("github", span(0xa1, 3, 2, HOSTILE, [20, 25])),
        ("slack", span(0xa1, 9, 7, "notify", [70, 80])),
        ("gateway", call(0xb2, "list", [1000, 3000])),
        ("slack", failed(call(0xc3, "post", [5000, 5010]), "")),
    ];
    let logs = vec![
        (
            "github",
            log(0xa1, 2, 15, Level::INFO, "asking").with("attempt", 1_i64),
        ),
        (
            "github",
            log(0xa1, 2, 50, Level::ERROR, HOSTILE).with("error", "no route"),
        ),
        (
            "slack",
            log(0xc3, 1, 5005, Level::ERROR, "cannot post").with("error", "channel is archived"),
        ),
    ];
    write(&home, spans, logs);
    home
}

impl Home {
    fn shown(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(
            (output.code, &*output.stderr),
            (0, ""),
            "{args:?}: {output:?}"
        );
        output.stdout
    }

    /// The first two digits of the traces that `traces` lists.
    fn listed(&self, args: &[&str]) -> String {
        let shown = self.run(&[&["traces", "-o", "json"], args].concat());
        let json: Value = serde_json::from_str(&shown.stdout).unwrap();
        let traces = json["traces"].as_array().unwrap();
        assert_eq!(
            shown.code,
            i32::from(traces.is_empty()),
            "{args:?}: {shown:?}"
        );
        let ids = traces
            .iter()
            .map(|trace| &trace["traceId"].as_str().unwrap()[..2]);
        ids.collect::<Vec<_>>().join(" ")
    }
}

fn on_terminal(home: &Home, columns: u16, args: &[&str]) -> (i32, String) {
    home.terminal(columns, 60, &[("NO_COLOR", "1")], args)
        .finish()
}

#[test]
fn traces_are_listed_by_every_filter() {
    let home = example();
    for (args, expected) in [
        (&[][..], "c3 b2 a1"),
        (&["-n", "2"], "c3 b2"),
        (&["-n", "all"], "c3 b2 a1"),
        (&["--errors"], "c3 a1"),
        (&["--slowest", "2"], "b2 a1"),
        (&["--min-duration", "100ms"], "b2 a1"),
        (&["gw", "slack"], "c3 a1"),
        (&["gateway"], "b2 a1"),
        (&["-g", "no route"], "a1"),
        (&["--not-grep", "no route", "github"], "a1"),
        (&["--field", "tool=list"], "b2"),
        (&["--trace", "b2b2"], "b2"),
        (&["-l", "error", "github"], "a1"),
        (&["--since", "2026-05-08T12:00:01Z"], "c3 b2"),
        (&["--until", "2026-05-08T12:00:01Z"], "a1"),
        (
            &["--errors", "--min-duration", "50ms", "--slowest", "5"],
            "a1",
        ),
        (&["-g", "nowhere"], ""),
    ] {
        assert_eq!(home.listed(args), expected, "{args:?}");
    }
    let json: Value =
        serde_json::from_str(&home.shown(&["traces", "-o", "json", "--trace", "a1"])).unwrap();
    let trace = &json["traces"][0];
    assert_eq!(trace["traceId"], *id(0xa1));
    assert_eq!(
        trace["servers"],
        serde_json::json!(["gateway", "github", "slack"])
    );
    assert_eq!((&trace["spans"], &trace["errors"]), (&4.into(), &2.into()));
    assert_eq!(trace["durationNanos"], 100_000_000);
    assert_eq!(
        (&trace["tool"], &json["stack"]),
        (&"search".into(), &"gw".into())
    );
}

#[test]
fn a_list_says_what_it_leaves_out_and_what_it_does_not_find() {
    let home = example();
    let said = |args: &[&str]| {
        let Output { code, stderr, .. } = home.run(args);
        (code, stderr)
    };
    for (args, code, expected) in [
        (
            &["traces", "-n", "2"][..],
            0,
            "more traces match than the newest 2: raise -n",
        ),
        (
            &["traces", "--slowest", "1"],
            0,
            "than the slowest 1: raise --slowest",
        ),
        (&["traces", "-g", "nowhere"], 1, "no traces match"),
        (&["traces", "gw", "githup"], 1, r#"did you mean "github"?"#),
        (
            &["traces", "gx", "github"],
            2,
            "is neither a stack nor a server",
        ),
        (
            &["traces", "--slowest", "2", "-n", "2"],
            2,
            "cannot be used with",
        ),
        (&["traces", "--min-duration", "long"], 2, "--min-duration"),
        (&["traces", "-g", "a("], 2, "--grep: "),
        (
            &["calls", "--failed", "-n", "1"],
            0,
            "more calls match than the newest 1: raise -n",
        ),
        (
            &["calls", "-n", "1"],
            0,
            "2 more tools were called: raise -n",
        ),
        (&["calls", "--tool", "nothing"], 1, "no calls match"),
        (
            &["calls", "--since", "soon"],
            2,
            "--since: cannot read the time",
        ),
        (
            &["trace", "gw", "77"],
            1,
            r#"the stack "gw" has no trace "77""#,
        ),
        (&["trace", "b"], 0, ""),
        (
            &["trace", "xyz"],
            2,
            "expected an id of up to 32 hex digits",
        ),
        (&["trace", "gx", "a1"], 2, r#"there is no stack "gx""#),
        (&["trace"], 2, "<ID>"),
        (&["trace", "gw", "a1", "--stack", "lab"], 2, "named twice"),
    ] {
        let (found, stderr) = said(args);
        assert_eq!(found, code, "{args:?}: {stderr}");
        assert!(stderr.contains(expected), "{args:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
    write(
        &home,
        vec![("slack", span(0xa2, 1, 0, "one more", [0, 1]))],
        vec![],
    );
    let (code, stderr) = said(&["trace", "a"]);
    assert_eq!(code, 2, "{stderr}");
    assert!(
        stderr.contains(&id(0xa1)) && stderr.contains(&id(0xa2)),
        "{stderr}"
    );
}

#[test]
fn a_trace_is_shown_as_a_tree_with_bars_and_logs() {
    let home = example();
    let (code, shown) = on_terminal(&home, 80, &["trace", "a1a1"]);
    assert_eq!(code, 0, "{shown}");
    let expected = "\
trace a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1
2026-05-08 12:00:00.000 · 100ms · 4 spans · 2 failed · 2 log records · gateway, github, slack

✗ tools/call search gateway             ██████████████████████████    100ms
│  upstream failed
└ ✗ POST /search github                   ██████████████             50.0ms
  │  refused:
  │  no route
  ├ · +15.0ms INFO asking
  ├ bad gate\\u{202e}way\\u{9b}2J github       ██                      5.00ms
  └ · +50.0ms ERROR bad gate\\u{202e}way\\u{9b}2J error=\"no route\"
? notify slack                                            ███        10.0ms
?  its parent is not stored
";
    assert_eq!(shown, expected, "{shown}");
    // In the reader's zone, and without a terminal in UTC and whole.
    let zone = [("NO_COLOR", "1"), ("TZ", "ABC-2")];
    let shown = home.terminal(80, 60, &zone, &["trace", "a1"]).finish().1;
    assert!(shown.contains("2026-05-08 14:00:00.000"), "{shown}");
    let piped = home.shown(&["trace", "a1"]);
    assert!(piped.contains("2026-05-08T12:00:00Z · 100ms"), "{piped}");
    assert!(piped.contains("\\u{9b}2J github"), "{piped}");
    assert!(
        !piped.contains('\u{1b}') && !piped.contains('\u{202e}'),
        "{piped}"
    );
    // Colours on a terminal alone.
    let shown = home.terminal(80, 60, &[], &["trace", "a1"]).finish().1;
    assert!(
        shown.contains("\u{1b}[1m\u{1b}[31m✗ tools/call"),
        "{shown:?}"
    );
    assert!(!shown.contains("\u{1b}[31m gate"), "{shown:?}");
}

#[test]
fn attributes_and_a_narrow_terminal() {
    let home = example();
    let (code, shown) = on_terminal(&home, 20, &["trace", "a1", "-a"]);
    assert_eq!(code, 0, "{shown}");
    for expected in [
        "✗ tools/cal…   100ms\n",
        "│  tool=search\n",
        "INFO asking trace_id=",
    ] {
        assert!(shown.contains(expected), "{expected:?} {shown}");
    }
    for args in [
        &["traces"][..],
        &["calls"],
        &["calls", "--failed"],
        &["calls", "--slowest"],
    ] {
        let (code, shown) = on_terminal(&home, 20, args);
        assert_eq!(code, 0, "{args:?} {shown}");
        assert!(
            shown.contains("search") || args == ["traces"],
            "{args:?} {shown}"
        );
    }
    // A chain of spans that is deeper than the terminal is wide.
    let chain = (1..=200_u8).map(|id| {
        let name = format!("level {id}");
        ("github", span(0xd4, id, id - 1, &name, [0, 10]))
    });
    write(&home, chain.collect(), vec![]);
    for (columns, last) in [(20, "└ level …"), (80, "└ level 200 ")] {
        let (code, shown) = on_terminal(&home, columns, &["trace", "d4d4"]);
        assert_eq!(code, 0);
        assert!(shown.contains(last) && shown.contains('…'), "{shown}");
        let longest = shown.lines().skip(3).map(|line| line.chars().count()).max();
        assert!(longest <= Some(usize::from(columns)), "{longest:?} {shown}");
    }
}

#[test]
fn a_trace_is_exported_as_export_writes_it() {
    let home = example();
    let exported = home.run(&[
        "export-jsonl",
        "gw",
        "--signal",
        "traces",
        "--format",
        "otlp",
        "--stdout",
    ]);
    let of_trace = |lines: &str| -> Vec<Value> {
        let mut spans = Vec::new();
        for line in lines.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            for resource in line["resourceSpans"].as_array().unwrap() {
                for scope in resource["scopeSpans"].as_array().unwrap() {
                    spans.extend(scope["spans"].as_array().unwrap().iter().cloned());
                }
            }
        }
        spans.retain(|span| span["traceId"] == *id(0xa1));
        spans.sort_by_key(|span| span["spanId"].to_string());
        spans
    };
    let otlp = home.shown(&["trace", "a1a1", "-o", "otlp"]);
    let spans = of_trace(&otlp);
    assert_eq!(spans.len(), 4);
    assert_eq!(spans, of_trace(&exported.stdout));
    assert!(!otlp.contains(&id(0xb2)));

    let json: Value = serde_json::from_str(&home.shown(&["trace", "a1a1", "-o", "json"])).unwrap();
    let entries = json["entries"].as_array().unwrap();
    let order: Vec<String> = entries
        .iter()
        .map(|entry| {
            let [depth, place, signal] =
                ["depth", "place", "signal"].map(|key| entry[key].to_string());
            format!("{depth} {place} {signal}").replace('"', "")
        })
        .collect();
    assert_eq!(
        order,
        [
            "0 root traces",
            "1 child traces",
            "2 child logs",
            "2 child traces",
            "2 child logs",
            "0 orphan traces",
        ]
    );
    assert_eq!(entries[2]["record"]["msg"], "asking");
    assert_eq!((&json["spans"], &json["logs"]), (&4.into(), &2.into()));
    // On a terminal, JSON is escaped and still the same.
    for output in ["json", "otlp"] {
        let (code, shown) = on_terminal(&home, 200, &["trace", "a1a1", "-o", output]);
        assert_eq!(code, 0);
        assert!(
            !shown.contains('\u{202e}') && !shown.contains('\u{9b}'),
            "{shown}"
        );
        assert!(shown.contains("\\u202e"), "{shown}");
    }
}

#[test]
fn calls_are_counted_by_tool_and_failures_say_why() {
    let home = example();
    let json: Value = serde_json::from_str(&home.shown(&["calls", "-o", "json"])).unwrap();
    let tools: Vec<String> = json["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| {
            let keys = ["server", "tool", "calls", "errors", "medianNanos"];
            keys.map(|key| tool[key].to_string())
                .join(" ")
                .replace('"', "")
        })
        .collect();
    assert_eq!(
        tools,
        [
            "gateway list 1 0 2000000000",
            "gateway search 1 1 100000000",
            "slack post 1 1 10000000",
        ]
    );
    assert_eq!(
        home.shown(&["calls", "--failed"]),
        "\
2026-05-08T12:00:05Z   10.0ms  slack  post  trace c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3  failed
    cannot post: channel is archived (logged by slack)
2026-05-08T12:00:00Z    100ms  gateway  search  trace a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1  failed
    upstream failed (gateway, span tools/call)
"
    );
    let slowest = home.shown(&["calls", "--slowest", "-n", "all", "-o", "json"]);
    let slowest: Value = serde_json::from_str(&slowest).unwrap();
    let tools = slowest["calls"].as_array().unwrap().iter();
    let tools: Vec<&str> = tools.map(|call| call["tool"].as_str().unwrap()).collect();
    assert_eq!(tools, ["list", "search", "post"]);
    // Part of a tool's name, in any case; and every filter.
    for (args, count) in [
        (&["--tool", "SEA"][..], 1),
        (&["slack"], 1),
        (&["--since", "2026-05-08T12:00:02Z"], 2),
        (&["-g", "upstream"], 1),
    ] {
        let shown = home.shown(&[&["calls", "-o", "json"], args].concat());
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(shown["tools"].as_array().unwrap().len(), count, "{args:?}");
    }
}

#[test]
fn long_output_is_paged_and_a_closed_pipe_is_no_error() {
    let home = example();
    let page = |args: &[&str]| -> (i32, String) {
        let env = [("PAGER", "sed s/^/paged:/"), ("NO_COLOR", "1")];
        let terminal = home.terminal(80, 4, &env, args);
        terminal.finish()
    };
    for args in [&["trace", "a1"][..], &["calls", "--failed"]] {
        let (code, shown) = page(args);
        assert_eq!(code, 0, "{shown}");
        assert!(shown.contains("paged:"), "{args:?} {shown}");
    }
    for line in [
        "traces",
        "trace a1",
        "trace a1 -o otlp",
        "calls",
        "calls --failed",
    ] {
        let closed = home.shell(&format!("\"$0\" {line} | true"));
        assert_eq!((closed.code, &*closed.stderr), (0, ""), "{line}");
    }
}

const CHUNKS: TableDefinition<&[u8; 23], &[u8]> = TableDefinition::new("pieces");

#[test]
fn a_damaged_block_is_named_once_and_the_rest_is_shown() {
    let home = Home::new();
    let spans = (0..120_u8).map(|number| {
        let millis = u64::from(number) * 10;
        let call = span(number + 1, 1, 0, "tools/call", [millis, millis + 5]);
        ("github", failed(with(call, "tool", "search"), ""))
    });
    write(&home, spans.collect(), vec![]);
    {
        let database = Database::open(home.database("gw")).unwrap();
        let transaction = database.begin_write().unwrap();
        let mut chunks = transaction.open_table(CHUNKS).unwrap();
        let (key, mut chunk) = {
            let first = chunks.first().unwrap().unwrap();
            (*first.0.value(), first.1.value().to_vec())
        };
        *chunk.last_mut().unwrap() ^= 1;
        chunks.insert(&key, chunk.as_slice()).unwrap();
        drop(chunks);
        transaction.commit().unwrap();
    }
    // The block of the last spans but a few.
    for (args, code) in [
        (&["traces", "-n", "all"][..], 1),
        (&["calls"], 1),
        (&["calls", "--failed", "-n", "200"], 1),
        (&["trace", &id(1)], 1),
        (&["trace", &id(108)], 2),
    ] {
        let shown = home.run(args);
        assert_eq!(shown.code, code, "{args:?}: {shown:?}");
        let said = shown
            .stderr
            .lines()
            .filter(|line| line.starts_with("cannot read "));
        assert_eq!(said.count(), usize::from(code == 1), "{args:?}: {shown:?}");
        assert_eq!(shown.stdout.is_empty(), code == 2, "{args:?}: {shown:?}");
    }
    let said = home.run(&["trace", &id(108)]).stderr;
    assert!(said.contains("the checksum does not match"), "{said}");
}
