//! `/mcp` of a server answers agents, behind the guard like everything else.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![allow(
    unexpected_cfgs,
    reason = "the server's own tests also use these helpers with its feature `grpc`"
)]

#[path = "../../server/tests/common/mod.rs"]
mod server;

use gridctl_telemetry::{
    Level, LogRecord, ServerName, Store, StoreOptions, Timestamp, Writer, WriterOptions,
};
use gridctl_telemetry_mcp::Mcp;
use gridctl_telemetry_server::{ServerOptions, Token};
use serde_json::{Value, json};
use server::{Answer, JSON, Running};
use tempfile::TempDir;

const ACCEPT: &str = "Accept: application/json, text/event-stream";

/// A server with one log record, whose writer is not needed.
fn start(change: impl FnOnce(ServerOptions) -> ServerOptions) -> (Running, TempDir) {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path(), "gw", StoreOptions::default()).unwrap();
    let (writer, guard) = Writer::start(&store, WriterOptions::default()).unwrap();
    let record = LogRecord::new(Timestamp::now(), Level::ERROR, "over http");
    writer
        .log(&ServerName::new("github").unwrap(), &record)
        .unwrap();
    guard.close().unwrap();
    let routes = Mcp::of_store(store).routes();
    let running = Running::start_with(|options| change(options.routes(routes)));
    (running, home)
}

fn ask(running: &Running, headers: &[&str], method: &str, params: &Value) -> Answer {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let headers = [&[ACCEPT, JSON], headers].concat();
    running.request("POST /mcp", &headers, body.to_string().as_bytes())
}

fn search(running: &Running, headers: &[&str]) -> Answer {
    ask(
        running,
        headers,
        "tools/call",
        &json!({ "name": "search_logs", "arguments": {} }),
    )
}

#[test]
fn questions_are_answered_without_a_session() {
    let (running, _home) = start(|options| options);
    let client = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" } });
    let hello = ask(&running, &[], "initialize", &client);
    assert_eq!(hello.status, 200, "{}", hello.text());
    assert_eq!(hello.json()["result"]["protocolVersion"], "2025-06-18");
    assert_eq!(hello.header("mcp-session-id"), "");
    let answer = search(&running, &["MCP-Protocol-Version: 2025-06-18"]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    let found = &answer["result"]["structuredContent"];
    assert_eq!(found["records"][0]["untrusted"]["message"], "over http");
    assert!(answer["result"].to_string().len() <= 4096);
    assert_eq!(
        running.get("/mcp", &["Accept: text/event-stream"]).status,
        405
    );
    // What is not the protocol is refused, and the pages are still there.
    assert_eq!(
        running.request("POST /mcp", &[ACCEPT, JSON], b"{").status,
        415
    );
    assert_eq!(running.get("/", &[]).status, 200);
}

#[test]
fn the_guard_is_in_front() {
    let (running, _home) = start(|options| options);
    assert_eq!(search(&running, &["Host: rebound.example"]).status, 421);
    for origin in [
        &["Origin: https://evil.example"][..],
        &["Sec-Fetch-Site: cross-site", "Origin: https://evil.example"],
    ] {
        assert_eq!(search(&running, origin).status, 403, "{origin:?}");
    }
    let own = format!("Origin: http://{}", running.address);
    assert_eq!(search(&running, &[&own]).status, 200);
    // An origin that may send telemetry may not read it.
    let (running, _home) =
        start(|options| options.allow_origin("https://app.example.com").unwrap());
    assert_eq!(
        search(&running, &["Origin: https://app.example.com"]).status,
        403
    );

    let token = "t0".repeat(16);
    let (running, _home) = start(|options| options.token(Token::new(token.clone()).unwrap()));
    assert_eq!(search(&running, &[]).status, 401);
    let wrong = format!("Authorization: Bearer {}", "t1".repeat(16));
    assert_eq!(search(&running, &[&wrong]).status, 401);
    let bearer = format!("Authorization: Bearer {token}");
    assert_eq!(search(&running, &[&bearer]).status, 200);

    let large = vec![b' '; 65 << 10];
    assert_eq!(
        running
            .request("POST /mcp", &[ACCEPT, JSON, &bearer], &large)
            .status,
        413
    );
}
