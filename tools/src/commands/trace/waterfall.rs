//! A trace as a tree of spans, each with a bar at its time.

use crate::{
    listing::{Format, Renderer, origin_fields, write_text, write_value},
    screen::{Role, Screen, cut},
};
use anstyle::Style;
use gridctl_telemetry::{
    Level, LogRecord, Record, SpanRecord, Timestamp, Value,
    query::{Trace, TraceEntry, TracePlace},
};
use gridctl_telemetry_server::display::{
    duration, entries, escape, escape_name, names_server, offset,
};
use std::{
    fmt::Write as _,
    io::{self, Write},
    ops::RangeInclusive,
};
use unicode_width::UnicodeWidthStr;

/// The width of a file or a pipe, whose lines are never cut.
const PIPE_COLUMNS: usize = 100;
/// On a narrower terminal there are no bars.
const BAR_TERMINAL_MIN: usize = 60;
const BAR_COLUMNS: RangeInclusive<usize> = 10..=40;
/// The width of durations.
const DURATION_COLUMNS: usize = 7;
/// The width of one level of the tree.
const LEVEL_COLUMNS: usize = 2;

/// The attributes of a log that are left out of its short form, because the tree says the same or because they
/// are about the program.
const KNOWN_KEYS: [&str; 3] = ["trace_id", "span_id", "target"];

/// Shows a trace.
pub(super) struct Waterfall<'a> {
    trace: &'a Trace,
    screen: &'a Screen,
    renderer: Renderer<'a>,
    has_attributes: bool,
    /// The lines of the tree before each entry.
    guides: Vec<Guides>,
    /// The width of the tree.
    tree_columns: usize,
    /// Zero for no bars.
    bar_columns: usize,
}

/// The lines of the tree before an entry.
struct Guides {
    own: String,
    /// Before the further lines of the entry.
    below: String,
}

impl<'a> Waterfall<'a> {
    pub(super) fn new(trace: &'a Trace, screen: &'a Screen, has_attributes: bool) -> Waterfall<'a> {
        let columns = screen.width().unwrap_or(PIPE_COLUMNS);
        let bar_columns = if columns < BAR_TERMINAL_MIN {
            0
        } else {
            (columns / 3).clamp(*BAR_COLUMNS.start(), *BAR_COLUMNS.end())
        };
        let gaps = if bar_columns == 0 { 1 } else { 4 };
        let room = columns.saturating_sub(bar_columns + DURATION_COLUMNS + gaps);
        let mut waterfall = Waterfall {
            trace,
            screen,
            renderer: Renderer::new(screen, Format::Short, &[], &[]),
            has_attributes,
            guides: guides(&trace.entries, (room / 3 / LEVEL_COLUMNS).max(1)),
            tree_columns: room,
            bar_columns,
        };
        waterfall.tree_columns = waterfall.widest().min(room);
        waterfall
    }

    pub(super) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        self.print_head(out)?;
        for (entry, guides) in self.trace.entries.iter().zip(&self.guides) {
            match &entry.stored.record {
                Record::Span(record) => self.print_span(entry, record, guides, out)?,
                Record::Log(log) => self.print_log(entry, log, guides, out)?,
                _ => {}
            }
        }
        let dim = self.screen.style(Role::Dim);
        for (place, said) in [
            (TracePlace::Orphan, "?  its parent is not stored"),
            (TracePlace::Cycle, "@  it is its own ancestor"),
        ] {
            if self.trace.entries.iter().any(|entry| entry.place == place) {
                writeln!(out, "{dim}{said}{dim:#}")?;
            }
        }
        Ok(())
    }

    fn print_head(&self, out: &mut impl Write) -> io::Result<()> {
        let summary = &self.trace.summary;
        let (bold, red) = (
            self.screen.style(Role::Heading),
            self.screen.style(Role::Error),
        );
        writeln!(out, "{bold}trace {}{bold:#}", escape(&summary.trace_id))?;
        let counted = |count: u64, noun: &str| {
            let plural = if count == 1 { "" } else { "s" };
            format!("{count} {noun}{plural}")
        };
        let start = if self.screen.is_terminal() {
            self.screen.clock_time(summary.start)
        } else {
            self.screen.time(summary.start)
        };
        let mut facts = vec![
            start,
            duration(summary.duration),
            counted(summary.spans, "span"),
        ];
        if summary.errors > 0 {
            facts.push(format!("{red}{} failed{red:#}", summary.errors));
        }
        if self.trace.logs > 0 {
            facts.push(counted(self.trace.logs, "log record"));
        }
        let servers: Vec<String> = summary.servers.iter().map(|name| escape(name)).collect();
        if !servers.is_empty() {
            facts.push(servers.join(", "));
        }
        if let Some(client) = &summary.client {
            facts.push(format!("client {}", escape(client)));
        }
        writeln!(out, "{}\n", facts.join(" · "))
    }

    fn print_span(
        &self,
        entry: &TraceEntry,
        record: &SpanRecord,
        guides: &Guides,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let (dim, server_style) = (self.screen.style(Role::Dim), self.screen.style(Role::Name));
        let (style, bar_style) = if record.is_error() {
            let red = self.screen.style(Role::Error);
            (red, red)
        } else {
            (Style::new(), server_style)
        };
        let (name, server) = self.label(entry, record);
        let room = match self.screen.width() {
            Some(_) => self.tree_columns.saturating_sub(guides.own.width()),
            None => usize::MAX,
        };
        let name = cut(&name, room);
        let server = cut(&server, room.saturating_sub(name.width()));
        let used = guides.own.width() + name.width() + server.width();
        let padding = self.tree_columns.saturating_sub(used);
        let mut line = format!(
            "{dim}{}{dim:#}{style}{name}{style:#}{server_style}{server}{server_style:#}{:padding$}",
            guides.own, ""
        );
        let (start, end) = times(entry, record);
        if self.bar_columns > 0 {
            let (before, length) = self.bar(start, end);
            let after = self.bar_columns.saturating_sub(before + length);
            let bar = "█".repeat(length);
            let _ = write!(
                line,
                "  {:before$}{bar_style}{bar}{bar_style:#}{:after$} ",
                "", ""
            );
        }
        let span = &record.span;
        let took = if span.start_time_unix_nano == 0 || span.end_time_unix_nano == 0 {
            "?".to_owned()
        } else {
            duration(end.saturating_duration_since(start))
        };
        writeln!(out, "{line} {took:>DURATION_COLUMNS$}")?;
        let message = span.status.as_ref().map(|status| status.message.as_str());
        if let Some(message) = message.filter(|message| !message.is_empty()) {
            let indent = format!("{}  ", guides.below);
            let mut text = format!("{dim}{indent}{dim:#}");
            write_text(
                message,
                &indent,
                self.renderer.shown(style, true),
                &mut text,
            );
            writeln!(out, "{text}")?;
        }
        if self.has_attributes {
            let mut fields = entries(&entry.stored.record);
            origin_fields(record, &mut |key, value| {
                fields.push((key.to_owned(), value.clone()));
            });
            for (key, value) in &fields {
                let mut line = format!("{dim}{} {dim:#}", guides.below);
                self.field(key, value, &mut line);
                writeln!(out, "{line}")?;
            }
        }
        Ok(())
    }

    fn print_log(
        &self,
        entry: &TraceEntry,
        log: &LogRecord,
        guides: &Guides,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let dim = self.screen.style(Role::Dim);
        let style = self.renderer.level_style(Some(log.level));
        let at = offset(self.trace.summary.start, log.timestamp);
        let mut line = format!(
            "{dim}{}· {at}{dim:#} {style}{}{style:#} ",
            guides.own, log.level
        );
        let indent = format!("{}  ", guides.below);
        let shown = self.renderer.shown(style, true);
        write_text(&log.message, &indent, shown, &mut line);
        if self.has_attributes {
            for (key, value) in entries(&entry.stored.record) {
                self.field(&key, &value, &mut line);
            }
        } else if log.level >= Level::WARN {
            // Objects are the fields of the spans around the event, which are in the tree.
            for (key, value) in &log.attributes {
                let is_known = names_server(key) || KNOWN_KEYS.contains(&key.as_str());
                if !is_known && !matches!(value, Value::Object(_)) {
                    self.field(key, value, &mut line);
                }
            }
        }
        writeln!(out, "{line}")
    }

    /// Appends an entry of a record.
    fn field(&self, key: &str, value: &Value, line: &mut String) {
        let dim = self.screen.style(Role::Dim);
        let _ = write!(line, " {dim}{}={dim:#}", escape(key));
        let shown = self.renderer.shown(Style::new(), true);
        write_value(value, shown, line);
    }

    /// The name of a span with its marks and its tool, and its server, both escaped.
    fn label(&self, entry: &TraceEntry, record: &SpanRecord) -> (String, String) {
        let mut label = String::new();
        match entry.place {
            TracePlace::Orphan => label.push_str("? "),
            TracePlace::Cycle => label.push_str("@ "),
            _ => {}
        }
        if record.is_error() {
            label.push_str("✗ ");
        }
        label.push_str(&escape_name(&record.span.name));
        if let Some(tool) = record.tool()
            && !record.span.name.contains(tool)
        {
            let _ = write!(label, " {}", escape_name(tool));
        }
        let server = if self.trace.summary.servers.len() > 1 {
            format!(" {}", escape(&entry.stored.server))
        } else {
            String::new()
        };
        (label, server)
    }

    /// The columns before a bar, and its length: at least one.
    fn bar(&self, start: Timestamp, end: Timestamp) -> (usize, usize) {
        let summary = &self.trace.summary;
        let columns = self.bar_columns as u128;
        let whole = summary.duration.as_nanos().max(1);
        let column =
            |time: Timestamp| time.saturating_duration_since(summary.start).as_nanos() * columns;
        let first = (column(start) / whole).min(columns.saturating_sub(1));
        let last = column(end).div_ceil(whole).clamp(first + 1, columns);
        let narrow = |columns: u128| usize::try_from(columns).unwrap_or(0);
        (narrow(first), narrow(last - first))
    }

    /// The width of the widest span in the tree.
    fn widest(&self) -> usize {
        let widths = self.trace.entries.iter().zip(&self.guides);
        let widths = widths.map(|(entry, guides)| match &entry.stored.record {
            Record::Span(record) => {
                let (name, server) = self.label(entry, record);
                guides.own.width() + name.width() + server.width()
            }
            _ => 0,
        });
        widths.max().unwrap_or(0)
    }
}

/// The guides of each entry. Of a deep entry, only those of its nearest levels are shown.
fn guides(entries: &[TraceEntry], levels_max: usize) -> Vec<Guides> {
    // Whether a sibling follows, and whether something is below.
    let mut follows = vec![(false, false); entries.len()];
    let mut open: Vec<bool> = Vec::new();
    for (entry, follows) in entries.iter().zip(&mut follows).rev() {
        let has_below = open.len() > entry.depth + 1;
        open.resize(entry.depth + 1, false);
        if let Some(open) = open.get_mut(entry.depth) {
            *follows = (*open, has_below);
            *open = true;
        }
    }
    let mut above: Vec<bool> = Vec::new();
    let mut guides = Vec::with_capacity(entries.len());
    for (entry, (has_next, has_below)) in entries.iter().zip(follows) {
        above.truncate(entry.depth);
        let hidden = entry.depth.saturating_sub(levels_max);
        let mut own = if hidden > 0 { "…" } else { "" }.to_owned();
        // Entries at the top are not connected.
        for follows in above.iter().skip(hidden + 1) {
            own.push_str(if *follows { "│ " } else { "  " });
        }
        let mut below = own.clone();
        if entry.depth > 0 {
            own.push_str(if has_next { "├ " } else { "└ " });
            below.push_str(if has_next { "│ " } else { "  " });
        }
        below.push(if has_below { '│' } else { ' ' });
        guides.push(Guides { own, below });
        above.push(has_next);
    }
    guides
}

/// When a span began and ended; twice its only time if it says just one.
fn times(entry: &TraceEntry, record: &SpanRecord) -> (Timestamp, Timestamp) {
    let end = entry.stored.timestamp;
    let start = match record.span.start_time_unix_nano {
        0 => end,
        nanos => Timestamp::from_unix_nanos(i64::try_from(nanos).unwrap_or(i64::MAX)),
    };
    (start, end.max(start))
}
