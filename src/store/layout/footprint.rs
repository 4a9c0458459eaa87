//! How many bytes a block takes: as it counts against limits, and as redb stores it on the disk.

use crate::store::layout::{
    block::{BlockHeader, HEADER_BYTES},
    tables::{BLOCK_KEY_BYTES, CHUNK_KEY_BYTES},
};

/// What an entry takes in a leaf page beside its key and value: the page's header and the end of
/// the value (redb, `docs/design.md`, "Leaf page").
pub(crate) const LEAF_ENTRY_BYTES: usize = 4 + 4;
pub(crate) const PAGE_BYTES: usize = 4096;

/// The longest value of [`BLOCK_CHUNKS`] that fits into `pages` pages.
pub(crate) const fn chunk_bytes(pages: usize) -> usize {
    pages * PAGE_BYTES - LEAF_ENTRY_BYTES - CHUNK_KEY_BYTES
}

/// What a block takes: keys, header and body.
pub(crate) fn block_bytes(header: &BlockHeader) -> u64 {
    (BLOCK_KEY_BYTES + HEADER_BYTES + CHUNK_KEY_BYTES) as u64 + u64::from(header.body_bytes)
}

/// The length of the next chunk of a body of which `rest` bytes are left: each fits whole pages.
/// redb gives a value of 9 KB four pages of 4 KB, and one of 8 KB two, so a tail is cut once more
/// where that saves a page.
pub(crate) const fn next_chunk_bytes(rest: usize) -> usize {
    if rest >= chunk_bytes(4) {
        chunk_bytes(4)
    } else if rest > chunk_bytes(2) && rest <= chunk_bytes(2) + chunk_bytes(1) {
        chunk_bytes(2)
    } else {
        rest
    }
}

/// What a block takes of the disk: the pages of its chunks, each of which has its own, and its
/// share of those that several share. Within some percent of what redb allocates; pages are counted
/// with the block that has them because nothing else tells, short of reading all of them.
pub(crate) fn disk_bytes(header: &BlockHeader) -> u64 {
    // Its header's entry and its chunk's in pages that are filled by two thirds, as those of trees
    // are to which is added at one end.
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
