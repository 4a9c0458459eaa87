//! Our store alone, to compare with its earlier versions.
//!
//! ```text
//! cargo bench -p gridctl-telemetry-benches --bench store
//! ```

use anyhow::{Context, Error, Result};
use criterion::{BatchSize, Bencher, BenchmarkId, Criterion, Throughput};
use gridctl_telemetry::query::Direction;
use gridctl_telemetry_benches::{
    Engine, GatewayLogs, GatewayRecord, OurStore, SERVERS, bench_folder,
};
use std::{cell::OnceCell, hint::black_box, ops::ControlFlow, time::Duration};
use tempfile::TempDir;

/// Where the benchmarks write.
const FOLDER: &str = env!("CARGO_TARGET_TMPDIR");
const SIZES: [usize; 2] = [50_000, 1_000_000];

fn main() -> Result<()> {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    ingest(&mut criterion)?;
    for size in SIZES {
        reads(&mut criterion, size);
    }
    criterion.final_summary();
    Ok(())
}

fn records(count: usize) -> Result<Vec<GatewayRecord>> {
    GatewayLogs::new(1).take(count).collect()
}

/// The time from the first offered record to the commit of the last.
fn ingest(criterion: &mut Criterion) -> Result<()> {
    let records = records(100_000)?;
    let mut group = criterion.benchmark_group("ingest");
    group.throughput(Throughput::Elements(records.len() as u64));
    for (name, batch_max) in [("default", usize::MAX), ("1000 a commit", 1000)] {
        group.bench_function(name, |bencher| {
            attempt(bencher, |bencher| {
                let mut failure = None;
                bencher.iter_batched(
                    open,
                    |opened| {
                        let stored = opened.and_then(|(mut engine, folder)| {
                            engine.ingest(&records, batch_max)?;
                            Ok((engine, folder))
                        });
                        keep_failure(&mut failure, stored)
                    },
                    BatchSize::PerIteration,
                );
                failure.map_or(Ok(()), Err)
            });
        });
    }
    group.finish();
    Ok(())
}

fn reads(criterion: &mut Criterion, size: usize) {
    let filled = Filled {
        size,
        opened: OnceCell::new(),
    };
    let mut group = criterion.benchmark_group("scan");
    group.throughput(Throughput::Elements(size as u64));
    for (name, direction) in [
        ("forward", Direction::Forward),
        ("backward", Direction::Backward),
    ] {
        group.bench_function(BenchmarkId::new(name, size), |bencher| {
            repeat(bencher, &filled, |engine, _| {
                let mut bytes = 0;
                for server in 0..SERVERS.len() {
                    engine.scan(server, direction, &mut |record| {
                        bytes += record.len();
                        ControlFlow::Continue(())
                    })?;
                }
                Ok(bytes)
            });
        });
    }
    group.bench_function(BenchmarkId::new("forward, decoded", size), |bencher| {
        repeat(bencher, &filled, |engine, _| {
            let mut last = None;
            for server in 0..SERVERS.len() {
                for stored in engine.store().scan(&engine.query(server)?)? {
                    last = Some(black_box(stored?));
                }
            }
            Ok(last)
        });
    });
    group.finish();

    let mut group = criterion.benchmark_group("short reads");
    group.bench_function(BenchmarkId::new("last(1000)", size), |bencher| {
        repeat(bencher, &filled, |engine, call| {
            engine.last(call % SERVERS.len(), 1000)
        });
    });
    group.bench_function(BenchmarkId::new("inventory", size), |bencher| {
        repeat(bencher, &filled, |engine, _| {
            Ok(engine.store().snapshot()?.inventory(None)?)
        });
    });
    group.finish();
}

/// A store of `size` records, made when it is first needed, because not all benchmarks may run.
struct Filled {
    size: usize,
    opened: OnceCell<(OurStore, TempDir)>,
}

impl Filled {
    fn engine(&self) -> Result<&OurStore> {
        if self.opened.get().is_none() {
            let (mut engine, folder) = open()?;
            engine.ingest(&records(self.size)?, usize::MAX)?;
            let _ = self.opened.set((engine, folder));
        }
        self.opened
            .get()
            .map(|(engine, _)| engine)
            .context("the store was just made")
    }
}

/// An empty store and its folder.
fn open() -> Result<(OurStore, TempDir)> {
    let folder = bench_folder(FOLDER)?;
    Ok((OurStore::open(folder.path())?, folder))
}

/// Measures `work`, whose argument is the number of calls before.
fn repeat<T>(
    bencher: &mut Bencher<'_>,
    filled: &Filled,
    mut work: impl FnMut(&OurStore, usize) -> Result<T>,
) {
    attempt(bencher, |bencher| {
        let engine = filled.engine()?;
        let (mut calls, mut failure) = (0, None);
        bencher.iter(|| {
            calls += 1;
            keep_failure(&mut failure, work(engine, calls))
        });
        failure.map_or(Ok(()), Err)
    });
}

/// Criterion's closures return no errors, so the first one is kept here.
fn keep_failure<T>(failure: &mut Option<Error>, outcome: Result<T>) -> Option<T> {
    outcome
        .map_err(|error| _ = failure.get_or_insert(error))
        .ok()
}

/// Ends the process when a measurement failed, because its time would be that of the failure.
fn attempt(bencher: &mut Bencher<'_>, measure: impl FnOnce(&mut Bencher<'_>) -> Result<()>) {
    if let Err(error) = measure(bencher) {
        eprintln!("{error:?}");
        std::process::exit(2);
    }
}
