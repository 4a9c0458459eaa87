//! Counters, to the store, once in a while.

use super::{Accumulator, flush_rule::ServerCounts};
use crate::{
    error::{Error, Result},
    ingest::Writer,
    lines::{ParsedLine, parse_line},
    otlp::foreign::is_foreign,
    record::{MetricsSnapshot, ServerName},
    signal::Signal,
    store::Store,
    time::Timestamp,
};
use crossbeam::channel::{RecvTimeoutError, Sender};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

/// The longest line of an old file that is read, in bytes.
const SEED_LINE_BYTES_MAX: u64 = 16 << 20;

/// Stores a snapshot of each configured server's counters at an interval: what they gained since
/// the one before, and their totals.
///
/// A snapshot that finds no room in the queue keeps what it would have said for the next one. A
/// reset and what comes with it are one record, so nothing can come between them.
///
/// ```
/// use gridctl_telemetry::{ServerName, Timestamp, metrics::{Accumulator, Attribution, MetricsFlusher}};
/// use std::{sync::Arc, time::Duration};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let home = tempfile::tempdir()?;
/// # let home = home.path();
/// # let store = gridctl_telemetry::Store::open(home, "my-stack", Default::default())?;
/// # let (writer, guard) = gridctl_telemetry::Writer::start(&store, Default::default())?;
/// let accumulator = Arc::new(Accumulator::new());
/// let flusher = MetricsFlusher::new(Arc::clone(&accumulator), writer.clone(), Duration::ZERO);
/// flusher.add_server("github")?;
/// flusher.seed(&store, 10_000)?;
/// flusher.start()?;
///
/// let github = ServerName::new("github")?;
/// accumulator.record_tokens(Attribution::new(&github), 40, 25, Timestamp::now());
/// flusher.stop(); // flushes a last time
/// guard.close()?;
/// assert_eq!(writer.stats().stored, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct MetricsFlusher {
    shared: Arc<Shared>,
    thread: Mutex<Thread>,
}

#[derive(Debug)]
struct Shared {
    accumulator: Arc<Accumulator>,
    writer: Writer,
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    servers: BTreeSet<ServerName>,
    /// What the last stored snapshot of each server said.
    previous: HashMap<ServerName, ServerCounts>,
}

#[derive(Debug)]
enum Thread {
    NotStarted,
    Running {
        stop: Sender<()>,
        handle: JoinHandle<()>,
    },
    Stopped,
}

impl MetricsFlusher {
    /// How often counters are stored unless something else is asked for: one minute, as wide as a
    /// bucket of the [`Accumulator`]'s series.
    pub const INTERVAL_DEFAULT: Duration = Duration::from_secs(60);

    /// A flusher without servers. A zero `interval` means [`MetricsFlusher::INTERVAL_DEFAULT`].
    #[must_use]
    pub fn new(
        accumulator: Arc<Accumulator>,
        writer: Writer,
        interval: Duration,
    ) -> MetricsFlusher {
        let interval = if interval.is_zero() {
            MetricsFlusher::INTERVAL_DEFAULT
        } else {
            interval
        };
        MetricsFlusher {
            shared: Arc::new(Shared {
                accumulator,
                writer,
                interval,
                state: Mutex::new(State::default()),
            }),
            thread: Mutex::new(Thread::NotStarted),
        }
    }

    /// Stores the counters of `server` from now on. What was said of it last is remembered, so
    /// adding a server that is there makes no reset.
    ///
    /// Fails with [`Error::InvalidServerName`].
    pub fn add_server(&self, server: impl AsRef<str>) -> Result<()> {
        self.shared.lock().servers.insert(ServerName::new(server)?);
        Ok(())
    }

    /// Stores the counters of `server` no longer. Added again, it begins with a reset.
    pub fn remove_server(&self, server: &str) {
        let mut state = self.shared.lock();
        state.servers.remove(server);
        state.previous.remove(server);
    }

    /// The servers whose counters are stored, sorted.
    #[must_use]
    pub fn configured_servers(&self) -> Vec<ServerName> {
        self.shared.lock().servers.iter().cloned().collect()
    }

    /// Starts the thread that flushes. A flusher starts once: later calls do nothing, also after a
    /// stop.
    ///
    /// Fails with [`Error::Io`] when there is no thread to be had.
    pub fn start(&self) -> Result<()> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*thread, Thread::NotStarted) {
            return Ok(());
        }
        let (stop, stopped) = crossbeam::channel::bounded(0);
        let shared = Arc::clone(&self.shared);
        let handle = std::thread::Builder::new()
            .name("gridctl-telemetry-metrics".to_owned())
            .spawn(move || {
                while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(shared.interval) {
                    shared.flush(Timestamp::now());
                }
                shared.flush(Timestamp::now());
            })
            .map_err(|error| Error::io("start the flusher of", Path::new("metrics"), error))?;
        *thread = Thread::Running { stop, handle };
        Ok(())
    }

    /// Flushes a last time and ends the thread. Any number of calls do as much as one.
    pub fn stop(&self) {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Thread::Running { stop, handle } = std::mem::replace(&mut *thread, Thread::Stopped) {
            drop(stop);
            // It cannot have panicked, and if it had there would be nothing to wait for.
            drop(handle.join());
        }
    }

    /// Stores the snapshots that are due, at `now`, without waiting for the interval.
    pub fn flush(&self, now: Timestamp) {
        self.shared.flush(now);
    }

    /// Restores from the newest `count` snapshots of each server in `store`: the cumulative counters
    /// of tokens and cost, their series a minute, and what this flusher said last. The next flush
    /// is then a difference and no reset.
    ///
    /// Fails with [`Error::Database`] and [`Error::Corrupt`]. No history is no error.
    pub fn seed(&self, store: &Store, count: usize) -> Result<()> {
        let history = store.snapshot()?.last_metrics(count)?;
        self.shared.seed(history);
        Ok(())
    }

    /// Does what [`MetricsFlusher::seed`] does, from the last `count` lines of an old
    /// `metrics.jsonl`. Lines that cannot be read lose themselves only; a missing file is no history.
    ///
    /// Fails with [`Error::Io`] when the file cannot be read.
    pub fn seed_from_file(&self, path: &Path, count: usize) -> Result<()> {
        let failed = |error| Error::io("read", path, error);
        let mut file = match File::open(path) {
            Ok(file) => BufReader::new(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        let mut last: VecDeque<(String, MetricsSnapshot)> = VecDeque::new();
        let mut line = Vec::new();
        loop {
            line.clear();
            let bytes = (&mut file)
                .take(SEED_LINE_BYTES_MAX)
                .read_until(b'\n', &mut line)
                .map_err(failed)?;
            if bytes == 0 {
                break;
            }
            if let Ok(ParsedLine::Metrics(snapshots)) =
                parse_line(Signal::Metrics, line.trim_ascii_end())
            {
                for (server, snapshot) in snapshots {
                    if is_foreign(&snapshot) {
                        continue;
                    }
                    last.extend(server.map(|server| (server, snapshot)));
                }
                while last.len() > count {
                    last.pop_front();
                }
            }
        }
        let mut history: BTreeMap<ServerName, Vec<MetricsSnapshot>> = BTreeMap::new();
        for (server, snapshot) in last {
            if let Ok(server) = ServerName::new(server) {
                history.entry(server).or_default().push(snapshot);
            }
        }
        self.shared.seed(history.into_iter().collect());
        Ok(())
    }
}

impl Drop for MetricsFlusher {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flush(&self, now: Timestamp) {
        let mut state = self.lock();
        let State { servers, previous } = &mut *state;
        for server in servers.iter() {
            // A server that never counted anything has nothing to say.
            let Some(counts) = self.accumulator.server_counts(server) else {
                continue;
            };
            let Some(snapshot) = counts.flush(previous.get(server), now) else {
                continue;
            };
            // What is dropped here, and counted by the writer, is part of the next difference.
            if self.writer.metrics(server, &snapshot).is_ok() {
                previous.insert(server.clone(), counts);
            }
        }
    }

    fn seed(&self, history: Vec<(ServerName, Vec<MetricsSnapshot>)>) {
        let mut state = self.lock();
        for (server, snapshots) in history {
            let mut counts = ServerCounts::default();
            for snapshot in &snapshots {
                counts.seed(snapshot);
                self.accumulator.replay_snapshot(&server, snapshot);
            }
            if !snapshots.is_empty() {
                self.accumulator.restore([(&server, counts.tokens)]);
                self.accumulator
                    .restore_cost(counts.cost.map(|cost| (&server, cost)));
                state.previous.insert(server, counts);
            }
        }
    }
}
