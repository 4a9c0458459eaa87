//! What a wipe deletes, and the wipe.

use super::params::Params;
use crate::{
    problem::Problem,
    state::{Server, blocking},
};
use gridctl_telemetry::{
    Error, ServerName, Signal, Snapshot, Timestamp,
    maintenance::{CompactOptions, WipeScope},
    query::InventoryRecord,
};
use std::time::Duration;

/// How long to wait for readers before the disk space is left to a later compaction.
const PATIENCE: Duration = Duration::from_secs(2);

/// What to delete.
#[derive(Debug, Clone)]
pub(crate) struct Wipe {
    /// Empty for all servers.
    pub(crate) servers: Vec<ServerName>,
    pub(crate) signal: Option<Signal>,
    /// Only records before this time.
    pub(crate) before: Option<Timestamp>,
}

/// What a wipe would delete.
#[derive(Debug)]
pub(crate) struct WouldWipe {
    pub(crate) records: Vec<InventoryRecord>,
    /// The servers that have counters and no records of them any more.
    pub(crate) counters: Vec<ServerName>,
}

impl WouldWipe {
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.counters.is_empty()
    }
}

impl Wipe {
    /// The wipe that a request asks for.
    ///
    /// # Errors
    ///
    /// If a time cannot be read.
    pub(crate) fn of(params: &Params) -> Result<Wipe, Problem> {
        Ok(Wipe {
            servers: params.servers.clone(),
            signal: params.signal,
            before: params.range()?.until,
        })
    }

    /// A scope for each server, or one for all.
    fn scopes(&self) -> impl Iterator<Item = WipeScope> {
        WipeScope::everything()
            .signal(self.signal)
            .before(self.before)
            .for_servers(&self.servers)
    }

    /// What it would delete of the records that are there now.
    ///
    /// # Errors
    ///
    /// Like [`Snapshot::would_wipe`].
    pub(crate) fn would_delete(&self, snapshot: &Snapshot) -> Result<WouldWipe, Problem> {
        let mut found = WouldWipe {
            records: Vec::new(),
            counters: Vec::new(),
        };
        for scope in self.scopes() {
            found.records.extend(snapshot.would_wipe(&scope)?);
            found.counters.extend(snapshot.would_wipe_counters(&scope)?);
        }
        Ok(found)
    }

    /// Deletes it, and returns the disk space to the file system if no reader is in the way. Returns the number
    /// of series that had records of it.
    ///
    /// # Errors
    ///
    /// Like [`Writer::wipe`](gridctl_telemetry::Writer::wipe).
    pub(crate) async fn run(self, server: &Server) -> Result<usize, Problem> {
        let store = server.store().clone();
        let wiped = server
            .write(move |writer| {
                let mut series = 0;
                for scope in self.scopes() {
                    series += writer.wipe(&scope)?;
                }
                Ok(series)
            })
            .await?;
        // Everything is deleted: what fails from here on is only about disk space.
        let _ = blocking(move || {
            let compacted = store.compact(CompactOptions::default().patience(PATIENCE));
            compacted.map_err(|error: Error| Problem::from(error))
        })
        .await;
        Ok(wiped)
    }
}
