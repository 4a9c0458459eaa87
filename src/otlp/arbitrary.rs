//! Strategies for messages of any shape, including extreme values, for property tests.
//!
//! They exclude values that JSON cannot represent: a NaN with a payload, and an id of the wrong
//! length.

use opentelemetry_proto::tonic::{
    common::v1::{
        AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList, any_value,
    },
    logs::v1::{LogRecord, LogsData, ResourceLogs, ScopeLogs},
    metrics::v1::{
        Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram,
        HistogramDataPoint, Metric, MetricsData, NumberDataPoint, ResourceMetrics, ScopeMetrics,
        Sum, Summary, SummaryDataPoint, exemplar, exponential_histogram_data_point::Buckets,
        metric, number_data_point, summary_data_point::ValueAtQuantile,
    },
    resource::v1::Resource,
    trace::v1::{
        ResourceSpans, ScopeSpans, Span, Status, TracesData,
        span::{Event, Link},
    },
};
use proptest::{collection::vec, option, prelude::*};

macro_rules! nested {
    () => { Just(()) };
    ($first:expr, $($rest:expr,)*) => { ($first, nested!($($rest,)*)) };
}

macro_rules! nested_pattern {
    () => { () };
    ($first:ident, $($rest:ident,)*) => { ($first, nested_pattern!($($rest,)*)) };
}

macro_rules! strategies {
    ($(
        $(#[$attribute:meta])*
        $visibility:vis $name:ident: $message:ident { $($field:ident: $strategy:expr,)* }
    )*) => {$(
        $(#[$attribute])*
        $visibility fn $name() -> BoxedStrategy<$message> {
            nested!($($strategy,)*)
                .prop_map(|nested_pattern!($($field,)*)| $message { $($field,)* })
                .boxed()
        }
    )*};
}

strategies! {
    /// Any `TracesData`.
    pub(crate) traces_data: TracesData {
        resource_spans: few(resource_spans()),
    }
    resource_spans: ResourceSpans {
        resource: option::of(resource()),
        scope_spans: few(scope_spans()),
        schema_url: schema_url(),
    }
    scope_spans: ScopeSpans {
        scope: option::of(scope()),
        spans: few(span()),
        schema_url: schema_url(),
    }
    /// Any `Span`.
    pub(crate) span: Span {
        trace_id: id(16),
        span_id: id(8),
        trace_state: text(),
        parent_span_id: id(8),
        flags: unsigned_32(),
        name: text(),
        kind: number_of_enum(),
        start_time_unix_nano: unsigned_64(),
        end_time_unix_nano: unsigned_64(),
        attributes: few(key_value()),
        dropped_attributes_count: unsigned_32(),
        events: few(event()),
        dropped_events_count: unsigned_32(),
        links: few(link()),
        dropped_links_count: unsigned_32(),
        status: option::of(status()),
    }
    event: Event {
        time_unix_nano: unsigned_64(),
        name: text(),
        attributes: few(key_value()),
        dropped_attributes_count: unsigned_32(),
    }
    link: Link {
        trace_id: id(16),
        span_id: id(8),
        trace_state: text(),
        attributes: few(key_value()),
        dropped_attributes_count: unsigned_32(),
        flags: unsigned_32(),
    }
    status: Status {
        message: text(),
        code: number_of_enum(),
    }

    /// Any `LogsData`.
    pub(crate) logs_data: LogsData {
        resource_logs: few(resource_logs()),
    }
    resource_logs: ResourceLogs {
        resource: option::of(resource()),
        scope_logs: few(scope_logs()),
        schema_url: schema_url(),
    }
    scope_logs: ScopeLogs {
        scope: option::of(scope()),
        log_records: few(log_record()),
        schema_url: schema_url(),
    }
    /// Any `LogRecord`.
    pub(crate) log_record: LogRecord {
        time_unix_nano: unsigned_64(),
        observed_time_unix_nano: unsigned_64(),
        severity_number: number_of_enum(),
        severity_text: text(),
        body: option::of(any_value()),
        attributes: few(key_value()),
        dropped_attributes_count: unsigned_32(),
        flags: unsigned_32(),
        trace_id: id(16),
        span_id: id(8),
        event_name: text(),
    }

    /// Any `MetricsData`.
    pub(crate) metrics_data: MetricsData {
        resource_metrics: few(resource_metrics()),
    }
    resource_metrics: ResourceMetrics {
        resource: option::of(resource()),
        scope_metrics: few(scope_metrics()),
        schema_url: schema_url(),
    }
    scope_metrics: ScopeMetrics {
        scope: option::of(scope()),
        metrics: few(metric()),
        schema_url: schema_url(),
    }
    /// Any `Metric`.
    pub(crate) metric: Metric {
        name: text(),
        description: text(),
        unit: text(),
        metadata: few(key_value()),
        data: option::of(prop_oneof![
            gauge().prop_map(metric::Data::Gauge),
            sum().prop_map(metric::Data::Sum),
            histogram().prop_map(metric::Data::Histogram),
            exponential_histogram().prop_map(metric::Data::ExponentialHistogram),
            summary().prop_map(metric::Data::Summary),
        ]),
    }
    gauge: Gauge {
        data_points: few(number_data_point()),
    }
    sum: Sum {
        data_points: few(number_data_point()),
        aggregation_temporality: number_of_enum(),
        is_monotonic: any::<bool>(),
    }
    histogram: Histogram {
        data_points: few(histogram_data_point()),
        aggregation_temporality: number_of_enum(),
    }
    exponential_histogram: ExponentialHistogram {
        data_points: few(exponential_histogram_data_point()),
        aggregation_temporality: number_of_enum(),
    }
    summary: Summary {
        data_points: few(summary_data_point()),
    }
    number_data_point: NumberDataPoint {
        attributes: few(key_value()),
        start_time_unix_nano: unsigned_64(),
        time_unix_nano: unsigned_64(),
        exemplars: few(exemplar()),
        flags: unsigned_32(),
        value: option::of(prop_oneof![
            double().prop_map(number_data_point::Value::AsDouble),
            signed_64().prop_map(number_data_point::Value::AsInt),
        ]),
    }
    histogram_data_point: HistogramDataPoint {
        attributes: few(key_value()),
        start_time_unix_nano: unsigned_64(),
        time_unix_nano: unsigned_64(),
        count: unsigned_64(),
        sum: option::of(double()),
        bucket_counts: few(unsigned_64()),
        explicit_bounds: few(double()),
        exemplars: few(exemplar()),
        flags: unsigned_32(),
        min: option::of(double()),
        max: option::of(double()),
    }
    exponential_histogram_data_point: ExponentialHistogramDataPoint {
        attributes: few(key_value()),
        start_time_unix_nano: unsigned_64(),
        time_unix_nano: unsigned_64(),
        count: unsigned_64(),
        sum: option::of(double()),
        scale: signed_32(),
        zero_count: unsigned_64(),
        positive: option::of(buckets()),
        negative: option::of(buckets()),
        flags: unsigned_32(),
        exemplars: few(exemplar()),
        min: option::of(double()),
        max: option::of(double()),
        zero_threshold: double(),
    }
    buckets: Buckets {
        offset: signed_32(),
        bucket_counts: few(unsigned_64()),
    }
    summary_data_point: SummaryDataPoint {
        attributes: few(key_value()),
        start_time_unix_nano: unsigned_64(),
        time_unix_nano: unsigned_64(),
        count: unsigned_64(),
        sum: double(),
        quantile_values: few(value_at_quantile()),
        flags: unsigned_32(),
    }
    value_at_quantile: ValueAtQuantile {
        quantile: double(),
        value: double(),
    }
    exemplar: Exemplar {
        filtered_attributes: few(key_value()),
        time_unix_nano: unsigned_64(),
        span_id: id(8),
        trace_id: id(16),
        value: option::of(prop_oneof![
            double().prop_map(exemplar::Value::AsDouble),
            signed_64().prop_map(exemplar::Value::AsInt),
        ]),
    }

    /// Any `Resource`.
    pub(crate) resource: Resource {
        attributes: few(key_value()),
        dropped_attributes_count: unsigned_32(),
        entity_refs: few(entity_ref()),
    }
    entity_ref: EntityRef {
        schema_url: schema_url(),
        r#type: text(),
        id_keys: few(text()),
        description_keys: few(text()),
    }
    /// Any `InstrumentationScope`.
    pub(crate) scope: InstrumentationScope {
        name: text(),
        version: text(),
        attributes: few(key_value()),
        dropped_attributes_count: unsigned_32(),
    }
    key_value: KeyValue {
        key: text(),
        value: option::weighted(0.9, any_value()),
        key_strindex: signed_32(),
    }
}

/// Any `AnyValue`, nested at most a few levels deep.
pub(crate) fn any_value() -> BoxedStrategy<AnyValue> {
    use any_value::Value;
    let leaf = prop_oneof![
        1 => Just(None),
        4 => text().prop_map(|value| Some(Value::StringValue(value))),
        2 => any::<bool>().prop_map(|value| Some(Value::BoolValue(value))),
        2 => signed_64().prop_map(|value| Some(Value::IntValue(value))),
        2 => double().prop_map(|value| Some(Value::DoubleValue(value))),
        1 => vec(any::<u8>(), 0..8).prop_map(|value| Some(Value::BytesValue(value))),
        1 => signed_32().prop_map(|value| Some(Value::StringValueStrindex(value))),
    ];
    leaf.prop_map(|value| AnyValue { value })
        .prop_recursive(4, 12, 3, |inner| {
            let pair = (text(), option::weighted(0.9, inner.clone()), signed_32()).prop_map(
                |(key, value, key_strindex)| KeyValue {
                    key,
                    value,
                    key_strindex,
                },
            );
            prop_oneof![
                few(inner).prop_map(|values| Value::ArrayValue(ArrayValue { values })),
                few(pair).prop_map(|values| Value::KvlistValue(KeyValueList { values })),
            ]
            .prop_map(|value| AnyValue { value: Some(value) })
        })
        .boxed()
}

fn few<T: std::fmt::Debug + 'static>(
    item: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<Vec<T>> {
    vec(item, 0..3).boxed()
}

/// Any schema URL, most often empty.
pub(crate) fn schema_url() -> BoxedStrategy<String> {
    prop_oneof![2 => Just(String::new()), 1 => text()].boxed()
}

fn text() -> BoxedStrategy<String> {
    prop_oneof![
        Just(String::new()),
        "[a-z.]{1,12}",
        "[\0-\x20\"\\\\/\x7f\u{2028}é😀]{1,6}",
        any::<String>(),
    ]
    .boxed()
}

fn id(bytes: usize) -> BoxedStrategy<Vec<u8>> {
    prop_oneof![
        1 => Just(Vec::new()),
        1 => Just(vec![0; bytes]),
        4 => vec(any::<u8>(), bytes),
    ]
    .boxed()
}

fn double() -> BoxedStrategy<f64> {
    use proptest::num::f64::{NEGATIVE, NORMAL, POSITIVE, SUBNORMAL};
    prop_oneof![
        proptest::sample::select(
            &[
                0.0,
                -0.0,
                1.0,
                0.1,
                1e16,
                f64::NAN,
                f64::INFINITY,
                f64::NEG_INFINITY,
                f64::MIN,
                f64::MAX,
                f64::MIN_POSITIVE,
                5e-324,
            ][..]
        ),
        POSITIVE | NEGATIVE | NORMAL | SUBNORMAL,
        any::<i32>().prop_map(f64::from),
    ]
    .boxed()
}

fn number_of_enum() -> BoxedStrategy<i32> {
    prop_oneof![3 => 0..=24, 1 => signed_32()].boxed()
}

fn unsigned_32() -> BoxedStrategy<u32> {
    prop_oneof![2 => Just(0), 1 => Just(u32::MAX), 2 => any::<u32>()].boxed()
}

fn signed_32() -> BoxedStrategy<i32> {
    let extremes = proptest::sample::select(&[i32::MIN, -1, 1, i32::MAX][..]);
    prop_oneof![2 => Just(0), 1 => extremes, 2 => any::<i32>()].boxed()
}

fn unsigned_64() -> BoxedStrategy<u64> {
    let extremes = proptest::sample::select(&[1, (1 << 53) + 1, 1 << 63, u64::MAX][..]);
    prop_oneof![2 => Just(0), 1 => extremes, 2 => any::<u64>()].boxed()
}

fn signed_64() -> BoxedStrategy<i64> {
    let extremes = proptest::sample::select(&[i64::MIN, -1, 1, (1 << 53) + 1, i64::MAX][..]);
    prop_oneof![2 => Just(0), 1 => extremes, 2 => any::<i64>()].boxed()
}
