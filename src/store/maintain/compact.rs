//! Compaction: returning disk blocks to the file system.
//!
//! A database reuses the pages of deleted records but keeps their disk blocks. To return these,
//! pages from the end of the file are moved into the gaps before them, and the file is truncated.
//! redb does this in transactions of its own through an exclusive handle, so an interrupted
//! compaction leaves the database intact. All other readers and writers wait until it is done; none
//! fails.

use crate::{
    error::{Error, Result},
    home::{IfMissing, StackPath},
    store::{
        engine::{
            disk::{DiskHook, DiskOperation},
            fault::{Fault, guarded},
            open::{self, OpenOptions},
            reserve,
        },
        scan::space::Space,
    },
};
use redb::{CompactionError, Database};
use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// The first wait for a reader; each further wait doubles it.
const WAIT_MIN: Duration = Duration::from_millis(5);
/// The longest wait before readers and cancellation are checked again.
const WAIT_MAX: Duration = Duration::from_millis(200);

/// The free bytes from which compacting is worth making readers and writers wait.
const WORTH_BYTES: u64 = 1 << 20;
/// The fraction of the used bytes that must be free as well: 1/`WORTH_PART`.
const WORTH_PART: u64 = 4;
/// The free bytes from which compacting is worthwhile on a full disk.
const ROOM_BYTES: u64 = 64 << 10;
/// Checking and reading a page costs 1/`LOOK_PART` of moving it.
const LOOK_PART: u64 = 2;

type OnProgress = Arc<dyn Fn(CompactProgress) + Send + Sync>;
type CancelWhen = Arc<dyn Fn() -> bool + Send + Sync>;

/// Options of [`Store::compact`](crate::Store::compact).
///
/// ```
/// use gridctl_telemetry::maintenance::CompactOptions;
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let home = tempfile::tempdir()?;
/// # let home = home.path();
/// # let store = gridctl_telemetry::Store::open(home, "my-stack", Default::default())?;
/// let options = CompactOptions::default()
///     .patience(Duration::from_secs(5))
///     .on_progress(|progress| println!("{} of {} bytes", progress.moved_bytes, progress.total_bytes));
/// let compacted = store.compact(options)?;
/// assert!(compacted.after.used_bytes <= compacted.before.used_bytes);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct CompactOptions {
    patience: Duration,
    on_progress: OnProgress,
    cancel_when: CancelWhen,
    overwrites: bool,
}

impl CompactOptions {
    /// How long to wait for snapshots of an older state to be dropped. Other readers and writers
    /// continue meanwhile. Default: no wait.
    pub fn patience(mut self, patience: Duration) -> CompactOptions {
        self.patience = patience;
        self
    }

    /// A callback for progress. It is called often, and all readers and writers of the database
    /// wait for it, so it must return quickly.
    pub fn on_progress(
        mut self,
        callback: impl Fn(CompactProgress) + Send + Sync + 'static,
    ) -> CompactOptions {
        self.on_progress = Arc::new(callback);
        self
    }

    /// A callback that cancels the compaction by returning `true`: it then ends with
    /// [`Error::Cancelled`], and no record is lost. It is called often.
    pub fn cancel_when(
        mut self,
        wanted: impl Fn() -> bool + Send + Sync + 'static,
    ) -> CompactOptions {
        self.cancel_when = Arc::new(wanted);
        self
    }

    /// Whether all that deleted records have left in the files of the stack is overwritten: in free pages,
    /// in the unused parts of others, at the end of the file that is cut off, and in the files in which
    /// running writers keep records until they are committed. Default: no.
    ///
    /// This writes all records that are kept once more, in transactions of a few MiB, and takes some
    /// seconds for each gibibyte. Readers and writers wait three times as for a compaction. Damaged files
    /// that were set aside stay as they are (see [`list_set_aside`](crate::home::list_set_aside)), and
    /// names of servers stay in the ledger.
    ///
    /// The file is what is overwritten. A drive that moves blocks, as an SSD does, a file system that
    /// copies on write or has snapshots, and backups may keep what was there before. So may blocks of the
    /// disk that the file had before this call, when a commit or an ordinary compaction shortened it.
    pub fn overwrite_deleted(mut self, wanted: bool) -> CompactOptions {
        self.overwrites = wanted;
        self
    }
}

impl CompactOptions {
    pub(crate) fn overwrites(&self) -> bool {
        self.overwrites
    }

    /// Calls `attempt` until it is done, or the patience is at an end. Returns its result.
    ///
    /// Fails with the error of `too_long`, which is given how long it waited.
    pub(crate) fn wait<T>(
        &self,
        mut attempt: impl FnMut() -> Result<Option<T>, Fault>,
        too_long: impl FnOnce(Duration) -> Error,
    ) -> Result<T, Fault> {
        let started = Instant::now();
        let mut wait = WAIT_MIN;
        loop {
            if let Some(done) = attempt()? {
                return Ok(done);
            }
            let waited = started.elapsed();
            let left = self.patience.saturating_sub(waited);
            if left.is_zero() {
                return Err(too_long(waited).into());
            }
            std::thread::sleep(wait.min(left));
            wait = (wait * 2).min(WAIT_MAX);
        }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        (self.cancel_when)()
    }
}

impl Default for CompactOptions {
    fn default() -> CompactOptions {
        CompactOptions {
            patience: Duration::ZERO,
            on_progress: Arc::new(|_| {}),
            cancel_when: Arc::new(|| false),
            overwrites: false,
        }
    }
}

impl fmt::Debug for CompactOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompactOptions")
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

/// The progress of a compaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct CompactProgress {
    /// The bytes moved so far.
    pub moved_bytes: u64,
    /// An estimate of the bytes moved at the end, never below `moved_bytes`.
    pub total_bytes: u64,
}

/// The result of a compaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Compacted {
    /// The space of the database before the compaction.
    pub before: Space,
    /// The space of the database after the compaction.
    pub after: Space,
}

impl Compacted {
    /// The disk blocks returned to the file system, in bytes.
    #[must_use]
    pub fn returned_bytes(&self) -> u64 {
        self.before.used_bytes.saturating_sub(self.after.used_bytes)
    }
}

/// The database to compact.
pub(crate) struct Target<'a> {
    pub(crate) place: &'a StackPath,
    /// The options that the store was opened with.
    pub(crate) opening: &'a OpenOptions,
    /// The space of the database now.
    pub(crate) before: Space,
}

impl Target<'_> {
    /// Compacts the database. On a full disk, the reserve is released first. Fails like
    /// [`Store::compact`](crate::Store::compact).
    pub(crate) fn compact(&self, options: CompactOptions) -> Result<()> {
        let watch = Arc::new(Watch {
            options,
            moved_bytes: AtomicU64::new(0),
            estimate_bytes: bytes_to_move(&self.before),
            cancelled: AtomicBool::new(false),
            over: AtomicBool::new(false),
        });
        let mut outcome = self.compact_watched(&watch);
        if let Err(Error::StorageFull { .. }) = outcome {
            reserve::release(self.place);
            outcome = self.compact_watched(&watch);
        }
        match outcome {
            Ok(()) => {
                reserve::keep(self.place);
                Ok(())
            }
            // redb turns the error of the refused operation into one of its own.
            Err(_) if watch.cancelled.load(Ordering::Relaxed) => Err(Error::Cancelled {
                action: "compact",
                path: self.place.database(),
            }),
            Err(error) => Err(error),
        }
    }

    fn compact_watched(&self, watch: &Arc<Watch>) -> Result<()> {
        watch.over.store(false, Ordering::Relaxed);
        // redb compacts through an exclusive handle, so a second one is opened.
        let opening = OpenOptions {
            disk_hook: Some(watch.hook(self.opening.disk_hook.clone())),
            overwrites_cut: watch.options.overwrites,
            ..self.opening.clone()
        };
        let path = self.place.database();
        let mut database = open::open_database(self.place, &opening, IfMissing::Skip)?
            .ok_or_else(|| Error::io("open", &path, io::ErrorKind::NotFound.into()))?;
        let outcome = guarded(|| self.compact_when_unread(&mut database, watch))
            .map_err(|fault| fault.at("compact", &path));
        // Closing the handle writes as well, and a finished compaction must not be cancelled.
        watch.over.store(true, Ordering::Relaxed);
        outcome
    }

    /// Compacts once no snapshot of an older state is left.
    fn compact_when_unread(&self, database: &mut Database, watch: &Watch) -> Result<(), Fault> {
        let attempt = || {
            watch.ask().map_err(redb::StorageError::Io)?;
            match database.compact() {
                Ok(_) => Ok(Some(())),
                Err(CompactionError::TransactionInProgress) => Ok(None),
                Err(error) => Err(error.into()),
            }
        };
        let path = self.place.database();
        let too_long = |waited| Error::ReaderInTheWay { path, waited };
        watch.options.wait(attempt, too_long)
    }
}

/// Whether a compaction frees enough to be worthwhile, and makes others wait no longer than moving
/// `bytes_max` takes.
pub(crate) fn is_cheap(space: &Space, bytes_max: u64) -> bool {
    let is_worth_it = space.free_bytes >= WORTH_BYTES.max(space.used_bytes / WORTH_PART);
    let cost = bytes_to_move(space) + space.live_bytes / LOOK_PART;
    is_worth_it && cost <= bytes_max
}

/// Whether a compaction frees enough to be worthwhile on a full disk, where it may take any time
/// because nothing can be stored anyway.
pub(crate) fn makes_room(space: &Space) -> bool {
    space.free_bytes >= ROOM_BYTES
}

/// Maximum number of bytes that a compaction moves: the live bytes, or those that fit the gaps.
fn bytes_to_move(space: &Space) -> u64 {
    space.live_bytes.min(space.free_bytes)
}

/// Observes every disk operation of a compaction.
struct Watch {
    options: CompactOptions,
    moved_bytes: AtomicU64,
    estimate_bytes: u64,
    /// Whether the compaction was cancelled, so that further operations fail.
    cancelled: AtomicBool,
    /// Whether the compaction is done and can no longer be cancelled.
    over: AtomicBool,
}

impl Watch {
    /// A hook that counts moved bytes and cancels, then calls `inner`.
    fn hook(self: &Arc<Watch>, inner: Option<DiskHook>) -> DiskHook {
        let watch = Arc::clone(self);
        Arc::new(move |operation| {
            watch.ask()?;
            if let Some(inner) = &inner {
                inner(operation)?;
            }
            if let DiskOperation::Write { bytes, .. } = operation {
                watch.count(bytes.len() as u64);
            }
            Ok(())
        })
    }

    fn ask(&self) -> io::Result<()> {
        if self.over.load(Ordering::Relaxed) {
            return Ok(());
        }
        if self.options.is_cancelled() {
            self.cancelled.store(true, Ordering::Relaxed);
        }
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(io::Error::other("the compaction was cancelled"));
        }
        Ok(())
    }

    fn count(&self, bytes: u64) {
        let moved_bytes = self.moved_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        (self.options.on_progress)(CompactProgress {
            moved_bytes,
            total_bytes: self.estimate_bytes.max(moved_bytes),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ingest::{Writer, WriterOptions},
        record::{Level, LogRecord, ServerName},
        store::{Store, StoreOptions, WipeScope},
        time::Timestamp,
    };
    use xxhash_rust::xxh3::xxh3_64;

    #[test]
    fn a_compaction_that_does_not_pay_or_takes_long_is_skipped() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path(), "stack", StoreOptions::default()).unwrap();
        let (writer, guard) = Writer::start(&store, WriterOptions::default()).unwrap();
        let cheap = |bytes| store.compact_if_cheap(bytes).unwrap();
        for name in ["kept", "wiped"] {
            for number in 0..3000_i64 {
                let at = Timestamp::from_unix_nanos(number);
                // Incompressible.
                let numbers = (0..100).map(|part| xxh3_64(&(number * 100 + part).to_le_bytes()));
                let text = format!("{:016x?}", numbers.collect::<Vec<u64>>());
                let record = LogRecord::new(at, Level::INFO, text);
                writer
                    .log(&ServerName::new(name).unwrap(), &record)
                    .unwrap();
            }
            writer.flush().unwrap();
        }
        guard.close().unwrap();
        store.compact(CompactOptions::default()).unwrap();
        assert_eq!(cheap(u64::MAX), None, "nothing is free");
        let scope = WipeScope::everything().server(ServerName::new("wiped").unwrap());
        store.wipe(&scope).unwrap();
        assert_eq!(cheap(1 << 10), None, "it takes long");
        let snapshot = store.snapshot().unwrap();
        assert_eq!(cheap(u64::MAX), None, "a reader is in the way");
        drop(snapshot);
        let compacted = cheap(u64::MAX).unwrap();
        assert!(compacted.returned_bytes() > 1 << 20, "{compacted:?}");
        assert_eq!(cheap(u64::MAX), None, "it is done");
    }
}
