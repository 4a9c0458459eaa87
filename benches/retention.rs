//! The cost of keeping a store within its limits, and whether it stays within them.
//!
//! ```text
//! cargo bench -p gridctl-telemetry-benches --bench retention [-- --quick | --limit MIB | --times N | --rounds N | --days N | --only steady|scale|quiet]
//! ```
//!
//! Three questions: how much disk space a store takes while ten times its limit is written to it, and
//! how much that slows the writer; whether maintenance costs more in a larger store; and how much space
//! a thousand quiet servers take beside one server with all of their records.

use anyhow::{Context, Result, ensure};
use gridctl_telemetry::{
    Level, LogRecord, Query, ServerName, Signal, Store, StoreOptions, Timestamp, Writer,
    WriterOptions,
    config::{Retention, RetentionPolicy},
    ingest::{MaintenanceStats, WhenFull},
    query::InventoryRecord,
    testing::SimulatedWriter,
};
use gridctl_telemetry_benches::{
    Arguments, GatewayLogs, SERVERS, Table, bench_folder, disk_bytes, mebibytes, median, ratio,
    seconds, server_name, server_names, time,
};
use std::{
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Where the benchmark writes.
const FOLDER: &str = env!("CARGO_TARGET_TMPDIR");
/// 2026-05-08T00:00:00Z.
const START_UNIX_NANOS: i64 = 1_778_198_400_000_000_000;
const MIB: u64 = 1 << 20;
/// The number of rounds of which a ratio is the median.
const ROUNDS: usize = 3;
/// The percentage of records of each server.
const SHARES: [usize; 5] = [50, 25, 15, 8, 2];

fn main() -> Result<()> {
    let arguments = Arguments::read(&[
        "--quick", "--times", "--days", "--only", "--rounds", "--limit",
    ])?;
    let quick = arguments.has("--quick");
    let only: String = arguments.value("--only", String::new())?;
    let wanted = |name| only.is_empty() || only == name;
    let times = arguments.value("--times", if quick { 3 } else { 10 })?;
    let rounds = arguments.value("--rounds", if quick { 1 } else { ROUNDS })?;
    let pool = Pool::new();
    if wanted("steady") {
        steady(&pool, arguments.value("--limit", 64)?, times, rounds)?;
    }
    if wanted("scale") {
        scale(&pool, if quick { 256 } else { 1024 })?;
    }
    if wanted("quiet") {
        quiet(arguments.value("--days", if quick { 1 } else { 30 })?)?;
    }
    Ok(())
}

/// Records that are written repeatedly with other times, because making new ones would take longer than
/// storing them. No block holds one twice.
struct Pool {
    records: Vec<(usize, LogRecord)>,
}

impl Pool {
    fn new() -> Pool {
        let mut logs = GatewayLogs::new(1);
        let mut random = fastrand::Rng::with_seed(2);
        let records = (0..40_000)
            .map(|_| {
                let mut at = random.usize(0..100);
                let server = SHARES
                    .iter()
                    .position(|share| {
                        let is_it = at < *share;
                        at = at.saturating_sub(*share);
                        is_it
                    })
                    .unwrap_or_default();
                let mut record = logs.record_at(server, Timestamp::from_unix_nanos(0));
                // An error is committed at once, which is not measured here.
                record.level = record.level.min(Level::WARN);
                // One in ten holds the result of a tool, of any length up to 32 KB, a part of which
                // does not compress.
                if random.u8(0..10) == 0 {
                    let magnitude = random.u32(4..16);
                    let length = random.usize(1..1 << magnitude);
                    let noise: String = std::iter::repeat_with(|| random.alphanumeric())
                        .take(length)
                        .collect();
                    record = record.with("answer", noise);
                }
                (server, record)
            })
            .collect();
        Pool { records }
    }

    /// Record `number` and the index of its server. Each record of a run has another time.
    fn record(&self, number: u64) -> Result<(usize, LogRecord)> {
        let at = usize::try_from(number)? % self.records.len();
        let (server, record) = self.records.get(at).context("a record")?;
        let mut record = record.clone();
        record.timestamp = time_of(number)?;
        Ok((*server, record))
    }
}

fn time_of(number: u64) -> Result<Timestamp> {
    Ok(Timestamp::from_unix_nanos(
        START_UNIX_NANOS + i64::try_from(number)? * 100_000,
    ))
}

/// A policy with a total limit of `mib` MiB and no other.
fn in_total(mib: u64) -> RetentionPolicy {
    RetentionPolicy::new(
        Retention::default()
            .max_size_mb(1024)
            .max_backups(100)
            .max_age_days(3650),
    )
    .max_total_mb(mib)
}

/// A policy with limits of `mib` MiB in total for five series.
fn by_series(mib: u64) -> RetentionPolicy {
    RetentionPolicy::new(
        Retention::default()
            .max_size_mb(mib / SERVERS.len() as u64 / 2)
            .max_backups(1)
            .max_age_days(3650),
    )
    .max_total_mb(mib * 100)
}

/// The result of a run.
struct Run {
    records: u64,
    took: Duration,
    /// The maximum disk space of the file at the sync of a commit, in bytes.
    used_peak: u64,
    used: u64,
    stored: u64,
    inventory: Vec<InventoryRecord>,
    maintenance: MaintenanceStats,
}

/// Writes records up to a number of records or stored bytes, and measures the file at each sync.
fn run(pool: &Pool, policy: Option<RetentionPolicy>, until: Until) -> Result<Run> {
    let folder = bench_folder(FOLDER)?;
    let peak = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&peak);
    let path = database(folder.path());
    let options = StoreOptions::default().disk_hook(move |operation| {
        if let gridctl_telemetry::testing::DiskOperation::Sync = operation
            && let Ok(metadata) = std::fs::metadata(&path)
        {
            seen.fetch_max(metadata.blocks() * 512, Ordering::Relaxed);
        }
        Ok(())
    });
    let store = Store::open(folder.path(), "bench", options)?;
    let servers = server_names()?;
    let options = WriterOptions::default()
        .when_full(WhenFull::Block)
        .flush_timeout(Duration::from_secs(60 * 10))
        .retention(policy);
    let (writer, guard) = Writer::start(&store, options)?;
    let mut records = 0;
    let ((), took) = time(|| {
        loop {
            for _ in 0..20_000 {
                let (server, record) = pool.record(records)?;
                writer.log(servers.get(server).context("a server")?, &record)?;
                records += 1;
            }
            let stats = writer.stats();
            match until {
                Until::Records(count) if records >= count => break,
                Until::Stored(bytes) => {
                    let held: u64 = sizes(&store)?.iter().map(|entry| entry.size_bytes).sum();
                    if held + stats.maintenance.freed_bytes >= bytes {
                        break;
                    }
                }
                Until::Records(_) => {}
            }
        }
        writer.flush()?;
        Ok(())
    })?;
    let maintenance = writer.stats().maintenance;
    let inventory = sizes(&store)?;
    check(&store, &inventory, pool, records)?;
    guard.close()?;
    Ok(Run {
        records,
        took,
        used_peak: peak.load(Ordering::Relaxed),
        used: disk_bytes(folder.path())?,
        stored: inventory.iter().map(|entry| entry.size_bytes).sum(),
        inventory,
        maintenance,
    })
}

#[derive(Debug, Clone, Copy)]
enum Until {
    Stored(u64),
    Records(u64),
}

fn database(home: &Path) -> std::path::PathBuf {
    home.join("telemetry/bench/telemetry.redb")
}

fn sizes(store: &Store) -> Result<Vec<InventoryRecord>> {
    Ok(store.snapshot()?.inventory(None)?)
}

/// Checks that the store has the newest records of each server, unchanged and without a gap.
fn check(store: &Store, inventory: &[InventoryRecord], pool: &Pool, records: u64) -> Result<()> {
    for entry in inventory {
        let mut stored = store.scan(&Query::new(Signal::Logs).server(entry.server.clone()))?;
        let first = stored.next().context("a record")??;
        let first = u64::try_from((first.timestamp.unix_nanos() - START_UNIX_NANOS) / 100_000)?;
        let mut count = 1;
        for number in first + 1..records {
            let (server, record) = pool.record(number)?;
            if server_name(server)? == entry.server {
                let found = stored.next().context("a record is missing")??;
                ensure!(
                    found.record.into_log().as_ref() == Some(&record),
                    "record {number} is missing"
                );
                count += 1;
            }
        }
        ensure!(stored.next().is_none() && count == entry.record_count);
    }
    Ok(())
}

fn steady(pool: &Pool, limit_mib: u64, times: u64, rounds: usize) -> Result<()> {
    let limit = limit_mib * MIB;
    println!(
        "{times} times the limit of {limit_mib} MiB written to a store, records of 5 servers:\n"
    );
    let mut table = Table::new(&[
        "limit",
        "records",
        "records/s",
        "of no limits",
        "used, peak",
        "of limit",
        "used, end",
        "stored, end",
        "longest pause",
        "maintenance",
    ]);
    let mut results = Vec::new();
    for (name, policy) in [
        ("in total", in_total(limit_mib)),
        ("by series", by_series(limit_mib)),
    ] {
        let mut ratios = Vec::new();
        let mut last = None;
        for _ in 0..rounds {
            let held = run(pool, Some(policy.clone()), Until::Stored(limit * times))?;
            let free = run(pool, None, Until::Records(held.records))?;
            // Thousandths of the speed without limits, for the same records.
            ratios.push(free.took.as_millis() * 1000 / held.took.as_millis().max(1));
            last = Some(held);
        }
        let held = last.context("a round")?;
        let relative = u64::try_from(median(&ratios)?)?;
        table.row(vec![
            name.to_owned(),
            held.records.to_string(),
            format!(
                "{:.0} k",
                ratio(held.records, u64::try_from(held.took.as_millis())?)
            ),
            format!("{:.2}x", ratio(relative, 1000)),
            mebibytes(held.used_peak),
            format!("{:.3}x", ratio(held.used_peak, limit)),
            mebibytes(held.used),
            mebibytes(held.stored),
            seconds(held.maintenance.longest),
            format!(
                "{} in {} steps",
                seconds(held.maintenance.busy),
                held.maintenance.steps
            ),
        ]);
        results.push((name, held, relative));
    }
    println!("{table}");
    for (name, held, relative) in results {
        println!("{name}:");
        verdict(
            held.used_peak * 100 <= limit * 115,
            "used disk blocks at most 1.15x the limit at any commit",
        );
        verdict(
            relative >= 700,
            "ingest at least 0.7x of that without retention",
        );
        verdict(
            held.maintenance.longest < Duration::from_millis(50),
            "the longest pause below 50 ms",
        );
        for entry in &held.inventory {
            println!(
                "  {}: {} in {} records",
                entry.server,
                mebibytes(entry.size_bytes),
                entry.record_count
            );
        }
    }
    println!();
    Ok(())
}

fn scale(pool: &Pool, large_mib: u64) -> Result<()> {
    println!("Maintenance by the size of the store:\n");
    let mut table = Table::new(&[
        "total limit",
        "longest pause",
        "work a MiB stored",
        "used, peak",
    ]);
    for mib in [64, large_mib] {
        // The same bytes for both: they fill the large store, which then evicts for a while.
        let held = run(
            pool,
            Some(in_total(mib)),
            Until::Stored((large_mib + 256) * MIB),
        )?;
        let stored = ((held.stored + held.maintenance.freed_bytes) / MIB).max(1);
        table.row(vec![
            format!("{mib} MiB"),
            seconds(held.maintenance.longest),
            seconds(held.maintenance.busy / u32::try_from(stored)?),
            format!("{:.3}x", ratio(held.used_peak, mib * MIB)),
        ]);
    }
    println!("{table}");
    Ok(())
}

/// A thousand servers with a record a minute each, beside one server with all of these records.
fn quiet(days: u64) -> Result<()> {
    const QUIET: u64 = 1000;
    println!("{QUIET} servers with a record a minute for {days} days, and one with all of them:\n");
    let many: Vec<ServerName> = (0..QUIET)
        .map(|number| ServerName::new(format!("server-{number:03}")))
        .collect::<gridctl_telemetry::Result<_>>()?;
    let one = vec![ServerName::new("busy")?];
    let mut table = Table::new(&[
        "servers",
        "records",
        "used",
        "a record",
        "took",
        "rewritten",
        "longest pause",
    ]);
    let mut used = Vec::new();
    for servers in [&one, &many] {
        let folder = bench_folder(FOLDER)?;
        let store = Store::open(folder.path(), "bench", StoreOptions::default())?;
        // A real writer makes sixty commits a minute, which would take a day to simulate.
        let options = WriterOptions::default()
            .redactor(None)
            .commit_interval_min(Duration::from_secs(60))
            .commit_interval_max(Duration::from_secs(60));
        let mut writer = SimulatedWriter::new(&store, options)?;
        let mut logs = GatewayLogs::new(3);
        let mut records = 0u64;
        let ((), took) = time(|| {
            for minute in 0..days * 24 * 60 {
                for number in 0..QUIET {
                    let now = Duration::from_millis(minute * 60_000 + number * 60);
                    let timestamp = START_UNIX_NANOS + i64::try_from(now.as_nanos())?;
                    let mut record = logs.record_at(0, Timestamp::from_unix_nanos(timestamp));
                    record.level = record.level.min(Level::WARN);
                    let server = servers.get(usize::try_from(number)? % servers.len());
                    writer.log(server.context("a server")?, &record, now)?;
                    records += 1;
                }
            }
            writer.advance(Duration::from_secs(60 * (days * 24 * 60 + 60)))?;
            Ok(())
        })?;
        let bytes = disk_bytes(folder.path())?;
        let maintenance = writer.stats().maintenance;
        table.row(vec![
            servers.len().to_string(),
            records.to_string(),
            mebibytes(bytes),
            format!("{:.1} B", ratio(bytes, records)),
            seconds(took),
            mebibytes(maintenance.rewritten_bytes),
            seconds(maintenance.longest),
        ]);
        used.push(bytes);
    }
    println!("{table}");
    if let [one, many] = used.as_slice() {
        println!("{:.2}x", ratio(*many, *one));
        verdict(
            many * 2 <= one * 3,
            "at most 1.5x the bytes of one busy server",
        );
    }
    Ok(())
}

fn verdict(met: bool, what: &str) {
    println!("- {}: {what}", if met { "met" } else { "MISSED" });
}
