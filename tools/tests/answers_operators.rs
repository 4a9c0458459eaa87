//! An operator's ten questions about a stack that a daemon writes, each answered by one command.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Home, output};
use gridctl_telemetry::{
    Level, LogRecord, ServerName, Store, StoreOptions, Timestamp, Writer, WriterGuard,
    WriterOptions, home::home_in, ingest::DropCause,
};
use serde_json::Value;
use std::path::PathBuf;

/// The stack of the demo's gateway, which another daemon writes now: this process.
struct Operator {
    home: Home,
    _folder: tempfile::TempDir,
    /// What `GRIDCTL_HOME` names.
    user_home: PathBuf,
    writer: Writer,
    _guard: WriterGuard,
}

impl Operator {
    fn new() -> Operator {
        let home = Home::new();
        let folder = tempfile::tempdir().unwrap();
        let mut demo = home.command(&["demo", "--seconds", "2"]);
        let demo = output(demo.env("TMPDIR", folder.path()));
        assert_eq!(demo.code, 0, "{demo:?}");
        let mut entries = folder.path().read_dir().unwrap();
        let user_home = entries.next().unwrap().unwrap().path();
        let path = home_in(&user_home).unwrap();
        let store = Store::open(&path, "demo", StoreOptions::default()).unwrap();
        let options = WriterOptions::default().record_bytes_max(64 << 10);
        let (writer, guard) = Writer::start(&store, options).unwrap();
        let operator = Operator {
            home,
            _folder: folder,
            user_home,
            writer,
            _guard: guard,
        };
        operator.store("listening").unwrap();
        operator.writer.flush().unwrap();
        operator
    }

    fn store(&self, message: &str) -> Result<(), DropCause> {
        let server = ServerName::new("github").unwrap();
        let record = LogRecord::new(Timestamp::now(), Level::INFO, message);
        self.writer.log(&server, &record)
    }

    /// The answer of a command, which ends with `code`. An underscore in its words is a space.
    fn ask(&self, line: &str, code: i32) -> String {
        let words: Vec<String> = line.split(' ').map(|word| word.replace('_', " ")).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut command = self.home.command(&words);
        let answer = output(
            command
                .env("GRIDCTL_HOME", &self.user_home)
                .env("TZ", "UTC"),
        );
        assert_eq!(answer.code, code, "{line}: {answer:?}");
        answer.stdout
    }

    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.ask(&format!("{line} -o json"), 0)).unwrap()
    }
}

fn has(answer: &str, expected: &[&str]) {
    for expected in expected {
        assert!(answer.contains(expected), "{expected:?} is not in {answer}");
    }
}

#[test]
fn ten_questions_have_an_answer_each() {
    let operator = Operator::new();

    // 1. Which calls failed in the last hour, and why?
    let answer = operator.ask("calls demo --failed --since 1h", 0);
    has(
        &answer,
        &[
            "postgres  query",
            "failed",
            "denied: token=[REDACTED]",
            "trace ",
        ],
    );

    // 2. What happened in this trace?
    let failed = operator.json("calls --failed -n 1");
    let (trace, tool) = (&failed["calls"][0]["traceId"], &failed["calls"][0]["tool"]);
    let (trace, tool) = (trace.as_str().unwrap(), tool.as_str().unwrap());
    let answer = operator.ask(&format!("trace demo {}", &trace[..12]), 0);
    has(
        &answer,
        &[
            trace,
            tool,
            "tools/call",
            "█",
            "denied: token=[REDACTED]",
            "tool call failed",
        ],
    );

    // 3. What did it log?
    let answer = operator.ask(&format!("logs demo --trace {trace}"), 0);
    has(&answer, &["calling the tool", "denied by the server"]);
    assert!(answer.lines().all(|line| line.contains(trace)), "{answer}");

    // 4. Which calls were the slowest?
    let slowest = operator.json("calls demo --slowest -n 5");
    let nanos = |call: &Value| call["durationNanos"].as_u64().unwrap();
    let calls = slowest["calls"].as_array().unwrap();
    assert!(
        calls.len() == 5 && calls.iter().map(nanos).rev().is_sorted(),
        "{slowest}"
    );
    has(
        &operator.ask("calls demo --slowest -n 5", 0),
        &[calls[0]["tool"].as_str().unwrap()],
    );

    // 5. What did it cost, hour by hour?
    let answer = operator.ask("usage demo --by hour", 0);
    has(&answer, &["HOUR", "COST", "$", "total"]);

    // 6. Who takes the disk?
    let answer = operator.ask("status demo", 0);
    has(
        &answer,
        &["SIZE", "github", "postgres", "slack", "KiB", "on disk"],
    );

    // 7. Is it storing now?
    let process = format!("process {} is writing", std::process::id());
    has(
        &operator.ask("status demo", 0),
        &[&process, "the last commit was"],
    );

    // 8. What was lost, and when?
    has(&operator.ask("losses demo", 0), &["No records were lost"]);
    operator.store(&"x".repeat(65 << 10)).unwrap_err();
    operator.store("smaller").unwrap();
    operator.writer.flush().unwrap();
    let today = &Timestamp::now().to_string()[..10];
    has(
        &operator.ask("losses demo --since 1h", 1),
        &["github", "too large", today],
    );

    // 9. Who writes since when?
    let since = format!("{process} since {}", &today[..8]);
    has(&operator.ask("status demo", 0), &[&since]);

    // 10. What happened at 14:03? Here in the minute of the call that failed.
    let minute: Timestamp = failed["calls"][0]["start"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let next = Timestamp::from_unix_nanos(minute.unix_nanos() + 60_000_000_000);
    let [minute, next] = [minute, next].map(|time| time.to_string()[..16].replace('T', "_"));
    let answer = operator.ask(&format!("logs demo --since {minute} --until {next}"), 0);
    has(&answer, &[trace, "calling the tool"]);
    let minute = minute.replace('_', "T");
    assert!(
        answer.lines().all(|line| line.starts_with(&minute)),
        "{answer}"
    );
}
