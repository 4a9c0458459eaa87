//! The zone of a reader, in which days begin and times are read and shown.

use gridctl_telemetry::{
    Timestamp,
    external::time::{OffsetDateTime, PrimitiveDateTime, UtcOffset},
    query::Interval,
};
use jiff::tz::TimeZone;
use std::sync::LazyLock;

/// A time zone.
///
/// The zone of the machine is looked up when it is first needed, because listing all zones that the machine knows takes a
/// millisecond.
#[derive(Debug, Clone, PartialEq)]
pub struct Zone(Option<TimeZone>);

/// The zone of this machine.
static SYSTEM: LazyLock<TimeZone> = LazyLock::new(TimeZone::system);

impl Zone {
    /// Coordinated universal time.
    pub const UTC: Zone = Zone(Some(TimeZone::UTC));

    /// The zone of this machine, or of the environment variable `TZ`.
    #[must_use]
    pub fn system() -> Zone {
        Zone(None)
    }

    /// The zone that a rule of POSIX describes, such as `CET-1CEST,M3.5.0,M10.5.0/3`; `None` if it is none.
    #[must_use]
    pub fn posix(rule: &str) -> Option<Zone> {
        TimeZone::posix(rule).ok().map(|zone| Zone(Some(zone)))
    }

    fn zone(&self) -> &TimeZone {
        self.0.as_ref().unwrap_or(&SYSTEM)
    }

    /// A time as people write it, see [`Timestamp::parse_written`]. Lengths of time are counted back from
    /// `now`.
    ///
    /// Fails with [`Error::InvalidTime`](gridctl_telemetry::Error::InvalidTime).
    pub fn parse(&self, text: &str, now: Timestamp) -> gridctl_telemetry::Result<Timestamp> {
        Timestamp::parse_written(text, self.local(now), |civil| self.civil_offset(civil))
    }

    /// The offset from UTC at a point in time.
    #[must_use]
    pub fn offset_at(&self, time: Timestamp) -> UtcOffset {
        let nanos = i128::from(time.unix_nanos());
        let offset = jiff::Timestamp::from_nanosecond(nanos)
            .map_or(0, |instant| self.zone().to_offset(instant).seconds());
        UtcOffset::from_whole_seconds(offset).unwrap_or(UtcOffset::UTC)
    }

    /// The hours of the zone.
    #[must_use]
    pub fn hours(&self) -> Interval {
        let zone = self.clone();
        Interval::hours(move |time| zone.offset_at(time))
    }

    /// The days of the zone.
    #[must_use]
    pub fn days(&self) -> Interval {
        let zone = self.clone();
        Interval::days(move |time| zone.offset_at(time))
    }

    /// A time as the calendar and the clock of this zone show it.
    #[must_use]
    pub fn local(&self, time: Timestamp) -> OffsetDateTime {
        OffsetDateTime::from(time).to_offset(self.offset_at(time))
    }

    /// The offset of a date and time. A time that a clock change skips is as long after the change as it is
    /// after the skipped hour began; one that comes twice is the first.
    fn civil_offset(&self, civil: PrimitiveDateTime) -> UtcOffset {
        let as_utc = Timestamp::from(civil.assume_utc());
        let instant = jiff::Timestamp::from_nanosecond(i128::from(as_utc.unix_nanos()))
            .ok()
            .and_then(|utc| {
                self.zone()
                    .to_timestamp(TimeZone::UTC.to_datetime(utc))
                    .ok()
            });
        let Some(instant) = instant else {
            return UtcOffset::UTC;
        };
        let seconds = as_utc.unix_nanos().div_euclid(1_000_000_000) - instant.as_second();
        i32::try_from(seconds)
            .ok()
            .and_then(|seconds| UtcOffset::from_whole_seconds(seconds).ok())
            .unwrap_or(UtcOffset::UTC)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gridctl_telemetry::external::time::{Date, Month};

    #[test]
    fn times_are_read_in_the_zone() {
        // Central European time and its summer time.
        let zone = Zone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let now = "2026-05-08T12:00:00Z".parse().unwrap();
        for (text, utc) in [
            ("12:00", "2026-05-08T10:00:00Z"),
            ("2026-01-08", "2026-01-07T23:00:00Z"),
            // Skipped, and there twice.
            ("2026-03-29 02:30", "2026-03-29T01:30:00Z"),
            ("2026-10-25 02:30", "2026-10-25T00:30:00Z"),
        ] {
            assert_eq!(zone.parse(text, now).unwrap().to_string(), utc, "{text}");
        }
        let midnight = Date::from_calendar_date(2026, Month::January, 8)
            .unwrap()
            .midnight();
        assert_eq!(zone.civil_offset(midnight).whole_hours(), 1);
        assert_eq!(zone.offset_at(now).whole_hours(), 2);
        for extreme in [Timestamp::MIN, Timestamp::MAX] {
            let _ = zone.local(extreme);
        }
        assert_eq!(Zone::posix("nowhere"), None);
    }
}
