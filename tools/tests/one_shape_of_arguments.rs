//! All commands name stacks, servers, signals and times alike, and answer a wrong one with what is right.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Home, Output, output};
use std::{fs, os::unix::fs::PermissionsExt};

/// Commands about the records of a stack, without the stack and the servers.
const OF_RECORDS: &[(&str, &[&str])] = &[
    ("logs", &[]),
    ("tail", &["--no-follow"]),
    ("export-jsonl", &["--signal", "logs", "--stdout"]),
];
/// Commands that sum up the records of a stack, of some servers or of all.
const SUMS: &[&str] = &["traces", "calls", "usage", "count"];
/// Commands about one stack or all.
const OF_STACKS: &[&str] = &["status", "losses"];

/// A home whose stacks have the logs `from github` and `from slack` of two servers.
fn home(stacks: &[&str]) -> Home {
    let home = Home::new();
    let folder = tempfile::tempdir().unwrap();
    for server in ["github", "slack"] {
        let path = folder.path().join("logs.jsonl");
        let line = format!("{{\"ts\":\"2026-05-08T12:00:00Z\",\"msg\":\"from {server}\"}}\n");
        fs::write(&path, line).unwrap();
        for stack in stacks {
            let args = [
                "import-jsonl",
                stack,
                path.to_str().unwrap(),
                "--server",
                server,
            ];
            assert_eq!(home.run(&args).code, 0);
        }
    }
    home
}

fn run(home: &Home, command: &str, names: &[&str], options: &[&str]) -> Output {
    home.run(&[&[command], names, options].concat())
}

/// Which of the two servers are in the output.
fn servers(shown: &Output) -> Vec<&'static str> {
    assert_eq!(shown.code, 0, "{shown:?}");
    let has = |server: &&str| shown.stdout.contains(&format!("from {server}"));
    ["github", "slack"].into_iter().filter(has).collect()
}

#[test]
fn the_only_stack_may_be_left_out() {
    let one = home(&["gw"]);
    let two = home(&["gw", "lab"]);
    for (command, options) in OF_RECORDS {
        for (home, names, found) in [
            (&one, &[][..], &["github", "slack"][..]),
            (&one, &["gw"], &["github", "slack"]),
            (&one, &["slack"], &["slack"]),
            (&one, &["gw", "github"], &["github"]),
            (&one, &["--stack", "gw", "github"], &["github"]),
            (&one, &["--server", "slack"], &["slack"]),
            (&two, &["gw", "slack"], &["slack"]),
            (
                &two,
                &["lab", "--server", "slack", "github"],
                &["github", "slack"],
            ),
        ] {
            let shown = run(home, command, names, options);
            assert_eq!(servers(&shown), found, "{command} {names:?}");
        }
        let unclear = run(&two, command, &[], options);
        assert_eq!(unclear.code, 2, "{unclear:?}");
        let said = "name the stack: there are \"gw\" and \"lab\" below";
        assert!(unclear.stderr.contains(said), "{unclear:?}");
    }
    for command in SUMS {
        for names in [
            &[][..],
            &["gw"],
            &["github"],
            &["gw", "github"],
            &["--server", "slack"],
        ] {
            let shown = run(&one, command, names, &[]);
            assert!(
                [0, 1].contains(&shown.code),
                "{command} {names:?}: {shown:?}"
            );
            assert!(
                !shown.stderr.contains("no records of a server"),
                "{shown:?}"
            );
        }
        let unclear = run(&two, command, &[], &[]);
        assert_eq!(unclear.code, 2, "{unclear:?}");
        assert!(unclear.stderr.contains("name the stack"), "{unclear:?}");
    }
    for command in OF_STACKS {
        for names in [&[][..], &["gw"], &["gw", "github"], &["--server", "slack"]] {
            assert_eq!(
                run(&two, command, names, &[]).code,
                0,
                "{command} {names:?}"
            );
        }
    }
    let of_slack = run(&one, "status", &["slack"], &["--plain"]).stdout;
    assert!(
        of_slack.contains("slack") && !of_slack.contains("github"),
        "{of_slack}"
    );
}

#[test]
fn a_wrong_name_is_answered_with_the_nearest() {
    let one = home(&["gw"]);
    let two = home(&["gateway", "lab"]);
    for (command, options) in OF_RECORDS {
        let stack = run(&two, command, &["gatway"], options);
        let server = run(&one, command, &["gw", "githib"], options);
        let either = run(&one, command, &["githib"], options);
        for (shown, code, said) in [
            (stack, 2, "did you mean \"gateway\"?"),
            (
                server,
                1,
                "the stack \"gw\" has no records of a server \"githib\": did you mean \"github\"?",
            ),
            (
                either,
                2,
                "neither a stack nor a server of the only stack, \"gw\": did you mean \"github\"?",
            ),
        ] {
            assert_eq!(shown.code, code, "{command}: {shown:?}");
            assert!(shown.stderr.contains(said), "{command}: {shown:?}");
            assert_eq!(shown.stdout, "", "{command}");
        }
        let signal = run(&one, command, &["gw"], &["--signal", "trace"]);
        assert_eq!(signal.code, 2, "{signal:?}");
        let said = "expected logs, metrics or traces: did you mean traces?";
        assert!(signal.stderr.contains(said), "{signal:?}");
    }
    for command in SUMS.iter().chain(OF_STACKS) {
        let shown = run(&two, command, &["gatway"], &[]);
        assert_eq!(shown.code, 2, "{shown:?}");
        assert!(
            shown.stderr.contains("did you mean \"gateway\"?"),
            "{shown:?}"
        );
    }
    // A name cannot give the terminal a command.
    let evil = run(&two, "status", &["\u{1b}]0;owned\u{7}\u{202e}"], &[]);
    assert!(
        !evil.stderr.contains(['\u{1b}', '\u{7}', '\u{202e}']),
        "{evil:?}"
    );
}

#[test]
fn a_wrong_time_is_answered_with_the_known_forms() {
    let home = home(&["gw"]);
    let others = SUMS.iter().map(|command| (*command, &[][..]));
    for (command, options) in OF_RECORDS
        .iter()
        .copied()
        .chain(others)
        .chain([("losses", &[][..])])
    {
        let bad = run(&home, command, &["--since", "last tuesday"], options);
        assert_eq!(bad.code, 2, "{bad:?}");
        for said in [
            "--since: cannot read the time \"last tuesday\"",
            "yesterday",
            "14:03",
            "@1778",
        ] {
            assert!(bad.stderr.contains(said), "{said}: {bad:?}");
        }
        let inverted = run(&home, command, &["--since", "1h", "--until", "2h"], options);
        assert_eq!(inverted.code, 2, "{inverted:?}");
        assert!(inverted.stderr.contains("is after --until"), "{inverted:?}");
    }
    let found = run(
        &home,
        "logs",
        &["--since", "2026-05-08", "--until", "2026-05-09"],
        &["--utc"],
    );
    assert_eq!(servers(&found), ["github", "slack"]);
}

#[test]
fn a_home_that_cannot_be_read_is_named() {
    let home = home(&["gw"]);
    for (command, options) in OF_RECORDS.iter().chain(&[("status", &[][..])]) {
        let mut without = home.command(&[&[*command], *options].concat());
        let without = output(without.env_remove("GRIDCTL_HOME").env_remove("HOME"));
        assert_eq!(without.code, 2, "{without:?}");
        assert!(
            without.stderr.contains("set GRIDCTL_HOME or HOME"),
            "{without:?}"
        );
        let file = run(&home, command, &["--home", "/dev/null"], options);
        assert_eq!(file.code, 2, "{file:?}");
        assert!(
            file.stderr.contains("/dev/null/.gridctl/telemetry"),
            "{file:?}"
        );
        let empty = tempfile::tempdir().unwrap();
        let empty = run(
            &home,
            command,
            &["--home", empty.path().to_str().unwrap()],
            options,
        );
        let nothing = if *command == "status" { 0 } else { 2 };
        assert_eq!(empty.code, nothing, "{empty:?}");
    }
    // The superuser may read everything.
    if !rustix::process::geteuid().is_root() {
        let folder = home.path().join("telemetry");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o000)).unwrap();
        let refused = home.run(&["status"]);
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.stderr.contains("Permission denied"), "{refused:?}");
    }
}

#[test]
fn help_completions_and_pages_need_no_home() {
    let home = Home::new();
    let run = |args: &[&str]| {
        let mut command = home.command(args);
        output(command.env_remove("GRIDCTL_HOME").env_remove("HOME"))
    };
    let help = run(&["--help"]);
    assert_eq!(help.code, 0, "{help:?}");
    assert!(help.stdout.contains("Exit codes: 0 done"), "{help:?}");
    let commands: Vec<&str> = help
        .stdout
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .map_while(|line| line.strip_prefix("  ").filter(|line| !line.is_empty()))
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split(' ').next())
        .filter(|command| *command != "help")
        .collect();
    assert!(
        commands.len() >= 10 && commands.contains(&"wipe"),
        "{commands:?}"
    );
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell]);
        assert_eq!(script.code, 0, "{script:?}");
        for command in &commands {
            assert!(script.stdout.contains(command), "{command} of {shell}");
        }
    }
    let unknown = run(&["completions", "bish"]);
    assert!(
        unknown.code == 2 && unknown.stderr.contains("bash"),
        "{unknown:?}"
    );
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man/man1");
    let written = run(&["man", pages.to_str().unwrap()]);
    assert_eq!(written.code, 0, "{written:?}");
    for command in &commands {
        let help = run(&[command, "--help"]);
        assert!(
            help.code == 0 && help.stdout.contains("\nExamples:\n"),
            "{help:?}"
        );
        let page = pages.join(format!("gridctl-telemetry-{command}.1"));
        let page = fs::read_to_string(page).unwrap();
        assert!(page.contains(".SH") && page.contains("Examples:"), "{page}");
    }
    assert!(pages.join("gridctl-telemetry.1").exists() && pages.join("export-jsonl.1").exists());
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let refused = run(&["man", file.to_str().unwrap()]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(
        refused.stderr.contains("cannot create the folder"),
        "{refused:?}"
    );
}

#[test]
fn any_command_fits_twenty_columns_and_ends_with_its_reader() {
    let home = home(&["gw"]);
    let mut all: Vec<Vec<&str>> = OF_RECORDS
        .iter()
        .map(|(command, options)| [&[*command], *options].concat())
        .collect();
    all.extend(OF_STACKS.iter().map(|command| vec![*command]));
    all.extend([vec!["count"], vec!["count", "--by", "level"]]);
    all.extend([
        vec!["--help"],
        vec!["wipe", "--help"],
        vec!["status", "--space"],
    ]);
    for args in &all {
        let (code, shown) = home.terminal(20, 5, &[], args).finish();
        assert!(
            code == 0 && !shown.contains("panicked"),
            "{args:?}: {shown}"
        );
        let line = format!("\"$0\" {} 2>&1 | true", args.join(" "));
        let closed = home.shell(&line);
        assert_eq!((closed.code, closed.stdout.as_str()), (0, ""), "{args:?}");
    }
    let help = home.terminal(20, 5, &[("NO_COLOR", "1")], &["status", "--help"]);
    let (_, help) = help.finish();
    // Descriptions stand below their options, and are wrapped.
    let descriptions = help
        .lines()
        .filter_map(|line| line.strip_prefix("          "));
    let descriptions: Vec<&str> = descriptions.collect();
    assert!(descriptions.len() > 20, "{help}");
    let is_wrapped = |line: &&str| line.len() <= 10 || !line.contains(' ');
    assert!(descriptions.iter().all(is_wrapped), "{help}");
}
