//! Splits the protobuf payloads of spans into parts. Each payload is a `ResourceSpans` message with
//! one span.
//!
//! This module only knows which fields are messages and which strings are keys. All other fields
//! are kept by their wire type.

use super::{
    bytes::Reader,
    lineage::SpanColumns,
    places::{Entry, Place, Places, ShapeWalk, child_path},
    shapes::{Leaf, Part, ShapeEncoder},
};
use crate::filter::IdKind;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Messages nested deeper than this are stored as single values.
const DEPTH_MAX: usize = 24;

/// Passes the parts of `payload` to `shapes`. `None` when it is not a protobuf message in its
/// shortest form.
pub(super) fn split<'a>(payload: &'a [u8], shapes: &mut ShapeEncoder<'a>) -> Option<()> {
    // Paths are needed only for the first record of a shape.
    shapes.split_record(payload, read_leaf, |shapes, with_paths| {
        let mut splitter = Splitter { shapes, with_paths };
        splitter.message(payload, Message::ResourceSpans, 0, 0)
    })
}

/// The columns of `shapes` with the ids and the start of spans.
pub(super) fn span_columns(shapes: &ShapeEncoder<'_>) -> Option<SpanColumns> {
    let ids = |field: u64| shapes.column_of(path_of_span(field << 3 | 2), Part::LengthDelimited);
    Some(SpanColumns {
        trace: ids(1)?,
        span: ids(2)?,
        parent: ids(PARENT),
        start: shapes.column_of(path_of_span(7 << 3 | 1), Part::Fixed64)?,
    })
}

/// The number of the field with the id of the parent.
const PARENT: u64 = 4;

/// The path of the ids of the parents of spans.
pub(super) fn path_of_parents() -> u64 {
    path_of_span(PARENT << 3 | 2)
}

/// The path of the field of a span with this tag.
fn path_of_span(tag: u64) -> u64 {
    let path = [2 << 3 | 2, 2 << 3 | 2, tag].into_iter();
    path.fold(0, |path, tag: u64| {
        xxh3_64_with_seed(&tag.to_le_bytes(), path)
    })
}

/// The messages of `opentelemetry/proto/trace/v1/trace.proto`, with their nested messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    ResourceSpans,
    Resource,
    ScopeSpans,
    Scope,
    Span,
    Event,
    Link,
    Status,
    KeyValue,
    AnyValue,
    KeyValueList,
}

impl Message {
    /// The message type of `field`, if it is a message.
    fn child(self, field: u64) -> Option<Message> {
        Some(match (self, field) {
            (Message::ResourceSpans, 1) => Message::Resource,
            (Message::ResourceSpans, 2) => Message::ScopeSpans,
            (Message::ScopeSpans, 1) => Message::Scope,
            (Message::ScopeSpans, 2) => Message::Span,
            (Message::Span, 11) => Message::Event,
            (Message::Span, 13) => Message::Link,
            (Message::Span, 15) => Message::Status,
            (Message::Resource | Message::KeyValueList, 1)
            | (Message::Scope | Message::Event, 3)
            | (Message::Span, 9)
            | (Message::Link, 4) => Message::KeyValue,
            (Message::KeyValue, 2) => Message::AnyValue,
            (Message::AnyValue, 6) => Message::KeyValueList,
            _ => return None,
        })
    }
}

/// Reads the value that `bytes` begin with if it is of this part.
fn read_leaf(part: Part, bytes: &[u8]) -> Option<(Leaf<'_>, &[u8])> {
    let mut reader = Reader::new(bytes);
    let leaf = match part {
        Part::Varint => Leaf::Int(reader.shortest_varint()?),
        Part::Fixed64 => Leaf::Int(reader.u64()?),
        Part::Fixed32 => Leaf::Int(u64::from(reader.u32()?)),
        Part::LengthDelimited => {
            let length = usize::try_from(reader.shortest_varint()?).ok()?;
            Leaf::Bytes(reader.bytes(length)?)
        }
        _ => return None,
    };
    Some((leaf, reader.rest()))
}

struct Splitter<'a, 's> {
    shapes: &'s mut ShapeEncoder<'a>,
    /// If `false`, every path is 0.
    with_paths: bool,
}

impl<'a> Splitter<'a, '_> {
    fn message(&mut self, bytes: &'a [u8], kind: Message, path: u64, depth: usize) -> Option<()> {
        let mut reader = Reader::new(bytes);
        let mut path = path;
        while !reader.is_empty() {
            let tag = reader.shortest_varint()?;
            let field = tag >> 3;
            let field_path = self.child(path, &tag.to_le_bytes());
            self.shapes.literal_varint(tag);
            match tag & 7 {
                0 => {
                    let value = reader.shortest_varint()?;
                    self.shapes.int(field_path, Part::Varint, value);
                }
                1 => self.shapes.int(field_path, Part::Fixed64, reader.u64()?),
                5 => {
                    let value = u64::from(reader.u32()?);
                    self.shapes.int(field_path, Part::Fixed32, value);
                }
                2 => {
                    let length = usize::try_from(reader.shortest_varint()?).ok()?;
                    let value = reader.bytes(length)?;
                    match kind.child(field) {
                        // A key selects the column of the value beside it, so it is part of the shape.
                        None if kind == Message::KeyValue && field == 1 => {
                            self.shapes.literal_varint(value.len() as u64);
                            self.shapes.literal(value);
                            path = self.child(path, value);
                        }
                        Some(child) if depth < DEPTH_MAX => {
                            self.shapes.open();
                            self.message(value, child, field_path, depth + 1)?;
                            self.shapes.close();
                        }
                        _ => self.shapes.bytes(field_path, Part::LengthDelimited, value),
                    }
                }
                _ => return None,
            }
        }
        Some(())
    }

    /// The path of a part of the message with `path`.
    #[inline]
    fn child(&self, path: u64, part: &[u8]) -> u64 {
        if self.with_paths {
            xxh3_64_with_seed(part, path)
        } else {
            0
        }
    }
}

/// The places of the values in a shape of spans; `None` when its records are nested in a way that
/// this walk does not know, or repeat a field of which only the last one counts.
pub(super) fn places(
    literals: &[u8],
    parts: &mut dyn Iterator<Item = (Part, usize)>,
) -> Option<Places> {
    let mut walk = ShapeWalk::new(literals, parts);
    fields(&mut walk, Message::ResourceSpans, &Within::Record)?;
    walk.finish()
}

/// What a message is a part of, as far as its places depend on it.
enum Within {
    /// Something whose attributes are entries of the record.
    Record,
    /// A link, whose attributes are not.
    Link,
    /// The entry with this path.
    Entry(String),
}

impl Message {
    /// Whether a message has this field any number of times, or it is one that no condition is about.
    fn may_repeat(self, field: u64) -> bool {
        let is_list = matches!(
            (self, field),
            (Message::Span, 9 | 11 | 13)
                | (Message::Resource | Message::KeyValueList, 1)
                | (Message::Scope | Message::Event, 3)
                | (Message::Link, 4)
        );
        let is_known = self.child(field).is_some()
            || matches!(
                (self, field),
                (Message::Span, 1 | 2 | 4..=8)
                    | (Message::Event | Message::Status, 2)
                    | (Message::Status, 3)
                    | (Message::KeyValue, 1)
                    | (Message::AnyValue, _)
            );
        is_list || !is_known
    }

    /// The place of a field that is not a message.
    fn place(self, field: u64) -> Place {
        match (self, field) {
            (Message::Span, 1) => Place::Id(IdKind::Trace),
            (Message::Span, 2) => Place::Id(IdKind::Span),
            (Message::Span, 4) => Place::Id(IdKind::Parent),
            (Message::Span, 5) => Place::Text { is_name: true },
            (Message::Span, 6) => Place::Kind,
            (Message::Span, 7) => Place::Start,
            (Message::Span, 8) => Place::End,
            (Message::Event | Message::Status, 2) => Place::Text { is_name: false },
            (Message::Status, 3) => Place::Status,
            _ => Place::Other,
        }
    }
}

/// Walks the fields of a message.
fn fields(walk: &mut ShapeWalk<'_>, kind: Message, within: &Within) -> Option<()> {
    let mut seen = 0u64;
    let mut key = None;
    let mut has_value = false;
    loop {
        match walk.due() {
            None if walk.rest().is_empty() => break,
            None => {}
            Some(Part::Close) => break,
            // Each part is preceded by its tag.
            Some(_) => return None,
        }
        let mut reader = Reader::new(walk.rest());
        let tag = reader.varint()?;
        let field = tag >> 3;
        if !kind.may_repeat(field) {
            // All fields of an `AnyValue` exclude each other.
            let bit = if kind == Message::AnyValue { 0 } else { field };
            let bit = 1u64.checked_shl(u32::try_from(bit).ok()?)?;
            if seen & bit != 0 {
                return None;
            }
            seen |= bit;
        }
        if kind == Message::KeyValue && field == 1 {
            let length = reader.length()?;
            let text = std::str::from_utf8(reader.bytes(length)?).ok()?;
            walk.advance_to(reader.rest());
            // The path of a value is known only if its key comes first.
            if has_value {
                return None;
            }
            key = Some(text);
            continue;
        }
        walk.advance_to(reader.rest());
        let child = kind.child(field).filter(|_| tag & 7 == 2);
        let Some(child) = child else {
            // A message that is nested too deep, or is none.
            if kind.child(field).is_some() {
                return None;
            }
            walk.leaf(match (kind, within) {
                (Message::AnyValue, Within::Entry(path)) => Place::Entry(Entry {
                    path: path.clone(),
                    is_top: false,
                    tag: Some(tag),
                }),
                _ => kind.place(field),
            })?;
            continue;
        };
        walk.pass(Part::Open)?;
        if kind == Message::KeyValue {
            has_value = true;
            match entry_path(within, key) {
                Some(path) => fields(walk, child, &Within::Entry(path))?,
                None => fields(walk, child, &Within::Link)?,
            }
        } else {
            match within {
                _ if child == Message::Link => fields(walk, child, &Within::Link)?,
                Within::Entry(path) if child == Message::KeyValueList => {
                    walk.object(path)?;
                    fields(walk, child, within)?;
                }
                _ => fields(walk, child, within)?,
            }
        }
        walk.pass(Part::Close)?;
    }
    match (kind, within) {
        (Message::KeyValue, _) if !has_value => {
            if let Some(path) = entry_path(within, key) {
                walk.null(path)?;
            }
        }
        (Message::AnyValue, Within::Entry(path)) if seen == 0 => {
            walk.null(path.clone())?;
        }
        _ => {}
    }
    Some(())
}

/// The path of the value under `key`; `None` in a link.
fn entry_path(within: &Within, key: Option<&str>) -> Option<String> {
    let key = key.unwrap_or_default();
    match within {
        Within::Record => Some(child_path(None, key)),
        Within::Link => None,
        Within::Entry(path) => Some(child_path(Some(path), key)),
    }
}
