//! Splits the protobuf payloads of spans into parts. Each payload is a `ResourceSpans` message with
//! one span.
//!
//! This module only knows which fields are messages and which strings are keys. All other fields
//! are kept by their wire type.

use super::{
    bytes::{Reader, Writer, varint_bytes},
    shapes::{Part, ShapeEncoder},
};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Messages nested deeper than this are stored as single values.
const DEPTH_MAX: usize = 24;

/// Passes the parts of `payload` to `shapes`. `None` when it is not a protobuf message in its
/// shortest form.
pub(super) fn split<'a>(payload: &'a [u8], shapes: &mut ShapeEncoder<'a>) -> Option<()> {
    message(payload, Message::ResourceSpans, 0, 0, shapes)?;
    shapes.end_record()
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

fn message<'a>(
    bytes: &'a [u8],
    kind: Message,
    path: u64,
    depth: usize,
    shapes: &mut ShapeEncoder<'a>,
) -> Option<()> {
    let mut reader = Reader::new(bytes);
    let mut path = path;
    while !reader.is_empty() {
        let tag = shortest_varint(&mut reader)?;
        let mut literal = Vec::with_capacity(5);
        literal.varint(tag);
        let field = tag >> 3;
        let field_path = xxh3_64_with_seed(&tag.to_le_bytes(), path);
        match tag & 7 {
            0 => {
                shapes.literal(&literal);
                shapes.int(field_path, Part::Varint, shortest_varint(&mut reader)?);
            }
            1 => {
                shapes.literal(&literal);
                shapes.int(field_path, Part::Fixed64, reader.u64()?);
            }
            5 => {
                shapes.literal(&literal);
                shapes.int(field_path, Part::Fixed32, u64::from(reader.u32()?));
            }
            2 => {
                let length = usize::try_from(shortest_varint(&mut reader)?).ok()?;
                let value = reader.bytes(length)?;
                match kind.child(field) {
                    // A key selects the column of the value beside it, so it is part of the shape.
                    None if kind == Message::KeyValue && field == 1 => {
                        literal.varint(value.len() as u64);
                        literal.extend_from_slice(value);
                        shapes.literal(&literal);
                        path = xxh3_64_with_seed(value, path);
                    }
                    Some(child) if depth < DEPTH_MAX => {
                        shapes.literal(&literal);
                        shapes.open();
                        message(value, child, field_path, depth + 1, shapes)?;
                        shapes.close();
                    }
                    _ => {
                        shapes.literal(&literal);
                        shapes.bytes(field_path, Part::LengthDelimited, value);
                    }
                }
            }
            _ => return None,
        }
    }
    Some(())
}

/// Reads a varint that is in its shortest form, because decoding returns that form.
fn shortest_varint(reader: &mut Reader<'_>) -> Option<u64> {
    let before = reader.remaining();
    let value = reader.varint()?;
    (varint_bytes(value) == before - reader.remaining()).then_some(value)
}
