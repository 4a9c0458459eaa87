//! Whether a file may be written to.
//!
//! redb trusts the pages of its file. Reading a damaged page is contained: it ends in an error or a panic,
//! which is caught. Writing is not always: a page that leads back to itself makes redb recurse until the
//! stack overflows, which ends the process. So before a process first changes a file, redb's own check verifies
//! the checksums of all pages. A compaction follows every page, and is always preceded by a check.
//! The check takes 0.6 s for each gibibyte, and writers of other processes wait meanwhile, so it is left
//! out where the file is very large and was closed in order.
//!
//! A file with damage may still be written to if the damage is found in records alone: every table can be
//! walked from its first entry to its last, and some value among them does not agree with its checksum.

use crate::{
    error::{Error, Result},
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
/// takes 0.15 s.
const SMALL_BYTES: u64 = 256 << 20;
/// The size on the disk from which pages are only checked if the file was not closed in order.
const LARGE_BYTES: u64 = 8 << 30;

/// What this process knows about the file.
#[derive(Debug, Default)]
pub(super) struct Admission {
    pages: Mutex<Pages>,
    /// Whether a writer ended without leaving properly.
    was_unclean: AtomicBool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum Pages {
    #[default]
    Unknown,
    /// The small tables, to which every writer writes, can be walked.
    SmallTablesWalked,
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
                let snapshot = self.snapshot()?;
                let view = snapshot.view();
                view.read(|| space::live_bytes(view.transaction()))?;
                Pages::SmallTablesWalked
            };
            self.set_pages(pages.clone());
        }
        self.outcome(pages)
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
            pages = if bytes > LARGE_BYTES && !self.was_unclean() {
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
