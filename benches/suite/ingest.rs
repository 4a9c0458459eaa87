//! Durable records a second, beside the peers.

use crate::{FOLDER, Found, Run, SEED};
use anyhow::{Context, Result};
use gridctl_telemetry_benches::{
    Engine, FjallRows, FlatFiles, GatewayLogs, GatewayMetrics, GatewaySpans, GzipFiles, OurStore,
    Recorded, RedbRows, Row, Sqlite, bench_folder, cpu_time, disk_bytes, median, nanos, per_second,
    ratio,
    report::{Figure, Unit},
    time, written_bytes,
};
use std::time::Duration;

const RECORDS: usize = 1_000_000;

/// What storing records has taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stored {
    took: Duration,
    cpu: Duration,
    commits: u64,
    written: u64,
    pub(crate) disk: u64,
}

/// An engine's name, whether it finds records by their keys, and how it stores records.
type Contender<R> = (&'static str, bool, fn(&[Row<R>], usize) -> Result<Stored>);

/// Our store first.
pub(crate) fn contenders<R: Recorded>() -> [Contender<R>; 6] {
    [
        (OurStore::NAME, true, store::<OurStore, R>),
        (RedbRows::NAME, true, store::<RedbRows, R>),
        (Sqlite::NAME, true, store::<Sqlite, R>),
        (FjallRows::NAME, true, store::<FjallRows, R>),
        (FlatFiles::NAME, false, store::<FlatFiles, R>),
        (GzipFiles::NAME, false, store::<GzipFiles, R>),
    ]
}

fn store<E: Engine, R: Recorded>(rows: &[Row<R>], batch: usize) -> Result<Stored> {
    let folder = bench_folder(FOLDER)?;
    let mut engine = E::open(folder.path())?;
    let (cpu, written) = (cpu_time(), written_bytes()?);
    let (commits, took) = time(|| engine.ingest(rows, batch))?;
    let cpu = cpu_time().saturating_sub(cpu);
    engine.close()?;
    Ok(Stored {
        took,
        cpu,
        commits,
        written: written_bytes()? - written,
        disk: disk_bytes(folder.path())?,
    })
}

/// Stores the records with all engines in turns. Returns what each round has taken, in the order of [`contenders`], and
/// the number of records of a commit.
fn rounds<R: Recorded>(
    run: &Run,
    rows: &[Row<R>],
    batch: Option<usize>,
) -> Result<(Vec<Vec<Stored>>, usize)> {
    let contenders = contenders::<R>();
    let mut stored = vec![Vec::new(); contenders.len()];
    let mut peers_batch = batch;
    for round in 0..run.rounds {
        for turn in 0..contenders.len() {
            // Our store begins, because the peers commit as many records as it does.
            let at = (round + turn) % contenders.len();
            let (name, _, store) = contenders.get(at).context("an engine")?;
            run.progress.step(&format!(
                "{} a commit, round {} of {}: {name}",
                peers_batch.map_or_else(|| "many".to_owned(), |batch| batch.to_string()),
                round + 1,
                run.rounds
            ));
            let is_ours = at == 0;
            let batch = if is_ours { batch } else { peers_batch };
            let outcome = store(rows, batch.unwrap_or(usize::MAX))?;
            if is_ours && peers_batch.is_none() {
                let commits = usize::try_from(outcome.commits)?.max(1);
                peers_batch = Some(rows.len().div_ceil(commits));
            }
            stored.get_mut(at).context("an engine")?.push(outcome);
        }
    }
    Ok((stored, peers_batch.unwrap_or(rows.len())))
}

/// The figures of storing records: the rate, the processor time of all threads, and the bytes that are written.
fn compare<R: Recorded>(
    run: &Run,
    id: &str,
    what: &str,
    rows: &[Row<R>],
    batch: Option<usize>,
) -> Result<[Figure; 3]> {
    let (stored, batch) = rounds(run, rows, batch)?;
    let count = rows.len() as u64;
    let (mut rates, mut cpus, mut writes) = (Vec::new(), Vec::new(), Vec::new());
    for rounds in &stored {
        let took: Vec<Duration> = rounds.iter().map(|round| round.took).collect();
        rates.push(per_second(count, median(&took)?));
        let cpu: Vec<u64> = rounds.iter().map(|round| nanos(round.cpu)).collect();
        cpus.push(ratio(median(&cpu)?, count));
        let written: Vec<u64> = rounds.iter().map(|round| round.written).collect();
        let disk: Vec<u64> = rounds.iter().map(|round| round.disk).collect();
        writes.push(ratio(median(&written)?, median(&disk)?));
    }
    let what = format!("{what}, {batch} a commit");
    let figure = |kind: &str, words: &str, unit, values: &[f64]| -> Result<Figure> {
        let (ours, peers) = values.split_first().context("our store ran")?;
        let (id, what) = (format!("{kind}.{id}"), format!("{words}, {what}"));
        let mut figure = Figure::new(&id, what, unit, *ours);
        for ((name, _, _), value) in contenders::<R>().iter().skip(1).zip(peers) {
            figure = figure.beside(*name, *value);
        }
        Ok(figure)
    };
    Ok([
        figure("ingest", "ingest", Unit::RecordsPerSecond, &rates)?,
        figure("cpu", "processor time a record", Unit::Nanos, &cpus)?,
        figure(
            "written",
            "bytes written for each on disk",
            Unit::Ratio,
            &writes,
        )?,
    ])
}

/// The rate of the fastest of the engines that find records by their keys.
fn fastest<R: Recorded>(rate: &Figure) -> f64 {
    let contenders = contenders::<R>();
    let is_engine = |name: &str| contenders.iter().any(|it| it.0 == name && it.1);
    let rates = rate.beside.iter().filter(|peer| is_engine(&peer.name));
    rates.map(|peer| peer.value).fold(0.0, f64::max)
}

pub(crate) fn logs(run: &Run) -> Result<Found> {
    const FASTEST: &str = "the fastest engine";
    let count = run.records(RECORDS);
    let rows = GatewayLogs::new(SEED)
        .take(count)
        .collect::<Result<Vec<_>>>()?;
    let mut figures = Vec::new();
    for (id, batch, count, times) in [
        ("large", None, count, 1.8),
        ("1000", Some(1000), count, 1.4),
        ("100", Some(100), count / 5, 1.2),
    ] {
        let rows = rows
            .get(..count)
            .context("fewer records than a round stores")?;
        let [mut rate, cpu, written] = compare(run, id, "logs", rows, batch)?;
        if batch.is_none() {
            rate = rate.at_least(1.5e6);
        }
        let fastest = fastest::<gridctl_telemetry::LogRecord>(&rate);
        rate = rate.at_least_times(times, fastest, FASTEST);
        figures.extend([rate, cpu, written]);
    }
    Ok(figures.into())
}

/// The other signals.
pub(crate) fn signals(run: &Run) -> Result<Found> {
    let rows = GatewaySpans::new(SEED)
        .take(run.records(RECORDS / 2))
        .collect::<Result<Vec<_>>>()?;
    let [rate, cpu, written] = compare(run, "spans", "spans", &rows, None)?;
    let mut figures = vec![rate.at_least(7e5), cpu, written];
    drop(rows);
    let rows = GatewayMetrics::new(SEED)
        .take(run.records(RECORDS / 10))
        .collect::<Result<Vec<_>>>()?;
    figures.extend(compare(
        run,
        "metrics",
        "snapshots of metrics",
        &rows,
        None,
    )?);
    Ok(figures.into())
}
