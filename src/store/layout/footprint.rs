//! The size of a block: as it counts against limits, and as redb stores it on the disk.

use crate::store::layout::{
    block::{BlockHeader, HEADER_BYTES},
    tables::{BLOCK_KEY_BYTES, CHUNK_KEY_BYTES, ROW_KEY_BYTES},
};

/// The overhead of an entry in a leaf page beside its key and value, in bytes: the page's header
/// and the end offset of the value (redb, `docs/design.md`, "Leaf page").
pub(crate) const LEAF_ENTRY_BYTES: usize = 4 + 4;
pub(crate) const PAGE_BYTES: usize = 4096;

/// The longest value of [`BLOCK_CHUNKS`](crate::store::layout::tables::BLOCK_CHUNKS) that fits
/// `pages` pages, in bytes.
pub(crate) const fn chunk_bytes(pages: usize) -> usize {
    pages * PAGE_BYTES - LEAF_ENTRY_BYTES - CHUNK_KEY_BYTES
}

/// The longest value of [`ROWS`](crate::store::layout::tables::ROWS) that fits `pages` pages, in bytes.
pub(crate) const fn row_bytes(pages: usize) -> usize {
    pages * PAGE_BYTES - LEAF_ENTRY_BYTES - ROW_KEY_BYTES
}

/// The length of an entry of [`SUMMARIES`](crate::store::layout::tables::SUMMARIES) beside its value,
/// in bytes.
pub(crate) const SUMMARY_OVERHEAD_BYTES: usize = LEAF_ENTRY_BYTES + BLOCK_KEY_BYTES;
/// The longest value of [`SUMMARIES`](crate::store::layout::tables::SUMMARIES) that fits `pages` pages, in
/// bytes.
pub(crate) const fn summary_bytes(pages: usize) -> usize {
    pages * PAGE_BYTES - SUMMARY_OVERHEAD_BYTES
}

/// The size of a block with its summary, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockSize {
    /// As it counts against limits: keys, header, body and summary.
    pub(crate) bytes: u64,
    /// On the disk: the pages that its entries have to themselves, and its share of pages with several
    /// entries. Accurate to a few percent of what redb allocates.
    pub(crate) disk_bytes: u64,
}

impl BlockSize {
    /// The size of the block with this header and a summary of this length, if it has one.
    pub(crate) fn new(header: &BlockHeader, summary_bytes: Option<usize>) -> BlockSize {
        let block = (BLOCK_KEY_BYTES + HEADER_BYTES + CHUNK_KEY_BYTES) as u64;
        let summary = summary_bytes.map_or(0, |bytes| (BLOCK_KEY_BYTES + bytes) as u64);
        BlockSize {
            bytes: block + u64::from(header.body_bytes) + summary,
            disk_bytes: block_disk_bytes(header) + summary_bytes.map_or(0, summary_disk_bytes),
        }
    }
}

/// The length of the next chunk of a body with `rest` bytes left, chosen to fill whole pages. redb
/// allocates powers of two: four 4 KB pages for a value of 9 KB, two for one of 8 KB. So the tail
/// is split once more where that saves a page.
pub(crate) const fn next_chunk_bytes(rest: usize) -> usize {
    if rest >= chunk_bytes(4) {
        chunk_bytes(4)
    } else if rest > chunk_bytes(2) && rest <= chunk_bytes(2) + chunk_bytes(1) {
        chunk_bytes(2)
    } else {
        rest
    }
}

/// The number of chunks of a body of this length.
pub(crate) fn chunk_count(body_bytes: usize) -> u64 {
    let (mut rest, mut count) = (body_bytes, 0);
    while rest > 0 {
        rest -= next_chunk_bytes(rest);
        count += 1;
    }
    count
}

/// The size on the disk of a block without its summary, in bytes, see [`BlockSize::disk_bytes`].
pub(crate) fn block_disk_bytes(header: &BlockHeader) -> u64 {
    let mut bytes = shared_bytes(BLOCK_KEY_BYTES + HEADER_BYTES);
    let mut rest = header.body_bytes as usize;
    while rest > 0 {
        let chunk = next_chunk_bytes(rest);
        bytes += entry_bytes(CHUNK_KEY_BYTES, chunk);
        rest -= chunk;
    }
    bytes as u64
}

/// The size on the disk of a summary of this length, in bytes.
pub(crate) fn summary_disk_bytes(summary_bytes: usize) -> u64 {
    entry_bytes(BLOCK_KEY_BYTES, summary_bytes) as u64
}

/// The size on the disk of an entry, in bytes. One that fills more than half a page has its pages to
/// itself.
fn entry_bytes(key: usize, value: usize) -> usize {
    let leaf = key + value + LEAF_ENTRY_BYTES;
    if leaf * 2 > PAGE_BYTES {
        let branch = key + 16 + 8 + 4;
        leaf.div_ceil(PAGE_BYTES).next_power_of_two() * PAGE_BYTES + branch * 3 / 2
    } else {
        shared_bytes(key + value)
    }
}

/// The size on the disk of an entry in a page with others, in bytes. Such pages are counted as two
/// thirds full, as they are in trees that grow at one end.
fn shared_bytes(bytes: usize) -> usize {
    (bytes + LEAF_ENTRY_BYTES) * 3 / 2
}
