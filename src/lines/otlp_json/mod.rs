//! OTLP/JSON: the messages of `opentelemetry-proto` as JSON, in both directions.
//!
//! The form is that of Protocol Buffers (<https://protobuf.dev/programming-guides/json/>) with what
//! OTLP changes about it (<https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>).
//!
//! **Written** is one form: lowerCamelCase keys, ids as lowercase hex, enums as integers, 64-bit
//! integers as decimal strings, bytes as padded base64, a double that JSON lacks as `"NaN"`,
//! `"Infinity"` or `"-Infinity"`. A field at its default is left out, but a message that is present
//! and empty stays `{}` and the chosen member of a oneof is written whatever its value, so that
//! reading gives back the same message, bit for bit. Two things have no form in JSON: a NaN's payload
//! (all NaN read as `f64::NAN`) and an id of the wrong length (written, but refused when read).
//!
//! **Read** is every form that Protocol Buffers calls legal, and ids as base64 besides, which is how
//! the Go program before this one wrote them; `null` is absence; unknown keys are ignored. Refused
//! is a field that is given twice, a second member of a oneof, an unknown enum name (an unknown enum
//! number is kept), a number that its field cannot hold, an id of the wrong length.
//!
//! Each message is one row in the table of [`messages`], which serves both directions, so that they
//! cannot disagree.

mod envelope;
mod error;
mod field;
mod foreign;
mod integer;
mod log;
mod message;
mod messages;
pub(super) mod records;

#[cfg(test)]
mod shared_data;
#[cfg(test)]
mod tests;

pub(crate) use self::{
    envelope::Envelope,
    foreign::{foreign_metric, keep_foreign},
    log::{transcode_own_log, write_own_log},
    message::{Message, OTLP_NESTING_MAX, message_in, read_message, write_message},
};
