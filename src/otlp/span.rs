//! Spans, which OTLP messages hold unchanged.

use crate::record::SpanRecord;
use opentelemetry_proto::tonic::{
    common::v1::any_value,
    trace::v1::{Span, TracesData},
};

/// The span attributes that may name the server, in order of precedence.
const KEYS: [&str; 2] = ["server.name", "component"];

/// The spans of a message with their resources and scopes, each with the server that it names.
pub(crate) fn spans_from_otlp(data: TracesData) -> Vec<(Option<String>, SpanRecord)> {
    let mut records = Vec::new();
    for resource_spans in data.resource_spans {
        for scope_spans in resource_spans.scope_spans {
            for span in scope_spans.spans {
                let record = SpanRecord {
                    resource: resource_spans.resource.clone(),
                    resource_schema_url: resource_spans.schema_url.clone(),
                    scope: scope_spans.scope.clone(),
                    scope_schema_url: scope_spans.schema_url.clone(),
                    span,
                };
                let server = server_names(&record.span).next().map(str::to_owned);
                records.push((server, record));
            }
        }
    }
    records
}

/// The names of servers in the span's attributes `server.name` and `component`, those that are
/// strings.
pub(crate) fn server_names(span: &Span) -> impl Iterator<Item = &str> {
    KEYS.into_iter().filter_map(|key| {
        let mut attributes = span.attributes.iter();
        let attribute = attributes.find(|attribute| attribute.key == key)?;
        match attribute.value.as_ref()?.value.as_ref()? {
            any_value::Value::StringValue(name) => Some(&**name),
            _ => None,
        }
    })
}
