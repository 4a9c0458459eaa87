//! What is known of a whole trace.

use super::{hex, known_time, serialize_nanos};
use crate::{
    filter::{Encoded, SpanHead},
    read::RawRecord,
    record::{ServerName, names::Names},
    time::Timestamp,
};
use std::{cmp::Reverse, time::Duration};

/// A trace in short: its root, its times, and the numbers of its spans.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct TraceSummary {
    /// The trace id in lower-case hex.
    pub trace_id: String,
    /// The name of the root: of the span without a parent that began first, else of the span that began
    /// first. Empty for a trace of which only logs are stored.
    pub name: String,
    /// The server of the root, or of the first log.
    pub server: ServerName,
    /// Whether the root has a parent that is not stored.
    pub is_rootless: bool,
    /// When the first span began. A span that does not say when it began counts from its end.
    pub start: Timestamp,
    /// When the last span ended.
    pub end: Timestamp,
    /// From the start to the end.
    #[serde(rename = "durationNanos", serialize_with = "serialize_nanos")]
    pub duration: Duration,
    /// The number of spans.
    pub spans: u64,
    /// The number of spans that failed.
    pub errors: u64,
    /// The servers of the spans, sorted.
    pub servers: Vec<ServerName>,
    /// The tool that was called: the attribute `tool.name`, `tool` or `gen_ai.tool.name` of the span that
    /// ended first of those that have one.
    pub tool: Option<String>,
    /// The client that called: the attribute `client.name` or `client`, likewise.
    pub client: Option<String>,
}

/// A trace whose spans are being read, the one that ended last first.
#[derive(Debug)]
pub(super) struct Gathered {
    pub(super) trace_id: Vec<u8>,
    root: Root,
    name: String,
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    spans: u64,
    pub(super) errors: u64,
    servers: Vec<ServerName>,
    tool: Option<String>,
    client: Option<String>,
    /// Whether a span was found that the query asks for.
    pub(super) is_wanted: bool,
}

/// What decides which span is the root: the smallest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Root {
    has_parent: bool,
    start: Timestamp,
    end: Reverse<Timestamp>,
    server: ServerName,
}

impl Gathered {
    /// A trace of this one span.
    pub(super) fn new(record: &RawRecord<'_>, head: SpanHead<'_>) -> Gathered {
        let start = known_time(head.start).unwrap_or(record.timestamp);
        let mut gathered = Gathered {
            trace_id: head.trace_id.to_vec(),
            root: Root {
                has_parent: !head.parent_id.is_empty(),
                start,
                end: Reverse(record.timestamp),
                server: record.server.clone(),
            },
            name: head.name.to_owned(),
            start,
            end: record.timestamp,
            spans: 0,
            errors: 0,
            servers: Vec::new(),
            tool: None,
            client: None,
            is_wanted: false,
        };
        gathered.add(record, head);
        gathered
    }

    pub(super) fn add(&mut self, record: &RawRecord<'_>, head: SpanHead<'_>) {
        let start = known_time(head.start).unwrap_or(record.timestamp);
        let (has_parent, end) = (!head.parent_id.is_empty(), Reverse(record.timestamp));
        let known = &self.root;
        if (has_parent, start, end) < (known.has_parent, known.start, known.end) {
            self.root = Root {
                has_parent,
                start,
                end,
                server: record.server.clone(),
            };
            head.name.clone_into(&mut self.name);
        }
        self.start = self.start.min(start);
        self.end = self.end.max(record.timestamp);
        self.spans += 1;
        self.errors += u64::from(head.is_error);
        if let Err(place) = self.servers.binary_search(record.server) {
            self.servers.insert(place, record.server.clone());
        }
        let names = Names::read(record.encoded().iter().flat_map(Encoded::span_texts));
        for (known, found) in [
            (&mut self.tool, names.tool),
            (&mut self.client, names.client),
        ] {
            if let Some(found) = found
                && known.as_deref() != Some(found)
            {
                *known = Some(found.to_owned());
            }
        }
    }

    /// Whether the root is stored.
    pub(super) fn has_root(&self) -> bool {
        !self.root.has_parent
    }

    pub(super) fn duration(&self) -> Duration {
        self.end.saturating_duration_since(self.start)
    }

    pub(super) fn finish(self) -> TraceSummary {
        TraceSummary {
            duration: self.duration(),
            trace_id: hex(&self.trace_id),
            name: self.name,
            server: self.root.server,
            is_rootless: self.root.has_parent,
            start: self.start,
            end: self.end,
            spans: self.spans,
            errors: self.errors,
            servers: self.servers,
            tool: self.tool,
            client: self.client,
        }
    }
}
