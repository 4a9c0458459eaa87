//! What records are counted by.

use super::Zone;
use gridctl_telemetry::{
    Result,
    query::{CountBy, Interval},
};
use std::{fmt, str::FromStr, time::Duration};

/// What to count by. Its text is `level`, `server`, `name` (of spans), `field:KEY` (an entry), `hour`, `day`, or
/// a length of time such as `5m`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it, see above")]
pub enum CountText {
    Level,
    Server,
    Name,
    Field(String),
    Hour,
    Day,
    Every(Duration),
}

impl CountText {
    /// What the library counts by; hours and days are those of `zone`.
    ///
    /// Fails for a length of time that is too short or too long.
    pub fn read(&self, zone: &Zone) -> Result<CountBy> {
        Ok(match self {
            CountText::Level => CountBy::Level,
            CountText::Server => CountBy::Server,
            CountText::Name => CountBy::Name,
            CountText::Field(key) => CountBy::Field(key.clone()),
            CountText::Hour => CountBy::Interval(zone.hours()),
            CountText::Day => CountBy::Interval(zone.days()),
            CountText::Every(length) => CountBy::Interval(Interval::every(*length)?),
        })
    }

    /// Whether it is a length of time, of which a record can be counted in one only.
    #[must_use]
    pub fn is_time(&self) -> bool {
        matches!(self, CountText::Hour | CountText::Day | CountText::Every(_))
    }

    /// Why records cannot be counted by all of `by` at once; `None` if they can.
    #[must_use]
    pub fn conflict(by: &[CountText]) -> Option<&'static str> {
        if by.iter().filter(|by| by.is_time()).count() > 1 {
            return Some("a record is counted in one length of time: name one of them");
        }
        let is_field = |by: &&CountText| matches!(by, CountText::Field(_));
        (by.iter().filter(is_field).count() > 1)
            .then_some("records are counted by one field:KEY: name one, or filter by field")
    }
}

impl FromStr for CountText {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<CountText, String> {
        const HOUR: Duration = Duration::from_secs(3600);
        const DAY: Duration = Duration::from_secs(24 * 3600);
        match text {
            "level" => Ok(CountText::Level),
            "server" => Ok(CountText::Server),
            "name" => Ok(CountText::Name),
            "hour" => Ok(CountText::Hour),
            "day" => Ok(CountText::Day),
            _ => match (text.strip_prefix("field:"), humantime::parse_duration(text)) {
                (Some(key), _) if !key.is_empty() => Ok(CountText::Field(key.to_owned())),
                (None, Ok(HOUR)) => Ok(CountText::Hour),
                (None, Ok(DAY)) => Ok(CountText::Day),
                (None, Ok(length)) => match Interval::every(length) {
                    Ok(_) => Ok(CountText::Every(length)),
                    Err(error) => Err(error.to_string()),
                },
                _ => Err(
                    "expected level, server, name, field:KEY, hour, day or a length of time such as 5m"
                        .to_owned(),
                ),
            },
        }
    }
}

impl fmt::Display for CountText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CountText::Level => f.write_str("level"),
            CountText::Server => f.write_str("server"),
            CountText::Name => f.write_str("name"),
            CountText::Field(key) => write!(f, "field:{key}"),
            CountText::Hour => f.write_str("hour"),
            CountText::Day => f.write_str("day"),
            CountText::Every(length) => f.write_str(&length_text(*length)),
        }
    }
}

/// A length of time as it is written: `1h30m`.
pub(crate) fn length_text(length: Duration) -> String {
    humantime::format_duration(length)
        .to_string()
        .replace(' ', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back() {
        for text in [
            "level",
            "server",
            "name",
            "field:a.b",
            "hour",
            "day",
            "1m30s",
        ] {
            let read: CountText = text.parse().unwrap();
            assert_eq!(read.to_string(), text);
        }
        assert_eq!("24h".parse(), Ok(CountText::Day));
        for bad in ["", "field:", "size", "1us"] {
            assert!(bad.parse::<CountText>().is_err(), "{bad}");
        }
        let two = [CountText::Hour, CountText::Day];
        assert!(CountText::conflict(&two).is_some());
        assert!(CountText::conflict(&two[1..]).is_none());
    }
}
