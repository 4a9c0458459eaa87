//! The keys of rows, blocks, chunks and the merge queue, and ranges of them. [`super::tables`]
//! lists the parts of each key.

use crate::store::layout::{
    series::SeriesId,
    tables::{
        BLOCK_KEY_BYTES, BlockKey, CHUNK_KEY_BYTES, ChunkKey, MERGE_KEY_BYTES, MergeKey,
        ROW_KEY_BYTES, RowKey,
    },
};
use std::ops::RangeInclusive;

/// The position of a record in reading order: its timestamp, then its sequence.
pub(crate) type Position = (i64, u64);

/// The lowest position.
pub(crate) const POSITION_MIN: Position = (i64::MIN, 0);
/// The highest position.
pub(crate) const POSITION_MAX: Position = (i64::MAX, u64::MAX);

/// The key of a row.
pub(crate) fn row_key(series: SeriesId, (timestamp, sequence): Position) -> RowKey {
    let mut key = [0; ROW_KEY_BYTES];
    put(
        &mut key,
        &[
            &series.0.to_be_bytes(),
            &ordered(timestamp),
            &sequence.to_be_bytes(),
        ],
    );
    key
}

/// The keys of all rows of a series.
pub(crate) fn row_range(series: SeriesId) -> RangeInclusive<RowKey> {
    row_key(series, POSITION_MIN)..=row_key(series, POSITION_MAX)
}

/// The position of the record in the key of a row.
pub(crate) fn row_position(key: &RowKey) -> Position {
    let [_, _, _, _, position @ ..] = key;
    position_of(position)
}

/// The series in the key of a row.
pub(crate) fn row_series(key: &RowKey) -> SeriesId {
    let [a, b, c, d, ..] = *key;
    SeriesId(u32::from_be_bytes([a, b, c, d]))
}

/// The key of a block of `span_class` whose last record has the position `last`.
pub(crate) fn block_key(
    series: SeriesId,
    span_class: u8,
    (timestamp, sequence): Position,
) -> BlockKey {
    let mut key = [0; BLOCK_KEY_BYTES];
    let parts: [&[u8]; 4] = [
        &series.0.to_be_bytes(),
        &[span_class],
        &ordered(timestamp),
        &sequence.to_be_bytes(),
    ];
    put(&mut key, &parts);
    key
}

/// The keys of all blocks of a series.
pub(crate) fn block_range(series: SeriesId) -> RangeInclusive<BlockKey> {
    block_key(series, 0, POSITION_MIN)..=block_key(series, u8::MAX, POSITION_MAX)
}

/// The keys of all blocks of one span class of a series.
pub(crate) fn class_range(series: SeriesId, span_class: u8) -> RangeInclusive<BlockKey> {
    block_key(series, span_class, POSITION_MIN)..=block_key(series, span_class, POSITION_MAX)
}

/// The position of the last record, from the key of a block.
pub(crate) fn block_position(key: &BlockKey) -> Position {
    let [_, _, _, _, _, position @ ..] = key;
    position_of(position)
}

/// The key of chunk `number` of the block at `key`.
pub(crate) fn chunk_key(key: &BlockKey, number: u16) -> ChunkKey {
    let mut out = [0; CHUNK_KEY_BYTES];
    put(&mut out, &[key, &number.to_be_bytes()]);
    out
}

/// The keys of all chunks of the block at `key`.
pub(crate) fn chunk_range(key: &BlockKey) -> RangeInclusive<ChunkKey> {
    chunk_key(key, 0)..=chunk_key(key, u16::MAX)
}

/// The keys of the chunks of all blocks of a series.
pub(crate) fn chunk_range_of_series(series: SeriesId) -> RangeInclusive<ChunkKey> {
    let blocks = block_range(series);
    chunk_key(blocks.start(), 0)..=chunk_key(blocks.end(), u16::MAX)
}

/// The key in the merge queue of the block at `key`, which has the level `merge_level`.
pub(crate) fn merge_key(key: &BlockKey, merge_level: u8) -> MergeKey {
    let [a, b, c, d, span_class, position @ ..] = key;
    let mut out = [0; MERGE_KEY_BYTES];
    put(
        &mut out,
        &[&[*a, *b, *c, *d], &[merge_level], position, &[*span_class]],
    );
    out
}

/// The keys in the merge queue of a series' blocks of one merge level.
pub(crate) fn merge_range(series: SeriesId, merge_level: u8) -> RangeInclusive<MergeKey> {
    let end =
        |span_class, position| merge_key(&block_key(series, span_class, position), merge_level);
    end(0, POSITION_MIN)..=end(u8::MAX, POSITION_MAX)
}

/// The keys in the merge queue of all blocks of a series.
pub(crate) fn merge_range_of_series(series: SeriesId) -> RangeInclusive<MergeKey> {
    *merge_range(series, 0).start()..=*merge_range(series, u8::MAX).end()
}

/// The key of the block that has the key `key` in the merge queue.
pub(crate) fn block_of_merge_key(key: &MergeKey) -> BlockKey {
    let [a, b, c, d, _, position @ .., span_class] = key;
    let mut out = [0; BLOCK_KEY_BYTES];
    put(&mut out, &[&[*a, *b, *c, *d], &[*span_class], position]);
    out
}

/// Encodes a timestamp as bytes in the same order.
fn ordered(timestamp: i64) -> [u8; 8] {
    (timestamp.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

fn position_of(bytes: &[u8; 16]) -> Position {
    let both = u128::from_be_bytes(*bytes);
    let high = u64::try_from(both >> 64).unwrap_or_default();
    let low = u64::try_from(both & u128::from(u64::MAX)).unwrap_or_default();
    ((high ^ (1 << 63)).cast_signed(), low)
}

fn put(key: &mut [u8], parts: &[&[u8]]) {
    let mut rest = key;
    for part in parts {
        let (front, after) = rest.split_at_mut(part.len());
        front.copy_from_slice(part);
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_sort_as_positions_do(a: (i64, u64), b: (i64, u64)) {
            let series = SeriesId(7);
            prop_assert_eq!(row_key(series, a).cmp(&row_key(series, b)), a.cmp(&b));
            prop_assert_eq!(block_key(series, 9, a).cmp(&block_key(series, 9, b)), a.cmp(&b));
            prop_assert_eq!(row_position(&row_key(series, a)), a);
            prop_assert_eq!(row_series(&row_key(series, a)), series);
            let block = block_key(series, 9, a);
            prop_assert_eq!(block_position(&block), a);
            prop_assert_eq!(block_of_merge_key(&merge_key(&block, 3)), block);
            prop_assert!(merge_range(series, 3).contains(&merge_key(&block, 3)));
        }
    }
}
