//! `verify` says that a stack is right, or what is wrong, and writes what can be read of it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::Home;
use gridctl_telemetry::{Store, StoreOptions, Writer, WriterOptions};
use std::{collections::BTreeSet, fs};

const LOGS: usize = 1000;

/// Imports logs of a server.
fn import(home: &Home, server: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("logs.jsonl");
    let lines: Vec<String> = (0..LOGS)
        .map(|number| {
            let time = format!("2026-05-08T10:{:02}:{:02}Z", number / 60 % 60, number % 60);
            let message = format!("call number {number} of {server}");
            format!("{{\"ts\":\"{time}\",\"level\":\"INFO\",\"msg\":\"{message}\"}}\n")
        })
        .collect();
    fs::write(&path, lines.concat()).unwrap();
    let path = path.to_str().unwrap();
    let import = home.run(&["import-jsonl", "gw", path, "--server", server]);
    assert_eq!(import.code, 0, "{import:?}");
}

fn lines(folder: &tempfile::TempDir, server: &str) -> BTreeSet<String> {
    let file = folder.path().join("gw").join(server).join("logs.jsonl");
    let text = fs::read_to_string(file).unwrap();
    let lines: BTreeSet<String> = text.lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), text.lines().count());
    lines
}

/// Flips a bit in every copy of `text` in the database.
fn damage(home: &Home, text: &str) {
    let file = home.database("gw");
    let mut bytes = fs::read(&file).unwrap();
    let windows = bytes.windows(text.len()).enumerate();
    let found: Vec<usize> = windows
        .filter(|(_, window)| *window == text.as_bytes())
        .map(|(at, _)| at)
        .collect();
    assert!(!found.is_empty());
    for at in found {
        bytes[at] ^= 1;
    }
    fs::write(&file, bytes).unwrap();
}

#[test]
fn a_stack_that_is_right_is_ok() {
    let home = Home::new();
    let none = home.run(&["verify"]);
    assert_eq!((none.code, none.stdout.as_str()), (0, "No telemetry.\n"));
    import(&home, "github");
    import(&home, "slack");
    for args in [&["verify"][..], &["verify", "gw"]] {
        let verified = home.run(args);
        assert_eq!(
            (
                verified.code,
                verified.stdout.as_str(),
                verified.stderr.as_str()
            ),
            (0, "gw: OK, 2000 records\n", "")
        );
    }
    let unknown = home.run(&["verify", "gv"]);
    assert_eq!(unknown.code, 2);
    assert!(
        unknown.stderr.contains("there is no stack \"gv\""),
        "{unknown:?}"
    );
    // Salvage writes what an export writes.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let salvaged = home.run(&["verify", "--salvage", path]);
    assert_eq!(
        (
            salvaged.code,
            salvaged.stdout.as_str(),
            salvaged.stderr.as_str()
        ),
        (
            0,
            "gw: OK, 2000 records\n",
            "gw: salvaged 2000 records to 2 files\n"
        )
    );
    let export = home.export("gw");
    for server in ["github", "slack"] {
        assert_eq!(lines(&folder, server), lines(&export, server));
    }
    // While a daemon runs.
    let store = Store::open(home.path(), "gw", StoreOptions::default()).unwrap();
    let (_, guard) = Writer::start(&store, WriterOptions::default()).unwrap();
    let verified = home.run(&["verify"]);
    assert_eq!(
        (verified.code, verified.stdout.as_str()),
        (0, "gw: OK, 2000 records\n")
    );
    assert!(verified.stderr.contains("a daemon writes"), "{verified:?}");
    guard.close().unwrap();
}

#[test]
fn damage_is_named_and_the_rest_is_salvaged() {
    let home = Home::new();
    import(&home, "github");
    import(&home, "slack");
    // A record that is a row: it is not compressed.
    let path = tempfile::tempdir().unwrap();
    let one = path.path().join("logs.jsonl");
    let line =
        "{\"ts\":\"2026-05-08T12:00:00Z\",\"level\":\"INFO\",\"msg\":\"a row of its own\"}\n";
    fs::write(&one, line).unwrap();
    let import = home.run(&[
        "import-jsonl",
        "gw",
        one.to_str().unwrap(),
        "--server",
        "github",
    ]);
    assert_eq!(import.code, 0, "{import:?}");
    damage(&home, "a row of its own");
    let verified = home.run(&["verify"]);
    assert_eq!(verified.code, 1, "{verified:?}");
    let said: Vec<&str> = verified.stdout.lines().collect();
    assert_eq!(said.len(), 3, "{verified:?}");
    assert!(
        said[0].starts_with("gw: the pages of the file: "),
        "{verified:?}"
    );
    assert!(
        said[1].contains("the row of 2026-05-08T12:00:00"),
        "{verified:?}"
    );
    assert!(
        said[2].starts_with("gw: 2 findings, 1 record"),
        "{verified:?}"
    );
    assert!(
        said[2].ends_with("cannot be read, 2000 can"),
        "{verified:?}"
    );

    // An export goes on after the damage.
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let export = home.run(&["export-jsonl", "--stack", "gw", "--out", out]);
    assert_eq!(export.code, 1, "{export:?}");
    assert_eq!(export.stderr.matches("the row of").count(), 1, "{export:?}");
    assert_eq!(lines(&folder, "github").len(), LOGS);
    assert_eq!(lines(&folder, "slack").len(), LOGS);

    let folder = tempfile::tempdir().unwrap();
    let salvaged = home.run(&["verify", "gw", "--salvage", folder.path().to_str().unwrap()]);
    assert_eq!(salvaged.code, 1, "{salvaged:?}");
    assert!(
        salvaged.stderr.contains("salvaged 2000 records to 2 files"),
        "{salvaged:?}"
    );
    // Another stack takes it.
    let other = Home::new();
    let path = folder.path().join("gw");
    let import = other.run(&["import-jsonl", "gw", path.to_str().unwrap()]);
    assert_eq!(import.code, 0, "{import:?}");
    assert_eq!(other.run(&["verify"]).stdout, "gw: OK, 2000 records\n");
}

#[test]
fn a_file_that_is_no_database_is_a_finding_or_an_error() {
    let home = Home::new();
    import(&home, "github");
    let file = home.database("gw");
    let length = fs::metadata(&file).unwrap().len();
    let opened = fs::File::options().write(true).open(&file).unwrap();
    opened.set_len(length / 2).unwrap();
    let verified = home.run(&["verify"]);
    assert_eq!(verified.code, 1, "{verified:?}");
    assert!(verified.stdout.contains("gw: 1 finding"), "{verified:?}");
    fs::write(&file, "of another program").unwrap();
    assert_eq!(home.run(&["verify"]).code, 2);
}

#[test]
fn a_file_that_was_set_aside_is_shown_and_read() {
    let home = Home::new();
    import(&home, "github");
    let name = "telemetry.redb.damaged-20260508T140312Z";
    let aside = home.database("gw").with_file_name(name);
    fs::copy(home.database("gw"), &aside).unwrap();
    let aside = aside.to_str().unwrap();
    let status = home.run(&["status", "gw"]);
    assert!(status.stdout.contains(aside), "{status:?}");
    let folder = tempfile::tempdir().unwrap();
    let salvaged = home.run(&[
        "verify",
        aside,
        "--salvage",
        folder.path().to_str().unwrap(),
    ]);
    assert_eq!(salvaged.code, 0, "{salvaged:?}");
    assert_eq!(salvaged.stdout, format!("{name}: OK, {LOGS} records\n"));
    let files = folder.path().join(name);
    let imported = home.run(&["import-jsonl", "new", files.to_str().unwrap()]);
    assert_eq!(imported.code, 0, "{imported:?}");
    let shown = home.run(&["verify", "new"]);
    assert_eq!(shown.stdout, format!("new: OK, {LOGS} records\n"));
    let other = home.run(&["verify", "some/file"]);
    assert_eq!(other.code, 2, "{other:?}");
}
