//! Following a store: records as they arrive, until the follower is stopped.
//!
//! Records also arrive from other processes, which do not announce their commits, so the store is looked
//! at four times a second. A look is a read transaction of some microseconds. In between, a follower
//! waits on a condition variable, so that stopping it takes effect at once.

use super::{Cursor, Query, StoredRecord};
use crate::{
    error::Result,
    platform::FileId,
    store::{Direction, Snapshot, Store},
};
use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How often a followed store is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Maximum number of decoded records that a follower holds.
const PAGE_RECORDS_MAX: usize = 256;

/// Ends a [`Follow`] or an [`Arrivals`] from any thread. Clones end the same one.
#[derive(Debug, Clone, Default)]
pub struct FollowHandle(Arc<Stop>);

#[derive(Debug, Default)]
struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl FollowHandle {
    /// Ends the follower: a call that waits returns at once, and later calls return nothing.
    pub fn stop(&self) {
        *self.lock() = true;
        self.0.changed.notify_all();
    }

    /// Whether the follower was ended.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        *self.lock()
    }

    /// Waits for `duration`, or until the follower is ended. Returns whether it was.
    fn wait(&self, duration: Duration) -> bool {
        let (stopped, _) = self
            .0
            .changed
            .wait_timeout_while(self.lock(), duration, |stopped| !*stopped)
            .unwrap_or_else(PoisonError::into_inner);
        *stopped
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.0
            .stopped
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for records to arrive in a store, without reading them: see [`Store::arrivals`].
///
/// It has a read-only handle of its own, and opens the database again when the file was replaced by
/// another one. No snapshot is held while it waits.
#[derive(Debug)]
pub struct Arrivals {
    /// The handle that opened the file, whose path and options a new handle takes over.
    origin: Store,
    /// The open database and the identity of its file; `None` while there is none.
    open: Option<(Store, FileId)>,
    next_sequence: u64,
    /// Whether the database was replaced since the last arrival.
    is_replaced: bool,
    handle: FollowHandle,
}

/// Records that arrived in a store.
#[derive(Debug)]
#[non_exhaustive]
pub struct Arrival {
    /// A state of the store that has them.
    pub snapshot: Snapshot,
    /// They have this sequence or a higher one, see [`Query::since_sequence`].
    pub since_sequence: u64,
    /// Whether the database is another one than before: the sequences have begun again.
    pub is_replaced: bool,
}

impl Arrivals {
    /// The handle that ends waiting.
    #[must_use]
    pub fn handle(&self) -> FollowHandle {
        self.handle.clone()
    }

    /// Waits until records have arrived since the last call. `None` when none did before `timeout` has
    /// passed, and when the handle ended waiting.
    ///
    /// A database that is deleted is waited for. Fails like [`Store::open_read_only`] and
    /// [`Store::snapshot`]; the next call tries again.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Arrival>> {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            if self.handle.is_stopped() {
                return Ok(None);
            }
            if let Some(arrival) = self.look()? {
                return Ok(Some(arrival));
            }
            let left = deadline.map_or(LOOK_INTERVAL, |deadline| {
                deadline.saturating_duration_since(Instant::now())
            });
            if left.is_zero() || self.handle.wait(left.min(LOOK_INTERVAL)) {
                return Ok(None);
            }
        }
    }

    /// A new snapshot of the database that the last arrival was in, for readers that take longer over an
    /// arrival than they want to hold its snapshot; `None` while there is no database.
    ///
    /// Fails like [`Store::snapshot`].
    pub fn snapshot(&self) -> Result<Option<Snapshot>> {
        let store = self.open.as_ref().map(|(store, _)| store);
        store.map(Store::snapshot).transpose()
    }

    fn look(&mut self) -> Result<Option<Arrival>> {
        let at_path = self.origin.file_id()?;
        if self.open.as_ref().map(|(_, id)| *id) != at_path {
            let Some(opened) = self.origin.open_again()? else {
                // Deleted, or being created.
                return Ok(None);
            };
            self.open = Some(opened);
            self.next_sequence = 0;
            self.is_replaced = true;
        }
        let Some((open, _)) = &self.open else {
            return Ok(None);
        };
        let snapshot = open.snapshot()?;
        let next_sequence = snapshot.next_sequence()?;
        if next_sequence <= self.next_sequence {
            return Ok(None);
        }
        let since_sequence = std::mem::replace(&mut self.next_sequence, next_sequence);
        Ok(Some(Arrival {
            snapshot,
            since_sequence,
            is_replaced: std::mem::take(&mut self.is_replaced),
        }))
    }
}

/// The records of a query as they arrive: see [`Store::follow`].
///
/// As an iterator it waits until its handle ends it. An error does not end it: the next call tries
/// again, after a pause.
#[derive(Debug)]
pub struct Follow {
    arrivals: Arrivals,
    query: Query,
    pass: Option<Pass>,
    page: VecDeque<Result<StoredRecord>>,
    has_failed: bool,
}

/// Records that arrived and are being read, page by page, each from a snapshot of its own.
#[derive(Debug, Clone, Copy)]
struct Pass {
    since_sequence: u64,
    /// Records from this sequence on belong to the next pass.
    end_sequence: u64,
    after: Option<Cursor>,
}

impl Follow {
    /// The handle that ends following.
    #[must_use]
    pub fn handle(&self) -> FollowHandle {
        self.arrivals.handle()
    }

    /// The next record. `None` when none arrived before `timeout` has passed, and when the handle ended
    /// following.
    ///
    /// Fails like [`Arrivals::next_timeout`] and [`Snapshot::scan`].
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<StoredRecord>> {
        let deadline = Instant::now().checked_add(timeout);
        let left = || {
            deadline.map_or(Duration::MAX, |deadline| {
                deadline.saturating_duration_since(Instant::now())
            })
        };
        // A caller that ignores errors must not turn this into a busy loop.
        if std::mem::take(&mut self.has_failed) {
            self.arrivals.handle.wait(left().min(LOOK_INTERVAL));
        }
        let outcome = loop {
            if self.arrivals.handle.is_stopped() {
                break Ok(None);
            }
            if let Some(record) = self.page.pop_front() {
                break record.map(Some);
            }
            match self.fill(left()) {
                Ok(true) => {}
                Ok(false) => break Ok(None),
                Err(error) => break Err(error),
            }
        };
        self.has_failed = outcome.is_err();
        outcome
    }

    /// Reads the next page, which can be empty, and waits for one if there is none. Returns whether one
    /// was read.
    fn fill(&mut self, timeout: Duration) -> Result<bool> {
        let (snapshot, pass) =
            if let (Some(pass), Some((open, _))) = (self.pass, &self.arrivals.open) {
                (open.snapshot()?, pass)
            } else {
                let Some(arrival) = self.arrivals.next_timeout(timeout)? else {
                    return Ok(false);
                };
                let pass = Pass {
                    since_sequence: arrival.since_sequence,
                    end_sequence: self.arrivals.next_sequence,
                    after: self.query.after,
                };
                (arrival.snapshot, pass)
            };
        self.pass = Some(pass);
        self.pass = self.read_page(&snapshot, pass)?;
        Ok(true)
    }

    /// Reads a page of a pass, and returns the rest of the pass if there is one.
    fn read_page(&mut self, snapshot: &Snapshot, mut pass: Pass) -> Result<Option<Pass>> {
        let mut query = self.query.clone().since_sequence(pass.since_sequence);
        query.after = pass.after;
        let mut scan = snapshot.scan(&query)?;
        while let Some(record) = scan.next()? {
            if record.sequence >= pass.end_sequence {
                continue;
            }
            // Noted at once, so that a retry after an error repeats no record.
            pass.after = Some(record.cursor());
            self.pass = Some(pass);
            self.page.push_back(record.to_stored());
            if self.page.len() >= PAGE_RECORDS_MAX {
                return Ok(Some(pass));
            }
        }
        Ok(None)
    }
}

impl Iterator for Follow {
    type Item = Result<StoredRecord>;

    fn next(&mut self) -> Option<Result<StoredRecord>> {
        self.next_timeout(Duration::MAX).transpose()
    }
}

impl Store {
    /// Follows the store: first the stored records that `query` asks for, then records as they arrive,
    /// from any process. Records that arrived together come in the order of their timestamps. For new
    /// records only, set [`Query::since_sequence`] to [`Snapshot::next_sequence`].
    ///
    /// Following survives wipes, restarts of the daemon and a database that is deleted and created
    /// again, whose records are all new. It holds no snapshot while it waits and at most 256 records.
    /// The query's direction is ignored.
    ///
    /// ```
    /// use gridctl_telemetry::{LogRecord, Query, ServerName, Signal, Timestamp};
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let home = tempfile::tempdir()?;
    /// # let home = home.path();
    /// # let store = gridctl_telemetry::Store::open(home, "my-stack", Default::default())?;
    /// # let (writer, guard) = gridctl_telemetry::Writer::start(&store, Default::default())?;
    /// let mut follow = store.follow(Query::new(Signal::Logs))?;
    /// let github = ServerName::new("github")?;
    /// writer.log(&github, &LogRecord::new(Timestamp::now(), Default::default(), "first"))?;
    /// let record = follow.next_timeout(Duration::from_secs(60))?.expect("a record");
    /// assert_eq!(record.server, github);
    ///
    /// let handle = follow.handle();
    /// let thread = std::thread::spawn(move || follow.count());
    /// handle.stop();
    /// assert_eq!(thread.join().unwrap(), 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Fails like [`Store::open_read_only`].
    pub fn follow(&self, query: Query) -> Result<Follow> {
        Ok(Follow {
            arrivals: self.arrivals(query.since_sequence)?,
            query: query.direction(Direction::Forward),
            pass: None,
            page: VecDeque::new(),
            has_failed: false,
        })
    }

    /// Waits for records with `since_sequence` or a higher sequence, without reading them; see
    /// [`Store::follow`] for reading them.
    ///
    /// Fails like [`Store::open_read_only`].
    pub fn arrivals(&self, since_sequence: u64) -> Result<Arrivals> {
        Ok(Arrivals {
            open: self.open_again()?,
            origin: self.clone(),
            next_sequence: since_sequence,
            is_replaced: false,
            handle: FollowHandle::default(),
        })
    }
}
