//! `export-jsonl`: what is stored, as flat files.

mod first_line;
mod growing;
mod resume;
mod whole;
mod written;

use self::first_line::Beginning;
use super::{store_options, wait_for_arrival};
use crate::{
    Outcome,
    flat::Packing,
    interrupt::Interrupt,
    losses,
    output::{note, progress_bar},
    time,
};
use anyhow::bail;
use bytesize::ByteSize;
use gridctl_telemetry::{
    Query, ServerName, Signal, Snapshot, Store, Timestamp,
    lines::{LineFormat, LineWriter},
    query::{InventoryRecord, TimeRange},
};
use indicatif::ProgressBar;
use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
};

/// So many bytes are gathered before they are written.
const BUFFER_BYTES: usize = 256 << 10;
/// What the scan may hold of decoded blocks.
const SCAN_BYTES: usize = 8 << 20;
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The stack
    #[arg(long)]
    stack: String,
    /// This server alone; may be given again
    #[arg(long, value_name = "NAME")]
    server: Vec<ServerName>,
    /// This signal alone (logs, metrics or traces); may be given again
    #[arg(long)]
    signal: Vec<Signal>,
    /// From this time on: RFC 3339, or how long ago such as 2h
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    since: Option<Timestamp>,
    /// Up to this time, itself excluded
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    until: Option<Timestamp>,
    /// What lines look like
    #[arg(long, default_value = "ndjson")]
    format: Format,
    #[command(flatten)]
    target: Target,
    /// Go on with what arrives, until interrupted
    #[arg(long, conflicts_with = "compress")]
    follow: bool,
    /// Remember in FILE what was exported: a later run with the same FILE adds only what is new to
    /// the files, each record once, also when this one is killed
    #[arg(long, value_name = "FILE", conflicts_with_all = ["stdout", "compress"])]
    resume: Option<PathBuf>,
    /// Compress the files, whose names then end in .gz or .zst
    #[arg(long, value_name = "FORMAT", conflicts_with = "stdout")]
    compress: Option<Packing>,
    /// Begin a new file at this size, in MiB; the older ones get the names of rotated files
    #[arg(long, value_name = "N", conflicts_with = "stdout",
          value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    max_size_mb: Option<u64>,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Target {
    /// Write DIR/STACK/SERVER/SIGNAL.jsonl
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print one signal, servers merged by time
    #[arg(long)]
    stdout: bool,
}

/// What lines look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// gridctl's own for logs and metrics, OTLP/JSON for traces
    Ndjson,
    /// OTLP/JSON for all signals, which a Collector reads
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
    /// Everything of one stack, to files.
    pub(super) fn of_stack(stack: &str, out: &Path) -> Args {
        Args {
            stack: stack.to_owned(),
            server: Vec::new(),
            signal: Vec::new(),
            since: None,
            until: None,
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

    /// The largest a file may become, in bytes.
    fn file_bytes_max(&self) -> u64 {
        self.max_size_mb
            .map_or(u64::MAX, |mebibytes| mebibytes << 20)
    }

    fn packing(&self) -> Packing {
        self.compress.unwrap_or(Packing::Plain)
    }

    /// Whether lines of a signal begin with a resource, which tells nothing apart.
    fn begins_with_resource(&self, signal: Signal) -> bool {
        self.format == Format::Otlp && signal != Signal::Traces
    }

    /// What a file is about that begins with `chunk`.
    fn beginning<'a>(
        &'a self,
        server: &'a ServerName,
        signal: Signal,
        chunk: &Chunk<'_>,
    ) -> Beginning<'a> {
        Beginning {
            stack: &self.stack,
            server,
            signal,
            first: chunk.first,
        }
    }

    fn selects(&self, server: &ServerName, signal: Signal) -> bool {
        (self.server.is_empty() || self.server.contains(server))
            && (self.signal.is_empty() || self.signal.contains(&signal))
    }

    fn query<'a>(
        &self,
        signal: Signal,
        servers: impl IntoIterator<Item = &'a ServerName>,
    ) -> Query {
        let range = TimeRange {
            since: self.since,
            until: self.until,
        };
        servers
            .into_iter()
            .fold(Query::new(signal), |query, server| {
                query.server(server.clone())
            })
            .range(range)
            .memory_bytes(SCAN_BYTES)
    }
}

pub(crate) fn run(home: &Path, args: &Args, out: &mut impl Write) -> anyhow::Result<Outcome> {
    let Some(store) = Store::open_read_only(home, &args.stack, store_options())? else {
        bail!("the stack {:?} has no telemetry", args.stack);
    };
    // Everything that is there is exported in one state of the store; what arrives comes behind it.
    let snapshot = store.snapshot()?;
    let selected = select(&snapshot, args)?;
    if selected.is_empty() && !args.follow {
        note("nothing to export");
        return Ok(Outcome::Problems);
    }
    let mut export = Export {
        interrupt: Interrupt::install()?,
        bar: progress_bar(
            selected.iter().map(|record| record.record_count).sum(),
            "{msg} {wide_bar} {human_pos}/{human_len} records, {per_sec}, {eta} left",
        ),
        counts: Counts::default(),
        writer: LineWriter::new(args.format.into()),
    };
    let lost = losses_of(&snapshot, args)?;
    let done = match &args.target.out {
        Some(folder) if args.follow || args.resume.is_some() => {
            growing::export(&mut export, &store, snapshot, args, folder)?
        }
        Some(folder) => whole::export(&mut export, &snapshot, args, folder, &selected)?,
        None => export.print(&store, snapshot, args, &selected, out)?,
    };
    export.bar.finish_and_clear();
    let Counts {
        records,
        bytes,
        files,
        long_lines,
    } = export.counts;
    if args.target.out.is_some() {
        let size = ByteSize::b(bytes).display().iec();
        note(&format!(
            "exported {records} records to {files} files, {size}"
        ));
    }
    if let Some(lost) = lost {
        note(&format!("warning: the export is not complete; {lost}"));
    }
    for (signal, lines) in long_lines {
        note(&format!(
            "warning: {lines} lines of {signal} are longer than 1 MiB, because a single record is; \
             a Collector drops them unless its max_log_size is raised"
        ));
    }
    Ok(match (done, records) {
        (false, _) => Outcome::Interrupted,
        (true, 0) if args.resume.is_none() => Outcome::Problems,
        (true, _) => Outcome::Done,
    })
}

/// The series that are to be exported.
fn select(snapshot: &Snapshot, args: &Args) -> anyhow::Result<Vec<InventoryRecord>> {
    let mut selected = snapshot.inventory(None)?;
    selected.retain(|record| args.selects(&record.server, record.signal));
    Ok(selected)
}

fn losses_of(snapshot: &Snapshot, args: &Args) -> anyhow::Result<Option<String>> {
    let mut lost = snapshot.ledger(TimeRange {
        since: args.since,
        until: args.until,
    })?;
    lost.retain(|loss| {
        let server = loss.server.as_ref();
        (args.server.is_empty() || server.is_none_or(|server| args.server.contains(server)))
            && (args.signal.is_empty() || loss.signal.is_none_or(|it| args.signal.contains(&it)))
    });
    Ok(losses::summary(&lost))
}

#[derive(Debug, Default)]
struct Counts {
    records: u64,
    bytes: u64,
    files: u64,
    /// How many lines of each signal are longer than a Collector takes.
    long_lines: BTreeMap<Signal, u64>,
}

/// Whole lines of one series.
#[derive(Debug, Clone, Copy)]
struct Chunk<'a> {
    lines: &'a [u8],
    /// The time and sequence of the first record.
    first: (i64, u64),
}

/// An export on its way.
struct Export {
    interrupt: Interrupt,
    bar: ProgressBar,
    counts: Counts,
    /// One for all: it knows when each server's counters began.
    writer: LineWriter,
}

impl Export {
    /// Prints one signal. Says whether it came to the end by itself.
    fn print(
        &mut self,
        store: &Store,
        mut snapshot: Snapshot,
        args: &Args,
        selected: &[InventoryRecord],
        out: &mut impl Write,
    ) -> anyhow::Result<bool> {
        let mut signals: Vec<Signal> = selected.iter().map(|record| record.signal).collect();
        signals.extend(&args.signal);
        signals.sort_unstable();
        signals.dedup();
        let [signal] = signals[..] else {
            bail!("one signal at a time can be printed: pass --signal logs, metrics or traces");
        };
        let query = args.query(signal, &args.server);
        let mut arrived = 0;
        loop {
            let next = snapshot.next_sequence()?;
            let new = query.clone().since_sequence(arrived);
            let done = self.copy(&snapshot, &new, |chunk| Ok(out.write_all(chunk.lines)?))?;
            out.flush()?;
            if !done || !args.follow {
                return Ok(done);
            }
            arrived = next;
            match wait_for_arrival(store, arrived, &self.interrupt)? {
                Some(newer) => snapshot = newer,
                None => return Ok(true),
            }
        }
    }

    /// Hands the lines of a query to `write`, whole lines at a time. Says whether it came to the end.
    fn copy(
        &mut self,
        snapshot: &Snapshot,
        query: &Query,
        mut write: impl FnMut(Chunk<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<bool> {
        let mut scan = snapshot.scan(query)?;
        let mut lines = Vec::with_capacity(BUFFER_BYTES * 2);
        let (mut signal, mut first) = (None, None);
        let mut unshown = 0;
        let long_lines = self.writer.long_lines();
        let mut flush = |lines: &mut Vec<u8>, first: &mut Option<_>, counts: &mut Counts| {
            counts.bytes += lines.len() as u64;
            let outcome = first
                .take()
                .map_or(Ok(()), |first| write(Chunk { lines, first }));
            lines.clear();
            outcome
        };
        let mut done = true;
        while let Some(record) = scan.next()? {
            self.writer.write(&record, &mut lines)?;
            signal = Some(record.signal);
            first.get_or_insert((record.timestamp.unix_nanos(), record.sequence));
            self.counts.records += 1;
            unshown += 1;
            if lines.len() >= BUFFER_BYTES {
                // A file may end here, and must then end with a line.
                self.writer.finish(&mut lines);
                flush(&mut lines, &mut first, &mut self.counts)?;
                self.bar.inc(std::mem::take(&mut unshown));
                if self.interrupt.requested() {
                    done = false;
                    break;
                }
            }
        }
        self.writer.finish(&mut lines);
        flush(&mut lines, &mut first, &mut self.counts)?;
        let long_lines = self.writer.long_lines() - long_lines;
        if let Some(signal) = signal.filter(|_| long_lines > 0) {
            *self.counts.long_lines.entry(signal).or_default() += long_lines;
        }
        self.bar.inc(unshown);
        Ok(done)
    }
}
