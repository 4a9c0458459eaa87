//! Storing a batch of records, in one transaction.

use crate::{
    error::Result,
    loss::LedgerEntry,
    record::ServerName,
    signal::Signal,
    store::{
        engine::fault::Fault,
        handle::StoreWriter,
        layout::{
            block::BlockRecord,
            keys,
            series::{put_series_state, series_state},
            tables::{META, ROWS, meta},
        },
        ledger::{
            losses,
            wipes::WipeMarks,
            writers::{self, BatchId},
        },
        maintain::{
            eviction::{self, Taken},
            pass::Upkeep,
        },
        tiers::{
            blocks,
            rows::{self, RowTier, RowTiers},
            sealer::Sealer,
        },
    },
    time::Timestamp,
};
use redb::{ReadableTable, WriteTransaction};

/// Records of one series that are to be stored.
#[derive(Debug)]
pub(crate) struct SeriesBatch {
    pub(crate) server: ServerName,
    pub(crate) signal: Signal,
    pub(crate) records: Vec<PendingRecord>,
    /// What became of it, once it was tried to store it.
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
}

/// A record that is to be stored.
#[derive(Debug)]
pub(crate) struct PendingRecord {
    pub(crate) timestamp: i64,
    /// When it was emitted, see [`monotonic_nanos`](crate::platform::monotonic_nanos).
    pub(crate) emitted: u64,
    pub(crate) payload: Box<[u8]>,
}

/// What became of one [`SeriesBatch`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Appended {
    /// What came to the row tier.
    pub(crate) rows: RowTier,
    /// What is left of the row tier, if rows were sealed on this occasion.
    pub(crate) rows_left: Option<RowTier>,
    /// The timestamps of records that were taken from the batch because a wipe came after them, in
    /// all tries.
    pub(crate) wiped: Vec<i64>,
    /// The sequences that the stored records got: from, and the first beyond.
    pub(crate) sequences: (u64, u64),
}

impl StoreWriter {
    /// The wipes that a writer which starts now must honour.
    pub(crate) fn wipe_marks(&self) -> Result<WipeMarks> {
        self.store()
            .snapshot()?
            .wipe_generation()
            .map(WipeMarks::starting_at)
    }

    /// Stores `batch`, enters `losses`, and notes what became of each part of the batch.
    ///
    /// When this fails, nothing is stored, or everything: a disk that fails at the last moment does
    /// not say. The same batch and losses, nothing added, are tried again until it succeeds.
    pub(crate) fn append(
        &self,
        batch: &mut [SeriesBatch],
        losses: &[LedgerEntry],
        id: BatchId,
        marks: &mut WipeMarks,
        sealer: &mut Sealer,
        upkeep: &mut Upkeep,
    ) -> Result<Taken> {
        self.transact("write to", |transaction| {
            if writers::is_committed(transaction, id)? {
                return Ok(Taken::default());
            }
            losses::record(transaction, losses)?;
            self.trusted_now(transaction)?;
            let used = self.store().disk_usage()?.used_bytes;
            append(transaction, batch, marks, sealer, upkeep, used)
        })
    }
}

pub(crate) fn append(
    transaction: &WriteTransaction,
    batch: &mut [SeriesBatch],
    marks: &mut WipeMarks,
    sealer: &mut Sealer,
    upkeep: &mut Upkeep,
    used: u64,
) -> Result<Taken, Fault> {
    let (mut sequence, generation) = {
        let meta = transaction.open_table(META)?;
        let number = |name| Ok::<u64, Fault>(meta.get(name)?.map_or(0, |value| value.value()));
        (number(meta::NEXT_SEQUENCE)?, number(meta::WIPE_GENERATION)?)
    };
    let is_wiped = marks.refresh(transaction, generation)?;
    if is_wiped || sequence != upkeep.next_sequence {
        // Rows that are gone count against no limit, and those of another process against every one.
        upkeep.rows = RowTiers::recount(transaction)?;
    }
    upkeep.limits.refresh(transaction)?;
    let mut blocks_written = 0;
    for part in &mut *batch {
        let first_sequence = sequence;
        part.appended.rows_left = None;
        let mut rows_added = RowTier::default();
        if let Some(instant) = marks.wiped_until(&part.server, part.signal) {
            let wiped = part
                .records
                .extract_if(.., |record| record.emitted <= instant);
            part.appended
                .wiped
                .extend(wiped.map(|record| record.timestamp));
        }
        if !part.records.is_empty() {
            // Stable: records with equal timestamps keep the order in which they arrived.
            part.records.sort_by_key(|record| record.timestamp);
            let mut state = series_state(transaction, &part.server, part.signal)?;
            if part.records.len() >= sealer.tiering.direct_records {
                // Together with the rows, which came before: a block of these alone would lie across
                // the one that follows.
                let (rows, left) = rows::take_oldest(transaction, state.id)?;
                let fresh = part.records.iter().zip(sequence..);
                let mut records: Vec<BlockRecord<'_>> = rows
                    .iter()
                    .map(rows::block_record)
                    .chain(fresh.map(|(record, sequence)| BlockRecord {
                        timestamp: record.timestamp,
                        sequence,
                        payload: &record.payload,
                    }))
                    .collect();
                if !rows.is_empty() {
                    records.sort_unstable_by_key(|record| (record.timestamp, record.sequence));
                    part.appended.rows_left = Some(left);
                }
                let limits = sealer.block_limits(&upkeep.limits, &part.server);
                blocks_written += blocks::change(transaction, |blocks| {
                    blocks.write(
                        &mut state,
                        part.signal,
                        &records,
                        &mut sealer.encoder,
                        limits,
                    )
                })?;
                put_series_state(transaction, &part.server, part.signal, &state)?;
            } else {
                let mut rows = transaction.open_table(ROWS)?;
                for (record, sequence) in part.records.iter().zip(sequence..) {
                    let key = keys::row_key(state.id, (record.timestamp, sequence));
                    rows.insert(&key, &*record.payload)?;
                    rows_added.add(record.payload.len());
                }
            }
            sequence += part.records.len() as u64;
        }
        part.appended.rows = rows_added;
        part.appended.sequences = (first_sequence, sequence);
    }
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert(meta::NEXT_SEQUENCE, sequence)?;
        upkeep.next_sequence = sequence;
        let now = Timestamp::now().unix_nanos();
        meta.insert(meta::LAST_COMMIT, u64::try_from(now).unwrap_or(0))?;
    }
    let touched = batch.iter().map(|part| {
        let left = match part.appended.rows_left {
            Some(left) => left.bytes,
            None => upkeep.rows.bytes_of(&part.server, part.signal),
        };
        let row_bytes = (left + part.appended.rows.bytes) as u64;
        (part.server.clone(), part.signal, row_bytes)
    });
    eviction::enforce(
        transaction,
        &upkeep.limits,
        &upkeep.rows,
        used,
        touched,
        blocks_written,
    )
}
