//! Durations, as people read them.

use gridctl_telemetry::Timestamp;
use std::time::Duration;

/// A duration with three digits: `12.3ms`; from a minute on `2m03s`, `1h02m`.
#[must_use]
pub fn duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos < 1000 {
        return format!("{nanos}ns");
    }
    if duration.as_secs() >= 60 {
        let minutes = duration.as_secs() / 60;
        return if minutes >= 60 {
            format!("{}h{:02}m", minutes / 60, minutes % 60)
        } else {
            format!("{minutes}m{:02}s", duration.as_secs() % 60)
        };
    }
    let (unit, name) = match nanos {
        1_000_000_000.. => (1_000_000_000, "s"),
        1_000_000.. => (1_000_000, "ms"),
        _ => (1_000, "µs"),
    };
    let whole = nanos / unit;
    // Cut and not rounded, so that 999.96ms is not 1000ms.
    let hundredths = nanos % unit * 100 / unit;
    match whole {
        100.. => format!("{whole}{name}"),
        10.. => format!("{whole}.{}{name}", hundredths / 10),
        _ => format!("{whole}.{hundredths:02}{name}"),
    }
}

/// When something was, counted from `start`: `+12.3ms`, and `-12.3ms` before it.
#[must_use]
pub fn offset(start: Timestamp, at: Timestamp) -> String {
    if at < start {
        format!("-{}", duration(start.saturating_duration_since(at)))
    } else {
        format!("+{}", duration(at.saturating_duration_since(start)))
    }
}

/// How long ago a time was, in words: `just now`, `2 minutes ago`, `in 3 hours`.
#[must_use]
pub fn ago(now: Timestamp, at: Timestamp) -> String {
    let (is_past, between) = if at <= now {
        (true, now.saturating_duration_since(at))
    } else {
        (false, at.saturating_duration_since(now))
    };
    let seconds = between.as_secs();
    let (count, unit) = match seconds {
        0 => return "just now".to_owned(),
        1..120 => (seconds, "second"),
        120..7_200 => (seconds / 60, "minute"),
        7_200..172_800 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    let plural = if count == 1 { "" } else { "s" };
    if is_past {
        format!("{count} {unit}{plural} ago")
    } else {
        format!("in {count} {unit}{plural}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits() {
        for (nanos, expected) in [
            (0, "0ns"),
            (999, "999ns"),
            (1_234, "1.23µs"),
            (12_345_678, "12.3ms"),
            (999_960_000, "999ms"),
            (1_500_000_000, "1.50s"),
            (123_000_000_000, "2m03s"),
            (3_725_000_000_000, "1h02m"),
        ] {
            assert_eq!(duration(Duration::from_nanos(nanos)), expected);
        }
    }

    #[test]
    fn times_are_told_in_words() {
        let now = Timestamp::from_unix_nanos(1_000_000_000_000_000_000);
        for (seconds, expected) in [
            (0, "just now"),
            (1, "1 second ago"),
            (119, "119 seconds ago"),
            (120, "2 minutes ago"),
            (7_200, "2 hours ago"),
            (180_000, "2 days ago"),
            (-1, "in 1 second"),
            (-600, "in 10 minutes"),
        ] {
            let at = Timestamp::from_unix_nanos(now.unix_nanos() - seconds * 1_000_000_000);
            assert_eq!(ago(now, at), expected);
        }
    }

    #[test]
    fn offsets_have_a_sign() {
        let at = Timestamp::from_unix_nanos;
        assert_eq!(offset(at(5), at(5)), "+0ns");
        assert_eq!(offset(at(5), at(12)), "+7ns");
        assert_eq!(offset(at(5), at(-5)), "-10ns");
        assert!(offset(Timestamp::MIN, Timestamp::MAX).starts_with('+'));
    }
}
