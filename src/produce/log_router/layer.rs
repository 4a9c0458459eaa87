//! The layer and its filter.

use super::{
    Shared,
    fields::{Fields, RoutingKey, write_map_head, write_str},
};
use crate::{
    ingest::is_writer_thread,
    record::{Level, ServerName},
    signal::Signal,
    time::Timestamp,
};
use std::{cell::RefCell, sync::Arc};
use tracing::{
    Event, Metadata, Subscriber,
    level_filters::LevelFilter,
    span::{Attributes, Id, Record},
    subscriber::Interest,
};
use tracing_subscriber::{
    Layer,
    layer::{Context, Filter},
    registry::LookupSpan,
};

/// Spans nested deeper than this share the group of the one above them: a line must stay readable,
/// and so must its nesting.
const GROUP_DEPTH_MAX: usize = 32;

/// The part of a [`LogRouter`](super::LogRouter) that sits in the subscriber.
#[derive(Debug, Clone)]
pub struct RouterLayer {
    shared: Arc<Shared>,
}

/// Enables what a [`LogRouter`](super::LogRouter) stores, and nothing else.
#[derive(Debug, Clone)]
pub struct RouterFilter {
    shared: Arc<Shared>,
}

impl RouterLayer {
    pub(super) fn new(shared: Arc<Shared>) -> RouterLayer {
        RouterLayer { shared }
    }
}

impl RouterFilter {
    pub(super) fn new(shared: Arc<Shared>) -> RouterFilter {
        RouterFilter { shared }
    }

    fn accepts(&self, metadata: &Metadata<'_>) -> bool {
        let level = self.shared.level();
        if metadata.is_span() {
            // A span may be open long before a server is added that needs its fields.
            *metadata.level() <= level.max(LevelFilter::INFO)
        } else {
            *metadata.level() <= level
        }
    }
}

impl<S> Filter<S> for RouterFilter {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        self.accepts(metadata)
    }

    // What this says is remembered until the servers change, which asks anew.
    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.accepts(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.shared.level().max(LevelFilter::INFO))
    }
}

/// What a span contributes to the events in it.
struct SpanFields(Fields);

impl<S> Layer<S> for RouterLayer
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(SpanFields(fields));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<SpanFields>()
        {
            values.record(&mut fields.0);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if is_writer_thread() {
            return;
        }
        FIELDS.with(|fields| {
            // An event inside the formatting of another one's field finds this taken.
            if let Ok(mut fields) = fields.try_borrow_mut() {
                fields.clear();
                event.record(&mut *fields);
                self.store(event, &fields, &context);
            } else {
                let mut fields = Fields::of_event();
                event.record(&mut fields);
                self.store(event, &fields, &context);
            }
        });
    }
}

thread_local! {
    /// Kept from event to event, so that encoding one allocates nothing but its payload.
    static FIELDS: RefCell<Fields> = RefCell::new(Fields::of_event());
}

impl RouterLayer {
    fn store<S>(&self, event: &Event<'_>, fields: &Fields, context: &Context<'_, S>)
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        if fields.own {
            return;
        }
        let mut inherited = Inherited::default();
        let mut depth = 0;
        if let Some(scope) = context.event_scope(event) {
            for span in scope {
                if let Some(SpanFields(fields)) = span.extensions().get::<SpanFields>() {
                    inherited.take(fields);
                }
                depth += 1;
            }
        }
        let from_span = inherited.key.get();
        let Some((field, name)) = from_span.or_else(|| fields.key.get()) else {
            return;
        };
        let level = *event.metadata().level();
        let server = self.shared.read(|servers| {
            let (server, options) = servers.by_name.get_key_value(name)?;
            (level <= options.level).then(|| server.clone())
        });
        let Some(server) = server else { return };
        // What came from a span stands at the top too, where readers of lines look for it.
        let key = from_span.map(|_| (field, name));
        let trace_id = inherited
            .trace_id
            .as_deref()
            .filter(|_| fields.trace_id.is_none());
        self.encode(
            event,
            fields,
            context,
            &server,
            Lifted {
                key,
                trace_id,
                depth,
            },
        );
    }

    fn encode<S>(
        &self,
        event: &Event<'_>,
        fields: &Fields,
        context: &Context<'_, S>,
        server: &ServerName,
        lifted: Lifted<'_>,
    ) where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let level = slog_level(*event.metadata().level());
        let timestamp = Timestamp::now();
        let outcome = self.shared.writer.offer_with(
            server,
            Signal::Logs,
            timestamp,
            level >= Level::ERROR,
            |out| {
                // The form that `record::payload` describes, the offset being UTC's.
                _ = rmp::encode::write_array_len(out, 4);
                _ = rmp::encode::write_sint(out, 0);
                _ = rmp::encode::write_sint(out, i64::from(level.0));
                write_str(&fields.message, out);
                let groups = Groups::collect(event, context, lifted.depth);
                let lifted_count =
                    usize::from(lifted.key.is_some()) + usize::from(lifted.trace_id.is_some());
                let top = usize::from(!groups.spans.is_empty());
                write_map_head(fields.count + lifted_count + top, out);
                out.extend_from_slice(&fields.entries);
                if let Some((field, name)) = lifted.key {
                    write_str(field, out);
                    write_str(name, out);
                }
                if let Some(trace_id) = lifted.trace_id {
                    write_str("trace_id", out);
                    write_str(trace_id, out);
                }
                groups.write(context, out);
                Ok::<(), std::convert::Infallible>(())
            },
        );
        // The writer has counted it, and whoever logged could do nothing about it.
        let _ = outcome;
    }
}

/// What an event takes to its top level from its spans.
struct Lifted<'a> {
    key: Option<(&'static str, &'a str)>,
    trace_id: Option<&'a str>,
    /// How many spans the event is in.
    depth: usize,
}

/// What the nearest span that has it says.
#[derive(Default)]
struct Inherited {
    key: RoutingKey,
    trace_id: Option<Arc<str>>,
}

impl Inherited {
    /// Takes what nearer spans left open.
    fn take(&mut self, fields: &Fields) {
        if self.key.get().is_none() {
            self.key = fields.key.clone();
        }
        if self.trace_id.is_none() {
            self.trace_id.clone_from(&fields.trace_id);
        }
    }
}

/// The spans around an event that have fields, outermost first.
struct Groups {
    spans: Vec<Id>,
}

impl Groups {
    fn collect<S>(event: &Event<'_>, context: &Context<'_, S>, depth: usize) -> Groups
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let mut spans = Vec::with_capacity(depth.min(GROUP_DEPTH_MAX));
        if depth > 0
            && let Some(scope) = context.event_scope(event)
        {
            for span in scope {
                let has_fields = span
                    .extensions()
                    .get::<SpanFields>()
                    .is_some_and(|SpanFields(fields)| fields.count > 0);
                if has_fields && spans.len() < GROUP_DEPTH_MAX {
                    spans.push(span.id());
                }
            }
        }
        spans.reverse();
        Groups { spans }
    }

    /// Appends the outermost group, which holds the next one as its last entry, and so on.
    fn write<S>(&self, context: &Context<'_, S>, out: &mut Vec<u8>)
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        for (index, id) in self.spans.iter().enumerate() {
            let inner = usize::from(index + 1 < self.spans.len());
            let span = context.span(id);
            let name = span.as_ref().map_or("", |span| span.name());
            write_str(name, out);
            let extensions = span
                .as_ref()
                .map(tracing_subscriber::registry::SpanRef::extensions);
            let fields = extensions.as_ref().and_then(|it| it.get::<SpanFields>());
            match fields {
                Some(SpanFields(fields)) => {
                    write_map_head(fields.count + inner, out);
                    out.extend_from_slice(&fields.entries);
                }
                None => write_map_head(inner, out),
            }
        }
    }
}

/// The level on slog's scale.
fn slog_level(level: tracing::Level) -> Level {
    match level {
        tracing::Level::ERROR => Level::ERROR,
        tracing::Level::WARN => Level::WARN,
        tracing::Level::INFO => Level::INFO,
        tracing::Level::DEBUG => Level::DEBUG,
        tracing::Level::TRACE => Level::TRACE,
    }
}
