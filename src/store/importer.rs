//! The importer: stores the records of files without duplicates.

use crate::{
    error::Result,
    record::{ServerName, Totals},
    store::{
        handle::Store,
        ledger::writers,
        scan::lookup::Sequences,
        tiers::{cache::WriterCache, sealer::Tiering},
        write::{
            append::Appender,
            import::{self, ImportBatch, ImportContext, ImportCounts, Imported},
        },
        writer::StoreWriter,
    },
};
use std::{collections::HashMap, time::Duration};

/// How long the importer waits between two transactions of a batch.
const PAUSE: Duration = Duration::from_millis(2);

/// Imports the records of files without duplicates, however often a file is imported: a record is
/// added only as often as the files hold it more often than the store.
///
/// Two records are the same when their server, signal, timestamp and content are equal. A record
/// that occurs twice in a file is stored twice, and is still stored twice after the file is
/// imported again, in however many batches its copies are.
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
    appender: Appender,
    /// The sequences of the records that this importer has stored, or found stored for a record of a file:
    /// each is the copy of one record.
    taken: Sequences,
    /// The totals entered by this importer, from which it continues.
    own_totals: HashMap<ServerName, Totals>,
}

impl Importer {
    /// Creates an importer for one run over any number of files.
    ///
    /// Fails with [`Error::ReadOnly`](crate::Error::ReadOnly) when the store is read-only, and with
    /// [`Error::Corrupt`](crate::Error::Corrupt) when it is too damaged to be written to.
    pub fn new(store: &Store) -> Result<Importer> {
        let writer = store.writer()?;
        store.admit_fully()?;
        let wipe_generation = store.snapshot()?.view().wipe_generation()?;
        Ok(Importer {
            writer,
            appender: Appender::new(WriterCache::default(), Tiering::default(), wipe_generation),
            taken: Sequences::default(),
            own_totals: HashMap::new(),
        })
    }

    /// Stores the records of `batch` that are new. Other writers wait for each of its transactions,
    /// which look for stored records for a quarter of a second at most, and store records of at most 1,024
    /// pairs of a server and a signal.
    ///
    /// Fails with [`Error::Database`](crate::Error::Database) and
    /// [`Error::Corrupt`](crate::Error::Corrupt). A part of the batch may then be stored: importing the
    /// same files again adds only the rest.
    pub fn add(&mut self, mut batch: ImportBatch) -> Result<ImportCounts> {
        let offered = batch.len() as u64;
        let mut counts = ImportCounts::default();
        loop {
            self.add_first(&mut batch, &mut counts)?;
            if batch.has_no_parts() {
                break;
            }
            // Otherwise this process could begin the next transaction before another one that waits.
            std::thread::sleep(PAUSE);
        }
        counts.duplicates = offered - counts.added - counts.too_old;
        Ok(counts)
    }

    /// Stores the first records of a batch in one transaction, and removes them from the batch.
    fn add_first(&mut self, batch: &mut ImportBatch, counts: &mut ImportCounts) -> Result<()> {
        let Importer {
            writer,
            appender,
            taken,
            own_totals,
        } = self;
        let imported = writer.transact("import to", |transaction| {
            writers::ensure_identity(transaction)?;
            // No other process can commit while this transaction is open, so a snapshot taken now
            // shows exactly the state that the transaction builds on.
            let snapshot = writer.store().snapshot()?;
            let context = ImportContext {
                appender,
                view: snapshot.view(),
                taken,
                own_totals,
                now: writer.trusted_now(transaction)?,
                used_bytes: writer.store().disk_usage()?.used_bytes,
                place: writer.store().place(),
            };
            import::import(transaction, batch, context)
        })?;
        let Imported {
            sequences,
            mut matched,
            too_old,
            parts,
        } = imported;
        appender.note_committed(&batch.take_parts(parts));
        let added = sequences.end - sequences.start;
        counts.added += added;
        counts.too_old += too_old;
        taken.insert(sequences);
        // Neighbours become one range, and no range is in between for long.
        matched.sort_unstable();
        for sequence in matched {
            taken.insert(sequence..sequence + 1);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        record::{Level, LogRecord, Record, ServerName},
        signal::Signal,
        store::{DiskOperation, RECORD_BYTES_MAX, StoreOptions, write::import::PARTS_MAX},
        time::Timestamp,
    };
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };
    use xxhash_rust::xxh3::xxh3_64_with_seed;

    /// Limits count the rows that the writer knows of.
    #[test]
    fn an_importer_knows_the_rows_of_its_earlier_batches() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path(), "stack", StoreOptions::default()).unwrap();
        let server = ServerName::new("github").unwrap();
        let mut importer = Importer::new(&store).unwrap();
        for number in 0..3 {
            let time = Timestamp::from_unix_nanos(number);
            let mut batch = ImportBatch::default();
            let record = Record::Log(LogRecord::new(time, Level::INFO, "from a file"));
            batch.push(&server, &record).unwrap();
            importer.add(batch).unwrap();
            let present = WriterCache::new(store.snapshot().unwrap().view()).unwrap();
            let known = &importer.appender.cache;
            assert!(present.rows.bytes() > 0);
            assert_eq!(known.rows.bytes(), present.rows.bytes());
            let bytes_of = |cache: &WriterCache| cache.rows.bytes_of(&server, Signal::Logs);
            assert_eq!(bytes_of(known), bytes_of(&present));
        }
    }

    fn log(time: i64, text: &str) -> Record {
        let time = Timestamp::from_unix_nanos(time);
        Record::Log(LogRecord::new(time, Level::INFO, text))
    }

    #[test]
    fn copies_are_counted_over_batches() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path(), "stack", StoreOptions::default()).unwrap();
        let server = ServerName::new("github").unwrap();
        // The numbers of copies in each batch of a run, and how many of them are added.
        for (batches, added) in [
            (vec![1], 1),
            (vec![1, 1], 1),
            (vec![2], 0),
            (vec![1, 1], 0),
            (vec![1, 3, 1], 3),
            (vec![2, 1, 1, 1], 0),
        ] {
            let mut importer = Importer::new(&store).unwrap();
            let mut total = 0;
            for copies in &batches {
                let mut batch = ImportBatch::default();
                for _ in 0..*copies {
                    batch.push(&server, &log(5, "a copy")).unwrap();
                }
                total += importer.add(batch).unwrap().added;
            }
            assert_eq!(total, added, "{batches:?}");
        }
    }

    #[test]
    fn the_longest_record_is_imported_and_no_longer_one() {
        let server = ServerName::new("github").unwrap();
        let payload_bytes = |text: &str| {
            let mut payload = Vec::new();
            log(5, text).encode_payload(&mut payload).unwrap();
            payload.len()
        };
        let text = "x".repeat(RECORD_BYTES_MAX);
        let overhead = payload_bytes(&text) - RECORD_BYTES_MAX;
        for (bytes, fits) in [(RECORD_BYTES_MAX, true), (RECORD_BYTES_MAX + 1, false)] {
            let text = &text[..bytes - overhead];
            assert_eq!(payload_bytes(text), bytes);
            let pushed = ImportBatch::default().push(&server, &log(5, text));
            assert_eq!(pushed.is_ok(), fits, "{pushed:?}");
        }
    }

    /// Otherwise the time of an import of records of the same time would grow with the square of their number.
    #[test]
    fn stored_records_are_read_until_each_of_a_batch_is_found() {
        let home = tempfile::tempdir().unwrap();
        let server = ServerName::new("github").unwrap();
        let text = |number: u64| {
            let part = |seed| xxh3_64_with_seed(&number.to_le_bytes(), seed);
            format!("{:016x}{:016x}{:016x}", part(0), part(1), part(2))
        };
        let read = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&read);
        let options = StoreOptions::default().disk_hook(move |operation| {
            if let DiskOperation::Read { bytes, .. } = operation {
                counter.fetch_add(bytes, Ordering::Relaxed);
            }
            Ok(())
        });
        let store = Store::open(home.path(), "stack", options.clone()).unwrap();
        let mut importer = Importer::new(&store).unwrap();
        for first in (0..40_000).step_by(2000) {
            let mut batch = ImportBatch::default();
            for number in first..first + 2000 {
                batch.push(&server, &log(5, &text(number))).unwrap();
            }
            importer.add(batch).unwrap();
        }
        drop(store);
        let mut bytes_read = Vec::new();
        for number in [0, 40_000] {
            // Without pages in memory.
            let store = Store::open(home.path(), "stack", options.clone()).unwrap();
            let mut importer = Importer::new(&store).unwrap();
            let mut batch = ImportBatch::default();
            batch.push(&server, &log(5, &text(number))).unwrap();
            read.store(0, Ordering::Relaxed);
            importer.add(batch).unwrap();
            bytes_read.push(read.load(Ordering::Relaxed));
        }
        // The first one is in the first block, and the other is in none.
        assert!(bytes_read[0] < bytes_read[1] / 2, "{bytes_read:?}");
    }

    /// Other writers wait for each transaction.
    #[test]
    fn an_import_of_many_series_commits_in_slices() {
        const SERVERS: usize = 2 * PARTS_MAX + 100;
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path(), "stack", StoreOptions::default()).unwrap();
        for is_new in [true, false] {
            let mut importer = Importer::new(&store).unwrap();
            let mut batch = ImportBatch::default();
            for number in 0..SERVERS {
                let server = ServerName::new(format!("server {number}")).unwrap();
                batch.push(&server, &log(5, "one of many")).unwrap();
            }
            let mut counts = ImportCounts::default();
            let mut slices = 0;
            while !batch.has_no_parts() {
                let before = batch.parts();
                importer.add_first(&mut batch, &mut counts).unwrap();
                assert!(before - batch.parts() <= PARTS_MAX);
                slices += 1;
            }
            assert!(slices >= 3, "{slices}");
            assert_eq!(counts.added, if is_new { SERVERS as u64 } else { 0 });
        }
    }
}
