//! What users may set.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// How much is kept of one signal of one server.
///
/// Zero, like absence, means the default. The footprint that it allows is
/// [`Retention::bytes_max`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
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
}
