//! Texts without the escape sequences of terminals, which programs write to colour their messages.
//!
//! Removed by hand and not by a crate, because stored filters are built from the texts that this
//! returns: another crate's next version could remove something else, and a filter would then exclude
//! a block that has a match.

use std::borrow::Cow;

const ESC: u8 = 0x1b;
const BEL: u8 = 0x07;

/// `text` without escape sequences (ECMA-48, section 5): control sequences such as colours, operating
/// system commands such as titles and links, and the short ones. An unfinished sequence at the end is
/// removed, too.
#[must_use]
pub fn plain_text(text: &str) -> Cow<'_, str> {
    let Some((before, mut rest)) = text.split_once('\u{1b}') else {
        return Cow::Borrowed(text);
    };
    let mut plain = String::with_capacity(text.len());
    plain.push_str(before);
    loop {
        rest = after_sequence(rest);
        let Some((before, after)) = rest.split_once('\u{1b}') else {
            plain.push_str(rest);
            return Cow::Owned(plain);
        };
        plain.push_str(before);
        rest = after;
    }
}

/// The part of `text` after the escape sequence whose first byte, ESC, is before it.
fn after_sequence(text: &str) -> &str {
    let mut bytes = text.bytes().enumerate();
    let end = match bytes.next() {
        Some((_, b'[')) => bytes
            .find(|(_, byte)| !(0x20..0x40).contains(byte))
            // A byte that no control sequence has belongs to the text again.
            .map(|(at, byte)| at + usize::from((0x40..0x7f).contains(&byte))),
        Some((_, b']' | b'P' | b'X' | b'^' | b'_')) => end_of_string(text.as_bytes()),
        Some((_, 0x20..0x30)) => bytes
            .find(|(_, byte)| !(0x20..0x30).contains(byte))
            .map(|(at, byte)| at + usize::from((0x30..0x7f).contains(&byte))),
        Some((_, 0x30..0x7f)) => Some(1),
        _ => Some(0),
    };
    end.and_then(|end| text.get(end..)).unwrap_or_default()
}

/// Where a control string ends: after BEL, or before the next ESC, which ends it or begins another
/// sequence.
fn end_of_string(bytes: &[u8]) -> Option<usize> {
    let end = bytes.iter().position(|byte| matches!(*byte, BEL | ESC))?;
    Some(end + usize::from(bytes.get(end) == Some(&BEL)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sequences_are_removed_and_texts_stay() {
        for (text, plain) in [
            ("", ""),
            ("plain", "plain"),
            ("er\u{1b}[31mro\u{1b}[0mr", "error"),
            ("\u{1b}[38;5;196mred\u{1b}[m", "red"),
            ("\u{1b}]0;title\u{7}text", "text"),
            ("\u{1b}]8;;http://a\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link"),
            ("\u{1b}(Bascii\u{1b}7", "ascii"),
            ("cut\u{1b}", "cut"),
            ("cut\u{1b}[1;3", "cut"),
            ("cut\u{1b}]0;title", "cut"),
            ("a\u{1b}[31\u{1b}[0mb", "ab"),
            ("a\u{1b}\u{1b}[0mb", "ab"),
            ("a\u{1b}[31äb", "aäb"),
            ("a\u{1b}äb", "aäb"),
        ] {
            assert_eq!(plain_text(text), plain, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_escape_stays_and_no_text_panics(text in "[\u{1b}\\[\\]mä7;( a-c\u{7}]{0,12}") {
            let plain = plain_text(&text);
            prop_assert!(!plain.contains('\u{1b}'), "{:?}", plain);
            if !text.contains('\u{1b}') {
                prop_assert_eq!(&plain, &text);
            }
        }
    }
}
