//! Records, whichever signal they are of, to lines.

use super::{
    json::value_text,
    ndjson::{
        log::{transcode_log_payload, write_log_parts},
        metrics::transcode_metrics_payload,
    },
    otlp_json::{
        Envelope, Message, foreign_metric, transcode_own_log, write_message, write_own_log,
    },
};
use crate::{
    error::{Error, Result},
    otlp::{MetricStreams, log_to_otlp, server_resource},
    read::RawRecord,
    record::{
        LogRecord, MetricsSnapshot, ServerName, SpanRecord,
        payload::{PayloadError, SpanParts},
    },
    signal::Signal,
    store::{LogParts, ReadRecord},
};
use opentelemetry_proto::tonic::{
    common::v1::InstrumentationScope,
    metrics::v1::{Metric, ResourceMetrics},
    resource::v1::Resource,
};

/// The longest line, in bytes, that an OpenTelemetry Collector with the default `max_log_size` of its
/// file log receiver reads whole. It splits a longer line, and loses every part without an error.
pub const COLLECTOR_LINE_BYTES_MAX: usize = 1 << 20;

/// The longest line of more than one record. It has room for 64 bytes of white space, with which an
/// export tells files apart that begin alike.
const SHARED_LINE_BYTES_MAX: usize = COLLECTOR_LINE_BYTES_MAX - 64;

/// What lines look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum LineFormat {
    /// The flat files of gridctl: logs and metrics as NDJSON, a sentinel line before each reset, and
    /// traces as OTLP/JSON.
    #[default]
    Ndjson,
    /// OTLP/JSON for all three signals (<https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/>):
    /// each line a `LogsData`, `MetricsData` or `TracesData`. It reads back without loss, too.
    Otlp,
}

/// Writes records as lines.
///
/// In OTLP/JSON, records that follow each other and have the same resource and scope share a line
/// that is at least 64 bytes shorter than 1 MiB; a record that is longer by itself has a line of its
/// own.
///
/// ```
/// use gridctl_telemetry::{Query, Signal, lines::{LineFormat, LineWriter}};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let home = tempfile::tempdir()?;
/// # let home = home.path();
/// # let store = gridctl_telemetry::Store::open(home, "my-stack", Default::default())?;
/// let mut lines = LineWriter::new(LineFormat::Otlp);
/// let mut out = Vec::new();
/// let mut scan = store.snapshot()?.scan(&Query::new(Signal::Traces))?;
/// while let Some(record) = scan.next()? {
///     lines.write(&record, &mut out)?;
/// }
/// lines.finish(&mut out);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct LineWriter {
    format: LineFormat,
    /// The line that is not yet ended.
    open: Option<OpenLine>,
    /// The record that is being written, as JSON.
    piece: Vec<u8>,
    streams: MetricStreams,
    long_lines: u64,
}

/// A line of OTLP/JSON that is not yet ended.
#[derive(Debug)]
struct OpenLine {
    origin: Origin,
    /// What stands behind its last record.
    end: Vec<u8>,
    /// What the line will have once it is ended.
    bytes: usize,
    /// The origin of a span, as its payload has it: most spans come from the same one as those before them.
    encoded_origin: Option<[Option<Vec<u8>>; 4]>,
}

/// What the records of a line share.
#[derive(Debug, PartialEq)]
enum Origin {
    /// The server, of metrics, or of logs with no resource but the server's and without a scope.
    Server(Signal, ServerName),
    /// A log's resource and scope.
    Log(Box<(Resource, Option<InstrumentationScope>)>),
    /// A foreign metric's resource and scope: its message, the metric taken out.
    Metric(Box<ResourceMetrics>),
    /// A span's resource and scope: its record, the span taken out.
    Span(Box<SpanRecord>),
}

impl LineWriter {
    /// A writer that has written nothing.
    #[must_use]
    pub fn new(format: LineFormat) -> LineWriter {
        LineWriter {
            format,
            ..LineWriter::default()
        }
    }

    /// Appends `record` to `out`. A line of OTLP/JSON may stay open: [`LineWriter::finish`] ends it.
    ///
    /// In OTLP/JSON, a server's metrics must come in the order of time.
    ///
    /// Fails with [`Error::InvalidRecord`] when the payload is not one that this crate wrote, and
    /// `out` is as it was.
    pub fn write(&mut self, record: &RawRecord<'_>, out: &mut Vec<u8>) -> Result<()> {
        self.write_payload(record, out)
            .map_err(|error| Error::InvalidRecord {
                signal: record.signal,
                reason: error.to_string(),
            })
    }

    /// Ends the line that is open. Call it behind the last record.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if let Some(line) = self.open.take() {
            out.extend_from_slice(&line.end);
            if line.bytes > COLLECTOR_LINE_BYTES_MAX {
                self.long_lines += 1;
            }
        }
    }

    /// How many lines of OTLP/JSON are longer than the 1 MiB that a Collector takes by default.
    #[must_use]
    pub fn long_lines(&self) -> u64 {
        self.long_lines
    }

    /// Appends a log that was decoded into its parts; `None` if its payload has to be read, and `out` is then as it
    /// was.
    fn write_parts(
        &mut self,
        record: &RawRecord<'_>,
        log: &LogParts<'_>,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let (server, time) = (record.server, record.timestamp);
        match self.format {
            LineFormat::Ndjson => write_log_parts(time, log, out),
            LineFormat::Otlp => {
                self.piece.clear();
                write_own_log(server, time, log, &mut self.piece)?;
                self.append_own_log(server, out);
                Some(())
            }
        }
    }

    fn append_own_log(&mut self, server: &ServerName, out: &mut Vec<u8>) {
        self.append(Origin::Server(Signal::Logs, server.clone()), out);
    }

    fn write_payload(
        &mut self,
        record: &RawRecord<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), PayloadError> {
        if let ReadRecord::Log(log) = &record.content
            && self.write_parts(record, log, out).is_some()
        {
            return Ok(());
        }
        let payload = &record.payload();
        let origin = match (record.signal, self.format) {
            (Signal::Logs, LineFormat::Ndjson) => {
                return transcode_log_payload(record.timestamp, payload, out);
            }
            (Signal::Metrics, LineFormat::Ndjson) => {
                return transcode_metrics_payload(record.server, record.timestamp, payload, out);
            }
            (Signal::Logs, LineFormat::Otlp) => {
                self.piece.clear();
                let (server, time) = (record.server, record.timestamp);
                if transcode_own_log(server, time, payload, &mut self.piece).is_some() {
                    self.append_own_log(server, out);
                    return Ok(());
                }
                let log = LogRecord::decode_payload(record.timestamp, payload)?;
                let log = log_to_otlp(record.server, log, value_text);
                self.encode(&[log.record]);
                Origin::Log(Box::new((log.resource, log.scope)))
            }
            (Signal::Metrics, LineFormat::Otlp) => {
                let snapshot = MetricsSnapshot::decode_payload(record.timestamp, payload)?;
                if let Some(kept) = foreign_metric(&snapshot) {
                    self.write_foreign(kept, out);
                    return Ok(());
                }
                let metrics = self.streams.metrics_to_otlp(record.server, snapshot);
                self.encode(&metrics);
                Origin::Server(Signal::Metrics, record.server.clone())
            }
            (Signal::Traces, _) => {
                if let Some(parts) = SpanParts::of(payload) {
                    return self.write_span(payload, &parts, out);
                }
                let mut record = SpanRecord::decode_payload(payload)?;
                let span = std::mem::take(&mut record.span);
                self.encode(&[span]);
                Origin::Span(Box::new(record))
            }
        };
        self.append(origin, out);
        Ok(())
    }

    /// Appends a span, whose origin is decoded only if it differs from that of the line.
    fn write_span(
        &mut self,
        payload: &[u8],
        parts: &SpanParts<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), PayloadError> {
        let is_same = |line: &OpenLine| match &line.encoded_origin {
            Some(origin) => origin.each_ref().map(Option::as_deref) == parts.origin,
            None => false,
        };
        if self.open.as_ref().is_some_and(is_same) {
            self.encode(&[parts.decode()?]);
            if self.extend(out) {
                return Ok(());
            }
        }
        let mut record = SpanRecord::decode_payload(payload)?;
        let span = std::mem::take(&mut record.span);
        self.encode(&[span]);
        self.append(Origin::Span(Box::new(record)), out);
        if let Some(line) = &mut self.open {
            line.encoded_origin = Some(parts.origin.map(|part| part.map(<[u8]>::to_vec)));
        }
        Ok(())
    }

    /// Appends the piece to the line that is open, if it has room.
    fn extend(&mut self, out: &mut Vec<u8>) -> bool {
        let Some(line) = &mut self.open else {
            return false;
        };
        let bytes = line.bytes + 1 + self.piece.len();
        if bytes > SHARED_LINE_BYTES_MAX {
            return false;
        }
        line.bytes = bytes;
        out.push(b',');
        out.extend_from_slice(&self.piece);
        true
    }

    /// Appends a metric of another program, in the envelope that it came in.
    fn write_foreign(&mut self, mut kept: ResourceMetrics, out: &mut Vec<u8>) {
        let metrics: Vec<Metric> = kept
            .scope_metrics
            .iter_mut()
            .flat_map(|scope_metrics| std::mem::take(&mut scope_metrics.metrics))
            .collect();
        self.encode(&metrics);
        self.append(Origin::Metric(Box::new(kept)), out);
    }

    /// Makes messages the piece that is appended next.
    fn encode<M: Message>(&mut self, messages: &[M]) {
        self.piece.clear();
        for (index, message) in messages.iter().enumerate() {
            if index > 0 {
                self.piece.push(b',');
            }
            write_message(message, &mut self.piece);
        }
    }

    /// Appends the piece to the line that is open, or to a new one.
    fn append(&mut self, origin: Origin, out: &mut Vec<u8>) {
        if self.open.as_ref().is_some_and(|line| line.origin == origin) && self.extend(out) {
            return;
        }
        self.finish(out);
        let start = out.len();
        let mut end = Vec::new();
        let mut write = |signal, envelope: Envelope<'_>| {
            envelope.open(signal, out);
            out.extend_from_slice(&self.piece);
            envelope.close(signal, &mut end);
            end.push(b'\n');
        };
        match &origin {
            Origin::Server(signal, server) => {
                let resource = server_resource(server);
                let envelope = Envelope {
                    resource: Some(&resource),
                    ..Envelope::default()
                };
                write(*signal, envelope);
            }
            Origin::Log(origin) => {
                let (resource, scope) = &**origin;
                let envelope = Envelope {
                    resource: Some(resource),
                    scope: scope.as_ref(),
                    ..Envelope::default()
                };
                write(Signal::Logs, envelope);
            }
            Origin::Metric(kept) => {
                let scope_metrics = kept.scope_metrics.first();
                let envelope = Envelope {
                    resource: kept.resource.as_ref(),
                    resource_schema_url: &kept.schema_url,
                    scope: scope_metrics.and_then(|it| it.scope.as_ref()),
                    scope_schema_url: scope_metrics.map_or("", |it| &it.schema_url),
                };
                write(Signal::Metrics, envelope);
            }
            Origin::Span(record) => {
                let envelope = Envelope {
                    resource: record.resource.as_ref(),
                    resource_schema_url: &record.resource_schema_url,
                    scope: record.scope.as_ref(),
                    scope_schema_url: &record.scope_schema_url,
                };
                write(Signal::Traces, envelope);
            }
        }
        let bytes = out.len() - start + end.len();
        self.open = Some(OpenLine {
            origin,
            end,
            bytes,
            encoded_origin: None,
        });
    }
}
