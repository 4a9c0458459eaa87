//! A stored log as a `LogRecord` of OTLP/JSON, without the messages in between.
//!
//! Most logs are ours and simple: attributes that are numbers, strings and booleans, each key once. For those,
//! building the record and the message of prost takes two thirds of an export. All others take that way.

use crate::{
    lines::json::{write_f64, write_i64, write_raw_string, write_u64},
    otlp::{RESERVED, SERVER_NAME, UTC_OFFSET},
    record::{
        Level,
        messagepack::{RawToken, Reader as PayloadReader},
        payload::LogHeadOf,
    },
    store::{LogParts, LogValue},
    time::Timestamp,
};
use ::time::UtcOffset;

/// The most attributes of which each key is compared with the others.
const ATTRIBUTES_MAX: usize = 32;

/// Appends the log of `server` that `payload` encodes to `out`, with the resource
/// [`server_resource`](crate::otlp::server_resource) and without a scope: what
/// [`write_message`](super::write_message) appends for the message that
/// [`log_to_otlp`](crate::otlp::log_to_otlp) makes. `None` if the message has to be made, and `out` is then
/// to be thrown away.
pub(crate) fn transcode_own_log(
    server: &str,
    timestamp: Timestamp,
    payload: &[u8],
    out: &mut Vec<u8>,
) -> Option<()> {
    let start = out.len();
    let mut reader = PayloadReader::new(payload);
    let head = LogHeadOf::read_raw(&mut reader).ok()?;
    out.reserve(payload.len() * 4);
    let mut attributes = begin(server, timestamp, head.level, head.message, out)?;
    for _ in 0..head.attributes {
        let key = reader.raw_str().ok()?;
        attributes.write(key, reader.raw_token().ok()?, out)?;
    }
    reader.finish().ok()?;
    attributes.end(head.utc_offset, out);
    std::str::from_utf8(out.get(start..)?).is_ok().then_some(())
}

/// Appends the same for a log that was decoded into its parts.
pub(crate) fn write_own_log(
    server: &str,
    timestamp: Timestamp,
    log: &LogParts<'_>,
    out: &mut Vec<u8>,
) -> Option<()> {
    let message = log.message()?.as_bytes();
    let mut attributes = begin(server, timestamp, log.level()?, message, out)?;
    log.visit(|key, value| {
        let token = match value {
            LogValue::Bool(value) => RawToken::Bool(value),
            LogValue::Int(value) => RawToken::Int(value),
            LogValue::UInt(value) => RawToken::UInt(value),
            LogValue::Float(value) => RawToken::Float(value),
            LogValue::Text(text) => RawToken::Str(text.as_bytes()),
        };
        attributes.write(key.as_bytes(), token, out)
    })?;
    attributes.end(log.utc_offset()?, out);
    Some(())
}

/// Appends what comes before the attributes.
fn begin<'a>(
    server: &'a str,
    timestamp: Timestamp,
    level: Level,
    message: &[u8],
    out: &mut Vec<u8>,
) -> Option<Attributes<'a>> {
    let nanos = u64::try_from(timestamp.unix_nanos())
        .ok()
        .filter(|it| *it > 0)?;
    out.extend_from_slice(b"{\"timeUnixNano\":\"");
    write_u64(nanos, out);
    out.extend_from_slice(b"\",\"severityNumber\":");
    write_i64(level.severity_number().into(), out);
    out.extend_from_slice(b",\"severityText\":");
    match level.name() {
        Some(name) => write_raw_string(name.as_bytes(), out),
        None => write_raw_string(level.to_string().as_bytes(), out),
    }
    out.extend_from_slice(b",\"body\":{\"stringValue\":");
    write_raw_string(message, out);
    out.push(b'}');
    Some(Attributes {
        server,
        known: [&[]; ATTRIBUTES_MAX],
        written: 0,
        ids: [None; 2],
    })
}

/// The attributes that were written so far.
struct Attributes<'a> {
    server: &'a str,
    known: [&'a [u8]; ATTRIBUTES_MAX],
    written: usize,
    /// The digits of the ids of the trace and of the span.
    ids: [Option<&'a [u8]>; 2],
}

impl<'a> Attributes<'a> {
    /// Appends the next attribute; `None` if it has no simple form, or there are many.
    fn write(&mut self, key: &'a [u8], value: RawToken<'a>, out: &mut Vec<u8>) -> Option<()> {
        let known = self.known.get(..self.written)?;
        if key.starts_with(RESERVED.as_bytes()) || known.contains(&key) {
            return None;
        }
        *self.known.get_mut(self.written)? = key;
        self.begin(key, out);
        match value {
            // A value without a type.
            RawToken::Nil => {}
            RawToken::Bool(value) => {
                out.extend_from_slice(b"\"boolValue\":");
                out.extend_from_slice(if value { b"true" } else { b"false" });
            }
            RawToken::Int(value) => write_integer(value, out),
            RawToken::Float(value) => {
                out.extend_from_slice(b"\"doubleValue\":");
                write_f64(value, out);
            }
            RawToken::Str(text) => {
                out.extend_from_slice(b"\"stringValue\":");
                write_raw_string(text, out);
                self.note(key, text)?;
            }
            RawToken::UInt(_) | RawToken::Number(_) | RawToken::Array(_) | RawToken::Map(_) => {
                return None;
            }
        }
        out.extend_from_slice(b"}}");
        Some(())
    }

    /// Appends what stands before the value of an attribute.
    fn begin(&mut self, key: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(if self.written == 0 {
            b",\"attributes\":[{"
        } else {
            b",{"
        });
        self.written += 1;
        // A field that is empty is left out.
        if !key.is_empty() {
            out.extend_from_slice(b"\"key\":");
            write_raw_string(key, out);
            out.push(b',');
        }
        out.extend_from_slice(b"\"value\":{");
    }

    /// Appends what comes after the attributes.
    fn end(mut self, utc_offset: UtcOffset, out: &mut Vec<u8>) {
        let minutes = utc_offset.whole_minutes();
        if minutes != 0 {
            self.begin(UTC_OFFSET.as_bytes(), out);
            write_integer(minutes.into(), out);
            out.extend_from_slice(b"}}");
        }
        if self.written > 0 {
            out.push(b']');
        }
        let [trace_id, span_id] = self.ids;
        for (key, id) in [("traceId", trace_id), ("spanId", span_id)] {
            if let Some(id) = id {
                out.extend_from_slice(b",\"");
                out.extend_from_slice(key.as_bytes());
                out.extend_from_slice(b"\":\"");
                out.extend(id.iter().map(u8::to_ascii_lowercase));
                out.push(b'"');
            }
        }
        out.push(b'}');
    }

    /// Notes what a string says about the record; `None` if its resource is not that of the server alone.
    fn note(&mut self, key: &[u8], text: &'a [u8]) -> Option<()> {
        let [trace_id, span_id] = &mut self.ids;
        match key {
            b"trace_id" => *trace_id = id(text, 32),
            b"span_id" => *span_id = id(text, 16),
            _ if key == SERVER_NAME.as_bytes() && text != self.server.as_bytes() => return None,
            _ => {}
        }
        Some(())
    }
}

/// A text that is an id of this number of digits, and not zero.
fn id(text: &[u8], digits: usize) -> Option<&[u8]> {
    let is_id = text.len() == digits
        && text.iter().all(u8::is_ascii_hexdigit)
        && text.iter().any(|digit| *digit != b'0');
    is_id.then_some(text)
}

fn write_integer(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"intValue\":\"");
    write_i64(value, out);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::{super::write_message, *};
    use crate::{
        lines::json::value_text,
        otlp::{log_to_otlp, server_resource},
        record::{
            Level, LogRecord,
            arbitrary::{any_entries, any_utc_offset, json_entries},
        },
    };
    use proptest::prelude::*;

    /// What is written without the message, and what with it; the former may be left out.
    fn written(server: &str, record: &LogRecord) -> (Option<String>, String) {
        let mut payload = Vec::new();
        record.encode_payload(&mut payload).unwrap();
        let record = LogRecord::decode_payload(record.timestamp, &payload).unwrap();
        let mut direct = Vec::new();
        let done = transcode_own_log(server, record.timestamp, &payload, &mut direct);
        let log = log_to_otlp(server, record, value_text);
        if done.is_some() {
            assert_eq!((log.resource, log.scope), (server_resource(server), None));
        }
        let mut message = Vec::new();
        write_message(&log.record, &mut message);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (done.map(|()| text(direct)), text(message))
    }

    proptest! {
        #[test]
        fn what_is_written_directly_is_what_the_message_is(
            nanos in prop_oneof![any::<i64>(), 1_i64..i64::MAX],
            utc_offset in any_utc_offset(),
            level: i32,
            message: String,
            attributes in prop_oneof![any_entries(), json_entries(&["tool", "trace_id", "span_id", "server.name", "otlp"])],
            trace in prop::option::of("[0-9a-fA-F]{31,33}|0{32}"),
            server in prop_oneof![Just("github".to_owned()), any::<String>()],
        ) {
            let timestamp = Timestamp::from_unix_nanos(nanos);
            let mut record = LogRecord::new(timestamp, Level(level), message);
            record.utc_offset = utc_offset;
            record.attributes = attributes;
            if let Some(trace) = trace {
                record = record.with("trace_id", trace);
            }
            let (direct, message) = written(&server, &record);
            if let Some(direct) = direct {
                prop_assert_eq!(direct, message);
            }
        }
    }

    #[test]
    fn simple_logs_are_written_directly_and_others_are_not() {
        let log = || {
            LogRecord::new(Timestamp::from_unix_nanos(5), Level::WARN, "say \"no\"\n")
                .with("tool", "search")
                .with("", true)
                .with("bytes", -5_i64)
                .with("age", f64::INFINITY)
                .with("nothing", crate::Value::Null)
        };
        let with_ids = log()
            .with("trace_id", "0af7651916cd43dd8448eb211c80319C")
            .with("span_id", "0000000000000000")
            .with("server.name", "github");
        let mut in_another_zone = log();
        in_another_zone.utc_offset = ::time::UtcOffset::from_hms(-3, -30, 0).unwrap();
        for record in [
            log(),
            with_ids,
            in_another_zone,
            LogRecord::new(log().timestamp, Level(7), ""),
        ] {
            let (direct, message) = written("github", &record);
            assert_eq!(direct.as_deref(), Some(&*message));
        }
        let mut early = log();
        early.timestamp = Timestamp::from_unix_nanos(0);
        for record in [
            log().with("tool", "again"),
            log().with("gridctl.record.x", 1_i64),
            log().with("big", u64::MAX),
            log().with("list", crate::Value::Array(Vec::new())),
            log().with("otlp", crate::Value::Object(Vec::new())),
            log().with("server.name", "gitlab"),
            early,
        ] {
            assert_eq!(written("github", &record).0, None, "{record:?}");
        }
    }
}
