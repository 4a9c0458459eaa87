//! Finding the end of a token, eight bytes at a time where that pays.

const LANES: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

/// The position, at or behind `start`, of the first byte that ends a run of plain characters in a
/// JSON string: a quote, a backslash or a control character below U+0020. The length of `bytes`
/// when there is none.
pub(super) fn plain_end(bytes: &[u8], start: usize) -> usize {
    let mut position = start;
    while let Some(chunk) = bytes.get(position..).and_then(<[u8]>::first_chunk::<8>) {
        let special = special_lanes(u64::from_le_bytes(*chunk));
        if special != 0 {
            return position + (special.trailing_zeros() / 8) as usize;
        }
        position += 8;
    }
    bytes
        .iter()
        .skip(position)
        .position(|&byte| byte == b'"' || byte == b'\\' || byte < 0x20)
        .map_or(bytes.len(), |ahead| position + ahead)
}

/// Whether `bytes` has neither quotes nor backslashes nor control characters below U+0020. Looks at the
/// last bytes twice rather than at each of them: most strings are short.
#[inline]
pub(super) fn is_plain(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<8>();
    let mut special = 0;
    for chunk in chunks {
        special |= special_lanes(u64::from_le_bytes(*chunk));
    }
    let last = match (bytes.last_chunk::<8>(), bytes.first_chunk::<4>(), rest) {
        (Some(last), ..) => u64::from_le_bytes(*last),
        (None, Some(head), _) => {
            let tail = bytes.last_chunk::<4>().unwrap_or(head);
            u64::from(u32::from_le_bytes(*head)) << 32 | u64::from(u32::from_le_bytes(*tail))
        }
        (None, None, [first, .., last]) => {
            // Of at most three bytes. Blanks, which are plain, fill up the rest.
            let middle = rest.get(1).unwrap_or(first);
            u64::from_le_bytes([*first, *middle, *last, b' ', b' ', b' ', b' ', b' '])
        }
        (None, None, [byte]) => LANES * u64::from(*byte),
        (None, None, []) => return true,
    };
    (special | special_lanes(last)) == 0
}

/// The high bit of each lane that holds a quote, a backslash or a control character. A lane behind
/// the first such lane can be marked falsely, for a subtraction borrows from it; the first cannot.
fn special_lanes(word: u64) -> u64 {
    let zero = |word: u64| word.wrapping_sub(LANES) & !word;
    let control = word.wrapping_sub(LANES * 0x20) & !word;
    let quote = zero(word ^ (LANES * u64::from(b'"')));
    let backslash = zero(word ^ (LANES * u64::from(b'\\')));
    (control | quote | backslash) & HIGH_BITS
}

/// The end of the JSON number that begins at `start` (RFC 8259, section 6), or the position at
/// which its grammar is broken.
pub(super) fn number_end(bytes: &[u8], start: usize) -> Result<usize, usize> {
    let at = |position: usize| bytes.get(position).copied();
    let digits = |from: usize| {
        let mut position = from;
        while at(position).is_some_and(|byte| byte.is_ascii_digit()) {
            position += 1;
        }
        if position > from {
            Ok(position)
        } else {
            Err(position)
        }
    };

    let first = if at(start) == Some(b'-') {
        start + 1
    } else {
        start
    };
    let mut end = digits(first)?;
    if at(first) == Some(b'0') && end > first + 1 {
        return Err(first + 1);
    }
    if at(end) == Some(b'.') {
        end = digits(end + 1)?;
    }
    if matches!(at(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(at(end + 1), Some(b'+' | b'-')));
        end = digits(end + 1 + sign)?;
    }
    Ok(end)
}

/// Whether `text` is a JSON number and nothing else.
pub(super) fn is_number(text: &str) -> bool {
    number_end(text.as_bytes(), 0) == Ok(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_follow_the_grammar() {
        for good in [
            "0", "-0", "7", "10", "-12.50", "1e5", "1E+5", "0.1e-07", "1e400",
        ] {
            assert!(is_number(good), "{good}");
        }
        for bad in [
            "", "-", "+1", "01", "-01", "1.", ".5", "1.e3", "1e", "1e+", "0x1", "NaN", "1 ", "1,",
        ] {
            assert!(!is_number(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn the_fast_scan_finds_what_a_plain_loop_finds(
            bytes in proptest::collection::vec(
                prop_oneof![any::<u8>(), Just(b'"'), Just(b'\\'), 0x18_u8..0x28, 0x78_u8..=0xff],
                0..40,
            ),
            start in 0_usize..40,
        ) {
            let start = start.min(bytes.len());
            let expected = (start..bytes.len())
                .find(|&i| matches!(bytes[i], b'"' | b'\\' | 0..=0x1f))
                .unwrap_or(bytes.len());
            prop_assert_eq!(plain_end(&bytes, start), expected);
            let plain = plain_end(&bytes, 0) == bytes.len();
            prop_assert_eq!(is_plain(&bytes), plain);
            for end in 0..bytes.len() {
                prop_assert_eq!(is_plain(&bytes[..end]), plain_end(&bytes[..end], 0) == end);
            }
        }
    }
}
