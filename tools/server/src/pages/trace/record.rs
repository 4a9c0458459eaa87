//! What one record of a trace says, below its row.

use super::{View, time_and_offset};
use crate::{
    display::{
        duration, entries, escape, escape_name, grouped, offset, origin_entries, otlp_entries,
    },
    pages::{
        address::Address,
        parts::{Budget, text},
        record::text_of,
    },
};
use gridctl_telemetry::{
    Record, ServerName, SpanRecord, Timestamp, Value,
    external::opentelemetry_proto::tonic::trace::v1::{Status, span::SpanKind, status::StatusCode},
    query::{CallError, ModelUsage, TraceNode},
    traces::hex,
};
use maud::{Markup, Render, html};
use std::time::Duration;

/// Maximum number of characters of one value.
const VALUE_TEXT: usize = 4_000;
/// Maximum number of events and of links of a span.
const EVENTS_MAX: usize = 50;

/// Why a span failed, as far as it says so itself.
pub(super) fn reason(server: &ServerName, record: &SpanRecord) -> Option<String> {
    let said = CallError::said_by(server, record).filter(|_| record.is_error());
    said.map(|error| error.message)
}

/// Everything that a span says.
pub(super) fn span(
    view: &View<'_>,
    index: usize,
    (node, server, record): (&TraceNode, &ServerName, &SpanRecord),
    above: Option<&TraceNode>,
    budget: &mut Budget,
) -> Markup {
    let span = &record.span;
    let start = view.tree.summary.start;
    let code = span.status.as_ref().map_or(StatusCode::Unset, Status::code);
    let kind = SpanKind::try_from(span.kind).unwrap_or_default();
    let has_times = span.start_time_unix_nano != 0 && span.end_time_unix_nano != 0;
    let took = span
        .end_time_unix_nano
        .checked_sub(span.start_time_unix_nano);
    let id = hex(&span.span_id);
    html! {
        div.record {
            dl.pairs {
                (pair("Server", html! { (escape(server)) }))
                (pair("Started", time_and_offset(start, node.start, &view.zone)))
                (pair("Took", html! {
                    @match took {
                        _ if !has_times => "unknown: it does not say when it began or ended",
                        Some(nanos) => (duration(Duration::from_nanos(nanos))),
                        None => "unknown: it ended before it began",
                    }
                }))
                @if let Some(above) = above { (skew(node, above)) }
                (pair("Status", html! { (lower(code.as_str_name(), "STATUS_CODE_")) }))
                (pair("Kind", html! { (lower(kind.as_str_name(), "SPAN_KIND_")) }))
                (pair("Span id", html! { code { (id) } }))
                @if !span.parent_span_id.is_empty() {
                    (pair("Parent", html! { code { (hex(&span.parent_span_id)) } }))
                }
                @if let Some(usage) = ModelUsage::of(span) { (model(&usage)) }
            }
            (pairs("Attributes", &otlp_entries("", &span.attributes), view, budget))
            @if !span.events.is_empty() {
                h3 { "Events" }
                ol.events {
                    @for event in span.events.iter().take(EVENTS_MAX) {
                        li {
                            span.faint { (offset(start, Timestamp::from_unix_nanos(i64::try_from(event.time_unix_nano).unwrap_or(i64::MAX)))) }
                            " " strong { (escape_name(&event.name)) }
                            (pairs("", &otlp_entries("", &event.attributes), view, budget))
                        }
                    }
                    @if span.events.len() > EVENTS_MAX {
                        li.faint { (grouped((span.events.len() - EVENTS_MAX) as u64)) " more events: see the OTLP form" }
                    }
                }
            }
            @if !span.links.is_empty() {
                h3 { "Links" }
                ul {
                    @for link in span.links.iter().take(EVENTS_MAX) {
                        @let trace = hex(&link.trace_id);
                        li { "Trace " a href=(Address::new(format!("/traces/{trace}"))) { code { (trace) } } }
                    }
                }
            }
            (pairs("Scope and resource", &origin_entries(record), view, budget))
            p.record-links {
                a href=(Address::new("/logs").with("trace", &view.tree.summary.trace_id).with("span", &id)) { "Log records of this span" }
                @if node.below > 0 { " · " a href=(view.part(Some(index), None)) { "Only this part of the trace" } }
            }
        }
    }
}

/// Everything that a log record says.
pub(super) fn log(
    view: &View<'_>,
    (node, server, record): (&TraceNode, &ServerName, &Record),
    budget: &mut Budget,
) -> Markup {
    let Record::Log(log) = record else {
        return html! {};
    };
    let entries = entries(record);
    html! {
        div.record {
            p.record-message { (value(&log.message, view, budget)) }
            dl.pairs {
                (pair("Server", html! { (escape(server)) }))
                (pair("Time", time_and_offset(view.tree.summary.start, node.end, &view.zone)))
                (pair("Level", html! { (log.level) }))
            }
            (pairs("Attributes", &entries, view, budget))
        }
    }
}

/// What a span says of the model that it called.
fn model(usage: &ModelUsage<'_>) -> Markup {
    html! {
        @if let Some(model) = usage.model { (pair("Model", html! { (escape_name(model)) })) }
        (pair("Tokens", html! {
            (grouped(usage.input_tokens)) " in, " (grouped(usage.output_tokens)) " out"
            @if usage.is_sum { span.faint { " (with the spans below)" } }
        }))
    }
}

/// How far a span is outside of the one above it: on two machines, clocks differ.
fn skew(node: &TraceNode, above: &TraceNode) -> Markup {
    let before = above.start.saturating_duration_since(node.start);
    let after = node.end.saturating_duration_since(above.end);
    html! {
        @if before > Duration::ZERO {
            (pair("Note", html! { "It begins " (duration(before)) " before the span above it." }))
        }
        @if after > Duration::ZERO {
            (pair("Note", html! { "It ends " (duration(after)) " after the span above it." }))
        }
    }
}

fn pair(name: &str, value: impl Render) -> Markup {
    html! { dt { (name) } dd { (value) } }
}

/// Entries under a heading, unless there are none.
fn pairs(
    heading: &str,
    entries: &[(String, Value)],
    view: &View<'_>,
    budget: &mut Budget,
) -> Markup {
    html! {
        @if !entries.is_empty() {
            @if !heading.is_empty() { h3 { (heading) } }
            dl.pairs.entries {
                @for (key, entry) in entries {
                    dt { (escape(key)) }
                    dd { (value(&text_of(entry), view, budget)) }
                }
            }
        }
    }
}

/// A text of a record, for which there is only so much room on a page.
fn value(of: &str, view: &View<'_>, budget: &mut Budget) -> Markup {
    let room = budget.0.min(VALUE_TEXT);
    let mut left = Budget(room);
    let shown = text(of, &view.patterns, &mut left);
    budget.0 -= room - left.0;
    shown
}

fn lower(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_lowercase()
}
