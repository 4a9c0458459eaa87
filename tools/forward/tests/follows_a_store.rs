//! A forwarder that follows sends what arrives, also in a database that replaces the first, and tells what limits
//! evicted before it was sent.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::default_trait_access,
    clippy::cast_possible_wrap,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Far, Stack, answer, logs_to, numbered, ok};
use gridctl_telemetry::{
    LogRecord, ServerName, Signal, Store, StoreOptions, Timestamp, Writer, WriterOptions,
    config::{Retention, RetentionPolicy},
};
use gridctl_telemetry_forward::{Endpoint, ForwardEvent, Forwarder};
use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

const HANG: Duration = Duration::from_secs(120);

/// Waits until `is_so`, and fails if that never is.
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < HANG, "never: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn new_records_and_those_of_a_new_database_are_sent() {
    let stack = Stack::with(10);
    let far = Far::start(|_, _| ok());
    let (options, events) = logs_to(Endpoint::at(&far.url()).unwrap());
    let forwarder = Forwarder::start(&stack.store, options.follow(true)).unwrap();
    wait_until("the first", || far.messages() == numbered(0..10));
    stack.log(10..20);
    wait_until("new ones", || far.messages() == numbered(0..20));
    // Another database at the same path.
    let other = Stack::with(0);
    other.log(100..105);
    let copy = stack.folder().join("copy");
    fs::copy(other.store.path(), &copy).unwrap();
    fs::rename(&copy, stack.store.path()).unwrap();
    let expected = [numbered(0..20), numbered(100..105)].concat();
    wait_until("those of the new database", || far.messages() == expected);
    let stats = forwarder.stop().unwrap();
    assert_eq!(stats.sent(), 25);
    assert_eq!(
        events.all(),
        [ForwardEvent::Replaced {
            signal: Signal::Logs
        }]
    );
    // The cursor is that of the new one.
    let store = Store::open_read_only(stack.home.path(), "gw", StoreOptions::for_tools()).unwrap();
    let (options, _) = logs_to(Endpoint::at(&far.url()).unwrap());
    let again = Forwarder::start(&store.unwrap(), options).unwrap();
    assert!(again.wait(HANG));
    assert_eq!(again.stop().unwrap().sent(), 0);
}

#[test]
fn what_limits_evict_before_it_is_sent_is_told() {
    let stack = Stack::with(0);
    let far_is_away = Arc::new(AtomicBool::new(true));
    let is_away = Arc::clone(&far_is_away);
    let far = Far::start(move |_, _| {
        if is_away.load(Ordering::SeqCst) {
            answer("503 Service Unavailable", "Retry-After: 0\r\n", b"")
        } else {
            ok()
        }
    });
    let retention = Retention::default().max_size_mb(1).max_backups(1);
    let policy = RetentionPolicy::new(retention);
    let options = WriterOptions::default().retention(Some(policy));
    let (writer, guard) = Writer::start(&stack.store, options).unwrap();
    let github = ServerName::new("github").unwrap();
    // Recent, because limits of age are on, too.
    let epoch = Timestamp::now().unix_nanos();
    let log = |numbers: std::ops::Range<u64>| {
        for number in numbers {
            let time = Timestamp::from_unix_nanos(epoch + number as i64);
            // Random, so that it does not become small.
            let noise: String = std::iter::repeat_with(fastrand::alphanumeric)
                .take(300)
                .collect();
            writer
                .log(&github, &LogRecord::new(time, Default::default(), noise))
                .unwrap();
            if number % 1000 == 999 {
                writer.flush().unwrap();
            }
        }
        writer.flush().unwrap();
    };
    log(0..1000);
    let (options, events) = logs_to(Endpoint::at(&far.url()).unwrap());
    let forwarder = Forwarder::start(&stack.store, options.follow(true)).unwrap();
    wait_until("the first request", || !far.requests().is_empty());
    log(1000..20_000);
    far_is_away.store(false, Ordering::SeqCst);
    let evicted = || -> u64 {
        let evicted = stack.store.snapshot().unwrap().evicted().unwrap();
        evicted.iter().map(|it| it.count).sum()
    };
    assert!(evicted() > 5000, "{}", evicted());
    let accounted = || {
        let stats = forwarder.stats();
        stats.sum(|it| it.sent + it.missed)
    };
    wait_until("all are accounted for", || accounted() >= 20_000);
    let stats = forwarder.stop().unwrap();
    guard.close().unwrap();
    assert_eq!(
        stats.sent() + stats.sum(|it| it.missed),
        20_000,
        "{stats:?}"
    );
    let told: u64 = (events.all().iter())
        .map(|event| match event {
            ForwardEvent::Missed(missed) => {
                assert!(missed.from <= missed.to);
                missed.count
            }
            _ => 0,
        })
        .sum();
    assert_eq!(told, stats.sum(|it| it.missed));
    assert!(told > 5000, "{told}");
}
