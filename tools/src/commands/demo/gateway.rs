//! The gateway of the demo, with three servers.

use gridctl_telemetry::{
    ServerName, Telemetry, TelemetryConfig, TelemetryOptions, Timestamp,
    ingest::WriterStats,
    metrics::{Accumulator, Attribution},
    query::SeedRange,
    record::CostCounts,
    traces::TelemetrySpanExporter,
};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use std::{
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tracing::{Dispatch, dispatcher, field};
use tracing_subscriber::prelude::*;

/// Secrets that must never reach the disk: one in a message, one under the key of a secret, one that
/// is registered, one in a span's status.
pub(super) const SECRETS: [&str; 4] = [
    "sk-demo-5fd1c09a",
    "hunter2-demo",
    "vault-demo-7c1e55d2",
    "ghp-demo-33b1f0aa",
];
const VAULT_SECRET: &str = SECRETS[2];

const CONFIG: &str = r#"{
    "persist": { "logs": true, "metrics": true, "traces": true },
    "servers": { "github": {}, "postgres": {}, "slack": {} }
}"#;

/// The server and name of each tool, and the duration of its calls, in milliseconds.
const TOOLS: [(&str, &str, u64); 6] = [
    ("github", "search_issues", 12),
    ("postgres", "query", 4),
    ("github", "get_file", 7),
    ("slack", "post_message", 9),
    ("postgres", "explain", 3),
    ("slack", "list_channels", 6),
];

pub(super) struct Gateway {
    telemetry: Telemetry,
    accumulator: Arc<Accumulator>,
    provider: SdkTracerProvider,
    subscriber: Dispatch,
}

/// The number of tool calls.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Calls {
    pub(super) total: u64,
    pub(super) failed: u64,
}

/// What a restarted gateway has restored.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seeded {
    pub(super) logs: usize,
    pub(super) traces: usize,
    pub(super) failed_traces: usize,
    pub(super) servers: usize,
    pub(super) tokens: i64,
}

impl Gateway {
    pub(super) fn start(home: &Path, stack: &str) -> anyhow::Result<Gateway> {
        let config: TelemetryConfig = serde_json::from_str(CONFIG)?;
        let accumulator = Arc::new(Accumulator::new());
        let options = TelemetryOptions::default().metrics_interval(Duration::from_secs(1));
        let (telemetry, warnings) =
            Telemetry::from_config(home, stack, &config, Arc::clone(&accumulator), options)?;
        for warning in warnings {
            crate::output::note(&warning.to_string());
        }
        telemetry.redactor().register_value(VAULT_SECRET)?;
        telemetry
            .metrics_flusher()
            .seed(telemetry.store(), SeedRange::default())?;
        telemetry.metrics_flusher().start()?;
        let provider = SdkTracerProvider::builder()
            .with_resource(
                Resource::builder_empty()
                    .with_service_name("demo-gateway")
                    .build(),
            )
            .with_batch_exporter(TelemetrySpanExporter::new(telemetry.trace_client().clone()))
            .build();
        let subscriber = tracing_subscriber::registry()
            .with(telemetry.log_router().layer())
            .with(tracing_opentelemetry::layer().with_tracer(provider.tracer("gateway")));
        Ok(Gateway {
            telemetry,
            accumulator,
            provider,
            subscriber: Dispatch::new(subscriber),
        })
    }

    /// Calls tools for this long, and `look` once a second.
    pub(super) fn serve(
        &self,
        duration: Duration,
        mut look: impl FnMut(Duration) -> anyhow::Result<()>,
    ) -> anyhow::Result<Calls> {
        let started = Instant::now();
        let mut looks = 0;
        let mut calls = Calls::default();
        while started.elapsed() < duration {
            let failed = dispatcher::with_default(&self.subscriber, || self.call(calls.total));
            calls.total += 1;
            calls.failed += u64::from(failed);
            if started.elapsed().as_secs() > looks {
                looks = started.elapsed().as_secs();
                look(started.elapsed())?;
            }
        }
        Ok(calls)
    }

    /// Calls a tool. Returns whether the call failed.
    fn call(&self, number: u64) -> bool {
        let index = usize::try_from(number).unwrap_or(0) % TOOLS.len();
        let Some((server, tool, millis)) = TOOLS.get(index).copied() else {
            return false;
        };
        let failed = number % 23 == 7;
        let session = format!("session-{}", number % 5);
        let span = tracing::info_span!(
            "tools/call",
            component = server,
            server.name = server,
            tool,
            session,
            otel.status_code = field::Empty,
            otel.status_description = field::Empty,
        );
        let _entered = span.enter();
        tracing::info!(attempt = 1, "calling the tool");
        if number % 31 == 3 {
            tracing::warn!(
                password = SECRETS[1],
                url = format!("https://vault/{VAULT_SECRET}"),
                "retrying with Authorization: Bearer {}",
                SECRETS[0]
            );
        }
        wait_for_server(server, millis);
        let (input, output) = (40 + number % 60, 25);
        if let Ok(name) = ServerName::new(server) {
            let by = Attribution::new(&name).client(session.as_str()).tool(tool);
            let now = Timestamp::now();
            self.accumulator.record_call(by, now);
            self.accumulator.record_tokens(by, input, output, now);
            let cost = CostCounts {
                input_micro_usd: i64::try_from(input * 3).unwrap_or(0),
                output_micro_usd: i64::try_from(output * 15).unwrap_or(0),
                ..CostCounts::default()
            };
            self.accumulator.record_cost(by, cost, now);
        }
        if failed {
            span.record("otel.status_code", "ERROR");
            span.record(
                "otel.status_description",
                format!("denied: token={}", SECRETS[3]),
            );
            tracing::error!(
                duration_ms = millis,
                error = "denied by the server",
                "tool call failed"
            );
        } else {
            tracing::info!(
                duration_ms = millis,
                input_tokens = input,
                output_tokens = output,
                "tool call completed"
            );
        }
        failed
    }

    /// Restores the buffers of a gateway that has just started.
    pub(super) fn seed(&self) -> anyhow::Result<Seeded> {
        let store = self.telemetry.store();
        let logs = store.seed_logs(1000)?.records;
        let traces = store.seed_traces(500)?.records;
        let totals = self.accumulator.snapshot().servers;
        Ok(Seeded {
            logs: logs.len(),
            traces: traces.len(),
            failed_traces: traces.iter().filter(|trace| trace.is_error).count(),
            servers: totals.len(),
            tokens: totals.values().map(|counts| counts.total_tokens).sum(),
        })
    }

    /// Shuts down as a daemon does: every record is stored.
    pub(super) fn stop(self) -> anyhow::Result<WriterStats> {
        self.provider.shutdown()?;
        Ok(self.telemetry.shutdown()?)
    }
}

/// Waits as long as the server behind the gateway takes to answer, in a span of its own.
fn wait_for_server(server: &'static str, millis: u64) {
    let span = tracing::info_span!(
        "upstream request",
        otel.kind = "client",
        server.name = server,
        bytes = 512 + millis * 97,
    );
    let _entered = span.enter();
    thread::sleep(Duration::from_millis(millis));
}
