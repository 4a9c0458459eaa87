//! `export-jsonl`: write stored records as flat files.

mod first_line;
mod growing;
#[cfg(feature = "parquet")]
pub(crate) mod parquet;
mod resume;
mod source;
pub(super) mod whole;
mod written;

use self::{
    first_line::Beginning,
    source::{Records, Source},
};
use super::wait_for_arrival;
use crate::{
    Outcome,
    damage::{self, Damaged},
    flat::Packing,
    interrupt::Interrupt,
    output::{note, progress_bar},
    scope::{Scope, ScopeArgs, SignalParser},
    screen::{Output, Screen},
    window::WindowArgs,
};
use anyhow::bail;
use bytesize::ByteSize;
use gridctl_telemetry::{
    Query, ServerName, Signal, Snapshot, Store,
    ledger::LossCause,
    lines::{LineFormat, LineWriter},
    query::{InventoryRecord, TimeRange},
};
use gridctl_telemetry_server::display::losses;
use indicatif::ProgressBar;
use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
};

/// The number of bytes that are collected before they are written.
const BUFFER_BYTES: usize = 256 << 10;
/// Maximum size of the decoded blocks that a scan holds, in bytes.
const SCAN_BYTES: usize = 32 << 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    selection: SelectionArgs,
    /// The format of lines
    #[arg(long, default_value = "ndjson")]
    format: Format,
    #[command(flatten)]
    target: Target,
    /// Export new records as they arrive, until interrupted
    #[arg(long, conflicts_with = "compress")]
    follow: bool,
    /// Store the progress in FILE: a later run with the same FILE appends only new records, each
    /// record once, even if this run is killed
    #[arg(long, value_name = "FILE", conflicts_with_all = ["stdout", "compress"])]
    resume: Option<PathBuf>,
    /// Compress the files, and add .gz or .zst to their names
    #[arg(long, value_name = "FORMAT", conflicts_with = "stdout")]
    compress: Option<Packing>,
    /// Begin a new file at this size, in MiB, and rename the full one to the name of a rotated file
    #[arg(long, value_name = "N", conflicts_with = "stdout",
          value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    max_size_mb: Option<u64>,
}

/// Options that select records.
#[derive(Debug, clap::Args)]
struct SelectionArgs {
    #[command(flatten)]
    scope: ScopeArgs,
    /// Only this signal; may be given several times
    #[arg(long, value_parser = SignalParser)]
    signal: Vec<Signal>,
    #[command(flatten)]
    window: WindowArgs,
}

impl SelectionArgs {
    /// Opens the store, and reads which of its records are meant.
    fn open(&self, home: &Path, screen: &Screen) -> anyhow::Result<(Store, Selection)> {
        let range = self.window.range(screen)?;
        let Scope { store, servers } = self.scope.open(home)?;
        let selection = Selection {
            stack: store.stack().to_owned(),
            servers,
            signals: self.signal.clone(),
            range,
        };
        Ok((store, selection))
    }
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Target {
    /// Write DIR/STACK/SERVER/SIGNAL.jsonl
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print one signal, with servers merged by time
    #[arg(long)]
    stdout: bool,
}

/// The format of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// gridctl's own format for logs and metrics, OTLP/JSON for traces
    Ndjson,
    /// OTLP/JSON for all signals, which a Collector can read
    Otlp,
}

impl From<Format> for LineFormat {
    fn from(format: Format) -> LineFormat {
        match format {
            Format::Ndjson => LineFormat::Ndjson,
            Format::Otlp => LineFormat::Otlp,
        }
    }
}

impl Args {
    /// An export of a whole stack to files.
    pub(super) fn of_stack(stack: &str, out: &Path) -> Args {
        Args {
            selection: SelectionArgs {
                scope: ScopeArgs::of_stack(stack),
                signal: Vec::new(),
                window: WindowArgs::default(),
            },
            format: Format::Ndjson,
            target: Target {
                out: Some(out.to_owned()),
                stdout: false,
            },
            follow: false,
            resume: None,
            compress: None,
            max_size_mb: None,
        }
    }
}

/// Which records are exported.
#[derive(Debug)]
struct Selection {
    stack: String,
    /// Empty for all servers.
    servers: Vec<ServerName>,
    /// Empty for all signals.
    signals: Vec<Signal>,
    range: TimeRange,
}

impl Selection {
    fn has_signal(&self, signal: Signal) -> bool {
        self.signals.is_empty() || self.signals.contains(&signal)
    }

    fn selects(&self, server: &ServerName, signal: Signal) -> bool {
        (self.servers.is_empty() || self.servers.contains(server)) && self.has_signal(signal)
    }

    fn query<'a>(
        &self,
        signal: Signal,
        servers: impl IntoIterator<Item = &'a ServerName>,
    ) -> Query {
        servers
            .into_iter()
            .fold(Query::new(signal), |query, server| {
                query.server(server.clone())
            })
            .range(self.range)
            .memory_bytes(SCAN_BYTES)
            .skip_damaged()
    }

    /// The selection as progress files say it, after the format.
    fn describe(&self, format: &str) -> String {
        format!(
            "format {format}, stack {:?}, servers {:?}, signals {:?}, since {:?}, until {:?}",
            self.stack,
            self.servers,
            self.signals,
            self.range.since.map(|time| time.to_string()),
            self.range.until.map(|time| time.to_string())
        )
    }
}

/// What is exported: the arguments, and the records that they mean.
#[derive(Debug)]
struct Options<'a> {
    given: &'a Args,
    wanted: Selection,
}

impl Options<'_> {
    /// Maximum size of a file, in bytes.
    fn file_bytes_max(&self) -> u64 {
        self.given
            .max_size_mb
            .map_or(u64::MAX, |mebibytes| mebibytes << 20)
    }

    fn packing(&self) -> Packing {
        self.given.compress.unwrap_or(Packing::Plain)
    }

    /// Whether lines of a signal begin with a resource, which is the same in several files.
    fn begins_with_resource(&self, signal: Signal) -> bool {
        self.given.format == Format::Otlp && signal != Signal::Traces
    }

    /// The beginning of a file whose first lines are `chunk`.
    fn beginning<'a>(
        &'a self,
        server: &'a ServerName,
        signal: Signal,
        chunk: &Chunk<'_>,
    ) -> Beginning<'a> {
        Beginning {
            stack: &self.wanted.stack,
            server,
            signal,
            first: chunk.first,
        }
    }
}

pub(crate) fn run(
    home: &Path,
    screen: &Screen,
    args: &Args,
    out: &mut Output,
) -> anyhow::Result<Outcome> {
    let (store, wanted) = args.selection.open(home, screen)?;
    let options = &Options {
        given: args,
        wanted,
    };
    // Records that arrive later are not exported, or come after these.
    let mut source = Source::new(&store, store.snapshot()?)?;
    let selected = select(source.snapshot()?, &options.wanted)?;
    if selected.is_empty() && !args.follow {
        note("no records to export");
        return Ok(Outcome::Problems);
    }
    let mut export = Export {
        run: Run::begin(&selected)?,
        counts: Counts::default(),
        writer: LineWriter::new(args.format.into()),
    };
    export.run.note_damage(unlisted(source.snapshot()?)?);
    let lost = losses_of(source.snapshot()?, &options.wanted, screen)?;
    let done = match &args.target.out {
        Some(folder) if args.follow || args.resume.is_some() => {
            growing::export(&mut export, &store, source, options, folder)?
        }
        Some(folder) => whole::export(&mut export, &mut source, options, folder, &selected)?,
        None => export.print(&store, source, options, &selected, out)?,
    };
    export.run.bar.finish_and_clear();
    let is_damaged = !export.run.damage.is_empty();
    let Counts {
        records,
        bytes,
        files,
        long_lines,
    } = export.counts;
    if args.target.out.is_some() {
        note_exported(records, files, bytes);
    }
    note_lost(lost);
    for (signal, lines) in long_lines {
        note(&format!(
            "warning: {lines} lines of {signal} are longer than 1 MiB, because a single record is: \
             raise max_log_size of a Collector, which drops them otherwise"
        ));
    }
    Ok(match (done, records) {
        (false, _) => Outcome::Interrupted,
        (true, _) if is_damaged => Outcome::Problems,
        (true, 0) if args.resume.is_none() => Outcome::Problems,
        (true, _) => Outcome::Done,
    })
}

fn note_exported(records: u64, files: u64, bytes: u64) {
    let size = ByteSize::b(bytes).display().iec();
    note(&format!(
        "exported {records} records to {files} files, {size}"
    ));
}

fn note_lost(lost: Option<String>) {
    if let Some(lost) = lost {
        note(&format!(
            "warning: some records were never stored and are not exported: {lost}"
        ));
    }
}

/// The series to export.
fn select(snapshot: &Snapshot, wanted: &Selection) -> anyhow::Result<Vec<InventoryRecord>> {
    let (mut selected, _) = snapshot.readable_inventory()?;
    selected.retain(|record| wanted.selects(&record.server, record.signal));
    Ok(selected)
}

/// What of the list of all series cannot be read.
fn unlisted(snapshot: &Snapshot) -> anyhow::Result<Vec<Damaged>> {
    let (_, findings) = snapshot.readable_inventory()?;
    let parts = findings.into_iter().map(|it| (it.what, it.records));
    Ok(parts.collect())
}

fn losses_of(
    snapshot: &Snapshot,
    wanted: &Selection,
    screen: &Screen,
) -> anyhow::Result<Option<String>> {
    let mut lost = snapshot.ledger(wanted.range)?;
    let servers = &wanted.servers;
    lost.retain(|loss| {
        let server = loss.server.as_ref();
        // What an endpoint refused is stored here.
        loss.cause != LossCause::Refused
            && (servers.is_empty() || server.is_none_or(|server| servers.contains(server)))
            && loss.signal.is_none_or(|signal| wanted.has_signal(signal))
    });
    Ok(losses::summary(&lost, |time| screen.time(time)))
}

#[derive(Debug, Default)]
struct Counts {
    records: u64,
    bytes: u64,
    files: u64,
    /// The number of lines of each signal that are longer than a Collector reads by default.
    long_lines: BTreeMap<Signal, u64>,
}

/// Whole lines of one series.
#[derive(Debug, Clone, Copy)]
struct Chunk<'a> {
    lines: &'a [u8],
    /// The time and sequence of the first record.
    first: (i64, u64),
}

/// What every running export has.
struct Run {
    interrupt: Interrupt,
    bar: ProgressBar,
    /// What could not be read, each part once.
    damage: Vec<Damaged>,
}

impl Run {
    fn begin(selected: &[InventoryRecord]) -> anyhow::Result<Run> {
        Ok(Run {
            interrupt: Interrupt::install()?,
            bar: progress_bar(
                selected.iter().map(|record| record.record_count).sum(),
                "{msg} {wide_bar} {human_pos}/{human_len} records, {per_sec}, {eta} left",
            ),
            damage: Vec::new(),
        })
    }

    /// Names what cannot be read, unless it was named before.
    fn note_damage(&mut self, parts: Vec<Damaged>) {
        for part in parts {
            if !self.damage.contains(&part) {
                self.damage.push(part.clone());
                self.bar.suspend(|| {
                    for line in damage::describe(vec![part]) {
                        note(&line);
                    }
                });
            }
        }
    }
}

/// A running export of lines.
struct Export {
    run: Run,
    counts: Counts,
    /// One writer for all series, because it remembers the start of each server's counters.
    writer: LineWriter,
}

impl Export {
    /// Prints one signal. Returns whether the export ended by itself.
    fn print<'s>(
        &mut self,
        store: &'s Store,
        mut source: Source<'s>,
        options: &Options,
        selected: &[InventoryRecord],
        out: &mut Output,
    ) -> anyhow::Result<bool> {
        let mut signals: Vec<Signal> = selected.iter().map(|record| record.signal).collect();
        signals.extend(&options.wanted.signals);
        signals.sort_unstable();
        signals.dedup();
        let [signal] = signals[..] else {
            bail!(
                "only one signal can be printed at a time: pass --signal logs, metrics or traces"
            );
        };
        let query = options.wanted.query(signal, &options.wanted.servers);
        let mut arrived = 0;
        let mut arrivals = store.arrivals(source.end())?;
        loop {
            let new = query.clone().since_sequence(arrived);
            let mut is_written = true;
            let done = self.copy(&mut source, &new, |chunk, records| {
                is_written = out.write_patiently(chunk.lines, || records.release())?;
                Ok(())
            })?;
            if !is_written {
                return Ok(false);
            }
            out.flush()?;
            if !done || !options.given.follow {
                return Ok(done);
            }
            match wait_for_arrival(&mut arrivals, &self.run.interrupt)? {
                Some(arrival) => {
                    arrived = arrival.since_sequence;
                    source = Source::new(store, arrival.snapshot)?;
                }
                None => return Ok(true),
            }
        }
    }

    /// Passes the lines of a query to `write`, in chunks of whole lines. Returns whether all lines were
    /// passed.
    fn copy(
        &mut self,
        source: &mut Source<'_>,
        query: &Query,
        mut write: impl FnMut(Chunk<'_>, &mut Records<'_, '_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<bool> {
        let mut records = source.records(query);
        let mut lines = Vec::with_capacity(BUFFER_BYTES * 2);
        let (mut signal, mut first) = (None, None);
        let mut unshown = 0;
        let long_lines = self.writer.long_lines();
        let mut flush = |lines: &mut Vec<u8>,
                         first: &mut Option<_>,
                         counts: &mut Counts,
                         records: &mut Records<'_, '_>| {
            counts.bytes += lines.len() as u64;
            let outcome = first
                .take()
                .map_or(Ok(()), |first| write(Chunk { lines, first }, records));
            lines.clear();
            outcome
        };
        let mut done = true;
        while let Some((record, is_exported)) = records.next()? {
            if !is_exported {
                continue;
            }
            self.writer.write(&record, &mut lines)?;
            signal = Some(record.signal);
            first.get_or_insert((record.timestamp.unix_nanos(), record.sequence));
            self.counts.records += 1;
            unshown += 1;
            if lines.len() >= BUFFER_BYTES {
                // A file may end here, and must end with a whole line.
                self.writer.finish(&mut lines);
                flush(&mut lines, &mut first, &mut self.counts, &mut records)?;
                records.release_if_old();
                self.run.bar.inc(std::mem::take(&mut unshown));
                if self.run.interrupt.requested() {
                    done = false;
                    break;
                }
            }
        }
        self.writer.finish(&mut lines);
        flush(&mut lines, &mut first, &mut self.counts, &mut records)?;
        let long_lines = self.writer.long_lines() - long_lines;
        if let Some(signal) = signal.filter(|_| long_lines > 0) {
            *self.counts.long_lines.entry(signal).or_default() += long_lines;
        }
        self.run.bar.inc(unshown);
        let damage = records.damage();
        self.run
            .note_damage(damage.iter().map(damage::skipped).collect());
        Ok(done)
    }
}
