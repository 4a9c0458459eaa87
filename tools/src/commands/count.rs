//! `count`: how many records match, by level, server, name, an entry or time.

use crate::{
    Outcome,
    damage::note_skipped,
    filters::{FilterArgs, SpanFilterArgs},
    intervals::Precision,
    output::note,
    scope::{ScopeArgs, SignalParser},
    screen::Screen,
    table::{FormArgs, Table},
};
use anyhow::bail;
use gridctl_telemetry::{
    Signal, Timestamp,
    query::{CountReport, CountRow},
};
use gridctl_telemetry_server::{
    display::{escape, grouped},
    input::CountText,
    shapes::OfRange,
};
use std::{cmp::Reverse, io::Write, path::Path};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    scope: ScopeArgs,
    /// The signal
    #[arg(long, default_value = "logs", value_parser = SignalParser)]
    signal: Signal,
    /// What to count by: level, server, name (of spans), field:KEY (an entry), hour, day, or any length of
    /// time such as 5m. Several divide the rows further: hour,level
    #[arg(
        long,
        value_name = "WHAT",
        value_delimiter = ',',
        default_value = "level"
    )]
    by: Vec<CountText>,
    #[command(flatten)]
    form: FormArgs,
    #[command(flatten)]
    filters: FilterArgs,
    #[command(flatten)]
    spans: SpanFilterArgs,
}

fn heading(by: &CountText) -> String {
    match by {
        CountText::Level => "LEVEL".to_owned(),
        CountText::Server => "SERVER".to_owned(),
        CountText::Name => "NAME".to_owned(),
        CountText::Field(key) => escape(key),
        CountText::Hour => "HOUR".to_owned(),
        CountText::Day => "DAY".to_owned(),
        CountText::Every(_) => "TIME".to_owned(),
    }
}

/// What a row has of this; `None` for records that have none of it.
fn cell(
    by: &CountText,
    row: &CountRow,
    write: impl Fn(Precision, Timestamp) -> String,
) -> Option<String> {
    match by {
        CountText::Level => row.level.map(|level| level.to_string()),
        CountText::Server => row.server.as_deref().map(escape),
        CountText::Name => row.name.as_deref().map(escape),
        CountText::Field(_) => row.value.as_deref().map(escape),
        CountText::Hour => row.time.map(|time| write(Precision::Minute, time)),
        CountText::Day => row.time.map(|time| write(Precision::Day, time)),
        CountText::Every(length) => row.time.map(|time| write(Precision::of(*length), time)),
    }
}

pub(crate) fn run(
    home: &Path,
    screen: &Screen,
    args: &Args,
    out: &mut impl Write,
) -> anyhow::Result<Outcome> {
    if let Some(conflict) = CountText::conflict(&args.by) {
        bail!("--by: {conflict}");
    }
    let filters = args.filters.read(screen)?;
    let spans = args.spans.read(args.signal, screen)?;
    let scope = args.scope.open(home)?;
    let query = filters.narrow(scope.query(args.signal)).skip_damaged();
    let query = spans
        .into_iter()
        .fold(query, gridctl_telemetry::Query::filter);
    let by = args.by.iter().map(|by| by.read(screen.zone()));
    let report = scope
        .store
        .count(&query, &by.collect::<Result<Vec<_>, _>>()?)?;
    let stack = scope.store.stack();
    let counts = OfRange::new(stack, Some(args.signal), filters.range, &report);
    args.form.print(
        out,
        &counts,
        |out| print_csv(&report, &args.by, out),
        |out| match report.total {
            0 => Ok(()),
            total => table(report.rows.clone(), total, &args.by, screen).print(screen, out),
        },
    )?;
    if report.others > 0 {
        note(&format!(
            "there are too many rows: {} records are in none, only in the total",
            grouped(report.others)
        ));
    }
    let is_damaged = note_skipped(&report.damage);
    if report.total == 0 {
        note("no record matches");
    }
    Ok(if report.total == 0 || is_damaged {
        Outcome::Problems
    } else {
        Outcome::Done
    })
}

/// Rows by time, those of one time by level, the highest first, or by their number, the most first.
fn table(mut rows: Vec<CountRow>, total: u64, by: &[CountText], screen: &Screen) -> Table {
    rows.sort_by_key(|row| (row.time, Reverse(row.level), Reverse(row.count)));
    let mut header: Vec<String> = by.iter().map(heading).collect();
    header.push("COUNT".to_owned());
    let mut table = Table::new(header, by.len()..by.len() + 1);
    let write = |precision: Precision, time| precision.write(time, screen);
    for row in &rows {
        let cells = by.iter().map(|by| cell(by, row, write));
        let cells = cells.map(|cell| cell.unwrap_or_else(|| "-".to_owned()));
        table.add_with_bar(cells.chain([grouped(row.count)]), row.count);
    }
    table.total(by.len(), [grouped(total)]);
    table
}

fn print_csv(report: &CountReport, by: &[CountText], out: &mut impl Write) -> std::io::Result<()> {
    let mut csv = csv::Writer::from_writer(out);
    let headings = by.iter().map(|by| match by {
        CountText::Field(_) => heading(by),
        by => heading(by).to_lowercase(),
    });
    csv.write_record(headings.chain(["count".to_owned()]))?;
    for row in &report.rows {
        let cells = by
            .iter()
            .map(|by| cell(by, row, |_, time| time.to_string()));
        let cells = cells.map(Option::unwrap_or_default);
        csv.write_record(cells.chain([row.count.to_string()]))?;
    }
    csv.flush()
}
