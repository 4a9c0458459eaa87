//! A trace as a tree of records that are still encoded: for readers who look at a part of a large one.

use super::{
    known_time,
    summary::TraceSummary,
    trace::{Limits, span_id_of},
    tree::{Node, Placed, TracePlace, arrange},
};
use crate::{
    error::{Error, Result},
    read::{Damage, RawRecord},
    record::{Level, ServerName},
    signal::Signal,
    store::{ReadRecord, Snapshot, Store},
    time::{TimeRange, Timestamp},
};
use std::{collections::HashMap, ops::Range};

/// A trace of which only the places and the times are read. [`TraceTree::record`] returns single records.
///
/// Larger traces fit than in a [`Trace`](super::Trace), and a reader who shows some of its records need not
/// decode the others.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let home = tempfile::tempdir()?;
/// # let home = home.path();
/// # let store = gridctl_telemetry::Store::open(home, "my-stack", Default::default())?;
/// if let Some(tree) = store.snapshot()?.trace_tree("4bf92f35")? {
///     for node in tree.nodes.iter().filter(|node| node.is_error).take(10) {
///         println!("{:?}", tree.record(node).to_stored()?);
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TraceTree {
    /// The trace in short, counted over all its spans, also those that [`TraceTree::nodes`] leaves out.
    pub summary: TraceSummary,
    /// The number of log records that have the id of the trace.
    pub logs: u64,
    /// Its spans and logs in the order of the tree: parents before their children, siblings by their
    /// start.
    pub nodes: Vec<TraceNode>,
    /// Whether records were left out of `nodes`, because there are more than [`TraceTree::RECORDS_MAX`]
    /// or they are larger than [`TraceTree::BYTES_MAX`]. The spans that ended last are kept, and the last logs.
    pub is_cut: bool,
    /// Blocks and records that cannot be read and may belong to the trace.
    pub damage: Vec<Damage>,
    servers: Vec<ServerName>,
    payloads: Vec<u8>,
}

/// The place and the times of a record in a [`TraceTree`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TraceNode {
    /// The number of spans above it; 0 at the top.
    pub depth: usize,
    /// Why it stands there.
    pub place: TracePlace,
    /// The number of nodes below it, which follow it directly.
    pub below: usize,
    /// Whether it is a span or a log record.
    pub signal: Signal,
    /// When a span began, or else its end; the time of a log record.
    pub start: Timestamp,
    /// The timestamp that the record is stored under: when a span ended.
    pub end: Timestamp,
    /// Whether a span failed; whether a log record has the level ERROR or a higher one.
    pub is_error: bool,
    /// The record's number in the order of arrival in this database.
    pub sequence: u64,
    server: usize,
    payload: Range<usize>,
}

impl TraceTree {
    /// Maximum number of spans, and of log records, that a [`TraceTree`] holds.
    pub const RECORDS_MAX: usize = 100_000;
    /// Maximum encoded length of the spans, and of the log records, that a [`TraceTree`] holds, in bytes.
    pub const BYTES_MAX: usize = 24 << 20;

    /// The record of a node of this tree.
    #[must_use]
    pub fn record(&self, node: &TraceNode) -> RawRecord<'_> {
        // A server has one of the tree's servers, unless it is a node of another tree.
        let server = self.servers.get(node.server);
        RawRecord {
            server: server.unwrap_or(&self.summary.server),
            signal: node.signal,
            timestamp: node.end,
            sequence: node.sequence,
            content: ReadRecord::Payload(
                self.payloads.get(node.payload.clone()).unwrap_or_default(),
            ),
        }
    }
}

impl Snapshot {
    /// The trace with this id, of all servers, with its records still encoded. What `id` may be, what belongs
    /// to the trace and in which order, and the errors are those of [`Snapshot::trace`].
    pub fn trace_tree(&self, id: &str) -> Result<Option<TraceTree>> {
        let Some((id, filter)) = self.whole_id(id)? else {
            return Ok(None);
        };
        let limits = Limits {
            records: TraceTree::RECORDS_MAX as u64,
            bytes: TraceTree::BYTES_MAX,
        };
        let mut held = Held::default();
        let mut keep = |record: &RawRecord<'_>| held.keep(record);
        let range = TimeRange::default();
        let found = self.gather_trace(&id, &filter, range, limits, &mut keep)?;
        Ok(found.map(|found| TraceTree {
            nodes: in_order(found.records, &held),
            summary: found.summary,
            logs: found.logs,
            is_cut: found.is_cut,
            damage: found.damage,
            servers: held.servers,
            payloads: held.payloads,
        }))
    }
}

impl Store {
    /// The trace with this id, with its records still encoded; see [`Snapshot::trace_tree`].
    pub fn trace_tree(&self, id: &str) -> Result<Option<TraceTree>> {
        self.snapshot()?.trace_tree(id)
    }
}

/// The records that are kept.
#[derive(Debug, Default)]
struct Held {
    servers: Vec<ServerName>,
    numbers: HashMap<ServerName, usize>,
    payloads: Vec<u8>,
    ids: Vec<u8>,
}

/// A record that is kept, without its place.
#[derive(Debug)]
struct Unplaced {
    node: TraceNode,
    /// The id of a span, among [`Held::ids`].
    id: Range<usize>,
    /// The parent of a span, or the span that a log names.
    parent: Range<usize>,
}

impl Held {
    /// Fails with [`Error::InvalidRecord`] when it is no record of its signal.
    fn keep(&mut self, record: &RawRecord<'_>) -> Result<Unplaced> {
        let invalid = || Error::InvalidRecord {
            signal: record.signal,
            reason: "its head cannot be read".to_owned(),
        };
        let (mut start, mut id) = (record.timestamp, 0..0);
        let (is_error, parent);
        if record.signal == Signal::Traces {
            let head = record
                .encoded()
                .and_then(|it| it.span_head())
                .ok_or_else(invalid)?;
            start = known_time(head.start).unwrap_or(start);
            is_error = head.is_error;
            id = append(&mut self.ids, head.span_id);
            parent = append(&mut self.ids, head.parent_id);
        } else {
            is_error = record.level().ok_or_else(invalid)? >= Level::ERROR;
            let named = record.span_id().map(|id| span_id_of(&id));
            parent = append(&mut self.ids, &named.unwrap_or_default());
        }
        let server = if let Some(number) = self.numbers.get(record.server) {
            *number
        } else {
            let number = self.servers.len();
            self.servers.push(record.server.clone());
            self.numbers.insert(record.server.clone(), number);
            number
        };
        Ok(Unplaced {
            node: TraceNode {
                depth: 0,
                place: TracePlace::Root,
                below: 0,
                signal: record.signal,
                start,
                end: record.timestamp,
                is_error,
                sequence: record.sequence,
                server,
                payload: append(&mut self.payloads, &record.payload()),
            },
            id,
            parent,
        })
    }

    fn node<'a>(&'a self, unplaced: &'a Unplaced) -> Node<'a> {
        let id = |range: &Range<usize>| self.ids.get(range.clone()).unwrap_or_default();
        let node = &unplaced.node;
        Node {
            start: node.start.unix_nanos(),
            end: node.end.unix_nanos(),
            id: id(&unplaced.id),
            parent: id(&unplaced.parent),
            server: self.servers.get(node.server).map_or("", ServerName::as_str),
            is_log: node.signal != Signal::Traces,
        }
    }
}

/// Appends bytes, and returns where they are.
fn append(all: &mut Vec<u8>, bytes: &[u8]) -> Range<usize> {
    let first = all.len();
    all.extend_from_slice(bytes);
    first..all.len()
}

/// The nodes in the order of the tree.
fn in_order(records: Vec<Unplaced>, held: &Held) -> Vec<TraceNode> {
    let nodes: Vec<Node<'_>> = records.iter().map(|record| held.node(record)).collect();
    let placed = arrange(&nodes);
    drop(nodes);
    let mut records: Vec<Option<TraceNode>> =
        (records.into_iter().map(|record| Some(record.node))).collect();
    let node = |Placed {
                    index,
                    depth,
                    place,
                }: Placed| {
        let node = records.get_mut(index)?.take()?;
        Some(TraceNode {
            depth,
            place,
            ..node
        })
    };
    let mut nodes: Vec<TraceNode> = placed.into_iter().filter_map(node).collect();
    count_below(&mut nodes);
    nodes
}

/// Counts the nodes below each node.
fn count_below(nodes: &mut [TraceNode]) {
    // The numbers of nodes on each level since the last node above them.
    let mut open: Vec<usize> = Vec::new();
    for node in nodes.iter_mut().rev() {
        let below = open.drain(open.len().min(node.depth + 1)..).sum();
        node.below = below;
        open.resize(node.depth + 1, 0);
        if let Some(count) = open.last_mut() {
            *count += below + 1;
        }
    }
}
