//! Stacked bars over time: a histogram by level, tokens by server.

use super::{
    Percent, Pixels, Span, Unit, Zone,
    axis::{interval_label, time_ticks, value_ticks},
    float,
};
use maud::{Markup, html};
use std::{borrow::Cow, fmt::Write as _};

/// The height of the bars, and of the room for times below them, in pixels.
const HEIGHT: f64 = 120.0;
const X_HEIGHT: f64 = 22.0;
/// Room for half a line of text above the highest mark.
const TOP: f64 = 8.0;
/// The width of the column of values.
const Y_WIDTH: f64 = 48.0;
/// Maximum number of marks on the axes.
const X_TICKS: u16 = 6;
const Y_TICKS: u16 = 3;
/// The part of its place that a bar fills.
const FILLED: f64 = 0.88;
/// The widest bar, so that a single one is no wall.
const WIDTH_MAX: f64 = 0.08;
/// The least height of a part of a bar, so that every count above zero is seen.
const PART_MIN: f64 = 1.0;

/// Stacked bars over time.
#[derive(Debug)]
#[expect(clippy::struct_field_names, reason = "a chart of bars has bars")]
pub(crate) struct Bars<'a> {
    /// What is shown, such as `Log records by level`.
    pub(crate) title: &'a str,
    /// What the values are.
    pub(crate) unit: Unit,
    /// The time that the width shows. Bars outside of it are not drawn.
    pub(crate) span: Span,
    /// The parts of each bar, the lowest first.
    pub(crate) layers: Vec<Layer<'a>>,
    /// The bars, by time. A time without a bar has the value zero.
    pub(crate) bars: Vec<Bar>,
}

/// One part of all bars.
#[derive(Debug, Clone)]
pub(crate) struct Layer<'a> {
    /// Its name in the legend.
    pub(crate) name: Cow<'a, str>,
    /// Its class, which has its colour: `level-error`, `series-1` and others of `assets/charts.css`.
    pub(crate) class: &'a str,
}

/// A bar.
#[derive(Debug, Clone)]
pub(crate) struct Bar {
    /// The time that it is about.
    pub(crate) span: Span,
    /// A value for each layer.
    pub(crate) values: Vec<u64>,
    /// Where a click on it leads.
    pub(crate) href: Option<String>,
}

impl Bar {
    fn sum(&self) -> u64 {
        self.values
            .iter()
            .fold(0, |sum, value| sum.saturating_add(*value))
    }
}

impl Bars<'_> {
    /// The chart, with its legend above and its numbers as a table below.
    pub(crate) fn draw(&self, zone: Zone<'_>) -> Markup {
        let drawn: Vec<&Bar> = self
            .bars
            .iter()
            .filter(|bar| bar.span.start < self.span.end && bar.span.end > self.span.start)
            .collect();
        let largest = drawn.iter().map(|bar| bar.sum()).max().unwrap_or(0);
        let ticks = value_ticks(largest, Y_TICKS);
        let top = ticks.last().copied().unwrap_or(1).max(1);
        let y = |value: u64| {
            let share = float(i128::from(value)) / float(i128::from(top));
            TOP + HEIGHT * (1.0 - share.min(1.0))
        };
        let height = Pixels(TOP + HEIGHT + X_HEIGHT);
        let mut said = format!("{} {}", self.title, self.summary(&drawn, zone));
        let has_links = drawn.iter().any(|bar| bar.href.is_some());
        // An image has no links within it.
        let role = if has_links { "group" } else { "img" };
        if has_links {
            said.push_str(" The table below has a link for each bar.");
        }
        html! {
            figure class="chart bars" {
                (self.legend(&drawn))
                div class="chart-body" {
                    svg class="chart-y" width=(Pixels(Y_WIDTH)) height=(height) aria-hidden="true" {
                        @for tick in &ticks {
                            text x=(Pixels(Y_WIDTH - 6.0)) y=(Pixels(y(*tick) + 4.0)) text-anchor="end" { (self.unit.brief(*tick)) }
                        }
                    }
                    svg class="chart-plot" width="100%" height=(height) role=(role)
                        data-since=(self.span.start) data-until=(self.span.end) {
                        title { (self.title) }
                        desc { (said) }
                        g class="chart-grid" {
                            @for tick in &ticks {
                                line x1="0" x2="100%" y1=(Pixels(y(*tick))) y2=(Pixels(y(*tick))) {}
                            }
                        }
                        @for bar in &drawn { (self.bar(bar, &y, zone)) }
                        (x_axis(self.span, TOP + HEIGHT, zone))
                    }
                }
                (self.table(&drawn, zone))
            }
        }
    }

    /// The names of the layers, each with its sum.
    fn legend(&self, drawn: &[&Bar]) -> Markup {
        html! {
            figcaption class="chart-legend" {
                @for (number, layer) in self.layers.iter().enumerate() {
                    span class={ "chart-key " (layer.class) } {
                        (layer.name) " " span class="chart-sum" { (self.unit.cell(sum_of(drawn, number))) }
                    }
                }
            }
        }
    }

    /// The sum and the highest bar, as a sentence.
    fn summary(&self, drawn: &[&Bar], zone: Zone<'_>) -> String {
        let sum = drawn
            .iter()
            .fold(0_u64, |sum, bar| sum.saturating_add(bar.sum()));
        let nanos = self.span.nanos();
        let (start, end) = (
            interval_label(self.span.start, nanos / 60, zone),
            interval_label(self.span.end, nanos / 60, zone),
        );
        let mut text = format!("from {start} to {end}: {} in all", self.unit.full(sum));
        if let Some(highest) = drawn.iter().max_by_key(|bar| bar.sum()).filter(|_| sum > 0) {
            let at = interval_label(highest.span.start, highest.span.nanos(), zone);
            let most = self.unit.cell(highest.sum());
            let _ = write!(text, ", most of them at {at}: {most}");
        }
        text.push('.');
        text
    }

    fn bar(&self, bar: &Bar, y: &dyn Fn(u64) -> f64, zone: Zone<'_>) -> Markup {
        let (left, right) = (
            self.span.share(bar.span.start),
            self.span.share(bar.span.end),
        );
        let place = (right - left).max(0.001);
        let filled = (place * FILLED).min(WIDTH_MAX);
        // A bar that is narrower than its place is in the middle of it.
        let indent = if filled < WIDTH_MAX {
            0.0
        } else {
            (place - filled) / 2.0
        };
        let (x, width) = (Percent::of(left + indent), Percent::of(filled));
        let (hit_x, hit_width) = (Percent::of(left), Percent::of(place));
        let mut below: u64 = 0;
        let mut bottom = y(0);
        let mut parts = Vec::new();
        for (layer, value) in self.layers.iter().zip(&bar.values) {
            if *value == 0 {
                continue;
            }
            below = below.saturating_add(*value);
            let top = y(below).min(bottom - PART_MIN).max(0.0);
            parts.push((layer.class, Pixels(top), Pixels(bottom - top)));
            bottom = top;
        }
        let drawing = html! {
            title { (self.label(bar, zone)) }
            // A low bar can be pointed at over its whole height.
            rect class="chart-hit" x=(hit_x) y=(Pixels(TOP)) width=(hit_width) height=(Pixels(HEIGHT)) {}
            @for (class, top, height) in &parts {
                rect class=(class) x=(x) y=(top) width=(width) height=(height) {}
            }
        };
        html! {
            @if let Some(href) = &bar.href {
                a class="chart-bar" href=(href) tabindex="-1" data-since=(bar.span.start) data-until=(bar.span.end) { (drawing) }
            } @else {
                g class="chart-bar" data-since=(bar.span.start) data-until=(bar.span.end) { (drawing) }
            }
        }
    }

    /// What a bar shows, in a line for each layer.
    fn label(&self, bar: &Bar, zone: Zone<'_>) -> String {
        let mut text = interval_label(bar.span.start, bar.span.nanos(), zone);
        for (layer, value) in self.layers.iter().zip(&bar.values) {
            if *value > 0 {
                let _ = write!(text, "\n{}: {}", layer.name, self.unit.cell(*value));
            }
        }
        if bar.sum() == 0 {
            let _ = write!(text, "\n{}", self.unit.full(0));
        }
        text
    }

    /// The numbers of the bars that are not zero.
    fn table(&self, drawn: &[&Bar], zone: Zone<'_>) -> Markup {
        html! {
            details class="chart-numbers" {
                summary { "Numbers" }
                div class="table-wrap" {
                    table class="table" {
                        caption class="hide" { (self.title) }
                        thead {
                            tr {
                                th scope="col" { "From" }
                                @for layer in &self.layers { th scope="col" class="num" { (layer.name) } }
                                @if self.layers.len() > 1 { th scope="col" class="num" { "All" } }
                            }
                        }
                        tbody {
                            @for bar in drawn.iter().filter(|bar| bar.sum() > 0) {
                                tr {
                                    th scope="row" {
                                        @let time = interval_label(bar.span.start, bar.span.nanos(), zone);
                                        @if let Some(href) = &bar.href { a href=(href) { (time) } } @else { (time) }
                                    }
                                    @for (_, value) in self.layers.iter().zip(&bar.values) {
                                        td class="num" { (self.unit.cell(*value)) }
                                    }
                                    @if self.layers.len() > 1 { td class="num" { (self.unit.cell(bar.sum())) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn sum_of(drawn: &[&Bar], layer: usize) -> u64 {
    let values = drawn.iter().filter_map(|bar| bar.values.get(layer));
    values.fold(0, |sum, value| sum.saturating_add(*value))
}

/// The marks and names of times below a plot whose lower edge is at `bottom`.
pub(super) fn x_axis(span: Span, bottom: f64, zone: Zone<'_>) -> Markup {
    let ticks = time_ticks(span, X_TICKS, zone);
    html! {
        g class="chart-x" aria-hidden="true" {
            @for (number, (at, label)) in ticks.iter().enumerate() {
                @let share = span.share(*at);
                @let anchor = anchor(share);
                line x1=(Percent::of(share)) x2=(Percent::of(share)) y1=(Pixels(bottom)) y2=(Pixels(bottom + 4.0)) {}
                text class=[(number % 2 == 1).then_some("chart-minor")] x=(Percent::of(share)) y=(Pixels(bottom + 17.0)) text-anchor=(anchor) { (label) }
            }
        }
    }
}

/// How a text stands to its place, so that it is not cut off at the edges.
pub(super) fn anchor(share: f64) -> &'static str {
    if share < 0.04 {
        "start"
    } else if share > 0.96 {
        "end"
    } else {
        "middle"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gridctl_telemetry::{Timestamp, external::time::UtcOffset};

    const UTC: Zone<'static> = &|_| UtcOffset::UTC;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_nanos(seconds * 1_000_000_000)
    }

    fn bar(minute: i64, values: &[u64]) -> Bar {
        Bar {
            span: Span::new(at(minute * 60), at(minute * 60 + 60)),
            values: values.to_vec(),
            href: Some(format!("/logs?since={minute}&x=\"<")),
        }
    }

    fn chart(bars: Vec<Bar>) -> String {
        let layers = [("Error", "level-error"), ("<i>Info", "level-info")];
        let bars = Bars {
            title: "Records & levels",
            unit: Unit::RECORDS,
            span: Span::new(at(0), at(1200)),
            layers: layers
                .map(|(name, class)| Layer {
                    name: name.into(),
                    class,
                })
                .to_vec(),
            bars,
        };
        let text = bars.draw(UTC).into_string();
        assert!(!text.contains("NaN") && !text.contains("inf%") && !text.contains("style="));
        assert!(!text.contains("<i>") && !text.contains("\"<"));
        text
    }

    #[test]
    fn bars_are_stacked_and_every_count_is_seen() {
        let text = chart(vec![bar(0, &[50, 50]), bar(5, &[1, 0])]);
        assert!(text.contains(
            r#"<rect class="level-error" x="0%" y="68" width="4.4%" height="60"></rect>"#
        ));
        assert!(
            text.contains(
                r#"<rect class="level-info" x="0%" y="8" width="4.4%" height="60"></rect>"#
            )
        );
        // One of a hundred has a height, too.
        assert!(text.contains(r#"x="25%" y="126.8" width="4.4%" height="1.2""#));
        assert!(text.contains("101 records in all, most of them at 1970-01-01 00:00: 100."));
        assert!(text.contains("Error <span class=\"chart-sum\">51</span>"));
    }

    #[test]
    fn a_tiny_part_has_a_pixel() {
        let text = chart(vec![bar(0, &[1, 1_000_000])]);
        assert!(
            text.contains(r#"<rect class="level-error" x="0%" y="127" width="4.4%" height="1">"#)
        );
    }

    #[test]
    fn a_single_bar_is_no_wall() {
        let bars = Bars {
            title: "Tokens",
            unit: Unit::TOKENS,
            span: Span::new(at(0), at(3600)),
            layers: vec![Layer {
                name: "all".into(),
                class: "series-1",
            }],
            bars: vec![Bar {
                span: Span::new(at(0), at(3600)),
                values: vec![5],
                href: None,
            }],
        };
        let text = bars.draw(UTC).into_string();
        assert!(text.contains(r#"<rect class="chart-hit" x="0%" y="8" width="100%""#));
        assert!(text.contains(r#"<rect class="series-1" x="46%" y="28" width="8%""#));
    }

    #[test]
    fn nothing_one_and_many_bars_are_drawn() {
        assert!(chart(Vec::new()).contains("0 records in all."));
        assert!(chart(vec![bar(3, &[0, 0])]).contains("1970-01-01 00:03\n0 records"));
        assert!(chart(vec![bar(3, &[0, u64::MAX]), bar(4, &[1, u64::MAX])]).contains("18.45E"));
        let many = chart((0..10).map(|minute| bar(minute, &[1, 2])).collect());
        assert_eq!(many.matches("class=\"chart-bar\"").count(), 10);
        // Before and after the range.
        let outside = chart(vec![bar(-1, &[1, 1]), bar(20, &[1, 1])]);
        assert_eq!(outside.matches("class=\"chart-bar\"").count(), 0);
    }
}
