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
/// the writer started. Its last commit was of the batch `last_batch`.
pub(crate) fn uncommitted(
    header: &SpillHeader,
    records: Vec<SpilledRecord<'_>>,
    last_batch: u64,
) -> (Appender, Vec<SeriesBatch>) {
    // A wipe is told from the time of emission only on the clock of the same boot. After another
    // one, a record counts as older than every wipe since its writer started.
    let is_same_boot = platform::boot_id() == Some(header.boot);
    let mut batch: Vec<SeriesBatch> = Vec::new();
    let mut places = HashMap::new();
    for record in records {
        if record.batch <= last_batch {
            continue;
        }
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
        loss::LossCause,
        read::Query,
        record::{Level, LogRecord, ServerName},
        signal::Signal,
        store::{
            Store, StoreOptions, WipeScope,
            ledger::{spill::Spill, writers::BatchId},
        },
        time::Timestamp,
    };
    use std::{borrow::Cow, io};

    struct Stack {
        _home: tempfile::TempDir,
        store: Store,
        number: u64,
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
            let (number, spill) = store.writer().unwrap().enter_writer().unwrap();
            Stack {
                _home: home,
                store,
                number,
                spill,
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

        /// The writer is killed, and another process opens the store.
        fn kill_and_recover(&mut self) {
            self.spill = None;
            self.store.writer().unwrap().recover().unwrap();
        }

        fn numbers(&self) -> Vec<i64> {
            let found = self.store.last(&Query::new(Signal::Logs), 1000).unwrap();
            found.iter().map(|it| it.timestamp.unix_nanos()).collect()
        }

        /// The number of recovered records of each kill in the ledger.
        fn kills(&self) -> Vec<u64> {
            let ledger = self.store.snapshot().unwrap().ledger(..).unwrap();
            assert!(ledger.iter().all(|entry| entry.cause == LossCause::Crash));
            ledger.iter().map(|entry| entry.recovered).collect()
        }

        fn file(&self) -> std::path::PathBuf {
            self.store.place().spill(self.number)
        }
    }

    #[test]
    fn what_was_not_committed_is_stored_once() {
        let mut stack = Stack::new();
        stack.spill(1, 0..3);
        stack.spill(2, 3..5);
        // The first batch was committed, and the process killed before it was cut off.
        let writer = stack.store.writer().unwrap();
        let mut appender = writer.appender(Tiering::default()).unwrap();
        let id = BatchId {
            writer: stack.number,
            number: 1,
        };
        writer.append(&mut appender, &mut [], &[], id).unwrap();
        assert!(stack.store.writers().unwrap()[0].is_running);
        writer.recover().unwrap();
        assert!(stack.numbers().is_empty(), "the writer runs");
        for _ in 0..2 {
            stack.kill_and_recover();
            assert_eq!(stack.numbers(), [3, 4]);
            assert_eq!(stack.kills(), [2]);
            assert!(!stack.file().exists());
            assert_eq!(stack.store.writers().unwrap(), []);
        }
    }

    #[test]
    fn a_spill_ends_at_the_first_record_that_is_not_whole() {
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
            one + record,
            bytes.len() - 1,
        ] {
            let mut stack = Stack::new();
            std::fs::write(stack.file(), &bytes[..cut]).unwrap();
            stack.kill_and_recover();
            assert_eq!(stack.numbers().len(), (cut - 512) / record, "{cut}");
        }
        for changed in [511, 520, one, one + 5, one + 20, bytes.len() - 1] {
            let mut stack = Stack::new();
            let mut bytes = bytes.clone();
            bytes[changed] ^= 1;
            std::fs::write(stack.file(), &bytes).unwrap();
            stack.kill_and_recover();
            let expected = changed.saturating_sub(512) / record;
            assert_eq!(stack.numbers().len(), expected, "{changed}");
            assert_eq!(stack.kills(), [expected as u64]);
        }
    }

    #[test]
    fn a_wipe_covers_what_was_spilled_before_it() {
        for is_rebooted in [false, true] {
            let mut stack = Stack::new();
            stack.spill(1, 0..2);
            stack.store.wipe(&WipeScope::everything()).unwrap();
            stack.spill(1, 2..3);
            let (mut header, records) =
                crate::store::ledger::spill::read(stack.store.place(), stack.number).unwrap();
            header.boot ^= u64::from(is_rebooted);
            let (mut appender, mut batch) = uncommitted(&header, records, 0);
            let writer = stack.store.writer().unwrap();
            let id = BatchId {
                writer: stack.number,
                number: 1,
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
        assert!(stack.numbers().is_empty() && !stack.file().exists());
        assert_eq!(stack.kills(), [2]);
    }

    #[test]
    fn records_that_a_closed_writer_left_are_no_crash() {
        let mut stack = Stack::new();
        stack.spill(1, 0..2);
        stack.spill.take().unwrap().keep().unwrap();
        stack.kill_and_recover();
        assert_eq!((stack.numbers(), stack.kills()), (vec![0, 1], vec![]));
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
            assert!(!stack.file().exists());
            if !failed && failing > 5 {
                break;
            }
        }
    }
}
