//! The columns of rows that wait to be written as a row group.
//!
//! A row group is written column by column, so its values wait in memory: texts as [`Texts`] has them, with the levels
//! that say where a row, a list and a map begin.
//!
//! | column | path of a leaf | levels |
//! |---|---|---|
//! | [`Flat`] | `NAME` | none |
//! | [`List`] | `NAME.list.element` | one |
//! | [`Map`], [`RepeatedMap`] | `NAME.key_value.key` and `.value` | one |
//! | [`MapList`] | `NAME.list.element.key_value.key` and `.value` | two |

use crate::{
    chunk::{Chunk, Packer, Paging},
    texts::{Texts, Value, append_plain, plain_texts},
};
use bytes::Bytes;
use parquet::{
    basic::{Encoding, LogicalType, Repetition, TimeUnit, Type as PhysicalType},
    column::writer::ColumnCloseResult,
    data_type::DataType,
    errors::{ParquetError, Result},
    file::{
        properties::{EnabledStatistics, WriterPropertiesBuilder},
        writer::{SerializedColumnWriter, SerializedRowGroupWriter},
    },
    schema::types::{ColumnDescPtr, ColumnPath, Type, TypePtr},
};
use std::{fmt, io::Write, sync::Arc};

/// The number of levels that are passed to an encoder of numbers at a time.
const BATCH: usize = 4096;

/// The leaves of a row group that is being written, one after the other.
pub(crate) trait Leaves {
    /// The next leaf, which `parquet` encodes.
    fn writer(&mut self) -> Result<SerializedColumnWriter<'_>>;
    /// The next leaf, which is passed to [`Leaves::append`] when it is finished.
    fn chunk(&mut self) -> Result<Chunk<'_>>;
    fn append(&mut self, bytes: Bytes, result: ColumnCloseResult) -> Result<()>;
}

/// A row group that is being written.
pub(crate) struct Group<'a, W: Write> {
    pub(crate) writer: SerializedRowGroupWriter<'a, W>,
    pub(crate) columns: &'a [ColumnDescPtr],
    pub(crate) packer: &'a mut Packer,
}

impl<W: Write + Send> Group<'_, W> {
    fn next(&mut self) -> Result<ColumnDescPtr> {
        let (next, others) = self.columns.split_first().ok_or_else(|| {
            ParquetError::General("the schema has fewer columns than the rows".into())
        })?;
        self.columns = others;
        Ok(Arc::clone(next))
    }
}

impl<W: Write + Send> Leaves for Group<'_, W> {
    fn writer(&mut self) -> Result<SerializedColumnWriter<'_>> {
        let column = self.next()?;
        let writer = self.writer.next_column()?;
        writer.ok_or_else(|| ParquetError::General(format!("no column {}", column.path())))
    }

    fn chunk(&mut self) -> Result<Chunk<'_>> {
        Ok(Chunk::begin(self.next()?, self.packer))
    }

    fn append(&mut self, bytes: Bytes, result: ColumnCloseResult) -> Result<()> {
        self.writer.append_column(&bytes, result)
    }
}

/// A column of a table.
pub(crate) trait Column: Send {
    /// Its type in the schema.
    fn field(&self, name: &str) -> Result<TypePtr>;
    /// How `parquet` encodes its leaves, if it does.
    fn configure(
        &self,
        _name: &str,
        properties: WriterPropertiesBuilder,
    ) -> WriterPropertiesBuilder {
        properties
    }
    /// The size of its values and levels in memory, in bytes.
    fn bytes(&self) -> usize;
    /// Writes its leaves, and is then empty.
    fn write(&mut self, leaves: &mut dyn Leaves) -> Result<()>;
}

/// The values of a leaf.
pub(crate) trait Content: Send {
    fn leaf(&self, name: &str) -> Result<TypePtr>;
    /// How `parquet` encodes it, if it does.
    fn configure(
        &self,
        _path: ColumnPath,
        properties: WriterPropertiesBuilder,
    ) -> WriterPropertiesBuilder {
        properties
    }
    fn bytes(&self) -> usize;
    fn write(&mut self, levels: Option<&Levels>, leaves: &mut dyn Leaves) -> Result<()>;
}

/// What the numbers of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Nanoseconds since 1970 in UTC.
    Time,
    /// An unsigned integer of this number of bits.
    Unsigned(i8),
    /// What the physical type says.
    Plain,
}

/// Numbers and truth values.
pub(crate) struct Numbers<D: DataType> {
    values: Vec<D::T>,
    meaning: Meaning,
}

// Not derived: that would ask the same of `D`, which is only a type.
impl<D: DataType> fmt::Debug for Numbers<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Numbers")
            .field("meaning", &self.meaning)
            .field("len", &self.values.len())
            .finish_non_exhaustive()
    }
}

impl<D: DataType> Numbers<D> {
    pub(crate) fn of(meaning: Meaning) -> Numbers<D> {
        Numbers {
            values: Vec::new(),
            meaning,
        }
    }

    pub(crate) fn push(&mut self, value: D::T) {
        self.values.push(value);
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }
}

impl<D: DataType> Content for Numbers<D> {
    fn leaf(&self, name: &str) -> Result<TypePtr> {
        let logical = match self.meaning {
            // Not adjusted to UTC by a reader: the exporter's column has no zone either, and a reader with one
            // would show another day than that of the folder.
            Meaning::Time => Some(LogicalType::timestamp(false, TimeUnit::NANOS)),
            Meaning::Unsigned(bits) => Some(LogicalType::integer(bits, false)),
            Meaning::Plain => None,
        };
        let leaf = Type::primitive_type_builder(name, D::get_physical_type())
            .with_repetition(Repetition::REQUIRED)
            .with_logical_type(logical);
        Ok(Arc::new(leaf.build()?))
    }

    fn configure(
        &self,
        path: ColumnPath,
        properties: WriterPropertiesBuilder,
    ) -> WriterPropertiesBuilder {
        // Times and sizes are distinct and near each other.
        if D::get_physical_type() != PhysicalType::INT64 {
            return properties;
        }
        let properties = properties
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_encoding(path.clone(), Encoding::DELTA_BINARY_PACKED);
        if self.meaning == Meaning::Time {
            properties.set_column_statistics_enabled(path, EnabledStatistics::Page)
        } else {
            properties
        }
    }

    fn bytes(&self) -> usize {
        self.values.len() * size_of::<D::T>()
    }

    fn write(&mut self, levels: Option<&Levels>, leaves: &mut dyn Leaves) -> Result<()> {
        let values = std::mem::take(&mut self.values);
        let mut leaf = leaves.writer()?;
        let writer = leaf.typed::<D>();
        let Some(levels) = levels else {
            writer.write_batch(&values, None, None)?;
            return leaf.close();
        };
        let mut values = values.as_slice();
        let (mut definition, mut repetition) = (Vec::new(), Vec::new());
        for chunk in levels.chunks() {
            for (levels, of) in [
                (&mut definition, Levels::definition as fn(u8) -> u8),
                (&mut repetition, Levels::repetition),
            ] {
                levels.clear();
                levels.extend(chunk.iter().map(|level| i16::from(of(*level))));
            }
            let written = writer.write_batch(values, Some(&definition), Some(&repetition))?;
            values = values.get(written..).unwrap_or_default();
        }
        leaf.close()
    }
}

/// Where rows, lists and maps begin: for each value, and for each list or map without one, how deep it is defined
/// and at which level it repeats, in the lower and the upper half of a byte.
#[derive(Debug)]
pub(crate) struct Levels {
    levels: Vec<u8>,
    /// The definition level of a value.
    depth: u8,
}

impl Levels {
    fn new(depth: u8) -> Levels {
        Levels {
            levels: Vec::new(),
            depth,
        }
    }

    pub(crate) fn definition(level: u8) -> u8 {
        level & 0xf
    }

    pub(crate) fn repetition(level: u8) -> u8 {
        level >> 4
    }

    fn push(&mut self, definition: u8, repetition: u8) {
        self.levels.push(definition | (repetition << 4));
    }

    fn bytes(&self) -> usize {
        self.levels.len()
    }

    fn clear(&mut self) {
        self.levels = Vec::new();
    }

    pub(crate) fn paging(&self) -> Paging<'_> {
        Paging::Nested(&self.levels, self.depth)
    }

    /// The number of values before value number `value` that belong to its row.
    pub(crate) fn values_of_row_before(&self, value: usize) -> Option<usize> {
        let is_value = |level: &u8| Levels::definition(*level) == self.depth;
        let levels = self.levels.iter().enumerate();
        let mut values = levels.filter(|(_, level)| is_value(level));
        let (at, _) = values.nth(value)?;
        let until = self.levels.get(..=at)?;
        let row = until
            .iter()
            .rposition(|level| Levels::repetition(*level) == 0)?;
        Some(
            until
                .get(row..at)?
                .iter()
                .filter(|level| is_value(level))
                .count(),
        )
    }

    /// The levels in chunks of whole rows.
    fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        let mut left = self.levels.as_slice();
        std::iter::from_fn(move || {
            let later = left.get(BATCH..).unwrap_or_default();
            let row = later
                .iter()
                .position(|level| Levels::repetition(*level) == 0);
            let (chunk, others) =
                left.split_at_checked(row.map_or(left.len(), |row| BATCH + row))?;
            left = others;
            (!chunk.is_empty()).then_some(chunk)
        })
    }
}

/// A column with one value a row.
#[derive(Debug, Default)]
pub(crate) struct Flat<C>(pub(crate) C);

impl<C: Content> Column for Flat<C> {
    fn field(&self, name: &str) -> Result<TypePtr> {
        self.0.leaf(name)
    }

    fn configure(
        &self,
        name: &str,
        properties: WriterPropertiesBuilder,
    ) -> WriterPropertiesBuilder {
        self.0
            .configure(ColumnPath::new(vec![name.to_owned()]), properties)
    }

    fn bytes(&self) -> usize {
        self.0.bytes()
    }

    fn write(&mut self, leaves: &mut dyn Leaves) -> Result<()> {
        self.0.write(None, leaves)
    }
}

/// A column with a list of values a row.
#[derive(Debug)]
pub(crate) struct List<C> {
    content: C,
    levels: Levels,
}

impl<C: Content> List<C> {
    pub(crate) fn of(content: C) -> List<C> {
        List {
            content,
            levels: Levels::new(1),
        }
    }

    /// Adds a row with the values that `push` adds for `items`.
    pub(crate) fn row<T, R>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        mut push: impl FnMut(&mut C, T) -> R,
    ) {
        let mut repetition = 0;
        for item in items {
            push(&mut self.content, item);
            self.levels.push(1, repetition);
            repetition = 1;
        }
        if repetition == 0 {
            self.levels.push(0, 0);
        }
    }
}

impl<C: Content> Column for List<C> {
    fn field(&self, name: &str) -> Result<TypePtr> {
        list(name, self.content.leaf("element")?)
    }

    fn configure(
        &self,
        name: &str,
        properties: WriterPropertiesBuilder,
    ) -> WriterPropertiesBuilder {
        self.content
            .configure(path(name, &["list", "element"]), properties)
    }

    fn bytes(&self) -> usize {
        self.content.bytes() + self.levels.bytes()
    }

    fn write(&mut self, leaves: &mut dyn Leaves) -> Result<()> {
        self.content.write(Some(&self.levels), leaves)?;
        self.levels.clear();
        Ok(())
    }
}

/// Keys and values of maps.
#[derive(Debug, Default)]
struct Entries {
    keys: Texts,
    values: Texts,
}

impl Entries {
    fn field(&self, name: &str) -> Result<TypePtr> {
        let entry = Type::group_type_builder("key_value")
            .with_repetition(Repetition::REPEATED)
            .with_fields(vec![self.keys.leaf("key")?, self.values.leaf("value")?])
            .build()?;
        let map = Type::group_type_builder(name)
            .with_repetition(Repetition::REQUIRED)
            .with_logical_type(Some(LogicalType::Map))
            .with_fields(vec![Arc::new(entry)]);
        Ok(Arc::new(map.build()?))
    }

    /// Adds a map with the entries that `fill` adds; `repetition` is the level of its first one.
    fn fill(
        &mut self,
        levels: &mut Levels,
        repetition: u8,
        fill: impl FnOnce(&mut EntriesRow<'_>),
    ) {
        let mut row = EntriesRow {
            entries: self,
            levels,
            repetition,
            is_empty: true,
        };
        fill(&mut row);
        row.end();
    }

    fn bytes(&self) -> usize {
        self.keys.bytes() + self.values.bytes()
    }

    fn write(&mut self, levels: &mut Levels, leaves: &mut dyn Leaves) -> Result<()> {
        self.keys.write(Some(levels), leaves)?;
        self.values.write(Some(levels), leaves)?;
        levels.clear();
        Ok(())
    }
}

/// A map that is being filled.
pub(crate) trait MapRow {
    /// Adds an entry whose value is the text that `write` appends.
    fn entry(&mut self, key: &str, write: impl FnOnce(&mut Vec<u8>));

    fn text(&mut self, key: &str, value: &str) {
        self.entry(key, |out| out.extend_from_slice(value.as_bytes()));
    }
}

/// The map of a row, which is being filled.
pub(crate) struct EntriesRow<'a> {
    entries: &'a mut Entries,
    levels: &'a mut Levels,
    /// The repetition level of the next entry.
    repetition: u8,
    is_empty: bool,
}

impl EntriesRow<'_> {
    fn begin_entry(&mut self) {
        let depth = self.levels.depth;
        self.levels.push(depth, self.repetition);
        self.repetition = depth;
        self.is_empty = false;
    }

    /// Adds the entries of a map of a [`RepeatedMap`]. Returns their numbers, if all of them can be repeated.
    fn plain(&mut self, map: &[u8]) -> Option<Vec<(u32, u32)>> {
        let mut numbers = Some(Vec::new());
        let mut texts = plain_texts(map);
        while let (Some(key), Some(value)) = (texts.next(), texts.next()) {
            self.begin_entry();
            let key = self.entries.keys.push_bytes(key);
            let value = self.entries.values.push_bytes(value);
            match (&mut numbers, key, value) {
                (Some(numbers), Some(key), Some(value)) => numbers.push((key, value)),
                _ => numbers = None,
            }
        }
        numbers
    }

    fn again(&mut self, (key, value): (u32, u32)) {
        self.begin_entry();
        self.entries.keys.push_again(key);
        self.entries.values.push_again(value);
    }

    fn end(self) {
        if self.is_empty {
            self.levels.push(self.levels.depth - 1, self.repetition);
        }
    }
}

impl MapRow for EntriesRow<'_> {
    fn entry(&mut self, key: &str, write: impl FnOnce(&mut Vec<u8>)) {
        self.begin_entry();
        self.entries.keys.push(key);
        self.entries.values.push_with(write);
    }

    fn text(&mut self, key: &str, value: &str) {
        self.begin_entry();
        self.entries.keys.push(key);
        self.entries.values.push(value);
    }
}

/// A column with a map of texts a row.
#[derive(Debug)]
pub(crate) struct Map {
    entries: Entries,
    levels: Levels,
}

impl Default for Map {
    fn default() -> Map {
        Map {
            entries: Entries::default(),
            levels: Levels::new(1),
        }
    }
}

impl Map {
    /// Adds a row, to whose map `fill` adds entries.
    pub(crate) fn row(&mut self, fill: impl FnOnce(&mut EntriesRow<'_>)) {
        self.entries.fill(&mut self.levels, 0, fill);
    }
}

impl Column for Map {
    fn field(&self, name: &str) -> Result<TypePtr> {
        self.entries.field(name)
    }

    fn bytes(&self) -> usize {
        self.entries.bytes() + self.levels.bytes()
    }

    fn write(&mut self, leaves: &mut dyn Leaves) -> Result<()> {
        self.entries.write(&mut self.levels, leaves)
    }
}

/// A column with a map of texts a row, of which few are distinct.
#[derive(Debug, Default)]
pub(crate) struct RepeatedMap {
    /// Each map as the keys and values of its entries, with their lengths.
    maps: Texts,
}

/// The map of a row of a [`RepeatedMap`], which is being filled.
pub(crate) struct PlainRow<'a>(&'a mut Vec<u8>);

impl MapRow for PlainRow<'_> {
    fn entry(&mut self, key: &str, write: impl FnOnce(&mut Vec<u8>)) {
        append_plain(self.0, |out| out.extend_from_slice(key.as_bytes()));
        append_plain(self.0, write);
    }
}

impl RepeatedMap {
    /// Adds a row, to whose map `fill` adds entries. Returns the number of the map, if it can be repeated.
    pub(crate) fn row(&mut self, fill: impl FnOnce(&mut PlainRow<'_>)) -> Option<u32> {
        self.maps.push_with(|out| fill(&mut PlainRow(out)))
    }

    /// Adds a row with the map of this number.
    pub(crate) fn row_again(&mut self, map: u32) {
        self.maps.push_again(map);
    }
}

impl Column for RepeatedMap {
    fn field(&self, name: &str) -> Result<TypePtr> {
        Entries::default().field(name)
    }

    fn bytes(&self) -> usize {
        self.maps.bytes()
    }

    fn write(&mut self, leaves: &mut dyn Leaves) -> Result<()> {
        let maps = std::mem::take(&mut self.maps);
        let mut column = Map::default();
        // The entries of the maps so far, if all of them can be repeated.
        let mut known: Vec<Option<Vec<(u32, u32)>>> = Vec::new();
        for map in maps.values() {
            column.row(|row| match map {
                Value::Text(text) => {
                    row.plain(text);
                }
                Value::Entry(number) => match known.get(number as usize) {
                    Some(Some(entries)) => entries.iter().for_each(|entry| row.again(*entry)),
                    Some(None) => {
                        row.plain(maps.text(number).unwrap_or_default());
                    }
                    // Numbers are in the order of their first use.
                    None => known.push(row.plain(maps.text(number).unwrap_or_default())),
                },
            });
        }
        column.write(leaves)
    }
}

/// A column with a list of maps of texts a row.
#[derive(Debug)]
pub(crate) struct MapList {
    entries: Entries,
    levels: Levels,
}

impl Default for MapList {
    fn default() -> MapList {
        MapList {
            entries: Entries::default(),
            levels: Levels::new(2),
        }
    }
}

impl MapList {
    /// Adds a row with a map for each of `items`, to which `fill` adds entries.
    pub(crate) fn row<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        mut fill: impl FnMut(&mut EntriesRow<'_>, T),
    ) {
        let mut repetition = 0;
        for item in items {
            self.entries
                .fill(&mut self.levels, repetition, |row| fill(row, item));
            repetition = 1;
        }
        if repetition == 0 {
            self.levels.push(0, 0);
        }
    }
}

impl Column for MapList {
    fn field(&self, name: &str) -> Result<TypePtr> {
        list(name, self.entries.field("element")?)
    }

    fn bytes(&self) -> usize {
        self.entries.bytes() + self.levels.bytes()
    }

    fn write(&mut self, leaves: &mut dyn Leaves) -> Result<()> {
        self.entries.write(&mut self.levels, leaves)
    }
}

/// The type of a list with this element.
fn list(name: &str, element: TypePtr) -> Result<TypePtr> {
    let items = Type::group_type_builder("list")
        .with_repetition(Repetition::REPEATED)
        .with_fields(vec![element])
        .build()?;
    let list = Type::group_type_builder(name)
        .with_repetition(Repetition::REQUIRED)
        .with_logical_type(Some(LogicalType::List))
        .with_fields(vec![Arc::new(items)]);
    Ok(Arc::new(list.build()?))
}

fn path(name: &str, below: &[&str]) -> ColumnPath {
    let names = std::iter::once(name).chain(below.iter().copied());
    ColumnPath::new(names.map(str::to_owned).collect())
}
