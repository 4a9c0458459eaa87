//! A resumed export continues where the last one ended, however that one ended.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Home, Output};
use gridctl_telemetry::{
    Level, LogRecord, ServerName, Store, StoreOptions, Timestamp, Writer, WriterOptions,
};
use gridctl_telemetry_files::lock_beside;
use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

fn append(home: &Home, server: &str, numbers: std::ops::Range<u64>) {
    let store = Store::open(home.path(), "gw", StoreOptions::default()).unwrap();
    let (writer, guard) = Writer::start(&store, WriterOptions::default()).unwrap();
    let server = ServerName::new(server).unwrap();
    for number in numbers {
        writer.log(&server, &record(number)).unwrap();
    }
    guard.close().unwrap();
}

/// A record whose time does not follow the order of arrival.
fn record(number: u64) -> LogRecord {
    let nanos = i64::try_from(number % 97).unwrap() * 1_000_000_000;
    LogRecord::new(
        Timestamp::from_unix_nanos(nanos),
        Level::INFO,
        format!("record {number}"),
    )
}

/// The number of occurrences of each message in the files of a server, and the number of files.
fn exported(folder: &Path, server: &str) -> (BTreeMap<String, usize>, usize) {
    let mut messages = BTreeMap::new();
    let mut files = 0;
    for entry in fs::read_dir(folder.join("gw").join(server)).unwrap() {
        files += 1;
        for line in BufReader::new(fs::File::open(entry.unwrap().path()).unwrap()).lines() {
            let line: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
            *messages
                .entry(line["msg"].as_str().unwrap().to_owned())
                .or_default() += 1;
        }
    }
    (messages, files)
}

/// The arguments of an export that is resumed from the file `resume`.
fn resuming<'a>(out: &'a Path, resume: &'a Path) -> [&'a str; 7] {
    let [out, resume] = [out, resume].map(|path| path.to_str().unwrap());
    [
        "export-jsonl",
        "--stack",
        "gw",
        "--out",
        out,
        "--resume",
        resume,
    ]
}

fn each_once(messages: &BTreeMap<String, usize>, count: u64) {
    assert_eq!(messages.len() as u64, count);
    assert!(messages.values().all(|times| *times == 1), "{messages:?}");
}

#[test]
fn a_later_run_exports_only_what_is_new() {
    let home = Home::new();
    let out = tempfile::tempdir().unwrap();
    let resume = out.path().join("progress.json");
    let args = resuming(out.path(), &resume);
    append(&home, "github", 0..500);
    assert_eq!(home.run(&args).code, 0);
    each_once(&exported(out.path(), "github").0, 500);
    // Without new records, and then with new ones that are older, and of another server.
    let nothing = home.run(&args);
    assert_eq!(nothing.code, 0);
    assert!(nothing.stderr.contains("exported 0 records"), "{nothing:?}");
    append(&home, "github", 500..700);
    append(&home, "jira", 0..10);
    let some = home.run(&args);
    assert!(some.stderr.contains("exported 210 records"), "{some:?}");
    each_once(&exported(out.path(), "github").0, 700);
    each_once(&exported(out.path(), "jira").0, 10);
    // An export with other arguments cannot be resumed from there.
    let mut other = args.to_vec();
    other.extend(["--signal", "logs"]);
    let refused = home.run(&other);
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("another export"), "{refused:?}");
}

#[test]
fn two_runs_do_not_use_one_progress_file_at_once() {
    let home = Home::new();
    let out = tempfile::tempdir().unwrap();
    let resume = out.path().join("progress.json");
    append(&home, "github", 0..10);
    // What the first run holds until it ends.
    let held = lock_beside(&resume).unwrap().unwrap();
    let refused = home.run(&resuming(out.path(), &resume));
    assert_eq!(refused.code, 2);
    assert!(
        refused.stderr.contains("another export uses"),
        "{refused:?}"
    );
    assert!(!out.path().join("gw").exists() && !resume.exists());
    drop(held);
    assert_eq!(home.run(&resuming(out.path(), &resume)).code, 0);
    each_once(&exported(out.path(), "github").0, 10);
}

/// An export of logs that is resumed with files of 1 MiB.
struct Resumed {
    home: Home,
    out: tempfile::TempDir,
    next: u64,
}

impl Resumed {
    fn new() -> Resumed {
        Resumed {
            home: Home::new(),
            out: tempfile::tempdir().unwrap(),
            next: 0,
        }
    }

    fn folder(&self) -> PathBuf {
        self.out.path().join("gw/github")
    }

    fn active(&self) -> PathBuf {
        self.folder().join("logs.jsonl")
    }

    fn rotated(&self) -> Vec<PathBuf> {
        let mut paths: Vec<_> = fs::read_dir(self.folder())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| *path != self.active())
            .collect();
        paths.sort();
        paths
    }

    fn run(&self) -> Output {
        let resume = self.out.path().join("progress.json");
        self.home.run(&[
            "export-jsonl",
            "--stack",
            "gw",
            "--out",
            self.out.path().to_str().unwrap(),
            "--max-size-mb",
            "1",
            "--resume",
            resume.to_str().unwrap(),
        ])
    }

    /// Appends records, exports them, and returns the program's messages.
    fn export(&mut self, count: u64) -> String {
        append(&self.home, "github", self.next..self.next + count);
        self.next += count;
        let export = self.run();
        assert_eq!(export.code, 0, "{export:?}");
        assert!(
            export.stderr.contains(&format!("exported {count} records")),
            "{export:?}"
        );
        export.stderr
    }
}

#[test]
fn what_was_tidied_away_stays_exported() {
    let mut resumed = Resumed::new();
    resumed.export(40_000);
    let rotated = resumed.rotated();
    assert!(rotated.len() >= 3, "{rotated:?}");
    // Files that are moved away are still counted.
    let away = tempfile::tempdir().unwrap();
    let kept = away.path().join("gw/github");
    fs::create_dir_all(&kept).unwrap();
    let keep = |path: &Path, name: &str| fs::rename(path, kept.join(name)).unwrap();

    // Finished files: moved, deleted, compressed, and one replaced by a link.
    keep(&rotated[0], "moved");
    fs::copy(&rotated[1], kept.join("compressed")).unwrap();
    common::gzip(
        &rotated[1].with_extension("jsonl.gz"),
        &fs::read(&rotated[1]).unwrap(),
    );
    fs::remove_file(&rotated[1]).unwrap();
    fs::rename(&rotated[2], kept.join("linked")).unwrap();
    std::os::unix::fs::symlink(kept.join("linked"), &rotated[2]).unwrap();
    let said = resumed.export(10);
    assert!(
        !said.contains("gone"),
        "a finished file is nothing to speak of: {said}"
    );
    fs::remove_file(&rotated[2]).unwrap();
    fs::remove_file(rotated[1].with_extension("jsonl.gz")).unwrap();

    // The active file: moved away, emptied after a copy, and replaced by another, larger one.
    keep(&resumed.active(), "active");
    let said = resumed.export(10);
    assert!(said.contains("logs.jsonl is gone"), "{said}");
    fs::copy(resumed.active(), kept.join("copied")).unwrap();
    fs::write(resumed.active(), "").unwrap();
    let said = resumed.export(10);
    assert!(said.contains("logs.jsonl was emptied"), "{said}");
    keep(&resumed.active(), "replaced");
    let foreign = r#"{"msg":"of the user"}"#.to_owned() + "\n";
    fs::write(resumed.active(), foreign.repeat(10_000)).unwrap();
    let said = resumed.export(10);
    assert!(said.contains("logs.jsonl was changed"), "{said}");
    let set_aside = resumed.rotated().pop().unwrap();
    assert_eq!(
        fs::read_to_string(&set_aside).unwrap(),
        foreign.repeat(10_000)
    );
    fs::remove_file(&set_aside).unwrap();
    // And the folder with all of its files.
    let inside = resumed.active();
    keep(&inside, "last");
    for path in resumed.rotated() {
        keep(&path, path.file_name().unwrap().to_str().unwrap());
    }
    fs::remove_dir(resumed.folder()).unwrap();
    resumed.export(10);

    let (mut messages, _) = exported(resumed.out.path(), "github");
    for (message, times) in exported(away.path(), "github").0 {
        *messages.entry(message).or_default() += times;
    }
    each_once(&messages, resumed.next);
}

#[test]
fn nothing_outside_of_the_folder_is_changed() {
    let mut resumed = Resumed::new();
    resumed.export(100);
    let elsewhere = tempfile::tempdir().unwrap();
    let other = elsewhere.path().join("logs.jsonl");
    let refused = |resumed: &Resumed, what: &str| {
        append(&resumed.home, "github", 100..200);
        let run = resumed.run();
        assert_eq!(run.code, 2, "{run:?}");
        assert!(run.stderr.contains(what), "{what}: {run:?}");
    };
    // Another name of the file itself.
    fs::hard_link(resumed.active(), &other).unwrap();
    let before = fs::read(&other).unwrap();
    refused(&resumed, "a hard link");
    assert_eq!(fs::read(&other).unwrap(), before);
    fs::remove_file(&other).unwrap();

    // A link in place of the folder of the server.
    let moved = elsewhere.path().join("github");
    fs::rename(resumed.folder(), &moved).unwrap();
    std::os::unix::fs::symlink(&moved, resumed.folder()).unwrap();
    refused(&resumed, "symbolic link");
    assert_eq!(fs::read(moved.join("logs.jsonl")).unwrap(), before);
    fs::remove_file(resumed.folder()).unwrap();
    fs::rename(&moved, resumed.folder()).unwrap();

    // A progress that names files elsewhere, whose bytes it knows.
    fs::write(&other, [&before[..], b"more"].concat()).unwrap();
    let longer = fs::read(&other).unwrap();
    let progress = resumed.out.path().join("progress.json");
    let text = fs::read_to_string(&progress).unwrap();
    let up = "../".repeat(20);
    for name in [
        other.to_str().unwrap().to_owned(),
        format!("{up}{}", other.to_str().unwrap()),
        "gw/github/notes.txt".to_owned(),
    ] {
        let changed = text.replace("gw/github/logs.jsonl", &name);
        assert_ne!(changed, text);
        fs::write(&progress, changed).unwrap();
        refused(&resumed, "which no export writes");
        assert_eq!(fs::read(&other).unwrap(), longer);
    }

    // A link in place of the progress.
    fs::write(elsewhere.path().join("progress"), &text).unwrap();
    fs::remove_file(&progress).unwrap();
    std::os::unix::fs::symlink(elsewhere.path().join("progress"), &progress).unwrap();
    refused(&resumed, "progress.json is a symbolic link");
    fs::remove_file(&progress).unwrap();
    fs::write(&progress, &text).unwrap();
    assert_eq!(resumed.run().code, 0);
}

#[test]
fn a_link_in_place_of_a_file_is_not_written_through() {
    let mut resumed = Resumed::new();
    resumed.export(100);
    let kept = resumed.out.path().join("kept.jsonl");
    fs::rename(resumed.active(), &kept).unwrap();
    let before = fs::read(&kept).unwrap();
    let precious = resumed.out.path().join("precious");
    fs::write(&precious, "not of the export\n".repeat(10_000)).unwrap();
    let linked = fs::read(&precious).unwrap();
    append(&resumed.home, "github", 100..200);
    for target in [&precious, &kept, &resumed.out.path().join("nothing")] {
        std::os::unix::fs::symlink(target, resumed.active()).unwrap();
        let refused = resumed.run();
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(
            refused.stderr.contains("logs.jsonl is a symbolic link"),
            "{refused:?}"
        );
        fs::remove_file(resumed.active()).unwrap();
    }
    fs::create_dir(resumed.active()).unwrap();
    assert!(
        resumed
            .run()
            .stderr
            .contains("logs.jsonl is not a regular file")
    );
    fs::remove_dir(resumed.active()).unwrap();
    assert_eq!(fs::read(&precious).unwrap(), linked);
    assert_eq!(fs::read(&kept).unwrap(), before);
    assert!(!resumed.out.path().join("nothing").exists());

    let export = resumed.run();
    assert!(export.stderr.contains("exported 100 records"), "{export:?}");
    let (mut messages, _) = exported(resumed.out.path(), "github");
    for line in String::from_utf8(before).unwrap().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        *messages
            .entry(line["msg"].as_str().unwrap().to_owned())
            .or_default() += 1;
    }
    each_once(&messages, 200);
}

#[test]
fn an_active_file_that_goes_while_it_is_followed_is_begun_anew() {
    let mut resumed = Resumed::new();
    resumed.export(100);
    let progress = resumed.out.path().join("progress.json");
    let mut child = resumed
        .home
        .command(&[
            "export-jsonl",
            "--stack",
            "gw",
            "--out",
            resumed.out.path().to_str().unwrap(),
            "--max-size-mb",
            "1",
            "--follow",
            "--resume",
            progress.to_str().unwrap(),
        ])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut count = 100;
    for round in 0..3 {
        let before = fs::read(&progress).unwrap();
        let kept = resumed.folder().join(format!("kept-{round}"));
        fs::rename(resumed.active(), &kept).unwrap();
        append(&resumed.home, "github", count..count + 50);
        count += 50;
        // Once the progress is written again, the records are in the file.
        while fs::read(&progress).unwrap() == before || !resumed.active().exists() {
            assert!(child.try_wait().unwrap().is_none(), "the export goes on");
            thread::yield_now();
        }
    }
    let interrupted = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(interrupted.success() && child.wait().unwrap().success());
    resumed.next = count;
    let last = resumed.run();
    assert_eq!(last.code, 0, "{last:?}");
    each_once(&exported(resumed.out.path(), "github").0, count);
}

#[test]
fn a_killed_export_loses_and_repeats_nothing() {
    let kills: usize =
        std::env::var("GRIDCTL_TELEMETRY_KILLS").map_or(8, |kills| kills.parse().unwrap());
    let home = Home::new();
    append(&home, "github", 0..1);
    let out = tempfile::tempdir().unwrap();
    let resume = out.path().join("progress.json");
    let mut args = resuming(out.path(), &resume).to_vec();
    args.extend(["--max-size-mb", "1"]);
    let stop = AtomicBool::new(false);
    let written = thread::scope(|scope| {
        // A daemon that logs as fast as the export can follow.
        let writer = scope.spawn(|| {
            let store = Store::open(home.path(), "gw", StoreOptions::default()).unwrap();
            let options = WriterOptions::default().commit_interval_max(Duration::from_millis(100));
            let (writer, guard) = Writer::start(&store, options).unwrap();
            let server = ServerName::new("github").unwrap();
            let mut number = 1;
            while !stop.load(Ordering::Relaxed) {
                for _ in 0..200 {
                    writer.log(&server, &record(number)).unwrap();
                    number += 1;
                }
                writer.flush().unwrap();
            }
            guard.close().unwrap();
            number
        });
        for round in 0..kills {
            let mut follow = args.clone();
            follow.push("--follow");
            let mut child = home
                .command(&follow)
                .stderr(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            // Killed after this many changes of the progress file, which is in the middle of the next
            // append.
            let mut seen = fs::read(&resume).ok();
            for _ in 0..=round % 3 {
                loop {
                    assert!(child.try_wait().unwrap().is_none(), "the export goes on");
                    let now = fs::read(&resume).ok();
                    if now != seen {
                        seen = now;
                        break;
                    }
                    thread::yield_now();
                }
            }
            child.kill().unwrap();
            child.wait().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    let last = home.run(&args);
    assert_eq!(last.code, 0, "{last:?}");
    let (messages, files) = exported(out.path(), "github");
    each_once(&messages, written);
    println!("{kills} kills, {written} records, {files} files");
}

#[test]
fn an_interrupt_ends_following_in_order() {
    let home = Home::new();
    append(&home, "github", 0..100);
    let args = [
        "export-jsonl",
        "--stack",
        "gw",
        "--signal",
        "logs",
        "--stdout",
        "--follow",
    ];
    let mut child = home.command(&args).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..100 {
        lines.next().unwrap().unwrap();
    }
    append(&home, "jira", 0..1);
    assert!(
        lines.next().unwrap().unwrap().contains("record 0"),
        "what arrives is followed"
    );
    let interrupted = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(interrupted.success());
    assert!(child.wait().unwrap().success());
}

#[test]
fn full_files_get_rotated_names_and_compress() {
    let home = Home::new();
    append(&home, "github", 0..30_000);
    for (format, suffix) in [("gzip", ".gz"), ("zstd", ".zst")] {
        let out = tempfile::tempdir().unwrap();
        let export = home.run(&[
            "export-jsonl",
            "--stack",
            "gw",
            "--out",
            out.path().to_str().unwrap(),
            "--max-size-mb",
            "1",
            "--compress",
            format,
        ]);
        assert_eq!(export.code, 0, "{export:?}");
        let folder = out.path().join("gw/github");
        let mut names: Vec<String> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert!(names.len() >= 3, "{names:?}");
        assert!(names.iter().all(|name| name.ends_with(suffix)), "{names:?}");
        let again = Home::new();
        for name in &names {
            let path = folder.join(name);
            let import = again.import(&path);
            assert_eq!(import.code, 0, "{import:?}");
        }
        let (mut before, mut after) = (home.exported_logs(), again.exported_logs());
        assert_eq!(before.len(), 30_000);
        before.sort();
        after.sort();
        assert!(before == after);
    }
}
