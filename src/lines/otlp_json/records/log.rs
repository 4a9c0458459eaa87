use super::{
    super::id::{decode_id, encode_hex},
    SERVICE_NAME,
    attributes::{from_attributes, to_attributes, value_of},
    object, otlp_time, read_time, server_of, write_time,
};
use crate::{
    lines::json::write_value,
    record::{Level, LogRecord, Value},
};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, InstrumentationScope, any_value},
    logs::v1::{LogRecord as OtlpLogRecord, LogsData},
    resource::v1::Resource,
};

/// The group of attributes that holds what a log record of ours has no other place for.
const FOREIGN: &str = "otlp";

/// What slog's levels are below OTLP's severity numbers: on both scales the named ones are four
/// apart, from DEBUG, which is -4 here and 5 there, to ERROR, which is 8 and 17. So `DEBUG-4` is
/// TRACE and `ERROR+4` is FATAL.
const SEVERITY_OF_INFO: i32 = 9;

/// TRACE, and the most severe shade of FATAL.
const SEVERITIES: (i32, i32) = (1, 24);

/// A record as OTLP has it
/// (<https://opentelemetry.io/docs/specs/otel/logs/data-model/>).
///
/// It has the ids that its last `trace_id` and `span_id` attributes say, when they are hex digits of
/// the right number and not all zero; the attributes stay, for they have a place in the order.
pub(crate) fn log_to_otlp(record: LogRecord) -> OtlpLogRecord {
    let id = |key, bytes| id_of(record.attribute(key)?, bytes);
    let trace_id = id("trace_id", 16).unwrap_or_default();
    let span_id = id("span_id", 8).unwrap_or_default();
    let mut attributes = to_attributes(record.attributes);
    write_time(record.timestamp, record.utc_offset, &mut attributes);
    OtlpLogRecord {
        time_unix_nano: otlp_time(record.timestamp),
        severity_number: severity(record.level),
        severity_text: record.level.to_string(),
        body: Some(AnyValue {
            value: Some(any_value::Value::StringValue(record.message)),
        }),
        attributes,
        trace_id,
        span_id,
        ..OtlpLogRecord::default()
    }
}

/// The log records of a message, each with the server that its resource names.
///
/// Those that [`log_to_otlp`] made come back as they were. Of a foreign one, the time is when it
/// happened, or else when it was observed, or else 1970; the level is that of its severity number
/// unless the text is a level's and says the same; the message is its body, as JSON when that is no
/// string. The ids become attributes, and so does everything else (resource, scope, event name, …)
/// in a group named `otlp`. Schema URLs and counts of dropped attributes are not kept.
pub(crate) fn logs_from_otlp(data: LogsData) -> Vec<(Option<String>, LogRecord)> {
    let mut records = Vec::new();
    for resource_logs in data.resource_logs {
        let server = server_of(resource_logs.resource.as_ref());
        let resource = resource_value(resource_logs.resource);
        for scope_logs in resource_logs.scope_logs {
            let origin = [
                ("resource", resource.clone()),
                ("scope", scope_value(scope_logs.scope)),
            ];
            for record in scope_logs.log_records {
                records.push((server.clone(), log_from_otlp(record, &origin)));
            }
        }
    }
    records
}

fn log_from_otlp(mut record: OtlpLogRecord, origin: &[(&'static str, Value)]) -> LogRecord {
    let (mut time, mut observed) = (record.time_unix_nano, record.observed_time_unix_nano);
    if time == 0 {
        (time, observed) = (observed, 0);
    } else if time == observed {
        observed = 0;
    }
    let (timestamp, utc_offset) = read_time(time, &mut record.attributes);
    let (level, severity_text) = level_of(record.severity_number, record.severity_text);
    let mut log = LogRecord {
        timestamp,
        utc_offset,
        level,
        message: record.body.map(message_of).unwrap_or_default(),
        attributes: from_attributes(record.attributes),
    };
    for (key, id) in [("trace_id", record.trace_id), ("span_id", record.span_id)] {
        let known = log.attribute(key).and_then(|value| id_of(value, id.len()));
        if known.as_ref() != Some(&id) && id.iter().any(|byte| *byte != 0) {
            log = log.with(key, hex(&id));
        }
    }
    let mut foreign = origin.to_vec();
    foreign.extend([
        ("event_name", Value::String(record.event_name)),
        ("severity_text", Value::String(severity_text)),
        ("observed_time_unix_nano", Value::from(observed)),
        ("flags", Value::Int(record.flags.into())),
    ]);
    match object(foreign) {
        Value::Object(entries) if entries.is_empty() => log,
        foreign => log.with(FOREIGN, foreign),
    }
}

fn severity(level: Level) -> i32 {
    let (least, greatest) = SEVERITIES;
    level
        .0
        .saturating_add(SEVERITY_OF_INFO)
        .clamp(least, greatest)
}

/// The level, and of the text what the level does not say.
fn level_of(number: i32, text: String) -> (Level, String) {
    let (least, greatest) = SEVERITIES;
    // A record without a severity is at INFO, as a line without a level is.
    let known = (number >= least).then(|| Level(number.min(greatest) - SEVERITY_OF_INFO));
    match text.parse::<Level>() {
        Ok(level) if known.is_none_or(|known| severity(level) == severity(known)) => {
            (level, String::new())
        }
        _ => (known.unwrap_or(Level::INFO), text),
    }
}

fn message_of(body: AnyValue) -> String {
    match value_of(body) {
        Value::String(text) => text,
        Value::Null => String::new(),
        value => {
            let mut text = Vec::new();
            write_value(&value, &mut text);
            String::from_utf8(text).unwrap_or_default()
        }
    }
}

/// The id of so many bytes that an attribute says in hex; one of zeros is none
/// (<https://www.w3.org/TR/trace-context/#trace-id>).
fn id_of(value: &Value, bytes: usize) -> Option<Vec<u8>> {
    match value {
        Value::String(text) if text.len() == 2 * bytes => {
            decode_id(text, bytes).filter(|id| id.iter().any(|byte| *byte != 0))
        }
        _ => None,
    }
}

fn hex(id: &[u8]) -> String {
    let mut text = Vec::with_capacity(2 * id.len());
    encode_hex(id, &mut text);
    String::from_utf8(text).unwrap_or_default()
}

/// What a resource says beside the name of the server.
fn resource_value(resource: Option<Resource>) -> Value {
    let mut attributes = resource.unwrap_or_default().attributes;
    attributes.retain(|entry| entry.key != SERVICE_NAME);
    Value::Object(from_attributes(attributes))
}

fn scope_value(scope: Option<InstrumentationScope>) -> Value {
    let scope = scope.unwrap_or_default();
    object(vec![
        ("name", Value::String(scope.name)),
        ("version", Value::String(scope.version)),
        (
            "attributes",
            Value::Object(from_attributes(scope.attributes)),
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lines::{
            ndjson::log::read_log_line,
            otlp_json::{
                arbitrary::logs_data, read_message, records::server_resource, write_message,
            },
        },
        record::{
            arbitrary::{any_entries, any_utc_offset},
            payload::DEPTH_MAX,
        },
        time::Timestamp,
    };
    use opentelemetry_proto::tonic::{
        common::v1::{KeyValue, any_value::Value as Any},
        logs::v1::{ResourceLogs, ScopeLogs},
    };
    use proptest::prelude::*;

    fn read(line: &str) -> LogRecord {
        read_log_line(line.as_bytes()).unwrap()
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
        let mut line = Vec::new();
        write_message(&data(record), &mut line);
        let mut records = logs_from_otlp(read_message(&line).unwrap());
        let (server, record) = records.pop().unwrap();
        assert_eq!((server.as_deref(), records.len()), (Some("github"), 0));
        record
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
        otlp.attributes
            .push(super::super::key_value("host", Any::IntValue(1)));
        assert_same(&through(otlp.clone()), &record.clone().with("host", 1_i64));
        for attribute in &mut otlp.attributes {
            if attribute.key == "token" {
                *attribute = super::super::key_value("token", Any::StringValue("***".to_owned()));
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
        let mut records = logs_from_otlp(read_message(line).unwrap());
        let (server, record) = records.pop().unwrap();
        assert_eq!(server.as_deref(), Some("github"));
        let mut written = Vec::new();
        crate::lines::ndjson::log::write_log_line(&record, &mut written);
        assert_eq!(
            String::from_utf8(written).unwrap(),
            concat!(
                r#"{"ts":"2023-11-14T22:13:20.000000001Z","level":"ERROR+1","#,
                r#""msg":"{\"k\":\"AQI=\"}","b":null,"b":2.0,"#,
                r#""gridctl.record.utc_offset":"x","gridctl.record.exact":[null],"#,
                r#""trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","#,
                r#""otlp":{"resource":{"host.name":"h"},"scope":{"name":"lib","#,
                r#""attributes":{"a":5}},"event_name":"e","severity_text":"Oops","flags":1}}"#,
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
        let twice =
            |value| Value::Object(vec![("a".to_owned(), Value::Null), ("a".to_owned(), value)]);
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

    proptest! {
        #[test]
        fn every_record_comes_back(record in log()) {
            let otlp = log_to_otlp(record.clone());
            let mut keys: Vec<&str> = otlp.attributes.iter().map(|entry| &*entry.key).collect();
            keys.sort_unstable();
            prop_assert!(keys.windows(2).all(|pair| pair[0] != pair[1]), "{keys:?}");
            let mut expected = record;
            make_nan_one(&mut expected.attributes);
            assert_same(&through(otlp), &expected);
        }

        #[test]
        fn a_foreign_record_comes_back_from_the_second_reading(data in logs_data()) {
            for (_, record) in logs_from_otlp(data) {
                assert_same(&through(log_to_otlp(record.clone())), &record);
            }
        }

        #[test]
        fn attributes_of_ours_that_nobody_wrote_do_no_harm(
            exact in crate::lines::otlp_json::arbitrary::any_value(),
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
}
