//! Bad input is reported with its place, and stored records stay unchanged.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Home, gzip};
use std::{fs, io::Write, os::unix::fs::symlink};

const LINE: &str = r#"{"ts":"2026-05-08T12:00:00Z","level":"INFO","msg":"ok"}"#;

fn import(home: &Home, name: &str, bytes: &[u8]) -> common::Output {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    home.import(&path)
}

fn stored(home: &Home) -> usize {
    home.exported_logs().len()
}

#[test]
fn an_unknown_signal_is_refused_before_anything_is_touched() {
    let home = Home::new();
    for args in [
        vec!["wipe", "gw", "--signal", "log", "-y"],
        vec!["import-jsonl", "gw", ".", "--signal", "spans"],
        vec!["export-jsonl", "--stack", "gw", "--signal", "", "--stdout"],
        vec!["tail", "gw", "github", "--signal", "LOGS"],
    ] {
        let refused = home.run(&args);
        assert_eq!(refused.code, 2, "{args:?}");
        assert!(
            refused.stderr.contains("expected logs, metrics or traces"),
            "{refused:?}"
        );
    }
    assert!(!home.path().exists());
}

#[test]
fn a_stack_name_that_is_a_path_is_refused() {
    let home = Home::new();
    for stack in ["", ".", "..", "a/b", "../gw", "/etc"] {
        let long = [
            vec!["status", stack],
            vec!["wipe", stack, "-y"],
            vec!["export-jsonl", "--stack", stack, "--stdout"],
            vec![
                "import-jsonl",
                stack,
                env!("CARGO_MANIFEST_DIR"),
                "--server",
                "x",
            ],
        ];
        for args in long {
            let refused = home.run(&args);
            assert_eq!(refused.code, 2, "{args:?}: {refused:?}");
        }
    }
    assert!(!home.path().exists());
}

#[test]
fn bad_lines_are_named_and_the_others_imported() {
    let home = Home::new();
    let mut file = format!("{LINE}\nnot json\n{{\"level\":\"INFO\"}}\n\n").into_bytes();
    file.extend(b"{\"ts\":\"2026-05-08T12:00:01Z\",\"msg\":\"\xff\"}\n");
    file.extend(b"{\"ts\":\"2026-05-08T12:00:02Z\",\"msg\":\"two\"}{}\n");
    file.extend(b"{\"ts\":\"yesterday\",\"msg\":\"when\"}\n");
    file.extend(b"{\"ts\":\"2026-05-08T12:00:03Z\",\"msg\":\"last, and cut o");
    let import = import(&home, "logs.jsonl", &file);
    assert_eq!(import.code, 1, "{import:?}");
    // A level alone is a record of the time before, and a byte that is no UTF-8 is repaired.
    assert!(import.stderr.contains("imported 4 records"), "{import:?}");
    assert!(
        import
            .stderr
            .contains("1 lines were repaired, 4 records were skipped"),
        "{import:?}"
    );
    assert!(
        import.stderr.contains("1 records have no time"),
        "{import:?}"
    );
    for place in [
        "logs.jsonl:2:",
        "logs.jsonl:6:",
        "logs.jsonl:7:",
        "logs.jsonl:8:",
    ] {
        assert!(import.stderr.contains(place), "{place} in {import:?}");
    }
    assert_eq!(stored(&home), 4);
}

#[test]
fn a_gzip_that_is_cut_off_gives_what_it_has() {
    let home = Home::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("logs-2026-05-08T12-00-00.000.jsonl.gz");
    let many: Vec<String> = (0..5000)
        .map(|number| {
            format!(
                "{{\"ts\":\"2026-05-08T12:00:00Z\",\"msg\":\"{number} {}\"}}",
                number * 7919
            )
        })
        .collect();
    let many = many.join("\n");
    gzip(&path, many.as_bytes());
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let import = home.import(&path);
    assert_eq!(import.code, 1, "{import:?}");
    assert!(import.stderr.contains("the rest is not read"), "{import:?}");
    let kept = stored(&home);
    assert!((1..5000).contains(&kept), "{kept}");
    // The whole file adds the missing records, and no record twice.
    fs::write(&path, &whole).unwrap();
    assert_eq!(home.import(&path).code, 0);
    assert_eq!(stored(&home), 5000);
}

#[test]
fn a_gzip_that_unpacks_without_end_is_stopped() {
    let home = Home::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("logs-2026-05-08T12-00-00.000.jsonl.gz");
    let mut bomb = format!("{LINE}\n").into_bytes();
    bomb.resize(64 << 20, b' ');
    gzip(&path, &bomb);
    let import = home.import_with(&path, &["--max-unpacked-size", "8MiB"]);
    assert_eq!(import.code, 1);
    assert!(import.stderr.contains("--max-unpacked-size"), "{import:?}");
    assert_eq!(stored(&home), 1);
}

#[test]
fn a_line_larger_than_any_record_is_passed_over() {
    let home = Home::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("logs.jsonl");
    let mut file = fs::File::create(&path).unwrap();
    writeln!(file, "{LINE}").unwrap();
    // 80 MiB, which are a hole on the disk.
    let end = file.metadata().unwrap().len() + (80 << 20);
    file.set_len(end).unwrap();
    let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
    write!(file, "\n{}\n", LINE.replace("ok", "after it")).unwrap();
    let import = home.import(&path);
    assert_eq!(import.code, 1, "{import:?}");
    assert!(
        import
            .stderr
            .contains("logs.jsonl:2: the line has 83886080 bytes"),
        "{import:?}"
    );
    assert_eq!(stored(&home), 2);
}

#[test]
fn a_record_without_an_owner_needs_one() {
    let home = Home::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("logs.jsonl");
    fs::write(&path, LINE).unwrap();
    let import = home.run(&["import-jsonl", "gw", path.to_str().unwrap()]);
    assert_eq!(import.code, 1);
    assert!(import.stderr.contains("pass --server"), "{import:?}");
    let missing = home.run(&["import-jsonl", "gw", "/nowhere/logs.jsonl"]);
    assert_eq!(missing.code, 2);
    assert!(
        missing.stderr.contains("/nowhere/logs.jsonl"),
        "{missing:?}"
    );
    let unnamed = folder.path().join("data.txt");
    fs::write(&unnamed, LINE).unwrap();
    let unnamed = home.run(&["import-jsonl", "gw", unnamed.to_str().unwrap()]);
    assert_eq!(unnamed.code, 2);
    assert!(unnamed.stderr.contains("pass --signal"), "{unnamed:?}");
}

#[test]
fn a_file_that_is_no_database_is_left_alone() {
    let home = Home::new();
    assert_eq!(import(&home, "logs.jsonl", LINE.as_bytes()).code, 0);
    let database = home.database("gw");
    let whole = fs::read(&database).unwrap();
    for bytes in [
        b"a text file".to_vec(),
        vec![0xa5; 8192],
        // Of a file that has lost only free pages, all records can be read.
        whole[..whole.len() / 4].to_vec(),
    ] {
        fs::write(&database, &bytes).unwrap();
        for args in [
            vec!["status", "gw"],
            vec!["export-jsonl", "--stack", "gw", "--stdout"],
            vec!["wipe", "gw", "-y"],
            vec!["tail", "gw", "github"],
        ] {
            let refused = home.run(&args);
            assert_eq!(refused.code, 2, "{args:?}: {refused:?}");
            assert!(refused.stderr.contains("telemetry.redb"), "{refused:?}");
            assert!(!refused.stderr.contains("panicked"), "{refused:?}");
        }
        assert_eq!(fs::read(&database).unwrap(), bytes, "unchanged");
    }
    fs::remove_file(&database).unwrap();
    fs::create_dir(&database).unwrap();
    let refused = home.run(&["status", "gw"]);
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("is not a file"), "{refused:?}");
}

#[test]
fn an_export_that_cannot_be_written_leaves_what_was_there() {
    let home = Home::new();
    assert_eq!(import(&home, "logs.jsonl", LINE.as_bytes()).code, 0);
    let out = home.export("gw");
    let file = out.path().join("gw/github/logs.jsonl");
    let before = fs::read(&file).unwrap();
    assert_eq!(
        import(&home, "logs.jsonl", LINE.replace("ok", "more").as_bytes()).code,
        0
    );
    let full = home.shell("exec \"$0\" export-jsonl --stack gw --stdout >/dev/full");
    assert_eq!(full.code, 2, "{full:?}");
    let blocked = tempfile::tempdir().unwrap();
    fs::write(blocked.path().join("gw"), "a file where a folder should be").unwrap();
    let refused = home.run(&[
        "export-jsonl",
        "--stack",
        "gw",
        "--out",
        blocked.path().to_str().unwrap(),
    ]);
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("gw"), "{refused:?}");
    // A link is replaced by the file, and its target stays as it was.
    let elsewhere = out.path().join("elsewhere");
    fs::write(&elsewhere, "precious").unwrap();
    fs::remove_file(&file).unwrap();
    symlink(&elsewhere, &file).unwrap();
    let again = home.run(&[
        "export-jsonl",
        "--stack",
        "gw",
        "--out",
        out.path().to_str().unwrap(),
    ]);
    assert_eq!(again.code, 0, "{again:?}");
    assert_eq!(fs::read(&elsewhere).unwrap(), b"precious");
    assert!(fs::read(&file).unwrap().starts_with(&before[..20]));
}

#[test]
fn a_pipe_that_is_closed_is_a_normal_end() {
    let home = Home::new();
    let many: Vec<String> = (0..20_000)
        .map(|number| format!("{{\"ts\":\"2026-05-08T12:00:00Z\",\"msg\":\"{number}\"}}"))
        .collect();
    let many = many.join("\n");
    assert_eq!(import(&home, "logs.jsonl", many.as_bytes()).code, 0);
    let head = home.shell("\"$0\" export-jsonl --stack gw --stdout 2>&1 | head -n 1");
    assert_eq!(head.stdout.lines().count(), 1);
    assert!(!head.stdout.contains("error"), "{head:?}");
}

#[test]
fn terminals_are_safe_from_server_names() {
    let home = Home::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("logs.jsonl");
    fs::write(&path, LINE).unwrap();
    let evil = "a\u{1b}]0;owned\u{7}/../b";
    let import = home.run(&[
        "import-jsonl",
        "gw",
        path.to_str().unwrap(),
        "--server",
        evil,
    ]);
    assert_eq!(import.code, 0, "{import:?}");
    for args in [
        vec!["status"],
        vec!["status", "--plain"],
        vec!["wipe", "gw", "-y"],
    ] {
        if args[0] == "wipe" {
            let out = home.export("gw");
            let folders: Vec<_> = fs::read_dir(out.path().join("gw")).unwrap().collect();
            assert_eq!(folders.len(), 1);
            let folder = folders[0]
                .as_ref()
                .unwrap()
                .file_name()
                .into_string()
                .unwrap();
            assert_eq!(folder, "%a%1B]0;owned%07%2F..%2Fb");
        }
        let shown = home.run(&args);
        assert!(!shown.stdout.contains(['\u{1b}', '\u{7}']), "{shown:?}");
        assert!(shown.stdout.contains("owned"), "{shown:?}");
    }
}
