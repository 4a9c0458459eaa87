//! A message of any type, in both directions.

use super::error::OtlpReason;
use crate::lines::json::{JsonResult, NESTING_MAX, Reader};

/// The most that arrays and objects are nested around an attribute's value: in
/// `resourceMetrics[].scopeMetrics[].metrics[].sum.dataPoints[].exemplars[].filteredAttributes[].value`.
const NESTING_AROUND_VALUE: u32 = 16;

/// The most that one level of a value is nested: `{"kvlistValue":{"values":[{"value":…}]}}`.
const NESTING_PER_LEVEL: u32 = 4;

/// How deep OTLP/JSON may be nested: whatever a line of ours can hold as an attribute, in the form
/// that needs most levels.
pub(crate) const OTLP_NESTING_MAX: u32 = NESTING_AROUND_VALUE + NESTING_PER_LEVEL * NESTING_MAX;

/// A message of OTLP: those of traces, logs and metrics and everything in them.
pub(crate) trait Message: Default {
    /// Appends `,"key":value` for each field that is not at its default.
    fn write_fields(&self, out: &mut Vec<u8>);

    /// Reads the value of the field that is called `key` in lowerCamelCase. Says false, and reads
    /// nothing, when the message has no such field.
    fn read_field(
        &mut self,
        reader: &mut Reader<'_>,
        key: &str,
        seen: &mut Seen,
    ) -> JsonResult<bool>;
}

/// The fields that an object has had, one bit each.
#[derive(Debug, Default)]
pub(crate) struct Seen(u32);

/// Appends `message` as one JSON object without white space: a whole line (without its line feed)
/// when it is `TracesData`, `LogsData` or `MetricsData`, a piece of one otherwise.
pub(crate) fn write_message<M: Message>(message: &M, out: &mut Vec<u8>) {
    let start = out.len();
    message.write_fields(out);
    // The comma before the first field becomes the brace.
    match out.get_mut(start) {
        Some(comma) => *comma = b'{',
        None => out.push(b'{'),
    }
    out.push(b'}');
}

/// Reads `text`, which is one message, as JSON with white space anywhere between its tokens.
///
/// Fails when the text is not UTF-8, is no JSON, holds more than one value, is nested deeper than
/// any line of ours, or is no such message. Keys that the message does not have are ignored, so that
/// the text of another signal reads as an empty message.
pub(crate) fn read_message<M: Message>(text: &[u8]) -> JsonResult<M> {
    message_in(text, usize::MAX)
}

/// Like [`read_message`]. Fails before the messages in it take more than `bytes_max` bytes of memory, their
/// texts not counted.
pub(crate) fn message_in<M: Message>(text: &[u8], bytes_max: usize) -> JsonResult<M> {
    let mut reader = Reader::with_nesting_max(text, OTLP_NESTING_MAX)?;
    reader.allow_memory(bytes_max);
    let message = read_fields(&mut reader)?;
    reader.finish()?;
    Ok(message)
}

/// Reads a message where one stands in a line.
pub(super) fn read_fields<M: Message>(reader: &mut Reader<'_>) -> JsonResult<M> {
    reader.count_memory(size_of::<M>())?;
    let mut message = M::default();
    let mut seen = Seen::default();
    if reader.skip_if_too_deep()? {
        return Ok(message);
    }
    reader.read_object(|reader, key| {
        if message.read_field(reader, &key, &mut seen)? {
            return Ok(());
        }
        match lower_camel_case(&key) {
            Some(key) if message.read_field(reader, &key, &mut seen)? => Ok(()),
            _ => reader.skip_value(),
        }
    })?;
    Ok(message)
}

impl Seen {
    /// Notes that the field with the number `slot` comes next. Fails when it came before.
    pub(super) fn field(&mut self, slot: u32, reader: &mut Reader<'_>) -> JsonResult<()> {
        if self.note(slot) {
            Ok(())
        } else {
            Err(OtlpReason::FieldGivenTwice.at(reader.offset()))
        }
    }

    /// Notes that a member of `oneof`, which has the number `slot`, comes next. Fails when one came
    /// before.
    pub(super) fn member(
        &mut self,
        slot: u32,
        oneof: &'static str,
        reader: &mut Reader<'_>,
    ) -> JsonResult<()> {
        if self.note(slot) {
            Ok(())
        } else {
            Err(OtlpReason::OneofGivenTwice { oneof }.at(reader.offset()))
        }
    }

    fn note(&mut self, slot: u32) -> bool {
        let before = self.0;
        self.0 |= 1 << slot;
        self.0 != before
    }
}

/// `start_time_unix_nano` as `startTimeUnixNano`: the name that a field has in the `.proto` file,
/// which readers take as well, as the key that is written for it. None when `key` is no such name.
pub(super) fn lower_camel_case(key: &str) -> Option<String> {
    let mut parts = key.split('_');
    let mut camel = parts.next().filter(|first| *first != key)?.to_owned();
    if !key
        .bytes()
        .all(|byte| byte == b'_' || byte.is_ascii_lowercase())
    {
        return None;
    }
    for part in parts {
        let mut letters = part.chars();
        camel.push(letters.next()?.to_ascii_uppercase());
        camel.push_str(letters.as_str());
    }
    Some(camel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_proto_files_are_turned_to_camel_case() {
        for (key, camel) in [
            ("trace_id", Some("traceId")),
            ("start_time_unix_nano", Some("startTimeUnixNano")),
            ("name", None),
            ("trace_Id", None),
            ("trace__id", None),
            ("trace_id_", None),
            ("_trace_id", Some("TraceId")),
            ("", None),
            ("_", None),
        ] {
            assert_eq!(lower_camel_case(key).as_deref(), camel, "{key}");
        }
    }
}
