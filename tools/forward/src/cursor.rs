//! The file that says how far each signal was sent.
//!
//! It is replaced after each batch that the endpoint has taken. A killed forwarder leaves the file of the batch before
//! the one in flight, so that one is sent again, and nothing else.

use crate::{error::ForwardError, missed::Tally};
use gridctl_telemetry::{ServerName, Signal, query::Cursor};
use gridctl_telemetry_files::{AtomicFile, lock_beside, read_named};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

const VERSION: u32 = 1;

/// How far a signal was sent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Position {
    /// The identity of the database.
    pub(crate) database: u64,
    /// Records with a lower sequence were sent.
    pub(crate) since_sequence: u64,
    /// Records with a lower sequence were sent up to `after`.
    pub(crate) end_sequence: u64,
    pub(crate) after: Option<Cursor>,
    /// Whether a batch may be on its way: the next forwarder may then send it a second time.
    pub(crate) is_open: bool,
    /// What of the records was sent, by server.
    pub(crate) series: Tally,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Stored {
    version: u32,
    stack: String,
    /// The servers whose records are sent; empty for all.
    servers: Vec<ServerName>,
    signals: BTreeMap<Signal, Position>,
}

/// A cursor file that only this forwarder uses.
#[derive(Debug)]
pub(crate) struct CursorFile {
    path: PathBuf,
    stored: Mutex<Stored>,
    /// Another name, because the file itself is replaced.
    _lock: File,
}

impl CursorFile {
    /// Takes the file, which need not exist. With `anew`, what it says is forgotten.
    ///
    /// Fails when another forwarder uses it, and when it is not one of this stack and these servers.
    pub(crate) fn open(
        path: &Path,
        stack: &str,
        servers: &[ServerName],
        anew: bool,
    ) -> Result<CursorFile, ForwardError> {
        let failed = |error: &dyn std::fmt::Display| {
            ForwardError::File(format!(
                "cannot use the cursor file {}: {error}",
                path.display()
            ))
        };
        let lock = lock_beside(path).map_err(|error| failed(&format_args!("{error:#}")))?;
        let lock = lock.ok_or_else(|| ForwardError::InUse {
            path: path.to_owned(),
        })?;
        let text = read_named(path).map_err(|error| ForwardError::File(format!("{error:#}")))?;
        let mut servers = servers.to_vec();
        servers.sort_unstable();
        servers.dedup();
        let new = Stored {
            version: VERSION,
            stack: stack.to_owned(),
            servers,
            signals: BTreeMap::new(),
        };
        let stored = match text.filter(|_| !anew) {
            None => new,
            Some(text) => {
                let found: Stored = serde_json::from_slice(&text).map_err(|error| {
                    failed(&format_args!(
                        "it is none ({error}): name another, or begin anew"
                    ))
                })?;
                if found.version != VERSION {
                    let version = found.version;
                    return Err(failed(&format_args!(
                        "it has the version {version}, and only {VERSION} is known: name another"
                    )));
                }
                if found.stack != new.stack {
                    return Err(failed(&format_args!(
                        "it belongs to the stack {:?}: name a file for each stack",
                        found.stack
                    )));
                }
                if found.servers != new.servers {
                    let names = |servers: &[ServerName]| match servers {
                        [] => "all servers".to_owned(),
                        some => format!("the servers {}", some.join(", ")),
                    };
                    return Err(failed(&format_args!(
                        "it is about {}, not about {}: name another, or begin anew",
                        names(&found.servers),
                        names(&new.servers)
                    )));
                }
                found
            }
        };
        Ok(CursorFile {
            path: path.to_owned(),
            stored: Mutex::new(stored),
            _lock: lock,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// How far a signal was sent; `None` if it never was.
    pub(crate) fn position(&self, signal: Signal) -> Option<Position> {
        let stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        stored.signals.get(&signal).cloned()
    }

    /// Stores how far a signal was sent, on the disk.
    pub(crate) fn save(&self, signal: Signal, position: &Position) -> Result<(), String> {
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        let before = stored.signals.insert(signal, position.clone());
        if before.as_ref() == Some(position) {
            return Ok(());
        }
        let write = || {
            let mut file = AtomicFile::create(&self.path)?;
            file.write_bytes(&serde_json::to_vec(&*stored)?)?;
            file.finish()
        };
        let outcome: Result<(), _> = write();
        outcome.map_err(|error| {
            // Otherwise the file would count as written.
            match before {
                Some(before) => stored.signals.insert(signal, before),
                None => stored.signals.remove(&signal),
            };
            format!("{error:#}")
        })
    }
}
