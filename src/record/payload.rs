//! The encoding of records in the database: the payload of a row.
//!
//! | record | payload |
//! |---|---|
//! | log | `MessagePack` array: offset from UTC in minutes, level, message, attributes |
//! | snapshot | `MessagePack` array: offset from UTC in minutes, flags (1 `reset`, 2 `cost_reset`), `diff` (3 counters), `total` (3), `cost_diff` (4, or nil), `cost_total` (4, or nil), other keys; then, where the diffs do not say what was counted in the interval, an array: flags (1 tokens, 2 cost cleared), when counting began (nanoseconds), tokens (3), cost (4) |
//! | span | protobuf `ResourceSpans` with one `ScopeSpans` with one `Span` |
//!
//! In logs and snapshots, integers have their shortest form. Attributes and other keys are maps
//! whose entries keep their order and may repeat a key. A [`Value::Number`] is extension type 1
//! with its text. The timestamp of logs and snapshots is only in the row's key. A span also keeps
//! its own start and end, because the timestamp in its key is clamped.

use super::{
    CostCounts, Interval, Level, LogRecord, MetricsSnapshot, SpanRecord, TokenCounts, Value,
    messagepack::{
        Reader, Token, unexpected_at, write_array_head, write_bool, write_float, write_int,
        write_map_head, write_nil, write_number, write_str, write_uint,
    },
    span_message,
};
use crate::{error::excerpt, time::Timestamp};
use ::time::UtcOffset;
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value},
    trace::v1::{ResourceSpans, Span},
};
use prost::{
    Message,
    encoding::{WireType, decode_key, decode_varint},
};
use std::borrow::Cow;

/// The maximum nesting depth of a log or a snapshot. The record itself is the first level, as in
/// its line, so a record stored by one process can be exported and imported by another.
pub(crate) const DEPTH_MAX: usize = 128;

/// The maximum nesting depth of the messages in a span's payload: the recursion limit of prost.
pub(super) const SPAN_DEPTH_MAX: usize = 100;

/// The maximum number of items to allocate for before they are read: a damaged length must not
/// allocate more.
const CAPACITY_MAX: usize = 32;

const FLAG_RESET: u8 = 1;
const FLAG_COST_RESET: u8 = 2;

const FLAG_TOKENS_CLEARED: u8 = 1;
const FLAG_COST_CLEARED: u8 = 2;

/// A record that cannot be encoded, or bytes that are not a valid payload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PayloadError {
    /// The record is nested so deep that decoding could overflow the stack of a reader.
    #[error("the value of {key:?} is nested too deep: flatten it")]
    TooDeep {
        /// The key of the attribute, its first 64 characters.
        key: String,
    },
    #[error("byte {offset} of the payload: expected {expected}")]
    Unexpected {
        offset: usize,
        expected: &'static str,
    },
    #[error("the payload is cut off: the item at byte {offset} is longer than the rest")]
    Truncated { offset: usize },
    #[error("the payload is not a `ResourceSpans` message: {0}")]
    Protobuf(#[from] prost::DecodeError),
    #[error("the payload holds {scopes} scopes and {spans} spans, not one of each")]
    SpanCount { scopes: usize, spans: usize },
}

impl LogRecord {
    /// Appends the payload of this record to `out`.
    ///
    /// Fails with [`PayloadError::TooDeep`] and leaves `out` unchanged.
    pub(crate) fn encode_payload(&self, out: &mut Vec<u8>) -> Result<(), PayloadError> {
        check_depth(&self.attributes)?;
        write_log_start(self.utc_offset, self.level, out);
        write_str(&self.message, out);
        write_entries(&self.attributes, out);
        Ok(())
    }

    /// Decodes a payload written by [`LogRecord::encode_payload`].
    pub(crate) fn decode_payload(
        timestamp: Timestamp,
        payload: &[u8],
    ) -> Result<LogRecord, PayloadError> {
        let mut reader = Reader::new(payload);
        let head = LogHead::read(&mut reader)?;
        let record = LogRecord {
            timestamp,
            utc_offset: head.utc_offset,
            level: head.level,
            message: head.message.to_owned(),
            attributes: read_entries(&mut reader, head.attributes, 1)?,
        };
        reader.finish()?;
        Ok(record)
    }
}

/// The part of a log's payload before its attributes.
pub(crate) type LogHead<'a> = LogHeadOf<&'a str>;

/// The part of a log's payload before its attributes, with the message as `S`.
#[derive(Debug)]
pub(crate) struct LogHeadOf<S> {
    pub(crate) utc_offset: UtcOffset,
    pub(crate) level: Level,
    pub(crate) message: S,
    /// The number of attributes that follow, each a string and a value.
    pub(crate) attributes: usize,
}

impl<'a> LogHead<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<LogHead<'a>, PayloadError> {
        LogHeadOf::read_with(reader, Reader::str)
    }
}

impl<'a> LogHeadOf<&'a [u8]> {
    /// Leaves it open whether the message is UTF-8.
    pub(crate) fn read_raw(reader: &mut Reader<'a>) -> Result<LogHeadOf<&'a [u8]>, PayloadError> {
        LogHeadOf::read_with(reader, Reader::raw_str)
    }
}

impl<S> LogHeadOf<S> {
    fn read_with<'a>(
        reader: &mut Reader<'a>,
        message: impl FnOnce(&mut Reader<'a>) -> Result<S, PayloadError>,
    ) -> Result<LogHeadOf<S>, PayloadError> {
        reader.array_of(4)?;
        Ok(LogHeadOf {
            utc_offset: read_utc_offset(reader)?,
            level: Level(reader.int()?),
            message: message(reader)?,
            attributes: reader.map()?,
        })
    }
}

impl MetricsSnapshot {
    /// Appends the payload of this snapshot to `out`.
    ///
    /// Fails with [`PayloadError::TooDeep`] and leaves `out` unchanged.
    pub(crate) fn encode_payload(&self, out: &mut Vec<u8>) -> Result<(), PayloadError> {
        check_depth(&self.extra)?;
        let flags = u8::from(self.reset) * FLAG_RESET + u8::from(self.cost_reset) * FLAG_COST_RESET;
        write_array_head(7 + usize::from(self.interval.is_some()), out);
        write_int(self.utc_offset.whole_minutes().into(), out);
        write_uint(flags.into(), out);
        write_counts(&self.diff.to_array(), out);
        write_counts(&self.total.to_array(), out);
        for cost in [self.cost_diff, self.cost_total] {
            match cost {
                Some(cost) => write_counts(&cost.to_array(), out),
                None => write_nil(out),
            }
        }
        write_entries(&self.extra, out);
        if let Some(interval) = &self.interval {
            write_interval(interval, out);
        }
        Ok(())
    }

    /// A payload as it is for a reader of lines: without the interval, which no line has.
    pub(crate) fn line_payload(payload: &[u8]) -> Cow<'_, [u8]> {
        let has_interval = Reader::new(payload).array_of(8).is_ok();
        let snapshot = has_interval.then(|| {
            let decoded = MetricsSnapshot::decode_payload(Timestamp::default(), payload);
            let mut snapshot = decoded.ok()?;
            snapshot.interval = None;
            let mut encoded = Vec::with_capacity(payload.len());
            snapshot.encode_payload(&mut encoded).ok()?;
            Some(encoded)
        });
        snapshot
            .flatten()
            .map_or(Cow::Borrowed(payload), Cow::Owned)
    }

    /// Decodes a payload written by [`MetricsSnapshot::encode_payload`].
    pub(crate) fn decode_payload(
        timestamp: Timestamp,
        payload: &[u8],
    ) -> Result<MetricsSnapshot, PayloadError> {
        let mut reader = Reader::new(payload);
        let mut head = SnapshotHead::read(timestamp, &mut reader)?;
        head.snapshot.extra = read_entries(&mut reader, head.entries, 1)?;
        head.finish(reader)
    }
}

/// The part of a snapshot's payload before its other keys.
#[derive(Debug)]
pub(crate) struct SnapshotHead {
    /// The snapshot so far.
    pub(crate) snapshot: MetricsSnapshot,
    /// The number of other keys that follow, each a string and a value.
    pub(crate) entries: usize,
    has_interval: bool,
}

impl SnapshotHead {
    pub(crate) fn read(
        timestamp: Timestamp,
        reader: &mut Reader<'_>,
    ) -> Result<SnapshotHead, PayloadError> {
        let mut ahead = *reader;
        let has_interval = ahead.array_of(8).is_ok();
        reader.array_of(7 + usize::from(has_interval))?;
        let utc_offset = read_utc_offset(reader)?;
        let flags: u8 = reader.int()?;
        let snapshot = MetricsSnapshot {
            timestamp,
            utc_offset,
            reset: flags & FLAG_RESET != 0,
            cost_reset: flags & FLAG_COST_RESET != 0,
            diff: read_tokens(reader)?,
            total: read_tokens(reader)?,
            cost_diff: read_costs(reader)?,
            cost_total: read_costs(reader)?,
            extra: Vec::new(),
            interval: None,
        };
        Ok(SnapshotHead {
            snapshot,
            entries: reader.map()?,
            has_interval,
        })
    }

    /// Reads what follows the other keys, to the end of the payload.
    pub(crate) fn finish(self, mut reader: Reader<'_>) -> Result<MetricsSnapshot, PayloadError> {
        let mut snapshot = self.snapshot;
        if self.has_interval {
            snapshot.interval = Some(read_interval(&mut reader)?);
        }
        reader.finish()?;
        Ok(snapshot)
    }
}

impl SpanRecord {
    /// Appends the payload of this span to `out`.
    ///
    /// Fails with [`PayloadError::TooDeep`] and leaves `out` unchanged.
    pub(crate) fn encode_payload(&self, out: &mut Vec<u8>) -> Result<(), PayloadError> {
        let start = out.len();
        span_message::write(self, out).inspect_err(|_| out.truncate(start))
    }

    /// Decodes a payload written by [`SpanRecord::encode_payload`].
    pub(crate) fn decode_payload(payload: &[u8]) -> Result<SpanRecord, PayloadError> {
        let resource_spans = ResourceSpans::decode(payload)?;
        let scopes = resource_spans.scope_spans.len();
        let [scope_spans] = <[_; 1]>::try_from(resource_spans.scope_spans)
            .map_err(|_| PayloadError::SpanCount { scopes, spans: 0 })?;
        let spans = scope_spans.spans.len();
        let [span] = <[Span; 1]>::try_from(scope_spans.spans)
            .map_err(|_| PayloadError::SpanCount { scopes, spans })?;
        Ok(SpanRecord {
            resource: resource_spans.resource,
            resource_schema_url: resource_spans.schema_url,
            scope: scope_spans.scope,
            scope_schema_url: scope_spans.schema_url,
            span,
        })
    }

    /// Makes empty every value that is nested deeper than a payload can hold. Says whether there was
    /// one.
    pub(crate) fn cut_deep_values(&mut self) -> bool {
        fn cut(attributes: &mut [KeyValue], level: usize) {
            for entry in attributes {
                cut_deep_attribute(entry, level);
            }
        }
        if self.check_depth().is_ok() {
            return false;
        }
        if let Some(resource) = &mut self.resource {
            cut(&mut resource.attributes, 2);
        }
        if let Some(scope) = &mut self.scope {
            cut(&mut scope.attributes, 3);
        }
        cut(&mut self.span.attributes, 3);
        for event in &mut self.span.events {
            cut(&mut event.attributes, 4);
        }
        for link in &mut self.span.links {
            cut(&mut link.attributes, 4);
        }
        true
    }

    fn check_depth(&self) -> Result<(), PayloadError> {
        let check = |attributes: &[KeyValue], level: usize| {
            attributes
                .iter()
                .find(|entry| !key_value_fits(entry, level))
                .map_or(Ok(()), |entry| Err(too_deep(&entry.key)))
        };
        // Levels count nested messages: `ResourceSpans` is at 0, and each check starts at the level
        // of the `KeyValue` messages.
        if let Some(resource) = &self.resource {
            check(&resource.attributes, 2)?;
        }
        if let Some(scope) = &self.scope {
            check(&scope.attributes, 3)?;
        }
        check(&self.span.attributes, 3)?;
        for event in &self.span.events {
            check(&event.attributes, 4)?;
        }
        for link in &self.span.links {
            check(&link.attributes, 4)?;
        }
        Ok(())
    }
}

/// The parts of a span's payload, each encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SpanParts<'a> {
    /// The resource, the scope, and the schema URLs of both, where the payload has them: what a span shares
    /// with those around it.
    pub(crate) origin: [Option<&'a [u8]>; 4],
    pub(crate) span: &'a [u8],
}

impl<'a> SpanParts<'a> {
    /// Divides a payload; `None` if it has not one span and each other part once at most.
    pub(crate) fn of(payload: &'a [u8]) -> Option<SpanParts<'a>> {
        let [resource, scope_spans, resource_url] = fields_of(payload)?;
        let [scope, span, scope_url] = fields_of(scope_spans?)?;
        Some(SpanParts {
            origin: [resource, scope, resource_url, scope_url],
            span: span?,
        })
    }

    /// The span.
    pub(crate) fn decode(&self) -> Result<Span, PayloadError> {
        Ok(Span::decode(self.span)?)
    }
}

/// The fields 1 to 3 of a message that has no others and none twice.
fn fields_of(mut message: &[u8]) -> Option<[Option<&[u8]>; 3]> {
    let mut found = [None; 3];
    while !message.is_empty() {
        let (number, wire) = decode_key(&mut message).ok()?;
        let length = usize::try_from(decode_varint(&mut message).ok()?).ok()?;
        let (field, rest) = message.split_at_checked(length)?;
        message = rest;
        let place = found.get_mut((number as usize).checked_sub(1)?)?;
        if wire != WireType::LengthDelimited || place.replace(field).is_some() {
            return None;
        }
    }
    Some(found)
}

/// Appends the part of a log's payload before the message. The message (a string) and the map of
/// attributes must follow.
pub(crate) fn write_log_start(utc_offset: UtcOffset, level: Level, out: &mut Vec<u8>) {
    write_array_head(4, out);
    write_int(utc_offset.whole_minutes().into(), out);
    write_int(level.0.into(), out);
}

fn write_counts(counts: &[i64], out: &mut Vec<u8>) {
    write_array_head(counts.len(), out);
    for count in counts {
        write_int(*count, out);
    }
}

fn write_interval(interval: &Interval, out: &mut Vec<u8>) {
    let flags = u8::from(interval.tokens_cleared) * FLAG_TOKENS_CLEARED
        + u8::from(interval.cost_cleared) * FLAG_COST_CLEARED;
    write_array_head(4, out);
    write_uint(flags.into(), out);
    write_int(interval.counting_since.unix_nanos(), out);
    write_counts(&interval.tokens.to_array(), out);
    write_counts(&interval.cost.to_array(), out);
}

fn write_entries(entries: &[(String, Value)], out: &mut Vec<u8>) {
    write_map_head(entries.len(), out);
    for (key, value) in entries {
        write_str(key, out);
        write_value(value, out);
    }
}

/// Appends the value of an attribute.
pub(crate) fn write_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => write_nil(out),
        Value::Bool(value) => write_bool(*value, out),
        Value::Int(value) => write_int(*value, out),
        Value::UInt(value) => write_uint(*value, out),
        Value::Float(value) => write_float(*value, out),
        Value::Number(text) => write_number(text, out),
        Value::String(text) => write_str(text, out),
        Value::Array(items) => {
            write_array_head(items.len(), out);
            for item in items {
                write_value(item, out);
            }
        }
        Value::Object(entries) => write_entries(entries, out),
    }
}

fn check_depth(entries: &[(String, Value)]) -> Result<(), PayloadError> {
    entries
        .iter()
        .find(|(_, value)| !value_fits(value, 1))
        .map_or(Ok(()), |(key, _)| Err(too_deep(key)))
}

/// Makes null of every value that goes deeper than [`DEPTH_MAX`]. Says whether there was one.
pub(crate) fn cut_deep_entries(entries: &mut [(String, Value)]) -> bool {
    let mut cut = false;
    for (_, value) in entries {
        cut |= cut_deep_value(value, 1);
    }
    cut
}

fn cut_deep_value(value: &mut Value, depth: usize) -> bool {
    let mut cut = false;
    match value {
        Value::Array(_) | Value::Object(_) if depth >= DEPTH_MAX => {
            *value = Value::Null;
            return true;
        }
        Value::Array(items) => {
            for item in items {
                cut |= cut_deep_value(item, depth + 1);
            }
        }
        Value::Object(entries) => {
            for (_, item) in entries {
                cut |= cut_deep_value(item, depth + 1);
            }
        }
        _ => {}
    }
    cut
}

/// Makes empty every value of an entry at `level` that goes deeper than [`SPAN_DEPTH_MAX`].
fn cut_deep_attribute(entry: &mut KeyValue, level: usize) {
    if let Some(value) = &mut entry.value {
        cut_deep_any(value, level + 1);
    }
}

fn cut_deep_any(value: &mut AnyValue, level: usize) {
    // How much deeper the items of a list are: the list itself, the item, and of an entry its value.
    let steps = match &value.value {
        Some(any_value::Value::ArrayValue(_)) => 2,
        Some(any_value::Value::KvlistValue(_)) => 3,
        _ => 0,
    };
    if level + steps > SPAN_DEPTH_MAX {
        value.value = None;
    }
    match &mut value.value {
        Some(any_value::Value::ArrayValue(array)) => {
            for item in &mut array.values {
                cut_deep_any(item, level + 2);
            }
        }
        Some(any_value::Value::KvlistValue(list)) => {
            for entry in &mut list.values {
                cut_deep_attribute(entry, level + 2);
            }
        }
        _ => {}
    }
}

/// Whether `value`, an item of a container at `depth`, stays within [`DEPTH_MAX`].
fn value_fits(value: &Value, depth: usize) -> bool {
    match value {
        Value::Array(items) => {
            depth < DEPTH_MAX && items.iter().all(|item| value_fits(item, depth + 1))
        }
        Value::Object(entries) => {
            depth < DEPTH_MAX && entries.iter().all(|(_, item)| value_fits(item, depth + 1))
        }
        _ => true,
    }
}

/// Whether `entry`, which is at `level`, stays within [`SPAN_DEPTH_MAX`].
fn key_value_fits(entry: &KeyValue, level: usize) -> bool {
    level <= SPAN_DEPTH_MAX
        && entry
            .value
            .as_ref()
            .is_none_or(|value| any_value_fits(value, level + 1))
}

fn any_value_fits(value: &AnyValue, level: usize) -> bool {
    level <= SPAN_DEPTH_MAX
        && match &value.value {
            Some(any_value::Value::ArrayValue(array)) => {
                level < SPAN_DEPTH_MAX
                    && array
                        .values
                        .iter()
                        .all(|item| any_value_fits(item, level + 2))
            }
            Some(any_value::Value::KvlistValue(list)) => {
                level < SPAN_DEPTH_MAX
                    && list
                        .values
                        .iter()
                        .all(|entry| key_value_fits(entry, level + 2))
            }
            _ => true,
        }
}

#[cold]
pub(super) fn too_deep(key: &str) -> PayloadError {
    PayloadError::TooDeep { key: excerpt(key) }
}

fn read_utc_offset(reader: &mut Reader<'_>) -> Result<UtcOffset, PayloadError> {
    utc_offset_of(reader.int()?)
        .ok_or_else(|| unexpected_at(1, "an offset from UTC below 26 hours"))
}

/// An offset from UTC as payloads store it, in minutes; `None` if it is too large.
pub(crate) fn utc_offset_of(minutes: i16) -> Option<UtcOffset> {
    if minutes == 0 {
        return Some(UtcOffset::UTC);
    }
    UtcOffset::from_whole_seconds(i32::from(minutes) * 60).ok()
}

fn read_tokens(reader: &mut Reader<'_>) -> Result<TokenCounts, PayloadError> {
    reader.array_of(3)?;
    read_ints(reader).map(TokenCounts::from_array)
}

fn read_costs(reader: &mut Reader<'_>) -> Result<Option<CostCounts>, PayloadError> {
    if !reader.nil_or_array_of(4)? {
        return Ok(None);
    }
    read_ints(reader).map(CostCounts::from_array).map(Some)
}

fn read_interval(reader: &mut Reader<'_>) -> Result<Interval, PayloadError> {
    reader.array_of(4)?;
    let flags: u8 = reader.int()?;
    Ok(Interval {
        tokens_cleared: flags & FLAG_TOKENS_CLEARED != 0,
        cost_cleared: flags & FLAG_COST_CLEARED != 0,
        counting_since: Timestamp::from_unix_nanos(reader.int()?),
        tokens: read_tokens(reader)?,
        cost: read_costs(reader)?.unwrap_or_default(),
    })
}

fn read_ints<const N: usize>(reader: &mut Reader<'_>) -> Result<[i64; N], PayloadError> {
    let mut ints = [0; N];
    for int in &mut ints {
        *int = reader.int()?;
    }
    Ok(ints)
}

fn read_entries(
    reader: &mut Reader<'_>,
    count: usize,
    depth: usize,
) -> Result<Vec<(String, Value)>, PayloadError> {
    let mut entries = Vec::with_capacity(count.min(CAPACITY_MAX));
    for _ in 0..count {
        let key = reader.str()?.to_owned();
        entries.push((key, read_value(reader, depth)?));
    }
    Ok(entries)
}

/// Reads a value that is nested in `depth` arrays and maps.
pub(crate) fn read_value(reader: &mut Reader<'_>, depth: usize) -> Result<Value, PayloadError> {
    Ok(match reader.token()? {
        Token::Nil => Value::Null,
        Token::Bool(value) => Value::Bool(value),
        Token::Int(value) => Value::Int(value),
        Token::UInt(value) => Value::UInt(value),
        Token::Float(value) => Value::Float(value),
        Token::Str(text) => Value::String(text.to_owned()),
        Token::Number(text) => Value::Number(text.into()),
        Token::Array(count) => {
            let depth = reader.deeper(depth)?;
            let mut items = Vec::with_capacity(count.min(CAPACITY_MAX));
            for _ in 0..count {
                items.push(read_value(reader, depth)?);
            }
            Value::Array(items)
        }
        Token::Map(count) => {
            let depth = reader.deeper(depth)?;
            Value::Object(read_entries(reader, count, depth)?)
        }
    })
}

#[cfg(test)]
mod tests;
