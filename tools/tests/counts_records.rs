//! `count` shows how many records match, by level, server, name, an entry or time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Home, lines};
use serde_json::{Value, json};
use std::fs;

/// A home whose stack `gw` has eight logs of two servers.
fn home() -> Home {
    let home = Home::new();
    let folder = tempfile::tempdir().unwrap();
    let write = |server: &str, logs: &[(&str, &str, Value)]| {
        let lines = logs.iter().map(|(time, level, tool)| {
            let time = format!("2026-05-08T{time}Z");
            json!({"ts": time, "level": level, "msg": "call", "tool": tool}).to_string()
        });
        let path = folder.path().join(server);
        fs::create_dir(&path).unwrap();
        let lines: Vec<String> = lines.collect();
        fs::write(path.join("logs.jsonl"), lines.join("\n")).unwrap();
    };
    write(
        "github",
        &[
            ("21:10:00", "INFO", json!("search")),
            ("21:20:00", "ERROR", json!("search")),
            ("21:59:59.5", "INFO", json!("list")),
            ("22:30:00", "INFO", json!(["a", "b"])),
            ("23:00:00", "INFO", json!("search")),
            ("23:00:00", "ERROR+4", json!("search")),
        ],
    );
    write(
        "slack",
        &[
            ("22:00:00", "INFO", json!("post\u{1b}[2J")),
            ("22:00:01", "WARN", json!(7)),
        ],
    );
    let imported = home.run(&["import-jsonl", "gw", folder.path().to_str().unwrap()]);
    assert_eq!(imported.code, 0, "{imported:?}");
    home
}

fn words(text: &str) -> Vec<Vec<&str>> {
    let lines = text.lines();
    lines
        .map(|line| line.split_whitespace().collect())
        .collect()
}

/// The rows that `count` prints with these arguments, without the headings.
fn rows(home: &Home, args: &[&str]) -> Vec<String> {
    let shown = home.run(&[&["count"], args].concat());
    assert_eq!(shown.code, 0, "{shown:?}");
    let rows = words(&shown.stdout).into_iter().skip(1);
    rows.map(|row| row.join(" ")).collect()
}

#[test]
fn a_row_has_what_its_records_have_in_common() {
    let home = home();
    let shown = home.run(&["count"]);
    assert_eq!(
        words(&shown.stdout),
        [
            ["LEVEL", "COUNT"],
            ["ERROR+4", "1"],
            ["ERROR", "1"],
            ["WARN", "1"],
            ["INFO", "5"],
            ["total", "8"],
        ]
    );
    for (args, expected) in [
        (
            &["--by", "server"][..],
            &["github 6", "slack 2", "total 8"][..],
        ),
        (
            &["--by", "field:tool"],
            &[
                "search 4",
                "- 1",
                "7 1",
                "list 1",
                "post\\u{1b}[2J 1",
                "total 8",
            ],
        ),
        (
            &["--by", "hour,server", "--until", "2026-05-08T22:10:00Z"],
            &[
                "2026-05-08T21:00:00Z github 3",
                "2026-05-08T22:00:00Z slack 2",
                "total 5",
            ],
        ),
        (
            &["github", "--level", "error", "--by", "30m"],
            &[
                "2026-05-08T21:00:00Z 1",
                "2026-05-08T23:00:00Z 1",
                "total 2",
            ],
        ),
        (
            &["--field", "tool=search", "--by", "day"],
            &["2026-05-08T00:00:00Z 4", "total 4"],
        ),
        (
            &["-g", "CALL", "--by", "1d"],
            &["2026-05-08T00:00:00Z 8", "total 8"],
        ),
        (
            &["--by", "500ms", "--level", "warn..warn"],
            &["2026-05-08T22:00:01Z 1", "total 1"],
        ),
    ] {
        let args = [args, &["--utc"]].concat();
        assert_eq!(rows(&home, &args), expected, "{args:?}");
    }
}

#[test]
fn a_terminal_shows_bars_and_the_time_of_the_reader() {
    let home = home();
    let zone = [("TZ", "CET-1CEST,M3.5.0,M10.5.0/3"), ("NO_COLOR", "1")];
    let shown = |columns, args: &[&str]| {
        let args = [&["count"], args].concat();
        let (code, shown) = home.terminal(columns, 40, &zone, &args).finish();
        assert_eq!(code, 0, "{shown}");
        shown
    };
    let days = shown(60, &["--by", "day"]);
    assert_eq!(
        words(&days)[1..],
        [
            vec!["2026-05-08", "3", "████████████████████████"],
            vec![
                "2026-05-09",
                "5",
                "████████████████████████████████████████"
            ],
            vec!["total", "8"],
        ]
    );
    let halves = shown(20, &["--by", "30m"]);
    assert!(
        !halves.contains('█') && halves.contains("TIME 2026-05-08 23:00"),
        "{halves}"
    );
    let seconds = shown(60, &["--by", "10s"]);
    assert!(seconds.contains("2026-05-09 00:00:00  "), "{seconds}");
    let halves = shown(60, &["--by", "500ms"]);
    assert!(halves.contains("2026-05-08 23:59:59.500"), "{halves}");
}

#[test]
fn json_and_csv_are_for_programs() {
    let home = home();
    let found = home.run(&["count", "--by", "level", "--level", "error", "--json"]);
    let found: Value = serde_json::from_str(&found.stdout).unwrap();
    assert_eq!(
        found,
        json!({
            "stack": "gw", "signal": "logs",
            "rows": [{"level": "ERROR", "count": 1}, {"level": "ERROR+4", "count": 1}],
            "total": 2, "others": 0,
        })
    );
    let found = home
        .run(&["count", "--by", "field:tool,server", "--csv"])
        .stdout;
    assert_eq!(
        lines(&found),
        [
            "tool,server,count",
            ",github,1",
            "list,github,1",
            "search,github,4",
            "7,slack,1",
            "post\\u{1b}[2J,slack,1",
        ]
    );
}

#[test]
fn nothing_found_ends_with_one_and_a_bad_question_with_two() {
    let home = home();
    for (args, code, said) in [
        (&["-g", "nowhere"][..], 1, "no record matches"),
        (&["--signal", "traces"], 1, "no record matches"),
        (
            &["--by", "weather"],
            2,
            "expected level, server, name, field:KEY",
        ),
        (
            &["--by", "field:"],
            2,
            "expected level, server, name, field:KEY",
        ),
        (&["--by", "hour,5m"], 2, "one length of time"),
        (&["--by", "field:a,field:b"], 2, "one field:KEY"),
        (&["--by", "0s"], 2, "invalid interval"),
        (&["--name", "x"], 2, "add --signal traces"),
        (&["-g", "a("], 2, "--grep"),
    ] {
        let shown = home.run(&[&["count"], args].concat());
        assert_eq!(shown.code, code, "{shown:?}");
        assert!(shown.stderr.contains(said), "{shown:?}");
    }
}
