//! What was lost and evicted, how full the disk and the limits are, who writes, and what is damaged.

use super::{
    address::Address,
    layout::{Page, Section, Viewer, set_aside_of, show},
    overview::writing,
    parts::{ago, meter, time},
};
use crate::{
    display::{escape, grouped, percent, size},
    input::Zone,
    problem::Problem,
    state::Server,
};
use axum::{extract::State, response::Response};
use gridctl_telemetry::{
    Snapshot, Store, Timestamp,
    home::SetAside,
    ledger::{KnownDamage, LedgerEntry, LossCause},
    maintenance::{FileSystem, Space},
    query::InventoryRecord,
};
use maud::{Markup, html};
use std::time::Duration;

/// Maximum number of entries that are shown. The ledger itself is bounded, too.
const ENTRIES_MAX: usize = 500;

pub(super) async fn ledger(State(server): State<Server>, viewer: Viewer) -> Response {
    let store = server.store().clone();
    show(server, viewer, move |snapshot, viewer| {
        page(&store, snapshot, viewer)
    })
    .await
}

fn page(store: &Store, snapshot: &Snapshot, viewer: &Viewer) -> Result<Page, Problem> {
    let zone = &viewer.zone();
    let now = Timestamp::now();
    let (inventory, findings) = snapshot.readable_inventory()?;
    let ledger = snapshot.ledger(..);
    let damage = snapshot.known_damage();
    let set_aside = set_aside_of(store);
    let wiped: Option<usize> = viewer
        .address()
        .get("wiped")
        .and_then(|text| text.parse().ok());
    let body = html! {
        @if let Some(series) = wiped {
            p.notice role="status" {
                @match series {
                    0 => "There was nothing to wipe.",
                    1 => "1 series was wiped.",
                    series => { (series) " series were wiped." },
                }
            }
        }
        @for found in &findings { p.notice.is-error { "Cannot be read: " (escape(&found.what)) } }
        @if let Ok(space) = store.space() {
            (disk(&space, store.file_system().ok()))
        }
        (limits(snapshot, &inventory, now, zone))
        @match &ledger {
            Ok(entries) => {
                (lost(entries, zone))
                (evicted(entries, zone))
            },
            Err(error) => p.notice.is-error { "The ledger cannot be read: " (escape(&error.to_string())) },
        }
        div.columns {
            section.panel aria-labelledby="writers" {
                div.panel-head { h2 #writers { "Who writes" } }
                @match store.writers() {
                    Ok(writers) => (writing(&writers, now, zone)),
                    Err(error) => div.panel-body { p.is-bad { (escape(&error.to_string())) } },
                }
            }
            section.panel aria-labelledby="damage" {
                div.panel-head { h2 #damage { "Known damage" } }
                @match &damage {
                    Ok(damage) => (damaged(damage, now, zone)),
                    Err(error) => div.panel-body { p.is-bad { (escape(&error.to_string())) } },
                }
            }
            @if !set_aside.is_empty() { (aside(&set_aside)) }
        }
    };
    Ok(Page::new(Section::Ledger, "Ledger & disk", body))
}

fn disk(space: &Space, file_system: Option<FileSystem>) -> Markup {
    let whole = space
        .limit_bytes
        .unwrap_or(space.used_bytes)
        .max(space.used_bytes);
    // In hundredths of a percent. Something is never nothing.
    let share = |bytes: u64| {
        let share = u128::from(bytes) * 10_000 / u128::from(whole.max(1));
        if bytes > 0 { share.max(30) } else { 0 }
    };
    let parts = [
        (
            "Live",
            "disk-live",
            space.live_bytes,
            "records and their keys",
        ),
        (
            "Free",
            "disk-free",
            space.free_bytes,
            "reused by new records",
        ),
        (
            "Reserve",
            "disk-reserve",
            space.reserve_bytes,
            "for deletions on a full disk",
        ),
    ];
    let mut left = 0;
    html! {
        section.panel aria-labelledby="disk" {
            div.panel-head {
                h2 #disk { "Disk" }
                @if let Some(system) = &file_system {
                    p { (size(system.available_bytes)) " of " (size(system.total_bytes)) " available on its file system" }
                }
            }
            div.panel-body {
                p.disk-total {
                    strong { (size(space.used_bytes)) }
                    @match space.limit_bytes {
                        Some(limit) => { " of " (size(limit)) " (" (percent(space.used_bytes, limit)) ")" },
                        None => " without a limit",
                    }
                }
                svg.disk-bar width="100%" height="12" role="img" {
                    title { "Disk space: " @for (name, _, bytes, _) in parts { (name) " " (size(bytes)) ", " } "of " (size(whole)) }
                    rect.meter-back width="100%" height="12" {}
                    @for (_, class, bytes, _) in parts {
                        @let (x, width) = (left, share(bytes));
                        @let () = left += width;
                        rect class=(class) x={ (x / 100) "." (format!("{:02}", x % 100)) "%" }
                            width={ (width / 100) "." (format!("{:02}", width % 100)) "%" } height="12" {}
                    }
                }
                ul.disk-key {
                    @for (name, class, bytes, what) in parts {
                        li { span class={ "dot " (class) } {} (name) " " strong { (size(bytes)) } " " span.faint { (what) } }
                    }
                    @if space.set_aside_bytes > 0 {
                        li { "Set aside " strong { (size(space.set_aside_bytes)) } " " span.faint { "damaged files, beside the limit" } }
                    }
                }
            }
        }
    }
}

fn limits(
    snapshot: &Snapshot,
    inventory: &[InventoryRecord],
    now: Timestamp,
    zone: &Zone,
) -> Markup {
    html! {
        section.panel aria-labelledby="limits" {
            div.panel-head {
                h2 #limits { "Limits" }
                p { a href="/wipe" { "Wipe…" } }
            }
            @if inventory.is_empty() {
                div.panel-body { p.soft { "No records are stored." } }
            } @else {
                div.table-wrap {
                    table.table.cards.is-middle {
                        thead {
                            tr {
                                th scope="col" { "Server" }
                                th scope="col" { "Signal" }
                                th.num scope="col" { "Records" }
                                th scope="col" { "Size" }
                                th.num scope="col" { "Kept for" }
                                th.num scope="col" { "Oldest" }
                                th.num scope="col" { "Newest" }
                                th scope="col" { span.hide { "Wipe" } }
                            }
                        }
                        tbody {
                            @for stored in inventory {
                                @let limits = snapshot.limits_of(Some(&stored.server)).ok().flatten();
                                tr data-row {
                                    th scope="row" { (escape(&stored.server)) }
                                    td data-label="Signal" { (stored.signal) }
                                    td.num data-label="Records" { (grouped(stored.record_count)) }
                                    td.stored data-label="Size" {
                                        div {
                                            div.stored-line {
                                                span { (size(stored.size_bytes)) }
                                                @if let Some(limits) = limits {
                                                    span.faint { (percent(stored.size_bytes, limits.bytes_max)) " of " (size(limits.bytes_max)) }
                                                }
                                            }
                                            @if let Some(limits) = limits { (meter(stored.size_bytes, limits.bytes_max, "Of its limit")) }
                                        }
                                    }
                                    td.num data-label="Kept for" {
                                        @if let Some(limits) = limits { (age(limits.age_max)) } @else { "ever" }
                                    }
                                    td.num data-label="Oldest" { (ago(stored.oldest_time, now, zone)) }
                                    td.num data-label="Newest" { (ago(stored.newest_time, now, zone)) }
                                    td.num data-label="Wipe" {
                                        a.quiet href=(Address::new("/wipe").with("server", &stored.server).with("signal", stored.signal)) { "Wipe…" }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A maximum age, in days or hours.
fn age(age: Duration) -> String {
    let hours = age.as_secs() / 3600;
    match (hours, hours % 24) {
        (24, _) => "1 day".to_owned(),
        (24.., 0) => format!("{} days", hours / 24),
        _ => humantime::format_duration(age).to_string(),
    }
}

fn lost(entries: &[LedgerEntry], zone: &Zone) -> Markup {
    let lost: Vec<&LedgerEntry> = entries
        .iter()
        .filter(|entry| entry.cause != LossCause::Retention)
        .collect();
    html! {
        section.panel aria-labelledby="lost" {
            div.panel-head { h2 #lost { "Lost" } }
            @if lost.is_empty() {
                div.panel-body { p.is-good { "No records were lost." } }
            } @else {
                div.table-wrap {
                    table.table.cards {
                        thead {
                            tr {
                                th scope="col" { "Cause" }
                                th.num scope="col" { "Records" }
                                th scope="col" { "Server" }
                                th scope="col" { "Signal" }
                                th scope="col" { "From" }
                                th scope="col" { "To" }
                            }
                        }
                        tbody {
                            // The newest first: its cause may still be there.
                            @for entry in lost.iter().rev().take(ENTRIES_MAX) {
                                tr data-row {
                                    th.wrap scope="row" { (entry.cause) p.note { (explained(entry)) } }
                                    td.num data-label="Records" { (count(entry)) }
                                    (place(entry))
                                    td data-label="From" { (time(entry.from, zone)) }
                                    td data-label="To" { (time(entry.to, zone)) }
                                }
                            }
                        }
                    }
                }
                (more(lost.len()))
            }
        }
    }
}

fn evicted(entries: &[LedgerEntry], zone: &Zone) -> Markup {
    let evicted: Vec<&LedgerEntry> = entries
        .iter()
        .filter(|entry| entry.cause == LossCause::Retention)
        .collect();
    html! {
        section.panel aria-labelledby="evicted" {
            div.panel-head {
                h2 #evicted { "Evicted" }
                p { "Records that exceeded a limit of size or age" }
            }
            @if evicted.is_empty() {
                div.panel-body { p.soft { "No records were evicted by a limit." } }
            } @else {
                div.table-wrap {
                    table.table.cards {
                        thead {
                            tr {
                                th scope="col" { "Server" }
                                th scope="col" { "Signal" }
                                th.num scope="col" { "Records" }
                                th scope="col" { "Times from" }
                                th scope="col" { "Times to" }
                            }
                        }
                        tbody {
                            @for entry in evicted.iter().take(ENTRIES_MAX) {
                                tr {
                                    (place(entry))
                                    td.num data-label="Records" { (count(entry)) }
                                    td data-label="Times from" { (time(entry.from, zone)) }
                                    td data-label="Times to" { (time(entry.to, zone)) }
                                }
                            }
                        }
                    }
                }
                (more(evicted.len()))
            }
        }
    }
}

fn more(entries: usize) -> Markup {
    html! {
        @if let Some(more) = entries.checked_sub(ENTRIES_MAX).filter(|more| *more > 0) {
            div.panel-body { p.faint { (more) " more entries: `gridctl-telemetry losses` prints all." } }
        }
    }
}

/// The cells of the server and the signal of an entry.
fn place(entry: &LedgerEntry) -> Markup {
    html! {
        td data-label="Server" {
            @match &entry.server { Some(server) => (escape(server)), None => span.faint { "unknown" } }
        }
        td data-label="Signal" {
            @match entry.signal { Some(signal) => (signal), None => span.faint { "unknown" } }
        }
    }
}

fn count(entry: &LedgerEntry) -> Markup {
    html! {
        @if entry.count > 0 { (grouped(entry.count)) } @else { span.faint { "unknown" } }
    }
}

/// What happened, and what can be done about it.
fn explained(entry: &LedgerEntry) -> String {
    match entry.cause {
        LossCause::QueueFull => "Records came faster than they could be stored.".to_owned(),
        LossCause::TooLarge => "A record was larger than the writer accepts.".to_owned(),
        LossCause::Invalid => {
            "A record was nested too deep, or had an id of a wrong length.".to_owned()
        }
        LossCause::Closed => "A record came after its writer was closed.".to_owned(),
        LossCause::DiskFault => "The disk failed until the writer was closed.".to_owned(),
        LossCause::Crash => match entry.recovered {
            0 => "A process was killed; its last records may be missing.".to_owned(),
            recovered => format!(
                "A process was killed; its last records may be missing, and {} were recovered.",
                grouped(recovered)
            ),
        },
        LossCause::Wiped => "A record came before a wipe that covers it.".to_owned(),
        LossCause::Damaged => {
            "Stored records cannot be read any more: their bytes changed.".to_owned()
        }
        LossCause::Replaced => {
            "The file of the database was replaced or deleted while it was in use.".to_owned()
        }
        LossCause::Refused => {
            "An endpoint to which records are forwarded refused them; they are still stored here."
                .to_owned()
        }
        LossCause::SetAside => {
            "The database could not be opened, and a new one was begun; the old file was kept."
                .to_owned()
        }
        _ => String::new(),
    }
}

fn damaged(damage: &[KnownDamage], now: Timestamp, zone: &Zone) -> Markup {
    html! {
        @if damage.is_empty() {
            div.panel-body { p.is-good { "No damage is known." } p.soft { "A writer checks all records once a day." } }
        } @else {
            ul.list {
                @for one in damage.iter().take(ENTRIES_MAX) {
                    li {
                        span.wrap { (escape(&one.to_string())) }
                        span.faint.list-end { "found " (ago(one.found, now, zone)) }
                        @if let Some(records) = one.records.filter(|records| *records > 0) {
                            p.list-more { (grouped(records)) " records cannot be read." }
                        }
                    }
                }
            }
            div.panel-body { p.soft { code { "gridctl-telemetry verify" } " checks everything, and with " code { "--salvage DIR" } " writes what can be read to files." } }
        }
    }
}

fn aside(files: &[SetAside]) -> Markup {
    html! {
        section.panel aria-labelledby="set-aside" {
            div.panel-head { h2 #set-aside { "Files set aside" } }
            ul.list {
                @for file in files {
                    li {
                        code.wrap { (escape(&file.path.display().to_string())) }
                        span.faint.list-end { (size(file.size_bytes)) }
                    }
                }
            }
            div.panel-body {
                p.soft { "These databases could not be opened. " code { "gridctl-telemetry verify FILE --salvage DIR" } " writes what can be read of one to files; delete them when you need them no longer." }
            }
        }
    }
}
