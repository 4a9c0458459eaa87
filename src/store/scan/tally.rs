//! Counts the records of a series by time, from headers and timestamps alone.

use crate::{
    error::Result,
    store::{
        engine::fault::{Fault, guarded},
        layout::{
            block::{BlockHeader, span_max},
            keys,
            series::SeriesState,
            tables::{BLOCK_CHUNKS, BLOCKS, BlockKey, ROWS, RowKey},
        },
        scan::series_scan::DamagedBlock,
        tiers::{blocks, view::View},
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
    /// Whether a block that cannot be read is left out, instead of ending the count.
    pub(crate) skips_damaged: bool,
}

impl Tally<'_> {
    /// Calls `add` with a timestamp and the number of records that are counted together with it, in no
    /// particular order. Returns the blocks that were left out.
    ///
    /// A block is read, down to its timestamps, only if its records are not all counted together.
    pub(crate) fn count(
        &self,
        view: &View,
        state: &SeriesState,
        add: &mut dyn FnMut(i64, u64),
    ) -> Result<Vec<DamagedBlock>> {
        if self.first > self.last {
            return Ok(Vec::new());
        }
        view.read(|| {
            self.count_rows(view, state, add)?;
            self.count_blocks(view, state, add)
        })
    }

    fn count_rows(
        &self,
        view: &View,
        state: &SeriesState,
        add: &mut dyn FnMut(i64, u64),
    ) -> Result<(), Fault> {
        let rows = view.transaction().open_table(ROWS)?;
        let from = keys::row_key(state.id, (self.first, 0));
        let to = keys::row_key(state.id, (self.last, u64::MAX));
        for row in rows.range::<&RowKey>(&from..=&to)? {
            add(keys::row_position(row?.0.value()).0, 1);
        }
        Ok(())
    }

    fn count_blocks(
        &self,
        view: &View,
        state: &SeriesState,
        add: &mut dyn FnMut(i64, u64),
    ) -> Result<Vec<DamagedBlock>, Fault> {
        let headers = view.transaction().open_table(BLOCKS)?;
        let chunks = view.transaction().open_table(BLOCK_CHUNKS)?;
        let mut damaged = Vec::new();
        for (class, _) in &state.span_classes {
            // Every block that overlaps the range ends at most one span after it.
            let end = self.last.saturating_add_unsigned(span_max(*class));
            let from = keys::block_key(state.id, *class, (self.first, 0));
            let to = keys::block_key(state.id, *class, (end, u64::MAX));
            for entry in headers.range::<&BlockKey>(&from..=&to)? {
                let (key, bytes) = entry?;
                let header = blocks::read_header(key.value(), bytes.value());
                let counted = match &header {
                    Ok(header) if header.first > self.last => Ok(()),
                    Ok(header) if self.is_whole(header) => {
                        add(header.first, header.count.into());
                        Ok(())
                    }
                    // A damaged page can make redb panic.
                    Ok(header) => guarded(|| blocks::timestamps(&chunks, key.value(), header))
                        .map(|timestamps| self.count_each(&timestamps, add)),
                    Err(_) => Ok(()),
                };
                let records = header.as_ref().ok().map(|header| header.count.into());
                match header.map(drop).and(counted) {
                    Ok(()) => {}
                    Err(Fault::Corrupt(what) | Fault::Engine(redb::Error::Corrupted(what)))
                        if self.skips_damaged =>
                    {
                        damaged.push(DamagedBlock { records, what });
                    }
                    Err(fault) => return Err(fault),
                }
            }
        }
        Ok(damaged)
    }

    fn count_each(&self, timestamps: &[i64], add: &mut dyn FnMut(i64, u64)) {
        let start = timestamps.partition_point(|timestamp| *timestamp < self.first);
        let end = timestamps.partition_point(|timestamp| *timestamp <= self.last);
        for timestamp in timestamps.get(start..end).unwrap_or_default() {
            add(*timestamp, 1);
        }
    }

    /// Whether the header of a block says all that is to be known of it.
    fn is_whole(&self, header: &BlockHeader) -> bool {
        self.first <= header.first
            && header.last <= self.last
            && (self.are_together)(header.first, header.last)
    }
}
