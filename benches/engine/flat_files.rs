use super::Engine;
use crate::workload::{Recorded, Row, SERVERS};
use anyhow::{Context, Result};
use gridctl_telemetry::query::Direction;
use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Write},
    ops::ControlFlow,
    os::unix::fs::FileExt,
    path::Path,
};

/// The number of bytes that a backward scan reads at a time.
const CHUNK_BYTES: u64 = 64 << 10;

/// An NDJSON file for each server, appended to and synced: the files that the store replaces.
#[derive(Debug)]
pub struct FlatFiles {
    files: Vec<File>,
    buffers: Vec<Vec<u8>>,
}

impl Engine for FlatFiles {
    const NAME: &'static str = "NDJSON files, appended";

    fn open(folder: &Path) -> Result<FlatFiles> {
        let open = |name: &&str| {
            OpenOptions::new()
                .create(true)
                .read(true)
                .append(true)
                .open(folder.join(format!("{name}.jsonl")))
        };
        Ok(FlatFiles {
            files: SERVERS.iter().map(open).collect::<Result<_, _>>()?,
            buffers: vec![Vec::new(); SERVERS.len()],
        })
    }

    fn ingest<R: Recorded>(&mut self, records: &[Row<R>], batch_max: usize) -> Result<u64> {
        let mut commits = 0;
        for batch in records.chunks(batch_max) {
            for record in batch {
                let buffer = self.buffers.get_mut(record.server).context("a server")?;
                buffer.extend_from_slice(&record.line);
                buffer.push(b'\n');
            }
            for (file, buffer) in self.files.iter_mut().zip(&mut self.buffers) {
                if !buffer.is_empty() {
                    file.write_all(buffer)?;
                    file.sync_data()?;
                    buffer.clear();
                }
            }
            commits += 1;
        }
        Ok(commits)
    }

    /// In the order of arrival, because flat files have no other.
    fn scan(
        &self,
        server: usize,
        direction: Direction,
        visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        let file = self.files.get(server).context("a server")?;
        match direction {
            Direction::Forward => scan_forward(file, visit),
            Direction::Backward => scan_backward(file, visit),
        }
    }

    fn close(self) -> Result<()> {
        Ok(())
    }
}

fn scan_forward(file: &File, visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>) -> Result<()> {
    std::io::Seek::rewind(&mut &*file)?;
    let mut lines = BufReader::with_capacity(usize::try_from(CHUNK_BYTES)?, file);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        if visit(line.strip_suffix(b"\n").unwrap_or(&line)).is_break() {
            break;
        }
        line.clear();
    }
    Ok(())
}

fn scan_backward(file: &File, visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>) -> Result<()> {
    let mut end = file.metadata()?.len();
    // Bytes that were read and not yet shown: the end of a line that begins in the previous chunk.
    let mut rest = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(CHUNK_BYTES);
        let mut chunk = vec![0; usize::try_from(end - start)?];
        file.read_exact_at(&mut chunk, start)?;
        chunk.append(&mut rest);
        end = start;
        let mut lines = chunk.strip_suffix(b"\n").unwrap_or(&chunk);
        while let Some(feed) = lines.iter().rposition(|byte| *byte == b'\n') {
            let (before, line) = lines.split_at(feed);
            if visit(line.strip_prefix(b"\n").unwrap_or(line)).is_break() {
                return Ok(());
            }
            lines = before;
        }
        if end == 0 {
            let _ = visit(lines);
        } else {
            rest = lines.to_vec();
            rest.push(b'\n');
        }
    }
    Ok(())
}
