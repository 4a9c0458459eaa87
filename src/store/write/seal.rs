//! Sealing: moving rows to blocks.

use crate::{
    record::ServerName,
    signal::Signal,
    store::{
        engine::{fault::Fault, transaction::WriteTransaction},
        layout::series::{put_series_state, stored_series_state},
        ledger::damage,
        maintain::eviction::{self, EVICTED_BLOCKS_MAX, Evicted},
        policy::limits::Limits,
        tiers::{
            blocks,
            rows::{self, RowTier},
            sealer::Sealer,
        },
    },
};

/// Moves the oldest rows of a series to blocks. Returns the size of the remaining rows, which is
/// zero unless there were very many, and what was evicted: records that do not compress take more
/// space in a block than as rows.
pub(crate) fn seal(
    transaction: &WriteTransaction,
    server: &ServerName,
    signal: Signal,
    sealer: &mut Sealer,
    limits: &mut Limits,
) -> Result<(RowTier, Evicted), Fault> {
    limits.refresh(transaction)?;
    let Some(mut state) = stored_series_state(transaction, server, signal)? else {
        return Ok((RowTier::default(), Evicted::default()));
    };
    let mut oldest = rows::take_oldest(transaction, state.id)?;
    damage::note(transaction, &oldest.findings(server, signal))?;
    state.rows = oldest.left.records;
    let records = oldest.block_records();
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
    let evicted = eviction::enforce_series(
        transaction,
        limits,
        server.clone(),
        signal,
        oldest.left.bytes as u64,
        &mut (written + EVICTED_BLOCKS_MAX),
    )?;
    Ok((oldest.left, evicted))
}
