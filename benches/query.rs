//! How long an operator waits for an answer, in a new process and with the files in the page cache.
//!
//! ```text
//! cargo bench -p gridctl-telemetry-benches --bench query [-- --quick | --logs N | --spans N | --runs N | --keep DIR]
//! ```
//!
//! Stores logs of ten servers and, in another stack, spans of two, asks the program `gridctl-telemetry` one question after
//! another, and prints the median time and the peak memory of each process. If ripgrep is installed, it
//! searches the same logs as NDJSON. Then it prints what summaries take of the disk, and what they cost
//! a writer. `--keep` keeps the stored records in a folder, where the next run finds them.

use anyhow::{Context, Result, ensure};
use gridctl_telemetry::{
    Record, ServerName, SpanRecord, Store, StoreOptions, Timestamp, Writer, WriterOptions,
    external::opentelemetry_proto::tonic::{
        common::v1::{AnyValue, KeyValue, any_value::Value as Any},
        trace::v1::{Span, Status},
    },
    import::{ImportBatch, Importer},
    ingest::WhenFull,
    traces::hex,
};
use gridctl_telemetry_benches::{
    Arguments, GatewayLogs, SERVERS, Table, bench_folder, mebibytes, median, per_second, ratio,
    seconds, time,
};
use redb::{ReadableDatabase, ReadableTableMetadata, TableHandle};
use std::{
    fs::{self, File},
    io::{BufWriter, Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// Where the benchmark writes.
const FOLDER: &str = env!("CARGO_TARGET_TMPDIR");
/// The stack of the logs.
const STACK: &str = "bench";
/// The stack of the spans.
const SPANS_STACK: &str = "spans";
/// The name of the environment variable with the user's home.
const HOME: &str = "GRIDCTL_HOME";
/// The number of logs between two rare words.
const RARE: usize = 1_700_000;
const BATCH: usize = 200_000;
/// The number of spans of a trace.
const TRACE_SPANS: u64 = 5;

fn main() -> Result<()> {
    let arguments = Arguments::read(&["--quick", "--logs", "--spans", "--runs", "--keep"])?;
    let quick = arguments.has("--quick");
    let logs: usize = arguments.value("--logs", if quick { 500_000 } else { 5_000_000 })?;
    let spans: u64 = arguments.value("--spans", if quick { 100_000 } else { 1_000_000 })?;
    let runs: usize = arguments.value("--runs", if quick { 5 } else { 15 })?;
    let keep: String = arguments.value("--keep", String::new())?;
    let program = build_program()?;
    let temporary = bench_folder(FOLDER)?;
    let home = if keep.is_empty() {
        temporary.path().to_owned()
    } else {
        PathBuf::from(keep)
    };
    let known = stored(&home, logs, spans)?;
    ask_all(&program, &home, &known, runs)?;
    summaries(&home)?;
    ingest(if quick { 3 } else { 7 })
}

/// Builds the program as it is released.
fn build_program() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("a parent")?;
    let built = Command::new(env!("CARGO"))
        .args([
            "build",
            "--release",
            "--quiet",
            "-p",
            "gridctl-telemetry-tools",
        ])
        .current_dir(root)
        .status()?;
    ensure!(built.success(), "the program cannot be built");
    // The folder of this executable is `<target>/release/deps`.
    let here = std::env::current_exe()?;
    let release = here.parent().and_then(Path::parent).context("a folder")?;
    Ok(release.join("gridctl-telemetry"))
}

/// Ids that are asked for.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
struct Known {
    logs: usize,
    spans: u64,
    oldest: String,
    newest: String,
    span_trace: String,
}

/// Stores the records, unless the folder has them from an earlier run.
fn stored(home: &Path, logs: usize, spans: u64) -> Result<Known> {
    let notes = home.join("known.json");
    if let Ok(text) = fs::read_to_string(&notes) {
        let known: Known = serde_json::from_str(&text)?;
        if known.logs == logs && known.spans == spans {
            return Ok(known);
        }
        fs::remove_dir_all(home)?;
    }
    fs::create_dir_all(home)?;
    let mut known = Known {
        logs,
        spans,
        ..Known::default()
    };
    let store = open(home, STACK)?;
    let mut importer = Importer::new(&store)?;
    let servers = (0..10)
        .map(|number| {
            let name = SERVERS.get(number % SERVERS.len()).context("a name")?;
            Ok(ServerName::new(format!("{name}{number}"))?)
        })
        .collect::<Result<Vec<ServerName>>>()?;
    let mut lines = BufWriter::new(File::create(home.join("logs.jsonl"))?);
    let mut random = fastrand::Rng::with_seed(5);
    let mut batch = ImportBatch::default();
    for (number, record) in GatewayLogs::new(9).take(logs).enumerate() {
        let mut record = record?;
        let mut line = record.line.to_vec();
        if number % RARE == RARE / 2 {
            "a quasar 17 appeared".clone_into(&mut record.record.message);
            line.extend_from_slice(b"quasar 17 appeared");
        }
        lines.write_all(&line)?;
        lines.write_all(b"\n")?;
        let id = || {
            let attributes = record.record.attributes.iter();
            let mut ids = attributes.filter(|(key, _)| key == "trace_id");
            match ids.next() {
                Some((_, gridctl_telemetry::Value::String(id))) => id.clone(),
                _ => String::new(),
            }
        };
        if number == 0 {
            known.oldest = id();
        }
        if number + 1 == logs {
            known.newest = id();
        }
        let server = servers
            .get(random.usize(0..servers.len()))
            .context("a server")?;
        batch.push(server, &Record::Log(record.record))?;
        if number % BATCH == BATCH - 1 {
            importer.add(std::mem::take(&mut batch))?;
        }
    }
    lines.flush()?;
    importer.add(std::mem::take(&mut batch))?;
    drop(importer);
    let store = open(home, SPANS_STACK)?;
    let mut importer = Importer::new(&store)?;
    for number in 0..spans {
        let span = span(number);
        if number == spans / 2 {
            known.span_trace = hex(&span.span.trace_id);
        }
        let server = servers
            .get(usize::try_from(number / 100 % 2)?)
            .context("a server")?;
        batch.push(server, &Record::Span(Box::new(span)))?;
        if number % BATCH as u64 == BATCH as u64 - 1 {
            importer.add(std::mem::take(&mut batch))?;
        }
    }
    importer.add(batch)?;
    drop(importer);
    fs::write(&notes, serde_json::to_string(&known)?)?;
    Ok(known)
}

fn open(home: &Path, stack: &str) -> Result<Store> {
    Ok(Store::open(
        &home.join(".gridctl"),
        stack,
        StoreOptions::default(),
    )?)
}

/// A span of a tool call, one millisecond after the one before it.
fn span(number: u64) -> SpanRecord {
    let mut random = fastrand::Rng::with_seed(number / TRACE_SPANS);
    let trace_id: Vec<u8> = random.u128(..).to_be_bytes().into();
    let mut random = fastrand::Rng::with_seed(!number);
    let start = 1_778_283_543_000_000_000 + number * 1_000_000;
    let failed = random.u32(0..200) == 0;
    let text = |key: &str, text: &str| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(Any::StringValue(text.to_owned())),
        }),
        ..KeyValue::default()
    };
    let tool = [
        "search_code",
        "read_file",
        "query",
        "navigate",
        "post_message",
    ];
    let tool = tool.get(random.usize(0..5)).copied().unwrap_or_default();
    SpanRecord::new(Span {
        trace_id,
        span_id: random.u64(..).to_be_bytes().into(),
        parent_span_id: if number.is_multiple_of(TRACE_SPANS) {
            Vec::new()
        } else {
            random.u64(..).to_be_bytes().into()
        },
        name: format!("tools/call {tool}"),
        kind: 3,
        start_time_unix_nano: start,
        end_time_unix_nano: start + random.u64(1_000_000..900_000_000),
        attributes: vec![text("tool", tool), text("rpc.system", "mcp")],
        status: failed.then(|| Status {
            code: 2,
            message: "context deadline exceeded".to_owned(),
        }),
        ..Span::default()
    })
}

/// What a question took.
struct Answer {
    elapsed: Duration,
    memory_bytes: u64,
    lines: usize,
}

/// A question: its name, the arguments of the program, the time that it may take, and the least number of
/// lines of the answer.
type Question<'a> = (&'a str, Vec<&'a str>, Duration, usize);

fn questions<'a>(known: &'a Known, since: &'a str, until: &'a str) -> Vec<Question<'a>> {
    let absent = "0123456789abcdef0123456789abcdef";
    vec![
        (
            "logs --trace, newest",
            vec!["logs", STACK, "--trace", &known.newest],
            ms(40),
            1,
        ),
        (
            "logs --trace, oldest",
            vec!["logs", STACK, "--trace", &known.oldest],
            ms(40),
            1,
        ),
        (
            "logs --trace, absent",
            vec!["logs", STACK, "--trace", absent],
            ms(40),
            0,
        ),
        (
            "logs --grep, rare word",
            vec!["logs", STACK, "--grep", "quasar"],
            ms(100),
            1,
        ),
        (
            "logs --grep, regular expression",
            vec!["logs", STACK, "--grep", r"QUASAR \d+ app"],
            ms(100),
            1,
        ),
        (
            "logs --grep, part of a number",
            vec!["logs", STACK, "--grep", "sar 17"],
            ms(1000),
            1,
        ),
        (
            "logs --field, any value",
            vec!["logs", STACK, "--field", "duration_ms=77777", "-n", "10"],
            ms(1000),
            0,
        ),
        (
            "logs --level error -n 1000",
            vec!["logs", STACK, "--level", "error", "-n", "1000"],
            ms(60),
            1000,
        ),
        (
            "count --by level",
            vec!["count", STACK, "--by", "level"],
            ms(30),
            4,
        ),
        (
            "logs --since 5m",
            vec![
                "logs", STACK, "--since", since, "--until", until, "-n", "20",
            ],
            ms(30),
            20,
        ),
        ("status", vec!["status", STACK], ms(30), 10),
        (
            "tail -n 20",
            vec!["tail", STACK, "-n", "20", "--no-follow"],
            ms(30),
            20,
        ),
        (
            "trace, of the spans",
            vec!["trace", SPANS_STACK, &known.span_trace],
            ms(20),
            5,
        ),
    ]
}

fn ask_all(program: &Path, home: &Path, known: &Known, runs: usize) -> Result<()> {
    let newest = newest_log(home)?;
    let since = Timestamp::from_unix_nanos(newest.unix_nanos() - 300_000_000_000).to_string();
    let until = newest.to_string();
    let questions = questions(known, &since, &until);
    let mut table = Table::new(&["question", "median", "at most", "memory", "lines"]);
    for (name, arguments, at_most, lines) in questions {
        let mut answers = Vec::new();
        // The first fills the page cache.
        for run in 0..=runs {
            let answer = ask(program, home, &arguments)?;
            if run > 0 {
                answers.push(answer);
            }
        }
        let elapsed: Vec<Duration> = answers.iter().map(|it| it.elapsed).collect();
        let memory = answers.iter().map(|it| it.memory_bytes).max().unwrap_or(0);
        let found = answers.first().map_or(0, |it| it.lines);
        if found < lines {
            eprintln!("{name}: {found} lines, expected {lines}: {arguments:?}");
        }
        table.row(vec![
            name.to_owned(),
            seconds(median(&elapsed)?),
            seconds(at_most),
            mebibytes(memory),
            found.to_string(),
        ]);
    }
    if let Some(elapsed) = ripgrep(home, &known.newest)? {
        let name = "ripgrep for a trace id".to_owned();
        let none = || "-".to_owned();
        table.row(vec![name, seconds(elapsed), none(), none(), "1".to_owned()]);
    }
    println!(
        "{} logs of 10 servers and {} spans, medians of {runs} processes:\n\n{table}",
        known.logs, known.spans
    );
    Ok(())
}

/// How long ripgrep searches the same logs for a trace id; `None` when it is not installed.
fn ripgrep(home: &Path, id: &str) -> Result<Option<Duration>> {
    let is_installed = Command::new("rg").arg("--version").output();
    if !is_installed.is_ok_and(|version| version.status.success()) {
        return Ok(None);
    }
    let mut elapsed = Vec::new();
    for _ in 0..3 {
        let mut command = Command::new("rg");
        let command = command.args(["--count", id]).arg(home.join("logs.jsonl"));
        let (_, took) = time(|| Ok(command.output()?))?;
        elapsed.push(took);
    }
    Ok(Some(median(&elapsed)?))
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn newest_log(home: &Path) -> Result<Timestamp> {
    let store = open(home, STACK)?;
    let inventory = store.snapshot()?.inventory(None)?;
    let logs = inventory
        .iter()
        .filter(|it| it.signal == gridctl_telemetry::Signal::Logs);
    logs.map(|it| it.newest_time)
        .max()
        .context("there are logs")
}

/// Runs the program once. Its peak memory is read while it waits to be reaped.
fn ask(program: &Path, home: &Path, arguments: &[&str]) -> Result<Answer> {
    let started = Instant::now();
    let mut child = Command::new(program)
        .args(arguments)
        .env(HOME, home)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut text = String::new();
    let mut out = child.stdout.take().context("a pipe")?;
    out.read_to_string(&mut text)?;
    let status = child.wait()?;
    let elapsed = started.elapsed();
    ensure!(status.code() != Some(2), "{arguments:?}: {status}");
    Ok(Answer {
        elapsed,
        memory_bytes: peak_memory(program, home, arguments)?,
        lines: text.lines().count(),
    })
}

/// The peak memory of the program, measured in a run of its own: the system tells it only while the
/// process runs.
fn peak_memory(program: &Path, home: &Path, arguments: &[&str]) -> Result<u64> {
    let mut child = Command::new(program)
        .args(arguments)
        .env(HOME, home)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait()?.is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok());
        peak = peak.max(kibibytes.unwrap_or(0u64));
    }
    Ok(peak * 1024)
}

/// Prints what summaries take of what is stored.
fn summaries(home: &Path) -> Result<()> {
    let path = home
        .join(".gridctl/telemetry")
        .join(STACK)
        .join("telemetry.redb");
    let database = redb::Builder::new()
        .set_concurrency_mode(redb::ConcurrencyMode::MultiWriter)
        .open(path)?;
    let transaction = database.begin_read()?;
    let mut of_summaries = 0;
    let mut of_all = 0;
    for table in transaction.list_tables()? {
        let is_summaries = table.name() == "summaries";
        let stats = transaction.open_untyped_table(table)?.stats()?;
        let bytes = stats.stored_bytes() + stats.metadata_bytes() + stats.fragmented_bytes();
        of_all += bytes;
        if is_summaries {
            of_summaries = bytes;
        }
    }
    println!(
        "summaries take {} of {}: {:.1} %\n",
        mebibytes(of_summaries),
        mebibytes(of_all),
        100.0 * ratio(of_summaries, of_all)
    );
    Ok(())
}

/// Prints what summaries cost a writer, with rounds in turn.
fn ingest(rounds: usize) -> Result<()> {
    let mut records = Vec::new();
    let mut logs = GatewayLogs::new(3);
    while records.len() < 400_000 {
        let record = logs.next().context("the supply has no end")??;
        // An error is committed at once.
        if record.record.level < gridctl_telemetry::Level::ERROR {
            records.push((record.server, record.record));
        }
    }
    let servers = SERVERS
        .iter()
        .map(|name| ServerName::new(*name))
        .collect::<Result<Vec<_>, _>>()?;
    let mut elapsed = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (summarizes, elapsed) in [false, true].into_iter().zip(&mut elapsed) {
            let folder = bench_folder(FOLDER)?;
            let store = Store::open(folder.path(), STACK, StoreOptions::default())?;
            let options = WriterOptions::default()
                .commit_interval_min(Duration::from_secs(60))
                .commit_interval_max(Duration::from_secs(60))
                .flush_timeout(Duration::from_secs(600))
                .when_full(WhenFull::Block)
                .summaries(summarizes);
            let (writer, guard) = Writer::start(&store, options)?;
            let ((), took) = time(|| {
                for (server, record) in &records {
                    writer.log(servers.get(*server).context("a server")?, record)?;
                }
                Ok(writer.flush()?)
            })?;
            elapsed.push(took);
            guard.close()?;
        }
    }
    let [without, with] = &elapsed;
    let ratios: Vec<u64> = without
        .iter()
        .zip(with)
        .map(|(without, with)| u64::try_from(with.as_nanos() * 10_000 / without.as_nanos()))
        .collect::<Result<_, _>>()?;
    let count = records.len() as u64;
    println!(
        "ingest of {count} logs: {:.0} records/s without summaries, {:.0} with; the median of the ratios is {:.3}",
        per_second(count, median(without)?),
        per_second(count, median(with)?),
        ratio(median(&ratios)?, 10_000),
    );
    Ok(())
}
