//! The columns of rows that wait to be written as a row group.
//!
//! A row group is written column by column, so its values wait in memory. They wait as the plain bytes that Parquet
//! encodes, with the levels that say where a row, a list and a map begin: no column is built twice.
//!
//! | column | path of a leaf | levels |
//! |---|---|---|
//! | [`Flat`] | `NAME` | none |
//! | [`List`] | `NAME.list.element` | one |
//! | [`Map`] | `NAME.key_value.key` and `.value` | one |
//! | [`MapList`] | `NAME.list.element.key_value.key` and `.value` | two |

use bytes::Bytes;
use gridctl_telemetry::traces::encode_hex;
use parquet::{
    basic::{Encoding, LogicalType, Repetition, TimeUnit, Type as PhysicalType},
    data_type::{ByteArray, ByteArrayType, DataType},
    errors::{ParquetError, Result},
    file::{
        properties::{EnabledStatistics, WriterPropertiesBuilder},
        writer::{SerializedColumnWriter, SerializedRowGroupWriter},
    },
    schema::types::{ColumnPath, Type, TypePtr},
};
use std::{fmt, io::Write, sync::Arc};

/// The number of levels or values that are passed to an encoder at a time.
const BATCH: usize = 4096;
/// How often a Bloom filter takes an absent value for a present one.
const FALSE_POSITIVES: f64 = 0.01;

/// The next leaf of a row group that is being written.
pub(crate) trait Leaves {
    fn next(&mut self) -> Result<SerializedColumnWriter<'_>>;
}

impl<W: Write + Send> Leaves for SerializedRowGroupWriter<'_, W> {
    fn next(&mut self) -> Result<SerializedColumnWriter<'_>> {
        self.next_column()?.ok_or_else(|| {
            ParquetError::General("the schema has fewer columns than the rows".into())
        })
    }
}

/// A column of a table.
pub(crate) trait Column {
    /// Its type in the schema.
    fn field(&self, name: &str) -> Result<TypePtr>;
    /// How its leaves are encoded.
    fn configure(&self, name: &str, properties: WriterPropertiesBuilder)
    -> WriterPropertiesBuilder;
    /// The size of its values and levels in memory, in bytes.
    fn bytes(&self) -> usize;
    /// Writes its leaves, and is then empty.
    fn write(&mut self, leaves: &mut dyn Leaves) -> Result<()>;
}

/// How a column is encoded where that differs from a dictionary, zstd and the least and greatest value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Kind {
    /// Few distinct values.
    #[default]
    Repeated,
    /// Mostly distinct texts, but with common beginnings or lengths.
    Varied,
    /// Mostly distinct ids.
    Ids,
    /// Mostly distinct ids by which rows are looked for.
    Key,
}

/// The values of a leaf.
pub(crate) trait Content {
    fn leaf(&self, name: &str) -> Result<TypePtr>;
    fn configure(
        &self,
        path: ColumnPath,
        properties: WriterPropertiesBuilder,
    ) -> WriterPropertiesBuilder;
    fn bytes(&self) -> usize;
    fn write(&mut self, levels: Option<&Levels>, leaves: &mut dyn Leaves) -> Result<()>;
}

/// Texts.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    bytes: Vec<u8>,
    lengths: Vec<u32>,
    kind: Kind,
}

impl Texts {
    pub(crate) fn of(kind: Kind) -> Texts {
        Texts {
            kind,
            ..Texts::default()
        }
    }

    pub(crate) fn push(&mut self, text: &str) {
        self.push_with(|out| out.extend_from_slice(text.as_bytes()));
    }

    /// Pushes the text that `write` appends.
    pub(crate) fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        // No record is as long as 4 GiB.
        let length = u32::try_from(self.bytes.len() - start).unwrap_or_default();
        self.lengths.push(length);
    }

    /// Pushes an id as hex digits.
    pub(crate) fn push_hex(&mut self, id: &[u8]) {
        self.push_with(|out| encode_hex(id, out));
    }
}

impl Content for Texts {
    fn leaf(&self, name: &str) -> Result<TypePtr> {
        let leaf = Type::primitive_type_builder(name, PhysicalType::BYTE_ARRAY)
            .with_repetition(Repetition::REQUIRED)
            .with_logical_type(Some(LogicalType::String));
        Ok(Arc::new(leaf.build()?))
    }

    fn configure(
        &self,
        path: ColumnPath,
        properties: WriterPropertiesBuilder,
    ) -> WriterPropertiesBuilder {
        let is_id = matches!(self.kind, Kind::Ids | Kind::Key);
        let mut properties = properties.set_column_dictionary_enabled(path.clone(), !is_id);
        if is_id || path.parts().len() > 1 {
            // The least and the greatest of random ids, or of the values of all keys, exclude nothing.
            properties =
                properties.set_column_statistics_enabled(path.clone(), EnabledStatistics::None);
        }
        if self.kind == Kind::Varied {
            properties =
                properties.set_column_encoding(path.clone(), Encoding::DELTA_LENGTH_BYTE_ARRAY);
        }
        if self.kind == Kind::Key {
            properties = properties
                .set_column_bloom_filter_enabled(path.clone(), true)
                .set_column_bloom_filter_fpp(path, FALSE_POSITIVES);
        }
        properties
    }

    fn bytes(&self) -> usize {
        self.bytes.len() + self.lengths.len() * size_of::<u32>()
    }

    fn write(&mut self, levels: Option<&Levels>, leaves: &mut dyn Leaves) -> Result<()> {
        let bytes = Bytes::from(std::mem::take(&mut self.bytes));
        let lengths = std::mem::take(&mut self.lengths);
        let mut leaf = leaves.next()?;
        let writer = leaf.typed::<ByteArrayType>();
        let mut batch = Vec::with_capacity(BATCH);
        let mut start = 0;
        let mut fill = |lengths: &[u32], batch: &mut Vec<ByteArray>| {
            batch.clear();
            for length in lengths {
                let end = start + *length as usize;
                batch.push(bytes.slice(start..end).into());
                start = end;
            }
        };
        let Some(levels) = levels else {
            for lengths in lengths.chunks(BATCH) {
                fill(lengths, &mut batch);
                writer.write_batch(&batch, None, None)?;
            }
            return leaf.close();
        };
        let mut rest = lengths.as_slice();
        for chunk in levels.chunks() {
            let (lengths, others) = rest.split_at_checked(chunk.values).unwrap_or_default();
            rest = others;
            fill(lengths, &mut batch);
            writer.write_batch(&batch, Some(chunk.definition), Some(chunk.repetition))?;
        }
        leaf.close()
    }
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
        let mut leaf = leaves.next()?;
        let writer = leaf.typed::<D>();
        let (definition, repetition) = match levels {
            Some(levels) => (
                Some(levels.definition.as_slice()),
                Some(levels.repetition.as_slice()),
            ),
            None => (None, None),
        };
        writer.write_batch(&values, definition, repetition)?;
        leaf.close()
    }
}

/// Where rows, lists and maps begin: for each value, and for each list or map without one, how deep it is defined
/// and at which level it repeats.
#[derive(Debug)]
pub(crate) struct Levels {
    definition: Vec<i16>,
    repetition: Vec<i16>,
    /// The definition level of a value.
    depth: i16,
}

/// Levels of whole rows.
struct Chunk<'a> {
    definition: &'a [i16],
    repetition: &'a [i16],
    values: usize,
}

impl Levels {
    fn new(depth: i16) -> Levels {
        Levels {
            definition: Vec::new(),
            repetition: Vec::new(),
            depth,
        }
    }

    fn push(&mut self, definition: i16, repetition: i16) {
        self.definition.push(definition);
        self.repetition.push(repetition);
    }

    fn bytes(&self) -> usize {
        (self.definition.len() + self.repetition.len()) * size_of::<i16>()
    }

    fn clear(&mut self) {
        self.definition = Vec::new();
        self.repetition = Vec::new();
    }

    fn chunks(&self) -> impl Iterator<Item = Chunk<'_>> {
        let (mut definition, mut repetition) =
            (self.definition.as_slice(), self.repetition.as_slice());
        std::iter::from_fn(move || {
            if repetition.is_empty() {
                return None;
            }
            let later = repetition.get(BATCH..).unwrap_or_default();
            let row = later.iter().position(|level| *level == 0);
            let end = row.map_or(repetition.len(), |row| BATCH + row);
            let (own, others) = definition.split_at_checked(end)?;
            definition = others;
            let (own_repetition, others) = repetition.split_at_checked(end)?;
            repetition = others;
            Some(Chunk {
                definition: own,
                repetition: own_repetition,
                values: own.iter().filter(|level| **level == self.depth).count(),
            })
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
    pub(crate) fn row<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        mut push: impl FnMut(&mut C, T),
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

    fn configure(
        &self,
        name: &str,
        above: &[&str],
        properties: WriterPropertiesBuilder,
    ) -> WriterPropertiesBuilder {
        let of = |leaf| path(name, &[above, &["key_value", leaf]].concat());
        let properties = self.keys.configure(of("key"), properties);
        self.values.configure(of("value"), properties)
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

/// The map of a row, which is being filled.
pub(crate) struct MapRow<'a> {
    entries: &'a mut Entries,
    levels: &'a mut Levels,
    /// The repetition level of the next entry.
    repetition: i16,
    is_empty: bool,
}

impl MapRow<'_> {
    /// Adds an entry whose value is the text that `write` appends.
    pub(crate) fn entry(&mut self, key: &str, write: impl FnOnce(&mut Vec<u8>)) {
        self.entries.keys.push(key);
        self.entries.values.push_with(write);
        let depth = self.levels.depth;
        self.levels.push(depth, self.repetition);
        self.repetition = depth;
        self.is_empty = false;
    }

    pub(crate) fn text(&mut self, key: &str, value: &str) {
        self.entry(key, |out| out.extend_from_slice(value.as_bytes()));
    }

    fn end(self) {
        if self.is_empty {
            self.levels.push(self.levels.depth - 1, self.repetition);
        }
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
    pub(crate) fn row(&mut self, fill: impl FnOnce(&mut MapRow<'_>)) {
        let mut row = MapRow {
            entries: &mut self.entries,
            levels: &mut self.levels,
            repetition: 0,
            is_empty: true,
        };
        fill(&mut row);
        row.end();
    }
}

impl Column for Map {
    fn field(&self, name: &str) -> Result<TypePtr> {
        self.entries.field(name)
    }

    fn configure(
        &self,
        name: &str,
        properties: WriterPropertiesBuilder,
    ) -> WriterPropertiesBuilder {
        self.entries.configure(name, &[], properties)
    }

    fn bytes(&self) -> usize {
        self.entries.bytes() + self.levels.bytes()
    }

    fn write(&mut self, leaves: &mut dyn Leaves) -> Result<()> {
        self.entries.write(&mut self.levels, leaves)
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
        mut fill: impl FnMut(&mut MapRow<'_>, T),
    ) {
        let mut repetition = 0;
        for item in items {
            let mut row = MapRow {
                entries: &mut self.entries,
                levels: &mut self.levels,
                repetition,
                is_empty: true,
            };
            fill(&mut row, item);
            row.end();
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

    fn configure(
        &self,
        name: &str,
        properties: WriterPropertiesBuilder,
    ) -> WriterPropertiesBuilder {
        self.entries
            .configure(name, &["list", "element"], properties)
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
