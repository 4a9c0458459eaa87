//! The spans of an event are stored with it: nested, each once, with the fields recorded by then.

use crate::{
    daemon::as_a_daemon,
    routed::{Counts, Routed},
};
use gridctl_telemetry::logs::LogOptions;
use tracing::{debug_span, field::Empty, info, info_span, trace_span};

#[test]
fn nested_spans_keep_their_grouping() {
    let routed = Routed::to(&["github"]);
    routed.run(|| {
        let _session = info_span!("session", id = 7, client = "cli").entered();
        // A span without fields makes no group.
        let _nothing = info_span!("nothing").entered();
        let _call = info_span!("call", component = "github", tool = "search").entered();
        info!(rows = 3, "one");
    });
    assert_eq!(
        routed.line(),
        concat!(
            r#"github: {"level":"INFO","msg":"one","rows":3,"component":"github","#,
            r#""session":{"id":7,"client":"cli","call":{"component":"github","tool":"search"}}}"#
        )
    );
}

#[test]
fn the_groups_of_spans_do_not_change_where_an_event_goes() {
    let routed = Routed::to(&["github"]);
    routed.run(|| {
        let _group = info_span!("component", name = "slack").entered();
        let _group = info_span!("server", name = "slack").entered();
        info!(component = "github", "one");
    });
    assert_eq!(
        routed.line(),
        r#"github: {"level":"INFO","msg":"one","component":"github","component":{"name":"slack","server":{"name":"slack"}}}"#
    );
}

#[test]
fn of_spans_nested_without_end_the_nearest_are_stored() {
    let routed = Routed::to(&["github"]);
    routed.run(|| {
        let mut spans = vec![info_span!("call", component = "github", depth = 0)];
        for depth in 1..200 {
            spans.push(info_span!(parent: spans.last().unwrap(), "call", depth));
        }
        info!(parent: spans.last().unwrap(), "one");
    });
    let line = routed.line();
    assert_eq!(line.matches("\"depth\"").count(), 32);
    assert!(
        line.contains("\"depth\":199") && line.contains("\"depth\":168"),
        "{line}"
    );
    assert!(
        line.contains("\"component\":\"github\",\"call\":{\"depth\":168,"),
        "{line}"
    );
}

#[test]
fn span_fields_are_formatted_once_and_not_once_per_event() {
    let routed = Routed::to(&["github"]);
    let counts = Counts::default();
    routed.run(|| {
        let _span = info_span!("call", component = "github", value = %counts).entered();
        assert_eq!(counts.count(), 1);
        for _ in 0..10 {
            info!("one");
        }
    });
    assert_eq!(counts.count(), 1);
    let expected = r#"github: {"level":"INFO","msg":"one","component":"github","call":{"component":"github","value":"formatted"}}"#;
    assert_eq!(routed.lines(), [expected; 10]);
}

#[test]
fn fields_recorded_later_on_a_span_count_from_then_on() {
    let routed = Routed::to(&["github", "slack"]);
    routed.run(|| {
        let span = info_span!("call", component = Empty, rows = Empty, tool = "search");
        let _entered = span.enter();
        info!("nobody");
        span.record("component", "github");
        info!("one");
        span.record("rows", 3);
        info!("two");
        // A field recorded again replaces the earlier value, and so does the key.
        span.record("component", "slack");
        span.record("rows", 4);
        info!("three");
        span.record("component", 5);
        info!("nobody");
    });
    assert_eq!(
        routed.lines(),
        [
            r#"github: {"level":"INFO","msg":"one","component":"github","call":{"tool":"search","component":"github"}}"#,
            r#"github: {"level":"INFO","msg":"two","component":"github","call":{"tool":"search","component":"github","rows":3}}"#,
            r#"slack: {"level":"INFO","msg":"three","component":"slack","call":{"tool":"search","component":"slack","rows":4}}"#,
        ]
    );
}

#[test]
fn a_field_recorded_over_and_over_takes_the_room_of_one() {
    let routed = Routed::to(&["github"]);
    routed.run(|| {
        let span = info_span!("call", component = "github", progress = Empty);
        for progress in 0..100_000 {
            span.record("progress", progress);
        }
        info!(parent: &span, "one");
    });
    assert_eq!(
        routed.line(),
        r#"github: {"level":"INFO","msg":"one","component":"github","call":{"component":"github","progress":99999}}"#
    );
}

#[test]
fn the_trace_id_of_the_nearest_span_stands_at_the_top() {
    let routed = Routed::to(&["github"]);
    routed.run(|| {
        let _outer = info_span!("outer", trace_id = "far").entered();
        let _inner = info_span!("inner", trace_id = "near").entered();
        info!(component = "github", "one");
        info!(component = "github", trace_id = "own", "two");
    });
    let records = routed.records();
    assert_eq!(records[0].1.trace_id(), Some("near"));
    assert_eq!(records[1].1.trace_id(), Some("own"));
}

#[test]
fn where_an_event_goes_does_not_depend_on_how_verbose_its_span_is() {
    as_a_daemon("verbose spans");
}

pub(crate) fn verbose_spans(routed: &Routed) {
    let call = trace_span!("call", component = "github");
    routed
        .router
        .add_server("github", LogOptions::default().target(false))
        .unwrap();
    call.in_scope(|| info!("one"));
    // A span that names no server is stored if its level is enabled for events.
    let _detail = debug_span!("detail", depth = 1).entered();
    trace_span!("call", component = "github").in_scope(|| info!("two"));
    assert_eq!(
        routed.lines(),
        ["one", "two"].map(|message| format!(
            "github: {{\"level\":\"INFO\",\"msg\":\"{message}\",\"component\":\"github\",\
             \"call\":{{\"component\":\"github\"}}}}"
        ))
    );
}
