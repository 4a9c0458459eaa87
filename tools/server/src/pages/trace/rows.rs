//! The waterfall: a row for each record, with its name in the tree and a bar at its time.

use super::{
    View, level_tag, record, series,
    visible::{Item, Visible},
};
use crate::{
    display::{duration, escape, escape_name, grouped, offset},
    pages::{
        charts::{Mark, Span, Window},
        parts::{Budget, text},
        record::level_class,
    },
};
use gridctl_telemetry::{
    Level, Record, ServerName, Signal, SpanRecord, Timestamp,
    query::{TraceNode, TracePlace},
};
use maud::{Markup, html};
use std::{cell::RefCell, ops::Range, time::Duration};

/// The indent that rows still get; deeper ones say how deep they are.
const INDENTS: usize = 12;
/// Maximum number of log records that are marked on the bar of a span.
const MARKS_MAX: usize = 20;
/// Maximum number of characters of a message in its row.
const MESSAGE_TEXT: usize = 200;
/// Maximum number of characters of all records together.
const PAGE_TEXT: usize = 300_000;

/// The rows of a page.
pub(super) struct Rows<'a> {
    view: &'a View<'a>,
    visible: &'a Visible<'a>,
    window: Window,
    /// The depth of the first row.
    depth: usize,
    /// The room for what records say.
    budget: RefCell<Budget>,
}

impl<'a> Rows<'a> {
    pub(super) fn new(view: &'a View<'a>, visible: &'a Visible<'a>) -> Rows<'a> {
        let summary = &view.tree.summary;
        let first = visible.top.unwrap_or(visible.first);
        Rows {
            view,
            visible,
            window: Window(window(view, visible).unwrap_or(Span::new(summary.start, summary.end))),
            depth: view.node(first).map_or(0, |node| node.depth),
            budget: RefCell::new(Budget(PAGE_TEXT)),
        }
    }

    pub(super) fn draw(&self) -> Markup {
        let range = self.visible.first..self.visible.end;
        html! {
            div.waterfall {
                div.waterfall-row.waterfall-top aria-hidden="true" {
                    span.waterfall-name { "Name" }
                    span.waterfall-took { "Took" }
                    span.waterfall-time { (self.window.axis()) }
                }
                @match self.visible.top {
                    Some(top) => (self.node(top, None, range)),
                    None => (self.siblings(None, range)),
                }
            }
        }
    }

    /// The rows of one level and below, in `range`.
    fn siblings(&self, above: Option<usize>, range: Range<usize>) -> Markup {
        html! {
            @for item in self.visible.items(range) {
                @match item {
                    Item::Node(index) => (self.node(index, above, self.visible.below(index))),
                    Item::More { first, nodes } => (self.more(above, first, nodes)),
                }
            }
        }
    }

    /// A row, and the rows of `below`.
    fn node(&self, index: usize, above: Option<usize>, below: Range<usize>) -> Markup {
        let Some(node) = self.view.node(index) else {
            return html! {};
        };
        let level = node.depth.saturating_sub(self.depth);
        let server = self.view.tree.record(node).server;
        let above = above.and_then(|above| self.view.node(above));
        let is_found = self.view.found.binary_search(&index).is_ok();
        html! {
            div.waterfall-item {
                details.waterfall-record.is-found[is_found] id=(self.view.anchor(index)) data-row {
                    @match self.view.record(index) {
                        Some(Record::Span(record)) => {
                            (self.span_row(index, level, (node, server, &record)))
                            (record::span(self.view, index, (node, server, &record), above, &mut self.budget.borrow_mut()))
                        }
                        Some(record @ Record::Log(_)) => {
                            (self.log_row(level, (node, server, &record)))
                            (record::log(self.view, (node, server, &record), &mut self.budget.borrow_mut()))
                        }
                        _ => {
                            summary.waterfall-row { span class=(name_class(level)) { "a record that cannot be read" } }
                        }
                    }
                }
                @if !below.is_empty() {
                    details.waterfall-below open {
                        summary class=(indent("waterfall-fold", level)) {
                            span.hide { "What is below " (self.view.name_of(index)) }
                        }
                        (self.siblings(Some(index), below))
                    }
                }
            }
        }
    }

    fn span_row(
        &self,
        index: usize,
        level: usize,
        (node, server, record): (&TraceNode, &ServerName, &SpanRecord),
    ) -> Markup {
        let summary = &self.view.tree.summary;
        let number = summary.servers.binary_search(server).unwrap_or(usize::MAX);
        let class = if node.is_error {
            "span-failed"
        } else {
            series(number)
        };
        let name = escape_name(&record.span.name);
        let tool = record.tool().map(escape_name);
        let length = length_of(record);
        let label = format!(
            "{name}: {} at {}",
            length.as_deref().unwrap_or("duration unknown"),
            offset(summary.start, node.start)
        );
        let reason = record::reason(server, record);
        html! {
            summary.waterfall-row.is-failed[node.is_error] {
                span class=(name_class(level)) {
                    (signs(level, node))
                    span.waterfall-label { (text(&record.span.name, &self.view.patterns, &mut Budget(MESSAGE_TEXT))) }
                    @if let Some(tool) = tool.filter(|tool| !name.contains(tool)) { " " span.waterfall-tool { (tool) } }
                    @if summary.servers.len() > 1 { " " span class={ "waterfall-server chart-key " (series(number)) } { (escape(server)) } }
                }
                span.waterfall-took { @match &length { Some(length) => (length), None => span.faint title="It does not say when it began or ended" { "?" } } }
                span.waterfall-time { (self.window.bar(node.start, node.end, class, &label, &self.marks(index))) }
                @if let Some(reason) = reason {
                    span class={ (indent("waterfall-reason", level)) } { (text(&reason, &self.view.patterns, &mut Budget(MESSAGE_TEXT))) }
                }
            }
        }
    }

    fn log_row(
        &self,
        level: usize,
        (node, server, record): (&TraceNode, &ServerName, &Record),
    ) -> Markup {
        let Record::Log(record) = record else {
            return html! {};
        };
        let summary = &self.view.tree.summary;
        let mark = mark(node.end, Some(record.level), &record.message, summary.start);
        html! {
            summary.waterfall-row.is-log {
                span class=(name_class(level)) {
                    (signs(level, node))
                    (level_tag(Some(record.level))) " "
                    span.waterfall-label { (text(first_line(&record.message), &self.view.patterns, &mut Budget(MESSAGE_TEXT))) }
                    @if summary.servers.len() > 1 { " " span.waterfall-server { (escape(server)) } }
                }
                span.waterfall-took { (offset(summary.start, node.end)) }
                span.waterfall-time { (self.window.point(&mark)) }
            }
        }
    }

    /// The log records directly below a span, as points on its bar.
    fn marks(&self, index: usize) -> Vec<Mark> {
        let depth = self.view.node(index).map_or(0, |node| node.depth + 1);
        let below = self.view.tree.nodes.get(self.visible.below(index));
        let logs = below.unwrap_or_default().iter();
        logs.filter(|node| node.depth == depth && node.signal == Signal::Logs)
            .take(MARKS_MAX)
            .map(|node| {
                let record = self.view.tree.record(node);
                let message = record.message().unwrap_or_default();
                mark(
                    node.end,
                    record.level(),
                    message,
                    self.view.tree.summary.start,
                )
            })
            .collect()
    }

    /// The row of what is left out.
    fn more(&self, above: Option<usize>, first: usize, nodes: usize) -> Markup {
        let level = self.view.node(first).map_or(0, |node| node.depth);
        let level = level.saturating_sub(self.depth);
        html! {
            p class={ (indent("waterfall-more", level)) } {
                a href=(self.view.part(above, Some(first))) {
                    (grouped(nodes as u64)) @if nodes == 1 { " more record" } @else { " more records" }
                }
            }
        }
    }
}

/// What is special about the place of a record, in signs that need no colour.
fn signs(level: usize, node: &TraceNode) -> Markup {
    html! {
        @if level > INDENTS { span.faint title="Levels below the first row" { (level) " " } }
        @match node.place {
            TracePlace::Orphan => span.waterfall-sign title="The span above it is not stored" { "?" },
            TracePlace::Cycle => span.waterfall-sign title="It is its own ancestor" { "@" },
            _ => "",
        }
        @if node.is_error && node.signal == Signal::Traces {
            span.waterfall-sign.is-bad { "✗" span.hide { " failed: " } }
        }
    }
}

/// The time of the records of the page: that of the part of the trace which is shown.
fn window(view: &View<'_>, visible: &Visible<'_>) -> Option<Span> {
    let top = visible.top?;
    let nodes = view.tree.nodes.get(top..visible.end)?;
    let spans = nodes.iter().filter(|node| node.signal == Signal::Traces);
    Span::around(spans.flat_map(|node| [node.start, node.end.max(node.start)]))
}

fn mark(at: Timestamp, level: Option<Level>, message: &str, start: Timestamp) -> Mark {
    let level = level.unwrap_or(Level::INFO);
    let message: String = escape_name(first_line(message))
        .chars()
        .take(MESSAGE_TEXT)
        .collect();
    Mark {
        at,
        class: level_class(level),
        label: format!("{level} {} {message}", offset(start, at)),
    }
}

fn first_line(message: &str) -> &str {
    message.lines().next().unwrap_or_default()
}

/// How long a span took; `None` when that is unknown.
fn length_of(record: &SpanRecord) -> Option<String> {
    let (start, end) = (
        record.span.start_time_unix_nano,
        record.span.end_time_unix_nano,
    );
    let nanos = end.checked_sub(start).filter(|_| start != 0)?;
    Some(duration(Duration::from_nanos(nanos)))
}

/// A class with the indent of a level.
fn indent(class: &str, level: usize) -> String {
    format!("{class} indent-{}", level.min(INDENTS))
}

fn name_class(level: usize) -> String {
    indent("waterfall-name", level)
}
