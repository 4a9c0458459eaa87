//! What a key says about the value beside it.

use super::literals::{self, Keyword, Literal};

/// What a key says about the value beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyNames {
    /// Nothing.
    Nothing,
    /// It holds a word that a secret's key in a map has: a string beside it is replaced.
    SecretInMap,
    /// It names a secret: every string in the value is replaced.
    Secret,
}

/// Words before `key` that make it no secret.
const OPEN_KEYS: &[&str] = &[
    "public",
    "cache",
    "primary",
    "foreign",
    "partition",
    "sort",
    "routing",
    "idempotency",
    "map",
    "object",
    "row",
    "hash",
    "dedup",
    "group",
    "bucket",
    "lock",
    "registry",
    "config",
    "message",
    "event",
    "sequence",
    "index",
    "shard",
    "range",
    "storage",
    "translation",
    "issue",
    "project",
    "redis",
    "unique",
    "composite",
    "natural",
    "lookup",
    "search",
    "hot",
    "press",
    "shortcut",
];
/// Words after `key` and `auth` that do not make something else of them.
const SECRET_SUFFIXES: &[&str] = &[
    "id", "value", "data", "pem", "base64", "b64", "material", "header", "string", "base",
];
/// Words after `token` that speak of its number or kind.
const TOKEN_FIGURES: &[&str] = &[
    "count", "limit", "usage", "budget", "total", "max", "min", "rate", "size", "length", "price",
    "cost", "type", "bucket", "estimate", "window",
];

/// What `key` says about the value beside it.
pub(super) fn key_names(key: &str) -> KeyNames {
    let bytes = key.as_bytes();
    let mut names = KeyNames::Nothing;
    for (literal, range) in literals::find(bytes) {
        let Literal::Keyword(keyword) = literal else {
            continue;
        };
        let after = bytes.get(range.end..).unwrap_or_default();
        let found = match keyword {
            Keyword::Secret if starts_with(after, "ar") => KeyNames::SecretInMap,
            Keyword::Authorization | Keyword::Bearer | Keyword::Secret | Keyword::Credential => {
                KeyNames::Secret
            }
            Keyword::Token => {
                let plural = after
                    .first()
                    .is_some_and(|byte| matches!(byte, b's' | b'S'));
                let word = next_word(after);
                if plural || TOKEN_FIGURES.iter().any(|figure| starts_with(word, figure)) {
                    KeyNames::SecretInMap
                } else {
                    KeyNames::Secret
                }
            }
            Keyword::Cookie => {
                let ends = after.is_empty() || after.eq_ignore_ascii_case(b"s");
                if ends {
                    KeyNames::Secret
                } else {
                    KeyNames::Nothing
                }
            }
            Keyword::Part if names_secret(bytes, range.start, range.end) => KeyNames::Secret,
            Keyword::Part => KeyNames::SecretInMap,
            Keyword::Parameter => KeyNames::Nothing,
        };
        match found {
            KeyNames::Secret => return KeyNames::Secret,
            KeyNames::SecretInMap => names = KeyNames::SecretInMap,
            KeyNames::Nothing => {}
        }
    }
    names
}

/// Whether the `key` or `auth` at `start` is a word by itself that makes the whole name a secret.
fn names_secret(name: &[u8], start: usize, end: usize) -> bool {
    let before = name.get(..start).unwrap_or_default();
    let after = name.get(end..).unwrap_or_default();
    let (Some(first), Some(last)) = (name.get(start), name.get(end - 1)) else {
        return false;
    };
    let begins = match before.last() {
        None => true,
        Some(byte) if byte.is_ascii_lowercase() => first.is_ascii_uppercase(),
        Some(byte) => !byte.is_ascii_uppercase(),
    };
    let ends = match after.first() {
        None => true,
        Some(byte) if byte.is_ascii_uppercase() => last.is_ascii_lowercase(),
        Some(byte) => !byte.is_ascii_lowercase(),
    };
    let word = next_word(after);
    let suffix = word.is_empty()
        || SECRET_SUFFIXES
            .iter()
            .any(|suffix| starts_with(word, suffix));
    if !begins || !ends || !suffix {
        return false;
    }
    if first.eq_ignore_ascii_case(&b'a') {
        return true;
    }
    // A key is a secret when something says what it opens: `api`, `ssh`, the name of a service.
    let word = previous_word(before);
    !word.is_empty()
        && !OPEN_KEYS
            .iter()
            .any(|open| word.eq_ignore_ascii_case(open.as_bytes()))
}

/// What follows, without the separator before it.
fn next_word(after: &[u8]) -> &[u8] {
    match after {
        [first, word @ ..] if is_separator(*first) => word,
        _ => after,
    }
}

/// The last word, without the separator after it.
fn previous_word(before: &[u8]) -> &[u8] {
    let word = match before {
        [word @ .., last] if is_separator(*last) => word,
        _ => before,
    };
    let start = word.iter().rposition(|byte| !byte.is_ascii_alphanumeric());
    let word = word.get(start.map_or(0, |at| at + 1)..).unwrap_or_default();
    // `cacheKey`, `myCacheKey`: the last capital after a small letter begins the word.
    let capital = word.windows(2).rposition(
        |pair| matches!(pair, [a, b] if a.is_ascii_lowercase() && b.is_ascii_uppercase()),
    );
    word.get(capital.map_or(0, |at| at + 1)..)
        .unwrap_or_default()
}

fn starts_with(text: &[u8], start: &str) -> bool {
    text.get(..start.len())
        .is_some_and(|text| text.eq_ignore_ascii_case(start.as_bytes()))
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b'_' | b'-' | b'.' | b' ')
}
