//! Version 5: checksums of rows and of everything else that is not in the body of a block.

use super::Migration;
use crate::store::engine::fault::Fault;
use redb::{Key, ReadableTable, TableDefinition, Value, WriteTransaction};
use std::collections::HashMap;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Appends a checksum to each value, counts the rows of each series in its state, and creates the table
/// of known damage. Rows are few, because they are sealed into blocks, whose bodies have checksums
/// already; only their headers are copied to a table whose values are four bytes longer.
pub(super) const MIGRATION: Migration = Migration {
    description: "add checksums to rows",
    apply,
};

const SERIES: TableDefinition<'_, (&str, u8), &[u8]> = TableDefinition::new("series");
const ROWS: TableDefinition<'_, &[u8; 20], &[u8]> = TableDefinition::new("rows");
const BLOCKS: TableDefinition<'_, &[u8; 21], &[u8; 54]> = TableDefinition::new("blocks");
const HEADERS: TableDefinition<'_, &[u8; 21], &[u8; 58]> = TableDefinition::new("headers");
const WIPES: TableDefinition<'_, (&str, u8), &[u8]> = TableDefinition::new("wipes");
const TOTALS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("totals");
const LIMITS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("limits");
const LOSSES: TableDefinition<'_, (i64, &str, u8, u8), &[u8]> = TableDefinition::new("losses");
const RETIRED: TableDefinition<'_, (&str, u8), &[u8]> = TableDefinition::new("retired");
const DAMAGE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("damage");

/// id, records in blocks, their bytes, blocks by class, disk space of the blocks, blocks by merge
/// level.
type SeriesV2 = (u32, u64, u64, Vec<(u8, u64)>, u64, Vec<(u8, u64)>);
/// The same, and the number of rows.
type SeriesV5 = (u32, u64, u64, Vec<(u8, u64)>, u64, Vec<(u8, u64)>, u64);

/// The number of rows that are in memory at a time.
const ROWS_AT_ONCE: usize = 4096;

fn apply(transaction: &WriteTransaction) -> Result<(), Fault> {
    let rows = check_rows(transaction)?;
    count_rows(transaction, &rows)?;
    check_headers(transaction)?;
    let (mut wipes, mut retired) = (
        transaction.open_table(WIPES)?,
        transaction.open_table(RETIRED)?,
    );
    for table in [&mut wipes, &mut retired] {
        let entries = entries(table, |(server, signal)| (server.to_owned(), signal))?;
        for ((server, signal), value) in entries {
            table.insert((server.as_str(), signal), value.as_slice())?;
        }
    }
    let (mut totals, mut limits) = (
        transaction.open_table(TOTALS)?,
        transaction.open_table(LIMITS)?,
    );
    for table in [&mut totals, &mut limits] {
        for (server, value) in entries(table, str::to_owned)? {
            table.insert(server.as_str(), value.as_slice())?;
        }
    }
    let mut losses = transaction.open_table(LOSSES)?;
    let all = entries(&losses, |(minute, server, signal, cause)| {
        (minute, server.to_owned(), signal, cause)
    })?;
    for ((minute, server, signal, cause), value) in all {
        losses.insert((minute, server.as_str(), signal, cause), value.as_slice())?;
    }
    transaction.open_table(DAMAGE)?;
    Ok(())
}

/// Appends checksums to all rows. Returns the number of rows of each series.
fn check_rows(transaction: &WriteTransaction) -> Result<HashMap<u32, u64>, Fault> {
    let mut rows = transaction.open_table(ROWS)?;
    let mut counts = HashMap::new();
    let mut next = Some([0; 20]);
    while let Some(from) = next.take() {
        let mut batch = Vec::new();
        for row in rows.range::<&[u8; 20]>(&from..)? {
            let (key, payload) = row?;
            if batch.len() >= ROWS_AT_ONCE {
                next = Some(*key.value());
                break;
            }
            batch.push((*key.value(), with_checksum(key.value(), payload.value())));
        }
        for (key, value) in batch {
            let [a, b, c, d, ..] = key;
            *counts.entry(u32::from_be_bytes([a, b, c, d])).or_default() += 1;
            rows.insert(&key, value.as_slice())?;
        }
    }
    Ok(counts)
}

/// Adds the number of rows and a checksum to the state of each series.
fn count_rows(transaction: &WriteTransaction, rows: &HashMap<u32, u64>) -> Result<(), Fault> {
    let mut series = transaction.open_table(SERIES)?;
    let mut states = Vec::new();
    for entry in series.iter()? {
        let (key, value) = entry?;
        let (server, signal) = key.value();
        let (id, records, bytes, classes, disk_bytes, levels): SeriesV2 =
            rmp_serde::from_slice(value.value()).map_err(|error| {
                Fault::Corrupt(format!("a series' state does not decode: {error}"))
            })?;
        let rows = rows.get(&id).copied().unwrap_or(0);
        let state: SeriesV5 = (id, records, bytes, classes, disk_bytes, levels, rows);
        states.push((server.to_owned(), signal, state));
    }
    for (server, signal, state) in states {
        let key = (server.as_str(), signal);
        let state = rmp_serde::to_vec(&state)
            .map_err(|error| Fault::Corrupt(format!("a series' state does not encode: {error}")))?;
        let value = with_checksum(&<(&str, u8)>::as_bytes(&key), &state);
        series.insert(key, value.as_slice())?;
    }
    Ok(())
}

/// Copies the headers of blocks to a table in which they have checksums.
fn check_headers(transaction: &WriteTransaction) -> Result<(), Fault> {
    {
        let blocks = transaction.open_table(BLOCKS)?;
        let mut headers = transaction.open_table(HEADERS)?;
        for block in blocks.iter()? {
            let (key, header) = block?;
            let checked: Result<[u8; 58], _> =
                with_checksum(key.value(), header.value()).try_into();
            if let Ok(checked) = checked {
                headers.insert(key.value(), &checked)?;
            }
        }
    }
    transaction.delete_table(BLOCKS)?;
    Ok(())
}

/// The entries of a table, their values with checksums.
fn entries<K: Key + 'static, T>(
    table: &impl ReadableTable<K, &'static [u8]>,
    own: impl Fn(K::SelfType<'_>) -> T,
) -> Result<Vec<(T, Vec<u8>)>, Fault> {
    let mut entries = Vec::new();
    for entry in table.iter()? {
        let (key, value) = entry?;
        let key = key.value();
        let value = with_checksum(K::as_bytes(&key).as_ref(), value.value());
        entries.push((own(key), value));
    }
    Ok(entries)
}

fn with_checksum(key: &[u8], value: &[u8]) -> Vec<u8> {
    let checksum = xxh3_64_with_seed(key, xxh3_64(value));
    let mut out = value.to_vec();
    out.extend(checksum.to_le_bytes().into_iter().take(4));
    out
}
