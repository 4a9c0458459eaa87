//! The events of a request, logged by our layer and as JSON lines, and their time on the thread that logs them.

use crate::measure::median;
use anyhow::{Result, ensure};
use gridctl_telemetry::{
    Store, StoreOptions, Writer, WriterGuard, WriterOptions,
    logs::{LogOptions, LogRouter},
};
use rustix::time::{ClockId, clock_gettime};
use std::{
    fmt,
    fs::File,
    hint::{black_box, spin_loop},
    io::{self, Write},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tracing::{Dispatch, dispatcher};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, WorkerGuard};
use tracing_subscriber::layer::SubscriberExt;

/// The number of events in a round, which fit both queues.
const ROUND: u64 = 20_000;
/// The maximum size of our queue, in bytes.
pub const EVENT_QUEUE_BYTES_MAX: usize = 32 << 20;

/// How the events of a round are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// One after another, in a span that stays open.
    Burst,
    /// Each in a span of its own.
    SpanEach,
    /// With a pause before each that is so long that the writer sleeps.
    Pauses,
}

impl EventKind {
    /// All kinds.
    pub const ALL: [EventKind; 3] = [EventKind::Burst, EventKind::SpanEach, EventKind::Pauses];

    /// The number of events of a round.
    fn round(self) -> u64 {
        match self {
            EventKind::Burst | EventKind::SpanEach => ROUND,
            EventKind::Pauses => ROUND / 10,
        }
    }

    /// Logs a round and returns the processor time and the elapsed time of an event.
    fn run(self, first: u64) -> Result<(u64, u64)> {
        match self {
            EventKind::Burst => {
                let span = event_span(first);
                let _entered = span.enter();
                measure(ROUND, || (first..first + ROUND).for_each(event))
            }
            EventKind::SpanEach => measure(ROUND, || {
                (first..first + ROUND)
                    .for_each(|number| event_span(number).in_scope(|| event(number)));
            }),
            EventKind::Pauses => {
                let events = self.round();
                let span = event_span(first);
                let _entered = span.enter();
                let mut total = (0, 0);
                for number in first..first + events {
                    let silence = Instant::now();
                    while silence.elapsed() < Duration::from_micros(20) {
                        spin_loop();
                    }
                    let took = measure(1, || event(number))?;
                    total = (total.0 + took.0, total.1 + took.1);
                }
                Ok((total.0 / events, total.1 / events))
            }
        }
    }
}

/// The span of a tool call.
#[must_use]
pub fn event_span(number: u64) -> tracing::Span {
    tracing::info_span!(
        "call",
        component = "github",
        trace_id = "4bf92f3577b34da6a3ce929d0e0e4736",
        call = number
    )
}

/// An event of eight fields, of all common types.
pub fn event(number: u64) {
    let number = black_box(number);
    tracing::info!(
        tool = "search_repositories",
        client = "claude-code",
        session = %format_args!("session-{}", number % 100),
        request = number,
        duration_ms = number % 1000,
        status = 200_i64,
        cached = number.is_multiple_of(3),
        cost_usd = 0.25,
        "tool call completed"
    );
}

/// The processor time and the elapsed time of one of `events`, in nanoseconds.
fn measure(events: u64, work: impl FnOnce()) -> Result<(u64, u64)> {
    let (cpu, wall) = (thread_nanos()?, Instant::now());
    work();
    let (cpu, wall) = (thread_nanos()? - cpu, wall.elapsed());
    Ok((cpu / events, u64::try_from(wall.as_nanos())? / events))
}

/// The processor time of this thread so far, in nanoseconds.
pub fn thread_nanos() -> Result<u64> {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Ok(u64::try_from(now.tv_sec)? * 1_000_000_000 + u64::try_from(now.tv_nsec)?)
}

/// The median times of an event on the thread that logs it, in nanoseconds: of processor time, and elapsed.
#[derive(Debug, Clone, Copy)]
pub struct EventNanos {
    /// Processor time of the thread.
    pub cpu: u64,
    /// Elapsed time.
    pub wall: u64,
}

/// Logs rounds of events of a kind with our layer and with `tracing_subscriber::fmt().json()` through
/// `tracing_appender::non_blocking` to a file, in turns, and returns the times of both.
///
/// Both have time to write between rounds, so that neither drops an event.
pub fn compare_events(
    folder: &Path,
    kind: EventKind,
    rounds: u64,
) -> Result<(EventNanos, EventNanos)> {
    let ours = EventStore::start(folder, StoreOptions::default())?;
    let theirs = JsonFile::start(&folder.join("events.jsonl"))?;
    let (mut our_times, mut their_times) = (Times::default(), Times::default());
    for round in 0..rounds {
        for turn in 0..2 {
            if (round + turn) % 2 == 0 {
                ours.round(kind, round * ROUND, &mut our_times)?;
            } else {
                theirs.round(kind, round * ROUND, &mut their_times)?;
            }
        }
    }
    ours.close()?;
    let dropped = theirs.dropped.dropped_lines();
    ensure!(
        dropped == 0,
        "the JSON file's writer dropped {dropped} events"
    );
    Ok((our_times.median()?, their_times.median()?))
}

#[derive(Debug, Default)]
struct Times {
    cpu: Vec<u64>,
    wall: Vec<u64>,
}

impl Times {
    fn push(&mut self, (cpu, wall): (u64, u64)) {
        self.cpu.push(cpu);
        self.wall.push(wall);
    }

    fn median(&self) -> Result<EventNanos> {
        Ok(EventNanos {
            cpu: median(&self.cpu)?,
            wall: median(&self.wall)?,
        })
    }
}

/// A store with a layer that stores the events of a gateway.
pub struct EventStore {
    /// The layer.
    pub dispatch: Dispatch,
    /// The writer that the layer queues events for.
    pub writer: Writer,
    guard: WriterGuard,
}

impl fmt::Debug for EventStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStore").finish_non_exhaustive()
    }
}

impl EventStore {
    /// Creates a store with these options.
    pub fn start(home: &Path, options: StoreOptions) -> Result<EventStore> {
        let store = Store::open(home, "bench", options)?;
        let options = WriterOptions::default()
            .queue_bytes_max(EVENT_QUEUE_BYTES_MAX)
            .flush_timeout(Duration::from_secs(60));
        let (writer, guard) = Writer::start(&store, options)?;
        let router = LogRouter::new(writer.clone());
        router.add_server("github", LogOptions::default())?;
        Ok(EventStore {
            dispatch: Dispatch::new(tracing_subscriber::registry().with(router.layer())),
            writer,
            guard,
        })
    }

    fn round(&self, kind: EventKind, first: u64, times: &mut Times) -> Result<()> {
        times.push(dispatcher::with_default(&self.dispatch, || {
            kind.run(first)
        })?);
        Ok(self.writer.flush()?)
    }

    /// Ends the writer. Fails unless all events are stored.
    pub fn close(self) -> Result<()> {
        let writer = self.writer;
        self.guard.close()?;
        let stats = writer.stats();
        ensure!(
            stats.offered == stats.stored && stats.offered > 0,
            "{stats:?}"
        );
        Ok(())
    }
}

struct JsonFile {
    dispatch: Dispatch,
    dropped: ErrorCounter,
    written: Arc<AtomicU64>,
    expected: AtomicU64,
    _guard: WorkerGuard,
}

/// Counts the bytes that its thread has written.
struct Counted {
    file: File,
    written: Arc<AtomicU64>,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all(bytes)?;
        self.written.fetch_add(1, Ordering::Release);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl JsonFile {
    fn start(path: &Path) -> Result<JsonFile> {
        let written = Arc::new(AtomicU64::new(0));
        let (appender, guard) = NonBlocking::new(Counted {
            file: File::create(path)?,
            written: Arc::clone(&written),
        });
        let dropped = appender.error_counter();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .with_writer(appender)
            .finish();
        Ok(JsonFile {
            dispatch: Dispatch::new(subscriber),
            dropped,
            written,
            expected: AtomicU64::new(0),
            _guard: guard,
        })
    }

    fn round(&self, kind: EventKind, first: u64, times: &mut Times) -> Result<()> {
        times.push(dispatcher::with_default(&self.dispatch, || {
            kind.run(first)
        })?);
        let expected = self.expected.fetch_add(kind.round(), Ordering::Relaxed) + kind.round();
        while self.written.load(Ordering::Acquire) < expected {
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}
