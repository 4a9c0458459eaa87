//! The entry point of a daemon: opens the store and sets up all producers.

use crate::{
    config::{ConfigWarning, TelemetryConfig},
    error::{Error, Result},
    ingest::{Writer, WriterGuard, WriterOptions, WriterStats},
    produce::{Accumulator, LogOptions, LogRouter, MetricsFlusher, OtlpWriter, TraceClient},
    record::ServerName,
    redact::Redactor,
    signal::Signal,
    store::{SetAsideNote, Store, StoreOptions},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// The telemetry of a running daemon: store, writer, log router, trace client and metrics flusher,
/// set up from a [`TelemetryConfig`].
///
/// Add the layer of [`Telemetry::log_router`] to the `tracing` subscriber, pass
/// [`Telemetry::trace_client`] to the OpenTelemetry SDK, and record into the [`Accumulator`]. Seed
/// the counters that continue from history, then [start](MetricsFlusher::start) the flusher.
/// [Apply](Telemetry::apply) a changed configuration at any time, and [shut
/// down](Telemetry::shutdown) at the end.
///
/// ```
/// use gridctl_telemetry::{
///     Telemetry, TelemetryConfig, TelemetryOptions, metrics::Accumulator, query::SeedRange,
/// };
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
/// telemetry.metrics_flusher().seed(telemetry.store(), SeedRange::default())?;
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
    otlp: OtlpWriter,
    // Declared before the guard: the flusher stores a last snapshot when it is dropped, which needs
    // an open writer.
    flusher: MetricsFlusher,
    writer: Writer,
    redactor: Redactor,
    options: TelemetryOptions,
    /// The servers that the last configuration had added, of each signal.
    applied: Mutex<BTreeMap<Signal, BTreeSet<String>>>,
    closing: Mutex<Closing>,
}

/// How far the shutdown is.
#[derive(Debug)]
enum Closing {
    Open(WriterGuard),
    /// Why not all records were stored; `None` when they were.
    Closed(Option<String>),
}

/// Some records were not stored before the [shutdown](Telemetry::shutdown).
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
#[non_exhaustive]
pub struct ShutdownError {
    /// The final statistics.
    pub stats: Box<WriterStats>,
    /// Why the records were not stored.
    #[source]
    pub error: Error,
}

/// The options of a [`Telemetry`] that are not part of the user's configuration.
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
    unrouted_server: Option<ServerName>,
    metrics_interval: Duration,
}

impl TelemetryOptions {
    /// Sets how the store is opened.
    pub fn store(mut self, options: StoreOptions) -> TelemetryOptions {
        self.store = options;
        self
    }

    /// Sets how records are queued and committed. Secrets are redacted even if `options` has no
    /// redactor, see [`Telemetry::redactor`]; the limits come from the configuration.
    pub fn writer(mut self, options: WriterOptions) -> TelemetryOptions {
        self.writer = options;
        self
    }

    /// Sets how the log events of servers are stored.
    pub fn logs(mut self, options: LogOptions) -> TelemetryOptions {
        self.logs = options;
        self
    }

    /// Sets the server that stores its own log events and all those that name no configured server,
    /// such as the events of the daemon itself, and likewise the log records and metrics of OTLP
    /// messages. It stores them while the configuration has the signal on: for this server if it is
    /// listed, else for the stack. Default: none.
    pub fn unrouted_server(mut self, server: ServerName) -> TelemetryOptions {
        self.unrouted_server = Some(server);
        self
    }

    /// Sets how often the counters are stored. Zero means the default,
    /// [`MetricsFlusher::INTERVAL_DEFAULT`].
    pub fn metrics_interval(mut self, interval: Duration) -> TelemetryOptions {
        self.metrics_interval = interval;
        self
    }
}

impl Telemetry {
    /// Opens the store of `stack` below `home` and sets up all producers. A database that cannot be opened
    /// is set aside, and a new one begins: see [`StoreOptions::set_aside_damaged`]. Also returns a warning
    /// of that, and the warnings
    /// of [`TelemetryConfig::validate`], and those of [`Store::would_delete`] as of before the
    /// configuration took effect. To decide before that, call [`Store::would_delete`] first.
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
        let mut warnings = config.validate()?;
        let policy = config.retention_policy()?;
        let store_options = options.store.clone().set_aside_damaged(true);
        let store = Store::open(home, stack, store_options)?;
        // A database that cannot be read to the end must not keep a daemon from starting.
        warnings.extend(store.would_delete(&policy).unwrap_or_default());
        let redactor = options.writer.redactor_or_default();
        let writer_options = options
            .writer
            .clone()
            .redactor(Some(redactor.clone()))
            .retention(Some(policy));
        let (writer, guard) = Writer::start(&store, writer_options)?;
        warnings.extend(store.set_aside_notes().into_iter().map(|note| {
            let SetAsideNote { path, reason, .. } = note;
            ConfigWarning::DatabaseSetAside { path, reason }
        }));
        let otlp = OtlpWriter::new(writer.clone());
        otlp.set_unrouted_server(options.unrouted_server.clone());
        let telemetry = Telemetry {
            store,
            router: LogRouter::new(writer.clone()),
            traces: TraceClient::over(otlp.clone()),
            otlp,
            flusher: MetricsFlusher::new(accumulator, writer.clone(), options.metrics_interval),
            writer,
            redactor,
            options,
            applied: Mutex::default(),
            closing: Mutex::new(Closing::Open(guard)),
        };
        telemetry.route(config)?;
        Ok((telemetry, warnings))
    }

    /// Applies a changed configuration: replaces the limits, adds and removes servers, and turns
    /// signals on and off. Signals that stay on lose no records, except to the new limits. Stored
    /// records of signals that are turned off are kept until they expire.
    ///
    /// What the configuration does not mention is kept: the log level of a server that has no
    /// `log_level`, and servers that the program itself added to the producers.
    ///
    /// Returns the warnings of [`Telemetry::check`] as of before the configuration took effect.
    /// Fails like [`TelemetryConfig::validate`] and [`Writer::set_retention`], without changing
    /// anything.
    pub fn apply(&self, config: &TelemetryConfig) -> Result<Vec<ConfigWarning>> {
        let mut warnings = config.validate()?;
        let policy = config.retention_policy()?;
        // As in `from_config`.
        warnings.extend(self.store.would_delete(&policy).unwrap_or_default());
        self.writer.set_retention(policy)?;
        self.route(config)?;
        Ok(warnings)
    }

    /// The warnings about a configuration that is not applied: those of
    /// [`TelemetryConfig::validate`], and what its limits would delete.
    ///
    /// Fails like [`TelemetryConfig::validate`] and [`Store::would_delete`].
    pub fn check(&self, config: &TelemetryConfig) -> Result<Vec<ConfigWarning>> {
        let mut warnings = config.validate()?;
        warnings.extend(self.store.would_delete(&config.retention_policy()?)?);
        Ok(warnings)
    }

    /// Adds and removes servers to match `config`. A server that neither this configuration nor the
    /// last one mentions was added by the program, and stays.
    fn route(&self, config: &TelemetryConfig) -> Result<()> {
        let applied = self.applied.lock();
        let mut applied = applied.unwrap_or_else(PoisonError::into_inner);
        let mut change = |signal: Signal, wanted: &BTreeSet<&str>, remove: &dyn Fn(&str)| {
            let wanted: BTreeSet<String> = wanted.iter().copied().map(str::to_owned).collect();
            let before = applied.insert(signal, wanted.clone()).unwrap_or_default();
            let mentioned = before.iter().chain(config.servers.keys());
            for server in mentioned.filter(|server| !wanted.contains(*server)) {
                remove(server);
            }
        };
        let unrouted = self.unrouted_server(config, Signal::Logs);
        let mut wanted: BTreeSet<&str> = config.servers_with(Signal::Logs).collect();
        wanted.extend(unrouted);
        change(Signal::Logs, &wanted, &|server| {
            self.router.remove_server(server);
            self.otlp.remove_server(server, Signal::Logs);
        });
        for server in wanted {
            let mut options = self.router.options(server).unwrap_or(self.options.logs);
            if let Some(level) = config.log_level(server) {
                options = options.level(level);
            }
            self.otlp.add_server(server, Signal::Logs)?;
            if Some(server) == unrouted {
                self.router.add_unrouted_server(server, options)?;
            } else {
                self.router.add_server(server, options)?;
            }
        }
        let wanted = config.servers_with(Signal::Traces).collect();
        change(Signal::Traces, &wanted, &|server| {
            self.traces.remove_server(server);
        });
        for server in wanted {
            self.traces.add_server(server)?;
        }
        let wanted = config.servers_with(Signal::Metrics).collect();
        change(Signal::Metrics, &wanted, &|server| {
            self.flusher.remove_server(server);
            self.otlp.remove_server(server, Signal::Metrics);
        });
        for server in wanted {
            self.flusher.add_server(server)?;
            self.otlp.add_server(server, Signal::Metrics)?;
        }
        if let Some(server) = self.unrouted_server(config, Signal::Metrics) {
            self.otlp.add_server(server, Signal::Metrics)?;
        } else if let Some(server) = &self.options.unrouted_server {
            self.otlp.remove_server(server, Signal::Metrics);
        }
        Ok(())
    }

    /// The server for unrouted records, unless `config` has its `signal` off.
    fn unrouted_server(&self, config: &TelemetryConfig, signal: Signal) -> Option<&str> {
        let server = self.options.unrouted_server.as_deref()?;
        let is_on = if config.servers.contains_key(server) {
            config.persists(server, signal)
        } else {
            match signal {
                Signal::Logs => config.persist.logs,
                Signal::Metrics => config.persist.metrics,
                Signal::Traces => config.persist.traces,
            }
        };
        is_on.then_some(server)
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The writer, for flushing, wiping and the number of dropped records.
    #[must_use]
    pub fn writer(&self) -> &Writer {
        &self.writer
    }

    /// The redactor, which replaces secrets before records are stored. Register the vault's values
    /// here.
    #[must_use]
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// The router of log events.
    #[must_use]
    pub fn log_router(&self) -> &LogRouter {
        &self.router
    }

    /// The client that stores spans.
    #[must_use]
    pub fn trace_client(&self) -> &TraceClient {
        &self.traces
    }

    /// The writer of OTLP messages, for exporters of the OpenTelemetry SDK and for receivers. It stores
    /// the signals that the configuration has on, and shares its servers of spans with
    /// [`Telemetry::trace_client`].
    #[must_use]
    pub fn otlp_writer(&self) -> &OtlpWriter {
        &self.otlp
    }

    /// The flusher that stores snapshots of the counters.
    #[must_use]
    pub fn metrics_flusher(&self) -> &MetricsFlusher {
        &self.flusher
    }

    /// Stores a last snapshot of the counters and all queued records, ends the threads, and returns
    /// the final statistics. Records that are offered later are refused and counted.
    ///
    /// It may be called any number of times, also at the same time: later calls wait for the first
    /// one and answer like it. An OpenTelemetry provider that exports to this telemetry may be shut
    /// down before or after; spans that it still holds are only stored if that happens before.
    ///
    /// Fails with [`Error::NotFlushed`] when not all records could be stored. If they could be
    /// written to the file beside the database, they wait there for the next process that opens the
    /// database to write, and the statistics count them as queued. If not, they are counted as
    /// dropped, and entered in the ledger with the room of the reserve for a full disk.
    pub fn shutdown(&self) -> Result<WriterStats, ShutdownError> {
        self.flusher.stop();
        let mut closing = self.closing.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = match std::mem::replace(&mut *closing, Closing::Closed(None)) {
            Closing::Open(guard) => guard.close(),
            Closing::Closed(None) => Ok(()),
            Closing::Closed(Some(reason)) => Err(Error::NotFlushed {
                reason,
                source: None,
            }),
        };
        let stats = self.writer.stats();
        outcome.map(|()| stats.clone()).map_err(|error| {
            let reason = match &error {
                Error::NotFlushed { reason, .. } => reason.clone(),
                other => other.to_string(),
            };
            *closing = Closing::Closed(Some(reason));
            ShutdownError {
                stats: Box::new(stats),
                error,
            }
        })
    }
}
