//! Hours, days and other intervals of time, as rows of a table.

use crate::screen::Screen;
use gridctl_telemetry::Timestamp;

/// How exactly the beginning of an interval is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Precision {
    Day,
    Minute,
    Millisecond,
}

impl Precision {
    /// The beginning of an interval: in the reader's zone on a terminal, else in RFC 3339 and UTC.
    pub(crate) fn write(self, begin: Timestamp, screen: &Screen) -> String {
        if !screen.is_terminal() {
            return screen.time(begin);
        }
        let local = screen.local(begin);
        match self {
            Precision::Day => local.date().to_string(),
            Precision::Minute => {
                format!("{} {:02}:{:02}", local.date(), local.hour(), local.minute())
            }
            Precision::Millisecond => screen.clock_time(begin),
        }
    }
}
