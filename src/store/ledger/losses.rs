//! The loss ledger: what was not stored, when and why.
//!
//! Losses of one minute, series and cause are one entry, so an overflow that lasts costs an entry a
//! minute and not one a record. The ledger keeps its newest entries.
//!
//! A writer enters itself when it starts and takes itself out when it ends. One that is found
//! without its process was killed, and what it had not yet committed is lost: nobody knows how much.

use crate::{
    error::Result,
    ingest::DropCause,
    platform,
    record::ServerName,
    signal::Signal,
    store::{
        engine::fault::Fault,
        handle::StoreWriter,
        layout::{
            series,
            tables::{LOSSES, META, RETIRED, WRITERS, meta},
        },
        snapshot::Snapshot,
    },
    time::{TimeRange, Timestamp},
};
use redb::{ReadableTable, ReadableTableMetadata, WriteTransaction};
use serde::{Deserialize, Serialize};

/// The most entries that are kept.
const ENTRIES_MAX: u64 = 10_000;
const NANOS_PER_MINUTE: i64 = 60_000_000_000;
const NO_SIGNAL: u8 = u8::MAX;

/// Records that were not stored, or are no longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Loss {
    /// Whose records; absent when nobody knows.
    pub server: Option<ServerName>,
    /// Of which signal; absent when nobody knows.
    pub signal: Option<Signal>,
    /// Why.
    pub cause: DropCause,
    /// How many; 0 when nobody knows.
    pub count: u64,
    /// The earliest timestamp that is lost.
    pub from: Timestamp,
    /// The latest timestamp that is lost.
    pub to: Timestamp,
}

/// How many records, and their timestamps from the earliest to the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Range {
    count: u64,
    from: i64,
    to: i64,
}

impl Range {
    pub(crate) fn new(count: u64, from: i64, to: i64) -> Range {
        Range { count, from, to }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Adds what `other` stands for.
    pub(crate) fn add(&mut self, other: Range) {
        self.count = self.count.saturating_add(other.count);
        self.from = self.from.min(other.from);
        self.to = self.to.max(other.to);
    }

    fn to_loss(self, server: &str, signal: u8, cause: DropCause) -> Result<Loss, Fault> {
        Ok(Loss {
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

impl Snapshot {
    /// The losses that reach into `range`: first what retention took, in one entry a series, then the
    /// others in the order in which they were entered, to the minute.
    ///
    /// Fails with [`Error::Database`](crate::Error::Database) and
    /// [`Error::Corrupt`](crate::Error::Corrupt).
    pub fn losses(&self, range: impl Into<TimeRange>) -> Result<Vec<Loss>> {
        let range = range.into();
        self.read(|| {
            let mut losses = Vec::new();
            for entry in self.transaction().open_table(RETIRED)?.iter()? {
                let (key, value) = entry?;
                let (server, signal) = key.value();
                let found: Range = decode(value.value())?;
                losses.push(found.to_loss(server, signal, DropCause::Retention)?);
            }
            for entry in self.transaction().open_table(LOSSES)?.iter()? {
                let (key, value) = entry?;
                let (_, server, signal, cause) = key.value();
                let cause = DropCause::from_code(cause).ok_or_else(|| {
                    Fault::Corrupt(format!("a loss has the unknown cause {cause}"))
                })?;
                let found: Range = decode(value.value())?;
                losses.push(found.to_loss(server, signal, cause)?);
            }
            losses.retain(|loss| {
                range.until.is_none_or(|until| loss.from < until)
                    && range.since.is_none_or(|since| loss.to >= since)
            });
            Ok(losses)
        })
    }
}

/// Enters what retention took of a series.
pub(crate) fn retire(
    transaction: &WriteTransaction,
    server: &str,
    signal: Signal,
    gone: Range,
) -> Result<(), Fault> {
    let mut table = transaction.open_table(RETIRED)?;
    let mut all = gone;
    if let Some(known) = table.get((server, signal as u8))? {
        all.add(decode(known.value())?);
    }
    table.insert((server, signal as u8), encode(&all)?.as_slice())?;
    Ok(())
}

/// Enters losses.
pub(crate) fn record(transaction: &WriteTransaction, losses: &[Loss]) -> Result<(), Fault> {
    if losses.is_empty() {
        return Ok(());
    }
    let minute = Timestamp::now().unix_nanos().div_euclid(NANOS_PER_MINUTE);
    let mut table = transaction.open_table(LOSSES)?;
    for loss in losses {
        let server = loss.server.as_deref().unwrap_or("");
        let signal = loss.signal.map_or(NO_SIGNAL, |signal| signal as u8);
        let key = (minute, server, signal, loss.cause.code());
        let mut range = Range::new(loss.count, loss.from.unix_nanos(), loss.to.unix_nanos());
        if let Some(known) = table.get(key)? {
            range.add(decode(known.value())?);
        }
        table.insert(key, encode(&range)?.as_slice())?;
    }
    while table.len()? > ENTRIES_MAX {
        table.pop_first()?;
    }
    Ok(())
}

/// A process that has a writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Process {
    pid: u32,
    /// Tells two processes of one id apart, where the system says when they started.
    started: u64,
}

impl Process {
    fn current() -> Process {
        let pid = std::process::id();
        Process {
            pid,
            started: platform::process_start(pid).unwrap_or(0),
        }
    }

    fn is_alive(&self) -> bool {
        platform::process_exists(self.pid)
            && platform::process_start(self.pid).is_none_or(|started| started == self.started)
    }
}

/// Tells a batch from every other one, so that it is not stored twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchId {
    /// The writer's number, see [`StoreWriter::enter_writer`].
    pub(crate) writer: u64,
    /// The batch's number among those of its writer.
    pub(crate) number: u64,
}

impl StoreWriter {
    /// Enters a writer of this process and returns its number. Writers that were killed are taken
    /// out, and what they lost is entered.
    pub(crate) fn enter_writer(&self) -> Result<u64> {
        self.transact("write to", |transaction| {
            let mut killed = Vec::new();
            let mut writers = transaction.open_table(WRITERS)?;
            for entry in writers.iter()? {
                let (number, process) = entry?;
                if !decode::<Process>(process.value())?.is_alive() {
                    killed.push(number.value());
                }
            }
            let mut meta = transaction.open_table(META)?;
            for number in &killed {
                writers.remove(number)?;
                meta.remove(meta::last_batch(*number).as_str())?;
            }
            let last_commit = meta.get(meta::LAST_COMMIT)?.map(|nanos| nanos.value());
            let number = meta
                .get(meta::NEXT_WRITER)?
                .map_or(0, |number| number.value());
            meta.insert(meta::NEXT_WRITER, number + 1)?;
            writers.insert(number, encode(&Process::current())?.as_slice())?;
            let now = Timestamp::now();
            let from = last_commit
                .and_then(|nanos| i64::try_from(nanos).ok())
                .map_or(now, Timestamp::from_unix_nanos);
            let losses: Vec<Loss> = killed
                .iter()
                .map(|_| Loss {
                    server: None,
                    signal: None,
                    cause: DropCause::Crash,
                    count: 0,
                    from: from.min(now),
                    to: now,
                })
                .collect();
            record(transaction, &losses)?;
            Ok(number)
        })
    }

    /// Takes a writer out that ends as it should.
    pub(crate) fn leave_writer(&self, number: u64) -> Result<()> {
        self.transact("write to", |transaction| {
            transaction.open_table(WRITERS)?.remove(number)?;
            transaction
                .open_table(META)?
                .remove(meta::last_batch(number).as_str())?;
            Ok(())
        })
    }
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>, Fault> {
    rmp_serde::to_vec(value)
        .map_err(|error| Fault::Corrupt(format!("the ledger does not encode: {error}")))
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Fault> {
    rmp_serde::from_slice(bytes)
        .map_err(|error| Fault::Corrupt(format!("the ledger does not decode: {error}")))
}
