//! What a record must say to be found.

use super::Invalid;
use gridctl_telemetry::{
    Level, Result,
    external::opentelemetry_proto::tonic::trace::v1::{span::SpanKind, status::StatusCode},
    query::{Filter, TextPattern},
};
use std::{fmt, str::FromStr, time::Duration};

/// The parts of a filter as they were written. A record must pass all of them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FilterText {
    /// The severity. A failed span counts as error, any other span as info.
    pub level: Option<LevelRange>,
    /// Patterns that are all found in the record: see [`Filter::text`].
    pub grep: Vec<String>,
    /// Patterns none of which is found.
    pub not_grep: Vec<String>,
    /// Whether the patterns are plain text and not regular expressions.
    pub fixed_strings: bool,
    /// Whether the patterns are found as whole words only.
    pub word_regexp: bool,
    /// Whether the patterns distinguish upper and lower case.
    pub case_sensitive: bool,
    /// Entries that the record has: see [`Filter::field`].
    pub field: Vec<String>,
    /// Entries that it does not have.
    pub not_field: Vec<String>,
    /// The trace, or one of these: ids, or parts of an id.
    pub trace: Vec<String>,
    /// The span, or one of these: ids, or parts of an id.
    pub span: Vec<String>,
    /// The parent of the span, or one of these: ids, or parts of an id.
    pub parent: Vec<String>,
    /// A regular expression that is found in the name of the span.
    pub name: Option<String>,
    /// The kind of the span.
    pub kind: Option<SpanKind>,
    /// The status of the span.
    pub status: Option<StatusCode>,
    /// The shortest duration of the span.
    pub duration_min: Option<Duration>,
    /// The longest duration of the span.
    pub duration_max: Option<Duration>,
}

/// A filter that was read.
#[derive(Debug, Clone, Default)]
pub struct Filters {
    /// What a record must say; `None` for anything.
    pub filter: Option<Filter>,
    /// The patterns that are found in each record, for highlighting.
    pub patterns: Vec<TextPattern>,
}

impl FilterText {
    /// Reads all parts.
    ///
    /// Fails when an expression, a pattern or an id is malformed; the error names the part.
    pub fn read(&self) -> std::result::Result<Filters, Invalid> {
        let patterns = self.patterns("grep", &self.grep)?;
        let mut filters: Vec<Filter> = Vec::new();
        filters.extend(self.level.map(LevelRange::filter));
        filters.extend(patterns.iter().cloned().map(Filter::text));
        let not_found = self.patterns("not-grep", &self.not_grep)?;
        filters.extend(not_found.into_iter().map(|pattern| !Filter::text(pattern)));
        filters.extend(each("field", &self.field, Filter::field)?);
        let not_fields = each("not-field", &self.not_field, Filter::field)?;
        filters.extend(not_fields.into_iter().map(|filter| !filter));
        for (name, ids, read) in [
            ("trace", &self.trace, Filter::trace_id as fn(&str) -> _),
            ("span", &self.span, Filter::span_id),
            ("parent", &self.parent, Filter::parent_span_id),
        ] {
            if !ids.is_empty() {
                filters.push(Filter::any(each(name, ids, read)?));
            }
        }
        if let Some(name) = &self.name {
            let pattern = TextPattern::regex(name).map_err(Invalid::value("name"))?;
            filters.push(Filter::name(pattern));
        }
        filters.extend(self.kind.map(Filter::kind));
        filters.extend(self.status.map(Filter::status));
        filters.extend(self.duration_min.map(|min| Filter::duration(min..)));
        filters.extend(self.duration_max.map(|max| Filter::duration(..=max)));
        Ok(Filters {
            filter: (!filters.is_empty()).then(|| Filter::all(filters)),
            patterns,
        })
    }

    /// Whether there are parts that only spans can pass.
    #[must_use]
    pub fn is_about_spans(&self) -> bool {
        self.name.is_some()
            || self.kind.is_some()
            || self.status.is_some()
            || self.duration_min.is_some()
            || self.duration_max.is_some()
            || !self.parent.is_empty()
    }

    fn patterns(
        &self,
        name: &'static str,
        texts: &[String],
    ) -> std::result::Result<Vec<TextPattern>, Invalid> {
        each(name, texts, |text| {
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

/// Reads each value of the part `name`, which an error names.
fn each<T>(
    name: &'static str,
    texts: &[String],
    read: impl Fn(&str) -> Result<T>,
) -> std::result::Result<Vec<T>, Invalid> {
    texts
        .iter()
        .map(|text| read(text).map_err(Invalid::value(name)))
        .collect()
}

/// A range of severities, bounds included.
///
/// Its text is `LEVEL`, which has no upper bound, or `LEVEL..LEVEL`, either of which may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LevelRange {
    /// The lowest severity.
    pub min: Option<Level>,
    /// The highest severity.
    pub max: Option<Level>,
}

impl LevelRange {
    /// Whether `level` is in the range.
    #[must_use]
    pub fn contains(self, level: Level) -> bool {
        self.min.is_none_or(|min| min <= level) && self.max.is_none_or(|max| level <= max)
    }

    fn filter(self) -> Filter {
        let min = self.min.map(Filter::level_at_least);
        Filter::all(min.into_iter().chain(self.max.map(Filter::level_at_most)))
    }
}

impl FromStr for LevelRange {
    type Err = gridctl_telemetry::Error;

    fn from_str(text: &str) -> Result<LevelRange> {
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

impl fmt::Display for LevelRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lower = |level: Option<Level>| {
            level.map_or(String::new(), |level| level.to_string().to_lowercase())
        };
        match (self.min, self.max) {
            (Some(_), None) => f.write_str(&lower(self.min)),
            (min, max) => write!(f, "{}..{}", lower(min), lower(max)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(change: impl FnOnce(&mut FilterText)) -> FilterText {
        let mut text = FilterText::default();
        change(&mut text);
        text
    }

    #[test]
    fn ranges_of_levels_are_read_and_written() {
        let range = |text: &str| text.parse::<LevelRange>().unwrap();
        let (min, max) = (Some(Level::WARN), Some(Level::ERROR));
        for (text, written, expected) in [
            ("warn", "warn", LevelRange { min, max: None }),
            ("WARN..error", "warn..error", LevelRange { min, max }),
            ("..error", "..error", LevelRange { min: None, max }),
            ("warning..", "warn", LevelRange { min, max: None }),
        ] {
            assert_eq!(range(text), expected);
            assert_eq!(expected.to_string(), written);
            assert_eq!(range(written), expected);
        }
        for bad in ["", "loud", "warn..loud"] {
            assert!(bad.parse::<LevelRange>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_error_names_the_part() {
        for (text, expected) in [
            (
                text(|text| text.grep = vec!["ok".into(), "a(".into()]),
                "grep: ",
            ),
            (text(|text| text.not_grep = vec!["[".into()]), "not-grep: "),
            (text(|text| text.field = vec!["=5".into()]), "field: "),
            (
                text(|text| text.not_field = vec!["a>b".into()]),
                "not-field: ",
            ),
            (text(|text| text.trace = vec!["xyz".into()]), "trace: "),
            (text(|text| text.span = vec![String::new()]), "span: "),
            (text(|text| text.parent = vec!["g".into()]), "parent: "),
            (text(|text| text.name = Some("(".into())), "name: "),
            (
                text(|text| {
                    text.grep = vec!["a)|(b".into()];
                    text.word_regexp = true;
                }),
                "grep: ",
            ),
        ] {
            let error = text.read().unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        // A pattern of text needs no syntax.
        let fixed = text(|text| {
            text.grep = vec!["a(".into()];
            text.fixed_strings = true;
        });
        assert_eq!(fixed.read().unwrap().patterns.len(), 1);
    }

    #[test]
    fn patterns_are_read_as_asked() {
        let found = |searched: &str, change: fn(&mut FilterText)| {
            let mut text = text(change);
            text.grep = vec!["re.used".into()];
            text.read().unwrap().patterns[0].is_match(searched)
        };
        assert!(found("was REFUSED by", |_| {}));
        assert!(!found("was REFUSED by", |text| text.case_sensitive = true));
        assert!(!found("was refused by", |text| text.fixed_strings = true));
        assert!(found("was re.used by", |text| text.fixed_strings = true));
        assert!(!found("was refusedly", |text| text.word_regexp = true));
        assert!(found("was refused by", |text| text.word_regexp = true));
        assert!(!found("was re.used2 by", |text| {
            text.word_regexp = true;
            text.fixed_strings = true;
        }));
    }
}
