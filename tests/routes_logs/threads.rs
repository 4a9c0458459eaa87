//! Events of every thread are stored in the thread's order, until the thread ends; events after the
//! writer closed are counted.

use crate::{
    common::{home, on_demand, open},
    daemon::as_a_daemon,
    routed::{Routed, all},
};
use gridctl_telemetry::{Value, Writer, ledger::LossCause, logs::LogRouter};
use std::cell::RefCell;
use tracing::{dispatcher, info, info_span};
use tracing_subscriber::layer::SubscriberExt;

#[test]
fn events_of_many_threads_are_all_stored() {
    const THREADS: usize = 8;
    const EVENTS: usize = 500;
    let routed = Routed::to(&["github", "slack"]);
    let dispatch = routed.dispatch();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let dispatch = &dispatch;
            scope.spawn(move || {
                dispatcher::with_default(dispatch, || {
                    let name = ["github", "slack"][thread % 2];
                    let _span = info_span!("thread", component = name, thread).entered();
                    for event in 0..EVENTS {
                        info!(event, "one");
                    }
                });
            });
        }
    });
    let mut seen = vec![0; THREADS];
    for (server, record) in routed.records() {
        let Some(Value::Object(span)) = record.attribute("thread") else {
            panic!("{record:?}");
        };
        let (Value::Int(thread), Some(Value::Int(event))) = (&span[1].1, record.attribute("event"))
        else {
            panic!("{record:?}");
        };
        let thread = usize::try_from(*thread).unwrap();
        // Each thread's events are in their order.
        assert_eq!(*event, seen[thread]);
        seen[thread] += 1;
        assert_eq!(&*server, ["github", "slack"][thread % 2]);
    }
    assert_eq!(seen, [i64::try_from(EVENTS).unwrap(); THREADS]);
}

#[test]
fn an_event_of_a_thread_that_ends_is_stored() {
    as_a_daemon("threads that end");
}

pub(crate) fn threads_that_end(routed: &Routed) {
    /// Logs when its thread ends.
    struct Last;
    impl Drop for Last {
        fn drop(&mut self) {
            info!(component = "github", "the last words");
        }
    }
    thread_local! {
        static LAST: RefCell<Option<Last>> = const { RefCell::new(None) };
    }
    routed.router.add_server("github", all()).unwrap();
    std::thread::spawn(|| {
        // Dropped after the router's thread-local state, which is created later.
        LAST.set(Some(Last));
        info!(component = "github", "the first words");
    })
    .join()
    .unwrap();
    assert_eq!(
        routed.messages(),
        ["github: the first words", "github: the last words"]
    );
}

#[test]
fn events_after_the_writer_closed_are_counted() {
    let home = home();
    let store = open(home.path());
    let (writer, guard) = Writer::start(&store, on_demand()).unwrap();
    let router = LogRouter::new(writer.clone());
    router.add_server("github", all()).unwrap();
    let subscriber = tracing_subscriber::registry().with(router.layer());
    guard.close().unwrap();
    tracing::subscriber::with_default(subscriber, || info!(component = "github", "one"));
    let stats = writer.stats();
    assert_eq!(
        (stats.offered, stats.dropped[0].cause),
        (1, LossCause::Closed)
    );
}
