//! The reasons why records are not stored or were removed, and the ledger entries that report them.

use crate::{record::ServerName, signal::Signal, time::Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a writer refused a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum DropCause {
    /// The queue is full.
    QueueFull,
    /// The record is larger than
    /// [`WriterOptions::record_bytes_max`](crate::WriterOptions::record_bytes_max).
    TooLarge,
    /// The record cannot be encoded: its values are nested too deep, or a span id does not have the
    /// length that OTLP requires.
    Invalid,
    /// The writer is closed.
    Closed,
}

impl DropCause {
    /// A short text for messages such as "dropped: queue full".
    #[must_use]
    pub fn as_str(self) -> &'static str {
        LossCause::from(self).as_str()
    }
}

impl fmt::Display for DropCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::error::Error for DropCause {}

/// Why a record is not in the store, as counted by the ledger and the writer statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum LossCause {
    /// The queue was full, see [`DropCause::QueueFull`].
    QueueFull,
    /// The record was too large, see [`DropCause::TooLarge`].
    TooLarge,
    /// The record could not be encoded, see [`DropCause::Invalid`].
    Invalid,
    /// The writer was closed, see [`DropCause::Closed`].
    Closed,
    /// The disk kept failing until the writer was closed.
    DiskFault,
    /// The process was killed before the record was committed.
    Crash,
    /// The record was evicted because it exceeded the age limit or the store exceeded a size limit.
    Retention,
    /// The record was emitted before a wipe that covers it. It is counted but is not a loss.
    Wiped,
    /// The stored record cannot be read any more: the disk or another program changed its bytes.
    Damaged,
    /// The record was stored in a file that was then replaced, restored from an older copy or deleted
    /// while its writer ran. The count is of all records that this writer had stored in it: some may be
    /// in the new file as well, and all are in the old one if that still exists.
    Replaced,
    /// The file that held the records could not be opened as a database and was set aside, so their
    /// number is not known: see [`list_set_aside`](crate::home::list_set_aside).
    SetAside,
    /// An endpoint to which the record was forwarded refused it for ever. The record is in this store until a
    /// limit evicts it, and in a file that the forwarder set aside unless there were too many.
    Refused,
}

impl LossCause {
    const ALL: [LossCause; 12] = [
        LossCause::QueueFull,
        LossCause::TooLarge,
        LossCause::Invalid,
        LossCause::Closed,
        LossCause::DiskFault,
        LossCause::Crash,
        LossCause::Retention,
        LossCause::Wiped,
        LossCause::Damaged,
        LossCause::Replaced,
        LossCause::SetAside,
        LossCause::Refused,
    ];

    /// A short text for messages such as "dropped: queue full".
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            LossCause::QueueFull => "queue full",
            LossCause::TooLarge => "too large",
            LossCause::Invalid => "invalid",
            LossCause::Closed => "writer closed",
            LossCause::DiskFault => "disk fault",
            LossCause::Crash => "crash",
            LossCause::Retention => "retention",
            LossCause::Wiped => "wiped",
            LossCause::Damaged => "damaged",
            LossCause::Replaced => "file replaced",
            LossCause::SetAside => "file set aside",
            LossCause::Refused => "refused by an endpoint",
        }
    }

    /// The cause's code in the database. The code of a removed cause is never reused.
    pub(crate) const fn code(self) -> u8 {
        match self {
            LossCause::QueueFull => 1,
            LossCause::TooLarge => 2,
            LossCause::Invalid => 3,
            LossCause::Closed => 4,
            LossCause::DiskFault => 5,
            LossCause::Crash => 6,
            LossCause::Retention => 7,
            LossCause::Wiped => 8,
            LossCause::Damaged => 9,
            LossCause::Replaced => 10,
            LossCause::SetAside => 11,
            LossCause::Refused => 12,
        }
    }

    /// The cause with this code in the database, if there is one.
    pub(crate) fn from_code(code: u8) -> Option<LossCause> {
        LossCause::ALL
            .into_iter()
            .find(|cause| cause.code() == code)
    }
}

impl From<DropCause> for LossCause {
    fn from(cause: DropCause) -> LossCause {
        match cause {
            DropCause::QueueFull => LossCause::QueueFull,
            DropCause::TooLarge => LossCause::TooLarge,
            DropCause::Invalid => LossCause::Invalid,
            DropCause::Closed => LossCause::Closed,
        }
    }
}

impl fmt::Display for LossCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// An entry of the ledger: records of one server and signal that were lost or evicted for one
/// cause. Each killed process has an entry of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct LedgerEntry {
    /// The server of the records; `None` when unknown.
    pub server: Option<ServerName>,
    /// The signal of the records; `None` when unknown.
    pub signal: Option<Signal>,
    /// Why the records are gone. [`LossCause::Retention`] marks an eviction, every other cause a
    /// loss.
    pub cause: LossCause,
    /// The number of records; 0 when unknown.
    pub count: u64,
    /// The earliest timestamp among the records.
    pub from: Timestamp,
    /// The latest timestamp among the records.
    pub to: Timestamp,
    /// For [`LossCause::Crash`], the number of records that the killed process had not committed and
    /// that are in the store nevertheless.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub recovered: u64,
}

impl LedgerEntry {
    /// Records that an endpoint refused for ever, see [`LossCause::Refused`].
    #[must_use]
    pub fn refused(
        server: ServerName,
        signal: Signal,
        count: u64,
        times: (Timestamp, Timestamp),
    ) -> LedgerEntry {
        LedgerEntry {
            server: Some(server),
            signal: Some(signal),
            cause: LossCause::Refused,
            count,
            from: times.0,
            to: times.1,
            recovered: 0,
        }
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde calls"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
