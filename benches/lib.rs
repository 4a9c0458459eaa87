//! Shared parts of the benchmarks: the records of an imagined gateway, and the engines that store them.
//!
//! - `suite` compares our store with its peers and with the last committed figures, and writes the README's table and
//!   charts.
//! - `day` writes a record a second for a simulated day, and counts the bytes that reach the disk.
//! - `request_path` shows the effect of a hanging disk on the thread that logs.
//! - `retention` measures the cost of limits and of merging.
//! - `redact` measures the cost of redaction.
//! - `query` asks the program one question after another, and measures what summaries cost.
//! - `receive` sends spans to the receiver over HTTP.
//! - `json` reads and writes log lines with our JSON and with `serde_json`.
//!
//! Records follow from a seed, so every engine and every run stores the same ones. The time of the peers begins with the
//! finished line, that of our store with the record: only our store pays for encoding.

mod engine;
mod events;
mod measure;
mod packed;
pub mod report;
mod workload;

pub use crate::{
    engine::{Engine, FjallRows, FlatFiles, GzipFiles, OurStore, RedbRows, Sqlite},
    events::{
        EVENT_QUEUE_BYTES_MAX, EventKind, EventNanos, EventStore, compare_events, event,
        event_span, thread_nanos,
    },
    measure::{
        Arguments, Table, bench_folder, cpu_time, disk_bytes, mebibytes, median, nanos, per_second,
        ratio, resident_bytes, seconds, time, written_bytes,
    },
    packed::{TextFiles, parquet_bytes},
    workload::{
        Cell, GatewayLogs, GatewayMetrics, GatewayRecord, GatewaySpans, Recorded, Row, SERVERS,
        server_name, server_names,
    },
};
