//! A view of one state of the database, through which all reading is done.

use crate::{
    error::{Error, Result},
    record::ServerName,
    signal::Signal,
    store::{
        engine::{
            fault::{Fault, guarded},
            schema,
        },
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
use redb::{ReadOnlyTable, ReadTransaction, ReadableTable};
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

/// One state of the database: a read transaction, with values that are computed once and shared by
/// all readers.
pub(crate) struct View {
    path: PathBuf,
    transaction: ReadTransaction,
    /// The reading of the clocks when the view was opened, so that all answers are for the same
    /// time.
    reading: ClockReading,
    verdict: OnceLock<ClockVerdict>,
    limits: OnceLock<(Limits, Option<String>)>,
    /// Whether the counters were found to be intact.
    counters: OnceLock<()>,
    cancel: Cancel,
}

/// Whether reading was asked to end.
#[derive(Clone, Default)]
pub(crate) struct Cancel(Option<Arc<dyn Fn() -> bool + Send + Sync>>);

impl Cancel {
    /// Fails if reading was asked to end. Called for each block, and for every few rows.
    pub(crate) fn check(&self, path: &Path) -> Result<(), Fault> {
        match &self.0 {
            Some(wanted) if wanted() => Err(Fault::Other(Error::Cancelled {
                action: "read",
                path: path.to_owned(),
            })),
            _ => Ok(()),
        }
    }
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

/// A series whose entry cannot be read.
#[derive(Debug, Clone)]
pub(crate) struct DamagedSeries {
    /// `None` when the name is damaged, too.
    pub(crate) server: Option<ServerName>,
    /// `None` when the signal is damaged, too.
    pub(crate) signal: Option<Signal>,
    pub(crate) what: String,
}

impl View {
    pub(crate) fn new(path: PathBuf, transaction: ReadTransaction, reading: ClockReading) -> View {
        View {
            path,
            transaction,
            reading,
            verdict: OnceLock::new(),
            limits: OnceLock::new(),
            counters: OnceLock::new(),
            cancel: Cancel::default(),
        }
    }

    pub(crate) fn cancel_when(&mut self, wanted: impl Fn() -> bool + Send + Sync + 'static) {
        self.cancel = Cancel(Some(Arc::new(wanted)));
    }

    pub(crate) fn cancel(&self) -> &Cancel {
        &self.cancel
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

    /// All series, sorted by server and then by signal. Fails when one of them cannot be read.
    pub(crate) fn series(&self) -> Result<Vec<SeriesEntry>> {
        let (series, damage) = self.readable_series()?;
        match damage.into_iter().next() {
            Some(damage) => Err(self.failed(Fault::Corrupt(damage.what))),
            None => Ok(series),
        }
    }

    /// The series that can be read, sorted by server and then by signal, and those that cannot.
    pub(crate) fn readable_series(&self) -> Result<(Vec<SeriesEntry>, Vec<DamagedSeries>)> {
        self.read(|| {
            let (mut found, mut damaged) = (Vec::new(), Vec::new());
            for entry in self.transaction.open_table(SERIES)?.iter()? {
                let (key, value) = entry?;
                // redb panics at a name that is not UTF-8.
                let named = guarded(|| {
                    let (server, code) = key.value();
                    Ok((ServerName::new(server)?, code))
                });
                let (server, code) = named.ok().unzip();
                let entry = guarded(|| series::read_entry(key.value(), value.value()));
                match entry {
                    Ok((server, signal, state)) => found.push(SeriesEntry {
                        server,
                        signal,
                        state,
                    }),
                    Err(fault) => damaged.push(DamagedSeries {
                        server,
                        signal: code.and_then(Signal::from_code),
                        what: fault.reason(),
                    }),
                }
            }
            Ok((found, damaged))
        })
    }

    /// The counters and the state of the clock. Fails when they are damaged.
    pub(crate) fn meta(&self) -> Result<ReadOnlyTable<&'static str, u64>, Fault> {
        let meta = self.transaction.open_table(META)?;
        if self.counters.get().is_none() {
            schema::check_meta(&meta)?;
            self.counters.get_or_init(|| ());
        }
        Ok(meta)
    }

    /// The sequence of the next record: every record in this view has a lower one.
    pub(crate) fn next_sequence(&self) -> Result<u64> {
        self.number(meta::NEXT_SEQUENCE)
    }

    /// The identity of the database; 0 before anything was stored.
    pub(crate) fn database_id(&self) -> Result<u64> {
        self.number(meta::DATABASE_ID)
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

    /// When all records were checked last; `None` before the first time.
    pub(crate) fn last_scrub(&self) -> Result<Option<Timestamp>> {
        let nanos = self.number(meta::LAST_SCRUB)?;
        Ok(i64::try_from(nanos)
            .ok()
            .filter(|nanos| *nanos > 0)
            .map(Timestamp::from_unix_nanos))
    }

    fn number(&self, name: &str) -> Result<u64> {
        self.read(|| Ok(self.meta()?.get(name)?.map_or(0, |value| value.value())))
    }

    /// The reading of the system clock when the view was opened, which may be wrong.
    pub(crate) fn wall_time(&self) -> Timestamp {
        self.reading.wall
    }

    /// The verdict on the clocks at the time of this view.
    pub(crate) fn clock_verdict(&self) -> Result<&ClockVerdict> {
        once(&self.verdict, || {
            self.read(|| clock::judge(&self.meta()?, self.reading))
        })
    }

    /// The time by which age is judged in this view, in nanoseconds since the epoch.
    pub(crate) fn trusted_now(&self) -> Result<i64> {
        Ok(self.clock_verdict()?.now.unix_nanos())
    }

    /// The limits of the database. Fails when one of them is damaged.
    pub(crate) fn limits(&self) -> Result<&Limits> {
        match self.limits_and_damage()? {
            (limits, None) => Ok(limits),
            (_, Some(what)) => Err(self.failed(Fault::Corrupt(what.clone()))),
        }
    }

    /// The limits of the database that are not damaged: see [`Limits::read`].
    pub(crate) fn limits_that_hold(&self) -> Result<&Limits> {
        Ok(&self.limits_and_damage()?.0)
    }

    fn limits_and_damage(&self) -> Result<&(Limits, Option<String>)> {
        once(&self.limits, || {
            self.read(|| {
                let limits = self.transaction.open_table(LIMITS)?;
                Limits::read(&limits, &self.meta()?)
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
