//! One state of the database, to read from.

use crate::{
    error::{Error, Result},
    loss::LedgerEntry,
    record::ServerName,
    signal::Signal,
    store::{
        engine::fault::{Fault, guarded},
        layout::{
            series::{self, SeriesState},
            tables::{LIMITS, META, SERIES, meta},
        },
        ledger::losses,
        policy::{
            clock::{self, ClockJump, ClockVerdict},
            limits::Limits,
            system_clock::ClockReading,
        },
    },
    time::TimeRange,
};
use redb::{ReadTransaction, ReadableTable};
use std::{fmt, path::PathBuf, sync::OnceLock};

/// One state of a stack's telemetry. What is committed later does not show in it, so everything
/// read from one snapshot fits together.
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
    path: PathBuf,
    transaction: ReadTransaction,
    /// What the clocks showed when the snapshot was taken: it has one present.
    reading: ClockReading,
    verdict: OnceLock<ClockVerdict>,
    limits: OnceLock<Limits>,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// A (server, signal) pair and what is known of it.
#[derive(Debug, Clone)]
pub(crate) struct SeriesEntry {
    pub(crate) server: ServerName,
    pub(crate) signal: Signal,
    pub(crate) state: SeriesState,
}

impl Snapshot {
    pub(crate) fn new(
        path: PathBuf,
        transaction: ReadTransaction,
        reading: ClockReading,
    ) -> Snapshot {
        Snapshot {
            path,
            transaction,
            reading,
            verdict: OnceLock::new(),
            limits: OnceLock::new(),
        }
    }

    pub(crate) fn path(&self) -> &PathBuf {
        &self.path
    }

    pub(crate) fn transaction(&self) -> &ReadTransaction {
        &self.transaction
    }

    /// Runs `operation` and says what failed, on which database.
    pub(crate) fn read<T>(&self, operation: impl FnOnce() -> Result<T, Fault>) -> Result<T> {
        guarded(operation).map_err(|fault| self.failed(fault))
    }

    pub(crate) fn failed(&self, fault: Fault) -> Error {
        fault.at("read", &self.path)
    }

    /// Every series, by server and then in the order of signals.
    pub(crate) fn series(&self) -> Result<Vec<SeriesEntry>> {
        self.read(|| {
            let table = self.transaction.open_table(SERIES)?;
            table
                .iter()?
                .map(|entry| {
                    let (key, value) = entry?;
                    let (server, code) = key.value();
                    Ok(SeriesEntry {
                        server: ServerName::new(server)?,
                        signal: series::signal_of(code)?,
                        state: SeriesState::from_bytes(value.value())?,
                    })
                })
                .collect()
        })
    }

    /// The sequence that the next record gets: every record in this snapshot has a lower one.
    ///
    /// Fails with [`Error::Database`].
    pub fn next_sequence(&self) -> Result<u64> {
        self.number(meta::NEXT_SEQUENCE)
    }

    pub(crate) fn wipe_generation(&self) -> Result<u64> {
        self.number(meta::WIPE_GENERATION)
    }

    fn number(&self, name: &str) -> Result<u64> {
        self.read(|| {
            let meta = self.transaction.open_table(META)?;
            Ok(meta.get(name)?.map_or(0, |value| value.value()))
        })
    }

    /// What the clocks say of the time of this snapshot.
    pub(crate) fn clock_verdict(&self) -> Result<&ClockVerdict> {
        once(&self.verdict, || {
            self.read(|| clock::judge(&self.transaction.open_table(META)?, self.reading))
        })
    }

    /// The time by which age is verdict in this snapshot, in nanoseconds since the epoch.
    pub(crate) fn trusted_now(&self) -> Result<i64> {
        Ok(self.clock_verdict()?.now.unix_nanos())
    }

    /// The pending jump of the system's clock, if there is one: a jump that is not trusted yet.
    ///
    /// Fails with [`Error::Database`] and [`Error::Corrupt`].
    pub fn clock_jump(&self) -> Result<Option<ClockJump>> {
        Ok(self.clock_verdict()?.jump)
    }

    /// The entries of the ledger that overlap `range`: first the evicted records, in one entry per
    /// series, then the lost ones, to the minute in the order in which they were entered.
    ///
    /// Fails with [`Error::Database`] and [`Error::Corrupt`].
    pub fn ledger(&self, range: impl Into<TimeRange>) -> Result<Vec<LedgerEntry>> {
        self.read(|| losses::read(&self.transaction, range.into()))
    }

    /// The limits of the store.
    pub(crate) fn limits(&self) -> Result<&Limits> {
        once(&self.limits, || {
            self.read(|| {
                let limits = self.transaction.open_table(LIMITS)?;
                Limits::read(&limits, &self.transaction.open_table(META)?)
            })
        })
    }

    /// The earliest timestamp that is kept of `server`; `None` when nothing of it is too old.
    pub(crate) fn cutoff(&self, server: &str) -> Result<Option<i64>> {
        let limits = self.limits()?;
        // Without a limit nobody needs to know what time it is.
        if limits.of(server).is_none() {
            return Ok(None);
        }
        Ok(limits.cutoff(server, self.trusted_now()?))
    }
}

/// What `cell` holds, found out the first time.
fn once<T>(cell: &OnceLock<T>, find: impl FnOnce() -> Result<T>) -> Result<&T> {
    if let Some(found) = cell.get() {
        return Ok(found);
    }
    let found = find()?;
    Ok(cell.get_or_init(|| found))
}
