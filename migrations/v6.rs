//! Version 6: blocks of packed columns, of up to 8,192 records.

use super::Migration;
use crate::store::engine::fault::Fault;
use redb::{ReadableTable, TableDefinition, Value, WriteTransaction};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Lists the blocks to merge again: blocks are full at twice as many records, so a block of fewer than
/// 4,096 is not, and its level is another. The blocks stay as they are. Their columns are packed closer when
/// they are merged. Programs before this version do not know such columns, and refuse the database.
pub(super) const MIGRATION: Migration = Migration {
    description: "list the blocks that are not full",
    apply,
};

const SERIES: TableDefinition<'_, (&str, u8), &[u8]> = TableDefinition::new("series");
const HEADERS: TableDefinition<'_, &[u8; 21], &[u8; 58]> = TableDefinition::new("headers");
const SMALL: TableDefinition<'_, &[u8; 22], ()> = TableDefinition::new("small");

/// id, records in blocks, their bytes, blocks by class, disk space of the blocks, blocks by merge level,
/// rows.
type Series = (u32, u64, u64, Vec<(u8, u64)>, u64, Vec<(u8, u64)>, u64);

fn apply(transaction: &WriteTransaction) -> Result<(), Fault> {
    let headers = transaction.open_table(HEADERS)?;
    let mut small = transaction.open_table(SMALL)?;
    let mut series = transaction.open_table(SERIES)?;
    small.retain(|_, ()| false)?;
    let mut states = Vec::new();
    for entry in series.iter()? {
        let (key, value) = entry?;
        let (server, signal) = key.value();
        // What is damaged stays as it is: it must not prevent opening the database.
        let state = unchecked(&<(&str, u8)>::as_bytes(&(server, signal)), value.value())
            .and_then(|state| rmp_serde::from_slice::<Series>(state).ok());
        states.extend(state.map(|state| (server.to_owned(), signal, state)));
    }
    for (server, signal, mut state) in states {
        let mut levels: Vec<(u8, u64)> = Vec::new();
        let (mut first, mut last) = ([0; 21], [u8::MAX; 21]);
        for end in [&mut first, &mut last] {
            for (to, byte) in end.iter_mut().zip(state.0.to_be_bytes()) {
                *to = byte;
            }
        }
        for entry in headers.range::<&[u8; 21]>(&first..=&last)? {
            let (key, header) = entry?;
            let Some(header) = unchecked(key.value(), header.value()) else {
                continue;
            };
            let (count, payload_bytes) = sizes(header);
            let Some(level) = level(u64::from(count), u64::from(payload_bytes)) else {
                continue;
            };
            small.insert(&small_key(key.value(), level), ())?;
            match levels.iter_mut().find(|(other, _)| *other == level) {
                Some((_, count)) => *count += 1,
                None => levels.push((level, 1)),
            }
        }
        levels.sort_unstable();
        state.5 = levels;
        let key = (server.as_str(), signal);
        let mut state = rmp_serde::to_vec(&state)
            .map_err(|error| Fault::Corrupt(format!("a series' state does not encode: {error}")))?;
        state.extend(checksum(&<(&str, u8)>::as_bytes(&key), &state));
        series.insert(key, state.as_slice())?;
    }
    Ok(())
}

/// The value before a checksum; `None` when it is damaged.
fn unchecked<'v>(key: &[u8], stored: &'v [u8]) -> Option<&'v [u8]> {
    let (value, found) = stored.split_last_chunk()?;
    (*found == checksum(key, value)).then_some(value)
}

fn checksum(key: &[u8], value: &[u8]) -> [u8; 4] {
    let [a, b, c, d, ..] = xxh3_64_with_seed(key, xxh3_64(value)).to_le_bytes();
    [a, b, c, d]
}

/// The numbers of records and of payload bytes in a header.
fn sizes(header: &[u8]) -> (u32, u32) {
    let number = |at: usize| {
        let bytes = header.iter().skip(at).take(4).rev();
        bytes.fold(0, |number, byte| number << 8 | u32::from(*byte))
    };
    (number(2), number(38))
}

/// How far from full a block is, in powers of four; `None` from half full on.
fn level(count: u64, payload_bytes: u64) -> Option<u8> {
    let fullness = count.max(8192 * payload_bytes / (2 << 20));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::layout::{
        block::{BlockEncoder, BlockRecord},
        keys,
        series::SeriesId,
    };

    /// It lists blocks as the store does.
    #[test]
    fn lists_as_the_store_does() {
        for (count, length) in [
            (1, 10),
            (9, 2),
            (90, 700),
            (2048, 1),
            (4095, 1),
            (4096, 1),
            (8192, 1),
            (2, 600_000),
        ] {
            let payloads = vec![vec![0xc1; length]; count];
            let records = BlockRecord::numbered(&payloads);
            let signal = crate::signal::Signal::Logs;
            let header = BlockEncoder::new().encode(signal, &records).header;
            let (found, payload_bytes) = sizes(&header.to_bytes());
            assert_eq!((found, payload_bytes), (header.count, header.payload_bytes));
            assert_eq!(
                level(found.into(), payload_bytes.into()),
                header.merge_level()
            );
            let key = keys::block_key(SeriesId(7), 9, (-5, 6));
            assert_eq!(small_key(&key, 3), keys::merge_key(&key, 3));
        }
    }
}
