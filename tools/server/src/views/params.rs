//! What a request asks for: its query string, read into types and written again.
//!
//! The names and the values are those of the options of the programs, so that `--since 2h --grep refused` is
//! `?since=2h&grep=refused`. Everything that a page shows is in its address: a page makes its links from the
//! parameters of its own request, with `Params::link_with`.
//!
//! A view reads the parameters of its request with `Params::parse` and the names that it accepts, such as
//! `LOGS`. All others are refused, because a misspelt filter that is ignored would show too much.

use crate::{
    input::{CountText, FilterText, Filters, Invalid, WindowText, Zone, length_text},
    problem::Problem,
};
use gridctl_telemetry::{
    Level, Query, ServerName, Signal, Timestamp,
    external::opentelemetry_proto::tonic::trace::v1::{span::SpanKind, status::StatusCode},
    query::{
        CallQuery, CountBy, Cursor, Direction, Filter, TextPattern, TimeRange, TraceQuery, UsageBy,
        UsageQuery,
    },
};
use std::{fmt::Display, str::FromStr, time::Duration};

/// Maximum number of values of one parameter: each pattern is compiled, and each entry is searched for.
const VALUES_MAX: usize = 32;

/// The parameters that a view accepts, in groups.
pub type View = &'static [&'static [&'static str]];

/// Which servers, and when.
pub const SCOPE: &[&str] = &["server", "since", "until", "utc"];
/// What records say.
pub const FILTER: &[&str] = &[
    "level",
    "grep",
    "not-grep",
    "fixed-strings",
    "word-regexp",
    "case-sensitive",
    "field",
    "not-field",
    "trace",
    "span",
];
/// What spans say.
pub const SPAN_FILTER: &[&str] = &[
    "parent",
    "name",
    "kind",
    "status",
    "min-duration",
    "max-duration",
];
/// Which part of a list.
pub const PAGE: &[&str] = &["cursor", "direction", "limit"];

/// A range of time.
pub(crate) const RANGE: View = &[SCOPE];
/// The page of log records.
pub(crate) const LOGS: View = &[SCOPE, FILTER, PAGE, &["interval"]];
/// Logs and metrics.
pub(crate) const RECORDS: View = &[SCOPE, FILTER, PAGE, &["format"]];
/// Spans.
pub(crate) const SPANS: View = &[SCOPE, FILTER, SPAN_FILTER, PAGE, &["format"]];
/// Records of any signal as they arrive.
pub(crate) const LIVE: View = &[
    &["server", "signal", "utc", "cursor", "since"],
    FILTER,
    SPAN_FILTER,
];
/// Numbers of records.
pub(crate) const COUNTS: View = &[SCOPE, FILTER, SPAN_FILTER, &["signal", "by"]];
/// What to search for.
pub(crate) const SUGGESTIONS: View = &[&["server", "signal"]];
/// Lists of traces. `min-duration` is about the whole trace.
pub(crate) const TRACES: View = &[
    SCOPE,
    FILTER,
    SPAN_FILTER,
    &["errors", "order", "cursor", "limit"],
];
/// The page of one trace.
pub(crate) const TRACE: View = &[&["utc", "format", "find", "limit", "cursor"]];
/// One trace for a program.
pub(crate) const TRACE_DATA: View = &[&["format"]];
/// Tokens, costs and numbers of calls.
pub(crate) const USAGE: View = &[SCOPE, &["by"]];
/// The tools that were called.
pub(crate) const TOOLS: View = &[SCOPE, FILTER, SPAN_FILTER, &["tool", "errors"]];
/// Single calls of tools.
pub(crate) const CALLS: View = &[
    SCOPE,
    FILTER,
    SPAN_FILTER,
    &["tool", "errors", "order", "limit"],
];
/// What is stored.
pub(crate) const INVENTORY: View = &[&["server", "signal"]];
/// What is deleted. `until` deletes only records before that time.
pub(crate) const WIPE: View = &[&["server", "signal", "until", "utc"]];
/// No parameters.
pub(crate) const NONE: View = &[];

/// What a request asks for. A field that was not given, or was empty, has its default.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Params {
    /// Empty for all servers.
    pub(crate) servers: Vec<ServerName>,
    pub(crate) signal: Option<Signal>,
    pub(crate) window: WindowText,
    /// Whether days begin, and times are read and shown, in UTC and not in the zone of this machine.
    pub(crate) utc: bool,
    pub(crate) filter: FilterText,
    /// Whether only traces and calls that failed are asked for.
    pub(crate) errors: bool,
    /// A part of the name of a tool.
    pub(crate) tool: Option<String>,
    pub(crate) order: Order,
    /// Continues after the page that ended with it. Each view has its own form of it.
    pub(crate) cursor: Option<String>,
    pub(crate) direction: Option<Direction>,
    pub(crate) limit: Option<usize>,
    pub(crate) interval: Option<CountText>,
    /// What rows are about: see [`Params::usage`] and [`Params::counted_by`].
    pub(crate) by: Vec<String>,
    pub(crate) format: Option<Format>,
    /// What is marked within one trace.
    pub(crate) find: Option<String>,
    /// When the request came: lengths of time are counted back from it.
    now: Now,
}

/// The time of a request, which is no part of what it asks for.
#[derive(Debug, Clone, Copy, Default)]
struct Now(Option<Timestamp>);

impl PartialEq for Now {
    fn eq(&self, _: &Now) -> bool {
        true
    }
}

/// The order of a list of traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// The one that ended last comes first.
    #[default]
    Newest,
    /// The one that took longest comes first.
    Slowest,
}

/// The form of records or of one trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    /// A record on each line.
    Ndjson,
    Otlp,
}

/// A parameter: how it is read and written.
struct Known {
    name: &'static str,
    /// What its value may be, for the message about a wrong one.
    accepts: &'static str,
    /// Whether it may be given several times.
    repeats: bool,
    read: fn(&mut Params, &str) -> Result<(), String>,
    write: fn(&Params) -> Vec<String>,
}

const LENGTH: &str = "a length of time such as 500ms or 2s";
const TIME: &str =
    "2h (ago), today, yesterday, 2026-05-08, 14:03, 2026-05-08 14:03, RFC 3339 or @UNIX";
const PATTERN: &str = "a regular expression, or plain text with fixed-strings=true";
const ENTRY: &str =
    "key=value, key!=value, key>5, >=, <, <=, key~REGEX, key!~REGEX, key (exists) or !key";
const ID: &str = "hex digits of an id, or a part of one";
const BOOL: &str = "true or false";

/// All parameters, in the order in which they are written.
const KNOWN: &[Known] = &[
    Known {
        name: "server",
        accepts: "the name of a server",
        repeats: true,
        read: |params, text| push(&mut params.servers, ServerName::new(text)),
        write: |params| texts(&params.servers),
    },
    Known {
        name: "signal",
        accepts: "logs, metrics or traces",
        repeats: false,
        read: |params, text| set(&mut params.signal, text.parse()),
        write: |params| texts(params.signal.map(Signal::as_str).as_slice()),
    },
    Known {
        name: "since",
        accepts: TIME,
        repeats: false,
        read: |params, text| set(&mut params.window.since, own(text)),
        write: |params| texts(params.window.since.as_slice()),
    },
    Known {
        name: "until",
        accepts: TIME,
        repeats: false,
        read: |params, text| set(&mut params.window.until, own(text)),
        write: |params| texts(params.window.until.as_slice()),
    },
    Known {
        name: "utc",
        accepts: BOOL,
        repeats: false,
        read: |params, text| switch(&mut params.utc, text),
        write: |params| switched(params.utc),
    },
    Known {
        name: "level",
        accepts: "a severity such as warn, or a range such as debug..info",
        repeats: false,
        read: |params, text| set(&mut params.filter.level, text.parse()),
        write: |params| texts(params.filter.level.as_slice()),
    },
    Known {
        name: "grep",
        accepts: PATTERN,
        repeats: true,
        read: |params, text| push(&mut params.filter.grep, own(text)),
        write: |params| texts(&params.filter.grep),
    },
    Known {
        name: "not-grep",
        accepts: PATTERN,
        repeats: true,
        read: |params, text| push(&mut params.filter.not_grep, own(text)),
        write: |params| texts(&params.filter.not_grep),
    },
    Known {
        name: "fixed-strings",
        accepts: BOOL,
        repeats: false,
        read: |params, text| switch(&mut params.filter.fixed_strings, text),
        write: |params| switched(params.filter.fixed_strings),
    },
    Known {
        name: "word-regexp",
        accepts: BOOL,
        repeats: false,
        read: |params, text| switch(&mut params.filter.word_regexp, text),
        write: |params| switched(params.filter.word_regexp),
    },
    Known {
        name: "case-sensitive",
        accepts: BOOL,
        repeats: false,
        read: |params, text| switch(&mut params.filter.case_sensitive, text),
        write: |params| switched(params.filter.case_sensitive),
    },
    Known {
        name: "field",
        accepts: ENTRY,
        repeats: true,
        read: |params, text| push(&mut params.filter.field, own(text)),
        write: |params| texts(&params.filter.field),
    },
    Known {
        name: "not-field",
        accepts: ENTRY,
        repeats: true,
        read: |params, text| push(&mut params.filter.not_field, own(text)),
        write: |params| texts(&params.filter.not_field),
    },
    Known {
        name: "trace",
        accepts: ID,
        repeats: true,
        read: |params, text| push(&mut params.filter.trace, own(text)),
        write: |params| texts(&params.filter.trace),
    },
    Known {
        name: "span",
        accepts: ID,
        repeats: true,
        read: |params, text| push(&mut params.filter.span, own(text)),
        write: |params| texts(&params.filter.span),
    },
    Known {
        name: "parent",
        accepts: ID,
        repeats: true,
        read: |params, text| push(&mut params.filter.parent, own(text)),
        write: |params| texts(&params.filter.parent),
    },
    Known {
        name: "name",
        accepts: "a regular expression",
        repeats: false,
        read: |params, text| set(&mut params.filter.name, own(text)),
        write: |params| texts(params.filter.name.as_slice()),
    },
    Known {
        name: "kind",
        accepts: "internal, server, client, producer, consumer or unspecified",
        repeats: false,
        read: |params, text| set(&mut params.filter.kind, word(KINDS, text)),
        write: |params| word_of(KINDS, params.filter.kind.as_ref()),
    },
    Known {
        name: "status",
        accepts: "unset, ok or error",
        repeats: false,
        read: |params, text| set(&mut params.filter.status, word(STATUSES, text)),
        write: |params| word_of(STATUSES, params.filter.status.as_ref()),
    },
    Known {
        name: "min-duration",
        accepts: LENGTH,
        repeats: false,
        read: |params, text| set(&mut params.filter.duration_min, length(text)),
        write: |params| lengths(params.filter.duration_min),
    },
    Known {
        name: "max-duration",
        accepts: LENGTH,
        repeats: false,
        read: |params, text| set(&mut params.filter.duration_max, length(text)),
        write: |params| lengths(params.filter.duration_max),
    },
    Known {
        name: "errors",
        accepts: BOOL,
        repeats: false,
        read: |params, text| switch(&mut params.errors, text),
        write: |params| switched(params.errors),
    },
    Known {
        name: "tool",
        accepts: "a part of the name of a tool",
        repeats: false,
        read: |params, text| set(&mut params.tool, own(text)),
        write: |params| texts(params.tool.as_slice()),
    },
    Known {
        name: "order",
        accepts: "newest or slowest",
        repeats: false,
        read: |params, text| word(ORDERS, text).map(|order| params.order = order),
        write: |params| {
            let order = (params.order != Order::default()).then_some(params.order);
            word_of(ORDERS, order.as_ref())
        },
    },
    Known {
        name: "by",
        accepts: "server, tool, hour, day, model or skill for usage; level, server, name, field:KEY, hour, \
                  day or a length of time such as 5m for counts; several are joined by commas",
        repeats: true,
        read: |params, text| {
            params.by.extend(text.split(',').map(str::to_owned));
            Ok(())
        },
        write: |params| {
            if params.by.is_empty() {
                Vec::new()
            } else {
                vec![params.by.join(",")]
            }
        },
    },
    Known {
        name: "interval",
        accepts: "hour, day or a length of time such as 15m",
        repeats: false,
        read: |params, text| match text.parse() {
            Ok(interval) if CountText::is_time(&interval) => {
                params.interval = Some(interval);
                Ok(())
            }
            _ => Err(format!("{:?} is no length of time", shown(text))),
        },
        write: |params| texts(params.interval.as_slice()),
    },
    Known {
        name: "find",
        accepts: "a text",
        repeats: false,
        read: |params, text| set(&mut params.find, own(text)),
        write: |params| texts(params.find.as_slice()),
    },
    Known {
        name: "format",
        accepts: "json, ndjson (a record on each line) or otlp",
        repeats: false,
        read: |params, text| set(&mut params.format, word(FORMATS, text)),
        write: |params| word_of(FORMATS, params.format.as_ref()),
    },
    Known {
        name: "direction",
        accepts: "forward (the oldest records first) or backward (the newest first)",
        repeats: false,
        read: |params, text| set(&mut params.direction, word(DIRECTIONS, text)),
        write: |params| word_of(DIRECTIONS, params.direction.as_ref()),
    },
    Known {
        name: "limit",
        accepts: "a number from 1 to 1000",
        repeats: false,
        read: |params, text| {
            let limit = text.parse().map_err(|_| "it is no number".to_owned());
            let limit = limit.and_then(|limit| match limit {
                1..=LIMIT_MAX => Ok(limit),
                _ => Err("it is out of range".to_owned()),
            });
            set(&mut params.limit, limit)
        },
        write: |params| texts(params.limit.as_slice()),
    },
    Known {
        name: "cursor",
        accepts: "the cursor of a page or a record",
        repeats: false,
        read: |params, text| set(&mut params.cursor, own(text)),
        write: |params| texts(params.cursor.as_slice()),
    },
];

/// Maximum number of records or traces of one page.
pub const LIMIT_MAX: usize = 1000;

const KINDS: &[(&str, SpanKind)] = &[
    ("unspecified", SpanKind::Unspecified),
    ("internal", SpanKind::Internal),
    ("server", SpanKind::Server),
    ("client", SpanKind::Client),
    ("producer", SpanKind::Producer),
    ("consumer", SpanKind::Consumer),
];
const STATUSES: &[(&str, StatusCode)] = &[
    ("unset", StatusCode::Unset),
    ("ok", StatusCode::Ok),
    ("error", StatusCode::Error),
];
const ORDERS: &[(&str, Order)] = &[("newest", Order::Newest), ("slowest", Order::Slowest)];
const FORMATS: &[(&str, Format)] = &[
    ("json", Format::Json),
    ("ndjson", Format::Ndjson),
    ("otlp", Format::Otlp),
];
const DIRECTIONS: &[(&str, Direction)] = &[
    ("forward", Direction::Forward),
    ("backward", Direction::Backward),
];
const BY: &[(&str, UsageBy)] = &[
    ("server", UsageBy::Server),
    ("tool", UsageBy::Tool),
    ("hour", UsageBy::Hour),
    ("day", UsageBy::Day),
    ("model", UsageBy::Model),
    ("skill", UsageBy::Skill),
];

impl Params {
    /// Reads a query string, for a view that accepts the parameters `accepted`. An empty value is as good as
    /// none, because a form sends one for each field that was left empty.
    ///
    /// Fails with a [`Problem`] that names the parameter that is unknown, wrong or repeated, and what is
    /// accepted.
    pub(crate) fn parse(query: Option<&str>, accepted: View) -> Result<Params, Problem> {
        let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        Params::read(pairs, accepted)
    }

    /// Reads names and values, like those of a query string, for a view that accepts the parameters `accepted`.
    ///
    /// # Errors
    ///
    /// A [`Problem`] that names the parameter that is unknown, wrong or repeated, and what is accepted.
    pub fn read<N: AsRef<str>, V: AsRef<str>>(
        pairs: impl IntoIterator<Item = (N, V)>,
        accepted: View,
    ) -> Result<Params, Problem> {
        let mut params = Params {
            now: Now(Some(Timestamp::now())),
            ..Params::default()
        };
        let mut counts = vec![0_usize; KNOWN.len()];
        for (name, value) in pairs {
            let (name, value) = (name.as_ref(), value.as_ref());
            let known = KNOWN.iter().zip(&mut counts);
            let mut known = known.filter(|(known, _)| {
                known.name == name && accepted.iter().any(|group| group.contains(&known.name))
            });
            let Some((known, count)) = known.next() else {
                return Err(unknown(name, accepted));
            };
            if value.is_empty() {
                continue;
            }
            *count += 1;
            let most = if known.repeats { VALUES_MAX } else { 1 };
            if *count > most {
                return Err(wrong(
                    known.name,
                    &format!("it may be given {most} times at most"),
                ));
            }
            (known.read)(&mut params, value).map_err(|reason| wrong(known.name, &reason))?;
        }
        // All errors are reported here, so that a page never fails half-way.
        params.range()?;
        params.filters()?;
        Ok(params)
    }

    /// The query string, without a question mark. Reading it gives the same parameters.
    pub(crate) fn to_query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for known in KNOWN {
            for value in (known.write)(self) {
                query.append_pair(known.name, &value);
            }
        }
        query.finish()
    }

    /// The address of the view at `path` with these parameters.
    pub(crate) fn link(&self, path: &str) -> String {
        match self.to_query() {
            query if query.is_empty() => path.to_owned(),
            query => format!("{path}?{query}"),
        }
    }

    /// The address of the view at `path` with these parameters after a change.
    pub(crate) fn link_with(&self, path: &str, change: impl FnOnce(&mut Params)) -> String {
        self.with(change).link(path)
    }

    /// These parameters after a change.
    pub(crate) fn with(&self, change: impl FnOnce(&mut Params)) -> Params {
        let mut params = self.clone();
        change(&mut params);
        params
    }

    /// Only the servers and the range of time, for links from one view to another.
    #[must_use]
    pub fn scope(&self) -> Params {
        Params {
            servers: self.servers.clone(),
            window: self.window.clone(),
            utc: self.utc,
            now: self.now,
            ..Params::default()
        }
    }

    /// These parameters, with a range of time that begins as `default` says, such as `24h`, if neither side is given.
    #[must_use]
    pub fn since_or(&self, default: &str) -> Params {
        self.with(|params| {
            if params.window == WindowText::default() {
                params.window.since = Some(default.to_owned());
            }
        })
    }

    /// The servers that are asked for; empty for all.
    #[must_use]
    pub fn servers(&self) -> &[ServerName] {
        &self.servers
    }

    /// The signal that is asked for.
    #[must_use]
    pub fn signal(&self) -> Option<Signal> {
        self.signal
    }

    /// Whether records must say something, apart from their severity.
    #[must_use]
    pub fn filters_texts(&self) -> bool {
        let levels = FilterText {
            level: self.filter.level,
            ..FilterText::default()
        };
        self.filter != levels
    }

    /// Whether records of this severity are asked for.
    #[must_use]
    pub fn includes(&self, level: Level) -> bool {
        self.filter.level.is_none_or(|range| range.contains(level))
    }

    /// The cursor of the page before, as it was given.
    #[must_use]
    pub fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// Whether only traces and calls that failed are asked for.
    #[must_use]
    pub fn only_failed(&self) -> bool {
        self.errors
    }

    /// These parameters, for traces and calls whether they failed or not.
    #[must_use]
    pub fn failed_or_not(&self) -> Params {
        self.with(|params| params.errors = false)
    }

    /// The zone in which days begin, and times are read and shown.
    #[must_use]
    pub fn zone(&self) -> Zone {
        if self.utc { Zone::UTC } else { Zone::system() }
    }

    /// When the request came.
    pub fn now(&self) -> Timestamp {
        self.now.0.unwrap_or_else(Timestamp::now)
    }

    /// The range of time that is asked for; unbounded on a side for which no time is given.
    pub fn range(&self) -> Result<TimeRange, Problem> {
        Ok(self.window.range(&self.zone(), self.now())?)
    }

    /// The range of time, which begins as `default` says, such as `24h`, if neither side is given.
    pub(crate) fn range_or(&self, default: &str) -> Result<TimeRange, Problem> {
        self.since_or(default).range()
    }

    /// What records must say, and the patterns to highlight.
    pub fn filters(&self) -> Result<Filters, Problem> {
        Ok(self.filter.read()?)
    }

    /// The number of rows of a page.
    #[must_use]
    pub fn limit_or(&self, default: usize) -> usize {
        self.limit.unwrap_or(default)
    }

    /// The cursor of a record.
    pub(crate) fn record_cursor(&self) -> Result<Option<Cursor>, Problem> {
        self.typed_cursor()
    }

    /// The cursor of a list.
    pub fn typed_cursor<T: FromStr<Err: Display>>(&self) -> Result<Option<T>, Problem> {
        let cursor = self.cursor.as_deref().map(str::parse);
        let cursor = cursor.transpose();
        cursor.map_err(|error: T::Err| wrong("cursor", &error.to_string()))
    }

    /// The records of `signal` that are asked for: of the servers, in the range, with the filters, after the
    /// cursor, in the direction, which is `direction` by default. Records that cannot be read are left out.
    pub fn records(&self, signal: Signal, direction: Direction) -> Result<Query, Problem> {
        let mut query = self.of_servers(Query::new(signal)).range(self.range()?);
        if let Some(filter) = self.filters()?.filter {
            query = query.filter(filter);
        }
        if let Some(cursor) = self.record_cursor()? {
            query = query.after(cursor);
        }
        Ok(query
            .direction(self.direction.unwrap_or(direction))
            .skip_damaged())
    }

    /// The traces that are asked for, after the cursor. The shortest duration is that of a whole trace, and all other filters
    /// are of spans, one of which a trace must have.
    pub fn traces(&self) -> Result<TraceQuery, Problem> {
        let spans = self.with(|params| {
            params.filter.duration_min = None;
            params.cursor = None;
        });
        let mut query = TraceQuery::new(spans.records(Signal::Traces, Direction::Backward)?);
        if self.errors {
            query = query.only_failed();
        }
        if let Some(min) = self.filter.duration_min {
            query = query.duration_at_least(min);
        }
        if self.order == Order::Slowest {
            query = query.slowest_first();
        }
        if let Some(cursor) = self.typed_cursor()? {
            query = query.after(cursor);
        }
        Ok(query)
    }

    /// The calls of tools that are asked for.
    pub fn calls(&self) -> Result<CallQuery, Problem> {
        self.calls_in(self.range()?)
    }

    /// The calls that are asked for, but in another range of time.
    pub fn calls_in(&self, range: TimeRange) -> Result<CallQuery, Problem> {
        let spans = self.with(|params| params.cursor = None);
        let spans = spans.records(Signal::Traces, Direction::Backward)?;
        let mut spans = spans.range(range);
        if self.errors {
            spans = spans.filter(Filter::failed());
        }
        let mut query = CallQuery::new(spans);
        if let Some(tool) = &self.tool {
            query = query.tool(TextPattern::substring(tool)?);
        }
        if self.order == Order::Slowest {
            query = query.slowest_first();
        }
        Ok(query)
    }

    /// The usage in `range`, summed up by what is asked for, or by `default`.
    pub fn usage(&self, range: TimeRange, default: &[UsageBy]) -> Result<UsageQuery, Problem> {
        let by = self.by.iter().map(|text| word(BY, text));
        let by: Vec<UsageBy> = by
            .collect::<Result<_, _>>()
            .map_err(|reason| wrong("by", &reason))?;
        let zone = self.zone();
        let query = UsageQuery::new()
            .range(range)
            .skip_damaged()
            .zone(move |time| zone.offset_at(time));
        let query = (self.servers.iter().cloned()).fold(query, UsageQuery::server);
        let by = if by.is_empty() { default } else { &by };
        Ok(by.iter().fold(query, |query, by| query.by(*by)))
    }

    /// What records are counted by: what is asked for, or severities.
    pub(crate) fn counted_by(&self) -> Result<Vec<CountBy>, Problem> {
        let by = self.by.iter().map(|text| text.parse());
        let mut by: Vec<CountText> = by
            .collect::<Result<_, String>>()
            .map_err(|reason| wrong("by", &reason))?;
        if let Some(conflict) = CountText::conflict(&by) {
            return Err(wrong("by", conflict));
        }
        if by.is_empty() {
            by.push(CountText::Level);
        }
        let by = by.iter().map(|by| by.read(&self.zone()));
        Ok(by.collect::<Result<_, _>>()?)
    }

    fn of_servers(&self, query: Query) -> Query {
        self.servers.iter().cloned().fold(query, Query::server)
    }
}

/// A parameter, for a program that tells others what it accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Described {
    /// Its name.
    pub name: &'static str,
    /// What its value may be.
    pub accepts: &'static str,
    /// Whether it may be given several times.
    pub repeats: bool,
    /// Whether its value is `true` or `false`.
    pub is_switch: bool,
    /// Whether its value is a number.
    pub is_number: bool,
}

/// The parameters that a view accepts.
#[must_use]
pub fn describe(accepted: View) -> Vec<Described> {
    let known = KNOWN
        .iter()
        .filter(|known| accepted.iter().any(|group| group.contains(&known.name)));
    let described = known.map(|known| Described {
        name: known.name,
        accepts: known.accepts,
        repeats: known.repeats,
        is_switch: known.accepts == BOOL,
        is_number: known.name == "limit",
    });
    described.collect()
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Problem {
        match invalid {
            Invalid::Value { name, source } => wrong(name, &source.to_string()),
            inverted @ Invalid::Inverted { .. } => Problem::bad_request(inverted.to_string()),
        }
    }
}

fn unknown(name: &str, accepted: View) -> Problem {
    let shown = shown(name);
    Problem::bad_request(format!(
        "there is no parameter {shown:?} here: accepted are {}",
        accepted.concat().join(", ")
    ))
}

fn wrong(name: &str, reason: &str) -> Problem {
    let known = KNOWN.iter().find(|known| known.name == name);
    let accepts = known.map_or("", |known| known.accepts);
    Problem::bad_request(format!("{name}: {reason}; accepted: {accepts}"))
}

fn push<T>(values: &mut Vec<T>, value: Result<T, impl Display>) -> Result<(), String> {
    values.push(value.map_err(|error| error.to_string())?);
    Ok(())
}

fn set<T>(value: &mut Option<T>, read: Result<T, impl Display>) -> Result<(), String> {
    *value = Some(read.map_err(|error| error.to_string())?);
    Ok(())
}

#[expect(clippy::unnecessary_wraps, reason = "as fallible as the others")]
fn own(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

fn texts(values: &[impl ToString]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

fn switch(value: &mut bool, text: &str) -> Result<(), String> {
    *value = word(
        &[
            ("true", true),
            ("false", false),
            ("1", true),
            ("0", false),
            // What a form sends for a box that is checked.
            ("on", true),
        ],
        text,
    )?;
    Ok(())
}

fn switched(value: bool) -> Vec<String> {
    if value {
        vec!["true".to_owned()]
    } else {
        Vec::new()
    }
}

fn word<T: Copy>(words: &[(&str, T)], text: &str) -> Result<T, String> {
    let mut found = words
        .iter()
        .filter(|(word, _)| word.eq_ignore_ascii_case(text));
    let shown = shown(text);
    found
        .next()
        .map(|(_, value)| *value)
        .ok_or_else(|| format!("{shown:?} is unknown"))
}

fn word_of<T: PartialEq>(words: &[(&str, T)], value: Option<&T>) -> Vec<String> {
    let found = words.iter().filter(|(_, known)| value == Some(known));
    found.map(|(word, _)| (*word).to_owned()).take(1).collect()
}

fn length(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| error.to_string())
}

fn lengths(length: Option<Duration>) -> Vec<String> {
    length.map(length_text).into_iter().collect()
}

/// The begin of a text that a message quotes.
fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use gridctl_telemetry::Level;

    /// Every parameter.
    const ALL: View = &[
        SCOPE,
        FILTER,
        SPAN_FILTER,
        PAGE,
        &[
            "signal", "errors", "tool", "order", "by", "interval", "find", "format",
        ],
    ];

    fn parse(query: &str) -> Result<Params, String> {
        Params::parse(Some(query), ALL).map_err(|problem| problem.detail().to_owned())
    }

    #[test]
    fn every_parameter_comes_back() {
        let query = "server=github&server=a%26b+c&signal=traces&since=2026-05-08+14%3A03&until=30m&utc=true&\
                     level=warn..error&grep=a%2Bb&grep=c&not-grep=%C3%A4&fixed-strings=true&word-regexp=true&\
                     case-sensitive=true&field=a%3Db%26c&field=%21x&not-field=n%3E%3D5&trace=abc&span=12&\
                     parent=34&name=tools%2F.*&kind=client&status=error&min-duration=1s500ms&max-duration=2h&\
                     errors=true&tool=x&order=slowest&by=server%2Cday&interval=15m&find=x&format=otlp&\
                     direction=backward&limit=50&cursor=00";
        let params = parse(query).unwrap();
        assert_eq!(params.to_query(), query);
        assert_eq!(parse(&params.to_query()).unwrap(), params);
        let names: Vec<String> = form_urlencoded::parse(query.as_bytes())
            .map(|(name, _)| name.into_owned())
            .collect();
        for known in KNOWN {
            assert!(
                names.iter().any(|name| name == known.name),
                "{}",
                known.name
            );
        }
        assert_eq!(params.filter.level.unwrap().min, Some(Level::WARN));
        assert_eq!(
            params.link_with("/x", |params| *params = Params::default()),
            "/x"
        );
        assert_eq!(params.scope().link("/x").split('&').count(), 5);
    }

    #[test]
    fn an_empty_value_is_as_good_as_none() {
        let empty = ALL.concat().join("=&") + "=";
        assert_eq!(parse(&empty).unwrap(), Params::default());
        assert_eq!(Params::parse(None, &[]).unwrap(), Params::default());
        assert_eq!(parse("errors=on&utc=0").unwrap().to_query(), "errors=true");
    }

    #[test]
    fn a_wrong_parameter_is_named_with_what_is_accepted() {
        for (query, expected) in [
            (
                "sevrer=a",
                "there is no parameter \"sevrer\" here: accepted are server, since, ",
            ),
            ("level=loud", "level: "),
            ("since=soon", "since: "),
            ("since=1h&until=2h", "since 2"),
            ("grep=a(", "grep: "),
            ("field=%3D5", "field: "),
            ("trace=xyz", "trace: "),
            ("kind=big", "kind: \"big\" is unknown; accepted: internal, "),
            (
                "limit=0",
                "limit: it is out of range; accepted: a number from 1",
            ),
            ("limit=1001", "limit: it is out of range"),
            ("limit=x", "limit: it is no number"),
            ("utc=maybe", "utc: "),
            ("signal=smoke", "signal: "),
            (&format!("server={}", "a".repeat(256)), "server: "),
            ("min-duration=fast", "min-duration: "),
            ("limit=1&limit=2", "limit: it may be given 1 times at most"),
            (
                &"grep=a&".repeat(VALUES_MAX + 1),
                "grep: it may be given 32 times at most",
            ),
        ] {
            let detail = parse(query).unwrap_err();
            assert!(detail.starts_with(expected), "{query}: {detail}");
        }
        assert!(Params::parse(Some("errors=true"), LOGS).is_err());
        assert!(parse("cursor=zz").unwrap().record_cursor().is_err());
    }

    #[test]
    fn what_views_accept_is_known() {
        for name in [
            RANGE,
            LOGS,
            SPANS,
            RECORDS,
            LIVE,
            COUNTS,
            SUGGESTIONS,
            TRACES,
            TRACE,
            TRACE_DATA,
            USAGE,
            TOOLS,
            CALLS,
            INVENTORY,
            WIPE,
            NONE,
            ALL,
        ]
        .concat()
        .concat()
        {
            assert!(KNOWN.iter().any(|known| known.name == name), "{name}");
        }
        assert_eq!(ALL.concat().len(), KNOWN.len());
    }
}
