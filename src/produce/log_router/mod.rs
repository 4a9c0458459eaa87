//! The log router: stores log events of a `tracing` subscriber under the server that each names.

mod fields;
mod layer;
mod panic_hook;
#[cfg(feature = "otel-sdk")]
mod trace_ids;
mod unrouted;

pub use self::{
    layer::{RouterFilter, RouterLayer},
    panic_hook::{PanicHook, PanicOptions},
    unrouted::{UnroutedEvents, UnroutedKey},
};

use crate::{error::Result, ingest::Writer, record::ServerName};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{Layer, filter::Filtered, registry::LookupSpan};

/// Stores every log event that names a configured server.
///
/// The fields `component`, `server` and `server.name`, of the event or of a span around it, may name
/// the server. The nearest configured name wins: that of the nearest span, then of its parents, then
/// the event's own; on the same span or event, in the order of the fields above. A name that is not
/// configured is skipped, so an argument of an instrumented function that happens to have one of
/// these names does not hide the server of an outer span.
///
/// An event that names only servers that are not configured is [counted](LogRouter::unrouted) and not
/// stored, unless a [server for unrouted events](LogRouter::add_unrouted_server) takes it.
///
/// A stored record has the shape of a slog line: the event's fields, then its `target`, and its
/// `file` and `line` if [`LogOptions`] say so, then the key and a `trace_id` taken from a span, then each span's fields as a group with the span's name, nested like the
/// spans, for the nearest 32 spans. A span's fields are formatted once when they are recorded, not
/// for each event; fields recorded later apply to later events. Integers, floats and booleans keep
/// their type, an error is stored with its chain of sources, and every other value is stored as a
/// string.
///
/// With the feature `otel-sdk`, an event in a span of `tracing-opentelemetry` is stored with the
/// `trace_id` and `span_id` of that span, in whichever order the layers are added. A `trace_id` or
/// `span_id` that the application sets is kept, and a `trace_id` on a span also counts as set.
///
/// An event larger than [`WriterOptions::record_bytes_max`](crate::WriterOptions) is dropped and
/// counted without being formatted completely. The level of a span does not matter if it names the
/// server. Spans more verbose than INFO that name no server are stored only with the events of
/// servers that store that level.
///
/// Events with the field `subsystem="telemetry"`, on the event or on one of its spans, and events
/// of the writer thread are never stored: storing them would cause new ones without end.
///
/// A router is a handle: clones share their servers. Add [`LogRouter::layer`] to the subscriber
/// beside the application's own layers.
///
/// ```
/// use gridctl_telemetry::{ServerName, logs::{LogOptions, LogRouter}};
/// use tracing_subscriber::prelude::*;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let home = tempfile::tempdir()?;
/// # let store = gridctl_telemetry::Store::open(home.path(), "s", Default::default())?;
/// # let (writer, _guard) = gridctl_telemetry::Writer::start(&store, Default::default())?;
/// let router = LogRouter::new(writer);
/// let subscriber = tracing_subscriber::registry().with(router.layer());
/// router.add_server("github", LogOptions::default())?;
/// tracing::subscriber::with_default(subscriber, || {
///     tracing::info!(component = "github", tool = "search", "tool call completed");
/// });
/// assert_eq!(router.configured_servers(), [ServerName::new("github")?]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct LogRouter {
    shared: Arc<Shared>,
}

/// The options of one server's log events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct LogOptions {
    level: LevelFilter,
    target: bool,
    location: bool,
}

impl LogOptions {
    /// Sets the most verbose level that is stored. Default: INFO.
    pub fn level(mut self, level: impl Into<LevelFilter>) -> LogOptions {
        self.level = level.into();
        self
    }

    /// Sets whether the target of an event, usually its module, is stored as the field `target`.
    /// Default: yes. A field `target` of the event itself is kept instead.
    pub fn target(mut self, is_stored: bool) -> LogOptions {
        self.target = is_stored;
        self
    }

    /// Sets whether the source file and line of an event are stored as the fields `file` and `line`.
    /// Default: no. Fields of these names of the event itself are kept instead.
    pub fn location(mut self, is_stored: bool) -> LogOptions {
        self.location = is_stored;
        self
    }
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions {
            level: LevelFilter::INFO,
            target: true,
            location: false,
        }
    }
}

#[derive(Debug)]
struct Shared {
    writer: Writer,
    servers: RwLock<Servers>,
    /// Whether there is a server for unrouted events. Read before the lock is taken, because
    /// without one an event that names no server costs next to nothing.
    takes_unrouted: AtomicBool,
    unrouted: Mutex<UnroutedEvents>,
}

#[derive(Debug)]
struct Servers {
    by_name: BTreeMap<ServerName, LogOptions>,
    /// The server for unrouted events, which is also in `by_name`.
    unrouted: Option<ServerName>,
    /// The most verbose level that any server stores.
    level: LevelFilter,
}

/// A configured server and its options.
#[derive(Debug)]
struct Route {
    server: ServerName,
    options: LogOptions,
}

impl Servers {
    fn find(&self, name: &str) -> Option<Route> {
        let (server, options) = self.by_name.get_key_value(name)?;
        Some(Route {
            server: server.clone(),
            options: *options,
        })
    }
}

impl LogRouter {
    /// A router without servers that writes through `writer`.
    #[must_use]
    pub fn new(writer: Writer) -> LogRouter {
        let servers = Servers {
            by_name: BTreeMap::new(),
            unrouted: None,
            level: LevelFilter::OFF,
        };
        LogRouter {
            shared: Arc::new(Shared {
                writer,
                servers: RwLock::new(servers),
                takes_unrouted: AtomicBool::new(false),
                unrouted: Mutex::default(),
            }),
        }
    }

    /// The layer that stores events, with a filter of its own: callsites that no server stores are
    /// as cheap as disabled ones, and other layers are not affected.
    #[must_use]
    pub fn layer<S>(&self) -> Filtered<RouterLayer, RouterFilter, S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        RouterLayer::new(Arc::clone(&self.shared))
            .with_filter(RouterFilter::new(Arc::clone(&self.shared)))
    }

    /// Stores the events of `server` from now on. If the server is configured already, its options
    /// are replaced.
    ///
    /// Fails with [`Error::InvalidServerName`](crate::Error::InvalidServerName).
    pub fn add_server(&self, server: impl AsRef<str>, options: LogOptions) -> Result<()> {
        let server = ServerName::new(server)?;
        self.change(|servers| {
            servers.by_name.insert(server, options);
        });
        Ok(())
    }

    /// Stores from now on the events of `server` and all unrouted events: those that name no
    /// configured server, or no server at all. There is one such server: it replaces the one named
    /// before, which then stores its own events alone. Off by default.
    ///
    /// Fails with [`Error::InvalidServerName`](crate::Error::InvalidServerName).
    pub fn add_unrouted_server(&self, server: impl AsRef<str>, options: LogOptions) -> Result<()> {
        let server = ServerName::new(server)?;
        self.change(|servers| {
            servers.unrouted = Some(server.clone());
            servers.by_name.insert(server, options);
        });
        Ok(())
    }

    /// Stops storing events of `server`, and unrouted events if it took them. Stored records are
    /// kept.
    pub fn remove_server(&self, server: &str) {
        self.change(|servers| {
            servers.by_name.remove(server);
            servers.unrouted.take_if(|unrouted| **unrouted == *server);
        });
    }

    /// The servers whose events are stored, sorted.
    #[must_use]
    pub fn configured_servers(&self) -> Vec<ServerName> {
        self.shared
            .read(|servers| servers.by_name.keys().cloned().collect())
    }

    /// The options of `server`, if it is configured.
    #[must_use]
    pub fn options(&self, server: &str) -> Option<LogOptions> {
        self.shared
            .read(|servers| servers.by_name.get(server).copied())
    }

    /// The server for unrouted events, if there is one.
    #[must_use]
    pub fn unrouted_server(&self) -> Option<ServerName> {
        self.shared.read(|servers| servers.unrouted.clone())
    }

    /// The number of events that named only servers that are not configured, by name. Events more
    /// verbose than the levels of all servers do not reach the router and are not counted.
    #[must_use]
    pub fn unrouted(&self) -> UnroutedEvents {
        let unrouted = self.shared.unrouted.lock();
        unrouted.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Removes all servers. The router can still be used.
    pub fn close(&self) {
        self.change(|servers| {
            servers.by_name.clear();
            servers.unrouted = None;
        });
    }

    fn change(&self, change: impl FnOnce(&mut Servers)) {
        {
            let mut servers = self
                .shared
                .servers
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            change(&mut servers);
            servers.level = servers
                .by_name
                .values()
                .map(|options| options.level)
                .max()
                .unwrap_or(LevelFilter::OFF);
            let takes_unrouted = servers.unrouted.is_some();
            self.shared
                .takes_unrouted
                .store(takes_unrouted, Ordering::Release);
        }
        // Callsites cache that no layer is interested; without this, no events of a new server
        // would arrive.
        tracing::callsite::rebuild_interest_cache();
    }
}

impl Shared {
    fn read<T>(&self, read: impl FnOnce(&Servers) -> T) -> T {
        read(&self.servers.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The configured server with this name.
    fn find(&self, name: &str) -> Option<Route> {
        self.read(|servers| servers.find(name))
    }

    fn takes_unrouted(&self) -> bool {
        self.takes_unrouted.load(Ordering::Acquire)
    }

    /// The server for unrouted events.
    fn unrouted_route(&self) -> Option<Route> {
        self.read(|servers| servers.find(servers.unrouted.as_ref()?))
    }

    fn level(&self) -> LevelFilter {
        self.read(|servers| servers.level)
    }
}

/// The beginning of `text`, at most `bytes_max` bytes of it.
fn prefix(text: &str, bytes_max: usize) -> &str {
    let end = (0..=bytes_max.min(text.len())).rfind(|end| text.is_char_boundary(*end));
    end.and_then(|end| text.get(..end)).unwrap_or_default()
}
