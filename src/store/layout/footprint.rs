//! The size of a block: as it counts against limits, and as redb stores it on the disk.

use crate::store::layout::{
    block::{BlockHeader, HEADER_BYTES},
    tables::{BLOCK_KEY_BYTES, CHUNK_KEY_BYTES},
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

/// The size of a block as it counts against limits, in bytes: keys, header and body.
pub(crate) fn block_bytes(header: &BlockHeader) -> u64 {
    (BLOCK_KEY_BYTES + HEADER_BYTES + CHUNK_KEY_BYTES) as u64 + u64::from(header.body_bytes)
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

/// The size of a block on the disk, in bytes: the pages that its chunks have to themselves, and its
/// share of pages with several entries. Accurate to a few percent of what redb allocates. It is
/// computed from the header, because measuring it would mean reading all pages.
pub(crate) fn disk_bytes(header: &BlockHeader) -> u64 {
    // Entries in shared pages are counted as if those pages were two thirds full, as they are in
    // trees that grow at one end.
    let entry = |bytes: usize| (bytes + LEAF_ENTRY_BYTES) * 3 / 2;
    let branch = CHUNK_KEY_BYTES + 16 + 8 + 4;
    let mut bytes = entry(BLOCK_KEY_BYTES + HEADER_BYTES);
    let mut rest = header.body_bytes as usize;
    while rest > 0 {
        let chunk = next_chunk_bytes(rest);
        let leaf = chunk + CHUNK_KEY_BYTES + LEAF_ENTRY_BYTES;
        bytes += if leaf * 2 > PAGE_BYTES {
            leaf.div_ceil(PAGE_BYTES).next_power_of_two() * PAGE_BYTES + branch * 3 / 2
        } else {
            entry(chunk + CHUNK_KEY_BYTES)
        };
        rest -= chunk;
    }
    bytes as u64
}
