//! Appending JSON tokens to a line.

use super::scan::{is_plain, plain_end};

/// Appends `text` as a JSON string, quotes included. Escaped are quotes, backslashes and the control
/// characters below U+0020, nothing else.
#[inline]
pub(crate) fn write_string(text: &str, out: &mut Vec<u8>) {
    write_raw_string(text.as_bytes(), out);
}

/// Does the same with bytes. What is appended is UTF-8 if they are.
#[inline]
pub(crate) fn write_raw_string(bytes: &[u8], out: &mut Vec<u8>) {
    if is_plain(bytes) {
        out.reserve(bytes.len() + 2);
        out.push(b'"');
        out.extend_from_slice(bytes);
        out.push(b'"');
    } else {
        write_escaped_string(bytes, out);
    }
}

#[cold]
fn write_escaped_string(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    write_escaped_content(bytes, out);
    out.push(b'"');
}

/// Appends what a JSON string of `text` has between its quotes.
#[inline]
pub(crate) fn write_string_content(text: &str, out: &mut Vec<u8>) {
    if is_plain(text.as_bytes()) {
        out.extend_from_slice(text.as_bytes());
    } else {
        write_escaped_content(text.as_bytes(), out);
    }
}

/// Whether a JSON string of `text` has its bytes between its quotes. Stops early in a long text that does not.
pub(crate) fn is_plain_text(text: &str) -> bool {
    text.as_bytes().chunks(4096).all(is_plain)
}

#[cold]
fn write_escaped_content(bytes: &[u8], out: &mut Vec<u8>) {
    let mut start = 0;
    loop {
        let end = plain_end(bytes, start);
        out.extend_from_slice(bytes.get(start..end).unwrap_or_default());
        let Some(&special) = bytes.get(end) else {
            break;
        };
        write_escaped(special, out);
        start = end + 1;
    }
}

/// Appends an integer.
pub(crate) fn write_i64(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends an integer.
pub(crate) fn write_u64(value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends the shortest number that reads back as `value`, bit for bit, always with a fraction or
/// an exponent: `1.0`, `-0.0`, `1e300`. JSON has no NaN and no infinities: those become the strings
/// `"NaN"`, `"Infinity"` and `"-Infinity"`, as in the JSON form of Protocol Buffers.
pub(crate) fn write_f64(value: f64, out: &mut Vec<u8>) {
    if value.is_finite() {
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    } else if value.is_nan() {
        out.extend_from_slice(b"\"NaN\"");
    } else if value > 0.0 {
        out.extend_from_slice(b"\"Infinity\"");
    } else {
        out.extend_from_slice(b"\"-Infinity\"");
    }
}

fn write_escaped(byte: u8, out: &mut Vec<u8>) {
    let letter = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        b'\t' => b't',
        b'\n' => b'n',
        0x0c => b'f',
        b'\r' => b'r',
        _ => {
            let digit = |nibble: u8| {
                if nibble < 10 {
                    b'0' + nibble
                } else {
                    b'a' + nibble - 10
                }
            };
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[digit(byte >> 4), digit(byte & 0xf)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', letter]);
}

#[cfg(test)]
mod tests {
    use super::{super::read::Reader, *};
    use proptest::prelude::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn strings_are_escaped_as_little_as_json_allows() {
        assert_eq!(
            written(|out| write_string("a\"\\/\u{8}\u{c}\n\r\t\0\u{1f}\u{7f}é\u{2028}😀", out)),
            "\"a\\\"\\\\/\\b\\f\\n\\r\\t\\u0000\\u001f\u{7f}é\u{2028}😀\""
        );
    }

    #[test]
    fn numbers_read_back_with_their_type() {
        for (value, text) in [
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (0.1, "0.1"),
            (1e300, "1e+300"),
            (f64::NAN, "\"NaN\""),
            (f64::INFINITY, "\"Infinity\""),
            (f64::NEG_INFINITY, "\"-Infinity\""),
        ] {
            assert_eq!(written(|out| write_f64(value, out)), text);
        }
        assert_eq!(
            written(|out| write_i64(i64::MIN, out)),
            i64::MIN.to_string()
        );
        assert_eq!(
            written(|out| write_u64(u64::MAX, out)),
            u64::MAX.to_string()
        );
    }

    proptest! {
        #[test]
        fn every_string_reads_back(text in any::<String>(), ascii in "[ -#\\\\\0-\x20]{0,40}") {
            for text in [text, ascii] {
                let line = written(|out| write_string(&text, out));
                let mut reader = Reader::new(line.as_bytes()).expect("UTF-8");
                prop_assert_eq!(reader.read_string().expect("a string"), text);
                reader.finish().expect("nothing else");
            }
        }

        #[test]
        fn every_finite_float_reads_back(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            let line = written(|out| write_f64(value, out));
            prop_assert!(line.contains(['.', 'e']), "{}", line);
            let mut reader = Reader::new(line.as_bytes()).expect("UTF-8");
            let back = reader.read_number().expect("a number").as_f64().expect("finite");
            prop_assert_eq!(back.to_bits(), bits);
        }
    }
}
