//! Spans, which OTLP messages hold unchanged.

use super::{SERVER_NAME, text_attribute};
use opentelemetry_proto::tonic::trace::v1::Span;

/// The span attributes that may name the server, in order of precedence.
const KEYS: [&str; 2] = [SERVER_NAME, "component"];

/// The names of servers in the span's attributes `server.name` and `component`, those that are
/// strings.
pub(crate) fn server_names(span: &Span) -> impl Iterator<Item = &str> {
    KEYS.into_iter()
        .filter_map(|key| text_attribute(&span.attributes, key))
}
