//! The severity of log records.

use crate::error::{Error, Result, excerpt};
use std::{fmt, str::FromStr};

/// The severity of a log record, on the scale of Go's `log/slog`: DEBUG is -4, INFO 0, WARN 4 and
/// ERROR 8. Any other integer is written as an offset from the nearest named level below it
/// (`ERROR+4`) or, below DEBUG, from DEBUG (`DEBUG-4`).
///
/// ```
/// use gridctl_telemetry::Level;
///
/// assert_eq!("warn".parse::<Level>()?, Level::WARN);
/// assert_eq!("ERROR+4".parse::<Level>()?, Level(12));
/// assert_eq!(Level::from(tracing::Level::DEBUG), Level::DEBUG);
/// # Ok::<(), gridctl_telemetry::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Level(pub i32);

impl Level {
    /// Below DEBUG: the TRACE level of other systems.
    pub const TRACE: Level = Level(-8);
    /// Details for debugging.
    pub const DEBUG: Level = Level(-4);
    /// Normal operation.
    pub const INFO: Level = Level(0);
    /// Something unexpected that has done no harm yet.
    pub const WARN: Level = Level(4);
    /// A failure.
    pub const ERROR: Level = Level(8);

    const NAMED: [(&'static str, Level); 4] = [
        ("ERROR", Level::ERROR),
        ("WARN", Level::WARN),
        ("INFO", Level::INFO),
        ("DEBUG", Level::DEBUG),
    ];
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, base) = Level::NAMED
            .into_iter()
            .find(|(_, base)| self >= base)
            .unwrap_or(("DEBUG", Level::DEBUG));
        // 64 bits, because the distance between a level and its base can exceed 32 bits.
        match i64::from(self.0) - i64::from(base.0) {
            0 => f.pad(name),
            offset => write!(f, "{name}{offset:+}"),
        }
    }
}

impl FromStr for Level {
    type Err = Error;

    /// Parses a level's name in any case, with or without an offset.
    ///
    /// Fails with [`Error::UnknownLevel`].
    fn from_str(text: &str) -> Result<Level> {
        let unknown = || Error::UnknownLevel {
            text: excerpt(text),
        };
        let (name, offset) = match text.find(['+', '-']) {
            Some(at) => {
                let (name, offset) = text.split_at(at);
                (name, offset.parse::<i32>().map_err(|_| unknown())?)
            }
            None => (text, 0),
        };
        Level::NAMED
            .into_iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .and_then(|(_, base)| base.0.checked_add(offset))
            .map(Level)
            .ok_or_else(unknown)
    }
}

impl From<tracing::Level> for Level {
    fn from(level: tracing::Level) -> Level {
        match level {
            tracing::Level::ERROR => Level::ERROR,
            tracing::Level::WARN => Level::WARN,
            tracing::Level::INFO => Level::INFO,
            tracing::Level::DEBUG => Level::DEBUG,
            tracing::Level::TRACE => Level::TRACE,
        }
    }
}

impl From<Level> for tracing::Level {
    /// The nearest level of `tracing` at or below this severity; TRACE for levels below DEBUG.
    fn from(level: Level) -> tracing::Level {
        match level {
            level if level >= Level::ERROR => tracing::Level::ERROR,
            level if level >= Level::WARN => tracing::Level::WARN,
            level if level >= Level::INFO => tracing::Level::INFO,
            level if level >= Level::DEBUG => tracing::Level::DEBUG,
            _ => tracing::Level::TRACE,
        }
    }
}

impl serde::Serialize for Level {
    /// Serializes as the level's name, with an offset unless it is 0.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Level {
    /// Deserializes a level's name in any case, with or without an offset.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Level, D::Error> {
        crate::error::deserialize_from_str(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_come_back_from_tracing_and_from_json() {
        for level in [
            tracing::Level::ERROR,
            tracing::Level::WARN,
            tracing::Level::INFO,
            tracing::Level::DEBUG,
            tracing::Level::TRACE,
        ] {
            assert_eq!(tracing::Level::from(Level::from(level)), level);
        }
        for (level, expected) in [
            (Level(i32::MIN), tracing::Level::TRACE),
            (Level(-5), tracing::Level::TRACE),
            (Level(-1), tracing::Level::DEBUG),
            (Level(3), tracing::Level::INFO),
            (Level(7), tracing::Level::WARN),
            (Level(i32::MAX), tracing::Level::ERROR),
        ] {
            assert_eq!(tracing::Level::from(level), expected);
        }
        for level in [Level::TRACE, Level::WARN, Level(i32::MIN), Level(i32::MAX)] {
            let json = serde_json::to_string(&level).unwrap();
            assert_eq!(serde_json::from_str::<Level>(&json).unwrap(), level);
        }
        assert_eq!(
            serde_json::from_str::<Level>("\"Error\"").unwrap(),
            Level::ERROR
        );
        let error = serde_json::from_str::<Level>("\"loud\"").unwrap_err();
        assert!(
            error.to_string().starts_with("unknown level \"loud\""),
            "{error}"
        );
    }

    #[test]
    fn levels_print_and_read_as_slog_does() {
        for (text, level) in [
            ("DEBUG", Level::DEBUG),
            ("INFO", Level::INFO),
            ("WARN", Level::WARN),
            ("ERROR", Level::ERROR),
            ("ERROR+4", Level(12)),
            ("DEBUG-4", Level::TRACE),
            ("DEBUG+2", Level(-2)),
            ("INFO+1", Level(1)),
        ] {
            assert_eq!(level.to_string(), text);
            assert_eq!(text.parse::<Level>().unwrap(), level);
        }
        assert_eq!("warn".parse::<Level>().unwrap(), Level::WARN);
        for extreme in [Level(i32::MIN), Level(i32::MAX)] {
            let _ = extreme.to_string();
        }
        for text in [
            "",
            "NOTICE",
            "INFO+",
            "ERROR+99999999999",
            "ERROR+2147483647",
        ] {
            assert!(
                matches!(text.parse::<Level>(), Err(Error::UnknownLevel { .. })),
                "{text}"
            );
        }
    }
}
