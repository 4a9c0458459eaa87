//! `import-jsonl`: flat files, into the store.

use super::store_options;
use crate::{
    Outcome,
    flat::{self, FlatFile, Packing},
    interrupt::Interrupt,
    lines,
    output::{note, progress_bar},
    scope::SignalParser,
};
use anyhow::Context;
use bytesize::ByteSize;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use gridctl_telemetry::{
    Record, ServerName, Signal, Store, Timestamp,
    import::{ImportBatch, ImportCounts, Importer},
    lines::{Dialect, Found, FoundLog, FoundRecord, Place, RecordReader},
    redact::Redactor,
};
use gridctl_telemetry_server::display::escape;
use indicatif::ProgressBar;
use std::{
    collections::HashMap,
    fmt, fs,
    io::{self, Write as _},
    panic::resume_unwind,
    path::{Path, PathBuf},
    sync::mpsc::{SyncSender, sync_channel},
    thread::JoinHandle,
};
use tempfile::NamedTempFile;

/// So many records, or so many bytes of them, are stored at a time.
const BATCH_RECORDS: usize = 16_384;
const BATCH_BYTES: usize = 8 << 20;
/// The most that the records of one line may take, in bytes. Each has all of the resource that the line
/// shares, so a line of megabytes can be records of terabytes.
const LINE_RECORD_BYTES_MAX: usize = 1 << 30;
/// So many problems are shown one by one; the others are counted.
const PROBLEMS_SHOWN: u64 = 20;
/// The path that stands for standard input.
const STDIN: &str = "-";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The stack to store the records in
    stack: String,
    /// A stack's folder (SERVER/logs.jsonl, metrics.jsonl, traces.jsonl and their rotated siblings),
    /// a single file, or `-` for standard input
    path: PathBuf,
    /// Whose the records are that do not say so themselves (by `server.name`, or `server` of a
    /// snapshot); of a folder, import this server alone
    #[arg(long, value_name = "NAME")]
    server: Option<ServerName>,
    /// What the lines are whose keys do not tell: logs, metrics or traces; of a folder, import the
    /// files of this signal alone
    #[arg(long, value_parser = SignalParser)]
    signal: Option<Signal>,
    /// How the lines of logs are spelled; by default each line tells by its keys
    #[arg(
        long,
        default_value = Dialect::Auto.as_str(),
        value_parser = PossibleValuesParser::new(Dialect::ALL.map(Dialect::as_str))
            .map(|name| Dialect::from_name(&name).unwrap_or_default()),
    )]
    dialect: Dialect,
    /// Store nothing at all when anything cannot be read
    #[arg(long)]
    strict: bool,
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
    let interrupt = Interrupt::install()?;
    let input = match Input::new(args, &interrupt) {
        Err(_) if interrupt.requested() => return Ok(Outcome::Interrupted),
        input => input?,
    };
    if args.strict {
        let mut check = Import::new(args, &input, &interrupt);
        check.files(None)?;
        let counts = check.counts;
        if interrupt.requested() {
            return Ok(Outcome::Interrupted);
        }
        if counts.skipped > 0 {
            check.problems_not_shown();
            note(&format!(
                "nothing was stored (--strict): {} of {} records cannot be read",
                counts.skipped,
                counts.skipped + counts.read
            ));
            return Ok(Outcome::Problems);
        }
    }
    let store = Store::open(home, &args.stack, store_options())?;
    let mut import = Import::new(args, &input, &interrupt);
    import.files(Some(&store))?;
    import.problems_not_shown();
    let counts = import.counts;
    note(&format!(
        "imported {} records from {} files; {} were stored already, {} lines were repaired, {} \
         records were skipped; {}",
        counts.added,
        counts.files,
        counts.duplicates,
        counts.repaired,
        counts.skipped,
        if args.no_redact {
            "secrets were kept as they are (--no-redact)"
        } else {
            "secrets were replaced with [REDACTED]"
        }
    ));
    if counts.untimed > 0 {
        note(&format!(
            "{} records have no time and got that of the record before them, or else of the file",
            counts.untimed
        ));
    }
    if counts.too_old > 0 {
        note(&format!(
            "warning: {} records were left out: they are older than this stack keeps them \
             (max_age_days)",
            counts.too_old
        ));
    }
    Ok(if interrupt.requested() {
        note("interrupted; import the same files again to add the rest");
        Outcome::Interrupted
    } else if counts.skipped > 0 || counts.too_old > 0 {
        Outcome::Problems
    } else {
        Outcome::Done
    })
}

/// What is imported.
struct Input {
    files: Vec<FlatFile>,
    /// Standard input, where it is read twice.
    spooled: Option<NamedTempFile>,
}

impl Input {
    fn new(args: &Args, interrupt: &Interrupt) -> anyhow::Result<Input> {
        if args.path.as_os_str() == STDIN {
            return Input::stdin(args, interrupt);
        }
        let metadata = fs::metadata(&args.path)
            .with_context(|| format!("cannot read {}", args.path.display()))?;
        let (server, signal) = (args.server.as_ref(), args.signal);
        let files = if metadata.is_dir() {
            flat::find_files(&args.path, &args.stack, server, signal)?
        } else {
            vec![flat::single_file(&args.path, server, signal)?]
        };
        Ok(Input {
            files,
            spooled: None,
        })
    }

    fn stdin(args: &Args, interrupt: &Interrupt) -> anyhow::Result<Input> {
        let mut file = FlatFile {
            path: args.path.clone(),
            server: args.server.clone(),
            signal: args.signal.unwrap_or(Signal::Logs),
            packing: Packing::Plain,
            bytes: 0,
            is_twin: false,
        };
        let mut spooled = None;
        if args.strict {
            let mut copy = NamedTempFile::new().context("cannot keep standard input")?;
            file.bytes = io::copy(&mut lines::stdin(interrupt), &mut copy)
                .and_then(|bytes| copy.flush().map(|()| bytes))
                .context("cannot keep standard input")?;
            copy.path().clone_into(&mut file.path);
            spooled = Some(copy);
        }
        Ok(Input {
            files: vec![file],
            spooled,
        })
    }

    /// What a file is called in messages.
    fn name(&self, file: &FlatFile) -> String {
        match &self.spooled {
            Some(_) => STDIN.to_owned(),
            None => file.path.display().to_string(),
        }
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    files: u64,
    read: u64,
    added: u64,
    duplicates: u64,
    too_old: u64,
    untimed: u64,
    repaired: u64,
    skipped: u64,
    problems: u64,
}

/// A reset that was announced, and whose snapshot has not come yet.
struct Sentinel {
    file: String,
    line: u64,
    timestamp: Timestamp,
}

/// One reading of all files.
struct Import<'a> {
    args: &'a Args,
    input: &'a Input,
    interrupt: &'a Interrupt,
    /// `None` where what is read is checked, and not stored.
    storing: Option<Storing>,
    batch: ImportBatch,
    /// `None` for an exact copy.
    redactor: Option<Redactor>,
    bar: ProgressBar,
    counts: Counts,
    /// By server, and over the files of each: a rotation can come after a sentinel.
    sentinels: HashMap<ServerName, Sentinel>,
    /// The number of the present line, and the size of its records in bytes.
    line: (u64, usize),
    /// Why storing failed, in the middle of a line.
    failed: Option<gridctl_telemetry::Error>,
}

impl<'a> Import<'a> {
    fn new(args: &'a Args, input: &'a Input, interrupt: &'a Interrupt) -> Import<'a> {
        let redactor = (!args.no_redact).then(Redactor::new);
        let total = input.files.iter().map(|file| file.bytes).sum();
        Import {
            args,
            input,
            interrupt,
            storing: None,
            batch: ImportBatch::default().redactor(redactor.clone()),
            redactor,
            bar: progress_bar(
                total,
                "{msg} {wide_bar} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left",
            ),
            counts: Counts::default(),
            sentinels: HashMap::new(),
            line: (0, 0),
            failed: None,
        }
    }

    /// Reads every file, and stores what is read if there is a store.
    fn files(&mut self, store: Option<&Store>) -> anyhow::Result<()> {
        self.storing = store.map(Storing::begin).transpose()?;
        // Whose file the last one was, and the time of its last record.
        let mut last: Option<(&FlatFile, Option<Timestamp>)> = None;
        for file in &self.input.files {
            if file.is_twin {
                // To a new importer, what the other files had is stored already.
                self.store()?;
                self.order(Work::Anew)?;
            }
            let before = last.filter(|(last, _)| {
                (&last.server, last.signal) == (&file.server, file.signal) && !file.is_twin
            });
            let time = before.and_then(|(_, time)| time);
            last = Some((file, self.file(file, time)?));
            if self.interrupt.requested() {
                break;
            }
        }
        // What was read is stored, also after an interrupt: importing again adds only the rest.
        self.store()?;
        self.end_storing()?;
        if !self.interrupt.requested() {
            for (_, sentinel) in std::mem::take(&mut self.sentinels) {
                self.orphan(&sentinel);
            }
        }
        self.bar.finish_and_clear();
        Ok(())
    }

    /// Reads one file, and returns the time of its last record. What cannot be read of it is a problem
    /// that is reported; failing to store is an error.
    fn file(
        &mut self,
        file: &FlatFile,
        time: Option<Timestamp>,
    ) -> anyhow::Result<Option<Timestamp>> {
        let name = self.input.name(file);
        self.bar.set_message(escape(&name));
        let bar = self.bar.clone();
        let on_read = Box::new(move |bytes| bar.inc(bytes));
        let unpacked_max = self.args.max_unpacked_size.as_u64();
        let opened = lines::open(
            &file.path,
            file.packing,
            unpacked_max,
            self.interrupt,
            on_read,
        );
        let (mut lines, modified) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.problem(&name, None, 1, &error);
                return Ok(time);
            }
        };
        self.counts.files += 1;
        self.line = (0, 0);
        let mut reader = RecordReader::new(file.signal)
            .dialect(self.args.dialect)
            .server(file.server.clone())
            .time(time.or(modified))
            .encode_logs();
        while !self.interrupt.requested() {
            match lines.next() {
                Ok(lines::Found::Line(line)) => {
                    reader.read_line(line, &mut |found| self.found(&name, found));
                }
                Ok(lines::Found::TooLong(bytes)) => {
                    let reason = format!(
                        "the line has {bytes} bytes, more than {}",
                        lines::INPUT_LINE_BYTES_MAX
                    );
                    self.problem(&name, Some(lines.number()), 1, &reason);
                    reader.skip_line(&mut |found| self.found(&name, found));
                }
                Ok(lines::Found::End) => {
                    reader.finish(&mut |found| self.found(&name, found));
                    break;
                }
                Err(_) if self.interrupt.requested() => break,
                Err(error) => {
                    let reason = format!("{error}; the rest is not read");
                    self.problem(&name, Some(lines.number()), 1, &reason);
                    reader.finish(&mut |found| self.found(&name, found));
                    break;
                }
            }
            if let Some(error) = self.failed.take() {
                return Err(error.into());
            }
        }
        if let Some(error) = self.failed.take() {
            return Err(error.into());
        }
        Ok(reader.last_time())
    }

    fn found(&mut self, file: &str, found: Found) {
        // A line can take long, and importing it again adds only the rest.
        if self.interrupt.requested() {
            return;
        }
        match found {
            Found::Record(record) => self.record(file, &record),
            Found::Encoded(FoundLog {
                server, log, place, ..
            }) => self.add(file, server.as_ref(), place, |batch, server| {
                batch.push_log(server, &log)
            }),
            Found::Sentinel {
                server,
                timestamp,
                place,
            } => match server {
                Some(server) => {
                    let sentinel = Sentinel {
                        file: file.to_owned(),
                        line: place.line(),
                        timestamp,
                    };
                    if let Some(orphan) = self.sentinels.insert(server, sentinel) {
                        self.orphan(&orphan);
                    }
                }
                None => self.nobodys(file, place),
            },
            Found::Problem(error) => {
                self.problem(file, Some(error.line()), error.records(), &error);
            }
            Found::Repaired(_) => self.counts.repaired += 1,
            _ => {}
        }
    }

    fn record(&mut self, file: &str, found: &FoundRecord) {
        if let (Some(server), Record::Metrics(snapshot)) = (&found.server, &found.record)
            && let Some(sentinel) = self.sentinels.remove(server)
            && sentinel.timestamp != snapshot.timestamp
        {
            self.orphan(&sentinel);
        }
        let read = self.counts.read;
        self.add(file, found.server.as_ref(), found.place, |batch, server| {
            batch.push(server, &found.record)
        });
        if self.counts.read > read {
            self.counts.untimed += u64::from(!found.has_time);
        }
    }

    /// Adds a record to the batch with `push`, and stores the batch when it is full.
    fn add(
        &mut self,
        file: &str,
        server: Option<&ServerName>,
        place: Place,
        push: impl FnOnce(&mut ImportBatch, &ServerName) -> gridctl_telemetry::Result<()>,
    ) {
        let Some(server) = server else {
            return self.nobodys(file, place);
        };
        if self.line.0 != place.line() {
            self.line = (place.line(), 0);
        }
        if self.line.1 > LINE_RECORD_BYTES_MAX {
            let reason =
                "the records of the line take more than 1 GiB, because each has its resource";
            return self.bad_record(file, place, &reason);
        }
        let before = self.batch.payload_bytes();
        if let Err(error) = push(&mut self.batch, server) {
            return self.bad_record(file, place, &error);
        }
        self.line.1 += self.batch.payload_bytes() - before;
        self.counts.read += 1;
        let is_full =
            self.batch.len() >= BATCH_RECORDS || self.batch.payload_bytes() >= BATCH_BYTES;
        // A line can hold many batches. After a failure what is left of it is not stored.
        if self.failed.is_some() {
            self.batch = ImportBatch::default();
        } else if is_full && let Err(error) = self.store() {
            self.failed = Some(error);
        }
    }

    fn nobodys(&mut self, file: &str, place: Place) {
        let reason = "whose record this is does not follow: pass --server";
        self.bad_record(file, place, &reason);
    }

    fn bad_record(&mut self, file: &str, place: Place, reason: &dyn fmt::Display) {
        let path = place.to_string();
        let reason = if path.is_empty() {
            reason.to_string()
        } else {
            format!("{reason} ({path})")
        };
        self.problem(file, Some(place.line()), 1, &reason);
    }

    fn orphan(&mut self, sentinel: &Sentinel) {
        self.problem(
            &sentinel.file,
            Some(sentinel.line),
            1,
            &"a reset is announced, and its snapshot does not follow",
        );
    }

    fn problem(&mut self, file: &str, line: Option<u64>, records: u64, reason: &dyn fmt::Display) {
        self.counts.skipped += records;
        self.counts.problems += 1;
        if self.counts.problems <= PROBLEMS_SHOWN {
            let place = line.map(|line| format!(":{line}")).unwrap_or_default();
            self.bar
                .suspend(|| note(&format!("warning: {file}{place}: {reason}")));
        }
    }

    fn problems_not_shown(&self) {
        let not_shown = self.counts.problems.saturating_sub(PROBLEMS_SHOWN);
        if not_shown > 0 {
            note(&format!("warning: {not_shown} more problems are not shown"));
        }
    }

    fn store(&mut self) -> gridctl_telemetry::Result<()> {
        let next = ImportBatch::default().redactor(self.redactor.clone());
        let batch = std::mem::replace(&mut self.batch, next);
        if batch.is_empty() {
            return Ok(());
        }
        self.order(Work::Batch(batch))
    }

    /// Hands work to the thread that stores, which may have failed with what it was handed before.
    fn order(&mut self, work: Work) -> gridctl_telemetry::Result<()> {
        match &self.storing {
            Some(storing) if storing.work.send(work).is_err() => self.end_storing(),
            _ => Ok(()),
        }
    }

    /// Waits until everything is stored.
    fn end_storing(&mut self) -> gridctl_telemetry::Result<()> {
        let Some(Storing { work, thread }) = self.storing.take() else {
            return Ok(());
        };
        drop(work);
        let counts = thread.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        self.counts.added += counts.added;
        self.counts.duplicates += counts.duplicates;
        self.counts.too_old += counts.too_old;
        Ok(())
    }
}

/// What is stored next.
enum Work {
    Batch(ImportBatch),
    /// The next batches are of other files that hold the same records.
    Anew,
}

/// A thread that stores a batch while the next one is read, because reading takes about as long.
struct Storing {
    work: SyncSender<Work>,
    thread: JoinHandle<gridctl_telemetry::Result<ImportCounts>>,
}

impl Storing {
    fn begin(store: &Store) -> gridctl_telemetry::Result<Storing> {
        let mut importer = Importer::new(store)?;
        let store = store.clone();
        // Without room for a batch that waits, no more than two are in memory.
        let (work, orders) = sync_channel(0);
        let thread = std::thread::spawn(move || {
            let mut total = ImportCounts::default();
            for order in orders {
                match order {
                    Work::Batch(batch) => {
                        let counts = importer.add(batch)?;
                        total.added += counts.added;
                        total.duplicates += counts.duplicates;
                        total.too_old += counts.too_old;
                    }
                    Work::Anew => importer = Importer::new(&store)?,
                }
            }
            Ok(total)
        });
        Ok(Storing { work, thread })
    }
}
