//! `export-jsonl`: what is stored, as flat files.

use super::store_options;
use crate::{
    Outcome,
    interrupt::Interrupt,
    losses,
    output::{AtomicFile, escape, folder_name, note, progress_bar},
    time,
};
use anyhow::bail;
use bytesize::ByteSize;
use gridctl_telemetry::{
    InventoryRecord, LineWriter, Query, ServerName, Signal, Snapshot, Store, TimeRange, Timestamp,
};
use indicatif::ProgressBar;
use std::{
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
    #[command(flatten)]
    target: Target,
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

pub(crate) fn run(home: &Path, args: &Args, out: &mut impl Write) -> anyhow::Result<Outcome> {
    let Some(store) = Store::open_read_only(home, &args.stack, store_options())? else {
        bail!("the stack {:?} has no telemetry", args.stack);
    };
    // All files are of one state of the store.
    let snapshot = store.snapshot()?;
    let mut selected = snapshot.inventory(None)?;
    selected.retain(|record| {
        (args.server.is_empty() || args.server.contains(&record.server))
            && (args.signal.is_empty() || args.signal.contains(&record.signal))
    });
    if selected.is_empty() {
        note("nothing to export");
        return Ok(Outcome::Problems);
    }
    let interrupt = Interrupt::install()?;
    let records = selected.iter().map(|record| record.record_count).sum();
    let bar = progress_bar(
        records,
        "{msg} {wide_bar} {human_pos}/{human_len} records, {per_sec}, {eta} left",
    );
    let mut export = Export {
        snapshot,
        interrupt,
        bar,
        counts: Counts::default(),
    };
    let done = match &args.target.out {
        Some(folder) => export.write_files(args, folder, &selected)?,
        None => export.print(args, &selected, out)?,
    };
    export.bar.finish_and_clear();
    let Counts {
        records,
        bytes,
        files,
        long_lines,
    } = export.counts;
    let size = ByteSize::b(bytes).display().iec();
    if args.target.out.is_some() {
        note(&format!(
            "exported {records} records to {files} files, {size}"
        ));
    }
    let range = TimeRange {
        since: args.since,
        until: args.until,
    };
    let mut lost = export.snapshot.losses(range)?;
    lost.retain(|loss| {
        let server = loss.server.as_ref();
        (args.server.is_empty() || server.is_none_or(|server| args.server.contains(server)))
            && (args.signal.is_empty() || loss.signal.is_none_or(|it| args.signal.contains(&it)))
    });
    if let Some(lost) = losses::summary(&lost) {
        note(&format!("warning: the export is not complete; {lost}"));
    }
    if long_lines > 0 {
        note(&format!(
            "warning: {long_lines} lines are longer than 1 MiB, because a single span is; a \
             Collector drops them unless its max_log_size is raised"
        ));
    }
    Ok(match (done, records) {
        (false, _) => {
            note("interrupted; the file that was being written was discarded");
            Outcome::Interrupted
        }
        (true, 0) => Outcome::Problems,
        (true, _) => Outcome::Done,
    })
}

#[derive(Debug, Default)]
struct Counts {
    records: u64,
    bytes: u64,
    files: u64,
    long_lines: u64,
}

struct Export {
    snapshot: Snapshot,
    interrupt: Interrupt,
    bar: ProgressBar,
    counts: Counts,
}

impl Export {
    /// Writes a file for each series. Says whether it came to the end.
    fn write_files(
        &mut self,
        args: &Args,
        folder: &Path,
        selected: &[InventoryRecord],
    ) -> anyhow::Result<bool> {
        for record in selected {
            let path = folder
                .join(&args.stack)
                .join(folder_name(&record.server)?)
                .join(format!("{}.jsonl", record.signal));
            self.bar
                .set_message(escape(&format!("{} {}", record.server, record.signal)));
            let query = query(args, record.signal, [&record.server]);
            // No record, no file: an empty file would say that there is something.
            let mut file: Option<AtomicFile> = None;
            let done = self.copy(&query, |lines| match &mut file {
                Some(file) => file.write(lines),
                none => none.insert(AtomicFile::create(&path)?).write(lines),
            })?;
            if !done {
                return Ok(false);
            }
            if let Some(file) = file {
                file.finish()?;
                self.counts.files += 1;
            }
        }
        Ok(true)
    }

    fn print(
        &mut self,
        args: &Args,
        selected: &[InventoryRecord],
        out: &mut impl Write,
    ) -> anyhow::Result<bool> {
        let mut signals: Vec<Signal> = selected.iter().map(|record| record.signal).collect();
        signals.sort_unstable();
        signals.dedup();
        let [signal] = signals[..] else {
            bail!("one signal at a time can be printed: pass --signal logs, metrics or traces");
        };
        let query = query(args, signal, selected.iter().map(|record| &record.server));
        let done = self.copy(&query, |lines| Ok(out.write_all(lines)?))?;
        out.flush()?;
        Ok(done)
    }

    /// Hands the lines of a query to `write`. Says whether it came to the end.
    fn copy(
        &mut self,
        query: &Query,
        mut write: impl FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<bool> {
        let mut scan = self.snapshot.scan(query)?;
        let mut writer = LineWriter::new();
        let mut lines = Vec::with_capacity(BUFFER_BYTES * 2);
        let mut written = 0;
        let mut flush = |lines: &mut Vec<u8>, counts: &mut Counts| {
            counts.bytes += lines.len() as u64;
            let outcome = if lines.is_empty() {
                Ok(())
            } else {
                write(lines)
            };
            lines.clear();
            outcome
        };
        while let Some(record) = scan.next()? {
            writer.write(&record, &mut lines)?;
            written += 1;
            if lines.len() >= BUFFER_BYTES {
                flush(&mut lines, &mut self.counts)?;
                self.bar.inc(std::mem::take(&mut written));
                if self.interrupt.requested() {
                    return Ok(false);
                }
            }
            self.counts.records += 1;
        }
        writer.finish(&mut lines);
        self.counts.long_lines += writer.long_lines();
        flush(&mut lines, &mut self.counts)?;
        self.bar.inc(written);
        Ok(true)
    }
}

fn query<'a>(
    args: &Args,
    signal: Signal,
    servers: impl IntoIterator<Item = &'a ServerName>,
) -> Query {
    let range = TimeRange {
        since: args.since,
        until: args.until,
    };
    servers
        .into_iter()
        .fold(Query::new(signal), |query, server| {
            query.server(server.clone())
        })
        .range(range)
        .memory_bytes(SCAN_BYTES)
}
