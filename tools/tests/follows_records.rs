//! `tail` and `logs -f` show new records as they arrive, whatever happens to the daemon and its database.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Helper, Home, Running, helper_arguments, say, told};
use gridctl_telemetry::{
    Level, LogRecord, ServerName, Store, StoreOptions, Timestamp, Writer, WriterOptions,
};
use std::{fs, path::Path};

/// A daemon: it stores each line that it is told, `SERVER LEVEL MESSAGE`, and says when it is stored.
#[test]
fn helper_stores() {
    let Some(arguments) = helper_arguments() else {
        return;
    };
    let store = Store::open(Path::new(&arguments[0]), "gw", StoreOptions::default()).unwrap();
    let (writer, _guard) = Writer::start(&store, WriterOptions::default()).unwrap();
    while let Some(line) = told() {
        let mut words = line.splitn(3, ' ');
        let server = ServerName::new(words.next().unwrap()).unwrap();
        let level: Level = words.next().unwrap().parse().unwrap();
        let record = LogRecord::new(Timestamp::now(), level, words.next().unwrap());
        writer.log(&server, &record).unwrap();
        writer.flush().unwrap();
        say("stored");
    }
}

struct Daemon(Helper);

impl Daemon {
    fn start(home: &Home) -> Daemon {
        Daemon(Helper::start(
            "helper_stores",
            &[home.path().to_str().unwrap()],
        ))
    }

    fn store(&mut self, line: &str) {
        self.0.tell(line);
        assert_eq!(self.0.heard(), "stored");
    }
}

/// Follows from the last record on, with only the messages shown.
fn follow(home: &Home, args: &[&str]) -> Running {
    home.start(&[args, &["-f", "-o", "cat"]].concat())
}

#[test]
fn a_follower_survives_a_daemon_that_is_killed_and_restarted() {
    let home = Home::new();
    let mut daemon = Daemon::start(&home);
    daemon.store("github warn disk zero");
    daemon.store("jira error one");
    daemon.store("slack info two");
    let mut all = follow(&home, &["tail", "-n", "2"]);
    assert_eq!(all.take(2), ["one", "two"]);
    let disks = ["github", "slack", "-l", "warn", "-g", "DISK"];
    let mut some = follow(&home, &[&["logs", "gw"], &disks[..]].concat());
    assert_eq!(some.line(), "disk zero");
    let mut around = follow(&home, &["logs", "-l", "error", "-C1"]);
    assert_eq!(around.take(3), ["disk zero", "one", "two"]);
    daemon.store("github warn a disk");
    assert_eq!(
        (all.line(), some.line()),
        ("a disk".into(), "a disk".into())
    );
    daemon.store("github info disk");
    daemon.store("jira error disk of jira");
    daemon.store("slack error no match");
    assert_eq!(all.take(3), ["disk", "disk of jira", "no match"]);
    daemon.0.kill();
    let mut daemon = Daemon::start(&home);
    daemon.store("github info four");
    daemon.store("new-server info five");
    daemon.store("slack error disk of slack");
    assert_eq!(all.take(3), ["four", "five", "disk of slack"]);
    assert_eq!(some.line(), "disk of slack");
    daemon.store("slack info six");
    assert_eq!(all.line(), "six");
    // Records around a match, among those that arrived before it and after it.
    let found = [
        "--",
        "disk",
        "disk of jira",
        "no match",
        "four",
        "five",
        "disk of slack",
        "six",
    ];
    assert_eq!(around.take(found.len()), found);
    for follower in [all, some, around] {
        let (code, rest, said) = follower.interrupt();
        assert_eq!((code, rest.len(), said.as_str()), (0, 0, ""), "{rest:?}");
    }
}

#[test]
fn a_follower_survives_a_wiped_and_a_replaced_database() {
    let home = Home::new();
    let mut daemon = Daemon::start(&home);
    daemon.store("github info one");
    let file = home.path().join("cursor");
    let file = file.to_str().unwrap();
    let mut tail = follow(&home, &["tail", "gw", "github", "--cursor-file", file]);
    assert_eq!(tail.line(), "one");
    assert_eq!(home.run(&["wipe", "gw", "-y"]).code, 0);
    daemon.store("github info after the wipe");
    assert_eq!(tail.line(), "after the wipe");
    daemon.0.kill();
    // Replaced by another database, as when a backup is restored.
    let elsewhere = Home::new();
    let mut other = Daemon::start(&elsewhere);
    other.store("github info in the other");
    other.0.kill();
    let folder = home.path().join("telemetry/gw");
    fs::rename(elsewhere.database("gw"), folder.join("restored")).unwrap();
    fs::rename(folder.join("restored"), home.database("gw")).unwrap();
    assert_eq!(tail.line(), "in the other");
    // Deleted with its folder, and created again.
    fs::remove_dir_all(&folder).unwrap();
    let mut daemon = Daemon::start(&home);
    daemon.store("github info in a new one");
    assert_eq!(tail.line(), "in a new one");
    let (code, rest, _) = tail.interrupt();
    assert_eq!((code, rest.len()), (0, 0));
    // The cursor file is that of the new one.
    daemon.store("github info while nobody looked");
    let mut tail = follow(&home, &["tail", "gw", "github", "--cursor-file", file]);
    assert_eq!(tail.line(), "while nobody looked");
}

#[test]
fn a_server_without_records_is_said_and_waited_for() {
    let home = Home::new();
    let mut daemon = Daemon::start(&home);
    daemon.store("github info one");
    let mut tail = home.terminal(200, 20, &[], &["tail", "gw", "git-hub"]);
    let said = "the stack \"gw\" has no records of a server \"git-hub\": did you mean \"github\"?";
    tail.wait_for(said);
    daemon.store("git-hub info two");
    tail.wait_for("two");
}

#[test]
fn a_terminal_is_followed_unless_told_not_to() {
    let home = Home::new();
    let mut daemon = Daemon::start(&home);
    daemon.store("github info one");
    let mut tail = home.terminal(100, 20, &[], &["tail"]);
    tail.wait_for("one");
    daemon.store("slack error two");
    let shown = tail.wait_for("two");
    assert!(
        shown.contains("\u{1b}[1m\u{1b}[31mERROR\u{1b}[0m"),
        "{shown:?}"
    );
    tail.signal(rustix::process::Signal::TERM);
    assert_eq!(tail.finish().0, 0);
    let (code, shown) = home
        .terminal(100, 20, &[], &["tail", "--no-follow"])
        .finish();
    assert_eq!((code, shown.lines().count()), (0, 2));
    // A pipe has the lines of the files, and ends.
    let piped = home.run(&["tail", "gw", "-n", "1"]);
    assert!(piped.stdout.starts_with("{\"ts\":"), "{piped:?}");
}

#[test]
fn a_follower_ends_with_its_reader() {
    let home = Home::new();
    let mut daemon = Daemon::start(&home);
    daemon.store("github info one");
    // No record arrives that it could fail to print.
    let ended = home.shell("\"$0\" logs -f -o cat | head -n 1");
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "one\n"));
}

/// Each option is followed by a process of its own: stored records and new ones pass the same filters.
#[test]
fn every_filter_applies_to_what_arrives() {
    let home = Home::new();
    let mut daemon = Daemon::start(&home);
    daemon.store("github warn a disk");
    daemon.store("jira error another disk");
    let lists = [
        (&["github"][..], &["a disk", "new disk", "end"][..]),
        (&["--level", "error"], &["another disk", "end", "last"]),
        (&["-l", "..warn"], &["a disk", "noise", "new disk"]),
        (&["-g", "DISK"], &["a disk", "another disk", "new disk"]),
        (
            &["-s", "-g", "disk"],
            &["a disk", "another disk", "new disk"],
        ),
        (&["-F", "-g", "a d"], &["a disk"]),
        (&["-w", "-g", "a"], &["a disk"]),
        (&["--not-grep", "a"], &["noise", "new disk", "end"]),
        (
            &["--since", "1h"],
            &["a disk", "another disk", "noise", "new disk", "end", "last"],
        ),
        (
            &["--until", "2199-01-01", "slack", "jira"],
            &["another disk", "noise", "last"],
        ),
        (
            &["--field", "!tool", "-l", "error", "-g", "e"],
            &["another disk", "end"],
        ),
        (
            &["--not-field", "tool", "github"],
            &["a disk", "new disk", "end"],
        ),
        (&["-A1", "-g", "another"], &["another disk", "noise"]),
    ];
    let mut running: Vec<Running> = lists
        .iter()
        .map(|(args, _)| follow(&home, &[&["logs", "gw", "-n", "all"], *args].concat()))
        .collect();
    daemon.store("slack info noise");
    daemon.store("github info new disk");
    daemon.store("github error end");
    daemon.store("jira error last");
    for ((args, expected), mut running) in lists.iter().zip(running.drain(..)) {
        // All are shown, and then an interrupt ends the list without another one.
        assert_eq!(running.take(expected.len()), *expected, "{args:?}");
        let (code, rest, said) = running.interrupt();
        assert_eq!((code, rest.len()), (0, 0), "{args:?}: {rest:?} {said}");
    }
}
