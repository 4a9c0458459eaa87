//! `compact`: return the disk space of deleted records to the file system.

use super::store_options;
use crate::{
    Outcome,
    interrupt::Interrupt,
    output::{note, progress_bar},
    scope,
};
use bytesize::ByteSize;
use gridctl_telemetry::{
    Error, Store,
    home::list_stacks,
    maintenance::{CompactOptions, Compacted},
};
use gridctl_telemetry_server::display::escape;
use std::{io::Write, path::Path, time::Duration};

/// How long to wait for readers. An export of a large stack takes longer, and then an error is better
/// than a wait.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The stack to compact [default: all]
    stack: Option<String>,
}

pub(crate) fn run(home: &Path, args: &Args, out: &mut impl Write) -> anyhow::Result<Outcome> {
    let interrupt = Interrupt::install()?;
    let mut outcome = Outcome::Done;
    let mut found = false;
    let known = list_stacks(home)?;
    let stacks = match &args.stack {
        Some(_) if !known.is_empty() => {
            vec![scope::pick_stack(home, args.stack.as_ref(), &known)?]
        }
        _ => known,
    };
    for stack in stacks {
        let compacted = match Store::open_existing(home, &stack, store_options()) {
            Ok(Some(store)) => compact(&store, CompactOptions::default(), PATIENCE, &interrupt),
            Ok(None) => continue,
            Err(error) => Err(error),
        };
        found = true;
        match compacted {
            Ok(compacted) => writeln!(out, "{}", describe(&stack, &compacted))?,
            Err(Error::Cancelled { .. }) => {
                note("interrupted; nothing was lost: run `compact` again to return the rest");
                return Ok(Outcome::Interrupted);
            }
            // One stack that cannot be compacted must not prevent compacting the others.
            Err(error) if args.stack.is_none() => {
                note(&format!("error: {stack}: {error}"));
                outcome = Outcome::Problems;
            }
            Err(error) => return Err(error.into()),
        }
        out.flush()?;
    }
    if !found {
        writeln!(out, "No telemetry.")?;
        out.flush()?;
    }
    Ok(outcome)
}

/// Compacts with a progress bar.
pub(super) fn compact(
    store: &Store,
    options: CompactOptions,
    patience: Duration,
    interrupt: &Interrupt,
) -> gridctl_telemetry::Result<Compacted> {
    let bar = progress_bar(0, "{msg} {wide_bar} {bytes}/{total_bytes}, {eta} left");
    bar.set_message(escape(store.stack()));
    let (shown, interrupt) = (bar.clone(), interrupt.clone());
    let options = options
        .on_progress(move |progress| {
            shown.set_length(progress.total_bytes);
            shown.set_position(progress.moved_bytes);
        })
        .cancel_when(move || interrupt.requested());
    let mut compacted = store.compact(options.clone());
    if let Err(Error::ReaderInTheWay { .. }) = compacted {
        let stack = store.stack();
        let seconds = patience.as_secs();
        let waiting = format!("{stack}: waiting up to {seconds} s for readers to end");
        bar.suspend(|| note(&waiting));
        compacted = store.compact(options.patience(patience));
    }
    bar.finish_and_clear();
    compacted
}

/// The result in one line.
pub(super) fn describe(stack: &str, compacted: &Compacted) -> String {
    let size = |bytes| ByteSize::b(bytes).display().iec();
    let used = size(compacted.after.used_bytes);
    let stack = escape(stack);
    match compacted.returned_bytes() {
        0 => format!("{stack}: no free space to return, {used} on disk"),
        returned => format!(
            "{stack}: {} returned to the file system, {used} on disk",
            size(returned)
        ),
    }
}
