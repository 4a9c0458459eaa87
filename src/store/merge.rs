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
    block::{
        BlockHeader, BlockRecord, DecodedBlock, HEADER_BYTES, PAYLOAD_BYTES_TARGET, RECORDS_MAX,
    },
    blocks::{self, BlockKey, BlockLimits, Blocks},
    limits::Limits,
    losses::{self, Range},
    tables::{self, SMALL_KEY_BYTES, SeriesState},
};
use crate::{record::ServerName, signal::Signal};
use redb::{ReadableTable, WriteTransaction};

/// So many blocks of a level are merged when there are ...
const MERGED_AT_ONCE: usize = 4;
/// ... so many: the choice lets old ones that came late stay apart from new ones until there are
/// more of them, because a block that spans years is read for every hour in them.
pub(super) const MERGED_FROM: u64 = 8;
/// From so many on they are merged however far apart they lie.
const APART_MAX: usize = 48;
/// What lies between those that are merged is merged with them, if it is not more than so many
/// blocks ...
const BETWEEN_MAX: usize = 8;
/// ... and this many times as many bytes: so what is rewritten once more has grown by half since.
const BETWEEN_TIMES: usize = 2;
/// The most payload bytes that are rewritten at once: nobody should wait longer.
const PAYLOAD_BYTES_MAX: usize = 2 * PAYLOAD_BYTES_TARGET;

/// The blocks of a series that are to be merged because there are many of `level`; none when it
/// does not pay.
///
/// They lie next to each other in time. Where some of another size lie in between, these are taken
/// along: a block that reaches over others would be older than they are at one end and newer at the
/// other, and no limit could take the older of both first.
pub(super) fn choose(
    headers: &impl ReadableTable<&'static BlockKey, &'static [u8; HEADER_BYTES]>,
    small: &impl ReadableTable<&'static [u8; SMALL_KEY_BYTES], ()>,
    state: &SeriesState,
    level: u8,
    limits: BlockLimits,
) -> Result<Vec<(BlockKey, BlockHeader)>, Fault> {
    let mut found = blocks::of_level(headers, small, state.id, level, APART_MAX)?;
    // A smaller limit closes blocks earlier: these are full already.
    found.retain(|(_, header)| (header.payload_bytes as usize) < limits.payload_bytes / 2);
    if (found.len() as u64) < MERGED_FROM {
        return Ok(Vec::new());
    }
    let mut windows: Vec<&[(BlockKey, BlockHeader)]> = found.windows(MERGED_AT_ONCE).collect();
    windows.sort_by_key(|window| span(window));
    for window in &windows {
        let [(first, _), .., (last, _)] = window else {
            continue;
        };
        let first = tables::block_position(first);
        let last = tables::block_position(last);
        let count_max = MERGED_AT_ONCE + BETWEEN_MAX;
        let all = blocks::ending_between(headers, state, first, last, count_max + 1)?;
        let bytes_max = (payload_bytes(window) * (1 + BETWEEN_TIMES)).min(PAYLOAD_BYTES_MAX);
        if all.len() <= count_max && payload_bytes(&all) <= bytes_max {
            return Ok(all);
        }
    }
    match windows.first() {
        Some(window) if found.len() >= APART_MAX => Ok(window.to_vec()),
        _ => Ok(Vec::new()),
    }
}

fn payload_bytes(blocks: &[(BlockKey, BlockHeader)]) -> usize {
    blocks
        .iter()
        .map(|(_, header)| header.payload_bytes as usize)
        .sum()
}

/// How long a time blocks cover together.
fn span(window: &[(BlockKey, BlockHeader)]) -> u64 {
    let first = window.iter().map(|(_, header)| header.first).min();
    let last = window.iter().map(|(_, header)| header.last).max();
    last.unwrap_or(0).abs_diff(first.unwrap_or(0))
}

/// What a merge, or a rewriting, did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Rewritten {
    /// What the blocks that it took took of the disk; 0 when it left everything as it was.
    pub(crate) disk_bytes: u64,
    /// Records that were too old to be written again.
    pub(crate) expired: u64,
}

/// What goes into a merged block, by what its series may have.
pub(super) fn block_limits(limits: &Limits, server: &str) -> BlockLimits {
    BlockLimits {
        records: RECORDS_MAX,
        payload_bytes: limits.block_payload_bytes(server),
    }
}

/// Merges blocks of `level` once, leaving out what was before `cutoff`.
pub(super) fn merge(
    transaction: &WriteTransaction,
    sealer: &mut Sealer,
    limits: &Limits,
    server: &ServerName,
    signal: Signal,
    level: u8,
    cutoff: i64,
) -> Result<Rewritten, Fault> {
    rewrite_some(
        transaction,
        sealer,
        limits,
        server,
        signal,
        cutoff,
        |blocks, state, limits| blocks.to_merge(state, level, limits),
    )
}

/// Writes the block at `key` again without what was before `cutoff`, if that is half of it or more:
/// for less, writing the rest again costs more than it gives back.
pub(super) fn rewrite(
    transaction: &WriteTransaction,
    sealer: &mut Sealer,
    limits: &Limits,
    server: &ServerName,
    signal: Signal,
    key: &BlockKey,
    cutoff: i64,
) -> Result<Rewritten, Fault> {
    rewrite_some(
        transaction,
        sealer,
        limits,
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
    limits: &Limits,
    server: &ServerName,
    signal: Signal,
    cutoff: i64,
    choose: impl FnOnce(
        &Blocks<'_>,
        &SeriesState,
        BlockLimits,
    ) -> Result<Vec<(BlockKey, BlockHeader)>, Fault>,
) -> Result<Rewritten, Fault> {
    let mut done = Rewritten::default();
    let Some(mut state) = stored_series_state(transaction, server, signal)? else {
        return Ok(done);
    };
    let limits = block_limits(limits, server);
    let gone = blocks::change(transaction, |blocks| {
        let chosen = choose(blocks, &state, limits)?;
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
