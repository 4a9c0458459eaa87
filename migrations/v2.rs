//! Version 2: limits, and the tables for eviction and merging.

use super::Migration;
use crate::store::engine::fault::Fault;
use redb::{ReadableTable, TableDefinition, WriteTransaction};

/// Creates the tables of limits, of evicted records and of blocks to merge, and counts the disk space
/// of the blocks. The tables of version 1 are written out here, see `v1`.
pub(super) const MIGRATION: Migration = Migration {
    description: "count the disk space of blocks",
    apply,
};

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const SERIES: TableDefinition<'_, (&str, u8), &[u8]> = TableDefinition::new("series");
const BLOCKS: TableDefinition<'_, &[u8; 21], &[u8; 54]> = TableDefinition::new("blocks");
const SMALL: TableDefinition<'_, &[u8; 22], ()> = TableDefinition::new("small");

/// id, records in blocks, their bytes, blocks by class.
type SeriesV1 = (u32, u64, u64, Vec<(u8, u64)>);
/// The same, disk space of the blocks, blocks by merge level.
type SeriesV2 = (u32, u64, u64, Vec<(u8, u64)>, u64, Vec<(u8, u64)>);

fn apply(transaction: &WriteTransaction) -> Result<(), Fault> {
    transaction.open_table(TableDefinition::<&str, &[u8]>::new("limits"))?;
    transaction.open_table(TableDefinition::<(&str, u8), &[u8]>::new("retired"))?;
    let blocks = transaction.open_table(BLOCKS)?;
    let mut small = transaction.open_table(SMALL)?;
    let mut series = transaction.open_table(SERIES)?;
    let mut states = Vec::new();
    for entry in series.iter()? {
        let (key, value) = entry?;
        let (server, signal) = key.value();
        let state: SeriesV1 = rmp_serde::from_slice(value.value())
            .map_err(|error| Fault::Corrupt(format!("a series' state does not decode: {error}")))?;
        states.push((server.to_owned(), signal, state));
    }
    let mut disk_bytes_of_all = 0;
    for (server, signal, (id, records, bytes, classes)) in states {
        let mut disk_bytes_of_series = 0;
        let mut levels: Vec<(u8, u64)> = Vec::new();
        let mut first = [0; 21];
        let mut last = [u8::MAX; 21];
        for (end, byte) in [&mut first, &mut last]
            .into_iter()
            .flat_map(|end| end.iter_mut().zip(id.to_be_bytes()))
        {
            *end = byte;
        }
        for entry in blocks.range::<&[u8; 21]>(&first..=&last)? {
            let (key, header) = entry?;
            let (count, payload_bytes, body_bytes) = sizes(header.value());
            disk_bytes_of_series += disk_bytes(u64::from(body_bytes));
            if let Some(level) = level(u64::from(count), u64::from(payload_bytes)) {
                small.insert(&small_key(key.value(), level), ())?;
                match levels.iter_mut().find(|(other, _)| *other == level) {
                    Some((_, count)) => *count += 1,
                    None => levels.push((level, 1)),
                }
            }
        }
        levels.sort_unstable();
        disk_bytes_of_all += disk_bytes_of_series;
        let state: SeriesV2 = (id, records, bytes, classes, disk_bytes_of_series, levels);
        let state = rmp_serde::to_vec(&state)
            .map_err(|error| Fault::Corrupt(format!("a series' state does not encode: {error}")))?;
        series.insert((server.as_str(), signal), state.as_slice())?;
    }
    transaction
        .open_table(META)?
        .insert("block_disk_bytes", disk_bytes_of_all)?;
    Ok(())
}

/// The numbers of records, of payload bytes and of body bytes in a header.
fn sizes(header: &[u8; 54]) -> (u32, u32, u32) {
    let [_, _, count @ .., _, _, _, _, _, _, _, _] = header;
    let (count, rest) = count.split_at(4);
    let (_, sizes) = rest.split_at(32);
    let (payload, body) = sizes.split_at(4);
    let number = |bytes: &[u8]| {
        bytes
            .iter()
            .rev()
            .fold(0, |number, byte| number << 8 | u32::from(*byte))
    };
    (number(count), number(payload), number(body))
}

/// How far from full a block is, in powers of four; `None` from half full on.
fn level(count: u64, payload_bytes: u64) -> Option<u8> {
    let fullness = (8192 * count / 4096).max(8192 * payload_bytes / (2 << 20));
    let bounds = [4096, 1024, 256, 64, 16, 4];
    let level = (0..6)
        .zip(bounds)
        .find(|(_, bound)| fullness >= *bound)
        .map_or(6, |(level, _)| level);
    (level > 0).then_some(level)
}

/// series, class, position -> series, level, position, class
fn small_key(key: &[u8; 21], level: u8) -> [u8; 22] {
    let [a, b, c, d, class, position @ ..] = key;
    let mut out = [0; 22];
    let bytes = [*a, *b, *c, *d, level]
        .into_iter()
        .chain(*position)
        .chain([*class]);
    for (to, byte) in out.iter_mut().zip(bytes) {
        *to = byte;
    }
    out
}

/// The disk space of a block with a body of this many bytes, with its entries, in bytes.
fn disk_bytes(body_bytes: u64) -> u64 {
    let entry = |bytes: u64| (bytes + 8) * 3 / 2;
    let mut bytes = entry(21 + 54);
    let mut rest = body_bytes;
    while rest > 0 {
        let piece = match rest {
            16_353.. => 16_353,
            8_162..=12_226 => 8_161,
            tail => tail,
        };
        let leaf = piece + 23 + 8;
        bytes += if leaf * 2 > 4096 {
            leaf.div_ceil(4096).next_power_of_two() * 4096 + (23 + 16 + 8 + 4) * 3 / 2
        } else {
            entry(piece + 23)
        };
        rest -= piece;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::layout::{
        block::{BlockEncoder, BlockRecord},
        footprint, keys,
        series::SeriesId,
    };

    /// It counts as the store does, which lists blocks by another level since version 6.
    #[test]
    fn counts_as_the_store_does() {
        for (count, length) in [
            (1, 10),
            (3, 20_000),
            (90, 700),
            (1000, 30),
            (4096, 1),
            (2, 3_000_000),
            (700, 70),
        ] {
            let mut noise = 1u64;
            let payloads: Vec<Vec<u8>> = (0..count)
                .map(|_| {
                    std::iter::repeat_with(|| {
                        noise = noise
                            .wrapping_mul(6_364_136_223_846_793_005)
                            .wrapping_add(1);
                        noise.to_le_bytes()[7]
                    })
                    .take(length)
                    .collect()
                })
                .collect();
            let records = BlockRecord::numbered(&payloads);
            let signal = crate::signal::Signal::Logs;
            let header = BlockEncoder::new().encode(signal, &records).header;
            let (found, payload_bytes, body_bytes) = sizes(&header.to_bytes());
            assert_eq!(
                (found, payload_bytes, body_bytes),
                (header.count, header.payload_bytes, header.body_bytes)
            );
            assert_eq!(
                disk_bytes(body_bytes.into()),
                footprint::block_disk_bytes(&header)
            );
            let key = keys::block_key(SeriesId(7), 9, (-5, 6));
            assert_eq!(small_key(&key, 3), keys::merge_key(&key, 3));
        }
    }
}
