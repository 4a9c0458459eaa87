//! Cumulative counters.

use crate::record::{CostCounts, TokenCounts};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

/// One of the two things that are counted, each as a few integers.
pub(in crate::produce) trait Dimension: Copy + Default {
    /// The integers.
    type Ints: AsRef<[i64]>;

    fn ints(self) -> Self::Ints;

    fn from_ints(ints: impl Iterator<Item = i64>) -> Self;

    /// This dimension's part of what is kept for both.
    fn part<T>(pair: &Pair<T>) -> &[T];

    /// Whether it has ever been counted.
    fn seen(counters: &Counters) -> &AtomicBool;

    /// How often it was cleared.
    fn cleared(counters: &Counters) -> &AtomicU64;

    fn add(&mut self, other: Self) {
        let sums = self.ints();
        let others = other.ints();
        let sums = sums.as_ref().iter().zip(others.as_ref());
        *self = Self::from_ints(sums.map(|(a, b)| a.saturating_add(*b)));
    }

    fn is_zero(self) -> bool {
        self.ints().as_ref().iter().all(|int| *int == 0)
    }
}

/// Something for each integer of the two dimensions.
#[derive(Debug, Default)]
pub(in crate::produce) struct Pair<T> {
    tokens: [T; 3],
    cost: [T; 4],
}

impl Dimension for TokenCounts {
    type Ints = [i64; 3];

    fn ints(self) -> [i64; 3] {
        self.to_array()
    }

    fn from_ints(ints: impl Iterator<Item = i64>) -> TokenCounts {
        TokenCounts::from_array(collect(ints))
    }

    fn part<T>(pair: &Pair<T>) -> &[T] {
        &pair.tokens
    }

    fn seen(counters: &Counters) -> &AtomicBool {
        &counters.tokens_seen
    }

    fn cleared(counters: &Counters) -> &AtomicU64 {
        &counters.tokens_cleared
    }
}

impl Dimension for CostCounts {
    type Ints = [i64; 4];

    fn ints(self) -> [i64; 4] {
        self.to_array()
    }

    fn from_ints(ints: impl Iterator<Item = i64>) -> CostCounts {
        CostCounts::from_array(collect(ints))
    }

    fn part<T>(pair: &Pair<T>) -> &[T] {
        &pair.cost
    }

    fn seen(counters: &Counters) -> &AtomicBool {
        &counters.cost_seen
    }

    fn cleared(counters: &Counters) -> &AtomicU64 {
        &counters.cost_cleared
    }
}

/// The cumulative counters of a server, a replica or a client.
#[derive(Debug, Default)]
pub(in crate::produce) struct Counters {
    /// What was counted in this process.
    counted: Pair<AtomicI64>,
    /// What was counted before it.
    restored: Pair<AtomicI64>,
    tokens_seen: AtomicBool,
    cost_seen: AtomicBool,
    tokens_cleared: AtomicU64,
    cost_cleared: AtomicU64,
}

/// What was counted of one dimension in this process since it was cleared last, and how often it was
/// cleared. The difference of two of these is what happened in between, whatever was restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::produce) struct Counted<T> {
    clears: u64,
    counts: T,
}

impl<T: Dimension> Counted<T> {
    pub(in crate::produce) fn counts(self) -> T {
        self.counts
    }

    /// What was counted after `before`, or after the counters were cleared since, and whether they
    /// were.
    pub(in crate::produce) fn since(self, before: Counted<T>) -> (T, bool) {
        let (now, then) = (self.counts.ints(), before.counts.ints());
        let pairs = || now.as_ref().iter().zip(then.as_ref());
        // A clear that goes on at this moment may show in the counters alone.
        if self.clears != before.clears || pairs().any(|(now, then)| now < then) {
            return (self.counts, true);
        }
        let gained = T::from_ints(pairs().map(|(now, then)| now - then));
        (gained, false)
    }
}

impl Counters {
    pub(super) fn add<T: Dimension>(&self, counts: T) {
        add(T::part(&self.counted), counts);
        see(T::seen(self));
    }

    pub(super) fn restore<T: Dimension>(&self, total: T) {
        set(T::part(&self.restored), total);
        see(T::seen(self));
    }

    /// Both together, once there was anything to count.
    pub(super) fn total<T: Dimension>(&self) -> Option<T> {
        self.total_with(load(T::part(&self.counted)))
    }

    /// The same, where `counted` is what was counted in this process.
    pub(super) fn total_with<T: Dimension>(&self, counted: T) -> Option<T> {
        // Acquire: whoever sees the flag sees what was counted before it was set.
        T::seen(self).load(Ordering::Acquire).then(|| {
            let mut total = counted;
            total.add(load(T::part(&self.restored)));
            total
        })
    }

    /// What was counted in this process, whatever was restored.
    pub(super) fn counted<T: Dimension>(&self) -> Counted<T> {
        // Before the counters: one that is cleared in between counts as cleared now or the next time.
        let clears = T::cleared(self).load(Ordering::Acquire);
        Counted {
            clears,
            counts: load(T::part(&self.counted)),
        }
    }

    /// Takes away what `flushed` had counted and what was restored, and returns what is left: what was
    /// counted since.
    pub(super) fn forget<T: Dimension>(&self, flushed: Counted<T>) -> T {
        let (gained, is_cleared) = self.counted().since(flushed);
        T::cleared(self).fetch_add(1, Ordering::AcqRel);
        set(T::part(&self.restored), T::default());
        if !is_cleared {
            let flushed = flushed.counts.ints();
            for (counter, count) in T::part(&self.counted).iter().zip(flushed.as_ref()) {
                // What is recorded at this moment stays.
                counter.fetch_sub(*count, Ordering::Relaxed);
            }
        }
        gained
    }

    pub(super) fn clear<T: Dimension>(&self) {
        T::cleared(self).fetch_add(1, Ordering::AcqRel);
        set(T::part(&self.counted), T::default());
        set(T::part(&self.restored), T::default());
    }
}

/// Adds `counts`, none of them negative, up to the largest integer: a counter that wrapped would be
/// one that went down, which every reader takes for a reset.
pub(super) fn add<T: Dimension>(counters: &[AtomicI64], counts: T) {
    for (counter, count) in counters.iter().zip(counts.ints().as_ref()) {
        if *count != 0 {
            let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |before| {
                Some(before.saturating_add(*count))
            });
        }
    }
}

/// Sets the counters to `counts`, and to zero what is negative.
pub(super) fn set<T: Dimension>(counters: &[AtomicI64], counts: T) {
    for (counter, count) in counters.iter().zip(counts.ints().as_ref()) {
        counter.store((*count).max(0), Ordering::Relaxed);
    }
}

pub(super) fn load<T: Dimension>(counters: &[AtomicI64]) -> T {
    T::from_ints(
        counters
            .iter()
            .map(|counter| counter.load(Ordering::Relaxed)),
    )
}

fn see(seen: &AtomicBool) {
    // Most often it is set, and a read leaves the cache line with everybody who counts.
    if !seen.load(Ordering::Relaxed) {
        seen.store(true, Ordering::Release);
    }
}

fn collect<const N: usize>(ints: impl Iterator<Item = i64>) -> [i64; N] {
    let mut collected = [0; N];
    for (slot, int) in collected.iter_mut().zip(ints) {
        *slot = int;
    }
    collected
}
