//! The entries of a record as OTLP attributes.
//!
//! The attributes are a view of the entries that every consumer understands. Their keys are unique,
//! as OTLP demands: when entries repeat a key, the last one counts, as it does for readers of a log
//! line. A number beyond a signed 64-bit integer becomes its decimal text
//! (<https://opentelemetry.io/docs/specs/otel/common/attribute-type-mapping/>). An entry whose key
//! begins with [`RESERVED`] is left out of the view, so that no entry is mistaken for an attribute
//! of this module.
//!
//! Entries that the view does not represent exactly are repeated in the attribute [`EXACT`], as an
//! array of three items for each: its index among all entries, its key, its value. In that array,
//! arrays, objects and large numbers are arrays that begin with their kind: `["array", item, …]`,
//! `["object", key, value, …]`, `["unsigned", text]`, `["number", text]`.
//!
//! A program in between may have changed the view, to remove a secret for example. So [`EXACT`] is
//! used only if it produces the same view that it arrived with.

use super::{RESERVED, base64::encode_base64};
use crate::record::Value;
use hashbrown::HashSet;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value as Any,
};
use prost::Message as _;
use std::vec::IntoIter;

/// The key of the attribute with the entries that the view does not represent exactly.
pub(super) const EXACT: &str = "gridctl.record.exact";

const ARRAY: &str = "array";
const OBJECT: &str = "object";
const UNSIGNED: &str = "unsigned";
const NUMBER: &str = "number";

/// Converts entries to attributes with unique keys.
pub(super) fn to_attributes(entries: Vec<(String, Value)>) -> Vec<KeyValue> {
    let inexact = inexact_keys(&entries);
    if inexact.is_empty() {
        return entries.into_iter().map(view_entry).collect();
    }
    let shown = shown(&entries);
    let (mut attributes, mut exact) = (Vec::with_capacity(entries.len()), Vec::new());
    for (index, ((key, value), shown)) in entries.into_iter().zip(shown).enumerate() {
        if inexact.contains(&key) {
            exact.push(any(Any::IntValue(i64::try_from(index).unwrap_or(i64::MAX))));
            exact.push(any(string(&key)));
            exact.push(to_exact(value.clone()));
        }
        if shown && !key.starts_with(RESERVED) {
            attributes.push(view_entry((key, value)));
        }
    }
    attributes.push(key_value(EXACT, array(exact)));
    attributes
}

/// Converts attributes back to entries. Every foreign attribute becomes an entry.
pub(super) fn from_attributes(mut attributes: Vec<KeyValue>) -> Vec<(String, Value)> {
    let exact = super::take(&mut attributes, EXACT, read_exact);
    if let Some(exact) = exact
        && let Some(entries) = believe(exact, &attributes)
    {
        return entries;
    }
    attributes.into_iter().map(entry_of).collect()
}

/// The value of an attribute. Bytes, which only foreign attributes have, become base64.
pub(crate) fn value_of(value: AnyValue) -> Value {
    match value.value {
        // An index into a dictionary, which only profiles have.
        None | Some(Any::StringValueStrindex(_)) => Value::Null,
        Some(Any::BoolValue(value)) => Value::Bool(value),
        Some(Any::IntValue(value)) => Value::Int(value),
        Some(Any::DoubleValue(value)) => Value::Float(value),
        Some(Any::StringValue(text)) => Value::String(text),
        Some(Any::BytesValue(bytes)) => {
            let mut text = Vec::new();
            encode_base64(&bytes, &mut text);
            Value::String(String::from_utf8(text).unwrap_or_default())
        }
        Some(Any::ArrayValue(array)) => {
            Value::Array(array.values.into_iter().map(value_of).collect())
        }
        Some(Any::KvlistValue(list)) => {
            Value::Object(list.values.into_iter().map(entry_of).collect())
        }
    }
}

/// The value of an attribute. Bytes become base64.
impl From<AnyValue> for Value {
    fn from(value: AnyValue) -> Value {
        value_of(value)
    }
}

/// An attribute with this key and value.
pub(crate) fn key_value(key: impl Into<String>, value: Any) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(any(value)),
        ..KeyValue::default()
    }
}

/// An attribute value that is a string.
pub(crate) fn string(text: &str) -> Any {
    Any::StringValue(text.to_owned())
}

/// The keys whose entries the view does not represent exactly.
fn inexact_keys(entries: &[(String, Value)]) -> HashSet<String> {
    let mut seen = HashSet::with_capacity(entries.len());
    entries
        .iter()
        .filter(|(key, value)| {
            !seen.insert(key.as_str()) || key.starts_with(RESERVED) || !is_exact(value)
        })
        .map(|(key, _)| key.clone())
        .collect()
}

/// Whether the view represents `value` exactly.
fn is_exact(value: &Value) -> bool {
    match value {
        Value::UInt(_) | Value::Number(_) => false,
        Value::Array(items) => items.iter().all(is_exact),
        Value::Object(entries) => {
            let mut seen = HashSet::with_capacity(entries.len());
            entries
                .iter()
                .all(|(key, value)| seen.insert(key.as_str()) && is_exact(value))
        }
        _ => true,
    }
}

fn view_entry((key, value): (String, Value)) -> KeyValue {
    KeyValue {
        key,
        value: Some(view(value)),
        ..KeyValue::default()
    }
}

pub(super) fn view(value: Value) -> AnyValue {
    any(match value {
        Value::Null => return AnyValue { value: None },
        Value::Bool(value) => Any::BoolValue(value),
        Value::Int(value) => Any::IntValue(value),
        Value::UInt(value) => Any::StringValue(value.to_string()),
        Value::Float(value) => Any::DoubleValue(value),
        Value::Number(text) => Any::StringValue(text.into()),
        Value::String(text) => Any::StringValue(text),
        Value::Array(items) => array(items.into_iter().map(view).collect()),
        Value::Object(entries) => {
            let shown = shown(&entries);
            let shown_entries = entries
                .into_iter()
                .zip(shown)
                .filter_map(|(entry, shown)| shown.then(|| view_entry(entry)));
            Any::KvlistValue(KeyValueList {
                values: shown_entries.collect(),
            })
        }
    })
}

/// For each entry, whether it is the last with its key.
fn shown(entries: &[(String, Value)]) -> Vec<bool> {
    let mut seen = HashSet::with_capacity(entries.len());
    let mut shown: Vec<bool> = entries
        .iter()
        .rev()
        .map(|(key, _)| seen.insert(key.as_str()))
        .collect();
    shown.reverse();
    shown
}

fn to_exact(value: Value) -> AnyValue {
    let tagged = |tag: &str, items: Vec<AnyValue>| {
        let mut values = vec![any(string(tag))];
        values.extend(items);
        any(array(values))
    };
    match value {
        Value::UInt(value) => tagged(UNSIGNED, vec![any(Any::StringValue(value.to_string()))]),
        Value::Number(text) => tagged(NUMBER, vec![any(Any::StringValue(text.into()))]),
        Value::Array(items) => tagged(ARRAY, items.into_iter().map(to_exact).collect()),
        Value::Object(entries) => {
            let pairs = entries
                .into_iter()
                .flat_map(|(key, value)| [any(Any::StringValue(key)), to_exact(value)]);
            tagged(OBJECT, pairs.collect())
        }
        plain => view(plain),
    }
}

/// An entry with its index among all entries.
type Placed = (usize, String, Value);

/// The entries in [`EXACT`]; `None` when this module did not write the attribute.
fn read_exact(value: &Any) -> Option<Vec<Placed>> {
    let Any::ArrayValue(array) = value else {
        return None;
    };
    let (triples, []) = array.values.as_chunks::<3>() else {
        return None;
    };
    triples
        .iter()
        .map(|[place, key, value]| {
            let Some(Any::IntValue(place)) = place.value else {
                return None;
            };
            let place = usize::try_from(place).ok()?;
            Some((place, text_of(key.clone())?, from_exact(value.clone())?))
        })
        .collect()
}

fn from_exact(value: AnyValue) -> Option<Value> {
    let array = match value.value {
        Some(Any::ArrayValue(array)) => array,
        Some(Any::BytesValue(_) | Any::KvlistValue(_)) => return None,
        _ => return Some(value_of(value)),
    };
    let mut items = array.values.into_iter();
    Some(match text_of(items.next()?)?.as_str() {
        UNSIGNED => Value::UInt(only_text(items)?.parse().ok()?),
        NUMBER => Value::Number(only_text(items)?.into()),
        ARRAY => Value::Array(items.map(from_exact).collect::<Option<_>>()?),
        OBJECT => {
            let mut entries = Vec::with_capacity(items.len() / 2);
            while let Some(key) = items.next() {
                entries.push((text_of(key)?, from_exact(items.next()?)?));
            }
            Value::Object(entries)
        }
        _ => return None,
    })
}

fn only_text(mut items: IntoIter<AnyValue>) -> Option<String> {
    let text = text_of(items.next()?)?;
    items.next().is_none().then_some(text)
}

fn text_of(value: AnyValue) -> Option<String> {
    match value.value {
        Some(Any::StringValue(text)) => Some(text),
        _ => None,
    }
}

/// All entries, combined from the exact ones and the attributes beside them; `None` when the
/// attributes differ from the view of the exact entries.
fn believe(exact: Vec<Placed>, attributes: &[KeyValue]) -> Option<Vec<(String, Value)>> {
    let keys: HashSet<String> = exact.iter().map(|(_, key, _)| key.clone()).collect();
    let others = attributes.iter().filter(|entry| !keys.contains(&entry.key));
    let mut entries = Vec::with_capacity(attributes.len() + exact.len());
    let mut exact = exact.into_iter().peekable();
    for other in others {
        while let Some((_, key, value)) = exact.next_if(|(place, ..)| *place <= entries.len()) {
            entries.push((key, value));
        }
        entries.push(entry_of(other.clone()));
    }
    entries.extend(exact.map(|(_, key, value)| (key, value)));
    let mut shown = to_attributes(entries.clone());
    shown.retain(|entry| entry.key != EXACT);
    (encoded(&shown) == encoded(attributes)).then_some(entries)
}

/// The encoded attributes, sorted. They are compared as bytes because a NaN is not equal to itself,
/// and sorted because consumers need not keep the order.
fn encoded(attributes: &[KeyValue]) -> Vec<Vec<u8>> {
    let mut encoded: Vec<_> = attributes.iter().map(KeyValue::encode_to_vec).collect();
    encoded.sort_unstable();
    encoded
}

fn entry_of(attribute: KeyValue) -> (String, Value) {
    (attribute.key, attribute.value.map_or(Value::Null, value_of))
}

fn any(value: Any) -> AnyValue {
    AnyValue { value: Some(value) }
}

fn array(values: Vec<AnyValue>) -> Any {
    Any::ArrayValue(ArrayValue { values })
}
