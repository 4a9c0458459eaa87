//! The ids of the OpenTelemetry span around an event.

use super::fields::Fields;
use crate::otlp::id::hex_digits;
use opentelemetry::trace::{SpanContext, TraceContextExt as _};
use std::{panic::catch_unwind, sync::OnceLock};
use tracing::{Dispatch, Event, Subscriber, dispatcher::WeakDispatch};
use tracing_subscriber::{layer::Context, registry::LookupSpan};

/// The ids of a span, in lowercase hex.
#[derive(Debug, Clone, Copy)]
pub(super) struct TraceIds {
    trace_id: [u8; 32],
    span_id: [u8; 16],
}

impl TraceIds {
    fn of(span: &SpanContext) -> Option<TraceIds> {
        span.is_valid().then(|| {
            let mut ids = TraceIds {
                trace_id: [0; 32],
                span_id: [0; 16],
            };
            write_hex(&span.trace_id().to_bytes(), &mut ids.trace_id);
            write_hex(&span.span_id().to_bytes(), &mut ids.span_id);
            ids
        })
    }

    /// The trace id and the span id to add to `event`, which has `fields`. `of_spans` is the trace
    /// id in the fields of its spans. Ids that the application sets take precedence, and a span id
    /// is never stored beside the id of another trace.
    pub(super) fn beside<'a>(
        &'a self,
        event: &Event<'_>,
        fields: &Fields,
        of_spans: Option<&'a str>,
    ) -> [Option<&'a str>; 2] {
        let is_set = |name| event.metadata().fields().field(name).is_some();
        let trace_id = str::from_utf8(&self.trace_id).ok();
        let stored = if is_set("trace_id") {
            fields.trace_id()
        } else {
            of_spans.or(trace_id)
        };
        let is_same = stored.is_some() && stored == trace_id;
        [
            of_spans.or(trace_id).filter(|_| !is_set("trace_id")),
            str::from_utf8(&self.span_id)
                .ok()
                .filter(|_| is_same && !is_set("span_id")),
        ]
    }
}

fn write_hex(id: &[u8], out: &mut [u8]) {
    let (digits, _) = out.as_chunks_mut::<2>();
    for (digits, byte) in digits.iter_mut().zip(id) {
        *digits = hex_digits(*byte);
    }
}

/// Finds the OpenTelemetry span of an event.
#[derive(Debug, Default)]
pub(super) struct SpanFinder {
    /// The subscriber that the layer was added to.
    dispatch: OnceLock<WeakDispatch>,
}

impl SpanFinder {
    pub(super) fn register(&self, dispatch: &Dispatch) {
        // A layer belongs to one subscriber.
        let _ = self.dispatch.set(dispatch.downgrade());
    }

    /// The ids of the span that `event` is in.
    pub(super) fn ids_of<S>(&self, event: &Event<'_>, context: &Context<'_, S>) -> Option<TraceIds>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        if event.is_contextual() {
            // OpenTelemetry logs while it changes the current context, which cannot be read then.
            if event.metadata().target().starts_with("opentelemetry") {
                return None;
            }
            // `tracing-opentelemetry` attaches the context of a span when the span is entered.
            // Asking for the span's own data instead would lock it, and an event that a sampler
            // logs while the span starts would wait for that lock forever. On a thread that ends,
            // the context may be gone, and reading it panics.
            let ids =
                || opentelemetry::Context::map_current(|it| TraceIds::of(it.span().span_context()));
            return catch_unwind(ids).ok().flatten();
        }
        // The event was given its parent, which need not be entered.
        let dispatch = self.dispatch.get()?.upgrade()?;
        context.event_scope(event)?.find_map(|span| {
            let found = tracing_opentelemetry::get_otel_context(&span.id(), &dispatch)?;
            TraceIds::of(found.span().span_context())
        })
    }
}
