//! `otel_traces`.

use super::{Origin, Scope, Service, Sizes, Times, nanos, push_entries, rows, sizes, times};
use crate::{
    column::{Flat, List, Map, MapList, Meaning, Numbers},
    texts::{Kind, Texts},
};
use gridctl_telemetry::{
    SpanRecord, Timestamp,
    external::opentelemetry_proto::tonic::trace::v1::{Status, span::SpanKind, status::StatusCode},
};
use parquet::data_type::Int64Type;

#[derive(Debug)]
pub(crate) struct Traces {
    timestamp: Times,
    trace_id: Flat<Texts>,
    span_id: Flat<Texts>,
    parent_span_id: Flat<Texts>,
    trace_state: Flat<Texts>,
    span_name: Flat<Texts>,
    span_kind: Flat<Texts>,
    service: Service,
    scope: Scope,
    attributes: Map,
    duration: Sizes,
    status_code: Flat<Texts>,
    status_message: Flat<Texts>,
    event_timestamp: List<Numbers<Int64Type>>,
    event_name: List<Texts>,
    event_attributes: MapList,
    link_trace_id: List<Texts>,
    link_span_id: List<Texts>,
    link_trace_state: List<Texts>,
    link_attributes: MapList,
}

rows! { Traces, timestamp:
    "Timestamp" => timestamp,
    "TraceId" => trace_id,
    "SpanId" => span_id,
    "ParentSpanId" => parent_span_id,
    "TraceState" => trace_state,
    "SpanName" => span_name,
    "SpanKind" => span_kind,
    "ServiceName" => service.name,
    "ResourceAttributes" => service.resource,
    "ScopeName" => scope.name,
    "ScopeVersion" => scope.version,
    "SpanAttributes" => attributes,
    "Duration" => duration,
    "StatusCode" => status_code,
    "StatusMessage" => status_message,
    "Events.Timestamp" => event_timestamp,
    "Events.Name" => event_name,
    "Events.Attributes" => event_attributes,
    "Links.TraceId" => link_trace_id,
    "Links.SpanId" => link_span_id,
    "Links.TraceState" => link_trace_state,
    "Links.Attributes" => link_attributes,
}

impl Default for Traces {
    fn default() -> Traces {
        Traces {
            timestamp: times(),
            trace_id: Flat(Texts::of(Kind::Key)),
            span_id: Flat(Texts::of(Kind::Ids)),
            parent_span_id: Flat(Texts::of(Kind::Ids)),
            trace_state: Flat::default(),
            span_name: Flat::default(),
            span_kind: Flat::default(),
            service: Service::default(),
            scope: Scope::default(),
            attributes: Map::default(),
            duration: sizes(),
            status_code: Flat::default(),
            status_message: Flat::default(),
            event_timestamp: List::of(Numbers::of(Meaning::Time)),
            event_name: List::of(Texts::default()),
            event_attributes: MapList::default(),
            link_trace_id: List::of(Texts::of(Kind::Ids)),
            link_span_id: List::of(Texts::of(Kind::Ids)),
            link_trace_state: List::of(Texts::default()),
            link_attributes: MapList::default(),
        }
    }
}

impl Traces {
    pub(crate) fn push(
        &mut self,
        timestamp: Timestamp,
        server: &str,
        record: &SpanRecord,
        origin: &Origin,
    ) {
        let span = &record.span;
        let (start, end) = (span.start_time_unix_nano, span.end_time_unix_nano);
        // Zero means unknown, not 1970.
        let is_known = start != 0 && end != 0;
        self.timestamp.0.push(match start {
            0 => timestamp.unix_nanos(),
            start => nanos(start),
        });
        self.trace_id.0.push_hex(&span.trace_id);
        self.span_id.0.push_hex(&span.span_id);
        self.parent_span_id.0.push_hex(&span.parent_span_id);
        self.trace_state.0.push(&span.trace_state);
        self.span_name.0.push(&span.name);
        self.span_kind.0.push(match span.kind() {
            SpanKind::Unspecified => "Unspecified",
            SpanKind::Internal => "Internal",
            SpanKind::Server => "Server",
            SpanKind::Client => "Client",
            SpanKind::Producer => "Producer",
            SpanKind::Consumer => "Consumer",
        });
        self.service.push(record.resource.as_ref(), server, origin);
        self.scope.push(record.scope.as_ref());
        self.attributes
            .row(|row| push_entries(&span.attributes, row));
        let duration = if is_known {
            end.saturating_sub(start)
        } else {
            0
        };
        self.duration.0.push(duration.cast_signed());
        let status = span.status.as_ref();
        let code = status.map_or(StatusCode::Unset, Status::code);
        self.status_code.0.push(match code {
            StatusCode::Unset => "Unset",
            StatusCode::Ok => "Ok",
            StatusCode::Error => "Error",
        });
        self.status_message
            .0
            .push(status.map_or("", |status| &status.message));
        let events = &span.events;
        self.event_timestamp.row(events, |times, event| {
            times.push(nanos(event.time_unix_nano));
        });
        self.event_name
            .row(events, |names, event| names.push(&event.name));
        self.event_attributes
            .row(events, |row, event| push_entries(&event.attributes, row));
        let links = &span.links;
        self.link_trace_id
            .row(links, |ids, link| ids.push_hex(&link.trace_id));
        self.link_span_id
            .row(links, |ids, link| ids.push_hex(&link.span_id));
        self.link_trace_state
            .row(links, |states, link| states.push(&link.trace_state));
        self.link_attributes
            .row(links, |row, link| push_entries(&link.attributes, row));
    }
}
