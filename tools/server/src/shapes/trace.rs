use gridctl_telemetry::{
    ServerName, Signal, Timestamp,
    lines::{JsonView, LineFormat},
    query::{Trace, TraceEntry, TracePlace, TraceSummary},
};
use serde::Serialize;

/// A trace, with its spans and logs in the order of its tree.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TraceShape<'a> {
    #[serde(flatten)]
    summary: &'a TraceSummary,
    logs: u64,
    is_cut: bool,
    entries: Vec<Entry<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    depth: usize,
    place: TracePlace,
    signal: Signal,
    server: &'a ServerName,
    timestamp: Timestamp,
    record: JsonView<'a>,
}

impl<'a> Entry<'a> {
    fn new(entry: &'a TraceEntry) -> Entry<'a> {
        Entry {
            depth: entry.depth,
            place: entry.place,
            signal: entry.stored.record.signal(),
            server: &entry.stored.server,
            timestamp: entry.stored.timestamp,
            record: entry.stored.json(LineFormat::Ndjson),
        }
    }
}

impl<'a> TraceShape<'a> {
    /// A trace that was read.
    #[must_use]
    pub fn new(trace: &'a Trace) -> TraceShape<'a> {
        TraceShape {
            summary: &trace.summary,
            logs: trace.logs,
            is_cut: trace.is_cut,
            entries: trace.entries.iter().map(Entry::new).collect(),
        }
    }
}
