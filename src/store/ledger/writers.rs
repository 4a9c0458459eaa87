//! The running writers of a database, and the processes that they run in.
//!
//! A writer enters itself when it starts and removes its entry when it ends. The entry of a writer
//! that no longer runs belongs to a killed one. The next process that opens the database to write
//! stores the records that it has left in its spill, and enters the kill in the ledger. Whether a
//! writer runs is seen from the lock of its [spill](super::spill), or from the id and the start of its
//! process where it has none.

use crate::{
    error::Error,
    home::StackPath,
    loss::{LedgerEntry, LossCause},
    platform,
    store::{
        engine::{disk::DiskHook, fault::Fault, transaction::WriteTransaction},
        layout::tables::{META, WRITERS, meta},
        ledger::{
            decode_next, encode, losses,
            spill::{self, Lock, Spill},
        },
    },
    time::Timestamp,
};
use redb::{ReadTransaction, ReadableTable};
use serde::{Deserialize, Serialize};

/// Identifies a batch, so that a retried batch is not stored twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchId {
    /// The writer's number, see [`enter`].
    pub(crate) writer: u64,
    /// The number of the batch within its writer.
    pub(crate) number: u64,
}

/// Whether `batch` is the last batch that its writer committed. If not, notes it as the last: the
/// caller must store the batch in the same transaction.
pub(crate) fn is_committed(transaction: &WriteTransaction, batch: BatchId) -> Result<bool, Fault> {
    let name = meta::last_batch(batch.writer);
    let mut meta = transaction.open_table(META)?;
    let last = meta.insert(name.as_str(), batch.number)?;
    Ok(last.is_some_and(|last| last.value() == batch.number))
}

/// Enters a writer of this process and returns its number, and its spill or why that cannot be
/// created.
pub(crate) fn enter(
    transaction: &WriteTransaction,
    place: &StackPath,
    hook: Option<DiskHook>,
) -> Result<(u64, Result<Spill, Error>), Fault> {
    let mut meta = transaction.open_table(META)?;
    let number_of = |name| Ok::<_, Fault>(meta.get(name)?.map_or(0, |number| number.value()));
    let number = number_of(meta::NEXT_WRITER)?;
    let wipe_generation = number_of(meta::WIPE_GENERATION)?;
    meta.insert(meta::NEXT_WRITER, number + 1)?;
    let registered = Registered {
        process: Process::current(),
        since: Some(Timestamp::now().unix_nanos()),
    };
    let mut writers = transaction.open_table(WRITERS)?;
    writers.insert(number, registered.encode()?.as_slice())?;
    // In this transaction, so that no other process sees the entry before the lock.
    // A writer can do without: its process id says whether it runs.
    let spill = Spill::create(place, number, wipe_generation, hook);
    Ok((number, spill))
}

/// The writers that have ended without removing their entry.
pub(crate) fn ended(
    writers: &impl ReadableTable<u64, &'static [u8]>,
    place: &StackPath,
) -> Result<Vec<u64>, Fault> {
    let mut ended = Vec::new();
    for entry in writers.iter()? {
        let (number, value) = entry?;
        if !Registered::decode(value.value())?.is_alive(place, number.value()) {
            ended.push(number.value());
        }
    }
    Ok(ended)
}

/// The number of the last batch that `writer` committed; 0 before the first one.
pub(crate) fn last_batch(transaction: &WriteTransaction, writer: u64) -> Result<u64, Fault> {
    let meta = transaction.open_table(META)?;
    let last = meta.get(meta::last_batch(writer).as_str())?;
    Ok(last.map_or(0, |number| number.value()))
}

/// What a writer that has ended without removing its entry left.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Left {
    /// The number of records that were recovered from its spill.
    pub(crate) recovered: u64,
    /// The number of records in its spill that could not be read.
    pub(crate) lost: u64,
    /// Whether it ended properly, and left records because it could not commit them.
    pub(crate) is_closed: bool,
}

/// Enters killed writers in the ledger, and the records that no writer can read any more.
pub(crate) fn record_ends(
    transaction: &WriteTransaction,
    last_commit: Option<Timestamp>,
    ended: &[Left],
) -> Result<(), Fault> {
    let now = Timestamp::now();
    let losses: Vec<LedgerEntry> = ended
        .iter()
        .filter(|left| !left.is_closed || left.lost > 0)
        .map(|left| LedgerEntry {
            server: None,
            signal: None,
            cause: if left.is_closed {
                LossCause::DiskFault
            } else {
                LossCause::Crash
            },
            count: left.lost,
            from: last_commit.unwrap_or(now).min(now),
            to: now,
            recovered: if left.is_closed { 0 } else { left.recovered },
        })
        .collect();
    losses::record(transaction, &losses)
}

/// The time of the last commit of any writer.
pub(crate) fn last_commit(transaction: &WriteTransaction) -> Result<Option<Timestamp>, Fault> {
    let meta = transaction.open_table(META)?;
    let nanos = meta.get(meta::LAST_COMMIT)?.map(|nanos| nanos.value());
    Ok(nanos
        .and_then(|nanos| i64::try_from(nanos).ok())
        .map(Timestamp::from_unix_nanos))
}

/// Whether any running process has a writer.
pub(crate) fn is_any_running(
    transaction: &WriteTransaction,
    place: &StackPath,
) -> Result<bool, Fault> {
    for entry in transaction.open_table(WRITERS)?.iter()? {
        let (number, value) = entry?;
        if Registered::decode(value.value())?.is_alive(place, number.value()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A writer of a database, as other processes see it: see
/// [`Store::writers`](crate::Store::writers).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct WriterStatus {
    /// The id of its process.
    pub process_id: u32,
    /// When it started; absent when an older version of this crate started it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Whether it still runs. One that does not was killed, and no writer has started since.
    pub is_running: bool,
    /// Since when it cannot store; absent when it can, and when that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<Timestamp>,
    /// Why its last attempt to store failed, the first 400 bytes; absent like `failing_since`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// The writers that have not ended properly, in the order in which they started.
pub(crate) fn list(
    transaction: &ReadTransaction,
    place: &StackPath,
) -> Result<Vec<WriterStatus>, Fault> {
    let mut writers = Vec::new();
    for entry in transaction.open_table(WRITERS)?.iter()? {
        let (number, value) = entry?;
        let registered = Registered::decode(value.value())?;
        let header = spill::header_of(place, number.value());
        let failure = header.and_then(|header| header.failure).unzip();
        writers.push(WriterStatus {
            process_id: registered.process.pid,
            since: registered.since.map(Timestamp::from_unix_nanos),
            is_running: registered.is_alive(place, number.value()),
            failing_since: failure.0.map(Timestamp::from_unix_nanos),
            last_error: failure.1,
        });
    }
    Ok(writers)
}

/// Removes the entry of a writer that ends properly.
pub(crate) fn leave(transaction: &WriteTransaction, number: u64) -> Result<(), Fault> {
    transaction.open_table(WRITERS)?.remove(number)?;
    transaction
        .open_table(META)?
        .remove(meta::last_batch(number).as_str())?;
    Ok(())
}

/// An entry of [`WRITERS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Registered {
    process: Process,
    /// When the writer started, in nanoseconds since the epoch. Older versions neither write nor read
    /// this.
    since: Option<i64>,
}

impl Registered {
    fn encode(&self) -> Result<Vec<u8>, Fault> {
        let mut bytes = encode(&self.process)?;
        if let Some(since) = self.since {
            bytes.extend(encode(&since)?);
        }
        Ok(bytes)
    }

    fn decode(mut bytes: &[u8]) -> Result<Registered, Fault> {
        let process = decode_next(&mut bytes)?;
        let since = (!bytes.is_empty())
            .then(|| decode_next(&mut bytes))
            .transpose()?;
        Ok(Registered { process, since })
    }

    /// Whether the writer with this entry and `number` runs.
    fn is_alive(&self, place: &StackPath, number: u64) -> bool {
        match spill::lock_of(place, number) {
            Lock::Held => true,
            Lock::Free => false,
            // An older version started it, or its file system has no locks.
            Lock::Unknown => self.process.is_alive(),
        }
    }
}

/// A process that has a writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Process {
    pid: u32,
    /// The start time of the process, which distinguishes it from an earlier process with the same
    /// id; 0 where the system does not provide it.
    started: u64,
}

impl Process {
    fn current() -> Process {
        let pid = std::process::id();
        Process {
            pid,
            started: platform::process_start(pid).unwrap_or(0),
        }
    }

    fn is_alive(&self) -> bool {
        platform::process_runs(self.pid)
            && platform::process_start(self.pid).is_none_or(|started| started == self.started)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        home::SpillFile,
        store::{Store, StoreOptions},
    };

    #[test]
    fn a_writer_runs_while_its_spill_is_locked() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path(), "stack", StoreOptions::default()).unwrap();
        let writer = store.writer().unwrap();
        let is_running = || {
            let found = store.writers().unwrap();
            assert_eq!(found.len(), 1);
            found[0].is_running
        };
        let (number, spill) = writer.enter_writer().unwrap();
        let spill = spill.unwrap();
        assert!(is_running());
        // The process runs, but not the writer: another process may have its id.
        drop(spill);
        assert!(!is_running());
        // Without a spill, the process decides.
        store.place().remove_spill(number).unwrap();
        assert!(is_running());
    }

    #[test]
    fn what_stands_in_the_place_of_a_spill_is_not_followed() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path(), "stack", StoreOptions::default()).unwrap();
        let other = home.path().join("other");
        std::fs::write(&other, "precious").unwrap();
        let place = store.place();
        for file in SpillFile::BOTH {
            std::os::unix::fs::symlink(&other, place.spill(0, file)).unwrap();
            std::fs::hard_link(&other, place.spill(1, file)).unwrap();
        }
        for number in [0, 1] {
            for file in SpillFile::BOTH {
                assert!(place.open_spill(number, file).unwrap().is_none());
            }
            let (entered, spill) = store.writer().unwrap().enter_writer().unwrap();
            assert_eq!(entered, number);
            std::mem::forget(spill.expect("another file is removed"));
        }
        assert_eq!(std::fs::read(&other).unwrap(), b"precious");
        assert!(place.spills().unwrap().into_iter().eq([0, 1]));
    }

    #[test]
    fn entries_of_older_versions_are_read() {
        let process = Process { pid: 7, started: 8 };
        let old = encode(&process).unwrap();
        let registered = Registered::decode(&old).unwrap();
        assert_eq!((registered.process, registered.since), (process, None));
        let since = Some(9);
        let new = Registered { process, since }.encode().unwrap();
        assert_eq!(Registered::decode(&new).unwrap().since, since);
        assert_eq!(rmp_serde::from_slice::<Process>(&new).unwrap(), process);
    }
}
