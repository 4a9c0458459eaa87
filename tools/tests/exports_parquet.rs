//! `export-parquet` writes each record once, in files that appear complete: however often it runs, is killed and is
//! resumed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Home, Output, output};
use gridctl_telemetry::{
    Level, LogRecord, MetricsSnapshot, Record, ServerName, SpanRecord, Store, StoreOptions,
    Timestamp,
    external::opentelemetry_proto::tonic::trace::v1::Span,
    import::{ImportBatch, Importer},
};
use gridctl_telemetry_parquet::external::parquet::file::reader::{
    FileReader, SerializedFileReader,
};
use redb::{Database, ReadableTable, TableDefinition};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::{fs::PermissionsExt, fs::symlink},
    path::{Path, PathBuf},
    process::Stdio,
    thread,
    time::Duration,
};

const DAY: i64 = 24 * 60 * 60 * 1_000_000_000;
/// 2026-05-08T00:00:00Z
const BEGIN: i64 = 1_778_198_400_000_000_000;

fn store(home: &Home, stack: &str) -> Store {
    Store::open(home.path(), stack, StoreOptions::default()).unwrap()
}

/// Stores records with these numbers, whose times do not follow the order of arrival, over three days.
fn append(home: &Home, stack: &str, numbers: std::ops::Range<i64>) {
    let store = store(home, stack);
    let mut importer = Importer::new(&store).unwrap();
    let mut batch = ImportBatch::default();
    for number in numbers {
        let server = ["github", "a/../b"][usize::from(number % 5 == 0)];
        let server = ServerName::new(server).unwrap();
        let nanos = BEGIN + (number % 89) * (DAY / 30) + number;
        let log = LogRecord::new(
            Timestamp::from_unix_nanos(nanos),
            Level::INFO,
            format!("record {number}"),
        );
        batch.push(&server, &Record::Log(log)).unwrap();
    }
    importer.add(batch).unwrap();
}

/// All files below a folder, by their paths below it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(folder).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// The values of a column of all files of a table, each with how often it is there. Every file is complete.
fn values(out: &Path, table: &str, column: &str) -> BTreeMap<String, usize> {
    let mut values = BTreeMap::new();
    for file in files(out) {
        let name = file.to_str().unwrap();
        if !name.contains(&format!("/signal={table}/")) || !name.ends_with(".parquet") {
            continue;
        }
        let reader = SerializedFileReader::new(fs::File::open(out.join(&file)).unwrap()).unwrap();
        for row in reader.get_row_iter(None).unwrap() {
            let row = row.unwrap();
            let (_, field) = row
                .get_column_iter()
                .find(|(name, _)| *name == column)
                .unwrap();
            *values.entry(field.to_string()).or_default() += 1;
        }
    }
    values
}

fn each_once(out: &Path, count: usize) {
    let bodies = values(out, "logs", "Body");
    assert_eq!(bodies.len(), count);
    assert!(bodies.values().all(|times| *times == 1), "{bodies:?}");
}

fn export(home: &Home, stack: &str, out: &Path, more: &[&str]) -> Output {
    let out = out.to_str().unwrap();
    home.run(&[&["export-parquet", stack, "--out", out], more].concat())
}

#[test]
fn files_are_private_and_partitioned_by_stack_signal_and_day() {
    let home = Home::new();
    let stack = "é=1 %";
    append(&home, stack, 0..900);
    {
        let store = store(&home, stack);
        let server = ServerName::new("github").unwrap();
        let mut batch = ImportBatch::default();
        let mut snapshot = MetricsSnapshot::new(Timestamp::from_unix_nanos(BEGIN));
        snapshot.diff.input_tokens = 3;
        snapshot.total.input_tokens = 40;
        batch.push(&server, &Record::Metrics(snapshot)).unwrap();
        let span = SpanRecord::new(Span {
            name: "tools/call".to_owned(),
            start_time_unix_nano: (BEGIN - 1).cast_unsigned(),
            end_time_unix_nano: BEGIN.cast_unsigned(),
            ..Span::default()
        });
        batch.push(&server, &Record::Span(Box::new(span))).unwrap();
        Importer::new(&store).unwrap().add(batch).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("lake");
    let done = export(&home, stack, &out, &[]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(
        done.stderr.contains("exported 902 records to 5 files"),
        "{done:?}"
    );
    let found: Vec<String> = files(&out)
        .iter()
        .map(|file| file.parent().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        found,
        [
            "stack=%C3%A9%3D1%20%25/signal=logs/date=2026-05-08",
            "stack=%C3%A9%3D1%20%25/signal=logs/date=2026-05-09",
            "stack=%C3%A9%3D1%20%25/signal=logs/date=2026-05-10",
            "stack=%C3%A9%3D1%20%25/signal=metrics_sum/date=2026-05-08",
            // Under the day of its end.
            "stack=%C3%A9%3D1%20%25/signal=traces/date=2026-05-08",
        ]
    );
    each_once(&out, 900);
    let counters = values(&out, "metrics_sum", "MetricName");
    assert_eq!(counters[r#""gridctl.tokens""#], 2);
    assert_eq!(counters[r#""gridctl.tokens.counted""#], 1);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for file in files(&out) {
        let path = out.join(file);
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    }

    // The same records again would be there twice.
    let again = export(&home, stack, &out, &[]);
    assert_eq!(again.code, 2, "{again:?}");
    assert!(
        again.stderr.contains("has records of this database"),
        "{again:?}"
    );
    // Another machine has another database, and exports to the same folder.
    let other = Home::new();
    append(&other, stack, 900..910);
    let done = export(&other, stack, &out, &["--signal", "logs"]);
    assert_eq!(done.code, 0, "{done:?}");
    each_once(&out, 910);
    let instances = values(&out, "logs", "ResourceAttributes");
    let instances: BTreeSet<&str> = instances
        .keys()
        .map(|it| it.split("service.instance.id").nth(1).unwrap())
        .collect();
    assert_eq!(instances.len(), 2, "{instances:?}");
    // Times and servers select records.
    let out = folder.path().join("some");
    let done = export(
        &home,
        stack,
        &out,
        &[
            "--server",
            "a/../b",
            "--since",
            "2026-05-09T00:00:00Z",
            "--until",
            "2026-05-10T00:00:00Z",
            "--signal",
            "logs",
        ],
    );
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(files(&out).len(), 1);
    let names = values(&out, "logs", "ServiceName");
    assert_eq!(names.keys().collect::<Vec<_>>(), [r#""a/../b""#]);
    let none = export(
        &home,
        stack,
        &folder.path().join("none"),
        &["--since", "2030-01-01"],
    );
    assert_eq!(none.code, 1, "{none:?}");
}

#[test]
fn a_resumed_export_has_each_record_once() {
    let home = Home::new();
    append(&home, "gw", 0..500);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("lake");
    let progress = folder.path().join("progress");
    let resume = ["--resume", progress.to_str().unwrap()];
    for (numbers, total) in [
        (500..500, 500),
        (500..500, 500),
        (500..700, 700),
        (700..701, 701),
    ] {
        append(&home, "gw", numbers);
        let done = export(&home, "gw", &out, &resume);
        assert_eq!(done.code, 0, "{done:?}");
        each_once(&out, total);
    }
    for (options, said) in [
        (&["--signal", "logs"][..], "belongs to another export"),
        (&["--server", "github"], "belongs to another export"),
    ] {
        let refused = export(&home, "gw", &out, &[&resume[..], options].concat());
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.stderr.contains(said), "{refused:?}");
    }
    // Another database at the same place.
    let other = Home::new();
    append(&other, "gw", 0..900);
    let refused = export(&other, "gw", &out, &resume);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(
        refused
            .stderr
            .contains("the database is not the one that was exported before"),
        "{refused:?}"
    );
    // A progress file of another kind, and one that names files elsewhere.
    let jsonl = folder.path().join("jsonl");
    let args = [
        "export-jsonl",
        "gw",
        "--out",
        folder.path().to_str().unwrap(),
        "--resume",
    ];
    assert_eq!(
        home.run(&[&args[..], &[jsonl.to_str().unwrap()]].concat())
            .code,
        0
    );
    let refused = export(&home, "gw", &out, &["--resume", jsonl.to_str().unwrap()]);
    assert!(
        refused.code == 2 && refused.stderr.contains("is not the progress file"),
        "{refused:?}"
    );
    let victim = folder.path().join("victim.parquet");
    fs::write(&victim, "mine").unwrap();
    let text = fs::read_to_string(&progress).unwrap();
    let evil = text.replace(r#""writing": []"#, r#""writing": ["../victim.parquet"]"#);
    assert_ne!(evil, text);
    fs::write(&progress, evil).unwrap();
    let refused = export(&home, "gw", &out, &resume);
    assert!(
        refused.code == 2 && refused.stderr.contains("which no export writes"),
        "{refused:?}"
    );
    assert_eq!(fs::read(&victim).unwrap(), b"mine");
    fs::write(&progress, text).unwrap();
    // A link in the place of a folder.
    let stack = out.join("stack=gw");
    fs::rename(&stack, folder.path().join("moved")).unwrap();
    symlink(folder.path().join("moved"), &stack).unwrap();
    append(&home, "gw", 701..702);
    let refused = export(&home, "gw", &out, &resume);
    assert!(
        refused.code == 2 && refused.stderr.contains("is a symbolic link"),
        "{refused:?}"
    );
}

#[test]
fn a_killed_export_goes_on_without_a_record_twice_or_missing() {
    let home = Home::new();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("lake");
    let progress = folder.path().join("progress");
    let args = [
        "export-parquet",
        "gw",
        "--out",
        out.to_str().unwrap(),
        "--resume",
        progress.to_str().unwrap(),
    ];
    let mut stored = 0;
    let mut killed = 0;
    for round in 0..12_u64 {
        append(&home, "gw", stored..stored + 400);
        stored += 400;
        let mut child = home.command(&args).stderr(Stdio::null()).spawn().unwrap();
        // At any moment: no test depends on which.
        thread::sleep(Duration::from_millis(10 + 9 * round));
        let signal = if round % 4 == 3 {
            Signal::TERM
        } else {
            Signal::KILL
        };
        let _ = kill_process(Pid::from_child(&child), signal);
        killed += usize::from(!child.wait().unwrap().success());
        // A reader sees complete files only, and nothing twice.
        if out.exists() {
            let bodies = values(&out, "logs", "Body");
            assert!(bodies.values().all(|times| *times == 1), "{bodies:?}");
        }
    }
    assert!(killed > 0);
    let done = home.run(&args);
    assert_eq!(done.code, 0, "{done:?}");
    each_once(&out, usize::try_from(stored).unwrap());
    let left = files(&out);
    let left = left
        .iter()
        .find(|file| !file.to_str().unwrap().ends_with(".parquet"));
    assert_eq!(left, None);
}

#[test]
fn what_a_killed_export_had_begun_is_ended() {
    let home = Home::new();
    append(&home, "gw", 0..10);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("lake");
    let progress = folder.path().join("progress");
    let resume = ["--resume", progress.to_str().unwrap()];
    assert_eq!(export(&home, "gw", &out, &resume).code, 0);
    // As if it had been killed before the last file was renamed, with another one half written.
    let last = files(&out).pop().unwrap();
    let temporary = last.with_file_name(".abc.part");
    let half = last.with_file_name(".half.part");
    fs::rename(out.join(&last), out.join(&temporary)).unwrap();
    fs::write(out.join(&half), "PAR1").unwrap();
    let text = fs::read_to_string(&progress).unwrap();
    let mut known: serde_json::Value = serde_json::from_str(&text).unwrap();
    known["placing"] = serde_json::json!([[temporary, last]]);
    known["writing"] = serde_json::json!([half]);
    fs::write(&progress, known.to_string()).unwrap();
    let done = export(&home, "gw", &out, &resume);
    assert_eq!(done.code, 0, "{done:?}");
    each_once(&out, 10);
    assert!(!out.join(temporary).exists() && !out.join(half).exists());
    // The folder may be named from the current one.
    append(&home, "gw", 10..12);
    let mut relative = home.command(&[
        "export-parquet",
        "gw",
        "--out",
        "lake",
        "--resume",
        "progress",
    ]);
    let done = output(relative.current_dir(folder.path()));
    assert_eq!(done.code, 0, "{done:?}");
    each_once(&out, 12);
    // A file that its user took away counts as exported.
    fs::remove_file(out.join(&last)).unwrap();
    assert_eq!(export(&home, "gw", &out, &resume).code, 0);
    assert!(!out.join(last).exists());
}

/// The pieces of blocks.
const PIECES: TableDefinition<&[u8; 23], &[u8]> = TableDefinition::new("pieces");

/// Flips a bit of a piece of a block.
fn damage_a_block(home: &Home) {
    let database = Database::open(home.database("gw")).unwrap();
    let transaction = database.begin_write().unwrap();
    let mut pieces = transaction.open_table(PIECES).unwrap();
    let (key, mut piece) = {
        let second = pieces.iter().unwrap().nth(1).unwrap().unwrap();
        (*second.0.value(), second.1.value().to_vec())
    };
    *piece.last_mut().unwrap() ^= 1;
    pieces.insert(&key, piece.as_slice()).unwrap();
    drop(pieces);
    transaction.commit().unwrap();
}

#[test]
fn a_damaged_block_is_named_and_the_rest_is_exported() {
    let home = Home::new();
    append(&home, "gw", 0..900);
    damage_a_block(&home);
    let folder = tempfile::tempdir().unwrap();
    let progress = folder.path().join("progress");
    let resume = ["--resume", progress.to_str().unwrap()];
    for options in [&[][..], &resume] {
        let out = folder.path().join(options.len().to_string());
        let done = export(&home, "gw", &out, options);
        assert_eq!(done.code, 1, "{done:?}");
        let exported = values(&out, "logs", "Body").len();
        let lost = 900 - exported;
        assert!(lost > 0 && exported > 0, "{exported}");
        let named = format!("cannot read {lost} records: ");
        assert_eq!(done.stderr.matches("cannot read ").count(), 1, "{done:?}");
        assert!(done.stderr.contains(&named), "{done:?}");
        let exported = format!("exported {exported} records");
        assert!(done.stderr.contains(&exported), "{done:?}");
        each_once(&out, 900 - lost);
    }
}

#[test]
fn metrics_of_other_programs_reach_the_tables_of_their_kinds() {
    let home = Home::new();
    let folder = tempfile::tempdir().unwrap();
    let at = r#""timeUnixNano":"1778198400000000007","startTimeUnixNano":"1778198400000000000""#;
    let metrics = [
        format!(
            r#"{{"name":"depth","unit":"{{calls}}","gauge":{{"dataPoints":[{{{at},"asDouble":2.5}},{{{at},"asInt":"-3"}}]}}}}"#
        ),
        format!(
            r#"{{"name":"bytes","sum":{{"aggregationTemporality":1,"isMonotonic":false,"dataPoints":[{{{at},"asInt":"4"}}]}}}}"#
        ),
        format!(
            r#"{{"name":"latency","histogram":{{"aggregationTemporality":2,"dataPoints":[{{{at},"count":"3","sum":7.5,"bucketCounts":["1","2","0"],"explicitBounds":[1,5],"min":0.5,"max":4}}]}}}}"#
        ),
        format!(
            r#"{{"name":"size","exponentialHistogram":{{"aggregationTemporality":1,"dataPoints":[{{{at},"count":"6","sum":9,"scale":-1,"zeroCount":"1","positive":{{"offset":2,"bucketCounts":["3","1"]}},"negative":{{"offset":-4,"bucketCounts":["1"]}}}}]}}}}"#
        ),
        format!(
            r#"{{"name":"wait","summary":{{"dataPoints":[{{{at},"count":"8","sum":16,"quantileValues":[{{"quantile":0.5,"value":1}},{{"quantile":0.99,"value":6}}]}}]}}}}"#
        ),
    ];
    let message = format!(
        r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"shop"}}}}]}},"scopeMetrics":[{{"scope":{{"name":"lib"}},"metrics":[{}]}}]}}]}}"#,
        metrics.join(",")
    );
    let path = folder.path().join("metrics.jsonl");
    fs::write(&path, message + "\n").unwrap();
    let imported = home.import_with(&path, &[]);
    assert_eq!(imported.code, 0, "{imported:?}");
    let out = folder.path().join("lake");
    let done = export(&home, "gw", &out, &[]);
    assert_eq!(done.code, 0, "{done:?}");
    for (table, column, expected) in [
        (
            "metrics_gauge",
            "MetricName",
            &["\"depth\"", "\"depth\""][..],
        ),
        ("metrics_gauge", "Value", &["-3E0", "2.5"]),
        (
            "metrics_gauge",
            "MetricUnit",
            &["\"{calls}\"", "\"{calls}\""],
        ),
        ("metrics_sum", "MetricName", &["\"bytes\""]),
        ("metrics_sum", "Value", &["4.0"]),
        ("metrics_sum", "IsMonotonic", &["false"]),
        ("metrics_sum", "AggregationTemporality", &["1"]),
        ("metrics_histogram", "MetricName", &["\"latency\""]),
        ("metrics_histogram", "Count", &["3"]),
        ("metrics_histogram", "BucketCounts", &["[1, 2, 0]"]),
        ("metrics_histogram", "ExplicitBounds", &["[1.0, 5.0]"]),
        ("metrics_histogram", "Max", &["4.0"]),
        ("metrics_exponential_histogram", "MetricName", &["\"size\""]),
        ("metrics_exponential_histogram", "PositiveOffset", &["2"]),
        (
            "metrics_exponential_histogram",
            "PositiveBucketCounts",
            &["[3, 1]"],
        ),
        (
            "metrics_exponential_histogram",
            "NegativeBucketCounts",
            &["[1]"],
        ),
        ("metrics_summary", "MetricName", &["\"wait\""]),
        (
            "metrics_summary",
            "ValueAtQuantiles.Quantile",
            &["[0.5, 0.99]"],
        ),
        ("metrics_summary", "ValueAtQuantiles.Value", &["[1.0, 6.0]"]),
    ] {
        let found = values(&out, table, column);
        let found: Vec<String> = found
            .into_iter()
            .flat_map(|(value, times)| vec![value; times])
            .collect();
        assert_eq!(found, expected, "{table}.{column}");
    }
    // All of them say where they are from.
    for table in [
        "gauge",
        "sum",
        "histogram",
        "exponential_histogram",
        "summary",
    ] {
        let table = format!("metrics_{table}");
        assert_eq!(
            values(&out, &table, "ServiceName")
                .into_keys()
                .collect::<Vec<_>>(),
            ["\"shop\""]
        );
        assert_eq!(
            values(&out, &table, "ScopeName")
                .into_keys()
                .collect::<Vec<_>>(),
            ["\"lib\""]
        );
    }
}
