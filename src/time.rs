//! Points in time and time ranges: nanoseconds since the Unix epoch, RFC 3339 text, and times as people
//! write them.

mod written;

use crate::error::{Error, Result, excerpt};
use ::time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};
use std::{
    fmt,
    ops::{Bound, RangeBounds},
    str::FromStr,
    time::{Duration, SystemTime},
};

/// A point in time: nanoseconds since 1970-01-01T00:00:00Z, negative before it.
///
/// Its range is 1677-09-21T00:12:43.145224192Z to 2262-04-11T23:47:16.854775807Z. Conversions from
/// wider types clamp to that range unless they are documented to fail.
///
/// ```
/// use gridctl_telemetry::Timestamp;
/// use std::time::SystemTime;
///
/// let noon: Timestamp = "2026-05-08T14:00:00+02:00".parse()?;
/// assert_eq!(noon.to_string(), "2026-05-08T12:00:00Z");
/// assert_eq!(Timestamp::from(SystemTime::from(noon)), noon);
/// # Ok::<(), gridctl_telemetry::Error>(())
/// ```
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

    /// The time from `earlier` to this one; zero if `earlier` is later.
    #[must_use]
    pub fn saturating_duration_since(self, earlier: Timestamp) -> Duration {
        let nanos = i128::from(self.0) - i128::from(earlier.0);
        Duration::from_nanos(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX))
    }

    /// The present time of the system clock.
    #[must_use]
    pub fn now() -> Timestamp {
        SystemTime::now().into()
    }

    /// Parses RFC 3339 text with up to nine fractional digits and any offset, and returns the point
    /// in time and that offset.
    ///
    /// Fails with [`Error::InvalidTimestamp`] when the text is not RFC 3339 or the time is outside
    /// the range of this type.
    pub fn parse_rfc3339(text: &str) -> Result<(Timestamp, UtcOffset)> {
        let invalid = || Error::InvalidTimestamp {
            text: excerpt(text),
        };
        let parsed = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| invalid())?;
        let nanos = i64::try_from(parsed.unix_timestamp_nanos()).map_err(|_| invalid())?;
        Ok((Timestamp(nanos), parsed.offset()))
    }

    /// Formats this point in time as RFC 3339 in `offset`, without trailing zeros in the fraction.
    #[must_use]
    pub fn to_rfc3339_in(self, offset: UtcOffset) -> String {
        let mut text = Vec::with_capacity(35);
        self.write_rfc3339_in(offset, &mut text);
        String::from_utf8(text).unwrap_or_default()
    }

    /// Appends the text that [`Timestamp::to_rfc3339_in`] returns.
    // By hand, because `time` takes three times as long, which is a tenth of the time of an export.
    pub(crate) fn write_rfc3339_in(self, offset: UtcOffset, out: &mut Vec<u8>) {
        // RFC 3339 has no seconds in an offset, and no offset of a day or more. `parse_rfc3339`
        // never returns such an offset, so only records built by hand have one.
        let is_written = offset.seconds_past_minute() == 0 && offset.whole_hours().abs() < 24;
        let offset_seconds = if is_written {
            offset.whole_seconds()
        } else {
            0
        };
        let seconds = self.0.div_euclid(NANOS_PER_SECOND) + i64::from(offset_seconds);
        let (year, month, day) = date_of(seconds.div_euclid(SECONDS_PER_DAY));
        let second = narrow(seconds.rem_euclid(SECONDS_PER_DAY));
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let [y0, y1, y2, y3, m0, m1, d0, d1] = digits(year * 10_000 + month * 100 + day);
        let [_, _, h0, h1, n0, n1, s0, s1] = digits(hour * 10_000 + minute * 100 + second);
        let nanos = narrow(self.0.rem_euclid(NANOS_PER_SECOND));
        let [f0, f1, f2, f3, f4, f5, f6, f7] = digits(nanos / 10);
        let f8 = b'0' + (nanos % 10).to_le_bytes()[0];
        let text = [
            y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1, b'T', h0, h1, b':', n0, n1, b':', s0, s1,
            b'.', f0, f1, f2, f3, f4, f5, f6, f7, f8,
        ];
        let fraction = if nanos == 0 {
            0
        } else {
            10 - text.iter().rev().take_while(|it| **it == b'0').count()
        };
        out.extend_from_slice(text.get(..19 + fraction).unwrap_or_default());
        if offset_seconds == 0 {
            out.push(b'Z');
            return;
        }
        let minutes = offset_seconds.unsigned_abs() / 60;
        let [_, _, _, h0, h1, _, n0, n1] = digits(minutes / 60 * 1000 + minutes % 60);
        let sign = if offset_seconds < 0 { b'-' } else { b'+' };
        out.extend_from_slice(&[sign, h0, h1, b':', n0, n1]);
    }
}

const NANOS_PER_SECOND: i64 = 1_000_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// A number that is known to be small.
fn narrow(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The eight decimal digits of a number below 100,000,000, all at once.
fn digits(number: u32) -> [u8; 8] {
    // Each step divides all parts of the word, and puts the remainder of each after it.
    let fours = u64::from(number / 10_000) | u64::from(number % 10_000) << 32;
    let hundreds = ((fours * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let twos = hundreds | (fours - hundreds * 100) << 16;
    let tens = ((twos * 103) >> 10) & 0x000f_000f_000f_000f;
    let ones = tens | (twos - tens * 10) << 8;
    (ones + 0x3030_3030_3030_3030).to_le_bytes()
}

/// The year, the month and the day of a number of days after 1970-01-01, of a year between 0 and 9999.
fn date_of(days: i64) -> (u32, u32, u32) {
    // Counted from the first of March of the year 0, in periods of 400 years: a leap day is the last of its year.
    let days = narrow(days + 719_468);
    let (period, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let year = period * 400 + year;
    if month < 10 {
        (year, month + 3, day)
    } else {
        (year + 1, month - 9, day)
    }
}

impl fmt::Display for Timestamp {
    /// Writes RFC 3339 in UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.to_rfc3339_in(UtcOffset::UTC))
    }
}

impl FromStr for Timestamp {
    type Err = Error;

    /// Parses RFC 3339 text in any offset. Fails like [`Timestamp::parse_rfc3339`].
    fn from_str(text: &str) -> Result<Timestamp> {
        Timestamp::parse_rfc3339(text).map(|(timestamp, _)| timestamp)
    }
}

impl From<Timestamp> for SystemTime {
    fn from(timestamp: Timestamp) -> SystemTime {
        let distance = Duration::from_nanos(timestamp.0.unsigned_abs());
        let time = if timestamp.0 < 0 {
            SystemTime::UNIX_EPOCH.checked_sub(distance)
        } else {
            SystemTime::UNIX_EPOCH.checked_add(distance)
        };
        // A clock that counts seconds in 64 bits covers the whole range, so this never falls back.
        time.unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

impl From<Timestamp> for OffsetDateTime {
    /// Converts to UTC.
    fn from(timestamp: Timestamp) -> OffsetDateTime {
        // `OffsetDateTime` covers all years of a timestamp, so this never falls back.
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(timestamp.0))
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
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
    /// Serializes as RFC 3339 in UTC, the text form used everywhere outside the database.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Timestamp {
    /// Deserializes RFC 3339 text in any offset.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        crate::error::deserialize_from_str(deserializer)
    }
}

/// A time range: the start is included, the end is excluded.
///
/// ```
/// use gridctl_telemetry::{Query, Signal, Timestamp, query::TimeRange};
///
/// let since: Timestamp = "2026-05-08T00:00:00Z".parse()?;
/// let query = Query::new(Signal::Logs).range(since..);
/// assert_eq!(TimeRange::from(since..).until, None);
/// # Ok::<(), gridctl_telemetry::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TimeRange {
    /// The start, included; `None` for no lower bound.
    pub since: Option<Timestamp>,
    /// The end, excluded; `None` for no upper bound.
    pub until: Option<Timestamp>,
}

impl<R: RangeBounds<Timestamp>> From<R> for TimeRange {
    fn from(range: R) -> TimeRange {
        let after = |timestamp: &Timestamp| {
            timestamp
                .unix_nanos()
                .checked_add(1)
                .map(Timestamp::from_unix_nanos)
        };
        TimeRange {
            since: match range.start_bound() {
                Bound::Included(since) => Some(*since),
                // No timestamp follows the last one. The range then holds that one timestamp.
                Bound::Excluded(since) => Some(after(since).unwrap_or(Timestamp::MAX)),
                Bound::Unbounded => None,
            },
            until: match range.end_bound() {
                Bound::Included(until) => after(until),
                Bound::Excluded(until) => Some(*until),
                Bound::Unbounded => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::time::macros::{datetime, offset};

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
    fn text_is_that_of_another_formatter() {
        let check = |nanos: i64, offset: UtcOffset| {
            let utc = OffsetDateTime::from(Timestamp(nanos));
            let expected = utc.to_offset(offset).format(&Rfc3339);
            let expected = expected.or_else(|_| utc.format(&Rfc3339)).unwrap();
            assert_eq!(Timestamp(nanos).to_rfc3339_in(offset), expected);
        };
        let offsets = [
            UtcOffset::UTC,
            offset!(-4),
            offset!(+5:45),
            offset!(-0:30),
            offset!(+23:59),
            offset!(-23:59),
            offset!(+24),
            offset!(-25:59:59),
            offset!(+1:00:01),
        ];
        // Each day of the range, at times that differ.
        for day in i64::MIN / (SECONDS_PER_DAY * NANOS_PER_SECOND)..106_751 {
            let nanos = day * SECONDS_PER_DAY * NANOS_PER_SECOND;
            let offset = offsets[day.rem_euclid(9).to_le_bytes()[0] as usize];
            check(nanos, UtcOffset::UTC);
            check(
                nanos.saturating_add(
                    day.wrapping_mul(7_919_333_777)
                        .rem_euclid(86_399_999_999_999),
                ),
                offset,
            );
            check(nanos - 1, offset);
        }
        for offset in offsets {
            check(i64::MIN, offset);
            check(i64::MAX, offset);
        }
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
    fn other_types_of_time_come_back() {
        let nanos = [
            i64::MIN,
            i64::MIN + 1,
            -1_000_000_001,
            -1,
            0,
            1,
            999_999_999,
            i64::MAX - 1,
            i64::MAX,
        ];
        for timestamp in nanos.map(Timestamp::from_unix_nanos) {
            assert_eq!(Timestamp::from(SystemTime::from(timestamp)), timestamp);
            let date = OffsetDateTime::from(timestamp);
            assert_eq!(date.offset(), UtcOffset::UTC);
            assert_eq!(Timestamp::from(date), timestamp);
            assert_eq!(
                timestamp.to_string().parse::<Timestamp>().unwrap(),
                timestamp
            );
            let json = serde_json::to_string(&timestamp).unwrap();
            assert_eq!(json, format!("\"{timestamp}\""));
            assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), timestamp);
        }
    }

    #[test]
    fn a_time_before_1970_counts_backward() {
        let before = SystemTime::UNIX_EPOCH - Duration::from_millis(1500);
        let timestamp = Timestamp::from(before);
        assert_eq!(timestamp.unix_nanos(), -1_500_000_000);
        assert_eq!(timestamp.to_string(), "1969-12-31T23:59:58.5Z");
        assert_eq!(SystemTime::from(timestamp), before);
    }

    #[test]
    fn wider_types_are_clamped() {
        let far = Duration::from_secs(1 << 40);
        for (time, expected) in [
            (SystemTime::UNIX_EPOCH + far, Timestamp::MAX),
            (SystemTime::UNIX_EPOCH - far, Timestamp::MIN),
        ] {
            assert_eq!(Timestamp::from(time), expected);
        }
        for (date, expected) in [
            (datetime!(9999-12-31 23:59:59 UTC), Timestamp::MAX),
            (datetime!(-9999-01-01 00:00:00 UTC), Timestamp::MIN),
        ] {
            assert_eq!(Timestamp::from(date), expected);
        }
    }

    #[test]
    fn json_that_is_no_timestamp_says_so() {
        let error = serde_json::from_str::<Timestamp>("\"noon\"").unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("invalid timestamp \"noon\""), "{text}");
        assert!(serde_json::from_str::<Timestamp>("5").is_err());
        let escaped = "\"2026-05-08T00:00:00\\u005a\"";
        assert!(serde_json::from_str::<Timestamp>(escaped).is_ok());
    }

    #[test]
    fn the_extremes_print() {
        assert_eq!(Timestamp::MIN.to_string(), "1677-09-21T00:12:43.145224192Z");
        assert_eq!(Timestamp::MAX.to_string(), "2262-04-11T23:47:16.854775807Z");
    }
}
