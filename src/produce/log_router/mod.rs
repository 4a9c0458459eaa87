//! The log router: stores log events of a `tracing` subscriber under the server that each names.

mod fields;
mod layer;

pub use self::layer::{RouterFilter, RouterLayer};

use crate::{error::Result, ingest::Writer, record::ServerName};
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};
use tracing::{Level, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{Layer, filter::Filtered, registry::LookupSpan};

/// Stores every log event whose routing key names a configured server.
///
/// The key is the field `component`, else `server`, of the event or of a span around it. A span's
/// key takes precedence over the event's own, the nearest span over its parents, and `component`
/// over `server` on the same span or event. An event whose key names no configured server is not
/// stored.
///
/// A stored record has the shape of a slog line: the event's fields, then the key and a `trace_id`
/// taken from a span, then each span's fields as a group with the span's name, nested like the
/// spans, for the nearest 32 spans. A span's fields are formatted once when they are recorded, not
/// for each event; fields recorded later apply to later events. Integers, floats and booleans keep
/// their type, an error is stored with its chain of sources, and every other value is stored as a
/// string.
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
}

impl LogOptions {
    /// Sets the most verbose level that is stored. Default: INFO.
    pub fn level(mut self, level: impl Into<LevelFilter>) -> LogOptions {
        self.level = level.into();
        self
    }
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions {
            level: LevelFilter::INFO,
        }
    }
}

#[derive(Debug)]
struct Shared {
    writer: Writer,
    servers: RwLock<Servers>,
}

#[derive(Debug)]
struct Servers {
    by_name: BTreeMap<ServerName, LogOptions>,
    /// The most verbose level that any server stores.
    level: LevelFilter,
}

impl LogRouter {
    /// A router without servers that writes through `writer`.
    #[must_use]
    pub fn new(writer: Writer) -> LogRouter {
        let servers = Servers {
            by_name: BTreeMap::new(),
            level: LevelFilter::OFF,
        };
        LogRouter {
            shared: Arc::new(Shared {
                writer,
                servers: RwLock::new(servers),
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
            servers.insert(server, options);
        });
        Ok(())
    }

    /// Stops storing events of `server`. Stored records are kept.
    pub fn remove_server(&self, server: &str) {
        self.change(|servers| {
            servers.remove(server);
        });
    }

    /// The servers whose events are stored, sorted.
    #[must_use]
    pub fn configured_servers(&self) -> Vec<ServerName> {
        self.shared
            .read(|servers| servers.by_name.keys().cloned().collect())
    }

    /// Removes all servers. The router can still be used.
    pub fn close(&self) {
        self.change(BTreeMap::clear);
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<ServerName, LogOptions>)) {
        {
            let mut servers = self
                .shared
                .servers
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            change(&mut servers.by_name);
            servers.level = servers
                .by_name
                .values()
                .map(|options| options.level)
                .max()
                .unwrap_or(LevelFilter::OFF);
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

    /// The configured server with this name, if it stores events of `level`.
    fn find(&self, name: &str, level: Level) -> Option<ServerName> {
        self.read(|servers| {
            let (server, options) = servers.by_name.get_key_value(name)?;
            (level <= options.level).then(|| server.clone())
        })
    }

    fn level(&self) -> LevelFilter {
        self.read(|servers| servers.level)
    }
}
