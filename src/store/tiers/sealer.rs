//! When rows become blocks, and how large those blocks are.

use crate::{
    share::share,
    signal::Signal,
    store::{
        layout::block::{BlockEncoder, BlockRecord, EncodedBlock, RECORDS_MAX},
        policy::limits::Limits,
        tiers::blocks::BlockLimits,
    },
};

/// When records move from rows to blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tiering {
    /// The number of records in rows at which a series is sealed.
    pub(crate) seal_rows: usize,
    /// The number of records of one series in one batch from which they are written as a block at
    /// once, without becoming rows first.
    pub(crate) direct_records: usize,
    /// The maximum number of records in a block.
    pub(crate) block_records: usize,
    /// Whether blocks get summaries. Benchmarks do without to measure their cost.
    pub(crate) summarizes: bool,
    /// The number of threads that share a large batch.
    pub(crate) threads: usize,
}

/// The number of records from which a batch is shared among threads. With 1,000, the threads that it starts take longer
/// than they spare.
const SHARED_RECORDS_MIN: usize = 4096;

impl Tiering {
    /// The number of threads beside the present one that share `records`.
    pub(crate) fn helpers(&self, records: usize) -> usize {
        if records < SHARED_RECORDS_MIN {
            0
        } else {
            self.threads.saturating_sub(1)
        }
    }
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
            threads: 1,
        }
    }
}

/// Turns fresh records into blocks of the chosen sizes.
#[derive(Debug)]
pub(crate) struct Sealer {
    pub(crate) tiering: Tiering,
    pub(crate) encoder: BlockEncoder,
    /// Those of the other threads.
    helpers: Vec<BlockEncoder>,
}

impl Sealer {
    pub(crate) fn new(tiering: Tiering) -> Sealer {
        let encoder = || BlockEncoder::new().summarizes(tiering.summarizes);
        Sealer {
            encoder: encoder(),
            helpers: (1..tiering.threads).map(|_| encoder()).collect(),
            tiering,
        }
    }

    /// Encodes the records of several blocks, each as one block.
    pub(crate) fn encode(&mut self, blocks: &[(Signal, &[BlockRecord<'_>])]) -> Vec<EncodedBlock> {
        let records = blocks.iter().map(|(_, records)| records.len()).sum();
        let helpers = self.helpers.get_mut(..self.tiering.helpers(records));
        let mut encoded: Vec<Option<EncodedBlock>> = blocks.iter().map(|_| None).collect();
        share(
            &mut self.encoder,
            helpers.unwrap_or_default(),
            blocks.iter().zip(&mut encoded),
            |encoder, ((signal, records), encoded)| {
                *encoded = Some(encoder.encode(*signal, records));
            },
        );
        encoded.into_iter().flatten().collect()
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
