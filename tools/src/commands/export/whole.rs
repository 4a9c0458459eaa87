//! An export that is done at once: its files appear complete or not at all.

use super::{Args, Export};
use crate::output::{AtomicFile, escape, folder_name, note};
use flate2::write::GzEncoder;
use gridctl_telemetry::{Signal, Snapshot, Timestamp, query::InventoryRecord};
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

/// How files are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Compression {
    /// gzip, which a Collector reads
    Gzip,
    /// Zstandard, smaller and faster
    Zstd,
}

impl Compression {
    fn suffix(self) -> &'static str {
        match self {
            Compression::Gzip => ".gz",
            Compression::Zstd => ".zst",
        }
    }
}

/// Writes the files of every series. Says whether it came to the end; the file that was being
/// written when it was interrupted is discarded.
pub(super) fn export(
    export: &mut Export,
    snapshot: &Snapshot,
    args: &Args,
    folder: &Path,
    selected: &[InventoryRecord],
) -> anyhow::Result<bool> {
    for record in selected {
        let folder = folder.join(&args.stack).join(folder_name(&record.server)?);
        export
            .bar
            .set_message(escape(&format!("{} {}", record.server, record.signal)));
        let mut files = Files {
            folder,
            signal: record.signal,
            compression: args.compress,
            bytes_max: args.file_bytes_max(),
            rotated: Timestamp::now(),
            current: None,
            finished: 0,
        };
        let query = args.query(record.signal, [&record.server]);
        if !export.copy(snapshot, &query, |lines| files.write(lines))? {
            note("interrupted; the file that was being written was discarded");
            return Ok(false);
        }
        export.counts.files += files.finish()?;
    }
    Ok(true)
}

/// The files of one series: rotated ones as they fill up, then the active one.
struct Files {
    folder: PathBuf,
    signal: Signal,
    compression: Option<Compression>,
    bytes_max: u64,
    /// The time in the name of the next rotated file.
    rotated: Timestamp,
    /// No record, no file: an empty one would say that there is something.
    current: Option<(Encoder, u64)>,
    finished: u64,
}

impl Files {
    fn write(&mut self, lines: &[u8]) -> anyhow::Result<()> {
        let full = self
            .current
            .as_ref()
            .is_some_and(|(_, bytes)| bytes.saturating_add(lines.len() as u64) > self.bytes_max);
        if full {
            let name = rotated_name(self.signal, self.rotated);
            // A millisecond later, for names must differ and sort as the files do.
            self.rotated = Timestamp::from_unix_nanos(self.rotated.unix_nanos() + 1_000_000);
            self.end_file(&name)?;
        }
        if self.current.is_none() {
            let file = AtomicFile::create(&self.folder.join(self.signal.as_str()))?;
            self.current = Some((Encoder::new(file, self.compression)?, 0));
        }
        if let Some((encoder, bytes)) = &mut self.current {
            encoder
                .write_all(lines)
                .map_err(|error| encoder.cannot_write(error))?;
            *bytes += lines.len() as u64;
        }
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<u64> {
        self.end_file(&format!("{}.jsonl", self.signal))?;
        Ok(self.finished)
    }

    fn end_file(&mut self, name: &str) -> anyhow::Result<()> {
        if let Some((encoder, _)) = self.current.take() {
            let suffix = self.compression.map_or("", Compression::suffix);
            encoder
                .finish()?
                .finish_as(&self.folder.join(format!("{name}{suffix}")))?;
            self.finished += 1;
        }
        Ok(())
    }
}

/// The name of a file that was rotated at `time`, in the form of the flat layout.
pub(super) fn rotated_name(signal: Signal, time: Timestamp) -> String {
    // `2026-04-30T12:00:00.123456789Z`: colons become dashes, three digits of the fraction stay.
    let text = time.to_string();
    let (seconds, fraction) = text
        .trim_end_matches('Z')
        .split_once('.')
        .unwrap_or((&text, ""));
    let seconds = seconds.trim_end_matches('Z').replace(':', "-");
    let millis: String = fraction.chars().chain("000".chars()).take(3).collect();
    format!("{signal}-{seconds}.{millis}.jsonl")
}

enum Encoder {
    Plain(AtomicFile),
    Gzip(GzEncoder<AtomicFile>),
    Zstd(zstd::Encoder<'static, AtomicFile>),
}

impl Encoder {
    fn new(file: AtomicFile, compression: Option<Compression>) -> anyhow::Result<Encoder> {
        Ok(match compression {
            None => Encoder::Plain(file),
            Some(Compression::Gzip) => {
                Encoder::Gzip(GzEncoder::new(file, flate2::Compression::default()))
            }
            Some(Compression::Zstd) => {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotated_names_have_the_form_of_the_layout() {
        for (time, name) in [
            ("2026-04-30T12:00:00Z", "logs-2026-04-30T12-00-00.000.jsonl"),
            (
                "2026-04-30T12:00:00.1Z",
                "logs-2026-04-30T12-00-00.100.jsonl",
            ),
            (
                "2026-04-30T12:00:00.123456789Z",
                "logs-2026-04-30T12-00-00.123.jsonl",
            ),
        ] {
            let (time, _) = Timestamp::parse_rfc3339(time).unwrap();
            assert_eq!(rotated_name(Signal::Logs, time), name);
        }
    }
}
