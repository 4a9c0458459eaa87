//! The right to change a store: one method for each kind of transaction.

use crate::{
    config::RetentionPolicy,
    error::{Error, Result},
    home::IfMissing,
    loss::LedgerEntry,
    record::ServerName,
    signal::Signal,
    store::{
        engine::{
            fault::{Fault, guarded},
            reserve, schema,
            transaction::WriteTransaction,
        },
        handle::Store,
        layout::tables::{META, WRITERS},
        ledger::{
            damage::{self, Finding},
            losses,
            spill::{self, Lock, Spilled},
            totals,
            wipes::{WipeMarks, WipeScope},
            writers::{self, BatchId, Entered, Known, Left, WriterEntry},
        },
        maintain::{
            compact::CompactOptions,
            eviction::Evicted,
            maintenance::{self, Maintained, Maintenance, Task},
        },
        policy::{
            clock,
            limits::{self, Limits},
        },
        tiers::{cache::WriterCache, sealer::Tiering, view::View},
        write::{
            append::{Appender, SeriesBatch},
            recover, seal, wipe,
        },
    },
};
use redb::ReadableTable;

/// The maximum number of tasks and inspections that make room on a full disk at once.
const CALLS_ON_A_FULL_DISK: usize = 256;

/// The right to write to a [`Store`].
#[derive(Debug, Clone)]
pub(crate) struct StoreWriter {
    store: Store,
}

impl StoreWriter {
    /// Only for [`Store::writer`], which checks that the store is not read-only.
    pub(super) fn new(store: Store) -> StoreWriter {
        StoreWriter { store }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Runs `operation` in a write transaction and commits it. If anything fails, nothing is
    /// stored in the file at the path.
    pub(crate) fn transact<T>(
        &self,
        action: &'static str,
        operation: impl FnOnce(&WriteTransaction) -> Result<T, Fault>,
    ) -> Result<T> {
        self.store.admit()?;
        guarded(|| {
            let (transaction, file) = self.store.begin_write()?;
            schema::check_meta(&*transaction.open_table(META)?)?;
            let outcome = operation(&transaction)?;
            transaction.commit()?;
            // A file that was moved away meanwhile has the change, and the one at the path lacks it.
            self.store.check_file(file)?;
            Ok(outcome)
        })
        .map_err(|fault| fault.at(action, &self.store.path()))
    }

    /// Like [`StoreWriter::transact`], for an operation that frees more than it writes: on a full
    /// disk, the reserve is released for it. `operation` may run twice; the first run is then
    /// rolled back.
    pub(crate) fn transact_freeing<T>(
        &self,
        action: &'static str,
        mut operation: impl FnMut(&WriteTransaction) -> Result<T, Fault>,
    ) -> Result<T> {
        let place = self.store.place();
        let outcome = match self.transact(action, &mut operation) {
            Err(Error::StorageFull { .. }) => self.transact(action, |transaction| {
                // Released only once the transaction has begun: no other process can then write to
                // this database and take the space.
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

    /// Opens the database at the path again, and creates it if it is missing. After a failure of the
    /// disk, every operation fails until then.
    pub(crate) fn reopen(&self) -> Result<()> {
        self.store.reopen(IfMissing::Create)
    }

    /// The time by which age is judged, see [`clock::trusted_now`].
    pub(crate) fn trusted_now(&self, transaction: &WriteTransaction) -> Result<i64, Fault> {
        clock::trusted_now(transaction, self.store.clock_reading(), self.store.stack())
    }

    /// Stores the clock's state if that is due. Every append does so as well; a writer that has
    /// nothing to append needs this.
    pub(crate) fn keep_clock(&self, view: &View) -> Result<()> {
        let expires = !view.limits()?.is_empty();
        if !expires || !view.clock_verdict()?.is_worth_a_transaction() {
            return Ok(());
        }
        // Expiry frees space only by a stored clock, so storing it must also work on a full disk.
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

    /// Enters losses in the ledger.
    pub(crate) fn record_losses(&self, losses: &[LedgerEntry]) -> Result<()> {
        self.transact("write to", |transaction| {
            losses::record(transaction, losses)
        })
    }

    /// Enters a writer of this process, see [`writers::enter`].
    pub(crate) fn enter_writer(&self) -> Result<Entered> {
        self.enter_writer_again(0, &[])
    }

    /// Like [`StoreWriter::enter_writer`], for a writer whose database was replaced: `losses` are
    /// entered in the ledger of this one, and `wipe_generation` is the number of the newest wipe that
    /// the writer knows of.
    pub(crate) fn enter_writer_again(
        &self,
        wipe_generation: u64,
        losses: &[LedgerEntry],
    ) -> Result<Entered> {
        self.recover_or_warn();
        self.transact("write to", |transaction| {
            damage::note_first_scrub(transaction)?;
            losses::record(transaction, losses)?;
            let (place, hook) = (self.store.place(), self.store.disk_hook());
            writers::enter(transaction, place, wipe_generation, hook)
        })
    }

    /// Like [`StoreWriter::recover`], for an operation that must not fail when this fails: the
    /// records are kept, and the next process that opens the database tries again.
    pub(crate) fn recover_or_warn(&self) {
        if let Err(error) = self.recover() {
            tracing::warn!(
                subsystem = "telemetry",
                %error,
                "cannot store the last records of a process that was killed; they are kept"
            );
        }
    }

    /// Stores the records that killed writers left in their spills, enters the kills in the ledger,
    /// and removes the spills. Does not begin a transaction when there is nothing to do.
    pub(crate) fn recover(&self) -> Result<()> {
        let place = self.store.place();
        let mut strays = place.spills()?;
        strays.retain(|number| spill::lock_of(place, *number) != Lock::Held);
        if strays.is_empty() && !self.store.has_ended_writers()? {
            return Ok(());
        }
        let done = self.transact("write to", |transaction| {
            let last_commit = writers::last_commit(transaction)?;
            let ended = writers::ended(&*transaction.open_table(WRITERS)?, place)?;
            if !ended.is_empty() {
                self.store.note_unclean_end();
            }
            let mut left = Vec::new();
            for number in &ended {
                let last_batch = writers::last_batch(transaction, *number)?;
                left.push(match spill::read(place, *number, last_batch) {
                    Some(spilled) => self.store_spilled(transaction, spilled)?,
                    None => Left::default(),
                });
                writers::leave(transaction, *number)?;
            }
            let mut done = ended;
            let database = writers::database_id(transaction)?;
            let entries = transaction.open_table(WRITERS)?;
            let mut without_entry = Vec::new();
            for number in &strays {
                if !done.contains(number) && entries.get(number)?.is_none() {
                    without_entry.push(*number);
                }
            }
            drop(entries);
            for number in &without_entry {
                // Without an entry, the records of this database are committed. Those of a database
                // that was at this path before, and whose writer was killed, are nowhere else.
                if let Some(mut spilled) = spill::read(place, *number, 0)
                    && ![0, database].contains(&spilled.header.database)
                    && !spilled.is_empty()
                {
                    // That database counted its own wipes.
                    spilled.header.wipe_generation = 0;
                    left.push(self.store_spilled(transaction, spilled)?);
                }
            }
            done.extend(without_entry);
            writers::record_ends(transaction, last_commit, &left)?;
            Ok(done)
        })?;
        // What cannot be removed now has no entry any more, and is removed the next time.
        done.into_iter()
            .try_for_each(|number| place.remove_spill(number))
    }

    /// Stores the records that an ended writer left in its spill.
    fn store_spilled(
        &self,
        transaction: &WriteTransaction,
        spilled: Spilled,
    ) -> Result<Left, Fault> {
        let Spilled {
            header,
            records,
            lost,
        } = spilled;
        let (mut appender, mut batch) = recover::uncommitted(&header, records);
        self.store_batch(transaction, &mut appender, &mut batch)?;
        Ok(Left {
            recovered: recover::stored(&batch),
            lost,
            is_closed: header.is_closed,
        })
    }

    /// Appends a batch, and updates the totals by its snapshots.
    fn store_batch(
        &self,
        transaction: &WriteTransaction,
        appender: &mut Appender,
        batch: &mut [SeriesBatch],
    ) -> Result<Evicted, Fault> {
        self.trusted_now(transaction)?;
        let used_bytes = self.store.disk_usage()?.used_bytes;
        let evicted = appender.append(transaction, batch, used_bytes)?;
        for part in batch.iter().filter(|part| part.signal == Signal::Metrics) {
            let snapshots = part.records.iter();
            let snapshots = snapshots.map(|record| (record.timestamp, &*record.payload));
            totals::advance(transaction, &part.server, snapshots)?;
        }
        Ok(evicted)
    }

    /// Fails with [`Error::DatabaseReplaced`] unless the database at the path has the entry of `writer`,
    /// and `last_batch` as its last batch.
    pub(crate) fn check_writer(&self, writer: WriterEntry, last_batch: u64) -> Result<()> {
        // Without a file at the path, a snapshot shows the one that was there.
        self.store.check_open_file()?;
        let snapshot = self.store.snapshot()?;
        let view = snapshot.view();
        if view.read(|| writers::has_batches(view.transaction(), writer, last_batch))? {
            return Ok(());
        }
        let path = self.store.path();
        Err(Error::DatabaseReplaced { path })
    }

    /// Removes the files of the spill of a writer that are left.
    pub(crate) fn remove_spill(&self, writer: WriterEntry) -> Result<()> {
        self.store.place().remove_spill(writer.number)
    }

    /// Removes the entry of a writer that ends properly.
    pub(crate) fn leave_writer(&self, writer: WriterEntry) -> Result<()> {
        self.transact("write to", |transaction| {
            writers::leave_as(transaction, writer)
        })
    }

    /// Like [`StoreWriter::leave_writer`], and enters `losses` in the ledger. It also works on a full
    /// disk, with the room of the reserve.
    pub(crate) fn leave_writer_with_losses(
        &self,
        writer: WriterEntry,
        losses: &[LedgerEntry],
    ) -> Result<()> {
        self.transact_freeing("write to", |transaction| {
            losses::record(transaction, losses)?;
            writers::leave_as(transaction, writer)
        })
    }

    /// Enters the findings of a scrub, which found nothing else.
    pub(crate) fn note_scrub(&self, findings: &[Finding]) -> Result<()> {
        self.transact("write to", |transaction| {
            damage::keep_only(transaction, findings)?;
            damage::note(transaction, findings)?;
            damage::note_scrub(transaction)
        })
    }

    /// The state that a new writer needs to append.
    pub(crate) fn appender(&self, tiering: Tiering) -> Result<Appender> {
        let snapshot = self.store.snapshot()?;
        let view = snapshot.view();
        let cache = WriterCache::new(view)?;
        Ok(Appender::new(cache, tiering, view.wipe_generation()?))
    }

    /// The appender for a database that has replaced the one that `before` appended to.
    /// It honours `wipes`, those of that database, too. Gives this one the limits of that one if it has
    /// none. Also returns the number of the newest wipe of both.
    pub(crate) fn appender_after(
        &self,
        before: &Appender,
        wipes: WipeMarks,
    ) -> Result<(Appender, u64)> {
        let tiering = before.sealer.tiering;
        let mut appender = self.appender(tiering)?;
        if appender.cache.limits.is_empty() && !before.cache.limits.is_empty() {
            self.set_small_limits(&before.cache.limits)?;
            appender = self.appender(tiering)?;
        }
        let generation = appender.wipes().generation().max(wipes.generation());
        Ok((appender.succeeding(wipes, generation), generation))
    }

    /// Stores `batch`, enters `losses` in the ledger, and notes the outcome of each part of the
    /// batch.
    ///
    /// If this fails, either nothing or everything is stored: a disk that fails at the last moment
    /// does not tell. So the caller retries the same batch and losses with the same `id` until it
    /// succeeds, and no record is stored twice.
    ///
    /// Fails with [`Error::DatabaseReplaced`] when the database at the path is another one than the
    /// writer has entered.
    pub(crate) fn append(
        &self,
        appender: &mut Appender,
        batch: &mut [SeriesBatch],
        losses: &[LedgerEntry],
        id: BatchId,
    ) -> Result<Evicted> {
        self.store.admit_fully()?;
        let evicted = self.transact("write to", |transaction| {
            match writers::look_up(transaction, id)? {
                Known::New => {}
                Known::Committed => return Ok(Evicted::default()),
                Known::OfAnotherDatabase => {
                    let path = self.store.path();
                    return Err(Error::DatabaseReplaced { path }.into());
                }
            }
            losses::record(transaction, losses)?;
            self.store_batch(transaction, appender, batch)
        })?;
        appender.note_committed(batch);
        Ok(evicted)
    }

    /// Moves the oldest rows of a series to blocks.
    pub(crate) fn seal(
        &self,
        appender: &mut Appender,
        server: &ServerName,
        signal: Signal,
    ) -> Result<Evicted> {
        self.store.admit_fully()?;
        let Appender { cache, sealer, .. } = appender;
        let (left, evicted) = self.transact("seal", |transaction| {
            seal::seal(transaction, server, signal, sealer, &mut cache.limits)
        })?;
        cache.rows.set(server, signal, left);
        Ok(evicted)
    }

    /// Deletes the records and totals that `scope` covers. Returns the number of series that had any.
    pub(crate) fn wipe(&self, scope: &WipeScope) -> Result<usize> {
        self.store.admit_fully()?;
        // So that what a killed writer has left is deleted, too.
        let recovered = self.recover();
        let wiped = self.transact_freeing("wipe", |transaction| wipe::wipe(transaction, scope))?;
        if recovered.is_err() {
            // On a full disk there is room now. Wiped records are not stored.
            self.recover_or_warn();
        }
        Ok(wiped)
    }

    /// Begins a round of maintenance over all series.
    pub(crate) fn begin_maintenance(
        &self,
        maintenance: &mut Maintenance,
        cache: &mut WriterCache,
    ) -> Result<()> {
        let snapshot = self.store.snapshot()?;
        self.keep_clock(snapshot.view())?;
        let used_bytes = self.store.disk_usage()?.used_bytes;
        maintenance.begin_round(snapshot.view(), cache, used_bytes)
    }

    /// Performs the next task of a round of maintenance, or inspects some series.
    pub(crate) fn maintain(
        &self,
        maintenance: &mut Maintenance,
        appender: &mut Appender,
    ) -> Result<Maintained> {
        if let Some(task) = maintenance.next_task() {
            if maintenance.skips(&task) {
                return Ok(Maintained::default());
            }
            let outcome = self.carry_out(maintenance, appender, &task);
            maintenance.finish(task, &outcome);
            return outcome;
        }
        let series = maintenance.next_series();
        if !series.is_empty() {
            let snapshot = self.store.snapshot()?;
            for entry in series {
                maintenance.inspect(snapshot.view(), &appender.cache, entry)?;
            }
        }
        Ok(Maintained::default())
    }

    fn carry_out(
        &self,
        maintenance: &mut Maintenance,
        appender: &mut Appender,
        task: &Task,
    ) -> Result<Maintained> {
        self.store.admit_fully()?;
        let cache = &mut appender.cache;
        let encoder = &mut appender.sealer.encoder;
        match task {
            Task::Evict(series) => self.transact_freeing("free space in", |transaction| {
                let used_bytes = self.store.disk_usage()?.used_bytes;
                maintenance::evict(transaction, cache, series, used_bytes)
            }),
            Task::Expire(server, signal) => self.transact_freeing("free space in", |transaction| {
                let now = self.trusted_now(transaction)?;
                maintenance::expire(transaction, cache, (server, *signal), now)
            }),
            Task::Merge(server, signal, level) => self.transact("merge blocks of", |transaction| {
                let now = self.trusted_now(transaction)?;
                let level = (server, *signal, *level);
                maintenance.merge(transaction, cache, encoder, level, now)
            }),
            Task::Rewrite(server, signal, key) => self.transact("free space in", |transaction| {
                let now = self.trusted_now(transaction)?;
                let block = (server, *signal, key);
                maintenance.rewrite(transaction, cache, encoder, block, now)
            }),
            Task::Compact => match self.store.compact(CompactOptions::default()) {
                Ok(compacted) => Ok(Maintained {
                    wrote: true,
                    freed_bytes: compacted.returned_bytes(),
                    ..Maintained::default()
                }),
                // A later round will retry.
                Err(Error::ReaderInTheWay { .. }) => Ok(Maintained::default()),
                Err(error) => Err(error),
            },
        }
    }

    /// Frees on a full disk the space of records that exceed the limits.
    pub(crate) fn free_space(
        &self,
        maintenance: &mut Maintenance,
        appender: &mut Appender,
    ) -> Result<()> {
        let outcome = self.free_over_limits(maintenance, appender);
        // redb may reuse a free page that the file system has no disk block for, and fails until
        // there is one. So free pages alone do not help.
        self.store.compact_for_room();
        outcome
    }

    fn free_over_limits(
        &self,
        maintenance: &mut Maintenance,
        appender: &mut Appender,
    ) -> Result<()> {
        maintenance.abandon_round();
        self.begin_maintenance(maintenance, &mut appender.cache)?;
        maintenance.only_free();
        // The next attempt continues.
        for _ in 0..CALLS_ON_A_FULL_DISK {
            if maintenance.is_idle() {
                break;
            }
            self.maintain(maintenance, appender)?;
        }
        Ok(())
    }
}
