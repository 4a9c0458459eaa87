//! Version 3: the newest totals of each server, which no limit deletes.

use super::Migration;
use crate::{
    otlp::foreign::is_foreign,
    record::{MetricsSnapshot, Totals},
    signal::Signal,
    store::{
        engine::fault::Fault,
        layout::block::{BlockHeader, DecodedBlock},
    },
    time::Timestamp,
};
use redb::{ReadableTable, TableDefinition, WriteTransaction};

/// Creates the table of totals, and fills it from the stored snapshots in the order of their
/// sequences. Skips damaged blocks, because they must not prevent opening the database. They stay as
/// they are, so that their records may be recovered by hand.
pub(super) const MIGRATION: Migration = Migration {
    description: "keep the totals of each server",
    apply,
};

const SERIES: TableDefinition<'_, (&str, u8), &[u8]> = TableDefinition::new("series");
const ROWS: TableDefinition<'_, &[u8; 20], &[u8]> = TableDefinition::new("rows");
const BLOCKS: TableDefinition<'_, &[u8; 21], &[u8; 54]> = TableDefinition::new("blocks");
const PIECES: TableDefinition<'_, &[u8; 23], &[u8]> = TableDefinition::new("pieces");
const TOTALS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("totals");

/// id, records in blocks, their bytes, blocks by class, disk space of the blocks, blocks by merge
/// level.
type SeriesV2 = (u32, u64, u64, Vec<(u8, u64)>, u64, Vec<(u8, u64)>);

fn apply(transaction: &WriteTransaction) -> Result<(), Fault> {
    let mut table = transaction.open_table(TOTALS)?;
    for entry in transaction.open_table(SERIES)?.iter()? {
        let (key, state) = entry?;
        let (server, signal) = key.value();
        if signal != Signal::Metrics as u8 {
            continue;
        }
        let (id, ..): SeriesV2 = rmp_serde::from_slice(state.value())
            .map_err(|error| Fault::Corrupt(format!("a series' state does not decode: {error}")))?;
        let mut snapshots = snapshots(transaction, id)?;
        snapshots.sort_unstable_by_key(|(sequence, _)| *sequence);
        let mut totals = None;
        for (_, snapshot) in &snapshots {
            Totals::advance(&mut totals, snapshot);
        }
        if let Some(totals) = totals {
            let bytes = rmp_serde::to_vec(&totals)
                .map_err(|error| Fault::Corrupt(format!("totals do not encode: {error}")))?;
            table.insert(server, bytes.as_slice())?;
        }
    }
    Ok(())
}

/// The snapshots of a series, with their sequences.
fn snapshots(
    transaction: &WriteTransaction,
    series: u32,
) -> Result<Vec<(u64, MetricsSnapshot)>, Fault> {
    let mut found = Vec::new();
    let mut add = |timestamp, sequence, payload: &[u8]| {
        let timestamp = Timestamp::from_unix_nanos(timestamp);
        let snapshot = MetricsSnapshot::decode_payload(timestamp, payload).ok();
        found.extend(
            snapshot
                .filter(|snapshot| !is_foreign(snapshot))
                .map(|snapshot| (sequence, snapshot)),
        );
    };
    let rows = transaction.open_table(ROWS)?;
    let (first, last) = (starting_with(series, 0), starting_with(series, u8::MAX));
    for row in rows.range::<&[u8; 20]>(&first..=&last)? {
        let (key, payload) = row?;
        let (timestamp, sequence) = position(key.value());
        add(timestamp, sequence, payload.value());
    }
    let pieces = transaction.open_table(PIECES)?;
    let blocks = transaction.open_table(BLOCKS)?;
    let (first, last) = (starting_with(series, 0), starting_with(series, u8::MAX));
    for block in blocks.range::<&[u8; 21]>(&first..=&last)? {
        let (key, header) = block?;
        let mut body = Vec::new();
        let (mut first, mut last) = ([0; 23], [u8::MAX; 23]);
        for end in [&mut first, &mut last] {
            for (to, byte) in end.iter_mut().zip(key.value()) {
                *to = *byte;
            }
        }
        for piece in pieces.range::<&[u8; 23]>(&first..=&last)? {
            body.extend_from_slice(piece?.1.value());
        }
        let decoded = BlockHeader::from_bytes(header.value())
            .and_then(|header| DecodedBlock::decode(&header, &body));
        for record in decoded.iter().flat_map(DecodedBlock::records) {
            add(record.timestamp, record.sequence, record.payload);
        }
    }
    Ok(found)
}

/// A key that begins with the number of a series, and repeats `byte` after it.
fn starting_with<const N: usize>(series: u32, byte: u8) -> [u8; N] {
    let mut key = [byte; N];
    for (to, byte) in key.iter_mut().zip(series.to_be_bytes()) {
        *to = byte;
    }
    key
}

/// The timestamp and the sequence at the end of a row's key.
fn position(key: &[u8; 20]) -> (i64, u64) {
    let number = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte))
    };
    let [_, _, _, _, position @ ..] = key;
    let (timestamp, sequence) = position.split_at(8);
    (
        (number(timestamp) ^ (1 << 63)).cast_signed(),
        number(sequence),
    )
}
