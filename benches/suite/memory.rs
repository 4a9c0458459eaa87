//! The memory of a daemon that takes records of all signals as fast as it can store them.

use crate::{FOLDER, Found, Run, SEED, child};
use anyhow::{Context, Result, ensure};
use gridctl_telemetry::{
    Store, StoreOptions, Writer, WriterOptions,
    config::{Retention, RetentionPolicy},
    ingest::WhenFull,
};
use gridctl_telemetry_benches::{
    GatewayLogs, GatewayMetrics, GatewaySpans, Recorded, bench_folder, ratio,
    report::{Curve, Figure, Unit},
    resident_bytes, server_names,
};
use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::Stdio,
    time::Duration,
};

/// A record a millisecond for an hour.
const RECORDS: usize = 3_600_000;
const BOUND_BYTES: f64 = 96.0 * 1_048_576.0;
/// Memory is flat if its peak in the last third is at most this many times that in the second.
const FLAT: f64 = 1.1;
/// The number of looks at the memory, at equal distances.
const LOOKS: u64 = 36;

pub(crate) fn run(run: &Run) -> Result<Found> {
    let records = run.records(RECORDS) as u64;
    let folder = bench_folder(FOLDER)?;
    let mut daemon = child("daemon", folder.path(), records)?
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let lines = BufReader::new(daemon.stdout.take().context("a pipe")?).lines();
    let mut points = Vec::new();
    for line in lines {
        let line = line?;
        let (written, resident) = line.split_once(' ').context("two numbers")?;
        let (written, resident): (u64, u64) = (written.parse()?, resident.parse()?);
        run.progress
            .step(&format!("{written} of {records} records"));
        points.push((written, resident));
    }
    ensure!(daemon.wait()?.success(), "the daemon has failed");
    let peak = |from: u64, to: u64| {
        let within = points
            .iter()
            .filter(|(written, _)| (from..=to).contains(&(written * 3)));
        within
            .map(|(_, resident)| ratio(*resident, 1))
            .fold(0.0, f64::max)
    };
    let (second, last) = (peak(records, records * 2), peak(records * 2, records * 3));
    let times = last / second;
    let figure = Figure::new(
        "memory",
        format!("resident memory of a daemon, peak while it stores {records} records at full load"),
        Unit::Bytes,
        peak(0, records * 3),
    )
    .at_most(BOUND_BYTES)
    .target(
        format!("flat: ≤ {FLAT:.1}x in the last third"),
        format!("{times:.2}x"),
        times <= FLAT,
    );
    let curve = Curve {
        name: "resident".to_owned(),
        points: points
            .iter()
            .map(|(written, resident)| (ratio(*written, 1), ratio(*resident, 1 << 20)))
            .collect(),
    };
    Ok(Found {
        figures: vec![figure],
        curves: vec![curve],
    })
}

/// Stores logs and spans in turns, four to one, and a snapshot now and then, and prints the memory of this process.
pub(crate) fn daemon(folder: &Path, count: u64) -> Result<()> {
    let store = Store::open(folder, "bench", StoreOptions::default())?;
    let policy = RetentionPolicy::new(Retention::default().max_age_days(3650)).max_total_mb(2048);
    let options = WriterOptions::default()
        .when_full(WhenFull::Block)
        .flush_timeout(Duration::from_secs(60))
        .retention(Some(policy));
    let (writer, guard) = Writer::start(&store, options)?;
    let servers = server_names()?;
    let server = |at: usize| servers.get(at).context("a server");
    let (mut logs, mut spans) = (GatewayLogs::new(SEED), GatewaySpans::new(SEED));
    let mut metrics = GatewayMetrics::new(SEED);
    for number in 0..count {
        match number % 1000 {
            0 => {
                let row = metrics.next().context("the supply has no end")??;
                row.record.offer(&writer, server(row.server)?)?;
            }
            rest if rest % 5 == 4 => {
                let row = spans.next().context("the supply has no end")??;
                row.record.offer(&writer, server(row.server)?)?;
            }
            _ => {
                let row = logs.next().context("the supply has no end")??;
                row.record.offer(&writer, server(row.server)?)?;
            }
        }
        if number % (count / LOOKS).max(1) == 0 {
            println!("{number} {}", resident_bytes(std::process::id())?);
        }
    }
    writer.flush()?;
    println!("{count} {}", resident_bytes(std::process::id())?);
    guard.close()?;
    Ok(())
}
