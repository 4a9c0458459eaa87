/// A value with the types that a JSON line has.
///
/// Objects keep the order of their entries and may name a key twice, because log lines do both.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// `null`.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer that fits 64 bits with a sign.
    Int(i64),
    /// An integer above `i64::MAX` that fits 64 bits without a sign. Smaller ones are [`Value::Int`].
    UInt(u64),
    /// A number with a fraction or an exponent. NaN and infinities, which JSON does not have, are
    /// written as the strings `"NaN"`, `"Infinity"` and `"-Infinity"`.
    Float(f64),
    /// A JSON number that none of the above holds (an integer beyond 64 bits, an exponent beyond
    /// `f64`), as the text that was read. Whatever is not a JSON number is written as a string.
    Number(Box<str>),
    /// A string.
    String(String),
    /// An array.
    Array(Vec<Value>),
    /// An object, entries in their order, keys not necessarily unique.
    Object(Vec<(String, Value)>),
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
