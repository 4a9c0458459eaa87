//! `wipe --before` deletes what is older, and says so before it asks.

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

/// Imports five logs of a server, one each hour from 10:00 on.
fn import(home: &Home, stack: &str, server: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("logs.jsonl");
    let lines = [10, 11, 12, 13, 14]
        .map(|hour| format!("{{\"ts\":\"2026-05-08T{hour}:00:00Z\",\"msg\":\"{hour}\"}}\n"));
    fs::write(&path, lines.concat()).unwrap();
    let path = path.to_str().unwrap();
    let import = home.run(&["import-jsonl", stack, path, "--server", server]);
    assert_eq!(import.code, 0, "{import:?}");
}

/// The hours of the logs that a server has.
fn hours(home: &Home, stack: &str, server: &str) -> Vec<String> {
    let args = [
        "export-jsonl",
        stack,
        server,
        "--signal",
        "logs",
        "--stdout",
    ];
    let export = home.run(&args);
    let hour = |line: &str| line.split("2026-05-08T").nth(1).unwrap()[..2].to_owned();
    export.stdout.lines().map(hour).collect()
}

#[test]
fn what_is_older_is_listed_and_deleted() {
    let home = Home::new();
    import(&home, "gw", "github");
    import(&home, "gw", "slack");
    let args = [
        "wipe",
        "gw",
        "github",
        "--utc",
        "--before",
        "2026-05-08 12:30",
    ];
    let mut terminal = home.terminal(200, 40, &[], &args);
    let asked = terminal.wait_for("[y/N]");
    assert!(
        asked.contains("gw/github logs: 3 records")
            && asked.contains("2026-05-08T10:00:00Z to 2026-05-08T12:00:00Z"),
        "{asked}"
    );
    assert!(!asked.contains("slack"), "{asked}");
    terminal.keys("n\n");
    assert_eq!(terminal.finish().0, 1);
    assert_eq!(hours(&home, "gw", "github").len(), 5);

    let mut terminal = home.terminal(200, 40, &[], &args);
    terminal.wait_for("[y/N]");
    terminal.keys("y\n");
    let (code, shown) = terminal.finish();
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("gw: wiped 1 series."), "{shown}");
    assert_eq!(hours(&home, "gw", "github"), ["13", "14"]);
    assert_eq!(hours(&home, "gw", "slack").len(), 5);

    // Of every server, in the zone of the reader, and of the only stack.
    let mut command = home.command(&["wipe", "-y", "--before", "2026-05-08 16:00"]);
    let wiped = common::output(command.env("TZ", "EET-2EEST,M3.5.0/3,M10.5.0/4"));
    assert_eq!(wiped.code, 0, "{wiped:?}");
    for server in ["github", "slack"] {
        assert_eq!(hours(&home, "gw", server), ["13", "14"]);
    }
    let again = home.run(&["wipe", "-y", "--before", "2026-05-08T13:00:00Z"]);
    assert_eq!(
        (again.code, again.stdout.as_str()),
        (0, "Nothing to wipe.\n")
    );
}

#[test]
fn files_of_the_go_daemon_are_not_cut() {
    let home = Home::new();
    import(&home, "gw", "github");
    let folder = home.path().join("telemetry/gw/github");
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("logs.jsonl");
    fs::write(&file, "{\"ts\":\"2026-05-08T10:00:00Z\",\"msg\":\"old\"}\n").unwrap();
    let wiped = home.run(&["wipe", "gw", "-y", "--before", "2026-05-08T11:00:00Z"]);
    assert_eq!(wiped.code, 0, "{wiped:?}");
    let left = format!(
        "left alone: {}: 1 file of gridctl's Go daemon",
        folder.display()
    );
    assert!(wiped.stdout.contains(&left), "{wiped:?}");
    assert!(
        wiped.stdout.contains("(logs): files are not cut at a time"),
        "{wiped:?}"
    );
    assert!(Path::new(&file).exists());
    assert_eq!(hours(&home, "gw", "github").len(), 4);
}

#[test]
fn a_server_is_not_wiped_in_place_of_a_missing_stack() {
    let home = Home::new();
    import(&home, "gw", "github");
    let missing = home.run(&["wipe", "github", "-y"]);
    assert_eq!(
        (missing.code, missing.stdout.as_str()),
        (0, "Nothing to wipe.\n")
    );
    assert!(
        missing.stderr.contains("there is no stack \"github\""),
        "{missing:?}"
    );
    assert_eq!(hours(&home, "gw", "github").len(), 5);
    let bad = home.run(&["wipe", "gw", "-y", "--before", "soon"]);
    assert_eq!(bad.code, 2, "{bad:?}");
    assert!(
        bad.stderr
            .contains("--before: cannot read the time \"soon\""),
        "{bad:?}"
    );
    assert_eq!(hours(&home, "gw", "github").len(), 5);
}
