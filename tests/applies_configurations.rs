//! A changed configuration is applied to a running daemon.
//!
//! These tests have a file of their own and run one at a time: while `tracing` knows only one
//! subscriber, it asks that of the calling thread, so another test that changes a router at the same
//! time could switch events off.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use gridctl_telemetry::{
    Error, Level, LogRecord, Query, ServerName, Signal, Store, StoreOptions, Telemetry,
    TelemetryConfig, TelemetryOptions, Timestamp, Writer, WriterOptions,
    config::{ConfigWarning, Retention, RetentionPolicy},
    logs::LogOptions,
    metrics::Accumulator,
    testing::DiskOperation,
};
use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tracing_subscriber::prelude::*;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[test]
fn a_configuration_is_applied_without_losing_a_record() {
    let _alone = ONE_AT_A_TIME.lock();
    let home = tempfile::tempdir().unwrap();
    let config = |text: &str| -> TelemetryConfig { serde_json::from_str(text).unwrap() };
    let (telemetry, _) = Telemetry::from_config(
        home.path(),
        "gw",
        &config(r#"{"persist":{"logs":true},"servers":{"a":{}}}"#),
        Arc::new(Accumulator::new()),
        TelemetryOptions::default(),
    )
    .unwrap();
    let subscriber = tracing_subscriber::registry().with(telemetry.log_router().layer());
    let emit = || {
        for _ in 0..10 {
            tracing::info!(component = "a", "of a");
            tracing::info!(component = "b", "of b");
        }
    };
    tracing::subscriber::with_default(subscriber, || {
        emit();
        telemetry
            .apply(&config(
                r#"{"persist":{"logs":true},"servers":{"a":{},"b":{}}}"#,
            ))
            .unwrap();
        emit();
        // Invalid configurations change nothing.
        assert!(
            telemetry
                .apply(&config(
                    r#"{"retention":{"max_backups":9999},"servers":{}}"#
                ))
                .is_err()
        );
        emit();
        telemetry
            .apply(&config(
                r#"{"persist":{"logs":true},"servers":{"a":{"persist":{"logs":false}},"b":{}}}"#,
            ))
            .unwrap();
        emit();
    });
    let store = telemetry.store().clone();
    telemetry.shutdown().unwrap();
    let inventory = store.snapshot().unwrap().inventory(None).unwrap();
    let counts: Vec<_> = inventory
        .iter()
        .map(|it| (it.server.as_str(), it.record_count))
        .collect();
    assert_eq!(counts, [("a", 30), ("b", 30)]);
}

#[test]
fn a_limit_that_deletes_is_a_warning_before_it_takes_effect() {
    let _alone = ONE_AT_A_TIME.lock();
    let home = tempfile::tempdir().unwrap();
    let config = |text: &str| -> TelemetryConfig { serde_json::from_str(text).unwrap() };
    let start = |config: &TelemetryConfig| {
        let accumulator = Arc::new(Accumulator::new());
        let options = TelemetryOptions::default();
        Telemetry::from_config(home.path(), "gw", config, accumulator, options).unwrap()
    };
    let present = config(r#"{"persist":{"logs":true},"servers":{"a":null,"b":null}}"#);
    let (telemetry, warnings) = start(&present);
    assert_eq!(warnings, []);
    let now = Timestamp::now().unix_nanos();
    for (name, days) in [("a", 1..=6), ("b", 1..=2)] {
        let name = ServerName::new(name).unwrap();
        for day in days {
            let time = Timestamp::from_unix_nanos(now - day * 86_400_000_000_000);
            let record = LogRecord::new(time, Level::INFO, "of some age");
            telemetry.writer().log(&name, &record).unwrap();
        }
    }
    telemetry.writer().flush().unwrap();
    let count = |server: &str| -> Option<u64> {
        let inventory = telemetry
            .store()
            .snapshot()
            .unwrap()
            .inventory(Some(server));
        inventory.unwrap().first().map(|found| found.record_count)
    };
    assert_eq!(telemetry.check(&present).unwrap(), []);
    let shorter = config(
        r#"{"persist":{"logs":true},"retention":{"max_age_days":"60h"},"servers":{"a":{},"b":{}}}"#,
    );
    let warnings = telemetry.check(&shorter).unwrap();
    match &warnings[..] {
        [
            ConfigWarning::DeletesStored {
                server,
                signal: Signal::Logs,
                option: "max_age_days",
                records: 4,
                bytes: 1..,
                ..
            },
        ] => assert_eq!(server.as_str(), "a"),
        other => panic!("{other:?}"),
    }
    let text = warnings[0].to_string();
    assert!(
        text.contains("server a will delete 4 stored records"),
        "{text}"
    );
    assert_eq!(count("a"), Some(6), "a check deletes nothing");
    assert_eq!(telemetry.apply(&shorter).unwrap(), warnings);
    assert_eq!((count("a"), count("b")), (Some(2), Some(2)));
    assert_eq!(telemetry.check(&shorter).unwrap(), []);
    telemetry.shutdown().unwrap();
    // The limits of the last run are in the database, and a start compares with them.
    let shortest = config(r#"{"retention":{"max_age_days":"12h"},"servers":{}}"#);
    let (telemetry, warnings) = start(&shortest);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    telemetry.shutdown().unwrap();
}

#[test]
fn a_size_limit_that_deletes_is_a_warning_with_the_bytes() {
    let _alone = ONE_AT_A_TIME.lock();
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path(), "gw", StoreOptions::default()).unwrap();
    let (writer, guard) = Writer::start(&store, WriterOptions::default()).unwrap();
    let server = ServerName::new("a").unwrap();
    let mut state = 1_u64;
    let mut hex = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        format!("{state:016x}")
    };
    for _ in 0..400 {
        let message: String = (0..1500).map(|_| hex()).collect();
        let record = LogRecord::new(Timestamp::now(), Level::INFO, message);
        writer.log(&server, &record).unwrap();
        writer.flush().unwrap();
    }
    guard.close().unwrap();
    let held = store.snapshot().unwrap().inventory(None).unwrap().remove(0);
    let policy = |mib| RetentionPolicy::new(Retention::default().max_size_mb(mib).max_backups(1));
    assert_eq!(store.would_delete(&policy(100)).unwrap(), []);
    match &store.would_delete(&policy(1)).unwrap()[..] {
        [
            ConfigWarning::DeletesStored {
                option: "max_size_mb",
                records,
                bytes,
                ..
            },
        ] => {
            assert_eq!(*bytes, held.size_bytes - (2 << 20));
            assert!((1..400).contains(records), "{records}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn servers_that_never_log_and_servers_that_are_not_configured_are_listed() {
    let config: TelemetryConfig = serde_json::from_str(
        r#"{"persist":{"logs":true},"servers":{"a":{},"b":{"persist":{"traces":true}},"off":{"persist":{"logs":false}}}}"#,
    )
    .unwrap();
    let name = |name: &str| ServerName::new(name).unwrap();
    let stored = [
        (name("a"), Signal::Logs),
        (name("b"), Signal::Logs),
        (name("gone"), Signal::Logs),
        (name("gone"), Signal::Traces),
    ];
    let coverage = config.coverage(stored.iter().map(|(server, signal)| (server, *signal)));
    assert_eq!(coverage.silent, [(name("b"), Signal::Traces)]);
    assert_eq!(coverage.unconfigured, [name("gone")]);
    let nothing = config.coverage([]);
    let silent = ["a", "b"].map(|server| (name(server), Signal::Logs));
    assert_eq!(
        nothing.silent,
        [&silent[..], &[(name("b"), Signal::Traces)]].concat()
    );
    assert_eq!(nothing.unconfigured, []);
}

/// The number of records that are read of each server.
fn counts(telemetry: &Telemetry) -> [usize; 2] {
    ["a", "b"].map(|name| {
        let query = Query::new(Signal::Logs).server(ServerName::new(name).unwrap());
        telemetry.store().scan(&query).unwrap().count()
    })
}

#[test]
fn limits_are_applied_to_what_is_stored() {
    let _alone = ONE_AT_A_TIME.lock();
    let home = tempfile::tempdir().unwrap();
    let config = |text: &str| -> TelemetryConfig { serde_json::from_str(text).unwrap() };
    let from_config = |text: &str| {
        let accumulator = Arc::new(Accumulator::new());
        let options = TelemetryOptions::default();
        Telemetry::from_config(home.path(), "gw", &config(text), accumulator, options)
            .unwrap()
            .0
    };
    let telemetry = from_config(
        r#"{"retention":{"max_age_days":30},"servers":{"a":{},"b":{"retention":{"max_age_days":5}}}}"#,
    );
    let now = Timestamp::now().unix_nanos();
    for name in ["a", "b"] {
        for days in 0..40 {
            // Not at the moment at which a record expires.
            let age = Duration::from_secs(3600 * (days * 24 + 1)).as_nanos();
            let timestamp = Timestamp::from_unix_nanos(now - i64::try_from(age).unwrap());
            let record = LogRecord::new(timestamp, Level::INFO, "of some age");
            let server = ServerName::new(name).unwrap();
            telemetry.writer().log(&server, &record).unwrap();
        }
    }
    telemetry.writer().flush().unwrap();
    assert_eq!(counts(&telemetry), [30, 5]);
    // Invalid limits change nothing.
    for bad in [
        r#"{"max_total_mb":7}"#,
        r#"{"retention":{"max_age_days":3651}}"#,
        r#"{"servers":{"a":{"retention":{"max_size_mb":1048577}}}}"#,
    ] {
        let outcome = telemetry.apply(&config(bad));
        assert!(matches!(outcome, Err(Error::InvalidOption { .. })), "{bad}");
        assert_eq!(counts(&telemetry), [30, 5]);
    }
    telemetry
        .apply(&config(
            r#"{"retention":{"max_age_days":2},"servers":{"a":{"retention":{"max_age_days":20}}}}"#,
        ))
        .unwrap();
    assert_eq!(counts(&telemetry), [20, 2]);
    telemetry.shutdown().unwrap();
    // Zero means the default, and a daemon that starts with it applies the default.
    let telemetry = from_config(
        r#"{"retention":{"max_age_days":0},"servers":{"a":{},"b":{"retention":{"max_age_days":1}}}}"#,
    );
    assert_eq!(counts(&telemetry), [7, 1]);
    telemetry.shutdown().unwrap();
}

#[test]
fn a_server_takes_what_no_other_takes_while_the_configuration_has_logs_on() {
    let _alone = ONE_AT_A_TIME.lock();
    let home = tempfile::tempdir().unwrap();
    let config = |text: &str| -> TelemetryConfig { serde_json::from_str(text).unwrap() };
    let options = TelemetryOptions::default().unrouted_server(ServerName::new("gateway").unwrap());
    let (telemetry, _) = Telemetry::from_config(
        home.path(),
        "gw",
        &config(r#"{"servers":{"a":{"persist":{"logs":true}}}}"#),
        Arc::new(Accumulator::new()),
        options,
    )
    .unwrap();
    let subscriber = tracing_subscriber::registry().with(telemetry.log_router().layer());
    let stored = |text: &str| {
        telemetry.apply(&config(text)).unwrap();
        let names = telemetry.log_router().configured_servers();
        tracing::info!("unrouted");
        tracing::info!(component = "a", "of a");
        names.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    tracing::subscriber::with_default(subscriber, || {
        // Logs are off but for one server.
        let off = r#"{"servers":{"a":{"persist":{"logs":true}}}}"#;
        assert_eq!(stored(off), ["a"]);
        let on = r#"{"persist":{"logs":true},"servers":{"a":{}}}"#;
        assert_eq!(stored(on), ["a", "gateway"]);
        let listed =
            r#"{"persist":{"logs":true},"servers":{"gateway":{"persist":{"logs":false}}}}"#;
        assert_eq!(stored(listed), [""; 0]);
        let listed = r#"{"servers":{"gateway":{"persist":{"logs":true}}}}"#;
        assert_eq!(stored(listed), ["gateway"]);
    });
    let store = telemetry.store().clone();
    telemetry.shutdown().unwrap();
    let inventory = store.snapshot().unwrap().inventory(None).unwrap();
    let counts: Vec<_> = inventory
        .iter()
        .map(|it| (it.server.as_str(), it.record_count))
        .collect();
    assert_eq!(counts, [("a", 2), ("gateway", 3)]);
}

#[test]
fn each_server_has_its_log_level_and_keeps_what_a_configuration_does_not_mention() {
    let _alone = ONE_AT_A_TIME.lock();
    let home = tempfile::tempdir().unwrap();
    let config = |text: &str| -> TelemetryConfig { serde_json::from_str(text).unwrap() };
    let (telemetry, _) = Telemetry::from_config(
        home.path(),
        "gw",
        &config(
            r#"{"persist":{"logs":true},"servers":{"a":{"log_level":"debug"},"b":{},"c":{"log_level":"ERROR"}}}"#,
        ),
        Arc::new(Accumulator::new()),
        TelemetryOptions::default(),
    )
    .unwrap();
    let router = telemetry.log_router();
    let subscriber = tracing_subscriber::registry().with(router.layer());
    let level = |server: &str| {
        let options = router.options(server)?;
        [
            tracing::Level::TRACE,
            tracing::Level::DEBUG,
            tracing::Level::INFO,
            tracing::Level::ERROR,
        ]
        .into_iter()
        .find(|level| options == LogOptions::default().level(*level))
    };
    tracing::subscriber::with_default(subscriber, || {
        tracing::debug!(component = "a", "stored");
        tracing::trace!(component = "a", "too verbose");
        tracing::debug!(component = "b", "too verbose");
        tracing::info!(component = "b", "stored");
        tracing::info!(component = "c", "too verbose");
        tracing::error!(component = "c", "stored");
        // The program changes a level, and adds a server.
        let verbose = LogOptions::default().level(tracing::Level::TRACE);
        router.add_server("b", verbose).unwrap();
        router.add_server("own", verbose).unwrap();
        let changed =
            r#"{"persist":{"logs":true},"servers":{"a":{},"b":{},"c":{"log_level":"info"}}}"#;
        telemetry.apply(&config(changed)).unwrap();
        tracing::info!(component = "c", "stored");
    });
    assert_eq!(level("a"), Some(tracing::Level::DEBUG));
    assert_eq!(level("b"), Some(tracing::Level::TRACE));
    assert_eq!(level("c"), Some(tracing::Level::INFO));
    assert_eq!(level("own"), Some(tracing::Level::TRACE));
    // A server that is no longer listed, and one whose logs are turned off.
    let off = r#"{"persist":{"logs":true},"servers":{"a":{},"own":{"persist":{"logs":false}}}}"#;
    telemetry.apply(&config(off)).unwrap();
    assert_eq!(router.configured_servers(), [ServerName::new("a").unwrap()]);
    let store = telemetry.store().clone();
    telemetry.shutdown().unwrap();
    let inventory = store.snapshot().unwrap().inventory(None).unwrap();
    let counts: Vec<_> = inventory
        .iter()
        .map(|it| (it.server.as_str(), it.record_count))
        .collect();
    assert_eq!(counts, [("a", 1), ("b", 1), ("c", 2)]);
}

#[test]
fn a_shared_telemetry_is_shut_down_any_number_of_times() {
    let _alone = ONE_AT_A_TIME.lock();
    let config = |text: &str| -> TelemetryConfig { serde_json::from_str(text).unwrap() };
    let home = tempfile::tempdir().unwrap();
    let full = Arc::new(AtomicBool::new(false));
    let disk = Arc::clone(&full);
    let store = StoreOptions::default().disk_hook(move |operation| {
        let writes = matches!(operation, DiskOperation::Write { .. });
        if writes && disk.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    });
    for fills in [false, true] {
        full.store(false, Ordering::Relaxed);
        let options = TelemetryOptions::default().store(store.clone());
        let (telemetry, _) = Telemetry::from_config(
            home.path(),
            "stack",
            &config(r#"{"persist":{"logs":true},"servers":{"a":{}}}"#),
            Arc::new(Accumulator::new()),
            options,
        )
        .unwrap();
        let telemetry = Arc::new(telemetry);
        full.store(fills, Ordering::Relaxed);
        let subscriber = tracing_subscriber::registry().with(telemetry.log_router().layer());
        tracing::subscriber::with_default(subscriber, || tracing::info!(component = "a", "last"));
        let first = telemetry.shutdown();
        let threads = [(), ()].map(|()| {
            let telemetry = Arc::clone(&telemetry);
            std::thread::spawn(move || telemetry.shutdown())
        });
        for again in threads.map(|thread| thread.join().unwrap()) {
            match (&first, again) {
                (Ok(stats), Ok(again)) => {
                    assert!(!fills && *stats == again && stats.stored == 1, "{stats:?}");
                }
                (Err(failed), Err(again)) => {
                    assert!(fills && failed.stats == again.stats, "{again:?}");
                    assert_eq!((again.stats.offered, again.stats.stored), (1, 0));
                    assert_eq!(failed.to_string(), again.to_string());
                    assert!(failed.to_string().contains("free some space"), "{failed}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
