//! The running writers of a database, and the processes that they run in.
//!
//! A writer enters itself when it starts and removes its entry when it ends. The entry of a writer
//! that no longer runs belongs to a killed one. The next process that opens the database to write
//! stores the records that it has left in its spill, and enters the kill in the ledger. Whether a
//! writer runs is seen from the lock of its [spill](super::spill), which the system releases when the
//! process ends, in whatever PID namespace it is. Where there is no such file, because an older version
//! started the writer or the file system has no locks, the id and the start of its process decide.

use crate::{
    error::Error,
    home::StackPath,
    loss::{LedgerEntry, LossCause},
    platform,
    store::{
        engine::{
            disk::DiskHook,
            fault::Fault,
            transaction::{Table, WriteTransaction},
        },
        layout::tables::{META, WRITERS, meta},
        ledger::{
            decode_next, encode, losses,
            spill::{self, Lock, Spill, SpillLock},
        },
    },
    time::Timestamp,
};
use redb::{ReadTransaction, ReadableTable};
use serde::{Deserialize, Serialize};
use std::hash::{BuildHasher, Hasher, RandomState};

/// Identifies a batch, so that a retried batch is not stored twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchId {
    pub(crate) writer: WriterEntry,
    /// The number of the batch within its writer.
    pub(crate) number: u64,
    /// The number of the last batch of the writer that is known to be committed; 0 before the first.
    pub(crate) previous: u64,
}

/// The entry of a writer of this process, see [`enter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WriterEntry {
    /// The writer's number. No other writer of the database has had it.
    pub(crate) number: u64,
    registered: Registered,
}

impl WriterEntry {
    /// Whether a database has this entry. It does not if another file, or an older state of the file,
    /// was put in the place of the one that the writer has entered.
    fn is_in(&self, writers: &impl ReadableTable<u64, &'static [u8]>) -> Result<bool, Fault> {
        let found = writers.get(self.number)?;
        Ok(match found {
            Some(found) => found.value() == self.registered.encode()?,
            None => false,
        })
    }
}

/// What a database says about a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// It is not stored yet.
    New,
    /// It is the last batch that its writer committed.
    Committed,
    /// The writer has never entered this database, or it lacks batches that the writer committed.
    OfAnotherDatabase,
}

/// What the database says about `batch`. If it is new, notes it as the last of its writer: the caller
/// must store the batch in the same transaction.
pub(crate) fn look_up(transaction: &WriteTransaction, batch: BatchId) -> Result<Known, Fault> {
    if !batch.writer.is_in(&*transaction.open_table(WRITERS)?)? {
        return Ok(Known::OfAnotherDatabase);
    }
    let name = meta::last_batch(batch.writer.number);
    let mut meta = transaction.open_table(META)?;
    let last = meta.insert(name.as_str(), batch.number)?;
    Ok(match last.map_or(0, |last| last.value()) {
        last if last == batch.number => Known::Committed,
        last if last == batch.previous => Known::New,
        _ => Known::OfAnotherDatabase,
    })
}

/// Whether the database has the entry of `writer`, and `last_batch` as its last batch.
pub(crate) fn has_batches(
    transaction: &ReadTransaction,
    writer: WriterEntry,
    last_batch: u64,
) -> Result<bool, Fault> {
    let meta = transaction.open_table(META)?;
    let last = meta.get(meta::last_batch(writer.number).as_str())?;
    Ok(last.map_or(0, |last| last.value()) == last_batch
        && writer.is_in(&transaction.open_table(WRITERS)?)?)
}

/// A writer that has entered a database.
#[derive(Debug)]
pub(crate) struct Entered {
    pub(crate) entry: WriterEntry,
    /// Its spill, or why that cannot be created.
    pub(crate) spill: Result<Spill, Error>,
    /// Without a spill, what says that the writer runs.
    pub(crate) lock: Option<SpillLock>,
}

/// Enters a writer of this process. `wipe_generation` is the number of the newest wipe that it knows
/// of: the next one gets a higher number, also in a new database.
pub(crate) fn enter(
    transaction: &WriteTransaction,
    place: &StackPath,
    wipe_generation: u64,
    hook: Option<DiskHook>,
) -> Result<Entered, Fault> {
    let mut meta = transaction.open_table(META)?;
    let number_of = |name| Ok::<_, Fault>(meta.get(name)?.map_or(0, |number| number.value()));
    let mut number = number_of(meta::NEXT_WRITER)?;
    // It belongs to a running writer of a database that was at this path before.
    while spill::lock_of(place, number) == Lock::Held {
        number += 1;
    }
    let found_generation = number_of(meta::WIPE_GENERATION)?;
    meta.insert(meta::NEXT_WRITER, number + 1)?;
    if wipe_generation > found_generation {
        meta.insert(meta::WIPE_GENERATION, wipe_generation)?;
    }
    let wipe_generation = wipe_generation.max(found_generation);
    let registered = Registered {
        process: Process::current(),
        since: Some(Timestamp::now().unix_nanos()),
    };
    let mut writers = transaction.open_table(WRITERS)?;
    writers.insert(number, registered.encode()?.as_slice())?;
    let database = identify(&mut meta)?;
    // In this transaction, so that no other process sees the entry before the lock.
    // A writer can do without: a lock alone, or else its process id, says whether it runs.
    let spill = Spill::create(place, number, (database, wipe_generation), hook);
    let lock = match &spill {
        Ok(_) => None,
        Err(_) => SpillLock::hold(place, number),
    };
    Ok(Entered {
        entry: WriterEntry { number, registered },
        spill,
        lock,
    })
}

/// The identity of the database, which gets one if it has none.
fn identify(meta: &mut Table<'_, &'static str, u64>) -> Result<u64, Fault> {
    let found = meta.get(meta::DATABASE_ID)?.map_or(0, |id| id.value());
    if found != 0 {
        return Ok(found);
    }
    let database = RandomState::new().build_hasher().finish().max(1);
    meta.insert(meta::DATABASE_ID, database)?;
    Ok(database)
}

/// Gives the database an identity if it has none.
pub(crate) fn ensure_identity(transaction: &WriteTransaction) -> Result<(), Fault> {
    identify(&mut transaction.open_table(META)?).map(drop)
}

/// The writers that have ended without removing their entry.
pub(crate) fn ended(
    writers: &impl ReadableTable<u64, &'static [u8]>,
    place: &StackPath,
) -> Result<Vec<u64>, Fault> {
    let mut ended = Vec::new();
    for entry in writers.iter()? {
        let (number, value) = entry?;
        if !is_running(place, number.value(), value.value()) {
            ended.push(number.value());
        }
    }
    Ok(ended)
}

/// The identity of the database, which spills name; 0 before the first writer.
pub(crate) fn database_id(transaction: &WriteTransaction) -> Result<u64, Fault> {
    let meta = transaction.open_table(META)?;
    let id = meta.get(meta::DATABASE_ID)?;
    Ok(id.map_or(0, |id| id.value()))
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
        if is_running(place, number.value(), value.value()) {
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
    /// The id of its process; 0 when its entry is damaged.
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
        let registered = Registered::decode(value.value()).ok();
        let header = spill::header_of(place, number.value());
        let failure = header.and_then(|header| header.failure).unzip();
        writers.push(WriterStatus {
            process_id: registered.map_or(0, |it| it.process.pid),
            since: registered
                .and_then(|it| it.since)
                .map(Timestamp::from_unix_nanos),
            is_running: is_running(place, number.value(), value.value()),
            failing_since: failure.0.map(Timestamp::from_unix_nanos),
            last_error: failure.1,
        });
    }
    Ok(writers)
}

/// Removes the entry of a writer that ends properly, if the database has it.
pub(crate) fn leave_as(transaction: &WriteTransaction, writer: WriterEntry) -> Result<(), Fault> {
    if writer.is_in(&*transaction.open_table(WRITERS)?)? {
        leave(transaction, writer.number)?;
    }
    Ok(())
}

/// Removes the entry of a writer.
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
}

/// Whether the writer with this number and entry runs. The entry has no checksum: it only matters where
/// nothing else says so, and a writer whose entry is damaged ends and is entered anew, with another number.
fn is_running(place: &StackPath, number: u64, entry: &[u8]) -> bool {
    match spill::lock_of(place, number) {
        Lock::Held => true,
        Lock::Free => false,
        // An older version started it, or its file system has no locks.
        Lock::Unknown => Registered::decode(entry).is_ok_and(|it| it.process.is_alive()),
    }
}

/// A process that has a writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Process {
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
        ingest::{Writer, WriterOptions},
        read::Query,
        record::{Level, LogRecord, ServerName},
        signal::Signal,
        store::{Store, StoreOptions, WipeScope, tiers::sealer::Tiering},
    };

    /// An older copy of the database has the writer, too.
    #[test]
    fn a_database_without_the_last_batch_of_a_writer_is_another_one() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path(), "stack", StoreOptions::default()).unwrap();
        let writer = store.writer().unwrap();
        let entered = writer.enter_writer().unwrap();
        let mut appender = writer.appender(Tiering::default()).unwrap();
        for number in 1..3 {
            let id = BatchId {
                writer: entered.entry,
                number,
                previous: number - 1,
            };
            writer.append(&mut appender, &mut [], &[], id).unwrap();
            writer.check_writer(entered.entry, number).unwrap();
            for other in [number - 1, number + 1] {
                let checked = writer.check_writer(entered.entry, other);
                assert!(matches!(checked, Err(Error::DatabaseReplaced { .. })));
            }
        }
    }

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
        let Entered { entry, spill, .. } = writer.enter_writer().unwrap();
        let spill = spill.unwrap();
        assert!(is_running());
        // In another PID namespace, another process has its id, or none.
        let registered = Registered {
            process: Process {
                pid: u32::MAX,
                started: 1,
            },
            since: Some(1),
        };
        writer
            .transact("test", |transaction| {
                let mut writers = transaction.open_table(WRITERS)?;
                writers.insert(entry.number, registered.encode()?.as_slice())?;
                Ok(())
            })
            .unwrap();
        assert!(is_running());
        writer.recover().unwrap();
        assert!(is_running(), "its entry and its counters stay");
        drop(spill);
        assert!(!is_running());
        writer.recover().unwrap();
        assert!(store.writers().unwrap().is_empty());
        // The process runs, but not the writer: another process may have its id.
        let Entered { entry, spill, .. } = writer.enter_writer().unwrap();
        assert!(is_running());
        drop(spill);
        assert!(!is_running());
        // Without a spill, the process decides.
        store.place().remove_spill(entry.number).unwrap();
        assert!(is_running());
        // Or a lock alone, where the file has no room for a header.
        let lock = SpillLock::hold(store.place(), entry.number).unwrap();
        assert_eq!(spill::lock_of(store.place(), entry.number), Lock::Held);
        assert!(is_running());
        drop(lock);
        assert!(!is_running());
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
            let Entered { entry, spill, .. } = store.writer().unwrap().enter_writer().unwrap();
            assert_eq!(entry.number, number);
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

    /// Neither keeps a damaged entry another writer from being entered, nor does its own writer collide with
    /// that one.
    #[test]
    fn a_damaged_entry_stops_no_writer() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path(), "stack", StoreOptions::default()).unwrap();
        let server = ServerName::new("github").unwrap();
        let start = || Writer::start(&store, WriterOptions::default()).unwrap();
        let log = |writer: &Writer, number| {
            let time = Timestamp::from_unix_nanos(number);
            let record = LogRecord::new(time, Level::INFO, "ok");
            writer.log(&server, &record).unwrap();
        };
        for damage in [&b"\xc1"[..], b"", b"\x92\x01\x02"] {
            let (first, first_guard) = start();
            log(&first, 0);
            first.flush().unwrap();
            let change = |transaction: &WriteTransaction| {
                let mut writers = transaction.open_table(WRITERS)?;
                let number = writers.first()?.unwrap().0.value();
                writers.insert(number, damage)?;
                Ok(())
            };
            store.writer().unwrap().transact("damage", change).unwrap();
            assert!(store.writers().unwrap()[0].is_running);
            let (second, second_guard) = start();
            for number in 1..4 {
                log(&first, number);
                log(&second, number + 10);
                // The first one takes the database for another one, once.
                let flushed = first.flush();
                assert!(number == 1 || flushed.is_ok(), "{flushed:?}");
                second.flush().unwrap();
            }
            first_guard.close().unwrap();
            second_guard.close().unwrap();
            let found = store.last(&Query::new(Signal::Logs), 100).unwrap();
            let found: Vec<i64> = found.iter().map(|it| it.timestamp.unix_nanos()).collect();
            assert_eq!(found, [0, 1, 2, 3, 11, 12, 13]);
            store.writer().unwrap().recover().unwrap();
            assert!(store.writers().unwrap().is_empty());
            store.wipe(&WipeScope::everything()).unwrap();
        }
    }
}
