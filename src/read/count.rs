//! Counts of the records of a query, by what they have in common.

use super::{Damage, Interval, Query};
use crate::{
    error::Result,
    record::{Level, ServerName, Value},
    store::{Snapshot, Store, Tally},
    time::Timestamp,
};
use hashbrown::{Equivalent, HashMap};

/// Maximum number of rows of a report. Names and values come from outside, so without a limit they
/// could fill the memory.
const ROWS_MAX: usize = 100_000;

/// What records are counted by.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum CountBy {
    /// The server.
    Server,
    /// The severity: see [`RawRecord::level`](crate::query::RawRecord::level).
    Level,
    /// The name of a span.
    Name,
    /// The value under this path, as in [`Filter::field`](crate::query::Filter::field).
    Field(String),
    /// The interval that the timestamp is in: a histogram.
    Interval(Interval),
}

/// The counts that [`Snapshot::count`] found.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct CountReport {
    /// The rows, ordered by time, server, level, name and value. None is without a record.
    pub rows: Vec<CountRow>,
    /// All records of the query.
    pub total: u64,
    /// Those that are in no row, because there are 100,000 rows already.
    pub others: u64,
    /// What could not be read and was left out, if the query [asks for that](Query::skip_damaged).
    #[serde(skip)]
    pub damage: Vec<Damage>,
}

/// The number of records of one combination. A field is `None` when records are not counted by it, and
/// in the row of the records that do not have it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct CountRow {
    /// When the interval begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// The server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerName>,
    /// The severity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// The name of the spans.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The value of the field, as text. An array and an object are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The number of records.
    pub count: u64,
}

impl Snapshot {
    /// Counts the records that `query` asks for, by everything that `by` names, or all of them
    /// together if it names nothing. Of two fields or two intervals, the last one counts.
    ///
    /// Fails like [`Snapshot::scan`].
    pub fn count(&self, query: &Query, by: &[CountBy]) -> Result<CountReport> {
        let groups = Groups::of(by);
        if groups.are_known_from_headers() && !query.needs_records() {
            return self.count_by_headers(query, groups);
        }
        let mut counts = Counts::default();
        let mut scan = self.scan(query)?;
        while let Some(record) = scan.next()? {
            let value = groups
                .field
                .and_then(|path| text_of(record.attribute(path)?));
            let key = KeyRef {
                time: groups.time(record.timestamp),
                server: groups.by_server.then_some(record.server),
                level: if groups.by_level {
                    record.level()
                } else {
                    None
                },
                name: if groups.by_name { record.name() } else { None },
                value: value.as_deref(),
            };
            counts.add(key, 1);
        }
        Ok(counts.report(scan.damage()))
    }

    /// Counts records that are not read.
    fn count_by_headers(&self, query: &Query, groups: Groups<'_>) -> Result<CountReport> {
        let mut counts = Counts::default();
        let (series, mut damage) = self.series_of(query)?;
        for (entry, range) in series {
            let tally = Tally {
                first: range.first.0,
                last: range.last.0,
                are_together: &|first, last| {
                    let [first, last] = [first, last].map(Timestamp::from_unix_nanos);
                    groups.time(first) == groups.time(last)
                },
                levels_of: groups.by_level.then_some(query.signal),
                skips_damaged: query.skips_damaged,
            };
            let mut add = |timestamp, level, count| {
                let key = KeyRef {
                    time: groups.time(Timestamp::from_unix_nanos(timestamp)),
                    server: groups.by_server.then_some(&entry.server),
                    level,
                    ..KeyRef::default()
                };
                counts.add(key, count);
            };
            let damaged = tally.count(self.view(), &entry.state, &mut add)?;
            damage.extend(
                damaged
                    .into_iter()
                    .map(|block| Damage::of(&entry.server, block)),
            );
        }
        Ok(counts.report(damage))
    }
}

impl Store {
    /// Counts records in the present state of the store; see [`Snapshot::count`].
    pub fn count(&self, query: &Query, by: &[CountBy]) -> Result<CountReport> {
        self.snapshot()?.count(query, by)
    }
}

/// What distinguishes a row, in the order of rows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    time: Option<Timestamp>,
    server: Option<ServerName>,
    level: Option<Level>,
    name: Option<String>,
    value: Option<String>,
}

/// A key of borrowed texts, whose hash is that of the [`Key`].
#[derive(Debug, Clone, Copy, Default, Hash)]
struct KeyRef<'a> {
    time: Option<Timestamp>,
    server: Option<&'a ServerName>,
    level: Option<Level>,
    name: Option<&'a str>,
    value: Option<&'a str>,
}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.time == key.time
            && self.server == key.server.as_ref()
            && self.level == key.level
            && self.name == key.name.as_deref()
            && self.value == key.value.as_deref()
    }
}

impl KeyRef<'_> {
    fn to_key(self) -> Key {
        Key {
            time: self.time,
            server: self.server.cloned(),
            level: self.level,
            name: self.name.map(str::to_owned),
            value: self.value.map(str::to_owned),
        }
    }
}

/// What records are counted by, each at most once.
#[derive(Debug, Clone, Copy, Default)]
struct Groups<'a> {
    by_server: bool,
    by_level: bool,
    by_name: bool,
    field: Option<&'a str>,
    interval: Option<&'a Interval>,
}

impl<'a> Groups<'a> {
    fn of(by: &'a [CountBy]) -> Groups<'a> {
        let mut groups = Groups::default();
        for by in by {
            match by {
                CountBy::Server => groups.by_server = true,
                CountBy::Level => groups.by_level = true,
                CountBy::Name => groups.by_name = true,
                CountBy::Field(path) => groups.field = Some(path),
                CountBy::Interval(interval) => groups.interval = Some(interval),
            }
        }
        groups
    }

    fn time(&self, at: Timestamp) -> Option<Timestamp> {
        self.interval.map(|interval| interval.start_of(at))
    }

    /// Whether the headers and the summaries of blocks tell what records are counted by.
    fn are_known_from_headers(&self) -> bool {
        !self.by_name && self.field.is_none()
    }
}

/// A value as text.
fn text_of(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Bool(value) => Some(value.to_string()),
        Value::Int(value) => Some(value.to_string()),
        Value::UInt(value) => Some(value.to_string()),
        Value::Float(value) => Some(value.to_string()),
        Value::Number(text) => Some(text.into()),
        Value::Null => Some("null".to_owned()),
        Value::Array(_) | Value::Object(_) => None,
    }
}

/// The rows of a report that is being made.
#[derive(Debug, Default)]
struct Counts {
    rows: HashMap<Key, u64>,
    total: u64,
    others: u64,
}

impl Counts {
    fn add(&mut self, key: KeyRef<'_>, count: u64) {
        self.total += count;
        if let Some(row) = self.rows.get_mut(&key) {
            *row += count;
        } else if self.rows.len() < ROWS_MAX {
            self.rows.insert(key.to_key(), count);
        } else {
            self.others += count;
        }
    }

    fn report(self, damage: Vec<Damage>) -> CountReport {
        let mut rows: Vec<(Key, u64)> = self.rows.into_iter().collect();
        rows.sort_unstable();
        let row = |(key, count): (Key, u64)| CountRow {
            time: key.time,
            server: key.server,
            level: key.level,
            name: key.name,
            value: key.value,
            count,
        };
        CountReport {
            rows: rows.into_iter().map(row).collect(),
            total: self.total,
            others: self.others,
            damage,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_limited_and_records_are_counted_anyway() {
        let mut counts = Counts::default();
        for number in (0..ROWS_MAX + 7).chain(0..3) {
            let value = number.to_string();
            let key = KeyRef {
                value: Some(&value),
                ..KeyRef::default()
            };
            counts.add(key, 2);
        }
        let report = counts.report(Vec::new());
        assert_eq!(report.rows.len(), ROWS_MAX);
        assert_eq!(report.others, 14);
        assert_eq!(report.total, 2 * (ROWS_MAX as u64 + 10));
    }
}
