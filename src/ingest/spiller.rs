//! Writes records that are not committed to the spill, also while the writer thread is busy.
//!
//! The writer thread takes no messages during a commit, which can last for hundreds of milliseconds
//! on a busy disk. Once its work lasts longer than [`PATIENCE`], a thread of the spiller takes the
//! messages from the queue in its place, writes their records to the spill, and keeps them, in order,
//! until the writer thread is done. It takes none at other times, so that messages never overtake
//! each other.
//!
//! `tests/survives_any_schedule.rs` compiles this file as well, with primitives that explore schedules.

use super::{
    WriterOptions,
    committer::now,
    policy::{BatchSize, Instant},
    stats::Counters,
    sync::{
        Arc, AtomicBool, Builder, Condvar, Mutex, MutexGuard, Ordering, PoisonError,
        channel::Receiver,
    },
    thread,
    writer::Message,
};
use crate::{
    error::{Error, Result},
    redact::{Redactor, Rules},
    store::{RECORD_BYTES_MAX, Spill, SpilledRecord},
};
use std::{borrow::Cow, collections::VecDeque, io::ErrorKind, path::Path, time::Duration};

/// The time that a record waits for others to be spilled with it.
pub(super) const SPILL_DELAY: Duration = Duration::from_millis(5);
/// Records are not spilled when the traffic fills a batch within this time: the commit comes at
/// once, and writing all records twice would halve the throughput.
pub(super) const SPILL_HORIZON: Duration = Duration::from_millis(250);
/// The time before the next attempt after a failed write.
pub(super) const SPILL_RETRY: Duration = Duration::from_secs(1);
/// The time after which the messages of a busy writer thread are taken in its place.
const PATIENCE: Duration = Duration::from_millis(10);
/// The capacity of a buffer for encoded records that is kept, in bytes.
const BUFFER_BYTES_MAX: usize = 256 << 10;

/// The spill of a writer, shared by the writer thread and the thread of the spiller.
#[derive(Debug)]
pub(super) struct Spiller {
    state: Mutex<State>,
    changed: Condvar,
    /// Whether the writer thread waits for its messages: the other thread is to take no more.
    is_wanted: AtomicBool,
    redactor: Option<Redactor>,
    counters: Arc<Counters>,
    /// Maximum length of the spill, in bytes: all records of the queue, and those of a batch that is
    /// committed but not cut off yet.
    bytes_max: u64,
}

#[derive(Debug)]
struct State {
    spill: Option<Spill>,
    /// What the writer thread is doing; `None` while it takes its messages itself.
    work: Option<Work>,
    taken: VecDeque<Message>,
    /// Encoded records, kept for its capacity.
    buffer: Vec<u8>,
    /// Whether the last write failed.
    has_failed: bool,
    retry_at: Instant,
    has_ended: bool,
}

/// Work of the writer thread during which it takes no messages.
#[derive(Debug)]
struct Work {
    since: Instant,
    /// The number of a batch that is committed after the work.
    next_batch: u64,
    /// Not more than one batch is taken.
    batch_size: BatchSize,
    taken_bytes: usize,
    /// The bytes that counted against the queue when the work began, of records that it is about.
    collected_bytes: usize,
    /// When the traffic was last looked at, and the number and bytes of queued records then.
    looked_at: Instant,
    queued: (usize, usize),
}

impl Work {
    /// Whether the queue holds a whole batch, which is committed at once after the work, and the work has
    /// not taken long. Producers that wait for room then no longer show how high the traffic is.
    fn is_before_a_full_batch(&self, now: Instant) -> bool {
        let (records, bytes) = self.queued;
        let bytes = bytes.saturating_sub(self.collected_bytes + self.taken_bytes);
        let is_full = records >= self.batch_size.records || bytes >= self.batch_size.bytes;
        is_full && now < self.since + SPILL_HORIZON
    }
}

impl Spiller {
    pub(super) fn new(
        spill: Result<Spill>,
        options: &WriterOptions,
        counters: Arc<Counters>,
    ) -> Spiller {
        let spiller = Spiller {
            state: Mutex::new(State {
                spill: None,
                work: None,
                taken: VecDeque::new(),
                buffer: Vec::new(),
                has_failed: false,
                retry_at: Instant::ZERO,
                has_ended: false,
            }),
            changed: Condvar::new(),
            is_wanted: AtomicBool::new(false),
            redactor: options.redactor.clone(),
            counters,
            bytes_max: 2 * options.queue_bytes_max as u64,
        };
        match spill {
            Ok(spill) => spiller.lock().spill = Some(spill),
            Err(error) => spiller.note_failure(&mut spiller.lock(), &error.to_string()),
        }
        spiller
    }

    /// Starts the thread that takes messages from `queue` while the writer thread is busy.
    pub(super) fn start(self: &Arc<Self>, queue: Receiver<Message>, path: &Path) -> Result<()> {
        let spiller = Arc::clone(self);
        Builder::new()
            .name("gridctl-telemetry-spill".to_owned())
            .spawn(move || {
                thread::never_store_own_events();
                spiller.run(&queue);
            })
            .map_err(|error| Error::io("start the spiller of", path, error))?;
        Ok(())
    }

    fn run(&self, queue: &Receiver<Message>) {
        let mut state = self.lock();
        while !state.has_ended {
            let wait = match &state.work {
                None => None,
                Some(work) => match (work.since + PATIENCE).checked_sub(now()) {
                    Some(rest) if !rest.is_zero() => Some(rest),
                    _ => {
                        self.take(&mut state, queue);
                        Some(SPILL_DELAY)
                    }
                },
            };
            state = match wait {
                None => (self.changed.wait(state)).unwrap_or_else(PoisonError::into_inner),
                Some(wait) => {
                    (self.changed.wait_timeout(state, wait))
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
    }

    /// Takes the messages of the queue and spills their records, by one write, unless the traffic is
    /// so high that they are committed soon.
    fn take(&self, state: &mut State, queue: &Receiver<Message>) {
        let State {
            work: Some(work),
            taken,
            buffer,
            retry_at,
            spill,
            ..
        } = state
        else {
            return;
        };
        let now = now();
        let window = now.saturating_sub(work.looked_at).max(SPILL_DELAY);
        let queued = (
            queue.len(),
            self.counters.queued_bytes.load(Ordering::Relaxed),
        );
        let arrived = (
            queued.0.saturating_sub(work.queued.0),
            queued.1.saturating_sub(work.queued.1),
        );
        work.looked_at = now;
        work.queued = queued;
        if spill.is_none()
            || now < *retry_at
            || work.batch_size.fills_within(SPILL_HORIZON, window, arrived)
            || work.is_before_a_full_batch(now)
        {
            return;
        }
        let rules = self.redactor.as_ref().map(Redactor::rules);
        let first = taken.len();
        buffer.clear();
        while taken.len() < work.batch_size.records
            && work.taken_bytes < work.batch_size.bytes
            && !self.is_wanted.load(Ordering::Relaxed)
            && let Ok(mut message) = queue.try_recv()
        {
            match &mut message {
                Message::Record(record) => {
                    record.is_spilled = true;
                    work.taken_bytes += record.memory_bytes();
                    let spilled = SpilledRecord {
                        batch: work.next_batch,
                        server: Cow::Borrowed(&record.server),
                        signal: record.signal,
                        timestamp: record.timestamp.unix_nanos(),
                        emitted: record.emitted,
                        payload: Cow::Borrowed(&record.payload),
                    };
                    encode(spilled, rules.as_deref(), buffer);
                }
                // One is enough, and there is no bound to their number.
                Message::Dropped if matches!(taken.back(), Some(Message::Dropped)) => continue,
                _ => {}
            }
            taken.push_back(message);
        }
        work.queued.0 = queue.len();
        let buffer = std::mem::take(buffer);
        if !self.append_to(state, &buffer) {
            for message in state.taken.range_mut(first..) {
                if let Message::Record(record) = message {
                    record.is_spilled = false;
                }
            }
        }
        state.buffer = buffer;
        state.buffer.shrink_to(BUFFER_BYTES_MAX);
    }

    /// Does what the thread does when the writer thread has been busy for a while.
    #[cfg(test)]
    pub(super) fn take_now(&self, queue: &Receiver<Message>) {
        self.take(&mut self.lock(), queue);
    }

    /// Spills `records` by one write. Returns whether they are in the spill now.
    pub(super) fn spill<'a>(&self, records: impl Iterator<Item = SpilledRecord<'a>>) -> bool {
        let mut state = self.lock();
        let mut buffer = std::mem::take(&mut state.buffer);
        buffer.clear();
        let rules = self.redactor.as_ref().map(Redactor::rules);
        for record in records {
            encode(record, rules.as_deref(), &mut buffer);
        }
        let is_spilled = self.append_to(&mut state, &buffer);
        state.buffer = buffer;
        state.buffer.shrink_to(BUFFER_BYTES_MAX);
        is_spilled
    }

    fn append_to(&self, state: &mut State, records: &[u8]) -> bool {
        let Some(spill) = &mut state.spill else {
            return false;
        };
        let fits = spill.bytes() + records.len() as u64 <= self.bytes_max;
        let written = match records.is_empty() {
            true => return true,
            false if !fits => Err(ErrorKind::FileTooLarge.into()),
            false => spill.append(records),
        };
        match written {
            Ok(()) => {
                if std::mem::take(&mut state.has_failed) {
                    self.counters.note_spill_error(None);
                }
                true
            }
            Err(error) => {
                self.note_failure(state, &error.to_string());
                state.retry_at = now() + SPILL_RETRY;
                false
            }
        }
    }

    fn note_failure(&self, state: &mut State, error: &str) {
        // Once: the commit, which writes to the same disk, reports what matters.
        if !std::mem::replace(&mut state.has_failed, true) {
            tracing::warn!(
                subsystem = "telemetry",
                error,
                "records that are not committed yet are lost if this process is killed"
            );
        }
        self.counters.note_spill_error(Some(error.to_owned()));
    }

    /// Whether there is a spill.
    pub(super) fn has_spill(&self) -> bool {
        self.lock().spill.is_some()
    }

    /// Whether the spill holds records.
    pub(super) fn has_records(&self) -> bool {
        self.lock().spill.as_ref().is_some_and(Spill::has_records)
    }

    /// To be called when the writer thread begins to work and takes no messages. `next_batch` is a
    /// number that no batch has which the work commits, but later ones have. `commits` says whether
    /// the work is a commit. `collected_bytes` are those of the records that are in no message any more.
    pub(super) fn begin_work(
        &self,
        next_batch: u64,
        batch_size: BatchSize,
        collected_bytes: usize,
        commits: bool,
    ) {
        let since = now();
        let mut state = self.lock();
        if let Some(spill) = &mut state.spill
            && commits
        {
            spill.turn();
        }
        state.work = Some(Work {
            since,
            next_batch,
            batch_size,
            taken_bytes: 0,
            collected_bytes,
            looked_at: since,
            queued: (0, self.counters.queued_bytes.load(Ordering::Relaxed)),
        });
        self.is_wanted.store(false, Ordering::Relaxed);
        drop(state);
        self.changed.notify_one();
    }

    /// To be called when the work has ended. Returns the messages that were taken meanwhile, which come
    /// before all that are in the queue.
    pub(super) fn end_work(&self) -> VecDeque<Message> {
        self.is_wanted.store(true, Ordering::Relaxed);
        let mut state = self.lock();
        state.work = None;
        std::mem::take(&mut state.taken)
    }

    /// Ends the thread of the spiller. Returns the messages that it has taken, of which there are none
    /// unless the writer thread has ended in its work.
    pub(super) fn stop(&self) -> VecDeque<Message> {
        let taken = self.end_work();
        self.lock().has_ended = true;
        self.changed.notify_one();
        taken
    }

    /// To be called when a commit has succeeded: cuts off the records that it has stored.
    pub(super) fn clear_committed(&self) {
        if let Some(spill) = &mut self.lock().spill {
            // If this fails, the number of the batch says that they are committed.
            let _ = spill.clear_committed();
        }
    }

    /// Says to other processes since when the writer cannot store, and why; `None` when it can.
    pub(super) fn tell_others(&self, failure: Option<(i64, &str)>) {
        if let Some(spill) = &mut self.lock().spill {
            // Others then see an older state: the statistics of this process are right.
            let _ = spill.set_failure(failure);
        }
    }

    /// Keeps the records of the spill for the next writer. Returns whether that worked.
    pub(super) fn keep(&self) -> bool {
        let spill = self.lock().spill.take();
        spill.is_some_and(|spill| spill.keep().is_ok())
    }

    /// Goes on with the spill of another database. No record is in it: those that the old one has are
    /// to be spilled again, before [`Spill::remove`] of the returned one.
    pub(super) fn replace(&self, spill: Result<Spill>) -> Option<Spill> {
        let mut state = self.lock();
        for message in &mut state.taken {
            if let Message::Record(record) = message {
                record.is_spilled = false;
            }
        }
        let new = match spill {
            Ok(spill) => Some(spill),
            Err(error) => {
                self.note_failure(&mut state, &error.to_string());
                None
            }
        };
        std::mem::replace(&mut state.spill, new)
    }

    /// Removes the spill.
    pub(super) fn remove(&self) -> Result<()> {
        let spill = self.lock().spill.take();
        spill.map_or(Ok(()), Spill::remove)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Appends the record to `out`, redacted. Not if it cannot be redacted: the commit will drop and
/// count it.
fn encode(mut record: SpilledRecord<'_>, rules: Option<&Rules>, out: &mut Vec<u8>) {
    if let Some(rules) = rules {
        let redacted = match rules.redact_payload(record.signal, &record.payload) {
            Ok(Cow::Borrowed(_)) => None,
            Ok(Cow::Owned(redacted)) if redacted.len() <= RECORD_BYTES_MAX => Some(redacted),
            _ => return,
        };
        if let Some(redacted) = redacted {
            record.payload = Cow::Owned(redacted);
        }
    }
    record.encode(out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_batch_is_not_spilled_unless_the_work_takes_long() {
        let ms = Duration::from_millis;
        for (queued, is_whole) in [((9, 1599), false), ((10, 700), true), ((1, 1600), true)] {
            let work = Work {
                since: ms(1000),
                next_batch: 1,
                batch_size: BatchSize {
                    records: 10,
                    bytes: 1000,
                },
                taken_bytes: 100,
                collected_bytes: 500,
                looked_at: ms(1000),
                queued,
            };
            assert_eq!(work.is_before_a_full_batch(ms(1249)), is_whole);
            assert!(!work.is_before_a_full_batch(ms(1250)));
        }
    }
}
