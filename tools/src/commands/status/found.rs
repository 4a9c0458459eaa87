//! The state of a stack, and its description.

use crate::{
    commands::store_options,
    screen::{Role, Screen},
};
use anyhow::Context;
use gridctl_telemetry::{
    Error, ServerName, Signal, Store, TelemetryConfig, Timestamp,
    home::{SetAside, list_set_aside},
    ledger::{ClockJump, KnownDamage, LedgerEntry},
    maintenance::{FileSystem, ServerLimits, Space, WriterStatus},
    query::InventoryRecord,
};
use gridctl_telemetry_server::{
    Rates,
    display::{escape, losses, per_second, percent, size},
};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{self, Write},
    path::Path,
    time::Duration,
};

/// The number of damaged parts that are named.
const NAMED_MAX: usize = 5;

/// The state of a stack.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Found {
    pub(super) stack: String,
    pub(super) path: String,
    #[serde(skip)]
    pub(super) series: Vec<Series>,
    pub(super) space: Space,
    /// The damaged files that were set aside beside the database.
    set_aside: Vec<SetAside>,
    file_system: FileSystem,
    /// The records a second of the last minute, by signal.
    records_per_second: BTreeMap<Signal, f64>,
    /// The limits of servers without limits of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<Limits>,
    /// Whether a running process writes.
    is_writing: bool,
    writers: Vec<WriterStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_commit: Option<Timestamp>,
    #[serde(rename = "ledger")]
    losses: Vec<LedgerEntry>,
    /// What is known to be damaged.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    damage: Vec<KnownDamage>,
    /// What cannot be read of the list of series, and of the limits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unreadable: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_jump: Option<ClockJump>,
    /// How the stack differs from the configuration of `--config`.
    comparison: Vec<String>,
}

/// The records of one signal of one server.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) record: InventoryRecord,
    /// The records a second of the last minute.
    pub(super) rate: f64,
    pub(super) limits: Option<Limits>,
}

/// The limits of each signal of a server.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Limits {
    pub(super) max_bytes: u64,
    pub(super) max_age_seconds: u64,
}

impl From<ServerLimits> for Limits {
    fn from(limits: ServerLimits) -> Limits {
        Limits {
            max_bytes: limits.bytes_max,
            max_age_seconds: limits.age_max.as_secs(),
        }
    }
}

impl Found {
    /// Examines a stack, and of its records those of `servers`; `None` if it has no database.
    pub(super) fn examine(
        home: &Path,
        stack: &str,
        servers: &[ServerName],
        config: Option<&TelemetryConfig>,
    ) -> gridctl_telemetry::Result<Option<Found>> {
        let Some(store) = Store::open_read_only(home, stack, store_options())? else {
            return Ok(None);
        };
        let snapshot = store.snapshot()?;
        let (inventory, unreadable) = snapshot.readable_inventory()?;
        let mut unreadable: Vec<String> = unreadable.into_iter().map(|it| it.what).collect();
        let comparison = match config {
            Some(config) => compare(&store, &inventory, config)?,
            None => Vec::new(),
        };
        let mut limits_of = |server: Option<&str>| match snapshot.limits_of(server) {
            Ok(limits) => Ok(limits.map(Limits::from)),
            // What is damaged must not hide the rest.
            Err(Error::Corrupt { what, .. }) => {
                unreadable.push(what);
                Ok(None)
            }
            Err(error) => Err(error),
        };
        let limits = limits_of(None)?;
        let rates = Rates::measure(&snapshot, Timestamp::now())?;
        let mut series = Vec::new();
        for record in inventory {
            if servers.is_empty() || servers.contains(&record.server) {
                series.push(Series {
                    rate: rates.of(&record.server, record.signal),
                    limits: limits_of(Some(&record.server))?,
                    record,
                });
            }
        }
        // A limit concerns all its servers, and is named once.
        unreadable.sort();
        unreadable.dedup();
        let writers = store.writers()?;
        Ok(Some(Found {
            is_writing: writers.iter().any(|writer| writer.is_running),
            writers,
            last_commit: snapshot.last_commit()?,
            file_system: store.file_system()?,
            records_per_second: rates.by_signal(),
            limits,
            stack: stack.to_owned(),
            path: store.path().display().to_string(),
            series,
            comparison,
            space: store.space()?,
            set_aside: list_set_aside(home, stack)?,
            losses: snapshot.ledger(..)?,
            unreadable,
            damage: snapshot.known_damage()?,
            clock_jump: snapshot.clock_jump()?,
        }))
    }

    /// Prints what is to say about the whole stack, a line each.
    pub(super) fn describe(&self, screen: &Screen, out: &mut impl Write) -> io::Result<()> {
        let stack = escape(&self.stack);
        let name = screen.style(Role::Name);
        let mut line = |role: Option<Role>, text: &str| {
            let style = role.map_or_else(Default::default, |role| screen.style(role));
            let text = escape(text);
            writeln!(out, "{name}{stack}{name:#}: {style}{text}{style:#}")
        };
        line(None, &self.space_used())?;
        let file_system = &self.file_system;
        let (available, total) = (file_system.available_bytes, file_system.total_bytes);
        let is_full = available < total / 20;
        line(
            is_full.then_some(Role::Warning),
            &format!(
                "its file system has {} of {} available",
                size(available),
                size(total)
            ),
        )?;
        if let Some(limits) = self.limits {
            let age = Duration::from_secs(limits.max_age_seconds);
            line(
                None,
                &format!(
                    "each signal of a server is kept up to {} and for {}",
                    size(limits.max_bytes),
                    humantime::format_duration(age)
                ),
            )?;
        }
        self.describe_writers(screen, &mut line)?;
        line(None, &self.rate())?;
        if let Some(jump) = &self.clock_jump {
            line(Some(Role::Warning), &jump.to_string())?;
        }
        if let Some(evicted) = losses::evicted(&self.losses, |time| screen.time(time)) {
            line(None, &evicted)?;
        }
        if let Some(losses) = losses::summary(&self.losses, |time| screen.time(time)) {
            line(
                Some(Role::Error),
                &format!("{losses}; `losses` has the details"),
            )?;
        }
        for what in self.unreadable.iter().take(NAMED_MAX) {
            line(Some(Role::Error), &format!("cannot be read: {what}"))?;
        }
        let found = self.damage.iter().take(NAMED_MAX);
        for damage in found {
            line(Some(Role::Error), &format!("damaged: {damage}"))?;
        }
        if let Some(more) = self
            .damage
            .len()
            .checked_sub(NAMED_MAX)
            .filter(|it| *it > 0)
        {
            line(
                Some(Role::Error),
                &format!("and {more} more damaged parts; `verify` names all"),
            )?;
        }
        for SetAside {
            path, size_bytes, ..
        } in &self.set_aside
        {
            let (path, size) = (path.display(), size(*size_bytes));
            line(
                Some(Role::Warning),
                &format!(
                    "a damaged database was set aside, {size}: {path}; `verify FILE --salvage DIR` gets \
                     out what can be read"
                ),
            )?;
        }
        for difference in &self.comparison {
            line(Some(Role::Warning), difference)?;
        }
        Ok(())
    }

    fn space_used(&self) -> String {
        let space = &self.space;
        let limit = space.limit_bytes.map_or_else(String::new, |limit| {
            format!(" of {} ({})", size(limit), percent(space.used_bytes, limit))
        });
        format!(
            "{}{limit} on disk: {} live, {} free, {} in reserve",
            size(space.used_bytes),
            size(space.live_bytes),
            size(space.free_bytes),
            size(space.reserve_bytes),
        )
    }

    /// Which processes write, and whether they can.
    fn describe_writers(
        &self,
        screen: &Screen,
        line: &mut impl FnMut(Option<Role>, &str) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut lines: Vec<_> = self
            .writers
            .iter()
            .map(|writer| describe_writer(writer, screen))
            .collect();
        if !self.is_writing {
            lines.push((Role::Warning, "no process is writing".to_owned()));
        }
        if let (Some((_, text)), Some(at)) = (lines.last_mut(), self.last_commit) {
            let _ = write!(text, "; the last commit was at {}", screen.time(at));
        }
        lines
            .into_iter()
            .try_for_each(|(role, text)| line(Some(role), &text))
    }

    fn rate(&self) -> String {
        let total: f64 = self.records_per_second.values().sum();
        if total == 0.0 {
            return "no records in the last minute".to_owned();
        }
        let parts: Vec<String> = self
            .records_per_second
            .iter()
            .filter(|(_, rate)| **rate > 0.0)
            .map(|(signal, rate)| format!("{} {signal}", per_second(*rate)))
            .collect();
        format!(
            "{} records/s lately: {}",
            per_second(total),
            parts.join(", ")
        )
    }
}

fn describe_writer(writer: &WriterStatus, screen: &Screen) -> (Role, String) {
    let process = writer.process_id;
    let since = |time: Option<Timestamp>| {
        time.map_or_else(String::new, |time| format!(" since {}", screen.time(time)))
    };
    match (&writer.last_error, writer.failing_since) {
        _ if !writer.is_running => (
            Role::Error,
            format!("process {process} was killed while it was writing"),
        ),
        (None, None) => (
            Role::Good,
            format!("process {process} is writing{}", since(writer.since)),
        ),
        (error, failing_since) => (
            Role::Error,
            format!(
                "process {process} cannot store{}: {}",
                since(failing_since),
                error.as_deref().unwrap_or("the reason is not known")
            ),
        ),
    }
}

pub(super) fn read_config(path: &Path) -> anyhow::Result<TelemetryConfig> {
    let cannot = || format!("cannot read the configuration {}", path.display());
    let text = fs::read_to_string(path).with_context(cannot)?;
    serde_json::from_str(&text).with_context(cannot)
}

/// Compares a stack with a configuration, a line for each difference.
fn compare(
    store: &Store,
    inventory: &[InventoryRecord],
    config: &TelemetryConfig,
) -> gridctl_telemetry::Result<Vec<String>> {
    let mut warnings = config.validate()?;
    warnings.extend(store.would_delete(&config.retention_policy()?)?);
    let coverage = config.coverage(inventory.iter().map(|found| (&found.server, found.signal)));
    let silent = coverage.silent.iter().map(|(server, signal)| {
        format!(
            "the configured server {:?} has no {signal}",
            server.as_str()
        )
    });
    let unconfigured = coverage.unconfigured.iter().map(|server| {
        format!(
            "the server {:?} has records and is not configured",
            server.as_str()
        )
    });
    let warnings = warnings.iter().map(ToString::to_string);
    Ok(silent.chain(unconfigured).chain(warnings).collect())
}
