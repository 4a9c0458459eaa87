//! Instructions a record on the three hot paths, as valgrind's callgrind counts them.
//!
//! A path runs in a process of its own under callgrind, which counts only within the function of the path, on the thread
//! that calls it. The counts do not depend on the load of the machine.

use crate::{FOLDER, Found, Run, SEED, child as program_of, scan::scan_all};
use anyhow::{Context, Result, bail, ensure};
use gridctl_telemetry::{
    LogRecord, ServerName, StoreOptions, WriterOptions, query::Direction, testing::SimulatedWriter,
};
use gridctl_telemetry_benches::{
    Engine, EventStore, GatewayLogs, OurStore, Recorded, Row, bench_folder, event, event_span,
    ratio,
    report::{Figure, Unit},
    server_names,
};
use std::{path::Path, process::Command, time::Duration};
use tracing::dispatcher;

const RECORDS: u64 = 20_000;
/// The number of records of a commit.
const COMMIT: usize = 1000;

/// A path's name, what it is, and the name of its function.
const PATHS: [(&str, &str, &str); 3] = [
    (
        "request",
        "an event on the thread that logs it",
        "hot_path_request",
    ),
    (
        "writer",
        "a log record in the writer, 1000 a commit",
        "hot_path_writer",
    ),
    (
        "scan",
        "a log record in a scan, every value decoded",
        "hot_path_scan",
    ),
];

pub(crate) fn run(run: &Run) -> Result<Found> {
    let version = Command::new("valgrind").arg("--version").output();
    if !version.is_ok_and(|version| version.status.success()) {
        eprintln!("instructions are not counted: valgrind is not installed");
        return Ok(Found::default());
    }
    let records = if run.quick { RECORDS / 10 } else { RECORDS };
    let mut figures = Vec::new();
    for (path, what, function) in PATHS {
        run.progress.step(what);
        let folder = bench_folder(FOLDER)?;
        let program = program_of(path, folder.path(), records)?;
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(format!("--toggle-collect=*{function}*"))
            .arg(program.get_program())
            .args(program.get_args())
            .output()?;
        let report = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{report}");
        let count: u64 = report
            .lines()
            .find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok())
            .with_context(|| format!("callgrind reports no instructions: {report}"))?;
        ensure!(count > 0, "callgrind has not found the function {function}");
        figures.push(Figure::new(
            &format!("instructions.{path}"),
            format!("instructions, {what}"),
            Unit::Instructions,
            ratio(count, records),
        ));
    }
    Ok(figures.into())
}

/// Runs a path in this process.
pub(crate) fn child(path: &str, folder: &Path, records: u64) -> Result<()> {
    match path {
        "request" => {
            let store = EventStore::start(folder, StoreOptions::default())?;
            dispatcher::with_default(&store.dispatch, || {
                let span = event_span(0);
                let _entered = span.enter();
                // What is done once a thread is not part of the path.
                event(0);
                hot_path_request(records);
            });
            store.close()
        }
        "writer" => {
            let engine = OurStore::open(folder)?;
            let rows = logs(records)?;
            let writer = SimulatedWriter::new(engine.store(), WriterOptions::default())?;
            hot_path_writer(writer, &rows)
        }
        "scan" => {
            let mut engine = OurStore::open(folder)?;
            let is_patient = |row: &Result<Row<LogRecord>>| {
                row.as_ref().is_ok_and(|row| !row.record.is_urgent())
            };
            let rows = GatewayLogs::new(SEED).filter(is_patient);
            let rows = rows.take(usize::try_from(records)?);
            // In one commit: how many there are otherwise depends on the time, and with it the blocks.
            engine.fill(&mut rows.collect::<Result<Vec<_>>>()?)?;
            engine.close()?;
            let engine = OurStore::open(folder)?;
            let found = hot_path_scan(&engine)?;
            ensure!(
                found as u64 == records,
                "{found} of {records} records were found"
            );
            Ok(())
        }
        other => bail!("there is no process {other}"),
    }
}

fn logs(records: u64) -> Result<Vec<(ServerName, LogRecord)>> {
    let servers = server_names()?;
    let mut logs = Vec::new();
    for row in GatewayLogs::new(SEED).take(usize::try_from(records)?) {
        let row = row?;
        // An error is committed at once.
        if !row.record.is_urgent() {
            let server = servers.get(row.server).context("a server")?;
            logs.push((server.clone(), row.record));
        }
    }
    Ok(logs)
}

#[inline(never)]
fn hot_path_request(records: u64) {
    (0..records).for_each(event);
}

#[inline(never)]
fn hot_path_writer(mut writer: SimulatedWriter, rows: &[(ServerName, LogRecord)]) -> Result<()> {
    let mut now = Duration::ZERO;
    for commit in rows.chunks(COMMIT) {
        for (server, record) in commit {
            writer.log(server, record, now)?;
        }
        writer.flush(now)?;
        now += Duration::from_secs(1);
    }
    Ok(())
}

#[inline(never)]
fn hot_path_scan(engine: &OurStore) -> Result<usize> {
    scan_all(engine, Direction::Forward)
}
