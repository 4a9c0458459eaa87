//! The OTLP/JSON of foreign metrics, as a snapshot keeps it (see [`crate::otlp::foreign`]).

use super::{read_message, write_message};
use crate::{
    lines::json::{JsonResult, Reader, read_value, write_value},
    otlp::foreign::{ForeignMetric, foreign_metrics, kept_foreign, snapshot_of_foreign},
    record::MetricsSnapshot,
};
use opentelemetry_proto::tonic::metrics::v1::{MetricsData, ResourceMetrics};

/// Each metric of a message as a snapshot that keeps it, with the server that its resource names.
///
/// Fails when a metric is nested deeper than a record can be.
pub(crate) fn keep_foreign(
    data: MetricsData,
) -> JsonResult<Vec<(Option<String>, MetricsSnapshot)>> {
    let keep = |metric: ForeignMetric| {
        let mut text = Vec::new();
        write_message(&metric.message, &mut text);
        let value = read_value(&mut Reader::new(&text)?)?;
        Ok((metric.server, snapshot_of_foreign(metric.timestamp, value)))
    };
    foreign_metrics(data).into_iter().map(keep).collect()
}

/// The metric that a snapshot keeps, when [`keep_foreign`] made the snapshot.
pub(crate) fn foreign_metric(snapshot: &MetricsSnapshot) -> Option<ResourceMetrics> {
    let mut text = Vec::new();
    write_value(kept_foreign(snapshot)?, &mut text);
    let metric: ResourceMetrics = read_message(&text).ok()?;
    // An attribute that merely has this key is no metric, and the keys that a reader ignores would be
    // lost.
    let mut again = Vec::new();
    write_message(&metric, &mut again);
    (text == again).then_some(metric)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::{
        arbitrary::{metric, resource, scope},
        foreign::is_foreign,
    };
    use opentelemetry_proto::tonic::metrics::v1::ScopeMetrics;
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
