//! What OTLP refuses in valid JSON.

use crate::lines::json::{JsonError, Reader};

/// Why a JSON value is not the OTLP value that its field holds. It comes inside
/// [`JsonReason::Refused`](crate::lines::json::JsonReason::Refused), with offset and path.
///
/// Every text is what was read, its first 64 characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum OtlpReason {
    /// A trace or span id that is neither hex nor base64 of as many bytes as it must have.
    #[error(
        "invalid id {text:?}: expected {bytes} bytes, as {} hex digits or in base64", bytes * 2
    )]
    InvalidId {
        /// How many bytes such an id has.
        bytes: usize,
        /// The text.
        text: String,
    },
    /// A bytes field that is not base64, neither the standard nor the URL-safe one.
    #[error("invalid base64 {text:?}")]
    InvalidBase64 {
        /// The text.
        text: String,
    },
    /// A name that the enum does not have. An unknown number is no error.
    #[error("unknown name {text:?} for the enum {name}")]
    UnknownEnumName {
        /// The enum's name.
        name: &'static str,
        /// The text.
        text: String,
    },
    /// A number that is no integer, or outside the range of its field's type.
    #[error("invalid integer {text:?}: expected a whole number that fits {expected}")]
    InvalidInteger {
        /// The type.
        expected: &'static str,
        /// The text.
        text: String,
    },
    /// A number beyond the range of doubles, or a string that says no double.
    #[error("invalid double {text:?}: expected a number, \"NaN\", \"Infinity\" or \"-Infinity\"")]
    InvalidDouble {
        /// The text.
        text: String,
    },
    /// A field that the object already has, perhaps under its other spelling.
    #[error("field given twice in one object")]
    FieldGivenTwice,
    /// A second member of a oneof.
    #[error("second value for the oneof `{oneof}`: an object holds at most one of its members")]
    OneofGivenTwice {
        /// The oneof's name.
        oneof: &'static str,
    },
}

impl OtlpReason {
    /// This reason, at the value that begins at `offset`.
    #[cold]
    pub(super) fn at(self, offset: usize) -> JsonError {
        Reader::refuse(offset, self)
    }
}
