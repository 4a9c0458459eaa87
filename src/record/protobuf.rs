//! A pull reader of protobuf messages, for reading single fields of a span's payload.

use prost::encoding::{WireType, decode_key, decode_varint};

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldValue<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    /// A string, bytes or a message.
    Bytes(&'a [u8]),
}

impl<'a> FieldValue<'a> {
    pub(crate) fn bytes(self) -> Option<&'a [u8]> {
        match self {
            FieldValue::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    pub(crate) fn str(self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    pub(crate) fn int(self) -> Option<u64> {
        match self {
            FieldValue::Varint(value) | FieldValue::Fixed64(value) => Some(value),
            FieldValue::Fixed32(value) => Some(value.into()),
            FieldValue::Bytes(_) => None,
        }
    }
}

/// The fields of a message in their order. Ends at the first byte that is not a field.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
    is_damaged: bool,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Fields<'a> {
        Fields {
            rest: message,
            is_damaged: false,
        }
    }

    /// The bytes after the last field.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether the message has ended at a byte that is not a field.
    pub(crate) fn is_damaged(&self) -> bool {
        self.is_damaged
    }

    /// The last field with this number, which is the one that counts (protobuf, "Last One Wins").
    pub(crate) fn last(self, number: u32) -> Option<FieldValue<'a>> {
        self.all(number).last()
    }

    /// All fields with this number.
    pub(crate) fn all(self, number: u32) -> impl Iterator<Item = FieldValue<'a>> {
        self.filter(move |(found, _)| *found == number)
            .map(|(_, value)| value)
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(front)
    }

    fn read(&mut self) -> Option<(u32, FieldValue<'a>)> {
        let (number, wire) = decode_key(&mut self.rest).ok()?;
        let value = match wire {
            WireType::Varint => FieldValue::Varint(decode_varint(&mut self.rest).ok()?),
            WireType::SixtyFourBit => {
                FieldValue::Fixed64(u64::from_le_bytes(*self.take(8)?.first_chunk()?))
            }
            WireType::ThirtyTwoBit => {
                FieldValue::Fixed32(u32::from_le_bytes(*self.take(4)?.first_chunk()?))
            }
            WireType::LengthDelimited => {
                let length = decode_varint(&mut self.rest).ok()?;
                FieldValue::Bytes(self.take(usize::try_from(length).ok()?)?)
            }
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        Some((number, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u32, FieldValue<'a>);

    fn next(&mut self) -> Option<(u32, FieldValue<'a>)> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_none() {
            self.rest = &[];
            self.is_damaged = true;
        }
        field
    }
}
