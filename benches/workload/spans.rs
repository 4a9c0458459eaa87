//! Spans of tool calls: three or four a call, with attributes, and events where something went wrong.

use super::{Cell, Row, SERVERS, SESSIONS, START_UNIX_NANOS, TOOLS, choices::Choices};
use crate::measure::ratio;
use anyhow::Result;
use gridctl_telemetry::{
    SpanRecord,
    external::opentelemetry_proto::tonic::{
        common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value as Any},
        resource::v1::Resource,
        trace::v1::{Span, Status, span::Event},
    },
    traces::hex,
};
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeMap;

const CLIENTS: [&str; 4] = ["claude-code", "inspector", "cursor", "zed"];
const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const INTERNAL: i32 = 1;
const ERROR: i32 = 2;

/// An endless supply of spans, the same ones for the same seed, in the order in which they end.
#[derive(Debug)]
pub struct GatewaySpans {
    choices: Choices,
    sessions: Vec<String>,
    start: u64,
    /// Spans that have not ended when the last call began, by their end and their number.
    open: BTreeMap<(u64, u64), (usize, Span)>,
    number: u64,
}

impl GatewaySpans {
    /// Spans that follow from `seed`: a call begins about every millisecond.
    #[must_use]
    pub fn new(seed: u64) -> GatewaySpans {
        let mut choices = Choices::new(seed);
        let sessions = (0..SESSIONS).map(|_| hex(&choices.id::<8>())).collect();
        GatewaySpans {
            choices,
            sessions,
            start: START_UNIX_NANOS.unsigned_abs(),
            open: BTreeMap::new(),
            number: 0,
        }
    }

    /// The information in all spans so far, in bytes.
    #[must_use]
    pub fn entropy_bytes(&self) -> f64 {
        // Calls that have not ended have been chosen, too.
        let ended = ratio(self.number - self.open.len() as u64, self.number.max(1));
        self.choices.bits() / 8.0 * ended
    }

    fn open(&mut self, server: usize, span: Span) {
        self.number += 1;
        let key = (span.end_time_unix_nano, self.number);
        self.open.insert(key, (server, span));
    }

    /// A call, with all of its spans.
    fn call(&mut self) {
        let choices = &mut self.choices;
        self.start += 50_000 + choices.below(1_950_000);
        let start = self.start;
        let server = usize::try_from(choices.below(SERVERS.len() as u64)).unwrap_or(0);
        let name = SERVERS.get(server).copied().unwrap_or_default();
        let tool = choices.pick(&TOOLS);
        let session = usize::try_from(choices.below(SESSIONS as u64)).unwrap_or(0);
        let session = self.sessions.get(session).cloned().unwrap_or_default();
        let client = choices.pick(&CLIENTS);
        let trace_id = choices.id::<16>().to_vec();
        let root = choices.id::<8>().to_vec();
        let fails = choices.happens(1, 50);
        let mut spans = Vec::new();
        let child = |name: &str, kind, id: [u8; 8], start, end| Span {
            trace_id: trace_id.clone(),
            span_id: id.to_vec(),
            parent_span_id: root.clone(),
            name: name.to_owned(),
            kind,
            start_time_unix_nano: start,
            end_time_unix_nano: end,
            ..Span::default()
        };

        let mut now = start + choices.magnitude(10, 14);
        let end = now + choices.magnitude(11, 15);
        let mut span = child("authorize", INTERNAL, choices.id(), now, end);
        span.attributes = vec![
            text(
                "policy",
                choices.pick(&["allow-all", "read-only", "per-tool", "team"]),
            ),
            flag("policy.cached", choices.happens(9, 10)),
        ];
        spans.push(span);
        now = end + choices.magnitude(10, 14);

        if choices.happens(3, 10) {
            let end = now + choices.magnitude(10, 16);
            let mut span = child("cache lookup", INTERNAL, choices.id(), now, end);
            span.attributes = vec![flag("cache.hit", choices.happens(1, 4))];
            spans.push(span);
            now = end + choices.magnitude(10, 14);
        }

        let end = now + choices.magnitude(19, 29);
        let mut span = child("upstream request", CLIENT, choices.id(), now, end);
        let status = if fails {
            choices.pick(&[429, 500, 502, 503])
        } else {
            200
        };
        span.attributes = vec![
            text("http.request.method", "POST"),
            text("url.full", "http://127.0.0.1:3000/mcp"),
            int("http.response.status_code", status),
            int("http.response.body.size", choices.magnitude(6, 16)),
        ];
        span.events.extend(retry(choices, now));
        spans.push(span);

        let last = end;
        let end = last + choices.magnitude(12, 16);
        let mut span = child(&format!("tools/call {tool}"), SERVER, [0; 8], start, end);
        span.span_id = std::mem::take(&mut span.parent_span_id);
        let (input, output) = (choices.magnitude(5, 12), choices.magnitude(4, 11));
        span.attributes = vec![
            text("server.name", name),
            text("tool.name", tool),
            text("client.name", client),
            text("mcp.session.id", &session),
            text("rpc.system", "mcp"),
            int("gen_ai.usage.input_tokens", input),
            int("gen_ai.usage.output_tokens", output),
        ];
        if fails {
            let message = format!("upstream answered {status}");
            span.events.push(exception(last, &message));
            span.status = Some(Status {
                code: ERROR,
                message,
            });
        }
        spans.push(span);
        for span in spans {
            self.open(server, span);
        }
    }
}

impl Iterator for GatewaySpans {
    type Item = Result<Row<SpanRecord>>;

    fn next(&mut self) -> Option<Result<Row<SpanRecord>>> {
        loop {
            if let Some(first) = self.open.first_entry()
                && first.key().0 < self.start
            {
                let (server, span) = first.remove();
                let row = line(&span).map(|line| Row {
                    server,
                    record: SpanRecord::new(span)
                        .resource(resource(), "")
                        .scope(scope(), ""),
                    line,
                });
                return Some(row);
            }
            self.call();
        }
    }
}

/// One request in twenty is tried again.
fn retry(choices: &mut Choices, start: u64) -> Option<Event> {
    choices.happens(1, 20).then(|| Event {
        time_unix_nano: start + choices.below(1 << 19),
        name: "retry".to_owned(),
        attributes: vec![
            int("attempt", 1 + choices.below(3)),
            text(
                "reason",
                choices.pick(&["connection reset", "timeout", "503"]),
            ),
        ],
        ..Event::default()
    })
}

fn exception(time: u64, message: &str) -> Event {
    Event {
        time_unix_nano: time,
        name: "exception".to_owned(),
        attributes: vec![
            text("exception.type", "gateway::UpstreamError"),
            text("exception.message", message),
            text(
                "exception.stacktrace",
                "at gateway::upstream::send\nat gateway::call\nat gateway::serve",
            ),
        ],
        ..Event::default()
    }
}

fn resource() -> Resource {
    Resource {
        attributes: vec![
            text("service.name", "gridctl-gateway"),
            text("service.version", "0.9.2"),
        ],
        ..Resource::default()
    }
}

fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "gateway".to_owned(),
        version: "0.9.2".to_owned(),
        ..InstrumentationScope::default()
    }
}

/// The text before and after the spans of a line of OTLP/JSON.
pub(crate) fn otlp_line() -> (String, &'static str) {
    let resource = json!({ "attributes": attributes(&resource().attributes) });
    let scope = json!({ "name": scope().name, "version": scope().version });
    let head = format!(
        r#"{{"resourceSpans":[{{"resource":{resource},"scopeSpans":[{{"scope":{scope},"spans":["#
    );
    (head, "]}]}]}\n")
}

fn key_value(key: &str, value: Any) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

fn text(key: &str, text: &str) -> KeyValue {
    key_value(key, Any::StringValue(text.to_owned()))
}

fn flag(key: &str, value: bool) -> KeyValue {
    key_value(key, Any::BoolValue(value))
}

fn int(key: &str, value: u64) -> KeyValue {
    key_value(key, Any::IntValue(value.cast_signed()))
}

/// A span of OTLP/JSON.
fn line(span: &Span) -> Result<Box<[u8]>> {
    let mut json = Map::new();
    let mut put = |key: &str, value: Json| json.insert(key.to_owned(), value);
    put("traceId", hex(&span.trace_id).into());
    put("spanId", hex(&span.span_id).into());
    if !span.parent_span_id.is_empty() {
        put("parentSpanId", hex(&span.parent_span_id).into());
    }
    put("name", span.name.clone().into());
    put("kind", span.kind.into());
    put(
        "startTimeUnixNano",
        span.start_time_unix_nano.to_string().into(),
    );
    put(
        "endTimeUnixNano",
        span.end_time_unix_nano.to_string().into(),
    );
    put("attributes", attributes(&span.attributes));
    if !span.events.is_empty() {
        put("events", events(&span.events));
    }
    if let Some(status) = &span.status {
        put(
            "status",
            json!({ "message": status.message, "code": status.code }),
        );
    }
    Ok(serde_json::to_vec(&json)?.into_boxed_slice())
}

fn events(events: &[Event]) -> Json {
    events
        .iter()
        .map(|event| {
            json!({
                "timeUnixNano": event.time_unix_nano.to_string(),
                "name": event.name,
                "attributes": attributes(&event.attributes),
            })
        })
        .collect()
}

fn attributes(attributes: &[KeyValue]) -> Json {
    let any = |value: &KeyValue| match value.value.as_ref().and_then(|any| any.value.as_ref()) {
        Some(Any::StringValue(text)) => json!({ "stringValue": text }),
        Some(Any::IntValue(value)) => json!({ "intValue": value.to_string() }),
        Some(Any::BoolValue(value)) => json!({ "boolValue": value }),
        // The generator makes no others.
        _ => Json::Null,
    };
    attributes
        .iter()
        .map(|entry| json!({ "key": entry.key, "value": any(entry) }))
        .collect()
}

/// The parts of a span as columns, its events as JSON in one.
pub(super) fn cells(span: &Span) -> Vec<(&str, Cell)> {
    let number = |number: u64| Cell::Int(number.cast_signed());
    let took = span.end_time_unix_nano - span.start_time_unix_nano;
    let mut cells = vec![
        ("trace_id", Cell::Id(span.trace_id.clone())),
        ("span_id", Cell::Id(span.span_id.clone())),
        ("name", Cell::Text(span.name.clone())),
        ("kind", Cell::Int(span.kind.into())),
        ("duration", number(took)),
    ];
    if !span.parent_span_id.is_empty() {
        cells.push(("parent_span_id", Cell::Id(span.parent_span_id.clone())));
    }
    if let Some(status) = &span.status {
        cells.push(("status", Cell::Int(status.code.into())));
        cells.push(("status_message", Cell::Text(status.message.clone())));
    }
    if !span.events.is_empty() {
        cells.push(("events", Cell::Text(events(&span.events).to_string())));
    }
    for attribute in &span.attributes {
        let cell = match attribute.value.as_ref().and_then(|any| any.value.as_ref()) {
            Some(Any::StringValue(text)) => match super::unhex(text) {
                Some(id) => Cell::Id(id),
                None => Cell::Text(text.clone()),
            },
            Some(Any::IntValue(value)) => Cell::Int(*value),
            Some(Any::BoolValue(value)) => Cell::Bool(*value),
            _ => continue,
        };
        cells.push((&attribute.key, cell));
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;
    use gridctl_telemetry::{
        Record, Signal,
        lines::{Found, RecordReader},
    };

    #[test]
    fn a_line_of_spans_reads_back_as_the_spans() -> Result<()> {
        let rows = GatewaySpans::new(3)
            .take(2000)
            .collect::<Result<Vec<_>>>()?;
        let (head, end) = otlp_line();
        let mut line = head.into_bytes();
        for (number, row) in rows.iter().enumerate() {
            if number > 0 {
                line.push(b',');
            }
            line.extend_from_slice(&row.line);
        }
        line.extend_from_slice(end.as_bytes());
        let mut found = Vec::new();
        RecordReader::new(Signal::Traces).read_line(&line, &mut |record| match record {
            Found::Record(record) => match record.record {
                Record::Span(span) => found.push(*span),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        });
        assert_eq!(found.len(), rows.len());
        for (found, row) in found.iter().zip(&rows) {
            assert_eq!(found, &row.record);
        }
        Ok(())
    }

    #[test]
    fn spans_come_in_the_order_of_their_ends() -> Result<()> {
        let spans = GatewaySpans::new(3)
            .take(2000)
            .collect::<Result<Vec<_>>>()?;
        assert!(spans.is_sorted_by_key(|row| row.record.span.end_time_unix_nano));
        Ok(())
    }
}
