//! A writer for tests and benchmarks without a queue, a thread or a clock of its own.

use super::{QueuedRecord, WriterOptions, WriterStats, committer::Committer, policy::Instant};
use crate::{
    config::RetentionPolicy,
    error::{Error, Result},
    platform::monotonic_nanos,
    record::{Level, LogRecord, Record, ServerName},
    signal::Signal,
    store::{Store, WipeScope, policy::limits::Limits},
    time::Timestamp,
};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// A writer with a simulated clock: a minute suffices to measure what it writes in a day.
///
/// It shares all code with [`Writer`](crate::Writer) except the queue and the thread.
#[derive(Debug)]
pub struct SimulatedWriter {
    committer: Committer,
    commits: u64,
    waited_max: Duration,
    oldest: Option<Instant>,
}

impl SimulatedWriter {
    /// Creates a writer to `store` whose clock is at zero. It may be dropped at any time, which is not taken
    /// for a crash, so it has no spill.
    pub fn new(store: &Store, options: WriterOptions) -> Result<SimulatedWriter> {
        let writer = SimulatedWriter::with_spill(store, options)?;
        writer.committer.spiller.remove()?;
        Ok(writer)
    }

    /// Like [`SimulatedWriter::new`], with a spill, which [`SimulatedWriter::spill`] writes to. A writer that is
    /// dropped and not [closed](SimulatedWriter::close) has crashed.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "options are passed by value, here as everywhere"
    )]
    pub fn with_spill(store: &Store, options: WriterOptions) -> Result<SimulatedWriter> {
        options.validate()?;
        let committer = Committer::new(store, &options, Arc::default())?;
        Ok(SimulatedWriter {
            committer,
            commits: 0,
            waited_max: Duration::ZERO,
            oldest: None,
        })
    }

    /// Advances the clock to `now`, committing and maintaining at each due time on the way.
    pub fn advance(&mut self, now: Duration) -> Result<()> {
        loop {
            let due = self.committer.due();
            if due > now {
                return Ok(());
            }
            if self
                .committer
                .commit_due()
                .is_none_or(|commit| commit > due)
            {
                self.committer.maintain(due)?;
                continue;
            }
            let started = std::time::Instant::now();
            self.flush(due)?;
            let waited = self
                .oldest
                .take()
                .map_or(Duration::ZERO, |oldest| due.saturating_sub(oldest));
            self.waited_max = self.waited_max.max(waited + started.elapsed());
            self.commits += 1;
        }
    }

    /// See [`Writer::set_retention`](crate::Writer::set_retention).
    pub fn set_retention(&mut self, policy: RetentionPolicy, now: Duration) -> Result<()> {
        self.advance(now)?;
        self.committer.set_retention(&policy.validated()?, now)
    }

    /// Like [`SimulatedWriter::set_retention`], with limits of any size: bytes and age for each
    /// server ("" for servers without limits of their own), and a total in bytes.
    pub fn set_small_limits(
        &mut self,
        servers: &[(&str, u64, Duration)],
        total_bytes: Option<u64>,
        now: Duration,
    ) -> Result<()> {
        self.advance(now)?;
        let limits = Limits::new(servers, total_bytes);
        self.committer.writer.set_small_limits(&limits)?;
        self.committer.maintenance_due = now;
        Ok(())
    }

    /// Writes a log record at `now`.
    pub fn log(&mut self, server: &ServerName, record: &LogRecord, now: Duration) -> Result<()> {
        self.push(encode_log(server, record)?, now)
    }

    /// Writes a record of any signal at `now`.
    pub fn record(&mut self, server: &ServerName, record: &Record, now: Duration) -> Result<()> {
        self.push(encode_record(server, record)?, now)
    }

    fn push(&mut self, queued: QueuedRecord, now: Duration) -> Result<()> {
        self.advance(now)?;
        self.committer
            .counters
            .queued_bytes
            .fetch_add(queued.memory_bytes(), Ordering::Relaxed);
        self.oldest.get_or_insert(now);
        self.committer.push(queued, now);
        Ok(())
    }

    /// Commits all pending records, like [`Writer::flush`](crate::Writer::flush).
    pub fn flush(&mut self, now: Duration) -> Result<()> {
        if !self.committer.spiller.has_spill() {
            return self.commit(now);
        }
        self.committer.begin_work(now, true);
        let committed = self.commit(now);
        // There is no queue that messages could have been taken from.
        self.committer.end_work();
        committed
    }

    fn commit(&mut self, now: Duration) -> Result<()> {
        self.committer.commit(now)?;
        self.committer.seal(now)
    }

    /// Writes all pending records to the spill. Returns whether they are there now.
    pub fn spill(&mut self, now: Duration) -> bool {
        self.committer.spill_all(now)
    }

    /// Opens the store again after a failure, as the writer thread does before its next attempt.
    pub fn reopen(&mut self) -> Result<()> {
        self.committer.reopen()
    }

    /// Commits all pending records and ends the writer properly.
    pub fn close(mut self, now: Duration) -> Result<()> {
        self.flush(now)?;
        self.committer.leave()
    }

    /// See [`Writer::wipe`](crate::Writer::wipe).
    pub fn wipe(&mut self, scope: &WipeScope) -> Result<usize> {
        self.committer.wipe(scope)
    }

    /// When the next commit or maintenance is due: advancing to this time performs exactly one of
    /// them.
    #[must_use]
    pub fn due(&self) -> Duration {
        self.committer.due()
    }

    /// The statistics so far.
    #[must_use]
    pub fn stats(&self) -> WriterStats {
        self.committer.counters.stats()
    }

    /// The number of commits so far.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.commits
    }

    /// The longest time from the arrival of a record to the end of its commit.
    #[must_use]
    pub fn waited_max(&self) -> Duration {
        self.waited_max
    }
}

fn encode_log(server: &ServerName, record: &LogRecord) -> Result<QueuedRecord> {
    let (signal, at) = (Signal::Logs, record.timestamp);
    let urgent = record.level >= Level::ERROR;
    encode(server, signal, at, urgent, |out| record.encode_payload(out))
}

fn encode_record(server: &ServerName, record: &Record) -> Result<QueuedRecord> {
    match record {
        Record::Log(record) => encode_log(server, record),
        other => encode(server, other.signal(), other.timestamp(), false, |out| {
            other.encode_payload(out)
        }),
    }
}

fn encode<E: std::fmt::Display>(
    server: &ServerName,
    signal: Signal,
    timestamp: Timestamp,
    urgent: bool,
    encode: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<QueuedRecord> {
    let mut payload = Vec::new();
    encode(&mut payload).map_err(|error| Error::InvalidRecord {
        signal,
        reason: error.to_string(),
    })?;
    Ok(QueuedRecord {
        server: server.clone(),
        signal,
        timestamp,
        emitted: monotonic_nanos(),
        urgent,
        is_spilled: false,
        payload: payload.into_boxed_slice(),
    })
}
