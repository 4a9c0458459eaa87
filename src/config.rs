//! What users may set.

use crate::{
    error::{Error, Result},
    record::ServerName,
    signal::Signal,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};

/// What a daemon stores of a stack.
///
/// ```
/// use gridctl_telemetry::{Signal, TelemetryConfig};
///
/// let config: TelemetryConfig = serde_json::from_str(
///     r#"{
///         "persist": { "logs": true, "traces": true },
///         "retention": { "max_age_days": 30 },
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
pub struct TelemetryConfig {
    /// What is stored of servers that do not say otherwise. Nothing by default: storing is opt-in.
    pub persist: Persist,
    /// How much is kept of servers that do not say otherwise.
    pub retention: Retention,
    /// The stack's servers. One without anything to say has an empty entry.
    pub servers: BTreeMap<String, ServerTelemetry>,
}

/// Which signals are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Persist {
    /// Log events.
    pub logs: bool,
    /// Token and cost counters.
    pub metrics: bool,
    /// Spans.
    pub traces: bool,
}

/// What one server says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerTelemetry {
    /// Which signals are stored, where the server says so.
    pub persist: PersistOverride,
    /// How much is kept; as for the stack when absent.
    pub retention: Option<Retention>,
}

/// Yes, no, or as for the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PersistOverride {
    /// Log events; as for the stack when absent.
    pub logs: Option<bool>,
    /// Token and cost counters; as for the stack when absent.
    pub metrics: Option<bool>,
    /// Spans; as for the stack when absent.
    pub traces: Option<bool>,
}

/// Something that is allowed and probably not meant.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigWarning {
    /// A server may take more of the disk than most would want.
    LargeFootprint {
        /// The server.
        server: ServerName,
        /// What its signals may take together, in bytes.
        bytes: u64,
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
        }
    }
}

impl TelemetryConfig {
    /// More than this for one server is worth a warning.
    const FOOTPRINT_BYTES: u64 = 5_000_000_000;

    /// Checks every limit and name, and returns what is allowed and probably not meant.
    ///
    /// Fails with [`Error::InvalidOption`] and [`Error::InvalidServerName`].
    pub fn validate(&self) -> Result<Vec<ConfigWarning>> {
        self.retention.validated()?;
        let mut warnings = Vec::new();
        for name in self.servers.keys() {
            let server = ServerName::new(name)?;
            let limit = self.retention_of(name)?.bytes_max();
            let signals = Signal::ALL
                .into_iter()
                .filter(|signal| self.persists(name, *signal));
            let bytes = limit.saturating_mul(signals.count() as u64);
            if bytes > TelemetryConfig::FOOTPRINT_BYTES {
                warnings.push(ConfigWarning::LargeFootprint { server, bytes });
            }
        }
        Ok(warnings)
    }

    /// Whether `signal` of `server` is stored. Nothing is stored of a server that is not listed.
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

    /// How much is kept of each signal of `server`.
    ///
    /// Fails with [`Error::InvalidOption`].
    pub fn retention_of(&self, server: &str) -> Result<Retention> {
        let own = self.servers.get(server).and_then(|server| server.retention);
        own.unwrap_or(self.retention).validated()
    }

    /// The servers of which `signal` is stored.
    pub(crate) fn servers_with(&self, signal: Signal) -> impl Iterator<Item = &str> {
        self.servers
            .keys()
            .map(String::as_str)
            .filter(move |name| self.persists(name, signal))
    }
}

/// How much is kept of one signal of one server.
///
/// Zero, like absence, means the default. The footprint that it allows is
/// [`Retention::bytes_max`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// What was a file's size before it was rotated, in MiB. Default: 100; at most 1 TiB.
    pub max_size_mb: u64,
    /// How many rotated files were kept. Default: 5; at most 1,024.
    pub max_backups: u64,
    /// How old a record may become, in days. Default: 7; at most 10 years.
    pub max_age_days: u64,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention {
            max_size_mb: 100,
            max_backups: 5,
            max_age_days: 7,
        }
    }
}

impl Retention {
    /// The largest `max_size_mb`: 1 TiB.
    pub const MAX_SIZE_MB_MAX: u64 = 1 << 20;
    /// The largest `max_backups`.
    pub const MAX_BACKUPS_MAX: u64 = 1024;
    /// The largest `max_age_days`: 10 years.
    pub const MAX_AGE_DAYS_MAX: u64 = 3650;

    /// These limits with defaults in place of zeros.
    ///
    /// Fails with [`Error::InvalidOption`] when one is beyond its largest value.
    pub fn validated(self) -> Result<Retention> {
        let default = Retention::default();
        let check = |option, value: u64, default: u64, max: u64| match value {
            0 => Ok(default),
            value if value <= max => Ok(value),
            value => Err(Error::InvalidOption {
                option,
                value,
                min: 1,
                max,
            }),
        };
        Ok(Retention {
            max_size_mb: check(
                "max_size_mb",
                self.max_size_mb,
                default.max_size_mb,
                Retention::MAX_SIZE_MB_MAX,
            )?,
            max_backups: check(
                "max_backups",
                self.max_backups,
                default.max_backups,
                Retention::MAX_BACKUPS_MAX,
            )?,
            max_age_days: check(
                "max_age_days",
                self.max_age_days,
                default.max_age_days,
                Retention::MAX_AGE_DAYS_MAX,
            )?,
        })
    }

    /// The most that one signal of one server takes: `(max_backups + 1) * max_size_mb`, in bytes.
    #[must_use]
    pub fn bytes_max(self) -> u64 {
        self.max_backups
            .saturating_add(1)
            .saturating_mul(self.max_size_mb)
            .saturating_mul(1 << 20)
    }
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
            r#"{"persist":{"logs":true,"traces":true},"servers":{"small":{},
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
        config.retention.max_age_days = 5000;
        assert!(matches!(
            config.validate(),
            Err(Error::InvalidOption { .. })
        ));
    }
}
