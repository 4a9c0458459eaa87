//! Log records.

use crate::{
    Signal,
    lines::{
        Found, LineFormat, LineWriter, ParsedLine, RecordReader, json::value_text,
        ndjson::log::read_log_line, otlp_json::write_message, parse_line,
    },
    otlp::{arbitrary::logs_data, key_value, server_resource},
    read::Query,
    record::{
        Level, LogRecord, Record, ServerName, Value,
        arbitrary::{any_entries, any_utc_offset},
        payload::DEPTH_MAX,
    },
    store::{ImportBatch, Importer, ReadRecord, Store, StoreOptions},
    time::Timestamp,
};
use opentelemetry_proto::tonic::{
    common::v1::{KeyValue, any_value::Value as Any},
    logs::v1::{LogRecord as OtlpLogRecord, LogsData, ResourceLogs, ScopeLogs},
};
use proptest::prelude::*;

fn read(line: &str) -> LogRecord {
    read_log_line(line.as_bytes()).unwrap()
}

fn whole(record: LogRecord) -> LogsData {
    let log = crate::otlp::log_to_otlp("github", record, value_text);
    LogsData {
        resource_logs: vec![ResourceLogs {
            resource: Some(log.resource),
            scope_logs: vec![ScopeLogs {
                scope: log.scope,
                log_records: vec![log.record],
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    }
}

fn log_to_otlp(record: LogRecord) -> OtlpLogRecord {
    crate::otlp::log_to_otlp("github", record, value_text).record
}

fn logs_of(line: &[u8]) -> Vec<(Option<String>, LogRecord)> {
    match parse_line(Signal::Logs, line).unwrap() {
        ParsedLine::Logs(records) => records,
        other => panic!("{other:?}"),
    }
}

/// The one record of a message, through a line.
fn one(data: &LogsData) -> LogRecord {
    let mut line = Vec::new();
    write_message(data, &mut line);
    let mut records = logs_of(&line);
    let (server, record) = records.pop().unwrap();
    assert_eq!((server.as_deref(), records.len()), (Some("github"), 0));
    record
}

fn text(record: LogRecord) -> String {
    let mut text = Vec::new();
    write_message(&log_to_otlp(record), &mut text);
    String::from_utf8(text).unwrap()
}

fn data(record: OtlpLogRecord) -> LogsData {
    LogsData {
        resource_logs: vec![ResourceLogs {
            resource: Some(server_resource("github")),
            scope_logs: vec![ScopeLogs {
                log_records: vec![record],
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    }
}

/// Through a line and back.
fn through(record: OtlpLogRecord) -> LogRecord {
    one(&data(record))
}

/// As text: a NaN is equal to itself, and -0.0 is not equal to 0.0.
fn assert_same(left: &LogRecord, right: &LogRecord) {
    assert_eq!(format!("{left:?}"), format!("{right:?}"));
}

const ORDINARY: &str = concat!(
    r#"{"ts":"2026-05-08T23:39:03.123456789Z","level":"INFO","msg":"tool call completed","#,
    r#""tool":"search","duration_ms":12,"g":{"ok":true,"x":[1.5,null]},"component":"github","#,
    r#""trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","span_id":"00f067aa0ba902b7"}"#
);

#[test]
fn an_ordinary_record_has_nothing_of_ours() {
    assert_eq!(
        text(read(ORDINARY)),
        concat!(
            r#"{"timeUnixNano":"1778283543123456789","severityNumber":9,"severityText":"INFO","#,
            r#""body":{"stringValue":"tool call completed"},"attributes":["#,
            r#"{"key":"tool","value":{"stringValue":"search"}},"#,
            r#"{"key":"duration_ms","value":{"intValue":"12"}},"#,
            r#"{"key":"g","value":{"kvlistValue":{"values":["#,
            r#"{"key":"ok","value":{"boolValue":true}},"#,
            r#"{"key":"x","value":{"arrayValue":{"values":[{"doubleValue":1.5},{}]}}}]}}},"#,
            r#"{"key":"component","value":{"stringValue":"github"}},"#,
            r#"{"key":"trace_id","value":{"stringValue":"4bf92f3577b34da6a3ce929d0e0e4736"}},"#,
            r#"{"key":"span_id","value":{"stringValue":"00f067aa0ba902b7"}}],"#,
            r#""traceId":"4bf92f3577b34da6a3ce929d0e0e4736","spanId":"00f067aa0ba902b7"}"#,
        )
    );
}

#[test]
fn what_otlp_has_no_place_for_stands_beside_it() {
    let line = concat!(
        r#"{"ts":"2026-05-08T23:39:03-04:00","level":"ERROR+4","msg":"","component":"a","#,
        r#""n":18446744073709551616,"gridctl.record.exact":1,"u":18446744073709551615,"#,
        r#""component":"b"}"#,
    );
    assert_eq!(
        text(read(line)),
        concat!(
            r#"{"timeUnixNano":"1778297943000000000","severityNumber":21,"#,
            r#""severityText":"ERROR+4","body":{"stringValue":""},"attributes":["#,
            r#"{"key":"n","value":{"stringValue":"18446744073709551616"}},"#,
            r#"{"key":"u","value":{"stringValue":"18446744073709551615"}},"#,
            r#"{"key":"component","value":{"stringValue":"b"}},"#,
            r#"{"key":"gridctl.record.exact","value":{"arrayValue":{"values":["#,
            r#"{"intValue":"0"},{"stringValue":"component"},{"stringValue":"a"},"#,
            r#"{"intValue":"1"},{"stringValue":"n"},{"arrayValue":{"values":["#,
            r#"{"stringValue":"number"},{"stringValue":"18446744073709551616"}]}},"#,
            r#"{"intValue":"2"},{"stringValue":"gridctl.record.exact"},{"intValue":"1"},"#,
            r#"{"intValue":"3"},{"stringValue":"u"},{"arrayValue":{"values":["#,
            r#"{"stringValue":"unsigned"},{"stringValue":"18446744073709551615"}]}},"#,
            r#"{"intValue":"4"},{"stringValue":"component"},{"stringValue":"b"}]}}},"#,
            r#"{"key":"gridctl.record.utc_offset","value":{"intValue":"-240"}}]}"#,
        )
    );
    assert_same(&through(log_to_otlp(read(line))), &read(line));
}

#[test]
fn levels_are_severities_and_come_back() {
    for (level, number) in [
        (Level::TRACE, 1),
        (Level::DEBUG, 5),
        (Level(-2), 7),
        (Level::INFO, 9),
        (Level(3), 12),
        (Level::WARN, 13),
        (Level::ERROR, 17),
        (Level(12), 21),
        (Level(15), 24),
        (Level(16), 24),
        (Level(-9), 1),
        (Level(i32::MIN), 1),
        (Level(i32::MAX), 24),
    ] {
        let record = LogRecord::new(Timestamp::default(), level, "");
        let otlp = log_to_otlp(record.clone());
        assert_eq!(otlp.severity_number, number, "{level}");
        assert_same(&through(otlp), &record);
    }
}

#[test]
fn only_attributes_that_are_ids_become_ids() {
    for (trace_id, found) in [
        ("4bf92f3577b34da6a3ce929d0e0e4736", true),
        ("4BF92F3577B34DA6A3CE929D0E0E4736", true),
        ("00000000000000000000000000000000", false),
        ("4bf92f3577b34da6a3ce929d0e0e473", false),
        ("4bf92f3577b34da6a3ce929d0e0e473g", false),
        // Base64, which a reader of OTLP/JSON takes for an id.
        ("S/kvNXezTaajzpKdDg5HNg==", false),
        ("", false),
    ] {
        let record =
            LogRecord::new(Timestamp::default(), Level::INFO, "").with("trace_id", trace_id);
        let otlp = log_to_otlp(record.clone());
        assert_eq!(!otlp.trace_id.is_empty(), found, "{trace_id}");
        assert_same(&through(otlp), &record);
    }
    let twice = LogRecord::new(Timestamp::default(), Level::INFO, "")
        .with("span_id", "00f067aa0ba902b7")
        .with("span_id", 5_i64);
    assert!(log_to_otlp(twice).span_id.is_empty(), "the last counts");
}

#[test]
fn an_attribute_that_was_changed_on_its_way_stays_changed() {
    let record = LogRecord::new(Timestamp::default(), Level::INFO, "")
        .with("token", "a")
        .with("x", 1_i64)
        .with("token", "b");
    let mut otlp = log_to_otlp(record.clone());
    // Added and reordered is fine, for that is not what the exact entries are about.
    otlp.attributes.swap(0, 1);
    otlp.attributes.push(key_value("host", Any::IntValue(1)));
    assert_same(&through(otlp.clone()), &record.clone().with("host", 1_i64));
    for attribute in &mut otlp.attributes {
        if attribute.key == "token" {
            *attribute = key_value("token", Any::StringValue("***".to_owned()));
        }
    }
    let expected: Vec<_> = [("token", "***".into()), ("x", Value::Int(1))]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
    assert_eq!(through(otlp.clone()).attributes[..2], expected);
    otlp.attributes.retain(|attribute| attribute.key != "token");
    assert_eq!(through(otlp).attribute("token"), None);
}

#[test]
fn a_foreign_record_is_read_as_well_as_can_be() {
    let line = br#"{"resourceLogs":[{
        "resource":{"attributes":[{"key":"service.name","value":{"stringValue":"github"}},
            {"key":"host.name","value":{"stringValue":"h"}}]},
        "scopeLogs":[{"scope":{"name":"lib","attributes":[{"key":"a","value":{"intValue":5}}]},
        "logRecords":[{"observedTimeUnixNano":"1700000000000000001",
            "severityNumber":18,"severityText":"Oops","eventName":"e","flags":1,
            "body":{"kvlistValue":{"values":[{"key":"k","value":{"bytesValue":"AQI="}}]}},
            "attributes":[{"key":"b"},{"key":"b","value":{"doubleValue":2}},
                {"key":"gridctl.record.utc_offset","value":{"stringValue":"x"}},
                {"key":"gridctl.record.exact","value":{"arrayValue":{"values":[{}]}}}],
            "traceId":"4bf92f3577b34da6a3ce929d0e0e4736"}]}]}]}"#;
    let mut records = logs_of(line);
    let (server, record) = records.pop().unwrap();
    assert_eq!(server.as_deref(), Some("github"));
    let mut written = Vec::new();
    record.write_line(&mut written);
    assert_eq!(
        String::from_utf8(written).unwrap(),
        concat!(
            r#"{"ts":"2023-11-14T22:13:20.000000001Z","level":"ERROR+1","#,
            r#""msg":"{\"k\":\"AQI=\"}","b":null,"b":2.0,"#,
            r#""gridctl.record.utc_offset":"x","gridctl.record.exact":[null],"#,
            r#""trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","#,
            r#""otlp":{"resource":{"host.name":"h"},"scope":{"name":"lib","#,
            r#""attributes":{"a":5}},"event_name":"e","severity_text":"Oops","#,
            r#""observed_time_unix_nano":1700000000000000001,"flags":1,"body":{"k":"AQI="}}}"#,
            "\n"
        )
    );
}

#[test]
fn the_deepest_record_comes_back() {
    let deep = |leaf: Value, wrap: &dyn Fn(Value) -> Value| {
        // The record itself is the first level.
        (1..DEPTH_MAX).fold(leaf, |value, _| wrap(value))
    };
    let group = |value| Value::Object(vec![("a".to_owned(), value)]);
    let twice = |value| Value::Object(vec![("a".to_owned(), Value::Null), ("a".to_owned(), value)]);
    let record = LogRecord::new(Timestamp::default(), Level::INFO, "")
        .with("groups", deep(Value::Null, &group))
        .with(
            "arrays",
            deep(Value::Null, &|value| Value::Array(vec![value])),
        )
        .with("twice", deep(Value::UInt(u64::MAX), &twice));
    record.encode_payload(&mut Vec::new()).unwrap();
    assert_same(&through(log_to_otlp(record.clone())), &record);
}

fn log() -> impl Strategy<Value = LogRecord> {
    let key = prop_oneof![
        9 => Just(None),
        1 => Just(Some("trace_id".to_owned())),
        1 => Just(Some("gridctl.record.exact".to_owned())),
        1 => Just(Some("gridctl.record.unix_nanos".to_owned())),
    ];
    let id = prop_oneof!["[0-9a-fA-F]{32}", "0{32}", ".{0,5}"];
    (
        any::<i64>(),
        any_utc_offset(),
        any::<i32>(),
        -12..=16,
        any::<String>(),
        any_entries(),
        key,
        id,
    )
        .prop_map(
            |(nanos, utc_offset, any_level, level, message, mut attributes, key, id)| {
                if let Some(key) = key {
                    attributes.insert(attributes.len() / 2, (key, Value::String(id)));
                }
                LogRecord {
                    timestamp: Timestamp::from_unix_nanos(nanos),
                    utc_offset,
                    level: Level(if nanos % 2 == 0 { level } else { any_level }),
                    message,
                    attributes,
                }
            },
        )
}

/// Lines of blocks are written from columns. Whether any text of a block has to be escaped is looked up once.
#[test]
fn lines_of_blocks_are_those_of_their_records() {
    let github = ServerName::new("github").unwrap();
    for ending in ["", "\"\n\u{1}", "é"] {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path(), "stack", StoreOptions::default()).unwrap();
        let (mut batch, mut expected) = (ImportBatch::default(), Vec::new());
        for number in 0..5000_i32 {
            let time = Timestamp::from_unix_nanos(i64::from(number) * 1_234_567_890_123);
            let level = [Level::INFO, Level(number % 7)][usize::from(number % 5 == 0)];
            let mut record = LogRecord::new(time, level, format!("call {}", number % 90))
                .with("same \"key\"", "the same \\ text")
                .with("text", format!("text {number}{ending}"))
                .with("flag", number % 2 == 0)
                .with("other", format!("{}{ending}", number % 3))
                .with(
                    "other",
                    [f64::from(number) / 8.0, f64::NAN][usize::from(number % 9 == 0)],
                );
            if number % 4 > 0 {
                record = record
                    .with("int", i64::from(number) - 200)
                    .with("last", "same");
                record.utc_offset = ::time::UtcOffset::from_hms(1, 30, 0).unwrap();
            }
            if number % 50 == 7 {
                record = record.with("unsigned", u64::MAX - 3);
                record.message = "a constant \"message\"".to_owned();
            }
            record.write_line(&mut expected);
            batch.push(&github, &Record::Log(record)).unwrap();
        }
        Importer::new(&store).unwrap().add(batch).unwrap();
        let mut scan = (store.snapshot().unwrap())
            .scan(&Query::new(Signal::Logs))
            .unwrap();
        let (mut lines, mut from_columns) = (Vec::new(), 0);
        let mut line_writer = LineWriter::new(LineFormat::Ndjson);
        while let Some(record) = scan.next().unwrap() {
            from_columns += usize::from(matches!(record.content, ReadRecord::Log(_)));
            line_writer.write(&record, &mut lines).unwrap();
        }
        assert!(from_columns > 4000, "{from_columns}");
        assert_eq!(
            String::from_utf8(lines).unwrap(),
            String::from_utf8(expected).unwrap()
        );
    }
}

proptest! {
    #[test]
    fn every_record_comes_back(record in log()) {
        let data = whole(record.clone());
        let otlp = &data.resource_logs[0].scope_logs[0].log_records[0];
        let mut keys: Vec<&str> = otlp.attributes.iter().map(|entry| &*entry.key).collect();
        keys.sort_unstable();
        prop_assert!(keys.windows(2).all(|pair| pair[0] != pair[1]), "{keys:?}");
        let mut expected = record;
        make_nan_one(&mut expected.attributes);
        assert_same(&one(&data), &expected);
    }

    #[test]
    fn a_foreign_record_comes_back_from_the_second_reading(data in logs_data()) {
        let mut line = Vec::new();
        write_message(&data, &mut line);
        // One without a time has none to be stored by.
        let mut found = Vec::new();
        let mut reader = RecordReader::new(Signal::Logs)
            .server(ServerName::new("github").unwrap())
            .time(Timestamp::from_unix_nanos(5));
        reader.read_line(&line, &mut |it| {
            if let Found::Record(record) = it {
                found.extend(record.record.into_log());
            }
        });
        for record in found {
            assert_same(&one(&whole(record.clone())), &record);
        }
    }

    #[test]
    fn attributes_of_ours_that_nobody_wrote_do_no_harm(
        exact in crate::otlp::arbitrary::any_value(),
        entries in any_entries(),
    ) {
        let mut otlp = log_to_otlp(LogRecord { attributes: entries, ..LogRecord::new(Timestamp::default(), Level::INFO, "") });
        let shown: Vec<KeyValue> = otlp.attributes.iter().filter(|entry| entry.key != "gridctl.record.exact").cloned().collect();
        otlp.attributes.clone_from(&shown);
        otlp.attributes.push(KeyValue { key: "gridctl.record.exact".to_owned(), value: Some(exact), ..KeyValue::default() });
        let read = through(otlp);
        let mut again = log_to_otlp(read).attributes;
        again.retain(|entry| entry.key != "gridctl.record.exact");
        prop_assert_eq!(again.len(), shown.len());
    }
}

fn make_nan_one(entries: &mut [(String, Value)]) {
    for (_, value) in entries {
        make_value_nan_one(value);
    }
}

fn make_value_nan_one(value: &mut Value) {
    match value {
        Value::Float(float) if float.is_nan() => *float = f64::NAN,
        Value::Array(items) => items.iter_mut().for_each(make_value_nan_one),
        Value::Object(entries) => make_nan_one(entries),
        _ => {}
    }
}
