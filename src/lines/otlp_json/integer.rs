//! Integers, which Protocol Buffers also reads from numbers such as `1e3` and `5.0`.

use crate::lines::json::Number;
use std::str::FromStr;

/// An integer type of Protocol Buffers.
pub(super) trait Integer: FromStr + TryFrom<i128> {
    /// The type's name, for errors.
    const NAME: &str;
}

impl Integer for i32 {
    const NAME: &str = "i32";
}

impl Integer for u32 {
    const NAME: &str = "u32";
}

impl Integer for i64 {
    const NAME: &str = "i64";
}

impl Integer for u64 {
    const NAME: &str = "u64";
}

/// The integer that `number` denotes exactly, in whichever way it is written.
pub(super) fn integer_of<T: Integer>(number: Number<'_>) -> Option<T> {
    number
        .text()
        .parse()
        .ok()
        .or_else(|| whole(number.text()).and_then(|value| T::try_from(value).ok()))
}

/// The whole number of at most 38 digits that the JSON number `text` denotes exactly.
fn whole(text: &str) -> Option<i128> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, mantissa),
    };
    let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [integer, fraction].concat();
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return Some(0);
    }
    let exponent: i64 = exponent.map_or(Some(0), |text| text.parse().ok())?;
    let zeros = digits.len() - significant.len();
    let scale = exponent
        .checked_add(i64::try_from(zeros).ok()?)?
        .checked_sub(i64::try_from(fraction.len()).ok()?)?;
    let power = 10_i128.checked_pow(u32::try_from(scale).ok()?)?;
    significant
        .parse::<i128>()
        .ok()?
        .checked_mul(power)?
        .checked_mul(sign)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::json::Reader;

    fn read<T: Integer>(text: &str) -> Option<T> {
        let mut reader = Reader::new(text.as_bytes()).expect("UTF-8");
        integer_of(reader.read_number().expect("a number"))
    }

    #[test]
    fn whole_numbers_are_read_from_every_notation() {
        for (text, value) in [
            ("0", 0),
            ("-0", 0),
            ("-0.0e7", 0),
            ("0e99999999999999999999", 0),
            ("1e3", 1000),
            ("1E+3", 1000),
            ("-1.5e1", -15),
            ("5.000", 5),
            ("1200e-2", 12),
            ("9223372036854775807.0", i64::MAX),
            ("-9.223372036854775808e18", i64::MIN),
            ("0.00000000000000000001e20", 1),
        ] {
            assert_eq!(read::<i64>(text), Some(value), "{text}");
        }
        assert_eq!(read::<u64>("1.8446744073709551615e19"), Some(u64::MAX));
        assert_eq!(read::<u32>("4.294967295e9"), Some(u32::MAX));
        assert_eq!(read::<i32>("-2147483648"), Some(i32::MIN));
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "0.5",
            "1e-1",
            "9223372036854775808",
            "9223372036854775808.0",
            "1e19",
            "1e400",
            "1e9223372036854775807",
            "1e-9223372036854775808",
            "1e99999999999999999999",
            "123456789012345678901234567890123456789012345678901234567890",
        ] {
            assert_eq!(read::<i64>(text), None, "{text}");
        }
        assert_eq!(read::<u64>("-1"), None);
        assert_eq!(read::<u32>("4294967296"), None);
        assert_eq!(read::<i32>("-2147483649"), None);
    }
}
