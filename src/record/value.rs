//! Values of attributes.

/// A value of one of the types of a JSON line.
///
/// Objects keep the order of their entries and may repeat a key, because log lines do both.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// `null`.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer that fits a signed 64-bit integer.
    Int(i64),
    /// An integer above `i64::MAX` that fits an unsigned 64-bit integer. Smaller ones are
    /// [`Value::Int`].
    UInt(u64),
    /// A number with a fraction or an exponent. NaN and the infinities, which JSON lacks, are
    /// written as the strings `"NaN"`, `"Infinity"` and `"-Infinity"`.
    Float(f64),
    /// The text of a JSON number that no variant above can hold: an integer beyond 64 bits or an
    /// exponent beyond `f64`. A text that is not a JSON number is written as a string.
    Number(Box<str>),
    /// A string.
    String(String),
    /// An array.
    Array(Vec<Value>),
    /// An object, entries in their order; keys may repeat.
    Object(Vec<(String, Value)>),
}

/// Maps every NaN to the same bits. No line format keeps the sign or the payload of a NaN, so a record
/// with other bits would be stored a second time when its export is imported.
pub(crate) fn with_one_nan(value: f64) -> f64 {
    if value.is_nan() { f64::NAN } else { value }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::String(text)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Bool(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Value {
        Value::Float(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Value {
        Value::Int(value)
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Value {
        i64::try_from(value).map_or(Value::UInt(value), Value::Int)
    }
}
