//! A body that lies, is a bomb, is cut off or is no OTLP is refused with a status that says why, leaves nothing in
//! the store, and disturbs no other client.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Answer, JSON, PROTOBUF, Running};
use flate2::{Compression, write::GzEncoder};
use gridctl_telemetry::{
    Signal,
    external::opentelemetry_proto::tonic::{
        collector::trace::v1::ExportTraceServiceRequest,
        trace::v1::{ResourceSpans, ScopeSpans, Span},
    },
};
use prost::Message;
use std::io::{Read, Write};

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

/// The message of a refusal, in the encoding of the request.
fn said(answer: &Answer, content_type: &str) -> String {
    assert_eq!(
        format!("Content-Type: {}", answer.header("content-type")),
        content_type
    );
    if content_type == JSON {
        return answer.json()["message"].as_str().unwrap().to_owned();
    }
    let status = Status::decode(&*answer.body).unwrap();
    assert!(status.code > 0);
    status.message
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn nothing_is_stored(running: &Running) {
    for signal in Signal::ALL {
        assert_eq!(running.stored(signal), []);
    }
    assert_eq!(running.export(Signal::Logs, &[JSON], b"{}").status, 200);
}

#[test]
fn bytes_that_are_no_message() {
    let running = Running::start();
    for (content_type, body) in [
        (JSON, &b""[..]),
        (JSON, b"{"),
        (JSON, b"[]"),
        (JSON, b"null garbage"),
        (JSON, b"{\"resourceSpans\":3}"),
        (JSON, b"\xff\xfe"),
        (JSON, b"\x0a\x00"),
        (PROTOBUF, b"{}"),
        (PROTOBUF, b"\x0a\xff"),
        (PROTOBUF, b"\x0a\x05\x01"),
        (PROTOBUF, &[0xff; 64]),
    ] {
        let answer = running.export(Signal::Traces, &[content_type], body);
        assert_eq!(answer.status, 400, "{content_type} {body:?}: {answer:?}");
        let message = said(&answer, content_type);
        assert!(
            message.starts_with("the body is no OTLP message: "),
            "{message}"
        );
    }
    nothing_is_stored(&running);
}

#[test]
fn nesting_without_end() {
    let running = Running::start();
    let depth = 100_000;
    let json = format!(
        r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"body":{}{}}}]}}]}}]}}"#,
        r#"{"arrayValue":{"values":["#.repeat(depth),
        "]}}".repeat(depth)
    );
    let answer = running.export(Signal::Logs, &[JSON], json.as_bytes());
    assert_eq!(answer.status, 400);
    assert!(said(&answer, JSON).contains("nested"), "{}", answer.text());
    // A list in a value in a list, as protobuf: each level is two fields around the one before.
    let mut value = Vec::new();
    for _ in 0..2000 {
        for tag in [0x0a, 0x2a] {
            let mut outer = vec![tag];
            prost::encoding::encode_varint(value.len() as u64, &mut outer);
            outer.append(&mut value);
            value = outer;
        }
    }
    let mut body = value;
    for tag in [0x2a, 0x12, 0x12, 0x0a] {
        let mut outer = vec![tag];
        prost::encoding::encode_varint(body.len() as u64, &mut outer);
        outer.append(&mut body);
        body = outer;
    }
    let answer = running.export(Signal::Logs, &[PROTOBUF], &body);
    assert_eq!(answer.status, 400, "{answer:?}");
    nothing_is_stored(&running);
}

#[test]
fn other_types_and_encodings() {
    let running = Running::start();
    for headers in [
        &[][..],
        &["Content-Type: text/plain"],
        &["Content-Type: application/x-www-form-urlencoded"],
        &["Content-Type: application/protobuf"],
        &[JSON, "Content-Encoding: br"],
        &[JSON, "Content-Encoding: gzip, gzip"],
        &[JSON, "Content-Encoding: gzip", "Content-Encoding: gzip"],
    ] {
        let answer = running.export(Signal::Logs, headers, b"{}");
        assert_eq!(answer.status, 415, "{headers:?}");
        assert_eq!(answer.header("accept-encoding"), "gzip, zstd");
    }
    let typed = "Content-Type: Application/JSON; charset=utf-8";
    let answer = running.export(Signal::Logs, &[typed, "Content-Encoding: identity"], b"{}");
    assert_eq!((answer.status, answer.text().as_str()), (200, "{}"));
    assert_eq!(running.get("/v1/logs", &[]).status, 405);
    assert_eq!(
        running.request("POST /v1/profiles", &[JSON], b"{}").status,
        404
    );
    nothing_is_stored(&running);
}

#[test]
fn damaged_packing() {
    let running = Running::start();
    let zstd = zstd::encode_all(&b"{}"[..], 3).unwrap();
    let gzip = gzip(b"{}");
    for (encoding, body) in [
        ("gzip", &b"{}"[..]),
        ("gzip", &gzip[..gzip.len() - 1]),
        ("gzip", &gzip[..5]),
        ("zstd", b"{}"),
        ("zstd", &zstd[..zstd.len() - 1]),
        ("zstd", &gzip),
        ("gzip", &zstd),
    ] {
        let encoding = format!("Content-Encoding: {encoding}");
        for content_type in [JSON, PROTOBUF] {
            let answer = running.export(Signal::Metrics, &[content_type, &encoding], body);
            assert_eq!(answer.status, 400, "{encoding} {body:?}");
            said(&answer, content_type);
        }
    }
    nothing_is_stored(&running);
}

#[test]
fn bombs() {
    let running = Running::start();
    let zeros = vec![b' '; 256 << 20];
    let bombs = [
        ("gzip", gzip(&zeros)),
        ("zstd", zstd::encode_all(&*zeros, 3).unwrap()),
    ];
    drop(zeros);
    for (encoding, bomb) in &bombs {
        assert!(bomb.len() < 2 << 20);
        let encoding = format!("Content-Encoding: {encoding}");
        let answer = running.export(Signal::Logs, &[JSON, &encoding], bomb);
        assert_eq!(answer.status, 413, "{answer:?}");
        assert!(said(&answer, JSON).contains("when it is unpacked"));
    }
    // Spans that take two bytes each, and some hundred in memory.
    let spans = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            scope_spans: vec![ScopeSpans {
                spans: vec![Span::default(); 1 << 20],
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    };
    let body = spans.encode_to_vec();
    assert!(body.len() < 3 << 20);
    let answer = running.export(Signal::Traces, &[PROTOBUF], &body);
    assert_eq!(answer.status, 413);
    assert!(said(&answer, PROTOBUF).contains("send fewer records at once"));
    let json = format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{}{{}}]}}]}}]}}"#,
        "{},".repeat(1 << 20)
    );
    let answer = running.export(Signal::Traces, &[JSON], json.as_bytes());
    assert_eq!(answer.status, 413, "{}", answer.text());
    nothing_is_stored(&running);
}

#[test]
fn lengths_that_lie() {
    let running = Running::start();
    let head = |length: &str| {
        format!("POST /v1/logs HTTP/1.1\nHost: localhost\n{JSON}\n{length}\nConnection: close\n\n")
    };
    // More than may be sent: refused before any of it is read.
    let large = running.send(&head("Content-Length: 10000000000000"), b"");
    assert_eq!(large.status, 413);
    said(&large, JSON);
    for length in [
        "Content-Length: -1",
        "Content-Length: x",
        "Content-Length: 99999999999999999999999999",
        "Content-Length: 1\nContent-Length: 2",
        "Content-Length: 2\nTransfer-Encoding: chunked\nTransfer-Encoding: x",
    ] {
        let mut stream = running.connect();
        let text = head(length).replace('\n', "\r\n");
        stream.write_all(text.as_bytes()).unwrap();
        stream.write_all(b"{}").unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{length}: {answer}"
        );
    }
    // Less than is announced.
    let mut stream = running.connect();
    let text = head("Content-Length: 100").replace('\n', "\r\n");
    stream.write_all(text.as_bytes()).unwrap();
    stream.write_all(b"{}").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
        "{answer}"
    );
    // Chunks without end, up to the limit.
    let mut stream = running.connect();
    let text = head("Transfer-Encoding: chunked").replace('\n', "\r\n");
    stream.write_all(text.as_bytes()).unwrap();
    let chunk = [
        b"100000\r\n".to_vec(),
        vec![b' '; 1 << 20],
        b"\r\n".to_vec(),
    ]
    .concat();
    for _ in 0..64 {
        if stream.write_all(&chunk).is_err() {
            break;
        }
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 413"));
    nothing_is_stored(&running);
}

#[test]
fn large_heads_and_forms() {
    let running = Running::start();
    let long = format!("X-Long: {}", "x".repeat(300 << 10));
    assert_eq!(running.get("/", &[&long]).status, 431);
    let many: Vec<String> = (0..200).map(|number| format!("X-{number}: 1")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(running.get("/", &many).status, 431);
    let path = format!("GET /{}", "x".repeat(300 << 10));
    assert!([414, 431].contains(&running.request(&path, &[], &[]).status));
    let form = "Content-Type: application/x-www-form-urlencoded";
    let answer = running.request("POST /login", &[form], &vec![b'x'; 70 << 10]);
    assert_eq!(answer.status, 413);
    nothing_is_stored(&running);
}
