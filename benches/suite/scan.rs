//! Reading all records in both directions, and the last ones, beside the peers.

use crate::{FOLDER, Found, Run, SEED};
use anyhow::{Context, Result, ensure};
use gridctl_telemetry::query::Direction;
use gridctl_telemetry_benches::{
    Engine, FjallRows, FlatFiles, GatewayLogs, GatewayRecord, GzipFiles, OurStore, RedbRows,
    SERVERS, Sqlite, bench_folder, median, nanos, per_second, ratio,
    report::{Figure, Unit},
    time,
};
use std::{hint::black_box, ops::ControlFlow, time::Duration};
use tempfile::TempDir;

const RECORDS: usize = 1_000_000;
/// The number of handles from which the last records are read in a round.
const HANDLES: usize = 9;
/// The number of records of a commit.
const COMMIT_RECORDS: usize = 32_768;
/// The number of last records that are read.
pub(crate) const LAST: [(usize, f64); 2] = [(1000, 300e3), (20, 100e3)];

/// Stores the records with an engine.
type Fill = fn(&[GatewayRecord]) -> Result<Filled>;
/// The times of a direction.
type Direct = fn(&Times) -> &Vec<Duration>;

/// What an engine has taken, a value a round.
#[derive(Debug, Default)]
struct Times {
    forward: Vec<Duration>,
    backward: Vec<Duration>,
    last: [Vec<Duration>; 2],
}

/// An engine with all records.
struct Filled {
    name: &'static str,
    folder: TempDir,
    read: fn(&Filled, usize) -> Result<()>,
    records: usize,
    times: std::cell::RefCell<Times>,
}

pub(crate) fn run(run: &Run) -> Result<Found> {
    let rows = GatewayLogs::new(SEED)
        .take(run.records(RECORDS))
        .collect::<Result<Vec<_>>>()?;
    let fills: [Fill; 6] = [
        fill::<OurStore>,
        fill::<RedbRows>,
        fill::<Sqlite>,
        fill::<FjallRows>,
        fill::<FlatFiles>,
        fill::<GzipFiles>,
    ];
    let mut filled = Vec::new();
    for fill in fills {
        run.progress.step("storing the records");
        filled.push(fill(&rows)?);
    }
    drop(rows);
    let ours = filled.first().context("our store")?;
    let mut owned = Vec::new();
    for round in 0..run.rounds {
        for turn in 0..filled.len() {
            let engine = filled.get((round + turn) % filled.len());
            let engine = engine.context("an engine")?;
            run.progress.step(&format!(
                "round {} of {}: {}",
                round + 1,
                run.rounds,
                engine.name
            ));
            (engine.read)(engine, round)?;
        }
        let store = OurStore::open(ours.folder.path())?;
        let (count, took) = time(|| scan_owned(&store))?;
        ours.check(count)?;
        owned.push(took);
    }
    figures(&filled, &owned).map(Found::from)
}

fn figures(filled: &[Filled], owned: &[Duration]) -> Result<Vec<Figure>> {
    let ours = filled.first().context("our store")?;
    let rate =
        |times: &[Duration]| -> Result<f64> { Ok(per_second(ours.records as u64, median(times)?)) };
    let mut figures = Vec::new();
    let directions: [(&str, Direct); 2] = [
        ("forward", |it| &it.forward),
        ("backward", |it| &it.backward),
    ];
    for (name, of) in directions {
        let what = format!("scan {name}, logs, every value of them decoded");
        let id = format!("scan.{name}");
        let mut figure = Figure::new(
            &id,
            what,
            Unit::RecordsPerSecond,
            rate(of(&ours.times.borrow()))?,
        )
        .at_least(8e6);
        for peer in filled.iter().skip(1) {
            figure = figure.beside(peer.name, rate(of(&peer.times.borrow()))?);
        }
        figures.push(figure);
    }
    figures.push(Figure::new(
        "scan.owned",
        "the same forward, as `LogRecord`s with texts of their own",
        Unit::RecordsPerSecond,
        rate(owned)?,
    ));
    for (at, (count, bound)) in LAST.into_iter().enumerate() {
        let nanos_of = |engine: &Filled| -> Result<f64> {
            let times = engine.times.borrow();
            Ok(ratio(
                nanos(median(times.last.get(at).context("a count")?)?),
                1,
            ))
        };
        let what = format!("`last({count})`, {} logs, cold handle", ours.records);
        let id = format!("last.{count}");
        let mut figure = Figure::new(&id, what, Unit::Nanos, nanos_of(ours)?).at_most(bound);
        for peer in filled.iter().skip(1) {
            figure = figure.beside(peer.name, nanos_of(peer)?);
        }
        figures.push(figure);
    }
    Ok(figures)
}

impl Filled {
    fn check(&self, count: usize) -> Result<()> {
        let (name, records) = (self.name, self.records);
        ensure!(
            count == records,
            "{name} returned {count} of {records} records"
        );
        Ok(())
    }
}

fn fill<E: Engine>(rows: &[GatewayRecord]) -> Result<Filled> {
    let folder = bench_folder(FOLDER)?;
    let mut engine = E::open(folder.path())?;
    engine.ingest(rows, COMMIT_RECORDS)?;
    engine.close()?;
    Ok(Filled {
        name: E::NAME,
        folder,
        read: read::<E>,
        records: rows.len(),
        times: std::cell::RefCell::default(),
    })
}

/// Reads everything once in both directions, and the last records from handles that were just opened.
fn read<E: Engine>(filled: &Filled, round: usize) -> Result<()> {
    let mut times = filled.times.borrow_mut();
    let folder = filled.folder.path();
    for (count, times) in LAST.iter().zip(&mut times.last) {
        for handle in 0..HANDLES {
            let engine = E::open(folder)?;
            let server = (round + handle) % SERVERS.len();
            times.push(time(|| engine.last(server, count.0).map(black_box))?.1);
            engine.close()?;
        }
    }
    let engine = E::open(folder)?;
    let (count, took) = time(|| scan_all(&engine, Direction::Forward))?;
    filled.check(count)?;
    times.forward.push(took);
    let (count, took) = time(|| scan_all(&engine, Direction::Backward))?;
    filled.check(count)?;
    times.backward.push(took);
    engine.close()
}

/// Reads every record of every server, and returns their number.
pub(crate) fn scan_all<E: Engine>(engine: &E, direction: Direction) -> Result<usize> {
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

/// The same with every record a copy.
fn scan_owned(store: &OurStore) -> Result<usize> {
    let mut records = 0;
    for server in 0..SERVERS.len() {
        for record in store.store().scan(&store.query(server)?)? {
            black_box(record?);
            records += 1;
        }
    }
    Ok(records)
}
