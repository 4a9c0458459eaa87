//! `search_logs`: log records, the newest first.

use super::{Tool, count};
use crate::{
    answer::{Answer, Item, Said, json_said, piece},
    asked::{Asked, COUNT_TIME_MAX, Open, Refusal},
    schema::Own,
};
use gridctl_telemetry::{
    Level, Query, Record, Signal, Timestamp,
    lines::LineFormat,
    query::{CountBy, Cursor, Direction, Scan, StoredRecord},
};
use gridctl_telemetry_server::{
    display::{ago, entries, grouped, is_id, names_server},
    params::{FILTER, PAGE, SCOPE},
};
use rmcp::model::CallToolResult;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// The number of records of an answer unless the question says another.
const LIMIT_DEFAULT: usize = 8;
/// The number of records between two looks at the clock.
const RECORDS_UNCHECKED: u64 = 1024;
/// The size of the records of an answer after which no more are read, in bytes.
const FOUND_BYTES_MAX: usize = 4 << 20;

pub(super) const TOOL: Tool = Tool {
    name: "search_logs",
    title: "Search log records",
    description: "Finds log records of MCP servers, the newest first: by server, time, level, text, entry (field) and trace. \
                  Says how many there are by level and how many match, then shows the newest few. Begin with a range of \
                  time and a level, e.g. {\"since\": \"1h\", \"level\": \"warn\"}; then narrow with server, grep or field, \
                  or get more with cursor.",
    view: &[SCOPE, FILTER, PAGE],
    own: &[Own::STACK, Own::RECORD, Own::OFFSET, Own::BYTES],
    list: "records",
    items: "Records: time (exact), ago, level, trace and span (ids), record (for the whole of it), untrusted.server, .message and .fields.",
    output: &[
        (
            "by_level",
            "How many records of the servers and the range have which level.",
        ),
        ("matched", "How many records match."),
        (
            "matched_is_exact",
            "False if counting was stopped: there are at least `matched`.",
        ),
        ("bytes", "Of a whole record: its size."),
        ("offset", "Of a whole record: where the piece begins."),
        (
            "next_offset",
            "Of a whole record: where the next piece begins.",
        ),
        ("untrusted", "Of a whole record: a piece of its JSON."),
    ],
    run,
};

fn run(asked: &Asked<'_>) -> Result<CallToolResult, Refusal> {
    if let Some(record) = asked.text(&Own::RECORD) {
        return whole(asked, record);
    }
    let open = asked.open()?;
    let params = &asked.params;
    let is_first_page = params.cursor().is_none();
    let mut answer = Answer::new(TOOL.list);

    let mut exact = None;
    if is_first_page && let Some(levels) = by_level(asked, &open)? {
        let total: u64 = levels.iter().map(|(_, count)| count).sum();
        if !params.filters_texts() {
            let wanted = levels.iter().filter(|(level, _)| params.includes(*level));
            exact = Some(wanted.map(|(_, count)| count).sum());
        }
        let listed: Vec<String> = levels
            .iter()
            .rev()
            .map(|(level, count)| format!("{} {level}", grouped(*count)))
            .collect();
        let levels: Map<String, Value> = (levels.iter())
            .map(|(level, count)| (level.to_string(), (*count).into()))
            .collect();
        answer.field("by_level", levels);
        let mut line = format!("{} in the range", count(total, "log record"));
        if !listed.is_empty() {
            let _ = write!(line, ": {}", listed.join(", "));
        }
        answer.line(line + ".");
    }

    let query = params.records(Signal::Logs, Direction::Backward)?;
    let limit = asked.limit(LIMIT_DEFAULT);
    let mut scan = open.snapshot.scan(&query)?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    while let Some(record) = scan.next()? {
        if found.len() == limit || bytes > FOUND_BYTES_MAX {
            answer.has_more = true;
            break;
        }
        bytes += record.payload_bytes();
        found.push(record.to_stored()?);
    }
    if is_first_page {
        let shown = found.len() as u64;
        let (matched, is_exact, reached) = match exact {
            Some(matched) => (matched, true, None),
            None if params.filters_texts() => rest(asked, &mut scan, shown, answer.has_more)?,
            // One by one, it would take much longer still.
            None => (shown, !answer.has_more, None),
        };
        answer.field("matched", matched);
        answer.field("matched_is_exact", is_exact);
        answer.line(match reached {
            None if is_exact => format!("{} match.", grouped(matched)),
            None => format!("At least {} match.", grouped(matched)),
            Some(reached) => format!(
                "At least {} match: counting was stopped at {}.",
                grouped(matched),
                asked.when(reached)
            ),
        });
    }
    if let Some(damage) = asked.damage(&scan.damage()) {
        answer.line(damage);
    }

    let (mut is_cut, mut has_trace) = (false, false);
    for mut stored in found {
        asked.redactor().redact(&mut stored.record);
        let shown = Shown::new(asked, &stored);
        is_cut |= shown.is_cut;
        has_trace |= shown.trace.is_some();
        answer.push(shown.item(asked, &stored));
    }
    if answer.is_empty() {
        nothing(asked, &open, &mut answer)?;
    }
    if answer.has_more {
        answer.hint("Narrow with since and until, server, level, grep, field or trace.");
    }
    if is_cut {
        answer.hint("Whole records in pieces: search_logs with \"record\".");
    }
    if has_trace {
        answer.hint("What happened around it: get_trace with \"trace\".");
    }
    Ok(answer.finish(asked.bytes_max))
}

/// How many records of the servers and the range have which level; `None` if that takes long.
fn by_level(asked: &Asked<'_>, open: &Open) -> Result<Option<Vec<(Level, u64)>>, Refusal> {
    let scope = asked
        .params
        .scope()
        .records(Signal::Logs, Direction::Forward)?;
    // What matches is counted besides if it says something.
    let time = if asked.params.filters_texts() {
        COUNT_TIME_MAX
    } else {
        2 * COUNT_TIME_MAX
    };
    let report = asked
        .clock()
        .within(time, || open.snapshot.count(&scope, &[CountBy::Level]))?;
    Ok(report.map(|report| {
        let rows = report.rows.into_iter();
        rows.filter_map(|row| Some((row.level?, row.count)))
            .collect()
    }))
}

/// How many records match, when `shown` were found and the scan is at the next one if there are `more`; whether those are
/// all, and else the time at which counting was stopped.
fn rest(
    asked: &Asked<'_>,
    scan: &mut Scan,
    shown: u64,
    more: bool,
) -> Result<(u64, bool, Option<Timestamp>), Refusal> {
    let mut matched = shown + u64::from(more);
    if !more {
        return Ok((matched, true, None));
    }
    let mut reached = None;
    let counted = asked.clock().within(COUNT_TIME_MAX, || {
        while let Some(record) = scan.next()? {
            matched += 1;
            reached = Some(record.timestamp);
            if matched.is_multiple_of(RECORDS_UNCHECKED) && asked.clock().is_over() {
                return Ok(false);
            }
        }
        Ok(true)
    })?;
    match counted {
        Some(true) => Ok((matched, true, None)),
        _ => Ok((matched, false, reached)),
    }
}

/// Says what is stored when nothing was found.
fn nothing(asked: &Asked<'_>, open: &Open, answer: &mut Answer) -> Result<(), Refusal> {
    let (stored, _) = open.snapshot.readable_inventory()?;
    let logs: Vec<_> = (stored.iter())
        .filter(|stored| stored.signal == Signal::Logs)
        .collect();
    let oldest = logs.iter().map(|stored| stored.oldest_time).min();
    let newest = logs.iter().map(|stored| stored.newest_time).max();
    let (Some(oldest), Some(newest)) = (oldest, newest) else {
        answer.hint("No log records are stored: see inventory.");
        return Ok(());
    };
    let servers = asked.params.servers();
    let is_known =
        |name: &&gridctl_telemetry::ServerName| logs.iter().any(|stored| stored.server == **name);
    if let Some(unknown) = servers.iter().find(|name| !is_known(name)) {
        let known: Vec<String> = (logs.iter().take(5))
            .map(|stored| asked.name(&stored.server).quoted())
            .collect();
        answer.hint(format!(
            "There are no log records of {}. Servers with logs: {}{}.",
            asked.name(unknown).quoted(),
            known.join(", "),
            if logs.len() > 5 { " and others" } else { "" }
        ));
    }
    answer.hint(format!(
        "Log records are stored from {} to {}.",
        asked.when(oldest),
        asked.when(newest)
    ));
    Ok(())
}

/// A record as an item shows it.
struct Shown {
    server: Said,
    level: Option<Level>,
    message: Said,
    fields: Said,
    trace: Option<String>,
    span: Option<String>,
    is_cut: bool,
}

impl Shown {
    fn new(asked: &Asked<'_>, stored: &StoredRecord) -> Shown {
        let (mut level, mut message, mut trace, mut span) = (None, "", None, None);
        if let Record::Log(log) = &stored.record {
            level = Some(log.level);
            message = &log.message;
            trace = log.trace_id().filter(|id| is_id(id, 32)).map(str::to_owned);
            span = log.span_id().filter(|id| is_id(id, 16)).map(str::to_owned);
        }
        let is_shown = |key: &str, value: &gridctl_telemetry::Value| {
            let is =
                |of: &str| matches!(value, gridctl_telemetry::Value::String(text) if text == of);
            !(names_server(key) && is(&stored.server)
                || key == "trace_id" && trace.as_deref().is_some_and(is)
                || key == "span_id" && span.as_deref().is_some_and(is))
        };
        let mut fields = String::new();
        for (key, value) in entries(&stored.record) {
            if is_shown(&key, &value) {
                let space = if fields.is_empty() { "" } else { " " };
                let _ = write!(fields, "{space}{key}={}", plain(&value));
            }
            // What follows is not shown.
            if fields.len() > asked.bytes_max {
                break;
            }
        }
        let message = asked.said(message);
        let fields = asked.said(&fields);
        Shown {
            server: asked.name(&stored.server),
            level,
            is_cut: message.is_cut || fields.is_cut,
            message,
            fields,
            trace,
            span,
        }
    }

    fn item(self, asked: &Asked<'_>, stored: &StoredRecord) -> Item {
        let cursor = stored.cursor().to_string();
        let level = self
            .level
            .map(|level| level.to_string())
            .unwrap_or_default();
        let mut text = format!("{} {level}", asked.when(stored.timestamp));
        let mut json = Map::new();
        json.insert("time".to_owned(), stored.timestamp.to_string().into());
        json.insert(
            "ago".to_owned(),
            ago(asked.params.now(), stored.timestamp).into(),
        );
        json.insert("level".to_owned(), level.into());
        for (name, id) in [("trace", &self.trace), ("span", &self.span)] {
            if let Some(id) = id {
                let _ = write!(text, " {name} {id}");
                json.insert(name.to_owned(), id.as_str().into());
            }
        }
        if self.is_cut {
            let _ = write!(text, " record {cursor}");
            json.insert("record".to_owned(), cursor.as_str().into());
        }
        let _ = write!(text, " «{}: {}", self.server.shown, self.message.shown);
        let mut untrusted = Map::new();
        untrusted.insert("server".to_owned(), self.server.shown.into());
        untrusted.insert("message".to_owned(), self.message.shown.into());
        if !self.fields.shown.is_empty() {
            let _ = write!(text, " {}", self.fields.shown);
            untrusted.insert("fields".to_owned(), self.fields.shown.into());
        }
        text.push('»');
        json.insert("untrusted".to_owned(), untrusted.into());
        Item {
            text,
            json: json.into(),
            cursor,
        }
    }
}

/// A value, in quotes where its end would not be seen without them.
fn plain(value: &gridctl_telemetry::Value) -> String {
    match value {
        gridctl_telemetry::Value::String(text)
            if text.is_empty()
                || text
                    .contains(|char: char| char.is_whitespace() || matches!(char, '"' | '=')) =>
        {
            format!("{text:?}")
        }
        gridctl_telemetry::Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

/// One record, in pieces.
fn whole(asked: &Asked<'_>, cursor: &str) -> Result<CallToolResult, Refusal> {
    let wanted: Cursor = cursor.parse().map_err(|_| {
        Refusal::new(format!(
            "record: {cursor:?} is none: pass the \"record\" of an earlier answer"
        ))
    })?;
    let open = asked.open()?;
    let at = wanted.timestamp();
    let query = Query::new(Signal::Logs).range(at..=at).skip_damaged();
    let mut scan = open.snapshot.scan(&query)?;
    while let Some(record) = scan.next()? {
        if record.cursor() == wanted {
            let stored = record.to_stored()?;
            let fields = json!({ "record": cursor, "time": at.to_string() });
            return pieces(asked, stored, &format!("the record of {at}"), fields);
        }
    }
    Err(Refusal::new(format!(
        "record: {cursor:?} is not stored any more: limits have evicted it, or it was deleted"
    )))
}

/// A stored record, in pieces.
pub(super) fn pieces(
    asked: &Asked<'_>,
    mut stored: StoredRecord,
    what: &str,
    fields: Value,
) -> Result<CallToolResult, Refusal> {
    asked.redactor().redact(&mut stored.record);
    let json = serde_json::to_string(&stored.json(LineFormat::Ndjson));
    let json = json.map_err(|error| Refusal::new(error.to_string()))?;
    let fields = match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    Ok(piece(
        what,
        fields,
        &json_said(&json),
        asked.offset(),
        asked.bytes_max,
    ))
}
