//! OTLP files of other programs: what the store takes for them, beside the files.

use crate::{FOLDER, Found, Run};
use anyhow::{Context, Result};
use flate2::{Compression, write::GzEncoder};
use gridctl_telemetry::{
    ServerName, Signal, Store, StoreOptions,
    import::{ImportBatch, Importer},
    lines::{Found as Read, RecordReader},
};
use gridctl_telemetry_benches::{
    bench_folder, ratio,
    report::{Figure, Unit},
};
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

/// The server of records that name none.
const UNNAMED: &str = "unnamed";

pub(crate) fn run(run: &Run) -> Result<Found> {
    let data = run.data.as_deref().context("the part needs --data DIR")?;
    let mut files = Vec::new();
    find(data, &mut files)?;
    files.sort_unstable();
    let folder = bench_folder(FOLDER)?;
    let store = Store::open(folder.path(), "bench", StoreOptions::default())?;
    let mut importer = Importer::new(&store)?;
    let mut gzip = GzEncoder::new(Vec::new(), Compression::new(6));
    let unnamed = ServerName::new(UNNAMED)?;
    let (mut bytes, mut added) = (0, 0);
    for path in &files {
        let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        let (mut batch, mut failure) = (ImportBatch::default(), None);
        let mut problems = 0;
        let mut reader = RecordReader::new(Signal::Logs);
        let mut on_found = |found: Read| match found {
            Read::Record(record) => {
                let server = record.server.as_ref().unwrap_or(&unnamed);
                if let Err(error) = batch.push(server, &record.record) {
                    failure.get_or_insert(error);
                }
            }
            Read::Problem(_) => problems += 1,
            _ => {}
        };
        for line in text.split(|byte| *byte == b'\n') {
            reader.read_line(line, &mut on_found);
        }
        reader.finish(&mut on_found);
        if let Some(error) = failure {
            return Err(error.into());
        }
        // A file that is broken on purpose says nothing about sizes.
        if problems == 0 && !batch.is_empty() {
            added += importer.add(batch)?.added;
            bytes += text.len() as u64;
            gzip.write_all(&text)?;
        }
    }
    let inventory = store.snapshot()?.inventory(None)?;
    let stored: u64 = inventory.iter().map(|series| series.size_bytes).sum();
    let gzip = gzip.finish()?.len() as u64;
    let what = format!("stored of {added} records of other programs, without free space");
    Ok(vec![
        Figure::new("others", what, Unit::Bytes, ratio(stored, 1))
            .beside("their files", ratio(bytes, 1))
            .beside("gzip -6 of them", ratio(gzip, 1)),
    ]
    .into())
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, files)?;
        } else if path
            .extension()
            .is_some_and(|it| it == "json" || it == "jsonl")
        {
            files.push(path);
        }
    }
    Ok(())
}
