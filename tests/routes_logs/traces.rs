//! An event in a span of `tracing-opentelemetry` has the ids of that span, and the two are stored under
//! the same server.

#![cfg(feature = "otel-sdk")]

use crate::{common::server, routed::Routed};
use gridctl_telemetry::{
    LogRecord, Query, Signal, SpanRecord,
    traces::{TelemetrySpanExporter, TraceClient},
};
use opentelemetry::{
    Context, SpanId, TraceFlags, TraceId,
    trace::{SpanContext, SpanKind, TraceContextExt as _, TraceState, TracerProvider as _},
};
use opentelemetry_sdk::trace::{Sampler, SamplingResult, SdkTracerProvider, ShouldSample};
use tracing::{Span, info, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::layer::SubscriberExt as _;

/// Runs `work` in a subscriber with a router and with spans of OpenTelemetry, once for each order of
/// the layers, and passes the stored logs and spans to `check`.
fn in_both_orders(
    sampler: &(impl ShouldSample + Clone + 'static),
    work: impl Fn(),
    check: impl Fn(&Routed, &[LogRecord], &[SpanRecord]),
) {
    for router_first in [true, false] {
        let routed = Routed::to(&["github", "slack"]);
        let client = TraceClient::new(routed.writer.clone());
        client.add_server("github").unwrap();
        client.add_server("slack").unwrap();
        let provider = SdkTracerProvider::builder()
            .with_sampler(sampler.clone())
            .with_simple_exporter(TelemetrySpanExporter::new(client))
            .build();
        let tracer = provider.tracer("gateway");
        let registry = tracing_subscriber::registry();
        if router_first {
            let spans = tracing_opentelemetry::layer().with_tracer(tracer);
            let subscriber = registry.with(routed.router.layer()).with(spans);
            tracing::subscriber::with_default(subscriber, &work);
        } else {
            let spans = tracing_opentelemetry::layer().with_tracer(tracer);
            let subscriber = registry.with(spans).with(routed.router.layer());
            tracing::subscriber::with_default(subscriber, &work);
        }
        let logs: Vec<_> = routed.records().into_iter().map(|(_, log)| log).collect();
        let spans = routed.store.last(&Query::new(Signal::Traces), 100).unwrap();
        let spans: Vec<_> = (spans.into_iter())
            .map(|stored| stored.record.into_span().unwrap())
            .collect();
        check(&routed, &logs, &spans);
    }
}

fn text<'a>(record: &'a LogRecord, key: &str) -> Option<&'a str> {
    match record.attribute(key)? {
        gridctl_telemetry::Value::String(text) => Some(text),
        other => panic!("{other:?}"),
    }
}

/// The ids of a log record.
fn ids(record: &LogRecord) -> (Option<&str>, Option<&str>) {
    (text(record, "trace_id"), text(record, "span_id"))
}

/// The ids of the span named `name`.
fn ids_of(spans: &[SpanRecord], name: &str) -> (String, String) {
    let found = spans.iter().find(|record| record.span.name == name);
    let span = &found.unwrap().span;
    (hex(&span.trace_id), hex(&span.span_id))
}

fn hex(id: &[u8]) -> String {
    use std::fmt::Write as _;
    id.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

#[test]
fn an_event_has_the_ids_of_its_span() {
    in_both_orders(
        &Sampler::AlwaysOn,
        || {
            let call = info_span!("call", component = "github");
            let _call = call.enter();
            info!("one");
            let inner = info_span!("inner", component = "github");
            inner.in_scope(|| info!("two"));
            info!("three");
            // Not entered, but the parent of an event.
            let other = info_span!(parent: None, "other", component = "slack");
            info!(parent: &other, "four");
            info!(parent: None, component = "slack", "five");
        },
        |routed, logs, spans| {
            assert_eq!(
                routed.messages(),
                [
                    "github: one",
                    "github: two",
                    "github: three",
                    "slack: four",
                    "slack: five"
                ]
            );
            for (log, name) in logs.iter().zip(["call", "inner", "call", "other"]) {
                let (trace_id, span_id) = ids_of(spans, name);
                assert_eq!(ids(log), (Some(&*trace_id), Some(&*span_id)), "{name}");
            }
            assert_ne!(ids(&logs[0]).0, ids(&logs[3]).0);
            assert_eq!(ids(&logs[4]), (None, None));
        },
    );
}

#[test]
fn ids_that_the_application_sets_are_kept() {
    in_both_orders(
        &Sampler::AlwaysOn,
        || {
            let call = info_span!("call", component = "github");
            let _call = call.enter();
            info!(trace_id = "own", "one");
            info!(span_id = "own", "two");
            info!(trace_id = "own", span_id = "own", "three");
            info_span!("inner", trace_id = "of a span").in_scope(|| info!("four"));
            let same = call.context().span().span_context().trace_id().to_string();
            info!(trace_id = same, "five");
        },
        |_, logs, spans| {
            let (trace_id, span_id) = ids_of(spans, "call");
            assert_eq!(
                logs.iter().map(ids).collect::<Vec<_>>(),
                [
                    // The id of a span in another trace would be wrong.
                    (Some("own"), None),
                    (Some(&*trace_id), Some("own")),
                    (Some("own"), Some("own")),
                    (Some("of a span"), None),
                    (Some(&*trace_id), Some(&*span_id)),
                ]
            );
        },
    );
}

#[test]
fn spans_that_are_not_sampled_have_ids() {
    in_both_orders(
        &Sampler::AlwaysOff,
        || info_span!("call", component = "github").in_scope(|| info!("one")),
        |_, logs, spans| {
            assert_eq!(spans, []);
            let (trace_id, span_id) = ids(&logs[0]);
            assert_eq!(trace_id.unwrap().len(), 32);
            assert_eq!(span_id.unwrap().len(), 16);
        },
    );
}

#[test]
fn a_remote_parent_gives_its_trace_id() {
    let remote = SpanContext::new(
        TraceId::from(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736),
        SpanId::from(0x00f0_67aa_0ba9_02b7),
        TraceFlags::SAMPLED,
        true,
        TraceState::NONE,
    );
    in_both_orders(
        &Sampler::AlwaysOn,
        || {
            let call = info_span!("call", component = "github");
            let parent = Context::new().with_remote_span_context(remote.clone());
            call.set_parent(parent).unwrap();
            call.in_scope(|| info!("one"));
        },
        |_, logs, spans| {
            let (trace_id, span_id) = ids_of(spans, "call");
            assert_eq!(trace_id, "4bf92f3577b34da6a3ce929d0e0e4736");
            assert_eq!(ids(&logs[0]), (Some(&*trace_id), Some(&*span_id)));
            assert_ne!(span_id, "00f067aa0ba902b7");
        },
    );
}

#[test]
fn one_field_serves_logs_and_traces() {
    in_both_orders(
        &Sampler::AlwaysOn,
        || {
            info_span!("one", component = "github").in_scope(|| info!("one"));
            info_span!("two", server.name = "github").in_scope(|| info!("two"));
            // The configured name counts.
            info_span!("three", server.name = "gitlab", component = "github")
                .in_scope(|| info!("three"));
        },
        |routed, logs, spans| {
            assert_eq!(
                routed.messages(),
                ["github: one", "github: two", "github: three"]
            );
            for (log, name) in logs.iter().zip(["one", "two", "three"]) {
                let (trace_id, span_id) = ids_of(spans, name);
                assert_eq!(ids(log), (Some(&*trace_id), Some(&*span_id)));
            }
            let stored = routed.store.last(&Query::new(Signal::Traces), 9).unwrap();
            assert!(stored.iter().all(|it| it.server == server("github")));
        },
    );
}

#[test]
fn an_event_that_a_sampler_logs_hangs_nothing() {
    #[derive(Debug, Clone)]
    struct Logs;
    impl ShouldSample for Logs {
        fn should_sample(
            &self,
            parent: Option<&Context>,
            trace_id: TraceId,
            name: &str,
            kind: &SpanKind,
            attributes: &[opentelemetry::KeyValue],
            links: &[opentelemetry::trace::Link],
        ) -> SamplingResult {
            info!(component = "github", inside = ?Span::current().id(), "asked");
            Sampler::AlwaysOn.should_sample(parent, trace_id, name, kind, attributes, links)
        }
    }
    crate::common::without_hang("a sampler that logs", || {
        in_both_orders(
            &Logs,
            || info_span!("call", component = "github").in_scope(|| info!("one")),
            |routed, _, _| assert_eq!(routed.messages().last().unwrap(), "github: one"),
        );
    });
}
