//! `status` tells who writes, how full the file system is, and how a configuration differs.

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
    Level, LogRecord, ServerName, Store, StoreOptions, Timestamp, Writer, WriterOptions,
};
use std::fs;

fn record() -> LogRecord {
    LogRecord::new(Timestamp::now(), Level::INFO, "ok")
}

#[test]
fn a_configuration_is_compared_with_what_is_stored() {
    let home = Home::new();
    let store = Store::open(home.path(), "gw", StoreOptions::default()).unwrap();
    let (writer, guard) = Writer::start(&store, WriterOptions::default()).unwrap();
    writer
        .log(&ServerName::new("github").unwrap(), &record())
        .unwrap();
    let old = Timestamp::from_unix_nanos(Timestamp::now().unix_nanos() - 5 * 86_400_000_000_000);
    let old = LogRecord::new(old, Level::INFO, "old");
    writer.log(&ServerName::new("gone").unwrap(), &old).unwrap();
    guard.close().unwrap();
    let config = home.path().join("config.json");
    fs::write(
        &config,
        r#"{"persist":{"logs":true},"retention":{"max_age_days":"2d"},"servers":{"github":null,"slack":{}}}"#,
    )
    .unwrap();
    let shown = home.run(&["status", "gw", "--config", config.to_str().unwrap()]);
    assert_eq!(shown.code, 0, "{shown:?}");
    for said in [
        r#"gw: the configured server "slack" has no logs"#,
        r#"gw: the server "gone" has records and is not configured"#,
        r#"gw: max_age_days of the server gone will delete 1 stored records of its logs"#,
    ] {
        assert!(shown.stdout.contains(said), "{said}: {shown:?}");
    }
    fs::write(&config, r#"{"retention":{"max_age_days":"7"}}"#).unwrap();
    let refused = home.run(&["status", "gw", "--config", config.to_str().unwrap()]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("max_age_days"), "{refused:?}");
}
