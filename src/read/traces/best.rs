//! The best of many items, in bounded memory.

use std::collections::BTreeMap;

/// The items of the highest ranks, at most a number of them. Items of equal rank stay in the order in
/// which they came.
#[derive(Debug)]
pub(super) struct Best<R, T> {
    /// One more than is wanted, to know whether there are more.
    kept: BTreeMap<(R, u64), T>,
    wanted: usize,
    offered: u64,
}

impl<R: Ord, T> Best<R, T> {
    pub(super) fn new(wanted: usize) -> Best<R, T> {
        Best {
            kept: BTreeMap::new(),
            wanted,
            offered: 0,
        }
    }

    pub(super) fn offer(&mut self, rank: R, item: T) {
        self.offered += 1;
        self.kept.insert((rank, u64::MAX - self.offered), item);
        if self.kept.len() > self.wanted.saturating_add(1) {
            self.kept.pop_first();
        }
    }

    /// The rank that an item must exceed to be kept; `None` while every item is.
    pub(super) fn threshold(&self) -> Option<&R> {
        let ((rank, _), _) = self.kept.first_key_value()?;
        (self.kept.len() > self.wanted).then_some(rank)
    }

    /// The items from the highest rank to the lowest, and whether there were more.
    pub(super) fn finish(self) -> (Vec<T>, bool) {
        let has_more = self.kept.len() > self.wanted;
        let items = self.kept.into_values().rev().take(self.wanted);
        (items.collect(), has_more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_ranks_stay() {
        let best = |wanted| {
            let mut best = Best::new(wanted);
            for (rank, item) in [(3, 'a'), (9, 'b'), (3, 'c'), (1, 'd'), (9, 'e')] {
                best.offer(rank, item);
            }
            (best.threshold().copied(), best.finish())
        };
        assert_eq!(best(2), (Some(3), (vec!['b', 'e'], true)));
        assert_eq!(best(4), (Some(1), (vec!['b', 'e', 'a', 'c'], true)));
        assert_eq!(best(5), (None, (vec!['b', 'e', 'a', 'c', 'd'], false)));
        assert_eq!(best(0), (Some(9), (vec![], true)));
        assert_eq!(best(usize::MAX).1.0.len(), 5);
    }
}
