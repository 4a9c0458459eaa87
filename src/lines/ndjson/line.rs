//! What the lines of logs and of snapshots have in common.

use crate::{
    lines::json::{JsonError, JsonResult, NESTING_MAX, Reader, write_string, write_value},
    record::{Value, payload::DEPTH_MAX},
    time::Timestamp,
};
use ::time::UtcOffset;

// What a line can hold, a payload can, and the other way round.
const _: () = assert!(DEPTH_MAX == NESTING_MAX as usize);

/// Why a line that is JSON holds no record.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LineReason {
    #[error("the line has no {0:?}")]
    Missing(&'static str),
    #[error("the line has no time, and no record is before it")]
    NoTime,
    #[error(
        "invalid time {text:?} under {key:?}: expected RFC 3339 or a number since 1970, between the \
         years 1678 and 2261"
    )]
    NotATime {
        key: String,
        /// The value, its first 64 characters.
        text: String,
    },
    #[error("expected an integer of 64 bits, found {number}")]
    NotAnInteger {
        /// The number, its first 64 characters.
        number: String,
    },
}

/// An error about the line as a whole.
#[cold]
pub(super) fn missing(key: &'static str) -> JsonError {
    Reader::refuse(0, LineReason::Missing(key))
}

/// Reads a timestamp, with the offset in which it is written.
pub(super) fn read_timestamp(reader: &mut Reader<'_>) -> JsonResult<(Timestamp, UtcOffset)> {
    let offset = reader.offset();
    let text = reader.read_string()?;
    Timestamp::parse_rfc3339(&text).map_err(|error| Reader::refuse(offset, error))
}

/// Appends a timestamp, quotes included.
pub(super) fn write_timestamp(timestamp: Timestamp, utc_offset: UtcOffset, out: &mut Vec<u8>) {
    out.push(b'"');
    timestamp.write_rfc3339_in(utc_offset, out);
    out.push(b'"');
}

/// Appends entries behind others of the same object.
pub(super) fn write_entries(entries: &[(String, Value)], out: &mut Vec<u8>) {
    for (key, value) in entries {
        out.push(b',');
        write_string(key, out);
        out.push(b':');
        write_value(value, out);
    }
}
