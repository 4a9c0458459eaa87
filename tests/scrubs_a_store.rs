//! Damage that no reader meets is found by a check in the background, entered in the ledger once, and told.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{HANG, Helper, home, on_demand, open, record, say, server};
use gridctl_telemetry::{
    MetricsSnapshot, Signal, Store, Timestamp, Writer, WriterOptions, ingest::OutageEvent,
    ledger::LossCause, metrics::MetricsFlusher, query::SeedRange, record::TokenCounts,
};
use redb::{ReadableTable, TableDefinition};
use std::{path::Path, sync::mpsc, time::Duration};

const ROWS: TableDefinition<'_, &[u8; 20], &[u8]> = TableDefinition::new("rows");
const TOTALS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("totals");

/// Changes the database as a disk does that computes checksums of pages.
fn damage(home: &Path, change: impl FnOnce(&redb::WriteTransaction)) {
    let database = redb::Builder::new()
        .set_concurrency_mode(redb::ConcurrencyMode::MultiWriter)
        .open(common::database(home))
        .unwrap();
    let transaction = database.begin_write().unwrap();
    change(&transaction);
    transaction.commit().unwrap();
}

fn damage_first_row(transaction: &redb::WriteTransaction) {
    let mut rows = transaction.open_table(ROWS).unwrap();
    let (key, mut row) = {
        let (key, row) = rows.first().unwrap().unwrap();
        (*key.value(), row.value().to_vec())
    };
    *row.last_mut().unwrap() ^= 1;
    rows.insert(&key, row.as_slice()).unwrap();
}

#[test]
fn stores_and_is_killed() {
    let Some((_, _store, writer, _guard)) = common::helper_writer() else {
        return;
    };
    for number in 0..20 {
        writer.log(&server("github"), &record(number)).unwrap();
    }
    writer.flush().unwrap();
    say("stored");
    loop {
        std::thread::park();
    }
}

/// The numbers of losses in the ledger because of damage.
fn damaged(store: &Store) -> Vec<u64> {
    let ledger = store.snapshot().unwrap().ledger(..).unwrap();
    let damaged = ledger.iter().filter(|it| it.cause == LossCause::Damaged);
    damaged.map(|it| it.count).collect()
}

#[test]
fn damage_is_found_after_a_kill_and_told_once() {
    let home = home();
    let mut helper = Helper::start("stores_and_is_killed", &[home.path().to_str().unwrap()]);
    assert_eq!(helper.heard(), "stored");
    helper.kill();
    damage(home.path(), damage_first_row);

    let store = open(home.path());
    assert_eq!(damaged(&store), [0u64; 0]);
    let (sender, events) = mpsc::channel();
    let listen = |sender: mpsc::Sender<OutageEvent>| {
        on_demand().on_outage(move |event| {
            let _ = sender.send(event);
        })
    };
    let (writer, guard) = Writer::start(&store, listen(sender.clone())).unwrap();
    // How many share the first row depends on when the writer committed.
    let lost = match events.recv_timeout(HANG).unwrap() {
        OutageEvent::Damaged {
            server: Some(name),
            signal: Some(Signal::Logs),
            records: Some(lost),
            what,
            ..
        } if name == server("github") => {
            assert!(what.contains("the row of"), "{what}");
            lost
        }
        event => panic!("{event:?}"),
    };
    assert!((1..=20).contains(&lost), "{lost}");
    let known = store.snapshot().unwrap().known_damage().unwrap();
    assert_eq!(known.len(), 1, "{known:?}");
    assert_eq!(damaged(&store), [lost]);

    // The row is sealed with others, and its loss is known already.
    for number in 20..100 {
        writer.log(&server("github"), &record(number)).unwrap();
    }
    writer.flush().unwrap();
    guard.close().unwrap();
    assert_eq!(damaged(&store), [lost]);
    let found = store
        .scan(&gridctl_telemetry::Query::new(Signal::Logs))
        .unwrap();
    assert_eq!(found.map(Result::unwrap).count() as u64, 100 - lost);
    drop((writer, events));
}

#[test]
fn counters_that_can_be_read_are_seeded() {
    let home = home();
    let store = open(home.path());
    let (writer, guard) = Writer::start(&store, on_demand()).unwrap();
    let now = Timestamp::now().unix_nanos();
    for number in 1..=3_i64 {
        for name in ["github", "slack"] {
            let time = Timestamp::from_unix_nanos(now - 1_000_000_000 * (10 - number));
            let mut snapshot = MetricsSnapshot::new(time);
            snapshot.total = TokenCounts {
                input_tokens: number,
                output_tokens: number,
                total_tokens: 2 * number,
            };
            writer.metrics(&server(name), &snapshot).unwrap();
        }
        // Each snapshot has a row of its own.
        writer.flush().unwrap();
    }
    guard.close().unwrap();
    drop((writer, store));
    damage(home.path(), |transaction| {
        damage_first_row(transaction);
        let mut totals = transaction.open_table(TOTALS).unwrap();
        let mut value = totals.get("slack").unwrap().unwrap().value().to_vec();
        value[0] ^= 1;
        totals.insert("slack", value.as_slice()).unwrap();
    });
    let store = open(home.path());
    let (writer, guard) = Writer::start(&store, WriterOptions::default()).unwrap();
    let flusher = MetricsFlusher::new(std::sync::Arc::default(), writer, Duration::ZERO);
    let report = flusher.seed(&store, SeedRange::default()).unwrap();
    assert_eq!(report.damage.len(), 2, "{report:?}");
    for name in ["github", "slack"] {
        let seeded = &report.servers[&server(name)];
        assert_eq!(seeded.tokens.total_tokens, 6, "{name}: {report:?}");
    }
    let snapshots = report.servers.values().map(|seeded| seeded.snapshots);
    assert_eq!(snapshots.sum::<usize>(), 5);
    guard.close().unwrap();
}
