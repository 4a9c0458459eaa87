//! Whether an encoded log has a secret, without decoding it.
//!
//! Keywords such as `token` and `key` stand in many records that have no secret. So only the strings
//! that hold one are looked at, where they are.

use super::{
    Rules,
    names::{KeyNames, key_names},
    text::Apply,
    walk::{Keys, is_number, names_entry},
};
use crate::record::{
    messagepack::{Reader, Token},
    payload::{LogHead, PayloadError},
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
    if scan.could_hold(start, end) && rules.finds(head.message.as_bytes(), Apply::All) {
        return Ok(true);
    }
    let found = scan.entries(head.attributes, Keys::Attributes, 1)?;
    if !found {
        scan.reader.finish()?;
    }
    Ok(found)
}

struct Scan<'a> {
    rules: &'a Rules,
    payload: &'a [u8],
    reader: Reader<'a>,
    /// No string that ends before has a secret.
    next: usize,
}

impl<'a> Scan<'a> {
    fn new(rules: &'a Rules, payload: &'a [u8], next: usize) -> Scan<'a> {
        let reader = Reader::new(payload);
        Scan {
            rules,
            payload,
            reader,
            next,
        }
    }

    /// Whether what stands from `start` to `end` could have a secret or what announces one.
    fn could_hold(&mut self, start: usize, end: usize) -> bool {
        if self.next < start {
            self.next = self.rules.next(self.payload, start).unwrap_or(usize::MAX);
        }
        self.next < end
    }

    /// Whether the string `text`, which was read last, could have one.
    fn could_have(&mut self, text: &str) -> bool {
        let end = self.reader.position();
        self.could_hold(end - text.len(), end)
    }

    fn entries(&mut self, count: usize, keys: Keys, depth: usize) -> Result<bool, PayloadError> {
        for _ in 0..count {
            let key = self.reader.str()?;
            let mut is_secret = false;
            if self.could_have(key) {
                is_secret = keys.replaces(key_names(key));
                if self.rules.finds(key.as_bytes(), Apply::Shapes) {
                    return Ok(true);
                }
            }
            if self.value(keys, is_secret, names_entry(key), depth)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the next value has a secret. Every string in it is one if `is_secret`; and if it
    /// `names_entry`, what stands beside it can be.
    fn value(
        &mut self,
        keys: Keys,
        is_secret: bool,
        names_entry: bool,
        depth: usize,
    ) -> Result<bool, PayloadError> {
        Ok(match self.reader.token()? {
            Token::Nil | Token::Bool(_) | Token::Int(_) | Token::UInt(_) | Token::Float(_) => false,
            Token::Str(text) => {
                is_secret
                    || self.could_have(text)
                        && (names_entry && key_names(text) != KeyNames::Nothing
                            || self.rules.finds(text.as_bytes(), Apply::All))
            }
            Token::Number(text) => {
                is_secret && !is_number(text)
                    || self.could_have(text) && self.rules.finds(text.as_bytes(), Apply::All)
            }
            Token::Array(count) => {
                let depth = self.reader.deeper(depth)?;
                for _ in 0..count {
                    if self.value(keys, is_secret, false, depth)? {
                        return Ok(true);
                    }
                }
                false
            }
            Token::Map(count) => {
                let depth = self.reader.deeper(depth)?;
                is_secret && count > 0 || self.entries(count, keys.inner(), depth)?
            }
        })
    }
}
