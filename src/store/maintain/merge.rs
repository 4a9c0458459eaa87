//! Merging small blocks into full ones, and rewriting blocks without their expired records.
//!
//! A quiet server, a late record or a restart produces a block of a few records, which takes a page
//! or two and compresses badly. Blocks that are not full are indexed by level (see
//! [`BlockHeader::merge_level`]). Once a level has enough blocks, neighbours among them are merged
//! into one block of the next level. So a record is rewritten at most once per level, whether
//! traffic is high or low, and late records move next to records of the same time.

use crate::{
    record::ServerName,
    signal::Signal,
    store::{
        engine::{
            fault::{Fault, guarded},
            transaction::WriteTransaction,
        },
        layout::{
            block::{
                BlockEncoder, BlockHeader, BlockRecord, DecodedBlock, PAYLOAD_BYTES_TARGET,
                RECORDS_MAX,
            },
            keys,
            series::{SeriesState, put_series_state, stored_series_state},
            tables::{BlockKey, MergeKey, StoredHeader},
        },
        ledger::{
            damage::{self, Finding},
            losses::{self, LossSpan},
        },
        policy::limits::Limits,
        tiers::blocks::{self, BlockLimits, Blocks},
    },
};
use redb::ReadableTable;
use std::collections::HashSet;

/// The number of blocks of one level that are merged into one.
const MERGED_AT_ONCE: usize = 4;
/// The number of blocks of one level from which merging is considered. It is higher than the number
/// merged at once, so that late records need not be merged with new ones immediately: a block that
/// spans years is read by every query of an hour within them.
pub(crate) const MERGED_FROM: u64 = 8;
/// The number of blocks of one level from which they are merged even if they are far apart in time.
const APART_MAX: usize = 48;
/// Blocks of other levels in between are merged as well: at most this number ...
const BETWEEN_MAX: usize = 8;
/// ... with at most this multiple of the bytes. So a block that is rewritten again has grown by
/// half since.
const BETWEEN_TIMES: usize = 2;
/// Maximum number of payload bytes rewritten by one transaction, because appending waits for it.
const PAYLOAD_BYTES_MAX: usize = 2 * PAYLOAD_BYTES_TARGET;

/// The blocks of a series to merge because it has many of `level`; empty when merging does not pay.
///
/// Blocks in `damaged` stay as they are: their records may be recoverable by hand.
///
/// They are neighbours in time, including blocks of other levels in between. Without those, the
/// merged block would be older than they are at one end and newer at the other, and eviction could
/// not delete the oldest records first.
pub(crate) fn choose(
    headers: &impl ReadableTable<&'static BlockKey, &'static StoredHeader>,
    queue: &impl ReadableTable<&'static MergeKey, ()>,
    state: &SeriesState,
    level: u8,
    limits: BlockLimits,
    damaged: &HashSet<BlockKey>,
) -> Result<Vec<(BlockKey, BlockHeader)>, Fault> {
    let is_whole = |(key, _): &(BlockKey, BlockHeader)| !damaged.contains(key);
    let mut found = blocks::of_level(headers, queue, state.id, level, APART_MAX)?;
    // Under a small limit, blocks are full earlier, and full ones are not merged.
    found.retain(|block| (block.1.payload_bytes as usize) < limits.payload_bytes / 2);
    found.retain(is_whole);
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
        let mut all = blocks::ending_between(headers, state, first, last, count_max + 1)?;
        all.retain(is_whole);
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

/// The time span of all blocks together, in nanoseconds.
fn span(window: &[(BlockKey, BlockHeader)]) -> u64 {
    let first = window.iter().map(|(_, header)| header.first).min();
    let last = window.iter().map(|(_, header)| header.last).max();
    last.unwrap_or(0).abs_diff(first.unwrap_or(0))
}

/// The result of a merge or a rewrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Rewritten {
    /// The size on the disk of the replaced blocks, in bytes; 0 when none was replaced.
    pub(crate) disk_bytes: u64,
    /// The number of expired records left out.
    pub(crate) expired: u64,
    /// Whether nothing was replaced because a block was found to be damaged.
    pub(crate) is_damaged: bool,
}

/// The size of merged blocks: smaller if the limit of their series is small.
pub(crate) fn block_limits(limits: &Limits, server: &str) -> BlockLimits {
    BlockLimits {
        records: RECORDS_MAX,
        payload_bytes: limits.block_payload_bytes(server),
        // Neighbours in time are merged. Those that are far apart are merged only when there are many,
        // and cutting them again would undo it.
        ends_at_gaps: false,
    }
}

/// The settings for rewriting blocks of one series.
pub(crate) struct Rewrite<'a> {
    pub(crate) encoder: &'a mut BlockEncoder,
    /// The size of the written blocks, see [`block_limits`].
    pub(crate) limits: BlockLimits,
    pub(crate) server: &'a ServerName,
    pub(crate) signal: Signal,
    /// Records before this time are left out and entered in the ledger as evicted.
    pub(crate) cutoff: i64,
    /// The blocks that were found to be damaged, to which others are added.
    pub(crate) damaged: &'a mut HashSet<BlockKey>,
}

/// The blocks selected to be rewritten.
type Chosen = Result<Vec<(BlockKey, BlockHeader)>, Fault>;

impl Rewrite<'_> {
    /// Merges blocks of `level` once.
    pub(crate) fn level(
        self,
        transaction: &WriteTransaction,
        level: u8,
    ) -> Result<Rewritten, Fault> {
        let limits = self.limits;
        self.run(transaction, |blocks, state, damaged| {
            let (headers, queue) = (blocks.headers(), blocks.merge_queue());
            choose(headers, queue, state, level, limits, damaged)
        })
    }

    /// Rewrites the block at `key` if at least half of its records have expired: below that,
    /// writing the others again costs more than it frees.
    pub(crate) fn block(
        self,
        transaction: &WriteTransaction,
        key: &BlockKey,
    ) -> Result<Rewritten, Fault> {
        self.run(transaction, |blocks, _, _| {
            let header = blocks.header(key)?;
            Ok(header.map(|header| (*key, header)).into_iter().collect())
        })
    }

    fn run(
        self,
        transaction: &WriteTransaction,
        choose: impl FnOnce(&Blocks<'_>, &SeriesState, &HashSet<BlockKey>) -> Chosen,
    ) -> Result<Rewritten, Fault> {
        let Rewrite {
            encoder,
            limits,
            server,
            signal,
            cutoff,
            damaged,
        } = self;
        let mut done = Rewritten::default();
        let Some(mut state) = stored_series_state(transaction, server, signal)? else {
            return Ok(done);
        };
        let mut findings = Vec::new();
        let expired = blocks::change(transaction, |blocks| {
            let chosen = choose(blocks, &state, damaged)?;
            let mut decoded: Vec<DecodedBlock> = Vec::with_capacity(chosen.len());
            for (key, header) in &chosen {
                match guarded(|| blocks.load(key, header)) {
                    Ok(block) => decoded.push(block),
                    Err(fault) if fault.is_damage() => {
                        damaged.insert(*key);
                        let finding = Finding::of(server, signal, fault.reason())
                            .between(header.first, header.last);
                        findings.push(finding.losing(Some(header.count.into())));
                    }
                    Err(fault) => return Err(fault),
                }
            }
            if !findings.is_empty() {
                return Ok(None);
            }
            let (records, expired) = unexpired(&decoded, cutoff);
            if let [_] = chosen.as_slice()
                && expired.is_none_or(|expired| expired.count() < records.len() as u64)
            {
                return Ok(None);
            }
            // Old blocks are deleted first, because a new block may get the key of an old one.
            for (key, header) in &chosen {
                done.disk_bytes += blocks.remove(&mut state, key, header)?.disk_bytes;
            }
            blocks.write(&mut state, signal, &records, encoder, limits)?;
            Ok(expired)
        })?;
        done.is_damaged = !findings.is_empty();
        damage::note(transaction, &findings)?;
        if done.disk_bytes > 0 {
            put_series_state(transaction, server, signal, &state)?;
        }
        if let Some(expired) = expired {
            done.expired = expired.count();
            losses::record_evicted(transaction, server, signal, expired)?;
        }
        Ok(done)
    }
}

/// The records of blocks at or after `cutoff`, in order, and the span of those left out.
fn unexpired(blocks: &[DecodedBlock], cutoff: i64) -> (Vec<BlockRecord<'_>>, Option<LossSpan>) {
    let mut expired: Option<LossSpan> = None;
    let mut records = Vec::new();
    for record in blocks.iter().flat_map(DecodedBlock::records) {
        if record.timestamp < cutoff {
            LossSpan::extend(&mut expired, record.timestamp);
        } else {
            records.push(record);
        }
    }
    records.sort_unstable_by_key(BlockRecord::position);
    (records, expired)
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

    /// A store whose blocks are written one by one, and the records written.
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

        /// Writes records with these times and lengths as a block.
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

        /// All blocks. Checks that each is in order, and that the tables agree.
        fn blocks(&self) -> Vec<Block> {
            self.store.snapshot().unwrap().check().unwrap();
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

        fn rewrite(
            &mut self,
            cutoff: i64,
            run: impl FnOnce(Rewrite<'_>, &WriteTransaction) -> Result<Rewritten, Fault>,
        ) -> Rewritten {
            let World {
                writer,
                encoder,
                server,
                ..
            } = self;
            let limits = Limits::default();
            writer
                .transact("rewrite", |transaction| {
                    let rewrite = Rewrite {
                        encoder,
                        limits: block_limits(&limits, server),
                        server,
                        signal: SIGNAL,
                        cutoff,
                        damaged: &mut HashSet::new(),
                    };
                    run(rewrite, transaction)
                })
                .unwrap()
        }

        /// Merges blocks of one level once. Returns whether there were any.
        fn merge(&mut self, level: u8, cutoff: i64) -> bool {
            let done = self.rewrite(cutoff, |rewrite, transaction| {
                rewrite.level(transaction, level)
            });
            done.disk_bytes > 0
        }

        /// The number of records in the ledger.
        fn lost(&self) -> u64 {
            let losses = self.store.snapshot().unwrap().ledger(..).unwrap();
            losses.iter().map(|loss| loss.count).sum()
        }
    }

    /// Maximum number of times a record is rewritten: each time, its block has grown by half, and
    /// from one level to the next fourfold.
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
                // Most times are in order, and some are late.
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
                    // Otherwise the merged block would be older than the block in between at one
                    // end, and newer at the other.
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

    #[test]
    fn a_block_is_rewritten_once_half_of_it_has_expired() {
        let mut world = World::new();
        world.write(&(0..100).map(|time| (time, 40)).collect::<Vec<_>>());
        let key = world.blocks()[0].0;
        let rewrite = |world: &mut World, cutoff| {
            let done = world.rewrite(cutoff, |rewrite, transaction| {
                rewrite.block(transaction, &key)
            });
            let blocks = world.blocks();
            let records = blocks.iter().flat_map(|(_, _, records)| records);
            let times: Vec<i64> = records.map(|((time, _), _)| *time).collect();
            (done, times, world.lost())
        };
        let all: Vec<i64> = (0..100).collect();
        assert_eq!(rewrite(&mut world, 49), (Rewritten::default(), all, 0));
        let (done, times, lost) = rewrite(&mut world, 50);
        assert!(done.disk_bytes > 0 && !done.is_damaged);
        assert_eq!((done.expired, lost), (50, 50));
        assert_eq!(times, (50..100).collect::<Vec<_>>());
    }
}
