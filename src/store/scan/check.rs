//! Checks that all tables agree on where the records are. For tests: the store itself never reads
//! the headers of all blocks.

use crate::{
    error::Result,
    record::ServerName,
    signal::Signal,
    store::{
        engine::fault::Fault,
        layout::{
            block::BlockHeader,
            footprint::BlockSize,
            keys,
            series::SeriesState,
            tables::{
                BLOCK_CHUNKS, BLOCKS, BlockKey, MERGE_QUEUE, META, ROWS, RowKey, SUMMARIES, meta,
            },
        },
        tiers::{
            blocks,
            rows::RowTier,
            view::{SeriesEntry, View},
        },
    },
    time::Timestamp,
};
use redb::ReadableTableMetadata;

/// The location of the records of a series, including expired ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedSeries {
    /// The server of the records.
    pub server: ServerName,
    /// The signal of the records.
    pub signal: Signal,
    /// The timestamps and sequences of its rows, in order.
    pub rows: Vec<(Timestamp, u64)>,
    /// The size of its rows, in bytes.
    pub row_bytes: u64,
    /// Its blocks, ordered by their last records.
    pub blocks: Vec<CheckedBlock>,
}

/// A block, as described by its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckedBlock {
    /// The timestamp and sequence of its last record.
    pub last: (Timestamp, u64),
    /// The earliest timestamp.
    pub first: Timestamp,
    /// The number of records.
    pub records: u64,
    /// The size that counts against the limit of its series, in bytes.
    pub bytes: u64,
    /// The size on the disk, in bytes.
    pub disk_bytes: u64,
}

impl CheckedSeries {
    /// The size that counts against the limit of the series, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.row_bytes + self.blocks.iter().map(|block| block.bytes).sum::<u64>()
    }

    /// The number of records.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.rows.len() as u64 + self.blocks.iter().map(|block| block.records).sum::<u64>()
    }
}

/// Reads all tables, see `Snapshot::check`.
pub(crate) fn check(view: &View) -> Result<Vec<CheckedSeries>> {
    let series = view.series()?;
    view.read(|| {
        let mut found = Totals::default();
        let checked: Vec<CheckedSeries> = series
            .into_iter()
            .map(|entry| check_series(view, entry, &mut found))
            .collect::<Result<_, Fault>>()?;
        let transaction = view.transaction();
        let meta = transaction.open_table(META)?;
        let disk_bytes = meta.get(meta::BLOCK_DISK_BYTES)?;
        agree(
            "all blocks",
            "disk bytes",
            disk_bytes.map_or(0, |bytes| bytes.value()),
            found.disk_bytes,
        )?;
        for (table, stored, found) in [
            ("rows", transaction.open_table(ROWS)?.len()?, found.rows),
            (
                "blocks",
                transaction.open_table(BLOCKS)?.len()?,
                found.blocks,
            ),
            (
                "chunks",
                transaction.open_table(BLOCK_CHUNKS)?.len()?,
                found.chunks,
            ),
            (
                "summaries",
                transaction.open_table(SUMMARIES)?.len()?,
                found.summaries,
            ),
            (
                "merge queue",
                transaction.open_table(MERGE_QUEUE)?.len()?,
                found.queued,
            ),
        ] {
            agree("the table", table, stored, found)?;
        }
        Ok(checked)
    })
}

fn check_series(
    view: &View,
    entry: SeriesEntry,
    totals: &mut Totals,
) -> Result<CheckedSeries, Fault> {
    let SeriesEntry {
        server,
        signal,
        state,
    } = entry;
    let transaction = view.transaction();
    let mut rows = Vec::new();
    let mut tier = RowTier::default();
    let (first, last) = ((i64::MIN, 0), (i64::MAX, u64::MAX));
    for row in transaction
        .open_table(ROWS)?
        .range::<&RowKey>(&keys::row_key(state.id, first)..=&keys::row_key(state.id, last))?
    {
        let (key, payload) = row?;
        let (timestamp, sequence) = keys::row_position(key.value());
        rows.push((Timestamp::from_unix_nanos(timestamp), sequence));
        tier.add(payload.value().len());
    }
    totals.rows += tier.rows as u64;

    let chunks = transaction.open_table(BLOCK_CHUNKS)?;
    let queue = transaction.open_table(MERGE_QUEUE)?;
    let summaries = transaction.open_table(SUMMARIES)?;
    let mut counted = SeriesState::new(state.id);
    let mut blocks = Vec::new();
    let range = keys::block_range(state.id);
    for block in transaction
        .open_table(BLOCKS)?
        .range::<&BlockKey>(range.start()..=range.end())?
    {
        let (key, header) = block?;
        let (key, header) = (
            *key.value(),
            blocks::read_header(key.value(), header.value())?,
        );
        let size = blocks::size(&summaries, &key, &header)?;
        counted.add_block(&header, size);
        let (number, bytes) = blocks::chunks_of(&chunks, &key)?;
        agree(&server, "bytes of chunks", bytes, header.body_bytes.into())?;
        totals.add(&header, size, number);
        totals.summaries += u64::from(summaries.get(&key)?.is_some());
        if let Some(level) = header.merge_level() {
            let key = keys::merge_key(&key, level);
            agree(
                &server,
                "entries in the merge queue",
                queue.get(&key)?.iter().count() as u64,
                1,
            )?;
        }
        let (last, sequence) = keys::block_position(&key);
        blocks.push(CheckedBlock {
            last: (Timestamp::from_unix_nanos(last), sequence),
            first: Timestamp::from_unix_nanos(header.first),
            records: header.count.into(),
            bytes: size.bytes,
            disk_bytes: size.disk_bytes,
        });
    }
    if counted != state {
        return Err(Fault::Corrupt(format!(
            "{server}, {signal}: the stored state is {state:?}, but its blocks add up to {counted:?}"
        )));
    }
    blocks.sort_by_key(|block| block.last);
    Ok(CheckedSeries {
        server,
        signal,
        rows,
        row_bytes: tier.bytes as u64,
        blocks,
    })
}

/// The totals of all series.
#[derive(Default)]
struct Totals {
    rows: u64,
    blocks: u64,
    chunks: u64,
    summaries: u64,
    queued: u64,
    disk_bytes: u64,
}

impl Totals {
    fn add(&mut self, header: &BlockHeader, size: BlockSize, chunks: u64) {
        self.blocks += 1;
        self.chunks += chunks;
        self.queued += u64::from(header.merge_level().is_some());
        self.disk_bytes += size.disk_bytes;
    }
}

fn agree(whose: &str, what: &str, stored: u64, found: u64) -> Result<(), Fault> {
    if stored == found {
        Ok(())
    } else {
        Err(Fault::Corrupt(format!(
            "{whose}: {what}: {stored} are stored, but {found} were found"
        )))
    }
}
