//! Lost and evicted records: how many, when and why.
//!
//! Losses of the same minute, series and cause share one entry, so a long overflow costs one entry
//! per minute instead of one per record. When the ledger is full, its oldest entries are deleted.
//! Evicted records are counted in one entry per series, see [`RETIRED`].

use crate::{
    loss::{LedgerEntry, LossCause},
    record::ServerName,
    signal::Signal,
    store::{
        engine::fault::Fault,
        layout::{
            series,
            tables::{LOSSES, RETIRED},
        },
        ledger::{decode, encode},
    },
    time::{TimeRange, Timestamp},
};
use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata, WriteTransaction};
use serde::{Deserialize, Serialize};

/// The maximum number of entries in [`LOSSES`].
const ENTRIES_MAX: u64 = 10_000;
const NANOS_PER_MINUTE: i64 = 60_000_000_000;
/// The signal code of a key when the signal is unknown.
const NO_SIGNAL: u8 = u8::MAX;

/// The number of lost or evicted records, and their earliest and latest timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LossSpan {
    count: u64,
    from: i64,
    to: i64,
}

impl LossSpan {
    pub(crate) fn new(count: u64, from: i64, to: i64) -> LossSpan {
        LossSpan { count, from, to }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Adds the records of `other`.
    pub(crate) fn add(&mut self, other: LossSpan) {
        self.count = self.count.saturating_add(other.count);
        self.from = self.from.min(other.from);
        self.to = self.to.max(other.to);
    }

    fn to_entry(self, server: &str, signal: u8, cause: LossCause) -> Result<LedgerEntry, Fault> {
        Ok(LedgerEntry {
            server: match server {
                "" => None,
                name => Some(ServerName::new(name)?),
            },
            signal: match signal {
                NO_SIGNAL => None,
                code => Some(series::signal_of(code)?),
            },
            cause,
            count: self.count,
            from: Timestamp::from_unix_nanos(self.from),
            to: Timestamp::from_unix_nanos(self.to),
        })
    }
}

/// The entries that overlap `range`: first the evictions, one entry per series, then the losses in
/// the order in which they were entered, to the minute.
pub(crate) fn read(
    transaction: &ReadTransaction,
    range: TimeRange,
) -> Result<Vec<LedgerEntry>, Fault> {
    let mut entries = Vec::new();
    for entry in transaction.open_table(RETIRED)?.iter()? {
        let (key, value) = entry?;
        let (server, signal) = key.value();
        let span: LossSpan = decode(value.value())?;
        entries.push(span.to_entry(server, signal, LossCause::Retention)?);
    }
    for entry in transaction.open_table(LOSSES)?.iter()? {
        let (key, value) = entry?;
        let (_, server, signal, cause) = key.value();
        let cause = LossCause::from_code(cause)
            .ok_or_else(|| Fault::Corrupt(format!("a loss has the unknown cause {cause}")))?;
        let span: LossSpan = decode(value.value())?;
        entries.push(span.to_entry(server, signal, cause)?);
    }
    entries.retain(|entry| {
        range.until.is_none_or(|until| entry.from < until)
            && range.since.is_none_or(|since| entry.to >= since)
    });
    Ok(entries)
}

/// Adds records to the evictions of a series.
pub(crate) fn record_evicted(
    transaction: &WriteTransaction,
    server: &str,
    signal: Signal,
    evicted: LossSpan,
) -> Result<(), Fault> {
    let mut table = transaction.open_table(RETIRED)?;
    let mut all = evicted;
    if let Some(known) = table.get((server, signal as u8))? {
        all.add(decode(known.value())?);
    }
    table.insert((server, signal as u8), encode(&all)?.as_slice())?;
    Ok(())
}

/// Adds losses to the ledger.
pub(crate) fn record(transaction: &WriteTransaction, losses: &[LedgerEntry]) -> Result<(), Fault> {
    if losses.is_empty() {
        return Ok(());
    }
    let minute = Timestamp::now().unix_nanos().div_euclid(NANOS_PER_MINUTE);
    let mut table = transaction.open_table(LOSSES)?;
    for loss in losses {
        let server = loss.server.as_deref().unwrap_or("");
        let signal = loss.signal.map_or(NO_SIGNAL, |signal| signal as u8);
        let key = (minute, server, signal, loss.cause.code());
        let mut span = LossSpan::new(loss.count, loss.from.unix_nanos(), loss.to.unix_nanos());
        if let Some(known) = table.get(key)? {
            span.add(decode(known.value())?);
        }
        table.insert(key, encode(&span)?.as_slice())?;
    }
    while table.len()? > ENTRIES_MAX {
        table.pop_first()?;
    }
    Ok(())
}
