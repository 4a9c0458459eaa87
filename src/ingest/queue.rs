//! The queue between producers and the writer thread: bounded in messages and in bytes.
//!
//! `tests/survives_any_schedule.rs` compiles this file as well, with primitives that explore schedules. So it
//! uses nothing else of this crate.

use super::sync::{
    Arc, AtomicBool, AtomicUsize, Condvar, Mutex, Ordering, PoisonError, Thread,
    channel::{self, Receiver, RecvTimeoutError, SendTimeoutError, Sender, TrySendError},
    current, fence, park_timeout,
};
use std::{
    fmt,
    sync::OnceLock,
    time::{Duration, Instant},
};

/// How a queue is bounded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) messages_max: usize,
    pub(super) bytes_max: usize,
    /// Whether producers wait for room when the queue is full.
    pub(super) blocks: bool,
}

/// Why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    Full,
    Closed,
}

/// Why there is no answer to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// It took too long.
    Late,
    /// No thread will handle the message.
    Closed,
}

/// A queue of messages, of which each is handled by the thread or refused.
pub(super) struct Queue<M> {
    messages: Sender<M>,
    /// Receives the messages that are left in the queue when the thread ends.
    rest: Receiver<M>,
    bounds: Bounds,
    /// The bytes that are taken, also by messages that the thread has received and not released.
    taken_bytes: Arc<AtomicUsize>,
    /// Whether no more messages with bytes are taken.
    is_closed: AtomicBool,
    /// Whether the thread takes no more messages.
    has_ended: AtomicBool,
    sleep: Sleep,
    room: Room,
    /// Called with each message that no thread will handle.
    refuse: Box<dyn Fn(M) + Send + Sync>,
}

impl<M> fmt::Debug for Queue<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("bounds", &self.bounds)
            .finish_non_exhaustive()
    }
}

/// Where the thread waits for messages.
///
/// Not in the channel: that gives the processor away several times before it waits, and on a busy
/// machine the thread then gets it back hundreds of milliseconds too late.
#[derive(Default)]
struct Sleep {
    thread: OnceLock<Thread>,
    /// Whether the thread waits, or is about to.
    is_asleep: AtomicBool,
}

/// Where producers wait for room in a queue that blocks.
#[derive(Default)]
struct Room {
    lock: Mutex<()>,
    freed: Condvar,
}

impl Room {
    fn notify(&self) {
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

impl<M> Queue<M> {
    /// A queue, and what its thread receives messages from. `taken_bytes` counts the bytes that are taken.
    pub(super) fn new(
        bounds: Bounds,
        taken_bytes: Arc<AtomicUsize>,
        refuse: Box<dyn Fn(M) + Send + Sync>,
    ) -> (Queue<M>, Receiver<M>) {
        let (messages, receiver) = channel::bounded(bounds.messages_max);
        let queue = Queue {
            messages,
            rest: receiver.clone(),
            bounds,
            taken_bytes,
            is_closed: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            sleep: Sleep::default(),
            room: Room::default(),
            refuse,
        };
        (queue, receiver)
    }

    /// Sends a message that takes these bytes until they are released. A message that is refused later is
    /// released by then.
    pub(super) fn offer(&self, message: M, bytes: usize) -> Result<(), Refused> {
        if self.is_closed() {
            return Err(Refused::Closed);
        }
        let Bounds {
            bytes_max, blocks, ..
        } = self.bounds;
        while !self.reserve(bytes) {
            // A message larger than the whole queue never fits, so waiting would never end.
            if !blocks || bytes > bytes_max {
                return Err(Refused::Full);
            }
            self.room.wait_while(|| {
                let taken = self.taken_bytes.load(Ordering::Acquire);
                taken + bytes > bytes_max && !self.is_closed()
            });
            if self.is_closed() {
                return Err(Refused::Closed);
            }
        }
        let sent = match self.messages.try_send(message) {
            Err(TrySendError::Full(message)) if blocks => {
                self.messages.send(message).map_err(|_| Refused::Closed)
            }
            Err(TrySendError::Full(_)) => Err(Refused::Full),
            Err(TrySendError::Disconnected(_)) => Err(Refused::Closed),
            Ok(()) => Ok(()),
        };
        match sent {
            Ok(()) => self.note_sent(),
            Err(_) => self.release(bytes),
        }
        sent
    }

    fn reserve(&self, bytes: usize) -> bool {
        let taken = self.taken_bytes.fetch_add(bytes, Ordering::Acquire);
        let fits = taken.saturating_add(bytes) <= self.bounds.bytes_max;
        if !fits {
            self.release(bytes);
        }
        fits
    }

    /// Gives bytes back. Producers that wait see it after [`Queue::notify_room`].
    pub(super) fn release(&self, bytes: usize) {
        self.taken_bytes.fetch_sub(bytes, Ordering::Release);
    }

    /// Sends a message without bytes, if there is room for it.
    pub(super) fn try_send(&self, message: M) {
        if self.messages.try_send(message).is_ok() {
            self.note_sent();
        }
    }

    /// Sends a message without bytes, and waits for room for it until `deadline`.
    pub(super) fn send(&self, message: M, deadline: Instant) -> Result<(), Unanswered> {
        match self.messages.send_deadline(message, deadline) {
            Ok(()) => {
                self.note_sent();
                Ok(())
            }
            Err(SendTimeoutError::Timeout(_)) => Err(Unanswered::Late),
            Err(SendTimeoutError::Disconnected(_)) => Err(Unanswered::Closed),
        }
    }

    /// Sends a message after all queued ones and waits for the answer until `deadline`.
    pub(super) fn ask<T>(
        &self,
        deadline: Instant,
        message: impl FnOnce(Sender<T>) -> M,
    ) -> Result<T, Unanswered> {
        let (sender, receiver) = channel::bounded(1);
        self.send(message(sender), deadline)?;
        receiver
            .recv_deadline(deadline)
            .map_err(|error| match error {
                RecvTimeoutError::Timeout => Unanswered::Late,
                RecvTimeoutError::Disconnected => Unanswered::Closed,
            })
    }

    /// Notes that the thread takes no more messages from the queue. Messages that are left, or that
    /// producers are just sending, are refused: either by this call, or in the producer's thread by
    /// [`Queue::note_sent`]. The fences make sure that one of the two sees each message.
    pub(super) fn end(&self) {
        self.close();
        self.has_ended.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.refuse_rest();
    }

    /// To be called after each message that was sent.
    fn note_sent(&self) {
        fence(Ordering::SeqCst);
        if self.has_ended.load(Ordering::Relaxed) {
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
        thread.get_or_init(current);
        is_asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.rest.is_empty() {
            park_timeout(duration);
        }
        is_asleep.store(false, Ordering::Relaxed);
    }

    fn refuse_rest(&self) {
        while let Ok(message) = self.rest.try_recv() {
            self.refuse(message);
        }
    }

    /// Refuses a message that no thread will handle.
    pub(super) fn refuse(&self, message: M) {
        (self.refuse)(message);
    }

    /// Wakes waiting producers to check for room again.
    pub(super) fn notify_room(&self) {
        if self.bounds.blocks {
            self.room.notify();
        }
    }

    /// The number of messages that the thread has not received.
    pub(super) fn len(&self) -> usize {
        self.rest.len()
    }

    /// Whether no more messages with bytes are taken.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Takes no more messages with bytes.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.room.notify();
    }
}
