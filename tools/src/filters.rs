//! Which records a command is about, by time and by what they say: the same options in all commands.
//!
//! Commands flatten [`FilterArgs`], call [`FilterArgs::read`] once, and narrow each query with
//! [`Filters::narrow`].

use crate::{screen::Screen, window::WindowArgs};
use anyhow::{Context, bail};
use gridctl_telemetry::{
    Level, Query, Signal,
    query::{Filter, TextPattern, TimeRange},
};
use std::str::FromStr;

/// The heading of these options.
const HEADING: &str = "Filters (a record must pass all of them)";

/// The filters of a command about records.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = HEADING)]
pub(crate) struct FilterArgs {
    #[command(flatten)]
    window: WindowArgs,
    /// Only records of this severity or a higher one, or of a range such as debug..info. A failed span
    /// counts as error, any other span as info
    #[arg(long, short, value_name = "LEVEL", allow_hyphen_values = true)]
    level: Option<LevelRange>,
    /// Only records in which this regular expression is found: in the message, the name of a span or any
    /// string among the values, in upper or lower case. May be given several times: all must be found
    #[arg(long, short, value_name = "PATTERN", allow_hyphen_values = true)]
    grep: Vec<String>,
    /// Only records in which this regular expression is not found. May be given several times
    #[arg(long, value_name = "PATTERN", allow_hyphen_values = true)]
    not_grep: Vec<String>,
    /// Take the patterns as plain text
    #[arg(long, short = 'F')]
    fixed_strings: bool,
    /// Find the patterns as whole words only
    #[arg(long, short)]
    word_regexp: bool,
    /// Distinguish upper and lower case in the patterns
    #[arg(long, short = 's')]
    case_sensitive: bool,
    /// Only records with this entry: key=value, key!=value, key>5, >=, <, <=, key~REGEX, key!~REGEX, key
    /// (exists) or !key. Nested keys are joined by points. May be given several times
    #[arg(long, value_name = "KEY=VALUE", allow_hyphen_values = true)]
    field: Vec<String>,
    /// Only records that --field would not show. May be given several times
    #[arg(long, value_name = "KEY=VALUE", allow_hyphen_values = true)]
    not_field: Vec<String>,
    /// Only records of the trace with this id, or this part of an id. May be given several times: any
    /// may match
    #[arg(long, value_name = "ID")]
    trace: Vec<String>,
    /// Only records of the span with this id, or this part of an id. May be given several times: any may
    /// match
    #[arg(long, value_name = "ID")]
    span: Vec<String>,
}

/// Filters that were read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filters {
    /// The range of time.
    pub(crate) range: TimeRange,
    /// What a record must say; `None` for anything.
    pub(crate) filter: Option<Filter>,
    /// The patterns of --grep, whose matches are highlighted.
    pub(crate) patterns: Vec<TextPattern>,
}

impl FilterArgs {
    /// Reads the options.
    ///
    /// Fails when a time, an expression, a pattern or an id is malformed; the error names the option.
    pub(crate) fn read(&self, screen: &Screen) -> anyhow::Result<Filters> {
        self.read_within(self.window.range(screen)?)
    }

    #[allow(dead_code, reason = "for commands about the last day")]
    /// Like [`FilterArgs::read`], with a range that begins as `default` says, such as `24h`, if neither
    /// --since nor --until is given.
    pub(crate) fn read_or(&self, default: &str, screen: &Screen) -> anyhow::Result<Filters> {
        self.read_within(self.window.range_or(default, screen)?)
    }

    fn read_within(&self, range: TimeRange) -> anyhow::Result<Filters> {
        let patterns = self.patterns("--grep", &self.grep)?;
        let mut filters: Vec<Filter> = Vec::new();
        filters.extend(self.level.map(LevelRange::filter));
        filters.extend(patterns.iter().cloned().map(Filter::text));
        let not_found = self.patterns("--not-grep", &self.not_grep)?;
        filters.extend(not_found.into_iter().map(|pattern| !Filter::text(pattern)));
        filters.extend(each("--field", &self.field, Filter::field)?);
        let not_fields = each("--not-field", &self.not_field, Filter::field)?;
        filters.extend(not_fields.into_iter().map(|filter| !filter));
        for (option, ids, read) in [
            ("--trace", &self.trace, Filter::trace_id as fn(&str) -> _),
            ("--span", &self.span, Filter::span_id),
        ] {
            if !ids.is_empty() {
                filters.push(Filter::any(each(option, ids, read)?));
            }
        }
        Ok(Filters {
            range,
            filter: (!filters.is_empty()).then(|| Filter::all(filters)),
            patterns,
        })
    }

    fn patterns(&self, option: &str, texts: &[String]) -> anyhow::Result<Vec<TextPattern>> {
        each(option, texts, |text| {
            let pattern = match (self.fixed_strings, self.word_regexp) {
                (true, true) => TextPattern::words(text),
                (true, false) => TextPattern::substring(text),
                (false, true) => {
                    // Read alone first: `a)|(b` is an error, although it is none between parentheses.
                    TextPattern::regex(text)?;
                    TextPattern::regex(&format!(r"\b{{start-half}}(?:{text})\b{{end-half}}"))
                }
                (false, false) => TextPattern::regex(text),
            }?;
            if self.case_sensitive {
                pattern.case_sensitive()
            } else {
                Ok(pattern)
            }
        })
    }
}

/// Filters of what only spans have.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Filters of spans (--signal traces)")]
pub(crate) struct SpanFilterArgs {
    /// Only spans in whose name this regular expression is found
    #[arg(long, value_name = "PATTERN", allow_hyphen_values = true)]
    name: Option<String>,
    /// Only spans that took this long or longer, such as 500ms or 2s
    #[arg(long, value_name = "DURATION")]
    min_duration: Option<humantime::Duration>,
    /// Only spans that took this long or shorter
    #[arg(long, value_name = "DURATION")]
    max_duration: Option<humantime::Duration>,
}

impl SpanFilterArgs {
    /// Reads the options, for records of one signal.
    ///
    /// Fails when the pattern is malformed, and when the records are no spans.
    pub(crate) fn read(&self, signal: Signal) -> anyhow::Result<Vec<Filter>> {
        let mut filters = Vec::new();
        if let Some(name) = &self.name {
            let pattern = TextPattern::regex(name).context("--name")?;
            filters.push(Filter::name(pattern));
        }
        if let Some(min) = self.min_duration {
            filters.push(Filter::duration(*min..));
        }
        if let Some(max) = self.max_duration {
            filters.push(Filter::duration(..=*max));
        }
        if !filters.is_empty() && signal != Signal::Traces {
            bail!("--name, --min-duration and --max-duration are about spans: add --signal traces");
        }
        Ok(filters)
    }
}

impl Filters {
    /// Only the records of `query` that pass.
    pub(crate) fn narrow(&self, query: Query) -> Query {
        let query = query.range(self.range);
        match &self.filter {
            Some(filter) => query.filter(filter.clone()),
            None => query,
        }
    }
}

/// Reads each value of an option, which an error names.
fn each<T>(
    option: &str,
    texts: &[String],
    read: impl Fn(&str) -> gridctl_telemetry::Result<T>,
) -> anyhow::Result<Vec<T>> {
    texts
        .iter()
        .map(|text| read(text).context(option.to_owned()))
        .collect()
}

/// A range of severities, bounds included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LevelRange {
    min: Option<Level>,
    max: Option<Level>,
}

impl LevelRange {
    fn filter(self) -> Filter {
        let min = self.min.map(Filter::level_at_least);
        Filter::all(min.into_iter().chain(self.max.map(Filter::level_at_most)))
    }
}

impl FromStr for LevelRange {
    type Err = gridctl_telemetry::Error;

    /// Reads `LEVEL`, which has no upper bound, or `LEVEL..LEVEL`, either of which may be left out.
    fn from_str(text: &str) -> gridctl_telemetry::Result<LevelRange> {
        let bound = |text: &str| {
            let text = text.trim();
            (!text.is_empty()).then(|| text.parse()).transpose()
        };
        Ok(match text.split_once("..") {
            Some((min, max)) => LevelRange {
                min: bound(min)?,
                max: bound(max)?,
            },
            None => LevelRange {
                min: Some(text.trim().parse()?),
                max: None,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::screen::ScreenArgs;

    fn args(change: impl FnOnce(&mut FilterArgs)) -> FilterArgs {
        let mut args = FilterArgs::default();
        change(&mut args);
        args
    }

    fn read(args: &FilterArgs) -> anyhow::Result<Filters> {
        args.read(&Screen::new(&ScreenArgs::default()))
    }

    #[test]
    fn ranges_of_levels_are_read() {
        let range = |text: &str| text.parse::<LevelRange>().unwrap();
        let (min, max) = (Some(Level::WARN), Some(Level::ERROR));
        assert_eq!(range("warn"), LevelRange { min, max: None });
        assert_eq!(range("WARN..error"), LevelRange { min, max });
        assert_eq!(range("..error"), LevelRange { min: None, max });
        assert_eq!(range("warning.."), LevelRange { min, max: None });
        for bad in ["", "loud", "warn..loud"] {
            assert!(bad.parse::<LevelRange>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_error_names_the_option() {
        for (args, expected) in [
            (
                args(|args| args.grep = vec!["ok".into(), "a(".into()]),
                "--grep: ",
            ),
            (
                args(|args| args.not_grep = vec!["[".into()]),
                "--not-grep: ",
            ),
            (args(|args| args.field = vec!["=5".into()]), "--field: "),
            (
                args(|args| args.not_field = vec!["a>b".into()]),
                "--not-field: ",
            ),
            (args(|args| args.trace = vec!["xyz".into()]), "--trace: "),
            (args(|args| args.span = vec![String::new()]), "--span: "),
            (
                args(|args| {
                    args.grep = vec!["a)|(b".into()];
                    args.word_regexp = true;
                }),
                "--grep: ",
            ),
        ] {
            let error = read(&args).unwrap_err();
            let error = format!("{error:#}");
            assert!(error.starts_with(expected), "{error}");
        }
        // A pattern of text needs no syntax.
        let fixed = args(|args| {
            args.grep = vec!["a(".into()];
            args.fixed_strings = true;
        });
        assert_eq!(read(&fixed).unwrap().patterns.len(), 1);
    }

    #[test]
    fn patterns_are_read_as_asked() {
        let found = |text: &str, change: fn(&mut FilterArgs)| {
            let mut args = args(change);
            args.grep = vec!["re.used".into()];
            read(&args).unwrap().patterns[0].is_match(text)
        };
        assert!(found("was REFUSED by", |_| {}));
        assert!(!found("was REFUSED by", |args| args.case_sensitive = true));
        assert!(!found("was refused by", |args| args.fixed_strings = true));
        assert!(found("was re.used by", |args| args.fixed_strings = true));
        assert!(!found("was refusedly", |args| args.word_regexp = true));
        assert!(found("was refused by", |args| args.word_regexp = true));
        assert!(!found("was re.used2 by", |args| {
            args.word_regexp = true;
            args.fixed_strings = true;
        }));
    }
}
