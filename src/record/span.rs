//! Spans, with the resource and scope of each.

use super::names::Names;
use crate::time::Timestamp;
use opentelemetry_proto::tonic::{
    common::v1::InstrumentationScope,
    resource::v1::Resource,
    trace::v1::{Span, status::StatusCode},
};

/// A span with the resource and scope that produced it.
///
/// ```
/// use gridctl_telemetry::{SpanRecord, external::opentelemetry_proto::tonic::trace::v1::Span};
///
/// let record = SpanRecord::new(Span {
///     name: "tools/call".to_owned(),
///     end_time_unix_nano: 1_778_283_600_000_000_000,
///     ..Span::default()
/// });
/// assert_eq!(record.timestamp().to_string(), "2026-05-08T23:40:00Z");
/// assert!(!record.is_error());
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct SpanRecord {
    /// The resource that produced the span; `None` when the message had none.
    pub resource: Option<Resource>,
    /// The schema URL of the resource (`resourceSpans[].schemaUrl`).
    pub resource_schema_url: String,
    /// The instrumentation scope that produced the span; `None` when the message had none.
    pub scope: Option<InstrumentationScope>,
    /// The schema URL of the span and its scope (`scopeSpans[].schemaUrl`).
    pub scope_schema_url: String,
    /// The span.
    pub span: Span,
}

impl SpanRecord {
    /// A span without resource and scope.
    #[must_use]
    pub fn new(span: Span) -> SpanRecord {
        SpanRecord {
            span,
            ..SpanRecord::default()
        }
    }

    /// Sets the resource that produced the span. An empty `schema_url` means none.
    #[must_use]
    pub fn resource(
        mut self,
        resource: impl Into<Option<Resource>>,
        schema_url: impl Into<String>,
    ) -> SpanRecord {
        self.resource = resource.into();
        self.resource_schema_url = schema_url.into();
        self
    }

    /// Sets the instrumentation scope that produced the span. An empty `schema_url` means none.
    #[must_use]
    pub fn scope(
        mut self,
        scope: impl Into<Option<InstrumentationScope>>,
        schema_url: impl Into<String>,
    ) -> SpanRecord {
        self.scope = scope.into();
        self.scope_schema_url = schema_url.into();
        self
    }

    /// Whether the status of the span is an error.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.span
            .status
            .as_ref()
            .is_some_and(|status| status.code() == StatusCode::Error)
    }

    /// The tool that the span names in its attribute `tool.name`, `tool` or `gen_ai.tool.name`, the first
    /// of these that is a string.
    #[must_use]
    pub fn tool(&self) -> Option<&str> {
        Names::of(&self.span.attributes).tool
    }

    /// The client that the span names in its attribute `client.name` or `client`, likewise.
    #[must_use]
    pub fn client(&self) -> Option<&str> {
        Names::of(&self.span.attributes).client
    }

    /// The timestamp that the span is stored under: its end, or its start if it has no end, clamped
    /// to [`Timestamp::MAX`]. The times in the span itself are kept unchanged.
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        // Zero means unknown (opentelemetry-proto, trace.proto), not 1970: a span of 1970 would
        // expire at once.
        let nanos = match self.span.end_time_unix_nano {
            0 => self.span.start_time_unix_nano,
            end => end,
        };
        Timestamp::from_unix_nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_stored_by_its_end_or_else_by_its_start() {
        for (start, end, expected) in [
            (5, 9, 9),
            (5, 0, 5),
            (0, 0, 0),
            (u64::MAX, 0, i64::MAX),
            (5, u64::MAX, i64::MAX),
        ] {
            let mut record = SpanRecord::default();
            record.span.start_time_unix_nano = start;
            record.span.end_time_unix_nano = end;
            assert_eq!(record.timestamp().unix_nanos(), expected);
        }
    }
}
