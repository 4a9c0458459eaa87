//! Events of a server that is added while the daemon runs are stored from then on, on every thread and
//! in open spans.

use crate::{
    common::HANG,
    daemon::as_a_daemon,
    routed::{Routed, all},
};
use gridctl_telemetry::logs::LogOptions;
use std::cell::Cell;
use tracing::{debug, debug_span, dispatcher, field::Empty, info, info_span, trace_span};

#[test]
fn a_server_added_while_running_takes_effect_at_callsites_that_were_disabled() {
    as_a_daemon("disabled callsites");
}

pub(crate) fn disabled_callsites(routed: &Routed) {
    let evaluated = Cell::new(0);
    let log = || {
        let value = || {
            evaluated.set(evaluated.get() + 1);
            evaluated.get()
        };
        info!(component = "github", value = value(), "one");
        debug!(component = "github", value = value(), "two");
    };
    // The callsites are registered now, and no layer wants them.
    log();
    log();
    assert_eq!(evaluated.get(), 0);
    assert!(!tracing::event_enabled!(tracing::Level::ERROR));
    routed
        .router
        .add_server("github", LogOptions::default().target(false))
        .unwrap();
    log();
    assert_eq!(evaluated.get(), 1);
    routed.router.add_server("github", all()).unwrap();
    log();
    assert_eq!(evaluated.get(), 3);
    routed.router.remove_server("github");
    log();
    assert_eq!(evaluated.get(), 3);
    assert_eq!(
        routed.messages(),
        ["github: one", "github: one", "github: two"]
    );
}

#[test]
fn a_server_added_while_running_takes_effect_in_spans_that_were_open() {
    let routed = Routed::new();
    routed.run(|| {
        // At any level of the span that names the server.
        for span in [
            error_span_of("github"),
            info_span!("call", component = "github"),
            debug_span!("call", component = "github"),
            trace_span!("call", component = Empty),
        ] {
            span.record("component", "github");
            let _entered = span.enter();
            let tool = info_span!("tool", name = "search");
            let _entered = tool.enter();
            info!("before");
            routed
                .router
                .add_server("github", LogOptions::default().target(false))
                .unwrap();
            info!("after");
            routed.router.close();
        }
    });
    let expected = r#"github: {"level":"INFO","msg":"after","component":"github","call":{"component":"github","tool":{"name":"search"}}}"#;
    assert_eq!(routed.lines(), [expected; 4]);
}

fn error_span_of(name: &str) -> tracing::Span {
    tracing::error_span!("call", component = name)
}

#[test]
fn a_server_added_on_one_thread_takes_effect_on_others() {
    let routed = Routed::new();
    let dispatch = routed.dispatch();
    let log = || info!(component = "github", "one");
    let (added, wait) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            dispatcher::with_default(&dispatch, || {
                log();
                wait.recv_timeout(HANG).unwrap();
                log();
            });
        });
        routed.router.add_server("slack", all()).unwrap();
        routed.router.add_server("github", all()).unwrap();
        routed.router.remove_server("slack");
        added.send(()).unwrap();
    });
    // The first event raced with the server.
    assert!((1..=2).contains(&routed.messages().len()));
}
