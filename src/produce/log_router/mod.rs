//! Log events of a `tracing` subscriber, to the server that each names.

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
/// The key is the field `component`, else `server`. Both count on the event and on the spans that
/// it happens in: a span's key wins over the event's own, the nearest span wins over its parents,
/// and `component` wins over `server` on the same one. An event whose key names no configured
/// server is not stored.
///
/// What is stored has the shape of a slog line: the event's fields, then the key and a `trace_id`
/// that came from a span, then each span's fields as a group of its name, nested as the spans are,
/// the nearest 32 of them. A span's fields are formatted when they are recorded and not once an
/// event; what is recorded later counts from then on. Integers, floats and booleans keep their type,
/// an error is stored with its chain of sources, and whatever is formatted is a string.
///
/// An event that is larger than [`WriterOptions::record_bytes_max`](crate::WriterOptions) is refused
/// and counted, without formatting all of it. An event is stored whatever the level of the spans
/// that name its server; spans more verbose than INFO that name none are stored with the events of
/// servers that want that level.
///
/// Events with the field `subsystem="telemetry"`, on them or on one of their spans, and whatever the
/// writer thread says, are never stored: a store that logs about itself into itself does not come to
/// rest.
///
/// A router is a handle: clones share their servers. [`LogRouter::layer`] goes into the subscriber
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

/// How the events of one server are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct LogOptions {
    level: LevelFilter,
}

impl LogOptions {
    /// The most verbose level that is stored. Default: INFO.
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
    /// The most verbose level that any of them stores.
    level: LevelFilter,
}

impl LogRouter {
    /// A router without servers that stores through `writer`.
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

    /// The layer that does the work, with a filter of its own: it makes callsites that nothing is
    /// stored of as cheap as disabled ones, and touches no other layer.
    #[must_use]
    pub fn layer<S>(&self) -> Filtered<RouterLayer, RouterFilter, S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        RouterLayer::new(Arc::clone(&self.shared))
            .with_filter(RouterFilter::new(Arc::clone(&self.shared)))
    }

    /// Stores the events of `server` from now on; a server that is known gets the new options.
    ///
    /// Fails with [`Error::InvalidServerName`](crate::Error::InvalidServerName).
    pub fn add_server(&self, server: impl AsRef<str>, options: LogOptions) -> Result<()> {
        let server = ServerName::new(server)?;
        self.change(|servers| {
            servers.insert(server, options);
        });
        Ok(())
    }

    /// Stores the events of `server` no longer. What is stored of it stays.
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

    /// Removes every server. The router stays usable.
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
        // Callsites remember that nobody listens; without this a new server would hear nothing.
        tracing::callsite::rebuild_interest_cache();
    }
}

impl Shared {
    fn read<T>(&self, read: impl FnOnce(&Servers) -> T) -> T {
        read(&self.servers.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The configured server of this name, if it stores events of `level`.
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
