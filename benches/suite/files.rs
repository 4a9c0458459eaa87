//! Export of lines on one core, and import on two, as the programs do it.

use crate::{FOLDER, Found, Run, SEED};
use anyhow::{Context, Result, bail, ensure};
use gridctl_telemetry::{
    Query, Signal, Store, StoreOptions,
    import::{ImportBatch, Importer},
    lines::{Found as Read, LineFormat, LineWriter, RecordReader},
    query::Scan,
    redact::Redactor,
};
use gridctl_telemetry_benches::{
    Engine, GatewayLogs, GatewaySpans, OurStore, TextFiles, bench_folder, median, per_second,
    report::{Figure, Unit},
    server_names, time,
};
use std::{hint::black_box, sync::mpsc, thread, time::Duration};

const LOGS: usize = 500_000;
const SPANS: usize = 200_000;
/// As many records, and as many bytes of them, as the program `import-jsonl` stores at a time.
const BATCH_RECORDS: usize = 16_384;
const BATCH_BYTES: usize = 8 << 20;

pub(crate) fn run(run: &Run) -> Result<Found> {
    let logs = GatewayLogs::new(SEED)
        .take(run.records(LOGS))
        .collect::<Result<Vec<_>>>()?;
    let log_files = TextFiles::lines(&logs)?;
    let (log_folder, span_folder) = (bench_folder(FOLDER)?, bench_folder(FOLDER)?);
    OurStore::open(log_folder.path())?.ingest(&logs, usize::MAX)?;
    let log_count = logs.len();
    drop(logs);
    let spans = GatewaySpans::new(SEED)
        .take(run.records(SPANS))
        .collect::<Result<Vec<_>>>()?;
    let span_files = TextFiles::otlp(&spans);
    OurStore::open(span_folder.path())?.ingest(&spans, usize::MAX)?;
    let span_count = spans.len();
    drop(spans);

    let log_store = OurStore::open(log_folder.path())?;
    let span_store = OurStore::open(span_folder.path())?;
    let mut rates = [const { Vec::new() }; 5];
    let [ndjson, otlp, otlp_spans, import_logs, import_spans] = &mut rates;
    for round in 0..run.rounds {
        run.progress
            .step(&format!("round {} of {}", round + 1, run.rounds));
        ndjson.push(export(log_store.store(), Signal::Logs, LineFormat::Ndjson)?);
        otlp.push(export(log_store.store(), Signal::Logs, LineFormat::Otlp)?);
        otlp_spans.push(export(
            span_store.store(),
            Signal::Traces,
            LineFormat::Otlp,
        )?);
        import_logs.push(import(&log_files, Signal::Logs, log_count)?);
        import_spans.push(import(&span_files, Signal::Traces, span_count)?);
    }
    let figure = |id, what, rates: &[Rate]| -> Result<Figure> {
        let bytes = rates.first().context("a round")?.0;
        let took: Vec<Duration> = rates.iter().map(|rate| rate.1).collect();
        let rate = per_second(bytes, median(&took)?);
        Ok(Figure::new(id, what, Unit::BytesPerSecond, rate))
    };
    let figures = vec![
        figure("export.ndjson", "export, logs as NDJSON, one core", ndjson)?.at_least(600e6),
        figure("export.otlp", "export, logs as OTLP/JSON, one core", otlp)?.at_least(400e6),
        figure(
            "export.spans",
            "export, spans as OTLP/JSON, one core",
            otlp_spans,
        )?
        .at_least(400e6),
        figure(
            "import.ndjson",
            "import, logs as NDJSON, redacted, two cores",
            import_logs,
        )?
        .at_least(150e6),
        figure(
            "import.spans",
            "import, spans as OTLP/JSON, redacted, two cores",
            import_spans,
        )?
        .at_least(150e6),
    ];
    Ok(figures.into())
}

/// The bytes of lines, and how long they took.
type Rate = (u64, Duration);

fn export(store: &Store, signal: Signal, format: LineFormat) -> Result<Rate> {
    time(|| {
        let (mut bytes, mut out) = (0, Vec::new());
        for server in server_names()? {
            let mut lines = LineWriter::new(format);
            let mut scan: Scan = store.snapshot()?.scan(&Query::new(signal).server(server))?;
            while let Some(record) = scan.next()? {
                lines.write(&record, &mut out)?;
                if out.len() >= 1 << 16 {
                    bytes += black_box(&out).len() as u64;
                    out.clear();
                }
            }
            lines.finish(&mut out);
        }
        bytes += black_box(&out).len() as u64;
        Ok(bytes)
    })
}

/// Stores a batch while the next one is read, as the program does.
fn import(files: &TextFiles, signal: Signal, records: usize) -> Result<Rate> {
    let folder = bench_folder(FOLDER)?;
    let store = Store::open(folder.path(), "bench", StoreOptions::default())?;
    let (added, took) = time(|| {
        let mut importer = Importer::new(&store)?;
        let (full, batches) = mpsc::sync_channel::<ImportBatch>(1);
        thread::scope(|scope| {
            let storing = scope.spawn(move || -> Result<u64> {
                let mut added = 0;
                for batch in batches {
                    added += importer.add(batch)?.added;
                }
                Ok(added)
            });
            // Without the other thread, whose error is told first.
            let read = read_batches(files, signal, &full);
            drop(full);
            let added = storing
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            read.map(|()| added)
        })
    })?;
    ensure!(
        added == records as u64,
        "{added} of {records} records were imported"
    );
    Ok((files.bytes(), took))
}

/// Reads all lines and sends their records in batches.
fn read_batches(
    files: &TextFiles,
    signal: Signal,
    full: &mpsc::SyncSender<ImportBatch>,
) -> Result<()> {
    let redactor = Redactor::new();
    let new_batch = || ImportBatch::default().redactor(Some(redactor.clone()));
    let (mut batch, mut failure) = (new_batch(), None);
    for (server, text) in server_names()?.into_iter().zip(files.texts()) {
        let mut reader = RecordReader::new(signal).server(server).encode_logs();
        for line in text.split(|byte| *byte == b'\n') {
            reader.read_line(line, &mut |found| {
                if let Err(error) = push(&mut batch, &found) {
                    failure.get_or_insert(error);
                }
            });
            if batch.len() >= BATCH_RECORDS || batch.payload_bytes() >= BATCH_BYTES {
                full.send(std::mem::replace(&mut batch, new_batch()))?;
            }
        }
    }
    full.send(batch)?;
    failure.map_or(Ok(()), Err)
}

fn push(batch: &mut ImportBatch, found: &Read) -> Result<()> {
    const NO_SERVER: &str = "the record names no server";
    match found {
        Read::Record(found) => {
            let server = found.server.as_ref().context(NO_SERVER)?;
            batch.push(server, &found.record)?;
        }
        Read::Encoded(found) => {
            let server = found.server.as_ref().context(NO_SERVER)?;
            batch.push_log(server, &found.log)?;
        }
        other => bail!("{other:?}"),
    }
    Ok(())
}
