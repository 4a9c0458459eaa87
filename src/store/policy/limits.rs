//! The limits of a database. They are stored in it, so that all processes apply the same ones.
//!
//! A database without stored limits keeps everything.

use crate::{
    config::{Retention, RetentionPolicy},
    store::{
        engine::{fault::Fault, transaction::WriteTransaction},
        layout::{
            block::PAYLOAD_BYTES_TARGET,
            checked,
            tables::{LIMITS, META, meta},
            values,
        },
    },
};
use redb::ReadableTable;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

/// Minimum target of a block's payload bytes. Every limit that a user may set allows at least this.
const PAYLOAD_BYTES_MIN: usize = 1 << 10;

/// The key of the limits for servers without limits of their own: no server has an empty name.
const DEFAULT: &str = "";

/// The limits of one signal of one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SeriesLimits {
    /// Maximum size of its records, in bytes.
    pub(crate) bytes_max: u64,
    /// Maximum age of a record, in nanoseconds.
    pub(crate) age_nanos: u64,
}

impl From<Retention> for SeriesLimits {
    fn from(retention: Retention) -> SeriesLimits {
        SeriesLimits {
            bytes_max: retention.bytes_max(),
            age_nanos: u64::try_from(retention.age_max().as_nanos()).unwrap_or(u64::MAX),
        }
    }
}

/// The limits of each signal of a server: see
/// [`Snapshot::limits_of`](crate::Snapshot::limits_of).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerLimits {
    /// Maximum size of the records of one signal, in bytes, as
    /// [`InventoryRecord::size_bytes`](crate::query::InventoryRecord::size_bytes) counts it.
    pub bytes_max: u64,
    /// Maximum age of a record.
    pub age_max: Duration,
}

impl From<SeriesLimits> for ServerLimits {
    fn from(limits: SeriesLimits) -> ServerLimits {
        ServerLimits {
            bytes_max: limits.bytes_max,
            age_max: Duration::from_nanos(limits.age_nanos),
        }
    }
}

/// All limits of a database, as seen by one transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) default: Option<SeriesLimits>,
    /// The limits of servers that have their own.
    pub(crate) servers: BTreeMap<String, SeriesLimits>,
    /// Maximum size of the whole database on the disk, in bytes.
    pub(crate) total_bytes: Option<u64>,
    /// The number of changes of the limits so far.
    generation: u64,
}

impl Limits {
    /// Limits of bytes and age for each server, where [`DEFAULT`] stands for all other servers.
    pub(crate) fn new(servers: &[(&str, u64, Duration)], total_bytes: Option<u64>) -> Limits {
        let mut own: BTreeMap<String, SeriesLimits> = servers
            .iter()
            .map(|(server, bytes_max, age)| {
                let age_nanos = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
                let bytes_max = *bytes_max;
                (
                    (*server).to_owned(),
                    SeriesLimits {
                        bytes_max,
                        age_nanos,
                    },
                )
            })
            .collect();
        Limits {
            default: own.remove(DEFAULT),
            servers: own,
            total_bytes,
            generation: 0,
        }
    }

    /// Reads the limits of a database, and says which of them are damaged. Instead of a damaged
    /// limit there is none, because a wrong limit would delete records.
    pub(crate) fn read(
        limits: &impl ReadableTable<&'static str, &'static [u8]>,
        meta: &impl ReadableTable<&'static str, u64>,
    ) -> Result<(Limits, Option<String>), Fault> {
        let mut damage = None;
        let mut found = Limits {
            total_bytes: meta.get(meta::MAX_TOTAL_BYTES)?.map(|it| it.value()),
            generation: generation(meta)?,
            ..Limits::default()
        };
        for entry in limits.iter()? {
            let (key, value) = entry?;
            let limits = match SeriesLimits::read(key.value(), value.value()) {
                Ok(limits) => limits,
                Err(Fault::Corrupt(what)) => {
                    damage = Some(what);
                    SeriesLimits::NONE
                }
                Err(error) => return Err(error),
            };
            match key.value() {
                DEFAULT => found.default = Some(limits),
                server => {
                    found.servers.insert(server.to_owned(), limits);
                }
            }
        }
        Ok((found, damage))
    }

    /// Fails when a limit is damaged.
    pub(crate) fn check(
        limits: &impl ReadableTable<&'static str, &'static [u8]>,
    ) -> Result<(), Fault> {
        for entry in limits.iter()? {
            let (key, value) = entry?;
            SeriesLimits::read(key.value(), value.value())?;
        }
        Ok(())
    }

    /// Reads the limits again if they have changed.
    pub(crate) fn refresh(&mut self, transaction: &WriteTransaction) -> Result<(), Fault> {
        let meta = transaction.open_table(META)?;
        if generation(&*meta)? != self.generation {
            (*self, _) = Limits::read(&*transaction.open_table(LIMITS)?, &*meta)?;
        }
        Ok(())
    }

    /// Whether there are no limits.
    pub(crate) fn is_empty(&self) -> bool {
        self.default.is_none() && self.servers.is_empty() && self.total_bytes.is_none()
    }

    /// The limits of each signal of `server`; `None` when there are none.
    pub(crate) fn of(&self, server: &str) -> Option<SeriesLimits> {
        self.servers.get(server).copied().or(self.default)
    }

    /// The payload bytes after which a block of `server` is closed. A block must be a small part of
    /// a small limit, because eviction deletes whole blocks.
    pub(crate) fn block_payload_bytes(&self, server: &str) -> usize {
        let series = self.of(server).map_or(u64::MAX, |it| it.bytes_max / 8);
        let total = self.total_bytes.map_or(u64::MAX, |it| it / 32);
        usize::try_from(series.min(total))
            .unwrap_or(usize::MAX)
            .clamp(PAYLOAD_BYTES_MIN, PAYLOAD_BYTES_TARGET)
    }

    /// The earliest timestamp of `server` that is kept at `now`.
    pub(crate) fn cutoff(&self, server: &str, now: i64) -> Option<i64> {
        self.of(server)
            .map(|limits| now.saturating_sub_unsigned(limits.age_nanos))
    }
}

fn generation(meta: &impl ReadableTable<&'static str, u64>) -> Result<u64, Fault> {
    let stored = meta.get(meta::LIMITS_GENERATION)?;
    Ok(stored.map_or(0, |value| value.value()))
}

/// Replaces the limits of the database by those of `policy`. Returns whether they changed.
///
/// Fails like [`RetentionPolicy::validated`].
pub(crate) fn put(transaction: &WriteTransaction, policy: &RetentionPolicy) -> Result<bool, Fault> {
    let policy = policy.clone().validated()?;
    let own = policy.servers.iter();
    replace(
        transaction,
        Limits {
            default: Some(policy.default.into()),
            servers: own
                .map(|(server, own)| (server.clone(), (*own).into()))
                .collect(),
            total_bytes: Some(policy.total_bytes_max()),
            generation: 0,
        },
    )
}

/// Replaces the limits of the database by `wanted`. Returns whether they changed.
pub(crate) fn replace(transaction: &WriteTransaction, mut wanted: Limits) -> Result<bool, Fault> {
    let mut meta = transaction.open_table(META)?;
    let mut table = transaction.open_table(LIMITS)?;
    let (present, damage) = Limits::read(&*table, &*meta)?;
    wanted.generation = present.generation;
    if damage.is_none() && present == wanted {
        return Ok(false);
    }
    table.retain(|_, _| false)?;
    let default = wanted.default.iter().map(|limits| (DEFAULT, limits));
    let own = wanted.servers.iter();
    for (server, limits) in default.chain(own.map(|(server, own)| (server.as_str(), own))) {
        checked::insert(&mut table, server, &limits.to_bytes()?)?;
    }
    match wanted.total_bytes {
        Some(bytes) => meta.insert(meta::MAX_TOTAL_BYTES, bytes)?,
        None => meta.remove(meta::MAX_TOTAL_BYTES)?,
    };
    meta.insert(meta::LIMITS_GENERATION, wanted.generation + 1)?;
    Ok(true)
}

impl SeriesLimits {
    const NONE: SeriesLimits = SeriesLimits {
        bytes_max: u64::MAX,
        age_nanos: u64::MAX,
    };

    fn to_bytes(self) -> Result<Vec<u8>, Fault> {
        values::encode(&self)
            .map_err(|error| Fault::Corrupt(format!("cannot encode a limit: {error}")))
    }

    /// Decodes an entry of [`LIMITS`].
    fn read(server: &str, stored: &[u8]) -> Result<SeriesLimits, Fault> {
        let decoded = checked::read::<&str>(&server, stored).and_then(|limits| {
            values::decode(limits).map_err(|error| Fault::Corrupt(error.to_string()))
        });
        decoded.map_err(|fault| match server {
            DEFAULT => fault.within("the default limits"),
            server => fault.within(&format!("the limits of {server}")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redb::{Database, ReadableDatabase};

    const DAY: u64 = 86_400_000_000_000;

    fn database() -> Database {
        let database = Database::builder()
            .create_with_backend(redb::backends::InMemoryBackend::new())
            .unwrap();
        crate::store::engine::schema::migrate(
            &database,
            crate::store::migrations::MIGRATIONS,
            &|_| {},
        )
        .unwrap();
        database
    }

    fn put_into(database: &Database, policy: &RetentionPolicy) -> Result<bool, Fault> {
        let transaction = WriteTransaction::new(database.begin_write().unwrap());
        let outcome = put(&transaction, policy)?;
        transaction.commit().unwrap();
        Ok(outcome)
    }

    fn read(database: &Database) -> Limits {
        let transaction = database.begin_read().unwrap();
        let limits = transaction.open_table(LIMITS).unwrap();
        let (limits, damage) =
            Limits::read(&limits, &transaction.open_table(META).unwrap()).unwrap();
        assert_eq!(damage, None);
        limits
    }

    fn policy(days: u64, servers: &[(&str, u64)], total: u64) -> RetentionPolicy {
        let retention = |days: u64| Retention {
            max_age: Duration::from_secs(days.saturating_mul(86_400)),
            ..Retention::default()
        };
        RetentionPolicy {
            default: retention(days),
            servers: servers
                .iter()
                .map(|(server, days)| ((*server).to_owned(), retention(*days)))
                .collect(),
            max_total_bytes: total << 20,
        }
    }

    #[test]
    fn limits_are_changed_only_when_others_come() {
        let database = database();
        let mut cached = read(&database);
        assert!(cached.is_empty() && cached.of("a").is_none());
        assert!(put_into(&database, &policy(3, &[("a", 5), ("b", 6)], 100)).unwrap());
        let limits = read(&database);
        let days = |server| limits.of(server).unwrap().age_nanos / DAY;
        assert_eq!(["a", "b", "c"].map(days), [5, 6, 3]);
        assert_eq!(limits.of("c").unwrap().bytes_max, 600 << 20);
        assert_eq!(limits.total_bytes, Some(100 << 20));

        assert!(!put_into(&database, &policy(3, &[("a", 5), ("b", 6)], 100)).unwrap());
        assert_eq!(read(&database), limits);
        for change in [
            policy(3, &[("a", 5)], 100),
            policy(3, &[("a", 4)], 100),
            policy(3, &[("a", 4)], 0),
            policy(0, &[("a", 4)], 0),
        ] {
            assert!(put_into(&database, &change).unwrap());
            let transaction = WriteTransaction::new(database.begin_write().unwrap());
            let before = cached.clone();
            cached.refresh(&transaction).unwrap();
            assert_ne!(cached, before);
            assert_eq!(cached, read(&database));
        }
        assert_eq!(cached.servers.len(), 1);
        assert_eq!(cached.of("b").unwrap().age_nanos, 7 * DAY);
        assert_eq!(cached.total_bytes, Some(2 << 30));
    }

    #[test]
    fn limits_out_of_bounds_change_nothing() {
        let database = database();
        put_into(&database, &policy(3, &[], 100)).unwrap();
        let before = read(&database);
        for bad in [
            policy(3651, &[], 100),
            policy(3, &[("a", u64::MAX)], 100),
            policy(3, &[("", 3)], 100),
            policy(3, &[], 7),
        ] {
            assert!(put_into(&database, &bad).is_err());
        }
        assert_eq!(read(&database), before);
    }

    #[test]
    fn no_age_reaches_beyond_the_first_timestamp() {
        let limits = |age_nanos| Limits {
            default: Some(SeriesLimits {
                bytes_max: 1,
                age_nanos,
            }),
            ..Limits::default()
        };
        assert_eq!(limits(u64::MAX).cutoff("a", i64::MIN), Some(i64::MIN));
        assert_eq!(limits(u64::MAX).cutoff("a", i64::MAX), Some(i64::MIN));
        assert_eq!(limits(10).cutoff("a", 3), Some(-7));
    }
}
