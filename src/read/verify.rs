//! Verifying a store, and salvaging what can be read of a damaged one.

use super::RawRecord;
use crate::{
    error::{Error, Result},
    store::{Finding, IndexedBlock, OnFinding, OnRecord, SeriesIndex, Snapshot, Store, verify},
    time::Timestamp,
};
use std::{fmt, sync::Arc};

/// The number of blocks that are read from one snapshot, so that none is held for long.
const BLOCKS_PER_SNAPSHOT: usize = 64;

/// Options of [`Store::verify`] and [`Store::salvage`].
#[derive(Clone)]
#[must_use]
pub struct VerifyOptions {
    on_progress: Arc<dyn Fn(VerifyProgress) + Send + Sync>,
    cancel_when: Arc<dyn Fn() -> bool + Send + Sync>,
    between_snapshots: Arc<dyn Fn() + Send + Sync>,
}

/// How far a verification is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyProgress {
    /// The number of records that were read.
    pub read_records: u64,
    /// The number of all records when it began.
    pub total_records: u64,
}

/// The outcome of a verification. It has no findings: they were told one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Verified {
    /// The number of records that can be read.
    pub records: u64,
    /// The number of findings.
    pub findings: u64,
    /// Whether the checksums of all pages were verified. They are not while a writer runs, which
    /// would have to wait. Without them, damage in a record that was stored a moment ago and in the
    /// ledger can stay unnoticed.
    pub has_checked_pages: bool,
}

impl Default for VerifyOptions {
    fn default() -> VerifyOptions {
        VerifyOptions {
            on_progress: Arc::new(|_| {}),
            cancel_when: Arc::new(|| false),
            between_snapshots: Arc::new(|| {}),
        }
    }
}

impl fmt::Debug for VerifyOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyOptions").finish_non_exhaustive()
    }
}

impl VerifyOptions {
    /// A callback for progress, which is called often.
    pub fn on_progress(
        mut self,
        callback: impl Fn(VerifyProgress) + Send + Sync + 'static,
    ) -> VerifyOptions {
        self.on_progress = Arc::new(callback);
        self
    }

    /// A callback that ends the verification by returning `true`: it then fails with
    /// [`Error::Cancelled`]. It is called often.
    pub fn cancel_when(
        mut self,
        wanted: impl Fn() -> bool + Send + Sync + 'static,
    ) -> VerifyOptions {
        self.cancel_when = Arc::new(wanted);
        self
    }

    /// A callback that may rest. No snapshot is held meanwhile.
    pub(crate) fn between_snapshots(
        mut self,
        rest: impl Fn() + Send + Sync + 'static,
    ) -> VerifyOptions {
        self.between_snapshots = Arc::new(rest);
        self
    }
}

impl Store {
    /// Reads every record, and compares everything that is stored about records with them: checksums,
    /// order, the bounds and summaries of blocks, the inventory, the merge queue, the totals. Tells
    /// `on_finding` what is wrong. Damage does not end it.
    ///
    /// Readers and writers continue meanwhile, and no snapshot is held for long. The checksums of all
    /// pages are verified only if no writer runs.
    ///
    /// Fails with [`Error::Cancelled`] on request, and with [`Error::Database`] when the disk fails.
    pub fn verify(
        &self,
        options: &VerifyOptions,
        mut on_finding: impl FnMut(Finding),
    ) -> Result<Verified> {
        let mut run = Run::new(self, options, &mut on_finding);
        let verified = run.verify();
        run.end(verified)
    }

    /// Passes every record that can be read to `each`, also of a damaged store, and tells `on_finding`
    /// what is wrong, like [`Store::verify`]. The records of one server and signal come together,
    /// ordered by their blocks: records that arrived late can come later than their timestamps say.
    ///
    /// All of it is one state of the store, so keep writers away or the file grows meanwhile. Fails
    /// like [`Store::verify`].
    pub fn salvage(
        &self,
        options: &VerifyOptions,
        mut on_finding: impl FnMut(Finding),
        mut each: impl FnMut(&RawRecord<'_>),
    ) -> Result<Verified> {
        let mut run = Run::new(self, options, &mut on_finding);
        let salvaged = run.salvage(&mut each);
        run.end(salvaged)
    }
}

struct Run<'a> {
    store: &'a Store,
    options: &'a VerifyOptions,
    on_finding: &'a mut OnFinding<'a>,
    verified: Verified,
    progress: VerifyProgress,
}

impl<'a> Run<'a> {
    fn new(
        store: &'a Store,
        options: &'a VerifyOptions,
        on_finding: &'a mut OnFinding<'a>,
    ) -> Run<'a> {
        Run {
            store,
            options,
            on_finding,
            verified: Verified::default(),
            progress: VerifyProgress {
                read_records: 0,
                total_records: 0,
            },
        }
    }

    fn verify(&mut self) -> Result<()> {
        self.check_pages()?;
        let series = self.check_index(&self.store.snapshot()?);
        for index in &series {
            for blocks in index.blocks.chunks(BLOCKS_PER_SNAPSHOT) {
                (self.options.between_snapshots)();
                self.check_blocks(&self.store.snapshot()?, index, blocks, &mut |_| {})?;
            }
            (self.options.between_snapshots)();
            self.check_rows(&self.store.snapshot()?, index, &mut |_| {})?;
        }
        Ok(())
    }

    fn salvage(&mut self, each: &mut dyn FnMut(&RawRecord<'_>)) -> Result<()> {
        self.check_pages()?;
        let snapshot = self.store.snapshot()?;
        let series = self.check_index(&snapshot);
        for index in &series {
            self.check_blocks(&snapshot, index, &index.blocks, each)?;
            self.check_rows(&snapshot, index, each)?;
        }
        Ok(())
    }

    fn end(mut self, outcome: Result<()>) -> Result<Verified> {
        match outcome {
            Ok(()) => {}
            // A store that cannot even be read.
            Err(Error::Corrupt { what, .. }) => self.find(Finding::of_all(what).losing(None)),
            Err(error) => return Err(error),
        }
        Ok(self.verified)
    }

    fn find(&mut self, finding: Finding) {
        self.verified.findings += 1;
        (self.on_finding)(finding);
    }

    fn check_pages(&mut self) -> Result<()> {
        let writers = match self.store.writers() {
            Ok(writers) => writers,
            Err(Error::Corrupt { what, .. }) => {
                let what = format!("cannot read the list of writers: {what}");
                self.find(Finding::of_all(what));
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        let damaged = writers.iter().filter(|it| it.process_id == 0).count();
        if damaged > 0 {
            let what = format!("in the list of writers, entries are damaged: {damaged}");
            self.find(Finding::of_all(what));
        }
        if writers.iter().any(|writer| writer.is_running) {
            return Ok(());
        }
        self.verified.has_checked_pages = true;
        if let Some(what) = self.store.check_pages()? {
            self.find(Finding::of_all(format!("the pages of the file: {what}")));
        }
        Ok(())
    }

    fn check_index(&mut self, snapshot: &Snapshot) -> Vec<SeriesIndex> {
        let series = verify::check_index(snapshot.view(), &mut |finding| self.find(finding));
        self.progress.total_records = series.iter().map(SeriesIndex::records).sum();
        series
    }

    fn check_blocks(
        &mut self,
        snapshot: &Snapshot,
        index: &SeriesIndex,
        blocks: &[IndexedBlock],
        each: &mut dyn FnMut(&RawRecord<'_>),
    ) -> Result<()> {
        for block in blocks {
            self.check_cancelled()?;
            let records = block.header.count.into();
            self.read(records, each, |findings, each| {
                let key = &block.key;
                verify::check_block(snapshot.view(), &index.entry, key, records, findings, each);
            });
        }
        Ok(())
    }

    fn check_rows(
        &mut self,
        snapshot: &Snapshot,
        index: &SeriesIndex,
        each: &mut dyn FnMut(&RawRecord<'_>),
    ) -> Result<()> {
        self.check_cancelled()?;
        self.read(index.rows.len() as u64, each, |findings, each| {
            verify::check_rows(snapshot.view(), &index.entry, findings, each);
        });
        Ok(())
    }

    /// Reads `records` records by `check`, and notes them.
    fn read(
        &mut self,
        records: u64,
        each: &mut dyn FnMut(&RawRecord<'_>),
        check: impl FnOnce(&mut OnFinding<'_>, &mut OnRecord<'_>),
    ) {
        let mut read = 0;
        let mut found = Vec::new();
        check(
            &mut |finding| found.push(finding),
            &mut |entry, position, payload| {
                read += 1;
                each(&RawRecord {
                    server: &entry.server,
                    signal: entry.signal,
                    timestamp: Timestamp::from_unix_nanos(position.0),
                    sequence: position.1,
                    content: crate::store::ReadRecord::Payload(payload),
                });
            },
        );
        for finding in found {
            self.find(finding);
        }
        self.verified.records += read;
        self.progress.read_records += records;
        (self.options.on_progress)(self.progress);
    }

    fn check_cancelled(&self) -> Result<()> {
        if (self.options.cancel_when)() {
            return Err(Error::Cancelled {
                action: "verify",
                path: self.store.path(),
            });
        }
        Ok(())
    }
}
