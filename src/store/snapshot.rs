//! Snapshots: one state of the database, to read from.

#[cfg(feature = "simulation")]
use crate::store::scan::check::{self, CheckedSeries};
use crate::{
    error::Result,
    loss::LedgerEntry,
    record::{ServerName, Totals},
    signal::Signal,
    store::{
        ledger::{
            damage::{self, Finding, KnownDamage},
            losses, totals,
            wipes::{WipeMarks, WipeScope},
        },
        policy::{clock::ClockJump, limits::ServerLimits, system_clock::ClockReading},
        scan::inventory::{self, InventoryRecord},
        tiers::view::View,
    },
    time::{TimeRange, Timestamp},
};
use redb::ReadTransaction;
use std::{fmt, path::PathBuf};

/// One state of a stack's telemetry. Later commits do not change it, so all reads from one snapshot
/// are consistent with each other.
///
/// ```
/// use gridctl_telemetry::{LogRecord, Query, ServerName, Signal, Timestamp};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let home = tempfile::tempdir()?;
/// # let home = home.path();
/// # let store = gridctl_telemetry::Store::open(home, "my-stack", Default::default())?;
/// # let (writer, guard) = gridctl_telemetry::Writer::start(&store, Default::default())?;
/// let github = ServerName::new("github")?;
/// writer.log(&github, &LogRecord::new(Timestamp::now(), Default::default(), "first"))?;
/// writer.flush()?;
/// let snapshot = store.snapshot()?;
/// writer.log(&github, &LogRecord::new(Timestamp::now(), Default::default(), "second"))?;
/// writer.flush()?;
///
/// // The snapshot does not change.
/// let mut scan = snapshot.scan(&Query::new(Signal::Logs))?;
/// let record = scan.next()?.expect("the first record");
/// assert_eq!(record.decode()?.into_log().expect("a log record").message, "first");
/// assert!(scan.next()?.is_none());
/// assert_eq!(snapshot.inventory(None)?[0].record_count, 1);
/// assert!(snapshot.ledger(..)?.is_empty());
/// # Ok(())
/// # }
/// ```
pub struct Snapshot {
    view: View,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("path", self.view.path())
            .finish_non_exhaustive()
    }
}

impl Snapshot {
    pub(crate) fn new(
        path: PathBuf,
        transaction: ReadTransaction,
        reading: ClockReading,
    ) -> Snapshot {
        Snapshot {
            view: View::new(path, transaction, reading),
        }
    }

    /// Ends reading early: once `wanted` returns true, scans of this snapshot, and everything that reads many records
    /// such as counts, traces and usage, fail with [`Error::Cancelled`](crate::Error::Cancelled). It is called for each
    /// block, so a deadline is exceeded by a few milliseconds at most.
    ///
    /// ```
    /// use gridctl_telemetry::{Error, Query, Signal};
    /// use std::time::{Duration, Instant};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let home = tempfile::tempdir()?;
    /// # let home = home.path();
    /// # let store = gridctl_telemetry::Store::open(home, "my-stack", Default::default())?;
    /// let deadline = Instant::now() + Duration::from_secs(5);
    /// let snapshot = store.snapshot()?.cancel_when(move || Instant::now() > deadline);
    /// match snapshot.count(&Query::new(Signal::Logs).field("tool=search")?, &[]) {
    ///     Ok(report) => println!("{} records", report.total),
    ///     Err(Error::Cancelled { .. }) => println!("too many records to count in five seconds"),
    ///     Err(error) => return Err(error.into()),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn cancel_when(mut self, wanted: impl Fn() -> bool + Send + Sync + 'static) -> Snapshot {
        self.view.cancel_when(wanted);
        self
    }

    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    /// The sequence of the next record: every record in this snapshot has a lower one.
    ///
    /// Fails with [`Error::Database`](crate::Error::Database).
    pub fn next_sequence(&self) -> Result<u64> {
        self.view.next_sequence()
    }

    /// The identity of the database, which no other one has, also not one at the same path. It never changes.
    /// `None` before a writer or an import has stored something.
    ///
    /// Fails with [`Error::Database`](crate::Error::Database).
    pub fn database_id(&self) -> Result<Option<u64>> {
        Ok(Some(self.view.database_id()?).filter(|id| *id != 0))
    }

    /// The time of the last commit of any writer; `None` before the first one.
    ///
    /// Fails with [`Error::Database`](crate::Error::Database).
    pub fn last_commit(&self) -> Result<Option<Timestamp>> {
        self.view.last_commit()
    }

    /// The jump of the system clock that is not trusted yet, if there is one.
    ///
    /// Fails with [`Error::Database`](crate::Error::Database) and
    /// [`Error::Corrupt`](crate::Error::Corrupt).
    pub fn clock_jump(&self) -> Result<Option<ClockJump>> {
        Ok(self.view.clock_verdict()?.jump)
    }

    /// The entries of the ledger that overlap `range`: first the evicted records, in one entry per
    /// series, then the lost ones in the order in which they were entered, to the minute.
    ///
    /// Fails with [`Error::Database`](crate::Error::Database) and
    /// [`Error::Corrupt`](crate::Error::Corrupt).
    pub fn ledger(&self, range: impl Into<TimeRange>) -> Result<Vec<LedgerEntry>> {
        self.view
            .read(|| losses::read(self.view.transaction(), range.into()))
    }

    /// The evicted records of each series, in one entry per series, which only grows. The cost does not grow
    /// with the rest of the ledger.
    ///
    /// Fails like [`Snapshot::ledger`].
    pub fn evicted(&self) -> Result<Vec<LedgerEntry>> {
        self.view
            .read(|| losses::read_evicted(self.view.transaction()))
    }

    /// What is known to be damaged in this database: records that are missing in the answers of
    /// queries, and numbers that do not agree. A running
    /// writer finds it when it moves records, and checks all of them once a day and after a writer was
    /// killed.
    ///
    /// Fails with [`Error::Database`](crate::Error::Database) and
    /// [`Error::Corrupt`](crate::Error::Corrupt).
    pub fn known_damage(&self) -> Result<Vec<KnownDamage>> {
        self.view.read(|| damage::read(self.view.transaction()))
    }

    /// When all records were checked last; `None` before the first time.
    pub(crate) fn last_scrub(&self) -> Result<Option<Timestamp>> {
        self.view.last_scrub()
    }

    /// The limits of each signal of `server`, or those of servers without limits of their own; `None`
    /// when records are kept without limits. [`Space::limit_bytes`](crate::maintenance::Space) is the
    /// limit of the whole stack.
    ///
    /// Fails with [`Error::Database`](crate::Error::Database) and
    /// [`Error::Corrupt`](crate::Error::Corrupt).
    pub fn limits_of(&self, server: Option<&str>) -> Result<Option<ServerLimits>> {
        let limits = self.view.limits()?;
        let found = match server {
            Some(server) => limits.of(server),
            None => limits.default,
        };
        Ok(found.map(ServerLimits::from))
    }

    /// The number of wipes before this snapshot.
    pub(crate) fn wipe_generation(&self) -> Result<u64> {
        self.view.wipe_generation()
    }

    /// The wipes after `generation`.
    pub(crate) fn wipes_after(&self, generation: u64) -> Result<WipeMarks> {
        self.view
            .read(|| WipeMarks::read(self.view.transaction(), generation))
    }

    /// The newest totals of each server, by name.
    pub(crate) fn totals(&self) -> Result<Vec<(ServerName, Totals)>> {
        self.view.read(|| totals::read(self.view.transaction()))
    }

    /// The newest totals of each server, by name, or why they cannot be read.
    pub(crate) fn each_totals(&self) -> Result<Vec<(ServerName, Result<Totals, String>)>> {
        self.view
            .read(|| totals::read_each(self.view.transaction()))
    }

    /// The stored records of each server and signal, sorted by server and then by signal; of
    /// `server` only if it is given. Series without records are left out, and expired records are
    /// not counted.
    ///
    /// The cost does not grow with the number of records: blocks are counted when they are written,
    /// and only rows, which are few, and blocks of which a part has expired are read.
    pub fn inventory(&self, server: Option<&str>) -> Result<Vec<InventoryRecord>> {
        inventory::list(&self.view, server)
    }

    /// Like [`Snapshot::inventory`], for a store that may be damaged: what of the inventory can be read, and
    /// what cannot.
    ///
    /// Fails with [`Error::Database`](crate::Error::Database), and with
    /// [`Error::Corrupt`](crate::Error::Corrupt) when the list of all servers cannot be read.
    pub fn readable_inventory(&self) -> Result<(Vec<InventoryRecord>, Vec<Finding>)> {
        inventory::list_readable(&self.view)
    }

    /// The servers that have stored records of any signal, or counters that outlived their records,
    /// sorted. The cost does not grow with the number of records.
    ///
    /// Fails with [`Error::Database`](crate::Error::Database) and
    /// [`Error::Corrupt`](crate::Error::Corrupt).
    pub fn servers(&self) -> Result<Vec<ServerName>> {
        let with_records = self.view.series()?.into_iter().map(|entry| entry.server);
        let with_totals = self.totals()?.into_iter().map(|(server, _)| server);
        let mut servers: Vec<ServerName> = with_records.chain(with_totals).collect();
        servers.sort_unstable();
        servers.dedup();
        Ok(servers)
    }

    /// The stored records that a wipe of `scope` would delete, in the form of
    /// [`Snapshot::inventory`]. Records that are still queued are not counted.
    ///
    /// The cost does not grow with the number of records, and fails like [`Snapshot::inventory`].
    pub fn would_wipe(&self, scope: &WipeScope) -> Result<Vec<InventoryRecord>> {
        inventory::covered_by(&self.view, scope)
    }

    /// The servers of which a wipe of `scope` would delete counters, but no record of metrics: counters
    /// outlive the records of an idle server. Sorted by name.
    ///
    /// Fails like [`Snapshot::inventory`].
    pub fn would_wipe_counters(&self, scope: &WipeScope) -> Result<Vec<ServerName>> {
        let records = self.would_wipe(scope)?;
        let has_records = |server: &ServerName| {
            let of_server = |it: &InventoryRecord| it.server == *server;
            (records.iter()).any(|it| it.signal == Signal::Metrics && of_server(it))
        };
        let servers = self.totals()?.into_iter().map(|(server, _)| server);
        Ok(servers
            .filter(|server| scope.covers_counters(server) && !has_records(server))
            .collect())
    }

    /// The location of all records, read from every table.
    ///
    /// Fails with [`Error::Corrupt`](crate::Error::Corrupt) when the tables contradict each other
    /// in the totals of a series, the merge queue, or the chunks of a block.
    #[cfg(feature = "simulation")]
    pub fn check(&self) -> Result<Vec<CheckedSeries>> {
        check::check(&self.view)
    }
}
