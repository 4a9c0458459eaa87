//! Embedded, crash-safe store for the logs, metrics and traces of a gateway daemon.
//!
//! A daemon links this crate and keeps one [redb](https://docs.rs/redb) database for each stack of
//! servers. A request never waits for the disk: records go to a bounded queue, and one thread writes
//! them in batches. Any number of processes read the database while it is written. Records that are
//! dropped, lost in a crash or evicted by a limit are counted in a [ledger] that survives restarts.
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
//! let (writer, guard) = Writer::start(&store, WriterOptions::default())?;
//!
//! // Never waits for the disk: when the queue is full, the record is dropped and counted.
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
//! guard.close()?; // dropping the guard flushes, too, but cannot return an error
//! # Ok(())
//! # }
//! ```
//!
//! # Where to begin
//!
//! [`Telemetry::from_config`] sets up everything that a daemon needs from a [`TelemetryConfig`]; the
//! program `tools/examples/daemon.rs` in the repository is a complete daemon. [`Store`] and [`Writer`]
//! alone store records from any source. The root has the names that most programs need; the rest are
//! in modules by topic:
//!
//! | module | what is in it |
//! |---|---|
//! | [`config`] | the user's configuration: signals, limits |
//! | [`record`] | the three kinds of records and their parts |
//! | [`logs`], [`metrics`], [`traces`] | the producers of records: the layer for `tracing`, the counters, the client for spans |
//! | [`receive`] | storing OTLP messages of any signal, for exporters and receivers |
//! | [`redact`] | the redactor, which replaces secrets before a record is stored |
//! | [`ingest`] | the writer's options, its statistics and the reasons for dropping records |
//! | [`query`] | reading: by time, by arrival, by content, the last records; traces, calls, usage, counts, the inventory |
//! | [`ledger`] | entries for lost, dropped and evicted records, and clock jumps |
//! | [`lines`] | NDJSON and OTLP/JSON lines, in both directions |
//! | [`send`] | stored records as OTLP messages, for programs that send them on |
//! | [`import`] | storing the records of files, each record once |
//! | [`maintenance`] | disk space, compaction, verification, wipes, migrations |
//! | [`home`] | the folder that holds the databases |
//! | [`external`] | the crates whose types are part of this API |
//!
//! # How it fits together
//!
//! Data flows one way:
//!
//! - **produce**: daemons make [`LogRecord`]s, [`MetricsSnapshot`]s and [`SpanRecord`]s;
//! - **ingest**: a [`Writer`] queues them, bounded in records and bytes, and its thread commits them
//!   in batches;
//! - **store**: a [`Store`] keeps fresh records as rows and settled ones in compressed blocks;
//! - **read**: a [`Snapshot`] is scanned by [`Query`], or asked for its last records or its
//!   [inventory](Snapshot::inventory);
//! - **export**: a [`LineWriter`](lines::LineWriter) turns records into NDJSON or OTLP/JSON lines, and
//!   a [`RecordReader`](lines::RecordReader) and an [`Importer`](import::Importer) turn them back into
//!   stored records.
//!
//! Options are builders that start from `default()` and are passed by value. Records, queries and
//! wipe scopes are passed by reference.
//!
//! # What it is not
//!
//! - Not a server: there is no socket, no protocol and no daemon of its own. The database file is
//!   the interface between processes.
//! - Not a search engine: records are filtered by what they say, without ranking and without an
//!   index of every word.
//! - Not for several machines: the file must be on a local disk with a local file system's locks.
//!
//! # Features
//!
//! - `otel-sdk`: `traces::TelemetrySpanExporter`, `logs::TelemetryLogExporter` and
//!   `metrics::TelemetryMetricExporter`, exporters for the OpenTelemetry SDK; and the
//!   [`LogRouter`] stores the ids of the OpenTelemetry span that an event is in.
//! - `simulation`: the module `testing`, for tests and benchmarks that need a disk that fails, a
//!   clock that jumps or limits of a few kilobytes. Not for programs in production.
//!
//! # Coming from the Go package `telemetry`
//!
//! | Go package | this crate |
//! |---|---|
//! | `DefaultMetricsFlushInterval` | [`MetricsFlusher::INTERVAL_DEFAULT`] |
//! | `IsValidSignal` | [`is_valid_signal`](query::is_valid_signal) |
//! | `Inventory`, `InventoryRecord` | [`inventory`](query::inventory), [`Snapshot::inventory`], [`InventoryRecord`](query::InventoryRecord) |
//! | `Wipe` | [`wipe`](maintenance::wipe), [`Store::wipe`], in a daemon [`Writer::wipe`] |
//! | `LogOpts` | [`Retention`](config::Retention) |
//! | `LogRouter`, `NewLogRouter` | [`LogRouter`], [`LogRouter::new`]; a layer beside the others, not around them |
//! | `LogRouter.AddServer`, `.RemoveServer`, `.ConfiguredServers`, `.Close` | the methods of the same names |
//! | `LogRouter.Enabled`, `.Handle` | [`RouterFilter`](logs::RouterFilter), [`RouterLayer`](logs::RouterLayer) |
//! | `LogRouter.WithAttrs`, `.WithGroup` | fields of spans, which are stored as groups |
//! | `LogRouter.SetSelfLogger`, `MetricsFlusher.SetLogger`, `TracesFileClient.SetLogger` | events with `subsystem="telemetry"`, for the application's subscriber |
//! | `MetricsFlusher`, `NewMetricsFlusher` | [`MetricsFlusher`], [`MetricsFlusher::new`] |
//! | `MetricsFlusher.AddServer`, `.RemoveServer`, `.ConfiguredServers`, `.Start`, `.Stop` | the methods of the same names |
//! | `MetricsFlusher.SeedFromFile` | [`MetricsFlusher::seed`], [`MetricsFlusher::seed_from_file`] |
//! | `MetricsSnapshotLine` | [`MetricsSnapshot`] |
//! | `TracesFileClient`, `NewTracesFileClient` | [`TraceClient`], [`TraceClient::new`] |
//! | `TracesFileClient.AddServer`, `.RemoveServer`, `.ConfiguredServers` | the methods of the same names |
//! | `TracesFileClient.UploadTraces` | [`TraceClient::upload`], and `TelemetrySpanExporter` with the feature `otel-sdk` |
//! | `TracesFileClient.Start`, `.Stop` | nothing to connect; [`TraceClient::close`], [`TraceClient::flush`] |
//!
//! [`LogRouter`]: logs::LogRouter
//! [`LogRouter::new`]: logs::LogRouter::new
//! [`MetricsFlusher`]: metrics::MetricsFlusher
//! [`MetricsFlusher::new`]: metrics::MetricsFlusher::new
//! [`MetricsFlusher::seed`]: metrics::MetricsFlusher::seed
//! [`MetricsFlusher::seed_from_file`]: metrics::MetricsFlusher::seed_from_file
//! [`MetricsFlusher::INTERVAL_DEFAULT`]: metrics::MetricsFlusher::INTERVAL_DEFAULT
//! [`TraceClient`]: traces::TraceClient
//! [`TraceClient::new`]: traces::TraceClient::new
//! [`TraceClient::upload`]: traces::TraceClient::upload
//! [`TraceClient::close`]: traces::TraceClient::close
//! [`TraceClient::flush`]: traces::TraceClient::flush

#![cfg_attr(
    not(feature = "simulation"),
    allow(
        dead_code,
        unreachable_pub,
        reason = "the items of the module `testing` are spread over all modules; with the feature, both are checked"
    )
)]

pub mod config;
mod error;
mod filter;
#[cfg(feature = "simulation")]
mod fuzz;
pub mod home;
pub mod ingest;
pub mod lines;
mod loss;
mod otlp;
mod platform;
mod produce;
mod read;
pub mod record;
pub mod redact;
mod share;
mod signal;
mod store;
mod telemetry;
mod time;

#[doc(inline)]
pub use crate::{
    config::TelemetryConfig,
    ingest::{Writer, WriterGuard, WriterOptions},
    record::{Level, LogRecord, MetricsSnapshot, Record, ServerName, SpanRecord, Value},
};
pub use crate::{
    error::{Error, Result},
    read::Query,
    signal::Signal,
    store::{Snapshot, Store, StoreOptions},
    telemetry::{ShutdownError, Telemetry, TelemetryOptions},
    time::Timestamp,
};

/// Reading records by time, by arrival, by content, or the last ones, with several servers merged;
/// traces, calls of tools, usage, counts, and the inventory.
pub mod query {
    #[cfg(feature = "async")]
    pub use crate::read::FollowStream;
    pub use crate::{
        filter::{Filter, TextPattern, plain_text},
        read::{
            Arrival, Arrivals, Call, CallError, CallList, CallQuery, CountBy, CountReport,
            CountRow, Cursor, Damage, ErrorSource, Follow, FollowHandle, Interval, LogView,
            ModelUsage, RawBatch, RawRecord, Records, Scan, ScopeFilter, Seed, SeedRange,
            SeededTrace, StoredRecord, ToolList, ToolStats, Trace, TraceCursor, TraceEntry,
            TraceList, TraceNode, TracePlace, TraceQuery, TraceSummary, TraceTree, UsageBy,
            UsageCounts, UsageQuery, UsageReport, UsageRow, ValueView,
        },
        signal::is_valid_signal,
        store::{Direction, InventoryRecord, inventory},
        time::TimeRange,
    };
}

/// Ledger entries for lost, dropped and evicted records, and clock jumps.
pub mod ledger {
    pub use crate::{
        loss::{LedgerEntry, LossCause},
        store::{ClockJump, KnownDamage},
    };
}

/// Log events: a layer for `tracing` that stores the events of each server.
pub mod logs {
    #[cfg(feature = "otel-sdk")]
    pub use crate::produce::TelemetryLogExporter;
    pub use crate::produce::{
        LogOptions, LogRouter, PanicHook, PanicOptions, RouterFilter, RouterLayer, UnroutedEvents,
        UnroutedKey,
    };
}

/// Token and cost counters, and the thread that stores snapshots of them.
pub mod metrics {
    #[cfg(feature = "otel-sdk")]
    pub use crate::produce::TelemetryMetricExporter;
    pub use crate::produce::{
        Accumulator, Attribution, CostUsd, MetricsFlusher, Point, Recorder, RefusedCosts,
        SeedReport, SeededServer, TimeSeries, Usage,
    };
}

/// Spans: the client that stores them, and an exporter for the OpenTelemetry SDK.
pub mod traces {
    #[cfg(feature = "otel-sdk")]
    pub use crate::produce::TelemetrySpanExporter;
    pub use crate::{
        otlp::id::{encode_hex, hex},
        produce::{SkippedSpans, TraceClient},
    };
}

/// OTLP messages of any signal, which the SDK's exporters and a daemon's receivers store in one way.
pub mod receive {
    pub use crate::produce::{OtlpMessage, OtlpMessageError, OtlpOutcome, OtlpReason, OtlpWriter};
}

/// OTLP messages of stored records, for programs that send them on.
pub mod send {
    pub use crate::lines::{OtlpBatch, origin};
}

/// Storing the records of files, each record once, however often a file is imported.
pub mod import {
    pub use crate::store::{ImportBatch, ImportCounts, Importer};
}

/// Disk space, compaction, verification, wipes and migrations.
pub mod maintenance {
    pub use crate::{
        read::{Verified, VerifyOptions, VerifyProgress},
        store::{
            CompactOptions, CompactProgress, Compacted, DiskUsage, FileSystem, Finding,
            MigrationStep, ServerLimits, Space, WipeScope, WriterStatus, wipe,
        },
    };
}

/// The crates whose types are part of this API, in the versions that it was built with.
pub mod external {
    #[cfg(feature = "otel-sdk")]
    pub use {opentelemetry, opentelemetry_sdk, tracing_opentelemetry};
    pub use {opentelemetry_proto, time, tracing, tracing_subscriber};
}

/// For tests and benchmarks: a writer with a simulated clock, a disk that fails, clocks that jump,
/// functions that show where records are stored, and the parsers for fuzzing.
#[cfg(feature = "simulation")]
pub mod testing {
    pub use crate::{
        fuzz::{FuzzTarget, fuzz_targets},
        ingest::simulated::SimulatedWriter,
        store::{CheckedBlock, CheckedSeries, ClockReading, DiskOperation},
    };
}

/// Compiles the Rust blocks of the README as documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
