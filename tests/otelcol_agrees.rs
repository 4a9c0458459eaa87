//! A real OpenTelemetry Collector reads exported files, and receives every stored record once, bit for
//! bit.
//!
//! The tests compare the Collector's protobuf with the OTLP form of each record, which this file
//! builds independently. Then they import the Collector's own lines and compare those records with the
//! store, so that no record is changed on its way through a Collector.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod collector;
mod common;

use collector::{Collector, report};
use common::{Random, home, on_demand, open, server};
use gridctl_telemetry::{
    Level, LogRecord, MetricsSnapshot, Query, Record, ServerName, Signal, SpanRecord, Store,
    Timestamp, Value, Writer, WriterOptions,
    lines::{LineFormat, LineWriter, ParsedLine, parse_line},
    record::{CostCounts, TokenCounts},
};
use opentelemetry_proto::tonic::{
    common::v1::{
        AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList,
        any_value::Value as Any,
    },
    logs::v1::{LogRecord as OtlpLogRecord, LogsData},
    metrics::v1::{Metric, MetricsData, NumberDataPoint, Sum, metric, number_data_point},
    resource::v1::Resource,
    trace::v1::{
        Span, Status, TracesData,
        span::{Event, Link},
    },
};
use prost::Message;
use std::{
    collections::BTreeMap,
    fmt::Debug,
    fs,
    path::{Path, PathBuf},
};

const SERVERS: [&str; 3] = ["github", "a-server", "日本"];

/// The longest line that the Collector takes by default.
const COLLECTOR_LINE_BYTES_MAX: usize = 1 << 20;

/// The prefix of attributes that hold, for an importer, parts of a record that OTLP cannot represent.
const RESERVED: &str = "gridctl.record.";

/// Records by their identity, see [`key`].
type ByKey<T> = BTreeMap<Vec<u8>, Vec<T>>;

/// Stores generated records as they are: a generated key can look like that of a secret.
fn unredacted() -> WriterOptions {
    on_demand().redactor(None)
}

#[test]
fn on_traces() {
    let Some(collector) = Collector::build("on_traces") else {
        return;
    };
    let home = home();
    let store = open(home.path());
    let (writer, _guard) = Writer::start(&store, unredacted()).unwrap();
    let mut random = Random::from_env();
    for number in 1..=3000 {
        let record = span_record(number, &mut random);
        let server = server(SERVERS[random.below(3)]);
        writer.span(&server, &record).unwrap();
        if random.one_in(100) {
            writer.flush().unwrap();
        }
    }
    writer.flush().unwrap();

    let expected = stored(&store, Signal::Traces);
    agree_both_ways(
        &collector,
        &store,
        Signal::Traces,
        &expected,
        received_spans,
    );
}

#[test]
fn on_logs() {
    let Some(collector) = Collector::build("on_logs") else {
        return;
    };
    let home = home();
    let store = open(home.path());
    let (writer, _guard) = Writer::start(&store, unredacted()).unwrap();
    let mut random = Random::from_env();
    let mut expected = ByKey::new();
    for number in 1..=3000 {
        let (record, severity) = log_record(number, &mut random);
        let server = server(SERVERS[random.below(3)]);
        writer.log(&server, &record).unwrap();
        if random.one_in(100) {
            writer.flush().unwrap();
        }
        let otlp = otlp_log(&record, severity);
        let key = key(&server, &Record::Log(record));
        expected.entry(key).or_insert_with(Vec::new).push(otlp);
    }
    writer.flush().unwrap();

    agree_both_ways(&collector, &store, Signal::Logs, &expected, received_logs);
}

#[test]
fn on_metrics() {
    let Some(collector) = Collector::build("on_metrics") else {
        return;
    };
    let home = home();
    let store = open(home.path());
    let (writer, _guard) = Writer::start(&store, unredacted()).unwrap();
    let mut random = Random::from_env();
    let mut expected = ByKey::new();
    for name in SERVERS {
        let server = server(name);
        for (snapshot, metrics) in snapshots(&mut random) {
            writer.metrics(&server, &snapshot).unwrap();
            for metric in metrics {
                let key = [name.as_bytes(), metric.name.as_bytes(), &time_of(&metric)].concat();
                expected.entry(key).or_insert_with(Vec::new).push(metric);
            }
        }
    }
    writer.flush().unwrap();

    agree_both_ways(
        &collector,
        &store,
        Signal::Metrics,
        &expected,
        received_metrics,
    );
}

/// A Collector identifies a file by its first 1000 bytes, and a gateway's servers share a resource.
#[test]
fn on_files_that_share_a_long_resource() {
    let Some(collector) = Collector::build("on_files_that_share_a_long_resource") else {
        return;
    };
    let home = home();
    let store = open(home.path());
    let (writer, _guard) = Writer::start(&store, unredacted()).unwrap();
    let mut random = Random::from_env();
    for (number, name) in (1..).zip(SERVERS) {
        let mut record = span_record(number, &mut random);
        record.resource = Some(Resource {
            attributes: vec![key_value(
                "process.command",
                Any::StringValue("x".repeat(4000)),
            )],
            ..Resource::default()
        });
        writer.span(&server(name), &record).unwrap();
    }
    writer.flush().unwrap();
    let files = export(&store, Signal::Traces, home.path());
    assert_eq!(files.len(), SERVERS.len());
    let stored = stored(&store, Signal::Traces);
    let received = collector.receive(Signal::Traces, &files, stored.len());
    agree(
        "files with one resource",
        &stored,
        &received_spans(received),
    );
}

#[test]
fn on_a_line_of_the_greatest_length() {
    let Some(collector) = Collector::build("on_a_line_of_the_greatest_length") else {
        return;
    };
    let home = home();
    let store = open(home.path());
    let (writer, _guard) = Writer::start(&store, unredacted()).unwrap();
    let mut record = span_record(1, &mut Random::new(1));
    let mut write = |name: String| {
        record.span.name = name;
        record.span.span_id[0] += 1;
        writer.span(&server("github"), &record).unwrap();
        writer.flush().unwrap();
        let files = export(&store, Signal::Traces, home.path());
        fs::read(&files[0]).unwrap().len()
    };
    let bytes = write("x".to_owned()) - 1;
    write("x".repeat(COLLECTOR_LINE_BYTES_MAX - bytes));

    let files = export(&store, Signal::Traces, home.path());
    let text = fs::read_to_string(&files[0]).unwrap();
    let longest = text.split_inclusive('\n').map(str::len).max();
    assert_eq!(longest, Some(COLLECTOR_LINE_BYTES_MAX));
    let received: Vec<TracesData> = collector.receive(Signal::Traces, &files, 2);
    assert_eq!(received_spans(received).len(), 2);
}

/// Compares the records that the Collector receives with `expected`, and the import of its own lines
/// with the store.
fn agree_both_ways<M: Message + Default, T: Normal>(
    collector: &Collector,
    store: &Store,
    signal: Signal,
    expected: &ByKey<T>,
    received: impl Fn(Vec<M>) -> ByKey<T>,
) {
    let folder = home();
    let files = export(store, signal, folder.path());
    let messages = collector.receive(signal, &files, expected.len());
    agree(signal.as_str(), expected, &received(messages));
    let relayed = collector.relay(signal, &files, expected.len());
    agree(
        &format!("{signal}, and their import"),
        &stored(store, signal),
        &imported(signal, &relayed),
    );
}

/// A span whose id follows from `number`, with random contents.
fn span_record(number: u64, random: &mut Random) -> SpanRecord {
    let start = 1_700_000_000_000_000_000 + number * 1_000_003;
    let envelope = random.below(3);
    let mut attributes = vec![key_value("server.name", Any::StringValue("x".to_owned()))];
    attributes.extend(any_attributes(random));
    SpanRecord::new(Span {
        trace_id: random_bytes(16, random),
        span_id: number.to_be_bytes().to_vec(),
        trace_state: ["", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"][random.below(2)].to_owned(),
        parent_span_id: match random.below(2) {
            0 => Vec::new(),
            _ => random_bytes(8, random),
        },
        flags: [0, 1, 0x101, u32::MAX][random.below(4)],
        name: any_text(random),
        kind: i32::try_from(random.below(6)).unwrap(),
        start_time_unix_nano: start,
        end_time_unix_nano: start + random.next() % 10_000_000_000,
        attributes,
        dropped_attributes_count: [0, 7, u32::MAX][random.below(3)],
        events: (0..random.below(3))
            .map(|event| Event {
                time_unix_nano: start + event as u64,
                name: any_text(random),
                attributes: any_attributes(random),
                dropped_attributes_count: [0, 1][random.below(2)],
            })
            .collect(),
        dropped_events_count: [0, 1][random.below(2)],
        links: (0..random.below(2))
            .map(|_| Link {
                trace_id: random_bytes(16, random),
                span_id: random_bytes(8, random),
                trace_state: "a=b".to_owned(),
                attributes: any_attributes(random),
                dropped_attributes_count: 3,
                flags: 0x300,
            })
            .collect(),
        dropped_links_count: [0, 1][random.below(2)],
        status: [
            None,
            Some(Status::default()),
            Some(Status {
                message: String::new(),
                code: 1,
            }),
            Some(Status {
                message: any_text(random),
                code: 2,
            }),
        ][random.below(4)]
        .clone(),
    })
    .resource(
        (envelope > 0).then(|| resource([0, 7, i64::MAX][envelope])),
        ["", "https://opentelemetry.io/schemas/1.37.0"][random.below(2)].to_owned(),
    )
    .scope(
        (envelope > 1).then(|| InstrumentationScope {
            name: "gateway".to_owned(),
            version: "1.2.3".to_owned(),
            attributes: vec![key_value("a", Any::BoolValue(false))],
            dropped_attributes_count: 1,
        }),
        ["", "https://opentelemetry.io/schemas/1.36.0"][envelope % 2].to_owned(),
    )
}

fn resource(number: i64) -> Resource {
    Resource {
        attributes: vec![
            key_value("service.name", Any::StringValue("gateway".to_owned())),
            key_value("service.instance.id", Any::IntValue(number)),
        ],
        dropped_attributes_count: 2,
        entity_refs: vec![EntityRef {
            schema_url: "https://opentelemetry.io/schemas/1.37.0".to_owned(),
            r#type: "service".to_owned(),
            id_keys: vec!["service.instance.id".to_owned()],
            description_keys: vec!["service.name".to_owned()],
        }],
    }
}

fn random_bytes(count: usize, random: &mut Random) -> Vec<u8> {
    (0..count).map(|_| random.next().to_le_bytes()[0]).collect()
}

fn any_text(random: &mut Random) -> String {
    let texts = [
        "",
        "tools/call search",
        "\"\\/\u{0}\u{7f}\u{2028}\n",
        "日本 é 😀",
        "<&>",
    ];
    texts[random.below(texts.len())].repeat(1 + random.below(20))
}

fn any_attributes(random: &mut Random) -> Vec<KeyValue> {
    (0..random.below(6))
        .map(|number| key_value(&format!("key.{number}"), any_value(3, random)))
        .collect()
}

fn any_value(depth: usize, random: &mut Random) -> Any {
    let kinds = if depth > 0 { 8 } else { 6 };
    match random.below(kinds) {
        0 => Any::StringValue(any_text(random)),
        1 => Any::BoolValue(random.one_in(2)),
        2 => Any::IntValue([0, -1, i64::MIN, i64::MAX, (1 << 53) + 1][random.below(5)]),
        3 => {
            let doubles = [
                0.0,
                -0.0,
                1.0,
                0.1,
                f64::NAN,
                f64::INFINITY,
                f64::NEG_INFINITY,
                f64::MAX,
                5e-324,
            ];
            Any::DoubleValue(doubles[random.below(doubles.len())])
        }
        4 => Any::DoubleValue(f64::from_bits(random.next() & !(1 << 62))),
        5 => Any::BytesValue(random_bytes(random.below(4), random)),
        6 => Any::ArrayValue(ArrayValue {
            values: (0..random.below(4))
                .map(|index| AnyValue {
                    // The first is empty, which means null.
                    value: (index > 0).then(|| any_value(depth - 1, random)),
                })
                .collect(),
        }),
        _ => Any::KvlistValue(KeyValueList {
            values: any_attributes(random),
        }),
    }
}

fn key_value(key: &str, value: Any) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// Levels with their severity numbers and slog's names.
const LEVELS: [(Level, i32, &str); 9] = [
    (Level::TRACE, 1, "DEBUG-4"),
    (Level::DEBUG, 5, "DEBUG"),
    (Level(-3), 6, "DEBUG+1"),
    (Level::INFO, 9, "INFO"),
    (Level(2), 11, "INFO+2"),
    (Level::WARN, 13, "WARN"),
    (Level::ERROR, 17, "ERROR"),
    (Level(12), 21, "ERROR+4"),
    (Level(300), 24, "ERROR+292"),
];

/// A log record with the attribute `number`, and its level in OTLP.
fn log_record(number: i64, random: &mut Random) -> (LogRecord, (i32, &'static str)) {
    let (level, severity, text) = LEVELS[random.below(LEVELS.len())];
    let time = Timestamp::from_unix_nanos(1_700_000_000_000_000_000 + number * 999_983);
    let mut record = LogRecord::new(time, level, any_text(random)).with("number", number);
    if random.one_in(2) {
        let (_, offset) = Timestamp::parse_rfc3339("2026-05-08T00:00:00-04:00").unwrap();
        record.utc_offset = offset;
    }
    for (key, value) in any_entries(4, random) {
        record = record.with(key, value);
    }
    let ids = [
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "00f067aa0ba902b7",
        "none",
    ];
    for key in [
        "trace_id",
        "component",
        "span_id",
        "component",
        "gridctl.record.exact",
    ] {
        if random.one_in(3) {
            record = record.with(key, ids[random.below(3)]);
        }
    }
    (record, (severity, text))
}

/// Entries with keys that may be repeated.
fn any_entries(depth: usize, random: &mut Random) -> Vec<(String, Value)> {
    (0..random.below(5))
        .map(|_| {
            (
                format!("key.{}", random.below(20)),
                any_entry(depth, random),
            )
        })
        .collect()
}

fn any_entry(depth: usize, random: &mut Random) -> Value {
    match random.below(if depth > 0 { 9 } else { 7 }) {
        0 => Value::Null,
        1 => Value::Bool(random.one_in(2)),
        2 => Value::Int([0, -1, i64::MIN, i64::MAX][random.below(4)]),
        3 => Value::UInt(u64::MAX - random.next() % 2),
        4 => Value::Float([0.5, -0.0, f64::NAN, f64::INFINITY, f64::MAX][random.below(5)]),
        5 => Value::Number("-18446744073709551616".into()),
        6 => Value::String(any_text(random)),
        7 => Value::Array(
            (0..random.below(4))
                .map(|_| any_entry(depth - 1, random))
                .collect(),
        ),
        _ => Value::Object(any_entries(depth - 1, random)),
    }
}

/// The OTLP form of a log record, without reserved keys.
fn otlp_log(record: &LogRecord, (severity_number, text): (i32, &str)) -> OtlpLogRecord {
    let id = |key: &str, digits: usize| match record.attribute(key) {
        Some(Value::String(text)) if text.len() == digits => (0..digits / 2)
            .map(|byte| u8::from_str_radix(&text[2 * byte..][..2], 16).unwrap())
            .collect(),
        _ => Vec::new(),
    };
    let Any::KvlistValue(attributes) = shown(&Value::Object(record.attributes.clone())) else {
        unreachable!("an object")
    };
    let mut attributes = attributes.values;
    attributes.retain(|entry| !entry.key.starts_with(RESERVED));
    OtlpLogRecord {
        time_unix_nano: record.timestamp.unix_nanos().cast_unsigned(),
        severity_number,
        severity_text: text.to_owned(),
        body: Some(AnyValue {
            value: Some(Any::StringValue(record.message.clone())),
        }),
        attributes,
        trace_id: id("trace_id", 32),
        span_id: id("span_id", 16),
        ..OtlpLogRecord::default()
    }
}

/// A value as a consumer sees it: with the last entry of each key, and large numbers as text.
fn shown(value: &Value) -> Any {
    let any = |value: &Value| AnyValue {
        value: (*value != Value::Null).then(|| shown(value)),
    };
    match value {
        Value::Null => unreachable!("null has no value in OTLP"),
        Value::Bool(value) => Any::BoolValue(*value),
        Value::Int(value) => Any::IntValue(*value),
        Value::UInt(value) => Any::StringValue(value.to_string()),
        Value::Float(value) => Any::DoubleValue(*value),
        Value::Number(text) => Any::StringValue(text.to_string()),
        Value::String(text) => Any::StringValue(text.clone()),
        Value::Array(items) => Any::ArrayValue(ArrayValue {
            values: items.iter().map(any).collect(),
        }),
        Value::Object(entries) => {
            let is_last = |(index, (key, _)): &(usize, &(String, Value))| {
                entries[index + 1..].iter().all(|(later, _)| later != key)
            };
            let last = entries.iter().enumerate().filter(is_last);
            let values = last.map(|(_, (key, value))| KeyValue {
                key: key.clone(),
                value: Some(any(value)),
                ..KeyValue::default()
            });
            Any::KvlistValue(KeyValueList {
                values: values.collect(),
            })
        }
    }
}

/// A day of a server's snapshots, and the metrics that each is exported as.
fn snapshots(random: &mut Random) -> Vec<(MetricsSnapshot, Vec<Metric>)> {
    let mut snapshots = Vec::new();
    let (mut tokens, mut costs) = ([0; 2], [0; 4]);
    let (mut tokens_start, mut costs_start) = (0, 0);
    let first_cost = random.below(20);
    for minute in 0..200 {
        let nanos = 1_700_000_000_000_000_000 + minute as u64 * 60_000_000_000;
        let mut snapshot = MetricsSnapshot::new(Timestamp::from_unix_nanos(nanos.cast_signed()));
        snapshot.reset = minute == 0 || random.one_in(20);
        snapshot.cost_reset = !snapshot.reset && minute > first_cost && random.one_in(20);
        if snapshot.reset {
            (tokens, tokens_start) = ([0; 2], nanos);
        }
        if snapshot.reset || snapshot.cost_reset || minute == first_cost {
            (costs, costs_start) = ([0; 4], nanos);
        }
        let mut gain = |bound: usize| i64::try_from(random.below(bound)).unwrap();
        let diff = [gain(1000), gain(1000)];
        let cost_diff = [gain(90_000), gain(90_000), gain(3), gain(3)];
        tokens = [tokens[0] + diff[0], tokens[1] + diff[1]];
        costs = std::array::from_fn(|kind| costs[kind] + cost_diff[kind]);
        (snapshot.diff, snapshot.total) = (token_counts(diff), token_counts(tokens));
        if minute >= first_cost {
            snapshot.cost_diff = random.one_in(2).then(|| cost_counts(cost_diff));
            snapshot.cost_total = Some(cost_counts(costs));
        }
        if random.one_in(3) {
            let usage = Value::Object(any_entries(2, random));
            snapshot.extra.push(("tool_usage".to_owned(), usage));
        }
        let point = |kind: &str, start, value| NumberDataPoint {
            attributes: vec![key_value(
                "gen_ai.token.type",
                Any::StringValue(kind.to_owned()),
            )],
            start_time_unix_nano: start,
            time_unix_nano: nanos,
            value: Some(value),
            ..NumberDataPoint::default()
        };
        let token = |kind, count| point(kind, tokens_start, number_data_point::Value::AsInt(count));
        let usd = |kind, micros: i64| {
            let usd = f64::from(i32::try_from(micros).unwrap()) / 1e6;
            point(kind, costs_start, number_data_point::Value::AsDouble(usd))
        };
        let mut metrics = vec![sum(
            "gridctl.tokens",
            "{token}",
            vec![token("input", tokens[0]), token("output", tokens[1])],
        )];
        if minute >= first_cost {
            metrics.push(sum(
                "gridctl.cost",
                "{USD}",
                vec![
                    usd("input", costs[0]),
                    usd("output", costs[1]),
                    usd("cache_read", costs[2]),
                    usd("cache_write", costs[3]),
                ],
            ));
        }
        snapshots.push((snapshot, metrics));
    }
    snapshots
}

fn token_counts([input_tokens, output_tokens]: [i64; 2]) -> TokenCounts {
    TokenCounts {
        input_tokens,
        output_tokens,
        total_tokens: input_tokens + output_tokens,
    }
}

fn cost_counts([input, output, cache_read, cache_write]: [i64; 4]) -> CostCounts {
    CostCounts {
        input_micro_usd: input,
        output_micro_usd: output,
        cache_read_micro_usd: cache_read,
        cache_write_micro_usd: cache_write,
    }
}

fn sum(name: &str, unit: &str, data_points: Vec<NumberDataPoint>) -> Metric {
    Metric {
        name: name.to_owned(),
        unit: unit.to_owned(),
        data: Some(metric::Data::Sum(Sum {
            data_points,
            aggregation_temporality: 2,
            is_monotonic: true,
        })),
        ..Metric::default()
    }
}

fn time_of(metric: &Metric) -> [u8; 8] {
    match &metric.data {
        Some(metric::Data::Sum(sum)) => sum.data_points[0].time_unix_nano.to_be_bytes(),
        other => panic!("{other:?}"),
    }
}

/// Writes the files of one signal, one for each server, and returns their paths.
fn export(store: &Store, signal: Signal, folder: &Path) -> Vec<PathBuf> {
    let snapshot = store.snapshot().unwrap();
    let mut servers: Vec<ServerName> = snapshot
        .inventory(None)
        .unwrap()
        .into_iter()
        .filter(|entry| entry.signal == signal)
        .map(|entry| entry.server)
        .collect();
    servers.dedup();
    let export = |(index, server): (usize, ServerName)| {
        let path = folder.join(format!("{index}-{signal}.jsonl"));
        let (mut writer, mut out) = (LineWriter::new(LineFormat::Otlp), Vec::new());
        let mut scan = snapshot.scan(&Query::new(signal).server(server)).unwrap();
        while let Some(record) = scan.next().unwrap() {
            writer.write(&record, &mut out).unwrap();
        }
        writer.finish(&mut out);
        assert_eq!(writer.long_lines(), 0);
        fs::write(&path, out).unwrap();
        path
    };
    servers.into_iter().enumerate().map(export).collect()
}

/// The identity of a record.
fn key(server: &str, record: &Record) -> Vec<u8> {
    match record {
        Record::Span(record) => record.span.span_id.clone(),
        record => {
            let time = record.timestamp().unix_nanos().to_be_bytes();
            [server.as_bytes(), &time].concat()
        }
    }
}

/// The stored records of a signal.
fn stored(store: &Store, signal: Signal) -> ByKey<Record> {
    let mut found = ByKey::new();
    for stored in store.scan(&Query::new(signal)).unwrap() {
        let stored = stored.unwrap();
        let key = key(&stored.server, &stored.record);
        found
            .entry(key)
            .or_insert_with(Vec::new)
            .push(stored.record);
    }
    found
}

/// The records of the lines of a file.
fn imported(signal: Signal, lines: &[u8]) -> ByKey<Record> {
    let mut found = ByKey::new();
    let mut add = |server: Option<String>, record: Record| {
        let key = key(&server.unwrap(), &record);
        found.entry(key).or_insert_with(Vec::new).push(record);
    };
    for line in lines
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        match parse_line(signal, line).unwrap() {
            ParsedLine::Logs(records) => {
                for (server, log) in records {
                    add(server, Record::Log(log));
                }
            }
            ParsedLine::Metrics(records) => {
                for (server, snapshot) in records {
                    add(server, Record::Metrics(snapshot));
                }
            }
            ParsedLine::Spans(records) => {
                for (server, span) in records {
                    add(server, Record::Span(Box::new(span)));
                }
            }
            other => panic!("{other:?}"),
        }
    }
    found
}

/// The received spans.
fn received_spans(received: Vec<TracesData>) -> ByKey<Record> {
    let mut found = ByKey::new();
    for resource_spans in received.into_iter().flat_map(|data| data.resource_spans) {
        for scope_spans in resource_spans.scope_spans {
            for span in scope_spans.spans {
                let key = span.span_id.clone();
                let record = SpanRecord::new(span)
                    .resource(
                        resource_spans.resource.clone(),
                        resource_spans.schema_url.clone(),
                    )
                    .scope(scope_spans.scope.clone(), scope_spans.schema_url.clone());
                found
                    .entry(key)
                    .or_insert_with(Vec::new)
                    .push(Record::Span(Box::new(record)));
            }
        }
    }
    found
}

/// The received log records, without reserved keys.
fn received_logs(received: Vec<LogsData>) -> ByKey<OtlpLogRecord> {
    let mut found = ByKey::new();
    for resource_logs in received.into_iter().flat_map(|data| data.resource_logs) {
        let server = service_name(resource_logs.resource);
        for mut record in resource_logs
            .scope_logs
            .into_iter()
            .flat_map(|logs| logs.log_records)
        {
            record
                .attributes
                .retain(|entry| !entry.key.starts_with(RESERVED));
            let key = [server.as_bytes(), &record.time_unix_nano.to_be_bytes()].concat();
            found.entry(key).or_insert_with(Vec::new).push(record);
        }
    }
    found
}

/// The received metrics, without metadata and descriptions.
fn received_metrics(received: Vec<MetricsData>) -> ByKey<Metric> {
    let mut found = ByKey::new();
    for resource_metrics in received.into_iter().flat_map(|data| data.resource_metrics) {
        let server = service_name(resource_metrics.resource);
        for scope_metrics in resource_metrics.scope_metrics {
            for mut metric in scope_metrics.metrics {
                metric.metadata.clear();
                metric.description.clear();
                let key = [server.as_bytes(), metric.name.as_bytes(), &time_of(&metric)].concat();
                found.entry(key).or_insert_with(Vec::new).push(metric);
            }
        }
    }
    found
}

/// The server of a resource that has no other attributes.
fn service_name(resource: Option<Resource>) -> String {
    let attributes = resource.unwrap().attributes;
    let [
        KeyValue {
            key,
            value:
                Some(AnyValue {
                    value: Some(Any::StringValue(name)),
                }),
            ..
        },
    ] = attributes.as_slice()
    else {
        panic!("{attributes:?}")
    };
    assert_eq!(key, "service.name");
    name.clone()
}

/// Records that can be brought into the form in which the Collector writes them.
trait Normal: Debug + Clone {
    /// Fills in fields that the Collector cannot leave out, and makes all NaN the same.
    fn normalise(&mut self);
}

impl Normal for Record {
    fn normalise(&mut self) {
        match self {
            Record::Log(record) => normalise_entries(&mut record.attributes),
            Record::Metrics(record) => normalise_entries(&mut record.extra),
            Record::Span(record) => record.normalise(),
            other => panic!("{other:?}"),
        }
    }
}

impl Normal for OtlpLogRecord {
    fn normalise(&mut self) {
        normalise_attributes(&mut self.attributes);
    }
}

impl Normal for Metric {
    fn normalise(&mut self) {}
}

impl Normal for SpanRecord {
    fn normalise(&mut self) {
        normalise_attributes(&mut self.resource.get_or_insert_default().attributes);
        normalise_attributes(&mut self.scope.get_or_insert_default().attributes);
        self.span.status.get_or_insert_default();
        normalise_attributes(&mut self.span.attributes);
        for event in &mut self.span.events {
            normalise_attributes(&mut event.attributes);
        }
        for link in &mut self.span.links {
            normalise_attributes(&mut link.attributes);
        }
    }
}

fn normalise_attributes(attributes: &mut [KeyValue]) {
    for attribute in attributes {
        normalise_value(attribute.value.get_or_insert_default());
    }
}

fn normalise_value(value: &mut AnyValue) {
    match &mut value.value {
        // Go's NaN has other bits than Rust's.
        Some(Any::DoubleValue(double)) if double.is_nan() => *double = f64::NAN,
        Some(Any::ArrayValue(array)) => array.values.iter_mut().for_each(normalise_value),
        Some(Any::KvlistValue(list)) => normalise_attributes(&mut list.values),
        _ => {}
    }
}

fn normalise_entries(entries: &mut [(String, Value)]) {
    for (_, value) in entries {
        normalise_entry(value);
    }
}

fn normalise_entry(value: &mut Value) {
    match value {
        Value::Float(float) if float.is_nan() => *float = f64::NAN,
        Value::Array(items) => items.iter_mut().for_each(normalise_entry),
        Value::Object(entries) => normalise_entries(entries),
        _ => {}
    }
}

/// Panics unless every stored record was received once and unchanged.
fn agree<T: Normal>(what: &str, stored: &ByKey<T>, received: &ByKey<T>) {
    // As text, in which a NaN is equal to itself, and -0.0 is not equal to 0.0.
    let text = |records: Option<&Vec<T>>| {
        let mut records = records.cloned().unwrap_or_default();
        records.iter_mut().for_each(Normal::normalise);
        format!("{records:?}")
    };
    let mut differences = 0;
    let foreign = received
        .keys()
        .filter(|number| !stored.contains_key(*number));
    for number in stored.keys().chain(foreign) {
        let (ours, theirs) = (text(stored.get(number)), text(received.get(number)));
        if ours != theirs {
            differences += 1;
            if differences <= 3 {
                report(&format!(
                    "{what} {number:?}: {}",
                    difference(&ours, &theirs)
                ));
            }
        }
    }
    let count = |records: &ByKey<T>| records.values().map(Vec::len).sum::<usize>();
    let (ours, theirs) = (count(stored), count(received));
    report(&format!(
        "a Collector reads {what}: {ours} exported, {theirs} received, {differences} differences"
    ));
    assert!(ours > 0 && ours == theirs && differences == 0);
}

/// The place at which two texts differ.
fn difference(ours: &str, theirs: &str) -> String {
    let same = ours.chars().zip(theirs.chars()).take_while(|(a, b)| a == b);
    let start = same.count().saturating_sub(80);
    let excerpt = |text: &str| text.chars().skip(start).take(200).collect::<String>();
    format!(
        "\n stored   …{}\n received …{}",
        excerpt(ours),
        excerpt(theirs)
    )
}
