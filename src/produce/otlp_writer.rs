//! Stores OTLP messages: the one way in for the SDK's exporters and for receivers.

use super::OtlpMessage;
use crate::{
    error::Result,
    ingest::{DropCause, Writer},
    lines::{json::value_text, otlp_json::keep_foreign},
    otlp::{
        FoundMetric, SERVER_NAME, SnapshotReader, foreign::data_points, log_from_otlp, said_server,
        said_service, server_names, text_attribute,
    },
    record::{MetricsSnapshot, ServerName, SpanRecord},
    signal::Signal,
    time::Timestamp,
};
use opentelemetry_proto::tonic::{
    common::v1::{InstrumentationScope, KeyValue},
    logs::v1::{LogRecord as OtlpLogRecord, ResourceLogs},
    metrics::v1::{ResourceMetrics, ScopeMetrics},
    resource::v1::Resource,
    trace::v1::ResourceSpans,
};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

/// Stores OTLP messages of any signal, whoever sends them: an exporter of the OpenTelemetry SDK, or a
/// receiver that a daemon has.
///
/// Each record goes to the first configured server that it names:
///
/// | record | its names, in order |
/// |---|---|
/// | log record | its attributes `component`, `server` and `server.name`, then `server.name` and `service.name` of its resource |
/// | metric | `server.name` and `service.name` of its resource |
/// | span | its attributes `server.name` and `component` |
///
/// A log record or metric that names no configured server goes to the [server for unrouted
/// records](OtlpWriter::set_unrouted_server), if there is one. A writer that [takes any
/// server](OtlpWriter::set_takes_any_server) needs no configured ones. The records are those that an import
/// of the same message stores: metrics of other programs are kept whole.
///
/// A writer is a handle: clones share their servers. No method waits for the disk except
/// [`OtlpWriter::flush`].
///
/// ```
/// use gridctl_telemetry::{
///     Signal, external::opentelemetry_proto::tonic::logs::v1::LogsData, receive::OtlpWriter,
/// };
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let home = tempfile::tempdir()?;
/// # let store = gridctl_telemetry::Store::open(home.path(), "s", Default::default())?;
/// # let (writer, guard) = gridctl_telemetry::Writer::start(&store, Default::default())?;
/// let otlp = OtlpWriter::new(writer.clone());
/// otlp.add_server("github", Signal::Logs)?;
/// let outcome = otlp.store(LogsData::default()); // what a receiver decoded
/// assert_eq!((outcome.accepted, outcome.rejected_total()), (0, 0));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct OtlpWriter {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    writer: Writer,
    /// Replaced as a whole, so that a message uses the same servers from start to end.
    servers: RwLock<Arc<Servers>>,
}

#[derive(Debug, Clone, Default)]
struct Servers {
    by_signal: BTreeMap<Signal, BTreeSet<ServerName>>,
    unrouted: Option<ServerName>,
    takes_any: bool,
}

/// The attributes that may name the server of a log record, in order.
const LOG_KEYS: [&str; 3] = ["component", "server", SERVER_NAME];

/// What became of a message. Records are counted as OTLP's partial success counts them: log records,
/// data points, spans.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct OtlpOutcome {
    /// The number of records in the writer's queue.
    pub accepted: u64,
    /// The number of other records for each reason that occurred.
    pub rejected: Vec<(OtlpReason, u64)>,
}

/// Why a record of a message is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OtlpReason {
    /// It names no server.
    WithoutServer,
    /// None of the servers that it names is configured.
    NotConfigured,
    /// It is telemetry's own log record (`subsystem="telemetry"`): storing it could cause new ones
    /// without end.
    Own,
    /// Its values are nested too deep to be stored.
    TooDeep,
    /// The writer refused it, and has counted it.
    Dropped(DropCause),
}

impl fmt::Display for OtlpReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OtlpReason::WithoutServer => "the record names no server",
            OtlpReason::NotConfigured => "the server of the record is not configured",
            OtlpReason::Own => "telemetry does not store its own log records",
            OtlpReason::TooDeep => "the record is nested too deep",
            OtlpReason::Dropped(cause) => return fmt::Display::fmt(cause, f),
        })
    }
}

impl OtlpOutcome {
    /// The number of records that are not stored.
    #[must_use]
    pub fn rejected_total(&self) -> u64 {
        self.rejected.iter().map(|(_, count)| count).sum()
    }

    /// The number of records that are not stored for `reason`.
    #[must_use]
    pub fn rejected_for(&self, reason: OtlpReason) -> u64 {
        let found = self.rejected.iter().find(|(other, _)| *other == reason);
        found.map_or(0, |(_, count)| *count)
    }

    /// Adds what became of another part of the message.
    pub fn add(&mut self, other: OtlpOutcome) {
        self.accepted += other.accepted;
        for (reason, records) in other.rejected {
            self.reject(reason, records);
        }
    }

    fn count(&mut self, outcome: Result<(), OtlpReason>, records: u64) {
        match outcome {
            Ok(()) => self.accepted += records,
            Err(reason) => self.reject(reason, records),
        }
    }

    fn reject(&mut self, reason: OtlpReason, records: u64) {
        match self.rejected.iter_mut().find(|(other, _)| *other == reason) {
            Some((_, count)) => *count += records,
            None => self.rejected.push((reason, records)),
        }
    }
}

impl OtlpWriter {
    /// A writer without servers that stores through `writer`.
    #[must_use]
    pub fn new(writer: Writer) -> OtlpWriter {
        OtlpWriter {
            shared: Arc::new(Shared {
                writer,
                servers: RwLock::default(),
            }),
        }
    }

    /// Stores the records of `signal` of `server` from now on.
    ///
    /// Fails with [`Error::InvalidServerName`](crate::Error::InvalidServerName).
    pub fn add_server(&self, server: impl AsRef<str>, signal: Signal) -> Result<()> {
        let server = ServerName::new(server)?;
        self.change(|servers| {
            servers.by_signal.entry(signal).or_default().insert(server);
        });
        Ok(())
    }

    /// Stops storing the records of `signal` of `server`. Stored records are kept.
    pub fn remove_server(&self, server: &str, signal: Signal) {
        self.change(|servers| {
            servers.by_signal.entry(signal).or_default().remove(server);
        });
    }

    /// Sets the server of log records and metrics that name no configured one; it takes those of the
    /// signals that it is configured for. Default: none.
    pub fn set_unrouted_server(&self, server: Option<ServerName>) {
        self.change(|servers| servers.unrouted = server);
    }

    /// Stores the records of every server from now on, configured or not. A record then
    /// belongs to the server that it names in its attribute `server.name`, else its resource in `server.name`,
    /// else in `service.name`; attributes that only gridctl gives a meaning are not looked at. Default: only
    /// those of configured servers.
    pub fn set_takes_any_server(&self, takes_any: bool) {
        self.change(|servers| servers.takes_any = takes_any);
    }

    /// The servers whose records of `signal` are stored, sorted.
    #[must_use]
    pub fn configured_servers(&self, signal: Signal) -> Vec<ServerName> {
        let servers = self.servers();
        let configured = servers.by_signal.get(&signal).into_iter().flatten();
        configured.cloned().collect()
    }

    /// Stops storing the records of `signal` of all servers. The writer can still be used.
    pub fn close(&self, signal: Signal) {
        self.change(|servers| _ = servers.by_signal.remove(&signal));
    }

    /// Offers the records of a message to the writer.
    pub fn store(&self, message: impl Into<OtlpMessage>) -> OtlpOutcome {
        // Read once for the message, because the servers may change while it is encoded.
        let servers = self.servers();
        let mut outcome = OtlpOutcome::default();
        match message.into() {
            OtlpMessage::Logs(data) => {
                for resource_logs in data.resource_logs {
                    self.store_logs(&servers, resource_logs, &mut outcome);
                }
            }
            OtlpMessage::Metrics(data) => {
                for resource_metrics in data.resource_metrics {
                    self.store_metrics(&servers, resource_metrics, &mut outcome);
                }
            }
            OtlpMessage::Traces(data) => {
                for resource_spans in data.resource_spans {
                    self.store_spans(&servers, resource_spans, &mut outcome);
                }
            }
        }
        outcome
    }

    /// Waits until all records accepted before are on the disk. Fails like [`Writer::flush`].
    pub fn flush(&self) -> Result<()> {
        self.shared.writer.flush()
    }

    fn store_logs(
        &self,
        servers: &Servers,
        resource_logs: ResourceLogs,
        outcome: &mut OtlpOutcome,
    ) {
        let resource = resource_logs.resource.as_ref();
        for scope_logs in resource_logs.scope_logs {
            let scope = scope_logs.scope.as_ref();
            for record in scope_logs.log_records {
                outcome.count(self.store_log(servers, record, resource, scope), 1);
            }
        }
    }

    fn store_log(
        &self,
        servers: &Servers,
        record: OtlpLogRecord,
        resource: Option<&Resource>,
        scope: Option<&InstrumentationScope>,
    ) -> Result<(), OtlpReason> {
        let text = |key| text_attribute(&record.attributes, key);
        if text("subsystem") == Some("telemetry") {
            return Err(OtlpReason::Own);
        }
        let names = LOG_KEYS.into_iter().filter_map(text);
        let names = names.chain(names_of(resource));
        let server = servers.find(Signal::Logs, names, &record.attributes, resource)?;
        let found = log_from_otlp(record, resource, scope, Some(&server), value_text);
        let mut record = found.record;
        if !found.has_time {
            record.timestamp = Timestamp::now();
        }
        let stored = self.shared.writer.log(&server, &record);
        stored.map_err(OtlpReason::Dropped)
    }

    fn store_metrics(
        &self,
        servers: &Servers,
        resource_metrics: ResourceMetrics,
        outcome: &mut OtlpOutcome,
    ) {
        let resource = resource_metrics.resource;
        let resource_ref = resource.as_ref();
        let server = servers.find(Signal::Metrics, names_of(resource_ref), &[], resource_ref);
        for scope_metrics in resource_metrics.scope_metrics {
            let mut snapshots = SnapshotReader::default();
            let mut store = |snapshot: Result<MetricsSnapshot, OtlpReason>, points| {
                let stored = match &server {
                    Ok(server) => snapshot.and_then(|snapshot| {
                        let stored = self.shared.writer.metrics(server, &snapshot);
                        stored.map_err(OtlpReason::Dropped)
                    }),
                    Err(reason) => Err(*reason),
                };
                outcome.count(stored, points);
            };
            for metric in scope_metrics.metrics {
                snapshots.next(metric, |found| match found {
                    FoundMetric::Snapshot(snapshot) => {
                        let points = points_of(&snapshot);
                        store(Ok(snapshot), points);
                    }
                    FoundMetric::Foreign(metric) => {
                        let points = data_points(&metric);
                        let message = ResourceMetrics {
                            resource: resource.clone(),
                            schema_url: resource_metrics.schema_url.clone(),
                            scope_metrics: vec![ScopeMetrics {
                                scope: scope_metrics.scope.clone(),
                                schema_url: scope_metrics.schema_url.clone(),
                                metrics: vec![metric],
                            }],
                        };
                        let kept = keep_foreign(&message).map_err(|_| OtlpReason::TooDeep);
                        store(kept, points);
                    }
                });
            }
            if let Some(snapshot) = snapshots.finish() {
                let points = points_of(&snapshot);
                store(Ok(snapshot), points);
            }
        }
    }

    fn store_spans(
        &self,
        servers: &Servers,
        resource_spans: ResourceSpans,
        outcome: &mut OtlpOutcome,
    ) {
        let mut record = SpanRecord {
            resource: resource_spans.resource,
            resource_schema_url: resource_spans.schema_url,
            ..SpanRecord::default()
        };
        for scope_spans in resource_spans.scope_spans {
            record.scope = scope_spans.scope;
            record.scope_schema_url = scope_spans.schema_url;
            for span in scope_spans.spans {
                record.span = span;
                let names = server_names(&record.span);
                let attributes = &record.span.attributes;
                let resource = record.resource.as_ref();
                let server = servers.find(Signal::Traces, names, attributes, resource);
                let stored = server.and_then(|server| {
                    let stored = self.shared.writer.span(&server, &record);
                    stored.map_err(OtlpReason::Dropped)
                });
                outcome.count(stored, 1);
            }
        }
    }

    fn servers(&self) -> Arc<Servers> {
        let servers = self.shared.servers.read();
        Arc::clone(&servers.unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut Servers)) {
        let servers = self.shared.servers.write();
        change(Arc::make_mut(
            &mut servers.unwrap_or_else(PoisonError::into_inner),
        ));
    }
}

/// The names of servers that a resource has.
fn names_of(resource: Option<&Resource>) -> impl Iterator<Item = &str> {
    let attributes = resource.map(|resource| resource.attributes.as_slice());
    let attributes = attributes.unwrap_or_default();
    [said_server(attributes), said_service(attributes)]
        .into_iter()
        .flatten()
}

/// The number of data points that a snapshot has in OTLP.
fn points_of(snapshot: &MetricsSnapshot) -> u64 {
    let cost = snapshot.cost_total.map_or(0, |cost| cost.to_array().len());
    (snapshot.total.to_array().len() - 1 + cost) as u64
}

impl Servers {
    /// The server of a record: the first of `names` that is configured for `signal`, else the server for
    /// unrouted records; or the one that its attributes or its resource name, if any server is taken.
    fn find<'a>(
        &self,
        signal: Signal,
        names: impl Iterator<Item = &'a str>,
        attributes: &[KeyValue],
        resource: Option<&Resource>,
    ) -> Result<Cow<'_, ServerName>, OtlpReason> {
        if self.takes_any {
            let mut names = said_server(attributes)
                .into_iter()
                .chain(names_of(resource));
            let server = names.find_map(|name| ServerName::new(name).ok());
            return server.map(Cow::Owned).ok_or(OtlpReason::WithoutServer);
        }
        let found = self.find_configured(signal, names);
        found.map(Cow::Borrowed)
    }

    /// The first of `names` that is configured for `signal`, else the server for unrouted records.
    fn find_configured<'a>(
        &self,
        signal: Signal,
        mut names: impl Iterator<Item = &'a str>,
    ) -> Result<&ServerName, OtlpReason> {
        let configured = self.by_signal.get(&signal);
        let find = |name: &str| configured?.get(name);
        let mut is_named = false;
        let found = names.find_map(|name| {
            is_named |= ServerName::is_valid(name);
            find(name)
        });
        // A span without a server is dropped, as the format of traces says.
        let unrouted = self.unrouted.as_ref().filter(|_| signal != Signal::Traces);
        found.or_else(|| find(unrouted?)).ok_or(if is_named {
            OtlpReason::NotConfigured
        } else {
            OtlpReason::WithoutServer
        })
    }
}
