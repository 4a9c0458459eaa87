//! Queries: the records to read, and their order.

use super::Cursor;
use crate::{record::ServerName, signal::Signal, store::Direction, time::TimeRange};

/// Which records to read, and in which order.
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
    pub(super) since_sequence: u64,
    pub(super) memory_bytes: usize,
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
}
