//! The official MCP client, in Python, asks about the demo's stack over stdio and over HTTP; and `mcp` writes nothing but the
//! protocol, and ends with its client and on signals.

#![cfg(feature = "mcp")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Home, output};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    env,
    ffi::OsString,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

/// When set to `1`, a client that cannot be run fails the test instead of skipping it.
const REQUIRE: &str = "GRIDCTL_TELEMETRY_REQUIRE_SDKS";
/// The interpreter of Python that has the client's package.
const PYTHON: &str = "GRIDCTL_TELEMETRY_SDK_PYTHON";
const PROGRAM: &str = env!("CARGO_BIN_EXE_gridctl-telemetry");

/// The interpreter, if it has the client.
fn python() -> Option<OsString> {
    let python = env::var_os(PYTHON).unwrap_or_else(|| "python3".into());
    let mut check = Command::new(&python);
    check.args(["-c", "from mcp import Client"]);
    if check.output().is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    let missing = format!("{} has no package mcp", python.display());
    let is_required = env::var_os(REQUIRE).is_some_and(|value| value == "1");
    assert!(!is_required, "{missing}");
    eprintln!("skipped: {missing}");
    None
}

/// The folder of a demo's stack.
fn demo() -> PathBuf {
    let demo = output(Command::new(PROGRAM).args(["demo", "--seconds", "1"]));
    assert_eq!(demo.code, 0, "{demo:?}");
    let line = demo.stdout.lines().next().unwrap();
    PathBuf::from(line.split_once(" below ").unwrap().1)
}

fn ask(python: &OsString, home: &Path, args: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mcp_client.py");
    let mut command = Command::new(python);
    command.arg(script).args(args).env("GRIDCTL_HOME", home);
    let asked = output(&mut command);
    assert_eq!(asked.code, 0, "{}\n{}", asked.stdout, asked.stderr);
    asked.stdout
}

#[test]
fn mcp_client_over_stdio_and_http() {
    let Some(python) = python() else { return };
    let home = demo();
    ask(&python, &home, &["stdio", PROGRAM]);
    let transcript = ask(&python, &home, &["stdio", PROGRAM, "--transcript"]);
    assert!(transcript.contains("> get_trace"), "{transcript}");
    let mut serve = Command::new(PROGRAM)
        .args(["serve", "--listen", "127.0.0.1:0"])
        .env("GRIDCTL_HOME", &home)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(serve.stdout.take().unwrap()).lines();
    let url = said.find_map(|line| {
        let line = line.unwrap();
        Some(line.split_once(": answers for agents at ")?.1.to_owned())
    });
    ask(&python, &home, &["http", &url.unwrap()]);
    kill_process(Pid::from_child(&serve), Signal::TERM).unwrap();
    assert_eq!(serve.wait().unwrap().code(), Some(0));
    std::fs::remove_dir_all(home).unwrap();
}

/// A running `mcp` that has said hello.
struct Mcp {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Mcp {
    fn start(home: &Home) -> Mcp {
        let mut child = home
            .command(&["mcp", "gw"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        let mut mcp = Mcp { child, said };
        mcp.say(r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}"#);
        let mut line = String::new();
        mcp.said.read_line(&mut line).unwrap();
        assert!(
            line.starts_with('{') && line.contains("serverInfo"),
            "{line}"
        );
        mcp
    }

    fn say(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        writeln!(stdin, "{line}").unwrap();
    }

    /// Its exit code, the rest of what it wrote, and what it said on standard error.
    fn end(mut self) -> (i32, String, String) {
        let (mut rest, mut noted) = (String::new(), String::new());
        self.said.read_to_string(&mut rest).unwrap();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut noted).unwrap();
        (self.child.wait().unwrap().code().unwrap_or(-1), rest, noted)
    }
}

#[test]
fn mcp_ends_with_its_client_and_on_signals() {
    let home = Home::new();
    for signal in [Signal::INT, Signal::TERM] {
        let mcp = Mcp::start(&home);
        kill_process(Pid::from_child(&mcp.child), signal).unwrap();
        let (code, rest, noted) = mcp.end();
        assert_eq!((code, rest.as_str()), (0, ""), "{noted}");
        assert!(noted.contains("there is no stack \"gw\" yet"), "{noted}");
    }
    // What was asked before the end of the input is answered.
    let mut mcp = Mcp::start(&home);
    mcp.say(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    mcp.say(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search_logs","arguments":{}}}"#);
    drop(mcp.child.stdin.take());
    let (code, rest, noted) = mcp.end();
    assert_eq!(code, 0, "{noted}");
    assert_eq!(rest.lines().count(), 1, "{rest}");
    assert!(
        rest.contains(r#""id":1"#) && rest.contains("has no database"),
        "{rest}"
    );
    // What is no protocol is told on standard error.
    let other = output(home.command(&["mcp"]).stdin(Stdio::null()));
    assert_eq!((other.code, other.stdout.as_str()), (0, ""), "{other:?}");
}
