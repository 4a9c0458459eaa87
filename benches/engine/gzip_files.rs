use super::Engine;
use crate::workload::{Recorded, Row, SERVERS};
use anyhow::{Context, Result};
use flate2::{Compression, bufread::GzDecoder, write::GzEncoder};
use gridctl_telemetry::query::Direction;
use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    ops::ControlFlow,
    path::{Path, PathBuf},
};

/// The size at which a file is compressed and begun anew.
const ROTATE_BYTES: u64 = 10 << 20;

/// An NDJSON file for each server, appended to and synced, and compressed with `gzip -6` when it is full.
#[derive(Debug)]
pub struct GzipFiles {
    folder: PathBuf,
    files: Vec<Rotated>,
}

#[derive(Debug)]
struct Rotated {
    file: File,
    bytes: u64,
    /// The number of compressed files.
    packed: usize,
    buffer: Vec<u8>,
}

impl GzipFiles {
    fn path(folder: &Path, server: usize, packed: Option<usize>) -> PathBuf {
        let server = SERVERS.get(server).copied().unwrap_or_default();
        folder.join(match packed {
            Some(number) => format!("{server}-{number:05}.jsonl.gz"),
            None => format!("{server}.jsonl"),
        })
    }

    fn rotate(&mut self, server: usize) -> Result<()> {
        let rotated = self.files.get_mut(server).context("a server")?;
        let lines = fs::read(GzipFiles::path(&self.folder, server, None))?;
        let packed = File::create(GzipFiles::path(&self.folder, server, Some(rotated.packed)))?;
        let mut encoder = GzEncoder::new(packed, Compression::new(6));
        encoder.write_all(&lines)?;
        encoder.finish()?.sync_data()?;
        rotated.packed += 1;
        rotated.bytes = 0;
        rotated.file.set_len(0)?;
        Ok(())
    }
}

impl Engine for GzipFiles {
    const NAME: &'static str = "NDJSON files, rotated with gzip";

    fn open(folder: &Path) -> Result<GzipFiles> {
        let open = |server| {
            let file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(GzipFiles::path(folder, server, None))?;
            let mut packed = 0;
            while GzipFiles::path(folder, server, Some(packed)).exists() {
                packed += 1;
            }
            Ok(Rotated {
                bytes: file.metadata()?.len(),
                file,
                packed,
                buffer: Vec::new(),
            })
        };
        Ok(GzipFiles {
            folder: folder.to_owned(),
            files: (0..SERVERS.len()).map(open).collect::<Result<_>>()?,
        })
    }

    fn ingest<R: Recorded>(&mut self, records: &[Row<R>], batch_max: usize) -> Result<u64> {
        let mut commits = 0;
        for batch in records.chunks(batch_max) {
            for record in batch {
                let rotated = self.files.get_mut(record.server).context("a server")?;
                rotated.buffer.extend_from_slice(&record.line);
                rotated.buffer.push(b'\n');
            }
            let mut full = Vec::new();
            for (server, rotated) in self.files.iter_mut().enumerate() {
                if !rotated.buffer.is_empty() {
                    rotated.file.write_all(&rotated.buffer)?;
                    rotated.file.sync_data()?;
                    rotated.bytes += rotated.buffer.len() as u64;
                    rotated.buffer.clear();
                    if rotated.bytes >= ROTATE_BYTES {
                        full.push(server);
                    }
                }
            }
            for server in full {
                self.rotate(server)?;
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
        let packed = self.files.get(server).context("a server")?.packed;
        let mut files: Vec<Option<usize>> = (0..packed).map(Some).chain([None]).collect();
        if direction == Direction::Backward {
            files.reverse();
        }
        for file in files {
            let bytes = fs::read(GzipFiles::path(&self.folder, server, file))?;
            let mut lines = Vec::new();
            if file.is_some() {
                GzDecoder::new(&*bytes).read_to_end(&mut lines)?;
            } else {
                lines = bytes;
            }
            let mut lines = lines
                .split_inclusive(|byte| *byte == b'\n')
                .map(|line| line.strip_suffix(b"\n").unwrap_or(line));
            let mut next = || match direction {
                Direction::Forward => lines.next(),
                Direction::Backward => lines.next_back(),
            };
            while let Some(line) = next() {
                if visit(line).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn close(self) -> Result<()> {
        Ok(())
    }
}
