//! An OpenTelemetry SDK exporter that hands log records to an [`OtlpWriter`].

use super::{OtlpWriter, span_exporter::flush};
use opentelemetry_proto::transform::{
    common::tonic::ResourceAttributesWithSchema, logs::tonic::group_logs_by_resource_and_scope,
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    logs::{LogBatch, LogExporter},
};
use std::time::Duration;

/// Hands the SDK's log records to an [`OtlpWriter`]. Works with an `SdkLoggerProvider`, with or
/// without a batch processor.
///
/// Exporting never waits for the disk; shutting down the provider does. The SDK does not learn of
/// records that are not stored: the writer counts those that it drops.
///
/// ```
/// use gridctl_telemetry::{Signal, logs::TelemetryLogExporter, receive::OtlpWriter};
/// use opentelemetry_sdk::logs::SdkLoggerProvider;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let home = tempfile::tempdir()?;
/// # let store = gridctl_telemetry::Store::open(home.path(), "s", Default::default())?;
/// # let (writer, guard) = gridctl_telemetry::Writer::start(&store, Default::default())?;
/// let otlp = OtlpWriter::new(writer.clone());
/// otlp.add_server("github", Signal::Logs)?;
/// let provider = SdkLoggerProvider::builder()
///     .with_batch_exporter(TelemetryLogExporter::new(otlp))
///     .build();
/// provider.shutdown()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TelemetryLogExporter {
    otlp: OtlpWriter,
    resource: ResourceAttributesWithSchema,
}

impl TelemetryLogExporter {
    /// An exporter that hands its log records to `otlp`.
    #[must_use]
    pub fn new(otlp: OtlpWriter) -> TelemetryLogExporter {
        TelemetryLogExporter {
            otlp,
            resource: ResourceAttributesWithSchema::default(),
        }
    }
}

impl LogExporter for TelemetryLogExporter {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let _ = self
            .otlp
            .store(group_logs_by_resource_and_scope(&batch, &self.resource));
        Ok(())
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.resource = resource.into();
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        flush(self.otlp.flush())
    }
}
