//! `logs` and `tail` show exactly the records that match, in every combination of their options.

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
    Level, LogRecord, MetricsSnapshot, ServerName, SpanRecord, Store, StoreOptions, Timestamp,
    Value, Writer, WriterOptions,
    external::opentelemetry_proto::tonic::{
        common::v1::{AnyValue, KeyValue, any_value::Value as Any},
        trace::v1::{Span, Status, status::StatusCode},
    },
};
use redb::{Database, ReadableTable, TableDefinition};
use std::{
    fmt::Write,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    time::{Duration, Instant},
};

const SERVERS: [&str; 3] = ["github", "slack", "jira"];
/// 2026-05-08T12:00:00Z.
const NOON: i64 = 1_778_241_600_000_000_000;
const MILLISECOND: i64 = 1_000_000;

fn at(millis: usize) -> Timestamp {
    Timestamp::from_unix_nanos(NOON + i64::try_from(millis).unwrap() * MILLISECOND)
}

/// A record, and what the filters see of it.
#[derive(Debug, Clone)]
struct Call {
    number: usize,
    server: &'static str,
    level: Level,
    word: &'static str,
    tool: &'static str,
    status: i64,
}

impl Call {
    fn new(number: usize) -> Call {
        let levels = [
            Level::DEBUG,
            Level::INFO,
            Level::INFO,
            Level::WARN,
            Level::ERROR,
        ];
        Call {
            number,
            server: SERVERS[number % 3],
            level: levels[number % 5],
            word: ["completed", "failed: Deadline exceeded", "retried (2)"][number % 7 % 3],
            tool: ["search", "query", "list files"][number % 4 % 3],
            status: [200, 404, 500][number % 11 % 3],
        }
    }

    fn message(&self) -> String {
        format!("call {:05} {}", self.number, self.word)
    }

    fn record(&self) -> LogRecord {
        let status = vec![("status".to_owned(), Value::Int(self.status))];
        LogRecord::new(at(self.number), self.level, self.message())
            .with("tool", self.tool)
            .with("number", self.number as u64)
            .with("http", Value::Object(status))
            .with("trace_id", format!("{:032x}", self.number / 10))
    }
}

/// Stores logs of the stack `gw`, some of them in blocks.
fn store<'a>(home: &Home, records: impl IntoIterator<Item = (&'a str, LogRecord)>) {
    let store = Store::open(home.path(), "gw", StoreOptions::default()).unwrap();
    let options = WriterOptions::default().tiering(40, 25, 16);
    let (writer, guard) = Writer::start(&store, options).unwrap();
    for (number, (server, record)) in records.into_iter().enumerate() {
        writer
            .log(&ServerName::new(server).unwrap(), &record)
            .unwrap();
        if number % 60 == 59 {
            writer.flush().unwrap();
        }
    }
    guard.close().unwrap();
}

fn calls(home: &Home, count: usize) -> Vec<Call> {
    let calls: Vec<Call> = (0..count).map(Call::new).collect();
    store(home, calls.iter().map(|call| (call.server, call.record())));
    calls
}

/// The messages that `logs gw` with these arguments prints. None is exit code 1.
fn messages(home: &Home, args: &[&str]) -> Vec<String> {
    let shown = home.run(&[&["logs", "gw", "-o", "cat"], args].concat());
    let messages: Vec<String> = shown.stdout.lines().map(str::to_owned).collect();
    assert_eq!(
        shown.code,
        i32::from(messages.is_empty()),
        "{args:?}: {shown:?}"
    );
    messages
}

type Condition = (&'static [&'static str], fn(&Call) -> bool);

const CONDITIONS: &[Condition] = &[
    (&["slack", "jira"], |call| call.server != "github"),
    (&["--since", "2026-05-08T12:00:00.1Z"], |call| {
        call.number >= 100
    }),
    (&["--until", "@1778241600.25"], |call| call.number < 250),
    (&["--level", "warn"], |call| call.level >= Level::WARN),
    (&["-l", "..info"], |call| call.level <= Level::INFO),
    (&["--grep", "DEADLINE.exceeded$"], |call| {
        call.word.contains("Deadline")
    }),
    (&["-F", "-g", "(2)"], |call| call.word.contains("(2)")),
    (&["-s", "-g", "Deadline|search"], |call| {
        call.word.contains("Deadline") || call.tool == "search"
    }),
    (&["--not-grep", "complete"], |call| call.word != "completed"),
    (&["--field", "tool=query"], |call| call.tool == "query"),
    (
        &["--field", "http.status>=404", "--field", "number<200"],
        |call| call.status >= 404 && call.number < 200,
    ),
    (&["--not-field", "tool~s"], |call| !call.tool.contains('s')),
    (&["--trace", "000000000000000000000001"], |call| {
        call.number / 10 == 1 || call.number / 10 >= 16
    }),
    (
        &[
            "--trace",
            "0012",
            "--trace",
            "00000000000000000000000000000003",
        ],
        |call| [3, 18].contains(&(call.number / 10)),
    ),
];

#[test]
fn every_filter_combines_with_every_other() {
    let home = Home::new();
    let calls = calls(&home, 300);
    for (number, (first, is_first)) in CONDITIONS.iter().enumerate() {
        for (second, is_second) in &CONDITIONS[number..] {
            let args = if first == second {
                first.to_vec()
            } else {
                [*first, *second].concat()
            };
            let count = |options: &[&str]| args.iter().filter(|arg| options.contains(arg)).count();
            // A command has one range of levels, one list of traces, and one way to read patterns.
            if count(&["--level", "-l"]) > 1
                || count(&["--trace"]) > 2
                || count(&["-F", "-s"]) > 0 && count(&["-g", "--grep", "--not-grep"]) > 1
            {
                continue;
            }
            let expected: Vec<String> = calls
                .iter()
                .filter(|call| is_first(call) && is_second(call))
                .map(Call::message)
                .collect();
            assert_eq!(messages(&home, &args), expected, "{args:?}");
        }
        let expected: Vec<String> = calls
            .iter()
            .filter(|call| is_first(call))
            .map(Call::message)
            .collect();
        assert!(
            !expected.is_empty() && expected.len() < calls.len(),
            "{first:?}"
        );
        let newest = &expected[expected.len().saturating_sub(5)..];
        assert_eq!(messages(&home, &[first, &["-n", "5"][..]].concat()), newest);
        let reversed: Vec<String> = expected.iter().rev().cloned().collect();
        assert_eq!(messages(&home, &[first, &["-r"][..]].concat()), reversed);
        let newest = &reversed[..reversed.len().min(5)];
        assert_eq!(messages(&home, &[first, &["-rn5"][..]].concat()), newest);
    }
    assert_eq!(messages(&home, &["-w", "-g", "dead"]), [""; 0]);
    assert_eq!(messages(&home, &["-w", "-g", "retried|x"]).len(), {
        calls
            .iter()
            .filter(|call| call.word.contains("retried"))
            .count()
    });
    assert_eq!(messages(&home, &["--grep", ""]).len(), calls.len());
}

/// What `grep -C` prints of these lines.
fn with_context(lines: &[(String, bool)], before: usize, after: usize) -> Vec<String> {
    let mut shown = Vec::new();
    let mut last = None;
    for (number, (line, _)) in lines.iter().enumerate() {
        let from = number.saturating_sub(after);
        let to = (number + before + 1).min(lines.len());
        if lines[from..to].iter().any(|(_, is_match)| *is_match) {
            if last.is_some_and(|last: usize| last + 1 < number) {
                shown.push("--".to_owned());
            }
            last = Some(number);
            shown.push(line.clone());
        }
    }
    shown
}

#[test]
fn records_around_a_match_are_shown_as_grep_does() {
    let home = Home::new();
    let calls = calls(&home, 300);
    for (filter, is_match) in [
        (
            &["--field", "number=0", "github"][..],
            (|call| call.number == 0) as fn(&Call) -> bool,
        ),
        (&["--trace", "0000000000000001d"], |call| call.number >= 290),
        (&["-l", "error"], |call| call.level == Level::ERROR),
        (&["-F", "-g", "(2)", "slack", "jira"], |call| {
            call.word.contains("(2)")
        }),
        (&["-g", "call 00(013|016|100|299)"], |call| {
            [13, 16, 100, 299].contains(&call.number)
        }),
    ] {
        let servers: Vec<&str> = filter
            .iter()
            .copied()
            .filter(|arg| SERVERS.contains(arg))
            .collect();
        let mut lines: Vec<(String, bool)> = calls
            .iter()
            .filter(|call| servers.is_empty() || servers.contains(&call.server))
            .map(|call| (call.message(), is_match(call)))
            .collect();
        for (args, before, after) in [
            (&["-C", "2"][..], 2, 2),
            (&["-A1"], 0, 1),
            (&["-B3"], 3, 0),
            (&["-C1", "-B", "20"], 20, 1),
        ] {
            let args = [filter, args].concat();
            assert_eq!(
                messages(&home, &args),
                with_context(&lines, before, after),
                "{args:?}"
            );
            let reversed = [&args[..], &["-r"]].concat();
            lines.reverse();
            assert_eq!(
                messages(&home, &reversed),
                with_context(&lines, after, before),
                "{args:?} -r"
            );
            lines.reverse();
            let newest = [&args[..], &["-n", "2"]].concat();
            let mut of_two = lines.clone();
            let matches = lines.iter().filter(|(_, is_match)| *is_match).count();
            of_two
                .iter_mut()
                .filter(|(_, is_match)| *is_match)
                .take(matches.saturating_sub(2))
                .for_each(|(_, is_match)| *is_match = false);
            assert_eq!(
                messages(&home, &newest),
                with_context(&of_two, before, after),
                "{args:?} -n 2"
            );
        }
    }
    let refused = home.run(&["logs", "-C1", "-o", "json", "-g", "call"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(
        refused.stderr.contains("use -o short, cat or verbose"),
        "{refused:?}"
    );
}

/// Many pages of text, more than is held in memory.
#[test]
fn a_long_list_is_the_same_page_by_page() {
    let home = Home::new();
    let filler = "x".repeat(1000);
    let message = |number: usize| format!("call {number:05} {filler}");
    let count = 12_000;
    store(
        &home,
        (0..count).map(|number| {
            let level = if number % 5000 == 4999 {
                Level::ERROR
            } else {
                Level::INFO
            };
            let record = LogRecord::new(at(number), level, message(number));
            (SERVERS[number % 2], record)
        }),
    );
    let all: Vec<String> = (0..count).map(message).collect();
    assert!(messages(&home, &[]) == all);
    assert!(messages(&home, &["-n", "9000"]) == all[3000..]);
    assert!(messages(&home, &["-n", "all"]) == all);
    let reversed: Vec<String> = all.iter().rev().cloned().collect();
    assert!(messages(&home, &["-r"]) == reversed);
    let mut lines: Vec<(String, bool)> = (0..count)
        .map(|number| (message(number), number % 5000 == 4999))
        .collect();
    assert!(messages(&home, &["-l", "error", "-C", "300"]) == with_context(&lines, 300, 300));
    lines.reverse();
    assert!(messages(&home, &["-l", "error", "-B", "3", "-r"]) == with_context(&lines, 0, 3));
    let exported = home.exported_logs();
    let json = home.run(&["logs", "-o", "json"]).stdout;
    let mut json: Vec<&str> = json.lines().collect();
    assert_eq!(json.len(), count);
    // An export is sorted by server.
    json.sort_unstable();
    let mut exported: Vec<&str> = exported.iter().map(String::as_str).collect();
    exported.sort_unstable();
    assert!(json == exported);
}

#[test]
fn a_cut_is_said_and_nothing_found_is_exit_code_1() {
    let home = Home::new();
    calls(&home, 30);
    let said = |args: &[&str]| {
        let shown = home.run(args);
        (shown.code, shown.stderr)
    };
    let cut = "more records match than the newest 3: raise -n, or leave it out to see all\n";
    assert_eq!(said(&["logs", "-n", "3"]), (0, cut.to_owned()));
    assert_eq!(said(&["logs", "-r", "-n", "3"]), (0, cut.to_owned()));
    assert_eq!(
        said(&["logs", "-l", "error", "-n", "6"]),
        (0, String::new())
    );
    assert_eq!(said(&["tail", "-n", "3"]), (0, String::new()));
    let nothing = (1, "no records match\n".to_owned());
    assert_eq!(said(&["logs", "-g", "no such word"]), nothing);
    assert_eq!(said(&["tail", "-g", "no such word"]), nothing);
    assert_eq!(said(&["logs", "--signal", "traces"]), nothing);
    let unknown = said(&["logs", "gw", "githup"]);
    assert_eq!(unknown.0, 1);
    assert!(
        unknown.1.contains(r#"did you mean "github"?"#),
        "{unknown:?}"
    );
    for (args, expected) in [
        (&["logs", "-g", "a("][..], "--grep: "),
        (
            &["logs", "--since", "soon"],
            "--since: cannot read the time",
        ),
        (&["logs", "-l", "loud"], "loud"),
        (&["logs", "--field", "a>b"], "--field: "),
        (&["logs", "--trace", "xyz"], "--trace: "),
        (
            &["logs", "-n", "many"],
            "expected a number of records, or all",
        ),
        (&["logs", "-r", "-f"], "cannot be used with"),
        (&["logs", "--min-duration", "1s"], "add --signal traces"),
        (&["logs", "no-stack", "github"], "did you mean"),
    ] {
        let (code, stderr) = said(args);
        assert_eq!(code, 2, "{args:?}: {stderr}");
        let is_said = stderr.contains(expected) || expected == "did you mean";
        assert!(
            is_said && !stderr.contains("panicked"),
            "{args:?}: {stderr}"
        );
    }
    let long = "x".repeat((10 << 20) + 1);
    let file = tempfile::tempdir().unwrap();
    let file = file.path().join("pattern");
    fs::write(&file, &long).unwrap();
    // Longer than a command line may be, so that the operating system refuses it before we do.
    let line = format!(
        "exec \"$0\" logs -g \"$(head -c 100000 {})\"",
        file.display()
    );
    let refused = home.shell(&line);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(
        refused.stderr.contains("has 100000 bytes"),
        "{}",
        refused.stderr.len()
    );
}

const HOSTILE: &str =
    "ok \u{1b}[31mDead\u{1b}[0mline\u{1b}]0;title\u{7} \u{202e}reversed\nsecond line";

fn formats_home() -> Home {
    let home = Home::new();
    let record = LogRecord::new(at(5), Level::ERROR, HOSTILE)
        .with("component", "github")
        .with("tool", "two words")
        .with(
            "http",
            Value::Object(vec![("status".to_owned(), Value::Int(500))]),
        )
        .with("tags", Value::Array(vec!["a".into(), Value::Null]));
    let quiet = LogRecord::new(at(0), Level::INFO, "plain");
    store(&home, [("github", record), ("slack", quiet)]);
    home
}

#[test]
fn records_are_shown_for_people_and_for_programs() {
    let home = formats_home();
    let shown = |args: &[&str]| {
        let shown = home.run(&[&["logs", "gw"], args].concat());
        assert_eq!(shown.code, 0, "{shown:?}");
        shown.stdout
    };
    assert_eq!(
        shown(&[]),
        "2026-05-08T12:00:00.000Z INFO  slack plain\n\
         2026-05-08T12:00:00.005Z ERROR github ok Deadline \\u{202e}reversed\n    second line \
         tool=\"two words\" http.status=500 tags=[\"a\",null]\n"
    );
    assert_eq!(
        shown(&["github", "-o", "cat"]),
        "ok Deadline \\u{202e}reversed\nsecond line\n"
    );
    let verbose = shown(&["github", "-o", "verbose"]);
    for line in [
        "2026-05-08T12:00:00.005Z ERROR github",
        "    message = ok Deadline \\u{202e}reversed",
        "        second line",
        "    component = github",
        "    tool = two words",
        "    http.status = 500",
    ] {
        assert!(
            verbose.lines().any(|shown| shown == line),
            "{line}: {verbose}"
        );
    }
    // A word is found across the sequence that colours a part of it.
    assert_eq!(shown(&["-g", "deadline", "-o", "cat"]).lines().count(), 2);

    let export = |format: &str| {
        let args = [
            "export-jsonl",
            "--stack",
            "gw",
            "--server",
            "github",
            "--signal",
            "logs",
        ];
        home.run(&[&args[..], &["--stdout", "--format", format]].concat())
            .stdout
    };
    assert_eq!(shown(&["github", "-o", "json"]), export("ndjson"));
    assert_eq!(shown(&["github", "-o", "otlp"]), export("otlp"));
}

#[test]
fn a_terminal_gets_colours_and_obeys_no_record() {
    let home = formats_home();
    let zone = ("TZ", "CET-1CEST,M3.5.0,M10.5.0/3");
    let show = |columns, args: &[&str]| {
        let args = [&["logs", "gw"], args].concat();
        let (code, shown) = home.terminal(columns, 50, &[zone], &args).finish();
        assert_eq!(code, 0, "{shown}");
        shown
    };
    let coloured = show(200, &["-g", "dead"]);
    let bare = without_colours(&coloured);
    assert_eq!(
        bare,
        "2026-05-08 14:00:00.005 ERROR github ok Deadline \\u{202e}reversed\n    second line \
         tool=\"two words\" http.status=500 tags=[\"a\",null]\n"
    );
    // The match, in the middle of the coloured message.
    assert!(
        coloured.contains("\u{1b}[1m\u{1b}[4m\u{1b}[31mDead\u{1b}[0m"),
        "{coloured:?}"
    );
    assert!(
        coloured.contains("\u{1b}[1m\u{1b}[31mERROR\u{1b}[0m"),
        "{coloured:?}"
    );
    assert!(!coloured.contains("title") && !coloured.contains('\u{202e}'));
    assert!(show(200, &["--utc", "-g", "plain"]).contains("2026-05-08 12:00:00.000"));
    // A time without a zone is the reader's.
    assert!(
        without_colours(&show(200, &["--since", "2026-05-08 14:00:00.003"]))
            .starts_with("2026-05-08 14:00:00.005 ")
    );
    let narrow = without_colours(&show(20, &["slack"]));
    assert_eq!(narrow, "14:00:00 INFO  plain\n");
    // JSON stays JSON, in UTC and without a character that a terminal obeys.
    let json = show(200, &["github", "-o", "json"]);
    let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(parsed["msg"], HOSTILE);
    assert_eq!(parsed["ts"], "2026-05-08T12:00:00.005Z");
    assert!(!json.contains(|char: char| char != '\n' && char.is_control() || char == '\u{202e}'));
}

fn without_colours(text: &str) -> String {
    gridctl_telemetry::query::plain_text(text).into_owned()
}

#[test]
fn long_lists_go_through_the_pager_and_lists_that_follow_do_not() {
    let home = Home::new();
    calls(&home, 40);
    let pager = [("PAGER", "sed 's/^/paged: /'")];
    let (code, shown) = home
        .terminal(80, 10, &pager, &["logs", "-n", "30", "-o", "cat"])
        .finish();
    assert_eq!(code, 0);
    let shown = without_colours(&shown);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 31, "{lines:?}");
    assert!(
        lines[..30]
            .iter()
            .all(|line| line.starts_with("paged: call"))
    );
    // After the pager, which would hide it.
    assert!(lines[30].starts_with("more records match than the newest 30"));
    let mut tail = home.terminal(80, 5, &pager, &["tail", "-n", "20", "-o", "cat"]);
    let shown = tail.wait_for("call 00039");
    assert!(!shown.contains("paged"), "{shown}");
    tail.signal(rustix::process::Signal::INT);
    assert_eq!(tail.finish().0, 0);
    let ends = home.terminal(
        80,
        5,
        &pager,
        &["tail", "--no-follow", "-n", "2", "-o", "cat"],
    );
    assert_eq!(ends.finish().1.lines().count(), 2);
}

#[test]
fn spans_and_metrics_are_listed_too() {
    let home = Home::new();
    let store = Store::open(home.path(), "gw", StoreOptions::default()).unwrap();
    let (writer, guard) = Writer::start(&store, WriterOptions::default()).unwrap();
    let github = ServerName::new("github").unwrap();
    for (number, code) in [(1, StatusCode::Ok), (2, StatusCode::Error)] {
        let start = (NOON + number * MILLISECOND).cast_unsigned();
        let tool = Any::StringValue("search".into());
        writer
            .span(
                &github,
                &SpanRecord::new(Span {
                    trace_id: vec![0xab; 16],
                    span_id: vec![u8::try_from(number).unwrap(); 8],
                    name: format!("tools/call {number}"),
                    start_time_unix_nano: start,
                    end_time_unix_nano: start + number.cast_unsigned() * 1_500_000_000,
                    attributes: vec![KeyValue {
                        key: "tool".into(),
                        value: Some(AnyValue { value: Some(tool) }),
                        ..KeyValue::default()
                    }],
                    status: Some(Status {
                        message: "denied".into(),
                        code: code.into(),
                    }),
                    ..Span::default()
                }),
            )
            .unwrap();
    }
    let mut snapshot = MetricsSnapshot::new(at(0));
    snapshot.reset = true;
    snapshot.diff.input_tokens = 10;
    snapshot.diff.output_tokens = 5;
    snapshot.diff.total_tokens = 15;
    snapshot.total = snapshot.diff;
    writer.metrics(&github, &snapshot).unwrap();
    guard.close().unwrap();
    let shown = |args: &[&str]| home.run(&[&["logs", "--signal"], args].concat()).stdout;
    let failed = "2026-05-08T12:00:03.002Z ERROR github tools/call 2 (3.00s): denied tool=search\n";
    for args in [
        &["traces", "--level", "error"][..],
        &["traces", "--min-duration", "2s"],
        &["traces", "--name", "CALL.2"],
        &["traces", "--span", "0202020202020202"],
    ] {
        assert_eq!(shown(args), failed, "{args:?}");
    }
    assert_eq!(
        shown(&["traces", "--max-duration", "2s"]).lines().count(),
        1
    );
    let verbose = shown(&["traces", "-o", "verbose", "-n", "1"]);
    for line in [
        "    status = error",
        "    status message = denied",
        "    duration = 3.00s",
    ] {
        assert!(verbose.contains(line), "{line}: {verbose}");
    }
    assert_eq!(
        shown(&["metrics"]),
        "2026-05-08T12:00:00Z github counters restarted; +15 tokens (+10 in, +5 out), 15 in total\n"
            .replace("00Z", "00.000Z")
    );
    // The sentinel and the snapshot, as in the files.
    assert_eq!(shown(&["metrics", "-o", "json"]).lines().count(), 2);
}

fn run_cursor(home: &Home, file: &str, args: &[&str]) -> (i32, Vec<String>) {
    let args = [&["logs", "gw", "-o", "cat", "--cursor-file", file], args].concat();
    let Output { code, stdout, .. } = home.run(&args);
    (code, stdout.lines().map(str::to_owned).collect())
}

#[test]
fn a_cursor_file_shows_each_record_once() {
    let home = Home::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("below/cursor");
    let file = file.to_str().unwrap();
    let run = |args: &[&str]| run_cursor(&home, file, args);
    let named = |message: &str, millis: usize| {
        (SERVERS[0], LogRecord::new(at(millis), Level::INFO, message))
    };
    store(&home, [named("first", 10), named("second", 20)]);
    assert_eq!(run(&[]), (0, vec!["first".into(), "second".into()]));
    let mode = fs::metadata(file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(run(&[]), (1, vec![]));
    // One is older than what was printed, and came later.
    store(
        &home,
        [named("late", 5), named("third", 30), named("fourth", 40)],
    );
    // Page by page, each the first that were not printed.
    assert_eq!(run(&["-n", "2"]), (0, vec!["late".into(), "third".into()]));
    store(&home, [named("later", 1), named("fifth", 50)]);
    assert_eq!(
        run(&["-n", "2"]),
        (0, vec!["fourth".into(), "later".into()])
    );
    assert_eq!(run(&[]), (0, vec!["fifth".into()]));
    // A wipe, and records after it.
    store(&home, [named("wiped", 60)]);
    assert_eq!(home.run(&["wipe", "gw", "-y"]).code, 0);
    store(&home, [named("after the wipe", 2)]);
    assert_eq!(run(&[]), (0, vec!["after the wipe".into()]));
    // Records that the filter leaves out are passed.
    store(&home, [named("noise", 61), named("signal", 62)]);
    assert_eq!(run(&["-g", "signal"]), (0, vec!["signal".into()]));
    assert_eq!(run(&[]), (1, vec![]));
    // Another database counts anew.
    fs::remove_dir_all(home.path().join("telemetry/gw")).unwrap();
    store(&home, [named("new database", 3)]);
    assert_eq!(run(&[]), (0, vec!["new database".into()]));
    assert_eq!(run(&[]), (1, vec![]));
    // Bad files.
    let other = Store::open(home.path(), "lab", StoreOptions::default()).unwrap();
    drop(other);
    let refused = home.run(&["logs", "lab", "--cursor-file", file]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(
        refused.stderr.contains(r#"belongs to the stack "gw""#),
        "{refused:?}"
    );
    fs::write(file, "{}").unwrap();
    let refused = home.run(&["logs", "gw", "--cursor-file", file]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(
        refused.stderr.contains("is not a file of --cursor-file"),
        "{refused:?}"
    );
}

const CHUNKS: TableDefinition<&[u8; 23], &[u8]> = TableDefinition::new("pieces");

#[test]
fn a_damaged_block_is_named_once_and_the_rest_is_shown() {
    let home = Home::new();
    let message = |number: usize| format!("call {number:05}");
    store(
        &home,
        (0..85).map(|number| {
            let record = LogRecord::new(at(number), Level::INFO, message(number));
            (SERVERS[0], record)
        }),
    );
    let whole = messages(&home, &[]);
    {
        let database = Database::open(home.database("gw")).unwrap();
        let transaction = database.begin_write().unwrap();
        let mut chunks = transaction.open_table(CHUNKS).unwrap();
        let (key, mut chunk) = {
            let second = chunks.iter().unwrap().nth(1).unwrap().unwrap();
            (*second.0.value(), second.1.value().to_vec())
        };
        *chunk.last_mut().unwrap() ^= 1;
        chunks.insert(&key, chunk.as_slice()).unwrap();
        drop(chunks);
        transaction.commit().unwrap();
    }
    let run = |args: &[&str]| {
        let shown = home.run(&[&["logs", "-o", "cat"], args].concat());
        assert_eq!(shown.code, 1, "{shown:?}");
        let lines: Vec<String> = shown.stdout.lines().map(str::to_owned).collect();
        let said = shown
            .stderr
            .lines()
            .filter(|line| line.starts_with("cannot read "))
            .count();
        assert_eq!(said, 1, "{args:?}: {shown:?}");
        (lines, shown.stderr)
    };
    let (mut left, said) = run(&[]);
    let lost = whole.len() - left.len();
    assert!(lost > 0 && lost < 40, "{lost} of {}", whole.len());
    assert!(left.iter().all(|line| whole.contains(line)));
    let expected = format!("cannot read {lost} records: github: ");
    assert!(said.starts_with(&expected), "{said}");
    assert_eq!(run(&["-n", "80", "-g", "call"]).0, left);
    assert_eq!(run(&["-C1", "-l", "info"]).0, left);
    left.reverse();
    assert_eq!(run(&["-r"]).0, left);
    // The newest records are read without it.
    left.truncate(10);
    left.reverse();
    assert_eq!(messages(&home, &["-n", "10"]), left);

    // Its summary still says how many records of which severity it has.
    let counted = home.run(&["count", "--csv"]);
    assert_eq!(counted.code, 0, "{counted:?}");
    assert_eq!(
        counted.stdout,
        format!("level,count\nINFO,{}\n", whole.len())
    );
    let counted = home.run(&["count", "--csv", "-g", "call"]);
    assert_eq!(counted.code, 1, "{counted:?}");
    assert_eq!(
        counted.stdout,
        format!("level,count\nINFO,{}\n", whole.len() - lost)
    );
    assert!(counted.stderr.starts_with(&expected), "{counted:?}");
}

/// A pager that is left open, or a program that reads later.
#[test]
fn a_list_that_is_not_read_keeps_no_space() {
    let home = Home::new();
    let mut random = 1_u64;
    let mut next = || {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        random
    };
    // Text that does not compress.
    let messages: Vec<String> = (0..3000)
        .map(|_| {
            let mut message = String::new();
            for _ in 0..60 {
                write!(message, "{:016x}", next()).unwrap();
            }
            message
        })
        .collect();
    let record = |(number, message): (usize, &String)| {
        let record = LogRecord::new(at(number), Level::INFO, message.as_str());
        (SERVERS[0], record)
    };
    store(&home, messages.iter().enumerate().map(record));
    let mut list = home.start_unread(&["logs", "-o", "cat"]);
    list.wait_until_full();
    assert_eq!(home.run(&["wipe", "gw", "-y"]).code, 0);
    let size = || {
        let blocks = fs::metadata(home.database("gw")).unwrap().blocks();
        blocks * 512
    };
    let begun = Instant::now();
    while size() > 1 << 20 {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{} bytes are kept",
            size()
        );
        assert_eq!(home.run(&["compact"]).code, 0);
    }
    // What was read before the wipe is printed, and the list ends.
    let shown = list.read();
    let shown: Vec<&str> = shown.lines().collect();
    assert!(shown.len() < messages.len() && shown[..] == messages[..shown.len()]);
}
