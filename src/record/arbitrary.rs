//! Strategies for property tests.

use super::Value;
use ::time::UtcOffset;
use proptest::{collection::vec, prelude::*, sample::select};

/// Entries of any kind, with repeated keys.
pub(crate) fn any_entries() -> impl Strategy<Value = Vec<(String, Value)>> {
    let leaf = prop_oneof![
        json_leaf(),
        any::<u64>().prop_map(|bits| Value::Float(f64::from_bits(bits))),
        ".{0,5}".prop_map(|text| Value::Number(text.into())),
    ];
    entries(leaf, &["", "a", "b", "\u{1f600}\n"])
}

/// Entries that JSON can represent, with repeated keys taken from `keys`.
pub(crate) fn json_entries(
    keys: &'static [&'static str],
) -> impl Strategy<Value = Vec<(String, Value)>> {
    entries(json_leaf(), keys)
}

/// Any offset that a record can have: whole minutes below 26 hours.
pub(crate) fn any_utc_offset() -> impl Strategy<Value = UtcOffset> {
    (-1559_i32..=1559).prop_map(|minutes| UtcOffset::from_whole_seconds(minutes * 60).unwrap())
}

fn json_leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        (-200_i64..70_000).prop_map(Value::Int),
        any::<u64>().prop_map(Value::from),
        any::<f64>()
            .prop_filter("JSON has neither NaN nor infinities", |value| value
                .is_finite())
            .prop_map(Value::Float),
        "-?[1-9][0-9]{20,300}".prop_map(|text| Value::Number(text.into())),
        any::<String>().prop_map(Value::String),
        ".{0,300}".prop_map(Value::String),
    ]
}

fn entries(
    leaf: impl Strategy<Value = Value> + 'static,
    keys: &'static [&'static str],
) -> impl Strategy<Value = Vec<(String, Value)>> {
    let key = move || select(keys).prop_map(str::to_owned);
    let value = leaf.prop_recursive(4, 24, 6, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::Array),
            vec((key(), inner), 0..6).prop_map(Value::Object),
        ]
    });
    vec((key(), value), 0..18)
}
