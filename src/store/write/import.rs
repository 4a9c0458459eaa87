//! Storing records that may be stored already.

use crate::{
    error::{Error, Result},
    platform::monotonic_nanos,
    record::{Record, ServerName},
    store::{
        engine::fault::Fault,
        handle::{Store, StoreWriter},
        layout::block::RECORD_BYTES_MAX,
        ledger::wipes::WipeMarks,
        maintain::pass::Upkeep,
        scan::series_scan::{Direction, MemoryBudget, PositionRange, SeriesScan},
        snapshot::Snapshot,
        tiers::sealer::{Sealer, Tiering},
        write::append::{PendingRecord, SeriesBatch, append},
    },
};
use std::{collections::HashMap, ops::Range};
use xxhash_rust::xxh3::xxh3_128;

/// Timestamps further apart than this are looked up apart, so that a file with one record of ten
/// years ago does not make the importer read ten years.
const GAP_NANOS: u64 = 60_000_000_000;
/// What decoded blocks may take while looking up.
const LOOKUP_BYTES: usize = 16 << 20;

/// Stores records of files, each once however often its file is imported: a record is added only
/// if the store does not hold it as often as the files brought it.
///
/// Two records are the same when their server, signal, timestamp and content are. A file that names
/// a record twice has it twice in the store, and still twice after it is imported again.
///
/// ```
/// use gridctl_telemetry::{Level, LogRecord, Record, ServerName, Timestamp, import::{ImportBatch, Importer}};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let home = tempfile::tempdir()?;
/// # let home = home.path();
/// # let store = gridctl_telemetry::Store::open(home, "my-stack", Default::default())?;
/// let github = ServerName::new("github")?;
/// let record = Record::Log(LogRecord::new(Timestamp::now(), Level::INFO, "from a file"));
/// let mut added = Vec::new();
/// for _ in 0..2 {
///     // Each run over the files has an importer of its own.
///     let mut importer = Importer::new(&store)?;
///     let mut batch = ImportBatch::default();
///     batch.push(&github, &record)?;
///     added.push(importer.add(batch)?.added);
/// }
/// assert_eq!(added, [1, 0]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Importer {
    writer: StoreWriter,
    wipes: WipeMarks,
    sealer: Sealer,
    upkeep: Upkeep,
    /// The sequences of what this importer stored, which do not count as stored before.
    own: Vec<Range<u64>>,
}

/// What became of imported records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ImportCounts {
    /// Records that were stored.
    pub added: u64,
    /// Records that were stored already.
    pub duplicates: u64,
    /// Records that were not stored because they are older than the store keeps them.
    pub too_old: u64,
}

/// Records on their way into a store, encoded.
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

    /// How many records were added.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records
    }

    /// Whether no record was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// What the records take encoded, in bytes.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.bytes
    }
}

impl Importer {
    /// An importer for one run over any number of files.
    ///
    /// Fails with [`Error::ReadOnly`] when the store is.
    pub fn new(store: &Store) -> Result<Importer> {
        let writer = store.writer()?;
        let wipes = writer.wipe_marks()?;
        Ok(Importer {
            writer,
            wipes,
            sealer: Sealer::new(Tiering::default()),
            upkeep: Upkeep::default(),
            own: Vec::new(),
        })
    }

    /// Stores what is new of `batch`, in one transaction.
    ///
    /// Fails with [`Error::Database`] and [`Error::Corrupt`], and nothing of it is stored then.
    pub fn add(&mut self, batch: ImportBatch) -> Result<ImportCounts> {
        let ImportBatch {
            parts: mut batch,
            records: offered,
            ..
        } = batch;
        let Importer {
            writer,
            wipes,
            sealer,
            upkeep,
            own,
        } = self;
        let (sequences, too_old) = writer.transact("import to", |transaction| {
            // No other process commits while this transaction is open, so a snapshot that is taken
            // now shows exactly what it builds on.
            let snapshot = writer.store().snapshot()?;
            let now = writer.trusted_now(transaction)?;
            upkeep.limits.refresh(transaction)?;
            let mut too_old = 0;
            for part in &mut batch {
                let cutoff = upkeep.limits.cutoff(&part.server, now).unwrap_or(i64::MIN);
                let before = part.records.len();
                part.records.retain(|record| record.timestamp >= cutoff);
                too_old += before - part.records.len();
                drop_duplicates(&snapshot, own, part)?;
            }
            let used = writer.store().disk_usage()?.used_bytes;
            append(transaction, &mut batch, wipes, sealer, upkeep, used)?;
            let first = batch.first().map_or(0, |part| part.appended.sequences.0);
            let end = batch.last().map_or(first, |part| part.appended.sequences.1);
            Ok((first..end, too_old as u64))
        })?;
        let added = sequences.end - sequences.start;
        match own.last_mut() {
            Some(last) if last.end == sequences.start => last.end = sequences.end,
            _ if added > 0 => own.push(sequences),
            _ => {}
        }
        Ok(ImportCounts {
            added,
            duplicates: offered as u64 - added - too_old,
            too_old,
        })
    }
}

/// Takes from `part` what is stored already.
fn drop_duplicates(
    snapshot: &Snapshot,
    own: &[Range<u64>],
    part: &mut SeriesBatch,
) -> Result<(), Fault> {
    part.records.sort_by_key(|record| record.timestamp);
    let mut stored: HashMap<(i64, u128), usize> = HashMap::new();
    let series = snapshot
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
        let mut scan = SeriesScan::new(
            snapshot,
            &series.state,
            range,
            Direction::Forward,
            0,
            budget,
        )?;
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
