//! A file that is replaced, restored or deleted while a daemon has it open swallows nothing: the writer
//! goes on in the file at the path, with its limits and its entry, readers see that file, and what was
//! acknowledged and is gone is told by `flush`, the listener and the ledger.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{
    HANG, Helper, STACK, database, home, numbers, on_demand, open, record, say, server, told,
};
use gridctl_telemetry::{
    Error, Query, Signal, Store, StoreOptions, Writer, WriterGuard,
    config::{Retention, RetentionPolicy},
    ingest::OutageEvent,
    ledger::LossCause,
    maintenance::WipeScope,
};
use std::{fs, ops::Range, path::PathBuf, sync::mpsc};

fn log(writer: &Writer, numbers: Range<u64>) {
    for number in numbers {
        writer.log(&server("github"), &record(number)).unwrap();
    }
}

/// The numbers of the stored records.
fn stored(store: &Store) -> Vec<u64> {
    let mut found = numbers(&store.snapshot().unwrap());
    found.remove("github").unwrap_or_default()
}

/// A database with the records of these numbers, and no file beside it.
fn other(numbers: Range<u64>) -> (tempfile::TempDir, PathBuf) {
    let home = home();
    let (writer, guard) = Writer::start(&open(home.path()), on_demand()).unwrap();
    log(&writer, numbers);
    guard.close().unwrap();
    let path = database(home.path());
    (home, path)
}

/// The losses for this cause in the ledger.
fn replaced(store: &Store) -> Vec<u64> {
    let entries = store.snapshot().unwrap().ledger(..).unwrap();
    entries
        .iter()
        .filter(|entry| entry.cause == LossCause::Replaced)
        .map(|entry| entry.count)
        .collect()
}

#[track_caller]
fn assert_told(flushed: Result<(), Error>, records: u64) {
    match flushed {
        Err(Error::NotFlushed { reason, source }) => {
            assert!(reason.contains(&format!(" {records} records ")), "{reason}");
            let source = source.unwrap();
            let source = source.downcast_ref::<Error>().unwrap();
            assert!(matches!(source, Error::DatabaseReplaced { .. }), "{source}");
        }
        other => panic!("{other:?}"),
    }
}

const LIMIT: u64 = 8 << 20;

/// Limits under which the old records of this test stay.
fn limited_to(bytes: u64) -> RetentionPolicy {
    let retention = Retention::default()
        .max_size_bytes(bytes / 2)
        .max_age_days(3650);
    RetentionPolicy::new(retention.max_backups(1))
}

/// A daemon that has stored the records 0 to 99.
struct Daemon {
    home: tempfile::TempDir,
    store: Store,
    writer: Writer,
    guard: WriterGuard,
    events: mpsc::Receiver<OutageEvent>,
}

impl Daemon {
    fn start() -> Daemon {
        let (sender, events) = mpsc::channel();
        let options = on_demand()
            .retention(Some(limited_to(LIMIT)))
            .on_outage(move |event| sender.send(event).unwrap());
        let home = home();
        let store = open(home.path());
        let (writer, guard) = Writer::start(&store, options).unwrap();
        log(&writer, 0..100);
        writer.flush().unwrap();
        Daemon {
            home,
            store,
            writer,
            guard,
            events,
        }
    }

    fn path(&self) -> PathBuf {
        database(self.home.path())
    }

    /// Checks that it stores `fresh` in the file that is at the path now, beside `found`.
    #[track_caller]
    fn goes_on(self, found: Range<u64>, fresh: Range<u64>) {
        log(&self.writer, fresh.clone());
        assert_told(self.writer.flush(), 100);
        // Once told, it is told no more.
        self.writer.flush().unwrap();
        let event = self.events.recv_timeout(HANG).unwrap();
        assert!(
            matches!(event, OutageEvent::Replaced { records: 100, .. }),
            "{event:?}"
        );
        let expected: Vec<u64> = found.chain(fresh).collect();
        let elsewhere = open(self.home.path());
        // The handle that was open all the time, and a new one.
        for store in [&self.store, &elsewhere] {
            assert_eq!(stored(store), expected);
            assert_eq!(replaced(store), [100]);
            let limits = store.snapshot().unwrap().limits_of(None).unwrap();
            assert_eq!(limits.unwrap().bytes_max, LIMIT);
            let writers = store.writers().unwrap();
            assert_eq!(writers.iter().filter(|it| it.is_running).count(), 1);
        }
        let folder = self.path().parent().unwrap().to_owned();
        self.guard.close().unwrap();
        assert_eq!(stored(&elsewhere), expected);
        assert_eq!(elsewhere.writers().unwrap(), []);
        let spills = fs::read_dir(folder).unwrap();
        let mut names = spills.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert!(names.all(|name| !name.contains("spill")));
    }
}

#[test]
fn a_file_that_was_replaced_is_written_to() {
    let daemon = Daemon::start();
    let (_home, other) = other(500..520);
    fs::rename(other, daemon.path()).unwrap();
    daemon.goes_on(500..520, 600..650);
}

#[test]
fn a_file_that_was_deleted_is_created_again() {
    let daemon = Daemon::start();
    fs::remove_file(daemon.path()).unwrap();
    daemon.goes_on(0..0, 600..650);
}

#[test]
fn a_folder_that_was_deleted_is_created_again() {
    let daemon = Daemon::start();
    fs::remove_dir_all(daemon.path().parent().unwrap()).unwrap();
    daemon.goes_on(0..0, 600..650);
}

/// The older copy has the writer's entry, but not its last batches.
#[test]
fn an_older_copy_of_the_file_is_written_to() {
    for in_place in [false, true] {
        let daemon = Daemon::start();
        let copy = daemon.home.path().join("copy");
        // Nothing is written meanwhile.
        fs::copy(daemon.path(), &copy).unwrap();
        log(&daemon.writer, 100..130);
        daemon.writer.flush().unwrap();
        if in_place {
            fs::copy(&copy, daemon.path()).unwrap();
        } else {
            fs::rename(&copy, daemon.path()).unwrap();
        }
        log(&daemon.writer, 600..650);
        let mut told = Vec::new();
        // The engine may first find that the file is not what it remembers.
        while let Err(error) = daemon.writer.flush() {
            told.push(error);
            assert!(told.len() < 10, "{told:?}");
        }
        assert_told(Err(told.pop().unwrap()), 130);
        let expected: Vec<u64> = (0..100).chain(600..650).collect();
        for store in [&daemon.store, &open(daemon.home.path())] {
            assert_eq!(stored(store), expected, "in place: {in_place}");
            assert_eq!(replaced(store), [130]);
        }
        daemon.guard.close().unwrap();
    }
}

#[test]
fn a_flush_without_new_records_tells_too() {
    let daemon = Daemon::start();
    fs::remove_file(daemon.path()).unwrap();
    assert_told(daemon.writer.flush(), 100);
    daemon.writer.flush().unwrap();
    assert!(daemon.path().exists());
    // So does the flush at the end.
    let daemon = Daemon::start();
    fs::remove_file(daemon.path()).unwrap();
    assert_told(daemon.guard.close(), 100);
    let store = open(daemon.home.path());
    assert_eq!((stored(&store), replaced(&store)), (vec![], vec![100]));
    assert_eq!(store.writers().unwrap(), []);
}

#[test]
fn a_wipe_holds_in_the_next_file_too() {
    let daemon = Daemon::start();
    log(&daemon.writer, 100..150);
    // By another process: this one has the wiped records in its queue.
    open(daemon.home.path())
        .wipe(&WipeScope::everything())
        .unwrap();
    log(&daemon.writer, 150..160);
    fs::remove_file(daemon.path()).unwrap();
    assert_told(daemon.writer.flush(), 100);
    let expected: Vec<u64> = (150..160).collect();
    assert_eq!(stored(&daemon.store), expected);
    // A wipe of the new file is as well obeyed.
    log(&daemon.writer, 160..170);
    open(daemon.home.path())
        .wipe(&WipeScope::everything())
        .unwrap();
    log(&daemon.writer, 170..180);
    daemon.writer.flush().unwrap();
    let expected: Vec<u64> = (170..180).collect();
    assert_eq!(stored(&daemon.store), expected);
}

#[test]
fn changes_of_the_store_go_to_the_present_file() {
    let daemon = Daemon::start();
    let (_home, other) = other(500..520);
    fs::rename(other, daemon.path()).unwrap();
    // Of a handle without a writer.
    let (_home, another) = self::other(700..720);
    let handle = open(daemon.home.path());
    fs::rename(another, daemon.path()).unwrap();
    assert_eq!(handle.wipe(&WipeScope::everything()).unwrap(), 1);
    assert!(stored(&open(daemon.home.path())).is_empty());
    // Of the writer.
    assert_eq!(daemon.writer.wipe(&WipeScope::everything()).unwrap(), 0);
    fs::remove_file(daemon.path()).unwrap();
    assert!(matches!(
        handle.wipe(&WipeScope::everything()),
        Err(Error::DatabaseReplaced { .. })
    ));
    assert!(!daemon.path().exists(), "only a writer creates a database");
    daemon.writer.set_retention(limited_to(LIMIT * 2)).unwrap();
    let limits = open(daemon.home.path()).snapshot().unwrap();
    let limits = limits.limits_of(None).unwrap().unwrap();
    assert_eq!(limits.bytes_max, LIMIT * 2);
}

/// What was found out about the pages of one file says nothing about the next one.
#[test]
fn a_damaged_file_in_its_place_is_not_changed() {
    const PAGE: usize = 4096;
    let daemon = Daemon::start();
    let (_other, path) = other(0..100);
    let whole = fs::read(path).unwrap();
    let scope = WipeScope::everything().server(server("nothing"));
    let mut refused = 0;
    for page in 1..whole.len() / PAGE {
        let mut damaged = whole.clone();
        damaged[page * PAGE..(page + 1) * PAGE].fill(0);
        let fresh = home();
        fs::create_dir_all(database(fresh.path()).parent().unwrap()).unwrap();
        for path in [daemon.home.path().join("next"), database(fresh.path())] {
            fs::write(path, &damaged).unwrap();
        }
        fs::rename(daemon.home.path().join("next"), daemon.path()).unwrap();
        let is_refused = |store: &Store| matches!(store.wipe(&scope), Err(Error::Corrupt { .. }));
        let expected = Store::open(fresh.path(), STACK, StoreOptions::default())
            .is_ok_and(|store| is_refused(&store));
        if expected {
            refused += 1;
            assert!(is_refused(&daemon.store), "page {page}");
            let left = fs::read(daemon.path()).unwrap();
            // Opening the file marks its header.
            assert!(left[PAGE..] == damaged[PAGE..], "page {page}");
        }
    }
    assert!(refused > 1, "{refused} files were refused");
}

#[test]
fn a_reader_sees_the_present_file() {
    let (home, _) = other(0..10);
    let options = StoreOptions::for_tools();
    let reader = Store::open_read_only(home.path(), STACK, options)
        .unwrap()
        .unwrap();
    assert_eq!(stored(&reader).len(), 10);
    let (_other, path) = other(500..520);
    fs::rename(path, database(home.path())).unwrap();
    let expected: Vec<u64> = (500..520).collect();
    assert_eq!(stored(&reader), expected);
    // While there is none, it sees the last one.
    fs::remove_file(database(home.path())).unwrap();
    assert_eq!(stored(&reader), expected);
    drop(open(home.path()));
    assert!(stored(&reader).is_empty());
}

const ROUNDS: u64 = 20;

/// Appends a record a flush, and says what was acknowledged. A flush that fails says so.
#[test]
fn helper_appends() {
    let Some((arguments, _store, writer, guard)) = common::helper_writer() else {
        return;
    };
    let name = server(&arguments[1]);
    let mut number = 0;
    while told().as_deref() == Some("more") {
        for _ in 0..ROUNDS {
            writer.log(&name, &record(number)).unwrap();
            number += 1;
            say(writer.flush().is_ok());
        }
    }
    guard.close().unwrap();
    say("done");
}

#[test]
fn two_daemons_go_on_side_by_side_in_a_new_file() {
    let home = home();
    let path = home.path().to_str().unwrap();
    let mut first = Helper::start("helper_appends", &[path, "first"]);
    first.tell("more");
    for _ in 0..ROUNDS {
        assert_eq!(first.heard(), "true");
    }
    fs::remove_file(database(home.path())).unwrap();
    // The next daemon starts in the new file before the first one has noticed.
    let mut second = Helper::start("helper_appends", &[path, "second"]);
    second.tell("more");
    first.tell("more");
    let mut heard = Vec::new();
    for _ in 0..ROUNDS {
        heard.push(first.heard());
        assert_eq!(second.heard(), "true");
    }
    assert_eq!(heard[0], "false", "the first 20 records are gone");
    assert!(heard[1..].iter().all(|flushed| flushed == "true"));
    for helper in [&mut first, &mut second] {
        helper.tell("end");
        assert_eq!(helper.heard(), "done");
    }
    let store = open(home.path());
    let found = numbers(&store.snapshot().unwrap());
    let expected = |numbers: Range<u64>| numbers.collect::<Vec<u64>>();
    assert_eq!(found["first"], expected(ROUNDS..2 * ROUNDS));
    assert_eq!(found["second"], expected(0..ROUNDS));
    assert_eq!(replaced(&store), [ROUNDS]);
    let inventory = store.snapshot().unwrap().inventory(None).unwrap();
    let counted: u64 = inventory.iter().map(|series| series.record_count).sum();
    assert_eq!(counted, 2 * ROUNDS);
}

/// Logs records that no commit takes, and waits to be killed.
#[test]
fn helper_leaves_records_in_its_spill() {
    let Some((_, _store, writer, _guard)) = common::helper_writer() else {
        return;
    };
    log(&writer, 0..20);
    say("logged");
    told();
}

#[test]
fn a_killed_daemon_whose_file_was_deleted_keeps_its_last_words() {
    let home = home();
    let path = home.path().to_str().unwrap();
    let mut helper = Helper::start("helper_leaves_records_in_its_spill", &[path]);
    helper.heard();
    let folder = database(home.path()).parent().unwrap().to_owned();
    let spilled = |name: &str| fs::metadata(folder.join(name)).map_or(0, |it| it.len());
    // Until all records are there: the file grows by one write.
    while spilled("telemetry.0.spill") + spilled("telemetry.0.spill2") < 2048 {
        std::thread::yield_now();
    }
    helper.kill();
    fs::remove_file(database(home.path())).unwrap();
    let store = open(home.path());
    let expected: Vec<u64> = (0..20).collect();
    assert_eq!(stored(&store), expected);
    let query = Query::new(Signal::Logs);
    assert_eq!(store.last(&query, 100).unwrap().len(), 20);
    drop(store);
    // Not twice.
    assert_eq!(stored(&open(home.path())), expected);
}
