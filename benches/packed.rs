//! The size of records in formats that can neither be appended to nor searched.

use crate::workload::{Cell, Recorded, Row, SERVERS, otlp_line};
use anyhow::{Context, Result, ensure};
use flate2::{Compression, write::GzEncoder};
use gridctl_telemetry::SpanRecord;
use parquet::{
    basic::{
        Compression as ParquetCompression, Encoding, Repetition, Type as PhysicalType, ZstdLevel,
    },
    column::writer::ColumnWriter,
    data_type::{ByteArray, FixedLenByteArray},
    file::{
        properties::{EnabledStatistics, WriterProperties},
        writer::SerializedFileWriter,
    },
    schema::types::{ColumnPath, Type},
};
use std::{
    collections::BTreeMap,
    io::{self, Write},
    num::NonZero,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// The number of spans of a line of OTLP/JSON, as an SDK sends them.
const OTLP_SPANS: usize = 512;

/// The lines of records, a file for each server.
#[derive(Debug)]
pub struct TextFiles {
    files: Vec<Vec<u8>>,
}

impl TextFiles {
    /// A line a record.
    pub fn lines<R>(rows: &[Row<R>]) -> Result<TextFiles> {
        let mut files = vec![Vec::new(); SERVERS.len()];
        for row in rows {
            let file = files.get_mut(row.server).context("a server")?;
            file.extend_from_slice(&row.line);
            file.push(b'\n');
        }
        Ok(TextFiles { files })
    }

    /// Spans as OTLP/JSON, many in a line.
    #[must_use]
    pub fn otlp(rows: &[Row<SpanRecord>]) -> TextFiles {
        let (head, end) = otlp_line();
        let of_server = |server| {
            let spans: Vec<&[u8]> = rows
                .iter()
                .filter(|row| row.server == server)
                .map(|row| &*row.line)
                .collect();
            let mut file = Vec::new();
            for line in spans.chunks(OTLP_SPANS) {
                file.extend_from_slice(head.as_bytes());
                file.extend_from_slice(&line.join(&b","[..]));
                file.extend_from_slice(end.as_bytes());
            }
            file
        };
        TextFiles {
            files: (0..SERVERS.len()).map(of_server).collect(),
        }
    }

    /// The text of each file.
    #[must_use]
    pub fn texts(&self) -> &[Vec<u8>] {
        &self.files
    }

    /// Their size, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.len() as u64).sum()
    }

    /// Their size after gzip with this level, in bytes.
    pub fn gzip_bytes(&self, level: u32) -> Result<u64> {
        sum(&self.files, |file| {
            let mut encoder = GzEncoder::new(Counter(0), Compression::new(level));
            encoder.write_all(file)?;
            Ok(encoder.finish()?.0)
        })
    }

    /// Their size after zstd with this level, in bytes: of the first of `shares` equal parts of each, times `shares`,
    /// because a high level takes minutes for all.
    pub fn zstd_bytes(&self, level: i32, shares: usize) -> Result<u64> {
        let bytes = sum(&self.files, |file| {
            let mut encoder = zstd::Encoder::new(Counter(0), level)?;
            encoder.write_all(file.get(..file.len() / shares).unwrap_or_default())?;
            Ok(encoder.finish()?.0)
        })?;
        Ok(bytes * shares as u64)
    }
}

/// Counts bytes.
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The sum of what `bytes` returns for each item. All processors work on it.
fn sum<T: Sync>(items: &[T], bytes: impl Fn(&T) -> Result<u64> + Sync) -> Result<u64> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut total = 0;
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            total += bytes(item)?;
        }
        Ok(total)
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().ok().context("a thread has panicked")?)
            .sum()
    })
}

/// The size of the records as Parquet with zstd of this level, in bytes: sorted by server and time, in columns of the
/// type that suits them, each in the shortest of the encodings for its type.
pub fn parquet_bytes<R: Recorded>(rows: &[Row<R>], level: i32) -> Result<u64> {
    let columns: Vec<(String, Column)> = columns(rows)?.into_iter().collect();
    sum(&columns, |(name, column)| {
        // A low level tells the shortest encoding as well, in a fraction of the time.
        let mut shortest = None;
        for encoding in column.encodings() {
            let bytes = column.bytes(name, *encoding, 3)?;
            if shortest.is_none_or(|(other, _)| bytes < other) {
                shortest = Some((bytes, *encoding));
            }
        }
        let (_, encoding) = shortest.context("a column has an encoding")?;
        column.bytes(name, encoding, level)
    })
}

/// A column of a table: its values, and which rows have one.
#[derive(Debug)]
struct Column {
    levels: Vec<i16>,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Int(Vec<i64>),
    Float(Vec<f64>),
    Bool(Vec<bool>),
    Text(Vec<ByteArray>),
    Id(Vec<FixedLenByteArray>),
}

fn columns<R: Recorded>(rows: &[Row<R>]) -> Result<BTreeMap<String, Column>> {
    let mut order: Vec<&Row<R>> = rows.iter().collect();
    order.sort_by_key(|row| (row.server, row.record.timestamp()));
    let mut columns = BTreeMap::new();
    for (number, row) in order.iter().enumerate() {
        let server = SERVERS.get(row.server).copied().unwrap_or_default();
        let mut cells = row.record.cells();
        cells.push(("server", Cell::Text(server.to_owned())));
        cells.push(("time", Cell::Int(row.record.timestamp().unix_nanos())));
        for (key, cell) in cells {
            if !columns.contains_key(key) {
                columns.insert(key.to_owned(), Column::of(&cell));
            }
            let column = columns.get_mut(key).context("the column is there")?;
            column.push(number, cell)?;
        }
    }
    for column in columns.values_mut() {
        column.levels.resize(rows.len(), 0);
    }
    Ok(columns)
}

impl Column {
    fn of(cell: &Cell) -> Column {
        Column {
            levels: Vec::new(),
            values: match cell {
                Cell::Int(_) => Values::Int(Vec::new()),
                Cell::Float(_) => Values::Float(Vec::new()),
                Cell::Bool(_) => Values::Bool(Vec::new()),
                Cell::Text(_) => Values::Text(Vec::new()),
                Cell::Id(_) => Values::Id(Vec::new()),
            },
        }
    }

    fn push(&mut self, row: usize, cell: Cell) -> Result<()> {
        ensure!(self.levels.len() <= row, "a record has a key twice");
        self.levels.resize(row, 0);
        self.levels.push(1);
        match (&mut self.values, cell) {
            (Values::Int(values), Cell::Int(value)) => values.push(value),
            (Values::Float(values), Cell::Float(value)) => values.push(value),
            (Values::Bool(values), Cell::Bool(value)) => values.push(value),
            (Values::Text(values), Cell::Text(value)) => values.push(value.into_bytes().into()),
            (Values::Id(values), Cell::Id(value)) => values.push(ByteArray::from(value).into()),
            (_, cell) => anyhow::bail!("{cell:?} is in a column of another type"),
        }
        Ok(())
    }

    fn encodings(&self) -> &'static [Encoding] {
        match &self.values {
            Values::Int(_) => &[
                Encoding::RLE_DICTIONARY,
                Encoding::PLAIN,
                Encoding::DELTA_BINARY_PACKED,
            ],
            Values::Float(_) => &[Encoding::PLAIN, Encoding::BYTE_STREAM_SPLIT],
            Values::Bool(_) => &[Encoding::RLE],
            Values::Text(_) => &[
                Encoding::RLE_DICTIONARY,
                Encoding::PLAIN,
                Encoding::DELTA_BYTE_ARRAY,
            ],
            Values::Id(_) => &[Encoding::RLE_DICTIONARY, Encoding::PLAIN],
        }
    }

    /// The size of a file with this column alone, in bytes.
    fn bytes(&self, name: &str, encoding: Encoding, level: i32) -> Result<u64> {
        let (physical, length) = match &self.values {
            Values::Int(_) => (PhysicalType::INT64, 0),
            Values::Float(_) => (PhysicalType::DOUBLE, 0),
            Values::Bool(_) => (PhysicalType::BOOLEAN, 0),
            Values::Text(_) => (PhysicalType::BYTE_ARRAY, 0),
            Values::Id(ids) => (
                PhysicalType::FIXED_LEN_BYTE_ARRAY,
                ids.first().map_or(0, |id| id.len()),
            ),
        };
        let field = Type::primitive_type_builder(name, physical)
            .with_repetition(Repetition::OPTIONAL)
            .with_length(i32::try_from(length)?)
            .build()?;
        let schema = Type::group_type_builder("records")
            .with_fields(vec![Arc::new(field)])
            .build()?;
        let path = ColumnPath::new(vec![name.to_owned()]);
        let is_dictionary = encoding == Encoding::RLE_DICTIONARY;
        let mut properties = WriterProperties::builder()
            .set_compression(ParquetCompression::ZSTD(ZstdLevel::try_new(level)?))
            .set_statistics_enabled(EnabledStatistics::None)
            .set_column_dictionary_enabled(path.clone(), is_dictionary);
        if !is_dictionary {
            properties = properties.set_column_encoding(path, encoding);
        }
        let properties = Arc::new(properties.build());
        let mut file = SerializedFileWriter::new(Counter(0), Arc::new(schema), properties)?;
        let mut group = file.next_row_group()?;
        let mut column = group.next_column()?.context("the schema has a column")?;
        let levels = Some(&*self.levels);
        match (column.untyped(), &self.values) {
            (ColumnWriter::Int64ColumnWriter(writer), Values::Int(values)) => {
                writer.write_batch(values, levels, None)?
            }
            (ColumnWriter::DoubleColumnWriter(writer), Values::Float(values)) => {
                writer.write_batch(values, levels, None)?
            }
            (ColumnWriter::BoolColumnWriter(writer), Values::Bool(values)) => {
                writer.write_batch(values, levels, None)?
            }
            (ColumnWriter::ByteArrayColumnWriter(writer), Values::Text(values)) => {
                writer.write_batch(values, levels, None)?
            }
            (ColumnWriter::FixedLenByteArrayColumnWriter(writer), Values::Id(values)) => {
                writer.write_batch(values, levels, None)?
            }
            _ => anyhow::bail!("the column {name} has another type"),
        };
        column.close()?;
        group.close()?;
        Ok(file.into_inner()?.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{GatewayLogs, GatewayMetrics, GatewaySpans};

    #[test]
    fn no_format_is_smaller_than_the_information() -> Result<()> {
        let mut logs = GatewayLogs::new(1);
        let rows = logs.by_ref().take(20_000).collect::<Result<Vec<_>>>()?;
        let packed = parquet_bytes(&rows, 3)?;
        let entropy = logs.entropy_bytes();
        assert!(crate::ratio(packed, 1) > entropy, "{packed} {entropy}");
        let text = TextFiles::lines(&rows)?;
        assert!(crate::ratio(text.zstd_bytes(3, 1)?, 1) > entropy);
        assert!(text.gzip_bytes(6)? < text.bytes() / 4);

        let mut spans = GatewaySpans::new(1);
        let rows = spans.by_ref().take(20_000).collect::<Result<Vec<_>>>()?;
        let packed = parquet_bytes(&rows, 3)?;
        let entropy = spans.entropy_bytes();
        assert!(crate::ratio(packed, 1) > entropy, "{packed} {entropy}");

        let mut metrics = GatewayMetrics::new(1);
        let rows = metrics.by_ref().take(5000).collect::<Result<Vec<_>>>()?;
        let packed = parquet_bytes(&rows, 3)?;
        let entropy = metrics.entropy_bytes();
        assert!(crate::ratio(packed, 1) > entropy, "{packed} {entropy}");
        Ok(())
    }
}
