//! A single export: its files appear complete and all together, or not at all.

use super::{
    Chunk, Export, Options,
    first_line::{self, Beginnings},
    source::Source,
};
use crate::{
    flat::{FileName, Packing, rotated_name},
    folders::Folders,
    output::note,
};
use anyhow::bail;
use flate2::write::GzEncoder;
use gridctl_telemetry::{ServerName, Signal, Timestamp, query::InventoryRecord};
use gridctl_telemetry_files::{AtomicFile, SealedFile};
use gridctl_telemetry_server::display::escape;
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Writes the files of every series. Returns whether the export was completed; an interrupted export
/// leaves no file.
pub(super) fn export(
    export: &mut Export,
    source: &mut Source<'_>,
    args: &Options,
    folder: &Path,
    selected: &[InventoryRecord],
) -> anyhow::Result<bool> {
    let mut folders = Folders::below(folder.join(&args.wanted.stack));
    for record in selected {
        refuse_others(&folders.path(&record.server), record.signal, args.packing())?;
    }
    let mut beginnings = Beginnings::new();
    let mut sealed = Vec::new();
    for record in selected {
        export
            .run
            .bar
            .set_message(escape(&format!("{} {}", record.server, record.signal)));
        let mut files = Files {
            args,
            server: &record.server,
            signal: record.signal,
            rotated: Timestamp::now(),
            current: None,
            folders: &mut folders,
            beginnings: &mut beginnings,
            sealed: &mut sealed,
        };
        let query = args.wanted.query(record.signal, [&record.server]);
        if !export.copy(source, &query, |chunk, _| files.write(chunk))? {
            note("interrupted; the export was discarded");
            return Ok(false);
        }
        files.finish()?;
    }
    export.counts.files = sealed.len() as u64;
    sealed.into_iter().try_for_each(SealedFile::place)?;
    Ok(true)
}

/// Fails if the folder has other files that an importer or a Collector would take for a part of this
/// export, because their records would be read twice. The file that the export replaces may exist.
pub(in crate::commands) fn refuse_others(
    folder: &Path,
    signal: Signal,
    packing: Packing,
) -> anyhow::Result<()> {
    let own = FileName {
        signal,
        rotated: None,
        packing,
    };
    let files = FileName::in_folder(folder, signal)?;
    if let Some((_, other)) = files.into_iter().find(|(name, _)| *name != own) {
        bail!(
            "{} is there already, and would be read as a part of this export: move it away, or \
             export to another folder",
            other.display()
        );
    }
    Ok(())
}

/// The files of one series: rotated ones as they fill up, then the active one.
struct Files<'a> {
    args: &'a Options<'a>,
    server: &'a ServerName,
    signal: Signal,
    /// The time in the name of the next rotated file.
    rotated: Timestamp,
    /// `None` until the first record, because an empty file would look like an export of records.
    current: Option<Current>,
    folders: &'a mut Folders,
    beginnings: &'a mut Beginnings,
    sealed: &'a mut Vec<SealedFile>,
}

struct Current {
    encoder: Encoder,
    folder: PathBuf,
    bytes: u64,
}

impl Files<'_> {
    fn write(&mut self, chunk: Chunk<'_>) -> anyhow::Result<()> {
        let bytes_max = self.args.file_bytes_max();
        let is_full =
            |current: &Current| current.bytes.saturating_add(chunk.lines.len() as u64) > bytes_max;
        if self.current.as_ref().is_some_and(is_full) {
            let name = rotated_name(self.signal, self.rotated);
            // A millisecond later, because names must differ and sort in the order of the files.
            self.rotated = Timestamp::from_unix_nanos(self.rotated.unix_nanos() + 1_000_000);
            self.end_file(&name)?;
        }
        if let Some(current) = &mut self.current {
            return current.write(chunk.lines);
        }
        let folder = self.folders.create(self.server)?;
        let file = AtomicFile::create(&folder.join(self.signal.as_str()))?;
        let current = self.current.insert(Current {
            encoder: Encoder::new(file, self.args.packing())?,
            folder,
            bytes: 0,
        });
        let beginning = self.args.beginning(self.server, self.signal, &chunk);
        let has_resource = self.args.begins_with_resource(self.signal);
        current.write(&first_line::marked(
            chunk.lines,
            beginning,
            has_resource,
            self.beginnings,
        ))
    }

    fn finish(mut self) -> anyhow::Result<()> {
        self.end_file(&format!("{}.jsonl", self.signal))
    }

    fn end_file(&mut self, name: &str) -> anyhow::Result<()> {
        if let Some(Current {
            encoder, folder, ..
        }) = self.current.take()
        {
            let suffix = self.args.packing().suffix();
            let path = folder.join(format!("{name}{suffix}"));
            self.sealed.push(encoder.finish()?.seal(path)?);
        }
        Ok(())
    }
}

impl Current {
    fn write(&mut self, lines: &[u8]) -> anyhow::Result<()> {
        let encoder = &mut self.encoder;
        encoder
            .write_all(lines)
            .map_err(|error| encoder.cannot_write(error))?;
        self.bytes += lines.len() as u64;
        Ok(())
    }
}

enum Encoder {
    Plain(AtomicFile),
    Gzip(GzEncoder<AtomicFile>),
    Zstd(zstd::Encoder<'static, AtomicFile>),
}

impl Encoder {
    fn new(file: AtomicFile, packing: Packing) -> anyhow::Result<Encoder> {
        Ok(match packing {
            Packing::Plain => Encoder::Plain(file),
            Packing::Gzip => Encoder::Gzip(GzEncoder::new(file, flate2::Compression::default())),
            Packing::Zstd => {
                Encoder::Zstd(zstd::Encoder::new(file, zstd::DEFAULT_COMPRESSION_LEVEL)?)
            }
        })
    }

    fn cannot_write(&self, error: io::Error) -> anyhow::Error {
        let file = match self {
            Encoder::Plain(file) => file,
            Encoder::Gzip(encoder) => encoder.get_ref(),
            Encoder::Zstd(encoder) => encoder.get_ref(),
        };
        anyhow::Error::from(error).context(file.cannot_write())
    }

    fn finish(self) -> anyhow::Result<AtomicFile> {
        Ok(match self {
            Encoder::Plain(file) => file,
            Encoder::Gzip(encoder) => encoder.finish()?,
            Encoder::Zstd(encoder) => encoder.finish()?,
        })
    }
}

impl Write for Encoder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Encoder::Plain(file) => file.write(bytes),
            Encoder::Gzip(encoder) => encoder.write(bytes),
            Encoder::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Encoder::Plain(file) => file.flush(),
            Encoder::Gzip(encoder) => encoder.flush(),
            Encoder::Zstd(encoder) => encoder.flush(),
        }
    }
}
