//! Times as people write them: how long ago, a day, a time of day, and the exact forms.

use super::Timestamp;
use crate::error::{Error, Result, excerpt};
use ::time::{
    Date, Duration, OffsetDateTime, PrimitiveDateTime, Time, UtcOffset,
    format_description::FormatItem, macros::format_description,
};

const DATE: &[FormatItem<'_>] = format_description!(version = 2, "[year]-[month]-[day]");
const TIME_OF_DAY: &[FormatItem<'_>] = format_description!(
    version = 2,
    "[hour padding:none]:[minute][optional [:[second][optional [.[subsecond]]]]]"
);

impl Timestamp {
    /// Parses a time as people write it.
    ///
    /// | form | meaning |
    /// |---|---|
    /// | `2h`, `90s`, `1day 6h`, `2h ago`, `-2h` | so long before `now` |
    /// | `now`, `today`, `yesterday` | `now`, and the first moment of the day |
    /// | `2026-05-08` | the first moment of the day |
    /// | `14:03`, `14:03:20.5` | the time of the present day, also when it is still to come |
    /// | `2026-05-08 14:03`, `2026-05-08T14:03`, `yesterday 14:03` | the time of that day |
    /// | `2026-05-08T14:03:20Z`, `2026-05-08 14:03 +02:00` | the time in that zone |
    /// | `@1778248980`, `@1778248980.5` | seconds since the Unix epoch |
    ///
    /// A time without a zone is in the caller's: `now` has the offset that is in force there now, which
    /// decides what today is, and `offset_of` returns the offset for a date and time in it. Words may
    /// be in any case.
    ///
    /// Fails with [`Error::InvalidTime`], whose message names these forms. A length of time that
    /// reaches before [`Timestamp::MIN`] is that time.
    ///
    /// ```
    /// use gridctl_telemetry::Timestamp;
    /// use time::{UtcOffset, macros::datetime};
    ///
    /// let now = datetime!(2026-05-08 14:03 +2);
    /// let berlin = |_| UtcOffset::from_hms(2, 0, 0).unwrap();
    /// let at = |text| Timestamp::parse_written(text, now, berlin).unwrap().to_string();
    /// assert_eq!(at("2h"), "2026-05-08T10:03:00Z");
    /// assert_eq!(at("yesterday 9:30"), "2026-05-07T07:30:00Z");
    /// assert_eq!(at("2026-05-01"), "2026-04-30T22:00:00Z");
    /// ```
    pub fn parse_written(
        text: &str,
        now: OffsetDateTime,
        offset_of: impl FnOnce(PrimitiveDateTime) -> UtcOffset,
    ) -> Result<Timestamp> {
        parse(text.trim(), now, offset_of).ok_or_else(|| Error::InvalidTime {
            text: excerpt(text),
        })
    }
}

fn parse(
    text: &str,
    now: OffsetDateTime,
    offset_of: impl FnOnce(PrimitiveDateTime) -> UtcOffset,
) -> Option<Timestamp> {
    if let Ok((timestamp, _)) = Timestamp::parse_rfc3339(text) {
        return Some(timestamp);
    }
    if let Some(seconds) = text.strip_prefix('@') {
        return unix_time(seconds);
    }
    let text = text.to_ascii_lowercase();
    if text == "now" {
        return in_range(now);
    }
    if let Some(distance) = distance(&text) {
        let before = now.checked_sub(distance);
        return Some(before.map_or(Timestamp::MIN, Timestamp::from));
    }
    let (civil, zone) = split_zone(&text);
    let civil = civil_time(civil, now.date())?;
    let offset = match zone {
        Some(zone) => zone_offset(zone)?,
        None => offset_of(civil),
    };
    in_range(civil.assume_offset(offset))
}

/// A time within the range of timestamps: a clamped one would silently be another time.
fn in_range(time: OffsetDateTime) -> Option<Timestamp> {
    let nanos = i64::try_from(time.unix_timestamp_nanos()).ok()?;
    Some(Timestamp::from_unix_nanos(nanos))
}

/// Seconds since the Unix epoch, with up to nine digits of a fraction.
fn unix_time(seconds: &str) -> Option<Timestamp> {
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
    let is_digits = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits || fraction.len() > 9 {
        return None;
    }
    let nanos: i64 = format!("{fraction:0<9}").parse().ok()?;
    let whole_nanos = whole.parse::<i64>().ok()?.checked_mul(1_000_000_000)?;
    let nanos = if whole.starts_with('-') {
        -nanos
    } else {
        nanos
    };
    Some(Timestamp::from_unix_nanos(whole_nanos.checked_add(nanos)?))
}

/// How long ago: `2h`, `2h ago`, `-2h`.
fn distance(text: &str) -> Option<Duration> {
    let length = text
        .strip_suffix("ago")
        .or_else(|| text.strip_prefix('-'))
        .unwrap_or(text);
    let length = humantime::parse_duration(length.trim()).ok()?;
    Some(Duration::try_from(length).unwrap_or(Duration::MAX))
}

/// Splits the zone from the end of a date and time: `z`, `utc`, `+02:00`, `-0400`.
fn split_zone(text: &str) -> (&str, Option<&str>) {
    for name in ["utc", "z"] {
        if let Some(civil) = text.strip_suffix(name) {
            return (civil.trim_end(), Some(name));
        }
    }
    // The hyphens of a date are before the first colon.
    let colon = text.find(':').unwrap_or(text.len());
    match text.rfind(['+', '-']) {
        Some(at) if at > colon => {
            let (civil, zone) = text.split_at(at);
            (civil.trim_end(), Some(zone))
        }
        _ => (text, None),
    }
}

fn zone_offset(zone: &str) -> Option<UtcOffset> {
    if matches!(zone, "utc" | "z") {
        return Some(UtcOffset::UTC);
    }
    let formats = [
        format_description!("[offset_hour sign:mandatory]:[offset_minute]"),
        format_description!("[offset_hour sign:mandatory][offset_minute]"),
        format_description!("[offset_hour sign:mandatory]"),
    ];
    let mut parsed = formats
        .into_iter()
        .map(|format| UtcOffset::parse(zone, format));
    parsed.find_map(Result::ok)
}

/// A day, a time of `today`, or both.
fn civil_time(text: &str, today: Date) -> Option<PrimitiveDateTime> {
    if let Ok(time) = Time::parse(text, TIME_OF_DAY) {
        return Some(PrimitiveDateTime::new(today, time));
    }
    // `t`: the text is in lower case. No name of a day begins a second part with it.
    let (day, time) = match text.split_once(char::is_whitespace) {
        Some((day, time)) => (day, Some(time.trim_start())),
        None => match text.split_once('t') {
            Some((day, time)) if day.starts_with(|char: char| char.is_ascii_digit()) => {
                (day, Some(time))
            }
            _ => (text, None),
        },
    };
    let day = match day {
        "today" => today,
        "yesterday" => today.previous_day()?,
        date => Date::parse(date, DATE).ok()?,
    };
    let time = match time {
        Some(time) => Time::parse(time, TIME_OF_DAY).ok()?,
        None => Time::MIDNIGHT,
    };
    Some(PrimitiveDateTime::new(day, time))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::time::macros::{datetime, offset};
    use proptest::prelude::*;

    const NOW: OffsetDateTime = datetime!(2026-05-08 01:30 +2);

    /// Central European time, whose clocks go forward on 2026-03-29.
    fn berlin(civil: PrimitiveDateTime) -> UtcOffset {
        if civil < datetime!(2026-03-29 02:00) {
            offset!(+1)
        } else {
            offset!(+2)
        }
    }

    fn read(text: &str) -> Option<String> {
        Timestamp::parse_written(text, NOW, berlin)
            .ok()
            .map(|time| time.to_string())
    }

    #[test]
    fn every_form_is_read() {
        for (text, expected) in [
            ("now", "2026-05-07T23:30:00Z"),
            ("2h", "2026-05-07T21:30:00Z"),
            ("2h ago", "2026-05-07T21:30:00Z"),
            ("-2h", "2026-05-07T21:30:00Z"),
            ("1day 6h", "2026-05-06T17:30:00Z"),
            ("90s", "2026-05-07T23:28:30Z"),
            // It is the 8th where the caller is, and still the 7th in UTC.
            ("today", "2026-05-07T22:00:00Z"),
            ("Yesterday", "2026-05-06T22:00:00Z"),
            ("yesterday 14:03", "2026-05-07T12:03:00Z"),
            ("14:03", "2026-05-08T12:03:00Z"),
            ("9:05:30.25", "2026-05-08T07:05:30.25Z"),
            ("14:03Z", "2026-05-08T14:03:00Z"),
            ("2026-05-08", "2026-05-07T22:00:00Z"),
            ("2026-05-08 12:00", "2026-05-08T10:00:00Z"),
            ("2026-05-08T12:00", "2026-05-08T10:00:00Z"),
            ("2026-01-08 12:00", "2026-01-08T11:00:00Z"),
            ("2026-05-08 12:00:07 UTC", "2026-05-08T12:00:07Z"),
            ("2026-05-08 12:00 -04:00", "2026-05-08T16:00:00Z"),
            ("2026-05-08 12:00+0530", "2026-05-08T06:30:00Z"),
            ("2026-05-08T12:00:00.5+02:00", "2026-05-08T10:00:00.5Z"),
            ("2026-05-08t12:00:00z", "2026-05-08T12:00:00Z"),
            ("@0", "1970-01-01T00:00:00Z"),
            ("@1778241600.000000001", "2026-05-08T12:00:00.000000001Z"),
            ("@-1.5", "1969-12-31T23:59:58.5Z"),
            ("  2026-05-08  12:00 ", "2026-05-08T10:00:00Z"),
            ("1000years", "1677-09-21T00:12:43.145224192Z"),
        ] {
            assert_eq!(read(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_the_known_forms() {
        for text in [
            "",
            "12",
            "tomorrow",
            "-",
            "ago",
            "@",
            "@x",
            "@1.",
            "@1.0000000001",
            "@99999999999",
            "2026-13-01",
            "2026-05-08 25:00",
            "24:00",
            "12:60",
            "2026-05-08 noon",
            "9999-01-01",
            "2026-05-08 12:00 +99:00",
            "yesterdayt12:00",
            "0012:00",
            "2h 2h agoago",
        ] {
            let error = Timestamp::parse_written(text, NOW, berlin).unwrap_err();
            let message = error.to_string();
            assert!(matches!(error, Error::InvalidTime { .. }), "{text}");
            for form in [
                "2h",
                "yesterday",
                "14:03",
                "2026-05-08 14:03",
                "@1778248980",
            ] {
                assert!(message.contains(form), "{message}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[-+@:. 0-9a-zT]{0,24}", any in any::<String>()) {
            let _ = read(&text);
            let _ = read(&any);
        }

        #[test]
        fn what_is_printed_is_read(nanos: i64) {
            let time = Timestamp::from_unix_nanos(nanos);
            let printed = time.to_string();
            prop_assert_eq!(read(&printed), Some(printed.clone()));
            let spaced = printed.replace('T', " ");
            prop_assert_eq!(read(&spaced), Some(printed));
        }
    }
}
