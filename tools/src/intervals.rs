//! Hours, days and other intervals of time, as rows of a table.

use crate::screen::Screen;
use gridctl_telemetry::Timestamp;
use std::time::Duration;

/// How exactly the beginning of an interval is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Precision {
    Day,
    Minute,
    Second,
    Millisecond,
}

impl Precision {
    /// What the beginnings of intervals of this length need.
    pub(crate) fn of(length: Duration) -> Precision {
        if length.subsec_nanos() != 0 {
            Precision::Millisecond
        } else if length.as_secs().is_multiple_of(60) {
            Precision::Minute
        } else {
            Precision::Second
        }
    }

    /// The beginning of an interval: in the reader's zone on a terminal, else in RFC 3339 and UTC.
    pub(crate) fn write(self, begin: Timestamp, screen: &Screen) -> String {
        if !screen.is_terminal() {
            return screen.time(begin);
        }
        // 2026-05-08 14:03:20.500
        let text = screen.clock_time(begin);
        let columns = match self {
            Precision::Day => 10,
            Precision::Minute => 16,
            Precision::Second => 19,
            Precision::Millisecond => 23,
        };
        text.chars().take(columns).collect()
    }
}
