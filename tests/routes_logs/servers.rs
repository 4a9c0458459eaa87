//! Only events of added servers are stored, and each server has its own minimum level.

use crate::{
    common::server,
    routed::{Routed, all},
};
use gridctl_telemetry::{Error, logs::LogOptions};
use tracing::{debug, debug_span, info, level_filters::LevelFilter, warn};

#[test]
fn add_server_refuses_a_name_that_is_empty_or_endless() {
    let routed = Routed::new();
    for name in [String::new(), "x".repeat(256), "x".repeat(64 << 10)] {
        assert!(matches!(
            routed.router.add_server(&name, all()),
            Err(Error::InvalidServerName { bytes }) if bytes == name.len()
        ));
    }
    assert_eq!(routed.router.configured_servers(), []);
    let longest = "x".repeat(255);
    routed.router.add_server(&longest, all()).unwrap();
    routed.run(|| info!(component = longest, "one"));
    assert_eq!(routed.messages(), [format!("{longest}: one")]);
}

#[test]
fn add_server_again_replaces_the_options() {
    let routed = Routed::new();
    let log = || {
        info!(component = "github", "info");
        warn!(component = "github", "warn");
    };
    for level in [LevelFilter::WARN, LevelFilter::INFO, LevelFilter::WARN] {
        routed
            .router
            .add_server("github", LogOptions::default().level(level))
            .unwrap();
        assert_eq!(routed.router.configured_servers(), [server("github")]);
        routed.run(log);
    }
    assert_eq!(
        routed.messages(),
        [
            "github: warn",
            "github: info",
            "github: warn",
            "github: warn"
        ]
    );
}

#[test]
fn a_server_stores_info_unless_it_is_told_otherwise() {
    let routed = Routed::new();
    routed
        .router
        .add_server("github", LogOptions::default())
        .unwrap();
    // Another server has its own level.
    routed.router.add_server("slack", all()).unwrap();
    routed.run(|| {
        info!(component = "github", "info");
        debug!(component = "github", "debug");
        debug!(component = "slack", "debug");
        debug_span!("call", component = "github").in_scope(|| debug!("debug"));
    });
    assert_eq!(routed.messages(), ["github: info", "slack: debug"]);
}

#[test]
fn remove_server_stops_storing_and_keeps_what_is_stored() {
    let routed = Routed::to(&["github", "slack"]);
    let log = || {
        info!(component = "github", "one");
        info!(component = "slack", "two");
    };
    routed.run(|| {
        log();
        routed.router.remove_server("github");
        routed.router.remove_server("nobody");
        log();
    });
    assert_eq!(routed.router.configured_servers(), [server("slack")]);
    assert_eq!(
        routed.messages(),
        ["github: one", "slack: two", "slack: two"]
    );
}

#[test]
fn configured_servers_are_sorted() {
    let routed = Routed::to(&["slack", "github", "jira"]);
    assert_eq!(
        routed.router.configured_servers(),
        [server("github"), server("jira"), server("slack")]
    );
}

#[test]
fn close_drops_every_server_and_the_router_stays_usable() {
    let routed = Routed::to(&["github", "slack"]);
    routed.run(|| {
        routed.router.close();
        assert_eq!(routed.router.configured_servers(), []);
        info!(component = "github", "one");
        routed.router.add_server("github", all()).unwrap();
        info!(component = "github", "two");
    });
    assert_eq!(routed.messages(), ["github: two"]);
}

#[test]
fn clones_share_their_servers() {
    let routed = Routed::new();
    let clone = routed.router.clone();
    routed.run(|| {
        clone.add_server("github", all()).unwrap();
        info!(component = "github", "one");
    });
    assert_eq!(routed.messages(), ["github: one"]);
    assert_eq!(
        clone.configured_servers(),
        routed.router.configured_servers()
    );
}
