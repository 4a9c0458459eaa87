//! The importer: stores the records of files without duplicates.

use crate::{
    error::Result,
    record::{ServerName, Totals},
    store::{
        handle::Store,
        tiers::{cache::WriterCache, sealer::Tiering},
        write::{
            append::Appender,
            import::{self, ImportBatch, ImportContext, ImportCounts, Imported},
        },
        writer::StoreWriter,
    },
};
use std::{collections::HashMap, ops::Range, time::Duration};

/// How long the importer waits between two transactions of a batch.
const PAUSE: Duration = Duration::from_millis(2);

/// Imports the records of files without duplicates, however often a file is imported: a record is
/// added only as often as the files hold it more often than the store.
///
/// Two records are the same when their server, signal, timestamp and content are equal. A record
/// that occurs twice in a file is stored twice, and is still stored twice after the file is
/// imported again.
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
    /// The sequences of the records stored by this importer: they do not count as duplicates.
    own: Vec<Range<u64>>,
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
            own: Vec::new(),
            own_totals: HashMap::new(),
        })
    }

    /// Stores the records of `batch` that are new. Other writers wait for each of its transactions,
    /// which look for stored records for a quarter of a second at most.
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
            own,
            own_totals,
        } = self;
        let imported = writer.transact("import to", |transaction| {
            // No other process can commit while this transaction is open, so a snapshot taken now
            // shows exactly the state that the transaction builds on.
            let snapshot = writer.store().snapshot()?;
            let context = ImportContext {
                appender,
                view: snapshot.view(),
                own,
                own_totals,
                now: writer.trusted_now(transaction)?,
                used_bytes: writer.store().disk_usage()?.used_bytes,
                place: writer.store().place(),
            };
            import::import(transaction, batch, context)
        })?;
        let Imported {
            sequences,
            too_old,
            parts,
        } = imported;
        appender.note_committed(&batch.take_parts(parts));
        let added = sequences.end - sequences.start;
        counts.added += added;
        counts.too_old += too_old;
        match own.last_mut() {
            Some(last) if last.end == sequences.start => last.end = sequences.end,
            _ if added > 0 => own.push(sequences),
            _ => {}
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
        store::StoreOptions,
        time::Timestamp,
    };

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
}
