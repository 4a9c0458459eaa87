//! What the writer does between batches: a look over all series for what is over a limit or worth
//! merging, and a small transaction for each thing that it finds.

use crate::{
    error::{Error, Result},
    record::ServerName,
    signal::Signal,
    store::{
        engine::fault::Fault,
        handle::StoreWriter,
        layout::{
            block::span_max,
            footprint, keys,
            series::SeriesState,
            tables::{BLOCKS, BlockKey, MERGE_QUEUE, META, ROWS, RowKey},
        },
        maintain::{
            compact::CompactOptions,
            eviction::{self, Taken},
            merge::{self, MERGED_FROM},
        },
        policy::limits::Limits,
        snapshot::{SeriesEntry, Snapshot},
        tiers::{
            blocks::{self, BlockLimits},
            rows::RowTiers,
            sealer::Sealer,
        },
    },
};
use std::collections::{HashMap, HashSet, VecDeque};

/// So many series are looked at in one step.
const SERIES_PER_STEP: usize = 64;
/// So many blocks of a series are looked at for whether half of them is expired.
const HEADERS_PER_SERIES: usize = 64;
/// What is done at once to make room on a full disk.
const STEPS_ON_A_FULL_DISK: usize = 256;
/// A file may be larger than its limit by this part of it before everybody is made to wait for its
/// compaction: after a reader that stayed long, or when the limit was lowered, and not because of
/// some fragments.
const TOLERATED_PART: u64 = 32;
/// Blocks that need not be written again yet; more are forgotten.
const DECLINED_MAX: usize = 4096;

/// What one writer knows about holding its store within its limits.
#[derive(Debug, Default)]
pub(crate) struct Upkeep {
    pub(crate) limits: Limits,
    pub(crate) rows: RowTiers,
    /// The sequence that the next record gets, unless another process appends.
    pub(crate) next_sequence: u64,
    /// Series that this pass has not come to.
    waiting: Vec<SeriesEntry>,
    tasks: VecDeque<Task>,
    /// Blocks that were not worth writing again, and the cutoff at which they may be.
    declined: HashMap<BlockKey, i64>,
    /// Whether this pass frees and does nothing else.
    frees_only: bool,
    /// Series with a block that does not decode. It stays as it is, for whoever can save what is in
    /// it; the rest of the series is kept within its limits, and not merged any more.
    damaged: HashSet<(ServerName, Signal)>,
}

impl Upkeep {
    /// What a writer that starts now knows.
    pub(crate) fn new(snapshot: &Snapshot) -> Result<Upkeep> {
        Ok(Upkeep {
            limits: snapshot.limits()?.clone(),
            rows: snapshot.read(|| RowTiers::read(snapshot.transaction()))?,
            next_sequence: snapshot.next_sequence()?,
            ..Upkeep::default()
        })
    }

    /// Whether there is nothing left to do in this pass.
    pub(crate) fn is_idle(&self) -> bool {
        self.tasks.is_empty() && self.waiting.is_empty()
    }
}

/// What is done in one transaction, or in several when it is much.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Task {
    /// Takes out what these series, and the database, have beyond their limits.
    Enforce(Vec<(ServerName, Signal)>),
    /// Takes out what is too old.
    Expire(ServerName, Signal),
    /// Merges blocks of this level.
    Merge(ServerName, Signal, u8),
    /// Writes this block without what is too old in it.
    Rewrite(ServerName, Signal, BlockKey),
    /// Gives back what the file takes of the disk beyond its limit, there being no more in it than
    /// may be.
    Compact,
}

/// What a step of the upkeep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Step {
    /// Whether there was a transaction.
    pub(crate) wrote: bool,
    /// Blocks given back, as they were on the disk, in bytes.
    pub(crate) freed_bytes: u64,
    /// Blocks read and written again, as they were on the disk, in bytes.
    pub(crate) rewritten_bytes: u64,
    /// Whether the task is not finished.
    pub(crate) more: bool,
}

impl StoreWriter {
    /// Takes out what limits do not allow, and nothing that takes room itself: for a disk that is full.
    pub(crate) fn free_space(&self, upkeep: &mut Upkeep, sealer: &mut Sealer) -> Result<()> {
        let outcome = self.free_over_limits(upkeep, sealer);
        // The engine takes whichever free page it likes, also one that the file has no disk block
        // for, and fails as long as there is none. So free pages alone do not help.
        self.store().compact_for_room();
        outcome
    }

    fn free_over_limits(&self, upkeep: &mut Upkeep, sealer: &mut Sealer) -> Result<()> {
        upkeep.waiting.clear();
        upkeep.tasks.clear();
        self.begin_upkeep(upkeep)?;
        upkeep.frees_only = true;
        // The rest is for the next try.
        for _ in 0..STEPS_ON_A_FULL_DISK {
            if upkeep.is_idle() {
                break;
            }
            self.upkeep(upkeep, sealer)?;
        }
        Ok(())
    }

    /// Begins a pass over all series.
    pub(crate) fn begin_upkeep(&self, upkeep: &mut Upkeep) -> Result<Step> {
        upkeep.frees_only = false;
        let snapshot = self.store().snapshot()?;
        self.keep_clock(&snapshot)?;
        upkeep.limits = snapshot.limits()?.clone();
        let next_sequence = snapshot.next_sequence()?;
        if next_sequence != upkeep.next_sequence {
            upkeep.rows = snapshot.read(|| RowTiers::read(snapshot.transaction()))?;
            upkeep.next_sequence = next_sequence;
        }
        let limits = &upkeep.limits;
        let mut over = Vec::new();
        upkeep.waiting = snapshot.series()?;
        for SeriesEntry {
            server,
            signal,
            state,
        } in &upkeep.waiting
        {
            let held = state.block_bytes + upkeep.rows.bytes_of(server, *signal) as u64;
            let is_over = limits.of(server).is_some_and(|it| held > it.bytes_max);
            if is_over && !state.span_classes.is_empty() {
                over.push((server.clone(), *signal));
            }
        }
        let used = self.store().disk_usage()?.used_bytes;
        let excess = snapshot.read(|| {
            let meta = snapshot.transaction().open_table(META)?;
            eviction::excess(&meta, limits, &upkeep.rows, used)
        })?;
        if excess > 0 || !over.is_empty() {
            upkeep.tasks.push_back(Task::Enforce(over));
        }
        if limits
            .total_bytes
            .is_some_and(|total| used > total + total / TOLERATED_PART)
        {
            upkeep.tasks.push_back(Task::Compact);
        }
        Ok(Step::default())
    }

    /// Does the next thing of a pass: carries out a task, or looks for some.
    pub(crate) fn upkeep(&self, upkeep: &mut Upkeep, sealer: &mut Sealer) -> Result<Step> {
        // Taken out first: what fails is not tried again before the next pass.
        if let Some(task) = upkeep.tasks.pop_front() {
            if upkeep.frees_only && !matches!(task, Task::Enforce(_) | Task::Expire(..)) {
                return Ok(Step::default());
            }
            let outcome = self.perform(upkeep, sealer, &task);
            if let Err(Error::Corrupt { .. }) = &outcome
                && let Task::Merge(server, signal, _) | Task::Rewrite(server, signal, _) = &task
            {
                upkeep.damaged.insert((server.clone(), *signal));
            }
            let step = outcome?;
            if step.more {
                upkeep.tasks.push_front(task);
            }
            Ok(step)
        } else {
            let from = upkeep.waiting.len().saturating_sub(SERIES_PER_STEP);
            let series = upkeep.waiting.split_off(from);
            if !series.is_empty() {
                let snapshot = self.store().snapshot()?;
                let now = snapshot.trusted_now()?;
                for entry in series {
                    let tasks = snapshot.read(|| look(&snapshot, upkeep, entry, now))?;
                    upkeep.tasks.extend(tasks);
                }
            }
            Ok(Step::default())
        }
    }

    fn perform(&self, upkeep: &mut Upkeep, sealer: &mut Sealer, task: &Task) -> Result<Step> {
        let Upkeep {
            limits,
            rows,
            declined,
            ..
        } = upkeep;
        let taken = |taken: Taken| Step {
            wrote: true,
            freed_bytes: taken.disk_bytes,
            more: taken.more,
            ..Step::default()
        };
        let rewritten = |done: merge::Rewritten| Step {
            wrote: done.disk_bytes > 0,
            rewritten_bytes: done.disk_bytes,
            ..Step::default()
        };
        match task {
            Task::Compact => match self.store().compact(CompactOptions::default()) {
                Ok(compacted) => Ok(Step {
                    wrote: true,
                    freed_bytes: compacted.returned_bytes(),
                    ..Step::default()
                }),
                // The next pass finds it gone, or the one after that.
                Err(Error::ReaderInTheWay { .. }) => Ok(Step::default()),
                Err(error) => Err(error),
            },
            Task::Enforce(series) => self
                .transact_freeing("free space in", |transaction| {
                    limits.refresh(transaction)?;
                    let used = self.store().disk_usage()?.used_bytes;
                    let series = series.iter().map(|(server, signal)| {
                        let row_bytes = rows.bytes_of(server, *signal) as u64;
                        (server.clone(), *signal, row_bytes)
                    });
                    eviction::enforce(transaction, limits, rows, used, series, 0)
                })
                .map(taken),
            Task::Expire(server, signal) => self
                .transact_freeing("free space in", |transaction| {
                    limits.refresh(transaction)?;
                    let now = self.trusted_now(transaction)?;
                    match limits.cutoff(server, now) {
                        Some(cutoff) => {
                            eviction::expire(transaction, rows, server, *signal, cutoff)
                        }
                        None => Ok(Taken::default()),
                    }
                })
                .map(taken),
            Task::Merge(server, signal, level) => {
                let done = self.transact("merge blocks of", |transaction| {
                    limits.refresh(transaction)?;
                    let now = self.trusted_now(transaction)?;
                    let cutoff = limits.cutoff(server, now).unwrap_or(i64::MIN);
                    merge::merge(
                        transaction,
                        &mut sealer.encoder,
                        limits,
                        server,
                        *signal,
                        *level,
                        cutoff,
                    )
                })?;
                Ok(Step {
                    // Until there are no longer enough of them.
                    more: done.disk_bytes > 0,
                    ..rewritten(done)
                })
            }
            Task::Rewrite(server, signal, key) => {
                let (done, cutoff, now) = self.transact("free space in", |transaction| {
                    limits.refresh(transaction)?;
                    let now = self.trusted_now(transaction)?;
                    let Some(cutoff) = limits.cutoff(server, now) else {
                        return Ok((merge::Rewritten::default(), now, now));
                    };
                    let done = merge::rewrite(
                        transaction,
                        &mut sealer.encoder,
                        limits,
                        server,
                        *signal,
                        key,
                        cutoff,
                    )?;
                    Ok((done, cutoff, now))
                })?;
                if done.disk_bytes == 0 {
                    if declined.len() >= DECLINED_MAX {
                        declined.clear();
                    }
                    let (last, _) = keys::block_position(key);
                    // When half of what is left until its end has gone by.
                    declined.insert(*key, cutoff.midpoint(last.min(now)));
                }
                Ok(rewritten(done))
            }
        }
    }
}

/// What is to be done about a series.
fn look(
    snapshot: &Snapshot,
    upkeep: &Upkeep,
    entry: SeriesEntry,
    now: i64,
) -> Result<Vec<Task>, Fault> {
    let merged = merge::block_limits(&upkeep.limits, &entry.server);
    let SeriesEntry {
        server,
        signal,
        state,
    } = entry;
    let is_damaged = upkeep.damaged.contains(&(server.clone(), signal));
    let mut tasks = Vec::new();
    if let Some(cutoff) = upkeep.limits.cutoff(&server, now) {
        if has_expired(snapshot, &state, cutoff)? {
            tasks.push(Task::Expire(server.clone(), signal));
        }
        for key in half_expired(snapshot, &state, cutoff, now)? {
            let is_declined = upkeep.declined.get(&key).is_some_and(|from| cutoff < *from);
            if !is_damaged && !is_declined {
                tasks.push(Task::Rewrite(server.clone(), signal, key));
            }
        }
    }
    for (level, count) in &state.merge_levels {
        if *count >= MERGED_FROM && !is_damaged && merge_pays(snapshot, &state, *level, merged)? {
            tasks.push(Task::Merge(server.clone(), signal, *level));
        }
    }
    Ok(tasks)
}

fn merge_pays(
    snapshot: &Snapshot,
    state: &SeriesState,
    level: u8,
    limits: BlockLimits,
) -> Result<bool, Fault> {
    let headers = snapshot.transaction().open_table(BLOCKS)?;
    let queue = snapshot.transaction().open_table(MERGE_QUEUE)?;
    Ok(!merge::choose(&headers, &queue, state, level, limits)?.is_empty())
}

fn has_expired(snapshot: &Snapshot, state: &SeriesState, cutoff: i64) -> Result<bool, Fault> {
    let rows = snapshot.transaction().open_table(ROWS)?;
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
    let headers = snapshot.transaction().open_table(BLOCKS)?;
    let oldest = blocks::oldest(&headers, state)?;
    Ok(oldest.is_some_and(|(_, header)| header.last < cutoff))
}

/// The blocks of which half seems to be expired, by the time that they span, and that will not be
/// expired as a whole for a while.
fn half_expired(
    snapshot: &Snapshot,
    state: &SeriesState,
    cutoff: i64,
    now: i64,
) -> Result<Vec<BlockKey>, Fault> {
    let age = now.saturating_sub(cutoff);
    let headers = snapshot.transaction().open_table(BLOCKS)?;
    let mut found = Vec::new();
    for (class, _) in &state.span_classes {
        // What ends behind that begins behind the cutoff.
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
            // One record from the future says nothing of the others.
            let left = i128::from(header.last.min(now)) - i128::from(cutoff);
            let pays = left >= i128::from(age / WORTH_PART_OF_AGE);
            if expired >= left && pays && footprint::disk_bytes(&header) >= WORTH_BYTES {
                found.push(key);
            }
        }
    }
    Ok(found)
}

/// A smaller block gives back nothing that would be noticed.
const WORTH_BYTES: u64 = 32 << 10;
/// One that is gone sooner than in this part of the age limit gives it back by itself.
const WORTH_PART_OF_AGE: i64 = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ingest::{WriterOptions, simulated::SimulatedWriter},
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
        let damage = |transaction: &redb::WriteTransaction| {
            let mut chunks = transaction.open_table(BLOCK_CHUNKS)?;
            // The series that came first has the first keys.
            let (key, mut chunk) = {
                let (key, chunk) = chunks.first()?.unwrap();
                (*key.value(), chunk.value().to_vec())
            };
            chunk[0] ^= 1;
            chunks.insert(&key, chunk.as_slice())?;
            Ok(())
        };
        store.writer().unwrap().transact("damage", damage).unwrap();
        let mut failed = 0;
        for minute in 1..10 {
            // Each failure ends one step and none of what comes behind it.
            while let Err(error) = writer.advance(Duration::from_secs(60 * minute)) {
                assert!(matches!(error, Error::Corrupt { .. }), "{error}");
                failed += 1;
            }
        }
        assert_eq!(failed, 1, "what is damaged is tried once");
        let layout = store.snapshot().unwrap().layout().unwrap();
        let blocks = layout.iter().map(|series| series.blocks.len());
        assert_eq!(blocks.collect::<Vec<_>>(), [20, 8]);
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
}
