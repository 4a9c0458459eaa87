//! `serve` opens a stack on a port, tells where, stores what it receives, and ends on a signal whatever its clients do.
//! An address that others could reach is refused without a token, before anything is created.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Home, Output, output};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    process::{Child, Stdio},
};

/// A running `serve`, and its address.
struct Serve {
    child: Child,
    address: String,
}

impl Serve {
    fn start(home: &Home, more: &[&str]) -> Serve {
        let args = [&["serve", "gw", "--listen", "127.0.0.1:0"], more].concat();
        let mut command = home.command(&args);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        said.read_line(&mut line).unwrap();
        let (_, url) = line.split_once("gw: pages at http://").unwrap();
        let (address, rest) = url.split_once("/,").unwrap();
        assert_eq!(rest, format!(" OTLP at http://{address}/v1/\n"));
        let address = address.to_owned();
        Serve { child, address }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.address).unwrap()
    }

    /// The status line of the answer to a log record.
    fn log(&self, headers: &str) -> String {
        let body = r#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"app"}}]},"scopeLogs":[{"logRecords":[{"body":{"stringValue":"hello"}}]}]}]}"#;
        let mut stream = self.connect();
        let head = format!(
            "POST /v1/logs HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.lines().next().unwrap_or_default().to_owned()
    }

    /// Ends it with a signal and returns its exit code.
    fn end(mut self, signal: Signal) -> i32 {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        // The process must not outlive a failed test.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn refused(home: &Home, args: &[&str]) -> Output {
    let refused = output(&mut home.command(args));
    assert_eq!(refused.code, 2, "{refused:?}");
    refused
}

#[test]
fn what_is_received_is_stored_when_it_ends() {
    let home = Home::new();
    for signal in [Signal::INT, Signal::TERM] {
        let serve = Serve::start(&home, &[]);
        assert_eq!(serve.log(""), "HTTP/1.1 200 OK");
        // Neither one that says nothing, nor one whose body is on its way, holds up the end.
        let _idle = serve.connect();
        let mut late = serve.connect();
        let head = format!(
            "POST /v1/logs HTTP/1.1\r\nHost: {}\r\nContent-Length: 9\r\n\r\n{{",
            serve.address
        );
        late.write_all(head.as_bytes()).unwrap();
        let mut kept = serve.connect();
        let asked = format!("GET /login HTTP/1.1\r\nHost: {}\r\n\r\n", serve.address);
        kept.write_all(asked.as_bytes()).unwrap();
        let mut first = [0; 12];
        kept.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        assert_eq!(serve.end(signal), 0);
    }
    assert_eq!(home.exported_logs().len(), 2);
}

#[test]
fn a_new_stack_has_the_default_limits() {
    let home = Home::new();
    assert_eq!(Serve::start(&home, &[]).end(Signal::TERM), 0);
    let status = home.run(&["status", "gw", "--json"]);
    assert!(
        status.stdout.contains("\"limitBytes\": 2147483648"),
        "{}",
        status.stdout
    );
}

#[test]
fn two_programs_serve_one_stack() {
    let home = Home::new();
    let (one, other) = (Serve::start(&home, &[]), Serve::start(&home, &[]));
    assert_eq!(one.log(""), "HTTP/1.1 200 OK");
    assert_eq!(other.log(""), "HTTP/1.1 200 OK");
    assert_eq!((one.end(Signal::TERM), other.end(Signal::TERM)), (0, 0));
    assert_eq!(home.exported_logs().len(), 2);
}

#[test]
fn the_token_of_a_file_is_needed() {
    let home = Home::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let token = "t1".repeat(20);
    fs::write(&path, &token).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let file = path.to_str().unwrap();
    let open = refused(
        &home,
        &[
            "serve",
            "gw",
            "--listen",
            "127.0.0.1:0",
            "--token-file",
            file,
        ],
    );
    assert!(open.stderr.contains("chmod 600"), "{}", open.stderr);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let serve = Serve::start(&home, &["--token-file", file]);
    assert_eq!(serve.log(""), "HTTP/1.1 401 Unauthorized");
    let bearer = format!("Authorization: Bearer {token}\r\n");
    assert_eq!(serve.log(&bearer), "HTTP/1.1 200 OK");
    assert_eq!(serve.end(Signal::TERM), 0);
}

#[test]
fn what_cannot_be_served_leaves_no_trace() {
    let home = Home::new();
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:4318"] {
        let open = refused(&home, &["serve", "gw", "--listen", address]);
        assert!(open.stderr.contains("set a token"), "{}", open.stderr);
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let busy = refused(&home, &["serve", "gw", "--listen", &address]);
    assert!(busy.stderr.contains("--listen"), "{}", busy.stderr);
    let origin = refused(&home, &["serve", "gw", "--allow-origin", "*"]);
    assert!(origin.stderr.contains("is no origin"), "{}", origin.stderr);
    let unnamed = refused(&home, &["serve", "--listen", "127.0.0.1:0"]);
    assert!(
        unnamed.stderr.contains("there is no telemetry"),
        "{}",
        unnamed.stderr
    );
    assert!(!home.database("gw").exists());
}
