//! Charts, which the server draws as SVG: pure functions from data to markup.
//!
//! Positions along the axis of time are percentages, so a chart fills its column and its texts keep their size on
//! a phone. Heights are in pixels. Colours come from classes (`assets/charts.css`), because the pages forbid
//! styles in attributes.
//!
//! A chart has a name and a description. What it shows is also in a table or list below it, whose links are
//! those of the chart, so the links within the drawing are left out of the order of the Tab key.
//!
//! | file | what is in it |
//! |---|---|
//! | `unit` | what a number counts, and how it is written |
//! | `axis` | round numbers on the axes of time, values and durations |
//! | `sparkline` | a line without axes |
//! | `bars` | stacked bars over time |
//! | `scatter` | durations over time |
//! | `waterfall` | the times of spans, one bar in a row |

mod axis;
mod bars;
mod scatter;
mod sparkline;
mod unit;
mod waterfall;

pub(crate) use self::{
    axis::Zone,
    bars::{Bar, Bars, Layer},
    scatter::{Point, Scatter},
    sparkline::sparkline,
    unit::Unit,
    waterfall::{Mark, Window},
};

use gridctl_telemetry::Timestamp;
use std::fmt;

/// A range of time: its start, and its end, which is after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
}

impl Span {
    /// The range from `start` to `end`; one of a nanosecond if it would be empty.
    pub(crate) fn new(start: Timestamp, end: Timestamp) -> Span {
        let start_nanos = start.unix_nanos().min(i64::MAX - 1);
        let end_nanos = end.unix_nanos().max(start_nanos + 1);
        Span {
            start: Timestamp::from_unix_nanos(start_nanos),
            end: Timestamp::from_unix_nanos(end_nanos),
        }
    }

    /// The smallest range that holds all of these times; `None` without any.
    pub(crate) fn around(times: impl IntoIterator<Item = Timestamp>) -> Option<Span> {
        let known = times.into_iter().fold(None, |known, at| match known {
            None => Some((at, at)),
            Some((start, end)) => Some((at.min(start), at.max(end))),
        });
        known.map(|(start, end)| Span::new(start, end))
    }

    pub(crate) fn nanos(self) -> i128 {
        i128::from(self.end.unix_nanos()) - i128::from(self.start.unix_nanos())
    }

    /// Where `at` is in this range, from 0 to 1; the nearest end for a time that is not in it.
    fn share(self, at: Timestamp) -> f64 {
        let passed = i128::from(at.unix_nanos()) - i128::from(self.start.unix_nanos());
        (float(passed) / float(self.nanos().max(1))).clamp(0.0, 1.0)
    }
}

/// A part of the width, written as a percentage with as many digits as a wide screen can show.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
struct Percent(f64);

impl Percent {
    /// From a share of 0 to 1.
    fn of(share: f64) -> Percent {
        Percent(share * 100.0)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", trimmed(self.0, 3))
    }
}

/// A length in pixels.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
struct Pixels(f64);

impl fmt::Display for Pixels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&trimmed(self.0, 1))
    }
}

/// A number with at most `digits` digits after the point, and without zeros at the end.
fn trimmed(number: f64, digits: usize) -> String {
    let text = format!("{number:.digits$}");
    match text.split_once('.') {
        Some(_) => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        None => text,
    }
}

/// A number as a part of a drawing, whose digits beyond the 15th cannot be seen.
#[expect(
    clippy::cast_precision_loss,
    reason = "a drawing shows three digits of it"
)]
fn float(number: i128) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: i64) -> Timestamp {
        Timestamp::from_unix_nanos(nanos)
    }

    #[test]
    fn numbers_have_no_useless_digits() {
        assert_eq!(Percent::of(1.0 / 3.0).to_string(), "33.333%");
        assert_eq!(Percent::of(0.5).to_string(), "50%");
        assert_eq!(Percent::of(0.0).to_string(), "0%");
        assert_eq!(Percent::of(1.0).to_string(), "100%");
        assert_eq!(Pixels(12.04).to_string(), "12");
        assert_eq!(Pixels(160.0).to_string(), "160");
    }

    #[test]
    fn a_range_is_never_empty() {
        for (start, end) in [
            (0, 0),
            (5, -5),
            (i64::MAX, i64::MAX),
            (i64::MIN, i64::MIN),
            (i64::MIN, i64::MAX),
        ] {
            let span = Span::new(at(start), at(end));
            assert!(span.nanos() > 0, "{start} {end}");
            for time in [i64::MIN, start, 0, end, i64::MAX] {
                assert!((0.0..=1.0).contains(&span.share(at(time))));
            }
        }
        assert_eq!(Span::around([]), None);
        let three = Span::around([at(7), at(-3), at(4)]).unwrap();
        assert_eq!(three, Span::new(at(-3), at(7)));
    }
}
