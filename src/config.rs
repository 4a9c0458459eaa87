//! The user's configuration: which signals are stored, and the limits of what is kept.

use crate::{
    error::{Error, Result},
    record::ServerName,
    signal::Signal,
};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Unexpected},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::PathBuf,
    time::Duration,
};
use tracing::level_filters::LevelFilter;

/// The telemetry configuration of a stack.
///
/// ```
/// use gridctl_telemetry::{Signal, TelemetryConfig};
///
/// let config: TelemetryConfig = serde_json::from_str(
///     r#"{
///         "persist": { "logs": true, "traces": true },
///         "retention": { "max_age_days": 30 },
///         "max_total_mb": 4096,
///         "servers": { "github": {}, "chatty": { "persist": { "logs": false } } }
///     }"#,
/// )?;
/// assert!(config.validate()?.is_empty());
/// assert!(config.persists("github", Signal::Logs));
/// assert!(!config.persists("chatty", Signal::Logs));
/// assert!(config.persists("chatty", Signal::Traces));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TelemetryConfig {
    /// The signals stored for servers without an override. None by default: storing is opt-in.
    pub persist: Persist,
    /// The limits of each signal of servers without limits of their own.
    pub retention: Retention,
    /// Maximum size of the stack's database on disk, in bytes. It covers the records of all servers
    /// and signals, free pages and headroom. When it is reached, records are evicted from the
    /// largest (server, signal) pairs first, oldest records first. Zero or absent means the
    /// default, 2 GiB; the minimum is 8 MiB, the maximum 16 TiB.
    ///
    /// In a file it is `max_total_mb`: a number of MiB, or a size such as `"2GiB"` or `"500MB"`.
    #[serde(
        rename = "max_total_mb",
        serialize_with = "write_size",
        deserialize_with = "max_total_bytes"
    )]
    pub max_total_bytes: u64,
    /// The servers of the stack. A server without overrides has an empty entry, or `null`.
    #[serde(deserialize_with = "servers")]
    pub servers: BTreeMap<String, ServerTelemetry>,
}

/// Which signals are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Persist {
    /// Log events.
    pub logs: bool,
    /// Token and cost counters.
    pub metrics: bool,
    /// Spans.
    pub traces: bool,
}

/// The overrides of one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ServerTelemetry {
    /// The signals stored for this server, where they differ from the stack's.
    pub persist: PersistOverride,
    /// The limits of each signal of this server; `None` for those of the stack.
    pub retention: Option<Retention>,
    /// The most verbose level of log events that is stored; `None` to keep the level of a running
    /// server, which is that of [`TelemetryOptions::logs`](crate::TelemetryOptions::logs) until it is
    /// changed.
    pub log_level: Option<LogLevel>,
}

/// The most verbose level of log events that is stored. In a configuration it is written in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// No events.
    Off,
    /// Errors.
    Error,
    /// Warnings and errors.
    Warn,
    /// All but debug and trace events.
    Info,
    /// All but trace events.
    Debug,
    /// All events.
    Trace,
}

impl<'de> Deserialize<'de> for LogLevel {
    /// Deserializes the name of a level.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<LogLevel, D::Error> {
        deserializer.deserialize_str(LogLevelVisitor)
    }
}

struct LogLevelVisitor;

impl de::Visitor<'_> for LogLevelVisitor {
    type Value = LogLevel;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "log_level to be \"off\", \"error\", \"warn\", \"info\", \"debug\" or \"trace\"",
        )
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<LogLevel, E> {
        Ok(match name.to_ascii_lowercase().as_str() {
            "off" => LogLevel::Off,
            "error" => LogLevel::Error,
            "warn" => LogLevel::Warn,
            "info" => LogLevel::Info,
            "debug" => LogLevel::Debug,
            "trace" => LogLevel::Trace,
            _ => return Err(E::invalid_value(Unexpected::Str(name), &self)),
        })
    }
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> LevelFilter {
        match level {
            LogLevel::Off => LevelFilter::OFF,
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Trace => LevelFilter::TRACE,
        }
    }
}

/// Which signals are stored, each with a fallback to the stack's setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct PersistOverride {
    /// Log events; `None` for the stack's setting.
    pub logs: Option<bool>,
    /// Token and cost counters; `None` for the stack's setting.
    pub metrics: Option<bool>,
    /// Spans; `None` for the stack's setting.
    pub traces: Option<bool>,
}

/// A valid setting that is probably a mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigWarning {
    /// A server may use an unusual amount of disk space.
    LargeFootprint {
        /// The server.
        server: ServerName,
        /// The limits of its stored signals, added up, in bytes.
        bytes: u64,
    },
    /// The limits of a server exceed the total limit of the stack, so the server can never reach
    /// them.
    BeyondTotal {
        /// The server.
        server: ServerName,
        /// The limits of its stored signals, added up, in bytes.
        bytes: u64,
        /// The total limit of the stack, in bytes.
        total_bytes: u64,
    },
    /// A limit of a server is lower than the one in force, and will delete stored records.
    DeletesStored {
        /// The server.
        server: ServerName,
        /// The signal of the records.
        signal: Signal,
        /// The name of the option: `max_age_days`, or `max_size_mb` with `max_backups`.
        option: &'static str,
        /// The number of records that will be deleted. Exact for an age limit; for a size limit an
        /// estimate, because whole blocks are deleted.
        records: u64,
        /// The size of these records in the database, in bytes.
        bytes: u64,
    },
    /// The total limit is lower than the size of the stored records, and will delete the oldest
    /// records of the largest (server, signal) pairs.
    DeletesFromTotal {
        /// The size of the records that will be deleted, in bytes.
        bytes: u64,
        /// The total limit of the stack, in bytes.
        total_bytes: u64,
    },
    /// The database could not be opened, was set aside, and a new one begins, without the records of the
    /// other: see [`StoreOptions::set_aside_damaged`](crate::StoreOptions::set_aside_damaged).
    DatabaseSetAside {
        /// Its present path.
        path: PathBuf,
        /// Why it could not be opened.
        reason: String,
    },
}

/// How the servers of a configuration and those with records differ; see
/// [`TelemetryConfig::coverage`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Coverage {
    /// The signals that are stored for a configured server, and of which there is no record: perhaps
    /// the server is named differently in its events and spans.
    pub silent: Vec<(ServerName, Signal)>,
    /// The servers with records that the configuration does not list. Their records stay until they
    /// expire, and new ones are not stored.
    pub unconfigured: Vec<ServerName>,
}

impl fmt::Display for ConfigWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigWarning::LargeFootprint { server, bytes } => write!(
                f,
                "the server {server} may take {} GB of the disk: lower max_size_mb or max_backups",
                bytes / 1_000_000_000
            ),
            ConfigWarning::BeyondTotal {
                server,
                bytes,
                total_bytes,
            } => write!(
                f,
                "the limits of the server {server} add up to {} MiB, and max_total_mb allows {} \
                 MiB for all servers together: raise max_total_mb, or lower max_size_mb or \
                 max_backups",
                bytes >> 20,
                total_bytes >> 20
            ),
            ConfigWarning::DeletesStored {
                server,
                signal,
                option,
                records,
                bytes,
            } => write!(
                f,
                "{option} of the server {server} will delete {records} stored records of its \
                 {signal}, {}: raise it to keep them",
                bytesize::ByteSize::b(*bytes).display().iec()
            ),
            ConfigWarning::DatabaseSetAside { path, reason } => write!(
                f,
                "{reason}; it was set aside as {}, and a new database begins: \
                 `gridctl-telemetry verify FILE --salvage DIR` gets out what can be read",
                path.display()
            ),
            ConfigWarning::DeletesFromTotal { bytes, total_bytes } => write!(
                f,
                "max_total_mb allows {}, and will delete {} of stored records: raise it to keep \
                 them",
                bytesize::ByteSize::b(*total_bytes).display().iec(),
                bytesize::ByteSize::b(*bytes).display().iec()
            ),
        }
    }
}

impl TelemetryConfig {
    /// The disk space of one server above which a warning is given.
    const FOOTPRINT_BYTES: u64 = 5_000_000_000;

    /// Checks all limits and names, and returns warnings about settings that are valid but probably
    /// mistakes.
    ///
    /// The limits of several servers may add up to more than `max_total_mb` without a warning,
    /// because few servers ever reach their limits. There is a warning when the limits of a single
    /// server exceed it.
    ///
    /// Fails with [`Error::InvalidOption`] and [`Error::InvalidServerName`].
    pub fn validate(&self) -> Result<Vec<ConfigWarning>> {
        let total_bytes = self.retention_policy()?.total_bytes_max();
        let mut warnings = Vec::new();
        for name in self.servers.keys() {
            let server = ServerName::new(name)?;
            let limit = self.retention_of(name)?.bytes_max();
            let signals = Signal::ALL
                .into_iter()
                .filter(|signal| self.persists(name, *signal));
            let bytes = limit.saturating_mul(signals.count() as u64);
            let is_chosen = limit != Retention::default().bytes_max();
            if bytes > total_bytes && is_chosen {
                warnings.push(ConfigWarning::BeyondTotal {
                    server,
                    bytes,
                    total_bytes,
                });
            } else if bytes.min(total_bytes) > TelemetryConfig::FOOTPRINT_BYTES {
                warnings.push(ConfigWarning::LargeFootprint { server, bytes });
            }
        }
        Ok(warnings)
    }

    /// The limits of this configuration, in the form that
    /// [`WriterOptions::retention`](crate::WriterOptions::retention) takes.
    ///
    /// Fails with [`Error::InvalidOption`] and [`Error::InvalidServerName`].
    pub fn retention_policy(&self) -> Result<RetentionPolicy> {
        let own = self
            .servers
            .iter()
            .filter_map(|(name, server)| Some((name.clone(), server.retention?)));
        RetentionPolicy {
            default: self.retention,
            servers: own.collect(),
            max_total_bytes: self.max_total_bytes,
        }
        .validated()
    }

    /// Whether `signal` of `server` is stored. Always `false` for a server that is not listed.
    #[must_use]
    pub fn persists(&self, server: &str, signal: Signal) -> bool {
        let Some(overrides) = self.servers.get(server).map(|server| server.persist) else {
            return false;
        };
        match signal {
            Signal::Logs => overrides.logs.unwrap_or(self.persist.logs),
            Signal::Metrics => overrides.metrics.unwrap_or(self.persist.metrics),
            Signal::Traces => overrides.traces.unwrap_or(self.persist.traces),
        }
    }

    /// The limits of each signal of `server`.
    ///
    /// Fails with [`Error::InvalidOption`].
    pub fn retention_of(&self, server: &str) -> Result<Retention> {
        let own = self.servers.get(server).and_then(|server| server.retention);
        own.unwrap_or(self.retention).validated()
    }

    /// The log level that the configuration gives `server`, if it gives one.
    #[must_use]
    pub fn log_level(&self, server: &str) -> Option<LogLevel> {
        self.servers.get(server)?.log_level
    }

    /// Compares the configured servers with those that have records, which
    /// [`Snapshot::inventory`](crate::Snapshot::inventory) lists.
    #[must_use]
    pub fn coverage<'a>(
        &self,
        stored: impl IntoIterator<Item = (&'a ServerName, Signal)>,
    ) -> Coverage {
        let mut coverage = Coverage::default();
        let mut found = BTreeSet::new();
        for (server, signal) in stored {
            found.insert((server.as_str(), signal));
            if !self.servers.contains_key(server.as_str())
                && !coverage.unconfigured.contains(server)
            {
                coverage.unconfigured.push(server.clone());
            }
        }
        coverage.unconfigured.sort_unstable();
        for name in self.servers.keys() {
            // A name that no server can have is an error of `validate`.
            let Ok(server) = ServerName::new(name) else {
                continue;
            };
            for signal in Signal::ALL {
                if self.persists(name, signal) && !found.contains(&(name.as_str(), signal)) {
                    coverage.silent.push((server.clone(), signal));
                }
            }
        }
        coverage
    }

    /// The servers whose `signal` is stored.
    pub(crate) fn servers_with(&self, signal: Signal) -> impl Iterator<Item = &str> {
        self.servers
            .keys()
            .map(String::as_str)
            .filter(move |name| self.persists(name, signal))
    }
}

/// The limits of a store: for each (server, signal) pair, and in total.
///
/// ```
/// use gridctl_telemetry::config::{Retention, RetentionPolicy};
///
/// let policy = RetentionPolicy::new(Retention::default().max_age_days(30))
///     .server("chatty", Retention::default().max_size_mb(10).max_backups(1))
///     .max_total_mb(512)
///     .validated()?;
/// assert_eq!(policy.of("github").age_max().as_secs(), 30 * 86_400);
/// assert_eq!(policy.total_bytes_max(), 512 << 20);
/// # Ok::<(), gridctl_telemetry::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RetentionPolicy {
    /// The limits of each signal of a server that is not in [`RetentionPolicy::servers`].
    pub default: Retention,
    /// The limits of each signal of these servers.
    pub servers: BTreeMap<String, Retention>,
    /// Maximum size of the database on disk, in bytes; see [`TelemetryConfig::max_total_bytes`].
    /// Zero means the default.
    pub max_total_bytes: u64,
}

impl RetentionPolicy {
    /// The default `max_total_mb`: 2 GiB.
    pub const MAX_TOTAL_MB_DEFAULT: u64 = MAX_TOTAL.default / MIB;
    /// The smallest `max_total_mb`: a smaller database has no room to work in.
    pub const MAX_TOTAL_MB_MIN: u64 = MAX_TOTAL.min / MIB;
    /// The largest `max_total_mb`: 16 TiB.
    pub const MAX_TOTAL_MB_MAX: u64 = MAX_TOTAL.max / MIB;

    /// The same limits for every server, with the default total limit.
    #[must_use]
    pub fn new(default: Retention) -> RetentionPolicy {
        RetentionPolicy {
            default,
            ..RetentionPolicy::default()
        }
    }

    /// Sets the limits of each signal of `server`.
    #[must_use]
    pub fn server(mut self, server: impl Into<String>, retention: Retention) -> RetentionPolicy {
        self.servers.insert(server.into(), retention);
        self
    }

    /// Sets the total limit, in MiB; see [`TelemetryConfig::max_total_bytes`].
    #[must_use]
    pub fn max_total_mb(self, max_total_mb: u64) -> RetentionPolicy {
        self.max_total_bytes(max_total_mb.saturating_mul(MIB))
    }

    /// Sets the total limit, in bytes; see [`TelemetryConfig::max_total_bytes`].
    #[must_use]
    pub fn max_total_bytes(mut self, max_total_bytes: u64) -> RetentionPolicy {
        self.max_total_bytes = max_total_bytes;
        self
    }

    /// This policy with zeros replaced by defaults.
    ///
    /// Fails with [`Error::InvalidOption`] when a limit is out of bounds, and with
    /// [`Error::InvalidServerName`].
    pub fn validated(self) -> Result<RetentionPolicy> {
        Ok(RetentionPolicy {
            default: self.default.validated()?,
            servers: self
                .servers
                .into_iter()
                .map(|(name, own)| {
                    ServerName::new(&name)?;
                    Ok((name, own.validated()?))
                })
                .collect::<Result<_>>()?,
            max_total_bytes: MAX_TOTAL.validated(self.max_total_bytes)?,
        })
    }

    /// The limits of each signal of `server`.
    #[must_use]
    pub fn of(&self, server: &str) -> Retention {
        self.servers.get(server).copied().unwrap_or(self.default)
    }

    /// Maximum size of the database on disk, in bytes.
    #[must_use]
    pub fn total_bytes_max(&self) -> u64 {
        self.max_total_bytes
    }
}

/// The limits of one signal of one server.
///
/// Zero or absent means the default. [`Retention::bytes_max`] is the resulting size limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Retention {
    /// The size of one log file before rotation, in bytes; the size limit is this times
    /// `max_backups + 1`. Default: 100 MiB; minimum: 1 MiB; maximum: 1 TiB.
    ///
    /// In a file it is `max_size_mb`: a number of MiB, or a size such as `"2GiB"` or `"500MB"`.
    #[serde(
        rename = "max_size_mb",
        serialize_with = "write_size",
        deserialize_with = "max_size_bytes"
    )]
    pub max_size_bytes: u64,
    /// The number of rotated files kept beside the current one. Default: 5; maximum: 1,024.
    #[serde(deserialize_with = "max_backups")]
    pub max_backups: u64,
    /// The maximum age of a record, to the second. Default: 7 days; minimum: 1 hour, because a clock
    /// that is up to an hour wrong is trusted; maximum: 10 years.
    ///
    /// In a file it is `max_age_days`: a number of days, or an age such as `"7d"` or `"12h"`.
    #[serde(
        rename = "max_age_days",
        serialize_with = "write_age",
        deserialize_with = "max_age"
    )]
    pub max_age: Duration,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention {
            max_size_bytes: MAX_SIZE.default,
            max_backups: MAX_BACKUPS.default,
            max_age: Duration::from_secs(MAX_AGE.default),
        }
    }
}

impl Retention {
    /// The largest `max_size_mb`: 1 TiB.
    pub const MAX_SIZE_MB_MAX: u64 = MAX_SIZE.max / MIB;
    /// The largest `max_backups`.
    pub const MAX_BACKUPS_MAX: u64 = MAX_BACKUPS.max;
    /// The largest `max_age_days`: 10 years.
    pub const MAX_AGE_DAYS_MAX: u64 = MAX_AGE.max / DAY;

    /// Sets [`Retention::max_size_bytes`], in MiB.
    #[must_use]
    pub fn max_size_mb(self, max_size_mb: u64) -> Retention {
        self.max_size_bytes(max_size_mb.saturating_mul(MIB))
    }

    /// Sets [`Retention::max_size_bytes`].
    #[must_use]
    pub fn max_size_bytes(mut self, max_size_bytes: u64) -> Retention {
        self.max_size_bytes = max_size_bytes;
        self
    }

    /// Sets [`Retention::max_backups`].
    #[must_use]
    pub fn max_backups(mut self, max_backups: u64) -> Retention {
        self.max_backups = max_backups;
        self
    }

    /// Sets the maximum age of a record, in days.
    #[must_use]
    pub fn max_age_days(self, max_age_days: u64) -> Retention {
        self.max_age(Duration::from_secs(max_age_days.saturating_mul(DAY)))
    }

    /// Sets the maximum age of a record.
    #[must_use]
    pub fn max_age(mut self, max_age: Duration) -> Retention {
        self.max_age = max_age;
        self
    }

    /// These limits with zeros replaced by defaults.
    ///
    /// Fails with [`Error::InvalidOption`] when a limit is out of bounds.
    pub fn validated(self) -> Result<Retention> {
        Ok(Retention {
            max_size_bytes: MAX_SIZE.validated(self.max_size_bytes)?,
            max_backups: MAX_BACKUPS.validated(self.max_backups)?,
            max_age: Duration::from_secs(MAX_AGE.validated(whole_seconds(self.max_age))?),
        })
    }

    /// Maximum size of one signal of one server, in bytes: `(max_backups + 1) * max_size_bytes`.
    #[must_use]
    pub fn bytes_max(self) -> u64 {
        self.max_backups
            .saturating_add(1)
            .saturating_mul(self.max_size_bytes)
    }

    /// Maximum age of a record of one signal of one server: `max_age`.
    #[must_use]
    pub fn age_max(self) -> Duration {
        self.max_age
    }
}

const MIB: u64 = 1 << 20;
/// An hour and a day, in seconds.
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

const MAX_TOTAL: Limit = Limit {
    option: "max_total_mb",
    kind: Kind::Size,
    default: 2 << 30,
    min: 8 << 20,
    max: 16 << 40,
};
const MAX_SIZE: Limit = Limit {
    option: "max_size_mb",
    kind: Kind::Size,
    default: 100 << 20,
    min: 1 << 20,
    max: 1 << 40,
};
const MAX_BACKUPS: Limit = Limit {
    option: "max_backups",
    kind: Kind::Count,
    default: 5,
    min: 1,
    max: 1024,
};
const MAX_AGE: Limit = Limit {
    option: "max_age_days",
    kind: Kind::Age,
    default: 7 * DAY,
    min: HOUR,
    max: 3650 * DAY,
};

/// What the number of a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Bytes; a number in a file counts MiB.
    Size,
    /// Seconds; a number in a file counts days.
    Age,
    Count,
}

impl Kind {
    /// The value of 1 in a file.
    fn unit(self) -> u64 {
        match self {
            Kind::Size => MIB,
            Kind::Age => DAY,
            Kind::Count => 1,
        }
    }

    /// The value of text such as `2GiB` or `36h`; `None` when it is no such text.
    fn parse(self, text: &str) -> Option<u64> {
        match self {
            // Without a unit it could mean bytes as well as MiB.
            Kind::Size if text.ends_with(|char: char| char.is_ascii_alphabetic()) => {
                Some(text.parse::<bytesize::ByteSize>().ok()?.as_u64())
            }
            Kind::Age => Some(whole_seconds(humantime::parse_duration(text).ok()?)),
            Kind::Size | Kind::Count => None,
        }
    }
}

/// A part of a second counts as one: cut off, it would turn into the default.
fn whole_seconds(age: Duration) -> u64 {
    let part = u64::from(age.subsec_nanos() > 0);
    age.as_secs().saturating_add(part)
}

/// The bounds of a number in the configuration, in bytes or seconds.
struct Limit {
    option: &'static str,
    kind: Kind,
    /// The value that zero stands for.
    default: u64,
    min: u64,
    max: u64,
}

impl Limit {
    fn validated(&self, value: u64) -> Result<u64> {
        let (option, unit) = match self.kind {
            // The minimum is no whole number of days.
            Kind::Age if value < self.min => ("max_age_days (hours)", HOUR),
            kind => (self.option, kind.unit()),
        };
        match value {
            0 => Ok(self.default),
            value if (self.min..=self.max).contains(&value) => Ok(value),
            value => Err(Error::InvalidOption {
                option,
                // Rounded away from the bounds, so that the message does not contradict itself.
                value: if value < self.min {
                    value / unit
                } else {
                    value.div_ceil(unit)
                },
                min: self.min.div_ceil(unit),
                max: self.max / unit,
            }),
        }
    }
}

/// Reads any number and any text with a unit, and names the option when the value is neither, which
/// serde's message does not.
impl de::Visitor<'_> for &Limit {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (of, or) = match self.kind {
            Kind::Size => (" of MiB", r#", a size such as "2GiB" or "500MB","#),
            Kind::Age => (
                " of days",
                r#", an age of at least "1h" such as "7d" or "12h","#,
            ),
            Kind::Count => ("", ","),
        };
        write!(
            f,
            "{} to be a whole number{of} between {} and {}{or} or 0 for the default",
            self.option,
            self.min.div_ceil(self.kind.unit()),
            self.max / self.kind.unit()
        )
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<u64, E> {
        Ok(value.saturating_mul(self.kind.unit()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<u64, E> {
        match u64::try_from(value) {
            Ok(value) => self.visit_u64(value),
            Err(_) => Err(E::invalid_value(Unexpected::Signed(value), &self)),
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
        self.kind
            .parse(text)
            .filter(|value| *value == 0 || (self.min..=self.max).contains(value))
            .ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

fn max_total_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    deserializer.deserialize_any(&MAX_TOTAL)
}

fn max_size_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    deserializer.deserialize_any(&MAX_SIZE)
}

fn max_backups<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    deserializer.deserialize_any(&MAX_BACKUPS)
}

fn max_age<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserializer
        .deserialize_any(&MAX_AGE)
        .map(Duration::from_secs)
}

/// `null` is a server without overrides, as in a YAML file with nothing after the server's name.
fn servers<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, ServerTelemetry>, D::Error> {
    let servers = BTreeMap::<String, Option<ServerTelemetry>>::deserialize(deserializer)?;
    Ok(servers
        .into_iter()
        .map(|(name, server)| (name, server.unwrap_or_default()))
        .collect())
}

/// Writes a number of MiB, or the bytes with their unit when they are no whole number of MiB.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn write_size<S: Serializer>(bytes: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    if bytes.is_multiple_of(MIB) {
        serializer.serialize_u64(bytes / MIB)
    } else {
        serializer.collect_str(&format_args!("{bytes}B"))
    }
}

/// Writes a number of days, or the seconds with their unit when they are no whole number of days.
fn write_age<S: Serializer>(age: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    let seconds = age.as_secs();
    if seconds.is_multiple_of(DAY) {
        serializer.serialize_u64(seconds / DAY)
    } else {
        serializer.collect_str(&format_args!("{seconds}s"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_and_absent_mean_the_default() {
        let default = Retention::default();
        let zero = Retention {
            max_size_bytes: 0,
            max_backups: 0,
            max_age: Duration::ZERO,
        };
        assert_eq!(zero.validated().unwrap(), default);
        let partial: Retention = serde_json::from_str(r#"{"max_backups":2}"#).unwrap();
        assert_eq!(
            partial,
            Retention {
                max_backups: 2,
                ..default
            }
        );
        assert_eq!(default.bytes_max(), 600 << 20);
        assert_eq!(default.age_max(), Duration::from_secs(3600 * 7 * 24));
        let policy = RetentionPolicy::default().validated().unwrap();
        assert_eq!(policy.total_bytes_max(), 2 << 30);
        let nothing_said = TelemetryConfig::default().retention_policy().unwrap();
        assert_eq!(nothing_said, policy);
    }

    #[test]
    fn limits_beyond_their_caps_are_refused() {
        let fits = Retention {
            max_size_bytes: 1 << 40,
            max_backups: Retention::MAX_BACKUPS_MAX,
            max_age: Duration::from_secs(3650 * 86_400),
        };
        let same = Retention::default()
            .max_size_mb(Retention::MAX_SIZE_MB_MAX)
            .max_backups(Retention::MAX_BACKUPS_MAX)
            .max_age_days(Retention::MAX_AGE_DAYS_MAX);
        assert_eq!(same, fits);
        assert_eq!(fits.validated().unwrap(), fits);
        assert_eq!(fits.bytes_max(), 1025 << 40);
        for (option, beyond) in [
            ("max_size_mb", fits.max_size_bytes((1 << 40) + 1)),
            ("max_backups", fits.max_backups(1025)),
            ("max_age_days", fits.max_age_days(u64::MAX)),
            ("max_age_days", fits.max_age(Duration::from_nanos(1))),
            ("max_size_mb", fits.max_size_bytes((1 << 20) - 1)),
        ] {
            match beyond.validated() {
                Err(Error::InvalidOption { option: named, .. }) => {
                    assert!(named.starts_with(option), "{named}");
                }
                other => panic!("{option}: {other:?}"),
            }
        }
        for (total, fits) in [
            (7, false),
            (8, true),
            (16 << 20, true),
            ((16 << 20) + 1, false),
        ] {
            let policy = RetentionPolicy {
                max_total_bytes: total << 20,
                ..RetentionPolicy::default()
            };
            assert_eq!(policy.validated().is_ok(), fits, "{total}");
        }
    }

    #[test]
    fn what_is_no_number_for_a_limit_is_refused_by_its_name() {
        for option in ["max_size_mb", "max_backups", "max_age_days"] {
            for value in ["-1", "0.5", "18446744073709551616", "\"7\"", "null"] {
                let text =
                    format!(r#"{{"servers":{{"a":{{"retention":{{"{option}":{value}}}}}}}}}"#);
                let error = serde_json::from_str::<TelemetryConfig>(&text).unwrap_err();
                assert!(error.to_string().contains(option), "{value}: {error}");
            }
        }
        let error = serde_json::from_str::<TelemetryConfig>(r#"{"max_total_mb":-5}"#).unwrap_err();
        assert_eq!(
            error.to_string(),
            "invalid value: integer `-5`, expected max_total_mb to be a whole number of MiB between 8 \
             and 16777216, a size such as \"2GiB\" or \"500MB\", or 0 for the default at line 1 column 18"
        );
    }

    #[test]
    fn sizes_and_ages_are_read_as_people_write_them() {
        let config: TelemetryConfig = serde_json::from_str(
            r#"{"max_total_mb":"2GiB","retention":{"max_size_mb":"500MB","max_age_days":"36h"},
                "servers":{"a":{"retention":{"max_size_mb":"1.5 GiB","max_age_days":"7d"}},
                           "b":{"retention":{"max_size_mb":"0MB","max_age_days":"0s"}}}}"#,
        )
        .unwrap();
        let policy = config.retention_policy().unwrap();
        assert_eq!(policy.total_bytes_max(), 2 << 30);
        let hour = Duration::from_secs(3600);
        assert_eq!(policy.of("c").bytes_max(), 6 * 500_000_000);
        assert_eq!(policy.of("c").age_max(), hour * 36);
        assert_eq!(policy.of("a").bytes_max(), 6 * (1536 << 20));
        assert_eq!(policy.of("a").age_max(), hour * 24 * 7);
        assert_eq!(policy.of("b"), Retention::default());
        // What is written reads the same, and whole numbers stay numbers.
        let text = serde_json::to_string(&config).unwrap();
        assert!(text.contains(r#""max_total_mb":2048"#), "{text}");
        assert!(text.contains(r#""max_size_mb":"500000000B""#), "{text}");
        assert!(text.contains(r#""max_age_days":"129600s""#), "{text}");
        assert_eq!(
            serde_json::from_str::<TelemetryConfig>(&text).unwrap(),
            config
        );
        for (option, value) in [
            ("max_size_mb", "500KB"),
            ("max_size_mb", "2TiB"),
            ("max_size_mb", "7d"),
            ("max_size_mb", "-5MB"),
            ("max_age_days", "59m"),
            ("max_age_days", "500ms"),
            ("max_age_days", "11y"),
            ("max_age_days", "2GiB"),
            ("max_backups", "5MB"),
        ] {
            let text = format!(r#"{{"retention":{{"{option}":"{value}"}}}}"#);
            let error = serde_json::from_str::<TelemetryConfig>(&text).unwrap_err();
            let error = error.to_string();
            assert!(error.contains(option) && error.contains(value), "{error}");
        }
    }

    #[test]
    fn an_age_is_at_least_an_hour() {
        let config: TelemetryConfig = serde_json::from_str(
            r#"{"retention":{"max_age_days":"12h"},
                "servers":{"a":{"retention":{"max_age_days":"60m"}}}}"#,
        )
        .unwrap();
        let policy = config.retention_policy().unwrap();
        let hour = Duration::from_secs(3600);
        assert_eq!(policy.of("b").age_max(), hour * 12);
        assert_eq!(policy.of("a").age_max(), hour);
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(
            serde_json::from_str::<TelemetryConfig>(&text).unwrap(),
            config
        );
        let shorter = Retention::default().max_age(hour.saturating_sub(Duration::from_secs(1)));
        assert_eq!(
            shorter.validated().unwrap_err().to_string(),
            "invalid max_age_days (hours): 0 is not between 1 and 87600"
        );
        let longer = Retention::default().max_age_days(3651);
        assert_eq!(
            longer.validated().unwrap_err().to_string(),
            "invalid max_age_days: 3651 is not between 1 and 3650"
        );
    }

    #[test]
    fn a_server_of_null_has_no_overrides() {
        let config: TelemetryConfig =
            serde_json::from_str(r#"{"persist":{"logs":true},"servers":{"a":null,"b":{}}}"#)
                .unwrap();
        assert_eq!(config.servers.get("a"), config.servers.get("b"));
        assert!(config.persists("a", Signal::Logs));
    }

    #[test]
    fn a_policy_says_what_the_configuration_says() {
        let config: TelemetryConfig = serde_json::from_str(
            r#"{"retention":{"max_age_days":30},"max_total_mb":64,
                "servers":{"a":{},"b":{"retention":{"max_size_mb":1,"max_backups":1}}}}"#,
        )
        .unwrap();
        let policy = config.retention_policy().unwrap();
        assert_eq!(policy.total_bytes_max(), 64 << 20);
        assert_eq!(policy.servers.len(), 1);
        for server in ["a", "b", "unknown"] {
            assert_eq!(policy.of(server), config.retention_of(server).unwrap());
        }
        assert_eq!(policy.of("b").bytes_max(), 2 << 20);
        assert_eq!(
            policy.of("b"),
            Retention::default().max_size_mb(1).max_backups(1)
        );
        for bad in [
            r#"{"max_total_mb":7}"#,
            r#"{"retention":{"max_backups":1025}}"#,
            r#"{"servers":{"a":{"retention":{"max_age_days":3651}}}}"#,
            r#"{"servers":{"":{"retention":{}}}}"#,
        ] {
            let config: TelemetryConfig = serde_json::from_str(bad).unwrap();
            assert!(config.retention_policy().is_err(), "{bad}");
            assert!(config.validate().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_log_level_is_a_name_in_any_case() {
        let level = |value: &str| {
            let text = format!(r#"{{"servers":{{"a":{{"log_level":{value}}}}}}}"#);
            serde_json::from_str::<TelemetryConfig>(&text).map(|config| config.log_level("a"))
        };
        assert_eq!(level("\"debug\"").unwrap(), Some(LogLevel::Debug));
        assert_eq!(level("\"WARN\"").unwrap(), Some(LogLevel::Warn));
        assert_eq!(level("null").unwrap(), None);
        assert_eq!(
            serde_json::to_string(&LogLevel::Trace).unwrap(),
            "\"trace\""
        );
        for bad in ["\"loud\"", "5", "\"\"", "{}"] {
            let error = level(bad).unwrap_err().to_string();
            assert!(
                error.contains("log_level") && error.contains("trace"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_server_inherits_what_it_does_not_say() {
        let config: TelemetryConfig = serde_json::from_str(
            r#"{"persist":{"logs":true},"servers":{"a":{},"b":{"persist":{"logs":false,"metrics":true}}}}"#,
        )
        .unwrap();
        let stored = |server| Signal::ALL.map(|signal| config.persists(server, signal));
        assert_eq!(stored("a"), [true, false, false]);
        assert_eq!(stored("b"), [false, true, false]);
        assert_eq!(stored("unknown"), [false; 3]);
        assert!(serde_json::from_str::<TelemetryConfig>(r#"{"persit":{}}"#).is_err());
    }

    #[test]
    fn five_gigabytes_for_a_server_are_worth_a_warning() {
        let mut config: TelemetryConfig = serde_json::from_str(
            r#"{"persist":{"logs":true,"traces":true},"max_total_mb":10000,"servers":{"small":{},
                "large":{"retention":{"max_size_mb":1000,"max_backups":2}}}}"#,
        )
        .unwrap();
        let warnings = config.validate().unwrap();
        assert_eq!(
            warnings,
            [ConfigWarning::LargeFootprint {
                server: ServerName::new("large").unwrap(),
                bytes: 2 * 3 * (1000 << 20),
            }]
        );
        assert!(warnings[0].to_string().contains("6 GB"));
        // The limits that were set exceed the total limit.
        config.max_total_bytes = 0;
        let warnings = config.validate().unwrap();
        assert_eq!(
            warnings,
            [ConfigWarning::BeyondTotal {
                server: ServerName::new("large").unwrap(),
                bytes: 2 * 3 * (1000 << 20),
                total_bytes: 2 << 30,
            }]
        );
        assert!(warnings[0].to_string().contains("6000 MiB"));
        config.max_total_bytes = 10_000 << 20;
        config.retention = config.retention.max_age_days(5000);
        assert!(matches!(
            config.validate(),
            Err(Error::InvalidOption { .. })
        ));
    }

    /// Only `max_total_mb` was set here; the limits of the servers are defaults.
    #[test]
    fn a_small_total_alone_is_no_reason_for_a_warning() {
        let config: TelemetryConfig = serde_json::from_str(
            r#"{"persist":{"logs":true,"metrics":true,"traces":true},"max_total_mb":64,
                "retention":{"max_age_days":30},"servers":{"a":{},"b":{},"c":{}}}"#,
        )
        .unwrap();
        assert_eq!(config.validate().unwrap(), []);
    }
}
