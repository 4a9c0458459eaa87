//! When rows become blocks, and how large those blocks are.

use crate::store::{
    layout::block::{BlockEncoder, RECORDS_MAX},
    policy::limits::Limits,
    tiers::blocks::BlockLimits,
};

/// When records move from rows to blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tiering {
    /// The number of rows at which a series is sealed.
    pub(crate) seal_rows: usize,
    /// The number of records of one series in one batch from which they are written as a block at
    /// once, without becoming rows first.
    pub(crate) direct_records: usize,
    /// The maximum number of records in a block.
    pub(crate) block_records: usize,
    /// Whether blocks get summaries. Benchmarks do without to measure their cost.
    pub(crate) summarizes: bool,
}

impl Default for Tiering {
    fn default() -> Tiering {
        Tiering {
            // Half of a block, which is not merged again: more rows would take longer to read.
            seal_rows: RECORDS_MAX / 2,
            // As rows that are sealed and deleted later, this number of records causes three times
            // the writes of one block. In the end, a row takes 42 bytes on the disk for each
            // record, and a block 37 to 53; a smaller block would not fill its two pages.
            direct_records: 160,
            block_records: RECORDS_MAX,
            summarizes: true,
        }
    }
}

/// Turns fresh records into blocks of the chosen sizes.
#[derive(Debug)]
pub(crate) struct Sealer {
    pub(crate) tiering: Tiering,
    pub(crate) encoder: BlockEncoder,
}

impl Sealer {
    pub(crate) fn new(tiering: Tiering) -> Sealer {
        Sealer {
            encoder: BlockEncoder::new().summarizes(tiering.summarizes),
            tiering,
        }
    }

    /// The size of blocks of fresh records: smaller if the limit of their series is small.
    pub(crate) fn block_limits(&self, limits: &Limits, server: &str) -> BlockLimits {
        BlockLimits {
            records: self.tiering.block_records,
            payload_bytes: limits.block_payload_bytes(server),
            ends_at_gaps: true,
        }
    }
}
