//! The times of spans, one bar in a row, under one axis.
//!
//! The lines of the axis are drawn once; each row refers to them by their id. A clock that is wrong can put a span or
//! a log record outside of its trace: it is drawn at the edge, and marked.

use super::{Percent, Span, Unit, axis::duration_ticks, bars::anchor};
use gridctl_telemetry::Timestamp;
use maud::{Markup, html};

/// Maximum number of marks on the axis after zero.
const TICKS: u16 = 5;
/// The least width of a bar, in parts of the whole, so that a span of no duration is seen.
const BAR_MIN: f64 = 0.003;

/// The time that the width of a waterfall shows, which begins at zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window(pub(crate) Span);

/// A point on a bar.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    pub(crate) at: Timestamp,
    /// Its class, which has its colour.
    pub(crate) class: &'static str,
    pub(crate) label: String,
}

impl Window {
    /// The axis above all rows. There is one on a page.
    pub(crate) fn axis(self) -> Markup {
        let ticks = self.ticks();
        html! {
            svg class="waterfall-axis" width="100%" height="20" aria-hidden="true" {
                defs {
                    g id="waterfall-grid" {
                        @for (share, _) in &ticks {
                            line x1=(Percent::of(*share)) x2=(Percent::of(*share)) y1="0" y2="100%" {}
                        }
                    }
                }
                @for (number, (share, label)) in ticks.iter().enumerate() {
                    text class=[(number % 2 == 1).then_some("chart-minor")] x=(Percent::of(*share)) y="14" text-anchor=(anchor(*share)) { (label) }
                }
            }
        }
    }

    fn ticks(self) -> Vec<(f64, String)> {
        let whole = u64::try_from(self.0.nanos()).unwrap_or(u64::MAX).max(1);
        let tick = |nanos: u64| {
            let share = super::float(i128::from(nanos)) / super::float(i128::from(whole));
            (share.min(1.0), Unit::Nanos.brief(nanos))
        };
        duration_ticks(whole, TICKS).into_iter().map(tick).collect()
    }

    /// The bar of a span, from its start to its end, with points on it. `label` says what it shows.
    pub(crate) fn bar(
        self,
        start: Timestamp,
        end: Timestamp,
        class: &str,
        label: &str,
        marks: &[Mark],
    ) -> Markup {
        let left = self.0.share(start).min(1.0 - BAR_MIN);
        let width = (self.0.share(end) - left).max(BAR_MIN);
        html! {
            svg class="waterfall-bar" width="100%" height="26" role="img" {
                title { (label) }
                use href="#waterfall-grid" {}
                rect class=(class) x=(Percent::of(left)) y="9" width=(Percent::of(width)) height="8" rx="2" {}
                @for mark in marks { (self.mark(mark)) }
            }
        }
    }

    /// The place of a log record in a row of its own.
    pub(crate) fn point(self, mark: &Mark) -> Markup {
        html! {
            svg class="waterfall-bar" width="100%" height="26" role="img" {
                title { (mark.label) }
                use href="#waterfall-grid" {}
                (self.mark(mark))
            }
        }
    }

    fn mark(self, mark: &Mark) -> Markup {
        let is_outside = mark.at < self.0.start || mark.at > self.0.end;
        let class = if is_outside {
            format!("waterfall-mark is-outside {}", mark.class)
        } else {
            format!("waterfall-mark {}", mark.class)
        };
        html! {
            circle class=(class) cx=(Percent::of(self.0.share(mark.at))) cy="13" r="3" {
                title { (mark.label) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: i64) -> Timestamp {
        Timestamp::from_unix_nanos(nanos)
    }

    fn window(end: i64) -> Window {
        Window(Span::new(at(0), at(end)))
    }

    fn bar(start: i64, end: i64) -> String {
        let mark = Mark {
            at: at(start),
            class: "level-warn",
            label: "<b>".to_owned(),
        };
        let text = window(1_000)
            .bar(at(start), at(end), "span-ok", "\"<x>", &[mark])
            .into_string();
        assert!(!text.contains("<x>") && !text.contains("<b>") && !text.contains("NaN"));
        text
    }

    #[test]
    fn bars_are_at_their_times_and_always_seen() {
        for (start, end, expected) in [
            (0, 1_000, r#"x="0%" y="9" width="100%""#),
            (250, 500, r#"x="25%" y="9" width="25%""#),
            // No duration.
            (500, 500, r#"x="50%" y="9" width="0.3%""#),
            (1_000, 1_000, r#"x="99.7%" y="9" width="0.3%""#),
            // Outside of the trace, and one that ends before it starts.
            (-500, -400, r#"x="0%" y="9" width="0.3%""#),
            (2_000, 3_000, r#"x="99.7%" y="9" width="0.3%""#),
            (600, 300, r#"x="60%" y="9" width="0.3%""#),
            (i64::MIN, i64::MAX, r#"x="0%" y="9" width="100%""#),
        ] {
            let text = bar(start, end);
            assert!(text.contains(expected), "{start} {end}: {text}");
        }
    }

    #[test]
    fn points_outside_of_the_trace_are_marked() {
        assert!(bar(-5, 5).contains("is-outside"));
        assert!(bar(1_001, 1_002).contains("is-outside"));
        assert!(!bar(1_000, 1_000).contains("is-outside"));
    }

    #[test]
    fn an_axis_has_round_durations() {
        let text = window(950_000_000).axis().into_string();
        assert!(text.contains(">200ms<") && text.contains(">0<") && text.contains(">800ms<"));
        let none = window(0).axis().into_string();
        assert!(none.contains(">0<") && !none.contains("NaN"));
        let forever = Window(Span::new(at(i64::MIN), at(i64::MAX)));
        assert!(!forever.axis().into_string().contains("NaN"));
    }
}
