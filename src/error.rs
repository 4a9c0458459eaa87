//! The crate's errors.

/// What went wrong, on what, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name that is no signal's.
    #[error("unknown signal {name:?}: expected logs, metrics or traces")]
    UnknownSignal {
        /// The name as it was given.
        name: String,
    },
    /// A text that is no level of slog's.
    #[error(
        "unknown level {text:?}: expected DEBUG, INFO, WARN or ERROR, with an offset such as ERROR+4 at most"
    )]
    UnknownLevel {
        /// The text, its first 64 characters.
        text: String,
    },
    /// A text that is not RFC 3339, or a year that no timestamp holds.
    #[error("invalid timestamp {text:?}: expected RFC 3339 between the years 1678 and 2261")]
    InvalidTimestamp {
        /// The text, its first 64 characters.
        text: String,
    },
}

/// The result of everything that can fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;
