//! `usage`: tokens, costs and calls.

use super::{Tool, count, offset, offset_after};
use crate::{
    answer::{Answer, Item},
    asked::{Asked, Refusal},
    schema::Own,
};
use gridctl_telemetry::query::{UsageBy, UsageCounts, UsageRow};
use gridctl_telemetry_server::{
    display::{decimals, grouped, micro_usd, usd},
    params::SCOPE,
};
use rmcp::model::CallToolResult;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// How far back usage is summed up unless a time is given.
const SINCE_DEFAULT: &str = "24h";
/// The number of rows of an answer unless the question says another.
const LIMIT_DEFAULT: usize = 20;

pub(super) const TOOL: Tool = Tool {
    name: "usage",
    title: "Tokens, costs and calls",
    description: "Sums up tokens, costs and calls, by server (default), tool, hour, day, model or skill; several are joined, \
                  e.g. {\"by\": [\"day\", \"server\"], \"since\": \"7days\"}. The total first, then the rows. Without since, \
                  the last 24 hours.",
    view: &[SCOPE, &["by", "limit", "cursor"]],
    own: &[Own::STACK, Own::BYTES],
    list: "rows",
    items: "Rows: time (when the hour or day begins), calls, input_tokens, output_tokens, tokens, cost, untrusted.server, .tool, .model, .skill.",
    output: &[(
        "total",
        "Everything in the range: calls, input_tokens, output_tokens, tokens, cost.",
    )],
    run,
};

fn run(asked: &Asked<'_>) -> Result<CallToolResult, Refusal> {
    let params = asked.params.since_or(SINCE_DEFAULT);
    let query = params.usage(params.range()?, &[UsageBy::Server])?;
    let open = asked.open()?;
    let report = open.snapshot.usage(&query)?;
    let mut answer = Answer::new(TOOL.list);
    answer.line(format!("In all {}.", sentence(&report.total)));
    answer.field("total", Value::Object(numbers(&report.total)));
    if let Some(damage) = asked.damage(&report.damage) {
        answer.line(damage);
    }
    let begin = offset(asked)?;
    let limit = asked.limit(LIMIT_DEFAULT);
    for (index, row) in report.rows.iter().enumerate().skip(begin).take(limit) {
        answer.push(item(asked, row, index));
    }
    answer.has_more = report.rows.len() > begin.saturating_add(limit);
    if answer.is_empty() {
        answer.line("Nothing was counted in the range.");
        answer.hint("Whether metrics are stored, and when: inventory.");
    }
    if params != asked.params {
        answer.hint("This is of the last 24 hours: pass since for more or less.");
    }
    Ok(answer.finish(asked.bytes_max))
}

fn item(asked: &Asked<'_>, row: &UsageRow, index: usize) -> Item {
    let mut json = numbers(&row.counts);
    let mut what = Vec::new();
    let mut untrusted = Map::new();
    let server = row
        .server
        .as_ref()
        .map(gridctl_telemetry::ServerName::as_str);
    for (key, value) in [
        ("server", server),
        ("tool", row.tool.as_deref()),
        ("model", row.model.as_deref()),
        ("skill", row.skill.as_deref()),
    ] {
        if let Some(value) = value {
            let value = asked.name(value).shown;
            what.push(format!("{key} {value}"));
            untrusted.insert(key.to_owned(), value.into());
        }
    }
    let mut text = String::new();
    if let Some(time) = row.time {
        text = format!("from {time} on: ");
        json.insert("time".to_owned(), time.to_string().into());
    }
    text.push_str(&sentence(&row.counts));
    if !what.is_empty() {
        let _ = write!(text, " «{}»", what.join(", "));
        json.insert("untrusted".to_owned(), untrusted.into());
    }
    Item {
        text,
        json: json.into(),
        cursor: offset_after(index),
    }
}

fn sentence(counts: &UsageCounts) -> String {
    let tokens = counts.tokens;
    let cost = cost(counts).map_or(String::new(), |cost| format!(", {cost}"));
    format!(
        "{}, {} tokens ({} in, {} out){cost}",
        count(u64::try_from(counts.calls).unwrap_or(0), "call"),
        grouped(tokens.total_tokens),
        grouped(tokens.input_tokens),
        grouped(tokens.output_tokens),
    )
}

fn cost(counts: &UsageCounts) -> Option<String> {
    let cost = micro_usd(counts.cost?);
    Some(usd(cost, decimals(cost)))
}

fn numbers(counts: &UsageCounts) -> Map<String, Value> {
    let tokens = counts.tokens;
    let mut numbers = Map::new();
    numbers.insert("calls".to_owned(), counts.calls.into());
    numbers.insert("input_tokens".to_owned(), tokens.input_tokens.into());
    numbers.insert("output_tokens".to_owned(), tokens.output_tokens.into());
    numbers.insert("tokens".to_owned(), tokens.total_tokens.into());
    if let Some(cost) = cost(counts) {
        numbers.insert("cost".to_owned(), json!(cost));
    }
    numbers
}
