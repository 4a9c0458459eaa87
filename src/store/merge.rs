//! Small blocks into full ones, and half expired ones into what is left of them.
//!
//! A quiet server, a late record or a restart makes a block of a few records, which takes a page or
//! two and compresses badly. Blocks that are not full are kept in an index by level (see
//! [`BlockHeader::level`]); when a level has so many that it pays, those that lie next to each other
//! become one of the next. So each record is rewritten as often as there are levels at most,
//! whatever the traffic is, and late records come to lie between those of their time.

use super::{
    Fault,
    append::{Sealer, put_series_state, stored_series_state},
    block::{BlockHeader, BlockRecord, DecodedBlock, PAYLOAD_BYTES_TARGET, RECORDS_MAX},
    blocks::{self, BlockKey, BlockLimits, Blocks},
    losses::{self, Range},
    tables::{self, SeriesState},
};
use crate::{record::ServerName, signal::Signal};
use redb::WriteTransaction;

/// So many blocks of a level are merged when there are ...
const MERGED_AT_ONCE: usize = 4;
/// ... so many: the choice lets old ones that came late stay apart from new ones until there are
/// more of them, because a block that spans years is read for every hour in them.
pub(super) const MERGED_FROM: u64 = 8;
/// The most blocks among which is chosen.
const CHOICE_MAX: usize = 64;

/// What a merge, or a rewriting, did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Rewritten {
    /// What the blocks that it took took of the disk; 0 when it left everything as it was.
    pub(crate) disk_bytes: u64,
    /// Records that were too old to be written again.
    pub(crate) expired: u64,
}

/// Merges blocks of `level` once, leaving out what was before `cutoff`.
pub(super) fn merge(
    transaction: &WriteTransaction,
    sealer: &mut Sealer,
    server: &ServerName,
    signal: Signal,
    level: u8,
    cutoff: i64,
) -> Result<Rewritten, Fault> {
    rewrite_some(
        transaction,
        sealer,
        server,
        signal,
        cutoff,
        |blocks, state, payload_bytes| {
            let mut found = blocks.of_level(state.id, level, CHOICE_MAX)?;
            // A smaller limit closes blocks earlier: these are full already.
            found.retain(|(_, header)| (header.payload_bytes as usize) < payload_bytes / 2);
            if (found.len() as u64) < MERGED_FROM {
                return Ok(Vec::new());
            }
            let span = |window: &[(BlockKey, BlockHeader)]| {
                let first = window.iter().map(|(_, header)| header.first).min();
                let last = window.iter().map(|(_, header)| header.last).max();
                last.unwrap_or(0).abs_diff(first.unwrap_or(0))
            };
            Ok(found
                .windows(MERGED_AT_ONCE)
                .min_by_key(|window| span(window))
                .map(<[_]>::to_vec)
                .unwrap_or_default())
        },
    )
}

/// Writes the block at `key` again without what was before `cutoff`, if that is half of it or more:
/// for less, writing the rest again costs more than it gives back.
pub(super) fn rewrite(
    transaction: &WriteTransaction,
    sealer: &mut Sealer,
    server: &ServerName,
    signal: Signal,
    key: &BlockKey,
    cutoff: i64,
) -> Result<Rewritten, Fault> {
    rewrite_some(
        transaction,
        sealer,
        server,
        signal,
        cutoff,
        |blocks, _, _| {
            Ok(blocks
                .header(key)?
                .map(|header| (*key, header))
                .into_iter()
                .collect())
        },
    )
}

fn rewrite_some(
    transaction: &WriteTransaction,
    sealer: &mut Sealer,
    server: &ServerName,
    signal: Signal,
    cutoff: i64,
    choose: impl FnOnce(&Blocks<'_>, &SeriesState, usize) -> Result<Vec<(BlockKey, BlockHeader)>, Fault>,
) -> Result<Rewritten, Fault> {
    let mut done = Rewritten::default();
    let Some(mut state) = stored_series_state(transaction, server, signal)? else {
        return Ok(done);
    };
    let limits = BlockLimits {
        records: RECORDS_MAX,
        payload_bytes: sealer.payload_bytes.min(PAYLOAD_BYTES_TARGET),
    };
    let gone = blocks::change(transaction, |blocks| {
        let chosen = choose(blocks, &state, limits.payload_bytes)?;
        let mut decoded: Vec<DecodedBlock> = Vec::with_capacity(chosen.len());
        for (key, header) in &chosen {
            decoded.push(blocks.load(key, header)?);
        }
        let mut gone: Option<Range> = None;
        let mut records = Vec::new();
        for block in &decoded {
            for record in block.records() {
                if record.timestamp < cutoff {
                    let one = Range::new(1, record.timestamp, record.timestamp);
                    match &mut gone {
                        Some(gone) => gone.add(one),
                        None => gone = Some(one),
                    }
                } else {
                    records.push(record);
                }
            }
        }
        if let [_] = chosen.as_slice()
            && gone.is_none_or(|gone| gone.count() < records.len() as u64)
        {
            return Ok(None);
        }
        records
            .sort_unstable_by_key(|record: &BlockRecord<'_>| (record.timestamp, record.sequence));
        // First, because a new block may get the key of an old one.
        for (key, header) in &chosen {
            blocks.remove(&mut state, key, header)?;
            done.disk_bytes += tables::disk_bytes(header);
        }
        blocks.write(&mut state, signal, &records, sealer, limits)?;
        Ok(gone)
    })?;
    if done.disk_bytes > 0 {
        put_series_state(transaction, server, signal, &state)?;
    }
    if let Some(gone) = gone {
        done.expired = gone.count();
        losses::retire(transaction, server, signal, gone)?;
    }
    Ok(done)
}
