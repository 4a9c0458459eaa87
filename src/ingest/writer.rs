//! The handle that producers write through, and the guard that ends its thread.

use super::{
    DropCause, QueuedRecord, WhenFull, WriterOptions, WriterStats,
    queue::{Bounds, Queue, Refused, Unanswered},
    stats::Counters,
    thread as writer_thread,
};
use crate::{
    config::RetentionPolicy,
    error::{Error, Result},
    platform::monotonic_nanos,
    record::{Level, LogRecord, MetricsSnapshot, Record, ServerName, SpanRecord},
    signal::Signal,
    store::{Store, WipeMarks, WipeScope},
    time::Timestamp,
};
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender};
use opentelemetry_proto::tonic::trace::v1::Span;
use std::{
    cell::Cell,
    convert::Infallible,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Hands records to the writer thread. Cheap to clone, so each producer can have its own.
///
/// No call waits for the disk, and none panics: when the queue is full, the record is dropped and
/// counted, and the call returns the cause. With [`WhenFull::Block`], a call waits for room
/// instead.
///
/// A record that waits for its commit is also in a file beside the database within some 15
/// milliseconds, unless the traffic is so high that batches fill up and are committed at once. If the
/// process is killed, the next process that opens the database to write stores these records. A power
/// failure can lose everything that is not committed.
///
/// ```
/// use gridctl_telemetry::{Level, LogRecord, ServerName, Timestamp, Writer, WriterOptions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let home = tempfile::tempdir()?;
/// # let home = home.path();
/// # let store = gridctl_telemetry::Store::open(home, "my-stack", Default::default())?;
/// let (writer, guard) = Writer::start(&store, WriterOptions::default())?;
/// let github = ServerName::new("github")?;
/// let record = LogRecord::new(Timestamp::now(), Level::WARN, "slow answer").with("duration_ms", 950_i64);
/// if let Err(cause) = writer.log(&github, &record) {
///     eprintln!("dropped: {cause}"); // it is counted, too
/// }
/// guard.close()?;
/// assert_eq!(writer.stats().stored, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Writer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    queue: Queue<Message>,
    /// Whether the guard was dropped without being able to tell the thread to close.
    left_behind: AtomicBool,
    options: WriterOptions,
    pub(super) counters: Arc<Counters>,
    /// The store, until the thread ends: a writer that is kept must not keep the file open.
    store: Mutex<Option<Store>>,
    /// The number of wipes before this writer started.
    wipe_generation: u64,
    on_wipe: Mutex<Vec<Weak<dyn OnWipe>>>,
}

/// Is told of the wipes that this process makes, after each, on the thread that asked for it.
pub(crate) trait OnWipe: Send + Sync {
    fn wiped(&self, scope: &WipeScope);
}

/// The capacity of a thread's encoding buffer that is kept between records, in bytes.
const SCRATCH_BYTES_MAX: usize = 64 << 10;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A message to the writer thread.
#[derive(Debug)]
pub(super) enum Message {
    Record(QueuedRecord),
    /// Commit all records before this message, and answer with the outcome.
    Flush(Sender<Result<()>>),
    /// Commit ledger entries for dropped records, even if there are no records to commit.
    Dropped,
    /// Delete the records that the scope covers, and answer with the number of series that had any.
    Wipe(WipeScope, Sender<Result<usize>>),
    /// Change the limits.
    Retention(Box<RetentionPolicy>, Sender<Result<()>>),
    /// Commit all records before this message, then end.
    Close,
}

/// Flushes and closes the writer when it is dropped. Keep it as long as records are produced:
/// records offered later are dropped.
#[derive(Debug)]
#[must_use = "the writer is closed when the guard is dropped"]
pub struct WriterGuard {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
    /// Disconnected by the thread when it ends.
    done: Receiver<Infallible>,
}

impl Writer {
    /// Starts the thread that writes to `store`.
    ///
    /// Fails with [`Error::InvalidOption`] when `options` are out of bounds, with
    /// [`Error::ReadOnly`] when the store is read-only, and with [`Error::Io`] when the thread
    /// cannot be started.
    pub fn start(store: &Store, options: WriterOptions) -> Result<(Writer, WriterGuard)> {
        options.validate()?;
        match Writer::start_in(store, options.clone()) {
            Err(error) if store.set_aside(&error, 0)? => Writer::start_in(store, options),
            outcome => outcome,
        }
    }

    fn start_in(store: &Store, options: WriterOptions) -> Result<(Writer, WriterGuard)> {
        let counters = Arc::new(Counters::default());
        let bounds = Bounds {
            messages_max: options.queue_records_max,
            bytes_max: options.queue_bytes_max,
            blocks: options.when_full == WhenFull::Block,
        };
        let refuse = {
            let counters = Arc::clone(&counters);
            Box::new(move |message| refuse(&counters, message))
        };
        let (queue, receiver) = Queue::new(bounds, Arc::clone(&counters.queued_bytes), refuse);
        let thread_options = options.clone();
        let shared = Arc::new(Shared {
            queue,
            left_behind: AtomicBool::new(false),
            options,
            counters: Arc::clone(&counters),
            store: Mutex::new(Some(store.clone())),
            wipe_generation: store.snapshot()?.wipe_generation()?,
            on_wipe: Mutex::default(),
        });
        let (running, done) = crossbeam::channel::bounded(0);
        let thread = writer_thread::start(store, &thread_options, receiver, &shared, running)?;
        let guard = WriterGuard {
            shared: Arc::clone(&shared),
            thread: Some(thread),
            done,
        };
        Ok((Writer { shared }, guard))
    }

    /// Offers a log record of `server`. A record of level ERROR or above is committed at once.
    ///
    /// Fails with the cause when the record is dropped; the drop is counted already.
    pub fn log(&self, server: &ServerName, record: &LogRecord) -> Result<(), DropCause> {
        self.offer_with(
            server,
            Signal::Logs,
            record.timestamp,
            record.level >= Level::ERROR,
            |out| record.encode_payload(out),
        )
    }

    /// Offers a metrics snapshot of `server`.
    ///
    /// Fails with the cause when the record is dropped; the drop is counted already.
    pub fn metrics(&self, server: &ServerName, record: &MetricsSnapshot) -> Result<(), DropCause> {
        self.offer_with(server, Signal::Metrics, record.timestamp, false, |out| {
            record.encode_payload(out)
        })
    }

    /// Offers a span of `server`. A failed span is committed at once. A span whose ids have lengths
    /// that OTLP does not allow is refused: a consumer would reject its whole line, with all other
    /// spans in it.
    ///
    /// Fails with the cause when the record is dropped; the drop is counted already.
    pub fn span(&self, server: &ServerName, record: &SpanRecord) -> Result<(), DropCause> {
        if !has_valid_ids(&record.span) {
            let cause = DropCause::Invalid;
            return Err(self.refuse(server, Signal::Traces, record.timestamp(), cause));
        }
        self.offer_with(
            server,
            Signal::Traces,
            record.timestamp(),
            record.is_error(),
            |out| record.encode_payload(out),
        )
    }

    /// Offers a record of any signal.
    ///
    /// Fails with the cause when the record is dropped; the drop is counted already.
    pub fn record(&self, server: &ServerName, record: &Record) -> Result<(), DropCause> {
        match record {
            Record::Log(record) => self.log(server, record),
            Record::Metrics(record) => self.metrics(server, record),
            Record::Span(record) => self.span(server, record),
        }
    }

    /// Offers a record whose payload `encode` appends to an empty buffer.
    pub(crate) fn offer_with<E>(
        &self,
        server: &ServerName,
        signal: Signal,
        timestamp: Timestamp,
        urgent: bool,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), DropCause> {
        // A record offered while another one is being encoded finds the buffer taken, and one
        // offered while its thread ends finds none; both use a new buffer.
        let mut buffer = SCRATCH.try_with(Cell::take).unwrap_or_default();
        buffer.clear();
        let outcome = match encode(&mut buffer) {
            Ok(()) => self.offer(server, signal, timestamp, urgent, &buffer),
            Err(_) => Err(self.refuse(server, signal, timestamp, DropCause::Invalid)),
        };
        buffer.shrink_to(SCRATCH_BYTES_MAX);
        _ = SCRATCH.try_with(|scratch| scratch.set(buffer));
        outcome
    }

    /// Offers an encoded record.
    pub(crate) fn offer(
        &self,
        server: &ServerName,
        signal: Signal,
        timestamp: Timestamp,
        urgent: bool,
        payload: &[u8],
    ) -> Result<(), DropCause> {
        let emitted = monotonic_nanos();
        self.offer_emitted(server, signal, (timestamp, emitted), urgent, payload)
    }

    /// Offers a snapshot of counters as they were after the wipes in `wipes`. A later wipe drops it,
    /// also one that was made before this call and is not among them.
    pub(crate) fn offer_counters(
        &self,
        server: &ServerName,
        snapshot: &MetricsSnapshot,
        wipes: Option<&WipeMarks>,
    ) -> Result<(), DropCause> {
        let wiped_at = wipes.and_then(|wipes| wipes.wiped_at(server, Signal::Metrics));
        let times = (
            snapshot.timestamp,
            wiped_at.map_or(0, |instant| instant + 1),
        );
        let mut payload = Vec::new();
        match snapshot.encode_payload(&mut payload) {
            Ok(()) => self.offer_emitted(server, Signal::Metrics, times, false, &payload),
            Err(_) => Err(self.refuse(
                server,
                Signal::Metrics,
                snapshot.timestamp,
                DropCause::Invalid,
            )),
        }
    }

    fn offer_emitted(
        &self,
        server: &ServerName,
        signal: Signal,
        (timestamp, emitted): (Timestamp, u64),
        urgent: bool,
        payload: &[u8],
    ) -> Result<(), DropCause> {
        if payload.len() > self.record_bytes_max() {
            return Err(self.refuse(server, signal, timestamp, DropCause::TooLarge));
        }
        self.shared.counters.offered.fetch_add(1, Ordering::Relaxed);
        let record = QueuedRecord {
            server: server.clone(),
            signal,
            timestamp,
            emitted,
            urgent,
            is_spilled: false,
            // Encoded into a buffer with room to spare, then copied once to an allocation of
            // exactly its size.
            payload: Box::from(payload),
        };
        let bytes = record.memory_bytes();
        let offered = self.shared.queue.offer(Message::Record(record), bytes);
        offered.map_err(|refused| {
            let cause = match refused {
                Refused::Full => DropCause::QueueFull,
                Refused::Closed => DropCause::Closed,
            };
            self.shared
                .counters
                .count_drop(server, signal, cause, timestamp);
            cause
        })
    }

    /// Counts an offered record that cannot be stored, and returns the cause.
    pub(crate) fn refuse(
        &self,
        server: &ServerName,
        signal: Signal,
        timestamp: Timestamp,
        cause: DropCause,
    ) -> DropCause {
        self.shared.counters.offered.fetch_add(1, Ordering::Relaxed);
        self.shared
            .counters
            .count_drop(server, signal, cause, timestamp);
        // If the queue is full, the thread is about to commit anyway.
        self.shared.queue.try_send(Message::Dropped);
        cause
    }

    /// Maximum size of a payload, in bytes.
    pub(crate) fn record_bytes_max(&self) -> usize {
        self.shared.options.record_bytes_max
    }

    /// Waits until all records offered before are on the disk.
    ///
    /// Fails with [`Error::NotFlushed`] when they are not: because the disk fails, in which case
    /// the records are kept and retried, or because the writer thread did not answer in time. Fails
    /// likewise, once, after the file of the database was replaced or deleted: the records that are not
    /// stored yet are stored in the file that is there now, and those that were in the other file are in
    /// the ledger, as [`LossCause::Replaced`](crate::ledger::LossCause::Replaced). Fails
    /// with [`Error::WriterClosed`] when the writer is closed.
    pub fn flush(&self) -> Result<()> {
        self.shared.flush(self.shared.options.flush_timeout)
    }

    /// Deletes the records that `scope` covers, on the writer thread; see [`Store::wipe`]. Records
    /// offered before are deleted, records offered afterwards are stored. Where it covers all
    /// metrics of a server, its counters in each [`MetricsFlusher`](crate::metrics::MetricsFlusher) of
    /// this writer are cleared.
    ///
    /// Fails like [`Store::wipe`], and like [`Writer::flush`] when the writer thread does not
    /// answer in time.
    pub fn wipe(&self, scope: &WipeScope) -> Result<usize> {
        let timeout = self.shared.options.flush_timeout;
        let wiped = self
            .shared
            .ask(timeout, |sender| Message::Wipe(scope.clone(), sender))??;
        let mut listeners = lock(&self.shared.on_wipe);
        listeners.retain(|listener| listener.strong_count() > 0);
        let told: Vec<_> = listeners.iter().filter_map(Weak::upgrade).collect();
        // A listener may offer records, or be the last owner of something that does.
        drop(listeners);
        for listener in told {
            listener.wiped(scope);
        }
        Ok(wiped)
    }

    /// Tells `listener` of every wipe that this process makes, for as long as it lives.
    pub(crate) fn on_wipe(&self, listener: Weak<dyn OnWipe>) {
        lock(&self.shared.on_wipe).push(listener);
    }

    /// The number of wipes before this writer started.
    pub(crate) fn first_wipe_generation(&self) -> u64 {
        self.shared.wipe_generation
    }

    /// The wipes that were made since this writer started, by any process; `None` when they cannot be
    /// read, or the writer is closed.
    pub(crate) fn wipes(&self) -> Option<WipeMarks> {
        let store = lock(&self.shared.store).clone()?;
        let snapshot = store.snapshot().ok()?;
        snapshot.wipes_after(self.shared.wipe_generation).ok()
    }

    /// Changes the limits for all readers and writers of the database. Records beyond the new age
    /// limit are hidden from readers at once; everything beyond the new limits is evicted between
    /// batches.
    ///
    /// Fails with [`Error::InvalidOption`] and [`Error::InvalidServerName`] when `policy` is
    /// invalid, with [`Error::Database`] when the disk fails, and like [`Writer::flush`] when the
    /// writer thread does not answer in time.
    pub fn set_retention(&self, policy: RetentionPolicy) -> Result<()> {
        let policy = Box::new(policy.validated()?);
        self.shared
            .ask(self.shared.options.flush_timeout, |sender| {
                Message::Retention(policy, sender)
            })?
    }

    /// The part of the queue that is taken, from 0.0 to 1.0: in records or in bytes, whichever is more. A receiver
    /// that can make its clients wait does so before the queue is full.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a part needs no more digits")]
    pub fn fullness(&self) -> f64 {
        let WriterOptions {
            queue_records_max,
            queue_bytes_max,
            ..
        } = self.shared.options;
        let bytes = self.shared.counters.queued_bytes.load(Ordering::Relaxed);
        let records = self.shared.queue.len() as f64 / queue_records_max as f64;
        records.max(bytes as f64 / queue_bytes_max as f64).min(1.0)
    }

    /// The statistics since the writer started.
    #[must_use]
    pub fn stats(&self) -> WriterStats {
        self.shared.counters.stats()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for dyn OnWipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnWipe")
    }
}

impl Shared {
    /// Refuses the messages that are left: the thread takes no more of them.
    pub(super) fn end(&self) {
        self.queue.close();
        *lock(&self.store) = None;
        self.queue.end();
    }

    /// Refuses and counts a message that no thread will handle.
    pub(super) fn refuse(&self, message: Message) {
        self.queue.refuse(message);
    }

    /// Lets the thread wait for a message, see [`Queue::wait_for_message`].
    pub(super) fn wait_for_message(&self, duration: Duration) {
        self.queue.wait_for_message(duration);
    }

    fn flush(&self, timeout: Duration) -> Result<()> {
        self.ask(timeout, Message::Flush)?
    }

    /// Sends a message after all queued ones and waits for the answer.
    fn ask<T>(&self, timeout: Duration, message: impl FnOnce(Sender<T>) -> Message) -> Result<T> {
        let answer = self.queue.ask(Instant::now() + timeout, message);
        answer.map_err(|unanswered| match unanswered {
            Unanswered::Late => Error::NotFlushed {
                reason: format!("the writer thread did not answer within {timeout:?}"),
                source: None,
            },
            Unanswered::Closed => Error::WriterClosed,
        })
    }

    /// Wakes waiting producers to check for room again.
    pub(super) fn notify_room(&self) {
        self.queue.notify_room();
    }

    pub(super) fn is_left_behind(&self) -> bool {
        self.left_behind.load(Ordering::Acquire)
    }

    /// Whether no more records are taken.
    pub(super) fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }
}

/// Counts a message that no thread will handle.
fn refuse(counters: &Counters, message: Message) {
    // Dropping another message disconnects its answer channel, which ends the wait of its caller.
    let Message::Record(record) = message else {
        return;
    };
    let bytes = record.memory_bytes();
    counters.queued_bytes.fetch_sub(bytes, Ordering::Release);
    let QueuedRecord {
        server,
        signal,
        timestamp,
        ..
    } = record;
    counters.count_drop(&server, signal, DropCause::Closed, timestamp);
}

impl WriterGuard {
    /// Flushes, then ends the writer thread.
    ///
    /// Fails with [`Error::NotFlushed`] when not all records are on the disk.
    pub fn close(mut self) -> Result<()> {
        self.finish()
    }

    fn finish(&mut self) -> Result<()> {
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        // Records are refused from here on: otherwise producers could keep the flush from ever
        // ending.
        self.shared.queue.close();
        let timeout = self.shared.options.flush_timeout;
        let flushed = self.shared.flush(timeout);
        // A thread that hangs in a disk operation is left running: waiting for it would hang the
        // caller, too.
        let told = (self.shared.queue).send(Message::Close, Instant::now() + timeout);
        let untold = told == Err(Unanswered::Late);
        if untold {
            // The thread ends once the disk responds again and the queue is empty.
            self.shared.left_behind.store(true, Ordering::Release);
            self.shared.queue.try_send(Message::Close);
        }
        let hangs = untold || self.done.recv_timeout(timeout) == Err(RecvTimeoutError::Timeout);
        // The last attempt of the thread may have stored what the flush could not.
        let outcome = if hangs {
            flushed
        } else {
            thread.join().unwrap_or(flushed)
        };
        match outcome {
            Err(Error::WriterClosed) => Ok(()),
            outcome => outcome,
        }
    }
}

impl Drop for WriterGuard {
    fn drop(&mut self) {
        if let Err(error) = self.finish() {
            tracing::error!(
                subsystem = "telemetry",
                %error,
                "some telemetry was not stored before the writer closed"
            );
        }
    }
}

/// Whether each id is absent or has the length that OTLP requires.
fn has_valid_ids(span: &Span) -> bool {
    let trace = |id: &[u8]| matches!(id.len(), 0 | 16);
    let span_id = |id: &[u8]| matches!(id.len(), 0 | 8);
    trace(&span.trace_id)
        && span_id(&span.span_id)
        && span_id(&span.parent_span_id)
        && (span.links.iter()).all(|link| trace(&link.trace_id) && span_id(&link.span_id))
}
