//! Lost and evicted records: how many, when and why.
//!
//! Losses of the same minute, series and cause share one entry, so a long overflow costs one entry
//! per minute instead of one per record. When the ledger is full, its oldest entries are deleted.
//!
//! Processes that were killed in the same minute share an entry of the table, too, but readers see
//! one for each: the sum of the kills, which is all that older versions read, is followed by a list
//! of them.
//!
//! Evicted records are counted in one entry per series, see [`EVICTED`].

use crate::{
    loss::{LedgerEntry, LossCause},
    record::ServerName,
    signal::Signal,
    store::{
        engine::{fault::Fault, transaction::WriteTransaction},
        layout::{
            checked, series,
            tables::{EVICTED, LOSSES},
        },
        ledger::{checked_value, decode, decode_next, encode},
    },
    time::{TimeRange, Timestamp},
};
use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata};
use serde::{Deserialize, Serialize};

/// The maximum number of entries in [`LOSSES`].
const ENTRIES_MAX: u64 = 10_000;
const NANOS_PER_MINUTE: i64 = 60_000_000_000;
/// A key of [`LOSSES`].
type LossKey<'a> = (i64, &'a str, u8, u8);
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

    /// Adds a record of this time to `span`.
    pub(crate) fn extend(span: &mut Option<LossSpan>, timestamp: i64) {
        let one = LossSpan::new(1, timestamp, timestamp);
        match span {
            Some(span) => span.add(one),
            None => *span = Some(one),
        }
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
            recovered: 0,
        })
    }
}

/// A process that was killed: its lost records, and the number of those that were recovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kill(LossSpan, u64);

/// The kills in an entry of [`LOSSES`]. An entry of a version that had no list stands for one kill.
pub(super) fn decode_kills(bytes: &[u8]) -> Result<Vec<Kill>, Fault> {
    let mut rest = bytes;
    let all: LossSpan = decode_next(&mut rest)?;
    if rest.is_empty() {
        return Ok(vec![Kill(all, 0)]);
    }
    decode_next(&mut rest)
}

fn encode_kills(kills: &[Kill]) -> Result<Vec<u8>, Fault> {
    let mut all = LossSpan::new(0, i64::MAX, i64::MIN);
    for Kill(span, _) in kills {
        all.add(*span);
    }
    let mut bytes = encode(&all)?;
    bytes.extend(encode(&kills)?);
    Ok(bytes)
}

/// The entries that overlap `range`: first the evictions, one entry per series, then the losses in
/// the order in which they were entered, to the minute.
pub(crate) fn read(
    transaction: &ReadTransaction,
    range: TimeRange,
) -> Result<Vec<LedgerEntry>, Fault> {
    let mut entries = read_evicted(transaction)?;
    for entry in transaction.open_table(LOSSES)?.iter()? {
        let (key, value) = entry?;
        let (key, value) = (key.value(), value.value());
        let value = checked_value::<LossKey<'_>>(&key, value)?;
        let (_, server, signal, cause) = key;
        let cause = LossCause::from_code(cause)
            .ok_or_else(|| Fault::Corrupt(format!("a loss has the unknown cause {cause}")))?;
        if cause == LossCause::Crash {
            for Kill(span, recovered) in decode_kills(value)? {
                entries.push(LedgerEntry {
                    recovered,
                    ..span.to_entry(server, signal, cause)?
                });
            }
        } else {
            let span: LossSpan = decode(value)?;
            entries.push(span.to_entry(server, signal, cause)?);
        }
    }
    entries.retain(|entry| {
        range.until.is_none_or(|until| entry.from < until)
            && range.since.is_none_or(|since| entry.to >= since)
    });
    Ok(entries)
}

/// The evictions, in one entry per series.
pub(crate) fn read_evicted(transaction: &ReadTransaction) -> Result<Vec<LedgerEntry>, Fault> {
    let mut entries = Vec::new();
    for entry in transaction.open_table(EVICTED)?.iter()? {
        let (key, value) = entry?;
        let (server, signal) = key.value();
        let value = checked_value::<(&str, u8)>(&(server, signal), value.value())?;
        let span: LossSpan = decode(value)?;
        entries.push(span.to_entry(server, signal, LossCause::Retention)?);
    }
    Ok(entries)
}

/// Adds records to the evictions of a series.
pub(crate) fn record_evicted(
    transaction: &WriteTransaction,
    server: &str,
    signal: Signal,
    evicted: LossSpan,
) -> Result<(), Fault> {
    let mut table = transaction.open_table(EVICTED)?;
    let key = (server, signal as u8);
    let mut all = evicted;
    if let Some(known) = table.get(key)? {
        // A damaged entry must not keep records from being evicted, and begins anew.
        let known = checked_value::<(&str, u8)>(&key, known.value()).and_then(decode);
        if let Ok(known) = known {
            all.add(known);
        }
    }
    checked::insert(&mut table, key, &encode(&all)?)
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
        // A damaged entry must not keep records from being stored, and begins anew.
        let known = table.get(key)?.and_then(|known| {
            let known = checked_value::<LossKey<'_>>(&key, known.value());
            known.map(<[u8]>::to_vec).ok()
        });
        let value = match (loss.cause, known) {
            (LossCause::Crash, known) => {
                let known = known.map(|known| decode_kills(&known)).transpose()?;
                let mut kills = known.unwrap_or_default();
                kills.push(Kill(span, loss.recovered));
                encode_kills(&kills)?
            }
            (_, Some(known)) => {
                span.add(decode(&known)?);
                encode(&span)?
            }
            (_, None) => encode(&span)?,
        };
        checked::insert(&mut table, key, &value)?;
    }
    while table.len()? > ENTRIES_MAX {
        table.pop_first()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_are_read_with_and_without_a_list() {
        let first = LossSpan::new(0, 1, 5);
        let second = LossSpan::new(0, 3, 9);
        let old = encode(&first).unwrap();
        assert_eq!(decode_kills(&old).unwrap(), [Kill(first, 0)]);
        let kills = [Kill(first, 0), Kill(second, 7)];
        let new = encode_kills(&kills).unwrap();
        assert_eq!(decode_kills(&new).unwrap(), kills);
        // Older versions read the start of the value.
        let read: LossSpan = rmp_serde::from_slice(&new).unwrap();
        assert_eq!(read, LossSpan::new(0, 1, 9));
        assert!(decode_kills(&new[..new.len() - 1]).is_err());
    }
}
