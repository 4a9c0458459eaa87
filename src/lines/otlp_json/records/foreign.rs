//! Metrics of others: gauges, histograms and counters that gridctl does not count.
//!
//! A snapshot has no place for them, so such a metric is kept as it is: as OTLP/JSON, with its
//! resource and scope, under the key [`OTLP`] of a snapshot whose own counters are zero. That it
//! counts nothing is why nobody seeds from it.

use super::server_of;
use crate::{
    lines::{
        json::{JsonResult, Reader, read_value, write_value},
        otlp_json::{read_message, write_message},
    },
    record::{MetricsSnapshot, TokenCounts, Value},
    time::Timestamp,
};
use opentelemetry_proto::tonic::metrics::v1::{
    Metric, MetricsData, ResourceMetrics, ScopeMetrics, metric::Data,
};

/// The key under which a snapshot holds a metric that is not ours.
const OTLP: &str = "otlp";

/// Each metric of a message as a snapshot that holds it, with the server that its resource names.
///
/// Fails when one is nested deeper than a record can be.
pub(crate) fn keep_foreign(
    data: MetricsData,
) -> JsonResult<Vec<(Option<String>, MetricsSnapshot)>> {
    let mut snapshots = Vec::new();
    for resource_metrics in data.resource_metrics {
        let server = server_of(resource_metrics.resource.as_ref());
        for scope_metrics in resource_metrics.scope_metrics {
            for metric in scope_metrics.metrics {
                let timestamp = time_of(&metric);
                let kept = ResourceMetrics {
                    resource: resource_metrics.resource.clone(),
                    schema_url: resource_metrics.schema_url.clone(),
                    scope_metrics: vec![ScopeMetrics {
                        scope: scope_metrics.scope.clone(),
                        schema_url: scope_metrics.schema_url.clone(),
                        metrics: vec![metric],
                    }],
                };
                let mut text = Vec::new();
                write_message(&kept, &mut text);
                let mut reader = Reader::new(&text)?;
                let value = read_value(&mut reader)?;
                let mut snapshot = MetricsSnapshot::new(timestamp);
                snapshot.extra.push((OTLP.to_owned(), value));
                snapshots.push((server.clone(), snapshot));
            }
        }
    }
    Ok(snapshots)
}

/// The metric that a snapshot holds, if it is one that [`keep_foreign`] made.
pub(crate) fn foreign_metric(snapshot: &MetricsSnapshot) -> Option<ResourceMetrics> {
    let mut text = Vec::new();
    write_value(kept(snapshot)?, &mut text);
    let metric: ResourceMetrics = read_message(&text).ok()?;
    // Somebody's own key of this name is no metric, and what a reader ignores would be lost.
    let mut again = Vec::new();
    write_message(&metric, &mut again);
    (text == again).then_some(metric)
}

/// Whether a snapshot holds a metric that is not ours, and says nothing of our counters.
pub(crate) fn is_foreign(snapshot: &MetricsSnapshot) -> bool {
    kept(snapshot).is_some()
}

fn kept(snapshot: &MetricsSnapshot) -> Option<&Value> {
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

/// The latest time of a metric's points; 1970 when it has none.
fn time_of(metric: &Metric) -> Timestamp {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::otlp_json::arbitrary::{metric, resource, scope};
    use proptest::{collection::vec, option, prelude::*};
    use prost::Message as _;

    proptest! {
        #[test]
        fn any_metric_comes_back(
            resource in option::of(resource()),
            scope in option::of(scope()),
            metrics in vec(metric(), 1..3),
        ) {
            let data = MetricsData {
                resource_metrics: vec![ResourceMetrics {
                    resource: resource.clone(),
                    scope_metrics: vec![ScopeMetrics {
                        scope: scope.clone(),
                        metrics: metrics.clone(),
                        ..ScopeMetrics::default()
                    }],
                    ..ResourceMetrics::default()
                }],
            };
            // What is nested too deep is refused as a whole.
            if let Ok(snapshots) = keep_foreign(data) {
                prop_assert_eq!(snapshots.len(), metrics.len());
                for ((_, snapshot), metric) in snapshots.iter().zip(metrics) {
                    prop_assert!(is_foreign(snapshot));
                    let back = foreign_metric(snapshot).unwrap();
                    // As bytes, for a NaN does not equal itself.
                    let expected = ResourceMetrics {
                        resource: resource.clone(),
                        scope_metrics: vec![ScopeMetrics {
                            scope: scope.clone(),
                            metrics: vec![metric],
                            ..ScopeMetrics::default()
                        }],
                        ..ResourceMetrics::default()
                    };
                    prop_assert_eq!(back.encode_to_vec(), expected.encode_to_vec());
                }
            }
        }
    }
}
