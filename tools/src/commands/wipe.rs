//! `wipe`: show which records would be deleted, ask, and delete them.

use super::{
    compact::{compact, describe as describe_compacted},
    stacks, store_options,
};
use crate::{
    Outcome,
    interrupt::Interrupt,
    output::{escape, note},
};
use anyhow::bail;
use bytesize::ByteSize;
use gridctl_telemetry::{
    Error, ServerName, Signal, Store, maintenance::WipeScope, query::InventoryRecord,
};
use std::{
    io::{self, IsTerminal, Write},
    path::Path,
    time::Duration,
};

/// How long to wait for readers before the disk space is left to a later `compact`.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The stack to wipe [default: all]
    stack: Option<String>,
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

pub(crate) fn run(home: &Path, args: &Args, out: &mut impl Write) -> anyhow::Result<Outcome> {
    let scope = WipeScope::everything()
        .server(args.server.clone())
        .signal(args.signal);
    let mut affected = Vec::new();
    for stack in stacks(home, args.stack.as_ref())? {
        let Some(store) = Store::open_existing(home, &stack, store_options())? else {
            continue;
        };
        let mut records = store.snapshot()?.inventory(args.server.as_deref())?;
        records.retain(|record| args.signal.is_none_or(|signal| signal == record.signal));
        if !records.is_empty() {
            affected.push((store, records));
        }
    }
    if affected.is_empty() {
        writeln!(out, "Nothing to wipe.")?;
        return Ok(Outcome::Done);
    }
    for (store, records) in &affected {
        for record in records {
            writeln!(out, "{}", describe(store.stack(), record))?;
        }
    }
    out.flush()?;
    if !args.yes && !confirm(out)? {
        writeln!(out, "Nothing was wiped.")?;
        return Ok(Outcome::Problems);
    }
    for (store, _) in &affected {
        let series = store.wipe(&scope)?;
        writeln!(out, "{}: wiped {series} series.", escape(store.stack()))?;
    }
    out.flush()?;
    // Not earlier: until records are deleted, an interrupt ends the program at once.
    let interrupt = Interrupt::install()?;
    let mut outcome = Outcome::Done;
    for (store, _) in &affected {
        outcome = match return_space(store, &interrupt, out)? {
            Outcome::Interrupted => return Ok(Outcome::Interrupted),
            Outcome::Problems => Outcome::Problems,
            Outcome::Done => outcome,
        };
    }
    Ok(outcome)
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
    if !io::stdin().is_terminal() {
        bail!(
            "cannot ask for confirmation because standard input is not a terminal: pass --yes to \
             wipe without asking"
        );
    }
    write!(out, "Delete these records permanently? [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(
        answer.trim().to_ascii_lowercase().as_str(),
        "y" | "yes"
    ))
}
