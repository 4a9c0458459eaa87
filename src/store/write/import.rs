//! Importing: storing records of which some may be stored already.

use crate::{
    error::{Error, Result},
    platform::monotonic_nanos,
    record::{Record, ServerName},
    store::{
        engine::fault::Fault,
        layout::block::RECORD_BYTES_MAX,
        scan::{
            order::Direction,
            series_scan::{MemoryBudget, PositionRange, SeriesScan},
        },
        tiers::view::View,
        write::append::{Appender, PendingRecord, SeriesBatch},
    },
};
use redb::WriteTransaction;
use std::{collections::HashMap, ops::Range};
use xxhash_rust::xxh3::xxh3_128;

/// Records further apart in time than this are looked up separately, so that one record of ten years
/// ago does not make an import read ten years.
const GAP_NANOS: u64 = 60_000_000_000;
/// The memory for decoded blocks during a look-up, in bytes.
const LOOKUP_BYTES: usize = 16 << 20;

/// The number of imported records, by what became of them.
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

/// Encoded records that are to be imported together.
#[derive(Debug, Default)]
pub struct ImportBatch {
    parts: Vec<SeriesBatch>,
    records: usize,
    bytes: usize,
}

impl ImportBatch {
    /// Adds a record. Fails with [`Error::InvalidRecord`] when it cannot be stored: because it is
    /// larger than 16 MiB or nested too deep.
    pub fn push(&mut self, server: &ServerName, record: &Record) -> Result<()> {
        let signal = record.signal();
        let mut payload = Vec::new();
        let invalid = |reason| Error::InvalidRecord { signal, reason };
        record
            .encode_payload(&mut payload)
            .map_err(|error| invalid(error.to_string()))?;
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

    /// Whether there is no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// The size of the encoded records, in bytes.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.bytes
    }
}

/// What an import needs beside its transaction.
pub(crate) struct ImportContext<'a> {
    pub(crate) appender: &'a mut Appender,
    /// The state that the transaction builds on.
    pub(crate) view: &'a View,
    /// The sequences of records that the same importer stored, which are no duplicates.
    pub(crate) own: &'a [Range<u64>],
    /// The time by which age is judged, in nanoseconds since the epoch.
    pub(crate) now: i64,
    /// The size of the database on the disk.
    pub(crate) used_bytes: u64,
}

/// Stores what is new of `batch`. Returns the sequences that it got, and how many records were too
/// old.
pub(crate) fn import(
    transaction: &WriteTransaction,
    batch: &mut ImportBatch,
    context: ImportContext<'_>,
) -> Result<(Range<u64>, u64), Fault> {
    let ImportContext {
        appender,
        view,
        own,
        now,
        used_bytes,
    } = context;
    let limits = &mut appender.cache.limits;
    limits.refresh(transaction)?;
    let mut too_old = 0;
    for part in &mut batch.parts {
        let cutoff = limits.cutoff(&part.server, now).unwrap_or(i64::MIN);
        let before = part.records.len();
        part.records.retain(|record| record.timestamp >= cutoff);
        too_old += before - part.records.len();
        drop_duplicates(view, own, part)?;
    }
    let batch = &mut batch.parts;
    appender.append(transaction, batch, used_bytes)?;
    let first = batch.first().map_or(0, |part| part.appended.sequences.0);
    let end = batch.last().map_or(first, |part| part.appended.sequences.1);
    Ok((first..end, too_old as u64))
}

/// Drops the records of `part` that are stored already.
fn drop_duplicates(view: &View, own: &[Range<u64>], part: &mut SeriesBatch) -> Result<(), Fault> {
    part.records.sort_by_key(|record| record.timestamp);
    let mut stored: HashMap<(i64, u128), usize> = HashMap::new();
    let series = view
        .series()?
        .into_iter()
        .find(|entry| entry.server == part.server && entry.signal == part.signal);
    let Some(series) = series else { return Ok(()) };
    for cluster in part
        .records
        .chunk_by(|a, b| b.timestamp.abs_diff(a.timestamp) <= GAP_NANOS)
    {
        let (Some(first), Some(last)) = (cluster.first(), cluster.last()) else {
            continue;
        };
        let range = PositionRange {
            first: (first.timestamp, 0),
            last: (last.timestamp, u64::MAX),
        };
        let budget = MemoryBudget::new(LOOKUP_BYTES);
        let mut scan = SeriesScan::new(view, &series.state, range, Direction::Forward, 0, budget)?;
        while scan.advance()? {
            let Some(((timestamp, sequence), payload)) = scan.current() else {
                break;
            };
            if !own.iter().any(|range| range.contains(&sequence)) {
                *stored.entry((timestamp, xxh3_128(payload))).or_default() += 1;
            }
        }
    }
    part.records.retain(|record| {
        let left = stored.get_mut(&(record.timestamp, xxh3_128(&record.payload)));
        match left {
            Some(left) if *left > 0 => {
                *left -= 1;
                false
            }
            _ => true,
        }
    });
    Ok(())
}
