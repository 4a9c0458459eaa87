//! Eviction: deleting the oldest records to keep the store within its limits.
//!
//! Each series has a size limit and an age limit, and the database has a total limit of its size on
//! the disk. An append evicts the oldest blocks in its own transaction, so that size limits hold at
//! every commit. A limit can also be exceeded because limits were changed, time passed, or another
//! process imported records; [`super::maintenance`] detects that and evicts in small transactions
//! between batches. Evicted and expired records are entered in the ledger.

use crate::{
    record::ServerName,
    signal::Signal,
    store::{
        engine::{fault::Fault, transaction::WriteTransaction},
        layout::{
            block::BlockHeader,
            series::{self, SeriesState, put_series_state, stored_series_state},
            tables::{BlockKey, META, SERIES, meta},
        },
        ledger::losses::{self, LossSpan},
        policy::limits::Limits,
        tiers::{
            blocks::{self, Blocks},
            rows::{self, RowTiers},
        },
    },
};
use redb::ReadableTable;
use std::{
    collections::HashMap,
    ops::RangeInclusive,
    time::{Duration, Instant},
};

/// Maximum number of blocks evicted by one transaction. The rest is left to the next transaction,
/// so that appending never waits long.
pub(crate) const EVICTED_BLOCKS_MAX: usize = 32;

/// The bytes on the disk per byte of a row's key and payload: leaves are two thirds full, and the
/// leaves that a commit replaces are free only after the next commit.
const ROW_DISK_FACTOR: u64 = 2;

/// The size on the disk of the other tables and of redb's own data, in bytes.
const FIXED_DISK_BYTES: u64 = 512 << 10;

/// The part of the total limit that blocks and rows may use. They now use `held` bytes of a file
/// with `used` bytes on the disk.
///
/// The rest is needed for pages that a commit writes before the replaced ones are free again, and
/// for free pages that no value fits. The file shows how much that is, because it never shrinks on
/// its own. The result is bounded, because a long-lived snapshot also pins pages, and evicting more
/// would not free them.
fn disk_bytes_for_records(total_bytes: u64, used: u64, held: u64) -> u64 {
    /// In 128ths: the part of the limit to aim for, and the range of pages needed per byte of
    /// records.
    const AIM: u128 = 126;
    const NEED: RangeInclusive<u128> = 148..=160;
    let is_near = (total_bytes / 2..total_bytes + total_bytes / 16).contains(&used);
    let need = if is_near {
        (u128::from(used) * 128 / u128::from(held).max(1)).clamp(*NEED.start(), *NEED.end())
    } else {
        *NEED.start()
    };
    let left = u128::from(total_bytes.saturating_sub(FIXED_DISK_BYTES)) * AIM / need;
    u64::try_from(left).unwrap_or(u64::MAX)
}

/// The records that were evicted or have expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Evicted {
    pub(crate) records: u64,
    /// The size of the blocks on the disk, see [`BlockSize`](crate::store::layout::footprint::BlockSize).
    pub(crate) disk_bytes: u64,
    /// How long the eviction took.
    pub(crate) elapsed: Duration,
    /// Whether there is more to evict than fits one transaction.
    pub(crate) more: bool,
}

impl Evicted {
    fn add(&mut self, other: Evicted) {
        self.records += other.records;
        self.disk_bytes += other.disk_bytes;
        self.more |= other.more;
    }
}

/// A series whose blocks are being evicted in a transaction.
struct EvictingSeries {
    server: ServerName,
    signal: Signal,
    state: SeriesState,
    /// The size of its rows, in bytes.
    row_bytes: u64,
    evicted: Option<LossSpan>,
}

impl EvictingSeries {
    fn new(
        server: ServerName,
        signal: Signal,
        state: SeriesState,
        row_bytes: u64,
    ) -> EvictingSeries {
        EvictingSeries {
            server,
            signal,
            state,
            row_bytes,
            evicted: None,
        }
    }

    fn stored_bytes(&self) -> u64 {
        self.state.block_bytes + self.row_bytes
    }

    fn disk_bytes(&self) -> u64 {
        self.state.disk_bytes + self.row_bytes * ROW_DISK_FACTOR
    }

    /// Evicts the oldest block. Returns `None` when there is none.
    fn evict_oldest(&mut self, blocks: &mut Blocks<'_>) -> Result<Option<Evicted>, Fault> {
        let Some((key, header)) = blocks.oldest(&self.state)? else {
            return Ok(None);
        };
        self.evict(blocks, &key, &header).map(Some)
    }

    fn evict(
        &mut self,
        blocks: &mut Blocks<'_>,
        key: &BlockKey,
        header: &BlockHeader,
    ) -> Result<Evicted, Fault> {
        let size = blocks.remove(&mut self.state, key, header)?;
        let range = LossSpan::new(header.count.into(), header.first, header.last);
        self.note(range);
        Ok(Evicted {
            records: header.count.into(),
            disk_bytes: size.disk_bytes,
            ..Evicted::default()
        })
    }

    fn note(&mut self, span: LossSpan) {
        match &mut self.evicted {
            Some(evicted) => evicted.add(span),
            None => self.evicted = Some(span),
        }
    }

    /// If anything was evicted, stores the state and enters the eviction in the ledger.
    fn finish(self, transaction: &WriteTransaction) -> Result<(), Fault> {
        let Some(evicted) = self.evicted else {
            return Ok(());
        };
        put_series_state(transaction, &self.server, self.signal, &self.state)?;
        losses::record_evicted(transaction, &self.server, self.signal, evicted)
    }
}

/// Evicts the oldest blocks of the series in `touched` that exceed their limits, then blocks of the
/// largest series while the database exceeds its total limit. Evicts at most [`EVICTED_BLOCKS_MAX`]
/// blocks plus the number that was just written. Each touched series comes with the size of its
/// rows, as far as known.
pub(crate) fn enforce(
    transaction: &WriteTransaction,
    limits: &Limits,
    rows: &RowTiers,
    used: u64,
    touched: impl IntoIterator<Item = (ServerName, Signal, u64)>,
    blocks_written: usize,
) -> Result<Evicted, Fault> {
    let started = Instant::now();
    let mut left = blocks_written + EVICTED_BLOCKS_MAX;
    let mut evicted = Evicted::default();
    for (server, signal, row_bytes) in touched {
        evicted.add(enforce_series(
            transaction,
            limits,
            server,
            signal,
            row_bytes,
            &mut left,
        )?);
    }
    evicted.add(enforce_total(transaction, limits, rows, used, left)?);
    evicted.elapsed = started.elapsed();
    Ok(evicted)
}

/// Evicts the oldest blocks of a series while it exceeds its size limit: at most `left` blocks,
/// from which the evicted ones are subtracted. `row_bytes` is the size of its rows as far as known.
/// Another process may have changed it, so rows are counted before a block is evicted because of
/// them.
pub(crate) fn enforce_series(
    transaction: &WriteTransaction,
    limits: &Limits,
    server: ServerName,
    signal: Signal,
    row_bytes: u64,
    left: &mut usize,
) -> Result<Evicted, Fault> {
    let mut evicted = Evicted::default();
    let Some(limit) = limits.of(&server).map(|limits| limits.bytes_max) else {
        return Ok(evicted);
    };
    let Some(state) = stored_series_state(transaction, &server, signal)? else {
        return Ok(evicted);
    };
    let mut series = EvictingSeries::new(server, signal, state, row_bytes);
    if series.stored_bytes() <= limit || series.state.span_classes.is_empty() {
        return Ok(evicted);
    }
    series.row_bytes = rows::count(transaction, series.state.id)?.bytes as u64;
    blocks::change(transaction, |blocks| {
        while series.stored_bytes() > limit {
            if *left == 0 {
                evicted.more = true;
                break;
            }
            let Some(block) = series.evict_oldest(blocks)? else {
                break;
            };
            evicted.add(block);
            *left -= 1;
        }
        Ok(())
    })?;
    series.finish(transaction)?;
    Ok(evicted)
}

/// The bytes by which blocks and rows exceed their part of the total limit. `used` is the size of
/// the file on the disk.
pub(crate) fn excess(
    meta: &impl ReadableTable<&'static str, u64>,
    limits: &Limits,
    rows: &RowTiers,
    used: u64,
) -> Result<u64, Fault> {
    let Some(total) = limits.total_bytes else {
        return Ok(0);
    };
    let blocks = meta
        .get(meta::BLOCK_DISK_BYTES)?
        .map_or(0, |bytes| bytes.value());
    let held = blocks + rows.bytes() as u64 * ROW_DISK_FACTOR;
    Ok(held.saturating_sub(disk_bytes_for_records(total, used, held)))
}

/// Evicts blocks of the largest series while the database exceeds its total limit. Servers at or
/// below their fair share of the disk lose no records.
fn enforce_total(
    transaction: &WriteTransaction,
    limits: &Limits,
    rows: &RowTiers,
    used: u64,
    blocks_max: usize,
) -> Result<Evicted, Fault> {
    let mut evicted = Evicted::default();
    let excess = excess(&*transaction.open_table(META)?, limits, rows, used)?;
    if excess == 0 {
        return Ok(evicted);
    }
    let mut all = all_series(transaction, rows)?;
    let mut servers: HashMap<ServerName, u64> = HashMap::new();
    for series in &all {
        *servers.entry(series.server.clone()).or_default() += series.disk_bytes();
    }
    blocks::change(transaction, |blocks| {
        for number in 0.. {
            if evicted.disk_bytes >= excess {
                break;
            }
            if number >= blocks_max {
                evicted.more = true;
                break;
            }
            // If there is none, the excess is in rows, which can be evicted once they are sealed.
            let Some(series) = largest_beyond_fair_share(&mut all, &servers) else {
                break;
            };
            let Some(block) = series.evict_oldest(blocks)? else {
                break;
            };
            if let Some(server) = servers.get_mut(&series.server) {
                *server = server.saturating_sub(block.disk_bytes);
            }
            evicted.add(block);
        }
        Ok(())
    })?;
    for series in all {
        series.finish(transaction)?;
    }
    Ok(evicted)
}

fn all_series(
    transaction: &WriteTransaction,
    rows: &RowTiers,
) -> Result<Vec<EvictingSeries>, Fault> {
    let mut all = Vec::new();
    for entry in transaction.open_table(SERIES)?.iter()? {
        let (key, value) = entry?;
        // A damaged state must not keep all other servers from appending.
        if let Ok((server, signal, state)) = series::read_entry(key.value(), value.value()) {
            let row_bytes = rows.bytes_of(&server, signal) as u64;
            all.push(EvictingSeries::new(server, signal, state, row_bytes));
        }
    }
    Ok(all)
}

/// The largest series with a block, among the servers that use at least their fair share of the
/// disk. `servers` holds the bytes used by each.
fn largest_beyond_fair_share<'a>(
    all: &'a mut [EvictingSeries],
    servers: &HashMap<ServerName, u64>,
) -> Option<&'a mut EvictingSeries> {
    let fair_share = servers.values().sum::<u64>() / servers.len().max(1) as u64;
    let takes_its_share = |server: &ServerName| {
        servers
            .get(server)
            .is_some_and(|bytes| *bytes >= fair_share)
    };
    all.iter_mut()
        .filter(|series| !series.state.span_classes.is_empty() && takes_its_share(&series.server))
        .max_by_key(|series| series.disk_bytes())
}

/// Deletes the records of a series from before `cutoff`: rows, and blocks whose records are all
/// older.
pub(crate) fn expire(
    transaction: &WriteTransaction,
    row_tiers: &mut RowTiers,
    server: &ServerName,
    signal: Signal,
    cutoff: i64,
) -> Result<Evicted, Fault> {
    let Some(state) = stored_series_state(transaction, server, signal)? else {
        return Ok(Evicted::default());
    };
    let row_bytes = row_tiers.bytes_of(server, signal) as u64;
    let mut series = EvictingSeries::new(server.clone(), signal, state, row_bytes);
    let mut evicted = Evicted::default();
    blocks::change(transaction, |blocks| {
        let expired = blocks.before(&series.state, cutoff, EVICTED_BLOCKS_MAX)?;
        evicted.more = expired.len() == EVICTED_BLOCKS_MAX;
        for (key, header) in expired {
            let block = series.evict(blocks, &key, &header)?;
            evicted.add(block);
        }
        Ok(())
    })?;
    if let Some((span, left)) = rows::expire(transaction, series.state.id, cutoff)? {
        evicted.records += span.count();
        evicted.more |= span.count() >= rows::EXPIRED_RECORDS_MAX;
        series.state.rows = left.records;
        series.note(span);
        row_tiers.set(server, signal, left);
    }
    series.finish(transaction)?;
    Ok(evicted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ingest::{Writer, WriterOptions},
        loss::LossCause,
        record::{Level, LogRecord},
        store::{Store, StoreOptions, layout::tables::BLOCKS, policy::limits::SeriesLimits},
        time::Timestamp,
    };

    const BLOCKS_STORED: i64 = 6;

    /// A store with blocks of a hundred records each, at separate times.
    fn store(home: &std::path::Path, name: &ServerName) -> Store {
        let store = Store::open(home, "stack", StoreOptions::default()).unwrap();
        let (writer, guard) = Writer::start(&store, WriterOptions::default()).unwrap();
        for block in 0..BLOCKS_STORED {
            for number in 0..200 {
                let at = Timestamp::from_unix_nanos(block * 1000 + number);
                writer
                    .log(name, &LogRecord::new(at, Level::INFO, "message"))
                    .unwrap();
            }
            writer.flush().unwrap();
        }
        guard.close().unwrap();
        store
    }

    fn bytes_only(bytes_max: u64) -> Limits {
        let mut limits = Limits::default();
        limits.default = Some(SeriesLimits {
            bytes_max,
            age_nanos: u64::MAX,
        });
        limits
    }

    #[test]
    fn a_damaged_header_keeps_no_other_block_over_the_limit() {
        let home = tempfile::tempdir().unwrap();
        let name = ServerName::new("server").unwrap();
        let store = store(home.path(), &name);
        let writer = store.writer().unwrap();
        writer
            .transact("damage", |transaction| {
                let mut headers = transaction.open_table(BLOCKS)?;
                let (key, mut header) = {
                    let (key, header) = headers.first()?.unwrap();
                    (*key.value(), *header.value())
                };
                header[0] = 99;
                headers.insert(&key, &header)?;
                Ok(())
            })
            .unwrap();
        let evicted = writer
            .transact("enforce", |transaction| {
                let touched = [(name.clone(), Signal::Logs, 0)];
                let rows = RowTiers::default();
                enforce(transaction, &bytes_only(1), &rows, 0, touched, 0)
            })
            .unwrap();
        // All blocks are evicted except the damaged one, and all their records are in the ledger.
        assert_eq!(evicted.records, 1000);
        let losses = store.snapshot().unwrap().ledger(..).unwrap();
        assert_eq!(losses.len(), 1);
        assert_eq!(losses[0].cause, LossCause::Retention);
        assert_eq!(losses[0].count, 1000);
        assert_eq!(losses[0].from.unix_nanos(), 1000);
    }

    #[test]
    fn a_limit_is_met_by_the_oldest_blocks_and_by_no_more_of_them_than_needed() {
        let home = tempfile::tempdir().unwrap();
        let name = ServerName::new("server").unwrap();
        let store = store(home.path(), &name);
        let writer = store.writer().unwrap();
        let stored = || {
            let inventory = store.snapshot().unwrap().inventory(None).unwrap();
            (
                inventory[0].size_bytes,
                inventory[0].oldest_time.unix_nanos(),
            )
        };
        let (all, oldest) = stored();
        assert_eq!(oldest, 0);
        for limit in [all, all - 1] {
            writer
                .transact("enforce", |transaction| {
                    let touched = [(name.clone(), Signal::Logs, 0)];
                    let rows = RowTiers::default();
                    enforce(transaction, &bytes_only(limit), &rows, 0, touched, 0)
                })
                .unwrap();
            assert_eq!(stored().1, if limit == all { 0 } else { 1000 });
        }
    }
}
