//! What a wipe deletes is nowhere in the files of the stack once it is overwritten.
//!
//! Each record has a random id. It is searched for in the raw bytes of all files, as text and as the number
//! that columns of blocks store.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{
    Helper, Random, STACK, database, helper_writer, home, on_demand, open, open_with_disk, say,
    server, told,
};
use gridctl_telemetry::{
    Error, Level, LogRecord, Query, Signal, Store, StoreOptions, Timestamp, Writer,
    maintenance::{CompactOptions, WipeScope},
    testing::DiskOperation,
};
use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

/// The id of a record, which follows from its server and number.
fn id(server: &str, number: u64) -> u128 {
    let mut seed = number << 8;
    for byte in server.bytes() {
        seed = seed.wrapping_mul(31) + u64::from(byte);
    }
    let mut random = Random::new(seed);
    u128::from(random.next()) << 64 | u128::from(random.next())
}

/// The time from one record to the next, in nanoseconds: so long that none shares a row with another.
const APART: u64 = 20_000_000_000;

fn record(server: &str, number: u64) -> LogRecord {
    let time = Timestamp::from_unix_nanos((number * APART).cast_signed());
    LogRecord::new(time, Level::INFO, "a call")
        .with("trace_id", format!("{:032x}", id(server, number)))
}

fn log(writer: &Writer, name: &str, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        writer.log(&server(name), &record(name, number)).unwrap();
    }
}

/// The numbers below `count` of the records of `server` whose ids are somewhere in the files of the stack.
fn found(home: &Path, server: &str, count: u64) -> BTreeSet<u64> {
    let entries = std::fs::read_dir(database(home).parent().unwrap()).unwrap();
    let files = entries.map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    files
        .flat_map(|bytes| found_in(&bytes, server, count))
        .collect()
}

/// The numbers of the records whose ids are somewhere in `bytes`, in a whole half at least.
fn found_in(bytes: &[u8], server: &str, count: u64) -> BTreeSet<u64> {
    const START: usize = 8;
    // By the first bytes, and the first two of them alone, which are quick to look up.
    let mut forms: HashMap<[u8; START], (u64, Vec<u8>)> = HashMap::new();
    let mut begun = vec![false; 1 << 16];
    for number in 0..count {
        let id = id(server, number);
        let text = format!("{id:032x}").into_bytes();
        for form in [text, id.to_be_bytes().to_vec(), id.to_le_bytes().to_vec()] {
            begun[usize::from(u16::from_le_bytes([form[0], form[1]]))] = true;
            forms.insert(form[..START].try_into().unwrap(), (number, form));
        }
    }
    let mut found = BTreeSet::new();
    for (at, pair) in bytes.windows(2).enumerate() {
        if begun[usize::from(u16::from_le_bytes([pair[0], pair[1]]))]
            && let Some((number, form)) = bytes.get(at..at + START).and_then(|it| forms.get(it))
            && bytes[at..].starts_with(&form[..form.len() / 2])
        {
            found.insert(*number);
        }
    }
    found
}

fn stored(store: &Store, name: &str) -> Vec<u64> {
    let snapshot = store.snapshot().unwrap();
    let query = Query::new(Signal::Logs).server(server(name));
    let records = snapshot.scan(&query).unwrap().records();
    let mut numbers = Vec::new();
    for found in records {
        let found = found.unwrap().record.into_log().unwrap();
        let number = found.timestamp.unix_nanos().cast_unsigned() / APART;
        assert_eq!(found, record(name, number));
        numbers.push(number);
    }
    snapshot.check().unwrap();
    numbers
}

fn secure() -> CompactOptions {
    CompactOptions::default().overwrite_deleted(true)
}

const WIPED: u64 = 900;
const KEPT: u64 = 700;

/// Stores records of two servers, so that there are rows and blocks of both, and pages of deleted rows.
fn fill(store: &Store) {
    let (writer, guard) = Writer::start(store, on_demand()).unwrap();
    for round in 0..WIPED / 9 {
        log(&writer, "wiped", round * 9..round * 9 + 9);
        log(&writer, "kept", round * 7..round * 7 + 7);
        writer.flush().unwrap();
    }
    guard.close().unwrap();
}

#[test]
fn no_byte_of_a_wiped_record_is_left_in_any_file() {
    let home = home();
    let store = open(home.path());
    fill(&store);
    let before = found(home.path(), "wiped", WIPED).len() as u64;
    // Otherwise the search would show nothing. Some ids are cut by the end of a chunk.
    assert!(before >= WIPED * 9 / 10, "{before}");
    let scope = WipeScope::everything().server(server("wiped"));
    // At first the older half, so that blocks are cut and rows are moved.
    let half = Timestamp::from_unix_nanos((450 * APART).cast_signed());
    store.wipe(&scope.clone().before(half)).unwrap();
    store.compact(secure()).unwrap();
    let left = found(home.path(), "wiped", WIPED);
    assert!(left.range(..450).next().is_none(), "{left:?}");
    assert_eq!(stored(&store, "wiped"), (450..WIPED).collect::<Vec<_>>());
    // Then the rest, without and with overwriting.
    store.wipe(&scope).unwrap();
    store.compact(CompactOptions::default()).unwrap();
    store.compact(secure()).unwrap();
    assert_eq!(found(home.path(), "wiped", WIPED), BTreeSet::new());
    assert_eq!(stored(&store, "wiped"), [0; 0]);
    assert_eq!(stored(&store, "kept"), (0..KEPT).collect::<Vec<_>>());
    // The store goes on.
    fill(&store);
    assert_eq!(stored(&store, "wiped"), (0..WIPED).collect::<Vec<_>>());
}

/// A wipe up to a time changes a page of rows twice in one transaction: the second time in place, so that the
/// end of what was removed stays in the page.
#[test]
fn no_byte_is_left_in_the_unused_part_of_a_page() {
    let mut left_by_compaction = 0;
    for kept in (21..40).step_by(6) {
        let home = home();
        let store = open(home.path());
        let (writer, guard) = Writer::start(&store, on_demand()).unwrap();
        log(&writer, "kept", [0]);
        log(&writer, "kept", 20..kept);
        log(&writer, "wiped", 0..21);
        writer.flush().unwrap();
        guard.close().unwrap();
        let scope = WipeScope::everything()
            .before(Timestamp::from_unix_nanos((20 * APART).cast_signed() - 1));
        store.wipe(&scope).unwrap();
        store.compact(CompactOptions::default()).unwrap();
        left_by_compaction += found(home.path(), "wiped", 20).len();
        store.compact(secure()).unwrap();
        assert_eq!(found(home.path(), "wiped", 20), BTreeSet::new());
        assert_eq!(stored(&store, "wiped"), [20]);
        assert_eq!(stored(&store, "kept"), (20..kept).collect::<Vec<_>>());
    }
    assert!(left_by_compaction > 0, "the test shows nothing");
}

#[test]
fn a_row_that_begins_before_the_time_keeps_only_its_later_records() {
    let home = home();
    let store = open(home.path());
    let (writer, guard) = Writer::start(&store, on_demand()).unwrap();
    for number in 0..40 {
        let mut shared = record("wiped", number);
        shared.timestamp = Timestamp::from_unix_nanos(number.cast_signed());
        writer.log(&server("wiped"), &shared).unwrap();
    }
    writer.flush().unwrap();
    guard.close().unwrap();
    let scope = WipeScope::everything().before(Timestamp::from_unix_nanos(25));
    store.wipe(&scope).unwrap();
    let left = || -> Vec<i64> {
        let records = store.scan(&Query::new(Signal::Logs)).unwrap();
        let times = records.map(|record| record.unwrap().record.timestamp().unix_nanos());
        times.collect()
    };
    assert_eq!(left(), (25..40).collect::<Vec<_>>());
    let inventory = store.snapshot().unwrap().inventory(None).unwrap();
    assert_eq!(inventory[0].record_count, 15);
    assert_eq!(inventory[0].oldest_time, Timestamp::from_unix_nanos(25));
    store.compact(secure()).unwrap();
    assert_eq!(found(home.path(), "wiped", 25), BTreeSet::new());
    assert_eq!(left(), (25..40).collect::<Vec<_>>());
    store.snapshot().unwrap().check().unwrap();
}

#[test]
fn what_is_cut_off_is_overwritten_before() {
    let home = home();
    let file = Arc::new(Mutex::new((Vec::<u8>::new(), false, 0)));
    let shadow = Arc::clone(&file);
    let store = open_with_disk(home.path(), move |operation| {
        let (bytes, is_secure, cut) = &mut *shadow.lock().unwrap();
        match operation {
            DiskOperation::Write {
                offset,
                bytes: written,
            } => {
                let offset = usize::try_from(offset).unwrap();
                bytes.resize(bytes.len().max(offset + written.len()), 0);
                bytes[offset..offset + written.len()].copy_from_slice(written);
            }
            DiskOperation::SetLength(length) => {
                let length = usize::try_from(length).unwrap();
                if length < bytes.len() && *is_secure {
                    assert_eq!(found_in(&bytes[length..], "wiped", WIPED), BTreeSet::new());
                    *cut += bytes.len() - length;
                }
                bytes.resize(length, 0);
            }
            _ => {}
        }
    });
    fill(&store);
    let scope = WipeScope::everything().server(server("wiped"));
    store.wipe(&scope).unwrap();
    file.lock().unwrap().1 = true;
    store.compact(secure()).unwrap();
    assert!(file.lock().unwrap().2 > 0, "nothing was cut off");
}

#[test]
fn a_reader_of_an_older_state_is_waited_for() {
    let home = home();
    let store = open(home.path());
    fill(&store);
    let reader = store.snapshot().unwrap();
    let scope = WipeScope::everything().server(server("wiped"));
    store.wipe(&scope).unwrap();
    let refused = store.compact(secure()).unwrap_err();
    assert!(
        matches!(refused, Error::ReaderInTheWay { .. }),
        "{refused:?}"
    );
    assert!(!found(home.path(), "wiped", WIPED).is_empty());
    drop(reader);
    store.compact(secure()).unwrap();
    assert_eq!(found(home.path(), "wiped", WIPED), BTreeSet::new());
}

#[test]
fn an_overwriting_that_is_cancelled_at_any_operation_loses_nothing() {
    let home = home();
    let options = StoreOptions::default().page_cache_bytes(0);
    let store = Store::open(home.path(), STACK, options).unwrap();
    fill(&store);
    let scope = WipeScope::everything().server(server("wiped"));
    store.wipe(&scope).unwrap();
    let mut random = Random::from_env();
    let (mut nth, mut cancelled) = (0, 0);
    loop {
        let asked = std::sync::atomic::AtomicUsize::new(0);
        let options = secure()
            .cancel_when(move || asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) >= nth);
        match store.compact(options) {
            Ok(_) => break,
            Err(Error::Cancelled { .. }) => cancelled += 1,
            Err(error) => panic!("cancelled at {nth}: {error:?}"),
        }
        assert_eq!(stored(&store, "kept"), (0..KEPT).collect::<Vec<_>>());
        nth += 1 + nth / 4 + random.below(20);
    }
    assert!(cancelled > 5, "{cancelled}");
    assert_eq!(found(home.path(), "wiped", WIPED), BTreeSet::new());
    assert_eq!(stored(&store, "kept"), (0..KEPT).collect::<Vec<_>>());
}

/// Logs records of both servers, and does not commit them before it is told to.
#[test]
fn helper_daemon() {
    let Some((_, _, writer, guard)) = helper_writer() else {
        return;
    };
    let mut next = 0;
    while let Some(line) = told() {
        match line.as_str() {
            "log" => {
                log(&writer, "wiped", next..next + 100);
                log(&writer, "kept", next..next + 100);
                next += 100;
            }
            _ => writer.flush().unwrap(),
        }
        say(&line);
    }
    guard.close().unwrap();
}

#[test]
fn records_that_a_daemon_keeps_beside_the_database_are_waited_for() {
    let home = home();
    let mut daemon = Helper::start("helper_daemon", &[home.path().to_str().unwrap()]);
    for _ in 0..5 {
        for line in ["log", "flush"] {
            daemon.tell(line);
            assert_eq!(daemon.heard(), line);
        }
    }
    daemon.tell("log");
    assert_eq!(daemon.heard(), "log");
    // The writer thread writes them to its spill in its own time.
    common::without_hang("the spill", {
        let home = home.path().to_owned();
        move || while found(&home, "wiped", 600).range(500..).count() < 100 {}
    });
    let store = open(home.path());
    let scope = WipeScope::everything().server(server("wiped"));
    store.wipe(&scope).unwrap();
    let refused = store.compact(secure()).unwrap_err();
    assert!(
        matches!(refused, Error::WriterInTheWay { .. }),
        "{refused:?}"
    );
    let left = found(home.path(), "wiped", 600);
    assert!(
        left.iter().eq(&(500..600).collect::<BTreeSet<u64>>()),
        "{left:?}"
    );
    daemon.tell("flush");
    assert_eq!(daemon.heard(), "flush");
    let patience = Duration::from_secs(60);
    store.compact(secure().patience(patience)).unwrap();
    assert_eq!(found(home.path(), "wiped", 600), BTreeSet::new());
    daemon.end();
    assert_eq!(found(home.path(), "wiped", 600), BTreeSet::new());
    assert_eq!(stored(&store, "kept"), (0..600).collect::<Vec<_>>());
}
