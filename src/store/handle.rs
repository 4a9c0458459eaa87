//! The handle of a stack's database, and the right to write to it.

use crate::{
    config::RetentionPolicy,
    error::{Error, Result},
    home::{IfMissing, StackPath},
    store::{
        engine::{
            fault::{Fault, GuardedDrop, guarded},
            open::{self, Engine, OpenOptions, Reader},
            reserve,
        },
        ledger::writers,
        options::StoreOptions,
        policy::{
            clock,
            limits::{self, Limits},
            system_clock::ClockReading,
        },
        snapshot::Snapshot,
    },
};
use redb::{Database, ReadTransaction, ReadableDatabase, WriteTransaction};
use std::{
    fmt, io,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

/// The telemetry of one stack: a database that any number of processes read and write together.
///
/// Cheap to clone; all clones share one open database. Reading takes no lock that a writer waits
/// for. To store records, see [`Writer`](crate::Writer).
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
    /// What is read goes through a handle of its own, opened when it is needed: the one that writes
    /// answers nothing more once the disk has refused it something, and on a full disk that is each
    /// time that storing is tried again.
    reader: RwLock<Option<Reader>>,
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
    /// [`Error::ForeignOwner`] and [`Error::NotAFile`] when something else stands in the way;
    /// [`Error::NotADatabase`] and [`Error::SchemaTooNew`], the file unchanged, when it is not
    /// ours or not yet ours; [`Error::Corrupt`] when it is damaged; [`Error::StorageFull`],
    /// [`Error::Io`] and [`Error::Database`] when the system refuses.
    pub fn open(home: &Path, stack: &str, options: StoreOptions) -> Result<Store> {
        let place = StackPath::new(home, stack)?;
        let store = Store::open_read_write(place, options, IfMissing::Create)?;
        // `IfMissing::Create` leaves nothing missing, except to a process that deletes the folder.
        store.ok_or_else(|| Error::Io {
            action: "create the database in",
            path: home.to_owned(),
            source: io::ErrorKind::NotFound.into(),
        })
    }

    /// Opens the database of `stack` below `home` for reading and writing; `None` when there is
    /// none. Otherwise like [`Store::open`].
    pub fn open_existing(home: &Path, stack: &str, options: StoreOptions) -> Result<Option<Store>> {
        Store::open_read_write(StackPath::new(home, stack)?, options, IfMissing::Skip)
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
        let engine = Engine::open_read_only(&place, options.opening())?;
        Ok(engine.map(|engine| Store::new(place, options, engine)))
    }

    fn open_read_write(
        place: StackPath,
        options: StoreOptions,
        missing: IfMissing,
    ) -> Result<Option<Store>> {
        let engine = Engine::open_read_write(&place, options.opening(), missing)?;
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
        self.inner.options.clock_reading()
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
        let Some(database) = open::open_reader(place, options.opening())? else {
            return Ok(None);
        };
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

    /// How the file is opened.
    pub(crate) fn opening(&self) -> &OpenOptions {
        self.inner.options.opening()
    }

    /// Opens the database once more, beside the handle that everybody uses: the engine takes it for
    /// another process. Fails with [`Error::ReadOnly`] where the store was opened so.
    pub(crate) fn open_another(&self, options: &OpenOptions) -> Result<GuardedDrop<Database>> {
        self.writer()?;
        open::open_database(&self.inner.place, options, IfMissing::Skip)?
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
            Engine::ReadWrite(_) => {
                Engine::open_read_write(place, options.opening(), IfMissing::Create)?
            }
            Engine::ReadOnly(_) => Engine::open_read_only(place, options.opening())?,
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

    /// The time by which age is judged, see [`clock::trusted_now`].
    pub(crate) fn trusted_now(&self, transaction: &WriteTransaction) -> Result<i64, Fault> {
        clock::trusted_now(transaction, self.store.clock_reading(), self.store.stack())
    }

    /// Stores the clock's state if that is due. Every append does so too; a writer that has nothing
    /// to append needs this.
    pub(crate) fn keep_clock(&self, snapshot: &Snapshot) -> Result<()> {
        let expires = !snapshot.limits()?.is_empty();
        if !expires || !snapshot.clock_verdict()?.is_worth_a_transaction() {
            return Ok(());
        }
        // What follows may free space, which a full disk must not prevent.
        self.transact_freeing("write to", |transaction| {
            self.trusted_now(transaction)?;
            Ok(())
        })
    }

    /// Changes the limits of the store, for every process. Readers no longer see records that exceed
    /// the age limit; maintenance deletes them, and evicts what exceeds the size limits.
    ///
    /// Fails like [`RetentionPolicy::validated`].
    pub(crate) fn set_limits(&self, policy: &RetentionPolicy) -> Result<()> {
        self.transact("set the limits of", |transaction| {
            limits::put(transaction, policy)?;
            Ok(())
        })
    }

    /// Like [`StoreWriter::set_limits`], for tests that need smaller limits than a user may set.
    pub(crate) fn set_small_limits(&self, limits: &Limits) -> Result<()> {
        self.transact("set the limits of", |transaction| {
            limits::replace(transaction, limits.clone())?;
            Ok(())
        })
    }

    /// Enters a writer of this process, see [`writers::enter`].
    pub(crate) fn enter_writer(&self) -> Result<u64> {
        self.transact("write to", writers::enter)
    }

    /// Removes a writer that ends properly.
    pub(crate) fn leave_writer(&self, number: u64) -> Result<()> {
        self.transact("write to", |transaction| {
            writers::leave(transaction, number)
        })
    }

    /// Opens the database anew after a failure; nothing else makes it work again.
    pub(crate) fn reopen(&self) -> Result<()> {
        self.store.reopen()
    }
}
