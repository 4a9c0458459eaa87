//! Column chunks of texts whose distinct values are known already.
//!
//! The column writer of `parquet` takes one `ByteArray` a value, which counts references, and looks each of them up in
//! its own dictionary. A log has some 27 values with a dictionary, most of them the same as in the row before, so that
//! took a third of the time of an export. Here a column comes with its dictionary and the numbers of its values' entries:
//! what is left is to pack numbers into pages, which the page writer and the row group writer of `parquet` put in the
//! file. Columns of numbers go the usual way.

use crate::column::Levels;
use bytes::Bytes;
use parquet::{
    basic::{Compression, Encoding, EncodingMask},
    bloom_filter::Sbbf,
    column::{
        page::{CompressedPage, Page, PageWriter},
        writer::ColumnCloseResult,
    },
    errors::{ParquetError, Result},
    file::{
        metadata::{ColumnChunkMetaData, OffsetIndexBuilder, PageEncodingStats},
        statistics::Statistics,
        writer::{SerializedPageWriter, TrackedWrite},
    },
    schema::types::ColumnDescPtr,
};
use prost::encoding::encode_varint;
use zstd::bulk::Compressor;

/// Maximum number of rows of a page; small in tests, so that they have many.
const PAGE_ROWS_MAX: usize = if cfg!(test) { 70 } else { 20_000 };
/// The size from which on a page ends with the present row, in bytes; small in tests.
const PAGE_BYTES: usize = if cfg!(test) { 1 << 10 } else { 1 << 20 };
/// A run of the same number from this length on is written as its length; it must be that of a packed group.
const RUN_MIN: usize = 8;

/// Compresses pages, and keeps the memory for them.
pub(crate) struct Packer {
    compressor: Compressor<'static>,
    compression: Compression,
    body: Vec<u8>,
    levels: Vec<u8>,
    packed: Vec<u8>,
}

impl Packer {
    /// A packer with a level of zstd, which is also that of `compression`.
    pub(crate) fn new(level: i32, compression: Compression) -> Result<Packer> {
        Ok(Packer {
            compressor: Compressor::new(level).map_err(external)?,
            compression,
            body: Vec::new(),
            levels: Vec::new(),
            packed: Vec::new(),
        })
    }

    /// Appends levels with their length.
    fn append_levels(
        &mut self,
        levels: &[u8],
        of: impl Fn(u8) -> u8,
        level_max: i16,
    ) -> Result<()> {
        self.levels.clear();
        self.levels.extend(levels.iter().map(|level| of(*level)));
        self.packed.clear();
        let bits = bits_of(u32::from(level_max.unsigned_abs()));
        pack(&self.levels, bits, &mut self.packed);
        let length = number(self.packed.len())?;
        self.body.extend_from_slice(&length.to_le_bytes());
        self.body.extend_from_slice(&self.packed);
        Ok(())
    }

    fn compress(&mut self) -> Result<Bytes> {
        let compressed = self.compressor.compress(&self.body).map_err(external)?;
        Ok(compressed.into())
    }
}

fn external(error: std::io::Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

/// A column chunk that is being written.
pub(crate) struct Chunk<'a> {
    column: ColumnDescPtr,
    packer: &'a mut Packer,
    out: TrackedWrite<Vec<u8>>,
    dictionary_at: Option<u64>,
    data_at: Option<u64>,
    pages: Vec<PageEncodingStats>,
    offsets: OffsetIndexBuilder,
    uncompressed: usize,
    values: u64,
    rows: u64,
}

/// The rows of a page.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PageRows<'a> {
    /// The levels of a list or map, see [`Levels`].
    levels: Option<&'a [u8]>,
    rows: usize,
    /// The number of values; an empty list has none.
    pub(crate) values: usize,
}

impl<'a> Chunk<'a> {
    pub(crate) fn begin(column: ColumnDescPtr, packer: &'a mut Packer) -> Chunk<'a> {
        Chunk {
            column,
            packer,
            out: TrackedWrite::new(Vec::new()),
            dictionary_at: None,
            data_at: None,
            pages: Vec::new(),
            offsets: OffsetIndexBuilder::new(),
            uncompressed: 0,
            values: 0,
            rows: 0,
        }
    }

    /// Writes the dictionary, which is `entries` texts as [`Encoding::PLAIN`] has them. It is the first page.
    pub(crate) fn dictionary(&mut self, texts: &[u8], entries: usize) -> Result<()> {
        self.packer.body.clear();
        self.packer.body.extend_from_slice(texts);
        let page = Page::DictionaryPage {
            buf: self.packer.compress()?,
            num_values: number(entries)?,
            encoding: Encoding::PLAIN,
            is_sorted: false,
        };
        self.dictionary_at = Some(self.write(page)?.0);
        Ok(())
    }

    /// Writes a page of values, which `encode` appends.
    pub(crate) fn page(
        &mut self,
        rows: PageRows<'_>,
        encoding: Encoding,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Result<()> {
        let packer = &mut *self.packer;
        packer.body.clear();
        if let Some(levels) = rows.levels {
            let repetition_max = self.column.max_rep_level();
            packer.append_levels(levels, Levels::repetition, repetition_max)?;
            packer.append_levels(levels, Levels::definition, self.column.max_def_level())?;
        }
        encode(&mut packer.body);
        let count = rows.levels.map_or(rows.values, <[u8]>::len);
        let page = Page::DataPage {
            buf: packer.compress()?,
            num_values: number(count)?,
            encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        let (at, length) = self.write(page)?;
        self.data_at.get_or_insert(at);
        let size = i32::try_from(length).map_err(|_| too_large())?;
        self.offsets
            .append_row_count((rows.rows as u64).cast_signed());
        self.offsets.append_offset_and_size(at.cast_signed(), size);
        self.values += count as u64;
        self.rows += rows.rows as u64;
        Ok(())
    }

    /// Writes a page, and returns where it begins, and its length.
    fn write(&mut self, page: Page) -> Result<(u64, usize)> {
        let (page_type, encoding) = (page.page_type(), page.encoding());
        match self.pages.last_mut() {
            Some(last) if last.page_type == page_type && last.encoding == encoding => {
                last.count += 1;
            }
            _ => self.pages.push(PageEncodingStats {
                page_type,
                encoding,
                count: 1,
            }),
        }
        let page = CompressedPage::new(page, self.packer.body.len());
        let written = SerializedPageWriter::new(&mut self.out).write_page(page)?;
        self.uncompressed += written.uncompressed_size;
        Ok((written.offset, written.compressed_size))
    }

    /// The bytes of the chunk, and what the file says about them.
    pub(crate) fn finish(
        self,
        statistics: Option<Statistics>,
        bloom_filter: Option<Sbbf>,
    ) -> Result<(Bytes, ColumnCloseResult)> {
        let bytes = self.out.into_inner()?;
        let size = (bytes.len() as u64).cast_signed();
        let encodings = self.pages.iter().map(|pages| &pages.encoding);
        let mut metadata = ColumnChunkMetaData::builder(self.column)
            .set_compression(self.packer.compression)
            .set_encodings_mask(EncodingMask::new_from_encodings(
                encodings.chain([&Encoding::RLE]),
            ))
            .set_total_compressed_size(size)
            .set_total_uncompressed_size((self.uncompressed as u64).cast_signed())
            .set_num_values(self.values.cast_signed())
            .set_data_page_offset(self.data_at.unwrap_or_default().cast_signed())
            .set_dictionary_page_offset(self.dictionary_at.map(u64::cast_signed));
        if let Some(statistics) = statistics {
            metadata = metadata.set_statistics(statistics);
        }
        let result = ColumnCloseResult {
            bytes_written: bytes.len() as u64,
            rows_written: self.rows,
            metadata: metadata.set_page_encoding_stats(self.pages).build()?,
            bloom_filter,
            column_index: None,
            offset_index: Some(self.offsets.build()),
        };
        Ok((bytes.into(), result))
    }
}

fn number(count: usize) -> Result<u32> {
    u32::try_from(count).map_err(|_| too_large())
}

fn too_large() -> ParquetError {
    ParquetError::General("a page is too large for Parquet".into())
}

/// The rows of a column, a page at a time.
#[derive(Debug)]
pub(crate) enum Paging<'a> {
    /// The number of rows with one value each that are left.
    Flat(usize),
    /// The levels that are left, and that of a value.
    Nested(&'a [u8], u8),
}

impl<'a> Paging<'a> {
    /// The rows of the next page; `None` after the last one. `weigh` returns the size of the next value in the page, and
    /// `None` when it must not be in the page: the first value of a row.
    pub(crate) fn next(
        &mut self,
        mut weigh: impl FnMut() -> Option<usize>,
    ) -> Option<PageRows<'a>> {
        match self {
            Paging::Flat(0) | Paging::Nested([], _) => None,
            Paging::Flat(left) => {
                let (mut rows, mut bytes) = (0, 0);
                while rows < PAGE_ROWS_MAX.min(*left)
                    && bytes < PAGE_BYTES
                    && let Some(more) = weigh()
                {
                    rows += 1;
                    bytes += more;
                }
                *left -= rows;
                (rows > 0).then_some(PageRows {
                    levels: None,
                    rows,
                    values: rows,
                })
            }
            Paging::Nested(levels, depth) => {
                let (mut rows, mut values, mut bytes) = (0, 0, 0);
                let mut row_start = 0;
                let mut end = levels.len();
                for (at, level) in levels.iter().enumerate() {
                    if Levels::repetition(*level) == 0 {
                        row_start = at;
                        if rows == PAGE_ROWS_MAX || bytes >= PAGE_BYTES {
                            end = at;
                            break;
                        }
                        rows += 1;
                    }
                    if Levels::definition(*level) == *depth {
                        let Some(more) = weigh() else {
                            end = row_start;
                            rows -= 1;
                            break;
                        };
                        values += 1;
                        bytes += more;
                    }
                }
                let (page, left) = levels.split_at_checked(end)?;
                *levels = left;
                (rows > 0).then_some(PageRows {
                    levels: Some(page),
                    rows,
                    values,
                })
            }
        }
    }
}

/// The number of bits that a number needs.
pub(crate) fn bits_of(number: u32) -> u32 {
    u32::BITS - number.leading_zeros()
}

/// Appends numbers of this number of bits as [`Encoding::RLE`] has them: a run of the same number as its length and the
/// number, others in packed groups of eight.
pub(crate) fn pack<T: Copy + PartialEq + Into<u32>>(numbers: &[T], bits: u32, out: &mut Vec<u8>) {
    let mut packed_from = 0;
    let mut at = 0;
    while let Some((first, rest)) = numbers.get(at..).and_then(<[T]>::split_first) {
        let run = 1 + rest.iter().take_while(|number| *number == first).count();
        if run >= RUN_MIN {
            pack_groups(numbers.get(packed_from..at).unwrap_or_default(), bits, out);
            pack_run((*first).into(), run, bits, out);
            at += run;
            packed_from = at;
        } else {
            at += RUN_MIN;
        }
    }
    pack_groups(numbers.get(packed_from..).unwrap_or_default(), bits, out);
}

/// Appends a number that is there `length` times.
pub(crate) fn pack_run(number: u32, length: usize, bits: u32, out: &mut Vec<u8>) {
    if length > 0 {
        encode_varint((length as u64) << 1, out);
        out.extend(
            number
                .to_le_bytes()
                .into_iter()
                .take(bits.div_ceil(8) as usize),
        );
    }
}

/// Appends groups of eight numbers, the last one filled up with zeros.
fn pack_groups<T: Copy + Into<u32>>(numbers: &[T], bits: u32, out: &mut Vec<u8>) {
    if numbers.is_empty() {
        return;
    }
    encode_varint(((numbers.len().div_ceil(RUN_MIN) as u64) << 1) | 1, out);
    for group in numbers.chunks(RUN_MIN) {
        // Eight numbers of this number of bits take as many bytes.
        let end = out.len() + bits as usize;
        let (mut word, mut filled) = (0_u64, 0);
        for number in group {
            word |= u64::from((*number).into()) << filled;
            filled += bits;
            if filled >= u32::BITS {
                out.extend(word.to_le_bytes().into_iter().take(size_of::<u32>()));
                word >>= u32::BITS;
                filled -= u32::BITS;
            }
        }
        out.extend_from_slice(&word.to_le_bytes());
        out.resize(end, 0);
    }
}
