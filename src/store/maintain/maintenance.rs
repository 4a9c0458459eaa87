//! Maintenance: finds series that exceed a limit and blocks worth merging, and handles each in a
//! small transaction.
//!
//! A round of maintenance inspects all series, some at a time, and queues a [`Task`] for each thing
//! to do. The writer performs tasks between batches, each in a transaction of its own, so that no
//! record waits long for maintenance.

use crate::{
    error::Result,
    record::ServerName,
    signal::Signal,
    store::{
        engine::{fault::Fault, transaction::WriteTransaction},
        layout::{
            block::{BlockEncoder, span_max},
            footprint, keys,
            series::SeriesState,
            tables::{BLOCKS, BlockKey, MERGE_QUEUE, ROWS, RowKey},
        },
        maintain::{
            eviction::{self, Evicted},
            merge::{self, MERGED_FROM, Rewrite, Rewritten},
        },
        tiers::{
            blocks::{self, BlockLimits},
            cache::WriterCache,
            view::{SeriesEntry, View},
        },
    },
};
use std::collections::{HashMap, HashSet, VecDeque};

/// The number of series inspected at once.
const SERIES_AT_ONCE: usize = 64;
/// Maximum number of blocks of a series that are examined for expired records.
const HEADERS_PER_SERIES: usize = 64;
/// The fraction by which a file may exceed its limit before it is compacted, which makes all
/// processes wait: 1/`TOLERATED_PART`. Fragmentation alone stays below it; a long-lived snapshot or
/// a lowered limit exceeds it.
const TOLERATED_PART: u64 = 32;
/// Maximum number of blocks remembered as not worth rewriting yet.
const DECLINED_MAX: usize = 4096;
/// A block smaller than this on the disk is not worth rewriting for its expired records, in bytes.
const WORTH_BYTES: u64 = 32 << 10;
/// A block that expires completely within this fraction of the age limit is not worth rewriting
/// either: 1/`WORTH_PART_OF_AGE`.
const WORTH_PART_OF_AGE: i64 = 8;

/// The state of a round of maintenance, and the results of earlier rounds.
#[derive(Debug, Default)]
pub(crate) struct Maintenance {
    /// Series that are not inspected yet.
    waiting: Vec<SeriesEntry>,
    tasks: VecDeque<Task>,
    /// Blocks that were not worth rewriting, and the cutoff from which they may be.
    declined: HashMap<BlockKey, i64>,
    /// Whether this round only frees space.
    frees_only: bool,
    /// Blocks that cannot be decoded, which are neither merged nor rewritten.
    damaged: HashSet<BlockKey>,
}

/// A task, performed in one transaction or, if large, in several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Task {
    /// Evict blocks of these series, and of the database, until they are within their limits.
    Evict(Vec<(ServerName, Signal)>),
    /// Delete expired records.
    Expire(ServerName, Signal),
    /// Merge blocks of this level.
    Merge(ServerName, Signal, u8),
    /// Rewrite this block without its expired records.
    Rewrite(ServerName, Signal, BlockKey),
    /// Compact the file: its records are within the total limit, but the file exceeds it.
    Compact,
}

impl Task {
    fn only_frees(&self) -> bool {
        matches!(self, Task::Evict(_) | Task::Expire(..))
    }
}

/// The result of one call of maintenance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Maintained {
    /// Whether there was a transaction.
    pub(crate) wrote: bool,
    /// The size on the disk of the blocks that were deleted, in bytes.
    pub(crate) freed_bytes: u64,
    /// The size on the disk of the blocks that were rewritten, in bytes.
    pub(crate) rewritten_bytes: u64,
    /// Whether the task is unfinished.
    pub(crate) more: bool,
    /// Whether a block was found to be damaged.
    pub(crate) is_damaged: bool,
}

impl From<Evicted> for Maintained {
    fn from(evicted: Evicted) -> Maintained {
        Maintained {
            wrote: true,
            freed_bytes: evicted.disk_bytes,
            more: evicted.more,
            ..Maintained::default()
        }
    }
}

impl From<Rewritten> for Maintained {
    fn from(rewritten: Rewritten) -> Maintained {
        Maintained {
            wrote: rewritten.disk_bytes > 0,
            rewritten_bytes: rewritten.disk_bytes,
            is_damaged: rewritten.is_damaged,
            ..Maintained::default()
        }
    }
}

impl Maintenance {
    /// Whether this round has nothing left to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.tasks.is_empty() && self.waiting.is_empty()
    }

    /// Discards the rest of this round.
    pub(crate) fn abandon_round(&mut self) {
        self.waiting.clear();
        self.tasks.clear();
    }

    /// Begins a round over all series. `used_bytes` is the size of the database on the disk.
    pub(crate) fn begin_round(
        &mut self,
        view: &View,
        cache: &mut WriterCache,
        used_bytes: u64,
    ) -> Result<()> {
        self.frees_only = false;
        cache.refresh(view)?;
        self.waiting = view.series()?;
        let over = self.over_their_limit(cache);
        let excess = view.read(|| {
            let meta = view.meta()?;
            eviction::excess(&meta, &cache.limits, &cache.rows, used_bytes)
        })?;
        if excess > 0 || !over.is_empty() {
            self.tasks.push_back(Task::Evict(over));
        }
        if cache
            .limits
            .total_bytes
            .is_some_and(|total| used_bytes > total + total / TOLERATED_PART)
        {
            self.tasks.push_back(Task::Compact);
        }
        Ok(())
    }

    /// Restricts this round to tasks that need no disk space.
    pub(crate) fn only_free(&mut self) {
        self.frees_only = true;
    }

    /// The series that exceed their size limit and have a block to evict.
    fn over_their_limit(&self, cache: &WriterCache) -> Vec<(ServerName, Signal)> {
        self.waiting
            .iter()
            .filter(|entry| {
                let rows = cache.rows.bytes_of(&entry.server, entry.signal) as u64;
                let stored = entry.state.block_bytes + rows;
                let limit = cache.limits.of(&entry.server);
                limit.is_some_and(|limit| stored > limit.bytes_max)
                    && !entry.state.span_classes.is_empty()
            })
            .map(|entry| (entry.server.clone(), entry.signal))
            .collect()
    }

    /// Removes and returns the next task; `None` when series must be inspected first. A failed task
    /// is not retried before the next round; [`Maintenance::finish`] queues an unfinished one
    /// again.
    pub(crate) fn next_task(&mut self) -> Option<Task> {
        self.tasks.pop_front()
    }

    /// Whether this round skips `task`.
    pub(crate) fn skips(&self, task: &Task) -> bool {
        self.frees_only && !task.only_frees()
    }

    /// Notes the outcome of a task.
    pub(crate) fn finish(&mut self, task: Task, outcome: &Result<Maintained>) {
        if outcome.as_ref().is_ok_and(|done| done.more) {
            self.tasks.push_front(task);
        }
    }

    /// Removes and returns the series to inspect next.
    pub(crate) fn next_series(&mut self) -> Vec<SeriesEntry> {
        let from = self.waiting.len().saturating_sub(SERIES_AT_ONCE);
        self.waiting.split_off(from)
    }

    /// Queues the tasks for a series.
    pub(crate) fn inspect(
        &mut self,
        view: &View,
        cache: &WriterCache,
        series: SeriesEntry,
    ) -> Result<()> {
        let now = view.trusted_now()?;
        let tasks = view.read(|| self.tasks_of(view, cache, series, now))?;
        self.tasks.extend(tasks);
        Ok(())
    }

    fn tasks_of(
        &self,
        view: &View,
        cache: &WriterCache,
        series: SeriesEntry,
        now: i64,
    ) -> Result<Vec<Task>, Fault> {
        let merged = merge::block_limits(&cache.limits, &series.server);
        let SeriesEntry {
            server,
            signal,
            state,
        } = series;
        let mut tasks = Vec::new();
        if let Some(cutoff) = cache.limits.cutoff(&server, now) {
            if has_expired(view, &state, cutoff)? {
                tasks.push(Task::Expire(server.clone(), signal));
            }
            for key in half_expired(view, &state, cutoff, now)? {
                let is_declined = self.declined.get(&key).is_some_and(|from| cutoff < *from);
                if !self.damaged.contains(&key) && !is_declined {
                    tasks.push(Task::Rewrite(server.clone(), signal, key));
                }
            }
        }
        for (level, count) in &state.merge_levels {
            if *count >= MERGED_FROM && self.merge_pays(view, &state, *level, merged)? {
                tasks.push(Task::Merge(server.clone(), signal, *level));
            }
        }
        Ok(tasks)
    }

    /// Performs [`Task::Rewrite`].
    pub(crate) fn rewrite(
        &mut self,
        transaction: &WriteTransaction,
        cache: &mut WriterCache,
        encoder: &mut BlockEncoder,
        (server, signal, key): (&ServerName, Signal, &BlockKey),
        now: i64,
    ) -> Result<Maintained, Fault> {
        cache.limits.refresh(transaction)?;
        let cutoff = cache.limits.cutoff(server, now);
        let done = match cutoff {
            Some(cutoff) => Rewrite {
                encoder,
                limits: merge::block_limits(&cache.limits, server),
                server,
                signal,
                cutoff,
                damaged: &mut self.damaged,
            }
            .block(transaction, key)?,
            None => Rewritten::default(),
        };
        if done.disk_bytes == 0 {
            let (last, _) = keys::block_position(key);
            // Not before half of the time until its last record expires has passed.
            self.decline(*key, cutoff.unwrap_or(now).midpoint(last.min(now)));
        }
        Ok(done.into())
    }

    /// Performs [`Task::Merge`] once. The task is unfinished until too few blocks of the level are
    /// left.
    pub(crate) fn merge(
        &mut self,
        transaction: &WriteTransaction,
        cache: &mut WriterCache,
        encoder: &mut BlockEncoder,
        (server, signal, level): (&ServerName, Signal, u8),
        now: i64,
    ) -> Result<Maintained, Fault> {
        cache.limits.refresh(transaction)?;
        let rewrite = Rewrite {
            encoder,
            limits: merge::block_limits(&cache.limits, server),
            server,
            signal,
            cutoff: cache.limits.cutoff(server, now).unwrap_or(i64::MIN),
            damaged: &mut self.damaged,
        };
        let done = rewrite.level(transaction, level)?;
        Ok(Maintained {
            more: done.disk_bytes > 0 || done.is_damaged,
            ..done.into()
        })
    }

    fn merge_pays(
        &self,
        view: &View,
        state: &SeriesState,
        level: u8,
        limits: BlockLimits,
    ) -> Result<bool, Fault> {
        let headers = view.transaction().open_table(BLOCKS)?;
        let queue = view.transaction().open_table(MERGE_QUEUE)?;
        let chosen = merge::choose(&headers, &queue, state, level, limits, &self.damaged)?;
        Ok(!chosen.is_empty())
    }

    fn decline(&mut self, key: BlockKey, until_cutoff: i64) {
        if self.declined.len() >= DECLINED_MAX {
            self.declined.clear();
        }
        self.declined.insert(key, until_cutoff);
    }
}

/// Performs [`Task::Evict`]. `used_bytes` is the size of the database on the disk.
pub(crate) fn evict(
    transaction: &WriteTransaction,
    cache: &mut WriterCache,
    series: &[(ServerName, Signal)],
    used_bytes: u64,
) -> Result<Maintained, Fault> {
    cache.limits.refresh(transaction)?;
    let WriterCache { limits, rows, .. } = cache;
    let series = series.iter().map(|(server, signal)| {
        let row_bytes = rows.bytes_of(server, *signal) as u64;
        (server.clone(), *signal, row_bytes)
    });
    eviction::enforce(transaction, limits, rows, used_bytes, series, 0).map(Maintained::from)
}

/// Performs [`Task::Expire`].
pub(crate) fn expire(
    transaction: &WriteTransaction,
    cache: &mut WriterCache,
    (server, signal): (&ServerName, Signal),
    now: i64,
) -> Result<Maintained, Fault> {
    cache.limits.refresh(transaction)?;
    let expired = match cache.limits.cutoff(server, now) {
        Some(cutoff) => eviction::expire(transaction, &mut cache.rows, server, signal, cutoff)?,
        None => Evicted::default(),
    };
    Ok(expired.into())
}

fn has_expired(view: &View, state: &SeriesState, cutoff: i64) -> Result<bool, Fault> {
    let rows = view.transaction().open_table(ROWS)?;
    let first = keys::row_key(state.id, (i64::MIN, 0));
    let end = keys::row_key(state.id, (cutoff, 0));
    if rows
        .range::<&RowKey>(&first..&end)?
        .next()
        .transpose()?
        .is_some()
    {
        return Ok(true);
    }
    let headers = view.transaction().open_table(BLOCKS)?;
    let oldest = blocks::oldest(&headers, state)?;
    Ok(oldest.is_some_and(|(_, header)| header.last < cutoff))
}

/// The blocks of which half has probably expired, judged by the time span of each, and whose other
/// records will not expire soon.
fn half_expired(
    view: &View,
    state: &SeriesState,
    cutoff: i64,
    now: i64,
) -> Result<Vec<BlockKey>, Fault> {
    let age = now.saturating_sub(cutoff);
    let headers = view.transaction().open_table(BLOCKS)?;
    let mut found = Vec::new();
    for (class, _) in &state.span_classes {
        // Blocks that end later begin after the cutoff.
        let end = cutoff.saturating_add_unsigned(span_max(*class));
        let only = SeriesState {
            span_classes: vec![(*class, 0)],
            ..SeriesState::new(state.id)
        };
        let (first, last) = ((cutoff, 0), (end, u64::MAX));
        for (key, header) in
            blocks::ending_between(&headers, &only, first, last, HEADERS_PER_SERIES)?
        {
            let expired = i128::from(cutoff) - i128::from(header.first);
            // A record with a future timestamp says nothing about the other records.
            let left = i128::from(header.last.min(now)) - i128::from(cutoff);
            let pays = left >= i128::from(age / WORTH_PART_OF_AGE);
            if expired >= left && pays && footprint::block_disk_bytes(&header) >= WORTH_BYTES {
                found.push(key);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ingest::{WriterOptions, simulated::SimulatedWriter},
        loss::LossCause,
        read::Query,
        record::{Level, LogRecord},
        store::{Store, StoreOptions, layout::tables::BLOCK_CHUNKS},
        time::Timestamp,
    };
    use redb::ReadableTable;
    use std::time::Duration;

    #[test]
    fn a_damaged_block_keeps_nothing_else_from_being_merged() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path(), "stack", StoreOptions::default()).unwrap();
        let options = WriterOptions::default().tiering(1, 1, 4096);
        let mut writer = SimulatedWriter::new(&store, options).unwrap();
        let names = ["damaged", "whole"].map(|name| ServerName::new(name).unwrap());
        for number in 0..20 {
            for name in &names {
                let at = Timestamp::from_unix_nanos(number);
                let record = LogRecord::new(at, Level::INFO, "message");
                writer.log(name, &record, Duration::ZERO).unwrap();
            }
            writer.flush(Duration::ZERO).unwrap();
        }
        let damage = |transaction: &WriteTransaction| {
            let mut chunks = transaction.open_table(BLOCK_CHUNKS)?;
            // The first series has the lowest keys.
            let (key, mut chunk) = {
                let (key, chunk) = chunks.first()?.unwrap();
                (*key.value(), chunk.value().to_vec())
            };
            chunk[0] ^= 1;
            chunks.insert(&key, chunk.as_slice())?;
            Ok(())
        };
        store.writer().unwrap().transact("damage", damage).unwrap();
        for minute in 1..10 {
            writer.advance(Duration::from_secs(60 * minute)).unwrap();
        }
        let snapshot = store.snapshot().unwrap();
        let known = snapshot.known_damage().unwrap();
        assert_eq!(known.len(), 1, "{known:?}");
        assert_eq!(
            (&known[0].server, known[0].records),
            (&Some(names[0].clone()), Some(1))
        );
        let ledger = snapshot.ledger(..).unwrap();
        assert_eq!(ledger.len(), 1, "{ledger:?}");
        assert_eq!((ledger[0].cause, ledger[0].count), (LossCause::Damaged, 1));
        let layout = store.snapshot().unwrap().check().unwrap();
        let blocks = layout.iter().map(|series| series.blocks.len());
        assert_eq!(blocks.collect::<Vec<_>>(), [1 + 10, 8]);
        let read = |name: &ServerName| {
            let query = Query::new(Signal::Logs).server(name.clone());
            let since = Timestamp::from_unix_nanos(1);
            let all = store.scan(&query).unwrap().filter_map(Result::ok).count();
            let rest = store.scan(&query.range(since..)).unwrap();
            (all, rest.map(Result::unwrap).count())
        };
        assert_eq!(read(&names[1]), (20, 19));
        assert_eq!(read(&names[0]).1, 19);
    }

    #[test]
    fn large_blocks_of_which_half_has_expired_are_worth_rewriting() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path(), "stack", StoreOptions::default()).unwrap();
        let options = WriterOptions::default().tiering(1, 1, 4096);
        let mut writer = SimulatedWriter::new(&store, options).unwrap();
        for (server, records) in [("large", 2000), ("small", 20)] {
            let server = ServerName::new(server).unwrap();
            for number in 0..records {
                let at = Timestamp::from_unix_nanos(number * 1000 / records);
                let text = format!(
                    "{:032x}",
                    xxhash_rust::xxh3::xxh3_128(&number.to_le_bytes())
                );
                let record = LogRecord::new(at, Level::INFO, text);
                writer.log(&server, &record, Duration::ZERO).unwrap();
            }
            writer.flush(Duration::ZERO).unwrap();
        }
        let snapshot = store.snapshot().unwrap();
        let view = snapshot.view();
        let found = |cutoff: i64, now: i64| -> Vec<usize> {
            let series = view.series().unwrap();
            let found =
                |it: &SeriesEntry| half_expired(view, &it.state, cutoff, now).unwrap().len();
            series.iter().map(found).collect()
        };
        // Each server has a block with records from 0 to 999.
        assert_eq!(found(500, 1000), [1, 0]);
        assert_eq!(found(900, 1000), [1, 0]);
        // Less than half has expired, or nothing, or all.
        assert_eq!(found(499, 1000), [0, 0]);
        assert_eq!(found(-10, 1000), [0, 0]);
        assert_eq!(found(1000, 2000), [0, 0]);
        // The rest will have expired after an eighth of the age limit.
        assert_eq!(found(900, 900 + 8 * 99 + 7), [1, 0]);
        assert_eq!(found(900, 900 + 8 * 100), [0, 0]);
        // Records with a future timestamp do not count.
        assert_eq!(found(400, 700), [1, 0]);
    }
}
