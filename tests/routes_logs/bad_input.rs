//! A value that is too large, fails, panics or logs loses at most its own event, and the loss is
//! counted.

use crate::{
    common::without_hang,
    daemon::as_a_daemon,
    routed::{Routed, all},
};
use gridctl_telemetry::ledger::LossCause;
use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicUsize, Ordering},
};
use tracing::{field::Empty, info, info_span};

/// Formats itself endlessly, and counts the bytes.
struct Endless(AtomicUsize);

impl fmt::Debug for Endless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kilobyte = "x".repeat(1024);
        for _ in 0..100 << 10 {
            f.write_str(&kilobyte)?;
            self.0.fetch_add(1024, Ordering::Relaxed);
        }
        Ok(())
    }
}

#[test]
fn a_value_of_100_mib_is_refused_and_counted_without_formatting_it_all() {
    let routed = Routed::to(&["github", "slack"]);
    let endless = Endless(AtomicUsize::new(0));
    let text = "x".repeat(100 << 20);
    routed.run(|| {
        info!(component = "github", endless = ?endless, "one");
        // The key is also found after such a value.
        info!(endless = ?endless, component = "github", "two");
        info!(component = "github", text, "three");
        info!(component = "github", "{text}");
        info!(component = "slack", "{:?}", endless);
        info_span!("call", component = "github", text).in_scope(|| info!("five"));
        let span = info_span!("call", component = "github", text = Empty);
        let _entered = span.enter();
        span.record("text", &*text);
        info!("six");
        info!(component = text, "seven");
    });
    assert!(endless.0.load(Ordering::Relaxed) <= 3 << 20);
    let stats = routed.writer.stats();
    let dropped: Vec<_> = stats
        .dropped
        .iter()
        .map(|drop| (&*drop.server, drop.cause, drop.count))
        .collect();
    assert_eq!(
        dropped,
        [
            ("github", LossCause::TooLarge, 7),
            ("slack", LossCause::TooLarge, 1)
        ]
    );
    assert_eq!(stats.offered, 8);
    assert_eq!(routed.messages(), [""; 0]);
    // In the ledger, too.
    let losses = routed.store.snapshot().unwrap().ledger(..).unwrap();
    assert_eq!(losses.iter().map(|loss| loss.count).sum::<u64>(), 8);
    routed.run(|| info!(component = "github", "eight"));
    assert_eq!(routed.messages(), ["github: eight"]);
}

#[test]
fn many_values_that_are_too_large_together_are_refused() {
    let routed = Routed::to(&["github"]);
    let text = "x".repeat(600 << 10);
    routed.run(|| {
        info!(component = "github", a = text, "one");
        info!(component = "github", a = text, b = text, "two");
        info!(component = "github", a = text, "{text}");
        let _outer = info_span!("outer", component = "github", text).entered();
        info!("four");
        let _inner = info_span!("inner", text).entered();
        info!("five");
    });
    assert_eq!(routed.messages(), ["github: one", "github: four"]);
    assert_eq!(routed.writer.stats().dropped_total(), 3);
}

#[test]
fn a_value_that_fails_to_format_is_stored_as_far_as_it_came() {
    struct Fails;
    impl fmt::Display for Fails {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("half")?;
            Err(fmt::Error)
        }
    }
    let routed = Routed::to(&["github"]);
    routed.run(|| info!(component = "github", value = %Fails, other = 1, "one"));
    assert_eq!(
        routed.line(),
        r#"github: {"level":"INFO","msg":"one","component":"github","value":"half","other":1}"#
    );
}

#[test]
fn a_value_that_panics_costs_its_own_event_alone() {
    struct Panics;
    impl fmt::Display for Panics {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("half")?;
            panic!("on purpose");
        }
    }
    let routed = Routed::to(&["github"]);
    routed.run(|| {
        let span = info_span!("call", component = "github", value = Empty);
        let _entered = span.enter();
        let panics = |work: &dyn Fn()| catch_unwind(AssertUnwindSafe(work)).is_err();
        assert!(panics(&|| info!(value = %Panics, "one")));
        assert!(panics(
            &|| _ = span.record("value", tracing::field::display(Panics))
        ));
        info!("two");
    });
    assert_eq!(
        routed.line(),
        r#"github: {"level":"INFO","msg":"two","component":"github","call":{"component":"github"}}"#
    );
}

#[test]
fn a_value_that_logs_while_it_is_formatted_is_stored_with_what_it_logs() {
    as_a_daemon("values that log");
}

pub(crate) fn values_that_log(routed: &Routed) {
    struct Logs;
    impl fmt::Debug for Logs {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("for")?;
            info!(component = "slack", inner = ?Some(1), "inside");
            f.write_str("matted")
        }
    }
    routed.router.add_server("github", all()).unwrap();
    routed.router.add_server("slack", all()).unwrap();
    without_hang("a value that logs", || {
        info!(component = "github", before = 1, value = ?Logs, after = 2, "outside {:?}", Logs);
        let span = info_span!("call", component = "github", value = ?Logs, later = Empty);
        let _entered = span.enter();
        // Logs while it is being formatted for the span.
        span.record("later", tracing::field::debug(Logs));
        info!("two");
    });
    let inside = r#"slack: {"level":"INFO","msg":"inside","component":"slack","inner":"Some(1)"}"#;
    assert_eq!(
        routed.lines(),
        [
            // An event has the time of its start.
            r#"github: {"level":"INFO","msg":"outside formatted","component":"github","before":1,"value":"formatted","after":2}"#,
            inside,
            inside,
            inside,
            // Inside the span, the event belongs to the server of the span.
            r#"github: {"level":"INFO","msg":"inside","component":"slack","inner":"Some(1)","component":"github","call":{"component":"github","value":"formatted"}}"#,
            r#"github: {"level":"INFO","msg":"two","component":"github","call":{"component":"github","value":"formatted","later":"formatted"}}"#,
        ]
    );
}
