//! Fields of events and spans, encoded as they will be stored: `MessagePack` keys and values.

use crate::record::messagepack::EXT_NUMBER;
use std::{
    error::Error,
    fmt::{self, Write as _},
    sync::Arc,
};
use tracing::field::{Field, Visit};

/// What is kept of a single value, in bytes. A record with a longer one is too large to store, and
/// formatting all of it would only cost the caller time and memory.
pub(super) const VALUE_BYTES_MAX: usize = crate::store::RECORD_BYTES_MAX;

/// The fields that name the server of an event.
#[derive(Debug, Default, Clone)]
pub(super) struct RoutingKey {
    component: Option<Arc<str>>,
    server: Option<Arc<str>>,
}

impl RoutingKey {
    /// The key and the field it came from: `component` before `server`.
    pub(super) fn get(&self) -> Option<(&'static str, &str)> {
        let component = self.component.as_deref().map(|name| ("component", name));
        component.or_else(|| self.server.as_deref().map(|name| ("server", name)))
    }
}

/// Fields in the form of a `MessagePack` map without its head.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) entries: Vec<u8>,
    pub(super) count: usize,
    pub(super) key: RoutingKey,
    pub(super) trace_id: Option<Arc<str>>,
    /// The message of an event.
    pub(super) message: String,
    /// `subsystem="telemetry"`: not for the store.
    pub(super) own: bool,
    takes_message: bool,
}

impl Fields {
    /// For an event, whose field `message` is its message.
    pub(super) fn of_event() -> Fields {
        Fields {
            takes_message: true,
            ..Fields::default()
        }
    }

    /// Forgets the fields and keeps the memory, unless that is more than an event should hold on to.
    pub(super) fn clear(&mut self) {
        const KEPT_BYTES_MAX: usize = 64 << 10;
        self.entries.clear();
        self.message.clear();
        self.entries.shrink_to(KEPT_BYTES_MAX);
        self.message.shrink_to(KEPT_BYTES_MAX);
        self.count = 0;
        self.key = RoutingKey::default();
        self.trace_id = None;
        self.own = false;
    }

    /// Appends a key; the value must follow.
    fn begin(&mut self, name: &str) {
        self.count += 1;
        write_str(name, &mut self.entries);
    }

    /// Takes note of a text that means something beyond itself.
    fn note(&mut self, name: &str, text: &str) {
        match name {
            "component" => self.key.component = Some(text.into()),
            "server" => self.key.server = Some(text.into()),
            "trace_id" => self.trace_id = Some(text.into()),
            "subsystem" => self.own = text == "telemetry",
            _ => {}
        }
    }

    fn text(&mut self, field: &Field, text: &str) {
        let name = name_of(field);
        if self.takes_message && name == "message" {
            self.message.clear();
            self.message.push_str(cut(text));
            return;
        }
        // The `log` crate's fields about the event itself, which come from `tracing-log`.
        if name.starts_with("log.") {
            return;
        }
        self.note(name, text);
        self.begin(name);
        write_str(cut(text), &mut self.entries);
    }
}

/// A field's name; raw identifiers (`r#type`) lose the mark that only the compiler needs.
fn name_of(field: &Field) -> &'static str {
    let name = field.name();
    name.strip_prefix("r#").unwrap_or(name)
}

/// Writing to a vector cannot fail, so what the encoder returns says nothing.
impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        if name_of(field).starts_with("log.") {
            return;
        }
        self.begin(name_of(field));
        _ = rmp::encode::write_sint(&mut self.entries, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if name_of(field).starts_with("log.") {
            return;
        }
        self.begin(name_of(field));
        _ = rmp::encode::write_uint(&mut self.entries, value);
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        match (i64::try_from(value), u64::try_from(value)) {
            (Ok(value), _) => self.record_i64(field, value),
            (_, Ok(value)) => self.record_u64(field, value),
            _ => {
                self.begin(name_of(field));
                write_number(&value.to_string(), &mut self.entries);
            }
        }
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        if let Ok(value) = u64::try_from(value) {
            self.record_u64(field, value);
        } else {
            self.begin(name_of(field));
            write_number(&value.to_string(), &mut self.entries);
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.begin(name_of(field));
        _ = rmp::encode::write_f64(&mut self.entries, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.begin(name_of(field));
        _ = rmp::encode::write_bool(&mut self.entries, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let mut text = BoundedText::default();
        _ = write!(text, "{value}");
        let mut source = value.source();
        // An error that is its own source would otherwise never end.
        for _ in 0..32 {
            let Some(cause) = source else { break };
            _ = write!(text, ": {cause}");
            source = cause.source();
        }
        self.text(field, &text.0);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = BoundedText::default();
        _ = write!(text, "{value:?}");
        self.text(field, &text.0);
    }
}

/// Text that stops growing once it is too long to be stored.
#[derive(Default)]
struct BoundedText(String);

impl fmt::Write for BoundedText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = (VALUE_BYTES_MAX + 1).saturating_sub(self.0.len());
        if text.len() <= room {
            self.0.push_str(text);
            return Ok(());
        }
        self.0.push_str(
            text.get(..text.floor_char_boundary(room))
                .unwrap_or_default(),
        );
        Err(fmt::Error)
    }
}

/// Of a text that is too long, only enough to be seen to be.
fn cut(text: &str) -> &str {
    if text.len() <= VALUE_BYTES_MAX {
        return text;
    }
    text.get(..text.ceil_char_boundary(VALUE_BYTES_MAX + 1))
        .unwrap_or(text)
}

pub(super) fn write_str(text: &str, out: &mut Vec<u8>) {
    _ = rmp::encode::write_str(out, text);
}

fn write_number(text: &str, out: &mut Vec<u8>) {
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    _ = rmp::encode::write_ext_meta(out, length, EXT_NUMBER);
    out.extend_from_slice(text.as_bytes());
}

pub(super) fn write_map_head(entries: usize, out: &mut Vec<u8>) {
    _ = rmp::encode::write_map_len(out, u32::try_from(entries).unwrap_or(u32::MAX));
}
