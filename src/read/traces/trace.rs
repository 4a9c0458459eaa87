//! One trace: its spans in the order of a tree, and its logs in their places.

use super::{
    known_time,
    summary::{Gathered, TraceSummary, between},
    tree::{Node, Placed, TracePlace, arrange},
};
use crate::{
    error::{Error, Result, excerpt},
    filter::Filter,
    read::{Damage, Query, RawRecord, StoredRecord},
    record::Record,
    signal::Signal,
    store::{Direction, Snapshot, Store},
    time::{TimeRange, Timestamp},
};
/// The number of digits of a trace id.
const ID_DIGITS: usize = 32;
/// Maximum number of ids in the error about a part of an id that several traces have.
const AMBIGUOUS_MAX: usize = 10;

/// All that is stored of one trace.
///
/// ```
/// use gridctl_telemetry::Record;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let home = tempfile::tempdir()?;
/// # let home = home.path();
/// # let store = gridctl_telemetry::Store::open(home, "my-stack", Default::default())?;
/// if let Some(trace) = store.snapshot()?.trace("4bf92f35")? {
///     for entry in &trace.entries {
///         let indent = "  ".repeat(entry.depth);
///         match &entry.stored.record {
///             Record::Span(span) => println!("{indent}{}", span.span.name),
///             Record::Log(log) => println!("{indent}- {}", log.message),
///             _ => {}
///         }
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Trace {
    /// The trace in short, counted over all its spans, also those that [`Trace::entries`] leaves out.
    pub summary: TraceSummary,
    /// The number of log records that have the id of the trace.
    pub logs: u64,
    /// Its spans and logs in the order of the tree: parents before their children, siblings by their
    /// start.
    pub entries: Vec<TraceEntry>,
    /// Whether records were left out of `entries`, because there are more than [`Trace::RECORDS_MAX`]
    /// or they are larger than [`Trace::BYTES_MAX`]. The spans that ended last are kept, and with them the
    /// root; and the last logs.
    pub is_cut: bool,
    /// Blocks and records that cannot be read and may belong to the trace.
    pub damage: Vec<Damage>,
}

/// A span or a log record of a trace, and its place.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TraceEntry {
    /// The number of spans above it; 0 at the top.
    pub depth: usize,
    /// Why it stands there.
    pub place: TracePlace,
    /// The record: a [`Record::Span`] or a [`Record::Log`].
    pub stored: StoredRecord,
}

impl Trace {
    /// Maximum number of spans, and of log records, that a [`Trace`] holds.
    pub const RECORDS_MAX: usize = 20_000;
    /// Maximum encoded length of the spans, and of the log records, that a [`Trace`] holds, in bytes.
    pub const BYTES_MAX: usize = 8 << 20;
}

impl Snapshot {
    /// The trace with this id, of all servers: 32 hex digits in any case, or a part of them. `None` when
    /// neither a span nor a log record has it. Of several traces whose id has that part, the one whose id
    /// begins with it is meant.
    ///
    /// A log record stands below the span that its attribute `span_id` names. If that span is not stored,
    /// or the record names none, it stands below the span of its server, else of any server, that was
    /// running at its time and began last.
    ///
    /// What cannot be read is skipped and named in [`Trace::damage`]; if nothing is found, it is an error. Fails
    /// with [`Error::InvalidFilter`] when
    /// `id` is not a part of an id, with [`Error::AmbiguousTraceId`] when several traces are meant, and like
    /// [`Snapshot::scan`].
    pub fn trace(&self, id: &str) -> Result<Option<Trace>> {
        let part = Filter::trace_id(id)?;
        let id = id.trim().replace('-', "").to_ascii_lowercase();
        if id.len() == ID_DIGITS {
            return self.whole_trace(&id, &part, TimeRange::default());
        }
        match self.resolve(&id, &part)? {
            Some(whole) => {
                // A log can have an id of another form, of which only the part is known.
                let filter = Filter::trace_id(&whole).unwrap_or(part);
                self.whole_trace(&whole, &filter, TimeRange::default())
            }
            None => Ok(None),
        }
    }

    /// The only whole id that is meant by a part of it.
    fn resolve(&self, part: &str, filter: &Filter) -> Result<Option<String>> {
        let (mut beginning, mut containing) = (Vec::new(), Vec::new());
        let mut is_damaged = false;
        'signals: for signal in [Signal::Traces, Signal::Logs] {
            let query = Query::new(signal)
                .filter(filter.clone())
                .direction(Direction::Backward)
                .skip_damaged();
            let mut scan = self.scan(&query)?;
            while let Some(record) = scan.next()? {
                let Some(id) = record.trace_id() else {
                    continue;
                };
                let found = if id.to_ascii_lowercase().starts_with(part) {
                    &mut beginning
                } else {
                    &mut containing
                };
                let is_known = found
                    .iter()
                    .any(|known: &String| known.eq_ignore_ascii_case(&id));
                if !is_known && found.len() <= AMBIGUOUS_MAX {
                    found.push(id.to_ascii_lowercase());
                }
                if beginning.len() > AMBIGUOUS_MAX {
                    break 'signals;
                }
            }
            is_damaged |= !scan.damage().is_empty();
        }
        let mut found = if beginning.is_empty() {
            containing
        } else {
            beginning
        };
        if found.len() > 1 {
            return Err(Error::AmbiguousTraceId {
                part: excerpt(part),
                has_more: found.len() > AMBIGUOUS_MAX,
                ids: found.into_iter().take(AMBIGUOUS_MAX).collect(),
            });
        }
        if found.is_empty() && is_damaged {
            self.fail_at_damage(filter)?;
        }
        Ok(found.pop())
    }

    /// Fails at the first damage in which a trace may be that was not found.
    fn fail_at_damage(&self, filter: &Filter) -> Result<()> {
        for signal in [Signal::Traces, Signal::Logs] {
            let mut scan = self.scan(&Query::new(signal).filter(filter.clone()))?;
            while scan.next()?.is_some() {}
        }
        Ok(())
    }

    /// The trace with this whole id, as far as it is in `range`.
    pub(super) fn whole_trace(
        &self,
        id: &str,
        filter: &Filter,
        range: TimeRange,
    ) -> Result<Option<Trace>> {
        let mut gathered: Option<Gathered> = None;
        let spans = self.gather(Signal::Traces, id, filter, range, |record| {
            let Some(head) = record.encoded().span_head() else {
                return;
            };
            match &mut gathered {
                Some(gathered) => gathered.add(record, head),
                None => gathered = Some(Gathered::new(record, head)),
            }
        })?;
        let logs = self.gather(Signal::Logs, id, filter, range, |_| {})?;
        let summary = match (gathered, logs.records.first(), logs.records.last()) {
            (Some(gathered), ..) => gathered.finish(),
            // The newest comes first.
            (None, Some(last), Some(first)) => TraceSummary {
                trace_id: id.to_owned(),
                name: String::new(),
                server: first.server.clone(),
                is_rootless: true,
                start: first.timestamp,
                end: last.timestamp,
                duration: between(first.timestamp, last.timestamp),
                spans: 0,
                errors: 0,
                servers: Vec::new(),
                tool: None,
                client: None,
            },
            _ => {
                if !(spans.damage.is_empty() && logs.damage.is_empty()) {
                    self.fail_at_damage(filter)?;
                }
                return Ok(None);
            }
        };
        let is_cut = spans.is_cut || logs.is_cut;
        let logs_found = logs.found;
        let (mut records, mut damage) = (spans.records, spans.damage);
        records.extend(logs.records);
        damage.extend(logs.damage);
        Ok(Some(Trace {
            summary,
            logs: logs_found,
            entries: in_order(records),
            is_cut,
            damage,
        }))
    }

    /// The records of one signal of a trace, the newest first. Calls `visit` with each, also with those
    /// that are left out.
    fn gather(
        &self,
        signal: Signal,
        id: &str,
        filter: &Filter,
        range: TimeRange,
        mut visit: impl FnMut(&RawRecord<'_>),
    ) -> Result<Kept> {
        let query = Query::new(signal)
            .range(range)
            .filter(filter.clone())
            .direction(Direction::Backward)
            .skip_damaged();
        let mut scan = self.scan(&query)?;
        let mut gathered = Kept::default();
        while let Some(record) = scan.next()? {
            // The filter may be a part of the id.
            let is_of_trace = record
                .trace_id()
                .is_some_and(|found| found.eq_ignore_ascii_case(id));
            if !is_of_trace {
                continue;
            }
            visit(&record);
            gathered.found += 1;
            gathered.bytes += record.payload_bytes();
            // Once one is left out, all older ones are, so that no gap is in the middle.
            if gathered.found <= Trace::RECORDS_MAX as u64 && gathered.bytes <= Trace::BYTES_MAX {
                match record.to_stored() {
                    Ok(stored) => gathered.records.push(stored),
                    Err(error) => gathered.damage.push(Damage::of_record(&record, &error)),
                }
            } else {
                gathered.is_cut = true;
            }
        }
        gathered.damage.extend(scan.damage());
        Ok(gathered)
    }
}

impl Store {
    /// The trace with this id; see [`Snapshot::trace`].
    pub fn trace(&self, id: &str) -> Result<Option<Trace>> {
        self.snapshot()?.trace(id)
    }
}

/// The records of a trace that are kept.
#[derive(Debug, Default)]
struct Kept {
    records: Vec<StoredRecord>,
    found: u64,
    bytes: usize,
    is_cut: bool,
    damage: Vec<Damage>,
}

/// The records in the order of the tree.
fn in_order(records: Vec<StoredRecord>) -> Vec<TraceEntry> {
    let span_ids: Vec<Vec<u8>> = records.iter().map(named_span).collect();
    let nodes: Vec<Node<'_>> = records.iter().zip(&span_ids).map(node).collect();
    let placed = arrange(&nodes);
    drop(nodes);
    let mut records: Vec<Option<StoredRecord>> = records.into_iter().map(Some).collect();
    let entry = |Placed {
                     index,
                     depth,
                     place,
                 }: Placed| {
        let stored = records.get_mut(index)?.take()?;
        Some(TraceEntry {
            depth,
            place,
            stored,
        })
    };
    placed.into_iter().filter_map(entry).collect()
}

/// The id of the span that a log names.
fn named_span(stored: &StoredRecord) -> Vec<u8> {
    let Record::Log(log) = &stored.record else {
        return Vec::new();
    };
    let id = log.span_id().unwrap_or_default();
    crate::otlp::id::decode_id(id, 8).unwrap_or_default()
}

fn node<'a>((stored, span_id): (&'a StoredRecord, &'a Vec<u8>)) -> Node<'a> {
    let end = stored.timestamp.unix_nanos();
    let server = stored.server.as_str();
    match &stored.record {
        Record::Span(record) => Node {
            start: known_time(record.span.start_time_unix_nano).map_or(end, Timestamp::unix_nanos),
            end,
            id: &record.span.span_id,
            parent: &record.span.parent_span_id,
            server,
            is_log: false,
        },
        _ => Node {
            start: end,
            end,
            id: &[],
            parent: span_id,
            server,
            is_log: true,
        },
    }
}
