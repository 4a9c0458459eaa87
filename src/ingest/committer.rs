//! The work of the writer thread, without the thread: collect a batch, commit it, seal, maintain.

use super::{
    QueuedRecord, WriterOptions,
    policy::{CommitPolicy, Instant},
    stats::Counters,
};
use crate::{
    config::RetentionPolicy,
    error::{Error, Result},
    loss::{LedgerEntry, LossCause},
    platform::monotonic_nanos,
    record::ServerName,
    redact::Redactor,
    signal::Signal,
    store::{
        Appender, BatchId, Maintained, Maintenance, PendingRecord, RECORD_BYTES_MAX, SeriesBatch,
        Spill, SpilledRecord, Store, StoreWriter, WipeScope,
    },
    time::Timestamp,
};
use hashbrown::HashMap;
use std::{
    borrow::Cow,
    io::ErrorKind,
    sync::{Arc, atomic::Ordering},
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

/// The time that a record waits for others to be spilled with it.
const SPILL_DELAY: Duration = Duration::from_millis(5);
/// Records are not spilled when the traffic fills their batch within this time: the commit comes at
/// once, and writing all records twice would halve the throughput.
const SPILL_HORIZON: Duration = Duration::from_millis(250);
/// The time before the next attempt after a failed write.
const SPILL_RETRY: Duration = Duration::from_secs(1);
/// The capacity of the buffer for encoded records that is kept, in bytes.
const SPILL_BUFFER_BYTES_MAX: usize = 256 << 10;

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
    /// The id of the batch in flight, or of the next one.
    id: BatchId,
    maintenance: Maintenance,
    /// When maintenance is due.
    pub(super) maintenance_due: Instant,
    /// Whether anything was committed since the last round of maintenance began.
    committed: bool,
    /// Whether an eviction stopped at the size of one transaction, and no round of maintenance has
    /// begun since.
    has_backlog: bool,
    appender: Appender,
    pub(super) spill: Option<Spill>,
    spilling: Spilling,
    redactor: Option<Redactor>,
    pub(super) counters: Arc<Counters>,
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
}

/// When records that wait for their commit are written to the spill.
#[derive(Debug, Default)]
struct Spilling {
    /// When records must be written; `None` while there are none.
    due: Option<Instant>,
    /// Since when the records and bytes below arrived.
    window_start: Instant,
    window_records: usize,
    window_bytes: usize,
    /// Encoded records, kept for its capacity.
    buffer: Vec<u8>,
    /// Maximum length of the file, in bytes: all records of the queue, and those of a batch that is
    /// committed but not cut off yet.
    bytes_max: u64,
    /// Whether the last write failed.
    failed: bool,
}

impl Spilling {
    fn start_window(&mut self, now: Instant) {
        self.due = Some(now + SPILL_DELAY);
        self.window_start = now;
        self.window_records = 0;
        self.window_bytes = 0;
    }
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
        let (number, spill) = writer.enter_writer()?;
        let mut committer = Committer {
            policy: CommitPolicy::new(options),
            id: BatchId {
                writer: number,
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
            spill,
            spilling: Spilling {
                bytes_max: 2 * options.queue_bytes_max as u64,
                ..Spilling::default()
            },
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
        if self.spill.is_some() {
            if self.spilling.due.is_none() {
                // Not since now: the record may have waited in the queue during a commit.
                self.spilling
                    .start_window(Duration::from_nanos(record.emitted).min(now));
            }
            self.spilling.window_records += 1;
            self.spilling.window_bytes += bytes;
        }
        let pending = PendingRecord {
            timestamp: record.timestamp.unix_nanos(),
            emitted: record.emitted,
            payload: record.payload,
            is_spilled: false,
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

    /// Commits all collected records. When this fails, they are kept, and the store must be
    /// reopened before the next attempt.
    pub(super) fn commit(&mut self, now: Instant) -> Result<()> {
        let mut committed = self.commit_in_flight()?;
        loop {
            // Records that a commit itself dropped, because they could not be redacted, are entered
            // in the ledger as well.
            self.batch.losses = self.counters.take_unrecorded();
            if self.batch.parts.is_empty() && self.batch.losses.is_empty() {
                break;
            }
            self.in_flight = Some(std::mem::take(&mut self.batch));
            committed |= self.commit_in_flight()?;
        }
        self.clear_spill();
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
        let traffic = (window_records, window_bytes);
        if commit_at <= now + SPILL_DELAY
            || self.policy.fills_within(SPILL_HORIZON, window, traffic)
        {
            self.spilling.start_window(now);
        } else {
            self.spill_all(now);
        }
    }

    /// Writes all records to the spill that are not there yet, by one write. Returns whether all are
    /// there now.
    fn spill_all(&mut self, now: Instant) -> bool {
        let Some(spill) = &mut self.spill else {
            return false;
        };
        let rules = self.redactor.as_ref().map(Redactor::rules);
        let mut buffer = std::mem::take(&mut self.spilling.buffer);
        buffer.clear();
        let next = self.id.number + u64::from(self.in_flight.is_some());
        let numbered = [(self.id.number, self.in_flight.as_mut())]
            .into_iter()
            .filter_map(|(number, batch)| Some((number, batch?)))
            .chain([(next, &mut self.batch)]);
        let mut batches: Vec<(u64, &mut Batch)> = numbered.collect();
        for (number, batch) in &mut batches {
            for part in &mut batch.parts {
                let SeriesBatch {
                    server,
                    signal,
                    records,
                    ..
                } = part;
                for record in records.iter_mut().filter(|record| !record.is_spilled) {
                    let payload = match &rules {
                        None => Cow::Borrowed(&*record.payload),
                        Some(rules) => match rules.redact_payload(*signal, &record.payload) {
                            Ok(payload) if payload.len() <= RECORD_BYTES_MAX => payload,
                            // The commit will drop and count it.
                            _ => continue,
                        },
                    };
                    let spilled = SpilledRecord {
                        batch: *number,
                        server: Cow::Borrowed(server),
                        signal: *signal,
                        timestamp: record.timestamp,
                        emitted: record.emitted,
                        payload,
                    };
                    spilled.encode(&mut buffer);
                }
            }
        }
        let fits = spill.bytes() + buffer.len() as u64 <= self.spilling.bytes_max;
        let written = match buffer.is_empty() {
            true => Ok(()),
            false if !fits => Err(ErrorKind::FileTooLarge.into()),
            false => spill.append(&buffer),
        };
        buffer.shrink_to(SPILL_BUFFER_BYTES_MAX);
        self.spilling.buffer = buffer;
        match written {
            Ok(()) => {
                for (_, batch) in batches {
                    for part in &mut batch.parts {
                        part.records.iter_mut().for_each(|it| it.is_spilled = true);
                    }
                }
                self.spilling.due = None;
                self.spilling.failed = false;
                true
            }
            Err(error) => {
                // Once: the commit, which writes to the same disk, reports what matters.
                if !std::mem::replace(&mut self.spilling.failed, true) {
                    tracing::warn!(
                        subsystem = "telemetry",
                        error = error.to_string(),
                        "records that are not committed yet are lost if this process is killed"
                    );
                }
                self.spilling.due = Some(now + SPILL_RETRY);
                false
            }
        }
    }

    /// Cuts off the records of the spill, all of which are committed.
    fn clear_spill(&mut self) {
        self.spilling.due = None;
        if let Some(spill) = &mut self.spill
            && spill.has_records()
        {
            // If this fails, the number of the batch says that they are committed.
            let _ = spill.clear();
        }
    }

    /// Leaves all records to the next writer, in the spill, which this ends. Returns whether that
    /// worked; otherwise nothing has changed.
    pub(super) fn leave_in_spill(&mut self) -> bool {
        self.spill_all(now()) && self.spill.take().is_some_and(|spill| spill.keep().is_ok())
    }

    /// Performs one small part of maintenance: inspects some series, or commits one small
    /// transaction.
    pub(super) fn maintain(&mut self, now: Instant) -> Result<()> {
        let started = std::time::Instant::now();
        let outcome = if self.maintenance.is_idle() {
            self.committed = false;
            self.has_backlog = false;
            // Seals rows that another process left, or that exceed lowered limits.
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
                    // A placeholder can be longer than the secret.
                    Ok(Cow::Owned(redacted)) if redacted.len() > RECORD_BYTES_MAX => {
                        LossCause::TooLarge
                    }
                    Ok(Cow::Owned(redacted)) => {
                        record.payload = redacted.into();
                        return true;
                    }
                    // A record that cannot be searched for secrets must not be stored.
                    Err(_) => LossCause::Invalid,
                };
                let timestamp = Timestamp::from_unix_nanos(record.timestamp);
                self.counters.count_drop(server, *signal, cause, timestamp);
                false
            });
        }
    }

    /// Counts the records of a committed batch.
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

    /// Ends the writer's entry in the database, after which its end is not taken for a crash. All
    /// records must be committed.
    pub(super) fn leave(&mut self) -> Result<()> {
        self.writer.leave_writer(self.id.writer)?;
        self.spill.take().map_or(Ok(()), Spill::remove)
    }

    /// Like [`Committer::leave`], for a writer that could not commit and has
    /// [abandoned](Committer::abandon) its records: enters them in the ledger, with the room of the
    /// reserve if the disk is full.
    pub(super) fn leave_with_losses(&mut self, mut losses: Vec<LedgerEntry>) -> Result<()> {
        self.reopen()?;
        losses.extend(self.counters.take_unrecorded());
        self.writer
            .leave_writer_with_losses(self.id.writer, &losses)?;
        self.spill.take().map_or(Ok(()), Spill::remove)
    }

    /// Notes that the store fails, for this process and for others.
    pub(super) fn note_failure(&mut self, error: &Error) -> Timestamp {
        let error = error.to_string();
        let since = self.counters.note_failure(error.clone());
        self.tell_others(Some((since.unix_nanos(), &error)));
        since
    }

    /// Notes that the store works again.
    pub(super) fn note_recovery(&mut self) {
        self.counters.note_recovery();
        self.tell_others(None);
    }

    fn tell_others(&mut self, failure: Option<(i64, &str)>) {
        if let Some(spill) = &mut self.spill {
            // Others then see an older state: the statistics of this process are right.
            let _ = spill.set_failure(failure);
        }
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
        let wiped = self.writer.wipe(scope)?;
        if self.spill.as_ref().is_some_and(Spill::has_records) {
            // A commit soon, which cuts the records off the spill.
            self.policy.record(now(), 0, true);
        }
        Ok(wiped)
    }

    /// Changes the limits, effective at once.
    pub(super) fn set_retention(&mut self, policy: &RetentionPolicy, now: Instant) -> Result<()> {
        self.writer.set_limits(policy)?;
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
    pub(super) fn reopen(&self) -> Result<()> {
        self.writer.reopen()
    }

    /// Releases bytes of the queue's bound.
    fn release(&self, bytes: usize) {
        self.counters
            .queued_bytes
            .fetch_sub(bytes, Ordering::Release);
    }

    /// Seals the rows of every series that is due, one series per transaction.
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
            crowded || tier.rows >= sealer.tiering.seal_rows || tier.bytes >= bytes_max
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
        assert!(committer.spill.as_ref().unwrap().has_records());
        committer.commit(ms(1000)).unwrap();
        assert!(!committer.spill.as_ref().unwrap().has_records());
        // A commit that is due costs none.
        committer.push(record(ms(2000)), ms(2000));
        committer.spill_rest(ms(2005), ms(2008));
        assert_eq!(writes.load(Ordering::Relaxed), 10);
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
                committer.commit(now).unwrap();
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
