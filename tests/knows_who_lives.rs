//! Whether a daemon lives is decided by a lock that the system releases, not by a process number: one in
//! another PID namespace, such as a container, is not declared killed while it runs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Helper, STACK, home, numbers_of, on_demand, open, record, say, server, told};
use gridctl_telemetry::{Store, StoreOptions, Writer, ledger::LossCause};
use std::process::{Command, Stdio};

/// Stores a record each time it is told to.
#[test]
fn helper_appends() {
    let Some((_, _store, writer, _guard)) = common::helper_writer() else {
        return;
    };
    for number in 0.. {
        writer.log(&server("github"), &record(number)).unwrap();
        writer.flush().unwrap();
        say(std::process::id());
        if told().is_none() {
            return;
        }
    }
}

/// A command that runs a program in a PID namespace of its own; `None` where the system does not allow it.
fn in_a_namespace() -> Option<Command> {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child"]);
    let mut probe = Command::new("unshare");
    probe.args(["--pid", "--fork", "--kill-child", "true"]);
    let probed = probe.stderr(Stdio::null()).status();
    probed
        .is_ok_and(|status| status.success())
        .then_some(command)
}

#[test]
fn a_daemon_in_another_pid_namespace_lives() {
    // `a_writer_runs_while_its_spill_is_locked` has a wrong process number everywhere.
    let Some(mut command) = in_a_namespace() else {
        println!("skipped: this system allows no PID namespaces");
        return;
    };
    let home = home();
    let path = home.path().to_str().unwrap();
    command.arg(std::env::current_exe().unwrap());
    let mut helper = Helper::start_as(&mut command, "helper_appends", &[path]);
    let process: u32 = helper.heard().parse().unwrap();
    assert_ne!(process, std::process::id());
    let writers = |store: &Store| {
        let writers = store.writers().unwrap().into_iter();
        writers
            .map(|it| (it.process_id, it.is_running))
            .collect::<Vec<_>>()
    };
    let crashes = |store: &Store| {
        let entries = store.snapshot().unwrap().ledger(..).unwrap();
        let crashes = entries.iter().filter(|it| it.cause == LossCause::Crash);
        crashes.count()
    };
    // Opening to write, and starting a writer, looks for killed ones.
    let store = Store::open(home.path(), STACK, StoreOptions::default()).unwrap();
    let (writer, guard) = Writer::start(&store, on_demand()).unwrap();
    writer.log(&server("outside"), &record(0)).unwrap();
    writer.flush().unwrap();
    guard.close().unwrap();
    assert_eq!(writers(&store), [(process, true)]);
    assert_eq!(crashes(&store), 0);
    // Its counters are there: no batch of it is taken for one that is stored.
    for _ in 0..3 {
        helper.tell("more");
        helper.heard();
    }
    assert_eq!(numbers_of(&store, "github"), [0, 1, 2, 3]);
    helper.kill();
    // The system ends the processes of the namespace some time later.
    while writers(&store) == [(process, true)] {
        std::thread::yield_now();
    }
    drop(store);
    let store = open(home.path());
    assert_eq!((writers(&store), crashes(&store)), (vec![], 1));
}
