//! A scan that skips damage returns every record that can be read, and names what it left out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{home, on_demand, open, server};
use gridctl_telemetry::{
    Error, Level, LogRecord, Query, Signal, Store, StoreOptions, Timestamp, Writer,
    query::{CountBy, Damage, Direction, Filter},
    testing::DiskOperation,
};
use redb::{ReadableTable, TableDefinition};
use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

const BLOCKS: TableDefinition<'_, &[u8; 21], &[u8; 58]> = TableDefinition::new("headers");
const CHUNKS: TableDefinition<'_, &[u8; 23], &[u8]> = TableDefinition::new("pieces");
const ROWS: TableDefinition<'_, &[u8; 20], &[u8]> = TableDefinition::new("rows");

/// Stores the logs 0 to 79 in five blocks, and 80 to 84 in rows.
fn fill(home: &Path) {
    let store = open(home);
    let (writer, guard) = Writer::start(&store, on_demand()).unwrap();
    for number in 0..85_i64 {
        let at = Timestamp::from_unix_nanos(number);
        let record = LogRecord::new(at, Level::INFO, format!("call {number}"));
        writer
            .log(&server("github"), &record.with("number", number))
            .unwrap();
        // Otherwise the last five would share a row.
        if number >= 79 {
            writer.flush().unwrap();
        }
    }
    guard.close().unwrap();
}

/// Damages the body of the second block, the header of the fourth and the third row.
fn damage(home: &Path) {
    let path = common::database(home);
    let database = redb::Database::open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    let keys: Vec<[u8; 21]> = transaction
        .open_table(BLOCKS)
        .unwrap()
        .iter()
        .unwrap()
        .map(|entry| *entry.unwrap().0.value())
        .collect();
    assert_eq!(keys.len(), 5);
    {
        let mut chunks = transaction.open_table(CHUNKS).unwrap();
        let (key, mut chunk) = {
            let found = chunks.iter().unwrap().nth(1).unwrap().unwrap();
            (*found.0.value(), found.1.value().to_vec())
        };
        *chunk.last_mut().unwrap() ^= 1;
        chunks.insert(&key, chunk.as_slice()).unwrap();
        let mut headers = transaction.open_table(BLOCKS).unwrap();
        let mut header = *headers.get(&keys[3]).unwrap().unwrap().value();
        header[0] = 99;
        headers.insert(&keys[3], &header).unwrap();
        let mut rows = transaction.open_table(ROWS).unwrap();
        let row = *rows.iter().unwrap().nth(2).unwrap().unwrap().0.value();
        rows.insert(&row, b"no record".as_slice()).unwrap();
    }
    transaction.commit().unwrap();
}

#[test]
fn what_can_be_read_is_read() {
    let home = home();
    fill(home.path());
    damage(home.path());
    let store = open(home.path());
    let any = Query::new(Signal::Logs);
    let found: Vec<_> = store.scan(&any).unwrap().collect();
    assert_eq!(found.len(), 17, "the scan ends at the first damage");
    assert!(matches!(found[16], Err(Error::Corrupt { .. })));

    let intact: Vec<i64> = (0..85)
        .filter(|number| !matches!(number, 16..32 | 48..64 | 82))
        .collect();
    // The filters take other ways through a block, and match all records.
    for filter in [
        Filter::all([]),
        Filter::field("number>=0").unwrap(),
        !Filter::level_at_least(Level::ERROR),
    ] {
        for direction in [Direction::Forward, Direction::Backward] {
            let query = any.clone().direction(direction).filter(filter.clone());
            let mut records = store.scan(&query.skip_damaged()).unwrap();
            let mut numbers: Vec<i64> = records
                .by_ref()
                .map(|record| record.unwrap().timestamp.unix_nanos())
                .collect();
            if direction == Direction::Backward {
                numbers.reverse();
            }
            assert_eq!(numbers, intact);
            let damage = records.damage();
            assert!(damage.iter().all(|it| it.server == Some(server("github"))));
            let mut counts: Vec<_> = damage.iter().map(|it| it.records).collect();
            counts.sort_unstable();
            assert_eq!(counts, [None, Some(1), Some(16)], "{damage:?}");
            let says = |text: &str| damage.iter().any(|it: &Damage| it.what.contains(text));
            assert!(
                says("the checksum of its header") && says("Z: the checksum"),
                "{damage:?}"
            );
            assert!(says("the row of 1970-01-01"), "{damage:?}");
        }
    }
    // Blocks outside of the range of a query are not its concern.
    let early = any.range(..Timestamp::from_unix_nanos(16)).skip_damaged();
    let mut records = store.scan(&early).unwrap();
    assert_eq!(records.by_ref().count(), 16);
    assert_eq!(records.damage(), []);
}

#[test]
fn what_can_be_counted_is_counted() {
    let home = home();
    fill(home.path());
    damage(home.path());
    let store = open(home.path());
    let any = Query::new(Signal::Logs);
    assert!(matches!(store.count(&any, &[]), Err(Error::Corrupt { .. })));
    let any = any.skip_damaged();
    // The header of a block counts its records, although its body is damaged.
    let all = store.count(&any, &[]).unwrap();
    assert_eq!((all.total, all.damage.len()), (85 - 16 - 1, 2));
    // Of the blocks that only begin or end in the range, the second is read.
    let at = Timestamp::from_unix_nanos;
    let some = store
        .count(&any.clone().range(at(20)..at(70)), &[])
        .unwrap();
    assert_eq!(some.total, 50 - 12 - 16);
    let mut records: Vec<_> = some.damage.iter().map(|it| it.records).collect();
    records.sort_unstable();
    assert_eq!(records, [None, Some(16)]);
    // And its summary knows their severities.
    let levels = store.count(&any, &[CountBy::Level]).unwrap();
    assert_eq!((levels.total, levels.damage.len()), (85 - 16 - 1, 2));
}

/// Stores the logs 0 to 1,199 in 75 blocks, and 1,200 to 1,299 in rows: several pages of each table.
fn fill_pages(home: &Path) {
    let store = open(home);
    let (writer, guard) = Writer::start(&store, on_demand().tiering(200, 25, 16)).unwrap();
    for number in 0..1300_i64 {
        let at = Timestamp::from_unix_nanos(number);
        let record = LogRecord::new(at, Level::INFO, format!("call {number}"));
        writer.log(&server("github"), &record).unwrap();
        if number == 1199 || (number > 1199 && number % 20 == 0) {
            writer.flush().unwrap();
        }
    }
    guard.close().unwrap();
}

/// A disk that does not answer must not pass for a store with fewer records.
#[test]
fn a_read_that_fails_is_no_damage() {
    let home = home();
    fill_pages(home.path());
    let left = Arc::new(AtomicUsize::new(usize::MAX));
    for reads in 0.. {
        let hook = {
            let left = Arc::clone(&left);
            move |operation: DiskOperation<'_>| {
                let is_read = matches!(operation, DiskOperation::Read { .. });
                if is_read && left.fetch_sub(1, Ordering::Relaxed) == 0 {
                    left.store(0, Ordering::Relaxed);
                    return Err(io::Error::other("on purpose"));
                }
                Ok(())
            }
        };
        left.store(usize::MAX, Ordering::Relaxed);
        let options = StoreOptions::default().disk_hook(hook);
        let store = Store::open_read_only(home.path(), common::STACK, options);
        let snapshot = store.unwrap().unwrap().snapshot().unwrap();
        left.store(reads, Ordering::Relaxed);
        let query = Query::new(Signal::Logs).skip_damaged();
        let found = snapshot
            .scan(&query)
            .and_then(|scan| scan.records().collect::<Result<Vec<_>, Error>>());
        let has_failed = left.load(Ordering::Relaxed) == 0;
        match found {
            Ok(records) => assert_eq!(records.len(), 1300, "after {reads} reads"),
            Err(Error::Corrupt { what, .. }) => panic!("after {reads} reads: {what}"),
            Err(_) => assert!(has_failed),
        }
        if !has_failed {
            assert!(reads > 8, "{reads}");
            break;
        }
    }
}
