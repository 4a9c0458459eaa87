//! The tables of a database, their keys and their values.
//!
//! ```text
//! meta     name                                    -> number       schema version, counters
//! series   (server, signal)                        -> SeriesState  one entry a (server, signal)
//! rows     (series, timestamp, sequence)           -> payload      what is fresh
//! blocks   (series, class, last, sequence of last) -> BlockHeader  what has settled
//! pieces   (block's key, number)                   -> bytes        the bodies of blocks
//! small    (series, level, last, sequence, class)  -> nothing      blocks that are to be merged
//! wipes    (server or "", signal or 255)           -> WipeMark     see `wipe`
//! limits   server or ""                            -> SeriesLimits see `limits`
//! losses   (minute, server, signal, cause)         -> Range        see `losses`
//! retired  (server, signal)                        -> Range        what retention took, see `losses`
//! writers  number                                  -> Process      see `losses`
//! ```
//!
//! Keys are big-endian with the sign bit of timestamps flipped, so that their byte order is the
//! order in time. A block's class says how long a time it spans (see
//! [`crate::store::layout::block::BlockHeader::span_class`]): a reader that wants the blocks which reach into a
//! range reads, for each class, exactly the keys within one span of that range, and neither more
//! when history grows nor fewer when records came late.
//!
//! A record is in `rows` or in exactly one block, never in both: every change of tier is one
//! transaction. Its sequence, given out in the order of commits, is the same in both, which is why
//! a cursor survives sealing.

use crate::{
    signal::Signal,
    store::{
        Fault,
        layout::block::{BlockHeader, HEADER_BYTES},
    },
};
use redb::TableDefinition;
use serde::{Deserialize, Serialize};

/// Counters by name, see [`meta`].
pub(crate) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// What is known of each series; the key's second half is the signal's code.
pub(crate) const SERIES: TableDefinition<'_, (&str, u8), &[u8]> = TableDefinition::new("series");
/// Payloads of fresh records.
pub(crate) const ROWS: TableDefinition<'_, &[u8; ROW_KEY_BYTES], &[u8]> =
    TableDefinition::new("rows");
/// Headers of blocks.
pub(crate) const BLOCKS: TableDefinition<'_, &[u8; BLOCK_KEY_BYTES], &[u8; HEADER_BYTES]> =
    TableDefinition::new("blocks");
/// Bodies of blocks, cut to the size of pages.
pub(crate) const PIECES: TableDefinition<'_, &[u8; PIECE_KEY_BYTES], &[u8]> =
    TableDefinition::new("pieces");
/// The blocks that are not full, by how full they are: see [`crate::store::maintain::merge`].
pub(crate) const SMALL: TableDefinition<'_, &[u8; SMALL_KEY_BYTES], ()> =
    TableDefinition::new("small");
/// The newest wipe of each scope.
pub(crate) const WIPES: TableDefinition<'_, (&str, u8), &[u8]> = TableDefinition::new("wipes");

/// The entries of [`META`].
pub(crate) mod meta {
    /// The version of the layout, see `migrations/`.
    pub(crate) const SCHEMA_VERSION: &str = "schema_version";
    /// The sequence that the next record gets.
    pub(crate) const NEXT_SEQUENCE: &str = "next_sequence";
    /// The id that the next series gets. Ids are never used twice.
    pub(crate) const NEXT_SERIES: &str = "next_series";
    /// When a writer committed last, in nanoseconds since the epoch.
    pub(crate) const LAST_COMMIT: &str = "last_commit";
    /// The number that the next writer gets.
    pub(crate) const NEXT_WRITER: &str = "next_writer";
    /// How many wipes there were.
    pub(crate) const WIPE_GENERATION: &str = "wipe_generation";
    /// What the blocks of all series take of the disk, see [`super::disk_bytes`].
    pub(crate) const BLOCK_DISK_BYTES: &str = "block_disk_bytes";
}

/// The length of a key of [`ROWS`].
pub(crate) const ROW_KEY_BYTES: usize = 4 + 8 + 8;
/// The length of a key of [`BLOCKS`].
pub(crate) const BLOCK_KEY_BYTES: usize = 4 + 1 + 8 + 8;
/// The length of a key of [`PIECES`].
pub(crate) const PIECE_KEY_BYTES: usize = BLOCK_KEY_BYTES + 2;
/// The length of a key of [`SMALL`].
pub(crate) const SMALL_KEY_BYTES: usize = 4 + 1 + 8 + 8 + 1;

/// What an entry takes in a leaf page beside its key and value: the page's header and the end of
/// the value (redb, `docs/design.md`, "Leaf page").
pub(crate) const LEAF_ENTRY_BYTES: usize = 4 + 4;
pub(crate) const PAGE_BYTES: usize = 4096;

/// The longest value of [`PIECES`] that fits into `pages` pages.
pub(crate) const fn piece_bytes(pages: usize) -> usize {
    pages * PAGE_BYTES - LEAF_ENTRY_BYTES - PIECE_KEY_BYTES
}

/// The number of a (server, signal) pair within one database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct SeriesId(pub(crate) u32);

/// A place in the order of records of all servers and one signal.
pub(crate) type Position = (i64, u64);

/// Everything about a series that does not follow from its rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SeriesState {
    pub(crate) id: SeriesId,
    /// How many records are in blocks.
    pub(crate) block_records: u64,
    /// What the blocks take: keys, headers and bodies.
    pub(crate) block_bytes: u64,
    /// How many blocks there are of each class, classes ascending.
    pub(crate) classes: Vec<(u8, u64)>,
    /// What the blocks take of the disk, see [`disk_bytes`].
    pub(crate) disk_bytes: u64,
    /// How many blocks there are of each level that is to be merged, levels ascending; see
    /// [`BlockHeader::level`].
    pub(crate) levels: Vec<(u8, u64)>,
}

impl SeriesState {
    pub(crate) fn new(id: SeriesId) -> SeriesState {
        SeriesState {
            id,
            block_records: 0,
            block_bytes: 0,
            classes: Vec::new(),
            disk_bytes: 0,
            levels: Vec::new(),
        }
    }

    /// Accounts for a new block.
    pub(crate) fn add_block(&mut self, header: &BlockHeader) {
        self.block_records += u64::from(header.count);
        self.block_bytes += block_bytes(header);
        self.disk_bytes += disk_bytes(header);
        count_one(&mut self.classes, header.span_class());
        if let Some(level) = header.level() {
            count_one(&mut self.levels, level);
        }
    }

    /// Accounts for a block that is gone.
    pub(crate) fn remove_block(&mut self, header: &BlockHeader) {
        self.block_records = self.block_records.saturating_sub(u64::from(header.count));
        self.block_bytes = self.block_bytes.saturating_sub(block_bytes(header));
        self.disk_bytes = self.disk_bytes.saturating_sub(disk_bytes(header));
        discount_one(&mut self.classes, header.span_class());
        if let Some(level) = header.level() {
            discount_one(&mut self.levels, level);
        }
    }

    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, Fault> {
        rmp_serde::to_vec(self)
            .map_err(|error| Fault::Corrupt(format!("a series' state does not encode: {error}")))
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<SeriesState, Fault> {
        rmp_serde::from_slice(bytes)
            .map_err(|error| Fault::Corrupt(format!("a series' state does not decode: {error}")))
    }
}

/// Adds one to the count of `key` in a list that is sorted by keys.
fn count_one(counts: &mut Vec<(u8, u64)>, key: u8) {
    match counts.binary_search_by_key(&key, |(key, _)| *key) {
        Ok(at) => {
            if let Some((_, count)) = counts.get_mut(at) {
                *count += 1;
            }
        }
        Err(at) => counts.insert(at, (key, 1)),
    }
}

/// Takes one from the count of `key`, and the key from the list with the last one.
fn discount_one(counts: &mut Vec<(u8, u64)>, key: u8) {
    for (_, count) in counts.iter_mut().filter(|(other, _)| *other == key) {
        *count = count.saturating_sub(1);
    }
    counts.retain(|(_, count)| *count > 0);
}

/// What a block takes: keys, header and body.
pub(crate) fn block_bytes(header: &BlockHeader) -> u64 {
    (BLOCK_KEY_BYTES + HEADER_BYTES + PIECE_KEY_BYTES) as u64 + u64::from(header.body_bytes)
}

/// The length of the next piece of a body of which `rest` bytes are left: each fits whole pages.
/// redb gives a value of 9 KB four pages of 4 KB, and one of 8 KB two, so a tail is cut once more
/// where that saves a page.
pub(crate) const fn next_piece_bytes(rest: usize) -> usize {
    if rest >= piece_bytes(4) {
        piece_bytes(4)
    } else if rest > piece_bytes(2) && rest <= piece_bytes(2) + piece_bytes(1) {
        piece_bytes(2)
    } else {
        rest
    }
}

/// What a block takes of the disk: the pages of its pieces, each of which has its own, and its
/// share of those that several share. Within some percent of what redb allocates; pages are counted
/// with the block that has them because nothing else tells, short of reading all of them.
pub(crate) fn disk_bytes(header: &BlockHeader) -> u64 {
    // Its header's entry and its piece's in pages that are filled by two thirds, as those of trees
    // are to which is added at one end.
    let entry = |bytes: usize| (bytes + LEAF_ENTRY_BYTES) * 3 / 2;
    let branch = PIECE_KEY_BYTES + 16 + 8 + 4;
    let mut bytes = entry(BLOCK_KEY_BYTES + HEADER_BYTES);
    let mut rest = header.body_bytes as usize;
    while rest > 0 {
        let piece = next_piece_bytes(rest);
        let leaf = piece + PIECE_KEY_BYTES + LEAF_ENTRY_BYTES;
        bytes += if leaf * 2 > PAGE_BYTES {
            leaf.div_ceil(PAGE_BYTES).next_power_of_two() * PAGE_BYTES + branch * 3 / 2
        } else {
            entry(piece + PIECE_KEY_BYTES)
        };
        rest -= piece;
    }
    bytes as u64
}

/// Reads the signal of a key of [`SERIES`].
pub(crate) fn signal_of(code: u8) -> Result<Signal, Fault> {
    Signal::from_code(code)
        .ok_or_else(|| Fault::Corrupt(format!("a series has the unknown signal code {code}")))
}

/// The key of a row.
pub(crate) fn row_key(series: SeriesId, (timestamp, sequence): Position) -> [u8; ROW_KEY_BYTES] {
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

/// The timestamp and sequence in the key of a row.
pub(crate) fn row_position(key: &[u8; ROW_KEY_BYTES]) -> Position {
    let [_, _, _, _, position @ ..] = key;
    position_of(position)
}

/// The series in the key of a row.
pub(crate) fn row_series(key: &[u8; ROW_KEY_BYTES]) -> SeriesId {
    let [a, b, c, d, ..] = *key;
    SeriesId(u32::from_be_bytes([a, b, c, d]))
}

/// The key of a block of `class` whose last record stands at `last`.
pub(crate) fn block_key(
    series: SeriesId,
    class: u8,
    (timestamp, sequence): Position,
) -> [u8; BLOCK_KEY_BYTES] {
    let mut key = [0; BLOCK_KEY_BYTES];
    let parts: [&[u8]; 4] = [
        &series.0.to_be_bytes(),
        &[class],
        &ordered(timestamp),
        &sequence.to_be_bytes(),
    ];
    put(&mut key, &parts);
    key
}

/// The key in [`SMALL`] of the block at `key`, which is of `level`.
pub(crate) fn small_key(key: &[u8; BLOCK_KEY_BYTES], level: u8) -> [u8; SMALL_KEY_BYTES] {
    let [a, b, c, d, class, position @ ..] = key;
    let mut out = [0; SMALL_KEY_BYTES];
    put(
        &mut out,
        &[&[*a, *b, *c, *d], &[level], position, &[*class]],
    );
    out
}

/// The keys in [`SMALL`] of a series' blocks of `level`: the first and the last there can be.
pub(crate) fn small_range(
    series: SeriesId,
    level: u8,
) -> ([u8; SMALL_KEY_BYTES], [u8; SMALL_KEY_BYTES]) {
    let end = |class, position| small_key(&block_key(series, class, position), level);
    (end(0, (i64::MIN, 0)), end(u8::MAX, (i64::MAX, u64::MAX)))
}

/// The key of the block that stands in [`SMALL`] at `key`.
pub(crate) fn block_of_small(key: &[u8; SMALL_KEY_BYTES]) -> [u8; BLOCK_KEY_BYTES] {
    let [a, b, c, d, _, position @ .., class] = key;
    let mut out = [0; BLOCK_KEY_BYTES];
    put(&mut out, &[&[*a, *b, *c, *d], &[*class], position]);
    out
}

/// The position of the last record in the key of a block.
pub(crate) fn block_position(key: &[u8; BLOCK_KEY_BYTES]) -> Position {
    let [_, _, _, _, _, position @ ..] = key;
    position_of(position)
}

/// The key of piece `number` of the block at `key`.
pub(crate) fn piece_key(key: &[u8; BLOCK_KEY_BYTES], number: u16) -> [u8; PIECE_KEY_BYTES] {
    let mut out = [0; PIECE_KEY_BYTES];
    put(&mut out, &[key, &number.to_be_bytes()]);
    out
}

/// Bytes that sort as the timestamp does.
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
            prop_assert_eq!(block_of_small(&small_key(&block, 3)), block);
            let (first, last) = small_range(series, 3);
            prop_assert!((first..=last).contains(&small_key(&block, 3)));
        }
    }
}
