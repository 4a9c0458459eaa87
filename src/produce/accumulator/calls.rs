//! The counters of a tool or a skill.

use super::{Names, Timestamp};
use crate::record::{CallCounts, calls::Calls};
use std::sync::atomic::{AtomicI64, Ordering};

/// No call: every timestamp is later, but for the earliest.
const NEVER: i64 = i64::MIN;

/// The cumulative counters of a tool or a skill, in the order of [`to_array`].
pub(super) struct CallCounters {
    /// What was counted in this process.
    counted: [AtomicI64; 3],
    /// What was counted before it.
    restored: [AtomicI64; 3],
    last_called_at: AtomicI64,
}

impl Default for CallCounters {
    fn default() -> CallCounters {
        CallCounters {
            counted: Default::default(),
            restored: Default::default(),
            last_called_at: AtomicI64::new(NEVER),
        }
    }
}

impl CallCounters {
    pub(super) fn add_call(&self, at: Timestamp) {
        add(&self.counted, [1, 0, 0]);
        self.last_called_at
            .fetch_max(at.unix_nanos(), Ordering::Relaxed);
    }

    pub(super) fn add_tokens(&self, input: i64, output: i64) {
        add(&self.counted, [0, input, output]);
    }

    fn restore(&self, counts: CallCounts) {
        store(&self.restored, to_array(counts));
        if let Some(at) = counts.last_called_at {
            self.last_called_at
                .fetch_max(at.unix_nanos(), Ordering::Relaxed);
        }
    }

    fn clear(&self) {
        store(&self.counted, [0; 3]);
        store(&self.restored, [0; 3]);
        self.last_called_at.store(NEVER, Ordering::Relaxed);
    }

    /// Takes away what was `flushed`, and leaves what was counted since.
    fn forget(&self, flushed: CallCounts) {
        let restored = load(&self.restored);
        store(&self.restored, [0; 3]);
        let flushed = to_array(flushed).into_iter().zip(restored);
        for (counter, (flushed, restored)) in self.counted.iter().zip(flushed) {
            counter.fetch_sub((flushed - restored).max(0), Ordering::Relaxed);
        }
    }

    /// Both together; `None` when there is nothing.
    fn total(&self) -> Option<CallCounts> {
        let counts = load(&self.counted).into_iter().zip(load(&self.restored));
        let mut total = counts.map(|(counted, restored)| counted.saturating_add(restored));
        let mut next = || total.next().unwrap_or_default();
        let counts = CallCounts {
            calls: next(),
            input_tokens: next(),
            output_tokens: next(),
            last_called_at: None,
        };
        let last_called_at = self.last_called_at.load(Ordering::Relaxed);
        let is_known = last_called_at != NEVER;
        (counts != CallCounts::default()).then(|| CallCounts {
            last_called_at: is_known.then(|| Timestamp::from_unix_nanos(last_called_at)),
            ..counts
        })
    }
}

impl Names<CallCounters> {
    /// The counters of those that were called.
    pub(super) fn calls(&self) -> Calls {
        let mut calls = Calls::new();
        self.for_each(|name, counters| {
            if let Some(counts) = counters.total() {
                calls.insert(name.to_owned(), counts);
            }
        });
        calls
    }

    /// Sets what was counted before this process.
    pub(super) fn restore(&self, calls: &Calls) {
        for (name, counts) in calls {
            self.get(name).restore(*counts);
        }
    }

    pub(super) fn clear(&self) {
        self.for_each(|_, counters| counters.clear());
    }

    /// Takes away what was `flushed`, and leaves what was counted since.
    pub(super) fn forget(&self, flushed: &Calls) {
        self.for_each(|name, counters| {
            counters.forget(flushed.get(name).copied().unwrap_or_default());
        });
    }
}

fn to_array(counts: CallCounts) -> [i64; 3] {
    [counts.calls, counts.input_tokens, counts.output_tokens]
}

/// Adds up to the largest integer: a counter that wrapped would be one that went down.
fn add(counters: &[AtomicI64; 3], counts: [i64; 3]) {
    for (counter, count) in counters.iter().zip(counts).filter(|(_, count)| *count != 0) {
        let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |before| {
            Some(before.saturating_add(count))
        });
    }
}

fn store(counters: &[AtomicI64; 3], counts: [i64; 3]) {
    for (counter, count) in counters.iter().zip(counts) {
        counter.store(count.max(0), Ordering::Relaxed);
    }
}

fn load(counters: &[AtomicI64; 3]) -> [i64; 3] {
    counters
        .each_ref()
        .map(|counter| counter.load(Ordering::Relaxed))
}
