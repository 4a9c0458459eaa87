//! Appending a batch of records in one transaction.

use crate::{
    record::ServerName,
    signal::Signal,
    store::{
        engine::{fault::Fault, transaction::WriteTransaction},
        layout::{
            block::BlockRecord,
            series::{SeriesState, create_series, find_state, put_series_states},
            tables::{META, ROWS, SERIES, meta},
        },
        ledger::{
            damage::{self, Finding},
            wipes::WipeMarks,
        },
        maintain::eviction::{self, Evicted},
        tiers::{
            blocks,
            cache::WriterCache,
            rows::{self, RowTier, Taken},
            sealer::{Sealer, Tiering},
        },
    },
    time::Timestamp,
};
use redb::ReadableTable;

/// The records of one series to append.
#[derive(Debug)]
pub(crate) struct SeriesBatch {
    pub(crate) server: ServerName,
    pub(crate) signal: Signal,
    pub(crate) records: Vec<PendingRecord>,
    /// The outcome of the last attempt.
    pub(crate) appended: Appended,
}

impl SeriesBatch {
    pub(crate) fn new(server: ServerName, signal: Signal) -> SeriesBatch {
        SeriesBatch {
            server,
            signal,
            records: Vec::new(),
            appended: Appended::default(),
        }
    }

    /// Begins an attempt to append the records, of which the first has `sequence`.
    fn begin(&mut self, sequence: u64) {
        self.appended.rows = RowTier::default();
        self.appended.rows_left = None;
        self.appended.sequences = (sequence, sequence + self.records.len() as u64);
        // Snapshots keep their order of arrival even if the clock was set back in between: totals are
        // computed in this order, and sequences must agree with it.
        if self.signal != Signal::Metrics {
            // A stable sort: records with equal timestamps keep their order of arrival.
            self.records.sort_by_key(|record| record.timestamp);
        }
    }

    /// The records with the sequences that they get.
    fn sequenced(&self) -> impl Iterator<Item = BlockRecord<'_>> {
        let (first_sequence, _) = self.appended.sequences;
        let records = self.records.iter().zip(first_sequence..);
        records.map(|(record, sequence)| {
            BlockRecord::new((record.timestamp, sequence), &record.payload)
        })
    }
}

/// A record to append.
#[derive(Debug)]
pub(crate) struct PendingRecord {
    pub(crate) timestamp: i64,
    /// When it was emitted, see [`monotonic_nanos`](crate::platform::monotonic_nanos).
    pub(crate) emitted: u64,
    pub(crate) payload: Box<[u8]>,
    /// Whether the record is in the writer's [spill](crate::store::ledger::spill), too.
    pub(crate) is_spilled: bool,
}

/// The outcome of appending one [`SeriesBatch`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Appended {
    /// The rows that were appended.
    pub(crate) rows: RowTier,
    /// The older rows that remain, if some were sealed together with the batch.
    pub(crate) rows_left: Option<RowTier>,
    /// The timestamps of records that were dropped because they were wiped, in all attempts.
    pub(crate) wiped: Vec<i64>,
    /// The sequences of the stored records: the first, and the first after the last.
    pub(crate) sequences: (u64, u64),
}

/// The state that a writer needs to append, kept between appends.
#[derive(Debug)]
pub(crate) struct Appender {
    pub(crate) cache: WriterCache,
    pub(crate) sealer: Sealer,
    wipes: WipeMarks,
}

impl Appender {
    /// The appender of a writer that starts now and must honour wipes after `wipe_generation`.
    pub(crate) fn new(cache: WriterCache, tiering: Tiering, wipe_generation: u64) -> Appender {
        Appender {
            cache,
            sealer: Sealer::new(tiering),
            wipes: WipeMarks::starting_at(wipe_generation),
        }
    }

    /// Makes this the appender of a database that has replaced the one that `before` appended to, and
    /// whose newest wipe is `wipe_generation`.
    pub(crate) fn succeeding(mut self, before: WipeMarks, wipe_generation: u64) -> Appender {
        self.wipes = WipeMarks::starting_at(wipe_generation).inheriting(before);
        self
    }

    /// The wipes that it honours.
    pub(crate) fn wipes(&self) -> &WipeMarks {
        &self.wipes
    }

    /// Appends `batch`, notes the outcome of each part, and evicts what exceeds a limit.
    /// `used_bytes` is the size of the database on the disk.
    pub(crate) fn append(
        &mut self,
        transaction: &WriteTransaction,
        batch: &mut [SeriesBatch],
        used_bytes: u64,
    ) -> Result<Evicted, Fault> {
        let (first_sequence, generation) = {
            let meta = transaction.open_table(META)?;
            let number = |name| Ok::<u64, Fault>(meta.get(name)?.map_or(0, |value| value.value()));
            (number(meta::NEXT_SEQUENCE)?, number(meta::WIPE_GENERATION)?)
        };
        let is_wiped = self.wipes.refresh(transaction, generation)?;
        self.cache
            .refresh_in(transaction, first_sequence, is_wiped)?;
        let mut sequence = first_sequence;
        for part in &mut *batch {
            self.drop_wiped(part);
            part.begin(sequence);
            sequence = part.appended.sequences.1;
        }
        let states = find_states(transaction, batch)?;
        let mut direct = Vec::new();
        let mut small = Vec::new();
        for (part, found) in batch.iter_mut().zip(states) {
            if part.records.is_empty() {
                continue;
            }
            let state = state_of(transaction, &part.server, part.signal, found)?;
            if part.records.len() >= self.sealer.tiering.direct_records {
                direct.push(DirectPart::take(transaction, part, state)?);
            } else {
                small.push((part, state));
            }
        }
        append_rows(transaction, small)?;
        let blocks_written = self.write_blocks(transaction, direct)?;
        self.cache.next_sequence = sequence;
        note_commit(transaction, sequence)?;
        let touched = batch.iter().map(|part| {
            let left = match part.appended.rows_left {
                Some(left) => left.bytes,
                None => self.cache.rows.bytes_of(&part.server, part.signal),
            };
            let row_bytes = (left + part.appended.rows.bytes) as u64;
            (part.server.clone(), part.signal, row_bytes)
        });
        eviction::enforce(
            transaction,
            &self.cache.limits,
            &self.cache.rows,
            used_bytes,
            touched,
            blocks_written,
        )
    }

    /// Notes the rows of a batch whose transaction has been committed.
    pub(crate) fn note_committed(&mut self, batch: &[SeriesBatch]) {
        let rows = &mut self.cache.rows;
        for part in batch {
            if let Some(left) = part.appended.rows_left {
                rows.set(&part.server, part.signal, left);
            }
            rows.add(&part.server, part.signal, part.appended.rows);
        }
    }

    /// Whether a wipe known to this appender covers the counters that `server` had at `emitted`.
    pub(crate) fn counters_are_wiped(&self, server: &str, emitted: u64) -> bool {
        self.wipes.counters_are_wiped(server, emitted)
    }

    /// Drops the records that were wiped while they were queued.
    fn drop_wiped(&self, part: &mut SeriesBatch) {
        for (mark, before) in self.wipes.of_series(&part.server, part.signal) {
            let wiped = part.records.extract_if(.., |record| {
                mark.covers(before, record.timestamp, record.emitted)
            });
            part.appended
                .wiped
                .extend(wiped.map(|record| record.timestamp));
        }
    }

    /// Writes the records of parts as blocks. Returns the number of blocks written.
    fn write_blocks(
        &mut self,
        transaction: &WriteTransaction,
        direct: Vec<(DirectPart<'_>, SeriesState)>,
    ) -> Result<usize, Fault> {
        if direct.is_empty() {
            return Ok(0);
        }
        let (parts, mut states): (Vec<_>, Vec<_>) = direct.into_iter().unzip();
        let records: Vec<_> = parts.iter().map(DirectPart::block_records).collect();
        let mut blocks_of_each = Vec::new();
        for (DirectPart { batch, .. }, records) in parts.iter().zip(&records) {
            let limits = self.sealer.block_limits(&self.cache.limits, &batch.server);
            let blocks = limits.cut_all(records);
            let blocks: Vec<_> = blocks.map(|records| (batch.signal, records)).collect();
            blocks_of_each.push(blocks);
        }
        let blocks = blocks_of_each.concat();
        let mut encoded = self.sealer.encode(&blocks).into_iter();
        blocks::change(transaction, |tables| {
            for (state, blocks) in states.iter_mut().zip(&blocks_of_each) {
                for ((_, records), encoded) in blocks.iter().zip(&mut encoded) {
                    tables.insert(state, records, encoded)?;
                }
            }
            Ok(())
        })?;
        let states = parts.iter().zip(&states);
        let states =
            states.map(|(DirectPart { batch, .. }, state)| (&*batch.server, batch.signal, state));
        put_series_states(transaction, states)?;
        Ok(blocks.len())
    }
}

/// The records of one series that become blocks at once, together with the oldest rows: a block of the new
/// records alone would overlap in time with the block that those rows become.
struct DirectPart<'b> {
    batch: &'b SeriesBatch,
    rows: Taken,
}

impl<'b> DirectPart<'b> {
    /// Removes the oldest rows of the series. Also returns the state of what is left.
    fn take(
        transaction: &WriteTransaction,
        batch: &'b mut SeriesBatch,
        mut state: SeriesState,
    ) -> Result<(DirectPart<'b>, SeriesState), Fault> {
        let mut rows = rows::take_oldest(transaction, state.id)?;
        if !rows.is_empty() {
            batch.appended.rows_left = Some(rows.left);
        }
        let findings = rows.findings(&batch.server, batch.signal);
        damage::note(transaction, &findings)?;
        state.rows = rows.left.records;
        Ok((DirectPart { batch, rows }, state))
    }

    /// The rows and the records in their order.
    fn block_records(&self) -> Vec<BlockRecord<'_>> {
        let mut records = self.rows.block_records();
        records.extend(self.batch.sequenced());
        if !self.rows.is_empty() || self.batch.signal == Signal::Metrics {
            records.sort_unstable_by_key(BlockRecord::position);
        }
        records
    }
}

/// Appends the records of parts as rows.
fn append_rows(
    transaction: &WriteTransaction,
    mut parts: Vec<(&mut SeriesBatch, SeriesState)>,
) -> Result<(), Fault> {
    if parts.is_empty() {
        return Ok(());
    }
    let mut table = transaction.open_table(ROWS)?;
    for (part, state) in &mut parts {
        let records: Vec<BlockRecord<'_>> = part.sequenced().collect();
        let appended = rows::insert(&mut table, state.id, &records)?;
        state.rows += appended.records;
        part.appended.rows = appended;
    }
    drop(table);
    let states = parts.iter();
    let states = states.map(|(part, state)| (&*part.server, part.signal, state));
    put_series_states(transaction, states)
}

/// What is stored about the series of each part, or why that cannot be read.
fn find_states(
    transaction: &WriteTransaction,
    batch: &[SeriesBatch],
) -> Result<Vec<Result<Option<SeriesState>, Fault>>, Fault> {
    let series = transaction.open_table(SERIES)?;
    let parts = batch.iter();
    Ok(parts
        .map(|part| find_state(&*series, &part.server, part.signal))
        .collect())
}

/// The state that was found of a series, which is created if it is missing.
fn state_of(
    transaction: &WriteTransaction,
    server: &ServerName,
    signal: Signal,
    found: Result<Option<SeriesState>, Fault>,
) -> Result<SeriesState, Fault> {
    match found {
        Ok(Some(state)) => Ok(state),
        Ok(None) => create_series(transaction, server, signal),
        // Its records are lost to readers, but must not keep new ones from being stored.
        Err(fault) if fault.is_damage() => {
            let finding = Finding::of(server, signal, fault.reason()).losing(None);
            damage::note(transaction, &[finding])?;
            create_series(transaction, server, signal)
        }
        Err(fault) => Err(fault),
    }
}

fn note_commit(transaction: &WriteTransaction, next_sequence: u64) -> Result<(), Fault> {
    let mut meta = transaction.open_table(META)?;
    meta.insert(meta::NEXT_SEQUENCE, next_sequence)?;
    let now = Timestamp::now().unix_nanos();
    meta.insert(meta::LAST_COMMIT, u64::try_from(now).unwrap_or(0))?;
    Ok(())
}
