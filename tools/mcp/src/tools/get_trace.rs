//! `get_trace`: one trace as a tree, or one span of it.

use super::{Tool, count, offset, offset_after, search_logs::pieces};
use crate::{
    answer::{Answer, Item},
    asked::{Asked, ITEMS_MAX, Refusal},
    schema::Own,
};
use gridctl_telemetry::{
    Record, Signal,
    query::{CallError, TraceNode, TraceTree},
};
use gridctl_telemetry_server::display::{duration, offset as since_start};
use rmcp::model::CallToolResult;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// The number of spans and logs of an answer unless the question says another.
const LIMIT_DEFAULT: usize = 40;
/// The number of failed spans that are searched for the reason.
const REASONS_MAX: usize = 200;
/// Deeper spans are not indented further.
const INDENT_MAX: usize = 12;

pub(super) const TOOL: Tool = Tool {
    name: "get_trace",
    title: "Show a trace",
    description: "Shows one trace: why it failed, then its spans and log records as a tree, parents before children, each \
                  with when it began after the start, how long it took, and the error. With errors=true only failed spans \
                  and logged errors. With span=ID one span whole, with all its attributes and events.",
    view: &[&["errors", "limit", "cursor"]],
    own: &[Own::TRACE, Own::SPAN, Own::OFFSET, Own::STACK, Own::BYTES],
    list: "tree",
    items: "Spans and logs in the order of the tree: depth, kind (span or log), at (after the start), took, failed, span (id), level, untrusted.server, .name, .error, .message.",
    output: &[
        ("trace", "The whole id."),
        ("time", "When it began."),
        ("ago", "The same in words."),
        ("took", "From the begin to the end."),
        ("spans", "The number of spans."),
        ("failed", "The number of failed spans."),
        ("logs", "The number of log records."),
        (
            "reason",
            "Why it failed: the deepest failed span that says it.",
        ),
        ("bytes", "Of a whole span: its size."),
        ("offset", "Of a whole span: where the piece begins."),
        (
            "next_offset",
            "Of a whole span: where the next piece begins.",
        ),
        ("untrusted", "Of a whole span: a piece of its JSON."),
    ],
    run,
};

fn run(asked: &Asked<'_>) -> Result<CallToolResult, Refusal> {
    let Some(id) = asked.text(&Own::TRACE) else {
        return Err(Refusal::new(
            "trace: give the id of a trace, which list_traces, tool_calls and search_logs show",
        ));
    };
    let open = asked.open()?;
    let Some(tree) = open.snapshot.trace_tree(id)? else {
        return Err(Refusal::new(format!(
            "trace: no trace with the id {id:?} is stored: it was evicted, it is of another stack, or the id is wrong"
        )));
    };
    if let Some(span) = asked.text(&Own::SPAN) {
        return whole(asked, &tree, span);
    }
    Ok(shown(asked, &tree)?.finish(asked.bytes_max))
}

fn shown(asked: &Asked<'_>, tree: &TraceTree) -> Result<Answer, Refusal> {
    let summary = &tree.summary;
    let mut answer = Answer::new(TOOL.list);
    answer.line(format!(
        "Trace {}: {}, {} failed, {}; began {}, took {}.",
        summary.trace_id,
        count(summary.spans, "span"),
        summary.errors,
        count(tree.logs, "log record"),
        asked.when(summary.start),
        duration(summary.duration),
    ));
    answer.field("trace", summary.trace_id.as_str());
    answer.field("time", summary.start.to_string());
    answer.field(
        "ago",
        gridctl_telemetry_server::display::ago(asked.params.now(), summary.start),
    );
    answer.field("took", duration(summary.duration));
    answer.field("spans", summary.spans);
    answer.field("failed", summary.errors);
    answer.field("logs", tree.logs);
    let begin = offset(asked)?;
    if begin == 0
        && let Some((node, error)) = reason(tree)
    {
        let server = asked.name(&error.server);
        let message = asked.said(&error.message);
        let span = tree.record(node).span_id().unwrap_or_default().into_owned();
        answer.line(format!(
            "Why: span {span} «{}: {}»",
            server.shown, message.shown
        ));
        answer.field(
            "reason",
            json!({ "span": span, "untrusted": { "server": server.shown, "message": message.shown } }),
        );
    }
    if let Some(damage) = asked.damage(&tree.damage) {
        answer.line(damage);
    }
    if tree.is_cut {
        answer.line("The trace is too large to be shown whole: its first spans are left out.");
    }
    let only_failed = asked.params.only_failed();
    let nodes = tree.nodes.iter().enumerate().skip(begin);
    let mut nodes = nodes.filter(|(_, node)| !only_failed || node.is_error);
    let limit = asked.limit(LIMIT_DEFAULT).min(ITEMS_MAX);
    for (index, node) in nodes.by_ref().take(limit) {
        answer.push(item(asked, tree, node, index));
    }
    answer.has_more = nodes.next().is_some();
    if answer.has_more && !only_failed && summary.errors > 0 {
        answer.hint("Only what failed: errors=true.");
    }
    answer.hint("One span whole: get_trace with \"span\". Its logs: search_logs with \"trace\".");
    Ok(answer)
}

/// The deepest failed span that says why, and what it says.
fn reason(tree: &TraceTree) -> Option<(&TraceNode, CallError)> {
    let failed = tree
        .nodes
        .iter()
        .filter(|node| node.is_error && node.signal == Signal::Traces);
    let said = failed.take(REASONS_MAX).filter_map(|node| {
        let stored = tree.record(node).to_stored().ok()?;
        match &stored.record {
            Record::Span(span) => Some((node, CallError::said_by(&stored.server, span)?)),
            _ => None,
        }
    });
    said.max_by_key(|(node, _)| node.depth)
}

fn item(asked: &Asked<'_>, tree: &TraceTree, node: &TraceNode, index: usize) -> Item {
    let record = tree.record(node);
    let at = since_start(tree.summary.start, node.start);
    let server = asked.name(record.server).shown;
    let mut text = " ".repeat(node.depth.min(INDENT_MAX));
    let _ = write!(text, "{at} ");
    let mut json = Map::new();
    json.insert("depth".to_owned(), node.depth.into());
    json.insert("at".to_owned(), at.into());
    let mut untrusted = Map::new();
    untrusted.insert("server".to_owned(), server.as_str().into());
    if node.signal == Signal::Traces {
        let name = asked.said(record.name().unwrap_or_default()).shown;
        json.insert("kind".to_owned(), "span".into());
        if let Some(took) = record.duration() {
            let took = duration(took);
            let _ = write!(text, "took {took} ");
            json.insert("took".to_owned(), took.into());
        }
        if node.is_error {
            text.push_str("FAILED ");
            json.insert("failed".to_owned(), true.into());
        }
        if let Some(span) = record.span_id() {
            let _ = write!(text, "span {span} ");
            json.insert("span".to_owned(), span.into_owned().into());
        }
        let _ = write!(text, "«{server}: {name}");
        untrusted.insert("name".to_owned(), name.into());
        let error = node.is_error.then(|| record.to_stored().ok()).flatten();
        let error = error.and_then(|stored| match &stored.record {
            Record::Span(span) => CallError::said_by(&stored.server, span),
            _ => None,
        });
        if let Some(error) = error {
            let message = asked.said(&error.message).shown;
            let _ = write!(text, ": {message}");
            untrusted.insert("error".to_owned(), message.into());
        }
    } else {
        let level = record
            .level()
            .map(|level| level.to_string())
            .unwrap_or_default();
        let message = asked.said(record.message().unwrap_or_default()).shown;
        let _ = write!(text, "log {level} «{server}: {message}");
        json.insert("kind".to_owned(), "log".into());
        json.insert("level".to_owned(), level.into());
        untrusted.insert("message".to_owned(), message.into());
    }
    text.push('»');
    json.insert("untrusted".to_owned(), Value::Object(untrusted));
    Item {
        text,
        json: json.into(),
        cursor: offset_after(index),
    }
}

/// One span, in pieces.
fn whole(asked: &Asked<'_>, tree: &TraceTree, id: &str) -> Result<CallToolResult, Refusal> {
    let wanted = id.trim().to_ascii_lowercase();
    let is_it = |node: &&TraceNode| {
        node.signal == Signal::Traces
            && !wanted.is_empty()
            && (tree.record(node).span_id()).is_some_and(|span| span.starts_with(&wanted))
    };
    let Some(node) = tree.nodes.iter().find(is_it) else {
        return Err(Refusal::new(format!(
            "span: the trace has no span with the id {id:?}: get_trace without \"span\" shows their ids"
        )));
    };
    let stored = tree.record(node).to_stored()?;
    let span = tree.record(node).span_id().unwrap_or_default().into_owned();
    let fields = json!({ "trace": tree.summary.trace_id, "span": span });
    pieces(asked, stored, &format!("span {span}"), fields)
}
