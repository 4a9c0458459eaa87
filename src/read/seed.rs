//! The records that a daemon loads into its buffers after a restart.

use super::{Query, StoredRecord};
use crate::{
    error::Result,
    otlp::foreign::is_foreign,
    record::{LogRecord, MetricsSnapshot, ServerName, SpanRecord},
    signal::Signal,
    store::{Snapshot, Store},
};
use std::collections::HashMap;

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

impl Snapshot {
    /// The newest `count` metrics snapshots of each server, oldest first.
    ///
    /// Fails like [`Snapshot::scan`].
    pub(crate) fn last_metrics(
        &self,
        count: usize,
    ) -> Result<Vec<(ServerName, Vec<MetricsSnapshot>)>> {
        self.view()
            .series()?
            .into_iter()
            .filter(|entry| entry.signal == Signal::Metrics)
            .map(|entry| {
                let query = Query::new(Signal::Metrics).server(entry.server.clone());
                let snapshots = self
                    .last(&query, count)?
                    .into_iter()
                    .filter_map(|stored: StoredRecord| stored.record.into_metrics())
                    .filter(|snapshot| !is_foreign(snapshot))
                    .collect();
                Ok((entry.server, snapshots))
            })
            .collect()
    }
}
