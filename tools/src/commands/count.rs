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
    query::{CountBy, CountReport, CountRow, Interval},
};
use gridctl_telemetry_server::display::{escape, grouped};
use serde::Serialize;
use std::{cmp::Reverse, io::Write, path::Path, str::FromStr, time::Duration};

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
    by: Vec<By>,
    #[command(flatten)]
    form: FormArgs,
    #[command(flatten)]
    filters: FilterArgs,
    #[command(flatten)]
    spans: SpanFilterArgs,
}

/// What to count by.
#[derive(Debug, Clone, PartialEq, Eq)]
enum By {
    Level,
    Server,
    Name,
    Field(String),
    Hour,
    Day,
    Every(Duration),
}

impl FromStr for By {
    type Err = String;

    fn from_str(text: &str) -> Result<By, String> {
        const HOUR: Duration = Duration::from_secs(3600);
        const DAY: Duration = Duration::from_secs(24 * 3600);
        match text {
            "level" => Ok(By::Level),
            "server" => Ok(By::Server),
            "name" => Ok(By::Name),
            "hour" => Ok(By::Hour),
            "day" => Ok(By::Day),
            _ => match (text.strip_prefix("field:"), humantime::parse_duration(text)) {
                (Some(key), _) if !key.is_empty() => Ok(By::Field(key.to_owned())),
                (None, Ok(HOUR)) => Ok(By::Hour),
                (None, Ok(DAY)) => Ok(By::Day),
                (None, Ok(length)) => match Interval::every(length) {
                    Ok(_) => Ok(By::Every(length)),
                    Err(error) => Err(error.to_string()),
                },
                _ => Err(
                    "expected level, server, name, field:KEY, hour, day or a length of time such as 5m"
                        .to_owned(),
                ),
            },
        }
    }
}

impl By {
    fn count_by(&self, screen: &Screen) -> gridctl_telemetry::Result<CountBy> {
        let zone = screen.zone().clone();
        let zone = move |time| zone.offset_at(time);
        Ok(match self {
            By::Level => CountBy::Level,
            By::Server => CountBy::Server,
            By::Name => CountBy::Name,
            By::Field(key) => CountBy::Field(key.clone()),
            By::Hour => CountBy::Interval(Interval::hours(zone)),
            By::Day => CountBy::Interval(Interval::days(zone)),
            By::Every(length) => CountBy::Interval(Interval::every(*length)?),
        })
    }

    fn heading(&self) -> String {
        match self {
            By::Level => "LEVEL".to_owned(),
            By::Server => "SERVER".to_owned(),
            By::Name => "NAME".to_owned(),
            By::Field(key) => escape(key),
            By::Hour => "HOUR".to_owned(),
            By::Day => "DAY".to_owned(),
            By::Every(_) => "TIME".to_owned(),
        }
    }

    /// What a row has of this; `None` for records that have none of it.
    fn cell(
        &self,
        row: &CountRow,
        write: impl Fn(Precision, Timestamp) -> String,
    ) -> Option<String> {
        match self {
            By::Level => row.level.map(|level| level.to_string()),
            By::Server => row.server.as_deref().map(escape),
            By::Name => row.name.as_deref().map(escape),
            By::Field(_) => row.value.as_deref().map(escape),
            By::Hour => row.time.map(|time| write(Precision::Minute, time)),
            By::Day => row.time.map(|time| write(Precision::Day, time)),
            By::Every(length) => row.time.map(|time| write(Precision::of(*length), time)),
        }
    }
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    stack: &'a str,
    signal: Signal,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
    #[serde(flatten)]
    counts: &'a CountReport,
}

pub(crate) fn run(
    home: &Path,
    screen: &Screen,
    args: &Args,
    out: &mut impl Write,
) -> anyhow::Result<Outcome> {
    check(&args.by)?;
    let filters = args.filters.read(screen)?;
    let spans = args.spans.read(args.signal, screen)?;
    let scope = args.scope.open(home)?;
    let query = filters.narrow(scope.query(args.signal)).skip_damaged();
    let query = spans
        .into_iter()
        .fold(query, gridctl_telemetry::Query::filter);
    let by = args.by.iter().map(|by| by.count_by(screen));
    let report = scope
        .store
        .count(&query, &by.collect::<Result<Vec<_>, _>>()?)?;
    let counts = Report {
        stack: scope.store.stack(),
        signal: args.signal,
        since: filters.range.since,
        until: filters.range.until,
        counts: &report,
    };
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

/// Fails when rows would need two times or two entries.
fn check(by: &[By]) -> anyhow::Result<()> {
    let is_time = |by: &&By| matches!(by, By::Hour | By::Day | By::Every(_));
    if by.iter().filter(is_time).count() > 1 {
        bail!("--by: a record is counted in one length of time: name one of them");
    }
    let is_field = |by: &&By| matches!(by, By::Field(_));
    if by.iter().filter(is_field).count() > 1 {
        bail!("--by: records are counted by one field:KEY: name one, or filter by --field");
    }
    Ok(())
}

/// Rows by time, those of one time by level, the highest first, or by their number, the most first.
fn table(mut rows: Vec<CountRow>, total: u64, by: &[By], screen: &Screen) -> Table {
    rows.sort_by_key(|row| (row.time, Reverse(row.level), Reverse(row.count)));
    let mut header: Vec<String> = by.iter().map(By::heading).collect();
    header.push("COUNT".to_owned());
    let mut table = Table::new(header, by.len()..by.len() + 1);
    let write = |precision: Precision, time| precision.write(time, screen);
    for row in &rows {
        let cells = by.iter().map(|by| by.cell(row, write));
        let cells = cells.map(|cell| cell.unwrap_or_else(|| "-".to_owned()));
        table.add_with_bar(cells.chain([grouped(row.count)]), row.count);
    }
    table.total(by.len(), [grouped(total)]);
    table
}

fn print_csv(report: &CountReport, by: &[By], out: &mut impl Write) -> std::io::Result<()> {
    let mut csv = csv::Writer::from_writer(out);
    let headings = by.iter().map(|by| match by {
        By::Field(_) => by.heading(),
        by => by.heading().to_lowercase(),
    });
    csv.write_record(headings.chain(["count".to_owned()]))?;
    for row in &report.rows {
        let cells = by.iter().map(|by| by.cell(row, |_, time| time.to_string()));
        let cells = cells.map(Option::unwrap_or_default);
        csv.write_record(cells.chain([row.count.to_string()]))?;
    }
    csv.flush()
}
