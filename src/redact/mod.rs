//! Redaction: secrets are replaced before a record reaches the disk.
//!
//! Three things are secrets: what follows a keyword (`password=…`, `Authorization: Basic …`,
//! `Bearer …`), the value of an attribute or map entry whose *key* names a secret, and every
//! occurrence of a value that was registered as one.
//!
//! | where | keywords | keys | registered values |
//! |---|---|---|---|
//! | log message, status message, event name | yes | | yes |
//! | attribute values at any depth: of logs, spans, events, links, scopes and resources | yes | yes | yes |
//! | other keys of a snapshot | yes | strings only, for a tool's name is a key there | yes |
//! | bytes | | yes | yes |
//! | keys, span name, trace state, scope name and version, schema URLs | | | yes |
//!
//! Numbers are no text: none is looked into, but a number under a key that names a secret is
//! replaced. A value that is split across two strings is not found.
//!
//! Almost no record has a secret. So a record's payload is searched first, as it is, in one pass:
//! a payload holds its strings unescaped, and one without a keyword or a value needs no decoding.

mod text;
mod walk;

use self::text::{Keyword, PLACEHOLDER};
use crate::{
    error::{Error, Result},
    record::{Record, payload::PayloadError},
    signal::Signal,
    time::Timestamp,
};
use aho_corasick::{AhoCorasick, AhoCorasickKind, packed};
use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

/// The longest value that can be registered, in bytes.
const VALUE_BYTES_MAX: usize = 64 << 10;
/// The most that can be registered, in bytes of all values together.
const VALUES_BYTES_MAX: usize = 1 << 20;
/// Up to so many bytes in all, and so long a value, the faster kind of automaton is built. It takes
/// a kilobyte of memory a byte, and for a long value of one letter a time that grows with its square.
const FAST_BYTES_MAX: usize = 16 << 10;
const FAST_VALUE_BYTES_MAX: usize = 512;

/// The longest payload that is searched in a copy in lowercase.
const PACKED_BYTES_MAX: usize = 1024;

/// Replaces secrets with `[REDACTED]` in every record before it is stored.
///
/// Always replaced are, in any case, `Authorization: <scheme> <value>`, `Bearer <value>`, and what
/// follows `password`, `passwd`, `secret`, `api_key`, `api-key`, `apikey`, `token` or `credential(s)`
/// and a `=` or `:`, and the value of any attribute whose key names one of them. Values that are
/// known to be secret are [registered](Redactor::register_values) besides.
///
/// Clones share what is registered: a value counts for every record that is written from then on,
/// whichever clone it was registered with.
///
/// ```
/// use gridctl_telemetry::{Writer, WriterOptions, redact::Redactor};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let home = tempfile::tempdir()?;
/// # let home = home.path();
/// # let store = gridctl_telemetry::Store::open(home, "my-stack", Default::default())?;
/// let redactor = Redactor::new();
/// redactor.register_value("a value from the vault")?;
/// let options = WriterOptions::default().redactor(Some(redactor.clone()));
/// let (writer, guard) = Writer::start(&store, options)?;
/// redactor.register_value("another one, while the writer runs")?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Redactor {
    rules: Arc<RwLock<Arc<Rules>>>,
}

impl Redactor {
    /// A redactor without registered values.
    #[must_use]
    pub fn new() -> Redactor {
        Redactor::default()
    }

    /// Registers `value` as a secret: [`Redactor::register_values`] for one.
    pub fn register_value(&self, value: impl Into<String>) -> Result<()> {
        self.register_values([value])
    }

    /// Registers `values` as secrets, which are replaced wherever they occur, in the exact case. The
    /// white space around a value is no part of it, and an empty value is none. Registering several
    /// at once is cheaper than one after the other.
    ///
    /// Fails, and registers none of them, with [`Error::SecretTooLong`] when a value has more than
    /// 64 KiB, and with [`Error::TooManySecrets`] when all of them would have more than 1 MiB.
    pub fn register_values(
        &self,
        values: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<()> {
        let mut added = Vec::new();
        for value in values {
            let value = value.into();
            let value = value.trim();
            if value.len() > VALUE_BYTES_MAX {
                return Err(Error::SecretTooLong {
                    bytes: value.len(),
                    max: VALUE_BYTES_MAX,
                });
            }
            if !value.is_empty() {
                added.push(value.to_owned());
            }
        }
        let mut rules = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        added.extend_from_slice(&rules.values);
        added.sort_unstable();
        added.dedup();
        let bytes = added.iter().map(String::len).sum();
        if bytes > VALUES_BYTES_MAX {
            return Err(Error::TooManySecrets {
                bytes,
                max: VALUES_BYTES_MAX,
            });
        }
        if added.len() > rules.values.len() {
            *rules = Arc::new(Rules::new(added));
        }
        Ok(())
    }

    /// The rules as they are now, for one batch of records.
    pub(crate) fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Redactor {
    /// Says how many values are registered, and none of them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redactor")
            .field("values", &self.rules().values.len())
            .finish_non_exhaustive()
    }
}

/// What is a secret, at one moment.
pub(crate) struct Rules {
    /// Finds, in any case: [`Keyword::ALL`], then the placeholder, then `values`.
    automaton: AhoCorasick,
    /// Finds whether the automaton would find anything, in text that is lowercase already: several
    /// times as fast. `None` where patterns are too many for it, or the processor too plain.
    packed: Option<packed::Searcher>,
    values: Vec<String>,
}

impl Rules {
    fn new(values: Vec<String>) -> Rules {
        let patterns = || {
            Keyword::ALL
                .iter()
                .map(|(text, _)| *text)
                .chain([PLACEHOLDER])
                .chain(values.iter().map(String::as_str))
        };
        let fast = values.iter().map(String::len).sum::<usize>() <= FAST_BYTES_MAX
            && values
                .iter()
                .all(|value| value.len() <= FAST_VALUE_BYTES_MAX);
        let kind = if fast {
            AhoCorasickKind::DFA
        } else {
            AhoCorasickKind::ContiguousNFA
        };
        #[expect(
            clippy::expect_used,
            reason = "it fails beyond 2^31 states, and there is at most one for each of 2^20 bytes"
        )]
        let automaton = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .kind(Some(kind))
            .build(patterns())
            .expect("an automaton within its bounds");
        let packed = packed::Config::new()
            .builder()
            .extend(patterns().map(str::to_ascii_lowercase))
            .build();
        Rules {
            automaton,
            packed,
            values,
        }
    }

    /// Whether the record that `payload` encodes could have a secret. Never wrong when it says no.
    pub(crate) fn may_contain_secret(&self, payload: &[u8]) -> bool {
        let mut lowercase = [0; PACKED_BYTES_MAX];
        match (&self.packed, lowercase.get_mut(..payload.len())) {
            (Some(packed), Some(lowercase)) => {
                lowercase.copy_from_slice(payload);
                lowercase.make_ascii_lowercase();
                packed.find(&*lowercase).is_some()
            }
            _ => self.automaton.is_match(payload),
        }
    }

    /// The payload without its secrets: as it is when it has none. Fails when `payload` holds no
    /// record of `signal`; it must then not be stored, for nobody can say what is in it.
    pub(crate) fn redact_payload<'a>(
        &self,
        signal: Signal,
        payload: &'a [u8],
    ) -> Result<Cow<'a, [u8]>, PayloadError> {
        if !self.may_contain_secret(payload) {
            return Ok(Cow::Borrowed(payload));
        }
        // A timestamp is a number, and none stands in the payload of a log or a snapshot.
        let mut record = Record::decode_payload(signal, Timestamp::default(), payload)?;
        if !self.redact(&mut record) {
            return Ok(Cow::Borrowed(payload));
        }
        let mut redacted = Vec::with_capacity(payload.len());
        record.encode_payload(&mut redacted)?;
        Ok(Cow::Owned(redacted))
    }
}

impl Default for Rules {
    fn default() -> Rules {
        Rules::new(Vec::new())
    }
}

#[cfg(test)]
mod tests;
