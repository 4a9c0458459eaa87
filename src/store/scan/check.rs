//! Where the records are, and whether all tables agree on it. For tests: reading everything that is
//! known of blocks is what the store itself never has to do.

use crate::{
    error::Result,
    record::ServerName,
    signal::Signal,
    store::{
        engine::fault::Fault,
        layout::{
            block::BlockHeader,
            footprint, keys,
            series::SeriesState,
            tables::{
                BLOCK_CHUNKS, BLOCKS, BlockKey, MERGE_QUEUE, META, MergeKey, ROWS, RowKey, meta,
            },
        },
        snapshot::{SeriesEntry, Snapshot},
        tiers::{blocks, rows::RowTier},
    },
    time::Timestamp,
};
use redb::ReadableTableMetadata;

/// Where the records of a series are, those that are too old to be read included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesLayout {
    /// Whose records.
    pub server: ServerName,
    /// Of which signal.
    pub signal: Signal,
    /// The times and sequences of those in the row tier, in order.
    pub rows: Vec<(Timestamp, u64)>,
    /// What these take, in bytes.
    pub row_bytes: u64,
    /// The blocks, in the order of their last records.
    pub blocks: Vec<BlockLayout>,
}

/// What is known of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockLayout {
    /// The time and sequence of its last record.
    pub last: (Timestamp, u64),
    /// The earliest time.
    pub first: Timestamp,
    /// How many records it has.
    pub records: u64,
    /// What it takes of its series' limit, in bytes.
    pub bytes: u64,
    /// What it takes of the disk, in bytes.
    pub disk_bytes: u64,
}

impl SeriesLayout {
    /// What the series takes of its limit, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.row_bytes + self.blocks.iter().map(|block| block.bytes).sum::<u64>()
    }

    /// How many records there are.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.rows.len() as u64 + self.blocks.iter().map(|block| block.records).sum::<u64>()
    }
}

impl Snapshot {
    /// Where all records are.
    ///
    /// Fails with [`Error::Corrupt`](crate::Error::Corrupt) when the tables contradict each other:
    /// in what a series has, in which blocks are to be merged, or in which chunks belong to one.
    pub fn layout(&self) -> Result<Vec<SeriesLayout>> {
        let series = self.series()?;
        self.read(|| {
            let mut found = Totals::default();
            let layouts: Vec<SeriesLayout> = series
                .into_iter()
                .map(|entry| self.layout_of(entry, &mut found))
                .collect::<Result<_, Fault>>()?;
            let transaction = self.transaction();
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
                    "small",
                    transaction.open_table(MERGE_QUEUE)?.len()?,
                    found.queued,
                ),
            ] {
                agree("the table", table, stored, found)?;
            }
            Ok(layouts)
        })
    }

    fn layout_of(&self, entry: SeriesEntry, totals: &mut Totals) -> Result<SeriesLayout, Fault> {
        let SeriesEntry {
            server,
            signal,
            state,
        } = entry;
        let transaction = self.transaction();
        let mut rows = Vec::new();
        let mut tier = RowTier::default();
        let range = keys::row_range(state.id);
        for row in transaction
            .open_table(ROWS)?
            .range::<&RowKey>(range.start()..=range.end())?
        {
            let (key, payload) = row?;
            let (timestamp, sequence) = keys::row_position(key.value());
            rows.push((Timestamp::from_unix_nanos(timestamp), sequence));
            tier.add(payload.value().len());
        }
        totals.rows += tier.rows as u64;

        let chunks = transaction.open_table(BLOCK_CHUNKS)?;
        let queue = transaction.open_table(MERGE_QUEUE)?;
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
            counted.add_block(&header);
            let (number, bytes) = blocks::chunks_of(&chunks, &key)?;
            agree(&server, "bytes of chunks", bytes, header.body_bytes.into())?;
            totals.add(&header, number);
            if let Some(level) = header.merge_level() {
                let key: MergeKey = keys::merge_key(&key, level);
                agree(
                    &server,
                    "entry of what is to be merged",
                    queue.get(&key)?.iter().count() as u64,
                    1,
                )?;
            }
            let (last, sequence) = keys::block_position(&key);
            blocks.push(BlockLayout {
                last: (Timestamp::from_unix_nanos(last), sequence),
                first: Timestamp::from_unix_nanos(header.first),
                records: header.count.into(),
                bytes: footprint::block_bytes(&header),
                disk_bytes: footprint::disk_bytes(&header),
            });
        }
        if counted != state {
            return Err(Fault::Corrupt(format!(
                "{server}, {signal}: the state is {state:?}, and its blocks make it {counted:?}"
            )));
        }
        blocks.sort_by_key(|block| block.last);
        Ok(SeriesLayout {
            server,
            signal,
            rows,
            row_bytes: tier.bytes as u64,
            blocks,
        })
    }
}

/// What all series have together.
#[derive(Default)]
struct Totals {
    rows: u64,
    blocks: u64,
    chunks: u64,
    queued: u64,
    disk_bytes: u64,
}

impl Totals {
    fn add(&mut self, header: &BlockHeader, chunks: u64) {
        self.blocks += 1;
        self.chunks += chunks;
        self.queued += u64::from(header.merge_level().is_some());
        self.disk_bytes += footprint::disk_bytes(header);
    }
}

fn agree(whose: &str, what: &str, stored: u64, found: u64) -> Result<(), Fault> {
    if stored == found {
        Ok(())
    } else {
        Err(Fault::Corrupt(format!(
            "{whose}: {what}: {stored} are stored, and {found} are found"
        )))
    }
}
