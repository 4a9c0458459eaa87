//! The marks that wipes leave.
//!
//! When another process wipes a store, the daemon's queue may still hold records that were emitted
//! before the wipe. They must not be stored when the daemon commits them. So a wipe leaves a mark:
//! its scope, and its time on the monotonic clock, which all processes of a machine share. The
//! daemon's writer drops records that were emitted before the mark.
//!
//! A writer ignores marks older than itself, because its queue holds no record that old. Therefore
//! a reboot, which sets the monotonic clock back, does no harm.

use crate::{
    platform::monotonic_nanos,
    record::ServerName,
    signal::Signal,
    store::{
        engine::fault::Fault,
        layout::{
            series,
            tables::{META, WIPES, meta},
        },
        ledger::{decode, encode},
    },
};
use redb::{ReadTransaction, ReadableTable, WriteTransaction};
use serde::{Deserialize, Serialize};

/// Which records a wipe deletes: all of them, or those of one server, one signal or both.
///
/// ```
/// use gridctl_telemetry::{ServerName, Signal, maintenance::WipeScope};
///
/// let logs_of_github = WipeScope::everything()
///     .server(ServerName::new("github")?)
///     .signal(Signal::Logs);
/// # Ok::<(), gridctl_telemetry::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct WipeScope {
    /// Only records of this server.
    pub server: Option<ServerName>,
    /// Only records of this signal.
    pub signal: Option<Signal>,
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

    pub(crate) fn covers(&self, server: &str, signal: Signal) -> bool {
        self.server.as_deref().is_none_or(|name| name == server)
            && self.signal.is_none_or(|only| only == signal)
    }

    fn key(&self) -> (&str, u8) {
        let signal = self.signal.map_or(EVERY_SIGNAL, |signal| signal as u8);
        (self.server.as_deref().unwrap_or(EVERY_SERVER), signal)
    }

    fn from_key((server, signal): (&str, u8)) -> Result<WipeScope, Fault> {
        Ok(WipeScope {
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
    }
}

/// The key of a mark that covers all servers: no server has an empty name.
const EVERY_SERVER: &str = "";
const EVERY_SIGNAL: u8 = u8::MAX;

/// The last wipe of a scope: its number and its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct WipeMark {
    generation: u64,
    monotonic_nanos: u64,
}

/// The wipes that a writer must honour: those since it started.
#[derive(Debug)]
pub(crate) struct WipeMarks {
    since: u64,
    seen: u64,
    marks: Vec<(WipeScope, WipeMark)>,
}

impl WipeMarks {
    /// The marks of a writer that starts now and has nothing queued.
    pub(crate) fn starting_at(generation: u64) -> WipeMarks {
        WipeMarks {
            since: generation,
            seen: generation,
            marks: Vec::new(),
        }
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
        self.marks = marks_after(&transaction.open_table(WIPES)?, self.since)?;
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
        })
    }

    /// The number of the newest wipe.
    pub(crate) fn generation(&self) -> u64 {
        self.seen
    }

    /// The scopes of the wipes after `generation`.
    pub(crate) fn scopes_after(&self, generation: u64) -> impl Iterator<Item = &WipeScope> {
        let marks = self.marks.iter();
        marks
            .filter(move |(_, mark)| mark.generation > generation)
            .map(|(scope, _)| scope)
    }

    /// The time on the monotonic clock up to which records of this series are wiped.
    pub(crate) fn wiped_until(&self, server: &str, signal: Signal) -> Option<u64> {
        self.marks
            .iter()
            .filter(|(scope, _)| scope.covers(server, signal))
            .map(|(_, mark)| mark.monotonic_nanos)
            .max()
    }
}

fn marks_after(
    wipes: &impl ReadableTable<(&'static str, u8), &'static [u8]>,
    generation: u64,
) -> Result<Vec<(WipeScope, WipeMark)>, Fault> {
    let mut marks = Vec::new();
    for entry in wipes.iter()? {
        let (key, value) = entry?;
        let mark: WipeMark = decode(value.value())?;
        if mark.generation > generation {
            marks.push((WipeScope::from_key(key.value())?, mark));
        }
    }
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
    let mut included = Vec::new();
    for entry in wipes.iter()? {
        let key = entry?.0;
        if scope.contains(&WipeScope::from_key(key.value())?) {
            let (server, signal) = key.value();
            included.push((server.to_owned(), signal));
        }
    }
    for (server, signal) in &included {
        wipes.remove((server.as_str(), *signal))?;
    }
    let mark = WipeMark {
        generation,
        monotonic_nanos: monotonic_nanos(),
    };
    wipes.insert(scope.key(), encode(&mark)?.as_slice())?;
    Ok(())
}
