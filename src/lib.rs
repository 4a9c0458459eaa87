//! Embedded, crash-safe store for the logs, metrics and traces of a gateway daemon.

mod error;
mod home;
mod ingest;
mod jsonl;
#[path = "../migrations/mod.rs"]
mod migrations;
mod produce;
mod read;
mod record;
mod signal;
mod store;
mod time;

pub use crate::{
    error::{Error, Result},
    home::{default_home, list_stacks},
    ingest::{
        DropCause, DropCount, SimulatedWriter, WhenFull, Writer, WriterGuard, WriterOptions,
        WriterStats,
    },
    jsonl::{LineError, LineWriter, ParsedLine, parse_line},
    produce::redact::Redactor,
    read::{Cursor, Query, RawRecord, Records, Scan, StoredRecord, TimeRange},
    record::{
        CostCounts, Level, LogRecord, MetricsSnapshot, Record, ServerName, SpanRecord, TokenCounts,
        Value,
    },
    signal::{Signal, is_valid_signal},
    store::{
        Direction, DiskOperation, DiskUsage, ImportBatch, ImportCounts, Importer, InventoryRecord,
        MigrationStep, Snapshot, Store, StoreOptions, WipeScope, inventory, wipe,
    },
    time::Timestamp,
};
