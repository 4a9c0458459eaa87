//! A whole daemon: a gateway that calls tools of its servers, and stores their logs, metrics and
//! traces until it is interrupted.
//!
//! ```sh
//! cargo run --example daemon -p gridctl-telemetry-tools
//! cargo run --example daemon -p gridctl-telemetry-tools -- --home /tmp/home --calls 100
//! ```
//!
//! While it runs, `gridctl-telemetry --home … status` and `tail` show what it stores.

use anyhow::Context;
use clap::Parser;
use gridctl_telemetry::{
    LogRecord, Query, ServerName, Signal, Store, Telemetry, TelemetryConfig, TelemetryOptions,
    Timestamp,
    external::opentelemetry_sdk::{Resource, trace::SdkTracerProvider},
    home::home_in,
    logs::LogOptions,
    metrics::{Accumulator, Attribution, CostUsd},
    query::SeedRange,
    traces::TelemetrySpanExporter,
};
use opentelemetry::trace::TracerProvider as _;
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};
use std::{
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    time::Duration,
};
use tracing::field;
use tracing_subscriber::prelude::*;

/// The configuration, which a user would write in a file.
const CONFIG: &str = r#"{
    "persist": { "logs": true, "metrics": true, "traces": true },
    "retention": { "max_age_days": 7 },
    "max_total_mb": 512,
    "servers": {
        "github": {},
        "postgres": { "retention": { "max_size_mb": 10, "max_backups": 1 } }
    }
}"#;

const STACK: &str = "example";

#[derive(Debug, Parser)]
struct Args {
    /// The folder that replaces the home of the user, an absolute path [default: a temporary folder,
    /// deleted at the end]
    #[arg(long)]
    home: Option<PathBuf>,
    /// End after this number of calls [default: run until interrupted]
    #[arg(long)]
    calls: Option<u64>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let temporary = tempfile::tempdir()?;
    let home = home_in(args.home.as_deref().unwrap_or(temporary.path()))?;

    // An interrupt ends the loop below, so that the daemon shuts down in order.
    let (stop, stopped) = mpsc::channel();
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot handle interrupts")?;
    std::thread::spawn(move || {
        for _ in signals.forever() {
            // A loop that has ended already has dropped the receiver.
            let _ = stop.send(());
        }
    });

    // One call opens the database and starts the thread that writes to it.
    let config: TelemetryConfig = serde_json::from_str(CONFIG)?;
    let accumulator = Arc::new(Accumulator::new());
    let options = TelemetryOptions::default()
        .logs(LogOptions::default().level(tracing::Level::DEBUG))
        .metrics_interval(Duration::from_secs(10));
    let (telemetry, warnings) =
        Telemetry::from_config(&home, STACK, &config, Arc::clone(&accumulator), options)?;
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
    println!("stores to {}", telemetry.store().path().display());

    // Secrets that the redaction rules cannot recognise, registered before the first event.
    telemetry.redactor().register_values(["vault-7c1e55d2"])?;

    // Spans come from `tracing` through the OpenTelemetry SDK. The field `component` of a span names the
    // server of its trace, and of its log events.
    let provider = SdkTracerProvider::builder()
        .with_resource(
            Resource::builder_empty()
                .with_service_name("gateway")
                .build(),
        )
        .with_batch_exporter(TelemetrySpanExporter::new(telemetry.trace_client().clone()))
        .build();

    // Log events come from `tracing`. The field `component` of an event, or of a span around it,
    // names its server. A daemon adds its own layers, such as one for the terminal.
    tracing_subscriber::registry()
        .with(telemetry.log_router().layer())
        .with(tracing_opentelemetry::layer().with_tracer(provider.tracer("gateway")))
        .init();

    // Totals continue where the last run ended, and the buffers of a user interface are filled.
    let flusher = telemetry.metrics_flusher();
    flusher.seed(telemetry.store(), SeedRange::default())?;
    flusher.start()?;
    let history = telemetry.store().seed_logs(1000)?;
    println!("{} log records from earlier runs", history.records.len());

    let mut number = 0;
    while args.calls.is_none_or(|calls| number < calls) {
        call_a_tool(&accumulator, number)?;
        number += 1;
        match stopped.recv_timeout(Duration::from_millis(20)) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
        }
    }

    // A daemon would answer a web request with these: they have JSON.
    provider.force_flush()?;
    flusher.flush(Timestamp::now());
    telemetry.writer().flush()?;
    let snapshot = telemetry.store().snapshot()?;
    println!(
        "{}",
        serde_json::to_string_pretty(&snapshot.inventory(None)?)?
    );
    drop(snapshot);
    show_a_trace(telemetry.store())?;
    let space = telemetry.store().space()?;
    println!("{}", serde_json::to_string_pretty(&space)?);

    // First the producer of spans, then everything else: the rest of the queue is stored.
    provider.shutdown()?;
    let stats = telemetry.shutdown()?;
    println!(
        "{number} calls: {} records stored, {} dropped",
        stats.stored,
        stats.dropped_total()
    );
    Ok(())
}

/// Prints the last log record and its span: the router stores the ids of the span that an event is in.
fn show_a_trace(store: &Store) -> anyhow::Result<()> {
    let mut last = store.last(&Query::new(Signal::Logs), 1)?;
    let log = last.pop().and_then(|stored| stored.record.into_log());
    let Some(trace_id) = log.as_ref().and_then(LogRecord::trace_id) else {
        return Ok(());
    };
    let spans = store.last(&Query::new(Signal::Traces), 1000)?;
    let span = (spans.into_iter())
        .filter_map(|stored| stored.record.into_span())
        .find(|record| {
            let id = <[u8; 16]>::try_from(record.span.trace_id.as_slice());
            id.is_ok_and(|id| format!("{:032x}", u128::from_be_bytes(id)) == trace_id)
        });
    if let (Some(log), Some(record)) = (&log, span) {
        println!(
            "trace {trace_id}: the log record {:?} in the span {:?}",
            log.message, record.span.name
        );
    }
    Ok(())
}

/// A tool call of a gateway: a span, some events, counters.
fn call_a_tool(accumulator: &Accumulator, number: u64) -> anyhow::Result<()> {
    let server = if number.is_multiple_of(3) {
        "postgres"
    } else {
        "github"
    };
    let span = tracing::info_span!(
        "tools/call",
        component = server,
        otel.status_code = field::Empty,
    );
    let _entered = span.enter();
    tracing::debug!(number, "calling the tool");
    let cost = CostUsd {
        input: 0.000_3,
        output: 0.000_9,
        ..CostUsd::default()
    };
    let name = ServerName::new(server)?;
    let by = Attribution::new(&name).client("session-1").tool("search");
    let now = Timestamp::now();
    accumulator.record_call(by, now);
    accumulator.record_tokens(by, 100, 60, now);
    accumulator.record_cost_usd(by, cost, now);
    if number % 10 == 9 {
        span.record("otel.status_code", "ERROR");
        tracing::error!(url = "https://vault/vault-7c1e55d2", "the tool failed");
    } else {
        tracing::info!(input_tokens = 100, output_tokens = 60, "the tool answered");
    }
    Ok(())
}
