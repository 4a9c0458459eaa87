//! Opening a stack's database, and the handle to it.

use crate::{
    error::{Error, Result},
    home::{Missing, StackPath},
    store::{
        engine::{
            disk::{Disk, DiskHook},
            fault::{Fault, GuardedDrop, guarded},
            migrations::MIGRATIONS,
            overlay::Rehearsal,
            reserve,
            schema::{self, Found, MigrationStep},
        },
        policy::clock::ClockReading,
        snapshot::Snapshot,
    },
};
use redb::{
    Builder, ConcurrencyMode, Database, DatabaseError, ReadOnlyDatabase, ReadTransaction,
    ReadableDatabase, WriteTransaction,
};
use std::{
    fmt,
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

/// The telemetry of one stack: a database that any number of processes read and write together.
///
/// Cheap to clone; all clones share one open database. Reading takes no lock that a writer waits
/// for. To store records, see [`Writer`](crate::Writer).
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    place: StackPath,
    options: StoreOptions,
    engine: RwLock<Engine>,
    /// What is read goes through a handle of its own, opened when it is needed: the one that writes
    /// answers nothing more once the disk has refused it something, and on a full disk that is each
    /// time that storing is tried again.
    reader: RwLock<Option<Reader>>,
}

type Reader = Arc<GuardedDrop<ReadOnlyDatabase>>;

#[derive(Clone)]
enum Engine {
    ReadWrite(Arc<GuardedDrop<Database>>),
    ReadOnly(Reader),
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("place", &self.place)
            .field("engine", &self.engine)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Engine::ReadWrite(_) => "ReadWrite",
            Engine::ReadOnly(_) => "ReadOnly",
        })
    }
}

type Clock = Arc<dyn Fn() -> ClockReading + Send + Sync>;
type OnMigration = Arc<dyn Fn(MigrationStep) + Send + Sync>;

/// How a [`Store`] is opened.
#[derive(Clone)]
pub struct StoreOptions {
    page_cache_bytes: usize,
    on_migration: OnMigration,
    disk_hook: Option<DiskHook>,
    clock: Clock,
}

impl StoreOptions {
    /// The page cache of [`StoreOptions::default`]: 16 MiB, for a process that lives long.
    pub const PAGE_CACHE_BYTES_DEFAULT: usize = 16 << 20;
    /// The page cache of [`StoreOptions::for_tools`]: 4 MiB. A process that reads once gains
    /// nothing from more, and every commit of another process empties it.
    pub const PAGE_CACHE_BYTES_TOOLS: usize = 4 << 20;

    /// The options of short-lived programs.
    #[must_use]
    pub fn for_tools() -> StoreOptions {
        StoreOptions::default().page_cache_bytes(StoreOptions::PAGE_CACHE_BYTES_TOOLS)
    }

    /// How much memory holds pages of the file, in bytes: so much for what writes, and so much for
    /// what reads beside it.
    #[must_use]
    pub fn page_cache_bytes(mut self, bytes: usize) -> StoreOptions {
        self.page_cache_bytes = bytes;
        self
    }

    /// What is told of each step when a database of an older version is migrated.
    #[must_use]
    pub fn on_migration(
        mut self,
        callback: impl Fn(MigrationStep) + Send + Sync + 'static,
    ) -> StoreOptions {
        self.on_migration = Arc::new(callback);
        self
    }

    /// Asks `hook` before each operation on the file. For tests that need a disk to fail.
    #[cfg(feature = "simulation")]
    #[must_use]
    pub fn disk_hook(
        mut self,
        hook: impl Fn(crate::store::DiskOperation<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> StoreOptions {
        self.disk_hook = Some(Arc::new(hook));
        self
    }

    /// Judges the age of records by `clock`. For tests that need a clock to jump.
    #[cfg(feature = "simulation")]
    #[must_use]
    pub fn clock(
        mut self,
        clock: impl Fn() -> ClockReading + Send + Sync + 'static,
    ) -> StoreOptions {
        self.clock = Arc::new(clock);
        self
    }

    fn builder(&self) -> Builder {
        let mut builder = Builder::new();
        builder
            .set_cache_size(self.page_cache_bytes)
            .set_concurrency_mode(ConcurrencyMode::MultiWriter);
        builder
    }

    /// These options, with `hook` asked in place of whatever was asked before.
    pub(crate) fn with_disk_hook(&self, hook: DiskHook) -> StoreOptions {
        StoreOptions {
            disk_hook: Some(hook),
            ..self.clone()
        }
    }

    pub(crate) fn hook(&self) -> Option<&DiskHook> {
        self.disk_hook.as_ref()
    }

    fn disk(&self, file: File) -> Result<Disk, Fault> {
        Ok(Disk::new(file, self.disk_hook.clone())?)
    }
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions {
            page_cache_bytes: StoreOptions::PAGE_CACHE_BYTES_DEFAULT,
            on_migration: Arc::new(|_| {}),
            disk_hook: None,
            clock: Arc::new(ClockReading::now),
        }
    }
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreOptions")
            .field("page_cache_bytes", &self.page_cache_bytes)
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
    /// [`Error::ForeignOwner`] and [`Error::NotAFile`] when something else stands in the way;
    /// [`Error::NotADatabase`] and [`Error::SchemaTooNew`], the file unchanged, when it is not
    /// ours or not yet ours; [`Error::Corrupt`] when it is damaged; [`Error::StorageFull`],
    /// [`Error::Io`] and [`Error::Database`] when the system refuses.
    pub fn open(home: &Path, stack: &str, options: StoreOptions) -> Result<Store> {
        let place = StackPath::new(home, stack)?;
        let store = Store::open_read_write(place, options, Missing::Create)?;
        // `Missing::Create` leaves nothing missing, except to a process that deletes the folder.
        store.ok_or_else(|| Error::Io {
            action: "create the database in",
            path: home.to_owned(),
            source: io::ErrorKind::NotFound.into(),
        })
    }

    /// Opens the database of `stack` below `home` for reading and writing; `None` when there is
    /// none. Otherwise like [`Store::open`].
    pub fn open_existing(home: &Path, stack: &str, options: StoreOptions) -> Result<Option<Store>> {
        Store::open_read_write(StackPath::new(home, stack)?, options, Missing::Leave)
    }

    /// Opens the database of `stack` below `home` for reading; `None` when there is none.
    ///
    /// Nothing is written, with two exceptions: a database whose last writer was killed is repaired
    /// first, and one of an older schema version migrated. Otherwise like [`Store::open`].
    pub fn open_read_only(
        home: &Path,
        stack: &str,
        options: StoreOptions,
    ) -> Result<Option<Store>> {
        let place = StackPath::new(home, stack)?;
        let engine = Engine::open_read_only(&place, &options)?;
        Ok(engine.map(|engine| Store::new(place, options, engine)))
    }

    fn open_read_write(
        place: StackPath,
        options: StoreOptions,
        missing: Missing,
    ) -> Result<Option<Store>> {
        let engine = Engine::open_read_write(&place, &options, missing)?;
        Ok(engine.map(|engine| Store::new(place, options, engine)))
    }

    fn new(place: StackPath, options: StoreOptions, engine: Engine) -> Store {
        Store {
            inner: Arc::new(Inner {
                place,
                options,
                engine: RwLock::new(engine),
                reader: RwLock::new(None),
            }),
        }
    }

    /// The stack's name.
    #[must_use]
    pub fn stack(&self) -> &str {
        self.inner.place.stack()
    }

    /// The database's path.
    #[must_use]
    pub fn path(&self) -> std::path::PathBuf {
        self.inner.place.database()
    }

    /// The present state of the store, which whatever is committed later does not change.
    ///
    /// Pages that a snapshot sees are not reused while it lives: do not keep one for long.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let transaction = guarded(|| match self.begin_read() {
            // The disk failed once, and nobody may be writing who would find out.
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

    /// What the clocks show by which age is judged.
    pub(crate) fn clock_reading(&self) -> ClockReading {
        (self.inner.options.clock)()
    }

    fn begin_read(&self) -> Result<ReadTransaction, Fault> {
        Ok(match self.engine() {
            Engine::ReadOnly(database) => database.begin_read()?,
            Engine::ReadWrite(database) => match self.reader()? {
                Some(reader) => reader.begin_read()?,
                None => database.begin_read()?,
            },
        })
    }

    /// The handle that reads beside the one that writes; `None` when there is none to be had.
    fn reader(&self) -> Result<Option<Reader>, Fault> {
        let reader = &self.inner.reader;
        let opened = reader.read().unwrap_or_else(PoisonError::into_inner);
        if opened.is_some() {
            return Ok(opened.clone());
        }
        drop(opened);
        let Inner { place, options, .. } = &*self.inner;
        let Some(file) = place.open_file(Missing::Leave)? else {
            return Ok(None);
        };
        let look = || place.open_file(Missing::Leave);
        let Examined::Current(database) = examine(&file, look, options)? else {
            return Ok(None);
        };
        let database = Arc::new(database);
        *reader.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&database));
        Ok(Some(database))
    }

    fn begin_write(&self) -> Result<WriteTransaction, Fault> {
        let begin = || match self.engine() {
            Engine::ReadWrite(database) => Ok(database.begin_write()?),
            Engine::ReadOnly(_) => Err(Error::ReadOnly { path: self.path() }.into()),
        };
        match begin() {
            // The disk failed before, and who writes now may be the first to do so since.
            Err(Fault::Engine(redb::Error::PreviousIo)) => {
                self.reopen()?;
                begin()
            }
            outcome => outcome,
        }
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

    pub(crate) fn options(&self) -> &StoreOptions {
        &self.inner.options
    }

    /// Opens the database once more, beside the handle that everybody uses: the engine takes it for
    /// another process. Fails with [`Error::ReadOnly`] where the store was opened so.
    pub(crate) fn open_another(&self, options: &StoreOptions) -> Result<GuardedDrop<Database>> {
        self.writer()?;
        open_database(&self.inner.place, options, Missing::Leave)?
            .ok_or_else(|| Error::io("open", &self.path(), io::ErrorKind::NotFound.into()))
    }

    /// Opens the database anew, in place of the one that failed: redb answers every operation after
    /// an I/O error with that error until it is opened again.
    fn reopen(&self) -> Result<()> {
        let Inner {
            place,
            options,
            engine,
            ..
        } = &*self.inner;
        let opened = match self.engine() {
            Engine::ReadWrite(_) => Engine::open_read_write(place, options, Missing::Create)?,
            Engine::ReadOnly(_) => Engine::open_read_only(place, options)?,
        };
        *engine.write().unwrap_or_else(PoisonError::into_inner) = opened
            .ok_or_else(|| Error::io("reopen", &self.path(), io::ErrorKind::NotFound.into()))?;
        Ok(())
    }

    /// Does the same for what reads. Snapshots from before get an error, new ones do not.
    fn reopen_reader(&self) -> Result<()> {
        let reader = self.inner.reader.write();
        match reader.unwrap_or_else(PoisonError::into_inner).take() {
            Some(_) => Ok(()),
            None => self.reopen(),
        }
    }

    /// The means to change the store; fails with [`Error::ReadOnly`] on one that was opened so.
    pub(crate) fn writer(&self) -> Result<StoreWriter> {
        match self.engine() {
            Engine::ReadWrite(_) => Ok(StoreWriter {
                store: self.clone(),
            }),
            Engine::ReadOnly(_) => Err(Error::ReadOnly { path: self.path() }),
        }
    }
}

/// The right to write to a [`Store`].
#[derive(Debug, Clone)]
pub(crate) struct StoreWriter {
    store: Store,
}

impl StoreWriter {
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Runs `operation` in a write transaction and commits it; on any failure nothing of it stays.
    pub(crate) fn transact<T>(
        &self,
        action: &'static str,
        operation: impl FnOnce(&WriteTransaction) -> Result<T, Fault>,
    ) -> Result<T> {
        guarded(|| {
            let transaction = self.store.begin_write()?;
            let outcome = operation(&transaction)?;
            transaction.commit()?;
            Ok(outcome)
        })
        .map_err(|fault| fault.at(action, &self.store.path()))
    }

    /// Like [`StoreWriter::transact`], for an operation that gives back more than it takes: on a full
    /// disk it gets what is reserved for it. It may run twice, the first time in vain.
    pub(crate) fn transact_freeing<T>(
        &self,
        action: &'static str,
        mut operation: impl FnMut(&WriteTransaction) -> Result<T, Fault>,
    ) -> Result<T> {
        let place = self.store.place();
        let outcome = match self.transact(action, &mut operation) {
            Err(Error::StorageFull { .. }) => self.transact(action, |transaction| {
                // Not before the transaction has begun, in which no other process of this database
                // can take the room.
                reserve::release(place);
                operation(transaction)
            }),
            outcome => outcome,
        };
        if outcome.is_ok() {
            reserve::keep(place);
        }
        outcome
    }

    /// Opens the database anew after a failure; nothing else makes it work again.
    pub(crate) fn reopen(&self) -> Result<()> {
        self.store.reopen()
    }
}

impl Engine {
    fn open_read_only(place: &StackPath, options: &StoreOptions) -> Result<Option<Engine>> {
        let path = place.database();
        let Some(file) = place.open_file(Missing::Leave)? else {
            return Ok(None);
        };
        match guarded(|| examine(&file, || place.open_file(Missing::Leave), options))
            .map_err(|fault| fault.at("open", &path))?
        {
            Examined::Current(database) => Ok(Some(Engine::ReadOnly(Arc::new(database)))),
            // A database that is being created, or whose creator was killed.
            Examined::New => Ok(None),
            Examined::NeedsRepair | Examined::NeedsMigration => {
                Engine::open_read_write(place, options, Missing::Leave)
            }
            Examined::TooNew(found) => Err(too_new(&path, found)),
            Examined::Foreign(reason) => Err(Error::NotADatabase { path, reason }),
        }
    }

    fn open_read_write(
        place: &StackPath,
        options: &StoreOptions,
        missing: Missing,
    ) -> Result<Option<Engine>> {
        let open = || {
            let Some(database) = open_database(place, options, missing)? else {
                return Ok(None);
            };
            guarded(|| schema::migrate(&database, MIGRATIONS, &*options.on_migration))
                .map_err(|fault| fault.at("migrate", &place.database()))?;
            Ok(Some(Engine::ReadWrite(Arc::new(database))))
        };
        let opened = match open() {
            // A database whose last writer was killed is repaired, which takes room as well.
            Err(Error::StorageFull { .. }) => {
                reserve::release(place);
                open()?
            }
            outcome => outcome?,
        };
        reserve::keep(place);
        Ok(opened)
    }
}

/// Opens for reading and writing, after a look that changes nothing: a file that is not ours, or
/// not yet, must stay as it is, byte for byte.
fn open_database(
    place: &StackPath,
    options: &StoreOptions,
    missing: Missing,
) -> Result<Option<GuardedDrop<Database>>> {
    let path = place.database();
    let Some(file) = place.open_file(missing)? else {
        return Ok(None);
    };
    let database = guarded(|| {
        let look = || examine(&file, || place.open_file(Missing::Leave), options);
        let mut examined = look()?;
        let mut creation = None;
        if matches!(examined, Examined::New) {
            // One process at a time creates: another one, that finds the file half created, would
            // begin anew beneath it.
            creation = Some(place.lock_creation()?);
            examined = look()?;
        }
        if matches!(examined, Examined::NeedsRepair)
            && let Some(file) = place.open_file(Missing::Leave)?
        {
            let disk = Rehearsal::new(options.disk(file)?).map_err(redb::StorageError::Io)?;
            let database = GuardedDrop::new(options.builder().create_with_backend(disk)?);
            if let Some(found) = identify(&database.begin_read()?)? {
                examined = found;
            }
        }
        match examined {
            // redb takes an empty file only.
            Examined::New => file.set_len(0).map_err(redb::StorageError::Io)?,
            Examined::TooNew(found) => return Err(too_new(&path, found).into()),
            Examined::Foreign(reason) => return Err(Error::NotADatabase { path, reason }.into()),
            Examined::Current(_) | Examined::NeedsRepair | Examined::NeedsMigration => {}
        }
        let database = options.builder().create_with_backend(options.disk(file)?)?;
        drop(creation);
        Ok(GuardedDrop::new(database))
    })
    .map_err(|fault| fault.at("open", &place.database()))?;
    Ok(Some(database))
}

/// What a look at a file found.
enum Examined {
    /// An empty file, or one whose creation was interrupted.
    New,
    /// A database of the present version.
    Current(GuardedDrop<ReadOnlyDatabase>),
    /// A database whose last writer was killed. What is in it shows when it is repaired.
    NeedsRepair,
    /// A database of an older version, or one that is empty.
    NeedsMigration,
    /// A database of a newer version.
    TooNew(u64),
    /// Something else, and what.
    Foreign(String),
}

/// What redb writes to an empty file before it is a database, in bytes: its length, then a header
/// without the magic number that comes first in it.
const HEADER_BYTES: usize = 320;
const MAGIC_BYTES: usize = 9;
/// No new database is as long as this.
const NEW_BYTES_MAX: u64 = 16 << 20;

/// Whether a file that is no database would have become one: whoever created it was killed, or the
/// power went. redb never opens such a file again, and telemetry would be lost until somebody
/// moved it away.
fn creation_was_interrupted(file: &File) -> io::Result<bool> {
    let length = file.metadata()?.len();
    if length > NEW_BYTES_MAX {
        return Ok(false);
    }
    let mut buffer = vec![0; 64 << 10];
    let mut offset = 0;
    loop {
        let read = file.read_at(&mut buffer, offset)?;
        let Some(bytes) = buffer.get_mut(..read).filter(|bytes| !bytes.is_empty()) else {
            return Ok(true);
        };
        if offset == 0
            && let Some(header) = bytes.get_mut(MAGIC_BYTES..HEADER_BYTES.min(read))
        {
            header.fill(0);
        }
        if bytes.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        offset += read as u64;
    }
}

fn examine(
    file: &File,
    open: impl FnOnce() -> Result<Option<File>>,
    options: &StoreOptions,
) -> Result<Examined, Fault> {
    let failed = redb::StorageError::Io;
    if file.metadata().map_err(failed)?.len() == 0 {
        return Ok(Examined::New);
    }
    let Some(opened) = open()? else {
        return Ok(Examined::New);
    };
    let database = match options
        .builder()
        .open_read_only_with_backend(options.disk(opened)?)
    {
        Ok(database) => GuardedDrop::new(database),
        Err(DatabaseError::RepairAborted) => return Ok(Examined::NeedsRepair),
        Err(DatabaseError::Storage(redb::StorageError::Io(error)))
            if matches!(
                error.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            ) =>
        {
            return Ok(if creation_was_interrupted(file).map_err(failed)? {
                Examined::New
            } else {
                Examined::Foreign(error.to_string())
            });
        }
        Err(error) => return Err(error.into()),
    };
    let found = identify(&database.begin_read()?)?;
    Ok(found.unwrap_or(Examined::Current(database)))
}

/// What the tables of a database say, unless they are those of the present version.
fn identify(transaction: &ReadTransaction) -> Result<Option<Examined>, Fault> {
    Ok(match schema::find(transaction)? {
        Found::Version(schema::CURRENT) => None,
        Found::Version(found) if found > schema::CURRENT => Some(Examined::TooNew(found)),
        Found::Version(_) | Found::Empty => Some(Examined::NeedsMigration),
        Found::Foreign => Some(Examined::Foreign("another program's tables".to_owned())),
    })
}

fn too_new(path: &Path, found: u64) -> Error {
    Error::SchemaTooNew {
        path: path.to_owned(),
        found,
        supported: schema::CURRENT,
    }
}
