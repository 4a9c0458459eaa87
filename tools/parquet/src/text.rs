//! Values as the texts that the Collector's exporter stores in a map of attributes.
//!
//! The rules are those of `AsString` of the Collector's `pcommon.Value`
//! (<https://github.com/open-telemetry/opentelemetry-collector/blob/main/pdata/pcommon/value.go>): a string is
//! itself, null is empty, bytes are base64, and an array or a map is JSON as Go's `encoding/json` writes it
//! without HTML escapes, its keys sorted. A number that a signed 64-bit integer cannot hold is a string, as in the
//! OTLP that the store exports.

use gridctl_telemetry::{
    Value,
    external::opentelemetry_proto::tonic::common::v1::{AnyValue, any_value},
};
use std::{collections::BTreeMap, io::Write};

/// Appends the text of a value.
pub(crate) fn write_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => {}
        Value::Bool(value) => write_bool(*value, out),
        Value::Int(value) => write_integer(*value, out),
        Value::UInt(value) => write_integer(*value, out),
        Value::Float(value) if value.is_finite() => write_finite(*value, out),
        Value::Float(value) => {
            let name = if value.is_nan() {
                "NaN"
            } else if value.is_sign_positive() {
                "+Inf"
            } else {
                "-Inf"
            };
            out.extend_from_slice(b"json: unsupported value: ");
            out.extend_from_slice(name.as_bytes());
        }
        Value::Number(text) => out.extend_from_slice(text.as_bytes()),
        Value::String(text) => out.extend_from_slice(text.as_bytes()),
        Value::Array(_) | Value::Object(_) => {
            let start = out.len();
            if write_json(value, out).is_none() {
                out.truncate(start);
            }
        }
    }
}

/// Appends the text of a value of OTLP; that of an absent one is empty.
pub(crate) fn write_any(value: Option<&AnyValue>, out: &mut Vec<u8>) {
    match value.and_then(|value| value.value.as_ref()) {
        None => {}
        Some(any_value::Value::StringValue(text)) => out.extend_from_slice(text.as_bytes()),
        Some(any_value::Value::IntValue(value)) => write_integer(*value, out),
        Some(any_value::Value::BoolValue(value)) => write_bool(*value, out),
        Some(other) => {
            let other = AnyValue {
                value: Some(other.clone()),
            };
            write_value(&Value::from(other), out);
        }
    }
}

/// Appends JSON; `None` for a number that JSON lacks, with which `encoding/json` fails.
fn write_json(value: &Value, out: &mut Vec<u8>) -> Option<()> {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(value) => write_bool(*value, out),
        Value::Int(value) => write_integer(*value, out),
        Value::UInt(value) => write_string(&value.to_string(), out),
        Value::Float(value) if value.is_finite() => write_finite(*value, out),
        Value::Float(_) => return None,
        Value::Number(text) => write_string(text, out),
        Value::String(text) => write_string(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_json(item, out)?;
            }
            out.push(b']');
        }
        Value::Object(entries) => {
            // Of entries with one key, the last one counts.
            let entries: BTreeMap<&str, &Value> = entries
                .iter()
                .map(|(key, value)| (key.as_str(), value))
                .collect();
            out.push(b'{');
            for (index, (key, value)) in entries.into_iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_string(key, out);
                out.push(b':');
                write_json(value, out)?;
            }
            out.push(b'}');
        }
    }
    Some(())
}

fn write_bool(value: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

fn write_integer(value: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends the shortest text that reads back as the number, as ECMAScript writes it.
fn write_finite(value: f64, out: &mut Vec<u8>) {
    let size = value.abs();
    let start = out.len();
    // Writing to a vector cannot fail.
    if size == 0.0 || (1e-6..1e21).contains(&size) {
        let _ = write!(out, "{value}");
        return;
    }
    let _ = write!(out, "{value:e}");
    let written = out.get(start..).unwrap_or_default();
    if let Some(sign) = written.iter().position(|byte| *byte == b'e')
        && written.get(sign + 1) != Some(&b'-')
    {
        out.insert(start + sign + 1, b'+');
    }
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for char in text.chars() {
        match char {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\u{8}' => out.extend_from_slice(b"\\b"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\0'..='\u{1f}' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(char));
            }
            _ => out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &Value) -> String {
        let mut out = b"before".to_vec();
        write_value(value, &mut out);
        String::from_utf8(out.split_off(6)).unwrap()
    }

    #[test]
    fn values_have_the_texts_of_the_collector() {
        let object = |entries: &[(&str, Value)]| {
            let entries = entries.iter();
            Value::Object(
                entries
                    .map(|(key, value)| ((*key).into(), value.clone()))
                    .collect(),
            )
        };
        for (value, expected) in [
            (Value::Null, ""),
            (Value::Bool(true), "true"),
            (Value::Int(i64::MIN), "-9223372036854775808"),
            (Value::UInt(u64::MAX), "18446744073709551615"),
            (Value::Number("1e400".into()), "1e400"),
            (Value::from("a\n<b>"), "a\n<b>"),
            // What `TestValueAsString` of the Collector expects, and the bounds of both notations.
            (Value::Float(1.0), "1"),
            (Value::Float(18.6), "18.6"),
            (Value::Float(-0.0), "-0"),
            (Value::Float(1e-6), "0.000001"),
            (Value::Float(1e-7), "1e-7"),
            (Value::Float(-1.5e-9), "-1.5e-9"),
            (Value::Float(1e20), "100000000000000000000"),
            (Value::Float(1e21), "1e+21"),
            (Value::Float(-1.25e300), "-1.25e+300"),
            (Value::Float(f64::NAN), "json: unsupported value: NaN"),
            (Value::Float(f64::INFINITY), "json: unsupported value: +Inf"),
            (
                Value::Float(f64::NEG_INFINITY),
                "json: unsupported value: -Inf",
            ),
            (Value::Array(vec![]), "[]"),
            (object(&[]), "{}"),
            (
                object(&[
                    ("b", Value::Array(vec![Value::Null, Value::Float(2.5)])),
                    ("a", Value::from("lost")),
                    ("é", Value::Bool(false)),
                    ("a", Value::from("<&>\"\\\u{1}\t\u{2028}\u{7f}")),
                    ("u", Value::UInt(u64::MAX)),
                ]),
                "{\"a\":\"<&>\\\"\\\\\\u0001\\t\\u2028\u{7f}\",\"b\":[null,2.5],\"u\":\"18446744073709551615\",\"é\":false}",
            ),
            (Value::Array(vec![Value::Float(f64::NAN)]), ""),
        ] {
            assert_eq!(text(&value), expected, "{value:?}");
        }
        let bytes = AnyValue {
            value: Some(any_value::Value::BytesValue(b"String bytes".to_vec())),
        };
        let mut out = Vec::new();
        write_any(Some(&bytes), &mut out);
        assert_eq!(out, b"U3RyaW5nIGJ5dGVz");
    }
}
