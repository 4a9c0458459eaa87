//! Queries: the records to read, and their order.

use super::Cursor;
use crate::{
    error::Result,
    filter::{Filter, TextPattern},
    record::{Level, ServerName},
    signal::Signal,
    store::Direction,
    time::TimeRange,
};
use opentelemetry_proto::tonic::trace::v1::{span::SpanKind, status::StatusCode};
use std::{ops::RangeBounds, time::Duration};

/// Which records to read, and in which order.
///
/// ```
/// use gridctl_telemetry::{Level, Query, ServerName, Signal, query::Direction};
///
/// let newest_errors = Query::new(Signal::Logs)
///     .server(ServerName::new("github")?)
///     .level_at_least(Level::ERROR)
///     .field("tool=search")?
///     .direction(Direction::Backward);
/// # Ok::<(), gridctl_telemetry::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Query {
    pub(super) signal: Signal,
    pub(super) servers: Vec<ServerName>,
    pub(super) range: TimeRange,
    pub(super) direction: Direction,
    pub(super) after: Option<Cursor>,
    pub(super) since_sequence: u64,
    pub(super) memory_bytes: usize,
    pub(super) filter: Option<Filter>,
    pub(super) skips_damaged: bool,
}

impl Query {
    /// The default of [`Query::memory_bytes`]: 16 MiB.
    pub const MEMORY_BYTES_DEFAULT: usize = 16 << 20;

    /// All records of one signal, oldest first.
    pub fn new(signal: Signal) -> Query {
        Query {
            signal,
            servers: Vec::new(),
            range: TimeRange::default(),
            direction: Direction::Forward,
            after: None,
            since_sequence: 0,
            memory_bytes: Query::MEMORY_BYTES_DEFAULT,
            filter: None,
            skips_damaged: false,
        }
    }

    /// Only records of this server. Further calls add servers.
    pub fn server(mut self, server: ServerName) -> Query {
        self.servers.push(server);
        self
    }

    /// Only records within this time range.
    pub fn range(mut self, range: impl Into<TimeRange>) -> Query {
        self.range = range.into();
        self
    }

    /// Sets whether the oldest or the newest records come first.
    pub fn direction(mut self, direction: Direction) -> Query {
        self.direction = direction;
        self
    }

    /// Only records that come after `cursor` in the query's direction: the next page.
    pub fn after(mut self, cursor: Cursor) -> Query {
        self.after = Some(cursor);
        self
    }

    /// Only records whose [`StoredRecord::sequence`](crate::query::StoredRecord::sequence) is
    /// `sequence` or higher: those that arrived since, however old their timestamps are. For
    /// readers that follow a store.
    pub fn since_sequence(mut self, sequence: u64) -> Query {
        self.since_sequence = sequence;
        self
    }

    /// Sets the maximum memory for decoded blocks in one scan, in bytes. Where many blocks overlap
    /// in time, less memory makes the scan slower.
    pub fn memory_bytes(mut self, bytes: usize) -> Query {
        self.memory_bytes = bytes;
        self
    }

    /// Leaves out records that cannot be read, instead of failing at the first:
    /// [`Scan::damage`](crate::query::Scan::damage) tells which. They are whole blocks, or single
    /// records that are not decodable.
    pub fn skip_damaged(mut self) -> Query {
        self.skips_damaged = true;
        self
    }

    /// Only records that `filter` matches, in addition to the filters that the query has.
    pub fn filter(mut self, filter: Filter) -> Query {
        self.filter = Some(match self.filter {
            Some(before) => Filter::all([before, filter]),
            None => filter,
        });
        self
    }

    /// Only records that `filter` does not match.
    pub fn without(self, filter: Filter) -> Query {
        self.filter(!filter)
    }

    /// Only records of this severity or a higher one: see [`Filter::level_at_least`].
    pub fn level_at_least(self, level: Level) -> Query {
        self.filter(Filter::level_at_least(level))
    }

    /// Only records of this trace: see [`Filter::trace_id`], also for its errors.
    pub fn trace_id(self, id: &str) -> Result<Query> {
        Ok(self.filter(Filter::trace_id(id)?))
    }

    /// Only records of this span: see [`Filter::span_id`], also for its errors.
    pub fn span_id(self, id: &str) -> Result<Query> {
        Ok(self.filter(Filter::span_id(id)?))
    }

    /// Only records in which `pattern` is found: see [`Filter::text`].
    pub fn text(self, pattern: TextPattern) -> Query {
        self.filter(Filter::text(pattern))
    }

    /// Only records with an entry such as `key=value`: see [`Filter::field`], also for its errors.
    pub fn field(self, expression: &str) -> Result<Query> {
        Ok(self.filter(Filter::field(expression)?))
    }

    /// Only spans in whose name `pattern` is found: see [`Filter::name`].
    pub fn name(self, pattern: TextPattern) -> Query {
        self.filter(Filter::name(pattern))
    }

    /// Only spans of this kind.
    pub fn kind(self, kind: SpanKind) -> Query {
        self.filter(Filter::kind(kind))
    }

    /// Only spans with this status: see [`Filter::status`].
    pub fn status(self, status: StatusCode) -> Query {
        self.filter(Filter::status(status))
    }

    /// Only spans that took between these times: see [`Filter::duration`].
    pub fn duration(self, range: impl RangeBounds<Duration>) -> Query {
        self.filter(Filter::duration(range))
    }

    /// Whether it takes the records, or their sequences, to tell which ones are asked for.
    pub(super) fn needs_records(&self) -> bool {
        self.filter.is_some() || self.after.is_some() || self.since_sequence > 0
    }
}
