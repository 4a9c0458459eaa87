//! A database that cannot be opened does not cost a daemon its telemetry: it is set aside under a dated
//! name, a new one begins, and the daemon, the ledger and the listener say so. It is never deleted, and
//! what can be read of it is.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{
    HANG, Helper, STACK, database, helper_arguments, home, on_demand, open, say, server, told,
};
use gridctl_telemetry::{
    Error, Level, LogRecord, Query, Signal, Store, StoreOptions, Telemetry, TelemetryConfig,
    TelemetryOptions, Timestamp, Writer,
    config::ConfigWarning,
    home::list_set_aside,
    ingest::OutageEvent,
    ledger::LossCause,
    maintenance::{VerifyOptions, WipeScope},
    metrics::Accumulator,
};
use redb::TableDefinition;
use std::{
    fs,
    path::Path,
    sync::{Arc, mpsc},
};

fn log(writer: &Writer, records: u64) {
    for _ in 0..records {
        let record = LogRecord::new(Timestamp::now(), Level::INFO, "tool call completed");
        writer.log(&server("github"), &record).unwrap();
    }
    writer.flush().unwrap();
}

fn count(store: &Store) -> usize {
    store.last(&Query::new(Signal::Logs), 1000).unwrap().len()
}

fn start(home: &Path, options: TelemetryOptions) -> Result<(Telemetry, Vec<ConfigWarning>), Error> {
    let config: TelemetryConfig =
        serde_json::from_str(r#"{ "persist": { "logs": true }, "servers": { "github": {} } }"#)
            .unwrap();
    Telemetry::from_config(home, STACK, &config, Arc::new(Accumulator::new()), options)
}

/// A home where a daemon has stored ten records and ended.
fn filled() -> tempfile::TempDir {
    let home = home();
    let (telemetry, warnings) = start(home.path(), TelemetryOptions::default()).unwrap();
    assert_eq!(warnings, []);
    log(telemetry.writer(), 10);
    telemetry.shutdown().unwrap();
    home
}

/// The entries of the ledger about files that were set aside.
fn entered(store: &Store) -> usize {
    let entries = store.snapshot().unwrap().ledger(..).unwrap();
    (entries.iter())
        .filter(|entry| entry.cause == LossCause::SetAside)
        .count()
}

const CHANGED_COUNTER: &str = "a changed counter";

/// Checks that a daemon starts over in a new database, and that the file is kept as it is.
#[track_caller]
fn assert_set_aside(home: &Path, what: &str) {
    let before = fs::read(database(home)).unwrap();
    let (sender, events) = mpsc::channel();
    let writer = on_demand().on_outage(move |event| sender.send(event).unwrap());
    let options = TelemetryOptions::default().writer(writer);
    let (telemetry, warnings) = start(home, options).unwrap();
    let found = list_set_aside(home, STACK).unwrap();
    assert_eq!(found.len(), 1, "{what}");
    // An attempt to write may have repaired a database that could be opened.
    let is_same = fs::read(&found[0].path).unwrap() == before;
    assert!(is_same || what == CHANGED_COUNTER, "{what}");
    let [ConfigWarning::DatabaseSetAside { path, reason }] = &warnings[..] else {
        panic!("{what}: {warnings:?}");
    };
    assert!(path == &found[0].path && !reason.is_empty(), "{what}");
    assert!(warnings[0].to_string().contains("verify"), "{what}");
    let event = events.recv_timeout(HANG).unwrap();
    assert!(
        matches!(&event, OutageEvent::SetAside { path: told, .. } if told == path),
        "{what}: {event:?}"
    );
    log(telemetry.writer(), 5);
    assert_eq!(count(telemetry.store()), 5, "{what}");
    assert_eq!(entered(telemetry.store()), 1, "{what}");
    let space = telemetry.store().space().unwrap();
    assert_eq!(space.set_aside_bytes, found[0].size_bytes, "{what}");
    telemetry.shutdown().unwrap();
    // The next start has nothing to say.
    let (telemetry, warnings) = start(home, TelemetryOptions::default()).unwrap();
    assert_eq!(warnings, [], "{what}");
    assert_eq!(count(telemetry.store()), 5, "{what}");
    assert_eq!(list_set_aside(home, STACK).unwrap().len(), 1, "{what}");
}

#[test]
fn a_damaged_database_makes_way_for_a_new_one() {
    let whole = fs::read(database(filled().path())).unwrap();
    let mut headless = whole.clone();
    headless[..4096].fill(0xa5);
    let cases: [(&str, Vec<u8>); 6] = [
        ("a text", b"Dear diary".repeat(100)),
        ("a database without its header", headless),
        ("half a database", whole[..whole.len() / 2].to_vec()),
        ("its header alone", whole[..400].to_vec()),
        ("no bytes", Vec::new()),
        ("zeros", vec![0; 200_000]),
    ];
    for (what, bytes) in cases {
        let home = filled();
        fs::write(database(home.path()), bytes).unwrap();
        assert_set_aside(home.path(), what);
    }
}

#[test]
fn another_programs_database_makes_way_too() {
    let home = filled();
    fs::remove_file(database(home.path())).unwrap();
    let foreign = redb::Database::create(database(home.path())).unwrap();
    let transaction = foreign.begin_write().unwrap();
    let table = TableDefinition::<u64, &str>::new("theirs");
    transaction
        .open_table(table)
        .unwrap()
        .insert(1, "x")
        .unwrap();
    transaction.commit().unwrap();
    drop(foreign);
    assert_set_aside(home.path(), "a foreign database");
}

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// Changes a counter of the database, past its checksum.
fn set(home: &Path, name: &str, value: u64) {
    let database = redb::Builder::new().open(database(home)).unwrap();
    let transaction = database.begin_write().unwrap();
    let mut meta = transaction.open_table(META).unwrap();
    meta.insert(name, value).unwrap();
    drop(meta);
    transaction.commit().unwrap();
}

/// It can be opened, but no writer can start.
#[test]
fn a_database_that_no_writer_can_enter_makes_way_too() {
    let home = filled();
    set(home.path(), "next_sequence", 3);
    assert_set_aside(home.path(), CHANGED_COUNTER);
}

const THEIRS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("theirs");

/// A home with a database of more than 16 MiB whose pages are damaged, and no record.
fn filled_and_damaged() -> tempfile::TempDir {
    let home = filled();
    let file = redb::Builder::new().open(database(home.path())).unwrap();
    let transaction = file.begin_write().unwrap();
    let mut theirs = transaction.open_table(THEIRS).unwrap();
    for number in 0..20 {
        theirs.insert(number, &*vec![7; 1 << 20]).unwrap();
    }
    drop(theirs);
    transaction.commit().unwrap();
    drop(file);
    let mut bytes = fs::read(database(home.path())).unwrap();
    // Some of them are of free pages.
    for chunk in bytes.chunks_mut(4096).filter(|it| *it == [7; 4096]) {
        chunk[0] = 8;
    }
    fs::write(database(home.path()), bytes).unwrap();
    home
}

/// A daemon does not wait for the check of all pages when it starts.
#[test]
fn a_large_damaged_database_makes_way_once_a_daemon_runs() {
    let home = filled_and_damaged();
    let (sender, events) = mpsc::channel();
    let writer = on_demand().on_outage(move |event| sender.send(event).unwrap());
    let options = TelemetryOptions::default().writer(writer);
    let (telemetry, _) = start(home.path(), options).unwrap();
    log(telemetry.writer(), 5);
    let kept = list_set_aside(home.path(), STACK).unwrap();
    let event = events.recv_timeout(HANG).unwrap();
    assert!(
        matches!(&event, OutageEvent::SetAside { path, .. } if *path == kept[0].path),
        "{event:?}"
    );
    assert_eq!(count(telemetry.store()), 5);
    assert_eq!(entered(telemetry.store()), 1);
    telemetry.shutdown().unwrap();
    let aside = Store::open_set_aside(&kept[0].path, StoreOptions::for_tools()).unwrap();
    assert_eq!(count(&aside), 10);
    let (telemetry, warnings) = start(home.path(), TelemetryOptions::default()).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(count(telemetry.store()), 5);
    assert_eq!(list_set_aside(home.path(), STACK).unwrap().len(), 1);
}

#[test]
fn no_record_is_stored_in_a_large_damaged_database() {
    let home = filled_and_damaged();
    let store = open(home.path());
    let (writer, guard) = Writer::start(&store, on_demand()).unwrap();
    let record = LogRecord::new(Timestamp::now(), Level::INFO, "tool call completed");
    writer.log(&server("github"), &record).unwrap();
    for _ in 0..3 {
        let flushed = writer.flush().unwrap_err().to_string();
        assert!(flushed.contains("all records can be read"), "{flushed}");
    }
    assert!(store.wipe(&WipeScope::everything()).is_err());
    drop(guard);
    assert_eq!(count(&store), 10);
}

#[test]
fn a_newer_database_is_refused_and_stays() {
    let home = filled();
    set(home.path(), "schema_version", 99);
    let before = fs::read(database(home.path())).unwrap();
    let refused = start(home.path(), TelemetryOptions::default()).unwrap_err();
    assert!(
        matches!(refused, Error::SchemaTooNew { found: 99, .. }),
        "{refused}"
    );
    assert_eq!(fs::read(database(home.path())).unwrap(), before);
    assert_eq!(list_set_aside(home.path(), STACK).unwrap(), []);
}

#[test]
fn tools_set_nothing_aside() {
    let home = filled();
    fs::write(database(home.path()), "Dear diary").unwrap();
    let tools = StoreOptions::for_tools;
    Store::open(home.path(), STACK, tools()).unwrap_err();
    let daemon = StoreOptions::default().set_aside_damaged(true);
    Store::open_read_only(home.path(), STACK, daemon.clone()).unwrap_err();
    Store::open_existing(home.path(), STACK, daemon).unwrap_err();
    assert_eq!(fs::read(database(home.path())).unwrap(), b"Dear diary");
    assert_eq!(list_set_aside(home.path(), STACK).unwrap(), []);
}

#[test]
fn a_new_stack_is_not_taken_for_a_damaged_one() {
    // A creation that was interrupted leaves such files.
    for bytes in [vec![], vec![0; 100_000]] {
        let home = home();
        fs::create_dir_all(database(home.path()).parent().unwrap()).unwrap();
        fs::write(database(home.path()), bytes).unwrap();
        let (_telemetry, warnings) = start(home.path(), TelemetryOptions::default()).unwrap();
        assert_eq!(warnings, []);
    }
    // Nor one that was deleted.
    let home = filled();
    fs::remove_file(database(home.path())).unwrap();
    let (_telemetry, warnings) = start(home.path(), TelemetryOptions::default()).unwrap();
    assert_eq!(warnings, []);
}

#[test]
fn a_bounded_number_of_files_is_kept_and_none_is_deleted() {
    let home = filled();
    for number in 0..8 {
        fs::write(database(home.path()), format!("damage {number}")).unwrap();
        let (telemetry, warnings) = start(home.path(), TelemetryOptions::default()).unwrap();
        assert_eq!(warnings.len(), 1);
        telemetry.shutdown().unwrap();
    }
    fs::write(database(home.path()), "damage 8").unwrap();
    let refused = start(home.path(), TelemetryOptions::default()).unwrap_err();
    assert!(
        matches!(refused, Error::TooManySetAside { count: 8, .. }),
        "{refused}"
    );
    assert_eq!(fs::read(database(home.path())).unwrap(), b"damage 8");
    let kept = list_set_aside(home.path(), STACK).unwrap();
    let mut texts: Vec<_> = kept
        .iter()
        .map(|it| fs::read_to_string(&it.path).unwrap())
        .collect();
    texts.sort_unstable();
    let expected: Vec<String> = (0..8).map(|number| format!("damage {number}")).collect();
    assert_eq!(texts, expected);
    // Once one is moved away, there is room again.
    fs::remove_file(&kept[0].path).unwrap();
    start(home.path(), TelemetryOptions::default()).unwrap();
}

#[test]
fn a_daemon_that_runs_sets_aside_what_replaces_its_file() {
    let home = filled();
    let (sender, events) = mpsc::channel();
    let writer = on_demand().on_outage(move |event| sender.send(event).unwrap());
    let options = TelemetryOptions::default().writer(writer);
    let (telemetry, _) = start(home.path(), options).unwrap();
    log(telemetry.writer(), 5);
    let other = home.path().join("other");
    fs::write(&other, "Dear diary").unwrap();
    fs::rename(&other, database(home.path())).unwrap();
    assert!(matches!(
        telemetry.writer().flush(),
        Err(Error::NotFlushed { .. })
    ));
    // An outage comes first if the writer's own work meets the other file before it is flushed.
    let mut kept = 0;
    loop {
        match events.recv_timeout(HANG).unwrap() {
            OutageEvent::SetAside { .. } => kept += 1,
            OutageEvent::Replaced { records, .. } => {
                assert_eq!(records, 5);
                break;
            }
            _ => {}
        }
    }
    assert_eq!(kept, 1);
    log(telemetry.writer(), 7);
    assert_eq!(count(telemetry.store()), 7);
    assert_eq!(entered(telemetry.store()), 1);
    let kept = list_set_aside(home.path(), STACK).unwrap();
    assert_eq!(fs::read(&kept[0].path).unwrap(), b"Dear diary");
}

#[test]
fn what_was_set_aside_is_read_and_stays_as_it_is() {
    let home = filled();
    // As a kill leaves it.
    let (telemetry, _) = start(home.path(), TelemetryOptions::default()).unwrap();
    log(telemetry.writer(), 5);
    let path = database(home.path()).with_file_name("telemetry.redb.damaged-20260508T140312Z");
    fs::copy(database(home.path()), &path).unwrap();
    let before = fs::read(&path).unwrap();
    let store = Store::open_set_aside(&path, StoreOptions::for_tools()).unwrap();
    let mut records = 0;
    let salvaged = store.salvage(
        &VerifyOptions::default(),
        |finding| panic!("{finding:?}"),
        |_| records += 1,
    );
    assert_eq!((salvaged.unwrap().records, records), (15, 15));
    drop(store);
    assert_eq!(fs::read(&path).unwrap(), before);
    for other in [
        database(home.path()),
        home.path().join("nothing"),
        path.with_extension("x"),
    ] {
        Store::open_set_aside(&other, StoreOptions::for_tools()).unwrap_err();
    }
    for (bytes, what) in [(&b""[..], "empty"), (b"Dear diary", "a text")] {
        fs::write(&path, bytes).unwrap();
        let refused = Store::open_set_aside(&path, StoreOptions::for_tools());
        assert!(refused.is_err(), "{what}");
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
}

/// Starts a daemon when it is told to, and stores ten records.
#[test]
fn helper_starts() {
    let Some(arguments) = helper_arguments() else {
        return;
    };
    say("ready");
    told();
    let home = Path::new(&arguments[0]);
    let (telemetry, warnings) = start(home, TelemetryOptions::default()).unwrap();
    log(telemetry.writer(), 10);
    say(warnings.len());
    told();
    telemetry.shutdown().unwrap();
}

#[test]
fn daemons_that_start_together_set_it_aside_once() {
    for bytes in ["Dear diary", ""] {
        let home = filled();
        fs::write(database(home.path()), bytes).unwrap();
        let path = home.path().to_str().unwrap();
        let mut helpers = [(); 5].map(|()| Helper::start("helper_starts", &[path]));
        for helper in &mut helpers {
            assert_eq!(helper.heard(), "ready");
        }
        for helper in &mut helpers {
            helper.tell("start");
        }
        let warnings: u64 = (helpers.iter_mut())
            .map(|helper| helper.heard().parse::<u64>().unwrap())
            .sum();
        assert_eq!(warnings, 1);
        helpers.into_iter().for_each(Helper::end);
        let kept = list_set_aside(home.path(), STACK).unwrap();
        assert_eq!(kept.len(), 1);
        assert_eq!(fs::read(&kept[0].path).unwrap(), bytes.as_bytes());
        let store = open(home.path());
        assert_eq!((count(&store), entered(&store)), (50, 1));
    }
}
