//! Records that serialize as JSON.

use crate::{
    lines::{LineFormat, LineWriter},
    otlp::arbitrary::span,
    read::{RawRecord, StoredRecord},
    record::{
        Level, LogRecord, MetricsSnapshot, Record, ServerName, SpanRecord, TokenCounts, Value,
        arbitrary::{any_entries, any_utc_offset},
    },
    time::Timestamp,
};
use proptest::prelude::*;

fn stored(record: Record) -> StoredRecord {
    StoredRecord {
        server: ServerName::new("github").unwrap(),
        timestamp: record.timestamp(),
        sequence: 7,
        record,
    }
}

/// What serde makes of a record's views, each the same as the last line that a writer writes.
fn json(stored: &StoredRecord, format: LineFormat) -> String {
    let mut payload = Vec::new();
    stored.record.encode_payload(&mut payload).unwrap();
    let raw = RawRecord {
        server: &stored.server,
        signal: stored.record.signal(),
        timestamp: stored.timestamp,
        sequence: stored.sequence,
        content: crate::store::ReadRecord::Payload(&payload),
    };
    let mut lines = Vec::new();
    let mut writer = LineWriter::new(format);
    writer.write(&raw, &mut lines).unwrap();
    writer.finish(&mut lines);
    let lines = String::from_utf8(lines).unwrap();
    let line = lines.lines().last().unwrap();
    // Within a list, as the answer of a handler.
    let text = serde_json::to_string(&[raw.json(format), stored.json(format)]).unwrap();
    assert_eq!(text, format!("[{line},{line}]"));
    line.to_owned()
}

#[test]
fn a_view_is_the_line_with_its_own_digits() {
    let record = LogRecord::new(Timestamp::default(), Level::WARN, "low \u{1b}[1mdisk")
        .with("big", Value::Number("18446744073709551616".into()))
        .with("a", f64::NAN)
        .with("a", 1.0);
    let record = stored(Record::Log(record));
    assert_eq!(
        json(&record, LineFormat::Ndjson),
        r#"{"ts":"1970-01-01T00:00:00Z","level":"WARN","msg":"low \u001b[1mdisk","big":18446744073709551616,"a":"\u004eaN","a":1.0}"#
    );
    assert!(json(&record, LineFormat::Otlp).starts_with(r#"{"resourceLogs":[{"#));
}

#[test]
fn a_reset_is_one_value() {
    let mut snapshot = MetricsSnapshot::new(Timestamp::default());
    snapshot.reset = true;
    snapshot.diff = TokenCounts::from_array([1, 2, 3]);
    snapshot.total = snapshot.diff;
    let record = stored(Record::Metrics(snapshot));
    let line = json(&record, LineFormat::Ndjson);
    assert!(line.contains(r#""reset":true,"diff""#), "{line}");
    let parsed = serde_json::to_value(record.json(LineFormat::Ndjson)).unwrap();
    assert_eq!(parsed["total"]["total_tokens"], 3);
    json(&record, LineFormat::Otlp);
}

#[test]
fn a_damaged_record_fails_and_leaves_nothing() {
    let record = RawRecord {
        server: &ServerName::new("github").unwrap(),
        signal: crate::Signal::Logs,
        timestamp: Timestamp::default(),
        sequence: 0,
        content: crate::store::ReadRecord::Payload(b"\x94"),
    };
    for format in [LineFormat::Ndjson, LineFormat::Otlp] {
        let mut out = b"before".to_vec();
        assert!(record.json(format).write(&mut out).is_err());
        assert_eq!(out, b"before");
        assert!(serde_json::to_string(&record.json(format)).is_err());
    }
}

proptest! {
    #[test]
    fn every_record_is_its_line(
        nanos: i64,
        utc_offset in any_utc_offset(),
        level: i32,
        message: String,
        entries in any_entries(),
        reset: bool,
        span in span(),
    ) {
        let timestamp = Timestamp::from_unix_nanos(nanos);
        let log = LogRecord {
            utc_offset,
            attributes: entries.clone(),
            ..LogRecord::new(timestamp, Level(level), message)
        };
        let metrics = MetricsSnapshot {
            utc_offset,
            reset,
            extra: entries,
            ..MetricsSnapshot::new(timestamp)
        };
        let span = SpanRecord::new(span);
        for record in [Record::Log(log), Record::Metrics(metrics), Record::Span(Box::new(span))] {
            let record = stored(record);
            json(&record, LineFormat::Ndjson);
            json(&record, LineFormat::Otlp);
        }
    }
}
