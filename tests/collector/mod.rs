//! A real OpenTelemetry Collector, and the messages that it reads from files of OTLP/JSON lines.
//!
//! The program in this folder is built with `go`, once, into the target folder. It reads the files
//! with its `otlp_json_file` receiver and writes protobuf, so that no JSON parser of ours affects the
//! result.

use gridctl_telemetry::Signal;
use prost::Message;
use rustix::process::{Pid, kill_process};
use serde_json::json;
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{OnceLock, mpsc},
    thread,
    time::Duration,
};

/// When set to `1`, a Collector that cannot be built fails the test instead of skipping it.
const REQUIRE: &str = "GRIDCTL_TELEMETRY_REQUIRE_COLLECTOR";

/// How long the Collector may be silent while records are missing. Whether a test passes does not
/// depend on it: only a failing test waits that long.
const HANG: Duration = Duration::from_secs(60);

/// The number of requests that wait to be sent: a Collector drops what it has no room for.
const QUEUE_SIZE: usize = 100_000;

/// The Collector's program.
#[derive(Debug, Clone)]
pub(crate) struct Collector {
    program: PathBuf,
}

impl Collector {
    /// Builds the Collector, or reports that the test named `test` is skipped because there is no
    /// `go`. Panics when the build fails.
    pub(crate) fn build(test: &str) -> Option<Collector> {
        static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
        let program = PROGRAM.get_or_init(build).clone();
        if program.is_none() {
            report(&format!(
                "{test}: LEFT OUT, for `go` is not on the PATH: no Collector was asked"
            ));
        }
        Some(Collector { program: program? })
    }

    /// A command that runs it.
    #[allow(dead_code, reason = "each test uses a part of it")]
    pub(crate) fn command(&self) -> Command {
        Command::new(&self.program)
    }

    /// The messages (`TracesData`, `LogsData` or `MetricsData`) that the Collector reads from the
    /// files at `include` (paths or globs), in the order in which it wrote them.
    ///
    /// Waits until it has received `expected` spans, log records or metrics. Those that do not
    /// arrive are missing from the result.
    #[allow(dead_code, reason = "each test uses a part of it")]
    pub(crate) fn receive<M: Message + Default>(
        &self,
        signal: Signal,
        include: &[PathBuf],
        expected: usize,
    ) -> Vec<M> {
        messages(&self.run(signal, include, expected, "proto"))
    }

    /// Lets the Collector send what it reads to an OTLP/HTTP receiver, in this encoding (`proto` or `json`) and
    /// compression. Returns when all is sent, or given up.
    #[allow(dead_code, reason = "each test uses a part of it")]
    pub(crate) fn send(
        &self,
        signal: Signal,
        include: &[PathBuf],
        expected: usize,
        endpoint: &str,
        [encoding, compression]: [&str; 2],
    ) {
        let exporter = json!({
            "endpoint": endpoint, "encoding": encoding, "compression": compression,
            "sending_queue": { "queue_size": QUEUE_SIZE },
        });
        self.pass_on(signal, include, expected, ("otlp_http", &exporter));
    }

    /// Like [`Collector::send`], over gRPC, with gzip.
    #[allow(dead_code, reason = "each test uses a part of it")]
    pub(crate) fn send_grpc(
        &self,
        signal: Signal,
        include: &[PathBuf],
        expected: usize,
        address: &str,
    ) {
        let exporter = json!({
            "endpoint": address, "tls": { "insecure": true },
            "sending_queue": { "queue_size": QUEUE_SIZE },
        });
        self.pass_on(signal, include, expected, ("otlp_grpc", &exporter));
    }

    /// Like [`Collector::receive`], but returns the Collector's own OTLP/JSON lines.
    #[allow(dead_code, reason = "each test uses a part of it")]
    pub(crate) fn relay(&self, signal: Signal, include: &[PathBuf], expected: usize) -> Vec<u8> {
        self.run(signal, include, expected, "json")
    }

    fn run(&self, signal: Signal, include: &[PathBuf], expected: usize, format: &str) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let received = folder.path().join("received");
        let exporter = json!({ "path": received, "format": format });
        self.pass_on(signal, include, expected, ("file", &exporter));
        fs::read(&received).unwrap()
    }

    /// Lets the Collector read files and pass the records on to an exporter.
    fn pass_on(
        &self,
        signal: Signal,
        include: &[PathBuf],
        expected: usize,
        exporter: (&str, &serde_json::Value),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config.yaml");
        // JSON is YAML.
        fs::write(&config, configuration(signal, include, exporter)).unwrap();
        let mut running = Running::start(&self.program, &config);
        running.wait_for(signal, expected);
        running.terminate();
    }
}

/// Prints a message, even if the test passes.
pub(crate) fn report(text: &str) {
    // The macros' output would be captured.
    writeln!(std::io::stderr().lock(), "{text}").unwrap();
}

/// The program, built from the module beside this file; `None` without `go`.
fn build() -> Option<PathBuf> {
    if let Err(error) = Command::new("go").arg("version").output() {
        let required = std::env::var_os(REQUIRE).is_some_and(|value| value == "1");
        assert!(!required, "{REQUIRE} is set, and `go` cannot run: {error}");
        return None;
    }
    let module = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|folder| folder.join("tests/collector"))
        .find(|folder| folder.join("go.mod").is_file())
        .expect("the Collector's module");
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("collector");
    // `go build` does nothing when the program is up to date.
    let output = Command::new("go")
        .args(["build", "-trimpath", "-buildvcs=false", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(module)
        .env("CGO_ENABLED", "0")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "go build: {said}");
    Some(program)
}

fn configuration(
    signal: Signal,
    include: &[PathBuf],
    (name, exporter): (&str, &serde_json::Value),
) -> String {
    let pipeline = json!({ "receivers": ["otlp_json_file"], "exporters": [name, "debug"] });
    json!({
        "receivers": { "otlp_json_file": {
            "include": include,
            // The default, `end`, would skip the lines that are in the files already.
            "start_at": "beginning",
            // Otherwise the receiver adds an attribute that was not exported.
            "include_file_name": false,
            // Files whose names end in `.gz` are compressed.
            "compression": "auto",
            "poll_interval": "20ms",
        } },
        "exporters": {
            name: exporter,
            // Reports each batch that was received, which the tests wait for.
            "debug": { "use_internal_logger": false, "sampling_initial": i32::MAX },
        },
        "service": { "pipelines": { signal.as_str(): pipeline } },
    })
    .to_string()
}

/// The length-delimited messages that the file exporter writes.
#[allow(dead_code, reason = "each test uses a part of it")]
fn messages<M: Message + Default>(mut bytes: &[u8]) -> Vec<M> {
    let mut messages = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let (message, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        messages.push(M::decode(message).unwrap());
        bytes = rest;
    }
    assert!(bytes.is_empty(), "half a message");
    messages
}

/// A running Collector.
struct Running {
    process: Child,
    /// Its output, line by line, until it ends.
    said: mpsc::Receiver<String>,
}

impl Running {
    fn start(program: &Path, config: &Path) -> Running {
        let mut process = Command::new(program)
            .arg("--config")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (sender, said) = mpsc::channel();
        thread::spawn(move || {
            for line in output.lines() {
                let _ = sender.send(line.unwrap());
            }
        });
        Running { process, said }
    }

    /// Waits until this many records were received, or it seems that no more will come.
    fn wait_for(&mut self, signal: Signal, expected: usize) {
        let counted = match signal {
            Signal::Logs => "log records",
            Signal::Metrics => "metrics",
            Signal::Traces => "spans",
        };
        let mut received = 0;
        while received < expected {
            match self.said.recv_timeout(HANG) {
                Ok(line) => received += count(&line, counted),
                Err(mpsc::RecvTimeoutError::Timeout) => break,
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    panic!("the Collector ended: {}", self.process.wait().unwrap())
                }
            }
        }
    }

    /// Ends the Collector in an orderly way, so that it writes all records that it has.
    fn terminate(mut self) {
        kill_process(
            Pid::from_child(&self.process),
            rustix::process::Signal::TERM,
        )
        .unwrap();
        loop {
            match self.said.recv_timeout(HANG) {
                Ok(_) => {}
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("the Collector does not end"),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
        let status = self.process.wait().unwrap();
        assert!(status.success(), "the Collector: {status}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The process must not outlive a failed test.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The number named `counted` in a line of the debug exporter, a name and then an object.
fn count(line: &str, counted: &str) -> usize {
    let counts = line.find('{').and_then(|at| line.get(at..));
    let counts: serde_json::Value = serde_json::from_str(counts.unwrap_or("null")).unwrap();
    let count = counts[counted].as_u64().unwrap_or_else(|| panic!("{line}"));
    usize::try_from(count).unwrap()
}
