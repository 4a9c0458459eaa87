//! The effect of a hanging disk on the thread that logs events. The suite compares their time with that of JSON lines.
//!
//! ```text
//! cargo bench -p gridctl-telemetry-benches --bench request_path [-- --quick]
//! ```
//!
//! For a call with a long elapsed time, the kernel tells whether the thread waited (a voluntary context switch) or was
//! preempted.

use anyhow::{Context, Result, bail};
use gridctl_telemetry::{StoreOptions, testing::DiskOperation};
use gridctl_telemetry_benches::{
    Arguments, EVENT_QUEUE_BYTES_MAX, EventStore, bench_folder, event, event_span, ratio,
    resident_bytes, thread_nanos,
};
use std::{
    fmt::Display,
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tracing::dispatcher;

/// Where the benchmark writes.
const FOLDER: &str = env!("CARGO_TARGET_TMPDIR");
const HANG_EVENTS: u64 = 1_000_000;
const SLOWEST_MAX: Duration = Duration::from_millis(1);

fn main() -> Result<()> {
    let arguments = Arguments::read(&["--quick"])?;
    let quick = arguments.has("--quick");
    if !disk_that_hangs(if quick { HANG_EVENTS / 10 } else { HANG_EVENTS })? {
        bail!("not all bounds were met");
    }
    Ok(())
}

fn say(met: bool, what: impl Display) {
    println!("- {}: {what}", if met { "met" } else { "MISSED" });
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
    let ours = EventStore::start(folder.path(), StoreOptions::default().disk_hook(hook))?;
    // Written to before, so that page faults are not measured.
    let mut times = vec![(Duration::MAX, Duration::MAX); usize::try_from(events)?];
    let resident_before = resident_bytes(std::process::id())?;
    gate.set(true);
    let mut queued_max = 0;
    let waits_before = waits()?;
    dispatcher::with_default(&ours.dispatch, || {
        let span = event_span(0);
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
    let resident = resident_bytes(std::process::id())?.saturating_sub(resident_before);
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
    let bounded = queued_max <= EVENT_QUEUE_BYTES_MAX;
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
