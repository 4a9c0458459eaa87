//! The options of a writer.

use super::outage::{OutageEvent, OutageListener};
use crate::{
    config::RetentionPolicy,
    error::{Error, Result},
    redact::Redactor,
    store::{RECORD_BYTES_MAX, Tiering},
};
use std::time::Duration;

/// What happens to a record when the queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WhenFull {
    /// The record is dropped and counted; the producer continues.
    #[default]
    DropNewest,
    /// The producer waits for room. For imports and tests: a failing disk then blocks the producer.
    Block,
}

/// The options of a [`Writer`](crate::Writer): how it queues and commits.
///
/// ```
/// use gridctl_telemetry::{WriterOptions, config::{Retention, RetentionPolicy}};
/// use std::time::Duration;
///
/// let options = WriterOptions::default()
///     .queue_bytes_max(64 << 20)
///     .commit_interval_max(Duration::from_secs(5))
///     .retention(Some(RetentionPolicy::new(Retention::default().max_age_days(30))));
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct WriterOptions {
    pub(super) queue_records_max: usize,
    pub(super) queue_bytes_max: usize,
    pub(super) record_bytes_max: usize,
    pub(super) batch_records_max: usize,
    pub(super) batch_bytes_max: usize,
    pub(super) commit_interval_min: Duration,
    pub(super) commit_interval_max: Duration,
    pub(super) flush_timeout: Duration,
    pub(super) when_full: WhenFull,
    pub(super) redactor: Option<Redactor>,
    pub(super) retention: Option<RetentionPolicy>,
    pub(super) tiering: Tiering,
    pub(super) on_outage: Option<OutageListener>,
}

impl Default for WriterOptions {
    fn default() -> WriterOptions {
        WriterOptions {
            queue_records_max: 65_536,
            queue_bytes_max: 32 << 20,
            record_bytes_max: 1 << 20,
            batch_records_max: 32_768,
            batch_bytes_max: 8 << 20,
            commit_interval_min: Duration::from_millis(100),
            commit_interval_max: Duration::from_secs(2),
            flush_timeout: Duration::from_secs(10),
            when_full: WhenFull::DropNewest,
            redactor: Some(Redactor::new()),
            retention: None,
            tiering: Tiering::default(),
            on_outage: None,
        }
    }
}

impl WriterOptions {
    /// Maximum number of records in the queue. Default: 65,536.
    pub fn queue_records_max(mut self, records: usize) -> WriterOptions {
        self.queue_records_max = records;
        self
    }

    /// Maximum memory of the records that are not committed yet, in bytes. Default: 32 MiB.
    pub fn queue_bytes_max(mut self, bytes: usize) -> WriterOptions {
        self.queue_bytes_max = bytes;
        self
    }

    /// Maximum size of an encoded record, in bytes; larger records are dropped. Default: 1 MiB, at
    /// most 16 MiB.
    pub fn record_bytes_max(mut self, bytes: usize) -> WriterOptions {
        self.record_bytes_max = bytes;
        self
    }

    /// Number of records that are committed without waiting for more. Default: 32,768.
    pub fn batch_records_max(mut self, records: usize) -> WriterOptions {
        self.batch_records_max = records;
        self
    }

    /// Number of bytes that are committed without waiting for more. Default: 8 MiB.
    pub fn batch_bytes_max(mut self, bytes: usize) -> WriterOptions {
        self.batch_bytes_max = bytes;
        self
    }

    /// How long a record that arrives after silence waits for its commit. Default: 100 ms.
    pub fn commit_interval_min(mut self, interval: Duration) -> WriterOptions {
        self.commit_interval_min = interval;
        self
    }

    /// Maximum time that a record in a steady trickle waits until it is on disk, the commit
    /// included if the disk is as fast as usual. Default: 2 s. Every commit writes about 50 KB,
    /// however little it holds, so a shorter interval would wear out the disk.
    pub fn commit_interval_max(mut self, interval: Duration) -> WriterOptions {
        self.commit_interval_max = interval;
        self
    }

    /// How long a flush, and the flush of a dropped guard, waits for the writer thread. Default: 10
    /// s.
    pub fn flush_timeout(mut self, timeout: Duration) -> WriterOptions {
        self.flush_timeout = timeout;
        self
    }

    /// What happens to a record when the queue is full. Default: it is dropped.
    pub fn when_full(mut self, policy: WhenFull) -> WriterOptions {
        self.when_full = policy;
        self
    }

    /// The redactor that replaces secrets before a record is stored; `None` stores records
    /// unredacted. Keep a clone of it to register values. Default: a redactor without registered
    /// values.
    pub fn redactor(mut self, redactor: Option<Redactor>) -> WriterOptions {
        self.redactor = redactor;
        self
    }

    /// The limits of the database, which are stored in it and apply to all its readers and writers.
    /// `None`, the default, leaves the stored limits unchanged; a new database has no limits.
    pub fn retention(mut self, policy: Option<RetentionPolicy>) -> WriterOptions {
        self.retention = policy;
        self
    }

    /// Sets a function that is told when an outage begins and when it ends. It is called on a thread
    /// of its own: it may block, and a panic in it is caught. Default: none.
    pub fn on_outage(
        mut self,
        listener: impl Fn(OutageEvent) + Send + Sync + 'static,
    ) -> WriterOptions {
        self.on_outage = Some(OutageListener::new(listener));
        self
    }

    /// The redactor of these options, or a new one if there is none.
    pub(crate) fn redactor_or_default(&self) -> Redactor {
        self.redactor.clone().unwrap_or_default()
    }

    /// Number of threads that redact and compress the records of a large commit: the writer thread, and others
    /// that it starts for the time of the commit. More than one make a load of more than a hundred thousand
    /// records a second faster, and take processors from what else the process does. Default: 1, at most 16.
    pub fn commit_threads(mut self, threads: usize) -> WriterOptions {
        self.tiering.threads = threads;
        self
    }

    /// Seals after `seal_rows` rows, or at once when a batch has `direct_records` records, into
    /// blocks of `block_records` records. For tests that need many blocks of few records.
    #[cfg(feature = "simulation")]
    pub fn tiering(
        mut self,
        seal_rows: usize,
        direct_records: usize,
        block_records: usize,
    ) -> WriterOptions {
        self.tiering = Tiering {
            seal_rows,
            direct_records,
            block_records,
            ..self.tiering
        };
        self
    }

    /// Sets whether blocks get summaries, which spare queries the blocks without a match. For benchmarks
    /// of what they cost.
    #[cfg(feature = "simulation")]
    pub fn summaries(mut self, summarizes: bool) -> WriterOptions {
        self.tiering.summarizes = summarizes;
        self
    }

    /// Fails with [`Error::InvalidOption`] when an option is out of bounds.
    pub(super) fn validate(&self) -> Result<()> {
        let check = |option, value: usize, min: usize, max: usize| {
            if (min..=max).contains(&value) {
                return Ok(());
            }
            let [value, min, max] = [value as u64, min as u64, max as u64];
            Err(Error::InvalidOption {
                option,
                value,
                min,
                max,
            })
        };
        check("queue_records_max", self.queue_records_max, 1, 1 << 24)?;
        check("queue_bytes_max", self.queue_bytes_max, 1 << 10, 1 << 34)?;
        check(
            "record_bytes_max",
            self.record_bytes_max,
            1,
            RECORD_BYTES_MAX,
        )?;
        check("batch_records_max", self.batch_records_max, 1, 1 << 20)?;
        check("batch_bytes_max", self.batch_bytes_max, 1, 256 << 20)?;
        check("commit_threads", self.tiering.threads, 1, 16)?;
        let millis =
            |interval: Duration| usize::try_from(interval.as_millis()).unwrap_or(usize::MAX);
        let (min, max) = (
            millis(self.commit_interval_min),
            millis(self.commit_interval_max),
        );
        check("commit_interval_max (ms)", max, 1, 3_600_000)?;
        check("commit_interval_min (ms)", min, 0, max)?;
        if let Some(policy) = &self.retention {
            policy.clone().validated()?;
        }
        Ok(())
    }
}
