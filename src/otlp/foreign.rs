//! Foreign metrics: gauges, histograms and counters of other programs.
//!
//! A snapshot has no fields for such a metric. It is kept whole, with its resource and scope, under
//! the key [`OTLP`] of a snapshot whose own counters are zero. Seeding skips such a snapshot,
//! because it has no counters of this crate. The value under the key is OTLP/JSON, which `lines`
//! encodes.

use crate::{
    record::{MetricsSnapshot, TokenCounts, Value},
    time::Timestamp,
};
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric::Data};

/// The key of a foreign metric in a snapshot.
const OTLP: &str = "otlp";

/// A snapshot that holds a foreign metric, whose OTLP/JSON is `value`.
pub(crate) fn snapshot_of_foreign(timestamp: Timestamp, value: Value) -> MetricsSnapshot {
    let mut snapshot = MetricsSnapshot::new(timestamp);
    snapshot.extra.push((OTLP.to_owned(), value));
    snapshot
}

/// The OTLP/JSON of a foreign metric; `None` when the snapshot has counters of its own.
pub(crate) fn kept_foreign(snapshot: &MetricsSnapshot) -> Option<&Value> {
    match snapshot.extra.as_slice() {
        [(key, value @ Value::Object(_))] if key == OTLP => {
            let counts_something = snapshot.reset
                || snapshot.cost_reset
                || snapshot.diff != TokenCounts::default()
                || snapshot.total != TokenCounts::default()
                || snapshot.cost_diff.is_some()
                || snapshot.cost_total.is_some();
            (!counts_something).then_some(value)
        }
        _ => None,
    }
}

/// Whether a snapshot holds a foreign metric instead of counters.
pub(crate) fn is_foreign(snapshot: &MetricsSnapshot) -> bool {
    kept_foreign(snapshot).is_some()
}

/// The number of points of a metric.
pub(crate) fn data_points(metric: &Metric) -> u64 {
    let points = match &metric.data {
        Some(Data::Gauge(gauge)) => gauge.data_points.len(),
        Some(Data::Sum(sum)) => sum.data_points.len(),
        Some(Data::Histogram(histogram)) => histogram.data_points.len(),
        Some(Data::ExponentialHistogram(histogram)) => histogram.data_points.len(),
        Some(Data::Summary(summary)) => summary.data_points.len(),
        None => 0,
    };
    points as u64
}

/// The latest time among the metric's points; 1970 when it has none.
pub(crate) fn metric_time(metric: &Metric) -> Timestamp {
    let latest = match &metric.data {
        Some(Data::Gauge(gauge)) => gauge
            .data_points
            .iter()
            .map(|point| point.time_unix_nano)
            .max(),
        Some(Data::Sum(sum)) => sum
            .data_points
            .iter()
            .map(|point| point.time_unix_nano)
            .max(),
        Some(Data::Histogram(histogram)) => histogram
            .data_points
            .iter()
            .map(|point| point.time_unix_nano)
            .max(),
        Some(Data::ExponentialHistogram(histogram)) => histogram
            .data_points
            .iter()
            .map(|point| point.time_unix_nano)
            .max(),
        Some(Data::Summary(summary)) => summary
            .data_points
            .iter()
            .map(|point| point.time_unix_nano)
            .max(),
        None => None,
    };
    Timestamp::from_unix_nanos(i64::try_from(latest.unwrap_or(0)).unwrap_or(i64::MAX))
}
