//! A Parquet file that is being written.

use crate::{
    Result, Table,
    chunk::Packer,
    column::{Column, Group},
    rows,
    tables::Rows,
};
use parquet::{
    basic::{Compression, Repetition, ZstdLevel},
    errors::ParquetError,
    file::{
        properties::{EnabledStatistics, WriterProperties},
        writer::SerializedFileWriter,
    },
    schema::types::{ColumnDescPtr, Type},
};
use std::{
    fmt,
    io::Write,
    panic::resume_unwind,
    sync::Arc,
    thread::{self, JoinHandle},
};

/// The level of zstd: higher ones take several times as long for a few percent.
const ZSTD_LEVEL: i32 = 1;

/// A Parquet file of one table, which is being written.
///
/// One row group at a time is written, on a thread of its own. What is dropped waits for it.
#[derive(Debug)]
pub struct ParquetFile<W: Write + Send + 'static> {
    table: Table,
    state: State<W>,
    rows: u64,
    bytes: u64,
}

#[derive(Debug)]
enum State<W: Write + Send + 'static> {
    Ready(Box<Writer<W>>),
    Writing(JoinHandle<Result<Box<Writer<W>>>>),
    /// A row group could not be written, or the file is finished.
    Ended,
}

impl<W: Write + Send> ParquetFile<W> {
    /// Begins a file.
    ///
    /// Fails with [`Error::File`](crate::Error::File) when `out` cannot be written.
    pub fn begin(table: Table, out: W) -> Result<ParquetFile<W>> {
        // A table without rows says what its columns are.
        let empty = rows::Rows::new(crate::Origin::default());
        let writer = Writer::begin(&empty.table(table).columns(), out)?;
        Ok(ParquetFile {
            table,
            bytes: writer.file.bytes_written() as u64,
            state: State::Ready(Box::new(writer)),
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

    /// Its size without the row group that is being written, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Waits for the row group before, and begins to write this one.
    pub(crate) fn write(&mut self, mut rows: Box<dyn Rows>) -> Result<()> {
        let mut writer = self.writer()?;
        self.rows += rows.len() as u64;
        let thread = thread::Builder::new().name("parquet".to_owned());
        let thread = thread.spawn(move || {
            writer.write(rows.as_mut())?;
            Ok(writer)
        });
        self.state = State::Writing(thread.map_err(ParquetError::from)?);
        Ok(())
    }

    /// Waits for the row group that is being written.
    ///
    /// Fails with [`Error::File`](crate::Error::File), as does every later use of the file.
    pub fn wait(&mut self) -> Result<()> {
        self.state = State::Ready(self.writer()?);
        Ok(())
    }

    fn writer(&mut self) -> Result<Box<Writer<W>>> {
        let writer = match std::mem::replace(&mut self.state, State::Ended) {
            State::Ready(writer) => writer,
            State::Writing(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic))?,
            State::Ended => {
                let what = "a part of the file could not be written".to_owned();
                return Err(ParquetError::General(what).into());
            }
        };
        self.bytes = writer.file.bytes_written() as u64;
        Ok(writer)
    }

    /// Ends the file, and returns what it was written to.
    ///
    /// Fails with [`Error::File`](crate::Error::File).
    pub fn finish(mut self) -> Result<W> {
        self.writer()?.finish()
    }
}

impl<W: Write + Send> Drop for ParquetFile<W> {
    fn drop(&mut self) {
        // The thread owns what is written to, which must not outlive the file. An error cannot be returned from here.
        if let State::Writing(thread) = std::mem::replace(&mut self.state, State::Ended) {
            _ = thread.join();
        }
    }
}

pub(crate) struct Writer<W: Write + Send> {
    file: SerializedFileWriter<W>,
    columns: Vec<ColumnDescPtr>,
    packer: Packer,
}

impl<W: Write + Send> fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.fmt(f)
    }
}

impl<W: Write + Send> Writer<W> {
    pub(crate) fn begin(columns: &[(&str, &dyn Column)], out: W) -> Result<Writer<W>> {
        let compression = Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?);
        let mut fields = Vec::with_capacity(columns.len());
        let mut properties = WriterProperties::builder()
            .set_created_by(concat!("gridctl-telemetry ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(compression)
            .set_statistics_enabled(EnabledStatistics::Chunk);
        for (name, column) in columns {
            fields.push(column.field(name)?);
            properties = column.configure(name, properties);
        }
        let schema = Type::group_type_builder("schema")
            .with_repetition(Repetition::REQUIRED)
            .with_fields(fields)
            .build()?;
        let properties = Arc::new(properties.build());
        let file = SerializedFileWriter::new(out, Arc::new(schema), properties)?;
        Ok(Writer {
            columns: file.schema_descr().columns().to_vec(),
            file,
            packer: Packer::new(ZSTD_LEVEL, compression)?,
        })
    }

    pub(crate) fn finish(self) -> Result<W> {
        Ok(self.file.into_inner()?)
    }

    pub(crate) fn write(&mut self, rows: &mut dyn Rows) -> Result<()> {
        let mut group = Group {
            writer: self.file.next_row_group()?,
            columns: &self.columns,
            packer: &mut self.packer,
        };
        for (_, column) in rows.columns_mut() {
            column.write(&mut group)?;
        }
        group.writer.close()?;
        Ok(())
    }
}
