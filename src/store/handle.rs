//! The handle of a stack's database.

use crate::{
    config::{ConfigWarning, RetentionPolicy},
    error::{Error, Result},
    home::{IfMissing, StackPath},
    loss::{LedgerEntry, LossCause},
    platform::{self, FileId},
    store::{
        admission::Admission,
        engine::{
            disk::DiskHook,
            fault::{Fault, guarded},
            open::{self, Engine, OpenOptions, Reader, SetAsideNote},
            transaction::WriteTransaction,
        },
        layout::tables::WRITERS,
        ledger::{
            spill::{self, Lock},
            wipes::{WipeMarks, WipeScope},
            writers::{self, WriterStatus},
        },
        maintain::{
            compact::{self, CompactOptions, Compacted},
            overwrite::Overwriting,
            summaries,
        },
        options::StoreOptions,
        policy::system_clock::ClockReading,
        scan::{
            excess,
            inventory::InventoryRecord,
            space::{self, DiskUsage, FileSystem, Space},
        },
        snapshot::Snapshot,
        tiers::view::SeriesEntry,
        writer::StoreWriter,
    },
};
use redb::{ReadTransaction, ReadableDatabase};
use std::{
    fmt, io,
    path::Path,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

/// Maximum number of attempts to open a database, two for each file that is set aside meanwhile.
const SET_ASIDE_ATTEMPTS: usize = 6;

/// The telemetry of one stack: a database that any number of processes read and write at the same
/// time.
///
/// Cheap to clone; all clones share one open database. Readers never block a writer. To store
/// records, see [`Writer`](crate::Writer).
///
/// ```
/// use gridctl_telemetry::{Query, Signal, Store, StoreOptions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let home = tempfile::tempdir()?;
/// # let home = home.path();
/// let store = Store::open(home, "my-stack", StoreOptions::default())?;
/// assert!(store.last(&Query::new(Signal::Logs), 100)?.is_empty());
/// assert!(store.space()?.used_bytes > 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    place: StackPath,
    options: StoreOptions,
    engine: RwLock<Engine>,
    /// Reading uses a handle of its own, opened on first use: after an I/O error, the writing
    /// handle fails every operation until it is reopened, and on a full disk that happens at every
    /// attempt to store.
    reader: RwLock<Option<Reader>>,
    admission: Admission,
    /// The files that this handle has set aside, oldest first.
    set_aside: Mutex<Vec<SetAsideNote>>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("place", &self.place)
            .field("engine", &self.engine)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the database of `stack` below `home`, and creates it when it is missing:
    /// `<home>/telemetry/<stack>/telemetry.redb`. A database of an older schema version is
    /// migrated.
    ///
    /// # Errors
    /// [`Error::InvalidStackName`] when `stack` is not one plain path component;
    /// [`Error::ForeignOwner`] and [`Error::NotAFile`] when the path belongs to another user or is
    /// not a file; [`Error::NotADatabase`] and [`Error::SchemaTooNew`], without changing the file,
    /// when another program or a newer version wrote it; [`Error::Corrupt`] when it is damaged;
    /// [`Error::StorageFull`], [`Error::Io`] and [`Error::Database`] when the system refuses an
    /// operation.
    ///
    /// Records that a killed process had collected and not committed are stored first, see
    /// [`Writer`](crate::Writer).
    pub fn open(home: &Path, stack: &str, options: StoreOptions) -> Result<Store> {
        let place = StackPath::new(home, stack)?;
        let store = Store::open_read_write(place, options, IfMissing::Create)?;
        // With `IfMissing::Create`, the file can only be missing if another process deletes the
        // folder.
        store.ok_or_else(|| Error::Io {
            action: "create the database in",
            path: home.to_owned(),
            source: io::ErrorKind::NotFound.into(),
        })
    }

    /// Opens the database of `stack` below `home` for reading and writing; `None` when it is
    /// missing. Otherwise like [`Store::open`].
    pub fn open_existing(home: &Path, stack: &str, options: StoreOptions) -> Result<Option<Store>> {
        Store::open_read_write(StackPath::new(home, stack)?, options, IfMissing::Skip)
    }

    /// Opens the database of `stack` below `home` for reading; `None` when it is missing.
    ///
    /// The database is not changed, with two exceptions: if its last writer was killed it is
    /// repaired first, and if its schema version is older it is migrated. Otherwise like
    /// [`Store::open`].
    pub fn open_read_only(
        home: &Path,
        stack: &str,
        options: StoreOptions,
    ) -> Result<Option<Store>> {
        let place = StackPath::new(home, stack)?;
        let engine = Engine::open_read_only(&place, options.opening())?;
        Ok(engine.map(|engine| Store::new(place, options, engine)))
    }

    /// Opens a file that was set aside (see [`list_set_aside`](crate::home::list_set_aside)), to
    /// [verify](Store::verify) it or to [salvage](Store::salvage) what can be read of it. The file is not
    /// changed: repair and migration, and all that is written through this handle, stay in memory.
    ///
    /// Fails with [`Error::NotADatabase`] when the name is not that of such a file, or it is not a
    /// database; otherwise like [`Store::open`].
    pub fn open_set_aside(path: &Path, options: StoreOptions) -> Result<Store> {
        let place = StackPath::of_set_aside(path)?;
        let engine = open::open_copy(&place, options.opening())?
            .ok_or_else(|| Error::io("open", path, io::ErrorKind::NotFound.into()))?;
        Ok(Store::new(place, options, engine))
    }

    fn open_read_write(
        place: StackPath,
        options: StoreOptions,
        missing: IfMissing,
    ) -> Result<Option<Store>> {
        let (engine, set_aside) = open_engine(&place, options.opening(), missing)?;
        let store = engine.map(|engine| Store::new(place, options, engine));
        if let Some(store) = &store {
            store.note_set_aside(set_aside);
            // Only the files are looked at: most stores are opened without any.
            let place = store.place();
            let spills = place.spills().unwrap_or_default();
            if (spills.iter()).any(|writer| spill::lock_of(place, *writer) == Lock::Free) {
                store.writer()?.recover_or_warn();
            }
        }
        Ok(store)
    }

    fn new(place: StackPath, options: StoreOptions, engine: Engine) -> Store {
        Store {
            inner: Arc::new(Inner {
                place,
                options,
                engine: RwLock::new(engine),
                reader: RwLock::new(None),
                admission: Admission::default(),
                set_aside: Mutex::default(),
            }),
        }
    }

    /// The name of the stack.
    #[must_use]
    pub fn stack(&self) -> &str {
        self.inner.place.stack()
    }

    /// The path of the database.
    #[must_use]
    pub fn path(&self) -> std::path::PathBuf {
        self.inner.place.database()
    }

    /// A snapshot of the present state of the store, which later commits do not change.
    ///
    /// A long-lived snapshot pins old pages, so that the file grows: drop it soon. Fails with
    /// [`Error::Database`] and [`Error::Corrupt`].
    pub fn snapshot(&self) -> Result<Snapshot> {
        let transaction = guarded(|| match self.begin_read() {
            // The disk failed before, and perhaps no writer is running that would notice and
            // reopen.
            Err(Fault::Engine(redb::Error::PreviousIo)) => {
                self.reopen_reader()?;
                self.begin_read()
            }
            outcome => outcome,
        })
        .map_err(|fault| fault.at("read", &self.path()))?;
        Ok(Snapshot::new(
            self.path(),
            transaction,
            self.clock_reading(),
        ))
    }

    /// A read-only handle of the file that is at the path now, which need not be the one that this
    /// handle has open, and its identity. `None` when there is no database, or not yet.
    pub(crate) fn open_again(&self) -> Result<Option<(Store, FileId)>> {
        let Inner { place, options, .. } = &*self.inner;
        let Some(before) = self.file_id()? else {
            return Ok(None);
        };
        let Some(engine) = Engine::open_read_only(place, options.opening())? else {
            return Ok(None);
        };
        // A file that was replaced while it was opened is opened next time.
        let is_same = self.file_id()? == Some(before);
        let opened = Store::new(place.clone(), options.clone(), engine);
        Ok(is_same.then_some((opened, before)))
    }

    /// The identity of the file that is at the path now; `None` when there is none.
    pub(crate) fn file_id(&self) -> Result<Option<FileId>> {
        let path = self.path();
        match std::fs::metadata(&path) {
            Ok(metadata) => Ok(Some(platform::file_id(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("examine", &path, error)),
        }
    }

    /// Verifies the checksums of all pages of the file. Returns what is wrong.
    pub(crate) fn check_pages(&self) -> Result<Option<String>> {
        open::check_pages(&self.inner.place, self.inner.options.opening())
    }

    pub(super) fn admission(&self) -> &Admission {
        &self.inner.admission
    }

    /// Whether pages are checked before they are changed.
    pub(super) fn checks_pages(&self) -> bool {
        self.inner.options.opening().checks_pages
    }

    /// A reading of the clocks by which age is judged.
    pub(crate) fn clock_reading(&self) -> ClockReading {
        self.inner.options.clock_reading()
    }

    /// Begins to read the file that is at the path now. One that was deleted is read until there is
    /// another.
    fn begin_read(&self) -> Result<ReadTransaction, Fault> {
        let engine = self.engine();
        let file = self.file_id().ok().flatten().unwrap_or(engine.file());
        if let Engine::ReadWrite(_) = &engine
            && let Some(reader) = self.reader(file)?
        {
            return Ok(reader.begin_read()?);
        }
        if engine.file() == file {
            return engine.begin_read();
        }
        match self.reopen(IfMissing::Skip) {
            // It is being created, or deleted again.
            Err(Error::DatabaseReplaced { .. }) => {}
            outcome => outcome?,
        }
        self.engine().begin_read()
    }

    /// The read-only handle beside the writing one, which has `file` open; `None` when it cannot be
    /// opened.
    fn reader(&self, file: FileId) -> Result<Option<Reader>, Fault> {
        let reader = &self.inner.reader;
        let opened = reader.read().unwrap_or_else(PoisonError::into_inner);
        if opened.as_ref().is_some_and(|opened| opened.file == file) {
            return Ok(opened.clone());
        }
        drop(opened);
        let Inner { place, options, .. } = &*self.inner;
        let Some(database) = open::open_reader(place, options.opening())? else {
            return Ok(None);
        };
        *reader.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&database));
        Ok(Some(database))
    }

    /// Begins to write to the file that is at the path now, and returns its identity, too. Once the
    /// transaction is committed, [`Store::check_file`] says whether the file is still there.
    ///
    /// Fails with [`Error::DatabaseReplaced`] when there is none: only a writer creates a new one.
    pub(super) fn begin_write(&self) -> Result<(WriteTransaction, FileId), Fault> {
        let begin = || match self.engine() {
            Engine::ReadWrite(database) => {
                let transaction = WriteTransaction::new(database.begin_write()?);
                Ok((transaction, database.file))
            }
            Engine::ReadOnly(_) => Err(Error::ReadOnly { path: self.path() }.into()),
        };
        if self.file_id()? != Some(self.engine().file()) {
            match self.reopen(IfMissing::Skip) {
                // The writer goes on once it has set that file aside.
                Err(error)
                    if self.inner.options.opening().sets_aside && open::is_unusable(&error) =>
                {
                    return Err(Error::DatabaseReplaced { path: self.path() }.into());
                }
                outcome => outcome?,
            }
        }
        match begin() {
            // The disk failed before, and this may be the first write since.
            Err(Fault::Engine(redb::Error::PreviousIo)) => {
                self.reopen(IfMissing::Skip)?;
                begin()
            }
            outcome => outcome,
        }
    }

    /// Fails with [`Error::DatabaseReplaced`] unless the file at the path is `file`.
    pub(super) fn check_file(&self, file: FileId) -> Result<()> {
        if self.file_id()? == Some(file) {
            Ok(())
        } else {
            Err(Error::DatabaseReplaced { path: self.path() })
        }
    }

    /// Fails with [`Error::DatabaseReplaced`] unless the open file is the one at the path.
    pub(crate) fn check_open_file(&self) -> Result<()> {
        self.check_file(self.open_file())
    }

    /// The identity of the open file.
    pub(super) fn open_file(&self) -> FileId {
        self.engine().file()
    }

    /// The wipes after `generation` in the open file, also if that is no longer at the path.
    pub(crate) fn wipes_of_open_file(&self, generation: u64) -> Result<WipeMarks> {
        guarded(|| WipeMarks::read(&self.engine().begin_read()?, generation))
            .map_err(|fault| fault.at("read", &self.path()))
    }

    /// Sets whether the open file stays as it is when it is closed.
    pub(super) fn leave_file(&self, is_left: bool) {
        self.engine().leave_file(is_left);
    }

    fn engine(&self) -> Engine {
        self.inner
            .engine
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn place(&self) -> &StackPath {
        &self.inner.place
    }

    /// Opens the database at the path in place of the present handle: another file may be there, and
    /// after an I/O error redb fails every operation of a handle.
    ///
    /// Fails with [`Error::DatabaseReplaced`] when there is none and `missing` is
    /// [`IfMissing::Skip`].
    pub(super) fn reopen(&self, missing: IfMissing) -> Result<()> {
        let Inner {
            place,
            options,
            engine,
            ..
        } = &*self.inner;
        let mut set_aside = Vec::new();
        let opened = match self.engine() {
            Engine::ReadWrite(_) => {
                let (opened, notes) = open_engine(place, options.opening(), missing)?;
                set_aside = notes;
                opened
            }
            Engine::ReadOnly(_) => Engine::open_read_only(place, options.opening())?,
        };
        *engine.write().unwrap_or_else(PoisonError::into_inner) =
            opened.ok_or_else(|| Error::DatabaseReplaced { path: self.path() })?;
        self.forget_admission();
        self.note_set_aside(set_aside);
        Ok(())
    }

    /// Sets the open file aside if the options say so and `error` means that it cannot be written to, and
    /// opens a new database in its place. Returns whether it did. The caller has `own_writers`.
    pub(crate) fn set_aside(&self, error: &Error, own_writers: usize) -> Result<bool> {
        let Inner { place, options, .. } = &*self.inner;
        if !options.opening().sets_aside || !open::is_unusable(error) {
            return Ok(false);
        }
        // A file that another process writes to can be written to.
        let writers = self.writers().unwrap_or_default();
        let running = writers.iter().filter(|writer| writer.is_running).count();
        if running > own_writers {
            return Ok(false);
        }
        let Some(note) = open::set_aside(place, options.opening(), self.engine().file(), error)?
        else {
            return Ok(false);
        };
        self.reopen(IfMissing::Create)?;
        self.note_set_aside(vec![note]);
        Ok(true)
    }

    /// Reports files that were set aside, and enters them in the ledger.
    fn note_set_aside(&self, notes: Vec<SetAsideNote>) {
        for note in &notes {
            let SetAsideNote { at, path, reason } = note;
            tracing::error!(
                subsystem = "telemetry",
                path = %path.display(),
                reason,
                "the telemetry database could not be opened; it was set aside, and a new one begins"
            );
            let loss = LedgerEntry {
                server: None,
                signal: None,
                cause: LossCause::SetAside,
                count: 0,
                from: *at,
                to: *at,
                recovered: 0,
            };
            let entered = (self.writer()).and_then(|writer| writer.record_losses(&[loss]));
            if let Err(error) = entered {
                tracing::warn!(
                    subsystem = "telemetry",
                    %error,
                    "the ledger does not say that a telemetry database was set aside"
                );
            }
        }
        let all = self.inner.set_aside.lock();
        all.unwrap_or_else(PoisonError::into_inner).extend(notes);
    }

    /// Enters records in the ledger that an endpoint refused for ever, see [`LedgerEntry::refused`]. A store
    /// that was opened for reading is opened for writing meanwhile.
    ///
    /// Fails like [`Store::open_existing`], and with [`Error::DatabaseReplaced`] when there is no database
    /// any more.
    pub fn enter_refused(&self, refused: &[LedgerEntry]) -> Result<()> {
        let Inner { place, options, .. } = &*self.inner;
        match self.engine() {
            Engine::ReadWrite(_) => self.writer()?.record_losses(refused),
            Engine::ReadOnly(_) => {
                Store::open_read_write(place.clone(), options.clone(), IfMissing::Skip)?
                    .ok_or_else(|| Error::DatabaseReplaced { path: self.path() })?
                    .writer()?
                    .record_losses(refused)
            }
        }
    }

    /// The files that this handle has set aside, oldest first.
    pub(crate) fn set_aside_notes(&self) -> Vec<SetAsideNote> {
        let notes = self.inner.set_aside.lock();
        notes.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reopens the read-only handle. Snapshots of the old one fail, new ones work.
    fn reopen_reader(&self) -> Result<()> {
        let reader = self.inner.reader.write();
        match reader.unwrap_or_else(PoisonError::into_inner).take() {
            Some(_) => Ok(()),
            None => self.reopen(IfMissing::Skip),
        }
    }

    /// The right to change the store.
    ///
    /// Fails with [`Error::ReadOnly`] on a store opened for reading only.
    pub(crate) fn writer(&self) -> Result<StoreWriter> {
        match self.engine() {
            Engine::ReadWrite(_) => Ok(StoreWriter::new(self.clone())),
            Engine::ReadOnly(_) => Err(Error::ReadOnly { path: self.path() }),
        }
    }

    /// Deletes the records that `scope` covers, and the totals of their counters, in one transaction.
    /// Returns how many (server, signal) pairs had any. Covered records that are still queued in any
    /// process are not stored; records emitted later are.
    ///
    /// With [`WipeScope::before`], blocks that hold older and newer records are rewritten, a block that is
    /// damaged and may hold older ones is deleted, and the totals stay.
    ///
    /// New records reuse the disk blocks of deleted ones; [`Store::compact`] returns them to the
    /// file system.
    ///
    /// In a process that has a [`Writer`](crate::Writer), use its `wipe`, which does the same on
    /// its thread.
    ///
    /// It also works on a full disk, for which some disk blocks are reserved.
    ///
    /// Fails with [`Error::ReadOnly`], [`Error::Database`] and, when the file is too damaged to be written to,
    /// [`Error::Corrupt`], without deleting any record.
    pub fn wipe(&self, scope: &WipeScope) -> Result<usize> {
        self.writer()?.wipe(scope)
    }

    /// The writers of this database in all processes, in the order in which they started, those that
    /// were killed included until the next writer starts.
    ///
    /// Fails like [`Store::snapshot`].
    pub fn writers(&self) -> Result<Vec<WriterStatus>> {
        let snapshot = self.snapshot()?;
        let view = snapshot.view();
        view.read(|| writers::list(view.transaction(), self.place()))
    }

    /// The stored records that `policy` would delete if it came into force now: one warning for each
    /// limit that is lower than the present one and that stored records exceed. Deletes nothing. Series
    /// whose entry is damaged are left out.
    ///
    /// The cost does not grow with the number of records. Fails like
    /// [`RetentionPolicy::validated`] and [`Store::snapshot`].
    pub fn would_delete(&self, policy: &RetentionPolicy) -> Result<Vec<ConfigWarning>> {
        let policy = policy.clone().validated()?;
        let snapshot = self.snapshot()?;
        let (mut warnings, deleted_bytes) = excess::of_series(snapshot.view(), &policy)?;
        drop(snapshot);
        let total_bytes = policy.total_bytes_max();
        let kept_bytes = self.space()?.live_bytes.saturating_sub(deleted_bytes);
        let bytes = kept_bytes.saturating_sub(total_bytes);
        if bytes > 0 {
            warnings.push(ConfigWarning::DeletesFromTotal { bytes, total_bytes });
        }
        Ok(warnings)
    }

    /// Whether a writer has ended without removing its entry.
    pub(super) fn has_ended_writers(&self) -> Result<bool> {
        let snapshot = self.snapshot()?;
        let view = snapshot.view();
        view.read(|| {
            let writers = view.transaction().open_table(WRITERS)?;
            Ok(!writers::ended(&writers, self.place())?.is_empty())
        })
    }

    pub(super) fn disk_hook(&self) -> Option<DiskHook> {
        self.inner.options.opening().disk_hook.clone()
    }

    /// The size of the database on the disk. Reads only the metadata of its files.
    ///
    /// Fails with [`Error::Io`] when the metadata cannot be read.
    pub fn disk_usage(&self) -> Result<DiskUsage> {
        space::disk_usage(self.place())
    }

    /// The size and the free space of the file system that holds the database.
    ///
    /// Fails with [`Error::Io`] when the system does not say.
    pub fn file_system(&self) -> Result<FileSystem> {
        space::file_system(self.place())
    }

    /// The size of the database on the disk, and how much of that is in use. The cost does not grow
    /// with the number of records.
    ///
    /// Fails with [`Error::Io`] when the metadata of the files cannot be read, and like
    /// [`Store::snapshot`].
    pub fn space(&self) -> Result<Space> {
        let snapshot = self.snapshot()?;
        let view = snapshot.view();
        let counted_bytes = view.read(|| space::live_bytes(view.transaction()))?;
        let limit_bytes = view.limits_that_hold()?.total_bytes;
        drop(snapshot);
        space::measure(self.place(), counted_bytes, limit_bytes)
    }

    /// Returns the disk blocks of deleted records to the file system. Before that, blocks that an earlier
    /// version of this crate wrote get the summaries that spare queries from reading them.
    ///
    /// All readers and writers of this database wait until it is done: about a second for each
    /// gibibyte that is moved, and a fifth of that for each that stays in place. It may be
    /// cancelled or killed at any time: no record is lost, and the next write takes somewhat
    /// longer.
    ///
    /// Fails with [`Error::ReaderInTheWay`] when a snapshot of an older state, in any process, is
    /// not dropped within the patience of `options`; with [`Error::WriterInTheWay`], if
    /// [`CompactOptions::overwrite_deleted`] is wanted, when a writer does not commit older records within
    /// it; with [`Error::Cancelled`]; with [`Error::Corrupt`]
    /// when the file is too damaged to be written to; with
    /// [`Error::ReadOnly`] on a store opened for reading only; and with [`Error::StorageFull`] and
    /// [`Error::Database`] when the disk fails.
    pub fn compact(&self, options: CompactOptions) -> Result<Compacted> {
        match self.add_missing_summaries(&options) {
            // Summaries are optional, and a full disk is a reason to compact.
            Err(Error::StorageFull { .. }) | Ok(()) if options.overwrites() => {
                self.overwrite_deleted(&options)
            }
            Err(Error::StorageFull { .. }) | Ok(()) => self.compact_file(options),
            Err(error) => Err(error),
        }
    }

    /// Compacts, and overwrites what deleted records have left, see [`overwrite`].
    fn overwrite_deleted(&self, options: &CompactOptions) -> Result<Compacted> {
        let began = platform::monotonic_nanos();
        self.writer()?.recover()?;
        // Afterwards, no reader and no cache of a process holds a state that has the deleted records.
        let first = self.compact_file(options.clone())?;
        let overwriting = Overwriting {
            place: self.place(),
            opening: self.inner.options.opening(),
            options,
        };
        self.check_file(overwriting.renew_pages()?)?;
        self.compact_file(options.clone())?;
        self.check_file(overwriting.overwrite_free_pages()?)?;
        let after = match self.compact_file(options.clone()) {
            Ok(last) => last.after,
            // A reader that began meanwhile only keeps disk space, and nothing that was deleted before.
            Err(Error::ReaderInTheWay { .. }) => self.space()?,
            Err(error) => return Err(error),
        };
        self.wait_for_spills(began, &overwriting)?;
        Ok(Compacted {
            before: first.before,
            after,
        })
    }

    /// Waits until no spill of a writer holds a record that was emitted before `emitted_before`.
    fn wait_for_spills(&self, emitted_before: u64, overwriting: &Overwriting<'_>) -> Result<()> {
        let place = self.place();
        let attempt = || {
            overwriting.ask()?;
            let mut older = place.spills()?;
            older.retain(|writer| spill::holds_older(place, *writer, emitted_before));
            if (older.iter()).any(|writer| spill::lock_of(place, *writer) == Lock::Free) {
                self.writer()?.recover()?;
            }
            Ok(older.is_empty().then_some(()))
        };
        let path = self.path();
        let too_long = |waited| Error::WriterInTheWay { path, waited };
        overwriting.run(|| overwriting.options.wait(attempt, too_long))
    }

    /// Adds the summaries that blocks of earlier versions lack, in small transactions.
    fn add_missing_summaries(&self, options: &CompactOptions) -> Result<()> {
        let writer = self.writer()?;
        let series = self.snapshot()?.view().series()?;
        for SeriesEntry {
            server,
            signal,
            state,
        } in series
        {
            let mut after = None;
            loop {
                if options.is_cancelled() {
                    return Err(Error::Cancelled {
                        action: "compact",
                        path: self.path(),
                    });
                }
                // A snapshot must not be held while the file is compacted.
                let snapshot = self.snapshot()?;
                let view = snapshot.view();
                let missing = view.read(|| summaries::missing(view, &state, after))?;
                drop(snapshot);
                let Some(last) = missing.last() else { break };
                after = Some(*last);
                writer.transact("compact", |transaction| {
                    summaries::add(transaction, &server, signal, &missing)
                })?;
            }
        }
        Ok(())
    }

    fn compact_file(&self, options: CompactOptions) -> Result<Compacted> {
        self.admit_again()?;
        let before = self.space()?;
        let target = compact::Target {
            place: self.place(),
            opening: self.inner.options.opening(),
            before,
        };
        target.compact(options)?;
        Ok(Compacted {
            before,
            after: self.space()?,
        })
    }

    /// Compacts if that is worthwhile and takes no longer than moving `bytes_max` bytes. `None`
    /// when it is not, or when a reader is in the way.
    ///
    /// Fails like [`Store::compact`].
    pub(crate) fn compact_if_cheap(&self, bytes_max: u64) -> Result<Option<Compacted>> {
        if !compact::is_cheap(&self.space()?, bytes_max) {
            return Ok(None);
        }
        match self.compact_file(CompactOptions::default()) {
            Ok(compacted) => Ok(Some(compacted)),
            Err(Error::ReaderInTheWay { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Compacts if that makes room on a full disk. Errors are ignored here, because the next write
    /// reports them.
    pub(crate) fn compact_for_room(&self) {
        if self.space().is_ok_and(|space| compact::makes_room(&space)) {
            let _ = self.compact_file(CompactOptions::default());
        }
    }
}

/// Opens a database for reading and writing. A file that cannot be opened is set aside if the options say
/// so and a database is to be created.
fn open_engine(
    place: &StackPath,
    opening: &OpenOptions,
    missing: IfMissing,
) -> Result<(Option<Engine>, Vec<SetAsideNote>)> {
    let mut notes = Vec::new();
    let mut has_waited = false;
    for _ in 0..SET_ASIDE_ATTEMPTS {
        let found = std::fs::metadata(place.database());
        let outcome = Engine::open_read_write(place, opening, missing);
        match (outcome, found) {
            (Err(error), Ok(found))
                if opening.sets_aside
                    && missing == IfMissing::Create
                    && open::is_unusable(&error) =>
            {
                if has_waited {
                    let file = platform::file_id(&found);
                    notes.extend(open::set_aside(place, opening, file, &error)?);
                } else {
                    // A file that another process is just creating looks damaged, too.
                    drop(place.lock_creation()?);
                }
                has_waited = !has_waited;
            }
            (Err(Error::DatabaseReplaced { .. }), _) => {}
            (outcome, _) => return Ok((outcome?, notes)),
        }
    }
    Ok((Engine::open_read_write(place, opening, missing)?, notes))
}

/// Deletes the telemetry of `stack` that `scope` covers, see [`Store::wipe`]. Returns 0 when the
/// stack has no database.
pub fn wipe(home: &Path, stack: &str, scope: &WipeScope) -> Result<usize> {
    match Store::open_existing(home, stack, StoreOptions::for_tools())? {
        Some(store) => store.wipe(scope),
        None => Ok(0),
    }
}

/// The inventory of `stack`, see [`Snapshot::inventory`]. Empty when the stack has no database.
pub fn inventory(home: &Path, stack: &str, server: Option<&str>) -> Result<Vec<InventoryRecord>> {
    match Store::open_read_only(home, stack, StoreOptions::for_tools())? {
        Some(store) => store.snapshot()?.inventory(server),
        None => Ok(Vec::new()),
    }
}
