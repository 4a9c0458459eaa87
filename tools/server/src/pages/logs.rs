//! Log records: a search, a histogram over time, and the records that match.

use super::{
    address::Address,
    charts::{Bar, Bars, Layer, Span, Unit},
    layout::{Page, Section, Viewer, show},
    overview,
    parts::{time, unreadable},
    record::Rows,
    search::{LEVELS, chips, cleared, select, servers, text_fields, words},
};
use crate::{
    display::grouped,
    live::{self, Position},
    problem::Problem,
    state::Server,
    views::{
        histogram::Histogram,
        params::{LOGS, Params},
        suggest::Suggestions,
    },
};
use axum::{extract::State, http::HeaderMap, response::Response};
use gridctl_telemetry::{
    Signal, Snapshot,
    query::{Cursor, Damage, Direction, StoredRecord},
};
use maud::{Markup, html};
use std::{borrow::Cow, time::Duration};

/// The number of records of a page, unless the address has another one.
const ROWS: usize = 100;
/// The rows of a page end at this size, in bytes.
const PAGE_BYTES_MAX: usize = 4 << 20;
/// How long records may be counted for the histogram above a list, which must not wait for it, and on a page of its
/// own.
const PATIENCE: Duration = Duration::from_millis(25);
const PATIENCE_ALONE: Duration = Duration::from_secs(10);
/// Maximum number of suggestions for attributes.
const SUGGESTIONS_MAX: usize = 400;
/// Before the cursor of a record in an address: the page ends before that record.
const BEFORE: &str = "-";

/// The parameters that filter, and what each is called.
const FILTERS: [(&str, &str); 11] = [
    ("server", "server"),
    ("level", "level"),
    ("grep", "contains"),
    ("not-grep", "does not contain"),
    ("field", "has"),
    ("not-field", "has not"),
    ("trace", "trace"),
    ("span", "span"),
    ("fixed-strings", "plain text"),
    ("word-regexp", "whole words"),
    ("case-sensitive", "case-sensitive"),
];
pub(super) async fn logs(State(server): State<Server>, viewer: Viewer) -> Response {
    let stack = server.store().stack().to_owned();
    show(server, viewer, move |snapshot, viewer| {
        page(snapshot, viewer, &stack)
    })
    .await
}

/// New records as they arrive: each event is the row of a record.
pub(super) async fn live(
    State(server): State<Server>,
    viewer: Viewer,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let address = viewer.address().clone();
    let params = Params::parse(Some(&address.query()), LOGS)?;
    let patterns = params.filters()?.patterns;
    let zone = params.zone();
    let list = address.at("/logs");
    let show = move |record: &StoredRecord| {
        let rows = Rows {
            zone: &zone,
            patterns: &patterns,
            list: &list,
        };
        Ok(rows.row(record).into_string())
    };
    live::stream(server, &params, Signal::Logs, &headers, show).await
}

/// The histogram alone, which takes the time that it takes. A script puts it into the page of the list.
pub(super) async fn histogram(State(server): State<Server>, viewer: Viewer) -> Response {
    show(server, viewer, |snapshot, viewer| {
        let address = viewer.address().clone().at("/logs");
        let params = Params::parse(Some(&address.query()), LOGS)?;
        let histogram = Histogram::count(snapshot, &params, Signal::Logs, PATIENCE_ALONE)?;
        let body = html! {
            (chips(&address, &FILTERS))
            @match &histogram {
                Some(histogram) => (chart(histogram, &params, &address, true)),
                None => p.soft { "There are no records in this range." },
            }
            p { a href=(address) { "The records" } }
        };
        let page = Page::new(Section::Logs, "Logs over time", body);
        Ok(page.under("Logs", address).with_range())
    })
    .await
}

fn page(snapshot: &Snapshot, viewer: &Viewer, stack: &str) -> Result<Page, Problem> {
    let address = viewer.address();
    let params = match Params::parse(Some(&address.query()), LOGS) {
        Ok(params) => params,
        Err(problem) => {
            // What was typed stays in the form, where it can be corrected.
            let suggestions = Suggestions::find(snapshot, &Params::default(), Signal::Logs)?;
            let body = html! {
                (form(address, &suggestions))
                p.notice.is-error role="alert" { (problem.detail()) }
            };
            let page = Page::new(Section::Logs, "Logs", body).with_range();
            return Ok(page.with_status(problem.status()));
        }
    };
    let suggestions = Suggestions::find(snapshot, &params, Signal::Logs)?;
    let histogram = Histogram::count(snapshot, &params, Signal::Logs, PATIENCE)?;
    let found = Found::read(snapshot, &params, viewer)?;
    let has_logs = histogram.is_some() || !found.rows.is_empty() || suggestions.sampled > 0;
    let body = html! {
        (form(address, &suggestions))
        (chips(address, &FILTERS))
        @if let Some(histogram) = &histogram { (chart(histogram, &params, address, false)) }
        (unreadable(&found.damage))
        @if !found.rows.is_empty() {
            (list(&found, address, &Position::end_of(snapshot)?))
        } @else if has_logs {
            (nothing(address, !found.damage.is_empty()))
        } @else {
            (overview::empty(stack))
        }
    };
    Ok(Page::new(Section::Logs, "Logs", body).with_range())
}

/// The records of a page.
struct Found {
    rows: Vec<Markup>,
    /// The cursors of the pages before and after it.
    previous: Option<String>,
    next: Option<String>,
    direction: Direction,
    /// What cannot be read, and is left out.
    damage: Vec<Damage>,
}

impl Found {
    fn read(snapshot: &Snapshot, params: &Params, viewer: &Viewer) -> Result<Found, Problem> {
        let direction = params.direction.unwrap_or(Direction::Backward);
        let cursor = params.cursor.as_deref();
        let before = cursor.and_then(|cursor| cursor.strip_prefix(BEFORE));
        let reading = match (before, direction) {
            (None, direction) => direction,
            (Some(_), Direction::Forward) => Direction::Backward,
            (Some(_), Direction::Backward) => Direction::Forward,
        };
        let asked = params.with(|asked| {
            asked.cursor = before.or(cursor).map(str::to_owned);
            asked.direction = Some(reading);
        });
        let query = asked.records(Signal::Logs, reading)?;
        let patterns = params.filters()?.patterns;
        let zone = params.zone();
        let shown = Rows {
            zone: &zone,
            patterns: &patterns,
            list: viewer.address(),
        };
        let limit = params.limit_or(ROWS);
        let mut records = snapshot.scan(&query)?.records();
        let (mut rows, mut bytes, mut has_more) = (Vec::new(), 0, false);
        let mut ends: Option<(Cursor, Cursor)> = None;
        for record in records.by_ref() {
            let record = record?;
            if rows.len() == limit || bytes > PAGE_BYTES_MAX {
                has_more = true;
                break;
            }
            let cursor = record.cursor();
            ends = Some((ends.map_or(cursor, |(first, _)| first), cursor));
            let row = shown.row(&record);
            bytes += row.0.len();
            rows.push(row);
        }
        let damage = records.damage();
        let (mut has_previous, mut has_next) = (cursor.is_some(), has_more);
        if before.is_some() {
            rows.reverse();
            ends = ends.map(|(first, last)| (last, first));
            (has_previous, has_next) = (has_more, true);
        }
        let (first, last) = ends.unzip();
        Ok(Found {
            rows,
            previous: first
                .filter(|_| has_previous)
                .map(|first| format!("{BEFORE}{first}")),
            next: last.filter(|_| has_next).map(|last| last.to_string()),
            direction,
            damage,
        })
    }
}

impl Found {
    fn heading(&self) -> String {
        let count = grouped(self.rows.len() as u64);
        match (self.direction, &self.previous, &self.next) {
            (_, None, None) if self.rows.len() == 1 => "1 record".to_owned(),
            (Direction::Backward, None, Some(_)) => format!("Newest {count} records"),
            (Direction::Forward, None, Some(_)) => format!("Oldest {count} records"),
            _ => format!("{count} records"),
        }
    }
}

fn form(address: &Address, suggestions: &Suggestions) -> Markup {
    let values = |name: &str| address.values(name);
    let searches = values("grep");
    html! {
        form.search method="get" action="/logs" role="search" {
            @for name in ["since", "until", "utc", "interval"] {
                @if let Some(value) = address.get(name) { input type="hidden" name=(name) value=(value); }
            }
            div.search-line {
                label.hide for="grep" { "Search in messages and values" }
                input #grep type="search" name="grep" value=[searches.first()] data-search autocomplete="off" spellcheck="false"
                    placeholder="Search in messages and values: words, or a regular expression";
                button.button.button-main type="submit" { "Search" }
            }
            details.filters {
                summary { "Filters" }
                div.filters-body {
                    label.field { span { "Level" } (select("level", address, &LEVELS)) }
                    (text_fields("field", "Has the attribute", "key=value, key>5, key~regex, key, !key", address, Some("entries"), 0))
                    (text_fields("not-field", "Has not", "key=value", address, Some("entries"), 0))
                    (text_fields("grep", "Contains also", "", address, None, 1))
                    (text_fields("not-grep", "Does not contain", "", address, None, 0))
                    (text_fields("trace", "Trace", "id, or a part of it", address, None, 0))
                    (text_fields("span", "Span", "id, or a part of it", address, None, 0))
                    label.field { span { "Order" } (select("direction", address, &[("", "Newest first"), ("forward", "Oldest first")])) }
                    (servers(address, suggestions))
                    (words(address))
                    label.field { span { "Rows" } (select("limit", address, &[("", "100"), ("50", "50"), ("250", "250"), ("1000", "1,000")])) }
                    div.filters-end {
                        button.button.button-main type="submit" { "Apply" }
                        a.button href=(cleared(address, &FILTERS)) { "Clear" }
                    }
                }
            }
            datalist #entries {
                @for field in suggestions.fields(SUGGESTIONS_MAX) { option value=(field) {} }
            }
        }
    }
}

/// The histogram. One that is not counted to the end has the address of the page that does that.
fn chart(histogram: &Histogram, params: &Params, address: &Address, is_alone: bool) -> Markup {
    let zone = params.zone();
    let all = address.clone().without(&["cursor", "interval"]);
    let ends = histogram.bins.first().zip(histogram.bins.last());
    let Some((first, last)) = ends else {
        return html! {};
    };
    let can_narrow = histogram.bins.len() > 1;
    let is_cut = histogram.counted_since.is_some() && !is_alone;
    let whole = is_cut.then(|| address.clone().without(&["cursor"]).at("/logs/histogram"));
    let bars = Bars {
        title: "Log records by level",
        unit: Unit::RECORDS,
        span: Span::new(first.since, last.until),
        layers: [
            ("Debug", "level-debug"),
            ("Info", "level-info"),
            ("Warn", "level-warn"),
            ("Error", "level-error"),
        ]
        .map(|(name, class)| Layer {
            name: Cow::Borrowed(name),
            class,
        })
        .into(),
        bars: histogram
            .bins
            .iter()
            .map(|bin| Bar {
                span: Span::new(bin.since, bin.until),
                values: vec![
                    bin.counts.debug,
                    bin.counts.info,
                    bin.counts.warn,
                    bin.counts.error,
                ],
                href: can_narrow.then(|| {
                    let range = all.clone().with("since", bin.since);
                    range.with("until", bin.until).to_string()
                }),
            })
            .collect(),
    };
    html! {
        section.panel.histogram aria-label="Log records over time" data-selects=(all.clone().without(&["since", "until"])) data-counts=[whole.as_ref()] {
            div.panel-body {
                (bars.draw(&|time| zone.offset_at(time)))
                @if let Some(since) = histogram.counted_since {
                    p.chart-note {
                        "Only records since " (time(since, &zone)) " are counted: counting older ones takes longer. "
                        @match &whole {
                            Some(whole) => a href=(whole) { "Count all" },
                            None => "A shorter range shows all.",
                        }
                    }
                }
            }
        }
    }
}

fn list(found: &Found, address: &Address, end: &Position) -> Markup {
    let (older, newer) = match found.direction {
        Direction::Backward => ("Older", "Newer"),
        Direction::Forward => ("Newer", "Older"),
    };
    let page = |cursor: &String| address.clone().with("cursor", cursor);
    let all = address
        .clone()
        .without(&["cursor", "limit", "direction", "interval"]);
    let has_live = found.direction == Direction::Backward
        && found.previous.is_none()
        && address.get("until").is_none();
    html! {
        section.panel.logs aria-labelledby="records" {
            div.panel-head {
                h2 #records { (found.heading()) }
                div.logs-tools {
                    a.button.button-small href=(all.clone().at("/api/telemetry/logs").with("format", "ndjson")) download { "NDJSON" }
                    @if has_live {
                        button.button.button-small type="button" hidden data-live=(all.at("/logs/live").with("cursor", end)) aria-pressed="false" { "Live" }
                    }
                    span.hide role="status" data-live-status {}
                }
            }
            ol.log-list data-rows { @for row in &found.rows { (row) } }
        }
        nav.pager aria-label="More records" {
            @if let Some(previous) = &found.previous { a.button rel="prev" href=(page(previous)) { "← " (newer) } } @else { span {} }
            @if let Some(next) = &found.next { a.button rel="next" href=(page(next)) { (older) " →" } }
        }
    }
}

/// What to do when nothing matches.
fn nothing(address: &Address, is_damaged: bool) -> Markup {
    let has_filters = FILTERS.iter().any(|(name, _)| address.get(name).is_some());
    let has_range = address.get("since").is_some() || address.get("until").is_some();
    html! {
        section.panel.empty {
            h2.empty-lead {
                @if is_damaged { "No log records that can be read match" } @else { "No log records match" }
            }
            @if address.get("cursor").is_some() {
                p { "There are no more records on this side." }
                p { a.button href=(address.clone().without(&["cursor"])) { "Go to the first page" } }
            } @else {
                p { "Look at a longer range of time, or remove a filter." }
                p.empty-actions {
                    @if has_range { a.button href=(address.clone().without(&["since", "until", "cursor"])) { "All time" } }
                    @if has_filters { a.button href=(cleared(address, &FILTERS)) { "Clear the filters" } }
                }
            }
        }
    }
}
