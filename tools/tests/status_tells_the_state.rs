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
    config::{Retention, RetentionPolicy},
    testing::DiskOperation,
};
use serde_json::{Value, json};
use std::{
    fs, io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

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
        "gw: max_age_days of the server gone will delete 1 stored records of its logs",
    ] {
        assert!(shown.stdout.contains(said), "{said}: {shown:?}");
    }
    fs::write(&config, r#"{"retention":{"max_age_days":"7"}}"#).unwrap();
    let refused = home.run(&["status", "gw", "--config", config.to_str().unwrap()]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("max_age_days"), "{refused:?}");
}

fn state(home: &Home) -> Value {
    let shown = home.run(&["status", "gw", "--json"]);
    assert_eq!(shown.code, 0, "{shown:?}");
    let report: Value = serde_json::from_str(&shown.stdout).unwrap();
    report["stacks"][0].clone()
}

#[test]
fn status_says_who_writes_and_how_full_the_file_system_is() {
    let home = Home::new();
    let store = Store::open(home.path(), "gw", StoreOptions::default()).unwrap();
    let before = state(&home);
    assert_eq!(before["isWriting"], false);
    assert_eq!(before["writers"], json!([]));
    let (writer, guard) = Writer::start(&store, WriterOptions::default()).unwrap();
    writer
        .log(&ServerName::new("github").unwrap(), &record())
        .unwrap();
    writer.flush().unwrap();
    let running = state(&home);
    assert_eq!(running["isWriting"], true);
    assert_eq!(running["writers"][0]["processId"], std::process::id());
    let since: Timestamp = running["writers"][0]["since"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let last_commit: Timestamp = running["lastCommit"].as_str().unwrap().parse().unwrap();
    assert!(since <= last_commit);
    let total = running["fileSystem"]["totalBytes"].as_u64().unwrap();
    let available = running["fileSystem"]["availableBytes"].as_u64().unwrap();
    assert!(available <= total && total > 0, "{available} of {total}");
    assert!(running["space"]["usedBytes"].as_u64().unwrap() > 0);
    assert_eq!(running["ledger"], json!([]));
    let shown = home.run(&["status"]).stdout;
    let writing = format!(
        "gw: process {} is writing since {since}",
        std::process::id()
    );
    for said in [
        writing.as_str(),
        "gw: its file system has ",
        " the last commit was at ",
    ] {
        assert!(shown.contains(said), "{said}: {shown}");
    }
    guard.close().unwrap();
    assert!(
        home.run(&["status"])
            .stdout
            .contains("gw: no process is writing")
    );
}

#[test]
fn status_says_how_much_arrives_and_how_full_the_limits_are() {
    let home = Home::new();
    let store = Store::open(home.path(), "gw", StoreOptions::default()).unwrap();
    let own = Retention::default()
        .max_size_mb(1)
        .max_backups(1)
        .max_age_days(2);
    let policy = RetentionPolicy::default().server("chatty", own);
    let options = WriterOptions::default().retention(Some(policy));
    let (writer, guard) = Writer::start(&store, options).unwrap();
    let old = Timestamp::from_unix_nanos(Timestamp::now().unix_nanos() - 3_600_000_000_000);
    // Text that does not compress well.
    let mut state = 1_u64;
    let text: String = (0..600_000)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            char::from(b'!' + u8::try_from((state >> 40) % 90).unwrap())
        })
        .collect();
    let old = LogRecord::new(old, Level::INFO, text);
    let (github, chatty) = (["github", "chatty"])
        .map(|name| ServerName::new(name).unwrap())
        .into();
    writer.log(&chatty, &old).unwrap();
    for _ in 0..120 {
        writer.log(&github, &record()).unwrap();
    }
    writer.flush().unwrap();
    let report: Value =
        serde_json::from_str(&home.run(&["status", "gw", "--json"]).stdout).unwrap();
    let state = &report["stacks"][0];
    assert_eq!(
        state["limits"],
        json!({"maxBytes": 600 << 20, "maxAgeSeconds": 7 * 86_400})
    );
    // 120 records of the last minute.
    assert_eq!(
        state["recordsPerSecond"],
        json!({"logs": 2.0, "metrics": 0.0, "traces": 0.0})
    );
    let [of_chatty, of_github] = [0, 1].map(|row| &report["inventory"][row]);
    assert_eq!(of_chatty["recordsPerSecond"], 0.0);
    assert_eq!(
        of_chatty["limits"],
        json!({"maxBytes": 2 << 20, "maxAgeSeconds": 2 * 86_400})
    );
    assert_eq!(of_github["recordsPerSecond"], 2.0);
    let shown = home.run(&["status"]).stdout;
    for said in [
        "gw: 2.0 records/s lately: 2.0 logs\n",
        "gw: each signal of a server is kept up to 600.0 MiB and for 7days\n",
        "  <1%  ",
    ] {
        assert!(shown.contains(said), "{said}: {shown}");
    }
    let percent = of_chatty["sizeBytes"].as_u64().unwrap() * 100 / (2 << 20);
    assert!((5..50).contains(&percent), "{percent}");
    assert!(
        shown.contains(&format!("  {percent}%  ")),
        "{percent}: {shown}"
    );
    let of_one = home.run(&["status", "gw", "chatty"]).stdout;
    assert!(!of_one.contains("github"), "{of_one}");
    guard.close().unwrap();
}

#[test]
fn status_says_why_a_writer_cannot_store() {
    let home = Home::new();
    let full = Arc::new(AtomicBool::new(false));
    let hook = {
        let full = Arc::clone(&full);
        move |operation: DiskOperation<'_>| match operation {
            DiskOperation::Write { .. } if full.load(Ordering::Relaxed) => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    };
    let options = StoreOptions::default().disk_hook(hook);
    let store = Store::open(home.path(), "gw", options).unwrap();
    let (writer, guard) = Writer::start(&store, WriterOptions::default()).unwrap();
    full.store(true, Ordering::Relaxed);
    writer
        .log(&ServerName::new("github").unwrap(), &record())
        .unwrap();
    writer.flush().unwrap_err();
    let failing = state(&home);
    assert!(
        failing["writers"][0]["failingSince"].is_string(),
        "{failing}"
    );
    let error = failing["writers"][0]["lastError"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(!error.is_empty());
    let shown = home.run(&["status"]).stdout;
    assert!(
        shown.contains("cannot store since 2") && shown.contains(&error),
        "{shown}"
    );
    full.store(false, Ordering::Relaxed);
    writer.flush().unwrap();
    assert!(state(&home)["writers"][0]["failingSince"].is_null());
    guard.close().unwrap();
}

/// Replaces the value of a key of the database `gw`.
fn replace<K: redb::Key + 'static>(home: &Home, table: &str, key: K::SelfType<'_>) {
    let database = redb::Database::open(home.database("gw")).unwrap();
    let change = database.begin_write().unwrap();
    let definition = redb::TableDefinition::<K, &[u8]>::new(table);
    let mut table = change.open_table(definition).unwrap();
    let before = table.insert(key, b"nothing of ours".as_slice()).unwrap();
    assert!(before.is_some());
    drop(before);
    drop(table);
    change.commit().unwrap();
}

/// A stack with limits and two servers, and a configuration that would delete records of both.
fn stack_to_damage(home: &Home) -> String {
    let store = Store::open(home.path(), "gw", StoreOptions::default()).unwrap();
    let policy = RetentionPolicy::new(Retention::default().max_age_days(9));
    let options = WriterOptions::default().retention(Some(policy));
    let (writer, guard) = Writer::start(&store, options).unwrap();
    let old = Timestamp::from_unix_nanos(Timestamp::now().unix_nanos() - 5 * 86_400_000_000_000);
    for server in ["github", "slack"] {
        let server = ServerName::new(server).unwrap();
        let record = LogRecord::new(old, Level::INFO, "old");
        writer.log(&server, &record).unwrap();
    }
    guard.close().unwrap();
    let config = home.path().join("config.json");
    fs::write(&config, r#"{"retention":{"max_age_days":"2d"}}"#).unwrap();
    config.to_str().unwrap().to_owned()
}

#[test]
fn a_damaged_entry_of_a_series_hides_nothing_else() {
    let home = Home::new();
    let config = stack_to_damage(&home);
    replace::<(&str, u8)>(&home, "series", ("github", 0));
    let shown = home.run(&["status", "gw", "--config", &config]);
    assert_eq!(shown.code, 0, "{shown:?}");
    for said in [
        "cannot be read: the entry of github, logs: the checksum does not match",
        "max_age_days of the server slack will delete 1 stored records",
    ] {
        assert!(shown.stdout.contains(said), "{said}: {shown:?}");
    }
    let json = home.run(&["status", "gw", "--json"]);
    assert!(json.stdout.contains("the entry of github"), "{json:?}");
}

#[test]
fn damaged_limits_hide_nothing_else() {
    let home = Home::new();
    let config = stack_to_damage(&home);
    replace::<&str>(&home, "limits", "");
    let shown = home.run(&["status", "gw", "--config", &config]);
    assert_eq!(shown.code, 0, "{shown:?}");
    let said = "gw: cannot be read: the default limits: the checksum does not match";
    assert_eq!(shown.stdout.matches(said).count(), 1, "{shown:?}");
    for server in ["github", "slack"] {
        let said = format!("max_age_days of the server {server} will delete 1 stored records");
        assert!(shown.stdout.contains(&said), "{said}: {shown:?}");
    }
    let space = home.run(&["status", "gw", "--space"]);
    assert_eq!(space.code, 0, "{space:?}");
}
