//! The writer thread's work without its thread: gather, commit, seal.

use super::{
    DropCause, QueuedRecord, WriterOptions,
    policy::{CommitPolicy, Instant},
    stats::Counters,
};
use crate::{
    error::Result,
    produce::Redactor,
    record::{LogRecord, ServerName},
    signal::Signal,
    store::{
        BatchId, Loss, PendingRecord, RECORD_BYTES_MAX, RowTier, Sealer, SeriesBatch, Store,
        StoreWriter, WipeMarks, WipeScope, monotonic_nanos,
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

type SeriesKey = (ServerName, Signal);

/// Gathers records into a batch and commits it when it is due.
#[derive(Debug)]
pub(super) struct Committer {
    writer: StoreWriter,
    policy: CommitPolicy,
    /// What is gathered.
    batch: Batch,
    /// What was tried to commit. A commit that fails may have come to the disk all the same, so it
    /// is tried again as it was, and what is gathered in the meantime stays apart.
    tried: Option<Batch>,
    /// Tells the batch that is tried, or will be, from the others.
    id: BatchId,
    /// What this process knows of the row tier: a hint for when to seal, which other processes
    /// make stale.
    tiers: HashMap<SeriesKey, RowTier>,
    tier_bytes: usize,
    wipes: WipeMarks,
    sealer: Sealer,
    redactor: Option<Redactor>,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Batch {
    parts: Vec<SeriesBatch>,
    /// Where in `parts` a series is.
    places: HashMap<SeriesKey, usize>,
    /// What the records count against the queue's bound.
    bytes: usize,
    /// What is to be entered in the ledger with them.
    losses: Vec<Loss>,
}

impl Committer {
    pub(super) fn new(
        store: &Store,
        options: &WriterOptions,
        counters: Arc<Counters>,
    ) -> Result<Committer> {
        let writer = store.writer()?;
        let wipes = writer.wipe_marks()?;
        let snapshot = store.snapshot()?;
        let rows = snapshot.row_tiers()?;
        let tiers: HashMap<SeriesKey, RowTier> = snapshot
            .series()?
            .into_iter()
            .filter_map(|entry| Some(((entry.server, entry.signal), *rows.get(&entry.state.id)?)))
            .collect();
        Ok(Committer {
            policy: CommitPolicy::new(options),
            id: BatchId {
                writer: writer.enter_writer()?,
                number: 1,
            },
            writer,
            batch: Batch::default(),
            tried: None,
            tier_bytes: tiers.values().map(|tier| tier.bytes).sum(),
            tiers,
            wipes,
            sealer: Sealer::new(options.tiering),
            redactor: options.redactor.clone(),
            counters,
        })
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

    /// When the batch is to be committed, or drops are to be entered; `None` when there is neither.
    pub(super) fn due(&self) -> Option<Instant> {
        self.policy.due()
    }

    /// Takes note that records were dropped before they came here.
    pub(super) fn note_drops(&mut self, now: Instant) {
        self.policy.record(now, 0, false);
    }

    /// Commits everything that was gathered. When this fails it is still there, and the store must
    /// be opened again before the next try.
    pub(super) fn commit(&mut self, now: Instant) -> Result<()> {
        let mut committed = self.settle()?;
        loop {
            // What a commit itself dropped, for want of a way to redact it, is entered as well.
            self.batch.losses = self.counters.take_unrecorded();
            if self.batch.parts.is_empty() && self.batch.losses.is_empty() {
                break;
            }
            self.tried = Some(std::mem::take(&mut self.batch));
            committed |= self.settle()?;
        }
        if committed {
            self.policy.committed(now);
        }
        self.seal()
    }

    /// Commits what was tried, if anything was, and says whether.
    fn settle(&mut self) -> Result<bool> {
        self.redact();
        let Some(tried) = &mut self.tried else {
            return Ok(false);
        };
        self.writer.append(
            &mut tried.parts,
            &tried.losses,
            self.id,
            &mut self.wipes,
            &mut self.sealer,
        )?;
        self.id.number += 1;
        self.counters.commits.fetch_add(1, Ordering::Relaxed);
        if let Some(stored) = self.tried.take() {
            self.account(stored);
        }
        Ok(true)
    }

    /// Replaces secrets in what is tried, right before it is written: a value counts from the
    /// moment it is registered, also for records that were emitted before.
    fn redact(&mut self) {
        let (Some(redactor), Some(tried)) = (&self.redactor, &mut self.tried) else {
            return;
        };
        let rules = redactor.rules();
        for part in &mut tried.parts {
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
                        DropCause::TooLarge
                    }
                    Ok(Cow::Owned(redacted)) => {
                        record.payload = redacted.into();
                        return true;
                    }
                    // What nobody can look into must not be stored.
                    Err(_) => DropCause::Invalid,
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
            let (sequences, rows) = (part.appended.sequences, part.appended.rows);
            let stored = sequences.1 - sequences.0;
            self.counters.stored.fetch_add(stored, Ordering::Release);
            for timestamp in part.appended.wiped {
                let timestamp = Timestamp::from_unix_nanos(timestamp);
                self.counters
                    .count_drop(&part.server, part.signal, DropCause::Wiped, timestamp);
            }
            if rows.rows > 0 {
                let tier = self.tiers.entry((part.server, part.signal)).or_default();
                tier.rows += rows.rows;
                tier.bytes += rows.bytes;
                self.tier_bytes += rows.bytes;
            }
        }
        self.release(batch.bytes);
    }

    /// Ends as a writer should, everything being committed.
    pub(super) fn leave(&self) -> Result<()> {
        self.writer.leave_writer(self.id.writer)
    }

    /// Gives up what was gathered, every record of it counted as dropped.
    pub(super) fn abandon(&mut self, cause: DropCause) {
        for batch in [self.tried.take(), Some(std::mem::take(&mut self.batch))]
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
                    count(*timestamp, DropCause::Wiped);
                }
            }
            self.release(batch.bytes);
        }
    }

    /// Deletes what is stored; what is in the batch goes when it is committed.
    pub(super) fn wipe(&mut self, scope: &WipeScope) -> Result<usize> {
        self.writer.wipe(scope)
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
        while let Some((key, tier)) = self.ripest() {
            let (server, signal) = &key;
            let left = self.writer.seal(server, *signal, &mut self.sealer)?;
            self.tier_bytes = (self.tier_bytes + left.bytes).saturating_sub(tier.bytes);
            if left.rows == 0 {
                self.tiers.remove(&key);
            } else {
                self.tiers.insert(key, left);
            }
        }
        Ok(())
    }

    /// A series that should be sealed now.
    fn ripest(&self) -> Option<(SeriesKey, RowTier)> {
        let crowded = self.tier_bytes > ROW_TIER_BYTES_MAX;
        self.tiers
            .iter()
            .filter(|(_, tier)| {
                crowded || tier.rows >= self.sealer.tiering.seal_rows || tier.bytes >= SEAL_BYTES
            })
            .max_by_key(|(_, tier)| tier.bytes)
            .map(|(key, tier)| (key.clone(), *tier))
    }
}

/// A writer whose clock is told to it: what it writes in a day can be measured in a minute.
///
/// It shares everything with [`Writer`](crate::Writer) but the queue and the thread.
#[doc(hidden)]
#[derive(Debug)]
pub struct SimulatedWriter {
    committer: Committer,
    commits: u64,
    waited_max: Duration,
    oldest: Option<Instant>,
}

impl SimulatedWriter {
    /// A writer to `store` whose clock stands at zero.
    pub fn new(store: &Store, options: &WriterOptions) -> Result<SimulatedWriter> {
        options.validate()?;
        let committer = Committer::new(store, options, Arc::default())?;
        Ok(SimulatedWriter {
            committer,
            commits: 0,
            waited_max: Duration::ZERO,
            oldest: None,
        })
    }

    /// Goes to `now` and commits whatever was due before.
    pub fn advance(&mut self, now: Duration) -> Result<()> {
        while let Some(due) = self.committer.due().filter(|due| *due <= now) {
            let started = std::time::Instant::now();
            self.committer.commit(due)?;
            let waited = self
                .oldest
                .take()
                .map_or(Duration::ZERO, |oldest| due.saturating_sub(oldest));
            self.waited_max = self.waited_max.max(waited + started.elapsed());
            self.commits += 1;
        }
        Ok(())
    }

    /// Takes a log record at `now`.
    pub fn log(&mut self, server: &ServerName, record: &LogRecord, now: Duration) -> Result<()> {
        self.advance(now)?;
        let queued = super::writer::encode_log(server, record)?;
        self.committer
            .counters
            .queued_bytes
            .fetch_add(queued.memory_bytes(), Ordering::Relaxed);
        self.oldest.get_or_insert(now);
        self.committer.push(queued, now);
        Ok(())
    }

    /// How many commits there were.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.commits
    }

    /// The longest time from a record's arrival to the end of its commit.
    #[must_use]
    pub fn waited_max(&self) -> Duration {
        self.waited_max
    }
}

/// Now, as the policy sees it.
pub(super) fn now() -> Instant {
    Duration::from_nanos(monotonic_nanos())
}
