//! What was counted minute by minute: a ring of buckets.

use super::{
    SERIES_MINUTES,
    counters::{Dimension, Pair, add, load, set},
};
use crate::{
    record::{CostCounts, TokenCounts},
    time::Timestamp,
};
use std::sync::{
    Mutex, OnceLock, PoisonError,
    atomic::{AtomicI64, Ordering, fence},
};

/// Buckets are allocated so many at a time, when the first of them is used: an hour or two.
const CHUNK_BUCKETS: usize = 100;
const CHUNKS: usize = 100;
const _: () = assert!(SERIES_MINUTES == 10_000 && CHUNKS * CHUNK_BUCKETS == 10_000);

/// No minute: the earliest timestamp lies in a later one.
const EMPTY: i64 = i64::MIN;

const MINUTE_NANOS: i64 = 60_000_000_000;

/// The minute that `at` lies in, counted from the Unix epoch.
pub(super) fn minute(at: Timestamp) -> i64 {
    at.unix_nanos().div_euclid(MINUTE_NANOS)
}

/// When `minute` begins.
pub(super) fn minute_start(minute: i64) -> Timestamp {
    // The first minute of all begins before the first timestamp.
    Timestamp::from_unix_nanos(minute.saturating_mul(MINUTE_NANOS))
}

/// The buckets of the last [`SERIES_MINUTES`] minutes of one server. A minute's place in the ring is
/// its remainder, and the bucket there says which minute it holds.
///
/// A bucket takes 64 bytes, so a server that is busy every minute takes 640 KB after a week.
pub(super) struct Series {
    chunks: Box<[OnceLock<Box<[Bucket]>>]>,
    /// Held while a bucket passes from one minute to another.
    turnover: Mutex<()>,
}

struct Bucket {
    minute: AtomicI64,
    counts: Pair<AtomicI64>,
}

impl Default for Series {
    fn default() -> Series {
        Series {
            chunks: (0..CHUNKS).map(|_| OnceLock::new()).collect(),
            turnover: Mutex::default(),
        }
    }
}

impl Series {
    /// Counts what happens now. `at` is the clock's time, and the clock is right: a bucket that
    /// holds another minute holds one long gone, or one to which the clock once jumped ahead.
    pub(super) fn add<T: Dimension>(&self, at: Timestamp, counts: T) {
        if let Some(bucket) = self.bucket(minute(at), |_| true) {
            add(T::part(&bucket.counts), counts);
        }
    }

    /// Counts what happened then. It never displaces what happened later.
    pub(super) fn replay<T: Dimension>(&self, at: Timestamp, counts: T) {
        let then = minute(at);
        if counts.is_zero() {
            return;
        }
        if let Some(bucket) = self.bucket(then, |held| held < then) {
            let counts = counts.ints();
            let counts = counts.as_ref().iter().map(|count| (*count).max(0));
            add(T::part(&bucket.counts), T::from_ints(counts));
        }
    }

    /// The minutes from `first` to `last` in which something was counted, in order.
    pub(super) fn minutes<T: Dimension>(
        &self,
        first: i64,
        last: i64,
    ) -> impl Iterator<Item = (i64, T)> {
        (first..=last).filter_map(|minute| {
            let (chunk, index) = self.place(minute)?;
            let bucket = chunk.get()?.get(index)?;
            let counts: T = bucket.read(minute)?;
            (!counts.is_zero()).then_some((minute, counts))
        })
    }

    pub(super) fn clear<T: Dimension>(&self) {
        for bucket in self.chunks.iter().filter_map(OnceLock::get).flatten() {
            set(T::part(&bucket.counts), T::default());
        }
    }

    /// The bucket of `minute`, unless it holds another minute that it must not `give_up`.
    fn bucket(&self, minute: i64, give_up: impl Fn(i64) -> bool) -> Option<&Bucket> {
        let (chunk, index) = self.place(minute)?;
        let bucket = chunk
            .get_or_init(|| (0..CHUNK_BUCKETS).map(|_| Bucket::new()).collect())
            .get(index)?;
        if bucket.minute.load(Ordering::Acquire) == minute {
            return Some(bucket);
        }
        let _turnover = self.turnover.lock().unwrap_or_else(PoisonError::into_inner);
        let held = bucket.minute.load(Ordering::Acquire);
        if held != minute {
            if !give_up(held) {
                return None;
            }
            bucket.minute.store(EMPTY, Ordering::Relaxed);
            // A reader that sees a count of the next minute sees that this one is gone.
            fence(Ordering::Release);
            set(TokenCounts::part(&bucket.counts), TokenCounts::default());
            set(CostCounts::part(&bucket.counts), CostCounts::default());
            bucket.minute.store(minute, Ordering::Release);
        }
        Some(bucket)
    }

    fn place(&self, minute: i64) -> Option<(&OnceLock<Box<[Bucket]>>, usize)> {
        let place = usize::try_from(minute.rem_euclid(SERIES_MINUTES)).ok()?;
        let chunk = self.chunks.get(place / CHUNK_BUCKETS)?;
        Some((chunk, place % CHUNK_BUCKETS))
    }
}

impl Bucket {
    fn new() -> Bucket {
        Bucket {
            minute: AtomicI64::new(EMPTY),
            counts: Pair::default(),
        }
    }

    /// What was counted in `minute`, if this bucket holds it from before the reading to after it.
    fn read<T: Dimension>(&self, minute: i64) -> Option<T> {
        if self.minute.load(Ordering::Acquire) != minute {
            return None;
        }
        let counts = load(T::part(&self.counts));
        fence(Ordering::Acquire);
        (self.minute.load(Ordering::Relaxed) == minute).then_some(counts)
    }
}
