//! The strings of a record.

use super::{
    Rules,
    literals::PLACEHOLDER,
    names::{KeyNames, key_names},
    text::Apply,
};
use crate::record::{LogRecord, MetricsSnapshot, Record, SpanRecord, Value};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};

/// Whose keys they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    /// Attributes.
    Attributes,
    /// A map: environment variables, headers, arguments, a group.
    Map,
    /// A snapshot, where a tool's name is a key as well: a string alone is replaced, never what
    /// stands deeper.
    Snapshot,
    /// A map of a snapshot.
    SnapshotMap,
}

impl Keys {
    /// Whose keys those of a map among the values are.
    pub(super) fn inner(self) -> Keys {
        match self {
            Keys::Attributes | Keys::Map => Keys::Map,
            Keys::Snapshot | Keys::SnapshotMap => Keys::SnapshotMap,
        }
    }

    /// What becomes of the value beside a key with `names`.
    pub(super) fn replace(self, names: KeyNames) -> Replace {
        let is_map = matches!(self, Keys::Map | Keys::SnapshotMap);
        match (names, self) {
            (KeyNames::Secret, Keys::Attributes | Keys::Map) => Replace::Strings,
            (KeyNames::Secret, _) => Replace::String,
            (KeyNames::SecretInMap, _) if is_map => Replace::String,
            _ => Replace::Nothing,
        }
    }
}

/// What of a value is replaced because of its key. Numbers and booleans never are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Replace {
    Nothing,
    /// A string, or the strings of a list.
    String,
    /// Strings at any depth.
    Strings,
}

impl Rules {
    /// Replaces the secrets of `record`, and says whether there were any.
    pub(crate) fn redact(&self, record: &mut Record) -> bool {
        match record {
            Record::Log(record) => self.redact_log(record),
            Record::Metrics(snapshot) => self.redact_snapshot(snapshot),
            Record::Span(record) => self.redact_span(record),
        }
    }

    fn redact_log(&self, record: &mut LogRecord) -> bool {
        let message = self.redact_text(&mut record.message, Apply::All);
        self.redact_entries(&mut record.attributes, Keys::Attributes) | message
    }

    fn redact_snapshot(&self, snapshot: &mut MetricsSnapshot) -> bool {
        self.redact_entries(&mut snapshot.extra, Keys::Snapshot)
    }

    fn redact_span(&self, record: &mut SpanRecord) -> bool {
        let mut changed = false;
        changed |= self.redact_text(&mut record.resource_schema_url, Apply::Shapes);
        changed |= self.redact_text(&mut record.scope_schema_url, Apply::Shapes);
        if let Some(resource) = &mut record.resource {
            changed |= self.redact_key_values(&mut resource.attributes, Keys::Attributes);
            for entity in &mut resource.entity_refs {
                changed |= self.redact_text(&mut entity.schema_url, Apply::Shapes);
                changed |= self.redact_text(&mut entity.r#type, Apply::Shapes);
                for key in entity
                    .id_keys
                    .iter_mut()
                    .chain(&mut entity.description_keys)
                {
                    changed |= self.redact_text(key, Apply::Shapes);
                }
            }
        }
        if let Some(scope) = &mut record.scope {
            changed |= self.redact_text(&mut scope.name, Apply::All);
            changed |= self.redact_text(&mut scope.version, Apply::Shapes);
            changed |= self.redact_key_values(&mut scope.attributes, Keys::Attributes);
        }
        let span = &mut record.span;
        changed |= self.redact_text(&mut span.name, Apply::All);
        changed |= self.redact_text(&mut span.trace_state, Apply::Shapes);
        changed |= self.redact_key_values(&mut span.attributes, Keys::Attributes);
        for event in &mut span.events {
            changed |= self.redact_text(&mut event.name, Apply::All);
            changed |= self.redact_key_values(&mut event.attributes, Keys::Attributes);
        }
        for link in &mut span.links {
            changed |= self.redact_text(&mut link.trace_state, Apply::Shapes);
            changed |= self.redact_key_values(&mut link.attributes, Keys::Attributes);
        }
        if let Some(status) = &mut span.status {
            changed |= self.redact_text(&mut status.message, Apply::All);
        }
        changed
    }

    fn redact_entries(&self, entries: &mut [(String, Value)], keys: Keys) -> bool {
        let mut changed = false;
        let (mut named, mut named_attribute) = (Replace::Nothing, Replace::Nothing);
        let is_entry = entries.iter().any(|(key, _)| is_value_of_entry(key));
        for (key, value) in entries.iter() {
            if let (true, Value::String(name)) = (names_entry(key), value) {
                let says = entry_names(name);
                named = named.max(keys.replace(says));
                named_attribute = named_attribute.max(Keys::Attributes.replace(says));
            }
        }
        for (key, value) in entries {
            if is_value_of_entry(key) {
                changed |= match (keys, &mut *value) {
                    // An attribute of a metric.
                    (Keys::SnapshotMap, Value::Object(value)) => {
                        replace_otlp(value, named_attribute)
                    }
                    (_, value) => replace_value(value, named),
                };
            }
            // The name of an entry is no secret, although it stands beside `key`.
            if !(is_entry && names_entry(key)) {
                changed |= replace_value(value, keys.replace(key_names(key)));
            }
            changed |= self.redact_value(value, keys);
            changed |= self.redact_text(key, Apply::Shapes);
        }
        changed
    }

    fn redact_value(&self, value: &mut Value, keys: Keys) -> bool {
        match value {
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::UInt(_) | Value::Float(_) => {
                false
            }
            Value::String(text) => self.redact_text(text, Apply::All),
            Value::Number(number) => {
                // Whatever is not a number is written as a string, so it is looked at as one.
                let mut text = number.to_string();
                let changed = self.redact_text(&mut text, Apply::All);
                if changed {
                    *value = Value::String(text);
                }
                changed
            }
            Value::Array(items) => items.iter_mut().fold(false, |changed, item| {
                self.redact_value(item, keys) | changed
            }),
            Value::Object(entries) => self.redact_entries(entries, keys.inner()),
        }
    }

    fn redact_key_values(&self, entries: &mut [KeyValue], keys: Keys) -> bool {
        let mut changed = false;
        let mut named = Replace::Nothing;
        for entry in entries.iter().filter(|entry| names_entry(&entry.key)) {
            let value = entry.value.as_ref().and_then(|value| value.value.as_ref());
            if let Some(any_value::Value::StringValue(name)) = value {
                named = named.max(keys.replace(entry_names(name)));
            }
        }
        for entry in entries {
            if let Some(value) = &mut entry.value {
                if is_value_of_entry(&entry.key) {
                    changed |= replace_any_value(value, named);
                }
                changed |= replace_any_value(value, keys.replace(key_names(&entry.key)));
                changed |= self.redact_any_value(value);
            }
            changed |= self.redact_text(&mut entry.key, Apply::Shapes);
        }
        changed
    }

    fn redact_any_value(&self, value: &mut AnyValue) -> bool {
        match &mut value.value {
            Some(any_value::Value::StringValue(text)) => self.redact_text(text, Apply::All),
            Some(any_value::Value::BytesValue(bytes)) => self.redact_bytes(bytes),
            Some(any_value::Value::ArrayValue(array)) => array
                .values
                .iter_mut()
                .fold(false, |changed, item| self.redact_any_value(item) | changed),
            Some(any_value::Value::KvlistValue(list)) => {
                self.redact_key_values(&mut list.values, Keys::Map)
            }
            None
            | Some(
                any_value::Value::BoolValue(_)
                | any_value::Value::IntValue(_)
                | any_value::Value::DoubleValue(_)
                | any_value::Value::StringValueStrindex(_),
            ) => false,
        }
    }
}

/// Whether the value beside `key` names an entry whose value stands beside it, as in
/// `{"name":"Authorization","value":"…"}`.
pub(super) fn names_entry(key: &str) -> bool {
    ["name", "key", "header"]
        .iter()
        .any(|name| key.eq_ignore_ascii_case(name))
}

/// What `name` says about the value of its entry. What has spaces is prose.
fn entry_names(name: &str) -> KeyNames {
    if name.contains(char::is_whitespace) {
        KeyNames::Nothing
    } else {
        key_names(name)
    }
}

/// Whether the value beside `key` is that of such an entry.
fn is_value_of_entry(key: &str) -> bool {
    ["value", "values"]
        .iter()
        .any(|name| key.eq_ignore_ascii_case(name))
}

/// Replaces the strings in the value of an attribute of a metric, which is kept as OTLP/JSON: other texts in it, such as
/// integers, must stay what they are.
fn replace_otlp(value: &mut [(String, Value)], replace: Replace) -> bool {
    let mut changed = false;
    for (key, value) in value {
        changed |= match value {
            Value::Object(inner) => replace_otlp(inner, replace),
            Value::Array(items) => items.iter_mut().fold(false, |changed, item| match item {
                Value::Object(inner) => replace_otlp(inner, replace) | changed,
                _ => changed,
            }),
            value if key == "stringValue" => replace_value(value, replace),
            _ => false,
        };
    }
    changed
}

/// Replaces what `replace` says of `value`, and says whether that changed it.
fn replace_value(value: &mut Value, replace: Replace) -> bool {
    if replace == Replace::Nothing {
        return false;
    }
    let is_secret = match value {
        Value::String(text) => text != PLACEHOLDER,
        Value::Number(number) => !is_number(number),
        Value::Array(items) => {
            return items.iter_mut().fold(false, |changed, item| {
                let inner = matches!(item, Value::Array(_) | Value::Object(_));
                let replaced =
                    (!inner || replace == Replace::Strings) && replace_value(item, replace);
                replaced | changed
            });
        }
        Value::Object(entries) if replace == Replace::Strings => {
            return entries.iter_mut().fold(false, |changed, (_, value)| {
                replace_value(value, replace) | changed
            });
        }
        _ => false,
    };
    if is_secret {
        *value = Value::from(PLACEHOLDER);
    }
    is_secret
}

/// [`replace_value`] for a value of a span.
fn replace_any_value(value: &mut AnyValue, replace: Replace) -> bool {
    if replace == Replace::Nothing {
        return false;
    }
    let is_secret = match &mut value.value {
        Some(any_value::Value::StringValue(text)) => text != PLACEHOLDER,
        Some(any_value::Value::BytesValue(_)) => true,
        Some(any_value::Value::ArrayValue(array)) => {
            return array.values.iter_mut().fold(false, |changed, item| {
                let inner = matches!(
                    item.value,
                    Some(any_value::Value::ArrayValue(_) | any_value::Value::KvlistValue(_))
                );
                let replaced =
                    (!inner || replace == Replace::Strings) && replace_any_value(item, replace);
                replaced | changed
            });
        }
        Some(any_value::Value::KvlistValue(list)) if replace == Replace::Strings => {
            return list
                .values
                .iter_mut()
                .filter_map(|entry| entry.value.as_mut())
                .fold(false, |changed, value| {
                    replace_any_value(value, replace) | changed
                });
        }
        _ => false,
    };
    if is_secret {
        value.value = Some(any_value::Value::StringValue(PLACEHOLDER.to_owned()));
    }
    is_secret
}

/// Whether the text of a number is one, and not a word that a lenient writer put in its place.
pub(super) fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    digits.starts_with(|first: char| first.is_ascii_digit())
        && digits
            .bytes()
            .all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte))
}
