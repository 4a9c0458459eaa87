//! A view of one state of the database, through which all reading is done.

use crate::{
    error::{Error, Result},
    record::ServerName,
    signal::Signal,
    store::{
        engine::fault::{Fault, guarded},
        layout::{
            series::{self, SeriesState},
            tables::{LIMITS, META, SERIES, meta},
        },
        policy::{
            clock::{self, ClockVerdict},
            limits::Limits,
            system_clock::ClockReading,
        },
    },
    time::Timestamp,
};
use redb::{ReadTransaction, ReadableTable};
use std::{fmt, path::PathBuf, sync::OnceLock};

/// One state of the database: a read transaction, with values that are computed once and shared by
/// all readers.
pub(crate) struct View {
    path: PathBuf,
    transaction: ReadTransaction,
    /// The reading of the clocks when the view was opened, so that all answers are for the same
    /// time.
    reading: ClockReading,
    verdict: OnceLock<ClockVerdict>,
    limits: OnceLock<Limits>,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// A (server, signal) pair and its state.
#[derive(Debug, Clone)]
pub(crate) struct SeriesEntry {
    pub(crate) server: ServerName,
    pub(crate) signal: Signal,
    pub(crate) state: SeriesState,
}

impl View {
    pub(crate) fn new(path: PathBuf, transaction: ReadTransaction, reading: ClockReading) -> View {
        View {
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

    /// Runs `operation`. An error names the failed operation and the database.
    pub(crate) fn read<T>(&self, operation: impl FnOnce() -> Result<T, Fault>) -> Result<T> {
        guarded(operation).map_err(|fault| self.failed(fault))
    }

    pub(crate) fn failed(&self, fault: Fault) -> Error {
        fault.at("read", &self.path)
    }

    /// All series, sorted by server and then by signal.
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

    /// The sequence of the next record: every record in this view has a lower one.
    pub(crate) fn next_sequence(&self) -> Result<u64> {
        self.number(meta::NEXT_SEQUENCE)
    }

    pub(crate) fn wipe_generation(&self) -> Result<u64> {
        self.number(meta::WIPE_GENERATION)
    }

    /// The time of the last commit of any writer; `None` before the first one.
    pub(crate) fn last_commit(&self) -> Result<Option<Timestamp>> {
        let nanos = self.number(meta::LAST_COMMIT)?;
        Ok(i64::try_from(nanos)
            .ok()
            .filter(|nanos| *nanos > 0)
            .map(Timestamp::from_unix_nanos))
    }

    fn number(&self, name: &str) -> Result<u64> {
        self.read(|| {
            let meta = self.transaction.open_table(META)?;
            Ok(meta.get(name)?.map_or(0, |value| value.value()))
        })
    }

    /// The reading of the system clock when the view was opened, which may be wrong.
    pub(crate) fn wall_time(&self) -> Timestamp {
        self.reading.wall
    }

    /// The verdict on the clocks at the time of this view.
    pub(crate) fn clock_verdict(&self) -> Result<&ClockVerdict> {
        once(&self.verdict, || {
            self.read(|| clock::judge(&self.transaction.open_table(META)?, self.reading))
        })
    }

    /// The time by which age is judged in this view, in nanoseconds since the epoch.
    pub(crate) fn trusted_now(&self) -> Result<i64> {
        Ok(self.clock_verdict()?.now.unix_nanos())
    }

    /// The limits of the database.
    pub(crate) fn limits(&self) -> Result<&Limits> {
        once(&self.limits, || {
            self.read(|| {
                let limits = self.transaction.open_table(LIMITS)?;
                Limits::read(&limits, &self.transaction.open_table(META)?)
            })
        })
    }

    /// The earliest timestamp of `server` that is kept; `None` without an age limit.
    pub(crate) fn cutoff(&self, server: &str) -> Result<Option<i64>> {
        let limits = self.limits()?;
        // Without an age limit the time is not needed, and reading it has a cost.
        if limits.of(server).is_none() {
            return Ok(None);
        }
        Ok(limits.cutoff(server, self.trusted_now()?))
    }
}

/// The value of `cell`, which the first call computes.
fn once<T>(cell: &OnceLock<T>, find: impl FnOnce() -> Result<T>) -> Result<&T> {
    if let Some(found) = cell.get() {
        return Ok(found);
    }
    let found = find()?;
    Ok(cell.get_or_init(|| found))
}
