//! `wipe --secure` leaves no byte of a record in any file of the stack, beside a daemon and its readers, and
//! says what it could not overwrite.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Helper, Home, helper_arguments, say, told};
use gridctl_telemetry::{
    Level, LogRecord, ServerName, Store, StoreOptions, Timestamp, Writer, WriterOptions,
};
use std::{fs, path::Path};

const MARKER: &[u8] = b"7Qv0x-zu49;Lp";

/// The files below a folder that hold the marker.
fn with_marker(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(with_marker(&path));
        } else if fs::read(&path)
            .unwrap()
            .windows(MARKER.len())
            .any(|bytes| bytes == MARKER)
        {
            found.push(path.file_name().unwrap().to_str().unwrap().to_owned());
        }
    }
    found.sort();
    found
}

fn store(home: &Path) -> Store {
    Store::open(home, "gw", StoreOptions::default()).unwrap()
}

fn log(writer: &Writer, server: &str, text: &str) {
    let record = LogRecord::new(Timestamp::now(), Level::INFO, text);
    let server = ServerName::new(server).unwrap();
    writer.log(&server, &record).unwrap();
}

/// A daemon that logs, and holds a snapshot, as it is told.
#[test]
fn helper_daemon() {
    let Some(arguments) = helper_arguments() else {
        return;
    };
    let store = store(Path::new(&arguments[0]));
    let (writer, guard) = Writer::start(&store, WriterOptions::default()).unwrap();
    let mut snapshot = None;
    while let Some(line) = told() {
        match line.as_str() {
            "hold" => snapshot = Some(store.snapshot().unwrap()),
            "drop" => drop(snapshot.take()),
            _ => {
                log(&writer, "github", std::str::from_utf8(MARKER).unwrap());
                log(&writer, "slack", "kept");
                writer.flush().unwrap();
            }
        }
        say(line);
    }
    guard.close().unwrap();
}

#[test]
fn nothing_is_left_beside_a_daemon_and_what_is_left_is_said() {
    let home = Home::new();
    let mut daemon = Helper::start("helper_daemon", &[home.path().to_str().unwrap()]);
    let tell = |daemon: &mut Helper, line: &str| {
        daemon.tell(line);
        assert_eq!(daemon.heard(), line);
    };
    tell(&mut daemon, "log");
    let folder = home.path().join("telemetry/gw");
    let database = home.database("gw");
    let database = database.file_name().unwrap().to_str().unwrap();
    assert_eq!(with_marker(&folder), [database]);

    // A wipe alone leaves it in a free page.
    let wipe = home.run(&["wipe", "gw", "--server", "github", "-y"]);
    assert_eq!(wipe.code, 0, "{wipe:?}");
    tell(&mut daemon, "log");
    tell(&mut daemon, "hold");
    let secure = ["wipe", "gw", "--server", "github", "-y", "--secure"];
    let wipe = home.run(&secure);
    assert_eq!(wipe.code, 1, "{wipe:?}");
    assert!(
        wipe.stderr
            .contains("a reader still uses pages of wiped records"),
        "{wipe:?}"
    );
    assert_eq!(with_marker(&folder), [database]);

    // Once the reader has ended, there is nothing more to wipe, but it is overwritten.
    tell(&mut daemon, "drop");
    let wipe = home.run(&secure);
    assert_eq!(wipe.code, 0, "{wipe:?}");
    let said = "Nothing to wipe.\ngw: overwrote what wiped records had left in its files\n";
    assert!(wipe.stdout.starts_with(said), "{wipe:?}");
    assert_eq!(with_marker(&folder), [""; 0]);

    // The daemon goes on.
    tell(&mut daemon, "log");
    daemon.end();
    let count = home.run(&["count", "gw"]);
    assert!(count.stdout.contains('4'), "{count:?}");
}

#[test]
fn other_files_are_overwritten_or_named() {
    let home = Home::new();
    let server = home.path().join("telemetry/gw/github");
    fs::create_dir_all(&server).unwrap();
    let line = |text: &str| {
        format!("{{\"ts\":\"2026-05-09T03:39:03Z\",\"level\":\"INFO\",\"msg\":\"{text}\"}}\n")
    };
    let text = line(std::str::from_utf8(MARKER).unwrap());
    fs::write(server.join("logs.jsonl"), &text).unwrap();
    let open = fs::File::open(server.join("logs.jsonl")).unwrap();
    let secure = ["wipe", "gw", "-y", "--secure"];
    let wipe = home.run(&secure);
    assert_eq!(wipe.code, 0, "{wipe:?}");
    // The deleted file, which is still open here.
    assert_eq!(
        std::io::read_to_string(open).unwrap(),
        "\0".repeat(text.len())
    );

    store(home.path());
    let folder = home.path().join("telemetry/gw");
    let aside = folder.join("telemetry.redb.damaged-20260508T140312Z");
    fs::write(&aside, &text).unwrap();
    let wipe = home.run(&secure);
    assert_eq!(wipe.code, 1, "{wipe:?}");
    assert!(
        wipe.stdout.contains("damaged-20260508T140312Z: it was set"),
        "{wipe:?}"
    );
}
