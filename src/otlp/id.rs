//! Trace and span ids, which OTLP/JSON writes in hex, unlike all other bytes.

use super::base64::decode_base64;

const NO_DIGIT: u8 = 0xff;
const DIGITS: &[u8; 16] = b"0123456789abcdef";
const NIBBLES: [u8; 256] = nibbles();

/// Decodes an id of `length` bytes from pairs of hex digits in either case, or from base64, which
/// files older than OTLP/JSON contain. The two have different lengths, so they cannot be confused.
/// An empty text is an absent id and returns no bytes.
pub(crate) fn decode_id(text: &str, length: usize) -> Option<Vec<u8>> {
    if text.is_empty() {
        Some(Vec::new())
    } else if text.len() == length * 2 {
        decode_hex(text.as_bytes())
    } else {
        // The length check avoids decoding a long text only to refuse it.
        (text.len() < length * 2)
            .then(|| decode_base64(text))
            .flatten()
            .filter(|id| id.len() == length)
    }
}

/// Appends the id of a trace or span as lowercase hex, as OTLP/JSON has it
/// (<https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>).
pub fn encode_hex(id: &[u8], out: &mut Vec<u8>) {
    for byte in id {
        out.extend_from_slice(&hex_digits(*byte));
    }
}

/// The id of a trace or span as lowercase hex, as [`encode_hex`] appends it.
#[must_use]
pub fn hex(id: &[u8]) -> String {
    let mut text = Vec::with_capacity(2 * id.len());
    encode_hex(id, &mut text);
    String::from_utf8(text).unwrap_or_default()
}

/// A byte as two lowercase hex digits.
pub(crate) fn hex_digits(byte: u8) -> [u8; 2] {
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or_default();
    [digit(byte >> 4), digit(byte & 0xf)]
}

fn decode_hex(digits: &[u8]) -> Option<Vec<u8>> {
    let (pairs, []) = digits.as_chunks::<2>() else {
        return None;
    };
    pairs
        .iter()
        .map(|&[high, low]| Some(nibble(high)? << 4 | nibble(low)?))
        .collect()
}

fn nibble(digit: u8) -> Option<u8> {
    NIBBLES
        .get(usize::from(digit))
        .copied()
        .filter(|&nibble| nibble != NO_DIGIT)
}

#[expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "evaluated at compile time"
)]
const fn nibbles() -> [u8; 256] {
    let mut nibbles = [NO_DIGIT; 256];
    let mut value = 0;
    while value < DIGITS.len() {
        let digit = DIGITS[value];
        nibbles[digit as usize] = value as u8;
        nibbles[digit.to_ascii_uppercase() as usize] = value as u8;
        value += 1;
    }
    nibbles
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn length_decides_between_hex_and_base64() {
        let id = decode_id("00112233445566778899aabbccddeeff", 16).expect("hex");
        assert_eq!(id[..3], [0x00, 0x11, 0x22]);
        assert_eq!(
            decode_id("00112233445566778899AABBCCddeeFF", 16),
            Some(id.clone())
        );
        assert_eq!(decode_id("ABEiM0RVZneImaq7zN3u/w==", 16), Some(id.clone()));
        assert_eq!(decode_id("ABEiM0RVZneImaq7zN3u_w", 16), Some(id));
        assert_eq!(decode_id("NCSdi4KfQRY=", 8).map(|id| id.len()), Some(8));
        assert_eq!(decode_id("", 8), Some(Vec::new()));
    }

    #[test]
    fn no_other_length_and_no_other_digit_is_an_id() {
        for text in [
            "zzz",
            "!!!INVALID_BASE64!!!",
            "0011223344556677",
            "00112233445566778899aabbccddee",
            "00112233445566778899aabbccddeef",
            "00112233445566778899aabbccddeefg",
            "00112233445566778899aabbccddeeff00",
            "ABEiM0RVZneImaq7zN3u",
            "é0112233445566778899aabbccddeef",
            " 0112233445566778899aabbccddeef ",
        ] {
            assert_eq!(decode_id(text, 16), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_id_reads_back_from_hex_and_from_base64(id in any::<[u8; 16]>()) {
            let mut hex = Vec::new();
            encode_hex(&id, &mut hex);
            let mut base64 = Vec::new();
            crate::otlp::base64::encode_base64(&id, &mut base64);
            for text in [hex, base64] {
                let text = String::from_utf8(text).expect("ASCII");
                prop_assert_eq!(decode_id(&text, 16), Some(id.to_vec()));
            }
        }
    }
}
