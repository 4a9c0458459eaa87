//! The records that a daemon loads into its buffers after a restart.

use super::{Query, StoredRecord};
use crate::{
    error::Result,
    otlp::foreign::is_foreign,
    record::{LogRecord, MetricsSnapshot, ServerName, SpanRecord},
    signal::Signal,
    store::{Snapshot, Store},
    time::Timestamp,
};
use std::{collections::HashMap, time::Duration};

/// History, and the sequence at which live data continues: no record is in both, and none is in
/// neither.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Seed<T> {
    /// The newest records of all servers merged by time, oldest first.
    pub records: Vec<T>,
    /// A lower bound for the sequence of every later record. Pass it to [`Query::since_sequence`]
    /// to read the records that arrived since.
    pub next_sequence: u64,
}

/// The spans of one trace.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SeededTrace {
    /// The trace id.
    pub trace_id: Vec<u8>,
    /// Whether any of the spans failed.
    pub is_error: bool,
    /// The spans with their servers, ordered by end time.
    pub spans: Vec<(ServerName, SpanRecord)>,
}

impl Store {
    /// The newest `count` log records of all servers.
    ///
    /// Fails like [`Snapshot::scan`].
    pub fn seed_logs(&self, count: usize) -> Result<Seed<(ServerName, LogRecord)>> {
        let snapshot = self.snapshot()?;
        let records = snapshot
            .last(&Query::new(Signal::Logs), count)?
            .into_iter()
            .filter_map(|stored| Some((stored.server, stored.record.into_log()?)))
            .collect();
        Ok(Seed {
            records,
            next_sequence: snapshot.next_sequence()?,
        })
    }

    /// The newest `count` spans of all servers, grouped by trace. Traces are ordered by their first
    /// span.
    ///
    /// Fails like [`Snapshot::scan`].
    pub fn seed_traces(&self, count: usize) -> Result<Seed<SeededTrace>> {
        let snapshot = self.snapshot()?;
        let mut traces: Vec<SeededTrace> = Vec::new();
        let mut places: HashMap<Vec<u8>, usize> = HashMap::new();
        for stored in snapshot.last(&Query::new(Signal::Traces), count)? {
            let Some(span) = stored.record.into_span() else {
                continue;
            };
            let next = traces.len();
            let place = *places.entry(span.span.trace_id.clone()).or_insert(next);
            if place == next {
                traces.push(SeededTrace {
                    trace_id: span.span.trace_id.clone(),
                    is_error: false,
                    spans: Vec::new(),
                });
            }
            if let Some(trace) = traces.get_mut(place) {
                trace.is_error |= span.is_error();
                trace.spans.push((stored.server, span));
            }
        }
        Ok(Seed {
            records: traces,
            next_sequence: snapshot.next_sequence()?,
        })
    }
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
    /// The snapshots in `range` of one server's counters, in order of arrival.
    ///
    /// Fails like [`Snapshot::scan`].
    pub(crate) fn metrics_of(
        &self,
        server: &ServerName,
        range: SeedRange,
    ) -> Result<Vec<MetricsSnapshot>> {
        let query = Query::new(Signal::Metrics)
            .server(server.clone())
            .range(range.since(self.view().wall_time())..);
        let mut stored = self.last(&query, range.count_max())?;
        stored.sort_unstable_by_key(|stored| stored.sequence);
        Ok(stored
            .into_iter()
            .filter_map(|stored: StoredRecord| stored.record.into_metrics())
            .filter(|snapshot| !is_foreign(snapshot))
            .collect())
    }
}
