//! `logs.jsonl`: one object a line, in the shape of Go's `log/slog`.
//!
//! `ts`, `level` and `msg` come first, then the attributes in their order; [`super::dialect`] reads
//! them. A level that a line spelled in another way is written so again.

use super::{
    dialect::text_of_level,
    line::{write_entries, write_timestamp},
};
use crate::{
    lines::{
        json::{
            NESTING_MAX, Reader, Scalar, is_plain_text, read_scalar, write_float, write_i64,
            write_number, write_raw_string, write_string, write_string_content, write_u64,
        },
        otlp_json::records::{TEXT_BYTES_MAX, VALUES_MAX, signal_of_key},
    },
    otlp::FOREIGN,
    record::{
        EncodedLog, Level, LogRecord,
        messagepack::{RawToken, Reader as PayloadReader, write_map_head, write_str},
        payload::{LogHeadOf, PayloadError, write_log_start, write_value},
    },
    store::{Common, LogParts, LogValue, Piece},
    time::Timestamp,
};
use ::time::UtcOffset;
use std::borrow::Cow;

impl LogRecord {
    /// Appends the record as a line of `logs.jsonl`, its line feed included.
    pub fn write_line(&self, out: &mut Vec<u8>) {
        let (time, offset) = (self.timestamp, self.utc_offset);
        let kept = text_of_level(self);
        let level = kept.map_or_else(|| self.level.to_string(), |(level, _)| level.to_owned());
        write_head(time, offset, &level, self.message.as_bytes(), out);
        let others = kept.map_or(self.attributes.len(), |(_, others)| others);
        let attributes = self.attributes.get(..others).unwrap_or_default();
        write_entries(attributes, out);
        out.extend_from_slice(b"}\n");
    }
}

/// Appends the line of the record that `payload` encodes, the same that [`LogRecord::write_line`]
/// makes of it, without building the record. On an error `out` is as it was.
pub(crate) fn transcode_log_payload(
    timestamp: Timestamp,
    payload: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), PayloadError> {
    let start = out.len();
    transcode(timestamp, payload, out).inspect_err(|_| out.truncate(start))
}

fn write_head(
    timestamp: Timestamp,
    utc_offset: UtcOffset,
    level: &str,
    message: &[u8],
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"{\"ts\":");
    write_timestamp(timestamp, utc_offset, out);
    out.extend_from_slice(b",\"level\":");
    write_string(level, out);
    out.extend_from_slice(b",\"msg\":");
    write_raw_string(message, out);
}

fn transcode(timestamp: Timestamp, payload: &[u8], out: &mut Vec<u8>) -> Result<(), PayloadError> {
    let start = out.len();
    // About twice the payload, so that memory is asked for once.
    out.reserve(payload.len() * 2);
    let mut reader = PayloadReader::new(payload);
    let head = LogHeadOf::read_raw(&mut reader)?;
    let level = match head.level.name() {
        Some(name) => Cow::Borrowed(name),
        None => Cow::Owned(head.level.to_string()),
    };
    write_head(timestamp, head.utc_offset, &level, head.message, out);
    for left in (0..head.attributes).rev() {
        let key = reader.raw_str()?;
        if left == 0 && key == FOREIGN.as_bytes() {
            // It may tell how the level is written, which comes first.
            return write_decoded(timestamp, payload, start, out);
        }
        out.push(b',');
        write_raw_string(key, out);
        out.push(b':');
        transcode_value(&mut reader, 1, out)?;
    }
    reader.finish()?;
    out.extend_from_slice(b"}\n");
    // One look at the line takes a fraction of a look at each of its strings, and finds the same: what is
    // written around them is ASCII.
    if std::str::from_utf8(out.get(start..).unwrap_or_default()).is_err() {
        return write_decoded(timestamp, payload, start, out);
    }
    Ok(())
}

/// Appends the same line of a log that was decoded into its parts; `None` if its payload has to be read, and `out` is
/// then as it was.
pub(crate) fn write_log_parts(
    timestamp: Timestamp,
    log: &LogParts<'_>,
    out: &mut Vec<u8>,
) -> Option<()> {
    let start = out.len();
    let written = write_parts(timestamp, log, out);
    if written.is_none() {
        out.truncate(start);
    }
    written
}

fn write_parts(timestamp: Timestamp, log: &LogParts<'_>, out: &mut Vec<u8>) -> Option<()> {
    let mut pieces = log.pieces(pieces_of_shape)?.iter();
    let is_plain = log.are_texts(is_plain_text);
    out.extend_from_slice(b"{\"ts\":\"");
    timestamp.write_rfc3339_in(log.utc_offset()?, out);
    out.extend_from_slice(b"\",\"level\":\"");
    let level = log.level()?;
    match level.name() {
        Some(name) => out.extend_from_slice(name.as_bytes()),
        None => write_string_content(&level.to_string(), out),
    }
    out.extend_from_slice(b"\",\"msg\":\"");
    write_string_content(log.message()?, out);
    log.visit_differing(|value| {
        out.extend_from_slice(pieces.next()?);
        match value {
            LogValue::Text(text) if is_plain => out.extend_from_slice(text.as_bytes()),
            LogValue::Text(text) => write_string_content(text, out),
            LogValue::Int(value) => write_i64(value, out),
            LogValue::UInt(value) => write_u64(value, out),
            LogValue::Float(value) => write_float(value, out),
            LogValue::Bool(value) => {
                out.extend_from_slice(if value { b"true" } else { b"false" });
            }
        }
        Some(())
    })?;
    out.extend_from_slice(pieces.next()?);
    Some(())
}

/// What the lines of a shape have before each value that differs between them, and after the last one, from the quote
/// that ends the message. `None` if their payloads have to be read.
fn pieces_of_shape<'a>(
    entries: &mut dyn Iterator<Item = (&'a str, Common<'a>)>,
) -> Option<Vec<Piece>> {
    let (mut pieces, mut piece) = (Vec::new(), b"\"".to_vec());
    for (key, common) in entries {
        // It may tell how the level is written, which comes first.
        (key != FOREIGN).then_some(())?;
        piece.push(b',');
        write_string(key, &mut piece);
        piece.push(b':');
        match common {
            Common::Constant(text) => write_string(text, &mut piece),
            Common::Text => {
                piece.push(b'"');
                pieces.push(std::mem::take(&mut piece).into());
                piece.push(b'"');
            }
            Common::Other => pieces.push(std::mem::take(&mut piece).into()),
        }
    }
    piece.extend_from_slice(b"}\n");
    pieces.push(piece.into());
    Some(pieces)
}

/// Writes the line from the record instead of what was written from `start`.
#[cold]
fn write_decoded(
    timestamp: Timestamp,
    payload: &[u8],
    start: usize,
    out: &mut Vec<u8>,
) -> Result<(), PayloadError> {
    out.truncate(start);
    LogRecord::decode_payload(timestamp, payload)?.write_line(out);
    Ok(())
}

fn transcode_entry(
    reader: &mut PayloadReader<'_>,
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), PayloadError> {
    write_raw_string(reader.raw_str()?, out);
    out.push(b':');
    transcode_value(reader, depth, out)
}

fn transcode_value(
    reader: &mut PayloadReader<'_>,
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), PayloadError> {
    match reader.raw_token()? {
        RawToken::Nil => out.extend_from_slice(b"null"),
        RawToken::Bool(true) => out.extend_from_slice(b"true"),
        RawToken::Bool(false) => out.extend_from_slice(b"false"),
        RawToken::Int(value) => write_i64(value, out),
        RawToken::UInt(value) => write_u64(value, out),
        RawToken::Float(value) => write_float(value, out),
        // One that is not UTF-8 is found at the end of the line.
        RawToken::Number(text) => match std::str::from_utf8(text) {
            Ok(text) => write_number(text, out),
            Err(_) => write_raw_string(text, out),
        },
        RawToken::Str(text) => write_raw_string(text, out),
        RawToken::Array(items) => {
            let depth = reader.deeper(depth)?;
            out.push(b'[');
            for index in 0..items {
                if index > 0 {
                    out.push(b',');
                }
                transcode_value(reader, depth, out)?;
            }
            out.push(b']');
        }
        RawToken::Map(entries) => {
            let depth = reader.deeper(depth)?;
            out.push(b'{');
            for index in 0..entries {
                if index > 0 {
                    out.push(b',');
                }
                transcode_entry(reader, depth, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

/// The log that `line` is, if the line is as [`LogRecord::write_line`] makes one of
/// a record without nested values: what most lines of an import are. `None` leaves it open what the line is.
///
/// The log is the record that [`RecordReader`](crate::lines::RecordReader) finds in the line.
/// Building that takes three times as long.
pub(crate) fn encode_line(line: &str) -> Option<EncodedLog> {
    let mut reader = Reader::tolerant(line, NESTING_MAX);
    reader.allow(VALUES_MAX, TEXT_BYTES_MAX);
    let (mut time, mut level, mut message) = (None, None, Cow::Borrowed(""));
    let mut attributes = Vec::with_capacity(line.len());
    let mut entries = 0usize;
    let read = reader.read_object(|reader, key| {
        let scalar = read_scalar(reader)?;
        match (entries, &*key, scalar) {
            (0, "ts", Some(Scalar::Text(text))) => time = Timestamp::parse_rfc3339(&text).ok(),
            (1, "level", Some(Scalar::Text(text))) => level = Level::named(&text),
            (2, "msg", Some(Scalar::Text(text))) => message = text,
            (3.., key, Some(scalar)) if signal_of_key(key).is_none() => {
                write_str(key, &mut attributes);
                match scalar {
                    Scalar::Text(text) => write_str(&text, &mut attributes),
                    Scalar::Other(value) => write_value(&value, &mut attributes),
                }
            }
            _ => return Err(reader.wrong_kind("a simple log")),
        }
        entries += 1;
        if entries == 2 && (time.is_none() || level.is_none()) {
            return Err(reader.wrong_kind("a simple log"));
        }
        Ok(())
    });
    let is_whole = read.is_ok() && reader.is_at_end() && reader.repairs() == 0;
    let attribute_count = entries.checked_sub(3).filter(|_| is_whole)?;
    let (timestamp, utc_offset) = time?;
    let mut payload = Vec::with_capacity(attributes.len() + message.len() + 16);
    write_log_start(utc_offset, level?, &mut payload);
    write_str(&message, &mut payload);
    write_map_head(attribute_count, &mut payload);
    payload.extend_from_slice(&attributes);
    Some(EncodedLog::new(timestamp, payload))
}

/// Reads a line that holds one log record with a time.
#[cfg(test)]
pub(crate) fn read_log_line(line: &[u8]) -> Result<LogRecord, crate::lines::LineError> {
    match crate::lines::parse_line(crate::Signal::Logs, line)? {
        crate::lines::ParsedLine::Logs(mut records) => Ok(records.remove(0).1),
        other => panic!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{
        Level, Value,
        arbitrary::{any_entries, any_utc_offset, json_entries},
    };
    use proptest::prelude::*;

    const LINE: &str = concat!(
        r#"{"ts":"2026-05-08T23:39:03.123456789-04:00","level":"INFO","msg":"tool call completed","#,
        r#""tool":"search","duration_ms":12,"component":"github","#,
        r#""trace_id":"4bf92f3577b34da6a3ce929d0e0e4736"}"#,
        "\n"
    );

    fn written(record: &LogRecord) -> String {
        let mut out = b"before".to_vec();
        record.write_line(&mut out);
        String::from_utf8(out.split_off(6)).unwrap()
    }

    fn transcoded(record: &LogRecord) -> String {
        let mut payload = Vec::new();
        record.encode_payload(&mut payload).unwrap();
        let mut out = b"before".to_vec();
        transcode_log_payload(record.timestamp, &payload, &mut out).unwrap();
        String::from_utf8(out.split_off(6)).unwrap()
    }

    #[test]
    fn a_slog_line_reads_and_writes() {
        let record = read_log_line(LINE.trim_end().as_bytes()).unwrap();
        assert_eq!(record.timestamp.unix_nanos(), 1_778_297_943_123_456_789);
        assert_eq!(record.level, Level::INFO);
        assert_eq!(record.message, "tool call completed");
        assert_eq!(record.component(), Some("github"));
        assert_eq!(record.trace_id(), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
        assert_eq!(record.attribute("duration_ms"), Some(&Value::Int(12)));
        assert_eq!(written(&record), LINE);
        assert_eq!(transcoded(&record), LINE);
    }

    /// What a reader finds in a line: times and payloads, and other findings as text. Says how many logs came
    /// encoded.
    fn found(line: &str, encodes: bool) -> (Vec<String>, usize) {
        use crate::{
            Record, Signal,
            lines::{Found, RecordReader},
        };
        let mut reader = RecordReader::new(Signal::Logs);
        if encodes {
            reader = reader.encode_logs();
        }
        let (mut all, mut count) = (Vec::new(), 0);
        reader.read_line(line.as_bytes(), &mut |found| {
            let text = |time: Timestamp, payload: &[u8]| format!("{time} {payload:?}");
            all.push(match found {
                Found::Encoded(found) => {
                    count += 1;
                    text(found.log.timestamp(), found.log.payload())
                }
                Found::Record(found) => match found.record {
                    Record::Log(log) => {
                        let mut payload = Vec::new();
                        log.encode_payload(&mut payload).unwrap();
                        text(log.timestamp, &payload)
                    }
                    other => format!("{other:?}"),
                },
                other => format!("{other:?}"),
            });
        });
        all.push(format!("{:?}", reader.last_time()));
        (all, count)
    }

    #[test]
    fn simple_lines_are_found_encoded_and_others_as_records() {
        let begin = r#"{"ts":"2026-05-08T00:00:00.5+02:00","level":"WARN","msg":"a \"b\"""#;
        for rest in [
            "}",
            r#","a":1,"b":-1.5,"c":null,"d":true,"e":"\u00e9\n","f":18446744073709551615}"#,
            r#", "ts":"again" , "a":1,"a":2, "n":1e400 } "#,
            r#","x":"\u004eaN"}"#,
        ] {
            let line = format!("{begin}{rest}");
            let ((with, encoded), (without, _)) = (found(&line, true), found(&line, false));
            assert_eq!((with, encoded), (without, 1), "{line}");
        }
        for line in [
            format!(r#"{begin},"nested":{{}}}}"#),
            format!(r#"{begin},"nested":[1]}}"#),
            format!(r#"{begin},"resourceLogs":"no envelope"}}"#),
            format!(r#"{begin},"control":"{}"}}"#, '\u{1}'),
            format!(r#"{begin},"bare":NaN}}"#),
            format!("{begin}}} {begin}}}"),
            format!(r#"{begin},"cut off":"#),
            r#"{"level":"INFO","ts":"2026-05-08T00:00:00Z","msg":"m"}"#.to_owned(),
            r#"{"ts":"2026-05-08T00:00:00Z","level":"info","msg":"m"}"#.to_owned(),
            r#"{"ts":"2026-05-08T00:00:00Z","level":"INFO","msg":5}"#.to_owned(),
            r#"{"ts":"2026-05-08T00:00:00Z","level":"INFO","msg":"\u004eaN"}"#.to_owned(),
            r#"{"ts":1778283543,"level":"INFO","msg":"m"}"#.to_owned(),
            r#"{"ts":"2026-05-08T00:00:00Z","level":"INFO"}"#.to_owned(),
            r#"{"ts":"2026-05-08 00:00:00","level":"INFO","msg":"m"}"#.to_owned(),
            "{}".to_owned(),
        ] {
            let ((with, encoded), (without, _)) = (found(&line, true), found(&line, false));
            assert_eq!((with, encoded), (without, 0), "{line}");
        }
    }

    proptest! {
        #[test]
        fn an_encoded_log_is_the_record_of_its_line(
            nanos: i64,
            utc_offset in any_utc_offset(),
            level in prop_oneof![Just(0), Just(8), any::<i32>()],
            message: String,
            attributes in prop_oneof![
                any_entries(),
                json_entries(&["a", "ts", "level", "msg", "resourceSpans", "otlp"]),
            ],
            cut: prop::sample::Index,
            change in prop::option::of("[ \"{}:,a0\\\\.]"),
        ) {
            let mut record = LogRecord::new(Timestamp::from_unix_nanos(nanos), Level(level), message);
            record.utc_offset = utc_offset;
            record.attributes = attributes;
            let mut line = written(&record).trim_end().to_owned();
            if let Some(change) = change {
                let mut at = cut.index(line.len());
                while !line.is_char_boundary(at) {
                    at -= 1;
                }
                line.insert_str(at, &change);
            }
            prop_assert_eq!(found(&line, true).0, found(&line, false).0);
        }
    }

    #[test]
    fn order_types_nesting_and_repeated_keys_are_kept() {
        for line in [
            concat!(
                r#"{"ts":"2026-05-08T00:00:00Z","level":"DEBUG-4","msg":"","component":"a","#,
                r#""g":{"h":{"i":[1,1.0,"x",null,true,{}],"i":[]}},"component":"b"}"#,
            ),
            concat!(
                r#"{"ts":"2026-05-08T00:00:00Z","level":"ERROR+4","msg":"a\nb\"","ts":5,"#,
                r#""level":null,"msg":{},"n":18446744073709551616,"u":18446744073709551615}"#,
            ),
        ] {
            let record = read_log_line(line.as_bytes()).unwrap();
            assert_eq!(written(&record).trim_end(), line);
            assert_eq!(transcoded(&record).trim_end(), line);
        }
    }

    #[test]
    fn built_in_keys_may_stand_anywhere_and_all_but_ts_may_be_missing() {
        let record =
            read_log_line(br#" {"a":1,"msg":"m","ts":"2026-05-08T00:00:00.5Z"} "#).unwrap();
        let expected = LogRecord::new(
            Timestamp::parse_rfc3339("2026-05-08T00:00:00.5Z")
                .unwrap()
                .0,
            Level::INFO,
            "m",
        )
        .with("a", 1_i64);
        assert_eq!(record, expected);
    }

    #[test]
    fn a_line_that_is_no_record_says_where_and_why() {
        for (line, message) in [
            ("", "the line holds no record at byte 0"),
            ("{}", "the line holds no record at byte 0"),
            ("5", "expected an object, found a number at byte 0"),
            (
                r#"{"ts":"yesterday"}"#,
                "invalid time \"yesterday\" under \"ts\": expected RFC 3339 or a number since \
                 1970, between the years 1678 and 2261 at byte 0",
            ),
            (
                r#"{"ts":true}"#,
                "invalid time \"true\" under \"ts\": expected RFC 3339 or a number since 1970, \
                 between the years 1678 and 2261 at byte 0",
            ),
            (
                r#"{"level":3}"#,
                "the line has no time, and no record is before it at byte 0",
            ),
            (r#"{"foo":1}"#, "the line holds no record at byte 0"),
            (
                r#"{"ts":"2026-05-08T00:00:00Z"} x"#,
                "expected a value, found 'x' at byte 30",
            ),
        ] {
            let error = read_log_line(line.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), message, "{line}");
        }
    }

    #[test]
    fn a_damaged_payload_leaves_no_half_line() {
        let mut payload = Vec::new();
        LogRecord::new(Timestamp::default(), Level::INFO, "m")
            .with("a", 1_i64)
            .encode_payload(&mut payload)
            .unwrap();
        for end in 0..payload.len() {
            let mut out = b"before".to_vec();
            transcode_log_payload(Timestamp::default(), &payload[..end], &mut out).unwrap_err();
            assert_eq!(out, b"before");
        }
    }

    proptest! {
        #[test]
        fn a_payload_becomes_the_line_that_its_record_becomes(
            nanos in any::<i64>(),
            utc_offset in any_utc_offset(),
            level in any::<i32>(),
            message in any::<String>(),
            attributes in any_entries(),
        ) {
            let timestamp = Timestamp::from_unix_nanos(nanos);
            let record = LogRecord { timestamp, utc_offset, level: Level(level), message, attributes };
            prop_assert_eq!(written(&record), transcoded(&record));
        }

        #[test]
        fn a_written_line_reads_as_the_same_record(
            nanos in any::<i64>(),
            minutes in -1439_i32..=1439,
            level in any::<i32>(),
            message in any::<String>(),
            attributes in json_entries(&["ts", "level", "msg", "component", "x"]),
        ) {
            let record = LogRecord {
                timestamp: Timestamp::from_unix_nanos(nanos),
                utc_offset: UtcOffset::from_whole_seconds(minutes * 60).unwrap(),
                level: Level(level),
                message,
                attributes,
            };
            let line = written(&record);
            prop_assert_eq!(read_log_line(line.trim_end().as_bytes()).unwrap(), record, "{}", line);
        }

        #[test]
        fn no_payload_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = transcode_log_payload(Timestamp::default(), &bytes, &mut Vec::new());
        }
    }
}
