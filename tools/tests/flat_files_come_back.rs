//! Flat files are imported into a database and exported as the same files, through the operator's
//! programs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Home, gzip, lines};
use serde_json::Value;
use std::fs;

const LOGS: &str = r#"{"ts":"2026-05-08T23:39:03.123456789-04:00","level":"INFO","msg":"tool call completed","tool":"search","duration_ms":12,"component":"github","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736"}
{"ts":"2026-05-08T23:39:04-04:00","level":"ERROR+4","msg":"bad \u0000 \"quoted\" 日本","ratio":1.0,"big":123456789012345678901234567890,"tiny":5e-324,"max":18446744073709551615,"nested":{"a":[1,2.5,null,{"b":true}],"e":{}},"component":"github","component":"inner"}
{"ts":"2026-05-08T23:39:04-04:00","level":"DEBUG-4","msg":"the same time, and later","component":"github"}
"#;
const ROTATED: &str = r#"{"ts":"2026-04-30T11:59:03.5Z","level":"WARN","msg":"rotated","component":"github"}
{"ts":"2026-05-08T23:39:03.5-04:00","level":"INFO","msg":"older file, later time"}
"#;
const METRICS: &str = r#"{"reset":true,"ts":"2026-05-08T23:40:00Z","server":"github"}
{"ts":"2026-05-08T23:40:00Z","server":"github","reset":true,"diff":{"input_tokens":100,"output_tokens":50,"total_tokens":150},"total":{"input_tokens":100,"output_tokens":50,"total_tokens":150}}
{"ts":"2026-05-08T23:41:00Z","server":"github","diff":{"input_tokens":10,"output_tokens":5,"total_tokens":15},"total":{"input_tokens":110,"output_tokens":55,"total_tokens":165},"cost_diff":{"input_micro_usd":30},"cost_total":{"input_micro_usd":330,"output_micro_usd":750},"tool_usage":{"search":{"calls":3}}}
"#;
/// Spans as the Go program wrote them, with base64 ids and enum names.
const TRACES: &str = r#"{"resourceSpans": [{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"gridctl"}}]},"scopeSpans":[{"scope":{"name":"gateway","version":"1.2"},"spans":[{"traceId":"aYQql5kRA2zz6CIIbsqgBw==","spanId":"Wmn8F4uo+Dc=","parentSpanId":"ROYdmrMPywY=","name":"tools/call","kind":"SPAN_KIND_CLIENT","startTimeUnixNano":"1760738064624180000","endTimeUnixNano":"1760738064991180000","attributes":[{"key":"server.name","value":{"stringValue":"jira cloud"}},{"key":"n","value":{"intValue":"7"}}],"status":{"code":"STATUS_CODE_ERROR","message":"boom"}}],"schemaUrl":"https://example.org/scope"}],"schemaUrl":"https://example.org/resource"}]}
"#;

fn flat_stack() -> tempfile::TempDir {
    let flat = tempfile::tempdir().unwrap();
    let github = flat.path().join("github");
    let jira = flat.path().join("jira cloud");
    fs::create_dir(&github).unwrap();
    fs::create_dir(&jira).unwrap();
    fs::write(github.join("logs.jsonl"), LOGS).unwrap();
    gzip(
        &github.join("logs-2026-04-30T12-00-00.000.jsonl.gz"),
        ROTATED.as_bytes(),
    );
    fs::write(github.join("logs-backup.jsonl"), "this is the user's own").unwrap();
    fs::write(github.join("metrics.jsonl"), METRICS).unwrap();
    fs::write(jira.join("traces.jsonl"), TRACES).unwrap();
    flat
}

#[test]
fn every_record_comes_back_with_equal_values_in_time_order() {
    let home = Home::new();
    let flat = flat_stack();
    let import = home.run(&["import-jsonl", "gw", flat.path().to_str().unwrap()]);
    assert_eq!(import.code, 0, "{import:?}");
    assert!(
        import.stderr.contains("imported 8 records from 4 files"),
        "{import:?}"
    );

    let out = home.export("gw");
    let logs = fs::read_to_string(out.path().join("gw/github/logs.jsonl")).unwrap();
    // Ordered by time, with the later record of the rotated file among those of the active file.
    let mut expected: Vec<&str> = vec![ROTATED.lines().next().unwrap()];
    expected.push(LOGS.lines().next().unwrap());
    expected.push(ROTATED.lines().nth(1).unwrap());
    expected.extend(LOGS.lines().skip(1));
    assert_eq!(logs.lines().collect::<Vec<_>>(), expected, "byte for byte");
    let metrics = fs::read_to_string(out.path().join("gw/github/metrics.jsonl")).unwrap();
    assert_eq!(metrics, METRICS);

    let traces = fs::read_to_string(out.path().join("gw/jira cloud/traces.jsonl")).unwrap();
    let line: Value = serde_json::from_str(&traces).unwrap();
    let resource_spans = &line["resourceSpans"][0];
    assert_eq!(resource_spans["schemaUrl"], "https://example.org/resource");
    let scope_spans = &resource_spans["scopeSpans"][0];
    assert_eq!(scope_spans["scope"]["version"], "1.2");
    assert_eq!(scope_spans["schemaUrl"], "https://example.org/scope");
    let span = &scope_spans["spans"][0];
    assert_eq!(span["traceId"], "69842a979911036cf3e822086ecaa007");
    assert_eq!(span["spanId"], "5a69fc178ba8f837");
    assert_eq!(span["parentSpanId"], "44e61d9ab30fcb06");
    assert_eq!(span["kind"], 3);
    assert_eq!(span["status"]["code"], 2);
    assert_eq!(span["endTimeUnixNano"], "1760738064991180000");
    assert_eq!(span["attributes"][1]["value"]["intValue"], "7");
}

#[test]
fn importing_again_adds_nothing() {
    let home = Home::new();
    let flat = flat_stack();
    let path = flat.path().to_str().unwrap();
    // A line that occurs twice is two records, however often the file is imported.
    let twice = r#"{"ts":"2026-06-01T00:00:00Z","level":"INFO","msg":"twice"}"#;
    let logs = flat.path().join("github/logs.jsonl");
    fs::write(&logs, format!("{LOGS}{twice}\n{twice}\n")).unwrap();
    for round in 0..3 {
        let import = home.run(&["import-jsonl", "gw", path]);
        assert_eq!(import.code, 0, "{import:?}");
        let expected = if round == 0 {
            "imported 10 records"
        } else {
            "imported 0 records"
        };
        assert!(import.stderr.contains(expected), "{import:?}");
    }
    // The file has grown and was rotated: only new records are added.
    fs::rename(
        &logs,
        flat.path()
            .join("github/logs-2026-06-02T00-00-00.000.jsonl"),
    )
    .unwrap();
    fs::write(
        &logs,
        r#"{"ts":"2026-06-03T00:00:00Z","level":"INFO","msg":"new"}"#,
    )
    .unwrap();
    let import = home.run(&["import-jsonl", "gw", path]);
    assert!(import.stderr.contains("imported 1 records"), "{import:?}");

    // The export of the store imports as the same store.
    let out = home.export("gw");
    let import = home.run(&[
        "import-jsonl",
        "gw",
        out.path().join("gw").to_str().unwrap(),
    ]);
    assert!(import.stderr.contains("imported 0 records"), "{import:?}");
    let again = home.export("gw");
    for file in [
        "github/logs.jsonl",
        "github/metrics.jsonl",
        "jira cloud/traces.jsonl",
    ] {
        let read =
            |folder: &tempfile::TempDir| fs::read(folder.path().join("gw").join(file)).unwrap();
        assert_eq!(read(&out), read(&again), "{file}");
    }
}

#[test]
fn a_range_and_a_selection_are_exported() {
    let home = Home::new();
    let flat = flat_stack();
    home.run(&["import-jsonl", "gw", flat.path().to_str().unwrap()]);
    let export = home.run(&[
        "export-jsonl",
        "--stack",
        "gw",
        "--server",
        "github",
        "--signal",
        "logs",
        "--since",
        "2026-05-09T03:39:04Z",
        "--until",
        "2026-05-09T03:39:05Z",
        "--stdout",
    ]);
    assert_eq!(export.code, 0);
    assert_eq!(
        lines(&export.stdout),
        LOGS.lines().skip(1).collect::<Vec<_>>()
    );
    let both = home.run(&["export-jsonl", "--stack", "gw", "--stdout"]);
    assert_eq!(both.code, 2, "three signals are not one stream");
    assert!(both.stderr.contains("--signal"));
    let none = home.run(&["export-jsonl", "--stack", "gw", "--server", "x", "--stdout"]);
    assert_eq!(none.code, 1);
}

#[test]
fn status_shows_it_for_people_and_for_programs() {
    let home = Home::new();
    let flat = flat_stack();
    home.run(&["import-jsonl", "gw", flat.path().to_str().unwrap()]);
    let json: Value = serde_json::from_str(&home.run(&["status", "--json"]).stdout).unwrap();
    let inventory = &json["inventory"];
    let rows: Vec<String> = inventory
        .as_array()
        .unwrap()
        .iter()
        .map(|row| format!("{} {} {}", row["server"], row["signal"], row["recordCount"]))
        .collect();
    assert_eq!(
        rows,
        [
            r#""github" "logs" 5"#,
            r#""github" "metrics" 2"#,
            r#""jira cloud" "traces" 1"#
        ]
    );
    assert_eq!(inventory[0]["oldest"], "2026-04-30T11:59:03.5Z");
    assert_eq!(inventory[0]["newest"], "2026-05-09T03:39:04Z");
    assert_eq!(inventory[0]["fileCount"], 1);
    assert!(inventory[0]["sizeBytes"].as_u64().unwrap() > 0);
    assert!(
        inventory[0]["path"]
            .as_str()
            .unwrap()
            .ends_with("telemetry/gw/telemetry.redb")
    );
    let plain = home.run(&["status", "gw", "--plain"]).stdout;
    assert_eq!(plain.lines().count(), 4);
    assert!(plain.lines().all(|line| line.split('\t').count() == 8));
    let table = home.run(&["status"]).stdout;
    assert!(table.contains("STACK") && table.contains("jira cloud"));
    let nothing: Value =
        serde_json::from_str(&home.run(&["status", "nothing", "--json"]).stdout).unwrap();
    assert_eq!(nothing["inventory"], serde_json::json!([]));
}

#[test]
fn tail_prints_the_last_records() {
    let home = Home::new();
    let flat = flat_stack();
    home.run(&["import-jsonl", "gw", flat.path().to_str().unwrap()]);
    let tail = home.run(&["tail", "gw", "github", "--signal", "logs", "-n", "2"]);
    assert_eq!(
        lines(&tail.stdout),
        LOGS.lines().skip(1).collect::<Vec<_>>()
    );
    assert_eq!(home.run(&["tail", "gw", "nobody"]).code, 1);
    assert_eq!(home.run(&["tail", "nothing", "github"]).code, 2);
}

#[test]
fn wipe_asks_unless_told_not_to() {
    let home = Home::new();
    let flat = flat_stack();
    home.run(&["import-jsonl", "gw", flat.path().to_str().unwrap()]);
    let refused = home.run(&["wipe", "gw"]);
    assert_eq!(refused.code, 2, "no terminal to ask on: {refused:?}");
    let wiped = home.run(&["wipe", "gw", "--server", "github", "--signal", "logs", "-y"]);
    assert_eq!(wiped.code, 0);
    assert!(
        wiped.stdout.contains("gw/github logs: 5 records"),
        "{wiped:?}"
    );
    let json: Value = serde_json::from_str(&home.run(&["status", "--json"]).stdout).unwrap();
    assert_eq!(json["inventory"].as_array().unwrap().len(), 2);
    assert_eq!(home.run(&["wipe", "gw", "-y"]).code, 0);
    for stack in ["gw", "never-there"] {
        let nothing = home.run(&["wipe", stack, "-y"]);
        assert_eq!(
            (nothing.code, nothing.stdout.as_str()),
            (0, "Nothing to wipe.\n")
        );
    }
}
