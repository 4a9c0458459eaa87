//! Overwriting what deleted records have left in the file.
//!
//! They are left in three kinds of places:
//!
//! 1. The end of the file that a compaction cuts off. It is overwritten before it is cut, see
//!    [`OpenOptions::overwrites_cut`]. What a commit has cut off earlier belongs to the file system and is
//!    out of reach.
//! 2. The unused parts of pages that are in use. redb removes an entry from a page by moving those after
//!    it, so the old end stays in the page; and it takes the memory of a new page from its cache, with what
//!    the page held before. So [`Overwriting::renew_pages`] removes each entry and inserts it again, through
//!    a handle without a cache: redb then builds every page anew, from its entries alone.
//! 3. Free pages. [`Overwriting::overwrite_free_pages`] inserts zeros in a transaction until the file must
//!    grow, for then no free page is left, and takes the transaction back. Without a cache, all of its pages
//!    have been written by then, but for the last one, which is in the part that has grown.
//!
//! A compaction precedes each of the last two: it fails while a reader needs an older state, whose pages
//! redb does not use again.

use crate::{
    error::{Error, Result},
    home::{IfMissing, StackPath},
    platform::FileId,
    store::{
        engine::{
            disk::{DiskHook, DiskOperation},
            fault::{Fault, guarded},
            open::{self, OpenOptions, Opened},
            schema,
            transaction::WriteTransaction,
        },
        layout::{
            footprint::PAGE_BYTES,
            tables::{BLOCK_CHUNKS, BLOCKS, DAMAGE, META, ROWS, SERIES, SUMMARIES, TOTALS},
        },
        maintain::compact::CompactOptions,
    },
};
use redb::{Database, Key, ReadableTable, TableDefinition, Value};
use std::{
    io::ErrorKind,
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

const ACTION: &str = "overwrite deleted records of";

/// The table whose transaction is taken back.
const ZEROS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("zeros");
/// The length of a value of which one fits a page.
const ZEROS_BYTES: usize = PAGE_BYTES * 7 / 8;
/// The number of pages that are written after the file has grown, so that the last one, which may be left
/// unwritten, is in the part that has grown.
const MORE_PAGES: usize = 64;

/// The size of the entries that one transaction moves, in bytes: other writers wait for it.
const SLICE_BYTES: usize = 4 << 20;

/// An overwriting of a database.
pub(crate) struct Overwriting<'a> {
    pub(crate) place: &'a StackPath,
    /// The options that the store was opened with.
    pub(crate) opening: &'a OpenOptions,
    pub(crate) options: &'a CompactOptions,
}

impl Overwriting<'_> {
    /// Builds all pages with contents of records anew. Returns the file.
    pub(crate) fn renew_pages(&self) -> Result<FileId> {
        self.run(|| {
            let database = self.open(self.opening.disk_hook.clone())?;
            self.renew(&database, SERIES)?;
            self.renew(&database, ROWS)?;
            self.renew(&database, BLOCKS)?;
            self.renew(&database, BLOCK_CHUNKS)?;
            self.renew(&database, SUMMARIES)?;
            self.renew(&database, TOTALS)?;
            self.renew(&database, DAMAGE)?;
            Ok(database.file)
        })
    }

    /// Overwrites all pages that are free. Returns the file.
    pub(crate) fn overwrite_free_pages(&self) -> Result<FileId> {
        self.run(|| {
            let has_grown = Arc::new(AtomicBool::new(false));
            let database = self.open(Some(self.watch_growth(Arc::clone(&has_grown))))?;
            let transaction = begin(&database)?;
            let mut table = transaction.open_table(ZEROS)?;
            let zeros = [0; ZEROS_BYTES];
            let mut left = MORE_PAGES;
            for number in 0.. {
                self.ask()?;
                table.insert(number, zeros.as_slice())?;
                if has_grown.load(Ordering::Relaxed) {
                    left -= 1;
                }
                if left == 0 {
                    break;
                }
            }
            drop(table);
            transaction.abort()?;
            let file = database.file;
            drop(database);
            if let Some(file) = self.place.open_file(IfMissing::Skip)? {
                file.sync_data().map_err(redb::StorageError::Io)?;
            }
            Ok(file)
        })
    }

    pub(crate) fn run<T>(&self, operation: impl FnOnce() -> Result<T, Fault>) -> Result<T> {
        guarded(operation).map_err(|fault| fault.at(ACTION, &self.place.database()))
    }

    /// Fails when the overwriting was cancelled.
    pub(crate) fn ask(&self) -> Result<(), Fault> {
        if self.options.is_cancelled() {
            let (action, path) = (ACTION, self.place.database());
            return Err(Error::Cancelled { action, path }.into());
        }
        Ok(())
    }

    /// A handle without a cache.
    fn open(&self, disk_hook: Option<DiskHook>) -> Result<Opened<Database>, Fault> {
        let opening = OpenOptions {
            page_cache_bytes: 0,
            disk_hook,
            overwrites_cut: true,
            ..self.opening.clone()
        };
        let missing = || Error::io("open", &self.place.database(), ErrorKind::NotFound.into());
        Ok(open::open_database(self.place, &opening, IfMissing::Skip)?.ok_or_else(missing)?)
    }

    /// A hook that notes when the length of the file changes, after the one of the store.
    fn watch_growth(&self, has_grown: Arc<AtomicBool>) -> DiskHook {
        let inner = self.opening.disk_hook.clone();
        Arc::new(move |operation| {
            if let Some(inner) = &inner {
                inner(operation)?;
            }
            if let DiskOperation::SetLength(_) = operation {
                has_grown.store(true, Ordering::Relaxed);
            }
            Ok(())
        })
    }

    /// Removes all entries of a table and inserts them again.
    fn renew<K: Key + 'static, V: Value + 'static>(
        &self,
        database: &Database,
        definition: TableDefinition<'_, K, V>,
    ) -> Result<(), Fault> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            self.ask()?;
            let transaction = begin(database)?;
            after = renew_slice(&transaction, definition, after.as_deref())?;
            transaction.commit()?;
            if after.is_none() {
                return Ok(());
            }
        }
    }
}

fn begin(database: &Database) -> Result<WriteTransaction, Fault> {
    let transaction = WriteTransaction::new(database.begin_write()?);
    schema::check_meta(&*transaction.open_table(META)?)?;
    Ok(transaction)
}

/// Removes the entries after the key `after`, up to [`SLICE_BYTES`], and inserts them again. Returns the key
/// of the last one; `None` when there was none.
fn renew_slice<K: Key + 'static, V: Value + 'static>(
    transaction: &WriteTransaction,
    definition: TableDefinition<'_, K, V>,
    after: Option<&[u8]>,
) -> Result<Option<Vec<u8>>, Fault> {
    let mut table = transaction.open_table(definition)?;
    let mut slice = Vec::new();
    let mut bytes = 0;
    let first = match after {
        Some(after) => Bound::Excluded(K::from_bytes(after)),
        None => Bound::Unbounded,
    };
    for entry in table.range::<K::SelfType<'_>>((first, Bound::Unbounded))? {
        let (key, value) = entry?;
        let (key, value) = (key.value(), value.value());
        let key = K::as_bytes(&key).as_ref().to_vec();
        let value = V::as_bytes(&value).as_ref().to_vec();
        bytes += key.len() + value.len();
        slice.push((key, value));
        if bytes >= SLICE_BYTES {
            break;
        }
    }
    for (key, value) in &slice {
        let key = K::from_bytes(key);
        table.remove(&key)?;
        table.insert(&key, V::from_bytes(value))?;
    }
    Ok(slice.pop().map(|(key, _)| key))
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

    #[test]
    fn no_free_page_keeps_what_it_held() {
        const MARKER: &str = "4f0e2b7d-a marker";
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path(), "stack", StoreOptions::default()).unwrap();
        let (writer, guard) = Writer::start(&store, WriterOptions::default()).unwrap();
        let server = ServerName::new("github").unwrap();
        let count = || {
            let bytes = std::fs::read(store.path()).unwrap();
            let found = bytes.windows(MARKER.len());
            found.filter(|bytes| *bytes == MARKER.as_bytes()).count()
        };
        for number in 0..500 {
            let record = LogRecord::new(Timestamp::from_unix_nanos(number), Level::INFO, MARKER);
            writer.log(&server, &record).unwrap();
            if number % 100 == 0 {
                writer.flush().unwrap();
            }
        }
        guard.close().unwrap();
        store.wipe(&WipeScope::everything()).unwrap();
        let writer = store.writer().unwrap();
        // Pages freed by a commit are free after a later one.
        for number in 0..4 {
            let touch = |transaction: &WriteTransaction| {
                transaction.open_table(META)?.insert("touched", number)?;
                Ok(())
            };
            writer.transact("touch", touch).unwrap();
        }
        assert!(count() > 200, "{}", count());
        let options = CompactOptions::default();
        let overwriting = Overwriting {
            place: store.place(),
            opening: &StoreOptions::default().opening().clone(),
            options: &options,
        };
        overwriting.overwrite_free_pages().unwrap();
        assert_eq!(count(), 0);
        store.snapshot().unwrap().check().unwrap();
    }
}
