//! Durations over time, on a logarithmic axis: a point for each trace.
//!
//! Of too many points, the failed ones and the slowest are kept and the others are thinned evenly, and the chart says
//! how many it leaves out: those that are looked for must not be hidden by those that are many.

use super::{
    Percent, Pixels, Span, Unit, Zone,
    axis::{interval_label, log_ticks},
    bars::x_axis,
    float,
};
use crate::display::{duration, grouped};
use gridctl_telemetry::Timestamp;
use maud::{Markup, html};
use std::{cmp::Reverse, fmt::Write as _, time::Duration};

const HEIGHT: f64 = 150.0;
const X_HEIGHT: f64 = 22.0;
const TOP: f64 = 10.0;
const Y_WIDTH: f64 = 48.0;
const RADIUS: f64 = 3.0;

/// Maximum number of points that are drawn, and of those that are kept because they failed or were slow.
const POINTS_MAX: usize = 600;
const FAILED_MAX: usize = 300;
const SLOWEST_MAX: usize = 100;

/// Durations over time.
#[derive(Debug)]
pub(crate) struct Scatter<'a> {
    /// What is shown, such as `Duration of traces`.
    pub(crate) title: &'a str,
    /// What a point is: one, and several.
    pub(crate) noun: (&'static str, &'static str),
    pub(crate) points: &'a [Point],
}

/// A point.
#[derive(Debug, Clone)]
pub(crate) struct Point {
    pub(crate) at: Timestamp,
    pub(crate) duration: Duration,
    pub(crate) is_failed: bool,
    /// What it is about.
    pub(crate) name: String,
    /// Where a click on it leads.
    pub(crate) href: String,
}

/// The points that are drawn.
struct Drawn<'a> {
    points: Vec<&'a Point>,
    failed_left_out: usize,
    others_left_out: usize,
}

impl Scatter<'_> {
    /// The chart; an empty text without points.
    pub(crate) fn draw(&self, zone: Zone<'_>) -> Markup {
        let Some(span) = Span::around(self.points.iter().map(|point| point.at)) else {
            return html! {};
        };
        let nanos = |point: &Point| u64::try_from(point.duration.as_nanos()).unwrap_or(u64::MAX);
        let known = self.points.iter().map(nanos);
        let (min, max) = known.fold((u64::MAX, 0), |(min, max), nanos| {
            (min.min(nanos), max.max(nanos))
        });
        let ticks = log_ticks(min, max);
        let (low, high) = match (ticks.first(), ticks.last()) {
            (Some(low), Some(high)) => (log(*low), log(*high)),
            _ => (0.0, 1.0),
        };
        let y = |nanos: u64| {
            let share = (log(nanos) - low) / (high - low);
            TOP + HEIGHT * (1.0 - share.clamp(0.0, 1.0))
        };
        let drawn = thinned(self.points);
        let height = Pixels(TOP + HEIGHT + X_HEIGHT);
        html! {
            figure class="chart scatter" {
                (self.legend(&drawn))
                div class="chart-body" {
                    svg class="chart-y" width=(Pixels(Y_WIDTH)) height=(height) aria-hidden="true" {
                        @for tick in &ticks {
                            text x=(Pixels(Y_WIDTH - 6.0)) y=(Pixels(y(*tick) + 4.0)) text-anchor="end" { (Unit::Nanos.brief(*tick)) }
                        }
                    }
                    svg class="chart-plot" width="100%" height=(height) role="group" {
                        title { (self.title) }
                        desc { (self.summary(span, zone)) " The list below has a link for each." }
                        g class="chart-grid" {
                            @for tick in &ticks {
                                line x1="0" x2="100%" y1=(Pixels(y(*tick))) y2=(Pixels(y(*tick))) {}
                            }
                        }
                        @for point in &drawn.points {
                            a href=(point.href) tabindex="-1" {
                                title { (label(point, zone)) }
                                (mark(span.share(point.at), y(nanos(point)), point.is_failed))
                            }
                        }
                        (x_axis(span, TOP + HEIGHT, zone))
                    }
                }
            }
        }
    }

    fn legend(&self, drawn: &Drawn<'_>) -> Markup {
        let failed = self.failed();
        let named = |count: usize| self.counted(count);
        html! {
            figcaption class="chart-legend" {
                span class="chart-key point-ok" { (self.noun.1) " " span class="chart-sum" { (grouped(self.points.len() as u64)) } }
                span class="chart-key point-failed" { "failed " span class="chart-sum" { (grouped(failed as u64)) } }
                @if drawn.others_left_out + drawn.failed_left_out > 0 {
                    span class="chart-note" {
                        "Not drawn: " (grouped((drawn.others_left_out + drawn.failed_left_out) as u64)) " of "
                        (named(self.points.len())) ". "
                        @if drawn.failed_left_out == 0 { "All that failed and the " } @else { "The last " (grouped(FAILED_MAX as u64)) " that failed, the " }
                        (grouped(SLOWEST_MAX as u64)) " slowest and an even part of the rest are drawn."
                    }
                }
            }
        }
    }

    fn failed(&self) -> usize {
        self.points.iter().filter(|point| point.is_failed).count()
    }

    fn counted(&self, count: usize) -> String {
        let (one, several) = self.noun;
        format!(
            "{} {}",
            grouped(count as u64),
            if count == 1 { one } else { several }
        )
    }

    fn summary(&self, span: Span, zone: Zone<'_>) -> String {
        let label = |at| interval_label(at, span.nanos() / 60, zone);
        let mut text = format!(
            "{} from {} to {}, of which {} failed.",
            self.counted(self.points.len()),
            label(span.start),
            label(span.end),
            grouped(self.failed() as u64)
        );
        if let Some(slowest) = self.points.iter().max_by_key(|point| point.duration) {
            let (took, at) = (duration(slowest.duration), label(slowest.at));
            let _ = write!(text, " The slowest took {took} at {at}.");
        }
        text
    }
}

fn label(point: &Point, zone: Zone<'_>) -> String {
    let time = interval_label(point.at, 1_000_000_000, zone);
    let failed = if point.is_failed { ", failed" } else { "" };
    format!(
        "{}\n{}{failed}\n{time}",
        point.name,
        duration(point.duration)
    )
}

/// A dot, or a cross for one that failed: the form tells them apart without colours.
fn mark(share: f64, y: f64, is_failed: bool) -> Markup {
    let x = Percent::of(share);
    html! {
        @if is_failed {
            svg class="point-failed" x=(x) y=(Pixels(y)) overflow="visible" {
                circle class="chart-hit" r="7" {}
                path d="M-3.5-3.5L3.5 3.5M-3.5 3.5L3.5-3.5" {}
            }
        } @else {
            circle class="point-ok" cx=(x) cy=(Pixels(y)) r=(Pixels(RADIUS)) {}
        }
    }
}

fn log(nanos: u64) -> f64 {
    // Zero has no logarithm, and stands with the shortest.
    float(i128::from(nanos.max(1))).ln()
}

/// The points to draw, the failed ones last, so that they lie above the others.
fn thinned(points: &[Point]) -> Drawn<'_> {
    let (mut failed, mut others): (Vec<&Point>, Vec<&Point>) =
        points.iter().partition(|point| point.is_failed);
    let mut failed_left_out = 0;
    let mut others_left_out = 0;
    if points.len() > POINTS_MAX {
        failed.sort_by_key(|point| Reverse(point.at));
        failed_left_out = failed.len().saturating_sub(FAILED_MAX);
        failed.truncate(FAILED_MAX);
        others.sort_by_key(|point| Reverse(point.duration));
        let mut rest = others.split_off(SLOWEST_MAX.min(others.len()));
        rest.sort_by_key(|point| point.at);
        let room = POINTS_MAX - failed.len() - others.len();
        let count = rest.len();
        let kept = room.min(count);
        others_left_out = count - kept;
        others.extend((0..kept).filter_map(|number| rest.get(number * count / kept)));
    }
    others.extend(failed);
    Drawn {
        points: others,
        failed_left_out,
        others_left_out,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gridctl_telemetry::external::time::UtcOffset;

    const UTC: Zone<'static> = &|_| UtcOffset::UTC;

    fn point(second: u64, millis: u64, is_failed: bool) -> Point {
        Point {
            at: Timestamp::from_unix_nanos(i64::try_from(second).unwrap() * 1_000_000_000),
            duration: Duration::from_millis(millis),
            is_failed,
            name: "</title><script>".to_owned(),
            href: format!("/traces/{second}"),
        }
    }

    fn chart(points: &[Point]) -> String {
        let scatter = Scatter {
            title: "Duration of traces",
            noun: ("trace", "traces"),
            points,
        };
        let text = scatter.draw(UTC).into_string();
        assert!(!text.contains("NaN") && !text.contains("inf") && !text.contains("style="));
        assert!(!text.contains("<script>"));
        text
    }

    #[test]
    fn nothing_one_and_several_points_are_drawn() {
        assert_eq!(chart(&[]), "");
        let one = chart(&[point(5, 20, false)]);
        assert!(one.contains(r#"href="/traces/5""#) && one.contains("1 trace from"));
        let zero = chart(&[point(5, 0, false), point(6, 0, true)]);
        assert!(zero.contains("of which 1 failed"));
        let several = chart(&[
            point(0, 1, false),
            point(50, 10, true),
            point(100, 100, false),
        ]);
        assert!(several.contains(r#"<circle class="point-ok" cx="0%" cy="160""#));
        assert!(several.contains(r#"<svg class="point-failed" x="50%" y="85""#));
        assert!(several.contains(r#"<circle class="point-ok" cx="100%" cy="10""#));
        assert!(several.contains("The slowest took 100ms at"));
        assert!(!several.contains("Not drawn"));
    }

    #[test]
    fn of_many_points_the_failed_and_the_slowest_are_kept() {
        let points: Vec<Point> = (0..5_000)
            .map(|second| {
                point(
                    second,
                    10 + second % 7 + 10 * (second % 100),
                    second % 500 == 0,
                )
            })
            .collect();
        let drawn = thinned(&points);
        assert_eq!(drawn.points.len(), POINTS_MAX);
        assert_eq!((drawn.failed_left_out, drawn.others_left_out), (0, 4_400));
        assert_eq!(
            drawn.points.iter().filter(|point| point.is_failed).count(),
            10
        );
        let slowest = points.iter().map(|point| point.duration).max().unwrap();
        let drawn_slowest = drawn
            .points
            .iter()
            .filter(|point| point.duration == slowest);
        let all_slowest = points.iter().filter(|point| point.duration == slowest);
        assert_eq!(drawn_slowest.count(), all_slowest.count());
        // The rest comes from the whole range.
        assert!(drawn.points.iter().any(|point| point.href == "/traces/4999"
            || point.href == "/traces/4998"
            || point.href == "/traces/4997"));
        let text = chart(&points);
        assert!(
            text.contains("Not drawn: 4,400 of 5,000 traces. All that failed and the 100 slowest")
        );
    }

    #[test]
    fn of_many_failures_the_last_are_kept() {
        let points: Vec<Point> = (0..1_000).map(|second| point(second, 10, true)).collect();
        let drawn = thinned(&points);
        assert_eq!((drawn.failed_left_out, drawn.others_left_out), (700, 0));
        assert!(drawn.points.iter().all(|point| point.at >= points[700].at));
        assert!(chart(&points).contains("The last 300 that failed"));
    }
}
