//! The bytes that a day of one log record a second writes to the disk, and the longest wait of a
//! record.
//!
//! ```text
//! cargo bench -p gridctl-telemetry-benches --bench day [-- --quick | --hours N]
//! ```
//!
//! The clock is simulated, the disk is not: every commit is synced, so the kernel cannot merge two of
//! them, and its count in `/proc/self/io` is that of a real day.

use anyhow::Result;
use gridctl_telemetry::{Timestamp, WriterOptions, testing::SimulatedWriter};
use gridctl_telemetry_benches::{
    Arguments, Engine, GatewayLogs, OurStore, bench_folder, disk_bytes, ratio, server_names, time,
    written_bytes,
};
use std::time::Duration;

/// Where the benchmark writes.
const FOLDER: &str = env!("CARGO_TARGET_TMPDIR");
/// 2026-05-08T00:00:00Z.
const MIDNIGHT_UNIX_NANOS: i64 = 1_778_198_400_000_000_000;
const WAIT_MAX: Duration = Duration::from_secs(2);
const DAY_BYTES_MAX: u64 = 4_000_000_000;

fn main() -> Result<()> {
    let arguments = Arguments::read(&["--quick", "--hours"])?;
    let hours: u64 = arguments.value("--hours", if arguments.has("--quick") { 1 } else { 24 })?;

    let folder = bench_folder(FOLDER)?;
    let engine = OurStore::open(folder.path())?;
    let servers = server_names()?;
    let mut logs = GatewayLogs::new(1);
    let mut writer = SimulatedWriter::new(engine.store(), WriterOptions::default())?;
    let before = written_bytes()?;
    let records = hours * 3600;
    let ((), took) = time(|| {
        for (second, (place, server)) in (0..records).zip(servers.iter().enumerate().cycle()) {
            let now = Duration::from_secs(second);
            let timestamp = MIDNIGHT_UNIX_NANOS + i64::try_from(now.as_nanos())?;
            let record = logs.record_at(place, Timestamp::from_unix_nanos(timestamp));
            writer.log(server, &record, now)?;
        }
        writer.advance(Duration::from_secs(records) + WAIT_MAX)?;
        Ok(())
    })?;
    let written = written_bytes()? - before;
    let (commits, waited) = (writer.commits(), writer.waited_max());
    drop(writer);
    engine.close()?;

    let a_day = written * 24 / hours;
    println!("{records} records in {hours} simulated hours, {took:.0?} elapsed");
    println!(
        "{commits} commits, {:.1} kB written by each; {:.1} MB on disk at the end",
        ratio(written, commits * 1000),
        ratio(disk_bytes(folder.path())?, 1_000_000),
    );
    for (met, what) in [
        (
            a_day <= DAY_BYTES_MAX,
            format!(
                "{:.2} GB written a day, at most 4 GB",
                ratio(a_day, 1_000_000_000)
            ),
        ),
        (
            waited <= WAIT_MAX,
            format!("the longest wait for a commit {waited:.3?}, at most 2 s"),
        ),
    ] {
        println!("- {}: {what}", if met { "met" } else { "MISSED" });
    }
    Ok(())
}
