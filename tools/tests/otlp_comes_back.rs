//! All three signals are exported as OTLP/JSON and imported again without loss.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::Home;
use std::fs;

const LOGS: &str = r#"{"ts":"2026-05-08T23:39:03.123456789-04:00","level":"INFO","msg":"tool call completed","tool":"search","duration_ms":12,"component":"github","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736"}
{"ts":"2026-05-08T23:39:04-04:00","level":"ERROR+4","msg":"bad","ratio":1.0,"big":123456789012345678901234567890,"nested":{"a":[1,2.5,null,{"b":true}],"e":{}},"component":"github","component":"inner"}
"#;
const METRICS: &str = r#"{"reset":true,"ts":"2026-05-08T23:40:00Z","server":"github"}
{"ts":"2026-05-08T23:40:00Z","server":"github","reset":true,"diff":{"input_tokens":100,"output_tokens":50,"total_tokens":150},"total":{"input_tokens":100,"output_tokens":50,"total_tokens":150}}
{"ts":"2026-05-08T23:41:00Z","server":"github","diff":{"input_tokens":10,"output_tokens":5,"total_tokens":15},"total":{"input_tokens":110,"output_tokens":55,"total_tokens":165},"cost_diff":{"input_micro_usd":30},"cost_total":{"input_micro_usd":330,"output_micro_usd":750},"tool_usage":{"search":{"calls":3}}}
"#;
const TRACES: &str = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"69842a979911036cf3e822086ecaa007","spanId":"5a69fc178ba8f837","name":"tools/call","kind":3,"startTimeUnixNano":"1760738064624180000","endTimeUnixNano":"1760738064991180000","status":{"message":"boom","code":2}}],"scope":{"name":"gw"}}],"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"gridctl"}}]}}]}
"#;

fn export(home: &Home, format: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let args = [
        "export-jsonl",
        "--stack",
        "gw",
        "--out",
        out,
        "--format",
        format,
    ];
    let export = home.run(&args);
    assert_eq!(export.code, 0, "{export:?}");
    folder
}

fn import(home: &Home, folder: &tempfile::TempDir) {
    let import = home.run(&[
        "import-jsonl",
        "gw",
        folder.path().join("gw").to_str().unwrap(),
    ]);
    assert_eq!(import.code, 0, "{import:?}");
    assert!(import.stderr.contains("imported 5 records"), "{import:?}");
}

#[test]
fn import_export_import_export_gives_the_same_bytes() {
    let flat = tempfile::tempdir().unwrap();
    let github = flat.path().join("gw/github");
    fs::create_dir_all(&github).unwrap();
    let files = [
        ("logs.jsonl", LOGS),
        ("metrics.jsonl", METRICS),
        ("traces.jsonl", TRACES),
    ];
    for (name, text) in files {
        fs::write(github.join(name), text).unwrap();
    }
    let first = Home::new();
    import(&first, &flat);
    let read = |folder: &tempfile::TempDir, name: &str| {
        fs::read_to_string(folder.path().join("gw/github").join(name)).unwrap()
    };
    // To OTLP and back to the same NDJSON.
    let otlp = export(&first, "otlp");
    // White space after the first brace lets a Collector tell the files apart.
    let begins = |name: &str, text: &str| {
        let line = read(&otlp, name);
        let rest = line.strip_prefix('{').unwrap();
        rest.trim_start().starts_with(text) && !rest.starts_with(text)
    };
    assert!(begins("logs.jsonl", r#""resourceLogs":[{"resource":"#));
    assert!(begins(
        "metrics.jsonl",
        r#""resourceMetrics":[{"resource":"#
    ));
    let second = Home::new();
    import(&second, &otlp);
    let ndjson = export(&second, "ndjson");
    for (name, text) in files {
        assert_eq!(read(&ndjson, name), text, "{name}");
        assert_eq!(read(&export(&first, "ndjson"), name), text, "{name}");
    }
    // And once more to OTLP.
    let again = export(&second, "otlp");
    for (name, _) in files {
        assert_eq!(read(&again, name), read(&otlp, name), "{name}");
    }
}
