//! Storing the records that killed writers left in their spills.

use crate::{
    platform,
    store::{
        ledger::spill::{SpillHeader, SpilledRecord},
        tiers::{cache::WriterCache, sealer::Tiering},
        write::append::{Appender, PendingRecord, SeriesBatch},
    },
};
use std::collections::HashMap;

/// The records that a writer spilled and did not commit, and an appender that honours the wipes since
/// the writer started.
pub(crate) fn uncommitted(
    header: &SpillHeader,
    records: Vec<SpilledRecord<'_>>,
) -> (Appender, Vec<SeriesBatch>) {
    // A wipe is told from the time of emission only on the clock of the same boot. After another
    // one, a record counts as older than every wipe since its writer started.
    let is_same_boot = platform::boot_id() == Some(header.boot);
    let mut batch: Vec<SeriesBatch> = Vec::new();
    let mut places = HashMap::new();
    for record in records {
        let server = record.server.into_owned();
        let place = *places
            .entry((server.clone(), record.signal))
            .or_insert_with(|| {
                batch.push(SeriesBatch::new(server, record.signal));
                batch.len() - 1
            });
        if let Some(part) = batch.get_mut(place) {
            part.records.push(PendingRecord {
                timestamp: record.timestamp,
                emitted: if is_same_boot { record.emitted } else { 0 },
                payload: record.payload.into_owned().into_boxed_slice(),
                is_spilled: true,
            });
        }
    }
    let cache = WriterCache::default();
    let appender = Appender::new(cache, Tiering::default(), header.wipe_generation);
    (appender, batch)
}

/// The number of records of `batch` that were stored.
pub(crate) fn stored(batch: &[SeriesBatch]) -> u64 {
    batch
        .iter()
        .map(|part| part.appended.sequences.1 - part.appended.sequences.0)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        home::SpillFile,
        loss::{LedgerEntry, LossCause},
        read::Query,
        record::{Level, LogRecord, Record, ServerName},
        signal::Signal,
        store::{
            ImportBatch, Importer, Store, StoreOptions, WipeScope,
            ledger::{
                spill::{self, Spill},
                writers::{BatchId, Entered, WriterEntry},
            },
        },
        time::Timestamp,
    };
    use std::{borrow::Cow, io};

    struct Stack {
        _home: tempfile::TempDir,
        store: Store,
        entry: WriterEntry,
        spill: Option<Spill>,
    }

    impl Stack {
        /// A store with a writer that has spilled nothing.
        fn new() -> Stack {
            Stack::with(StoreOptions::default())
        }

        fn with(options: StoreOptions) -> Stack {
            let home = tempfile::tempdir().unwrap();
            let store = Store::open(home.path(), "stack", options).unwrap();
            let Entered { entry, spill, .. } = store.writer().unwrap().enter_writer().unwrap();
            Stack {
                _home: home,
                store,
                entry,
                spill: spill.ok(),
            }
        }

        /// Spills the logs with these numbers, as records of `batch`.
        fn spill(&mut self, batch: u64, numbers: std::ops::Range<i64>) {
            let mut bytes = Vec::new();
            for number in numbers {
                let timestamp = Timestamp::from_unix_nanos(number);
                let mut payload = Vec::new();
                LogRecord::new(timestamp, Level::INFO, "last words")
                    .encode_payload(&mut payload)
                    .unwrap();
                let record = SpilledRecord {
                    batch,
                    server: Cow::Owned(ServerName::new("github").unwrap()),
                    signal: Signal::Logs,
                    timestamp: number,
                    emitted: platform::monotonic_nanos(),
                    payload: Cow::Owned(payload),
                };
                record.encode(&mut bytes);
            }
            self.spill.as_mut().unwrap().append(&bytes).unwrap();
        }

        /// Commits a batch with this number and without records.
        fn commit(&self, number: u64) {
            let writer = self.store.writer().unwrap();
            let mut appender = writer.appender(Tiering::default()).unwrap();
            let id = BatchId {
                writer: self.entry,
                number,
                previous: 0,
            };
            writer.append(&mut appender, &mut [], &[], id).unwrap();
        }

        /// The writer is killed, and another process opens the store.
        fn kill_and_recover(&mut self) {
            self.spill = None;
            self.store.writer().unwrap().recover().unwrap();
        }

        fn numbers(&self) -> Vec<i64> {
            let found = self.store.last(&Query::new(Signal::Logs), 1000).unwrap();
            found.iter().map(|it| it.timestamp.unix_nanos()).collect()
        }

        fn sequences(&self) -> Vec<u64> {
            let found = self.store.last(&Query::new(Signal::Logs), 1000).unwrap();
            found.iter().map(|it| it.sequence).collect()
        }

        /// The number of recovered records of each kill in the ledger. None is lost.
        fn kills(&self) -> Vec<u64> {
            let ledger = self.ledger();
            assert!(ledger.iter().all(|entry| entry.2 == LossCause::Crash));
            assert!(ledger.iter().all(|entry| entry.1 == 0));
            ledger.iter().map(|entry| entry.0).collect()
        }

        /// The number of recovered records and of lost ones, and the cause, of each entry.
        fn ledger(&self) -> Vec<(u64, u64, LossCause)> {
            let ledger = self.store.snapshot().unwrap().ledger(..).unwrap();
            let told = |entry: &LedgerEntry| (entry.recovered, entry.count, entry.cause);
            ledger.iter().map(told).collect()
        }

        fn file(&self) -> std::path::PathBuf {
            self.store
                .place()
                .spill(self.entry.number, SpillFile::First)
        }

        fn has_files(&self) -> bool {
            let place = self.store.place();
            (SpillFile::BOTH.iter()).any(|file| place.spill(self.entry.number, *file).exists())
        }
    }

    #[test]
    fn what_was_not_committed_is_stored_once() {
        let mut stack = Stack::new();
        stack.spill(1, 0..3);
        stack.spill(2, 3..5);
        // The first batch was committed, and the process killed before it was cut off.
        stack.commit(1);
        let writer = stack.store.writer().unwrap();
        assert!(stack.store.writers().unwrap()[0].is_running);
        writer.recover().unwrap();
        assert!(stack.numbers().is_empty(), "the writer runs");
        for _ in 0..2 {
            stack.kill_and_recover();
            assert_eq!(stack.numbers(), [3, 4]);
            assert_eq!(stack.kills(), [2]);
            assert!(!stack.has_files());
            assert_eq!(stack.store.writers().unwrap(), []);
        }
    }

    #[test]
    fn records_are_counted_whatever_was_stored_before_them() {
        let mut stack = Stack::new();
        let mut batch = ImportBatch::default();
        for number in 0..7 {
            let log = LogRecord::new(Timestamp::from_unix_nanos(number), Level::INFO, "before");
            let server = ServerName::new("github").unwrap();
            batch.push(&server, &Record::Log(log)).unwrap();
        }
        Importer::new(&stack.store).unwrap().add(batch).unwrap();
        stack.spill(1, 7..10);
        stack.kill_and_recover();
        assert_eq!(stack.numbers(), (0..10).collect::<Vec<_>>());
        assert_eq!(stack.kills(), [3]);
    }

    #[test]
    fn records_that_are_not_whole_are_counted() {
        let mut first = Stack::new();
        first.spill(1, 0..1);
        let one = std::fs::read(first.file()).unwrap().len();
        let mut whole = Stack::new();
        whole.spill(1, 0..3);
        let bytes = std::fs::read(whole.file()).unwrap();
        let record = one - 512;
        assert_eq!(bytes.len(), 512 + 3 * record);
        for cut in [
            512,
            513,
            one - 1,
            one,
            one + 11,
            one + 30,
            one + record,
            bytes.len() - 1,
        ] {
            let mut stack = Stack::new();
            std::fs::write(stack.file(), &bytes[..cut]).unwrap();
            stack.kill_and_recover();
            let (found, lost) = ((cut - 512) / record, (cut - 512) % record != 0);
            assert_eq!(stack.numbers().len(), found, "{cut}");
            let expected = (found as u64, u64::from(lost), LossCause::Crash);
            assert_eq!(stack.ledger(), [expected], "{cut}");
        }
        // After a damaged length, no other record is found.
        for (changed, found) in [
            (520, 2),
            (one, 1),
            (one + 5, 2),
            (one + 20, 2),
            (bytes.len() - 1, 2),
        ] {
            let mut stack = Stack::new();
            let mut bytes = bytes.clone();
            bytes[changed] ^= 1;
            std::fs::write(stack.file(), &bytes).unwrap();
            stack.kill_and_recover();
            assert_eq!(stack.numbers().len() as u64, found, "{changed}");
            let expected = (found, 3 - found, LossCause::Crash);
            assert_eq!(stack.ledger(), [expected], "{changed}");
        }
        // The other file has the header, too.
        let mut stack = Stack::new();
        let mut bytes = bytes.clone();
        bytes[511] ^= 1;
        std::fs::write(stack.file(), &bytes).unwrap();
        stack.kill_and_recover();
        assert_eq!(stack.kills(), [3]);
    }

    #[test]
    fn a_committed_record_that_is_not_whole_is_not_lost() {
        let mut stack = Stack::new();
        stack.spill(1, 0..2);
        let bytes = std::fs::read(stack.file()).unwrap();
        std::fs::write(stack.file(), &bytes[..bytes.len() - 1]).unwrap();
        stack.commit(1);
        stack.kill_and_recover();
        assert_eq!(stack.ledger(), [(0, 0, LossCause::Crash)]);
    }

    #[test]
    fn both_files_are_recovered_in_the_order_of_their_records() {
        for turns_before in [0, 1] {
            for committed in [0, 1, 3] {
                let mut stack = Stack::new();
                let turn = |stack: &mut Stack| stack.spill.as_mut().unwrap().turn();
                (0..turns_before).for_each(|_| turn(&mut stack));
                stack.spill(1, 0..3);
                turn(&mut stack);
                // The commit of batch 1 has begun, and these arrive.
                stack.spill(3, 3..5);
                stack.spill(3, 5..6);
                stack.commit(committed);
                stack.kill_and_recover();
                let expected: Vec<i64> = match committed {
                    0 => (0..6).collect(),
                    1 => (3..6).collect(),
                    _ => Vec::new(),
                };
                assert_eq!(stack.numbers(), expected);
                assert_eq!(
                    stack.sequences(),
                    (0..expected.len() as u64).collect::<Vec<_>>()
                );
                assert_eq!(stack.kills(), [expected.len() as u64]);
                assert!(!stack.has_files());
            }
        }
    }

    #[test]
    fn a_commit_cuts_off_what_was_spilled_before_it_began() {
        let mut stack = Stack::new();
        stack.spill(1, 0..3);
        let spill = stack.spill.as_mut().unwrap();
        spill.turn();
        // It fails, and is tried again: meanwhile there is no empty file to turn to.
        stack.spill(3, 3..4);
        stack.spill.as_mut().unwrap().turn();
        stack.spill(5, 4..6);
        stack.spill.as_mut().unwrap().clear_committed().unwrap();
        stack.commit(3);
        stack.kill_and_recover();
        assert_eq!(stack.numbers(), [4, 5]);
    }

    #[test]
    fn a_wipe_covers_what_was_spilled_before_it() {
        for is_rebooted in [false, true] {
            let mut stack = Stack::new();
            stack.spill(1, 0..2);
            stack.store.wipe(&WipeScope::everything()).unwrap();
            stack.spill(1, 2..3);
            let mut spilled = spill::read(stack.store.place(), stack.entry.number, 0).unwrap();
            spilled.header.boot ^= u64::from(is_rebooted);
            let (mut appender, mut batch) = uncommitted(&spilled.header, spilled.records);
            let writer = stack.store.writer().unwrap();
            let id = BatchId {
                writer: stack.entry,
                number: 1,
                previous: 0,
            };
            writer.append(&mut appender, &mut batch, &[], id).unwrap();
            // After another boot, the clock no longer says which were emitted first.
            let expected: &[i64] = if is_rebooted { &[] } else { &[2] };
            assert_eq!(stack.numbers(), expected);
        }
        // What a killed writer left is deleted, too.
        let mut stack = Stack::new();
        stack.spill(1, 0..2);
        stack.spill = None;
        assert_eq!(stack.store.wipe(&WipeScope::everything()).unwrap(), 1);
        assert!(stack.numbers().is_empty() && !stack.has_files());
        assert_eq!(stack.kills(), [2]);
    }

    #[test]
    fn records_that_a_closed_writer_left_are_no_crash() {
        let mut stack = Stack::new();
        stack.spill(1, 0..2);
        stack.spill.take().unwrap().keep().unwrap();
        stack.kill_and_recover();
        assert_eq!((stack.numbers(), stack.kills()), (vec![0, 1], vec![]));
        // Unless some are lost.
        let mut stack = Stack::new();
        stack.spill(1, 0..2);
        stack.spill.take().unwrap().keep().unwrap();
        let bytes = std::fs::read(stack.file()).unwrap();
        std::fs::write(stack.file(), &bytes[..bytes.len() - 1]).unwrap();
        stack.kill_and_recover();
        assert_eq!(stack.ledger(), [(0, 1, LossCause::DiskFault)]);
    }

    #[test]
    fn a_recovery_that_fails_at_any_operation_is_repeated() {
        for failing in 0.. {
            let left = std::sync::Arc::new(std::sync::atomic::AtomicI64::new(i64::MAX));
            let counted = std::sync::Arc::clone(&left);
            let options = StoreOptions::default().disk_hook(move |_| {
                if counted.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) == 0 {
                    return Err(io::Error::other("on purpose"));
                }
                Ok(())
            });
            let mut stack = Stack::with(options);
            stack.spill(1, 0..3);
            stack.spill = None;
            let writer = stack.store.writer().unwrap();
            left.store(failing, std::sync::atomic::Ordering::Relaxed);
            let failed = writer.recover().is_err();
            left.store(i64::MAX, std::sync::atomic::Ordering::Relaxed);
            writer.recover().unwrap();
            assert_eq!(stack.numbers(), [0, 1, 2], "{failing}");
            assert_eq!(stack.kills(), [3], "{failing}");
            assert!(!stack.has_files());
            if !failed && failing > 5 {
                break;
            }
        }
    }
}
