//! The database: one redb file a stack, see [`tables`] for what is in it.
//!
//! Only this folder and `migrations/` know redb. Any number of processes have the file open at the
//! same time (redb's `MultiWriter` mode), so nothing that another process can change is remembered
//! from one transaction to the next.

mod append;
pub(crate) mod block;
mod blocks;
mod clock;
mod compact;
mod database;
mod disk;
mod fault;
mod import;
mod inventory;
mod layout;
mod limits;
mod losses;
mod merge;
mod rehearsal;
mod reserve;
mod retention;
mod row_tiers;
mod schema;
mod seal;
mod series_scan;
mod snapshot;
mod space;
pub(crate) mod tables;
mod upkeep;
mod wipe;

pub(crate) use self::{
    append::{BatchId, PendingRecord, RowTier, Sealer, SeriesBatch, Tiering},
    database::StoreWriter,
    fault::Fault,
    limits::Limits,
    series_scan::{MemoryBudget, PositionRange, SeriesScan, predecessor, successor},
    upkeep::{Step, Upkeep},
    wipe::{WipeMarks, monotonic_nanos},
};
pub use self::{
    clock::{ClockJump, ClockReading},
    compact::{CompactOptions, CompactProgress, Compacted},
    database::{Store, StoreOptions},
    disk::DiskOperation,
    import::{ImportBatch, ImportCounts, Importer},
    inventory::{InventoryRecord, inventory},
    layout::{BlockLayout, SeriesLayout},
    losses::Loss,
    schema::MigrationStep,
    series_scan::Direction,
    snapshot::Snapshot,
    space::{DiskUsage, Space},
    wipe::{WipeScope, wipe},
};

/// The largest payload that is stored, in bytes.
pub(crate) const RECORD_BYTES_MAX: usize = 16 << 20;
