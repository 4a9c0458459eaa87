//! Spans of the OpenTelemetry SDK, and of `tracing` through it, are stored completely.

#![cfg(feature = "otel-sdk")]

use crate::{Routed, attribute, common::server, text};
use gridctl_telemetry::{Query, ServerName, Signal, SpanRecord, traces::TelemetrySpanExporter};
use opentelemetry::{
    InstrumentationScope, KeyValue,
    trace::{Span as _, SpanContext, SpanKind, Status, TraceContextExt, Tracer, TracerProvider},
};
use opentelemetry_proto::tonic::{common::v1::any_value, trace::v1::span::SpanKind as StoredKind};
use opentelemetry_sdk::{
    Resource,
    trace::{SdkTracerProvider, TracerProviderBuilder},
};
use tracing_subscriber::layer::SubscriberExt;

fn provider(routed: &Routed, simple: bool) -> SdkTracerProvider {
    let exporter = TelemetrySpanExporter::new(routed.client.clone());
    let builder = SdkTracerProvider::builder().with_resource(
        Resource::builder_empty()
            .with_schema_url([KeyValue::new("service.name", "gateway")], "https://schema")
            .build(),
    );
    let with = if simple {
        TracerProviderBuilder::with_simple_exporter::<TelemetrySpanExporter>
    } else {
        TracerProviderBuilder::with_batch_exporter::<TelemetrySpanExporter>
    };
    with(builder, exporter).build()
}

fn attribute_of(record: &SpanRecord, key: &str) -> Option<any_value::Value> {
    let attributes = &record.span.attributes;
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    found.value.clone()?.value
}

#[test]
fn spans_of_the_sdk_are_stored_with_everything_that_they_have() {
    for simple in [true, false] {
        let routed = Routed::to(&["github", "slack"]);
        let provider = provider(&routed, simple);
        let tracer = provider.tracer_with_scope(
            InstrumentationScope::builder("mcp")
                .with_version("1.0")
                .with_schema_url("https://scope")
                .with_attributes([KeyValue::new("library", "mcp")])
                .build(),
        );
        let other = provider.tracer("other");
        let mut parent = tracer
            .span_builder("call")
            .with_kind(SpanKind::Client)
            .with_attributes([
                KeyValue::new("server.name", "github"),
                KeyValue::new("rows", 3),
                KeyValue::new("ratio", f64::NAN),
            ])
            .start(&tracer);
        parent.add_event("retry", vec![KeyValue::new("attempt", 2)]);
        parent.add_link(SpanContext::empty_context(), vec![]);
        parent.set_status(Status::error("no"));
        let context = opentelemetry::Context::new().with_span(parent);
        let mut child = other.start_with_context("child", &context);
        child.set_attribute(KeyValue::new("server.name", "slack"));
        child.end();
        other.start("nobody's").end();
        context.span().end();
        drop(context);
        provider.force_flush().unwrap();
        assert_eq!(routed.client.skipped().without_server, 1);
        routed.client.flush().unwrap();
        let stored = routed.stored_unchecked();
        let [(child_server, child), (parent_server, parent)] = &stored[..] else {
            panic!("{stored:?}");
        };
        assert_eq!(
            [child_server, parent_server],
            [&server("slack"), &server("github")]
        );
        for record in [child, parent] {
            assert_eq!(
                record.resource.as_ref().unwrap().attributes,
                [attribute("service.name", text("gateway"))]
            );
            assert_eq!(record.resource_schema_url, "https://schema");
        }
        let scope = parent.scope.as_ref().unwrap();
        assert_eq!((&*scope.name, &*scope.version), ("mcp", "1.0"));
        assert_eq!(scope.attributes, [attribute("library", text("mcp"))]);
        assert_eq!(parent.scope_schema_url, "https://scope");
        assert_eq!(child.scope.as_ref().unwrap().name, "other");
        assert_eq!(child.scope_schema_url, "");

        assert_eq!(parent.span.kind, i32::from(StoredKind::Client));
        assert_eq!(parent.span.events[0].name, "retry");
        assert_eq!(parent.span.links.len(), 1);
        assert!(parent.is_error() && !child.is_error());
        assert_eq!(parent.span.status.as_ref().unwrap().message, "no");
        assert_eq!(
            attribute_of(parent, "rows"),
            Some(any_value::Value::IntValue(3))
        );
        assert_eq!(child.span.trace_id, parent.span.trace_id);
        assert_eq!(child.span.parent_span_id, parent.span.span_id);
        assert_eq!(child.span.trace_id.len(), 16);
        assert!(parent.span.start_time_unix_nano <= child.span.start_time_unix_nano);
        provider.shutdown().unwrap();
    }
}

#[test]
fn the_end_of_the_sdk_stores_what_it_has() {
    let routed = Routed::to(&["github"]);
    let provider = provider(&routed, false);
    let tracer = provider.tracer("mcp");
    for _ in 0..100 {
        let mut span = tracer.start("call");
        span.set_attribute(KeyValue::new("server.name", "github"));
    }
    provider.shutdown().unwrap();
    let stored = routed.store.snapshot().unwrap().inventory(None).unwrap();
    assert_eq!(stored[0].record_count, 100);
}

#[test]
fn spans_of_tracing_arrive_through_tracing_opentelemetry() {
    let routed = Routed::to(&["github"]);
    let provider = provider(&routed, true);
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("gateway"));
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, || {
        let request = tracing::info_span!("request").entered();
        let call = tracing::info_span!(
            "call",
            server.name = "github",
            otel.kind = "client",
            rows = 3,
            text = tracing::field::Empty
        );
        call.in_scope(|| {
            call.record("text", "later");
            tracing::error!(reason = "refused", "call failed");
        });
        drop(call);
        drop(request);
    });
    provider.force_flush().unwrap();
    let stored = routed.stored();
    let [(server_name, record)] = &stored[..] else {
        panic!("{stored:?}");
    };
    assert_eq!(*server_name, server("github"));
    assert_eq!(record.span.name, "call");
    assert_eq!(record.span.kind, i32::from(StoredKind::Client));
    assert_eq!(
        attribute_of(record, "text"),
        Some(any_value::Value::StringValue("later".to_owned()))
    );
    assert_eq!(record.span.events[0].name, "call failed");
    assert!(!record.span.parent_span_id.is_empty());
    // The span of the request itself names no server.
    assert_eq!(routed.client.skipped().without_server, 1);
}

impl Routed {
    /// Like [`Routed::stored`], but for spans with a NaN, which is not equal to itself.
    fn stored_unchecked(&self) -> Vec<(ServerName, SpanRecord)> {
        let query = Query::new(Signal::Traces);
        let stored = self.store.last(&query, 100).unwrap();
        (stored.into_iter())
            .map(|stored| (stored.server, stored.record.into_span().unwrap()))
            .collect()
    }
}
