//! What is stored for whom.

use super::{
    Fault, RowTier, Snapshot, Store, StoreOptions,
    block::{BlockHeader, span_max},
    snapshot::SeriesEntry,
    tables::{self, BLOCKS, ROWS},
};
use crate::{error::Result, record::ServerName, signal::Signal, time::Timestamp};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What is stored of one signal of one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InventoryRecord {
    /// The server.
    pub server: ServerName,
    /// The signal.
    pub signal: Signal,
    /// The database that holds it.
    pub path: PathBuf,
    /// What its records take in the database, in bytes: keys and payloads of rows, keys, headers
    /// and bodies of blocks.
    pub size_bytes: u64,
    /// The timestamp of the oldest record.
    pub oldest_time: Timestamp,
    /// The timestamp of the newest record.
    pub newest_time: Timestamp,
    /// How many files hold it: 1, the database.
    pub file_count: u64,
    /// How many records there are.
    pub record_count: u64,
}

/// What is stored of `stack`, see [`Snapshot::inventory`]. A stack without telemetry has none.
pub fn inventory(home: &Path, stack: &str, server: Option<&str>) -> Result<Vec<InventoryRecord>> {
    match Store::open_read_only(home, stack, StoreOptions::for_tools())? {
        Some(store) => store.snapshot()?.inventory(server),
        None => Ok(Vec::new()),
    }
}

impl Snapshot {
    /// What is stored, by server and then in the order of signals; of one server alone when one is
    /// named. Series without records are left out.
    ///
    /// Its cost does not grow with the number of records: blocks are counted as they are written,
    /// and rows are few.
    pub fn inventory(&self, server: Option<&str>) -> Result<Vec<InventoryRecord>> {
        let mut records = Vec::new();
        for entry in self.series()? {
            if server.is_none_or(|name| name == entry.server.as_str()) {
                records.extend(self.read(|| self.inventory_record(entry))?);
            }
        }
        Ok(records)
    }

    fn inventory_record(&self, entry: SeriesEntry) -> Result<Option<InventoryRecord>, Fault> {
        let state = &entry.state;
        let mut rows = RowTier::default();
        let mut bounds: Option<(i64, i64)> = None;
        let mut extend = |first: i64, last: i64| {
            let (oldest, newest) = bounds.unwrap_or((first, last));
            bounds = Some((oldest.min(first), newest.max(last)));
        };
        let first_key = tables::row_key(state.id, (i64::MIN, 0));
        let last_key = tables::row_key(state.id, (i64::MAX, u64::MAX));
        for row in self
            .transaction()
            .open_table(ROWS)?
            .range::<&[u8; tables::ROW_KEY_BYTES]>(&first_key..=&last_key)?
        {
            let (key, payload) = row?;
            rows.add(payload.value().len());
            let (timestamp, _) = tables::row_position(key.value());
            extend(timestamp, timestamp);
        }
        let blocks = self.transaction().open_table(BLOCKS)?;
        for (class, _) in &state.classes {
            let first_key = tables::block_key(state.id, *class, (i64::MIN, 0));
            let last_key = tables::block_key(state.id, *class, (i64::MAX, u64::MAX));
            let mut range =
                blocks.range::<&[u8; tables::BLOCK_KEY_BYTES]>(&first_key..=&last_key)?;
            if let Some(newest) = range.next_back() {
                let (newest, _) = tables::block_position(newest?.0.value());
                extend(newest, newest);
            }
            // Blocks stand in the order of their last records, and a later one may begin earlier:
            // but by no more than the span of its class.
            let mut oldest = i64::MAX;
            for block in blocks.range::<&[u8; tables::BLOCK_KEY_BYTES]>(&first_key..=&last_key)? {
                let (key, header) = block?;
                let (last, _) = tables::block_position(key.value());
                if last.saturating_sub_unsigned(span_max(*class)) > oldest {
                    break;
                }
                let header = BlockHeader::from_bytes(header.value())
                    .map_err(|error| Fault::Corrupt(format!("a block's header: {error}")))?;
                oldest = oldest.min(header.first);
                extend(header.first, last);
            }
        }
        Ok(bounds.map(|(oldest, newest)| InventoryRecord {
            path: self.path().clone(),
            size_bytes: rows.bytes as u64 + state.block_bytes,
            oldest_time: Timestamp::from_unix_nanos(oldest),
            newest_time: Timestamp::from_unix_nanos(newest),
            file_count: 1,
            record_count: rows.rows as u64 + state.block_records,
            server: entry.server,
            signal: entry.signal,
        }))
    }
}
