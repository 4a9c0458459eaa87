//! The series of a database: their ids, and the totals of their blocks.

use crate::{
    record::ServerName,
    signal::Signal,
    store::{
        engine::{fault::Fault, transaction::WriteTransaction},
        layout::{
            block::BlockHeader,
            checked,
            footprint::BlockSize,
            tables::{META, SERIES, meta},
            values,
        },
    },
};
use redb::ReadableTable;
use serde::{Deserialize, Serialize};

/// The id of a (server, signal) pair within one database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct SeriesId(pub(crate) u32);

/// The state of a series: its id, the totals of its blocks and the number of records in rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SeriesState {
    pub(crate) id: SeriesId,
    /// The number of records in blocks.
    pub(crate) block_records: u64,
    /// The size of the blocks as it counts against limits, in bytes: keys, headers, bodies and
    /// summaries.
    pub(crate) block_bytes: u64,
    /// The number of blocks of each span class, classes ascending.
    pub(crate) span_classes: Vec<(u8, u64)>,
    /// The size of the blocks on the disk, in bytes, see [`BlockSize`].
    pub(crate) disk_bytes: u64,
    /// The number of blocks of each merge level, levels ascending; see
    /// [`BlockHeader::merge_level`].
    pub(crate) merge_levels: Vec<(u8, u64)>,
    /// The number of records in its rows.
    pub(crate) rows: u64,
}

impl SeriesState {
    pub(crate) fn new(id: SeriesId) -> SeriesState {
        SeriesState {
            id,
            block_records: 0,
            block_bytes: 0,
            span_classes: Vec::new(),
            disk_bytes: 0,
            merge_levels: Vec::new(),
            rows: 0,
        }
    }

    /// Adds a new block to the totals.
    pub(crate) fn add_block(&mut self, header: &BlockHeader, size: BlockSize) {
        self.block_records += u64::from(header.count);
        self.block_bytes += size.bytes;
        self.disk_bytes += size.disk_bytes;
        count_one(&mut self.span_classes, header.span_class());
        if let Some(level) = header.merge_level() {
            count_one(&mut self.merge_levels, level);
        }
    }

    /// Subtracts a deleted block from the totals.
    pub(crate) fn remove_block(&mut self, header: &BlockHeader, size: BlockSize) {
        self.block_records = self.block_records.saturating_sub(u64::from(header.count));
        self.block_bytes = self.block_bytes.saturating_sub(size.bytes);
        self.disk_bytes = self.disk_bytes.saturating_sub(size.disk_bytes);
        discount_one(&mut self.span_classes, header.span_class());
        if let Some(level) = header.merge_level() {
            discount_one(&mut self.merge_levels, level);
        }
    }

    /// Whether it has neither rows nor blocks.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows == 0 && self.span_classes.is_empty()
    }

    fn to_bytes(&self) -> Result<Vec<u8>, Fault> {
        values::encode(self).map_err(|error| {
            Fault::Corrupt(format!("cannot encode the state of a series: {error}"))
        })
    }
}

/// Decodes the state in an entry of [`SERIES`].
pub(crate) fn read_state(key: (&str, u8), stored: &[u8]) -> Result<SeriesState, Fault> {
    let decoded = checked::read::<(&str, u8)>(&key, stored)
        .and_then(|state| values::decode(state).map_err(|error| Fault::Corrupt(error.to_string())));
    decoded.map_err(|fault| {
        let (server, code) = key;
        let signal = Signal::from_code(code).map_or("signal unknown", Signal::as_str);
        fault.within(&format!("the entry of {server}, {signal}"))
    })
}

/// Increments the count of `key` in a list sorted by key.
fn count_one(counts: &mut Vec<(u8, u64)>, key: u8) {
    match counts.binary_search_by_key(&key, |(key, _)| *key) {
        Ok(at) => {
            if let Some((_, count)) = counts.get_mut(at) {
                *count += 1;
            }
        }
        Err(at) => counts.insert(at, (key, 1)),
    }
}

/// Decrements the count of `key`, and removes the key when its count becomes zero.
fn discount_one(counts: &mut Vec<(u8, u64)>, key: u8) {
    for (_, count) in counts.iter_mut().filter(|(other, _)| *other == key) {
        *count = count.saturating_sub(1);
    }
    counts.retain(|(_, count)| *count > 0);
}

/// Decodes an entry of [`SERIES`].
pub(crate) fn read_entry(
    key: (&str, u8),
    stored: &[u8],
) -> Result<(ServerName, Signal, SeriesState), Fault> {
    let state = read_state(key, stored)?;
    let (server, code) = key;
    Ok((ServerName::new(server)?, signal_of(code)?, state))
}

/// The signal with this code in a key of [`SERIES`].
pub(crate) fn signal_of(code: u8) -> Result<Signal, Fault> {
    Signal::from_code(code)
        .ok_or_else(|| Fault::Corrupt(format!("a series has the unknown signal code {code}")))
}

/// Creates a series with the next free id. It takes the place of one whose entry is damaged.
pub(crate) fn create_series(
    transaction: &WriteTransaction,
    server: &ServerName,
    signal: Signal,
) -> Result<SeriesState, Fault> {
    let mut meta = transaction.open_table(META)?;
    let id = meta
        .get(meta::NEXT_SERIES)?
        .map_or(0, |value| value.value());
    let narrow = u32::try_from(id)
        .map_err(|_| Fault::Corrupt(format!("{id} series were created, and no more can be")))?;
    meta.insert(meta::NEXT_SERIES, id + 1)?;
    let state = SeriesState::new(SeriesId(narrow));
    put_series_state(transaction, server, signal, &state)?;
    Ok(state)
}

/// The state of a series; `None` when nothing was stored for it, or another process wiped it.
pub(crate) fn stored_series_state(
    transaction: &WriteTransaction,
    server: &str,
    signal: Signal,
) -> Result<Option<SeriesState>, Fault> {
    find_state(&*transaction.open_table(SERIES)?, server, signal)
}

/// Does the same, given the table.
pub(crate) fn find_state(
    series: &impl ReadableTable<(&'static str, u8), &'static [u8]>,
    server: &str,
    signal: Signal,
) -> Result<Option<SeriesState>, Fault> {
    let key = (server, signal as u8);
    series
        .get(key)?
        .map(|state| read_state(key, state.value()))
        .transpose()
}

pub(crate) fn put_series_state(
    transaction: &WriteTransaction,
    server: &str,
    signal: Signal,
    state: &SeriesState,
) -> Result<(), Fault> {
    put_series_states(transaction, [(server, signal, state)])
}

/// Does the same for several series. To open a table takes longer than to change an entry of it.
pub(crate) fn put_series_states<'s>(
    transaction: &WriteTransaction,
    states: impl IntoIterator<Item = (&'s str, Signal, &'s SeriesState)>,
) -> Result<(), Fault> {
    let mut series = transaction.open_table(SERIES)?;
    states.into_iter().try_for_each(|(server, signal, state)| {
        checked::insert(&mut series, (server, signal as u8), &state.to_bytes()?)
    })
}
