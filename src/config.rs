//! The user's configuration: which signals are stored, and the limits of what is kept.

use crate::{
    error::{Error, Result},
    record::ServerName,
    signal::Signal,
};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, Unexpected},
};
use std::{collections::BTreeMap, fmt, time::Duration};
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
    /// Maximum size of the stack's database on disk, in MiB. It covers the records of all servers
    /// and signals, free pages and headroom. When it is reached, records are evicted from the
    /// largest (server, signal) pairs first, oldest records first. Zero or absent means the
    /// default, 2,048; the minimum is 8, the maximum 16 TiB.
    #[serde(deserialize_with = "max_total_mb")]
    pub max_total_mb: u64,
    /// The servers of the stack. A server without overrides has an empty entry.
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
}

impl fmt::Display for ConfigWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigWarning::LargeFootprint { server, bytes } => write!(
                f,
                "the server {server:?} may take {} GB of the disk: lower max_size_mb or max_backups",
                bytes / 1_000_000_000
            ),
            ConfigWarning::BeyondTotal {
                server,
                bytes,
                total_bytes,
            } => write!(
                f,
                "the limits of the server {server:?} add up to {} MiB, and max_total_mb allows {} \
                 MiB for all servers together: raise max_total_mb, or lower max_size_mb or \
                 max_backups",
                bytes >> 20,
                total_bytes >> 20
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
            max_total_mb: self.max_total_mb,
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
/// assert_eq!(policy.of("github").max_age_days, 30);
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
    /// Maximum size of the database on disk, in MiB; see [`TelemetryConfig::max_total_mb`]. Zero
    /// means the default.
    pub max_total_mb: u64,
}

impl RetentionPolicy {
    /// The default `max_total_mb`: 2 GiB.
    pub const MAX_TOTAL_MB_DEFAULT: u64 = MAX_TOTAL_MB.default;
    /// The smallest `max_total_mb`: a smaller database has no room to work in.
    pub const MAX_TOTAL_MB_MIN: u64 = MAX_TOTAL_MB.min;
    /// The largest `max_total_mb`: 16 TiB.
    pub const MAX_TOTAL_MB_MAX: u64 = MAX_TOTAL_MB.max;

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

    /// Sets the total limit, in MiB; see [`TelemetryConfig::max_total_mb`].
    #[must_use]
    pub fn max_total_mb(mut self, max_total_mb: u64) -> RetentionPolicy {
        self.max_total_mb = max_total_mb;
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
            max_total_mb: MAX_TOTAL_MB.validated(self.max_total_mb)?,
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
        self.max_total_mb.saturating_mul(MIB)
    }
}

/// The limits of one signal of one server.
///
/// Zero or absent means the default. [`Retention::bytes_max`] is the resulting size limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Retention {
    /// The size of one log file before rotation, in MiB; the size limit is this times
    /// `max_backups + 1`. Default: 100; maximum: 1 TiB.
    #[serde(deserialize_with = "max_size_mb")]
    pub max_size_mb: u64,
    /// The number of rotated files kept beside the current one. Default: 5; maximum: 1,024.
    #[serde(deserialize_with = "max_backups")]
    pub max_backups: u64,
    /// The maximum age of a record, in days. Default: 7; maximum: 10 years.
    #[serde(deserialize_with = "max_age_days")]
    pub max_age_days: u64,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention {
            max_size_mb: MAX_SIZE_MB.default,
            max_backups: MAX_BACKUPS.default,
            max_age_days: MAX_AGE_DAYS.default,
        }
    }
}

impl Retention {
    /// The largest `max_size_mb`: 1 TiB.
    pub const MAX_SIZE_MB_MAX: u64 = MAX_SIZE_MB.max;
    /// The largest `max_backups`.
    pub const MAX_BACKUPS_MAX: u64 = MAX_BACKUPS.max;
    /// The largest `max_age_days`: 10 years.
    pub const MAX_AGE_DAYS_MAX: u64 = MAX_AGE_DAYS.max;

    /// Sets [`Retention::max_size_mb`], in MiB.
    #[must_use]
    pub fn max_size_mb(mut self, max_size_mb: u64) -> Retention {
        self.max_size_mb = max_size_mb;
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
    pub fn max_age_days(mut self, max_age_days: u64) -> Retention {
        self.max_age_days = max_age_days;
        self
    }

    /// These limits with zeros replaced by defaults.
    ///
    /// Fails with [`Error::InvalidOption`] when a limit exceeds its maximum.
    pub fn validated(self) -> Result<Retention> {
        Ok(Retention {
            max_size_mb: MAX_SIZE_MB.validated(self.max_size_mb)?,
            max_backups: MAX_BACKUPS.validated(self.max_backups)?,
            max_age_days: MAX_AGE_DAYS.validated(self.max_age_days)?,
        })
    }

    /// Maximum size of one signal of one server, in bytes: `(max_backups + 1) * max_size_mb`.
    #[must_use]
    pub fn bytes_max(self) -> u64 {
        self.max_backups
            .saturating_add(1)
            .saturating_mul(self.max_size_mb)
            .saturating_mul(MIB)
    }

    /// Maximum age of a record of one signal of one server: `max_age_days`.
    #[must_use]
    pub fn age_max(self) -> Duration {
        Duration::from_secs(self.max_age_days.saturating_mul(86_400))
    }
}

const MIB: u64 = 1 << 20;

const MAX_TOTAL_MB: Limit = Limit {
    option: "max_total_mb",
    default: 2048,
    min: 8,
    max: 16 << 20,
};
const MAX_SIZE_MB: Limit = Limit {
    option: "max_size_mb",
    default: 100,
    min: 1,
    max: 1 << 20,
};
const MAX_BACKUPS: Limit = Limit {
    option: "max_backups",
    default: 5,
    min: 1,
    max: 1024,
};
const MAX_AGE_DAYS: Limit = Limit {
    option: "max_age_days",
    default: 7,
    min: 1,
    max: 3650,
};

/// The bounds of a number in the configuration.
struct Limit {
    option: &'static str,
    /// The value that zero stands for.
    default: u64,
    min: u64,
    max: u64,
}

impl Limit {
    fn validated(&self, value: u64) -> Result<u64> {
        let Limit {
            option,
            default,
            min,
            max,
        } = *self;
        match value {
            0 => Ok(default),
            value if (min..=max).contains(&value) => Ok(value),
            value => Err(Error::InvalidOption {
                option,
                value,
                min,
                max,
            }),
        }
    }
}

/// Reads any number, and names the option when the value is not one, which serde's message does
/// not.
impl de::Visitor<'_> for &Limit {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} to be a whole number between {} and {}, or 0 for the default",
            self.option, self.min, self.max
        )
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<u64, E> {
        Ok(value)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<u64, E> {
        u64::try_from(value).map_err(|_| E::invalid_value(Unexpected::Signed(value), &self))
    }
}

fn max_total_mb<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    deserializer.deserialize_u64(&MAX_TOTAL_MB)
}

fn max_size_mb<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    deserializer.deserialize_u64(&MAX_SIZE_MB)
}

fn max_backups<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    deserializer.deserialize_u64(&MAX_BACKUPS)
}

fn max_age_days<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    deserializer.deserialize_u64(&MAX_AGE_DAYS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_and_absent_mean_the_default() {
        let default = Retention::default();
        let zero = Retention {
            max_size_mb: 0,
            max_backups: 0,
            max_age_days: 0,
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
            max_size_mb: Retention::MAX_SIZE_MB_MAX,
            max_backups: Retention::MAX_BACKUPS_MAX,
            max_age_days: Retention::MAX_AGE_DAYS_MAX,
        };
        assert_eq!(fits.validated().unwrap(), fits);
        assert_eq!(fits.bytes_max(), 1025 << 40);
        for (option, beyond) in [
            (
                "max_size_mb",
                Retention {
                    max_size_mb: (1 << 20) + 1,
                    ..fits
                },
            ),
            (
                "max_backups",
                Retention {
                    max_backups: 1025,
                    ..fits
                },
            ),
            (
                "max_age_days",
                Retention {
                    max_age_days: u64::MAX,
                    ..fits
                },
            ),
        ] {
            match beyond.validated() {
                Err(Error::InvalidOption { option: named, .. }) => assert_eq!(named, option),
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
                max_total_mb: total,
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
            "invalid value: integer `-5`, expected max_total_mb to be a whole number between 8 and \
             16777216, or 0 for the default at line 1 column 18"
        );
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
        assert_eq!(policy.of("b").max_age_days, 7);
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
        config.max_total_mb = 0;
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
        config.max_total_mb = 10_000;
        config.retention.max_age_days = 5000;
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
