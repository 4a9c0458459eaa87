//! A wipe deletes the files of gridctl's Go daemon, and no other files next to them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::Home;
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

const LINE: &str = "{\"ts\":\"2026-05-09T03:39:03Z\",\"level\":\"INFO\",\"msg\":\"ok\"}\n";

/// The files that a Go daemon writes for one server.
const DAEMONS: [&str; 5] = [
    "logs.jsonl",
    "logs-2026-05-01T00-00-00.000.jsonl",
    "logs-2026-04-01T00-00-00.000.jsonl.gz",
    "metrics.jsonl",
    "traces-2026-05-01T00-00-00.000.jsonl",
];

/// Similar names, which are the user's own files.
const USERS: [&str; 8] = [
    "logs-backup.jsonl",
    "logs.jsonl.gz",
    "logs.jsonl.bak",
    "logs-2026-05-01T00-00-00.000.jsonl.zst",
    "logs-2026-05-01T00-00-00.jsonl",
    "logs-2026-13-41T00-00-00.000.jsonl",
    "Logs.jsonl",
    "notes.txt",
];

fn write(folder: &Path, names: &[&str]) {
    fs::create_dir_all(folder).unwrap();
    for name in names {
        fs::write(folder.join(name), LINE).unwrap();
    }
}

fn stack(home: &Home, stack: &str) -> PathBuf {
    home.path().join("telemetry").join(stack)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn sorted(names: &[&str]) -> Vec<String> {
    let mut names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    names.sort();
    names
}

#[test]
fn an_import_in_place_and_a_wipe_leave_only_the_users_own_files() {
    let home = Home::new();
    let folder = stack(&home, "gw").join("github");
    write(
        &folder,
        &["logs.jsonl", "logs-2026-05-01T00-00-00.000.jsonl"],
    );
    let path = stack(&home, "gw");
    let import = home.run(&["import-jsonl", "gw", path.to_str().unwrap()]);
    assert_eq!(import.code, 0, "{import:?}");
    write(&folder, &DAEMONS);
    write(&folder, &USERS);
    let wiped = home.run(&["wipe", "gw", "-y"]);
    assert_eq!(wiped.code, 0, "{wiped:?}");
    for said in [
        "gw/github logs: 2 records",
        "gw/github logs: 3 files of gridctl's Go daemon",
        "gw/github metrics: 1 file of gridctl's Go daemon",
        "gw: deleted 5 files of gridctl's Go daemon",
    ] {
        assert!(wiped.stdout.contains(said), "{said}: {wiped:?}");
    }
    assert_eq!(names(&folder), sorted(&USERS));
    for name in USERS {
        let left = format!("left alone: {}", folder.join(name).display());
        assert!(wiped.stdout.contains(&left), "{left}: {wiped:?}");
    }
    let again = home.run(&["wipe", "gw", "-y"]);
    assert_eq!(
        (again.code, again.stdout.as_str()),
        (0, "Nothing to wipe.\n")
    );
}

#[test]
fn only_files_of_the_scope_are_deleted() {
    let home = Home::new();
    let gw = stack(&home, "gw");
    for server in ["github", "org/repo", "org"] {
        write(&gw.join(server), &DAEMONS);
    }
    write(&stack(&home, "other").join("github"), &DAEMONS);
    let wiped = home.run(&[
        "wipe", "gw", "--server", "org/repo", "--signal", "logs", "-y",
    ]);
    assert_eq!(wiped.code, 0, "{wiped:?}");
    assert!(!wiped.stdout.contains("left alone"), "{wiped:?}");
    assert_eq!(names(&gw.join("org/repo")), sorted(&DAEMONS[3..]));
    assert_eq!(names(&gw.join("github")), sorted(&DAEMONS));
    let wiped = home.run(&["wipe", "gw", "--server", "org", "-y"]);
    assert_eq!(wiped.code, 0, "{wiped:?}");
    assert_eq!(names(&gw.join("org")), ["repo"]);
    assert_eq!(names(&gw.join("org/repo")), sorted(&DAEMONS[3..]));
    assert_eq!(home.run(&["wipe", "gw", "-y"]).code, 0);
    assert!(names(&gw.join("github")).is_empty());
    assert!(names(&gw.join("org/repo")).is_empty());
    assert_eq!(
        names(&stack(&home, "other").join("github")),
        sorted(&DAEMONS)
    );
}

#[test]
fn links_lead_a_wipe_nowhere() {
    let home = Home::new();
    let elsewhere = tempfile::tempdir().unwrap();
    write(elsewhere.path(), &DAEMONS);
    let kept = elsewhere.path().join("kept.jsonl");
    fs::write(&kept, LINE).unwrap();
    let gw = stack(&home, "gw");
    let folder = gw.join("github");
    write(&folder, &["metrics.jsonl"]);
    symlink(elsewhere.path(), gw.join("linked")).unwrap();
    symlink(elsewhere.path(), folder.join("nested")).unwrap();
    symlink(
        elsewhere.path().join("logs.jsonl"),
        folder.join("logs.jsonl"),
    )
    .unwrap();
    fs::hard_link(&kept, folder.join("traces.jsonl")).unwrap();
    let wiped = home.run(&["wipe", "gw", "-y"]);
    assert_eq!(wiped.code, 0, "{wiped:?}");
    assert!(wiped.stdout.contains("gw: deleted 1 file of"), "{wiped:?}");
    for (path, reason) in [
        ("linked", "it is a link"),
        ("github/nested", "it is a link"),
        ("github/logs.jsonl", "it is a link"),
        ("github/traces.jsonl", "it is a hard link"),
    ] {
        let left = format!("left alone: {}: {reason}", gw.join(path).display());
        assert!(wiped.stdout.contains(&left), "{left}: {wiped:?}");
    }
    assert_eq!(
        names(elsewhere.path()),
        sorted(&[&DAEMONS[..], &["kept.jsonl"]].concat())
    );
    assert_eq!(names(&folder), ["logs.jsonl", "nested", "traces.jsonl"]);
}

#[test]
fn every_stack_is_wiped_only_when_asked_for() {
    let home = Home::new();
    for name in ["gw", "other"] {
        write(&stack(&home, name).join("github"), &DAEMONS);
    }
    let refused = home.run(&["wipe", "-y"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("--all"), "{refused:?}");
    assert_eq!(home.run(&["wipe", "gw", "--all", "-y"]).code, 2);
    for name in ["gw", "other"] {
        assert_eq!(names(&stack(&home, name).join("github")), sorted(&DAEMONS));
    }
    assert_eq!(home.run(&["wipe", "--all", "-y"]).code, 0);
    for name in ["gw", "other"] {
        assert!(names(&stack(&home, name).join("github")).is_empty());
    }
}

#[test]
fn a_pipe_answers_the_question() {
    let home = Home::new();
    let folder = stack(&home, "gw").join("github");
    write(&folder, &DAEMONS);
    for (line, code) in [
        ("echo n | \"$0\" wipe gw", 1),
        ("echo | \"$0\" wipe gw", 1),
        ("\"$0\" wipe gw </dev/null", 2),
    ] {
        let asked = home.shell(line);
        assert_eq!(asked.code, code, "{line}: {asked:?}");
        assert_eq!(names(&folder), sorted(&DAEMONS), "{line}");
    }
    let wiped = home.shell("echo y | \"$0\" wipe gw");
    assert_eq!(wiped.code, 0, "{wiped:?}");
    assert!(names(&folder).is_empty());
}
