//! The calls of tools and skills are counted, stored and restored by the rules of the Go daemon's files.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Metered, home_in_memory, open, server};
use gridctl_telemetry::{
    Query, Record, Signal, Timestamp, WriterOptions,
    import::{ImportBatch, Importer},
    lines::{LineFormat, LineWriter, ParsedLine, parse_line},
    maintenance::WipeScope,
    metrics::{Accumulator, Attribution, SeedReport},
    query::SeedRange,
    record::CallCounts,
};
use std::path::Path;

const SKILLS: &str = "__skills__";

impl Metered {
    fn start(home: &Path) -> (Metered, SeedReport) {
        let daemon = Metered::start_with(home, WriterOptions::default(), ["github", SKILLS]);
        let seeded = daemon.flusher.seed(&daemon.store, SeedRange::default());
        (daemon, seeded.unwrap())
    }

    fn call(&self, tool: &str, tokens: [u64; 2], minute: i64) {
        let name = server("github");
        let to = Attribution::new(&name).tool(tool);
        self.accumulator.record_call(to, at(minute));
        let [input, output] = tokens;
        if tokens != [0, 0] {
            self.accumulator
                .record_tokens(to, input, output, at(minute));
        }
    }

    fn flush(&self, minute: i64) {
        self.flush_at(at(minute));
    }

    fn lines(&self, name: &str) -> Vec<String> {
        let snapshot = self.store.snapshot().unwrap();
        let query = Query::new(Signal::Metrics).server(server(name));
        let mut scan = snapshot.scan(&query).unwrap();
        let (mut writer, mut lines) = (LineWriter::new(LineFormat::Ndjson), Vec::new());
        while let Some(record) = scan.next().unwrap() {
            writer.write(&record, &mut lines).unwrap();
        }
        writer.finish(&mut lines);
        let lines = String::from_utf8(lines).unwrap();
        lines.lines().map(str::to_owned).collect()
    }

    fn restart(self, home: &Path) -> (Metered, SeedReport) {
        self.guard.close().unwrap();
        drop((self.flusher, self.writer, self.store));
        Metered::start(home)
    }
}

fn at(minute: i64) -> Timestamp {
    Timestamp::from_unix_nanos(1_778_283_600_000_000_000 + minute * 60_000_000_000)
}

fn calls(calls: i64, minute: i64, input_tokens: i64, output_tokens: i64) -> CallCounts {
    CallCounts {
        calls,
        last_called_at: Some(at(minute)),
        input_tokens,
        output_tokens,
    }
}

#[test]
fn lines_are_those_of_the_go_daemon() {
    let home = home_in_memory();
    let (daemon, _) = Metered::start(home.path());
    daemon.call("search", [3, 4], 0);
    daemon.call("fetch", [0, 0], 0);
    daemon.flush(0);
    // A call alone, without a token.
    daemon.call("fetch", [0, 0], 1);
    daemon.flush(1);
    daemon.flush(2);
    daemon.accumulator.record_skill_call("review", at(3));
    daemon.flush(3);
    daemon.accumulator.record_skill_call("review", at(4));
    daemon.flush(4);
    daemon.flush(5);
    let counts = r#"{"input_tokens":3,"output_tokens":4,"total_tokens":7}"#;
    let zeros = r#"{"input_tokens":0,"output_tokens":0,"total_tokens":0}"#;
    assert_eq!(
        daemon.lines("github"),
        [
            r#"{"reset":true,"ts":"2026-05-08T23:40:00Z","server":"github"}"#.to_owned(),
            format!(
                r#"{{"ts":"2026-05-08T23:40:00Z","server":"github","reset":true,"diff":{counts},"total":{counts},"tool_usage":{{"fetch":{{"calls":1,"last_called_at":"2026-05-08T23:40:00Z"}},"search":{{"calls":1,"last_called_at":"2026-05-08T23:40:00Z","input_tokens":3,"output_tokens":4}}}}}}"#
            ),
            format!(
                r#"{{"ts":"2026-05-08T23:41:00Z","server":"github","diff":{zeros},"total":{counts},"tool_usage":{{"fetch":{{"calls":2,"last_called_at":"2026-05-08T23:41:00Z"}},"search":{{"calls":1,"last_called_at":"2026-05-08T23:40:00Z","input_tokens":3,"output_tokens":4}}}}}}"#
            ),
        ]
    );
    assert_eq!(
        daemon.lines(SKILLS),
        [(1, 43), (2, 44)].map(|(calls, minute)| format!(
            r#"{{"ts":"2026-05-08T23:{minute}:00Z","server":"__skills__","diff":{zeros},"total":{zeros},"prompt_usage":{{"review":{{"calls":{calls},"last_called_at":"2026-05-08T23:{minute}:00Z"}}}}}}"#
        ))
    );
    daemon.guard.close().unwrap();
}

#[test]
fn calls_survive_a_restart_and_are_no_server() {
    let home = home_in_memory();
    let (daemon, _) = Metered::start(home.path());
    daemon.call("search", [3, 4], 0);
    daemon.accumulator.record_skill_call("review", at(0));
    daemon.flush(0);
    let (daemon, report) = daemon.restart(home.path());
    assert_eq!(
        report.servers[&server("github")].tools["search"],
        calls(1, 0, 3, 4)
    );
    assert_eq!(report.skills["review"], calls(1, 0, 0, 0));
    daemon.call("search", [10, 0], 5);
    daemon.accumulator.record_skill_call("review", at(5));
    let tools = &daemon.accumulator.tool_usage()["github"];
    assert_eq!(tools["search"], calls(2, 5, 13, 4));
    assert_eq!(
        daemon.accumulator.skill_usage()["review"],
        calls(2, 5, 0, 0)
    );
    daemon.flush(5);
    assert!(!daemon.lines("github").last().unwrap().contains("reset"));

    let reserved = server(SKILLS);
    daemon
        .accumulator
        .record_tokens(Attribution::new(&reserved), 1, 1, at(5));
    assert!(!report.servers.contains_key(SKILLS));
    assert!(!daemon.accumulator.snapshot().servers.contains_key(SKILLS));
    assert_eq!(daemon.flusher.configured_servers(), [server("github")]);
    daemon.guard.close().unwrap();
}

#[test]
fn a_reset_of_the_tokens_forgets_tools_and_no_skills() {
    let home = home_in_memory();
    let (daemon, _) = Metered::start(home.path());
    daemon.call("search", [3, 4], 0);
    daemon.call("fetch", [0, 0], 0);
    daemon.accumulator.record_skill_call("review", at(0));
    daemon.flush(0);
    daemon.accumulator.clear();
    assert!(daemon.accumulator.tool_usage().is_empty());
    // As many tokens as before: only the tools tell that counting began anew.
    daemon.call("list", [3, 4], 1);
    daemon.flush(1);
    assert!(
        daemon
            .lines("github")
            .last()
            .unwrap()
            .contains(r#""reset":true"#)
    );
    let (daemon, _) = daemon.restart(home.path());
    let tools = &daemon.accumulator.tool_usage()["github"];
    assert_eq!(tools.keys().collect::<Vec<_>>(), ["list"]);
    assert_eq!(
        daemon.accumulator.skill_usage()["review"],
        calls(1, 0, 0, 0)
    );
    daemon.guard.close().unwrap();
}

#[test]
fn a_wipe_forgets_calls() {
    for by_daemon in [true, false] {
        let home = home_in_memory();
        let (daemon, _) = Metered::start(home.path());
        daemon.call("search", [3, 4], 0);
        daemon.accumulator.record_skill_call("review", at(0));
        daemon.flush(0);
        let scope = WipeScope::everything().signal(Signal::Metrics);
        if by_daemon {
            daemon.writer.wipe(&scope).unwrap();
        } else {
            open(home.path()).wipe(&scope).unwrap();
        }
        daemon.call("search", [1, 0], 1);
        daemon.accumulator.record_skill_call("review", at(1));
        daemon.flush(1);
        let (daemon, _) = daemon.restart(home.path());
        let tools = &daemon.accumulator.tool_usage()["github"];
        assert_eq!(tools["search"], calls(1, 1, 1, 0), "{by_daemon}");
        assert_eq!(
            daemon.accumulator.skill_usage()["review"],
            calls(1, 1, 0, 0)
        );
        daemon.guard.close().unwrap();
    }
}

#[test]
fn files_of_newer_daemons_restore_counter_by_counter() {
    let line = |minute: i64, reset: &str, rest: &str| {
        format!(
            r#"{{"ts":"{}"{reset},"server":"github","diff":{{}},"total":{{"input_tokens":7}},{rest}}}"#,
            at(minute)
        )
    };
    let lines = [
        line(
            0,
            "",
            r#""tool_usage":{"old":{"calls":9,"last_called_at":"2026-05-08T23:40:00Z"}}"#,
        ),
        line(
            1,
            r#","reset":true"#,
            r#""tool_usage":{"a":{"calls":5,"last_called_at":"2026-05-08T23:41:00Z","input_tokens":2}}"#,
        ),
        line(
            2,
            "",
            r#""tool_usage":{"a":{"calls":4,"last_called_at":"2026-05-08T23:42:00Z","input_tokens":3},"b":{"calls":1,"last_called_at":"0001-01-01T00:00:00Z"},"c":7}"#,
        ),
        line(
            3,
            "",
            r#""prompt_usage":{"review":{"calls":2,"last_called_at":"2026-05-08T23:43:00Z"}}"#,
        )
        .replace("github", SKILLS),
    ];
    let home = home_in_memory();
    let store = open(home.path());
    let mut importer = Importer::new(&store).unwrap();
    let mut batch = ImportBatch::default();
    for line in &lines {
        let ParsedLine::Metrics(found) = parse_line(Signal::Metrics, line.as_bytes()).unwrap()
        else {
            panic!("no snapshot: {line}");
        };
        for (name, snapshot) in found {
            let name = server(&name.unwrap());
            batch.push(&name, &Record::Metrics(snapshot)).unwrap();
        }
    }
    importer.add(batch).unwrap();
    drop((importer, store));
    let file = home.path().join("metrics.jsonl");
    std::fs::write(&file, lines.join("\n")).unwrap();
    let (seeded, _) = Metered::start(home.path());
    let other = home_in_memory();
    let (from_file, _) = Metered::start(other.path());
    from_file
        .flusher
        .seed_from_file(&file, SeedRange::default())
        .unwrap();
    for daemon in [seeded, from_file] {
        let tools = &daemon.accumulator.tool_usage()["github"];
        assert_eq!(tools.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(tools["a"], calls(5, 2, 3, 0));
        assert_eq!((tools["b"].calls, tools["b"].last_called_at), (1, None));
        assert_eq!(
            daemon.accumulator.skill_usage()["review"],
            calls(2, 3, 0, 0)
        );
        daemon.guard.close().unwrap();
    }
}

#[test]
fn the_names_of_tools_are_bounded() {
    let accumulator = Accumulator::new();
    let name = server("github");
    for tool in 0..5000 {
        let tool = tool.to_string();
        accumulator.record_call(Attribution::new(&name).tool(tool.as_str()), at(0));
    }
    let long = "x".repeat(300);
    accumulator.record_call(Attribution::new(&name).tool(long.as_str()), at(0));
    let tools = &accumulator.tool_usage()["github"];
    assert_eq!(tools.len(), 4097);
    assert_eq!(tools["__other__"].calls, 905);
}
