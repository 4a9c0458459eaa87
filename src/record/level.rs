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

    /// What other systems call severities, after the mappings in appendix B of OpenTelemetry's data
    /// model of logs. `PANIC` and `CRITICAL` are what most libraries mean by them: above ERROR.
    const OTHERS: &[(&'static str, Level)] = &[
        ("TRACE", Level::TRACE),
        ("TRC", Level::TRACE),
        ("FINEST", Level::TRACE),
        ("SILLY", Level::TRACE),
        ("VERBOSE", Level::TRACE),
        ("VRB", Level::TRACE),
        ("FINER", Level::DEBUG),
        ("DBG", Level::DEBUG),
        ("DEBU", Level::DEBUG),
        ("FINE", Level(-3)),
        ("CONFIG", Level(-2)),
        ("INF", Level::INFO),
        ("INFORMATION", Level::INFO),
        ("INFORMATIONAL", Level::INFO),
        ("NOTICE", Level(1)),
        ("SUCCESS", Level(1)),
        ("AUDIT", Level(1)),
        ("WARNING", Level::WARN),
        ("WRN", Level::WARN),
        ("ERR", Level::ERROR),
        ("EROR", Level::ERROR),
        ("SEVERE", Level::ERROR),
        ("CRIT", Level(9)),
        ("DPANIC", Level(9)),
        ("ALERT", Level(10)),
        ("FATAL", Level(12)),
        ("FTL", Level(12)),
        ("CRITICAL", Level(12)),
        ("PANIC", Level(12)),
        ("EMERG", Level(12)),
        ("EMERGENCY", Level(12)),
    ];

    /// The offset from slog's levels to OTLP's severity numbers. Named levels are four apart on both
    /// scales, from DEBUG (-4 in slog, 5 in OTLP) to ERROR (8 and 17). So `DEBUG-4` is TRACE and
    /// `ERROR+4` is FATAL.
    pub(crate) const SEVERITY_OF_INFO: i32 = 9;

    /// The lowest and the highest severity number: TRACE and FATAL4.
    pub(crate) const SEVERITIES: (i32, i32) = (1, 24);

    /// The severity number of OTLP, from 1 (TRACE) to 24 (FATAL4).
    #[must_use]
    pub fn severity_number(self) -> i32 {
        let (least, greatest) = Level::SEVERITIES;
        (self.0.saturating_add(Level::SEVERITY_OF_INFO)).clamp(least, greatest)
    }

    /// What is written for this level, if it is one that has a name.
    pub(crate) fn name(self) -> Option<&'static str> {
        let named = Level::NAMED.into_iter().find(|(_, level)| *level == self);
        named.map(|(name, _)| name)
    }

    /// The level that has this name, in capital letters.
    pub(crate) fn named(name: &str) -> Option<Level> {
        let named = Level::NAMED.into_iter().find(|(known, _)| *known == name);
        named.map(|(_, level)| level)
    }

    /// The level of a severity that syslog numbers: 0 is an emergency, 7 is debug.
    pub(crate) fn of_syslog(priority: i64) -> Option<Level> {
        Some(match priority {
            0 => Level(12),
            1 => Level(10),
            2 => Level(9),
            3 => Level::ERROR,
            4 => Level::WARN,
            5 => Level(1),
            6 => Level::INFO,
            7 => Level::DEBUG,
            _ => return None,
        })
    }

    /// The level that pino, bunyan and Python number: 10 is trace (Python: debug), 30 is info, 60 is
    /// fatal.
    pub(crate) fn of_tens(number: i64) -> Option<Level> {
        let offset = number.checked_sub(30)?;
        // Ten of theirs are four of ours; below zero as well, a number in between is the lower one.
        let level = i32::try_from(offset.checked_mul(4)?.div_euclid(10)).ok()?;
        (8..=100).contains(&number).then_some(Level(level))
    }

    /// The level that `text` names, and whether the level's own name says the same. Text that names
    /// none is at INFO.
    pub(crate) fn of_text(text: &str) -> (Level, bool) {
        match text.parse::<Level>() {
            Ok(level) => (level, level.to_string().eq_ignore_ascii_case(text)),
            Err(_) => (Level::INFO, false),
        }
    }
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

    /// Parses a level's name in any case, with or without an offset (`ERROR+4`). The names of other
    /// systems are understood as well: `TRACE`, `NOTICE`, `WARNING`, `CRITICAL`, `FATAL`, `EMERG` and
    /// others.
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
            .iter()
            .chain(Level::OTHERS)
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
        for text in ["", "LOUD", "INFO+", "ERROR+99999999999", "ERROR+2147483647"] {
            assert!(
                matches!(text.parse::<Level>(), Err(Error::UnknownLevel { .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn every_common_name_has_its_severity_in_any_case() {
        for (names, level) in [
            (&["TRACE", "finest", "Verbose"][..], Level::TRACE),
            (&["debug", "FINER", "dbg"], Level::DEBUG),
            (&["fine"], Level(-3)),
            (&["info", "Information", "informational"], Level::INFO),
            (&["NOTICE", "audit"], Level(1)),
            (&["WARNING", "warn", "Wrn"], Level::WARN),
            (&["err", "SEVERE", "Error"], Level::ERROR),
            (&["alert"], Level(10)),
            (
                &["FATAL", "Critical", "panic", "EMERG", "emergency"],
                Level(12),
            ),
        ] {
            for name in names {
                assert_eq!(name.parse::<Level>().unwrap(), level, "{name}");
            }
        }
        assert_eq!(Level::of_text("info"), (Level::INFO, true));
        assert_eq!(Level::of_text("Warning"), (Level::WARN, false));
        assert_eq!(Level::of_text("loud"), (Level::INFO, false));
        for (number, level) in [
            (10, -8),
            (20, -4),
            (30, 0),
            (35, 2),
            (40, 4),
            (50, 8),
            (60, 12),
        ] {
            assert_eq!(Level::of_tens(number), Some(Level(level)));
        }
        assert_eq!(Level::of_tens(3), None);
        for (priority, level) in [(0, 12), (3, 8), (4, 4), (6, 0), (7, -4)] {
            assert_eq!(Level::of_syslog(priority), Some(Level(level)));
        }
        assert_eq!(Level::of_syslog(8), None);
    }
}
