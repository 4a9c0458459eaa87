//! The inventory: the number and size of the stored records of each signal of each server.

use crate::{
    error::{Error, Result},
    record::ServerName,
    signal::Signal,
    store::{
        engine::fault::Fault,
        layout::{
            block::{BlockHeader, span_max},
            keys,
            row::{self, RowRecords},
            series::SeriesId,
            tables::{BLOCK_CHUNKS, BLOCKS, BlockKey, ROWS, RowKey, SUMMARIES},
        },
        ledger::{damage::Finding, wipes::WipeScope},
        tiers::{
            blocks,
            rows::{self, RowTier},
            view::{SeriesEntry, View},
        },
    },
    time::Timestamp,
};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// The stored records of one signal of one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct InventoryRecord {
    /// The server of the records.
    pub server: ServerName,
    /// The signal of the records.
    pub signal: Signal,
    /// The path of the database.
    #[serde(serialize_with = "as_text")]
    pub path: PathBuf,
    /// The size of the records in the database, in bytes: keys and payloads of rows; keys, headers,
    /// bodies and summaries of blocks. A block counts as a whole until all its records have expired.
    pub size_bytes: u64,
    /// The timestamp of the oldest record.
    pub oldest_time: Timestamp,
    /// The timestamp of the newest record.
    pub newest_time: Timestamp,
    /// The number of files that hold the records: always 1, the database.
    pub file_count: u64,
    /// The number of records.
    pub record_count: u64,
}

/// A path that is not UTF-8 must not make the whole inventory fail.
fn as_text<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

/// The inventory, see [`Snapshot::inventory`](crate::Snapshot::inventory).
pub(crate) fn list(view: &View, server: Option<&str>) -> Result<Vec<InventoryRecord>> {
    let mut records = Vec::new();
    for entry in view.series()? {
        if server.is_none_or(|name| name == entry.server.as_str()) {
            let cutoff = view.cutoff(&entry.server)?;
            records.extend(view.read(|| inventory_record(view, entry, cutoff))?);
        }
    }
    Ok(records)
}

/// What of the inventory can be read, and what cannot, see
/// [`Snapshot::readable_inventory`](crate::Snapshot::readable_inventory).
pub(crate) fn list_readable(view: &View) -> Result<(Vec<InventoryRecord>, Vec<Finding>)> {
    let (series, damaged) = view.readable_series()?;
    let mut records = Vec::new();
    let mut findings: Vec<Finding> = damaged
        .into_iter()
        .map(|damaged| Finding {
            server: damaged.server,
            signal: damaged.signal,
            ..Finding::of_all(damaged.what).losing(None)
        })
        .collect();
    for entry in series {
        let (server, signal) = (entry.server.clone(), entry.signal);
        let find = |what| Finding::of(&server, signal, what);
        let cutoff = or_damage(view.cutoff(&server))?.unwrap_or_else(|what| {
            findings.push(find(what));
            None
        });
        match or_damage(view.read(|| inventory_record(view, entry, cutoff)))? {
            Ok(record) => records.extend(record),
            Err(what) => findings.push(find(what).losing(None)),
        }
    }
    Ok((records, findings))
}

/// What was read, or what of it is damaged. Other failures are returned.
pub(super) fn or_damage<T>(read: Result<T>) -> Result<std::result::Result<T, String>> {
    match read {
        Ok(read) => Ok(Ok(read)),
        Err(Error::Corrupt { what, .. }) => Ok(Err(what)),
        Err(error) => Err(error),
    }
}

/// The records that a wipe would delete, see
/// [`Snapshot::would_wipe`](crate::Snapshot::would_wipe).
pub(crate) fn covered_by(view: &View, scope: &WipeScope) -> Result<Vec<InventoryRecord>> {
    let mut records = Vec::new();
    for entry in view.series()? {
        if !scope.covers(&entry.server, entry.signal) {
            continue;
        }
        let cutoff = view.cutoff(&entry.server)?;
        let covered = view.read(|| {
            let Some(held) = inventory_record(view, entry.clone(), cutoff)? else {
                return Ok(None);
            };
            match scope.before.map(Timestamp::unix_nanos) {
                Some(before) => before_of(view, entry, held, cutoff.unwrap_or(i64::MIN), before),
                None => Ok(Some(held)),
            }
        })?;
        records.extend(covered);
    }
    Ok(records)
}

/// The records in `held`, which are all from `cutoff` on, that are before `before`.
fn before_of(
    view: &View,
    entry: SeriesEntry,
    held: InventoryRecord,
    cutoff: i64,
    before: i64,
) -> Result<Option<InventoryRecord>, Fault> {
    let newest = newest_before(view, &entry, before)?.filter(|newest| *newest >= cutoff);
    let Some(newest) = newest else {
        return Ok(None);
    };
    let kept = inventory_record(view, entry, Some(before))?;
    let (kept_records, kept_bytes) =
        kept.map_or((0, 0), |kept| (kept.record_count, kept.size_bytes));
    Ok(Some(InventoryRecord {
        newest_time: Timestamp::from_unix_nanos(newest),
        size_bytes: held.size_bytes.saturating_sub(kept_bytes),
        record_count: held.record_count.saturating_sub(kept_records),
        ..held
    }))
}

/// The timestamp of the newest record of a series before `time`.
fn newest_before(view: &View, entry: &SeriesEntry, time: i64) -> Result<Option<i64>, Fault> {
    let state = &entry.state;
    let rows = view.transaction().open_table(ROWS)?;
    let series = keys::row_range(state.id);
    let end = keys::row_key(state.id, (time, 0));
    let mut last_row = rows.range::<&RowKey>(series.start()..&end)?;
    let mut newest = last_row
        .next_back()
        .transpose()?
        .map(|(key, _)| keys::row_position(key.value()).0);
    // Rows that begin before the time and end after it.
    let (from, to) = rows::keys_between(state.id, time, time);
    for entry in rows.range::<&RowKey>(&from..=&to)? {
        let (key, value) = entry?;
        // What a damaged row held is unknown.
        let row = RowRecords::read(key.value(), value.value());
        let before = row.into_iter().flatten().map(|((at, _), _)| at);
        newest = newest.max(before.filter(|at| *at < time).last());
    }
    let headers = view.transaction().open_table(BLOCKS)?;
    for (class, _) in &state.span_classes {
        let start = *keys::class_range(state.id, *class).start();
        let from = keys::block_key(state.id, *class, (time, 0));
        let last = headers.range::<&BlockKey>(&start..&from)?.next_back();
        let last = last.transpose()?;
        newest = newest.max(last.map(|(key, _)| keys::block_position(key.value()).0));
        // Blocks that begin before the time and end after it.
        let end = time.saturating_add_unsigned(span_max(*class));
        let to = keys::block_key(state.id, *class, (end, u64::MAX));
        for block in headers.range::<&BlockKey>(&from..=&to)? {
            let (key, header) = block?;
            // The times of the records of a damaged block are unknown, here and below.
            let Ok(header) = blocks::read_header(key.value(), header.value()) else {
                continue;
            };
            if header.first < time {
                newest = newest.max(Some(last_before(view, key.value(), &header, time)?));
            }
        }
    }
    Ok(newest)
}

/// The timestamp of a block's last record before `time`.
fn last_before(view: &View, key: &BlockKey, header: &BlockHeader, time: i64) -> Result<i64, Fault> {
    let chunks = view.transaction().open_table(BLOCK_CHUNKS)?;
    match blocks::timestamps(&chunks, key, header) {
        Ok(timestamps) => {
            let before = timestamps.partition_point(|timestamp| *timestamp < time);
            let last = before.checked_sub(1).and_then(|at| timestamps.get(at));
            Ok(last.copied().unwrap_or(header.first))
        }
        // A damaged block must not make the whole list fail.
        Err(Fault::Corrupt(_)) => Ok(header.first),
        Err(error) => Err(error),
    }
}

/// The records of a series that are not older than `cutoff`.
pub(super) fn inventory_record(
    view: &View,
    entry: SeriesEntry,
    cutoff: Option<i64>,
) -> Result<Option<InventoryRecord>, Fault> {
    let cutoff = cutoff.unwrap_or(i64::MIN);
    let state = &entry.state;
    let mut held = Held {
        records: state.block_records,
        bytes: state.block_bytes,
        bounds: None,
    };
    let first_key = keys::row_key(state.id, (cutoff, 0));
    let last_key = keys::row_key(state.id, (i64::MAX, u64::MAX));
    let mut rows = RowTier::default();
    for entry in view
        .transaction()
        .open_table(ROWS)?
        .range::<&RowKey>(&first_key..=&last_key)?
    {
        let (key, value) = entry?;
        let (key, value) = (key.value(), value.value());
        let mut row = row::extent(key, value);
        if row.first < cutoff
            && let Some(records) = RowRecords::read(key, value)
        {
            let mut kept = records.filter(|((at, _), _)| *at >= cutoff);
            row.first = kept.next().map_or(row.last, |((at, _), _)| at);
            row.count = Some(1 + kept.count() as u64);
        }
        rows.add(row.records(), value.len());
        held.extend(row.first, row.last);
    }
    held.records += rows.records;
    held.bytes += rows.bytes as u64;
    for (class, _) in &state.span_classes {
        add_blocks(view, state.id, *class, cutoff, &mut held)?;
    }
    Ok(held.bounds.map(|(oldest, newest)| InventoryRecord {
        path: view.path().clone(),
        size_bytes: held.bytes,
        oldest_time: Timestamp::from_unix_nanos(oldest),
        newest_time: Timestamp::from_unix_nanos(newest),
        file_count: 1,
        record_count: held.records,
        server: entry.server,
        signal: entry.signal,
    }))
}

/// Adds the blocks of one span class to the bounds in `held`, and subtracts the records that
/// expired before `cutoff`.
fn add_blocks(
    view: &View,
    series: SeriesId,
    class: u8,
    cutoff: i64,
    held: &mut Held,
) -> Result<(), Fault> {
    let headers = view.transaction().open_table(BLOCKS)?;
    let summaries = view.transaction().open_table(SUMMARIES)?;
    let class_range = keys::class_range(series, class);
    let kept_from = keys::block_key(series, class, (cutoff, 0));
    for expired in headers.range::<&BlockKey>(class_range.start()..&kept_from)? {
        let (key, header) = expired?;
        let Ok(header) = blocks::read_header(key.value(), header.value()) else {
            continue;
        };
        let size = blocks::size(&summaries, key.value(), &header)?;
        held.take_off(header.count.into(), size.bytes);
    }
    let mut kept = headers.range::<&BlockKey>(&kept_from..=class_range.end())?;
    if let Some(newest) = kept.next_back() {
        let (newest, _) = keys::block_position(newest?.0.value());
        held.extend(newest, newest);
    }
    // Blocks are ordered by their last records. A later block may begin earlier, but by no more
    // than the span of its class.
    let mut oldest = i64::MAX;
    for block in headers.range::<&BlockKey>(&kept_from..=class_range.end())? {
        let (key, header) = block?;
        let (last, _) = keys::block_position(key.value());
        if last.saturating_sub_unsigned(span_max(class)) > oldest {
            break;
        }
        let Ok(header) = blocks::read_header(key.value(), header.value()) else {
            held.extend(last.max(cutoff), last);
            continue;
        };
        let mut first = header.first;
        if first < cutoff {
            let (expired, kept_first) = split(view, key.value(), &header, cutoff)?;
            held.take_off(expired, 0);
            first = kept_first;
        }
        oldest = oldest.min(first);
        held.extend(first, last);
    }
    Ok(())
}

/// The number of a block's records before `cutoff`, and the timestamp of its first record at or
/// after `cutoff`.
fn split(
    view: &View,
    key: &BlockKey,
    header: &BlockHeader,
    cutoff: i64,
) -> Result<(u64, i64), Fault> {
    let chunks = view.transaction().open_table(BLOCK_CHUNKS)?;
    let timestamps = match blocks::timestamps(&chunks, key, header) {
        Ok(timestamps) => timestamps,
        // A damaged block must not make the whole inventory fail.
        Err(Fault::Corrupt(_)) => return Ok((0, cutoff)),
        Err(error) => return Err(error),
    };
    let expired = timestamps.partition_point(|timestamp| *timestamp < cutoff);
    let first = timestamps.get(expired).copied().unwrap_or(cutoff);
    Ok((expired as u64, first))
}

/// The totals of a series.
struct Held {
    records: u64,
    bytes: u64,
    /// The oldest and the newest timestamp; `None` without records.
    bounds: Option<(i64, i64)>,
}

impl Held {
    fn extend(&mut self, first: i64, last: i64) {
        let (oldest, newest) = self.bounds.unwrap_or((first, last));
        self.bounds = Some((oldest.min(first), newest.max(last)));
    }

    fn take_off(&mut self, records: u64, bytes: u64) {
        self.records = self.records.saturating_sub(records);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::RetentionPolicy,
        ingest::{Writer, WriterOptions},
        record::{Level, LogRecord},
        store::{Store, StoreOptions},
    };
    use redb::ReadableTable;

    const DAY: i64 = 86_400_000_000_000;

    #[test]
    fn a_damaged_block_does_not_take_the_list_away() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path(), "stack", StoreOptions::default()).unwrap();
        let options = WriterOptions::default()
            .tiering(8, 8, 8)
            .retention(Some(RetentionPolicy::default()));
        let (writer, guard) = Writer::start(&store, options).unwrap();
        let now = Timestamp::now().unix_nanos();
        // Two of them have expired.
        for days in [1, 2, 3, 4, 5, 6, 8, 9] {
            let time = Timestamp::from_unix_nanos(now - days * DAY);
            let record = LogRecord::new(time, Level::INFO, "of some age");
            writer.log(&ServerName::new("a").unwrap(), &record).unwrap();
        }
        guard.close().unwrap();
        let listed = || {
            let inventory = store.snapshot().unwrap().inventory(None).unwrap();
            inventory.first().map(|entry| entry.record_count)
        };
        assert_eq!(listed(), Some(6));
        let damage = |transaction: &crate::store::engine::transaction::WriteTransaction| {
            let mut chunks = transaction.open_table(BLOCK_CHUNKS)?;
            let key = *chunks.first()?.unwrap().0.value();
            chunks.insert(&key, b"not this block".as_slice())?;
            Ok(())
        };
        store.writer().unwrap().transact("damage", damage).unwrap();
        // The times of the records of a damaged block are unknown, so they count as kept.
        assert_eq!(listed(), Some(8));
    }
}
