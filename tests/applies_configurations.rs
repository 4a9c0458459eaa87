//! A changed configuration is applied to a running daemon.
//!
//! A file of its own: `tracing` asks only the calling thread's subscriber when it knows a single one,
//! so another test that changes a router meanwhile could switch this one's events off.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use gridctl_telemetry::{Accumulator, Telemetry, TelemetryConfig, TelemetryOptions};
use std::sync::Arc;
use tracing_subscriber::prelude::*;

#[test]
fn a_configuration_is_applied_without_losing_a_record() {
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
        // Bad configurations change nothing.
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
