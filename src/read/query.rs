use super::Cursor;
use crate::{record::ServerName, signal::Signal, store::Direction, time::Timestamp};
use std::ops::{Bound, RangeBounds};

/// A range of time: from a point, which is included, up to another, which is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TimeRange {
    /// Where it begins; the beginning of time when absent.
    pub since: Option<Timestamp>,
    /// Where it ends, this point excluded; the end of time when absent.
    pub until: Option<Timestamp>,
}

impl<R: RangeBounds<Timestamp>> From<R> for TimeRange {
    fn from(range: R) -> TimeRange {
        let behind = |timestamp: &Timestamp| {
            timestamp
                .unix_nanos()
                .checked_add(1)
                .map(Timestamp::from_unix_nanos)
        };
        TimeRange {
            since: match range.start_bound() {
                Bound::Included(since) => Some(*since),
                // Nothing comes behind the last timestamp; an empty range says so.
                Bound::Excluded(since) => Some(behind(since).unwrap_or(Timestamp::MAX)),
                Bound::Unbounded => None,
            },
            until: match range.end_bound() {
                Bound::Included(until) => behind(until),
                Bound::Excluded(until) => Some(*until),
                Bound::Unbounded => None,
            },
        }
    }
}

/// Which records are read, and in which order.
///
/// ```
/// use gridctl_telemetry::{Query, ServerName, Signal, query::Direction};
///
/// let newest_errors = Query::new(Signal::Logs)
///     .server(ServerName::new("github")?)
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
    pub(super) arrived_from: u64,
    pub(super) memory_bytes: usize,
}

impl Query {
    /// What decoded blocks take at most in one scan, unless [`Query::memory_bytes`] says otherwise.
    pub const MEMORY_BYTES_DEFAULT: usize = 16 << 20;

    /// All records of one signal, oldest first.
    pub fn new(signal: Signal) -> Query {
        Query {
            signal,
            servers: Vec::new(),
            range: TimeRange::default(),
            direction: Direction::Forward,
            after: None,
            arrived_from: 0,
            memory_bytes: Query::MEMORY_BYTES_DEFAULT,
        }
    }

    /// Of this server alone; called again, of that one too.
    pub fn server(mut self, server: ServerName) -> Query {
        self.servers.push(server);
        self
    }

    /// Within this range of time alone.
    pub fn range(mut self, range: impl Into<TimeRange>) -> Query {
        self.range = range.into();
        self
    }

    /// Oldest or newest first.
    pub fn direction(mut self, direction: Direction) -> Query {
        self.direction = direction;
        self
    }

    /// Only what comes after `cursor` in the query's direction: the next page.
    pub fn after(mut self, cursor: Cursor) -> Query {
        self.after = Some(cursor);
        self
    }

    /// Only records whose [`StoredRecord::sequence`](crate::query::StoredRecord::sequence) is this or
    /// higher: what arrived since, however far back its timestamp is. For whoever follows a store.
    pub fn arrived_from(mut self, sequence: u64) -> Query {
        self.arrived_from = sequence;
        self
    }

    /// What decoded blocks take at most, in bytes. Where many overlap, less memory costs time.
    pub fn memory_bytes(mut self, bytes: usize) -> Query {
        self.memory_bytes = bytes;
        self
    }
}
