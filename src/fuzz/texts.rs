//! What users and other programs write: lines, messages of OTLP, times, filters, configurations and names.

use super::{
    FuzzTarget,
    records::{SERVER, SIGNALS, records},
};
use crate::{
    config::TelemetryConfig,
    filter::{Filter, TextPattern, plain_text},
    lines::{Dialect, Found, LineFormat, LineWriter, RecordReader, parse_line},
    otlp::{base64::decode_base64, id::decode_id},
    produce::OtlpMessage,
    query::{Cursor, RawRecord},
    record::{Level, Record, ServerName},
    signal::Signal,
    time::Timestamp,
};
use ::time::{UtcOffset, macros::datetime};
use prost::Message;
use std::{str::FromStr, sync::LazyLock};

pub(super) fn targets() -> Vec<FuzzTarget> {
    let bytes = |texts: &[&str]| texts.iter().map(|it| it.as_bytes().to_vec()).collect();
    vec![
        FuzzTarget::new("lines", lines, line_seeds(), LINE_WORDS),
        FuzzTarget::new("messages", messages, message_seeds(), LINE_WORDS),
        FuzzTarget::new("times", times, bytes(TIMES), TIMES),
        FuzzTarget::new("filters", filters, bytes(EXPRESSIONS), EXPRESSIONS),
        FuzzTarget::new(
            "configurations",
            configurations,
            bytes(CONFIGS),
            CONFIG_WORDS,
        ),
        FuzzTarget::new("names", names, bytes(NAMES), NAMES),
    ]
}

const LINE_WORDS: &[&str] = &[
    "null",
    "true",
    "1e999",
    "-0",
    "\\u0000",
    "\\ud800",
    "\"time\":",
    "\"level\":",
    "\"msg\":",
    "\"resourceSpans\":[",
    "\"resourceLogs\":[",
    "\"attributes\":[{\"key\":\"a\",\"value\":",
    "}",
    "]",
    "{\"stringValue\":\"a\"}",
    "{\"kvlistValue\":{\"values\":[",
    "{\"arrayValue\":{\"values\":[",
    "\n",
    "\u{feff}",
    "2026-05-08T14:03:20.123456789+02:00",
    "9223372036854775808",
    "__REALTIME_TIMESTAMP",
];

/// Lines of every kind that we write, and of other programs.
fn line_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (place, signal) in SIGNALS.into_iter().enumerate() {
        for format in [LineFormat::Ndjson, LineFormat::Otlp] {
            let place = u8::try_from(place).unwrap() * 16;
            seeds.push([&[place], &*lines_of(signal, format)].concat());
        }
    }
    for (dialect, line) in [
        (
            2,
            r#"{"level":"warn","ts":1778248980.5,"logger":"a","caller":"b.go:1","msg":"m","stacktrace":"s"}"#,
        ),
        (
            3,
            r#"{"level":50,"time":1778248980500,"pid":1,"hostname":"h","msg":"m","err":{"stack":"s"}}"#,
        ),
        (
            4,
            r#"{"v":0,"name":"n","level":30,"time":"2026-05-08T14:03:20.5Z","msg":"m"}"#,
        ),
        (
            5,
            r#"{"level":"error","time":"2026-05-08T14:03:20+02:00","msg":"m","error":"e"}"#,
        ),
        (
            6,
            r#"{"@timestamp":"2026-05-08T14:03:20.5Z","log.level":"warn","message":"m","ecs.version":"1.6.0"}"#,
        ),
        (
            7,
            r#"{"timestamp":"2026-05-08T14:03:20.5Z","level":"WARN","fields":{"message":"m"},"target":"t","span":{"name":"s"},"spans":[{"name":"s"}]}"#,
        ),
        (
            8,
            r#"{"__REALTIME_TIMESTAMP":"1778248980500000","PRIORITY":"3","MESSAGE":[109,255],"_PID":"1","A":null}"#,
        ),
        (
            0,
            "{\"time\":\"2026-05-08T14:03:20Z\",\"level\":\"INFO\",\n\"msg\":\"two lines\"} {\"msg\":\"and more\"}",
        ),
    ] {
        seeds.push([&[dialect], line.as_bytes()].concat());
    }
    seeds
}

/// A few records of `signal` as lines.
fn lines_of(signal: Signal, format: LineFormat) -> Vec<u8> {
    let mut lines = LineWriter::new(format);
    let mut out = Vec::new();
    for record in records(signal).iter().take(4) {
        let mut payload = Vec::new();
        record.encode_payload(&mut payload).unwrap();
        let raw = RawRecord {
            server: &SERVER,
            signal,
            timestamp: record.timestamp(),
            sequence: 1,
            content: crate::store::ReadRecord::Payload(&payload),
        };
        lines.write(&raw, &mut out).unwrap();
    }
    lines.finish(&mut out);
    out
}

/// The bodies that a receiver gets: the place of the signal, then protobuf or JSON.
fn message_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (place, signal) in (0..).zip(SIGNALS) {
        let json = lines_of(signal, LineFormat::Otlp);
        let line = json.split(|byte| *byte == b'\n').next().unwrap();
        let protobuf = match OtlpMessage::from_json(signal, line).unwrap() {
            OtlpMessage::Logs(data) => data.encode_to_vec(),
            OtlpMessage::Metrics(data) => data.encode_to_vec(),
            OtlpMessage::Traces(data) => data.encode_to_vec(),
        };
        for body in [line, &protobuf] {
            seeds.push([&[place], body].concat());
        }
    }
    seeds
}

/// Decodes a body as protobuf and as JSON, and splits the message.
fn messages(input: &[u8]) {
    let Some((first, body)) = input.split_first() else {
        return;
    };
    let signal = SIGNALS[usize::from(*first) % SIGNALS.len()];
    let read = [
        OtlpMessage::from_protobuf(signal, body),
        OtlpMessage::from_json(signal, body),
    ];
    for message in read.into_iter().flatten() {
        assert_eq!(message.signal(), signal);
        for part in message.split(2) {
            assert_eq!(part.signal(), signal);
        }
    }
}

/// Reads lines, stores what was found, and writes it as lines, which are read again.
fn lines(input: &[u8]) {
    let Some((first, text)) = input.split_first() else {
        return;
    };
    let signal = SIGNALS[usize::from(first >> 4) % SIGNALS.len()];
    let dialect = Dialect::ALL[usize::from(first & 15) % Dialect::ALL.len()];
    let mut reader = RecordReader::new(signal)
        .dialect(dialect)
        .server(SERVER.clone());
    let mut found = Vec::new();
    let mut keep = |it: Found| {
        if let Found::Record(it) = it {
            found.push(it.record);
        }
    };
    for line in text.split(|byte| *byte == b'\n') {
        reader.read_line(line, &mut keep);
    }
    reader.finish(&mut keep);
    let _ = parse_line(signal, text);
    for record in found {
        let mut payload = Vec::new();
        if record.encode_payload(&mut payload).is_err() {
            continue;
        }
        let (signal, timestamp) = (record.signal(), record.timestamp());
        Record::decode_payload(signal, timestamp, &payload).unwrap();
        for format in [LineFormat::Ndjson, LineFormat::Otlp] {
            let raw = RawRecord {
                server: &SERVER,
                signal,
                timestamp,
                sequence: 1,
                content: crate::store::ReadRecord::Payload(&payload),
            };
            let (mut lines, mut out) = (LineWriter::new(format), Vec::new());
            if lines.write(&raw, &mut out).is_ok() {
                lines.finish(&mut out);
                for line in out.split(|byte| *byte == b'\n').filter(|it| !it.is_empty()) {
                    parse_line(signal, line).unwrap();
                }
            }
        }
    }
}

const TIMES: &[&str] = &[
    "2h",
    "1day 6h ago",
    "-90s",
    "now",
    "today",
    "yesterday 14:03",
    "2026-05-08",
    "14:03:20.5",
    "2026-05-08T14:03:20Z",
    "2026-05-08 14:03 +02:00",
    "@1778248980.5",
    "99999999999y",
    "9999-12-31T23:59:59.999999999-23:59",
    "@-9223372036.9",
];

fn times(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let now = datetime!(2026-05-08 14:03 +2);
    let _ = Timestamp::parse_written(&text, now, |_| UtcOffset::UTC);
    if let Ok((time, offset)) = Timestamp::parse_rfc3339(&text) {
        let written = time.to_rfc3339_in(offset);
        let (back, same) = Timestamp::parse_rfc3339(&written).unwrap();
        assert!(back == time && same == offset, "{written}");
    }
    let _ = Timestamp::from_str(&text);
}

const EXPRESSIONS: &[&str] = &[
    "number>=10",
    "tool=search",
    "tool!=\"search\"",
    "a.b.0~^x(y|z)*$",
    "!a.b",
    "a",
    "big<1e999",
    "call 1",
    "\"two words\" -not",
    "(a+)+b",
    "[a-z&&[^b]]{1,9}",
    "\\p{Greek}",
    "(?i)ERROR",
    "x{1000}",
    "07070707",
    "((((a{9}){9}){9}){9})",
];

/// Payloads to search.
static PAYLOADS: LazyLock<Vec<(Signal, Vec<u8>)>> = LazyLock::new(|| {
    let mut payloads = Vec::new();
    for signal in SIGNALS {
        for record in records(signal).iter().take(4) {
            let mut payload = Vec::new();
            record.encode_payload(&mut payload).unwrap();
            payloads.push((signal, payload));
        }
    }
    payloads
});

fn filters(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let patterns = [
        TextPattern::substring(&text),
        TextPattern::words(&text),
        TextPattern::regex(&text),
    ];
    let mut filters: Vec<Filter> = Vec::new();
    for pattern in patterns.into_iter().flatten() {
        let _ = pattern.find_all("INFO calling the tool, call 1 of \u{130}\u{df}\u{3c3}");
        filters.extend(pattern.clone().case_sensitive().map(Filter::text));
        filters.push(Filter::name(pattern));
    }
    filters.extend(Filter::field(&text));
    filters.extend(Filter::trace_id(&text));
    filters.extend(Filter::span_id(&text));
    let _ = plain_text(&text);
    for filter in &filters {
        for (signal, payload) in PAYLOADS.iter() {
            let _ = filter.matches(*signal, payload);
        }
    }
}

const CONFIGS: &[&str] = &[
    r#"{"persist":{"logs":true,"metrics":true,"traces":true},"max_total_mb":2048,"retention":{"max_age_days":7},"servers":{"github":{}}}"#,
    r#"{"retention":{"max_size_mb":10,"max_backups":5,"max_age_days":"12h"},"log_level":"debug","servers":{"a":{"persist":{"logs":false},"retention":{"max_age_days":0},"log_level":"off"}}}"#,
    r#"{"servers":{"a":null},"max_total_mb":18446744073709551615}"#,
];

const CONFIG_WORDS: &[&str] = &[
    "\"retention\":",
    "\"max_size_mb\":",
    "\"max_age_days\":",
    "\"servers\":",
    "\"persist\":",
    "null",
    "-1",
    "1e400",
    "18446744073709551615",
    "\"1000000y\"",
    "{}",
    "[]",
];

fn configurations(input: &[u8]) {
    let Ok(config) = serde_json::from_slice::<TelemetryConfig>(input) else {
        return;
    };
    let is_valid = config.validate().is_ok();
    if let Ok(policy) = config.retention_policy() {
        let _ = policy.total_bytes_max();
        let retention = policy.of("a");
        let _ = (retention.bytes_max(), retention.age_max());
    }
    for signal in SIGNALS {
        let _ = config.persists("github", signal);
    }
    let written = serde_json::to_vec(&config).unwrap();
    let back = serde_json::from_slice::<TelemetryConfig>(&written);
    assert!(
        !is_valid || back.is_ok(),
        "a valid configuration is written as another one"
    );
}

const NAMES: &[&str] = &[
    "github",
    "a/b",
    "..",
    "server\u{202e}",
    "0123456789abcdef0123456789abcdef",
    "WARN+2",
    "traces",
    "DEBUG-4",
    "-9223372036854775808",
    "aGVsbG8=",
    "2147483648",
];

fn names(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let _ = ServerName::new(&*text);
    let _ = crate::home::StackPath::new(std::path::Path::new("/home"), &text);
    if let Ok(cursor) = Cursor::from_str(&text) {
        assert!(Cursor::from_str(&cursor.to_string()).unwrap() == cursor);
    }
    if let Ok(level) = Level::from_str(&text) {
        assert!(
            Level::from_str(&level.to_string()).unwrap() == level,
            "{level}"
        );
    }
    let _ = Signal::from_str(&text);
    let _ = (decode_id(&text, 16), decode_base64(&text));
}
