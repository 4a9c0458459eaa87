//! How each type of field is written and read.

use super::{
    error::OtlpReason,
    integer::{Integer, integer_of},
    message::{Message, read_fields, write_message},
};
use crate::{
    error::excerpt,
    lines::json::{
        JsonResult, Kind, Number, Reader, write_f64, write_i64, write_string, write_u64,
    },
    otlp::{
        base64::{decode_base64, encode_base64},
        id::{decode_id, encode_hex},
    },
};
use opentelemetry_proto::tonic::{
    logs::v1::SeverityNumber,
    metrics::v1::AggregationTemporality,
    trace::v1::{span::SpanKind, status::StatusCode},
};
use std::marker::PhantomData;

/// A type of Rust whose form in JSON needs no further word.
pub(super) trait Field: Sized {
    /// Whether the value is the one that a field has when it is left out.
    fn is_absent(&self) -> bool;

    /// Appends the value.
    fn write(&self, out: &mut Vec<u8>);

    /// Reads the value, which is not `null` unless the form has it.
    fn read(reader: &mut Reader<'_>) -> JsonResult<Self>;
}

/// A form in which a `T` stands in JSON. The functions are those of [`Field`].
pub(super) trait Form<T> {
    /// See [`Field::is_absent`].
    fn is_absent(value: &T) -> bool;

    /// See [`Field::write`].
    fn write(value: &T, out: &mut Vec<u8>);

    /// See [`Field::read`].
    fn read(reader: &mut Reader<'_>) -> JsonResult<T>;
}

/// The form that the type itself has.
pub(super) struct Plain;

/// Bytes as base64.
pub(super) struct Base64;

/// An id of `LENGTH` bytes as hex.
pub(super) struct Id<const LENGTH: usize>;

/// An enum as its number.
pub(super) struct Enum<E>(PhantomData<E>);

/// The form of a trace id.
pub(super) type TraceId = Id<16>;

/// The form of a span id.
pub(super) type SpanId = Id<8>;

/// An enum that is read from a name as well.
pub(super) trait NamedEnum {
    /// The enum's name, for errors.
    const NAME: &str;

    /// The number of the value called `name`.
    fn number(name: &str) -> Option<i32>;
}

macro_rules! named_enums {
    ($($name:ident)*) => {$(
        impl NamedEnum for $name {
            const NAME: &str = stringify!($name);

            fn number(name: &str) -> Option<i32> {
                $name::from_str_name(name).map(|value| value as i32)
            }
        }
    )*};
}

named_enums! { SpanKind StatusCode SeverityNumber AggregationTemporality }

impl<T: Field> Form<T> for Plain {
    fn is_absent(value: &T) -> bool {
        value.is_absent()
    }

    fn write(value: &T, out: &mut Vec<u8>) {
        value.write(out);
    }

    fn read(reader: &mut Reader<'_>) -> JsonResult<T> {
        T::read(reader)
    }
}

impl Form<Vec<u8>> for Base64 {
    fn is_absent(value: &Vec<u8>) -> bool {
        value.is_empty()
    }

    fn write(value: &Vec<u8>, out: &mut Vec<u8>) {
        out.push(b'"');
        encode_base64(value, out);
        out.push(b'"');
    }

    fn read(reader: &mut Reader<'_>) -> JsonResult<Vec<u8>> {
        let offset = reader.offset();
        let text = reader.read_string()?;
        decode_base64(&text).ok_or_else(|| {
            let text = excerpt(&text);
            OtlpReason::InvalidBase64 { text }.at(offset)
        })
    }
}

impl<const LENGTH: usize> Form<Vec<u8>> for Id<LENGTH> {
    fn is_absent(value: &Vec<u8>) -> bool {
        value.is_empty()
    }

    fn write(value: &Vec<u8>, out: &mut Vec<u8>) {
        out.push(b'"');
        encode_hex(value, out);
        out.push(b'"');
    }

    fn read(reader: &mut Reader<'_>) -> JsonResult<Vec<u8>> {
        let offset = reader.offset();
        let text = reader.read_string()?;
        decode_id(&text, LENGTH).ok_or_else(|| {
            let (bytes, text) = (LENGTH, excerpt(&text));
            OtlpReason::InvalidId { bytes, text }.at(offset)
        })
    }
}

impl<E: NamedEnum> Form<i32> for Enum<E> {
    fn is_absent(value: &i32) -> bool {
        *value == 0
    }

    fn write(value: &i32, out: &mut Vec<u8>) {
        write_i64(i64::from(*value), out);
    }

    fn read(reader: &mut Reader<'_>) -> JsonResult<i32> {
        let offset = reader.offset();
        match reader.peek()? {
            Kind::Number => integer_at(reader.read_number()?, offset),
            Kind::String => {
                let text = reader.read_string()?;
                E::number(&text).ok_or_else(|| {
                    let (name, text) = (E::NAME, excerpt(&text));
                    OtlpReason::UnknownEnumName { name, text }.at(offset)
                })
            }
            _ => Err(reader.wrong_kind("an enum's number or name")),
        }
    }
}

impl Field for String {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_string(self, out);
    }

    fn read(reader: &mut Reader<'_>) -> JsonResult<String> {
        reader.read_string().map(Into::into)
    }
}

impl Field for bool {
    fn is_absent(&self) -> bool {
        !self
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(if *self { b"true" } else { b"false" });
    }

    fn read(reader: &mut Reader<'_>) -> JsonResult<bool> {
        reader.read_bool()
    }
}

impl Field for f64 {
    fn is_absent(&self) -> bool {
        // By bits, for -0.0 equals 0.0 and would lose its sign.
        self.to_bits() == 0
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_f64(*self, out);
    }

    fn read(reader: &mut Reader<'_>) -> JsonResult<f64> {
        let offset = reader.offset();
        let invalid = |text: &str| {
            let text = excerpt(text);
            OtlpReason::InvalidDouble { text }.at(offset)
        };
        if let Some(double) = reader.take_bare_double() {
            return Ok(double);
        }
        match reader.peek()? {
            Kind::Number => {
                let number = reader.read_number()?;
                number.as_f64().ok_or_else(|| invalid(number.text()))
            }
            Kind::String => {
                let text = reader.read_string()?;
                match text.as_ref() {
                    "NaN" => Ok(f64::NAN),
                    "Infinity" => Ok(f64::INFINITY),
                    "-Infinity" => Ok(f64::NEG_INFINITY),
                    _ => Number::new(&text)
                        .and_then(Number::as_f64)
                        .ok_or_else(|| invalid(&text)),
                }
            }
            _ => Err(reader.wrong_kind("a double")),
        }
    }
}

impl Field for i32 {
    fn is_absent(&self) -> bool {
        *self == 0
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_i64(i64::from(*self), out);
    }

    fn read(reader: &mut Reader<'_>) -> JsonResult<i32> {
        read_integer(reader)
    }
}

impl Field for u32 {
    fn is_absent(&self) -> bool {
        *self == 0
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_u64(u64::from(*self), out);
    }

    fn read(reader: &mut Reader<'_>) -> JsonResult<u32> {
        read_integer(reader)
    }
}

impl Field for i64 {
    fn is_absent(&self) -> bool {
        *self == 0
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'"');
        write_i64(*self, out);
        out.push(b'"');
    }

    fn read(reader: &mut Reader<'_>) -> JsonResult<i64> {
        read_integer(reader)
    }
}

impl Field for u64 {
    fn is_absent(&self) -> bool {
        *self == 0
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'"');
        write_u64(*self, out);
        out.push(b'"');
    }

    fn read(reader: &mut Reader<'_>) -> JsonResult<u64> {
        read_integer(reader)
    }
}

impl<T: Field> Field for Option<T> {
    fn is_absent(&self) -> bool {
        self.is_none()
    }

    fn write(&self, out: &mut Vec<u8>) {
        // Whatever is present is written, for a default that is present is not absence.
        match self {
            Some(value) => value.write(out),
            None => out.extend_from_slice(b"null"),
        }
    }

    fn read(reader: &mut Reader<'_>) -> JsonResult<Option<T>> {
        T::read(reader).map(Some)
    }
}

impl<T: Field> Field for Vec<T> {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        for (index, item) in self.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            item.write(out);
        }
        out.push(b']');
    }

    fn read(reader: &mut Reader<'_>) -> JsonResult<Vec<T>> {
        let mut items = Vec::new();
        reader.read_array(|reader, _| {
            items.push(T::read(reader)?);
            Ok(())
        })?;
        Ok(items)
    }
}

impl<M: Message> Field for M {
    fn is_absent(&self) -> bool {
        false
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_message(self, out);
    }

    fn read(reader: &mut Reader<'_>) -> JsonResult<M> {
        read_fields(reader)
    }
}

fn read_integer<T: Integer>(reader: &mut Reader<'_>) -> JsonResult<T> {
    let offset = reader.offset();
    match reader.peek()? {
        Kind::Number => integer_at(reader.read_number()?, offset),
        Kind::String => {
            let text = reader.read_string()?;
            Number::new(&text)
                .and_then(integer_of)
                .ok_or_else(|| invalid_integer::<T>(&text).at(offset))
        }
        _ => Err(reader.wrong_kind("an integer")),
    }
}

fn integer_at<T: Integer>(number: Number<'_>, offset: usize) -> JsonResult<T> {
    integer_of(number).ok_or_else(|| invalid_integer::<T>(number.text()).at(offset))
}

#[cold]
fn invalid_integer<T: Integer>(text: &str) -> OtlpReason {
    OtlpReason::InvalidInteger {
        expected: T::NAME,
        text: excerpt(text),
    }
}
