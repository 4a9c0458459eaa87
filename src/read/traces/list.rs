//! The traces of a query.

use super::{
    best::Best,
    hex, shifted,
    summary::{Gathered, TraceSummary},
};
use crate::{
    error::{Error, Result, excerpt},
    filter::SpanHead,
    otlp::id::decode_id,
    read::{Damage, Query, RawRecord},
    signal::Signal,
    store::{Direction, Snapshot, Store},
    time::Timestamp,
};
use hashbrown::HashMap;
use std::{fmt, str::FromStr, time::Duration};

/// How long before the start of a trace its last spans are looked for, if its root is known and if not.
const SLACK_NANOS: i64 = 60_000_000_000;
const SLACK_WITHOUT_ROOT_NANOS: i64 = 10 * SLACK_NANOS;

/// The number of spans after which complete traces are looked for.
const SWEEP_SPANS: usize = 4096;

/// Maximum number of traces that are incomplete at the same time, in memory.
const OPEN_TRACES_MAX: usize = 65_536;

/// Which traces to list, and in which order.
///
/// ```
/// use gridctl_telemetry::{Query, ServerName, Signal, query::TraceQuery};
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let home = tempfile::tempdir()?;
/// # let home = home.path();
/// # let store = gridctl_telemetry::Store::open(home, "my-stack", Default::default())?;
/// let of_github = Query::new(Signal::Traces).server(ServerName::new("github")?);
/// let slow = TraceQuery::new(of_github).duration_at_least(Duration::from_millis(500));
/// for trace in store.traces(&slow.slowest_first(), 20)?.traces {
///     println!("{} {} took {:?}", trace.trace_id, trace.name, trace.duration);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct TraceQuery {
    spans: Query,
    only_failed: bool,
    duration_min: Duration,
    slowest_first: bool,
    after: Option<TraceCursor>,
}

/// A position in a list of traces: directly after one of them.
///
/// It stays valid when traces are added and deleted. Its text form is opaque; every later version of this crate reads
/// it. A trace that gets further spans can move to another place in the list.
///
/// ```
/// use gridctl_telemetry::{Query, Signal, query::{TraceCursor, TraceQuery}};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let home = tempfile::tempdir()?;
/// # let home = home.path();
/// # let store = gridctl_telemetry::Store::open(home, "my-stack", Default::default())?;
/// let query = TraceQuery::new(Query::new(Signal::Traces));
/// let page = store.traces(&query, 20)?;
/// if let Some(last) = page.traces.last() {
///     // A client sends back the text of the cursor to get the next page.
///     let cursor: TraceCursor = query.cursor_after(last).to_string().parse()?;
///     let next = store.traces(&query.after(cursor), 20)?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TraceCursor {
    slowest_first: bool,
    rank: Rank,
}

impl fmt::Display for TraceCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = if self.slowest_first { 's' } else { 'n' };
        write!(f, "{order}{:016x}{}", self.rank.0, hex(&self.rank.1))
    }
}

impl FromStr for TraceCursor {
    type Err = Error;

    /// Parses the text written by [`TraceCursor`]'s `Display`.
    ///
    /// Fails with [`Error::InvalidCursor`].
    fn from_str(text: &str) -> Result<TraceCursor> {
        let parse = || {
            let (order, rest) = text.split_at_checked(1)?;
            let (nanos, id) = rest.split_at_checked(16)?;
            // `from_str_radix` accepts a sign, which a cursor never has.
            let is_hex = rest.bytes().all(|digit| digit.is_ascii_hexdigit());
            let nanos = u64::from_str_radix(nanos, 16).ok().filter(|_| is_hex)?;
            Some(TraceCursor {
                slowest_first: match order {
                    "s" => true,
                    "n" => false,
                    _ => return None,
                },
                rank: (nanos.cast_signed(), decode_id(id, id.len() / 2)?),
            })
        };
        parse().ok_or_else(|| Error::InvalidCursor {
            text: excerpt(text),
        })
    }
}

/// Nanoseconds, and the trace id, so that the order of traces that are equal is always the same.
type Rank = (i64, Vec<u8>);

/// The traces that a [`TraceQuery`] asks for.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct TraceList {
    /// The traces, in the order of the query.
    pub traces: Vec<TraceSummary>,
    /// Whether there are more.
    pub has_more: bool,
    /// Whether the numbers of a trace may be too low, and a trace may be listed twice, because more than
    /// 65,536 traces were running at the same time.
    pub is_cut: bool,
    /// The damage that was skipped, see [`Query::skip_damaged`]. Not a part of the JSON.
    #[serde(skip)]
    pub damage: Vec<Damage>,
}

impl TraceQuery {
    /// The traces that have a span for which `spans` asks, the one that ended last first. The direction,
    /// the signal and the cursor of `spans` do not matter.
    pub fn new(spans: Query) -> TraceQuery {
        TraceQuery {
            spans,
            only_failed: false,
            duration_min: Duration::ZERO,
            slowest_first: false,
            after: None,
        }
    }

    /// Only traces with a span that failed.
    pub fn only_failed(mut self) -> TraceQuery {
        self.only_failed = true;
        self
    }

    /// Only traces that took this long or longer, from the start of the first span to the end of the last
    /// one.
    pub fn duration_at_least(mut self, duration: Duration) -> TraceQuery {
        self.duration_min = duration;
        self
    }

    /// The trace that took longest comes first.
    pub fn slowest_first(mut self) -> TraceQuery {
        self.slowest_first = true;
        self
    }

    /// Only traces that come after `cursor`: the next page. The cursor must be of a query in the same order.
    pub fn after(mut self, cursor: TraceCursor) -> TraceQuery {
        self.after = Some(cursor);
        self
    }

    /// The position directly after a trace in the list of this query.
    #[must_use]
    pub fn cursor_after(&self, trace: &TraceSummary) -> TraceCursor {
        let id = decode_id(&trace.trace_id, trace.trace_id.len() / 2);
        TraceCursor {
            slowest_first: self.slowest_first,
            rank: (
                self.first_rank(trace.duration, trace.end),
                id.unwrap_or_default(),
            ),
        }
    }

    /// The higher, the earlier in the list.
    fn rank(&self, trace: &Gathered) -> Rank {
        let first = self.first_rank(trace.duration(), trace.end);
        (first, trace.trace_id.clone())
    }

    fn first_rank(&self, duration: Duration, end: Timestamp) -> i64 {
        if self.slowest_first {
            i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
        } else {
            end.unix_nanos()
        }
    }

    fn is_wanted(&self, trace: &Gathered) -> bool {
        trace.is_wanted
            && (!self.only_failed || trace.errors > 0)
            && trace.duration() >= self.duration_min
    }
}

impl Query {
    /// Whether the query asks for a record, apart from its position.
    pub(super) fn wants(&self, record: &RawRecord<'_>) -> bool {
        let is_of_server = self.servers.is_empty() || self.servers.contains(record.server);
        let filter = self.filter.as_ref();
        is_of_server && filter.is_none_or(|filter| record.matches(filter))
    }

    /// All spans in the range of this query, of all servers, the one that ended last first.
    pub(super) fn whole_traces(&self) -> Query {
        Query {
            signal: Signal::Traces,
            servers: Vec::new(),
            direction: Direction::Backward,
            after: None,
            filter: None,
            ..self.clone()
        }
    }
}

impl Snapshot {
    /// The first `count` traces that `query` asks for. Their numbers are those of the whole trace, of all
    /// servers, within the time range of the query.
    ///
    /// Memory grows with `count` and with the number of traces that are running at the same time, up to a
    /// limit. The order by time ends reading early; the order by duration reads the whole range. Spans that
    /// ended more than a minute before the root of their trace began are not counted, nor spans that ended
    /// more than ten minutes before all others of a trace whose root is not stored. Spans without a trace id
    /// are left out.
    ///
    /// Fails like [`Snapshot::scan`], with [`Error::InvalidRecord`] when a span cannot be decoded, and with
    /// [`Error::InvalidCursor`] when the cursor is of a list in another order.
    pub fn traces(&self, query: &TraceQuery, count: usize) -> Result<TraceList> {
        if let Some(cursor) = &query.after
            && cursor.slowest_first != query.slowest_first
        {
            return Err(Error::InvalidCursor {
                text: cursor.to_string(),
            });
        }
        let mut listing = Listing {
            query,
            open: HashMap::new(),
            best: Best::new(count),
            is_cut: false,
        };
        let mut spans: usize = 0;
        let damage = self.each_span(&query.spans.whole_traces(), &mut |record, head| {
            listing.add(record, head);
            spans += 1;
            if spans.is_multiple_of(SWEEP_SPANS) {
                listing.close_before(record.timestamp);
                return !listing.is_complete();
            }
            true
        })?;
        listing.close_before(Timestamp::MIN);
        let (traces, has_more) = listing.best.finish();
        Ok(TraceList {
            traces: traces.into_iter().map(Gathered::finish).collect(),
            has_more,
            is_cut: listing.is_cut,
            damage,
        })
    }
}

impl Store {
    /// The first `count` traces that `query` asks for; see [`Snapshot::traces`].
    pub fn traces(&self, query: &TraceQuery, count: usize) -> Result<TraceList> {
        self.snapshot()?.traces(query, count)
    }
}

struct Listing<'q> {
    query: &'q TraceQuery,
    /// Traces of which more spans may come, by id.
    open: HashMap<Vec<u8>, Gathered>,
    best: Best<Rank, Gathered>,
    is_cut: bool,
}

impl Listing<'_> {
    fn add(&mut self, record: &RawRecord<'_>, head: SpanHead<'_>) {
        if head.trace_id.is_empty() {
            return;
        }
        let trace = match self.open.get_mut(head.trace_id) {
            Some(trace) => {
                trace.add(record, head);
                trace
            }
            None => self
                .open
                .entry(head.trace_id.to_vec())
                .insert(Gathered::new(record, head))
                .into_mut(),
        };
        if !trace.is_wanted {
            trace.is_wanted = self.query.spans.wants(record);
        }
    }

    /// Closes the traces of which no more spans come from a scan that is at `at`; [`Timestamp::MIN`] closes
    /// all of them.
    fn close_before(&mut self, at: Timestamp) {
        let is_over = at == Timestamp::MIN;
        self.close(|trace| {
            let slack = if trace.has_root() {
                SLACK_NANOS
            } else {
                SLACK_WITHOUT_ROOT_NANOS
            };
            is_over || at < shifted(trace.start, -slack)
        });
        if self.open.len() > OPEN_TRACES_MAX {
            self.close(|trace| trace.has_root() && at < trace.start);
        }
        if self.open.len() > OPEN_TRACES_MAX {
            self.is_cut = true;
            self.close(|_| true);
        }
    }

    fn close(&mut self, mut is_closed: impl FnMut(&Gathered) -> bool) {
        for (_, trace) in self.open.extract_if(|_, trace| is_closed(trace)) {
            if self.query.is_wanted(&trace) {
                let rank = self.query.rank(&trace);
                let after = self.query.after.as_ref();
                if after.is_none_or(|cursor| rank < cursor.rank) {
                    self.best.offer(rank, trace);
                }
            }
        }
    }

    /// Whether no trace that is open or was not reached yet can be among the best.
    fn is_complete(&self) -> bool {
        !self.query.slowest_first
            && self.best.threshold().is_some_and(|threshold| {
                (self.open.values()).all(|trace| self.query.rank(trace) < *threshold)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_texts_are_no_cursors() {
        let cursor = TraceCursor {
            slowest_first: true,
            rank: (-1, vec![0, 0xab]),
        };
        assert_eq!(cursor.to_string(), "sffffffffffffffff00ab");
        assert_eq!(cursor.to_string().parse::<TraceCursor>().unwrap(), cursor);
        for text in [
            "",
            "n",
            "n+00000000000000f",
            "x0000000000000000",
            "n00000000000000000",
            "n0000000000000000zz",
            "ä",
        ] {
            assert!(
                matches!(
                    text.parse::<TraceCursor>(),
                    Err(Error::InvalidCursor { .. })
                ),
                "{text}"
            );
        }
    }
}
