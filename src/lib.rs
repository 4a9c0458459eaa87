//! Embedded, crash-safe store for the logs, metrics and traces of a gateway daemon: one redb
//! database a stack, tiny on disk, readable while it is written, and honest about what it lost.
//!
//! ```
//! use gridctl_telemetry::{
//!     Level, LogRecord, Query, ServerName, Signal, Store, StoreOptions, Timestamp, Writer,
//!     WriterOptions,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let home = tempfile::tempdir()?;
//! # let home = home.path();
//! // <home>/telemetry/my-stack/telemetry.redb, created when it is missing.
//! let store = Store::open(home, "my-stack", StoreOptions::default())?;
//! let (writer, guard) = Writer::start(&store, &WriterOptions::default())?;
//!
//! // Never waits for the disk: what finds no room is dropped and counted.
//! let github = ServerName::new("github")?;
//! let record = LogRecord::new(Timestamp::now(), Level::INFO, "tool call completed")
//!     .with("tool", "search")
//!     .with("duration_ms", 12_i64);
//! writer.log(&github, &record)?;
//! writer.flush()?; // now it is on the disk
//!
//! // Any process may read at any time.
//! let last = store.last(&Query::new(Signal::Logs).server(github), 100)?;
//! assert_eq!(last[0].record.clone().into_log(), Some(record));
//!
//! guard.close()?; // so does dropping it, without telling
//! # Ok(())
//! # }
//! ```
//!
//! # How it fits together
//!
//! Data flows one way:
//!
//! - **produce**: daemons make [`LogRecord`]s, [`MetricsSnapshot`]s and [`SpanRecord`]s;
//! - **ingest**: a [`Writer`] queues them, bounded in records and bytes, and its thread commits them
//!   in batches;
//! - **store**: a [`Store`] keeps fresh records as rows and settled ones in compressed blocks;
//! - **read**: a [`Snapshot`] is scanned by [`Query`], asked for its last records, or for its
//!   [`InventoryRecord`]s;
//! - **export**: a [`LineWriter`] makes NDJSON and OTLP/JSON lines of what was read, and
//!   [`parse_line`] and an [`Importer`] bring them back.
//!
//! # For those who come from the Go package `telemetry`
//!
//! | there | here |
//! |---|---|
//! | `DefaultMetricsFlushInterval` | [`MetricsFlusher::INTERVAL_DEFAULT`] |
//! | `IsValidSignal` | [`is_valid_signal`] |
//! | `Inventory`, `InventoryRecord` | [`inventory`](inventory()), [`Snapshot::inventory`], [`InventoryRecord`] |
//! | `Wipe` | [`wipe`](wipe()), [`Store::wipe`], in a daemon [`Writer::wipe`] |
//! | `LogOpts` | [`Retention`] |
//! | `LogRouter`, `NewLogRouter` | [`LogRouter`], [`LogRouter::new`]; a layer beside the others, not around them |
//! | `LogRouter.AddServer`, `.RemoveServer`, `.ConfiguredServers`, `.Close` | the methods of the same names |
//! | `LogRouter.Enabled`, `.Handle` | [`RouterFilter`], [`RouterLayer`] |
//! | `LogRouter.WithAttrs`, `.WithGroup` | fields of spans, which are stored as groups |
//! | `LogRouter.SetSelfLogger`, `MetricsFlusher.SetLogger`, `TracesFileClient.SetLogger` | events with `subsystem="telemetry"`, for whatever subscriber there is |
//! | `MetricsFlusher`, `NewMetricsFlusher` | [`MetricsFlusher`], [`MetricsFlusher::new`] |
//! | `MetricsFlusher.AddServer`, `.RemoveServer`, `.ConfiguredServers`, `.Start`, `.Stop` | the methods of the same names |
//! | `MetricsFlusher.SeedFromFile` | [`MetricsFlusher::seed`], [`MetricsFlusher::seed_from_file`] |
//! | `MetricsSnapshotLine` | [`MetricsSnapshot`] |
//! | `TracesFileClient`, `NewTracesFileClient` | [`TraceClient`], [`TraceClient::new`] |
//! | `TracesFileClient.AddServer`, `.RemoveServer`, `.ConfiguredServers` | the methods of the same names |
//! | `TracesFileClient.UploadTraces` | [`TraceClient::upload`], and `TelemetrySpanExporter` with the feature `otel-sdk` |
//! | `TracesFileClient.Start`, `.Stop` | nothing to connect; [`TraceClient::close`], [`TraceClient::flush`] |
//!
//! # What it is not
//!
//! - Not a server: there is no socket, no protocol and no daemon of its own. The database file is
//!   the interface between processes.
//! - Not a search engine: records are found by stack, server, signal, time and arrival, not by what
//!   they say.
//! - Not for many machines: the file must be on a local disk, with the locks of a local file system.

mod config;
mod error;
mod home;
mod ingest;
mod lines;
mod produce;
mod read;
mod record;
mod redact;
mod signal;
mod store;
mod telemetry;
mod time;

#[cfg(feature = "otel-sdk")]
pub use crate::produce::TelemetrySpanExporter;
pub use crate::{
    config::{
        ConfigWarning, Persist, PersistOverride, Retention, RetentionPolicy, ServerTelemetry,
        TelemetryConfig,
    },
    error::{Error, Result},
    home::{default_home, list_stacks},
    ingest::{
        DropCause, DropCount, MaintenanceStats, SimulatedWriter, WhenFull, Writer, WriterGuard,
        WriterOptions, WriterStats,
    },
    lines::{LineError, LineFormat, LineWriter, ParsedLine, parse_line},
    produce::{
        Accumulator, Attribution, CostUsd, LogOptions, LogRouter, MetricsFlusher, Point, Recorder,
        RefusedCosts, RouterFilter, RouterLayer, SkippedSpans, TimeSeries, TraceClient, Usage,
    },
    read::{Cursor, Query, RawRecord, Records, Scan, Seed, SeededTrace, StoredRecord, TimeRange},
    record::{
        CostCounts, Level, LogRecord, MetricsSnapshot, Record, ServerName, SpanRecord, TokenCounts,
        Value,
    },
    redact::Redactor,
    signal::{Signal, is_valid_signal},
    store::{
        BlockLayout, ClockJump, ClockReading, CompactOptions, CompactProgress, Compacted,
        Direction, DiskOperation, DiskUsage, ImportBatch, ImportCounts, Importer, InventoryRecord,
        Loss, MigrationStep, SeriesLayout, Snapshot, Space, Store, StoreOptions, WipeScope,
        inventory, wipe,
    },
    telemetry::{Telemetry, TelemetryOptions},
    time::Timestamp,
};
