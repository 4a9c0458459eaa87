//! Whether a file may be written to.
//!
//! redb trusts the pages of its file. Reading a damaged page is contained: it ends in an error or a panic,
//! which is caught. Writing is not always: a page that leads back to itself makes redb recurse until the
//! stack overflows, which ends the process. So before a process first changes a file, redb's own check verifies
//! the checksums of all pages. A compaction follows every page, and is always preceded by a check.
//! The check takes 0.2 s for each gibibyte, and writers of other processes wait meanwhile. So a file that is not
//! small is only checked by the thread that is about to change records. Before that, a process that opens it only
//! stores what a killed writer has left and enters a writer of its own, once it has walked the tables that this
//! changes. The check is left out where the file is very large and was closed in order.
//!
//! A file with damage may still be written to if the damage is found in records alone: every table can be
//! walked from its first entry to its last, and some value among them does not agree with its checksum.

use crate::{
    error::{Error, Result},
    platform::FileId,
    store::{
        handle::Store,
        scan::{space, verify},
    },
};
use std::{
    io::ErrorKind,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// The size on the disk up to which all pages are checked before the first change, whatever it is. The check
/// takes 4 ms.
const SMALL_BYTES: u64 = 16 << 20;
/// The size on the disk from which pages are only checked if the file was not closed in order.
const LARGE_BYTES: u64 = 8 << 30;

/// What this process knows about the file.
#[derive(Debug, Default)]
pub(super) struct Admission {
    pages: Mutex<Pages>,
    /// The file whose pages were all checked last.
    checked: Mutex<Option<FileId>>,
    /// Whether a writer ended without leaving properly.
    was_unclean: AtomicBool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum Pages {
    #[default]
    Unknown,
    /// The small tables, to which every writer writes, can be walked.
    SmallTablesWalked,
    /// All pages are checked, or need not be.
    Admitted,
    /// The file must not be written to, and why.
    Refused(String),
}

impl Store {
    /// Notes that a writer was killed.
    pub(super) fn note_unclean_end(&self) {
        self.admission().was_unclean.store(true, Ordering::Relaxed);
    }

    /// Whether a writer had been killed when this process opened the store.
    pub(crate) fn was_unclean(&self) -> bool {
        self.admission().was_unclean.load(Ordering::Relaxed)
    }

    /// Forgets what was found: the file was opened anew, and may be another one.
    pub(super) fn forget_admission(&self) {
        self.set_pages(Pages::Unknown);
    }

    fn pages(&self) -> Pages {
        let pages = self.admission().pages.lock();
        pages.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_pages(&self, found: Pages) {
        self.leave_file(matches!(found, Pages::Unknown | Pages::Refused(_)));
        let pages = self.admission().pages.lock();
        *pages.unwrap_or_else(PoisonError::into_inner) = found;
    }

    /// The size of the file on the disk; `None` when there is none at the path.
    fn size(&self) -> Result<Option<u64>> {
        match self.disk_usage() {
            Ok(usage) => Ok(Some(usage.used_bytes)),
            // The change itself says so.
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Checks what must be checked before a small change, such as the entry of a writer.
    ///
    /// Fails with [`Error::Corrupt`] when the file must not be written to.
    pub(super) fn admit(&self) -> Result<()> {
        let mut pages = self.pages();
        if pages == Pages::Unknown
            && self.checks_pages()
            && let Some(bytes) = self.size()?
        {
            pages = if bytes <= SMALL_BYTES {
                self.examine()?
            } else {
                self.walk_small_tables()?
            };
            self.set_pages(pages.clone());
        }
        self.outcome(pages)
    }

    fn walk_small_tables(&self) -> Result<Pages> {
        let snapshot = self.snapshot()?;
        let view = snapshot.view();
        view.read(|| space::live_bytes(view.transaction()))?;
        Ok(Pages::SmallTablesWalked)
    }

    /// Whether all pages of the open file were checked before it was opened again, as it is at each attempt to
    /// write to a disk that is full.
    fn was_checked(&self) -> bool {
        let checked = self.admission().checked.lock();
        *checked.unwrap_or_else(PoisonError::into_inner) == Some(self.open_file())
    }

    /// Checks what must be checked before records are changed, unless this was done before.
    ///
    /// Fails like [`Store::admit`].
    pub(crate) fn admit_fully(&self) -> Result<()> {
        let mut pages = self.pages();
        if matches!(pages, Pages::Unknown | Pages::SmallTablesWalked)
            && self.checks_pages()
            && let Some(bytes) = self.size()?
        {
            if pages == Pages::Unknown && bytes > SMALL_BYTES {
                self.walk_small_tables()?;
            }
            let need_not_be = bytes > LARGE_BYTES && !self.was_unclean();
            pages = if need_not_be || (bytes > SMALL_BYTES && self.was_checked()) {
                Pages::Admitted
            } else {
                self.examine()?
            };
            self.set_pages(pages.clone());
        }
        self.outcome(pages)
    }

    /// Checks all pages again.
    ///
    /// Fails like [`Store::admit`].
    pub(super) fn admit_again(&self) -> Result<()> {
        if !self.checks_pages() {
            return Ok(());
        }
        let pages = self.examine()?;
        self.set_pages(pages.clone());
        self.outcome(pages)
    }

    fn outcome(&self, pages: Pages) -> Result<()> {
        match pages {
            Pages::Refused(what) => Err(Error::Corrupt {
                path: self.path(),
                what,
            }),
            Pages::Unknown | Pages::SmallTablesWalked | Pages::Admitted => Ok(()),
        }
    }

    fn examine(&self) -> Result<Pages> {
        let found = self.examine_pages()?;
        let checked = (found == Pages::Admitted).then(|| self.open_file());
        let known = self.admission().checked.lock();
        *known.unwrap_or_else(PoisonError::into_inner) = checked;
        Ok(found)
    }

    fn examine_pages(&self) -> Result<Pages> {
        let Some(what) = self.check_pages()? else {
            return Ok(Pages::Admitted);
        };
        let snapshot = self.snapshot()?;
        let view = snapshot.view();
        let refused = |why: &str| Ok(Pages::Refused(format!("its pages: {what}: {why}")));
        if let Err(error) = view.read(|| space::walk_all(view.transaction())) {
            return refused(&error.to_string());
        }
        let mut findings = 0;
        let mut count = |_| findings += 1;
        for index in verify::check_index(view, &mut count) {
            for block in &index.blocks {
                let records = block.header.count.into();
                let key = &block.key;
                verify::check_block(
                    view,
                    &index.entry,
                    key,
                    records,
                    &mut count,
                    &mut |_, _, _| {},
                );
            }
            verify::check_rows(view, &index.entry, &mut count, &mut |_, _, _| {});
        }
        if findings == 0 {
            return refused("all records can be read");
        }
        Ok(Pages::Admitted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        DiskOperation, StoreOptions,
        layout::tables::{BLOCK_CHUNKS, ChunkKey},
    };
    use std::sync::{Arc, atomic::AtomicUsize};

    /// A process can use a store soon after another one was killed, however much is stored.
    #[test]
    fn a_file_that_is_not_small_is_read_once_and_only_before_records_are_changed() {
        // Fits whole pages.
        const CHUNK: usize = (64 << 10) - 256;
        let home = tempfile::tempdir().unwrap();
        let (operations, bytes) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (counted, read) = (Arc::clone(&operations), Arc::clone(&bytes));
        let options = StoreOptions::default().disk_hook(move |operation| {
            if let DiskOperation::Read { bytes, .. } = operation {
                counted.fetch_add(1, Ordering::Relaxed);
                read.fetch_add(bytes, Ordering::Relaxed);
            }
            Ok(())
        });
        let chunks = usize::try_from(SMALL_BYTES).unwrap() / CHUNK + 1;
        let store = Store::open(home.path(), "stack", options.clone()).unwrap();
        let fill = store.writer().unwrap().transact("fill", |transaction| {
            let mut table = transaction.open_table(BLOCK_CHUNKS)?;
            for number in 0..chunks {
                let mut key = ChunkKey::default();
                key[..8].copy_from_slice(&number.to_be_bytes());
                table.insert(&key, &*vec![1; CHUNK])?;
            }
            Ok(())
        });
        fill.unwrap();
        let taken = || {
            let taken = [&operations, &bytes].map(|count| count.swap(0, Ordering::Relaxed));
            (taken[0], taken[1])
        };
        taken();
        let options = options.checking_pages();
        let other = Store::open(home.path(), "stack", options.clone()).unwrap();
        other.writer().unwrap().enter_writer().unwrap();
        let to_enter = taken();
        assert!(to_enter.1 < 1 << 20, "{to_enter:?}");
        other.admit_fully().unwrap();
        let to_admit = taken();
        let all = chunks * CHUNK;
        assert!((all..all + (all / 2)).contains(&to_admit.1), "{to_admit:?}");
        assert!(to_admit.0 < chunks * 5 / 4 + 100, "{to_admit:?}");
        other.admit_fully().unwrap();
        assert_eq!(taken(), (0, 0));
    }
}
