//! A store, its writer and a router, and layers that watch the router.

use crate::common::{home, on_demand, open_with_disk};
use gridctl_telemetry::{
    LogRecord, Query, ServerName, Signal, Store, Writer, WriterGuard,
    lines::{LineFormat, LineWriter, ParsedLine, parse_line},
    logs::{LogOptions, LogRouter},
    testing::DiskOperation,
};
use std::{
    fmt,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};
use tempfile::TempDir;
use tracing::{
    Dispatch, Event, Metadata, Subscriber, dispatcher, level_filters::LevelFilter,
    subscriber::NoSubscriber,
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
};

/// A store, its writer, and a router without servers.
pub(crate) struct Routed {
    pub(crate) store: Store,
    pub(crate) writer: Writer,
    _guard: WriterGuard,
    pub(crate) router: LogRouter,
    _home: TempDir,
}

impl Routed {
    pub(crate) fn new() -> Routed {
        Routed::with_disk(|_| {})
    }

    /// A router whose store's disk calls `hook` before each operation.
    pub(crate) fn with_disk(hook: impl Fn(DiskOperation<'_>) + Send + Sync + 'static) -> Routed {
        keep_several_subscribers();
        Routed::start(hook)
    }

    /// A router in a process that has no other subscriber.
    pub(crate) fn alone() -> Routed {
        Routed::start(|_| {})
    }

    fn start(hook: impl Fn(DiskOperation<'_>) + Send + Sync + 'static) -> Routed {
        let home = home();
        let store = open_with_disk(home.path(), hook);
        let (writer, guard) = Writer::start(&store, on_demand()).unwrap();
        Routed {
            router: LogRouter::new(writer.clone()),
            writer,
            _guard: guard,
            store,
            _home: home,
        }
    }

    /// A router with these servers, which store events of every level.
    pub(crate) fn to(servers: &[&str]) -> Routed {
        let routed = Routed::new();
        for server in servers {
            routed.router.add_server(server, all()).unwrap();
        }
        routed
    }

    pub(crate) fn dispatch(&self) -> Dispatch {
        Dispatch::new(tracing_subscriber::registry().with(self.router.layer()))
    }

    /// Runs `work` with the router's layer as the only one.
    pub(crate) fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        dispatcher::with_default(&self.dispatch(), work)
    }

    /// The stored records by time, each with its server.
    pub(crate) fn records(&self) -> Vec<(ServerName, LogRecord)> {
        self.writer.flush().unwrap();
        let records = self.store.scan(&Query::new(Signal::Logs)).unwrap();
        records
            .map(|stored| {
                let stored = stored.unwrap();
                (stored.server, stored.record.into_log().unwrap())
            })
            .collect()
    }

    /// The stored records as lines that begin with the server and have no time.
    ///
    /// Checks that the exported lines of both formats hold exactly the decoded record.
    pub(crate) fn lines(&self) -> Vec<String> {
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
            // As text, because a NaN is not equal to itself.
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

    /// The only stored line.
    pub(crate) fn line(&self) -> String {
        let lines = self.lines();
        let [line] = &lines[..] else {
            panic!("{lines:?}")
        };
        line.clone()
    }

    /// The stored messages, each as `server: message`.
    pub(crate) fn messages(&self) -> Vec<String> {
        self.records()
            .into_iter()
            .map(|(server, record)| format!("{server}: {}", record.message))
            .collect()
    }
}

/// While a process has only one subscriber, `tracing` asks that of the current thread which events
/// are enabled on all threads. That is right for the global subscriber of a daemon, and wrong here,
/// where tests on other threads have their own.
fn keep_several_subscribers() {
    static KEPT: OnceLock<[Dispatch; 2]> = OnceLock::new();
    KEPT.get_or_init(|| [0; 2].map(|_| Dispatch::new(NoSubscriber::new())));
}

/// Options that store events of every level.
pub(crate) fn all() -> LogOptions {
    LogOptions::default()
        .level(LevelFilter::TRACE)
        .target(false)
}

/// A value that counts how often it is formatted.
#[derive(Default)]
pub(crate) struct Counts(AtomicUsize);

impl Counts {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fetch_add(1, Ordering::Relaxed);
        f.write_str("formatted")
    }
}

/// Another layer of the application, which remembers the events that it sees.
#[derive(Clone, Default)]
pub(crate) struct Sibling(pub(crate) Arc<Mutex<Vec<&'static Metadata<'static>>>>);

impl<S: Subscriber> Layer<S> for Sibling {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.0.lock().unwrap().push(event.metadata());
    }
}

impl Sibling {
    pub(crate) fn seen(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}
