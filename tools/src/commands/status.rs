//! `status`: what is stored for whom.

use super::{stacks, store_options};
use crate::{
    Outcome, losses,
    output::{escape, note},
};
use bytesize::ByteSize;
use comfy_table::{CellAlignment, Table, presets};
use gridctl_telemetry::{DiskUsage, InventoryRecord, Loss, Store, Timestamp};
use serde::Serialize;
use std::{fmt::Write as _, io::Write, path::Path};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The stack to show [default: all]
    stack: Option<String>,
    /// Print a JSON array
    #[arg(long, conflicts_with = "plain")]
    json: bool,
    /// Print rows with a tab between columns, sizes in bytes
    #[arg(long)]
    plain: bool,
}

impl Args {
    /// A table of one stack.
    pub(super) fn of_stack(stack: &str) -> Args {
        Args {
            stack: Some(stack.to_owned()),
            json: false,
            plain: false,
        }
    }
}

/// A row of the listing.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    stack: String,
    server: String,
    signal: &'static str,
    path: String,
    size_bytes: u64,
    file_count: u64,
    record_count: u64,
    oldest: Timestamp,
    newest: Timestamp,
}

pub(crate) fn run(home: &Path, args: &Args, out: &mut impl Write) -> anyhow::Result<Outcome> {
    let mut rows = Vec::new();
    let mut footers = Vec::new();
    let mut outcome = Outcome::Done;
    for stack in stacks(home, args.stack.as_ref())? {
        match examine(home, &stack) {
            Ok(Some(found)) => {
                rows.extend(found.inventory.iter().map(|record| row(&stack, record)));
                footers.push(footer(&stack, &found));
            }
            Ok(None) => {}
            // One damaged stack must not hide the others, unless it alone was asked for.
            Err(error) if args.stack.is_none() => {
                note(&format!("error: {stack}: {error}"));
                outcome = Outcome::Problems;
            }
            Err(error) => return Err(error.into()),
        }
    }
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &rows)?;
        writeln!(out)?;
    } else if args.plain {
        writeln!(
            out,
            "STACK\tSERVER\tSIGNAL\tSIZE\tFILES\tRECORDS\tOLDEST\tNEWEST"
        )?;
        for row in &rows {
            writeln!(
                out,
                "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}",
                escape(&row.stack),
                escape(&row.server),
                row.signal,
                row.size_bytes,
                row.file_count,
                row.record_count,
                row.oldest,
                row.newest
            )?;
        }
    } else if rows.is_empty() {
        writeln!(out, "No telemetry.")?;
        for footer in footers {
            write!(out, "{footer}")?;
        }
    } else {
        writeln!(out, "{}", table(&rows))?;
        for footer in footers {
            write!(out, "{footer}")?;
        }
    }
    out.flush()?;
    Ok(outcome)
}

/// What is known of a stack.
struct Found {
    inventory: Vec<InventoryRecord>,
    usage: DiskUsage,
    losses: Vec<Loss>,
}

fn examine(home: &Path, stack: &str) -> gridctl_telemetry::Result<Option<Found>> {
    let Some(store) = Store::open_read_only(home, stack, store_options())? else {
        return Ok(None);
    };
    let snapshot = store.snapshot()?;
    Ok(Some(Found {
        inventory: snapshot.inventory(None)?,
        usage: store.disk_usage()?,
        losses: snapshot.losses(..)?,
    }))
}

/// What is said of a stack as a whole.
fn footer(stack: &str, found: &Found) -> String {
    let stack = escape(stack);
    let size = ByteSize::b(found.usage.used_bytes).display().iec();
    let mut footer = format!("{stack}: {size} on disk\n");
    if let Some(losses) = losses::summary(&found.losses) {
        let _ = writeln!(footer, "{stack}: {losses}");
    }
    footer
}

fn row(stack: &str, record: &InventoryRecord) -> Row {
    Row {
        stack: stack.to_owned(),
        server: record.server.to_string(),
        signal: record.signal.as_str(),
        path: record.path.display().to_string(),
        size_bytes: record.size_bytes,
        file_count: record.file_count,
        record_count: record.record_count,
        oldest: record.oldest_time,
        newest: record.newest_time,
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "STACK", "SERVER", "SIGNAL", "SIZE", "FILES", "RECORDS", "OLDEST", "NEWEST",
    ]);
    for row in rows {
        table.add_row([
            escape(&row.stack),
            escape(&row.server),
            row.signal.to_owned(),
            ByteSize::b(row.size_bytes).display().iec().to_string(),
            row.file_count.to_string(),
            row.record_count.to_string(),
            row.oldest.to_string(),
            row.newest.to_string(),
        ]);
    }
    for index in 3..6 {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}
