//! `losses`: records that were lost or evicted.

use super::{Tool, count, offset, offset_after};
use crate::{
    answer::{Answer, Item},
    asked::{Asked, Refusal},
    schema::Own,
};
use gridctl_telemetry::ledger::{LedgerEntry, LossCause};
use gridctl_telemetry_server::{
    display::{
        ago,
        losses::{evicted, summary},
    },
    params::SCOPE,
};
use rmcp::model::CallToolResult;
use serde_json::{Map, Value};
use std::fmt::Write as _;

/// The number of entries of an answer unless the question says another.
const LIMIT_DEFAULT: usize = 10;

pub(super) const TOOL: Tool = Tool {
    name: "losses",
    title: "Lost and evicted records",
    description: "Says which telemetry is missing: records that were lost, when and why, and records that limits of size or \
                  age evicted, which are no losses. Ask it before concluding from missing records that something did not \
                  happen.",
    view: &[SCOPE, &["limit", "cursor"]],
    own: &[Own::STACK, Own::BYTES],
    list: "entries",
    items: "Entries, the newest first: cause, records (0 if unknown), from and to (times of the records), ago, evicted, signal, untrusted.server.",
    output: &[
        ("lost", "The number of lost records that were counted."),
        ("evicted", "The number of evicted records."),
        (
            "damaged",
            "The number of parts of the store that are known to be damaged.",
        ),
    ],
    run,
};

fn run(asked: &Asked<'_>) -> Result<CallToolResult, Refusal> {
    let open = asked.open()?;
    let servers = asked.params.servers();
    let mut entries = open.snapshot.ledger(asked.params.range()?)?;
    entries.retain(|entry| {
        let server = entry.server.as_ref();
        servers.is_empty() || server.is_none_or(|server| servers.contains(server))
    });
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.to));
    let mut answer = Answer::new(TOOL.list);
    let is_evicted = |entry: &&LedgerEntry| entry.cause == LossCause::Retention;
    let lost = entries.iter().filter(|entry| !is_evicted(entry));
    answer.field("evicted", records(entries.iter().filter(is_evicted)));
    answer.field("lost", records(lost));
    let time = |at| asked.when(at);
    answer.line(match summary(&entries, time) {
        Some(lost) => format!("{}.", capital(&lost)),
        None => "No records were lost.".to_owned(),
    });
    if let Some(evicted) = evicted(&entries, time) {
        answer.line(format!("{}.", capital(&evicted)));
    }
    let damaged = open.snapshot.known_damage()?;
    answer.field("damaged", damaged.len());
    if let Some(first) = damaged.first() {
        answer.line(format!(
            "{} known to be damaged, found {}: {}.",
            count(damaged.len() as u64, "part"),
            asked.when(first.found),
            asked.said(&first.to_string()).quoted()
        ));
    }
    let begin = offset(asked)?;
    let limit = asked.limit(LIMIT_DEFAULT);
    for (index, entry) in entries.iter().enumerate().skip(begin).take(limit) {
        answer.push(item(asked, entry, index));
    }
    answer.has_more = entries.len() > begin.saturating_add(limit);
    Ok(answer.finish(asked.bytes_max))
}

fn records<'a>(entries: impl Iterator<Item = &'a LedgerEntry>) -> u64 {
    entries.fold(0, |sum, entry| sum.saturating_add(entry.count))
}

fn item(asked: &Asked<'_>, entry: &LedgerEntry, index: usize) -> Item {
    let mut json = Map::new();
    let is_evicted = entry.cause == LossCause::Retention;
    let mut text = format!("{}: {}", entry.cause, count(entry.count, "record"));
    if let Some(signal) = entry.signal {
        let _ = write!(text, " of {signal}");
        json.insert("signal".to_owned(), signal.as_str().into());
    }
    let _ = write!(text, ", from {} to {}", entry.from, asked.when(entry.to));
    json.insert("cause".to_owned(), entry.cause.as_str().into());
    json.insert("evicted".to_owned(), is_evicted.into());
    json.insert("records".to_owned(), entry.count.into());
    json.insert("from".to_owned(), entry.from.to_string().into());
    json.insert("to".to_owned(), entry.to.to_string().into());
    json.insert("ago".to_owned(), ago(asked.params.now(), entry.to).into());
    if let Some(server) = &entry.server {
        let server = asked.name(server);
        let _ = write!(text, " {}", server.quoted());
        let mut untrusted = Map::new();
        untrusted.insert("server".to_owned(), server.shown.into());
        json.insert("untrusted".to_owned(), Value::Object(untrusted));
    }
    Item {
        text,
        json: json.into(),
        cursor: offset_after(index),
    }
}

fn capital(sentence: &str) -> String {
    let mut chars = sentence.chars();
    let first = chars.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(chars).collect()
}
