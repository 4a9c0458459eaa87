//! Deleting what is stored, at once and for good.
//!
//! A wipe leaves a mark in the database, so that records that a writer still has in its queue do not
//! reappear: see [`wipes`].

use crate::{
    error::Result,
    store::{
        engine::fault::Fault,
        handle::{Store, StoreWriter},
        layout::{
            series::{self, SeriesState},
            tables::SERIES,
        },
        ledger::wipes::{self, WipeScope},
        options::StoreOptions,
        tiers::{blocks, rows},
    },
};
use redb::{ReadableTable, WriteTransaction};
use std::path::Path;

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
            wipes::mark(transaction, scope)?;
            Ok(matching.len())
        })
    }
}

fn delete_records(transaction: &WriteTransaction, state: &SeriesState) -> Result<(), Fault> {
    rows::remove_all(transaction, state.id)?;
    blocks::change(transaction, |blocks| blocks.remove_all(state))
}
