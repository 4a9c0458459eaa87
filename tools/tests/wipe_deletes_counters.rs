//! A wipe shows and deletes the counters of a server whose records have expired.

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
    MetricsSnapshot, Record, ServerName, Store, StoreOptions, Timestamp, Writer, WriterOptions,
    config::{Retention, RetentionPolicy},
    import::{ImportBatch, Importer},
};

#[test]
fn counters_without_records_are_listed_and_deleted() {
    let home = Home::new();
    let store = Store::open(home.path(), "gw", StoreOptions::default()).unwrap();
    let policy = RetentionPolicy::new(Retention::default().max_age_days(7));
    let options = WriterOptions::default().retention(Some(policy));
    let (_, guard) = Writer::start(&store, options).unwrap();
    guard.close().unwrap();
    // The snapshots are too old to be stored, but their counters continue.
    let mut importer = Importer::new(&store).unwrap();
    for server in ["github", "slack"] {
        let eight_days = 8 * 86_400_000_000_000;
        let then = Timestamp::now().unix_nanos() - eight_days;
        let mut snapshot = MetricsSnapshot::new(Timestamp::from_unix_nanos(then));
        snapshot.total.input_tokens = 150;
        snapshot.total.total_tokens = 150;
        let mut batch = ImportBatch::default();
        let server = ServerName::new(server).unwrap();
        batch.push(&server, &Record::Metrics(snapshot)).unwrap();
        assert_eq!(importer.add(batch).unwrap().added, 0);
    }
    drop(store);

    let logs = home.run(&["wipe", "gw", "-y", "--signal", "logs"]);
    assert_eq!(logs.stdout, "Nothing to wipe.\n");
    let one = home.run(&["wipe", "gw", "github", "-y"]);
    assert_eq!(one.code, 0, "{one:?}");
    assert!(
        one.stdout
            .starts_with("gw/github metrics: counters\ngw: wiped 1 series.\n"),
        "{one:?}"
    );
    let rest = home.run(&["wipe", "gw", "-y"]);
    assert!(
        rest.stdout
            .starts_with("gw/slack metrics: counters\ngw: wiped 1 series.\n"),
        "{rest:?}"
    );
    let none = home.run(&["wipe", "gw", "-y"]);
    assert_eq!((none.code, none.stdout.as_str()), (0, "Nothing to wipe.\n"));
}
