//! Holding what is stored within its limits.
//!
//! Each series has a limit of bytes and of age, and the database as a whole one of what it takes of
//! the disk. Whoever appends takes the oldest blocks out in the same transaction, so that limits of
//! bytes hold at every commit. What is over a limit for other reasons (limits changed, time went by,
//! another process imported) is found by a look over all series, see [`crate::store::maintain::pass`], and taken
//! out in small transactions between batches. What goes is entered in the ledger.

use crate::{
    record::ServerName,
    signal::Signal,
    store::{
        engine::fault::Fault,
        layout::{
            block::BlockHeader,
            footprint,
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
use redb::{ReadableTable, WriteTransaction};
use std::{
    collections::HashMap,
    ops::RangeInclusive,
    time::{Duration, Instant},
};

/// Blocks and rows that one transaction takes out at most: more waits for the next, so that nobody
/// waits long for either.
pub(crate) const BLOCKS_PER_STEP: usize = 32;

/// What a row takes of the disk for each byte of key and payload: leaves are filled by two thirds,
/// and the leaves that a commit replaces are free only after the next one.
const ROW_DISK_FACTOR: u64 = 2;

/// What the tables beside blocks and rows take, and redb's own.
const FIXED_DISK_BYTES: u64 = 512 << 10;

/// What is left of a limit for blocks and rows, which take `held` now, of a file that takes `used`.
///
/// The rest is for what a commit writes before what it replaces is free again, and for pages that are
/// free and fit nothing. How much that is shows in the file itself, which never becomes smaller by
/// itself: within bounds, because pages that somebody reads are not free either, and deleting more
/// would not change that.
fn disk_bytes_for_records(total_bytes: u64, used: u64, held: u64) -> u64 {
    /// In parts of 128: what of the limit is aimed at, and what records are taken to need.
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

/// What a step took out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Taken {
    pub(crate) records: u64,
    /// What it took of the disk, see [`footprint::disk_bytes`].
    pub(crate) disk_bytes: u64,
    /// How long it took.
    pub(crate) elapsed: Duration,
    /// Whether more is to be taken out than one step does.
    pub(crate) more: bool,
}

impl Taken {
    fn add(&mut self, other: Taken) {
        self.records += other.records;
        self.disk_bytes += other.disk_bytes;
        self.more |= other.more;
    }
}

/// A series in a transaction that takes blocks from it.
struct Shrinking {
    server: ServerName,
    signal: Signal,
    state: SeriesState,
    /// What its rows take.
    row_bytes: u64,
    gone: Option<LossSpan>,
}

impl Shrinking {
    fn stored_bytes(&self) -> u64 {
        self.state.block_bytes + self.row_bytes
    }

    fn disk_bytes(&self) -> u64 {
        self.state.disk_bytes + self.row_bytes * ROW_DISK_FACTOR
    }

    /// Takes the oldest block out; `None` when there is none.
    fn take_oldest(&mut self, blocks: &mut Blocks<'_>) -> Result<Option<Taken>, Fault> {
        let Some((key, header)) = blocks.oldest(&self.state)? else {
            return Ok(None);
        };
        self.take(blocks, &key, &header).map(Some)
    }

    fn take(
        &mut self,
        blocks: &mut Blocks<'_>,
        key: &BlockKey,
        header: &BlockHeader,
    ) -> Result<Taken, Fault> {
        blocks.remove(&mut self.state, key, header)?;
        let range = LossSpan::new(header.count.into(), header.first, header.last);
        self.note_gone(range);
        Ok(Taken {
            records: header.count.into(),
            disk_bytes: footprint::disk_bytes(header),
            ..Taken::default()
        })
    }

    fn note_gone(&mut self, span: LossSpan) {
        match &mut self.gone {
            Some(gone) => gone.add(span),
            None => self.gone = Some(span),
        }
    }

    /// Stores the state and enters what is gone, if anything is.
    fn finish(self, transaction: &WriteTransaction) -> Result<(), Fault> {
        let Some(gone) = self.gone else {
            return Ok(());
        };
        put_series_state(transaction, &self.server, self.signal, &self.state)?;
        losses::record_evicted(transaction, &self.server, self.signal, gone)
    }
}

/// Takes the oldest blocks out of those series in `touched` that are over their limit, and of the
/// largest ones while the database is over its own; no more than [`BLOCKS_PER_STEP`] beyond
/// `blocks_written`. With each series comes what its rows take, as far as is known.
pub(crate) fn enforce(
    transaction: &WriteTransaction,
    limits: &Limits,
    rows: &RowTiers,
    used: u64,
    touched: impl IntoIterator<Item = (ServerName, Signal, u64)>,
    blocks_written: usize,
) -> Result<Taken, Fault> {
    let started = Instant::now();
    let mut left = blocks_written + BLOCKS_PER_STEP;
    let mut taken = Taken::default();
    for (server, signal, row_bytes) in touched {
        taken.add(enforce_series(
            transaction,
            limits,
            server,
            signal,
            row_bytes,
            &mut left,
        )?);
    }
    taken.add(enforce_total(transaction, limits, rows, used, left)?);
    taken.elapsed = started.elapsed();
    Ok(taken)
}

/// Takes the oldest blocks out of a series while it is over its limit of bytes, `left` at most, which
/// is what is left of it afterwards. Its rows take `row_bytes`, as far as is known: other processes
/// may have changed that, so they are counted before anything is taken because of them.
pub(crate) fn enforce_series(
    transaction: &WriteTransaction,
    limits: &Limits,
    server: ServerName,
    signal: Signal,
    row_bytes: u64,
    left: &mut usize,
) -> Result<Taken, Fault> {
    let mut taken = Taken::default();
    let Some(limit) = limits.of(&server).map(|limits| limits.bytes_max) else {
        return Ok(taken);
    };
    let Some(state) = stored_series_state(transaction, &server, signal)? else {
        return Ok(taken);
    };
    let mut series = Shrinking {
        row_bytes,
        server,
        signal,
        state,
        gone: None,
    };
    if series.stored_bytes() <= limit || series.state.span_classes.is_empty() {
        return Ok(taken);
    }
    series.row_bytes = rows::count(transaction, series.state.id)?.bytes as u64;
    blocks::change(transaction, |blocks| {
        while series.stored_bytes() > limit {
            if *left == 0 {
                taken.more = true;
                break;
            }
            let Some(block) = series.take_oldest(blocks)? else {
                break;
            };
            taken.add(block);
            *left -= 1;
        }
        Ok(())
    })?;
    series.finish(transaction)?;
    Ok(taken)
}

fn open_series(
    transaction: &WriteTransaction,
    rows: &RowTiers,
    server: ServerName,
    signal: Signal,
) -> Result<Option<Shrinking>, Fault> {
    let state = stored_series_state(transaction, &server, signal)?;
    Ok(state.map(|state| Shrinking {
        row_bytes: rows.bytes_of(&server, signal) as u64,
        server,
        signal,
        state,
        gone: None,
    }))
}

/// What blocks and rows take beyond what the limit of the database leaves for them, `used` being what
/// its file takes of the disk.
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

/// Takes blocks out of the largest series while the database is over its limit. A server that has no
/// more than a fair share of what there is loses nothing.
fn enforce_total(
    transaction: &WriteTransaction,
    limits: &Limits,
    rows: &RowTiers,
    used: u64,
    blocks_max: usize,
) -> Result<Taken, Fault> {
    let mut taken = Taken::default();
    let excess = excess(&transaction.open_table(META)?, limits, rows, used)?;
    if excess == 0 {
        return Ok(taken);
    }
    let mut all = Vec::new();
    for entry in transaction.open_table(SERIES)?.iter()? {
        let (key, value) = entry?;
        let (server, signal) = key.value();
        let (server, signal) = (ServerName::new(server)?, series::signal_of(signal)?);
        // One that does not decode must not keep all others from being stored.
        let Ok(state) = SeriesState::from_bytes(value.value()) else {
            continue;
        };
        all.push(Shrinking {
            row_bytes: rows.bytes_of(&server, signal) as u64,
            server,
            signal,
            state,
            gone: None,
        });
    }
    let mut servers: HashMap<ServerName, u64> = HashMap::new();
    for series in &all {
        *servers.entry(series.server.clone()).or_default() += series.disk_bytes();
    }
    blocks::change(transaction, |blocks| {
        for number in 0.. {
            if taken.disk_bytes >= excess {
                break;
            }
            if number >= blocks_max {
                taken.more = true;
                break;
            }
            let held: u64 = servers.values().sum();
            let fair_share = held / servers.len().max(1) as u64;
            let largest = all
                .iter_mut()
                .filter(|series| !series.state.span_classes.is_empty())
                .filter(|series| {
                    servers
                        .get(&series.server)
                        .is_some_and(|it| *it >= fair_share)
                })
                .max_by_key(|series| series.disk_bytes());
            // What is left is in rows, which become blocks when they are sealed.
            let Some(series) = largest else { break };
            let Some(block) = series.take_oldest(blocks)? else {
                break;
            };
            if let Some(server) = servers.get_mut(&series.server) {
                *server = server.saturating_sub(block.disk_bytes);
            }
            taken.add(block);
        }
        Ok(())
    })?;
    for series in all {
        series.finish(transaction)?;
    }
    Ok(taken)
}

/// Takes out of a series what was before `cutoff`: blocks by range, and rows. A block that reaches
/// beyond stays.
pub(crate) fn expire(
    transaction: &WriteTransaction,
    row_tiers: &mut RowTiers,
    server: &ServerName,
    signal: Signal,
    cutoff: i64,
) -> Result<Taken, Fault> {
    let Some(mut series) = open_series(transaction, row_tiers, server.clone(), signal)? else {
        return Ok(Taken::default());
    };
    let mut taken = Taken::default();
    blocks::change(transaction, |blocks| {
        let expired = blocks.before(&series.state, cutoff, BLOCKS_PER_STEP)?;
        taken.more = expired.len() == BLOCKS_PER_STEP;
        for (key, header) in expired {
            let block = series.take(blocks, &key, &header)?;
            taken.add(block);
        }
        Ok(())
    })?;
    if let Some((span, left)) = rows::expire(transaction, series.state.id, cutoff)? {
        taken.records += span.count();
        taken.more |= span.count() == rows::EXPIRED_ROWS_MAX as u64;
        series.note_gone(span);
        row_tiers.set(server, signal, left);
    }
    series.finish(transaction)?;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ingest::{Writer, WriterOptions},
        record::{Level, LogRecord},
        store::{Store, StoreOptions, layout::tables::BLOCKS, policy::limits::SeriesLimits},
        time::Timestamp,
    };

    const BLOCKS_STORED: i64 = 6;

    /// A store of blocks that each hold a hundred records of a time of their own.
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
        let taken = writer
            .transact("enforce", |transaction| {
                let touched = [(name.clone(), Signal::Logs, 0)];
                let rows = RowTiers::default();
                enforce(transaction, &bytes_only(1), &rows, 0, touched, 0)
            })
            .unwrap();
        // All but the damaged one, and every record of them is in the ledger.
        assert_eq!(taken.records, 1000);
        let losses = store.snapshot().unwrap().ledger(..).unwrap();
        assert_eq!(losses.len(), 1);
        assert_eq!(losses[0].cause, crate::loss::LossCause::Retention);
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
