//! Outages: periods during which a writer cannot store, and the listener that is told of them.

use crate::{
    error::{Error, Result},
    record::ServerName,
    signal::Signal,
    time::Timestamp,
};
use crossbeam::channel::Sender;
use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

/// The begin or the end of an outage, or what befell the file of the database: see
/// [`WriterOptions::on_outage`](crate::WriterOptions::on_outage).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase", tag = "event")]
#[non_exhaustive]
pub enum OutageEvent {
    /// The writer failed to store. Records are kept in memory while there is room, and storing is
    /// tried again.
    #[non_exhaustive]
    Began {
        /// When it failed.
        since: Timestamp,
        /// Why it failed.
        error: String,
    },
    /// Stored records were found to be damaged: the disk or another program changed their bytes. All
    /// others can be read.
    #[non_exhaustive]
    Damaged {
        /// The server of the records; absent when that is not known.
        #[serde(skip_serializing_if = "Option::is_none")]
        server: Option<ServerName>,
        /// The signal of the records; absent when that is not known.
        #[serde(skip_serializing_if = "Option::is_none")]
        signal: Option<Signal>,
        /// The number of records that cannot be read; absent when that is not known.
        #[serde(skip_serializing_if = "Option::is_none")]
        records: Option<u64>,
        /// What is damaged.
        what: String,
    },
    /// The writer stores again, and nothing of what it kept is missing.
    #[non_exhaustive]
    Ended {
        /// When the outage began.
        since: Timestamp,
        /// When it ended.
        until: Timestamp,
    },
    /// The file of the database was replaced, restored or deleted, and the writer goes on in the one
    /// that is at its path now. The next flush fails once.
    #[non_exhaustive]
    Replaced {
        /// When the writer noticed.
        at: Timestamp,
        /// The number of records that this writer had stored in the other file.
        records: u64,
    },
    /// The database could not be opened, was set aside, and a new one begins: see
    /// [`StoreOptions::set_aside_damaged`](crate::StoreOptions::set_aside_damaged).
    #[non_exhaustive]
    SetAside {
        /// When it was set aside.
        at: Timestamp,
        /// Its present path.
        path: PathBuf,
        /// Why it could not be opened.
        reason: String,
    },
}

/// The function of an application that is told of outages.
#[derive(Clone)]
pub(super) struct OutageListener(Arc<dyn Fn(OutageEvent) + Send + Sync>);

impl OutageListener {
    pub(super) fn new(listener: impl Fn(OutageEvent) + Send + Sync + 'static) -> OutageListener {
        OutageListener(Arc::new(listener))
    }

    /// Starts a thread that calls the listener, so that one that blocks or panics does not stop the
    /// writer. The thread ends after the last event once the sender is dropped.
    pub(super) fn start(&self, path: &Path) -> Result<Sender<OutageEvent>> {
        let (sender, events) = crossbeam::channel::unbounded();
        let OutageListener(listener) = self.clone();
        std::thread::Builder::new()
            .name("gridctl-telemetry-outages".to_owned())
            .spawn(move || {
                for event in events {
                    // The panic hook of the application has reported the panic.
                    let _ = catch_unwind(AssertUnwindSafe(|| listener(event)));
                }
            })
            .map_err(|error| Error::io("start the outage listener of", path, error))?;
        Ok(sender)
    }
}

impl fmt::Debug for OutageListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OutageListener")
    }
}
