//! Random choices, and the information in them.

use crate::measure::ratio;
use fastrand::Rng;

/// Makes choices whose results can be read from the record, and counts their information.
#[derive(Debug, Clone)]
pub(super) struct Choices {
    random: Rng,
    bits: f64,
}

impl Choices {
    pub(super) fn new(seed: u64) -> Choices {
        Choices {
            random: Rng::with_seed(seed),
            bits: 0.0,
        }
    }

    /// The source of choices that cannot be read from the record one by one. Their information is [counted](Choices::count)
    /// apart.
    pub(super) fn random(&mut self) -> &mut Rng {
        &mut self.random
    }

    pub(super) fn count(&mut self, bits: f64) {
        self.bits += bits;
    }

    /// The information so far, in bits.
    pub(super) fn bits(&self) -> f64 {
        self.bits
    }

    /// A number below `count`.
    pub(super) fn below(&mut self, count: u64) -> u64 {
        self.bits += bits_of_one_in(count);
        self.random.u64(0..count)
    }

    pub(super) fn pick<T: Copy + Default>(&mut self, choices: &[T]) -> T {
        self.bits += bits_of_one_in(choices.len() as u64);
        let at = self.random.usize(0..choices.len());
        choices.get(at).copied().unwrap_or_default()
    }

    /// Whether something happens that does so `share` times in `of`.
    pub(super) fn happens(&mut self, share: u64, of: u64) -> bool {
        let does = self.random.u64(0..of) < share;
        self.bits += bits_of(if does { share } else { of - share }, of);
        does
    }

    /// A number of which every magnitude is equally likely: at least `1 << least`, and less than `1 << most`.
    pub(super) fn magnitude(&mut self, least: u64, most: u64) -> u64 {
        let power = 1 << (least + self.below(most - least));
        power + self.below(power)
    }

    /// Bytes of an id.
    pub(super) fn id<const BYTES: usize>(&mut self) -> [u8; BYTES] {
        let mut id = [0; BYTES];
        self.random.fill(&mut id);
        self.bits += ratio(BYTES as u64 * 8, 1);
        id
    }
}

/// The information of one of `count` equally likely results.
pub(super) fn bits_of_one_in(count: u64) -> f64 {
    ratio(count, 1).log2()
}

/// The information of a result that comes `share` times in `of`.
pub(super) fn bits_of(share: u64, of: u64) -> f64 {
    -ratio(share, of).log2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_information_of_a_choice_is_the_logarithm_of_its_probability() {
        let mut choices = Choices::new(1);
        let mut expected = 0.0;
        choices.below(8);
        expected += 3.0;
        choices.id::<16>();
        expected += 128.0;
        choices.magnitude(4, 4 + 16);
        assert!(choices.bits() >= expected + 4.0 + 4.0);
        let before = choices.bits();
        let happened = choices.happens(1, 4);
        let expected = if happened { 4.0f64 } else { 4.0 / 3.0 };
        let bits = choices.bits() - before;
        assert!((bits - expected.log2()).abs() < 1e-9, "{bits}");
    }
}
