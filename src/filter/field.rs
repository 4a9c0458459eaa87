//! Conditions on one entry of a record, and their text form.

use super::{
    condition::{Condition, Filter},
    fields::Encoded,
    text::TextPattern,
};
use crate::{
    error::{Error, Result, excerpt},
    record::{Value, payload::PayloadError},
};
use std::cmp::Ordering;

/// Maximum length of an expression, in bytes.
const EXPRESSION_BYTES_MAX: usize = 64 << 10;

/// A condition on an entry of a record.
#[derive(Debug, Clone)]
pub(crate) struct FieldCondition {
    /// The keys that lead to the entry, joined by points.
    pub(crate) path: String,
    pub(crate) test: FieldTest,
}

#[derive(Debug, Clone)]
pub(crate) enum FieldTest {
    Exists,
    Equals(Wanted),
    /// The value, a number, compares to the given one as one of these.
    Compares(&'static [Ordering], Number),
    Matches(TextPattern),
}

/// A value as it was typed.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) text: String,
    /// The number that the text is, unless it was in quotes.
    pub(crate) number: Option<Number>,
    /// Whether it was in quotes, so that only strings are meant.
    is_quoted: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Number {
    Integer(i128),
    Float(f64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equals,
    Differs,
    Compares(&'static [Ordering]),
    Matches,
    MatchesNot,
}

/// The operators, those first that begin with another one.
const OPERATORS: [(&str, Operator); 8] = [
    ("!=", Operator::Differs),
    ("!~", Operator::MatchesNot),
    (
        ">=",
        Operator::Compares(&[Ordering::Greater, Ordering::Equal]),
    ),
    ("<=", Operator::Compares(&[Ordering::Less, Ordering::Equal])),
    ("=", Operator::Equals),
    (">", Operator::Compares(&[Ordering::Greater])),
    ("<", Operator::Compares(&[Ordering::Less])),
    ("~", Operator::Matches),
];

impl FieldCondition {
    pub(super) fn parse(expression: &str) -> Result<Filter> {
        let invalid = |reason: &str| Error::InvalidFilter {
            text: excerpt(expression),
            reason: reason.to_owned(),
        };
        if expression.len() > EXPRESSION_BYTES_MAX {
            return Err(invalid("the expression is longer than 64 KiB"));
        }
        let operator = (0..expression.len()).find_map(|at| {
            let rest = expression.get(at..)?;
            OPERATORS
                .iter()
                .find(|(sign, _)| rest.starts_with(sign))
                .map(|(sign, operator)| (at, sign.len(), *operator))
        });
        let Some((at, length, operator)) = operator else {
            let (key, is_absent) = match expression.strip_prefix('!') {
                Some(key) => (key, true),
                None => (expression, false),
            };
            let exists = FieldCondition::filter(key, FieldTest::Exists);
            let exists = exists.ok_or_else(|| invalid("the key is missing"))?;
            return Ok(if is_absent { !exists } else { exists });
        };
        let (key, value) = (expression.get(..at), expression.get(at + length..));
        let (key, value) = (key.unwrap_or_default(), value.unwrap_or_default());
        let test = match operator {
            Operator::Equals | Operator::Differs => FieldTest::Equals(Wanted::parse(value)),
            Operator::Compares(orders) => FieldTest::Compares(
                orders,
                Number::parse(value.trim()).ok_or_else(|| invalid("expected a number"))?,
            ),
            Operator::Matches | Operator::MatchesNot => {
                FieldTest::Matches(TextPattern::regex(value)?)
            }
        };
        let condition = FieldCondition::filter(key, test);
        let condition = condition.ok_or_else(|| invalid("the key is missing"))?;
        let is_negated = matches!(operator, Operator::Differs | Operator::MatchesNot);
        Ok(match FieldCondition::filter(key, FieldTest::Exists) {
            Some(exists) if is_negated => Filter::all([exists, !condition]),
            _ => condition,
        })
    }

    fn filter(key: &str, test: FieldTest) -> Option<Filter> {
        let path = key.trim().to_owned();
        (!path.is_empty()).then(|| Condition::Field(FieldCondition { path, test }).into())
    }

    pub(super) fn decide(&self, record: &Encoded<'_>) -> Result<bool, PayloadError> {
        record.any_value(&self.path, &mut |value| self.test.accepts(value))
    }
}

impl FieldTest {
    /// Whether a value, which is no array with items, passes.
    pub(crate) fn accepts(&self, value: &Value) -> bool {
        match self {
            FieldTest::Exists => true,
            FieldTest::Equals(wanted) => wanted.equals(value),
            FieldTest::Compares(orders, number) => {
                let found = match value {
                    Value::String(text) => Number::parse(text),
                    other => Number::of(other),
                };
                let order = found.and_then(|found| found.partial_cmp(number));
                order.is_some_and(|order| orders.contains(&order))
            }
            FieldTest::Matches(pattern) => match value {
                Value::String(text) => pattern.is_match(text),
                other => Number::of(other).is_some() && pattern.is_match(&text_of(other)),
            },
        }
    }
}

impl Wanted {
    fn parse(value: &str) -> Wanted {
        let quoted = value
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'));
        Wanted {
            text: quoted.unwrap_or(value).to_owned(),
            number: match quoted {
                Some(_) => None,
                None => Number::parse(value),
            },
            is_quoted: quoted.is_some(),
        }
    }

    fn equals(&self, value: &Value) -> bool {
        match value {
            Value::String(text) => *text == self.text,
            _ if self.is_quoted => false,
            Value::Null => self.text == "null",
            Value::Bool(value) => self.text == if *value { "true" } else { "false" },
            Value::Array(_) | Value::Object(_) => false,
            number => match (Number::of(number), self.number) {
                (Some(found), Some(wanted)) => found.partial_cmp(&wanted) == Some(Ordering::Equal),
                // A number beyond 64 bits, or NaN.
                _ => text_of(number) == self.text,
            },
        }
    }
}

impl Number {
    /// The number that `text` is in JSON, or an integer with a sign.
    fn parse(text: &str) -> Option<Number> {
        if let Ok(integer) = text.parse::<i128>() {
            return Some(Number::Integer(integer));
        }
        // `f64` also reads "inf" and "nan", which are words to everyone else.
        let is_number = text.bytes().any(|byte| byte.is_ascii_digit());
        let float = text.parse::<f64>().ok().filter(|_| is_number);
        float.map(Number::Float)
    }

    fn of(value: &Value) -> Option<Number> {
        match value {
            Value::Int(value) => Some(Number::Integer((*value).into())),
            Value::UInt(value) => Some(Number::Integer((*value).into())),
            Value::Float(value) => Some(Number::Float(*value)),
            Value::Number(text) => Number::parse(text),
            _ => None,
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "the nearest float, like any JSON reader in double precision"
    )]
    fn to_f64(self) -> f64 {
        match self {
            Number::Integer(value) => value as f64,
            Number::Float(value) => value,
        }
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Number) -> bool {
        self.partial_cmp(other) == Some(Ordering::Equal)
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Number) -> Option<Ordering> {
        match (self, other) {
            (Number::Integer(a), Number::Integer(b)) => Some(a.cmp(b)),
            _ => self.to_f64().partial_cmp(&other.to_f64()),
        }
    }
}

/// A number as text.
fn text_of(value: &Value) -> String {
    match value {
        Value::Int(value) => value.to_string(),
        Value::UInt(value) => value.to_string(),
        Value::Float(value) => value.to_string(),
        Value::Number(text) => text.to_string(),
        _ => String::new(),
    }
}
