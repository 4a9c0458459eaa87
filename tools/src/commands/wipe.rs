//! `wipe`: show which records and old files would be deleted, ask, and delete them.

use super::{
    compact::{compact, describe as describe_compacted},
    stacks_with_old, store_options,
};
use crate::{
    Outcome,
    interrupt::Interrupt,
    old_files::OldFiles,
    output::{escape, note},
};
use anyhow::bail;
use bytesize::ByteSize;
use gridctl_telemetry::{
    Error, ServerName, Signal, Store, maintenance::WipeScope, query::InventoryRecord,
};
use std::{
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    time::Duration,
};

/// How long to wait for readers before the disk space is left to a later `compact`.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The stack to wipe
    #[arg(conflicts_with = "all")]
    stack: Option<String>,
    /// Wipe every stack
    #[arg(long)]
    all: bool,
    /// Only this server
    #[arg(long, value_name = "NAME")]
    server: Option<ServerName>,
    /// Only this signal: logs, metrics or traces
    #[arg(long)]
    signal: Option<Signal>,
    /// Do not ask for confirmation
    #[arg(long, short)]
    yes: bool,
}

impl Args {
    fn scope(&self) -> WipeScope {
        WipeScope::everything()
            .server(self.server.clone())
            .signal(self.signal)
    }
}

pub(crate) fn run(home: &Path, args: &Args, out: &mut impl Write) -> anyhow::Result<Outcome> {
    if args.stack.is_none() && !args.all {
        bail!("name the stack to wipe, or pass --all to wipe every stack");
    }
    let mut affected = Vec::new();
    let mut left = Vec::new();
    for stack in stacks_with_old(home, args.stack.as_ref())? {
        let found = Affected::find(home, stack, args)?;
        if found.is_empty() {
            left.extend(found.old.left);
        } else {
            affected.push(found);
        }
    }
    if affected.is_empty() {
        writeln!(out, "Nothing to wipe.")?;
        print_left(&left, out)?;
        return Ok(Outcome::Done);
    }
    for found in &affected {
        found.show(out)?;
    }
    out.flush()?;
    if !args.yes && !confirm(out)? {
        writeln!(out, "Nothing was wiped.")?;
        return Ok(Outcome::Problems);
    }
    let mut outcome = Outcome::Done;
    for found in &affected {
        let stack = escape(&found.stack);
        if let Some(store) = &found.store {
            let series = store.wipe(&args.scope())?;
            writeln!(out, "{stack}: wiped {series} series.")?;
        }
        // The files that are there now, as the store wipes the records that are there now: a daemon
        // may have rotated its files while the question was open.
        let deleted = OldFiles::delete(home, &found.stack, args.server.as_ref(), args.signal)?;
        let count = deleted.total();
        if count.files > 0 {
            writeln!(out, "{stack}: deleted {count}.")?;
        }
        if deleted.failed {
            outcome = Outcome::Problems;
        }
        left.extend(deleted.left);
    }
    print_left(&left, out)?;
    out.flush()?;
    // Not earlier: until everything is deleted, an interrupt ends the program at once.
    let interrupt = Interrupt::install()?;
    for store in affected.iter().filter_map(|found| found.store.as_ref()) {
        outcome = match return_space(store, &interrupt, out)? {
            Outcome::Interrupted => return Ok(Outcome::Interrupted),
            Outcome::Problems => Outcome::Problems,
            Outcome::Done => outcome,
        };
    }
    Ok(outcome)
}

/// What a wipe deletes of a stack.
struct Affected {
    stack: String,
    /// The database, if it holds records of the scope.
    store: Option<Store>,
    records: Vec<InventoryRecord>,
    old: OldFiles,
}

impl Affected {
    fn find(home: &Path, stack: String, args: &Args) -> anyhow::Result<Affected> {
        let mut store = Store::open_existing(home, &stack, store_options())?;
        let mut records = Vec::new();
        if let Some(open) = &store {
            records = open.snapshot()?.inventory(args.server.as_deref())?;
            records.retain(|record| args.signal.is_none_or(|signal| signal == record.signal));
        }
        if records.is_empty() {
            store = None;
        }
        let old = OldFiles::find(home, &stack, args.server.as_ref(), args.signal)?;
        Ok(Affected {
            stack,
            store,
            records,
            old,
        })
    }

    fn is_empty(&self) -> bool {
        self.records.is_empty() && self.old.found.is_empty()
    }

    fn show(&self, out: &mut impl Write) -> io::Result<()> {
        for record in &self.records {
            writeln!(out, "{}", describe(&self.stack, record))?;
        }
        for ((server, signal), count) in &self.old.found {
            let (stack, server) = (escape(&self.stack), escape(server));
            writeln!(out, "{stack}/{server} {signal}: {count}")?;
        }
        Ok(())
    }
}

fn print_left(left: &[(PathBuf, String)], out: &mut impl Write) -> io::Result<()> {
    for (path, reason) in left {
        let path = escape(&path.display().to_string());
        writeln!(out, "left alone: {path}: {}", escape(reason))?;
    }
    Ok(())
}

/// Returns the disk space of wiped records to the file system. Failures do not affect the wipe.
fn return_space(
    store: &Store,
    interrupt: &Interrupt,
    out: &mut impl Write,
) -> anyhow::Result<Outcome> {
    let stack = store.stack();
    let outcome = match compact(store, PATIENCE, interrupt) {
        Ok(compacted) => {
            writeln!(out, "{}", describe_compacted(stack, &compacted))?;
            out.flush()?;
            return Ok(Outcome::Done);
        }
        Err(Error::ReaderInTheWay { .. }) => {
            note(&format!(
                "{stack}: wiped, but a reader still uses the disk space: run `compact` once it ends"
            ));
            Outcome::Done
        }
        Err(Error::Cancelled { .. }) => {
            note(&format!(
                "{stack}: wiped, but interrupted before the disk space was returned: run `compact`"
            ));
            Outcome::Interrupted
        }
        Err(error) => {
            note(&format!("warning: {stack}: {error}"));
            Outcome::Problems
        }
    };
    Ok(outcome)
}

fn describe(stack: &str, record: &InventoryRecord) -> String {
    format!(
        "{}/{} {}: {} records, {}, {} to {}",
        escape(stack),
        escape(&record.server),
        record.signal,
        record.record_count,
        ByteSize::b(record.size_bytes).display().iec(),
        record.oldest_time,
        record.newest_time
    )
}

fn confirm(out: &mut impl Write) -> anyhow::Result<bool> {
    write!(out, "Delete all of this permanently? [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    let stdin = io::stdin();
    // A pipe may give the answer; an empty one has none.
    if stdin.read_line(&mut answer)? == 0 && !stdin.is_terminal() {
        writeln!(out)?;
        bail!("standard input has no answer: pass --yes to wipe without asking");
    }
    Ok(matches!(
        answer.trim().to_ascii_lowercase().as_str(),
        "y" | "yes"
    ))
}
