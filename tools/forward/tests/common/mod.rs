//! A store to forward, and an endpoint that answers as a test says.

#![allow(dead_code, reason = "each test uses a part of it")]

use flate2::read::GzDecoder;
use gridctl_telemetry::{
    LogRecord, ServerName, Store, StoreOptions, Timestamp, Writer, WriterOptions,
    external::opentelemetry_proto::tonic::{
        collector::logs::v1::ExportLogsServiceRequest, common::v1::any_value::Value,
        resource::v1::Resource,
    },
};
use gridctl_telemetry_forward::{Endpoint, ForwardEvent, ForwardOptions};
use prost::Message;
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};
use tempfile::TempDir;

/// A request to an endpoint.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    pub(crate) path: String,
    /// By names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    /// Decompressed.
    pub(crate) body: Vec<u8>,
}

/// What an endpoint does with a request.
pub(crate) enum Reply {
    /// Answers with these bytes, and reads the next request.
    Whole(Vec<u8>),
    /// Answers with these bytes, and closes the connection.
    Broken(Vec<u8>),
    /// Does not answer while the client is connected.
    Never,
}

/// An endpoint that answers as a test says.
pub(crate) struct Far {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

/// An answer with a body of this content type.
pub(crate) fn answer(status: &str, headers: &str, body: &[u8]) -> Reply {
    let mut bytes = format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    if headers.is_empty() {
        bytes = bytes.replace(
            "Content-Length",
            "Content-Type: application/x-protobuf\r\nContent-Length",
        );
    }
    Reply::Whole([bytes.as_bytes(), body].concat())
}

/// The acknowledgement of a batch.
pub(crate) fn ok() -> Reply {
    answer("200 OK", "", b"")
}

impl Far {
    /// Starts an endpoint. `reply` gets the number of the request, from 0.
    pub(crate) fn start(reply: impl Fn(usize, &Request) -> Reply + Send + Sync + 'static) -> Far {
        Far::accept(reply, Ok)
    }

    /// Starts an endpoint whose connections are made by `open`, such as encrypted ones.
    pub(crate) fn accept<S: Read + Write>(
        reply: impl Fn(usize, &Request) -> Reply + Send + Sync + 'static,
        open: impl Fn(TcpStream) -> std::io::Result<S> + Send + Sync + 'static,
    ) -> Far {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (received, shared) = (Arc::clone(&requests), Arc::new((reply, open)));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (received, shared) = (Arc::clone(&received), Arc::clone(&shared));
                thread::spawn(move || {
                    if let Ok(stream) = (shared.1)(stream.unwrap()) {
                        let _ = talk(stream, &received, &shared.0);
                    }
                });
            }
        });
        Far { address, requests }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// The messages of all log records that arrived, in order.
    pub(crate) fn messages(&self) -> Vec<String> {
        self.requests().iter().flat_map(messages).collect()
    }
}

/// Answers the requests of a connection until it is closed.
fn talk(
    stream: impl Read + Write,
    received: &Mutex<Vec<Request>>,
    reply: &impl Fn(usize, &Request) -> Reply,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut request = Request {
            path: line.split(' ').nth(1).unwrap().to_owned(),
            ..Request::default()
        };
        loop {
            line.clear();
            stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                break;
            };
            request
                .headers
                .insert(name.to_lowercase(), value.to_owned());
        }
        let length = request
            .headers
            .get("content-length")
            .map_or(0, |it| it.parse().unwrap());
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        if request
            .headers
            .get("content-encoding")
            .is_some_and(|it| it == "gzip")
        {
            GzDecoder::new(&*body).read_to_end(&mut request.body)?;
        } else {
            request.body = body;
        }
        let number = {
            let mut received = received.lock().unwrap();
            received.push(request.clone());
            received.len() - 1
        };
        match reply(number, &request) {
            Reply::Whole(bytes) => {
                stream.get_mut().write_all(&bytes)?;
                stream.get_mut().flush()?;
            }
            Reply::Broken(bytes) => {
                stream.get_mut().write_all(&bytes)?;
                return stream.get_mut().flush();
            }
            Reply::Never => {
                // Until the client closes the connection.
                stream.read_line(&mut String::new())?;
                return Ok(());
            }
        }
    }
}

/// The messages of the log records of a request, in order.
pub(crate) fn messages(request: &Request) -> Vec<String> {
    let request = ExportLogsServiceRequest::decode(&*request.body).unwrap();
    let scopes = request
        .resource_logs
        .into_iter()
        .flat_map(|it| it.scope_logs);
    let records = scopes.flat_map(|it| it.log_records);
    records
        .map(|record| match record.body.unwrap().value.unwrap() {
            Value::StringValue(text) => text,
            other => panic!("{other:?}"),
        })
        .collect()
}

/// The resources of the logs of a request.
pub(crate) fn resources(request: &Request) -> Vec<Resource> {
    let request = ExportLogsServiceRequest::decode(&*request.body).unwrap();
    request
        .resource_logs
        .into_iter()
        .map(|it| it.resource.unwrap())
        .collect()
}

/// A store, and its home.
pub(crate) struct Stack {
    pub(crate) store: Store,
    pub(crate) home: TempDir,
}

impl Stack {
    /// A store with this many logs of the server `github`, whose messages are their numbers.
    pub(crate) fn with(records: usize) -> Stack {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path(), "gw", StoreOptions::for_tools()).unwrap();
        let stack = Stack { store, home };
        stack.log(0..records);
        stack
    }

    /// Stores logs whose messages are these numbers.
    pub(crate) fn log(&self, numbers: std::ops::Range<usize>) {
        let (writer, guard) = Writer::start(&self.store, WriterOptions::default()).unwrap();
        let github = ServerName::new("github").unwrap();
        for number in numbers {
            let time = Timestamp::from_unix_nanos(
                1_790_000_000_000_000_000 + i64::try_from(number).unwrap(),
            );
            let record = LogRecord::new(time, Default::default(), number.to_string());
            writer.log(&github, &record).unwrap();
        }
        writer.flush().unwrap();
        guard.close().unwrap();
    }

    pub(crate) fn folder(&self) -> std::path::PathBuf {
        self.store.path().parent().unwrap().to_owned()
    }
}

/// The messages of logs with these numbers.
pub(crate) fn numbered(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| number.to_string()).collect()
}

/// What happened.
#[derive(Debug, Clone, Default)]
pub(crate) struct Events(Arc<Mutex<Vec<ForwardEvent>>>);

impl Events {
    pub(crate) fn all(&self) -> Vec<ForwardEvent> {
        self.0.lock().unwrap().clone()
    }
}

/// Options to forward the logs, and what will happen.
pub(crate) fn logs_to(endpoint: Endpoint) -> (ForwardOptions, Events) {
    let events = Events::default();
    let noted = events.clone();
    let options = ForwardOptions::new(endpoint)
        .signal(gridctl_telemetry::Signal::Logs)
        .on_event(move |event| noted.0.lock().unwrap().push(event));
    (options, events)
}
