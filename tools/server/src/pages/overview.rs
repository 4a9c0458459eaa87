//! Each server of the stack, who writes, and what was lost.

use super::{
    address::Address,
    charts::{Unit, sparkline},
    layout::{Page, Section, Viewer, show},
    parts::{ago, fact, meter, time},
};
use crate::{
    display::{decimals, escape, grouped, losses, per_second, percent, size, usd},
    input::Zone,
    problem::Problem,
    state::Server,
    views::overview::{Overview, ServerView},
};
use axum::{extract::State, response::Response};
use gridctl_telemetry::{Snapshot, Store, Timestamp, maintenance::WriterStatus};
use maud::{Markup, html};

pub(super) async fn overview(State(server): State<Server>, viewer: Viewer) -> Response {
    let store = server.store().clone();
    show(server, viewer, move |snapshot, viewer| {
        page(&store, snapshot, &viewer.zone())
    })
    .await
}

fn page(store: &Store, snapshot: &Snapshot, zone: &Zone) -> Result<Page, Problem> {
    let now = Timestamp::now();
    let overview = Overview::read(snapshot, now, zone)?;
    // What cannot be read is an alert in the frame.
    let ledger = snapshot.ledger(..).unwrap_or_default();
    let writers = store.writers().unwrap_or_default();
    let shown = |time: Timestamp| crate::display::clock_seconds(zone.local(time));
    let lost = losses::summary(&ledger, shown);
    let evicted = losses::evicted(&ledger, shown);
    let is_empty = overview
        .servers
        .iter()
        .all(|server| server.record_count() == 0);
    let body = html! {
        @for what in &overview.unreadable {
            p.notice.is-error { "Cannot be read: " (escape(what)) }
        }
        @if let Some(lost) = &lost {
            p.notice.is-warn { "Records were " (escape(lost)) ". " a href="/ledger" { "What was lost, and why" } }
        }
        @if is_empty {
            (empty(store.stack()))
        } @else {
            (totals(&overview, store))
            (servers(&overview, now, zone))
        }
        div.columns {
            section.panel aria-labelledby="writers" {
                div.panel-head { h2 #writers { "Who writes" } }
                (writing(&writers, now, zone))
            }
            section.panel aria-labelledby="losses" {
                div.panel-head {
                    h2 #losses { "Lost and evicted" }
                    p { a href="/ledger" { "Ledger & disk" } }
                }
                div.panel-body.stack {
                    @if lost.is_none() { p.is-good { "No records were lost." } }
                    p.soft {
                        @match &evicted {
                            Some(evicted) => { "The " (escape(evicted)) "." },
                            None => "No records were evicted by a limit.",
                        }
                    }
                }
            }
        }
    };
    Ok(Page::new(Section::Overview, "Overview", body))
}

/// What to do with a stack that has no records.
pub(super) fn empty(stack: &str) -> Markup {
    html! {
        section.panel.empty {
            h2.empty-lead { "No records yet" }
            p { "Send logs, traces and metrics from any OpenTelemetry SDK to this address. The server that a record \
                 belongs to is named by its attribute " code { "server.name" } ", else by " code { "service.name" } "." }
            pre.snippet { code {
                "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf\n"
                "OTEL_EXPORTER_OTLP_ENDPOINT=" span data-origin { "http://127.0.0.1:4318" }
            } }
            p { "Or link the library into a daemon:" }
            pre.snippet { code {
                "let store = Store::open(&home, \"" (escape(stack)) "\", StoreOptions::default())?;\n"
                "let (writer, guard) = Writer::start(&store, WriterOptions::default())?;\n"
                "writer.log(&server, &record)?;"
            } }
            p { "Files of the Go daemon and NDJSON are read by " code { "gridctl-telemetry import-jsonl" } "." }
            p { a.button href="/" { "Look again" } }
        }
    }
}

fn totals(overview: &Overview, store: &Store) -> Markup {
    let servers = &overview.servers;
    let rate: f64 = servers.iter().map(|server| server.rate).sum();
    let records: u64 = servers.iter().map(ServerView::record_count).sum();
    let errors: u64 = servers.iter().map(|server| server.error_logs).sum();
    let failed: u64 = servers.iter().map(|server| server.failed_spans).sum();
    let tokens: u64 = servers.iter().flat_map(|server| &server.tokens).sum();
    let cost: u64 = servers.iter().flat_map(|server| &server.micro_usd).sum();
    html! {
        dl.facts {
            (fact("Records", grouped(records), format!("{} a second", per_second(rate))))
            (fact("Error logs", html! { span.is-bad[errors > 0] { (grouped(errors)) } }, "in 24 hours"))
            (fact("Failed spans", html! { span.is-bad[failed > 0] { (grouped(failed)) } }, "in 24 hours"))
            (fact("Tokens", grouped(tokens), "in 24 hours"))
            (fact("Cost", money(cost), "in 24 hours"))
            @if let Ok(space) = store.space() {
                (fact("On disk", size(space.used_bytes), match space.limit_bytes {
                    Some(limit) => format!("{} of {}", percent(space.used_bytes, limit), size(limit)),
                    None => "no limit".to_owned(),
                }))
            }
        }
    }
}

fn money(micro_usd: u64) -> String {
    usd(micro_usd.into(), decimals(micro_usd.into()))
}

fn servers(overview: &Overview, now: Timestamp, zone: &Zone) -> Markup {
    html! {
        section.panel aria-labelledby="servers" {
            div.panel-head {
                h2 #servers { "Servers" }
                p { "Lines show the last 24 hours, since " (time(overview.since, zone)) }
            }
            div.table-wrap {
                table.table.cards.is-middle {
                    thead {
                        tr {
                            th scope="col" { "Server" }
                            th.num scope="col" { "Records" }
                            th.num scope="col" { "Per second" }
                            th scope="col" { "Logs and spans" }
                            th.num scope="col" { "Error logs" }
                            th.num scope="col" { "Failed spans" }
                            th scope="col" { "Tokens" }
                            th scope="col" { "Cost" }
                            th scope="col" { "Stored" }
                            th.num scope="col" { "Newest" }
                        }
                    }
                    tbody {
                        @for server in &overview.servers { (row(server, now, zone)) }
                    }
                }
            }
        }
    }
}

fn row(server: &ServerView, now: Timestamp, zone: &Zone) -> Markup {
    let name = escape(&server.name);
    let logs = Address::new("/logs").with("server", &server.name);
    let day = logs.clone().with("since", "24h");
    let tokens: u64 = server.tokens.iter().sum();
    let cost: u64 = server.micro_usd.iter().sum();
    html! {
        tr data-row {
            th scope="row" { a href=(logs) { (name) } }
            td.num data-label="Records" { (grouped(server.record_count())) }
            td.num data-label="Per second" { (per_second(server.rate)) }
            td.spark data-label="Logs and spans" { (sparkline(&format!("Logs and spans of {name}"), Unit::RECORDS, &server.records)) }
            td.num data-label="Error logs" {
                @if server.error_logs > 0 {
                    a.is-bad href=(day.clone().with("level", "error")) { (grouped(server.error_logs)) }
                } @else { span.faint { "0" } }
            }
            td.num data-label="Failed spans" {
                @if server.failed_spans > 0 {
                    a.is-bad href=(day.at("/traces").with("errors", "true")) { (grouped(server.failed_spans)) }
                } @else { span.faint { "0" } }
            }
            td.spark data-label="Tokens" {
                div.spark-with { (sparkline(&format!("Tokens of {name}"), Unit::TOKENS, &server.tokens)) span { (grouped(tokens)) } }
            }
            td.spark data-label="Cost" {
                div.spark-with { (sparkline(&format!("Cost of {name}"), Unit::MicroUsd, &server.micro_usd)) span { (money(cost)) } }
            }
            td.stored data-label="Stored" { (stored(server)) }
            td.num data-label="Newest" {
                @if let Some(newest) = server.newest() { (ago(newest, now, zone)) } @else { span.faint { "none" } }
            }
        }
    }
}

/// The size of a server, and how full the signal is that is closest to its limit.
fn stored(server: &ServerView) -> Markup {
    let bytes = size(server.size_bytes());
    html! {
        @match (server.fullest(), server.limits) {
            (Some(fullest), Some(limits)) => {
                div {
                    div.stored-line {
                        span { (bytes) }
                        span.faint { (fullest.signal) " " (percent(fullest.size_bytes, limits.bytes_max)) " of " (size(limits.bytes_max)) }
                    }
                    (meter(fullest.size_bytes, limits.bytes_max, &format!("{} of its limit", fullest.signal)))
                }
            },
            _ => (bytes),
        }
    }
}

/// The processes that write, and whether they can.
pub(super) fn writing(writers: &[WriterStatus], now: Timestamp, zone: &Zone) -> Markup {
    html! {
        @if writers.is_empty() {
            div.panel-body { p.soft { "No process is writing to this stack." } }
        } @else {
            ul.list {
                @for writer in writers {
                    li {
                        span { "Process " strong { (writer.process_id) } }
                        @if let Some(since) = writer.since { span.faint { "started " (ago(since, now, zone)) } }
                        span.list-end {
                            @match (writer.is_running, &writer.last_error, writer.failing_since) {
                                (false, ..) => span.tag.is-bad { "was killed" },
                                (true, None, None) => span.tag.is-good { "writing" },
                                (true, ..) => span.tag.is-bad { "cannot store" },
                            }
                        }
                        @if let (true, Some(error)) = (writer.is_running, &writer.last_error) {
                            p.list-more.is-bad { (escape(error)) }
                        }
                    }
                }
            }
        }
    }
}
