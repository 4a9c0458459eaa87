//! The OTLP/JSON of foreign metrics, as a snapshot keeps it (see [`crate::otlp::foreign`]).

use super::{read_message, write_message};
use crate::{
    lines::json::{JsonResult, Reader, read_value, write_value},
    otlp::foreign::{kept_foreign, metric_time, snapshot_of_foreign},
    record::MetricsSnapshot,
};
use opentelemetry_proto::tonic::metrics::v1::ResourceMetrics;

/// A snapshot that keeps a metric, which stands alone in its resource and scope.
///
/// Fails when the metric is nested deeper than a record can be.
pub(crate) fn keep_foreign(message: &ResourceMetrics) -> JsonResult<MetricsSnapshot> {
    let mut text = Vec::new();
    write_message(message, &mut text);
    let value = read_value(&mut Reader::new(&text)?)?;
    let mut metrics = message.scope_metrics.iter().flat_map(|it| &it.metrics);
    let time = metrics.next().map(metric_time).unwrap_or_default();
    Ok(snapshot_of_foreign(time, value))
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
    use proptest::{option, prelude::*};
    use prost::Message as _;

    proptest! {
        #[test]
        fn any_metric_comes_back(
            resource in option::of(resource()),
            scope in option::of(scope()),
            metric in metric(),
        ) {
            let message = ResourceMetrics {
                resource,
                scope_metrics: vec![ScopeMetrics {
                    scope,
                    metrics: vec![metric],
                    ..ScopeMetrics::default()
                }],
                ..ResourceMetrics::default()
            };
            // What is nested too deep is refused.
            if let Ok(snapshot) = keep_foreign(&message) {
                prop_assert!(is_foreign(&snapshot));
                let back = foreign_metric(&snapshot).unwrap();
                // As bytes, for a NaN does not equal itself.
                prop_assert_eq!(back.encode_to_vec(), message.encode_to_vec());
            }
        }
    }
}
