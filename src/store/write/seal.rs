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
            series::{put_series_state, stored_series_state},
        },
        maintain::eviction::{self, BLOCKS_PER_STEP, Taken},
        policy::limits::Limits,
        tiers::{
            blocks,
            rows::{self, RowTier},
            sealer::Sealer,
        },
    },
};
use redb::WriteTransaction;

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
    let (oldest, left) = rows::take_oldest(transaction, state.id)?;
    if oldest.is_empty() {
        return Ok((left, Taken::default()));
    }
    let records: Vec<BlockRecord<'_>> = oldest.iter().map(rows::block_record).collect();
    let block_limits = sealer.block_limits(limits, server);
    let written = blocks::change(transaction, |blocks| {
        blocks.write(
            &mut state,
            signal,
            &records,
            &mut sealer.encoder,
            block_limits,
        )
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
