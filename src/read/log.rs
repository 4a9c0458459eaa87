//! A stored log, looked at without building it.

use super::RawRecord;
use crate::{
    error::{Error, Result},
    record::{
        Level, LogRecord, Value,
        messagepack::{Reader, Token},
        payload::{LogHead, PayloadError, read_value},
    },
    signal::Signal,
    store::{LogParts, LogValue, ReadRecord},
    time::Timestamp,
};
use std::borrow::Cow;
use time::UtcOffset;

/// The parts of a stored log. Texts are borrowed from the stored bytes: made for readers of many records,
/// to which a [`LogRecord`](crate::LogRecord) costs more than what they do with it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LogView<'a> {
    /// The offset from UTC of the time, as it was logged.
    pub utc_offset: UtcOffset,
    /// Severity.
    pub level: Level,
    /// The message.
    pub message: &'a str,
    /// The other entries, in their order. A key may occur twice.
    pub attributes: Vec<(&'a str, ValueView<'a>)>,
}

/// The value of an attribute of a [`LogView`].
#[derive(Debug, Clone, PartialEq)]
pub enum ValueView<'a> {
    /// A string.
    Text(&'a str),
    /// Any other value.
    Other(Value),
}

impl ValueView<'_> {
    /// A copy of the value.
    #[must_use]
    pub fn to_value(&self) -> Value {
        match self {
            ValueView::Text(text) => Value::from(*text),
            ValueView::Other(value) => value.clone(),
        }
    }
}

impl<'a> From<LogValue<'a>> for ValueView<'a> {
    #[inline]
    fn from(value: LogValue<'a>) -> ValueView<'a> {
        ValueView::Other(match value {
            LogValue::Text(text) => return ValueView::Text(text),
            LogValue::Bool(value) => Value::Bool(value),
            LogValue::Int(value) => Value::Int(value),
            LogValue::UInt(value) => Value::UInt(value),
            LogValue::Float(value) => Value::Float(value),
        })
    }
}

impl<'a> LogView<'a> {
    fn read(payload: &'a [u8]) -> Result<LogView<'a>, PayloadError> {
        let mut reader = Reader::new(payload);
        let head = LogHead::read(&mut reader)?;
        let mut attributes = Vec::with_capacity(head.attributes.min(LogView::CAPACITY_MAX));
        for _ in 0..head.attributes {
            let key = reader.str()?;
            let mut ahead = reader;
            let value = if let Token::Str(text) = ahead.token()? {
                reader = ahead;
                ValueView::Text(text)
            } else {
                ValueView::Other(read_value(&mut reader, 1)?)
            };
            attributes.push((key, value));
        }
        reader.finish()?;
        Ok(LogView {
            utc_offset: head.utc_offset,
            level: head.level,
            message: head.message,
            attributes,
        })
    }

    /// The view of a log that was decoded into its parts; `None` if a part is damaged.
    fn of_parts(parts: &LogParts<'a>) -> Option<LogView<'a>> {
        let mut attributes = Vec::with_capacity(parts.len());
        parts.visit(|key, value| {
            attributes.push((key, ValueView::from(value)));
            Some(())
        })?;
        Some(LogView {
            utc_offset: parts.utc_offset()?,
            level: parts.level()?,
            message: parts.message()?,
            attributes,
        })
    }

    pub(super) fn of(record: &ReadRecord<'a>) -> Result<LogView<'a>> {
        match record {
            ReadRecord::Payload(payload) => {
                LogView::read(payload).map_err(|error| invalid(error.to_string()))
            }
            ReadRecord::Log(parts) => LogView::of_parts(parts).ok_or_else(damaged_parts),
        }
    }

    /// A copy of the log, with this time.
    #[must_use]
    pub fn to_record(&self, timestamp: Timestamp) -> LogRecord {
        let mut record = LogRecord::new(timestamp, self.level, self.message);
        record.utc_offset = self.utc_offset;
        let attributes = self.attributes.iter();
        record.attributes = attributes
            .map(|(key, value)| ((*key).to_owned(), value.to_value()))
            .collect();
        record
    }

    /// A damaged length must not allocate more than this number of attributes before they are read.
    const CAPACITY_MAX: usize = 32;

    /// The last attribute named `key`, if it is a string.
    fn text(&self, key: &str) -> Option<&'a str> {
        let mut attributes = self.attributes.iter().rev();
        match attributes.find(|(name, _)| *name == key)? {
            (_, ValueView::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The id of the trace that the log belongs to, in 32 lower-case hex digits: the last attribute
    /// `trace_id`, if it is one and not all zero.
    #[must_use]
    pub fn trace_id(&self) -> Option<Cow<'a, str>> {
        id_of(self.text("trace_id")?, 32)
    }

    /// The id of the span that the log belongs to, in 16 lower-case hex digits: the last attribute
    /// `span_id`, likewise.
    #[must_use]
    pub fn span_id(&self) -> Option<Cow<'a, str>> {
        id_of(self.text("span_id")?, 16)
    }
}

fn invalid(reason: String) -> Error {
    Error::InvalidRecord {
        signal: Signal::Logs,
        reason,
    }
}

/// The error about a log that was decoded into its parts, one of which is damaged.
pub(super) fn damaged_parts() -> Error {
    invalid("a value is damaged or no UTF-8".to_owned())
}

/// A log that was decoded into its parts, with this time; `None` if a part is damaged.
pub(super) fn record_of_parts(parts: &LogParts<'_>, timestamp: Timestamp) -> Option<LogRecord> {
    let mut record = LogRecord::new(timestamp, parts.level()?, parts.message()?);
    record.utc_offset = parts.utc_offset()?;
    record.attributes.reserve_exact(parts.len());
    parts.visit(|key, value| {
        let value = match ValueView::from(value) {
            ValueView::Text(text) => Value::from(text),
            ValueView::Other(value) => value,
        };
        record.attributes.push((key.to_owned(), value));
        Some(())
    })?;
    Some(record)
}

fn id_of(text: &str, digits: usize) -> Option<Cow<'_, str>> {
    if text.len() != digits {
        return None;
    }
    // All digits are looked at without a branch, which takes a fraction of the time of stopping at the first wrong one.
    let (mut is_hex, mut is_zero, mut is_lower) = (true, true, true);
    for digit in text.bytes() {
        is_hex &= digit.is_ascii_hexdigit();
        is_zero &= digit == b'0';
        is_lower &= !digit.is_ascii_uppercase();
    }
    match (is_hex && !is_zero, is_lower) {
        (false, _) => None,
        (true, true) => Some(Cow::Borrowed(text)),
        (true, false) => Some(Cow::Owned(text.to_ascii_lowercase())),
    }
}

impl<'a> RawRecord<'a> {
    /// The parts of a log; `None` for records of other signals.
    ///
    /// Fails with [`Error::InvalidRecord`] when the payload was not written by this crate.
    pub fn log(&self) -> Result<Option<LogView<'a>>> {
        if self.signal != Signal::Logs {
            return Ok(None);
        }
        LogView::of(&self.content).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        record::{LogRecord, arbitrary::any_entries},
        time::Timestamp,
    };
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_view_says_what_the_record_says(message: String, attributes in any_entries()) {
            let mut record = LogRecord::new(Timestamp::default(), Level(3), message);
            record.attributes = attributes;
            let mut payload = Vec::new();
            record.encode_payload(&mut payload).unwrap();
            // Once written and read, a NaN is the one that is stored.
            let record = LogRecord::decode_payload(record.timestamp, &payload).unwrap();
            let view = LogView::read(&payload).unwrap();
            prop_assert_eq!((view.level, view.message), (record.level, record.message.as_str()));
            let viewed: Vec<(String, Value)> = view
                .attributes
                .into_iter()
                .map(|(key, value)| {
                    let value = match value {
                        ValueView::Text(text) => Value::from(text),
                        ValueView::Other(value) => value,
                    };
                    (key.to_owned(), value)
                })
                .collect();
            // As text, for a NaN does not equal itself.
            prop_assert_eq!(format!("{viewed:?}"), format!("{:?}", record.attributes));
        }
    }

    #[test]
    fn only_ids_are_ids() {
        for (text, id) in [
            ("00000000000000AB", Some("00000000000000ab")),
            ("00000000000000ab", Some("00000000000000ab")),
            ("0000000000000000", None),
            ("00000000000000a", None),
            ("00000000000000ag", None),
            ("", None),
        ] {
            let record = LogRecord::new(Timestamp::default(), Level::INFO, "")
                .with("span_id", "1111111111111111")
                .with("span_id", text);
            let mut payload = Vec::new();
            record.encode_payload(&mut payload).unwrap();
            let view = LogView::read(&payload).unwrap();
            assert_eq!(view.span_id().as_deref(), id);
            assert_eq!(view.trace_id(), None);
        }
    }
}
