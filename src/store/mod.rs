//! The database: one redb file per stack, see [`layout::tables`] for its contents.
//!
//! Only this folder and `migrations/` use redb. Any number of processes open the file at the same
//! time (redb's `MultiWriter` mode), so state that another process can change is never cached
//! across transactions without checking that it is current.

pub(crate) mod admission;
pub(crate) mod engine;
pub(crate) mod handle;
pub(crate) mod importer;
pub(crate) mod layout;
pub(crate) mod ledger;
pub(crate) mod maintain;
/// One file per schema version.
#[path = "../../migrations/mod.rs"]
pub(crate) mod migrations;
pub(crate) mod options;
pub(crate) mod policy;
pub(crate) mod scan;
pub(crate) mod snapshot;
pub(crate) mod tiers;
pub(crate) mod write;
pub(crate) mod writer;

#[cfg(feature = "simulation")]
pub use self::{
    engine::disk::DiskOperation,
    policy::system_clock::ClockReading,
    scan::check::{CheckedBlock, CheckedSeries},
};
pub(crate) use self::{
    engine::open::SetAsideNote,
    layout::block::{Common, LogParts, LogValue, Piece, RECORD_BYTES_MAX},
    ledger::{
        spill::{Spill, SpillLock, SpilledRecord},
        wipes::WipeMarks,
        writers::{BatchId, Entered, WriterEntry},
    },
    maintain::maintenance::{Maintained, Maintenance},
    scan::{
        order::{Order, predecessor, successor},
        series_scan::{
            DamagedPart, MemoryBudget, PositionRange, ReadRecord, SeriesQuery, SeriesScan,
        },
        tally::Tally,
        verify::{self, IndexedBlock, OnFinding, OnRecord, SeriesIndex},
    },
    tiers::{
        sealer::Tiering,
        view::{DamagedSeries, SeriesEntry},
    },
    write::append::{Appender, PendingRecord, SeriesBatch},
    writer::StoreWriter,
};
pub use self::{
    engine::schema::MigrationStep,
    handle::{Store, inventory, wipe},
    importer::Importer,
    ledger::{
        damage::{Finding, KnownDamage},
        wipes::WipeScope,
        writers::WriterStatus,
    },
    maintain::compact::{CompactOptions, CompactProgress, Compacted},
    options::StoreOptions,
    policy::{clock::ClockJump, limits::ServerLimits},
    scan::{
        inventory::InventoryRecord,
        order::Direction,
        space::{DiskUsage, FileSystem, Space},
    },
    snapshot::Snapshot,
    write::import::{ImportBatch, ImportCounts},
};
#[cfg(feature = "simulation")]
pub(crate) use self::{
    layout::{block::fuzz as fuzz_blocks, row::fuzz as fuzz_rows},
    ledger::{fuzz as fuzz_ledger, spill::fuzz as fuzz_spill},
};
