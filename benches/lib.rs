//! What the benchmarks share: the records of an imagined gateway, and the engines that store them.
//!
//! - `table.rs` runs our store and its peers in one process and prints the README's table.
//! - `store.rs` follows our store alone, from one version to the next (criterion).
//! - `day.rs` writes a day's trickle on a simulated clock and counts what reaches the disk.
//! - `request_path.rs` times what an event costs the thread that logs it, beside a JSON file.
//! - `redact.rs` writes the same records with and without redaction.
//! - `json.rs` reads and writes log lines with our JSON and with `serde_json`.
//!
//! Records follow from a seed, so every engine and every run sees the same ones. What is timed for
//! the peers begins with the finished NDJSON line; for our store it begins with the record, so it
//! alone pays for its encoding.

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
