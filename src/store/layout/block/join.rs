//! Rebuilding payloads from shapes and columns.
//!
//! A scan spends most of its time here. So each shape is turned into a list of steps when its first record
//! is rebuilt: constants are joined with the literals around them, and short pieces are copied as arrays of
//! a fixed length, of which a part is then cut off again. A copy of any length takes several times as long.

use super::{
    bytes::Writer,
    columns::{Decoded, FixedStrings, Strings, TemplateColumns, TextSource},
    lineage::Ids,
    shapes::{ColumnKind, DecodedShape, Part, PlacedPart, Shaped},
};
use std::{cell::Cell, ops::Range};

/// Maximum depth of nests when decoding. Splitters stop far below it.
const NEST_DEPTH_MAX: usize = 64;
/// The number of bytes after the last payload that a copy of fixed length may write and cut off again.
pub(super) const SLACK_BYTES: usize = PREPARED_BYTES;
/// The length of a prepared entry, and its longest part.
const PREPARED_BYTES: usize = 32;
/// The longest head of bytes: a length as a varint.
const HEAD_BYTES_MAX: usize = 10;

/// A step of rebuilding a record.
enum Step<'a, 's> {
    Short(Padded<16>),
    Literal(Box<[u8]>),
    Int {
        part: Part,
        values: Decoded<'s>,
        slot: usize,
    },
    Text {
        part: Part,
        column: &'s Strings<'a>,
        slot: usize,
    },
    /// A text from a dictionary of short ones, number `dictionary` of the prepared ones.
    Entry {
        dictionary: usize,
        indexes: Decoded<'s>,
        slot: usize,
    },
    /// A text of a fixed length, whose head is a part of the literal before it.
    Fixed {
        values: FixedStrings<'s>,
        slot: usize,
    },
    Template {
        part: Part,
        templates: &'s TemplateColumns<'a>,
        slot: usize,
    },
    /// An id, whose head is a part of the literal before it.
    Id {
        ids: Ids<'s>,
        slot: usize,
    },
    /// The start of a nest, with the length of the head that the last one had here.
    Open(Cell<usize>),
    Close,
}

/// At most `N` bytes.
#[derive(Clone, Copy)]
struct Padded<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Padded<N> {
    /// `bytes`, if they are short enough.
    fn new(bytes: &[u8]) -> Option<Padded<N>> {
        let mut padded = Padded {
            bytes: [0; N],
            length: bytes.len(),
        };
        padded.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(padded)
    }

    #[inline]
    fn append(&self, out: &mut Vec<u8>) {
        let end = out.len() + self.length;
        out.extend_from_slice(&self.bytes);
        out.truncate(end);
    }
}

/// Rebuilds the payloads of [`Shaped`] records in their order. Passing a record costs little, and
/// columns of which no value is used are never inflated.
pub(super) struct Joiner<'a, 's> {
    shaped: &'s Shaped<'a>,
    /// The number of records that are rebuilt.
    records: usize,
    /// The steps of each shape, once it is used.
    steps: Vec<Option<Vec<Step<'a, 's>>>>,
    /// The entries of dictionaries with their heads, each for one column of strings.
    prepared: Vec<Option<Vec<Padded<PREPARED_BYTES>>>>,
    /// The index of the next record.
    next: usize,
    /// The index of the next value of each slot.
    next_values: Vec<usize>,
    /// The number of records of each shape that were passed and are not yet in the indexes above.
    passed: Vec<usize>,
    passed_shapes: Vec<usize>,
    /// For each open nest, the step that began it and where its bytes begin.
    nests: Vec<(usize, usize)>,
    text: Vec<u8>,
}

impl<'a, 's> Joiner<'a, 's> {
    /// A joiner of the records in `range`, which are passed or rebuilt one after another.
    pub(super) fn new(shaped: &'s Shaped<'a>, range: &Range<usize>) -> Option<Joiner<'a, 's>> {
        Some(Joiner {
            shaped,
            records: range.len(),
            steps: shaped.shapes.iter().map(|_| None).collect(),
            prepared: shaped.strings.iter().map(|_| None).collect(),
            next: range.start,
            next_values: shaped.values_before(range.start)?,
            passed: vec![0; shaped.shapes.len()],
            passed_shapes: Vec::new(),
            nests: Vec::new(),
            text: Vec::new(),
        })
    }

    /// Passes the next record.
    pub(super) fn pass(&mut self) -> Option<()> {
        let shape = self.shaped.shape_of(self.next)?;
        let passed = self.passed.get_mut(shape)?;
        if *passed == 0 {
            self.passed_shapes.push(shape);
        }
        *passed += 1;
        self.next += 1;
        Some(())
    }

    /// Moves the indexes of columns past the passed records.
    fn catch_up(&mut self) -> Option<()> {
        while let Some(shape) = self.passed_shapes.pop() {
            let records = std::mem::take(self.passed.get_mut(shape)?);
            for placed in self.shaped.shapes.get(shape)?.leaves() {
                *self.next_values.get_mut(placed.slot)? += records;
            }
        }
        Some(())
    }

    /// Appends the next payload to `out`, up to a length of `bytes_max`.
    pub(super) fn join(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> Option<()> {
        if !self.passed_shapes.is_empty() {
            self.catch_up()?;
        }
        let shape = self.shaped.shape_of(self.next)?;
        self.next += 1;
        if self.steps.get(shape)?.is_none() {
            let steps = self.steps_of(self.shaped.shapes.get(shape)?)?;
            *self.steps.get_mut(shape)? = Some(steps);
        }
        self.nests.clear();
        let steps = self.steps.get(shape)?.as_ref()?;
        for (number, step) in steps.iter().enumerate() {
            match step {
                Step::Short(literal) => literal.append(out),
                Step::Literal(literal) => out.extend_from_slice(literal),
                Step::Int { part, values, slot } => {
                    let at = next(&mut self.next_values, *slot)?;
                    write_int(*part, values.get(at)?, out);
                }
                Step::Entry {
                    dictionary,
                    indexes,
                    slot,
                } => {
                    let at = next(&mut self.next_values, *slot)?;
                    let entries = self.prepared.get(*dictionary)?.as_ref()?;
                    let index = usize::try_from(indexes.get(at)?).ok()?;
                    entries.get(index)?.append(out);
                }
                Step::Fixed { values, slot } => {
                    let at = next(&mut self.next_values, *slot)?;
                    values.append(at, out)?;
                    if out.len() > bytes_max {
                        return None;
                    }
                }
                Step::Id { ids, slot } => {
                    let at = next(&mut self.next_values, *slot)?;
                    out.extend_from_slice(ids.get(at)?);
                }
                Step::Template {
                    part,
                    templates,
                    slot,
                } => {
                    let at = next(&mut self.next_values, *slot)?;
                    let start = begin_bytes(*part, 1, out);
                    templates.append(at, out)?;
                    end_bytes(*part, 1, start, out)?;
                    // As below.
                    if out.len() > bytes_max {
                        return None;
                    }
                }
                Step::Text { part, column, slot } => {
                    let at = next(&mut self.next_values, *slot)?;
                    let value = column.get(at, &mut self.text)?;
                    // Without this check, a damaged dictionary could repeat a long value without
                    // end.
                    if out.len() + value.len() > bytes_max {
                        return None;
                    }
                    write_bytes(*part, value, out);
                }
                Step::Open(head) => {
                    if self.nests.len() == NEST_DEPTH_MAX {
                        return None;
                    }
                    let start = begin_bytes(Part::LengthDelimited, head.get(), out);
                    self.nests.push((number, start));
                }
                Step::Close => {
                    let (opened, start) = self.nests.pop()?;
                    let Step::Open(head) = steps.get(opened)? else {
                        return None;
                    };
                    head.set(end_bytes(Part::LengthDelimited, head.get(), start, out)?);
                }
            }
        }
        (self.nests.is_empty() && out.len() <= bytes_max).then_some(())
    }

    fn steps_of(&mut self, shape: &'s DecodedShape<'a>) -> Option<Vec<Step<'a, 's>>> {
        let mut steps = Steps {
            done: Vec::with_capacity(shape.parts.len() * 2),
            ..Steps::default()
        };
        let mut start = 0;
        for placed in &shape.parts {
            let literal = &mut steps.literal;
            literal.extend_from_slice(shape.literals.get(start..placed.literals_end)?);
            start = placed.literals_end;
            if let Some(value) = self.constant_of(placed) {
                write_bytes(placed.part, value, literal);
                continue;
            }
            match placed.part {
                Part::Open => steps.open(),
                Part::Close => steps.close()?,
                _ => steps.push(placed.part, self.step_of(placed)?),
            }
        }
        steps
            .literal
            .extend_from_slice(shape.literals.get(start..)?);
        steps.flush();
        Some(steps.done)
    }

    /// The value of a part that is the same in all records.
    fn constant_of(&self, placed: &PlacedPart) -> Option<&'a [u8]> {
        match placed.part.column_kind()? {
            ColumnKind::Ints => None,
            ColumnKind::Bytes => self.shaped.strings.get(placed.column)?.constant(),
        }
    }

    fn step_of(&mut self, placed: &PlacedPart) -> Option<Step<'a, 's>> {
        let PlacedPart {
            part, column, slot, ..
        } = *placed;
        let shaped = self.shaped;
        Some(match part.column_kind() {
            None => return None,
            Some(ColumnKind::Ints) => Step::Int {
                part,
                values: shaped.ints.get(column)?.decoded()?,
                slot,
            },
            Some(ColumnKind::Bytes) => {
                let strings = shaped.strings.get(column)?;
                if let Some(indexes) = self.prepare(part, column, strings) {
                    Step::Entry {
                        dictionary: column,
                        indexes,
                        slot,
                    }
                } else {
                    match strings.text_source() {
                        TextSource::Fixed(values) => Step::Fixed { values, slot },
                        TextSource::Ids(ids) => Step::Id { ids, slot },
                        TextSource::Template(templates) => Step::Template {
                            part,
                            templates,
                            slot,
                        },
                        TextSource::Other => Step::Text {
                            part,
                            column: strings,
                            slot,
                        },
                    }
                }
            }
        })
    }

    /// Prepares the entries of a dictionary, if they are few and short, and returns the index of each value
    /// among them.
    fn prepare(
        &mut self,
        part: Part,
        number: usize,
        column: &'s Strings<'_>,
    ) -> Option<Decoded<'s>> {
        let indexes = column.indexes_of_few(self.records)?;
        if self.prepared.get(number)?.is_some() {
            return Some(indexes);
        }
        let mut head = Vec::new();
        let mut prepare = |index| {
            head.clear();
            write_bytes(part, column.entry(index)?, &mut head);
            Padded::new(&head)
        };
        let entries = (0..column.entries()?)
            .map(&mut prepare)
            .collect::<Option<Vec<_>>>()?;
        *self.prepared.get_mut(number)? = Some(entries);
        Some(indexes)
    }
}

/// The steps of a shape so far.
#[derive(Default)]
struct Steps<'a, 's> {
    done: Vec<Step<'a, 's>>,
    /// The bytes after the last step that are the same in all records.
    literal: Vec<u8>,
    /// Where in these bytes nests begin of which the end is not known yet.
    opened: Vec<usize>,
}

impl<'a, 's> Steps<'a, 's> {
    fn open(&mut self) {
        self.opened.push(self.literal.len());
    }

    /// Ends a nest. One that is the same in all records becomes a part of the literal around it.
    fn close(&mut self) -> Option<()> {
        let Some(start) = self.opened.pop() else {
            self.flush();
            self.done.push(Step::Close);
            return Some(());
        };
        let mut head = Vec::new();
        head.varint(self.literal.len().checked_sub(start)? as u64);
        self.literal.splice(start..start, head);
        Some(())
    }

    /// Adds the step of a value of this part.
    fn push(&mut self, part: Part, step: Step<'a, 's>) {
        match &step {
            Step::Fixed { values, .. } => {
                write_head(part, values.text_bytes(), &mut self.literal);
            }
            Step::Id { ids, .. } => write_head(part, ids.id_bytes(), &mut self.literal),
            _ => {}
        }
        self.flush();
        self.done.push(step);
    }

    /// Adds the literal bytes and the beginnings of nests so far.
    fn flush(&mut self) {
        let mut start = 0;
        for end in std::mem::take(&mut self.opened) {
            self.push_literal(start, end);
            self.done.push(Step::Open(Cell::new(1)));
            start = end;
        }
        self.push_literal(start, self.literal.len());
        self.literal.clear();
    }

    fn push_literal(&mut self, start: usize, end: usize) {
        let literal = self.literal.get(start..end).unwrap_or_default();
        if literal.is_empty() {
            return;
        }
        self.done.push(match Padded::new(literal) {
            Some(short) => Step::Short(short),
            None => Step::Literal(literal.into()),
        });
    }
}

/// Returns the index of a slot's next value and moves on.
#[inline]
fn next(indexes: &mut [usize], slot: usize) -> Option<usize> {
    let next = indexes.get_mut(slot)?;
    let at = *next;
    *next += 1;
    Some(at)
}

#[inline]
fn write_int(part: Part, value: u64, out: &mut Vec<u8>) {
    // Writing to a vector cannot fail.
    match part {
        Part::Int => _ = rmp::encode::write_sint(out, value.cast_signed()),
        Part::UInt => _ = rmp::encode::write_uint(out, value),
        Part::Float => _ = rmp::encode::write_f64(out, f64::from_bits(value)),
        Part::Bool => _ = rmp::encode::write_bool(out, value != 0),
        Part::Varint => out.varint(value),
        Part::Fixed32 => out.extend(value.to_le_bytes().into_iter().take(4)),
        _ => out.extend_from_slice(&value.to_le_bytes()),
    }
}

#[inline]
fn write_bytes(part: Part, value: &[u8], out: &mut Vec<u8>) {
    write_head(part, value.len(), out);
    out.extend_from_slice(value);
}

/// Appends what stands before `length` bytes.
#[inline]
fn write_head(part: Part, length: usize, out: &mut Vec<u8>) {
    match part {
        Part::Str => {
            let length = u32::try_from(length).unwrap_or(u32::MAX);
            _ = rmp::encode::write_str_len(out, length);
        }
        Part::LengthDelimited => out.varint(length as u64),
        _ => {}
    }
}

/// Appends a head of `expected` bytes for bytes whose number is not known yet, and returns where they begin.
#[inline]
fn begin_bytes(part: Part, expected: usize, out: &mut Vec<u8>) -> usize {
    if matches!(part, Part::Str | Part::LengthDelimited) {
        let end = out.len() + expected;
        out.extend_from_slice(&[0; HEAD_BYTES_MAX]);
        out.truncate(end);
    }
    out.len()
}

/// Writes the head of the bytes from `start`, for which there are `expected` bytes, and returns its length.
#[inline]
fn end_bytes(part: Part, expected: usize, start: usize, out: &mut Vec<u8>) -> Option<usize> {
    let length = out.len().checked_sub(start)?;
    if !matches!(part, Part::Str | Part::LengthDelimited) {
        return Some(expected);
    }
    // Most lengths have two bytes at most, and most of one place have the same number of them.
    if part == Part::LengthDelimited {
        let [low, high, ..] = length.to_le_bytes();
        let head_start = start.checked_sub(expected)?;
        match (expected, length) {
            (1, 0..0x80) => {
                *out.get_mut(head_start)? = low;
                return Some(1);
            }
            (2, 0x80..0x4000) => {
                let head = out.get_mut(head_start..start)?.first_chunk_mut::<2>()?;
                *head = [low | 0x80, high << 1 | low >> 7];
                return Some(2);
            }
            _ => {}
        }
    }
    let mut head = [0; HEAD_BYTES_MAX];
    let mut rest = head.as_mut_slice();
    if part == Part::Str {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        rmp::encode::write_str_len(&mut rest, length).ok()?;
    } else {
        prost::encoding::encode_varint(length as u64, &mut rest);
    }
    let left = rest.len();
    let head = head.get(..HEAD_BYTES_MAX - left)?;
    out.splice(start.checked_sub(expected)?..start, head.iter().copied());
    Some(head.len())
}
