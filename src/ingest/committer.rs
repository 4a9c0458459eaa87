//! The writer thread's work without its thread: gather, commit, seal.

use super::{
    QueuedRecord, WriterOptions,
    policy::{CommitPolicy, Instant},
    stats::Counters,
};
use crate::{
    config::RetentionPolicy,
    error::Result,
    loss::{LedgerEntry, LossCause},
    platform::monotonic_nanos,
    record::ServerName,
    redact::Redactor,
    signal::Signal,
    store::{
        Appender, BatchId, Maintained, Maintenance, PendingRecord, RECORD_BYTES_MAX, SeriesBatch,
        Store, StoreWriter, WipeScope,
    },
    time::Timestamp,
};
use hashbrown::HashMap;
use std::{
    borrow::Cow,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// So many bytes of rows of a series are sealed, however few rows they are.
const SEAL_BYTES: usize = 1 << 20;
/// The row tier as a whole is kept below this: rows take four times what blocks take.
const ROW_TIER_BYTES_MAX: usize = 16 << 20;

/// The row tier takes no more than this part of a limit of the whole, and the rows of a series no
/// more than that of its own.
const ROW_TIER_PART: u64 = 32;
const SEAL_PART: u64 = 16;
/// What a commit writes is on the disk before what it replaces is free again, so a batch, too, is no
/// more than this part of a limit of the whole.
const BATCH_PART: u64 = 16;

/// So much is moved to give space back without being asked: a tenth of a second's work.
const COMPACTED_BYTES_MAX: u64 = 64 << 20;

/// The time from one round of maintenance to the next, if anything was committed since.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(10);
/// The time from one round of maintenance to the next in any case: records expire without a commit,
/// too, and another process may have set limits.
const MAINTENANCE_INTERVAL_MAX: Duration = Duration::from_secs(60);

type SeriesKey = (ServerName, Signal);

/// Gathers records into a batch and commits it when it is due.
#[derive(Debug)]
pub(super) struct Committer {
    pub(super) writer: StoreWriter,
    policy: CommitPolicy,
    /// What is gathered.
    batch: Batch,
    /// The batch that is being committed. A commit that fails may have reached the disk all the same,
    /// so the batch is committed again unchanged, and newer records are gathered apart from it.
    in_flight: Option<Batch>,
    /// Identifies the batch that is in flight, or the next one.
    id: BatchId,
    maintenance: Maintenance,
    /// When maintenance has something to do.
    pub(super) maintenance_due: Instant,
    /// Whether something was committed since the last round of maintenance began.
    committed: bool,
    /// Whether more is to be evicted than one transaction does, and no round has begun since.
    has_backlog: bool,
    appender: Appender,
    redactor: Option<Redactor>,
    pub(super) counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Batch {
    parts: Vec<SeriesBatch>,
    /// Where in `parts` a series is.
    places: HashMap<SeriesKey, usize>,
    /// What the records count against the queue's bound.
    bytes: usize,
    /// What is to be entered in the ledger with them.
    losses: Vec<LedgerEntry>,
}

impl Committer {
    pub(super) fn new(
        store: &Store,
        options: &WriterOptions,
        counters: Arc<Counters>,
    ) -> Result<Committer> {
        let writer = store.writer()?;
        if let Some(policy) = &options.retention {
            writer.set_limits(&policy.clone().validated()?)?;
        }
        let appender = writer.appender(options.tiering)?;
        let mut committer = Committer {
            policy: CommitPolicy::new(options),
            id: BatchId {
                writer: writer.enter_writer()?,
                number: 1,
            },
            writer,
            batch: Batch::default(),
            in_flight: None,
            maintenance: Maintenance::default(),
            maintenance_due: Instant::ZERO,
            committed: false,
            has_backlog: false,
            appender,
            redactor: options.redactor.clone(),
            counters,
        };
        committer.bound_batches();
        Ok(committer)
    }

    /// Keeps batches small where the whole must be.
    fn bound_batches(&mut self) {
        let total = self.appender.cache.limits.total_bytes;
        self.policy
            .keep_batches_below(total.map_or(usize::MAX, |total| part_of(total, BATCH_PART)));
    }

    /// Adds a record to the batch.
    pub(super) fn push(&mut self, record: QueuedRecord, now: Instant) {
        let bytes = record.memory_bytes();
        self.batch.bytes += bytes;
        self.policy.record(now, bytes, record.urgent);
        let pending = PendingRecord {
            timestamp: record.timestamp.unix_nanos(),
            emitted: record.emitted,
            payload: record.payload,
        };
        let Batch { parts, places, .. } = &mut self.batch;
        let next = parts.len();
        let place = *places
            .entry((record.server, record.signal))
            .or_insert_with_key(|(server, signal)| {
                parts.push(SeriesBatch::new(server.clone(), *signal));
                next
            });
        if let Some(part) = parts.get_mut(place) {
            part.records.push(pending);
        }
    }

    /// When there is something to do: see [`Committer::commit_due`] and [`Committer::maintain`].
    pub(super) fn due(&self) -> Instant {
        self.policy.due().map_or(self.maintenance_due, |commit| {
            commit.min(self.maintenance_due)
        })
    }

    /// When the batch is to be committed, or drops are to be entered; `None` when there is neither.
    pub(super) fn commit_due(&self) -> Option<Instant> {
        self.policy.due()
    }

    /// Takes note that records were dropped before they came here.
    pub(super) fn note_drops(&mut self, now: Instant) {
        self.policy.record(now, 0, false);
    }

    /// Commits everything that was gathered. When this fails it is still there, and the store must
    /// be opened again before the next try.
    pub(super) fn commit(&mut self, now: Instant) -> Result<()> {
        let mut committed = self.commit_in_flight()?;
        loop {
            // What a commit itself dropped, for want of a way to redact it, is entered as well.
            self.batch.losses = self.counters.take_unrecorded();
            if self.batch.parts.is_empty() && self.batch.losses.is_empty() {
                break;
            }
            self.in_flight = Some(std::mem::take(&mut self.batch));
            committed |= self.commit_in_flight()?;
        }
        if committed {
            self.policy.committed(now);
            self.committed = true;
            self.maintenance_due = self.maintenance_due.min(now + MAINTENANCE_INTERVAL);
        }
        let sealed = self.seal();
        if self.has_backlog {
            self.maintenance_due = self.maintenance_due.min(now);
        }
        sealed
    }

    /// Does a little of what keeps the store within its limits and its blocks full: a look at some
    /// series, or one small transaction.
    pub(super) fn maintain(&mut self, now: Instant) -> Result<()> {
        let started = std::time::Instant::now();
        let outcome = if self.maintenance.is_idle() {
            self.committed = false;
            self.has_backlog = false;
            // Rows that another process left, or that became too many when limits were lowered.
            self.writer
                .begin_maintenance(&mut self.maintenance, &mut self.appender.cache)
                .and_then(|()| self.seal())
                .map(|()| Maintained::default())
        } else {
            self.writer
                .maintain(&mut self.maintenance, &mut self.appender)
        };
        let elapsed = started.elapsed();
        self.maintenance_due = if !self.maintenance.is_idle() {
            // Half of the time at most, so that queued records never wait long; and a twentieth for
            // merging, which can wait.
            let rewrote = outcome.as_ref().is_ok_and(|done| done.rewritten_bytes > 0);
            now + elapsed * if rewrote { 20 } else { 2 }
        } else if self.has_backlog {
            now
        } else if self.committed {
            now + MAINTENANCE_INTERVAL
        } else {
            now + MAINTENANCE_INTERVAL_MAX
        };
        let done = outcome?;
        if done.wrote {
            self.counters.count_maintenance(elapsed, done);
        }
        Ok(())
    }

    /// Commits the batch that is in flight, and says whether there was one.
    fn commit_in_flight(&mut self) -> Result<bool> {
        self.redact();
        let Some(batch) = &mut self.in_flight else {
            return Ok(false);
        };
        let outcome =
            self.writer
                .append(&mut self.appender, &mut batch.parts, &batch.losses, self.id);
        self.bound_batches();
        let evicted = outcome?;
        self.id.number += 1;
        self.has_backlog |= evicted.more;
        if evicted.disk_bytes > 0 {
            self.counters
                .count_maintenance(evicted.elapsed, evicted.into());
        }
        self.counters.commits.fetch_add(1, Ordering::Relaxed);
        if let Some(stored) = self.in_flight.take() {
            self.account(stored);
        }
        Ok(true)
    }

    /// Replaces secrets in the batch that is in flight, right before it is written, so that a value
    /// is replaced from the moment it is registered, also in records that were emitted before.
    fn redact(&mut self) {
        let (Some(redactor), Some(batch)) = (&self.redactor, &mut self.in_flight) else {
            return;
        };
        let rules = redactor.rules();
        for part in &mut batch.parts {
            let SeriesBatch {
                server,
                signal,
                records,
                ..
            } = part;
            records.retain_mut(|record| {
                let cause = match rules.redact_payload(*signal, &record.payload) {
                    Ok(Cow::Borrowed(_)) => return true,
                    // A placeholder can be longer than the secret was.
                    Ok(Cow::Owned(redacted)) if redacted.len() > RECORD_BYTES_MAX => {
                        LossCause::TooLarge
                    }
                    Ok(Cow::Owned(redacted)) => {
                        record.payload = redacted.into();
                        return true;
                    }
                    // What nobody can look into must not be stored.
                    Err(_) => LossCause::Invalid,
                };
                let timestamp = Timestamp::from_unix_nanos(record.timestamp);
                self.counters.count_drop(server, *signal, cause, timestamp);
                false
            });
        }
    }

    /// Counts what became of a batch.
    fn account(&mut self, batch: Batch) {
        for part in batch.parts {
            let sequences = part.appended.sequences;
            let stored = sequences.1 - sequences.0;
            self.counters.stored.fetch_add(stored, Ordering::Release);
            for timestamp in part.appended.wiped {
                let timestamp = Timestamp::from_unix_nanos(timestamp);
                self.counters
                    .count_drop(&part.server, part.signal, LossCause::Wiped, timestamp);
            }
        }
        self.release(batch.bytes);
    }

    /// Ends as a writer should, everything being committed.
    pub(super) fn leave(&self) -> Result<()> {
        self.writer.leave_writer(self.id.writer)
    }

    /// Gives up what was gathered, every record of it counted as dropped.
    pub(super) fn abandon(&mut self, cause: LossCause) {
        for batch in [self.in_flight.take(), Some(std::mem::take(&mut self.batch))]
            .into_iter()
            .flatten()
        {
            for part in &batch.parts {
                let count = |timestamp, cause| {
                    let timestamp = Timestamp::from_unix_nanos(timestamp);
                    self.counters
                        .count_drop(&part.server, part.signal, cause, timestamp);
                };
                for record in &part.records {
                    count(record.timestamp, cause);
                }
                for timestamp in &part.appended.wiped {
                    count(*timestamp, LossCause::Wiped);
                }
            }
            self.release(batch.bytes);
        }
    }

    /// Deletes what is stored; what is in the batch goes when it is committed.
    pub(super) fn wipe(&mut self, scope: &WipeScope) -> Result<usize> {
        self.writer.wipe(scope)
    }

    /// Changes how much is kept, from now on.
    pub(super) fn set_retention(&mut self, policy: &RetentionPolicy, now: Instant) -> Result<()> {
        self.writer.set_limits(policy)?;
        self.maintenance_due = now;
        Ok(())
    }

    /// Makes what room limits allow on a disk that is full.
    pub(super) fn free_space(&mut self) -> Result<()> {
        self.writer
            .free_space(&mut self.maintenance, &mut self.appender)
    }

    /// Gives space back that a wipe or expiry left, if it is much and does not take long.
    pub(super) fn give_space_back(&self) -> Result<()> {
        let started = std::time::Instant::now();
        if self
            .writer
            .store()
            .compact_if_cheap(COMPACTED_BYTES_MAX)?
            .is_some()
        {
            self.counters
                .count_maintenance(started.elapsed(), Maintained::default());
        }
        Ok(())
    }

    /// Opens the store again after a failure.
    pub(super) fn reopen(&self) -> Result<()> {
        self.writer.reopen()
    }

    /// Gives back what records took of the queue's bound.
    fn release(&self, bytes: usize) {
        self.counters
            .queued_bytes
            .fetch_sub(bytes, Ordering::Release);
    }

    /// Seals what is ripe, one series a transaction.
    fn seal(&mut self) -> Result<()> {
        while let Some((server, signal)) = self.ripest() {
            let started = std::time::Instant::now();
            let evicted = self.writer.seal(&mut self.appender, &server, signal)?;
            self.has_backlog |= evicted.more;
            self.counters
                .count_maintenance(started.elapsed(), evicted.into());
        }
        Ok(())
    }

    /// A series that should be sealed now.
    fn ripest(&self) -> Option<(ServerName, Signal)> {
        let Appender { cache, sealer, .. } = &self.appender;
        let (rows, limits) = (&cache.rows, &cache.limits);
        let tier_bytes_max = limits.total_bytes.map_or(ROW_TIER_BYTES_MAX, |total| {
            part_of(total, ROW_TIER_PART).min(ROW_TIER_BYTES_MAX)
        });
        let crowded = rows.bytes() > tier_bytes_max;
        rows.ripest(|server, _, tier| {
            let bytes_max = limits.of(server).map_or(SEAL_BYTES, |limits| {
                part_of(limits.bytes_max, SEAL_PART).min(SEAL_BYTES)
            });
            crowded || tier.rows >= sealer.tiering.seal_rows || tier.bytes >= bytes_max
        })
    }
}

/// The `part`th part of a limit.
fn part_of(limit: u64, part: u64) -> usize {
    usize::try_from(limit / part).unwrap_or(usize::MAX)
}

/// Now, as the policy sees it.
pub(super) fn now() -> Instant {
    Duration::from_nanos(monotonic_nanos())
}
