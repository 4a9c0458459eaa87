//! Verification says that a store is right, or what is wrong, and salvage gets what can be read.
//!
//! `GRIDCTL_TELEMETRY_DAMAGES` sets the number of places that are damaged, one at a time, 100 by
//! default.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Random, STACK, database, home, on_demand, open, record, server, without_hang};
use gridctl_telemetry::{
    Error, MetricsSnapshot, Record, Signal, SpanRecord, Store, StoreOptions, Timestamp, Writer,
    WriterOptions,
    maintenance::{Finding, Verified, VerifyOptions},
};
use redb::{ReadableTable, TableDefinition};
use std::{
    collections::BTreeSet,
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tempfile::TempDir;

const RECORDS: u64 = 300;

/// Fills a store so that both tiers have records of every signal.
fn fill(store: &Store) {
    let (writer, guard) = Writer::start(store, on_demand()).unwrap();
    for number in 0..RECORDS {
        let name = server(["a", "b"][usize::from(number % 3 == 0)]);
        writer.log(&name, &record(number)).unwrap();
        if number % 5 == 0 {
            let time = Timestamp::from_unix_nanos(number.cast_signed() * 1000);
            writer.metrics(&name, &MetricsSnapshot::new(time)).unwrap();
            writer.span(&name, &SpanRecord::default()).unwrap();
        }
        if number % 70 == 69 {
            writer.flush().unwrap();
        }
    }
    guard.close().unwrap();
}

/// The file of a store that was closed.
fn closed() -> Vec<u8> {
    let home = home();
    fill(&open(home.path()));
    fs::read(database(home.path())).unwrap()
}

/// A home whose database has these bytes.
fn planted(bytes: &[u8]) -> TempDir {
    let home = home();
    fs::create_dir_all(database(home.path()).parent().unwrap()).unwrap();
    fs::write(database(home.path()), bytes).unwrap();
    home
}

fn verify(store: &Store) -> (Verified, Vec<Finding>) {
    let mut findings = Vec::new();
    let options = VerifyOptions::default();
    let verified = store
        .verify(&options, |finding| findings.push(finding))
        .unwrap();
    assert_eq!(verified.findings, findings.len() as u64);
    (verified, findings)
}

/// All records that salvage gets, and the numbers of the logs that are as they were written.
fn salvage(store: &Store) -> (u64, BTreeSet<u64>) {
    let mut numbers = BTreeSet::new();
    let mut records = 0;
    let options = VerifyOptions::default();
    let verified = store.salvage(&options, drop, |found| {
        records += 1;
        if let Record::Log(log) = found.decode().unwrap()
            && let Some(gridctl_telemetry::Value::Int(number)) = log.attribute("number")
            && log == record(number.cast_unsigned())
        {
            numbers.insert(number.cast_unsigned());
        }
    });
    assert_eq!(verified.unwrap().records, records);
    (records, numbers)
}

const ALL: u64 = RECORDS + 2 * RECORDS / 5;

#[test]
fn a_store_that_is_right_has_no_finding() {
    let home = home();
    let store = open(home.path());
    assert_eq!(verify(&store).1, []);
    fill(&store);
    for store in [
        store,
        Store::open_read_only(home.path(), STACK, StoreOptions::for_tools())
            .unwrap()
            .unwrap(),
    ] {
        let (verified, findings) = verify(&store);
        assert_eq!(findings, []);
        assert_eq!((verified.records, verified.has_checked_pages), (ALL, true));
        assert_eq!(salvage(&store).0, ALL);
    }
}

/// A daemon that writes, and whose blocks are sealed and merged meanwhile, is not disturbed.
#[test]
fn a_store_that_is_written_meanwhile_has_no_finding() {
    let home = home();
    let store = open(home.path());
    fill(&store);
    let (writer, guard) =
        Writer::start(&store, WriterOptions::default().tiering(40, 25, 16)).unwrap();
    let reader = Store::open_read_only(home.path(), STACK, StoreOptions::for_tools());
    let reader = reader.unwrap().unwrap();
    for number in RECORDS..RECORDS + 200 {
        writer.log(&server("a"), &record(number)).unwrap();
        if number % 20 == 0 {
            writer.flush().unwrap();
        }
        if number % 50 == 0 {
            let (verified, findings) = verify(&reader);
            assert_eq!(findings, []);
            assert!(!verified.has_checked_pages && verified.records >= ALL);
        }
    }
    guard.close().unwrap();
    assert_eq!(verify(&reader).0.records, ALL + 200);
}

#[test]
fn a_verification_can_be_cancelled() {
    let home = home();
    let store = open(home.path());
    fill(&store);
    let looks = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&looks);
    let options = VerifyOptions::default()
        .on_progress(|progress| assert!(progress.read_records <= progress.total_records))
        .cancel_when(move || counted.fetch_add(1, Ordering::Relaxed) == 5);
    let cancelled = store.verify(&options, drop);
    assert!(
        matches!(cancelled, Err(Error::Cancelled { .. })),
        "{cancelled:?}"
    );
    assert_eq!(looks.load(Ordering::Relaxed), 6);
}

/// The number of places that are damaged.
fn damages() -> usize {
    common::number_from_env("GRIDCTL_TELEMETRY_DAMAGES", 100)
}

#[test]
fn damage_anywhere_is_found_or_changes_nothing() {
    let bytes = closed();
    let mut random = Random::from_env();
    let (mut found, mut salvaged) = (0, 0);
    for _ in 0..damages() {
        let at = random.below(bytes.len());
        let bit = random.below(8);
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << bit;
        let home = planted(&damaged);
        let outcome = without_hang("verification", move || {
            let options = StoreOptions::for_tools();
            let store = match Store::open_read_only(home.path(), STACK, options) {
                Ok(store) => store.expect("a database"),
                Err(
                    Error::Corrupt { .. } | Error::NotADatabase { .. } | Error::SchemaTooNew { .. },
                ) => return None,
                Err(error) => panic!("{error:?}"),
            };
            let (_, findings) = verify(&store);
            Some((findings, salvage(&store)))
        });
        let Some((findings, (records, numbers))) = outcome else {
            found += 1;
            continue;
        };
        if findings.is_empty() {
            let all: BTreeSet<u64> = (0..RECORDS).collect();
            assert_eq!((records, numbers), (ALL, all), "byte {at}, bit {bit}");
        } else {
            found += 1;
            assert!(records <= ALL, "byte {at}, bit {bit}: {findings:?}");
            salvaged += records;
        }
    }
    println!(
        "{found} of {} damages were found; {salvaged} records salvaged",
        damages()
    );
    assert!(found > 0);
}

const CHUNKS: TableDefinition<'_, &[u8; 23], &[u8]> = TableDefinition::new("pieces");
const HEADERS: TableDefinition<'_, &[u8; 21], &[u8; 58]> = TableDefinition::new("headers");
const SUMMARIES: TableDefinition<'_, &[u8; 21], &[u8]> = TableDefinition::new("summaries");
const QUEUE: TableDefinition<'_, &[u8; 22], ()> = TableDefinition::new("small");
const ROWS: TableDefinition<'_, &[u8; 20], &[u8]> = TableDefinition::new("rows");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const SERIES: TableDefinition<'_, (&str, u8), &[u8]> = TableDefinition::new("series");
const WRITERS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("writers");
const TOTALS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("totals");

/// What is found when `change` was made by another program that computes checksums of pages.
fn found_after(change: impl FnOnce(&redb::WriteTransaction)) -> (Vec<Finding>, u64) {
    let home = home();
    fill(&open(home.path()));
    let database = redb::Builder::new()
        .set_concurrency_mode(redb::ConcurrencyMode::MultiWriter)
        .open(database(home.path()))
        .unwrap();
    let transaction = database.begin_write().unwrap();
    change(&transaction);
    transaction.commit().unwrap();
    drop(database);
    let store = open(home.path());
    let (_, findings) = verify(&store);
    (findings, salvage(&store).0)
}

/// Checks that there is one finding, with these words and this number of lost records, and that the
/// others are salvaged.
#[track_caller]
fn assert_found(
    words: &str,
    lost: impl Fn(Option<u64>) -> bool,
    change: impl FnOnce(&redb::WriteTransaction),
) -> Finding {
    let (mut findings, records) = found_after(change);
    assert_eq!(findings.len(), 1, "{findings:?}");
    let finding = findings.remove(0);
    assert!(finding.what.contains(words), "{finding:?}");
    assert!(lost(finding.records), "{finding:?}");
    match finding.records {
        Some(lost) => assert_eq!(records, ALL - lost, "{finding:?}"),
        None => assert!(records < ALL && records > ALL / 4, "{records}: {finding:?}"),
    }
    finding
}

fn nothing(lost: Option<u64>) -> bool {
    lost == Some(0)
}

fn first_row(rows: &impl ReadableTable<&'static [u8; 20], &'static [u8]>) -> ([u8; 20], Vec<u8>) {
    let (key, row) = rows.first().unwrap().unwrap();
    (*key.value(), row.value().to_vec())
}

fn a_block(lost: Option<u64>) -> bool {
    lost.is_some_and(|lost| (2..=16).contains(&lost))
}

fn unknown(lost: Option<u64>) -> bool {
    lost.is_none()
}

#[test]
fn each_kind_of_damage_is_found() {
    let finding = assert_found("the checksum does not match", a_block, |transaction| {
        let mut chunks = transaction.open_table(CHUNKS).unwrap();
        let (key, mut body) = {
            let first = chunks.first().unwrap().unwrap();
            (*first.0.value(), first.1.value().to_vec())
        };
        body[20] ^= 4;
        chunks.insert(&key, &*body).unwrap();
    });
    assert!(finding.range.is_some() && finding.server.is_some());
    assert_eq!(finding.signal, Some(Signal::Logs));

    assert_found("its summary does not agree", nothing, |transaction| {
        let mut summaries = transaction.open_table(SUMMARIES).unwrap();
        let (key, mut summary) = {
            let first = summaries.first().unwrap().unwrap();
            (*first.0.value(), first.1.value().to_vec())
        };
        // Of the same length: sizes that do not agree are a finding of their own.
        *summary.last_mut().unwrap() ^= 1;
        summaries.insert(&key, &*summary).unwrap();
    });
    let six = |lost| lost == Some(6);
    assert_found("the row of", six, |transaction| {
        let mut rows = transaction.open_table(ROWS).unwrap();
        let (key, mut row) = first_row(&rows);
        *row.last_mut().unwrap() ^= 1;
        rows.insert(&key, row.as_slice()).unwrap();
    });
    assert_found("the row of", unknown, |transaction| {
        let mut rows = transaction.open_table(ROWS).unwrap();
        let (key, mut row) = first_row(&rows);
        row[1] ^= 1;
        rows.insert(&key, row.as_slice()).unwrap();
    });
    assert_found("rows are stored, and", nothing, |transaction| {
        let mut rows = transaction.open_table(ROWS).unwrap();
        rows.insert(&[0xff; 20], b"of no series".as_slice())
            .unwrap();
    });
    assert_found(
        "entries of the merge queue are stored",
        nothing,
        |transaction| {
            let mut queue = transaction.open_table(QUEUE).unwrap();
            queue.insert(&[0xff; 22], ()).unwrap();
        },
    );
    assert_found("the counters of the database", nothing, |transaction| {
        let mut meta = transaction.open_table(META).unwrap();
        meta.insert("block_disk_bytes", 1).unwrap();
    });
    assert_found("the totals of counters", nothing, |transaction| {
        let mut totals = transaction.open_table(TOTALS).unwrap();
        totals.insert("a", b"\xc1".as_slice()).unwrap();
    });
    assert_found("the list of writers", nothing, |transaction| {
        let mut writers = transaction.open_table(WRITERS).unwrap();
        writers.insert(7, b"\xc1".as_slice()).unwrap();
    });
    assert_found("missing in the merge queue", unknown, |transaction| {
        let mut queue = transaction.open_table(QUEUE).unwrap();
        let key = *queue.first().unwrap().unwrap().0.value();
        queue.remove(&key).unwrap();
    });
    assert_found("the checksum of its header", unknown, |transaction| {
        let mut headers = transaction.open_table(HEADERS).unwrap();
        let (key, mut header) = {
            let first = headers.first().unwrap().unwrap();
            (*first.0.value(), *first.1.value())
        };
        header[0] = 9;
        headers.insert(&key, &header).unwrap();
    });
    assert_found("the entry of a, logs", unknown, |transaction| {
        let mut series = transaction.open_table(SERIES).unwrap();
        let key = (Signal::Logs, "a");
        series
            .insert((key.1, key.0 as u8), b"\xc1".as_slice())
            .unwrap();
    });
}
