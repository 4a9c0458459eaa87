//! `import-jsonl`: flat files, into the store.

use super::store_options;
use crate::{
    Outcome,
    flat::{self, FlatFile},
    interrupt::Interrupt,
    lines::{self, Found},
    output::{note, progress_bar},
};
use anyhow::Context;
use bytesize::ByteSize;
use gridctl_telemetry::{
    Record, ServerName, Signal, Store, Timestamp,
    import::{ImportBatch, Importer},
    lines::{ParsedLine, parse_line},
    redact::Redactor,
};
use indicatif::ProgressBar;
use std::path::{Path, PathBuf};

/// So many records, or so many bytes of them, are stored at a time.
const BATCH_RECORDS: usize = 16_384;
const BATCH_BYTES: usize = 8 << 20;
/// So many problems are shown one by one; the others are counted.
const PROBLEMS_SHOWN: u64 = 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The stack to store the records in
    stack: String,
    /// A stack's folder (SERVER/logs.jsonl, metrics.jsonl, traces.jsonl and their rotated siblings),
    /// or a single file
    path: PathBuf,
    /// Whose records they are; of a folder, import this server alone
    #[arg(long, value_name = "NAME")]
    server: Option<ServerName>,
    /// What they are: logs, metrics or traces; of a folder, import this signal alone
    #[arg(long)]
    signal: Option<Signal>,
    /// The most that a compressed file may unpack to
    #[arg(long, value_name = "SIZE", default_value = "16GiB")]
    max_unpacked_size: ByteSize,
    /// Store secrets as the files have them, for an exact copy
    #[arg(long)]
    no_redact: bool,
}

pub(crate) fn run(
    home: &Path,
    args: &Args,
    _out: &mut impl std::io::Write,
) -> anyhow::Result<Outcome> {
    let metadata = std::fs::metadata(&args.path)
        .with_context(|| format!("cannot read {}", args.path.display()))?;
    let files = if metadata.is_dir() {
        flat::find_files(&args.path, &args.stack, args.server.as_ref(), args.signal)?
    } else {
        vec![flat::single_file(
            &args.path,
            args.server.as_ref(),
            args.signal,
        )?]
    };
    let store = Store::open(home, &args.stack, store_options())?;
    let total = files.iter().map(|file| file.bytes).sum();
    let redactor = (!args.no_redact).then(Redactor::new);
    let mut import = Import {
        importer: Importer::new(&store)?,
        batch: ImportBatch::default().redactor(redactor.clone()),
        redactor,
        interrupt: Interrupt::install()?,
        bar: progress_bar(
            total,
            "{msg} {wide_bar} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left",
        ),
        counts: Counts::default(),
    };
    for file in &files {
        if file.is_twin {
            // To a new importer, what the other files had is stored already.
            import.store()?;
            import.importer = Importer::new(&store)?;
        }
        import.file(file, args.max_unpacked_size)?;
        if import.interrupt.requested() {
            break;
        }
    }
    // What was read is stored, also after an interrupt: importing again adds only the rest.
    import.store()?;
    import.bar.finish_and_clear();
    let counts = import.counts;
    let not_shown = counts.problems.saturating_sub(PROBLEMS_SHOWN);
    if not_shown > 0 {
        note(&format!("warning: {not_shown} more problems are not shown"));
    }
    note(&format!(
        "imported {} records from {} files; {} were stored already, {} lines were skipped; {}",
        counts.added,
        counts.files,
        counts.duplicates,
        counts.problems,
        if args.no_redact {
            "secrets were kept as they are (--no-redact)"
        } else {
            "secrets were replaced with [REDACTED]"
        }
    ));
    if counts.too_old > 0 {
        note(&format!(
            "warning: {} records were left out: they are older than this stack keeps them \
             (max_age_days)",
            counts.too_old
        ));
    }
    Ok(if import.interrupt.requested() {
        note("interrupted; import the same files again to add the rest");
        Outcome::Interrupted
    } else if counts.problems > 0 || counts.too_old > 0 {
        Outcome::Problems
    } else {
        Outcome::Done
    })
}

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    added: u64,
    duplicates: u64,
    too_old: u64,
    files: u64,
    problems: u64,
}

struct Import {
    importer: Importer,
    batch: ImportBatch,
    /// `None` for an exact copy.
    redactor: Option<Redactor>,
    interrupt: Interrupt,
    bar: ProgressBar,
    counts: Counts,
}

impl Import {
    /// Imports one file. A line, or the rest of a file, that cannot be read is a problem that is
    /// reported; failing to store is an error.
    fn file(&mut self, file: &FlatFile, unpacked_max: ByteSize) -> anyhow::Result<()> {
        self.bar
            .set_message(crate::output::escape(&file.path.display().to_string()));
        let bar = self.bar.clone();
        let on_read = Box::new(move |bytes| bar.inc(bytes));
        let mut lines = match lines::open(&file.path, file.packing, unpacked_max.as_u64(), on_read)
        {
            Ok(lines) => lines,
            Err(error) => {
                self.problem(&file.path, 0, &error);
                return Ok(());
            }
        };
        self.counts.files += 1;
        // A reset is announced by a sentinel line, and the line behind it says the rest.
        let mut sentinel: Option<(u64, Timestamp)> = None;
        while !self.interrupt.requested() {
            let found = lines.next();
            let found = match found {
                Ok(Found::Line(line)) => Ok(line),
                Ok(Found::TooLong(bytes)) => Err(format!(
                    "the line has {bytes} bytes, more than {}",
                    lines::INPUT_LINE_BYTES_MAX
                )),
                Ok(Found::End) => break,
                Err(error) => {
                    let number = lines.number();
                    self.problem(
                        &file.path,
                        number,
                        &format!("{error}; the rest is not read"),
                    );
                    break;
                }
            };
            let outcome = found.and_then(|line| {
                if line.trim_ascii().is_empty() {
                    return Ok(None);
                }
                let parsed = parse_line(file.signal, line).map_err(|error| error.to_string())?;
                let timestamp = match &parsed {
                    ParsedLine::Sentinel { timestamp, .. } => Some(*timestamp),
                    _ => None,
                };
                let known = match &parsed {
                    ParsedLine::Metrics(snapshots) => {
                        snapshots.first().map(|(_, snapshot)| snapshot.timestamp)
                    }
                    _ => None,
                };
                add(&mut self.batch, file, parsed)?;
                Ok(Some((timestamp, known)))
            });
            let number = lines.number();
            match outcome {
                Ok(None) => continue,
                Ok(Some((announced, known))) => {
                    let orphan = sentinel
                        .take()
                        .filter(|(_, timestamp)| known != Some(*timestamp));
                    if let Some((number, _)) = orphan {
                        self.orphan(&file.path, number);
                    }
                    sentinel = announced.map(|timestamp| (number, timestamp));
                }
                Err(reason) => self.problem(&file.path, number, &reason),
            }
            if self.batch.len() >= BATCH_RECORDS || self.batch.payload_bytes() >= BATCH_BYTES {
                self.store()?;
            }
        }
        if let Some((number, _)) = sentinel {
            self.orphan(&file.path, number);
        }
        Ok(())
    }

    fn orphan(&mut self, path: &Path, number: u64) {
        self.problem(
            path,
            number,
            &"a reset is announced, and its snapshot does not follow",
        );
    }

    fn problem(&mut self, path: &Path, number: u64, reason: &dyn std::fmt::Display) {
        self.counts.problems += 1;
        if self.counts.problems <= PROBLEMS_SHOWN {
            let place = if number == 0 {
                String::new()
            } else {
                format!(":{number}")
            };
            self.bar
                .suspend(|| note(&format!("warning: {}{place}: {reason}", path.display())));
        }
    }

    fn store(&mut self) -> anyhow::Result<()> {
        if !self.batch.is_empty() {
            let next = ImportBatch::default().redactor(self.redactor.clone());
            let batch = std::mem::replace(&mut self.batch, next);
            let counts = self.importer.add(batch)?;
            self.counts.added += counts.added;
            self.counts.duplicates += counts.duplicates;
            self.counts.too_old += counts.too_old;
        }
        Ok(())
    }
}

/// Adds the records of a line to the batch, all or none.
fn add(batch: &mut ImportBatch, file: &FlatFile, line: ParsedLine) -> Result<(), String> {
    let name = |server: Option<String>| -> Result<ServerName, String> {
        match (server, &file.server) {
            (Some(server), _) if !server.is_empty() => {
                ServerName::new(server).map_err(|error| error.to_string())
            }
            (_, Some(server)) => Ok(server.clone()),
            (_, None) => Err("whose record this is does not follow: pass --server".to_owned()),
        }
    };
    // The folder that a record was found in says whose it is; a lone file does not.
    let unless_in_folder = |server: Option<String>| server.filter(|_| file.server.is_none());
    let records: Vec<(ServerName, Record)> = match line {
        ParsedLine::Logs(records) => records
            .into_iter()
            .map(|(server, record)| Ok((name(unless_in_folder(server))?, Record::Log(record))))
            .collect::<Result<_, String>>()?,
        ParsedLine::Metrics(snapshots) => snapshots
            .into_iter()
            .map(|(server, snapshot)| Ok((name(server)?, Record::Metrics(snapshot))))
            .collect::<Result<_, String>>()?,
        ParsedLine::Spans(spans) => spans
            .into_iter()
            .map(|(server, span)| {
                Ok((
                    name(unless_in_folder(server))?,
                    Record::Span(Box::new(span)),
                ))
            })
            .collect::<Result<_, String>>()?,
        // A sentinel says nothing that the line behind it does not.
        _ => Vec::new(),
    };
    for (server, record) in &records {
        batch
            .push(server, record)
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}
