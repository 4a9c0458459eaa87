//! How a record is shown.
//!
//! Texts of a record are shown without the escape sequences of terminals, which the filters do not see
//! either, and with every other character escaped that a terminal could obey. A line break in a message
//! begins an indented line, so no message can pass for another record.

use super::text::{Shown, write_quoted, write_text};
use crate::{
    output::escape_json,
    screen::{Role, Screen},
};
use anstyle::Style;
use gridctl_telemetry::{
    Level, MetricsSnapshot, Record, ServerName, SpanRecord, Timestamp, Value,
    external::opentelemetry_proto::tonic::trace::v1::{
        Span, Status, span::SpanKind, status::StatusCode,
    },
    lines::{LineFormat, LineWriter},
    query::{RawRecord, StoredRecord, TextPattern},
};
use gridctl_telemetry_server::display::{
    decimals, duration, entries, escape, micro_usd, names_server, origin_entries, otlp_entries, usd,
};
use std::{fmt::Write as _, time::Duration};
use unicode_width::UnicodeWidthStr;

/// On a narrower terminal, times have no date.
const DATE_COLUMNS_MIN: usize = 60;
/// The widest column of servers.
const SERVER_COLUMNS_MAX: usize = 16;

/// How records are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// A line for each record: time, level, server, message and attributes
    Short,
    /// The lines that export-jsonl writes: NDJSON, of traces OTLP/JSON
    Json,
    /// The message alone, or the name of a span
    Cat,
    /// All parts of a record, one on a line
    Verbose,
    /// OTLP/JSON, one record on a line
    Otlp,
}

impl Format {
    /// Whether the lines are for programs, which need every byte.
    pub(crate) fn is_json(self) -> bool {
        matches!(self, Format::Json | Format::Otlp)
    }
}

/// Shows records.
#[derive(Debug)]
pub(crate) struct Renderer<'a> {
    screen: &'a Screen,
    format: Format,
    /// What is highlighted.
    patterns: &'a [TextPattern],
    /// The width of the column of servers; `None` without the column.
    server_columns: Option<usize>,
    lines: LineWriter,
}

impl<'a> Renderer<'a> {
    /// Of `servers`, one or all are shown.
    pub(crate) fn new(
        screen: &'a Screen,
        format: Format,
        patterns: &'a [TextPattern],
        servers: &[ServerName],
    ) -> Renderer<'a> {
        let widest = servers.iter().map(|server| server.width()).max();
        Renderer {
            screen,
            format,
            patterns,
            server_columns: (servers.len() != 1)
                .then_some(widest.unwrap_or(0).min(SERVER_COLUMNS_MAX)),
            lines: LineWriter::new(if format == Format::Otlp {
                LineFormat::Otlp
            } else {
                LineFormat::Ndjson
            }),
        }
    }

    /// Whether records may be shown in any order: a metric of OTLP begins where the one before ended.
    pub(crate) fn can_go_backward(&self) -> bool {
        self.format != Format::Otlp
    }

    /// Appends a record that was found.
    ///
    /// Fails when the record cannot be decoded, and `out` is as it was.
    pub(crate) fn show(
        &mut self,
        record: &RawRecord<'_>,
        out: &mut Vec<u8>,
    ) -> gridctl_telemetry::Result<()> {
        if self.format.is_json() {
            return self.line(record, out);
        }
        self.text(&record.to_stored()?, true, out);
        Ok(())
    }

    /// Appends a record in a format for people; one that was not found itself is shown faintly.
    pub(crate) fn text(&self, record: &StoredRecord, is_match: bool, out: &mut Vec<u8>) {
        let mut line = String::new();
        match self.format {
            Format::Verbose => self.verbose(record, is_match, &mut line),
            Format::Cat => self.cat(record, is_match, &mut line),
            _ => self.short(record, is_match, &mut line),
        }
        line.push('\n');
        out.extend_from_slice(line.as_bytes());
    }

    fn line(&mut self, record: &RawRecord<'_>, out: &mut Vec<u8>) -> gridctl_telemetry::Result<()> {
        let start = out.len();
        self.lines.write(record, out)?;
        self.lines.finish(out);
        if self.screen.is_terminal() {
            let written = out.split_off(start);
            escape_json(&String::from_utf8_lossy(&written), out);
        }
        Ok(())
    }

    fn short(&self, record: &StoredRecord, is_match: bool, line: &mut String) {
        let dim = self.screen.style(Role::Dim);
        let level = level_of(&record.record);
        let base = if is_match {
            self.level_style(level)
        } else {
            dim
        };
        let _ = write!(line, "{dim}{}{dim:#} ", self.time(record.timestamp));
        // No snapshot of metrics has a level.
        if let Some(level) = level {
            let _ = write!(line, "{base}{level:<5}{base:#} ");
        }
        if let Some(columns) = self.server_columns {
            let name = self.screen.style(Role::Name);
            let server = escape(&record.server);
            let columns = if self.screen.is_terminal() {
                columns
            } else {
                0
            };
            let padding = columns.saturating_sub(server.width());
            let _ = write!(line, "{name}{server}{name:#}{:padding$} ", "");
        }
        self.message(&record.record, "    ", self.shown(base, is_match), line);
        for (key, value) in entries(&record.record) {
            // The column says it already.
            if names_server(&key)
                && matches!(&value, Value::String(name) if *name == *record.server)
            {
                continue;
            }
            let _ = write!(line, " {dim}{}={dim:#}", escape(&key));
            let style = if is_match { Style::new() } else { dim };
            write_value(&value, self.shown(style, is_match), line);
        }
    }

    fn cat(&self, record: &StoredRecord, is_match: bool, line: &mut String) {
        let style = if is_match {
            self.level_style(level_of(&record.record))
        } else {
            self.screen.style(Role::Dim)
        };
        self.message(&record.record, "", self.shown(style, is_match), line);
    }

    fn verbose(&self, record: &StoredRecord, is_match: bool, line: &mut String) {
        let dim = self.screen.style(Role::Dim);
        let name = self.screen.style(Role::Name);
        let level = level_of(&record.record);
        let base = if is_match {
            self.level_style(level)
        } else {
            dim
        };
        let _ = write!(line, "{dim}{}{dim:#}", self.screen.time(record.timestamp));
        if let Some(level) = level {
            let _ = write!(line, " {base}{level}{base:#}");
        }
        let _ = write!(line, " {name}{}{name:#}", escape(&record.server));
        let style = if is_match { Style::new() } else { dim };
        let shown = self.shown(style, is_match);
        let mut field = |key: &str, value: &Value| {
            let _ = write!(line, "\n    {dim}{} ={dim:#} ", escape(key));
            match value {
                Value::String(text) => write_text(text, "        ", shown, line),
                value => write_value(value, shown, line),
            }
        };
        field("message", &self.sentence(&record.record).into());
        if let Record::Span(span) = &record.record {
            span_fields(span, self.screen, &mut field);
        }
        for (key, value) in entries(&record.record) {
            field(&key, &value);
        }
        if let Record::Span(span) = &record.record {
            origin_fields(span, &mut field);
        }
        field("cursor", &record.cursor().to_string().into());
    }

    /// The time in a column of constant width.
    fn time(&self, time: Timestamp) -> String {
        let clock = self.screen.clock_time(time);
        match self.screen.width() {
            // Its zone is not known where it is read.
            None => clock.replace(' ', "T") + "Z",
            Some(columns) if columns < DATE_COLUMNS_MIN => clock
                .split_once(' ')
                .and_then(|(_, time)| time.get(..8))
                .unwrap_or(&clock)
                .to_owned(),
            Some(_) => clock,
        }
    }

    /// The style of a record of this severity.
    pub(crate) fn level_style(&self, level: Option<Level>) -> Style {
        match level {
            Some(level) if level >= Level::ERROR => self.screen.style(Role::Error),
            Some(level) if level >= Level::WARN => self.screen.style(Role::Warning),
            Some(level) if level < Level::INFO => self.screen.style(Role::Dim),
            _ => Style::new(),
        }
    }

    /// The styles of a text of a record.
    pub(crate) fn shown(&self, base: Style, is_match: bool) -> Shown<'a> {
        Shown {
            base,
            found: self.screen.style(Role::Match),
            patterns: if is_match { self.patterns } else { &[] },
        }
    }

    fn message(&self, record: &Record, indent: &str, shown: Shown<'_>, line: &mut String) {
        write_text(&self.sentence(record), indent, shown, line);
    }

    /// What a record says, in a sentence.
    fn sentence(&self, record: &Record) -> String {
        match record {
            Record::Log(log) => log.message.clone(),
            Record::Metrics(snapshot) => metrics_sentence(snapshot),
            Record::Span(span) if self.format == Format::Short => span_sentence(&span.span),
            Record::Span(span) => span.span.name.clone(),
            _ => String::new(),
        }
    }
}

/// Appends a value on one line.
pub(crate) fn write_value(value: &Value, shown: Shown<'_>, line: &mut String) {
    match value {
        Value::String(text) => write_quoted(text, shown, line),
        Value::Array(_) | Value::Object(_) => write_text(&value.to_string(), "", shown, line),
        value => {
            let base = shown.base;
            let _ = write!(line, "{base}{value}{base:#}");
        }
    }
}

/// The severity of a record, as filters see it.
fn level_of(record: &Record) -> Option<Level> {
    match record {
        Record::Log(log) => Some(log.level),
        Record::Span(span) if span.is_error() => Some(Level::ERROR),
        Record::Span(_) => Some(Level::INFO),
        _ => None,
    }
}

fn span_sentence(span: &Span) -> String {
    let mut sentence = span.name.clone();
    if let Some(took) = duration_of(span) {
        let _ = write!(sentence, " ({})", duration(took));
    }
    let status = span.status.as_ref().map(|status| &status.message);
    if let Some(status) = status.filter(|status| !status.is_empty()) {
        let _ = write!(sentence, ": {status}");
    }
    sentence
}

fn duration_of(span: &Span) -> Option<Duration> {
    let (start, end) = (span.start_time_unix_nano, span.end_time_unix_nano);
    (start != 0 && end != 0).then(|| Duration::from_nanos(end.saturating_sub(start)))
}

fn metrics_sentence(snapshot: &MetricsSnapshot) -> String {
    let (diff, total) = (snapshot.diff, snapshot.total);
    let mut sentence = if snapshot.reset {
        "counters restarted; ".to_owned()
    } else {
        String::new()
    };
    let _ = write!(
        sentence,
        "{:+} tokens ({:+} in, {:+} out), {} in total",
        diff.total_tokens, diff.input_tokens, diff.output_tokens, total.total_tokens
    );
    if let Some(cost) = snapshot.cost_total {
        let diff = snapshot.cost_diff.unwrap_or_default();
        let shown = |cost| usd(micro_usd(cost), decimals(micro_usd(cost)));
        let _ = write!(sentence, "; {}, {} in total", shown(diff), shown(cost));
    }
    sentence
}

/// The parts of a span that are no attributes.
fn span_fields(record: &SpanRecord, screen: &Screen, field: &mut impl FnMut(&str, &Value)) {
    let span = &record.span;
    if let Some(took) = duration_of(span) {
        field("duration", &duration(took).into());
    }
    if span.start_time_unix_nano != 0 {
        let start = i64::try_from(span.start_time_unix_nano).unwrap_or(i64::MAX);
        let start = screen.time(Timestamp::from_unix_nanos(start));
        field("start", &start.into());
    }
    let status = span.status.as_ref();
    let code = status.map_or(StatusCode::Unset, Status::code);
    field("status", &name_of(code.as_str_name(), "STATUS_CODE_"));
    if let Some(status) = status.filter(|status| !status.message.is_empty()) {
        field("status message", &status.message.clone().into());
    }
    let kind = SpanKind::try_from(span.kind).unwrap_or_default();
    field("kind", &name_of(kind.as_str_name(), "SPAN_KIND_"));
    for (key, id) in [
        ("trace_id", &span.trace_id),
        ("span_id", &span.span_id),
        ("parent_span_id", &span.parent_span_id),
    ] {
        if !id.is_empty() {
            let hex = id.iter().fold(String::new(), |mut hex, byte| {
                let _ = write!(hex, "{byte:02x}");
                hex
            });
            field(key, &hex.into());
        }
    }
}

/// The name of a member of an enumeration of OTLP, as people write it.
fn name_of(name: &str, prefix: &str) -> Value {
    name.trim_start_matches(prefix).to_lowercase().into()
}

/// The events of a span, and what produced it.
pub(crate) fn origin_fields(record: &SpanRecord, field: &mut impl FnMut(&str, &Value)) {
    let mut parts = Vec::new();
    for event in &record.span.events {
        let since = event
            .time_unix_nano
            .saturating_sub(record.span.start_time_unix_nano);
        let at = format!("+{}", duration(Duration::from_nanos(since)));
        parts.push((format!("event {}", event.name), at.into()));
        parts.extend(otlp_entries("event ", &event.attributes));
    }
    parts.extend(origin_entries(record));
    for (key, value) in parts {
        field(&key, &value);
    }
}
