//! The traces of a stack: when each was, how long it took, and which failed.

use super::{
    address::Address,
    charts::{Point, Scatter},
    layout::{Page, Section, Viewer, show},
    parts::{time, unreadable},
    search::{Filter, LEVELS, chips, cleared, select, servers, text_field, text_fields, words},
};
use crate::{
    display::{duration, escape, escape_name, grouped},
    input::Zone,
    problem::Problem,
    state::Server,
    views::{
        params::{Order, Params, TRACES},
        suggest::Suggestions,
    },
};
use axum::{extract::State, response::Response};
use gridctl_telemetry::{
    Signal, Snapshot,
    query::{TraceCursor, TraceList, TraceQuery, TraceSummary},
};
use maud::{Markup, html};
use std::time::Duration;

/// The number of traces of a page.
const ROWS: usize = 50;
/// The number of traces in the chart: those that come first.
const CHART_TRACES: usize = 2_000;
/// Maximum number of suggestions for attributes.
const SUGGESTIONS_MAX: usize = 400;

/// The parameters that filter, and what each is called.
const FILTERS: [Filter; 17] = [
    ("server", "server"),
    ("min-duration", "took at least"),
    ("max-duration", "span took at most"),
    ("name", "span"),
    ("level", "level"),
    ("kind", "kind"),
    ("status", "status"),
    ("grep", "contains"),
    ("not-grep", "does not contain"),
    ("field", "has"),
    ("not-field", "has not"),
    ("trace", "trace"),
    ("span", "span id"),
    ("parent", "parent"),
    ("fixed-strings", "plain text"),
    ("word-regexp", "whole words"),
    ("case-sensitive", "case-sensitive"),
];
const KINDS: [(&str, &str); 6] = [
    ("", "Any"),
    ("internal", "Internal"),
    ("server", "Server"),
    ("client", "Client"),
    ("producer", "Producer"),
    ("consumer", "Consumer"),
];
const STATUSES: [(&str, &str); 4] = [
    ("", "Any"),
    ("unset", "Unset"),
    ("ok", "Ok"),
    ("error", "Error"),
];

pub(super) async fn traces(State(server): State<Server>, viewer: Viewer) -> Response {
    show(server, viewer, page).await
}

fn page(snapshot: &Snapshot, viewer: &Viewer) -> Result<Page, Problem> {
    let address = viewer.address();
    let params = match Params::parse(Some(&address.query()), TRACES) {
        Ok(params) => params,
        Err(problem) => {
            // What was typed stays in the form, where it can be corrected.
            let suggestions = Suggestions::find(snapshot, &Params::default(), Signal::Traces)?;
            let body = html! {
                (form(address, &suggestions))
                p.notice.is-error role="alert" { (problem.detail()) }
            };
            let page = Page::new(Section::Traces, "Traces", body).with_range();
            return Ok(page.with_status(problem.status()));
        }
    };
    let (query, zone) = (params.traces()?, params.zone());
    let cursor: Option<TraceCursor> = params.typed_cursor()?;
    let count = params.limit_or(ROWS);
    let first = snapshot.traces(&query, CHART_TRACES.max(count))?;
    let is_first = cursor.is_none();
    let rows = match cursor {
        Some(cursor) => snapshot.traces(&query.clone().after(cursor), count)?,
        None => first_rows(&first, count),
    };
    let suggestions = Suggestions::find(snapshot, &params, Signal::Traces)?;
    let body = html! {
        (form(address, &suggestions))
        (chips(address, &FILTERS))
        (tabs(address, &params))
        (notices(&rows))
        @if first.traces.is_empty() {
            (nothing(address))
        } @else {
            (chart(&first, &params, &zone))
            (table(&rows, &params, &zone))
            (pager(address, &rows, &query, is_first))
        }
    };
    Ok(Page::new(Section::Traces, "Traces", body).with_range())
}

/// The first rows of a longer list.
fn first_rows(list: &TraceList, count: usize) -> TraceList {
    let mut rows = list.clone();
    rows.has_more |= rows.traces.len() > count;
    rows.traces.truncate(count);
    rows
}

fn tabs(address: &Address, params: &Params) -> Markup {
    let bare = address.clone().without(&["order", "errors", "cursor"]);
    let is_slowest = params.order == Order::Slowest;
    let tab = |name: &str, target: Address, is_current: bool| {
        html! { a href=(target) aria-current=[is_current.then_some("true")] { (name) } }
    };
    let failed = |target: Address| {
        if params.errors {
            target.with("errors", "true")
        } else {
            target
        }
    };
    let ordered = |target: Address| {
        if is_slowest {
            target.with("order", "slowest")
        } else {
            target
        }
    };
    html! {
        div.toolbar {
            nav.tabs aria-label="Order" {
                (tab("Newest", failed(bare.clone()), !is_slowest))
                (tab("Slowest", failed(bare.clone().with("order", "slowest")), is_slowest))
            }
            nav.tabs aria-label="Outcome" {
                (tab("All", ordered(bare.clone()), !params.errors))
                (tab("Failed", ordered(bare.with("errors", "true")), params.errors))
            }
        }
    }
}

fn form(address: &Address, suggestions: &Suggestions) -> Markup {
    let searches = address.values("grep");
    let fields = |name, label, placeholder, list, skipped| {
        text_fields(name, label, placeholder, address, list, skipped)
    };
    let field =
        |name, label, placeholder, list| text_field(name, label, placeholder, address, list);
    html! {
        form.search method="get" action="/traces" role="search" {
            @for name in ["since", "until", "utc", "order", "errors"] {
                @if let Some(value) = address.get(name) { input type="hidden" name=(name) value=(value); }
            }
            div.search-line {
                label.hide for="grep" { "Search in the spans of traces" }
                input #grep type="search" name="grep" value=[searches.first()] data-search autocomplete="off" spellcheck="false"
                    placeholder="Search in spans: words, or a regular expression";
                button.button.button-main type="submit" { "Search" }
            }
            details.filters {
                summary { "Filters" }
                div.filters-body {
                    (field("min-duration", "The trace took at least", "500ms", None))
                    (field("max-duration", "The span took at most", "2s", None))
                    (field("name", "Name of the span", "tools/.*", Some("span-names")))
                    (fields("field", "Has the attribute", "key=value, key>5, key~regex, key, !key", Some("entries"), 0))
                    (fields("not-field", "Has not", "key=value", Some("entries"), 0))
                    (fields("grep", "Contains also", "", None, 1))
                    (fields("not-grep", "Does not contain", "", None, 0))
                    label.field { span { "Kind" } (select("kind", address, &KINDS)) }
                    label.field { span { "Status" } (select("status", address, &STATUSES)) }
                    label.field { span { "Level" } (select("level", address, &LEVELS)) }
                    (fields("trace", "Trace", "id, or a part of it", None, 0))
                    (fields("span", "Span", "id, or a part of it", None, 0))
                    (fields("parent", "Parent", "id, or a part of it", None, 0))
                    (servers(address, suggestions))
                    (words(address))
                    label.field { span { "Rows" } (select("limit", address, &[("", "50"), ("100", "100"), ("250", "250"), ("1000", "1,000")])) }
                    div.filters-end {
                        button.button.button-main type="submit" { "Apply" }
                        a.button href=(cleared(address, &FILTERS)) { "Clear" }
                    }
                }
            }
            datalist #span-names { @for name in &suggestions.names { option value=(name) {} } }
            datalist #entries { @for entry in suggestions.fields(SUGGESTIONS_MAX) { option value=(entry) {} } }
        }
    }
}

fn notices(rows: &TraceList) -> Markup {
    html! {
        @if rows.is_cut {
            p.notice.is-warn {
                "More than 65,536 traces ran at the same time: some of these numbers may be too low, and a trace may \
                 be listed twice."
            }
        }
        (unreadable(&rows.damage))
    }
}

fn nothing(address: &Address) -> Markup {
    let is_filtered = address.params().any(|(name, _)| name != "utc");
    html! {
        section.panel.empty {
            @if is_filtered {
                p.empty-lead { "No trace matches" }
                p { "Widen the range of time, or remove a filter." }
                p { a.button href="/traces" { "Show all traces" } }
            } @else {
                p.empty-lead { "No traces yet" }
                p { "Spans that are received or stored appear here, together with the log records that have their \
                     trace id." }
                p { a.button href="/" { "How to send some" } }
            }
        }
    }
}

fn chart(list: &TraceList, params: &Params, zone: &Zone) -> Markup {
    let points: Vec<Point> = list
        .traces
        .iter()
        .map(|trace| Point {
            at: trace.start,
            duration: trace.duration,
            is_failed: trace.errors > 0,
            name: title(trace),
            href: href(trace, params),
        })
        .collect();
    let scatter = Scatter {
        title: "Duration of traces over time",
        noun: ("trace", "traces"),
        points: &points,
    };
    html! {
        section.panel aria-labelledby="durations" {
            div.panel-head {
                h2 #durations { "Duration over time" }
                @if list.has_more {
                    p {
                        "The " @if params.order == Order::Slowest { "slowest " } @else { "newest " }
                        (grouped(list.traces.len() as u64)) " traces of this range"
                    }
                }
            }
            div.panel-body { (scatter.draw(&|at| zone.offset_at(at))) }
        }
    }
}

/// What a trace is about: the name of its root, and the tool that was called.
pub(super) fn title(trace: &TraceSummary) -> String {
    let name = escape_name(&trace.name);
    match trace.tool.as_deref().map(escape_name) {
        Some(tool) if !name.contains(&tool) => format!("{name} {tool}"),
        _ if name.is_empty() => "(no name)".to_owned(),
        _ => name,
    }
}

/// The address of a trace, which keeps the zone.
fn href(trace: &TraceSummary, params: &Params) -> String {
    let path = format!("/traces/{}", trace.trace_id);
    if params.utc {
        format!("{path}?utc=true")
    } else {
        path
    }
}

fn table(rows: &TraceList, params: &Params, zone: &Zone) -> Markup {
    let longest = rows.traces.iter().map(|trace| trace.duration).max();
    html! {
        section.panel aria-label="List of traces" {
            div.table-wrap {
                table.table.cards.traces {
                    thead {
                        tr {
                            th scope="col" { "Trace" }
                            th scope="col" { "Started" }
                            th.num scope="col" { "Duration" }
                            th scope="col" { span.hide { "Duration as a bar" } }
                            th.num scope="col" { "Spans" }
                            th.num scope="col" { "Failed" }
                            th scope="col" { "Servers" }
                        }
                    }
                    tbody {
                        @for trace in &rows.traces { (row(trace, longest.unwrap_or_default(), params, zone)) }
                    }
                }
            }
        }
    }
}

fn row(trace: &TraceSummary, longest: Duration, params: &Params, zone: &Zone) -> Markup {
    let id: String = trace.trace_id.chars().take(8).collect();
    let share = trace.duration.as_secs_f64() / longest.as_secs_f64().max(1e-9);
    let class = if trace.errors > 0 {
        "span-failed"
    } else {
        "span-ok"
    };
    html! {
        tr data-row {
            th scope="row" {
                a.trace-name href=(href(trace, params)) { (title(trace)) }
                " " code.faint { (id) }
                @if let Some(client) = &trace.client { " " span.tag { (escape(client)) } }
                @if trace.is_rootless { " " span.tag title="The span above the first one is not stored" { "no root" } }
            }
            td data-label="Started" { (time(trace.start, zone)) }
            td.num data-label="Duration" { (duration(trace.duration)) }
            td.trace-bar {
                svg width="100%" height="8" aria-hidden="true" {
                    rect class=(class) width={ (format!("{:.1}", (share * 100.0).clamp(0.5, 100.0))) "%" } height="8" rx="2" {}
                }
            }
            td.num data-label="Spans" { (grouped(trace.spans)) }
            td.num data-label="Failed" {
                @if trace.errors > 0 { span.is-bad { (grouped(trace.errors)) } } @else { span.faint { "0" } }
            }
            td data-label="Servers" {
                span.tags { @for server in &trace.servers { span.tag { (escape(server)) } } }
            }
        }
    }
}

fn pager(address: &Address, rows: &TraceList, query: &TraceQuery, is_first: bool) -> Markup {
    let next = rows.traces.last().filter(|_| rows.has_more);
    html! {
        nav.pager aria-label="Pages of the list" {
            @if is_first { span {} } @else {
                a.button rel="prev" href=(address.clone().without(&["cursor"])) { "First page" }
            }
            @if let Some(last) = next {
                a.button rel="next" href=(address.clone().with("cursor", query.cursor_after(last))) { "Next page" }
            }
        }
    }
}
