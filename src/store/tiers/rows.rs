//! The row tier: fresh records, one table row each.
//!
//! Rows are appended one by one; they leave the tier oldest first, when they are sealed into blocks
//! or when they expire.

use crate::{
    record::ServerName,
    signal::Signal,
    store::{
        engine::fault::Fault,
        layout::{
            block::BlockRecord,
            keys::{self, Position},
            series::{self, SeriesId, SeriesState},
            tables::{ROW_KEY_BYTES, ROWS, RowKey, SERIES},
        },
        ledger::losses::LossSpan,
    },
};
use redb::{ReadTransaction, ReadableTable, WriteTransaction};
use std::collections::HashMap;

/// Maximum size of the rows that one seal moves, in bytes. The rest is left to the next seal, so
/// that no transaction takes long.
const SEAL_BYTES_MAX: usize = 4 << 20;
/// The maximum number of rows that one transaction expires.
pub(crate) const EXPIRED_ROWS_MAX: usize = 4096;

/// The size of a set of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RowTier {
    pub(crate) rows: usize,
    /// The size of keys and payloads, in bytes.
    pub(crate) bytes: usize,
}

impl RowTier {
    /// Adds a row with a payload of this length.
    pub(crate) fn add(&mut self, payload_bytes: usize) {
        self.rows += 1;
        self.bytes += payload_bytes + ROW_KEY_BYTES;
    }
}

/// A row: its position and payload.
pub(crate) type Row = (Position, Vec<u8>);

/// A row in the form that the block encoder takes.
pub(crate) fn block_record(row: &Row) -> BlockRecord<'_> {
    let ((timestamp, sequence), payload) = row;
    BlockRecord {
        timestamp: *timestamp,
        sequence: *sequence,
        payload,
    }
}

/// Removes the oldest rows of a series, up to [`SEAL_BYTES_MAX`]. Returns them and the size of the
/// rest.
pub(crate) fn take_oldest(
    transaction: &WriteTransaction,
    series: SeriesId,
) -> Result<(Vec<Row>, RowTier), Fault> {
    let mut table = transaction.open_table(ROWS)?;
    let mut oldest = Vec::new();
    let mut taken = RowTier::default();
    let mut left = RowTier::default();
    let range = keys::row_range(series);
    for entry in table.range::<&RowKey>(range.start()..=range.end())? {
        let (key, payload) = entry?;
        if taken.bytes < SEAL_BYTES_MAX {
            taken.add(payload.value().len());
            oldest.push((keys::row_position(key.value()), payload.value().to_vec()));
        } else {
            left.add(payload.value().len());
        }
    }
    if let (Some((first, _)), Some((last, _))) = (oldest.first(), oldest.last()) {
        let (first, last) = (keys::row_key(series, *first), keys::row_key(series, *last));
        table.retain_in::<&RowKey, _>(&first..=&last, |_, _| false)?;
    }
    Ok((oldest, left))
}

/// The size of a series' rows.
pub(crate) fn count(transaction: &WriteTransaction, series: SeriesId) -> Result<RowTier, Fault> {
    let mut tier = RowTier::default();
    let range = keys::row_range(series);
    for entry in transaction
        .open_table(ROWS)?
        .range::<&RowKey>(range.start()..=range.end())?
    {
        tier.add(entry?.1.value().len());
    }
    Ok(tier)
}

/// Removes the rows before `cutoff`, at most [`EXPIRED_ROWS_MAX`]. Returns the span of the removed
/// rows and the size of the remaining ones; `None` when no row was removed.
pub(crate) fn expire(
    transaction: &WriteTransaction,
    series: SeriesId,
    cutoff: i64,
) -> Result<Option<(LossSpan, RowTier)>, Fault> {
    let mut table = transaction.open_table(ROWS)?;
    let range = keys::row_range(series);
    let end = keys::row_key(series, (cutoff, 0));
    let mut expired: Option<(LossSpan, RowKey)> = None;
    for entry in table
        .range::<&RowKey>(range.start()..&end)?
        .take(EXPIRED_ROWS_MAX)
    {
        let key = *entry?.0.value();
        let (timestamp, _) = keys::row_position(&key);
        let mut span = LossSpan::new(1, timestamp, timestamp);
        if let Some((before, _)) = expired {
            span.add(before);
        }
        expired = Some((span, key));
    }
    let Some((span, last)) = expired else {
        return Ok(None);
    };
    table.retain_in::<&RowKey, _>(range.start()..=&last, |_, _| false)?;
    let mut left = RowTier::default();
    for entry in table.range::<&RowKey>(&last..=range.end())? {
        left.add(entry?.1.value().len());
    }
    Ok(Some((span, left)))
}

/// Removes the rows before `end`, however many they are. Returns their number.
pub(crate) fn remove_before(
    transaction: &WriteTransaction,
    series: SeriesId,
    end: i64,
) -> Result<u64, Fault> {
    let range = keys::row_range(series);
    let end = keys::row_key(series, (end, 0));
    let mut removed = 0;
    transaction
        .open_table(ROWS)?
        .retain_in::<&RowKey, _>(range.start()..&end, |_, _| {
            removed += 1;
            false
        })?;
    Ok(removed)
}

/// Removes all rows of a series.
pub(crate) fn remove_all(transaction: &WriteTransaction, series: SeriesId) -> Result<(), Fault> {
    let range = keys::row_range(series);
    transaction
        .open_table(ROWS)?
        .retain_in::<&RowKey, _>(range.start()..=range.end(), |_, _| false)?;
    Ok(())
}

/// The size of the row tier by series, as far as one writer knows. The writer uses it to decide
/// when to seal, and adds it to the size that counts against limits. Other processes change the
/// rows as well, so it may be out of date, and nothing that must be exact may depend on it.
#[derive(Debug, Default)]
pub(crate) struct RowTiers {
    tiers: HashMap<(ServerName, Signal), RowTier>,
    bytes: usize,
}

impl RowTiers {
    /// Counts all rows, given the tables of a transaction.
    fn count(
        series: &impl ReadableTable<(&'static str, u8), &'static [u8]>,
        rows: &impl ReadableTable<&'static RowKey, &'static [u8]>,
    ) -> Result<RowTiers, Fault> {
        let mut counts: HashMap<SeriesId, RowTier> = HashMap::new();
        for entry in rows.iter()? {
            let (key, payload) = entry?;
            counts
                .entry(keys::row_series(key.value()))
                .or_default()
                .add(payload.value().len());
        }
        let mut tiers = RowTiers::default();
        for entry in series.iter()? {
            let (key, value) = entry?;
            let (server, signal) = key.value();
            let Ok(state) = SeriesState::from_bytes(value.value()) else {
                continue;
            };
            if let Some(tier) = counts.remove(&state.id) {
                tiers.add(&ServerName::new(server)?, series::signal_of(signal)?, tier);
            }
        }
        Ok(tiers)
    }

    /// Counts all rows that a read transaction sees.
    pub(crate) fn read(transaction: &ReadTransaction) -> Result<RowTiers, Fault> {
        RowTiers::count(
            &transaction.open_table(SERIES)?,
            &transaction.open_table(ROWS)?,
        )
    }

    /// Counts all rows that a write transaction sees.
    pub(crate) fn recount(transaction: &WriteTransaction) -> Result<RowTiers, Fault> {
        RowTiers::count(
            &transaction.open_table(SERIES)?,
            &transaction.open_table(ROWS)?,
        )
    }

    /// The size of all rows, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The size of one series' rows, in bytes.
    pub(crate) fn bytes_of(&self, server: &ServerName, signal: Signal) -> usize {
        self.tiers
            .get(&(server.clone(), signal))
            .map_or(0, |tier| tier.bytes)
    }

    /// Adds appended rows.
    pub(crate) fn add(&mut self, server: &ServerName, signal: Signal, added: RowTier) {
        if added.rows > 0 {
            let tier = self.tiers.entry((server.clone(), signal)).or_default();
            tier.rows += added.rows;
            tier.bytes += added.bytes;
            self.bytes += added.bytes;
        }
    }

    /// Replaces the known size of the rows of a series.
    pub(crate) fn set(&mut self, server: &ServerName, signal: Signal, tier: RowTier) {
        let key = (server.clone(), signal);
        let before = if tier.rows == 0 {
            self.tiers.remove(&key)
        } else {
            self.tiers.insert(key, tier)
        };
        self.bytes = (self.bytes + tier.bytes).saturating_sub(before.unwrap_or_default().bytes);
    }

    /// The series with the largest rows among those that `is_ripe` accepts.
    pub(crate) fn ripest(
        &self,
        is_ripe: impl Fn(&ServerName, Signal, RowTier) -> bool,
    ) -> Option<(ServerName, Signal)> {
        self.tiers
            .iter()
            .filter(|((server, signal), tier)| is_ripe(server, *signal, **tier))
            .max_by_key(|(_, tier)| tier.bytes)
            .map(|(key, _)| key.clone())
    }
}
