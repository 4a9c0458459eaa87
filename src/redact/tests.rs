use super::{literals::PLACEHOLDER, *};
use crate::record::{
    Level, LogRecord, MetricsSnapshot, SpanRecord, Value, arbitrary::json_entries,
};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value},
    resource::v1::Resource,
    trace::v1::{Span, Status, span},
};
use proptest::{prelude::*, sample::select};

mod corpus;
mod forms;
mod tables;

/// Redacts `text` as the message of a log.
fn message(rules: &Rules, text: &str) -> String {
    let record = log(
        rules,
        LogRecord::new(Timestamp::default(), Level::INFO, text),
    );
    record.message
}

/// Redacts `record` on the way that the writer takes.
fn log(rules: &Rules, record: LogRecord) -> LogRecord {
    through(rules, &Record::Log(record)).into_log().unwrap()
}

fn through(rules: &Rules, record: &Record) -> Record {
    let mut payload = Vec::new();
    record.encode_payload(&mut payload).unwrap();
    let redacted = rules.redact_payload(record.signal(), &payload).unwrap();
    Record::decode_payload(record.signal(), record.timestamp(), &redacted).unwrap()
}

fn with_values(values: &[&str]) -> Arc<Rules> {
    let redactor = Redactor::new();
    redactor.register_values(values.iter().copied()).unwrap();
    redactor.rules()
}

#[test]
fn what_follows_a_keyword_is_replaced_and_the_keyword_stays() {
    let rules = Rules::default();
    for (text, redacted) in [
        (
            "Authorization: Basic dXNlcjpw",
            "Authorization: Basic [REDACTED]",
        ),
        (
            "AUTHORIZATION:\tHoba a.b.c, next",
            "AUTHORIZATION:\tHoba [REDACTED] next",
        ),
        (
            "authorization: abc\nAccept: x",
            "authorization: [REDACTED]\nAccept: x",
        ),
        (
            r#"Authorization: Digest username="a b", response="c", x"#,
            "Authorization: Digest [REDACTED] x",
        ),
        (
            r#"Authorization: Digest user="a", response="c" x"#,
            r"Authorization: Digest [REDACTED] x",
        ),
        (
            r#"{"Authorization":"Bearer a b","n":1}"#,
            r#"{"Authorization":"Bearer [REDACTED]","n":1}"#,
        ),
        (
            "map[Authorization:[Bearer abc] N:[1]]",
            "map[Authorization:[Bearer [REDACTED]] N:[1]]",
        ),
        (
            "sent bearer abc.def-ghi to x",
            "sent bearer [REDACTED] to x",
        ),
        ("BEARER   abc", "BEARER   [REDACTED]"),
        ("password=hunter2 user=x", "password=[REDACTED] user=x"),
        ("Passwd: hunter2", "Passwd: [REDACTED]"),
        ("db_secret = hunter2!", "db_secret = [REDACTED]"),
        (
            "api_key:a API-KEY=b ApiKey := c",
            "api_key:[REDACTED] API-KEY=[REDACTED] ApiKey := [REDACTED]",
        ),
        (
            "token=a;credential=b credentials: c",
            "token=[REDACTED] credentials: [REDACTED]",
        ),
        (
            "auth_token => a, auth-token: b",
            "auth_token => [REDACTED] auth-token: [REDACTED]",
        ),
        ("GITHUB_TOKEN=ghp_1&x=2", "GITHUB_TOKEN=[REDACTED]"),
        ("password: token: abc", "password: [REDACTED] [REDACTED]"),
        ("secretoken=abc", "secretoken=[REDACTED]"),
        // Quotes hold a value together and stay.
        (r#"password="a b" x"#, r#"password="[REDACTED]" x"#),
        (r#"password='a"b' x"#, r"password='[REDACTED]' x"),
        (r#"password="a\"b c" x"#, r#"password="[REDACTED]" x"#),
        (r#"password="a b"#, r#"password="[REDACTED]"#),
        (
            r#"password="a b"c"d e"#,
            r#"password="[REDACTED]"[REDACTED] e"#,
        ),
        // JSON, and JSON in JSON.
        (
            r#"{"password":"a b","user":"x"}"#,
            r#"{"password":"[REDACTED]","user":"x"}"#,
        ),
        (
            r#"{"a":"{\"password\": \"b\\\"c d\", \"e\":1}"}"#,
            r#"{"a":"{\"password\": \"[REDACTED]\", \"e\":1}"}"#,
        ),
        (r#"{"secret":1234,"n":1}"#, r#"{"secret":[REDACTED],"n":1}"#),
        (
            r#"{"credentials": {"user": "a", "p": ["b}", "c"]}, "n": 1}"#,
            r#"{"credentials": [REDACTED], "n": 1}"#,
        ),
        (r"token={a b}c d", r"token=[REDACTED] d"),
        (r"token=[a b c", r"token=[REDACTED] b c"),
        (
            "pässword=x Token=ä\u{a0}ö z",
            "pässword=x Token=[REDACTED] z",
        ),
    ] {
        assert_eq!(message(&rules, text), redacted, "{text}");
        assert_eq!(message(&rules, redacted), redacted, "{text}, again");
    }
}

#[test]
fn text_without_a_secret_stays_as_it_is() {
    let rules = Rules::default();
    for text in [
        "",
        "password",
        "the password is wrong",
        "password=",
        r#"{"token":""}"#,
        "Authorization: ",
        "bearer",
        "max_tokens=100 input_tokens: 5",
        "secretary: x",
        "token [REDACTED]",
        "[REDACTED]",
    ] {
        assert_eq!(message(&rules, text), text);
    }
}

#[test]
fn tools_may_be_called_after_secrets() {
    let usage = Value::Object(vec![
        ("calls".into(), Value::Int(3)),
        ("last_error".into(), Value::from("token=abc")),
    ]);
    let mut snapshot = MetricsSnapshot::new(Timestamp::default());
    snapshot.extra = vec![
        (
            "tool_usage".into(),
            Value::Object(vec![("get_secret".into(), usage)]),
        ),
        ("api_key".into(), "abc".into()),
        ("password_changes".into(), Value::Int(4)),
    ];
    let redacted = through(&Rules::default(), &Record::Metrics(snapshot));
    let redacted_usage = Value::Object(vec![
        ("calls".into(), Value::Int(3)),
        ("last_error".into(), Value::from("token=[REDACTED]")),
    ]);
    assert_eq!(
        redacted.into_metrics().unwrap().extra,
        [
            (
                "tool_usage".to_owned(),
                Value::Object(vec![("get_secret".into(), redacted_usage)])
            ),
            ("api_key".to_owned(), Value::from("[REDACTED]")),
            ("password_changes".to_owned(), Value::Int(4)),
        ]
    );
}

#[test]
fn registered_values_are_replaced_wherever_they_occur() {
    let rules = with_values(&["hunter2", "hunter2-long", "r2-l", " padded\n", "\t", ""]);
    for (text, redacted) in [
        ("xhunter2y", "x[REDACTED]y"),
        ("hunter2-longer", "[REDACTED]er"),
        // Two that overlap leave nothing of either.
        ("hunter2-l", "[REDACTED]"),
        ("hunter2hunter2", "[REDACTED]"),
        ("Hunter2 HUNTER2", "Hunter2 HUNTER2"),
        ("a padded word", "a [REDACTED] word"),
        ("password=x hunter2", "password=[REDACTED] [REDACTED]"),
    ] {
        assert_eq!(message(&rules, text), redacted);
    }
    let record = LogRecord::new(Timestamp::default(), Level::INFO, "")
        .with("a hunter2 key", 1_i64)
        .with(
            "list",
            Value::Array(vec!["hunter2".into(), Value::Number("hunter2".into())]),
        );
    assert_eq!(
        log(&rules, record).attributes,
        [
            ("a [REDACTED] key".to_owned(), Value::Int(1)),
            (
                "list".to_owned(),
                Value::Array(vec!["[REDACTED]".into(), "[REDACTED]".into()])
            ),
        ]
    );
}

#[test]
fn a_value_with_spaces_is_replaced_behind_a_keyword_too() {
    let rules = with_values(&["correct horse", "password"]);
    assert_eq!(
        message(&rules, "secret=correct horse battery"),
        "secret=[REDACTED] battery"
    );
    assert_eq!(message(&rules, "password=x"), "[REDACTED]=[REDACTED]");
}

#[test]
fn values_that_are_parts_of_the_placeholder_do_not_multiply_it() {
    for value in ["E", "[", "REDACTED", "[REDACTED]", "]x", "x["] {
        let rules = with_values(&[value]);
        for text in [
            "E",
            "xEx",
            "x[x]x",
            "[REDACTED]xx[REDACTED]",
            "password=[x]",
        ] {
            let once = message(&rules, text);
            assert_eq!(message(&rules, &once), once, "{value} in {text}");
            assert!(once.len() <= 3 * PLACEHOLDER.len() + text.len(), "{once}");
        }
    }
}

#[test]
fn a_registered_value_counts_from_then_on_for_every_clone() {
    let redactor = Redactor::new();
    let clone = redactor.clone();
    let before = clone.rules();
    redactor.register_value("hunter2").unwrap();
    assert_eq!(message(&before, "hunter2"), "hunter2");
    assert_eq!(message(&clone.rules(), "hunter2"), "[REDACTED]");
    clone.register_values(["other", "hunter2"]).unwrap();
    assert_eq!(
        message(&redactor.rules(), "hunter2 other"),
        "[REDACTED] [REDACTED]"
    );
    assert!(!format!("{redactor:?}").contains("hunter2"));
}

#[test]
fn registration_is_bounded_and_all_or_nothing() {
    let redactor = Redactor::new();
    let long = "x".repeat(VALUE_BYTES_MAX + 1);
    assert!(matches!(
        redactor.register_values(["hunter2", &long]),
        Err(Error::SecretTooLong { bytes, .. }) if bytes == long.len()
    ));
    assert!(matches!(
        redactor.register_values((0..=VALUES_BYTES_MAX / 8).map(|index| format!("v{index:07}"))),
        Err(Error::TooManySecrets { .. })
    ));
    assert_eq!(
        message(&redactor.rules(), "hunter2 v0000001"),
        "hunter2 v0000001"
    );
    redactor.register_value(&long[1..]).unwrap();
    assert_eq!(
        message(&redactor.rules(), &format!("a{}", &long[1..])),
        "a[REDACTED]"
    );
}

fn string(text: &str) -> AnyValue {
    AnyValue {
        value: Some(any_value::Value::StringValue(text.into())),
    }
}

fn key_value(key: &str, value: AnyValue) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(value),
        ..KeyValue::default()
    }
}

/// Attributes with `text` in every place that has one.
fn attributes(text: &str) -> Vec<KeyValue> {
    let list = |values| AnyValue {
        value: Some(any_value::Value::KvlistValue(KeyValueList { values })),
    };
    let array = |values| AnyValue {
        value: Some(any_value::Value::ArrayValue(ArrayValue { values })),
    };
    vec![
        key_value("plain", string(text)),
        key_value(
            "nested",
            list(vec![key_value("n", array(vec![string(text)]))]),
        ),
        key_value(text, AnyValue::default()),
        key_value(
            "bytes",
            AnyValue {
                value: Some(any_value::Value::BytesValue(
                    [b"\xff", text.as_bytes()].concat(),
                )),
            },
        ),
    ]
}

/// A span with `text` in every place that is text.
fn span_with(text: &str) -> SpanRecord {
    SpanRecord {
        resource: Some(Resource {
            attributes: attributes(text),
            ..Resource::default()
        }),
        resource_schema_url: text.into(),
        scope: Some(InstrumentationScope {
            name: text.into(),
            version: text.into(),
            attributes: attributes(text),
            ..InstrumentationScope::default()
        }),
        scope_schema_url: text.into(),
        span: Span {
            trace_id: vec![1; 16],
            name: text.into(),
            trace_state: text.into(),
            end_time_unix_nano: 7,
            attributes: attributes(text),
            events: vec![span::Event {
                name: text.into(),
                attributes: attributes(text),
                ..span::Event::default()
            }],
            links: vec![span::Link {
                trace_state: text.into(),
                attributes: attributes(text),
                ..span::Link::default()
            }],
            status: Some(Status {
                message: text.into(),
                code: 2,
            }),
            ..Span::default()
        },
    }
}

#[test]
fn a_registered_value_survives_nowhere_in_a_span() {
    let rules = with_values(&["hunter2"]);
    let redacted = through(&rules, &Record::Span(Box::new(span_with("a hunter2 b"))));
    assert_eq!(redacted.into_span().unwrap(), span_with("a [REDACTED] b"));
}

#[test]
fn keywords_count_in_attributes_events_and_status() {
    let text = "login with password=abc";
    let redacted = through(&Rules::default(), &Record::Span(Box::new(span_with(text))));
    let redacted = redacted.into_span().unwrap();
    let expected = "login with password=[REDACTED]";
    assert_eq!(redacted.span.status.unwrap().message, expected);
    assert_eq!(redacted.span.events[0].name, expected);
    assert_eq!(redacted.span.name, expected);
    for attributes in [
        &redacted.resource.unwrap().attributes,
        &redacted.scope.unwrap().attributes,
        &redacted.span.attributes,
        &redacted.span.events[0].attributes,
        &redacted.span.links[0].attributes,
    ] {
        let shown = format!("{attributes:?}");
        assert_eq!(shown.matches(expected).count(), 2, "{shown}");
        assert_eq!(attributes[0].value, Some(string(expected)));
    }
}

#[test]
fn keys_that_name_secrets_count_in_spans_at_any_depth() {
    let number = || AnyValue {
        value: Some(any_value::Value::IntValue(1)),
    };
    let bytes = || AnyValue {
        value: Some(any_value::Value::BytesValue(b"x".to_vec())),
    };
    let list = |inner: AnyValue| AnyValue {
        value: Some(any_value::Value::KvlistValue(KeyValueList {
            values: vec![
                key_value("client_secret", inner),
                key_value("token_count", number()),
            ],
        })),
    };
    let record = |inner: AnyValue| SpanRecord {
        span: Span {
            attributes: vec![
                key_value("outer", list(inner.clone())),
                key_value("password", inner),
                key_value("secret", number()),
            ],
            ..Span::default()
        },
        ..SpanRecord::default()
    };
    for secret in [string("x"), bytes()] {
        let redacted = through(&Rules::default(), &Record::Span(Box::new(record(secret))));
        assert_eq!(redacted.into_span().unwrap(), record(string("[REDACTED]")));
    }
}

#[test]
fn a_payload_without_a_secret_is_handed_back_as_it_is() {
    let rules = with_values(&["hunter2"]);
    let mut payload = Vec::new();
    let record = LogRecord::new(Timestamp::default(), Level::INFO, "tool call completed");
    record.encode_payload(&mut payload).unwrap();
    assert!(!rules.may_contain_secret(&payload));
    let redacted = rules.redact_payload(Signal::Logs, &payload).unwrap();
    assert!(matches!(redacted, Cow::Borrowed(_)));

    // A keyword that announces nothing costs a decoding, but no other payload.
    payload.clear();
    let record = record.with("input_tokens", 5_i64);
    record.encode_payload(&mut payload).unwrap();
    assert!(rules.may_contain_secret(&payload));
    let redacted = rules.redact_payload(Signal::Logs, &payload).unwrap();
    assert!(matches!(redacted, Cow::Borrowed(_)));

    let damaged = b"\xffpassword=hunter2";
    for signal in Signal::ALL {
        assert!(rules.redact_payload(signal, damaged).is_err());
    }
}

/// Each of these would take minutes if the search for the end of a value began anew at each keyword.
#[test]
fn hostile_text_takes_linear_time() {
    let rules = Rules::default();
    for piece in [
        "token=",
        "token={",
        "token=[{\"",
        "token=\"",
        "token=\\\"",
        "\"token\":x",
        "token ",
        "token\" '",
        "authorization:",
        "authorization: x ",
        "authorization: a b=,",
        "bearer ",
        "bearer \"",
        "bearer '\\`",
        "secretoken",
        "cookie: a=b ",
        "\"cookie: a=b ",
        "'authorization: ",
        "authorization: basic a=\"b, ",
        "key",
        "A_KEY=",
        "\"a_key\":\"",
        "?key=",
        "gca2a_c1",
        "\"authorization:\"",
        "cookie:",
        "k=\"x authorization: basic \", ",
        "--password ",
        "\"--password\",\"",
        "<token>",
        "password: |\n ",
        "password: |\n  a\n ",
        "password=''",
        "token%3D",
        "password: Some(\"",
        "\"authorization\",\"",
        "name=\"token\" value=\"",
        ";pwd=",
        "eyJ",
        "-eyJ",
        ".eyJabcdefgh",
        "eyJabcdefgh..",
        "sk-a-",
        " sk-a",
        "SG.",
        "SG.aaaaaaaaaaaaaaaaaaaaaaa",
        "://",
        "://a:",
        "://@",
        "ghp_",
        "gca2a_c1_",
        "gca2a_c1",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN X-----",
        "xoxb-",
        "hooks.slack.com/services/",
        "AKIA",
        "\\",
        "\\\"",
    ] {
        let text = piece.repeat((1 << 17) / piece.len());
        let redacted = message(&rules, &text);
        assert!(redacted.len() < 3 * text.len(), "{piece}");
    }
    // Many keywords in one word, and a second word or a long end that each of them looks at.
    for (piece, end) in [
        ("authorization:", " x y".to_owned()),
        ("token=", format!("{}\"", "\\".repeat(1 << 16))),
        ("authorization:", format!(" {}\" y", "\\".repeat(1 << 16))),
    ] {
        let text = format!("{}{end}", piece.repeat((1 << 16) / piece.len()));
        let redacted = message(&rules, &text);
        assert!(redacted.len() < 3 * text.len(), "{piece}");
    }
}

fn any_text() -> impl Strategy<Value = String> {
    const PIECES: &[&str] = &[
        "password",
        "token",
        "Authorization",
        "bearer",
        "credentials",
        "=",
        ":",
        ": ",
        " ",
        "\n",
        "\"",
        "'",
        "\\",
        "\\\"",
        "{",
        "}",
        "[",
        "]",
        ",",
        "a",
        "ä",
        "hunter2",
        "hun",
        "ter2",
        "x y",
        "[REDACTED]",
    ];
    proptest::collection::vec(select(PIECES), 0..24).prop_map(|pieces| pieces.concat())
}

const VALUES: [&str; 6] = ["hunter2", "ter2", "2hun", "a", "x y", "ä\""];

fn strings(entries: &[(String, Value)]) -> Vec<&str> {
    fn of_value<'a>(value: &'a Value, out: &mut Vec<&'a str>) {
        match value {
            Value::String(text) => out.push(text),
            Value::Number(text) => out.push(text),
            Value::Array(items) => items.iter().for_each(|item| of_value(item, out)),
            Value::Object(entries) => out.extend(strings(entries)),
            _ => {}
        }
    }
    let mut out = Vec::new();
    for (key, value) in entries {
        out.push(&**key);
        of_value(value, &mut out);
    }
    out
}

/// Text without placeholders: two in a row become one, but only beside a secret.
fn unredacted_text() -> impl Strategy<Value = String> {
    any_text().prop_map(|text| text.replace(PLACEHOLDER, ""))
}

/// Entries whose keys and texts are, or nearly are, those of secrets.
fn secretive_entries() -> impl Strategy<Value = Vec<(String, Value)>> {
    const KEYS: &[&str] = &[
        "a",
        "name",
        "value",
        "values",
        "key",
        "token",
        "input_tokens",
        "OPENAI_KEY",
        "env",
        "https://host/?token=abc",
        "gca2a_c1_abc",
    ];
    const TEXTS: &[&str] = &[
        "",
        "x",
        "Authorization",
        "GITHUB_TOKEN",
        "HOME",
        "[REDACTED]",
    ];
    let key = || select(KEYS).prop_map(str::to_owned);
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        select(TEXTS).prop_map(Value::from),
        unredacted_text().prop_map(Value::from),
        select(&["1e400", "NaN", "token=abc"]).prop_map(|text| Value::Number(text.into())),
    ];
    let value = leaf.prop_recursive(3, 12, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            proptest::collection::vec((key(), inner), 0..4).prop_map(Value::Object),
        ]
    });
    proptest::collection::vec((key(), value), 0..6)
}

/// The attributes of a span that are like these. A truth value becomes bytes.
fn key_values(entries: &[(String, Value)]) -> Vec<KeyValue> {
    fn any_value(value: &Value) -> AnyValue {
        let value = match value {
            Value::Bool(is_text) => {
                let secret: &[u8] = if *is_text {
                    b"token=abc"
                } else {
                    b"\xfftoken=abc"
                };
                any_value::Value::BytesValue(secret.to_vec())
            }
            Value::Int(value) => any_value::Value::IntValue(*value),
            Value::String(text) => any_value::Value::StringValue(text.clone()),
            Value::Array(items) => any_value::Value::ArrayValue(ArrayValue {
                values: items.iter().map(any_value).collect(),
            }),
            Value::Object(entries) => any_value::Value::KvlistValue(KeyValueList {
                values: key_values(entries),
            }),
            _ => return AnyValue::default(),
        };
        AnyValue { value: Some(value) }
    }
    let entries = entries.iter();
    let entries = entries.map(|(key, value)| key_value(key, any_value(value)));
    entries.collect()
}

/// Checks that the payload of `record` is redacted as it is itself.
fn check_payload(rules: &Rules, record: &Record) -> Result<(), TestCaseError> {
    let mut payload = Vec::new();
    record.encode_payload(&mut payload).unwrap();
    let mut expected = record.clone();
    let is_changed = rules.redact(&mut expected);
    let redacted = rules.redact_payload(record.signal(), &payload).unwrap();
    prop_assert_eq!(matches!(redacted, Cow::Owned(_)), is_changed);
    let redacted = Record::decode_payload(record.signal(), record.timestamp(), &redacted);
    prop_assert_eq!(redacted.unwrap(), expected);
    Ok(())
}

proptest! {
    #[test]
    fn a_payload_is_redacted_as_its_record_is(
        lists in proptest::collection::vec(secretive_entries(), 5),
        texts in proptest::collection::vec(unredacted_text(), 5),
        place in 0usize..5,
    ) {
        let rules = with_values(&["hunter2"]);
        // Only one place has entries, so that each decides in some cases.
        let list = |at: usize| if at == place { key_values(&lists[at]) } else { Vec::new() };
        let text = |at: usize| if at == place { texts[at].clone() } else { String::new() };
        let span = SpanRecord {
            resource: Some(Resource { attributes: list(0), ..Resource::default() }),
            resource_schema_url: text(0),
            scope: Some(InstrumentationScope {
                name: text(1),
                attributes: list(1),
                ..InstrumentationScope::default()
            }),
            scope_schema_url: String::new(),
            span: Span {
                end_time_unix_nano: 7,
                name: text(2),
                attributes: list(2),
                events: vec![span::Event {
                    name: text(3),
                    attributes: list(3),
                    ..span::Event::default()
                }],
                links: vec![span::Link {
                    trace_state: text(4),
                    attributes: list(4),
                    ..span::Link::default()
                }],
                ..Span::default()
            },
        };
        check_payload(&rules, &Record::Span(Box::new(span)))?;
        let mut log = LogRecord::new(Timestamp::default(), Level::INFO, text(0));
        log.attributes.clone_from(&lists[1]);
        check_payload(&rules, &Record::Log(log))?;
        let mut snapshot = MetricsSnapshot::new(Timestamp::default());
        snapshot.extra.clone_from(&lists[2]);
        check_payload(&rules, &Record::Metrics(snapshot))?;
    }

    #[test]
    fn redacting_again_changes_nothing(text in any_text(), values in any::<[bool; 6]>()) {
        let values: Vec<_> = VALUES.into_iter().zip(values).filter(|v| v.1).map(|v| v.0).collect();
        let rules = with_values(&values);
        let once = message(&rules, &text);
        prop_assert_eq!(message(&rules, &once), &*once, "{}", text);
        for value in values {
            prop_assert!(!once.contains(value), "{} in {} from {}", value, once, text);
        }
    }

    #[test]
    fn a_registered_value_survives_in_no_string_of_a_record(
        mut attributes in json_entries(&["", "b", "token"]),
        texts in proptest::collection::vec(any_text(), 1..4),
    ) {
        for (index, text) in texts.iter().enumerate() {
            let at = index * 7 % (attributes.len() + 1);
            let nested = Value::Array(vec![Value::Object(vec![(text.clone(), Value::from(&**text))])]);
            attributes.insert(at, (text.clone(), nested));
        }
        let mut record = LogRecord::new(Timestamp::default(), Level::INFO, texts.concat());
        record.attributes = attributes;
        let rules = with_values(&VALUES);
        let redacted = log(&rules, record);
        prop_assert_eq!(&log(&rules, redacted.clone()), &redacted);
        for text in strings(&redacted.attributes).into_iter().chain([&*redacted.message]) {
            for value in VALUES {
                prop_assert!(!text.contains(value), "{} in {}", value, text);
            }
        }
    }

    #[test]
    fn what_follows_a_password_never_survives(
        before in any_text(),
        opening in select(&["", "\"", "'", "\\\""]),
        separator in select(&["=", ":", " = ", ": ", "\":", ":\n\t"]),
        secret in "[b-zB-Z0-9_+/.~-]{12,20}",
        after in select(&["", " ", "\" ", "' x", "\\\", ", "\n"]),
    ) {
        let text = format!("{before} password{separator}{opening}{secret}{after}");
        let redacted = message(&Rules::default(), &text);
        prop_assert!(!redacted.contains(&secret), "{} from {}", redacted, text);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let rules = with_values(&["a", "\u{1}"]);
        for signal in Signal::ALL {
            let _ = rules.redact_payload(signal, &bytes);
        }
    }
}
