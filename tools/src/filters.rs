//! Which records a command is about, by time and by what they say: the same options in all commands.
//!
//! Commands flatten [`FilterArgs`], call [`FilterArgs::read`] once, and narrow each query with
//! [`Filters::narrow`].

use crate::{screen::Screen, window::WindowArgs};
use anyhow::bail;
use gridctl_telemetry::{
    Query, Signal,
    query::{Filter, TextPattern, TimeRange},
};
use gridctl_telemetry_server::input::{self, FilterText, Invalid, LevelRange};

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
        let range = self.window.range(screen)?;
        let read = self.text().read();
        let input::Filters { filter, patterns } =
            read.map_err(|invalid| option(invalid, screen))?;
        Ok(Filters {
            range,
            filter,
            patterns,
        })
    }

    fn text(&self) -> FilterText {
        FilterText {
            level: self.level,
            grep: self.grep.clone(),
            not_grep: self.not_grep.clone(),
            fixed_strings: self.fixed_strings,
            word_regexp: self.word_regexp,
            case_sensitive: self.case_sensitive,
            field: self.field.clone(),
            not_field: self.not_field.clone(),
            trace: self.trace.clone(),
            span: self.span.clone(),
            ..FilterText::default()
        }
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
    pub(crate) fn read(&self, signal: Signal, screen: &Screen) -> anyhow::Result<Option<Filter>> {
        let text = FilterText {
            name: self.name.clone(),
            duration_min: self.min_duration.map(Into::into),
            duration_max: self.max_duration.map(Into::into),
            ..FilterText::default()
        };
        let read = text.read().map_err(|invalid| option(invalid, screen))?;
        if text.is_about_spans() && signal != Signal::Traces {
            bail!("--name, --min-duration and --max-duration are about spans: add --signal traces");
        }
        Ok(read.filter)
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

/// The error about an option, which it names.
pub(crate) fn option(invalid: Invalid, screen: &Screen) -> anyhow::Error {
    match invalid {
        Invalid::Value { name, source } => anyhow::Error::new(source).context(format!("--{name}")),
        Invalid::Inverted { since, until } => anyhow::anyhow!(
            "--since {} is after --until {}: exchange them",
            screen.time(since),
            screen.time(until)
        ),
        other => anyhow::Error::new(other),
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
    fn an_error_names_the_option() {
        for (args, expected) in [
            (args(|args| args.grep = vec!["a(".into()]), "--grep: "),
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
        ] {
            let error = read(&args).unwrap_err();
            let error = format!("{error:#}");
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
