//! One trace: its spans in the order of a tree, and its logs in their places.

use super::{
    known_time,
    summary::{Gathered, TraceSummary},
    tree::{Node, Placed, TracePlace, arrange},
};
use crate::{
    error::{Error, Result, excerpt},
    filter::Filter,
    read::{Damage, Query, RawRecord, StoredRecord},
    record::{Record, ServerName},
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
        match self.whole_id(id)? {
            Some((id, filter)) => self.whole_trace(&id, &filter, TimeRange::default()),
            None => Ok(None),
        }
    }

    /// The whole id that is meant by `id`, and the filter of its records. An id with all digits need not be stored.
    pub(super) fn whole_id(&self, id: &str) -> Result<Option<(String, Filter)>> {
        let part = Filter::trace_id(id)?;
        let id = id.trim().replace('-', "").to_ascii_lowercase();
        if id.len() == ID_DIGITS {
            return Ok(Some((id, part)));
        }
        let whole = self.resolve(&id, &part)?;
        Ok(whole.map(|whole| {
            // A log can have an id of another form, of which only the part is known.
            let filter = Filter::trace_id(&whole).unwrap_or(part);
            (whole, filter)
        }))
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
        let limits = Limits {
            records: Trace::RECORDS_MAX as u64,
            bytes: Trace::BYTES_MAX,
        };
        let mut keep = |record: &RawRecord<'_>| record.to_stored();
        let found = self.gather_trace(id, filter, range, limits, &mut keep)?;
        Ok(found.map(|found| Trace {
            summary: found.summary,
            logs: found.logs,
            entries: in_order(found.records),
            is_cut: found.is_cut,
            damage: found.damage,
        }))
    }

    /// What `keep` makes of the records of the trace with this whole id, the newest first: of spans, and then of
    /// logs, each within `limits`. A record for which `keep` fails is damaged.
    pub(super) fn gather_trace<T>(
        &self,
        id: &str,
        filter: &Filter,
        range: TimeRange,
        limits: Limits,
        keep: &mut dyn FnMut(&RawRecord<'_>) -> Result<T>,
    ) -> Result<Option<Found<T>>> {
        let mut gathered: Option<Gathered> = None;
        let scope = (id, filter, range);
        let mut spans = self.gather(
            Signal::Traces,
            scope,
            limits,
            &mut |record| {
                if let Some(head) = record.encoded().and_then(|it| it.span_head()) {
                    match &mut gathered {
                        Some(gathered) => gathered.add(record, head),
                        None => gathered = Some(Gathered::new(record, head)),
                    }
                }
            },
            keep,
        )?;
        let logs = self.gather(Signal::Logs, scope, limits, &mut |_| {}, keep)?;
        spans.damage.extend(logs.damage);
        let summary = match (gathered, logs.newest, logs.oldest) {
            (Some(gathered), ..) => gathered.finish(),
            (None, Some(end), Some((start, server))) => TraceSummary {
                trace_id: id.to_owned(),
                name: String::new(),
                server,
                is_rootless: true,
                start,
                end,
                duration: end.saturating_duration_since(start),
                spans: 0,
                errors: 0,
                servers: Vec::new(),
                tool: None,
                client: None,
            },
            _ => {
                if !spans.damage.is_empty() {
                    self.fail_at_damage(filter)?;
                }
                return Ok(None);
            }
        };
        spans.records.extend(logs.records);
        Ok(Some(Found {
            summary,
            logs: logs.found,
            records: spans.records,
            is_cut: spans.is_cut || logs.is_cut,
            damage: spans.damage,
        }))
    }

    /// The records of one signal of a trace, the newest first. Calls `visit` with each, also with those
    /// that are left out.
    fn gather<T>(
        &self,
        signal: Signal,
        (id, filter, range): (&str, &Filter, TimeRange),
        limits: Limits,
        visit: &mut dyn FnMut(&RawRecord<'_>),
        keep: &mut dyn FnMut(&RawRecord<'_>) -> Result<T>,
    ) -> Result<Kept<T>> {
        let query = Query::new(signal)
            .range(range)
            .filter(filter.clone())
            .direction(Direction::Backward)
            .skip_damaged();
        let mut scan = self.scan(&query)?;
        let mut gathered = Kept {
            records: Vec::new(),
            newest: None,
            oldest: None,
            found: 0,
            bytes: 0,
            is_cut: false,
            damage: Vec::new(),
        };
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
            if gathered.found > limits.records || gathered.bytes > limits.bytes {
                gathered.is_cut = true;
                continue;
            }
            match keep(&record) {
                Ok(kept) => {
                    gathered.newest = gathered.newest.or(Some(record.timestamp));
                    if signal == Signal::Logs {
                        gathered.oldest = Some((record.timestamp, record.server.clone()));
                    }
                    gathered.records.push(kept);
                }
                Err(error) => {
                    gathered.damage.push(Damage::of_record(&record, &error));
                }
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

/// How much of each signal of a trace is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) records: u64,
    /// Of the encoded records.
    pub(super) bytes: usize,
}

/// What was found of a trace.
#[derive(Debug)]
pub(super) struct Found<T> {
    pub(super) summary: TraceSummary,
    pub(super) logs: u64,
    pub(super) records: Vec<T>,
    pub(super) is_cut: bool,
    pub(super) damage: Vec<Damage>,
}

/// The records of a signal that are kept.
#[derive(Debug)]
struct Kept<T> {
    records: Vec<T>,
    newest: Option<Timestamp>,
    /// Of logs.
    oldest: Option<(Timestamp, ServerName)>,
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
    span_id_of(log.span_id().unwrap_or_default())
}

/// The bytes of a span id in a text; empty if it is none.
pub(super) fn span_id_of(text: &str) -> Vec<u8> {
    crate::otlp::id::decode_id(text, 8).unwrap_or_default()
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
