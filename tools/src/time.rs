//! Points in time, as operators write them.

use gridctl_telemetry::Timestamp;
use std::time::SystemTime;

/// Parses a time in RFC 3339 (`2026-05-08T12:00:00Z`), or a time before now (`2h`, `1day 6h`).
pub(crate) fn parse(text: &str) -> Result<Timestamp, String> {
    if let Ok((timestamp, _)) = Timestamp::parse_rfc3339(text) {
        return Ok(timestamp);
    }
    let ago = humantime::parse_duration(text).map_err(|_| {
        "expected a time such as 2026-05-08T12:00:00Z, or how long ago such as 2h or 3days"
            .to_owned()
    })?;
    // A time before the range of the clock is the earliest possible time.
    Ok(SystemTime::now()
        .checked_sub(ago)
        .map_or(Timestamp::MIN, Timestamp::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_and_distances_are_read() {
        assert_eq!(
            parse("2026-05-08T12:00:00+02:00").unwrap().to_string(),
            "2026-05-08T10:00:00Z"
        );
        let ago = |time: Timestamp| time.unix_nanos() - 3_600_000_000_000;
        let before = ago(Timestamp::now());
        let hour_ago = parse("1h").unwrap().unix_nanos();
        assert!((before..=ago(Timestamp::now())).contains(&hour_ago));
        for text in ["", "yesterday", "2026-05-08", "-2h", "12"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
