//! The time of an event on the thread that logs it, beside `tracing_subscriber::fmt().json()` through
//! `tracing_appender::non_blocking` to a file; and the effect of a hanging disk on that thread.
//!
//! ```text
//! cargo bench -p gridctl-telemetry-benches --bench request_path [-- --quick | --rounds N]
//! ```
//!
//! Both log the same events in turns, a round each, and have time to write between rounds, so that
//! neither drops an event. Times are the processor time of the calling thread
//! (`CLOCK_THREAD_CPUTIME_ID`), which does not grow while other programs have the processor; the
//! elapsed time is shown beside it. For a call with a long elapsed time, the kernel tells whether the
//! thread waited (a voluntary context switch) or was preempted.

use anyhow::{Context, Result, bail, ensure};
use gridctl_telemetry::{
    Store, StoreOptions, Writer, WriterGuard, WriterOptions,
    logs::{LogOptions, LogRouter},
    testing::DiskOperation,
};
use gridctl_telemetry_benches::{Arguments, Table, bench_folder, median, ratio};
use rustix::time::{ClockId, clock_gettime};
use std::{
    fmt::Display,
    fs::File,
    hint::{black_box, spin_loop},
    io::{self, Write},
    path::Path,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tracing::{Dispatch, dispatcher};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, WorkerGuard};
use tracing_subscriber::layer::SubscriberExt;

/// Where the benchmark writes.
const FOLDER: &str = env!("CARGO_TARGET_TMPDIR");
/// The number of events in a round, which fit both queues.
const ROUND: u64 = 20_000;
const HANG_EVENTS: u64 = 1_000_000;
const QUEUE_BYTES_MAX: usize = 32 << 20;
const RATIO_MAX: f64 = 0.4;
const SLOWEST_MAX: Duration = Duration::from_millis(1);

fn main() -> Result<()> {
    let arguments = Arguments::read(&["--quick", "--rounds"])?;
    let quick = arguments.has("--quick");
    let rounds: u64 = arguments.value("--rounds", if quick { 5 } else { 31 })?;
    let mut met = against_json(rounds)?;
    met &= disk_that_hangs(if quick { HANG_EVENTS / 10 } else { HANG_EVENTS })?;
    if !met {
        bail!("not all bounds were met");
    }
    Ok(())
}

/// How the events of a round are logged.
#[derive(Debug, Clone, Copy)]
enum Workload {
    /// One after another, in a span that stays open.
    Burst,
    /// Each in a span of its own.
    SpanEach,
    /// With a pause before each that is so long that the writer sleeps.
    Pauses,
}

impl Workload {
    /// The last kind has no bound: most of its time is the waking of a thread, on both sides.
    const ALL: [(Workload, &str); 3] = [
        (Workload::Burst, "events, one after another"),
        (Workload::SpanEach, "an event in a span of its own"),
        (Workload::Pauses, "an event after silence"),
    ];

    /// Logs a round and returns the processor time and the elapsed time of an event.
    fn run(self, first: u64) -> Result<(u64, u64)> {
        match self {
            Workload::Burst => {
                let span = span(first);
                let _entered = span.enter();
                measure(ROUND, || (first..first + ROUND).for_each(event))
            }
            Workload::SpanEach => measure(ROUND, || {
                (first..first + ROUND).for_each(|number| span(number).in_scope(|| event(number)));
            }),
            Workload::Pauses => {
                const EVENTS: u64 = ROUND / 10;
                let span = span(first);
                let _entered = span.enter();
                let mut total = (0, 0);
                for number in first..first + EVENTS {
                    let silence = Instant::now();
                    while silence.elapsed() < Duration::from_micros(20) {
                        spin_loop();
                    }
                    let took = measure(1, || event(number))?;
                    total = (total.0 + took.0, total.1 + took.1);
                }
                Ok((total.0 / EVENTS, total.1 / EVENTS))
            }
        }
    }
}

/// The span of a tool call.
fn span(number: u64) -> tracing::Span {
    tracing::info_span!(
        "call",
        component = "github",
        trace_id = "4bf92f3577b34da6a3ce929d0e0e4736",
        call = number
    )
}

/// An event of eight fields, of all common types.
fn event(number: u64) {
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

fn thread_nanos() -> Result<u64> {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Ok(u64::try_from(now.tv_sec)? * 1_000_000_000 + u64::try_from(now.tv_nsec)?)
}

/// Prints the table and returns whether the bound of the ratio is met.
fn against_json(rounds: u64) -> Result<bool> {
    let folder = bench_folder(FOLDER)?;
    let ours = Ours::start(folder.path(), StoreOptions::default())?;
    let theirs = Theirs::start(&folder.path().join("events.jsonl"))?;
    let mut table = Table::new(&[
        "processor time of an event",
        "gridctl-telemetry",
        "fmt().json(), non_blocking",
        "ratio",
        "elapsed time",
    ]);
    let mut met = true;
    let mut number = 0;
    for (workload, name) in Workload::ALL {
        let (mut our_times, mut their_times) = (Times::default(), Times::default());
        for round in 0..rounds {
            for turn in 0..2 {
                if (round + turn) % 2 == 0 {
                    ours.round(workload, number, &mut our_times)?;
                } else {
                    theirs.round(workload, number, &mut their_times)?;
                }
            }
            number += ROUND;
        }
        let (our_cpu, their_cpu) = (median(&our_times.cpu)?, median(&their_times.cpu)?);
        let (our_wall, their_wall) = (median(&our_times.wall)?, median(&their_times.wall)?);
        let share = ratio(our_cpu, their_cpu);
        met &= share <= RATIO_MAX || matches!(workload, Workload::Pauses);
        table.row(vec![
            name.to_owned(),
            format!("{our_cpu} ns"),
            format!("{their_cpu} ns"),
            format!("{share:.2}x"),
            format!(
                "{our_wall} ns, {their_wall} ns: {:.2}x",
                ratio(our_wall, their_wall)
            ),
        ]);
        if let Workload::Burst = workload {
            let part = our_times.cpu.len().div_ceil(4);
            let (early, _) = our_times.cpu.split_at(part);
            let (_, late) = our_times.cpu.split_at(our_times.cpu.len() - part);
            println!(
                "the first quarter of the rounds took {} ns an event, the last {} ns",
                median(early)?,
                median(late)?
            );
        }
    }
    println!("\n{table}");
    say(
        met,
        format!("at most {RATIO_MAX}x the time, except after silence"),
    );
    let stored = ours.close()?;
    let dropped = theirs.dropped.dropped_lines();
    ensure!(
        dropped == 0,
        "the JSON file's writer dropped {dropped} events"
    );
    println!("{stored} events stored, none dropped on either side");
    Ok(met)
}

fn say(met: bool, what: impl Display) {
    println!("- {}: {what}", if met { "met" } else { "MISSED" });
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
}

struct Ours {
    dispatch: Dispatch,
    writer: Writer,
    guard: WriterGuard,
}

impl Ours {
    fn start(home: &Path, options: StoreOptions) -> Result<Ours> {
        let store = Store::open(home, "bench", options)?;
        let options = WriterOptions::default()
            .queue_bytes_max(QUEUE_BYTES_MAX)
            .flush_timeout(Duration::from_secs(60));
        let (writer, guard) = Writer::start(&store, options)?;
        let router = LogRouter::new(writer.clone());
        router.add_server("github", LogOptions::default())?;
        Ok(Ours {
            dispatch: Dispatch::new(tracing_subscriber::registry().with(router.layer())),
            writer,
            guard,
        })
    }

    fn round(&self, workload: Workload, first: u64, times: &mut Times) -> Result<()> {
        times.push(dispatcher::with_default(&self.dispatch, || {
            workload.run(first)
        })?);
        Ok(self.writer.flush()?)
    }

    /// Ends the writer and returns the number of stored events. Fails unless that is all of them.
    fn close(self) -> Result<u64> {
        let writer = self.writer;
        self.guard.close()?;
        let stats = writer.stats();
        ensure!(
            stats.offered == stats.stored && stats.offered > 0,
            "{stats:?}"
        );
        Ok(stats.stored)
    }
}

struct Theirs {
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

impl Theirs {
    fn start(path: &Path) -> Result<Theirs> {
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
        Ok(Theirs {
            dispatch: Dispatch::new(subscriber),
            dropped,
            written,
            expected: AtomicU64::new(0),
            _guard: guard,
        })
    }

    fn round(&self, workload: Workload, first: u64, times: &mut Times) -> Result<()> {
        times.push(dispatcher::with_default(&self.dispatch, || {
            workload.run(first)
        })?);
        let events = match workload {
            Workload::Pauses => ROUND / 10,
            Workload::Burst | Workload::SpanEach => ROUND,
        };
        let expected = self.expected.fetch_add(events, Ordering::Relaxed) + events;
        while self.written.load(Ordering::Acquire) < expected {
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

/// A disk that hangs while it is shut.
#[derive(Debug, Default)]
struct Gate {
    shut: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn set(&self, shut: bool) {
        *self.shut.lock().unwrap_or_else(PoisonError::into_inner) = shut;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let shut = self.shut.lock().unwrap_or_else(PoisonError::into_inner);
        drop(
            self.opened
                .wait_while(shut, |shut| *shut)
                .unwrap_or_else(PoisonError::into_inner),
        );
    }
}

/// Logs while the disk hangs, prints the effect, and returns whether the bounds are met.
fn disk_that_hangs(events: u64) -> Result<bool> {
    let folder = bench_folder(FOLDER)?;
    let gate = Arc::new(Gate::default());
    let hook = {
        let gate = Arc::clone(&gate);
        move |operation: DiskOperation<'_>| {
            if !matches!(operation, DiskOperation::Read { .. }) {
                gate.pass();
            }
            Ok(())
        }
    };
    let ours = Ours::start(folder.path(), StoreOptions::default().disk_hook(hook))?;
    // Written to before, so that page faults are not measured.
    let mut times = vec![(Duration::MAX, Duration::MAX); usize::try_from(events)?];
    let resident_before = resident_bytes()?;
    gate.set(true);
    let mut queued_max = 0;
    let waits_before = waits()?;
    dispatcher::with_default(&ours.dispatch, || {
        let span = span(0);
        let _entered = span.enter();
        for (number, took) in (0..events).zip(&mut times) {
            let (cpu_before, started) = (thread_nanos()?, Instant::now());
            event(number);
            let elapsed = started.elapsed();
            *took = (elapsed, Duration::from_nanos(thread_nanos()? - cpu_before));
            if number % 1024 == 0 {
                queued_max = queued_max.max(ours.writer.stats().queued_bytes);
            }
        }
        Ok::<(), anyhow::Error>(())
    })?;
    let waits = waits()? - waits_before;
    let resident = resident_bytes()?.saturating_sub(resident_before);
    let stats = ours.writer.stats();
    gate.set(false);
    let (wall, cpu): (Vec<Duration>, Vec<Duration>) = times.into_iter().unzip();
    let late = wall.iter().filter(|took| **took > SLOWEST_MAX).count();
    let (slowest_wall, slowest_cpu) = (slowest(wall)?, slowest(cpu)?);
    println!(
        "\n{events} events while the disk hangs, {} dropped",
        stats.dropped_total()
    );
    println!(
        "the slowest calls took {slowest_cpu:.1?} of processor time and {slowest_wall:.1?} of elapsed \
         time; {late} calls took more than 1 ms of elapsed time; the thread waited {waits} times"
    );
    // On an otherwise idle machine, the elapsed time would do.
    let fast = match (slowest_wall, slowest_cpu) {
        ([wall, ..], _) if wall < SLOWEST_MAX => true,
        (_, [cpu, ..]) => cpu < SLOWEST_MAX && waits == 0,
    };
    say(
        fast,
        "the slowest call takes less than 1 ms and does not wait",
    );
    let bounded = queued_max <= QUEUE_BYTES_MAX;
    say(
        bounded,
        format!(
            "{:.1} MiB queued at most, of 32 MiB; the process grew by {:.1} MiB",
            ratio(queued_max as u64, 1 << 20),
            ratio(resident, 1 << 20)
        ),
    );
    ours.writer.flush()?;
    let stats = ours.writer.stats();
    let counted = stats.offered == stats.stored + stats.dropped_total() && stats.queued == 0;
    say(counted, "offered = stored + dropped, once the disk is back");
    Ok(fast && bounded && counted)
}

/// The three longest times.
fn slowest(mut times: Vec<Duration>) -> Result<[Duration; 3]> {
    times.sort_unstable_by(|a, b| b.cmp(a));
    times.first_chunk().copied().context("too few events")
}

/// How often this thread has waited so far.
fn waits() -> Result<u64> {
    std::fs::read_to_string("/proc/thread-self/status")?
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))
        .and_then(|count| count.trim().parse().ok())
        .context("this system does not count how often a thread waits")
}

/// The resident memory of this process, in bytes.
fn resident_bytes() -> Result<u64> {
    let pages: u64 = std::fs::read_to_string("/proc/self/statm")?
        .split_whitespace()
        .nth(1)
        .context("this system does not report the memory of a process")?
        .parse()?;
    Ok(pages * rustix::param::page_size() as u64)
}
