//! The range of time that a reader looks at.

use super::{Invalid, Zone};
use gridctl_telemetry::{Timestamp, query::TimeRange};

/// A range of time as it was written; unbounded on a side for which no time is given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WindowText {
    /// The begin, which is in the range: `2h`, `today`, `2026-05-08 14:03`, see
    /// [`Timestamp::parse_written`].
    pub since: Option<String>,
    /// The end, which is not in the range, in the same forms.
    pub until: Option<String>,
}

impl WindowText {
    /// The range, at the time `now` in `zone`.
    ///
    /// Fails when a time is in no known form, and when the range ends before it begins.
    pub fn range(&self, zone: &Zone, now: Timestamp) -> Result<TimeRange, Invalid> {
        let read = |name, text: &Option<String>| {
            let time = text.as_deref().map(|text| zone.parse(text, now));
            time.transpose().map_err(Invalid::value(name))
        };
        let range = TimeRange {
            since: read("since", &self.since)?,
            until: read("until", &self.until)?,
        };
        match (range.since, range.until) {
            (Some(since), Some(until)) if since > until => Err(Invalid::Inverted { since, until }),
            _ => Ok(range),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_or_refused() {
        let now = "2026-05-08T12:00:00Z".parse().unwrap();
        let range = |since: Option<&str>, until: Option<&str>| {
            let [since, until] = [since, until].map(|text| text.map(Into::into));
            WindowText { since, until }.range(&Zone::UTC, now)
        };
        assert_eq!(range(None, None).unwrap(), TimeRange::default());
        let hour = range(Some("2h"), Some("1h")).unwrap();
        assert_eq!(hour.since.unwrap().to_string(), "2026-05-08T10:00:00Z");
        assert_eq!(hour.until.unwrap().to_string(), "2026-05-08T11:00:00Z");
        let bad = range(Some("soon"), None).unwrap_err().to_string();
        assert!(
            bad.starts_with("since: cannot read the time \"soon\""),
            "{bad}"
        );
        let inverted = range(Some("1h"), Some("2h")).unwrap_err();
        assert!(matches!(inverted, Invalid::Inverted { .. }));
    }
}
