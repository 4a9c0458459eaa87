//! Adding summaries to blocks that an earlier version of this crate wrote.

use crate::{
    record::ServerName,
    signal::Signal,
    store::{
        engine::{fault::Fault, transaction::WriteTransaction},
        layout::{
            block::Codec,
            keys,
            series::{SeriesState, put_series_state, stored_series_state},
            tables::{BLOCKS, BlockKey, SUMMARIES},
        },
        tiers::{blocks, view::View},
    },
};
use std::ops::Bound;

/// The number of blocks that one transaction reads, so that appending never waits long.
const BLOCKS_MAX: usize = 32;

/// The next blocks of a series after the one at `after`, at most a few, that have no summary and could
/// have one.
pub(crate) fn missing(
    view: &View,
    state: &SeriesState,
    after: Option<BlockKey>,
) -> Result<Vec<BlockKey>, Fault> {
    let headers = view.transaction().open_table(BLOCKS)?;
    let summaries = view.transaction().open_table(SUMMARIES)?;
    let range = keys::block_range(state.id);
    let first = match &after {
        Some(after) => Bound::Excluded(after),
        None => Bound::Included(range.start()),
    };
    let mut found = Vec::new();
    for entry in headers.range::<&BlockKey>((first, Bound::Included(range.end())))? {
        let (key, header) = entry?;
        let header = blocks::read_header(key.value(), header.value()).ok();
        let has_columns = header.is_some_and(|header| header.codec == Codec::Columns);
        if has_columns && summaries.get(key.value())?.is_none() {
            found.push(*key.value());
            if found.len() == BLOCKS_MAX {
                break;
            }
        }
    }
    Ok(found)
}

/// Adds the summaries of these blocks. One that has been deleted meanwhile, or cannot be read, is passed
/// over.
pub(crate) fn add(
    transaction: &WriteTransaction,
    server: &ServerName,
    signal: Signal,
    missing: &[BlockKey],
) -> Result<(), Fault> {
    let Some(mut state) = stored_series_state(transaction, server, signal)? else {
        return Ok(());
    };
    blocks::change(transaction, |blocks| {
        for key in missing {
            match blocks.summarize(&mut state, signal, key) {
                Ok(()) | Err(Fault::Corrupt(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    })?;
    put_series_state(transaction, server, signal, &state)
}
