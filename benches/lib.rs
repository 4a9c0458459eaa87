//! Shared parts of the benchmarks: the records of an imagined gateway, and the engines that store them.
//!
//! - `table.rs` compares our store with its peers in one process, for the README's table.
//! - `store.rs` compares our store with its earlier versions (criterion).
//! - `day.rs` writes a record a second for a simulated day, and counts the bytes that reach the disk.
//! - `request_path.rs` times an event on the thread that logs it, beside a JSON file.
//! - `retention.rs` measures the cost of limits and of merging.
//! - `redact.rs` measures the cost of redaction.
//! - `query.rs` asks the program one question after another, and measures what summaries cost.
//! - `receive.rs` sends spans to the receiver over HTTP.
//! - `json.rs` reads and writes log lines with our JSON and with `serde_json`.
//!
//! Records follow from a seed, so every engine and every run stores the same ones. The time of the
//! peers begins with the finished NDJSON line, that of our store with the record: only our store pays
//! for encoding.

mod engine;
mod measure;
mod workload;

pub use crate::{
    engine::{Engine, FjallRows, FlatFiles, OurStore, RedbRows, Sqlite},
    measure::{
        Arguments, Table, bench_folder, cpu_time, disk_bytes, gzip_bytes, mebibytes, median,
        per_second, ratio, seconds, time,
    },
    workload::{GatewayLogs, GatewayRecord, SERVERS, server_name},
};
