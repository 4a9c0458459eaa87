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
        Appended, BatchId, PendingRecord, RowTier, Sealer, SeriesBatch, Store, StoreWriter,
        WipeMarks, WipeScope, monotonic_nanos,
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
    /// The batch that is gathered.
    id: BatchId,
    batch: Vec<SeriesBatch>,
    /// Where in `batch` a series is.
    places: HashMap<SeriesKey, usize>,
    batch_bytes: usize,
    /// What this process knows of the row tier: a hint for when to seal, which other processes
    /// make stale.
    tiers: HashMap<SeriesKey, RowTier>,
    tier_bytes: usize,
    wipes: WipeMarks,
    sealer: Sealer,
    redactor: Option<Redactor>,
    counters: Arc<Counters>,
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
            batch: Vec::new(),
            places: HashMap::new(),
            batch_bytes: 0,
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
        self.batch_bytes += bytes;
        self.policy.record(now, bytes, record.urgent);
        let pending = PendingRecord {
            timestamp: record.timestamp.unix_nanos(),
            emitted: record.emitted,
            payload: record.payload,
        };
        let next = self.batch.len();
        let place = *self
            .places
            .entry((record.server, record.signal))
            .or_insert_with_key(|(server, signal)| {
                self.batch.push(SeriesBatch {
                    server: server.clone(),
                    signal: *signal,
                    records: Vec::new(),
                });
                next
            });
        if let Some(part) = self.batch.get_mut(place) {
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

    /// Commits the batch. When this fails the batch is still there, and the store must be opened
    /// again before the next try.
    pub(super) fn commit(&mut self, now: Instant) -> Result<()> {
        self.redact();
        let losses = self.counters.take_unrecorded();
        if !self.batch.is_empty() || !losses.is_empty() {
            let appended = match self.writer.append(
                &mut self.batch,
                &losses,
                self.id,
                &mut self.wipes,
                &mut self.sealer,
            ) {
                Ok(appended) => appended,
                Err(error) => {
                    self.counters.give_back(losses);
                    return Err(error);
                }
            };
            self.policy.committed(now);
            self.id.number += 1;
            self.counters.commits.fetch_add(1, Ordering::Relaxed);
            match appended {
                Some(appended) => self.account(appended),
                // The failed try before this one was none.
                None => {
                    let records: usize = self.batch.iter().map(|part| part.records.len()).sum();
                    self.counters
                        .stored
                        .fetch_add(records as u64, Ordering::Release);
                }
            }
            self.clear();
        }
        self.seal()
    }

    /// Replaces secrets in the batch, right before it is written: a value counts from the moment it
    /// is registered, also for records that were emitted before.
    fn redact(&mut self) {
        let Some(redactor) = &self.redactor else {
            return;
        };
        let rules = redactor.rules();
        for part in &mut self.batch {
            let SeriesBatch {
                server,
                signal,
                records,
            } = part;
            records.retain_mut(
                |record| match rules.redact_payload(*signal, &record.payload) {
                    Ok(Cow::Borrowed(_)) => true,
                    Ok(Cow::Owned(redacted)) => {
                        record.payload = redacted.into();
                        true
                    }
                    // What nobody can look into must not be stored.
                    Err(_) => {
                        let timestamp = Timestamp::from_unix_nanos(record.timestamp);
                        self.counters
                            .count_drop(server, *signal, DropCause::Invalid, timestamp);
                        false
                    }
                },
            );
        }
    }

    /// Counts what became of the batch.
    fn account(&mut self, appended: Vec<Appended>) {
        for (part, outcome) in self.batch.iter().zip(appended) {
            let stored = outcome.sequences.1 - outcome.sequences.0;
            self.counters.stored.fetch_add(stored, Ordering::Release);
            for timestamp in outcome.wiped {
                let timestamp = Timestamp::from_unix_nanos(timestamp);
                self.counters
                    .count_drop(&part.server, part.signal, DropCause::Wiped, timestamp);
            }
            if outcome.rows.rows > 0 {
                let tier = self
                    .tiers
                    .entry((part.server.clone(), part.signal))
                    .or_default();
                tier.rows += outcome.rows.rows;
                tier.bytes += outcome.rows.bytes;
                self.tier_bytes += outcome.rows.bytes;
            }
        }
    }

    /// Ends as a writer should, everything being committed.
    pub(super) fn leave(&self) -> Result<()> {
        self.writer.leave_writer(self.id.writer)
    }

    /// Gives up the batch, every record of it counted as dropped.
    pub(super) fn abandon(&mut self, cause: DropCause) {
        for part in &self.batch {
            for record in &part.records {
                let timestamp = Timestamp::from_unix_nanos(record.timestamp);
                self.counters
                    .count_drop(&part.server, part.signal, cause, timestamp);
            }
        }
        self.clear();
    }

    /// Deletes what is stored; what is in the batch goes when it is committed.
    pub(super) fn wipe(&mut self, scope: &WipeScope) -> Result<usize> {
        self.writer.wipe(scope)
    }

    /// Opens the store again after a failure.
    pub(super) fn reopen(&self) -> Result<()> {
        self.writer.reopen()
    }

    fn clear(&mut self) {
        self.batch.clear();
        self.places.clear();
        self.counters
            .queued_bytes
            .fetch_sub(self.batch_bytes, Ordering::Release);
        self.batch_bytes = 0;
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
