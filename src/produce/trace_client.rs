//! The trace client: stores spans under the server that each names.

use super::{OtlpReason, OtlpWriter};
use crate::{error::Result, ingest::Writer, record::ServerName, signal::Signal};
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
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
    otlp: OtlpWriter,
    skipped: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
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
        TraceClient::over(OtlpWriter::new(writer))
    }

    /// A client that stores through `otlp` and shares its servers.
    #[must_use]
    pub fn over(otlp: OtlpWriter) -> TraceClient {
        TraceClient {
            otlp,
            skipped: Arc::default(),
        }
    }

    /// Stores the spans of `server` from now on.
    ///
    /// Fails with [`Error::InvalidServerName`](crate::Error::InvalidServerName).
    pub fn add_server(&self, server: impl AsRef<str>) -> Result<()> {
        self.otlp.add_server(server, Signal::Traces)
    }

    /// Stops storing spans of `server`. Stored records are kept.
    pub fn remove_server(&self, server: &str) {
        self.otlp.remove_server(server, Signal::Traces);
    }

    /// The servers whose spans are stored, sorted.
    #[must_use]
    pub fn configured_servers(&self) -> Vec<ServerName> {
        self.otlp.configured_servers(Signal::Traces)
    }

    /// Removes all servers. The client can still be used.
    pub fn close(&self) {
        self.otlp.close(Signal::Traces);
    }

    /// Offers a batch of spans to the writer. The writer counts those that it drops.
    pub fn upload(&self, batch: Vec<ResourceSpans>) {
        let outcome = self.otlp.store(batch);
        for (reason, count) in [
            (OtlpReason::WithoutServer, &self.skipped.without_server),
            (OtlpReason::NotConfigured, &self.skipped.not_configured),
        ] {
            count.fetch_add(outcome.rejected_for(reason), Ordering::Relaxed);
        }
    }

    /// The number of spans that were not offered to the writer.
    #[must_use]
    pub fn skipped(&self) -> SkippedSpans {
        SkippedSpans {
            without_server: self.skipped.without_server.load(Ordering::Relaxed),
            not_configured: self.skipped.not_configured.load(Ordering::Relaxed),
        }
    }

    /// Waits until all spans offered before are on the disk. Fails like [`Writer::flush`].
    pub fn flush(&self) -> Result<()> {
        self.otlp.flush()
    }
}
