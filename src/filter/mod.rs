//! Filters: what a record must say to be found by a query.
//!
//! A [`Filter`] is decided by one encoded record alone. What the store keeps about blocks only excludes
//! blocks without a match, so the answer is the same without it.

#[cfg(test)]
pub(crate) mod arbitrary;
mod condition;
mod field;
mod fields;
mod plain;
#[cfg(test)]
mod tests;
mod text;
pub(crate) mod tokens;

pub use self::{condition::Filter, plain::plain_text, text::TextPattern};

pub(crate) use self::{
    condition::Condition,
    field::{FieldCondition, FieldTest, Number},
    fields::{Encoded, IdKind, SpanHead, any_at, any_string, below, enumeration},
};
