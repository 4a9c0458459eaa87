//! The marks that wipes leave.
//!
//! When another process wipes a store, the daemon's queue may still hold records that were emitted
//! before the wipe. They must not be stored when the daemon commits them. So a wipe leaves a mark:
//! its scope, and its time on the monotonic clock, which all processes of a machine share. The
//! daemon's writer drops records that were emitted before the mark.
//!
//! A writer ignores marks older than itself, because its queue holds no record that old. Therefore
//! a reboot, which sets the monotonic clock back, does no harm.
//!
//! A scope has one mark of a wipe of all its records. Marks of wipes up to a time
//! ([`WipeScope::before`]) follow it in the same entry, as far as they cover records that no later
//! mark covers.

use crate::{
    platform::monotonic_nanos,
    record::ServerName,
    signal::Signal,
    store::{
        engine::{fault::Fault, transaction::WriteTransaction},
        layout::{
            checked, series,
            tables::{META, WIPES, meta},
        },
        ledger::{checked_value, decode_next, encode},
    },
    time::Timestamp,
};
use redb::{ReadTransaction, ReadableTable};
use serde::{Deserialize, Serialize};

/// Which records a wipe deletes: all of them, or those of one server or one signal, or those before a
/// time.
///
/// ```
/// use gridctl_telemetry::{ServerName, Signal, Timestamp, maintenance::WipeScope};
///
/// let logs_of_github = WipeScope::everything()
///     .server(ServerName::new("github")?)
///     .signal(Signal::Logs);
/// let older = logs_of_github.before("2026-05-08T00:00:00Z".parse::<Timestamp>()?);
/// # Ok::<(), gridctl_telemetry::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct WipeScope {
    /// Only records of this server.
    pub server: Option<ServerName>,
    /// Only records of this signal.
    pub signal: Option<Signal>,
    /// Only records with timestamps before this time. Counters go on: they are of the present.
    pub before: Option<Timestamp>,
}

impl WipeScope {
    /// Everything in the database.
    #[must_use]
    pub fn everything() -> WipeScope {
        WipeScope::default()
    }

    /// Limits the scope to one server; `None` covers all servers again.
    #[must_use]
    pub fn server(mut self, server: impl Into<Option<ServerName>>) -> WipeScope {
        self.server = server.into();
        self
    }

    /// Limits the scope to one signal; `None` covers all signals again.
    #[must_use]
    pub fn signal(mut self, signal: impl Into<Option<Signal>>) -> WipeScope {
        self.signal = signal.into();
        self
    }

    /// Limits the scope to records with timestamps before this time; `None` covers all times again.
    ///
    /// Such a wipe deletes history, as the age limit does: the counters of tokens, costs and calls
    /// continue from their present values.
    #[must_use]
    pub fn before(mut self, before: impl Into<Option<Timestamp>>) -> WipeScope {
        self.before = before.into();
        self
    }

    /// This scope for each of `servers`, or itself if there are none.
    pub fn for_servers(self, servers: &[ServerName]) -> impl Iterator<Item = WipeScope> {
        let all = servers.is_empty().then(|| self.clone());
        let each = servers.iter().cloned();
        all.into_iter()
            .chain(each.map(move |server| self.clone().server(server)))
    }

    /// Whether this scope covers the counters of `server`.
    pub(crate) fn covers_counters(&self, server: &str) -> bool {
        self.before.is_none() && self.covers(server, Signal::Metrics)
    }

    /// Whether this scope covers records of this series: all, or those before its time.
    pub(crate) fn covers(&self, server: &str, signal: Signal) -> bool {
        self.server.as_deref().is_none_or(|name| name == server)
            && self.signal.is_none_or(|only| only == signal)
    }

    fn key(&self) -> (&str, u8) {
        let signal = self.signal.map_or(EVERY_SIGNAL, |signal| signal as u8);
        (self.server.as_deref().unwrap_or(EVERY_SERVER), signal)
    }

    /// The scope of an entry, without its time.
    fn from_key((server, signal): (&str, u8)) -> Result<WipeScope, Fault> {
        Ok(WipeScope {
            before: None,
            server: match server {
                EVERY_SERVER => None,
                name => Some(ServerName::new(name)?),
            },
            signal: match signal {
                EVERY_SIGNAL => None,
                code => Some(series::signal_of(code)?),
            },
        })
    }

    /// Whether this scope covers all records that `other` covers.
    fn contains(&self, other: &WipeScope) -> bool {
        (self.server.is_none() || self.server == other.server)
            && (self.signal.is_none() || self.signal == other.signal)
            && match (self.before, other.before) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(before), Some(other)) => before >= other,
            }
    }
}

/// The key of a mark that covers all servers: no server has an empty name.
const EVERY_SERVER: &str = "";
const EVERY_SIGNAL: u8 = u8::MAX;

/// The maximum number of marks of one scope with a time. Each has an earlier time than the one before
/// it, so no sensible sequence of wipes has that many.
const MARKS_BEFORE_MAX: usize = 256;

/// The last wipe of a scope: its number and its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct WipeMark {
    /// 0 when there was none.
    generation: u64,
    monotonic_nanos: u64,
}

/// A wipe of the records before a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct MarkBefore(WipeMark, i64);

/// An entry of [`WIPES`]: the marks of one scope. Older versions neither write nor read the list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Marks {
    of_all: WipeMark,
    /// Oldest first.
    before: Vec<MarkBefore>,
}

impl Marks {
    /// The marks of an entry; none when it is damaged, which must neither keep records from being
    /// stored nor another wipe from being made.
    fn read(key: (&str, u8), stored: &[u8]) -> Marks {
        let value = checked_value::<(&str, u8)>(&key, stored);
        value.and_then(Marks::decode).unwrap_or_default()
    }

    pub(super) fn decode(mut bytes: &[u8]) -> Result<Marks, Fault> {
        let of_all = decode_next(&mut bytes)?;
        let before = if bytes.is_empty() {
            Vec::new()
        } else {
            decode_next(&mut bytes)?
        };
        Ok(Marks { of_all, before })
    }

    fn encode(&self) -> Result<Vec<u8>, Fault> {
        let mut bytes = encode(&self.of_all)?;
        if !self.before.is_empty() {
            bytes.extend(encode(&self.before)?);
        }
        Ok(bytes)
    }

    /// Each mark with its scope, which is `scope` and perhaps a time.
    fn with_scopes(&self, scope: &WipeScope) -> Vec<(WipeScope, WipeMark)> {
        let before = self.before.iter().map(|MarkBefore(mark, before)| {
            let before = Timestamp::from_unix_nanos(*before);
            (scope.clone().before(before), *mark)
        });
        std::iter::once((scope.clone(), self.of_all))
            .chain(before)
            .collect()
    }

    /// Adds the mark of a wipe of `before`, or of all times.
    fn add(&mut self, mark: WipeMark, before: Option<Timestamp>) {
        match before {
            None => self.of_all = mark,
            Some(before) => {
                if self.before.len() >= MARKS_BEFORE_MAX {
                    self.before.remove(0);
                }
                self.before.push(MarkBefore(mark, before.unix_nanos()));
            }
        }
    }

    /// Removes the marks of `scope` that `wiped` includes. Returns whether none is left.
    fn remove_included(&mut self, scope: &WipeScope, wiped: &WipeScope) -> bool {
        if wiped.contains(scope) {
            self.of_all = WipeMark::default();
        }
        self.before.retain(|MarkBefore(_, before)| {
            let scope = scope.clone().before(Timestamp::from_unix_nanos(*before));
            !wiped.contains(&scope)
        });
        *self == Marks::default()
    }
}

/// The wipes that a writer must honour: those since it started.
#[derive(Debug, Clone)]
pub(crate) struct WipeMarks {
    since: u64,
    seen: u64,
    marks: Vec<(WipeScope, WipeMark)>,
    /// The marks of a database that the writer was in before, see [`WipeMarks::inheriting`].
    inherited: Vec<(WipeScope, WipeMark)>,
}

impl WipeMarks {
    /// The marks of a writer that starts now and has nothing queued.
    pub(crate) fn starting_at(generation: u64) -> WipeMarks {
        WipeMarks {
            since: generation,
            seen: generation,
            marks: Vec::new(),
            inherited: Vec::new(),
        }
    }

    /// Also honours `before`, the marks of a database whose file was replaced: the writer's queue still
    /// holds records that they cover.
    pub(crate) fn inheriting(mut self, before: WipeMarks) -> WipeMarks {
        self.inherited = before.inherited;
        self.inherited.extend(before.marks);
        self
    }

    /// Reads the wipes that were committed before `transaction` began, and returns whether there
    /// are new ones.
    pub(crate) fn refresh(
        &mut self,
        transaction: &WriteTransaction,
        generation: u64,
    ) -> Result<bool, Fault> {
        if generation == self.seen {
            return Ok(false);
        }
        self.marks = marks_after(&*transaction.open_table(WIPES)?, self.since)?;
        self.seen = generation;
        Ok(true)
    }

    /// The wipes after `generation` that a reader sees.
    pub(crate) fn read(transaction: &ReadTransaction, generation: u64) -> Result<WipeMarks, Fault> {
        let marks = marks_after(&transaction.open_table(WIPES)?, generation)?;
        let generations = marks.iter().map(|(_, mark)| mark.generation);
        Ok(WipeMarks {
            since: generation,
            seen: generations.max().unwrap_or(generation),
            marks,
            inherited: Vec::new(),
        })
    }

    /// Fails when a mark is damaged.
    pub(crate) fn check(transaction: &ReadTransaction) -> Result<(), Fault> {
        for entry in transaction.open_table(WIPES)?.iter()? {
            let (key, value) = entry?;
            WipeScope::from_key(key.value())?;
            Marks::decode(checked_value::<(&str, u8)>(&key.value(), value.value())?)?;
        }
        Ok(())
    }

    fn all(&self) -> impl Iterator<Item = &(WipeScope, WipeMark)> {
        self.inherited.iter().chain(&self.marks)
    }

    /// The number of the last wipe before these.
    pub(crate) fn since(&self) -> u64 {
        self.since
    }

    /// The number of the newest wipe.
    pub(crate) fn generation(&self) -> u64 {
        self.seen
    }

    /// Whether a wipe after `generation` covers the counters of `server`.
    pub(crate) fn covers_counters(&self, server: &str, generation: u64) -> bool {
        self.marks
            .iter()
            .any(|(scope, mark)| mark.generation > generation && scope.covers_counters(server))
    }

    /// Whether counters that `server` had at `emitted` on the monotonic clock are wiped.
    pub(crate) fn counters_are_wiped(&self, server: &str, emitted: u64) -> bool {
        self.all()
            .any(|(scope, mark)| emitted <= mark.monotonic_nanos && scope.covers_counters(server))
    }

    /// The time on the monotonic clock of the last wipe of records of this series.
    pub(crate) fn wiped_at(&self, server: &str, signal: Signal) -> Option<u64> {
        self.of_series(server, signal)
            .map(|(mark, _)| mark.monotonic_nanos)
            .max()
    }

    /// The marks that cover records of this series, each with the time before which it covers them.
    pub(crate) fn of_series(
        &self,
        server: &str,
        signal: Signal,
    ) -> impl Iterator<Item = (WipeMark, Option<Timestamp>)> {
        self.all()
            .filter(move |(scope, _)| scope.covers(server, signal))
            .map(|(scope, mark)| (*mark, scope.before))
    }
}

impl WipeMark {
    /// Whether this wipe, of the records before `before`, covers a record.
    pub(crate) fn covers(&self, before: Option<Timestamp>, timestamp: i64, emitted: u64) -> bool {
        emitted <= self.monotonic_nanos
            && before.is_none_or(|before| timestamp < before.unix_nanos())
    }
}

fn marks_after(
    wipes: &impl ReadableTable<(&'static str, u8), &'static [u8]>,
    generation: u64,
) -> Result<Vec<(WipeScope, WipeMark)>, Fault> {
    let mut marks = Vec::new();
    for entry in wipes.iter()? {
        let (key, value) = entry?;
        let scope = WipeScope::from_key(key.value())?;
        marks.extend(Marks::read(key.value(), value.value()).with_scopes(&scope));
    }
    marks.retain(|(_, mark)| mark.generation > generation);
    Ok(marks)
}

/// Notes that `scope` is being wiped.
pub(crate) fn mark(transaction: &WriteTransaction, scope: &WipeScope) -> Result<(), Fault> {
    let generation = {
        let mut meta = transaction.open_table(META)?;
        let generation = meta
            .get(meta::WIPE_GENERATION)?
            .map_or(0, |value| value.value())
            + 1;
        meta.insert(meta::WIPE_GENERATION, generation)?;
        generation
    };
    let mut wipes = transaction.open_table(WIPES)?;
    // The new mark replaces those that it includes. Otherwise the table would grow with every server
    // that was ever wiped.
    let mut changed = Vec::new();
    for entry in wipes.iter()? {
        let (key, value) = entry?;
        let known = Marks::read(key.value(), value.value());
        let mut kept = known.clone();
        let is_empty = kept.remove_included(&WipeScope::from_key(key.value())?, scope);
        if kept != known {
            let (server, signal) = key.value();
            changed.push((server.to_owned(), signal, (!is_empty).then_some(kept)));
        }
    }
    for (server, signal, kept) in &changed {
        let key = (server.as_str(), *signal);
        match kept {
            Some(kept) => checked::insert(&mut wipes, key, &kept.encode()?)?,
            None => {
                wipes.remove(key)?;
            }
        }
    }
    let known = wipes.get(scope.key())?;
    let mut marks = known.map_or_else(Marks::default, |known| {
        Marks::read(scope.key(), known.value())
    });
    let mark = WipeMark {
        generation,
        monotonic_nanos: monotonic_nanos(),
    };
    marks.add(mark, scope.before);
    checked::insert(&mut wipes, scope.key(), &marks.encode()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000_000;

    fn mark(generation: u64) -> WipeMark {
        WipeMark {
            generation,
            monotonic_nanos: generation * 10,
        }
    }

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_unix_nanos(hours * HOUR)
    }

    #[test]
    fn entries_of_older_versions_are_read_and_understand_new_ones() {
        let old = encode(&mark(7)).unwrap();
        let mut marks = Marks::decode(&old).unwrap();
        assert_eq!((marks.of_all, marks.before.len()), (mark(7), 0));
        assert_eq!(marks.encode().unwrap(), old);
        marks.add(mark(8), Some(at(3)));
        let new = marks.encode().unwrap();
        assert_eq!(Marks::decode(&new).unwrap(), marks);
        assert_eq!(rmp_serde::from_slice::<WipeMark>(&new).unwrap(), mark(7));
        assert!(Marks::decode(&new[..new.len() - 1]).is_err());
    }

    #[test]
    fn a_mark_replaces_those_that_cover_no_more() {
        let all = WipeScope::everything();
        let mut marks = Marks::default();
        marks.add(mark(1), None);
        marks.add(mark(2), Some(at(5)));
        marks.add(mark(3), Some(at(3)));
        // Of the same time or an earlier one: they were earlier, and cover less.
        assert!(!marks.remove_included(&all, &all.clone().before(at(3))));
        assert_eq!(marks.before, [MarkBefore(mark(2), 5 * HOUR)]);
        assert_eq!(marks.of_all, mark(1));
        assert!(marks.remove_included(&all, &all));
        // The list of a scope is bounded, whatever the times are.
        for hours in (0..1000).rev() {
            marks.add(mark(4), Some(at(hours)));
        }
        assert_eq!(marks.before.len(), MARKS_BEFORE_MAX);
    }
}
