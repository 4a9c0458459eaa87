//! Deleting what is stored, at once and for good.
//!
//! A wipe by another process finds records of the daemon that were emitted before it but are still
//! queued. They must not reappear when the daemon commits them. So a wipe leaves a mark: its scope
//! and the instant it happened, on the clock that all processes of a machine share. The daemon's
//! writer drops what was emitted before the mark. Marks of wipes before the writer started do not
//! concern it, for nothing in its queue is that old; this also spares marks a meaning across
//! reboots, which set that clock back.

use crate::{
    error::Result,
    platform::monotonic_nanos,
    record::ServerName,
    signal::Signal,
    store::{
        engine::fault::Fault,
        handle::{Store, StoreWriter},
        layout::{
            series::{self, SeriesState},
            tables::{META, SERIES, WIPES, meta},
        },
        options::StoreOptions,
        tiers::{blocks, rows},
    },
};
use redb::{ReadableTable, WriteTransaction};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What a wipe deletes: everything, or less where a server or a signal is named.
///
/// ```
/// use gridctl_telemetry::{ServerName, Signal, maintenance::WipeScope};
///
/// let logs_of_github = WipeScope::everything()
///     .server(ServerName::new("github")?)
///     .signal(Signal::Logs);
/// # Ok::<(), gridctl_telemetry::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct WipeScope {
    /// This server alone.
    pub server: Option<ServerName>,
    /// This signal alone.
    pub signal: Option<Signal>,
}

impl WipeScope {
    /// Everything in the database.
    #[must_use]
    pub fn everything() -> WipeScope {
        WipeScope::default()
    }

    /// Of this server alone; of all servers again with `None`.
    #[must_use]
    pub fn server(mut self, server: impl Into<Option<ServerName>>) -> WipeScope {
        self.server = server.into();
        self
    }

    /// Of this signal alone; of all signals again with `None`.
    #[must_use]
    pub fn signal(mut self, signal: impl Into<Option<Signal>>) -> WipeScope {
        self.signal = signal.into();
        self
    }

    pub(crate) fn covers(&self, server: &str, signal: Signal) -> bool {
        self.server.as_deref().is_none_or(|name| name == server)
            && self.signal.is_none_or(|only| only == signal)
    }

    fn key(&self) -> (&str, u8) {
        let signal = self.signal.map_or(EVERY_SIGNAL, |signal| signal as u8);
        (self.server.as_deref().unwrap_or(EVERY_SERVER), signal)
    }

    fn from_key((server, signal): (&str, u8)) -> Result<WipeScope, Fault> {
        Ok(WipeScope {
            server: match server {
                EVERY_SERVER => None,
                name => Some(ServerName::new(name)?),
            },
            signal: match signal {
                EVERY_SIGNAL => None,
                code => Some(series::signal_of(code)?),
            },
        })
    }

    /// Whether everything that `other` covers is covered by this scope.
    fn contains(&self, other: &WipeScope) -> bool {
        (self.server.is_none() || self.server == other.server)
            && (self.signal.is_none() || self.signal == other.signal)
    }
}

/// No server has an empty name.
const EVERY_SERVER: &str = "";
const EVERY_SIGNAL: u8 = u8::MAX;

/// When a scope was wiped last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct WipeMark {
    generation: u64,
    monotonic_nanos: u64,
}

/// The wipes that a writer must honour: those since it started.
#[derive(Debug)]
pub(crate) struct WipeMarks {
    since: u64,
    seen: u64,
    marks: Vec<(WipeScope, u64)>,
}

impl WipeMarks {
    /// The marks of a writer that starts now and has nothing queued.
    pub(crate) fn starting_at(generation: u64) -> WipeMarks {
        WipeMarks {
            since: generation,
            seen: generation,
            marks: Vec::new(),
        }
    }

    /// Takes in the wipes that were committed before `transaction` began, and says whether there
    /// were any.
    pub(crate) fn refresh(
        &mut self,
        transaction: &WriteTransaction,
        generation: u64,
    ) -> Result<bool, Fault> {
        if generation == self.seen {
            return Ok(false);
        }
        self.marks.clear();
        for entry in transaction.open_table(WIPES)?.iter()? {
            let (key, value) = entry?;
            let mark: WipeMark = rmp_serde::from_slice(value.value())
                .map_err(|error| Fault::Corrupt(format!("a wipe does not decode: {error}")))?;
            if mark.generation > self.since {
                self.marks
                    .push((WipeScope::from_key(key.value())?, mark.monotonic_nanos));
            }
        }
        self.seen = generation;
        Ok(true)
    }

    /// The instant up to which records of this series are wiped.
    pub(crate) fn wiped_until(&self, server: &str, signal: Signal) -> Option<u64> {
        self.marks
            .iter()
            .filter(|(scope, _)| scope.covers(server, signal))
            .map(|(_, instant)| *instant)
            .max()
    }
}

impl Store {
    /// Deletes what `scope` covers, in one transaction, and returns how many (server, signal) pairs
    /// had something. Records that were emitted before and are still queued in some process are
    /// not stored any more; persistence goes on with the next one.
    ///
    /// What it took of the disk is taken by what is stored next; [`Store::compact`] gives it back.
    ///
    /// In a process that has a [`Writer`](crate::Writer), its `wipe` does the same on its thread.
    ///
    /// A full disk does not keep it from deleting: some room is reserved for that.
    ///
    /// Fails with [`Error::ReadOnly`](crate::Error::ReadOnly) and
    /// [`Error::Database`](crate::Error::Database), and nothing is deleted then.
    pub fn wipe(&self, scope: &WipeScope) -> Result<usize> {
        self.writer()?.wipe(scope)
    }
}

/// Deletes what `scope` covers of `stack`'s telemetry, see [`Store::wipe`]. A stack without
/// telemetry is a success.
pub fn wipe(home: &Path, stack: &str, scope: &WipeScope) -> Result<usize> {
    match Store::open_existing(home, stack, StoreOptions::for_tools())? {
        Some(store) => store.wipe(scope),
        None => Ok(0),
    }
}

impl StoreWriter {
    /// Deletes what `scope` covers and returns how many series it was found in.
    pub(crate) fn wipe(&self, scope: &WipeScope) -> Result<usize> {
        self.transact_freeing("wipe", |transaction| {
            let mut matching = Vec::new();
            for entry in transaction.open_table(SERIES)?.iter()? {
                let (key, value) = entry?;
                let (server, code) = key.value();
                if scope.covers(server, series::signal_of(code)?) {
                    let state = SeriesState::from_bytes(value.value())?;
                    matching.push((server.to_owned(), code, state));
                }
            }
            for (server, code, state) in &matching {
                delete_records(transaction, state)?;
                transaction
                    .open_table(SERIES)?
                    .remove((server.as_str(), *code))?;
            }
            mark(transaction, scope)?;
            Ok(matching.len())
        })
    }
}

fn delete_records(transaction: &WriteTransaction, state: &SeriesState) -> Result<(), Fault> {
    rows::remove_all(transaction, state.id)?;
    blocks::change(transaction, |blocks| blocks.remove_all(state))
}

fn mark(transaction: &WriteTransaction, scope: &WipeScope) -> Result<(), Fault> {
    let generation = {
        let mut meta = transaction.open_table(META)?;
        let generation = meta
            .get(meta::WIPE_GENERATION)?
            .map_or(0, |value| value.value())
            + 1;
        meta.insert(meta::WIPE_GENERATION, generation)?;
        generation
    };
    let mut wipes = transaction.open_table(WIPES)?;
    // Marks that this one includes say nothing more: without this the table would grow with every
    // server that was ever wiped.
    let mut included = Vec::new();
    for entry in wipes.iter()? {
        let key = entry?.0;
        if scope.contains(&WipeScope::from_key(key.value())?) {
            let (server, signal) = key.value();
            included.push((server.to_owned(), signal));
        }
    }
    for (server, signal) in &included {
        wipes.remove((server.as_str(), *signal))?;
    }
    let mark = WipeMark {
        generation,
        monotonic_nanos: monotonic_nanos(),
    };
    let mark = rmp_serde::to_vec(&mark)
        .map_err(|error| Fault::Corrupt(format!("a wipe does not encode: {error}")))?;
    wipes.insert(scope.key(), mark.as_slice())?;
    Ok(())
}
