//! What the programs print on a terminal: colours, the reader's time zone, narrow terminals, a pager.

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

/// A home with the stack `gw`, in which the server `github` has two logs.
fn home() -> Home {
    let home = Home::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("logs.jsonl");
    let lines = [
        "12:00:00Z\",\"msg\":\"one\"}",
        "12:00:01Z\",\"msg\":\"two\"}",
    ]
    .map(|end| format!("{{\"level\":\"INFO\",\"ts\":\"2026-05-08T{end}\n"));
    fs::write(&path, lines.concat()).unwrap();
    assert_eq!(home.import(&path).code, 0);
    home
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let home = home();
    let shown = |env: &[(&str, &str)], args: &[&str]| {
        let (code, shown) = home.terminal(120, 40, env, args).finish();
        assert_eq!(code, 0, "{shown}");
        shown
    };
    assert!(shown(&[], &["status"]).contains("\u{1b}[1m"));
    for plain in [
        shown(&[("NO_COLOR", "1")], &["status"]),
        shown(&[("TERM", "dumb")], &["status"]),
        shown(&[], &["status", "--color", "never"]),
        home.run(&["status"]).stdout,
    ] {
        assert!(
            plain.contains("STACK") && !plain.contains('\u{1b}'),
            "{plain}"
        );
    }
    let asked = home.run(&["--color", "always", "status"]).stdout;
    assert!(asked.contains("\u{1b}[1m"), "{asked}");
}

#[test]
fn times_are_in_the_zone_of_the_reader() {
    let home = home();
    let zone = [("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")];
    let (_, local) = home.terminal(160, 40, &zone, &["status"]).finish();
    assert!(local.contains("  2026-05-08 14:00:00  "), "{local}");
    let (_, utc) = home.terminal(160, 40, &zone, &["status", "--utc"]).finish();
    assert!(utc.contains("  2026-05-08 12:00:00  "), "{utc}");
    let mut pipe = home.command(&["status"]);
    let pipe = common::output(pipe.envs(zone)).stdout;
    assert!(pipe.contains("2026-05-08T12:00:00Z"), "{pipe}");
}

#[test]
fn a_narrow_terminal_shows_lists_in_place_of_tables() {
    let home = home();
    let (code, shown) = home.terminal(20, 10, &[], &["status"]).finish();
    assert_eq!(code, 0);
    let bare = shown.replace("\u{1b}[1m", "").replace("\u{1b}[0m", "");
    for line in ["STACK gw", "SERVER github", "RECORDS 2"] {
        assert!(bare.lines().any(|shown| shown == line), "{line}: {bare}");
    }
}

#[test]
fn long_output_goes_through_the_pager() {
    let home = home();
    let pager = [("PAGER", "sed 's/^/paged: /'")];
    let run = |rows, args: &[&str]| home.terminal(160, rows, &pager, args).finish();
    let (code, filtered) = run(4, &["status"]);
    assert_eq!(code, 0, "{filtered}");
    assert!(
        filtered.lines().all(|line| line.starts_with("paged: ")),
        "{filtered}"
    );
    assert!(filtered.contains("github"), "{filtered}");
    for (rows, args) in [(40, &["status"][..]), (4, &["status", "--no-pager"])] {
        let (code, shown) = run(rows, args);
        assert!(
            code == 0 && !shown.contains("paged") && shown.contains("github"),
            "{shown}"
        );
    }
    // Notes come after the page.
    let old = home.path().join("telemetry/gw/github");
    fs::create_dir_all(&old).unwrap();
    fs::write(old.join("logs.jsonl"), "{}").unwrap();
    let (code, shown) = run(2, &["status", "--plain"]);
    assert_eq!(code, 0, "{shown}");
    let (page, note) = shown.trim_end().rsplit_once('\n').unwrap();
    assert!(
        note.contains("import-jsonl gw") && !note.contains("paged"),
        "{shown}"
    );
    assert!(
        page.lines().all(|line| line.starts_with("paged: ")),
        "{shown}"
    );
    // A pager that is missing, and one that ends at once.
    let missing = [("PAGER", "no-such-pager")];
    let (code, shown) = home.terminal(160, 4, &missing, &["status"]).finish();
    assert!(code == 0 && shown.contains("github"), "{shown}");
    let quits = [("PAGER", "true")];
    let (code, shown) = home.terminal(160, 4, &quits, &["status"]).finish();
    assert_eq!((code, shown.as_str()), (0, ""));
}
