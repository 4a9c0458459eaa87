//! Columns: the values at the same place of many records.

use super::{
    bits::Bits,
    bytes::{Reader, Writer, unzigzag, varint_bytes, zigzag},
    sections::PackedSections,
};
use hashbrown::HashMap;
use std::cell::OnceCell;

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

    pub(super) fn values(&self) -> &[u64] {
        &self.values
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

    /// Chooses the encoding of the column that is probably shortest.
    pub(super) fn analyse(self) -> AnalysedStrings<'a> {
        let first = self.values.first().copied().unwrap_or_default();
        let form = if self.values.iter().all(|value| *value == first) {
            StringsEncoding::Constant([first])
        } else if self.is_hex(first.len()) {
            StringsEncoding::Hex(first.len())
        } else {
            self.dictionary().unwrap_or(StringsEncoding::Plain)
        };
        AnalysedStrings {
            values: self.values,
            form,
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

    fn dictionary(&self) -> Option<StringsEncoding<'a>> {
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
                return None;
            }
            indexes.push(place);
        }
        Some(StringsEncoding::Dictionary { entries, indexes })
    }
}

/// A column of byte strings, and how it is encoded.
#[derive(Debug)]
pub(super) struct AnalysedStrings<'a> {
    values: Vec<&'a [u8]>,
    form: StringsEncoding<'a>,
}

#[derive(Debug)]
enum StringsEncoding<'a> {
    Constant([&'a [u8]; 1]),
    Dictionary {
        entries: Vec<&'a [u8]>,
        indexes: IntColumn,
    },
    /// The number of digits of each value.
    Hex(usize),
    Plain,
}

impl<'a> AnalysedStrings<'a> {
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// The distinct values of a constant or a dictionary; `None` when not known to be distinct.
    pub(super) fn distinct(&self) -> Option<&[&'a [u8]]> {
        match &self.form {
            StringsEncoding::Constant(value) => Some(value),
            StringsEncoding::Dictionary { entries, .. } => Some(entries),
            StringsEncoding::Hex(_) | StringsEncoding::Plain => None,
        }
    }

    pub(super) fn values(&self) -> &[&'a [u8]] {
        &self.values
    }

    /// Whether all values are lowercase hex digits.
    pub(super) fn is_hex(&self) -> bool {
        matches!(self.form, StringsEncoding::Hex(_))
    }

    /// Appends the column: short and repetitive parts to `small`, long ones to `large`. The two are
    /// compressed separately, because text next to random bytes compresses badly.
    pub(super) fn finish(&self, small: &mut Vec<u8>, large: &mut Vec<u8>) {
        match &self.form {
            StringsEncoding::Constant([value]) => {
                small.push(bytes_form::CONSTANT);
                push_bytes(small, value);
            }
            StringsEncoding::Hex(digits) => {
                small.push(bytes_form::HEX);
                small.varint(*digits as u64);
                for digits in &self.values {
                    large.extend(digits.chunks_exact(2).map(hex_byte));
                }
            }
            StringsEncoding::Dictionary { entries, indexes } => {
                small.push(bytes_form::DICTIONARY);
                small.varint(entries.len() as u64);
                for entry in entries {
                    push_bytes(small, entry);
                }
                indexes.finish(large);
            }
            StringsEncoding::Plain => {
                small.push(bytes_form::PLAIN);
                let lengths: IntColumn =
                    self.values.iter().map(|value| value.len() as u64).collect();
                lengths.finish(small);
                for value in &self.values {
                    large.extend_from_slice(value);
                }
            }
        }
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
pub(super) fn hex_byte(pair: &[u8]) -> u8 {
    let value = |digit: u8| (digit & 0xf) + 9 * (digit >> 6);
    match pair {
        [high, low] => value(*high) << 4 | value(*low),
        _ => 0,
    }
}

/// One section of a body, which is inflated when it is first read.
#[derive(Clone, Copy)]
pub(super) struct Section<'a> {
    sections: &'a PackedSections<'a>,
    index: usize,
}

impl<'a> Section<'a> {
    pub(super) fn new(sections: &'a PackedSections<'a>, index: usize) -> Section<'a> {
        Section { sections, index }
    }

    fn get(self) -> Option<&'a [u8]> {
        self.sections.get(self.index)
    }
}

/// The values of a column that pass a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Matching {
    None,
    All,
    Some(Bits),
}

impl Matching {
    fn of(values: Bits) -> Matching {
        if values.is_empty() {
            Matching::None
        } else {
            Matching::Some(values)
        }
    }
}

/// How values of a column of lowercase hex digits are tested.
#[derive(Debug, Clone, Copy)]
pub(super) enum HexTest<'t> {
    /// None of them passes.
    Never,
    /// Those that are these lowercase digits pass.
    Equals(&'t str),
    /// Each is tested as a text.
    Each,
}

/// A column of integers in a body, decoded when its first value is read.
pub(super) struct Ints<'a> {
    count: usize,
    section: Section<'a>,
    values: OnceCell<Option<Vec<u64>>>,
}

impl<'a> Ints<'a> {
    /// A column of `count` values. The caller must have bounded `count`.
    pub(super) fn new(section: Section<'a>, count: usize) -> Ints<'a> {
        Ints {
            count,
            section,
            values: OnceCell::new(),
        }
    }

    /// The values that `test` accepts.
    pub(super) fn matching(&self, test: &mut dyn FnMut(u64) -> bool) -> Option<Matching> {
        let values = self.values()?;
        let mut found = Bits::new(values.len());
        let mut last = None;
        for (at, value) in values.iter().enumerate() {
            let is_match = match last {
                Some((same, is_match)) if same == *value => is_match,
                _ => test(*value),
            };
            last = Some((*value, is_match));
            if is_match {
                found.insert(at);
            }
        }
        Some(Matching::of(found))
    }

    /// All values; `None` when the column is damaged.
    #[inline]
    pub(super) fn values(&self) -> Option<&[u64]> {
        self.values
            .get_or_init(|| read_ints(&mut Reader::new(self.section.get()?), self.count))
            .as_deref()
    }
}

/// A column of strings in a body. Its larger part is inflated when its first value is read.
pub(super) struct Strings<'a> {
    count: usize,
    form: StringsForm<'a>,
    section: Section<'a>,
    bytes: OnceCell<Option<&'a [u8]>>,
    /// The indexes of a dictionary.
    indexes: OnceCell<Option<Vec<u64>>>,
}

/// The part of a column of strings that is not in its own section.
enum StringsForm<'a> {
    Constant(&'a [u8]),
    /// The distinct values.
    Dictionary(Vec<&'a [u8]>),
    /// The length of each value, in bytes; it has twice as many digits.
    Hex(usize),
    /// Where each value ends.
    Plain(Vec<usize>),
}

impl<'a> Strings<'a> {
    /// Opens a column of `count` values. The caller must have bounded `count`.
    pub(super) fn read(
        small: &mut Reader<'a>,
        section: Section<'a>,
        count: usize,
    ) -> Option<Strings<'a>> {
        let form = match small.u8()? {
            bytes_form::CONSTANT => StringsForm::Constant(read_bytes(small)?),
            bytes_form::DICTIONARY => {
                let entries = small.length().filter(|entries| *entries <= count)?;
                let entries = (0..entries).map(|_| read_bytes(small));
                StringsForm::Dictionary(entries.collect::<Option<_>>()?)
            }
            bytes_form::HEX => StringsForm::Hex(small.length()? / 2),
            bytes_form::PLAIN => {
                let mut end = 0usize;
                let ends = read_ints(small, count)?.into_iter().map(|length| {
                    end = end.checked_add(usize::try_from(length).ok()?)?;
                    Some(end)
                });
                StringsForm::Plain(ends.collect::<Option<_>>()?)
            }
            _ => return None,
        };
        Some(Strings {
            count,
            form,
            section,
            bytes: OnceCell::new(),
            indexes: OnceCell::new(),
        })
    }

    /// Value `at`. One that is not stored as text is decoded into `digits`.
    #[inline]
    pub(super) fn get<'b>(&'b self, at: usize, digits: &'b mut Vec<u8>) -> Option<&'b [u8]> {
        match &self.form {
            StringsForm::Constant(value) => (at < self.count).then_some(*value),
            StringsForm::Dictionary(entries) => {
                let index = *self.indexes()?.get(at)?;
                entries.get(usize::try_from(index).ok()?).copied()
            }
            StringsForm::Hex(length) => {
                digits.clear();
                for byte in self.hex(*length)?.nth(at)? {
                    digits.push(hex_digit(byte >> 4));
                    digits.push(hex_digit(byte & 0xf));
                }
                Some(digits)
            }
            StringsForm::Plain(ends) => {
                let start = match at.checked_sub(1) {
                    Some(previous) => *ends.get(previous)?,
                    None => 0,
                };
                self.bytes()?.get(start..*ends.get(at)?)
            }
        }
    }

    /// The values that `test` accepts. Each distinct value of a dictionary is tested once.
    pub(super) fn matching(
        &self,
        hex: HexTest<'_>,
        test: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Option<Matching> {
        let mut found = Bits::new(self.count);
        match &self.form {
            StringsForm::Constant(value) => {
                return Some(if self.count > 0 && test(value) {
                    Matching::All
                } else {
                    Matching::None
                });
            }
            StringsForm::Dictionary(entries) => {
                let mut wanted = Bits::new(entries.len());
                for (at, entry) in entries.iter().enumerate() {
                    if test(entry) {
                        wanted.insert(at);
                    }
                }
                if wanted.is_empty() {
                    return Some(Matching::None);
                }
                for (at, index) in self.indexes()?.iter().enumerate() {
                    if wanted.contains(usize::try_from(*index).ok()?) {
                        found.insert(at);
                    }
                }
            }
            StringsForm::Hex(length) => match hex {
                HexTest::Never => return Some(Matching::None),
                HexTest::Equals(digits) => {
                    let wanted: Vec<u8> = digits.as_bytes().chunks(2).map(hex_byte).collect();
                    for (at, value) in self.hex(*length)?.enumerate() {
                        if value == wanted {
                            found.insert(at);
                        }
                    }
                }
                HexTest::Each => {
                    let mut digits = Vec::new();
                    for at in 0..self.count {
                        if test(self.get(at, &mut digits)?) {
                            found.insert(at);
                        }
                    }
                }
            },
            StringsForm::Plain(ends) => {
                let bytes = self.bytes()?;
                let mut start = 0;
                for (at, end) in ends.iter().enumerate() {
                    if test(bytes.get(start..*end)?) {
                        found.insert(at);
                    }
                    start = *end;
                }
            }
        }
        Some(Matching::of(found))
    }

    fn bytes(&self) -> Option<&'a [u8]> {
        *self.bytes.get_or_init(|| self.section.get())
    }

    fn indexes(&self) -> Option<&[u64]> {
        self.indexes
            .get_or_init(|| read_ints(&mut Reader::new(self.section.get()?), self.count))
            .as_deref()
    }

    /// The values of a column of hex digits, as bytes.
    fn hex(&self, length: usize) -> Option<std::slice::ChunksExact<'a, u8>> {
        // A length of zero is never written, and would make a chunk of nothing.
        (length > 0).then_some(self.bytes()?.chunks_exact(length))
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
