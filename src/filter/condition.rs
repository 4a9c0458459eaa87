//! Conditions on one record, and how they are combined.

use super::{
    field::FieldCondition,
    fields::{Encoded, IdKind},
    text::TextPattern,
};
use crate::{
    error::{Error, Result, excerpt},
    record::{Level, payload::PayloadError},
    signal::Signal,
};
use opentelemetry_proto::tonic::trace::v1::{span::SpanKind, status::StatusCode};
use std::{
    ops::{Bound, RangeBounds},
    sync::Arc,
    time::Duration,
};

/// A condition on what a record says, for [`Query::filter`](crate::Query::filter).
///
/// A condition on something that records of a signal do not have matches none of them: no log has a
/// span kind. `!filter` matches the records that `filter` does not match.
///
/// ```
/// use gridctl_telemetry::{Level, query::{Filter, TextPattern}};
///
/// let failed_or_slow = Filter::any([
///     Filter::level_at_least(Level::ERROR),
///     Filter::field("duration_ms>=30000")?,
/// ]);
/// let but_not_probes = !Filter::text(TextPattern::substring("health")?);
/// let filter = Filter::all([failed_or_slow, but_not_probes]);
/// # let _ = filter;
/// # Ok::<(), gridctl_telemetry::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Filter {
    /// Shared, because a filter is cloned with its query for each page.
    condition: Arc<Condition>,
}

/// A condition, or a combination of conditions.
#[derive(Debug, Clone)]
pub(crate) enum Condition {
    All(Vec<Filter>),
    Any(Vec<Filter>),
    Not(Filter),
    /// A severity from `min` to `max`.
    Level {
        min: Level,
        max: Level,
    },
    Id(IdCondition),
    Text(TextPattern),
    Field(FieldCondition),
    Name(TextPattern),
    /// A number of OTLP.
    Kind(i32),
    /// A number of OTLP.
    Status(i32),
    /// Nanoseconds from `min` to `max`.
    Duration {
        min: u64,
        max: u64,
    },
}

/// A condition on the id of a trace or a span.
#[derive(Debug, Clone)]
pub(crate) struct IdCondition {
    pub(crate) kind: IdKind,
    /// The wanted part of the id, in lower case.
    pub(crate) digits: String,
    /// The number of digits of a whole id.
    pub(crate) digits_max: usize,
}

impl Filter {
    /// Matches logs of this severity and of higher ones. A failed span counts as
    /// [`Level::ERROR`], any other span as [`Level::INFO`].
    pub fn level_at_least(level: Level) -> Filter {
        Condition::Level {
            min: level,
            max: Level(i32::MAX),
        }
        .into()
    }

    /// Matches logs of this severity and of lower ones, and spans likewise.
    pub fn level_at_most(level: Level) -> Filter {
        Condition::Level {
            min: Level(i32::MIN),
            max: level,
        }
        .into()
    }

    /// Matches spans of this trace, and logs whose attribute `trace_id` is this id: 32 hex digits in
    /// any case, or a part of them. Hyphens are ignored.
    ///
    /// Fails with [`Error::InvalidFilter`] for any other text.
    pub fn trace_id(id: &str) -> Result<Filter> {
        Filter::id(IdKind::Trace, id, 32)
    }

    /// Matches the span with this id, and logs whose attribute `span_id` is this id: 16 hex digits in
    /// any case, or a part of them.
    ///
    /// Fails with [`Error::InvalidFilter`] for any other text.
    pub fn span_id(id: &str) -> Result<Filter> {
        Filter::id(IdKind::Span, id, 16)
    }

    /// Matches spans whose parent has this id: 16 hex digits in any case, or a part of them.
    ///
    /// Fails with [`Error::InvalidFilter`] for any other text.
    pub fn parent_span_id(id: &str) -> Result<Filter> {
        Filter::id(IdKind::Parent, id, 16)
    }

    fn id(kind: IdKind, text: &str, digits_max: usize) -> Result<Filter> {
        let digits = text.trim().replace('-', "").to_ascii_lowercase();
        let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        if digits.is_empty() || digits.len() > digits_max || !is_hex {
            return Err(Error::InvalidFilter {
                text: excerpt(text),
                reason: format!("expected an id of up to {digits_max} hex digits"),
            });
        }
        Ok(Condition::Id(IdCondition {
            kind,
            digits,
            digits_max,
        })
        .into())
    }

    /// Matches records in which `pattern` is found: in the message of a log, the name and the status
    /// message of a span, the names of its events, or any string among the values of a record. Keys
    /// and numbers are not searched.
    pub fn text(pattern: TextPattern) -> Filter {
        Condition::Text(pattern).into()
    }

    /// Matches records by an entry: `key=value`, `key!=value`, `key>5`, `>=`, `<`, `<=`,
    /// `key~regex`, `key!~regex`, `key` (it exists) and `!key` (it does not).
    ///
    /// The entries are the attributes of a log; the attributes of a span, of its resource, scope and
    /// events; and what is in the line of a metrics snapshot, such as `diff.total_tokens`. The key of
    /// a nested entry is its path, joined by points. Of an array, any item may match.
    ///
    /// `=` compares strings exactly, and numbers by their value. The other comparisons are of numbers,
    /// also of strings that hold a number. `!=` and `!~` need an entry of that key. A value in double
    /// quotes is a string. Regular expressions are those of [`TextPattern::regex`].
    ///
    /// Fails with [`Error::InvalidFilter`] when `expression` is none of these.
    pub fn field(expression: &str) -> Result<Filter> {
        FieldCondition::parse(expression)
    }

    /// Matches spans in whose name `pattern` is found.
    pub fn name(pattern: TextPattern) -> Filter {
        Condition::Name(pattern).into()
    }

    /// Matches spans of this kind.
    pub fn kind(kind: SpanKind) -> Filter {
        Condition::Kind(kind.into()).into()
    }

    /// Matches spans with this status. A span without a status has [`StatusCode::Unset`].
    pub fn status(status: StatusCode) -> Filter {
        Condition::Status(status.into()).into()
    }

    /// Matches spans that failed: their status is [`StatusCode::Error`].
    pub fn failed() -> Filter {
        Filter::status(StatusCode::Error)
    }

    /// Matches spans that took between these times. A span whose start or end is unknown does not
    /// match.
    pub fn duration(range: impl RangeBounds<Duration>) -> Filter {
        let nanos = |duration: &Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let min = match range.start_bound() {
            Bound::Included(min) => nanos(min),
            Bound::Excluded(min) => nanos(min).saturating_add(1),
            Bound::Unbounded => 0,
        };
        let max = match range.end_bound() {
            Bound::Included(max) => nanos(max),
            Bound::Excluded(max) => match nanos(max).checked_sub(1) {
                Some(max) => max,
                None => return Filter::any([]),
            },
            Bound::Unbounded => u64::MAX,
        };
        Condition::Duration { min, max }.into()
    }

    /// Matches records that all of `filters` match: every record when there are none.
    pub fn all(filters: impl IntoIterator<Item = Filter>) -> Filter {
        Condition::All(filters.into_iter().collect()).into()
    }

    /// Matches records that at least one of `filters` matches: no record when there are none.
    pub fn any(filters: impl IntoIterator<Item = Filter>) -> Filter {
        Condition::Any(filters.into_iter().collect()).into()
    }

    /// The condition, for readers that can exclude records before they are decoded.
    pub(crate) fn condition(&self) -> &Condition {
        &self.condition
    }

    /// Whether an encoded record matches. A damaged record does, so that a caller who decodes it is
    /// told about it.
    pub(crate) fn matches(&self, signal: Signal, payload: &[u8]) -> bool {
        self.decide(&Encoded { signal, payload }).unwrap_or(true)
    }

    fn decide(&self, record: &Encoded<'_>) -> Result<bool, PayloadError> {
        Ok(match self.condition() {
            Condition::All(filters) => {
                for filter in filters {
                    if !filter.decide(record)? {
                        return Ok(false);
                    }
                }
                true
            }
            Condition::Any(filters) => {
                for filter in filters {
                    if filter.decide(record)? {
                        return Ok(true);
                    }
                }
                false
            }
            Condition::Not(filter) => !filter.decide(record)?,
            Condition::Level { min, max } => record
                .level()
                .is_some_and(|level| (*min..=*max).contains(&level)),
            Condition::Id(id) => record
                .id(id.kind)
                .is_some_and(|found| id.is_in(&found.text())),
            Condition::Text(pattern) => record.any_text(&mut |text| pattern.is_match(text))?,
            Condition::Field(field) => field.decide(record)?,
            Condition::Name(pattern) => record.name().is_some_and(|name| pattern.is_match(name)),
            Condition::Kind(kind) => record.kind() == Some(*kind),
            Condition::Status(status) => record.status() == Some(*status),
            Condition::Duration { min, max } => record
                .duration()
                .is_some_and(|nanos| (*min..=*max).contains(&nanos)),
        })
    }
}

impl IdCondition {
    /// Whether the whole id is wanted, and not a part of it.
    pub(crate) fn is_whole(&self) -> bool {
        self.digits.len() == self.digits_max
    }

    /// Whether the wanted id is `id` or a part of it.
    pub(crate) fn is_in(&self, id: &str) -> bool {
        if self.is_whole() {
            return self.digits.eq_ignore_ascii_case(id);
        }
        id.to_ascii_lowercase().contains(&self.digits)
    }
}

impl From<Condition> for Filter {
    fn from(condition: Condition) -> Filter {
        Filter {
            condition: Arc::new(condition),
        }
    }
}

impl std::ops::Not for Filter {
    type Output = Filter;

    fn not(self) -> Filter {
        Condition::Not(self).into()
    }
}
