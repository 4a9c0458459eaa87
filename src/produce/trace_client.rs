//! The trace client: stores spans under the server that each names.

use crate::{
    error::Result,
    ingest::Writer,
    otlp::server_names,
    record::{ServerName, SpanRecord},
};
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use std::{
    collections::BTreeSet,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// Stores each span under the server that its string attribute `server.name` names, or its attribute
/// `component` when that names a configured server and `server.name` does not, with its own resource,
/// scope and schema URLs. So one field of a `tracing` span, `component` or `server.name`, serves the
/// [`LogRouter`](super::LogRouter) and the client.
///
/// A client is a handle: clones share their servers and counts. No method waits for the disk except
/// [`TraceClient::flush`].
///
/// The writer refuses a span whose ids have lengths that OTLP does not allow, and counts it as
/// [`DropCause::Invalid`](crate::ingest::DropCause::Invalid).
///
/// ```
/// use gridctl_telemetry::traces::TraceClient;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let home = tempfile::tempdir()?;
/// # let home = home.path();
/// # let store = gridctl_telemetry::Store::open(home, "my-stack", Default::default())?;
/// # let (writer, guard) = gridctl_telemetry::Writer::start(&store, Default::default())?;
/// let client = TraceClient::new(writer.clone());
/// client.add_server("github")?;
/// client.upload(Vec::new()); // what an OTLP exporter would send
/// client.flush()?;
/// assert_eq!(client.skipped().without_server, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct TraceClient {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    writer: Writer,
    /// Replaced as a whole, so that a batch uses the same servers from start to end.
    servers: RwLock<Arc<BTreeSet<ServerName>>>,
    without_server: AtomicU64,
    not_configured: AtomicU64,
}

/// Spans that a [`TraceClient`] received and did not offer to the writer. Offered spans are counted
/// by the [`Writer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SkippedSpans {
    /// Spans without a valid server name in `server.name` or `component`.
    pub without_server: u64,
    /// Spans that name servers, none of which is configured.
    pub not_configured: u64,
}

impl TraceClient {
    /// A client without servers that writes through `writer`.
    #[must_use]
    pub fn new(writer: Writer) -> TraceClient {
        TraceClient {
            shared: Arc::new(Shared {
                writer,
                servers: RwLock::default(),
                without_server: AtomicU64::new(0),
                not_configured: AtomicU64::new(0),
            }),
        }
    }

    /// Stores the spans of `server` from now on.
    ///
    /// Fails with [`Error::InvalidServerName`](crate::Error::InvalidServerName).
    pub fn add_server(&self, server: impl AsRef<str>) -> Result<()> {
        let server = ServerName::new(server)?;
        self.change(|servers| _ = servers.insert(server));
        Ok(())
    }

    /// Stops storing spans of `server`. Stored records are kept.
    pub fn remove_server(&self, server: &str) {
        self.change(|servers| _ = servers.remove(server));
    }

    /// The servers whose spans are stored, sorted.
    #[must_use]
    pub fn configured_servers(&self) -> Vec<ServerName> {
        self.servers().iter().cloned().collect()
    }

    /// Removes all servers. The client can still be used.
    pub fn close(&self) {
        self.change(BTreeSet::clear);
    }

    /// Offers a batch of spans to the writer. The writer counts those that it drops.
    pub fn upload(&self, batch: Vec<ResourceSpans>) {
        // Read once for the batch, because the servers may change while it is encoded.
        let servers = self.servers();
        for resource_spans in batch {
            let mut record = SpanRecord {
                resource: resource_spans.resource,
                resource_schema_url: resource_spans.schema_url,
                ..SpanRecord::default()
            };
            for scope_spans in resource_spans.scope_spans {
                record.scope = scope_spans.scope;
                record.scope_schema_url = scope_spans.schema_url;
                for span in scope_spans.spans {
                    let mut is_named = false;
                    let server = server_names(&span).find_map(|name| {
                        is_named |= ServerName::is_valid(name);
                        servers.get(name).cloned()
                    });
                    if let Some(server) = server {
                        record.span = span;
                        // The writer counts a drop.
                        let _ = self.shared.writer.span(&server, &record);
                    } else {
                        let skipped = if is_named {
                            &self.shared.not_configured
                        } else {
                            &self.shared.without_server
                        };
                        skipped.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        }
    }

    /// The number of spans that were not offered to the writer.
    #[must_use]
    pub fn skipped(&self) -> SkippedSpans {
        SkippedSpans {
            without_server: self.shared.without_server.load(Ordering::Relaxed),
            not_configured: self.shared.not_configured.load(Ordering::Relaxed),
        }
    }

    /// Waits until all spans offered before are on the disk. Fails like [`Writer::flush`].
    pub fn flush(&self) -> Result<()> {
        self.shared.writer.flush()
    }

    fn servers(&self) -> Arc<BTreeSet<ServerName>> {
        let servers = self.shared.servers.read();
        Arc::clone(&servers.unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut BTreeSet<ServerName>)) {
        let servers = self.shared.servers.write();
        change(Arc::make_mut(
            &mut servers.unwrap_or_else(PoisonError::into_inner),
        ));
    }
}
