//! Round numbers on the axes of time, values and durations.

use super::Span;
use crate::views::steps::{DAY, HOUR, MINUTE, ROUND, SECOND};
use gridctl_telemetry::{
    Timestamp,
    external::time::{OffsetDateTime, UtcOffset},
};

/// The offset from UTC at each point in time, of the zone in which times are shown.
pub(crate) type Zone<'a> = &'a dyn Fn(Timestamp) -> UtcOffset;

const MILLI: i64 = 1_000_000;

/// The distances of marks on an axis of time beyond the round ones, and beside the decimal ones below a second.
const LONG_STEPS: [i64; 4] = [91 * DAY, 366 * DAY, 5 * 366 * DAY, 20 * 366 * DAY];

/// The durations that are marked on a logarithmic axis.
const LOG_DURATIONS: [u64; 13] = [
    1_000,
    10_000,
    100_000,
    1_000_000,
    10_000_000,
    100_000_000,
    1_000_000_000,
    10_000_000_000,
    60_000_000_000,
    600_000_000_000,
    3_600_000_000_000,
    36_000_000_000_000,
    360_000_000_000_000,
];

/// The marks on an axis of time, at most `count` and one more: round times of the zone, and what they are called.
pub(super) fn time_ticks(span: Span, count: u16, zone: Zone<'_>) -> Vec<(Timestamp, String)> {
    let step = time_step(span.nanos() / i128::from(count.max(1)));
    let local = |at: Timestamp| i128::from(at.unix_nanos()) + offset_nanos(zone, at);
    let mut next = local(span.start).div_euclid(step) * step;
    let mut ticks: Vec<(Timestamp, String)> = Vec::new();
    // The offset can change by hours within the range, so a few more steps than fit are tried.
    for _ in 0..count.saturating_add(4) {
        let at = from_local(next, zone);
        if at > span.end {
            break;
        }
        let is_new = ticks.last().is_none_or(|(last, _)| *last < at);
        if at >= span.start && is_new {
            ticks.push((at, time_label(at, step, zone)));
        }
        next += step;
    }
    ticks
}

/// The smallest round distance that is not below `least`, in nanoseconds.
fn time_step(least: i128) -> i128 {
    if least <= i128::from(SECOND / 2) {
        return decimal_step(least);
    }
    let mut round = ROUND.into_iter().chain(LONG_STEPS).map(i128::from);
    let largest = LONG_STEPS.into_iter().next_back().map_or(1, i128::from);
    round.find(|step| *step >= least).unwrap_or(largest * 10)
}

/// The smallest of 1, 2, 5, 10, 20, 50 and so on that is not below `least`.
fn decimal_step(least: i128) -> i128 {
    let mut unit: i128 = 1;
    loop {
        for step in [unit, 2 * unit, 5 * unit] {
            if step >= least {
                return step;
            }
        }
        unit *= 10;
    }
}

fn offset_nanos(zone: Zone<'_>, at: Timestamp) -> i128 {
    i128::from(zone(at).whole_seconds()) * i128::from(SECOND)
}

/// When a clock of the zone shows this; in a range that it skips, a time around the change.
fn from_local(local: i128, zone: Zone<'_>) -> Timestamp {
    let clamped = |nanos: i128| {
        let nearest = nanos.clamp(i128::from(i64::MIN), i128::from(i64::MAX));
        Timestamp::from_unix_nanos(i64::try_from(nearest).unwrap_or_default())
    };
    let guess = clamped(local - offset_nanos(zone, clamped(local)));
    clamped(local - offset_nanos(zone, guess))
}

/// What a mark is called: the clock's time, and the date at midnight.
fn time_label(at: Timestamp, step: i128, zone: Zone<'_>) -> String {
    let local = local(at, zone);
    let (hour, minute, second) = local.time().as_hms();
    if step >= i128::from(91 * DAY) {
        return format!("{}-{:02}", local.year(), u8::from(local.month()));
    }
    if step >= i128::from(DAY) || (hour, minute, second, local.nanosecond()) == (0, 0, 0, 0) {
        return day_label(local);
    }
    if step >= i128::from(MINUTE) {
        format!("{hour:02}:{minute:02}")
    } else if step >= i128::from(SECOND) {
        format!("{hour:02}:{minute:02}:{second:02}")
    } else if step >= i128::from(MILLI) {
        format!("{minute:02}:{second:02}.{:03}", local.millisecond())
    } else {
        format!("{second:02}.{:09}", local.nanosecond())
    }
}

fn day_label(local: OffsetDateTime) -> String {
    let month: String = local.month().to_string().chars().take(3).collect();
    format!("{month} {}", local.day())
}

fn local(at: Timestamp, zone: Zone<'_>) -> OffsetDateTime {
    OffsetDateTime::from(at).to_offset(zone(at))
}

/// The beginning of an interval of this length in a text: `2026-05-08 14:03`, with seconds and milliseconds if
/// intervals are that short.
pub(super) fn interval_label(at: Timestamp, nanos: i128, zone: Zone<'_>) -> String {
    let local = local(at, zone);
    let (hour, minute, second) = local.time().as_hms();
    let date = local.date();
    if nanos >= i128::from(23 * HOUR) && (hour, minute) == (0, 0) {
        date.to_string()
    } else if nanos >= i128::from(MINUTE) {
        format!("{date} {hour:02}:{minute:02}")
    } else if nanos >= i128::from(SECOND) {
        format!("{date} {hour:02}:{minute:02}:{second:02}")
    } else {
        format!(
            "{date} {hour:02}:{minute:02}:{second:02}.{:03}",
            local.millisecond()
        )
    }
}

/// The marks on an axis from zero to `max` or a little more: at most `count` above zero, the last one not below
/// `max`.
pub(super) fn value_ticks(max: u64, count: u16) -> Vec<u64> {
    let count = u64::from(count.max(1));
    ticks(
        max,
        decimal_step(i128::from(max.div_ceil(count).max(1))),
        true,
    )
}

/// The marks on an axis of durations from zero to `max`: at most `count` above zero, none above `max`.
pub(super) fn duration_ticks(max: u64, count: u16) -> Vec<u64> {
    let least = i128::from(max.div_ceil(u64::from(count.max(1))).max(1));
    let step = if least > i128::from(10 * SECOND) {
        time_step(least)
    } else {
        decimal_step(least)
    };
    ticks(max, step, false)
}

fn ticks(max: u64, step: i128, is_above: bool) -> Vec<u64> {
    let max = i128::from(max);
    let last = if is_above {
        // Zero alone would be an axis without a height.
        ((max + step - 1) / step).max(1)
    } else {
        max / step
    };
    let tick = |number| u64::try_from(number * step).unwrap_or(u64::MAX);
    (0..=last).map(tick).collect()
}

/// The marks on a logarithmic axis that holds durations from `min` to `max`, in nanoseconds. At least two.
pub(super) fn log_ticks(min: u64, max: u64) -> Vec<u64> {
    let last = LOG_DURATIONS.len() - 1;
    let below = LOG_DURATIONS.iter().rposition(|tick| *tick <= min);
    let above = LOG_DURATIONS.iter().position(|tick| *tick >= max);
    let first = below.unwrap_or(0).min(last - 1);
    let end = above.unwrap_or(last).max(first + 1);
    LOG_DURATIONS
        .get(first..=end)
        .unwrap_or(&LOG_DURATIONS)
        .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offset(hours: i8, minutes: i8) -> UtcOffset {
        UtcOffset::from_hms(hours, minutes, 0).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn labels(start: &str, end: &str, zone: Zone<'_>) -> Vec<String> {
        let ticks = time_ticks(Span::new(at(start), at(end)), 6, zone);
        assert!(ticks.len() <= 7, "{ticks:?}");
        ticks.into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn times_are_round_in_the_zone() {
        let utc: Zone<'_> = &|_| UtcOffset::UTC;
        assert_eq!(
            labels("2026-05-08T14:03:20Z", "2026-05-08T15:03:20Z", utc),
            ["14:10", "14:20", "14:30", "14:40", "14:50", "15:00"]
        );
        assert_eq!(
            labels("2026-05-08T00:00:00Z", "2026-05-09T00:00:00Z", utc),
            ["May 8", "06:00", "12:00", "18:00", "May 9"]
        );
        assert_eq!(
            labels("2026-05-08T14:00:00Z", "2026-05-08T14:00:03Z", utc),
            [
                "00:00.000",
                "00:00.500",
                "00:01.000",
                "00:01.500",
                "00:02.000",
                "00:02.500",
                "00:03.000"
            ]
        );
        let half: Zone<'_> = &|_| offset(5, 30);
        assert_eq!(
            labels("2026-05-08T00:00:00Z", "2026-05-08T12:00:00Z", half),
            ["06:00", "08:00", "10:00", "12:00", "14:00", "16:00"]
        );
        assert_eq!(
            labels("2020-01-01T00:00:00Z", "2026-01-01T00:00:00Z", utc).len(),
            6
        );
    }

    #[test]
    fn times_are_round_on_both_sides_of_a_clock_change() {
        let change = at("2026-03-29T01:00:00Z");
        let berlin = move |time: Timestamp| {
            if time < change {
                offset(1, 0)
            } else {
                offset(2, 0)
            }
        };
        assert_eq!(
            labels("2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z", &berlin),
            ["18:00", "Mar 29", "06:00", "12:00"]
        );
    }

    #[test]
    fn any_range_of_time_has_few_marks() {
        let far: Zone<'_> = &|_| offset(14, 0);
        for (start, end) in [
            (i64::MIN, i64::MAX),
            (i64::MAX - 1, i64::MAX),
            (i64::MIN, i64::MIN + 1),
            (0, 7),
            (0, 999),
        ] {
            let span = Span::new(
                Timestamp::from_unix_nanos(start),
                Timestamp::from_unix_nanos(end),
            );
            let ticks = time_ticks(span, 6, far);
            assert!(ticks.len() <= 8, "{ticks:?}");
            assert!(ticks.is_sorted_by_key(|(at, _)| *at));
        }
    }

    #[test]
    fn values_are_round() {
        for (max, expected) in [
            (0, &[0, 1][..]),
            (1, &[0, 1]),
            (4, &[0, 2, 4]),
            (7, &[0, 5, 10]),
            (100, &[0, 50, 100]),
            (1_234, &[0, 500, 1_000, 1_500]),
        ] {
            assert_eq!(value_ticks(max, 3), expected, "{max}");
        }
        assert!(value_ticks(u64::MAX, 3).len() <= 4);
        for (max, expected) in [
            (0, &[0][..]),
            (
                950_000_000,
                &[0, 200_000_000, 400_000_000, 600_000_000, 800_000_000],
            ),
            (
                150_000_000_000,
                &[
                    0,
                    30_000_000_000,
                    60_000_000_000,
                    90_000_000_000,
                    120_000_000_000,
                    150_000_000_000,
                ],
            ),
        ] {
            assert_eq!(duration_ticks(max, 5), expected, "{max}");
        }
        assert!(duration_ticks(u64::MAX, 5).len() <= 6);
    }

    #[test]
    fn a_logarithmic_axis_holds_its_durations() {
        for (min, max) in [
            (0, 0),
            (1, 1),
            (1_500_000, 2_000_000),
            (1_000_000, 1_000_000),
            (0, u64::MAX),
            (u64::MAX, u64::MAX),
        ] {
            let ticks = log_ticks(min, max);
            assert!(ticks.len() >= 2 && ticks.is_sorted(), "{min} {max}");
        }
        assert_eq!(
            log_ticks(1_500_000, 20_000_000),
            [1_000_000, 10_000_000, 100_000_000]
        );
    }
}
