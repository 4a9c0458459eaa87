//! What can keep records from being forwarded.

use gridctl_telemetry::Signal;
use std::path::PathBuf;

/// Why records are not forwarded. No message has the value of a header or a password of an address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForwardError {
    /// An option or an environment variable is wrong.
    #[error("{0}")]
    Option(String),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] gridctl_telemetry::Error),
    /// A cursor file, or a certificate, cannot be used.
    #[error("{0}")]
    File(String),
    /// The cursor file says how far another database was forwarded.
    #[error(
        "{} is about the database {found:016x}, and this one is {expected:016x}: name another cursor file, or \
         begin anew", path.display()
    )]
    OtherDatabase {
        /// The cursor file.
        path: PathBuf,
        /// The identity of the database that it is about.
        found: u64,
        /// The identity of the database to forward, see
        /// [`database_id`](gridctl_telemetry::Snapshot::database_id).
        expected: u64,
    },
    /// Another forwarder uses the cursor file.
    #[error(
        "another forwarder uses {}: end it, or name another cursor file", path.display()
    )]
    InUse {
        /// The cursor file.
        path: PathBuf,
    },
    /// The cursor file cannot be written, such as on a full disk. Records that the endpoint has acknowledged are
    /// then sent again by the next run.
    #[error(
        "cannot store how far {signal} were sent: {reason}; the next run sends {records} records again that the \
         endpoint has taken"
    )]
    Unsaved {
        /// The signal of the records.
        signal: Signal,
        /// The number of records that would be sent again.
        records: u64,
        /// What the system says.
        reason: String,
    },
    /// The endpoint takes no batch.
    #[error("{signal} were not taken: {reason}")]
    Endpoint {
        /// The signal of the records.
        signal: Signal,
        /// What the endpoint answered, or why it cannot be reached.
        reason: String,
    },
}
