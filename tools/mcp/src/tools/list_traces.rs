//! `list_traces`: traces, the newest or the slowest first.

use super::{Tool, count};
use crate::{
    answer::{Answer, Item},
    asked::{Asked, COUNT_TIME_MAX, Refusal},
    schema::Own,
};
use gridctl_telemetry::{
    Level, Signal,
    query::{CountBy, Direction, TraceSummary},
};
use gridctl_telemetry_server::{
    display::{ago, duration, grouped},
    params::{FILTER, SCOPE, SPAN_FILTER},
};
use rmcp::model::CallToolResult;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// The number of traces of an answer unless the question says another.
const LIMIT_DEFAULT: usize = 8;
/// The number of servers of a trace that are named.
const SERVERS_MAX: usize = 3;

pub(super) const TOOL: Tool = Tool {
    name: "list_traces",
    title: "List traces",
    description: "Lists traces (requests through the gateway and its MCP servers), the newest or the slowest first: with \
                  errors=true only those that failed, with min-duration only slow ones. Says how many spans there are and \
                  how many failed, then shows a few traces with their ids, for get_trace.",
    view: &[
        SCOPE,
        FILTER,
        SPAN_FILTER,
        &["errors", "order", "limit", "cursor"],
    ],
    own: &[Own::STACK, Own::BYTES],
    list: "traces",
    items: "Traces: trace (id), time (exact) and ago of the begin, took, spans, failed (number of spans), untrusted.name, .servers, .tool, .client.",
    output: &[
        ("spans", "How many spans of the servers are in the range."),
        ("failed_spans", "How many of them failed."),
    ],
    run,
};

fn run(asked: &Asked<'_>) -> Result<CallToolResult, Refusal> {
    let open = asked.open()?;
    let mut answer = Answer::new(TOOL.list);
    if asked.params.cursor().is_none() {
        let scope = asked
            .params
            .scope()
            .records(Signal::Traces, Direction::Forward)?;
        let report = asked.clock().within(COUNT_TIME_MAX, || {
            open.snapshot.count(&scope, &[CountBy::Level])
        })?;
        if let Some(report) = report {
            // A failed span counts as an error.
            let failed = report
                .rows
                .iter()
                .filter(|row| row.level >= Some(Level::ERROR));
            let failed = failed.map(|row| row.count).sum::<u64>();
            answer.field("spans", report.total);
            answer.field("failed_spans", failed);
            answer.line(format!(
                "{} in the range, {} failed.",
                count(report.total, "span"),
                grouped(failed)
            ));
        }
    }
    let query = asked.params.traces()?;
    let list = open.snapshot.traces(&query, asked.limit(LIMIT_DEFAULT))?;
    if let Some(damage) = asked.damage(&list.damage) {
        answer.line(damage);
    }
    answer.has_more = list.has_more;
    for trace in &list.traces {
        let cursor = query.cursor_after(trace).to_string();
        answer.push(item(asked, trace, cursor));
    }
    if answer.is_empty() {
        answer.line("No trace matches.");
        answer.hint("What is stored, and when: inventory.");
    } else {
        answer.hint("Why it failed: get_trace with \"trace\".");
    }
    if answer.has_more {
        answer.hint("Narrow with errors, since and until, server, min-duration or grep.");
    }
    Ok(answer.finish(asked.bytes_max))
}

fn item(asked: &Asked<'_>, trace: &TraceSummary, cursor: String) -> Item {
    let took = duration(trace.duration);
    let name = asked.said(&trace.name);
    let servers: Vec<String> = (trace.servers.iter().take(SERVERS_MAX))
        .map(|server| asked.name(server).shown)
        .collect();
    let more = trace.servers.len().saturating_sub(SERVERS_MAX);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    let failed = match trace.errors {
        0 => String::new(),
        errors => format!(", {} failed", grouped(errors)),
    };
    let mut what = name.shown.clone();
    let mut untrusted = Map::new();
    untrusted.insert("name".to_owned(), name.shown.into());
    untrusted.insert("servers".to_owned(), json!(servers));
    for (key, value) in [("tool", &trace.tool), ("client", &trace.client)] {
        if let Some(value) = value {
            let value = asked.name(value).shown;
            let _ = write!(what, ", {key} {value}");
            untrusted.insert(key.to_owned(), value.into());
        }
    }
    let text = format!(
        "{}: took {took}, {}{failed}, trace {} «{}{more}: {what}»",
        asked.when(trace.start),
        count(trace.spans, "span"),
        trace.trace_id,
        servers.join(", "),
    );
    Item {
        text,
        json: json!({
            "trace": trace.trace_id,
            "time": trace.start.to_string(),
            "ago": ago(asked.params.now(), trace.start),
            "took": took,
            "spans": trace.spans,
            "failed": trace.errors,
            "untrusted": Value::Object(untrusted),
        }),
        cursor,
    }
}
