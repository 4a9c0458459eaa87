//! Whether an encoded record has a secret, without decoding it.
//!
//! Keywords such as `token` and `key` stand in many records that have no secret. So only the strings
//! that hold one are looked at, where they are. A record that could have a secret is then decoded.

use super::{
    candidates::Candidates,
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

/// Whether an encoded log has a secret.
pub(super) fn log_has_secret(candidates: Candidates<'_>) -> Result<bool, PayloadError> {
    let mut scan = Scan::new(candidates);
    let head = LogHead::read(&mut scan.reader)?;
    // The head of the map, of five bytes at most, stands between the message and here.
    let end = scan.reader.position();
    let start = end.saturating_sub(head.message.len() + 5);
    if scan.candidates.may_be_in(start, end) && scan.finds(head.message) {
        return Ok(true);
    }
    let found = scan.entries(head.attributes, Keys::Attributes, 1)?;
    if !found {
        scan.reader.finish()?;
    }
    Ok(found)
}

/// Whether an encoded snapshot could have a secret.
pub(super) fn snapshot_may_have_secret(candidates: Candidates<'_>) -> Result<bool, PayloadError> {
    let mut scan = Scan::new(candidates);
    let head = SnapshotHead::read(Timestamp::default(), &mut scan.reader)?;
    let found = scan.entries(head.entries, Keys::Snapshot, 1)?;
    if !found {
        head.finish(scan.reader)?;
    }
    Ok(found)
}

struct Scan<'a> {
    candidates: Candidates<'a>,
    reader: Reader<'a>,
}

impl<'a> Scan<'a> {
    fn new(candidates: Candidates<'a>) -> Scan<'a> {
        Scan {
            reader: Reader::new(candidates.payload()),
            candidates,
        }
    }

    /// Whether the string `text`, which was read last, could have one.
    fn could_have(&mut self, text: &str) -> bool {
        let end = self.reader.position();
        self.candidates.may_be_in(end - text.len(), end)
    }

    fn finds(&self, text: &str) -> bool {
        self.candidates.finds(text.as_bytes(), Apply::All)
    }

    fn entries(&mut self, count: usize, keys: Keys, depth: usize) -> Result<bool, PayloadError> {
        for _ in 0..count {
            let key = self.reader.str()?;
            let mut replace = Replace::Nothing;
            if self.could_have(key) {
                let Some(names) = self.candidates.key(key, self.reader.position()) else {
                    return Ok(true);
                };
                replace = keys.replace(names);
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
                        && (names_entry && key_names(text) != KeyNames::Nothing || self.finds(text))
            }
            Token::Number(text) => {
                is_secret && !is_number(text) || self.could_have(text) && self.finds(text)
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
