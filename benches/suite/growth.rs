//! Short reads of our store from handles that were just opened, by the number of its records.

use crate::{FOLDER, Found, Run, SEED, scan::LAST};
use anyhow::Result;
use gridctl_telemetry_benches::{
    Engine, GatewayLogs, OurStore, SERVERS, bench_folder, median, nanos, ratio,
    report::{Curve, Figure, Unit},
    time,
};
use std::{hint::black_box, path::Path, time::Duration};

/// This many at a time become blocks and leave no rows, at any size of the store.
const CHUNK: usize = 25_000;
/// Few enough records to become rows, and together nearly as many as the row tier holds.
const FRESH: usize = 500;
const FRESH_BATCHES: usize = 36;
const HANDLES: usize = 25;
/// A read is flat if it takes at most this many times as long at the largest size as at the smallest.
const FLAT: f64 = 1.5;

pub(crate) fn run(run: &Run) -> Result<Found> {
    let sizes: &[usize] = match (run.quick, run.full) {
        (true, _) => &[5000, 50_000],
        (false, false) => &[50_000, 250_000, 1_000_000],
        (false, true) => &[50_000, 250_000, 1_000_000, 10_000_000],
    };
    let mut reads = READS.map(|read| (read, Vec::new(), Vec::new()));
    for size in sizes {
        run.progress.step(&format!("{size} records"));
        let folder = bench_folder(FOLDER)?;
        let mut engine = OurStore::open(folder.path())?;
        let mut logs = GatewayLogs::new(SEED);
        for start in (0..*size).step_by(CHUNK) {
            let chunk = CHUNK.min(size - start);
            let mut records = logs.by_ref().take(chunk).collect::<Result<Vec<_>>>()?;
            engine.fill(&mut records)?;
        }
        engine.close()?;
        for (read, settled, _) in &mut reads {
            settled.push((*size, typical(folder.path(), *read)?));
        }
        let mut engine = OurStore::open(folder.path())?;
        for _ in 0..FRESH_BATCHES {
            let mut records = logs.by_ref().take(FRESH).collect::<Result<Vec<_>>>()?;
            engine.fill(&mut records)?;
        }
        engine.close()?;
        for (read, _, fresh) in &mut reads {
            fresh.push((*size, typical(folder.path(), *read)?));
        }
    }
    let mut found = Found::default();
    for (read, settled, fresh) in &reads {
        for (points, suffix, words) in [
            (settled, "", ""),
            (fresh, ".rows", ", with many fresh rows"),
        ] {
            let (Some(first), Some(last)) = (points.first(), points.last()) else {
                continue;
            };
            let (name, id) = (read.name(), read.id());
            let what = format!("{name}, {} logs, cold handle{words}", last.0);
            let mut figure = Figure::new(
                &format!("{id}.{}{suffix}", last.0),
                what,
                Unit::Nanos,
                last.1,
            )
            .at_most_times(FLAT, first.1, &format!("that of {} logs", first.0));
            if suffix.is_empty()
                && let Some(bound) = read.bound()
            {
                figure = figure.at_most(bound);
            }
            found.figures.push(figure);
            if let Read::Last(..) = read {
                let points = points.iter();
                found.curves.push(Curve {
                    name: format!("{name}{words}"),
                    points: points
                        .map(|(size, nanos)| (ratio(*size as u64, 1), nanos / 1e3))
                        .collect(),
                });
            }
        }
    }
    Ok(found)
}

#[derive(Debug, Clone, Copy)]
enum Read {
    /// With its bound in nanoseconds.
    Last(usize, f64),
    Inventory,
}

const READS: [Read; 3] = {
    let [(many, many_max), (few, few_max)] = LAST;
    [
        Read::Last(many, many_max),
        Read::Last(few, few_max),
        Read::Inventory,
    ]
};

impl Read {
    fn name(self) -> String {
        match self {
            Read::Last(count, _) => format!("`last({count})`"),
            Read::Inventory => "inventory".to_owned(),
        }
    }

    fn id(self) -> String {
        match self {
            Read::Last(count, _) => format!("growth.last.{count}"),
            Read::Inventory => "growth.inventory".to_owned(),
        }
    }

    fn bound(self) -> Option<f64> {
        match self {
            Read::Last(_, bound) => Some(bound),
            Read::Inventory => None,
        }
    }
}

/// The median time of a read from a handle that was just opened, in nanoseconds.
fn typical(folder: &Path, read: Read) -> Result<f64> {
    let mut times: Vec<Duration> = Vec::new();
    for handle in 0..HANDLES {
        let engine = OurStore::open(folder)?;
        let ((), took) = time(|| {
            match read {
                Read::Last(count, _) => {
                    engine.last(handle % SERVERS.len(), count).map(black_box)?;
                }
                Read::Inventory => {
                    black_box(engine.store().snapshot()?.inventory(None)?);
                }
            }
            Ok(())
        })?;
        times.push(took);
        engine.close()?;
    }
    Ok(ratio(nanos(median(&times)?), 1))
}
