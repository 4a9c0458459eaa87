//! `status` names the files of gridctl's Go daemon, and the command that imports them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Home, Output, gzip, output};
use std::{fs, path::Path, process::Command};

const LINE: &str = r#"{"ts":"2026-05-09T03:39:03Z","level":"INFO","msg":"ok"}"#;

/// The folder of a server of the stack `gw`, as the Go daemon lays it out below `user_home`.
fn go_daemon(user_home: &Path, server: &str) -> std::path::PathBuf {
    let folder = user_home.join(".gridctl/telemetry/gw").join(server);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("logs.jsonl"), format!("{LINE}\n")).unwrap();
    let older = LINE.replace("2026-05", "2026-04");
    fs::write(
        folder.join("logs-2026-05-01T00-00-00.000.jsonl"),
        format!("{older}\n"),
    )
    .unwrap();
    gzip(
        &folder.join("logs-2026-04-01T00-00-00.000.jsonl.gz"),
        format!("{}\n", LINE.replace("2026-05", "2026-03")).as_bytes(),
    );
    folder
}

fn run(variables: &[(&str, &Path)], args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gridctl-telemetry"));
    command.args(args).env_remove("GRIDCTL_HOME");
    for (name, value) in variables {
        command.env(name, value);
    }
    output(&mut command)
}

#[test]
fn every_way_to_name_the_home_finds_the_daemons_files() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    go_daemon(home, "github");
    for shown in [
        run(&[("HOME", home)], &["status"]),
        run(
            &[("HOME", Path::new("/")), ("GRIDCTL_HOME", home)],
            &["status"],
        ),
        run(
            &[("GRIDCTL_HOME", Path::new("/nowhere"))],
            &["status", "--home", home.to_str().unwrap()],
        ),
    ] {
        assert_eq!(shown.code, 0, "{shown:?}");
        assert!(
            shown.stdout.contains("gw: 3 files of gridctl's Go daemon"),
            "{shown:?}"
        );
    }
    for refused in [
        run(&[("GRIDCTL_HOME", Path::new("here"))], &["status"]),
        run(&[("HOME", home)], &["status", "--home", "here"]),
    ] {
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(
            refused.stderr.contains(r#""here" is not absolute"#),
            "{refused:?}"
        );
    }
}

#[test]
fn status_names_the_command_that_imports_them() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("it's a home");
    go_daemon(&home, "github");
    go_daemon(&home, "org/repo");
    let shown = run(
        &[("GRIDCTL_HOME", Path::new("/nowhere"))],
        &["status", "--home", home.to_str().unwrap()],
    );
    assert!(
        shown.stdout.contains("gw: 6 files of gridctl's Go daemon"),
        "{shown:?}"
    );
    let (_, rest) = shown.stdout.split_once('`').unwrap();
    let (command, _) = rest.split_once('`').unwrap();
    let program = env!("CARGO_BIN_EXE_gridctl-telemetry");
    let command = command.replacen("gridctl-telemetry", program, 1);
    let import = output(Command::new("sh").args(["-c", &command]));
    assert_eq!(import.code, 0, "{command}: {import:?}");
    let plain = run(&[("GRIDCTL_HOME", &home)], &["status", "gw", "--plain"]);
    let logs: Vec<_> = plain.stdout.lines().skip(1).collect();
    assert_eq!(logs.len(), 2, "{plain:?}");
    for (row, server) in logs.iter().zip(["github", "org/repo"]) {
        let columns: Vec<_> = row.split('\t').collect();
        assert_eq!((columns[1], columns[5]), (server, "3"), "{plain:?}");
    }
    assert!(plain.stderr.contains("gw: 6 files"), "{plain:?}");
}

#[test]
fn a_home_without_them_says_nothing_of_them() {
    let home = Home::new();
    let shown = home.run(&["status"]);
    assert_eq!((shown.code, shown.stdout.as_str()), (0, "No telemetry.\n"));
    assert_eq!(shown.stderr, "");
}
