//! The panic hook stores a panic and hangs nothing, whatever panics where.
//!
//! A file of its own, and one test at a time: a hook is the process's.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{home, on_demand, open_with_disk, server, without_hang};
use gridctl_telemetry::{
    Level, LogRecord, Query, Signal, Store, Value, Writer, WriterGuard,
    logs::{LogOptions, LogRouter, PanicHook, PanicOptions},
    testing::DiskOperation,
};
use std::{
    panic::{self, AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};
use tempfile::TempDir;
use tracing::{Dispatch, Subscriber, dispatcher, info_span, span};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A router to `github` and `gateway`, and the hook of the application: it counts.
struct Panics {
    store: Store,
    writer: Writer,
    _guard: WriterGuard,
    router: LogRouter,
    seen: Arc<AtomicUsize>,
    _home: TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Panics {
    fn new() -> Panics {
        Panics::with_disk(|_| {})
    }

    fn with_disk(hook: impl Fn(DiskOperation<'_>) + Send + Sync + 'static) -> Panics {
        let alone = ONE_AT_A_TIME.lock();
        let home = home();
        let store = open_with_disk(home.path(), hook);
        let (writer, guard) = Writer::start(&store, on_demand()).unwrap();
        let router = LogRouter::new(writer.clone());
        for name in ["github", "gateway"] {
            router.add_server(name, LogOptions::default()).unwrap();
        }
        let seen = Arc::new(AtomicUsize::new(0));
        panic::set_hook({
            let seen = Arc::clone(&seen);
            Box::new(move |info| {
                eprintln!("{info}");
                seen.fetch_add(1, Ordering::Relaxed);
            })
        });
        Panics {
            store,
            writer,
            _guard: guard,
            router,
            seen,
            _home: home,
            _alone: alone.unwrap_or_else(PoisonError::into_inner),
        }
    }

    fn dispatch(&self) -> Dispatch {
        Dispatch::new(tracing_subscriber::registry().with(self.router.layer()))
    }

    /// How many panics the application's own hook has seen.
    fn seen(&self) -> usize {
        self.seen.load(Ordering::Relaxed)
    }

    /// What is on the disk, without a flush: servers and records.
    fn stored(&self) -> Vec<(String, LogRecord)> {
        let stored = self.store.last(&Query::new(Signal::Logs), 100).unwrap();
        (stored.into_iter())
            .map(|it| (it.server.to_string(), it.record.into_log().unwrap()))
            .collect()
    }
}

impl Drop for Panics {
    fn drop(&mut self) {
        if !thread::panicking() {
            _ = panic::take_hook();
        }
    }
}

/// Panics on this thread.
fn fail(panics: &Panics, work: impl FnOnce()) {
    let work = || dispatcher::with_default(&panics.dispatch(), work);
    catch_unwind(AssertUnwindSafe(work)).unwrap_err();
}

#[test]
fn a_panic_is_on_the_disk_when_it_unwinds() {
    let panics = Panics::new();
    let options = PanicOptions::default().server(server("gateway"));
    let hook = PanicHook::install(&panics.router, options);
    let line = line!() + 4;
    fail(&panics, || {
        let _call = info_span!("call", component = "github").entered();
        let _inner = info_span!("inner", server = "10.0.0.1:5432").entered();
        panic!("no {}", "route");
    });
    fail(&panics, || panic!("outside"));
    let worker = thread::Builder::new().name("worker".to_owned());
    let worker = worker.spawn(|| panic::panic_any(5)).unwrap();
    worker.join().unwrap_err();
    assert_eq!(panics.seen(), 3);

    let stored = panics.stored();
    let servers: Vec<_> = stored.iter().map(|(server, _)| &**server).collect();
    assert_eq!(servers, ["github", "gateway", "gateway"]);
    let (_, first) = &stored[0];
    assert_eq!(first.level, Level::ERROR);
    assert!(
        first
            .message
            .contains(" panicked at tests/stores_panics.rs:")
            && first.message.ends_with(": no route"),
        "{}",
        first.message
    );
    assert_eq!(first.attribute("file"), Some(&Value::from(file!())));
    assert_eq!(first.attribute("line"), Some(&Value::Int(line.into())));
    assert_eq!(first.component(), Some("github"));
    let (_, third) = &stored[2];
    assert_eq!(third.attribute("thread"), Some(&Value::from("worker")));
    assert!(third.message.ends_with(": a value that is no text"));

    // Without the hook, the application's own is left.
    hook.restore();
    fail(&panics, || panic!("unseen"));
    assert_eq!((panics.seen(), panics.stored().len()), (4, 3));
}

#[test]
fn a_panic_that_no_server_takes_is_passed_on() {
    let panics = Panics::new();
    let options = PanicOptions::default().server(server("not configured"));
    let _hook = PanicHook::install(&panics.router, options);
    fail(&panics, || panic!("one"));
    assert_eq!((panics.seen(), panics.stored().len()), (1, 0));
    panics
        .router
        .add_unrouted_server("daemon", LogOptions::default())
        .unwrap();
    fail(&panics, || panic!("two"));
    assert_eq!(panics.seen(), 2);
    assert_eq!(panics.stored()[0].0, "daemon");
}

#[test]
fn a_panic_of_the_writer_thread_hangs_nothing() {
    let panicking = Arc::new(AtomicBool::new(false));
    let panics = Panics::with_disk({
        let panicking = Arc::clone(&panicking);
        move |_| {
            let is_writer = thread::current().name() == Some("gridctl-telemetry");
            assert!(
                !(is_writer && panicking.load(Ordering::Relaxed)),
                "on purpose"
            );
        }
    });
    let options = PanicOptions::default()
        .server(server("gateway"))
        .timeout(common::HANG);
    let _hook = PanicHook::install(&panics.router, options);
    panicking.store(true, Ordering::Relaxed);
    let record = LogRecord::new(gridctl_telemetry::Timestamp::now(), Level::INFO, "one");
    panics.writer.log(&server("github"), &record).unwrap();
    let writer = panics.writer.clone();
    without_hang("a flush", move || writer.flush().unwrap_err());
    // The engine may panic again while its thread unwinds.
    let seen = panics.seen();
    assert!(seen > 0);
    // The writer is gone, and another panic has nowhere to go.
    panicking.store(false, Ordering::Relaxed);
    fail(&panics, || panic!("two"));
    assert!(panics.seen() > seen);
}

#[test]
fn a_disk_that_hangs_holds_a_panic_no_longer_than_its_timeout() {
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let panics = Panics::with_disk({
        let gate = Arc::clone(&gate);
        move |_| {
            let closed = gate.0.lock().unwrap();
            drop(gate.1.wait_while(closed, |closed| *closed).unwrap());
        }
    });
    let options = PanicOptions::default()
        .server(server("gateway"))
        .timeout(Duration::from_millis(50));
    let _hook = PanicHook::install(&panics.router, options);
    *gate.0.lock().unwrap() = true;
    fail(&panics, || panic!("one"));
    assert_eq!(panics.seen(), 1);
    *gate.0.lock().unwrap() = false;
    gate.1.notify_all();
    panics.writer.flush().unwrap();
    assert_eq!(panics.stored().len(), 1);
}

#[test]
fn a_panic_under_the_locks_of_a_span_hangs_nothing() {
    /// Panics while it holds the lock that the server of the span is found under.
    struct Holds;
    impl<S: Subscriber + for<'span> LookupSpan<'span>> Layer<S> for Holds {
        fn on_enter(&self, id: &span::Id, context: Context<'_, S>) {
            let span = context.span(id).unwrap();
            let _extensions = span.extensions_mut();
            panic!("under a lock");
        }
    }
    let panics = Panics::new();
    let options = PanicOptions::default()
        .server(server("gateway"))
        .timeout(Duration::from_millis(50));
    let _hook = PanicHook::install(&panics.router, options);
    let subscriber = tracing_subscriber::registry()
        .with(panics.router.layer())
        .with(Holds);
    let dispatch = Dispatch::new(subscriber);
    without_hang("a panic under a lock", move || {
        let work = || {
            dispatcher::with_default(&dispatch, || {
                info_span!("call", component = "github").in_scope(|| {});
            });
        };
        catch_unwind(AssertUnwindSafe(work)).unwrap_err();
    });
    assert_eq!(panics.seen(), 1);
}
