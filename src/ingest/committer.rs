//! The work of the writer thread, without the thread: collect a batch, commit it, seal, maintain.

use super::{
    QueuedRecord, WriterOptions,
    policy::{BatchSize, CommitPolicy, Instant},
    spiller::{SPILL_DELAY, SPILL_HORIZON, SPILL_RETRY, Spiller},
    stats::Counters,
    writer::Message,
};
use crate::{
    config::RetentionPolicy,
    error::{Error, Result},
    loss::{LedgerEntry, LossCause},
    platform::monotonic_nanos,
    record::ServerName,
    redact::{Redactor, Rules},
    share::share,
    signal::Signal,
    store::{
        Appender, BatchId, Entered, Maintained, Maintenance, PendingRecord, RECORD_BYTES_MAX,
        SeriesBatch, SpillLock, SpilledRecord, Store, StoreWriter, WipeScope, WriterEntry,
    },
    time::Timestamp,
};
use hashbrown::HashMap;
use std::{
    borrow::Cow,
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Rows of a series are sealed once they take this number of bytes, however few they are.
const SEAL_BYTES: usize = 1 << 20;
/// Maximum size of all rows together: rows take four times the space of blocks.
const ROW_TIER_BYTES_MAX: usize = 16 << 20;

/// All rows together take at most 1/`ROW_TIER_PART` of the total limit, and the rows of a series at
/// most 1/`SEAL_PART` of its own limit.
const ROW_TIER_PART: u64 = 32;
const SEAL_PART: u64 = 16;
/// A commit is on the disk before the pages that it replaces are free again, so a batch, too, is
/// limited to 1/`BATCH_PART` of the total limit.
const BATCH_PART: u64 = 16;

/// Maximum number of bytes that an automatic compaction moves: a tenth of a second's work.
const COMPACTED_BYTES_MAX: u64 = 64 << 20;

/// The time between two rounds of maintenance if anything was committed since the first.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(10);
/// The maximum time between two rounds of maintenance: records expire without a commit, and another
/// process may set limits.
const MAINTENANCE_INTERVAL_MAX: Duration = Duration::from_secs(60);

/// Before the writer thread begins to work, it spills the records that are not spilled yet, unless
/// they are more than 1/`SPILL_PART` of a batch: then the traffic is so high that batches fill up.
const SPILL_PART: usize = 8;
/// Maximum number of batches that one call of [`Committer::commit`] commits for the first time.
const BATCHES_PER_COMMIT: u64 = 2;

/// The number of records that a thread redacts before it looks for more.
const REDACTED_TOGETHER: usize = 512;

type SeriesKey = (ServerName, Signal);

/// Collects records in a batch and commits it when it is due.
#[derive(Debug)]
pub(super) struct Committer {
    pub(super) writer: StoreWriter,
    policy: CommitPolicy,
    /// The batch that new records are added to.
    batch: Batch,
    /// The batch that is being committed. A failed commit may still have reached the disk, so this
    /// batch is committed again unchanged, and newer records are collected in a separate one.
    in_flight: Option<Batch>,
    /// The entry of this writer in the database.
    entry: WriterEntry,
    /// See [`Entered::lock`].
    lock: Option<SpillLock>,
    /// When it was entered.
    entered_at: Timestamp,
    /// The number of records that were stored since then.
    stored_records: u64,
    /// The number of the last committed batch.
    last_batch: u64,
    /// The limits that this writer has set, which a new database gets, too.
    retention: Option<RetentionPolicy>,
    /// What the writer thread has not reported yet.
    replaced: Option<Replaced>,
    /// The number of the batch that new records are added to, greater than that of the batch in
    /// flight.
    batch_number: u64,
    /// The number of the batch that has the records which arrive during the present work.
    next_batch: u64,
    maintenance: Maintenance,
    /// When maintenance is due.
    pub(super) maintenance_due: Instant,
    /// Whether anything was committed since the last round of maintenance began.
    committed: bool,
    /// Whether an eviction stopped at the size of one transaction, and no round of maintenance has
    /// begun since.
    has_backlog: bool,
    appender: Appender,
    pub(super) spiller: Arc<Spiller>,
    spilling: Spilling,
    redactor: Option<Redactor>,
    pub(super) counters: Arc<Counters>,
}

/// The database was replaced by another file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Replaced {
    pub(super) at: Timestamp,
    /// The number of records that this writer had stored in the other file.
    pub(super) records: u64,
}

#[derive(Debug, Default)]
struct Batch {
    parts: Vec<SeriesBatch>,
    /// The index in `parts` of each series.
    places: HashMap<SeriesKey, usize>,
    /// The bytes that the records count against the bound of the queue.
    bytes: usize,
    /// The ledger entries to commit with the records.
    losses: Vec<LedgerEntry>,
    /// See [`BatchId`]; 0 until the batch is in flight.
    number: u64,
}

/// When records that wait for their commit are written to the spill.
#[derive(Debug, Default)]
struct Spilling {
    /// Whether there is a spill.
    is_on: bool,
    /// When records must be written; `None` while there are none.
    due: Option<Instant>,
    /// Since when the records and bytes below arrived.
    window_start: Instant,
    window_records: usize,
    window_bytes: usize,
    /// The records that are not in the spill.
    rest_records: usize,
    rest_bytes: usize,
}

impl Spilling {
    fn note(&mut self, record: &QueuedRecord, now: Instant) {
        if self.due.is_none() {
            // Not since now: the record may have waited in the queue.
            self.start_window(Duration::from_nanos(record.emitted).min(now));
        }
        self.window_records += 1;
        self.window_bytes += record.memory_bytes();
        self.rest_records += 1;
        self.rest_bytes += record.memory_bytes();
    }

    fn start_window(&mut self, now: Instant) {
        self.due = Some(now + SPILL_DELAY);
        self.window_start = now;
        self.window_records = 0;
        self.window_bytes = 0;
    }

    /// Notes that there is nothing to be spilled.
    fn finish(&mut self) {
        self.due = None;
        self.rest_records = 0;
        self.rest_bytes = 0;
    }
}

impl Committer {
    pub(super) fn new(
        store: &Store,
        options: &WriterOptions,
        counters: Arc<Counters>,
    ) -> Result<Committer> {
        let writer = store.writer()?;
        let retention = (options.retention.clone())
            .map(RetentionPolicy::validated)
            .transpose()?;
        if let Some(policy) = &retention {
            writer.set_limits(policy)?;
        }
        let appender = writer.appender(options.tiering)?;
        let Entered { entry, spill, lock } = writer.enter_writer()?;
        let spiller = Spiller::new(spill, options, Arc::clone(&counters));
        let mut committer = Committer {
            policy: CommitPolicy::new(options),
            entry,
            lock,
            entered_at: Timestamp::now(),
            stored_records: 0,
            last_batch: 0,
            retention,
            replaced: None,
            batch_number: 1,
            next_batch: 1,
            writer,
            batch: Batch::default(),
            in_flight: None,
            maintenance: Maintenance::default(),
            maintenance_due: Instant::ZERO,
            committed: false,
            has_backlog: false,
            appender,
            spilling: Spilling {
                is_on: spiller.has_spill(),
                ..Spilling::default()
            },
            spiller: Arc::new(spiller),
            redactor: options.redactor.clone(),
            counters,
        };
        committer.bound_batches();
        Ok(committer)
    }

    /// Limits the size of a batch to a fraction of the total limit.
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
        if self.spilling.is_on && !record.is_spilled {
            self.spilling.note(&record, now);
        }
        let pending = PendingRecord {
            timestamp: record.timestamp.unix_nanos(),
            emitted: record.emitted,
            payload: record.payload,
            is_spilled: record.is_spilled,
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

    /// When [`Committer::commit`] or [`Committer::maintain`] is due.
    pub(super) fn due(&self) -> Instant {
        self.policy.due().map_or(self.maintenance_due, |commit| {
            commit.min(self.maintenance_due)
        })
    }

    /// When the batch, or the ledger entries for dropped records, must be committed; `None` when
    /// there are neither.
    pub(super) fn commit_due(&self) -> Option<Instant> {
        self.policy.due()
    }

    /// Notes that records were dropped before they reached the batch, so that a commit becomes due
    /// for their ledger entries.
    pub(super) fn note_drops(&mut self, now: Instant) {
        self.policy.record(now, 0, false);
    }

    /// To be called when this thread begins to work and takes no messages: the spiller then does so in
    /// its place. `commits` says whether the work is a commit.
    pub(super) fn begin_work(&mut self, now: Instant, commits: bool) {
        let Spilling {
            due,
            rest_records,
            rest_bytes,
            ..
        } = self.spilling;
        let batch_size = self.policy.batch_size();
        let BatchSize { records, bytes } = batch_size;
        let is_little = rest_records <= records / SPILL_PART && rest_bytes <= bytes / SPILL_PART;
        // After a failed write, the next attempt waits until it is due.
        if is_little && due.is_some_and(|due| due <= now + SPILL_DELAY) {
            self.spill_all(now);
        }
        self.next_batch = self.batch_number + BATCHES_PER_COMMIT;
        let in_flight_bytes = self.in_flight.as_ref().map_or(0, |batch| batch.bytes);
        self.spiller.begin_work(
            self.next_batch,
            batch_size,
            self.batch.bytes + in_flight_bytes,
            commits,
        );
    }

    /// To be called when the work has ended. Returns the messages that the spiller has taken, which
    /// come before all that are in the queue.
    pub(super) fn end_work(&mut self) -> VecDeque<Message> {
        self.batch_number = self.batch_number.max(self.next_batch);
        self.spiller.end_work()
    }

    /// Commits all collected records. When this fails, they are kept, and the store must be
    /// reopened before the next attempt.
    ///
    /// If the file of the database was replaced or deleted, it goes on in the one that is at the path
    /// now, see [`Committer::take_replaced`].
    pub(super) fn commit(&mut self, now: Instant) -> Result<()> {
        self.in_present_database(now, |committer| committer.commit_here(now))
    }

    /// Does `work`, and if the database was replaced meanwhile, again in the present one.
    fn in_present_database<T>(
        &mut self,
        now: Instant,
        mut work: impl FnMut(&mut Committer) -> Result<T>,
    ) -> Result<T> {
        match work(self) {
            Err(Error::DatabaseReplaced { .. }) => {
                self.renew(now)?;
                work(self)
            }
            outcome => outcome,
        }
    }

    fn commit_here(&mut self, now: Instant) -> Result<()> {
        let mut committed = self.commit_in_flight()?;
        // The second batch has the ledger entries for records that the commit of the first dropped,
        // because they could not be redacted. Entries for records that are dropped later wait for
        // the next commit: producers that drop records all the time must not keep this thread here.
        for _ in 0..BATCHES_PER_COMMIT {
            self.batch.losses = self.counters.take_unrecorded();
            if self.batch.parts.is_empty() && self.batch.losses.is_empty() {
                break;
            }
            self.batch.number = self.batch_number;
            self.batch_number += 1;
            self.in_flight = Some(std::mem::take(&mut self.batch));
            committed |= self.commit_in_flight()?;
        }
        // All else that keeps the database from being read fails the next commit that has records.
        if !committed
            && let Err(error @ Error::DatabaseReplaced { .. }) =
                self.writer.check_writer(self.entry, self.last_batch)
        {
            return Err(error);
        }
        self.spilling.finish();
        self.spiller.clear_committed();
        if committed {
            self.policy.committed(now);
            self.committed = true;
            self.maintenance_due = self.maintenance_due.min(now + MAINTENANCE_INTERVAL);
        }
        Ok(())
    }

    /// Seals the rows that a commit has made ripe. When this fails, all records are still on the
    /// disk, and the store must be reopened before the next attempt.
    pub(super) fn seal(&mut self, now: Instant) -> Result<()> {
        let sealed = self.in_present_database(now, Committer::seal_ripe);
        if self.has_backlog {
            self.maintenance_due = self.maintenance_due.min(now);
        }
        sealed
    }

    /// Enters the database that is at the path now, which is not the one that this writer was in, with
    /// all that the writer had there: its limits, its entry, its spill, and the marks of wipes.
    fn renew(&mut self, now: Instant) -> Result<()> {
        let store = self.writer.store();
        let wipes = self.appender.wipes();
        let wipes = (store.wipes_of_open_file(wipes.since())).unwrap_or_else(|_| wipes.clone());
        self.writer.reopen()?;
        if let Some(policy) = &self.retention {
            self.writer.set_limits(policy)?;
        }
        let (appender, wipe_generation) = self.writer.appender_after(&self.appender, wipes)?;
        let (at, records) = (Timestamp::now(), self.stored_records);
        let loss = LedgerEntry {
            server: None,
            signal: None,
            cause: LossCause::Replaced,
            count: records,
            from: self.entered_at.min(at),
            to: at,
            recovered: 0,
        };
        let entered = self.writer.enter_writer_again(wipe_generation, &[loss])?;
        let Entered { entry, spill, lock } = entered;
        self.entry = entry;
        self.lock = lock;
        self.entered_at = at;
        self.stored_records = 0;
        self.last_batch = 0;
        self.appender = appender;
        self.bound_batches();
        self.maintenance = Maintenance::default();
        self.maintenance_due = now;
        self.has_backlog = false;
        let records = records + self.replaced.map_or(0, |replaced| replaced.records);
        self.replaced = Some(Replaced { at, records });
        let old_spill = self.spiller.replace(spill);
        for batch in self.in_flight.iter_mut().chain([&mut self.batch]) {
            for part in &mut batch.parts {
                part.records.iter_mut().for_each(|it| it.is_spilled = false);
            }
        }
        self.spilling.is_on = self.spiller.has_spill();
        if self.spilling.is_on {
            self.spill_all(now);
        }
        if let Some(old) = old_spill {
            // A file that stays is removed by the next process that opens the database.
            let _ = old.remove();
        }
        Ok(())
    }

    /// That the database was replaced, once.
    pub(super) fn take_replaced(&mut self) -> Option<Replaced> {
        self.replaced.take()
    }

    /// When [`Committer::spill_rest`] is due; `None` when nothing is to be spilled.
    pub(super) fn spill_due(&self) -> Option<Instant> {
        self.spilling.due
    }

    /// Writes the collected records to the spill, unless they are committed soon: at `commit_at`, or
    /// because the traffic fills the batch. To be called when the queue is empty.
    pub(super) fn spill_rest(&mut self, now: Instant, commit_at: Instant) {
        let Spilling {
            window_start,
            window_records,
            window_bytes,
            ..
        } = self.spilling;
        let window = now.saturating_sub(window_start);
        let arrived = (window_records, window_bytes);
        if commit_at <= now + SPILL_DELAY
            || (self.policy.room()).fills_within(SPILL_HORIZON, window, arrived)
        {
            self.spilling.start_window(now);
        } else {
            self.spill_all(now);
        }
    }

    /// Writes all records to the spill that are not there yet, by one write. Returns whether all are
    /// there now.
    pub(super) fn spill_all(&mut self, now: Instant) -> bool {
        let records = (self.in_flight.iter().map(|batch| (batch.number, batch)))
            .chain([(self.batch_number, &self.batch)])
            .flat_map(|(number, batch)| batch.parts.iter().map(move |part| (number, part)))
            .flat_map(|(batch, part)| {
                let rest = part.records.iter().filter(|record| !record.is_spilled);
                rest.map(move |record| SpilledRecord {
                    batch,
                    server: Cow::Borrowed(&part.server),
                    signal: part.signal,
                    timestamp: record.timestamp,
                    emitted: record.emitted,
                    payload: Cow::Borrowed(&record.payload),
                })
            });
        let is_spilled = self.spiller.spill(records);
        if is_spilled {
            for batch in self.in_flight.iter_mut().chain([&mut self.batch]) {
                for part in &mut batch.parts {
                    part.records.iter_mut().for_each(|it| it.is_spilled = true);
                }
            }
            self.spilling.finish();
        } else {
            self.spilling.due = Some(now + SPILL_RETRY);
        }
        is_spilled
    }

    /// Leaves all records to the next writer, in the spill, which this ends. Returns whether that
    /// worked; otherwise nothing has changed.
    pub(super) fn leave_in_spill(&mut self) -> bool {
        self.spill_all(now()) && self.spiller.keep()
    }

    /// Performs one small part of maintenance: inspects some series, or commits one small
    /// transaction.
    pub(super) fn maintain(&mut self, now: Instant) -> Result<()> {
        self.in_present_database(now, |committer| committer.maintain_here(now))
    }

    fn maintain_here(&mut self, now: Instant) -> Result<()> {
        let started = std::time::Instant::now();
        let outcome = if self.maintenance.is_idle() {
            self.committed = false;
            self.has_backlog = false;
            // A writer that has nothing to commit notices here that its database was replaced.
            let present = self.writer.check_writer(self.entry, self.last_batch);
            // Seals rows that another process left, or that exceed lowered limits.
            present
                .and_then(|()| {
                    self.writer
                        .begin_maintenance(&mut self.maintenance, &mut self.appender.cache)
                })
                .and_then(|()| self.seal_ripe())
                .map(|()| Maintained::default())
        } else {
            self.writer
                .maintain(&mut self.maintenance, &mut self.appender)
        };
        let elapsed = started.elapsed();
        self.maintenance_due = if !self.maintenance.is_idle() {
            // Maintenance takes at most half of the time, so that queued records never wait long,
            // and merging, which is not urgent, a twentieth.
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

    /// Commits the batch in flight. Returns whether there was one.
    fn commit_in_flight(&mut self) -> Result<bool> {
        self.redact();
        let Some(batch) = &mut self.in_flight else {
            return Ok(false);
        };
        let id = BatchId {
            writer: self.entry,
            number: batch.number,
            previous: self.last_batch,
        };
        let outcome = self
            .writer
            .append(&mut self.appender, &mut batch.parts, &batch.losses, id);
        self.bound_batches();
        let evicted = outcome?;
        self.has_backlog |= evicted.more;
        if evicted.disk_bytes > 0 {
            self.counters
                .count_maintenance(evicted.elapsed, evicted.into());
        }
        self.last_batch = id.number;
        self.counters.note_commit();
        if let Some(stored) = self.in_flight.take() {
            self.account(stored);
        }
        Ok(true)
    }

    /// Replaces secrets in the batch in flight directly before it is written, so that a registered
    /// value is also replaced in records emitted before it was registered.
    fn redact(&mut self) {
        let (Some(redactor), Some(batch)) = (&self.redactor, &mut self.in_flight) else {
            return;
        };
        let rules = redactor.rules();
        let records = batch.parts.iter().map(|part| part.records.len()).sum();
        let mut helpers = vec![(); self.appender.sealer.tiering.helpers(records)];
        let chunks = batch.parts.iter_mut().flat_map(|part| {
            let chunks = part.records.chunks_mut(REDACTED_TOGETHER);
            chunks.map(|records| (part.signal, records))
        });
        let is_any_refused = AtomicBool::new(false);
        share(&mut (), &mut helpers, chunks, |(), (signal, records)| {
            for record in records {
                if redact_record(&rules, signal, record).is_err() {
                    is_any_refused.store(true, Ordering::Relaxed);
                }
            }
        });
        if is_any_refused.into_inner() {
            for part in &mut batch.parts {
                drop_refused(&rules, part, &self.counters);
            }
        }
    }

    /// Counts the records of a committed batch.
    fn account(&mut self, batch: Batch) {
        for part in batch.parts {
            let sequences = part.appended.sequences;
            let stored = sequences.1 - sequences.0;
            self.counters.stored.fetch_add(stored, Ordering::Release);
            self.stored_records += stored;
            for timestamp in part.appended.wiped {
                let timestamp = Timestamp::from_unix_nanos(timestamp);
                self.counters
                    .count_drop(&part.server, part.signal, LossCause::Wiped, timestamp);
            }
        }
        self.release(batch.bytes);
    }

    /// Ends the writer's entry in the database, after which its end is not taken for a crash. All
    /// records must be committed.
    pub(super) fn leave(&mut self) -> Result<()> {
        self.in_present_database(now(), |committer| {
            committer.writer.leave_writer(committer.entry)
        })?;
        self.remove_spill()
    }

    fn remove_spill(&mut self) -> Result<()> {
        self.spiller.remove()?;
        match self.lock.take() {
            Some(_) => self.writer.remove_spill(self.entry),
            None => Ok(()),
        }
    }

    /// Like [`Committer::leave`], for a writer that could not commit and has
    /// [abandoned](Committer::abandon) its records: enters them in the ledger, with the room of the
    /// reserve if the disk is full.
    pub(super) fn leave_with_losses(&mut self, mut losses: Vec<LedgerEntry>) -> Result<()> {
        self.reopen()?;
        losses.extend(self.counters.take_unrecorded());
        self.writer.leave_writer_with_losses(self.entry, &losses)?;
        self.remove_spill()
    }

    /// Notes that the store fails, for this process and for others.
    pub(super) fn note_failure(&mut self, error: &Error) -> Timestamp {
        let error = error.to_string();
        let since = self.counters.note_failure(error.clone());
        self.spiller.tell_others(Some((since.unix_nanos(), &error)));
        since
    }

    /// Notes that the store works again.
    pub(super) fn note_recovery(&mut self) {
        self.counters.note_recovery();
        self.spiller.tell_others(None);
    }

    /// Discards all collected records and counts each as dropped. Returns the ledger entries that
    /// were to be committed with them.
    pub(super) fn abandon(&mut self, cause: LossCause) -> Vec<LedgerEntry> {
        let mut losses = Vec::new();
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
            losses.extend(batch.losses);
        }
        losses
    }

    /// Deletes stored records. Records in the batch that the wipe covers are discarded when it is
    /// committed.
    pub(super) fn wipe(&mut self, scope: &WipeScope) -> Result<usize> {
        let wiped = self.in_present_database(now(), |committer| committer.writer.wipe(scope))?;
        if self.spiller.has_records() {
            // A commit soon, which cuts the records off the spill.
            self.policy.record(now(), 0, true);
        }
        Ok(wiped)
    }

    /// Changes the limits, effective at once.
    pub(super) fn set_retention(&mut self, policy: &RetentionPolicy, now: Instant) -> Result<()> {
        self.in_present_database(now, |committer| committer.writer.set_limits(policy))?;
        self.retention = Some(policy.clone());
        self.maintenance_due = now;
        Ok(())
    }

    /// Evicts on a full disk what exceeds the limits.
    pub(super) fn free_space(&mut self) -> Result<()> {
        self.writer
            .free_space(&mut self.maintenance, &mut self.appender)
    }

    /// Returns disk space left by a wipe or by expired records to the file system, if there is much
    /// of it and moving it is quick.
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

    /// Reopens the store after a failure.
    pub(super) fn reopen(&mut self) -> Result<()> {
        self.writer.reopen()?;
        self.prepare()
    }

    /// Checks what must be checked before records are changed. A file that must not be written to is set aside, if
    /// the options of the store say so, and a new one begins.
    pub(super) fn prepare(&mut self) -> Result<()> {
        let store = self.writer.store();
        match store.admit_fully() {
            Err(error) if store.set_aside(&error, 1)? => self.renew(now()),
            outcome => outcome,
        }
    }

    /// Releases bytes of the queue's bound.
    fn release(&self, bytes: usize) {
        self.counters
            .queued_bytes
            .fetch_sub(bytes, Ordering::Release);
    }

    /// Seals the rows of every series that is due, one series per transaction.
    fn seal_ripe(&mut self) -> Result<()> {
        while let Some((server, signal)) = self.ripest() {
            let started = std::time::Instant::now();
            let evicted = self.writer.seal(&mut self.appender, &server, signal)?;
            self.has_backlog |= evicted.more;
            self.counters
                .count_maintenance(started.elapsed(), evicted.into());
        }
        Ok(())
    }

    /// A series whose rows must be sealed now, if any.
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
            crowded || tier.records >= sealer.tiering.seal_rows as u64 || tier.bytes >= bytes_max
        })
    }
}

/// `limit` divided by `part`.
fn part_of(limit: u64, part: u64) -> usize {
    usize::try_from(limit / part).unwrap_or(usize::MAX)
}

/// The present time for the commit policy.
pub(super) fn now() -> Instant {
    Duration::from_nanos(monotonic_nanos())
}

/// Replaces the secrets of a record. Fails with the cause for which it must not be stored.
fn redact_record(
    rules: &Rules,
    signal: Signal,
    record: &mut PendingRecord,
) -> std::result::Result<(), LossCause> {
    match rules.redact_payload(signal, &record.payload) {
        Ok(Cow::Borrowed(_)) => {}
        // A placeholder can be longer than the secret.
        Ok(Cow::Owned(redacted)) if redacted.len() > RECORD_BYTES_MAX => {
            return Err(LossCause::TooLarge);
        }
        Ok(Cow::Owned(redacted)) => record.payload = redacted.into(),
        // A record that cannot be searched for secrets must not be stored.
        Err(_) => return Err(LossCause::Invalid),
    }
    Ok(())
}

/// Drops and counts the records that cannot be redacted.
fn drop_refused(rules: &Rules, part: &mut SeriesBatch, counters: &Counters) {
    let SeriesBatch {
        server,
        signal,
        records,
        ..
    } = part;
    records.retain_mut(|record| {
        let Err(cause) = redact_record(rules, *signal, record) else {
            return true;
        };
        let timestamp = Timestamp::from_unix_nanos(record.timestamp);
        counters.count_drop(server, *signal, cause, timestamp);
        false
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{DiskOperation, StoreOptions};
    use std::sync::atomic::AtomicU64;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// A record that is emitted now.
    fn record(now: Instant) -> QueuedRecord {
        QueuedRecord {
            server: ServerName::new("github").unwrap(),
            signal: Signal::Logs,
            timestamp: Timestamp::from_unix_nanos(1),
            emitted: u64::try_from(now.as_nanos()).unwrap(),
            urgent: false,
            is_spilled: false,
            payload: Box::from([0x94, 0, 0, 0xa0, 0x80]),
        }
    }

    /// A writer whose batches have 1000 records, and the number of its writes to the spill.
    fn committer(home: &std::path::Path) -> (Committer, Arc<AtomicU64>) {
        let writes = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&writes);
        let options = StoreOptions::default().disk_hook(move |operation| {
            if let DiskOperation::Spill { .. } = operation {
                counted.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        let store = Store::open(home, "stack", options).unwrap();
        let options = WriterOptions::default().batch_records_max(1000);
        let committer = Committer::new(&store, &options, Arc::default()).unwrap();
        (committer, writes)
    }

    #[test]
    fn a_trickle_is_spilled_by_one_write_a_batch_until_the_commit() {
        let home = tempfile::tempdir().unwrap();
        let (mut committer, writes) = committer(home.path());
        let commit_at = ms(10_000);
        for number in 0..10 {
            let now = ms(number * 100);
            for _ in 0..3 {
                committer.push(record(now), now);
            }
            let due = committer.spill_due().unwrap();
            assert_eq!(due, now + SPILL_DELAY);
            committer.spill_rest(due, commit_at);
            assert_eq!(writes.load(Ordering::Relaxed), number + 1);
            assert_eq!(committer.spill_due(), None);
        }
        assert!(committer.spiller.has_records());
        committer.begin_work(ms(1000), true);
        committer.commit(ms(1000)).unwrap();
        committer.end_work();
        assert!(!committer.spiller.has_records());
        assert_eq!(writes.load(Ordering::Relaxed), 10);
        // Records that a commit is due for are spilled when it begins, as it can take long.
        committer.push(record(ms(2000)), ms(2000));
        committer.spill_rest(ms(2005), ms(2008));
        assert_eq!(writes.load(Ordering::Relaxed), 10);
        committer.begin_work(ms(2008), true);
        assert_eq!(writes.load(Ordering::Relaxed), 11);
    }

    #[test]
    fn a_load_that_fills_batches_is_not_spilled_unless_it_stops() {
        let home = tempfile::tempdir().unwrap();
        let (mut committer, writes) = committer(home.path());
        let mut now = ms(0);
        for _ in 0..20 {
            for _ in 0..100 {
                committer.push(record(now), now);
            }
            now += ms(5);
            committer.spill_rest(now, ms(10_000));
            if committer.commit_due().is_some_and(|due| due <= now) {
                committer.begin_work(now, true);
                committer.commit(now).unwrap();
                committer.end_work();
            }
        }
        assert_eq!(committer.counters.commits.load(Ordering::Relaxed), 2);
        assert_eq!(writes.load(Ordering::Relaxed), 0);
        for _ in 0..500 {
            committer.push(record(now), now);
        }
        for _ in 0..2 {
            now += ms(5);
            committer.spill_rest(now, ms(10_000));
        }
        assert_eq!(writes.load(Ordering::Relaxed), 1, "it has stopped");
    }
}
