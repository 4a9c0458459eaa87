//! Intervals of time: of one length, or the hours and days of a zone.

use crate::{
    error::{Error, Result},
    time::Timestamp,
};
use ::time::UtcOffset;
use std::{fmt, sync::Arc, time::Duration};

/// Intervals that cover all time without a gap, for [`CountBy::Interval`](crate::query::CountBy).
///
/// ```
/// use gridctl_telemetry::{Timestamp, query::Interval};
/// use std::time::Duration;
///
/// let quarter = Interval::every(Duration::from_secs(15 * 60))?;
/// let noon: Timestamp = "2026-05-08T12:07:30Z".parse()?;
/// assert_eq!(quarter.start_of(noon).to_string(), "2026-05-08T12:00:00Z");
/// # Ok::<(), gridctl_telemetry::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Interval(Kind);

#[derive(Debug, Clone)]
enum Kind {
    /// The length in nanoseconds.
    Length(i64),
    Hours(Zone),
    Days(Zone),
}

impl Interval {
    const MILLIS_MAX: u64 = 366 * 24 * 3_600_000;

    /// Intervals of this length. One begins at 1970-01-01T00:00:00Z.
    ///
    /// Fails with [`Error::InvalidOption`] for less than a millisecond and more than 366 days.
    pub fn every(length: Duration) -> Result<Interval> {
        let millis = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        match i64::try_from(length.as_nanos()) {
            Ok(nanos) if (1..=Interval::MILLIS_MAX).contains(&millis) => {
                Ok(Interval(Kind::Length(nanos)))
            }
            _ => Err(Error::InvalidOption {
                option: "interval, in milliseconds",
                value: millis,
                min: 1,
                max: Interval::MILLIS_MAX,
            }),
        }
    }

    /// The hours of a zone, which is the offset from UTC at a point in time. An hour that the clock
    /// shows twice, when summer time ends, is two hours.
    #[must_use]
    pub fn hours(zone: impl Fn(Timestamp) -> UtcOffset + Send + Sync + 'static) -> Interval {
        Interval(Kind::Hours(Zone::new(zone)))
    }

    /// The days of a zone. A day begins at midnight, or at the first moment after it where the clock
    /// skips midnight.
    #[must_use]
    pub fn days(zone: impl Fn(Timestamp) -> UtcOffset + Send + Sync + 'static) -> Interval {
        Interval(Kind::Days(Zone::new(zone)))
    }

    /// When the interval of `at` begins. Times are in one interval if this is the same for both.
    #[must_use]
    pub fn start_of(&self, at: Timestamp) -> Timestamp {
        match &self.0 {
            Kind::Length(length) => Timestamp::from_unix_nanos(floor(at.unix_nanos(), *length)),
            Kind::Hours(zone) => zone.hour(at),
            Kind::Days(zone) => zone.day(at),
        }
    }
}

const HOUR_NANOS: i64 = 3_600_000_000_000;
const DAY_NANOS: i64 = 24 * HOUR_NANOS;

/// The offset from UTC at each point in time. UTC by default.
#[derive(Clone, Default)]
pub(super) struct Zone(Option<Arc<dyn Fn(Timestamp) -> UtcOffset + Send + Sync>>);

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.0.is_some() { "Zone" } else { "Utc" };
        f.write_str(name)
    }
}

impl Zone {
    pub(super) fn new(offset: impl Fn(Timestamp) -> UtcOffset + Send + Sync + 'static) -> Zone {
        Zone(Some(Arc::new(offset)))
    }

    /// When the hour of `at` begins.
    pub(super) fn hour(&self, at: Timestamp) -> Timestamp {
        let offset = self.offset_nanos(at);
        let local = at.unix_nanos().saturating_add(offset);
        Timestamp::from_unix_nanos(floor(local, HOUR_NANOS).saturating_sub(offset))
    }

    /// When the day of `at` begins.
    pub(super) fn day(&self, at: Timestamp) -> Timestamp {
        let offset = self.offset_nanos(at);
        let midnight = floor(at.unix_nanos().saturating_add(offset), DAY_NANOS);
        let guess = Timestamp::from_unix_nanos(midnight.saturating_sub(offset));
        // The offset may have changed since midnight.
        let offset = self.offset_nanos(guess);
        Timestamp::from_unix_nanos(midnight.saturating_sub(offset))
    }

    fn offset_nanos(&self, at: Timestamp) -> i64 {
        let seconds = self
            .0
            .as_ref()
            .map_or(0, |offset| offset(at).whole_seconds());
        i64::from(seconds) * 1_000_000_000
    }
}

fn floor(nanos: i64, unit: i64) -> i64 {
    nanos.saturating_sub(nanos.rem_euclid(unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::time::macros::offset;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// Central European time in 2026.
    fn berlin() -> Zone {
        let summer = at("2026-03-29T01:00:00Z")..at("2026-10-25T01:00:00Z");
        Zone::new(move |time| {
            if summer.contains(&time) {
                offset!(+2)
            } else {
                offset!(+1)
            }
        })
    }

    #[test]
    fn hours_and_days_are_those_of_the_zone() {
        let zone = Zone::new(|_| offset!(+05:30));
        let time = at("2026-05-08T20:10:00Z");
        assert_eq!(zone.hour(time), at("2026-05-08T19:30:00Z"));
        assert_eq!(zone.day(time), at("2026-05-08T18:30:00Z"));
        assert_eq!(Zone::default().hour(time), at("2026-05-08T20:00:00Z"));
        assert_eq!(Zone::default().day(time), at("2026-05-08T00:00:00Z"));
        let before_1970 = at("1969-12-31T23:59:59Z");
        assert_eq!(Zone::default().day(before_1970), at("1969-12-31T00:00:00Z"));
    }

    #[test]
    fn a_day_on_which_the_clock_changes_is_one_day() {
        let zone = berlin();
        for (first, last) in [
            ("2026-03-28T23:00:00Z", "2026-03-29T21:59:59Z"),
            ("2026-10-24T22:00:00Z", "2026-10-25T22:59:59Z"),
        ] {
            let (first, last) = (at(first), at(last));
            let mut time = first;
            while time <= last {
                assert_eq!(zone.day(time), first, "{time}");
                time = Timestamp::from_unix_nanos(time.unix_nanos() + HOUR_NANOS / 4);
            }
            assert_eq!(zone.day(last), first);
            let next = Timestamp::from_unix_nanos(last.unix_nanos() + 1_000_000_000);
            assert_eq!(zone.day(next), next);
        }
    }

    #[test]
    fn an_hour_that_the_clock_shows_twice_is_two_hours() {
        let zone = berlin();
        assert_eq!(
            zone.hour(at("2026-10-25T00:30:00Z")),
            at("2026-10-25T00:00:00Z")
        );
        assert_eq!(
            zone.hour(at("2026-10-25T01:30:00Z")),
            at("2026-10-25T01:00:00Z")
        );
    }

    #[test]
    fn a_day_begins_later_where_the_clock_skips_midnight() {
        let change = at("2018-11-04T03:00:00Z");
        let zone = Zone::new(move |time| {
            if time < change {
                offset!(-3)
            } else {
                offset!(-2)
            }
        });
        assert_eq!(
            zone.day(at("2018-11-04T02:59:59Z")),
            at("2018-11-03T03:00:00Z")
        );
        assert_eq!(zone.day(change), change);
        assert_eq!(zone.day(at("2018-11-05T01:59:59Z")), change);
        assert_eq!(
            zone.day(at("2018-11-05T02:00:00Z")),
            at("2018-11-05T02:00:00Z")
        );
    }

    #[test]
    fn the_extremes_do_not_overflow() {
        let zone = Zone::new(|_| offset!(+14));
        let quarter = Interval::every(Duration::from_secs(900)).unwrap();
        for time in [Timestamp::MIN, Timestamp::MAX] {
            let _ = (zone.hour(time), zone.day(time), quarter.start_of(time));
        }
    }

    #[test]
    fn lengths_that_count_nothing_are_refused() {
        for length in [0, 999_999, 367 * 24 * 3_600_000_000_000] {
            let refused = Interval::every(Duration::from_nanos(length));
            assert!(
                matches!(refused, Err(Error::InvalidOption { .. })),
                "{length}"
            );
        }
    }
}
