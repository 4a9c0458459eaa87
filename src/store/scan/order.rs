//! The order of records in a scan, in either direction.

use crate::store::layout::keys::Position;

/// The direction of a scan through time.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Oldest first.
    #[default]
    Forward,
    /// Newest first.
    Backward,
}

/// A position, mapped so that the records of a scan ascend in either direction. All merges of a
/// scan compare by it: of the sources within a series, and of several series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Order(u128);

impl Order {
    /// Before or at the first possible record.
    pub(crate) const MIN: Order = Order(0);
    /// After or at the last possible record.
    pub(crate) const MAX: Order = Order(u128::MAX);

    pub(crate) fn new(direction: Direction, (timestamp, sequence): Position) -> Order {
        // With the sign bit flipped, the bits sort like the timestamps.
        let time = timestamp.cast_unsigned() ^ (1 << 63);
        let forward = u128::from(time) << 64 | u128::from(sequence);
        Order(match direction {
            Direction::Forward => forward,
            Direction::Backward => !forward,
        })
    }
}

/// The next position; `None` after the last.
pub(crate) fn successor((timestamp, sequence): Position) -> Option<Position> {
    match sequence.checked_add(1) {
        Some(sequence) => Some((timestamp, sequence)),
        None => timestamp.checked_add(1).map(|timestamp| (timestamp, 0)),
    }
}

/// The previous position; `None` before the first.
pub(crate) fn predecessor((timestamp, sequence): Position) -> Option<Position> {
    match sequence.checked_sub(1) {
        Some(sequence) => Some((timestamp, sequence)),
        None => timestamp
            .checked_sub(1)
            .map(|timestamp| (timestamp, u64::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_ascend_in_either_direction(a: Position, b: Position) {
            let order = |direction| Order::new(direction, a).cmp(&Order::new(direction, b));
            prop_assert_eq!(order(Direction::Forward), a.cmp(&b));
            prop_assert_eq!(order(Direction::Backward), b.cmp(&a));
        }
    }
}
