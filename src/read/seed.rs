//! The records that a daemon loads into its buffers after a restart.

use super::{Damage, Query, StoredRecord};
use crate::{
    error::Result,
    otlp::foreign::is_foreign,
    record::{LogRecord, MetricsSnapshot, ServerName, SpanRecord},
    signal::Signal,
    store::{Direction, Snapshot, Store},
    time::Timestamp,
};
use std::{collections::HashMap, time::Duration};

/// History that can be read, and the sequence at which live data continues: no record is in both, and none is in
/// neither.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Seed<T> {
    /// The newest records of all servers merged by time, oldest first.
    pub records: Vec<T>,
    /// A lower bound for the sequence of every later record. Pass it to [`Query::since_sequence`]
    /// to read the records that arrived since.
    pub next_sequence: u64,
    /// What is damaged among the stored records, and was left out.
    pub damage: Vec<Damage>,
}

/// The spans of one trace.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SeededTrace {
    /// The trace id.
    pub trace_id: Vec<u8>,
    /// Whether any of the spans failed.
    pub is_error: bool,
    /// Whether older spans of the trace are stored and were left out because of the limit. Spans that
    /// ended more than ten minutes before the earliest start of all seeded spans are not looked for.
    pub is_cut: bool,
    /// The tool that was called: the first attribute `tool.name`, `tool` or
    /// `gen_ai.tool.name` of a span.
    pub tool: Option<String>,
    /// The client that called: the first attribute `client.name` or `client` of a span.
    pub client: Option<String>,
    /// The spans with their servers, ordered by end time.
    pub spans: Vec<(ServerName, SpanRecord)>,
}

impl Store {
    /// The newest `count` log records of all servers.
    ///
    /// Fails like [`Snapshot::scan`].
    pub fn seed_logs(&self, count: usize) -> Result<Seed<(ServerName, LogRecord)>> {
        let snapshot = self.snapshot()?;
        let query = Query::new(Signal::Logs).skip_damaged();
        let (stored, damage) = snapshot.last_and_damage(&query, count)?;
        let logs = stored.into_iter();
        let logs = logs.filter_map(|stored| Some((stored.server, stored.record.into_log()?)));
        Ok(Seed {
            records: logs.collect(),
            next_sequence: snapshot.next_sequence()?,
            damage,
        })
    }

    /// The newest `count` spans of all servers, grouped by trace. Traces are ordered by their first
    /// span.
    ///
    /// Fails like [`Snapshot::scan`].
    pub fn seed_traces(&self, count: usize) -> Result<Seed<SeededTrace>> {
        self.seed_traces_of(&ScopeFilter::All, count)
    }

    /// Does what [`Store::seed_traces`] does, for the spans of some scopes alone.
    ///
    /// Fails like [`Snapshot::scan`].
    pub fn seed_traces_of(&self, scopes: &ScopeFilter, count: usize) -> Result<Seed<SeededTrace>> {
        let snapshot = self.snapshot()?;
        let query = Query::new(Signal::Traces).direction(Direction::Backward);
        let mut stored = snapshot.scan(&query.skip_damaged())?.records();
        let mut newest = Vec::new();
        while newest.len() < count
            && let Some(stored) = stored.next().transpose()?
        {
            let span = stored.record.into_span();
            let span = span.filter(|span| scopes.matches(span));
            newest.extend(span.map(|span| (stored.server, span)));
        }
        newest.reverse();
        let mut traces: Vec<SeededTrace> = Vec::new();
        let mut places: HashMap<Vec<u8>, usize> = HashMap::new();
        let mut looked_for_since = Timestamp::MAX;
        for (server, span) in newest {
            looked_for_since = looked_for_since.min(earliest_relative(&span));
            let next = traces.len();
            let place = *places.entry(span.span.trace_id.clone()).or_insert(next);
            if place == next {
                traces.push(SeededTrace::new(span.span.trace_id.clone()));
            }
            if let Some(trace) = traces.get_mut(place) {
                trace.add(server, span);
            }
        }
        // The older spans, which the limit left out.
        while !traces.is_empty()
            && let Some(stored) = stored.next().transpose()?
            && stored.timestamp >= looked_for_since
        {
            let span = stored.record.into_span();
            if let Some(span) = span.filter(|span| scopes.matches(span))
                && let Some(place) = places.get(&span.span.trace_id)
                && let Some(trace) = traces.get_mut(*place)
            {
                trace.is_cut = true;
            }
        }
        Ok(Seed {
            records: traces,
            next_sequence: snapshot.next_sequence()?,
            damage: stored.damage(),
        })
    }
}

/// The scopes whose spans are read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ScopeFilter {
    /// Every scope, and spans without one.
    #[default]
    All,
    /// The scopes whose name begins so.
    Prefix(String),
}

impl ScopeFilter {
    /// The scopes of gridctl itself, which begin with `gridctl.`, and none of its infrastructure.
    #[must_use]
    pub fn gridctl() -> ScopeFilter {
        ScopeFilter::Prefix("gridctl.".to_owned())
    }

    fn matches(&self, span: &SpanRecord) -> bool {
        match self {
            ScopeFilter::All => true,
            ScopeFilter::Prefix(prefix) => span
                .scope
                .as_ref()
                .is_some_and(|scope| scope.name.starts_with(prefix)),
        }
    }
}

impl SeededTrace {
    fn new(trace_id: Vec<u8>) -> SeededTrace {
        SeededTrace {
            trace_id,
            is_error: false,
            is_cut: false,
            tool: None,
            client: None,
            spans: Vec::new(),
        }
    }

    fn add(&mut self, server: ServerName, span: SpanRecord) {
        self.is_error |= span.is_error();
        for (known, found) in [
            (&mut self.tool, span.tool()),
            (&mut self.client, span.client()),
        ] {
            if known.is_none() {
                *known = found.map(str::to_owned);
            }
        }
        self.spans.push((server, span));
    }
}

/// How long before its earliest span that is known a trace may have begun, for it to be found cut.
const LOOK_BACK_NANOS: i64 = 10 * 60_000_000_000;

/// The earliest end of a span that is looked for because it belongs to the trace of `span`.
fn earliest_relative(span: &SpanRecord) -> Timestamp {
    let start = match span.span.start_time_unix_nano {
        // Unknown.
        0 => span.timestamp().unix_nanos(),
        start => i64::try_from(start).unwrap_or(i64::MAX),
    };
    Timestamp::from_unix_nanos(start.saturating_sub(LOOK_BACK_NANOS))
}

/// The amount of history to read.
///
/// ```
/// use gridctl_telemetry::query::SeedRange;
/// use std::time::Duration;
///
/// assert_eq!(SeedRange::from(Duration::from_secs(60)), SeedRange::Within(Duration::from_secs(60)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SeedRange {
    /// The newest records of each server, at most this number.
    Newest(usize),
    /// The records of this span of time before the present, by the system clock.
    Within(Duration),
}

impl Default for SeedRange {
    /// The 10,000 minutes covered by the series of an [`Accumulator`](crate::metrics::Accumulator).
    fn default() -> SeedRange {
        SeedRange::Within(Duration::from_secs(10_000 * 60))
    }
}

impl From<usize> for SeedRange {
    fn from(count: usize) -> SeedRange {
        SeedRange::Newest(count)
    }
}

impl From<Duration> for SeedRange {
    fn from(span: Duration) -> SeedRange {
        SeedRange::Within(span)
    }
}

impl SeedRange {
    /// The earliest timestamp in the range.
    pub(crate) fn since(self, now: Timestamp) -> Timestamp {
        match self {
            SeedRange::Newest(_) => Timestamp::MIN,
            SeedRange::Within(span) => {
                let span = i64::try_from(span.as_nanos()).unwrap_or(i64::MAX);
                Timestamp::from_unix_nanos(now.unix_nanos().saturating_sub(span))
            }
        }
    }

    /// Maximum number of records in the range.
    pub(crate) fn count_max(self) -> usize {
        match self {
            SeedRange::Newest(count) => count,
            SeedRange::Within(_) => usize::MAX,
        }
    }
}

impl Snapshot {
    /// The snapshots in `range` of one server's counters, in order of arrival, and what of them is damaged.
    ///
    /// Fails like [`Snapshot::scan`].
    pub(crate) fn metrics_of(
        &self,
        server: &ServerName,
        range: SeedRange,
    ) -> Result<(Vec<MetricsSnapshot>, Vec<Damage>)> {
        let query = Query::new(Signal::Metrics)
            .server(server.clone())
            .range(range.since(self.view().wall_time())..)
            .skip_damaged();
        let (mut stored, damage) = self.last_and_damage(&query, range.count_max())?;
        stored.sort_unstable_by_key(|stored| stored.sequence);
        let snapshots = stored
            .into_iter()
            .filter_map(|stored: StoredRecord| stored.record.into_metrics())
            .filter(|snapshot| !is_foreign(snapshot));
        Ok((snapshots.collect(), damage))
    }
}
