//! The error type of the crate, and the helpers that build its values.

use crate::signal::Signal;
use serde::Deserialize;
use std::{
    borrow::Cow,
    io,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

/// The crate's error. Each message says which operation failed on what and, where the caller can
/// act, what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name that is not a signal.
    #[error("unknown signal {name:?}: expected logs, metrics or traces")]
    UnknownSignal {
        /// The name as given.
        name: String,
    },
    /// A text that is not a `log/slog` level.
    #[error(
        "unknown level {text:?}: expected DEBUG, INFO, WARN or ERROR, optionally with an offset such \
         as ERROR+4"
    )]
    UnknownLevel {
        /// The text, its first 64 characters.
        text: String,
    },
    /// A text that is not RFC 3339, or a time outside the range of [`Timestamp`](crate::Timestamp).
    #[error("invalid timestamp {text:?}: expected RFC 3339 between the years 1678 and 2261")]
    InvalidTimestamp {
        /// The text, its first 64 characters.
        text: String,
    },
    /// A text that is no time as people write it, see
    /// [`Timestamp::parse_written`](crate::Timestamp::parse_written).
    #[error(
        "cannot read the time {text:?}: write how long ago (2h, \"1day 6h\"), now, today, yesterday, a day \
         (2026-05-08), a time of day (14:03), both (\"2026-05-08 14:03\"), RFC 3339 \
         (2026-05-08T14:03:00Z) or seconds since 1970 (@1778248980)"
    )]
    InvalidTime {
        /// The text, its first 64 characters.
        text: String,
    },
    /// A condition or a pattern of a query that cannot be used.
    #[error("invalid filter {text:?}: {reason}")]
    InvalidFilter {
        /// The condition or the pattern, its first 64 characters.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A part of an id that several traces have.
    #[error(
        "several traces have {part:?} in their id: {}{}: give more digits",
        ids.join(", "),
        if *has_more { " and others" } else { "" }
    )]
    AmbiguousTraceId {
        /// The part of the id.
        part: String,
        /// The ids of these traces, at most ten.
        ids: Vec<String>,
        /// Whether there are more.
        has_more: bool,
    },
    /// A text that is not a cursor.
    #[error("invalid cursor {text:?}: expected the text of a cursor that an earlier read returned")]
    InvalidCursor {
        /// The text, its first 64 characters.
        text: String,
    },
    /// A stack name that is not one plain path component.
    #[error("invalid stack name {name:?}: {reason}")]
    InvalidStackName {
        /// The name as given.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A server name that is empty or longer than
    /// [`ServerName::BYTES_MAX`](crate::ServerName::BYTES_MAX).
    #[error(
        "invalid server name: it has {bytes} bytes, and 1 to {} are allowed",
        255
    )]
    InvalidServerName {
        /// The length of the name, in bytes.
        bytes: usize,
    },
    /// A secret too long to search for in every record.
    #[error("cannot redact a secret of {bytes} bytes: the maximum is {max}")]
    SecretTooLong {
        /// The length of the secret, in bytes.
        bytes: usize,
        /// The maximum length of a secret, in bytes.
        max: usize,
    },
    /// Registered secrets that are too many to search for in every record.
    #[error("cannot redact secrets of {bytes} bytes in total: the maximum is {max}")]
    TooManySecrets {
        /// The length of all secrets together, in bytes.
        bytes: usize,
        /// The maximum length of all secrets together, in bytes.
        max: usize,
    },
    /// An option outside its bounds.
    #[error("invalid {option}: {value} is not between {min} and {max}")]
    InvalidOption {
        /// The name of the option.
        option: &'static str,
        /// The value as given.
        value: u64,
        /// The smallest allowed value.
        min: u64,
        /// The largest allowed value.
        max: u64,
    },
    /// Usage by two things that no row can have together.
    #[error("usage cannot be by {first} and by {second} at once: ask for one of them")]
    IncompatibleUsage {
        /// The first of them.
        first: &'static str,
        /// The second of them.
        second: &'static str,
    },
    /// Neither `GRIDCTL_HOME` nor `HOME` is set.
    #[error("no home folder: set GRIDCTL_HOME or HOME, or pass a folder")]
    NoHome,
    /// The folder that replaces the user's home is a relative path: what it means would depend on
    /// the folder that a program is started in.
    #[error(
        "the home folder {:?} is not absolute: set GRIDCTL_HOME (or --home) to a path that begins \
         with a slash",
        path.display().to_string()
    )]
    RelativeHome {
        /// The path as given.
        path: PathBuf,
    },
    /// The operating system refused an operation on a file or folder.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The operation, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The disk is full, or the user's quota is used up. Reading still works. Records that cannot
    /// be stored are kept in memory while there is room, then dropped and counted. Deleting still
    /// works, unless another program has taken the last free disk blocks. Storing resumes once
    /// there is space again.
    #[error(
        "cannot {action} {}: {source}: free some space on its disk, or delete telemetry with `wipe`",
        path.display()
    )]
    StorageFull {
        /// The operation, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A file or folder below `home` belongs to another user.
    #[error("{} belongs to user {owner}, not to user {user}: remove it or run as its owner", path.display())]
    ForeignOwner {
        /// The file or folder.
        path: PathBuf,
        /// The user id of its owner.
        owner: u32,
        /// The user id of this process.
        user: u32,
    },
    /// The path of the database is taken by a folder or another entry that is not a regular file.
    #[error("{} is not a file: move it away", path.display())]
    NotAFile {
        /// The path of the database.
        path: PathBuf,
    },
    /// A file that is not a database of this crate.
    #[error("{} is not a telemetry database ({reason}): move it away", path.display())]
    NotADatabase {
        /// The file.
        path: PathBuf,
        /// What was found instead of a database.
        reason: String,
    },
    /// A file that cannot be opened as a database, beside the maximum number of such files that were set
    /// aside before: see [`list_set_aside`](crate::home::list_set_aside).
    #[error(
        "{}: {reason}; it is not set aside, because {count} damaged files beside it are: move them away",
        path.display()
    )]
    TooManySetAside {
        /// The path of the database.
        path: PathBuf,
        /// Why it cannot be opened.
        reason: String,
        /// The number of files that were set aside.
        count: usize,
    },
    /// A database written by a newer version of this crate. It was not modified.
    #[error(
        "{} has schema version {found}, and this program knows versions up to {supported}: use a \
         newer program", path.display()
    )]
    SchemaTooNew {
        /// The database.
        path: PathBuf,
        /// The schema version stored in the file.
        found: u64,
        /// The newest schema version that this program supports.
        supported: u64,
    },
    /// The database could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Database {
        /// The operation, as a verb.
        action: &'static str,
        /// The database.
        path: PathBuf,
        /// The error of the database engine.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Stored bytes differ from those that were written: the disk or another program changed them.
    #[error("{} is damaged: {what}", path.display())]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// What is wrong, and where.
        what: String,
    },
    /// The file of the database was replaced, restored or deleted while it was open. A
    /// [`Writer`](crate::Writer) goes on in the file that is there now, and creates it if it is missing;
    /// what it had stored in the other one is not in this.
    #[error("{} was replaced or deleted while it was open: try again", path.display())]
    DatabaseReplaced {
        /// The path of the database.
        path: PathBuf,
    },
    /// A record that cannot be stored in its present form.
    #[error("a record of {signal} cannot be stored: {reason}")]
    InvalidRecord {
        /// The record's signal.
        signal: Signal,
        /// What is wrong with the record.
        reason: String,
    },
    /// The store was opened for reading only.
    #[error("{} was opened for reading only", path.display())]
    ReadOnly {
        /// The database.
        path: PathBuf,
    },
    /// A reader holds a snapshot of the database, so its pages cannot be moved.
    #[error(
        "cannot compact {} while a reader holds a snapshot of it (waited {:.1} s): end programs that \
         read it for long, such as an export, or try again later",
        path.display(), waited.as_secs_f64()
    )]
    ReaderInTheWay {
        /// The database.
        path: PathBuf,
        /// How long the compaction waited for readers.
        waited: Duration,
    },
    /// A running writer still holds records that are older than a wipe, so they cannot be overwritten.
    #[error(
        "cannot overwrite all of {} yet: a running writer still keeps older records in a file beside it \
         (waited {:.1} s): see with `status` whether it can store, and try again",
        path.display(), waited.as_secs_f64()
    )]
    WriterInTheWay {
        /// The database.
        path: PathBuf,
        /// How long the operation waited for the writer.
        waited: Duration,
    },
    /// The operation was cancelled on request. No record was lost.
    #[error("cancelled: {action} {}", path.display())]
    Cancelled {
        /// The operation, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
    },
    /// Some records that were offered before the flush are not on the disk yet. They are kept and
    /// retried while the writer is open and memory has room for them.
    #[error("not all records are stored: {reason}")]
    NotFlushed {
        /// Why the records are not stored.
        reason: String,
        /// The [`Error`] of the failed commit; `None` when the writer thread did not answer in
        /// time.
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The writer is closed and stores no more records.
    #[error("the writer is closed")]
    WriterClosed,
}

/// A result whose error is [`Error`] unless stated otherwise.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// [`Error::StorageFull`] when the disk is full, else [`Error::Io`].
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

/// The first 64 characters of a text from outside: an error must not repeat a text of any length.
#[cold]
pub(crate) fn excerpt(text: &str) -> String {
    text.chars().take(64).collect()
}

/// Deserializes a value from the string that its `Display` writes.
pub(crate) fn deserialize_from_str<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr<Err = Error>,
    D: serde::Deserializer<'de>,
{
    let text = Cow::<'de, str>::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

/// Whether an I/O error means that the disk or the quota is exhausted. A limit of the size of files does not:
/// freeing space would not help.
pub(crate) fn is_storage_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_the_size_of_files_is_no_full_disk() {
        for (kind, is_full) in [
            (io::ErrorKind::StorageFull, true),
            (io::ErrorKind::QuotaExceeded, true),
            (io::ErrorKind::FileTooLarge, false),
        ] {
            let error = Error::io("write to", Path::new("telemetry.redb"), kind.into());
            assert_eq!(
                matches!(error, Error::StorageFull { .. }),
                is_full,
                "{error}"
            );
        }
    }
}
