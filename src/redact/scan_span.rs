//! Whether an encoded span has a secret, without decoding it.
//!
//! A message that holds no literal is passed over as a whole. The decoded span decides wherever this walk
//! finds what no encoder of this crate writes, such as fields in another order.

use super::{
    candidates::Candidates,
    names::{KeyNames, key_names},
    text::Apply,
    walk::{Keys, Replace, names_entry},
};
use crate::record::protobuf::{FieldValue, Fields};
use std::ops::Range;

/// Messages nested deeper than this are left to the decoder.
const DEPTH_MAX: usize = 100;

/// Whether an encoded span could have a secret.
pub(super) fn span_may_have_secret(candidates: Candidates<'_>) -> bool {
    let payload = candidates.payload();
    let mut scan = SpanScan {
        candidates,
        payload,
    };
    scan.message(Message::ResourceSpans, 0..payload.len())
        .is_none()
}

/// The messages that have strings but no keys, and the strings and messages in them.
#[derive(Debug, Clone, Copy)]
enum Message {
    ResourceSpans,
    Resource,
    Entity,
    ScopeSpans,
    Scope,
    Span,
    Event,
    Link,
    Status,
}

enum Field {
    Text(Apply),
    Message(Message),
    Attribute,
    /// An id.
    Bytes,
}

impl Message {
    /// What a field of bytes holds; `None` when it is unknown.
    fn field(self, number: u32) -> Option<Field> {
        use Field::{Attribute, Bytes, Text};
        Some(match (self, number) {
            (Message::ResourceSpans, 1) => Field::Message(Message::Resource),
            (Message::ResourceSpans, 2) => Field::Message(Message::ScopeSpans),
            (Message::Resource, 3) => Field::Message(Message::Entity),
            (Message::ScopeSpans, 1) => Field::Message(Message::Scope),
            (Message::ScopeSpans, 2) => Field::Message(Message::Span),
            (Message::Span, 11) => Field::Message(Message::Event),
            (Message::Span, 13) => Field::Message(Message::Link),
            (Message::Span, 15) => Field::Message(Message::Status),
            (Message::Resource, 1)
            | (Message::Scope | Message::Event, 3)
            | (Message::Span, 9)
            | (Message::Link, 4) => Attribute,
            (Message::Scope, 1) | (Message::Span, 5) | (Message::Event | Message::Status, 2) => {
                Text(Apply::All)
            }
            (Message::ResourceSpans | Message::ScopeSpans | Message::Span | Message::Link, 3)
            | (Message::Entity, 1..=4)
            | (Message::Scope, 2) => Text(Apply::Shapes),
            (Message::Span, 1 | 2 | 4) | (Message::Link, 1 | 2) => Bytes,
            _ => return None,
        })
    }
}

struct SpanScan<'a> {
    candidates: Candidates<'a>,
    payload: &'a [u8],
}

/// The methods return `None` when there is, or could be, a secret.
impl<'a> SpanScan<'a> {
    /// Calls `visit` with each field of the message in `range` and, if it holds bytes, with their range.
    fn fields(
        &mut self,
        range: Range<usize>,
        mut visit: impl FnMut(&mut Self, u32, FieldValue<'a>, Range<usize>) -> Option<()>,
    ) -> Option<()> {
        let mut fields = Fields::new(self.payload.get(range.clone())?);
        while let Some((number, value)) = fields.next() {
            let end = range.end - fields.rest().len();
            let start = end - value.bytes().map_or(0, <[u8]>::len);
            visit(self, number, value, start..end)?;
        }
        (!fields.is_damaged()).then_some(())
    }

    fn may_be_in(&mut self, range: &Range<usize>) -> bool {
        self.candidates.may_be_in(range.start, range.end)
    }

    fn text(&self, range: Range<usize>) -> Option<&'a str> {
        std::str::from_utf8(self.payload.get(range)?).ok()
    }

    fn has_none(&self, text: &[u8], apply: Apply) -> Option<()> {
        (!self.candidates.finds(text, apply)).then_some(())
    }

    fn message(&mut self, message: Message, range: Range<usize>) -> Option<()> {
        self.fields(range, |scan, number, value, range| {
            if value.bytes().is_none() || !scan.may_be_in(&range) {
                return Some(());
            }
            match message.field(number)? {
                Field::Text(apply) => scan.has_none(scan.text(range)?.as_bytes(), apply),
                Field::Message(inner) => scan.message(inner, range),
                Field::Attribute => scan.entry(Keys::Attributes, range, 0),
                Field::Bytes => Some(()),
            }
        })
    }

    /// A `KeyValue`.
    fn entry(&mut self, keys: Keys, range: Range<usize>, depth: usize) -> Option<()> {
        let (mut key, mut value) = (None, None);
        self.fields(range, |_, number, field, range| {
            let place = match number {
                1 => &mut key,
                2 => &mut value,
                _ => return None,
            };
            (field.bytes().is_some() && place.replace(range).is_none()).then_some(())
        })?;
        let key = key.unwrap_or_default();
        let Some(value) = value else {
            return self.key(keys, key).map(|_| ());
        };
        (key.start <= value.start).then_some(())?;
        let names_entry = names_entry(self.text(key.clone())?);
        let replace = self.key(keys, key)?;
        if replace == Replace::Nothing && !self.may_be_in(&value) {
            return Some(());
        }
        self.any_value(value, replace, names_entry, depth)
    }

    /// What becomes of the value beside a key.
    fn key(&mut self, keys: Keys, range: Range<usize>) -> Option<Replace> {
        if !self.may_be_in(&range) {
            return Some(Replace::Nothing);
        }
        let end = range.end;
        let names = self.candidates.key(self.text(range)?, end)?;
        Some(keys.replace(names))
    }

    /// An `AnyValue`. All of it is replaced that `replace` says; and if it `names_entry`, what stands beside
    /// it can be a secret.
    fn any_value(
        &mut self,
        range: Range<usize>,
        replace: Replace,
        names_entry: bool,
        depth: usize,
    ) -> Option<()> {
        (depth < DEPTH_MAX).then_some(())?;
        let is_secret = replace != Replace::Nothing;
        self.fields(range, |scan, number, value, range| {
            match (number, value.bytes()) {
                (_, None) => Some(()),
                (1 | 7, Some(_)) if is_secret => None,
                (1 | 7, Some(_)) if !scan.may_be_in(&range) => Some(()),
                (1, Some(text)) => {
                    let names = names_entry && key_names(scan.text(range)?) != KeyNames::Nothing;
                    (!names).then(|| scan.has_none(text, Apply::All))?
                }
                (7, Some(bytes)) => {
                    let is_text = std::str::from_utf8(bytes).is_ok();
                    let apply = if is_text { Apply::All } else { Apply::Shapes };
                    scan.has_none(bytes, apply)
                }
                (5, Some(_)) => scan.fields(range, |scan, number, _, range| {
                    (number == 1).then_some(())?;
                    scan.any_value(range, replace, false, depth + 1)
                }),
                (6, Some(_)) if replace == Replace::Strings => None,
                (6, Some(_)) => scan.fields(range, |scan, number, _, range| {
                    (number == 1).then_some(())?;
                    scan.entry(Keys::Map, range, depth + 1)
                }),
                _ => None,
            }
        })
    }
}
