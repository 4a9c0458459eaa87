//! A log record as a row that unfolds to its attributes.

use super::{
    address::Address,
    parts::{Budget, exact_time, text},
};
use crate::{
    display::{entries, escape, is_id, names_server},
    input::Zone,
};
use gridctl_telemetry::{
    Level, LogRecord, Record, Timestamp, Value,
    query::{StoredRecord, TextPattern},
};
use maud::{Markup, html};

/// Maximum number of characters of a record, which can be a mebibyte, and of its line.
const SHOWN_MAX: usize = 16_000;
const LINE_MAX: usize = 300;
/// Maximum number of attributes, and of those on its line.
const ENTRIES_MAX: usize = 200;
const LINE_ENTRIES_MAX: usize = 6;
/// Maximum length of a value that a link filters by, in bytes.
const FILTER_BYTES_MAX: usize = 500;
/// How far around a record its neighbours are shown, in nanoseconds.
const AROUND: i64 = 10_000_000_000;

/// How log records are shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) zone: &'a Zone,
    /// What is marked.
    pub(super) patterns: &'a [TextPattern],
    /// The list that the record is in, which its links narrow.
    pub(super) list: &'a Address,
}

/// The class of a severity, which has its colour.
pub(super) fn level_class(level: Level) -> &'static str {
    match level {
        level if level >= Level::ERROR => "level-error",
        level if level >= Level::WARN => "level-warn",
        level if level >= Level::INFO => "level-info",
        level if level >= Level::DEBUG => "level-debug",
        _ => "level-trace",
    }
}

impl Rows<'_> {
    /// A record. One that is no log is not shown.
    pub(super) fn row(self, stored: &StoredRecord) -> Markup {
        let Record::Log(log) = &stored.record else {
            return html! {};
        };
        let entries = entries(&stored.record);
        let cursor = stored.cursor();
        html! {
            li class={ "log " (level_class(log.level)) } {
                details id={ "r-" (cursor) } data-row data-cursor=(cursor) {
                    summary {
                        (exact_time(stored.timestamp, self.zone)) " "
                        span.log-level { (log.level) } " "
                        span.log-server { (escape(&stored.server)) } " "
                        span.log-line { (self.line(log, &entries)) }
                    }
                    (self.body(stored, log, &entries))
                }
            }
        }
    }

    /// The message and the first attributes.
    fn line(self, log: &LogRecord, entries: &[(String, Value)]) -> Markup {
        let mut budget = Budget(LINE_MAX);
        html! {
            span.log-message { (text(&log.message, self.patterns, &mut budget)) }
            @for (key, value) in entries.iter().filter(|(key, _)| is_telling(key)).take(LINE_ENTRIES_MAX) {
                @if budget.0 > 0 {
                    " " span.log-entry { span.faint { (escape(key)) "=" } (text(&text_of(value), self.patterns, &mut budget)) }
                }
            }
        }
    }

    fn body(self, stored: &StoredRecord, log: &LogRecord, entries: &[(String, Value)]) -> Markup {
        let mut budget = Budget(SHOWN_MAX);
        let only = |name: &str, value: &str| self.narrowed().with(name, value);
        let level = log.level.to_string().to_lowercase();
        html! {
            div.log-body {
                p.log-full { (text(&log.message, self.patterns, &mut budget)) }
                table.entries aria-label="Attributes" {
                    tbody {
                        (entry("time", &html! { (stored.timestamp) }, None, None))
                        (entry("level", &html! { (log.level) }, Some(&only("level", &format!("{level}..{level}"))), None))
                        (entry("server", &html! { (escape(&stored.server)) }, Some(&only("server", &stored.server)), None))
                        @for (key, value) in entries.iter().take(ENTRIES_MAX) {
                            @let expression = expression(key, value);
                            @let with = |name| expression.as_ref().map(|it| self.narrowed().and(name, it));
                            (entry(key, &text(&text_of(value), self.patterns, &mut budget), with("field").as_ref(), with("not-field").as_ref()))
                        }
                    }
                }
                @if entries.len() > ENTRIES_MAX {
                    p.faint { "… " (entries.len() - ENTRIES_MAX) " more attributes" }
                }
                p.log-links { (links(stored, log)) }
            }
        }
    }

    /// The list from its first page on.
    fn narrowed(self) -> Address {
        self.list.clone().without(&["cursor"])
    }
}

/// An attribute, with links to the records that have the same one and to those that do not.
fn entry(key: &str, value: &Markup, only: Option<&Address>, not: Option<&Address>) -> Markup {
    let key = escape(key);
    html! {
        tr {
            th scope="row" { (key) }
            td { (value) }
            td.entry-links {
                @if let Some(only) = only { a href=(only) aria-label={ "only this " (key) } { "only this" } }
                @if let Some(not) = not { a href=(not) aria-label={ "not this " (key) } { "not this" } }
            }
        }
    }
}

fn links(stored: &StoredRecord, log: &LogRecord) -> Markup {
    let at = stored.timestamp.unix_nanos();
    let near = |nanos: i64| Timestamp::from_unix_nanos(at.saturating_add(nanos));
    let logs = Address::new("/logs").with("server", &stored.server);
    let around = logs
        .clone()
        .with("since", near(-AROUND))
        .with("until", near(AROUND));
    let itself = logs.with("since", stored.timestamp).with("until", near(1));
    let trace = log.trace_id().filter(|id| is_id(id, 32));
    html! {
        @if let Some(id) = trace {
            a href={ "/traces/" (id) } { "Trace " code { (id.get(..8).unwrap_or(id)) } }
            a href=(Address::new("/logs").with("trace", id)) { "Logs of this trace" }
        }
        a href=(around) { "10 s around it" }
        a href=(itself) { "Link to this record" }
    }
}

/// Whether an attribute says more than its row does.
fn is_telling(key: &str) -> bool {
    !names_server(key) && !matches!(key, "trace_id" | "span_id" | "target")
}

/// A value as text, without quotes around a string.
pub(super) fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

/// The filter for records with this attribute; `None` if none can say it.
fn expression(key: &str, value: &Value) -> Option<String> {
    let is_sayable = !key.is_empty()
        && key.trim() == key
        && !key.contains(['=', '<', '>', '~'])
        && !key.ends_with('!');
    let value = match value {
        Value::Array(_) | Value::Object(_) => return None,
        // In quotes, because a text may look like a number.
        Value::String(text) => format!("\"{text}\""),
        value => value.to_string(),
    };
    (is_sayable && value.len() <= FILTER_BYTES_MAX).then(|| format!("{key}={value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_filtered_by_where_a_filter_can_say_them() {
        for (key, value, expected) in [
            ("tool", Value::from("search"), Some("tool=\"search\"")),
            ("a b", Value::Int(-5), Some("a b=-5")),
            ("ok", Value::Bool(true), Some("ok=true")),
            ("none", Value::Null, Some("none=null")),
            ("quoted", Value::from("\"x\""), Some("quoted=\"\"x\"\"")),
            ("a=b", Value::Int(1), None),
            ("a!", Value::Int(1), None),
            (" a", Value::Int(1), None),
            ("", Value::Int(1), None),
            ("list", Value::Array(vec![Value::Int(1)]), None),
            ("long", Value::from("x".repeat(600)), None),
        ] {
            assert_eq!(expression(key, &value).as_deref(), expected, "{key}");
        }
    }

    #[test]
    fn only_ids_become_addresses() {
        assert!(is_id("0af7651916cd43dd8448eb211c80319c", 32));
        for other in ["", "../ledger", "0af7651916cd43dd8448eb211c80319?"] {
            assert!(!is_id(other, 32), "{other}");
        }
    }
}
