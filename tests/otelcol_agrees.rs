//! A real OpenTelemetry Collector reads what is exported, and what it has read is what the store
//! holds: every record once, bit for bit.

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
    LineFormat, LineWriter, Query, Record, ServerName, Signal, SpanRecord, Store, Writer,
};
use opentelemetry_proto::tonic::{
    common::v1::{
        AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList,
        any_value::Value,
    },
    resource::v1::Resource,
    trace::v1::{
        Span, Status, TracesData,
        span::{Event, Link},
    },
};
use std::{
    collections::BTreeMap,
    fmt::Debug,
    fs,
    path::{Path, PathBuf},
};

const SERVERS: [&str; 3] = ["github", "a-server", "日本"];

/// The longest line that the Collector takes by default.
const LINE_BYTES_MAX: usize = 1 << 20;

#[test]
fn on_traces() {
    let Some(collector) = Collector::build("on_traces") else {
        return;
    };
    let home = home();
    let store = open(home.path());
    let (writer, _guard) = Writer::start(&store, &on_demand()).unwrap();
    let mut random = Random::from_env();
    for number in 1..=3000 {
        let record = span_record(number, &mut random);
        writer
            .span(&server(SERVERS[random.below(3)]), &record)
            .unwrap();
        if random.one_in(100) {
            writer.flush().unwrap();
        }
    }
    writer.flush().unwrap();

    let files = export(&store, Signal::Traces, home.path());
    let stored = records(&store, Signal::Traces, |record| {
        let span = record.into_span().unwrap();
        (span.span.span_id.clone(), span)
    });
    let received = collector.receive(Signal::Traces, &files, stored.len());
    agree("traces", &stored, &received_spans(received));
}

#[test]
fn on_a_line_of_the_greatest_length() {
    let Some(collector) = Collector::build("on_a_line_of_the_greatest_length") else {
        return;
    };
    let home = home();
    let store = open(home.path());
    let (writer, _guard) = Writer::start(&store, &on_demand()).unwrap();
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
    write("x".repeat(LINE_BYTES_MAX - bytes));

    let files = export(&store, Signal::Traces, home.path());
    let text = fs::read_to_string(&files[0]).unwrap();
    let longest = text.split_inclusive('\n').map(str::len).max();
    assert_eq!(longest, Some(LINE_BYTES_MAX));
    let received: Vec<TracesData> = collector.receive(Signal::Traces, &files, 2);
    assert_eq!(received_spans(received).len(), 2);
}

/// A span whose id follows from `number`, and whose shape is any.
fn span_record(number: u64, random: &mut Random) -> SpanRecord {
    let start = 1_700_000_000_000_000_000 + number * 1_000_003;
    let envelope = random.below(3);
    let mut attributes = vec![key_value("server.name", Value::StringValue("x".to_owned()))];
    attributes.extend(any_attributes(random));
    SpanRecord {
        resource: (envelope > 0).then(|| resource([0, 7, i64::MAX][envelope])),
        resource_schema_url: ["", "https://opentelemetry.io/schemas/1.37.0"][random.below(2)]
            .to_owned(),
        scope: (envelope > 1).then(|| InstrumentationScope {
            name: "gateway".to_owned(),
            version: "1.2.3".to_owned(),
            attributes: vec![key_value("a", Value::BoolValue(false))],
            dropped_attributes_count: 1,
        }),
        scope_schema_url: ["", "https://opentelemetry.io/schemas/1.36.0"][envelope % 2].to_owned(),
        span: Span {
            trace_id: random_bytes(16, random),
            span_id: number.to_be_bytes().to_vec(),
            trace_state: ["", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"][random.below(2)]
                .to_owned(),
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
        },
    }
}

fn resource(number: i64) -> Resource {
    Resource {
        attributes: vec![
            key_value("service.name", Value::StringValue("gateway".to_owned())),
            key_value("service.instance.id", Value::IntValue(number)),
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

fn any_value(depth: usize, random: &mut Random) -> Value {
    let kinds = if depth > 0 { 8 } else { 6 };
    match random.below(kinds) {
        0 => Value::StringValue(any_text(random)),
        1 => Value::BoolValue(random.one_in(2)),
        2 => Value::IntValue([0, -1, i64::MIN, i64::MAX, (1 << 53) + 1][random.below(5)]),
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
            Value::DoubleValue(doubles[random.below(doubles.len())])
        }
        4 => Value::DoubleValue(f64::from_bits(random.next() & !(1 << 62))),
        5 => Value::BytesValue(random_bytes(random.below(4), random)),
        6 => Value::ArrayValue(ArrayValue {
            values: (0..random.below(4))
                .map(|index| AnyValue {
                    // The first is empty: null.
                    value: (index > 0).then(|| any_value(depth - 1, random)),
                })
                .collect(),
        }),
        _ => Value::KvlistValue(KeyValueList {
            values: any_attributes(random),
        }),
    }
}

fn key_value(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// Writes the files of one signal, one for each server, and says which.
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
        let (mut writer, mut out) = (LineWriter::new(LineFormat::Ndjson), Vec::new());
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

/// What the store holds of a signal, by the number that `known` takes from each record.
fn records<T>(
    store: &Store,
    signal: Signal,
    known: impl Fn(Record) -> (Vec<u8>, T),
) -> BTreeMap<Vec<u8>, Vec<T>> {
    let mut found: BTreeMap<Vec<u8>, Vec<T>> = BTreeMap::new();
    for record in store.scan(&Query::new(signal)).unwrap() {
        let (number, record) = known(record.unwrap().record);
        found.entry(number).or_default().push(record);
    }
    found
}

/// Each span that was received, by its id.
fn received_spans(received: Vec<TracesData>) -> BTreeMap<Vec<u8>, Vec<SpanRecord>> {
    let mut found: BTreeMap<Vec<u8>, Vec<SpanRecord>> = BTreeMap::new();
    for resource_spans in received.into_iter().flat_map(|data| data.resource_spans) {
        for scope_spans in resource_spans.scope_spans {
            for span in scope_spans.spans {
                found
                    .entry(span.span_id.clone())
                    .or_default()
                    .push(SpanRecord {
                        resource: resource_spans.resource.clone(),
                        resource_schema_url: resource_spans.schema_url.clone(),
                        scope: scope_spans.scope.clone(),
                        scope_schema_url: scope_spans.schema_url.clone(),
                        span,
                    });
            }
        }
    }
    found
}

/// Records in the form that the Collector gives them.
trait Normal: Debug + Clone {
    /// Makes present what the Collector does not know as absent, and all NaN one.
    fn normalise(&mut self);
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
        // Go has another NaN than Rust.
        Some(Value::DoubleValue(double)) if double.is_nan() => *double = f64::NAN,
        Some(Value::ArrayValue(array)) => array.values.iter_mut().for_each(normalise_value),
        Some(Value::KvlistValue(list)) => normalise_attributes(&mut list.values),
        _ => {}
    }
}

/// Panics unless every record that is stored was received once and is as it is stored.
fn agree<T: Normal>(
    what: &str,
    stored: &BTreeMap<Vec<u8>, Vec<T>>,
    received: &BTreeMap<Vec<u8>, Vec<T>>,
) {
    // As text: a NaN is equal to itself, and -0.0 is not equal to 0.0.
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
    let count = |records: &BTreeMap<_, Vec<T>>| records.values().map(Vec::len).sum::<usize>();
    let (ours, theirs) = (count(stored), count(received));
    report(&format!(
        "a Collector reads {what}: {ours} exported, {theirs} received, {differences} differences"
    ));
    assert!(ours > 0 && ours == theirs && differences == 0);
}

/// Where two texts part ways.
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
