//! Which snapshot of a server's counters a flush writes, if any.
//!
//! Tokens and cost are two dimensions. The token dimension begins anew (`reset`) on a server's
//! first flush, or when a token counter went down. The cost dimension begins anew on its own
//! (`cost_reset`), only when there was a cost before and a component of it went down. Where a
//! dimension begins anew its diff is everything it holds; a token reset makes the cost's diff
//! everything as well, because a reader leaves out both diffs of such a line. A snapshot whose every
//! diff is zero and that resets nothing is not written.
//!
//! The calls of tools are part of the token dimension, and are on every line of a server that has
//! tools. A line is also written when only they moved.
//!
//! Cost is absent from a snapshot in which it does not move, so that a minute without cost leaves
//! the same line as before cost existed.

use crate::{
    record::{
        CostCounts, MetricsSnapshot, TokenCounts,
        calls::{Calls, TOOL_USAGE, calls_to_value, have_fallen},
    },
    time::Timestamp,
};

/// The cumulative counters of a server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ServerCounts {
    pub(crate) tokens: TokenCounts,
    /// Absent until the server has had a cost.
    pub(crate) cost: Option<CostCounts>,
    /// Those of its tools that were called.
    pub(crate) tools: Calls,
}

impl ServerCounts {
    /// Whether nothing is counted.
    pub(crate) fn is_zero(&self) -> bool {
        self.tokens == TokenCounts::default()
            && self.tools.is_empty()
            && self.cost.unwrap_or_default() == CostCounts::default()
    }

    /// The snapshot that a flush at `timestamp` writes, when the flush before it found `previous`,
    /// or there was none before it.
    pub(crate) fn flush(
        &self,
        previous: Option<&ServerCounts>,
        timestamp: Timestamp,
    ) -> Option<MetricsSnapshot> {
        let tokens_before = previous.map(|previous| previous.tokens.to_array());
        let tools_fell = previous.is_some_and(|previous| have_fallen(&previous.tools, &self.tools));
        let (reset, diff) = advance(tokens_before, self.tokens.to_array(), !tools_fell);
        let reset = reset || tools_fell || previous.is_none();
        let tools_moved = previous.is_some_and(|previous| previous.tools != self.tools);

        let cost_before = previous.and_then(|previous| previous.cost);
        let (cost_reset, cost_diff) = match self.cost {
            Some(cost) => advance(
                cost_before.map(CostCounts::to_array),
                cost.to_array(),
                !reset,
            ),
            None => (false, [0; 4]),
        };
        let has_cost = cost_reset || cost_diff != [0; 4];
        if !reset && diff == [0; 3] && !has_cost && !tools_moved {
            return None;
        }
        let mut extra = Vec::new();
        if !self.tools.is_empty() {
            extra.push((TOOL_USAGE.to_owned(), calls_to_value(&self.tools)));
        }
        Some(MetricsSnapshot {
            extra,
            reset,
            cost_reset,
            diff: TokenCounts::from_array(diff),
            total: self.tokens,
            cost_diff: has_cost.then(|| CostCounts::from_array(cost_diff)),
            cost_total: self.cost.filter(|_| has_cost),
            ..MetricsSnapshot::new(timestamp)
        })
    }
}

/// Whether one of `after` is below the same of `before`, and the diff: what they gained, or all of
/// it when there was nothing before, one went down, or the whole is asked for.
fn advance<const N: usize>(
    before: Option<[i64; N]>,
    after: [i64; N],
    gained: bool,
) -> (bool, [i64; N]) {
    let Some(before) = before else {
        return (false, after);
    };
    let pairs = || before.iter().zip(after);
    let went_down = pairs().any(|(before, after)| after < *before);
    if went_down || !gained {
        return (went_down, after);
    }
    let mut diff = after;
    for (diff, (before, after)) in diff.iter_mut().zip(pairs()) {
        // An imported total may be negative, and a wrapped diff would be an enormous one.
        *diff = after.saturating_sub(*before);
    }
    (false, diff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Totals;
    use proptest::prelude::*;

    const AT: Timestamp = Timestamp::from_unix_nanos(1_778_283_600_000_000_000);

    fn counts(tokens: [i64; 3], cost: Option<[i64; 4]>) -> ServerCounts {
        ServerCounts {
            tokens: TokenCounts::from_array(tokens),
            cost: cost.map(CostCounts::from_array),
            tools: Calls::new(),
        }
    }

    /// The flags, the diffs and whether there is a cost of what is written.
    type Written = (bool, bool, [i64; 3], Option<[i64; 4]>);

    #[expect(
        clippy::needless_pass_by_value,
        reason = "the cases are written out in the calls"
    )]
    fn flush(previous: Option<ServerCounts>, current: ServerCounts) -> Option<Written> {
        current.flush(previous.as_ref(), AT).map(|snapshot| {
            assert_eq!(snapshot.timestamp, AT);
            assert_eq!(snapshot.total, current.tokens);
            assert_eq!(snapshot.cost_diff.is_some(), snapshot.cost_total.is_some());
            assert!(snapshot.cost_total.is_none() || snapshot.cost_total == current.cost);
            (
                snapshot.reset,
                snapshot.cost_reset,
                snapshot.diff.to_array(),
                snapshot.cost_diff.map(CostCounts::to_array),
            )
        })
    }

    #[test]
    fn tokens_reset_on_the_first_flush_of_a_server() {
        assert_eq!(
            flush(None, counts([100, 50, 150], None)),
            Some((true, false, [100, 50, 150], None))
        );
        assert_eq!(
            flush(None, counts([0, 0, 0], None)),
            Some((true, false, [0, 0, 0], None))
        );
    }

    #[test]
    fn tokens_reset_when_any_counter_went_down() {
        let previous = Some(counts([100, 50, 150], None));
        for current in [[99, 60, 159], [200, 49, 249], [100, 50, 149], [0, 0, 0]] {
            assert_eq!(
                flush(previous.clone(), counts(current, None)),
                Some((true, false, current, None))
            );
        }
    }

    #[test]
    fn otherwise_the_diff_is_what_was_gained() {
        assert_eq!(
            flush(
                Some(counts([100, 50, 150], None)),
                counts([110, 50, 160], None)
            ),
            Some((false, false, [10, 0, 10], None))
        );
    }

    #[test]
    fn a_line_that_says_nothing_is_not_written() {
        let same = counts([100, 50, 150], Some([1, 2, 3, 4]));
        assert_eq!(flush(Some(same.clone()), same), None);
        let without_cost = counts([100, 50, 150], None);
        assert_eq!(flush(Some(without_cost.clone()), without_cost), None);
    }

    #[test]
    fn cost_that_does_not_move_is_absent() {
        let previous = Some(counts([1, 1, 2], Some([5, 0, 0, 0])));
        assert_eq!(
            flush(previous.clone(), counts([2, 1, 3], Some([5, 0, 0, 0]))),
            Some((false, false, [1, 0, 1], None))
        );
        assert_eq!(
            flush(None, counts([1, 1, 2], Some([0; 4]))),
            Some((true, false, [1, 1, 2], None))
        );
    }

    #[test]
    fn cost_moves_without_tokens() {
        assert_eq!(
            flush(
                Some(counts([1, 1, 2], Some([5, 1, 0, 0]))),
                counts([1, 1, 2], Some([5, 3, 0, 1]))
            ),
            Some((false, false, [0; 3], Some([0, 2, 0, 1])))
        );
        // The first cost of a server is no reset: there was none before it.
        assert_eq!(
            flush(
                Some(counts([1, 1, 2], None)),
                counts([1, 1, 2], Some([5, 0, 0, 0]))
            ),
            Some((false, false, [0; 3], Some([5, 0, 0, 0])))
        );
    }

    #[test]
    fn cost_resets_on_its_own_when_a_component_went_down() {
        let previous = Some(counts([10, 0, 10], Some([5, 5, 5, 5])));
        for cost in [[4, 9, 9, 9], [9, 9, 9, 4], [0; 4]] {
            assert_eq!(
                flush(previous.clone(), counts([11, 0, 11], Some(cost))),
                Some((false, true, [1, 0, 1], Some(cost)))
            );
        }
    }

    #[test]
    fn a_token_reset_carries_the_full_cost() {
        let previous = Some(counts([10, 0, 10], Some([5, 5, 5, 5])));
        assert_eq!(
            flush(previous.clone(), counts([0, 0, 0], Some([5, 5, 6, 5]))),
            Some((true, false, [0, 0, 0], Some([5, 5, 6, 5])))
        );
        // Also when it did not move: the diff of such a line is everything.
        assert_eq!(
            flush(previous.clone(), counts([0, 0, 0], Some([5, 5, 5, 5]))),
            Some((true, false, [0, 0, 0], Some([5, 5, 5, 5])))
        );
        assert_eq!(
            flush(None, counts([0, 0, 0], Some([5, 5, 5, 5]))),
            Some((true, false, [0, 0, 0], Some([5, 5, 5, 5])))
        );
        assert_eq!(
            flush(previous.clone(), counts([0, 0, 0], Some([1, 0, 0, 0]))),
            Some((true, true, [0, 0, 0], Some([1, 0, 0, 0])))
        );
    }

    #[test]
    fn diffs_do_not_wrap() {
        let lowest = Some(counts([i64::MIN; 3], Some([i64::MIN; 4])));
        assert_eq!(
            flush(lowest, counts([i64::MAX; 3], Some([i64::MAX; 4]))),
            Some((false, false, [i64::MAX; 3], Some([i64::MAX; 4])))
        );
    }

    proptest! {
        #[test]
        fn after_a_seed_the_next_flush_is_a_diff(
            gains in proptest::collection::vec((any::<[u16; 3]>(), any::<Option<[u8; 4]>>()), 1..20),
        ) {
            let mut current = ServerCounts::default();
            let mut previous = None;
            let mut stored = None;
            for (tokens, cost) in gains {
                let gain = |total: i64, gained: i64| total + gained;
                let mut totals = current.tokens.to_array();
                for (total, gained) in totals.iter_mut().zip(tokens) {
                    *total = gain(*total, gained.into());
                }
                current.tokens = TokenCounts::from_array(totals);
                if let Some(cost) = cost {
                    let mut totals = current.cost.unwrap_or_default().to_array();
                    for (total, gained) in totals.iter_mut().zip(cost) {
                        *total = gain(*total, gained.into());
                    }
                    current.cost = Some(CostCounts::from_array(totals));
                }
                if let Some(snapshot) = current.flush(previous.as_ref(), AT) {
                    prop_assert_eq!(snapshot.reset, previous.is_none());
                    prop_assert!(!snapshot.cost_reset);
                    Totals::advance(&mut stored, &snapshot);
                }
                let found: Totals = stored.clone().unwrap_or_default();
                let seeded = ServerCounts {
                    tokens: found.tokens,
                    cost: found.cost,
                    tools: found.tools,
                };
                // What was stored is all that the next process knows, and it is enough.
                prop_assert_eq!(seeded.tokens, current.tokens);
                prop_assert_eq!(seeded.cost.unwrap_or_default(), current.cost.unwrap_or_default());
                prop_assert_eq!(current.flush(Some(&seeded), AT), None);
                previous = Some(current.clone());
            }
        }
    }
}
