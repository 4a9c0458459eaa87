//! `--since` and `--until`: the range of time that a command looks at.

use crate::{filters::option, screen::Screen};
use anyhow::Context;
use gridctl_telemetry::{Timestamp, query::TimeRange};
use gridctl_telemetry_server::input::WindowText;

/// The range of time of the records.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct WindowArgs {
    /// Only records from this time on: 2h (ago), today, yesterday, 2026-05-08, 14:03, "2026-05-08 14:03",
    /// RFC 3339 or @UNIX
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<String>,
    /// Only records before this time, in the same forms
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    until: Option<String>,
}

impl WindowArgs {
    /// The range; unbounded on a side for which no time is given.
    ///
    /// Fails when a time is in no known form, and when the range ends before it begins.
    pub(crate) fn range(&self, screen: &Screen) -> anyhow::Result<TimeRange> {
        let text = WindowText {
            since: self.since.clone(),
            until: self.until.clone(),
        };
        let range = text.range(screen.zone(), screen.now());
        range.map_err(|invalid| option(invalid, screen))
    }

    /// The range, which begins as `default` says, such as `24h`, if neither time is given.
    pub(crate) fn range_or(&self, default: &str, screen: &Screen) -> anyhow::Result<TimeRange> {
        let mut range = self.range(screen)?;
        if range == TimeRange::default() {
            range.since = read("the default", Some(default), screen)?;
        }
        Ok(range)
    }
}

/// Reads one time, which the option `option` has.
pub(crate) fn read(
    option: &str,
    text: Option<&str>,
    screen: &Screen,
) -> anyhow::Result<Option<Timestamp>> {
    text.map(|text| screen.parse_time(text).context(option.to_owned()))
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::screen::ScreenArgs;

    fn range(since: Option<&str>, until: Option<&str>) -> anyhow::Result<TimeRange> {
        let args = WindowArgs {
            since: since.map(Into::into),
            until: until.map(Into::into),
        };
        args.range_or("24h", &Screen::new(&ScreenArgs::default()))
    }

    #[test]
    fn ranges_are_read_or_refused() {
        let day = range(None, None).unwrap();
        assert!(day.since.is_some() && day.until.is_none());
        let hour = range(Some("2h"), Some("1h")).unwrap();
        assert!(hour.since < hour.until);
        assert_eq!(range(None, Some("now")).unwrap().since, None);
        let bad = range(Some("soon"), None).unwrap_err();
        assert!(format!("{bad:#}").starts_with("--since: cannot read the time \"soon\""));
        let inverted = range(Some("1h"), Some("2h")).unwrap_err();
        assert!(inverted.to_string().contains("is after --until"));
    }
}
