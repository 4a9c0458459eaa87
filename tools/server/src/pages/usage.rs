//! Tokens, costs and calls over time, and how they differ from the period before.

use super::{
    address::Address,
    charts::{Bar, Bars, Layer, Span, Unit},
    layout::{Page, Section, Viewer, show},
    parts::{ago, fact, time, unreadable},
};
use crate::{
    display::{decimals, duration, escape, escape_name, grouped, micro_usd, percent, usd},
    input::Zone,
    problem::Problem,
    state::Server,
    views::{
        params::{Params, USAGE},
        steps::{DAY, HOUR},
    },
};
use axum::{extract::State, response::Response};
use gridctl_telemetry::{
    Query, Signal, Snapshot, Timestamp,
    query::{CallQuery, TimeRange, ToolStats, UsageCounts, UsageReport, UsageRow},
};
use maud::{Markup, html};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
};

/// The number of rows of a table.
const ROWS: usize = 100;
/// The number of names that have a colour of their own; the others are shown together.
const LAYERS: usize = 7;
/// Ranges up to this long are shown by the hour, and others by the day.
const HOURS_NANOS_MAX: i64 = 4 * DAY;
/// Maximum number of bars. Older ones are not drawn.
const BARS_MAX: i64 = 400;

pub(super) async fn usage(State(server): State<Server>, viewer: Viewer) -> Response {
    show(server, viewer, page).await
}

/// What usage is shown by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Server,
    Tool,
    Model,
    Skill,
}

impl What {
    const ALL: [What; 4] = [What::Server, What::Tool, What::Model, What::Skill];

    fn of(params: &Params) -> What {
        let named = |by: &String| What::ALL.into_iter().find(|what| what.word() == by);
        // A tool of a server is a tool.
        let found: Vec<What> = params.by.iter().filter_map(named).collect();
        let others = found.iter().find(|what| **what != What::Server);
        others.or(found.first()).copied().unwrap_or(What::Server)
    }

    fn word(self) -> &'static str {
        match self {
            What::Server => "server",
            What::Tool => "tool",
            What::Model => "model",
            What::Skill => "skill",
        }
    }

    fn heading(self) -> &'static str {
        match self {
            What::Server => "Server",
            What::Tool => "Tool",
            What::Model => "Model",
            What::Skill => "Skill",
        }
    }

    /// The name of a row.
    fn name(self, row: &UsageRow) -> Option<String> {
        match self {
            What::Server => row.server.as_ref().map(ToString::to_string),
            What::Tool => row.tool.clone(),
            What::Model => row.model.clone(),
            What::Skill => row.skill.clone(),
        }
    }

    /// What is counted for no name of this.
    fn unnamed(self) -> &'static str {
        match self {
            What::Tool => "(no tool)",
            What::Model => "(not named)",
            What::Server | What::Skill => "(none)",
        }
    }
}

/// What a chart shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Measure {
    Tokens,
    Cost,
    Calls,
}

impl Measure {
    fn unit(self) -> Unit {
        match self {
            Measure::Tokens => Unit::TOKENS,
            Measure::Cost => Unit::MicroUsd,
            Measure::Calls => Unit::CALLS,
        }
    }

    fn heading(self) -> &'static str {
        match self {
            Measure::Tokens => "Tokens",
            Measure::Cost => "Cost",
            Measure::Calls => "Calls",
        }
    }

    fn of(self, counts: &UsageCounts) -> i128 {
        match self {
            Measure::Tokens => counts.tokens.total_tokens.into(),
            Measure::Cost => counts.cost.map_or(0, micro_usd),
            Measure::Calls => counts.calls.into(),
        }
    }

    fn write(self, value: i128) -> String {
        match self {
            Measure::Cost => usd(value, decimals(value)),
            _ => grouped(value),
        }
    }
}

/// The usage of a range, and of the one before it.
struct Shown {
    what: What,
    zone: Zone,
    range: TimeRange,
    is_by_hour: bool,
    /// By time and name.
    over_time: UsageReport,
    /// By name.
    now: Vec<(Option<String>, UsageCounts)>,
    total: UsageCounts,
    before: Option<Before>,
}

/// The period before, which is as long.
struct Before {
    range: TimeRange,
    by_name: HashMap<Option<String>, UsageCounts>,
    total: UsageCounts,
}

fn page(snapshot: &Snapshot, viewer: &Viewer) -> Result<Page, Problem> {
    let params = Params::parse(Some(&viewer.address().query()), USAGE)?;
    let shown = Shown::read(snapshot, &params)?;
    let calls = if shown.what == What::Tool {
        tools(snapshot, &params)?
    } else {
        Vec::new()
    };
    let body = html! {
        (tabs(viewer.address(), shown.what))
        (unreadable(&shown.over_time.damage))
        @if shown.now.is_empty() {
            (nothing(shown.what, viewer.address()))
        } @else {
            (shown.facts())
            @for measure in shown.measures() { (shown.chart(measure)) }
            (shown.table(params.limit_or(ROWS)))
        }
        @if !calls.is_empty() { (call_table(&calls, &params, &shown.zone)) }
    };
    Ok(Page::new(Section::Usage, "Usage", body).with_range())
}

fn tabs(address: &Address, what: What) -> Markup {
    html! {
        div.toolbar {
            nav.tabs aria-label="What usage is shown by" {
                @for tab in What::ALL {
                    a href=(address.clone().with("by", tab.word())) aria-current=[(tab == what).then_some("true")] {
                        "By " (tab.word())
                    }
                }
            }
        }
    }
}

fn nothing(what: What, address: &Address) -> Markup {
    html! {
        section.panel.empty {
            p.empty-lead {
                @match what {
                    What::Model => "No model was called",
                    What::Skill => "No skill was called",
                    What::Server | What::Tool => "Nothing was counted",
                }
            }
            p {
                @match what {
                    What::Model => { "Models are counted from spans with the attributes " code { "gen_ai.usage.*" } "." },
                    _ => "Tokens, costs and calls are counted from the metrics that servers store.",
                }
            }
            @if address.get("since").is_some() || address.get("until").is_some() {
                p { a.button href=(address.clone().without(&["since", "until"])) { "Show all time" } }
            }
        }
    }
}

impl Shown {
    fn read(snapshot: &Snapshot, params: &Params) -> Result<Shown, Problem> {
        let what = What::of(params);
        let range = params.range()?;
        // A word that names nothing is refused, although the page asks for more than one report.
        params.usage(range, &[]).map(drop)?;
        let until = range.until.unwrap_or_else(|| params.now());
        let length = range.since.map(|since| nanos_between(since, until));
        let usage = |range, by: &[&str]| -> Result<UsageReport, Problem> {
            let params =
                params.with(|params| params.by = by.iter().copied().map(str::to_owned).collect());
            Ok(snapshot.usage(&params.usage(range, &[])?)?)
        };
        let asks_for = |word: &str| params.by.iter().any(|by| by == word);
        let is_short = |nanos: i64| nanos <= HOURS_NANOS_MAX;
        let mut is_by_hour = asks_for("hour") || (!asks_for("day") && length.is_some_and(is_short));
        let time = if is_by_hour { "hour" } else { "day" };
        let mut over_time = usage(range, &[what.word(), time])?;
        // Without a start, what was counted first says how long the range is.
        let first = first_bar(&over_time);
        if length.is_none()
            && !is_by_hour
            && !asks_for("day")
            && is_short(nanos_between(first, until))
        {
            is_by_hour = true;
            over_time = usage(range, &[what.word(), "hour"])?;
        }
        let by_name = |range| usage(range, &[what.word()]);
        let report = by_name(range)?;
        let mut now: Vec<(Option<String>, UsageCounts)> =
            named(what, &report).into_iter().collect();
        let measure = main_measure(&report.total);
        now.sort_by_key(|(name, counts)| {
            (
                Reverse(measure.of(counts)),
                Reverse(counts.calls),
                name.clone(),
            )
        });
        let before = match range.since.zip(length).filter(|(_, length)| *length > 0) {
            Some((since, length)) => {
                let start = since.unix_nanos().saturating_sub(length);
                let range = TimeRange {
                    since: Some(Timestamp::from_unix_nanos(start)),
                    until: Some(since),
                };
                let report = by_name(range)?;
                Some(Before {
                    range,
                    by_name: named(what, &report),
                    total: report.total,
                })
            }
            None => None,
        };
        Ok(Shown {
            what,
            zone: params.zone(),
            range: TimeRange {
                since: range.since,
                until: Some(until),
            },
            is_by_hour,
            over_time,
            now,
            total: report.total,
            before,
        })
    }

    /// What there are charts of.
    fn measures(&self) -> Vec<Measure> {
        let mut measures = Vec::new();
        if self.total.tokens.total_tokens != 0 {
            measures.push(Measure::Tokens);
        }
        // Of servers alone it is known what a name costs.
        if self.what == What::Server && self.total.cost.is_some() {
            measures.push(Measure::Cost);
        }
        if measures.is_empty() {
            measures.push(Measure::Calls);
        }
        measures
    }

    fn facts(&self) -> Markup {
        let before = self.before.as_ref();
        let all = [Measure::Tokens, Measure::Cost, Measure::Calls];
        let is_known = |measure: &Measure| match measure {
            Measure::Cost => self.total.cost.is_some(),
            Measure::Tokens => self.what != What::Skill,
            Measure::Calls => true,
        };
        html! {
            dl.facts {
                @for measure in all.into_iter().filter(is_known) {
                    @let (now, then) = (measure.of(&self.total), before.map(|before| measure.of(&before.total)));
                    (fact(measure.heading(), measure.write(now), difference(measure, now, then)))
                }
                @if self.what != What::Skill {
                    (fact("Input tokens", grouped(self.total.tokens.input_tokens), html! {
                        (grouped(self.total.tokens.output_tokens)) " output"
                    }))
                }
            }
            @if let Some(Before { range: TimeRange { since: Some(since), until: Some(until) }, .. }) = before {
                p.usage-before.faint {
                    "Differences are to the period before: from " (time(*since, &self.zone)) " to " (time(*until, &self.zone)) "."
                }
            }
        }
    }

    /// The time that is shown, from the first bar to the end of the last: `None` without any.
    fn span(&self) -> Option<Span> {
        let bars = self.over_time.rows.iter().filter_map(|row| row.time);
        let (first, last) = (bars.clone().min()?, bars.max()?);
        let end = last.unix_nanos().saturating_add(self.bar_nanos());
        let end = end.max(self.range.until.map_or(end, Timestamp::unix_nanos));
        let start = first.min(self.range.since.unwrap_or(first)).unix_nanos();
        let earliest = end.saturating_sub(self.bar_nanos().saturating_mul(BARS_MAX));
        let at = Timestamp::from_unix_nanos;
        Some(Span::new(at(start.max(earliest)), at(end)))
    }

    fn bar_nanos(&self) -> i64 {
        if self.is_by_hour { HOUR } else { DAY }
    }

    fn chart(&self, measure: Measure) -> Markup {
        let Some(span) = self.span() else {
            return html! {};
        };
        let largest: Vec<&Option<String>> =
            self.now.iter().map(|(name, _)| name).take(LAYERS).collect();
        let has_others = self.now.len() > LAYERS;
        let mut layers: Vec<Layer<'_>> = (largest.iter().zip(CLASSES))
            .map(|(name, class)| Layer {
                name: self.shown_name(name.as_deref()).into(),
                class,
            })
            .collect();
        if has_others {
            layers.push(Layer {
                name: "Others".into(),
                class: "series-other",
            });
        }
        let mut by_time: BTreeMap<Timestamp, Vec<u64>> = BTreeMap::new();
        for row in &self.over_time.rows {
            let Some(time) = row.time else { continue };
            let name = self.what.name(row);
            let layer = largest.iter().position(|known| **known == name);
            let values = by_time.entry(time).or_insert_with(|| vec![0; layers.len()]);
            if let Some(value) = values.get_mut(layer.unwrap_or(LAYERS)) {
                let more = u64::try_from(measure.of(&row.counts).max(0)).unwrap_or(u64::MAX);
                *value = value.saturating_add(more);
            }
        }
        let bars = by_time.into_iter().map(|(time, values)| {
            let end = time.unix_nanos().saturating_add(self.bar_nanos());
            Bar {
                span: Span::new(time, Timestamp::from_unix_nanos(end)),
                values,
                href: None,
            }
        });
        let title = format!("{} by {}", measure.heading(), self.what.word());
        let bars = Bars {
            title: &title,
            unit: measure.unit(),
            span,
            layers,
            bars: bars.collect(),
        };
        let id = measure.heading().to_lowercase();
        html! {
            section.panel aria-labelledby=(id) {
                div.panel-head {
                    h2 id=(id) { (title) }
                    p { "Each bar is " @if self.is_by_hour { "an hour" } @else { "a day" } }
                }
                div.panel-body { (bars.draw(&|at| self.zone.offset_at(at))) }
            }
        }
    }

    fn shown_name(&self, name: Option<&str>) -> String {
        match name {
            Some(name) => escape_name(name),
            None => self.what.unnamed().to_owned(),
        }
    }

    fn table(&self, rows_max: usize) -> Markup {
        let main = main_measure(&self.total);
        let whole = u64::try_from(main.of(&self.total).max(0)).unwrap_or(0);
        let has_tokens = self.what != What::Skill;
        let has_cost = self.total.cost.is_some() && self.what == What::Server;
        let cells = |counts: &UsageCounts| {
            html! {
                td.num data-label="Calls" { (grouped(counts.calls)) }
                @if has_tokens {
                    td.num data-label="Input" { (grouped(counts.tokens.input_tokens)) }
                    td.num data-label="Output" { (grouped(counts.tokens.output_tokens)) }
                    td.num data-label="Tokens" { (grouped(counts.tokens.total_tokens)) }
                }
                @if has_cost {
                    td.num data-label="Cost" { @match counts.cost { Some(_) => (Measure::Cost.write(Measure::Cost.of(counts))), None => span.faint { "–" } } }
                }
            }
        };
        let left_out = self.now.len().saturating_sub(rows_max);
        html! {
            section.panel aria-labelledby="by-name" {
                div.panel-head { h2 #by-name { "By " (self.what.word()) } }
                div.table-wrap {
                    table.table.cards.usage {
                        thead {
                            tr {
                                th scope="col" { (self.what.heading()) }
                                th.num scope="col" { "Calls" }
                                @if has_tokens {
                                    th.num scope="col" { "Input" }
                                    th.num scope="col" { "Output" }
                                    th.num scope="col" { "Tokens" }
                                }
                                @if has_cost { th.num scope="col" { "Cost" } }
                                th.num scope="col" { "Share" }
                                @if self.before.is_some() { th.num scope="col" { "Change in " (main.heading().to_lowercase()) } }
                            }
                        }
                        tbody {
                            @for (number, (name, counts)) in self.now.iter().enumerate().take(rows_max) {
                                @let class = if number < LAYERS { CLASSES.get(number).copied().unwrap_or_default() } else { "series-other" };
                                tr data-row {
                                    th scope="row" { span class={ "chart-key " (class) } { (self.shown_name(name.as_deref())) } }
                                    (cells(counts))
                                    td.num data-label="Share" { (percent(u64::try_from(main.of(counts).max(0)).unwrap_or(0), whole)) }
                                    @if let Some(before) = &self.before {
                                        @let then = before.by_name.get(name).map_or(0, |counts| main.of(counts));
                                        td.num data-label="Change" { (difference(main, main.of(counts), Some(then))) }
                                    }
                                }
                            }
                            @if left_out > 0 {
                                tr { th.faint scope="row" { "and " (grouped(left_out as u64)) " more" } }
                            }
                        }
                        tfoot {
                            tr {
                                th scope="row" { "All" }
                                (cells(&self.total))
                                td.num data-label="Share" { (percent(whole, whole)) }
                                @if let Some(before) = &self.before {
                                    td.num data-label="Change" { (difference(main, main.of(&self.total), Some(main.of(&before.total)))) }
                                }
                            }
                        }
                    }
                }
                @if !has_cost && self.total.cost.is_some() {
                    p.panel-note.faint { "What a " (self.what.word()) " costs is not known: costs are counted by server." }
                }
            }
        }
    }
}

/// The classes of the layers, the largest first.
const CLASSES: [&str; LAYERS] = [
    "series-1", "series-2", "series-3", "series-4", "series-5", "series-6", "series-7",
];

fn nanos_between(start: Timestamp, end: Timestamp) -> i64 {
    end.unix_nanos().saturating_sub(start.unix_nanos())
}

/// When the first bar begins: the range can begin within it.
fn first_bar(report: &UsageReport) -> Timestamp {
    let times = report.rows.iter().filter_map(|row| row.time);
    times.min().unwrap_or(Timestamp::MAX)
}

fn named(what: What, report: &UsageReport) -> HashMap<Option<String>, UsageCounts> {
    let rows = report.rows.iter();
    rows.map(|row| (what.name(row), row.counts)).collect()
}

/// What rows are ordered and compared by: tokens, or calls where no tokens are known.
fn main_measure(total: &UsageCounts) -> Measure {
    if total.tokens.total_tokens == 0 {
        Measure::Calls
    } else {
        Measure::Tokens
    }
}

/// How a number differs from the one before it.
fn difference(measure: Measure, now: i128, then: Option<i128>) -> Markup {
    let Some(then) = then else {
        return html! { "in this range" };
    };
    let change = now.saturating_sub(then);
    let sign = if change > 0 { "+" } else { "" };
    html! {
        @if change == 0 {
            span.faint { "no change" }
        } @else {
            (sign) (measure.write(change))
            " " span.faint { "(" @if then == 0 { "new" } @else { (sign) (relative(change, then)) } ")" }
        }
    }
}

/// A change in percent of what was there.
fn relative(change: i128, then: i128) -> String {
    let tenths = change.saturating_mul(1000) / then.abs().max(1);
    if tenths.abs() < 100 {
        let sign = if tenths < 0 { "-" } else { "" };
        format!("{sign}{}.{}%", tenths.abs() / 10, tenths.abs() % 10)
    } else {
        format!("{}%", grouped(tenths / 10))
    }
}

/// The calls of tools in the range, from spans.
fn tools(snapshot: &Snapshot, params: &Params) -> Result<Vec<ToolStats>, Problem> {
    let spans = Query::new(Signal::Traces)
        .range(params.range()?)
        .skip_damaged();
    let spans = (params.servers.iter().cloned()).fold(spans, Query::server);
    Ok(snapshot.tools(&CallQuery::new(spans))?.tools)
}

fn call_table(tools: &[ToolStats], params: &Params, zone: &Zone) -> Markup {
    let now = params.now();
    let traces = |tool: &ToolStats| {
        let mut scope = params.scope();
        scope.servers = vec![tool.server.clone()];
        scope.filter.grep = vec![tool.tool.clone()];
        scope.filter.fixed_strings = true;
        scope.filter.word_regexp = true;
        scope.link("/traces")
    };
    html! {
        section.panel aria-labelledby="calls" {
            div.panel-head {
                h2 #calls { "How long calls took" }
                p { "From the spans of this range" }
            }
            div.table-wrap {
                table.table.cards {
                    thead {
                        tr {
                            th scope="col" { "Tool" }
                            th scope="col" { "Server" }
                            th.num scope="col" { "Calls" }
                            th.num scope="col" { "Failed" }
                            th.num scope="col" { "Median" }
                            th.num scope="col" { "95%" }
                            th.num scope="col" { "Longest" }
                            th scope="col" { "Last" }
                        }
                    }
                    tbody {
                        @for tool in tools.iter().take(params.limit_or(ROWS)) {
                            @let about = if tool.is_exact { "" } else { "~" };
                            tr data-row {
                                th scope="row" { a href=(traces(tool)) { (escape_name(&tool.tool)) } }
                                td data-label="Server" { (escape(&tool.server)) }
                                td.num data-label="Calls" { (grouped(tool.calls)) }
                                td.num data-label="Failed" {
                                    @if tool.errors > 0 {
                                        span.is-bad { (grouped(tool.errors)) } " " span.faint { "(" (percent(tool.errors, tool.calls)) ")" }
                                    } @else { span.faint { "0" } }
                                }
                                @for (label, value) in [("Median", tool.median), ("95%", tool.percentile_95)] {
                                    td.num data-label=(label) {
                                        @match value { Some(value) => { (about) (duration(value)) }, None => span.faint { "–" } }
                                    }
                                }
                                td.num data-label="Longest" {
                                    @match tool.max { Some(value) => (duration(value)), None => span.faint { "–" } }
                                }
                                td data-label="Last" { (ago(tool.last, now, zone)) }
                            }
                        }
                    }
                }
            }
            @if tools.len() > params.limit_or(ROWS) {
                p.panel-note.faint { (grouped((tools.len() - params.limit_or(ROWS)) as u64)) " more tools were called" }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_absolute_and_in_percent() {
        let shown = |now, then| difference(Measure::Tokens, now, then).into_string();
        assert!(shown(1_500, Some(1_000)).contains("+500 <span class=\"faint\">(+50%)"));
        assert!(shown(1_001, Some(1_000)).contains("+1 <span class=\"faint\">(+0.1%)"));
        assert!(shown(0, Some(1_000)).contains("-1,000 <span class=\"faint\">(-100%)"));
        assert!(shown(995, Some(1_000)).contains("(-0.5%)"));
        assert!(shown(7, Some(0)).contains("+7 <span class=\"faint\">(new)"));
        assert!(shown(7, Some(7)).contains("no change"));
        assert_eq!(shown(7, None), "in this range");
        let cost = difference(Measure::Cost, 50_000, Some(200_000)).into_string();
        assert!(cost.starts_with("-$0.15 "), "{cost}");
        assert!(shown(i128::MAX, Some(1)).contains('%'));
    }
}
