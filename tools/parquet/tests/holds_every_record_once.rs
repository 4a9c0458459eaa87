//! Every record of a store is in the files once, and each of its parts is in the column that the exporter has for it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use bytes::Bytes;
use gridctl_telemetry::{
    Level, LogRecord, Query, Record, ServerName, Signal, SpanRecord, Store, StoreOptions,
    Timestamp, Value,
    external::opentelemetry_proto::tonic::{
        common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value as Any},
        resource::v1::Resource,
        trace::v1::{
            Span, Status,
            span::{Event, Link},
        },
    },
    import::{ImportBatch, Importer},
};
use gridctl_telemetry_parquet::{Origin, ParquetFile, Rows, Table};
use parquet::{
    file::reader::{FileReader, SerializedFileReader},
    record::Field,
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use std::collections::BTreeMap;

/// A row as text, by the names of its columns.
type Row = BTreeMap<String, String>;

/// The rows of the records of a store, and the number of row groups that they are in.
fn exported(store: &Store, signal: Signal, table: Table, group_rows: usize) -> (Vec<Row>, usize) {
    let origin = Origin {
        attributes: vec![
            ("host.name".to_owned(), "build-7".to_owned()),
            ("service.instance.id".to_owned(), "a1".to_owned()),
        ],
    };
    let mut rows = Rows::new(origin);
    let mut file = ParquetFile::begin(table, Vec::new()).unwrap();
    let mut scan = store.snapshot().unwrap().scan(&Query::new(signal)).unwrap();
    let mut count = 0;
    while let Some(record) = scan.next().unwrap() {
        rows.push(&record).unwrap();
        count += 1;
        if count % group_rows == 0 {
            rows.flush(&mut file).unwrap();
            assert!(!rows.waiting().any(|waiting| waiting == table));
        }
    }
    rows.flush(&mut file).unwrap();
    let bytes = Bytes::from(file.finish().unwrap());
    let reader = SerializedFileReader::new(bytes).unwrap();
    let groups = reader.num_row_groups();
    let rows = reader.get_row_iter(None).unwrap().map(|row| {
        let row = row.unwrap();
        let columns = row.get_column_iter();
        columns
            .map(|(name, field)| (name.clone(), text(field)))
            .collect()
    });
    (rows.collect(), groups)
}

fn text(field: &Field) -> String {
    match field {
        Field::Str(text) => text.clone(),
        Field::Long(value) => value.to_string(),
        Field::Int(value) => value.to_string(),
        Field::UByte(value) => value.to_string(),
        Field::UInt(value) => value.to_string(),
        Field::ULong(value) => value.to_string(),
        Field::Double(value) => format!("{value:?}"),
        Field::Bool(value) => value.to_string(),
        Field::ListInternal(list) => {
            format!("{:?}", list.elements().iter().map(text).collect::<Vec<_>>())
        }
        Field::MapInternal(map) => {
            let entries = map.entries().iter();
            map_text(entries.map(|(key, value)| (text(key), text(value))))
        }
        other => panic!("{other:?}"),
    }
}

fn map_text(entries: impl IntoIterator<Item = (String, String)>) -> String {
    format!("{:?}", entries.into_iter().collect::<Vec<_>>())
}

fn list_text(items: impl IntoIterator<Item = String>) -> String {
    format!("{:?}", items.into_iter().collect::<Vec<_>>())
}

/// A store with these records, a batch for each.
fn store_of(records: &[(ServerName, Record)]) -> (tempfile::TempDir, Store) {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path(), "gw", StoreOptions::default()).unwrap();
    let mut importer = Importer::new(&store).unwrap();
    for some in records.chunks(7) {
        let mut batch = ImportBatch::default();
        for (server, record) in some {
            batch.push(server, record).unwrap();
        }
        importer.add(batch).unwrap();
    }
    (home, store)
}

/// Values, each with its text.
fn any_value() -> impl Strategy<Value = (Value, String)> {
    prop_oneof![
        any::<String>().prop_map(|text| (Value::String(text.clone()), text)),
        any::<i64>().prop_map(|value| (Value::Int(value), value.to_string())),
        any::<bool>().prop_map(|value| (Value::Bool(value), value.to_string())),
        (-1000_i32..1000).prop_map(|value| {
            let value = f64::from(value) / 8.0;
            (Value::Float(value), format!("{value}"))
        }),
        select(vec![
            (Value::Null, ""),
            (Value::UInt(u64::MAX), "18446744073709551615"),
            (Value::Number("1e400".into()), "1e400"),
            (Value::Float(f64::INFINITY), "json: unsupported value: +Inf"),
            (Value::Float(1e-9), "1e-9"),
            (
                Value::Array(vec![Value::Null, Value::from("<é>")]),
                "[null,\"<é>\"]"
            ),
            (
                Value::Object(vec![
                    ("b".into(), Value::Int(1)),
                    ("a".into(), Value::Object(vec![]))
                ]),
                "{\"a\":{},\"b\":1}",
            ),
        ])
        .prop_map(|(value, text)| (value, text.to_owned())),
    ]
}

const TIMES: [i64; 6] = [
    i64::MIN + 1,
    -1,
    0,
    1_778_283_543_123_456_789,
    1_778_283_543_123_456_790,
    i64::MAX,
];

fn any_server() -> impl Strategy<Value = ServerName> {
    select(vec!["github", "a/../b", "é\u{202e}", "=%", " "])
        .prop_map(|name| ServerName::new(name).unwrap())
}

/// Attributes with unique keys, and their texts.
fn any_attributes() -> impl Strategy<Value = Vec<(String, (Value, String))>> {
    let key =
        select(vec!["", "tool", "é.x", "session id", "trace_id", "\u{0}"]).prop_map(str::to_owned);
    vec((key, any_value()), 0..6).prop_map(|entries| {
        let unique: BTreeMap<_, _> = entries.into_iter().collect();
        unique.into_iter().collect()
    })
}

fn any_log() -> impl Strategy<Value = (ServerName, LogRecord, Row)> {
    let ids = option::of((any::<u128>(), any::<u64>()));
    (
        any_server(),
        select(&TIMES[..]),
        -20_i32..20,
        ".{0,9}",
        any_attributes(),
        ids,
    )
        .prop_map(|(server, nanos, level, message, attributes, ids)| {
            let level = Level(level);
            let mut record = LogRecord::new(Timestamp::from_unix_nanos(nanos), level, &message);
            let mut expected = vec![];
            for (key, (value, text)) in attributes {
                // The same key again, which counts less than the later one.
                if key == "tool" {
                    record = record.with("tool", "earlier");
                }
                record = record.with(key.clone(), value);
                // An id that is none is an attribute like any other; a later one replaces it.
                if key != "trace_id" || ids.is_none() {
                    expected.push((key, text));
                }
            }
            let mut row = Row::new();
            let (trace_id, span_id) = match ids {
                Some((trace, span)) => (format!("{trace:032x}"), format!("{span:016x}")),
                None => (String::new(), String::new()),
            };
            if ids.is_some() {
                record = record
                    .with("trace_id", trace_id.clone())
                    .with("span_id", span_id.clone());
            }
            // All zero is no id.
            let is_id = |id: &str| id.chars().any(|digit| digit != '0');
            for (key, id) in [("trace_id", &trace_id), ("span_id", &span_id)] {
                if ids.is_some() && !is_id(id) {
                    expected.push((key.to_owned(), id.clone()));
                }
            }
            let id = |id: String| if is_id(&id) { id } else { String::new() };
            let resource = [
                ("service.name", server.as_str()),
                ("host.name", "build-7"),
                ("service.instance.id", "a1"),
            ];
            let resource = resource.map(|(key, value)| (key.to_owned(), value.to_owned()));
            for (name, value) in [
                ("Timestamp", nanos.to_string()),
                ("TraceId", id(trace_id)),
                ("SpanId", id(span_id)),
                ("TraceFlags", "0".to_owned()),
                ("SeverityText", level.to_string()),
                ("SeverityNumber", (level.0 + 9).clamp(1, 24).to_string()),
                ("ServiceName", server.to_string()),
                ("Body", message),
                ("ResourceSchemaUrl", String::new()),
                ("ResourceAttributes", map_text(resource)),
                ("ScopeSchemaUrl", String::new()),
                ("ScopeName", String::new()),
                ("ScopeVersion", String::new()),
                ("ScopeAttributes", map_text([])),
                ("LogAttributes", map_text(expected)),
            ] {
                row.insert(name.to_owned(), value);
            }
            (server, record, row)
        })
}

fn attribute(key: &str, value: Any) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

fn any_otlp() -> impl Strategy<Value = Attributes> {
    let value = prop_oneof![
        any::<String>().prop_map(|text| (Any::StringValue(text.clone()), text)),
        any::<i64>().prop_map(|value| (Any::IntValue(value), value.to_string())),
        Just((
            Any::BytesValue(b"String bytes".to_vec()),
            "U3RyaW5nIGJ5dGVz".to_owned()
        )),
    ];
    let entries = vec((select(vec!["", "a", "b.c"]), value), 0..4);
    entries.prop_map(|entries| {
        let unique: BTreeMap<_, _> = entries.into_iter().collect();
        let attributes = unique
            .iter()
            .map(|(key, (value, _))| attribute(key, value.clone()));
        let texts = unique
            .iter()
            .map(|(key, (_, text))| ((*key).to_owned(), text.clone()));
        (attributes.collect(), map_text(texts))
    })
}

/// Attributes of OTLP, and the map that they become.
type Attributes = (Vec<KeyValue>, String);

/// What spans differ in.
#[derive(Debug, Clone)]
struct Parts {
    server: ServerName,
    start: u64,
    end: u64,
    attributes: Attributes,
    events: Vec<(String, u64, Attributes)>,
    links: Vec<(u128, u64, Attributes)>,
    status: i32,
    scope: Option<String>,
}

fn any_span() -> impl Strategy<Value = Parts> {
    let events = vec((".{0,3}", any::<u64>(), any_otlp()), 0..4);
    let links = vec((any::<u128>(), any::<u64>(), any_otlp()), 0..3);
    let times = select(vec![(0, 0), (5, 9), (9, 5), (0, 7), (7, 0), (1, u64::MAX)]);
    let scope = option::of(".{0,3}");
    (
        any_server(),
        times,
        any_otlp(),
        events,
        links,
        0_i32..3,
        scope,
    )
        .prop_map(
            |(server, (start, end), attributes, events, links, status, scope)| Parts {
                server,
                start,
                end,
                attributes,
                events,
                links,
                status,
                scope,
            },
        )
}

impl Parts {
    fn record(&self, name: String) -> SpanRecord {
        let events = self
            .events
            .iter()
            .map(|(name, time, (attributes, _))| Event {
                name: name.clone(),
                time_unix_nano: *time,
                attributes: attributes.clone(),
                ..Event::default()
            });
        let links = self.links.iter().map(|(trace, id, (attributes, _))| Link {
            trace_id: trace.to_be_bytes().to_vec(),
            span_id: id.to_be_bytes().to_vec(),
            trace_state: "s".to_owned(),
            attributes: attributes.clone(),
            ..Link::default()
        });
        let span = Span {
            trace_id: vec![0xab; 16],
            span_id: vec![1; 8],
            trace_state: "k=v".to_owned(),
            name,
            kind: 3,
            start_time_unix_nano: self.start,
            end_time_unix_nano: self.end,
            attributes: self.attributes.0.clone(),
            events: events.collect(),
            links: links.collect(),
            status: Some(Status {
                code: self.status,
                message: "m".to_owned(),
            }),
            ..Span::default()
        };
        let resource = Resource {
            attributes: vec![
                attribute("service.name", Any::StringValue("gateway".to_owned())),
                attribute("host.name", Any::StringValue("own".to_owned())),
            ],
            ..Resource::default()
        };
        let scope = self.scope.clone().map(|name| InstrumentationScope {
            name,
            version: "1".to_owned(),
            ..InstrumentationScope::default()
        });
        SpanRecord::new(span)
            .resource(resource, "")
            .scope(scope, "")
    }

    fn row(&self, name: String) -> Row {
        let nanos = |time: u64| i64::try_from(time).unwrap_or(i64::MAX).to_string();
        let resource = [
            ("service.name", "gateway"),
            ("host.name", "own"),
            ("server.name", self.server.as_str()),
            ("service.instance.id", "a1"),
        ];
        let resource = resource.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let (start, end) = (self.start, self.end);
        let is_known = start != 0 && end != 0;
        let duration = if is_known {
            end.saturating_sub(start)
        } else {
            0
        };
        let status = ["Unset", "Ok", "Error"][usize::try_from(self.status).unwrap()];
        let version = if self.scope.is_some() { "1" } else { "" };
        let flat = [
            ("Timestamp", nanos(if start == 0 { end } else { start })),
            ("TraceId", "ab".repeat(16)),
            ("SpanId", "01".repeat(8)),
            ("ParentSpanId", String::new()),
            ("TraceState", "k=v".to_owned()),
            ("SpanName", name),
            ("SpanKind", "Client".to_owned()),
            ("ServiceName", "gateway".to_owned()),
            ("ResourceAttributes", map_text(resource)),
            ("ScopeName", self.scope.clone().unwrap_or_default()),
            ("ScopeVersion", version.to_owned()),
            ("SpanAttributes", self.attributes.1.clone()),
            ("Duration", duration.to_string()),
            ("StatusCode", status.to_owned()),
            ("StatusMessage", "m".to_owned()),
        ];
        let (events, links) = (self.events.iter(), self.links.iter());
        let lists = [
            (
                "Events.Timestamp",
                list_text(events.clone().map(|it| nanos(it.1))),
            ),
            (
                "Events.Name",
                list_text(events.clone().map(|it| it.0.clone())),
            ),
            (
                "Events.Attributes",
                list_text(events.map(|it| it.2.1.clone())),
            ),
            (
                "Links.TraceId",
                list_text(links.clone().map(|it| format!("{:032x}", it.0))),
            ),
            (
                "Links.SpanId",
                list_text(links.clone().map(|it| format!("{:016x}", it.1))),
            ),
            (
                "Links.TraceState",
                list_text(links.clone().map(|_| "s".to_owned())),
            ),
            (
                "Links.Attributes",
                list_text(links.map(|it| it.2.1.clone())),
            ),
        ];
        let columns = flat.into_iter().chain(lists);
        columns
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }
}

fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort();
    rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn of_logs(logs in vec(any_log(), 1..40), group_rows in 1_usize..50) {
        // A record that is there already is not imported again.
        let mut unique: Vec<(ServerName, LogRecord, Row)> = Vec::new();
        for (index, (server, record, mut row)) in logs.into_iter().enumerate() {
            let message = format!("{} {index}", record.message);
            row.insert("Body".to_owned(), message.clone());
            let mut record = record;
            record.message = message;
            unique.push((server, record, row));
        }
        let records: Vec<_> = unique.iter().map(|it| (it.0.clone(), Record::Log(it.1.clone()))).collect();
        let (_home, store) = store_of(&records);
        let (rows, groups) = exported(&store, Signal::Logs, Table::Logs, group_rows);
        prop_assert_eq!(groups, records.len().div_ceil(group_rows));
        prop_assert_eq!(sorted(rows), sorted(unique.into_iter().map(|it| it.2).collect()));
    }

    #[test]
    fn of_traces(spans in vec(any_span(), 1..30), group_rows in 1_usize..40) {
        let mut records = Vec::new();
        let mut expected = Vec::new();
        for (index, parts) in spans.into_iter().enumerate() {
            let name = format!("tools/call {index}");
            let record = parts.record(name.clone());
            expected.push(parts.row(name));
            records.push((parts.server, Record::Span(Box::new(record))));
        }
        let (_home, store) = store_of(&records);
        let (rows, _) = exported(&store, Signal::Traces, Table::Traces, group_rows);
        prop_assert_eq!(sorted(rows), sorted(expected));
    }
}

#[test]
fn a_log_of_another_program_has_its_own_resource_and_scope() {
    let fields = Value::Object(vec![
        (
            "resource".into(),
            Value::Object(vec![
                ("service.name".into(), Value::from("shop")),
                ("zone".into(), Value::from("b")),
            ]),
        ),
        (
            "scope".into(),
            Value::Object(vec![("name".into(), Value::from("lib"))]),
        ),
        ("severity_text".into(), Value::from("Notice")),
        ("flags".into(), Value::Int(1)),
        ("body".into(), Value::Array(vec![Value::Int(1)])),
    ]);
    let record = LogRecord::new(Timestamp::from_unix_nanos(5), Level(1), "[1]")
        .with("u", u64::MAX)
        .with("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736")
        .with("otlp", fields);
    let server = ServerName::new("github").unwrap();
    let (_home, store) = store_of(&[(server, Record::Log(record))]);
    let (rows, _) = exported(&store, Signal::Logs, Table::Logs, 1);
    let row = &rows[0];
    for (name, value) in [
        ("Timestamp", "5"),
        ("TraceId", "4bf92f3577b34da6a3ce929d0e0e4736"),
        ("TraceFlags", "1"),
        ("SeverityText", "Notice"),
        ("SeverityNumber", "10"),
        ("ServiceName", "shop"),
        ("Body", "[1]"),
        ("ScopeName", "lib"),
        ("LogAttributes", "[(\"u\", \"18446744073709551615\")]"),
    ] {
        assert_eq!(row[name], value, "{name}");
    }
    assert!(
        row["ResourceAttributes"].contains("(\"server.name\", \"github\")"),
        "{row:?}"
    );
    assert!(
        row["ResourceAttributes"].contains("(\"zone\", \"b\")"),
        "{row:?}"
    );
}
