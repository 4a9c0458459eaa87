//! A line without axes, small enough for a cell of a table.

use super::{Pixels, Unit, float};
use maud::{Markup, html};
use std::fmt::Write as _;

const WIDTH: i32 = 100;
const HEIGHT: f64 = 24.0;
/// Room for half of the line's width above and below.
const MARGIN: f64 = 1.5;

/// How a value went, with equal times between the numbers, the oldest first. `label` says what it is.
///
/// ```text
/// sparkline("Records of github in 24 hours", Unit::RECORDS, &counts)
/// ```
pub(crate) fn sparkline(label: &str, unit: Unit, values: &[u64]) -> Markup {
    let largest = values.iter().copied().max().unwrap_or(0);
    let said = match (values.last(), largest) {
        (None, _) => format!("{label}: no data"),
        (Some(last), _) => format!(
            "{label}: at most {}, {} at the end",
            unit.full(largest),
            unit.cell(*last)
        ),
    };
    let line = line(values, largest);
    html! {
        svg class="sparkline" viewBox={ "0 0 " (WIDTH) " " (Pixels(HEIGHT)) } preserveAspectRatio="none" role="img" {
            title { (said) }
            @if largest > 0 {
                path class="sparkline-area" d={ (line) "V" (Pixels(HEIGHT)) "H0Z" } {}
                path class="sparkline-line" d=(line) vector-effect="non-scaling-stroke" {}
            } @else {
                path class="sparkline-empty" d={ "M0 " (Pixels(HEIGHT - MARGIN)) "H" (WIDTH) } vector-effect="non-scaling-stroke" {}
            }
        }
    }
}

/// The path through the values, from edge to edge. One value is a level line.
fn line(values: &[u64], largest: u64) -> String {
    let y = |value: u64| {
        let share = float(i128::from(value)) / float(i128::from(largest.max(1)));
        Pixels(HEIGHT - MARGIN - share * (HEIGHT - 2.0 * MARGIN))
    };
    if let [only] = values {
        return format!("M0 {}H{WIDTH}", y(*only));
    }
    let steps = i128::try_from(values.len()).unwrap_or(i128::MAX).max(2) - 1;
    let mut path = String::new();
    for (number, value) in (0_i128..).zip(values) {
        let x = f64::from(WIDTH) * float(number) / float(steps);
        let command = if number == 0 { 'M' } else { 'L' };
        let _ = write!(path, "{command}{} {}", Pixels(x), y(*value));
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_from_edge_to_edge() {
        assert_eq!(line(&[], 0), "");
        assert_eq!(line(&[3], 3), "M0 1.5H100");
        assert_eq!(line(&[0, 4], 4), "M0 22.5L100 1.5");
        assert_eq!(line(&[0, 2, 4], 4), "M0 22.5L50 12L100 1.5");
        let many: Vec<u64> = (0..1000).collect();
        assert!(line(&many, 999).ends_with("L100 1.5"));
    }

    #[test]
    fn the_numbers_are_in_a_text_too() {
        let text = sparkline("<b>", Unit::RECORDS, &[1, 1200, 7]).into_string();
        assert!(text.contains("<title>&lt;b&gt;: at most 1,200 records, 7 at the end</title>"));
        let none = sparkline("Tokens", Unit::TOKENS, &[]).into_string();
        assert!(none.contains("<title>Tokens: no data</title>") && !none.contains("NaN"));
        let zero = sparkline("Tokens", Unit::TOKENS, &[0, 0]).into_string();
        assert!(zero.contains("sparkline-empty") && !zero.contains("NaN"));
        let huge = sparkline("Tokens", Unit::TOKENS, &[u64::MAX, 0]).into_string();
        assert!(huge.contains("M0 1.5L100 22.5"));
    }
}
