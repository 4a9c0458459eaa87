//! The blocks in the database: writing, reading and deleting them.
//!
//! A block has entries in several tables and is counted in two places. Only this module changes
//! these, so they agree after every transaction.

use crate::{
    record::Level,
    signal::Signal,
    store::{
        engine::{
            fault::Fault,
            transaction::{Table, WriteTransaction},
        },
        layout::{
            block::{
                self, BlockEncoder, BlockHeader, BlockRecord, DecodedBlock, Decoding, EncodedBlock,
                Wanted, span_max,
            },
            checked,
            footprint::{self, BlockSize, chunk_bytes},
            keys::{self, Position},
            series::{SeriesId, SeriesState},
            tables::{
                BLOCK_CHUNKS, BLOCKS, BlockKey, ChunkKey, MERGE_QUEUE, META, MergeKey, SUMMARIES,
                StoredHeader, meta,
            },
        },
    },
};
use redb::ReadableTable;

/// The tables of blocks, opened for writing.
pub(crate) struct Blocks<'t> {
    headers: Table<'t, &'static BlockKey, &'static StoredHeader>,
    chunks: Table<'t, &'static ChunkKey, &'static [u8]>,
    summaries: Table<'t, &'static BlockKey, &'static [u8]>,
    queue: Table<'t, &'static MergeKey, ()>,
    disk_bytes_added: u64,
    disk_bytes_removed: u64,
}

/// Lets `operation` change the blocks of `transaction`, and updates the total of their size on the
/// disk. `META` must not be open.
pub(crate) fn change<T>(
    transaction: &WriteTransaction,
    operation: impl FnOnce(&mut Blocks<'_>) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let mut blocks = Blocks {
        headers: transaction.open_table(BLOCKS)?,
        chunks: transaction.open_table(BLOCK_CHUNKS)?,
        summaries: transaction.open_table(SUMMARIES)?,
        queue: transaction.open_table(MERGE_QUEUE)?,
        disk_bytes_added: 0,
        disk_bytes_removed: 0,
    };
    let outcome = operation(&mut blocks)?;
    if blocks.disk_bytes_added != blocks.disk_bytes_removed {
        let mut meta = transaction.open_table(META)?;
        let before = meta
            .get(meta::BLOCK_DISK_BYTES)?
            .map_or(0, |bytes| bytes.value());
        let after = (before + blocks.disk_bytes_added).saturating_sub(blocks.disk_bytes_removed);
        meta.insert(meta::BLOCK_DISK_BYTES, after)?;
    }
    Ok(outcome)
}

impl Blocks<'_> {
    /// Writes sorted records as blocks and returns the number of blocks. Adds them to `state`,
    /// which the caller must store.
    pub(crate) fn write(
        &mut self,
        state: &mut SeriesState,
        signal: Signal,
        records: &[BlockRecord<'_>],
        encoder: &mut BlockEncoder,
        limits: BlockLimits,
    ) -> Result<usize, Fault> {
        let mut written = 0;
        for part in limits.cut_all(records) {
            self.insert(state, part, encoder.encode(signal, part))?;
            written += 1;
        }
        Ok(written)
    }

    /// Writes `records` that are encoded as a block, and adds it to `state`, which the caller must store.
    pub(crate) fn insert(
        &mut self,
        state: &mut SeriesState,
        records: &[BlockRecord<'_>],
        encoded: EncodedBlock,
    ) -> Result<(), Fault> {
        let Some(last) = records.last() else {
            return Ok(());
        };
        let EncodedBlock {
            header,
            body,
            summary,
        } = encoded;
        let position = (last.timestamp, last.sequence);
        let key = keys::block_key(state.id, header.span_class(), position);
        self.headers.insert(&key, &stored_header(&key, &header))?;
        for (chunk, number) in cut_to_pages(&body).zip(0..) {
            self.chunks.insert(&keys::chunk_key(&key, number), chunk)?;
        }
        if let Some(level) = header.merge_level() {
            self.queue.insert(&keys::merge_key(&key, level), ())?;
        }
        if let Some(summary) = &summary {
            self.summaries.insert(&key, summary.as_slice())?;
        }
        let size = BlockSize::new(&header, summary.map(|summary| summary.len()));
        state.add_block(&header, size);
        self.disk_bytes_added += size.disk_bytes;
        Ok(())
    }

    /// Adds the summary of a block that has none, if the block still exists and its records are
    /// understood, and the size of the summary to `state`, which the caller must store.
    pub(crate) fn summarize(
        &mut self,
        state: &mut SeriesState,
        signal: Signal,
        key: &BlockKey,
    ) -> Result<(), Fault> {
        let Some(header) = self.header(key)? else {
            return Ok(());
        };
        if self.summaries.get(key)?.is_some() {
            return Ok(());
        }
        let block = self.load(key, &header)?;
        if let Some(summary) = block::summarize(signal, &header, &block) {
            let before = BlockSize::new(&header, None);
            let after = BlockSize::new(&header, Some(summary.len()));
            self.summaries.insert(key, summary.as_slice())?;
            state.remove_block(&header, before);
            state.add_block(&header, after);
            self.disk_bytes_removed += before.disk_bytes;
            self.disk_bytes_added += after.disk_bytes;
        }
        Ok(())
    }

    /// Deletes a block and subtracts it from `state`, which the caller must store. Returns its size.
    pub(crate) fn remove(
        &mut self,
        state: &mut SeriesState,
        key: &BlockKey,
        header: &BlockHeader,
    ) -> Result<BlockSize, Fault> {
        self.headers.remove(key)?;
        let chunks = keys::chunk_range(key);
        self.chunks
            .retain_in::<&ChunkKey, _>(chunks.start()..=chunks.end(), |_, _| false)?;
        if let Some(level) = header.merge_level() {
            self.queue.remove(&keys::merge_key(key, level))?;
        }
        let summary = self.summaries.remove(key)?;
        let size = BlockSize::new(header, summary.map(|summary| summary.value().len()));
        state.remove_block(header, size);
        self.disk_bytes_removed += size.disk_bytes;
        Ok(size)
    }

    /// Deletes all blocks of a series. They are not subtracted from `state`, which the caller
    /// deletes as well.
    pub(crate) fn remove_all(&mut self, state: &SeriesState) -> Result<(), Fault> {
        let blocks = keys::block_range(state.id);
        self.headers
            .retain_in::<&BlockKey, _>(blocks.start()..=blocks.end(), |_, _| false)?;
        let chunks = keys::chunk_range_of_series(state.id);
        self.chunks
            .retain_in::<&ChunkKey, _>(chunks.start()..=chunks.end(), |_, _| false)?;
        self.summaries
            .retain_in::<&BlockKey, _>(blocks.start()..=blocks.end(), |_, _| false)?;
        let queued = keys::merge_range_of_series(state.id);
        self.queue
            .retain_in::<&MergeKey, _>(queued.start()..=queued.end(), |_, ()| false)?;
        self.disk_bytes_removed += state.disk_bytes;
        Ok(())
    }

    /// Deletes the blocks of all series with an id from `first` and below `end`, of which no state is
    /// known.
    pub(crate) fn remove_between(&mut self, first: u32, end: u32) -> Result<(), Fault> {
        let [first, end] = [first, end].map(|id| *keys::block_range(SeriesId(id)).start());
        self.headers
            .retain_in::<&BlockKey, _>(&first..&end, |key, header| {
                if let Ok(header) = read_header(key, header) {
                    self.disk_bytes_removed += footprint::block_disk_bytes(&header);
                }
                false
            })?;
        self.summaries
            .retain_in::<&BlockKey, _>(&first..&end, |_, summary| {
                self.disk_bytes_removed += footprint::summary_disk_bytes(summary.len());
                false
            })?;
        let (first_chunk, end_chunk) = (keys::chunk_key(&first, 0), keys::chunk_key(&end, 0));
        self.chunks
            .retain_in::<&ChunkKey, _>(&first_chunk..&end_chunk, |_, _| false)?;
        let (first, end) = (keys::merge_key(&first, 0), keys::merge_key(&end, 0));
        self.queue
            .retain_in::<&MergeKey, _>(&first..&end, |_, ()| false)?;
        Ok(())
    }

    /// The block of the series whose last record is the oldest.
    pub(crate) fn oldest(
        &self,
        state: &SeriesState,
    ) -> Result<Option<(BlockKey, BlockHeader)>, Fault> {
        oldest(&*self.headers, state)
    }

    /// The blocks whose last record is before `cutoff`, at most `count_max`.
    pub(crate) fn before(
        &self,
        state: &SeriesState,
        cutoff: i64,
        count_max: usize,
    ) -> Result<Vec<(BlockKey, BlockHeader)>, Fault> {
        let Some(last) = cutoff.checked_sub(1) else {
            return Ok(Vec::new());
        };
        let (first, last) = ((i64::MIN, 0), (last, u64::MAX));
        ending_between(&*self.headers, state, first, last, count_max)
    }

    /// The blocks that begin before `time` and end at or after it.
    pub(crate) fn across(
        &self,
        state: &SeriesState,
        time: i64,
    ) -> Result<Vec<(BlockKey, BlockHeader)>, Fault> {
        let mut found = Vec::new();
        for (class, _) in &state.span_classes {
            // A block that begins before it ends at most one span after it.
            let end = time.saturating_add_unsigned(span_max(*class));
            let from = keys::block_key(state.id, *class, (time, 0));
            let to = keys::block_key(state.id, *class, (end, u64::MAX));
            for entry in self.headers.range::<&BlockKey>(&from..=&to)? {
                let (key, header) = entry?;
                if let Ok(header) = read_header(key.value(), header.value())
                    && header.first < time
                {
                    found.push((*key.value(), header));
                }
            }
        }
        Ok(found)
    }

    /// The headers of blocks.
    pub(crate) fn headers(&self) -> &impl ReadableTable<&'static BlockKey, &'static StoredHeader> {
        &*self.headers
    }

    /// The index of the blocks that are not full.
    pub(crate) fn merge_queue(&self) -> &impl ReadableTable<&'static MergeKey, ()> {
        &*self.queue
    }

    /// The header of the block at `key`, if it still exists.
    pub(crate) fn header(&self, key: &BlockKey) -> Result<Option<BlockHeader>, Fault> {
        self.headers
            .get(key)?
            .map(|header| read_header(key, header.value()))
            .transpose()
    }

    /// Reads a block.
    pub(crate) fn load(&self, key: &BlockKey, header: &BlockHeader) -> Result<DecodedBlock, Fault> {
        load(&*self.chunks, key, header)
    }
}

/// The maximum size of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockLimits {
    /// Maximum number of records.
    pub(crate) records: usize,
    /// The payload bytes after which the block is closed.
    pub(crate) payload_bytes: usize,
    /// Whether a block ends before a long gap in time, see [`before_gap`].
    pub(crate) ends_at_gaps: bool,
}

impl BlockLimits {
    /// Cuts `records` into those of each block.
    pub(crate) fn cut_all<'r, 'a>(
        self,
        records: &'r [BlockRecord<'a>],
    ) -> impl Iterator<Item = &'r [BlockRecord<'a>]> + use<'r, 'a> {
        let mut rest = records;
        std::iter::from_fn(move || {
            let (part, after) = rest.split_at_checked(self.cut(rest))?;
            rest = after;
            (!part.is_empty()).then_some(part)
        })
    }

    /// The number of `records`, counted from the first, that go into the next block.
    fn cut(&self, records: &[BlockRecord<'_>]) -> usize {
        let fit = BlockEncoder::cut(records, self.records, self.payload_bytes);
        match records.get(..fit) {
            Some(part) if self.ends_at_gaps => before_gap(part),
            _ => fit,
        }
    }
}

/// A gap in time that is at least this long can end a block, in nanoseconds: an hour.
const GAP_MIN: u64 = 3_600_000_000_000;
/// The minimum number of records on both sides of a gap that ends a block.
const GAP_RECORDS_MIN: usize = 128;

/// The number of `records` before their first long gap, or all.
///
/// Producers whose clocks differ, and old records that are imported while new ones arrive, fill the
/// same batches with records of times that are far apart. Blocks across the gap would all overlap, so
/// that reading any of these times had to read and hold every one of them.
///
/// The gap is longer than the time of the records before it, so that regular records, however rare,
/// have none.
fn before_gap(records: &[BlockRecord<'_>]) -> usize {
    let Some(first) = records.first() else {
        return 0;
    };
    let last_begin = records.len().saturating_sub(GAP_RECORDS_MIN);
    let gap = records.windows(2).zip(1..=last_begin).find(|(pair, at)| {
        let [before, after] = pair else { return false };
        let gap = after.timestamp.abs_diff(before.timestamp);
        *at >= GAP_RECORDS_MIN && gap >= GAP_MIN && gap > before.timestamp.abs_diff(first.timestamp)
    });
    gap.map_or(records.len(), |(_, at)| at)
}

/// The block of a series whose last record is the oldest.
///
/// A block whose header is damaged is skipped, here and below: its contents are unknown, and it
/// must not prevent other blocks from being kept within their limits.
pub(crate) fn oldest(
    headers: &impl ReadableTable<&'static BlockKey, &'static StoredHeader>,
    state: &SeriesState,
) -> Result<Option<(BlockKey, BlockHeader)>, Fault> {
    let mut oldest: Option<(BlockKey, BlockHeader)> = None;
    for (class, _) in &state.span_classes {
        let range = keys::class_range(state.id, *class);
        let keys = headers.range::<&BlockKey>(range.start()..=range.end())?;
        for entry in keys {
            let (key, header) = entry?;
            let key = *key.value();
            let known = oldest.as_ref().map(|(key, _)| keys::block_position(key));
            if known.is_some_and(|known| known <= keys::block_position(&key)) {
                break;
            }
            if let Ok(header) = read_header(&key, header.value()) {
                oldest = Some((key, header));
                break;
            }
        }
    }
    Ok(oldest)
}

/// The blocks of merge level `level`, ordered by their last records, at most `count_max`.
pub(crate) fn of_level(
    headers: &impl ReadableTable<&'static BlockKey, &'static StoredHeader>,
    queue: &impl ReadableTable<&'static MergeKey, ()>,
    series: SeriesId,
    level: u8,
    count_max: usize,
) -> Result<Vec<(BlockKey, BlockHeader)>, Fault> {
    let range = keys::merge_range(series, level);
    let mut found = Vec::new();
    for entry in queue
        .range::<&MergeKey>(range.start()..=range.end())?
        .take(count_max)
    {
        let key = keys::block_of_merge_key(entry?.0.value());
        let header = headers.get(&key)?;
        found.extend(header.and_then(|header| {
            let header = read_header(&key, header.value()).ok()?;
            Some((key, header))
        }));
    }
    Ok(found)
}

/// The blocks whose last records are from `first` to `last`, one span class after another, at most
/// `count_max`.
pub(crate) fn ending_between(
    headers: &impl ReadableTable<&'static BlockKey, &'static StoredHeader>,
    state: &SeriesState,
    first: Position,
    last: Position,
    count_max: usize,
) -> Result<Vec<(BlockKey, BlockHeader)>, Fault> {
    let mut found = Vec::new();
    for (class, _) in &state.span_classes {
        let first = keys::block_key(state.id, *class, first);
        let last = keys::block_key(state.id, *class, last);
        for entry in headers.range::<&BlockKey>(&first..=&last)? {
            if found.len() >= count_max {
                return Ok(found);
            }
            let (key, header) = entry?;
            if let Ok(header) = read_header(key.value(), header.value()) {
                found.push((*key.value(), header));
            }
        }
    }
    Ok(found)
}

/// Reads a block from a table of chunks.
pub(crate) fn load(
    chunks: &impl ReadableTable<&'static ChunkKey, &'static [u8]>,
    key: &BlockKey,
    header: &BlockHeader,
) -> Result<DecodedBlock, Fault> {
    let body = body(chunks, key, header)?;
    DecodedBlock::decode(header, &body).map_err(|error| damaged(key, &error))
}

/// Reads the records of a block in the range of indexes that `window` chooses, given the keys of all.
pub(crate) fn load_window(
    chunks: &impl ReadableTable<&'static ChunkKey, &'static [u8]>,
    key: &BlockKey,
    header: &BlockHeader,
    window: impl FnOnce(&DecodedBlock) -> std::ops::Range<usize>,
) -> Result<DecodedBlock, Fault> {
    let body = body(chunks, key, header)?;
    DecodedBlock::decode_window(header, &body, window).map_err(|error| damaged(key, &error))
}

/// Reads the records of a block in a range of indexes into the memory of `spare`.
pub(crate) fn load_part(
    chunks: &impl ReadableTable<&'static ChunkKey, &'static [u8]>,
    key: &BlockKey,
    header: &BlockHeader,
    part: std::ops::Range<usize>,
    decoding: Decoding,
    spare: DecodedBlock,
) -> Result<DecodedBlock, Fault> {
    let body = body(chunks, key, header)?;
    DecodedBlock::decode_part(header, &body, part, decoding, spare)
        .map_err(|error| damaged(key, &error))
}

/// Reads the records of a block that `wanted` describes.
pub(crate) fn load_matching(
    chunks: &impl ReadableTable<&'static ChunkKey, &'static [u8]>,
    key: &BlockKey,
    header: &BlockHeader,
    wanted: &Wanted<'_>,
) -> Result<DecodedBlock, Fault> {
    let body = body(chunks, key, header)?;
    DecodedBlock::decode_matching(header, &body, wanted).map_err(|error| damaged(key, &error))
}

/// Reads only the timestamps of a block's records.
pub(crate) fn timestamps(
    chunks: &impl ReadableTable<&'static ChunkKey, &'static [u8]>,
    key: &BlockKey,
    header: &BlockHeader,
) -> Result<Vec<i64>, Fault> {
    let body = body(chunks, key, header)?;
    header
        .timestamps(&body)
        .map_err(|error| damaged(key, &error))
}

/// Reads only the timestamps and severities of a block's records.
pub(crate) fn levels(
    chunks: &impl ReadableTable<&'static ChunkKey, &'static [u8]>,
    key: &BlockKey,
    header: &BlockHeader,
    signal: Signal,
) -> Result<Vec<(i64, Option<Level>)>, Fault> {
    let body = body(chunks, key, header)?;
    header
        .levels(signal, &body)
        .map_err(|error| damaged(key, &error))
}

fn body(
    chunks: &impl ReadableTable<&'static ChunkKey, &'static [u8]>,
    key: &BlockKey,
    header: &BlockHeader,
) -> Result<Vec<u8>, Fault> {
    let mut body = Vec::with_capacity(header.body_bytes.min(1 << 20) as usize);
    let range = keys::chunk_range(key);
    for chunk in chunks.range::<&ChunkKey>(range.start()..=range.end())? {
        body.extend_from_slice(chunk?.1.value());
        // Pages that name each other would fill the memory.
        if body.len() > header.body_bytes as usize {
            break;
        }
    }
    Ok(body)
}

/// The size of a block, given the table of summaries.
pub(crate) fn size(
    summaries: &impl ReadableTable<&'static BlockKey, &'static [u8]>,
    key: &BlockKey,
    header: &BlockHeader,
) -> Result<BlockSize, Fault> {
    let summary = summaries.get(key)?;
    Ok(BlockSize::new(
        header,
        summary.map(|summary| summary.value().len()),
    ))
}

/// Decodes the header of the block at `key`.
pub(crate) fn read_header(key: &BlockKey, stored: &[u8]) -> Result<BlockHeader, Fault> {
    let header = checked::decode(key, stored)
        .ok_or_else(|| damaged(key, &"the checksum of its header does not match"))?;
    BlockHeader::from_bytes(header).map_err(|error| damaged(key, &error))
}

fn stored_header(key: &BlockKey, header: &BlockHeader) -> StoredHeader {
    let mut stored = Vec::with_capacity(size_of::<StoredHeader>());
    checked::encode(key, &header.to_bytes(), &mut stored);
    stored.try_into().unwrap_or([0; size_of::<StoredHeader>()])
}

fn damaged(key: &BlockKey, error: &dyn std::fmt::Display) -> Fault {
    let (last, _) = keys::block_position(key);
    let last = crate::time::Timestamp::from_unix_nanos(last);
    Fault::Corrupt(format!("the block that ends at {last}: {error}"))
}

/// Splits a body so that each chunk fits whole pages, see [`footprint::next_chunk_bytes`].
fn cut_to_pages(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = body;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (chunk, after) = rest.split_at_checked(footprint::next_chunk_bytes(rest.len()))?;
        rest = after;
        Some(chunk)
    })
}

/// The numbers of chunks must not overflow for the largest body.
const _: () =
    assert!((64 << 20) / chunk_bytes(4) < u16::MAX as usize && size_of::<BlockHeader>() < 128);

#[cfg(test)]
mod tests {
    use super::*;

    /// Records with these times, in hours.
    fn records(hours: impl IntoIterator<Item = i64>) -> Vec<BlockRecord<'static>> {
        let hour = GAP_MIN.cast_signed();
        let records = hours
            .into_iter()
            .zip(0u64..)
            .map(|(at, sequence)| BlockRecord {
                timestamp: at * hour + sequence.cast_signed(),
                sequence,
                payload: b"",
            });
        records.collect()
    }

    #[test]
    fn a_block_ends_before_a_gap_between_many_records() {
        let times = |counts: &[(usize, i64)]| -> Vec<i64> {
            let times = counts.iter().flat_map(|(count, at)| vec![*at; *count]);
            times.collect()
        };
        for (counts, expected) in [
            // Two, and three, times that are far apart.
            (&[(500, 0), (400, 300)][..], 500),
            (&[(200, 0), (200, 24), (200, 48)], 200),
            // A few records would make a block of their own.
            (&[(127, 0), (400, 300)], 527),
            (&[(128, 0), (400, 300)], 128),
            (&[(400, 0), (127, 300)], 527),
            (&[(400, 0), (128, 300)], 400),
            (&[(100, 0), (100, 10), (200, 50)], 200),
            (&[(600, 0)], 600),
            (&[], 0),
        ] {
            assert_eq!(before_gap(&records(times(counts))), expected, "{counts:?}");
        }
        // Rare and regular records have no gap.
        assert_eq!(before_gap(&records((0..1000).map(|at| at * 5))), 1000);
        // The times of the whole range do not overflow.
        let mut extremes = records(vec![0; 400]);
        for (index, record) in extremes.iter_mut().enumerate() {
            record.timestamp = if index < 200 { i64::MIN } else { i64::MAX };
        }
        assert_eq!(before_gap(&extremes), 200);
    }

    #[test]
    fn pieces_fit_pages_and_make_the_body() {
        for length in [
            0, 1, 4000, 8161, 8162, 12_000, 12_300, 16_353, 16_354, 100_000,
        ] {
            let body: Vec<u8> = (0..length).map(|byte: u32| byte.to_le_bytes()[0]).collect();
            let chunks: Vec<&[u8]> = cut_to_pages(&body).collect();
            assert_eq!(chunks.concat(), body);
            let pages: usize = chunks
                .iter()
                .map(|chunk| (chunk.len() + 31).div_ceil(4096).next_power_of_two())
                .sum();
            assert!(
                pages * 4096 < length as usize + 3 * 4096,
                "{length} bytes: {pages} pages"
            );
        }
    }
}
