//! The subset of `MessagePack` used by payloads: a pull reader, and functions that append values.

use super::{
    payload::{DEPTH_MAX, PayloadError},
    value::with_one_nan,
};
use rmp::{
    Marker,
    encode::{self, RmpWrite},
};

/// The extension type that holds the text of a [`Value::Number`](super::Value::Number).
pub(crate) const EXT_NUMBER: i8 = 1;

/// One token. Strings are borrowed from the payload.
pub(crate) type Token<'a> = TokenOf<&'a str>;

/// One token whose strings need not be UTF-8: for a reader that looks at many of them at once, because
/// each look at a short one takes longer than the rest of its token.
pub(crate) type RawToken<'a> = TokenOf<&'a [u8]>;

/// One token, with strings of type `S`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum TokenOf<S> {
    Nil,
    Bool(bool),
    Int(i64),
    /// An integer above `i64::MAX`.
    UInt(u64),
    Float(f64),
    Str(S),
    /// A number stored as text.
    Number(S),
    /// An array with this number of values, which follow.
    Array(usize),
    /// A map with this number of entries, which follow as pairs of a string and a value.
    Map(usize),
}

/// Reads a payload token by token. Every length is checked against the remaining bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, position: 0 }
    }

    /// The number of bytes read so far.
    pub(crate) fn position(&self) -> usize {
        self.position
    }

    /// Ends reading. Fails when bytes are left.
    pub(crate) fn finish(self) -> Result<(), PayloadError> {
        if self.position == self.bytes.len() {
            Ok(())
        } else {
            Err(self.unexpected("the end of the payload"))
        }
    }

    /// Reads the next token.
    pub(crate) fn token(&mut self) -> Result<Token<'a>, PayloadError> {
        self.token_of(|start, text| {
            std::str::from_utf8(text).map_err(|_| unexpected_at(start, "UTF-8"))
        })
    }

    /// Reads the next token, and leaves it open whether a string is UTF-8.
    pub(crate) fn raw_token(&mut self) -> Result<RawToken<'a>, PayloadError> {
        self.token_of(|_, text| Ok(text))
    }

    /// Reads a string, and leaves it open whether it is UTF-8.
    #[inline]
    pub(crate) fn raw_str(&mut self) -> Result<&'a [u8], PayloadError> {
        let start = self.position;
        match self.raw_token()? {
            RawToken::Str(text) => Ok(text),
            _ => Err(unexpected_at(start, "a string")),
        }
    }

    /// Reads the next token, whose string `text` makes of its bytes and the offset of the token.
    #[inline]
    fn token_of<S>(
        &mut self,
        text: impl Fn(usize, &'a [u8]) -> Result<S, PayloadError>,
    ) -> Result<TokenOf<S>, PayloadError> {
        let start = self.position;
        let marker = self.byte()?;
        // Most tokens are short strings.
        if marker & 0xe0 == 0xa0 {
            return text(start, self.slice((marker & 0x1f).into())?).map(TokenOf::Str);
        }
        let text = |bytes| text(start, bytes);
        Ok(match Marker::from_u8(marker) {
            Marker::Null => TokenOf::Nil,
            Marker::False => TokenOf::Bool(false),
            Marker::True => TokenOf::Bool(true),
            Marker::FixPos(value) => TokenOf::Int(value.into()),
            Marker::FixNeg(value) => TokenOf::Int(value.into()),
            Marker::U8 => TokenOf::Int(u8::from_be_bytes(self.array()?).into()),
            Marker::U16 => TokenOf::Int(u16::from_be_bytes(self.array()?).into()),
            Marker::U32 => TokenOf::Int(u32::from_be_bytes(self.array()?).into()),
            Marker::U64 => {
                let value = u64::from_be_bytes(self.array()?);
                i64::try_from(value).map_or(TokenOf::UInt(value), TokenOf::Int)
            }
            Marker::I8 => TokenOf::Int(i8::from_be_bytes(self.array()?).into()),
            Marker::I16 => TokenOf::Int(i16::from_be_bytes(self.array()?).into()),
            Marker::I32 => TokenOf::Int(i32::from_be_bytes(self.array()?).into()),
            Marker::I64 => TokenOf::Int(i64::from_be_bytes(self.array()?)),
            Marker::F64 => TokenOf::Float(f64::from_be_bytes(self.array()?)),
            Marker::FixStr(length) => TokenOf::Str(text(self.slice(length.into())?)?),
            Marker::Str8 => {
                let length = self.length8()?;
                TokenOf::Str(text(self.slice(length)?)?)
            }
            Marker::Str16 => {
                let length = self.length16()?;
                TokenOf::Str(text(self.slice(length)?)?)
            }
            Marker::Str32 => {
                let length = self.length32()?;
                TokenOf::Str(text(self.slice(length)?)?)
            }
            Marker::FixArray(length) => TokenOf::Array(self.items(length.into(), 1)?),
            Marker::Array16 => self
                .length16()
                .and_then(|n| self.items(n, 1))
                .map(TokenOf::Array)?,
            Marker::Array32 => self
                .length32()
                .and_then(|n| self.items(n, 1))
                .map(TokenOf::Array)?,
            Marker::FixMap(length) => TokenOf::Map(self.items(length.into(), 2)?),
            Marker::Map16 => self
                .length16()
                .and_then(|n| self.items(n, 2))
                .map(TokenOf::Map)?,
            Marker::Map32 => self
                .length32()
                .and_then(|n| self.items(n, 2))
                .map(TokenOf::Map)?,
            Marker::FixExt1 => TokenOf::Number(text(self.number(start, 1)?)?),
            Marker::FixExt2 => TokenOf::Number(text(self.number(start, 2)?)?),
            Marker::FixExt4 => TokenOf::Number(text(self.number(start, 4)?)?),
            Marker::FixExt8 => TokenOf::Number(text(self.number(start, 8)?)?),
            Marker::FixExt16 => TokenOf::Number(text(self.number(start, 16)?)?),
            Marker::Ext8 => {
                let length = self.length8()?;
                TokenOf::Number(text(self.number(start, length)?)?)
            }
            Marker::Ext16 => {
                let length = self.length16()?;
                TokenOf::Number(text(self.number(start, length)?)?)
            }
            Marker::Ext32 => {
                let length = self.length32()?;
                TokenOf::Number(text(self.number(start, length)?)?)
            }
            Marker::F32 | Marker::Bin8 | Marker::Bin16 | Marker::Bin32 | Marker::Reserved => {
                return Err(unexpected_at(start, "a type that payloads have"));
            }
        })
    }

    /// Reads an integer that fits `T`.
    pub(crate) fn int<T: TryFrom<i64>>(&mut self) -> Result<T, PayloadError> {
        let start = self.position;
        match self.token()? {
            Token::Int(value) => T::try_from(value).ok(),
            _ => None,
        }
        .ok_or_else(|| unexpected_at(start, "an integer in range"))
    }

    /// Reads a string.
    pub(crate) fn str(&mut self) -> Result<&'a str, PayloadError> {
        let start = self.position;
        match self.token()? {
            Token::Str(text) => Ok(text),
            _ => Err(unexpected_at(start, "a string")),
        }
    }

    /// Reads the head of a map and returns its number of entries.
    pub(crate) fn map(&mut self) -> Result<usize, PayloadError> {
        let start = self.position;
        match self.token()? {
            Token::Map(entries) => Ok(entries),
            _ => Err(unexpected_at(start, "a map")),
        }
    }

    /// Reads the head of an array of exactly `items` values.
    pub(crate) fn array_of(&mut self, items: usize) -> Result<(), PayloadError> {
        if self.nil_or_array_of(items)? {
            Ok(())
        } else {
            Err(self.unexpected("an array of the record's length"))
        }
    }

    /// Reads a nil and returns `false`, or reads the head of an array of exactly `items` values and
    /// returns `true`.
    pub(crate) fn nil_or_array_of(&mut self, items: usize) -> Result<bool, PayloadError> {
        let start = self.position;
        match self.token()? {
            Token::Nil => Ok(false),
            Token::Array(found) if found == items => Ok(true),
            _ => Err(unexpected_at(start, "an array of the record's length")),
        }
    }

    /// Skips one value of any depth, and returns its bytes.
    pub(crate) fn value_bytes(&mut self) -> Result<&'a [u8], PayloadError> {
        let start = self.position;
        let mut pending = 1usize;
        while pending > 0 {
            pending -= 1;
            // The sum is bounded by the bytes that are left, because each item takes at least one.
            pending = pending.saturating_add(match self.token()? {
                Token::Array(items) => items,
                Token::Map(entries) => entries.saturating_mul(2),
                _ => 0,
            });
        }
        Ok(self.bytes.get(start..self.position).unwrap_or_default())
    }

    /// The depth of the items of an array or map at `depth`, counted like [`DEPTH_MAX`]. Fails
    /// beyond that.
    pub(crate) fn deeper(&self, depth: usize) -> Result<usize, PayloadError> {
        // Without this limit, damaged bytes could overflow the stack, which aborts the process.
        if depth < DEPTH_MAX {
            Ok(depth + 1)
        } else {
            Err(self.unexpected("nesting of at most 128 levels"))
        }
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, PayloadError> {
        self.array::<1>().map(|[byte]| byte)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], PayloadError> {
        let found = self
            .bytes
            .get(self.position..)
            .and_then(<[u8]>::first_chunk);
        let found = found.ok_or_else(|| self.truncated())?;
        self.position += N;
        Ok(*found)
    }

    #[inline]
    fn slice(&mut self, length: usize) -> Result<&'a [u8], PayloadError> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let found = rest.get(..length).ok_or_else(|| self.truncated())?;
        self.position += length;
        Ok(found)
    }

    fn number(&mut self, start: usize, length: usize) -> Result<&'a [u8], PayloadError> {
        if self.byte()?.cast_signed() != EXT_NUMBER {
            return Err(unexpected_at(start, "a type that payloads have"));
        }
        self.slice(length)
    }

    /// Checks that `count` items of at least `bytes_each` fit the remaining bytes, so that a caller
    /// that allocates for `count` items allocates at most a multiple of the payload.
    fn items(&self, count: usize, bytes_each: usize) -> Result<usize, PayloadError> {
        let rest = self.bytes.len() - self.position;
        if count <= rest / bytes_each {
            Ok(count)
        } else {
            Err(self.truncated())
        }
    }

    fn length8(&mut self) -> Result<usize, PayloadError> {
        Ok(u8::from_be_bytes(self.array()?).into())
    }

    fn length16(&mut self) -> Result<usize, PayloadError> {
        Ok(u16::from_be_bytes(self.array()?).into())
    }

    fn length32(&mut self) -> Result<usize, PayloadError> {
        let length = u32::from_be_bytes(self.array()?);
        usize::try_from(length).map_err(|_| self.truncated())
    }

    fn unexpected(&self, expected: &'static str) -> PayloadError {
        unexpected_at(self.position, expected)
    }

    #[cold]
    fn truncated(&self) -> PayloadError {
        PayloadError::Truncated {
            offset: self.position,
        }
    }
}

// Writing to a vector cannot fail, so the functions below ignore the results of `rmp`. A length
// beyond 32 bits is truncated; this is harmless, because a payload of that size is always refused.

/// Appends a nil.
pub(crate) fn write_nil(out: &mut Vec<u8>) {
    _ = encode::write_nil(out);
}

/// Appends a boolean.
pub(crate) fn write_bool(value: bool, out: &mut Vec<u8>) {
    _ = encode::write_bool(out, value);
}

/// Appends an integer in its shortest form.
pub(crate) fn write_int(value: i64, out: &mut Vec<u8>) {
    _ = encode::write_sint(out, value);
}

/// Appends an integer in its shortest form.
pub(crate) fn write_uint(value: u64, out: &mut Vec<u8>) {
    _ = encode::write_uint(out, value);
}

/// Appends a float in 64 bits. Every NaN is written as the same one.
pub(crate) fn write_float(value: f64, out: &mut Vec<u8>) {
    _ = encode::write_f64(out, with_one_nan(value));
}

/// Appends a string.
pub(crate) fn write_str(text: &str, out: &mut Vec<u8>) {
    write_str_head(text.len(), out);
    out.extend_from_slice(text.as_bytes());
}

/// Appends the head of a string of `length` bytes, [`str_head_bytes`] long.
pub(crate) fn write_str_head(length: usize, out: &mut impl RmpWrite) {
    _ = encode::write_str_len(out, length_of(length));
}

/// The length of the head of a string of `length` bytes, in bytes.
pub(crate) const fn str_head_bytes(length: usize) -> usize {
    match length {
        0..32 => 1,
        32..0x100 => 2,
        0x100..0x1_0000 => 3,
        _ => 5,
    }
}

/// Appends a number stored as text.
pub(crate) fn write_number(text: &str, out: &mut Vec<u8>) {
    _ = encode::write_ext_meta(out, length_of(text.len()), EXT_NUMBER);
    out.extend_from_slice(text.as_bytes());
}

/// Appends the head of an array. Its `items` values must follow.
pub(crate) fn write_array_head(items: usize, out: &mut Vec<u8>) {
    _ = encode::write_array_len(out, length_of(items));
}

/// Appends the head of a map. Its `entries` pairs of a string and a value must follow.
pub(crate) fn write_map_head(entries: usize, out: &mut Vec<u8>) {
    _ = encode::write_map_len(out, length_of(entries));
}

fn length_of(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cold]
pub(super) fn unexpected_at(offset: usize, expected: &'static str) -> PayloadError {
    PayloadError::Unexpected { offset, expected }
}
