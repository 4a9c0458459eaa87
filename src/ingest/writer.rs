//! The handle that producers write through, and the guard that ends its thread.

use super::{
    DropCause, QueuedRecord, WhenFull, WriterOptions, WriterStats, stats::Counters,
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
use crossbeam::channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, TrySendError};
use opentelemetry_proto::tonic::trace::v1::Span;
use std::{
    cell::Cell,
    convert::Infallible,
    fmt,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering, fence},
    },
    thread::{self, JoinHandle, Thread},
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
    queue: Sender<Message>,
    /// Receives the messages that are left in the queue when the thread ends.
    rest: Receiver<Message>,
    ended: AtomicBool,
    sleep: Sleep,
    /// Whether the guard was dropped without being able to tell the thread to close.
    left_behind: AtomicBool,
    options: WriterOptions,
    pub(super) counters: Arc<Counters>,
    closed: AtomicBool,
    room: Room,
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

/// Where the thread waits for messages.
///
/// Not in the channel: that gives the processor away several times before it waits, and on a busy
/// machine the thread then gets it back hundreds of milliseconds too late.
#[derive(Debug, Default)]
struct Sleep {
    thread: OnceLock<Thread>,
    /// Whether the thread waits, or is about to.
    is_asleep: AtomicBool,
}

/// Where producers wait for room in the queue under [`WhenFull::Block`].
#[derive(Debug, Default)]
pub(super) struct Room {
    lock: Mutex<()>,
    freed: Condvar,
}

impl Room {
    pub(super) fn notify(&self) {
        let _guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.freed.notify_all();
    }

    fn wait_while(&self, full: impl Fn() -> bool) {
        let guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        drop(
            self.freed
                .wait_while(guard, |()| full())
                .unwrap_or_else(PoisonError::into_inner),
        );
    }
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
            Err(error) if store.set_aside(&error)? => Writer::start_in(store, options),
            outcome => outcome,
        }
    }

    fn start_in(store: &Store, options: WriterOptions) -> Result<(Writer, WriterGuard)> {
        let (sender, receiver) = crossbeam::channel::bounded(options.queue_records_max);
        let counters = Arc::new(Counters::default());
        let thread_options = options.clone();
        let shared = Arc::new(Shared {
            queue: sender,
            rest: receiver.clone(),
            ended: AtomicBool::new(false),
            sleep: Sleep::default(),
            left_behind: AtomicBool::new(false),
            options,
            counters: Arc::clone(&counters),
            closed: AtomicBool::new(false),
            room: Room::default(),
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
        self.shared.enqueue(record).inspect_err(|cause| {
            self.shared
                .counters
                .count_drop(server, signal, *cause, timestamp);
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
        if self.shared.queue.try_send(Message::Dropped).is_ok() {
            self.shared.note_sent();
        }
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
        let records = self.shared.rest.len() as f64 / queue_records_max as f64;
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
    fn enqueue(&self, record: QueuedRecord) -> Result<(), DropCause> {
        if self.closed.load(Ordering::Acquire) {
            return Err(DropCause::Closed);
        }
        let bytes = record.memory_bytes();
        let blocks = self.options.when_full == WhenFull::Block;
        while !self.reserve(bytes) {
            // A record larger than the whole queue never fits, so waiting would never end.
            if !blocks || bytes > self.options.queue_bytes_max {
                return Err(DropCause::QueueFull);
            }
            self.room.wait_while(|| {
                let taken = self.counters.queued_bytes.load(Ordering::Acquire);
                taken + bytes > self.options.queue_bytes_max && !self.closed.load(Ordering::Acquire)
            });
            if self.closed.load(Ordering::Acquire) {
                return Err(DropCause::Closed);
            }
        }
        let sent = match self.queue.try_send(Message::Record(record)) {
            Err(TrySendError::Full(message)) if blocks => {
                self.queue.send(message).map_err(|_| DropCause::Closed)
            }
            Err(TrySendError::Full(_)) => Err(DropCause::QueueFull),
            Err(TrySendError::Disconnected(_)) => Err(DropCause::Closed),
            Ok(()) => Ok(()),
        };
        match sent {
            Ok(()) => self.note_sent(),
            Err(_) => self.release(bytes),
        }
        sent
    }

    fn reserve(&self, bytes: usize) -> bool {
        let taken = self
            .counters
            .queued_bytes
            .fetch_add(bytes, Ordering::Acquire);
        let fits = taken.saturating_add(bytes) <= self.options.queue_bytes_max;
        if !fits {
            self.release(bytes);
        }
        fits
    }

    fn release(&self, bytes: usize) {
        self.counters
            .queued_bytes
            .fetch_sub(bytes, Ordering::Release);
    }

    /// Notes that the thread takes no more messages from the queue. Messages that are left, or that
    /// producers are just sending, are refused and counted: either by this call, or in the
    /// producer's thread by [`Shared::note_sent`]. The fences make sure that one of the
    /// two sees each message.
    pub(super) fn end(&self) {
        self.mark_closed();
        *lock(&self.store) = None;
        self.ended.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.refuse_rest();
    }

    /// To be called after each message that was sent.
    fn note_sent(&self) {
        fence(Ordering::SeqCst);
        if self.ended.load(Ordering::Relaxed) {
            self.refuse_rest();
        }
        let Sleep { thread, is_asleep } = &self.sleep;
        if is_asleep.load(Ordering::Relaxed)
            && is_asleep.swap(false, Ordering::Relaxed)
            && let Some(thread) = thread.get()
        {
            thread.unpark();
        }
    }

    /// Lets the thread wait until there is a message or `duration` has passed. It can also return
    /// earlier. The fences make sure that either this call sees a message, or its producer sees that
    /// the thread waits.
    pub(super) fn wait_for_message(&self, duration: Duration) {
        let Sleep { thread, is_asleep } = &self.sleep;
        thread.get_or_init(thread::current);
        is_asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.rest.is_empty() {
            thread::park_timeout(duration);
        }
        is_asleep.store(false, Ordering::Relaxed);
    }

    fn refuse_rest(&self) {
        while let Ok(message) = self.rest.try_recv() {
            self.refuse(message);
        }
    }

    /// Refuses and counts a message that no thread will handle.
    pub(super) fn refuse(&self, message: Message) {
        // Dropping the message disconnects its answer channel, which ends the wait of its caller.
        let Message::Record(record) = message else {
            return;
        };
        self.release(record.memory_bytes());
        let QueuedRecord {
            server,
            signal,
            timestamp,
            ..
        } = record;
        self.counters
            .count_drop(&server, signal, DropCause::Closed, timestamp);
    }

    fn flush(&self, timeout: Duration) -> Result<()> {
        self.ask(timeout, Message::Flush)?
    }

    /// Sends a message after all queued ones and waits for the answer.
    fn ask<T>(&self, timeout: Duration, message: impl FnOnce(Sender<T>) -> Message) -> Result<T> {
        let deadline = Instant::now() + timeout;
        let (sender, receiver) = crossbeam::channel::bounded(1);
        let late = || Error::NotFlushed {
            reason: format!("the writer thread did not answer within {timeout:?}"),
            source: None,
        };
        match self.queue.send_deadline(message(sender), deadline) {
            Ok(()) => self.note_sent(),
            Err(SendTimeoutError::Timeout(_)) => return Err(late()),
            Err(SendTimeoutError::Disconnected(_)) => return Err(Error::WriterClosed),
        }
        receiver
            .recv_deadline(deadline)
            .map_err(|error| match error {
                RecvTimeoutError::Timeout => late(),
                RecvTimeoutError::Disconnected => Error::WriterClosed,
            })
    }

    /// Wakes waiting producers to check for room again.
    pub(super) fn notify_room(&self) {
        if self.options.when_full == WhenFull::Block {
            self.room.notify();
        }
    }

    pub(super) fn is_left_behind(&self) -> bool {
        self.left_behind.load(Ordering::Acquire)
    }

    /// Whether no more records are taken.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn mark_closed(&self) {
        self.closed.store(true, Ordering::Release);
        self.room.notify();
    }
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
        self.shared.mark_closed();
        let timeout = self.shared.options.flush_timeout;
        let flushed = self.shared.flush(timeout);
        // A thread that hangs in a disk operation is left running: waiting for it would hang the
        // caller, too.
        let told = self.shared.queue.send_timeout(Message::Close, timeout);
        let untold = matches!(told, Err(SendTimeoutError::Timeout(_)));
        if untold {
            // The thread ends once the disk responds again and the queue is empty.
            self.shared.left_behind.store(true, Ordering::Release);
            let _ = self.shared.queue.try_send(Message::Close);
        }
        self.shared.note_sent();
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
