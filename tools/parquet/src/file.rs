//! A Parquet file that is being written.

use crate::{Result, Table, rows, tables::Rows};
use parquet::{
    basic::{Compression, Repetition, ZstdLevel},
    file::{
        properties::{EnabledStatistics, WriterProperties},
        writer::SerializedFileWriter,
    },
    schema::types::Type,
};
use std::{io::Write, sync::Arc};

/// The level of zstd: higher ones take several times as long for a few percent.
const ZSTD_LEVEL: i32 = 1;

/// A Parquet file of one table, which is being written.
#[derive(Debug)]
pub struct ParquetFile<W: Write + Send> {
    table: Table,
    writer: SerializedFileWriter<W>,
    rows: u64,
}

impl<W: Write + Send> ParquetFile<W> {
    /// Begins a file.
    ///
    /// Fails with [`Error::File`](crate::Error::File) when `out` cannot be written.
    pub fn begin(table: Table, out: W) -> Result<ParquetFile<W>> {
        // A table without rows says what its columns are.
        let empty = rows::Rows::new(crate::Origin::default());
        let columns = empty.table(table).columns();
        let mut fields = Vec::with_capacity(columns.len());
        let mut properties = WriterProperties::builder()
            .set_created_by(concat!("gridctl-telemetry ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_bloom_filter_for_dictionary_encoded_chunks(false);
        for (name, column) in columns {
            fields.push(column.field(name)?);
            properties = column.configure(name, properties);
        }
        let schema = Type::group_type_builder("schema")
            .with_repetition(Repetition::REQUIRED)
            .with_fields(fields)
            .build()?;
        let writer =
            SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties.build()))?;
        Ok(ParquetFile {
            table,
            writer,
            rows: 0,
        })
    }

    /// Its table.
    #[must_use]
    pub fn table(&self) -> Table {
        self.table
    }

    /// The number of its rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Its present size, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.writer.bytes_written() as u64
    }

    pub(crate) fn write(&mut self, rows: &mut dyn Rows) -> Result<()> {
        self.rows += rows.len() as u64;
        let mut group = self.writer.next_row_group()?;
        for (_, column) in rows.columns_mut() {
            column.write(&mut group)?;
        }
        group.close()?;
        Ok(())
    }

    /// Ends the file, and returns what it was written to.
    ///
    /// Fails with [`Error::File`](crate::Error::File).
    pub fn finish(self) -> Result<W> {
        Ok(self.writer.into_inner()?)
    }
}
