//! Tokens: what the summary of a block remembers of its records, and what a filter looks for in it.
//!
//! Both sides must agree, and summaries are stored, so a change here needs a new version of summaries.
//!
//! - An *id* is a token.
//! - A *key* is the path of an entry, and a *value* is a key with a scalar as text.
//! - A *trigram* is three letters of ASCII or underscores in a row, in lower case: 32,768 codes of five
//!   bits a letter. Searching for trigrams finds parts of words as well as words and what regular
//!   expressions require. Of other characters only U+017F and U+212A count, as the s and the k that they
//!   are when case does not matter.
//!
//! Trigrams of the letters a to f alone are left out, so that ids in hex need not be searched for
//! trigrams.

use super::{plain_text, text::fold};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

const TRACE_ID_SEED: u64 = 1;
const SPAN_ID_SEED: u64 = 2;
const KEY_SEED: u64 = 3;

/// The token of a trace id: the bytes of a span's, the 32 lowercase digits of a log's.
pub(crate) fn trace_id_token(id: &[u8]) -> u64 {
    xxh3_64_with_seed(id, TRACE_ID_SEED)
}

/// The token of a span id: the bytes of a span's, the 16 lowercase digits of a log's.
pub(crate) fn span_id_token(id: &[u8]) -> u64 {
    xxh3_64_with_seed(id, SPAN_ID_SEED)
}

/// The token of the entry at `path`.
pub(crate) fn key_token(path: &str) -> u64 {
    xxh3_64_with_seed(path.as_bytes(), KEY_SEED)
}

/// The token of a string, an integer in decimal, `true`, `false` or `null` at the path whose token is
/// `key`.
pub(crate) fn value_token(key: u64, text: &[u8]) -> u64 {
    xxh3_64_with_seed(text, key)
}

/// The token of a trigram.
pub(crate) fn trigram_token(trigram: u16) -> u64 {
    xxh3_64(&trigram.to_le_bytes())
}

/// The number of bits of a letter's code. Codes begin at 1.
const LETTER_BITS: u32 = 5;
/// A set bit for each bit of a trigram.
const TRIGRAM_MASK: u32 = (1 << (3 * LETTER_BITS)) - 1;
/// The code of an f.
const LAST_HEX_LETTER: u16 = 6;

/// The code of each byte; 0 for one that is no letter.
#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, which would refuse an index out of bounds"
)]
const CODES: [u8; 256] = {
    let mut codes = [0; 256];
    let mut letter = 0;
    while letter < 26 {
        codes[(b'a' + letter) as usize] = letter + 1;
        codes[(b'A' + letter) as usize] = letter + 1;
        letter += 1;
    }
    codes[b'_' as usize] = 27;
    codes
};

/// A set of trigrams.
pub(crate) struct Trigrams {
    words: Vec<u64>,
}

impl Trigrams {
    pub(crate) fn new() -> Trigrams {
        Trigrams {
            words: vec![0; (TRIGRAM_MASK as usize + 1) / 64],
        }
    }

    /// Adds the trigrams of a text. Returns `false` when it is not UTF-8.
    pub(crate) fn add(&mut self, text: &[u8]) -> bool {
        if text.is_ascii() && !text.contains(&0x1b) {
            self.add_letters(text);
            return true;
        }
        let Ok(text) = std::str::from_utf8(text) else {
            return false;
        };
        self.add_letters(fold(&plain_text(text)).as_bytes());
        true
    }

    /// Adds the trigrams of bytes. A sequence with a byte that is no letter has a code of 0 in it, and is
    /// no trigram; testing for that here would cost more than all the rest.
    #[inline]
    fn add_letters(&mut self, text: &[u8]) {
        let mut trigram = 0u32;
        for byte in text {
            let code = CODES.get(usize::from(*byte)).copied().unwrap_or_default();
            trigram = (trigram << LETTER_BITS | u32::from(code)) & TRIGRAM_MASK;
            if let Some(word) = self.words.get_mut(trigram as usize / 64) {
                *word |= 1 << (trigram % 64);
            }
        }
    }

    /// The trigrams, except those of the letters a to f alone.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u16> {
        let words = self.words.iter().zip(0u16..);
        let all = words.flat_map(|(word, index)| {
            (0..64u16)
                .filter(move |bit| word >> bit & 1 == 1)
                .map(move |bit| index * 64 + bit)
        });
        all.filter(|trigram| {
            let letters = [trigram >> 10, trigram >> 5 & 31, trigram & 31];
            !letters.contains(&0) && letters.iter().any(|letter| *letter > LAST_HEX_LETTER)
        })
    }
}

/// The trigrams that every text has which contains all of `fragments`, see
/// [`TextPattern::fragments`](super::TextPattern::fragments).
pub(crate) fn trigrams_of(fragments: &[String]) -> Vec<u16> {
    let mut trigrams = Trigrams::new();
    for fragment in fragments {
        trigrams.add_letters(fragment.as_bytes());
    }
    trigrams.iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::TextPattern;
    use proptest::prelude::*;

    fn count(text: &str) -> usize {
        let mut trigrams = Trigrams::new();
        assert!(trigrams.add(text.as_bytes()));
        trigrams.iter().count()
    }

    #[test]
    fn trigrams_are_three_letters_in_a_row() {
        for (text, expected) in [
            ("", 0),
            ("ab", 0),
            ("abz", 1),
            ("ABZ abz", 1),
            ("ab z", 0),
            ("tool_call", 7),
            ("fade", 0),
            ("fader", 1),
            ("a1b2c3", 0),
            ("gräin", 0),
            ("\u{17f}ee", 1),
            ("er\u{1b}[31mror", 3),
        ] {
            assert_eq!(count(text), expected, "{text:?}");
        }
        assert!(!Trigrams::new().add(b"\xff"));
    }

    proptest! {
        #[test]
        fn a_match_has_the_trigrams_of_its_pattern(
            pattern in "[a-zK_\u{17f}]{1,4}(.?[a-z]{1,3})?",
            text in "[a-cK \u{17f}\u{212a}é_]{0,9}[a-zA-Z_\u{1b}\\[]{0,9}",
            at: prop::sample::Index,
            upper: bool,
        ) {
            let middle = (0..=at.index(text.len() + 1)).rev().find(|at| text.is_char_boundary(*at));
            let (front, back) = text.split_at(middle.unwrap());
            let pattern = if upper { pattern.to_uppercase() } else { pattern };
            let text = format!("{front}{pattern}{back}");
            let patterns = [TextPattern::substring(&pattern), TextPattern::regex(&pattern)];
            for pattern in patterns.into_iter().flatten() {
                if pattern.is_match(&text) {
                    let mut trigrams = Trigrams::new();
                    prop_assert!(trigrams.add(text.as_bytes()));
                    let found: Vec<u16> = trigrams.iter().collect();
                    for trigram in trigrams_of(pattern.fragments()) {
                        prop_assert!(found.contains(&trigram), "{:?} {:?}", pattern, text);
                    }
                }
            }
        }
    }
}
