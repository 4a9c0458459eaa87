//! What is promised of both directions together.

use super::{
    error::OtlpReason,
    message::{Message, read_message, write_message},
};
use crate::{
    lines::json::{JsonError, JsonReason, Reader, read_value, write_value},
    otlp::arbitrary::{logs_data, metrics_data, traces_data},
    record::Value,
};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList, any_value},
    logs::v1::{LogRecord, LogsData, SeverityNumber},
    metrics::v1::{
        AggregationTemporality, Exemplar, Gauge, HistogramDataPoint, Metric, MetricsData,
        NumberDataPoint, SummaryDataPoint, exemplar, metric, number_data_point,
    },
    resource::v1::Resource,
    trace::v1::{
        ResourceSpans, ScopeSpans, Span, Status, TracesData,
        span::{Event, Link, SpanKind},
        status::StatusCode,
    },
};
use proptest::{prelude::*, strategy::ValueTree as _};

/// Asserts that two messages are the same, bit for bit. Neither check is enough by itself: NaN is
/// not equal to itself but has its bytes, and the bytes leave out a `-0.0`.
pub(super) fn assert_same<M: prost::Message + std::fmt::Debug>(left: &M, right: &M) {
    assert_eq!(format!("{left:?}"), format!("{right:?}"));
    assert!(left.encode_to_vec() == right.encode_to_vec(), "{left:?}");
}

/// Asserts that `message` is one line, and the same message when it is read again.
pub(super) fn assert_reads_back<M: Message + prost::Message + std::fmt::Debug>(message: &M) {
    let line = written(message);
    assert!(!line.contains('\n'));
    match read_message::<M>(line.as_bytes()) {
        Ok(back) => assert_same(&back, message),
        Err(error) => panic!("{error} in {line}"),
    }
}

fn written(message: &impl Message) -> String {
    let mut line = Vec::new();
    write_message(message, &mut line);
    String::from_utf8(line).expect("UTF-8")
}

fn read<M: Message>(text: &str) -> M {
    read_message(text.as_bytes()).unwrap_or_else(|error| panic!("{error} in {text}"))
}

fn refusal<M: Message + std::fmt::Debug>(text: &str) -> JsonError {
    read_message::<M>(text.as_bytes()).expect_err(text)
}

/// The reason of OTLP's own for which `text` is refused.
fn otlp_refusal<M: Message + std::fmt::Debug>(text: &str) -> OtlpReason {
    let error = refusal::<M>(text);
    match error.reason() {
        JsonReason::Refused(reason) => match reason.downcast_ref() {
            Some(reason) => OtlpReason::clone(reason),
            None => panic!("{error} in {text}"),
        },
        _ => panic!("{error} in {text}"),
    }
}

fn value(value: any_value::Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

proptest! {
    #[test]
    fn every_traces_data_reads_back(data in traces_data()) {
        assert_reads_back(&data);
    }

    #[test]
    fn every_logs_data_reads_back(data in logs_data()) {
        assert_reads_back(&data);
    }

    #[test]
    fn every_metrics_data_reads_back(data in metrics_data()) {
        assert_reads_back(&data);
    }

    #[test]
    fn other_spellings_of_traces_read_the_same(data in traces_data(), choices in any::<[u8; 64]>()) {
        assert_same(&read::<TracesData>(&respelled(&data, &choices)), &data);
    }

    #[test]
    fn other_spellings_of_logs_read_the_same(data in logs_data(), choices in any::<[u8; 64]>()) {
        assert_same(&read::<LogsData>(&respelled(&data, &choices)), &data);
    }

    #[test]
    fn other_spellings_of_metrics_read_the_same(
        data in metrics_data(),
        choices in any::<[u8; 64]>(),
    ) {
        assert_same(&read::<MetricsData>(&respelled(&data, &choices)), &data);
    }

    #[test]
    fn a_damaged_line_is_refused_or_reads_as_some_message(
        data in metrics_data(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut line = written(&data).into_bytes();
        for (index, byte) in damage {
            let index = index.index(line.len());
            line[index] = byte;
        }
        if let Ok(message) = read_message::<MetricsData>(&line) {
            assert_reads_back(&message);
        }
    }
}

/// The JSON of `message` in another legal spelling, as `choices` say: names of the proto file,
/// ids in base64 or upper case, names for enums, integers as numbers and as strings, doubles as
/// strings, URL-safe base64, white space, fields that are null, keys that are unknown.
fn respelled(message: &impl Message, choices: &[u8]) -> String {
    let line = written(message);
    let value = read_value(&mut Reader::with_nesting_max(line.as_bytes(), 1000).expect("UTF-8"));
    let mut choices = choices.iter().copied().cycle();
    let mut out = Vec::new();
    respell("", &value.expect("JSON"), &mut choices, &mut out);
    String::from_utf8(out).expect("UTF-8")
}

fn respell(key: &str, value: &Value, choices: &mut dyn Iterator<Item = u8>, out: &mut Vec<u8>) {
    let mut choose = || choices.next().unwrap_or_default();
    let choice = choose();
    match value {
        Value::Object(entries) => {
            let mut entries: Vec<(String, Option<&Value>)> = entries
                .iter()
                .map(|(key, value)| (key.clone(), Some(value)))
                .collect();
            if choice & 1 == 1 {
                entries.reverse();
            }
            if choice & 2 == 2 {
                entries.insert(0, ("unknownKey".to_owned(), None));
                entries.push(("unknownKey".to_owned(), None));
            }
            out.extend_from_slice(if choice & 4 == 4 { b" {\r" } else { b"{" });
            for (index, (key, value)) in entries.iter().enumerate() {
                out.extend_from_slice(if index > 0 { b"," } else { b"" });
                let choice = choices.next().unwrap_or_default();
                let name = if choice & 1 == 1 {
                    snake_case(key)
                } else {
                    key.clone()
                };
                write_value(&name.into(), out);
                out.extend_from_slice(if choice & 2 == 2 { b"\t:\n" } else { b":" });
                match value {
                    Some(value) => respell(key, value, choices, out),
                    None => out.extend_from_slice(br#"[{"key":{"a":"\u0001"}},1e999,null]"#),
                }
            }
            out.push(b'}');
        }
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                out.extend_from_slice(if index > 0 { b" , " } else { b"" });
                respell(key, item, choices, out);
            }
            out.push(b']');
        }
        Value::String(text) if choice & 1 == 1 => {
            let id = matches!(key, "traceId" | "spanId" | "parentSpanId");
            let respelled = match key {
                _ if id && choice & 2 == 2 => Value::from(text.to_uppercase()),
                _ if id => {
                    let length = if key == "traceId" { 16 } else { 8 };
                    let id = crate::otlp::id::decode_id(text, length).expect("an id");
                    let mut base64 = Vec::new();
                    crate::otlp::base64::encode_base64(&id, &mut base64);
                    Value::from(String::from_utf8(base64).expect("ASCII"))
                }
                "bytesValue" => {
                    let text = text.replace('+', "-").replace('/', "_");
                    Value::from(text.trim_end_matches('='))
                }
                "intValue" | "asInt" | "count" | "zeroCount" | "bucketCounts" => {
                    let exponent = if choice & 2 == 2 { ".0e0" } else { "" };
                    Value::Number(format!("{text}{exponent}").into())
                }
                _ if key.ends_with("UnixNano") => Value::Number(text.as_str().into()),
                _ => value.clone(),
            };
            write_value(&respelled, out);
        }
        Value::Int(number) if choice & 1 == 1 => {
            let number = i32::try_from(*number).ok();
            let name = match key {
                "kind" => number
                    .and_then(|number| SpanKind::try_from(number).ok())
                    .map(|kind| kind.as_str_name()),
                "code" => number
                    .and_then(|number| StatusCode::try_from(number).ok())
                    .map(|code| code.as_str_name()),
                "severityNumber" => number
                    .and_then(|number| SeverityNumber::try_from(number).ok())
                    .map(|severity| severity.as_str_name()),
                "aggregationTemporality" => number
                    .and_then(|number| AggregationTemporality::try_from(number).ok())
                    .map(|temporality| temporality.as_str_name()),
                _ => {
                    let mut text = Vec::new();
                    write_value(value, &mut text);
                    return write_value(&String::from_utf8(text).expect("ASCII").into(), out);
                }
            };
            match name {
                Some(name) => write_value(&name.into(), out),
                None => write_value(value, out),
            }
        }
        Value::Float(_) if choice & 1 == 1 => {
            let mut text = Vec::new();
            write_value(value, &mut text);
            write_value(&String::from_utf8(text).expect("ASCII").into(), out);
        }
        _ => write_value(value, out),
    }
}

fn snake_case(key: &str) -> String {
    key.chars()
        .flat_map(|letter| {
            let upper = letter.is_ascii_uppercase();
            upper
                .then_some('_')
                .into_iter()
                .chain([letter.to_ascii_lowercase()])
        })
        .collect()
}

#[test]
fn a_whole_trace_is_written_as_the_specification_says() {
    let span = Span {
        trace_id: (0xf0..=0xff).collect(),
        span_id: vec![0, 1, 2, 3, 4, 5, 6, 7],
        trace_state: "a=b".into(),
        parent_span_id: Vec::new(),
        flags: 0x101,
        name: "call \"x\"".into(),
        kind: SpanKind::Server as i32,
        start_time_unix_nano: 1_544_712_660_000_000_000,
        end_time_unix_nano: u64::MAX,
        attributes: vec![KeyValue {
            key: "n".into(),
            value: Some(value(any_value::Value::IntValue(-5))),
            key_strindex: 0,
        }],
        dropped_attributes_count: 1,
        events: vec![Event {
            time_unix_nano: 7,
            name: "e".into(),
            ..Event::default()
        }],
        dropped_events_count: 2,
        links: vec![Link {
            trace_id: vec![0; 16],
            span_id: vec![0xab; 8],
            ..Link::default()
        }],
        dropped_links_count: u32::MAX,
        status: Some(Status {
            message: "bad".into(),
            code: StatusCode::Error as i32,
        }),
    };
    let data = TracesData {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource::default()),
            scope_spans: vec![ScopeSpans {
                scope: None,
                spans: vec![span],
                schema_url: "https://example.org".into(),
            }],
            schema_url: String::new(),
        }],
    };
    assert_eq!(
        written(&data),
        concat!(
            r#"{"resourceSpans":[{"resource":{},"scopeSpans":[{"spans":[{"#,
            r#""traceId":"f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff","spanId":"0001020304050607","#,
            r#""traceState":"a=b","flags":257,"name":"call \"x\"","kind":2,"#,
            r#""startTimeUnixNano":"1544712660000000000","endTimeUnixNano":"18446744073709551615","#,
            r#""attributes":[{"key":"n","value":{"intValue":"-5"}}],"droppedAttributesCount":1,"#,
            r#""events":[{"timeUnixNano":"7","name":"e"}],"droppedEventsCount":2,"#,
            r#""links":[{"traceId":"00000000000000000000000000000000","spanId":"abababababababab"}],"#,
            r#""droppedLinksCount":4294967295,"status":{"message":"bad","code":2}"#,
            r#"}],"schemaUrl":"https://example.org"}]}]}"#,
        )
    );
    assert_reads_back(&data);
}

#[test]
fn what_is_present_stays_present_at_its_default() {
    use any_value::Value;
    for (value, text) in [
        (None, "{}"),
        (
            Some(Value::StringValue(String::new())),
            r#"{"stringValue":""}"#,
        ),
        (Some(Value::BoolValue(false)), r#"{"boolValue":false}"#),
        (Some(Value::IntValue(0)), r#"{"intValue":"0"}"#),
        (Some(Value::DoubleValue(0.0)), r#"{"doubleValue":0.0}"#),
        (Some(Value::DoubleValue(-0.0)), r#"{"doubleValue":-0.0}"#),
        (
            Some(Value::DoubleValue(f64::NAN)),
            r#"{"doubleValue":"NaN"}"#,
        ),
        (
            Some(Value::DoubleValue(f64::NEG_INFINITY)),
            r#"{"doubleValue":"-Infinity"}"#,
        ),
        (
            Some(Value::ArrayValue(ArrayValue::default())),
            r#"{"arrayValue":{}}"#,
        ),
        (
            Some(Value::KvlistValue(KeyValueList::default())),
            r#"{"kvlistValue":{}}"#,
        ),
        (Some(Value::BytesValue(Vec::new())), r#"{"bytesValue":""}"#),
        (
            Some(Value::BytesValue(vec![0xfb, 0xff])),
            r#"{"bytesValue":"+/8="}"#,
        ),
        (
            Some(Value::StringValueStrindex(0)),
            r#"{"stringValueStrindex":0}"#,
        ),
    ] {
        let any = AnyValue { value };
        assert_eq!(written(&any), text);
        assert_reads_back(&any);
    }

    let record = LogRecord {
        body: Some(AnyValue::default()),
        ..LogRecord::default()
    };
    assert_eq!(written(&record), r#"{"body":{}}"#);
    let metric = Metric {
        data: Some(metric::Data::Gauge(Gauge::default())),
        ..Metric::default()
    };
    assert_eq!(written(&metric), r#"{"gauge":{}}"#);
    let point = NumberDataPoint {
        value: Some(number_data_point::Value::AsInt(0)),
        ..NumberDataPoint::default()
    };
    assert_eq!(written(&point), r#"{"asInt":"0"}"#);
    let point = HistogramDataPoint {
        sum: Some(0.0),
        min: Some(f64::INFINITY),
        bucket_counts: vec![0, u64::MAX],
        explicit_bounds: vec![0.0],
        ..HistogramDataPoint::default()
    };
    assert_eq!(
        written(&point),
        concat!(
            r#"{"sum":0.0,"bucketCounts":["0","18446744073709551615"],"#,
            r#""explicitBounds":[0.0],"min":"Infinity"}"#
        )
    );
    let point = SummaryDataPoint {
        sum: -0.0,
        ..SummaryDataPoint::default()
    };
    assert_eq!(written(&point), r#"{"sum":-0.0}"#);
}

#[test]
fn an_id_of_any_length_is_written() {
    let span = Span {
        trace_id: vec![0xa],
        ..Span::default()
    };
    assert_eq!(written(&span), r#"{"traceId":"0a"}"#);
}

#[test]
fn numbers_are_read_in_every_legal_form() {
    for text in [
        r#"{"timeUnixNano":5,"flags":"7"}"#,
        r#"{"timeUnixNano":"5","flags":7}"#,
        r#"{"timeUnixNano":5.0,"flags":0.7e1}"#,
        r#"{"time_unix_nano":"50e-1","flags":"7.0"}"#,
        r#"{"time\u005funix\u005fnano":"\u0035","flags":7}"#,
    ] {
        let record: LogRecord = read(text);
        assert_eq!((record.time_unix_nano, record.flags), (5, 7), "{text}");
    }
    for (text, double) in [
        ("0", 0.0),
        ("-0", -0.0),
        ("5", 5.0),
        ("\"5\"", 5.0),
        ("\"-1.5e3\"", -1500.0),
        ("\"NaN\"", f64::NAN),
        ("\"Infinity\"", f64::INFINITY),
        ("\"-Infinity\"", f64::NEG_INFINITY),
        ("1.7976931348623157e308", f64::MAX),
        ("1e-400", 0.0),
    ] {
        let any: AnyValue = read(&format!(r#"{{"doubleValue":{text}}}"#));
        assert_same(&any, &value(any_value::Value::DoubleValue(double)));
    }
    let exemplar: Exemplar = read(r#"{"asInt":-9223372036854775808}"#);
    assert_eq!(exemplar.value, Some(exemplar::Value::AsInt(i64::MIN)));
}

#[test]
fn enums_are_read_by_number_and_by_name() {
    let kind = |text: &str| read::<Span>(&format!(r#"{{"kind":{text}}}"#)).kind;
    assert_eq!(kind("3"), 3);
    assert_eq!(kind("3.0"), 3);
    assert_eq!(kind("\"SPAN_KIND_CLIENT\""), 3);
    // An enum of proto3 is open: what a later version added is kept.
    assert_eq!(kind("77"), 77);
    assert_eq!(kind("-2147483648"), i32::MIN);
    for (text, reason) in [
        (
            r#"{"kind":"3"}"#,
            "unknown name \"3\" for the enum SpanKind",
        ),
        (r#"{"kind":"span_kind_client"}"#, "unknown name"),
        (r#"{"kind":""}"#, "unknown name \"\""),
        (r#"{"kind":2147483648}"#, "invalid integer \"2147483648\""),
        (r#"{"kind":1.5}"#, "invalid integer \"1.5\""),
        (
            r#"{"kind":true}"#,
            "expected an enum's number or name, found a boolean",
        ),
    ] {
        let error = refusal::<Span>(text);
        assert!(error.to_string().starts_with(reason), "{text}: {error}");
        assert_eq!(error.path(), "kind");
        assert_eq!(error.offset(), 8);
    }
}

#[test]
fn names_of_the_proto_file_are_read_too() {
    let span: Span = read(concat!(
        r#"{"trace_id":"AAECAwQFBgcICQoLDA0ODw==","parent_span_id":"0001020304050607","#,
        r#""start_time_unix_nano":"1","dropped_attributes_count":2,"#,
        r#""attributes":[{"key":"a","value":{"string_value":"b"}}]}"#
    ));
    assert_eq!(span.trace_id, (0..16).collect::<Vec<u8>>());
    assert_eq!(span.parent_span_id, (0..8).collect::<Vec<u8>>());
    assert_eq!(
        (span.start_time_unix_nano, span.dropped_attributes_count),
        (1, 2)
    );
    assert_eq!(
        span.attributes[0].value,
        Some(value(any_value::Value::StringValue("b".into())))
    );
}

#[test]
fn null_and_unknown_keys_are_as_if_they_were_not_there() {
    let empty = Span::default();
    for text in [
        "{}",
        " {\n} ",
        r#"{"name":null,"attributes":null,"status":null,"kind":null,"traceId":null,"flags":null}"#,
        r#"{"traceId":"","spanId":"","parentSpanId":""}"#,
        r#"{"Name":"x","trace-id":"x","traceID":1,"":{"name":[1,2,{}]},"trace_Id":[]}"#,
    ] {
        assert_same(&read::<Span>(text), &empty);
    }
    assert_same(
        &read::<AnyValue>(r#"{"intValue":null}"#),
        &AnyValue::default(),
    );
    let any: AnyValue = read(r#"{"stringValue":null,"intValue":"1","boolValue":null}"#);
    assert_eq!(any, value(any_value::Value::IntValue(1)));
    assert_eq!(
        read::<Span>(r#"{"status":{}}"#).status,
        Some(Status::default())
    );
    // What the collector writes, and what serde implementations refuse.
    let any: AnyValue = read(r#"{"arrayValue":{"values":[{},{"kvlistValue":{}}]}}"#);
    let Some(any_value::Value::ArrayValue(array)) = any.value else {
        panic!("no array");
    };
    assert_eq!(array.values.len(), 2);
    assert_eq!(array.values[0], AnyValue::default());
    assert_same(
        &read::<TracesData>(r#"{"resourceLogs":[{}]}"#),
        &TracesData::default(),
    );
}

#[test]
fn bytes_are_read_from_either_base64() {
    for text in ["-_8=", "-_8", "+/8=", "+/8", "\\u002b\\/8"] {
        let any: AnyValue = read(&format!(r#"{{"bytesValue":"{text}"}}"#));
        assert_eq!(any, value(any_value::Value::BytesValue(vec![0xfb, 0xff])));
    }
    for text in ["+_8=", "+/8==", "+/9=", "+", "a b=", "é"] {
        let reason = otlp_refusal::<AnyValue>(&format!(r#"{{"bytesValue":"{text}"}}"#));
        let text = text.to_owned();
        assert_eq!(reason, OtlpReason::InvalidBase64 { text });
    }
}

#[test]
fn a_field_given_twice_is_refused() {
    for text in [
        r#"{"name":"a","name":"a"}"#,
        r#"{"name":null,"name":"a"}"#,
        r#"{"traceId":"","trace_id":""}"#,
        r#"{"attributes":[],"attributes":[]}"#,
    ] {
        assert_eq!(otlp_refusal::<Span>(text), OtlpReason::FieldGivenTwice);
    }
    let error = refusal::<Span>(r#"{"name":"a", "name": "a"}"#);
    assert_eq!((error.path().as_str(), error.offset()), ("name", 21));
    for text in [
        r#"{"intValue":"1","stringValue":"1"}"#,
        r#"{"intValue":"1","int_value":"1"}"#,
    ] {
        let reason = otlp_refusal::<AnyValue>(text);
        assert_eq!(reason, OtlpReason::OneofGivenTwice { oneof: "value" });
    }
    let reason = otlp_refusal::<Metric>(r#"{"sum":{},"gauge":{}}"#);
    assert_eq!(reason, OtlpReason::OneofGivenTwice { oneof: "data" });
}

/// Asserts that each text is refused as a span: where, and for which reason.
fn assert_refused(cases: &[(&str, usize, &str, &str)]) {
    for &(text, offset, path, reason) in cases {
        let error = refusal::<Span>(text);
        assert!(error.to_string().starts_with(reason), "{text}: {error}");
        let place = (error.offset(), error.path());
        assert_eq!(place, (offset, path.to_owned()), "{text}: {error}");
    }
}

#[test]
fn a_value_that_its_field_cannot_hold_is_refused_with_its_place() {
    assert_refused(&[
        (
            r#"{"traceId":"5b8efff798038103d269b633813fc6"}"#,
            11,
            "traceId",
            "invalid id \"5b8efff798038103d269b633813fc6\": expected 16 bytes, as 32 hex digits",
        ),
        (
            r#"{"spanId":"xyz"}"#,
            10,
            "spanId",
            "invalid id \"xyz\": expected 8 bytes, as 16 hex digits or in base64",
        ),
        (
            r#"{"flags":-1}"#,
            9,
            "flags",
            "invalid integer \"-1\": expected a whole number that fits u32",
        ),
        (
            r#"{"flags":4294967296}"#,
            9,
            "flags",
            "invalid integer \"4294967296\"",
        ),
        (r#"{"flags":""}"#, 9, "flags", "invalid integer \"\""),
        (r#"{"flags":" 1"}"#, 9, "flags", "invalid integer \" 1\""),
        (r#"{"flags":"+1"}"#, 9, "flags", "invalid integer \"+1\""),
        (r#"{"flags":"0x1"}"#, 9, "flags", "invalid integer \"0x1\""),
        (
            r#"{"endTimeUnixNano":18446744073709551616}"#,
            19,
            "endTimeUnixNano",
            "invalid integer \"18446744073709551616\": expected a whole number that fits u64",
        ),
        (
            r#"{"attributes":[{},{"value":{"doubleValue":1e400}}]}"#,
            42,
            "attributes[1].value.doubleValue",
            "invalid double \"1e400\"",
        ),
        (
            r#"{"attributes":[{"value":{"doubleValue":"inf"}}]}"#,
            39,
            "attributes[0].value.doubleValue",
            "invalid double \"inf\"",
        ),
    ]);
    let long = format!(r#"{{"traceId":"{}"}}"#, "a".repeat(1_000_000));
    assert!(refusal::<Span>(&long).to_string().len() < 200);
}

#[test]
fn a_value_of_the_wrong_kind_is_refused_with_its_place() {
    let name = |found: &str| format!("expected a string, found {found}");
    assert_refused(&[
        (r#"{"spanId":5}"#, 10, "spanId", &name("a number")),
        (r#"{"name":5}"#, 8, "name", &name("a number")),
        (r#"{"name":["a"]}"#, 8, "name", &name("an array")),
        (
            r#"{"flags":true}"#,
            9,
            "flags",
            "expected an integer, found a boolean",
        ),
        (
            r#"{"attributes":{}}"#,
            14,
            "attributes",
            "expected an array, found an object",
        ),
        (
            r#"{"attributes":[null]}"#,
            15,
            "attributes[0]",
            "expected an object, found null",
        ),
        (
            r#"{"attributes":[{"value":{"boolValue":"true"}}]}"#,
            37,
            "attributes[0].value.boolValue",
            "expected true or false, found a string",
        ),
        (
            r#"{"status":"STATUS_CODE_OK"}"#,
            10,
            "status",
            "expected an object, found a string",
        ),
        ("null", 0, "", "expected an object, found null"),
        ("[]", 0, "", "expected an object, found an array"),
    ]);
}

#[test]
fn a_line_is_one_whole_value() {
    assert_refused(&[
        (
            r#"{"name":"a" "#,
            12,
            "",
            "expected ',' or '}', found the end of the line",
        ),
        (
            r#"{"name":"a"#,
            10,
            "name",
            "expected the string's closing quote, found the end of the line",
        ),
        (r#"{"name":"a"}{}"#, 12, "", "more text behind the value"),
        ("", 0, "", "expected an object, found the end of the line"),
    ]);
    // A line that was cut anywhere is refused, never read as less than was written.
    let line = r#"{"name":"a","attributes":[{"key":"k","value":{"intValue":"1"}}],"flags":12}"#;
    for length in 0..line.len() {
        refusal::<Span>(&line[..length]);
    }
}

#[test]
fn values_nest_as_deep_as_our_lines_and_no_deeper() {
    fn nested(levels: u32) -> Metric {
        let mut any = AnyValue::default();
        for _ in 0..levels {
            let values = vec![KeyValue {
                value: Some(any),
                ..KeyValue::default()
            }];
            any = value(any_value::Value::KvlistValue(KeyValueList { values }));
        }
        let mut metric = Metric::default();
        metric.metadata.push(KeyValue {
            value: Some(any),
            ..KeyValue::default()
        });
        metric
    }

    let deepest = nested(crate::lines::json::NESTING_MAX);
    let line = written(&deepest);
    assert_eq!(written(&read::<Metric>(&line)), line);
    let error = refusal::<Metric>(&written(&nested(crate::lines::json::NESTING_MAX * 2)));
    assert!(
        matches!(error.reason(), JsonReason::TooDeep { .. }),
        "{error}"
    );
}

/// For parsers that are not ours: where `GRIDCTL_TELEMETRY_OTLP_SAMPLES` names a folder, lines of
/// generated messages are written there, and beside each file of lines the messages in Protocol
/// Buffers, each behind its length as a varint.
#[test]
fn samples_for_other_parsers_are_written_where_they_are_asked_for() {
    fn write_samples<M: Message + prost::Message>(
        folder: &std::path::Path,
        name: &str,
        strategy: &impl Strategy<Value = M>,
    ) {
        const LINES: usize = 2000;
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let (mut lines, mut messages) = (Vec::new(), Vec::new());
        for _ in 0..LINES {
            let message = strategy
                .new_tree(&mut runner)
                .expect("a strategy that rejects nothing")
                .current();
            write_message(&message, &mut lines);
            lines.push(b'\n');
            message
                .encode_length_delimited(&mut messages)
                .expect("a Vec grows");
        }
        std::fs::write(folder.join(format!("{name}.jsonl")), lines).expect("the samples' folder");
        std::fs::write(folder.join(format!("{name}.pb")), messages).expect("the samples' folder");
    }

    let Some(folder) = std::env::var_os("GRIDCTL_TELEMETRY_OTLP_SAMPLES") else {
        println!("skipped: GRIDCTL_TELEMETRY_OTLP_SAMPLES names no folder");
        return;
    };
    let folder = std::path::Path::new(&folder);
    write_samples(folder, "traces", &traces_data());
    write_samples(folder, "logs", &logs_data());
    write_samples(folder, "metrics", &metrics_data());
}
