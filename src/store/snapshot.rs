//! One state of the database, to read from.

use super::{
    Fault, RowTier,
    fault::guarded,
    tables::{self, META, ROWS, SERIES, SeriesId, SeriesState, meta},
};
use crate::{
    error::{Error, Result},
    record::ServerName,
    signal::Signal,
};
use redb::{ReadTransaction, ReadableTable};
use std::{collections::HashMap, fmt, path::PathBuf};

/// One state of a stack's telemetry. What is committed later does not show in it, so everything
/// read from one snapshot fits together.
pub struct Snapshot {
    path: PathBuf,
    transaction: ReadTransaction,
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
    pub(super) fn new(path: PathBuf, transaction: ReadTransaction) -> Snapshot {
        Snapshot { path, transaction }
    }

    pub(super) fn path(&self) -> &PathBuf {
        &self.path
    }

    pub(super) fn transaction(&self) -> &ReadTransaction {
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
                        signal: tables::signal_of(code)?,
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

    pub(super) fn wipe_generation(&self) -> Result<u64> {
        self.number(meta::WIPE_GENERATION)
    }

    fn number(&self, name: &str) -> Result<u64> {
        self.read(|| {
            let meta = self.transaction.open_table(META)?;
            Ok(meta.get(name)?.map_or(0, |value| value.value()))
        })
    }

    /// How much of each series is in the row tier.
    pub(crate) fn row_tiers(&self) -> Result<HashMap<SeriesId, RowTier>> {
        self.read(|| {
            let mut tiers: HashMap<SeriesId, RowTier> = HashMap::new();
            for entry in self.transaction.open_table(ROWS)?.iter()? {
                let (key, payload) = entry?;
                tiers
                    .entry(tables::row_series(key.value()))
                    .or_default()
                    .add(payload.value().len());
            }
            Ok(tiers)
        })
    }
}
