//! The three kinds of telemetry: logs, metrics and traces.

use crate::error::{Error, Result};
use std::{fmt, str::FromStr};

/// One of the three kinds of telemetry that are stored for a server.
///
/// The variants are declared in the canonical order of inventories: logs, metrics, traces.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Signal {
    /// Log records, one for each event.
    Logs = 0,
    /// Snapshots of the token and cost counters.
    Metrics = 1,
    /// Spans.
    Traces = 2,
}

impl Signal {
    /// Every signal, in canonical order.
    pub const ALL: [Signal; 3] = [Signal::Logs, Signal::Metrics, Signal::Traces];

    /// The signal's name, as used in file names and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Signal::Logs => "logs",
            Signal::Metrics => "metrics",
            Signal::Traces => "traces",
        }
    }

    /// The signal with this code in the database, if there is one.
    pub(crate) fn from_code(code: u8) -> Option<Signal> {
        Signal::ALL.into_iter().find(|signal| *signal as u8 == code)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Signal {
    type Err = Error;

    /// Parses a signal's name.
    ///
    /// Fails with [`Error::UnknownSignal`] for anything else, including the empty string and other
    /// spellings (`Logs`).
    fn from_str(name: &str) -> Result<Signal> {
        Signal::ALL
            .into_iter()
            .find(|signal| signal.as_str() == name)
            .ok_or_else(|| Error::UnknownSignal {
                name: name.to_owned(),
            })
    }
}

/// Whether `name` is the name of a signal: `logs`, `metrics` or `traces`.
///
/// Lets a request handler check a query parameter before it opens the store.
#[must_use]
pub fn is_valid_signal(name: &str) -> bool {
    name.parse::<Signal>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_come_back_from_json() {
        for signal in Signal::ALL {
            let json = serde_json::to_string(&signal).unwrap();
            assert_eq!(json, format!("\"{signal}\""));
            assert_eq!(serde_json::from_str::<Signal>(&json).unwrap(), signal);
        }
        assert!(serde_json::from_str::<Signal>("\"Logs\"").is_err());
    }

    #[test]
    fn only_the_three_names_are_signals() {
        for signal in Signal::ALL {
            assert!(is_valid_signal(signal.as_str()));
            assert_eq!(signal.as_str().parse::<Signal>().ok(), Some(signal));
            assert_eq!(Signal::from_code(signal as u8), Some(signal));
        }
        for name in ["", "Logs", "log", "logs ", "../logs", "traces\0", "*"] {
            assert!(!is_valid_signal(name), "{name:?}");
        }
        assert_eq!(Signal::from_code(3), None);
    }
}
