//! Wiping: deleting records at once and for good.
//!
//! A wipe leaves a mark in the database, so that covered records in the queue of a writer are not
//! stored later: see [`wipes`].

use crate::{
    signal::Signal,
    store::{
        engine::fault::Fault,
        layout::{
            series::{self, SeriesState},
            tables::SERIES,
        },
        ledger::{
            totals,
            wipes::{self, WipeScope},
        },
        tiers::{blocks, rows},
    },
};
use redb::{ReadableTable, WriteTransaction};

/// Deletes the records and totals that `scope` covers. Returns the number of series that had any.
pub(crate) fn wipe(transaction: &WriteTransaction, scope: &WipeScope) -> Result<usize, Fault> {
    let mut matching = Vec::new();
    for entry in transaction.open_table(SERIES)?.iter()? {
        let (key, value) = entry?;
        let (server, code) = key.value();
        if scope.covers(server, series::signal_of(code)?) {
            let state = SeriesState::from_bytes(value.value())?;
            matching.push((server.to_owned(), code, state));
        }
    }
    for (server, code, state) in &matching {
        delete_records(transaction, state)?;
        transaction
            .open_table(SERIES)?
            .remove((server.as_str(), *code))?;
    }
    // Totals outlive their records, so a server may have totals without a series.
    let is_matching = |server: &String| {
        let of_metrics =
            |(name, code, _): &(String, u8, _)| name == server && *code == Signal::Metrics as u8;
        matching.iter().any(of_metrics)
    };
    let of_totals_alone = totals::wipe(transaction, scope)?;
    let of_totals_alone = of_totals_alone.iter().filter(|it| !is_matching(it)).count();
    wipes::mark(transaction, scope)?;
    Ok(matching.len() + of_totals_alone)
}

fn delete_records(transaction: &WriteTransaction, state: &SeriesState) -> Result<(), Fault> {
    rows::remove_all(transaction, state.id)?;
    blocks::change(transaction, |blocks| blocks.remove_all(state))
}
