//! `forward` sends each record, whichever side is killed and however often: to another gateway's `serve`, and to a
//! real Collector.
//!
//! `GRIDCTL_TELEMETRY_KILLS=20 cargo test --test forwards_a_stack -- --nocapture` forwards 500,000 records while each
//! side is killed 20 times.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::default_trait_access,
    reason = "a test fails by panicking"
)]

#[path = "../../tests/collector/mod.rs"]
mod collector;
mod common;
#[path = "../forward/tests/common/mod.rs"]
mod far;

use collector::{Collector, report};
use common::Home;
use gridctl_telemetry::{
    LogRecord, MetricsSnapshot, Query, ServerName, Signal, SpanRecord, Store, StoreOptions,
    Timestamp, Writer, WriterOptions, ingest::WhenFull,
};
use opentelemetry_proto::tonic::{
    logs::v1::LogsData,
    metrics::v1::{MetricsData, metric::Data},
    trace::v1::{Span, TracesData},
};
use prost::Message;
use rustix::process::{Pid, Signal as Kill, kill_process};
use serde_json::json;
use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::LazyLock,
    thread,
    time::{Duration, Instant},
};

/// A test that waits longer than this has hung.
const HANG: Duration = Duration::from_secs(1200);
/// The time of the first record: recent, because the other gateway has limits of age.
static EPOCH: LazyLock<u64> =
    LazyLock::new(|| Timestamp::now().unix_nanos().cast_unsigned() - 3_600_000_000_000);

/// How often each record of a signal arrived, by the number of the record.
type Arrived = BTreeMap<Signal, BTreeMap<u64, u64>>;

/// The number of kills of each side, and of records.
fn extent() -> (usize, u64) {
    let kills = std::env::var("GRIDCTL_TELEMETRY_KILLS");
    match kills.map_or(4, |it| it.parse().unwrap()) {
        few @ ..=4 => (few, 40_000),
        kills => (kills, kills as u64 * 25_000),
    }
}

fn time_of(number: u64) -> u64 {
    *EPOCH + number * 1000
}

fn number_of(time: u64) -> u64 {
    assert_eq!((time - *EPOCH) % 1000, 0);
    (time - *EPOCH) / 1000
}

/// Fills the stack `gw`: half of the records are logs, a quarter are spans, and a quarter are metrics.
fn fill(home: &Home, records: u64) {
    let store = Store::open(home.path(), "gw", StoreOptions::default()).unwrap();
    let options = WriterOptions::default().when_full(WhenFull::Block);
    let (writer, guard) = Writer::start(&store, options).unwrap();
    for number in 0..records {
        if number % 20_000 == 19_999 {
            flush(&writer);
        }
        let server = ServerName::new(["github", "slack", "jira"][(number % 3) as usize]).unwrap();
        let nanos = time_of(number);
        let time = Timestamp::from_unix_nanos(nanos.cast_signed());
        match number % 4 {
            0 | 1 => {
                let record = LogRecord::new(time, Default::default(), "tool call completed")
                    .with("tool", "search_issues")
                    .with("duration_ms", number.cast_signed() % 977)
                    .with(
                        "trace_id",
                        format!("{:032x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
                    );
                writer.log(&server, &record).unwrap();
            }
            2 => {
                let span = Span {
                    name: "tools/call".to_owned(),
                    trace_id: (u128::from(number) + 1).to_be_bytes().to_vec(),
                    span_id: (number + 1).to_be_bytes().to_vec(),
                    start_time_unix_nano: nanos - 500,
                    end_time_unix_nano: nanos,
                    ..Span::default()
                };
                writer.span(&server, &SpanRecord::new(span)).unwrap();
            }
            _ => {
                let mut snapshot = MetricsSnapshot::new(time);
                snapshot.total.input_tokens = number.cast_signed();
                writer.metrics(&server, &snapshot).unwrap();
            }
        }
    }
    flush(&writer);
    guard.close().unwrap();
}

/// Waits until all is stored, however busy the machine is.
fn flush(writer: &Writer) {
    let begun = Instant::now();
    while let Err(error) = writer.flush() {
        assert!(begun.elapsed() < HANG, "{error}");
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// A process that is killed when it is dropped.
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Process {
        let command = command.stdin(Stdio::null()).stdout(Stdio::null());
        Process(command.spawn().unwrap())
    }

    fn kill(mut self, signal: Kill) {
        assert_eq!(self.0.try_wait().unwrap(), None, "it had ended");
        kill_process(Pid::from_child(&self.0), signal).unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The process must not outlive a failed test.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The other side: how it is started for the n-th time and ended, how many bytes it has, and what arrived.
struct FarSide<'a> {
    end: Kill,
    start: &'a dyn Fn(usize) -> Process,
    bytes: &'a dyn Fn() -> u64,
    arrived: &'a dyn Fn() -> Arrived,
}

/// Forwards a stack while each side is killed, and checks what arrived.
fn forward_under_kills(name: &str, home: &Home, port: u16, far: &FarSide<'_>) {
    let (kills, records) = extent();
    fill(home, records);
    let url = format!("http://127.0.0.1:{port}");
    let said = home.path().join("said");
    let start = || {
        let stderr = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&said)
            .unwrap();
        Process::start(
            home.command(&["forward", "gw", "--endpoint", &url])
                .stderr(stderr),
        )
    };
    let mut random = fastrand::Rng::with_seed(5);
    let (mut near_side, mut far_side) = (start(), (far.start)(0));
    let begun = Instant::now();
    let mut has = (far.bytes)();
    let mut killed = [0; 2];
    for round in 0..2 * kills {
        // After about as many bytes each time. What is left at the end is sent without a kill.
        has += random.u64(1..records * 40 / (3 * kills as u64));
        while (far.bytes)() < has && near_side.0.try_wait().unwrap().is_none() {
            assert!(
                begun.elapsed() < HANG,
                "it hangs: {}",
                fs::read_to_string(&said).unwrap()
            );
            thread::sleep(Duration::from_micros(300));
        }
        if near_side.0.try_wait().unwrap().is_some() {
            break;
        }
        if round % 2 == 0 {
            near_side.kill(Kill::KILL);
            near_side = start();
            killed[0] += 1;
        } else {
            far_side.kill(far.end);
            far_side = (far.start)(round);
            killed[1] += 1;
        }
        has = (far.bytes)();
    }
    let status = near_side.0.wait().unwrap();
    let said = fs::read_to_string(&said).unwrap();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(
        killed.iter().all(|it| *it >= kills / 2),
        "it was faster than the kills: {killed:?}"
    );
    kill_process(Pid::from_child(&far_side.0), Kill::TERM).unwrap();
    far_side.0.wait().unwrap();
    let arrived = (far.arrived)();
    let count = |signal: Signal| arrived[&signal].len() as u64;
    let twice: u64 = arrived
        .values()
        .flat_map(BTreeMap::values)
        .map(|count| count - 1)
        .sum();
    let found: u64 = Signal::ALL.into_iter().map(count).sum();
    report(&format!(
        "{name}: {records} records of three signals, {} kills of the forwarder and {} of the far side in {:?}: {} missing, {twice} twice",
        killed[0],
        killed[1],
        begun.elapsed(),
        records - found,
    ));
    assert_eq!(count(Signal::Logs), records / 2);
    assert_eq!(count(Signal::Traces), records / 4);
    assert_eq!(count(Signal::Metrics), records / 4);
    // Only a batch that was on its way is sent twice: one of each signal for each kill.
    assert!(twice <= 2 * kills as u64 * 3 * 4096, "{twice}");
    assert!(said.contains("may be sent a second time"), "{said}");
}

#[test]
fn another_gateway_has_each_record_whatever_is_killed() {
    let (home, other) = (Home::new(), Home::new());
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let far = FarSide {
        // It answers once records are queued, so `kill -9` can take some that it has acknowledged.
        end: Kill::TERM,
        start: &|_| Process::start(&mut other.command(&["serve", "far", "--listen", &listen])),
        bytes: &|| {
            let path = other.database("far");
            let store = path
                .exists()
                .then(|| Store::open_read_only(other.path(), "far", StoreOptions::for_tools()));
            let store = store.and_then(|it| it.ok().flatten());
            let next = store.and_then(|store| store.snapshot().ok()?.next_sequence().ok());
            next.unwrap_or_default() * 40
        },
        arrived: &|| {
            let store = Store::open(other.path(), "far", StoreOptions::default()).unwrap();
            let snapshot = store.snapshot().unwrap();
            let mut arrived = Arrived::new();
            for signal in Signal::ALL {
                let mut scan = snapshot.scan(&Query::new(signal)).unwrap();
                let of_signal = arrived.entry(signal).or_default();
                while let Some(record) = scan.next().unwrap() {
                    let number = number_of(record.timestamp.unix_nanos().cast_unsigned());
                    *of_signal.entry(number).or_default() += 1;
                }
            }
            arrived
        },
    };
    forward_under_kills("another gateway", &home, port, &far);
}

#[test]
fn a_collector_has_each_record_whatever_is_killed() {
    let Some(collector) = Collector::build("a_collector_has_each_record_whatever_is_killed") else {
        return;
    };
    let home = Home::new();
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let path = |run: usize, signal: Signal| folder.path().join(format!("{signal}-{run}"));
    let files = |signal: Signal| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder.path())
            .unwrap()
            .map(|it| it.unwrap().path());
        let is_of = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with(&format!("{signal}-"))
        };
        entries.filter(is_of).collect()
    };
    let far = FarSide {
        end: Kill::KILL,
        start: &|run| {
            let exporter = |signal| {
                // Without a rotation, the file exporter answers before it has written, and loses that in a kill.
                json!({ "path": path(run, signal), "format": "proto", "rotation": { "max_megabytes": 100_000 } })
            };
            let pipeline = |signal: Signal| json!({ "receivers": ["otlp"], "exporters": [format!("file/{signal}")] });
            let of_each = |name: &str, value: &dyn Fn(Signal) -> serde_json::Value| {
                let entries = Signal::ALL
                    .into_iter()
                    .map(|it| (format!("{name}{it}"), value(it)));
                serde_json::Value::Object(entries.collect())
            };
            let config = folder.path().join("config.yaml");
            // JSON is YAML.
            let text = json!({
                "receivers": { "otlp": { "protocols": { "http": { "endpoint": format!("127.0.0.1:{port}") } } } },
                "exporters": of_each("file/", &exporter),
                "service": { "pipelines": of_each("", &pipeline) },
            });
            fs::write(&config, text.to_string()).unwrap();
            Process::start(
                collector
                    .command()
                    .arg("--config")
                    .arg(&config)
                    .stderr(Stdio::null()),
            )
        },
        bytes: &|| {
            let paths = Signal::ALL.into_iter().flat_map(files);
            paths
                .map(|it| fs::metadata(it).map_or(0, |it| it.len()))
                .sum()
        },
        arrived: &|| {
            let mut arrived = Arrived::new();
            for signal in Signal::ALL {
                let of_signal = arrived.entry(signal).or_default();
                for path in files(signal) {
                    for time in times(signal, &path) {
                        *of_signal.entry(number_of(time)).or_default() += 1;
                    }
                }
            }
            arrived
        },
    };
    forward_under_kills("a Collector", &home, port, &far);
}

/// The times of the records in a file of the Collector. A kill can leave half a message at its end, which was not
/// acknowledged.
fn times(signal: Signal, path: &Path) -> Vec<u64> {
    let bytes = fs::read(path).unwrap();
    let mut rest = bytes.as_slice();
    let mut times = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk() {
        let Some((message, after)) = after.split_at_checked(u32::from_be_bytes(*length) as usize)
        else {
            break;
        };
        rest = after;
        match signal {
            Signal::Logs => {
                let data = LogsData::decode(message).unwrap();
                let scopes = data.resource_logs.into_iter().flat_map(|it| it.scope_logs);
                times.extend(
                    scopes
                        .flat_map(|it| it.log_records)
                        .map(|it| it.time_unix_nano),
                );
            }
            Signal::Traces => {
                let data = TracesData::decode(message).unwrap();
                let scopes = data
                    .resource_spans
                    .into_iter()
                    .flat_map(|it| it.scope_spans);
                times.extend(
                    scopes
                        .flat_map(|it| it.spans)
                        .map(|it| it.end_time_unix_nano),
                );
            }
            Signal::Metrics => {
                let data = MetricsData::decode(message).unwrap();
                let scopes = data
                    .resource_metrics
                    .into_iter()
                    .flat_map(|it| it.scope_metrics);
                for metric in scopes.flat_map(|it| it.metrics) {
                    let Some(Data::Sum(sum)) = metric.data else {
                        panic!("{metric:?}")
                    };
                    times.push(sum.data_points[0].time_unix_nano);
                }
            }
        }
    }
    times
}

#[test]
fn a_signal_ends_it_while_the_endpoint_is_away_and_secrets_are_not_shown() {
    let home = Home::new();
    fill(&home, 40);
    let url = format!("http://me:secret@127.0.0.1:{}/?key=secret", free_port());
    let header = "authorization=secret";
    let args = [
        "forward",
        "gw",
        "--endpoint",
        &url,
        "--header",
        header,
        "--follow",
    ];
    let mut child = home
        .command(&args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = child.stderr.take().unwrap();
    let mut first = [0; 1];
    // It says that the endpoint is away.
    said.read_exact(&mut first).unwrap();
    kill_process(Pid::from_child(&child), Kill::TERM).unwrap();
    let mut text = String::new();
    said.read_to_string(&mut text).unwrap();
    let mut shown = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut shown)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{text}");
    assert!(shown.starts_with("sent 0 records"), "{shown}");
    assert!(
        text.contains("sending again in") && !text.contains("secret"),
        "{text}"
    );
}

#[test]
fn what_an_endpoint_says_is_escaped_and_totals_say_what_was_not_taken() {
    let home = Home::new();
    fill(&home, 40);
    let far = far::Far::start(|_, _| {
        far::answer(
            "400 Bad Request",
            "Content-Type: text/plain\r\n",
            b"\x1b]0;owned\x07no",
        )
    });
    let args = [
        "forward",
        "gw",
        "--endpoint",
        &far.url(),
        "--signal",
        "logs",
    ];
    let refused = home.run(&args);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused
            .stdout
            .starts_with("sent 0 records in 0 requests, 0 B; 20 refused"),
        "{refused:?}"
    );
    assert!(refused.stderr.contains("400 Bad Request"), "{refused:?}");
    assert!(!refused.stderr.contains(['\u{1b}', '\u{7}']), "{refused:?}");
    let losses = home.run(&["losses", "gw"]);
    assert!(
        losses.stdout.contains("refused by an endpoint"),
        "{losses:?}"
    );
    let wiped = home.run(&["wipe", "gw", "--signal", "logs", "-y"]);
    assert!(
        wiped
            .stdout
            .contains("may hold wiped records: delete it yourself"),
        "{wiped:?}"
    );
    // Nothing is left to send.
    assert_eq!(
        home.run(&args).stdout,
        "sent 0 records in 0 requests, 0 B\n"
    );
}

#[test]
fn the_environment_says_where_and_options_win() {
    let home = Home::new();
    fill(&home, 40);
    let (one, other) = (
        far::Far::start(|_, _| far::ok()),
        far::Far::start(|_, _| far::ok()),
    );
    let run = |args: &[&str]| {
        let mut command = home.command(&[&["forward", "gw"], args].concat());
        command
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", one.url())
            .env("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%20b,x-more=1")
            .env(
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
                format!("{}/elsewhere", one.url()),
            );
        common::output(&mut command)
    };
    assert_eq!(run(&[]).code, 0);
    let mut paths: Vec<String> = one.requests().into_iter().map(|it| it.path).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["/elsewhere", "/v1/logs", "/v1/metrics"]);
    let ended = run(&["--endpoint", &other.url(), "--header", "x-more=2", "github"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let request = &other.requests()[0];
    assert_eq!(
        (&*request.headers["x-key"], &*request.headers["x-more"]),
        ("a b", "2")
    );
    let nowhere = home.run(&["forward", "gw"]);
    assert_eq!(nowhere.code, 2, "{nowhere:?}");
    assert!(
        nowhere.stderr.contains("OTEL_EXPORTER_OTLP_ENDPOINT"),
        "{nowhere:?}"
    );
}
