//! From rows to blocks.

use crate::{
    error::Result,
    record::ServerName,
    signal::Signal,
    store::{
        engine::fault::Fault,
        handle::StoreWriter,
        layout::{
            block::BlockRecord,
            tables::{self, Position, ROWS, SeriesId},
        },
        maintain::eviction::{self, BLOCKS_PER_STEP, Taken},
        policy::limits::Limits,
        tiers::blocks,
        write::append::{RowTier, Sealer, put_series_state, stored_series_state},
    },
};
use redb::{ReadableTable, WriteTransaction};

/// What one sealing moves at most: more waits for the next, so that no transaction takes long.
const SEAL_BYTES_MAX: usize = 4 << 20;

impl StoreWriter {
    /// Moves the rows of a series to blocks, oldest first, in one transaction. Returns what is left
    /// of its row tier, which is nothing unless it was very large, and what was taken out because
    /// records that do not compress take more in a block than they did before.
    pub(crate) fn seal(
        &self,
        server: &ServerName,
        signal: Signal,
        sealer: &mut Sealer,
        limits: &mut Limits,
    ) -> Result<(RowTier, Taken)> {
        self.transact("seal", |transaction| {
            limits.refresh(transaction)?;
            seal(transaction, server, signal, sealer, limits)
        })
    }
}

fn seal(
    transaction: &WriteTransaction,
    server: &ServerName,
    signal: Signal,
    sealer: &mut Sealer,
    limits: &Limits,
) -> Result<(RowTier, Taken), Fault> {
    let Some(mut state) = stored_series_state(transaction, server, signal)? else {
        return Ok(Default::default());
    };
    let (rows, left) = take_rows(transaction, state.id)?;
    if rows.is_empty() {
        return Ok((left, Taken::default()));
    }
    let records: Vec<BlockRecord<'_>> = rows.iter().map(block_record).collect();
    let block_limits = sealer.block_limits(limits, server);
    let written = blocks::change(transaction, |blocks| {
        blocks.write(&mut state, signal, &records, sealer, block_limits)
    })?;
    put_series_state(transaction, server, signal, &state)?;
    let taken = eviction::enforce_series(
        transaction,
        limits,
        server.clone(),
        signal,
        left.bytes as u64,
        &mut (written + BLOCKS_PER_STEP),
    )?;
    Ok((left, taken))
}

/// A row: its position and payload.
pub(crate) type Row = (Position, Vec<u8>);

/// A row as it goes into a block.
pub(crate) fn block_record(row: &Row) -> BlockRecord<'_> {
    let ((timestamp, sequence), payload) = row;
    BlockRecord {
        timestamp: *timestamp,
        sequence: *sequence,
        payload,
    }
}

/// Takes the oldest rows of a series out, up to [`SEAL_BYTES_MAX`], and says how much is left.
pub(crate) fn take_rows(
    transaction: &WriteTransaction,
    series: SeriesId,
) -> Result<(Vec<Row>, RowTier), Fault> {
    let (rows, left) = oldest_rows(transaction, series)?;
    if let (Some((first, _)), Some((last, _))) = (rows.first(), rows.last()) {
        let range = tables::row_key(series, *first)..=tables::row_key(series, *last);
        transaction
            .open_table(ROWS)?
            .retain_in::<&[u8; tables::ROW_KEY_BYTES], _>(range.start()..=range.end(), |_, _| {
                false
            })?;
    }
    Ok((rows, left))
}

/// The oldest rows, up to [`SEAL_BYTES_MAX`], and how much there is beyond them.
fn oldest_rows(
    transaction: &WriteTransaction,
    series: SeriesId,
) -> Result<(Vec<Row>, RowTier), Fault> {
    let table = transaction.open_table(ROWS)?;
    let first = tables::row_key(series, (i64::MIN, 0));
    let last = tables::row_key(series, (i64::MAX, u64::MAX));
    let mut rows = Vec::new();
    let mut taken = RowTier::default();
    let mut left = RowTier::default();
    for entry in table.range::<&[u8; tables::ROW_KEY_BYTES]>(&first..=&last)? {
        let (key, payload) = entry?;
        if taken.bytes < SEAL_BYTES_MAX {
            taken.add(payload.value().len());
            rows.push((tables::row_position(key.value()), payload.value().to_vec()));
        } else {
            left.add(payload.value().len());
        }
    }
    Ok((rows, left))
}
