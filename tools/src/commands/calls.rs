//! `calls`: the calls of tools, by tool or one by one.

use super::{
    print_json,
    traces::{Format, short_id},
};
use crate::{
    Outcome,
    damage::note_skipped,
    filters::FilterArgs,
    listing::{self, Shown, write_text},
    output::note,
    scope::ScopeArgs,
    screen::{Role, Screen},
    table::Table,
};
use anyhow::Context;
use gridctl_telemetry::{
    Signal, Timestamp,
    query::{Call, CallQuery, ErrorSource, Filter, TextPattern, ToolStats},
};
use gridctl_telemetry_server::{
    display::{duration, escape, escape_name},
    shapes::OfStack,
};
use std::{fmt::Write as _, io::Write, path::Path, time::Duration};

/// How long ago a call was that is shown with its date.
const DATE_SECONDS: u64 = 2 * 24 * 3600;
/// The number of single calls unless -n says another.
const COUNT_DEFAULT: u64 = 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    scope: ScopeArgs,
    /// Show the calls that failed, one by one, and why they failed; the newest first
    #[arg(long)]
    failed: bool,
    /// Show the calls one by one, the slowest first
    #[arg(long)]
    slowest: bool,
    /// Only calls of tools with this text in their name
    #[arg(long, value_name = "TOOL")]
    tool: Option<String>,
    /// Show the first N calls, or all [default: 20]; without --failed and --slowest, the N tools that were
    /// called most [default: all]
    #[arg(long, short = 'n', value_name = "N", value_parser = listing::parse_lines)]
    lines: Option<u64>,
    /// How calls are shown
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    filters: FilterArgs,
}

pub(crate) fn run(
    home: &Path,
    screen: &Screen,
    args: &Args,
    out: &mut impl Write,
) -> anyhow::Result<Outcome> {
    let filters = args.filters.read(screen)?;
    let tool = args.tool.as_deref().map(TextPattern::substring);
    let tool = tool.transpose().context("--tool")?;
    let scope = args.scope.open(home)?;
    let mut spans = filters.narrow(scope.query(Signal::Traces)).skip_damaged();
    if args.failed {
        spans = spans.filter(Filter::failed());
    }
    let mut query = CallQuery::new(spans);
    if let Some(tool) = tool {
        query = query.tool(tool);
    }
    if args.slowest {
        query = query.slowest_first();
    }
    let stack = scope.store.stack();
    let is_found;
    let damage;
    if args.failed || args.slowest {
        let count = args.lines.unwrap_or(COUNT_DEFAULT);
        let list = scope.store.calls(&query, limit(count))?;
        if args.output == Format::Json {
            print_json(&OfStack { stack, list: &list }, screen, out)?;
        } else {
            for call in &list.calls {
                print_call(call, screen, out)?;
            }
        }
        out.flush()?;
        if list.has_more {
            let order = if args.slowest { "slowest" } else { "newest" };
            note(&format!(
                "more calls match than the {order} {count}: raise -n to see them"
            ));
        }
        (is_found, damage) = (!list.calls.is_empty(), list.damage);
    } else {
        let mut list = scope.store.tools(&query)?;
        let count = args.lines.map_or(usize::MAX, limit);
        let left_out = list.tools.len().saturating_sub(count);
        list.tools.truncate(count);
        if args.output == Format::Json {
            print_json(&OfStack { stack, list: &list }, screen, out)?;
        } else if !list.tools.is_empty() {
            table(&list.tools, screen).print(screen, out)?;
        }
        out.flush()?;
        if left_out > 0 {
            note(&format!(
                "{left_out} more tools were called: raise -n, or leave it out to see all"
            ));
        }
        (is_found, damage) = (!list.tools.is_empty(), list.damage);
    }
    let is_damaged = note_skipped(&damage);
    if !is_found {
        note("no calls match");
    }
    Ok(if is_found && !is_damaged {
        Outcome::Done
    } else {
        Outcome::Problems
    })
}

fn limit(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn table(tools: &[ToolStats], screen: &Screen) -> Table {
    let header = [
        "SERVER", "TOOL", "CALLS", "ERRORS", "MEDIAN", "95%", "MAX", "LAST",
    ];
    let mut table = Table::new(header, 2..7);
    for tool in tools {
        let [median, high, max] = [tool.median, tool.percentile_95, tool.max]
            .map(|found| found.map_or_else(String::new, duration));
        let about = if tool.is_exact { "" } else { "~" };
        table.add_with_bar(
            vec![
                escape(&tool.server),
                escape_name(&tool.tool),
                tool.calls.to_string(),
                tool.errors.to_string(),
                format!("{about}{median}"),
                format!("{about}{high}"),
                max,
                last(tool.last, screen),
            ],
            tool.calls,
        );
    }
    table
}

/// How long ago a call was, on a terminal; otherwise its time.
fn last(time: Timestamp, screen: &Screen) -> String {
    if !screen.is_terminal() {
        return screen.time(time);
    }
    let nanos = i128::from(screen.now().unix_nanos()) - i128::from(time.unix_nanos());
    let seconds = u64::try_from(nanos / 1_000_000_000).unwrap_or(0);
    match seconds {
        DATE_SECONDS.. => screen.local(time).date().to_string(),
        60.. => format!("{} ago", duration(Duration::from_secs(seconds))),
        _ => format!("{seconds}s ago"),
    }
}

/// Prints a call in a line, and the reason of a failed one below it.
fn print_call(call: &Call, screen: &Screen, out: &mut impl Write) -> anyhow::Result<()> {
    let (dim, red) = (screen.style(Role::Dim), screen.style(Role::Error));
    let time = screen.brief_time(call.start.unwrap_or(call.end));
    let length = call.duration.map_or_else(|| "?".to_owned(), duration);
    let (server, tool) = (escape(&call.server), escape_name(&call.tool));
    let mut line = format!("{time}  {length:>7}  {server}  {tool}");
    if let Some(client) = &call.client {
        let _ = write!(line, "  {}", escape(client));
    }
    if !call.trace_id.is_empty() {
        let _ = write!(line, "  trace {}", short_id(&call.trace_id, screen));
    }
    if call.is_error {
        line.push_str("  failed");
    }
    writeln!(out, "{line}")?;
    match &call.error {
        Some(error) => {
            let mut place = match error.source {
                ErrorSource::Log => format!("logged by {}", escape(&error.server)),
                _ => escape(&error.server),
            };
            if let Some(span) = &error.span {
                let _ = write!(place, ", span {}", escape_name(span));
            }
            let shown = Shown {
                base: red,
                found: red,
                patterns: &[],
            };
            let mut text = String::new();
            write_text(&error.message, "    ", shown, &mut text);
            writeln!(out, "    {text} {dim}({place}){dim:#}")?;
        }
        None if call.is_error => writeln!(out, "    {dim}nothing stored says why{dim:#}")?,
        None => {}
    }
    Ok(())
}
