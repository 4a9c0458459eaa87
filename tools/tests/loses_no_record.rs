//! What people have in their files comes in record by record: nothing vanishes without a word, and
//! nothing is lost for the sake of something else.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Home, Output, output};
use serde_json::{Value, json};
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const TRACE_ID: &str = "69842a979911036cf3e822086ecaa007";
const SPAN_ID: &str = "5a69fc178ba8f837";

/// A home into which files are imported that are written for it.
struct World {
    home: Home,
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        World {
            home: Home::new(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn import(&self, path: &Path, more: &[&str]) -> Output {
        let args = ["import-jsonl", "gw", path.to_str().unwrap(), "--no-redact"];
        self.home.run(&[&args, more].concat())
    }

    /// Imports lines as logs of the server `github`, of which all are read.
    fn logs(&self, lines: &str) -> Vec<Value> {
        let path = self.file("logs.jsonl", lines);
        let import = self.import(&path, &["--server", "github"]);
        assert_eq!(import.code, 0, "{import:?}");
        self.exported("github", "logs", "ndjson")
    }

    /// The lines of a server's signal, as they are.
    fn exported_text(&self, server: &str, signal: &str, format: &str) -> String {
        let args = [
            "export-jsonl",
            "--stack",
            "gw",
            "--server",
            server,
            "--signal",
            signal,
            "--format",
            format,
            "--stdout",
        ];
        self.home.run(&args).stdout
    }

    /// The lines of a server's signal.
    fn exported(&self, server: &str, signal: &str, format: &str) -> Vec<Value> {
        let text = self.exported_text(server, signal, format);
        let lines = text.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// `server signal count` of all that is stored.
    fn stored(&self) -> Vec<String> {
        let status = self.home.run(&["status", "gw", "--json"]).stdout;
        let rows: Value = serde_json::from_str(&status).unwrap();
        rows["inventory"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| {
                let text = |key: &str| row[key].as_str().unwrap().to_owned();
                format!(
                    "{} {} {}",
                    text("server"),
                    text("signal"),
                    row["recordCount"]
                )
            })
            .collect()
    }
}

fn span(server: Option<&str>, name: &str) -> Value {
    let mut span = json!({"traceId": TRACE_ID, "spanId": SPAN_ID, "name": name,
        "startTimeUnixNano": "1760738064624180000", "endTimeUnixNano": "1760738064991180000"});
    if let Some(server) = server {
        span["attributes"] = json!([{"key": "server.name", "value": {"stringValue": server}}]);
    }
    span
}

fn traces(spans: &[Value]) -> String {
    let line = json!({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]});
    format!("{line}\n")
}

fn log(more: &Value) -> Value {
    let mut record = json!({"timeUnixNano": "1760738064624180000", "body": {"stringValue": "m"}});
    for (key, value) in more.as_object().unwrap() {
        record[key] = value.clone();
    }
    record
}

fn otlp_logs(resource: &Value, records: &[Value]) -> String {
    let line =
        json!({"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": records}]}]});
    format!("{line}\n")
}

#[test]
fn a_line_is_stored_under_its_own_signal_and_one_without_a_record_is_named() {
    let world = World::new();
    let mut lines = traces(&[span(Some("github"), "a")]);
    lines += &otlp_logs(&json!({}), &[log(&json!({}))]);
    lines += "{\"resource\":{},\"scopeSpans\":[{\"spans\":[]}]}\n{\"foo\":1}\n{\"resourceSpans\":[]}\n[]\n5\n{}\n";
    lines += "{\"ts\":\"2026-05-08T12:00:00Z\",\"server\":\"jira\",\"diff\":{},\"total\":{\"input_tokens\":7}}\n";
    lines += "{\"ts\":\"2026-05-08T12:00:00Z\",\"level\":\"INFO\",\"msg\":\"a log\"}\n";
    // Several signals in one object, in any order of keys and in the spelling of the .proto files.
    let both = json!({"x": 1, "resource_logs": [{"scope_logs": [{"log_records": [log(&json!({}))]}]}],
        "resourceSpans": [{"scopeSpans": [{"spans": [span(Some("github"), "b")]}]}]});
    lines += &both.to_string();
    let path = world.file("traces.jsonl", lines);
    let import = world.import(&path, &["--server", "github"]);
    assert_eq!(import.code, 1, "{import:?}");
    assert!(import.stderr.contains("imported 6 records"), "{import:?}");
    assert!(
        import.stderr.contains("6 records were skipped"),
        "{import:?}"
    );
    for line in [3, 4, 5, 6, 7, 8] {
        assert!(
            import.stderr.contains(&format!("traces.jsonl:{line}: ")),
            "{line}: {import:?}"
        );
    }
    assert_eq!(
        world.stored(),
        ["github logs 3", "github traces 2", "jira metrics 1"]
    );
}

#[test]
fn older_forms_are_read_and_what_they_publish_twice_is_read_once() {
    let world = World::new();
    let old = json!({"resourceSpans": [{"instrumentationLibrarySpans": [
        {"instrumentationLibrary": {"name": "old"}, "spans": [span(Some("a"), "x")]}]}]});
    let twice = json!({"resourceSpans": [{
        "instrumentationLibrarySpans": [{"spans": [span(Some("b"), "x")]}],
        "scopeSpans": [{"spans": [span(Some("b"), "x")]}]}]});
    let logs =
        json!({"resourceLogs": [{"instrumentationLibraryLogs": [{"logs": [log(&json!({}))]}]}]});
    let path = world.file("traces.jsonl", format!("{old}\n{twice}\n{logs}\n"));
    let import = world.import(&path, &["--server", "c"]);
    assert_eq!(import.code, 0, "{import:?}");
    assert_eq!(world.stored(), ["a traces 1", "b traces 1", "c logs 1"]);
    let line = &world.exported("a", "traces", "otlp")[0];
    assert_eq!(
        line["resourceSpans"][0]["scopeSpans"][0]["scope"]["name"],
        "old"
    );
}

#[test]
fn a_bad_record_loses_itself_alone_and_strict_stores_nothing_then() {
    let world = World::new();
    let mut bad_id = span(Some("github"), "bad id");
    bad_id["spanId"] = json!("5a69");
    let mut bad_kind = span(Some("github"), "bad kind");
    bad_kind["kind"] = json!("SPAN_KIND_WRONG");
    let line = traces(&[
        span(Some("github"), "a"),
        span(None, "nobody's"),
        bad_id,
        span(Some("jira"), "b"),
        bad_kind,
        json!(5),
        span(Some("github"), "c"),
    ]);
    let bad_resource = json!({"resourceSpans": [
        {"resource": {"attributes": [{"key": "a", "value": {"intValue": "x"}}]},
            "scopeSpans": [{"spans": [span(Some("lost"), "1"), span(Some("lost"), "2")]}]},
        {"resource": {}, "scopeSpans": [{"spans": [span(Some("jira"), "d")]}]}]});
    let path = world.file("traces.jsonl", format!("{line}{bad_resource}\n"));

    let strict = world.import(&path, &["--strict"]);
    assert_eq!(strict.code, 1, "{strict:?}");
    assert!(
        strict
            .stderr
            .contains("nothing was stored (--strict): 6 of 10 records"),
        "{strict:?}"
    );
    assert!(!world.home.database("gw").exists());

    let import = world.import(&path, &[]);
    assert_eq!(import.code, 1, "{import:?}");
    assert!(import.stderr.contains("imported 4 records"), "{import:?}");
    assert!(
        import.stderr.contains("6 records were skipped"),
        "{import:?}"
    );
    for reason in [
        "traces.jsonl:1: whose record this is does not follow: pass --server \
         (resourceSpans[0].scopeSpans[0].spans[1])",
        "invalid id \"5a69\"",
        "(resourceSpans[0].scopeSpans[0].spans[2].spanId)",
        "(resourceSpans[0].scopeSpans[0].spans[4].kind)",
        "expected an object, found a number",
        "(resourceSpans[0].resource.attributes[0].value.intValue): 2 records are lost with it",
    ] {
        assert!(import.stderr.contains(reason), "{reason}: {import:?}");
    }
    assert_eq!(world.stored(), ["github traces 2", "jira traces 2"]);

    let good = world.file(
        "good/traces.jsonl",
        traces(&[span(Some("github"), "strict")]),
    );
    assert_eq!(world.import(&good, &["--strict"]).code, 0);
    assert_eq!(world.stored(), ["github traces 3", "jira traces 2"]);
}

#[test]
fn damaged_text_is_repaired_and_counted() {
    let world = World::new();
    let mut lines = vec![0_u8; 100_000];
    lines.extend(b"{\"ts\":\"2026-05-08T12:00:00Z\",\"msg\":\"after NULs\"}\n");
    lines.extend(br#"{"ts":"2026-05-08T12:00:01Z","msg":"smile \ud83d"}"#);
    lines.extend(b"\n{\"ts\":\"2026-05-08T12:00:02Z\",\"msg\":\"no \xff UTF-8\"}\n");
    lines.extend(b"\xef\xbb\xbf{\"ts\":\"2026-05-08T12:00:03Z\",\"msg\":\"mark\",\"n\":NaN}\n");
    lines.extend(b"{\"ts\":\"2026-05-08T12:00:04Z\",\"msg\":\"tab\there\"}\n");
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    lines.extend(
        format!("{{\"ts\":\"2026-05-08T12:00:05Z\",\"deep\":{deep},\"msg\":\"deep\"}}\n").bytes(),
    );
    lines.extend(b"{\"msg\":\"no time\"}\n");
    let path = world.file("logs.jsonl", lines);
    let import = world.import(&path, &["--server", "github"]);
    assert_eq!(import.code, 0, "{import:?}");
    assert!(import.stderr.contains("imported 7 records"), "{import:?}");
    assert!(
        import.stderr.contains("6 lines were repaired, 0 records"),
        "{import:?}"
    );
    let text = world.exported_text("github", "logs", "ndjson");
    // What is left of the deep value is as deep as a record may be, which is too deep for others.
    let text = text.replace(['[', ']'], "");
    let logs: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let messages: Vec<&str> = logs
        .iter()
        .map(|log| log["msg"].as_str().unwrap())
        .collect();
    assert_eq!(
        messages,
        [
            "after NULs",
            "smile \u{fffd}",
            "no \u{fffd} UTF-8",
            "mark",
            "tab\there",
            "deep",
            "no time"
        ]
    );
    assert_eq!(logs[6]["ts"], logs[5]["ts"]);
    // And what was repaired is repaired to the same.
    let again = world.import(&path, &["--server", "github"]);
    assert!(again.stderr.contains("imported 0 records"), "{again:?}");
}

#[test]
fn a_deep_value_of_a_span_loses_itself_alone() {
    let world = World::new();
    let deep = (0..200).fold(
        json!({"stringValue": "x"}),
        |value, _| json!({"arrayValue": {"values": [value]}}),
    );
    let mut span = span(Some("github"), "deep");
    span["events"] = json!([{"name": "e", "attributes": [{"key": "deep", "value": deep}]}]);
    let path = world.file("traces.jsonl", traces(&[span]));
    let import = world.import(&path, &[]);
    assert_eq!(import.code, 0, "{import:?}");
    assert!(
        import.stderr.contains("1 lines were repaired"),
        "{import:?}"
    );
    assert_eq!(world.stored(), ["github traces 1"]);
}

#[test]
fn values_are_read_wherever_lines_end() {
    let world = World::new();
    let record = |second: u32, message: &str| json!({"ts": format!("2026-05-08T12:00:{second:02}Z"), "msg": message});
    let pretty = serde_json::to_string_pretty(&record(3, "pretty")).unwrap();
    let list =
        serde_json::to_string_pretty(&json!([record(5, "in a list"), record(6, "too")])).unwrap();
    let logs = world.logs(&format!(
        "{}{} {}\n{pretty}\n{} \n\n{list}\n",
        record(0, "one"),
        record(1, "two"),
        record(2, "three"),
        record(4, "four"),
    ));
    let messages: Vec<&str> = logs
        .iter()
        .map(|log| log["msg"].as_str().unwrap())
        .collect();
    assert_eq!(
        messages,
        ["one", "two", "three", "pretty", "four", "in a list", "too"]
    );
}

#[test]
fn after_damage_reading_goes_on_with_the_next_line() {
    let world = World::new();
    let good = |second: u32| {
        format!("{{\"ts\":\"2026-05-08T12:00:{second:02}Z\",\"msg\":\"{second}\"}}\n")
    };
    let mut lines = String::new();
    for (second, damage) in [
        "{\"ts\":\"2026-05-08T12:00:00Z\",\"msg\":\"cut o\n",
        "{\"ts\":\"2026-05-08T12:00:00Z\",\"a\":\n",
        "{\"ts\":\"2026-05-08T12:00:00Z\",\n",
        "{\"list\":[1,\n",
        "{\"ts\":\n  {\n",
        "not json\n",
        "}\n",
    ]
    .into_iter()
    .enumerate()
    {
        lines += damage;
        lines += &good(u32::try_from(second).unwrap() * 2);
        lines += &good(u32::try_from(second).unwrap() * 2 + 1);
    }
    lines += "{\"ts\":\"2026-05-08T12:00:59Z\",\n";
    let path = world.file("logs.jsonl", lines);
    let import = world.import(&path, &["--server", "github"]);
    assert_eq!(import.code, 1, "{import:?}");
    assert!(import.stderr.contains("imported 14 records"), "{import:?}");
    assert!(
        import.stderr.contains("8 records were skipped"),
        "{import:?}"
    );
    for line in [1, 4, 7, 10, 13, 17, 20, 23] {
        assert!(
            import.stderr.contains(&format!("logs.jsonl:{line}: ")),
            "{line}: {import:?}"
        );
    }
}

#[test]
fn every_level_has_its_severity_and_keeps_its_text() {
    let world = World::new();
    let names = [
        "TRACE", "notice", "WARNING", "Critical", "FATAL", "LOUD", "info",
    ];
    let lines: Vec<String> = names
        .iter()
        .zip(10..)
        .map(|(level, second)| {
            format!(r#"{{"ts":"2026-05-08T12:00:{second}Z","level":"{level}","msg":"m"}}"#)
        })
        .collect();
    let lines = lines.join("\n");
    let logs = world.logs(&lines);
    let levels: Vec<&str> = logs
        .iter()
        .map(|log| log["level"].as_str().unwrap())
        .collect();
    assert_eq!(
        levels,
        [
            "TRACE", "notice", "WARNING", "Critical", "FATAL", "LOUD", "INFO"
        ]
    );
    assert!(
        logs.iter().all(|log| log.as_object().unwrap().len() == 3),
        "{logs:?}"
    );
    let severities = |world: &World| -> Vec<(u64, String)> {
        world
            .exported("github", "logs", "otlp")
            .iter()
            .flat_map(|line| line["resourceLogs"].as_array().unwrap().clone())
            .flat_map(|resource| {
                resource["scopeLogs"][0]["logRecords"]
                    .as_array()
                    .unwrap()
                    .clone()
            })
            .map(|log| {
                (
                    log["severityNumber"].as_u64().unwrap_or_default(),
                    log["severityText"].as_str().unwrap_or_default().to_owned(),
                )
            })
            .collect()
    };
    let expected = [
        (1, "TRACE"),
        (10, "notice"),
        (13, "WARNING"),
        (21, "Critical"),
        (21, "FATAL"),
        (9, "LOUD"),
        (9, "INFO"),
    ];
    assert_eq!(
        severities(&world),
        expected.map(|(number, text)| (number, text.to_owned()))
    );

    // Of OTLP: without a number, with an unknown text, unspecified.
    let world = World::new();
    let records = [
        log(&json!({"severityText": "FATAL"})),
        log(&json!({"severityText": "trace"})),
        log(&json!({"severityText": "LOUD"})),
        log(&json!({"severityNumber": 13, "severityText": "LOUD"})),
        log(&json!({})),
    ];
    let path = world.file("logs.jsonl", otlp_logs(&json!({}), &records));
    assert_eq!(world.import(&path, &["--server", "github"]).code, 0);
    let expected = [
        (21, "FATAL"),
        (1, "trace"),
        (0, "LOUD"),
        (13, "LOUD"),
        (0, ""),
    ];
    assert_eq!(
        severities(&world),
        expected.map(|(number, text)| (number, text.to_owned()))
    );
    let levels: Vec<Value> = world
        .exported("github", "logs", "ndjson")
        .iter()
        .map(|log| log["level"].clone())
        .collect();
    assert_eq!(levels, ["FATAL", "trace", "INFO", "WARN", "INFO"]);
}

#[test]
fn lines_of_other_libraries_are_logs() {
    let time = "2025-10-28T19:15:10.8213Z";
    for (dialect, line, level, message, attribute) in [
        (
            "slog",
            json!({"time": time, "level": "WARN", "msg": "m", "a": 1}),
            "WARN",
            "m",
            "a",
        ),
        (
            "zap",
            json!({"level": "warn", "ts": 1_761_678_910.821_3, "msg": "m", "caller": "x"}),
            "WARN",
            "m",
            "caller",
        ),
        (
            "pino",
            json!({"level": 40, "time": 1_761_678_910_821_i64, "pid": 1, "msg": "m"}),
            "WARN",
            "m",
            "pid",
        ),
        (
            "bunyan",
            json!({"name": "x", "level": 60, "msg": "m", "time": time, "v": 0}),
            "ERROR+4",
            "m",
            "v",
        ),
        (
            "logrus",
            json!({"level": "warning", "msg": "m", "time": "2025-10-28T20:15:10+0100", "x": 1}),
            "warning",
            "m",
            "x",
        ),
        (
            "ecs",
            json!({"@timestamp": time, "log.level": "warn", "message": "m", "ecs.version": "1"}),
            "WARN",
            "m",
            "ecs.version",
        ),
        (
            "ecs",
            json!({"@timestamp": time, "log": {"level": "warn", "logger": "l"}, "message": "m"}),
            "WARN",
            "m",
            "log",
        ),
        (
            "tracing",
            json!({"timestamp": time, "level": "WARN", "fields": {"message": "m", "n": 3}, "target": "t"}),
            "WARN",
            "m",
            "fields",
        ),
        (
            "journald",
            json!({"__REALTIME_TIMESTAMP": "1761678910821300", "PRIORITY": "4", "MESSAGE": [109], "_PID": "7"}),
            "WARN",
            "m",
            "_PID",
        ),
    ] {
        for dialect in ["auto", dialect] {
            let world = World::new();
            let path = world.file("logs.jsonl", format!("{line}\n"));
            let import = world.import(&path, &["--server", "github", "--dialect", dialect]);
            assert_eq!(import.code, 0, "{dialect} {line}: {import:?}");
            let log = &world.exported("github", "logs", "ndjson")[0];
            let found = log["ts"].as_str().unwrap();
            assert!(
                found.starts_with("2025-10-28T19:15:10")
                    || found.starts_with("2025-10-28T20:15:10+01:00"),
                "{dialect}: {log}"
            );
            assert_eq!(
                (&log["level"], &log["msg"]),
                (&json!(level), &json!(message)),
                "{dialect}: {log}"
            );
            assert!(log.get(attribute).is_some(), "{dialect}: {log}");
        }
    }
    let world = World::new();
    let path = world.file("logs.jsonl", "{\"time\":1,\"msg\":\"m\"}\n");
    let refused = world.import(&path, &["--server", "github", "--dialect", "otlp"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert_eq!(
        world
            .import(&path, &["--server", "x", "--dialect", "log4j"])
            .code,
        2
    );
}

#[test]
fn the_shared_files_of_other_libraries_are_read() {
    let Some(folder) = std::env::var_os("GRIDCTL_TELEMETRY_SHARED_DATA").map(PathBuf::from) else {
        println!("skipped: GRIDCTL_TELEMETRY_SHARED_DATA does not name the shared data's folder");
        return;
    };
    for (name, records, level, begins) in [
        ("ecs", 5, "debug", "this is a debug message"),
        ("tracing-subscriber", 5, "INFO", "preparing to shave"),
        ("zap-caddy", 2, "INFO", "handled request"),
    ] {
        let world = World::new();
        let lines = fs::read_to_string(folder.join(format!("dialects/{name}.jsonl"))).unwrap();
        let logs = world.logs(&lines);
        assert_eq!(logs.len(), records, "{name}");
        assert_eq!(
            logs[0]["level"].as_str().unwrap().to_lowercase(),
            level.to_lowercase()
        );
        assert!(
            logs[0]["msg"].as_str().unwrap().starts_with(begins),
            "{}",
            logs[0]
        );
    }
}

#[test]
fn standard_input_is_a_file() {
    for more in [&[][..], &["--strict"]] {
        let world = World::new();
        let mut command: Command = world
            .home
            .command(&[&["import-jsonl", "gw", "-", "--server", "github"], more].concat());
        let mut child = command
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin
            .write_all(b"{\"ts\":\"2026-05-08T12:00:00Z\",\"msg\":\"a\"}\n{\"msg\":\"b\"}\n")
            .unwrap();
        drop(stdin);
        assert!(child.wait().unwrap().success());
        assert_eq!(world.stored(), ["github logs 2"]);
    }
    let home = Home::new();
    let empty = output(&mut home.command(&["import-jsonl", "gw", "-", "--server", "x"]));
    assert_eq!(empty.code, 0, "{empty:?}");
}

#[test]
fn one_rule_says_whose_a_record_is() {
    let service = json!({"attributes": [
        {"key": "service.name", "value": {"stringValue": "claude-code"}},
        {"key": "host.name", "value": {"stringValue": "h"}}]});
    let server = json!({"attributes": [
        {"key": "service.name", "value": {"stringValue": "claude-code"}},
        {"key": "server.name", "value": {"stringValue": "jira"}}]});
    let gauge = |resource: &Value| {
        let metric = json!({"name": "g", "gauge": {"dataPoints": [{"timeUnixNano": "1760738064624180000", "asInt": "1"}]}});
        format!(
            "{}\n",
            json!({"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [metric]}]}]})
        )
    };
    let spans = |resource: &Value| {
        format!(
            "{}\n",
            json!({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span(None, "s")]}]}]})
        )
    };
    let world = World::new();
    for resource in [&service, &server] {
        let name = if resource == &service { "a" } else { "b" };
        world.file(
            &format!("{name}/gw/logs.jsonl"),
            otlp_logs(resource, &[log(&json!({}))]),
        );
        world.file(&format!("{name}/gw/metrics.jsonl"), gauge(resource));
        world.file(&format!("{name}/gw/traces.jsonl"), spans(resource));
        let import = world.import(&world.folder.path().join(name), &[]);
        assert_eq!(import.code, 0, "{import:?}");
    }
    let expected = [
        "gw logs 1",
        "gw metrics 1",
        "gw traces 1",
        "jira logs 1",
        "jira metrics 1",
        "jira traces 1",
    ];
    assert_eq!(world.stored(), expected);
    for owner in ["gw", "jira"] {
        let log = &world.exported(owner, "logs", "otlp")[0]["resourceLogs"][0];
        let attributes = log["resource"]["attributes"].to_string();
        assert!(attributes.contains("claude-code"), "{log}");
        let log = world.exported(owner, "logs", "ndjson")[0].to_string();
        assert!(log.contains("claude-code"), "{log}");
    }
    // A lone file of an export says itself whose each record is.
    let export = world.home.run(&[
        "export-jsonl",
        "--stack",
        "gw",
        "--signal",
        "logs",
        "--format",
        "otlp",
        "--stdout",
    ]);
    let path = world.file("logs.jsonl", export.stdout);
    let again = world.import(&path, &[]);
    assert!(again.stderr.contains("imported 0 records"), "{again:?}");
    assert_eq!(world.stored(), expected);
}

#[test]
fn values_of_otlp_come_back_through_both_formats() {
    let records = [
        log(
            &json!({"body": {"kvlistValue": {"values": [{"key": "k", "value": {"intValue": "5"}}]}}}),
        ),
        log(
            &json!({"body": {"arrayValue": {"values": [{"stringValue": "x"}, {"doubleValue": 1.5}]}}}),
        ),
        log(&json!({"body": {"intValue": "7"}})),
        log(&json!({"observedTimeUnixNano": "1760738064624180001", "eventName": "e", "flags": 1})),
        log(&json!({"observedTimeUnixNano": "1760738064624180000", "severityNumber": 10})),
    ];
    let resource = json!({"attributes": [{"key": "service.name", "value": {"stringValue": "github"}},
        {"key": "host.name", "value": {"stringValue": "h"}}]});
    let first = World::new();
    let path = first.file("logs.jsonl", otlp_logs(&resource, &records));
    assert_eq!(first.import(&path, &["--server", "github"]).code, 0);
    let otlp = first.exported("github", "logs", "otlp");
    let found = &otlp[0]["resourceLogs"][0];
    assert_eq!(found["resource"], resource);
    let found = &found["scopeLogs"][0]["logRecords"];
    for (record, found) in records.iter().zip(found.as_array().unwrap()) {
        for (key, value) in record.as_object().unwrap() {
            assert_eq!(&found[key], value, "{found}");
        }
    }
    assert!(found[0].get("attributes").is_none(), "{found}");
    // Through lines of logs, and back.
    let lines = first.exported_text("github", "logs", "ndjson");
    assert!(lines.contains(r#""body":{"k":5}"#), "{lines}");
    let second = World::new();
    second.logs(&lines);
    assert_eq!(second.exported("github", "logs", "otlp"), otlp);
    let path = first.file("again/logs.jsonl", lines);
    let again = first.import(&path, &["--server", "github"]);
    assert!(again.stderr.contains("imported 0 records"), "{again:?}");
}

#[test]
fn a_reset_whose_snapshot_is_in_the_next_file_is_whole() {
    let world = World::new();
    let sentinel = "{\"reset\":true,\"ts\":\"2026-05-08T12:00:00Z\",\"server\":\"github\"}\n";
    let full = "{\"ts\":\"2026-05-08T12:00:00Z\",\"server\":\"github\",\"reset\":true,\"diff\":{},\"total\":{}}\n";
    world.file(
        "stack/github/metrics-2026-05-08T12-00-00.000.jsonl",
        sentinel,
    );
    world.file("stack/github/metrics.jsonl", full);
    let import = world.import(&world.folder.path().join("stack"), &[]);
    assert_eq!(import.code, 0, "{import:?}");
    assert_eq!(world.stored(), ["github metrics 1"]);
    // One that does not come at all is named, with its own file.
    world.file(
        "other/github/metrics-2026-05-08T12-00-00.000.jsonl",
        sentinel,
    );
    world.file(
        "other/github/metrics.jsonl",
        full.replace("12:00:00", "12:01:00"),
    );
    let import = world.import(&world.folder.path().join("other"), &[]);
    assert_eq!(import.code, 1, "{import:?}");
    assert!(
        import
            .stderr
            .contains("12-00-00.000.jsonl:1: a reset is announced"),
        "{import:?}"
    );
}

#[test]
fn our_metrics_keep_their_totals_beside_others() {
    let world = World::new();
    let line = "{\"ts\":\"2026-05-08T12:00:00Z\",\"server\":\"github\",\"diff\":{\"input_tokens\":5},\"total\":{\"input_tokens\":5}}\n";
    let path = world.file("metrics.jsonl", line);
    assert_eq!(world.import(&path, &["--server", "github"]).code, 0);
    let mut message = world.exported("github", "metrics", "otlp").remove(0);
    let gauge = json!({"name": "g", "gauge": {"dataPoints": [{"timeUnixNano": "1760738064624180000", "asInt": "1"}]}});
    let metrics = message["resourceMetrics"][0]["scopeMetrics"][0]["metrics"]
        .as_array_mut()
        .unwrap();
    metrics.insert(0, gauge);
    let other = World::new();
    let path = other.file("metrics.jsonl", format!("{message}\n"));
    assert_eq!(other.import(&path, &["--server", "github"]).code, 0);
    let lines = other.exported("github", "metrics", "ndjson");
    assert_eq!(lines.len(), 2);
    assert!(
        lines.iter().any(|line| line["total"]["input_tokens"] == 5),
        "{lines:?}"
    );
    assert!(
        lines.iter().any(|line| line.get("otlp").is_some()),
        "{lines:?}"
    );
}
