//! The row tier: fresh records, which the table holds in rows of one or several, see [`row`].
//!
//! Each commit appends rows; they leave the tier oldest first, when they are sealed into blocks or
//! when they expire.

use crate::{
    record::ServerName,
    signal::Signal,
    store::{
        engine::{
            fault::Fault,
            transaction::{Table, WriteTransaction},
        },
        layout::{
            block::BlockRecord,
            keys::{self, POSITION_MAX, POSITION_MIN, Position},
            row::{self, RowRecords},
            series::{self, SeriesId},
            tables::{ROW_KEY_BYTES, ROWS, RowKey, SERIES},
        },
        ledger::{damage::Finding, losses::LossSpan},
    },
    time::Timestamp,
};
use redb::{ReadTransaction, ReadableTable};
use std::{collections::HashMap, ops::Range};

/// Maximum size of the rows that one seal moves, in bytes. The rest is left to the next seal, so
/// that no transaction takes long.
const SEAL_BYTES_MAX: usize = 4 << 20;
/// The number of records from which one transaction expires no further rows.
pub(crate) const EXPIRED_RECORDS_MAX: u64 = 4096;

/// The size of a set of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RowTier {
    /// The number of their records.
    pub(crate) records: u64,
    /// The size of keys, payloads and checksums, in bytes.
    pub(crate) bytes: usize,
}

impl RowTier {
    /// Adds a row of this many records, whose value has this length.
    pub(crate) fn add(&mut self, records: u64, value_bytes: usize) {
        self.records += records;
        self.bytes += value_bytes + ROW_KEY_BYTES;
    }

    /// Adds a row, which need not be intact.
    pub(crate) fn add_row(&mut self, key: &RowKey, value: &[u8]) {
        self.add(row::extent(key, value).records(), value.len());
    }
}

/// The records of a row. Fails when the row is damaged.
pub(crate) fn records<'v>(key: &RowKey, value: &'v [u8]) -> Result<RowRecords<'v>, Fault> {
    RowRecords::read(key, value).ok_or_else(|| {
        let (timestamp, _) = keys::row_position(key);
        let time = Timestamp::from_unix_nanos(timestamp);
        Fault::Corrupt(format!("the row of {time}: the checksum does not match"))
    })
}

/// Inserts records, which are in the order of their sequences, as rows. Returns the size of these.
pub(crate) fn insert(
    table: &mut Table<'_, &'static RowKey, &'static [u8]>,
    series: SeriesId,
    records: &[BlockRecord<'_>],
) -> Result<RowTier, Fault> {
    let mut inserted = RowTier::default();
    let mut value = Vec::new();
    let mut rest = records;
    while !rest.is_empty() {
        let (key, count) = row::encode(series, rest, &mut value);
        table.insert(&key, value.as_slice())?;
        inserted.add(count as u64, value.len());
        rest = rest.get(count..).unwrap_or_default();
    }
    Ok(inserted)
}

/// The keys of the rows that can hold records from `first` to `last`. A row ends at most one span after its first
/// record.
pub(crate) fn keys_between(series: SeriesId, first: i64, last: i64) -> (RowKey, RowKey) {
    let end = last.saturating_add_unsigned(row::SPAN_MAX);
    (
        keys::row_key(series, (first, POSITION_MIN.1)),
        keys::row_key(series, (end, POSITION_MAX.1)),
    )
}

/// The oldest rows of a series, which were removed.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// The payloads of their records.
    payloads: Vec<u8>,
    /// The position of each record, and where its payload is.
    records: Vec<(Position, Range<usize>)>,
    /// The rows among them that are damaged, which no block can hold.
    damaged: Vec<DamagedRow>,
    /// The size of the rows that remain.
    pub(crate) left: RowTier,
}

/// A row that cannot be read.
#[derive(Debug)]
pub(crate) struct DamagedRow {
    /// The number of its records, if that is known.
    pub(crate) records: Option<u64>,
    /// When its first record was, and its last.
    range: (i64, i64),
    pub(crate) what: String,
}

impl DamagedRow {
    /// The row at `key`, which `fault` was found in.
    pub(crate) fn new(key: &RowKey, value: &[u8], fault: Fault) -> DamagedRow {
        let extent = row::extent(key, value);
        DamagedRow {
            records: extent.count,
            range: (extent.first, extent.last),
            what: fault.reason(),
        }
    }

    pub(crate) fn finding(self, server: &ServerName, signal: Signal) -> Finding {
        let (first, last) = self.range;
        Finding::of(server, signal, self.what)
            .between(first, last)
            .losing(self.records)
    }
}

impl Taken {
    /// Whether no row was there.
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.damaged.is_empty()
    }

    /// What is damaged among the rows.
    pub(crate) fn findings(&mut self, server: &ServerName, signal: Signal) -> Vec<Finding> {
        let damaged = self.damaged.drain(..);
        damaged.map(|row| row.finding(server, signal)).collect()
    }

    /// The records in their order, in the form that the block encoder takes.
    pub(crate) fn block_records(&self) -> Vec<BlockRecord<'_>> {
        let records = self.records.iter();
        let mut records: Vec<BlockRecord<'_>> = records
            .map(|(position, payload)| {
                let payload = self.payloads.get(payload.clone()).unwrap_or_default();
                BlockRecord::new(*position, payload)
            })
            .collect();
        // Rows that were committed one after the other can overlap in time.
        if !records.is_sorted_by_key(BlockRecord::position) {
            records.sort_unstable_by_key(BlockRecord::position);
        }
        records
    }
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
            taken.left.add_row(&key, value);
            continue;
        }
        size.add_row(&key, value);
        ends = Some((ends.map_or(key, |(first, _)| first), key));
        match records(&key, value) {
            Ok(mut row) => {
                let start = taken.payloads.len();
                taken.payloads.extend_from_slice(row.value());
                while let Some((position, payload)) = row.next_range() {
                    let payload = start + payload.start..start + payload.end;
                    taken.records.push((position, payload));
                }
            }
            Err(fault) => taken.damaged.push(DamagedRow::new(&key, value, fault)),
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
        let (key, value) = entry?;
        tier.add_row(key.value(), value.value());
    }
    Ok(tier)
}

/// Removes the rows whose records are all from before `cutoff`, up to the row with which
/// [`EXPIRED_RECORDS_MAX`] is reached. Returns the span of the removed records and the size of the
/// remaining rows; `None` when no row was removed.
pub(crate) fn expire(
    transaction: &WriteTransaction,
    series: SeriesId,
    cutoff: i64,
) -> Result<Option<(LossSpan, RowTier)>, Fault> {
    let mut table = transaction.open_table(ROWS)?;
    let range = keys::row_range(series);
    let end = keys::row_key(series, (cutoff, 0));
    let (mut expired, mut last) = (None::<LossSpan>, end);
    for entry in table.range::<&RowKey>(range.start()..&end)? {
        let (key, value) = entry?;
        last = *key.value();
        let row = row::extent(&last, value.value());
        let span = LossSpan::new(row.records(), row.first, row.last);
        match &mut expired {
            Some(expired) => expired.add(span),
            None => expired = Some(span),
        }
        if expired.is_some_and(|span| span.count() >= EXPIRED_RECORDS_MAX) {
            break;
        }
    }
    let Some(span) = expired else {
        return Ok(None);
    };
    table.retain_in::<&RowKey, _>(range.start()..=&last, |_, _| false)?;
    let mut left = RowTier::default();
    for entry in table.range::<&RowKey>(&last..=range.end())? {
        let (key, value) = entry?;
        left.add_row(key.value(), value.value());
    }
    Ok(Some((span, left)))
}

/// Removes the records before `end`, however many they are. Returns whether there were any.
pub(crate) fn remove_before(
    transaction: &WriteTransaction,
    series: SeriesId,
    end: i64,
) -> Result<bool, Fault> {
    let range = keys::row_range(series);
    let mut table = transaction.open_table(ROWS)?;
    let first_kept = keys::row_key(series, (end, 0));
    let mut removed = false;
    table.retain_in::<&RowKey, _>(range.start()..&first_kept, |_, _| {
        removed = true;
        false
    })?;
    let mut cut = Vec::new();
    let (from, to) = keys_between(series, end, end);
    for entry in table.range::<&RowKey>(&from..=&to)? {
        let (key, value) = entry?;
        let (key, value) = (*key.value(), value.value());
        // A damaged row holds nothing that could be read, whatever its times were.
        let Some(row) = RowRecords::read(&key, value) else {
            continue;
        };
        if row::extent(&key, value).first < end {
            let kept = row.filter(|((timestamp, _), _)| *timestamp >= end);
            let kept = kept.map(|(position, payload)| (position, payload.to_vec()));
            cut.push((key, kept.collect::<Vec<_>>()));
        }
    }
    removed |= !cut.is_empty();
    for (key, kept) in cut {
        let kept = kept.iter();
        let kept = kept.map(|(position, payload)| BlockRecord::new(*position, payload));
        table.remove(&key)?;
        insert(&mut table, series, &kept.collect::<Vec<_>>())?;
    }
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
            let (key, value) = entry?;
            counts
                .entry(keys::row_series(key.value()))
                .or_default()
                .add_row(key.value(), value.value());
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
        if added.records > 0 {
            let tier = self.tiers.entry((server.clone(), signal)).or_default();
            tier.records += added.records;
            tier.bytes += added.bytes;
            self.bytes += added.bytes;
        }
    }

    /// Replaces the known size of the rows of a series.
    pub(crate) fn set(&mut self, server: &ServerName, signal: Signal, tier: RowTier) {
        let key = (server.clone(), signal);
        let before = if tier.bytes == 0 {
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
