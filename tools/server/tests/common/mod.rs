//! A server on a port of its own, and a client that sends what it is told, right or wrong.

#![allow(dead_code, reason = "each test uses a part of it")]

use gridctl_telemetry::{
    Query, Record, ServerName, Signal, Store, StoreOptions, Writer, WriterGuard, WriterOptions,
};
use gridctl_telemetry_server::{Server, ServerOptions, serve};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    pin::Pin,
    thread::{self, JoinHandle},
    time::Duration,
};
use tempfile::TempDir;
use tokio::{net::TcpListener, runtime, sync::oneshot};

/// How long a client waits for an answer before the test reports a hang.
pub(crate) const HANG: Duration = Duration::from_secs(120);

/// A server until it has ended.
type Serving = Pin<Box<dyn Future<Output = io::Result<()>>>>;

/// A running server over a new store.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) store: Store,
    pub(crate) writer: Writer,
    guard: Option<WriterGuard>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    home: TempDir,
}

impl Running {
    pub(crate) fn start() -> Running {
        Running::start_with(|options| options)
    }

    /// Starts a server with other options than the default ones.
    pub(crate) fn start_with(change: impl FnOnce(ServerOptions) -> ServerOptions) -> Running {
        Running::start_over(WriterOptions::default(), change)
    }

    /// Starts a server with a writer of its own.
    pub(crate) fn start_over(
        writer: WriterOptions,
        change: impl FnOnce(ServerOptions) -> ServerOptions,
    ) -> Running {
        Running::start_in(StoreOptions::default(), writer, change)
    }

    /// Starts a server over a store with other options.
    pub(crate) fn start_in(
        store: StoreOptions,
        writer: WriterOptions,
        change: impl FnOnce(ServerOptions) -> ServerOptions,
    ) -> Running {
        Running::run(store, writer, change, |listener, server, stopped| {
            Box::pin(serve(listener, server, async { _ = stopped.await }))
        })
    }

    /// Starts a server that speaks gRPC.
    #[cfg(feature = "grpc")]
    pub(crate) fn start_grpc() -> Running {
        Running::run(
            StoreOptions::default(),
            WriterOptions::default(),
            |options| options,
            |listener, server, stopped| {
                let stopped = async { _ = stopped.await };
                Box::pin(gridctl_telemetry_server::serve_grpc(
                    listener, server, stopped,
                ))
            },
        )
    }

    fn run(
        store: StoreOptions,
        writer: WriterOptions,
        change: impl FnOnce(ServerOptions) -> ServerOptions,
        serve: impl FnOnce(TcpListener, Server, oneshot::Receiver<()>) -> Serving + Send + 'static,
    ) -> Running {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path(), "gw", store).unwrap();
        let (writer, guard) = Writer::start(&store, writer).unwrap();
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let options = change(ServerOptions::default().listen(address));
        let server = Server::new(store.clone(), writer.clone(), options).unwrap();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            runtime.block_on(serve(listener, server, stopped)).unwrap();
            runtime.shutdown_background();
        });
        Running {
            address,
            store,
            writer,
            guard: Some(guard),
            stop: Some(stop),
            thread: Some(thread),
            home,
        }
    }

    /// Ends the server and waits until it has ended.
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    /// Ends the writer, and leaves the server running.
    pub(crate) fn close_writer(&mut self) {
        self.guard.take().unwrap().close().unwrap();
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(HANG)).unwrap();
        stream
    }

    /// Sends `head`, whose lines end in LF here, and `body`; returns the answer.
    pub(crate) fn send(&self, head: &str, body: &[u8]) -> Answer {
        let mut stream = self.connect();
        stream.write_all(&crlf(head)).unwrap();
        // The server may answer and close before all of a body is sent.
        let _ = stream.write_all(body);
        Answer::read(stream)
    }

    /// A request with these headers, `NAME: VALUE` each, in addition to `Host` and the length of the body.
    pub(crate) fn request(&self, line: &str, headers: &[&str], body: &[u8]) -> Answer {
        let host = format!("Host: {}", self.address);
        let mut head = format!("{line} HTTP/1.1\n");
        let names_host = headers.iter().any(|header| header.starts_with("Host:"));
        for header in headers
            .iter()
            .copied()
            .chain((!names_host).then_some(&*host))
        {
            head.push_str(header);
            head.push('\n');
        }
        if !body.is_empty() {
            writeln!(head, "Content-Length: {}", body.len()).unwrap();
        }
        head.push_str("Connection: close\n\n");
        self.send(&head, body)
    }

    pub(crate) fn get(&self, path: &str, headers: &[&str]) -> Answer {
        self.request(&format!("GET {path}"), headers, &[])
    }

    /// Sends a body to `/v1/SIGNAL`.
    pub(crate) fn export(&self, signal: Signal, headers: &[&str], body: &[u8]) -> Answer {
        self.request(&format!("POST /v1/{signal}"), headers, body)
    }

    /// The stored records of a signal with their servers, after all that is queued is stored.
    pub(crate) fn stored(&self, signal: Signal) -> Vec<(ServerName, Record)> {
        self.writer.flush().unwrap();
        let found = self.store.scan(&Query::new(signal)).unwrap();
        found
            .map(|found| found.unwrap())
            .map(|found| (found.server, found.record))
            .collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
        drop(self.guard.take());
    }
}

/// What the server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// By name in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Reads an answer up to the end of the connection.
    pub(crate) fn read(mut stream: TcpStream) -> Answer {
        let mut bytes = Vec::new();
        // A connection that is reset after the answer has still answered.
        let _ = stream.read_to_end(&mut bytes);
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(&bytes)));
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        let headers: BTreeMap<String, String> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut body = bytes[end + 4..].to_vec();
        if headers
            .get("transfer-encoding")
            .is_some_and(|it| it == "chunked")
        {
            body = unchunked(&body);
        }
        Answer {
            status: status.parse().unwrap(),
            headers,
            body,
        }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let length = std::str::from_utf8(&rest[..end]).unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        let start = end + 2;
        if length == 0 || rest.len() < start + length {
            break;
        }
        body.extend_from_slice(&rest[start..start + length]);
        rest = &rest[(start + length + 2).min(rest.len())..];
    }
    body
}

fn crlf(text: &str) -> Vec<u8> {
    text.replace('\n', "\r\n").into_bytes()
}

/// The content types of OTLP.
pub(crate) const JSON: &str = "Content-Type: application/json";
pub(crate) const PROTOBUF: &str = "Content-Type: application/x-protobuf";
