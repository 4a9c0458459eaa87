//! Log records as OTLP messages.

use super::{
    SERVICE_NAME,
    attributes::{from_attributes, to_attributes, value_of},
    id::{decode_id, encode_hex},
    object, otlp_time, read_time, server_of, write_time,
};
use crate::record::{Level, LogRecord, Value};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, InstrumentationScope, any_value},
    logs::v1::{LogRecord as OtlpLogRecord, LogsData},
    resource::v1::Resource,
};

/// The group of attributes for those fields of a foreign log record that [`LogRecord`] has no field
/// for.
const FOREIGN: &str = "otlp";

/// The offset from slog's levels to OTLP's severity numbers. Named levels are four apart on both
/// scales, from DEBUG (-4 in slog, 5 in OTLP) to ERROR (8 and 17). So `DEBUG-4` is TRACE and
/// `ERROR+4` is FATAL.
const SEVERITY_OF_INFO: i32 = 9;

/// The lowest and the highest severity number: TRACE and FATAL4.
const SEVERITIES: (i32, i32) = (1, 24);

/// Converts a record to OTLP (<https://opentelemetry.io/docs/specs/otel/logs/data-model/>).
///
/// The ids are those in the last `trace_id` and `span_id` attributes, if they are hex of the right
/// length and not all zero. The attributes are kept as well, because their position in the record
/// matters.
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
/// Records written by [`log_to_otlp`] are restored exactly. For a foreign record, the time is the
/// event time, else the observed time, else 1970. The level follows the severity number, unless the
/// severity text is the name of a level with that number. The message is the body, or the text that
/// `text_of` makes of a body that is not a string. The ids become attributes; everything else
/// (resource, scope, event name, …) goes into a group named `otlp`. Schema URLs and counts of
/// dropped attributes are not kept.
pub(crate) fn logs_from_otlp(
    data: LogsData,
    text_of: impl Fn(&Value) -> String,
) -> Vec<(Option<String>, LogRecord)> {
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
                records.push((server.clone(), log_from_otlp(record, &origin, &text_of)));
            }
        }
    }
    records
}

fn log_from_otlp(
    mut record: OtlpLogRecord,
    origin: &[(&'static str, Value)],
    text_of: impl Fn(&Value) -> String,
) -> LogRecord {
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
        message: match record.body.map_or(Value::Null, value_of) {
            Value::String(text) => text,
            Value::Null => String::new(),
            value => text_of(&value),
        },
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

/// The level, and the part of the severity text that the level does not express.
fn level_of(number: i32, text: String) -> (Level, String) {
    let (least, greatest) = SEVERITIES;
    // A record without a severity is at INFO, like a line without a level.
    let known = (number >= least).then(|| Level(number.min(greatest) - SEVERITY_OF_INFO));
    match text.parse::<Level>() {
        Ok(level) if known.is_none_or(|known| severity(level) == severity(known)) => {
            (level, String::new())
        }
        _ => (known.unwrap_or(Level::INFO), text),
    }
}

/// The id of `bytes` bytes that an attribute holds in hex; `None` when it is all zero
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

/// The attributes of a resource other than the server's name.
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
