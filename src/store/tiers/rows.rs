//! The row tier: fresh records, one table row each.
//!
//! Rows are appended one by one; they leave the tier oldest first, when they are sealed into blocks
//! or when they expire.

use crate::{
    record::ServerName,
    signal::Signal,
    store::{
        engine::{fault::Fault, transaction::WriteTransaction},
        layout::{
            block::BlockRecord,
            checked,
            keys::{self, Position},
            series::{self, SeriesId},
            tables::{ROW_KEY_BYTES, ROWS, RowKey, SERIES},
        },
        ledger::losses::LossSpan,
    },
    time::Timestamp,
};
use redb::{ReadTransaction, ReadableTable};
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
    /// The size of keys, payloads and checksums, in bytes.
    pub(crate) bytes: usize,
}

impl RowTier {
    /// Adds a row whose value, a payload with its checksum, has this length.
    pub(crate) fn add(&mut self, value_bytes: usize) {
        self.rows += 1;
        self.bytes += value_bytes + ROW_KEY_BYTES;
    }
}

/// The payload of a row. Fails when the row is damaged.
pub(crate) fn payload<'v>(key: &RowKey, value: &'v [u8]) -> Result<&'v [u8], Fault> {
    checked::decode(key, value).ok_or_else(|| {
        let (timestamp, _) = keys::row_position(key);
        let time = Timestamp::from_unix_nanos(timestamp);
        Fault::Corrupt(format!("the row of {time}: the checksum does not match"))
    })
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

/// The oldest rows of a series, which were removed.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) rows: Vec<Row>,
    /// The rows among them that are damaged, which no block can hold, each with its time.
    pub(crate) damaged: Vec<(i64, Fault)>,
    /// The size of the rows that remain.
    pub(crate) left: RowTier,
}

/// Removes the oldest rows of a series, up to [`SEAL_BYTES_MAX`].
pub(crate) fn take_oldest(
    transaction: &WriteTransaction,
    series: SeriesId,
) -> Result<Taken, Fault> {
    let mut table = transaction.open_table(ROWS)?;
    let mut taken = Taken::default();
    let mut size = RowTier::default();
    let mut ends: Option<(RowKey, RowKey)> = None;
    let range = keys::row_range(series);
    for entry in table.range::<&RowKey>(range.start()..=range.end())? {
        let (key, value) = entry?;
        let (key, value) = (*key.value(), value.value());
        if size.bytes >= SEAL_BYTES_MAX {
            taken.left.add(value.len());
            continue;
        }
        size.add(value.len());
        ends = Some((ends.map_or(key, |(first, _)| first), key));
        let position = keys::row_position(&key);
        match payload(&key, value) {
            Ok(payload) => taken.rows.push((position, payload.to_vec())),
            Err(fault) => taken.damaged.push((position.0, fault)),
        }
    }
    if let Some((first, last)) = ends {
        table.retain_in::<&RowKey, _>(&first..=&last, |_, _| false)?;
    }
    Ok(taken)
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
    let (mut expired, mut last) = (None, end);
    for entry in table
        .range::<&RowKey>(range.start()..&end)?
        .take(EXPIRED_ROWS_MAX)
    {
        last = *entry?.0.value();
        LossSpan::extend(&mut expired, keys::row_position(&last).0);
    }
    let Some(span) = expired else {
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

/// Removes the rows of all series with an id from `first` and below `end`.
pub(crate) fn remove_between(
    transaction: &WriteTransaction,
    first: u32,
    end: u32,
) -> Result<(), Fault> {
    let first = keys::row_key(SeriesId(first), keys::POSITION_MIN);
    let end = keys::row_key(SeriesId(end), keys::POSITION_MIN);
    transaction
        .open_table(ROWS)?
        .retain_in::<&RowKey, _>(&first..&end, |_, _| false)?;
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
            // The rows of a series whose entry is damaged cannot be sealed.
            if let Ok((server, signal, state)) = series::read_entry(key.value(), value.value())
                && let Some(tier) = counts.remove(&state.id)
            {
                tiers.add(&server, signal, tier);
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
            &*transaction.open_table(SERIES)?,
            &*transaction.open_table(ROWS)?,
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
