//! The crate's errors.

use crate::signal::Signal;
use serde::Deserialize;
use std::{
    borrow::Cow,
    io,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

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
        "unknown level {text:?}: expected DEBUG, INFO, WARN or ERROR, at most with an offset such \
         as ERROR+4"
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
    /// A text that is no cursor's.
    #[error("invalid cursor {text:?}: expected what an earlier read gave out")]
    InvalidCursor {
        /// The text, its first 64 characters.
        text: String,
    },
    /// A stack name that is not one plain path component.
    #[error("invalid stack name {name:?}: {reason}")]
    InvalidStackName {
        /// The name as it was given.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A server name that is empty or too long.
    #[error(
        "invalid server name: it has {bytes} bytes, and 1 to {} are allowed",
        255
    )]
    InvalidServerName {
        /// The length of the name.
        bytes: usize,
    },
    /// A secret that is too long to be looked for in every record.
    #[error("cannot redact a secret of {bytes} bytes: at most {max} are allowed")]
    SecretTooLong {
        /// The secret's length.
        bytes: usize,
        /// The longest that is allowed.
        max: usize,
    },
    /// More secrets than can be looked for in every record.
    #[error("cannot redact secrets of {bytes} bytes in all: at most {max} are allowed")]
    TooManySecrets {
        /// The length of all secrets together.
        bytes: usize,
        /// The most that is allowed.
        max: usize,
    },
    /// An option outside its bounds.
    #[error("invalid {option}: {value} is not between {min} and {max}")]
    InvalidOption {
        /// The option's name.
        option: &'static str,
        /// The value as it was given.
        value: u64,
        /// The smallest value allowed.
        min: u64,
        /// The largest value allowed.
        max: u64,
    },
    /// Neither `GRIDCTL_HOME` nor `HOME` is set.
    #[error("no home folder: set GRIDCTL_HOME or HOME, or name one")]
    NoHome,
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// There is no room left on the disk, or none for this user. Reading works; what cannot be stored
    /// is kept while there is memory for it, then dropped and counted; deleting works, unless
    /// somebody else has taken the last of the room. Storing goes on by itself when there is room.
    #[error(
        "cannot {action} {}: {source}: free some space on its disk, or delete telemetry with `wipe`",
        path.display()
    )]
    StorageFull {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A component below `home` belongs to somebody else.
    #[error("{} belongs to user {owner}, not to user {user}: remove it or run as its owner", path.display())]
    ForeignOwner {
        /// The component.
        path: PathBuf,
        /// Its owner's user id.
        owner: u32,
        /// The user id of this process.
        user: u32,
    },
    /// A folder, or something stranger, stands where the database should be.
    #[error("{} is not a file: move it away", path.display())]
    NotAFile {
        /// What stands there.
        path: PathBuf,
    },
    /// A file that is no database of this crate.
    #[error("{} is not a telemetry database ({reason}): move it away", path.display())]
    NotADatabase {
        /// The file.
        path: PathBuf,
        /// What was found instead.
        reason: String,
    },
    /// A database written by a newer version. It was left as it is.
    #[error(
        "{} has schema version {found}, and this program knows versions up to {supported}: use a \
         newer program", path.display()
    )]
    SchemaTooNew {
        /// The database.
        path: PathBuf,
        /// The version that its file states.
        found: u64,
        /// The newest version that this program reads.
        supported: u64,
    },
    /// The database could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Database {
        /// What was tried, as a verb.
        action: &'static str,
        /// The database.
        path: PathBuf,
        /// The database engine's answer.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Stored bytes that are not what was written: the disk, or another program, changed them.
    #[error("{} is damaged: {what}", path.display())]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// What is wrong, and where.
        what: String,
    },
    /// A record that cannot be stored as it is.
    #[error("a record of {signal} cannot be stored: {reason}")]
    InvalidRecord {
        /// The record's signal.
        signal: Signal,
        /// What is wrong with it.
        reason: String,
    },
    /// The store was opened for reading only.
    #[error("{} was opened for reading only", path.display())]
    ReadOnly {
        /// The database.
        path: PathBuf,
    },
    /// Some process reads a state of the database whose pages are therefore not to be moved.
    #[error(
        "cannot compact {} while somebody reads it (waited {:.1} s): end programs that read it for \
         long, such as an export, or try again later",
        path.display(), waited.as_secs_f64()
    )]
    ReaderInTheWay {
        /// The database.
        path: PathBuf,
        /// For how long it was waited.
        waited: Duration,
    },
    /// It was cancelled, as was asked for. Nothing was lost.
    #[error("cancelled: {action} {}", path.display())]
    Cancelled {
        /// What was cancelled, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
    },
    /// Not everything that was offered is on the disk. What is not is kept and tried again, while
    /// the writer is open and there is room.
    #[error("not everything is stored: {reason}")]
    NotFlushed {
        /// Why.
        reason: String,
        /// The [`Error`] of the commit that failed; absent when no answer came in time.
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The writer has been closed; nothing is stored any more.
    #[error("the writer is closed")]
    WriterClosed,
}

/// The result of everything that can fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// [`Error::StorageFull`], or [`Error::Io`] for whatever else the system refuses for.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Error {
        let path = path.to_owned();
        if is_storage_full(&source) {
            Error::StorageFull {
                action,
                path,
                source,
            }
        } else {
            Error::Io {
                action,
                path,
                source,
            }
        }
    }
}

/// As much of a text from outside as an error shows.
#[cold]
pub(crate) fn excerpt(text: &str) -> String {
    text.chars().take(64).collect()
}

/// Reads a string, and from it a value: for types whose JSON is the text that `Display` writes.
pub(crate) fn deserialize_from_str<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr<Err = Error>,
    D: serde::Deserializer<'de>,
{
    let text = Cow::<'de, str>::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

/// Whether what the system says means that there is no room for more.
pub(crate) fn is_storage_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}
