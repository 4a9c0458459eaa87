//! Counts the records of a series by time and severity, from headers, summaries and single columns.

use crate::{
    error::Result,
    filter::Encoded,
    record::Level,
    signal::Signal,
    store::{
        engine::fault::{Fault, guarded},
        layout::{
            block::{BlockHeader, Summary, span_max},
            keys, row,
            series::SeriesState,
            tables::{BLOCK_CHUNKS, BLOCKS, BlockKey, ROWS, RowKey, SUMMARIES},
        },
        scan::{row_cursor::ROWS_UNCHECKED, series_scan::DamagedPart},
        tiers::{
            blocks,
            rows::{self, DamagedRow},
            view::View,
        },
    },
};

/// The records of a series to count.
pub(crate) struct Tally<'a> {
    /// The earliest timestamp.
    pub(crate) first: i64,
    /// The latest timestamp.
    pub(crate) last: i64,
    /// Whether records from one timestamp to another are counted together.
    pub(crate) are_together: &'a dyn Fn(i64, i64) -> bool,
    /// The signal of the records, if they are counted by severity.
    pub(crate) levels_of: Option<Signal>,
    /// Whether a block or a row that cannot be read is left out, instead of ending the count.
    pub(crate) skips_damaged: bool,
}

/// Takes a timestamp, a severity if records are counted by it, and the number of records that are
/// counted together with these.
type Add<'a> = &'a mut dyn FnMut(i64, Option<Level>, u64);

impl Tally<'_> {
    /// Calls `add` for all records, in no particular order. Returns what was left out.
    ///
    /// A block is read, down to its timestamps and severities, only if its records are not all counted
    /// together, or their severities are not known.
    pub(crate) fn count(
        &self,
        view: &View,
        state: &SeriesState,
        add: Add<'_>,
    ) -> Result<Vec<DamagedPart>> {
        if self.first > self.last {
            return Ok(Vec::new());
        }
        view.read(|| {
            let mut damaged = Vec::new();
            self.count_rows(view, state, add, &mut damaged)?;
            self.count_blocks(view, state, add, &mut damaged)?;
            Ok(damaged)
        })
    }

    fn count_rows(
        &self,
        view: &View,
        state: &SeriesState,
        add: Add<'_>,
        damaged: &mut Vec<DamagedPart>,
    ) -> Result<(), Fault> {
        let rows = view.transaction().open_table(ROWS)?;
        let (from, to) = rows::keys_between(state.id, self.first, self.last);
        for (number, row) in rows.range::<&RowKey>(&from..=&to)?.enumerate() {
            if number.is_multiple_of(ROWS_UNCHECKED) {
                view.cancel().check(view.path())?;
            }
            let (key, value) = row?;
            let (key, value) = (key.value(), value.value());
            let extent = row::extent(key, value);
            if extent.count.is_some() && extent.first > self.last {
                continue;
            }
            let records = match rows::records(key, value) {
                Ok(records) => records,
                Err(fault) if self.skips_damaged && fault.is_damage() => {
                    damaged.push(DamagedRow::new(key, value, fault).into());
                    continue;
                }
                Err(fault) => return Err(fault),
            };
            let range = self.first..=self.last;
            for ((at, _), payload) in records.filter(|((at, _), _)| range.contains(at)) {
                let level = self
                    .levels_of
                    .and_then(|signal| Encoded { signal, payload }.level());
                add(at, level, 1);
            }
        }
        Ok(())
    }

    fn count_blocks(
        &self,
        view: &View,
        state: &SeriesState,
        add: Add<'_>,
        damaged: &mut Vec<DamagedPart>,
    ) -> Result<(), Fault> {
        let headers = view.transaction().open_table(BLOCKS)?;
        let chunks = view.transaction().open_table(BLOCK_CHUNKS)?;
        let summaries = view.transaction().open_table(SUMMARIES)?;
        for (class, _) in &state.span_classes {
            // Every block that overlaps the range ends at most one span after it.
            let end = self.last.saturating_add_unsigned(span_max(*class));
            let from = keys::block_key(state.id, *class, (self.first, 0));
            let to = keys::block_key(state.id, *class, (end, u64::MAX));
            for entry in headers.range::<&BlockKey>(&from..=&to)? {
                view.cancel().check(view.path())?;
                let (key, bytes) = entry?;
                let header = blocks::read_header(key.value(), bytes.value());
                let counted = match &header {
                    Ok(header) if header.first > self.last => Ok(()),
                    Ok(header) if self.is_whole(header) && self.levels_of.is_none() => {
                        add(header.first, None, header.count.into());
                        Ok(())
                    }
                    // A damaged page can make redb panic.
                    Ok(header) => guarded(|| {
                        let key = key.value();
                        let Some(signal) = self.levels_of else {
                            let timestamps = blocks::timestamps(&chunks, key, header)?;
                            self.count_each(timestamps.into_iter().map(|it| (it, None)), add);
                            return Ok(());
                        };
                        let summary = summaries.get(key)?;
                        let levels = (summary.as_ref())
                            .filter(|_| self.is_whole(header))
                            .and_then(|it| Summary::read(signal, header, it.value())?.levels());
                        if let Some(levels) = levels {
                            for (level, records) in levels {
                                add(header.first, Some(level), records);
                            }
                        } else {
                            let levels = blocks::levels(&chunks, key, header, signal)?;
                            self.count_each(levels, add);
                        }
                        Ok(())
                    }),
                    Err(_) => Ok(()),
                };
                let records = header.as_ref().ok().map(|header| header.count.into());
                match header.map(drop).and(counted) {
                    Ok(()) => {}
                    Err(fault) if self.skips_damaged && fault.is_damage() => {
                        damaged.push(DamagedPart::new(records, fault));
                    }
                    Err(fault) => return Err(fault),
                }
            }
        }
        Ok(())
    }

    /// Counts records of a block, which are in the order of their timestamps.
    ///
    /// Those that are counted together are found by their ends, and added at once: of the thousands of records of
    /// a block, few are the last ones of an interval.
    fn count_each(&self, records: impl IntoIterator<Item = (i64, Option<Level>)>, add: Add<'_>) {
        let mut records: Vec<(i64, Option<Level>)> = records.into_iter().collect();
        records.retain(|(timestamp, _)| (self.first..=self.last).contains(timestamp));
        if !records.is_sorted_by_key(|(timestamp, _)| *timestamp) {
            records.sort_unstable_by_key(|(timestamp, _)| *timestamp);
        }
        let mut rest = records.as_slice();
        while let Some((first, _)) = rest.first() {
            let end =
                rest.partition_point(|(timestamp, _)| (self.are_together)(*first, *timestamp));
            // A record is counted together with itself.
            let (together, later) = rest.split_at(end.max(1));
            let mut counts: Vec<(Option<Level>, u64)> = Vec::new();
            for (_, level) in together {
                match counts.iter_mut().find(|(known, _)| known == level) {
                    Some((_, count)) => *count += 1,
                    None => counts.push((*level, 1)),
                }
            }
            for (level, count) in counts {
                add(*first, level, count);
            }
            rest = later;
        }
    }

    /// Whether the header of a block says all that is to be known of it.
    fn is_whole(&self, header: &BlockHeader) -> bool {
        self.first <= header.first
            && header.last <= self.last
            && (self.are_together)(header.first, header.last)
    }
}
