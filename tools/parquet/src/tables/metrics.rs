//! `otel_metrics_gauge`, `otel_metrics_sum`, `otel_metrics_histogram`, `otel_metrics_exponential_histogram` and
//! `otel_metrics_summary`: a row for each point.

use super::{
    Origin, Scope, Service, Sizes, Smalls, Times, nanos, push_entries, rows, scope_attributes,
    sizes, times, unsigned,
};
use crate::{
    column::{Flat, List, Map, MapList, Meaning, Numbers, RepeatedMap},
    texts::{Kind, Texts},
};
use gridctl_telemetry::external::opentelemetry_proto::tonic::{
    common::v1::{InstrumentationScope, KeyValue},
    metrics::v1::{
        Exemplar, ExponentialHistogramDataPoint, HistogramDataPoint, Metric, NumberDataPoint,
        SummaryDataPoint, exemplar, exponential_histogram_data_point::Buckets, number_data_point,
    },
    resource::v1::Resource,
};
use parquet::data_type::{BoolType, DoubleType, Int64Type};

type Doubles = Flat<Numbers<DoubleType>>;

fn doubles() -> Doubles {
    Flat(Numbers::of(Meaning::Plain))
}

fn plain() -> Smalls {
    Flat(Numbers::of(Meaning::Plain))
}

/// What a point came in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Around<'a> {
    pub(crate) server: &'a str,
    pub(crate) origin: &'a Origin,
    pub(crate) resource: Option<&'a Resource>,
    pub(crate) resource_schema_url: &'a str,
    pub(crate) scope: Option<&'a InstrumentationScope>,
    pub(crate) scope_schema_url: &'a str,
    pub(crate) metric: &'a Metric,
}

/// The columns that all kinds of points have.
#[derive(Debug)]
struct Common {
    service: Service,
    resource_schema_url: Flat<Texts>,
    scope: Scope,
    scope_attributes: RepeatedMap,
    scope_dropped: Smalls,
    scope_schema_url: Flat<Texts>,
    name: Flat<Texts>,
    description: Flat<Texts>,
    unit: Flat<Texts>,
    attributes: Map,
    start: Times,
    time: Times,
    flags: Smalls,
}

impl Default for Common {
    fn default() -> Common {
        Common {
            service: Service::default(),
            resource_schema_url: Flat::default(),
            scope: Scope::default(),
            scope_attributes: RepeatedMap::default(),
            scope_dropped: unsigned(32),
            scope_schema_url: Flat::default(),
            name: Flat::default(),
            description: Flat::default(),
            unit: Flat::default(),
            attributes: Map::default(),
            start: times(),
            time: times(),
            flags: unsigned(32),
        }
    }
}

impl Common {
    /// Adds what a point has in common with those of other kinds; `times` are that of its start and its own.
    fn push(
        &mut self,
        around: &Around<'_>,
        attributes: &[KeyValue],
        times: (u64, u64),
        flags: u32,
    ) {
        let Around { scope, metric, .. } = *around;
        self.service
            .push(around.resource, around.server, around.origin);
        self.resource_schema_url.0.push(around.resource_schema_url);
        self.scope.push(scope);
        self.scope_attributes
            .row(|row| push_entries(scope_attributes(scope), row));
        let dropped = scope.map_or(0, |scope| scope.dropped_attributes_count);
        self.scope_dropped.0.push(dropped.cast_signed());
        self.scope_schema_url.0.push(around.scope_schema_url);
        self.name.0.push(&metric.name);
        self.description.0.push(&metric.description);
        self.unit.0.push(&metric.unit);
        self.attributes.row(|row| push_entries(attributes, row));
        self.start.0.push(nanos(times.0));
        self.time.0.push(nanos(times.1));
        self.flags.0.push(flags.cast_signed());
    }
}

#[derive(Debug)]
struct Exemplars {
    attributes: MapList,
    time: List<Numbers<Int64Type>>,
    value: List<Numbers<DoubleType>>,
    span_id: List<Texts>,
    trace_id: List<Texts>,
}

impl Default for Exemplars {
    fn default() -> Exemplars {
        Exemplars {
            attributes: MapList::default(),
            time: List::of(Numbers::of(Meaning::Time)),
            value: List::of(Numbers::of(Meaning::Plain)),
            span_id: List::of(Texts::of(Kind::Ids)),
            trace_id: List::of(Texts::of(Kind::Ids)),
        }
    }
}

impl Exemplars {
    fn push(&mut self, exemplars: &[Exemplar]) {
        self.attributes.row(exemplars, |row, it| {
            push_entries(&it.filtered_attributes, row);
        });
        self.time
            .row(exemplars, |times, it| times.push(nanos(it.time_unix_nano)));
        self.value.row(exemplars, |values, it| {
            values.push(match it.value {
                Some(exemplar::Value::AsDouble(value)) => value,
                Some(exemplar::Value::AsInt(value)) => double(value),
                None => 0.0,
            });
        });
        self.span_id
            .row(exemplars, |ids, it| ids.push_hex(&it.span_id));
        self.trace_id
            .row(exemplars, |ids, it| ids.push_hex(&it.trace_id));
    }
}

/// An integer as the column of doubles has it.
#[expect(
    clippy::cast_precision_loss,
    reason = "the exporter has one column for both kinds of numbers"
)]
fn double(value: i64) -> f64 {
    value as f64
}

fn number(point: &NumberDataPoint) -> f64 {
    match point.value {
        Some(number_data_point::Value::AsDouble(value)) => value,
        Some(number_data_point::Value::AsInt(value)) => double(value),
        None => 0.0,
    }
}

/// Implements [`rows!`] for a table of points: the columns before its own, and its own, of which `exemplars` are several.
macro_rules! points {
    ($table:ty, $($name:literal => $($field:ident).+,)+ exemplars, $($after:tt)*) => {
        points! { $table,
            $($name => $($field).+,)+
            "Exemplars.FilteredAttributes" => exemplars.attributes,
            "Exemplars.TimeUnix" => exemplars.time,
            "Exemplars.Value" => exemplars.value,
            "Exemplars.SpanId" => exemplars.span_id,
            "Exemplars.TraceId" => exemplars.trace_id,
            $($after)*
        }
    };
    ($table:ty, $($name:literal => $($field:ident).+,)+) => {
        rows! { $table, common.time:
            "ResourceAttributes" => common.service.resource,
            "ResourceSchemaUrl" => common.resource_schema_url,
            "ScopeName" => common.scope.name,
            "ScopeVersion" => common.scope.version,
            "ScopeAttributes" => common.scope_attributes,
            "ScopeDroppedAttrCount" => common.scope_dropped,
            "ScopeSchemaUrl" => common.scope_schema_url,
            "ServiceName" => common.service.name,
            "MetricName" => common.name,
            "MetricDescription" => common.description,
            "MetricUnit" => common.unit,
            "Attributes" => common.attributes,
            "StartTimeUnix" => common.start,
            "TimeUnix" => common.time,
            $($name => $($field).+,)+
        }
    };
}

#[derive(Debug)]
pub(crate) struct Gauges {
    common: Common,
    value: Doubles,
    exemplars: Exemplars,
}

points! { Gauges,
    "Value" => value,
    "Flags" => common.flags,
    exemplars,
}

impl Default for Gauges {
    fn default() -> Gauges {
        Gauges {
            common: Common::default(),
            value: doubles(),
            exemplars: Exemplars::default(),
        }
    }
}

impl Gauges {
    pub(crate) fn push(&mut self, around: &Around<'_>, point: &NumberDataPoint) {
        self.common.push(
            around,
            &point.attributes,
            (point.start_time_unix_nano, point.time_unix_nano),
            point.flags,
        );
        self.value.0.push(number(point));
        self.exemplars.push(&point.exemplars);
    }
}

#[derive(Debug)]
pub(crate) struct Sums {
    common: Common,
    value: Doubles,
    exemplars: Exemplars,
    temporality: Smalls,
    is_monotonic: Flat<Numbers<BoolType>>,
}

points! { Sums,
    "Value" => value,
    "Flags" => common.flags,
    exemplars,
    "AggregationTemporality" => temporality,
    "IsMonotonic" => is_monotonic,
}

impl Default for Sums {
    fn default() -> Sums {
        Sums {
            common: Common::default(),
            value: doubles(),
            exemplars: Exemplars::default(),
            temporality: plain(),
            is_monotonic: Flat(Numbers::of(Meaning::Plain)),
        }
    }
}

impl Sums {
    pub(crate) fn push(
        &mut self,
        around: &Around<'_>,
        point: &NumberDataPoint,
        temporality: i32,
        is_monotonic: bool,
    ) {
        self.common.push(
            around,
            &point.attributes,
            (point.start_time_unix_nano, point.time_unix_nano),
            point.flags,
        );
        self.value.0.push(number(point));
        self.exemplars.push(&point.exemplars);
        self.temporality.0.push(temporality);
        self.is_monotonic.0.push(is_monotonic);
    }
}

#[derive(Debug)]
pub(crate) struct Histograms {
    common: Common,
    count: Sizes,
    sum: Doubles,
    bucket_counts: List<Numbers<Int64Type>>,
    explicit_bounds: List<Numbers<DoubleType>>,
    exemplars: Exemplars,
    min: Doubles,
    max: Doubles,
    temporality: Smalls,
}

points! { Histograms,
    "Count" => count,
    "Sum" => sum,
    "BucketCounts" => bucket_counts,
    "ExplicitBounds" => explicit_bounds,
    exemplars,
    "Flags" => common.flags,
    "Min" => min,
    "Max" => max,
    "AggregationTemporality" => temporality,
}

impl Default for Histograms {
    fn default() -> Histograms {
        Histograms {
            common: Common::default(),
            count: sizes(),
            sum: doubles(),
            bucket_counts: List::of(Numbers::of(Meaning::Unsigned(64))),
            explicit_bounds: List::of(Numbers::of(Meaning::Plain)),
            exemplars: Exemplars::default(),
            min: doubles(),
            max: doubles(),
            temporality: plain(),
        }
    }
}

impl Histograms {
    pub(crate) fn push(
        &mut self,
        around: &Around<'_>,
        point: &HistogramDataPoint,
        temporality: i32,
    ) {
        self.common.push(
            around,
            &point.attributes,
            (point.start_time_unix_nano, point.time_unix_nano),
            point.flags,
        );
        self.count.0.push(point.count.cast_signed());
        self.sum.0.push(point.sum.unwrap_or_default());
        self.bucket_counts.row(&point.bucket_counts, |counts, it| {
            counts.push(it.cast_signed());
        });
        self.explicit_bounds
            .row(&point.explicit_bounds, |bounds, it| bounds.push(*it));
        self.exemplars.push(&point.exemplars);
        self.min.0.push(point.min.unwrap_or_default());
        self.max.0.push(point.max.unwrap_or_default());
        self.temporality.0.push(temporality);
    }
}

/// One side of an exponential histogram.
#[derive(Debug)]
struct Side {
    offset: Smalls,
    counts: List<Numbers<Int64Type>>,
}

impl Default for Side {
    fn default() -> Side {
        Side {
            offset: plain(),
            counts: List::of(Numbers::of(Meaning::Unsigned(64))),
        }
    }
}

impl Side {
    fn push(&mut self, buckets: Option<&Buckets>) {
        self.offset.0.push(buckets.map_or(0, |it| it.offset));
        let counts = buckets.map_or(&[][..], |it| &it.bucket_counts);
        self.counts
            .row(counts, |counts, it| counts.push(it.cast_signed()));
    }
}

#[derive(Debug)]
pub(crate) struct ExponentialHistograms {
    common: Common,
    count: Sizes,
    sum: Doubles,
    scale: Smalls,
    zero_count: Sizes,
    positive: Side,
    negative: Side,
    exemplars: Exemplars,
    min: Doubles,
    max: Doubles,
    temporality: Smalls,
}

points! { ExponentialHistograms,
    "Count" => count,
    "Sum" => sum,
    "Scale" => scale,
    "ZeroCount" => zero_count,
    "PositiveOffset" => positive.offset,
    "PositiveBucketCounts" => positive.counts,
    "NegativeOffset" => negative.offset,
    "NegativeBucketCounts" => negative.counts,
    exemplars,
    "Flags" => common.flags,
    "Min" => min,
    "Max" => max,
    "AggregationTemporality" => temporality,
}

impl Default for ExponentialHistograms {
    fn default() -> ExponentialHistograms {
        ExponentialHistograms {
            common: Common::default(),
            count: sizes(),
            sum: doubles(),
            scale: plain(),
            zero_count: sizes(),
            positive: Side::default(),
            negative: Side::default(),
            exemplars: Exemplars::default(),
            min: doubles(),
            max: doubles(),
            temporality: plain(),
        }
    }
}

impl ExponentialHistograms {
    pub(crate) fn push(
        &mut self,
        around: &Around<'_>,
        point: &ExponentialHistogramDataPoint,
        temporality: i32,
    ) {
        self.common.push(
            around,
            &point.attributes,
            (point.start_time_unix_nano, point.time_unix_nano),
            point.flags,
        );
        self.count.0.push(point.count.cast_signed());
        self.sum.0.push(point.sum.unwrap_or_default());
        self.scale.0.push(point.scale);
        self.zero_count.0.push(point.zero_count.cast_signed());
        self.positive.push(point.positive.as_ref());
        self.negative.push(point.negative.as_ref());
        self.exemplars.push(&point.exemplars);
        self.min.0.push(point.min.unwrap_or_default());
        self.max.0.push(point.max.unwrap_or_default());
        self.temporality.0.push(temporality);
    }
}

#[derive(Debug)]
pub(crate) struct Summaries {
    common: Common,
    count: Sizes,
    sum: Doubles,
    quantile: List<Numbers<DoubleType>>,
    value: List<Numbers<DoubleType>>,
}

points! { Summaries,
    "Count" => count,
    "Sum" => sum,
    "ValueAtQuantiles.Quantile" => quantile,
    "ValueAtQuantiles.Value" => value,
    "Flags" => common.flags,
}

impl Default for Summaries {
    fn default() -> Summaries {
        Summaries {
            common: Common::default(),
            count: sizes(),
            sum: doubles(),
            quantile: List::of(Numbers::of(Meaning::Plain)),
            value: List::of(Numbers::of(Meaning::Plain)),
        }
    }
}

impl Summaries {
    pub(crate) fn push(&mut self, around: &Around<'_>, point: &SummaryDataPoint) {
        self.common.push(
            around,
            &point.attributes,
            (point.start_time_unix_nano, point.time_unix_nano),
            point.flags,
        );
        self.count.0.push(point.count.cast_signed());
        self.sum.0.push(point.sum);
        let quantiles = &point.quantile_values;
        self.quantile
            .row(quantiles, |column, it| column.push(it.quantile));
        self.value
            .row(quantiles, |column, it| column.push(it.value));
    }
}
