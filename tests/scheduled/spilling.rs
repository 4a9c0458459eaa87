//! The spiller beside a writer thread that commits, fails and spills.

use crate::{
    queue::Bounds, queue::Queue, queue::Unanswered, sync::channel, sync::channel::Receiver,
};
use gridctl_telemetry::{ServerName, Signal, Timestamp};
use shuttle::rand::{Rng, thread_rng};
use std::{
    cell::Cell,
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

#[allow(dead_code, reason = "the test uses a part of it")]
#[path = "../../src/ingest/spiller.rs"]
mod spiller;

use self::{policy::BatchSize, spiller::Spiller, stats::Counters, writer::Message};
use super::{HOUR, schedules, sync};

/// What the spiller uses of the library. None of it synchronises with the writer thread.
pub(crate) mod error {
    use std::{fmt, io, path::Path};

    pub(crate) type Result<T> = std::result::Result<T, Error>;

    #[derive(Debug)]
    pub(crate) struct Error(io::Error);

    impl Error {
        pub(crate) fn io(_: &str, _: &Path, error: io::Error) -> Error {
            Error(error)
        }
    }

    impl fmt::Display for Error {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.fmt(f)
        }
    }
}

/// No record is redacted.
pub(crate) mod redact {
    use super::{Signal, error};
    use std::borrow::Cow;

    #[derive(Debug, Clone)]
    pub(crate) struct Redactor;

    pub(crate) struct Rules;

    impl Redactor {
        pub(crate) fn rules(&self) -> Box<Rules> {
            Box::new(Rules)
        }
    }

    impl Rules {
        pub(crate) fn redact_payload<'a>(
            &self,
            _: Signal,
            payload: &'a [u8],
        ) -> error::Result<Cow<'a, [u8]>> {
            Ok(Cow::Borrowed(payload))
        }
    }
}

/// The files of a spill, as `src/store/ledger/spill.rs` describes them, of records of one byte.
pub(crate) mod store {
    use super::{Seen, ServerName, Signal, error, one_in};
    use std::{borrow::Cow, io, sync::Arc};

    pub(crate) const RECORD_BYTES_MAX: usize = 16 << 20;

    #[allow(dead_code, reason = "a record is its number")]
    pub(crate) struct SpilledRecord<'a> {
        pub(crate) batch: u64,
        pub(crate) server: Cow<'a, ServerName>,
        pub(crate) signal: Signal,
        pub(crate) timestamp: i64,
        pub(crate) emitted: u64,
        pub(crate) payload: Cow<'a, [u8]>,
    }

    impl SpilledRecord<'_> {
        pub(crate) fn encode(&self, out: &mut Vec<u8>) {
            out.extend_from_slice(&self.payload);
        }
    }

    #[derive(Debug)]
    pub(crate) struct Spill {
        seen: Arc<Seen>,
        /// The index of the file that records are appended to.
        current: usize,
    }

    impl Spill {
        pub(crate) fn new(seen: &Arc<Seen>) -> Spill {
            let seen = Arc::clone(seen);
            Spill { seen, current: 0 }
        }

        pub(crate) fn append(&mut self, records: &[u8]) -> io::Result<()> {
            if one_in(4) {
                return Err(io::Error::other("on purpose"));
            }
            let mut files = self.seen.files.lock().unwrap();
            for number in records {
                let is_there = files.iter().any(|file| file.contains(number));
                assert!(!is_there, "{number} is spilled twice");
            }
            files[self.current].extend_from_slice(records);
            Ok(())
        }

        pub(crate) fn turn(&mut self) {
            if self.seen.files.lock().unwrap()[1 - self.current].is_empty() {
                self.current = 1 - self.current;
            }
        }

        pub(crate) fn clear_committed(&mut self) -> io::Result<()> {
            let mut files = self.seen.files.lock().unwrap();
            let stored = self.seen.stored.lock().unwrap();
            for number in files[1 - self.current].drain(..) {
                assert!(stored.contains(&number), "a kill loses {number}");
            }
            Ok(())
        }

        pub(crate) fn has_records(&self) -> bool {
            self.bytes() > 0
        }

        pub(crate) fn bytes(&self) -> u64 {
            let files = self.seen.files.lock().unwrap();
            files.iter().map(|file| file.len() as u64).sum()
        }

        pub(crate) fn set_failure(&mut self, _: Option<(i64, &str)>) -> io::Result<()> {
            Ok(())
        }

        pub(crate) fn keep(self) -> io::Result<()> {
            Ok(())
        }

        pub(crate) fn remove(self) -> error::Result<()> {
            Ok(())
        }
    }
}

pub(super) struct WriterOptions {
    redactor: Option<redact::Redactor>,
    queue_bytes_max: usize,
}

mod committer {
    use super::{Cell, Duration, one_in};

    thread_local! {
        /// All threads of a run are on one thread of the system.
        static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    /// Time passes with every look at the clock, now and then more than the spiller waits after a failure.
    pub(super) fn now() -> Duration {
        let step = if one_in(8) { 1100 } else { 4 };
        NOW.set(NOW.get() + Duration::from_millis(step));
        NOW.get()
    }
}

mod policy {
    use super::Duration;

    pub(super) type Instant = Duration;

    #[derive(Debug, Clone, Copy)]
    pub(super) struct BatchSize {
        pub(super) records: usize,
        pub(super) bytes: usize,
    }

    impl BatchSize {
        pub(super) fn fills_within(self, _: Duration, _: Duration, _: (usize, usize)) -> bool {
            super::one_in(8)
        }
    }
}

mod stats {
    #[derive(Debug, Default)]
    pub(super) struct Counters {
        pub(super) queued_bytes: super::sync::AtomicUsize,
    }

    impl Counters {
        pub(super) fn note_spill_error(&self, _: Option<String>) {}
    }
}

mod thread {
    pub(super) fn never_store_own_events() {}
}

mod writer {
    use super::{ServerName, Signal, Timestamp, channel::Sender};

    #[derive(Debug)]
    pub(super) struct QueuedRecord {
        pub(super) server: ServerName,
        pub(super) signal: Signal,
        pub(super) timestamp: Timestamp,
        pub(super) emitted: u64,
        pub(super) is_spilled: bool,
        pub(super) payload: Box<[u8]>,
    }

    impl QueuedRecord {
        pub(super) fn memory_bytes(&self) -> usize {
            self.payload.len()
        }
    }

    #[derive(Debug)]
    pub(super) enum Message {
        Record(QueuedRecord),
        /// Answered with what is stored.
        Flush(Sender<Vec<u8>>),
        Dropped,
        Close,
    }
}

fn one_in(times: u32) -> bool {
    thread_rng().gen_range(0..times) == 0
}

/// What a kill would leave.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    files: Mutex<[Vec<u8>; 2]>,
    /// The numbers of the stored records, in the order in which they were committed.
    stored: Mutex<Vec<u8>>,
}

/// The writer thread, as `src/ingest/thread.rs` and `committer.rs` have it.
struct Committing {
    spiller: Arc<Spiller>,
    seen: Arc<Seen>,
    messages: Receiver<Message>,
    requests: VecDeque<Message>,
    batch: Vec<writer::QueuedRecord>,
    batch_number: u64,
}

impl Committing {
    fn run(mut self, queue: &Queue<Message>) {
        loop {
            let taken = self.requests.pop_front();
            match taken.or_else(|| self.messages.try_recv().ok()) {
                Some(Message::Record(record)) => self.batch.push(record),
                Some(Message::Flush(answer)) => {
                    while !self.work(true) {}
                    let stored = self.seen.stored.lock().unwrap().clone();
                    let _ = answer.try_send(stored);
                }
                Some(Message::Dropped) => {}
                Some(Message::Close) => break,
                None => queue.wait_for_message(HOUR),
            }
            match thread_rng().gen_range(0..6) {
                0 => _ = self.work(true),
                1 => _ = self.work(false),
                2 => self.spill(),
                _ => {}
            }
        }
        while !self.work(true) {}
        assert!(self.requests.is_empty() && self.batch.is_empty());
        // What a commit that failed has left there, the next two cut off.
        for _ in 0..100 {
            if !self.spiller.has_records() {
                break;
            }
            self.work(true);
        }
        assert_eq!(*self.seen.files.lock().unwrap(), <[Vec<u8>; 2]>::default());
        assert_eq!(self.spiller.stop().len(), 0);
        queue.end();
    }

    /// Works while the spiller takes the messages. Returns whether all records of the batch are committed.
    fn work(&mut self, commits: bool) -> bool {
        if one_in(2) {
            self.spill();
        }
        let batch_size = BatchSize {
            records: 3,
            bytes: 100,
        };
        let next_batch = self.batch_number + 2;
        self.spiller.begin_work(next_batch, batch_size, 0, commits);
        shuttle::thread::yield_now();
        let is_committed = commits && !one_in(4);
        if is_committed {
            let numbers = self.batch.drain(..).map(|record| record.payload[0]);
            self.seen.stored.lock().unwrap().extend(numbers);
            self.spiller.clear_committed();
        }
        shuttle::thread::yield_now();
        self.batch_number = next_batch;
        let taken = self.spiller.end_work();
        let is_all = is_committed && taken.is_empty();
        for message in taken {
            match message {
                Message::Record(record) => self.batch.push(record),
                request => self.requests.push_back(request),
            }
        }
        let files = self.seen.files.lock().unwrap();
        for record in &self.batch {
            let is_there = files.iter().any(|file| file.contains(&record.payload[0]));
            assert_eq!(record.is_spilled, is_there, "{record:?}");
        }
        is_all
    }

    fn spill(&mut self) {
        let rest = self.batch.iter().filter(|record| !record.is_spilled);
        let is_spilled = self.spiller.spill(rest.map(|record| store::SpilledRecord {
            batch: self.batch_number,
            server: std::borrow::Cow::Borrowed(&record.server),
            signal: record.signal,
            timestamp: 0,
            emitted: record.emitted,
            payload: std::borrow::Cow::Borrowed(&record.payload),
        }));
        if is_spilled {
            self.batch.iter_mut().for_each(|it| it.is_spilled = true);
        }
    }
}

fn record(number: u8) -> Message {
    Message::Record(writer::QueuedRecord {
        server: ServerName::new("github").unwrap(),
        signal: Signal::Logs,
        timestamp: Timestamp::from_unix_nanos(0),
        emitted: 0,
        is_spilled: false,
        payload: Box::new([number]),
    })
}

#[test]
fn what_the_spiller_takes_is_neither_lost_nor_overtaken() {
    schedules(|| {
        let seen = Arc::new(Seen::default());
        let counters = Arc::new(Counters::default());
        let options = WriterOptions {
            redactor: one_in(2).then_some(redact::Redactor),
            queue_bytes_max: 100,
        };
        let spill = Ok(store::Spill::new(&seen));
        let spiller = Arc::new(Spiller::new(spill, &options, Arc::clone(&counters)));
        let bounds = Bounds {
            messages_max: 3,
            bytes_max: 100,
            blocks: true,
        };
        let taken = Arc::new(sync::AtomicUsize::new(0));
        let (queue, messages) = Queue::new(bounds, taken, Box::new(|_| {}));
        let queue = Arc::new(queue);
        spiller.start(messages.clone(), "spill".as_ref()).unwrap();
        let writing = {
            let committing = Committing {
                spiller,
                seen: Arc::clone(&seen),
                messages,
                requests: VecDeque::new(),
                batch: Vec::new(),
                batch_number: 1,
            };
            let queue = Arc::clone(&queue);
            shuttle::thread::spawn(move || committing.run(&queue))
        };
        let producers: Vec<_> = [10, 20]
            .map(|first| {
                let queue = Arc::clone(&queue);
                shuttle::thread::spawn(move || {
                    for number in first..first + 4 {
                        queue.offer(record(number), 1).unwrap();
                    }
                    let deadline = Instant::now() + HOUR;
                    let flushed = queue.ask(deadline, Message::Flush);
                    let mut stored = flushed.map_err(|it: Unanswered| it).unwrap();
                    stored.retain(|number| (first..first + 10).contains(number));
                    assert_eq!(stored, (first..first + 4).collect::<Vec<u8>>());
                })
            })
            .into();
        queue.try_send(Message::Dropped);
        for producer in producers {
            producer.join().unwrap();
        }
        queue.send(Message::Close, Instant::now() + HOUR).unwrap();
        writing.join().unwrap();
        let stored = seen.stored.lock().unwrap().clone();
        assert_eq!(
            stored.iter().collect::<BTreeSet<_>>().len(),
            8,
            "{stored:?}"
        );
        assert_eq!(stored.len(), 8, "{stored:?}");
    });
}
