//! `wipe`: show which records and old files would be deleted, ask, and delete them.

use super::{
    compact::{compact, describe as describe_compacted},
    store_options,
};
use crate::{
    Outcome,
    interrupt::Interrupt,
    old_files::{self, OldFiles},
    output::note,
    scope::{ScopeArgs, SignalParser},
    screen::Screen,
    window,
};
use anyhow::bail;
use bytesize::ByteSize;
use gridctl_telemetry::{
    Error, ServerName, Signal, Store, Timestamp,
    home::list_set_aside,
    maintenance::{CompactOptions, WipeScope},
    query::InventoryRecord,
};
use gridctl_telemetry_server::display::escape;
use std::{
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    time::Duration,
};

/// How long to wait for readers before the disk space is left to a later `compact`.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long to wait for readers, and for records that running writers have not committed, before records
/// that cannot be overwritten are reported.
const PATIENCE_TO_OVERWRITE: Duration = Duration::from_secs(4);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    scope: ScopeArgs,
    /// Wipe every stack
    #[arg(long)]
    all: bool,
    /// Only this signal
    #[arg(long, value_parser = SignalParser)]
    signal: Option<Signal>,
    /// Only records before this time: 30days (ago), yesterday, 2026-05-08, "2026-05-08 14:03", RFC 3339 or
    /// @UNIX. Counters go on from their present values
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    before: Option<String>,
    /// Also overwrite what wiped records have left in the files of the stack, those of earlier wipes
    /// included. Takes some seconds for each GiB that is kept, and a running daemon waits. A drive that
    /// moves blocks (an SSD), a file system that copies on write or has snapshots (btrfs, ZFS), and backups
    /// may still have them: only encryption of the whole disk protects from who reads the drive itself
    #[arg(long)]
    secure: bool,
    /// Do not ask for confirmation
    #[arg(long, short)]
    yes: bool,
}

/// What to delete of each stack.
#[derive(Debug)]
struct Wanted {
    /// Empty for all servers.
    servers: Vec<ServerName>,
    signal: Option<Signal>,
    before: Option<Timestamp>,
    /// Whether wiped records are overwritten.
    secure: bool,
}

impl Wanted {
    /// A scope for each server, or one for all.
    fn scopes(&self) -> impl Iterator<Item = WipeScope> {
        WipeScope::everything()
            .signal(self.signal)
            .before(self.before)
            .for_servers(&self.servers)
    }

    /// The files of the Go daemon that are deleted. A file is not cut at a time.
    fn old_files(&self, home: &Path, stack: &str, delete: bool) -> anyhow::Result<OldFiles> {
        if delete && self.before.is_none() {
            return OldFiles::delete(home, stack, &self.servers, self.signal, self.secure);
        }
        let mut found = OldFiles::find(home, stack, &self.servers, self.signal)?;
        if self.before.is_some() {
            let folder = old_files::stack_folder(home, stack);
            for ((server, signal), count) in std::mem::take(&mut found.found) {
                let reason = format!("{count} ({signal}): files are not cut at a time");
                found.left.push((folder.join(server.as_str()), reason));
            }
        }
        Ok(found)
    }
}

pub(crate) fn run(
    home: &Path,
    screen: &Screen,
    args: &Args,
    out: &mut impl Write,
) -> anyhow::Result<Outcome> {
    let known: Vec<String> = old_files::stack_folders(home)?.into_iter().collect();
    let (stacks, servers) = args.scope.resolve_to_delete(&known, args.all)?;
    let wanted = Wanted {
        servers,
        signal: args.signal,
        before: window::read("--before", args.before.as_deref(), screen)?,
        secure: args.secure,
    };
    let mut affected = Vec::new();
    let mut left = Vec::new();
    // Those without records of the scope, too: an earlier wipe may not have overwritten them.
    let mut overwritten = Vec::new();
    for stack in stacks {
        if wanted.secure {
            left.extend(list_set_aside(home, &stack)?.into_iter().map(|found| {
                let reason = "it was set aside because it is damaged, and may hold wiped records";
                (found.path, reason.to_owned())
            }));
            overwritten.extend(Store::open_existing(home, &stack, store_options())?);
        }
        left.extend(refused_batches(home, &stack, &wanted)?);
        let found = Affected::find(home, stack, &wanted)?;
        if found.is_empty() {
            left.extend(found.old.left);
        } else {
            affected.push(found);
        }
    }
    if affected.is_empty() {
        writeln!(out, "Nothing to wipe.")?;
        return finish(&overwritten, &left, &wanted, Outcome::Done, out);
    }
    for found in &affected {
        found.show(screen, out)?;
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
            let mut series = 0;
            for scope in wanted.scopes() {
                series += store.wipe(&scope)?;
            }
            writeln!(out, "{stack}: wiped {series} series.")?;
        }
        // The files that are there now, as the store wipes the records that are there now: a daemon
        // may have rotated its files while the question was open.
        let deleted = wanted.old_files(home, &found.stack, true)?;
        let count = deleted.total();
        if count.files > 0 {
            writeln!(out, "{stack}: deleted {count}.")?;
        }
        if deleted.failed {
            outcome = Outcome::Problems;
        }
        left.extend(deleted.left);
    }
    let stores = if wanted.secure {
        overwritten
    } else {
        (affected.into_iter())
            .filter_map(|found| found.store)
            .collect()
    };
    finish(&stores, &left, &wanted, outcome, out)
}

/// The batches that `forward` kept because an endpoint refused them. Each has records of several servers.
#[cfg(feature = "forward")]
fn refused_batches(
    home: &Path,
    stack: &str,
    wanted: &Wanted,
) -> anyhow::Result<Vec<(PathBuf, String)>> {
    let found = gridctl_telemetry_forward::refused_batches(&old_files::stack_folder(home, stack))?;
    let is_wanted = |signal| wanted.signal.is_none_or(|wanted| wanted == signal);
    let reason = "an endpoint refused this batch, which may hold wiped records: delete it yourself";
    Ok(found
        .into_iter()
        .filter(|(signal, _)| is_wanted(*signal))
        .map(|(_, path)| (path, reason.to_owned()))
        .collect())
}

#[cfg(not(feature = "forward"))]
#[expect(clippy::unnecessary_wraps, reason = "the same as with the feature")]
fn refused_batches(_: &Path, _: &str, _: &Wanted) -> anyhow::Result<Vec<(PathBuf, String)>> {
    Ok(Vec::new())
}

/// Prints which files are left, and returns the disk space of wiped records.
fn finish(
    stores: &[Store],
    left: &[(PathBuf, String)],
    wanted: &Wanted,
    mut outcome: Outcome,
    out: &mut impl Write,
) -> anyhow::Result<Outcome> {
    print_left(left, out)?;
    out.flush()?;
    if wanted.secure && !left.is_empty() {
        outcome = Outcome::Problems;
    }
    // Not earlier: until everything is deleted, an interrupt ends the program at once.
    let interrupt = Interrupt::install()?;
    for store in stores {
        outcome = match return_space(store, wanted.secure, &interrupt, out)? {
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
    /// The database, if it holds records or counters of the scope.
    store: Option<Store>,
    records: Vec<InventoryRecord>,
    /// The servers that have counters and no records of them any more.
    counters: Vec<ServerName>,
    old: OldFiles,
}

impl Affected {
    fn find(home: &Path, stack: String, wanted: &Wanted) -> anyhow::Result<Affected> {
        let mut store = Store::open_existing(home, &stack, store_options())?;
        let (mut records, mut counters) = (Vec::new(), Vec::new());
        if let Some(open) = &store {
            let snapshot = open.snapshot()?;
            for scope in wanted.scopes() {
                records.extend(snapshot.would_wipe(&scope)?);
                counters.extend(snapshot.would_wipe_counters(&scope)?);
            }
        }
        if records.is_empty() && counters.is_empty() {
            store = None;
        }
        let old = wanted.old_files(home, &stack, false)?;
        Ok(Affected {
            stack,
            store,
            records,
            counters,
            old,
        })
    }

    fn is_empty(&self) -> bool {
        self.store.is_none() && self.old.found.is_empty()
    }

    fn show(&self, screen: &Screen, out: &mut impl Write) -> io::Result<()> {
        for record in &self.records {
            writeln!(out, "{}", describe(&self.stack, record, screen))?;
        }
        for server in &self.counters {
            let (stack, server) = (escape(&self.stack), escape(server));
            writeln!(out, "{stack}/{server} metrics: counters")?;
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

/// Returns the disk space of wiped records to the file system, and overwrites it first if `secure`. Failures
/// do not affect the wipe.
fn return_space(
    store: &Store,
    secure: bool,
    interrupt: &Interrupt,
    out: &mut impl Write,
) -> anyhow::Result<Outcome> {
    let stack = escape(store.stack());
    let patience = if secure {
        PATIENCE_TO_OVERWRITE
    } else {
        PATIENCE
    };
    let options = CompactOptions::default().overwrite_deleted(secure);
    let outcome = match compact(store, options, patience, interrupt) {
        Ok(compacted) => {
            if secure {
                writeln!(
                    out,
                    "{stack}: overwrote what wiped records had left in its files"
                )?;
            }
            writeln!(out, "{}", describe_compacted(store.stack(), &compacted))?;
            out.flush()?;
            return Ok(Outcome::Done);
        }
        Err(Error::ReaderInTheWay { .. }) if secure => {
            note(&format!(
                "{stack}: wiped, but not overwritten: a reader still uses pages of wiped records; run \
                 `wipe --secure` again once it ends"
            ));
            Outcome::Problems
        }
        Err(Error::ReaderInTheWay { .. }) => {
            note(&format!(
                "{stack}: wiped, but a reader still uses the disk space: run `compact` once it ends"
            ));
            Outcome::Done
        }
        Err(Error::WriterInTheWay { .. }) => {
            note(&format!(
                "{stack}: wiped, but not all is overwritten: a running writer still keeps older records that \
                 it has not committed; see `status`, and run `wipe --secure` again"
            ));
            Outcome::Problems
        }
        Err(Error::Cancelled { .. }) => {
            let (done, next) = if secure {
                ("everything was overwritten", "wipe --secure")
            } else {
                ("the disk space was returned", "compact")
            };
            note(&format!(
                "{stack}: wiped, but interrupted before {done}: run `{next}`"
            ));
            Outcome::Interrupted
        }
        Err(error) if secure => {
            note(&format!(
                "warning: {stack}: wiped, but not overwritten: {error}"
            ));
            Outcome::Problems
        }
        Err(error) => {
            note(&format!("warning: {stack}: {error}"));
            Outcome::Problems
        }
    };
    Ok(outcome)
}

fn describe(stack: &str, record: &InventoryRecord, screen: &Screen) -> String {
    format!(
        "{}/{} {}: {} records, {}, {} to {}",
        escape(stack),
        escape(&record.server),
        record.signal,
        record.record_count,
        ByteSize::b(record.size_bytes).display().iec(),
        screen.time(record.oldest_time),
        screen.time(record.newest_time)
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
