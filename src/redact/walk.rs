//! The strings of a record.

use super::{
    Rules,
    text::{Apply, KeyNames, PLACEHOLDER},
};
use crate::record::{LogRecord, MetricsSnapshot, Record, SpanRecord, Value};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};

/// What becomes of a value whose key names a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keyed {
    /// It is replaced, whatever it is.
    Whole,
    /// It is replaced when it is text.
    Text,
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
        self.redact_entries(&mut record.attributes, Keyed::Whole) | message
    }

    fn redact_snapshot(&self, snapshot: &mut MetricsSnapshot) -> bool {
        self.redact_entries(&mut snapshot.extra, Keyed::Text)
    }

    fn redact_span(&self, record: &mut SpanRecord) -> bool {
        let mut changed = false;
        changed |= self.redact_text(&mut record.resource_schema_url, Apply::Values);
        changed |= self.redact_text(&mut record.scope_schema_url, Apply::Values);
        if let Some(resource) = &mut record.resource {
            changed |= self.redact_key_values(&mut resource.attributes);
            for entity in &mut resource.entity_refs {
                changed |= self.redact_text(&mut entity.schema_url, Apply::Values);
                changed |= self.redact_text(&mut entity.r#type, Apply::Values);
                for key in entity
                    .id_keys
                    .iter_mut()
                    .chain(&mut entity.description_keys)
                {
                    changed |= self.redact_text(key, Apply::Values);
                }
            }
        }
        if let Some(scope) = &mut record.scope {
            changed |= self.redact_text(&mut scope.name, Apply::Values);
            changed |= self.redact_text(&mut scope.version, Apply::Values);
            changed |= self.redact_key_values(&mut scope.attributes);
        }
        let span = &mut record.span;
        changed |= self.redact_text(&mut span.name, Apply::Values);
        changed |= self.redact_text(&mut span.trace_state, Apply::Values);
        changed |= self.redact_key_values(&mut span.attributes);
        for event in &mut span.events {
            changed |= self.redact_text(&mut event.name, Apply::All);
            changed |= self.redact_key_values(&mut event.attributes);
        }
        for link in &mut span.links {
            changed |= self.redact_text(&mut link.trace_state, Apply::Values);
            changed |= self.redact_key_values(&mut link.attributes);
        }
        if let Some(status) = &mut span.status {
            changed |= self.redact_text(&mut status.message, Apply::All);
        }
        changed
    }

    fn redact_entries(&self, entries: &mut [(String, Value)], keyed: Keyed) -> bool {
        let mut changed = false;
        for (key, value) in entries {
            let is_text = matches!(value, Value::String(_) | Value::Number(_));
            changed |= if self.names_secret(key, keyed, is_text) {
                let placeholder = Value::from(PLACEHOLDER);
                let replaced = *value != placeholder;
                *value = placeholder;
                replaced
            } else {
                self.redact_value(value, keyed)
            };
            changed |= self.redact_text(key, Apply::Values);
        }
        changed
    }

    fn redact_value(&self, value: &mut Value, keyed: Keyed) -> bool {
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
                self.redact_value(item, keyed) | changed
            }),
            Value::Object(entries) => self.redact_entries(entries, keyed),
        }
    }

    fn redact_key_values(&self, entries: &mut [KeyValue]) -> bool {
        let mut changed = false;
        for entry in entries {
            if let Some(value) = &mut entry.value {
                let is_text = matches!(
                    value.value,
                    Some(any_value::Value::StringValue(_) | any_value::Value::BytesValue(_))
                );
                changed |= if self.names_secret(&entry.key, Keyed::Whole, is_text) {
                    let placeholder = AnyValue {
                        value: Some(any_value::Value::StringValue(PLACEHOLDER.to_owned())),
                    };
                    let replaced = *value != placeholder;
                    *value = placeholder;
                    replaced
                } else {
                    self.redact_any_value(value)
                };
            }
            changed |= self.redact_text(&mut entry.key, Apply::Values);
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
            Some(any_value::Value::KvlistValue(list)) => self.redact_key_values(&mut list.values),
            None
            | Some(
                any_value::Value::BoolValue(_)
                | any_value::Value::IntValue(_)
                | any_value::Value::DoubleValue(_)
                | any_value::Value::StringValueStrindex(_),
            ) => false,
        }
    }

    fn names_secret(&self, key: &str, keyed: Keyed, is_text: bool) -> bool {
        match self.key_names(key) {
            KeyNames::Nothing => false,
            KeyNames::SecretText => is_text,
            KeyNames::Secret => is_text || keyed == Keyed::Whole,
        }
    }
}
