//! Disk blocks of each signal, beside the peers, the formats that only pack, and the entropy.

use crate::{FOLDER, Found, Run, SEED, ingest::contenders};
use anyhow::{Context, Result};
use gridctl_telemetry::maintenance::CompactOptions;
use gridctl_telemetry_benches::{
    Engine, GatewayLogs, GatewayMetrics, GatewaySpans, OurStore, Recorded, Row, TextFiles,
    bench_folder, disk_bytes, parquet_bytes, ratio,
    report::{Figure, Unit},
};

const RECORDS: usize = 1_000_000;
const ENTROPY: &str = "the entropy";
const PARQUET: &str = "Parquet, typed, zstd -19";
const OTLP: &str = "gzip -6 of OTLP/JSON";

pub(crate) fn run(run: &Run) -> Result<Found> {
    let mut figures = Vec::new();
    let mut logs = GatewayLogs::new(SEED);
    let rows = collect(&mut logs, run.records(RECORDS))?;
    let entropy = logs.entropy_bytes();
    let [mut stored, bare, compacted] = sizes(run, "logs", &rows, entropy, &[])?;
    let parquet = beside(&stored, PARQUET)?;
    stored = stored
        .at_most_times(1.18, entropy, ENTROPY)
        .at_most_times(1.0, parquet, PARQUET);
    figures.extend([
        stored,
        bare.at_most_times(1.12, entropy, ENTROPY),
        compacted,
    ]);
    drop(rows);

    let mut spans = GatewaySpans::new(SEED);
    let rows = collect(&mut spans, run.records(RECORDS))?;
    let entropy = spans.entropy_bytes();
    run.progress.step(OTLP);
    let gzip = ratio(TextFiles::otlp(&rows).gzip_bytes(6)?, 1);
    let [mut stored, bare, compacted] = sizes(run, "spans", &rows, entropy, &[(OTLP, gzip)])?;
    stored = stored
        .at_most_times(1.15, entropy, ENTROPY)
        .at_most_times(0.5, gzip, OTLP);
    figures.extend([stored, bare, compacted]);
    drop(rows);

    let mut metrics = GatewayMetrics::new(SEED);
    let rows = collect(&mut metrics, run.records(RECORDS / 10))?;
    figures.extend(sizes(run, "metrics", &rows, metrics.entropy_bytes(), &[])?);
    Ok(figures.into())
}

fn collect<R>(
    supply: &mut impl Iterator<Item = Result<Row<R>>>,
    count: usize,
) -> Result<Vec<Row<R>>> {
    supply.by_ref().take(count).collect()
}

fn beside(figure: &Figure, name: &str) -> Result<f64> {
    let mut values = figure.beside.iter().filter(|peer| peer.name == name);
    Ok(values.next().context("the peer was measured")?.value)
}

/// The sizes of our store: as it is written, without the filters that find records, and compacted.
fn sizes<R: Recorded>(
    run: &Run,
    signal: &str,
    rows: &[Row<R>],
    entropy: f64,
    others: &[(&str, f64)],
) -> Result<[Figure; 3]> {
    let step = |name: &str| run.progress.step(&format!("{signal}: {name}"));
    let what = format!("disk blocks, {} {signal}", rows.len());
    let id = format!("size.{signal}");
    let bytes = |bytes: u64| ratio(bytes, 1);
    step(OurStore::NAME);
    let (stored, compacted) = ours(rows, true)?;
    let (bare, _) = ours(rows, false)?;
    let mut figure =
        Figure::new(&id, &*what, Unit::Bytes, bytes(stored)).beside("entropy", entropy);
    for (name, value) in others {
        figure = figure.beside(*name, *value);
    }
    for (name, _, store) in contenders::<R>().iter().skip(1) {
        step(name);
        figure = figure.beside(*name, bytes(store(rows, 32_768)?.disk));
    }
    let text = TextFiles::lines(rows)?;
    step("gzip -6");
    figure = figure.beside("gzip -6 of the lines", bytes(text.gzip_bytes(6)?));
    for (name, level, shares) in [
        ("zstd -3 of the lines", 3, 1),
        ("zstd -19 of the lines (an eighth, times 8)", 19, 8),
    ] {
        step(name);
        figure = figure.beside(name, bytes(text.zstd_bytes(level, shares)?));
    }
    drop(text);
    step(PARQUET);
    let figure = figure.beside(PARQUET, bytes(parquet_bytes(rows, 19)?));
    let also = |suffix: &str, words: &str, value| {
        let (id, what) = (format!("{id}.{suffix}"), format!("{what}, {words}"));
        Figure::new(&id, what, Unit::Bytes, value).beside("entropy", entropy)
    };
    Ok([
        figure,
        also("bare", "without filters", bytes(bare)),
        also("compacted", "after `compact`", bytes(compacted)),
    ])
}

/// The disk blocks that our store uses when it was written and closed, and after a compaction.
fn ours<R: Recorded>(rows: &[Row<R>], summarizes: bool) -> Result<(u64, u64)> {
    let folder = bench_folder(FOLDER)?;
    let mut engine = OurStore::open(folder.path())?;
    if summarizes {
        engine.ingest(rows, usize::MAX)?;
    } else {
        engine.ingest_bare(rows)?;
    }
    engine.close()?;
    let stored = disk_bytes(folder.path())?;
    let engine = OurStore::open(folder.path())?;
    engine.store().compact(CompactOptions::default())?;
    engine.close()?;
    Ok((stored, disk_bytes(folder.path())?))
}
