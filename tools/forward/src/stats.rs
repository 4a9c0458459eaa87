//! What a forwarder has done, and what it reports.

use gridctl_telemetry::{ServerName, Signal, Timestamp};
use std::{path::PathBuf, time::Duration};

/// What a forwarder has done for one signal since it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SignalStats {
    /// Records that the endpoint has taken, without rejected ones.
    pub sent: u64,
    /// Records of batches that it took, which it says to have rejected (a partial success).
    pub rejected: u64,
    /// Records of batches that it refused for ever.
    pub refused: u64,
    /// Records that limits evicted before they were sent.
    pub missed: u64,
    /// Stored records that cannot be read.
    pub damaged: u64,
    /// Requests that were sent again.
    pub retries: u64,
    /// Records that the endpoint may have twice, because it did not answer a request with them.
    pub maybe_twice: u64,
    /// Requests that were answered with yes.
    pub batches: u64,
    /// Bytes of the bodies of these requests.
    pub bytes: u64,
    /// Records that are on their way.
    pub in_flight: u64,
    /// Whether all records that are stored have been sent, as far as is known.
    pub is_caught_up: bool,
}

/// What a forwarder has done since it was started.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ForwardStats {
    /// For each signal that is forwarded.
    pub signals: Vec<(Signal, SignalStats)>,
}

impl ForwardStats {
    /// The sum of a number over all signals.
    #[must_use]
    pub fn sum(&self, of: impl Fn(&SignalStats) -> u64) -> u64 {
        self.signals.iter().map(|(_, stats)| of(stats)).sum()
    }

    /// The records that the endpoint has taken.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sum(|stats| stats.sent)
    }
}

/// Records that limits evicted before they were sent.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Missed {
    /// The signal of the records.
    pub signal: Signal,
    /// The server of the records.
    pub server: ServerName,
    /// The number of records.
    pub count: u64,
    /// Their times are not before this one.
    pub from: Timestamp,
    /// Their times are not after this one.
    pub to: Timestamp,
}

/// What happens while records are forwarded. Texts of an endpoint are in it as they came: escape them before they
/// are printed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForwardEvent {
    /// The forwarder continues after an earlier one that was killed or ended while a batch was on its way: up to
    /// this many records may be sent a second time.
    Resumed {
        /// The signal of the records.
        signal: Signal,
        /// The most records that a batch has.
        records_max: u64,
    },
    /// A batch was not taken, and is sent again. Reported once for each reason.
    Trouble {
        /// The signal of the batch.
        signal: Signal,
        /// What the endpoint answered, or why there is no answer.
        reason: String,
        /// How long the forwarder waits.
        retry_in: Duration,
    },
    /// A batch was taken after trouble.
    Recovered {
        /// The signal of the batch.
        signal: Signal,
    },
    /// The endpoint took a batch but for some records, or warns.
    Rejected {
        /// The signal of the batch.
        signal: Signal,
        /// The number of rejected records.
        records: u64,
        /// What the endpoint says about it.
        message: String,
    },
    /// The endpoint refused a batch for ever; its records are in the ledger as
    /// [`Refused`](gridctl_telemetry::ledger::LossCause::Refused).
    Refused {
        /// The signal of the batch.
        signal: Signal,
        /// The number of records.
        records: u64,
        /// What the endpoint answered.
        reason: String,
        /// The file that has the batch as it was sent, before compression; `None` when there are too many.
        file: Option<PathBuf>,
    },
    /// Limits evicted records before they were sent.
    Missed(Missed),
    /// Stored records cannot be read, and are left out.
    Damaged {
        /// The signal of the records.
        signal: Signal,
        /// The number of records; `None` when it is not known.
        records: Option<u64>,
        /// What cannot be read.
        what: String,
    },
    /// The database was replaced by another one, whose records are all sent.
    Replaced {
        /// The signal whose records are sent anew.
        signal: Signal,
    },
    /// Something on this machine fails, and is tried again: reading the store, or writing the cursor, the ledger or
    /// a file.
    Failing {
        /// What the system says.
        reason: String,
    },
}
