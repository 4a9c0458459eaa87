//! stub
use std::collections::BTreeMap;
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
}

impl Limits {
    pub(crate) fn refresh(&mut self, _t: &redb::WriteTransaction) -> Result<(), super::Fault> {
        Ok(())
    }
    pub(crate) fn cutoff(&self, server: &str, now: i64) -> Option<i64> {
        self.of(server)
            .map(|l| now.saturating_sub(i64::try_from(l.age_nanos).unwrap_or(i64::MAX)))
    }
}
impl Limits {
    pub(crate) fn is_empty(&self) -> bool {
        self.default.is_none() && self.servers.is_empty() && self.total_bytes.is_none()
    }
}
impl super::Snapshot {
    pub(crate) fn limits(&self) -> crate::error::Result<Limits> {
        Ok(Limits::default())
    }
}
impl super::Store {
    pub(crate) fn believed_now(&self, _s: &super::Snapshot) -> crate::error::Result<i64> {
        Ok(crate::time::Timestamp::now().unix_nanos())
    }
    pub(crate) fn believed_in(&self, _t: &redb::WriteTransaction) -> Result<i64, super::Fault> {
        Ok(crate::time::Timestamp::now().unix_nanos())
    }
}
impl super::StoreWriter {
    pub(super) fn transact_freeing<T>(
        &self,
        action: &'static str,
        operation: impl FnOnce(&redb::WriteTransaction) -> Result<T, super::Fault>,
    ) -> crate::error::Result<T> {
        self.transact(action, operation)
    }
}
