//! Importing: storing records, some of which may be stored already.

use crate::{
    error::{Error, Result},
    home::StackPath,
    platform::monotonic_nanos,
    record::{EncodedLog, MetricsSnapshot, Record, ServerName, Totals},
    redact::{Redactor, Rules},
    signal::Signal,
    store::{
        engine::{fault::Fault, transaction::WriteTransaction},
        layout::{
            block::RECORD_BYTES_MAX,
            series::{self, SeriesState},
            tables::SERIES,
        },
        ledger::{totals, writers},
        scan::lookup::{Sequences, records_at},
        tiers::view::View,
        write::append::{Appender, PendingRecord, SeriesBatch},
    },
    time::Timestamp,
};
use std::{
    borrow::Cow,
    collections::HashMap,
    fmt,
    ops::{ControlFlow, Range},
    sync::Arc,
    time::{Duration, Instant},
};
use xxhash_rust::xxh3::xxh3_128;

/// How long one transaction looks for stored records: other writers wait for it.
const TRANSACTION_TIME_MAX: Duration = Duration::from_millis(250);
/// The number of records that are looked up before the time is checked.
const LOOKUP_RECORDS: usize = 1024;
/// Maximum number of parts that one transaction stores, each of another series.
pub(crate) const PARTS_MAX: usize = 1024;

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
    /// The index of the part of each series.
    indexes: HashMap<(ServerName, Signal), usize>,
    records: usize,
    bytes: usize,
    rules: Option<Arc<Rules>>,
    /// The index of the part of the last record.
    last: usize,
    /// The last payload, for its memory.
    scratch: Vec<u8>,
}

impl Default for ImportBatch {
    /// A batch that redacts with a [`Redactor`] without registered values.
    fn default() -> ImportBatch {
        ImportBatch {
            parts: Vec::new(),
            indexes: HashMap::new(),
            records: 0,
            bytes: 0,
            rules: Some(Redactor::new().rules()),
            last: 0,
            scratch: Vec::new(),
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
        let mut payload = std::mem::take(&mut self.scratch);
        payload.clear();
        let encoded = record.encode_payload(&mut payload);
        let pushed = match encoded {
            Ok(()) => self.push_payload(server, signal, record.timestamp(), &payload),
            Err(error) => Err(Error::InvalidRecord {
                signal,
                reason: error.to_string(),
            }),
        };
        self.scratch = payload;
        pushed
    }

    /// Adds a log that is encoded already.
    ///
    /// Fails like [`ImportBatch::push`].
    pub fn push_log(&mut self, server: &ServerName, log: &EncodedLog) -> Result<()> {
        self.push_payload(server, Signal::Logs, log.timestamp(), log.payload())
    }

    fn push_payload(
        &mut self,
        server: &ServerName,
        signal: Signal,
        timestamp: Timestamp,
        payload: &[u8],
    ) -> Result<()> {
        let invalid = |reason| Error::InvalidRecord { signal, reason };
        let payload = match &self.rules {
            Some(rules) => rules
                .redact_payload(signal, payload)
                .map_err(|error| invalid(error.to_string()))?,
            None => Cow::Borrowed(payload),
        };
        if payload.len() > RECORD_BYTES_MAX {
            let bytes = payload.len();
            return Err(invalid(format!(
                "it has {bytes} bytes, more than {RECORD_BYTES_MAX}"
            )));
        }
        self.records += 1;
        self.bytes += payload.len();
        let pending = PendingRecord {
            timestamp: timestamp.unix_nanos(),
            emitted: monotonic_nanos(),
            payload: payload.into(),
            is_spilled: false,
        };
        let is_of = |part: &&mut SeriesBatch| part.server == *server && part.signal == signal;
        // The records of a file are of one series.
        if let Some(last) = self.parts.get_mut(self.last).filter(is_of) {
            last.records.push(pending);
            return Ok(());
        }
        self.last = *(self.indexes)
            .entry((server.clone(), signal))
            .or_insert(self.parts.len());
        if self.last == self.parts.len() {
            self.parts.push(SeriesBatch::new(server.clone(), signal));
        }
        if let Some(part) = self.parts.get_mut(self.last) {
            part.records.push(pending);
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

    /// Whether all parts were removed.
    pub(crate) fn has_no_parts(&self) -> bool {
        self.parts.is_empty()
    }

    /// The number of parts.
    #[cfg(test)]
    pub(crate) fn parts(&self) -> usize {
        self.parts.len()
    }

    /// Removes the parts that one transaction stored, with the records that were new.
    pub(crate) fn take_parts(&mut self, count: usize) -> Vec<SeriesBatch> {
        self.parts.drain(..count.min(self.parts.len())).collect()
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
    /// The sequences of records that the same importer has stored, or found for records of earlier batches:
    /// they do not count as duplicates.
    pub(crate) taken: &'a Sequences,
    /// The totals entered by the same importer.
    pub(crate) own_totals: &'a mut HashMap<ServerName, Totals>,
    /// The time by which age is judged, in nanoseconds since the epoch.
    pub(crate) now: i64,
    /// The size of the database on the disk, in bytes.
    pub(crate) used_bytes: u64,
    pub(crate) place: &'a StackPath,
}

/// What one transaction stored.
pub(crate) struct Imported {
    /// The sequences of the records that were new.
    pub(crate) sequences: Range<u64>,
    /// The sequences of stored records for which records of the batch were left out.
    pub(crate) matched: Vec<u64>,
    pub(crate) too_old: u64,
    /// The number of parts of the batch, from the first, that were looked at.
    pub(crate) parts: usize,
}

/// Stores those of the first records of `batch` that are new. Looks up records for no longer than
/// [`TRANSACTION_TIME_MAX`], and takes no more than [`PARTS_MAX`] parts; what is left of the batch is for the
/// next transaction.
pub(crate) fn import(
    transaction: &WriteTransaction,
    batch: &mut ImportBatch,
    context: ImportContext<'_>,
) -> Result<Imported, Fault> {
    let ImportContext {
        appender,
        view,
        taken,
        own_totals,
        now,
        used_bytes,
        place,
    } = context;
    let deadline = Instant::now() + TRANSACTION_TIME_MAX;
    let limits = &mut appender.cache.limits;
    limits.refresh(transaction)?;
    let series = view.transaction().open_table(SERIES)?;
    let mut too_old = 0;
    let mut matched = Vec::new();
    let mut snapshots = Vec::new();
    let mut parts = 0;
    while let Some(part) = batch.parts.get_mut(parts) {
        parts += 1;
        // Before any record is left out, because totals do not expire.
        snapshots.extend(emitted_snapshots(part));
        let cutoff = limits.cutoff(&part.server, now).unwrap_or(i64::MIN);
        let before = part.records.len();
        part.records.retain(|record| record.timestamp >= cutoff);
        too_old += before - part.records.len();
        let key = (part.server.as_str(), part.signal as u8);
        let stored = series.get(key)?;
        // What is stored under a damaged entry is not found any more, and is stored again.
        if let Some(state) = stored.and_then(|it| series::read_state(key, it.value()).ok()) {
            let rest = drop_duplicates(view, &state, taken, part, &mut matched, deadline)?;
            if !rest.is_empty() {
                let mut later = SeriesBatch::new(part.server.clone(), part.signal);
                later.records = rest;
                batch.parts.insert(parts, later);
            }
        }
        if parts >= PARTS_MAX || Instant::now() >= deadline {
            break;
        }
    }
    let batch = batch.parts.get_mut(..parts).unwrap_or_default();
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
    Ok(Imported {
        sequences: first..end,
        matched,
        too_old: too_old as u64,
        parts,
    })
}

/// The snapshots of a part in the order of its files, each with the time when it was emitted; `None` for
/// other signals.
fn emitted_snapshots(part: &SeriesBatch) -> Option<(ServerName, Vec<(u64, MetricsSnapshot)>)> {
    if part.signal != Signal::Metrics {
        return None;
    }
    let snapshots = part.records.iter().filter_map(|record| {
        let snapshot = totals::read_counters(record.timestamp, &record.payload)?;
        Some((record.emitted, snapshot))
    });
    Some((part.server.clone(), snapshots.collect()))
}

/// Drops each record of `part` as often as it is stored already, and adds the sequences of those to
/// `matched`. Returns the records that were not looked up until `deadline`.
fn drop_duplicates(
    view: &View,
    state: &SeriesState,
    taken: &Sequences,
    part: &mut SeriesBatch,
    matched: &mut Vec<u64>,
    deadline: Instant,
) -> Result<Vec<PendingRecord>, Fault> {
    let is_of_metrics = part.signal == Signal::Metrics;
    part.records.sort_by_key(|record| record.timestamp);
    let mut rest = std::mem::take(&mut part.records);
    while !rest.is_empty() {
        let end = match rest.get(LOOKUP_RECORDS) {
            // Totals are computed from all snapshots of a batch, in their order.
            Some(next) if !is_of_metrics => {
                rest.partition_point(|record| record.timestamp <= next.timestamp)
            }
            _ => rest.len(),
        };
        let later = rest.split_off(end);
        let mut records = std::mem::replace(&mut rest, later);
        drop_stored(view, state, taken, &mut records, is_of_metrics, matched)?;
        part.records.append(&mut records);
        if Instant::now() >= deadline {
            break;
        }
    }
    Ok(rest)
}

/// Drops each of the records as often as it is stored already. They must be in the order of time.
fn drop_stored(
    view: &View,
    state: &SeriesState,
    taken: &Sequences,
    records: &mut Vec<PendingRecord>,
    is_of_metrics: bool,
    matched: &mut Vec<u64>,
) -> Result<(), Fault> {
    let timestamps: Vec<i64> = records.iter().map(|record| record.timestamp).collect();
    // A snapshot that was exported has no interval, and is still the same record.
    let content = |payload: &[u8]| {
        if is_of_metrics {
            xxh3_128(&MetricsSnapshot::line_payload(payload))
        } else {
            xxh3_128(payload)
        }
    };
    let identity = |record: &PendingRecord| (record.timestamp, content(&record.payload));
    // How often each record is here, and how many stored copies were found. Other records are not
    // counted, so its size is bounded by the batch.
    let mut copies: HashMap<(i64, u128), (usize, usize)> = HashMap::new();
    for record in &*records {
        copies.entry(identity(record)).or_default().0 += 1;
    }
    let mut left = records.len();
    let transaction = view.transaction();
    records_at(
        transaction,
        state,
        &timestamps,
        taken,
        |(time, sequence), payload| {
            if let Some((here, stored)) = copies.get_mut(&(time, content(payload)))
                && stored < here
            {
                *stored += 1;
                left -= 1;
                matched.push(sequence);
            }
            // Otherwise equal records would be compared with all of their copies, batch by batch.
            if left == 0 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        },
    )?;
    records.retain(|record| match copies.get_mut(&identity(record)) {
        Some((_, stored)) if *stored > 0 => {
            *stored -= 1;
            false
        }
        _ => true,
    });
    Ok(())
}
