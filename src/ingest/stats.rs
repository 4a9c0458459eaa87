//! What a writer did so far: the counters that producers and the writer thread share.

use crate::{
    loss::{LedgerEntry, LossCause},
    record::ServerName,
    signal::Signal,
    store::Maintained,
    time::Timestamp,
};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// The records of one server and signal that were dropped for one cause.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DropCount {
    /// The server of the records.
    pub server: ServerName,
    /// The signal of the records.
    pub signal: Signal,
    /// Why the records were dropped.
    pub cause: LossCause,
    /// The number of records.
    pub count: u64,
    /// The earliest timestamp among the records.
    pub first: Timestamp,
    /// The latest timestamp among the records.
    pub last: Timestamp,
}

/// The statistics of a writer since it started. Every record that was offered is stored, queued or
/// dropped.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct WriterStats {
    /// The number of records that producers offered.
    pub offered: u64,
    /// The number of records that are committed.
    pub stored: u64,
    /// The number of commits that stored records.
    pub commits: u64,
    /// The number of records that are not committed yet. After a shutdown that failed, those that
    /// wait in a file beside the database for the next process that opens it to write.
    pub queued: u64,
    /// The memory of the queued records, in bytes.
    pub queued_bytes: usize,
    /// The records that were dropped, by server, signal and cause.
    pub dropped: Vec<DropCount>,
    /// The maintenance done by the writer thread.
    pub maintenance: MaintenanceStats,
    /// When records were last committed; absent before the first commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_commit: Option<Timestamp>,
    /// Since when the writer cannot store; absent when it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<Timestamp>,
    /// The last failure of the writer. It stays when the writer can store again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Why records that are not committed cannot be written to the files beside the database, so that
    /// they are lost if the process is killed; absent while they can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spill_error: Option<String>,
}

/// What a writer did to keep its store within its limits and its blocks full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct MaintenanceStats {
    /// The number of maintenance steps: seals, evictions, merges and compactions.
    pub steps: u64,
    /// The longest time that one step kept the writer thread from storing; `longestMs` in JSON.
    #[serde(rename = "longestMs", serialize_with = "as_millis")]
    pub longest: Duration,
    /// The time of all steps together; `busyMs` in JSON.
    #[serde(rename = "busyMs", serialize_with = "as_millis")]
    pub busy: Duration,
    /// The size on disk of the records that retention evicted, in bytes.
    pub freed_bytes: u64,
    /// The size on disk of the blocks that merging rewrote, in bytes.
    pub rewritten_bytes: u64,
}

impl WriterStats {
    /// The number of dropped records, for all causes together.
    #[must_use]
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().map(|drop| drop.count).sum()
    }
}

fn as_millis<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64() * 1e3)
}

/// The counters shared by producers and the writer thread.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) offered: AtomicU64,
    pub(super) stored: AtomicU64,
    pub(super) commits: AtomicU64,
    pub(super) queued_bytes: Arc<AtomicUsize>,
    dropped: Mutex<Dropped>,
    maintenance: Mutex<MaintenanceStats>,
    health: Mutex<Health>,
}

/// Whether and when the writer could store.
#[derive(Debug, Clone, Default)]
struct Health {
    last_commit: Option<Timestamp>,
    failing_since: Option<Timestamp>,
    last_error: Option<String>,
    spill_error: Option<String>,
}

type DropKey = (ServerName, Signal, LossCause);

#[derive(Debug, Default)]
struct Dropped {
    /// All drops since the writer started.
    all: HashMap<DropKey, Range>,
    /// The drops that are not in the ledger yet.
    unrecorded: HashMap<DropKey, Range>,
}

#[derive(Debug, Clone, Copy)]
struct Range {
    count: u64,
    first: Timestamp,
    last: Timestamp,
}

impl Counters {
    /// Counts a dropped record.
    pub(super) fn count_drop(
        &self,
        server: &ServerName,
        signal: Signal,
        cause: impl Into<LossCause>,
        timestamp: Timestamp,
    ) {
        let one = Range {
            count: 1,
            first: timestamp,
            last: timestamp,
        };
        let cause = cause.into();
        let key = (server.clone(), signal, cause);
        let mut dropped = self.lock();
        // A wiped record needs no ledger entry: the wipe was requested.
        if cause != LossCause::Wiped {
            merge(&mut dropped.unrecorded, key.clone(), one);
        }
        merge(&mut dropped.all, key, one);
    }

    /// Returns the ledger entries for drops that are not in the ledger yet, and forgets those
    /// drops.
    pub(super) fn take_unrecorded(&self) -> Vec<LedgerEntry> {
        let unrecorded = std::mem::take(&mut self.lock().unrecorded);
        unrecorded
            .into_iter()
            .map(|((server, signal, cause), range)| LedgerEntry {
                server: Some(server),
                signal: Some(signal),
                cause,
                count: range.count,
                from: range.first,
                to: range.last,
                recovered: 0,
            })
            .collect()
    }

    /// Counts one step of maintenance.
    pub(super) fn count_maintenance(&self, elapsed: Duration, done: Maintained) {
        let mut all = self
            .maintenance
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.steps += 1;
        all.longest = all.longest.max(elapsed);
        all.busy += elapsed;
        all.freed_bytes += done.freed_bytes;
        all.rewritten_bytes += done.rewritten_bytes;
    }

    /// Notes a commit of records.
    pub(super) fn note_commit(&self) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.health().last_commit = Some(Timestamp::now());
    }

    /// Notes a failure, and returns since when the writer fails.
    pub(super) fn note_failure(&self, error: String) -> Timestamp {
        let mut health = self.health();
        health.last_error = Some(error);
        *health.failing_since.get_or_insert_with(Timestamp::now)
    }

    /// Notes that the writer can store again.
    pub(super) fn note_recovery(&self) {
        self.health().failing_since = None;
    }

    /// Notes why records cannot be spilled; `None` when they can.
    pub(super) fn note_spill_error(&self, error: Option<String>) {
        self.health().spill_error = error;
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stats(&self) -> WriterStats {
        // Read while holding the lock on the drops, `offered` last: a record that is dropped or
        // stored in the meantime counts as queued, never as lost.
        let dropped = self.lock();
        let stored = self.stored.load(Ordering::Acquire);
        let queued_bytes = self.queued_bytes.load(Ordering::Relaxed);
        let mut counts: Vec<DropCount> = dropped
            .all
            .iter()
            .map(|((server, signal, cause), range)| DropCount {
                server: server.clone(),
                signal: *signal,
                cause: *cause,
                count: range.count,
                first: range.first,
                last: range.last,
            })
            .collect();
        counts.sort_by(|a, b| (&a.server, a.signal, a.cause).cmp(&(&b.server, b.signal, b.cause)));
        let dropped_total: u64 = counts.iter().map(|drop| drop.count).sum();
        let offered = self.offered.load(Ordering::Acquire);
        let health = self.health().clone();
        WriterStats {
            offered,
            stored,
            commits: self.commits.load(Ordering::Relaxed),
            queued: offered.saturating_sub(stored + dropped_total),
            queued_bytes,
            dropped: counts,
            maintenance: *self
                .maintenance
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
            last_commit: health.last_commit,
            failing_since: health.failing_since,
            last_error: health.last_error,
            spill_error: health.spill_error,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Dropped> {
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn merge(ranges: &mut HashMap<DropKey, Range>, key: DropKey, range: Range) {
    let known = ranges.entry(key).or_insert(Range { count: 0, ..range });
    known.count += range.count;
    known.first = known.first.min(range.first);
    known.last = known.last.max(range.last);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn statistics_have_one_convention_of_names() {
        let counters = Counters::default();
        let github = ServerName::new("github").unwrap();
        let time = Timestamp::from_unix_nanos(1);
        counters.offered.store(3, Ordering::Relaxed);
        counters.count_drop(&github, Signal::Logs, LossCause::QueueFull, time);
        let done = Maintained {
            freed_bytes: 4096,
            ..Maintained::default()
        };
        counters.count_maintenance(Duration::from_micros(1500), done);
        let expected = json!({
            "offered": 3,
            "stored": 0,
            "commits": 0,
            "queued": 2,
            "queuedBytes": 0,
            "dropped": [{
                "server": "github",
                "signal": "logs",
                "cause": "queueFull",
                "count": 1,
                "first": "1970-01-01T00:00:00.000000001Z",
                "last": "1970-01-01T00:00:00.000000001Z",
            }],
            "maintenance": {
                "steps": 1,
                "longestMs": 1.5,
                "busyMs": 1.5,
                "freedBytes": 4096,
                "rewrittenBytes": 0,
            },
        });
        assert_eq!(serde_json::to_value(counters.stats()).unwrap(), expected);
    }
}
