//! Cursors: positions that a reader can continue from, also as text.

use crate::{
    error::{Error, Result, excerpt},
    time::Timestamp,
};
use std::{fmt, str::FromStr};

/// A position in the order of records: directly after one record.
///
/// It stays valid when records are sealed, when the daemon restarts, and when that record is
/// deleted. Its text form is opaque; every later version of this crate reads it.
///
/// ```
/// use gridctl_telemetry::{Level, LogRecord, Query, ServerName, Signal, Timestamp, query::Cursor};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let home = tempfile::tempdir()?;
/// # let home = home.path();
/// # let store = gridctl_telemetry::Store::open(home, "my-stack", Default::default())?;
/// # let (writer, guard) = gridctl_telemetry::Writer::start(&store, Default::default())?;
/// let github = ServerName::new("github")?;
/// for message in ["first", "second"] {
///     writer.log(&github, &LogRecord::new(Timestamp::now(), Level::INFO, message))?;
/// }
/// writer.flush()?;
/// let query = Query::new(Signal::Logs);
/// let page: Vec<_> = store.scan(&query)?.take(1).collect::<Result<_, _>>()?;
///
/// // A client sends back the text of the cursor to get the next page.
/// let cursor: Cursor = page[0].cursor().to_string().parse()?;
/// let next: Vec<_> = store.scan(&query.after(cursor))?.collect::<Result<_, _>>()?;
/// assert_eq!(next.len(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor {
    pub(crate) timestamp: Timestamp,
    pub(crate) sequence: u64,
}

impl Cursor {
    /// The time of the record that it is after.
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        self.timestamp
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:016x}{:016x}",
            self.timestamp.unix_nanos(),
            self.sequence
        )
    }
}

impl FromStr for Cursor {
    type Err = Error;

    /// Parses the text written by [`Cursor`]'s `Display`.
    ///
    /// Fails with [`Error::InvalidCursor`].
    fn from_str(text: &str) -> Result<Cursor> {
        let invalid = || Error::InvalidCursor {
            text: excerpt(text),
        };
        let number = |digits: &str| {
            // `from_str_radix` accepts a sign, which a cursor never has.
            let hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            u64::from_str_radix(digits, 16).ok().filter(|_| hex)
        };
        match text.split_at_checked(16) {
            Some((timestamp, sequence)) if sequence.len() == 16 => Ok(Cursor {
                timestamp: Timestamp::from_unix_nanos(
                    number(timestamp).ok_or_else(invalid)?.cast_signed(),
                ),
                sequence: number(sequence).ok_or_else(invalid)?,
            }),
            _ => Err(invalid()),
        }
    }
}

impl serde::Serialize for Cursor {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Cursor {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Cursor, D::Error> {
        crate::error::deserialize_from_str(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn cursors_come_back(nanos: i64, sequence: u64) {
            let cursor = Cursor { timestamp: Timestamp::from_unix_nanos(nanos), sequence };
            prop_assert_eq!(cursor.to_string().parse::<Cursor>().unwrap(), cursor);
            let json = serde_json::to_string(&cursor).unwrap();
            prop_assert_eq!(serde_json::from_str::<Cursor>(&json).unwrap(), cursor);
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = text.parse::<Cursor>();
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "0", "+00000000000000f00000000000000ff", &"0".repeat(33)] {
            assert!(
                matches!(text.parse::<Cursor>(), Err(Error::InvalidCursor { .. })),
                "{text}"
            );
            let json = serde_json::to_string(text).unwrap();
            assert!(serde_json::from_str::<Cursor>(&json).is_err());
        }
        for (timestamp, sequence) in [(Timestamp::MIN, 0), (Timestamp::MAX, u64::MAX)] {
            let extreme = Cursor {
                timestamp,
                sequence,
            };
            assert_eq!(extreme.to_string().parse::<Cursor>().unwrap(), extreme);
        }
    }
}
