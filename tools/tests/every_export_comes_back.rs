//! `import-jsonl` reads everything that `export-jsonl` writes: in every combination of options, for
//! servers of any name, each record once.

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
    Level, LogRecord, Query, ServerName, Signal, Store, StoreOptions, Timestamp, Writer,
    WriterOptions, query::TimeRange,
};
use proptest::prelude::*;
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// The time before which half of the records are.
const HALFTIME: &str = "2026-05-08T00:00:00Z";
const SERVERS: [&str; 3] = ["github", "org/repo", "50%25"];

/// The server whose series of every signal fill more than a MiB.
const LOUD: &str = "org/repo";

/// The files of a stack as an old daemon wrote them.
fn old_stack(folder: &Path) {
    for server in SERVERS {
        let server_folder = folder.join(server);
        fs::create_dir_all(&server_folder).unwrap();
        let (mut logs, mut metrics, mut traces) = (String::new(), String::new(), String::new());
        for number in 0..14_u64 {
            // Half of them are long, so that few records fill a file.
            let is_long = server == LOUD && number % 2 == 0;
            let filler = "x".repeat(if is_long { 170_000 } else { 10 });
            let time = format!("2026-05-{:02}T12:00:00.5Z", number + 1);
            let nanos = Timestamp::parse_rfc3339(&time).unwrap().0.unix_nanos();
            writeln!(
                logs,
                r#"{{"ts":"{time}","level":"INFO","msg":"{filler}","n":{number},"text":"NaN","double":2.0}}"#,
            )
            .unwrap();
            // A NaN, next to a body.
            writeln!(
                logs,
                r#"{{"resourceLogs":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"{server}"}}}}]}},"scopeLogs":[{{"logRecords":[{{"timeUnixNano":"{nanos}","body":{{"stringValue":"otlp"}},"attributes":[{{"key":"ratio","value":{{"doubleValue":"NaN"}}}},{{"key":"most","value":{{"doubleValue":"-Infinity"}}}},{{"key":"said","value":{{"stringValue":"Infinity"}}}}]}}]}}]}}]}}"#,
            )
            .unwrap();
            writeln!(
                metrics,
                r#"{{"ts":"{time}","server":"{server}","diff":{{"input_tokens":{number},"output_tokens":0,"total_tokens":{number}}},"total":{{"input_tokens":{number},"output_tokens":0,"total_tokens":{number}}},"cost_total":{{"input_micro_usd":{number}}}}}"#,
            )
            .unwrap();
            // A metric of another program, which begins with a long resource.
            writeln!(
                metrics,
                r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"{server}"}}}},{{"key":"process.command","value":{{"stringValue":"{filler}"}}}}]}},"scopeMetrics":[{{"metrics":[{{"name":"queue","gauge":{{"dataPoints":[{{"timeUnixNano":"{nanos}","asDouble":"NaN"}}]}}}}]}}]}}]}}"#,
            )
            .unwrap();
            writeln!(
                traces,
                r#"{{"resourceSpans":[{{"resource":{{"attributes":[{{"key":"process.command","value":{{"stringValue":"{filler}"}}}}]}},"scopeSpans":[{{"spans":[{{"traceId":"69842a979911036cf3e822086ecaa007","spanId":"{:016x}","name":"call","startTimeUnixNano":"{nanos}","endTimeUnixNano":"{nanos}","attributes":[{{"key":"server.name","value":{{"stringValue":"{server}"}}}},{{"key":"ratio","value":{{"doubleValue":"NaN"}}}}]}}]}}]}}]}}"#,
                number + 1,
            )
            .unwrap();
        }
        fs::write(server_folder.join("logs.jsonl"), logs).unwrap();
        fs::write(server_folder.join("metrics.jsonl"), metrics).unwrap();
        fs::write(server_folder.join("traces.jsonl"), traces).unwrap();
    }
}

/// The records of each series, as sorted text with the bits of doubles, because NaN is not equal to
/// itself.
fn records(
    home: &Path,
    servers: &[&str],
    signals: &[Signal],
    since: Option<&str>,
) -> BTreeMap<(String, Signal), Vec<String>> {
    let store = Store::open_read_only(home, "gw", StoreOptions::default())
        .unwrap()
        .unwrap();
    let since = since.map(|time| Timestamp::parse_rfc3339(time).unwrap().0);
    let mut found: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for signal in signals {
        let query = servers
            .iter()
            .fold(Query::new(*signal), |query, name| {
                query.server(ServerName::new(name).unwrap())
            })
            .range(TimeRange { since, until: None });
        for record in store.scan(&query).unwrap() {
            let record = record.unwrap();
            found
                .entry((record.server.to_string(), *signal))
                .or_default()
                .push(format!("{:?}", record.record));
        }
    }
    for records in found.values_mut() {
        records.sort();
    }
    found
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files
}

/// Imports a folder twice, and returns the number of records that the first import added.
fn import_twice(home: &Home, folder: &Path) -> usize {
    let args = ["import-jsonl", "gw", folder.to_str().unwrap()];
    let first = home.run(&args);
    assert_eq!(first.code, 0, "{first:?}");
    assert!(!first.stderr.contains("migrating"), "{first:?}");
    let second = home.run(&args);
    assert_eq!(second.code, 0, "{second:?}");
    assert!(second.stderr.contains("imported 0 records"), "{second:?}");
    let (_, rest) = first.stderr.split_once("imported ").unwrap();
    rest.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn as_ndjson_in_every_combination_of_options() {
    comes_back_in_every_combination("ndjson");
}

#[test]
fn as_otlp_in_every_combination_of_options() {
    comes_back_in_every_combination("otlp");
}

fn comes_back_in_every_combination(format: &str) {
    let flat = tempfile::tempdir().unwrap();
    old_stack(flat.path());
    let home = Home::new();
    let expected = SERVERS.len() * 5 * 14;
    assert_eq!(import_twice(&home, flat.path()), expected);

    let mut combinations = 0;
    let signals = [
        vec![Signal::Logs],
        vec![Signal::Metrics],
        vec![Signal::Traces],
        Signal::ALL.to_vec(),
    ];
    for compression in [None, Some("gzip"), Some("zstd")] {
        for max_size in [None, Some("1")] {
            for (servers, since) in [
                (&[][..], None),
                (&[LOUD][..], None),
                (&[][..], Some(HALFTIME)),
            ] {
                for signals in &signals {
                    let out = tempfile::tempdir().unwrap();
                    let mut args = vec!["export-jsonl", "--stack", "gw", "--format", format];
                    args.extend(["--out", out.path().to_str().unwrap()]);
                    args.extend(compression.iter().flat_map(|name| ["--compress", name]));
                    args.extend(max_size.iter().flat_map(|size| ["--max-size-mb", size]));
                    args.extend(servers.iter().flat_map(|name| ["--server", name]));
                    args.extend(since.iter().flat_map(|time| ["--since", time]));
                    if let [signal] = signals[..] {
                        args.extend(["--signal", signal.as_str()]);
                    }
                    let export = home.run(&args);
                    assert_eq!(export.code, 0, "{args:?}: {export:?}");
                    let expected = records(home.path(), servers, signals, since);
                    let files = files_below(out.path()).len();
                    if max_size.is_some() && since.is_none() {
                        assert!(files > expected.len(), "{args:?}: {files} files");
                    } else {
                        assert!(files >= expected.len(), "{args:?}: {files} files");
                    }

                    let again = Home::new();
                    let count = expected.values().map(Vec::len).sum::<usize>();
                    let added = import_twice(&again, &out.path().join("gw"));
                    assert_eq!(added, count, "{args:?}");
                    let found = records(again.path(), &[], &Signal::ALL, None);
                    assert!(found == expected, "{args:?}");
                    combinations += 1;
                }
            }
        }
    }
    assert_eq!(combinations, 3 * 2 * 3 * 4);
}

/// Servers whose names are special in paths, percent-encoding, file systems or the layout of files.
fn any_servers() -> impl Strategy<Value = Vec<String>> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "/",
            "%",
            "%2F",
            "%25",
            ".",
            "..",
            " ",
            "a",
            "A",
            "é",
            "e\u{301}",
            "日",
            "\0",
            "\n",
            "logs.jsonl",
            "-",
        ])
        .prop_map(str::to_owned),
        ".".prop_map(String::from),
    ];
    let name = prop_oneof![
        4 => prop::collection::vec(piece, 1..8).prop_map(|pieces| pieces.concat()),
        1 => ("[a/%\0]", 150..256_usize).prop_map(|(piece, count)| piece.repeat(count)),
    ];
    prop::collection::btree_set(name, 1..12).prop_map(|names| names.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn of_servers_of_any_name(servers in any_servers()) {
        let home = Home::new();
        {
            let store = Store::open(home.path(), "gw", StoreOptions::default()).unwrap();
            let (writer, guard) = Writer::start(&store, WriterOptions::default()).unwrap();
            for name in &servers {
                // The same record for all, so that only the folder tells its server.
                let record = LogRecord::new(Timestamp::default(), Level::INFO, "the same");
                writer.log(&ServerName::new(name).unwrap(), &record).unwrap();
            }
            guard.close().unwrap();
        }
        let out = home.export("gw");
        let again = Home::new();
        prop_assert_eq!(import_twice(&again, &out.path().join("gw")), servers.len());
        let logs = [Signal::Logs];
        prop_assert_eq!(
            records(again.path(), &[], &logs, None),
            records(home.path(), &[], &logs, None)
        );
        let once_more = again.export("gw");
        let names = |folder: &tempfile::TempDir| {
            let mut names: Vec<_> = files_below(folder.path())
                .iter()
                .map(|path| path.strip_prefix(folder.path()).unwrap().to_owned())
                .collect();
            names.sort();
            names
        };
        prop_assert_eq!(names(&out), names(&once_more));
    }
}

#[test]
fn folders_of_old_daemons_keep_their_servers() {
    let flat = tempfile::tempdir().unwrap();
    let servers = ["50%", "50%25", "a%2Fb", "a/b", "a", "Ends. ", "ends. "];
    for server in servers {
        let folder = flat.path().join(server);
        fs::create_dir_all(&folder).unwrap();
        let line = format!(r#"{{"ts":"2026-05-08T00:00:00Z","msg":"of {server}"}}"#);
        fs::write(folder.join("logs.jsonl"), line).unwrap();
    }
    let home = Home::new();
    assert_eq!(import_twice(&home, flat.path()), servers.len());
    let of_each = |home: &Home| {
        let found = records(home.path(), &[], &[Signal::Logs], None);
        for server in servers {
            let records = &found[&(server.to_owned(), Signal::Logs)];
            assert!(
                records.len() == 1 && records[0].contains(&format!("of {server}\"")),
                "{server}: {records:?}"
            );
        }
        assert_eq!(found.len(), servers.len());
    };
    of_each(&home);
    let again = Home::new();
    import_twice(&again, &home.export("gw").path().join("gw"));
    of_each(&again);

    // A second folder of a server, with the name that an export would use.
    fs::create_dir(flat.path().join("%a%2Fb")).unwrap();
    fs::write(flat.path().join("%a%2Fb/logs.jsonl"), "").unwrap();
    let refused = home.run(&["import-jsonl", "gw", flat.path().to_str().unwrap()]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(
        refused
            .stderr
            .contains("both folders of the server \"a/b\""),
        "{refused:?}"
    );
}

#[test]
fn an_export_beside_an_older_one_is_refused() {
    let flat = tempfile::tempdir().unwrap();
    old_stack(flat.path());
    let home = Home::new();
    import_twice(&home, flat.path());
    let out = tempfile::tempdir().unwrap();
    let export = |options: &[&str]| {
        let mut args = vec!["export-jsonl", "--stack", "gw"];
        args.extend(["--out", out.path().to_str().unwrap()]);
        args.extend(options);
        home.run(&args)
    };
    assert_eq!(export(&[]).code, 0);
    assert_eq!(export(&[]).code, 0, "each file is replaced");
    let before = files_below(out.path());
    for options in [&["--compress", "gzip"][..], &["--compress", "zstd"]] {
        let refused = export(options);
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.stderr.contains("is there already"), "{refused:?}");
    }
    assert_eq!(files_below(out.path()), before, "nothing was written");
    assert_eq!(export(&["--max-size-mb", "1"]).code, 0);
    let refused = export(&["--max-size-mb", "1"]);
    assert_eq!(refused.code, 2, "the rotated files would be there twice");
    assert!(refused.stderr.contains("to another folder"), "{refused:?}");
}

#[test]
fn an_active_file_and_its_compressed_older_state_are_one_history() {
    let folder = tempfile::tempdir().unwrap();
    let server = folder.path().join("github");
    fs::create_dir(&server).unwrap();
    let line = |number: u64| format!("{{\"ts\":\"2026-05-08T00:00:00Z\",\"msg\":\"{number}\"}}\n");
    // Compressed with three records, one of them twice; then begun again.
    let older = [line(1), line(2), line(2)].concat();
    common::gzip(&server.join("logs.jsonl.gz"), older.as_bytes());
    fs::write(server.join("logs.jsonl"), line(3)).unwrap();
    assert_eq!(import_twice(&Home::new(), folder.path()), 4);
    // And a copy of the active file, grown by a record.
    fs::write(server.join("logs.jsonl"), older + &line(3)).unwrap();
    assert_eq!(import_twice(&Home::new(), folder.path()), 4);
}

#[test]
fn lines_that_a_collector_drops_are_named_by_their_signal() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("github")).unwrap();
    let line = format!(
        "{{\"ts\":\"2026-05-08T00:00:00Z\",\"msg\":\"{}\"}}\n",
        "x".repeat(1 << 20)
    );
    fs::write(folder.path().join("github/logs.jsonl"), line).unwrap();
    let home = Home::new();
    import_twice(&home, folder.path());
    let out = tempfile::tempdir().unwrap();
    let export = home.run(&[
        "export-jsonl",
        "--stack",
        "gw",
        "--format",
        "otlp",
        "--out",
        out.path().to_str().unwrap(),
    ]);
    assert!(
        export
            .stderr
            .contains("1 lines of logs are longer than 1 MiB, because a single record is"),
        "{export:?}"
    );
}
