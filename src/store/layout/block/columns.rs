//! Columns: the values at the same place of many records.

use super::{
    bits::Bits,
    bytes::{Reader, Writer, unzigzag, varint_bytes, zigzag},
    lineage::{Ids, Lineage, SpanId},
    pack::PackedInts,
    sections::PackedSections,
    strings::TEMPLATES_MAX,
    templates::{self, PIECES_MAX, Piece},
};
use std::{
    cell::{Cell, OnceCell},
    ops::Range,
    rc::Rc,
};

/// A column of 64-bit integers. Signed integers and floats are stored as their bits.
#[derive(Debug, Default)]
pub(super) struct IntColumn {
    values: Vec<u64>,
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

/// The encodings of a column of strings, see [`strings`](super::strings). [`Codec::Columns`] has the first
/// four, with its own encoding of integers, and the entries of dictionaries in the small section.
///
/// [`Codec::Columns`]: super::Codec::Columns
pub(super) mod bytes_form {
    /// All strings are the same: one string.
    pub(in super::super) const CONSTANT: u8 = 0;
    /// The distinct strings, then the index of each value among them.
    pub(in super::super) const DICTIONARY: u8 = 1;
    /// Lowercase hex digits of one length, decoded to bytes.
    pub(in super::super) const HEX: u8 = 2;
    /// The lengths, then the strings without separators.
    pub(in super::super) const PLAIN: u8 = 3;
    /// Lowercase UUIDs, decoded to bytes.
    pub(in super::super) const UUIDS: u8 = 4;
    /// The distinct templates, then the index of each value among them, then their variables.
    pub(in super::super) const TEMPLATES: u8 = 5;
}

/// The layouts of the entries of a dictionary.
pub(super) mod entries_layout {
    pub(in super::super) const STRINGS: u8 = 0;
    pub(in super::super) const HEX: u8 = 1;
    pub(in super::super) const UUIDS: u8 = 2;
}

impl FromIterator<u64> for IntColumn {
    fn from_iter<T: IntoIterator<Item = u64>>(values: T) -> IntColumn {
        IntColumn {
            values: values.into_iter().collect(),
        }
    }
}

impl From<Vec<u64>> for IntColumn {
    fn from(values: Vec<u64>) -> IntColumn {
        IntColumn { values }
    }
}

impl IntColumn {
    pub(super) fn with_capacity(capacity: usize) -> IntColumn {
        IntColumn {
            values: Vec::with_capacity(capacity),
        }
    }

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

    /// Encodes the column in its shortest encoding of [`Codec::Verbatim`](super::Codec::Verbatim).
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.finish(&mut out);
        out
    }

    fn finish(&self, out: &mut Vec<u8>) {
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
    /// The sections of a body from `first`.
    pub(super) fn all_from(
        sections: &'a PackedSections<'a>,
        first: usize,
    ) -> impl Iterator<Item = Section<'a>> {
        (first..sections.len()).map(|index| Section { sections, index })
    }

    pub(super) fn get(self) -> Option<&'a [u8]> {
        self.sections.get(self.index)
    }

    /// The length of the content.
    pub(super) fn length(self) -> Option<usize> {
        self.sections.length(self.index)
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HexTest<'t> {
    /// None of them passes.
    Never,
    /// Those that are these lowercase digits pass.
    Equals(&'t str),
    /// Each is tested as a text.
    Each,
}

/// Values of a column.
#[derive(Debug, Clone, Copy)]
pub(super) enum Decoded<'s> {
    /// All values, from one of them on.
    From { start: usize, values: &'s [u64] },
    /// All values, less `base`.
    Bytes { base: u64, values: &'s [u8] },
}

impl Default for Decoded<'_> {
    fn default() -> Self {
        Decoded::all(&[])
    }
}

impl<'s> Decoded<'s> {
    /// All values of a column.
    pub(super) fn all(values: &'s [u64]) -> Decoded<'s> {
        Decoded::From { start: 0, values }
    }

    /// Value `at` of the column.
    #[inline]
    pub(super) fn get(self, at: usize) -> Option<u64> {
        match self {
            Decoded::From { start, values } => values.get(at.wrapping_sub(start)).copied(),
            Decoded::Bytes { base, values } => {
                let value = values.get(at)?;
                Some(base.wrapping_add(u64::from(*value)))
            }
        }
    }

    /// The values in `range` of the column.
    pub(super) fn part(self, range: Range<usize>) -> Option<impl Iterator<Item = u64> + use<'s>> {
        let (base, bytes, values): (u64, &[u8], &[u64]) = match self {
            Decoded::From { start, values } => {
                let start = range.start.checked_sub(start)?;
                let values = values.get(start..start.checked_add(range.len())?)?;
                (0, &[], values)
            }
            Decoded::Bytes { base, values } => (base, values.get(range)?, &[]),
        };
        let bytes = bytes
            .iter()
            .map(move |it| base.wrapping_add(u64::from(*it)));
        Some(bytes.chain(values.iter().copied()))
    }
}

/// A column of integers in a body, decoded when its first value is read.
pub(super) struct Ints<'a> {
    count: usize,
    source: IntsSource<'a>,
    /// The timestamps of the records, if each has one value.
    timestamps: Decoded<'a>,
    /// The last value, if it is known without the others.
    last: Option<u64>,
    /// The values that will be read.
    wanted: Cell<(usize, usize)>,
    /// The index of the first decoded value, and all decoded ones.
    decoded: OnceCell<Option<(usize, Vec<u64>)>>,
}

enum IntsSource<'a> {
    /// Of [`Codec::Columns`](super::Codec::Columns).
    Section(Section<'a>),
    Packed(PackedInts<'a>),
    /// They are decoded already.
    Known,
    /// They are the starts of spans.
    Lineage(Rc<Lineage<'a>>),
}

impl<'a> Ints<'a> {
    /// A column of `count` values of [`Codec::Columns`](super::Codec::Columns). The caller must have
    /// bounded `count`, here and below.
    pub(super) fn new(section: Section<'a>, count: usize) -> Ints<'a> {
        Ints::of(IntsSource::Section(section), count, Decoded::default())
    }

    /// A packed column of `count` values. `timestamps` are those of the records, if each has one of them.
    pub(super) fn read_packed(
        small: &mut Reader<'a>,
        sections: &mut impl Iterator<Item = Section<'a>>,
        count: usize,
        timestamps: Decoded<'a>,
    ) -> Option<Ints<'a>> {
        let packed = PackedInts::read(small, sections, count)?;
        Some(Ints::of(IntsSource::Packed(packed), count, timestamps))
    }

    /// A column of these values.
    pub(super) fn known(values: Vec<u64>) -> Ints<'a> {
        let count = values.len();
        Ints {
            decoded: OnceCell::from(Some((0, values))),
            ..Ints::of(IntsSource::Known, count, Decoded::default())
        }
    }

    /// The column of the starts of spans.
    pub(super) fn with_lineage(lineage: Rc<Lineage<'a>>, count: usize) -> Ints<'a> {
        Ints::of(IntsSource::Lineage(lineage), count, Decoded::default())
    }

    fn of(source: IntsSource<'a>, count: usize, timestamps: Decoded<'a>) -> Ints<'a> {
        Ints {
            count,
            source,
            timestamps,
            last: None,
            wanted: Cell::new((0, count)),
            decoded: OnceCell::new(),
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

    /// Says that no values but those in `range` will be read, so that no others are decoded unless they
    /// were already.
    pub(super) fn want(&self, range: Range<usize>) {
        self.wanted.set((range.start, range.end));
    }

    /// The same column, of which the last value is known to be `last`: values near to it can then be decoded
    /// without those before them.
    pub(super) fn ending_with(self, last: u64) -> Ints<'a> {
        Ints {
            last: Some(last),
            ..self
        }
    }

    /// All values; `None` when the column is damaged, or fewer are wanted.
    #[inline]
    pub(super) fn values(&self) -> Option<&[u64]> {
        match self.decoded()? {
            Decoded::From { start: 0, values } if values.len() == self.count => Some(values),
            _ => self.widened().and_then(|(start, values)| {
                (*start == 0 && values.len() == self.count).then_some(values.as_slice())
            }),
        }
    }

    /// All values, of which the caller needs no others.
    pub(super) fn into_values(self) -> Option<Vec<u64>> {
        self.values()?;
        self.decoded
            .into_inner()
            .flatten()
            .map(|(_, values)| values)
    }

    /// Value `at`.
    #[inline]
    pub(super) fn get(&self, at: usize) -> Option<u64> {
        self.decoded()?.get(at)
    }

    /// The values that are wanted, and perhaps some around them.
    #[inline]
    pub(super) fn decoded(&self) -> Option<Decoded<'_>> {
        if let IntsSource::Packed(packed) = &self.source
            && let Some((base, values)) = packed.bytes_above_base()
        {
            return Some(Decoded::Bytes { base, values });
        }
        if let IntsSource::Lineage(lineage) = &self.source {
            return Some(Decoded::all(lineage.starts()?));
        }
        let (start, values) = self.widened()?;
        Some(Decoded::From {
            start: *start,
            values,
        })
    }

    fn widened(&self) -> Option<&(usize, Vec<u64>)> {
        self.decoded.get_or_init(|| self.decode()).as_ref()
    }

    fn decode(&self) -> Option<(usize, Vec<u64>)> {
        match &self.source {
            IntsSource::Section(section) => {
                Some((0, read_ints(&mut Reader::new(section.get()?), self.count)?))
            }
            IntsSource::Packed(packed) => {
                let (start, end) = self.wanted.get();
                packed.decode(start..end, self.last, |at| self.timestamps.get(at))
            }
            IntsSource::Lineage(lineage) => Some((0, lineage.starts()?.to_vec())),
            IntsSource::Known => None,
        }
    }
}

/// A column of strings in a body. Its larger part is inflated when its first value is read.
pub(super) struct Strings<'a> {
    count: usize,
    form: StringsForm<'a>,
}

/// Maximum number of entries of a dictionary that are prepared to be copied.
const ENTRIES_PREPARED_MAX: usize = 1024;

/// How the values of a column of strings become text.
pub(super) enum TextSource<'a, 's> {
    /// They are of one length, and stored as bytes.
    Fixed(FixedStrings<'s>),
    Template(&'s TemplateColumns<'a>),
    Ids(Ids<'s>),
    /// See [`Strings::get`].
    Other,
}

/// The encoding of a column of strings.
enum StringsForm<'a> {
    Constant(&'a [u8]),
    Dictionary {
        entries: LazyEntries<'a>,
        indexes: Ints<'a>,
    },
    /// Hex digits or UUIDs as bytes.
    Fixed {
        layout: Fixed,
        bytes: Section<'a>,
    },
    Plain {
        /// `None` when the ends are known already.
        lengths: Option<Ints<'a>>,
        /// Where each value ends.
        ends: OnceCell<Option<Vec<usize>>>,
        bytes: Section<'a>,
    },
    Templates(Box<TemplateColumns<'a>>),
    /// They are ids of spans.
    Lineage(Rc<Lineage<'a>>, SpanId),
}

/// Strings of one length, stored as bytes.
#[derive(Debug, Clone, Copy)]
enum Fixed {
    /// The number of bytes of each value.
    Hex(usize),
    Uuids,
}

impl Fixed {
    /// The number of bytes of each value, at least 1.
    fn bytes(self) -> usize {
        match self {
            Fixed::Hex(bytes) => bytes.max(1),
            Fixed::Uuids => 16,
        }
    }

    /// Appends the text of value `at` of `bytes`.
    fn append(self, bytes: &[u8], at: usize, out: &mut Vec<u8>) -> Option<()> {
        let start = at.checked_mul(self.bytes())?;
        let mut value = bytes.get(start..start.checked_add(self.bytes())?)?;
        match self {
            Fixed::Hex(_) => push_hex(value, out),
            Fixed::Uuids => {
                for (group, number) in [4, 2, 2, 2, 6].into_iter().zip(0..) {
                    if number > 0 {
                        out.push(b'-');
                    }
                    let (front, rest) = value.split_at_checked(group)?;
                    push_hex(front, out);
                    value = rest;
                }
            }
        }
        Some(())
    }
}

/// The values of a column of strings of one length.
#[derive(Clone, Copy)]
pub(super) struct FixedStrings<'s> {
    layout: Fixed,
    bytes: &'s [u8],
}

impl FixedStrings<'_> {
    /// Appends value `at`.
    #[inline]
    pub(super) fn append(self, at: usize, out: &mut Vec<u8>) -> Option<()> {
        self.layout.append(self.bytes, at, out)
    }

    /// The length of each value.
    pub(super) fn text_bytes(self) -> usize {
        match self.layout {
            Fixed::Hex(_) => self.layout.bytes() * 2,
            Fixed::Uuids => 36,
        }
    }
}

/// The entries of a dictionary, decoded when the first one is read.
struct LazyEntries<'a> {
    count: usize,
    layout: EntriesLayout<'a>,
    entries: OnceCell<Option<Entries<'a>>>,
}

enum EntriesLayout<'a> {
    /// They are known already.
    Known,
    Strings(Section<'a>),
    Fixed(Fixed, Section<'a>),
}

enum Entries<'a> {
    Strings(Vec<&'a [u8]>),
    /// The texts one after another, and the length of each.
    Texts(Vec<u8>, usize),
}

impl<'a> LazyEntries<'a> {
    fn get(&self, index: usize) -> Option<&[u8]> {
        match self.entries.get_or_init(|| self.decode()).as_ref()? {
            Entries::Strings(entries) => entries.get(index).copied(),
            Entries::Texts(texts, length) => {
                let start = index.checked_mul(*length)?;
                texts.get(start..start.checked_add(*length)?)
            }
        }
    }

    fn decode(&self) -> Option<Entries<'a>> {
        match self.layout {
            EntriesLayout::Known => None,
            EntriesLayout::Strings(section) => {
                let mut reader = Reader::new(section.get()?);
                let entries = (0..self.count).map(|_| read_bytes(&mut reader));
                Some(Entries::Strings(entries.collect::<Option<_>>()?))
            }
            EntriesLayout::Fixed(fixed, section) => {
                let bytes = section.get()?;
                let mut texts = Vec::with_capacity(bytes.len() * 3);
                for index in 0..self.count {
                    fixed.append(bytes, index, &mut texts)?;
                }
                let length = texts.len().checked_div(self.count)?;
                Some(Entries::Texts(texts, length))
            }
        }
    }
}

/// The templates of a column, and their variables.
pub(super) struct TemplateColumns<'a> {
    count: usize,
    templates: Vec<Template<'a>>,
    indexes: Ints<'a>,
    /// The values that will be read.
    wanted: Cell<(usize, usize)>,
    /// The index of the first wanted value, and how many values before each one have the same template.
    ranks: OnceCell<Option<(usize, Vec<u32>)>>,
}

struct Template<'a> {
    pieces: Vec<PieceColumn<'a>>,
    is_constant: bool,
    /// The number of values with this template.
    uses: usize,
}

/// A piece of a template, with the values of its variable.
enum PieceColumn<'a> {
    Literal(Vec<u8>),
    Numbers(Ints<'a>),
    Texts(Strings<'a>),
}

impl<'a> TemplateColumns<'a> {
    fn read(
        small: &mut Reader<'a>,
        sections: &mut impl Iterator<Item = Section<'a>>,
        count: usize,
        variables_left: &mut usize,
    ) -> Option<TemplateColumns<'a>> {
        let templates = small.length().filter(|it| *it <= TEMPLATES_MAX)?;
        let mut entries = Reader::new(sections.next()?.get()?);
        let indexes = Ints::read_packed(small, sections, count, Decoded::default())?;
        let mut read = || {
            let template = read_bytes(&mut entries)?;
            let uses = small.length()?;
            let mut is_constant = true;
            let mut pieces = Vec::new();
            for piece in templates::pieces(template).filter(|it| it.len() <= PIECES_MAX)? {
                if !matches!(piece, Piece::Literal(_)) {
                    is_constant = false;
                    *variables_left = variables_left.checked_sub(uses)?;
                }
                pieces.push(match piece {
                    Piece::Literal(literal) => PieceColumn::Literal(literal),
                    Piece::Number => PieceColumn::Numbers(Ints::read_packed(
                        small,
                        sections,
                        uses,
                        Decoded::default(),
                    )?),
                    Piece::Text => PieceColumn::Texts(Strings::read_flat(small, sections, uses)?),
                });
            }
            Some(Template {
                pieces,
                is_constant,
                uses,
            })
        };
        let templates = (0..templates).map(|_| read()).collect::<Option<_>>()?;
        Some(TemplateColumns {
            count,
            templates,
            indexes,
            wanted: Cell::new((0, count)),
            ranks: OnceCell::new(),
        })
    }

    /// Says that no values but those in `range` will be read. Their ranks are counted from the nearer end.
    fn want(&self, range: Range<usize>) {
        let (start, end) = (range.start.min(self.count), range.end.min(self.count));
        self.wanted.set((start, end));
        self.indexes.want(if start > self.count - end {
            start..self.count
        } else {
            0..end
        });
    }

    fn template(&self, at: usize) -> Option<&Template<'a>> {
        self.templates
            .get(usize::try_from(self.indexes.get(at)?).ok()?)
    }

    /// Appends value `at`.
    #[inline]
    pub(super) fn append(&self, at: usize, out: &mut Vec<u8>) -> Option<()> {
        let template = self.template(at)?;
        if template.is_constant {
            return template.append(0, out);
        }
        let (start, ranks) = self.ranks.get_or_init(|| self.rank()).as_ref()?;
        let rank = *ranks.get(at.checked_sub(*start)?)?;
        template.append(rank as usize, out)
    }

    /// The ranks of the wanted values.
    fn rank(&self) -> Option<(usize, Vec<u32>)> {
        let (start, end) = self.wanted.get();
        let place = |index: u64| usize::try_from(index).ok();
        let indexes = self.indexes.decoded()?;
        // The number of values with each template before the first wanted one.
        let mut next = vec![0u32; self.templates.len()];
        if start > self.count - end {
            for (next, template) in next.iter_mut().zip(&self.templates) {
                *next = u32::try_from(template.uses).ok()?;
            }
            for index in indexes.part(start..self.count)? {
                let next = next.get_mut(place(index)?)?;
                *next = next.checked_sub(1)?;
            }
        } else {
            for index in indexes.part(0..start)? {
                *next.get_mut(place(index)?)? += 1;
            }
        }
        let before = next.clone();
        let ranks = indexes.part(start..end)?.map(|index| {
            let next = next.get_mut(place(index)?)?;
            *next += 1;
            Some(*next - 1)
        });
        let ranks = ranks.collect::<Option<Vec<u32>>>()?;
        for (template, (before, next)) in self.templates.iter().zip(before.into_iter().zip(next)) {
            template.want(before as usize..next as usize);
        }
        Some((start, ranks))
    }
}

impl Template<'_> {
    /// Says that no variables but those of these uses will be read.
    fn want(&self, range: Range<usize>) {
        for piece in &self.pieces {
            match piece {
                PieceColumn::Literal(_) => {}
                PieceColumn::Numbers(numbers) => numbers.want(range.clone()),
                PieceColumn::Texts(texts) => texts.want(range.clone()),
            }
        }
    }

    /// Appends the text with variables number `rank`.
    fn append(&self, rank: usize, out: &mut Vec<u8>) -> Option<()> {
        for piece in &self.pieces {
            match piece {
                PieceColumn::Literal(literal) => out.extend_from_slice(literal),
                PieceColumn::Numbers(numbers) => {
                    let number = numbers.get(rank)?;
                    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
                }
                PieceColumn::Texts(texts) => texts.append(rank, out)?,
            }
        }
        Some(())
    }
}

impl<'a> Strings<'a> {
    /// Opens a column of `count` values of [`Codec::Columns`](super::Codec::Columns). The caller must have
    /// bounded `count`, here and below.
    pub(super) fn read(
        small: &mut Reader<'a>,
        section: Section<'a>,
        count: usize,
    ) -> Option<Strings<'a>> {
        let form = match small.u8()? {
            bytes_form::CONSTANT => StringsForm::Constant(read_bytes(small)?),
            bytes_form::DICTIONARY => {
                let entries = small.length().filter(|entries| *entries <= count)?;
                let known = (0..entries).map(|_| read_bytes(small));
                let known = known.collect::<Option<_>>()?;
                StringsForm::Dictionary {
                    entries: LazyEntries {
                        count: entries,
                        layout: EntriesLayout::Known,
                        entries: OnceCell::from(Some(Entries::Strings(known))),
                    },
                    indexes: Ints::new(section, count),
                }
            }
            bytes_form::HEX => StringsForm::Fixed {
                layout: read_hex(small)?,
                bytes: section,
            },
            bytes_form::PLAIN => {
                let lengths = read_ints(small, count)?;
                StringsForm::Plain {
                    ends: OnceCell::from(Some(ends_of(&lengths)?)),
                    lengths: None,
                    bytes: section,
                }
            }
            _ => return None,
        };
        Some(Strings { count, form })
    }

    /// Opens a column of `count` values of [`Codec::Packed`](super::Codec::Packed), whose templates may have
    /// `variables_left` values of variables.
    pub(super) fn read_packed(
        small: &mut Reader<'a>,
        sections: &mut impl Iterator<Item = Section<'a>>,
        count: usize,
        variables_left: &mut usize,
    ) -> Option<Strings<'a>> {
        let mut ahead = small.clone();
        if ahead.u8()? == bytes_form::TEMPLATES {
            *small = ahead;
            let templates = TemplateColumns::read(small, sections, count, variables_left)?;
            let form = StringsForm::Templates(Box::new(templates));
            return Some(Strings { count, form });
        }
        Strings::read_flat(small, sections, count)
    }

    /// Does the same for one without templates, as those in templates are.
    fn read_flat(
        small: &mut Reader<'a>,
        sections: &mut impl Iterator<Item = Section<'a>>,
        count: usize,
    ) -> Option<Strings<'a>> {
        let form = match small.u8()? {
            bytes_form::CONSTANT => StringsForm::Constant(read_bytes(small)?),
            bytes_form::DICTIONARY => {
                let entries = small.length().filter(|entries| *entries <= count)?;
                let layout = match small.u8()? {
                    entries_layout::STRINGS => EntriesLayout::Strings(sections.next()?),
                    entries_layout::HEX => EntriesLayout::Fixed(read_hex(small)?, sections.next()?),
                    entries_layout::UUIDS => EntriesLayout::Fixed(Fixed::Uuids, sections.next()?),
                    _ => return None,
                };
                StringsForm::Dictionary {
                    entries: LazyEntries {
                        count: entries,
                        layout,
                        entries: OnceCell::new(),
                    },
                    indexes: Ints::read_packed(small, sections, count, Decoded::default())?,
                }
            }
            bytes_form::HEX => StringsForm::Fixed {
                layout: read_hex(small)?,
                bytes: sections.next()?,
            },
            bytes_form::UUIDS => StringsForm::Fixed {
                layout: Fixed::Uuids,
                bytes: sections.next()?,
            },
            bytes_form::PLAIN => StringsForm::Plain {
                lengths: Some(Ints::read_packed(
                    small,
                    sections,
                    count,
                    Decoded::default(),
                )?),
                ends: OnceCell::new(),
                bytes: sections.next()?,
            },
            _ => return None,
        };
        Some(Strings { count, form })
    }

    /// A column of ids of spans.
    pub(super) fn with_lineage(
        lineage: Rc<Lineage<'a>>,
        which: SpanId,
        count: usize,
    ) -> Strings<'a> {
        let form = StringsForm::Lineage(lineage, which);
        Strings { count, form }
    }

    /// The value of all, if it is the same.
    pub(super) fn constant(&self) -> Option<&'a [u8]> {
        match self.form {
            StringsForm::Constant(value) if self.count > 0 => Some(value),
            _ => None,
        }
    }

    /// The number of entries of a dictionary.
    pub(super) fn entries(&self) -> Option<usize> {
        match &self.form {
            StringsForm::Dictionary { entries, .. } => Some(entries.count),
            _ => None,
        }
    }

    /// An entry of a dictionary.
    pub(super) fn entry(&self, index: usize) -> Option<&[u8]> {
        match &self.form {
            StringsForm::Dictionary { entries, .. } => entries.get(index),
            _ => None,
        }
    }

    /// The index of each value among the entries of a dictionary.
    fn indexes(&self) -> Option<Decoded<'_>> {
        match &self.form {
            StringsForm::Dictionary { indexes, .. } => indexes.decoded(),
            _ => None,
        }
    }

    /// The index of each value among the entries of a dictionary, if those are few beside `records` values.
    pub(super) fn indexes_of_few(&self, records: usize) -> Option<Decoded<'_>> {
        let entries = self.entries()?;
        if entries > ENTRIES_PREPARED_MAX || entries > records / 4 {
            return None;
        }
        self.indexes()
    }

    /// How the values become text.
    pub(super) fn text_source(&self) -> TextSource<'a, '_> {
        if let Some(values) = self.fixed() {
            return TextSource::Fixed(values);
        }
        match &self.form {
            StringsForm::Templates(templates) => TextSource::Template(templates),
            StringsForm::Lineage(lineage, which) => {
                (lineage.ids(*which)).map_or(TextSource::Other, TextSource::Ids)
            }
            _ => TextSource::Other,
        }
    }

    /// The values, if they are of one length and stored as bytes.
    fn fixed(&self) -> Option<FixedStrings<'_>> {
        match &self.form {
            StringsForm::Fixed { layout, bytes } => Some(FixedStrings {
                layout: *layout,
                bytes: bytes.get()?,
            }),
            _ => None,
        }
    }

    /// Says that no values but those in `range` will be read.
    pub(super) fn want(&self, range: Range<usize>) {
        match &self.form {
            StringsForm::Dictionary { indexes, .. } => indexes.want(range),
            StringsForm::Templates(templates) => templates.want(range),
            _ => {}
        }
    }

    /// Value `at`. One that is not stored as text is decoded into `text`.
    #[inline]
    pub(super) fn get<'b>(&'b self, at: usize, text: &'b mut Vec<u8>) -> Option<&'b [u8]> {
        match &self.form {
            StringsForm::Constant(value) => (at < self.count).then_some(*value),
            StringsForm::Dictionary { entries, indexes } => {
                entries.get(usize::try_from(indexes.get(at)?).ok()?)
            }
            StringsForm::Plain {
                lengths,
                ends,
                bytes,
            } => {
                let ends = ends
                    .get_or_init(|| ends_of(lengths.as_ref()?.values()?))
                    .as_ref()?;
                let start = match at.checked_sub(1) {
                    Some(previous) => *ends.get(previous)?,
                    None => 0,
                };
                bytes.get()?.get(start..*ends.get(at)?)
            }
            StringsForm::Fixed { layout, bytes } => {
                text.clear();
                layout.append(bytes.get()?, at, text)?;
                Some(text)
            }
            StringsForm::Templates(templates) => {
                text.clear();
                templates.append(at, text)?;
                Some(text)
            }
            StringsForm::Lineage(lineage, which) => lineage.ids(*which)?.get(at),
        }
    }

    /// Appends value `at`.
    pub(super) fn append(&self, at: usize, out: &mut Vec<u8>) -> Option<()> {
        if let StringsForm::Fixed { layout, bytes } = &self.form {
            return layout.append(bytes.get()?, at, out);
        }
        out.extend_from_slice(self.get(at, &mut Vec::new())?);
        Some(())
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
            StringsForm::Dictionary { entries, indexes } => {
                let mut wanted = Bits::new(entries.count);
                for at in 0..entries.count {
                    if test(entries.get(at)?) {
                        wanted.insert(at);
                    }
                }
                if wanted.is_empty() {
                    return Some(Matching::None);
                }
                for (at, index) in indexes.values()?.iter().enumerate() {
                    if wanted.contains(usize::try_from(*index).ok()?) {
                        found.insert(at);
                    }
                }
            }
            StringsForm::Fixed {
                layout: Fixed::Hex(length),
                bytes,
            } => match hex {
                HexTest::Never => return Some(Matching::None),
                HexTest::Equals(digits) => {
                    let wanted: Vec<u8> = digits.as_bytes().chunks(2).map(hex_byte).collect();
                    for (at, value) in bytes.get()?.chunks_exact(*length).enumerate() {
                        if value == wanted {
                            found.insert(at);
                        }
                    }
                }
                HexTest::Each => self.test_each(test, &mut found)?,
            },
            StringsForm::Templates(templates) => {
                // The outcomes for templates without variables.
                let mut constants = vec![None; templates.templates.len()];
                let mut value = Vec::new();
                for (at, index) in templates.indexes.values()?.iter().enumerate() {
                    let index = usize::try_from(*index).ok()?;
                    let known = constants.get_mut(index)?;
                    let is_match = if let Some(is_match) = known {
                        *is_match
                    } else {
                        value.clear();
                        templates.append(at, &mut value)?;
                        let is_match = test(&value);
                        if templates.templates.get(index)?.is_constant {
                            *known = Some(is_match);
                        }
                        is_match
                    };
                    if is_match {
                        found.insert(at);
                    }
                }
            }
            StringsForm::Lineage(lineage, which) => {
                let ids = lineage.ids(*which)?;
                let matches: Vec<bool> = ids.distinct().map(test).collect();
                for (at, number) in ids.numbers().iter().enumerate() {
                    if *matches.get(*number as usize)? {
                        found.insert(at);
                    }
                }
            }
            StringsForm::Fixed { .. } | StringsForm::Plain { .. } => {
                self.test_each(test, &mut found)?;
            }
        }
        Some(Matching::of(found))
    }

    /// Adds the values that `test` accepts.
    fn test_each(&self, test: &mut dyn FnMut(&[u8]) -> bool, found: &mut Bits) -> Option<()> {
        let mut value = Vec::new();
        for at in 0..self.count {
            if test(self.get(at, &mut value)?) {
                found.insert(at);
            }
        }
        Some(())
    }
}

fn read_hex(small: &mut Reader<'_>) -> Option<Fixed> {
    // A length of zero is never written, and would let any number of values be read from nothing.
    Some(Fixed::Hex(
        small.length().filter(|digits| *digits >= 2)? / 2,
    ))
}

fn read_bytes<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let length = reader.length()?;
    reader.bytes(length)
}

/// Where strings of these lengths end.
fn ends_of(lengths: &[u64]) -> Option<Vec<usize>> {
    let mut end = 0usize;
    let ends = lengths.iter().map(|length| {
        end = end.checked_add(usize::try_from(*length).ok()?)?;
        Some(end)
    });
    ends.collect()
}

/// Appends the lowercase hex digits of `bytes`.
#[inline]
fn push_hex(bytes: &[u8], out: &mut Vec<u8>) {
    // Ids have 8 or 16 bytes, and one copy of many digits takes no longer than one of a few.
    let (eights, rest) = bytes.as_chunks::<8>();
    for eight in eights {
        out.extend_from_slice(&sixteen_digits(u64::from_be_bytes(*eight)));
    }
    let (fours, rest) = rest.as_chunks::<4>();
    for four in fours {
        out.extend_from_slice(&eight_digits(u32::from_be_bytes(*four)));
    }
    for byte in rest {
        let [.., high, low] = eight_digits(u32::from(*byte));
        out.extend_from_slice(&[high, low]);
    }
}

/// The hex digits of a number.
#[inline]
fn sixteen_digits(number: u64) -> [u8; 16] {
    let half = |number: u64| u64::from_be_bytes(eight_digits(u32::try_from(number).unwrap_or(0)));
    let digits = u128::from(half(number >> 32)) << 64 | u128::from(half(number & 0xffff_ffff));
    digits.to_be_bytes()
}

/// The hex digits of a number, all at once: one at a time takes as long as the rest of a record.
#[inline]
fn eight_digits(number: u32) -> [u8; 8] {
    let spread = u64::from(number);
    let spread = (spread << 16 | spread) & 0x0000_ffff_0000_ffff;
    let spread = (spread << 8 | spread) & 0x00ff_00ff_00ff_00ff;
    let nibbles = (spread << 4 | spread) & 0x0f0f_0f0f_0f0f_0f0f;
    // 1 in each byte that is a letter.
    let letters = (nibbles + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    let digits = nibbles + 0x3030_3030_3030_3030 + letters * u64::from(b'a' - b'0' - 10);
    digits.to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A constant becomes a part of what is written for each record.
    #[test]
    fn a_column_with_one_value_is_constant() {
        for (count, constant) in [(0, None), (1, Some(b"text".as_slice())), (9, Some(b"text"))] {
            let form = StringsForm::Constant(b"text");
            assert_eq!(Strings { count, form }.constant(), constant);
        }
    }

    #[test]
    fn hex_digits_are_those_of_the_standard_library() {
        for bytes in [
            Vec::new(),
            vec![0x0a],
            vec![0x90, 0xff, 0x00],
            (0..=u8::MAX).collect::<Vec<u8>>(),
        ] {
            let mut digits = Vec::new();
            push_hex(&bytes, &mut digits);
            let wanted: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(digits, wanted.concat().into_bytes());
        }
    }
}
