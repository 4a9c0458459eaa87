//! `wipe`: delete what is stored, after showing what that is.

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

/// How long a reader is waited for before its disk blocks are left to `compact`.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The stack to wipe [default: all]
    stack: Option<String>,
    /// This server alone
    #[arg(long, value_name = "NAME")]
    server: Option<ServerName>,
    /// This signal alone: logs, metrics or traces
    #[arg(long)]
    signal: Option<Signal>,
    /// Do not ask
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
    // Not before: until something is deleted, an interrupt ends the program at once.
    let interrupt = Interrupt::install()?;
    let mut outcome = Outcome::Done;
    for (store, _) in &affected {
        outcome = match give_back(store, &interrupt, out)? {
            Outcome::Interrupted => return Ok(Outcome::Interrupted),
            Outcome::Problems => Outcome::Problems,
            Outcome::Done => outcome,
        };
    }
    Ok(outcome)
}

/// Gives back what the wipe left in the file. It is deleted already, whatever becomes of this.
fn give_back(
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
                "{stack}: somebody reads it; once that ends, `compact` gives the disk blocks back"
            ));
            Outcome::Done
        }
        Err(Error::Cancelled { .. }) => {
            note(&format!(
                "{stack}: interrupted; it is wiped, and `compact` gives the disk blocks back"
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
        bail!("nobody can be asked here: pass --yes to wipe without asking");
    }
    write!(out, "Delete this for good? [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(
        answer.trim().to_ascii_lowercase().as_str(),
        "y" | "yes"
    ))
}
