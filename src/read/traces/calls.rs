//! Calls of tools: the spans that name a tool.
//!
//! A gateway and the client inside it both have a span for one call, and both may name the tool. So a span
//! is a call unless a span above it names the same tool. Which spans are above it is known from a window of
//! spans around it in the order of their ends, so memory does not grow with the number of spans.

use super::{
    best::Best, durations::Durations, hex, known_time, reason::CallError, serialize_nanos_or_null,
    shifted, trace::Trace,
};
use crate::{
    error::Result,
    filter::{Encoded, Filter, TextPattern},
    read::{Damage, Query, RawRecord},
    record::{
        ServerName,
        calls::{CALL_NAME_BYTES_MAX, CALL_NAMES_MAX},
        names::Names,
    },
    store::{Snapshot, Store},
    time::{TimeRange, Timestamp},
};
use hashbrown::HashMap;
use std::{collections::VecDeque, time::Duration};

/// The number of spans that end before a span and after it, among which the spans above it are looked for.
const WINDOW_SPANS: u64 = 32_768;
/// Maximum number of spans above a span that are looked at.
const ANCESTORS_MAX: usize = 64;
/// How long after the range of a query the spans above its calls are looked for.
const LOOK_AHEAD_NANOS: i64 = 10 * 60_000_000_000;
/// How long before the start of a call and after its end its reason is looked for.
const REASON_SLACK_NANOS: i64 = 60_000_000_000;
/// Maximum number of failed calls whose reason is looked for in their traces.
const REASONS_MAX: usize = 1000;

/// Which calls of tools to read, and in which order.
///
/// A call is a span that names a tool in its attribute `tool.name`, `tool` or `gen_ai.tool.name`, unless a
/// span above it in its trace names the same tool.
///
/// ```
/// use gridctl_telemetry::{Query, Signal, query::{CallQuery, Filter}};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let home = tempfile::tempdir()?;
/// # let home = home.path();
/// # let store = gridctl_telemetry::Store::open(home, "my-stack", Default::default())?;
/// let all = CallQuery::new(Query::new(Signal::Traces));
/// for tool in store.tools(&all)?.tools {
///     println!("{} {}: {} calls, {} failed", tool.server, tool.tool, tool.calls, tool.errors);
/// }
/// let failed = CallQuery::new(Query::new(Signal::Traces).filter(Filter::failed()));
/// for call in store.calls(&failed, 20)?.calls {
///     println!("{} {}: {:?}", call.server, call.tool, call.error);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct CallQuery {
    spans: Query,
    tool: Option<TextPattern>,
    slowest_first: bool,
}

impl CallQuery {
    /// The calls whose spans `spans` asks for, the one that ended last first. The direction, the signal and
    /// the cursor of `spans` do not matter.
    pub fn new(spans: Query) -> CallQuery {
        CallQuery {
            spans,
            tool: None,
            slowest_first: false,
        }
    }

    /// Only calls of tools in whose names `pattern` is found.
    pub fn tool(mut self, pattern: TextPattern) -> CallQuery {
        self.tool = Some(pattern);
        self
    }

    /// The call that took longest comes first.
    pub fn slowest_first(mut self) -> CallQuery {
        self.slowest_first = true;
        self
    }

    /// Whether the query asks for a call, apart from its time.
    fn wants(&self, tool: &str, record: &RawRecord<'_>) -> bool {
        let pattern = self.tool.as_ref();
        pattern.is_none_or(|pattern| pattern.is_match(tool)) && self.spans.wants(record)
    }
}

/// One call of a tool.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Call {
    /// The server of the call.
    pub server: ServerName,
    /// The tool.
    pub tool: String,
    /// The client, where the span names one.
    pub client: Option<String>,
    /// The id of the trace, in lower-case hex; empty if the span has none.
    pub trace_id: String,
    /// The id of the span, in lower-case hex; empty if the span has none.
    pub span_id: String,
    /// When the call began; `None` when unknown.
    pub start: Option<Timestamp>,
    /// When the call ended, or else began.
    pub end: Timestamp,
    /// How long it took; `None` when its start is unknown.
    #[serde(rename = "durationNanos", serialize_with = "serialize_nanos_or_null")]
    pub duration: Option<Duration>,
    /// Whether it failed.
    pub is_error: bool,
    /// Why it failed; `None` if it did not, and when nothing says why.
    pub error: Option<CallError>,
}

/// The calls that a [`CallQuery`] asks for.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct CallList {
    /// The calls, in the order of the query.
    pub calls: Vec<Call>,
    /// Whether there are more.
    pub has_more: bool,
    /// The damage that was skipped, see [`Query::skip_damaged`]. Not a part of the JSON.
    #[serde(skip)]
    pub damage: Vec<Damage>,
}

/// The tools whose calls a [`CallQuery`] asks for.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ToolList {
    /// The tools: the one that was called most comes first.
    pub tools: Vec<ToolStats>,
    /// The damage that was skipped, see [`Query::skip_damaged`]. Not a part of the JSON.
    #[serde(skip)]
    pub damage: Vec<Damage>,
}

/// The calls of one tool of a server.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ToolStats {
    /// The server.
    pub server: ServerName,
    /// The tool. After 4096 tools, all others together are `(others)`.
    pub tool: String,
    /// The number of calls.
    pub calls: u64,
    /// The number of calls that failed.
    pub errors: u64,
    /// The duration that half of the calls did not exceed; `None` when no duration is known.
    #[serde(rename = "medianNanos", serialize_with = "serialize_nanos_or_null")]
    pub median: Option<Duration>,
    /// The duration that 95 % of the calls did not exceed.
    #[serde(
        rename = "percentile95Nanos",
        serialize_with = "serialize_nanos_or_null"
    )]
    pub percentile_95: Option<Duration>,
    /// The longest duration.
    #[serde(rename = "maxNanos", serialize_with = "serialize_nanos_or_null")]
    pub max: Option<Duration>,
    /// Whether the median and the percentile are exact. Those of more than 512 calls are at most 1 % off.
    pub is_exact: bool,
    /// When the last call ended.
    pub last: Timestamp,
}

impl Snapshot {
    /// The calls that `query` asks for by tool: the tool that was called most comes first.
    ///
    /// Reads all spans in the range of the query. Memory grows with the number of tools, of which at most
    /// 4096 are told apart. Fails like [`Snapshot::traces`].
    pub fn tools(&self, query: &CallQuery) -> Result<ToolList> {
        let mut tools: HashMap<(ServerName, String), Tally> = HashMap::new();
        let damage = self.each_call(query, &mut |call| {
            let mut tool = (call.server, call.tool);
            if tool.1.len() > CALL_NAME_BYTES_MAX
                || (tools.len() >= CALL_NAMES_MAX && !tools.contains_key(&tool))
            {
                OTHERS.clone_into(&mut tool.1);
            }
            let tally = tools.entry(tool).or_insert_with(|| Tally {
                calls: 0,
                errors: 0,
                durations: Durations::default(),
                last: call.end,
            });
            tally.calls += 1;
            tally.errors += u64::from(call.is_error);
            tally.last = tally.last.max(call.end);
            if let Some(duration) = call.duration {
                tally.durations.add(duration);
            }
            true
        })?;
        let mut stats: Vec<ToolStats> = tools.into_iter().map(Tally::finish).collect();
        stats.sort_by(|a, b| {
            let order = b.calls.cmp(&a.calls);
            order.then_with(|| (&a.server, &a.tool).cmp(&(&b.server, &b.tool)))
        });
        Ok(ToolList {
            tools: stats,
            damage,
        })
    }

    /// The first `count` calls that `query` asks for, and for failed ones, why.
    ///
    /// The reason is what the span of the call says; for the first 1000 calls that say nothing, it is looked
    /// for in the spans and logs below them. Memory grows with `count`. The order by time ends reading early;
    /// the order by duration reads the whole range. Fails like [`Snapshot::traces`].
    pub fn calls(&self, query: &CallQuery, count: usize) -> Result<CallList> {
        let mut best = Best::new(count);
        let damage = self.each_call(query, &mut |call| {
            let rank = if query.slowest_first {
                let nanos = call.duration.unwrap_or_default().as_nanos();
                i64::try_from(nanos).unwrap_or(i64::MAX)
            } else {
                call.end.unix_nanos()
            };
            best.offer(rank, call);
            // Calls come in the order of their ends.
            query.slowest_first || best.threshold().is_none()
        })?;
        let (mut calls, has_more) = best.finish();
        let unexplained = calls
            .iter_mut()
            .filter(|call| call.is_error && call.error.is_none());
        for call in unexplained.take(REASONS_MAX) {
            call.error = self.reason(call)?;
        }
        Ok(CallList {
            calls,
            has_more,
            damage,
        })
    }

    /// Calls `visit` with each call, the one that ended last first, until it returns `false`. Returns
    /// the damage that the query skips.
    fn each_call(
        &self,
        query: &CallQuery,
        visit: &mut dyn FnMut(Call) -> bool,
    ) -> Result<Vec<Damage>> {
        let range = query.spans.range;
        let spans = query.spans.whole_traces();
        let spans = spans.range(TimeRange {
            until: range.until.map(|until| shifted(until, LOOK_AHEAD_NANOS)),
            ..range
        });
        let mut window = Window::new(WINDOW_SPANS);
        let mut is_ended = false;
        let damage = self.each_span(&spans, &mut |record, head| {
            let names = Names::read(record.encoded().iter().flat_map(Encoded::span_texts));
            let is_in_range = range.until.is_none_or(|until| record.timestamp < until);
            let call = (names.tool)
                .filter(|tool| is_in_range && query.wants(tool, record))
                .map(|tool| {
                    let start = known_time(head.start);
                    let is_said = head.is_error && !head.status_message.is_empty();
                    Box::new(Call {
                        server: record.server.clone(),
                        tool: tool.to_owned(),
                        client: names.client.map(str::to_owned),
                        trace_id: hex(head.trace_id),
                        span_id: hex(head.span_id),
                        start,
                        end: record.timestamp,
                        duration: record.duration(),
                        is_error: head.is_error,
                        error: is_said.then(|| CallError {
                            message: head.status_message.to_owned(),
                            source: super::ErrorSource::Status,
                            server: record.server.clone(),
                            span: Some(head.name.to_owned()),
                        }),
                    })
                });
            let decided = window.push(Seen {
                id: key(head.trace_id, head.span_id),
                parent: key(head.trace_id, head.parent_id),
                tool: names.tool.map(str::to_owned),
                call,
            });
            is_ended = decided.is_some_and(|call| !visit(*call));
            !is_ended
        })?;
        while !is_ended && window.has_undecided() {
            is_ended = window.decide_next().is_some_and(|call| !visit(*call));
        }
        Ok(damage)
    }

    /// Why a call failed, by its trace.
    fn reason(&self, call: &Call) -> Result<Option<CallError>> {
        let Ok(filter) = Filter::trace_id(&call.trace_id) else {
            return Ok(None);
        };
        let start = call.start.unwrap_or(call.end);
        let range = TimeRange {
            since: Some(shifted(start, -REASON_SLACK_NANOS)),
            until: Some(shifted(call.end, REASON_SLACK_NANOS)),
        };
        let trace: Option<Trace> = self.whole_trace(&call.trace_id, &filter, range)?;
        let span_id = crate::otlp::id::decode_id(&call.span_id, 8).unwrap_or_default();
        Ok(trace.and_then(|trace| trace.reason(&span_id)))
    }
}

impl Store {
    /// The calls that `query` asks for by tool; see [`Snapshot::tools`].
    pub fn tools(&self, query: &CallQuery) -> Result<ToolList> {
        self.snapshot()?.tools(query)
    }

    /// The first `count` calls that `query` asks for; see [`Snapshot::calls`].
    pub fn calls(&self, query: &CallQuery, count: usize) -> Result<CallList> {
        self.snapshot()?.calls(query, count)
    }
}

/// The name of all tools that are not told apart.
const OTHERS: &str = "(others)";

/// What is counted of a tool.
struct Tally {
    calls: u64,
    errors: u64,
    durations: Durations,
    last: Timestamp,
}

impl Tally {
    fn finish(((server, tool), tally): ((ServerName, String), Tally)) -> ToolStats {
        ToolStats {
            server,
            tool,
            calls: tally.calls,
            errors: tally.errors,
            median: tally.durations.percentile(50),
            percentile_95: tally.durations.percentile(95),
            max: tally.durations.max(),
            is_exact: tally.durations.is_exact(),
            last: tally.last,
        }
    }
}

/// The ids of a trace and of a span.
type Key = [u8; 24];

/// `None` when one of the ids is missing or has another length than OTLP says.
fn key(trace_id: &[u8], span_id: &[u8]) -> Option<Key> {
    let (trace_id, span_id): (&[u8; 16], &[u8; 8]) =
        (trace_id.try_into().ok()?, span_id.try_into().ok()?);
    let mut key = [0; 24];
    let (front, back) = key.split_at_mut(16);
    front.copy_from_slice(trace_id);
    back.copy_from_slice(span_id);
    Some(key)
}

/// A span that was read.
struct Seen {
    id: Option<Key>,
    parent: Option<Key>,
    tool: Option<String>,
    /// The call that it is, unless a span above it names the same tool.
    call: Option<Box<Call>>,
}

/// The spans that were read last: at most `size` whose calls are decided, and as many whose
/// calls are not.
struct Window {
    size: u64,
    spans: VecDeque<Seen>,
    /// The number of the first span in `spans`.
    first: u64,
    /// The number of the next span to decide.
    undecided: u64,
    by_id: HashMap<Key, u64>,
}

impl Window {
    fn new(size: u64) -> Window {
        Window {
            size,
            spans: VecDeque::new(),
            first: 0,
            undecided: 0,
            by_id: HashMap::new(),
        }
    }

    /// Adds a span. Returns a call that this decides.
    fn push(&mut self, span: Seen) -> Option<Box<Call>> {
        let number = self.first + self.spans.len() as u64;
        if let Some(id) = span.id {
            self.by_id.insert(id, number);
        }
        self.spans.push_back(span);
        if self.undecided + self.size > number {
            return None;
        }
        let call = self.decide_next();
        if self.first + self.size < self.undecided {
            let gone = self.spans.pop_front().and_then(|gone| gone.id);
            // Another span may have the same id.
            if let Some(id) = gone
                && self.by_id.get(&id) == Some(&self.first)
            {
                self.by_id.remove(&id);
            }
            self.first += 1;
        }
        call
    }

    fn has_undecided(&self) -> bool {
        self.undecided < self.first + self.spans.len() as u64
    }

    /// Decides on the next span. Returns its call if it is one.
    fn decide_next(&mut self) -> Option<Box<Call>> {
        let index = usize::try_from(self.undecided - self.first).ok()?;
        self.undecided += 1;
        let call = self.spans.get_mut(index)?.call.take()?;
        let span = self.spans.get(index)?;
        self.is_outermost(span).then_some(call)
    }

    /// Whether no span above `span` names the same tool.
    fn is_outermost(&self, span: &Seen) -> bool {
        let mut at = span;
        for _ in 0..ANCESTORS_MAX {
            let above = at.parent.and_then(|parent| {
                let number = self.by_id.get(&parent)?.checked_sub(self.first)?;
                self.spans.get(usize::try_from(number).ok()?)
            });
            match above {
                Some(above) if std::ptr::eq(above, span) => return true,
                Some(above) if above.tool.is_some() => return above.tool != span.tool,
                Some(above) => at = above,
                None => return true,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(id: u8, parent: u8, tool: &str) -> Seen {
        let call = Call {
            server: ServerName::new("github").unwrap(),
            tool: tool.to_owned(),
            client: None,
            trace_id: String::new(),
            span_id: id.to_string(),
            start: None,
            end: Timestamp::default(),
            duration: None,
            is_error: false,
            error: None,
        };
        Seen {
            id: key(&[1; 16], &[id; 8]),
            parent: key(&[1; 16], &[parent; 8]),
            tool: (!tool.is_empty()).then(|| tool.to_owned()),
            call: (!tool.is_empty()).then(|| Box::new(call)),
        }
    }

    #[test]
    fn the_spans_above_are_found_within_a_window_before_and_after() {
        for (between, above_first, expected) in [
            (0, true, &["1"][..]),
            (3, true, &["1"]),
            (4, true, &["1", "2"]),
            (0, false, &["1"]),
            (3, false, &["1"]),
            (4, false, &["2", "1"]),
        ] {
            let mut window = Window::new(4);
            let (above, below) = (seen(1, 0, "search"), seen(2, 1, "search"));
            let (first, last) = if above_first {
                (above, below)
            } else {
                (below, above)
            };
            let others = (0..between).map(|number| seen(100 + number, 0, ""));
            let after = (0..30).map(|number| seen(50 + number, 0, ""));
            let spans = std::iter::once(first)
                .chain(others)
                .chain([last])
                .chain(after);
            let mut calls: Vec<Box<Call>> = Vec::new();
            for span in spans {
                calls.extend(window.push(span));
                assert!(window.spans.len() <= 9 && window.by_id.len() <= 9);
            }
            while window.has_undecided() {
                calls.extend(window.decide_next());
            }
            let ids: Vec<&str> = calls.iter().map(|call| call.span_id.as_str()).collect();
            assert_eq!(ids, expected, "{between} {above_first}");
        }
    }
}
