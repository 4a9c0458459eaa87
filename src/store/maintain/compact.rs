//! Giving space back to the disk.
//!
//! A database reuses the pages of what was deleted and keeps their disk blocks. To give them back,
//! what stands at the end of the file is moved into the gaps before it, and the file is cut. The
//! engine does that in transactions of its own, through a handle that nobody else uses, so whatever
//! interrupts it leaves the database as it was or as it would be. Other processes, and whoever uses
//! this store, wait meanwhile; nobody fails.

use crate::{
    error::{Error, Result},
    store::{
        engine::{
            disk::{DiskHook, DiskOperation},
            fault::{Fault, guarded},
            open::OpenOptions,
            reserve,
        },
        handle::Store,
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

/// The first wait for a reader; each further one doubles it.
const WAIT_MIN: Duration = Duration::from_millis(5);
/// The longest wait between two looks at whether a reader, or the wish to go on, is gone.
const WAIT_MAX: Duration = Duration::from_millis(200);

/// How much must be free before anybody is made to wait for it, unless it was asked for.
const WORTH_BYTES: u64 = 1 << 20;
/// And which part of the whole.
const WORTH_PART: u64 = 4;
/// How much is worth it on a disk that is full.
const ROOM_BYTES: u64 = 64 << 10;
/// Looking at a page takes so much less than moving it.
const LOOK_PART: u64 = 8;

type OnProgress = Arc<dyn Fn(CompactProgress) + Send + Sync>;
type CancelWhen = Arc<dyn Fn() -> bool + Send + Sync>;

/// How [`Store::compact`] goes about it.
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
}

impl CompactOptions {
    /// How long readers that hold an older state are waited for. Nobody else waits during that time.
    /// Default: not at all.
    pub fn patience(mut self, patience: Duration) -> CompactOptions {
        self.patience = patience;
        self
    }

    /// What is told of each step. It is called often, and everybody who uses the database waits for
    /// it: let it be short.
    pub fn on_progress(
        mut self,
        callback: impl Fn(CompactProgress) + Send + Sync + 'static,
    ) -> CompactOptions {
        self.on_progress = Arc::new(callback);
        self
    }

    /// Is asked before each step, and ends the compaction with [`Error::Cancelled`] when it says
    /// `true`. Nothing is lost then.
    pub fn cancel_when(
        mut self,
        wanted: impl Fn() -> bool + Send + Sync + 'static,
    ) -> CompactOptions {
        self.cancel_when = Arc::new(wanted);
        self
    }
}

impl Default for CompactOptions {
    fn default() -> CompactOptions {
        CompactOptions {
            patience: Duration::ZERO,
            on_progress: Arc::new(|_| {}),
            cancel_when: Arc::new(|| false),
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

/// How far a compaction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct CompactProgress {
    /// So many bytes were moved.
    pub moved_bytes: u64,
    /// So many will have been at the end: an estimate, never below `moved_bytes`.
    pub total_bytes: u64,
}

/// What a compaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Compacted {
    /// What the database took of the disk.
    pub before: Space,
    /// What it takes now.
    pub after: Space,
}

impl Compacted {
    /// The disk blocks that came back, in bytes.
    #[must_use]
    pub fn returned_bytes(&self) -> u64 {
        self.before.used_bytes.saturating_sub(self.after.used_bytes)
    }
}

impl Store {
    /// Gives the disk blocks back that hold nothing any more.
    ///
    /// Everybody who reads or writes this database waits until it is over: about a second for each
    /// gibibyte that is moved, a fifth of that for one that stays in its place. It may be cancelled
    /// or killed at any time; nothing is lost, and the next write takes somewhat longer.
    ///
    /// Fails with [`Error::ReaderInTheWay`] when some process, perhaps this one, reads a state from
    /// before and does not end within the patience of `options`; with [`Error::Cancelled`]; with
    /// [`Error::ReadOnly`] on a store that was opened so; and as writing does.
    pub fn compact(&self, options: CompactOptions) -> Result<Compacted> {
        let before = self.space()?;
        let watch = Arc::new(Watch {
            options,
            moved_bytes: AtomicU64::new(0),
            estimate_bytes: bytes_to_move(&before),
            cancelled: AtomicBool::new(false),
            over: AtomicBool::new(false),
        });
        let mut outcome = self.compact_watched(&watch);
        if let Err(Error::StorageFull { .. }) = outcome {
            reserve::release(self.place());
            outcome = self.compact_watched(&watch);
        }
        match outcome {
            Ok(()) => {
                reserve::keep(self.place());
                Ok(Compacted {
                    before,
                    after: self.space()?,
                })
            }
            // Whatever the engine made of the operation that it was not allowed to do.
            Err(_) if watch.cancelled.load(Ordering::Relaxed) => Err(Error::Cancelled {
                action: "compact",
                path: self.path(),
            }),
            Err(error) => Err(error),
        }
    }

    /// Compacts if that pays and everybody waits for no more than the time that moving `bytes_max`
    /// takes; `None` when it does not, or when a reader is in the way.
    ///
    /// Fails as [`Store::compact`] does.
    pub(crate) fn compact_if_cheap(&self, bytes_max: u64) -> Result<Option<Compacted>> {
        let space = self.space()?;
        let worth = space.free_bytes >= WORTH_BYTES.max(space.used_bytes / WORTH_PART);
        let cost = bytes_to_move(&space) + space.live_bytes / LOOK_PART;
        if !worth || cost > bytes_max {
            return Ok(None);
        }
        match self.compact(CompactOptions::default()) {
            Ok(compacted) => Ok(Some(compacted)),
            Err(Error::ReaderInTheWay { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Compacts if that gives room on a disk that is full, however long it takes: nothing can be
    /// stored meanwhile anyway. What keeps it from that keeps it also from what comes next, which
    /// will say so.
    pub(crate) fn compact_for_room(&self) {
        if self
            .space()
            .is_ok_and(|space| space.free_bytes >= ROOM_BYTES)
        {
            let _ = self.compact(CompactOptions::default());
        }
    }

    fn compact_watched(&self, watch: &Arc<Watch>) -> Result<()> {
        watch.over.store(false, Ordering::Relaxed);
        let hook = watch.hook(self.opening().disk_hook.clone());
        let mut database = self.open_another(&OpenOptions {
            disk_hook: Some(hook),
            ..self.opening().clone()
        })?;
        let outcome = guarded(|| self.compact_when_unread(&mut database, watch))
            .map_err(|fault| fault.at("compact", &self.path()));
        // Closing writes as well, and what is finished is no longer to be cancelled.
        watch.over.store(true, Ordering::Relaxed);
        outcome
    }

    /// Compacts as soon as nobody reads a state from before.
    fn compact_when_unread(&self, database: &mut Database, watch: &Watch) -> Result<(), Fault> {
        let started = Instant::now();
        let mut wait = WAIT_MIN;
        loop {
            watch.ask().map_err(redb::StorageError::Io)?;
            match database.compact() {
                Ok(_) => return Ok(()),
                Err(CompactionError::TransactionInProgress) => {}
                Err(error) => return Err(error.into()),
            }
            let waited = started.elapsed();
            let left = watch.options.patience.saturating_sub(waited);
            if left.is_zero() {
                let path = self.path();
                return Err(Error::ReaderInTheWay { path, waited }.into());
            }
            std::thread::sleep(wait.min(left));
            wait = (wait * 2).min(WAIT_MAX);
        }
    }
}

/// What a compaction moves at most: what is live, or as much of it as fits into the gaps.
fn bytes_to_move(space: &Space) -> u64 {
    space.live_bytes.min(space.free_bytes)
}

/// Sees every operation of a compaction.
struct Watch {
    options: CompactOptions,
    moved_bytes: AtomicU64,
    estimate_bytes: u64,
    /// Whether the next operation fails because it is no longer wanted.
    cancelled: AtomicBool,
    /// Whether nothing is left to be cancelled.
    over: AtomicBool,
}

impl Watch {
    /// A hook that counts and cancels, in front of the one that is there.
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
        if (self.options.cancel_when)() {
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
        store::{StoreOptions, WipeScope},
        time::Timestamp,
    };
    use xxhash_rust::xxh3::xxh3_64;

    #[test]
    fn what_does_not_pay_or_takes_long_is_left() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path(), "stack", StoreOptions::default()).unwrap();
        let (writer, guard) = Writer::start(&store, WriterOptions::default()).unwrap();
        let cheap = |bytes| store.compact_if_cheap(bytes).unwrap();
        for name in ["kept", "wiped"] {
            for number in 0..3000_i64 {
                let at = Timestamp::from_unix_nanos(number);
                // Nothing that compresses.
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
        let scope = WipeScope {
            server: Some(ServerName::new("wiped").unwrap()),
            signal: None,
        };
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
