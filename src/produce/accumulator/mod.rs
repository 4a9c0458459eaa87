//! The counters of tokens and cost: cumulative, and as a series of minutes.
//!
//! Every count belongs to a server, and to a replica of it and a client where they are known; the
//! session is the sum of its servers. A cumulative counter is what was counted in this process plus
//! what was [restored](Accumulator::restore) from before, kept apart, so that restoring neither
//! loses what was counted in the meantime nor counts twice.
//!
//! Recording adds to atomic integers. Finding them by name takes a shared lock, which only a name
//! that is new takes exclusively, for as long as its insertion; a [`Recorder`] has found them, and
//! takes no lock at all but the one with which the first record of a minute cleans its bucket.

mod calls;
mod counters;
mod series;

use self::{
    calls::CallCounters,
    counters::{Counted, Counters, Dimension},
    series::Series,
};
use super::flush_rule::ServerCounts;
use crate::{
    record::{
        CallCounts, CostCounts, Interval, MetricsSnapshot, ServerName, TokenCounts,
        calls::{Calls, SKILLS_SERVER},
    },
    time::Timestamp,
};
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

/// How far back a series goes, in minutes.
pub(crate) const SERIES_MINUTES: i64 = 10_000;
/// The longest range that is answered by the minute. A longer one is answered by the hour.
const BY_MINUTE_MAX: Duration = Duration::from_secs(3600 * 6);
/// The most names of a kind. Names come from outside, and each is kept for good.
const NAMES_MAX: usize = 4096;
/// What counts under a name that is one too many, or too long.
const OTHER: &str = "__other__";

/// Counts tokens and cost while a daemon runs. Shared by reference between threads.
///
/// ```
/// use gridctl_telemetry::{ServerName, Timestamp, metrics::{Accumulator, Attribution}};
///
/// let accumulator = Accumulator::new();
/// let github = ServerName::new("github")?;
/// let recorder = accumulator.recorder(Attribution::new(&github).client("session-1"));
/// recorder.record_tokens(40, 25, Timestamp::now());
/// assert_eq!(accumulator.snapshot().servers["github"].total_tokens, 65);
/// # Ok::<(), gridctl_telemetry::Error>(())
/// ```
#[derive(Default)]
pub struct Accumulator {
    servers: Names<Server>,
    clients: Names<Counters>,
    skills: Names<CallCounters>,
    refused: Arc<Refused>,
}

/// Who a count belongs to.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Attribution<'a> {
    /// The server that was called.
    pub server: &'a ServerName,
    /// The replica of the server, if it has several.
    pub replica: Option<&'a str>,
    /// The client that called, if it is known.
    pub client: Option<&'a str>,
    /// The tool of the server that was called, if it is known.
    pub tool: Option<&'a str>,
}

impl<'a> Attribution<'a> {
    /// To `server`, without a replica or a client.
    #[must_use]
    pub fn new(server: &'a ServerName) -> Attribution<'a> {
        Attribution {
            server,
            replica: None,
            client: None,
            tool: None,
        }
    }

    /// And to this replica of the server.
    #[must_use]
    pub fn replica(mut self, replica: impl Into<Option<&'a str>>) -> Attribution<'a> {
        self.replica = replica.into();
        self
    }

    /// And to this client.
    #[must_use]
    pub fn client(mut self, client: impl Into<Option<&'a str>>) -> Attribution<'a> {
        self.client = client.into();
        self
    }

    /// And to this tool of the server.
    #[must_use]
    pub fn tool(mut self, tool: impl Into<Option<&'a str>>) -> Attribution<'a> {
        self.tool = tool.into();
        self
    }
}

/// Records for one [`Attribution`], whose counters it has found once. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    refused: Arc<Refused>,
    server: Arc<Server>,
    replica: Option<Arc<Counters>>,
    client: Option<Arc<Counters>>,
    tool: Option<Arc<CallCounters>>,
}

/// A cost in USD, as price lists have it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct CostUsd {
    /// Cost of input tokens.
    pub input: f64,
    /// Cost of output tokens.
    pub output: f64,
    /// Cost of reading cached input.
    pub cache_read: f64,
    /// Cost of writing cached input.
    pub cache_write: f64,
}

/// The cumulative counters at one moment. `T` is [`TokenCounts`] or [`CostCounts`].
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Usage<T> {
    /// The sum of all servers.
    pub session: T,
    /// By server.
    pub servers: BTreeMap<String, T>,
    /// By server and replica, what was counted in this process.
    pub replicas: BTreeMap<String, BTreeMap<String, T>>,
    /// By client, what was counted in this process.
    pub clients: BTreeMap<String, T>,
}

/// What was counted over time. `T` is [`TokenCounts`] or [`CostCounts`].
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct TimeSeries<T> {
    /// What each point covers, in seconds: a minute or an hour.
    pub interval_seconds: u64,
    /// The sum of all servers, oldest first. Intervals in which nothing was counted have no point.
    pub session: Vec<Point<T>>,
    /// By server, likewise.
    pub servers: BTreeMap<String, Vec<Point<T>>>,
}

/// What was counted in one interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Point<T> {
    /// When the interval begins, a whole minute or hour in UTC.
    pub time: Timestamp,
    /// What was counted in it.
    pub counts: T,
}

/// How many costs were not counted, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RefusedCosts {
    /// A component that is no number.
    pub not_a_number: u64,
    /// A component below zero.
    pub negative: u64,
    /// A component that is infinite, or beyond 64 bits of micro-USD.
    pub too_large: u64,
}

impl Accumulator {
    /// An accumulator that has counted nothing.
    #[must_use]
    pub fn new() -> Accumulator {
        Accumulator::default()
    }

    /// What records for `attribution`. To keep one saves looking up the names at every record.
    ///
    /// A replica, a client or a tool whose name is longer than 255 bytes, or the 4,097th of its kind, counts
    /// as `__other__`, and so does the 4,097th server; an empty name is none.
    pub fn recorder(&self, attribution: Attribution<'_>) -> Recorder {
        let named = |name: &&str| !name.is_empty();
        // What is counted for the reserved server would be in every total.
        let server = match attribution.server.as_str() {
            SKILLS_SERVER => self.servers.get(OTHER),
            name => self.servers.get(name),
        };
        Recorder {
            refused: Arc::clone(&self.refused),
            replica: attribution
                .replica
                .filter(named)
                .map(|name| server.replicas.get(name)),
            client: attribution
                .client
                .filter(named)
                .map(|name| self.clients.get(name)),
            tool: attribution
                .tool
                .filter(named)
                .map(|name| server.tools.get(name)),
            server,
        }
    }

    /// [`Recorder::record_tokens`] for `attribution`.
    pub fn record_tokens(
        &self,
        attribution: Attribution<'_>,
        input_tokens: u64,
        output_tokens: u64,
        at: Timestamp,
    ) {
        self.recorder(attribution)
            .record_tokens(input_tokens, output_tokens, at);
    }

    /// [`Recorder::record_call`] for `attribution`.
    pub fn record_call(&self, attribution: Attribution<'_>, at: Timestamp) {
        self.recorder(attribution).record_call(at);
    }

    /// Counts a call of a skill of the stack. Names are bounded as those of tools are.
    pub fn record_skill_call(&self, skill: &str, at: Timestamp) {
        self.skills.get(skill).add_call(at);
    }

    /// The cumulative counters of the tools of each server.
    #[must_use]
    pub fn tool_usage(&self) -> BTreeMap<String, BTreeMap<String, CallCounts>> {
        let mut usage = BTreeMap::new();
        self.servers.for_each(|name, server| {
            let calls = server.tools.calls();
            if !calls.is_empty() {
                usage.insert(name.to_owned(), calls);
            }
        });
        usage
    }

    /// The cumulative counters of the skills of the stack.
    #[must_use]
    pub fn skill_usage(&self) -> BTreeMap<String, CallCounts> {
        self.skills.calls()
    }

    /// Sets what the tools of a server had counted before this process.
    pub(super) fn restore_tools(&self, server: &ServerName, tools: &Calls) {
        self.servers.get(server).tools.restore(tools);
    }

    /// Sets what the skills had counted before this process.
    pub(super) fn restore_skills(&self, skills: &Calls) {
        self.skills.restore(skills);
    }

    /// Forgets what the skills had counted when they were `flushed`.
    pub(super) fn forget_flushed_skills(&self, flushed: &Calls) {
        self.skills.forget(flushed);
    }

    /// [`Recorder::record_cost`] for `attribution`.
    pub fn record_cost(&self, attribution: Attribution<'_>, cost: CostCounts, at: Timestamp) {
        self.recorder(attribution).record_cost(cost, at);
    }

    /// [`Recorder::record_cost_usd`] for `attribution`.
    pub fn record_cost_usd(&self, attribution: Attribution<'_>, cost: CostUsd, at: Timestamp) {
        self.recorder(attribution).record_cost_usd(cost, at);
    }

    /// The costs that were not counted.
    pub fn refused(&self) -> RefusedCosts {
        RefusedCosts {
            not_a_number: self.refused.not_a_number.load(Ordering::Relaxed),
            negative: self.refused.negative.load(Ordering::Relaxed),
            too_large: self.refused.too_large.load(Ordering::Relaxed),
        }
    }

    /// The cumulative token counters. A server, replica or client is in it once it has counted
    /// tokens, and stays in it after [`Accumulator::clear`], at zero. What is being recorded at the
    /// moment may be there in part, and is there in whole the next time.
    #[must_use]
    pub fn snapshot(&self) -> Usage<TokenCounts> {
        self.usage()
    }

    /// The cumulative cost counters, of whoever has had a cost.
    #[must_use]
    pub fn cost_snapshot(&self) -> Usage<CostCounts> {
        self.usage()
    }

    /// The tokens that were counted in the `range` before `now`, the minute of `now` included: by
    /// the minute for up to 6 hours, beyond that by the hour, at most 10,000 minutes back. The
    /// first hour holds only what lies within the range.
    #[must_use]
    pub fn query(&self, range: Duration, now: Timestamp) -> TimeSeries<TokenCounts> {
        self.time_series(range, now)
    }

    /// The cost that was counted, likewise.
    #[must_use]
    pub fn query_cost(&self, range: Duration, now: Timestamp) -> TimeSeries<CostCounts> {
        self.time_series(range, now)
    }

    /// Sets what each server's tokens were before this process began to count. Counters below zero
    /// are taken for zero.
    pub fn restore<'a>(&self, totals: impl IntoIterator<Item = (&'a ServerName, TokenCounts)>) {
        for (server, total) in totals {
            self.servers.get(server).counters.restore(total);
        }
    }

    /// Sets when the counting of each server began, before this process.
    pub(super) fn restore_counting_since(&self, server: &ServerName, since: Timestamp) {
        let server = self.servers.get(server);
        server
            .counting_since
            .store(since.unix_nanos(), Ordering::Relaxed);
    }

    /// When the counting of `server` began: when it was counted first, in an earlier process where
    /// that was restored, or when its tokens were [cleared](Accumulator::clear). `None` when it never
    /// counted.
    #[must_use]
    pub fn counting_since(&self, server: &ServerName) -> Option<Timestamp> {
        let server = self.servers.find(server)?;
        let since = server.counting_since.load(Ordering::Relaxed);
        Some(Timestamp::from_unix_nanos(since))
    }

    /// Sets what each server's cost was before this process began to count, likewise.
    pub fn restore_cost<'a>(&self, totals: impl IntoIterator<Item = (&'a ServerName, CostCounts)>) {
        for (server, total) in totals {
            self.servers.get(server).counters.restore(total);
        }
    }

    /// Puts the diffs of a stored snapshot into the series of `server`, at the minute of its
    /// timestamp, and leaves the cumulative counters alone. Of a reset it takes what was counted in
    /// the [interval](MetricsSnapshot::interval), and leaves the diffs out where the snapshot does not
    /// say that: they are no single minute's. What is older than the series is left out.
    pub fn replay_snapshot(&self, server: &ServerName, snapshot: &MetricsSnapshot) {
        let at = snapshot.timestamp;
        self.replay(server, at, snapshot.tokens_counted());
        self.replay(server, at, snapshot.cost_counted());
    }

    /// Puts the history of `server` into its series: snapshots in the order of their arrival. What
    /// was counted before the counters were cleared is left out.
    pub(super) fn replay_history(&self, server: &ServerName, snapshots: &[MetricsSnapshot]) {
        let last = |is_cleared: fn(&Interval) -> bool| {
            let cleared =
                |snapshot: &MetricsSnapshot| snapshot.interval.as_ref().is_some_and(is_cleared);
            snapshots.iter().rposition(cleared).unwrap_or(0)
        };
        let tokens_from = last(|interval| interval.tokens_cleared);
        let cost_from = last(|interval| interval.cost_cleared);
        for snapshot in snapshots.iter().skip(tokens_from) {
            self.replay(server, snapshot.timestamp, snapshot.tokens_counted());
        }
        for snapshot in snapshots.iter().skip(cost_from) {
            self.replay(server, snapshot.timestamp, snapshot.cost_counted());
        }
    }

    fn replay<T: Dimension>(&self, server: &ServerName, at: Timestamp, counts: Option<T>) {
        if let Some(counts) = counts {
            self.servers.get(server).series.replay(at, counts);
        }
    }

    /// Sets every token counter to zero, forgets the calls of tools, and empties the series of tokens.
    /// Cost stays, and so do the calls of skills.
    pub fn clear(&self) {
        self.clear_dimension::<TokenCounts>();
        self.servers.for_each(|_, server| server.tools.clear());
        let now = Timestamp::now().unix_nanos();
        self.servers
            .for_each(|_, server| server.counting_since.store(now, Ordering::Relaxed));
    }

    /// Sets every cost counter to zero and empties the series of cost. Tokens stay.
    pub fn clear_cost(&self) {
        self.clear_dimension::<CostCounts>();
    }

    /// The cumulative counters of one server, and what of them was counted in this process; `None`
    /// when it never counted anything.
    pub(super) fn server_counts(
        &self,
        server: &ServerName,
    ) -> Option<(ServerCounts, ServerCounted)> {
        let server = self.servers.get(server);
        let (tokens, cost) = (server.counters.counted(), server.counters.counted());
        let tokens_total = server.counters.total_with(tokens.counts());
        let cost_total = server.counters.total_with(cost.counts());
        let tools = server.tools.calls();
        let has_counted = tokens_total.is_some() || cost_total.is_some() || !tools.is_empty();
        let counts = has_counted.then(|| ServerCounts {
            tokens: tokens_total.unwrap_or_default(),
            cost: cost_total,
            tools,
        })?;
        Some((counts, ServerCounted { tokens, cost }))
    }

    /// Forgets all that was counted of the servers that `is_covered` names. A server stays where it was
    /// counted, at zero.
    pub(super) fn forget(&self, is_covered: impl Fn(&str) -> bool) {
        if is_covered(SKILLS_SERVER) {
            self.skills.clear();
        }
        let now = Timestamp::now().unix_nanos();
        self.servers.for_each(|name, server| {
            if is_covered(name) {
                server.clear::<TokenCounts>();
                server.clear::<CostCounts>();
                server.tools.clear();
                server.counting_since.store(now, Ordering::Relaxed);
            }
        });
    }

    /// Forgets what was counted and restored of a server until `flushed`. What was counted since goes
    /// on to count, at the minute of `now`.
    pub(super) fn forget_flushed(
        &self,
        server: &ServerName,
        flushed: ServerCounted,
        flushed_tools: &Calls,
        now: Timestamp,
    ) {
        let Some(server) = self.servers.find(server) else {
            return;
        };
        server.tools.forget(flushed_tools);
        let tokens = server.counters.forget(flushed.tokens);
        let cost = server.counters.forget(flushed.cost);
        server.series.clear::<TokenCounts>();
        server.series.clear::<CostCounts>();
        server.series.replay(now, tokens);
        server.series.replay(now, cost);
        server
            .counting_since
            .store(now.unix_nanos(), Ordering::Relaxed);
    }

    /// The servers that were counted or restored.
    pub(super) fn servers(&self) -> Vec<ServerName> {
        let mut names = Vec::new();
        self.servers
            .for_each(|name, _| names.extend(ServerName::new(name).ok()));
        names
    }

    fn usage<T: Dimension>(&self) -> Usage<T> {
        let mut usage = Usage::default();
        self.servers.for_each(|name, server| {
            if let Some(counts) = server.counters.total() {
                T::add(&mut usage.session, counts);
                usage.servers.insert(name.to_owned(), counts);
            }
            let replicas = server.replicas.totals();
            if !replicas.is_empty() {
                usage.replicas.insert(name.to_owned(), replicas);
            }
        });
        usage.clients = self.clients.totals();
        usage
    }

    fn time_series<T: Dimension>(&self, range: Duration, now: Timestamp) -> TimeSeries<T> {
        let interval_minutes: i64 = if range <= BY_MINUTE_MAX { 1 } else { 60 };
        let last = series::minute(now);
        let minutes = i64::try_from(range.as_secs().div_ceil(60)).unwrap_or(i64::MAX);
        let first = last - minutes.min(SERIES_MINUTES) + 1;
        let mut session = BTreeMap::new();
        let mut servers = BTreeMap::new();
        self.servers.for_each(|name, server| {
            let mut points = BTreeMap::<i64, T>::new();
            for (minute, counts) in server.series.minutes::<T>(first, last) {
                let start = minute - minute.rem_euclid(interval_minutes);
                points.entry(start).or_default().add(counts);
                session.entry(start).or_insert_with(T::default).add(counts);
            }
            if !points.is_empty() {
                servers.insert(name.to_owned(), series_points(points));
            }
        });
        TimeSeries {
            interval_seconds: interval_minutes.unsigned_abs() * 60,
            session: series_points(session),
            servers,
        }
    }

    fn clear_dimension<T: Dimension>(&self) {
        self.servers.for_each(|_, server| {
            server.clear::<T>();
        });
        self.clients.for_each(|_, client| client.clear::<T>());
    }
}

impl fmt::Debug for Accumulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accumulator")
            .field("tokens", &self.snapshot().session)
            .field("cost", &self.cost_snapshot().session)
            .finish_non_exhaustive()
    }
}

impl Recorder {
    /// Counts a call of the attribution's tool. Without a tool it counts nothing.
    pub fn record_call(&self, at: Timestamp) {
        if let Some(tool) = &self.tool {
            tool.add_call(at);
        }
    }

    /// Counts tokens, also those of the attribution's tool. Counters stop at `i64::MAX`.
    pub fn record_tokens(&self, input_tokens: u64, output_tokens: u64, at: Timestamp) {
        let input = i64::try_from(input_tokens).unwrap_or(i64::MAX);
        let output = i64::try_from(output_tokens).unwrap_or(i64::MAX);
        if let Some(tool) = &self.tool {
            tool.add_tokens(input, output);
        }
        self.record(
            TokenCounts {
                input_tokens: input,
                output_tokens: output,
                total_tokens: input.saturating_add(output),
            },
            at,
        );
    }

    /// Counts a cost. One with a component below zero is [refused](Accumulator::refused).
    pub fn record_cost(&self, cost: CostCounts, at: Timestamp) {
        if cost.to_array().iter().any(|component| *component < 0) {
            count(&self.refused.negative);
            return;
        }
        self.record(cost, at);
    }

    /// Counts a cost, each component rounded to the nearest micro-USD. One with a component that is
    /// no number, below zero or beyond 64 bits is [refused](Accumulator::refused).
    pub fn record_cost_usd(&self, cost: CostUsd, at: Timestamp) {
        let refused = &self.refused;
        let components = [cost.input, cost.output, cost.cache_read, cost.cache_write];
        let mut micro_usd = [0; 4];
        for (micro_usd, component) in micro_usd.iter_mut().zip(components) {
            let rounded = (component * 1e6).round();
            if rounded.is_nan() {
                return count(&refused.not_a_number);
            }
            if component < 0.0 {
                return count(&refused.negative);
            }
            // 2^63 is exact as a float, and every float below it fits.
            if rounded >= 9_223_372_036_854_775_808.0 {
                return count(&refused.too_large);
            }
            #[expect(clippy::cast_possible_truncation, reason = "checked above")]
            {
                *micro_usd = rounded as i64;
            }
        }
        self.record(CostCounts::from_array(micro_usd), at);
    }

    fn record<T: Dimension>(&self, counts: T, at: Timestamp) {
        self.server.counters.add(counts);
        self.server.series.add(at, counts);
        for counters in self.replica.iter().chain(&self.client) {
            counters.add(counts);
        }
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

/// What a server counted in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ServerCounted {
    pub(super) tokens: Counted<TokenCounts>,
    pub(super) cost: Counted<CostCounts>,
}

struct Server {
    counters: Counters,
    series: Series,
    replicas: Names<Counters>,
    tools: Names<CallCounters>,
    /// In nanoseconds since the epoch.
    counting_since: AtomicI64,
}

impl Server {
    fn clear<T: Dimension>(&self) {
        self.counters.clear::<T>();
        self.series.clear::<T>();
        self.replicas.for_each(|_, replica| replica.clear::<T>());
    }
}

impl Default for Server {
    fn default() -> Server {
        Server {
            counters: Counters::default(),
            series: Series::default(),
            replicas: Names::default(),
            tools: Names::default(),
            counting_since: AtomicI64::new(Timestamp::now().unix_nanos()),
        }
    }
}

#[derive(Default)]
struct Refused {
    not_a_number: AtomicU64,
    negative: AtomicU64,
    too_large: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// What is counted under each of a growing set of names. None is ever taken away, so that whoever
/// holds what a name stands for counts where everybody looks.
struct Names<T> {
    map: RwLock<HashMap<Box<str>, Arc<T>>>,
}

impl<T> Default for Names<T> {
    fn default() -> Names<T> {
        Names {
            map: RwLock::default(),
        }
    }
}

impl<T: Default> Names<T> {
    fn get(&self, name: &str) -> Arc<T> {
        let name = if name.len() <= ServerName::BYTES_MAX {
            name
        } else {
            OTHER
        };
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = map.get(name) {
            return Arc::clone(found);
        }
        drop(map);
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        let name = if map.len() < NAMES_MAX || map.contains_key(name) {
            name
        } else {
            OTHER
        };
        Arc::clone(map.entry(name.into()).or_default())
    }

    fn find(&self, name: &str) -> Option<Arc<T>> {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        map.get(name).map(Arc::clone)
    }

    fn for_each(&self, mut visit: impl FnMut(&str, &T)) {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        for (name, value) in &*map {
            visit(name, value);
        }
    }
}

impl Names<Counters> {
    fn totals<T: Dimension>(&self) -> BTreeMap<String, T> {
        let mut totals = BTreeMap::new();
        self.for_each(|name, counters| {
            if let Some(counts) = counters.total() {
                totals.insert(name.to_owned(), counts);
            }
        });
        totals
    }
}

fn series_points<T>(points: BTreeMap<i64, T>) -> Vec<Point<T>> {
    points
        .into_iter()
        .map(|(minute, counts)| Point {
            time: series::minute_start(minute),
            counts,
        })
        .collect()
}

#[cfg(test)]
mod tests;
