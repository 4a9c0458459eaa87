//! Whether an encoded record has a secret, without decoding it.
//!
//! Keywords such as `token` and `key` stand in many records that have no secret. So only the strings
//! that hold one are looked at, where they are. A record that could have a secret is then decoded.

use super::{
    Rules,
    names::{KeyNames, key_names},
    text::Apply,
    walk::{Keys, Replace, is_number, names_entry},
};
use crate::{
    record::{
        messagepack::{Reader, Token},
        payload::{LogHead, PayloadError, SnapshotHead},
    },
    time::Timestamp,
};

/// Whether the log that `payload` encodes has a secret. `next` is where the first one could begin.
pub(super) fn log_has_secret(
    rules: &Rules,
    payload: &[u8],
    next: usize,
) -> Result<bool, PayloadError> {
    let mut scan = Scan::new(rules, payload, next);
    let head = LogHead::read(&mut scan.reader)?;
    // The head of the map, of five bytes at most, stands between the message and here.
    let end = scan.reader.position();
    let start = end.saturating_sub(head.message.len() + 5);
    if scan.candidates.may_be_in(start, end) && rules.finds(head.message.as_bytes(), Apply::All) {
        return Ok(true);
    }
    let found = scan.entries(head.attributes, Keys::Attributes, 1)?;
    if !found {
        scan.reader.finish()?;
    }
    Ok(found)
}

/// Whether the snapshot that `payload` encodes could have a secret, likewise.
pub(super) fn snapshot_may_have_secret(
    rules: &Rules,
    payload: &[u8],
    next: usize,
) -> Result<bool, PayloadError> {
    let mut scan = Scan::new(rules, payload, next);
    let head = SnapshotHead::read(Timestamp::default(), &mut scan.reader)?;
    let found = scan.entries(head.entries, Keys::Snapshot, 1)?;
    if !found {
        head.finish(scan.reader)?;
    }
    Ok(found)
}

/// Where the secrets of a payload could begin.
pub(super) struct Candidates<'a> {
    pub(super) rules: &'a Rules,
    payload: &'a [u8],
    /// No string that ends before has a secret.
    next: usize,
}

impl<'a> Candidates<'a> {
    pub(super) fn new(rules: &'a Rules, payload: &'a [u8], next: usize) -> Candidates<'a> {
        Candidates {
            rules,
            payload,
            next,
        }
    }

    /// Whether what stands from `start` to `end` could have a secret or what announces one. `start` must
    /// not be less than it was before.
    pub(super) fn may_be_in(&mut self, start: usize, end: usize) -> bool {
        if self.next < start {
            self.next = self.rules.next(self.payload, start).unwrap_or(usize::MAX);
        }
        self.next < end
    }
}

struct Scan<'a> {
    candidates: Candidates<'a>,
    reader: Reader<'a>,
}

impl<'a> Scan<'a> {
    fn new(rules: &'a Rules, payload: &'a [u8], next: usize) -> Scan<'a> {
        Scan {
            candidates: Candidates::new(rules, payload, next),
            reader: Reader::new(payload),
        }
    }

    /// Whether the string `text`, which was read last, could have one.
    fn could_have(&mut self, text: &str) -> bool {
        let end = self.reader.position();
        self.candidates.may_be_in(end - text.len(), end)
    }

    fn finds(&self, text: &str, apply: Apply) -> bool {
        self.candidates.rules.finds(text.as_bytes(), apply)
    }

    fn entries(&mut self, count: usize, keys: Keys, depth: usize) -> Result<bool, PayloadError> {
        for _ in 0..count {
            let key = self.reader.str()?;
            let mut replace = Replace::Nothing;
            if self.could_have(key) {
                replace = keys.replace(key_names(key));
                if self.finds(key, Apply::Shapes) {
                    return Ok(true);
                }
            }
            if self.value(keys, replace, names_entry(key), depth)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the next value has a secret: because of `replace`, or of what is in it. If it
    /// `names_entry`, what stands beside it can be one.
    fn value(
        &mut self,
        keys: Keys,
        replace: Replace,
        names_entry: bool,
        depth: usize,
    ) -> Result<bool, PayloadError> {
        let is_secret = replace != Replace::Nothing;
        Ok(match self.reader.token()? {
            Token::Nil | Token::Bool(_) | Token::Int(_) | Token::UInt(_) | Token::Float(_) => false,
            Token::Str(text) => {
                is_secret
                    || self.could_have(text)
                        && (names_entry && key_names(text) != KeyNames::Nothing
                            || self.finds(text, Apply::All))
            }
            Token::Number(text) => {
                is_secret && !is_number(text)
                    || self.could_have(text) && self.finds(text, Apply::All)
            }
            Token::Array(count) => {
                let depth = self.reader.deeper(depth)?;
                for _ in 0..count {
                    if self.value(keys, replace, false, depth)? {
                        return Ok(true);
                    }
                }
                false
            }
            Token::Map(count) => {
                let depth = self.reader.deeper(depth)?;
                replace == Replace::Strings && count > 0
                    || self.entries(count, keys.inner(), depth)?
            }
        })
    }
}
