//! The server of an event: `component`, else `server`, of the nearest span that has one, else of the
//! event itself.

use crate::routed::Routed;
use tracing::{info, info_span};

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
fn a_component_that_is_not_configured_still_wins_over_a_server_that_is() {
    let routed = Routed::to(&["slack"]);
    routed.run(|| info!(component = "github", server = "slack", "one"));
    assert_eq!(routed.messages(), [""; 0]);
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
        // On another surface, `server` of the span wins over `component` of the event.
        info_span!("call", server = "github").in_scope(|| info!(component = "slack", "two"));
    });
    assert_eq!(routed.messages(), ["github: one", "github: two"]);
    // Readers of a line take the last of two keys: where the event went.
    assert_eq!(routed.records()[0].1.component(), Some("github"));
}

#[test]
fn a_spans_key_that_is_not_configured_still_wins_over_the_events_own() {
    let routed = Routed::to(&["slack"]);
    routed.run(|| {
        info_span!("call", component = "github").in_scope(|| info!(component = "slack", "one"));
    });
    assert_eq!(routed.messages(), [""; 0]);
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
        // A span without a key leaves it to its parents.
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
        // A number names no server, and a quoted text another one.
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
    // They are not for the store: nothing is lost.
    assert_eq!(routed.writer.stats().offered, 0);
}
