//! How many spans a second the receiver takes over HTTP, how long a client waits for the answer, and whether all of
//! them are stored.
//!
//! ```text
//! cargo bench -p gridctl-telemetry-benches --bench receive [-- --quick | --seconds N | --rate N | --clients N]
//! ```
//!
//! Clients of one process send batches of 512 spans in protobuf, as an SDK does, each on its own connection: first at a
//! steady rate, then as fast as answers come, plain and with gzip. The processor time is that of clients and server
//! together.

use anyhow::{Context, Result, ensure};
use flate2::{Compression, write::GzEncoder};
use gridctl_telemetry::{
    Query, Signal, Store, StoreOptions, Writer, WriterOptions,
    external::opentelemetry_proto::tonic::{
        common::v1::{AnyValue, KeyValue, any_value::Value as Any},
        resource::v1::Resource,
        trace::v1::{ResourceSpans, ScopeSpans, Span, TracesData},
    },
};
use gridctl_telemetry_benches::{
    Arguments, Table, bench_folder, cpu_time, median, per_second, seconds,
};
use gridctl_telemetry_server::{Server, ServerOptions, serve};
use prost::Message;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};
use tokio::{net::TcpListener, runtime, sync::oneshot};

/// Where the benchmark writes.
const FOLDER: &str = env!("CARGO_TARGET_TMPDIR");
/// The number of spans of a request.
const BATCH: u64 = 512;

fn main() -> Result<()> {
    let arguments = Arguments::read(&["--quick", "--seconds", "--rate", "--clients"])?;
    let quick = arguments.has("--quick");
    let length = Duration::from_secs(arguments.value("--seconds", if quick { 3 } else { 20 })?);
    let rate: u64 = arguments.value("--rate", 20_000)?;
    let clients: u64 = arguments.value("--clients", 4)?;
    let mut table = Table::new(&[
        "load",
        "spans sent",
        "stored",
        "spans/s",
        "answer, median",
        "99 %",
        "longest",
        "processor",
    ]);
    let steady = format!("{rate} spans/s");
    for (name, rate, packed) in [
        (&*steady, Some(rate), false),
        ("as fast as possible", None, false),
        ("the same, with gzip", None, true),
    ] {
        let load = Load {
            length,
            rate,
            clients,
            packed,
        };
        table.row(load.run(name)?);
    }
    print!("{table}");
    Ok(())
}

/// What clients send.
#[derive(Debug, Clone, Copy)]
struct Load {
    length: Duration,
    /// The spans a second of all clients together.
    rate: Option<u64>,
    clients: u64,
    packed: bool,
}

impl Load {
    fn run(self, name: &str) -> Result<Vec<String>> {
        let folder = bench_folder(FOLDER)?;
        let store = Store::open(folder.path(), "bench", StoreOptions::default())?;
        let (writer, guard) = Writer::start(&store, WriterOptions::default())?;
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        let options = ServerOptions::default().listen(address);
        let server = Server::new(store.clone(), writer.clone(), options)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = thread::spawn(move || {
            runtime.block_on(serve(listener, server, async { _ = stopped.await }))
        });

        let (processor, started) = (cpu_time(), Instant::now());
        let clients: Vec<_> = (0..self.clients)
            .map(|client| thread::spawn(move || self.send(address, client)))
            .collect();
        let mut waits = Vec::new();
        for client in clients {
            let waited = client.join().ok().context("a client has panicked")?;
            waits.extend(waited?);
        }
        let elapsed = started.elapsed();
        writer.flush()?;
        let processor = cpu_time().saturating_sub(processor);
        let sent = waits.len() as u64 * BATCH;
        let mut stored: u64 = 0;
        for record in store.scan(&Query::new(Signal::Traces))? {
            record?;
            stored += 1;
        }
        drop(stop);
        serving.join().ok().context("the server has panicked")??;
        guard.close()?;
        ensure!(
            stored == sent,
            "{sent} spans were sent, and {stored} are stored"
        );
        waits.sort_unstable();
        let late = waits.get(waits.len() * 99 / 100).copied();
        Ok(vec![
            name.to_owned(),
            sent.to_string(),
            stored.to_string(),
            format!("{:.0}", per_second(sent, elapsed)),
            seconds(median(&waits)?),
            seconds(late.unwrap_or_default()),
            seconds(waits.last().copied().unwrap_or_default()),
            seconds(processor),
        ])
    }

    /// Sends requests one after the other, and returns how long each was waited for.
    fn send(self, address: SocketAddr, client: u64) -> Result<Vec<Duration>> {
        let mut stream = BufReader::new(TcpStream::connect(address)?);
        stream.get_ref().set_nodelay(true)?;
        let interval = self.rate.map(|rate| {
            Duration::from_secs(BATCH * self.clients).checked_div(u32::try_from(rate).unwrap_or(1))
        });
        let interval = interval.flatten().unwrap_or_default();
        let (started, mut waits) = (Instant::now(), Vec::new());
        let mut number = client << 40;
        while started.elapsed() < self.length {
            let body = self.body(number)?;
            number += BATCH;
            let due = interval * u32::try_from(waits.len())?;
            thread::sleep(due.saturating_sub(started.elapsed()));
            let asked = Instant::now();
            let packing = if self.packed {
                "Content-Encoding: gzip\r\n"
            } else {
                ""
            };
            let head = format!(
                "POST /v1/traces HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/x-protobuf\r\n\
                 {packing}Content-Length: {}\r\n\r\n",
                body.len()
            );
            stream.get_mut().write_all(head.as_bytes())?;
            stream.get_mut().write_all(&body)?;
            answered(&mut stream)?;
            waits.push(asked.elapsed());
        }
        Ok(waits)
    }

    /// A batch of spans as bytes.
    fn body(self, first: u64) -> Result<Vec<u8>> {
        let text = |key: &str, text: String| KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue {
                value: Some(Any::StringValue(text)),
            }),
            ..KeyValue::default()
        };
        let span = |number: u64| Span {
            trace_id: u128::from(number / 5 + 1).to_be_bytes().to_vec(),
            span_id: (number + 1).to_be_bytes().to_vec(),
            name: "tools/call search_code".to_owned(),
            kind: 3,
            start_time_unix_nano: 1_790_000_000_000_000_000 + number * 1000,
            end_time_unix_nano: 1_790_000_000_020_000_000 + number * 1000,
            attributes: vec![
                text("tool.name", "search_code".to_owned()),
                text("rpc.system", "mcp".to_owned()),
                text(
                    "client.address",
                    format!("10.0.{}.{}", number % 250, number % 7),
                ),
            ],
            ..Span::default()
        };
        let message = TracesData {
            resource_spans: vec![ResourceSpans {
                resource: Some(Resource {
                    attributes: vec![text("service.name", "gateway".to_owned())],
                    ..Resource::default()
                }),
                scope_spans: vec![ScopeSpans {
                    spans: (first..first + BATCH).map(span).collect(),
                    ..ScopeSpans::default()
                }],
                ..ResourceSpans::default()
            }],
        };
        let bytes = message.encode_to_vec();
        if !self.packed {
            return Ok(bytes);
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&bytes)?;
        Ok(encoder.finish()?)
    }
}

/// Reads an answer, which must be one of success without rejected spans.
fn answered(stream: &mut BufReader<TcpStream>) -> Result<()> {
    let (mut head, mut line) = (String::new(), String::new());
    let mut length = 0;
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let is_success = head.starts_with("HTTP/1.1 200") && body.is_empty();
    ensure!(is_success, "{head}{}", String::from_utf8_lossy(&body));
    Ok(())
}
