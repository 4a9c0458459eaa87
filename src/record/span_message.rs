//! Writes spans as protobuf messages in one pass.
//!
//! prost computes the length of a message before it writes it, and again the lengths of all messages in it:
//! those of a value in an attribute four times. Here a byte for the length precedes a nested message, which is
//! moved once it turns out to need more. The checks of depth and the one NaN come in the same pass. That took
//! a third of the instructions. Fields are in the order of their numbers, as prost writes them.

use super::{
    SpanRecord,
    payload::{PayloadError, SPAN_DEPTH_MAX, too_deep},
    value::with_one_nan,
};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, EntityRef, InstrumentationScope, KeyValue, any_value},
    resource::v1::Resource,
    trace::v1::{
        Span, Status,
        span::{Event, Link},
    },
};
use prost::encoding::{WireType, encode_varint};
use std::convert::Infallible;

/// Appends `ResourceSpans` with one span to `out`. Fails with [`PayloadError::TooDeep`].
pub(super) fn write(record: &SpanRecord, out: &mut Vec<u8>) -> Result<(), PayloadError> {
    let mut writer = MessageWriter { out };
    if let Some(resource) = &record.resource {
        writer.message(1, |writer| writer.resource(resource))?;
    }
    writer.message(2, |writer| {
        if let Some(scope) = &record.scope {
            writer.message(1, |writer| writer.scope(scope))?;
        }
        writer.message(2, |writer| writer.span(&record.span))?;
        writer.text(3, &record.scope_schema_url);
        Ok::<_, PayloadError>(())
    })?;
    writer.text(3, &record.resource_schema_url);
    Ok(())
}

/// A value is nested deeper than [`SPAN_DEPTH_MAX`].
struct TooDeep;

struct MessageWriter<'o> {
    out: &'o mut Vec<u8>,
}

/// Levels count nested messages: `ResourceSpans` is at 0. A field with its default value is omitted, except in
/// a list and in a choice.
impl MessageWriter<'_> {
    fn resource(&mut self, resource: &Resource) -> Result<(), PayloadError> {
        self.attributes(1, &resource.attributes, 2)?;
        self.uint(2, resource.dropped_attributes_count);
        for entity in &resource.entity_refs {
            self.flat_message(3, |writer| writer.entity(entity));
        }
        Ok(())
    }

    fn entity(&mut self, entity: &EntityRef) {
        self.text(1, &entity.schema_url);
        self.text(2, &entity.r#type);
        for (field, keys) in [(3, &entity.id_keys), (4, &entity.description_keys)] {
            for key in keys {
                self.put_bytes(field, key.as_bytes());
            }
        }
    }

    fn scope(&mut self, scope: &InstrumentationScope) -> Result<(), PayloadError> {
        self.text(1, &scope.name);
        self.text(2, &scope.version);
        self.attributes(3, &scope.attributes, 3)?;
        self.uint(4, scope.dropped_attributes_count);
        Ok(())
    }

    fn span(&mut self, span: &Span) -> Result<(), PayloadError> {
        self.bytes(1, &span.trace_id);
        self.bytes(2, &span.span_id);
        self.text(3, &span.trace_state);
        self.bytes(4, &span.parent_span_id);
        self.text(5, &span.name);
        self.int(6, span.kind);
        self.fixed64(7, span.start_time_unix_nano);
        self.fixed64(8, span.end_time_unix_nano);
        self.attributes(9, &span.attributes, 3)?;
        self.uint(10, span.dropped_attributes_count);
        for event in &span.events {
            self.message(11, |writer| writer.event(event))?;
        }
        self.uint(12, span.dropped_events_count);
        for link in &span.links {
            self.message(13, |writer| writer.link(link))?;
        }
        self.uint(14, span.dropped_links_count);
        if let Some(status) = &span.status {
            self.flat_message(15, |writer| writer.status(status));
        }
        self.fixed32(16, span.flags);
        Ok(())
    }

    fn event(&mut self, event: &Event) -> Result<(), PayloadError> {
        self.fixed64(1, event.time_unix_nano);
        self.text(2, &event.name);
        self.attributes(3, &event.attributes, 4)?;
        self.uint(4, event.dropped_attributes_count);
        Ok(())
    }

    fn link(&mut self, link: &Link) -> Result<(), PayloadError> {
        self.bytes(1, &link.trace_id);
        self.bytes(2, &link.span_id);
        self.text(3, &link.trace_state);
        self.attributes(4, &link.attributes, 4)?;
        self.uint(5, link.dropped_attributes_count);
        self.fixed32(6, link.flags);
        Ok(())
    }

    fn status(&mut self, status: &Status) {
        self.text(2, &status.message);
        self.int(3, status.code);
    }

    fn attributes(
        &mut self,
        field: u32,
        attributes: &[KeyValue],
        level: usize,
    ) -> Result<(), PayloadError> {
        attributes.iter().try_for_each(|entry| {
            self.message(field, |writer| writer.entry(entry, level))
                .map_err(|TooDeep| too_deep(&entry.key))
        })
    }

    fn entry(&mut self, entry: &KeyValue, level: usize) -> Result<(), TooDeep> {
        check_level(level)?;
        self.text(1, &entry.key);
        if let Some(value) = &entry.value {
            self.message(2, |writer| writer.value(value, level + 1))?;
        }
        self.int(3, entry.key_strindex);
        Ok(())
    }

    fn value(&mut self, value: &AnyValue, level: usize) -> Result<(), TooDeep> {
        check_level(level)?;
        match &value.value {
            None => {}
            Some(any_value::Value::StringValue(text)) => self.put_bytes(1, text.as_bytes()),
            Some(any_value::Value::BoolValue(value)) => self.put_varint(2, u64::from(*value)),
            Some(any_value::Value::IntValue(value)) => self.put_varint(3, value.cast_unsigned()),
            Some(any_value::Value::DoubleValue(value)) => {
                self.put_fixed64(4, with_one_nan(*value).to_bits());
            }
            Some(any_value::Value::ArrayValue(array)) => self.message(5, |writer| {
                check_level(level + 1)?;
                (array.values.iter())
                    .try_for_each(|item| writer.message(1, |writer| writer.value(item, level + 2)))
            })?,
            Some(any_value::Value::KvlistValue(list)) => self.message(6, |writer| {
                check_level(level + 1)?;
                (list.values.iter()).try_for_each(|entry| {
                    writer.message(1, |writer| writer.entry(entry, level + 2))
                })
            })?,
            Some(any_value::Value::BytesValue(bytes)) => self.put_bytes(7, bytes),
            Some(any_value::Value::StringValueStrindex(index)) => {
                self.put_varint(8, i64::from(*index).cast_unsigned());
            }
        }
        Ok(())
    }

    /// Writes a nested message.
    #[inline]
    fn message<E>(
        &mut self,
        field: u32,
        write: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        self.key(field, WireType::LengthDelimited);
        let start = self.out.len();
        self.out.push(0);
        write(self)?;
        let length = self.out.len() - start - 1;
        match (u8::try_from(length), self.out.get_mut(start)) {
            (Ok(length @ ..0x80), Some(place)) => *place = length,
            _ => self.lengthen(start, length),
        }
        Ok(())
    }

    /// Writes a nested message without values, which cannot be nested too deep.
    fn flat_message(&mut self, field: u32, write: impl FnOnce(&mut Self)) {
        let Ok(()) = self.message(field, |writer| {
            write(writer);
            Ok::<_, Infallible>(())
        });
    }

    /// Replaces the byte at `start` by a length that takes more.
    fn lengthen(&mut self, start: usize, length: usize) {
        let mut head = Vec::with_capacity(10);
        encode_varint(length as u64, &mut head);
        self.out.splice(start..=start, head);
    }

    fn text(&mut self, field: u32, text: &str) {
        self.bytes(field, text.as_bytes());
    }

    fn bytes(&mut self, field: u32, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.put_bytes(field, bytes);
        }
    }

    fn uint(&mut self, field: u32, value: u32) {
        if value != 0 {
            self.put_varint(field, value.into());
        }
    }

    fn int(&mut self, field: u32, value: i32) {
        if value != 0 {
            self.put_varint(field, i64::from(value).cast_unsigned());
        }
    }

    fn fixed32(&mut self, field: u32, value: u32) {
        if value != 0 {
            self.key(field, WireType::ThirtyTwoBit);
            self.out.extend_from_slice(&value.to_le_bytes());
        }
    }

    fn fixed64(&mut self, field: u32, value: u64) {
        if value != 0 {
            self.put_fixed64(field, value);
        }
    }

    #[inline]
    fn put_bytes(&mut self, field: u32, bytes: &[u8]) {
        self.key(field, WireType::LengthDelimited);
        self.varint(bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }

    fn put_varint(&mut self, field: u32, value: u64) {
        self.key(field, WireType::Varint);
        self.varint(value);
    }

    fn put_fixed64(&mut self, field: u32, value: u64) {
        self.key(field, WireType::SixtyFourBit);
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    #[inline]
    fn key(&mut self, field: u32, wire: WireType) {
        self.varint(u64::from(field << 3 | wire as u32));
    }

    /// Most take one byte.
    #[inline]
    fn varint(&mut self, value: u64) {
        match u8::try_from(value) {
            Ok(short @ ..0x80) => self.out.push(short),
            _ => encode_varint(value, self.out),
        }
    }
}

#[inline]
fn check_level(level: usize) -> Result<(), TooDeep> {
    if level <= SPAN_DEPTH_MAX {
        Ok(())
    } else {
        Err(TooDeep)
    }
}
