//! Templates: texts without the numbers and ids in them.
//!
//! Most messages are made by a format string. Without its *variables*, thousands of texts are one
//! template, and the variables at one place of it are a column like any other.
//!
//! A template is stored as the bytes of the text, with a marker for each variable. A variable is a decimal
//! number without a leading zero, of at most 18 digits, so that its digits come back as they were; or a
//! text: a UUID, or at least eight hex digits.

use super::bytes::Reader;

/// A number.
const NUMBER: u8 = 1;
/// A text that varies.
const TEXT: u8 = 2;
/// Precedes a byte of the text that is none of these three.
const ESCAPE: u8 = 3;

/// Maximum number of digits of a number: any fit 64 bits.
const DIGITS_MAX: usize = 18;
/// The number of hex digits from which they are an id and not a word.
const HEX_MIN: usize = 8;
/// Maximum number of pieces of a template.
pub(super) const PIECES_MAX: usize = 2 * VARIABLES_MAX + 1;
/// Maximum number of variables of a text: one of hundreds of numbers is data, and not a message.
pub(super) const VARIABLES_MAX: usize = 64;
/// The length of a UUID.
const UUID_BYTES: usize = 36;

/// What varies between the texts of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variable<'a> {
    Number(u64),
    Text(&'a [u8]),
}

/// Appends the template of `text` to `template`, and its variables to `variables`.
pub(super) fn split<'a>(text: &'a [u8], template: &mut Vec<u8>, variables: &mut Vec<Variable<'a>>) {
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        if !byte.is_ascii_alphanumeric() {
            if (NUMBER..=ESCAPE).contains(byte) {
                template.push(ESCAPE);
            }
            template.push(*byte);
            rest = after;
            continue;
        }
        if let Some((uuid, after)) = rest.split_at_checked(UUID_BYTES)
            && is_uuid(uuid)
            && !after.first().is_some_and(u8::is_ascii_alphanumeric)
        {
            template.push(TEXT);
            variables.push(Variable::Text(uuid));
            rest = after;
            continue;
        }
        let end = rest.iter().position(|byte| !byte.is_ascii_alphanumeric());
        let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
        split_word(word, template, variables);
        rest = after;
    }
}

/// Does the same with letters and digits.
fn split_word<'a>(word: &'a [u8], template: &mut Vec<u8>, variables: &mut Vec<Variable<'a>>) {
    let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let has_digit = word.iter().any(u8::is_ascii_digit);
    let is_number = word.iter().all(u8::is_ascii_digit) && word.len() <= DIGITS_MAX;
    if word.len() >= HEX_MIN && has_digit && !is_number && word.iter().all(is_hex) {
        template.push(TEXT);
        variables.push(Variable::Text(word));
        return;
    }
    if !has_digit {
        template.extend_from_slice(word);
        return;
    }
    for part in word.chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit()) {
        let zeros = part.iter().take_while(|byte| **byte == b'0').count();
        // A number of zeros is zeros and a zero.
        let zeros = zeros.min(part.len() - 1);
        let (zeros, digits) = part.split_at(zeros);
        template.extend_from_slice(zeros);
        if digits.len() <= DIGITS_MAX && digits.iter().all(u8::is_ascii_digit) {
            let add = |number, digit: &u8| number * 10 + u64::from(digit - b'0');
            template.push(NUMBER);
            variables.push(Variable::Number(digits.iter().fold(0, add)));
        } else {
            template.extend_from_slice(digits);
        }
    }
}

/// Whether `text` is a UUID in lower case.
pub(super) fn is_uuid(text: &[u8]) -> bool {
    text.len() == UUID_BYTES
        && text.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Literal(Vec<u8>),
    Number,
    Text,
}

/// The parts of a stored template; `None` when it is none.
pub(super) fn pieces(template: &[u8]) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut literal = Vec::new();
    let mut rest = Reader::new(template);
    while !rest.is_empty() {
        let byte = match rest.u8()? {
            ESCAPE => rest.u8()?,
            marker @ (NUMBER | TEXT) => {
                if !literal.is_empty() {
                    pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                }
                let piece = if marker == NUMBER {
                    Piece::Number
                } else {
                    Piece::Text
                };
                pieces.push(piece);
                continue;
            }
            byte => byte,
        };
        literal.push(byte);
    }
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    Some(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The text of a template with these variables.
    fn join(template: &[u8], variables: &[Variable<'_>]) -> Vec<u8> {
        let mut variables = variables.iter();
        let mut text = Vec::new();
        for piece in pieces(template).unwrap() {
            match (piece, &mut variables) {
                (Piece::Literal(literal), _) => text.extend(literal),
                (piece, variables) => match variables.next().unwrap() {
                    Variable::Number(number) => {
                        assert_eq!(piece, Piece::Number);
                        text.extend(number.to_string().bytes());
                    }
                    Variable::Text(varying) => {
                        assert_eq!(piece, Piece::Text);
                        text.extend_from_slice(varying);
                    }
                },
            }
        }
        assert_eq!(variables.next(), None);
        text
    }

    fn template(text: &str) -> (String, usize) {
        let (mut template, mut variables) = (Vec::new(), Vec::new());
        split(text.as_bytes(), &mut template, &mut variables);
        let template = String::from_utf8(template).unwrap();
        let shown = template.replace('\u{1}', "<n>").replace('\u{2}', "<t>");
        (shown, variables.len())
    }

    #[test]
    fn numbers_and_ids_are_variables() {
        for (text, wanted, variables) in [
            (
                "answered 120 bytes in 7 ms",
                "answered <n> bytes in <n> ms",
                2,
            ),
            ("took 30ms, v2.015", "took <n>ms, v<n>.0<n>", 3),
            ("00", "0<n>", 1),
            ("1234567890123456789 x", "<t> x", 1),
            ("x 12345678901234567890123", "x <t>", 1),
            ("deadbeef cafe", "deadbeef cafe", 0),
            ("commit 0badc0de1 of b2c4", "commit <t> of b<n>c<n>", 3),
            ("/a/123e4567-e89b-12d3-a456-426614174000/b", "/a/<t>/b", 1),
            ("X1234567890123456789Y", "X1234567890123456789Y", 0),
        ] {
            assert_eq!(template(text), (wanted.to_owned(), variables), "{text}");
        }
    }

    proptest! {
        #[test]
        fn texts_come_back(
            text in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..60),
                prop::collection::vec(0u8..5, 0..20),
                "([0-9]{0,25}|[0-9a-f]{6,40}|[a-z/ .-]{0,9}){0,6}".prop_map(String::into_bytes),
            ],
        ) {
            let (mut template, mut variables) = (Vec::new(), Vec::new());
            split(&text, &mut template, &mut variables);
            prop_assert_eq!(join(&template, &variables), text);
        }
    }
}
