//! Storing a batch of records, in one transaction.

use super::{
    Fault,
    block::{BlockEncoder, BlockHeader, BlockRecord, RECORDS_MAX},
    database::StoreWriter,
    losses::{self, Loss},
    tables::{self, BLOCKS, META, PIECES, ROWS, SERIES, SeriesId, SeriesState, meta, piece_bytes},
    wipe::WipeMarks,
};
use crate::{error::Result, record::ServerName, signal::Signal, time::Timestamp};
use redb::{ReadableTable, Table, WriteTransaction};

/// When records go from one tier to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tiering {
    /// So many rows of a series are sealed.
    pub(crate) seal_rows: usize,
    /// So many records of one series in one batch are sealed without a stay in the row tier.
    pub(crate) direct_records: usize,
    /// The most records in a block.
    pub(crate) block_records: usize,
}

impl Default for Tiering {
    fn default() -> Tiering {
        Tiering {
            seal_rows: RECORDS_MAX,
            // As rows, which are written, sealed and deleted again, so many records write three
            // times the bytes that a block of them does. Of the disk they take 42 bytes each in the
            // end, and the block 37 to 53; a smaller one would not fill its two pages.
            direct_records: 160,
            block_records: RECORDS_MAX,
        }
    }
}

/// Makes blocks, with the sizes that were chosen.
#[derive(Debug)]
pub(crate) struct Sealer {
    pub(crate) tiering: Tiering,
    encoder: BlockEncoder,
}

impl Sealer {
    pub(crate) fn new(tiering: Tiering) -> Sealer {
        Sealer {
            tiering,
            encoder: BlockEncoder::new(),
        }
    }
}

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
    /// When it was emitted, see [`super::monotonic_nanos`].
    pub(crate) emitted: u64,
    pub(crate) payload: Box<[u8]>,
}

/// How much of a series is in the row tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RowTier {
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
}

impl RowTier {
    pub(crate) fn add(&mut self, payload: usize) {
        self.rows += 1;
        self.bytes += payload + tables::ROW_KEY_BYTES;
    }
}

/// Tells a batch from every other one, so that it is not stored twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchId {
    /// The writer's number, see [`StoreWriter::enter_writer`].
    pub(crate) writer: u64,
    /// The batch's number among those of its writer.
    pub(crate) number: u64,
}

/// Where in [`META`] the number of a writer's last batch is.
pub(super) fn batch_counter(writer: u64) -> String {
    format!("batch_of_writer_{writer}")
}

/// What became of one [`SeriesBatch`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Appended {
    /// What came to the row tier.
    pub(crate) rows: RowTier,
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
        losses: &[Loss],
        id: BatchId,
        marks: &mut WipeMarks,
        sealer: &mut Sealer,
    ) -> Result<()> {
        self.transact("write to", |transaction| {
            let number = batch_counter(id.writer);
            let mut meta = transaction.open_table(META)?;
            if meta
                .get(number.as_str())?
                .is_some_and(|stored| stored.value() == id.number)
            {
                return Ok(());
            }
            meta.insert(number.as_str(), id.number)?;
            drop(meta);
            losses::record(transaction, losses)?;
            append(transaction, batch, marks, sealer)
        })
    }
}

pub(super) fn append(
    transaction: &WriteTransaction,
    batch: &mut [SeriesBatch],
    marks: &mut WipeMarks,
    sealer: &mut Sealer,
) -> Result<(), Fault> {
    let mut meta = transaction.open_table(META)?;
    let number = |name| Ok::<u64, Fault>(meta.get(name)?.map_or(0, |value| value.value()));
    let mut sequence = number(meta::NEXT_SEQUENCE)?;
    let generation = number(meta::WIPE_GENERATION)?;
    marks.refresh(transaction, generation)?;
    for part in batch {
        let first_sequence = sequence;
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
            let mut state = series_state(transaction, &mut meta, &part.server, part.signal)?;
            if part.records.len() >= sealer.tiering.direct_records {
                let records: Vec<BlockRecord<'_>> = part
                    .records
                    .iter()
                    .zip(sequence..)
                    .map(|(record, sequence)| BlockRecord {
                        timestamp: record.timestamp,
                        sequence,
                        payload: &record.payload,
                    })
                    .collect();
                write_blocks(transaction, &mut state, part.signal, &records, sealer)?;
                put_series_state(transaction, &part.server, part.signal, &state)?;
            } else {
                let mut rows = transaction.open_table(ROWS)?;
                for (record, sequence) in part.records.iter().zip(sequence..) {
                    let key = tables::row_key(state.id, (record.timestamp, sequence));
                    rows.insert(&key, &*record.payload)?;
                    rows_added.add(record.payload.len());
                }
            }
            sequence += part.records.len() as u64;
        }
        part.appended.rows = rows_added;
        part.appended.sequences = (first_sequence, sequence);
    }
    meta.insert(meta::NEXT_SEQUENCE, sequence)?;
    let now = Timestamp::now().unix_nanos();
    meta.insert(meta::LAST_COMMIT, u64::try_from(now).unwrap_or(0))?;
    Ok(())
}

/// The state of a series, which is entered when it is new.
fn series_state(
    transaction: &WriteTransaction,
    meta: &mut Table<'_, &'static str, u64>,
    server: &ServerName,
    signal: Signal,
) -> Result<SeriesState, Fault> {
    if let Some(state) = transaction
        .open_table(SERIES)?
        .get((server.as_str(), signal as u8))?
    {
        return SeriesState::from_bytes(state.value());
    }
    let id = meta
        .get(meta::NEXT_SERIES)?
        .map_or(0, |value| value.value());
    let narrow = u32::try_from(id)
        .map_err(|_| Fault::Corrupt(format!("{id} series were created, and no more can be")))?;
    meta.insert(meta::NEXT_SERIES, id + 1)?;
    let state = SeriesState::new(SeriesId(narrow));
    put_series_state(transaction, server, signal, &state)?;
    Ok(state)
}

pub(super) fn put_series_state(
    transaction: &WriteTransaction,
    server: &str,
    signal: Signal,
    state: &SeriesState,
) -> Result<(), Fault> {
    transaction
        .open_table(SERIES)?
        .insert((server, signal as u8), state.to_bytes()?.as_slice())?;
    Ok(())
}

/// Writes sorted records as blocks and accounts for them in `state`, which the caller stores.
pub(super) fn write_blocks(
    transaction: &WriteTransaction,
    state: &mut SeriesState,
    signal: Signal,
    records: &[BlockRecord<'_>],
    sealer: &mut Sealer,
) -> Result<(), Fault> {
    let mut blocks = transaction.open_table(BLOCKS)?;
    let mut pieces = transaction.open_table(PIECES)?;
    let mut rest = records;
    while let Some((part, after)) =
        rest.split_at_checked(BlockEncoder::cut(rest, sealer.tiering.block_records))
    {
        let Some(last) = part.last() else { break };
        let (header, body) = sealer.encoder.encode(signal, part);
        let position = (last.timestamp, last.sequence);
        let key = tables::block_key(state.id, header.span_class(), position);
        blocks.insert(&key, &header.to_bytes())?;
        for (piece, number) in cut_to_pages(&body).zip(0..) {
            pieces.insert(&tables::piece_key(&key, number), piece)?;
        }
        state.add_block(&header);
        rest = after;
    }
    Ok(())
}

fn cut_to_pages(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = body;
    piece_lengths(body.len()).map_while(move |length| {
        let (piece, after) = rest.split_at_checked(length)?;
        rest = after;
        Some(piece)
    })
}

/// How long the pieces of a body are, so that each fits whole pages: redb gives a value of 9 KB four
/// pages of 4 KB, and one of 8 KB two, so a tail is cut once more where that saves a page.
pub(super) fn piece_lengths(body_bytes: usize) -> impl Iterator<Item = usize> {
    let mut rest = body_bytes;
    std::iter::from_fn(move || {
        let length = match rest {
            0 => return None,
            long if long >= piece_bytes(4) => piece_bytes(4),
            tail if tail > piece_bytes(2) && tail <= piece_bytes(2) + piece_bytes(1) => {
                piece_bytes(2)
            }
            tail => tail,
        };
        rest -= length;
        Some(length)
    })
}

/// The most pieces that a body is cut into must have numbers.
const _: () =
    assert!((64 << 20) / piece_bytes(4) < u16::MAX as usize && size_of::<BlockHeader>() < 128);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_fit_pages_and_make_the_body() {
        for length in [
            0, 1, 4000, 8161, 8162, 12_000, 12_300, 16_353, 16_354, 100_000,
        ] {
            let body: Vec<u8> = (0..length).map(|byte: u32| byte.to_le_bytes()[0]).collect();
            let pieces: Vec<&[u8]> = cut_to_pages(&body).collect();
            assert_eq!(pieces.concat(), body);
            let pages: usize = pieces
                .iter()
                .map(|piece| (piece.len() + 31).div_ceil(4096).next_power_of_two())
                .sum();
            assert!(
                pages * 4096 < length as usize + 3 * 4096,
                "{length} bytes: {pages} pages"
            );
        }
    }
}
