//! From producers to the store: a bounded queue, and one thread that writes.
//!
//! ```text
//! producers: encode -> queue (bounded in records and bytes) -> writer thread: batch -> commit -> seal
//!                                                           -> spiller, while the former commits
//! ```
//!
//! A producer never waits for the disk: when the queue is full, the record is dropped and counted.
//! Only the writer thread of a process changes the store.

mod committer;
mod options;
mod outage;
mod policy;
mod queue;
mod scrub;
#[cfg(feature = "simulation")]
pub(crate) mod simulated;
mod spiller;
mod stats;
mod sync;
#[cfg(test)]
mod tests;
mod thread;
mod writer;

pub use self::{
    options::{WhenFull, WriterOptions},
    outage::OutageEvent,
    stats::{DropCount, MaintenanceStats, WriterStats},
    writer::{Writer, WriterGuard},
};
pub(crate) use self::{thread::is_writer_thread, writer::OnWipe};

pub use crate::loss::DropCause;

use crate::{record::ServerName, signal::Signal, time::Timestamp};

/// A record in the queue.
#[derive(Debug)]
struct QueuedRecord {
    server: ServerName,
    signal: Signal,
    timestamp: Timestamp,
    /// When the record was emitted, see [`monotonic_nanos`](crate::platform::monotonic_nanos).
    emitted: u64,
    /// Whether to commit the record at once: it may be the last one before a crash.
    urgent: bool,
    /// Whether the record is in the writer's [spill](crate::store::Spill), too.
    is_spilled: bool,
    payload: Box<[u8]>,
}

/// The memory that a queued record takes beside its payload, in bytes: its entries in the queue and
/// in the batch.
const RECORD_OVERHEAD_BYTES: usize =
    size_of::<QueuedRecord>() + size_of::<crate::store::PendingRecord>();

impl QueuedRecord {
    /// The bytes that the record counts against [`WriterOptions::queue_bytes_max`].
    fn memory_bytes(&self) -> usize {
        self.payload.len() + RECORD_OVERHEAD_BYTES
    }
}
