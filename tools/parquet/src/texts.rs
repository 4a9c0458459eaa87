//! Texts that wait for their row group.
//!
//! They wait as what the pages will have: the distinct texts of a column as its dictionary, a number for each value, and
//! values that the dictionary has no room for as [`Encoding::PLAIN`] has them, which is their length and their bytes.

use crate::{
    chunk::{Paging, bits_of, pack, pack_run},
    column::{Content, Leaves, Levels},
};
use gridctl_telemetry::traces::encode_hex;
use hashbrown::{DefaultHashBuilder, HashTable};
use parquet::{
    basic::{Encoding, LogicalType, Repetition, Type as PhysicalType},
    bloom_filter::Sbbf,
    data_type::ByteArray,
    errors::Result,
    file::statistics::{Statistics, ValueStatistics},
    schema::types::{Type, TypePtr},
};
use std::{hash::BuildHasher, sync::Arc};

/// The size of a dictionary from which on it gets no more entries, in bytes; small in tests, so that many are full.
const DICTIONARY_BYTES: usize = if cfg!(test) { 1 << 10 } else { 1 << 20 };
/// How often a Bloom filter takes an absent value for a present one.
const FALSE_POSITIVES: f64 = 0.01;
/// The length of a bound of the values that is written as it is, in bytes.
const BOUND_BYTES_MAX: usize = 64;
/// The length of a text before it, in bytes.
const HEAD_BYTES: usize = size_of::<u32>();

/// How a column is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Kind {
    /// With a dictionary, until that is large.
    #[default]
    Repeated,
    /// Mostly distinct ids.
    Ids,
    /// Mostly distinct ids by which rows are looked for.
    Key,
}

/// Texts.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    kind: Kind,
    dictionary: Dictionary,
    /// The entries of the first values.
    entries: EntryNumbers,
    /// The values after those, and how many they are.
    plain: Vec<u8>,
    plain_count: usize,
}

impl Texts {
    pub(crate) fn of(kind: Kind) -> Texts {
        Texts {
            kind,
            ..Texts::default()
        }
    }

    /// Adds a text. Returns the number of its entry, if it has one.
    pub(crate) fn push(&mut self, text: &str) -> Option<u32> {
        self.push_bytes(text.as_bytes())
    }

    /// Does the same for a text that is not checked again.
    pub(crate) fn push_bytes(&mut self, text: &[u8]) -> Option<u32> {
        if self.has_room() {
            return Some(self.push_entry_of(text));
        }
        self.push_plain(|out| out.extend_from_slice(text));
        None
    }

    /// Adds the text that `write` appends. Returns the number of its entry, if it has one.
    pub(crate) fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Option<u32> {
        if !self.has_room() {
            self.push_plain(write);
            return None;
        }
        let mut text = std::mem::take(&mut self.plain);
        write(&mut text);
        let entry = self.push_entry_of(&text);
        text.clear();
        self.plain = text;
        Some(entry)
    }

    /// Adds an id as hex digits.
    pub(crate) fn push_hex(&mut self, id: &[u8]) {
        self.push_with(|out| encode_hex(id, out));
    }

    /// Adds an entry of the dictionary again.
    pub(crate) fn push_again(&mut self, entry: u32) {
        if self.has_room() {
            return self.entries.push(entry);
        }
        let text = self.dictionary.text(entry).unwrap_or_default().to_vec();
        self.push_plain(|out| out.extend_from_slice(&text));
    }

    fn has_room(&self) -> bool {
        self.kind == Kind::Repeated
            && self.plain_count == 0
            && self.dictionary.plain.len() < DICTIONARY_BYTES
    }

    fn push_entry_of(&mut self, text: &[u8]) -> u32 {
        let entry = self.dictionary.entry_of(text);
        self.entries.push(entry);
        entry
    }

    fn push_plain(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        append_plain(&mut self.plain, write);
        self.plain_count += 1;
    }

    /// Each value, in order.
    pub(crate) fn values(&self) -> impl Iterator<Item = Value<'_>> {
        let entries = self.entries.iter().map(Value::Entry);
        entries.chain(plain_texts(&self.plain).map(Value::Text))
    }

    pub(crate) fn text(&self, entry: u32) -> Option<&[u8]> {
        self.dictionary.text(entry)
    }

    /// Moves the last values of the dictionary after the others, if the row that they belong to also has some of those:
    /// a row is in one page, which has one encoding.
    fn align(&mut self, levels: &Levels) {
        if self.plain_count == 0 {
            return;
        }
        let Some(moved) = levels.values_of_row_before(self.entries.len()) else {
            return;
        };
        let mut plain = Vec::new();
        for entry in self.entries.take_last(moved) {
            let text = self.dictionary.text(entry).unwrap_or_default();
            append_plain(&mut plain, |out| out.extend_from_slice(text));
        }
        self.plain.splice(0..0, plain);
        self.plain_count += moved;
    }

    /// The least and the greatest value.
    fn bounds(&self) -> Option<(&[u8], &[u8])> {
        let mut texts = plain_texts(&self.dictionary.plain).chain(plain_texts(&self.plain));
        let first = texts.next()?;
        Some(texts.fold((first, first), |(least, greatest), text| {
            (least.min(text), greatest.max(text))
        }))
    }

    fn statistics(&self) -> Option<Statistics> {
        let (least, greatest) = self.bounds()?;
        let bound =
            |text: &[u8]| (text.len() <= BOUND_BYTES_MAX).then(|| ByteArray::from(text.to_vec()));
        let bounds = ValueStatistics::new(bound(least), bound(greatest), None, Some(0), false);
        Some(Statistics::ByteArray(bounds))
    }
}

/// A value of [`Texts`].
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
    /// An entry of the dictionary.
    Entry(u32),
    /// A text that is not in the dictionary.
    Text(&'a [u8]),
}

impl Content for Texts {
    fn leaf(&self, name: &str) -> Result<TypePtr> {
        let leaf = Type::primitive_type_builder(name, PhysicalType::BYTE_ARRAY)
            .with_repetition(Repetition::REQUIRED)
            .with_logical_type(Some(LogicalType::String));
        Ok(Arc::new(leaf.build()?))
    }

    fn bytes(&self) -> usize {
        self.dictionary.bytes() + self.entries.bytes() + self.plain.len()
    }

    fn write(&mut self, levels: Option<&Levels>, leaves: &mut dyn Leaves) -> Result<()> {
        let mut texts = std::mem::replace(self, Texts::of(self.kind));
        let mut paging = match levels {
            Some(levels) => {
                texts.align(levels);
                levels.paging()
            }
            None => Paging::Flat(texts.entries.len() + texts.plain_count),
        };
        // The least and the greatest of random ids, or of the values of all keys, exclude nothing.
        let statistics = match levels {
            None if texts.kind == Kind::Repeated => texts.statistics(),
            _ => None,
        };
        let mut filter = match texts.kind {
            Kind::Key => Some(Sbbf::new_with_ndv_fpp(
                texts.plain_count as u64,
                FALSE_POSITIVES,
            )?),
            _ => None,
        };
        let mut chunk = leaves.chunk()?;
        if !texts.entries.is_empty() {
            chunk.dictionary(&texts.dictionary.plain, texts.dictionary.len())?;
        }
        let bits = bits_of(texts.dictionary.last_number());
        let mut entries = texts.entries.reader();
        while entries.left() > 0 {
            let mut left = entries.left();
            let weigh = || {
                left = left.checked_sub(1)?;
                Some(0)
            };
            let Some(rows) = paging.next(weigh) else {
                break;
            };
            chunk.page(rows, Encoding::RLE_DICTIONARY, |page| {
                page.extend(bits.to_le_bytes().first());
                entries.pack(rows.values, bits, page);
            })?;
        }
        let mut plain = texts.plain.as_slice();
        loop {
            let mut ahead = plain;
            let weigh = || {
                let text = next_plain(&mut ahead)?;
                if let Some(filter) = &mut filter {
                    filter.insert(text);
                }
                Some(HEAD_BYTES + text.len())
            };
            let Some(rows) = paging.next(weigh) else {
                break;
            };
            let length = plain.len() - ahead.len();
            let (page_texts, rest) = plain.split_at_checked(length).unwrap_or_default();
            plain = rest;
            chunk.page(rows, Encoding::PLAIN, |page| {
                page.extend_from_slice(page_texts);
            })?;
        }
        if let Some(filter) = &mut filter {
            filter.fold_to_target_fpp(FALSE_POSITIVES);
        }
        let (bytes, result) = chunk.finish(statistics, filter)?;
        leaves.append(bytes, result)
    }
}

/// Appends a text with its length.
pub(crate) fn append_plain(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD_BYTES]);
    write(out);
    // No record is as long as 4 GiB.
    let length = u32::try_from(out.len() - start - HEAD_BYTES).unwrap_or_default();
    if let Some(head) = out.get_mut(start..start + HEAD_BYTES) {
        head.copy_from_slice(&length.to_le_bytes());
    }
}

/// Takes the next text.
fn next_plain<'a>(plain: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = plain.split_first_chunk()?;
    let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *plain = rest;
    Some(text)
}

pub(crate) fn plain_texts(mut plain: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || next_plain(&mut plain))
}

/// Distinct texts.
#[derive(Debug, Default)]
struct Dictionary {
    /// The texts with their lengths.
    plain: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<u32>,
    numbers: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// The number of the last text that was looked up.
    last: u32,
}

impl Dictionary {
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn bytes(&self) -> usize {
        self.plain.len() + self.ends.len() * size_of::<u32>() + self.numbers.allocation_size()
    }

    /// The highest number of a text.
    fn last_number(&self) -> u32 {
        u32::try_from(self.ends.len().saturating_sub(1)).unwrap_or(u32::MAX)
    }

    /// The text with this number.
    fn text(&self, number: u32) -> Option<&[u8]> {
        text_of(&self.plain, &self.ends, number)
    }

    /// The number of a text, which is added if it is new.
    fn entry_of(&mut self, text: &[u8]) -> u32 {
        // Most often it is that of the row before.
        if self.text(self.last) == Some(text) {
            return self.last;
        }
        let Dictionary {
            plain,
            ends,
            numbers,
            hasher,
            last,
        } = self;
        let hash = hasher.hash_one(text);
        let found = numbers.find(hash, |number| text_of(plain, ends, *number) == Some(text));
        *last = if let Some(found) = found {
            *found
        } else {
            let number = u32::try_from(ends.len()).unwrap_or(u32::MAX);
            append_plain(plain, |out| out.extend_from_slice(text));
            ends.push(u32::try_from(plain.len()).unwrap_or(u32::MAX));
            numbers.insert_unique(hash, number, |number| {
                hasher.hash_one(text_of(plain, ends, *number).unwrap_or_default())
            });
            number
        };
        *last
    }
}

fn text_of<'a>(plain: &'a [u8], ends: &[u32], number: u32) -> Option<&'a [u8]> {
    let number = number as usize;
    let start = match number {
        0 => 0,
        _ => *ends.get(number - 1)? as usize,
    };
    plain.get(start + HEAD_BYTES..*ends.get(number)? as usize)
}

/// The numbers of entries of a dictionary. Most columns have the first entry in all rows, so it is counted up to the
/// first other one.
#[derive(Debug, Default)]
struct EntryNumbers {
    zeros: usize,
    others: Vec<u32>,
}

impl EntryNumbers {
    fn push(&mut self, number: u32) {
        if number == 0 && self.others.is_empty() {
            self.zeros += 1;
        } else {
            self.others.push(number);
        }
    }

    fn len(&self) -> usize {
        self.zeros + self.others.len()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn bytes(&self) -> usize {
        self.others.len() * size_of::<u32>()
    }

    fn iter(&self) -> impl Iterator<Item = u32> {
        std::iter::repeat_n(0, self.zeros).chain(self.others.iter().copied())
    }

    /// Takes the last numbers.
    fn take_last(&mut self, count: usize) -> Vec<u32> {
        let zeros = count.saturating_sub(self.others.len());
        self.zeros -= zeros;
        let mut taken = vec![0; zeros];
        taken.append(&mut self.others.split_off(self.others.len() - (count - zeros)));
        taken
    }

    fn reader(&self) -> EntryReader<'_> {
        EntryReader {
            zeros: self.zeros,
            others: &self.others,
        }
    }
}

/// The numbers that are not in a page yet.
#[derive(Debug, Clone, Copy)]
struct EntryReader<'a> {
    zeros: usize,
    others: &'a [u32],
}

impl EntryReader<'_> {
    fn left(&self) -> usize {
        self.zeros + self.others.len()
    }

    /// Appends the next numbers.
    fn pack(&mut self, count: usize, bits: u32, out: &mut Vec<u8>) {
        let zeros = count.min(self.zeros);
        pack_run(0, zeros, bits, out);
        self.zeros -= zeros;
        let (packed, left) = self
            .others
            .split_at_checked(count - zeros)
            .unwrap_or_default();
        pack(packed, bits, out);
        self.others = left;
    }
}
