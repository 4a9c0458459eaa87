//! The router's layer enables the events that are to be stored and no others, independent of other
//! layers; events that telemetry logs about itself are never stored.

use crate::routed::{Counts, Routed, Sibling, all};
use gridctl_telemetry::logs::{LogOptions, RouterFilter};
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering},
};
use tracing::{
    Dispatch, debug_span, dispatcher, error, field::Empty, info, info_span,
    level_filters::LevelFilter, trace,
};
use tracing_subscriber::{
    Layer, Registry,
    layer::{Filter, SubscriberExt},
};

#[test]
fn events_of_the_telemetry_subsystem_are_never_routed() {
    let routed = Routed::to(&["github"]);
    routed.run(|| {
        info!(component = "github", subsystem = "telemetry", "one");
        info!(subsystem = "telemetry", component = "github", "two");
        info!(component = "github", subsystem = "other", "three");
        let span = info_span!("call", component = "github", subsystem = Empty);
        let _entered = span.enter();
        info!("four");
        span.record("subsystem", "telemetry");
        info_span!("inner", component = "github").in_scope(|| info!("five"));
    });
    assert_eq!(routed.messages(), ["github: three", "github: four"]);
}

#[test]
fn events_of_the_writer_thread_are_never_stored() {
    static DISPATCH: OnceLock<Dispatch> = OnceLock::new();
    let logged = Arc::new(AtomicUsize::new(0));
    let log = || info!(component = "github", "about the disk");
    let routed = Routed::with_disk({
        let logged = Arc::clone(&logged);
        move |_| {
            if let Some(dispatch) = DISPATCH.get()
                && std::thread::current().name() == Some("gridctl-telemetry")
            {
                dispatcher::with_default(dispatch, log);
                logged.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    routed.router.add_server("github", all()).unwrap();
    let dispatch = DISPATCH.get_or_init(|| routed.dispatch());
    dispatcher::with_default(dispatch, || info!(component = "github", "about the work"));
    assert_eq!(routed.messages(), ["github: about the work"]);
    assert!(
        logged.load(Ordering::Relaxed) > 0,
        "the writer said nothing"
    );
    // The same events of another thread are stored.
    dispatcher::with_default(dispatch, log);
    assert_eq!(routed.messages().len(), 2);
}

#[test]
fn when_nobody_listens_nothing_is_evaluated() {
    let routed = Routed::new();
    let counts = Counts::default();
    routed.run(|| {
        error!(component = "github", value = %counts, "one");
        info_span!("call", component = "github").in_scope(|| error!(value = %counts, "two"));
    });
    assert_eq!(counts.count(), 0);
    let callsite = Sibling::default();
    let subscriber = tracing_subscriber::registry()
        .with(routed.router.layer())
        .with(callsite.clone());
    tracing::subscriber::with_default(subscriber, || info!(component = "github", "three"));
    let metadata = callsite.0.lock().unwrap()[0];
    let layer = routed.router.layer::<Registry>();
    let interest = |filter: &RouterFilter| {
        <RouterFilter as Filter<Registry>>::callsite_enabled(filter, metadata)
    };
    assert!(interest(layer.filter()).is_never());
    routed
        .router
        .add_server("github", LogOptions::default())
        .unwrap();
    assert!(interest(layer.filter()).is_always());
}

#[test]
fn other_layers_see_everything_whoever_is_configured() {
    for servers in [&[][..], &["github"]] {
        let routed = Routed::to(servers);
        let (above, below) = (Sibling::default(), Sibling::default());
        let subscriber = tracing_subscriber::registry()
            .with(below.clone())
            .with(routed.router.layer())
            .with(above.clone());
        tracing::subscriber::with_default(subscriber, || {
            info!(component = "github", "one");
            info!(component = "gitlab", "two");
            trace!("three");
        });
        assert_eq!((above.seen(), below.seen()), (3, 3));
        assert_eq!(routed.messages().len(), servers.len());
    }
}

#[test]
fn what_another_layers_filter_disables_is_stored_all_the_same() {
    let routed = Routed::to(&["github"]);
    let sibling = Sibling::default();
    let subscriber = tracing_subscriber::registry()
        .with(sibling.clone().with_filter(LevelFilter::ERROR))
        .with(routed.router.layer());
    tracing::subscriber::with_default(subscriber, || {
        let _span = debug_span!("call", component = "github").entered();
        trace!("one");
        error!("two");
    });
    assert_eq!(routed.messages(), ["github: one", "github: two"]);
    assert_eq!(sibling.seen(), 1);
}

#[test]
fn two_routers_in_one_subscriber_do_not_disturb_each_other() {
    let (first, second) = (Routed::to(&["github"]), Routed::to(&["slack"]));
    let subscriber = tracing_subscriber::registry()
        .with(first.router.layer())
        .with(second.router.layer());
    tracing::subscriber::with_default(subscriber, || {
        let span = info_span!("call", component = "github", rows = Empty);
        span.record("rows", 3);
        span.in_scope(|| info!("one"));
        span.record("component", "slack");
        span.in_scope(|| info!("two"));
    });
    assert_eq!(
        first.line(),
        r#"github: {"level":"INFO","msg":"one","component":"github","call":{"component":"github","rows":3}}"#
    );
    assert_eq!(
        second.line(),
        r#"slack: {"level":"INFO","msg":"two","component":"slack","call":{"rows":3,"component":"slack"}}"#
    );
}
