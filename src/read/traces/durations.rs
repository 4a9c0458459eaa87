//! Percentiles of durations: exact of a few, and with a known error of many.

use sketches_ddsketch::{Config, DDSketch};
use std::time::Duration;

/// Maximum number of durations that are kept one by one.
const EXACT_MAX: usize = 512;
/// The relative error of a percentile of more durations.
const RELATIVE_ERROR: f64 = 0.01;
/// The bins of the sketch: enough for its error from a nanosecond to centuries.
const BINS_MAX: u32 = 2048;
/// The shortest duration that is not zero, in nanoseconds.
const NANOS_MIN: f64 = 1.0;

/// Durations of calls.
#[derive(Clone, Default)]
pub(super) struct Durations {
    /// All of them, until there is a sketch.
    exact: Vec<u64>,
    sketch: Option<Box<DDSketch>>,
    max: u64,
}

impl Durations {
    pub(super) fn add(&mut self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.max = self.max.max(nanos);
        if let Some(sketch) = &mut self.sketch {
            sketch.add(to_float(nanos));
            return;
        }
        self.exact.push(nanos);
        if self.exact.len() > EXACT_MAX {
            let mut sketch = DDSketch::new(Config::new(RELATIVE_ERROR, BINS_MAX, NANOS_MIN));
            for nanos in std::mem::take(&mut self.exact) {
                sketch.add(to_float(nanos));
            }
            self.sketch = Some(Box::new(sketch));
        }
    }

    /// The longest, exactly; `None` when there is none.
    pub(super) fn max(&self) -> Option<Duration> {
        let is_empty = self.exact.is_empty() && self.sketch.is_none();
        (!is_empty).then(|| Duration::from_nanos(self.max))
    }

    /// Whether percentiles are exact.
    pub(super) fn is_exact(&self) -> bool {
        self.sketch.is_none()
    }

    /// The shortest duration that `percent` of all durations do not exceed (nearest rank); `None` when there
    /// is none.
    pub(super) fn percentile(&self, percent: u8) -> Option<Duration> {
        let nanos = if let Some(sketch) = &self.sketch {
            let found = sketch.quantile(f64::from(percent) / 100.0).ok()??;
            to_nanos(found).min(self.max)
        } else {
            let mut sorted = self.exact.clone();
            sorted.sort_unstable();
            let rank = (sorted.len() * usize::from(percent)).div_ceil(100);
            *sorted.get(rank.saturating_sub(1))?
        };
        Some(Duration::from_nanos(nanos))
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "the error of the sketch is larger"
)]
fn to_float(nanos: u64) -> f64 {
    nanos as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast from a float saturates"
)]
fn to_nanos(nanos: f64) -> u64 {
    nanos.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn durations(nanos: impl IntoIterator<Item = u64>) -> Durations {
        let mut durations = Durations::default();
        for nanos in nanos {
            durations.add(Duration::from_nanos(nanos));
        }
        durations
    }

    #[test]
    fn percentiles_are_those_of_the_nearest_rank() {
        for (nanos, median, high) in [
            (1..=1, 1, 1),
            (1..=2, 1, 2),
            (1..=10, 5, 10),
            (1..=100, 50, 95),
            (1..=512, 256, 487),
        ] {
            let durations = durations(nanos.clone());
            let nanos = |percent| durations.percentile(percent).unwrap().as_nanos();
            assert_eq!((nanos(50), nanos(95)), (median, high));
            assert!(durations.is_exact());
        }
        let none = durations([]);
        assert_eq!((none.percentile(50), none.max()), (None, None));
    }

    proptest! {
        #[test]
        fn percentiles_of_many_are_within_one_percent(
            nanos in proptest::collection::vec(
                prop_oneof![0..10_u64, 1..u64::MAX, 1_000_000..90_000_000_u64],
                513..2000,
            )
        ) {
            let durations = durations(nanos.iter().copied());
            prop_assert!(!durations.is_exact());
            let mut sorted = nanos;
            sorted.sort_unstable();
            for percent in [50, 95, 100] {
                let found = durations.percentile(percent).unwrap().as_nanos();
                // The ranks of the sketch and of the definition differ by one at most.
                let rank = (sorted.len() * usize::from(percent)).div_ceil(100) - 1;
                let low = u128::from(sorted[rank.saturating_sub(1)]);
                let high = u128::from(sorted[(rank + 1).min(sorted.len() - 1)]);
                prop_assert!(found >= low - low / 90 && found <= high + high / 90 + 1,
                    "{} {} {} {}", percent, found, low, high);
            }
            prop_assert_eq!(durations.max().unwrap().as_nanos(), u128::from(sorted[sorted.len() - 1]));
        }
    }
}
