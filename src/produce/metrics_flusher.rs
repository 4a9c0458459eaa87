//! Counters, to the store, once in a while.

use super::{Accumulator, accumulator::ServerCounted, flush_rule::ServerCounts};
use crate::{
    error::{Error, Result},
    ingest::{OnWipe, Writer},
    lines::{ParsedLine, parse_line},
    otlp::foreign::is_foreign,
    read::{Damage, SeedRange},
    record::{
        CallCounts, CostCounts, Interval, MetricsSnapshot, ServerName, TokenCounts, Totals,
        calls::{Calls, PROMPT_USAGE, SKILLS_SERVER, calls_to_value},
    },
    signal::Signal,
    store::{Store, WipeMarks, WipeScope},
    time::Timestamp,
};
use crossbeam::channel::{RecvTimeoutError, Sender};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
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
/// use gridctl_telemetry::{
///     ServerName, Timestamp,
///     metrics::{Accumulator, Attribution, MetricsFlusher},
///     query::SeedRange,
/// };
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
/// flusher.seed(&store, SeedRange::default())?;
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

/// What [`MetricsFlusher::seed`] found and restored.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SeedReport {
    /// The servers that have counted before.
    pub servers: BTreeMap<ServerName, SeededServer>,
    /// The cumulative counters of the skills of the stack.
    pub skills: BTreeMap<String, CallCounts>,
    /// What is damaged among the stored counters, and was left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub damage: Vec<Damage>,
}

/// What [`MetricsFlusher::seed`] restored of one server.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SeededServer {
    /// The cumulative token counters.
    pub tokens: TokenCounts,
    /// The cumulative cost counters; absent if the server never had a cost.
    pub cost: Option<CostCounts>,
    /// The cumulative counters of its tools.
    pub tools: BTreeMap<String, CallCounts>,
    /// When counting began.
    pub counting_since: Timestamp,
    /// The timestamp of the snapshot that was stored last, whether or not a limit deleted it since.
    pub last_snapshot: Timestamp,
    /// The number of snapshots in the range, from which the series a minute were restored.
    pub snapshots: usize,
    /// The earliest timestamp of these.
    pub oldest_time: Option<Timestamp>,
    /// The latest timestamp of these.
    pub newest_time: Option<Timestamp>,
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
    /// The wipes since the writer started, as far as they were seen, and the newest of them that was
    /// carried out here.
    wipes: Option<WipeMarks>,
    wipe_generation: u64,
    /// The calls of skills that were stored last.
    skills: Calls,
    /// Servers that were wiped, and have counted nothing since.
    wiped: HashSet<ServerName>,
    servers: BTreeSet<ServerName>,
    /// What the last stored snapshot of each server said.
    previous: HashMap<ServerName, ServerCounts>,
    /// What each server had counted in this process by then. A server that is removed stays in it:
    /// what it counted before must not be counted again when it is added again.
    counted: HashMap<ServerName, ServerCounted>,
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
        let state = Mutex::new(State {
            wipe_generation: writer.first_wipe_generation(),
            ..State::default()
        });
        let shared = Arc::new(Shared {
            accumulator,
            writer,
            interval,
            state,
        });
        let on_wipe: Weak<dyn OnWipe> = Arc::downgrade(&(Arc::clone(&shared) as Arc<dyn OnWipe>));
        shared.writer.on_wipe(on_wipe);
        MetricsFlusher {
            shared,
            thread: Mutex::new(Thread::NotStarted),
        }
    }

    /// Stores the counters of `server` from now on. What was said of it last is remembered, so
    /// adding a server that is there makes no reset.
    ///
    /// Fails with [`Error::InvalidServerName`].
    pub fn add_server(&self, server: impl AsRef<str>) -> Result<()> {
        let server = ServerName::new(server)?;
        if server.as_str() != SKILLS_SERVER {
            self.shared.lock().servers.insert(server);
        }
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

    /// Restores what is stored in `store`, and returns what that was: of each server the cumulative
    /// counters of tokens and cost, however old they are, and of `range` their series a minute. The
    /// next flush is then a difference and no reset.
    ///
    /// Call it once, before anything is flushed. Damaged history is left out, and named in the report:
    /// counters whose newest state is damaged go on from the newest snapshot in the range that can be
    /// read. No history is no error.
    ///
    /// Fails with [`Error::Database`], and with [`Error::Corrupt`] when nothing can be read; nothing is
    /// restored then.
    pub fn seed(&self, store: &Store, range: impl Into<SeedRange>) -> Result<SeedReport> {
        let range = range.into();
        let snapshot = store.snapshot()?;
        let (mut history, mut damage) = (Vec::new(), Vec::new());
        for (server, totals) in snapshot.each_totals()? {
            let (snapshots, damaged) = snapshot.metrics_of(&server, range)?;
            damage.extend(damaged);
            let totals = match totals {
                Ok(totals) => Some(totals),
                Err(what) => {
                    damage.push(Damage::of_server(&server, what));
                    let mut newest = None;
                    for snapshot in &snapshots {
                        Totals::advance(&mut newest, snapshot);
                    }
                    newest
                }
            };
            history.extend(totals.map(|totals| (server, totals, snapshots)));
        }
        self.shared.lock().wipe_generation = snapshot.wipe_generation()?;
        Ok(SeedReport {
            damage,
            ..self.shared.seed(history)
        })
    }

    /// Does what [`MetricsFlusher::seed`] does, from an old `metrics.jsonl`. Lines that cannot be read
    /// lose themselves only; a missing file is no history.
    ///
    /// Fails with [`Error::Io`] when the file cannot be read.
    pub fn seed_from_file(&self, path: &Path, range: impl Into<SeedRange>) -> Result<SeedReport> {
        let range = range.into();
        let since = range.since(Timestamp::now());
        let failed = |error| Error::io("read", path, error);
        let mut file = match File::open(path) {
            Ok(file) => BufReader::new(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(SeedReport::default());
            }
            Err(error) => return Err(failed(error)),
        };
        let mut found: BTreeMap<String, (Option<Totals>, VecDeque<MetricsSnapshot>)> =
            BTreeMap::new();
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
            let Ok(ParsedLine::Metrics(snapshots)) =
                parse_line(Signal::Metrics, line.trim_ascii_end())
            else {
                continue;
            };
            for (server, snapshot) in snapshots {
                let Some(server) = server.filter(|_| !is_foreign(&snapshot)) else {
                    continue;
                };
                let (totals, last) = found.entry(server).or_default();
                Totals::advance(totals, &snapshot);
                if snapshot.timestamp >= since {
                    last.push_back(snapshot);
                }
                if last.len() > range.count_max() {
                    last.pop_front();
                }
            }
        }
        let history = found.into_iter().filter_map(|(server, (totals, last))| {
            Some((ServerName::new(server).ok()?, totals?, last.into()))
        });
        Ok(self.shared.seed(history))
    }
}

impl Drop for MetricsFlusher {
    fn drop(&mut self) {
        self.stop();
    }
}

impl OnWipe for Shared {
    /// Forgets all that was counted by now.
    fn wiped(&self, scope: &WipeScope) {
        let mut state = self.lock();
        self.accumulator
            .forget(|server| scope.covers_counters(server));
        if scope.covers_counters(SKILLS_SERVER) {
            state.skills.clear();
        }
        for server in self.accumulator.servers() {
            if scope.covers_counters(&server) {
                state.forget(&server);
            }
        }
        self.look_for_wipes(&mut state, Timestamp::now());
    }
}

impl State {
    /// Forgets what was stored of a server, which was wiped.
    fn forget(&mut self, server: &ServerName) {
        self.previous.remove(server);
        self.counted.remove(server);
        self.wiped.insert(server.clone());
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flush(&self, now: Timestamp) {
        let mut state = self.lock();
        self.look_for_wipes(&mut state, now);
        let State {
            servers,
            previous,
            counted,
            wipes,
            wiped,
            skills,
            ..
        } = &mut *state;
        for server in servers.iter() {
            // A server that never counted anything has nothing to say.
            let Some((counts, counted_now)) = self.accumulator.server_counts(server) else {
                continue;
            };
            if wiped.contains(server) && counts.is_zero() {
                continue;
            }
            let Some(mut snapshot) = counts.flush(previous.get(server), now) else {
                continue;
            };
            let counted_before = counted.get(server).copied().unwrap_or_default();
            snapshot.interval = self.interval(server, &snapshot, counted_now, counted_before);
            // Cost that was cleared and counted again may be what it was: it does not move, but a reader
            // that learns of the clearing alone would take it for zero.
            let cleared = snapshot.interval.as_ref().is_some_and(|it| it.cost_cleared);
            if cleared && snapshot.cost_total.is_none() && counts.cost.is_some() {
                snapshot.cost_diff = Some(CostCounts::default());
                snapshot.cost_total = counts.cost;
            }
            // What is dropped here, and counted by the writer, is part of the next difference.
            let offered = self
                .writer
                .offer_counters(server, &snapshot, wipes.as_ref());
            if offered.is_ok() {
                wiped.remove(server);
                previous.insert(server.clone(), counts);
                counted.insert(server.clone(), counted_now);
            }
        }
        let skills_now = self.accumulator.skill_usage();
        if !servers.is_empty()
            && skills_now != *skills
            && let Ok(server) = ServerName::new(SKILLS_SERVER)
        {
            let mut snapshot = MetricsSnapshot::new(now);
            snapshot
                .extra
                .push((PROMPT_USAGE.to_owned(), calls_to_value(&skills_now)));
            let offered = self
                .writer
                .offer_counters(&server, &snapshot, wipes.as_ref());
            if offered.is_ok() {
                *skills = skills_now;
            }
        }
    }

    /// Begins anew for the servers whose counters another process wiped since the last look: what is
    /// stored of them is gone, and the next snapshot must not bring it back. What they counted since
    /// the last flush was not stored, so it goes on to count.
    fn look_for_wipes(&self, state: &mut State, now: Timestamp) {
        let Some(wipes) = self.writer.wipes() else {
            return;
        };
        if wipes.generation() > state.wipe_generation {
            for server in self.accumulator.servers() {
                if wipes.covers_counters(&server, state.wipe_generation) {
                    let flushed = state.counted.get(&server).copied().unwrap_or_default();
                    let previous = state.previous.get(&server);
                    let tools = previous.map(|counts| counts.tools.clone());
                    let tools = tools.unwrap_or_default();
                    self.accumulator
                        .forget_flushed(&server, flushed, &tools, now);
                    state.forget(&server);
                }
            }
            if wipes.covers_counters(SKILLS_SERVER, state.wipe_generation) {
                self.accumulator.forget_flushed_skills(&state.skills);
                state.skills.clear();
            }
            state.wipe_generation = wipes.generation();
        }
        state.wipes = Some(wipes);
    }

    /// What was counted between two flushes, unless the diffs of `snapshot` say the same.
    fn interval(
        &self,
        server: &ServerName,
        snapshot: &MetricsSnapshot,
        now: ServerCounted,
        before: ServerCounted,
    ) -> Option<Interval> {
        let (tokens, tokens_cleared) = now.tokens.since(before.tokens);
        let (cost, cost_cleared) = now.cost.since(before.cost);
        let is_said = snapshot.tokens_counted() == Some(tokens)
            && (snapshot.cost_counted().unwrap_or_default() == cost && !snapshot.cost_reset)
            && !tokens_cleared
            && !cost_cleared;
        (!is_said).then(|| Interval {
            tokens,
            cost,
            tokens_cleared,
            cost_cleared,
            counting_since: self.accumulator.counting_since(server).unwrap_or_default(),
        })
    }

    fn seed(
        &self,
        history: impl IntoIterator<Item = (ServerName, Totals, Vec<MetricsSnapshot>)>,
    ) -> SeedReport {
        let mut state = self.lock();
        let mut report = SeedReport::default();
        for (server, totals, snapshots) in history {
            if server.as_str() == SKILLS_SERVER {
                self.accumulator.restore_skills(&totals.skills);
                state.skills.clone_from(&totals.skills);
                report.skills = totals.skills;
                continue;
            }
            self.accumulator.replay_history(&server, &snapshots);
            let counts = ServerCounts {
                tokens: totals.tokens,
                cost: totals.cost,
                tools: totals.tools.clone(),
            };
            self.accumulator.restore_tools(&server, &totals.tools);
            self.accumulator.restore([(&server, counts.tokens)]);
            self.accumulator
                .restore_cost(counts.cost.map(|cost| (&server, cost)));
            let counting_since = Timestamp::from_unix_nanos(totals.counting_since);
            self.accumulator
                .restore_counting_since(&server, counting_since);
            state.previous.insert(server.clone(), counts);
            let timestamps = || snapshots.iter().map(|snapshot| snapshot.timestamp);
            let seeded = SeededServer {
                tokens: totals.tokens,
                cost: totals.cost,
                tools: totals.tools,
                counting_since,
                last_snapshot: Timestamp::from_unix_nanos(totals.timestamp),
                snapshots: snapshots.len(),
                oldest_time: timestamps().min(),
                newest_time: timestamps().max(),
            };
            report.servers.insert(server, seeded);
        }
        report
    }
}
