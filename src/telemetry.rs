//! Everything that a daemon links, wired.

use crate::{
    config::{ConfigWarning, TelemetryConfig},
    error::Result,
    ingest::{Writer, WriterGuard, WriterOptions, WriterStats},
    produce::{Accumulator, LogOptions, LogRouter, MetricsFlusher, TraceClient},
    record::ServerName,
    redact::Redactor,
    signal::Signal,
    store::{Store, StoreOptions},
};
use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

/// The telemetry of a running daemon: store, writer, log router, trace client and metrics flusher,
/// set up as a [`TelemetryConfig`] says.
///
/// Put the layer of [`Telemetry::log_router`] into the `tracing` subscriber, give
/// [`Telemetry::trace_client`] to the OpenTelemetry SDK, and record into the [`Accumulator`]. Seed
/// what should go on from history, then [start](MetricsFlusher::start) the flusher. Apply a changed
/// configuration while running; [shut down](Telemetry::shutdown) at the end.
///
/// ```
/// use gridctl_telemetry::{Telemetry, TelemetryConfig, TelemetryOptions, metrics::Accumulator};
/// use std::sync::Arc;
/// use tracing_subscriber::prelude::*;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let home = tempfile::tempdir()?;
/// # let home = home.path();
/// let config: TelemetryConfig = serde_json::from_str(
///     r#"{ "persist": { "logs": true, "metrics": true }, "servers": { "github": {} } }"#,
/// )?;
/// let accumulator = Arc::new(Accumulator::new());
/// let options = TelemetryOptions::default();
/// let (telemetry, warnings) =
///     Telemetry::from_config(home, "my-stack", &config, Arc::clone(&accumulator), options)?;
/// assert!(warnings.is_empty());
/// telemetry.metrics_flusher().seed(telemetry.store(), 10_000)?;
/// telemetry.metrics_flusher().start()?;
///
/// let subscriber = tracing_subscriber::registry().with(telemetry.log_router().layer());
/// tracing::subscriber::with_default(subscriber, || {
///     tracing::info!(component = "github", tool = "search", "tool call completed");
/// });
/// let stats = telemetry.shutdown()?;
/// assert_eq!(stats.stored, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Telemetry {
    store: Store,
    router: LogRouter,
    traces: TraceClient,
    // Before the guard: what it flushes when it is dropped must still find an open writer.
    flusher: MetricsFlusher,
    writer: Writer,
    redactor: Redactor,
    options: TelemetryOptions,
    guard: WriterGuard,
}

/// How a [`Telemetry`] is set up, beside what users configure.
///
/// ```
/// use gridctl_telemetry::{TelemetryOptions, WriterOptions, logs::LogOptions};
/// use std::time::Duration;
///
/// let options = TelemetryOptions::default()
///     .writer(WriterOptions::default().queue_records_max(10_000))
///     .logs(LogOptions::default().level(tracing::Level::DEBUG))
///     .metrics_interval(Duration::from_secs(30));
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct TelemetryOptions {
    store: StoreOptions,
    writer: WriterOptions,
    logs: LogOptions,
    metrics_interval: Duration,
}

impl TelemetryOptions {
    /// How the store is opened.
    pub fn store(mut self, options: StoreOptions) -> TelemetryOptions {
        self.store = options;
        self
    }

    /// How records are queued and committed. Secrets are replaced whatever it says, see
    /// [`Telemetry::redactor`], and how much is kept the configuration says.
    pub fn writer(mut self, options: WriterOptions) -> TelemetryOptions {
        self.writer = options;
        self
    }

    /// How the events of servers are stored.
    pub fn logs(mut self, options: LogOptions) -> TelemetryOptions {
        self.logs = options;
        self
    }

    /// How often counters are stored. Default, and the meaning of zero:
    /// [`MetricsFlusher::INTERVAL_DEFAULT`].
    pub fn metrics_interval(mut self, interval: Duration) -> TelemetryOptions {
        self.metrics_interval = interval;
        self
    }
}

impl Telemetry {
    /// Opens the store of `stack` below `home` and wires everything up. Returns, too, what in
    /// `config` is allowed and probably not meant.
    ///
    /// Fails like [`TelemetryConfig::validate`], before anything is created, and like
    /// [`Store::open`] and [`Writer::start`].
    pub fn from_config(
        home: &Path,
        stack: &str,
        config: &TelemetryConfig,
        accumulator: Arc<Accumulator>,
        options: TelemetryOptions,
    ) -> Result<(Telemetry, Vec<ConfigWarning>)> {
        let warnings = config.validate()?;
        let policy = config.retention_policy()?;
        let store = Store::open(home, stack, options.store.clone())?;
        let redactor = options.writer.redactor_or_default();
        let writer_options = options
            .writer
            .clone()
            .redactor(Some(redactor.clone()))
            .retention(Some(policy));
        let (writer, guard) = Writer::start(&store, writer_options)?;
        let telemetry = Telemetry {
            store,
            router: LogRouter::new(writer.clone()),
            traces: TraceClient::new(writer.clone()),
            flusher: MetricsFlusher::new(accumulator, writer.clone(), options.metrics_interval),
            writer,
            redactor,
            options,
            guard,
        };
        telemetry.route(config)?;
        Ok((telemetry, warnings))
    }

    /// Applies a changed configuration: limits are put in place of the old ones, servers are added
    /// and removed, signals switched on and off. No record of what stays on is lost but for the
    /// limits, and what is stored of what goes off stays stored until it is too old.
    ///
    /// Fails like [`TelemetryConfig::validate`] and like [`Writer::set_retention`], and nothing is
    /// changed then.
    pub fn apply(&self, config: &TelemetryConfig) -> Result<Vec<ConfigWarning>> {
        let warnings = config.validate()?;
        self.writer.set_retention(config.retention_policy()?)?;
        self.route(config)?;
        Ok(warnings)
    }

    /// Adds and removes servers until those of `config` are there.
    fn route(&self, config: &TelemetryConfig) -> Result<()> {
        let change = |signal, configured: Vec<ServerName>, remove: &dyn Fn(&str)| {
            let wanted: BTreeSet<&str> = config.servers_with(signal).collect();
            for server in configured
                .iter()
                .filter(|server| !wanted.contains(server.as_str()))
            {
                remove(server);
            }
            wanted
        };
        let configured = self.router.configured_servers();
        for server in change(Signal::Logs, configured, &|it| {
            self.router.remove_server(it);
        }) {
            self.router.add_server(server, self.options.logs)?;
        }
        let configured = self.traces.configured_servers();
        for server in change(Signal::Traces, configured, &|it| {
            self.traces.remove_server(it);
        }) {
            self.traces.add_server(server)?;
        }
        let configured = self.flusher.configured_servers();
        for server in change(Signal::Metrics, configured, &|it| {
            self.flusher.remove_server(it);
        }) {
            self.flusher.add_server(server)?;
        }
        Ok(())
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The writer, to flush, to wipe, and for what is dropped.
    #[must_use]
    pub fn writer(&self) -> &Writer {
        &self.writer
    }

    /// What replaces secrets before they are stored: register the vault's values here.
    #[must_use]
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// The router of log events.
    #[must_use]
    pub fn log_router(&self) -> &LogRouter {
        &self.router
    }

    /// The client that spans go to.
    #[must_use]
    pub fn trace_client(&self) -> &TraceClient {
        &self.traces
    }

    /// The flusher of counters.
    #[must_use]
    pub fn metrics_flusher(&self) -> &MetricsFlusher {
        &self.flusher
    }

    /// Flushes the counters a last time, stores everything that was offered, ends the threads, and
    /// returns what became of all records.
    ///
    /// Fails with [`Error::NotFlushed`](crate::Error::NotFlushed) when not everything is stored.
    pub fn shutdown(self) -> Result<WriterStats> {
        self.flusher.stop();
        self.guard.close()?;
        Ok(self.writer.stats())
    }
}
