//! Our store and its peers in one process, on the same records, in turns.
//!
//! ```text
//! cargo bench -p gridctl-telemetry-benches --bench table [-- --quick | --records N --rounds N]
//! ```
//!
//! All commits are durable. Peers commit as many records at a time as our writer does under load, and
//! in a second series all engines commit 1000. Each engine is closed before its files are measured, and
//! opened again before it is read.

use anyhow::{Context, Result};
use gridctl_telemetry::query::Direction;
use gridctl_telemetry_benches::{
    Arguments, Engine, FjallRows, FlatFiles, GatewayLogs, GatewayRecord, OurStore, RedbRows,
    SERVERS, Sqlite, Table, bench_folder, cpu_time, disk_bytes, gzip_bytes, median, per_second,
    ratio, seconds, time,
};
use std::{hint::black_box, ops::ControlFlow, time::Duration};

const SEED: u64 = 2026;
/// The number of records that are read from the end of a server's history.
const LAST: usize = 1000;
/// The number of repetitions of a read that takes less than a few milliseconds.
const REPEATS: usize = 25;
const SMALL_BATCH: usize = 1000;

/// Where the benchmarks write.
const FOLDER: &str = env!("CARGO_TARGET_TMPDIR");

fn main() -> Result<()> {
    let arguments = Arguments::read(&["--quick", "--records", "--rounds"])?;
    let quick = arguments.has("--quick");
    let records = arguments.value("--records", if quick { 50_000 } else { 1_000_000 })?;
    let rounds = arguments.value("--rounds", if quick { 1 } else { 3 })?;

    let records: Vec<GatewayRecord> = GatewayLogs::new(SEED)
        .take(records)
        .collect::<Result<_>>()?;
    let line_bytes: usize = records.iter().map(|record| record.line.len() + 1).sum();
    let gzip = gzip_bytes(&records)?;
    println!(
        "{} log records of {} servers, {:.1} MB as NDJSON, {:.1} MB as gzip -6; {rounds} rounds\n",
        records.len(),
        SERVERS.len(),
        ratio(line_bytes as u64, 1_000_000),
        ratio(gzip, 1_000_000),
    );

    let (adaptive, fixed) = run_rounds(&records, rounds)?;
    let batch = adaptive.first().map_or(0, |ours| ours.commit_records);
    println!("{}", engine_table(batch, &adaptive, gzip)?);
    println!("{}", engine_table(SMALL_BATCH as u64, &fixed, gzip)?);
    drop(records);

    let (small, large) = if quick {
        (5_000, 50_000)
    } else {
        (50_000, 5_000_000)
    };
    let sizes = [read_at_size(small)?, read_at_size(large)?];
    println!("{}", size_table(&sizes));

    println!("Bounds:");
    verdicts(&adaptive, &sizes, gzip)
}

/// The measurements of an engine, one entry a round.
#[derive(Debug, Default)]
struct Measured {
    name: String,
    commit_records: u64,
    records: u64,
    ingest: Vec<Duration>,
    /// The processor time of ingest, of all threads together.
    ingest_cpu: Vec<Duration>,
    disk: Vec<u64>,
    forward: Vec<Duration>,
    backward: Vec<Duration>,
    last: Vec<Duration>,
}

impl Measured {
    fn ingest_rate(&self) -> Result<f64> {
        Ok(per_second(self.records, median(&self.ingest)?))
    }
}

/// Runs every engine twice a round: with commits as large as our writer's, and with 1000 records each.
fn run_rounds(records: &[GatewayRecord], rounds: usize) -> Result<(Vec<Measured>, Vec<Measured>)> {
    let (mut adaptive, mut fixed) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        if round == 0 {
            adaptive.resize_with(5, Measured::default);
            fixed.resize_with(5, Measured::default);
        }
        let [ours, peers @ ..] = adaptive.as_mut_slice() else {
            break;
        };
        run::<OurStore>(records, usize::MAX, ours)?;
        let batch = usize::try_from(ours.commit_records)?;
        run_peers(records, batch, peers)?;
        if let [ours, peers @ ..] = fixed.as_mut_slice() {
            run::<OurStore>(records, SMALL_BATCH, ours)?;
            run_peers(records, SMALL_BATCH, peers)?;
        }
        eprintln!("round {} of {rounds} is done", round + 1);
    }
    Ok((adaptive, fixed))
}

fn run_peers(records: &[GatewayRecord], batch: usize, peers: &mut [Measured]) -> Result<()> {
    if let [redb, sqlite, fjall, files] = peers {
        run::<RedbRows>(records, batch, redb)?;
        run::<Sqlite>(records, batch, sqlite)?;
        run::<FjallRows>(records, batch, fjall)?;
        run::<FlatFiles>(records, batch, files)?;
    }
    Ok(())
}

/// Stores the records with an engine, reads them, and adds the times to `measured`.
fn run<E: Engine>(records: &[GatewayRecord], batch: usize, measured: &mut Measured) -> Result<()> {
    let folder = bench_folder(FOLDER)?;
    let mut engine = E::open(folder.path())?;
    let cpu = cpu_time();
    let (commits, ingest) = time(|| engine.ingest(records, batch))?;
    measured.ingest_cpu.push(cpu_time().saturating_sub(cpu));
    engine.close()?;
    E::NAME.clone_into(&mut measured.name);
    measured.records = records.len() as u64;
    measured.commit_records = measured.records / commits.max(1);
    measured.ingest.push(ingest);
    measured.disk.push(disk_bytes(folder.path())?);

    let engine = E::open(folder.path())?;
    let forward = time(|| scan_all(&engine, Direction::Forward))?;
    let backward = time(|| scan_all(&engine, Direction::Backward))?;
    for (scanned, duration, durations) in [
        (forward.0, forward.1, &mut measured.forward),
        (backward.0, backward.1, &mut measured.backward),
    ] {
        anyhow::ensure!(
            scanned == records.len(),
            "{} returned {scanned} of {} records",
            E::NAME,
            records.len()
        );
        durations.push(duration);
    }
    measured.last.push(typical(|repeat| {
        engine.last(repeat % SERVERS.len(), LAST).map(black_box)
    })?);
    engine.close()
}

/// Reads every record of every server, and returns their number.
fn scan_all<E: Engine>(engine: &E, direction: Direction) -> Result<usize> {
    let (mut records, mut bytes) = (0, 0);
    for server in 0..SERVERS.len() {
        engine.scan(server, direction, &mut |record| {
            records += 1;
            bytes += record.len();
            ControlFlow::Continue(())
        })?;
    }
    black_box(bytes);
    Ok(records)
}

/// The median time of a quick operation.
fn typical<T>(mut work: impl FnMut(usize) -> Result<T>) -> Result<Duration> {
    let durations = (0..REPEATS)
        .map(|repeat| time(|| work(repeat)).map(|(_, duration)| duration))
        .collect::<Result<Vec<Duration>>>()?;
    median(&durations)
}

fn engine_table(batch: u64, engines: &[Measured], gzip: u64) -> Result<Table> {
    let ours = engines.first().context("our store ran")?;
    let batch = format!("{batch} a commit");
    let mut table = Table::new(&[
        &batch,
        "ingest, records/s",
        "ours is",
        "CPU a record",
        "on disk, MB",
        "of gzip -6",
        "forward, records/s",
        "backward",
        "last(1000)",
    ]);
    for engine in engines {
        let rate = engine.ingest_rate()?;
        let records = ratio(engine.records, 1);
        let disk = median(&engine.disk)?;
        table.row(vec![
            engine.name.clone(),
            thousands(rate),
            format!("{:.2}x", ours.ingest_rate()? / rate),
            seconds(median(&engine.ingest_cpu)?.div_f64(records)),
            format!("{:.1}", ratio(disk, 1_000_000)),
            format!("{:.2}x", ratio(disk, gzip)),
            thousands(per_second(engine.records, median(&engine.forward)?)),
            thousands(per_second(engine.records, median(&engine.backward)?)),
            seconds(median(&engine.last)?),
        ]);
    }
    Ok(table)
}

fn thousands(rate: f64) -> String {
    format!("{:.0} k", rate / 1000.0)
}

/// The times of short reads of our store at one size.
#[derive(Debug)]
struct AtSize {
    records: usize,
    /// With every record in a block.
    settled: ShortReads,
    /// With rows that will soon be sealed.
    fresh: ShortReads,
}

#[derive(Debug)]
struct ShortReads {
    last: Duration,
    inventory: Duration,
}

/// Fills a store with `count` records and measures the reads whose time must not depend on its size.
fn read_at_size(count: usize) -> Result<AtSize> {
    /// This many at a time become blocks and leave no rows, at any size of the store.
    const CHUNK: usize = 25_000;
    /// Few enough records to become rows, and together nearly as many as the row tier holds.
    const FRESH: usize = 500;
    const FRESH_BATCHES: usize = 36;
    let folder = bench_folder(FOLDER)?;
    let mut engine = OurStore::open(folder.path())?;
    let mut logs = GatewayLogs::new(SEED);
    for start in (0..count).step_by(CHUNK) {
        let chunk = CHUNK.min(count - start);
        let mut records = logs.by_ref().take(chunk).collect::<Result<Vec<_>>>()?;
        engine.fill(&mut records)?;
    }
    let settled = short_reads(&engine)?;
    for _ in 0..FRESH_BATCHES {
        let mut records = logs.by_ref().take(FRESH).collect::<Result<Vec<_>>>()?;
        engine.fill(&mut records)?;
    }
    Ok(AtSize {
        records: count,
        settled,
        fresh: short_reads(&engine)?,
    })
}

fn short_reads(engine: &OurStore) -> Result<ShortReads> {
    Ok(ShortReads {
        last: typical(|repeat| engine.last(repeat % SERVERS.len(), LAST).map(black_box))?,
        inventory: typical(|_| Ok(black_box(engine.store().snapshot()?.inventory(None)?)))?,
    })
}

fn size_table(sizes: &[AtSize]) -> Table {
    let mut table = Table::new(&[
        "our store holds",
        "last(1000)",
        "inventory",
        "last(1000), many rows",
        "inventory, many rows",
    ]);
    for size in sizes {
        table.row(vec![
            format!("{} records", size.records),
            seconds(size.settled.last),
            seconds(size.settled.inventory),
            seconds(size.fresh.last),
            seconds(size.fresh.inventory),
        ]);
    }
    table
}

fn verdicts(engines: &[Measured], sizes: &[AtSize; 2], gzip: u64) -> Result<()> {
    let verdict = |met: bool, what: String| {
        println!("- {}: {what}", if met { "met" } else { "MISSED" });
    };
    if let [ours, redb, sqlite, fjall, ..] = engines {
        for (peer, least) in [(redb, 2.0), (sqlite, 1.0), (fjall, 1.0)] {
            let times = ours.ingest_rate()? / peer.ingest_rate()?;
            let name = &peer.name;
            verdict(
                times >= least,
                format!("ingest {times:.2}x of {name}, at least {least}x"),
            );
        }
        let times = ratio(median(&ours.disk)?, gzip);
        verdict(
            times <= 1.2,
            format!("disk blocks {times:.2}x of gzip -6, at most 1.2x"),
        );
    }
    let [small, large] = sizes;
    for (what, before, after) in [
        ("last(1000)", small.settled.last, large.settled.last),
        (
            "inventory",
            small.settled.inventory,
            large.settled.inventory,
        ),
        (
            "last(1000) with many rows",
            small.fresh.last,
            large.fresh.last,
        ),
        (
            "inventory with many rows",
            small.fresh.inventory,
            large.fresh.inventory,
        ),
    ] {
        let times = after.div_duration_f64(before);
        let (from, to) = (small.records, large.records);
        verdict(
            times <= 2.0,
            format!("{what} on {to} records {times:.2}x of {from}, at most 2x"),
        );
    }
    println!("- a day of one record a second: see the benchmark `day`");
    Ok(())
}
