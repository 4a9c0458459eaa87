//! `losses`: the records that were lost, when and why, and those that limits evicted.

use super::store_options;
use crate::{
    Outcome,
    old_files::stack_folders,
    output::note,
    scope::ScopeArgs,
    screen::{Role, Screen},
    table::Table,
    window::WindowArgs,
};
use gridctl_telemetry::{
    ServerName, Store,
    ledger::{LedgerEntry, LossCause},
    query::TimeRange,
};
use gridctl_telemetry_server::{
    display::{escape, losses},
    shapes::{LossShape, LossesShape},
};
use std::{collections::BTreeSet, io::Write, path::Path};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    scope: ScopeArgs,
    #[command(flatten)]
    window: WindowArgs,
    /// Print JSON: the entries that were lost, and those that were evicted
    #[arg(long)]
    json: bool,
}

/// Ends with [`Outcome::Problems`] if anything was lost, so that a script can watch it.
pub(crate) fn run(
    home: &Path,
    screen: &Screen,
    args: &Args,
    out: &mut impl Write,
) -> anyhow::Result<Outcome> {
    let range = args.window.range(screen)?;
    let known: Vec<String> = stack_folders(home)?.into_iter().collect();
    let (stacks, servers) = args.scope.resolve_each(home, &known)?;
    let is_only = stacks.len() == 1;
    let mut report = LossesShape::default();
    let mut outcome = Outcome::Done;
    for stack in stacks {
        match read(home, &stack, &servers, range) {
            Ok(entries) => {
                for entry in entries {
                    report.add(&stack, entry);
                }
            }
            // One damaged stack must not hide the losses of the others.
            Err(error) if !is_only => {
                note(&format!("error: {stack}: {error}"));
                outcome = Outcome::Problems;
            }
            Err(error) => return Err(error.into()),
        }
    }
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &report)?;
        writeln!(out)?;
    } else {
        print(&report, screen, out)?;
    }
    out.flush()?;
    Ok(if report.lost.is_empty() {
        outcome
    } else {
        Outcome::Problems
    })
}

/// The entries of a stack that overlap `range` and can be about one of `servers`.
fn read(
    home: &Path,
    stack: &str,
    servers: &[ServerName],
    range: TimeRange,
) -> gridctl_telemetry::Result<Vec<LedgerEntry>> {
    let Some(store) = Store::open_read_only(home, stack, store_options())? else {
        return Ok(Vec::new());
    };
    let mut entries = store.snapshot()?.ledger(range)?;
    entries.retain(|entry| {
        let server = entry.server.as_ref();
        servers.is_empty() || server.is_none_or(|server| servers.contains(server))
    });
    Ok(entries)
}

fn print(report: &LossesShape, screen: &Screen, out: &mut impl Write) -> anyhow::Result<()> {
    if let Some(summary) = losses::summary(report.lost.iter().map(|lost| &lost.entry), |time| {
        screen.time(time)
    }) {
        print_lost(&report.lost, screen, out)?;
        let red = screen.style(Role::Error);
        writeln!(out, "{red}{}{red:#}", escape(&summary))?;
        let causes: BTreeSet<LossCause> = report.lost.iter().map(|lost| lost.entry.cause).collect();
        for cause in causes {
            if let Some(advice) = advice(cause) {
                writeln!(out, "{cause}: {advice}")?;
            }
        }
    } else {
        let green = screen.style(Role::Good);
        writeln!(out, "{green}No records were lost.{green:#}")?;
    }
    if !report.evicted.is_empty() {
        writeln!(out, "\nEvicted by limits, which are no losses:")?;
        print_evicted(&report.evicted, screen, out)?;
    }
    Ok(())
}

fn print_lost(lost: &[LossShape], screen: &Screen, out: &mut impl Write) -> anyhow::Result<()> {
    let header = [
        "STACK", "SERVER", "SIGNAL", "FROM", "TO", "RECORDS", "CAUSE",
    ];
    let mut table = Table::new(header, 5..6);
    for LossShape { stack, entry } in lost {
        let records = match entry.count {
            // A killed process cannot count the records that it had in memory.
            0 => "unknown".to_owned(),
            count => count.to_string(),
        };
        let recovered = match entry.recovered {
            0 => String::new(),
            recovered => format!(", {recovered} recovered"),
        };
        table.add([
            escape(stack),
            server(entry),
            signal(entry),
            screen.brief_time(entry.from),
            screen.brief_time(entry.to),
            records,
            format!("{}{recovered}", entry.cause),
        ]);
    }
    Ok(table.print(screen, out)?)
}

fn print_evicted(
    evicted: &[LossShape],
    screen: &Screen,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let mut table = Table::new(["STACK", "SERVER", "SIGNAL", "FROM", "TO", "RECORDS"], 5..6);
    for LossShape { stack, entry } in evicted {
        table.add([
            escape(stack),
            server(entry),
            signal(entry),
            screen.brief_time(entry.from),
            screen.brief_time(entry.to),
            entry.count.to_string(),
        ]);
    }
    Ok(table.print(screen, out)?)
}

fn server(entry: &LedgerEntry) -> String {
    let server = entry.server.as_ref();
    server.map_or_else(|| "any".to_owned(), |server| escape(server))
}

fn signal(entry: &LedgerEntry) -> String {
    let signal = entry.signal;
    signal.map_or_else(|| "any".to_owned(), |signal| signal.to_string())
}

/// What happened to records of this cause, and what to do about it.
fn advice(cause: LossCause) -> Option<&'static str> {
    match cause {
        LossCause::QueueFull => Some(
            "records arrived faster than the disk took them; a daemon can have a longer queue \
             (queue_bytes_max) or wait for room (WhenFull::Block)",
        ),
        LossCause::TooLarge => Some("records were larger than record_bytes_max allows"),
        LossCause::Invalid => Some(
            "records could not be encoded: nested too deep, or spans whose ids have a wrong length",
        ),
        LossCause::Closed => Some("records were offered after the daemon had closed its writer"),
        LossCause::DiskFault => {
            Some("the disk was full or failed until the daemon ended: `status` has its state")
        }
        LossCause::Crash => Some(
            "the process was killed; its last records may be missing, and those that it had written to \
             its spill file were recovered",
        ),
        LossCause::SetAside => Some(
            "the database could not be opened, and a new one began: `verify FILE --salvage DIR` gets out \
             what can be read of the file that `status` names",
        ),
        LossCause::Replaced => Some(
            "the database file was replaced, restored or deleted while a daemon had it open; the \
             records are in the other file, if that still exists",
        ),
        LossCause::Refused => Some(
            "an endpoint refused records that `forward` sent, and they are not there; `forward` said why, and \
             kept what it sent in the folder `refused` beside the database",
        ),
        LossCause::Damaged => Some(
            "stored records whose bytes changed on the disk: check the disk; `verify --salvage DIR` exports \
             all that can be read",
        ),
        _ => None,
    }
}
