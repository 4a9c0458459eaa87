//! Wiping: deleting records at once and for good.
//!
//! A wipe leaves a mark in the database, so that covered records in the queue of a writer are not
//! stored later: see [`wipes`].

use crate::{
    signal::Signal,
    store::{
        engine::{fault::Fault, transaction::WriteTransaction},
        layout::{
            block::{BlockEncoder, BlockRecord, DecodedBlock},
            series::{self, SeriesId, SeriesState, put_series_state},
            tables::{LIMITS, META, SERIES},
        },
        ledger::{
            totals,
            wipes::{self, WipeScope},
        },
        maintain::merge,
        policy::limits::Limits,
        tiers::{blocks, blocks::BlockLimits, rows},
    },
};
use redb::ReadableTable;
use std::collections::BTreeSet;

/// Deletes the records and totals that `scope` covers. Returns the number of series that had any.
pub(crate) fn wipe(transaction: &WriteTransaction, scope: &WipeScope) -> Result<usize, Fault> {
    let mut matching = Vec::new();
    let (mut known, mut damaged) = (BTreeSet::new(), Vec::new());
    for entry in transaction.open_table(SERIES)?.iter()? {
        let (key, value) = entry?;
        let (server, code) = key.value();
        let covered = Signal::from_code(code).is_none_or(|signal| scope.covers(server, signal));
        match series::read_state((server, code), value.value()) {
            Ok(state) => {
                known.insert(state.id);
                if covered {
                    matching.push((server.to_owned(), code, state));
                }
            }
            Err(_) if covered => damaged.push((server.to_owned(), code)),
            Err(_) => {}
        }
    }
    if !damaged.is_empty() {
        delete_unknown(transaction, &known)?;
        for (server, code) in &damaged {
            forget(transaction, server, *code)?;
        }
    }
    let wiped = match scope.before {
        None => {
            for (server, code, state) in &matching {
                delete_all(transaction, state)?;
                forget(transaction, server, *code)?;
            }
            matching.len()
        }
        Some(before) => wipe_before(transaction, matching.clone(), before.unix_nanos())?,
    };
    // Totals outlive their records, so a server may have totals without a series.
    let is_matching = |server: &String| {
        let of_metrics =
            |(name, code, _): &(String, u8, _)| name == server && *code == Signal::Metrics as u8;
        matching.iter().any(of_metrics)
    };
    let of_totals_alone = totals::wipe(transaction, scope)?;
    let of_totals_alone = of_totals_alone.iter().filter(|it| !is_matching(it)).count();
    wipes::mark(transaction, scope)?;
    Ok(wiped + damaged.len() + of_totals_alone)
}

/// Deletes the records of all series that are not in `known`: no reader finds them, because the entry of
/// their series is damaged, and a wipe must not leave any.
fn delete_unknown(transaction: &WriteTransaction, known: &BTreeSet<SeriesId>) -> Result<(), Fault> {
    let mut from = 0;
    for id in known.iter().map(|id| id.0) {
        rows::remove_between(transaction, from, id)?;
        blocks::change(transaction, |blocks| blocks.remove_between(from, id))?;
        from = id.saturating_add(1);
    }
    rows::remove_between(transaction, from, u32::MAX)?;
    blocks::change(transaction, |blocks| blocks.remove_between(from, u32::MAX))
}

fn delete_all(transaction: &WriteTransaction, state: &SeriesState) -> Result<(), Fault> {
    rows::remove_all(transaction, state.id)?;
    blocks::change(transaction, |blocks| blocks.remove_all(state))
}

/// Removes a series that has no records.
fn forget(transaction: &WriteTransaction, server: &str, code: u8) -> Result<(), Fault> {
    transaction.open_table(SERIES)?.remove((server, code))?;
    Ok(())
}

/// Deletes the records before `before`. Returns the number of series that had any.
fn wipe_before(
    transaction: &WriteTransaction,
    matching: Vec<(String, u8, SeriesState)>,
    before: i64,
) -> Result<usize, Fault> {
    let (limits, _) = Limits::read(
        &*transaction.open_table(LIMITS)?,
        &*transaction.open_table(META)?,
    )?;
    let mut encoder = BlockEncoder::new();
    let mut wiped = 0;
    for (server, code, mut state) in matching {
        let limits = merge::block_limits(&limits, &server);
        let signal = series::signal_of(code)?;
        let rows = rows::remove_before(transaction, state.id, before)?;
        let blocks = cut_blocks(
            transaction,
            &mut state,
            signal,
            &mut encoder,
            limits,
            before,
        )?;
        if !rows && blocks == 0 {
            continue;
        }
        wiped += 1;
        state.rows = rows::count(transaction, state.id)?.records;
        if state.is_empty() {
            forget(transaction, &server, code)?;
        } else {
            put_series_state(transaction, &server, signal, &state)?;
        }
    }
    Ok(wiped)
}

/// Deletes the blocks that end before `before`, and rewrites those that only begin before it. Returns
/// the number of these blocks.
fn cut_blocks(
    transaction: &WriteTransaction,
    state: &mut SeriesState,
    signal: Signal,
    encoder: &mut BlockEncoder,
    limits: BlockLimits,
    before: i64,
) -> Result<usize, Fault> {
    blocks::change(transaction, |blocks| {
        let whole = blocks.before(state, before, usize::MAX)?;
        for (key, header) in &whole {
            blocks.remove(state, key, header)?;
        }
        let across = blocks.across(state, before)?;
        for (key, header) in &across {
            let block = match blocks.load(key, header) {
                Ok(block) => Some(block),
                // No reader gets a record of a damaged block, and older ones must not be left in it.
                Err(Fault::Corrupt(_)) => None,
                Err(error) => return Err(error),
            };
            // First, because the new block has the key of the old one.
            blocks.remove(state, key, header)?;
            let records = block.iter().flat_map(DecodedBlock::records);
            let kept: Vec<BlockRecord<'_>> = records
                .filter(|record| record.timestamp >= before)
                .collect();
            blocks.write(state, signal, &kept, encoder, limits)?;
        }
        Ok(whole.len() + across.len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ingest::{Writer, WriterOptions},
        read::Query,
        record::{Level, LogRecord, ServerName},
        store::{Store, StoreOptions, layout::tables::BLOCK_CHUNKS},
        time::Timestamp,
    };

    #[test]
    fn a_damaged_block_that_may_hold_older_records_is_deleted() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path(), "stack", StoreOptions::default()).unwrap();
        let options = WriterOptions::default().tiering(8, 8, 8);
        let (writer, guard) = Writer::start(&store, options).unwrap();
        let time = Timestamp::from_unix_nanos;
        // Two blocks.
        for start in [0, 100] {
            for nanos in start..start + 8 {
                let record = LogRecord::new(time(nanos), Level::INFO, "a record");
                writer.log(&ServerName::new("a").unwrap(), &record).unwrap();
            }
            writer.flush().unwrap();
        }
        guard.close().unwrap();
        let damage = |transaction: &WriteTransaction| {
            let mut chunks = transaction.open_table(BLOCK_CHUNKS)?;
            let key = *chunks.first()?.unwrap().0.value();
            chunks.insert(&key, b"not this block".as_slice())?;
            Ok(())
        };
        store.writer().unwrap().transact("damage", damage).unwrap();
        let scope = WipeScope::everything().before(time(4));
        assert_eq!(
            store.snapshot().unwrap().would_wipe(&scope).unwrap().len(),
            1
        );
        assert_eq!(store.wipe(&scope).unwrap(), 1);
        store.snapshot().unwrap().check().unwrap();
        let found = store.last(&Query::new(Signal::Logs), 100).unwrap();
        let nanos: Vec<i64> = found.iter().map(|it| it.timestamp.unix_nanos()).collect();
        assert_eq!(nanos, (100..108).collect::<Vec<i64>>());
    }

    #[test]
    fn series_with_damaged_entries_are_wiped_and_counted() {
        for (scope, count, left) in [
            (WipeScope::everything(), 3, 0),
            (
                WipeScope::everything().server(ServerName::new("a").unwrap()),
                1,
                2,
            ),
        ] {
            let home = tempfile::tempdir().unwrap();
            let store = Store::open(home.path(), "stack", StoreOptions::default()).unwrap();
            let (writer, guard) = Writer::start(&store, WriterOptions::default()).unwrap();
            for server in ["a", "b", "c"] {
                let record = LogRecord::new(Timestamp::now(), Level::INFO, "a record");
                writer
                    .log(&ServerName::new(server).unwrap(), &record)
                    .unwrap();
            }
            guard.close().unwrap();
            let damage = |transaction: &WriteTransaction| {
                let mut series = transaction.open_table(SERIES)?;
                series.insert(("a", Signal::Logs as u8), b"no state".as_slice())?;
                Ok(())
            };
            store.writer().unwrap().transact("damage", damage).unwrap();
            assert_eq!(store.wipe(&scope).unwrap(), count);
            store.snapshot().unwrap().check().unwrap();
            let found = store.last(&Query::new(Signal::Logs), 100).unwrap();
            assert_eq!(found.len(), left);
        }
    }
}
