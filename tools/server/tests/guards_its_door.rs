//! Requests that must not reach the store do not: those of pages of other origins, of names that are not the
//! server's, without the token, and with a token that is wrong. Each test shows the request that is refused, and
//! one that is not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{JSON, PROTOBUF, Running};
use gridctl_telemetry::{Signal, Store, StoreOptions, Writer, WriterOptions};
use gridctl_telemetry_server::{Server, ServerError, ServerOptions, Token, TokenError};
use std::{fs, os::unix::fs::PermissionsExt};

/// Made here, because a secret in a file would be one that others have seen.
fn token() -> String {
    "t0".repeat(16)
}

fn with_token() -> Running {
    Running::start_with(|options| options.token(Token::new(token()).unwrap()))
}

const LOG: &[u8] = br#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"app"}}]},
    "scopeLogs":[{"logRecords":[{"body":{"stringValue":"hello"}}]}]}]}"#;

#[test]
fn names_that_are_not_the_servers_are_refused() {
    let running = Running::start();
    let port = running.address.port();
    let status = |host: &str| running.get("/", &[&format!("Host: {host}")]).status;
    // A page at rebound.example whose name now points to this machine.
    for host in [
        "rebound.example",
        "rebound.example:4318",
        "localhost.rebound.example",
        "192.0.2.1",
        "[2001:db8::1]:4318",
        "127.0.0.1.rebound.example",
    ] {
        assert_eq!(status(host), 421, "{host}");
    }
    for host in [
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
        "LOCALHOST".to_owned(),
        "[::1]:1".to_owned(),
        "127.1.2.3".to_owned(),
    ] {
        assert_eq!(status(&host), 200, "{host}");
    }
    // None, two, and two that differ.
    assert_eq!(running.send("GET / HTTP/1.0\n\n", &[]).status, 400);
    let two = "GET / HTTP/1.1\nHost: localhost\nHost: localhost\nConnection: close\n\n";
    assert_eq!(running.send(two, &[]).status, 400);
    let differ = "GET http://localhost/ HTTP/1.1\nHost: rebound.example\nConnection: close\n\n";
    assert_eq!(running.send(differ, &[]).status, 400);
}

#[test]
fn a_name_can_be_allowed() {
    let running = Running::start_with(|options| options.allow_host("Telemetry.Example.com"));
    let status = |host: &str| running.get("/", &[&format!("Host: {host}")]).status;
    assert_eq!(status("telemetry.example.com:8443"), 200);
    assert_eq!(status("example.com"), 421);
}

#[test]
fn pages_of_other_origins_change_nothing() {
    let running = Running::start();
    let own = format!("Origin: http://{}", running.address);
    let export = |headers: &[&str]| {
        running
            .export(Signal::Logs, &[&[JSON], headers].concat(), LOG)
            .status
    };
    for headers in [
        &["Origin: https://evil.example"][..],
        &["Origin: null"],
        // Another port of this machine is another origin.
        &["Origin: http://127.0.0.1:1"],
        &["Sec-Fetch-Site: cross-site"],
        &["Sec-Fetch-Site: same-site"],
        // A form of another page, which follows a link.
        &[
            "Sec-Fetch-Site: cross-site",
            "Sec-Fetch-Mode: navigate",
            "Sec-Fetch-Dest: document",
        ],
    ] {
        assert_eq!(export(headers), 403, "{headers:?}");
    }
    assert!(running.stored(Signal::Logs).is_empty());
    for headers in [
        &[][..],
        &[own.as_str()],
        &["Sec-Fetch-Site: same-origin"],
        &["Sec-Fetch-Site: none"],
    ] {
        assert_eq!(export(headers), 200, "{headers:?}");
    }
    assert_eq!(running.stored(Signal::Logs).len(), 4);
}

#[test]
fn scripts_of_other_origins_read_nothing() {
    let running = Running::start();
    let get = |headers: &[&str]| running.get("/", headers);
    for headers in [
        &[
            "Origin: https://evil.example",
            "Sec-Fetch-Site: cross-site",
            "Sec-Fetch-Mode: cors",
        ][..],
        &[
            "Sec-Fetch-Site: cross-site",
            "Sec-Fetch-Mode: no-cors",
            "Sec-Fetch-Dest: image",
        ],
        &[
            "Sec-Fetch-Site: cross-site",
            "Sec-Fetch-Mode: navigate",
            "Sec-Fetch-Dest: iframe",
        ],
        &["Origin: https://evil.example"],
    ] {
        let answer = get(headers);
        assert_eq!(answer.status, 403, "{headers:?}");
        assert_eq!(answer.header("access-control-allow-origin"), "");
    }
    let link = [
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Mode: navigate",
        "Sec-Fetch-Dest: document",
    ];
    assert_eq!(get(&link).status, 200);
}

#[test]
fn a_named_origin_may_send_telemetry_and_nothing_else() {
    let running =
        Running::start_with(|options| options.allow_origin("https://app.example").unwrap());
    let origin = "Origin: https://app.example";
    let site = "Sec-Fetch-Site: cross-site";
    let asks = "Access-Control-Request-Headers: content-type,x-sdk";
    let before = running.request("OPTIONS /v1/logs", &[origin, site, asks], &[]);
    assert_eq!(before.status, 204);
    assert_eq!(
        before.header("access-control-allow-origin"),
        "https://app.example"
    );
    assert_eq!(before.header("access-control-allow-methods"), "POST");
    assert_eq!(
        before.header("access-control-allow-headers"),
        "content-type,x-sdk"
    );
    let sent = running.export(Signal::Logs, &[JSON, origin, site], LOG);
    assert_eq!(sent.status, 200);
    assert_eq!(
        sent.header("access-control-allow-origin"),
        "https://app.example"
    );
    assert_eq!(running.stored(Signal::Logs).len(), 1);
    // A refusal can be read, too.
    let bad = running.export(Signal::Logs, &[JSON, origin, site], b"{");
    assert_eq!(
        (bad.status, bad.header("access-control-allow-origin")),
        (400, "https://app.example")
    );

    for other in [
        "Origin: https://app.example.evil",
        "Origin: http://app.example",
        "Origin: https://evil.example",
    ] {
        let before = running.request("OPTIONS /v1/logs", &[other, site], &[]);
        assert!(before.status >= 400, "{before:?}");
        assert_eq!(before.header("access-control-allow-origin"), "");
        assert_eq!(
            running
                .export(Signal::Logs, &[JSON, other, site], LOG)
                .status,
            403
        );
    }
    let read = running.get("/", &[origin, site]);
    assert_eq!(
        (read.status, read.header("access-control-allow-origin")),
        (403, "")
    );
}

#[test]
fn an_origin_is_a_scheme_and_a_host() {
    for origin in [
        "",
        "app.example",
        "https://",
        "https://a/path",
        "https://user@a",
        "https://a?b",
        "null",
        "*",
    ] {
        assert!(
            ServerOptions::default().allow_origin(origin).is_err(),
            "{origin}"
        );
    }
    for origin in [
        "https://a",
        "http://localhost:3000",
        "https://[::1]:8443",
        "https://a/",
    ] {
        assert!(
            ServerOptions::default().allow_origin(origin).is_ok(),
            "{origin}"
        );
    }
}

#[test]
fn every_address_needs_the_token() {
    let running = with_token();
    let bearer = format!("Authorization: Bearer {}", token());
    for path in ["/", "/api/telemetry/inventory", "/no/such/page"] {
        let answer = running.get(path, &[]);
        assert_eq!(answer.status, 401, "{path}");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_ne!(running.get(path, &[&bearer]).status, 401, "{path}");
    }
    let wrong = [
        format!("Authorization: Bearer {}x", token()),
        format!("Authorization: Bearer {}", &token()[1..]),
        "Authorization: Bearer ".to_owned(),
        format!("Authorization: Basic {}", token()),
        format!("Authorization: {}", token()),
        format!(
            "Cookie: gridctl-telemetry-{}={}",
            running.address.port(),
            token()
        ),
    ];
    for header in &wrong {
        assert_eq!(running.get("/", &[header]).status, 401, "{header}");
        let sent = running.export(Signal::Logs, &[JSON, header], LOG);
        assert_eq!(sent.status, 401, "{header}");
        assert_eq!(sent.json()["code"], 16);
    }
    assert!(running.stored(Signal::Logs).is_empty());
    assert_eq!(
        running.export(Signal::Logs, &[JSON, &bearer], LOG).status,
        200
    );
    assert_eq!(
        running
            .export(Signal::Logs, &[PROTOBUF, &bearer], &[])
            .status,
        200
    );
}

#[test]
fn a_browser_logs_in_with_the_token() {
    let running = with_token();
    let html = "Accept: text/html";
    let led = running.get("/logs?level=error&x=%2F", &[html]);
    assert_eq!(led.status, 303);
    let login = led.header("location");
    assert_eq!(login, "/login?next=%2Flogs%3Flevel%3Derror%26x%3D%252F");
    let page = running.get(login, &[html]);
    assert_eq!(page.status, 200);
    assert!(
        page.text()
            .contains(r#"value="/logs?level=error&amp;x=%2F""#),
        "{}",
        page.text()
    );

    let form = "Content-Type: application/x-www-form-urlencoded";
    let answer_to = |token: &str, next: &str| {
        let body = format!("token={token}&next={next}");
        running.request("POST /login", &[form], body.as_bytes())
    };
    let wrong = answer_to("wrong", "%2Flogs");
    assert_eq!((wrong.status, wrong.header("set-cookie")), (401, ""));
    let right = answer_to(&token(), "%2Flogs");
    assert_eq!((right.status, right.header("location")), (303, "/logs"));
    let cookie = right.header("set-cookie");
    for word in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(word), "{cookie}");
    }
    assert!(!cookie.contains(&token()));
    let session = format!("Cookie: other=1; {}", cookie.split(';').next().unwrap());
    assert_eq!(running.get("/", &[html, &session]).status, 200);
    let stale = format!("Cookie: gridctl-telemetry-{}=AAAA", running.address.port());
    assert_eq!(running.get("/", &[html, &stale]).status, 303);
    // The way back leads to this server only.
    for next in [
        "%2F%2Fevil.example",
        "https%3A%2F%2Fevil.example",
        "%2F%5Cevil.example",
        "",
    ] {
        assert_eq!(answer_to(&token(), next).header("location"), "/", "{next}");
    }
}

#[test]
fn addresses_that_others_reach_need_a_token() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path(), "gw", StoreOptions::default()).unwrap();
    let (writer, _guard) = Writer::start(&store, WriterOptions::default()).unwrap();
    let start = |options| Server::new(store.clone(), writer.clone(), options);
    for address in [
        "0.0.0.0:4318",
        "[::]:4318",
        "192.0.2.1:4318",
        "[2001:db8::1]:4318",
    ] {
        let options = ServerOptions::default().listen(address.parse().unwrap());
        let refused = start(options.clone());
        assert!(
            matches!(refused, Err(ServerError::WithoutToken { .. })),
            "{address}"
        );
        assert!(
            start(options.token(Token::new(token()).unwrap())).is_ok(),
            "{address}"
        );
    }
    for address in [
        "127.0.0.1:0",
        "127.9.9.9:1",
        "[::1]:4318",
        "[::ffff:127.0.0.1]:4318",
    ] {
        let options = ServerOptions::default().listen(address.parse().unwrap());
        assert!(start(options).is_ok(), "{address}");
    }
}

#[test]
fn a_token_that_others_may_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    fs::write(&path, format!("{}\n", token())).unwrap();
    for mode in [0o644, 0o640, 0o620, 0o604] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let refused = Token::from_file(&path).unwrap_err();
        assert!(matches!(refused, TokenError::TooOpen { .. }), "{mode:o}");
        assert!(!refused.to_string().contains(&token()));
    }
    for mode in [0o600, 0o400] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert!(Token::from_file(&path).is_ok());
    }
    for unsuitable in [
        "",
        "short",
        "with a space in the middle",
        "näive-but-long-enough-token",
    ] {
        fs::write(&path, "").ok();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, unsuitable).unwrap();
        assert!(matches!(
            Token::from_file(&path),
            Err(TokenError::Unsuitable)
        ));
    }
    let missing = Token::from_file(&folder.path().join("missing"));
    assert!(matches!(missing, Err(TokenError::Io { .. })));
}

#[test]
fn every_answer_says_what_a_browser_may_do_with_it() {
    let running = Running::start();
    let answers = [
        running.get("/", &[]),
        running.get("/no/such/page", &[]),
        running.get("/api/telemetry/inventory", &[]),
        running.get("/", &["Host: rebound.example"]),
        running.export(Signal::Logs, &[JSON], b"{"),
    ];
    for answer in answers {
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'self'"), "{answer:?}");
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"));
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("referrer-policy"), "same-origin");
        assert_eq!(answer.header("cache-control"), "no-store");
    }
}
