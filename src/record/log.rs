//! Log records.

use super::{Level, Value};
use crate::time::Timestamp;
use ::time::UtcOffset;

/// A log record: one line of `logs.jsonl`.
///
/// ```
/// use gridctl_telemetry::{Level, LogRecord, Timestamp, Value};
///
/// let record = LogRecord::new(Timestamp::now(), Level::INFO, "tool call completed")
///     .with("component", "github")
///     .with("attempt", 2_i64);
/// assert_eq!(record.attribute("attempt"), Some(&Value::Int(2)));
/// assert_eq!(record.component(), Some("github"));
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LogRecord {
    /// The time of the event (`ts`).
    pub timestamp: Timestamp,
    /// The offset from UTC in which `ts` is written, in whole minutes.
    pub utc_offset: UtcOffset,
    /// Severity (`level`).
    pub level: Level,
    /// The message (`msg`).
    pub message: String,
    /// The other entries of the line in their order: the record's attributes, then the logger's. A
    /// key may occur twice.
    pub attributes: Vec<(String, Value)>,
}

impl LogRecord {
    /// A record without attributes whose time is written in UTC.
    #[must_use]
    pub fn new(timestamp: Timestamp, level: Level, message: impl Into<String>) -> LogRecord {
        LogRecord {
            timestamp,
            utc_offset: UtcOffset::UTC,
            level,
            message: message.into(),
            attributes: Vec::new(),
        }
    }

    /// Adds an attribute after the others.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<Value>) -> LogRecord {
        self.attributes.push((key.into(), value.into()));
        self
    }

    /// The last attribute named `key`. When a key occurs twice, readers of the line use the last
    /// value.
    #[must_use]
    pub fn attribute(&self, key: &str) -> Option<&Value> {
        self.attributes
            .iter()
            .rev()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value)
    }

    /// The `component` attribute, when it is a string.
    #[must_use]
    pub fn component(&self) -> Option<&str> {
        self.string_attribute("component")
    }

    /// The `trace_id` attribute, when it is a string.
    #[must_use]
    pub fn trace_id(&self) -> Option<&str> {
        self.string_attribute("trace_id")
    }

    /// The `span_id` attribute, when it is a string.
    #[must_use]
    pub fn span_id(&self) -> Option<&str> {
        self.string_attribute("span_id")
    }

    fn string_attribute(&self, key: &str) -> Option<&str> {
        match self.attribute(key) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        }
    }
}
