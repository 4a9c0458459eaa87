//! The JSON that the programs print with `--json` and that the API answers: one shape for both.

mod losses;
mod trace;

pub use self::{
    losses::{LossShape, LossesShape},
    trace::TraceShape,
};

use gridctl_telemetry::{
    ServerName, Signal, Timestamp,
    lines::{JsonView, LineFormat},
    query::{Cursor, StoredRecord, TimeRange},
};
use serde::Serialize;

/// A list of a stack.
#[derive(Debug, Serialize)]
pub struct OfStack<'a, T> {
    /// The name of the stack.
    pub stack: &'a str,
    /// The members of the list.
    #[serde(flatten)]
    pub list: &'a T,
}

/// A report about a range of time.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OfRange<'a, T> {
    stack: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<Signal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
    #[serde(flatten)]
    report: &'a T,
}

impl<'a, T> OfRange<'a, T> {
    /// A report about `range`, and about one signal if `signal` is given.
    pub fn new(
        stack: &'a str,
        signal: Option<Signal>,
        range: TimeRange,
        report: &'a T,
    ) -> OfRange<'a, T> {
        OfRange {
            stack,
            signal,
            since: range.since,
            until: range.until,
            report,
        }
    }
}

/// A record, with where it is stored.
#[derive(Debug, Serialize)]
pub struct RecordShape<'a> {
    signal: Signal,
    server: &'a ServerName,
    timestamp: Timestamp,
    cursor: Cursor,
    record: JsonView<'a>,
}

impl<'a> RecordShape<'a> {
    /// A stored record; `record` is its line of NDJSON.
    #[must_use]
    pub fn new(stored: &'a StoredRecord) -> RecordShape<'a> {
        RecordShape {
            signal: stored.record.signal(),
            server: &stored.server,
            timestamp: stored.timestamp,
            cursor: stored.cursor(),
            record: stored.json(LineFormat::Ndjson),
        }
    }
}
