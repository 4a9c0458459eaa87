//! Shapes: the parts that many records have in common, stored once.
//!
//! A splitter divides a payload into *literals* (structure and keys, the same in all records of a
//! shape), *leaves* (values, each of which goes to a column) and *nests* (parts preceded by their
//! length). Records with the same literals and the same sequence of parts have one shape. A leaf's
//! column depends on its path, so an attribute shares a column across shapes.

use super::{
    bytes::{Reader, Writer},
    columns::{AnalysedStrings, BytesColumn, IntColumn, Ints, Section, Strings, read_ints},
    sections::{PackedSections, Sections},
};
use hashbrown::{HashMap, HashTable};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Maximum number of shapes: more diverse records gain nothing from shapes.
const SHAPES_MAX: usize = 512;
/// Maximum depth of nests when decoding. Splitters stop far below it.
const NEST_DEPTH_MAX: usize = 64;

/// The kind of value at one place of a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(super) enum Part {
    /// A `MessagePack` integer in its shortest form, up to `i64::MAX`.
    Int = 1,
    /// A `MessagePack` integer in its shortest form, above `i64::MAX`.
    UInt = 2,
    /// A `MessagePack` 64-bit float.
    Float = 3,
    /// A `MessagePack` boolean.
    Bool = 4,
    /// A `MessagePack` string with its shortest header.
    Str = 5,
    /// Bytes, unchanged.
    Raw = 6,
    /// A protobuf varint.
    Varint = 7,
    /// Eight bytes, little-endian.
    Fixed64 = 8,
    /// Four bytes, little-endian.
    Fixed32 = 9,
    /// Bytes preceded by their length as a varint.
    LengthDelimited = 10,
    /// The start of a nest.
    Open = 11,
    /// The end of a nest. Its length is inserted at its start as a varint.
    Close = 12,
}

impl Part {
    const ALL: [Part; 12] = [
        Part::Int,
        Part::UInt,
        Part::Float,
        Part::Bool,
        Part::Str,
        Part::Raw,
        Part::Varint,
        Part::Fixed64,
        Part::Fixed32,
        Part::LengthDelimited,
        Part::Open,
        Part::Close,
    ];

    pub(super) fn column_kind(self) -> Option<ColumnKind> {
        match self {
            Part::Int
            | Part::UInt
            | Part::Float
            | Part::Bool
            | Part::Varint
            | Part::Fixed64
            | Part::Fixed32 => Some(ColumnKind::Ints),
            Part::Str | Part::Raw | Part::LengthDelimited => Some(ColumnKind::Bytes),
            Part::Open | Part::Close => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum ColumnKind {
    Ints,
    Bytes,
}

/// A part and its place: after the first `literals_end` literal bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Placed {
    part: Part,
    literals_end: u32,
}

#[derive(Debug, Clone, Copy)]
enum Leaf<'a> {
    Int(u64),
    Bytes(&'a [u8]),
}

#[derive(Debug)]
pub(super) struct Shape {
    hash: u64,
    literals: Box<[u8]>,
    parts: Box<[Placed]>,
    /// The column of each leaf.
    columns: Box<[u32]>,
}

/// Collects records into shapes and columns.
#[derive(Debug, Default)]
pub(super) struct ShapeEncoder<'a> {
    // The record that is being split.
    literals: Vec<u8>,
    parts: Vec<Placed>,
    leaves: Vec<(u64, Part, Leaf<'a>)>,
    // The records collected so far.
    shapes: Vec<Shape>,
    shapes_by_hash: HashTable<usize>,
    shape_of_record: IntColumn,
    columns: HashMap<(u64, Part), u32>,
    ints: Vec<IntColumn>,
    bytes: Vec<BytesColumn<'a>>,
}

impl<'a> ShapeEncoder<'a> {
    pub(super) fn new() -> ShapeEncoder<'a> {
        ShapeEncoder::default()
    }

    #[inline]
    pub(super) fn literal(&mut self, bytes: &[u8]) {
        self.literals.extend_from_slice(bytes);
    }

    #[inline]
    pub(super) fn int(&mut self, path: u64, part: Part, value: u64) {
        self.place(part);
        self.leaves.push((path, part, Leaf::Int(value)));
    }

    #[inline]
    pub(super) fn bytes(&mut self, path: u64, part: Part, value: &'a [u8]) {
        self.place(part);
        self.leaves.push((path, part, Leaf::Bytes(value)));
    }

    pub(super) fn open(&mut self) {
        self.place(Part::Open);
    }

    pub(super) fn close(&mut self) {
        self.place(Part::Close);
    }

    #[inline]
    fn place(&mut self, part: Part) {
        let literals_end = u32::try_from(self.literals.len()).unwrap_or(u32::MAX);
        self.parts.push(Placed { part, literals_end });
    }

    /// Ends the present record. `None` when the records are too diverse for shapes.
    pub(super) fn end_record(&mut self) -> Option<()> {
        let hash = self.shape_hash();
        let index = match self.find_shape(hash) {
            Some(index) => index,
            None => self.add_shape(hash)?,
        };
        self.gather(index)
    }

    /// Ends the present record if its shape is known already, and returns whether it is. The paths
    /// of its leaves are then ignored.
    pub(super) fn end_record_of_known_shape(&mut self) -> Option<bool> {
        match self.find_shape(self.shape_hash()) {
            Some(index) => self.gather(index).map(|()| true),
            None => Some(false),
        }
    }

    /// Discards the parts added since the last record.
    pub(super) fn abandon_record(&mut self) {
        self.literals.clear();
        self.parts.clear();
        self.leaves.clear();
    }

    fn shape_hash(&self) -> u64 {
        self.parts
            .iter()
            .fold(xxh3_64_with_seed(&self.literals, 0), |hash, placed| {
                (hash ^ (u64::from(placed.literals_end) << 8 | placed.part as u64))
                    .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                    .rotate_left(29)
            })
    }

    fn find_shape(&self, hash: u64) -> Option<usize> {
        self.shapes_by_hash
            .find(hash, |index| {
                self.shapes.get(*index).is_some_and(|shape| {
                    *shape.literals == *self.literals && *shape.parts == *self.parts
                })
            })
            .copied()
    }

    /// Adds the leaves of the present record to the columns of its shape.
    fn gather(&mut self, index: usize) -> Option<()> {
        let columns = &self.shapes.get(index)?.columns;
        for ((_, _, leaf), column) in self.leaves.iter().zip(columns) {
            match leaf {
                Leaf::Int(value) => self.ints.get_mut(*column as usize)?.push(*value),
                Leaf::Bytes(value) => self.bytes.get_mut(*column as usize)?.push(value),
            }
        }
        self.shape_of_record.push(index as u64);
        self.abandon_record();
        Some(())
    }

    fn add_shape(&mut self, hash: u64) -> Option<usize> {
        let index = self.shapes.len();
        if index == SHAPES_MAX {
            return None;
        }
        let mut columns = Vec::with_capacity(self.leaves.len());
        for (path, part, _) in &self.leaves {
            let next = match part.column_kind()? {
                ColumnKind::Ints => self.ints.len(),
                ColumnKind::Bytes => self.bytes.len(),
            };
            let next = u32::try_from(next).ok()?;
            let column = *self.columns.entry((*path, *part)).or_insert(next);
            if column == next {
                match part.column_kind()? {
                    ColumnKind::Ints => self.ints.push(IntColumn::default()),
                    ColumnKind::Bytes => self.bytes.push(BytesColumn::default()),
                }
            }
            columns.push(column);
        }
        self.shapes.push(Shape {
            hash,
            literals: self.literals.as_slice().into(),
            parts: self.parts.as_slice().into(),
            columns: columns.into(),
        });
        let shapes = &self.shapes;
        self.shapes_by_hash.insert_unique(hash, index, |index| {
            shapes.get(*index).map_or(0, |shape| shape.hash)
        });
        Some(index)
    }

    /// Ends collecting, and chooses the encodings of columns.
    pub(super) fn finish(self) -> ShapedRecords<'a> {
        ShapedRecords {
            shapes: self.shapes,
            shape_of_record: self.shape_of_record,
            ints: self.ints,
            strings: self.bytes.into_iter().map(BytesColumn::analyse).collect(),
        }
    }
}

/// Records that have been divided into shapes and columns.
#[derive(Debug)]
pub(super) struct ShapedRecords<'a> {
    shapes: Vec<Shape>,
    shape_of_record: IntColumn,
    ints: Vec<IntColumn>,
    strings: Vec<AnalysedStrings<'a>>,
}

/// The strings of a column.
#[derive(Debug, Clone, Copy)]
pub(super) struct DistinctStrings<'a, 's> {
    pub(super) values: &'s [&'a [u8]],
    /// Whether no value is there twice. Otherwise all are there.
    pub(super) are_distinct: bool,
    /// Whether all are lowercase hex digits.
    pub(super) are_hex: bool,
}

impl Shape {
    pub(super) fn literals(&self) -> &[u8] {
        &self.literals
    }

    /// Each part, and the number of literal bytes before it.
    pub(super) fn parts(&self) -> impl Iterator<Item = (Part, usize)> {
        let parts = self.parts.iter();
        parts.map(|placed| (placed.part, placed.literals_end as usize))
    }

    /// The parts that have a column, and the column.
    pub(super) fn leaves(&self) -> impl Iterator<Item = (Part, usize)> {
        let parts = self.parts.iter().map(|placed| placed.part);
        let leaves = parts.filter(|part| part.column_kind().is_some());
        leaves.zip(self.columns.iter().map(|column| *column as usize))
    }
}

impl<'a> ShapedRecords<'a> {
    pub(super) fn len(&self) -> usize {
        self.shape_of_record.len()
    }

    pub(super) fn shapes(&self) -> &[Shape] {
        &self.shapes
    }

    /// The values of a column of integers.
    pub(super) fn ints(&self, column: usize) -> Option<&[u64]> {
        self.ints.get(column).map(IntColumn::values)
    }

    /// The values of a column of strings.
    pub(super) fn strings(&self, column: usize) -> Option<DistinctStrings<'a, '_>> {
        let column = self.strings.get(column)?;
        let distinct = column.distinct();
        Some(DistinctStrings {
            values: distinct.unwrap_or(column.values()),
            are_distinct: distinct.is_some(),
            are_hex: column.is_hex(),
        })
    }

    /// Writes all records.
    pub(super) fn write(&self, sections: &mut Sections) {
        let mut small = Vec::new();
        small.varint(self.shapes.len() as u64);
        for shape in &self.shapes {
            small.varint(shape.literals.len() as u64);
            small.extend_from_slice(&shape.literals);
            small.varint(shape.parts.len() as u64);
            let mut columns = shape.columns.iter();
            let mut literals_end = 0;
            for placed in &shape.parts {
                small.push(placed.part as u8);
                small.varint(u64::from(placed.literals_end - literals_end));
                literals_end = placed.literals_end;
                if placed.part.column_kind().is_some() {
                    small.varint(u64::from(columns.next().copied().unwrap_or_default()));
                }
            }
        }
        let mut large = Vec::with_capacity(self.ints.len() + self.strings.len());
        small.varint(self.ints.len() as u64);
        for column in &self.ints {
            small.varint(column.len() as u64);
            large.push(column.to_bytes());
        }
        small.varint(self.strings.len() as u64);
        for column in &self.strings {
            small.varint(column.len() as u64);
            let mut section = Vec::new();
            column.finish(&mut small, &mut section);
            large.push(section);
        }
        sections.push(small);
        sections.push(self.shape_of_record.to_bytes());
        for section in large {
            sections.push(section);
        }
    }
}

/// A shape of a body.
pub(super) struct DecodedShape<'a> {
    pub(super) literals: &'a [u8],
    pub(super) parts: Vec<PlacedPart>,
}

impl DecodedShape<'_> {
    /// The parts that have a column.
    pub(super) fn leaves(&self) -> impl Iterator<Item = &PlacedPart> {
        self.parts
            .iter()
            .filter(|placed| placed.part.column_kind().is_some())
    }
}

impl PlacedPart {
    /// The column of the part's values.
    pub(super) fn column_id(&self) -> Option<(ColumnKind, usize)> {
        Some((self.part.column_kind()?, self.column))
    }
}

/// A part of a shape: after the first `literals_end` literal bytes, with its values in `column`,
/// which is 0 for a part without values.
#[derive(Debug, Clone, Copy)]
pub(super) struct PlacedPart {
    pub(super) part: Part,
    pub(super) literals_end: usize,
    pub(super) column: usize,
}

/// The shapes and columns of a body. Columns are inflated and decoded when they are first needed.
pub(super) struct Shaped<'a> {
    pub(super) shapes: Vec<DecodedShape<'a>>,
    pub(super) shape_of_record: Vec<u64>,
    pub(super) ints: Vec<Ints<'a>>,
    pub(super) strings: Vec<Strings<'a>>,
}

impl<'a> Shaped<'a> {
    /// Opens the sections of a block, from `first`, with `count` records and at most
    /// `payload_bytes` bytes of payload.
    pub(super) fn open(
        sections: &'a PackedSections<'a>,
        first: usize,
        count: usize,
        payload_bytes: usize,
    ) -> Option<Shaped<'a>> {
        let mut small = Reader::new(sections.get(first)?);
        let shape_of_record = read_ints(&mut Reader::new(sections.get(first + 1)?), count)?;
        let mut columns = (first + 2..sections.len()).map(|index| Section::new(sections, index));
        let shapes = small.length().filter(|shapes| *shapes <= SHAPES_MAX)?;
        let shapes = (0..shapes)
            .map(|_| read_shape(&mut small))
            .collect::<Option<Vec<DecodedShape<'_>>>>()?;
        // Every value takes at least one byte of a payload, which bounds the length of columns.
        let values =
            |small: &mut Reader<'_>| small.length().filter(|count| *count <= payload_bytes);
        let count = small.length().filter(|count| *count <= columns.len())?;
        let ints = (0..count)
            .map(|_| Some(Ints::new(columns.next()?, values(&mut small)?)))
            .collect::<Option<Vec<Ints<'_>>>>()?;
        let count = small.length().filter(|count| *count <= columns.len())?;
        let mut strings = Vec::with_capacity(count);
        for _ in 0..count {
            let count = values(&mut small)?;
            strings.push(Strings::read(&mut small, columns.next()?, count)?);
        }
        Some(Shaped {
            shapes,
            shape_of_record,
            ints,
            strings,
        })
    }

    /// The shape of record `index`.
    pub(super) fn shape(&self, index: usize) -> Option<&DecodedShape<'a>> {
        let shape = *self.shape_of_record.get(index)?;
        self.shapes.get(usize::try_from(shape).ok()?)
    }
}

/// Rebuilds the payloads of [`Shaped`] records in their order. Passing a record costs little, and
/// columns of which no value is used are never inflated.
pub(super) struct Joiner<'a, 's> {
    shaped: &'s Shaped<'a>,
    /// The index of the next record.
    next: usize,
    /// The index of the next value of each column.
    next_ints: Vec<usize>,
    next_strings: Vec<usize>,
    /// The number of records of each shape that were passed and are not yet in the indexes above.
    passed: Vec<usize>,
    passed_shapes: Vec<usize>,
    nests: Vec<usize>,
    digits: Vec<u8>,
}

impl<'a, 's> Joiner<'a, 's> {
    pub(super) fn new(shaped: &'s Shaped<'a>) -> Joiner<'a, 's> {
        Joiner {
            shaped,
            next: 0,
            next_ints: vec![0; shaped.ints.len()],
            next_strings: vec![0; shaped.strings.len()],
            passed: vec![0; shaped.shapes.len()],
            passed_shapes: Vec::new(),
            nests: Vec::new(),
            digits: Vec::new(),
        }
    }

    /// Passes the next record.
    pub(super) fn pass(&mut self) -> Option<()> {
        let shape = *self.shaped.shape_of_record.get(self.next)?;
        let shape = usize::try_from(shape).ok()?;
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
            for placed in &self.shaped.shapes.get(shape)?.parts {
                match placed.part.column_kind() {
                    Some(ColumnKind::Ints) => *self.next_ints.get_mut(placed.column)? += records,
                    Some(ColumnKind::Bytes) => {
                        *self.next_strings.get_mut(placed.column)? += records;
                    }
                    None => {}
                }
            }
        }
        Some(())
    }

    /// Appends the next payload to `out`, up to a length of `bytes_max`.
    pub(super) fn join(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> Option<()> {
        self.catch_up()?;
        let shaped = self.shaped;
        let shape = shaped.shape(self.next)?;
        self.next += 1;
        let mut start = 0;
        self.nests.clear();
        for placed in &shape.parts {
            out.extend_from_slice(shape.literals.get(start..placed.literals_end)?);
            start = placed.literals_end;
            match placed.part.column_kind() {
                Some(ColumnKind::Ints) => {
                    let at = next(&mut self.next_ints, placed.column)?;
                    let value = *shaped.ints.get(placed.column)?.values()?.get(at)?;
                    write_int(placed.part, value, out);
                }
                Some(ColumnKind::Bytes) => {
                    let at = next(&mut self.next_strings, placed.column)?;
                    let column = shaped.strings.get(placed.column)?;
                    let value = column.get(at, &mut self.digits)?;
                    // Without this check, a damaged dictionary could repeat a long value without
                    // end.
                    if out.len() + value.len() > bytes_max {
                        return None;
                    }
                    write_bytes(placed.part, value, out);
                }
                None if placed.part == Part::Open => {
                    if self.nests.len() == NEST_DEPTH_MAX {
                        return None;
                    }
                    self.nests.push(out.len());
                }
                None => insert_length(self.nests.pop()?, out),
            }
        }
        out.extend_from_slice(shape.literals.get(start..)?);
        (self.nests.is_empty() && out.len() <= bytes_max).then_some(())
    }
}

/// Returns the index of a column's next value and moves on.
#[inline]
fn next(indexes: &mut [usize], column: usize) -> Option<usize> {
    let next = indexes.get_mut(column)?;
    let at = *next;
    *next += 1;
    Some(at)
}

fn read_shape<'a>(small: &mut Reader<'a>) -> Option<DecodedShape<'a>> {
    let literals = small.length()?;
    let literals = small.bytes(literals)?;
    let count = small.length().filter(|count| *count <= small.remaining())?;
    let mut parts = Vec::with_capacity(count);
    let mut literals_end = 0usize;
    for _ in 0..count {
        let code = small.u8()?;
        let part = Part::ALL.into_iter().find(|part| *part as u8 == code)?;
        literals_end = literals_end.checked_add(small.length()?)?;
        let column = if part.column_kind().is_some() {
            small.length()?
        } else {
            0
        };
        parts.push(PlacedPart {
            part,
            literals_end,
            column,
        });
    }
    Some(DecodedShape { literals, parts })
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
    match part {
        Part::Str => {
            let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
            _ = rmp::encode::write_str_len(out, length);
        }
        Part::LengthDelimited => out.varint(value.len() as u64),
        _ => {}
    }
    out.extend_from_slice(value);
}

/// Inserts the length of the bytes after `start` in front of them.
fn insert_length(start: usize, out: &mut Vec<u8>) {
    let mut length = Vec::with_capacity(10);
    length.varint((out.len() - start) as u64);
    out.splice(start..start, length);
}
