//! The disk space of deleted records is returned to the file system, whether or not a daemon runs, and
//! an operator can interrupt that.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::Home;
use gridctl_telemetry::{
    Level, LogRecord, Query, ServerName, Signal, Store, StoreOptions, Timestamp, Writer,
    WriterOptions, ingest::WhenFull, maintenance::WipeScope,
};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Read},
    process::{Command, Stdio},
};

const RECORDS: usize = 4000;

fn server(name: &str) -> ServerName {
    ServerName::new(name).unwrap()
}

/// A stack with records of two servers, and its writer.
fn daemon(home: &Home) -> (Store, Writer, gridctl_telemetry::WriterGuard) {
    let store = Store::open(home.path(), "gw", StoreOptions::default()).unwrap();
    let options = WriterOptions::default().when_full(WhenFull::Block);
    let (writer, guard) = Writer::start(&store, options).unwrap();
    for name in ["noisy", "quiet"] {
        log(&writer, name, RECORDS);
    }
    (store, writer, guard)
}

fn log(writer: &Writer, name: &str, records: usize) {
    let mut state = 1_u64;
    for nanos in (1_700_000_000_000_000_000..).take(records) {
        let at = Timestamp::from_unix_nanos(nanos);
        let mut record = LogRecord::new(at, Level::INFO, "tool call completed");
        for key in ["trace_id", "span_id", "session", "request"] {
            state = state.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17) + 1;
            record = record.with(key, format!("{state:016x}{:016x}", state.swap_bytes()));
        }
        writer.log(&server(name), &record).unwrap();
    }
    writer.flush().unwrap();
}

fn stored(store: &Store, name: &str) -> usize {
    let query = Query::new(Signal::Logs).server(server(name));
    store.scan(&query).unwrap().count()
}

fn space(home: &Home) -> Value {
    let shown = home.run(&["status", "gw", "--space", "--json"]);
    assert_eq!(shown.code, 0, "{shown:?}");
    serde_json::from_str::<Value>(&shown.stdout).unwrap()[0].clone()
}

fn noisy() -> WipeScope {
    WipeScope::everything().server(server("noisy"))
}

#[test]
fn compact_gives_back_what_was_wiped_beside_a_daemon_and_without() {
    for beside in [true, false] {
        let home = Home::new();
        let (store, writer, guard) = daemon(&home);
        store.wipe(&noisy()).unwrap();
        let mut running = Some((store, writer, guard));
        if !beside {
            running.take().unwrap().2.close().unwrap();
        }
        let before = space(&home);
        let compact = home.run(&["compact", "gw"]);
        assert_eq!(compact.code, 0, "{compact:?}");
        assert!(compact.stdout.starts_with("gw: "), "{compact:?}");
        assert!(
            compact.stdout.contains(" returned to the file system, "),
            "{compact:?}"
        );
        assert_eq!(compact.stderr, "");
        let after = space(&home);
        let bytes = |of: &Value, name: &str| of[name].as_u64().unwrap();
        assert!(
            bytes(&after, "usedBytes") + bytes(&before, "freeBytes") / 2
                < bytes(&before, "usedBytes"),
            "{before} {after}"
        );
        assert!(bytes(&after, "freeBytes") < bytes(&before, "freeBytes") / 2);
        if let Some((store, writer, guard)) = running {
            log(&writer, "quiet", 10);
            assert_eq!(stored(&store, "quiet"), RECORDS + 10);
            guard.close().unwrap();
        }
        // All stacks, of which the only one is compact already.
        let again = home.run(&["compact"]);
        assert_eq!(
            (again.code, again.stdout.lines().count()),
            (0, 1),
            "{again:?}"
        );
    }
    let home = Home::new();
    let nothing = home.run(&["compact", "gw"]);
    assert_eq!(
        (nothing.code, nothing.stdout.as_str()),
        (0, "No telemetry.\n")
    );
}

#[test]
fn wipe_gives_back_what_it_deletes() {
    let home = Home::new();
    let (store, writer, _guard) = daemon(&home);
    let before = space(&home)["usedBytes"].as_u64().unwrap();
    let wiped = home.run(&["wipe", "gw", "-y"]);
    assert_eq!(wiped.code, 0, "{wiped:?}");
    assert!(
        wiped.stdout.contains(" returned to the file system, "),
        "{wiped:?}"
    );
    let after = space(&home)["usedBytes"].as_u64().unwrap();
    assert!(after < before / 2, "{before} {after}");

    // A reader keeps the disk space of its snapshot, and the records are wiped anyway.
    let snapshot = store.snapshot().unwrap();
    log(&writer, "quiet", 10);
    let wiped = home.run(&["wipe", "gw", "-y"]);
    assert_eq!(wiped.code, 0, "{wiped:?}");
    assert!(wiped.stderr.contains("`compact`"), "{wiped:?}");
    assert_eq!(stored(&store, "quiet"), 0);
    drop(snapshot);
}

#[test]
fn an_interrupt_ends_the_wait_for_a_reader() {
    let home = Home::new();
    let (store, _writer, _guard) = daemon(&home);
    let snapshot = store.snapshot().unwrap();
    store.wipe(&noisy()).unwrap();
    let mut compact = home
        .command(&["compact", "gw"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(compact.stderr.take().unwrap());
    let mut said = String::new();
    stderr.read_line(&mut said).unwrap();
    assert!(said.contains("waiting"), "{said}");
    let pid = compact.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    stderr.read_to_string(&mut said).unwrap();
    assert_eq!(compact.wait().unwrap().code(), Some(130), "{said}");
    assert!(said.contains("nothing was lost"), "{said}");
    drop(snapshot);
    assert_eq!(
        (stored(&store, "quiet"), stored(&store, "noisy")),
        (RECORDS, 0)
    );
}

#[test]
fn status_tells_live_from_free() {
    let home = Home::new();
    let (store, _writer, _guard) = daemon(&home);
    store.wipe(&noisy()).unwrap();
    let row = space(&home);
    let bytes = |name: &str| row[name].as_u64().unwrap();
    assert!(
        bytes("liveBytes") > 100_000 && bytes("freeBytes") > 100_000,
        "{row}"
    );
    assert_eq!(
        bytes("liveBytes") + bytes("freeBytes") + bytes("reserveBytes"),
        bytes("usedBytes")
    );
    assert!(bytes("usedBytes") <= bytes("fileBytes") + bytes("reserveBytes"));
    assert!(row["path"].as_str().unwrap().ends_with("telemetry.redb"));
    let plain = home.run(&["status", "--space", "--plain"]).stdout;
    let lines: Vec<Vec<&str>> = plain
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    assert_eq!(
        lines[0],
        ["STACK", "LIVE", "FREE", "RESERVE", "USED", "FILE", "LIMIT"]
    );
    assert_eq!(lines[1][0], "gw");
    let human = home.run(&["status"]).stdout;
    assert!(
        human.contains(" on disk: ") && human.contains(" live, "),
        "{human}"
    );
}
