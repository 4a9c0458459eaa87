//! The disk fills up under load: the store can still be read and wiped, it drops and counts the records
//! that it cannot keep, and it resumes storing once there is space.
//!
//! The real disk is a tmpfs in a mount namespace of its own. Where that is not permitted, the test is
//! skipped, unless `GRIDCTL_TELEMETRY_REQUIRE_TMPFS` is set.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{
    HANG, Helper, STACK, helper_arguments, numbers, numbers_of, record, say, server, without_hang,
};
use gridctl_telemetry::{
    Error, Signal, Snapshot, Store, StoreOptions, Writer, WriterGuard, WriterOptions,
    ingest::WriterStats,
    ledger::LossCause,
    maintenance::{CompactOptions, WipeScope, wipe},
    testing::DiskOperation,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// The number of records that are stored before the disk fills, to be wiped when it is full.
const VICTIMS: u64 = 3000;
const PAGE: u64 = 4096;

/// A disk that a test stores on and can fill up.
trait Disk: Sync {
    fn home(&self) -> &Path;
    fn options(&self) -> StoreOptions;
    /// Takes all free space.
    fn fill(&self);
    /// Frees that space again.
    fn free(&self);
}

/// A file system of some megabytes.
struct RealDisk {
    root: PathBuf,
    home: PathBuf,
}

impl RealDisk {
    fn new(root: &str) -> RealDisk {
        let home = Path::new(root).join("home");
        fs::create_dir(&home).unwrap();
        RealDisk {
            root: root.into(),
            home,
        }
    }

    fn filler(&self) -> PathBuf {
        self.root.join("filler")
    }
}

impl Disk for RealDisk {
    fn home(&self) -> &Path {
        &self.home
    }

    fn options(&self) -> StoreOptions {
        StoreOptions::default()
    }

    fn fill(&self) {
        let mut filler = File::options()
            .append(true)
            .create(true)
            .open(self.filler())
            .unwrap();
        for bytes in [1 << 20, 64 << 10, 4 << 10] {
            let bytes = vec![1; bytes];
            let full = loop {
                if let Err(error) = filler.write_all(&bytes) {
                    break error;
                }
            };
            assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        }
    }

    fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

/// A disk of some pages, counted as the database touches them, together with the reserve.
struct Quota {
    home: tempfile::TempDir,
    state: Arc<Mutex<Touched>>,
    pages: u64,
}

#[derive(Debug, Default)]
struct Touched {
    pages: BTreeSet<u64>,
    limit: u64,
}

impl Quota {
    fn new(bytes: u64) -> Quota {
        let pages = bytes / PAGE;
        let touched = Touched {
            limit: pages,
            ..Touched::default()
        };
        Quota {
            home: common::home(),
            state: Arc::new(Mutex::new(touched)),
            pages,
        }
    }

    fn reserve(&self) -> PathBuf {
        let folder = self.home.path().join("telemetry").join(STACK);
        folder.join("telemetry.reserve")
    }
}

fn pages_of(reserve: &Path) -> u64 {
    fs::metadata(reserve).map_or(0, |metadata| metadata.blocks() * 512 / PAGE)
}

impl Touched {
    fn operate(&mut self, operation: DiskOperation<'_>, reserve: &Path) -> io::Result<()> {
        match operation {
            DiskOperation::Write { offset, bytes } => {
                let last = (offset + bytes.len() as u64 - 1) / PAGE;
                for page in offset / PAGE..=last {
                    let used = self.pages.len() as u64 + pages_of(reserve);
                    if !self.pages.contains(&page) && used >= self.limit {
                        return Err(io::ErrorKind::StorageFull.into());
                    }
                    self.pages.insert(page);
                }
            }
            DiskOperation::Spill { .. }
                if self.pages.len() as u64 + pages_of(reserve) >= self.limit =>
            {
                return Err(io::ErrorKind::StorageFull.into());
            }
            DiskOperation::SetLength(length) => {
                drop(self.pages.split_off(&length.div_ceil(PAGE)));
            }
            _ => {}
        }
        Ok(())
    }
}

impl Disk for Quota {
    fn home(&self) -> &Path {
        self.home.path()
    }

    fn options(&self) -> StoreOptions {
        let (state, reserve) = (Arc::clone(&self.state), self.reserve());
        StoreOptions::default()
            .disk_hook(move |operation| state.lock().unwrap().operate(operation, &reserve))
    }

    fn fill(&self) {
        let mut state = self.state.lock().unwrap();
        state.limit = state.pages.len() as u64 + pages_of(&self.reserve());
    }

    fn free(&self) {
        self.state.lock().unwrap().limit = self.pages;
    }
}

/// A daemon under load.
struct Daemon<'a> {
    disk: &'a dyn Disk,
    store: Store,
    writer: Writer,
    guard: WriterGuard,
    /// The number of records of the load so far.
    offered: AtomicU64,
}

impl Daemon<'_> {
    fn start(disk: &dyn Disk) -> Daemon<'_> {
        let store = Store::open(disk.home(), STACK, disk.options()).unwrap();
        let options = WriterOptions::default()
            .commit_interval_min(Duration::from_millis(1))
            .commit_interval_max(Duration::from_millis(10))
            .flush_timeout(HANG)
            .queue_records_max(2000)
            .queue_bytes_max(256 << 10)
            .tiering(400, 250, 160);
        let (writer, guard) = Writer::start(&store, options).unwrap();
        for number in 0..VICTIMS {
            writer.log(&server("victim"), &record(number)).unwrap();
            if number % 100 == 99 {
                writer.flush().unwrap();
            }
        }
        Daemon {
            disk,
            store,
            writer,
            guard,
            offered: AtomicU64::new(0),
        }
    }

    /// Emits records while `operation` runs.
    fn under_load(&self, operation: impl FnOnce()) {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Acquire) {
                    for _ in 0..50 {
                        let number = self.offered.fetch_add(1, Ordering::Relaxed);
                        let _ = self.writer.log(&server("load"), &record(number));
                    }
                    // The pace of a busy gateway, not of a busy loop.
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
            // Also when the operation panics: otherwise the other thread would never end.
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(operation));
            over.store(true, Ordering::Release);
            if let Err(panic) = outcome {
                std::panic::resume_unwind(panic);
            }
        });
    }

    fn stored(&self) -> u64 {
        self.writer.stats().stored
    }

    fn dropped(&self, cause: LossCause) -> u64 {
        count(&self.writer.stats(), cause)
    }

    fn wait_for_drops(&self) {
        let before = self.dropped(LossCause::QueueFull);
        wait_until("records are dropped", || {
            self.dropped(LossCause::QueueFull) > before + 1000
        });
    }

    /// Checks that storing resumes by itself.
    fn wait_for_stored(&self) {
        let before = self.stored();
        wait_until("records are stored", || self.stored() > before + 1000);
    }

    /// Checks that stored records can be read, by the store that writes and by others.
    fn check_reading(&self, victims: u64) {
        let options = StoreOptions::for_tools();
        let other = Store::open_read_only(self.disk.home(), STACK, options);
        for store in [&self.store, &other.unwrap().unwrap()] {
            let all: Vec<u64> = (0..victims).collect();
            assert_eq!(numbers_of(store, "victim"), all);
            store.space().unwrap();
        }
    }

    /// Checks that every offered record is stored, in the ledger, or wiped.
    fn finish(self, wiped_from_disk: u64) {
        let Daemon {
            disk,
            store,
            writer,
            guard,
            offered,
        } = self;
        writer.flush().unwrap();
        guard.close().unwrap();
        let stats = writer.stats();
        assert_eq!((stats.queued, stats.queued_bytes), (0, 0), "{stats:?}");
        assert_eq!(stats.offered, stats.stored + stats.dropped_total());
        drop(store);
        let store = Store::open(disk.home(), STACK, disk.options()).unwrap();
        let snapshot = store.snapshot().unwrap();
        let found = total(&snapshot);
        assert_eq!(found + wiped_from_disk, stats.stored, "{stats:?}");
        let ledger: u64 = snapshot
            .ledger(..)
            .unwrap()
            .iter()
            .map(|loss| {
                assert_eq!(loss.server.as_deref(), Some("load"));
                assert_eq!(loss.signal, Some(Signal::Logs));
                assert_eq!(loss.cause, LossCause::QueueFull);
                loss.count
            })
            .sum();
        assert!(ledger > 0);
        let wiped = wiped_from_disk + count(&stats, LossCause::Wiped);
        let offered = offered.into_inner() + VICTIMS;
        assert_eq!(offered, found + ledger + wiped, "{stats:?}");
        println!("{offered} offered, {found} stored, {ledger} in the ledger, {wiped} wiped");
    }
}

/// The number of stored records. Panics when one is not as it was.
fn total(snapshot: &Snapshot) -> u64 {
    let found = numbers(snapshot);
    found.values().map(|numbers| numbers.len() as u64).sum()
}

fn count(stats: &WriterStats, cause: LossCause) -> u64 {
    let drops = stats.dropped.iter().filter(|drops| drops.cause == cause);
    drops.map(|drops| drops.count).sum()
}

fn wait_until(what: &str, happened: impl Fn() -> bool) {
    let started = Instant::now();
    while !happened() {
        assert!(
            started.elapsed() < HANG,
            "timed out while waiting until {what}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Other files take all space, and free it again.
fn is_filled_and_freed(disk: &dyn Disk) {
    let daemon = Daemon::start(disk);
    let victim = WipeScope::everything().server(server("victim"));
    daemon.under_load(|| {
        daemon.wait_for_stored();
        // No free pages in the file either, which a wipe could use.
        let options = CompactOptions::default().patience(HANG);
        daemon.store.compact(options).unwrap();
        disk.fill();
        daemon.wait_for_drops();
        daemon.check_reading(VICTIMS);
        assert_eq!(daemon.writer.wipe(&victim).unwrap(), 1);
        daemon.check_reading(0);
        disk.free();
        daemon.wait_for_stored();
        // And once more, because the reserve has been allocated again.
        disk.fill();
        daemon.wait_for_drops();
        disk.free();
        daemon.wait_for_stored();
    });
    daemon.finish(VICTIMS);
}

/// Telemetry itself takes all space, and another handle wipes it.
fn is_filled_and_wiped(disk: &dyn Disk) {
    let daemon = Daemon::start(disk);
    daemon.under_load(|| {
        wait_until("the disk is full", || daemon.writer.flush().is_err());
        daemon.wait_for_drops();
        daemon.check_reading(VICTIMS);
    });
    let other = Store::open_existing(disk.home(), STACK, disk.options());
    let other = other.unwrap().unwrap();
    let before = daemon.store.snapshot().unwrap();
    assert_eq!(other.wipe(&WipeScope::everything()).unwrap(), 2);
    let after = daemon.store.snapshot().unwrap();
    // The writer may have stored records before and after the wipe; their sequences tell.
    let stored = after.next_sequence().unwrap() - before.next_sequence().unwrap();
    let wiped = total(&before) + stored - total(&after);
    drop((before, after));
    daemon.under_load(|| daemon.wait_for_stored());
    // Other programs get the space back.
    let options = CompactOptions::default().patience(HANG);
    let compacted = other.compact(options).unwrap();
    assert!(compacted.after.used_bytes < MIB / 2, "{compacted:?}");
    daemon.finish(wiped);
}

/// Stores records until it is killed.
#[test]
fn helper_stores() {
    let Some((_, _store, writer, _guard)) = common::helper_writer() else {
        return;
    };
    for number in 0.. {
        writer.log(&server("load"), &record(number)).unwrap();
        if number % 50 == 49 {
            writer.flush().unwrap();
            say(number + 1);
        }
    }
}

/// The records of a killed process are wiped on a disk that has filled up since.
fn is_wiped_after_a_kill(disk: &RealDisk) {
    for lines in 1..20 {
        let home = disk.home().to_str().unwrap();
        let mut helper = Helper::start("helper_stores", &[home]);
        for _ in 0..lines {
            helper.heard();
        }
        helper.kill();
        disk.fill();
        assert_eq!(
            wipe(disk.home(), STACK, &WipeScope::everything()).unwrap(),
            1
        );
        disk.free();
        let store = Store::open(disk.home(), STACK, disk.options()).unwrap();
        assert_eq!(total(&store.snapshot().unwrap()), 0);
    }
}

/// A daemon ends while its disk is full: what it could not store is in the ledger, and its end is not
/// taken for a crash. The pages that the database has may suffice for all of it.
fn is_full_until_the_end(disk: &dyn Disk) {
    let daemon = Daemon::start(disk);
    daemon.writer.flush().unwrap();
    disk.fill();
    daemon.under_load(|| daemon.wait_for_drops());
    let Daemon { writer, guard, .. } = daemon;
    let failed = guard.close().is_err();
    let stats = writer.stats();
    assert_eq!((stats.queued, stats.queued_bytes), (0, 0), "{stats:?}");
    assert_eq!(stats.offered, stats.stored + stats.dropped_total());
    assert_eq!(count(&stats, LossCause::DiskFault) > 0, failed, "{stats:?}");
    disk.free();
    let store = Store::open(disk.home(), STACK, disk.options()).unwrap();
    let (_writer, guard) = Writer::start(&store, WriterOptions::default()).unwrap();
    guard.close().unwrap();
    let mut ledger: BTreeMap<LossCause, u64> = BTreeMap::new();
    for loss in store.snapshot().unwrap().ledger(..).unwrap() {
        *ledger.entry(loss.cause).or_default() += loss.count;
    }
    let mut expected = [LossCause::QueueFull, LossCause::DiskFault]
        .map(|it| (it, count(&stats, it)))
        .to_vec();
    expected.retain(|(_, count)| *count > 0);
    assert_eq!(ledger, BTreeMap::from_iter(expected));
}

const MIB: u64 = 1 << 20;

#[test]
fn a_disk_that_is_full_until_the_end_is_no_crash() {
    without_hang("the daemon", || is_full_until_the_end(&Quota::new(8 * MIB)));
}

#[test]
fn a_disk_that_is_full_for_a_while_loses_nothing_uncounted() {
    without_hang("the daemon", || is_filled_and_freed(&Quota::new(24 * MIB)));
}

#[test]
fn a_disk_that_telemetry_has_filled_can_be_wiped() {
    without_hang("the daemon", || is_filled_and_wiped(&Quota::new(MIB)));
}

/// A store without a writer that would open it again.
#[test]
fn a_store_is_wiped_after_an_outage_that_a_wipe_has_met() {
    let home = common::home();
    let fails = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&fails);
    let options = StoreOptions::default().disk_hook(move |operation| {
        let changes = !matches!(operation, DiskOperation::Read { .. });
        if changes && asked.load(Ordering::Acquire) {
            return Err(io::Error::from_raw_os_error(
                rustix::io::Errno::IO.raw_os_error(),
            ));
        }
        Ok(())
    });
    let store = Store::open(home.path(), STACK, options).unwrap();
    let (writer, guard) = Writer::start(&store, common::on_demand()).unwrap();
    for number in 0..100 {
        writer.log(&server("github"), &record(number)).unwrap();
    }
    guard.close().unwrap();
    fails.store(true, Ordering::Release);
    for _ in 0..2 {
        let refused = store.wipe(&WipeScope::everything());
        assert!(
            matches!(refused, Err(Error::Database { .. })),
            "{refused:?}"
        );
        assert_eq!(numbers_of(&store, "github").len(), 100);
    }
    fails.store(false, Ordering::Release);
    assert_eq!(store.wipe(&WipeScope::everything()).unwrap(), 1);
    assert!(numbers_of(&store, "github").is_empty());
}

#[test]
fn helper_has_a_real_disk() {
    let Some(arguments) = helper_arguments() else {
        return;
    };
    let disk = RealDisk::new(&arguments[0]);
    match arguments[1].as_str() {
        "freed" => is_filled_and_freed(&disk),
        "ended" => is_full_until_the_end(&disk),
        "killed" => is_wiped_after_a_kill(&disk),
        _ => is_filled_and_wiped(&disk),
    }
    say("done");
}

/// A command that mounts a tmpfs of this size at `root`, visible only to itself, and then runs
/// another command.
fn on_a_disk_of(megabytes: u64, root: &Path) -> Command {
    let mount = format!("mount -t tmpfs -o size={megabytes}m tmpfs \"$0\" && exec \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["-Urm", "--", "sh", "-c", &mount]).arg(root);
    command
}

#[test]
fn a_real_disk_is_filled_and_freed() {
    if helper_arguments().is_some() {
        return;
    }
    let root = common::home();
    let permitted = on_a_disk_of(1, root.path()).arg("true").output();
    if !permitted
        .as_ref()
        .is_ok_and(|output| output.status.success())
    {
        let required = std::env::var_os("GRIDCTL_TELEMETRY_REQUIRE_TMPFS");
        assert!(required.is_none(), "no tmpfs can be mounted: {permitted:?}");
        println!("skipped: no tmpfs can be mounted here");
        return;
    }
    for (megabytes, scenario) in [(24, "freed"), (8, "ended"), (1, "wiped"), (8, "killed")] {
        let mut command = on_a_disk_of(megabytes, root.path());
        command.arg(std::env::current_exe().unwrap());
        let arguments = [root.path().to_str().unwrap(), scenario];
        let mut helper = Helper::start_as(&mut command, "helper_has_a_real_disk", &arguments);
        assert_eq!(helper.heard(), "done");
        helper.end();
    }
}
