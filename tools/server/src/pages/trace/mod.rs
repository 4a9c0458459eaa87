//! One trace: a waterfall of its spans as a tree, with its log records in their places.
//!
//! All of it works without a script. A row opens to what its record says; a part of a tree is folded and unfolded;
//! and of a large trace, each place where something is left out is a link to it.

mod record;
mod rows;
#[cfg(test)]
mod tests;
mod visible;

use self::{
    rows::Rows,
    visible::{Place, Shape, Visible},
};
use super::{
    address::Address,
    layout::{Page, Section, Viewer, show},
    parts::{Budget, exact_time, fact, text, time, unreadable},
    record::level_class,
    traces::title,
};
use crate::{
    display::{duration, escape, escape_name, grouped, offset},
    input::Zone,
    problem::Problem,
    state::Server,
    views::params::{Params, TRACE},
};
use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::Response,
};
use gridctl_telemetry::{
    Error, Level, Record, Signal, Snapshot, Timestamp,
    query::{Filter, ModelUsage, TextPattern, TraceNode, TraceTree},
};
use maud::{Markup, html};
use std::collections::BTreeMap;

/// Maximum number of failures, of found records and of log records in a list of their own.
const FAILURES_MAX: usize = 5;
const FOUND_MAX: usize = 20;
const LOGS_MAX: usize = 200;
/// Maximum number of nodes of a trace whose calls of models are summed up.
const MODEL_NODES_MAX: usize = 10_000;
/// Maximum number of characters of a record's text in a list.
const LIST_TEXT: usize = 300;

pub(super) async fn trace(
    State(server): State<Server>,
    Path(id): Path<String>,
    viewer: Viewer,
) -> Response {
    show(server, viewer, move |snapshot, viewer| {
        page(snapshot, viewer.address(), &id)
    })
    .await
}

fn page(snapshot: &Snapshot, address: &Address, id: &str) -> Result<Page, Problem> {
    let params = Params::parse(Some(&address.query()), TRACE)?;
    let place: Place = params.typed_cursor()?.unwrap_or_default();
    let found = snapshot.trace_tree(id).map_err(|error| match error {
        Error::AmbiguousTraceId { .. } | Error::InvalidFilter { .. } => {
            Problem::bad_request(error.to_string())
        }
        error => error.into(),
    })?;
    let Some(tree) = found else {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            format!("No span and no log record with the trace id {id} is stored."),
        ));
    };
    let pattern = params.find.as_deref().map(TextPattern::substring);
    let pattern = pattern
        .transpose()
        .map_err(|error| Problem::bad_request(format!("find: {error}")))?;
    let view = View::new(&tree, address, &params, place, pattern);
    let summary = &tree.summary;
    let name = if summary.spans == 0 {
        "Log records of a trace".to_owned()
    } else {
        title(summary)
    };
    let list = Address::new("/traces");
    let list = if params.utc {
        list.with("utc", "true")
    } else {
        list
    };
    Ok(Page::new(Section::Traces, name, view.draw()).under("Traces", list))
}

/// A trace and what of it is asked for.
struct View<'a> {
    tree: &'a TraceTree,
    address: &'a Address,
    zone: Zone,
    place: Place,
    patterns: Vec<TextPattern>,
    /// The nodes in which the text was found that is looked for.
    found: Vec<usize>,
    shapes: Vec<Shape>,
}

impl<'a> View<'a> {
    fn new(
        tree: &'a TraceTree,
        address: &'a Address,
        params: &Params,
        place: Place,
        pattern: Option<TextPattern>,
    ) -> View<'a> {
        let shape = |node: &TraceNode| Shape {
            depth: node.depth,
            below: node.below,
        };
        View {
            tree,
            address,
            zone: params.zone(),
            place,
            found: pattern
                .as_ref()
                .map_or_else(Vec::new, |pattern| found(tree, pattern)),
            patterns: pattern.into_iter().collect(),
            shapes: tree.nodes.iter().map(shape).collect(),
        }
    }

    fn draw(&self) -> Markup {
        let (top, first) = (
            self.index_of(self.place.parent),
            self.index_of(self.place.first),
        );
        let visible = Visible::choose(&self.shapes, top, first);
        html! {
            (self.facts())
            (self.notices(&visible))
            (self.failures(&visible))
            section.panel.waterfall-panel aria-labelledby="spans" {
                div.panel-head.waterfall-head {
                    h2 #spans { "Spans and log records" }
                    (self.find_form())
                }
                (self.found_list(&visible))
                (self.path(&visible))
                (Rows::new(self, &visible).draw())
            }
            div.columns {
                (self.models())
                (self.logs(&visible))
            }
        }
    }

    /// The node of the record with this number.
    fn index_of(&self, sequence: Option<u64>) -> Option<usize> {
        let sequence = sequence?;
        let mut nodes = self.tree.nodes.iter();
        nodes.position(|node| node.sequence == sequence)
    }

    fn node(&self, index: usize) -> Option<&TraceNode> {
        self.tree.nodes.get(index)
    }

    fn record(&self, index: usize) -> Option<Record> {
        self.tree.record(self.node(index)?).decode().ok()
    }

    /// The name of the element of a node.
    fn anchor(&self, index: usize) -> String {
        let sequence = self.node(index).map_or(0, |node| node.sequence);
        format!("r-{sequence:x}")
    }

    /// The address of the part of the trace below `top`, from its child `first` on.
    fn part(&self, top: Option<usize>, first: Option<usize>) -> Address {
        let sequence = |index: Option<usize>| Some(self.node(index?)?.sequence);
        let place = Place {
            parent: sequence(top),
            first: sequence(first),
        };
        if place == Place::default() {
            self.address.clone().without(&["cursor"])
        } else {
            self.address.clone().with("cursor", place)
        }
    }

    /// The address of a row: on this page if it is there, else where it is the first.
    fn row(&self, index: usize, visible: &Visible<'_>) -> String {
        let anchor = self.anchor(index);
        if visible.is_shown(index) {
            return format!("#{anchor}");
        }
        let above = visible.above(index).last().copied();
        format!("{}#{anchor}", self.part(above, Some(index)))
    }

    fn facts(&self) -> Markup {
        let summary = &self.tree.summary;
        let id = &summary.trace_id;
        html! {
            dl.facts {
                (fact("Duration", duration(summary.duration), html! { "Started " (time(summary.start, &self.zone)) }))
                (fact("Spans", grouped(summary.spans), html! {
                    @if summary.errors > 0 { span.is-bad { (grouped(summary.errors)) " failed" } } @else { "none failed" }
                }))
                (fact("Log records", grouped(self.tree.logs), html! {
                    @if self.tree.logs > 0 { a href=(Address::new("/logs").with("trace", id)) { "Show as a list" } }
                    @else { "none has its id" }
                }))
                (fact("Servers", grouped(summary.servers.len() as u64), html! {
                    span.tags {
                        @for (number, server) in summary.servers.iter().enumerate() {
                            span class={ "chart-key " (series(number)) } { (escape(server)) }
                        }
                    }
                }))
                (fact("Trace", html! { code.trace-id { (id) } }, html! {
                    a href=(Address::new(format!("/api/telemetry/traces/{id}")).with("format", "otlp")) { "OTLP/JSON" }
                    @if let Some(client) = &summary.client { " · client " (escape(client)) }
                }))
            }
        }
    }

    fn notices(&self, visible: &Visible<'_>) -> Markup {
        let is_lost = |place: Option<u64>| place.is_some() && self.index_of(place).is_none();
        html! {
            @if self.tree.is_cut {
                p.notice.is-warn {
                    "The trace is too large to be shown whole: these are its last records. The OTLP form has all spans."
                }
            }
            (unreadable(&self.tree.damage))
            @if is_lost(self.place.parent) || is_lost(self.place.first) {
                p.notice.is-warn { "The part of the trace that this address names is no longer stored." }
            }
            @if self.tree.summary.is_rootless && self.tree.summary.spans > 0 && visible.top.is_none() {
                p.notice { "The first span of this trace is not stored: it has not ended yet, or it was lost, evicted or \
                            never received." }
            }
        }
    }

    /// The spans that failed, and why, as far as they say it.
    fn failures(&self, visible: &Visible<'_>) -> Markup {
        let is_failure = |node: &TraceNode| node.is_error && node.signal == Signal::Traces;
        let nodes = self.tree.nodes.iter().enumerate();
        let failed: Vec<usize> = nodes
            .filter(|(_, node)| is_failure(node))
            .map(|(index, _)| index)
            .collect();
        html! {
            @if !failed.is_empty() {
                section.panel.failures aria-labelledby="failed" {
                    div.panel-head {
                        h2.is-bad #failed {
                            (grouped(failed.len() as u64)) @if failed.len() == 1 { " span failed" } @else { " spans failed" }
                        }
                    }
                    ul.panel-body {
                        @for index in failed.iter().take(FAILURES_MAX) {
                            @if let Some(Record::Span(record)) = self.record(*index) {
                                @let reason = self.node(*index).and_then(|node| record::reason(self.tree.record(node).server, &record));
                                li {
                                    a href=(self.row(*index, visible)) { (escape_name(&record.span.name)) }
                                    @if let Some(tool) = record.tool() { " " span.soft { (escape_name(tool)) } }
                                    @if let Some(node) = self.node(*index) {
                                        " " span.faint { (offset(self.tree.summary.start, node.start)) " " (escape(self.tree.record(node).server)) }
                                    }
                                    " "
                                    @if let Some(reason) = reason { span.wrap { (text(&reason, &[], &mut Budget(LIST_TEXT))) } }
                                    @else { span.faint { "it does not say why" } }
                                }
                            }
                        }
                        @if failed.len() > FAILURES_MAX {
                            li.faint { "and " (grouped((failed.len() - FAILURES_MAX) as u64)) " more" }
                        }
                    }
                }
            }
        }
    }

    fn find_form(&self) -> Markup {
        let address = self.address;
        let kept = address.params().filter(|(name, _)| *name != "find");
        html! {
            form.find method="get" action=(address.path()) role="search" aria-label="Find in this trace" {
                @for (name, value) in kept { input type="hidden" name=(name) value=(value); }
                label {
                    span.hide { "Find in this trace" }
                    input type="search" name="find" value=[address.get("find")] placeholder="Find in this trace" autocomplete="off" data-search data-find;
                }
                button.button.button-small type="submit" { "Find" }
                span.find-status.faint role="status" data-find-status {}
            }
        }
    }

    fn found_list(&self, visible: &Visible<'_>) -> Markup {
        let count = self.found.len();
        html! {
            @if !self.patterns.is_empty() {
                div.found role="status" {
                    p {
                        (grouped(count as u64)) " of " (grouped(self.tree.nodes.len() as u64))
                        @if count == 1 { " records matches" } @else { " records match" }
                        ". " a href=(self.address.clone().without(&["find"])) { "Clear" }
                    }
                    @if count > 0 {
                        ol.found-list {
                            @for index in self.found.iter().take(FOUND_MAX) {
                                li { a href=(self.row(*index, visible)) { (self.name_of(*index)) } }
                            }
                            @if count > FOUND_MAX { li.faint { "and " (grouped((count - FOUND_MAX) as u64)) " more" } }
                        }
                    }
                }
            }
        }
    }

    /// What a node is called in a list.
    fn name_of(&self, index: usize) -> String {
        let Some(node) = self.node(index) else {
            return String::new();
        };
        let record = self.tree.record(node);
        let name = match node.signal {
            Signal::Traces => record.name(),
            _ => record.message(),
        };
        let name = escape_name(name.unwrap_or_default());
        let short: String = name.chars().take(60).collect();
        match short.len() {
            0 => "(no name)".to_owned(),
            len if len < name.len() => short + "…",
            _ => short,
        }
    }

    /// Where in the trace the page is, if it shows a part of it.
    fn path(&self, visible: &Visible<'_>) -> Markup {
        const STEPS_MAX: usize = 8;
        let Some(top) = visible.top else {
            let is_first = visible.first == 0;
            return html! {
                @if !is_first {
                    p.waterfall-path { a href=(self.part(None, None)) { "Show the trace from its beginning" } }
                }
            };
        };
        let above = visible.above(top);
        let left_out = above.len().saturating_sub(STEPS_MAX);
        let children = visible.below(top).start;
        html! {
            nav.waterfall-path aria-label="Place in the trace" {
                a href=(self.part(None, None)) { "Whole trace" }
                @if left_out > 0 { " › " span.faint { (grouped(left_out as u64)) " spans" } }
                @for index in above.iter().skip(left_out) {
                    " › " a href=(self.part(Some(*index), None)) { (self.name_of(*index)) }
                }
                " › " (self.name_of(top))
                @if visible.first != children {
                    " · " a href=(self.part(Some(top), None)) { "from its first child" }
                }
            }
        }
    }

    /// The calls of language models, if the trace has some.
    fn models(&self) -> Markup {
        let models = self.model_calls();
        html! {
            @if !models.is_empty() {
                section.panel aria-labelledby="models" {
                    div.panel-head { h2 #models { "Language models" } }
                    div.table-wrap {
                        table.table {
                            thead {
                                tr {
                                    th scope="col" { "Model" }
                                    th.num scope="col" { "Calls" }
                                    th.num scope="col" { "Input" }
                                    th.num scope="col" { "Output" }
                                }
                            }
                            tbody {
                                @for (model, [calls, input, output]) in &models {
                                    tr {
                                        th scope="row" { (escape_name(model)) }
                                        td.num { (grouped(*calls)) }
                                        td.num { (grouped(*input)) }
                                        td.num { (grouped(*output)) }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    /// The calls, input tokens and output tokens of each model. Sums of agents count only where no call is known.
    fn model_calls(&self) -> BTreeMap<String, [i64; 3]> {
        let (mut calls, mut sums) = (BTreeMap::new(), BTreeMap::new());
        let keys = ["gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"];
        let filters = keys.into_iter().filter_map(|key| Filter::field(key).ok());
        let has_usage = Filter::any(filters);
        if self.tree.nodes.len() > MODEL_NODES_MAX {
            return calls;
        }
        for node in self
            .tree
            .nodes
            .iter()
            .filter(|node| node.signal == Signal::Traces)
        {
            let record = self.tree.record(node);
            if !record.matches(&has_usage) {
                continue;
            }
            let Ok(Record::Span(record)) = record.decode() else {
                continue;
            };
            if let Some(usage) = ModelUsage::of(&record.span) {
                let counts = if usage.is_sum { &mut sums } else { &mut calls };
                let model = usage.model.unwrap_or("(not named)").to_owned();
                let [count, input, output]: &mut [i64; 3] = counts.entry(model).or_default();
                *count += 1;
                *input = input.saturating_add(usage.input_tokens);
                *output = output.saturating_add(usage.output_tokens);
            }
        }
        if calls.is_empty() { sums } else { calls }
    }

    /// The log records by time.
    fn logs(&self, visible: &Visible<'_>) -> Markup {
        let nodes = self.tree.nodes.iter().enumerate();
        let mut logs: Vec<(usize, &TraceNode)> = nodes
            .filter(|(_, node)| node.signal == Signal::Logs)
            .collect();
        logs.sort_by_key(|(_, node)| (node.end, node.sequence));
        html! {
            @if !logs.is_empty() {
                section.panel aria-labelledby="logs" {
                    div.panel-head {
                        h2 #logs { "Log records in order" }
                        p { a href=(Address::new("/logs").with("trace", &self.tree.summary.trace_id)) { "Open in Logs" } }
                    }
                    ol.trace-logs {
                        @for (index, node) in logs.iter().take(LOGS_MAX) {
                            @let record = self.tree.record(node);
                            li {
                                span.trace-log-time title=(node.end) { (offset(self.tree.summary.start, node.end)) }
                                (level_tag(record.level()))
                                a.trace-log-text href=(self.row(*index, visible)) {
                                    (text(record.message().unwrap_or_default(), &self.patterns, &mut Budget(LIST_TEXT)))
                                }
                            }
                        }
                        @if logs.len() > LOGS_MAX {
                            li.faint { "and " (grouped((logs.len() - LOGS_MAX) as u64)) " more" }
                        }
                    }
                }
            }
        }
    }
}

/// The nodes whose records have this text, in what they say or in the name of a server.
fn found(tree: &TraceTree, pattern: &TextPattern) -> Vec<usize> {
    let filter = Filter::text(pattern.clone());
    let is_found = |node: &TraceNode| {
        let record = tree.record(node);
        record.matches(&filter) || pattern.is_match(record.server)
    };
    let nodes = tree.nodes.iter().enumerate();
    nodes
        .filter(|(_, node)| is_found(node))
        .map(|(index, _)| index)
        .collect()
}

/// The class with the colour of a server.
fn series(number: usize) -> &'static str {
    const SERIES: [&str; 7] = [
        "series-1", "series-2", "series-3", "series-4", "series-5", "series-6", "series-7",
    ];
    SERIES.get(number).copied().unwrap_or("series-other")
}

fn level_tag(level: Option<Level>) -> Markup {
    html! {
        @if let Some(level) = level { span class={ "level-name " (level_class(level)) } { (level) } }
    }
}

/// A time, and when in the trace it is.
fn time_and_offset(start: Timestamp, at: Timestamp, zone: &Zone) -> Markup {
    html! { (exact_time(at, zone)) " " span.faint { (offset(start, at)) } }
}
