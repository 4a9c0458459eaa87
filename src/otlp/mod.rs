//! Records as OTLP messages, in both directions. This module reads and writes no text: `lines`
//! encodes the messages as JSON.
//!
//! | record | OTLP |
//! |---|---|
//! | any: server | resource attribute `service.name`, or `server.name` where a log keeps a service's name of its own; of a span, its attribute `server.name`, else `component` |
//! | log: timestamp | `timeUnixNano`; the observed time is known of foreign records alone |
//! | log: level | `severityNumber`, and `severityText` as slog spells it, or as the record came with it |
//! | log: message | `body`, which of a foreign record can be a map, a list or a number |
//! | log: the attribute `otlp` that reading OTLP added | the fields and the resource and scope that it holds |
//! | log: attributes | `attributes`; `trace_id` and `span_id` are also the ids of the OTLP record |
//! | snapshot: token counters | `Sum` named `gridctl.tokens`, unit `{token}` |
//! | snapshot: cost counters | `Sum` named `gridctl.cost`, unit `{USD}` |
//! | snapshot: other keys | the metadata of `gridctl.tokens` |
//! | snapshot that holds a foreign metric | that metric, see [`foreign`] |
//! | span | the span, in its own resource and scope |
//!
//! A record that is written and read again is identical, bit for bit, except that OTLP/JSON has a
//! single NaN. Parts of a record that OTLP has no field for are written, when present, as
//! attributes and metadata whose keys begin with [`RESERVED`]:
//!
//! | key | value | written to |
//! |---|---|---|
//! | `gridctl.record.exact` | the entries that the attributes represent only in part, see [`attributes`] | both |
//! | `gridctl.record.utc_offset` | the offset from UTC in which the time was written, in minutes, unless zero | both |
//! | `gridctl.record.unix_nanos` | a time not after the first moment of 1970; the OTLP time is then zero | both |
//! | `gridctl.record.diff`, `.cost_diff` | the increase of the counters, where the totals do not imply it | metadata |
//! | `gridctl.record.reset`, `.cost_reset` | the flag, where the start time implies the opposite | metadata |
//! | `gridctl.record.total_tokens` | that counter, unless it is the sum of the other two | metadata |
//! | `gridctl.record.cost_total` | those counters in micro-USD, where doubles cannot hold them | metadata |

#[cfg(test)]
pub(crate) mod arbitrary;
pub(crate) mod attributes;
pub(crate) mod base64;
pub(crate) mod foreign;
pub(crate) mod id;
mod log;
pub(crate) mod memory;
mod metrics;
mod span;

pub(crate) use self::{
    attributes::{key_value, string},
    log::{FOREIGN, FoundLog, SEVERITY_TEXT, log_from_otlp, log_to_otlp},
    metrics::{FoundMetric, MetricStreams, SnapshotReader},
    span::server_names,
};

use crate::{record::Value, time::Timestamp};
use ::time::UtcOffset;
use opentelemetry_proto::tonic::{
    common::v1::{KeyValue, any_value},
    resource::v1::Resource,
};

/// The prefix of attribute keys that only this module writes.
pub(crate) const RESERVED: &str = "gridctl.record.";

pub(crate) const UTC_OFFSET: &str = "gridctl.record.utc_offset";
const UNIX_NANOS: &str = "gridctl.record.unix_nanos";

/// The resource attribute that names the server
/// (<https://opentelemetry.io/docs/specs/semconv/resource/#service>).
pub(crate) const SERVICE_NAME: &str = "service.name";

/// The attribute of a record, or of its resource, that names the server.
pub(crate) const SERVER_NAME: &str = "server.name";

/// The resource of logs and snapshots of `server`.
pub(crate) fn server_resource(server: &str) -> Resource {
    Resource {
        attributes: vec![key_value(SERVICE_NAME, string(server))],
        ..Resource::default()
    }
}

/// The server that a record's or a resource's attribute `server.name` says.
pub(crate) fn said_server(attributes: &[KeyValue]) -> Option<&str> {
    text_attribute(attributes, SERVER_NAME)
}

/// The service that a resource's attribute `service.name` says: the server, where nothing else does.
pub(crate) fn said_service(attributes: &[KeyValue]) -> Option<&str> {
    text_attribute(attributes, SERVICE_NAME)
}

/// The value of an attribute that is a string.
pub(crate) fn text_attribute<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    let attribute = attributes.iter().find(|entry| entry.key == key)?;
    match attribute.value.as_ref()?.value.as_ref()? {
        any_value::Value::StringValue(name) => Some(name),
        _ => None,
    }
}

/// The value of an attribute that is a whole number.
pub(crate) fn integer_attribute(attributes: &[KeyValue], key: &str) -> Option<i64> {
    let attribute = attributes.iter().find(|entry| entry.key == key)?;
    integer(attribute.value.as_ref()?.value.as_ref()?)
}

/// A time in OTLP, where zero replaces the times before 1970.
fn otlp_time(timestamp: Timestamp) -> u64 {
    u64::try_from(timestamp.unix_nanos()).unwrap_or_default()
}

/// Adds to `attributes` the parts of a record's time that OTLP has no field for.
fn write_time(timestamp: Timestamp, utc_offset: UtcOffset, attributes: &mut Vec<KeyValue>) {
    let minutes = i64::from(utc_offset.whole_minutes());
    if minutes != 0 {
        attributes.push(key_value(UTC_OFFSET, any_value::Value::IntValue(minutes)));
    }
    let nanos = timestamp.unix_nanos();
    // Zero as well, for in OTLP it is no time.
    if nanos <= 0 {
        attributes.push(key_value(UNIX_NANOS, any_value::Value::IntValue(nanos)));
    }
}

/// The time of a record, from OTLP's time and the attributes added by [`write_time`]. Times after
/// [`Timestamp::MAX`] are clamped to it.
fn read_time(time_unix_nano: u64, attributes: &mut Vec<KeyValue>) -> (Timestamp, UtcOffset) {
    let utc_offset = take(attributes, UTC_OFFSET, |value| {
        let minutes = i32::try_from(integer(value)?).ok()?;
        UtcOffset::from_whole_seconds(minutes.checked_mul(60)?).ok()
    });
    let until_1970 = take(attributes, UNIX_NANOS, |value| {
        integer(value).filter(|nanos| *nanos <= 0 && time_unix_nano == 0)
    });
    let nanos = until_1970.unwrap_or_else(|| i64::try_from(time_unix_nano).unwrap_or(i64::MAX));
    (
        Timestamp::from_unix_nanos(nanos),
        utc_offset.unwrap_or(UtcOffset::UTC),
    )
}

/// Removes the attribute named `key` and returns its value as converted by `read`. An attribute
/// that `read` refuses is foreign and stays.
fn take<T>(
    attributes: &mut Vec<KeyValue>,
    key: &str,
    read: impl FnOnce(&any_value::Value) -> Option<T>,
) -> Option<T> {
    let index = attributes.iter().rposition(|entry| entry.key == key)?;
    let found = attributes.get(index)?.value.as_ref()?.value.as_ref();
    let taken = read(found?)?;
    attributes.remove(index);
    Some(taken)
}

fn integer(value: &any_value::Value) -> Option<i64> {
    match value {
        any_value::Value::IntValue(value) => Some(*value),
        _ => None,
    }
}

fn boolean(value: &any_value::Value) -> Option<bool> {
    match value {
        any_value::Value::BoolValue(value) => Some(*value),
        _ => None,
    }
}

/// An object of the entries that are not empty.
fn object(entries: Vec<(&str, Value)>) -> Value {
    let is_empty = |value: &Value| match value {
        Value::Null | Value::Int(0) | Value::UInt(0) => true,
        Value::String(text) => text.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        _ => false,
    };
    let kept = entries.into_iter().filter(|(_, value)| !is_empty(value));
    Value::Object(kept.map(|(key, value)| (key.to_owned(), value)).collect())
}
