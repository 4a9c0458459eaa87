//! A wipe: what it would delete, the question, and the answer.

use super::{
    address::Address,
    layout::{self, Page, Section, Viewer, show},
    parts::time,
};
use crate::{
    display::{escape, grouped, size},
    guard::PageToken,
    problem::Problem,
    state::Server,
    views::{
        params::{Params, WIPE},
        wipe::{Wipe, WouldWipe},
    },
};
use axum::{
    extract::State,
    response::{IntoResponse, Redirect, Response},
};
use gridctl_telemetry::{ServerName, Signal, Snapshot};
use maud::{Markup, html};

/// The field of the form that has the token of the page.
const TOKEN: &str = "page_token";

/// Shows what would be deleted, and asks.
pub(super) async fn ask(
    State(server): State<Server>,
    token: PageToken,
    viewer: Viewer,
) -> Response {
    show(server, viewer, move |snapshot, viewer| {
        page(snapshot, viewer, &token)
    })
    .await
}

/// Deletes what the form says, which the page before has shown.
pub(super) async fn wipe(
    State(server): State<Server>,
    token: PageToken,
    viewer: Viewer,
    body: String,
) -> Response {
    match run(&server, &token, &body).await {
        Ok(series) => {
            let done = Address::new("/ledger").with("wiped", series);
            Redirect::to(&done.to_string()).into_response()
        }
        Err(problem) => layout::error(&viewer, &problem),
    }
}

async fn run(server: &Server, token: &PageToken, body: &str) -> Result<usize, Problem> {
    let form = Address::of_query("/wipe", body);
    token.check(form.get(TOKEN))?;
    let query = form.without(&[TOKEN]).query();
    let params = Params::parse(Some(&query), WIPE)?;
    Wipe::of(&params)?.run(server).await
}

fn page(snapshot: &Snapshot, viewer: &Viewer, token: &PageToken) -> Result<Page, Problem> {
    let address = viewer.address();
    let params = Params::parse(Some(&address.query()), WIPE)?;
    let wipe = Wipe::of(&params)?;
    let found = wipe.would_delete(snapshot)?;
    let servers = snapshot.servers()?;
    let body = html! {
        div.columns.is-uneven {
            (scope(address, &servers))
            section.panel aria-labelledby="question" {
                @if found.is_empty() {
                    div.empty {
                        h2 #question .empty-lead { "Nothing to wipe" }
                        p { "There are no stored records or counters of this." }
                    }
                } @else {
                    div.panel-head { h2 #question { "This would be deleted" } }
                    (listed(&found, viewer))
                    (question(&wipe, token))
                }
            }
        }
    };
    let page = Page::new(Section::Ledger, "Wipe", body);
    Ok(page.under("Ledger & disk", Address::new("/ledger")))
}

/// The choice of what to delete.
fn scope(address: &Address, servers: &[ServerName]) -> Markup {
    let chosen = address.values("server");
    html! {
        form.panel method="get" action="/wipe" aria-labelledby="scope" {
            div.panel-head { h2 #scope { "What to wipe" } }
            div.panel-body.form {
                label.field {
                    span { "Server" }
                    select name="server" {
                        option value="" { "All servers" }
                        @for server in servers {
                            option value=(server) selected[chosen.contains(&server.as_str())] { (escape(server)) }
                        }
                        @for name in chosen.iter().filter(|name| !servers.iter().any(|server| server.as_str() == **name)) {
                            option value=(name) selected { (escape(name)) }
                        }
                    }
                }
                label.field {
                    span { "Signal" }
                    select name="signal" {
                        option value="" { "All signals" }
                        @for signal in Signal::ALL {
                            option value=(signal) selected[address.get("signal") == Some(signal.as_str())] { (signal) }
                        }
                    }
                }
                label.field {
                    span { "Only records before" }
                    input type="text" name="until" value=[address.get("until")] placeholder="30days (ago), yesterday, 2026-05-08 14:03" autocomplete="off";
                }
                div { button.button type="submit" { "Show what would be deleted" } }
            }
        }
    }
}

fn listed(found: &WouldWipe, viewer: &Viewer) -> Markup {
    let zone = viewer.zone();
    let records: u64 = found.records.iter().map(|stored| stored.record_count).sum();
    let bytes: u64 = found.records.iter().map(|stored| stored.size_bytes).sum();
    html! {
        div.table-wrap {
            table.table.cards {
                thead {
                    tr {
                        th scope="col" { "Server" }
                        th scope="col" { "Signal" }
                        th.num scope="col" { "Records" }
                        th.num scope="col" { "Size" }
                        th scope="col" { "Oldest" }
                        th scope="col" { "Newest" }
                    }
                }
                tbody {
                    @for stored in &found.records {
                        tr {
                            th scope="row" { (escape(&stored.server)) }
                            td data-label="Signal" { (stored.signal) }
                            td.num data-label="Records" { (grouped(stored.record_count)) }
                            td.num data-label="Size" { (size(stored.size_bytes)) }
                            td data-label="Oldest" { (time(stored.oldest_time, &zone)) }
                            td data-label="Newest" { (time(stored.newest_time, &zone)) }
                        }
                    }
                    @for server in &found.counters {
                        tr {
                            th scope="row" { (escape(server)) }
                            td data-label="Signal" { "metrics" }
                            td colspan="4" data-label="Counters" { "counters without records" }
                        }
                    }
                }
                tfoot {
                    tr {
                        th scope="row" colspan="2" { "All" }
                        td.num data-label="Records" { (grouped(records)) }
                        td.num data-label="Size" { (size(bytes)) }
                        td colspan="2" {}
                    }
                }
            }
        }
    }
}

/// The question, for exactly what the page shows: a time of the form is that of this page, and not counted back
/// once more.
fn question(wipe: &Wipe, token: &PageToken) -> Markup {
    html! {
        form.question method="post" action="/wipe" {
            input type="hidden" name=(TOKEN) value=(token.as_str());
            @for server in &wipe.servers { input type="hidden" name="server" value=(server); }
            @if let Some(signal) = wipe.signal { input type="hidden" name="signal" value=(signal); }
            @if let Some(before) = wipe.before { input type="hidden" name="until" value=(before); }
            p { strong { "Delete all of this permanently?" } }
            p.soft { "Records of this that arrive until then are deleted, too. Files of the Go daemon are left alone: " code { "gridctl-telemetry wipe" } " deletes those as well." }
            div.question-answers {
                button.button.button-danger type="submit" { "Delete permanently" }
                a.button href="/ledger" { "Keep everything" }
            }
        }
    }
}
