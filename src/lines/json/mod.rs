//! JSON text, read strictly (RFC 8259) and written without an intermediate tree.
//!
//! Every line format shares this module: a [`Reader`] that is pulled through one line, functions
//! that append to a line, and the conversion of [`Value`](crate::record::Value) in both directions.
//!
//! # Why not `serde_json`
//!
//! Lines must come back byte for byte, and an import must say where a line is wrong. `serde_json`
//!
//! - changes integers beyond 64 bits and refuses `1e400`; here a number keeps its digits;
//! - keeps one of two equal keys in its `Value`; here both stay, in their order;
//! - bounds nesting at 128 levels or not at all; here each caller sets the bound;
//! - reports a line and column; here an error names the path of the value, as in
//!   `resourceSpans[0].scopeSpans[2]`;
//! - writes `null` for a double that is no number, which a Collector refuses.
//!
//! The test `serde_json_does_otherwise` holds each of these, but for the path. Speed alone would be no
//! reason: reading a log line to a record takes `serde_json` 1.24 times our time with a hand-written
//! visitor and 1.58 times by way of its `Value` (without making the record), and writing the records of a
//! scan takes it 1.66 times, because ours copies strings from the stored encoding (medians of 7 rounds in
//! one process on 2 shared cores):
//!
//! ```sh
//! cargo bench -p gridctl-telemetry-benches --bench json -- --records 100000 --rounds 7
//! ```

mod error;
mod read;
mod scan;
mod value;
mod write;

pub(crate) use self::{
    error::{JsonError, JsonReason, JsonResult},
    read::{Kind, Mark, NESTING_MAX, Number, Reader, Skim},
    value::{Scalar, read_scalar, read_value, value_text, write_float, write_number, write_value},
    write::{
        is_plain_text, write_f64, write_i64, write_raw_string, write_string, write_string_content,
        write_u64,
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    /// What the top of this module says of `serde_json`, and of us.
    #[test]
    fn serde_json_does_otherwise() {
        let theirs = |line: &str| serde_json::from_str::<serde_json::Value>(line);
        let ours = |line: &str| {
            let mut reader = Reader::new(line.as_bytes()).unwrap();
            let value = read_value(&mut reader).unwrap();
            reader.finish().unwrap();
            let mut out = Vec::new();
            write_value(&value, &mut out);
            String::from_utf8(out).unwrap()
        };
        let beyond = "18446744073709551616";
        assert_ne!(theirs(beyond).unwrap().to_string(), beyond);
        assert_eq!(ours(beyond), beyond);
        assert!(theirs("1e400").is_err());
        assert_eq!(ours("1e400"), "1e400");

        let twice = r#"{"b":1,"a":2,"b":3}"#;
        assert_eq!(theirs(twice).unwrap().as_object().unwrap().len(), 2);
        assert_eq!(ours(twice), twice);

        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(theirs(&nested(127)).is_ok());
        assert!(theirs(&nested(129)).is_err());
        let deeper = nested(200);
        let mut deeper = Reader::with_nesting_max(deeper.as_bytes(), 200).unwrap();
        assert!(read_value(&mut deeper).is_ok());

        let error = serde_json::from_str::<Vec<i64>>(r#"[1, "some text"]"#).unwrap_err();
        assert_eq!(error.column(), 15, "the end of the text, not its start");

        assert_eq!(serde_json::to_string(&f64::NAN).unwrap(), "null");
        let mut out = Vec::new();
        write_f64(f64::NAN, &mut out);
        assert_eq!(out, b"\"NaN\"");
    }
}
