//! How soon a store can be used after the process that wrote to it was killed.

use crate::{FOLDER, Found, Run, SEED, child};
use anyhow::{Result, ensure};
use gridctl_telemetry::{Store, StoreOptions, Timestamp, Writer, WriterOptions, ingest::WhenFull};
use gridctl_telemetry_benches::{
    Engine, GatewayLogs, OurStore, bench_folder, disk_bytes, median, nanos, ratio,
    report::{Figure, Unit},
    server_name, server_names, time,
};
use std::{
    path::Path,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

const KILLS: usize = 7;
const BOUND_NANOS: f64 = 20e6;
/// How long a process writes before it is killed.
const ALIVE: Duration = Duration::from_millis(400);
const PATIENCE: Duration = Duration::from_secs(600);

pub(crate) fn run(run: &Run) -> Result<Found> {
    let mebibytes: u64 = match (run.quick, run.full) {
        (true, _) => 4,
        (false, false) => 64,
        (false, true) => 1024,
    };
    let folder = bench_folder(FOLDER)?;
    run.progress.step(&format!("storing {mebibytes} MiB"));
    let (mut opens, mut firsts) = (Vec::new(), Vec::new());
    let kills = if run.quick { 2 } else { KILLS };
    for kill in 0..kills {
        let mut writing = start(folder.path())?;
        let started = Instant::now();
        // A file that vanishes while they are counted is an error.
        let bytes = || disk_bytes(folder.path()).unwrap_or(0);
        while started.elapsed() < ALIVE || bytes() < mebibytes << 20 {
            ensure!(started.elapsed() < PATIENCE, "the store does not grow");
            ensure!(
                writing.try_wait()?.is_none(),
                "the writing process has ended"
            );
            thread::sleep(Duration::from_millis(20));
        }
        writing.kill()?;
        writing.wait()?;
        run.progress.step(&format!("kill {} of {kills}", kill + 1));
        let (engine, took) = time(|| OurStore::open(folder.path()))?;
        opens.push(took);
        let ((), took) = time(|| {
            let (writer, guard) = Writer::start(engine.store(), WriterOptions::default())?;
            let record = GatewayLogs::new(1).record_at(0, Timestamp::now());
            writer.log(&server_name(0)?, &record)?;
            writer.flush()?;
            Ok(guard.close()?)
        })?;
        firsts.push(took);
    }
    let value = |times: &[Duration]| -> Result<f64> { Ok(ratio(nanos(median(times)?), 1)) };
    Ok(vec![
        Figure::new(
            &format!("kill.open.{mebibytes}"),
            format!("open after a kill, {mebibytes} MiB"),
            Unit::Nanos,
            value(&opens)?,
        )
        .at_most(BOUND_NANOS),
        Figure::new(
            &format!("kill.commit.{mebibytes}"),
            format!(
                "first record on the disk, and an orderly end, after that open, {mebibytes} MiB"
            ),
            Unit::Nanos,
            value(&firsts)?,
        ),
    ]
    .into())
}

fn start(folder: &Path) -> Result<Child> {
    Ok(child("fill", folder, 0)?.stdin(Stdio::null()).spawn()?)
}

/// Writes until the process is killed.
pub(crate) fn fill(folder: &Path) -> Result<()> {
    let store = Store::open(folder, "bench", StoreOptions::default())?;
    let options = WriterOptions::default().when_full(WhenFull::Block);
    let (writer, _guard) = Writer::start(&store, options)?;
    let servers = server_names()?;
    let mut logs = GatewayLogs::new(SEED);
    for (place, server) in servers.iter().enumerate().cycle() {
        let record = logs.record_at(place, Timestamp::now());
        writer.log(server, &record)?;
    }
    Ok(())
}
