//! `losses` shows which records were lost, when and why, apart from those that limits evicted.

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
};
use serde_json::Value;

fn server(name: &str) -> ServerName {
    ServerName::new(name).unwrap()
}

/// A stack in which the server `github` lost two records that were too large, the server `chatty` had
/// records evicted, and the server `quiet` has one record.
fn stack(home: &Home) {
    let store = Store::open(home.path(), "gw", StoreOptions::default()).unwrap();
    let small = Retention::default().max_size_mb(1).max_backups(1);
    let policy = RetentionPolicy::default().server("chatty", small);
    let options = WriterOptions::default()
        .record_bytes_max(64 << 10)
        .retention(Some(policy))
        .tiering(256, 256, 256);
    let (writer, guard) = Writer::start(&store, options).unwrap();
    let at = |seconds: i64| {
        let today = Timestamp::now().unix_nanos() / 1_000_000_000;
        Timestamp::from_unix_nanos((today - 3600 + seconds) * 1_000_000_000)
    };
    writer
        .log(&server("quiet"), &LogRecord::new(at(0), Level::INFO, "ok"))
        .unwrap();
    for seconds in [10, 20] {
        let large = LogRecord::new(at(seconds), Level::INFO, "x".repeat(65 << 10));
        writer.log(&server("github"), &large).unwrap_err();
    }
    // Text that does not compress, of three times the limit.
    let mut state = 1_u64;
    for number in 0..1536 {
        let text: String = (0..4096)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                char::from(b'!' + u8::try_from((state >> 40) % 90).unwrap())
            })
            .collect();
        writer
            .log(
                &server("chatty"),
                &LogRecord::new(at(number), Level::INFO, text),
            )
            .unwrap();
        if number % 256 == 255 {
            writer.flush().unwrap();
        }
    }
    guard.close().unwrap();
}

#[test]
fn losses_have_a_time_a_cause_and_advice() {
    let home = Home::new();
    stack(&home);
    let shown = home.run(&["losses"]);
    assert_eq!(shown.code, 1, "{shown:?}");
    let (lost, evicted) = shown.stdout.split_once("\nEvicted by limits").unwrap();
    for said in [
        "github",
        "logs",
        "2  too large",
        "2 records (too large)",
        "record_bytes_max",
    ] {
        assert!(lost.contains(said), "{said}: {shown:?}");
    }
    assert!(!lost.contains("chatty"), "{shown:?}");
    assert!(
        evicted.contains("chatty") && !evicted.contains("github"),
        "{shown:?}"
    );

    let json: Value = serde_json::from_str(&home.run(&["losses", "gw", "--json"]).stdout).unwrap();
    let lost = json["lost"].as_array().unwrap();
    assert_eq!(lost.len(), 1);
    assert_eq!(lost[0]["stack"], "gw");
    assert_eq!(lost[0]["server"], "github");
    assert_eq!(lost[0]["cause"], "tooLarge");
    assert_eq!(lost[0]["count"], 2);
    assert!(json["evicted"][0]["count"].as_u64().unwrap() > 0);

    // Of one server, and of a time in which nothing was lost.
    for args in [
        &["losses", "gw", "quiet"][..],
        &["losses", "--since", "30m"],
        &["losses", "--until", "yesterday"],
        &["losses", "gw", "chatty"],
    ] {
        let none = home.run(args);
        assert_eq!(none.code, 0, "{args:?}: {none:?}");
        assert!(
            none.stdout.starts_with("No records were lost.\n"),
            "{none:?}"
        );
    }
    let status = home.run(&["status"]).stdout;
    assert!(
        status.contains("2 records (too large); `losses` has the details"),
        "{status}"
    );
}
