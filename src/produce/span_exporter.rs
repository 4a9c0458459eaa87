//! An OpenTelemetry SDK exporter that hands spans to a [`TraceClient`].

use super::TraceClient;
use crate::error::{Error, Result};
use opentelemetry_proto::transform::{
    common::tonic::ResourceAttributesWithSchema, trace::tonic::group_spans_by_resource_and_scope,
};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{SpanData, SpanExporter},
};
use std::time::Duration;

/// Hands the SDK's spans to a [`TraceClient`]. Works with an `SdkTracerProvider`, with or without a
/// batch processor, and so with `tracing-opentelemetry`.
///
/// Exporting never waits for the disk; shutting down the provider does. The provider's
/// `force_flush` does not reach the disk, because the SDK's processors do not pass it on to
/// exporters: call [`TraceClient::flush`] after it.
///
/// ```
/// use gridctl_telemetry::traces::{TelemetrySpanExporter, TraceClient};
/// use opentelemetry_sdk::trace::SdkTracerProvider;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let home = tempfile::tempdir()?;
/// # let home = home.path();
/// # let store = gridctl_telemetry::Store::open(home, "my-stack", Default::default())?;
/// # let (writer, guard) = gridctl_telemetry::Writer::start(&store, Default::default())?;
/// let client = TraceClient::new(writer.clone());
/// client.add_server("github")?;
/// let provider = SdkTracerProvider::builder()
///     .with_batch_exporter(TelemetrySpanExporter::new(client))
///     .build();
/// provider.shutdown()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TelemetrySpanExporter {
    client: TraceClient,
    resource: ResourceAttributesWithSchema,
}

impl TelemetrySpanExporter {
    /// An exporter that hands its spans to `client`.
    #[must_use]
    pub fn new(client: TraceClient) -> TelemetrySpanExporter {
        TelemetrySpanExporter {
            client,
            resource: ResourceAttributesWithSchema::default(),
        }
    }
}

/// The outcome of a flush, for the SDK.
pub(super) fn flush(outcome: Result<()>) -> OTelSdkResult {
    match outcome {
        // A closed writer has flushed, so a provider may be shut down after the telemetry.
        Ok(()) | Err(Error::WriterClosed) => Ok(()),
        Err(error) => Err(OTelSdkError::InternalFailure(error.to_string())),
    }
}

impl SpanExporter for TelemetrySpanExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.client
            .upload(group_spans_by_resource_and_scope(batch, &self.resource));
        Ok(())
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.resource = resource.into();
    }

    fn force_flush(&self) -> OTelSdkResult {
        flush(self.client.flush())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        flush(self.client.flush())
    }
}
