//! Lengths of time: round ones, which readers can add up in their heads, and steps back from a time.

use gridctl_telemetry::Timestamp;
use std::time::Duration;

/// A second, in nanoseconds.
pub(crate) const SECOND: i64 = 1_000_000_000;
pub(crate) const MINUTE: i64 = 60 * SECOND;
pub(crate) const HOUR: i64 = 60 * MINUTE;
pub(crate) const DAY: i64 = 24 * HOUR;

/// Round lengths from a second to four weeks, in nanoseconds, in ascending order.
pub(crate) const ROUND: [i64; 22] = [
    SECOND,
    2 * SECOND,
    5 * SECOND,
    10 * SECOND,
    15 * SECOND,
    30 * SECOND,
    MINUTE,
    2 * MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    3 * HOUR,
    6 * HOUR,
    12 * HOUR,
    DAY,
    2 * DAY,
    7 * DAY,
    14 * DAY,
    28 * DAY,
];

/// The time that is `length` before `time`.
pub(crate) fn before(time: Timestamp, length: Duration) -> Timestamp {
    let nanos = i64::try_from(length.as_nanos()).unwrap_or(i64::MAX);
    Timestamp::from_unix_nanos(time.unix_nanos().saturating_sub(nanos))
}
