//! Why a line was refused, and where in it.

use super::read::Kind;
use std::fmt::{self, Write as _};

/// The outcome of reading JSON.
pub(crate) type JsonResult<T> = std::result::Result<T, JsonError>;

/// A line that is not JSON, or not the JSON that its format asks for.
///
/// Displays as `REASON at byte OFFSET (PATH)`; the caller adds the file and the line's number.
#[derive(Debug)]
pub(crate) struct JsonError(Box<Details>);

/// What is wrong with a line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum JsonReason {
    /// The line is not text.
    #[error("invalid UTF-8")]
    InvalidUtf8,
    /// A character that cannot stand at its place.
    #[error("expected {expected}, found {found:?}")]
    Unexpected {
        /// What could have stood there.
        expected: &'static str,
        /// What stands there.
        found: char,
    },
    /// The line ends inside a value.
    #[error("expected {expected}, found the end of the line")]
    UnexpectedEnd {
        /// What could have stood there.
        expected: &'static str,
    },
    /// A value of another kind than the format has at this place.
    #[error("expected {expected}, found {found}")]
    WrongKind {
        /// What the format asks for.
        expected: &'static str,
        /// The kind of the value that stands there.
        found: Kind,
    },
    /// Digits that do not follow JSON's grammar of numbers, such as `01` or `1.`.
    #[error("malformed number")]
    MalformedNumber,
    /// A control character that stands in a string without an escape.
    #[error("control character U+{0:04X} in a string: it must be escaped")]
    ControlCharacter(u8),
    /// A backslash before something that JSON does not escape, or `\u` without four digits.
    #[error("unknown escape in a string")]
    UnknownEscape,
    /// `\ud800` to `\udfff` that are not a pair, which no UTF-8 text can hold.
    #[error("half of a surrogate pair in a string")]
    LoneSurrogate,
    /// Arrays and objects inside each other beyond the reader's bound.
    #[error("nested deeper than {max} levels")]
    TooDeep {
        /// The bound.
        max: u32,
    },
    /// Values beyond the number that one record may have.
    #[error("too many values: a record has fewer")]
    TooManyValues,
    /// Text beyond the length that one record may have.
    #[error("too much text: a record has less")]
    TooMuchText,
    /// Messages that take more memory than the reader allows.
    #[error("too many messages for the memory that they may take")]
    TooMuchMemory,
    /// Something behind the line's value.
    #[error("more text behind the value: a line holds one value")]
    TrailingText,
    /// JSON that its format refuses.
    #[error(transparent)]
    Refused(Box<dyn std::error::Error + Send + Sync>),
}

/// Boxed, because each level of a nested line holds several results on the stack.
#[derive(Debug)]
struct Details {
    offset: usize,
    reason: JsonReason,
    /// From the innermost step outwards, because an error meets the steps in this order.
    path: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    Key(Box<str>),
    Index(usize),
}

impl JsonError {
    /// `reason` at `offset` bytes from the line's start. The path grows as the error passes
    /// outwards through the objects and arrays that are being read.
    #[cold]
    pub(crate) fn new(offset: usize, reason: JsonReason) -> JsonError {
        JsonError(Box::new(Details {
            offset,
            reason,
            path: Vec::new(),
        }))
    }

    /// The position in the line, in bytes from its start, at which the offending text begins.
    pub(crate) fn offset(&self) -> usize {
        self.0.offset
    }

    /// What is wrong there.
    pub(crate) fn reason(&self) -> &JsonReason {
        &self.0.reason
    }

    /// Where the error lies, such as `resourceSpans[0].scopeSpans[2].spans[1].traceId`, empty at
    /// the line's top level. Long keys and paths are cut.
    pub(crate) fn path(&self) -> String {
        const STEPS_MAX: usize = 32;
        let mut path = String::new();
        for step in self.0.path.iter().rev().take(STEPS_MAX) {
            let _ = match step {
                Step::Index(index) => write!(path, "[{index}]"),
                Step::Key(key) if !is_plain(key) => write!(path, "[{key:?}]"),
                Step::Key(key) if path.is_empty() => write!(path, "{key}"),
                Step::Key(key) => write!(path, ".{key}"),
            };
        }
        if self.0.path.len() > STEPS_MAX {
            path.push('…');
        }
        path
    }

    /// Tells the error that it lies under `key` of the object that is being read.
    #[cold]
    pub(crate) fn under_key(mut self, key: &str) -> JsonError {
        const KEY_CHARS_MAX: usize = 64;
        let key = key.chars().take(KEY_CHARS_MAX).collect::<String>();
        self.0.path.push(Step::Key(key.into()));
        self
    }

    /// Tells the error that it lies under `index` of the array that is being read.
    #[cold]
    pub(crate) fn under_index(mut self, index: usize) -> JsonError {
        self.0.path.push(Step::Index(index));
        self
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.reason(), self.offset())?;
        match self.path() {
            path if path.is_empty() => Ok(()),
            path => write!(f, " ({path})"),
        }
    }
}

impl std::error::Error for JsonError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.reason().source()
    }
}

/// Whether `key` reads unambiguously without quotes in a path.
fn is_plain(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_keys_and_indexes_from_the_outside() {
        let error = JsonError::new(7, JsonReason::TrailingText)
            .under_key("traceId")
            .under_index(1)
            .under_key("odd key")
            .under_index(0)
            .under_key("resourceSpans");
        assert_eq!(error.path(), "resourceSpans[0][\"odd key\"][1].traceId");
        assert_eq!(
            error.to_string(),
            "more text behind the value: a line holds one value at byte 7 \
             (resourceSpans[0][\"odd key\"][1].traceId)"
        );
        let at_top = JsonError::new(0, JsonReason::InvalidUtf8);
        assert_eq!(at_top.to_string(), "invalid UTF-8 at byte 0");
    }

    #[test]
    fn a_path_from_outside_is_bounded() {
        let mut error = JsonError::new(0, JsonReason::MalformedNumber);
        for _ in 0..1000 {
            error = error.under_key(&"k".repeat(10_000));
        }
        assert!(error.path().len() < 4096);
        assert!(error.path().ends_with('…'));
    }
}
