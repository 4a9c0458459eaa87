//! Small blocks into full ones, and half expired ones into what is left of them.
//!
//! A quiet server, a late record or a restart makes a block of a few records, which takes a page or
//! two and compresses badly. Blocks that are not full are kept in an index by level (see
//! [`BlockHeader::merge_level`]); when a level has so many that it pays, those that lie next to each other
//! become one of the next. So each record is rewritten as often as there are levels at most,
//! whatever the traffic is, and late records come to lie between those of their time.

use crate::{
    record::ServerName,
    signal::Signal,
    store::{
        engine::fault::Fault,
        layout::{
            block::{
                BlockEncoder, BlockHeader, BlockRecord, DecodedBlock, HEADER_BYTES,
                PAYLOAD_BYTES_TARGET, RECORDS_MAX,
            },
            footprint, keys,
            series::{SeriesState, put_series_state, stored_series_state},
            tables::{BlockKey, MergeKey},
        },
        ledger::losses::{self, LossSpan},
        policy::limits::Limits,
        tiers::blocks::{self, BlockLimits, Blocks},
    },
};
use redb::{ReadableTable, WriteTransaction};

/// So many blocks of a level are merged when there are ...
const MERGED_AT_ONCE: usize = 4;
/// ... so many: the choice lets old ones that came late stay apart from new ones until there are
/// more of them, because a block that spans years is read for every hour in them.
pub(crate) const MERGED_FROM: u64 = 8;
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
pub(crate) fn choose(
    headers: &impl ReadableTable<&'static BlockKey, &'static [u8; HEADER_BYTES]>,
    queue: &impl ReadableTable<&'static MergeKey, ()>,
    state: &SeriesState,
    level: u8,
    limits: BlockLimits,
) -> Result<Vec<(BlockKey, BlockHeader)>, Fault> {
    let mut found = blocks::of_level(headers, queue, state.id, level, APART_MAX)?;
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
        let first = keys::block_position(first);
        let last = keys::block_position(last);
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
pub(crate) fn block_limits(limits: &Limits, server: &str) -> BlockLimits {
    BlockLimits {
        records: RECORDS_MAX,
        payload_bytes: limits.block_payload_bytes(server),
    }
}

/// Merges blocks of `level` once, leaving out what was before `cutoff`.
pub(crate) fn merge(
    transaction: &WriteTransaction,
    encoder: &mut BlockEncoder,
    limits: &Limits,
    server: &ServerName,
    signal: Signal,
    level: u8,
    cutoff: i64,
) -> Result<Rewritten, Fault> {
    rewrite_some(
        transaction,
        encoder,
        limits,
        server,
        signal,
        cutoff,
        |blocks, state, limits| {
            choose(blocks.headers(), blocks.merge_queue(), state, level, limits)
        },
    )
}

/// Writes the block at `key` again without what was before `cutoff`, if that is half of it or more:
/// for less, writing the rest again costs more than it gives back.
pub(crate) fn rewrite(
    transaction: &WriteTransaction,
    encoder: &mut BlockEncoder,
    limits: &Limits,
    server: &ServerName,
    signal: Signal,
    key: &BlockKey,
    cutoff: i64,
) -> Result<Rewritten, Fault> {
    rewrite_some(
        transaction,
        encoder,
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
    encoder: &mut BlockEncoder,
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
        let mut gone: Option<LossSpan> = None;
        let mut records = Vec::new();
        for block in &decoded {
            for record in block.records() {
                if record.timestamp < cutoff {
                    let one = LossSpan::new(1, record.timestamp, record.timestamp);
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
            done.disk_bytes += footprint::disk_bytes(header);
        }
        blocks.write(&mut state, signal, &records, encoder, limits)?;
        Ok(gone)
    })?;
    if done.disk_bytes > 0 {
        put_series_state(transaction, server, signal, &state)?;
    }
    if let Some(gone) = gone {
        done.expired = gone.count();
        losses::record_evicted(transaction, server, signal, gone)?;
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        Store, StoreOptions, StoreWriter,
        layout::{keys::Position, series::SeriesId, tables::BLOCKS},
    };
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const SIGNAL: Signal = Signal::Logs;

    /// A store in which blocks are written one by one, and what was written.
    struct World {
        _home: tempfile::TempDir,
        store: Store,
        writer: StoreWriter,
        encoder: BlockEncoder,
        server: ServerName,
        records: BTreeMap<Position, Vec<u8>>,
    }

    /// A block and its records.
    type Block = (BlockKey, BlockHeader, Vec<(Position, Vec<u8>)>);

    impl World {
        fn new() -> World {
            let home = tempfile::tempdir().unwrap();
            let store = Store::open(home.path(), "stack", StoreOptions::default()).unwrap();
            World {
                _home: home,
                writer: store.writer().unwrap(),
                store,
                encoder: BlockEncoder::new(),
                server: ServerName::new("server").unwrap(),
                records: BTreeMap::new(),
            }
        }

        /// Writes records of these times and lengths as a block.
        fn write(&mut self, batch: &[(i64, usize)]) {
            let mut batch = batch.to_vec();
            batch.sort_by_key(|(time, _)| *time);
            let first = self.records.len() as u64;
            let records: Vec<(Position, Vec<u8>)> = batch
                .into_iter()
                .zip(first..)
                .map(|((time, bytes), sequence)| {
                    let payload = (0..bytes as u64).map(|at| (at * sequence).to_le_bytes()[0]);
                    ((time, sequence), payload.collect())
                })
                .collect();
            let World {
                writer,
                encoder,
                server,
                ..
            } = self;
            writer
                .transact("write", |transaction| {
                    let mut state = stored_series_state(transaction, server, SIGNAL)?
                        .unwrap_or_else(|| SeriesState::new(SeriesId(0)));
                    let records: Vec<BlockRecord<'_>> = records
                        .iter()
                        .map(|((timestamp, sequence), payload)| BlockRecord {
                            timestamp: *timestamp,
                            sequence: *sequence,
                            payload,
                        })
                        .collect();
                    let limits = block_limits(&Limits::default(), server);
                    blocks::change(transaction, |blocks| {
                        blocks.write(&mut state, SIGNAL, &records, encoder, limits)
                    })?;
                    put_series_state(transaction, server, SIGNAL, &state)
                })
                .unwrap();
            self.records.extend(records);
        }

        /// All blocks, each checked to be in order. The tables are checked to agree.
        fn blocks(&self) -> Vec<Block> {
            self.store.snapshot().unwrap().layout().unwrap();
            self.writer
                .transact("read", |transaction| {
                    let mut found: Vec<Block> = Vec::new();
                    let keys: Vec<_> = transaction
                        .open_table(BLOCKS)?
                        .iter()?
                        .map(|entry| {
                            let (key, header) = entry?;
                            let header = blocks::read_header(key.value(), header.value())?;
                            Ok((*key.value(), header))
                        })
                        .collect::<Result<_, Fault>>()?;
                    blocks::change(transaction, |blocks| {
                        for (key, header) in keys {
                            let block = blocks.load(&key, &header)?;
                            let records: Vec<_> = block
                                .records()
                                .map(|it| ((it.timestamp, it.sequence), it.payload.to_vec()))
                                .collect();
                            assert!(records.is_sorted_by_key(|(position, _)| *position));
                            found.push((key, header, records));
                        }
                        Ok(())
                    })?;
                    Ok(found)
                })
                .unwrap()
        }

        /// Merges blocks of one level once, and says whether there were any.
        fn merge(&mut self, level: u8, cutoff: i64) -> bool {
            let World {
                writer,
                encoder,
                server,
                ..
            } = self;
            let limits = Limits::default();
            let done = writer
                .transact("merge", |transaction| {
                    merge(transaction, encoder, &limits, server, SIGNAL, level, cutoff)
                })
                .unwrap();
            done.disk_bytes > 0
        }

        /// What is in the ledger.
        fn lost(&self) -> u64 {
            let losses = self.store.snapshot().unwrap().ledger(..).unwrap();
            losses.iter().map(|loss| loss.count).sum()
        }
    }

    /// How often a record is rewritten at most: with each time its block has half as much more than
    /// before, and from one level to the next it has four times as much.
    const REWRITES_MAX: u32 = 6 * 7 / 2;

    fn batch() -> impl Strategy<Value = Vec<(i64, usize)>> {
        let time = prop_oneof![6 => -50i64..50, 1 => -20_000i64..0, 1 => any::<i64>()];
        let small = prop::collection::vec((time.clone(), 0usize..60), 1..30);
        let large = prop::collection::vec((time, 5_000usize..60_000), 1..4);
        prop_oneof![9 => small, 1 => large]
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: std::env::var("GRIDCTL_TELEMETRY_CASES")
                .map_or(8, |cases| cases.parse().unwrap()),
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn merging_changes_where_records_are_and_nothing_else(
            batches in prop::collection::vec(batch(), 1..120),
            cutoff in prop_oneof![3 => Just(i64::MIN), 1 => -5_000i64..10_000],
        ) {
            let mut world = World::new();
            for (batch, number) in batches.iter().zip(0i64..) {
                // Most of them in order, and some late.
                let batch: Vec<_> = batch
                    .iter()
                    .map(|(time, bytes)| (time.saturating_add(number * 100), *bytes))
                    .collect();
                world.write(&batch);
            }
            let mut rewrites: BTreeMap<Position, u32> = BTreeMap::new();
            let mut before = world.blocks();
            let mut level = 1;
            while level <= 6 {
                if !world.merge(level, cutoff) {
                    level += 1;
                    continue;
                }
                let after = world.blocks();
                prop_assert!(after.len() < before.len(), "a merge must leave fewer blocks");
                let (left, gone): (Vec<_>, Vec<_>) = before.iter().partition(|(key, header, _)| {
                    after.iter().any(|(other, same, _)| other == key && same == header)
                });
                for (position, _) in gone.iter().flat_map(|(_, _, records)| records) {
                    *rewrites.entry(*position).or_default() += 1;
                }
                let last = |block: &&Block| keys::block_position(&block.0);
                let ends = gone.iter().map(last).min()..=gone.iter().map(last).max();
                let of_level = |block: &&Block| block.1.merge_level() == Some(level);
                if before.iter().filter(of_level).count() < APART_MAX {
                    // Or what was merged would be older than it at one end, and newer at the other.
                    let between = left.iter().filter(|block| ends.contains(&Some(last(block))));
                    prop_assert_eq!(between.count(), 0);
                }
                let there: BTreeMap<Position, Vec<u8>> =
                    after.iter().flat_map(|(_, _, records)| records.iter().cloned()).collect();
                let count = after.iter().map(|(_, _, records)| records.len()).sum::<usize>();
                prop_assert_eq!(there.len(), count, "a record is in one block");
                for (position, payload) in &there {
                    prop_assert_eq!(world.records.get(position), Some(payload));
                }
                prop_assert!(world.records.keys().all(|it| it.0 < cutoff || there.contains_key(it)));
                prop_assert_eq!(world.lost(), (world.records.len() - there.len()) as u64);
                before = after;
                level = 1;
            }
            let most = rewrites.values().max().copied().unwrap_or(0);
            prop_assert!(most <= REWRITES_MAX, "a record was rewritten {most} times");
        }
    }
}
