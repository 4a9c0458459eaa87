//! The cost of redaction for the writer: the same records with and without it, in one run.
//!
//! ```text
//! cargo bench -p gridctl-telemetry-benches --bench redact [-- --quick | --rounds N]
//! ```
//!
//! Each round writes the same records twice, in turns, and measures the processor time of the whole
//! process, which other programs on the machine affect less than the elapsed time.

use anyhow::{Result, ensure};
use gridctl_telemetry::{
    LogRecord, Record, ServerName, Store, StoreOptions, Writer, WriterOptions, redact::Redactor,
};
use gridctl_telemetry_benches::{
    Arguments, GatewayLogs, Table, bench_folder, cpu_time, median, ratio, server_name,
};
use std::time::Duration;

/// Where the benchmark writes.
const FOLDER: &str = env!("CARGO_TARGET_TMPDIR");
const SEED: u64 = 11;
const QUEUE_BYTES_MAX: usize = 256 << 20;

fn main() -> Result<()> {
    let arguments = Arguments::read(&["--quick", "--rounds"])?;
    let quick = arguments.has("--quick");
    let rounds: u64 = arguments.value("--rounds", if quick { 3 } else { 15 })?;
    let records = if quick { 20_000 } else { 100_000 };
    let mut table = Table::new(&["records", "without", "redacted", "ratio", "redaction takes"]);
    for (name, edit) in WORKLOADS {
        let workload = workload(records, *edit)?;
        for (values, registered) in [("", 0), (", 10 values registered", 10)] {
            let (mut plain, mut redacted) = (Vec::new(), Vec::new());
            for round in 0..rounds {
                for turn in 0..2 {
                    if (round + turn) % 2 == 0 {
                        plain.push(write(&workload, None)?);
                    } else {
                        redacted.push(write(&workload, Some(redactor(registered)?))?);
                    }
                }
            }
            let nanos = |times: &[Duration]| -> Result<u64> {
                Ok(u64::try_from(median(times)?.as_nanos())? / u64::try_from(records)?)
            };
            let (plain, redacted) = (nanos(&plain)?, nanos(&redacted)?);
            table.row(vec![
                format!("{name}{values}"),
                format!("{plain} ns a record"),
                format!("{redacted} ns a record"),
                format!("{:.3}x", ratio(redacted, plain)),
                format!("{} ns a record", redacted.saturating_sub(plain)),
            ]);
        }
    }
    println!("{table}");
    Ok(())
}

/// A change to the gateway's records.
type Edit = fn(LogRecord) -> LogRecord;

const WORKLOADS: &[(&str, Edit)] = &[
    ("ordinary records of 250 bytes", |record| record),
    ("with a body of 4 KiB", |record| {
        let body = "GET /v1/items/4711 answered 200 in 12 ms: {\"id\":4711,\"name\":\"a\"}\n";
        record.with("body", body.repeat(61))
    }),
    ("with counted tokens", |record| {
        record.with("input_tokens", 12_i64)
    }),
    ("with a secret", |record| {
        record.with("header", "Authorization: Bearer abcdefgh")
    }),
];

fn workload(records: usize, edit: Edit) -> Result<Vec<(ServerName, Record)>> {
    GatewayLogs::new(SEED)
        .take(records)
        .map(|record| {
            let record = record?;
            Ok((
                server_name(record.server)?,
                Record::Log(edit(record.record)),
            ))
        })
        .collect()
}

fn redactor(registered: usize) -> Result<Redactor> {
    let redactor = Redactor::new();
    let values =
        (0..registered).map(|index| format!("value-{index}-of-the-vault-{:x}", index * 7919));
    redactor.register_values(values)?;
    Ok(redactor)
}

/// The processor time that storing `workload` takes.
fn write(workload: &[(ServerName, Record)], redactor: Option<Redactor>) -> Result<Duration> {
    let folder = bench_folder(FOLDER)?;
    let store = Store::open(folder.path(), "bench", StoreOptions::default())?;
    let options = WriterOptions::default()
        .queue_bytes_max(QUEUE_BYTES_MAX)
        .redactor(redactor);
    let (writer, guard) = Writer::start(&store, options)?;
    let records = workload.to_vec();
    let before = cpu_time();
    for (index, (server, record)) in records.into_iter().enumerate() {
        writer.record(&server, &record)?;
        // The queue is bounded, and a dropped record would cost nothing.
        if index % 10_000 == 9_999 {
            writer.flush()?;
        }
    }
    writer.flush()?;
    let took = cpu_time().saturating_sub(before);
    let stats = writer.stats();
    ensure!(
        stats.stored == stats.offered && stats.stored > 0,
        "{stats:?}"
    );
    guard.close()?;
    Ok(took)
}
