//! `traces`: the traces of a stack, each in a line.

use super::print_json;
use crate::{
    Outcome, damage::note_skipped, filters::FilterArgs, listing, output::note, scope::ScopeArgs,
    screen::Screen, table::Table,
};
use gridctl_telemetry::{
    ServerName, Signal,
    query::{TraceList, TraceQuery, TraceSummary},
};
use gridctl_telemetry_server::{
    display::{duration, escape, escape_name},
    shapes::OfStack,
};
use std::{io::Write, path::Path};

/// The number of traces unless -n or --slowest says another.
const COUNT_DEFAULT: usize = 20;
/// The digits of an id on a terminal: `trace` finds a trace by a part of its id.
pub(super) const ID_DIGITS_SHOWN: usize = 8;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    scope: ScopeArgs,
    /// Only traces with a span that failed
    #[arg(long)]
    errors: bool,
    /// Show the N traces that took longest, the slowest first
    #[arg(long, value_name = "N", conflicts_with = "lines")]
    slowest: Option<usize>,
    /// Only traces that took this long or longer in all, such as 500ms or 2s
    #[arg(long, value_name = "DURATION")]
    min_duration: Option<humantime::Duration>,
    /// Show the newest N traces, or all
    #[arg(long, short = 'n', value_name = "N", value_parser = listing::parse_lines, default_value_t = COUNT_DEFAULT as u64)]
    lines: u64,
    /// How traces are shown
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    filters: FilterArgs,
}

/// How a list is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(super) enum Format {
    /// A table
    #[default]
    Table,
    /// One JSON object
    Json,
}

pub(crate) fn run(
    home: &Path,
    screen: &Screen,
    args: &Args,
    out: &mut impl Write,
) -> anyhow::Result<Outcome> {
    let filters = args.filters.read(screen)?;
    let scope = args.scope.open(home)?;
    let spans = filters.narrow(scope.query(Signal::Traces)).skip_damaged();
    let mut query = TraceQuery::new(spans);
    if args.errors {
        query = query.only_failed();
    }
    if let Some(min) = args.min_duration {
        query = query.duration_at_least(*min);
    }
    if args.slowest.is_some() {
        query = query.slowest_first();
    }
    let lines = usize::try_from(args.lines).unwrap_or(usize::MAX);
    let count = args.slowest.unwrap_or(lines);
    let list = scope.store.traces(&query, count)?;
    match args.output {
        Format::Json => {
            let stack = scope.store.stack();
            print_json(&OfStack { stack, list: &list }, screen, out)?;
        }
        Format::Table if !list.traces.is_empty() => table(&list, screen).print(screen, out)?,
        Format::Table => {}
    }
    out.flush()?;
    if list.has_more {
        let (which, option) = match args.slowest {
            Some(_) => ("slowest", "--slowest"),
            None => ("newest", "-n"),
        };
        note(&format!(
            "more traces match than the {which} {count}: raise {option} to see them"
        ));
    }
    if list.is_cut {
        note(
            "more than 65,536 traces ran at the same time: some of these numbers may be too low, and a trace \
             may be listed twice",
        );
    }
    let is_damaged = note_skipped(&list.damage);
    if list.traces.is_empty() {
        note("no traces match");
    }
    Ok(if list.traces.is_empty() || is_damaged {
        Outcome::Problems
    } else {
        Outcome::Done
    })
}

fn table(list: &TraceList, screen: &Screen) -> Table {
    let header = [
        "TRACE", "START", "DURATION", "SPANS", "ERRORS", "SERVERS", "NAME",
    ];
    let mut table = Table::new(header, 2..5).cut_last();
    for trace in &list.traces {
        table.add(row(trace, screen));
    }
    table
}

fn row(trace: &TraceSummary, screen: &Screen) -> Vec<String> {
    let servers = trace.servers.iter().map(ServerName::as_str);
    let servers = servers.collect::<Vec<_>>().join(",");
    let (name, tool) = (
        escape_name(&trace.name),
        trace.tool.as_deref().map(escape_name),
    );
    vec![
        short_id(&trace.trace_id, screen),
        screen.brief_time(trace.start),
        duration(trace.duration),
        trace.spans.to_string(),
        trace.errors.to_string(),
        escape(&servers),
        match tool.filter(|tool| !name.contains(tool)) {
            Some(tool) => format!("{name} {tool}"),
            None => name,
        },
    ]
}

/// An id as it is shown in a list: the first digits on a terminal.
pub(super) fn short_id(id: &str, screen: &Screen) -> String {
    let digits = if screen.is_terminal() {
        ID_DIGITS_SHOWN
    } else {
        usize::MAX
    };
    id.chars().take(digits).collect()
}
