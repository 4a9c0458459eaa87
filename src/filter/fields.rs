//! The fields of an encoded record, each read without decoding the rest of the record.

use crate::{
    otlp::attributes::value_of,
    record::{
        CostCounts, Level, MetricsSnapshot, TokenCounts, Value,
        messagepack::{Reader, Token},
        payload::{LogHead, PayloadError, read_value},
        protobuf::{FieldValue, Fields},
    },
    signal::Signal,
    time::Timestamp,
};
use opentelemetry_proto::tonic::{common::v1::AnyValue, trace::v1::status::StatusCode};
use prost::Message as _;
use std::borrow::Cow;

/// The numbers of the fields of a span and its parts (opentelemetry-proto, trace.proto).
mod number {
    pub(super) mod resource_spans {
        pub(in super::super) const RESOURCE: u32 = 1;
        pub(in super::super) const SCOPE_SPANS: u32 = 2;
    }
    pub(super) mod resource {
        pub(in super::super) const ATTRIBUTES: u32 = 1;
    }
    pub(super) mod scope_spans {
        pub(in super::super) const SCOPE: u32 = 1;
        pub(in super::super) const SPAN: u32 = 2;
    }
    pub(super) mod scope {
        pub(in super::super) const ATTRIBUTES: u32 = 3;
    }
    pub(super) mod span {
        pub(in super::super) const TRACE_ID: u32 = 1;
        pub(in super::super) const SPAN_ID: u32 = 2;
        pub(in super::super) const PARENT_SPAN_ID: u32 = 4;
        pub(in super::super) const NAME: u32 = 5;
        pub(in super::super) const KIND: u32 = 6;
        pub(in super::super) const START: u32 = 7;
        pub(in super::super) const END: u32 = 8;
        pub(in super::super) const ATTRIBUTES: u32 = 9;
        pub(in super::super) const EVENTS: u32 = 11;
        pub(in super::super) const STATUS: u32 = 15;
    }
    pub(super) mod event {
        pub(in super::super) const NAME: u32 = 2;
        pub(in super::super) const ATTRIBUTES: u32 = 3;
    }
    pub(super) mod status {
        pub(in super::super) const MESSAGE: u32 = 2;
        pub(in super::super) const CODE: u32 = 3;
    }
    pub(super) mod key_value {
        pub(in super::super) const KEY: u32 = 1;
        pub(in super::super) const VALUE: u32 = 2;
    }
    pub(super) mod any_value {
        pub(in super::super) const STRING: u32 = 1;
    }
}
use number::{
    any_value, event, key_value, resource, resource_spans, scope, scope_spans, span, status,
};

/// Which id of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdKind {
    Trace,
    Span,
    Parent,
}

/// An encoded record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Encoded<'a> {
    pub(crate) signal: Signal,
    pub(crate) payload: &'a [u8],
}

/// The ids, the name, the times and the status of a span.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SpanHead<'a> {
    pub(crate) trace_id: &'a [u8],
    pub(crate) span_id: &'a [u8],
    /// Empty for a root.
    pub(crate) parent_id: &'a [u8],
    pub(crate) name: &'a str,
    /// 0 means unknown.
    pub(crate) start: u64,
    /// 0 means unknown.
    pub(crate) end: u64,
    pub(crate) is_error: bool,
    pub(crate) status_message: &'a str,
}

/// Damaged payloads give [`PayloadError`] where they are noticed, and the fields that can be read
/// where they are not.
impl<'a> Encoded<'a> {
    /// The severity of a log. A failed span has that of an error, any other span that of an
    /// information.
    pub(crate) fn level(&self) -> Option<Level> {
        match self.signal {
            Signal::Logs => self.log().ok().map(|(head, _)| head.level),
            Signal::Metrics => None,
            Signal::Traces if self.status()? == StatusCode::Error as i32 => Some(Level::ERROR),
            Signal::Traces => Some(Level::INFO),
        }
    }

    /// The message of a log or of a span's status.
    pub(crate) fn message(&self) -> Option<&'a str> {
        match self.signal {
            Signal::Logs => self.log().ok().map(|(head, _)| head.message),
            Signal::Metrics => None,
            Signal::Traces => {
                let status = self.span()?.last(span::STATUS)?.bytes()?;
                Fields::new(status).last(status::MESSAGE)?.str()
            }
        }
    }

    /// An id of a span as bytes, or the attribute of a log that holds it.
    pub(crate) fn id(&self, kind: IdKind) -> Option<Id<'a>> {
        match self.signal {
            Signal::Logs => {
                let key = kind.key()?;
                let mut found = None;
                self.log_entries(&mut |entry, value| {
                    if entry == key
                        && let Token::Str(text) = Reader::new(value).token()?
                    {
                        found = Some(Id::Text(text));
                    }
                    Ok(false)
                })
                .ok()?;
                found
            }
            Signal::Metrics => None,
            Signal::Traces => {
                let number = match kind {
                    IdKind::Trace => span::TRACE_ID,
                    IdKind::Span => span::SPAN_ID,
                    IdKind::Parent => span::PARENT_SPAN_ID,
                };
                let id = self.span()?.last(number)?.bytes()?;
                (!id.is_empty()).then_some(Id::Bytes(id))
            }
        }
    }

    /// The name of a span.
    pub(crate) fn name(&self) -> Option<&'a str> {
        self.span()?
            .last(span::NAME)
            .map_or(Some(""), FieldValue::str)
    }

    /// The kind of a span, a number of OTLP.
    pub(crate) fn kind(&self) -> Option<i32> {
        self.span()?
            .last(span::KIND)
            .map_or(Some(0), |it| it.int().map(enumeration))
    }

    /// The status code of a span, a number of OTLP.
    pub(crate) fn status(&self) -> Option<i32> {
        match self.span()?.last(span::STATUS) {
            Some(status) => Fields::new(status.bytes()?)
                .last(status::CODE)
                .map_or(Some(0), |it| it.int().map(enumeration)),
            None => Some(0),
        }
    }

    /// When a span began; 0 means unknown.
    pub(crate) fn start(&self) -> Option<u64> {
        self.span()?
            .last(span::START)
            .map_or(Some(0), FieldValue::int)
    }

    /// How long a span took, in nanoseconds; `None` when its start or its end is unknown.
    pub(crate) fn duration(&self) -> Option<u64> {
        let end = self.span()?.last(span::END)?.int()?;
        let start = self.start()?;
        (start != 0 && end != 0).then(|| end.saturating_sub(start))
    }

    /// What spans are grouped and listed by, read in one pass.
    pub(crate) fn span_head(&self) -> Option<SpanHead<'a>> {
        let mut head = SpanHead::default();
        for (number, value) in self.span()? {
            match number {
                span::TRACE_ID => head.trace_id = value.bytes()?,
                span::SPAN_ID => head.span_id = value.bytes()?,
                span::PARENT_SPAN_ID => head.parent_id = value.bytes()?,
                span::NAME => head.name = value.str()?,
                span::START => head.start = value.int()?,
                span::END => head.end = value.int()?,
                span::STATUS => {
                    for (number, value) in Fields::new(value.bytes()?) {
                        match number {
                            status::MESSAGE => head.status_message = value.str()?,
                            status::CODE => {
                                head.is_error =
                                    enumeration(value.int()?) == StatusCode::Error as i32;
                            }
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        Some(head)
    }

    /// The attributes of the span itself that are strings.
    pub(crate) fn span_texts(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.span_fields(span::ATTRIBUTES).filter_map(|attribute| {
            let fields = Fields::new(attribute);
            let key = fields.clone().last(key_value::KEY)?.str()?;
            let value = fields.last(key_value::VALUE)?.bytes()?;
            let text = Fields::new(value).last(any_value::STRING)?.str()?;
            Some((key, text))
        })
    }

    /// Whether `test` accepts a value under the path `path`: the entry of that key, or nested entries
    /// whose keys joined by points are the path. Of an array, each item is tested; of an object and of
    /// an empty array, the value itself.
    pub(crate) fn any_value(
        &self,
        path: &str,
        test: &mut dyn FnMut(&Value) -> bool,
    ) -> Result<bool, PayloadError> {
        self.entries_on(path, &mut |rest, value| any_at(&value, rest, test))
    }

    /// The value under `path`; of several the last one, which is the one that counts for readers of a
    /// log line.
    pub(crate) fn value(&self, path: &str) -> Result<Option<Value>, PayloadError> {
        let mut found = None;
        self.entries_on(path, &mut |rest, value| {
            if let Some(value) = last_at(&value, rest) {
                found = Some(value.clone());
            }
            false
        })?;
        Ok(found)
    }

    /// Whether `test` accepts one of the record's texts: the message or the name, and every string
    /// among the values.
    pub(crate) fn any_text(
        &self,
        test: &mut dyn FnMut(&str) -> bool,
    ) -> Result<bool, PayloadError> {
        match self.signal {
            Signal::Logs => {
                let (head, _) = self.log()?;
                if test(head.message) {
                    return Ok(true);
                }
                self.log_entries(&mut |_, value| match Reader::new(value).token()? {
                    Token::Str(found) => Ok(test(found)),
                    Token::Array(_) | Token::Map(_) => {
                        Ok(any_string(&read_value(&mut Reader::new(value), 1)?, test))
                    }
                    _ => Ok(false),
                })
            }
            Signal::Metrics => {
                let snapshot = MetricsSnapshot::decode_payload(Timestamp::default(), self.payload)?;
                Ok(snapshot
                    .extra
                    .iter()
                    .any(|(_, value)| any_string(value, test)))
            }
            Signal::Traces => {
                let name = self.name().into_iter().chain(self.message());
                let events = self.span_fields(span::EVENTS);
                let names = events.filter_map(|event| Fields::new(event).last(event::NAME)?.str());
                if name.chain(names).any(&mut *test) {
                    return Ok(true);
                }
                self.attributes().try_fold(false, |found, attribute| {
                    let Some(value) = Fields::new(attribute).last(key_value::VALUE) else {
                        return Ok(found);
                    };
                    let value = value.bytes().unwrap_or_default();
                    let string = Fields::new(value).last(any_value::STRING);
                    Ok(found
                        || match string.and_then(FieldValue::str) {
                            Some(string) => test(string),
                            None => any_string(&value_of(AnyValue::decode(value)?), test),
                        })
                })
            }
        }
    }

    fn log(&self) -> Result<(LogHead<'a>, Reader<'a>), PayloadError> {
        let mut reader = Reader::new(self.payload);
        Ok((LogHead::read(&mut reader)?, reader))
    }

    /// Calls `visit` with the key and the encoded value of each attribute of a log, until it returns
    /// `true`.
    fn log_entries(
        &self,
        visit: &mut dyn FnMut(&'a str, &'a [u8]) -> Result<bool, PayloadError>,
    ) -> Result<bool, PayloadError> {
        let (head, mut reader) = self.log()?;
        for _ in 0..head.attributes {
            let key = reader.str()?;
            let value = reader.value_bytes()?;
            if visit(key, value)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Calls `visit` with each entry that `path` may be in, and the part of the path below it, until
    /// it returns `true`.
    fn entries_on(
        &self,
        path: &str,
        visit: &mut dyn FnMut(&str, Value) -> bool,
    ) -> Result<bool, PayloadError> {
        match self.signal {
            Signal::Logs => self.log_entries(&mut |key, value| match below(path, key) {
                Some(rest) => Ok(visit(rest, read_value(&mut Reader::new(value), 1)?)),
                None => Ok(false),
            }),
            Signal::Metrics => {
                let snapshot = MetricsSnapshot::decode_payload(Timestamp::default(), self.payload)?;
                Ok(counters(snapshot)
                    .into_iter()
                    .any(|(key, value)| below(path, &key).is_some_and(|rest| visit(rest, value))))
            }
            Signal::Traces => {
                for attribute in self.attributes() {
                    let fields = Fields::new(attribute);
                    let key = fields.clone().last(key_value::KEY);
                    let key = key.map_or(Some(""), FieldValue::str);
                    let Some(rest) = key.and_then(|key| below(path, key)) else {
                        continue;
                    };
                    let value = fields.last(key_value::VALUE).and_then(FieldValue::bytes);
                    let value = value.map_or(Ok(AnyValue::default()), AnyValue::decode)?;
                    if visit(rest, value_of(value)) {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }

    fn scope_spans(&self) -> Option<Fields<'a>> {
        if self.signal != Signal::Traces {
            return None;
        }
        let scope_spans = Fields::new(self.payload).last(resource_spans::SCOPE_SPANS)?;
        Some(Fields::new(scope_spans.bytes()?))
    }

    fn span(&self) -> Option<Fields<'a>> {
        let span = self.scope_spans()?.last(scope_spans::SPAN)?;
        Some(Fields::new(span.bytes()?))
    }

    /// The messages in the field `number` of the span.
    fn span_fields(&self, number: u32) -> impl Iterator<Item = &'a [u8]> {
        let fields = self.span().into_iter();
        fields
            .flat_map(move |fields| fields.all(number))
            .filter_map(FieldValue::bytes)
    }

    /// The attributes of the span, of its scope, resource and events.
    fn attributes(&self) -> impl Iterator<Item = &'a [u8]> {
        let within = |message: Option<FieldValue<'a>>, number| {
            let message = message.and_then(FieldValue::bytes).unwrap_or_default();
            Fields::new(message)
                .all(number)
                .filter_map(FieldValue::bytes)
        };
        let resource = Fields::new(self.payload).last(resource_spans::RESOURCE);
        let scope = self
            .scope_spans()
            .and_then(|fields| fields.last(scope_spans::SCOPE));
        let events = self.span_fields(span::EVENTS).flat_map(|event| {
            Fields::new(event)
                .all(event::ATTRIBUTES)
                .filter_map(FieldValue::bytes)
        });
        within(resource, resource::ATTRIBUTES)
            .chain(within(scope, scope::ATTRIBUTES))
            .chain(events)
            .chain(self.span_fields(span::ATTRIBUTES))
    }
}

impl IdKind {
    /// The attribute of a log that holds the id.
    pub(crate) fn key(self) -> Option<&'static str> {
        match self {
            IdKind::Trace => Some("trace_id"),
            IdKind::Span => Some("span_id"),
            IdKind::Parent => None,
        }
    }
}

/// An id: the bytes of a span's, or the text of a log's, which need not be hex.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Id<'a> {
    Bytes(&'a [u8]),
    Text(&'a str),
}

impl<'a> Id<'a> {
    /// The id as text, hex in lower case where it is bytes.
    pub(crate) fn text(self) -> Cow<'a, str> {
        match self {
            Id::Bytes(bytes) => {
                let mut hex = Vec::with_capacity(bytes.len() * 2);
                crate::otlp::id::encode_hex(bytes, &mut hex);
                Cow::Owned(String::from_utf8(hex).unwrap_or_default())
            }
            Id::Text(text) => Cow::Borrowed(text),
        }
    }
}

/// A number of an enumeration, which protobuf extends to 64 bits.
#[expect(
    clippy::cast_possible_truncation,
    reason = "protobuf truncates an enumeration to 32 bits"
)]
pub(crate) fn enumeration(value: u64) -> i32 {
    value.cast_signed() as i32
}

/// The part of `path` below the entry `key`: empty when the entry is the path.
pub(crate) fn below<'p>(path: &'p str, key: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(key)?;
    if rest.is_empty() {
        Some(rest)
    } else {
        rest.strip_prefix('.').filter(|rest| !rest.is_empty())
    }
}

/// Whether `test` accepts a value at `path` below `value`. Stored values nest at most 128 levels.
pub(crate) fn any_at(value: &Value, path: &str, test: &mut dyn FnMut(&Value) -> bool) -> bool {
    match value {
        Value::Array(items) if !items.is_empty() => {
            items.iter().any(|item| any_at(item, path, test))
        }
        value if path.is_empty() => test(value),
        Value::Object(entries) => entries
            .iter()
            .any(|(key, value)| below(path, key).is_some_and(|rest| any_at(value, rest, test))),
        _ => false,
    }
}

/// The last value at `path` below `value`.
fn last_at<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    match value {
        value if path.is_empty() => Some(value),
        Value::Object(entries) => entries
            .iter()
            .rev()
            .find_map(|(key, value)| last_at(value, below(path, key)?)),
        _ => None,
    }
}

pub(crate) fn any_string(value: &Value, test: &mut dyn FnMut(&str) -> bool) -> bool {
    match value {
        Value::String(string) => test(string),
        Value::Array(items) => items.iter().any(|item| any_string(item, test)),
        Value::Object(entries) => entries.iter().any(|(_, value)| any_string(value, test)),
        _ => false,
    }
}

/// A snapshot as the entries of its line.
fn counters(snapshot: MetricsSnapshot) -> Vec<(String, Value)> {
    fn object<const N: usize>(keys: [&str; N], counts: [i64; N]) -> Value {
        let entries = keys.into_iter().zip(counts);
        Value::Object(
            entries
                .map(|(key, count)| (key.to_owned(), Value::Int(count)))
                .collect(),
        )
    }
    let tokens = |counts: TokenCounts| object(TokenCounts::KEYS, counts.to_array());
    let costs = |counts: CostCounts| object(CostCounts::KEYS, counts.to_array());
    let fields = [
        ("reset", Some(Value::Bool(snapshot.reset))),
        ("cost_reset", Some(Value::Bool(snapshot.cost_reset))),
        ("diff", Some(tokens(snapshot.diff))),
        ("total", Some(tokens(snapshot.total))),
        ("cost_diff", snapshot.cost_diff.map(costs)),
        ("cost_total", snapshot.cost_total.map(costs)),
    ];
    let fields = fields
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)));
    fields.chain(snapshot.extra).collect()
}
