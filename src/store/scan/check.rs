//! The location of all records, for tests: the store itself never reads the headers of all blocks.

use crate::{
    error::Result,
    record::ServerName,
    signal::Signal,
    store::{
        engine::fault::Fault,
        layout::keys,
        ledger::damage::Finding,
        scan::verify::{self, SeriesIndex},
        tiers::view::View,
    },
    time::Timestamp,
};

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

/// Reads all tables except the bodies of blocks, see `Snapshot::check`.
pub(crate) fn check(view: &View) -> Result<Vec<CheckedSeries>> {
    let mut wrong = None;
    let series = verify::check_index(view, &mut |finding| {
        wrong.get_or_insert(finding);
    });
    if let Some(Finding {
        server,
        signal,
        what,
        ..
    }) = wrong
    {
        let place = match (server, signal) {
            (Some(server), Some(signal)) => format!("{server}, {signal}: "),
            _ => String::new(),
        };
        return Err(view.failed(Fault::Corrupt(format!("{place}{what}"))));
    }
    Ok(series.into_iter().map(CheckedSeries::from).collect())
}

impl From<SeriesIndex> for CheckedSeries {
    fn from(index: SeriesIndex) -> CheckedSeries {
        let at = |(timestamp, sequence)| (Timestamp::from_unix_nanos(timestamp), sequence);
        let mut blocks: Vec<CheckedBlock> = (index.blocks.iter())
            .map(|block| CheckedBlock {
                last: at(keys::block_position(&block.key)),
                first: Timestamp::from_unix_nanos(block.header.first),
                records: block.header.count.into(),
                bytes: block.size.bytes,
                disk_bytes: block.size.disk_bytes,
            })
            .collect();
        blocks.sort_by_key(|block| block.last);
        CheckedSeries {
            server: index.entry.server,
            signal: index.entry.signal,
            rows: index.rows.into_iter().map(at).collect(),
            row_bytes: index.row_tier.bytes as u64,
            blocks,
        }
    }
}
