//! `status`: the stored records of each server, the disk space and the losses.

mod found;
mod old;

use self::{
    found::{Found, Limits, Series, read_config},
    old::Old,
};
use crate::{
    Outcome, old_files::stack_folders, output::note, scope::ScopeArgs, screen::Screen, table::Table,
};
use anyhow::bail;
use gridctl_telemetry::{Signal, Timestamp, maintenance::Space};
use gridctl_telemetry_server::display::{self, escape, per_second, percent};
use serde::Serialize;
use std::{
    io::Write,
    path::{Path, PathBuf},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    scope: ScopeArgs,
    /// Show the disk space of each stack, and how much of it is live and free
    #[arg(long)]
    space: bool,
    /// Compare with a configuration (JSON): which servers never log, which are not configured, and
    /// what its limits would delete
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON: the inventory, and the state of each stack with its writers and its ledger
    #[arg(long, conflicts_with = "plain")]
    json: bool,
    /// Print rows with a tab between columns, and sizes in bytes
    #[arg(long)]
    plain: bool,
}

impl Args {
    /// A table of one stack.
    pub(super) fn of_stack(stack: &str) -> Args {
        Args {
            scope: ScopeArgs::of_stack(stack),
            space: false,
            config: None,
            json: false,
            plain: false,
        }
    }
}

/// A row of the listing, by the names that the Go program gives its fields.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row<'a> {
    stack: &'a str,
    server: &'a str,
    signal: Signal,
    path: String,
    size_bytes: u64,
    file_count: u64,
    record_count: u64,
    oldest: Timestamp,
    newest: Timestamp,
    /// Of the last minute.
    records_per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<Limits>,
}

impl<'a> Row<'a> {
    fn new(stack: &'a str, series: &'a Series) -> Row<'a> {
        let record = &series.record;
        Row {
            stack,
            server: &record.server,
            signal: record.signal,
            path: record.path.display().to_string(),
            size_bytes: record.size_bytes,
            file_count: record.file_count,
            record_count: record.record_count,
            oldest: record.oldest_time,
            newest: record.newest_time,
            records_per_second: series.rate,
            limits: series.limits,
        }
    }

    /// The part of the size limit that is used.
    fn full(&self) -> String {
        self.limits.map_or_else(String::new, |limits| {
            percent(self.size_bytes, limits.max_bytes)
        })
    }
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    inventory: Vec<Row<'a>>,
    stacks: &'a [Found],
    daemon_files: &'a [Old],
}

/// A row of the listing of disk space.
#[derive(Debug, Serialize)]
struct SpaceRow<'a> {
    stack: &'a str,
    path: &'a str,
    #[serde(flatten)]
    space: Space,
}

pub(crate) fn run(
    home: &Path,
    screen: &Screen,
    args: &Args,
    out: &mut impl Write,
) -> anyhow::Result<Outcome> {
    let config = args.config.as_deref().map(read_config).transpose()?;
    if config.is_some() && args.scope.is_empty() {
        bail!("name the stack to compare with the configuration");
    }
    let known: Vec<String> = stack_folders(home)?.into_iter().collect();
    let (stacks, servers) = match args.scope.resolve_each(home, &known) {
        Ok(named) => named,
        Err(error) => {
            // Programs that read the output find that there is nothing.
            if args.json {
                print(&[], &[], args, screen, out)?;
                out.flush()?;
            }
            return Err(error);
        }
    };
    let is_only = stacks.len() == 1;
    let mut found = Vec::new();
    let mut old: Vec<Old> = Vec::new();
    let mut outcome = Outcome::Done;
    for stack in stacks {
        match Found::examine(home, &stack, &servers, config.as_ref()) {
            Ok(database) => {
                found.extend(database);
                old.extend(Old::find(home, &stack)?);
            }
            // One damaged stack must not hide the others.
            Err(error) if !is_only => {
                note(&format!("error: {stack}: {error}"));
                outcome = Outcome::Problems;
            }
            Err(error) => return Err(error.into()),
        }
    }
    // "No telemetry." would be untrue of a stack that cannot be read.
    let has_table = args.json || args.plain || found.iter().any(|found| !found.series.is_empty());
    if has_table || outcome == Outcome::Done {
        print(&found, &old, args, screen, out)?;
    } else {
        for found in &found {
            found.describe(screen, out)?;
        }
    }
    for old in &old {
        if args.json || args.plain {
            note(&old.to_string());
        } else {
            writeln!(out, "{}", escape(&old.to_string()))?;
        }
    }
    out.flush()?;
    Ok(outcome)
}

fn print(
    found: &[Found],
    old: &[Old],
    args: &Args,
    screen: &Screen,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    if args.space {
        print_space(found, args, screen, out)
    } else {
        print_records(found, old, args, screen, out)
    }
}

fn print_records(
    found: &[Found],
    old: &[Old],
    args: &Args,
    screen: &Screen,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let rows: Vec<Row<'_>> = found
        .iter()
        .flat_map(|found| {
            let series = found.series.iter();
            series.map(|series| Row::new(&found.stack, series))
        })
        .collect();
    if args.json {
        let report = Report {
            inventory: rows,
            stacks: found,
            daemon_files: old,
        };
        return print_json(&report, out);
    }
    if args.plain {
        return print_plain(&rows, out);
    }
    let mut table = Table::new(
        [
            "STACK", "SERVER", "SIGNAL", "RECORDS", "PER S", "SIZE", "FULL", "OLDEST", "NEWEST",
        ],
        3..7,
    );
    for row in &rows {
        table.add([
            escape(row.stack),
            escape(row.server),
            row.signal.to_string(),
            row.record_count.to_string(),
            per_second(row.records_per_second),
            display::size(row.size_bytes),
            row.full(),
            screen.brief_time(row.oldest),
            screen.brief_time(row.newest),
        ]);
    }
    if table.is_empty() {
        writeln!(out, "No telemetry.")?;
    } else {
        table.print(screen, out)?;
    }
    for found in found {
        found.describe(screen, out)?;
    }
    Ok(())
}

/// Prints the columns that the Go program has, in its order.
fn print_plain(rows: &[Row<'_>], out: &mut impl Write) -> anyhow::Result<()> {
    let mut table = Table::new(
        [
            "STACK", "SERVER", "SIGNAL", "SIZE", "FILES", "RECORDS", "OLDEST", "NEWEST",
        ],
        3..6,
    );
    for row in rows {
        table.add([
            escape(row.stack),
            escape(row.server),
            row.signal.to_string(),
            row.size_bytes.to_string(),
            row.file_count.to_string(),
            row.record_count.to_string(),
            row.oldest.to_string(),
            row.newest.to_string(),
        ]);
    }
    Ok(table.print_plain(out)?)
}

fn print_space(
    found: &[Found],
    args: &Args,
    screen: &Screen,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let rows: Vec<SpaceRow<'_>> = found
        .iter()
        .map(|found| SpaceRow {
            stack: &found.stack,
            path: &found.path,
            space: found.space,
        })
        .collect();
    if args.json {
        return print_json(&rows, out);
    }
    let mut table = Table::new(
        ["STACK", "LIVE", "FREE", "RESERVE", "USED", "FILE", "LIMIT"],
        1..7,
    );
    for SpaceRow { stack, space, .. } in &rows {
        table.add([
            escape(stack),
            size(space.live_bytes, args),
            size(space.free_bytes, args),
            size(space.reserve_bytes, args),
            size(space.used_bytes, args),
            size(space.file_bytes, args),
            space
                .limit_bytes
                .map_or_else(String::new, |bytes| size(bytes, args)),
        ]);
    }
    if args.plain {
        table.print_plain(out)?;
    } else if table.is_empty() {
        writeln!(out, "No telemetry.")?;
    } else {
        table.print(screen, out)?;
    }
    Ok(())
}

fn print_json(rows: &impl Serialize, out: &mut impl Write) -> anyhow::Result<()> {
    serde_json::to_writer_pretty(&mut *out, rows)?;
    writeln!(out)?;
    Ok(())
}

/// A size, rounded with a unit, or in bytes with `--plain`.
fn size(bytes: u64, args: &Args) -> String {
    if args.plain {
        bytes.to_string()
    } else {
        display::size(bytes)
    }
}
