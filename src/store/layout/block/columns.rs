//! Columns: the values at the same place of many records.

use super::bytes::{Reader, Writer, unzigzag, varint_bytes, zigzag};
use hashbrown::HashMap;

/// A column of 64-bit integers. Signed integers and floats are stored as their bits.
#[derive(Debug, Default)]
pub(super) struct IntColumn {
    values: Vec<u64>,
}

/// A column of byte strings.
#[derive(Debug, Default)]
pub(super) struct BytesColumn<'a> {
    values: Vec<&'a [u8]>,
}

/// The encodings of a column of integers.
mod int_form {
    /// All values are the same: one value.
    pub(super) const CONSTANT: u8 = 0;
    /// Each value as a zigzag varint.
    pub(super) const PLAIN: u8 = 1;
    /// Each value as a zigzag varint of its difference from the previous one.
    pub(super) const DELTA: u8 = 2;
    /// Eight bytes for each value: the first bytes of all values, then their second bytes, and so
    /// on.
    pub(super) const FIXED: u8 = 3;
}

/// The encodings of a column of strings.
mod bytes_form {
    /// All strings are the same: one string.
    pub(super) const CONSTANT: u8 = 0;
    /// The distinct strings, then the index of each value among them.
    pub(super) const DICTIONARY: u8 = 1;
    /// Lowercase hex digits of one length, decoded to bytes.
    pub(super) const HEX: u8 = 2;
    /// The lengths, then the strings without separators.
    pub(super) const PLAIN: u8 = 3;
}

/// Maximum number of distinct values for which a dictionary is tried.
const DICTIONARY_MAX: usize = 1024;

impl FromIterator<u64> for IntColumn {
    fn from_iter<T: IntoIterator<Item = u64>>(values: T) -> IntColumn {
        IntColumn {
            values: values.into_iter().collect(),
        }
    }
}

impl IntColumn {
    #[inline]
    pub(super) fn push(&mut self, value: u64) {
        self.values.push(value);
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// Encodes the column in its shortest encoding.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.finish(&mut out);
        out
    }

    /// Appends the column in its shortest encoding.
    pub(super) fn finish(&self, out: &mut Vec<u8>) {
        let first = self.values.first().copied().unwrap_or(0);
        if self.values.iter().all(|value| *value == first) {
            out.push(int_form::CONSTANT);
            out.varint(first);
            return;
        }
        let mut previous = 0;
        let (mut plain, mut delta) = (0, 0);
        for value in &self.values {
            plain += varint_bytes(zigzag(*value));
            delta += varint_bytes(zigzag(value.wrapping_sub(previous)));
            previous = *value;
        }
        let fixed = self.values.len() * 8;
        if fixed <= plain.min(delta) {
            out.push(int_form::FIXED);
            for byte in 0..8 {
                out.extend(
                    self.values
                        .iter()
                        .map(|value| (value >> (byte * 8)).to_le_bytes()[0]),
                );
            }
        } else if delta < plain {
            out.push(int_form::DELTA);
            let mut previous = 0;
            for value in &self.values {
                out.varint(zigzag(value.wrapping_sub(previous)));
                previous = *value;
            }
        } else {
            out.push(int_form::PLAIN);
            for value in &self.values {
                out.varint(zigzag(*value));
            }
        }
    }
}

/// Reads `count` integers. The caller must have bounded `count`.
pub(super) fn read_ints(reader: &mut Reader<'_>, count: usize) -> Option<Vec<u64>> {
    Some(match reader.u8()? {
        int_form::CONSTANT => vec![reader.varint()?; count],
        int_form::PLAIN => (0..count)
            .map(|_| reader.varint().map(unzigzag))
            .collect::<Option<_>>()?,
        int_form::DELTA => {
            let mut value = 0u64;
            (0..count)
                .map(|_| {
                    value = value.wrapping_add(unzigzag(reader.varint()?));
                    Some(value)
                })
                .collect::<Option<_>>()?
        }
        int_form::FIXED => {
            let mut values = vec![0; count];
            for byte in 0..8 {
                for (value, part) in values.iter_mut().zip(reader.bytes(count)?) {
                    *value |= u64::from(*part) << (byte * 8);
                }
            }
            values
        }
        _ => return None,
    })
}

impl<'a> BytesColumn<'a> {
    #[inline]
    pub(super) fn push(&mut self, value: &'a [u8]) {
        self.values.push(value);
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// Appends the column in the encoding that is probably shortest: short and repetitive parts to
    /// `small`, long ones to `large`. The two are compressed separately, because text next to
    /// random bytes compresses badly.
    pub(super) fn finish(&self, small: &mut Vec<u8>, large: &mut Vec<u8>) {
        let first = self.values.first().copied().unwrap_or_default();
        if self.values.iter().all(|value| *value == first) {
            small.push(bytes_form::CONSTANT);
            push_bytes(small, first);
        } else if self.is_hex(first.len()) {
            small.push(bytes_form::HEX);
            small.varint(first.len() as u64);
            for digits in &self.values {
                large.extend(digits.chunks_exact(2).map(hex_byte));
            }
        } else if !self.finish_dictionary(small, large) {
            small.push(bytes_form::PLAIN);
            let lengths: IntColumn = self.values.iter().map(|value| value.len() as u64).collect();
            lengths.finish(small);
            for value in &self.values {
                large.extend_from_slice(value);
            }
        }
    }

    /// Whether every value consists of `length` lowercase hex digits, and `length` is large enough
    /// for the hex encoding to pay.
    fn is_hex(&self, length: usize) -> bool {
        length >= 8
            && length.is_multiple_of(2)
            && self
                .values
                .iter()
                .all(|value| value.len() == length && all_hex(value))
    }

    fn finish_dictionary(&self, small: &mut Vec<u8>, large: &mut Vec<u8>) -> bool {
        let distinct_max = DICTIONARY_MAX.min(self.values.len() / 2);
        let mut places = HashMap::with_capacity(64);
        let mut entries: Vec<&[u8]> = Vec::new();
        let mut indexes = IntColumn::default();
        for value in &self.values {
            let place = *places.entry(*value).or_insert_with(|| {
                entries.push(value);
                entries.len() as u64 - 1
            });
            if entries.len() > distinct_max {
                return false;
            }
            indexes.push(place);
        }
        small.push(bytes_form::DICTIONARY);
        small.varint(entries.len() as u64);
        for entry in entries {
            push_bytes(small, entry);
        }
        indexes.finish(large);
        true
    }
}

fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.varint(bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Whether all bytes are lowercase hex digits. Checks every byte without a branch: which digits are
/// letters is random, so branch prediction would fail.
fn all_hex(digits: &[u8]) -> bool {
    digits.iter().fold(true, |all, digit| {
        all & ((digit.wrapping_sub(b'0') < 10) | (digit.wrapping_sub(b'a') < 6))
    })
}

/// Decodes two lowercase hex digits without a branch.
fn hex_byte(pair: &[u8]) -> u8 {
    let value = |digit: u8| (digit & 0xf) + 9 * (digit >> 6);
    match pair {
        [high, low] => value(*high) << 4 | value(*low),
        _ => 0,
    }
}

/// A column of strings, read from the first value to the last.
#[derive(Debug)]
pub(super) enum BytesValues<'a> {
    Constant(&'a [u8]),
    Dictionary {
        entries: Vec<&'a [u8]>,
        indexes: std::vec::IntoIter<u64>,
    },
    Hex {
        bytes: usize,
        rest: Reader<'a>,
        digits: Vec<u8>,
    },
    Plain {
        lengths: std::vec::IntoIter<u64>,
        rest: Reader<'a>,
    },
}

impl<'a> BytesValues<'a> {
    /// Opens a column of `count` values. The caller must have bounded `count`.
    pub(super) fn read(
        small: &mut Reader<'a>,
        large: &'a [u8],
        count: usize,
    ) -> Option<BytesValues<'a>> {
        let mut rest = Reader::new(large);
        Some(match small.u8()? {
            bytes_form::CONSTANT => BytesValues::Constant(read_bytes(small)?),
            bytes_form::DICTIONARY => {
                let entries = small.length().filter(|entries| *entries <= count)?;
                BytesValues::Dictionary {
                    entries: (0..entries)
                        .map(|_| read_bytes(small))
                        .collect::<Option<_>>()?,
                    indexes: read_ints(&mut rest, count)?.into_iter(),
                }
            }
            bytes_form::HEX => BytesValues::Hex {
                bytes: small.length()? / 2,
                rest,
                digits: Vec::new(),
            },
            bytes_form::PLAIN => BytesValues::Plain {
                lengths: read_ints(small, count)?.into_iter(),
                rest,
            },
            _ => return None,
        })
    }

    /// The next value.
    #[inline]
    pub(super) fn next(&mut self) -> Option<&[u8]> {
        match self {
            BytesValues::Constant(value) => Some(value),
            BytesValues::Dictionary { entries, indexes } => {
                entries.get(usize::try_from(indexes.next()?).ok()?).copied()
            }
            BytesValues::Hex {
                bytes,
                rest,
                digits,
            } => {
                digits.clear();
                for byte in rest.bytes(*bytes)? {
                    digits.push(hex_digit(byte >> 4));
                    digits.push(hex_digit(byte & 0xf));
                }
                Some(digits)
            }
            BytesValues::Plain { lengths, rest } => {
                rest.bytes(usize::try_from(lengths.next()?).ok()?)
            }
        }
    }
}

fn read_bytes<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let length = reader.length()?;
    reader.bytes(length)
}

#[inline]
fn hex_digit(nibble: u8) -> u8 {
    if nibble < 10 {
        b'0' + nibble
    } else {
        b'a' - 10 + nibble
    }
}
