//! A record of any of the three signals.

use super::{
    LogRecord, MetricsSnapshot, SpanRecord,
    payload::{PayloadError, cut_deep_entries},
};
use crate::{signal::Signal, time::Timestamp};

/// A record of any signal.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Record {
    /// A record of [`Signal::Logs`].
    Log(LogRecord),
    /// A record of [`Signal::Metrics`].
    Metrics(MetricsSnapshot),
    /// A record of [`Signal::Traces`].
    Span(Box<SpanRecord>),
}

impl Record {
    /// The record's signal.
    #[must_use]
    pub fn signal(&self) -> Signal {
        match self {
            Record::Log(_) => Signal::Logs,
            Record::Metrics(_) => Signal::Metrics,
            Record::Span(_) => Signal::Traces,
        }
    }

    /// The timestamp that the record is stored under.
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        match self {
            Record::Log(record) => record.timestamp,
            Record::Metrics(record) => record.timestamp,
            Record::Span(record) => record.timestamp(),
        }
    }

    /// Makes null of every value that is nested deeper than a payload can hold. Says whether there
    /// was one.
    pub(crate) fn cut_deep_values(&mut self) -> bool {
        match self {
            Record::Log(record) => cut_deep_entries(&mut record.attributes),
            Record::Metrics(record) => cut_deep_entries(&mut record.extra),
            Record::Span(record) => record.cut_deep_values(),
        }
    }

    pub(crate) fn encode_payload(&self, out: &mut Vec<u8>) -> Result<(), PayloadError> {
        match self {
            Record::Log(record) => record.encode_payload(out),
            Record::Metrics(record) => record.encode_payload(out),
            Record::Span(record) => record.encode_payload(out),
        }
    }

    pub(crate) fn decode_payload(
        signal: Signal,
        timestamp: Timestamp,
        payload: &[u8],
    ) -> Result<Record, PayloadError> {
        Ok(match signal {
            Signal::Logs => Record::Log(LogRecord::decode_payload(timestamp, payload)?),
            Signal::Metrics => {
                Record::Metrics(MetricsSnapshot::decode_payload(timestamp, payload)?)
            }
            Signal::Traces => Record::Span(Box::new(SpanRecord::decode_payload(payload)?)),
        })
    }

    /// The log record, if it is one.
    #[must_use]
    pub fn into_log(self) -> Option<LogRecord> {
        match self {
            Record::Log(record) => Some(record),
            _ => None,
        }
    }

    /// The metrics snapshot, if it is one.
    #[must_use]
    pub fn into_metrics(self) -> Option<MetricsSnapshot> {
        match self {
            Record::Metrics(record) => Some(record),
            _ => None,
        }
    }

    /// The span, if it is one.
    #[must_use]
    pub fn into_span(self) -> Option<SpanRecord> {
        match self {
            Record::Span(record) => Some(*record),
            _ => None,
        }
    }
}
