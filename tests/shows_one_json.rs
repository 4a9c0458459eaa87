//! The JSON of everything that a daemon shows follows one naming convention.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{STACK, home, on_demand, server};
use gridctl_telemetry::{
    Level, LogRecord, Store, StoreOptions, Timestamp, Writer,
    import::{ImportBatch, Importer},
    maintenance::CompactOptions,
    testing::ClockReading,
};
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

const DAY: i64 = 86_400_000_000_000;

fn json_of(shown: &impl Serialize) -> Value {
    serde_json::to_value(shown).unwrap()
}

/// The names of an object, sorted.
fn names_of(shown: &Value) -> Vec<&str> {
    shown
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

#[test]
fn what_is_stored_lost_and_used() {
    let home = home();
    let wall = Arc::new(AtomicI64::new(20_000 * DAY));
    let clock = {
        let wall = Arc::clone(&wall);
        move || ClockReading {
            wall: Timestamp::from_unix_nanos(wall.load(Ordering::Relaxed)),
            boot_nanos: 1,
            boot: 1,
        }
    };
    let options = StoreOptions::default().clock(clock);
    let store = Store::open(home.path(), STACK, options).unwrap();
    let (writer, guard) = Writer::start(&store, on_demand().record_bytes_max(1000)).unwrap();
    let at = Timestamp::from_unix_nanos(20_000 * DAY);
    let github = server("github");
    writer
        .log(&github, &LogRecord::new(at, Level::INFO, "stored"))
        .unwrap();
    writer
        .log(&github, &LogRecord::new(at, Level::INFO, "x".repeat(2000)))
        .unwrap_err();
    writer.flush().unwrap();
    guard.close().unwrap();

    let snapshot = store.snapshot().unwrap();
    let inventory = json_of(&snapshot.inventory(None).unwrap());
    assert_eq!(inventory[0]["recordCount"], 1);
    assert_eq!(inventory[0]["oldestTime"], at.to_string());
    assert_eq!(
        names_of(&inventory[0]),
        [
            "fileCount",
            "newestTime",
            "oldestTime",
            "path",
            "recordCount",
            "server",
            "signal",
            "sizeBytes"
        ]
    );
    assert_eq!(
        json_of(&snapshot.ledger(..).unwrap()),
        json!([{
            "server": "github",
            "signal": "logs",
            "cause": "tooLarge",
            "count": 1,
            "from": at.to_string(),
            "to": at.to_string(),
        }])
    );
    drop(snapshot);

    let space = json_of(&store.space().unwrap());
    assert_eq!(
        names_of(&space),
        [
            "fileBytes",
            "freeBytes",
            "liveBytes",
            "reserveBytes",
            "setAsideBytes",
            "usedBytes"
        ]
    );
    let usage = json_of(&store.disk_usage().unwrap());
    assert_eq!(names_of(&usage), ["fileBytes", "usedBytes"]);
    let compacted = json_of(&store.compact(CompactOptions::default()).unwrap());
    assert_eq!(names_of(&compacted), ["after", "before"]);
    assert_eq!(names_of(&compacted["after"]), names_of(&space));
    let counts = Importer::new(&store)
        .unwrap()
        .add(ImportBatch::default())
        .unwrap();
    assert_eq!(
        json_of(&counts),
        json!({ "added": 0, "duplicates": 0, "tooOld": 0 })
    );

    wall.fetch_add(100 * DAY, Ordering::Relaxed);
    let jump = store.snapshot().unwrap().clock_jump().unwrap().unwrap();
    assert_eq!(
        json_of(&jump),
        json!({
            "shown": Timestamp::from_unix_nanos(20_100 * DAY).to_string(),
            "expected": at.to_string(),
        })
    );
}
