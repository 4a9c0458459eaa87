//! The newest cumulative counters of each server, from which a daemon continues to count.
//!
//! They are computed from stored snapshots but must outlive them: limits delete snapshots, and
//! without this table a server that was idle for longer than the age limit would count from zero
//! again. Each server's totals are one entry, updated in the transaction that stores a snapshot, in
//! order of arrival, and deleted only by a wipe. Snapshots that hold a foreign metric do not change
//! them.

use crate::{
    otlp::foreign::is_foreign,
    record::{MetricsSnapshot, ServerName, Totals},
    store::{
        engine::{fault::Fault, transaction::WriteTransaction},
        layout::{checked, tables::TOTALS},
        ledger::{checked_value, decode, encode, wipes::WipeScope},
    },
    time::Timestamp,
};
use redb::{ReadTransaction, ReadableTable};
use std::collections::HashMap;

/// Updates the totals of `server` by snapshots that a running writer stores, each a timestamp and a
/// payload, in order of arrival.
pub(crate) fn advance<'a>(
    transaction: &WriteTransaction,
    server: &ServerName,
    snapshots: impl Iterator<Item = (i64, &'a [u8])>,
) -> Result<(), Fault> {
    let before = stored(transaction, server)?;
    let mut totals = before.clone();
    for snapshot in snapshots.filter_map(|(timestamp, payload)| read_counters(timestamp, payload)) {
        Totals::advance(&mut totals, &snapshot);
    }
    if let Some(totals) = &mut totals {
        totals.is_imported = false;
    }
    put(transaction, server, before.as_ref(), totals.as_ref())
}

/// Updates the totals of `server` by snapshots of files, in the order of the files. `own` holds the
/// totals that the same import has entered before.
///
/// An import continues from totals that it entered itself. It replaces totals entered by others
/// only by a newer snapshot, and while a writer is `running` only if they were imported.
pub(crate) fn import(
    transaction: &WriteTransaction,
    server: &ServerName,
    snapshots: &[MetricsSnapshot],
    own: &mut HashMap<ServerName, Totals>,
    running: bool,
) -> Result<(), Fault> {
    let before = stored(transaction, server)?;
    let mut totals = before.clone();
    let mut is_own = before.is_none() || before.as_ref() == own.get(server);
    for snapshot in snapshots {
        is_own = is_own
            || totals.as_ref().is_none_or(|totals| {
                let may_replace = totals.is_imported || !running;
                may_replace && snapshot.timestamp.unix_nanos() > totals.timestamp
            });
        if is_own {
            Totals::advance(&mut totals, snapshot);
        }
    }
    if is_own && let Some(totals) = &mut totals {
        totals.is_imported = true;
        own.insert(server.clone(), totals.clone());
    }
    put(transaction, server, before.as_ref(), totals.as_ref())
}

/// Deletes the totals that `scope` covers, and returns their servers.
pub(crate) fn wipe(
    transaction: &WriteTransaction,
    scope: &WipeScope,
) -> Result<Vec<String>, Fault> {
    let mut table = transaction.open_table(TOTALS)?;
    let mut covered = Vec::new();
    for entry in table.iter()? {
        let server = entry?.0.value().to_owned();
        if scope.covers_counters(&server) {
            covered.push(server);
        }
    }
    for server in &covered {
        table.remove(server.as_str())?;
    }
    Ok(covered)
}

/// The totals of a server, or why they cannot be read.
type ReadTotals = (ServerName, Result<Totals, String>);

/// The totals of each server that can be read, and why others cannot, sorted by name.
pub(crate) fn read_each(transaction: &ReadTransaction) -> Result<Vec<ReadTotals>, Fault> {
    transaction
        .open_table(TOTALS)?
        .iter()?
        .map(|entry| {
            let (server, totals) = entry?;
            let (server, totals) = (server.value(), totals.value());
            let totals = read_entry(server, totals).map_err(Fault::reason);
            Ok((ServerName::new(server)?, totals))
        })
        .collect()
}

/// The totals of all servers, sorted by name. Fails when those of one cannot be read.
pub(crate) fn read(transaction: &ReadTransaction) -> Result<Vec<(ServerName, Totals)>, Fault> {
    read_each(transaction)?
        .into_iter()
        .map(|(server, totals)| Ok((server, totals.map_err(Fault::Corrupt)?)))
        .collect()
}

/// Decodes the snapshot in a payload; `None` when it holds a foreign metric or cannot be decoded.
pub(crate) fn read_counters(timestamp: i64, payload: &[u8]) -> Option<MetricsSnapshot> {
    let timestamp = Timestamp::from_unix_nanos(timestamp);
    // The damage is reported when the record itself is read.
    let snapshot = MetricsSnapshot::decode_payload(timestamp, payload).ok()?;
    (!is_foreign(&snapshot)).then_some(snapshot)
}

fn stored(transaction: &WriteTransaction, server: &str) -> Result<Option<Totals>, Fault> {
    let table = transaction.open_table(TOTALS)?;
    let found = table.get(server)?;
    // A damaged entry must not prevent records from being stored; the next snapshot replaces it.
    Ok(found.and_then(|totals| read_entry(server, totals.value()).ok()))
}

fn put(
    transaction: &WriteTransaction,
    server: &str,
    before: Option<&Totals>,
    totals: Option<&Totals>,
) -> Result<(), Fault> {
    if let Some(totals) = totals.filter(|totals| Some(*totals) != before) {
        let mut table = transaction.open_table(TOTALS)?;
        checked::insert(&mut table, server, &encode(totals)?)?;
    }
    Ok(())
}

fn read_entry(server: &str, stored: &[u8]) -> Result<Totals, Fault> {
    checked_value::<&str>(&server, stored)
        .and_then(decode)
        .map_err(|fault| fault.within(&format!("the totals of {server}")))
}
