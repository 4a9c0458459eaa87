//! A panic hook that stores each panic as a log record.
//!
//! A hook runs on the thread that panics, which may hold any lock, so it does as little as possible
//! there. A thread of its own looks up the server, offers the record and flushes; the hook waits for
//! it no longer than its timeout. A panic inside a hook would abort the process, so the hook calls
//! nothing that panics.

use super::{LogRouter, Route, Shared, layer::RouterLayer, prefix};
use crate::{
    ingest::is_writer_thread,
    record::{Level, LogRecord, ServerName},
    time::Timestamp,
};
use crossbeam::channel::{Sender, bounded};
use std::{
    cell::Cell,
    panic::{self, PanicHookInfo},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};
use tracing::{Dispatch, dispatcher, span};

/// Maximum size of the message of a panic that is stored, in bytes.
const MESSAGE_BYTES_MAX: usize = 16 << 10;

/// Stores each panic of the process as a log record of level ERROR, while this value exists.
///
/// The message of the record says which thread panicked, where, and with which message; the fields
/// `thread`, `file`, `line` and `column` have the parts. The record goes to the server that the
/// current span of the thread names, else to [`PanicOptions::server`], else to the router's
/// [server for unrouted events](LogRouter::add_unrouted_server). These must be configured servers of
/// the router; without one, the panic is not stored.
///
/// The hook stores the panic and flushes, waits for that at most [`PanicOptions::timeout`], and then
/// calls the hook that was installed before. It never panics itself. A panic of the writer thread is
/// not stored, because that thread would have to store it.
///
/// ```
/// use gridctl_telemetry::logs::{LogOptions, LogRouter, PanicHook, PanicOptions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let home = tempfile::tempdir()?;
/// # let store = gridctl_telemetry::Store::open(home.path(), "s", Default::default())?;
/// # let (writer, _guard) = gridctl_telemetry::Writer::start(&store, Default::default())?;
/// let router = LogRouter::new(writer);
/// router.add_server("gateway", LogOptions::default())?;
/// let gateway = gridctl_telemetry::ServerName::new("gateway")?;
/// let hook = PanicHook::install(&router, PanicOptions::default().server(gateway));
/// assert!(std::thread::spawn(|| panic!("no route")).join().is_err());
/// hook.restore();
/// # assert_eq!(store.snapshot()?.inventory(None)?.len(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "panics are stored only while the hook exists"]
pub struct PanicHook {
    /// The installed closure has the weak side.
    state: Arc<State>,
}

/// The options of a [`PanicHook`].
#[derive(Debug, Clone)]
#[must_use]
pub struct PanicOptions {
    server: Option<ServerName>,
    timeout: Duration,
}

impl PanicOptions {
    /// The default of [`PanicOptions::timeout`].
    pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(2);

    /// Sets the server of panics outside of spans that name a configured server. Default: none.
    pub fn server(mut self, server: ServerName) -> PanicOptions {
        self.server = Some(server);
        self
    }

    /// Sets the longest time that a panicking thread waits until the panic is on the disk. Default:
    /// 2 seconds.
    pub fn timeout(mut self, timeout: Duration) -> PanicOptions {
        self.timeout = timeout;
        self
    }
}

impl Default for PanicOptions {
    fn default() -> PanicOptions {
        PanicOptions {
            server: None,
            timeout: PanicOptions::TIMEOUT_DEFAULT,
        }
    }
}

#[derive(Debug)]
struct State {
    shared: Arc<Shared>,
    options: PanicOptions,
    /// Whether the hook was restored, while a thread that stores a panic may still have the state.
    is_restored: AtomicBool,
}

impl PanicHook {
    /// Installs the hook in front of the present one. On a thread that is panicking it has no
    /// effect, because a hook cannot be changed there.
    pub fn install(router: &LogRouter, options: PanicOptions) -> PanicHook {
        let state = Arc::new(State {
            shared: Arc::clone(&router.shared),
            options,
            is_restored: AtomicBool::new(false),
        });
        if !thread::panicking() {
            let weak = Arc::downgrade(&state);
            let previous = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                if IS_STORING.try_with(Cell::get).unwrap_or(true) {
                    return;
                }
                if let Some(state) = Weak::upgrade(&weak)
                    && !state.is_restored.load(Ordering::Relaxed)
                {
                    state.store(info);
                }
                previous(info);
            }));
        }
        PanicHook { state }
    }

    /// Stores no more panics, as dropping the hook does. The hook that was installed before runs as
    /// if this one had never been; so do hooks that were installed later.
    pub fn restore(self) {
        // The closure stays in the chain, because a later hook may call it, and only passes on.
    }
}

impl Drop for PanicHook {
    fn drop(&mut self) {
        self.state.is_restored.store(true, Ordering::Relaxed);
    }
}

thread_local! {
    /// Whether this is a thread that stores a panic. Its own panic must not start another one.
    static IS_STORING: Cell<bool> = const { Cell::new(false) };
}

impl State {
    /// Runs on the thread that panics.
    fn store(self: Arc<State>, info: &PanicHookInfo<'_>) {
        if is_writer_thread() {
            return;
        }
        let span = dispatcher::get_default(|dispatch| {
            Some((dispatch.clone(), dispatch.current_span().id()?.clone()))
        });
        let record = record_of(info);
        let timeout = self.options.timeout;
        let (done, wait) = bounded(1);
        let storing = move || {
            IS_STORING.set(true);
            self.offer(span.as_ref(), record, &done);
        };
        let thread = thread::Builder::new().name("gridctl-panic".to_owned());
        if thread.spawn(storing).is_ok() {
            // Whether it is stored or too late, the panic goes on.
            let _ = wait.recv_timeout(timeout);
        }
    }

    fn offer(&self, span: Option<&(Dispatch, span::Id)>, record: LogRecord, done: &Sender<()>) {
        let of_span = span.and_then(|(dispatch, id)| {
            let layer = dispatch.downcast_ref::<RouterLayer>()?;
            layer.route_of(&self.shared, dispatch, id)
        });
        let named = || {
            Some((
                self.shared.find(self.options.server.as_deref()?)?,
                "component",
            ))
        };
        let rest = || Some((self.shared.unrouted_route()?, "component"));
        let found = of_span.or_else(named).or_else(rest);
        if let Some((Route { server, options }, key)) = found
            && tracing::Level::ERROR <= options.level
        {
            let record = record.with(key, server.as_str());
            // The writer has counted a drop, and a disk that fails is reported by its thread.
            let _ = self.shared.writer.log(&server, &record);
            let _ = self.shared.writer.flush();
        }
        let _ = done.try_send(());
    }
}

fn record_of(info: &PanicHookInfo<'_>) -> LogRecord {
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let text = prefix(text.unwrap_or("a value that is no text"), MESSAGE_BYTES_MAX);
    let thread = thread::current();
    let thread = thread.name().unwrap_or("<unnamed>");
    let place = info.location();
    let at = place.map_or_else(String::new, |place| format!(" at {place}"));
    let message = format!("thread '{thread}' panicked{at}: {text}");
    let record = LogRecord::new(Timestamp::now(), Level::ERROR, message).with("thread", thread);
    match place {
        Some(place) => record
            .with("file", place.file())
            .with("line", i64::from(place.line()))
            .with("column", i64::from(place.column())),
        None => record,
    }
}
