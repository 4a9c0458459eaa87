//! An OpenTelemetry SDK exporter that hands metrics to an [`OtlpWriter`].

use super::{OtlpWriter, span_exporter::flush};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_sdk::{
    error::OTelSdkResult,
    metrics::{Temporality, data::ResourceMetrics, exporter::PushMetricExporter},
};
use std::time::Duration;

/// Hands the SDK's metrics to an [`OtlpWriter`]: sums, gauges, histograms and exponential histograms,
/// each whole, as an import keeps them. Works with an `SdkMeterProvider`. Sums are cumulative.
///
/// Exporting never waits for the disk; flushing and shutting down the provider do. The SDK does not
/// learn of metrics that are not stored: the writer counts those that it drops.
///
/// ```
/// use gridctl_telemetry::{Signal, metrics::TelemetryMetricExporter, receive::OtlpWriter};
/// use opentelemetry_sdk::metrics::SdkMeterProvider;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let home = tempfile::tempdir()?;
/// # let store = gridctl_telemetry::Store::open(home.path(), "s", Default::default())?;
/// # let (writer, guard) = gridctl_telemetry::Writer::start(&store, Default::default())?;
/// let otlp = OtlpWriter::new(writer.clone());
/// otlp.add_server("gateway", Signal::Metrics)?; // the `service.name` of the resource
/// let provider = SdkMeterProvider::builder()
///     .with_periodic_exporter(TelemetryMetricExporter::new(otlp))
///     .build();
/// provider.shutdown()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TelemetryMetricExporter {
    otlp: OtlpWriter,
}

impl TelemetryMetricExporter {
    /// An exporter that hands its metrics to `otlp`.
    #[must_use]
    pub fn new(otlp: OtlpWriter) -> TelemetryMetricExporter {
        TelemetryMetricExporter { otlp }
    }
}

impl PushMetricExporter for TelemetryMetricExporter {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let _ = self.otlp.store(ExportMetricsServiceRequest::from(metrics));
        Ok(())
    }

    fn force_flush(&self) -> OTelSdkResult {
        flush(self.otlp.flush())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        flush(self.otlp.flush())
    }

    fn temporality(&self) -> Temporality {
        Temporality::Cumulative
    }
}
