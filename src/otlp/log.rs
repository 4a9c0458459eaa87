//! Log records as OTLP messages.

use super::{
    SERVER_NAME, SERVICE_NAME, UNIX_NANOS,
    attributes::{from_attributes, key_value, string, to_attributes, value_of, view},
    id::{decode_id, hex},
    object, otlp_time, read_time, server_resource, write_time,
};
use crate::record::{Level, LogRecord, Value};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, InstrumentationScope, any_value},
    logs::v1::{LogRecord as OtlpLogRecord, SeverityNumber},
    resource::v1::Resource,
};

/// The group of attributes for those fields of a foreign log record that [`LogRecord`] has no field
/// for.
pub(crate) const FOREIGN: &str = "otlp";

/// The text of a severity that no level's name says, in the group [`FOREIGN`].
pub(crate) const SEVERITY_TEXT: &str = "severity_text";

/// Zero in the group [`FOREIGN`] of a record whose severity was unspecified.
const SEVERITY_NUMBER: &str = "severity_number";

/// The body in the group [`FOREIGN`] of a record whose body was no string.
const BODY: &str = "body";

/// A log record as OTLP has it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OtlpLog {
    pub(crate) resource: Resource,
    pub(crate) scope: Option<InstrumentationScope>,
    pub(crate) record: OtlpLogRecord,
}

/// A log record that came from OTLP.
#[derive(Debug)]
pub(crate) struct FoundLog {
    pub(crate) record: LogRecord,
    /// Whether it came with a time; without one, its time is 1970.
    pub(crate) has_time: bool,
}

/// Converts a record of `server` to OTLP (<https://opentelemetry.io/docs/specs/otel/logs/data-model/>).
///
/// The ids are those in the last `trace_id` and `span_id` attributes, if they are hex of the right
/// length and not all zero. The attributes are kept as well, because their position in the record
/// matters. The fields of a foreign record, which [`log_from_otlp`] kept, are its fields again.
/// `text_of` is the one that was used there.
pub(crate) fn log_to_otlp(
    server: &str,
    record: LogRecord,
    text_of: impl Fn(&Value) -> String,
) -> OtlpLog {
    foreign_log(server, &record, text_of).unwrap_or_else(|| own_log(server, record))
}

fn own_log(server: &str, record: LogRecord) -> OtlpLog {
    let mut resource = server_resource(server);
    if let Some(Value::String(other)) = record.attribute(SERVER_NAME)
        && other != server
    {
        // Otherwise a reader would take the attribute for the name of the owner.
        resource
            .attributes
            .insert(0, key_value(SERVER_NAME, string(server)));
    }
    let id = |key, bytes| id_of(record.attribute(key)?, bytes);
    let trace_id = id("trace_id", 16).unwrap_or_default();
    let span_id = id("span_id", 8).unwrap_or_default();
    let mut attributes = to_attributes(record.attributes);
    write_time(record.timestamp, record.utc_offset, &mut attributes);
    let record = OtlpLogRecord {
        time_unix_nano: otlp_time(record.timestamp),
        severity_number: record.level.severity_number(),
        severity_text: record.level.to_string(),
        body: Some(AnyValue {
            value: Some(any_value::Value::StringValue(record.message)),
        }),
        attributes,
        trace_id,
        span_id,
        ..OtlpLogRecord::default()
    };
    OtlpLog {
        resource,
        scope: None,
        record,
    }
}

/// The log that a group of foreign fields makes, if reading it gives `record` again: an attribute
/// that merely has the group's name, or that was changed since, stays an attribute.
fn foreign_log(
    server: &str,
    record: &LogRecord,
    text_of: impl Fn(&Value) -> String,
) -> Option<OtlpLog> {
    let ((key, Value::Object(fields)), others) = record.attributes.split_last()? else {
        return None;
    };
    if key != FOREIGN {
        return None;
    }
    let mut log = own_log(
        server,
        LogRecord {
            attributes: others.to_vec(),
            message: record.message.clone(),
            ..*record
        },
    );
    for (key, value) in fields {
        match (key.as_str(), value) {
            ("resource", Value::Object(kept)) => log.resource = foreign_resource(server, kept),
            ("scope", Value::Object(kept)) => log.scope = Some(foreign_scope(kept)?),
            ("event_name", Value::String(name)) => log.record.event_name.clone_from(name),
            (SEVERITY_NUMBER, Value::Int(0)) => {
                log.record.severity_number = SeverityNumber::Unspecified.into();
                log.record.severity_text.clear();
            }
            (SEVERITY_TEXT, Value::String(text)) => log.record.severity_text.clone_from(text),
            ("observed_time_unix_nano", Value::Int(nanos)) => {
                log.record.observed_time_unix_nano = u64::try_from(*nanos).ok()?;
            }
            ("observed_time_unix_nano", Value::UInt(nanos)) => {
                log.record.observed_time_unix_nano = *nanos;
            }
            ("flags", Value::Int(flags)) => log.record.flags = u32::try_from(*flags).ok()?,
            (BODY, body) => log.record.body = Some(view(body.clone())),
            _ => return None,
        }
    }
    let again = log_from_otlp(
        log.record.clone(),
        Some(&log.resource),
        log.scope.as_ref(),
        Some(server),
        text_of,
    );
    is_same(&again.record, record).then_some(log)
}

/// Whether two records are stored as the same.
fn is_same(one: &LogRecord, other: &LogRecord) -> bool {
    let (mut left, mut right) = (Vec::new(), Vec::new());
    one.timestamp == other.timestamp
        && one.encode_payload(&mut left).is_ok()
        && other.encode_payload(&mut right).is_ok()
        && left == right
}

/// Converts a log record of OTLP, whose owner is `server`.
///
/// Records written by [`log_to_otlp`] are restored exactly. For a foreign record, the time is the
/// event time, else the observed time, else 1970. The level follows the severity number, unless the
/// severity text is the name of a level with that number. The message is the body, or the text that
/// `text_of` makes of a body that is not a string. The ids become attributes; everything else
/// (resource, scope, event name, the body that is no string, …) goes into a group named `otlp`. The
/// name of the service is part of it unless it is the server's. Schema URLs and counts of dropped
/// attributes are not kept.
pub(crate) fn log_from_otlp(
    mut record: OtlpLogRecord,
    resource: Option<&Resource>,
    scope: Option<&InstrumentationScope>,
    server: Option<&str>,
    text_of: impl Fn(&Value) -> String,
) -> FoundLog {
    let observed = record.observed_time_unix_nano;
    let time = match record.time_unix_nano {
        0 => observed,
        time => time,
    };
    let has_time = time != 0 || record.attributes.iter().any(|it| it.key == UNIX_NANOS);
    let (timestamp, utc_offset) = read_time(time, &mut record.attributes);
    let severity = read_severity(record.severity_number, record.severity_text);
    let (message, body) = match record.body.map_or(Value::Null, value_of) {
        Value::String(text) => (text, None),
        Value::Null => (String::new(), None),
        body => (text_of(&body), Some(body)),
    };
    let mut log = LogRecord {
        timestamp,
        utc_offset,
        level: severity.level,
        message,
        attributes: from_attributes(record.attributes),
    };
    for (key, id) in [("trace_id", record.trace_id), ("span_id", record.span_id)] {
        let known = log.attribute(key).and_then(|value| id_of(value, id.len()));
        if known.as_ref() != Some(&id) && id.iter().any(|byte| *byte != 0) {
            log = log.with(key, hex(&id));
        }
    }
    let mut fields = Vec::new();
    fields.extend(part("resource", resource_value(resource, server)));
    fields.extend(part("scope", scope_value(scope)));
    fields.extend(part("event_name", Value::String(record.event_name)));
    if severity.is_unspecified {
        fields.push((SEVERITY_NUMBER, Value::Int(0)));
    }
    fields.extend(part(SEVERITY_TEXT, Value::String(severity.text)));
    fields.extend(part("observed_time_unix_nano", Value::from(observed)));
    fields.extend(part("flags", Value::Int(record.flags.into())));
    fields.extend(body.map(|body| (BODY, body)));
    if !fields.is_empty() {
        let fields = fields
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value));
        log = log.with(FOREIGN, Value::Object(fields.collect()));
    }
    FoundLog {
        record: log,
        has_time,
    }
}

/// A field of the group [`FOREIGN`], unless it is empty.
fn part(key: &'static str, value: Value) -> Option<(&'static str, Value)> {
    let is_empty = match &value {
        Value::Int(number) => *number == 0,
        Value::String(text) => text.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        _ => false,
    };
    (!is_empty).then_some((key, value))
}

/// What a severity says.
struct Severity {
    level: Level,
    /// The part of the text that the level does not express.
    text: String,
    /// Whether neither the number nor the text says a level.
    is_unspecified: bool,
}

fn read_severity(number: i32, text: String) -> Severity {
    let (least, greatest) = Level::SEVERITIES;
    let known = (number >= least).then(|| Level(number.min(greatest) - Level::SEVERITY_OF_INFO));
    let named = text.parse::<Level>().ok();
    let level = named
        .filter(|level| {
            known.is_none_or(|known| level.severity_number() == known.severity_number())
        })
        .or(known);
    Severity {
        // A record without a severity is at INFO, like a line without a level.
        level: level.unwrap_or(Level::INFO),
        is_unspecified: level.is_none(),
        text: if level.is_some_and(|level| level.to_string().eq_ignore_ascii_case(&text)) {
            String::new()
        } else {
            text
        },
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

/// The attributes of a resource without those that say no more than that the owner is `server`.
fn resource_value(resource: Option<&Resource>, server: Option<&str>) -> Value {
    let mut attributes = resource.map_or_else(Vec::new, |it| it.attributes.clone());
    for key in [SERVER_NAME, SERVICE_NAME] {
        let own = attributes.iter().position(|entry| {
            let value = entry.value.as_ref().and_then(|value| value.value.as_ref());
            entry.key == key
                && matches!(value, Some(any_value::Value::StringValue(name)) if server == Some(name))
        });
        own.map(|own| attributes.remove(own));
    }
    Value::Object(from_attributes(attributes))
}

/// The resource that [`resource_value`] made `kept` of.
fn foreign_resource(server: &str, kept: &[(String, Value)]) -> Resource {
    // A service that is not the server needs the server named beside it.
    let names_service = kept.iter().any(|(key, _)| key == SERVICE_NAME);
    let key = if names_service {
        SERVER_NAME
    } else {
        SERVICE_NAME
    };
    let mut attributes = vec![key_value(key, string(server))];
    attributes.extend(to_attributes(kept.to_vec()));
    Resource {
        attributes,
        ..Resource::default()
    }
}

fn scope_value(scope: Option<&InstrumentationScope>) -> Value {
    let scope = scope.cloned().unwrap_or_default();
    object(vec![
        ("name", Value::String(scope.name)),
        ("version", Value::String(scope.version)),
        (
            "attributes",
            Value::Object(from_attributes(scope.attributes)),
        ),
    ])
}

/// The scope that [`scope_value`] made `kept` of.
fn foreign_scope(kept: &[(String, Value)]) -> Option<InstrumentationScope> {
    let mut scope = InstrumentationScope::default();
    for (key, value) in kept {
        match (key.as_str(), value) {
            ("name", Value::String(name)) => scope.name.clone_from(name),
            ("version", Value::String(version)) => scope.version.clone_from(version),
            ("attributes", Value::Object(entries)) => {
                scope.attributes = to_attributes(entries.clone());
            }
            _ => return None,
        }
    }
    Some(scope)
}
