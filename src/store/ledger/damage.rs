//! What is known to be damaged.
//!
//! Damage is found when a record is read, and by the scrub. It is kept here, so that it enters the ledger of
//! losses only once, however often it is found, and so that every process can say of its answers that some
//! records are missing in them. A scrub that no longer finds it removes it: the records were deleted.

use crate::{
    loss::{LedgerEntry, LossCause},
    record::ServerName,
    signal::Signal,
    store::{
        engine::{fault::Fault, transaction::WriteTransaction},
        layout::{
            checked, series,
            tables::{DAMAGE, META, meta},
        },
        ledger::{checked_value, decode, encode, losses},
    },
    time::Timestamp,
};
use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata};
use serde::{Deserialize, Serialize};
use std::{collections::HashSet, fmt};
use xxhash_rust::xxh3::xxh3_64;

/// Maximum number of entries. A database with more damage than that is not described by a list.
const ENTRIES_MAX: u64 = 1000;

/// Something that is wrong in a database.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The server that it concerns; `None` when it concerns all, or that is not known.
    pub server: Option<ServerName>,
    /// The signal that it concerns; `None` like `server`.
    pub signal: Option<Signal>,
    /// The earliest and the latest timestamp that it concerns; `None` when that is not known.
    pub range: Option<(Timestamp, Timestamp)>,
    /// The number of records that cannot be read; `None` when that is not known.
    pub records: Option<u64>,
    /// What is wrong.
    pub what: String,
}

impl Finding {
    /// A finding about the whole database, that loses no record.
    pub(crate) fn of_all(what: impl Into<String>) -> Finding {
        Finding {
            server: None,
            signal: None,
            range: None,
            records: Some(0),
            what: what.into(),
        }
    }

    pub(crate) fn of(server: &ServerName, signal: Signal, what: impl Into<String>) -> Finding {
        Finding {
            server: Some(server.clone()),
            signal: Some(signal),
            ..Finding::of_all(what)
        }
    }

    pub(crate) fn between(mut self, first: i64, last: i64) -> Finding {
        let time = Timestamp::from_unix_nanos;
        self.range = Some((time(first), time(last)));
        self
    }

    pub(crate) fn losing(mut self, records: Option<u64>) -> Finding {
        self.records = records;
        self
    }
}

/// Damage that is known, see [`Snapshot::known_damage`](crate::Snapshot::known_damage).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct KnownDamage {
    /// The server that it concerns; absent when it concerns all, or that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerName>,
    /// The signal that it concerns; absent like `server`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<Signal>,
    /// The number of records that cannot be read; absent when that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records: Option<u64>,
    /// What is damaged.
    pub what: String,
    /// When it was found.
    pub found: Timestamp,
}

impl fmt::Display for KnownDamage {
    /// What is damaged, and where.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(server) = &self.server {
            write!(f, "{server}, ")?;
        }
        if let Some(signal) = self.signal {
            write!(f, "{signal}: ")?;
        }
        f.write_str(&self.what)
    }
}

/// An entry of [`DAMAGE`].
#[derive(Debug, Serialize, Deserialize)]
struct Damaged {
    server: Option<String>,
    signal: Option<u8>,
    records: Option<u64>,
    what: String,
    found: i64,
}

fn key_of(finding: &Finding) -> u64 {
    let server = finding.server.as_deref().unwrap_or("");
    let signal = finding.signal.map_or("", Signal::as_str);
    xxh3_64(format!("{server}\0{signal}\0{}", finding.what).as_bytes())
}

/// Notes damage, and enters what was not known before in the ledger. Returns the number of new findings.
pub(crate) fn note(transaction: &WriteTransaction, findings: &[Finding]) -> Result<usize, Fault> {
    if findings.is_empty() {
        return Ok(0);
    }
    let mut table = transaction.open_table(DAMAGE)?;
    let now = Timestamp::now();
    let mut lost = Vec::new();
    let mut new = 0;
    for finding in findings {
        let key = key_of(finding);
        if table.get(key)?.is_some() || table.len()? >= ENTRIES_MAX {
            continue;
        }
        new += 1;
        let entry = Damaged {
            server: finding
                .server
                .as_ref()
                .map(|server| server.as_str().to_owned()),
            signal: finding.signal.map(|signal| signal as u8),
            records: finding.records,
            what: finding.what.clone(),
            found: now.unix_nanos(),
        };
        checked::insert(&mut table, key, &encode(&entry)?)?;
        if finding.records != Some(0) {
            let (from, to) = finding.range.unwrap_or((now, now));
            lost.push(LedgerEntry {
                server: finding.server.clone(),
                signal: finding.signal,
                cause: LossCause::Damaged,
                count: finding.records.unwrap_or(0),
                from,
                to,
                recovered: 0,
            });
        }
    }
    losses::record(transaction, &lost)?;
    Ok(new)
}

/// Removes the damage that is not among `found`, the findings of a complete scrub.
pub(crate) fn keep_only(transaction: &WriteTransaction, found: &[Finding]) -> Result<(), Fault> {
    let found: HashSet<u64> = found.iter().map(key_of).collect();
    let mut table = transaction.open_table(DAMAGE)?;
    let mut gone = Vec::new();
    for entry in table.iter()? {
        let key = entry?.0.value();
        if !found.contains(&key) {
            gone.push(key);
        }
    }
    for key in gone {
        table.remove(key)?;
    }
    Ok(())
}

/// Notes that all records were checked.
pub(crate) fn note_scrub(transaction: &WriteTransaction) -> Result<(), Fault> {
    let now = u64::try_from(Timestamp::now().unix_nanos()).unwrap_or(0);
    transaction
        .open_table(META)?
        .insert(meta::LAST_SCRUB, now)?;
    Ok(())
}

/// Notes the same for a database whose records were never checked: the first check is due a day from now.
pub(crate) fn note_first_scrub(transaction: &WriteTransaction) -> Result<(), Fault> {
    let is_known = transaction
        .open_table(META)?
        .get(meta::LAST_SCRUB)?
        .is_some();
    if is_known {
        Ok(())
    } else {
        note_scrub(transaction)
    }
}

/// What is known to be damaged, in the order in which it was found.
pub(crate) fn read(transaction: &ReadTransaction) -> Result<Vec<KnownDamage>, Fault> {
    let mut known = Vec::new();
    for entry in transaction.open_table(DAMAGE)?.iter()? {
        let (key, value) = entry?;
        let entry: Damaged = decode(checked_value::<u64>(&key.value(), value.value())?)?;
        known.push(KnownDamage {
            server: entry.server.map(ServerName::new).transpose()?,
            signal: entry.signal.map(series::signal_of).transpose()?,
            records: entry.records,
            what: entry.what,
            found: Timestamp::from_unix_nanos(entry.found),
        });
    }
    known.sort_by_key(|damage| damage.found);
    Ok(known)
}
