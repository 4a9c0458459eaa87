//! Shapes: the parts that many records have in common, stored once.
//!
//! A splitter divides a payload into *literals* (structure and keys, the same in all records of a
//! shape), *leaves* (values, each of which goes to a column) and *nests* (parts preceded by their
//! length). Records with the same literals and the same sequence of parts have one shape. A leaf's
//! column depends on its path, so an attribute shares a column across shapes.

use super::{
    Codec,
    bytes::{Reader, Writer},
    columns::{Decoded, IntColumn, Ints, Section, Strings, read_ints},
    lineage::{self, Lineage, SPAN_ID_BYTES, SpanColumns, SpanId, SpanValues, TRACE_ID_BYTES},
    pack,
    sections::{PackedSections, Sections},
    strings::{AnalysedStrings, BytesColumn, ordered},
};
use hashbrown::{HashMap, HashTable};
use std::{ops::Range, rc::Rc};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Maximum number of shapes: more diverse records gain nothing from shapes.
pub(super) const SHAPES_MAX: usize = 512;
/// Maximum number of columns of integers, and of strings: for the same reason.
const COLUMNS_MAX: usize = 1 << 14;
/// The number of shapes that a record is compared with before it is split.
const COMPARED_SHAPES: usize = 8;
/// The number of columns that get memory for all records at once.
const CAPACITY_COLUMNS_MAX: usize = 48;

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

/// The value of a part.
#[derive(Debug, Clone, Copy)]
pub(super) enum Leaf<'a> {
    Int(u64),
    Bytes(&'a [u8]),
}

/// The way through a payload along the parts of shapes.
struct Walk<'a, 's> {
    rest: &'a [u8],
    /// The number of parts so far.
    parts: usize,
    /// For each open nest, the number of bytes after its end.
    nests: &'s mut Vec<usize>,
    leaves: &'s mut Vec<(u64, Part, Leaf<'a>)>,
}

impl<'a> Walk<'a, '_> {
    /// Goes on along the parts of `shape`, to the first one that is not there. Returns whether the payload
    /// has this shape.
    fn follow(
        &mut self,
        shape: &Shape,
        read: impl Fn(Part, &'a [u8]) -> Option<(Leaf<'a>, &'a [u8])>,
    ) -> bool {
        let Some((before, parts)) = shape.parts.split_at_checked(self.parts) else {
            return false;
        };
        let mut literals_end = before.last().map_or(0, |placed| placed.literals_end);
        for placed in parts {
            let literal = literals_end as usize..placed.literals_end as usize;
            let literal = shape.literals.get(literal).unwrap_or_default();
            let found = self.rest.strip_prefix(literal);
            if found
                .and_then(|rest| self.part(placed.part, rest, &read))
                .is_none()
            {
                return false;
            }
            literals_end = placed.literals_end;
            self.parts += 1;
        }
        shape.literals.get(literals_end as usize..) == Some(self.rest)
    }

    /// Reads a part.
    #[inline]
    fn part(
        &mut self,
        part: Part,
        rest: &'a [u8],
        read: impl Fn(Part, &'a [u8]) -> Option<(Leaf<'a>, &'a [u8])>,
    ) -> Option<()> {
        match part {
            Part::Open => {
                let mut reader = Reader::new(rest);
                let length = usize::try_from(reader.shortest_varint()?).ok()?;
                self.nests.push(reader.remaining().checked_sub(length)?);
                self.rest = reader.rest();
            }
            Part::Close => {
                (self.nests.last() == Some(&rest.len())).then_some(())?;
                self.nests.pop();
                self.rest = rest;
            }
            _ => {
                let (leaf, after) = read(part, rest)?;
                // The path is known with the shape.
                self.leaves.push((0, part, leaf));
                self.rest = after;
            }
        }
        Some(())
    }
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
    nests: Vec<usize>,
    /// For each of the first shapes and each other one of them, see [`Shape::prefix`].
    prefixes: Vec<Vec<usize>>,
    shape_of_record: IntColumn,
    columns: HashMap<(u64, Part), u32>,
    ints: Vec<IntColumn>,
    bytes: Vec<BytesColumn<'a>>,
    records_expected: usize,
    /// The path of the strings that are not looked at unless there is no other way to shorten them.
    unexamined: Option<u64>,
}

impl<'a> ShapeEncoder<'a> {
    /// An encoder of about `records_expected` records.
    pub(super) fn new(records_expected: usize) -> ShapeEncoder<'a> {
        ShapeEncoder {
            records_expected,
            shape_of_record: IntColumn::with_capacity(records_expected),
            ..ShapeEncoder::default()
        }
    }

    /// The same, for records with ids of parents at `path`.
    pub(super) fn with_parents_at(mut self, path: u64) -> ShapeEncoder<'a> {
        self.unexamined = Some(path);
        self
    }

    #[inline]
    pub(super) fn literal(&mut self, bytes: &[u8]) {
        self.literals.extend_from_slice(bytes);
    }

    #[inline]
    pub(super) fn literal_varint(&mut self, value: u64) {
        self.literals.varint(value);
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

    /// Adds a record, whose parts `split` adds. It is called a second time, with `true`, when the paths of
    /// the leaves are needed, and not at all when the parts are known: `read` returns the value of a part
    /// that some bytes begin with, and what follows it, if they would be split so. `None` when `split` fails,
    /// or when the records are too diverse for shapes.
    pub(super) fn split_record(
        &mut self,
        payload: &'a [u8],
        read: impl Fn(Part, &'a [u8]) -> Option<(Leaf<'a>, &'a [u8])>,
        mut split: impl FnMut(&mut ShapeEncoder<'a>, bool) -> Option<()>,
    ) -> Option<()> {
        if let Some(index) = self.find_compared(payload, read) {
            return self.gather(index);
        }
        self.clear_record();
        split(self, false)?;
        let hash = self.shape_hash();
        let index = if let Some(index) = self.find_shape(hash) {
            index
        } else {
            self.clear_record();
            split(self, true)?;
            self.add_shape(hash)?
        };
        self.gather(index)
    }

    /// The shape of `payload`, if it is one of the first ones. The leaves are then those of the payload.
    ///
    /// When a part is not that of a shape, only a shape is left that begins with the same parts and goes on
    /// with another one. So the payload is read once, however many shapes there are.
    fn find_compared(
        &mut self,
        payload: &'a [u8],
        read: impl Fn(Part, &'a [u8]) -> Option<(Leaf<'a>, &'a [u8])>,
    ) -> Option<usize> {
        self.clear_record();
        let mut walk = Walk {
            rest: payload,
            parts: 0,
            nests: &mut self.nests,
            leaves: &mut self.leaves,
        };
        let mut left = 0..self.prefixes.len();
        let mut index = left.next()?;
        while !walk.follow(self.shapes.get(index)?, &read) {
            let prefixes = self.prefixes.get(index)?;
            index = left.find(|other| prefixes.get(*other) == Some(&walk.parts))?;
        }
        Some(index)
    }

    /// Discards the parts added since the last record.
    fn clear_record(&mut self) {
        self.literals.clear();
        self.parts.clear();
        self.nests.clear();
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
        self.clear_record();
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
            if next == COLUMNS_MAX {
                return None;
            }
            let next = u32::try_from(next).ok()?;
            let column = *self.columns.entry((*path, *part)).or_insert(next);
            if column == next {
                // Columns of the first shapes probably have a value of most records.
                let capacity = if self.columns.len() < CAPACITY_COLUMNS_MAX {
                    self.records_expected
                } else {
                    0
                };
                match part.column_kind()? {
                    ColumnKind::Ints => self.ints.push(IntColumn::with_capacity(capacity)),
                    ColumnKind::Bytes if self.unexamined == Some(*path) => {
                        self.bytes.push(BytesColumn::unexamined(capacity));
                    }
                    ColumnKind::Bytes => self.bytes.push(BytesColumn::with_capacity(capacity)),
                }
            }
            columns.push(column);
        }
        let shape = Shape {
            hash,
            literals: self.literals.as_slice().into(),
            parts: self.parts.as_slice().into(),
            columns: columns.into(),
        };
        if index < COMPARED_SHAPES {
            let prefixes: Vec<usize> = self.shapes.iter().map(|it| it.prefix(&shape)).collect();
            for (of_other, prefix) in self.prefixes.iter_mut().zip(&prefixes) {
                of_other.push(*prefix);
            }
            // It is never compared with itself.
            self.prefixes
                .push(prefixes.into_iter().chain([usize::MAX]).collect());
        }
        self.shapes.push(shape);
        let shapes = &self.shapes;
        self.shapes_by_hash.insert_unique(hash, index, |index| {
            shapes.get(*index).map_or(0, |shape| shape.hash)
        });
        Some(index)
    }

    /// The column of the leaves at `path`.
    pub(super) fn column_of(&self, path: u64, part: Part) -> Option<usize> {
        let column = self.columns.get(&(path, part))?;
        usize::try_from(*column).ok()
    }

    /// Whether every record has an id of its trace, one of its own and a start, and all ids have their usual
    /// length.
    fn have_lineage(&self, columns: &SpanColumns) -> bool {
        let is_complete = |shape: &Shape| {
            let count = |kind, wanted: usize| {
                let leaves = shape.leaves();
                let found = |(part, column): &(Part, usize)| {
                    part.column_kind() == Some(kind) && *column == wanted
                };
                leaves.filter(found).count()
            };
            let parents = columns.parent.map(|it| count(ColumnKind::Bytes, it));
            count(ColumnKind::Bytes, columns.trace) == 1
                && count(ColumnKind::Bytes, columns.span) == 1
                && count(ColumnKind::Ints, columns.start) == 1
                && parents.is_none_or(|parents| parents <= 1)
        };
        let are_long = |column: usize, length| {
            let values = self.bytes.get(column).map(BytesColumn::values);
            (values.unwrap_or_default().iter()).all(|id| id.len() == length)
        };
        let mut ids = [Some(columns.span), columns.parent].into_iter().flatten();
        self.shapes.iter().all(is_complete)
            && are_long(columns.trace, TRACE_ID_BYTES)
            && ids.all(|column| are_long(column, SPAN_ID_BYTES))
    }

    /// Ends collecting, and chooses the encodings of columns. Of spans, `spans` are the columns of their ids and
    /// starts.
    pub(super) fn finish(mut self, spans: Option<SpanColumns>) -> ShapedRecords<'a> {
        let spans = spans.filter(|columns| self.have_lineage(columns));
        let unexamined = self.unexamined.filter(|_| spans.is_none());
        if let Some(column) = unexamined
            .and_then(|path| self.column_of(path, Part::LengthDelimited))
            .and_then(|column| self.bytes.get_mut(column))
        {
            *column = column.examined();
        }
        ShapedRecords {
            spans,
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
    spans: Option<SpanColumns>,
    shape_of_record: IntColumn,
    ints: Vec<IntColumn>,
    strings: Vec<AnalysedStrings<'a>>,
}

/// The strings of a column.
#[derive(Debug, Clone, Copy)]
pub(super) struct DistinctStrings<'a, 's> {
    pub(super) values: &'s [&'a [u8]],
    /// The same texts, some of them less often.
    pub(super) texts: &'s [&'a [u8]],
    /// Whether no value is there twice. Otherwise some may be.
    pub(super) are_distinct: bool,
    /// Whether all are lowercase hex digits.
    pub(super) are_hex: bool,
}

impl Shape {
    /// The literal before part number `at`, or before the end.
    fn literal(&self, at: usize) -> Option<&[u8]> {
        let end_of = |placed: &Placed| placed.literals_end as usize;
        let start = at
            .checked_sub(1)
            .map_or(Some(0), |at| self.parts.get(at).map(end_of))?;
        let end = self.parts.get(at).map_or(self.literals.len(), end_of);
        self.literals.get(start..end)
    }

    /// The number of parts that this shape and another one begin with, with the literals before them.
    fn prefix(&self, other: &Shape) -> usize {
        let is_same = |at: &usize| {
            let part_of = |shape: &Shape| shape.parts.get(*at).map(|placed| placed.part);
            part_of(self) == part_of(other) && self.literal(*at) == other.literal(*at)
        };
        (0..self.parts.len()).take_while(is_same).count()
    }

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
            texts: column.texts(),
            are_distinct: distinct.is_some(),
            are_hex: column.is_hex(),
        })
    }

    /// Whether the columns of ids and starts have a lineage.
    pub(super) fn has_lineage(&self) -> bool {
        self.spans.is_some()
    }

    /// Writes all records with their keys, and returns the codec.
    pub(super) fn write(
        &self,
        timestamps: &[u64],
        sequences: &[u64],
        small: &mut Vec<u8>,
        sections: &mut Sections,
    ) -> Codec {
        let shapes = self.shape_of_record.values();
        let Some(columns) = self.spans else {
            pack::write(timestamps, None, small, sections);
            pack::write(sequences, None, small, sections);
            pack::write(shapes, None, small, sections);
            self.write_shapes(small);
            self.write_columns(None, timestamps, small, sections);
            return Codec::Packed;
        };
        pack::write(sequences, None, small, sections);
        let groups = lineage::write_keys(shapes, self.shapes.len(), timestamps, small, sections);
        self.write_shapes(small);
        let strings = |column: usize| self.strings.get(column).map(AnalysedStrings::values);
        let traces = self.strings.get(columns.trace);
        let parents = columns.parent.and_then(strings);
        small.varint(columns.parent.map_or(0, |column| column as u64 + 1));
        let have_parent = self.shapes.iter().map(|shape| {
            let mut leaves = shape.leaves();
            leaves.any(|(part, column)| {
                part.column_kind() == Some(ColumnKind::Bytes) && Some(column) == columns.parent
            })
        });
        let spans = SpanValues {
            shapes,
            groups: &groups,
            have_parent: have_parent.collect(),
            timestamps,
            traces: strings(columns.trace).unwrap_or_default(),
            trace_labels: traces.and_then(AnalysedStrings::labels),
            own_ids: strings(columns.span).unwrap_or_default(),
            parents: parents.unwrap_or_default(),
            starts: self.ints(columns.start).unwrap_or_default(),
        };
        spans.write(small, sections);
        self.write_columns(Some(columns), timestamps, small, sections);
        Codec::Spans
    }

    fn write_shapes(&self, small: &mut Vec<u8>) {
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
    }

    /// Writes the columns, without the values of those that have a lineage.
    fn write_columns(
        &self,
        spans: Option<SpanColumns>,
        timestamps: &[u64],
        small: &mut Vec<u8>,
        sections: &mut Sections,
    ) {
        small.varint(self.ints.len() as u64);
        for (column, number) in self.ints.iter().zip(0..) {
            let values = column.values();
            if spans.is_some_and(|spans| spans.start == number) {
                small.varint(values.len() as u64);
                small.push(order::LINEAGE);
                continue;
            }
            let users = self.users(ColumnKind::Ints, number);
            let order = self.order_by_shape(&users, values);
            small.varint(values.len() as u64);
            small.push(order::of(order.is_some()));
            let is_of_each = users.len() == self.shapes.len() && values.len() == timestamps.len();
            let timestamps = (is_of_each && order.is_none()).then_some(timestamps);
            pack::write(
                &ordered(values, order.as_deref()),
                timestamps,
                small,
                sections,
            );
        }
        small.varint(self.strings.len() as u64);
        for (column, number) in self.strings.iter().zip(0..) {
            if let Some(id) = spans.and_then(|spans| spans.id_of(number)) {
                small.varint(column.len() as u64);
                small.push(order::LINEAGE);
                small.push(id as u8);
                continue;
            }
            let order = column.indexes().and_then(|indexes| {
                self.order_by_shape(&self.users(ColumnKind::Bytes, number), indexes)
            });
            small.varint(column.len() as u64);
            small.push(order::of(order.is_some()));
            column.write(order.as_deref(), small, sections);
        }
    }

    /// The shapes with values in a column, and how many of them each record has.
    fn users(&self, kind: ColumnKind, column: usize) -> Vec<(usize, usize)> {
        let of_shape = |(index, shape): (usize, &Shape)| {
            let leaves = shape.leaves();
            let values = leaves
                .filter(|(part, other)| part.column_kind() == Some(kind) && *other == column)
                .count();
            (values > 0).then_some((index, values))
        };
        self.shapes
            .iter()
            .enumerate()
            .filter_map(of_shape)
            .collect()
    }

    /// The order of a column's values by the shapes of their records, if neighbours are then alike: in many
    /// columns, all values of a shape are the same.
    fn order_by_shape(&self, users: &[(usize, usize)], values: &[u64]) -> Option<Vec<usize>> {
        let before = changes(values.iter());
        if users.len() < 2 || before < values.len() / 16 {
            return None;
        }
        // Values of a wide range are rarely alike.
        if pack::range(values) > 255 {
            return None;
        }
        let mut places: Vec<Vec<usize>> = vec![Vec::new(); self.shapes.len()];
        let mut counts = vec![0; self.shapes.len()];
        for (shape, count) in users {
            *counts.get_mut(*shape)? = *count;
        }
        let mut next = 0;
        for shape in self.shape_of_record.values() {
            let shape = usize::try_from(*shape).ok()?;
            for _ in 0..*counts.get(shape)? {
                places.get_mut(shape)?.push(next);
                next += 1;
            }
        }
        let order = places.concat();
        let after = changes(order.iter().filter_map(|at| values.get(*at)));
        (after * 2 < before).then_some(order)
    }
}

/// The order of the values of a column.
mod order {
    pub(super) const RECORDS: u8 = 0;
    pub(super) const SHAPES: u8 = 1;
    /// That of the records, and the values have a lineage.
    pub(super) const LINEAGE: u8 = 2;

    pub(super) fn of(is_by_shape: bool) -> u8 {
        if is_by_shape { SHAPES } else { RECORDS }
    }
}

/// The number of values that differ from the one before.
fn changes<'v>(values: impl Iterator<Item = &'v u64>) -> usize {
    let mut last = None;
    values
        .filter(|value| last.replace(**value) != Some(**value))
        .count()
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
    /// The entry of [`Shaped::starts`] for its values.
    pub(super) slot: usize,
}

/// The shapes and columns of a body. Columns are inflated and decoded when they are first needed.
pub(super) struct Shaped<'a> {
    pub(super) shapes: Vec<DecodedShape<'a>>,
    pub(super) shape_of_record: Rc<[u16]>,
    pub(super) ints: Vec<Ints<'a>>,
    pub(super) strings: Vec<Strings<'a>>,
    /// Where the values of parts begin in their columns, see [`PlacedPart::slot`].
    pub(super) starts: Vec<usize>,
    /// The number of records of each shape.
    records: Vec<usize>,
}

impl<'a> Shaped<'a> {
    /// Opens the shapes and columns of a block of `count` records with these timestamps, in their order, and
    /// at most `payload_bytes` bytes of payload. Of a block in which fewer records will be wanted, their
    /// timestamps and those before them back to a multiple of [`RUN`](pack::RUN) suffice. `shapes` are those of the
    /// records, if they are known.
    pub(super) fn open(
        codec: Codec,
        sections: &'a PackedSections<'a>,
        count: usize,
        timestamps: Decoded<'a>,
        shapes: Option<Rc<[u16]>>,
        payload_bytes: usize,
    ) -> Option<Shaped<'a>> {
        let is_packed = codec.is_packed();
        let mut groups = None;
        let (mut small, shape_of_record, mut columns) = if is_packed {
            let mut small = Reader::new(sections.get(0)?);
            let mut columns = Section::all_from(sections, 1);
            let mut skip =
                || Ints::read_packed(&mut small, &mut columns, count, Decoded::default());
            // The keys.
            skip()?;
            let shapes: Rc<[u16]> = if codec == Codec::Spans {
                let keys = lineage::Keys::read(&mut small, &mut columns, count)?;
                let shapes = match shapes {
                    Some(shapes) => shapes,
                    None => keys.decode(0)?.0,
                };
                groups = Some(keys.groups);
                shapes
            } else {
                skip()?;
                narrow(skip()?.decoded()?.part(0..count)?)?
            };
            (small, shapes, columns)
        } else {
            let small = Reader::new(sections.get(2)?);
            let shapes = read_ints(&mut Reader::new(sections.get(3)?), count)?;
            let shapes = narrow(shapes.into_iter())?;
            (small, shapes, Section::all_from(sections, 4))
        };
        let shapes = small.length().filter(|shapes| *shapes <= SHAPES_MAX)?;
        let shapes = (0..shapes)
            .map(|_| read_shape(&mut small))
            .collect::<Option<Vec<DecodedShape<'_>>>>()?;
        // Every value takes at least one byte of a payload, which bounds the length of all columns.
        let mut values_left = payload_bytes;
        // So does every variable of a template.
        let mut variables_left = payload_bytes;
        let mut head = |small: &mut Reader<'_>| {
            let count = small.length()?;
            values_left = values_left.checked_sub(count)?;
            let order = if is_packed {
                small.u8()?
            } else {
                order::RECORDS
            };
            Some((count, order))
        };
        let lineage = match groups {
            None => None,
            Some(groups) => {
                let of_records = Rc::clone(&shape_of_record);
                let parent = small.length()?;
                let have_parent = have_parent(&shapes, parent);
                let lineage = Lineage::read(
                    &mut small,
                    &mut columns,
                    of_records,
                    groups,
                    have_parent,
                    timestamps,
                )?;
                Some(Rc::new(lineage))
            }
        };
        let mut opened = Shaped {
            shapes,
            shape_of_record,
            ints: Vec::new(),
            strings: Vec::new(),
            starts: Vec::new(),
            records: Vec::new(),
        };
        let mut orders = Vec::new();
        let columns_max = if is_packed {
            COLUMNS_MAX
        } else {
            columns.size_hint().0
        };
        for _ in 0..small.length().filter(|it| *it <= columns_max)? {
            let (count, order) = head(&mut small)?;
            orders.push((ColumnKind::Ints, order == order::SHAPES));
            opened.ints.push(if order == order::LINEAGE {
                Ints::with_lineage(Rc::clone(lineage.as_ref()?), count)
            } else if is_packed {
                Ints::read_packed(&mut small, &mut columns, count, timestamps)?
            } else {
                Ints::new(columns.next()?, count)
            });
        }
        for _ in 0..small.length().filter(|it| *it <= columns_max)? {
            let (count, order) = head(&mut small)?;
            orders.push((ColumnKind::Bytes, order == order::SHAPES));
            opened.strings.push(if order == order::LINEAGE {
                let id = SpanId::from_code(small.u8()?)?;
                Strings::with_lineage(Rc::clone(lineage.as_ref()?), id, count)
            } else if is_packed {
                Strings::read_packed(&mut small, &mut columns, count, &mut variables_left)?
            } else {
                Strings::read(&mut small, columns.next()?, count)?
            });
        }
        opened.place(&orders)?;
        Some(opened)
    }

    /// Gives each part with values a slot: one for all parts of a column in the order of records, and one
    /// for each shape of a column in the order of shapes.
    fn place(&mut self, orders: &[(ColumnKind, bool)]) -> Option<()> {
        self.records = self.count(0..self.shape_of_record.len())?;
        let ints = self.ints.len();
        self.starts = vec![0; orders.len()];
        // The number of values of earlier shapes.
        let mut placed = vec![0usize; orders.len()];
        for (shape, records) in self.shapes.iter_mut().zip(&self.records) {
            let mut slots: HashMap<usize, usize> = HashMap::new();
            for part in &mut shape.parts {
                let column = match part.part.column_kind() {
                    None => continue,
                    Some(ColumnKind::Ints) if part.column < ints => part.column,
                    Some(ColumnKind::Ints) => return None,
                    Some(ColumnKind::Bytes) => ints.checked_add(part.column)?,
                };
                let (_, is_by_shape) = orders.get(column)?;
                if !is_by_shape {
                    part.slot = column;
                    continue;
                }
                part.slot = *slots.entry(column).or_insert_with(|| {
                    self.starts
                        .push(placed.get(column).copied().unwrap_or_default());
                    self.starts.len() - 1
                });
                *placed.get_mut(column)? += records;
            }
        }
        Some(())
    }

    /// The shape of a record.
    #[inline]
    pub(super) fn shape_of(&self, record: usize) -> Option<usize> {
        Some(usize::from(*self.shape_of_record.get(record)?))
    }

    /// The number of records of each shape in `range`.
    fn count(&self, range: Range<usize>) -> Option<Vec<usize>> {
        let mut counts = vec![0usize; self.shapes.len()];
        for shape in self.shape_of_record.get(range)? {
            *counts.get_mut(usize::from(*shape))? += 1;
        }
        Some(counts)
    }

    /// The number of records of each shape before a record, counted from the nearer end.
    fn count_before(&self, record: usize) -> Option<Vec<usize>> {
        let all = self.shape_of_record.len();
        if record <= all - record.min(all) {
            return self.count(0..record);
        }
        let after = self.count(record..all)?;
        let before = self.records.iter().zip(after);
        before.map(|(all, after)| all.checked_sub(after)).collect()
    }

    /// The index of the first value of each slot that belongs to `record` or to one after it.
    pub(super) fn values_before(&self, record: usize) -> Option<Vec<usize>> {
        let mut starts = self.starts.clone();
        if record > 0 {
            for (shape, before) in self.shapes.iter().zip(self.count_before(record)?) {
                for part in shape.leaves() {
                    *starts.get_mut(part.slot)? += before;
                }
            }
        }
        Some(starts)
    }

    /// Says that no records but those in `range` will be read, so that only the values near to theirs are
    /// decoded.
    pub(super) fn want(&self, range: Range<usize>) -> Option<()> {
        let within = self.count(range.clone())?;
        let counts = self.count_before(range.start)?.into_iter().zip(within);
        // A column in the order of shapes is needed at several places, and stays wanted as a whole.
        let mut wanted = vec![None; self.ints.len() + self.strings.len()];
        for (shape, (before, within)) in self.shapes.iter().zip(counts) {
            for part in shape.leaves() {
                if let Some(wanted) = wanted.get_mut(part.slot) {
                    let (start, length) = wanted.unwrap_or((0, 0));
                    *wanted = Some((start + before, length + within));
                }
            }
        }
        let mut ranges = wanted
            .into_iter()
            .map(|it| it.map(|(start, length)| start..start + length));
        for (column, range) in self.ints.iter().zip(ranges.by_ref()) {
            if let Some(range) = range {
                column.want(range);
            }
        }
        for (column, range) in self.strings.iter().zip(ranges) {
            if let Some(range) = range {
                column.want(range);
            }
        }
        Some(())
    }
}

/// Whether each shape has a value in the column of strings number `parent` - 1.
fn have_parent(shapes: &[DecodedShape<'_>], parent: usize) -> Vec<bool> {
    let wanted = parent
        .checked_sub(1)
        .map(|column| (ColumnKind::Bytes, column));
    let has_it = |shape: &DecodedShape<'_>| {
        let mut leaves = shape.leaves();
        wanted.is_some() && leaves.any(|part| part.column_id() == wanted)
    };
    shapes.iter().map(has_it).collect()
}

/// Indexes of shapes, which are few.
fn narrow(shapes: impl Iterator<Item = u64>) -> Option<Rc<[u16]>> {
    shapes.map(|shape| u16::try_from(shape).ok()).collect()
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
            slot: 0,
        });
    }
    Some(DecodedShape { literals, parts })
}
