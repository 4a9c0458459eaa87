//! The records of a killed writer against a model, at every step of its work.
//!
//! `GRIDCTL_TELEMETRY_CASES` sets the number of random runs, each of which ends in a kill, 40 by
//! default.

use super::{
    QueuedRecord, WriterOptions,
    committer::{Committer, now},
    writer::Message,
};
use crate::{
    read::Query,
    record::{Level, LogRecord, ServerName},
    signal::Signal,
    store::{Store, StoreOptions},
    time::Timestamp,
};
use crossbeam::channel::{Receiver, Sender, unbounded};
use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

struct Case {
    folder: PathBuf,
    store: Store,
    committer: Committer,
    queue: (Sender<Message>, Receiver<Message>),
    /// The number of disk operations before all fail.
    works_for: Arc<AtomicI64>,
    random: u64,
    offered: i64,
    /// The records that the writer has collected.
    collected: BTreeSet<i64>,
    /// The records that a kill must not lose.
    safe: BTreeSet<i64>,
}

impl Case {
    fn new(home: &Path, seed: u64, offered: i64, safe: BTreeSet<i64>) -> Case {
        let works_for = Arc::new(AtomicI64::new(i64::MAX));
        let left = Arc::clone(&works_for);
        let options = StoreOptions::default().disk_hook(move |_| {
            if left.fetch_sub(1, Ordering::Relaxed) <= 0 {
                return Err(io::Error::other("on purpose"));
            }
            Ok(())
        });
        let store = Store::open(home, "stack", options).unwrap();
        let options = WriterOptions::default();
        Case {
            folder: store.path().parent().unwrap().to_owned(),
            committer: Committer::new(&store, &options, Arc::default()).unwrap(),
            store,
            queue: unbounded(),
            works_for,
            random: seed,
            offered,
            collected: BTreeSet::new(),
            safe,
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        // The generator of Knuth's MMIX.
        self.random = (self.random.wrapping_mul(6_364_136_223_846_793_005))
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % bound
    }

    fn offer(&mut self) {
        for _ in 0..self.below(4) {
            let timestamp = Timestamp::from_unix_nanos(self.offered);
            self.offered += 1;
            let mut payload = Vec::new();
            (LogRecord::new(timestamp, Level::INFO, "last words"))
                .encode_payload(&mut payload)
                .unwrap();
            let record = QueuedRecord {
                server: ServerName::new("github").unwrap(),
                signal: Signal::Logs,
                timestamp,
                emitted: u64::try_from(now().as_nanos()).unwrap(),
                urgent: false,
                is_spilled: false,
                payload: payload.into(),
            };
            self.queue.0.send(Message::Record(record)).unwrap();
        }
    }

    fn collect(&mut self, message: Message) {
        if let Message::Record(record) = message {
            let bytes = record.memory_bytes();
            (self.committer.counters.queued_bytes).fetch_add(bytes, Ordering::Relaxed);
            self.collected.insert(record.timestamp.unix_nanos());
            self.committer.push(record, now());
        }
    }

    /// The spiller takes the queue while the writer works.
    fn take(&mut self) {
        let arrived = self.offered - i64::try_from(self.queue.1.len()).unwrap()..self.offered;
        self.committer.spiller.take_now(&self.queue.1);
        let failed = self.committer.counters.stats().spill_error.is_some();
        if self.queue.1.is_empty() && !failed {
            self.safe.extend(arrived);
        }
    }

    fn note_spilled(&mut self) {
        if self.committer.spill_due().is_none() {
            self.safe.extend(&self.collected);
        }
    }

    /// The files of the spill.
    fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let entries = std::fs::read_dir(&self.folder).unwrap();
        (entries.map(|entry| entry.unwrap().path()))
            .filter(|path| path.to_str().unwrap().contains(".spill"))
            .map(|path| (path.clone(), std::fs::read(path).unwrap()))
            .collect()
    }

    /// Lets the writer work. Returns whether it is killed.
    fn work(&mut self) -> bool {
        let commits = self.below(4) > 0;
        if self.below(40) == 0 {
            // The write to the spill fails, too.
            self.works_for.store(0, Ordering::Relaxed);
        }
        self.committer.begin_work(now(), commits);
        self.works_for.store(i64::MAX, Ordering::Relaxed);
        self.note_spilled();
        for _ in 0..self.below(3) {
            self.offer();
            self.take();
        }
        if self.below(20) == 0 {
            return true;
        }
        if commits {
            let before = self.files();
            let fails = self.below(3) == 0;
            if fails {
                let left = i64::try_from(self.below(12)).unwrap();
                self.works_for.store(left, Ordering::Relaxed);
            }
            let outcome = self.committer.commit(now());
            if outcome.is_ok() {
                self.safe.extend(&self.collected);
            }
            let outcome = outcome.and_then(|()| self.committer.seal(now()));
            self.works_for.store(i64::MAX, Ordering::Relaxed);
            if self.below(20) == 0 {
                // It is killed between the commit and the cut.
                for (path, bytes) in before {
                    std::fs::write(path, bytes).unwrap();
                }
                return true;
            }
            if outcome.is_err() {
                self.committer.reopen().unwrap();
            }
            for _ in 0..self.below(2) {
                self.offer();
                self.take();
            }
            if self.below(20) == 0 {
                return true;
            }
        }
        for message in self.committer.end_work() {
            self.collect(message);
        }
        false
    }

    /// Runs until the writer is killed.
    fn run(&mut self) {
        loop {
            self.offer();
            match self.below(4) {
                0 => {
                    while let Ok(message) = self.queue.1.try_recv() {
                        self.collect(message);
                    }
                }
                1 => {
                    self.committer
                        .spill_rest(now(), now() + Duration::from_secs(1));
                    self.note_spilled();
                }
                2 if self.below(10) == 0 => return,
                _ => {
                    if self.work() {
                        return;
                    }
                }
            }
        }
    }
}

#[test]
fn a_kill_at_any_step_keeps_what_was_spilled_once_and_in_order() {
    let memory = Path::new("/dev/shm");
    let home = if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    };
    let seed = std::env::var("GRIDCTL_TELEMETRY_SEED").map_or_else(
        |_| Timestamp::now().unix_nanos().cast_unsigned(),
        |seed| seed.parse().unwrap(),
    );
    println!("GRIDCTL_TELEMETRY_SEED={seed}");
    let runs: u64 =
        std::env::var("GRIDCTL_TELEMETRY_CASES").map_or(40, |runs| runs.parse().unwrap());
    let (mut offered, mut safe) = (0, BTreeSet::new());
    let mut recovered = 0;
    for run in 0..runs {
        let mut case = Case::new(home.path(), seed.wrapping_add(run), offered, safe);
        case.run();
        offered = case.offered;
        safe = case.safe;
        drop((case.committer, case.store));
        // Opening it stores what the killed writer has left.
        let store = Store::open(home.path(), "stack", StoreOptions::default()).unwrap();
        let mut last = None;
        let mut found = BTreeSet::new();
        for record in store.scan(&Query::new(Signal::Logs)).unwrap() {
            let record = record.unwrap();
            assert!(last < Some(record.sequence), "run {run}: out of order");
            last = Some(record.sequence);
            let number = record.timestamp.unix_nanos();
            assert!(found.insert(number), "run {run}: {number} is stored twice");
        }
        let missing: Vec<_> = safe.difference(&found).collect();
        assert!(missing.is_empty(), "run {run}: lost {missing:?}");
        assert!((found.iter()).all(|number| *number < offered), "run {run}");
        // Nothing of what is stored may be lost later.
        safe = found;
        let ledger = store.snapshot().unwrap().ledger(..).unwrap();
        recovered += ledger.last().map_or(0, |entry| entry.recovered);
    }
    println!(
        "{runs} kills, {offered} records, {} stored, {recovered} recovered",
        safe.len()
    );
    assert!(recovered > 0, "no kill left anything");
}
