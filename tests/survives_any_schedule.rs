//! The queue between producers and the writer thread, and the spiller that takes messages in place of a busy
//! writer thread, under schedules of their threads that a checker chooses: no message is lost, overtaken or
//! handled twice, no byte stays taken, a flush, a wipe and a change of the limits come after all that their caller
//! has offered before, a kill loses no record that was spilled, and no thread waits for ever.
//!
//! This test compiles the same `src/ingest/queue.rs` and `spiller.rs` as the library, with the primitives of
//! `shuttle` in place of those of the standard library and of crossbeam. In the queue, no time passes: a wait that
//! only a timeout would end is a failure. All atomic operations are sequentially consistent, so orderings of memory are not explored.
//!
//! `GRIDCTL_TELEMETRY_SCHEDULES` sets the number of schedules of each protocol, 10,000 by default.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[allow(dead_code, reason = "the test uses a part of it")]
#[path = "../src/ingest/queue.rs"]
mod queue;
#[allow(
    clippy::unused_self,
    clippy::unnecessary_wraps,
    clippy::unnecessary_box_returns,
    reason = "signatures are those of the library"
)]
#[path = "scheduled/spilling.rs"]
mod spilling;
#[allow(clippy::unnecessary_wraps, reason = "signatures are those of std")]
#[path = "scheduled/sync.rs"]
mod sync;

// Where the spiller looks for them.
use spilling::{error, redact, store};

use queue::{Bounds, Queue, Refused, Unanswered};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};
use sync::{Arc, AtomicUsize, Mutex, Ordering, channel::Receiver, channel::Sender};

/// A message to the thread of the test.
enum Message {
    Record(usize),
    /// Answered with what is stored.
    Flush(Sender<BTreeSet<usize>>),
    /// Deletes what is stored, as a wipe and lower limits do.
    Wipe(Sender<()>),
    Close,
}

/// The bytes of each record.
const BYTES: usize = 10;
const HOUR: Duration = Duration::from_secs(3600);

/// The records of a run: each is stored, wiped or refused, once.
#[derive(Default)]
struct Fates {
    handled: Mutex<Vec<usize>>,
    refused: Mutex<Vec<usize>>,
}

/// A queue, and the thread that handles its messages until it is closed.
struct Run {
    queue: Arc<Queue<Message>>,
    thread: shuttle::thread::JoinHandle<BTreeSet<usize>>,
    fates: Arc<Fates>,
    taken: Arc<AtomicUsize>,
}

impl Run {
    fn start(bounds: Bounds) -> Run {
        let fates = Arc::new(Fates::default());
        let taken = Arc::new(AtomicUsize::new(0));
        let refuse = {
            let (fates, taken) = (Arc::clone(&fates), Arc::clone(&taken));
            Box::new(move |message| {
                if let Message::Record(number) = message {
                    taken.fetch_sub(BYTES, Ordering::SeqCst);
                    fates.refused.lock().unwrap().push(number);
                }
            })
        };
        let (queue, receiver) = Queue::new(bounds, Arc::clone(&taken), refuse);
        let queue = Arc::new(queue);
        let thread = {
            let (queue, fates) = (Arc::clone(&queue), Arc::clone(&fates));
            shuttle::thread::spawn(move || handle(&queue, &receiver, &fates))
        };
        Run {
            queue,
            thread,
            fates,
            taken,
        }
    }

    fn offer(queue: &Queue<Message>, number: usize) -> Result<(), Refused> {
        queue.offer(Message::Record(number), BYTES)
    }

    /// Closes as the guard of a writer does, waits for the thread, and checks the fate of each record that was
    /// taken. Returns what is stored.
    fn close(self, producers: Vec<shuttle::thread::JoinHandle<Vec<usize>>>) -> BTreeSet<usize> {
        self.queue.close();
        let deadline = Instant::now() + HOUR;
        let flushed = self.queue.ask(deadline, Message::Flush);
        assert!(flushed.is_ok(), "the thread has ended by itself");
        self.queue.send(Message::Close, deadline).unwrap();
        let stored = self.thread.join().unwrap();
        let mut taken = Vec::new();
        for producer in producers {
            taken.extend(producer.join().unwrap());
        }
        taken.sort_unstable();
        let mut fates = self.fates.handled.lock().unwrap().clone();
        fates.extend(self.fates.refused.lock().unwrap().iter());
        fates.sort_unstable();
        assert_eq!(fates, taken, "each record that was taken has one fate");
        assert_eq!(self.taken.load(Ordering::SeqCst), 0);
        stored
    }
}

/// The thread: as the writer thread does, it looks for messages, and waits when there are none.
fn handle(queue: &Queue<Message>, messages: &Receiver<Message>, fates: &Fates) -> BTreeSet<usize> {
    let mut stored = BTreeSet::new();
    loop {
        match messages.try_recv() {
            Ok(Message::Record(number)) => {
                fates.handled.lock().unwrap().push(number);
                stored.insert(number);
                queue.release(BYTES);
                queue.notify_room();
            }
            Ok(Message::Flush(answer)) => _ = answer.try_send(stored.clone()),
            Ok(Message::Wipe(answer)) => {
                stored.clear();
                let _ = answer.try_send(());
            }
            Ok(Message::Close) => break,
            Err(()) => queue.wait_for_message(HOUR),
        }
    }
    queue.end();
    stored
}

fn schedules(protocol: impl Fn() + Send + Sync + 'static) {
    let count = std::env::var("GRIDCTL_TELEMETRY_SCHEDULES");
    let count = count.map_or(10_000, |count| count.parse().unwrap());
    let protocol = std::sync::Arc::new(protocol);
    let again = std::sync::Arc::clone(&protocol);
    shuttle::check_random(move || protocol(), count / 2);
    // Few preemptions, at places that a random schedule seldom has.
    shuttle::check_pct(move || again(), count - count / 2, 3);
}

fn bounds(messages_max: usize, records_max: usize, blocks: bool) -> Bounds {
    Bounds {
        messages_max,
        bytes_max: records_max * BYTES,
        blocks,
    }
}

/// Producers offer records while the queue is closed.
fn producers(run: &Run, count: usize) -> Vec<shuttle::thread::JoinHandle<Vec<usize>>> {
    (0..count)
        .map(|producer| {
            let queue = Arc::clone(&run.queue);
            shuttle::thread::spawn(move || {
                let offered = (producer * 10)..(producer * 10 + 2);
                offered
                    .filter(|number| Run::offer(&queue, *number).is_ok())
                    .collect()
            })
        })
        .collect()
}

#[test]
fn a_queue_that_drops_loses_nothing_that_it_took() {
    schedules(|| {
        let run = Run::start(bounds(2, 3, false));
        let producers = producers(&run, 2);
        run.close(producers);
    });
}

#[test]
fn a_queue_that_blocks_ends_every_wait() {
    schedules(|| {
        let run = Run::start(bounds(2, 1, true));
        let producers = producers(&run, 2);
        run.close(producers);
    });
}

#[test]
fn a_flush_comes_after_what_was_offered_before() {
    schedules(|| {
        let run = Run::start(bounds(2, 4, true));
        let producers = (0..2)
            .map(|producer| {
                let queue = Arc::clone(&run.queue);
                shuttle::thread::spawn(move || {
                    let number = producer * 10;
                    let is_taken = Run::offer(&queue, number).is_ok();
                    match queue.ask(Instant::now() + HOUR, Message::Flush) {
                        Ok(stored) => assert_eq!(stored.contains(&number), is_taken),
                        Err(unanswered) => assert_eq!(unanswered, Unanswered::Closed),
                    }
                    is_taken.then_some(number).into_iter().collect()
                })
            })
            .collect();
        run.close(producers);
    });
}

#[test]
fn a_wipe_deletes_what_was_offered_before_and_nothing_later() {
    schedules(|| {
        let run = Run::start(bounds(3, 4, true));
        let queue = Arc::clone(&run.queue);
        let other = producers(&run, 1);
        let wiping = shuttle::thread::spawn(move || {
            let before = Run::offer(&queue, 100).is_ok();
            let wiped = queue.ask(Instant::now() + HOUR, Message::Wipe);
            let after = wiped.is_ok() && Run::offer(&queue, 101).is_ok();
            (before, wiped.is_ok(), after)
        });
        let (before, wiped, after) = wiping.join().unwrap();
        let fates = Arc::clone(&run.fates);
        let mut taken: Vec<usize> = Vec::new();
        taken.extend(before.then_some(100));
        taken.extend(after.then_some(101));
        let rest = shuttle::thread::spawn(move || taken);
        let stored = run.close(other.into_iter().chain([rest]).collect());
        assert!(!(wiped && stored.contains(&100)), "a wiped record is back");
        let refused = fates.refused.lock().unwrap().contains(&101);
        assert_eq!(stored.contains(&101), after && !refused);
    });
}
