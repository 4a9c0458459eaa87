//! Spans, which OTLP messages hold unchanged.

use crate::record::SpanRecord;
use opentelemetry_proto::tonic::{
    common::v1::any_value,
    trace::v1::{Span, TracesData},
};

/// The span attribute that names the server.
const SERVER_NAME: &str = "server.name";

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
                records.push((server_name(&record.span), record));
            }
        }
    }
    records
}

/// The server in the span's `server.name` attribute, if that is a string.
pub(crate) fn server_name(span: &Span) -> Option<String> {
    let attribute = span
        .attributes
        .iter()
        .find(|attribute| attribute.key == SERVER_NAME)?;
    match attribute.value.as_ref()?.value.as_ref()? {
        any_value::Value::StringValue(name) => Some(name.clone()),
        _ => None,
    }
}
