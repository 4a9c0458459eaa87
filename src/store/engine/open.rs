//! Opening the file of a database.
//!
//! A file is first examined without changing it, and classified as one of the cases of
//! [`Examined`]. Then it is opened, created, repaired, migrated or refused. A refused file, whether
//! of another program or of a newer version, is not modified.

use crate::{
    error::{Error, Result},
    home::{IfMissing, StackPath},
    platform::{self, FileId},
    store::engine::{
        disk::{Disk, DiskHook},
        fault::{Fault, GuardedDrop, guarded},
        overlay::Overlay,
        reserve,
        schema::{self, Found, Migration, MigrationStep},
    },
    time::Timestamp,
};
use redb::{
    Builder, ConcurrencyMode, Database, DatabaseError, ReadOnlyDatabase, ReadTransaction,
    ReadableDatabase, StorageBackend,
};
use std::{
    fmt,
    fs::File,
    io,
    ops::{Deref, DerefMut},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// How a file is opened.
#[derive(Clone)]
pub(crate) struct OpenOptions {
    /// The page cache of each handle, in bytes.
    pub(crate) page_cache_bytes: usize,
    /// Every step from an empty file to the version that this program writes.
    pub(crate) migrations: &'static [Migration],
    /// Called before each step of a migration.
    pub(crate) on_migration: Arc<dyn Fn(MigrationStep) + Send + Sync>,
    /// Whether a file that cannot be opened as a database is set aside when a database is opened to be
    /// created.
    pub(crate) sets_aside: bool,
    /// Called before each operation on the file.
    pub(crate) disk_hook: Option<DiskHook>,
    /// Whether the pages of the file are checked before they are changed.
    pub(crate) checks_pages: bool,
    /// Whether the end of the file is overwritten before it is cut off.
    pub(crate) overwrites_cut: bool,
}

impl OpenOptions {
    fn builder(&self) -> Builder {
        let mut builder = Builder::new();
        builder
            .set_cache_size(self.page_cache_bytes)
            .set_concurrency_mode(ConcurrencyMode::MultiWriter);
        builder
    }

    fn disk(&self, file: File) -> Result<Disk, Fault> {
        Ok(Disk::new(
            file,
            self.disk_hook.clone(),
            self.overwrites_cut,
        )?)
    }

    /// Opens a database whose file stays as it is: what redb writes to it is kept in memory.
    fn open_overlay(&self, file: File, builder: &Builder) -> Result<GuardedDrop<Database>, Fault> {
        let disk = Overlay::new(self.disk(file)?).map_err(redb::StorageError::Io)?;
        Ok(GuardedDrop::left(builder.create_with_backend(disk)?))
    }

    /// The version that this program writes.
    fn version(&self) -> u64 {
        self.migrations.len() as u64
    }

    /// Classifies a database by its tables; `None` when they are those of the current version.
    fn identify(&self, transaction: &ReadTransaction) -> Result<Option<Examined>, Fault> {
        Ok(match schema::find(transaction, self.version())? {
            Found::Version(found) if found == self.version() => None,
            Found::Version(found) if found > self.version() => Some(Examined::TooNew(found)),
            Found::Version(_) | Found::Empty => Some(Examined::NeedsMigration),
            Found::Foreign => Some(Examined::Foreign("another program's tables".to_owned())),
        })
    }

    fn too_new(&self, path: &Path, found: u64) -> Error {
        Error::SchemaTooNew {
            path: path.to_owned(),
            found,
            supported: self.version(),
        }
    }
}

/// An open database, and the file that it is. The file keeps its identity when it is renamed or
/// deleted.
#[derive(Debug)]
pub(crate) struct Opened<T> {
    database: GuardedDrop<T>,
    pub(crate) file: FileId,
}

impl<T> Deref for Opened<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.database
    }
}

impl<T> DerefMut for Opened<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.database
    }
}

/// A read-only handle.
pub(crate) type Reader = Arc<Opened<ReadOnlyDatabase>>;

/// An open database.
#[derive(Clone)]
pub(crate) enum Engine {
    ReadWrite(Arc<Opened<Database>>),
    ReadOnly(Reader),
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Engine::ReadWrite(_) => "ReadWrite",
            Engine::ReadOnly(_) => "ReadOnly",
        })
    }
}

impl Engine {
    /// The identity of the open file.
    pub(crate) fn file(&self) -> FileId {
        match self {
            Engine::ReadWrite(database) => database.file,
            Engine::ReadOnly(database) => database.file,
        }
    }

    /// Sets whether the file stays as it is when it is closed, because its pages are damaged or were not checked.
    pub(crate) fn leave_file(&self, is_left: bool) {
        // A handle for reading leaves it anyway.
        if let Engine::ReadWrite(database) = self {
            database.database.leave(is_left);
        }
    }

    pub(crate) fn begin_read(&self) -> Result<ReadTransaction, Fault> {
        Ok(match self {
            Engine::ReadWrite(database) => database.begin_read()?,
            Engine::ReadOnly(database) => database.begin_read()?,
        })
    }

    /// Opens for reading; `None` when there is no database. A database of an older version, or
    /// whose last writer was killed, is opened for reading and writing, because migration and
    /// repair change the file.
    pub(crate) fn open_read_only(
        place: &StackPath,
        options: &OpenOptions,
    ) -> Result<Option<Engine>> {
        let path = place.database();
        let Some(file) = place.open_file(IfMissing::Skip)? else {
            return Ok(None);
        };
        match guarded(|| examine(&file, || place.open_file(IfMissing::Skip), options))
            .map_err(|fault| fault.at("open", &path))?
        {
            Examined::Current(database) => Ok(Some(Engine::ReadOnly(Arc::new(database)))),
            // A database that is being created, or whose creator was killed.
            Examined::New => Ok(None),
            Examined::NeedsRepair | Examined::NeedsMigration => {
                Engine::open_read_write(place, options, IfMissing::Skip)
            }
            Examined::TooNew(found) => Err(options.too_new(&path, found)),
            Examined::Foreign(reason) => Err(Error::NotADatabase { path, reason }),
        }
    }

    /// Opens for reading and writing, and migrates a database of an older version. Returns `None`
    /// when there is no database and `missing` is [`IfMissing::Skip`].
    pub(crate) fn open_read_write(
        place: &StackPath,
        options: &OpenOptions,
        missing: IfMissing,
    ) -> Result<Option<Engine>> {
        let open = || {
            let Some(database) = open_database(place, options, missing)? else {
                return Ok(None);
            };
            guarded(|| schema::migrate(&database, options.migrations, &*options.on_migration))
                .map_err(|fault| fault.at("migrate", &place.database()))?;
            Ok(Some(Engine::ReadWrite(Arc::new(database))))
        };
        let opened = match open() {
            // Repairing a database whose last writer was killed takes disk space.
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

/// Opens a second, read-only handle. `None` unless the file is a database of the current version
/// that was closed properly.
pub(crate) fn open_reader(
    place: &StackPath,
    options: &OpenOptions,
) -> Result<Option<Reader>, Fault> {
    let Some(file) = place.open_file(IfMissing::Skip)? else {
        return Ok(None);
    };
    Ok(
        match examine(&file, || place.open_file(IfMissing::Skip), options)? {
            Examined::Current(database) => Some(Arc::new(database)),
            _ => None,
        },
    )
}

/// The progress that redb reports once the checksums of all pages agree. It would go on to read all pages again,
/// to find out which ones are free.
const PAGES_VERIFIED: f64 = 0.6;

/// Verifies the checksums of all pages without changing the file. Returns what is wrong. Writers of other
/// processes wait meanwhile.
pub(crate) fn check_pages(place: &StackPath, options: &OpenOptions) -> Result<Option<String>> {
    let Some(file) = place.open_file(IfMissing::Skip)? else {
        return Ok(None);
    };
    let checked = guarded(|| {
        let mut builder = options.builder();
        builder
            .set_check_integrity_on_open(true)
            // Each page is read once, and the memory of one before is still in the processor's cache.
            .set_cache_size(0)
            .set_repair_callback(|session| {
                if session.progress() >= PAGES_VERIFIED {
                    session.abort();
                }
            });
        match options.open_overlay(file, &builder) {
            Err(Fault::Engine(redb::Error::RepairAborted)) => Ok(()),
            outcome => outcome.map(drop),
        }
    });
    match checked.map_err(|fault| fault.at("read", &place.database())) {
        Ok(()) => Ok(None),
        Err(Error::Corrupt { what, .. }) => Ok(Some(what)),
        Err(error) => Err(error),
    }
}

/// Opens for reading and writing. The file is examined first without changing it: a file of another
/// program or of a newer version must stay the same byte for byte.
pub(crate) fn open_database(
    place: &StackPath,
    options: &OpenOptions,
    missing: IfMissing,
) -> Result<Option<Opened<Database>>> {
    let path = place.database();
    // Only one process at a time may create: a second one that finds the file half created would
    // truncate it under the first, or set it aside.
    let mut creation = None;
    let mut file = place.open_file(IfMissing::Skip)?;
    if file.is_none() && missing == IfMissing::Create {
        place.create_folders()?;
        creation = Some(place.lock_creation()?);
        file = place.open_file(IfMissing::Skip)?;
        if file.is_none() {
            // A reserve says that there was a database, see `was_emptied`.
            place.remove_reserve()?;
            file = place.open_file(IfMissing::Create)?;
        }
    }
    let Some(file) = file else {
        return Ok(None);
    };
    let database = guarded(|| {
        let look = || examine(&file, || place.open_file(IfMissing::Skip), options);
        let mut examined = look()?;
        if matches!(examined, Examined::New) && creation.is_none() {
            creation = Some(place.lock_creation()?);
            examined = look()?;
            if matches!(examined, Examined::New) && options.sets_aside && was_emptied(place) {
                return Err(Fault::Corrupt(EMPTIED.to_owned()));
            }
        }
        // Otherwise what was examined is not what is opened: the file was set aside meanwhile.
        let id = file_id(&file)?;
        let at_path = std::fs::metadata(&path).map(|found| platform::file_id(&found));
        if at_path.ok() != Some(id) {
            return Err(Error::DatabaseReplaced { path }.into());
        }
        if matches!(examined, Examined::NeedsRepair)
            && let Some(file) = place.open_file(IfMissing::Skip)?
        {
            let database = options.open_overlay(file, &options.builder())?;
            if let Some(found) = options.identify(&database.begin_read()?)? {
                examined = found;
            }
        }
        let disk = options.disk(file)?;
        // Until its pages are checked, before the first change.
        let is_left = options.checks_pages && !matches!(examined, Examined::New);
        match examined {
            // redb creates a database only in an empty file.
            Examined::New => disk.set_len(0).map_err(redb::StorageError::Io)?,
            Examined::TooNew(found) => return Err(options.too_new(&path, found).into()),
            Examined::Foreign(reason) => return Err(Error::NotADatabase { path, reason }.into()),
            Examined::Current(_) | Examined::NeedsRepair | Examined::NeedsMigration => {}
        }
        let database = GuardedDrop::new(options.builder().create_with_backend(disk)?);
        database.leave(is_left);
        drop(creation);
        Ok(Opened { database, file: id })
    })
    .map_err(|fault| fault.at("open", &place.database()))?;
    Ok(Some(database))
}

/// Opens a file that was set aside, without changing it: what repair and migration write stays in memory.
/// `None` when it is missing.
pub(crate) fn open_copy(place: &StackPath, options: &OpenOptions) -> Result<Option<Engine>> {
    let path = place.database();
    let Some(file) = place.open_file(IfMissing::Skip)? else {
        return Ok(None);
    };
    let opened = guarded(|| {
        let id = file_id(&file)?;
        if file.metadata().map_err(redb::StorageError::Io)?.len() == 0 {
            let reason = "it is empty".to_owned();
            return Err(Error::NotADatabase {
                path: path.clone(),
                reason,
            }
            .into());
        }
        let database = options.open_overlay(file, &options.builder())?;
        match options.identify(&database.begin_read()?)? {
            Some(Examined::TooNew(found)) => return Err(options.too_new(&path, found).into()),
            Some(Examined::Foreign(reason)) => {
                let path = path.clone();
                return Err(Error::NotADatabase { path, reason }.into());
            }
            _ => {}
        }
        schema::migrate(&database, options.migrations, &*options.on_migration)?;
        Ok(Opened { database, file: id })
    })
    .map_err(|fault| fault.at("open", &path))?;
    Ok(Some(Engine::ReadWrite(Arc::new(opened))))
}

/// What is wrong with a file for which [`was_emptied`] is true.
const EMPTIED: &str = "it is empty or full of zeros, and there was a database";

/// Whether a new file is in the place of a database. Each database has a reserve beside it, and one that
/// is being created has none yet.
fn was_emptied(place: &StackPath) -> bool {
    matches!(place.open_reserve(IfMissing::Skip), Ok(Some(_)))
}

/// A file that could not be opened as a database and was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SetAsideNote {
    pub(crate) at: Timestamp,
    /// Its present path.
    pub(crate) path: PathBuf,
    /// Why it could not be opened.
    pub(crate) reason: String,
}

/// Whether `error` says that a file cannot be opened as a database, now or later. One of a newer version
/// can, by a newer program.
pub(crate) fn is_unusable(error: &Error) -> bool {
    match error {
        Error::Corrupt { what, .. } => !is_newer_format(what),
        Error::NotADatabase { .. } => true,
        Error::Database { source, .. } => {
            matches!(source.downcast_ref(), Some(redb::Error::UpgradeRequired(_)))
        }
        _ => false,
    }
}

/// Whether redb found a file format that a version of the next years could have: the version is a byte,
/// which damage can change to any other.
fn is_newer_format(what: &str) -> bool {
    let is_near = |found: u8| found < 16;
    what.starts_with("Expected file format version")
        && (what.rsplit(' ').next())
            .and_then(|found| found.parse().ok())
            .is_some_and(is_near)
}

/// Sets the file at the path aside, if it is still `file`, which could not be opened because of `error`.
/// `None` when it is another file by now, or was empty and another process has made a database of it.
pub(crate) fn set_aside(
    place: &StackPath,
    options: &OpenOptions,
    file: FileId,
    error: &Error,
) -> Result<Option<SetAsideNote>> {
    let _creation = place.lock_creation()?;
    if matches!(error, Error::Corrupt { what, .. } if what == EMPTIED)
        && guarded(|| open_reader(place, options)).is_ok_and(|reader| reader.is_some())
    {
        return Ok(None);
    }
    let (at, reason) = (Timestamp::now(), error.to_string());
    let moved = place.set_aside(file, at, &reason)?;
    Ok(moved.map(|path| SetAsideNote { at, path, reason }))
}

/// The result of examining a file.
enum Examined {
    /// An empty file, or one whose creation was interrupted.
    New,
    /// A database of the current version.
    Current(Opened<ReadOnlyDatabase>),
    /// A database whose last writer was killed. Its version is only known once it is repaired.
    NeedsRepair,
    /// A database that is empty or of an older version.
    NeedsMigration,
    /// A database of a newer version.
    TooNew(u64),
    /// A file of another program, with a description of what was found.
    Foreign(String),
}

/// The length of redb's header, in bytes. While redb creates a database, the header lacks the magic
/// number at its start, or a part of it, and the rest of the file is zeros.
const HEADER_BYTES: usize = 320;
const MAGIC: &[u8; 9] = b"redb\x1a\x0a\xa9\x0d\x0a";
/// Maximum length of a database file whose creation was interrupted, in bytes.
const NEW_BYTES_MAX: u64 = 16 << 20;

/// Whether a file that is not a database is an interrupted creation, because the creating process
/// was killed or the power failed. redb never opens such a file again, so telemetry would be lost
/// until an operator moved it away.
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
            && let Some(header) = bytes.get_mut(..HEADER_BYTES.min(read))
        {
            // With the whole number, the creation has ended, and the file was cut off.
            let mut start = header.iter().zip(MAGIC);
            let is_begun = header.len() >= MAGIC.len()
                && !header.starts_with(MAGIC)
                && start.all(|(byte, magic)| [0, *magic].contains(byte));
            if is_begun {
                header.fill(0);
            }
        }
        if bytes.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        offset += read as u64;
    }
}

fn examine(
    file: &File,
    open: impl Fn() -> Result<Option<File>>,
    options: &OpenOptions,
) -> Result<Examined, Fault> {
    let failed = redb::StorageError::Io;
    let mut is_second_look = false;
    loop {
        if file.metadata().map_err(failed)?.len() == 0 {
            return Ok(Examined::New);
        }
        let Some(opened) = open()? else {
            return Ok(Examined::New);
        };
        let id = file_id(&opened)?;
        let opened = options
            .builder()
            .open_read_only_with_backend(options.disk(opened)?);
        let database = match opened {
            Ok(database) => Opened {
                database: GuardedDrop::new(database),
                file: id,
            },
            Err(DatabaseError::RepairAborted) => return Ok(Examined::NeedsRepair),
            Err(DatabaseError::Storage(redb::StorageError::Io(error)))
                if matches!(
                    error.kind(),
                    io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
                ) =>
            {
                if creation_was_interrupted(file).map_err(failed)? {
                    return Ok(Examined::New);
                }
                if is_second_look {
                    return Ok(Examined::Foreign(error.to_string()));
                }
                // Another process may have ended its creation between the two looks at it.
                is_second_look = true;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let found = options.identify(&database.begin_read()?)?;
        return Ok(found.unwrap_or(Examined::Current(database)));
    }
}

fn file_id(file: &File) -> Result<FileId, Fault> {
    let metadata = file.metadata().map_err(redb::StorageError::Io)?;
    Ok(platform::file_id(&metadata))
}
