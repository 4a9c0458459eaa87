//! The records in the rows of one series, in time order.
//!
//! Rows are ordered by their last records, and can overlap in time. A row is read when no row before it has an earlier
//! record: forward, that is known only of the rows that end a span later (see [`row`]); backward, of the
//! next row.

use crate::store::{
    engine::fault::Fault,
    layout::{
        keys::{self, Position},
        row::{self, RowExtent},
        series::SeriesId,
        tables::RowKey,
    },
    scan::{
        order::{Direction, Order},
        series_scan::{DamagedPart, SeriesQuery, next_of},
    },
    tiers::rows::{self, DamagedRow},
};
use redb::{AccessGuard, Range, ReadOnlyTable};
use std::{
    collections::{BinaryHeap, binary_heap::PeekMut},
    ops,
};

/// The number of rows that are read from one look whether reading was cancelled to the next.
pub(crate) const ROWS_UNCHECKED: usize = 256;

type Rows = ReadOnlyTable<&'static RowKey, &'static [u8]>;
type Value = AccessGuard<'static, &'static [u8]>;

/// A cursor over the wanted records in the rows of a series.
pub(super) struct RowCursor {
    table: Rows,
    /// The rows that were not looked at.
    keys: Option<Range<'static, &'static RowKey, &'static [u8]>>,
    /// The first of these.
    next: Option<(RowKey, Value)>,
    /// The rows with records that are due, or soon will be.
    open: BinaryHeap<OpenRow>,
    /// The memory of a row that is used up.
    spare: Option<OpenRow>,
    /// The number of rows that were looked at.
    passed: usize,
}

/// A row with wanted records.
struct OpenRow {
    key: RowKey,
    /// Where the next record is in the order of the scan.
    rank: Order,
    /// `None` until the row is due, if it holds a long record or cannot be read.
    value: Option<Vec<u8>>,
    /// The wanted records that are left, the next one last.
    records: Vec<(Position, ops::Range<usize>)>,
}

// The greatest of a heap is the row whose next record comes first.
impl Ord for OpenRow {
    fn cmp(&self, other: &OpenRow) -> std::cmp::Ordering {
        other.rank.cmp(&self.rank)
    }
}

impl PartialOrd for OpenRow {
    fn partial_cmp(&self, other: &OpenRow) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for OpenRow {
    fn eq(&self, other: &OpenRow) -> bool {
        self.rank == other.rank
    }
}

impl Eq for OpenRow {}

impl OpenRow {
    fn new(key: RowKey) -> OpenRow {
        OpenRow {
            key,
            rank: Order::MAX,
            value: None,
            records: Vec::new(),
        }
    }

    /// Moves on to the wanted records of `value`, which are left out if there are none.
    fn fill(&mut self, value: &[u8], query: &SeriesQuery) -> Result<(), Fault> {
        let mut row = rows::records(&self.key, value)?;
        let kept = self.value.get_or_insert_default();
        kept.clear();
        self.records.clear();
        let bytes = row.value();
        while let Some((position, payload)) = row.next_range() {
            let is_wanted = (query.range.first..=query.range.last).contains(&position)
                && position.1 >= query.since_sequence
                && query.filter.as_ref().is_none_or(|filter| {
                    let payload = bytes.get(payload.clone()).unwrap_or_default();
                    filter.matches(query.signal, payload)
                });
            if is_wanted {
                self.records.push((position, payload));
            }
        }
        if !self.records.is_empty() {
            kept.extend_from_slice(bytes);
        }
        if query.direction == Direction::Forward {
            self.records.reverse();
        }
        self.settle(query.direction);
        Ok(())
    }

    /// Leaves the row unread until it is due.
    fn postpone(&mut self, extent: RowExtent, query: &SeriesQuery) {
        let (last, sequence) = keys::row_position(&self.key);
        let due = match query.direction {
            Direction::Forward => (extent.first, 0),
            Direction::Backward => (last, sequence),
        };
        self.value = None;
        self.records.clear();
        self.records.push((due, 0..0));
        self.settle(query.direction);
    }

    /// Notes where the next record is.
    fn settle(&mut self, direction: Direction) {
        let next = self.records.last();
        self.rank = next.map_or(Order::MAX, |(position, _)| Order::new(direction, *position));
    }
}

/// Whether a row was read. Notes one that was left out because it is damaged.
fn was_read(
    read: Result<(), Fault>,
    key: &RowKey,
    value: &[u8],
    query: &SeriesQuery,
    damaged: &mut Vec<DamagedPart>,
) -> Result<bool, Fault> {
    match read {
        Ok(()) => Ok(true),
        Err(fault) if query.skips_damaged && fault.is_damage() => {
            damaged.push(DamagedRow::new(key, value, fault).into());
            Ok(false)
        }
        Err(fault) => Err(fault),
    }
}

impl RowCursor {
    /// A cursor before the first record that `query` wants.
    pub(super) fn new(
        table: Rows,
        series: SeriesId,
        query: &SeriesQuery,
    ) -> Result<RowCursor, Fault> {
        let (from, to) = rows::keys_between(series, query.range.first.0, query.range.last.0);
        let is_empty = query.range.first > query.range.last;
        let keys = if is_empty {
            None
        } else {
            Some(table.range::<&RowKey>(&from..=&to)?)
        };
        Ok(RowCursor {
            table,
            keys,
            next: None,
            open: BinaryHeap::new(),
            spare: None,
            passed: 0,
        })
    }

    /// The current record.
    pub(super) fn current(&self) -> Option<(Position, &[u8])> {
        let row = self.open.peek()?;
        let (position, payload) = row.records.last()?;
        let value = row.value.as_ref()?;
        Some((*position, value.get(payload.clone())?))
    }

    /// Where the current record is in the order of the scan; `None` after the last.
    pub(super) fn rank(&self) -> Option<Order> {
        self.open.peek().map(|row| row.rank)
    }

    /// Moves to the next record.
    pub(super) fn advance(
        &mut self,
        query: &SeriesQuery,
        damaged: &mut Vec<DamagedPart>,
        check: &dyn Fn() -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        if let Some(mut row) = self.open.peek_mut() {
            row.records.pop();
            row.settle(query.direction);
            if row.records.is_empty() {
                self.spare = Some(PeekMut::pop(row));
            }
        }
        loop {
            self.open_rows(query, damaged, check)?;
            let Some(mut row) = self.open.peek_mut() else {
                return Ok(());
            };
            if row.value.is_some() {
                return Ok(());
            }
            let key = row.key;
            let read = match self.table.get(&key)? {
                Some(value) => {
                    let read = row.fill(value.value(), query);
                    was_read(read, &key, value.value(), query, damaged)?
                }
                None => false,
            };
            if !read || row.records.is_empty() {
                PeekMut::pop(row);
            }
        }
    }

    /// Looks at every row that can have a record before the first one that is known.
    fn open_rows(
        &mut self,
        query: &SeriesQuery,
        damaged: &mut Vec<DamagedPart>,
        check: &dyn Fn() -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        loop {
            if self.next.is_none()
                && let Some(keys) = &mut self.keys
            {
                if self.passed.is_multiple_of(ROWS_UNCHECKED) {
                    check()?;
                }
                self.passed += 1;
                self.next =
                    next_of(keys, query, damaged)?.map(|(key, value)| (*key.value(), value));
            }
            let Some((key, value)) = self.next.take() else {
                self.keys = None;
                return Ok(());
            };
            let (last, sequence) = keys::row_position(&key);
            let bound = match query.direction {
                Direction::Forward => (last.saturating_sub_unsigned(row::SPAN_MAX), 0),
                Direction::Backward => (last, sequence),
            };
            let bound = Order::new(query.direction, bound);
            if self.rank().is_some_and(|first| first < bound) {
                self.next = Some((key, value));
                return Ok(());
            }
            let extent = row::extent(&key, value.value());
            let (first, end) = (query.range.first.0, query.range.last.0);
            let is_outside = extent.count.is_some() && extent.first > end || last < first;
            // Or it has only records that the reader knows.
            if is_outside || sequence < query.since_sequence {
                continue;
            }
            let mut row = self.spare.take().unwrap_or_else(|| OpenRow::new(key));
            row.key = key;
            let read = if row::is_long(value.value()) {
                row.postpone(extent, query);
                true
            } else {
                match row.fill(value.value(), query) {
                    // What comes before it can be read.
                    Err(fault) if fault.is_damage() && !query.skips_damaged => {
                        row.postpone(extent, query);
                        true
                    }
                    read => was_read(read, &key, value.value(), query, damaged)?,
                }
            };
            if read && !row.records.is_empty() {
                self.open.push(row);
            } else {
                self.spare = Some(row);
            }
        }
    }
}
