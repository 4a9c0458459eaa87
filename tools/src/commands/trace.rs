//! `trace`: one trace, with its spans as a tree and its logs in their places.

mod waterfall;

use self::waterfall::Waterfall;
use super::print_json;
use crate::{
    Outcome,
    damage::note_skipped,
    output::{note, write_json},
    scope::open_stack,
    screen::Screen,
};
use gridctl_telemetry::{
    Query, Signal, Snapshot,
    lines::{LineFormat, LineWriter},
    query::Trace,
};
use gridctl_telemetry_server::shapes::{OfStack, TraceShape};
use std::{io::Write, path::Path};

#[derive(Debug, clap::Args)]
#[command(override_usage = "gridctl-telemetry trace [OPTIONS] [STACK] <ID>")]
pub(crate) struct Args {
    /// The stack, which may be left out when there is only one, and the id of the trace: 32 hex digits, or a
    /// part of them. The logs of the trace have it, too
    #[arg(value_name = "ID", num_args = 1..=2, required = true)]
    names: Vec<String>,
    /// The stack, like STACK
    #[arg(long, value_name = "NAME")]
    stack: Option<String>,
    /// Also show the attributes of spans and logs, and the events of spans
    #[arg(long, short)]
    attributes: bool,
    /// How the trace is shown
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Format {
    /// A tree with a bar for the time of each span
    #[default]
    Tree,
    /// One JSON object, with spans and logs in the order of the tree
    Json,
    /// The spans as lines of OTLP/JSON
    Otlp,
}

pub(crate) fn run(
    home: &Path,
    screen: &Screen,
    args: &Args,
    out: &mut impl Write,
) -> anyhow::Result<Outcome> {
    let (stack, id) = match &args.names[..] {
        [stack, id] => (Some(stack), id),
        [id] => (args.stack.as_ref(), id),
        _ => anyhow::bail!("name one trace"),
    };
    if let (Some(stack), Some(other)) = (stack, &args.stack)
        && stack != other
    {
        anyhow::bail!("the stack is named twice: {stack:?} and --stack {other:?}");
    }
    let store = open_stack(home, stack)?;
    let snapshot = store.snapshot()?;
    let Some(trace) = snapshot.trace(id)? else {
        note(&format!(
            "the stack {:?} has no trace {id:?}",
            store.stack()
        ));
        return Ok(Outcome::Problems);
    };
    match args.output {
        Format::Tree => Waterfall::new(&trace, screen, args.attributes).print(out)?,
        Format::Json => {
            let list = &TraceShape::new(&trace);
            let stack = store.stack();
            print_json(&OfStack { stack, list }, screen, out)?;
        }
        Format::Otlp => print_otlp(&snapshot, &trace, screen, out)?,
    }
    out.flush()?;
    if trace.is_cut && args.output != Format::Otlp {
        note(&format!(
            "the trace has {} spans and {} log records, and only a part of them is shown: -o otlp prints all \
             spans, and logs --trace {} all log records",
            trace.summary.spans, trace.logs, trace.summary.trace_id
        ));
    }
    let is_damaged = note_skipped(&trace.damage);
    let is_empty = args.output == Format::Otlp && trace.summary.spans == 0;
    if is_empty {
        note("only log records of the trace are stored, and no span");
    }
    Ok(if is_damaged || is_empty {
        Outcome::Problems
    } else {
        Outcome::Done
    })
}

/// Prints all spans of a trace, also those that a [`Trace`] leaves out, in the order of their ends.
fn print_otlp(
    snapshot: &Snapshot,
    trace: &Trace,
    screen: &Screen,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    if trace.summary.spans == 0 {
        return Ok(());
    }
    let query = Query::new(Signal::Traces).trace_id(&trace.summary.trace_id)?;
    let mut scan = snapshot.scan(&query.skip_damaged())?;
    let mut writer = LineWriter::new(LineFormat::Otlp);
    let mut lines = Vec::new();
    while let Some(record) = scan.next()? {
        writer.write(&record, &mut lines)?;
        write_json(&lines, screen, out)?;
        lines.clear();
    }
    writer.finish(&mut lines);
    Ok(write_json(&lines, screen, out)?)
}
