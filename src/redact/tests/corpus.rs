//! Ordinary text stays as it is.

use super::*;

const LINES: &[&str] = &[
    "tool call completed tool=search duration_ms=12 status=ok",
    "key=42",
    "key=value cache_key=user:42 primary key: id",
    "token_count=5 tokens: 12 max_tokens=100 total_tokens: 3, input_tokens=12",
    "secretary: Jane; the secretary said so",
    "installed sk-learn 1.4.2, sk-learn-extra-and-some-other-package-name",
    "password reset requested for user 42",
    "the token was refreshed; a new token is needed",
    "no credentials were found",
    "authentication failed for author Jane, authority unknown",
    "author=jane auth=none authenticated=true",
    "keyboard shortcut: ctrl+k; monkey: see; turkey=cold",
    "cookie banner shown; cookies: 12; Cookie policy: read it",
    "4bf92f3577b34da6a3ce929d0e0e4736 00f067aa0ba902b7",
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "commit f58a951c0ffee5b7a1d2e3f405162738495a6b7c merged",
    "550e8400-e29b-41d4-a716-446655440000",
    "session 01ARZ3NDEKTSV4RRFFQ69G5FAV resumed",
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
    "eyJ is how JSON begins in base64",
    "eyJhIjoxfQ== is {\"a\":1}",
    "/usr/lib/python3/site-packages/sklearn/_secret.py:12",
    "/home/u/.ssh/id_rsa.pub /etc/ssl/private/key.pem",
    "C:\\Users\\u\\AppData\\Local\\Temp\\token.txt",
    "https://example.com/path?page=2&sort=key&key=42#top",
    "http://127.0.0.1:3000/mcp and http://[::1]:8080/x",
    "ssh://git@github.com/org/repo.git git@github.com:org/repo.git",
    "mail jane@example.com, see https://example.com/@jane:home",
    "https://example.com/a:b@c",
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ jane@host",
    "task-4 disk-usage-report-2024-11-26-of-the-whole-host risk-assessment",
    "sk-2024-11-26-report-final-version",
    "ASIA and AKIA are prefixes; Asian markets; Asia/Tokyo",
    "msg.text.value hooks.slack.com is a host",
    "xoxo from grandma",
    "npm_config_registry=https://registry.npmjs.org npm_lifecycle_event=test",
    "gh_pages ghp_ ghost_in_the_shell hf_hub_download",
    "Ünïcödé — „Zitat“ 日本語 🦀",
    "SELECT key, value FROM settings WHERE key = 'theme'",
    "panicked at src/main.rs:10:5: index out of bounds: the len is 3 but the index is 7",
    "{\"level\":\"info\",\"msg\":\"done\",\"key\":\"PROJ-1\",\"token_count\":12,\"author\":\"x\"}",
    "{\\\"key\\\":\\\"a\\\",\\\"n\\\":1}",
    "signature=none sig=9 pass=3 pwd=/home jwt=on",
    "public_key=abc PUBLIC_KEY=abc PRIMARY_KEY=id",
    "KEY: value, AUTH: LOGIN PLAIN",
    "gca2a is a prefix, gca2a_ and gca2a_c1_ too",
    "token: 12, secret: 12, token=12; credentials: 3",
    "password: null, token=true, secret: none, api_key: undefined",
    "   at com.example.auth.TokenFilter.doFilter(TokenFilter.java:42)",
    "  File \"/app/secret_store.py\", line 12, in get_token",
    "SELECT password FROM users WHERE token_id = 12 AND key = 'x'",
    "Unexpected token: } in JSON at position 0; unexpected token < too",
    "syntax error near unexpected token `('",
    "cat /etc/passwd: permission denied, file:///etc/passwd:12",
    "password must have at least 8 characters; forgot password? https://h/reset",
    "kubectl get secret my-secret -n ns; secret/my-secret created",
    "the --token flag is required; use --password to set the password",
    "usage: cli [--token TOKEN] [--password PASSWORD] --password-file /run/secrets/pw",
    "--token-limit 12 --max-tokens 12 --key value --secret --verbose",
    "<token> is a part; <password/> <secrets></secrets>",
    "[{\"name\":\"Accept\",\"value\":\"x\"},{\"name\":\"tokens\",\"value\":12}]",
    "[\"password\",\"username\"] are required fields",
    "POST /oauth/token 200 12ms; GET /v1/secrets/abc 404; oauth2 token endpoint https://h/token",
    "docker run -u 1000:1000 -p 80:80 x -p secret",
    "SKU12345 jwt authentication is on; basic auth failed; api key missing",
    "http://h:80/a@b mailto:a@b.c",
    "Bearer",
];

#[test]
fn ordinary_lines_stay_as_they_are() {
    let rules = Rules::default();
    for line in LINES {
        assert_eq!(message(&rules, line), *line);
    }
    let all = LINES.join("\n");
    // As one text the lines stay too, but for what a line before them could have opened.
    assert_eq!(message(&rules, &all), all);
}

#[test]
fn ordinary_attributes_stay_as_they_are() {
    let rules = Rules::default();
    for (index, line) in LINES.iter().enumerate() {
        let record = LogRecord::new(Timestamp::default(), Level::INFO, *line)
            .with("tool", "search")
            .with("key", *line)
            .with("cache_key", *line)
            .with("public_key", *line)
            .with("token_count", i64::try_from(index).unwrap())
            .with("input_tokens", "12")
            .with("author", *line)
            .with("keyboard", *line)
            .with("secretary", *line)
            .with("cookie_consent", "yes")
            .with(
                "nested",
                Value::Array(vec![(*line).into(), Value::Bool(true)]),
            );
        assert_eq!(log(&rules, record.clone()), record);
        let span = span_with(line);
        let redacted = through(&rules, &Record::Span(Box::new(span.clone())));
        assert_eq!(redacted.into_span().unwrap(), span);
    }
}

#[test]
fn entries_with_ordinary_names_stay_as_they_are() {
    let entry = |name: &str, value: Value| {
        Value::Object(vec![("name".into(), name.into()), ("value".into(), value)])
    };
    let record = LogRecord::new(Timestamp::default(), Level::INFO, "m")
        .with("name", "tool")
        .with("value", "x")
        .with(
            "list",
            Value::Array(vec![
                entry("Accept", "x".into()),
                entry("tokens", Value::Int(12)),
                entry("Authorization", Value::Bool(true)),
                entry("the token of Jane", "x".into()),
            ]),
        );
    assert_eq!(log(&Rules::default(), record.clone()), record);
}

#[test]
fn only_few_ordinary_lines_need_a_decoding() {
    let rules = Rules::default();
    for line in [
        "tool call completed tool=search duration_ms=12 status=ok",
        "http://127.0.0.1:3000/mcp answered 12 bytes",
        "4bf92f3577b34da6a3ce929d0e0e4736 550e8400-e29b-41d4-a716-446655440000",
        "task-4 disk-usage msg.text Asia/Tokyo eyJ xoxo npm_config_x",
    ] {
        assert!(!rules.may_contain_secret(line.as_bytes()), "{line}");
    }
}
