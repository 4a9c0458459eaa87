//! `inventory`: what is stored of which server.

use super::{Tool, count, offset, offset_after};
use crate::{
    answer::{Answer, Item},
    asked::{Asked, Open, Refusal},
    schema::Own,
};
use gridctl_telemetry::{ServerName, query::InventoryRecord};
use gridctl_telemetry_server::display::{ago, grouped, size};
use rmcp::model::CallToolResult;
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, fmt::Write as _};

/// The number of servers of an answer unless the question says another.
const LIMIT_DEFAULT: usize = 20;
/// The number of stacks that are looked into.
const STACKS_MAX: usize = 100;

pub(super) const TOOL: Tool = Tool {
    name: "inventory",
    title: "What is stored",
    description: "Lists the stacks and their MCP servers: how many log records, spans (traces) and metrics are stored of \
                  each, how large they are, from when to when, and whether a gateway writes now. Begin with it when nothing \
                  is known.",
    view: &[&["server", "signal", "limit", "cursor"]],
    own: &[Own::STACK, Own::BYTES],
    list: "servers",
    items: "Servers: stack, and logs, traces and metrics, each with records, size, oldest and newest; untrusted.server.",
    output: &[
        ("stacks", "The number of stacks."),
        ("records", "The number of records."),
        ("writing", "The stacks into which a running process writes."),
        ("unreadable", "What of the stacks cannot be read."),
    ],
    run,
};

/// What is stored of a server, by signal.
type Servers = BTreeMap<(String, ServerName), Vec<InventoryRecord>>;

fn run(asked: &Asked<'_>) -> Result<CallToolResult, Refusal> {
    let mut stacks = match asked.text(&Own::STACK) {
        Some(stack) => vec![stack.to_owned()],
        None => asked.stacks().names()?,
    };
    let all = stacks.len();
    stacks.truncate(STACKS_MAX);
    let mut servers = Servers::new();
    let (mut writing, mut unreadable) = (Vec::new(), Vec::new());
    for stack in &stacks {
        let read = asked.open_stack(Some(stack)).and_then(|open| {
            let found = read(asked, &open)?;
            if open.store.writers()?.iter().any(|writer| writer.is_running) {
                writing.push(stack.clone());
            }
            Ok(found)
        });
        match read {
            Ok((records, findings)) => {
                for record in records {
                    let server = (stack.clone(), record.server.clone());
                    servers.entry(server).or_default().push(record);
                }
                unreadable.extend(findings);
            }
            Err(refusal) if all == 1 => return Err(refusal),
            // One damaged stack must not hide the others.
            Err(refusal) => unreadable.push(refusal.message().to_owned()),
        }
    }

    let mut answer = Answer::new(TOOL.list);
    let records: u64 = servers
        .values()
        .flatten()
        .map(|record| record.record_count)
        .sum();
    answer.field("stacks", all);
    answer.field("records", records);
    answer.field("writing", json!(writing.iter().take(5).collect::<Vec<_>>()));
    answer.line(format!(
        "{}, {}, {}; {}.",
        count(all as u64, "stack"),
        count(servers.len() as u64, "server"),
        count(records, "record"),
        match writing.as_slice() {
            [] => "no gateway writes now".to_owned(),
            [only] if all == 1 => format!("a gateway writes into {only:?} now"),
            some => format!("a gateway writes into {} of them now", some.len()),
        }
    ));
    if let Some(first) = unreadable.first() {
        let first = asked.said(first);
        answer.line(format!(
            "{} cannot be read: {}.",
            count(unreadable.len() as u64, "part"),
            first.quoted()
        ));
        answer.field("unreadable", first.shown);
    }
    let begin = offset(asked)?;
    let limit = asked.limit(LIMIT_DEFAULT);
    for (index, ((stack, server), stored)) in servers.iter().enumerate().skip(begin).take(limit) {
        answer.push(item(asked, (stack, server), stored, index));
    }
    answer.has_more = servers.len() > begin.saturating_add(limit);
    if servers.is_empty() {
        answer.line("Nothing is stored.");
    } else {
        answer.hint(
            "What failed lately: tool_calls with errors=true, or search_logs with level=error.",
        );
    }
    Ok(answer.finish(asked.bytes_max))
}

/// What is stored of the servers and the signal that are asked for, and what cannot be read.
fn read(asked: &Asked<'_>, open: &Open) -> Result<(Vec<InventoryRecord>, Vec<String>), Refusal> {
    let (mut records, findings) = open.snapshot.readable_inventory()?;
    let params = &asked.params;
    records.retain(|record| {
        (params.servers().is_empty() || params.servers().contains(&record.server))
            && params.signal().is_none_or(|signal| signal == record.signal)
    });
    let findings = findings.into_iter().map(|finding| finding.what);
    let damage = open.snapshot.known_damage()?;
    let damage = damage.iter().map(ToString::to_string);
    Ok((records, findings.chain(damage).collect()))
}

fn item(
    asked: &Asked<'_>,
    (stack, server): (&str, &ServerName),
    stored: &[InventoryRecord],
    index: usize,
) -> Item {
    let server = asked.name(server);
    let stack = asked.name(stack).shown;
    let mut text = format!("stack {stack}, server {}:", server.quoted());
    let mut json = Map::new();
    json.insert("stack".to_owned(), stack.into());
    for (number, record) in stored.iter().enumerate() {
        let comma = if number > 0 { ";" } else { "" };
        let _ = write!(
            text,
            "{comma} {} {}, {}, from {} to {}",
            grouped(record.record_count),
            record.signal,
            size(record.size_bytes),
            ago(asked.params.now(), record.oldest_time),
            asked.when(record.newest_time),
        );
        let of_signal = json!({
            "records": record.record_count,
            "size": size(record.size_bytes),
            "oldest": record.oldest_time.to_string(),
            "newest": record.newest_time.to_string(),
        });
        json.insert(record.signal.as_str().to_owned(), of_signal);
    }
    json.insert("untrusted".to_owned(), json!({ "server": server.shown }));
    Item {
        text,
        json: Value::Object(json),
        cursor: offset_after(index),
    }
}
