//! `tool_calls`: how tools are doing, and single calls of them.

use super::{Tool, count, not_a_cursor};
use crate::{
    answer::{Answer, Item},
    asked::{Asked, ITEMS_MAX, Open, Refusal},
    schema::Own,
};
use gridctl_telemetry::{
    Timestamp,
    query::{Call, TimeRange, ToolStats},
};
use gridctl_telemetry_server::{
    display::{ago, duration, grouped},
    params::{FILTER, LIMIT_MAX, Params, SCOPE, SPAN_FILTER},
};
use rmcp::model::CallToolResult;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// How far back calls are counted unless a time is given.
const SINCE_DEFAULT: &str = "24h";
/// The number of calls of an answer unless the question says another.
const LIMIT_DEFAULT: usize = 5;
/// The number of tools beside calls.
const TOOLS_MAX: usize = 4;

pub(super) const TOOL: Tool = Tool {
    name: "tool_calls",
    title: "Tool calls",
    description: "How the tools of the MCP servers are doing, and single calls: for each tool the number of calls and of \
                  failures, median, 95th percentile and longest duration; then the newest (or slowest) calls, failed ones \
                  with the reason and the trace. The first question about failures: {\"errors\": true, \"since\": \"1h\"}. \
                  Without since, the last 24 hours.",
    view: &[
        SCOPE,
        FILTER,
        SPAN_FILTER,
        &["tool", "errors", "order", "limit", "cursor"],
    ],
    own: &[Own::LIST, Own::STACK, Own::BYTES],
    list: "items",
    items: "Tools, then calls: kind (tool or call). Tools: calls, failed, median, p95, longest, last. Calls: time, ago, took, failed, trace, span. Both: untrusted.server, .tool, and .reason and .client of calls.",
    output: &[
        ("calls", "How many calls match, failed or not."),
        ("failed", "How many of them failed."),
        ("tools", "How many tools were called."),
        ("tools_cursor", "There are more tools: pass it as cursor."),
    ],
    run,
};

/// What a cursor continues.
enum Page {
    First,
    /// After this number of tools.
    Tools(usize),
    /// After this number of calls that ended before a time.
    Calls(usize, Timestamp),
}

fn run(asked: &Asked<'_>) -> Result<CallToolResult, Refusal> {
    let params = asked.params.since_or(SINCE_DEFAULT);
    let list = match asked.text(&Own::LIST) {
        None => None,
        Some(list @ ("tools" | "calls")) => Some(list),
        Some(other) => {
            return Err(Refusal::new(format!(
                "list: {other:?} is neither tools nor calls; leave it out for both"
            )));
        }
    };
    let page = page(asked)?;
    let open = asked.open()?;
    let mut answer = Answer::new(TOOL.list);
    match page {
        Page::Tools(begin) => tools(asked, &open, &params, begin, usize::MAX, &mut answer)?,
        Page::Calls(begin, until) => calls(asked, &open, &params, (begin, until), &mut answer)?,
        Page::First => {
            let most = match list {
                Some("calls") => 0,
                Some(_) => usize::MAX,
                None => TOOLS_MAX,
            };
            tools(asked, &open, &params, 0, most, &mut answer)?;
            if list.is_none() {
                answer.hint("Only calls, as many as there is room for: list=calls.");
            }
            if list != Some("tools") {
                let now = Timestamp::from_unix_nanos(params.now().unix_nanos().saturating_add(1));
                let until = params.range()?.until.map_or(now, |until| until.min(now));
                calls(asked, &open, &params, (0, until), &mut answer)?;
            }
        }
    }
    if params != asked.params {
        answer.hint("This is of the last 24 hours: pass since for more or less.");
    }
    Ok(answer.finish(asked.bytes_max))
}

fn page(asked: &Asked<'_>) -> Result<Page, Refusal> {
    let Some(cursor) = asked.params.cursor() else {
        return Ok(Page::First);
    };
    let read = || {
        if let Some(begin) = cursor.strip_prefix('t') {
            return Some(Page::Tools(begin.parse().ok()?));
        }
        let (begin, until) = cursor.strip_prefix('c')?.split_once('-')?;
        let until = Timestamp::from_unix_nanos(until.parse().ok()?);
        Some(Page::Calls(begin.parse().ok()?, until))
    };
    read().ok_or_else(|| not_a_cursor(cursor))
}

/// Adds the tools from the one at `begin`, at most `most` of them.
fn tools(
    asked: &Asked<'_>,
    open: &Open,
    params: &Params,
    begin: usize,
    most: usize,
    answer: &mut Answer,
) -> Result<(), Refusal> {
    let list = open.snapshot.tools(&params.failed_or_not().calls()?)?;
    let calls: u64 = list.tools.iter().map(|tool| tool.calls).sum();
    let failed: u64 = list.tools.iter().map(|tool| tool.errors).sum();
    answer.line(format!(
        "{} of {}, {} failed.",
        count(calls, "call"),
        count(list.tools.len() as u64, "tool"),
        grouped(failed)
    ));
    answer.field("calls", calls);
    answer.field("failed", failed);
    answer.field("tools", list.tools.len());
    if let Some(damage) = asked.damage(&list.damage) {
        answer.line(damage);
    }
    let most = most.min(ITEMS_MAX);
    for (index, tool) in list.tools.iter().enumerate().skip(begin).take(most) {
        answer.push(of_tool(asked, tool, format!("t{}", index + 1)));
    }
    let shown = begin.saturating_add(most);
    if list.tools.len() > shown && most > 0 {
        let cursor = format!("t{shown}");
        if most == TOOLS_MAX {
            answer.hint(format!(
                "More tools: \"cursor\": \"{cursor}\", or list=tools; one: tool=NAME."
            ));
            answer.field("tools_cursor", cursor);
        } else {
            answer.has_more = true;
        }
    }
    Ok(())
}

fn of_tool(asked: &Asked<'_>, tool: &ToolStats, cursor: String) -> Item {
    let server = asked.name(&tool.server).shown;
    let name = asked.name(&tool.tool).shown;
    let mut text = format!(
        "tool: {}, {} failed",
        count(tool.calls, "call"),
        grouped(tool.errors)
    );
    let mut json = Map::new();
    json.insert("kind".to_owned(), "tool".into());
    json.insert("calls".to_owned(), tool.calls.into());
    json.insert("failed".to_owned(), tool.errors.into());
    for (key, label, value) in [
        ("median", "median", tool.median),
        ("p95", "95 %", tool.percentile_95),
        ("longest", "longest", tool.max),
    ] {
        if let Some(value) = value {
            let value = duration(value);
            let _ = write!(text, ", {label} {value}");
            json.insert(key.to_owned(), value.into());
        }
    }
    let _ = write!(
        text,
        ", last {} «{server}: {name}»",
        ago(asked.params.now(), tool.last)
    );
    json.insert("last".to_owned(), tool.last.to_string().into());
    json.insert(
        "untrusted".to_owned(),
        json!({ "server": server, "tool": name }),
    );
    Item {
        text,
        json: json.into(),
        cursor,
    }
}

/// Adds the calls that ended before a time, from the one at an index.
fn calls(
    asked: &Asked<'_>,
    open: &Open,
    params: &Params,
    (begin, until): (usize, Timestamp),
    answer: &mut Answer,
) -> Result<(), Refusal> {
    let limit = asked.limit(LIMIT_DEFAULT);
    // What is passed over is read again.
    let wanted = begin.saturating_add(limit);
    if wanted > LIMIT_MAX {
        answer.line("There are no pages after the first 1,000 calls.");
        answer.hint("Narrow with until, tool, server or errors.");
        return Ok(());
    }
    let range = TimeRange {
        until: Some(until),
        ..params.range()?
    };
    let list = open.snapshot.calls(&params.calls_in(range)?, wanted)?;
    for (index, call) in list.calls.iter().enumerate().skip(begin) {
        let cursor = format!("c{}-{}", index + 1, until.unix_nanos());
        answer.push(of_call(asked, call, cursor));
    }
    answer.has_more = list.has_more;
    if list.calls.len() <= begin {
        answer.line("No call matches.");
    } else {
        answer.hint("What happened in a call: get_trace with \"trace\".");
    }
    Ok(())
}

fn of_call(asked: &Asked<'_>, call: &Call, cursor: String) -> Item {
    let server = asked.name(&call.server).shown;
    let name = asked.name(&call.tool).shown;
    let at = call.start.unwrap_or(call.end);
    let mut text = format!("call: {}", asked.when(at));
    let mut json = Map::new();
    json.insert("kind".to_owned(), "call".into());
    json.insert("time".to_owned(), at.to_string().into());
    json.insert("ago".to_owned(), ago(asked.params.now(), at).into());
    if let Some(took) = call.duration {
        let took = duration(took);
        let _ = write!(text, ", took {took}");
        json.insert("took".to_owned(), took.into());
    }
    json.insert("failed".to_owned(), call.is_error.into());
    if call.is_error {
        text.push_str(", FAILED");
    }
    for (name, id) in [("trace", &call.trace_id), ("span", &call.span_id)] {
        if !id.is_empty() {
            let _ = write!(text, ", {name} {id}");
            json.insert(name.to_owned(), id.as_str().into());
        }
    }
    let _ = write!(text, " «{server}: {name}");
    let mut untrusted = Map::new();
    untrusted.insert("server".to_owned(), server.into());
    untrusted.insert("tool".to_owned(), name.into());
    if let Some(client) = &call.client {
        untrusted.insert("client".to_owned(), asked.name(client).shown.into());
    }
    if let Some(error) = &call.error {
        let reason = asked.said(&error.message).shown;
        let _ = write!(text, ": {reason}");
        untrusted.insert("reason".to_owned(), reason.into());
    }
    text.push('»');
    json.insert("untrusted".to_owned(), Value::Object(untrusted));
    Item {
        text,
        json: json.into(),
        cursor,
    }
}
