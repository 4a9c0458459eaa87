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
    fn offsets_have_a_sign() {
        let at = Timestamp::from_unix_nanos;
        assert_eq!(offset(at(5), at(5)), "+0ns");
        assert_eq!(offset(at(5), at(12)), "+7ns");
        assert_eq!(offset(at(5), at(-5)), "-10ns");
        assert!(offset(Timestamp::MIN, Timestamp::MAX).starts_with('+'));
    }
}
