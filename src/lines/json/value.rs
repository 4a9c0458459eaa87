//! [`Value`] as JSON, in both directions.

use super::{
    error::JsonResult,
    read::{Kind, Number, Reader},
    scan::is_number,
    write::{write_f64, write_i64, write_string, write_u64},
};
use crate::record::Value;
use std::{borrow::Cow, fmt};

/// How the doubles that JSON has no number for are written: as the strings that they are in the JSON
/// form of Protocol Buffers, with their first letter escaped. To other readers they are those strings,
/// and here they are told from strings that say the same, which need no escape.
const NOT_FINITE: [(&str, f64); 3] = [
    (r#""\u004eaN""#, f64::NAN),
    (r#""\u0049nfinity""#, f64::INFINITY),
    (r#""-\u0049nfinity""#, f64::NEG_INFINITY),
];

/// Reads any JSON value. An integer is [`Value::Int`] when it fits, else [`Value::UInt`] when it
/// fits; a number with a fraction or an exponent, and `-0`, is [`Value::Float`] when it is within
/// the finite range; every other number is [`Value::Number`]. A double that is no number comes back as
/// [`write_value`] wrote it.
pub(crate) fn read_value(reader: &mut Reader<'_>) -> JsonResult<Value> {
    if reader.skip_if_too_deep()? {
        return Ok(Value::Null);
    }
    if let Some(scalar) = read_scalar(reader)? {
        return Ok(match scalar {
            Scalar::Text(text) => Value::String(text.into_owned()),
            Scalar::Other(value) => value,
        });
    }
    Ok(match reader.peek()? {
        Kind::Array => {
            let mut items = Vec::new();
            reader.read_array(|reader, _| {
                items.push(read_value(reader)?);
                Ok(())
            })?;
            Value::Array(items)
        }
        Kind::Object => {
            let mut entries = Vec::new();
            reader.read_object(|reader, key| {
                entries.push((key.into_owned(), read_value(reader)?));
                Ok(())
            })?;
            Value::Object(entries)
        }
        // Every other kind is a scalar.
        _ => return Err(reader.wrong_kind("a value")),
    })
}

/// A value that is neither an array nor an object.
#[derive(Debug)]
pub(crate) enum Scalar<'a> {
    Text(Cow<'a, str>),
    /// Anything but a string.
    Other(Value),
}

/// Reads a value as [`read_value`] does; `None`, and nothing is read, for an array or an object.
pub(crate) fn read_scalar<'a>(reader: &mut Reader<'a>) -> JsonResult<Option<Scalar<'a>>> {
    if let Some(double) = reader.take_bare_double() {
        return Ok(Some(Scalar::Other(Value::Float(double))));
    }
    let value = match reader.peek()? {
        Kind::Null => {
            reader.take_null()?;
            Value::Null
        }
        Kind::Bool => Value::Bool(reader.read_bool()?),
        Kind::Number => number_value(reader.read_number()?),
        Kind::String => {
            let rest = reader.rest();
            let text = reader.read_string()?;
            // Nothing with an escape is borrowed.
            let double = match &text {
                Cow::Owned(_) => not_finite(rest),
                Cow::Borrowed(_) => None,
            };
            match double {
                Some(double) => double,
                None => return Ok(Some(Scalar::Text(text))),
            }
        }
        Kind::Array | Kind::Object => return Ok(None),
    };
    Ok(Some(Scalar::Other(value)))
}

/// The text of `value`, for where a format has no place for anything else.
pub(crate) fn value_text(value: &Value) -> String {
    let mut text = Vec::new();
    write_value(value, &mut text);
    String::from_utf8(text).unwrap_or_default()
}

/// As JSON: numbers with all their digits, entries in their order.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&value_text(self))
    }
}

/// Appends `value`. Whatever [`read_value`] has read reads back as the same value.
pub(crate) fn write_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Int(value) => write_i64(*value, out),
        Value::UInt(value) => write_u64(*value, out),
        Value::Float(value) => write_float(*value, out),
        Value::Number(text) => write_number(text, out),
        Value::String(text) => write_string(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_value(item, out);
            }
            out.push(b']');
        }
        Value::Object(entries) => {
            out.push(b'{');
            for (index, (key, value)) in entries.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_string(key, out);
                out.push(b':');
                write_value(value, out);
            }
            out.push(b'}');
        }
    }
}

/// Appends a double so that it reads back as one: [`write_f64`] for values that are not part of a
/// message whose schema says so.
pub(crate) fn write_float(value: f64, out: &mut Vec<u8>) {
    if value.is_finite() {
        write_f64(value, out);
        return;
    }
    let same = |(_, known): &&(&str, f64)| {
        known.to_bits() == value.to_bits() || (known.is_nan() && value.is_nan())
    };
    if let Some((text, _)) = NOT_FINITE.iter().find(same) {
        out.extend_from_slice(text.as_bytes());
    }
}

fn not_finite(text: &str) -> Option<Value> {
    let (_, value) = NOT_FINITE
        .iter()
        .find(|(written, _)| text.starts_with(written))?;
    Some(Value::Float(*value))
}

/// Appends the text of a number, as a string when it is not a JSON number.
pub(crate) fn write_number(text: &str, out: &mut Vec<u8>) {
    if is_number(text) {
        out.extend_from_slice(text.as_bytes());
    } else {
        write_string(text, out);
    }
}

fn number_value(number: Number<'_>) -> Value {
    let text = number.text();
    // An integer has no negative zero: as `Int(0)` it would be written without its sign.
    let float = text == "-0" || text.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E'));
    let value = if float {
        number.as_f64().map(Value::Float)
    } else {
        number
            .as_i64()
            .map(Value::Int)
            .or_else(|| number.as_u64().map(Value::UInt))
    };
    value.unwrap_or_else(|| Value::Number(text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(line: &str) -> Value {
        let mut reader = Reader::new(line.as_bytes()).expect("UTF-8");
        let value = read_value(&mut reader).expect("JSON");
        reader.finish().expect("one value");
        value
    }

    fn written(value: &Value) -> String {
        let mut out = Vec::new();
        write_value(value, &mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn numbers_take_the_type_that_keeps_them() {
        for (text, value) in [
            ("0", Value::Int(0)),
            ("-9223372036854775808", Value::Int(i64::MIN)),
            ("9223372036854775807", Value::Int(i64::MAX)),
            ("9223372036854775808", Value::UInt(1 << 63)),
            ("18446744073709551615", Value::UInt(u64::MAX)),
            ("1.0", Value::Float(1.0)),
            ("1e2", Value::Float(100.0)),
            (
                "18446744073709551616",
                Value::Number("18446744073709551616".into()),
            ),
            (
                "-9223372036854775809",
                Value::Number("-9223372036854775809".into()),
            ),
            ("1e400", Value::Number("1e400".into())),
            ("-1.5E+999", Value::Number("-1.5E+999".into())),
        ] {
            assert_eq!(read(text), value);
        }
        let Value::Float(zero) = read("-0") else {
            panic!("-0 is no float");
        };
        assert!(zero == 0.0 && zero.is_sign_negative());
        assert_eq!(written(&Value::Float(zero)), "-0.0");
    }

    #[test]
    fn a_line_of_every_type_reads_and_writes() {
        let line = r#"{"a":[null,true,false,-1,1.5,"x\n"],"b":{},"a":[],"c":1e400}"#;
        assert_eq!(written(&read(line)), line);
    }

    #[test]
    fn what_json_cannot_say_becomes_a_string() {
        let value = Value::Array(vec![
            Value::Number("0x10".into()),
            Value::Number("1,\"b\":2".into()),
        ]);
        assert_eq!(written(&value), r#"["0x10","1,\"b\":2"]"#);
    }

    #[test]
    fn doubles_that_are_no_numbers_come_back_and_strings_stay_strings() {
        let text = |text: &str| Value::String(text.to_owned());
        let value = Value::Array(vec![
            Value::Float(-f64::NAN),
            text("NaN"),
            Value::Float(f64::INFINITY),
            text("Infinity"),
            Value::Float(f64::NEG_INFINITY),
            text("-Infinity"),
            text("\\u004eaN"),
        ]);
        let line = written(&value);
        assert_eq!(
            line,
            r#"["\u004eaN","NaN","\u0049nfinity","Infinity","-\u0049nfinity","-Infinity","\\u004eaN"]"#
        );
        let Value::Array(items) = read(&line) else {
            panic!("{line}")
        };
        assert!(matches!(items[0], Value::Float(nan) if nan.to_bits() == f64::NAN.to_bits()));
        let Value::Array(expected) = value else {
            unreachable!()
        };
        assert_eq!(items[1..], expected[1..]);
        // To every other reader all are strings.
        let others: Vec<String> = serde_json::from_str(&line).unwrap();
        assert_eq!(others[..3], ["NaN", "NaN", "Infinity"]);
        // Text with any other escape is text.
        assert_eq!(read(r#""\u004e\u0061N""#), text("NaN"));
        assert_eq!(read(r#""\u004EaN""#), text("NaN"));
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            any::<u64>().prop_map(Value::from),
            any::<f64>()
                .prop_filter("NaN is not equal to itself", |value| value.is_finite())
                .prop_map(Value::Float),
            "-?[1-9][0-9]{20,40}".prop_map(|text| Value::Number(text.into())),
            any::<String>().prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
                proptest::collection::vec((any::<String>(), inner), 0..8).prop_map(Value::Object),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_value_reads_back(value in any_value()) {
            let line = written(&value);
            prop_assert_eq!(read(&line), value);
            serde_json::from_str::<serde_json::Value>(&line).expect("JSON by serde_json");
        }

        #[test]
        fn agrees_with_serde_json_on_what_is_json(line in "[\\[\\]{}:,\"a\\\\u0dD8-9eE.+ntrue ]{0,24}") {
            // serde_json refuses a float beyond its range; everything else must agree.
            let ours = Reader::new(line.as_bytes())
                .and_then(|mut reader| reader.skip_value().and_then(|()| reader.finish()));
            let theirs = serde_json::from_str::<serde_json::Value>(&line);
            match (ours, theirs) {
                (Ok(()), Err(error)) => prop_assert!(
                    error.to_string().contains("out of range"), "{}: {}", line, error
                ),
                (Err(error), Ok(_)) => prop_assert!(false, "{}: {}", line, error),
                _ => {}
            }
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(mut reader) = Reader::new(&bytes) {
                let _ = read_value(&mut reader);
            }
        }
    }
}
