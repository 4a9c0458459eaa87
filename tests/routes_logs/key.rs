//! The server of an event: the nearest configured one that `component`, `server` or `server.name` names,
//! of the spans from the inside out, then of the event itself.

use crate::{
    common::server,
    routed::{Routed, all},
};
use gridctl_telemetry::{Error, logs::UnroutedEvents};
use serde_json::json;
use tracing::{debug, error, info, info_span, instrument, level_filters::LevelFilter};

#[test]
fn the_key_is_component_else_server() {
    let routed = Routed::to(&["github", "slack"]);
    routed.run(|| {
        info!(component = "github", "one");
        info!(server = "slack", "two");
    });
    assert_eq!(
        routed.lines(),
        [
            r#"github: {"level":"INFO","msg":"one","component":"github"}"#,
            r#"slack: {"level":"INFO","msg":"two","server":"slack"}"#,
        ]
    );
}

#[test]
fn component_wins_over_server_on_the_same_event() {
    let routed = Routed::to(&["github", "slack"]);
    routed.run(|| {
        info!(component = "github", server = "slack", "one");
        info!(server = "slack", component = "github", "two");
    });
    assert_eq!(routed.messages(), ["github: one", "github: two"]);
}

#[test]
fn component_wins_over_server_on_the_same_span() {
    let routed = Routed::to(&["github", "slack"]);
    routed.run(|| {
        info_span!("call", server = "slack", component = "github").in_scope(|| info!("one"));
    });
    assert_eq!(routed.messages(), ["github: one"]);
}

#[test]
fn a_component_that_is_not_configured_is_passed_over() {
    let routed = Routed::to(&["slack"]);
    routed.run(|| {
        info!(component = "github", server = "slack", "one");
        info_span!("call", component = "github", server = "slack").in_scope(|| info!("two"));
        info_span!("call", server = "github", server.name = "slack").in_scope(|| info!("three"));
    });
    assert_eq!(
        routed.messages(),
        ["slack: one", "slack: two", "slack: three"]
    );
    assert_eq!(routed.router.unrouted(), UnroutedEvents::default());
}

#[test]
fn an_argument_with_the_name_of_a_key_takes_no_event_away() {
    #[instrument]
    fn connect(server: &str) {
        error!("connection refused");
        render("sidebar");
    }
    #[instrument]
    fn render(component: &str) {
        info!("rendered");
    }
    let routed = Routed::to(&["postgres"]);
    routed.run(|| {
        info_span!("handler", component = "postgres").in_scope(|| connect("10.0.0.1:5432"));
    });
    assert_eq!(
        routed.lines(),
        [
            concat!(
                r#"postgres: {"level":"ERROR","msg":"connection refused","component":"postgres","#,
                r#""handler":{"component":"postgres","connect":{"server":"10.0.0.1:5432"}}}"#
            ),
            concat!(
                r#"postgres: {"level":"INFO","msg":"rendered","component":"postgres","handler":"#,
                r#"{"component":"postgres","connect":{"server":"10.0.0.1:5432","#,
                r#""render":{"component":"sidebar"}}}}"#
            ),
        ]
    );
    assert_eq!(routed.router.unrouted(), UnroutedEvents::default());
}

#[test]
fn server_name_is_a_key_too() {
    let routed = Routed::to(&["github", "slack"]);
    routed.run(|| {
        info!(server.name = "github", "one");
        info_span!("call", server.name = "github").in_scope(|| info!("two"));
        info!(server.name = "slack", server = "github", "three");
    });
    assert_eq!(
        routed.lines(),
        [
            r#"github: {"level":"INFO","msg":"one","server.name":"github"}"#,
            r#"github: {"level":"INFO","msg":"two","server.name":"github","call":{"server.name":"github"}}"#,
            r#"github: {"level":"INFO","msg":"three","server.name":"slack","server":"github"}"#,
        ]
    );
}

#[test]
fn the_key_counts_on_a_span() {
    let routed = Routed::to(&["github"]);
    routed.run(|| {
        info_span!("call", component = "github").in_scope(|| info!(tool = "x", "one"));
        info_span!("call", server = "github").in_scope(|| info!("two"));
    });
    assert_eq!(
        routed.lines(),
        [
            r#"github: {"level":"INFO","msg":"one","tool":"x","component":"github","call":{"component":"github"}}"#,
            r#"github: {"level":"INFO","msg":"two","server":"github","call":{"server":"github"}}"#,
        ]
    );
}

#[test]
fn a_spans_key_wins_over_the_events_own() {
    let routed = Routed::to(&["github", "slack"]);
    routed.run(|| {
        info_span!("call", component = "github").in_scope(|| info!(component = "slack", "one"));
        // `server` of the span wins over `component` of the event, too.
        info_span!("call", server = "github").in_scope(|| info!(component = "slack", "two"));
    });
    assert_eq!(routed.messages(), ["github: one", "github: two"]);
    // Readers of a line use the last of two equal keys, which is that of the stored server.
    assert_eq!(routed.records()[0].1.component(), Some("github"));
}

#[test]
fn a_spans_key_that_is_not_configured_leaves_it_to_the_events_own() {
    let routed = Routed::to(&["slack"]);
    routed.run(|| {
        info_span!("call", component = "github").in_scope(|| info!(component = "slack", "one"));
    });
    assert_eq!(routed.messages(), ["slack: one"]);
}

#[test]
fn the_nearest_span_wins_over_its_parents() {
    let routed = Routed::to(&["github", "slack"]);
    routed.run(|| {
        let outer = info_span!("outer", component = "github");
        let _outer = outer.enter();
        info_span!("inner", component = "slack").in_scope(|| info!("one"));
        // A nearer `server` wins over a farther `component`.
        info_span!("inner", server = "slack").in_scope(|| info!("two"));
        // A span without a key inherits that of its parents.
        info_span!("inner", tool = "x").in_scope(|| info!("three"));
    });
    assert_eq!(
        routed.messages(),
        ["slack: one", "slack: two", "github: three"]
    );
}

#[test]
fn an_event_finds_its_explicit_parent() {
    let routed = Routed::to(&["github", "slack"]);
    routed.run(|| {
        let github = info_span!("call", component = "github");
        info_span!("call", component = "slack").in_scope(|| {
            info!(parent: &github, "one");
            info!(parent: None, "two");
        });
    });
    assert_eq!(routed.messages(), ["github: one"]);
}

#[test]
fn the_key_may_be_formatted_and_is_text() {
    let routed = Routed::to(&["github", "5"]);
    routed.run(|| {
        let name = format_args!("git{}", "hub");
        info!(component = %name, "one");
        info!(component = ?name, "two");
        // A number is not a name, and a quoted text is another name.
        info!(component = 5, "three");
        info!(component = ?"github", "four");
    });
    assert_eq!(routed.messages(), ["github: one", "github: two"]);
}

#[test]
fn without_a_key_or_with_that_of_another_server_nothing_is_stored() {
    let routed = Routed::to(&["github"]);
    routed.run(|| {
        info!("one");
        info!(tool = "github", "two");
        info!(component = "gitlab", "three");
        info!(component = "Github", "four");
        info!(component = "", "five");
        info!(component = "x".repeat(64 << 10), "six");
        info_span!("github").in_scope(|| info!("seven"));
    });
    assert_eq!(routed.messages(), [""; 0]);
    // These events are not to be stored, so they are not counted as lost.
    assert_eq!(routed.writer.stats().offered, 0);
}

#[test]
fn events_whose_server_is_not_configured_are_counted_by_name() {
    let routed = Routed::to(&["github"]);
    routed.run(|| {
        info!("no key");
        info_span!("call", tool = "x").in_scope(|| info!("no key"));
        info!(component = "github", "stored");
        info!(component = "gitlab", server = "slack", "one");
        info_span!("call", server = "slack").in_scope(|| {
            info!("two");
            info!(component = "gitlab", "three");
            info_span!("inner", component = "sidebar").in_scope(|| info!("four"));
            // Telemetry's own events are not counted.
            info!(subsystem = "telemetry", "own");
            info!(subsystem = "other", "five");
        });
        info!(component = 5, "six");
    });
    let unrouted = routed.router.unrouted();
    assert_eq!(
        serde_json::to_value(&unrouted).unwrap(),
        json!({
            "byKey": [
                { "field": "component", "name": "gitlab", "count": 1 },
                { "field": "server", "name": "slack", "count": 3 },
                { "field": "component", "name": "sidebar", "count": 1 },
            ],
            "others": 1,
        })
    );
    assert_eq!(unrouted.total(), 6);
    assert_eq!(routed.messages(), ["github: stored"]);
    assert_eq!(routed.writer.stats().offered, 1);
}

#[test]
fn any_number_of_names_takes_the_room_of_64() {
    let routed = Routed::to(&["github"]);
    routed.run(|| {
        for _ in 0..2 {
            for number in 0..1000 {
                info!(component = format!("server {number}"), "one");
            }
            info!(component = "x".repeat(64 << 10), "two");
        }
    });
    let unrouted = routed.router.unrouted();
    assert_eq!(unrouted.by_key.len(), 64);
    assert!(unrouted.by_key.iter().all(|key| key.count == 2));
    assert_eq!(unrouted.others, 2002 - 2 * 64);
}

#[test]
fn a_server_may_take_what_no_other_takes() {
    let routed = Routed::to(&["github"]);
    routed
        .router
        .add_unrouted_server("gateway", all().level(LevelFilter::INFO))
        .unwrap();
    routed.run(|| {
        info!("one");
        info!(component = "gateway", "two");
        info!(component = "github", "three");
        info!(component = "gitlab", "four");
        info_span!("call", server = "slack").in_scope(|| info!("five"));
        info!(subsystem = "telemetry", "own");
        // Each server keeps its own level.
        debug!("verbose");
        debug!(component = "github", "six");
        // From now on, another server gets them.
        routed.router.add_unrouted_server("daemon", all()).unwrap();
        info!("seven");
        info!(component = "gateway", "eight");
        routed.router.remove_server("daemon");
        info!("nine");
    });
    assert_eq!(
        routed.messages(),
        [
            "gateway: one",
            "gateway: two",
            "github: three",
            "gateway: four",
            "gateway: five",
            "github: six",
            "daemon: seven",
            "gateway: eight"
        ]
    );
    // Names without a server are counted, whether or not their events were stored.
    let names: Vec<_> = (routed.router.unrouted().by_key.into_iter())
        .map(|key| (key.name, key.count))
        .collect();
    assert_eq!(names, [("gitlab".to_owned(), 1), ("slack".to_owned(), 1)]);
    assert_eq!(routed.router.unrouted_server(), None);
    assert_eq!(
        routed.router.configured_servers(),
        [server("gateway"), server("github")]
    );
    assert!(matches!(
        routed.router.add_unrouted_server("", all()),
        Err(Error::InvalidServerName { bytes: 0 })
    ));
}
