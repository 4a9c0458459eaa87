//! Where the records of an export come from.
//!
//! A snapshot keeps the pages of what is deleted after it from being used again. An export can take long,
//! and its reader can stop reading, so it takes a new snapshot from time to time and continues after the
//! last record. Records that have arrived since the first snapshot are left out.

use anyhow::bail;
use gridctl_telemetry::{
    Query, Snapshot, Store,
    query::{Cursor, Damage, RawRecord, Scan},
};
use std::time::{Duration, Instant};
#[cfg(feature = "parquet")]
use {
    gridctl_telemetry::query::RawBatch,
    std::{panic::resume_unwind, sync::mpsc, thread},
};

/// The longest time that a snapshot is kept, but for the chunk that is being written.
const SNAPSHOT_AGE_MAX: Duration = Duration::from_secs(20);
/// The size of the records from which on they are passed on as a batch, in bytes.
#[cfg(feature = "parquet")]
const BATCH_BYTES: usize = 256 << 10;

/// The records of a store up to a moment.
pub(super) struct Source<'a> {
    store: &'a Store,
    /// The first sequence that is not exported.
    end: u64,
    /// The present snapshot, and when it was taken.
    snapshot: Option<(Snapshot, Instant)>,
}

impl<'a> Source<'a> {
    /// The records of `snapshot`, which was taken now.
    pub(super) fn new(store: &'a Store, snapshot: Snapshot) -> anyhow::Result<Source<'a>> {
        Ok(Source {
            store,
            end: snapshot.next_sequence()?,
            snapshot: Some((snapshot, Instant::now())),
        })
    }

    /// The same records without those from the sequence `end` on.
    #[cfg(feature = "parquet")]
    pub(super) fn until(mut self, end: u64) -> Source<'a> {
        self.end = self.end.min(end);
        self
    }

    /// The first sequence that is not exported.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// The present snapshot.
    ///
    /// Fails when the database was replaced by one with fewer records.
    pub(super) fn snapshot(&mut self) -> anyhow::Result<&Snapshot> {
        let snapshot = if let Some(snapshot) = self.snapshot.take() {
            snapshot
        } else {
            let snapshot = self.store.snapshot()?;
            if snapshot.next_sequence()? < self.end {
                bail!("the database was replaced by another one during the export");
            }
            (snapshot, Instant::now())
        };
        Ok(&self.snapshot.insert(snapshot).0)
    }

    /// The records of a query.
    pub(super) fn records(&mut self, query: &Query) -> Records<'_, 'a> {
        Records {
            source: self,
            query: query.clone(),
            scan: None,
            last: None,
            damage: Vec::new(),
        }
    }

    /// Passes the records of a query to `each` in batches, until it returns `false`. They are read on a thread of its
    /// own, which is at most two batches ahead. Returns whether all of them were passed, and what was skipped because it
    /// cannot be read.
    #[cfg(feature = "parquet")]
    pub(super) fn batches(
        &mut self,
        query: &Query,
        mut each: impl FnMut(&RawBatch) -> anyhow::Result<bool>,
    ) -> anyhow::Result<(bool, Vec<Damage>)> {
        let mut records = self.records(query);
        let (full, batches) = mpsc::sync_channel::<RawBatch>(1);
        let (empty, spares) = mpsc::channel::<RawBatch>();
        let read = move || -> anyhow::Result<Vec<Damage>> {
            let mut is_read = false;
            while !is_read {
                let mut batch = spares.try_recv().unwrap_or_default();
                batch.clear();
                while batch.payload_bytes() < BATCH_BYTES {
                    match records.next()? {
                        Some((record, true)) => batch.push(&record),
                        Some((_, false)) => {}
                        None => {
                            is_read = true;
                            break;
                        }
                    }
                }
                records.release_if_old();
                // It cannot be sent when no more are wanted.
                if full.send(batch).is_err() {
                    break;
                }
            }
            Ok(records.damage())
        };
        thread::scope(|scope| {
            let reader = thread::Builder::new()
                .name("reader".to_owned())
                .spawn_scoped(scope, read)?;
            let mut is_done = true;
            // Dropped when this ends early, which ends the reader.
            let batches = batches;
            for batch in &batches {
                is_done = each(&batch)?;
                if !is_done {
                    break;
                }
                // A batch that grew for one large record is not kept.
                if batch.payload_bytes() < 2 * BATCH_BYTES {
                    _ = empty.send(batch);
                }
            }
            drop(batches);
            let damage = reader.join().unwrap_or_else(|panic| resume_unwind(panic))?;
            Ok((is_done, damage))
        })
    }
}

/// The records of a query, in its order.
pub(super) struct Records<'s, 'a> {
    source: &'s mut Source<'a>,
    query: Query,
    scan: Option<Scan>,
    /// The last record that was read.
    last: Option<Cursor>,
    /// What earlier scans skipped.
    damage: Vec<Damage>,
}

impl Records<'_, '_> {
    /// The next record, and whether it is one to export: another has arrived since.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<(RawRecord<'_>, bool)>> {
        let end = self.source.end;
        let scan = if let Some(scan) = self.scan.take() {
            scan
        } else {
            let query = self.query.clone();
            let query = match self.last {
                Some(last) => query.after(last),
                None => query,
            };
            self.source.snapshot()?.scan(&query)?
        };
        let Some(record) = self.scan.insert(scan).next()? else {
            return Ok(None);
        };
        self.last = Some(record.cursor());
        let is_exported = record.sequence < end;
        Ok(Some((record, is_exported)))
    }

    /// What was skipped because it cannot be read.
    pub(super) fn damage(&self) -> Vec<Damage> {
        let present = self.scan.iter().flat_map(Scan::damage);
        self.damage.iter().cloned().chain(present).collect()
    }

    /// Gives the snapshot back. The next record is read from a new one.
    pub(super) fn release(&mut self) {
        if let Some(scan) = self.scan.take() {
            self.damage.extend(scan.damage());
        }
        self.source.snapshot = None;
    }

    /// Gives back a snapshot that is too old.
    pub(super) fn release_if_old(&mut self) {
        let taken = self.source.snapshot.as_ref().map(|(_, taken)| *taken);
        if taken.is_some_and(|taken| taken.elapsed() > SNAPSHOT_AGE_MAX) {
            self.release();
        }
    }
}
