//! `otel_logs`.

use super::{
    Origin, Scope, Service, Smalls, Times, nanos, push_entries, push_views, rows, scope_attributes,
    times, unsigned,
};
use crate::{
    column::{Flat, Map, RepeatedMap},
    text::write_any,
    texts::{Kind, Texts},
};
use gridctl_telemetry::{
    Level, Timestamp,
    external::opentelemetry_proto::tonic::{
        common::v1::KeyValue,
        logs::v1::{LogRecord, ResourceLogs},
    },
    query::{LogView, ValueView},
    traces::hex,
};
use std::io::Write as _;

#[derive(Debug)]
pub(crate) struct Logs {
    timestamp: Times,
    trace_id: Flat<Texts>,
    span_id: Flat<Texts>,
    trace_flags: Smalls,
    severity_text: Flat<Texts>,
    severity_number: Smalls,
    service: Service,
    body: Flat<Texts>,
    resource_schema_url: Flat<Texts>,
    scope_schema_url: Flat<Texts>,
    scope: Scope,
    scope_attributes: RepeatedMap,
    attributes: Map,
}

rows! { Logs, timestamp:
    "Timestamp" => timestamp,
    "TraceId" => trace_id,
    "SpanId" => span_id,
    "TraceFlags" => trace_flags,
    "SeverityText" => severity_text,
    "SeverityNumber" => severity_number,
    "ServiceName" => service.name,
    "Body" => body,
    "ResourceSchemaUrl" => resource_schema_url,
    "ResourceAttributes" => service.resource,
    "ScopeSchemaUrl" => scope_schema_url,
    "ScopeName" => scope.name,
    "ScopeVersion" => scope.version,
    "ScopeAttributes" => scope_attributes,
    "LogAttributes" => attributes,
}

impl Default for Logs {
    fn default() -> Logs {
        Logs {
            timestamp: times(),
            trace_id: Flat(Texts::of(Kind::Key)),
            span_id: Flat(Texts::of(Kind::Ids)),
            trace_flags: unsigned(8),
            severity_text: Flat::default(),
            severity_number: unsigned(8),
            service: Service::default(),
            body: Flat::default(),
            resource_schema_url: Flat::default(),
            scope_schema_url: Flat::default(),
            scope: Scope::default(),
            scope_attributes: RepeatedMap::default(),
            attributes: Map::default(),
        }
    }
}

/// The attributes that say which span a log belongs to.
const IDS: [&str; 2] = ["trace_id", "span_id"];

impl Logs {
    /// Adds a log that a server wrote.
    pub(crate) fn push_own(
        &mut self,
        timestamp: Timestamp,
        server: &str,
        log: &LogView<'_>,
        origin: &Origin,
    ) {
        let ids = [log.trace_id(), log.span_id()];
        let [trace_id, span_id] = &ids;
        self.timestamp.0.push(timestamp.unix_nanos());
        self.trace_id
            .0
            .push(trace_id.as_deref().unwrap_or_default());
        self.span_id.0.push(span_id.as_deref().unwrap_or_default());
        self.trace_flags.0.push(0);
        self.push_level(log.level);
        self.service.push_server(server, origin);
        self.body.0.push(log.message);
        self.resource_schema_url.0.push("");
        self.scope_schema_url.0.push("");
        self.scope.push(None);
        self.scope_attributes.row(|_| ());
        self.attributes.row(|row| {
            push_views(&log.attributes, row, |key, value| {
                let (ValueView::Text(value), Some(of)) =
                    (value, IDS.iter().position(|id| *id == key))
                else {
                    return false;
                };
                // The columns say the same, and random ids are most of the size of a file.
                ids.get(of).and_then(Option::as_deref) == Some(*value)
            });
        });
    }

    fn push_level(&mut self, level: Level) {
        // Writing to a vector cannot fail.
        self.severity_text
            .0
            .push_with(|out| _ = write!(out, "{level}"));
        self.severity_number.0.push(level.severity_number());
    }

    /// Adds a log of another program, as OTLP.
    pub(crate) fn push_otlp(
        &mut self,
        timestamp: Timestamp,
        server: &str,
        logs: &ResourceLogs,
        origin: &Origin,
    ) {
        for scope_logs in &logs.scope_logs {
            for log in &scope_logs.log_records {
                self.push_record(timestamp, log);
                self.service.push(logs.resource.as_ref(), server, origin);
                self.resource_schema_url.0.push(&logs.schema_url);
                self.scope_schema_url.0.push(&scope_logs.schema_url);
                let scope = scope_logs.scope.as_ref();
                self.scope.push(scope);
                self.scope_attributes
                    .row(|row| push_entries(scope_attributes(scope), row));
            }
        }
    }

    fn push_record(&mut self, timestamp: Timestamp, log: &LogRecord) {
        let time = match log.time_unix_nano {
            0 => timestamp.unix_nanos(),
            time => nanos(time),
        };
        self.timestamp.0.push(time);
        self.trace_id.0.push_hex(&log.trace_id);
        self.span_id.0.push_hex(&log.span_id);
        // The column has the eight bits that the trace context defines.
        self.trace_flags.0.push((log.flags & 0xff).cast_signed());
        self.severity_text.0.push(&log.severity_text);
        self.severity_number.0.push(log.severity_number);
        self.body
            .0
            .push_with(|out| write_any(log.body.as_ref(), out));
        let attributes: Vec<KeyValue> = (log.attributes.iter())
            .filter(|it| !it.key.starts_with(RESERVED) && !is_id(it, log))
            .cloned()
            .collect();
        self.attributes.row(|row| push_entries(&attributes, row));
    }
}

/// What the keys of attributes begin with that only the store reads back.
const RESERVED: &str = "gridctl.record.";

/// Whether an attribute says what the columns of ids say.
fn is_id(attribute: &KeyValue, log: &LogRecord) -> bool {
    let [trace_id, span_id] = IDS;
    let id = match attribute.key.as_str() {
        key if key == trace_id => &log.trace_id,
        key if key == span_id => &log.span_id,
        _ => return false,
    };
    let mut value = Vec::new();
    write_any(attribute.value.as_ref(), &mut value);
    !id.is_empty() && value == hex(id).as_bytes()
}
