//! Encodes the fields of events and spans in their stored form: `MessagePack` keys and values.

use crate::record::messagepack::{
    Reader, Token, str_head_bytes, write_bool, write_float, write_int, write_number, write_str,
    write_str_head, write_uint,
};
use std::{
    error::Error,
    fmt::{self, Write as _},
    ops::Range,
};
use tracing::{
    Event, Metadata,
    field::{Field, Visit},
};

/// The fields that may name the server of an event, in order of precedence.
const KEYS: [&str; 3] = ["component", "server", "server.name"];

/// Maximum number of sources of an error that are stored: an error that is its own source would
/// never end.
const CAUSES_MAX: usize = 32;

/// Fields as a `MessagePack` map without its head, and the values of those fields that have a
/// meaning to the router.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) entries: Vec<u8>,
    pub(super) count: usize,
    /// Whether there is a field `subsystem="telemetry"`: such events are not stored.
    pub(super) own: bool,
    /// Whether a field was left out because it exceeds the maximum size of a record.
    pub(super) too_large: bool,
    /// The positions in `entries` of the texts of `KEYS`.
    keys: [Option<Range<usize>>; KEYS.len()],
    /// The position in `entries` of the text of `trace_id`.
    pub(super) trace_id: Option<Range<usize>>,
    /// The position in `entries` of the text of `error`.
    error: Option<Range<usize>>,
    /// Where an event of the `log` crate comes from.
    pub(super) log_source: Option<Box<LogSource>>,
}

/// Where an event of the `log` crate comes from. `tracing-log` has one callsite for all of them, and
/// passes this in fields.
#[derive(Debug, Default)]
pub(super) struct LogSource {
    pub(super) target: Option<String>,
    pub(super) file: Option<String>,
    pub(super) line: Option<u64>,
}

impl Fields {
    /// The text of `error`.
    pub(super) fn error(&self) -> Option<&str> {
        text_at(&self.entries, self.error.clone()?)
    }

    /// The text of `trace_id`.
    pub(super) fn trace_id(&self) -> Option<&str> {
        text_at(&self.entries, self.trace_id.clone()?)
    }

    /// The names of servers, in order of precedence, each with the field that holds it.
    pub(super) fn keys(&self) -> impl Iterator<Item = (&'static str, &str)> {
        KEYS.into_iter()
            .zip(&self.keys)
            .filter_map(|(name, place)| Some((name, text_at(&self.entries, place.clone()?)?)))
    }

    /// Removes all fields and keeps the allocation for the next ones.
    pub(super) fn clear(&mut self) {
        let mut entries = std::mem::take(&mut self.entries);
        entries.clear();
        *self = Fields {
            entries,
            ..Fields::default()
        };
    }

    /// Adds fields that were recorded later. They replace fields of the same name, so a value that
    /// is recorded repeatedly takes the space of one.
    pub(super) fn update(&mut self, newer: &Fields) {
        let mut merged = Fields {
            entries: Vec::with_capacity(self.entries.len() + newer.entries.len()),
            too_large: self.too_large || newer.too_large,
            ..Fields::default()
        };
        for (name, value, bytes) in self.iter() {
            if newer.iter().all(|(other, ..)| other != name) {
                merged.append(name, value, bytes);
            }
        }
        for (name, value, bytes) in newer.iter() {
            merged.append(name, value, bytes);
        }
        *self = merged;
    }

    /// For each field, its name, its value, and both in encoded form.
    fn iter(&self) -> impl Iterator<Item = (&str, Token<'_>, &[u8])> {
        let mut reader = Reader::new(&self.entries);
        std::iter::from_fn(move || {
            let start = reader.position();
            let name = reader.str().ok()?;
            let value = reader.token().ok()?;
            Some((name, value, self.entries.get(start..reader.position())?))
        })
    }

    fn append(&mut self, name: &str, value: Token<'_>, bytes: &[u8]) {
        self.entries.extend_from_slice(bytes);
        let end = self.entries.len();
        self.added(
            name,
            match value {
                Token::Str(text) => Some(end - text.len()..end),
                _ => None,
            },
        );
    }

    /// Notes a field that was appended; `text` is the position of its text, if it has one.
    fn added(&mut self, name: &str, text: Option<Range<usize>>) {
        self.count += 1;
        match name {
            "trace_id" => self.trace_id = text,
            "error" => self.error = text,
            "subsystem" => {
                self.own = text.and_then(|at| text_at(&self.entries, at)) == Some("telemetry");
            }
            _ => {
                if let Some((_, place)) =
                    (KEYS.into_iter().zip(&mut self.keys)).find(|(key, _)| *key == name)
                {
                    *place = text;
                }
            }
        }
    }
}

/// The text at a position in `entries`.
pub(super) fn text_at(entries: &[u8], place: Range<usize>) -> Option<&str> {
    std::str::from_utf8(entries.get(place)?).ok()
}

/// Whether a callsite has a field that names a server.
pub(super) fn has_key(metadata: &Metadata<'_>) -> bool {
    metadata
        .fields()
        .iter()
        .any(|field| KEYS.contains(&field.name()))
}

/// Whether a callsite has the field that marks telemetry's own events.
pub(super) fn has_subsystem(metadata: &Metadata<'_>) -> bool {
    metadata.fields().field("subsystem").is_some()
}

/// Whether a callsite has a field that has a meaning to the router.
pub(super) fn has_meaning(metadata: &Metadata<'_>) -> bool {
    metadata.fields().iter().any(|field| means(field.name()))
}

fn means(name: &str) -> bool {
    KEYS.contains(&name) || matches!(name, "trace_id" | "subsystem")
}

/// Encodes fields while visiting them.
pub(super) struct Encoder<'a> {
    fields: &'a mut Fields,
    /// Receives the field `message` of an event. For a span it is `None`: `message` is an ordinary
    /// field there.
    message: Option<&'a mut Vec<u8>>,
    from_log: bool,
    bytes_max: usize,
}

impl<'a> Encoder<'a> {
    /// Appends the fields of a span to `fields`, up to `bytes_max` bytes.
    pub(super) fn of_span(fields: &'a mut Fields, bytes_max: usize) -> Encoder<'a> {
        Encoder {
            fields,
            message: None,
            from_log: false,
            bytes_max,
        }
    }

    /// Appends the fields of `event` to `fields` and writes its message to `message`, up to
    /// `bytes_max` bytes each.
    pub(super) fn of_event(
        event: &Event<'_>,
        fields: &'a mut Fields,
        message: &'a mut Vec<u8>,
        bytes_max: usize,
    ) -> Encoder<'a> {
        Encoder {
            fields,
            message: Some(message),
            // The name that `tracing-log` gives to its events.
            from_log: event.metadata().name() == "log event",
            bytes_max,
        }
    }

    /// Appends a value of a few bytes that is not a text.
    fn value(&mut self, field: &Field, write: impl FnOnce(&mut Vec<u8>)) {
        let name = field.name();
        if !self.skips(name) {
            write_str(name, &mut self.fields.entries);
            write(&mut self.fields.entries);
            self.fields.added(name, None);
        }
    }

    /// Appends a text. `write` fails when the text exceeds the remaining space.
    fn text(
        &mut self,
        field: &Field,
        length: usize,
        write: impl FnOnce(&mut Text<'_>) -> fmt::Result,
    ) {
        let name = field.name();
        if self.skips(name) {
            return;
        }
        let fields = &mut *self.fields;
        if let Some(message) = self.message.as_deref_mut().filter(|_| name == "message") {
            message.clear();
            if write_text(message, self.bytes_max, length, write).is_none() {
                fields.too_large = true;
            }
            return;
        }
        let start = fields.entries.len();
        write_str(name, &mut fields.entries);
        if let Some(place) = write_text(&mut fields.entries, self.bytes_max, length, write) {
            fields.added(name, Some(place));
        } else {
            fields.entries.truncate(start);
            fields.too_large = true;
        }
    }

    fn is_message(&self, field: &Field) -> bool {
        self.message.is_some() && field.name() == "message"
    }

    fn skips(&self, name: &str) -> bool {
        // A record that is too large is only counted, so only the fields that select its server
        // matter.
        let lost = self.fields.too_large && !means(name);
        lost || self.from_log
            && matches!(
                name,
                "log.target" | "log.module_path" | "log.file" | "log.line"
            )
    }
}

impl Visit for Encoder<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if self.from_log {
            let source = self.fields.log_source.get_or_insert_default();
            match field.name() {
                "log.target" => source.target = Some(value.to_owned()),
                "log.file" => source.file = Some(value.to_owned()),
                _ => {}
            }
        }
        self.text(field, value.len(), |out| out.write_str(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        if self.is_message(field) {
            return self.record_debug(field, &value);
        }
        self.value(field, |out| write_int(value, out));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if self.from_log && field.name() == "log.line" {
            self.fields.log_source.get_or_insert_default().line = Some(value);
        }
        if self.is_message(field) {
            return self.record_debug(field, &value);
        }
        self.value(field, |out| write_uint(value, out));
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        match (i64::try_from(value), u64::try_from(value)) {
            (Ok(value), _) => self.record_i64(field, value),
            (_, Ok(value)) => self.record_u64(field, value),
            _ => self.record_long(field, &value),
        }
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        match u64::try_from(value) {
            Ok(value) => self.record_u64(field, value),
            Err(_) => self.record_long(field, &value),
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if self.is_message(field) {
            return self.record_debug(field, &value);
        }
        self.value(field, |out| write_float(value, out));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        if self.is_message(field) {
            return self.record_debug(field, &value);
        }
        self.value(field, |out| write_bool(value, out));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.text(field, 0, |out| {
            write!(out, "{value}")?;
            let mut source = value.source();
            for _ in 0..CAUSES_MAX {
                let Some(cause) = source else { break };
                write!(out, ": {cause}")?;
                source = cause.source();
            }
            Ok(())
        });
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, 0, |out| write!(out, "{value:?}"));
    }
}

impl Encoder<'_> {
    /// Appends an integer beyond 64 bits.
    fn record_long(&mut self, field: &Field, value: &(impl fmt::Display + fmt::Debug)) {
        if self.is_message(field) {
            return self.record_debug(field, value);
        }
        self.value(field, |out| write_number(&value.to_string(), out));
    }
}

/// A text that stops growing when its space is used up.
struct Text<'a> {
    out: &'a mut Vec<u8>,
    /// The maximum length of `out`.
    end: usize,
    overflowed: bool,
}

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.len() > self.end.saturating_sub(self.out.len()) {
            // The error makes the formatter stop: the rest would be discarded.
            self.overflowed = true;
            return Err(fmt::Error);
        }
        self.out.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// Appends a string of about `length` bytes that `write` writes, and returns the position of its
/// text; `None` when `out` would exceed `end`.
fn write_text(
    out: &mut Vec<u8>,
    end: usize,
    length: usize,
    write: impl FnOnce(&mut Text<'_>) -> fmt::Result,
) -> Option<Range<usize>> {
    let head = out.len();
    let start = head + str_head_bytes(length);
    out.resize(start, 0);
    let mut text = Text {
        out,
        end,
        overflowed: false,
    };
    // If a formatter fails for a reason of its own, the text up to there is stored.
    _ = write(&mut text);
    if text.overflowed {
        return None;
    }
    let length = out.len() - start;
    let found = start..out.len();
    let start = head + str_head_bytes(length);
    if start > found.start {
        out.resize(start + length, 0);
        out.copy_within(found, start);
    }
    let mut room = out.get_mut(head..start)?;
    write_str_head(length, &mut room);
    Some(start..start + length)
}
