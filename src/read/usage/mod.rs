//! Usage: the tokens, costs and calls that were counted in a time range, by server, tool, hour and day
//! from stored metrics; by model from spans; and the calls of skills.
//!
//! Counts belong to the time of the snapshot that stored them, which is at most one flush interval
//! after they were counted. Tokens and costs are those of the accumulator, across restarts, resets and
//! clock jumps. Records that were lost, evicted or wiped are in no count.

mod counters;
mod models;

pub use self::models::ModelUsage;

use self::counters::{Counters, Of, Reading};
use crate::{
    error::{Error, Result},
    read::{Damage, Query, interval::Zone},
    record::{CallCounts, CostCounts, ServerName, TokenCounts, calls::SKILLS_SERVER},
    signal::Signal,
    store::{Direction, Snapshot, Store},
    time::{TimeRange, Timestamp},
};
use ::time::UtcOffset;
use std::collections::BTreeMap;

/// Maximum number of records before a time range that are searched for the counters at its start.
/// Foreign metrics may lie between them, and their number must not matter.
const RECORDS_BEFORE_MAX: usize = 1024;

/// Maximum number of rows of a report. Names come from outside, so without a limit they could fill the
/// memory.
const ROWS_MAX: usize = 100_000;

/// Which usage to sum up, and by what: see [`Snapshot::usage`].
///
/// ```
/// use gridctl_telemetry::query::{UsageBy, UsageQuery};
///
/// // Each server's usage, day by day, in UTC.
/// let query = UsageQuery::new().by(UsageBy::Day).by(UsageBy::Server);
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct UsageQuery {
    servers: Vec<ServerName>,
    range: TimeRange,
    by: Vec<UsageBy>,
    zone: Zone,
    skips_damaged: bool,
}

/// What usage is summed up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum UsageBy {
    /// The server that was called.
    Server,
    /// The tool that was called. Tokens that were counted for no tool are in a row without a tool. Costs
    /// are not known by tool.
    Tool,
    /// The hour, in the zone of the query.
    Hour,
    /// The day, in the zone of the query.
    Day,
    /// The language model, from spans with the attributes `gen_ai.usage.*` of the OpenTelemetry
    /// semantic conventions. Costs are not known by model.
    Model,
    /// The skill that was called. Skills belong to the stack and to no server, and have only calls.
    Skill,
}

/// The usage that [`Snapshot::usage`] found.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct UsageReport {
    /// The rows in which something was counted, ordered by time, server and name. After 100,000 rows,
    /// further tools, models and skills are in rows without a name.
    pub rows: Vec<UsageRow>,
    /// Everything that was counted in the range.
    pub total: UsageCounts,
    /// What could not be read and was left out, if the query
    /// [asks for that](UsageQuery::skip_damaged).
    #[serde(skip)]
    pub damage: Vec<Damage>,
}

/// The usage of one combination of the things that a query sums up by. A field is `None` when the query
/// does not sum up by it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct UsageRow {
    /// When the hour or the day begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// The server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerName>,
    /// The tool; `None` also for tokens that were counted for no tool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// The model that answered, or else the requested one; `None` also when a span names neither.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The skill.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skill: Option<String>,
    /// What was counted.
    #[serde(flatten)]
    pub counts: UsageCounts,
}

/// What was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct UsageCounts {
    /// The number of calls: of tools, of skills, or of models.
    pub calls: i64,
    /// The tokens.
    pub tokens: TokenCounts,
    /// The cost; `None` when no cost was counted, or it is not known by what the rows are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<CostCounts>,
}

impl UsageQuery {
    /// The usage of all servers and all time, in one row.
    pub fn new() -> UsageQuery {
        UsageQuery::default()
    }

    /// Only usage of this server. Further calls add servers.
    pub fn server(mut self, server: ServerName) -> UsageQuery {
        self.servers.push(server);
        self
    }

    /// Only usage within this time range.
    pub fn range(mut self, range: impl Into<TimeRange>) -> UsageQuery {
        self.range = range.into();
        self
    }

    /// Sums up by this. Further calls divide the rows further. By hour and by day is by hour.
    pub fn by(mut self, by: UsageBy) -> UsageQuery {
        self.by.push(by);
        self
    }

    /// Sets the zone of hours and days: the offset from UTC at a point in time. UTC unless this is
    /// called.
    pub fn zone(
        mut self,
        zone: impl Fn(Timestamp) -> UtcOffset + Send + Sync + 'static,
    ) -> UsageQuery {
        self.zone = Zone::new(zone);
        self
    }

    /// Leaves out records that cannot be read, instead of failing at the first:
    /// [`UsageReport::damage`] tells which.
    pub fn skip_damaged(mut self) -> UsageQuery {
        self.skips_damaged = true;
        self
    }

    fn is_by(&self, by: UsageBy) -> bool {
        self.by.contains(&by)
    }

    /// Fails with [`Error::IncompatibleUsage`] when no row can have everything that is asked for.
    fn check(&self) -> Result<()> {
        for (a, b) in [
            (UsageBy::Tool, UsageBy::Model),
            (UsageBy::Tool, UsageBy::Skill),
            (UsageBy::Model, UsageBy::Skill),
            (UsageBy::Server, UsageBy::Skill),
        ] {
            if self.is_by(a) && self.is_by(b) {
                let (first, second) = (a.name(), b.name());
                return Err(Error::IncompatibleUsage { first, second });
            }
        }
        Ok(())
    }

    /// When the hour or the day of `at` begins, if rows are by that.
    fn interval(&self, at: Timestamp) -> Option<Timestamp> {
        if self.is_by(UsageBy::Hour) {
            Some(self.zone.hour(at))
        } else {
            self.is_by(UsageBy::Day).then(|| self.zone.day(at))
        }
    }

    /// The records of one signal in a range.
    fn records(&self, signal: Signal, range: impl Into<TimeRange>) -> Query {
        let query = Query::new(signal).range(range);
        if self.skips_damaged {
            query.skip_damaged()
        } else {
            query
        }
    }

    /// The snapshots of the counters of `server` in a range.
    fn snapshots_of(&self, server: &ServerName, range: impl Into<TimeRange>) -> Query {
        self.records(Signal::Metrics, range).server(server.clone())
    }

    fn wants(&self, server: &ServerName) -> bool {
        self.servers.is_empty() || self.servers.contains(server)
    }
}

impl UsageBy {
    fn name(self) -> &'static str {
        match self {
            UsageBy::Server => "server",
            UsageBy::Tool => "tool",
            UsageBy::Hour => "hour",
            UsageBy::Day => "day",
            UsageBy::Model => "model",
            UsageBy::Skill => "skill",
        }
    }
}

impl UsageCounts {
    /// Whether nothing was counted.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.calls == 0
            && self.tokens == TokenCounts::default()
            && self.cost.unwrap_or_default() == CostCounts::default()
    }

    fn add(&mut self, other: UsageCounts) {
        self.calls = self.calls.saturating_add(other.calls);
        self.tokens = self.tokens.saturating_add(other.tokens);
        if let Some(cost) = other.cost {
            self.cost = Some(self.cost.unwrap_or_default().saturating_add(cost));
        }
    }

    /// The counts of one tool, model or skill, whose cost is not known.
    fn of_calls(counts: CallCounts) -> UsageCounts {
        UsageCounts {
            calls: counts.calls,
            tokens: TokenCounts {
                input_tokens: counts.input_tokens,
                output_tokens: counts.output_tokens,
                total_tokens: counts.input_tokens.saturating_add(counts.output_tokens),
            },
            cost: None,
        }
    }
}

impl Snapshot {
    /// Sums up the tokens, costs and calls that were counted in the range of `query`.
    ///
    /// The cost grows with the records in the range, and not with those outside of it. Fails with
    /// [`Error::IncompatibleUsage`], and like [`Snapshot::scan`] and
    /// [`RawRecord::decode`](crate::query::RawRecord::decode).
    pub fn usage(&self, query: &UsageQuery) -> Result<UsageReport> {
        query.check()?;
        if query.is_by(UsageBy::Model) {
            return Ok(models::count(self, query)?.report(query));
        }
        let mut rows = Rows::default();
        for entry in self.view().series()? {
            let is_skills = entry.server.as_str() == SKILLS_SERVER;
            let is_wanted = is_skills || query.wants(&entry.server);
            if entry.signal == Signal::Metrics
                && is_wanted
                && is_skills == query.is_by(UsageBy::Skill)
            {
                self.count_server(query, &entry.server, &mut rows)?;
            }
        }
        Ok(rows.report(query))
    }

    /// Adds the usage of one server, or of the skills, to `rows`.
    fn count_server(&self, query: &UsageQuery, server: &ServerName, rows: &mut Rows) -> Result<()> {
        let mut counted = Rows::default();
        let mut counters = self.counters_before(query, server)?;
        let mut snapshots = self
            .scan(&query.snapshots_of(server, query.range))?
            .records();
        let mut last_sequence = 0;
        while let Some(stored) = snapshots.next().transpose()? {
            // The clock was set back, or old files were imported.
            if stored.sequence < last_sequence {
                return self.count_by_arrival(query, server, rows);
            }
            last_sequence = stored.sequence;
            if let Some(reading) = Reading::of(stored.record) {
                counted.advance(query, server, &mut counters, reading);
            }
        }
        counted.damage = snapshots.damage();
        rows.append(counted);
        Ok(())
    }

    /// Does what [`Snapshot::count_server`] does where time and arrival have different orders. Counters
    /// rise in the order of arrival, so all snapshots in the range are held and sorted.
    fn count_by_arrival(
        &self,
        query: &UsageQuery,
        server: &ServerName,
        rows: &mut Rows,
    ) -> Result<()> {
        let mut readings = Vec::new();
        let mut snapshots = self
            .scan(&query.snapshots_of(server, query.range))?
            .records();
        while let Some(stored) = snapshots.next().transpose()? {
            let sequence = stored.sequence;
            let reading = Reading::of(stored.record);
            readings.extend(reading.map(|reading| (sequence, reading)));
        }
        rows.damage.extend(snapshots.damage());
        readings.sort_unstable_by_key(|(sequence, _)| *sequence);
        let mut counters = self.counters_before(query, server)?;
        for (_, reading) in readings {
            rows.advance(query, server, &mut counters, reading);
        }
        Ok(())
    }

    /// The counters where the range of `query` begins.
    fn counters_before(&self, query: &UsageQuery, server: &ServerName) -> Result<Counters> {
        let mut counters = Counters::new(if server.as_str() == SKILLS_SERVER {
            let mut totals = self.totals()?.into_iter();
            let totals = totals.find(|(name, _)| name == server);
            let since = totals.map_or(i64::MAX, |(_, totals)| totals.counting_since);
            Of::Skills {
                counting_since: Timestamp::from_unix_nanos(since),
            }
        } else {
            Of::Server
        });
        let Some(since) = query.range.since else {
            return Ok(counters);
        };
        let before = query
            .snapshots_of(server, ..since)
            .direction(Direction::Backward);
        let snapshots = self.scan(&before)?.records().take(RECORDS_BEFORE_MAX);
        for stored in snapshots {
            if let Some(reading) = Reading::of(stored?.record) {
                counters.advance(reading);
                break;
            }
        }
        Ok(counters)
    }
}

impl Store {
    /// Sums up the usage in the present state of the store; see [`Snapshot::usage`].
    pub fn usage(&self, query: &UsageQuery) -> Result<UsageReport> {
        self.snapshot()?.usage(query)
    }
}

/// What distinguishes a row, in the order of rows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Key {
    time: Option<Timestamp>,
    server: Option<ServerName>,
    /// The tool, the model or the skill.
    name: Option<String>,
}

/// The rows of a report that is being made.
#[derive(Debug, Default)]
struct Rows {
    by_key: BTreeMap<Key, UsageCounts>,
    total: UsageCounts,
    damage: Vec<Damage>,
}

impl Rows {
    fn add(&mut self, key: Key, counts: UsageCounts) {
        self.add_row(key, counts);
        self.total.add(counts);
    }

    fn add_row(&mut self, mut key: Key, counts: UsageCounts) {
        if self.by_key.len() >= ROWS_MAX && !self.by_key.contains_key(&key) {
            key.name = None;
        }
        self.by_key.entry(key).or_default().add(counts);
    }

    /// Advances `counters` to a snapshot of `server`, and adds what was counted.
    fn advance(
        &mut self,
        query: &UsageQuery,
        server: &ServerName,
        counters: &mut Counters,
        reading: Reading,
    ) {
        let time = query.interval(reading.snapshot.timestamp);
        let counted = counters.advance(reading);
        let server = query.is_by(UsageBy::Server).then(|| server.clone());
        let is_by_name = query.is_by(UsageBy::Tool) || query.is_by(UsageBy::Skill);
        let key = |name| Key {
            time,
            server: server.clone(),
            name,
        };
        let mut named = UsageCounts::default();
        for (name, gained) in counted.calls {
            let counts = UsageCounts::of_calls(gained);
            named.add(counts);
            if is_by_name {
                self.add_row(key(Some(name)), counts);
            }
        }
        let all = UsageCounts {
            calls: named.calls,
            tokens: counted.tokens,
            cost: counted.cost,
        };
        self.total.add(all);
        let unnamed = UsageCounts {
            calls: 0,
            // Below zero where a token was counted for its tool, and for the server in the next
            // snapshot.
            tokens: counted.tokens.saturating_sub(named.tokens),
            cost: None,
        };
        self.add_row(key(None), if is_by_name { unnamed } else { all });
    }

    fn append(&mut self, other: Rows) {
        for (key, counts) in other.by_key {
            self.add_row(key, counts);
        }
        self.total.add(other.total);
        self.damage.extend(other.damage);
    }

    fn report(self, query: &UsageQuery) -> UsageReport {
        let is_counted = |(_, counts): &(Key, UsageCounts)| {
            !counts.is_zero() && counts.tokens.to_array().iter().all(|count| *count >= 0)
        };
        let row = |(key, counts): (Key, UsageCounts)| {
            let Key { time, server, name } = key;
            let named = |by| name.clone().filter(|_| query.is_by(by));
            UsageRow {
                time,
                server,
                tool: named(UsageBy::Tool),
                model: named(UsageBy::Model),
                skill: named(UsageBy::Skill),
                counts,
            }
        };
        UsageReport {
            rows: self
                .by_key
                .into_iter()
                .filter(is_counted)
                .map(row)
                .collect(),
            total: self.total,
            damage: self.damage,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beyond_the_limit_of_rows_share_one() {
        let mut rows = Rows::default();
        for number in 0..ROWS_MAX + 7 {
            let name = Some(number.to_string());
            let counts = UsageCounts {
                calls: 1,
                ..UsageCounts::default()
            };
            rows.add(
                Key {
                    name,
                    ..Key::default()
                },
                counts,
            );
        }
        let report = rows.report(&UsageQuery::new().by(UsageBy::Model));
        assert_eq!(report.rows.len(), ROWS_MAX + 1);
        assert_eq!(
            (&report.rows[0].model, report.rows[0].counts.calls),
            (&None, 7)
        );
        assert_eq!(report.total.calls, 100_007);
    }
}
