//! `demo`: a small gateway daemon, from its first event to its exported files.
//!
//! Only the servers are simulated. The `tracing` subscriber, the OpenTelemetry SDK, the counters, a
//! store that is read while it is written, a restart and an export are real.

mod gateway;

use self::gateway::{Gateway, SECRETS};
use super::{export, status};
use crate::{
    Outcome,
    screen::{Output, Screen},
};
use anyhow::Context;
use bytesize::ByteSize;
use gridctl_telemetry::{Query, Signal, Snapshot, Store, StoreOptions, home::home_in};
use gridctl_telemetry_server::display::{escape, losses};
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

const STACK: &str = "demo";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long the gateway serves calls, in seconds
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
}

pub(crate) fn run(screen: &Screen, args: &Args, out: &mut impl Write) -> anyhow::Result<Outcome> {
    let folder = tempfile::Builder::new()
        .prefix("gridctl-telemetry-demo-")
        .tempdir()
        .context("cannot create a folder for the demo")?
        .keep();
    writeln!(
        out,
        "A gateway with three servers stores its telemetry below {}\n",
        folder.display()
    )?;
    let home = home_in(&folder)?;
    serve(&home, Duration::from_secs(args.seconds), out)?;
    restart(&home, out)?;
    let files = folder.join("export");
    show_export(&home, screen, &files, out)?;
    writeln!(out, "\nThe stored records:\n")?;
    status::run(&home, screen, &status::Args::of_stack(STACK), out)?;
    let snapshot = open(&home)?.snapshot()?;
    match losses::summary(&snapshot.ledger(..)?, |time| screen.time(time)) {
        Some(losses) => writeln!(out, "The ledger: {losses}.")?,
        None => writeln!(out, "The ledger is empty: every offered record is stored.")?,
    }
    show_secrets(&home, &files, out)?;
    next_steps(&folder, out)?;
    out.flush()?;
    Ok(Outcome::Done)
}

/// Runs the daemon: it serves calls, while a reader looks at the store.
fn serve(home: &Path, duration: Duration, out: &mut impl Write) -> anyhow::Result<()> {
    let gateway = Gateway::start(home, STACK)?;
    let calls = gateway.serve(duration, |elapsed| {
        // Another process would do the same, because the database file is the only interface.
        let store = Store::open_read_only(home, STACK, StoreOptions::for_tools())?;
        let Some(store) = store else { return Ok(()) };
        let records: u64 = store
            .snapshot()?
            .inventory(None)?
            .iter()
            .map(|record| record.record_count)
            .sum();
        writeln!(
            out,
            "  {:>4.1} s: a reader sees {records} records while the daemon runs",
            elapsed.as_secs_f64()
        )?;
        Ok(out.flush()?)
    })?;
    let stats = gateway.stop()?;
    writeln!(
        out,
        "\nServed {} tool calls, of which {} failed: {} records offered, {} stored, {} dropped.",
        calls.total,
        calls.failed,
        stats.offered,
        stats.stored,
        stats.dropped_total()
    )?;
    Ok(())
}

/// Restarts the daemon, and shows what it restores.
fn restart(home: &Path, out: &mut impl Write) -> anyhow::Result<()> {
    let gateway = Gateway::start(home, STACK)?;
    let seeded = gateway.seed()?;
    writeln!(
        out,
        "Restarted: restored {} log records, {} traces ({} with errors) and the counters of {} servers \
         ({} tokens).",
        seeded.logs, seeded.traces, seeded.failed_traces, seeded.servers, seeded.tokens
    )?;
    gateway.stop()?;
    Ok(())
}

fn show_export(
    home: &Path,
    screen: &Screen,
    files: &Path,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    export::run(
        home,
        screen,
        &export::Args::of_stack(STACK, files),
        &mut Output::nowhere(),
    )?;
    writeln!(out, "\nExported:")?;
    let mut bytes = 0;
    for path in files_below(files)? {
        let length = fs::metadata(&path)?.len();
        bytes += length;
        let shown = escape(&path.display().to_string());
        writeln!(
            out,
            "  {:>10}  {shown}",
            ByteSize::b(length).display().iec()
        )?;
    }
    let snapshot = open(home)?.snapshot()?;
    let stored: u64 = snapshot
        .inventory(None)?
        .iter()
        .map(|record| record.size_bytes)
        .sum();
    writeln!(
        out,
        "  {} as files, {} in the database, as rows (4,096 rows of a series are sealed into a block)",
        ByteSize::b(bytes).display().iec(),
        ByteSize::b(stored).display().iec()
    )?;
    Ok(())
}

/// Searches the database file, its records and the export for the secrets that the gateway logged.
fn show_secrets(home: &Path, files: &Path, out: &mut impl Write) -> anyhow::Result<()> {
    let mut searched = vec![fs::read(open(home)?.path())?];
    for path in files_below(files)? {
        searched.push(fs::read(path)?);
    }
    let snapshot = open(home)?.snapshot()?;
    for signal in Signal::ALL {
        searched.push(decoded(&snapshot, signal)?.into_bytes());
    }
    let found = SECRETS
        .iter()
        .filter(|secret| {
            searched
                .iter()
                .any(|bytes| memchr::memmem::find(bytes, secret.as_bytes()).is_some())
        })
        .count();
    writeln!(
        out,
        "{found} of {} logged secrets are in the database file, its records or the export.",
        SECRETS.len()
    )?;
    anyhow::ensure!(found == 0, "a secret reached the disk");
    Ok(())
}

fn decoded(snapshot: &Snapshot, signal: Signal) -> anyhow::Result<String> {
    let mut text = String::new();
    for record in snapshot.scan(&Query::new(signal))?.records() {
        use std::fmt::Write as _;
        let _ = writeln!(text, "{:?}", record?.record);
    }
    Ok(text)
}

fn next_steps(home: &Path, out: &mut impl Write) -> anyhow::Result<()> {
    let program = "cargo run --release --bin gridctl-telemetry --";
    let home = home.display();
    writeln!(
        out,
        "\nTry next:\n\
         \n  {program} --home {home} status\
         \n  {program} --home {home} logs {STACK} github -n 5\
         \n  {program} --home {home} logs --level error -f\
         \n  {program} --home {home} traces --slowest 5\
         \n  {program} --home {home} calls --failed\
         \n  {program} --home {home} usage --by tool\
         \n  {program} --home {home} export-jsonl --stack {STACK} --signal traces --stdout\
         \n  {program} --home {home} wipe {STACK} --server slack\
         \n  rm -r {home}"
    )?;
    Ok(())
}

fn open(home: &Path) -> anyhow::Result<Store> {
    Store::open_read_only(home, STACK, StoreOptions::for_tools())?
        .context("the demo's database is gone")
}

/// The files below a folder, sorted.
fn files_below(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_below(&path)?);
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
