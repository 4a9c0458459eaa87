//! Tables of cases: those of the module's documentation, and those of the daemon's rules.

use super::*;

/// The cells of the rows of the tables in the module's documentation whose header is
/// `rule | input | output`.
fn documented() -> Vec<(String, String)> {
    let mut rows = Vec::new();
    let mut in_table = false;
    for line in include_str!("../mod.rs").lines() {
        let Some(row) = line.strip_prefix("//! | ") else {
            in_table &= line.starts_with("//! |");
            continue;
        };
        let cells: Vec<_> = row.trim_end_matches(" |").split(" | ").collect();
        if cells == ["rule", "input", "output"] {
            in_table = true;
        } else if in_table {
            let [_, input, output] = cells[..] else {
                panic!("three cells: {row}");
            };
            let code = |cell: &str| cell.trim_matches('`').to_owned();
            rows.push((code(input), code(output)));
        }
    }
    rows
}

/// Redacts the JSON object `text` as the attributes of a log.
fn attributes_json(rules: &Rules, text: &str) -> serde_json::Value {
    fn record_value(json: &serde_json::Value) -> Value {
        match json {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(value) => Value::Bool(*value),
            serde_json::Value::Number(number) => match number.as_i64() {
                Some(value) => Value::Int(value),
                None => Value::Float(number.as_f64().unwrap()),
            },
            serde_json::Value::String(text) => Value::from(&**text),
            serde_json::Value::Array(items) => {
                Value::Array(items.iter().map(record_value).collect())
            }
            serde_json::Value::Object(entries) => Value::Object(
                entries
                    .iter()
                    .map(|(key, value)| (key.clone(), record_value(value)))
                    .collect(),
            ),
        }
    }
    fn json_value(value: &Value) -> serde_json::Value {
        match value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Int(value) => (*value).into(),
            Value::Float(value) => (*value).into(),
            Value::String(text) => (&**text).into(),
            Value::Array(items) => items.iter().map(json_value).collect::<Vec<_>>().into(),
            Value::Object(entries) => serde_json::Value::Object(
                entries
                    .iter()
                    .map(|(key, value)| (key.clone(), json_value(value)))
                    .collect(),
            ),
            other => panic!("{other:?}"),
        }
    }
    let mut record = LogRecord::new(Timestamp::default(), Level::INFO, "");
    let Value::Object(entries) = record_value(&serde_json::from_str(text).unwrap()) else {
        panic!("an object: {text}");
    };
    record.attributes = entries;
    json_value(&Value::Object(log(rules, record).attributes))
}

#[test]
fn the_documentation_says_what_the_rules_do() {
    let rules = Rules::default();
    let rows = documented();
    assert!(rows.len() > 30, "{} rows", rows.len());
    for (input, output) in rows {
        println!("{input}\n    {output}");
        if input.starts_with("{\"") {
            let expected: serde_json::Value = serde_json::from_str(&output).unwrap();
            assert_eq!(attributes_json(&rules, &input), expected, "{input}");
            assert_eq!(
                attributes_json(&rules, &output),
                expected,
                "{output}, again"
            );
        } else {
            assert_eq!(message(&rules, &input), output, "{input}");
            assert_eq!(message(&rules, &output), output, "{output}, again");
        }
    }
}

#[test]
fn authorization_takes_up_to_two_words_and_ends_with_its_quotes() {
    let rules = Rules::default();
    for (text, redacted) in [
        ("Authorization: s3cr3t", "Authorization: [REDACTED]"),
        ("authorization: a b c", "authorization: [REDACTED] c"),
        (
            "AUTHORIZATION: bearer a c",
            "AUTHORIZATION: bearer [REDACTED] c",
        ),
        (
            r#"curl -H "Authorization: s3cr3tvalue123" https://host/"#,
            r#"curl -H "Authorization: [REDACTED]" https://host/"#,
        ),
        (
            "curl -H 'Authorization: Basic dXNlcjpw=' https://host/",
            "curl -H 'Authorization: Basic [REDACTED]' https://host/",
        ),
        (
            "curl -H 'authorization:s3cr3t' https://host/",
            "curl -H 'authorization:[REDACTED]' https://host/",
        ),
        (
            "curl -H Authorization:' s3cr3t' https://host/",
            "curl -H Authorization:'[REDACTED]' https://host/",
        ),
        (
            r#"sh -c \"curl -H 'Proxy-Authorization: s3cr3t' http://h/\""#,
            r#"sh -c \"curl -H 'Proxy-Authorization: [REDACTED]' http://h/\""#,
        ),
        (
            r#"{"cmd":"curl -H \"Authorization: s3cr3t\" http://h/"}"#,
            r#"{"cmd":"curl -H \"Authorization: [REDACTED]\" http://h/"}"#,
        ),
        (
            r#"["-H","Authorization: Bearer s3cr3t","http://h/"]"#,
            r#"["-H","Authorization: Bearer [REDACTED]","http://h/"]"#,
        ),
        (
            r#"{"Authorization":["Bearer s3cr3t"],"n":1}"#,
            r#"{"Authorization":[[REDACTED]],"n":1}"#,
        ),
        (
            "curl -H 'Authorization: Bearer abc' -d 'token=abc' http://h/",
            "curl -H 'Authorization: Bearer [REDACTED]' -d 'token=[REDACTED]' http://h/",
        ),
        (
            "GET / HTTP/1.1\r\nAuthorization: Basic abc\r\nHost: h\r\n",
            "GET / HTTP/1.1\r\nAuthorization: Basic [REDACTED]\r\nHost: h\r\n",
        ),
    ] {
        assert_eq!(message(&rules, text), redacted, "{text}");
        assert_eq!(message(&rules, redacted), redacted, "{text}, again");
    }
}

#[test]
fn keys_name_secrets_and_numbers_stay() {
    let rules = Rules::default();
    let same = r#"{"a":1,"b":true,"c":null,"d":1.5}"#;
    for key in [
        "password",
        "PASSWORD",
        "db.passwd_hash",
        "clientSecret",
        "x-api-key",
        "apiKeys",
        "credentials",
        "Authorization",
        "access_token",
        "token_value",
        "OPENAI_KEY",
        "openaiKey",
        "SSH_PRIVATE_KEY",
        "AWS_ACCESS_KEY_ID",
        "BASIC_AUTH",
        "http.request.header.cookie",
        "process.environment_variable.GITHUB_TOKEN",
        "Set-Cookie",
        "passphrase",
    ] {
        for (value, kept) in [
            (r#""x""#, false),
            (r#"["x","y"]"#, false),
            (r#"{"a":["x"],"b":{"c":"x"}}"#, false),
            ("12", true),
            ("true", true),
            ("null", true),
            (same, true),
        ] {
            let text = format!(r#"{{"{key}":{value},"deep":[{{"{key}":{value}}}],"z":"x"}}"#);
            let kept_json: serde_json::Value = serde_json::from_str(&text).unwrap();
            let mut expected = kept_json.clone();
            if !kept {
                let gone = value
                    .replace(r#""x""#, r#""[REDACTED]""#)
                    .replace(r#""y""#, r#""[REDACTED]""#);
                let gone: serde_json::Value = serde_json::from_str(&gone).unwrap();
                expected[key] = gone.clone();
                expected["deep"][0][key] = gone;
            }
            assert_eq!(attributes_json(&rules, &text), expected, "{text}");
        }
    }
    // In a map it is enough to contain one of the words, beside a string.
    for key in [
        "monkey",
        "Key",
        "author",
        "token_count",
        "input_tokens",
        "secretary",
    ] {
        let text = format!(r#"{{"{key}":"x","map":{{"{key}":"x","n":{{"{key}":1}}}}}}"#);
        let mut expected: serde_json::Value = serde_json::from_str(&text).unwrap();
        expected["map"][key] = "[REDACTED]".into();
        assert_eq!(attributes_json(&rules, &text), expected, "{text}");
    }
}

#[test]
fn command_lines_entries_elements_and_blocks() {
    let rules = Rules::default();
    for (text, redacted) in [
        (
            "--password hunter2 --user x",
            "--password [REDACTED] --user x",
        ),
        ("x --token=abc run", "x --token=[REDACTED] run"),
        (
            "x --api-key \"abc def\" --client-secret 'abc' run",
            "x --api-key \"[REDACTED]\" --client-secret '[REDACTED]' run",
        ),
        (
            r#"["--password","hunter2","--verbose"]"#,
            r#"["--password","[REDACTED]","--verbose"]"#,
        ),
        (
            r#"{\"args\":[\"--token\", \"a b\"]}"#,
            r#"{\"args\":[\"--token\", \"[REDACTED]\"]}"#,
        ),
        (
            r#"[{"name":"Authorization","value":"Basic abc"},{"name":"Accept","value":"x"}]"#,
            r#"[{"name":"Authorization","value":"[REDACTED]"},{"name":"Accept","value":"x"}]"#,
        ),
        (
            r#"[{\"name\":\"X-Api-Key\", \"value\": \"abc def\"}]"#,
            r#"[{\"name\":\"X-Api-Key\", \"value\": \"[REDACTED]\"}]"#,
        ),
        (
            r#"["Authorization","Basic abc"]"#,
            r#"["Authorization","[REDACTED]"]"#,
        ),
        (
            r#"<add key="Password" value="a b"/>"#,
            r#"<add key="Password" value="[REDACTED]"/>"#,
        ),
        (
            "<db:apiKey>a b</db:apiKey><x>c</x>",
            "<db:apiKey>[REDACTED]</db:apiKey><x>c</x>",
        ),
        (
            "password: |\n  a b\n  c\nuser: x",
            "password: |\n  [REDACTED]\nuser: x",
        ),
        ("password: 'it''s' x", "password: '[REDACTED]' x"),
        (
            r#"Config { password: Some("a b"), n: 1 }"#,
            r#"Config { password: Some("[REDACTED]"), n: 1 }"#,
        ),
        (
            "https://h/?to=https%3A%2F%2Fg%3Ftoken%3Dabc%26x%3D1&y=2",
            "https://h/?to=https%3A%2F%2Fg%3Ftoken%3D[REDACTED]%26x%3D1&y=2",
        ),
        (
            "Server=x;Uid=sa;Pwd=a; done",
            "Server=x;Uid=sa;Pwd=[REDACTED] done",
        ),
        (
            "https://user:pa%40ss@host/eyJhbGciOiJub25lIn0.eyJzdWIiOiIxMjM0In0.abc/y",
            "https://[REDACTED]@host/[REDACTED]/y",
        ),
        (
            "password=12 token=1234",
            "password=[REDACTED] token=[REDACTED]",
        ),
    ] {
        assert_eq!(message(&rules, text), redacted, "{text}");
        assert_eq!(message(&rules, redacted), redacted, "{text}, again");
    }
}

#[test]
fn entries_with_a_name_and_a_value_are_those_of_a_map() {
    let text = r#"{"headers":[{"name":"Authorization","value":"Basic abc"},{"header":"X-Auth","values":["a"]}],"env":[{"name":"GITHUB_TOKEN","value":"abc"},{"name":"HOME","value":"x"}]}"#;
    let expected = text
        .replace("Basic abc", "[REDACTED]")
        .replace(r#"["a"]"#, r#"["[REDACTED]"]"#)
        .replace(r#""abc""#, r#""[REDACTED]""#);
    let expected: serde_json::Value = serde_json::from_str(&expected).unwrap();
    assert_eq!(attributes_json(&Rules::default(), text), expected);

    let entry = |value: &str| AnyValue {
        value: Some(any_value::Value::KvlistValue(KeyValueList {
            values: vec![
                key_value("name", string("Authorization")),
                key_value("value", string(value)),
            ],
        })),
    };
    let span = |value: &str| SpanRecord {
        span: Span {
            attributes: vec![key_value("header", entry(value))],
            ..Span::default()
        },
        ..SpanRecord::default()
    };
    let redacted = through(&Rules::default(), &Record::Span(Box::new(span("abc"))));
    assert_eq!(redacted.into_span().unwrap(), span("[REDACTED]"));
}

#[test]
fn a_number_that_is_text_is_replaced_and_one_that_is_none_stays() {
    let rules = Rules::default();
    for (number, kept) in [
        ("1e999", true),
        ("-12345678901234567890", true),
        ("hunter2", false),
    ] {
        let record = LogRecord::new(Timestamp::default(), Level::INFO, "")
            .with("password", Value::Number(number.into()));
        let expected = if kept {
            Value::Number(number.into())
        } else {
            Value::from("[REDACTED]")
        };
        assert_eq!(log(&rules, record).attribute("password"), Some(&expected));
    }
}

#[test]
fn shapes_are_found_wherever_they_stand() {
    let rules = Rules::default();
    let hex = "0123456789abcdef".repeat(4);
    let word = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let mut secrets = vec![
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P".to_owned(),
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxMjM0In0.".to_owned(),
        "eyJhbGciOiJkaXIifQ..abcdefghijklmnop.abcdefghijklmnop.abcdefghijklmnop".to_owned(),
        "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk\nAAAA==\n-----END OPENSSH PRIVATE KEY-----".to_owned(),
        "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQOY\n-----END PGP PRIVATE KEY BLOCK-----".to_owned(),
        "-----BEGIN RSA PRIVATE KEY-----\\r\\nMIIE\\r\\n-----END RSA PRIVATE KEY-----".to_owned(),
        "gca2a_c1_abc-DEF_1".to_owned(),
        "GCA2A_T1_abc".to_owned(),
        "AKIAIOSFODNN7EXAMPLE".to_owned(),
        "ASIAIOSFODNN7EXAMPLE".to_owned(),
        format!("SG.{}.{}", &word[..22], &word[..43]),
        "sk-abcdefghijklmnopqrstuvwxyz".to_owned(),
        "sk-proj-abc_def-ghi0123456789".to_owned(),
        format!("sk-or-v1-{hex}"),
        format!("github_pat_{}_{}", &word[..22], &word[..59]),
    ];
    for (prefix, length) in [
        ("ghp_", 36),
        ("gho_", 36),
        ("ghu_", 36),
        ("ghs_", 36),
        ("ghr_", 36),
        ("glpat-", 20),
        ("xoxb-", 24),
        ("xoxp-", 24),
        ("xoxs-", 24),
        ("xapp-1-", 24),
        ("AIza", 35),
        ("npm_", 36),
        ("pypi-AgEI", 40),
        ("hf_", 34),
        ("sk_live_", 24),
        ("rk_live_", 24),
        ("sk_test_", 24),
        ("whsec_", 32),
        ("dckr_pat_", 27),
        ("hvs.", 24),
        ("GOCSPX-", 28),
        ("gsk_", 52),
        ("lin_api_", 40),
        ("ATATT3", 60),
        ("ya29.", 40),
    ] {
        secrets.push(format!("{prefix}{}", &word[..length]));
    }
    for prefix in [
        "dop_v1_",
        "doo_v1_",
        "dor_v1_",
        "shpat_",
        "shpss_",
        "dapi",
        "rubygems_",
    ] {
        secrets.push(format!("{prefix}{hex}"));
    }
    for secret in &secrets {
        for (before, after) in [
            ("", ""),
            ("x ", " y"),
            ("(", ")"),
            ("key=", ""),
            ("\"", "\","),
            ("[", "]"),
            ("/", "/y"),
            (r"\n", r"\n"),
            ("é", "é"),
            ("a=1&b=", "&c=2"),
            ("%3D", "%26"),
            ("<", ">"),
            ("\n", "\n"),
        ] {
            let text = format!("{before}{secret}{after}");
            let redacted = message(&rules, &text);
            assert_eq!(redacted, format!("{before}[REDACTED]{after}"), "{text}");
        }
        let twice = format!("{secret} and {secret}, {secret}");
        assert_eq!(
            message(&rules, &twice),
            "[REDACTED] and [REDACTED], [REDACTED]"
        );
        // In every place of a span, keys and bytes included.
        let redacted = through(
            &rules,
            &Record::Span(Box::new(span_with(&format!("a {secret} b")))),
        );
        assert_eq!(
            redacted.into_span().unwrap(),
            span_with("a [REDACTED] b"),
            "{secret}"
        );
    }
}

/// A payload is searched before it is decoded, and what surrounds a string there is no text.
#[test]
fn a_secret_at_either_end_of_a_string_is_found_whatever_surrounds_it_in_the_payload() {
    let rules = Rules::default();
    for secret in [
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxMjM0In0.",
        "AKIAIOSFODNN7EXAMPLE",
        "sk-abcdefghijklmnopqrstuvwxyz",
        "SG.abcdefghijklmnopqrst.abcdefghijklmnopqrst",
        "u://a:b@c",
    ] {
        for length in 0..300 {
            let padding = "x ".repeat(length);
            let record = LogRecord::new(Timestamp::default(), Level::INFO, "m")
                .with("a", format!("{secret} {padding}"))
                .with("b", i64::try_from(length).unwrap())
                .with("c", format!("{padding} {secret}"))
                .with("d", i64::try_from(length).unwrap());
            let redacted = format!("{:?}", log(&rules, record));
            assert!(!redacted.contains(secret), "{redacted}");
        }
    }
}

#[test]
fn urls_lose_users_passwords_and_tokens() {
    let rules = Rules::default();
    for (text, redacted) in [
        (
            "https://user:pass@host:80/p?q=1",
            "https://[REDACTED]@host:80/p?q=1",
        ),
        ("redis://:pass@host", "redis://[REDACTED]@host"),
        ("amqp://u:p@ss@host/v", "amqp://[REDACTED]@host/v"),
        (
            r#"{"url":"http:\/\/u:p@h\/x"}"#,
            r#"{"url":"http:\/\/[REDACTED]@h\/x"}"#,
        ),
        (
            "HTTPS://U:P@H and ftp://a:b@c.",
            "HTTPS://[REDACTED]@H and ftp://[REDACTED]@c.",
        ),
        (
            "https://0123456789abcdef0123456789abcdef@o0.ingest.example/1",
            "https://[REDACTED]@o0.ingest.example/1",
        ),
        (
            r#""https://h/?access_token=abc","n":1"#,
            r#""https://h/?access_token=[REDACTED]","n":1"#,
        ),
        ("/x?a=1&TOKEN=b&c=2", "/x?a=1&TOKEN=[REDACTED]&c=2"),
        (
            "/x?client_secret=b&amp;api_key=c&amp;d=1",
            "/x?client_secret=[REDACTED]&amp;api_key=[REDACTED]&amp;d=1",
        ),
        (
            r"/x?token=b\u0026password=c\u0026d=1",
            r"/x?token=[REDACTED]\u0026password=[REDACTED]\u0026d=1",
        ),
        (
            "s3?X-Amz-Signature=abc&X-Amz-Credential=d/e&x=1",
            "s3?X-Amz-Signature=[REDACTED]&X-Amz-Credential=[REDACTED]&x=1",
        ),
        ("/x?key=abcdefghijklmnopq&v=1", "/x?key=[REDACTED]&v=1"),
        (
            "/x?auth=abcdefghijklmnopq&pwd=1&pass=2",
            "/x?auth=[REDACTED]&pwd=[REDACTED]&pass=[REDACTED]",
        ),
    ] {
        assert_eq!(message(&rules, text), redacted, "{text}");
        assert_eq!(message(&rules, redacted), redacted, "{text}, again");
    }
}

#[test]
fn headers_values_over_lines_and_json_at_any_depth() {
    let rules = Rules::default();
    for (text, redacted) in [
        ("Cookie: a=b; c=d\nHost: x", "Cookie: [REDACTED]\nHost: x"),
        (
            r"Cookie: a=b; c=d\r\nHost: x",
            r"Cookie: [REDACTED]\r\nHost: x",
        ),
        (
            "curl -H 'Cookie: a=b; c=d' http://h/",
            "curl -H 'Cookie: [REDACTED]' http://h/",
        ),
        (
            r#"{"set-cookie":"a=b; Path=/","n":1}"#,
            r#"{"set-cookie":"[REDACTED]","n":1}"#,
        ),
        (
            "map[Cookie:[a=b; c=d] N:[1]]",
            "map[Cookie:[[REDACTED]] N:[1]]",
        ),
        ("X-API-KEY: abc\nx", "X-API-KEY: [REDACTED]\nx"),
        (
            "curl -H 'X-Api-Key: abc' http://h/",
            "curl -H 'X-Api-Key: [REDACTED]' http://h/",
        ),
        ("password=\"a\nb c\nd\" x", "password=\"[REDACTED]\" x"),
        (
            "{'password': 'a b', 'n': 1}",
            "{'password': '[REDACTED]', 'n': 1}",
        ),
        (
            r#"{"OPENAI_KEY":"a b","n":1}"#,
            r#"{"OPENAI_KEY":"[REDACTED]","n":1}"#,
        ),
        (
            r#"{"token_count":12,"my_key":12}"#,
            r#"{"token_count":12,"my_key":12}"#,
        ),
        (
            "OPENAI_KEY=a BASIC_AUTH=b:c PATH=/bin",
            "OPENAI_KEY=[REDACTED] BASIC_AUTH=[REDACTED] PATH=/bin",
        ),
    ] {
        assert_eq!(message(&rules, text), redacted, "{text}");
        assert_eq!(message(&rules, redacted), redacted, "{text}, again");
    }
    let (mut text, mut redacted) = (
        r#"{"n":1,"password":"a b\"c","key":"x","SSH_KEY":"d"}"#.to_owned(),
        r#"{"n":1,"password":"[REDACTED]","key":"x","SSH_KEY":"[REDACTED]"}"#.to_owned(),
    );
    for depth in 0..5 {
        assert_eq!(message(&rules, &text), redacted, "depth {depth}");
        text = serde_json::json!({ "v": text }).to_string();
        redacted = serde_json::json!({ "v": redacted }).to_string();
    }
}
