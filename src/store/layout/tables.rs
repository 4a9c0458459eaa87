//! The tables of a database: their names, the types of their keys and values, and the names of the
//! counters in [`META`].
//!
//! ```text
//! name in the file  key                                         value         holds
//! meta              name                                        number        schema version, counters, clock
//! series            (server, signal)                            SeriesState   one entry per series
//! rows              (series, last, its sequence)                payloads      fresh records
//! headers           (series, span class, last, its sequence)    BlockHeader   settled records
//! chunks            (key of the block, number)                  bytes         block bodies, in chunks
//! summaries         (key of the block)                          Summary       what is known about a block
//!                                                                             without reading it
//! small             (series, merge level, last, its sequence,   nothing       the merge queue: blocks
//!                   span class)                                               that are not full
//! wipes             (server or "", signal or 255)               WipeMark      the newest wipe of a scope
//! totals            server                                      Totals        newest cumulative counters
//! limits            server or ""                                SeriesLimits  how much is kept
//! losses            (minute, server or "", signal or 255,       LossSpan      lost records; for
//!                   cause)                                                    crashes, followed by
//!                                                                             a list of kills
//! retired           (server, signal)                            LossSpan      evicted records
//! writers           number                                      Process       running writers
//! damage            hash of the finding                         Damaged       what is damaged
//! ```
//!
//! Values end in a [checksum](super::checked), with these exceptions: `meta` has one for all of its
//! entries; a block has one in its header, and a summary in its own format; `small` only repeats keys of
//! blocks; and entries of `writers` are checked against running processes.
//!
//! Integers in keys are big-endian and timestamps have their sign bit flipped, so the byte order of
//! keys is their order in time. The keys of a row and of a block name its last record.
//!
//! The span class of a block bounds how much time the block covers (see
//! [`BlockHeader::span_class`](super::block::BlockHeader::span_class)). To find the blocks that
//! overlap a time range, a reader scans for each class the keys from the start of the range to one
//! span past its end. That number of keys depends neither on how long the history is nor on how late
//! records arrived.
//!
//! A record is in `rows` or in exactly one block, never in both: a record changes its tier within
//! one transaction. It keeps its sequence, which numbers records in the order of commits, so a
//! cursor stays valid when rows are sealed.

use crate::store::{
    engine::schema,
    layout::{block::HEADER_BYTES, checked::CHECKSUM_BYTES},
};
use redb::TableDefinition;

/// Counters by name, see [`meta`].
pub(crate) const META: TableDefinition<'_, &str, u64> = schema::META;
/// The state of each series; the second half of the key is the signal's code.
pub(crate) const SERIES: TableDefinition<'_, (&str, u8), &[u8]> = TableDefinition::new("series");
/// Payloads of fresh records, one or several in a row, see [`row`](super::row).
pub(crate) const ROWS: TableDefinition<'_, &RowKey, &[u8]> = TableDefinition::new("rows");
/// Headers of blocks.
pub(crate) const BLOCKS: TableDefinition<'_, &BlockKey, &StoredHeader> =
    TableDefinition::new("headers");
/// Bodies of blocks, cut into chunks that fit whole pages.
pub(crate) const BLOCK_CHUNKS: TableDefinition<'_, &ChunkKey, &[u8]> =
    TableDefinition::new("pieces");
/// Summaries of blocks, see [`Summary`](super::block::Summary). Some blocks have none.
pub(crate) const SUMMARIES: TableDefinition<'_, &BlockKey, &[u8]> =
    TableDefinition::new("summaries");
/// The blocks that are not full, ordered by merge level.
pub(crate) const MERGE_QUEUE: TableDefinition<'_, &MergeKey, ()> = TableDefinition::new("small");
/// The newest wipe of each scope.
pub(crate) const WIPES: TableDefinition<'_, (&str, u8), &[u8]> = TableDefinition::new("wipes");
/// The newest cumulative counters of each server, which no limit covers.
pub(crate) const TOTALS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("totals");
/// The limits of each server; "" is the entry for servers without limits of their own.
pub(crate) const LIMITS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("limits");
/// Lost records, one entry per minute, series and cause. The minute is when the loss was entered,
/// counted from the epoch.
pub(crate) const LOSSES: TableDefinition<'_, (i64, &str, u8, u8), &[u8]> =
    TableDefinition::new("losses");
/// Evicted records, one entry per series. They have a table of their own so that regular evictions
/// do not push real losses out of the ledger.
pub(crate) const EVICTED: TableDefinition<'_, (&str, u8), &[u8]> = TableDefinition::new("retired");
/// What is known to be damaged, see [`damage`](crate::store::ledger::damage).
pub(crate) const DAMAGE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("damage");
/// The running writers and their processes.
pub(crate) const WRITERS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("writers");

/// The names of the entries of [`META`], except for the schema version, see
/// [`schema::SCHEMA_VERSION`].
pub(crate) mod meta {
    /// The sequence that the next record gets.
    pub(crate) const NEXT_SEQUENCE: &str = "next_sequence";
    /// The id that the next series gets. Ids are never used twice.
    pub(crate) const NEXT_SERIES: &str = "next_series";
    /// The time of the last commit of any writer, in nanoseconds since the epoch.
    pub(crate) const LAST_COMMIT: &str = "last_commit";
    /// A random number that tells the database from others at the same path; absent before the first
    /// writer or import.
    pub(crate) const DATABASE_ID: &str = "database_id";
    /// When all records were checked last, in nanoseconds since the epoch.
    pub(crate) const LAST_SCRUB: &str = "last_scrub";
    /// The number that the next writer gets.
    pub(crate) const NEXT_WRITER: &str = "next_writer";
    /// The number of wipes so far.
    pub(crate) const WIPE_GENERATION: &str = "wipe_generation";
    /// The disk bytes of the blocks of all series, see
    /// [`disk_bytes`](crate::store::layout::footprint::disk_bytes).
    pub(crate) const BLOCK_DISK_BYTES: &str = "block_disk_bytes";
    /// The total limit of the database, in bytes; absent when there is none.
    pub(crate) const MAX_TOTAL_BYTES: &str = "max_total_bytes";
    /// The number of changes of the limits so far.
    pub(crate) const LIMITS_GENERATION: &str = "limits_generation";

    // The state of the guarded clock. Times before the epoch are stored as their bits.
    /// The newest trusted time.
    pub(crate) const CLOCK_NEWEST: &str = "clock_newest";
    /// A trusted time that later readings are compared with.
    pub(crate) const CLOCK_ANCHOR: &str = "clock_nanos";
    /// Nanoseconds between the boot and the anchor.
    pub(crate) const CLOCK_ANCHOR_BOOT_NANOS: &str = "clock_boot_nanos";
    /// The boot during which the anchor was taken.
    pub(crate) const CLOCK_BOOT: &str = "clock_boot";
    /// The time at which a pending clock jump was first seen; absent without one.
    pub(crate) const CLOCK_JUMP_SINCE: &str = "clock_jump_since";
    /// The size of a pending clock jump, in nanoseconds; absent without one.
    pub(crate) const CLOCK_JUMP_BY: &str = "clock_jump_by";

    /// The number of the last batch that `writer` committed.
    pub(crate) fn last_batch(writer: u64) -> String {
        format!("batch_of_writer_{writer}")
    }
}

/// A key of [`ROWS`].
pub(crate) type RowKey = [u8; ROW_KEY_BYTES];
/// A key of [`BLOCKS`].
pub(crate) type BlockKey = [u8; BLOCK_KEY_BYTES];
/// A value of [`BLOCKS`]: a header and its checksum.
pub(crate) type StoredHeader = [u8; HEADER_BYTES + CHECKSUM_BYTES];
/// A key of [`BLOCK_CHUNKS`].
pub(crate) type ChunkKey = [u8; CHUNK_KEY_BYTES];
/// A key of [`MERGE_QUEUE`].
pub(crate) type MergeKey = [u8; MERGE_KEY_BYTES];

/// The length of a [`RowKey`].
pub(crate) const ROW_KEY_BYTES: usize = 4 + 8 + 8;
/// The length of a [`BlockKey`].
pub(crate) const BLOCK_KEY_BYTES: usize = 4 + 1 + 8 + 8;
/// The length of a [`ChunkKey`].
pub(crate) const CHUNK_KEY_BYTES: usize = BLOCK_KEY_BYTES + 2;
/// The length of a [`MergeKey`].
pub(crate) const MERGE_KEY_BYTES: usize = 4 + 1 + 8 + 8 + 1;
