//! `tail`: the last records of a server, and new ones as they arrive.

use super::wait_for_arrival;
use crate::{
    Outcome,
    interrupt::Interrupt,
    scope::{ScopeArgs, SignalParser},
};
use gridctl_telemetry::{
    Query, Signal, Snapshot,
    lines::{LineFormat, LineWriter},
    query::Direction,
};
use std::{io::Write, path::Path};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    scope: ScopeArgs,
    /// The signal
    #[arg(long, default_value = "logs", value_parser = SignalParser)]
    signal: Signal,
    /// The number of records to print
    #[arg(long, short = 'n', default_value_t = 10, value_name = "N")]
    lines: usize,
    /// Print new records as they arrive, until interrupted
    #[arg(long, short)]
    follow: bool,
}

pub(crate) fn run(home: &Path, args: &Args, out: &mut impl Write) -> anyhow::Result<Outcome> {
    let scope = args.scope.open(home)?;
    let query = scope.query(args.signal);
    let snapshot = scope.store.snapshot()?;
    let found = print_last(&snapshot, &query, args.lines, out)?;
    if !args.follow {
        return Ok(if found {
            Outcome::Done
        } else {
            Outcome::Problems
        });
    }
    let interrupt = Interrupt::install()?;
    let mut arrivals = scope.store.arrivals(snapshot.next_sequence()?)?;
    drop(snapshot);
    while let Some(arrival) = wait_for_arrival(&mut arrivals, &interrupt)? {
        let query = query.clone().since_sequence(arrival.since_sequence);
        print(&arrival.snapshot, &query, out)?;
    }
    Ok(Outcome::Done)
}

/// Prints the last `count` records, oldest first. Keeps their lines and not the decoded records.
fn print_last(
    snapshot: &Snapshot,
    query: &Query,
    count: usize,
    out: &mut impl Write,
) -> anyhow::Result<bool> {
    let mut scan = snapshot.scan(&query.clone().direction(Direction::Backward))?;
    let mut lines = Vec::new();
    while lines.len() < count
        && let Some(record) = scan.next()?
    {
        let mut writer = LineWriter::new(LineFormat::Ndjson);
        let mut line = Vec::new();
        writer.write(&record, &mut line)?;
        writer.finish(&mut line);
        lines.push(line);
    }
    for line in lines.iter().rev() {
        out.write_all(line)?;
    }
    out.flush()?;
    Ok(!lines.is_empty())
}

fn print(snapshot: &Snapshot, query: &Query, out: &mut impl Write) -> anyhow::Result<()> {
    let mut scan = snapshot.scan(query)?;
    let mut writer = LineWriter::new(LineFormat::Ndjson);
    let mut lines = Vec::new();
    while let Some(record) = scan.next()? {
        writer.write(&record, &mut lines)?;
        out.write_all(&lines)?;
        lines.clear();
    }
    writer.finish(&mut lines);
    out.write_all(&lines)?;
    Ok(out.flush()?)
}
