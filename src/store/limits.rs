//! stub, replaced by the helper's
use super::{Fault, Snapshot, StoreWriter, tables::META};
use crate::{config::RetentionPolicy, error::Result};
use redb::{ReadableTable, TableDefinition, WriteTransaction};
use std::collections::BTreeMap;
const LIMITS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("limits");
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct SeriesLimits {
    pub(crate) bytes_max: u64,
    pub(crate) age_nanos: u64,
}
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) default: Option<SeriesLimits>,
    pub(crate) servers: BTreeMap<String, SeriesLimits>,
    pub(crate) total_bytes: Option<u64>,
}
impl Limits {
    pub(crate) fn of(&self, server: &str) -> Option<SeriesLimits> {
        self.servers.get(server).copied().or(self.default)
    }
    pub(crate) fn read(
        limits: &impl ReadableTable<&'static str, &'static [u8]>,
        meta: &impl ReadableTable<&'static str, u64>,
    ) -> Result<Limits, Fault> {
        let mut all = Limits::default();
        all.total_bytes = meta.get("max_total_bytes")?.map(|v| v.value());
        for e in limits.iter()? {
            let (k, v) = e?;
            let l: SeriesLimits =
                rmp_serde::from_slice(v.value()).map_err(|e| Fault::Corrupt(e.to_string()))?;
            if k.value().is_empty() {
                all.default = Some(l)
            } else {
                all.servers.insert(k.value().to_owned(), l);
            }
        }
        Ok(all)
    }
    pub(crate) fn refresh(&mut self, t: &WriteTransaction) -> Result<(), Fault> {
        *self = Limits::read(&t.open_table(LIMITS)?, &t.open_table(META)?)?;
        Ok(())
    }
    pub(crate) fn cutoff(&self, server: &str, now: i64) -> Option<i64> {
        self.of(server)
            .map(|l| now.saturating_sub(i64::try_from(l.age_nanos).unwrap_or(i64::MAX)))
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.default.is_none() && self.servers.is_empty() && self.total_bytes.is_none()
    }
}
pub(super) fn put(t: &WriteTransaction, p: &RetentionPolicy) -> Result<(), Fault> {
    let mut table = t.open_table(LIMITS)?;
    table.retain(|_, _| false)?;
    let one = |r: crate::config::Retention| {
        rmp_serde::to_vec(&SeriesLimits {
            bytes_max: r.bytes_max(),
            age_nanos: r.max_age_days * 86_400_000_000_000,
        })
        .unwrap_or_default()
    };
    table.insert("", one(p.default).as_slice())?;
    for (n, r) in &p.servers {
        table.insert(n.as_str(), one(*r).as_slice())?;
    }
    t.open_table(META)?
        .insert("max_total_bytes", p.total_bytes_max())?;
    Ok(())
}
impl Snapshot {
    pub(crate) fn limits(&self) -> Result<Limits> {
        self.read(|| {
            Limits::read(
                &self.transaction().open_table(LIMITS)?,
                &self.transaction().open_table(META)?,
            )
        })
    }
}
impl super::Store {
    pub(crate) fn believed_now(&self, _s: &Snapshot) -> Result<i64> {
        Ok(crate::time::Timestamp::now().unix_nanos())
    }
    pub(crate) fn believed_in(&self, _t: &WriteTransaction) -> Result<i64, Fault> {
        Ok(crate::time::Timestamp::now().unix_nanos())
    }
}
impl StoreWriter {
    pub(super) fn transact_freeing<T>(
        &self,
        action: &'static str,
        operation: impl FnOnce(&WriteTransaction) -> Result<T, Fault>,
    ) -> Result<T> {
        self.transact(action, operation)
    }
    pub(crate) fn set_limits(&self, policy: &RetentionPolicy) -> Result<()> {
        self.transact("set the limits of", |t| put(t, policy))
    }
}
