//! The scan of one series: its records from rows and blocks, in time order.
//!
//! Rows are read in key order. Blocks overlap in time where records arrived late, so several blocks
//! can be open at once. A block is opened when the scan reaches its first record; the span class in
//! its key tells when no unread block can hold the next record (see
//! [`crate::store::layout::tables`]).

use crate::{
    error::Result,
    filter::Filter,
    signal::Signal,
    store::{
        engine::fault::{Fault, guarded},
        layout::{
            block::{BlockHeader, DecodedBlock, Decoding, LogParts, Summary, Wanted, span_max},
            keys::{self, Position},
            series::SeriesState,
            tables::{BLOCK_CHUNKS, BLOCKS, BlockKey, ChunkKey, ROWS, SUMMARIES, StoredHeader},
        },
        scan::{
            order::{Direction, Order, successor},
            row_cursor::RowCursor,
        },
        tiers::{
            blocks,
            rows::DamagedRow,
            view::{Cancel, View},
        },
    },
};
use redb::{AccessGuard, Range, ReadOnlyTable};
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// The range of positions that a scan covers, both ends included; empty when `first` is after
/// `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PositionRange {
    pub(crate) first: Position,
    pub(crate) last: Position,
}

/// Which records of a series a scan returns, and how.
#[derive(Debug, Clone)]
pub(crate) struct SeriesQuery {
    pub(crate) signal: Signal,
    pub(crate) range: PositionRange,
    pub(crate) direction: Direction,
    /// Only records with this sequence or a higher one.
    pub(crate) since_sequence: u64,
    /// Only records that this filter matches.
    pub(crate) filter: Option<Filter>,
    /// Whether a block or a row that cannot be read is left out, instead of ending the scan.
    pub(crate) skips_damaged: bool,
    /// The number of records that are probably read. A wrong one costs time and nothing else.
    pub(crate) records_expected: Option<usize>,
}

/// A record as it was read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ReadRecord<'a> {
    Payload(&'a [u8]),
    /// Of a block all of whose logs are simple.
    Log(LogParts<'a>),
}

/// A block or a row that a scan left out because it cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DamagedPart {
    /// The number of its records; `None` when its header is damaged.
    pub(crate) records: Option<u64>,
    pub(crate) what: String,
}

impl DamagedPart {
    pub(crate) fn new(records: Option<u64>, fault: Fault) -> DamagedPart {
        DamagedPart {
            records,
            what: fault.reason(),
        }
    }
}

impl From<DamagedRow> for DamagedPart {
    fn from(row: DamagedRow) -> DamagedPart {
        DamagedPart {
            records: row.records,
            what: row.what,
        }
    }
}

/// The memory for decoded blocks, shared by all scans of a query. A block that exceeds it is held a
/// few records at a time and decoded again for the next ones, which takes longer but bounds the
/// memory.
#[derive(Debug, Clone)]
pub(crate) struct MemoryBudget {
    free: Arc<AtomicUsize>,
}

impl MemoryBudget {
    pub(crate) fn new(bytes: usize) -> MemoryBudget {
        MemoryBudget {
            free: Arc::new(AtomicUsize::new(bytes)),
        }
    }

    fn take(&self, bytes: usize) -> bool {
        self.free
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| {
                free.checked_sub(bytes)
            })
            .is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.free.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// The number of records of a block that are held when the budget is used up, and that are decoded first if it is not
/// known how many are read.
const PART_RECORDS: usize = 64;
/// The number of records that are decoded next: a reader of a few records needs only a part of a block.
const NEXT_PART_RECORDS: usize = 1024;

/// A scan of one series. [`SeriesScan::advance`] moves to the next record.
pub(crate) struct SeriesScan {
    path: PathBuf,
    query: SeriesQuery,
    rows: RowCursor,
    chunks: ReadOnlyTable<&'static ChunkKey, &'static [u8]>,
    summaries: ReadOnlyTable<&'static BlockKey, &'static [u8]>,
    classes: Vec<ClassCursor>,
    /// Blocks whose header has been read and whose first record is not due yet.
    waiting: Vec<Waiting>,
    open: Vec<OpenBlock>,
    /// A block that is used up, whose memory the next one takes.
    spare: DecodedBlock,
    budget: MemoryBudget,
    current: Current,
    /// No other source has a record before this position in scan order.
    limit: Order,
    /// The number of records of the next block to decode; `usize::MAX` for all.
    part_records: usize,
    /// What was left out.
    damaged: Vec<DamagedPart>,
    cancel: Cancel,
}

/// The source of the current record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Current {
    /// Before the first record.
    Start,
    Row,
    /// The open block with this index.
    Block(usize),
    End,
}

struct Waiting {
    rank: Order,
    key: BlockKey,
    header: BlockHeader,
}

impl SeriesScan {
    /// A scan of the records that `query` describes.
    pub(crate) fn new(
        view: &View,
        state: &SeriesState,
        query: SeriesQuery,
        budget: MemoryBudget,
    ) -> Result<SeriesScan> {
        view.read(|| {
            let transaction = view.transaction();
            let SeriesQuery {
                range, direction, ..
            } = query;
            let empty = range.first > range.last;
            let blocks = transaction.open_table(BLOCKS)?;
            let classes = state
                .span_classes
                .iter()
                .filter(|_| !empty)
                .map(|(class, _)| {
                    // Every block that overlaps the range ends at most one span after it.
                    let end = range.last.0.saturating_add_unsigned(span_max(*class));
                    let first = keys::block_key(state.id, *class, (range.first.0, 0));
                    let last = keys::block_key(state.id, *class, (end, u64::MAX));
                    Ok(ClassCursor {
                        class: *class,
                        keys: blocks.range::<&BlockKey>(&first..=&last)?,
                        direction,
                        next: None,
                    })
                })
                .collect::<Result<Vec<ClassCursor>, Fault>>()?;
            let rows = transaction.open_table(ROWS)?;
            let mut scan = SeriesScan {
                path: view.path().clone(),
                rows: RowCursor::new(rows, state.id, &query)?,
                chunks: transaction.open_table(BLOCK_CHUNKS)?,
                summaries: transaction.open_table(SUMMARIES)?,
                classes,
                waiting: Vec::new(),
                open: Vec::new(),
                spare: DecodedBlock::default(),
                budget,
                current: Current::Start,
                limit: Order::MIN,
                part_records: query.records_expected.unwrap_or(PART_RECORDS).max(1),
                damaged: Vec::new(),
                cancel: view.cancel().clone(),
                query,
            };
            scan.advance_rows()?;
            for class in &mut scan.classes {
                class.advance(&scan.query, &mut scan.damaged)?;
            }
            Ok(scan)
        })
    }

    /// Moves to the next record. Returns `false` when there is none.
    pub(crate) fn advance(&mut self) -> Result<bool> {
        // The common case: another record of the same block, without catching panics.
        if let Current::Block(index) = self.current
            && let Some(block) = self.open.get_mut(index)
            && block.step(self.query.direction, self.query.since_sequence)
            && block
                .rank(self.query.direction)
                .is_some_and(|rank| rank < self.limit)
        {
            return Ok(true);
        }
        guarded(|| self.advance_slowly()).map_err(|fault| {
            self.current = Current::End;
            fault.at("read", &self.path)
        })
    }

    /// The current record of the scan.
    pub(crate) fn current(&self) -> Option<(Position, ReadRecord<'_>)> {
        match self.current {
            Current::Start | Current::End => None,
            Current::Row => {
                let (position, payload) = self.rows.current()?;
                Some((position, ReadRecord::Payload(payload)))
            }
            Current::Block(index) => self.open.get(index)?.current(),
        }
    }

    /// What was left out so far.
    pub(crate) fn damaged(&self) -> &[DamagedPart] {
        &self.damaged
    }

    fn advance_slowly(&mut self) -> Result<bool, Fault> {
        match self.current {
            Current::End => return Ok(false),
            Current::Row => self.advance_rows()?,
            // Open blocks have advanced already; a block at its end has been refilled or dropped.
            Current::Start | Current::Block(_) => {}
        }
        if let Current::Block(index) = self.current
            && self
                .open
                .get(index)
                .is_some_and(|block| block.current().is_none())
        {
            let mut block = self.open.swap_remove(index);
            block.release(&self.budget);
            let rest = block.rest();
            self.spare = block.decoded;
            if let Some(at) = rest {
                self.open_block(block.key, block.header, Some(at))?;
            }
        }
        let mut first = self.first_source();
        // Opening a block can reveal an earlier record only if the block begins before the first
        // known record, so this ends once no unopened block does.
        loop {
            let due = first.map_or(Order::MAX, |(rank, _)| rank);
            let unopened = self.unopened_rank(due)?;
            if unopened == Order::MAX || unopened > due {
                self.limit = self.limit_beside(first.map(|(_, source)| source), unopened);
                break;
            }
            self.open_due(unopened)?;
            first = self.first_source();
        }
        // Kept until later, it would not be in the budget.
        self.spare = DecodedBlock::default();
        self.current = first.map_or(Current::End, |(_, source)| source);
        Ok(self.current != Current::End)
    }

    fn advance_rows(&mut self) -> Result<(), Fault> {
        let check = || self.cancel.check(&self.path);
        self.rows.advance(&self.query, &mut self.damaged, &check)
    }

    /// The source whose next record comes first.
    fn first_source(&self) -> Option<(Order, Current)> {
        let rows = self.rows.rank().map(|rank| (rank, Current::Row));
        let blocks = self.open.iter().enumerate().filter_map(|(index, block)| {
            Some((block.rank(self.query.direction)?, Current::Block(index)))
        });
        blocks.chain(rows).min_by_key(|(rank, _)| *rank)
    }

    /// The position, in scan order, before which no source other than `source` has a record.
    fn limit_beside(&self, source: Option<Current>, unopened: Order) -> Order {
        let rows = self.rows.rank();
        let rows = rows.filter(|_| source != Some(Current::Row));
        let blocks = self
            .open
            .iter()
            .enumerate()
            .filter(|(index, _)| source != Some(Current::Block(*index)))
            .filter_map(|(_, block)| block.rank(self.query.direction));
        blocks.chain(rows).min().unwrap_or(Order::MAX).min(unopened)
    }

    /// Whether the summary of a block says that none of its records is wanted.
    fn is_excluded(
        summaries: &ReadOnlyTable<&'static BlockKey, &'static [u8]>,
        query: &SeriesQuery,
        key: &BlockKey,
        header: &BlockHeader,
    ) -> Result<bool, Fault> {
        let Some(filter) = &query.filter else {
            return Ok(false);
        };
        let bytes = summaries.get(key)?;
        let summary = bytes.as_ref();
        let summary = summary.and_then(|bytes| Summary::read(query.signal, header, bytes.value()));
        Ok(summary.is_some_and(|summary| !summary.may_match(filter)))
    }

    /// The position, in scan order, before which no unopened block has a record. It is exact up to
    /// `due`.
    fn unopened_rank(&mut self, due: Order) -> Result<Order, Fault> {
        let mut first = self
            .waiting
            .iter()
            .map(|block| block.rank)
            .min()
            .unwrap_or(Order::MAX);
        for class in &mut self.classes {
            while let Some((key, header)) = class.next {
                let bound = class.bound(&key);
                if bound > due.min(first) {
                    first = first.min(bound);
                    break;
                }
                self.cancel.check(&self.path)?;
                class.advance(&self.query, &mut self.damaged)?;
                let header = match blocks::read_header(&key, &header) {
                    Ok(header) => header,
                    Err(fault) if self.query.skips_damaged && fault.is_damage() => {
                        self.damaged.push(DamagedPart::new(None, fault));
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                let outside = header.first > self.query.range.last.0
                    || header.last < self.query.range.first.0
                    || header.sequence_max < self.query.since_sequence;
                if !outside && !Self::is_excluded(&self.summaries, &self.query, &key, &header)? {
                    let start = match self.query.direction {
                        // The position of the block's first record within its timestamp is not
                        // known.
                        Direction::Forward => (header.first.max(self.query.range.first.0), 0),
                        Direction::Backward => keys::block_position(&key),
                    };
                    let rank = Order::new(self.query.direction, start);
                    first = first.min(rank);
                    self.waiting.push(Waiting { rank, key, header });
                }
            }
        }
        Ok(first)
    }

    /// Opens every waiting block that begins at or before `due`.
    fn open_due(&mut self, due: Order) -> Result<(), Fault> {
        let mut index = 0;
        while let Some(block) = self.waiting.get(index) {
            if block.rank > due {
                index += 1;
                continue;
            }
            let block = self.waiting.swap_remove(index);
            self.open_block(block.key, block.header, None)?;
        }
        Ok(())
    }

    /// Opens a block at its first record in scan order, or at `start`.
    fn open_block(
        &mut self,
        key: BlockKey,
        header: BlockHeader,
        mut start: Option<usize>,
    ) -> Result<(), Fault> {
        loop {
            self.cancel.check(&self.path)?;
            let next = if self.part_records < NEXT_PART_RECORDS {
                NEXT_PART_RECORDS
            } else {
                usize::MAX
            };
            let part_records = std::mem::replace(&mut self.part_records, next);
            let mut block = match self.decode(key, header, start, part_records) {
                Ok(block) => block,
                Err(fault) if self.query.skips_damaged && fault.is_damage() => {
                    let records = Some(header.count.into());
                    self.damaged.push(DamagedPart::new(records, fault));
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            block.place(start, self.query.direction, self.query.since_sequence);
            if block.current().is_some() {
                self.open.push(block);
                return Ok(());
            }
            block.release(&self.budget);
            // A part whose records all have sequences that are too low tells nothing about the next
            // part.
            match block.rest() {
                Some(at) => start = Some(at),
                None => return Ok(()),
            }
        }
    }

    /// Decodes a block, or at least the next `part_records` records of it from `start`.
    fn decode(
        &mut self,
        key: BlockKey,
        header: BlockHeader,
        start: Option<usize>,
        part_records: usize,
    ) -> Result<OpenBlock, Fault> {
        let SeriesQuery {
            range: PositionRange { first, last },
            ..
        } = self.query;
        let bounds = |block: &DecodedBlock| {
            let end = successor(last).map(|position| block.lower_bound(position));
            let begin = block.lower_bound(first);
            (begin, end.unwrap_or(block.timestamps().len()))
        };
        let mut open = OpenBlock {
            key,
            header,
            begin: 0,
            end: 0,
            base: 0,
            at: None,
            taken: 0,
            decoded: DecodedBlock::default(),
        };
        let spare = std::mem::take(&mut self.spare);
        let is_whole = first <= (header.first, 0) && last >= (header.last, u64::MAX);
        // A damaged page can make redb panic, which must not end a scan that skips damage.
        open.decoded = guarded(|| match &self.query.filter {
            Some(filter) => {
                let wanted = Wanted {
                    signal: self.query.signal,
                    filter,
                    first,
                    last,
                    since_sequence: self.query.since_sequence,
                };
                blocks::load_matching(&self.chunks, &key, &header, &wanted)
            }
            // The keys of the other records are not needed.
            None if is_whole => {
                open.end = header.count as usize;
                let part = self.part(open.begin, open.end, start, part_records);
                open.base = part.start;
                let decoding = Decoding::of(self.query.signal);
                blocks::load_part(&self.chunks, &key, &header, part, decoding, spare)
            }
            None if part_records < usize::MAX => {
                blocks::load_window(&self.chunks, &key, &header, |keys| {
                    (open.begin, open.end) = bounds(keys);
                    let part = self.part(open.begin, open.end, start, part_records);
                    open.base = part.start;
                    part
                })
            }
            None => blocks::load(&self.chunks, &key, &header),
        })?;
        if self.query.filter.is_some() || (part_records == usize::MAX && !is_whole) {
            (open.begin, open.end) = bounds(&open.decoded);
        } else if part_records <= PART_RECORDS {
            return Ok(open);
        }
        let bytes = open.decoded.memory_bytes();
        if self.budget.take(bytes) {
            open.taken = bytes;
            return Ok(open);
        }
        let part = self.part(open.begin, open.end, start, PART_RECORDS);
        open.decoded = if open.decoded.has_logs() {
            let part = part.clone();
            let spare = DecodedBlock::default();
            blocks::load_part(&self.chunks, &key, &header, part, Decoding::Payloads, spare)?
        } else {
            let within = part.start - open.base..part.end - open.base;
            open.decoded.slice(within)
        };
        open.base = part.start;
        Ok(open)
    }
}

impl SeriesScan {
    /// The part of a block with up to `records` records from `start`, or from its first record in scan
    /// order, when the scan covers the records from `begin` to `end`.
    fn part(
        &self,
        begin: usize,
        end: usize,
        start: Option<usize>,
        records: usize,
    ) -> std::ops::Range<usize> {
        match self.query.direction {
            Direction::Forward => {
                let at = start.unwrap_or(begin);
                at..end.min(at.saturating_add(records))
            }
            Direction::Backward => {
                let after = start.map_or(end, |at| at + 1);
                after.saturating_sub(records).max(begin)..after
            }
        }
    }
}

impl Drop for SeriesScan {
    fn drop(&mut self) {
        for block in &mut self.open {
            block.release(&self.budget);
        }
    }
}

/// The next entry of a range in the direction of `query`. Damage to the pages of the table ends the range,
/// and is noted if the query skips damage.
pub(super) fn next_of<K: redb::Key + 'static, V: redb::Value + 'static>(
    range: &mut Range<'static, K, V>,
    query: &SeriesQuery,
    damaged: &mut Vec<DamagedPart>,
) -> Result<Option<Entry<K, V>>, Fault> {
    // A damaged page can make redb panic.
    let next = guarded(|| {
        let next = match query.direction {
            Direction::Forward => range.next(),
            Direction::Backward => range.next_back(),
        };
        Ok(next.transpose()?)
    });
    match next {
        Err(fault) if query.skips_damaged && fault.is_damage() => {
            damaged.push(DamagedPart::new(None, fault));
            Ok(None)
        }
        next => next,
    }
}

type Entry<K, V> = (AccessGuard<'static, K>, AccessGuard<'static, V>);

/// A cursor over the headers of the blocks of one span class, and its next header.
struct ClassCursor {
    class: u8,
    keys: Range<'static, &'static BlockKey, &'static StoredHeader>,
    direction: Direction,
    next: Option<(BlockKey, StoredHeader)>,
}

impl ClassCursor {
    fn advance(
        &mut self,
        query: &SeriesQuery,
        damaged: &mut Vec<DamagedPart>,
    ) -> Result<(), Fault> {
        let next = next_of(&mut self.keys, query, damaged)?;
        self.next = next.map(|(key, header)| (*key.value(), *header.value()));
        Ok(())
    }

    /// The position, in scan order, before which neither the block at `key` nor any later one has a
    /// record.
    fn bound(&self, key: &BlockKey) -> Order {
        let last = keys::block_position(key);
        let bound = match self.direction {
            Direction::Forward => (last.0.saturating_sub_unsigned(span_max(self.class)), 0),
            Direction::Backward => last,
        };
        Order::new(self.direction, bound)
    }
}

/// A block whose records are due, decoded completely or in part.
struct OpenBlock {
    key: BlockKey,
    header: BlockHeader,
    /// The range of the block's records that the scan covers.
    begin: usize,
    end: usize,
    /// The index in the block of the first record in `decoded`.
    base: usize,
    /// The index in the block of the next record.
    at: Option<usize>,
    /// The bytes taken from the memory budget.
    taken: usize,
    decoded: DecodedBlock,
}

impl OpenBlock {
    /// Moves to `start` or to the block's first record in the scan, and on to the first record with
    /// a high enough sequence.
    fn place(&mut self, start: Option<usize>, direction: Direction, since_sequence: u64) {
        self.at = start.or_else(|| match direction {
            Direction::Forward => Some(self.begin),
            Direction::Backward => self.end.checked_sub(1),
        });
        self.pass_early_arrivals(direction, since_sequence);
    }

    /// Moves to the next record in the decoded part. Returns `false` when there is none.
    #[inline]
    fn step(&mut self, direction: Direction, since_sequence: u64) -> bool {
        self.at = self.at.and_then(|at| next_index(at, direction));
        if since_sequence > 0 {
            self.pass_early_arrivals(direction, since_sequence);
        }
        self.index().is_some_and(|index| index < self.decoded.len())
    }

    fn pass_early_arrivals(&mut self, direction: Direction, since_sequence: u64) {
        while let Some(at) = self.at
            && let Some(((_, sequence), _)) = self.current()
            && sequence < since_sequence
        {
            self.at = next_index(at, direction);
        }
    }

    /// The index in the decoded part of the next record, which can be after its end.
    #[inline]
    fn index(&self) -> Option<usize> {
        self.rest()?.checked_sub(self.base)
    }

    #[inline]
    fn current(&self) -> Option<(Position, ReadRecord<'_>)> {
        let index = self.index()?;
        let record = match self.decoded.log(index) {
            Some(log) => ReadRecord::Log(log),
            None => ReadRecord::Payload(self.decoded.payload(index)?),
        };
        Some((self.decoded.key(index)?, record))
    }

    #[inline]
    fn rank(&self, direction: Direction) -> Option<Order> {
        let position = self.decoded.key(self.index()?)?;
        Some(Order::new(direction, position))
    }

    /// The index to continue from when the decoded part is used up but the block is not.
    fn rest(&self) -> Option<usize> {
        self.at.filter(|at| (self.begin..self.end).contains(at))
    }

    fn release(&mut self, budget: &MemoryBudget) {
        budget.give_back(std::mem::take(&mut self.taken));
    }
}

fn next_index(at: usize, direction: Direction) -> Option<usize> {
    match direction {
        Direction::Forward => at.checked_add(1),
        Direction::Backward => at.checked_sub(1),
    }
}
