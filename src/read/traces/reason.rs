//! Why a call failed.

use super::trace::{Trace, TraceEntry};
use crate::{
    otlp::text_attribute,
    record::{Level, LogRecord, Record, ServerName, SpanRecord, Value},
};
use opentelemetry_proto::tonic::common::v1::KeyValue;

/// Why a call failed, and where that is said.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct CallError {
    /// The message.
    pub message: String,
    /// What says it.
    pub source: ErrorSource,
    /// The server of the span or of the log record that says it.
    pub server: ServerName,
    /// The name of the span that says it; `None` for a log record.
    pub span: Option<String>,
}

impl CallError {
    /// Why a span failed, as far as it says so itself: in its status, else in one of its events, else in its
    /// attributes. `server` is that of the span.
    #[must_use]
    pub fn said_by(server: &ServerName, record: &SpanRecord) -> Option<CallError> {
        let span = &record.span;
        let status = span.status.as_ref().map(|status| status.message.as_str());
        let status = status.filter(|message| !message.is_empty());
        let of_event = || {
            let mut events = span.events.iter().rev();
            events.find_map(|event| text_of(&event.attributes))
        };
        let (source, message) = status
            .map(|message| (ErrorSource::Status, message))
            .or_else(|| Some((ErrorSource::Event, of_event()?)))
            .or_else(|| Some((ErrorSource::Attribute, text_of(&span.attributes)?)))?;
        Some(CallError {
            message: message.to_owned(),
            source,
            server: server.clone(),
            span: Some(span.name.clone()),
        })
    }
}

/// What says why a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum ErrorSource {
    /// The status message of a span.
    Status,
    /// An event of a span, such as an exception.
    Event,
    /// An attribute of a span.
    Attribute,
    /// A log record of the call.
    Log,
}

/// The attributes of a span, and the entries of a log record, that say why something failed, in order of
/// precedence.
const ERROR_KEYS: [&str; 5] = [
    "exception.message",
    "error.message",
    "error",
    "err",
    "error.type",
];

impl Trace {
    /// Why the span with this id failed: what it says itself, else what the deepest failed span below it
    /// says, else the last error that was logged in it or below it.
    pub(super) fn reason(&self, span_id: &[u8]) -> Option<CallError> {
        let is_it = |entry: &&TraceEntry| match &entry.stored.record {
            Record::Span(record) => record.span.span_id == span_id,
            _ => false,
        };
        let first = self.entries.iter().position(|entry| is_it(&entry))?;
        let (call, after) = self.entries.get(first..)?.split_first()?;
        let below: Vec<&TraceEntry> = after
            .iter()
            .take_while(|entry| entry.depth > call.depth)
            .collect();
        let mut failed: Vec<(&TraceEntry, &SpanRecord)> = below
            .iter()
            .filter_map(|entry| match &entry.stored.record {
                Record::Span(record) if record.is_error() => Some((*entry, &**record)),
                _ => None,
            })
            .collect();
        // Stable, so that of equally deep spans the first one comes first.
        failed.sort_by_key(|(entry, _)| std::cmp::Reverse(entry.depth));
        let own = match &call.stored.record {
            Record::Span(record) => CallError::said_by(&call.stored.server, record),
            _ => None,
        };
        own.or_else(|| {
            failed
                .into_iter()
                .find_map(|(entry, record)| CallError::said_by(&entry.stored.server, record))
        })
        .or_else(|| {
            below
                .into_iter()
                .rev()
                .find_map(|entry| match &entry.stored.record {
                    Record::Log(log) if log.level >= Level::ERROR => Some(CallError {
                        message: said_by_log(log),
                        source: ErrorSource::Log,
                        server: entry.stored.server.clone(),
                        span: None,
                    }),
                    _ => None,
                })
        })
    }
}

fn text_of(attributes: &[KeyValue]) -> Option<&str> {
    let mut texts = ERROR_KEYS
        .into_iter()
        .filter_map(|key| text_attribute(attributes, key));
    texts.find(|text| !text.is_empty())
}

/// The message of a log, and the entry that says what went wrong.
fn said_by_log(log: &LogRecord) -> String {
    let mut entries = ERROR_KEYS.into_iter().filter_map(|key| log.attribute(key));
    let detail = entries.find_map(|value| match value {
        Value::String(text) if !text.is_empty() => Some(text),
        _ => None,
    });
    match detail {
        Some(detail) => format!("{}: {detail}", log.message),
        None => log.message.clone(),
    }
}
