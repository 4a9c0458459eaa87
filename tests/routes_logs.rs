//! The log router stores each event under the server that it names, as the line that it should be:
//! a test for each thing that it promises.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{HANG, STACK, helper_arguments, home, on_demand, server, without_hang};
use gridctl_telemetry::{
    DiskOperation, DropCause, Error, LineFormat, LineWriter, LogOptions, LogRecord, LogRouter,
    ParsedLine, Query, RouterFilter, ServerName, Signal, Store, StoreOptions, Timestamp, Value,
    Writer, WriterGuard, parse_line,
};
use proptest::prelude::*;
use std::{
    cell::{Cell, RefCell},
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};
use tempfile::TempDir;
use tracing::{
    Dispatch, Event, Metadata, Subscriber, debug, debug_span, dispatcher, error, field::Empty,
    info, info_span, level_filters::LevelFilter, subscriber::NoSubscriber, trace, trace_span, warn,
};
use tracing_subscriber::{
    Layer, Registry,
    layer::{Context, Filter, SubscriberExt},
};

/// A store, its writer, and a router without servers.
struct Routed {
    store: Store,
    writer: Writer,
    _guard: WriterGuard,
    router: LogRouter,
    _home: TempDir,
}

impl Routed {
    fn new() -> Routed {
        Routed::with_disk(|_| {})
    }

    /// One whose disk calls `hook` before each operation.
    fn with_disk(hook: impl Fn(DiskOperation<'_>) + Send + Sync + 'static) -> Routed {
        keep_several_subscribers();
        Routed::start(hook)
    }

    /// One in a process that has no other subscriber.
    fn alone() -> Routed {
        Routed::start(|_| {})
    }

    fn start(hook: impl Fn(DiskOperation<'_>) + Send + Sync + 'static) -> Routed {
        let home = home();
        let options = StoreOptions::default().disk_hook(move |operation| {
            hook(operation);
            Ok(())
        });
        let store = Store::open(home.path(), STACK, options).unwrap();
        let (writer, guard) = Writer::start(&store, &on_demand()).unwrap();
        Routed {
            router: LogRouter::new(writer.clone()),
            writer,
            _guard: guard,
            store,
            _home: home,
        }
    }

    /// One with these servers, which store everything.
    fn to(servers: &[&str]) -> Routed {
        let routed = Routed::new();
        for server in servers {
            routed.router.add_server(server, all()).unwrap();
        }
        routed
    }

    fn dispatch(&self) -> Dispatch {
        Dispatch::new(tracing_subscriber::registry().with(self.router.layer()))
    }

    /// Runs `work` with the router's layer as the only one.
    fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        dispatcher::with_default(&self.dispatch(), work)
    }

    /// What is stored, by time: server and record.
    fn records(&self) -> Vec<(ServerName, LogRecord)> {
        self.writer.flush().unwrap();
        let records = self.store.scan(&Query::new(Signal::Logs)).unwrap();
        records
            .map(|stored| {
                let stored = stored.unwrap();
                (stored.server, stored.record.into_log().unwrap())
            })
            .collect()
    }

    /// What is stored, as lines that begin with the server and have no time.
    ///
    /// Checks on the way that the exported lines, of either format, hold exactly what the decoded
    /// record does.
    fn lines(&self) -> Vec<String> {
        let mut decoded = self.records().into_iter();
        let snapshot = self.store.snapshot().unwrap();
        let mut scan = snapshot.scan(&Query::new(Signal::Logs)).unwrap();
        let mut lines = Vec::new();
        while let Some(raw) = scan.next().unwrap() {
            let (server, record) = decoded.next().unwrap();
            let [line, otlp] = [LineFormat::Ndjson, LineFormat::Otlp].map(|format| {
                let mut line = Vec::new();
                let mut writer = LineWriter::new(format);
                writer.write(&raw, &mut line).unwrap();
                writer.finish(&mut line);
                line
            });
            let mut expected = Vec::new();
            record.write_line(&mut expected);
            assert_eq!(line, expected);
            let Ok(ParsedLine::Logs(back)) = parse_line(Signal::Logs, otlp.trim_ascii_end()) else {
                panic!("{}", String::from_utf8(otlp).unwrap());
            };
            // As text, for a NaN is not equal to itself.
            let whole = [(Some(server.to_string()), record)];
            assert_eq!(format!("{back:?}"), format!("{whole:?}"));

            let line = str::from_utf8(line.strip_suffix(b"\n").unwrap()).unwrap();
            let (time, rest) = line.split_once(',').unwrap();
            assert!(
                time.starts_with("{\"ts\":\"") && time.ends_with("Z\""),
                "{line}"
            );
            lines.push(format!("{server}: {{{rest}"));
        }
        assert_eq!(decoded.next(), None);
        lines
    }

    /// The one line that is stored.
    fn line(&self) -> String {
        let lines = self.lines();
        let [line] = &lines[..] else {
            panic!("{lines:?}")
        };
        line.clone()
    }

    /// How many events each message was stored of, by server: `server: message`.
    fn messages(&self) -> Vec<String> {
        self.records()
            .into_iter()
            .map(|(server, record)| format!("{server}: {}", record.message))
            .collect()
    }
}

/// While a process has just one subscriber, `tracing` asks that of the current thread what is
/// enabled on all of them. That is right where the one is the process's own, as in a daemon, and
/// wrong here, where tests on other threads have theirs.
fn keep_several_subscribers() {
    static KEPT: OnceLock<[Dispatch; 2]> = OnceLock::new();
    KEPT.get_or_init(|| [0; 2].map(|_| Dispatch::new(NoSubscriber::new())));
}

/// Everything is stored, whatever its level.
fn all() -> LogOptions {
    LogOptions {
        level: LevelFilter::TRACE,
    }
}

/// Counts how often it is formatted.
#[derive(Default)]
struct Counts(AtomicUsize);

impl Counts {
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fetch_add(1, Ordering::Relaxed);
        f.write_str("formatted")
    }
}

/// A layer of the application's own: remembers what it sees.
#[derive(Clone, Default)]
struct Sibling(Arc<Mutex<Vec<&'static Metadata<'static>>>>);

impl<S: Subscriber> Layer<S> for Sibling {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.0.lock().unwrap().push(event.metadata());
    }
}

impl Sibling {
    fn seen(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

// The routing key.

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

// Servers.

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
            .add_server("github", LogOptions { level })
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
    // Another server's level is its own.
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

// A server that is added while the daemon runs.

#[test]
fn a_server_added_while_running_takes_effect_at_callsites_that_were_disabled() {
    as_a_daemon("disabled callsites");
}

fn disabled_callsites(routed: &Routed) {
    let evaluated = Cell::new(0);
    let log = || {
        let value = || {
            evaluated.set(evaluated.get() + 1);
            evaluated.get()
        };
        info!(component = "github", value = value(), "one");
        debug!(component = "github", value = value(), "two");
    };
    // The callsites are registered now, and nobody wants them.
    log();
    log();
    assert_eq!(evaluated.get(), 0);
    assert!(!tracing::event_enabled!(tracing::Level::ERROR));
    routed
        .router
        .add_server("github", LogOptions::default())
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
        // Whatever the level of the span that names the server.
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
                .add_server("github", LogOptions::default())
                .unwrap();
            info!("after");
            routed.router.close();
        }
    });
    let expected = r#"github: {"level":"INFO","msg":"after","component":"github","call":{"component":"github","tool":{"name":"search"}}}"#;
    assert_eq!(routed.lines(), [expected; 4]);
}

#[test]
fn where_an_event_goes_does_not_depend_on_how_verbose_its_span_is() {
    as_a_daemon("verbose spans");
}

fn verbose_spans(routed: &Routed) {
    let call = trace_span!("call", component = "github");
    routed
        .router
        .add_server("github", LogOptions::default())
        .unwrap();
    call.in_scope(|| info!("one"));
    // Of spans that name no server, those are stored that are no more verbose than events.
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

// What is stored of spans.

#[test]
fn nested_spans_keep_their_grouping() {
    let routed = Routed::to(&["github"]);
    routed.run(|| {
        let _session = info_span!("session", id = 7, client = "cli").entered();
        // A span without fields is no group.
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
        // What is recorded again counts instead, and the key with it.
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

// What is never stored.

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
    // Said by another thread, the same would be stored.
    dispatcher::with_default(dispatch, log);
    assert_eq!(routed.messages().len(), 2);
}

// The filter.

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

// Values.

#[test]
fn levels_are_those_of_slog() {
    let routed = Routed::to(&["github"]);
    routed.run(|| {
        error!(component = "github");
        warn!(component = "github");
        info!(component = "github");
        debug!(component = "github");
        trace!(component = "github");
    });
    let expected: Vec<String> = ["ERROR", "WARN", "INFO", "DEBUG", "DEBUG-4"]
        .iter()
        .map(|level| {
            format!("github: {{\"level\":\"{level}\",\"msg\":\"\",\"component\":\"github\"}}")
        })
        .collect();
    assert_eq!(routed.lines(), expected);
}

#[test]
fn values_keep_as_much_type_as_json_has() {
    let routed = Routed::to(&["github"]);
    routed.run(|| {
        info!(
            component = "github",
            yes = true,
            small = -1_i8,
            long = i64::MIN,
            unsigned = u64::MAX,
            fits = 5_i128,
            huge = i128::MIN,
            huger = u128::MAX,
            float = 1.5,
            whole = 2.0,
            single = 0.5_f32,
            nan = f64::NAN,
            endless = f64::NEG_INFINITY,
            some = Some(3),
            none = None::<u64>,
            text = "a\"b\nc",
            display = %1.5,
            debug = ?Some("x"),
            bytes = &b"\x01\xff"[..],
        );
    });
    assert_eq!(
        routed.line(),
        concat!(
            r#"github: {"level":"INFO","msg":"","component":"github","yes":true,"small":-1,"#,
            r#""long":-9223372036854775808,"unsigned":18446744073709551615,"fits":5,"#,
            r#""huge":-170141183460469231731687303715884105728,"#,
            r#""huger":340282366920938463463374607431768211455,"float":1.5,"whole":2.0,"#,
            r#""single":0.5,"nan":"NaN","endless":"-Infinity","some":3,"text":"a\"b\nc","#,
            r#""display":"1.5","debug":"Some(\"x\")","bytes":"[01 ff]"}"#,
        )
    );
}

#[test]
fn errors_are_stored_with_their_source_chain() {
    #[derive(Debug)]
    struct Failure(&'static str, Option<Box<Failure>>);
    impl fmt::Display for Failure {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }
    impl std::error::Error for Failure {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(self.1.as_deref()?)
        }
    }
    /// One that never ends.
    #[derive(Debug)]
    struct Circular;
    impl fmt::Display for Circular {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("again")
        }
    }
    impl std::error::Error for Circular {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&Circular)
        }
    }

    let routed = Routed::to(&["github"]);
    let refused = Failure("connection refused", None);
    let failure = Failure(
        "call failed",
        Some(Box::new(Failure("no route", Some(Box::new(refused))))),
    );
    routed.run(|| {
        error!(
            component = "github",
            error = &failure as &(dyn std::error::Error + 'static),
            "one"
        );
        error!(
            component = "github",
            error = &Circular as &(dyn std::error::Error + 'static),
            "two"
        );
    });
    let records = routed.records();
    assert_eq!(
        records[0].1.attribute("error"),
        Some(&Value::from("call failed: no route: connection refused"))
    );
    let Some(Value::String(endless)) = records[1].1.attribute("error") else {
        panic!("{records:?}");
    };
    assert_eq!(endless.matches("again").count(), 33);
}

#[test]
fn the_message_is_text_of_any_length_and_may_be_missing() {
    let routed = Routed::to(&["github"]);
    // Where the head of a string changes its length.
    let lengths = [0, 1, 31, 32, 255, 256, 65_535, 65_536];
    routed.run(|| {
        for length in lengths {
            let text = "é".repeat(length / 2) + &"x".repeat(length % 2);
            info!(component = "github", plain = text, shown = %text, "{text}");
        }
        info!(message = 5, component = "github");
        info!(message = true, component = "github");
        info!(message = 0.5, component = "github");
        info!(message = u128::MAX, component = "github");
        info!(component = "github", plain = "", shown = "");
    });
    let records = routed.records();
    assert_eq!(records.len(), lengths.len() + 5);
    for ((_, record), length) in records.iter().zip(lengths) {
        assert_eq!(record.message.len(), length);
        for key in ["plain", "shown"] {
            assert_eq!(record.attribute(key), Some(&Value::from(&*record.message)));
        }
    }
    let others: Vec<&str> = records[lengths.len()..]
        .iter()
        .map(|(_, record)| &*record.message)
        .collect();
    assert_eq!(
        others,
        [
            "5",
            "true",
            "0.5",
            "340282366920938463463374607431768211455",
            ""
        ]
    );
}

#[test]
fn an_event_may_have_as_many_fields_as_tracing_allows() {
    let routed = Routed::to(&["github"]);
    routed.run(|| {
        info!(
            component = "github",
            a = 1,
            b = 2,
            c = 3,
            d = 4,
            e = 5,
            f = 6,
            g = 7,
            h = 8,
            i = 9,
            j = 10,
            k = 11,
            l = 12,
            m = 13,
            n = 14,
            o = 15,
            p = 16,
            q = 17,
            r = 18,
            s = 19,
            t = 20,
            u = 21,
            v = 22,
            w = 23,
            x = 24,
            y = 25,
            z = 26,
            aa = 27,
            bb = 28,
            cc = 29,
            dd = 30,
            "one"
        );
    });
    let (_, record) = &routed.records()[0];
    assert_eq!(record.attributes.len(), 31);
    assert_eq!(record.attribute("dd"), Some(&Value::Int(30)));
}

#[test]
fn names_that_mean_something_in_a_line_do_not_change_it() {
    let routed = Routed::to(&["github"]);
    let before = Timestamp::now();
    routed.run(|| {
        let _span = info_span!("msg", message = "of the span", ts = 1).entered();
        error!(
            component = "github",
            ts = "1999-01-01T00:00:00Z",
            level = 3,
            msg = "another",
            r#type = "raw",
            dotted.name = 1,
            "quoted name" = 2,
            "log.file.path" = "kept",
            "the message"
        );
    });
    let (_, record) = routed.records().remove(0);
    assert!(record.timestamp >= before && record.timestamp <= Timestamp::now());
    assert_eq!(
        routed.line(),
        concat!(
            r#"github: {"level":"ERROR","msg":"the message","component":"github","#,
            r#""ts":"1999-01-01T00:00:00Z","level":3,"msg":"another","type":"raw","#,
            r#""dotted.name":1,"quoted name":2,"log.file.path":"kept","#,
            r#""msg":{"message":"of the span","ts":1}}"#,
        )
    );
    // Whoever reads the line takes the first of each.
    let mut line = Vec::new();
    record.write_line(&mut line);
    let Ok(ParsedLine::Logs(read)) = parse_line(Signal::Logs, line.trim_ascii_end()) else {
        panic!();
    };
    assert_eq!(read, [(None, record)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_text_comes_back(
        message: String,
        text in ".{0,300}",
        own in "\\PC{0,40}",
        number: i64,
        huge: i128,
    ) {
        let routed = Routed::to(&["github"]);
        routed.run(|| {
            let _span = info_span!("call", component = "github", own).entered();
            info!(shown = %text, debug = ?text, number, huge, "{message}");
        });
        let (_, record) = routed.records().remove(0);
        prop_assert_eq!(&record.message, &message);
        prop_assert_eq!(record.attribute("shown"), Some(&Value::from(&*text)));
        prop_assert_eq!(record.attribute("debug"), Some(&Value::from(format!("{text:?}"))));
        prop_assert_eq!(record.attribute("number"), Some(&Value::Int(number)));
        let huge = match (i64::try_from(huge), u64::try_from(huge)) {
            (Ok(huge), _) => Value::Int(huge),
            (_, Ok(huge)) => Value::UInt(huge),
            _ => Value::Number(huge.to_string().into()),
        };
        prop_assert_eq!(record.attribute("huge"), Some(&huge));
        prop_assert_eq!(
            record.attribute("call"),
            Some(&Value::Object(vec![
                ("component".into(), "github".into()),
                ("own".into(), own.into()),
            ]))
        );
        routed.line();
    }
}

// Bad input.

/// Formats itself without end, and counts how far it came.
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
        // The key is found behind it as well.
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
            ("github", DropCause::TooLarge, 7),
            ("slack", DropCause::TooLarge, 1)
        ]
    );
    assert_eq!(stats.offered, 8);
    assert_eq!(routed.messages(), [""; 0]);
    // In the ledger, too.
    let losses = routed.store.snapshot().unwrap().losses(..).unwrap();
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
fn a_value_that_logs_while_it_is_formatted_is_stored_with_what_it_logs() {
    as_a_daemon("values that log");
}

fn values_that_log(routed: &Routed) {
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
        // Formatted while the span is being written to, and logging inside of it.
        span.record("later", tracing::field::debug(Logs));
        info!("two");
    });
    let inside = r#"slack: {"level":"INFO","msg":"inside","component":"slack","inner":"Some(1)"}"#;
    assert_eq!(
        routed.lines(),
        [
            // An event has the time at which it began.
            r#"github: {"level":"INFO","msg":"outside formatted","component":"github","before":1,"value":"formatted","after":2}"#,
            inside,
            inside,
            inside,
            // Inside of the span, it goes where the span says.
            r#"github: {"level":"INFO","msg":"inside","component":"slack","inner":"Some(1)","component":"github","call":{"component":"github","value":"formatted"}}"#,
            r#"github: {"level":"INFO","msg":"two","component":"github","call":{"component":"github","value":"formatted","later":"formatted"}}"#,
        ]
    );
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
fn events_after_the_writer_closed_are_counted() {
    let home = home();
    let store = common::open(home.path());
    let (writer, guard) = Writer::start(&store, &on_demand()).unwrap();
    let router = LogRouter::new(writer.clone());
    router.add_server("github", all()).unwrap();
    let subscriber = tracing_subscriber::registry().with(router.layer());
    guard.close().unwrap();
    tracing::subscriber::with_default(subscriber, || info!(component = "github", "one"));
    let stats = writer.stats();
    assert_eq!(
        (stats.offered, stats.dropped[0].cause),
        (1, DropCause::Closed)
    );
}

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
        // Each thread's events in their order.
        assert_eq!(*event, seen[thread]);
        seen[thread] += 1;
        assert_eq!(&*server, ["github", "slack"][thread % 2]);
    }
    assert_eq!(seen, [i64::try_from(EVENTS).unwrap(); THREADS]);
}

// The `log` crate.

#[test]
fn records_of_the_log_crate_route_as_well() {
    // Once in this process: whichever test comes first.
    let _ = tracing_log::LogTracer::init();
    let routed = Routed::to(&["github"]);
    routed.run(|| {
        log::info!("nobody");
        let _span = info_span!("call", component = "github").entered();
        log::error!("one {}", 1);
        log::trace!("two");
    });
    assert_eq!(
        routed.lines(),
        [
            r#"github: {"level":"ERROR","msg":"one 1","component":"github","call":{"component":"github"}}"#,
            r#"github: {"level":"DEBUG-4","msg":"two","component":"github","call":{"component":"github"}}"#,
        ]
    );
    routed.router.close();
    let counts = Counts::default();
    routed.run(|| log::error!("{counts}"));
    assert_eq!(counts.count(), 0);
}

// What takes a process of its own: the subscriber is the process's, as it is in a daemon.

/// Runs one of the cases below in such a process.
fn as_a_daemon(case: &str) {
    common::Helper::start("helper_is_a_daemon", &[case]).end();
}

#[test]
fn helper_is_a_daemon() {
    let Some(arguments) = helper_arguments() else {
        return;
    };
    let case = match &*arguments[0] {
        "disabled callsites" => disabled_callsites,
        "verbose spans" => verbose_spans,
        "values that log" => values_that_log,
        "threads that end" => threads_that_end,
        other => panic!("{other}"),
    };
    let routed = Routed::alone();
    dispatcher::set_global_default(routed.dispatch()).unwrap();
    case(&routed);
}

#[test]
fn an_event_of_a_thread_that_ends_is_stored() {
    as_a_daemon("threads that end");
}

fn threads_that_end(routed: &Routed) {
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
        // Dropped behind what the router keeps for the thread, for that comes later.
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
