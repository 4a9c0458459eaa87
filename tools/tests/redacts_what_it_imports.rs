//! Secrets in old files do not reach the database, unless the operator asks for an exact copy.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::Home;
use std::{fs, path::Path};

const FILES: [(&str, &str); 3] = [
    (
        "logs.jsonl",
        r#"{"ts":"2026-05-08T12:00:00Z","level":"INFO","msg":"Authorization: Bearer canary-1","api_key":"canary-2","env":{"OPENAI_KEY":"canary-3"},"input_tokens":12}
{"ts":"2026-05-08T12:00:01Z","level":"INFO","msg":"https://u:canary-4@host/","body":"{\"password\":\"canary-5\"}"}
{"ts":"2026-05-08T12:00:01Z","level":"INFO","msg":"https://u:canary-4@host/","body":"{\"password\":\"canary-5\"}"}
"#,
    ),
    (
        "metrics.jsonl",
        r#"{"ts":"2026-05-08T12:00:00Z","server":"github","diff":{"input_tokens":1,"output_tokens":2,"total_tokens":3},"total":{"input_tokens":1,"output_tokens":2,"total_tokens":3},"note":"token=canary-6","tool_usage":{"get_secret":{"calls":1,"last_called_at":"2026-05-08T12:00:00Z"}}}
"#,
    ),
    (
        "traces.jsonl",
        r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"db.password","value":{"stringValue":"canary-7"}}]},"scopeSpans":[{"spans":[{"traceId":"4bf92f3577b34da6a3ce929d0e0e4736","spanId":"00f067aa0ba902b7","name":"call secret=canary-8","startTimeUnixNano":"1778241600000000000","endTimeUnixNano":"1778241601000000000","attributes":[{"key":"server.name","value":{"stringValue":"github"}}],"status":{"message":"denied for Bearer canary-9"}}]}]}]}
"#,
    ),
];

fn import(home: &Home, folder: &Path, options: &[&str]) -> String {
    let path = folder.to_str().unwrap();
    let output = home.run(&[&["import-jsonl", "gw", path], options].concat());
    assert_eq!(output.code, 0, "{output:?}");
    output.stderr
}

fn exported(home: &Home) -> String {
    ["logs", "metrics", "traces"]
        .iter()
        .map(|signal| {
            let arguments = [
                "export-jsonl",
                "--stack",
                "gw",
                "--signal",
                signal,
                "--stdout",
            ];
            home.run(&arguments).stdout
        })
        .collect()
}

fn database(home: &Home) -> String {
    fn read(folder: &Path, out: &mut String) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                read(&path, out);
            } else {
                out.push_str(&String::from_utf8_lossy(&fs::read(path).unwrap()));
            }
        }
    }
    let mut out = String::new();
    read(home.path(), &mut out);
    out
}

fn files() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let server = folder.path().join("github");
    fs::create_dir(&server).unwrap();
    for (name, content) in FILES {
        fs::write(server.join(name), content).unwrap();
    }
    folder
}

#[test]
fn an_import_replaces_secrets_and_adds_nothing_the_second_time() {
    let (home, folder) = (Home::new(), files());
    let first = import(&home, folder.path(), &[]);
    assert!(first.contains("imported 5 records"), "{first}");
    assert!(first.contains("secrets were replaced"), "{first}");
    let second = import(&home, folder.path(), &[]);
    assert!(second.contains("imported 0 records"), "{second}");
    assert!(second.contains("5 were stored already"), "{second}");
    let out = exported(&home);
    assert!(!out.contains("canary"), "{out}");
    assert!(!database(&home).contains("canary"));
    for kept in [
        "\"input_tokens\":12",
        "last_called_at\":\"2026-05-08",
        "[REDACTED]@host/",
    ] {
        assert!(out.contains(kept), "{kept} in {out}");
    }
}

#[test]
fn an_exact_copy_is_made_when_it_is_asked_for() {
    let (home, folder) = (Home::new(), files());
    for added in [5, 0] {
        let summary = import(&home, folder.path(), &["--no-redact"]);
        assert!(
            summary.contains(&format!("imported {added} records")),
            "{summary}"
        );
        assert!(summary.contains("--no-redact"), "{summary}");
    }
    let out = exported(&home);
    for canary in 1..=9 {
        assert!(
            out.contains(&format!("canary-{canary}")),
            "{canary} in {out}"
        );
    }
}
