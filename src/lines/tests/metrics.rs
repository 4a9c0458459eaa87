//! Metrics snapshots.

use crate::{
    Signal,
    lines::{
        ParsedLine,
        ndjson::metrics::{MetricsLine, read_metrics_line},
        otlp_json::write_message,
        parse_line,
    },
    otlp::{MetricStreams, foreign::is_foreign, server_resource},
    record::{
        CostCounts, MetricsSnapshot, ServerName, TokenCounts, Value,
        arbitrary::{any_utc_offset, json_entries},
    },
    time::Timestamp,
};
use hashbrown::HashMap;
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, MetricsData, ResourceMetrics, ScopeMetrics, Sum, metric,
    number_data_point::Value as Number,
};
use proptest::{collection::vec, option, prelude::*};

fn server() -> ServerName {
    ServerName::new("github").unwrap()
}

fn read(line: &str) -> MetricsSnapshot {
    match read_metrics_line(line.as_bytes()).unwrap() {
        MetricsLine::Snapshot { snapshot, .. } => *snapshot,
        sentinel @ MetricsLine::Sentinel { .. } => panic!("{sentinel:?}"),
    }
}

fn text(metric: &Metric) -> String {
    let mut text = Vec::new();
    write_message(metric, &mut text);
    String::from_utf8(text).unwrap()
}

fn data(metrics: Vec<Metric>) -> MetricsData {
    MetricsData {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(server_resource("github")),
            scope_metrics: vec![ScopeMetrics {
                metrics,
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }],
    }
}

/// Through a line and back.
fn through(metrics: Vec<Metric>) -> Vec<MetricsSnapshot> {
    let mut line = Vec::new();
    write_message(&data(metrics), &mut line);
    let snapshots = match parse_line(Signal::Metrics, &line) {
        Ok(ParsedLine::Metrics(snapshots)) => snapshots,
        Ok(other) => panic!("{other:?}"),
        // No metrics are no record.
        Err(_) => Vec::new(),
    };
    snapshots
        .into_iter()
        .map(|(server, snapshot)| {
            assert_eq!(server.as_deref(), Some("github"));
            snapshot
        })
        .collect()
}

const RESET_LINE: &str = concat!(
    r#"{"ts":"2026-05-08T23:40:00Z","server":"github","reset":true,"#,
    r#""diff":{"input_tokens":100,"output_tokens":50,"total_tokens":150},"#,
    r#""total":{"input_tokens":100,"output_tokens":50,"total_tokens":150},"#,
    r#""cost_diff":{"input_micro_usd":300,"output_micro_usd":750},"#,
    r#""cost_total":{"input_micro_usd":300,"output_micro_usd":750}}"#
);
const NEXT_LINE: &str = concat!(
    r#"{"ts":"2026-05-09T01:41:00+02:00","server":"github","#,
    r#""diff":{"input_tokens":10,"output_tokens":5,"total_tokens":15},"#,
    r#""total":{"input_tokens":110,"output_tokens":55,"total_tokens":165},"#,
    r#""cost_diff":{"input_micro_usd":30},"#,
    r#""cost_total":{"input_micro_usd":330,"output_micro_usd":750},"#,
    r#""tool_usage":{"search":{"calls":3}}}"#
);

#[test]
fn a_reset_has_nothing_of_ours() {
    let mut streams = MetricStreams::default();
    let metrics = streams.metrics_to_otlp(&server(), read(RESET_LINE));
    let [tokens, cost] = metrics.as_slice() else {
        panic!("{metrics:?}");
    };
    assert_eq!(
        text(tokens),
        concat!(
            r#"{"name":"gridctl.tokens","#,
            r#""description":"Tokens that went into calls and came out of them.","#,
            r#""unit":"{token}","sum":{"dataPoints":["#,
            r#"{"attributes":[{"key":"gen_ai.token.type","value":{"stringValue":"input"}}],"#,
            r#""startTimeUnixNano":"1778283600000000000","#,
            r#""timeUnixNano":"1778283600000000000","asInt":"100"},"#,
            r#"{"attributes":[{"key":"gen_ai.token.type","value":{"stringValue":"output"}}],"#,
            r#""startTimeUnixNano":"1778283600000000000","#,
            r#""timeUnixNano":"1778283600000000000","asInt":"50"}"#,
            r#"],"aggregationTemporality":2,"isMonotonic":true}}"#,
        )
    );
    assert!(text(cost).starts_with(concat!(
        r#"{"name":"gridctl.cost","description":"What the tokens of calls cost.","#,
        r#""unit":"{USD}","sum":{"dataPoints":["#,
        r#"{"attributes":[{"key":"gen_ai.token.type","value":{"stringValue":"input"}}],"#,
        r#""startTimeUnixNano":"1778283600000000000","#,
        r#""timeUnixNano":"1778283600000000000","asDouble":0.0003},"#,
    )));
    assert_eq!(through(metrics), [read(RESET_LINE)]);
}

#[test]
fn counters_count_since_their_reset_and_metadata_says_the_rest() {
    let mut streams = MetricStreams::default();
    let mut metrics = streams.metrics_to_otlp(&server(), read(RESET_LINE));
    let next = streams.metrics_to_otlp(&server(), read(NEXT_LINE));
    let tokens = text(&next[0]);
    let metadata = concat!(
        r#""metadata":[{"key":"tool_usage","value":{"kvlistValue":{"values":["#,
        r#"{"key":"search","value":{"kvlistValue":{"values":["#,
        r#"{"key":"calls","value":{"intValue":"3"}}]}}}]}}},"#,
        r#"{"key":"gridctl.record.utc_offset","value":{"intValue":"120"}},"#,
        r#"{"key":"gridctl.record.diff","value":{"kvlistValue":{"values":["#,
        r#"{"key":"input_tokens","value":{"intValue":"10"}},"#,
        r#"{"key":"output_tokens","value":{"intValue":"5"}},"#,
        r#"{"key":"total_tokens","value":{"intValue":"15"}}]}}},"#,
        r#"{"key":"gridctl.record.cost_diff","value":{"kvlistValue":{"values":["#,
        r#"{"key":"input_micro_usd","value":{"intValue":"30"}},"#,
    );
    assert!(tokens.contains(metadata), "{tokens}");
    metrics.extend(next);
    assert_eq!(through(metrics), [read(RESET_LINE), read(NEXT_LINE)]);
}

fn starts(streams: &mut MetricStreams, server: &ServerName, line: &str) -> Vec<(u64, u64)> {
    let snapshot = read(&line.replace("T:", "\"ts\":\"1970-01-01T00:00:00.00000000"));
    let metrics = streams.metrics_to_otlp(server, snapshot);
    let sums = metrics.iter().map(|metric| match &metric.data {
        Some(metric::Data::Sum(sum)) => sum,
        other => panic!("{other:?}"),
    });
    sums.map(|sum| {
        let point = &sum.data_points[0];
        (point.start_time_unix_nano, point.time_unix_nano)
    })
    .collect()
}

#[test]
fn start_times_change_when_counters_begin_anew() {
    let (one, other) = (server(), ServerName::new("other").unwrap());
    let mut streams = MetricStreams::default();
    for (line, expected) in [
        // The first is not known to be a reset, and begins with itself all the same.
        (
            r#"{T:1Z","diff":{},"total":{"input_tokens":5}}"#,
            vec![(1, 1)],
        ),
        (
            r#"{T:2Z","diff":{},"total":{"input_tokens":6}}"#,
            vec![(1, 2)],
        ),
        (
            r#"{T:3Z","diff":{},"total":{"input_tokens":6},"cost_total":{"input_micro_usd":9}}"#,
            vec![(1, 3), (3, 3)],
        ),
        (
            r#"{T:4Z","diff":{},"total":{"input_tokens":6},"cost_total":{"input_micro_usd":9}}"#,
            vec![(1, 4), (3, 4)],
        ),
        // Cost alone.
        (
            concat!(
                r#"{T:5Z","cost_reset":true,"diff":{},"total":{"input_tokens":6},"#,
                r#""cost_total":{"input_micro_usd":10}}"#
            ),
            vec![(1, 5), (5, 5)],
        ),
        // Both, with the tokens' reset.
        (
            concat!(
                r#"{T:6Z","reset":true,"diff":{},"total":{"input_tokens":9},"#,
                r#""cost_total":{"input_micro_usd":11}}"#
            ),
            vec![(6, 6), (6, 6)],
        ),
        // A counter that falls without a reset that announces it.
        (
            r#"{T:7Z","diff":{},"total":{"input_tokens":8},"cost_total":{"input_micro_usd":11}}"#,
            vec![(7, 7), (6, 7)],
        ),
    ] {
        assert_eq!(starts(&mut streams, &one, line), expected, "{line}");
    }
    let line = r#"{T:8Z","diff":{},"total":{"input_tokens":9}}"#;
    assert_eq!(starts(&mut streams, &other, line), [(8, 8)]);
    assert_eq!(starts(&mut streams, &one, line), [(7, 8)]);
}

#[test]
fn each_metric_is_ours_or_foreign_by_itself() {
    let read_back = |change: &dyn Fn(&mut Vec<Metric>)| {
        let mut metrics = MetricStreams::default().metrics_to_otlp(&server(), read(RESET_LINE));
        change(&mut metrics);
        let mut found: Vec<_> = through(metrics)
            .iter()
            .map(|snapshot| {
                let total = snapshot.total.input_tokens;
                (is_foreign(snapshot), total, snapshot.cost_total.is_some())
            })
            .collect();
        found.sort_unstable();
        found
    };
    let sum = |metric: &mut Metric, change: &dyn Fn(&mut Sum)| match &mut metric.data {
        Some(metric::Data::Sum(sum)) => change(sum),
        other => panic!("{other:?}"),
    };
    let ours = (false, 100, true);
    let without_cost = (false, 100, false);
    let foreign = (true, 0, false);
    let gauge = || Metric {
        name: "http.server.duration".to_owned(),
        data: Some(metric::Data::Gauge(Gauge::default())),
        ..Metric::default()
    };
    assert_eq!(read_back(&|_| {}), [ours]);
    assert_eq!(read_back(&|metrics| metrics.push(gauge())), [ours, foreign]);
    assert_eq!(
        read_back(&|metrics| metrics.insert(0, gauge())),
        [ours, foreign]
    );
    // Cost belongs to the tokens before it, whatever comes in between.
    assert_eq!(
        read_back(&|metrics| metrics.insert(1, gauge())),
        [ours, foreign]
    );
    assert_eq!(
        read_back(&|metrics| metrics[1].name = "http.server.duration".to_owned()),
        [without_cost, foreign]
    );
    assert_eq!(read_back(&|metrics| drop(metrics.remove(0))), [foreign]);
    assert_eq!(
        read_back(&|metrics| metrics[0].data = None),
        [foreign, foreign]
    );
    assert_eq!(
        read_back(&|metrics| sum(&mut metrics[1], &|sum| sum.aggregation_temporality = 1)),
        [without_cost, foreign]
    );
    assert_eq!(
        read_back(&|metrics| {
            sum(&mut metrics[0], &|sum| {
                sum.data_points[1] = sum.data_points[0].clone();
            });
        }),
        [foreign, foreign]
    );
    assert_eq!(
        read_back(&|metrics| sum(&mut metrics[0], &|sum| sum.data_points.clear())),
        [foreign, foreign]
    );
    assert_eq!(
        read_back(&|metrics| {
            sum(&mut metrics[1], &|sum| {
                sum.data_points[0].value = Some(Number::AsDouble(f64::NAN));
            });
        }),
        [without_cost, foreign]
    );
}

fn count() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0), 0..1000_i64, 0..1_i64 << 50, any::<i64>()]
}

fn token_counts() -> impl Strategy<Value = TokenCounts> {
    let total = option::weighted(0.2, count());
    (count(), count(), total).prop_map(|(input_tokens, output_tokens, total)| TokenCounts {
        input_tokens,
        output_tokens,
        total_tokens: total.unwrap_or(input_tokens.wrapping_add(output_tokens)),
    })
}

fn cost_counts() -> impl Strategy<Value = Option<CostCounts>> {
    option::of([count(), count(), count(), count()].prop_map(CostCounts::from_array))
}

fn snapshot(
    extra: impl Strategy<Value = Vec<(String, Value)>>,
) -> impl Strategy<Value = MetricsSnapshot> {
    let nanos = prop_oneof![Just(5_i64), 0..20_i64, any::<i64>()];
    (
        (nanos, any_utc_offset(), any::<[bool; 3]>()),
        (token_counts(), token_counts(), cost_counts(), cost_counts()),
        extra,
    )
        .prop_map(
            |((nanos, utc_offset, flags), (diff, total, cost_diff, cost_total), extra)| {
                let [reset, cost_reset, full] = flags;
                MetricsSnapshot {
                    timestamp: Timestamp::from_unix_nanos(nanos),
                    utc_offset,
                    reset,
                    cost_reset,
                    diff: if full { total } else { diff },
                    total,
                    cost_diff: if full { cost_total } else { cost_diff },
                    cost_total,
                    extra,
                    interval: None,
                }
            },
        )
}

proptest! {
    #[test]
    fn every_snapshot_comes_back(
        snapshots in vec(
            snapshot(json_entries(&[
                "diff",
                "tool_usage",
                "gridctl.record.diff",
                "gridctl.record.reset",
            ])),
            0..4,
        ),
    ) {
        let mut streams = MetricStreams::default();
        let mut metrics = Vec::new();
        for snapshot in &snapshots {
            metrics.extend(streams.metrics_to_otlp(&server(), snapshot.clone()));
        }
        for metric in &metrics {
            let mut keys: Vec<&str> =
                metric.metadata.iter().map(|entry| &*entry.key).collect();
            keys.sort_unstable();
            prop_assert!(keys.windows(2).all(|pair| pair[0] != pair[1]), "{keys:?}");
        }
        prop_assert_eq!(through(metrics), snapshots);
    }

    #[test]
    fn points_of_one_stream_never_fall(
        snapshots in vec(snapshot(Just(Vec::new())), 0..12),
    ) {
        let mut streams = MetricStreams::default();
        let mut last: HashMap<(String, usize), (u64, f64)> = HashMap::new();
        for snapshot in snapshots {
            for metric in streams.metrics_to_otlp(&server(), snapshot) {
                let Some(metric::Data::Sum(sum)) = metric.data else {
                    return Err(TestCaseError::fail("no sum"));
                };
                for (index, point) in sum.data_points.iter().enumerate() {
                    let (start, time) = (point.start_time_unix_nano, point.time_unix_nano);
                    prop_assert!(start <= time);
                    #[expect(clippy::cast_precision_loss, reason = "monotonic all the same")]
                    let value = match point.value {
                        Some(Number::AsInt(value)) => value as f64,
                        Some(Number::AsDouble(value)) => value,
                        None => return Err(TestCaseError::fail("no value")),
                    };
                    let before = last.insert((metric.name.clone(), index), (start, value));
                    if let Some((before, least)) = before && before == start && start < time {
                        prop_assert!(least <= value, "{least} {value}");
                    }
                }
            }
        }
    }
}
