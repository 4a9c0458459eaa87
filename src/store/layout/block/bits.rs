//! A set of small numbers.

use std::ops::Range;

/// A set of numbers below a bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bits {
    words: Vec<u64>,
}

impl Bits {
    /// An empty set of numbers below `bound`.
    pub(super) fn new(bound: usize) -> Bits {
        Bits {
            words: vec![0; bound.div_ceil(64)],
        }
    }

    #[inline]
    pub(super) fn insert(&mut self, number: usize) {
        if let Some(word) = self.words.get_mut(number / 64) {
            *word |= 1 << (number % 64);
        }
    }

    #[inline]
    pub(super) fn contains(&self, number: usize) -> bool {
        self.words
            .get(number / 64)
            .is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// The numbers from the lowest to the highest.
    pub(super) fn range(&self) -> Range<usize> {
        let first = self.words.iter().position(|word| *word != 0);
        let last = self.words.iter().rposition(|word| *word != 0);
        let (Some(first), Some(last)) = (first, last) else {
            return 0..0;
        };
        let word = |index: usize| self.words.get(index).copied().unwrap_or_default();
        let start = first * 64 + word(first).trailing_zeros() as usize;
        start..last * 64 + 64 - word(last).leading_zeros() as usize
    }

    /// Adds the numbers of `other`.
    pub(super) fn unite(&mut self, other: &Bits) {
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word |= other;
        }
    }

    /// Removes the numbers that `other` does not have.
    pub(super) fn intersect(&mut self, other: &Bits) {
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word &= other;
        }
    }
}
