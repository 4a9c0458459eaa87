//! The layer that stores events, and the filter in front of it.

#[cfg(feature = "otel-sdk")]
use super::trace_ids::{SpanFinder, TraceIds};
use super::{
    LogOptions, Route, Shared,
    fields::{Encoder, Fields, has_key, has_meaning, has_subsystem, text_at},
    prefix,
};
use crate::{
    ingest::{DropCause, is_writer_thread},
    record::{
        Level,
        messagepack::{write_map_head, write_str, write_str_head, write_uint},
        payload::write_log_start,
    },
    signal::Signal,
    time::Timestamp,
};
use ::time::UtcOffset;
use std::{
    cell::Cell,
    ops::Range,
    sync::{Arc, OnceLock, PoisonError},
};
use tracing::{
    Dispatch, Event, Metadata, Subscriber,
    level_filters::LevelFilter,
    span::{Attributes, Id, Record},
    subscriber::Interest,
};
use tracing_subscriber::{
    Layer,
    layer::{Context, Filter},
    registry::LookupSpan,
};

/// Maximum number of spans stored with an event, the nearest ones: a deeper nesting would make a
/// line hard to read and could exceed the nesting that readers accept.
const GROUPS_MAX: usize = 32;

/// The part of an error that becomes the message of an event without one, in bytes.
const MESSAGE_BYTES_MAX: usize = 1 << 10;

/// The capacity of each of a thread's buffers that is kept between events, in bytes.
const SCRATCH_BYTES_MAX: usize = 64 << 10;

/// The part of a [`LogRouter`](super::LogRouter) that is added to the subscriber.
#[derive(Debug)]
pub struct RouterLayer {
    shared: Arc<Shared>,
    /// Finds the server of a span, once the layer is part of a subscriber, whose type this knows.
    route_of: OnceLock<RouteOf>,
    #[cfg(feature = "otel-sdk")]
    spans: SpanFinder,
}

impl Clone for RouterLayer {
    /// A layer with the same router, to be added to another subscriber.
    fn clone(&self) -> RouterLayer {
        RouterLayer::new(Arc::clone(&self.shared))
    }
}

/// Finds the configured server that a span or one of its parents names, and the field that names it.
type RouteOf = fn(&Shared, &Dispatch, &Id) -> Option<(Route, &'static str)>;

fn route_of<S>(shared: &Shared, dispatch: &Dispatch, id: &Id) -> Option<(Route, &'static str)>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let span = dispatch.downcast_ref::<S>()?.span(id)?;
    span.scope().find_map(|span| {
        let extensions = span.extensions();
        let SpanFields(fields) = extensions.get()?;
        fields
            .keys()
            .find_map(|(key, name)| Some((shared.find(name)?, key)))
    })
}

/// Enables the events and spans that a [`LogRouter`](super::LogRouter) needs, and no others.
#[derive(Debug, Clone)]
pub struct RouterFilter {
    shared: Arc<Shared>,
}

impl RouterLayer {
    pub(super) fn new(shared: Arc<Shared>) -> RouterLayer {
        RouterLayer {
            shared,
            route_of: OnceLock::new(),
            #[cfg(feature = "otel-sdk")]
            spans: SpanFinder::default(),
        }
    }
}

impl RouterLayer {
    /// The server of `shared` that the span `id` of the layer's subscriber names.
    pub(super) fn route_of(
        &self,
        shared: &Shared,
        dispatch: &Dispatch,
        id: &Id,
    ) -> Option<(Route, &'static str)> {
        self.route_of.get()?(shared, dispatch, id)
    }
}

impl RouterFilter {
    pub(super) fn new(shared: Arc<Shared>) -> RouterFilter {
        RouterFilter { shared }
    }

    fn accepts(&self, metadata: &Metadata<'_>) -> bool {
        let level = self.shared.level();
        if metadata.is_span() {
            // A span may be opened long before a server that needs its fields is added. And routing
            // must not depend on the verbosity of the span that names the server.
            *metadata.level() <= level.max(LevelFilter::INFO) || has_meaning(metadata)
        } else {
            *metadata.level() <= level
        }
    }
}

impl<S> Filter<S> for RouterFilter {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        self.accepts(metadata)
    }

    // The result is cached until the servers change, which rebuilds the cache.
    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.accepts(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    // TRACE, for the spans that name a server. A lower level would also limit the `log` crate when
    // the subscriber is installed, whichever servers are added later.
    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }
}

/// The fields that a span adds to the events inside it.
struct SpanFields(Fields);

impl<S> Layer<S> for RouterLayer
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    #[cfg_attr(
        not(feature = "otel-sdk"),
        expect(
            unused_variables,
            reason = "only spans of OpenTelemetry are found by it"
        )
    )]
    fn on_register_dispatch(&self, dispatch: &Dispatch) {
        // A layer belongs to one subscriber.
        let _ = self.route_of.set(route_of::<S>);
        #[cfg(feature = "otel-sdk")]
        self.spans.register(dispatch);
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut Encoder::of_span(&mut fields, self.bytes_max()));
        let mut extensions = span.extensions_mut();
        // Another router of the same subscriber may have created the span's fields already.
        if extensions.get_mut::<SpanFields>().is_none() {
            extensions.insert(SpanFields(fields));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        // Recorded before the extensions are locked: formatting may log, and an event in this span
        // would wait for the lock forever.
        let mut newer = Fields::default();
        values.record(&mut Encoder::of_span(&mut newer, self.bytes_max()));
        if let Some(SpanFields(fields)) = span.extensions_mut().get_mut::<SpanFields>() {
            fields.update(&newer);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if is_writer_thread() {
            return;
        }
        // An event logged while formatting a field of another event finds the scratch taken, and
        // one logged while its thread ends finds none.
        let mut scratch = SCRATCH
            .try_with(Cell::take)
            .ok()
            .flatten()
            .unwrap_or_default();
        // The writer has counted the drop, and the code that logs cannot act on it.
        let _ = self.store(event, &context, &mut scratch);
        scratch.clear();
        _ = SCRATCH.try_with(|kept| kept.set(Some(scratch)));
    }
}

thread_local! {
    /// Reused between events, so that an event allocates only its payload.
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

/// The buffers for encoding one event.
#[derive(Debug, Default)]
struct Scratch {
    /// The fields of the event itself.
    fields: Fields,
    /// The message of the event, encoded.
    message: Vec<u8>,
    spans: Spans,
    payload: Vec<u8>,
}

/// The fields of the spans around an event, nearest span first.
#[derive(Debug, Default)]
struct Spans {
    groups: Vec<Group>,
    entries: Vec<u8>,
    /// The position of the trace id in `entries`.
    trace_id: Option<Range<usize>>,
    too_large: bool,
}

/// The fields of one span.
#[derive(Debug)]
struct Group {
    name: &'static str,
    count: usize,
    /// The position of the fields in [`Spans::entries`].
    entries: Range<usize>,
}

impl RouterLayer {
    /// Maximum encoded size of one event or span, in bytes.
    fn bytes_max(&self) -> usize {
        self.shared.writer.record_bytes_max()
    }

    /// Offers `event` to the writer if a server takes it.
    fn store<S>(
        &self,
        event: &Event<'_>,
        context: &Context<'_, S>,
        scratch: &mut Scratch,
    ) -> Option<Result<(), DropCause>>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let metadata = event.metadata();
        let Scratch {
            fields,
            message,
            spans,
            payload,
        } = scratch;
        // The server that a span names, and the field that names it.
        let mut found = None;
        let mut spans_have_key = false;
        let mut nearest = None;
        for span in context.event_scope(event).into_iter().flatten() {
            nearest.get_or_insert(span.name());
            let extensions = span.extensions();
            let Some(SpanFields(of_span)) = extensions.get::<SpanFields>() else {
                continue;
            };
            if of_span.own {
                return None;
            }
            if found.is_none() {
                // An argument of an instrumented function may have the name of a key, so a name
                // that is not configured must not hide the one of a parent.
                found = of_span.keys().find_map(|(key, name)| {
                    spans_have_key = true;
                    Some((self.shared.find(name)?, key))
                });
            }
            spans.add(span.name(), of_span, self.bytes_max());
        }
        let level = metadata.level();
        if let Some((route, _)) = &found {
            if *level > route.options.level {
                return None;
            }
        } else if !has_key(metadata) && !self.shared.takes_unrouted() {
            if !spans_have_key {
                return None;
            }
            if !has_subsystem(metadata) {
                self.count_unrouted(event, context, fields);
                return None;
            }
        }
        let timestamp = Timestamp::now();
        event.record(&mut Encoder::of_event(
            event,
            fields,
            message,
            self.bytes_max(),
        ));
        if fields.own {
            return None;
        }
        let (route, key) = match found {
            Some((route, key)) => (route, Some(key)),
            None => (self.route_of_event(event, context, fields)?, None),
        };
        if *level > route.options.level {
            return None;
        }
        let server = route.server;
        let writer = &self.shared.writer;
        if fields.too_large || spans.too_large {
            let cause = DropCause::TooLarge;
            return Some(Err(writer.refuse(&server, Signal::Logs, timestamp, cause)));
        }
        let level = Level::from(*level);
        // Fields taken from a span are also written at the top level, where readers of lines look
        // for them.
        let key = key.map(|key| (key, server.as_str()));
        let of_spans = spans.trace_id();
        let [trace_id, span_id] = [of_spans.filter(|_| fields.trace_id().is_none()), None];
        #[cfg(feature = "otel-sdk")]
        let ids = self.ids_of(event, context);
        #[cfg(feature = "otel-sdk")]
        let [trace_id, span_id] = match &ids {
            Some(ids) => ids.beside(event, fields, of_spans),
            None => [trace_id, span_id],
        };
        let lifted = [
            key,
            trace_id.map(|id| ("trace_id", id)),
            span_id.map(|id: &str| ("span_id", id)),
        ];
        write_log_start(UtcOffset::UTC, level, payload);
        if message.is_empty() {
            write_message_of(nearest, fields.error(), payload);
        }
        payload.extend_from_slice(message);
        let source = Source::of(metadata, fields, route.options);
        let others = source.count()
            + lifted.iter().flatten().count()
            + usize::from(!spans.groups.is_empty());
        write_map_head(fields.count + others, payload);
        payload.extend_from_slice(&fields.entries);
        source.write(payload);
        for (name, text) in lifted.into_iter().flatten() {
            write_str(name, payload);
            write_str(text, payload);
        }
        spans.write(payload);
        let urgent = level >= Level::ERROR;
        Some(writer.offer(&server, Signal::Logs, timestamp, urgent, payload))
    }
}

impl RouterLayer {
    /// The server of an event whose spans name none that is configured. `fields` are its own.
    fn route_of_event<S>(
        &self,
        event: &Event<'_>,
        context: &Context<'_, S>,
        fields: &Fields,
    ) -> Option<Route>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        if let Some(route) = fields.keys().find_map(|(_, name)| self.shared.find(name)) {
            return Some(route);
        }
        self.count_unrouted(event, context, fields);
        self.shared.unrouted_route()
    }

    /// The ids of the OpenTelemetry span that `event` is in.
    #[cfg(feature = "otel-sdk")]
    fn ids_of<S>(&self, event: &Event<'_>, context: &Context<'_, S>) -> Option<TraceIds>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        // A thread that has lost its scratch is ending, and has lost its OpenTelemetry context.
        SCRATCH.try_with(|_| ()).ok()?;
        self.spans.ids_of(event, context)
    }

    /// Counts an event that named only servers that are not configured. `fields` are its own.
    #[cold]
    fn count_unrouted<S>(&self, event: &Event<'_>, context: &Context<'_, S>, fields: &Fields)
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let count = |key: Option<(&'static str, &str)>| {
            let unrouted = self.shared.unrouted.lock();
            unrouted.unwrap_or_else(PoisonError::into_inner).count(key);
        };
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(SpanFields(of_span)) = span.extensions().get::<SpanFields>()
                && let Some(key) = of_span.keys().next()
            {
                return count(Some(key));
            }
        }
        match fields.keys().next() {
            Some(key) => count(Some(key)),
            // A key that is not a text names no server.
            None if has_key(event.metadata()) => count(None),
            None => {}
        }
    }
}

/// Writes the message of an event that has none. One with an error, such as an event of
/// `#[instrument(err)]`, says which span failed and why.
fn write_message_of(span: Option<&str>, error: Option<&str>, payload: &mut Vec<u8>) {
    let Some(error) = error else {
        return write_str("", payload);
    };
    // The field has all of the error: repeated, a long one could make the record too large.
    let error = prefix(error, MESSAGE_BYTES_MAX);
    let (span, colon) = span.map_or(("", ""), |span| (span, ": "));
    write_str_head(span.len() + colon.len() + error.len(), payload);
    for part in [span, colon, error] {
        payload.extend_from_slice(part.as_bytes());
    }
}

/// Where an event comes from, as far as its server stores that and the event has no field of the
/// same name.
#[derive(Debug)]
struct Source<'a> {
    target: Option<&'a str>,
    file: Option<&'a str>,
    line: Option<u64>,
}

impl<'a> Source<'a> {
    fn of(metadata: &'a Metadata<'_>, fields: &'a Fields, options: LogOptions) -> Source<'a> {
        let is_free = |name: &str| metadata.fields().field(name).is_none();
        let with_target = options.target && is_free("target");
        let (target, file, line) = match &fields.log_source {
            Some(log) => (log.target.as_deref(), log.file.as_deref(), log.line),
            None => (
                Some(metadata.target()),
                metadata.file(),
                metadata.line().map(u64::from),
            ),
        };
        Source {
            target: target.filter(|_| with_target),
            file: file.filter(|_| options.location && is_free("file")),
            line: line.filter(|_| options.location && is_free("line")),
        }
    }

    fn count(&self) -> usize {
        usize::from(self.target.is_some())
            + usize::from(self.file.is_some())
            + usize::from(self.line.is_some())
    }

    fn write(&self, payload: &mut Vec<u8>) {
        for (name, text) in [("target", self.target), ("file", self.file)] {
            if let Some(text) = text {
                write_str(name, payload);
                write_str(text, payload);
            }
        }
        if let Some(line) = self.line {
            write_str("line", payload);
            write_uint(line, payload);
        }
    }
}

impl Scratch {
    /// Clears the buffers and keeps their allocations for the next event.
    fn clear(&mut self) {
        self.fields.clear();
        self.spans.groups.clear();
        self.spans.trace_id = None;
        self.spans.too_large = false;
        for buffer in [
            &mut self.message,
            &mut self.spans.entries,
            &mut self.payload,
            &mut self.fields.entries,
        ] {
            buffer.clear();
            buffer.shrink_to(SCRATCH_BYTES_MAX);
        }
    }
}

impl Spans {
    /// Adds a span that encloses the spans added before.
    fn add(&mut self, name: &'static str, fields: &Fields, bytes_max: usize) {
        let start = self.entries.len();
        self.too_large |= fields.too_large || start + fields.entries.len() > bytes_max;
        if fields.count == 0 || self.too_large || self.groups.len() == GROUPS_MAX {
            return;
        }
        self.entries.extend_from_slice(&fields.entries);
        self.groups.push(Group {
            name,
            count: fields.count,
            entries: start..self.entries.len(),
        });
        if self.trace_id.is_none()
            && let Some(place) = &fields.trace_id
        {
            self.trace_id = Some(start + place.start..start + place.end);
        }
    }

    fn trace_id(&self) -> Option<&str> {
        text_at(&self.entries, self.trace_id.clone()?)
    }

    /// Appends the outermost group. Each group holds the next one as its last entry.
    fn write(&self, out: &mut Vec<u8>) {
        let mut inner = self.groups.len();
        for group in self.groups.iter().rev() {
            inner -= 1;
            write_str(group.name, out);
            write_map_head(group.count + usize::from(inner > 0), out);
            out.extend_from_slice(self.entries.get(group.entries.clone()).unwrap_or_default());
        }
    }
}
