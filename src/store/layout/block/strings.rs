//! Choosing the encoding of a column of strings, and writing it.
//!
//! ```text
//! form        after the form, in the small section                  sections
//! 0 constant  varint length, the string
//! 1 entries   varint number of entries, u8 layout, and if that is   the entries; those of the indexes
//!             not 0, varint digits of each; the indexes, packed
//! 2 hex       varint digits of each                                 the bytes
//! 3 plain     lengths, packed                                       those of the lengths; the strings
//! 4 UUIDs                                                           16 bytes for each
//! 5 templates varint number of templates; their indexes, packed;    the templates; those of the indexes;
//!             for each template, varint number of its values, and   those of the variables
//!             for each variable, its numbers, packed, or its texts
//!             as a column of strings
//!
//! layout of entries and templates  0 varint length, string   1 hex digits as bytes   2 UUIDs as bytes
//! ```

use super::{
    bytes::Writer,
    columns::{bytes_form, entries_layout, hex_byte},
    pack,
    sections::Sections,
    templates::{self, Piece, VARIABLES_MAX, Variable, is_uuid},
};
use hashbrown::HashMap;

/// Maximum number of distinct values that a summary knows. Summaries of blocks of every codec are made by
/// this rule, and one that a block has must be the same as one made again.
const DISTINCT_MAX: usize = 1024;
/// The length from which a value is not short.
const LONG_BYTES_MIN: usize = 8;
/// The number of values of which some must be alike for a dictionary to be tried further.
const FIRST: usize = 512;
/// With at most this number of entries, nothing but a dictionary is tried.
const FEW_ENTRIES: usize = 24;
/// With more entries, their indexes do not fit a byte, and the most frequent ones come first.
const SORTED_ENTRIES_MIN: usize = 256;
/// Maximum number of templates of a column.
pub(super) const TEMPLATES_MAX: usize = 255;
/// The number of hex digits from which they are stored as bytes.
const HEX_MIN: usize = 8;

/// A column of byte strings. Values are looked at when they are added, while their bytes are in the cache.
#[derive(Debug)]
pub(super) struct BytesColumn<'a> {
    values: Vec<&'a [u8]>,
    /// How all values so far can be stored as bytes.
    fixed: Option<Fixed>,
    /// The distinct values so far, unless they are too many.
    dictionary: Option<DictionaryBuilder<'a>>,
    is_examined: bool,
}

#[derive(Debug, Default)]
struct DictionaryBuilder<'a> {
    places: HashMap<&'a [u8], u64>,
    entries: Vec<&'a [u8]>,
    entry_bytes: usize,
    indexes: Vec<u64>,
}

/// A column of byte strings, and how it is encoded.
#[derive(Debug)]
pub(super) struct AnalysedStrings<'a> {
    values: Vec<&'a [u8]>,
    form: Form<'a>,
    /// Whether all values are hex digits of one length.
    is_hex: bool,
    /// The distinct values, if summaries are to know them.
    distinct: Option<Vec<&'a [u8]>>,
}

#[derive(Debug)]
enum Form<'a> {
    Constant([&'a [u8]; 1]),
    Dictionary(Dictionary<'a>),
    Templates(Templates<'a>),
    Fixed(Fixed),
    Plain,
}

/// Strings of one length that are shorter as bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fixed {
    /// The number of hex digits of each.
    Hex(usize),
    Uuids,
}

#[derive(Debug)]
struct Dictionary<'a> {
    entries: Vec<&'a [u8]>,
    indexes: Vec<u64>,
}

/// The templates of a column, and for each value its template and its variables.
#[derive(Debug, Default)]
struct Templates<'a> {
    all: Vec<Box<[u8]>>,
    indexes: Vec<u64>,
    variables: Vec<Variable<'a>>,
    /// The range of the variables of each value.
    ranges: Vec<(usize, usize)>,
    /// The values, each of those without variables once.
    distinct: Vec<&'a [u8]>,
}

impl<'a> BytesColumn<'a> {
    pub(super) fn with_capacity(capacity: usize) -> BytesColumn<'a> {
        BytesColumn {
            values: Vec::with_capacity(capacity),
            fixed: None,
            dictionary: Some(DictionaryBuilder {
                indexes: Vec::with_capacity(capacity),
                ..DictionaryBuilder::default()
            }),
            is_examined: true,
        }
    }

    /// A column of values that are not looked at.
    pub(super) fn unexamined(capacity: usize) -> BytesColumn<'a> {
        BytesColumn {
            values: Vec::with_capacity(capacity),
            fixed: None,
            dictionary: None,
            is_examined: false,
        }
    }

    /// The same column with its values looked at.
    pub(super) fn examined(&self) -> BytesColumn<'a> {
        BytesColumn::of(self.values.iter().copied())
    }

    pub(super) fn values(&self) -> &[&'a [u8]] {
        &self.values
    }

    fn of(values: impl IntoIterator<Item = &'a [u8]>) -> BytesColumn<'a> {
        let mut column = BytesColumn::with_capacity(0);
        for value in values {
            column.push(value);
        }
        column
    }

    #[inline]
    pub(super) fn push(&mut self, value: &'a [u8]) {
        if !self.is_examined {
            self.values.push(value);
            return;
        }
        self.fixed = if self.values.is_empty() {
            Fixed::of(value)
        } else {
            self.fixed.filter(|fixed| fixed.fits(value))
        };
        self.values.push(value);
        let is_hex = self.is_hex();
        if let Some(dictionary) = &mut self.dictionary
            && !dictionary.push(value, is_hex)
        {
            self.dictionary = None;
        }
    }

    fn is_hex(&self) -> bool {
        matches!(self.fixed, Some(Fixed::Hex(_)))
    }

    /// Chooses the encoding of the column that is probably shortest.
    pub(super) fn analyse(self) -> AnalysedStrings<'a> {
        self.analyse_with(true)
    }

    fn analyse_with(self, with_templates: bool) -> AnalysedStrings<'a> {
        let is_hex = self.is_hex();
        let BytesColumn {
            values,
            fixed,
            dictionary,
            is_examined,
        } = self;
        let dictionary = dictionary.map(|it| Dictionary {
            entries: it.entries,
            indexes: it.indexes,
        });
        if let Some([value]) = dictionary.as_ref().map(|it| it.entries.as_slice()) {
            return AnalysedStrings {
                form: Form::Constant([*value]),
                is_hex: false,
                distinct: Some(vec![*value]),
                values,
            };
        }
        let dictionary = dictionary.filter(|it| it.entries.len() <= values.len() / 2);
        let distinct = dictionary
            .as_ref()
            .map(|dictionary| &dictionary.entries)
            .filter(|entries| !is_hex && entries.len() <= DISTINCT_MAX)
            .cloned();
        let templates = with_templates && is_examined && fixed.is_none();
        let form = choose(&values, dictionary, fixed, templates);
        AnalysedStrings {
            values,
            form,
            is_hex,
            distinct,
        }
    }
}

impl<'a> DictionaryBuilder<'a> {
    /// Adds a value. Returns `false` when they are too many. Hex digits are mostly ids, and given up early.
    fn push(&mut self, value: &'a [u8], is_hex: bool) -> bool {
        // Many columns have the same value for long, and a comparison is faster than a hash.
        let last = self.indexes.last().copied().unwrap_or_default();
        if self.entries.get(place(last)) == Some(&value) {
            self.indexes.push(last);
            return true;
        }
        let place = *self.places.entry(value).or_insert_with(|| {
            self.entries.push(value);
            self.entry_bytes += value.len();
            self.entries.len() as u64 - 1
        });
        self.indexes.push(place);
        let entries = self.entries.len();
        let is_short = self.entry_bytes < entries * LONG_BYTES_MIN;
        let is_diverse = is_hex && self.indexes.len() == FIRST && entries > FIRST * 9 / 10
            || entries > DISTINCT_MAX && (is_short || entries > self.indexes.len() * 3 / 4);
        !is_diverse
    }
}

fn choose<'a>(
    values: &[&'a [u8]],
    dictionary: Option<Dictionary<'a>>,
    fixed: Option<Fixed>,
    with_templates: bool,
) -> Form<'a> {
    let dictionary = match dictionary {
        Some(few) if few.entries.len() <= FEW_ENTRIES => return Form::Dictionary(few),
        Some(mut many) => {
            if many.entries.len() > SORTED_ENTRIES_MIN && !many.is_local() {
                many.sort();
            }
            Some(many)
        }
        None => None,
    };
    let templates = with_templates
        .then(|| match &dictionary {
            None => Templates::of(values),
            Some(dictionary) => Templates::of(&dictionary.entries)?.repeat(&dictionary.indexes),
        })
        .flatten();
    // Text is about half as long once it is compressed. Hex digits are, too, but take longer that way.
    let text_bits = values.iter().map(|value| value.len() as u64 * 4 + 1).sum();
    let mut best = (text_bits, Form::Plain);
    let mut offer = |bits: u64, form: Form<'a>| {
        if bits < best.0 {
            best = (bits, form);
        }
    };
    if let Some(fixed) = fixed {
        offer(fixed.bits() * values.len() as u64, Form::Fixed(fixed));
    }
    if let Some(dictionary) = dictionary {
        offer(dictionary.bits(), Form::Dictionary(dictionary));
    }
    if let Some(templates) = templates {
        offer(templates.bits(), Form::Templates(templates));
    }
    best.1
}

impl Fixed {
    /// How `value` can be stored as bytes.
    fn of(value: &[u8]) -> Option<Fixed> {
        let hex = Fixed::Hex(value.len());
        let is_long = value.len() >= HEX_MIN && value.len().is_multiple_of(2);
        if is_long && hex.fits(value) {
            return Some(hex);
        }
        Some(Fixed::Uuids).filter(|uuids| uuids.fits(value))
    }

    /// How all of `values` can be stored as bytes.
    fn of_all(values: &[&[u8]]) -> Option<Fixed> {
        let fixed = Fixed::of(values.first()?)?;
        values
            .iter()
            .all(|value| fixed.fits(value))
            .then_some(fixed)
    }

    #[inline]
    fn fits(self, value: &[u8]) -> bool {
        match self {
            Fixed::Hex(digits) => value.len() == digits && all_hex(value),
            Fixed::Uuids => is_uuid(value),
        }
    }

    /// The bits of a value.
    fn bits(self) -> u64 {
        match self {
            Fixed::Hex(digits) => digits as u64 * 4,
            Fixed::Uuids => 128,
        }
    }

    fn to_bytes(self, values: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for value in values {
            match self {
                Fixed::Hex(_) => push_bytes_of_hex(value, &mut bytes),
                Fixed::Uuids => {
                    for group in value.split(|byte| *byte == b'-') {
                        push_bytes_of_hex(group, &mut bytes);
                    }
                }
            }
        }
        bytes
    }
}

impl Dictionary<'_> {
    /// Whether most indexes are close to the one before, as those of the spans of a trace are.
    fn is_local(&self) -> bool {
        let pairs = self.indexes.iter().zip(self.indexes.iter().skip(1));
        let near = pairs.filter(|(a, b)| a.abs_diff(**b) <= 16).count();
        near * 2 > self.indexes.len()
    }

    /// Puts the most frequent entries first: neighbours are then about as frequent as each other, which is
    /// what a bucket of indexes takes for granted.
    fn sort(&mut self) {
        let mut counts: Vec<(usize, usize)> = (0..self.entries.len()).map(|it| (0, it)).collect();
        for index in &self.indexes {
            if let Some((count, _)) = counts.get_mut(place(*index)) {
                *count += 1;
            }
        }
        counts.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
        let mut places = vec![0; counts.len()];
        let mut entries = Vec::with_capacity(counts.len());
        for ((_, before), after) in counts.into_iter().zip(0..) {
            if let Some(to) = places.get_mut(before) {
                *to = after;
            }
            entries.extend(self.entries.get(before));
        }
        self.entries = entries;
        for index in &mut self.indexes {
            *index = places.get(place(*index)).copied().unwrap_or_default();
        }
    }

    /// About how many bits it takes.
    fn bits(&self) -> u64 {
        let entry_bits: u64 = match Fixed::of_all(&self.entries) {
            Some(fixed) => fixed.bits() * self.entries.len() as u64,
            None => self
                .entries
                .iter()
                .map(|entry| entry.len() as u64 * 4)
                .sum(),
        };
        let index_bits = if self.is_local() {
            5
        } else {
            bit_length(self.entries.len())
        };
        entry_bits + index_bits * self.indexes.len() as u64
    }
}

impl<'a> Templates<'a> {
    /// The templates of `values`, if they are few.
    fn of(values: &[&'a [u8]]) -> Option<Templates<'a>> {
        let mut found = Templates::default();
        let mut places: HashMap<Box<[u8]>, u64> = HashMap::new();
        let mut template = Vec::new();
        for (value, number) in values.iter().zip(1..) {
            template.clear();
            let start = found.variables.len();
            templates::split(value, &mut template, &mut found.variables);
            if found.variables.len() - start > VARIABLES_MAX {
                return None;
            }
            let is_varied = found.variables.len() > start;
            let known = places.get(template.as_slice()).copied();
            if known.is_none() || is_varied {
                found.distinct.push(value);
            }
            let place = if let Some(place) = known {
                place
            } else {
                let templates = found.all.len();
                if templates == TEMPLATES_MAX || templates > 64 + number / 2 {
                    return None;
                }
                found.all.push(template.as_slice().into());
                places.insert(template.as_slice().into(), templates as u64);
                templates as u64
            };
            found.indexes.push(place);
            found.ranges.push((start, found.variables.len()));
        }
        Some(found)
    }

    /// The templates of a column with these values at these indexes.
    fn repeat(self, indexes: &[u64]) -> Option<Templates<'a>> {
        let at = |index: &u64| {
            let template = self.indexes.get(place(*index))?;
            Some((*template, *self.ranges.get(place(*index))?))
        };
        let repeated: Vec<(u64, (usize, usize))> = indexes.iter().map(at).collect::<Option<_>>()?;
        let (indexes, ranges) = repeated.into_iter().unzip();
        Some(Templates {
            indexes,
            ranges,
            ..self
        })
    }

    /// About how many bits they take.
    fn bits(&self) -> u64 {
        let template_bits: u64 = self.all.iter().map(|it| it.len() as u64 * 5 + 16).sum();
        let bits_of = |variable: &Variable<'_>| match variable {
            Variable::Number(number) => u64::from(u64::BITS - number.leading_zeros()),
            Variable::Text(text) => text.len() as u64 * 4,
        };
        let used = self
            .ranges
            .iter()
            .flat_map(|(start, end)| self.variables.get(*start..*end).unwrap_or_default());
        let variable_bits: u64 = used.map(bits_of).sum();
        let index_bits = bit_length(self.all.len()) * self.indexes.len() as u64;
        template_bits + variable_bits + index_bits
    }

    fn write(&self, order: Option<&[usize]>, small: &mut Vec<u8>, sections: &mut Sections) {
        small.push(bytes_form::TEMPLATES);
        small.varint(self.all.len() as u64);
        let mut entries = Vec::new();
        for template in &self.all {
            push_bytes(&mut entries, template);
        }
        sections.push(entries);
        let indexes = ordered(&self.indexes, order);
        pack::write(&indexes, None, small, sections);
        // The variables of each template, one after another.
        let mut uses: Vec<Vec<&[Variable<'a>]>> = vec![Vec::new(); self.all.len()];
        for (index, (start, end)) in indexes.iter().zip(ordered(&self.ranges, order).iter()) {
            if let Some(uses) = uses.get_mut(place(*index)) {
                uses.push(self.variables.get(*start..*end).unwrap_or_default());
            }
        }
        for (template, uses) in self.all.iter().zip(uses) {
            small.varint(uses.len() as u64);
            let pieces = templates::pieces(template).unwrap_or_default();
            let varying = pieces
                .iter()
                .filter(|piece| !matches!(piece, Piece::Literal(_)));
            for (piece, at) in varying.zip(0..) {
                let (mut numbers, mut texts) = (Vec::new(), Vec::new());
                for variables in &uses {
                    match variables.get(at) {
                        Some(Variable::Number(number)) => numbers.push(*number),
                        Some(Variable::Text(text)) => texts.push(*text),
                        None => {}
                    }
                }
                if *piece == Piece::Number {
                    pack::write(&numbers, None, small, sections);
                } else {
                    let texts = BytesColumn::of(texts).analyse_with(false);
                    texts.write(None, small, sections);
                }
            }
        }
    }
}

impl<'a> AnalysedStrings<'a> {
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// The distinct values for a summary, unless they are too many or hex digits.
    pub(super) fn distinct(&self) -> Option<&[&'a [u8]]> {
        self.distinct.as_deref()
    }

    pub(super) fn values(&self) -> &[&'a [u8]] {
        &self.values
    }

    /// All texts, each at least once.
    pub(super) fn texts(&self) -> &[&'a [u8]] {
        match (&self.distinct, &self.form) {
            (Some(distinct), _) => distinct,
            (None, Form::Templates(templates)) => &templates.distinct,
            _ => &self.values,
        }
    }

    /// Whether all values are lowercase hex digits of one length, and not all the same.
    pub(super) fn is_hex(&self) -> bool {
        self.is_hex
    }

    /// A number for each value, the same for the same ones.
    pub(super) fn labels(&self) -> Option<&[u64]> {
        match &self.form {
            Form::Dictionary(dictionary) => Some(&dictionary.indexes),
            _ => None,
        }
    }

    /// What is stored for each value, when it is the index of one of few.
    pub(super) fn indexes(&self) -> Option<&[u64]> {
        match &self.form {
            Form::Dictionary(dictionary) => Some(&dictionary.indexes),
            Form::Templates(templates) => Some(&templates.indexes),
            Form::Constant(_) | Form::Fixed(_) | Form::Plain => None,
        }
    }

    /// Writes the column, of indexes in `order`: short parts to `small`, and long ones to `sections`.
    pub(super) fn write(
        &self,
        order: Option<&[usize]>,
        small: &mut Vec<u8>,
        sections: &mut Sections,
    ) {
        match &self.form {
            Form::Constant([value]) => {
                small.push(bytes_form::CONSTANT);
                push_bytes(small, value);
            }
            Form::Dictionary(Dictionary { entries, indexes }) => {
                small.push(bytes_form::DICTIONARY);
                small.varint(entries.len() as u64);
                let fixed = Fixed::of_all(entries);
                match fixed {
                    None => {
                        small.push(entries_layout::STRINGS);
                        let mut bytes = Vec::new();
                        for entry in entries {
                            push_bytes(&mut bytes, entry);
                        }
                        sections.push(bytes);
                    }
                    Some(fixed) => {
                        match fixed {
                            Fixed::Hex(digits) => {
                                small.push(entries_layout::HEX);
                                small.varint(digits as u64);
                            }
                            Fixed::Uuids => small.push(entries_layout::UUIDS),
                        }
                        sections.push_plain(fixed.to_bytes(entries));
                    }
                }
                pack::write(&ordered(indexes, order), None, small, sections);
            }
            Form::Templates(templates) => templates.write(order, small, sections),
            Form::Fixed(fixed) => {
                match fixed {
                    Fixed::Hex(digits) => {
                        small.push(bytes_form::HEX);
                        small.varint(*digits as u64);
                    }
                    Fixed::Uuids => small.push(bytes_form::UUIDS),
                }
                // Ids that repeat are in a dictionary.
                sections.push_plain(fixed.to_bytes(&self.values));
            }
            Form::Plain => {
                small.push(bytes_form::PLAIN);
                let lengths: Vec<u64> =
                    self.values.iter().map(|value| value.len() as u64).collect();
                pack::write(&lengths, None, small, sections);
                sections.push(self.values.concat());
            }
        }
    }
}

/// The items in this order, or in the present one.
pub(super) fn ordered<'s, T: Clone>(
    items: &'s [T],
    order: Option<&[usize]>,
) -> std::borrow::Cow<'s, [T]> {
    match order {
        None => items.into(),
        Some(order) => order
            .iter()
            .filter_map(|at| items.get(*at).cloned())
            .collect(),
    }
}

/// An index of one of few as a place in memory.
fn place(index: u64) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}

/// The number of bits of an index below `count`.
fn bit_length(count: usize) -> u64 {
    u64::from(usize::BITS - count.leading_zeros())
}

/// Appends the bytes of lowercase hex digits.
fn push_bytes_of_hex(digits: &[u8], out: &mut Vec<u8>) {
    let (eights, rest) = digits.as_chunks::<8>();
    for eight in eights {
        out.extend_from_slice(&four_bytes(*eight));
    }
    out.extend(rest.chunks_exact(2).map(hex_byte));
}

/// The bytes of eight lowercase hex digits, all at once.
fn four_bytes(digits: [u8; 8]) -> [u8; 4] {
    let digits = u64::from_be_bytes(digits);
    let letters = digits >> 6 & 0x0101_0101_0101_0101;
    let nibbles = (digits & 0x0f0f_0f0f_0f0f_0f0f) + letters * 9;
    let pairs = (nibbles | nibbles >> 4) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs | pairs >> 8) & 0x0000_ffff_0000_ffff;
    let [.., a, b, c, d] = (fours | fours >> 16).to_be_bytes();
    [a, b, c, d]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_digits_become_their_bytes() {
        let bytes: Vec<u8> = (0..=u8::MAX).chain([7, 0xf0, 0x9a]).collect();
        for length in [0, 1, 4, 7, bytes.len()] {
            let bytes = &bytes[bytes.len() - length..];
            let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let mut found = Vec::new();
            push_bytes_of_hex(digits.concat().as_bytes(), &mut found);
            assert_eq!(found, bytes);
        }
    }
}
