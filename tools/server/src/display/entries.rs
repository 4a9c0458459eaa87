//! The entries of a record beside its message.

use gridctl_telemetry::{
    Record, SpanRecord, Value, external::opentelemetry_proto::tonic::common::v1::KeyValue,
};

/// The entries of a record beside its message, nested ones by their path: the keys of the filter `field`.
#[must_use]
pub fn entries(record: &Record) -> Vec<(String, Value)> {
    let mut flat = Vec::new();
    match record {
        Record::Log(log) => flatten("", &log.attributes, &mut flat),
        Record::Metrics(snapshot) => flatten("", &snapshot.extra, &mut flat),
        Record::Span(span) => flatten("", &attributes(&span.span.attributes), &mut flat),
        _ => {}
    }
    flat
}

/// Attributes of OTLP as entries, nested ones by their path, which begins with `above`.
#[must_use]
pub fn otlp_entries(above: &str, of: &[KeyValue]) -> Vec<(String, Value)> {
    let mut flat = Vec::new();
    flatten(above, &attributes(of), &mut flat);
    flat
}

/// The entries of what produced a span: its scope and its resource.
#[must_use]
pub fn origin_entries(record: &SpanRecord) -> Vec<(String, Value)> {
    let mut parts = Vec::new();
    if let Some(scope) = &record.scope {
        parts.push(("scope".to_owned(), scope.name.clone().into()));
        parts.extend(otlp_entries("scope ", &scope.attributes));
    }
    if let Some(resource) = &record.resource {
        parts.extend(otlp_entries("resource ", &resource.attributes));
    }
    parts
}

/// Whether a text of a record is an id of a trace (32 digits) or of a span (16): any other may be anything.
#[must_use]
pub fn is_id(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether an entry names the server of a record, also within the group of a span.
#[must_use]
pub fn names_server(path: &str) -> bool {
    ["component", "server", "server.name"].iter().any(|name| {
        let above = path.strip_suffix(name);
        above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
    })
}

fn attributes(attributes: &[KeyValue]) -> Vec<(String, Value)> {
    let value = |attribute: &KeyValue| attribute.value.clone().unwrap_or_default().into();
    attributes
        .iter()
        .map(|attribute| (attribute.key.clone(), value(attribute)))
        .collect()
}

/// Values nest at most 128 levels.
fn flatten(above: &str, entries: &[(String, Value)], flat: &mut Vec<(String, Value)>) {
    for (key, value) in entries {
        let path = format!("{above}{key}");
        match value {
            Value::Object(entries) if !entries.is_empty() => {
                flatten(&format!("{path}."), entries, flat);
            }
            value => flat.push((path, value.clone())),
        }
    }
}
