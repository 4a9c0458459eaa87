//! A file of another program, of a newer version, or damaged gives a typed error and is not modified.
//! It never causes a panic or a hang, and no block is read as something else.
//!
//! `GRIDCTL_TELEMETRY_DAMAGES` sets the number of damaged places, 100 by default.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{
    Random, STACK, database, home, number, numbers, on_demand, open, record, server, without_hang,
};
use gridctl_telemetry::{
    Error, Query, Signal, Store, StoreOptions, Writer,
    maintenance::{WipeScope, wipe},
    query::inventory,
};
use redb::{ReadableDatabase, ReadableTable, TableDefinition};
use std::{fs, path::Path};
use tempfile::TempDir;

/// A home whose database has these bytes.
fn planted(bytes: &[u8]) -> TempDir {
    let home = home();
    fs::create_dir_all(database(home.path()).parent().unwrap()).unwrap();
    fs::write(database(home.path()), bytes).unwrap();
    home
}

/// A home whose database was made by another program.
fn made_by(make: impl FnOnce(&redb::WriteTransaction)) -> TempDir {
    let home = planted(&[]);
    let foreign = redb::Database::create(database(home.path())).unwrap();
    let transaction = foreign.begin_write().unwrap();
    make(&transaction);
    transaction.commit().unwrap();
    drop(foreign);
    home
}

const RECORDS: u64 = 300;

/// Fills a store so that both tiers have records, and leaves it to its writer's guard.
fn fill(home: &Path) -> impl Sized + use<> {
    let store = open(home);
    let (writer, guard) = Writer::start(&store, on_demand()).unwrap();
    for number in 0..RECORDS {
        let name = ["a", "b"][usize::from(number % 3 == 0)];
        writer.log(&server(name), &record(number)).unwrap();
        if number % 70 == 69 {
            writer.flush().unwrap();
        }
    }
    writer.flush().unwrap();
    guard
}

/// The file of a store that was closed.
fn closed() -> Vec<u8> {
    let home = home();
    drop(fill(home.path()));
    fs::read(database(home.path())).unwrap()
}

/// The file of a store as a kill leaves it.
fn killed() -> Vec<u8> {
    let home = home();
    let _guard = fill(home.path());
    fs::read(database(home.path())).unwrap()
}

/// The results of all ways to open the store.
fn every_way_in(home: &Path) -> [Result<(), Error>; 5] {
    let options = StoreOptions::default;
    [
        Store::open_read_only(home, STACK, options()).map(drop),
        inventory(home, STACK, None).map(drop),
        Store::open(home, STACK, options()).map(drop),
        Store::open_existing(home, STACK, options()).map(drop),
        wipe(home, STACK, &WipeScope::everything()).map(drop),
    ]
}

/// Checks that every way in is refused as expected, and that the file stays as it is.
#[track_caller]
fn assert_refused(home: &TempDir, what: &str, expected: impl Fn(&Error) -> bool) {
    let file = database(home.path());
    let before = fs::read(&file).unwrap();
    let path = home.path().to_owned();
    let answers = without_hang("opening", move || every_way_in(&path));
    for (way, answer) in answers.into_iter().enumerate() {
        match answer {
            Err(error) if expected(&error) => {
                let message = error.to_string();
                assert!(message.contains(file.to_str().unwrap()), "{message}");
            }
            other => panic!("{what}, way {way}: {other:?}"),
        }
    }
    assert!(fs::read(&file).unwrap() == before, "{what} was changed");
}

fn foreign(error: &Error) -> bool {
    matches!(error, Error::NotADatabase { .. })
}

fn foreign_or_damaged(error: &Error) -> bool {
    foreign(error) || matches!(error, Error::Corrupt { .. })
}

const MAGIC: &[u8] = b"redb\x1a\x0a\xa9\x0d\x0a";

#[test]
fn files_of_other_programs_are_refused() {
    let mut random = Random::from_env();
    let mut garbage = |length: usize| -> Vec<u8> {
        (0..length)
            .map(|_| random.next().to_le_bytes()[0] | 1)
            .collect()
    };
    for length in [1, 8, 9, 10, 319, 320, 512, 4096, 5000, 300_000] {
        let home = planted(&garbage(length));
        assert_refused(&home, &format!("garbage of {length} bytes"), foreign);
        let home = planted(&[MAGIC, &garbage(length)].concat());
        let what = format!("garbage of {length} bytes after the magic number");
        assert_refused(&home, &what, foreign_or_damaged);
    }
    let text = "Dear diary,\n".repeat(1000);
    assert_refused(&planted(text.as_bytes()), "a text", foreign);
    assert_refused(
        &planted(b"SQLite format 3\0"),
        "a database of SQLite",
        foreign,
    );
    // An interrupted creation leaves zeros, but not zeros with other bytes after them.
    let mut zeros = vec![0; 100_000];
    zeros[99_999] = 1;
    assert_refused(&planted(&zeros), "zeros and a one", foreign);
}

#[test]
fn other_programs_databases_are_refused() {
    let table = TableDefinition::<u64, &str>::new("theirs");
    let home = made_by(|transaction| {
        let mut table = transaction.open_table(table).unwrap();
        table.insert(1, "something").unwrap();
    });
    assert_refused(&home, "another table", foreign);

    let home = made_by(|transaction| {
        let table = redb::MultimapTableDefinition::<u64, u64>::new("meta");
        transaction.open_multimap_table(table).unwrap();
    });
    assert_refused(&home, "a multimap named as ours", foreign);

    let home = made_by(|transaction| {
        let table = TableDefinition::<&str, &str>::new("meta");
        let mut table = transaction.open_table(table).unwrap();
        table.insert("schema_version", "1").unwrap();
    });
    assert_refused(&home, "a table named as ours with other types", foreign);

    let home = made_by(|transaction| {
        let mut table = transaction.open_table(META).unwrap();
        table.insert("version", 1).unwrap();
    });
    assert_refused(&home, "a table named as ours with other entries", foreign);
}

#[test]
fn an_empty_file_and_an_empty_database_are_new() {
    for home in [planted(&[]), made_by(|_| {})] {
        let read_only = Store::open_read_only(home.path(), STACK, StoreOptions::for_tools());
        if let Some(store) = read_only.unwrap() {
            assert!(numbers(&store.snapshot().unwrap()).is_empty());
        }
        assert_eq!(inventory(home.path(), STACK, None).unwrap(), []);
        drop(fill(home.path()));
        let found = numbers(&open(home.path()).snapshot().unwrap());
        assert_eq!(found.values().map(Vec::len).sum::<usize>(), 300);
    }
}

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// Sets the schema version of the database, and returns the file before it is closed.
fn set_version(home: &TempDir, version: u64) -> Vec<u8> {
    let file = database(home.path());
    let database = redb::Builder::new()
        .set_concurrency_mode(redb::ConcurrencyMode::MultiWriter)
        .open(&file)
        .unwrap();
    let transaction = database.begin_write().unwrap();
    let mut meta = transaction.open_table(META).unwrap();
    meta.insert("schema_version", version).unwrap();
    drop(meta);
    transaction.commit().unwrap();
    fs::read(file).unwrap()
}

fn version(home: &TempDir) -> u64 {
    let database = redb::Database::open(database(home.path())).unwrap();
    let meta = database.begin_read().unwrap().open_table(META).unwrap();
    meta.get("schema_version").unwrap().unwrap().value()
}

#[test]
fn a_newer_database_is_refused_and_left_as_it_is() {
    let present = version(&planted(&closed()));
    for newer in [present + 1, 1000, u64::MAX] {
        let home = planted(&closed());
        // Its writer was killed, or has ended.
        for home in [planted(&set_version(&home, newer)), home] {
            assert_refused(&home, "a newer database", |error| {
                let message = error.to_string();
                matches!(error, Error::SchemaTooNew { found, supported, .. }
                    if (*found, *supported) == (newer, present))
                    && message.contains(&format!("version {newer},"))
                    && message.contains(&format!("up to {present}:"))
            });
            // The newer program can still use it.
            set_version(&home, present);
            let found = numbers(&open(home.path()).snapshot().unwrap());
            assert_eq!(found.values().map(Vec::len).sum::<usize>(), 300);
        }
    }
}

#[test]
fn a_file_that_was_cut_off_is_refused() {
    for (what, bytes) in [("closed", closed()), ("killed", killed())] {
        // Every page boundary, the bytes next to it, and the header in detail.
        let lengths = (0..bytes.len())
            .step_by(4096)
            .flat_map(|page| [page.saturating_sub(1), page, page + 1])
            .chain((1..400).step_by(23))
            .filter(|length| (1..bytes.len()).contains(length));
        let mut refused = 0;
        for length in lengths {
            let home = planted(&bytes[..length]);
            let what = format!("{length} of {} bytes, {what}", bytes.len());
            // The missing bytes may be unused pages.
            let store = Store::open_read_only(home.path(), STACK, StoreOptions::for_tools());
            if let Ok(Some(store)) = store {
                let query = Query::new(Signal::Logs);
                let read = store.snapshot().and_then(|snapshot| {
                    let records = snapshot.scan(&query)?.records();
                    records.collect::<Result<Vec<_>, Error>>()
                });
                match read {
                    Ok(read) => assert_eq!(read.len(), 300, "{what}"),
                    // Or pages whose loss shows only when they are read.
                    Err(Error::Corrupt { .. }) => refused += 1,
                    Err(error) => panic!("{what}: {error}"),
                }
            } else {
                assert!(fs::read(database(home.path())).unwrap() == bytes[..length]);
                assert_refused(&home, &what, foreign_or_damaged);
                refused += 1;
            }
        }
        assert!(refused > 80, "{refused}");
    }
}

/// The number of places that each test damages, one after the other.
fn damages() -> usize {
    common::number_from_env("GRIDCTL_TELEMETRY_DAMAGES", 100)
}

/// All places in the file that hold each value of a table: unused pages keep their old contents.
fn places<K: redb::Key + 'static, V: redb::Value + 'static>(
    bytes: &[u8],
    table: &str,
    raw: impl Fn(redb::AccessGuard<'_, V>) -> Vec<u8>,
) -> Vec<(Vec<usize>, usize)> {
    let home = planted(bytes);
    let database = redb::Database::open(database(home.path())).unwrap();
    let transaction = database.begin_read().unwrap();
    let table = transaction
        .open_table(TableDefinition::<K, V>::new(table))
        .unwrap();
    let values = table.iter().unwrap().map(|entry| {
        let value = raw(entry.unwrap().1);
        let windows = bytes.windows(value.len()).enumerate();
        let found = windows.filter(|(_, window)| *window == value);
        (found.map(|(at, _)| at).collect(), value.len())
    });
    values.collect()
}

#[test]
fn a_damaged_block_is_an_error_and_nothing_else() {
    let bytes = closed();
    let mut random = Random::from_env();
    let bodies = places::<&[u8; 23], &[u8]>(&bytes, "pieces", |value| value.value().to_vec());
    let headers = places::<&[u8; 21], &[u8; 58]>(&bytes, "headers", |value| value.value().to_vec());
    for damage in 0..damages() {
        let values = [&bodies, &headers][damage % 2];
        let (places, length) = &values[random.below(values.len())];
        let (at, bit) = (random.below(*length), random.below(8));
        let mut damaged = bytes.clone();
        for place in places {
            damaged[place + at] ^= 1 << bit;
        }
        let home = planted(&damaged);
        let store = Store::open_read_only(home.path(), STACK, StoreOptions::for_tools());
        let scan = store.unwrap().unwrap().scan(&Query::new(Signal::Logs));
        let mut error = None;
        for found in scan.unwrap() {
            match found {
                Ok(found) => drop(number(&found.record.into_log().unwrap())),
                Err(found) => {
                    assert!(error.is_none(), "a scan continues after {error:?}");
                    error = Some(found);
                }
            }
        }
        let error = error
            .unwrap_or_else(|| panic!("the damage of byte {at} at {places:?} was not detected"));
        assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
    }
}

/// Uses a store in every way, and ignores errors.
fn use_whatever_is_there(home: &Path) -> Result<(), Error> {
    let store = Store::open(home, STACK, StoreOptions::default())?;
    let snapshot = store.snapshot()?;
    let mut read = 0;
    let mut scan = snapshot.scan(&Query::new(Signal::Logs))?;
    while let Some(record) = scan.next()? {
        let _ = record.decode();
        read += 1;
        assert!(read <= 2 * RECORDS, "a scan without end");
    }
    let _ = snapshot.inventory(None);
    let (writer, guard) = Writer::start(&store, on_demand())?;
    for number in 0..60 {
        let _ = writer.log(&server("a"), &record(number));
    }
    let _ = writer.flush();
    let _ = writer.wipe(&WipeScope::everything());
    let _ = guard.close();
    let stats = writer.stats();
    assert_eq!(
        stats.offered,
        stats.stored + stats.dropped_total(),
        "{stats:?}"
    );
    Ok(())
}

#[test]
fn damage_anywhere_is_no_panic_and_no_hang() {
    let bytes = closed();
    let mut random = Random::from_env();
    let mut refused = 0;
    for _ in 0..damages() {
        let mut damaged = bytes.clone();
        // Zeros, a single bit, or a page from elsewhere in the file.
        let page = random.below(bytes.len() / 4096) * 4096;
        let at = page + [random.below(64), random.below(4096)][random.below(2)];
        match random.below(4) {
            0 => damaged[page..page + 4096].fill(0),
            1 => damaged.copy_within(4096 * 3..4096 * 4, page),
            _ => damaged[at] ^= 1 << random.below(8),
        }
        let home = planted(&damaged);
        let path = home.path().to_owned();
        refused += usize::from(
            without_hang("a damaged store", move || use_whatever_is_there(&path)).is_err(),
        );
    }
    assert!(refused > 0, "no damage was found in {} cases", damages());
}

#[test]
fn a_file_that_is_cut_off_while_it_is_open_is_an_error() {
    for length in [0, 100, 4096, 50_000] {
        let home = home();
        drop(fill(home.path()));
        let reader = Store::open_read_only(home.path(), STACK, StoreOptions::for_tools());
        let (reader, store) = (reader.unwrap().unwrap(), open(home.path()));
        let (writer, guard) = Writer::start(&store, on_demand()).unwrap();
        let file = fs::File::options()
            .write(true)
            .open(database(home.path()))
            .unwrap();
        file.set_len(length).unwrap();
        without_hang("a store that was cut off", move || {
            let read = |store: &Store| {
                store
                    .scan(&Query::new(Signal::Logs))?
                    .collect::<Result<Vec<_>, _>>()
            };
            // Reading succeeds if all pages that it needs are still in memory.
            let _ = read(&reader);
            for number in 0..60 {
                writer.log(&server("a"), &record(number)).unwrap();
            }
            let _ = writer.flush();
            let _ = read(&store);
            let _ = guard.close();
            let stats = writer.stats();
            assert_eq!(stats.offered, stats.stored + stats.dropped_total());
        });
    }
}
