//! Points in time: nanoseconds since the Unix epoch, and RFC 3339 text.

use crate::error::{Error, Result};
use ::time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};
use std::{fmt, time::SystemTime};

/// A point in time: nanoseconds since 1970-01-01T00:00:00Z, negative before it.
///
/// Its range is 1677-09-21T00:12:43.145224192Z to 2262-04-11T23:47:16.854775807Z. Conversions from
/// wider types clamp to that range, except where they say that they fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The earliest timestamp.
    pub const MIN: Timestamp = Timestamp(i64::MIN);
    /// The latest timestamp.
    pub const MAX: Timestamp = Timestamp(i64::MAX);

    /// The point in time `nanos` nanoseconds after the Unix epoch.
    #[must_use]
    pub const fn from_unix_nanos(nanos: i64) -> Timestamp {
        Timestamp(nanos)
    }

    /// Nanoseconds since the Unix epoch.
    #[must_use]
    pub const fn unix_nanos(self) -> i64 {
        self.0
    }

    /// The clock's present time.
    #[must_use]
    pub fn now() -> Timestamp {
        SystemTime::now().into()
    }

    /// Reads RFC 3339 text with up to nine fractional digits and any offset, and returns the point
    /// in time together with the offset that was written.
    ///
    /// Fails with [`Error::InvalidTimestamp`] when the text is not RFC 3339 or lies outside the
    /// range of this type.
    pub fn parse_rfc3339(text: &str) -> Result<(Timestamp, UtcOffset)> {
        let invalid = || Error::InvalidTimestamp {
            text: text.chars().take(64).collect(),
        };
        let parsed = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| invalid())?;
        let nanos = i64::try_from(parsed.unix_timestamp_nanos()).map_err(|_| invalid())?;
        Ok((Timestamp(nanos), parsed.offset()))
    }

    /// This point in time as RFC 3339 text in `offset`, trailing zeros of the fraction trimmed.
    #[must_use]
    pub fn to_rfc3339_in(self, offset: UtcOffset) -> String {
        let mut text = Vec::with_capacity(35);
        self.write_rfc3339_in(offset, &mut text);
        String::from_utf8(text).unwrap_or_default()
    }

    /// Appends what [`Timestamp::to_rfc3339_in`] returns.
    pub(crate) fn write_rfc3339_in(self, offset: UtcOffset, out: &mut Vec<u8>) {
        let start = out.len();
        let utc = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0))
            .unwrap_or(OffsetDateTime::UNIX_EPOCH);
        if utc.to_offset(offset).format_into(out, &Rfc3339).is_err() {
            // RFC 3339 has no seconds in an offset, and no day of them. Every offset that comes in
            // through `parse_rfc3339` fits, so this only meets hand-made records.
            out.truncate(start);
            let _ = utc.format_into(out, &Rfc3339);
        }
    }
}

impl fmt::Display for Timestamp {
    /// Writes RFC 3339 in UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.to_rfc3339_in(UtcOffset::UTC))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Timestamp {
        let nanos = match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
            Err(before) => {
                i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanos| -nanos)
            }
        };
        Timestamp(nanos)
    }
}

impl From<OffsetDateTime> for Timestamp {
    fn from(time: OffsetDateTime) -> Timestamp {
        let nanos = time.unix_timestamp_nanos();
        Timestamp(i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX }))
    }
}

impl serde::Serialize for Timestamp {
    /// RFC 3339 in UTC, as everywhere outside the database.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::time::macros::offset;

    #[test]
    fn rfc3339_keeps_nanoseconds_and_the_offset() {
        let text = "2026-05-08T23:39:03.123456789-04:00";
        let (timestamp, offset) = Timestamp::parse_rfc3339(text).unwrap();
        assert_eq!(timestamp.unix_nanos(), 1_778_297_943_123_456_789);
        assert_eq!(offset, offset!(-4));
        assert_eq!(timestamp.to_rfc3339_in(offset), text);
        assert_eq!(timestamp.to_string(), "2026-05-09T03:39:03.123456789Z");
    }

    #[test]
    fn trailing_zeros_are_trimmed() {
        for (read, written) in [
            ("2026-05-08T23:40:00.120Z", "2026-05-08T23:40:00.12Z"),
            ("2026-05-08T23:40:00.000Z", "2026-05-08T23:40:00Z"),
            ("2026-05-08T23:40:00+00:00", "2026-05-08T23:40:00Z"),
        ] {
            let (timestamp, offset) = Timestamp::parse_rfc3339(read).unwrap();
            assert_eq!(timestamp.to_rfc3339_in(offset), written);
        }
    }

    #[test]
    fn what_no_timestamp_holds_is_refused() {
        for text in [
            "",
            "now",
            "2026-05-08",
            "1500-01-01T00:00:00Z",
            "9999-01-01T00:00:00Z",
        ] {
            assert!(matches!(
                Timestamp::parse_rfc3339(text),
                Err(Error::InvalidTimestamp { .. })
            ));
        }
    }

    #[test]
    fn an_offset_that_rfc3339_lacks_becomes_utc() {
        for offset in [offset!(+00:00:01), offset!(-25), offset!(+24)] {
            assert_eq!(
                Timestamp::default().to_rfc3339_in(offset),
                "1970-01-01T00:00:00Z"
            );
        }
    }

    #[test]
    fn the_extremes_print() {
        assert_eq!(Timestamp::MIN.to_string(), "1677-09-21T00:12:43.145224192Z");
        assert_eq!(Timestamp::MAX.to_string(), "2262-04-11T23:47:16.854775807Z");
    }
}
