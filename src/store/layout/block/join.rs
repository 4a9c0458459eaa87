//! Rebuilding payloads from shapes and columns.
//!
//! A scan spends most of its time here. So each shape is turned into a list of steps when its first record
//! is rebuilt: constants are joined with the literals around them, and short pieces are copied as arrays of
//! a fixed length, of which a part is then cut off again. A copy of any length takes several times as long.

use super::{
    bytes::Writer,
    columns::{Decoded, FixedStrings, Strings, TemplateColumns, TextSource},
    shapes::{ColumnKind, DecodedShape, Part, PlacedPart, Shaped},
};
use std::ops::Range;

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
    Open,
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
    nests: Vec<usize>,
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
        for step in self.steps.get(shape)?.as_ref()? {
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
                Step::Template {
                    part,
                    templates,
                    slot,
                } => {
                    let at = next(&mut self.next_values, *slot)?;
                    let start = begin_bytes(*part, out);
                    templates.append(at, out)?;
                    end_bytes(*part, start, out)?;
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
                Step::Open => {
                    if self.nests.len() == NEST_DEPTH_MAX {
                        return None;
                    }
                    self.nests.push(begin_bytes(Part::LengthDelimited, out));
                }
                Step::Close => end_bytes(Part::LengthDelimited, self.nests.pop()?, out)?,
            }
        }
        (self.nests.is_empty() && out.len() <= bytes_max).then_some(())
    }

    fn steps_of(&mut self, shape: &'s DecodedShape<'a>) -> Option<Vec<Step<'a, 's>>> {
        let mut steps = Vec::with_capacity(shape.parts.len() * 2);
        let mut literal = Vec::new();
        let mut start = 0;
        for placed in &shape.parts {
            literal.extend_from_slice(shape.literals.get(start..placed.literals_end)?);
            start = placed.literals_end;
            if let Some(value) = self.constant_of(placed) {
                write_bytes(placed.part, value, &mut literal);
                continue;
            }
            let step = self.step_of(placed)?;
            if let Step::Fixed { values, .. } = &step {
                write_head(placed.part, values.text_bytes(), &mut literal);
            }
            push_literal(&mut literal, &mut steps);
            steps.push(step);
        }
        literal.extend_from_slice(shape.literals.get(start..)?);
        push_literal(&mut literal, &mut steps);
        Some(steps)
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
            None if part == Part::Open => Step::Open,
            None => Step::Close,
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

/// Adds the literal bytes so far as a step.
fn push_literal(literal: &mut Vec<u8>, steps: &mut Vec<Step<'_, '_>>) {
    if literal.is_empty() {
        return;
    }
    steps.push(match Padded::new(literal) {
        Some(short) => Step::Short(short),
        None => Step::Literal(literal.as_slice().into()),
    });
    literal.clear();
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

/// Appends a head of one byte for bytes whose number is not known yet, and returns where they begin.
#[inline]
fn begin_bytes(part: Part, out: &mut Vec<u8>) -> usize {
    if matches!(part, Part::Str | Part::LengthDelimited) {
        out.push(0);
    }
    out.len()
}

/// Writes the head of the bytes from `start`.
#[inline]
fn end_bytes(part: Part, start: usize, out: &mut Vec<u8>) -> Option<()> {
    let length = out.len().checked_sub(start)?;
    if !matches!(part, Part::Str | Part::LengthDelimited) {
        return Some(());
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
    let (first, more) = head.split_first()?;
    *out.get_mut(start.checked_sub(1)?)? = *first;
    if !more.is_empty() {
        out.splice(start..start, more.iter().copied());
    }
    Some(())
}
