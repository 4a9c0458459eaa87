//! The frame of every page: head, navigation, alerts, the range of time, and the footer.

use super::{address::Address, assets, parts};
use crate::{
    display::{clock_seconds, escape, grouped, percent, size},
    input::Zone,
    problem::Problem,
    state::Server,
};
use axum::{
    Form,
    extract::FromRequestParts,
    http::{
        HeaderMap, StatusCode,
        header::{COOKIE, LOCATION, SET_COOKIE},
        request::Parts,
    },
    response::{IntoResponse, Response},
};
use gridctl_telemetry::{
    Snapshot, Store, Timestamp,
    home::{SetAside, list_set_aside},
    ledger::LossCause,
    maintenance::Space,
};
use maud::{DOCTYPE, Markup, html};
use serde::Deserialize;
use std::{convert::Infallible, path::Path, time::Duration};

/// How long an entry of the ledger is pointed out on every page. The overview shows all of them.
const LOSS_SHOWN: Duration = Duration::from_secs(24 * 60 * 60);

/// The ranges of time that can be chosen with one click: what is in the address, and its name.
const RANGES: [(&str, &str); 7] = [
    ("15m", "Last 15 minutes"),
    ("1h", "Last hour"),
    ("6h", "Last 6 hours"),
    ("24h", "Last 24 hours"),
    ("7d", "Last 7 days"),
    ("30d", "Last 30 days"),
    ("", "All time"),
];

/// The part of the navigation that a page belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Overview,
    Logs,
    Traces,
    Usage,
    Ledger,
}

impl Section {
    const ALL: [Section; 5] = [
        Section::Overview,
        Section::Logs,
        Section::Traces,
        Section::Usage,
        Section::Ledger,
    ];

    pub(crate) fn path(self) -> &'static str {
        match self {
            Section::Overview => "/",
            Section::Logs => "/logs",
            Section::Traces => "/traces",
            Section::Usage => "/usage",
            Section::Ledger => "/ledger",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Section::Overview => "Overview",
            Section::Logs => "Logs",
            Section::Traces => "Traces",
            Section::Usage => "Usage",
            Section::Ledger => "Ledger & disk",
        }
    }

    /// Whether its pages show records of a range of time, which then stays the same from one to the next.
    fn has_range(self) -> bool {
        matches!(self, Section::Logs | Section::Traces | Section::Usage)
    }
}

/// The colours that a viewer has chosen; without a choice, those of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Theme {
    Light,
    Dark,
    System,
}

impl Theme {
    fn as_str(self) -> &'static str {
        match self {
            Theme::Light => "light",
            Theme::Dark => "dark",
            Theme::System => "system",
        }
    }

    /// The theme of the cookie `theme`.
    fn of(headers: &HeaderMap) -> Theme {
        let cookies = headers.get_all(COOKIE).into_iter();
        let chosen = cookies
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .find_map(|cookie| cookie.trim().strip_prefix("theme="));
        match chosen {
            Some("light") => Theme::Light,
            Some("dark") => Theme::Dark,
            _ => Theme::System,
        }
    }
}

/// The request for a page: its address and the colours it is shown in.
#[derive(Debug, Clone)]
pub(crate) struct Viewer {
    address: Address,
    theme: Theme,
}

impl Viewer {
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// The zone in which times are shown: that of this machine, unless the address asks for UTC.
    pub(crate) fn zone(&self) -> Zone {
        match self.address.get("utc") {
            Some("true" | "1" | "on") => Zone::UTC,
            _ => Zone::system(),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Viewer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Viewer, Infallible> {
        Ok(Viewer {
            address: Address::from(&parts.uri),
            theme: Theme::of(&parts.headers),
        })
    }
}

/// A page without its frame.
#[derive(Debug)]
pub(crate) struct Page {
    section: Option<Section>,
    title: String,
    crumbs: Vec<(String, Address)>,
    has_range: bool,
    status: StatusCode,
    body: Markup,
}

impl Page {
    pub(crate) fn new(section: Section, title: impl Into<String>, body: Markup) -> Page {
        Page {
            section: Some(section),
            title: title.into(),
            crumbs: Vec::new(),
            has_range: false,
            status: StatusCode::OK,
            body,
        }
    }

    /// Adds a page above this one to the path that its heading begins with.
    #[must_use]
    pub(crate) fn under(mut self, name: impl Into<String>, address: Address) -> Page {
        self.crumbs.push((name.into(), address));
        self
    }

    /// Sets the status of the answer. Default: 200.
    #[must_use]
    pub(crate) fn with_status(mut self, status: StatusCode) -> Page {
        self.status = status;
        self
    }

    /// Shows the range of time of the parameters `since` and `until` in the header, where it can be changed.
    #[must_use]
    pub(crate) fn with_range(mut self) -> Page {
        self.has_range = true;
        self
    }
}

/// Answers with the page that `make` makes from a snapshot, or with the page of its error.
pub(crate) async fn show(
    server: Server,
    viewer: Viewer,
    make: impl FnOnce(&Snapshot, &Viewer) -> Result<Page, Problem> + Send + 'static,
) -> Response {
    let reader = server.clone();
    let shown = viewer.clone();
    let reading = server.read(move |snapshot| {
        let frame = Frame::of(&reader, snapshot);
        // The frame of an error is as good as any other: the store can be read.
        let page = make(snapshot, &shown).unwrap_or_else(|problem| problem_page(&problem));
        Ok((page, frame))
    });
    match reading.await {
        Ok((page, frame)) => {
            (page.status, frame_page(&viewer, Some(&frame), &page)).into_response()
        }
        Err(problem) => error(&viewer, &problem),
    }
}

/// Answers with the page of an error, without anything from the store.
pub(crate) fn error(viewer: &Viewer, problem: &Problem) -> Response {
    let page = frame_page(viewer, None, &problem_page(problem));
    (problem.status(), page).into_response()
}

/// What an error means, and what to do about it.
fn problem_page(problem: &Problem) -> Page {
    let status = problem.status();
    let (title, advice) = match status {
        StatusCode::NOT_FOUND => (
            "Not found",
            "It may have been deleted or expired, or the address is incomplete.",
        ),
        StatusCode::BAD_REQUEST => (
            "This address cannot be read",
            "Change the parameter that is named above, or start again from the page without parameters.",
        ),
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::INTERNAL_SERVER_ERROR => (
            "The store cannot be read",
            "Reload the page to try again. `gridctl-telemetry status` and `verify` say more about the \
             database; a daemon that is running keeps its records in memory while its queue has room.",
        ),
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => {
            ("Not allowed", "Go back, reload the page and try again.")
        }
        _ => ("This did not work", "Go back and try again."),
    };
    let body = html! {
        section.empty {
            p.empty-code aria-hidden="true" { (status.as_u16()) }
            p.empty-lead { (problem.detail()) }
            p { (advice) }
            p { a.button href="/" { "Go to the overview" } }
        }
    };
    Page {
        section: None,
        title: title.to_owned(),
        crumbs: Vec::new(),
        has_range: false,
        status,
        body,
    }
}

/// Something that every page points out.
#[derive(Debug, PartialEq, Eq)]
struct Alert {
    is_error: bool,
    /// Whether it is about lost records, of which the overview and the ledger say more themselves.
    is_loss: bool,
    text: String,
}

impl Alert {
    fn error(text: impl Into<String>) -> Alert {
        Alert {
            is_error: true,
            is_loss: false,
            text: text.into(),
        }
    }

    fn warning(text: impl Into<String>) -> Alert {
        Alert {
            is_error: false,
            is_loss: false,
            text: text.into(),
        }
    }
}

/// What the frame says of the store.
#[derive(Debug)]
struct Frame {
    stack: String,
    disk: Option<Space>,
    last_commit: Option<Timestamp>,
    alerts: Vec<Alert>,
}

impl Frame {
    /// What can be read of it: a damaged part becomes an alert and hides nothing else.
    fn of(server: &Server, snapshot: &Snapshot) -> Frame {
        let store = server.store();
        let mut alerts = Vec::new();
        match store.writers() {
            Ok(writers) => {
                let failing = writers.iter().filter(|writer| {
                    writer.is_running
                        && (writer.failing_since.is_some() || writer.last_error.is_some())
                });
                alerts.extend(failing.map(|writer| {
                    let why = writer.last_error.as_deref();
                    Alert::error(format!(
                        "Process {} cannot store records: {}",
                        writer.process_id,
                        why.unwrap_or("the reason is not known")
                    ))
                }));
            }
            Err(error) => alerts.push(Alert::error(error.to_string())),
        }
        match snapshot.known_damage() {
            Ok(damage) => match damage.as_slice() {
                [] => {}
                [one] => alerts.push(Alert::error(format!("Damaged: {one}"))),
                [first, rest @ ..] => alerts.push(Alert::error(format!(
                    "Damaged: {first}, and {} more parts",
                    rest.len()
                ))),
            },
            Err(error) => alerts.push(Alert::error(error.to_string())),
        }
        let now = Timestamp::now();
        match snapshot.ledger(..) {
            Ok(entries) => {
                let lost = entries.iter().filter(|entry| {
                    entry.cause != LossCause::Retention
                        && entry.cause != LossCause::Wiped
                        && is_recent(entry.to, now)
                });
                let (count, entries) = lost.fold((0_u64, 0_u64), |(count, entries), entry| {
                    (count.saturating_add(entry.count), entries + 1)
                });
                if entries > 0 {
                    let what = match count {
                        0 => "Records may have been lost".to_owned(),
                        1 => "1 record was lost".to_owned(),
                        count => format!("{} records were lost", grouped(count)),
                    };
                    alerts.push(Alert {
                        is_loss: true,
                        ..Alert::warning(format!("{what} in the last 24 hours."))
                    });
                }
            }
            Err(error) => alerts.push(Alert::error(error.to_string())),
        }
        if let Ok(Some(jump)) = snapshot.clock_jump() {
            alerts.push(Alert::warning(jump.to_string()));
        }
        let set_aside = set_aside_of(store).len();
        if set_aside > 0 {
            let files = if set_aside == 1 {
                "file was"
            } else {
                "files were"
            };
            alerts.push(Alert::warning(format!(
                "{set_aside} damaged database {files} set aside."
            )));
        }
        Frame {
            stack: store.stack().to_owned(),
            disk: store.space().ok(),
            last_commit: snapshot.last_commit().ok().flatten(),
            alerts,
        }
    }
}

/// The files that were set aside beside the database; none if its folder cannot be read.
pub(super) fn set_aside_of(store: &Store) -> Vec<SetAside> {
    let path = store.path();
    let home = path.ancestors().nth(3).unwrap_or(Path::new("/"));
    list_set_aside(home, store.stack()).unwrap_or_default()
}

fn is_recent(time: Timestamp, now: Timestamp) -> bool {
    now.saturating_duration_since(time) < LOSS_SHOWN
}

fn frame_page(viewer: &Viewer, frame: Option<&Frame>, page: &Page) -> Markup {
    let stack = frame.map(|frame| frame.stack.as_str());
    let theme = (viewer.theme != Theme::System).then(|| viewer.theme.as_str());
    html! {
        (DOCTYPE)
        html lang="en" data-theme=[theme] {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content=(theme.unwrap_or("light dark"));
                title {
                    (page.title)
                    @if let Some(stack) = stack { " · " (stack) }
                    " · gridctl telemetry"
                }
                link rel="icon" href=(assets::icon()) type="image/svg+xml";
                link rel="stylesheet" href=(assets::style());
                script src=(assets::script()) defer {}
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                header.top {
                    div.top-inner {
                        a.brand href="/" {
                            (mark())
                            span.brand-name { "telemetry" }
                            @if let Some(stack) = stack { span.brand-stack { (stack) } }
                        }
                        nav.nav aria-label="Pages" { (navigation(viewer, page.section)) }
                        div.top-tools { (theme_switch(viewer)) (help_button()) }
                    }
                }
                @if let Some(frame) = frame { (alerts(&frame.alerts, page.section)) }
                main #main tabindex="-1" {
                    div.heading {
                        div.heading-text {
                            @if !page.crumbs.is_empty() {
                                nav.crumbs aria-label="Breadcrumbs" {
                                    ol { @for (name, address) in &page.crumbs { li { a href=(address) { (name) } } } }
                                }
                            }
                            h1 { (page.title) }
                        }
                        @if page.has_range { (range_picker(&viewer.address, &viewer.zone())) }
                    }
                    (page.body)
                }
                footer.foot { (footer(viewer, frame)) }
                (help())
            }
        }
    }
}

/// Three bars in a frame, the mark of the program.
fn mark() -> Markup {
    html! {
        svg.mark viewBox="0 0 20 20" width="20" height="20" aria-hidden="true" focusable="false" {
            rect.mark-back x="0" y="0" width="20" height="20" rx="5" {}
            rect.mark-bar x="4.5" y="10" width="2.6" height="5.5" rx="1" {}
            rect.mark-bar x="8.7" y="4.5" width="2.6" height="11" rx="1" {}
            rect.mark-bar x="12.9" y="7.5" width="2.6" height="8" rx="1" {}
        }
    }
}

fn navigation(viewer: &Viewer, current: Option<Section>) -> Markup {
    html! {
        ul {
            @for section in Section::ALL {
                li {
                    a href=(section_address(section, &viewer.address)) aria-current=[(current == Some(section)).then_some("page")] {
                        (section.name())
                    }
                }
            }
        }
    }
}

/// The first page of a section, for the same range of time as the present page.
fn section_address(section: Section, present: &Address) -> Address {
    let names = if section.has_range() {
        ["since", "until"].as_slice()
    } else {
        &[]
    };
    names.iter().fold(
        Address::new(section.path()),
        |address, name| match present.get(name) {
            Some(value) => address.with(name, value),
            None => address,
        },
    )
}

/// Without script, the buttons send a form; with it, they change the page at once.
fn theme_switch(viewer: &Viewer) -> Markup {
    html! {
        form.theme method="post" action="/theme" aria-label="Colours" {
            input type="hidden" name="back" value=(viewer.address);
            @for theme in [Theme::Light, Theme::System, Theme::Dark] {
                button type="submit" name="theme" value=(theme.as_str())
                    aria-pressed=(if viewer.theme == theme { "true" } else { "false" })
                    title={ (theme.as_str()) " colours" }
                {
                    (theme_icon(theme))
                    span.hide { (theme.as_str()) " colours" }
                }
            }
        }
    }
}

fn theme_icon(theme: Theme) -> Markup {
    html! {
        svg viewBox="0 0 16 16" width="14" height="14" aria-hidden="true" focusable="false" {
            @match theme {
                Theme::Light => {
                    circle.icon-fill cx="8" cy="8" r="3" {}
                    path.icon-line d="M8 1v2M8 13v2M1 8h2M13 8h2M3 3l1.4 1.4M11.6 11.6 13 13M3 13l1.4-1.4M11.6 4.4 13 3" {}
                }
                Theme::Dark => path.icon-fill d="M13.5 9.7A5.8 5.8 0 0 1 6.3 2.5a5.8 5.8 0 1 0 7.2 7.2z" {},
                Theme::System => {
                    circle.icon-line cx="8" cy="8" r="5.5" {}
                    path.icon-fill d="M8 2.5a5.5 5.5 0 0 1 0 11z" {}
                }
            }
        }
    }
}

fn help_button() -> Markup {
    html! {
        button.help-open type="button" data-opens="help" hidden aria-label="Keyboard shortcuts" title="Keyboard shortcuts (?)" { "?" }
    }
}

fn help() -> Markup {
    let keys = [
        ("/", "Search"),
        ("j  k", "Next and previous row"),
        ("Enter", "Open or close the row"),
        ("n  p", "Next and previous page"),
        (
            "g then o l t u d",
            "Overview, logs, traces, usage, ledger and disk",
        ),
        ("?", "This list"),
        ("Esc", "Close, or leave the search"),
    ];
    html! {
        dialog.help #help aria-labelledby="help-title" {
            form method="dialog" {
                h2 #help-title { "Keyboard shortcuts" }
                dl {
                    @for (key, what) in keys {
                        dt { @for key in key.split_whitespace() { @if key == "then" { " then " } @else { kbd { (key) } } } }
                        dd { (what) }
                    }
                }
                button.button autofocus { "Close" }
            }
        }
    }
}

fn alerts(alerts: &[Alert], section: Option<Section>) -> Markup {
    let says_more = matches!(section, Some(Section::Overview | Section::Ledger));
    let mut shown = alerts
        .iter()
        .filter(|alert| !(alert.is_loss && says_more))
        .peekable();
    html! {
        @if shown.peek().is_some() {
            aside.alerts aria-label="Alerts" {
                ul {
                    @for alert in shown {
                        li.alert.is-error[alert.is_error] {
                            span.alert-mark aria-hidden="true" { "!" }
                            span.alert-text { (escape(&alert.text)) }
                            @if section != Some(Section::Ledger) { a href="/ledger" { "Details" } }
                        }
                    }
                }
            }
        }
    }
}

fn range_picker(address: &Address, zone: &Zone) -> Markup {
    let (since, until) = (address.get("since"), address.get("until"));
    let preset = RANGES
        .iter()
        .find(|(value, _)| until.is_none() && since.unwrap_or_default() == *value);
    // A time that a click in a chart chose is written out to the nanosecond.
    let brief = |text: &str| match text.parse() {
        Ok(time) => clock_seconds(zone.local(time)),
        Err(_) => text.to_owned(),
    };
    let (since_text, until_text) = (since.map(brief), until.map(brief));
    let label = match (preset, since_text, until_text) {
        (Some((_, name)), ..) => (*name).to_owned(),
        (None, Some(since), Some(until)) => match (since.split_once(' '), until.split_once(' ')) {
            (Some((date, _)), Some((same, time))) if date == same => format!("{since} to {time}"),
            _ => format!("{since} to {until}"),
        },
        (None, Some(since), None) => format!("Since {since}"),
        (None, None, Some(until)) => format!("Until {until}"),
        (None, None, None) => "All time".to_owned(),
    };
    let bare = address.clone().without(&["since", "until", "cursor"]);
    html! {
        details.menu.range {
            summary {
                span.hide { "Range of time: " }
                (label)
            }
            div.menu-panel {
                ul.range-list {
                    @for (value, name) in RANGES {
                        @let chosen = preset.is_some_and(|(of, _)| *of == value);
                        li {
                            a href=(if value.is_empty() { bare.clone() } else { bare.clone().with("since", value) })
                                aria-current=[chosen.then_some("true")] { (name) }
                        }
                    }
                }
                form.range-form method="get" action=(bare.path()) {
                    @for (name, value) in bare.params() { input type="hidden" name=(name) value=(value); }
                    label { span { "From" } input type="text" name="since" value=[since] placeholder="2h, today, 2026-05-08 14:03" autocomplete="off"; }
                    label { span { "To" } input type="text" name="until" value=[until] placeholder="now" autocomplete="off"; }
                    button.button type="submit" { "Apply" }
                }
            }
        }
    }
}

fn footer(viewer: &Viewer, frame: Option<&Frame>) -> Markup {
    html! {
        div.foot-inner {
            @if let Some(frame) = frame {
                span { "Stack " strong { (frame.stack) } }
                @if let Some(disk) = &frame.disk {
                    span {
                        a href="/ledger" {
                            (size(disk.used_bytes))
                            @if let Some(limit) = disk.limit_bytes {
                                " of " (size(limit)) " on disk (" (percent(disk.used_bytes, limit)) ")"
                            } @else { " on disk" }
                        }
                    }
                }
                @if let Some(time) = frame.last_commit {
                    span { "Last commit " (parts::time(time, &viewer.zone())) }
                }
            }
            span.foot-version { "gridctl-telemetry " (env!("CARGO_PKG_VERSION")) }
        }
    }
}

/// The choice of a theme.
#[derive(Debug, Deserialize)]
pub(super) struct ThemeChoice {
    theme: Theme,
    back: String,
}

/// Stores the choice in a cookie and returns to the page.
pub(super) async fn choose_theme(Form(choice): Form<ThemeChoice>) -> Response {
    let cookie = format!(
        "theme={}; Path=/; Max-Age=31536000; SameSite=Strict",
        choice.theme.as_str()
    );
    let headers = [
        (SET_COOKIE, cookie),
        (LOCATION, local(&choice.back).to_owned()),
    ];
    (StatusCode::SEE_OTHER, headers).into_response()
}

/// The address, if it is one of this server. Browsers read `//` and `/\` as another server.
fn local(address: &str) -> &str {
    let is_local = address.starts_with('/')
        && !address.starts_with("//")
        && !address.contains('\\')
        && address.bytes().all(|byte| byte.is_ascii_graphic());
    if is_local { address } else { "/" }
}
