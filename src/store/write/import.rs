//! Importing: storing records, some of which may be stored already.

use crate::{
    error::{Error, Result},
    home::StackPath,
    platform::monotonic_nanos,
    record::{MetricsSnapshot, Record, ServerName, Totals},
    redact::{Redactor, Rules},
    signal::Signal,
    store::{
        engine::{fault::Fault, transaction::WriteTransaction},
        layout::{block::RECORD_BYTES_MAX, series::SeriesState},
        ledger::{totals, writers},
        scan::lookup::records_at,
        tiers::view::View,
        write::append::{Appender, PendingRecord, SeriesBatch},
    },
};
use std::{borrow::Cow, collections::HashMap, fmt, ops::Range, sync::Arc};
use xxhash_rust::xxh3::xxh3_128;

/// The number of imported records by outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ImportCounts {
    /// Records that were stored.
    pub added: u64,
    /// Records that were stored already.
    pub duplicates: u64,
    /// Records that were not stored because they have expired by the limits of the store.
    pub too_old: u64,
}

/// Encoded records to import together, with their secrets redacted.
pub struct ImportBatch {
    parts: Vec<SeriesBatch>,
    records: usize,
    bytes: usize,
    rules: Option<Arc<Rules>>,
}

impl Default for ImportBatch {
    /// A batch that redacts with a [`Redactor`] without registered values.
    fn default() -> ImportBatch {
        ImportBatch {
            parts: Vec::new(),
            records: 0,
            bytes: 0,
            rules: Some(Redactor::new().rules()),
        }
    }
}

impl fmt::Debug for ImportBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImportBatch")
            .field("records", &self.records)
            .field("bytes", &self.bytes)
            .field("redacts", &self.rules.is_some())
            .finish_non_exhaustive()
    }
}

impl ImportBatch {
    /// Redacts records pushed from now on with the present rules of `redactor`; `None` stores records
    /// unredacted. Records are compared with stored ones after redaction, so importing a file again
    /// with the same redactor adds no record.
    #[must_use]
    pub fn redactor(mut self, redactor: Option<Redactor>) -> ImportBatch {
        self.rules = redactor.map(|redactor| redactor.rules());
        self
    }

    /// Adds a record.
    ///
    /// Fails with [`Error::InvalidRecord`] when it cannot be stored: it is larger than 16 MiB or
    /// nested too deep.
    pub fn push(&mut self, server: &ServerName, record: &Record) -> Result<()> {
        let signal = record.signal();
        let mut payload = Vec::new();
        let invalid = |reason| Error::InvalidRecord { signal, reason };
        record
            .encode_payload(&mut payload)
            .map_err(|error| invalid(error.to_string()))?;
        if let Some(rules) = &self.rules
            && let Cow::Owned(redacted) = rules
                .redact_payload(signal, &payload)
                .map_err(|error| invalid(error.to_string()))?
        {
            payload = redacted;
        }
        if payload.len() > RECORD_BYTES_MAX {
            let bytes = payload.len();
            return Err(invalid(format!(
                "it has {bytes} bytes, more than {RECORD_BYTES_MAX}"
            )));
        }
        self.records += 1;
        self.bytes += payload.len();
        let pending = PendingRecord {
            timestamp: record.timestamp().unix_nanos(),
            emitted: monotonic_nanos(),
            payload: payload.into_boxed_slice(),
            is_spilled: false,
        };
        let known = |part: &&mut SeriesBatch| part.server == *server && part.signal == signal;
        if let Some(part) = self.parts.iter_mut().rev().find(known) {
            part.records.push(pending);
        } else {
            let mut part = SeriesBatch::new(server.clone(), signal);
            part.records.push(pending);
            self.parts.push(part);
        }
        Ok(())
    }

    /// The number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records
    }

    /// Whether there are no records.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// The records of each series. After the import, those that were stored.
    pub(crate) fn parts(&self) -> &[SeriesBatch] {
        &self.parts
    }

    /// The size of the encoded records, in bytes.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.bytes
    }
}

/// The inputs of an import beside its transaction.
pub(crate) struct ImportContext<'a> {
    pub(crate) appender: &'a mut Appender,
    /// The state that the transaction builds on.
    pub(crate) view: &'a View,
    /// The sequences of records stored by the same importer: they do not count as duplicates.
    pub(crate) own: &'a [Range<u64>],
    /// The totals entered by the same importer.
    pub(crate) own_totals: &'a mut HashMap<ServerName, Totals>,
    /// The time by which age is judged, in nanoseconds since the epoch.
    pub(crate) now: i64,
    /// The size of the database on the disk, in bytes.
    pub(crate) used_bytes: u64,
    pub(crate) place: &'a StackPath,
}

/// Stores the records of `batch` that are new. Returns their sequences, and the number of records
/// that were too old.
pub(crate) fn import(
    transaction: &WriteTransaction,
    batch: &mut ImportBatch,
    context: ImportContext<'_>,
) -> Result<(Range<u64>, u64), Fault> {
    let ImportContext {
        appender,
        view,
        own,
        own_totals,
        now,
        used_bytes,
        place,
    } = context;
    let limits = &mut appender.cache.limits;
    limits.refresh(transaction)?;
    let stored: HashMap<_, _> = view
        .series()?
        .into_iter()
        .map(|entry| ((entry.server, entry.signal), entry.state))
        .collect();
    let mut too_old = 0;
    // Collected before any record is left out, because totals do not expire.
    let snapshots = emitted_snapshots(batch);
    for part in &mut batch.parts {
        let cutoff = limits.cutoff(&part.server, now).unwrap_or(i64::MIN);
        let before = part.records.len();
        part.records.retain(|record| record.timestamp >= cutoff);
        too_old += before - part.records.len();
        if let Some(state) = stored.get(&(part.server.clone(), part.signal)) {
            drop_duplicates(view, state, own, part)?;
        }
    }
    let batch = &mut batch.parts;
    appender.append(transaction, batch, used_bytes)?;
    let running = !snapshots.is_empty() && writers::is_any_running(transaction, place)?;
    for (server, mut snapshots) in snapshots {
        snapshots.retain(|(emitted, _)| !appender.counters_are_wiped(&server, *emitted));
        let snapshots: Vec<_> = snapshots
            .into_iter()
            .map(|(_, snapshot)| snapshot)
            .collect();
        totals::import(transaction, &server, &snapshots, own_totals, running)?;
    }
    let first = batch.first().map_or(0, |part| part.appended.sequences.0);
    let end = batch.last().map_or(first, |part| part.appended.sequences.1);
    Ok((first..end, too_old as u64))
}

/// The snapshots of each server in the order of its files, each with the time when it was emitted.
fn emitted_snapshots(batch: &ImportBatch) -> Vec<(ServerName, Vec<(u64, MetricsSnapshot)>)> {
    let parts = batch.parts.iter();
    parts
        .filter(|part| part.signal == Signal::Metrics)
        .map(|part| {
            let records = part.records.iter();
            let snapshots = records.filter_map(|record| {
                let snapshot = totals::read_counters(record.timestamp, &record.payload)?;
                Some((record.emitted, snapshot))
            });
            (part.server.clone(), snapshots.collect())
        })
        .collect()
}

/// Drops each record of `part` as often as it is stored already.
fn drop_duplicates(
    view: &View,
    state: &SeriesState,
    own: &[Range<u64>],
    part: &mut SeriesBatch,
) -> Result<(), Fault> {
    part.records.sort_by_key(|record| record.timestamp);
    let timestamps: Vec<i64> = part.records.iter().map(|record| record.timestamp).collect();
    // A snapshot that was exported has no interval, and is still the same record.
    let is_of_metrics = part.signal == Signal::Metrics;
    let content = |payload: &[u8]| {
        if is_of_metrics {
            xxh3_128(&MetricsSnapshot::line_payload(payload))
        } else {
            xxh3_128(payload)
        }
    };
    let identity = |record: &PendingRecord| (record.timestamp, content(&record.payload));
    // The number of stored copies of each record of the batch. Other records are not counted, so
    // its size is bounded by the batch.
    let mut stored: HashMap<(i64, u128), usize> = part
        .records
        .iter()
        .map(|record| (identity(record), 0))
        .collect();
    let transaction = view.transaction();
    records_at(
        transaction,
        state,
        &timestamps,
        own,
        |(time, _), payload| {
            if let Some(copies) = stored.get_mut(&(time, content(payload))) {
                *copies += 1;
            }
        },
    )?;
    part.records.retain(|record| {
        let copies = stored.get_mut(&identity(record));
        match copies {
            Some(copies) if *copies > 0 => {
                *copies -= 1;
                false
            }
            _ => true,
        }
    });
    Ok(())
}
