//! `usage` shows what was counted, as a table with bars on a terminal, as JSON and as CSV.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Home, lines};
use serde_json::{Value, json};
use std::{fs, iter};

/// A home whose stack `gw` has metrics of two servers and of skills.
fn home() -> Home {
    let home = Home::new();
    let tokens = |input: i64, output: i64| json!({"input_tokens": input, "output_tokens": output, "total_tokens": input + output});
    let calls = |calls: i64, input: i64, output: i64| json!({"calls": calls, "last_called_at": "2026-05-08T21:59:00Z", "input_tokens": input, "output_tokens": output});
    let metrics = [
        json!({"ts": "2026-05-08T21:30:00Z", "server": "github", "reset": true, "diff": tokens(1000, 500), "total": tokens(1000, 500),
            "cost_diff": {"input_micro_usd": 3000, "output_micro_usd": 250}, "cost_total": {"input_micro_usd": 3000, "output_micro_usd": 250},
            "tool_usage": {"search": calls(4, 900, 500)}}),
        json!({"ts": "2026-05-08T22:30:00Z", "server": "github", "diff": tokens(200, 50), "total": tokens(1200, 550),
            "cost_diff": {"input_micro_usd": 12}, "cost_total": {"input_micro_usd": 3012, "output_micro_usd": 250},
            "tool_usage": {"search": calls(4, 900, 500), "=list,\u{1b}[31m": calls(1, 200, 50)}}),
        json!({"ts": "2026-05-08T22:31:00Z", "server": "zapier", "reset": true, "diff": tokens(10, 0), "total": tokens(10, 0)}),
        json!({"ts": "2026-05-08T22:32:00Z", "server": "__skills__", "diff": tokens(0, 0), "total": tokens(0, 0),
            "prompt_usage": {"review": {"calls": 3, "last_called_at": "2026-05-08T22:32:00Z"}}}),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    let lines: Vec<String> = metrics.iter().map(ToString::to_string).collect();
    fs::write(&path, lines.join("\n")).unwrap();
    let imported = home.run(&["import-jsonl", "gw", path.to_str().unwrap()]);
    assert_eq!(imported.code, 0, "{imported:?}");
    home
}

/// The arguments of `usage` for the time of the records.
fn usage<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let args = ["usage", "--since", "2026-05-08T00:00:00Z"];
    args.into_iter().chain(more.iter().copied()).collect()
}

fn words(text: &str) -> Vec<Vec<&str>> {
    let lines = text.lines();
    lines
        .map(|line| line.split_whitespace().collect())
        .collect()
}

#[test]
fn a_table_has_a_row_each_and_a_total() {
    let home = home();
    let shown = home.run(&usage(&[]));
    assert_eq!(shown.code, 0, "{shown:?}");
    assert_eq!(
        words(&shown.stdout),
        [
            vec!["SERVER", "CALLS", "INPUT", "OUTPUT", "TOKENS", "COST"],
            vec!["github", "5", "1,200", "550", "1,750", "$0.0033"],
            vec!["zapier", "0", "10", "0", "10", "-"],
            vec!["total", "5", "1,210", "550", "1,760", "$0.0033"],
        ]
    );
    let skills = home.run(&usage(&["--by", "skill"])).stdout;
    assert_eq!(
        words(&skills),
        [["SKILL", "CALLS"], ["review", "3"], ["total", "3"]]
    );
    let tools = home
        .run(&usage(&["--by", "tool", "--server", "github"]))
        .stdout;
    assert_eq!(
        words(&tools),
        [
            ["TOOL", "CALLS", "INPUT", "OUTPUT", "TOKENS"],
            ["search", "4", "900", "500", "1,400"],
            ["=list,\\u{1b}[31m", "1", "200", "50", "250"],
            ["-", "0", "100", "0", "100"],
            ["total", "5", "1,200", "550", "1,750"],
        ]
    );
}

#[test]
fn days_begin_in_the_zone_of_the_reader() {
    let home = home();
    let zone = [("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")];
    let by_day = usage(&["--by", "day"]);
    let (code, shown) = home.terminal(100, 40, &zone, &by_day).finish();
    assert_eq!(code, 0, "{shown}");
    let days = |shown: &str| -> Vec<String> {
        let rows = words(shown).into_iter().skip(1);
        rows.map(|row| format!("{} {}", row[0], row[4])).collect()
    };
    assert_eq!(
        days(&shown)[..2],
        ["2026-05-08 1,500", "2026-05-09 260"],
        "{shown}"
    );
    let utc = [&by_day[..], &["--utc"]].concat();
    let (_, shown) = home.terminal(100, 40, &zone, &utc).finish();
    assert_eq!(days(&shown)[..1], ["2026-05-08 1,760"], "{shown}");
    // The same days, written in UTC.
    let mut command = home.command(&by_day);
    let shown = common::output(command.envs(zone)).stdout;
    assert_eq!(
        days(&shown)[..2],
        ["2026-05-07T22:00:00Z 1,500", "2026-05-08T22:00:00Z 260"]
    );
    let (_, hours) = home
        .terminal(100, 40, &zone, &usage(&["--by", "hour"]))
        .finish();
    assert!(hours.contains("2026-05-08 23:00"), "{hours}");
}

#[test]
fn bars_fill_the_terminal_and_leave_when_it_is_narrow() {
    let home = home();
    let longest = |columns| {
        let (code, shown) = home
            .terminal(columns, 40, &[("NO_COLOR", "1")], &usage(&[]))
            .finish();
        assert_eq!(code, 0, "{shown}");
        let width = |line: &str| line.chars().count();
        assert!(
            shown
                .lines()
                .all(|line| width(line) <= usize::from(columns)),
            "{shown}"
        );
        let bars = |line: &str| line.matches('█').count();
        (shown.lines().map(bars).max().unwrap(), shown)
    };
    assert_eq!(longest(200).0, 40);
    let (bar, shown) = longest(70);
    assert!((8..40).contains(&bar), "{shown}");
    // The smaller server has a bar, too.
    assert!(lines(&shown)[2].ends_with('▏'), "{shown}");
    let (bar, shown) = longest(50);
    assert_eq!(bar, 0, "{shown}");
    assert!(shown.contains("TOKENS"), "{shown}");
    let (bar, shown) = longest(20);
    assert_eq!(bar, 0, "{shown}");
    assert!(lines(&shown).contains(&"TOKENS 1,750"), "{shown}");
}

#[test]
fn json_and_csv_are_for_programs() {
    let home = home();
    let json = home.run(&usage(&["--by", "hour,server", "--json"]));
    assert_eq!(json.code, 0, "{json:?}");
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["stack"], "gw");
    assert_eq!(json["since"], "2026-05-08T00:00:00Z");
    assert_eq!(
        json["rows"][1],
        json!({
            "time": "2026-05-08T22:00:00Z",
            "server": "github",
            "calls": 1,
            "tokens": {"input_tokens": 200, "output_tokens": 50, "total_tokens": 250},
            "cost": {
                "input_micro_usd": 12, "output_micro_usd": 0,
                "cache_read_micro_usd": 0, "cache_write_micro_usd": 0,
            },
        })
    );
    assert_eq!(json["total"]["tokens"]["total_tokens"], 1760);

    let csv = home
        .run(&usage(&["--by", "day,server", "--csv", "--utc"]))
        .stdout;
    assert_eq!(
        lines(&csv),
        [
            "day,server,calls,input_tokens,output_tokens,total_tokens,cost_usd",
            "2026-05-08T00:00:00Z,github,5,1200,550,1750,0.003262",
            "2026-05-08T00:00:00Z,zapier,0,10,0,10,",
        ]
    );
    let csv = home.run(&usage(&["--by", "tool", "--csv"])).stdout;
    assert!(csv.contains("\"=list,\\u{1b}[31m\",1,200,50,250,"), "{csv}");
}

#[test]
fn nothing_counted_ends_with_one_and_a_bad_question_with_two() {
    let home = home();
    for (more, code, said) in [
        (
            &["--until", "2026-05-08T12:00:00Z"][..],
            1,
            "nothing was counted since 2026-05-08",
        ),
        (
            &["--by", "model"],
            1,
            "no span has the attributes gen_ai.usage.*",
        ),
        (&["--by", "tool,model"], 2, "by tool and by model"),
        (&["--by", "weather"], 2, "possible values: server, tool"),
        (&["--json", "--csv"], 2, "cannot be used with"),
        (&["nowhere"], 2, "neither a stack nor a server"),
    ] {
        let shown = home.run(&usage(more));
        assert_eq!(shown.code, code, "{shown:?}");
        assert!(shown.stderr.contains(said), "{shown:?}");
    }
    // By default, the last day is summed up, and the records are older.
    assert_eq!(home.run(&["usage"]).code, 1);
    let json = home.run(&usage(&["--by", "model", "--json"]));
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["rows"], json!([]));
}

#[test]
fn a_closed_pipe_ends_it_quietly() {
    let home = home();
    let args: Vec<String> = usage(&["--by", "tool,hour", "--csv"])
        .into_iter()
        .map(|arg| format!("'{arg}'"))
        .collect();
    let line = iter::once("\"$0\" ".to_owned()).chain([args.join(" "), " | true".to_owned()]);
    let shown = home.shell(&line.collect::<String>());
    assert_eq!((shown.code, shown.stderr.as_str()), (0, ""));
}
