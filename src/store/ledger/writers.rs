//! The running writers of a database, and the processes that they run in.
//!
//! A writer enters itself when it starts and removes its entry when it ends. An entry whose process
//! no longer runs belongs to a killed writer, which lost an unknown number of uncommitted records.
//! The next writer that starts enters this loss in the ledger.

use crate::{
    loss::{LedgerEntry, LossCause},
    platform,
    store::{
        engine::fault::Fault,
        layout::tables::{META, WRITERS, meta},
        ledger::{decode, encode, losses},
    },
    time::Timestamp,
};
use redb::{ReadableTable, WriteTransaction};
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

/// Enters a writer of this process and returns its number. Removes the entries of killed writers
/// and enters their losses in the ledger.
pub(crate) fn enter(transaction: &WriteTransaction) -> Result<u64, Fault> {
    let mut killed = Vec::new();
    let mut writers = transaction.open_table(WRITERS)?;
    for entry in writers.iter()? {
        let (number, process) = entry?;
        if !decode::<Process>(process.value())?.is_alive() {
            killed.push(number.value());
        }
    }
    let mut meta = transaction.open_table(META)?;
    for number in &killed {
        writers.remove(number)?;
        meta.remove(meta::last_batch(*number).as_str())?;
    }
    let last_commit = meta.get(meta::LAST_COMMIT)?.map(|nanos| nanos.value());
    let number = meta
        .get(meta::NEXT_WRITER)?
        .map_or(0, |number| number.value());
    meta.insert(meta::NEXT_WRITER, number + 1)?;
    writers.insert(number, encode(&Process::current())?.as_slice())?;
    let now = Timestamp::now();
    let from = last_commit
        .and_then(|nanos| i64::try_from(nanos).ok())
        .map_or(now, Timestamp::from_unix_nanos);
    let losses: Vec<LedgerEntry> = killed
        .iter()
        .map(|_| LedgerEntry {
            server: None,
            signal: None,
            cause: LossCause::Crash,
            count: 0,
            from: from.min(now),
            to: now,
            recovered: 0,
        })
        .collect();
    losses::record(transaction, &losses)?;
    Ok(number)
}

/// Whether any running process has a writer.
pub(crate) fn is_any_running(transaction: &WriteTransaction) -> Result<bool, Fault> {
    for entry in transaction.open_table(WRITERS)?.iter()? {
        if decode::<Process>(entry?.1.value())?.is_alive() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes the entry of a writer that ends properly.
pub(crate) fn leave(transaction: &WriteTransaction, number: u64) -> Result<(), Fault> {
    transaction.open_table(WRITERS)?.remove(number)?;
    transaction
        .open_table(META)?
        .remove(meta::last_batch(number).as_str())?;
    Ok(())
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
