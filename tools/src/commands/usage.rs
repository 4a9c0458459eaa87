//! `usage`: tokens, costs and calls by server, tool, hour, day, model or skill.

use crate::{
    Outcome,
    damage::{describe, skipped},
    intervals::Precision,
    output::note,
    scope::ScopeArgs,
    screen::Screen,
    table::{FormArgs, Table},
    window::WindowArgs,
};
use gridctl_telemetry::{
    ServerName, Signal, Timestamp,
    query::{TimeRange, UsageBy, UsageCounts, UsageQuery, UsageReport, UsageRow},
};
use gridctl_telemetry_server::{
    display::{MICROS_PER_USD, decimals, escape, grouped, losses, micro_usd, usd},
    shapes::OfRange,
};
use std::{cmp::Reverse, io::Write, path::Path};

/// How far back usage is summed up unless a time is given.
const SINCE_DEFAULT: &str = "24h";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    scope: ScopeArgs,
    #[command(flatten)]
    window: WindowArgs,
    /// What to sum up by. Several divide the rows further: server,day
    #[arg(
        long,
        value_name = "WHAT",
        value_delimiter = ',',
        default_value = "server"
    )]
    by: Vec<By>,
    #[command(flatten)]
    form: FormArgs,
}

/// What to sum up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum By {
    /// The server that was called
    Server,
    /// The tool that was called. Costs are not known by tool
    Tool,
    /// The hour
    Hour,
    /// The day
    Day,
    /// The language model, from spans with the attributes `gen_ai.usage.*`
    Model,
    /// The skill that was called. Skills belong to no server and have only calls
    Skill,
}

impl From<By> for UsageBy {
    fn from(by: By) -> UsageBy {
        match by {
            By::Server => UsageBy::Server,
            By::Tool => UsageBy::Tool,
            By::Hour => UsageBy::Hour,
            By::Day => UsageBy::Day,
            By::Model => UsageBy::Model,
            By::Skill => UsageBy::Skill,
        }
    }
}

pub(crate) fn run(
    home: &Path,
    screen: &Screen,
    args: &Args,
    out: &mut impl Write,
) -> anyhow::Result<Outcome> {
    let scope = args.scope.open(home)?;
    let range = args.window.range_or(SINCE_DEFAULT, screen)?;
    let zone = screen.zone().clone();
    let mut query = UsageQuery::new()
        .range(range)
        .skip_damaged()
        .zone(move |time| zone.offset_at(time));
    query = scope
        .servers
        .iter()
        .cloned()
        .fold(query, UsageQuery::server);
    query = args
        .by
        .iter()
        .fold(query, |query, by| query.by((*by).into()));
    let snapshot = scope.store.snapshot()?;
    let report = snapshot.usage(&query)?;
    let usage = OfRange::new(scope.store.stack(), None, range, &report);
    args.form.print(
        out,
        &usage,
        |out| print_csv(&report, &args.by, out),
        |out| {
            if report.rows.is_empty() {
                Ok(())
            } else {
                table(report.clone(), &args.by, screen).print(screen, out)
            }
        },
    )?;
    let signal = if args.by.contains(&By::Model) {
        Signal::Traces
    } else {
        Signal::Metrics
    };
    let mut ledger = snapshot.ledger(range)?;
    ledger.retain(|entry| {
        let is_server = |server: &ServerName| scope.includes(server);
        entry.signal.is_none_or(|of| of == signal) && entry.server.as_ref().is_none_or(is_server)
    });
    let (evicted, lost) = (
        losses::evicted(&ledger, |time| screen.time(time)),
        losses::summary(&ledger, |time| screen.time(time)),
    );
    for gone in evicted.into_iter().chain(lost) {
        note(&format!("not counted: {gone}"));
    }
    for line in describe(report.damage.iter().map(skipped).collect()) {
        note(&line);
    }
    if report.rows.is_empty() {
        note(&nothing(range, &args.by, screen));
    }
    Ok(if report.rows.is_empty() || !report.damage.is_empty() {
        Outcome::Problems
    } else {
        Outcome::Done
    })
}

/// What to say when nothing was counted.
fn nothing(range: TimeRange, by: &[By], screen: &Screen) -> String {
    let what = if by.contains(&By::Model) {
        "no span has the attributes gen_ai.usage.*"
    } else {
        "nothing was counted"
    };
    let time = |time: Timestamp| Precision::Second.write(time, screen);
    let since = range.since.map(|since| format!(" since {}", time(since)));
    let until = range.until.map(|until| format!(" before {}", time(until)));
    let (since, until) = (since.unwrap_or_default(), until.unwrap_or_default());
    format!("{what}{since}{until}: --since and --until set the range")
}

/// A column that says what a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Day,
    Hour,
    Server,
    Tool,
    Model,
    Skill,
}

impl Key {
    /// The columns of a listing, the time first.
    fn all(by: &[By]) -> Vec<Key> {
        let mut keys = Vec::new();
        if by.contains(&By::Hour) {
            keys.push(Key::Hour);
        } else if by.contains(&By::Day) {
            keys.push(Key::Day);
        }
        for (name, key) in [
            (By::Server, Key::Server),
            (By::Tool, Key::Tool),
            (By::Model, Key::Model),
            (By::Skill, Key::Skill),
        ] {
            if by.contains(&name) {
                keys.push(key);
            }
        }
        keys
    }

    fn heading(self) -> &'static str {
        match self {
            Key::Day => "DAY",
            Key::Hour => "HOUR",
            Key::Server => "SERVER",
            Key::Tool => "TOOL",
            Key::Model => "MODEL",
            Key::Skill => "SKILL",
        }
    }

    /// What a row has of this, escaped; `None` for usage that has none of it.
    fn cell(
        self,
        row: &UsageRow,
        write: impl Fn(Precision, Timestamp) -> String,
    ) -> Option<String> {
        match self {
            Key::Day => row.time.map(|time| write(Precision::Day, time)),
            Key::Hour => row.time.map(|time| write(Precision::Minute, time)),
            Key::Server => row.server.as_deref().map(escape),
            Key::Tool => row.tool.as_deref().map(escape),
            Key::Model => row.model.as_deref().map(escape),
            Key::Skill => row.skill.as_deref().map(escape),
        }
    }
}

/// The report as a table: rows by time, those of one time by their size, the largest first.
fn table(mut report: UsageReport, by: &[By], screen: &Screen) -> Table {
    let has_tokens = report.total.tokens.total_tokens > 0;
    let size = |counts: &UsageCounts| {
        let size = if has_tokens {
            counts.tokens.total_tokens
        } else {
            counts.calls
        };
        u64::try_from(size).unwrap_or_default()
    };
    report
        .rows
        .sort_by_key(|row| (row.time, Reverse(size(&row.counts))));
    let keys = Key::all(by);
    let shown = Shown::of(&report, by);
    let mut header: Vec<&str> = keys.iter().map(|key| key.heading()).collect();
    header.push("CALLS");
    if shown.has_tokens {
        header.extend(["INPUT", "OUTPUT", "TOKENS"]);
    }
    if shown.cost_decimals.is_some() {
        header.push("COST");
    }
    let numbers = keys.len()..header.len();
    let mut table = Table::new(header, numbers);
    let write = |precision: Precision, time| precision.write(time, screen);
    for row in &report.rows {
        let cells = keys.iter().map(|key| key.cell(row, write));
        let cells = cells.map(|cell| cell.unwrap_or_else(|| "-".to_owned()));
        table.add_with_bar(cells.chain(shown.cells(&row.counts)), size(&row.counts));
    }
    table.total(keys.len(), shown.cells(&report.total));
    table
}

/// The columns of numbers.
#[derive(Debug, Clone, Copy)]
struct Shown {
    has_tokens: bool,
    /// How many digits costs have after the point; `None` when nothing has a cost.
    cost_decimals: Option<usize>,
}

impl Shown {
    fn of(report: &UsageReport, by: &[By]) -> Shown {
        let costs = report.rows.iter().filter_map(|row| row.counts.cost);
        Shown {
            has_tokens: !by.contains(&By::Skill),
            cost_decimals: costs.map(micro_usd).map(decimals).max(),
        }
    }

    fn cells(self, counts: &UsageCounts) -> Vec<String> {
        let tokens = counts.tokens;
        let mut cells = vec![grouped(counts.calls)];
        if self.has_tokens {
            let tokens = [
                tokens.input_tokens,
                tokens.output_tokens,
                tokens.total_tokens,
            ];
            cells.extend(tokens.map(grouped));
        }
        if let Some(decimals) = self.cost_decimals {
            let cost = counts.cost.map(|cost| usd(micro_usd(cost), decimals));
            cells.push(cost.unwrap_or_else(|| "-".to_owned()));
        }
        cells
    }
}

/// Prints a line for each row, in which costs have all digits.
fn print_csv(report: &UsageReport, by: &[By], out: &mut impl Write) -> std::io::Result<()> {
    let keys = Key::all(by);
    let mut csv = csv::Writer::from_writer(out);
    let headings = keys.iter().map(|key| key.heading().to_lowercase());
    let numbers = [
        "calls",
        "input_tokens",
        "output_tokens",
        "total_tokens",
        "cost_usd",
    ];
    csv.write_record(headings.chain(numbers.map(str::to_owned)))?;
    for row in &report.rows {
        let cells = keys
            .iter()
            .map(|key| key.cell(row, |_, time| time.to_string()));
        let UsageCounts {
            calls,
            tokens,
            cost,
            ..
        } = row.counts;
        let counts = [
            calls,
            tokens.input_tokens,
            tokens.output_tokens,
            tokens.total_tokens,
        ];
        let cost = cost.map(|cost| {
            let micro_usd = micro_usd(cost);
            let (whole, rest) = (micro_usd / MICROS_PER_USD, micro_usd % MICROS_PER_USD);
            format!("{whole}.{rest:06}")
        });
        csv.write_record(
            cells
                .map(Option::unwrap_or_default)
                .chain(counts.map(|count| count.to_string()))
                .chain([cost.unwrap_or_default()]),
        )?;
    }
    csv.flush()
}
