//! Every operation of the database on its disk fails, once or from then on, with an I/O error or because the
//! disk is full: nothing panics, nothing that was acknowledged is lost, and once the disk works, the same
//! handles store, delete and read again, and every record that was offered is stored once or counted.
//!
//! By default a part of the operations fails; `GRIDCTL_TELEMETRY_FAULTS=all` lets each of them fail.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;
mod model;
mod simulated;

use common::{Random, STACK, home_in_memory, server};
use gridctl_telemetry::{
    Result, Store, StoreOptions,
    import::{ImportBatch, Importer},
    maintenance::{CompactOptions, VerifyOptions, WipeScope},
    testing::{DiskOperation, SimulatedWriter},
};
use rustix::io::Errno;
use simulated::{
    check::{Contents, Known, contents, guarded},
    disk::{Image, folder},
    workload::{Run, fixture_of_version, options_now, put_image, writer_options},
};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Which operations of a disk fail.
#[derive(Default)]
struct Faults {
    operations: AtomicUsize,
    first: AtomicUsize,
    last: AtomicUsize,
    code: std::sync::atomic::AtomicI32,
    hits: AtomicUsize,
}

impl Faults {
    fn options(self: &Arc<Faults>, clock: &Arc<AtomicI64>) -> StoreOptions {
        let faults = Arc::clone(self);
        options_now(clock).disk_hook(move |operation| faults.operate(operation))
    }

    fn operate(&self, _: DiskOperation<'_>) -> io::Result<()> {
        let number = 1 + self.operations.fetch_add(1, Ordering::Relaxed);
        let failing = self.first.load(Ordering::Relaxed)..self.last.load(Ordering::Relaxed);
        if !failing.contains(&number) {
            return Ok(());
        }
        self.hits.fetch_add(1, Ordering::Relaxed);
        Err(io::Error::from_raw_os_error(
            self.code.load(Ordering::Relaxed),
        ))
    }

    /// Lets the nth operation from now on fail, and all after it if `for_good`.
    fn arm(&self, nth: usize, for_good: bool, code: Errno) {
        let first = self.operations.load(Ordering::Relaxed) + nth;
        self.code.store(code.raw_os_error(), Ordering::Relaxed);
        self.first.store(first, Ordering::Relaxed);
        let last = if for_good { usize::MAX } else { first + 1 };
        self.last.store(last, Ordering::Relaxed);
    }

    fn heal(&self) {
        self.last.store(0, Ordering::Relaxed);
    }
}

/// What a disk fails in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Open,
    Append,
    Spill,
    Wipe,
    WipeBefore,
    Import,
    Maintain,
    Evict,
    Compact,
    Read,
    Verify,
    Close,
}

const ACTIONS: [Action; 12] = [
    Action::Open,
    Action::Append,
    Action::Spill,
    Action::Wipe,
    Action::WipeBefore,
    Action::Import,
    Action::Maintain,
    Action::Evict,
    Action::Compact,
    Action::Read,
    Action::Verify,
    Action::Close,
];

/// A store before an action.
struct Start {
    name: &'static str,
    image: Image,
    known: Known,
    contents: Contents,
    clock: Arc<AtomicI64>,
}

/// An open store and its writer.
struct Opened {
    store: Store,
    writer: Option<SimulatedWriter>,
    time: Duration,
    known: Known,
    offered: Contents,
}

impl Opened {
    fn open(options: StoreOptions, home: &std::path::Path, start: &Start) -> Result<Opened> {
        let store = Store::open(home, STACK, options)?;
        let writer = SimulatedWriter::with_spill(&store, writer_options())?;
        Ok(Opened {
            store,
            writer: Some(writer),
            time: Duration::ZERO,
            known: start.known.clone(),
            offered: Contents::new(),
        })
    }

    fn offer(&mut self, count: usize) {
        for _ in 0..count {
            let (number, server, record) = self.known.add();
            let writer = self.writer.as_mut().unwrap();
            writer.record(server, record, self.time).unwrap();
            self.offered.insert(number);
        }
    }

    fn act(&mut self, action: Action) -> Result<()> {
        let time = self.time;
        match action {
            Action::Open => Ok(()),
            Action::Append => self.writer.as_mut().unwrap().flush(time),
            Action::Spill => {
                self.writer.as_mut().unwrap().spill(time);
                Ok(())
            }
            Action::Wipe => {
                let scope = WipeScope::everything().server(server("files"));
                self.store.wipe(&scope).map(drop)
            }
            Action::WipeBefore => {
                let writer = self.writer.as_mut().unwrap();
                writer
                    .wipe(&WipeScope::everything().before(simulated::workload::time_of(40)))
                    .map(drop)
            }
            Action::Import => {
                let mut batch = ImportBatch::default();
                for number in &self.offered {
                    let (server, record) = self.known.of(*number);
                    batch.push(server, record)?;
                }
                Importer::new(&self.store)?.add(batch).map(drop)
            }
            Action::Maintain => {
                for _ in 0..12 {
                    let writer = self.writer.as_mut().unwrap();
                    self.time = writer.due();
                    writer.advance(self.time)?;
                }
                Ok(())
            }
            Action::Evict => {
                let writer = self.writer.as_mut().unwrap();
                let limits = [("", 2000, Duration::from_secs(1 << 30))];
                writer.set_small_limits(&limits, None, time)?;
                for _ in 0..4 {
                    self.time = writer.due();
                    writer.advance(self.time)?;
                }
                Ok(())
            }
            Action::Compact => self.store.compact(CompactOptions::default()).map(drop),
            Action::Read => {
                let mut count = 0;
                let snapshot = self.store.snapshot()?;
                for signal in simulated::workload::SIGNALS {
                    let scan = snapshot.scan(&gridctl_telemetry::Query::new(signal))?;
                    for record in scan.records() {
                        record?;
                        count += 1;
                    }
                }
                assert!(count > 0, "a read without records and without an error");
                Ok(())
            }
            Action::Verify => {
                let verified = self.store.verify(&VerifyOptions::default(), |_| {})?;
                assert!(verified.records > 0 || verified.findings > 0);
                Ok(())
            }
            Action::Close => match self.writer.take() {
                Some(writer) => writer.close(time),
                None => Ok(()),
            },
        }
    }
}

/// Lets one operation of `action` fail. Returns whether there was such an operation.
fn fault(start: &Start, action: Action, nth: usize, for_good: bool, code: Errno) -> bool {
    let home = home_in_memory();
    put_image(home.path(), &start.image);
    let faults = Arc::new(Faults::default());
    let options = faults.options(&start.clock);
    if action == Action::Open {
        faults.arm(nth, for_good, code);
        let failed = Opened::open(options.clone(), home.path(), start).is_err();
        let hits = faults.hits.load(Ordering::Relaxed);
        faults.heal();
        assert!(hits > 0 || !failed);
        let opened = Opened::open(options, home.path(), start).unwrap();
        assert_eq!(
            contents(&opened.store, &opened.known).unwrap(),
            start.contents
        );
        return hits > 0;
    }
    let mut opened = Opened::open(options, home.path(), start).unwrap();
    let offers = matches!(action, Action::Append | Action::Spill | Action::Close);
    if offers {
        opened.offer(40);
    }
    let imported: Contents = match action {
        Action::Import => (0..20).map(|_| opened.known.add().0).collect(),
        _ => Contents::new(),
    };
    if action == Action::Import {
        opened.offered.clone_from(&imported);
    }
    faults.arm(nth, for_good, code);
    let outcome = opened.act(action);
    if for_good {
        // Also a second attempt and a reader meet the fault.
        let _ = opened.act(action);
        let _ = opened.act(Action::Read);
    }
    let hits = faults.hits.load(Ordering::Relaxed);
    faults.heal();

    // As the writer thread does after a failure.
    if let Some(writer) = &mut opened.writer {
        writer.reopen().unwrap();
    }
    if outcome.is_err() && action != Action::Close {
        opened.act(action).unwrap();
    }
    if let Some(writer) = &mut opened.writer {
        writer.flush(opened.time).unwrap();
        let stats = writer.stats();
        assert_eq!(stats.queued_bytes, 0);
        if offers {
            assert_eq!(stats.stored + stats.dropped_total(), 40, "{stats:?}");
        }
    }
    opened.act(Action::Read).unwrap();
    let was_closed = opened.writer.is_none();
    let Opened {
        store,
        known,
        offered,
        writer,
        ..
    } = opened;
    drop((store, writer));
    let store = Store::open(home.path(), STACK, options_now(&start.clock)).unwrap();
    let found = contents(&store, &known).unwrap();
    store.snapshot().unwrap().check().unwrap();
    match action {
        Action::Wipe | Action::WipeBefore | Action::Evict => {
            assert!(found.is_subset(&start.contents));
            assert!(action == Action::Evict || found.len() < start.contents.len());
        }
        // A writer that could not be closed leaves its records in the spill, if it could write them there.
        Action::Close if outcome.is_err() && was_closed => {
            assert!(found.is_superset(&start.contents));
        }
        _ => {
            let expected: Contents = start.contents.union(&offered).copied().collect();
            assert_eq!(found, expected);
        }
    }
    hits > 0
}

/// The stores that actions are tried on.
fn starts() -> Vec<Start> {
    let clock = Arc::new(AtomicI64::new(
        simulated::workload::time_of(100_000).unix_nanos(),
    ));
    let mut starts = vec![Start {
        name: "nothing",
        image: Image::default(),
        known: Known::new(1),
        contents: Contents::new(),
        clock: Arc::clone(&clock),
    }];
    for (name, is_killed) in [("a database", false), ("a killed database", true)] {
        let mut run = Run::new(home_in_memory(), 1, |_| Ok(()));
        run.start();
        for _ in 0..7 {
            run.offer();
            run.writer().flush(Duration::ZERO).unwrap();
        }
        if !is_killed {
            run.writer.take().unwrap().close(Duration::ZERO).unwrap();
            run.store = None;
        }
        let database = std::fs::read(folder(&run.home).join("telemetry.redb")).unwrap();
        starts.push(Start {
            name,
            image: Image {
                database,
                ..Image::default()
            },
            contents: (0..run.known.next_number()).collect(),
            known: run.known.clone(),
            clock: Arc::clone(&clock),
        });
    }
    let image = fixture_of_version(1);
    let home = home_in_memory();
    put_image(home.path(), &image);
    let store = Store::open(home.path(), STACK, options_now(&clock)).unwrap();
    let mut known = Known::new(1);
    known.learn(&store);
    starts.push(Start {
        name: "an old database",
        image,
        contents: contents(&store, &known).unwrap(),
        known,
        clock,
    });
    starts
}

#[test]
fn every_operation_fails_and_the_store_goes_on() {
    let all = std::env::var("GRIDCTL_TELEMETRY_FAULTS").is_ok_and(|faults| faults == "all");
    let mut random = Random::from_env();
    let (mut faults, mut failures) = (0, Vec::new());
    for start in starts() {
        for action in ACTIONS {
            // Nothing can be done to what is not there, and old databases are for their migration.
            if action != Action::Open && start.name != "a database" {
                continue;
            }
            for (code, for_good) in [
                (Errno::IO, false),
                (Errno::IO, true),
                (Errno::NOSPC, false),
                (Errno::NOSPC, true),
            ] {
                let stride = if all { 1 } else { 8 };
                let mut nth = 1 + random.below(stride);
                loop {
                    faults += 1;
                    let mut was_hit = false;
                    let outcome = guarded(|| {
                        was_hit = fault(&start, action, nth, for_good, code);
                        Ok(())
                    });
                    if let Err(error) = outcome {
                        let kind = if for_good { "for good" } else { "once" };
                        let what = format!(
                            "{}, {action:?}: operation {nth} fails {kind} with {code}: {error}",
                            start.name
                        );
                        println!("{what}");
                        failures.push(what);
                        was_hit = !failures.len().is_multiple_of(3);
                    }
                    if !was_hit {
                        break;
                    }
                    nth += 1 + random.below(2 * stride - 1);
                }
            }
        }
    }
    println!("{faults} faults");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
