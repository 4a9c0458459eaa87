//! Snapshots of token and cost counters as OTLP metrics.

use super::{
    attributes::{from_attributes, key_value, string, to_attributes},
    boolean, integer, otlp_time, read_time, take, write_time,
};
use crate::record::{CostCounts, MetricsSnapshot, ServerName, TokenCounts};
use hashbrown::HashMap;
use opentelemetry_proto::tonic::{
    common::v1::{KeyValue, KeyValueList, any_value::Value as Any},
    metrics::v1::{
        AggregationTemporality, Metric, NumberDataPoint, Sum, metric,
        number_data_point::Value as Number,
    },
};

/// The name, unit and description of a counter. There is no convention for counters of tokens and
/// cost (`gen_ai.client.token.usage` is a histogram of single operations), so the names are ours,
/// formed by the rules of <https://opentelemetry.io/docs/specs/semconv/general/naming/> and
/// <https://opentelemetry.io/docs/specs/semconv/general/metrics/>: no `total`, units without a
/// prefix, and braces around units that UCUM does not define.
#[derive(Debug)]
struct Counter<const KINDS: usize> {
    name: &'static str,
    description: &'static str,
    unit: &'static str,
    /// The values of the attribute [`TOKEN_TYPE`] of its points, in order.
    kinds: [&'static str; KINDS],
}

const TOKENS: Counter<2> = Counter {
    name: "gridctl.tokens",
    description: "Tokens that went into calls and came out of them.",
    unit: "{token}",
    kinds: ["input", "output"],
};

const COST: Counter<4> = Counter {
    name: "gridctl.cost",
    description: "What the tokens of calls cost.",
    unit: "{USD}",
    kinds: ["input", "output", "cache_read", "cache_write"],
};

/// The attribute that distinguishes the points of a counter
/// (<https://opentelemetry.io/docs/specs/semconv/registry/attributes/gen-ai/>). Its well-known
/// values are `input` and `output`.
const TOKEN_TYPE: &str = "gen_ai.token.type";

const MICROS_PER_USD: f64 = 1e6;

const RESET: &str = "gridctl.record.reset";
const COST_RESET: &str = "gridctl.record.cost_reset";
const DIFF: &str = "gridctl.record.diff";
const COST_DIFF: &str = "gridctl.record.cost_diff";
const TOTAL_TOKENS: &str = "gridctl.record.total_tokens";
const COST_TOTAL: &str = "gridctl.record.cost_total";

/// Converts snapshots to metrics, and tracks the start time of each server's counters.
///
/// A cumulative point carries the time when its counter started. This is the time of the server's
/// first snapshot, until the counters restart (the snapshot has `reset` set, or a counter
/// decreased): then it is the time of that snapshot. The first point after a start therefore has
/// equal start and end times. OTLP reads this as an unknown start, so that no consumer takes the
/// counts until then for an increase
/// (<https://opentelemetry.io/docs/specs/otel/metrics/data-model/#cumulative-streams-handling-unknown-start-time>).
/// Cost counters restart with the token counters, and also on their own.
#[derive(Debug, Default)]
pub(crate) struct MetricStreams {
    streams: HashMap<ServerName, Stream>,
}

/// The counters of one server.
#[derive(Debug, Default)]
struct Stream {
    tokens: Option<Since<2>>,
    cost: Option<Since<4>>,
}

/// The start time of counters, and their last values.
#[derive(Debug, Clone, Copy)]
struct Since<const KINDS: usize> {
    start: u64,
    last: [i64; KINDS],
}

impl MetricStreams {
    /// The metrics of a snapshot: `gridctl.tokens`, then `gridctl.cost` if it has cost. The
    /// snapshots of a server must arrive in time order. A line may hold the metrics of any number
    /// of snapshots.
    pub(crate) fn metrics_to_otlp(
        &mut self,
        server: &ServerName,
        snapshot: MetricsSnapshot,
    ) -> Vec<Metric> {
        let starts = self.advance(server, &snapshot);
        let time = otlp_time(snapshot.timestamp);
        let values = tokens_shown(&snapshot.total).map(Number::AsInt);
        let mut tokens = TOKENS.metric(starts.tokens, time, values);
        let cost = snapshot.cost_total.as_ref().zip(starts.cost);
        let cost = cost.map(|(total, start)| {
            let values = total
                .to_array()
                .map(|micros| Number::AsDouble(usd_of(micros)));
            COST.metric(start, time, values)
        });
        tokens.metadata = metadata(snapshot, starts.flags(time));
        std::iter::once(tokens).chain(cost).collect()
    }

    fn advance(&mut self, server: &ServerName, snapshot: &MetricsSnapshot) -> Starts {
        let stream = self.streams.entry_ref(server).or_default();
        let time = otlp_time(snapshot.timestamp);
        if snapshot.reset {
            *stream = Stream::default();
        }
        if snapshot.cost_reset {
            stream.cost = None;
        }
        let cost = snapshot.cost_total.as_ref();
        Starts {
            tokens: start_of(&mut stream.tokens, tokens_shown(&snapshot.total), time),
            cost: cost.map(|total| start_of(&mut stream.cost, total.to_array(), time)),
        }
    }
}

/// The start time of counters whose values are `now` at `time`, given what is `known` of them.
fn start_of<const KINDS: usize>(
    known: &mut Option<Since<KINDS>>,
    now: [i64; KINDS],
    time: u64,
) -> u64 {
    let goes_on = known.filter(|since| {
        // A counter that decreased has restarted, even if its writer does not say so, and a point
        // must not start after its end: consumers would treat either as faulty data.
        since.start <= time && since.last.iter().zip(now).all(|(last, now)| *last <= now)
    });
    let start = goes_on.map_or(time, |since| since.start);
    *known = Some(Since { start, last: now });
    start
}

/// The start times of the counters of a snapshot.
#[derive(Debug, Clone, Copy)]
struct Starts {
    tokens: u64,
    cost: Option<u64>,
}

/// The reset flags of a snapshot.
#[derive(Debug, Clone, Copy)]
struct Flags {
    reset: bool,
    cost_reset: bool,
}

impl Starts {
    /// The flags that the start times imply.
    fn flags(self, time: u64) -> Flags {
        let reset = self.tokens == time;
        Flags {
            reset,
            cost_reset: !reset && self.cost == Some(time),
        }
    }
}

/// What metrics were found to be.
#[derive(Debug, PartialEq)]
pub(crate) enum FoundMetric {
    /// `gridctl.tokens`, with the `gridctl.cost` that followed it if there was one.
    Snapshot(MetricsSnapshot),
    /// Any other metric, and one of these two that is not as it was exported.
    Foreign(Metric),
}

/// Reads the metrics of a scope, one after the other, each for itself.
///
/// Snapshots written by [`MetricStreams::metrics_to_otlp`] are restored exactly.
#[derive(Debug, Default)]
pub(crate) struct SnapshotReader {
    /// Tokens whose cost may come next, and their metadata.
    tokens: Option<(Points<2>, Vec<KeyValue>)>,
}

impl SnapshotReader {
    /// Takes the next metric, and calls `found` with what is complete. The cost of tokens may come
    /// after foreign metrics: others can have been batched with them.
    pub(crate) fn next(&mut self, metric: Metric, mut found: impl FnMut(FoundMetric)) {
        let time = self.tokens.as_ref().map(|(tokens, _)| tokens.time);
        let cost = time.and_then(|time| read_cost(&metric, time));
        let next = read_tokens(&metric);
        if cost.is_none() && next.is_none() {
            return found(FoundMetric::Foreign(metric));
        }
        if let Some((tokens, metadata)) = self.tokens.take() {
            found(FoundMetric::Snapshot(snapshot_of(tokens, cost, metadata)));
        }
        self.tokens = next.map(|tokens| (tokens, metric.metadata));
    }

    /// The snapshot that is left after the last metric.
    pub(crate) fn finish(self) -> Option<MetricsSnapshot> {
        let (tokens, metadata) = self.tokens?;
        Some(snapshot_of(tokens, None, metadata))
    }
}

/// The points of a counter, their values in the order of their kinds.
#[derive(Debug, Clone, Copy)]
struct Points<const KINDS: usize> {
    start: u64,
    time: u64,
    values: [i64; KINDS],
}

fn read_tokens(metric: &Metric) -> Option<Points<2>> {
    TOKENS.read(metric, |value| match value {
        Number::AsInt(value) => Some(*value),
        Number::AsDouble(_) => None,
    })
}

fn read_cost(metric: &Metric, time: u64) -> Option<Points<4>> {
    let points = COST.read(metric, |value| match value {
        Number::AsDouble(usd) => micros_of(*usd),
        Number::AsInt(_) => None,
    })?;
    (points.time == time).then_some(points)
}

impl<const KINDS: usize> Counter<KINDS> {
    fn metric(&self, start: u64, time: u64, values: [Number; KINDS]) -> Metric {
        let point = |(kind, value): (&&'static str, Number)| NumberDataPoint {
            attributes: vec![key_value(TOKEN_TYPE, string(kind))],
            start_time_unix_nano: start,
            time_unix_nano: time,
            value: Some(value),
            ..NumberDataPoint::default()
        };
        Metric {
            name: self.name.to_owned(),
            description: self.description.to_owned(),
            unit: self.unit.to_owned(),
            metadata: Vec::new(),
            data: Some(metric::Data::Sum(Sum {
                data_points: self.kinds.iter().zip(values).map(point).collect(),
                aggregation_temporality: AggregationTemporality::Cumulative.into(),
                is_monotonic: true,
            })),
        }
    }

    /// The points of the metric, if it is this counter as it was exported.
    fn read(
        &self,
        metric: &Metric,
        read: impl Fn(&Number) -> Option<i64>,
    ) -> Option<Points<KINDS>> {
        let Some(metric::Data::Sum(sum)) = &metric.data else {
            return None;
        };
        if metric.name != self.name
            || sum.aggregation_temporality() != AggregationTemporality::Cumulative
            || sum.data_points.len() != KINDS
        {
            return None;
        }
        let first = sum.data_points.first()?;
        let (start, time) = (first.start_time_unix_nano, first.time_unix_nano);
        let mut values = [None; KINDS];
        for point in &sum.data_points {
            if (point.start_time_unix_nano, point.time_unix_nano) != (start, time) {
                return None;
            }
            for (kind, value) in self.kinds.iter().zip(&mut values) {
                if is_of_kind(point, kind) {
                    *value = point.value.as_ref().and_then(&read);
                }
            }
        }
        // There are as many points as kinds: if one kind has two points, another has none.
        Some(Points {
            start,
            time,
            values: all(values)?,
        })
    }
}

fn is_of_kind(point: &NumberDataPoint, kind: &str) -> bool {
    let attribute = point
        .attributes
        .iter()
        .find(|entry| entry.key == TOKEN_TYPE);
    let value = attribute.and_then(|entry| entry.value.as_ref()?.value.as_ref());
    matches!(value, Some(Any::StringValue(text)) if text == kind)
}

/// The parts of a snapshot that do not follow from its points and from `said`, the flags that they
/// imply.
fn metadata(snapshot: MetricsSnapshot, said: Flags) -> Vec<KeyValue> {
    let mut metadata = to_attributes(snapshot.extra);
    write_time(snapshot.timestamp, snapshot.utc_offset, &mut metadata);
    let flags = [
        (RESET, snapshot.reset, said.reset),
        (COST_RESET, snapshot.cost_reset, said.cost_reset),
    ];
    for (key, flag, said) in flags {
        if flag != said {
            metadata.push(key_value(key, Any::BoolValue(flag)));
        }
    }
    let total = snapshot.total;
    if total != tokens_of(tokens_shown(&total)) {
        metadata.push(key_value(TOTAL_TOKENS, Any::IntValue(total.total_tokens)));
    }
    if snapshot.diff != implied(snapshot.reset, total) {
        let diff = snapshot.diff.to_array();
        metadata.push(key_value(DIFF, counts(TokenCounts::KEYS, diff)));
    }
    if snapshot.cost_diff != implied(snapshot.reset || snapshot.cost_reset, snapshot.cost_total) {
        let diff = snapshot.cost_diff.map(CostCounts::to_array);
        let diff = diff.map_or_else(no_counts, |diff| counts(CostCounts::KEYS, diff));
        metadata.push(key_value(COST_DIFF, diff));
    }
    if let Some(total) = snapshot.cost_total.map(CostCounts::to_array)
        && total.map(|micros| micros_of(usd_of(micros))) != total.map(Some)
    {
        metadata.push(key_value(COST_TOTAL, counts(CostCounts::KEYS, total)));
    }
    metadata
}

fn snapshot_of(
    tokens: Points<2>,
    cost: Option<Points<4>>,
    mut metadata: Vec<KeyValue>,
) -> MetricsSnapshot {
    let metadata = &mut metadata;
    let (timestamp, utc_offset) = read_time(tokens.time, metadata);
    let starts = Starts {
        tokens: tokens.start,
        cost: cost.map(|points| points.start),
    };
    let said = starts.flags(tokens.time);
    let reset = take(metadata, RESET, boolean).unwrap_or(said.reset);
    let cost_reset = take(metadata, COST_RESET, boolean).unwrap_or(said.cost_reset);
    let mut total = tokens_of(tokens.values);
    if let Some(total_tokens) = take(metadata, TOTAL_TOKENS, integer) {
        total.total_tokens = total_tokens;
    }
    let exact = take(metadata, COST_TOTAL, |value| {
        read_counts(CostCounts::KEYS, value)
    });
    let cost_total = cost.map(|points| CostCounts::from_array(exact.unwrap_or(points.values)));
    let diff = take(metadata, DIFF, |value| {
        read_counts(TokenCounts::KEYS, value)
    });
    let cost_diff = take(metadata, COST_DIFF, |value| {
        let none = *value == no_counts();
        (none.then_some(None)).or_else(|| read_counts(CostCounts::KEYS, value).map(Some))
    });
    MetricsSnapshot {
        timestamp,
        utc_offset,
        reset,
        cost_reset,
        diff: diff.map_or_else(|| implied(reset, total), TokenCounts::from_array),
        total,
        cost_diff: cost_diff.map_or_else(
            || implied(reset || cost_reset, cost_total),
            |diff| diff.map(CostCounts::from_array),
        ),
        cost_total,
        extra: from_attributes(std::mem::take(metadata)),
        interval: None,
    }
}

/// The increase of counters unless stated otherwise: the whole total after a restart, else zero.
fn implied<T: Default>(anew: bool, total: T) -> T {
    if anew { total } else { T::default() }
}

fn counts<const COUNT: usize>(keys: [&str; COUNT], values: [i64; COUNT]) -> Any {
    let entries = keys.into_iter().zip(values);
    Any::KvlistValue(KeyValueList {
        values: entries
            .map(|(key, value)| key_value(key, Any::IntValue(value)))
            .collect(),
    })
}

fn no_counts() -> Any {
    counts([], [])
}

fn read_counts<const COUNT: usize>(keys: [&str; COUNT], value: &Any) -> Option<[i64; COUNT]> {
    let Any::KvlistValue(list) = value else {
        return None;
    };
    all(keys.map(|key| {
        let entry = list.values.iter().find(|entry| entry.key == key)?;
        integer(entry.value.as_ref()?.value.as_ref()?)
    }))
}

fn all<const COUNT: usize>(values: [Option<i64>; COUNT]) -> Option<[i64; COUNT]> {
    let values: Option<Vec<i64>> = values.into_iter().collect();
    values?.try_into().ok()
}

/// The token counters that become points. The third is their sum, which consumers compute
/// themselves.
fn tokens_shown(counts: &TokenCounts) -> [i64; 2] {
    [counts.input_tokens, counts.output_tokens]
}

fn tokens_of([input_tokens, output_tokens]: [i64; 2]) -> TokenCounts {
    TokenCounts {
        input_tokens,
        output_tokens,
        total_tokens: input_tokens.wrapping_add(output_tokens),
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "metadata keeps the exact amount"
)]
fn usd_of(micros: i64) -> f64 {
    micros as f64 / MICROS_PER_USD
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "an amount outside the range is clamped to it"
)]
fn micros_of(usd: f64) -> Option<i64> {
    usd.is_finite()
        .then(|| (usd * MICROS_PER_USD).round() as i64)
}
