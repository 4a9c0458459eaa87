//! Ctrl-C and SIGTERM end every program in order, also one that waits for its input or for the reader of its
//! output, and the second signal ends it at once. A program whose output nothing reads keeps no space.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::Home;
use gridctl_telemetry::{
    Level, LogRecord, Record, ServerName, Store, StoreOptions, Timestamp,
    import::{ImportBatch, Importer},
    maintenance::{CompactOptions, WipeScope},
};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::{self, OpenOptions},
    io::{Read, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::channel,
    thread,
    time::{Duration, Instant},
};

/// A test that waits longer than this has hung.
const HUNG: Duration = Duration::from_secs(60);
const RECORDS: i64 = 20_000;

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < HUNG, "{what}");
        thread::yield_now();
    }
}

/// Ends the program with a signal. Returns its exit code and what it said on standard error.
fn end(mut child: Child, signal: Signal) -> (i32, String) {
    kill_process(Pid::from_child(&child), signal).unwrap();
    ended(&mut child)
}

fn ended(child: &mut Child) -> (i32, String) {
    let pid = Pid::from_child(child);
    let (sender, is_over) = channel::<()>();
    let guard = thread::spawn(move || {
        // A program that hangs fails its test.
        if is_over.recv_timeout(HUNG).is_err() {
            let _ = kill_process(pid, Signal::KILL);
        }
    });
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_string(&mut said).unwrap();
    }
    let code = child.wait().unwrap().code().unwrap_or(-1);
    let _ = sender.send(());
    guard.join().unwrap();
    (code, said)
}

fn import(home: &Home, path: &str) -> std::process::Command {
    let mut command = home.command(&["import-jsonl", "gw", path, "--server", "github"]);
    command.stderr(Stdio::piped());
    command
}

/// A stack with many log records.
fn stack(home: &Home) -> Store {
    let store = Store::open(home.path(), "gw", StoreOptions::default()).unwrap();
    let server = ServerName::new("github").unwrap();
    let mut importer = Importer::new(&store).unwrap();
    let mut batch = ImportBatch::default();
    for number in 0..RECORDS {
        let time = Timestamp::from_unix_nanos(number);
        let record = LogRecord::new(time, Level::INFO, format!("record {number}"));
        batch.push(&server, &Record::Log(record)).unwrap();
    }
    importer.add(batch).unwrap();
    store
}

#[test]
fn an_import_that_waits_for_a_pipe_ends_and_keeps_what_it_read() {
    for signal in [Signal::INT, Signal::TERM] {
        let home = Home::new();
        let mut child = import(&home, "-").stdin(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        for second in 0..2 {
            let line = format!(
                "{{\"time\":\"2026-05-08T14:03:0{second}Z\",\"level\":\"INFO\",\"msg\":\"a\"}}\n"
            );
            input.write_all(line.as_bytes()).unwrap();
        }
        let stat = format!("/proc/{}/stat", child.id());
        wait_until("the import waits", || {
            let is_read = rustix::io::ioctl_fionread(&input).unwrap() == 0;
            is_read && fs::read_to_string(&stat).unwrap().contains(") S ")
        });
        let (code, said) = end(child, signal);
        assert_eq!(code, 130, "{said}");
        assert!(said.starts_with("imported 2 records"), "{said}");
        assert_eq!(home.exported_logs().len(), 2);
    }
}

#[test]
fn an_import_that_waits_for_a_fifo_ends() {
    // A FIFO that nothing has opened to write, and one that nothing is written to.
    for has_writer in [false, true] {
        let home = Home::new();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs.jsonl");
        let made = Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        // Opened for both, because opening it to write alone would wait.
        let writer = has_writer.then(|| OpenOptions::new().read(true).write(true).open(&path));
        let child = import(&home, path.to_str().unwrap()).spawn().unwrap();
        let open = format!("/proc/{}/fd", child.id());
        wait_until("the import opens the FIFO", || {
            fs::read_dir(&open)
                .unwrap()
                .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
                .any(|target| target == path)
        });
        let (code, said) = end(child, Signal::TERM);
        assert_eq!(code, 130, "{said}");
        drop(writer);
    }
}

#[test]
fn a_strict_import_of_standard_input_ends_while_it_waits() {
    let home = Home::new();
    let mut command = home.command(&["import-jsonl", "gw", "-", "--server", "a", "--strict"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"{}\n").unwrap();
    wait_until("the import reads", || {
        rustix::io::ioctl_fionread(&input).unwrap() == 0
    });
    assert_eq!(end(child, Signal::INT).0, 130);
}

/// Waits until the pipe that a program writes to is full, or nearly so.
fn wait_until_full(output: &impl std::os::fd::AsFd) {
    wait_until("the pipe is full", || {
        rustix::io::ioctl_fionread(output).unwrap() >= 32 << 10
    });
}

#[test]
fn a_program_whose_output_is_not_read_ends() {
    let home = Home::new();
    stack(&home);
    let cursor = tempfile::tempdir().unwrap();
    let cursor = cursor.path().join("cursor");
    let export = ["export-jsonl", "--stack", "gw", "--stdout"];
    let follow = ["export-jsonl", "--stack", "gw", "--stdout", "--follow"];
    let logs = ["logs", "--cursor-file", cursor.to_str().unwrap()];
    let tail = ["tail", "-n", "all", "-f"];
    for args in [&export[..], &follow, &logs, &tail] {
        for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
            let mut child = home.command(args).stdout(Stdio::piped()).spawn().unwrap();
            let output = child.stdout.take().unwrap();
            wait_until_full(&output);
            assert_eq!(end(child, signal).0, 130, "{args:?}");
        }
    }
    // What was not read is shown by the next run.
    let shown = home.run(&logs).stdout;
    assert!(
        shown.contains(&format!("record {}\n", RECORDS - 1)),
        "{shown}"
    );
}

#[test]
fn the_second_signal_ends_a_program_at_once() {
    let home = Home::new();
    let store = stack(&home);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("logs.jsonl");
    fs::write(&path, "{\"time\":\"2026-05-08T14:03:00Z\",\"msg\":\"a\"}\n").unwrap();
    drop(store);
    // The import waits for this transaction.
    let database = redb::Builder::new()
        .set_concurrency_mode(redb::ConcurrencyMode::MultiWriter)
        .open(home.database("gw"))
        .unwrap();
    let transaction = database.begin_write().unwrap();
    let mut child = import(&home, path.to_str().unwrap()).spawn().unwrap();
    let pid = Pid::from_child(&child);
    // The program handles signals before it opens the store.
    let status = format!("/proc/{}/status", child.id());
    wait_until("the import handles signals", || {
        handles_interrupts(Path::new(&status))
    });
    kill_process(pid, Signal::INT).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(ended(&mut child).0, 130);
    transaction.abort().unwrap();
}

/// Whether a process has a handler for SIGINT and its like.
fn handles_interrupts(status: &Path) -> bool {
    let text = fs::read_to_string(status).unwrap();
    let caught = text
        .lines()
        .find_map(|line| line.strip_prefix("SigCgt:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap();
    [1, 2, 15]
        .iter()
        .all(|signal| caught >> (signal - 1) & 1 == 1)
}

#[test]
fn a_program_with_a_pager_ends_with_it() {
    let home = Home::new();
    stack(&home);
    let marker = tempfile::tempdir().unwrap();
    let pid_file = marker.path().join("pid");
    // A pager that reads nothing.
    let pager = format!("echo $$ $PPID > {}; exec sleep 600", pid_file.display());
    let terminal = home.terminal(80, 10, &[("PAGER", &pager)], &["logs"]);
    wait_until("the pager begins", || {
        fs::read_to_string(&pid_file).is_ok_and(|text| text.ends_with('\n'))
    });
    let pids = fs::read_to_string(&pid_file).unwrap();
    let (pid, program) = pids.trim().split_once(' ').unwrap();
    let status = format!("/proc/{program}/status");
    wait_until("the program handles signals", || {
        handles_interrupts(Path::new(&status))
    });
    // Ctrl-C belongs to the pager.
    terminal.signal(Signal::INT);
    terminal.signal(Signal::TERM);
    let (code, shown) = terminal.finish();
    assert_eq!(code, 130, "{shown}");
    let pager = Pid::from_raw(pid.parse().unwrap()).unwrap();
    assert!(rustix::process::test_kill_process(pager).is_err());
}

#[test]
fn an_export_that_is_not_read_keeps_no_space_and_is_complete() {
    let home = Home::new();
    let store = stack(&home);
    let args = ["export-jsonl", "--stack", "gw", "--stdout"];
    let expected = home.run(&args).stdout;
    for follows in [false, true] {
        let more: &[&str] = if follows { &["--follow"] } else { &[] };
        let mut command = home.command(&[&args, more].concat());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut output = child.stdout.take().unwrap();
        wait_until_full(&output);
        // Something to return, which a snapshot would keep.
        let at = Timestamp::from_unix_nanos(RECORDS + 1);
        let other = ServerName::new("other").unwrap();
        let mut batch = ImportBatch::default();
        let record = LogRecord::new(at, Level::INFO, "later");
        batch.push(&other, &Record::Log(record)).unwrap();
        Importer::new(&store).unwrap().add(batch).unwrap();
        store.wipe(&WipeScope::everything().server(other)).unwrap();
        store
            .compact(CompactOptions::default().patience(HUNG))
            .unwrap();
        let mut text = vec![0; expected.len()];
        output.read_exact(&mut text).unwrap();
        assert!(text == expected.as_bytes(), "the export is not complete");
        if follows {
            assert_eq!(end(child, Signal::INT).0, 0);
        } else {
            assert_eq!(output.read(&mut [0]).unwrap(), 0);
            assert!(child.wait().unwrap().success());
        }
    }
}
