//! The commit policy: when to commit. It reads no clock, so that a test can simulate a day in
//! seconds.

use super::WriterOptions;
use std::time::Duration;

/// A point in time, as the time since a fixed instant.
pub(super) type Instant = Duration;

/// The minimum time between two commits caused by urgent records.
const URGENT_INTERVAL: Duration = Duration::from_millis(100);

/// Decides when pending records are committed: by count, by size, after an interval that adapts to
/// the traffic, and soon after an urgent record.
#[derive(Debug)]
pub(super) struct CommitPolicy {
    interval_min: Duration,
    interval_max: Duration,
    records_max: usize,
    bytes_max: usize,
    /// See [`CommitPolicy::keep_batches_below`].
    bytes_limit: usize,
    interval: Duration,
    last_commit: Option<Instant>,
    last_urgent: Option<Instant>,
    pending: Option<Pending>,
}

/// A number of records and a number of bytes, either of which fills a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchSize {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

impl BatchSize {
    /// Whether records and bytes reach this size within `horizon` if they keep arriving at the rate of
    /// the last `window`.
    pub(super) fn fills_within(
        self,
        horizon: Duration,
        window: Duration,
        (records, bytes): (usize, usize),
    ) -> bool {
        let fills = |left: usize, arrived: usize| {
            window.as_nanos() * left as u128 <= horizon.as_nanos() * arrived as u128
        };
        fills(self.records, records) || fills(self.bytes, bytes)
    }
}

#[derive(Debug)]
struct Pending {
    due: Instant,
    urgent: bool,
    records: usize,
    bytes: usize,
}

impl CommitPolicy {
    pub(super) fn new(options: &WriterOptions) -> CommitPolicy {
        CommitPolicy {
            interval_min: options.commit_interval_min,
            // Leaves time for the commit itself: the option promises when a record is on disk.
            interval_max: options.commit_interval_max * 9 / 10,
            records_max: options.batch_records_max,
            // Uncommitted records count against the queue: if they filled it, producers would wait
            // or their records would be dropped until the interval ends.
            bytes_max: options.batch_bytes_max.min(options.queue_bytes_max / 2),
            bytes_limit: usize::MAX,
            interval: options.commit_interval_min,
            last_commit: None,
            last_urgent: None,
            pending: None,
        }
    }

    /// Commits at this number of bytes even if the options allow more.
    pub(super) fn keep_batches_below(&mut self, bytes: usize) {
        self.bytes_limit = bytes;
    }

    /// Notes a pending record.
    pub(super) fn record(&mut self, now: Instant, bytes: usize, urgent: bool) {
        let pending = match &mut self.pending {
            Some(pending) => pending,
            empty => {
                // After silence, the next record is committed soon; under traffic, each commit
                // carries more.
                let silent = self
                    .last_commit
                    .is_none_or(|last| now.saturating_sub(last) >= self.interval_max);
                self.interval = if silent {
                    self.interval_min
                } else {
                    (self.interval * 2).max(Duration::from_millis(1))
                }
                .min(self.interval_max);
                let due = now + self.interval;
                empty.insert(Pending {
                    due,
                    urgent: false,
                    records: 0,
                    bytes: 0,
                })
            }
        };
        pending.records += 1;
        pending.bytes += bytes;
        let bytes_max = self.bytes_max.min(self.bytes_limit);
        if pending.records >= self.records_max || pending.bytes >= bytes_max {
            pending.due = now;
        }
        if urgent && !pending.urgent {
            pending.urgent = true;
            let earliest = self
                .last_urgent
                .map_or(now, |last| now.max(last + URGENT_INTERVAL));
            pending.due = pending.due.min(earliest);
        }
    }

    /// When the pending records must be committed; `None` when there are none.
    pub(super) fn due(&self) -> Option<Instant> {
        self.pending.as_ref().map(|pending| pending.due)
    }

    /// The size of a batch that is committed at once.
    pub(super) fn batch_size(&self) -> BatchSize {
        BatchSize {
            records: self.records_max,
            bytes: self.bytes_max.min(self.bytes_limit),
        }
    }

    /// What the pending records lack of [`CommitPolicy::batch_size`].
    pub(super) fn room(&self) -> BatchSize {
        let whole = self.batch_size();
        self.pending.as_ref().map_or(whole, |pending| BatchSize {
            records: whole.records.saturating_sub(pending.records),
            bytes: whole.bytes.saturating_sub(pending.bytes),
        })
    }

    /// Notes a commit of all pending records.
    pub(super) fn committed(&mut self, now: Instant) {
        if self.pending.take().is_some_and(|pending| pending.urgent) {
            self.last_urgent = Some(now);
        }
        self.last_commit = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn policy() -> CommitPolicy {
        CommitPolicy::new(
            &WriterOptions::default()
                .batch_records_max(10)
                .batch_bytes_max(1000),
        )
    }

    #[test]
    fn a_record_after_silence_waits_shortly() {
        let mut policy = policy();
        assert_eq!(policy.due(), None);
        policy.record(ms(5000), 1, false);
        assert_eq!(policy.due(), Some(ms(5100)));
        policy.committed(ms(5100));
        assert_eq!(policy.due(), None);
        policy.record(ms(60_000), 1, false);
        assert_eq!(policy.due(), Some(ms(60_100)));
    }

    #[test]
    fn a_trickle_is_committed_ever_less_often_up_to_the_bound() {
        let mut policy = policy();
        let mut commits = Vec::new();
        for second in 0..100 {
            let now = ms(second * 1000);
            while let Some(due) = policy.due().filter(|due| *due <= now) {
                policy.committed(due);
                commits.push(due);
            }
            policy.record(now, 1, false);
            assert!(
                policy.due().unwrap() <= now + ms(1800),
                "no record waits longer"
            );
        }
        assert!((48..=56).contains(&commits.len()), "{commits:?}");
    }

    #[test]
    fn count_and_size_are_committed_at_once() {
        let mut policy = policy();
        for _ in 0..9 {
            policy.record(ms(10), 1, false);
        }
        assert!(policy.due() > Some(ms(10)));
        policy.record(ms(11), 1, false);
        assert_eq!(policy.due(), Some(ms(11)));
        policy.committed(ms(11));
        policy.record(ms(12), 1000, false);
        assert_eq!(policy.due(), Some(ms(12)));
    }

    #[test]
    fn errors_are_committed_at_once_at_most_ten_times_a_second() {
        let mut policy = policy();
        let mut commits = 0;
        for millis in 0..1000 {
            policy.record(ms(millis), 1, true);
            if policy.due().unwrap() <= ms(millis) {
                policy.committed(ms(millis));
                commits += 1;
            }
        }
        // Ten a second are due to urgent records; here, the batch of ten records causes the others.
        assert!(commits >= 10);
        let mut policy = CommitPolicy::new(&WriterOptions::default());
        let mut commits = 0;
        for millis in 0..1000 {
            policy.record(ms(millis), 1, true);
            if policy.due().unwrap() <= ms(millis) {
                policy.committed(ms(millis));
                commits += 1;
            }
        }
        assert_eq!(commits, 10);
    }
}
