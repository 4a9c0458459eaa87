//! A store with records of a gateway, and an agent's client that speaks the protocol line by line.

#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(
    clippy::needless_pass_by_value,
    reason = "arguments are written where they are passed"
)]

use gridctl_telemetry::{
    Level, LogRecord, MetricsSnapshot, ServerName, SpanRecord, Store, StoreOptions, Timestamp,
    Writer, WriterGuard, WriterOptions,
    external::opentelemetry_proto::tonic::{
        common::v1::{AnyValue, KeyValue, any_value},
        trace::v1::{Span, Status, status::StatusCode},
    },
    record::TokenCounts,
    traces::hex,
};
use gridctl_telemetry_mcp::Mcp;
use serde_json::{Value, json};
use std::{path::Path, time::Duration};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, ReadHalf, WriteHalf, split},
    runtime::{Builder, Runtime},
    task::JoinHandle,
    time::timeout,
};

/// A test that waits longer than this has hung.
const HUNG: Duration = Duration::from_secs(60);

pub(crate) const SECOND: i64 = 1_000_000_000;

/// The time this number of seconds ago.
pub(crate) fn ago(seconds: i64) -> Timestamp {
    Timestamp::from_unix_nanos(Timestamp::now().unix_nanos() - seconds * SECOND)
}

pub(crate) fn name(server: &str) -> ServerName {
    ServerName::new(server).unwrap()
}

/// A stack with its writer.
pub(crate) struct Stack {
    pub(crate) home: TempDir,
    pub(crate) store: Store,
    pub(crate) writer: Writer,
    guard: Option<WriterGuard>,
}

impl Stack {
    /// An empty stack, whose writer redacts nothing: as if its records had been imported.
    pub(crate) fn new() -> Stack {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path(), "gw", StoreOptions::default()).unwrap();
        let options = WriterOptions::default().redactor(None);
        let (writer, guard) = Writer::start(&store, options).unwrap();
        Stack {
            home,
            store,
            writer,
            guard: Some(guard),
        }
    }

    /// A stack with calls of two servers: every fifth of `github` fails.
    pub(crate) fn with_calls(calls: u8) -> Stack {
        let stack = Stack::new();
        for number in 0..calls {
            let server = if number % 2 == 0 { "github" } else { "slack" };
            stack.call(server, "search", number, number % 10 == 0);
        }
        let mut metrics = MetricsSnapshot::new(ago(5));
        metrics.diff = TokenCounts {
            input_tokens: 700,
            output_tokens: 300,
            total_tokens: 1000,
        };
        metrics.total = metrics.diff;
        metrics.reset = true;
        stack.writer.metrics(&name("github"), &metrics).unwrap();
        stack.writer.flush().unwrap();
        stack
    }

    /// One call: a span with one below it, and two log records.
    pub(crate) fn call(&self, server: &str, tool: &str, number: u8, fails: bool) {
        let (trace, span, inner) = (vec![number + 1; 16], vec![number + 1; 8], vec![0xee; 8]);
        let end = ago(i64::from(number) + 10).unix_nanos();
        let end = u64::try_from(end).unwrap();
        let message = format!("denied: call {number} is over the limit");
        let status = |fails: bool| Status {
            code: if fails {
                StatusCode::Error
            } else {
                StatusCode::Ok
            }
            .into(),
            message: if fails {
                message.clone()
            } else {
                String::new()
            },
        };
        let outer = Span {
            trace_id: trace.clone(),
            span_id: span.clone(),
            name: format!("tools/call {tool}"),
            start_time_unix_nano: end - 20_000_000,
            end_time_unix_nano: end,
            attributes: vec![text("tool.name", tool), text("client.name", "desk")],
            status: Some(status(fails)),
            ..Span::default()
        };
        let below = Span {
            parent_span_id: span.clone(),
            span_id: inner,
            name: "upstream request".to_owned(),
            start_time_unix_nano: end - 15_000_000,
            end_time_unix_nano: end - 5_000_000,
            attributes: Vec::new(),
            ..outer.clone()
        };
        for span in [below, outer] {
            self.writer
                .span(&name(server), &SpanRecord::new(span))
                .unwrap();
        }
        let (level, said) = if fails {
            (Level::ERROR, "tool call failed")
        } else {
            (Level::INFO, "tool call completed")
        };
        for (level, said) in [(Level::DEBUG, "calling the tool"), (level, said)] {
            let at = Timestamp::from_unix_nanos(i64::try_from(end).unwrap() - 1_000_000);
            let record = LogRecord::new(at, level, said)
                .with("number", i64::from(number))
                .with("trace_id", hex(&trace))
                .with("span_id", hex(&span));
            self.writer.log(&name(server), &record).unwrap();
        }
    }

    /// Stores log records of `server`.
    pub(crate) fn log(&self, server: &str, records: impl IntoIterator<Item = LogRecord>) {
        for record in records {
            self.writer.log(&name(server), &record).unwrap();
        }
        self.writer.flush().unwrap();
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// An agent that asks about this stack as a daemon's router lets it.
    pub(crate) fn agent(&self) -> Agent {
        Agent::over(Mcp::of_store(self.store.clone()))
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        drop(self.guard.take());
    }
}

pub(crate) fn text(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(any_value::Value::StringValue(value.to_owned())),
        }),
        ..KeyValue::default()
    }
}

/// A client over a pipe.
pub(crate) struct Agent {
    pub(crate) runtime: Runtime,
    write: Option<WriteHalf<DuplexStream>>,
    read: BufReader<ReadHalf<DuplexStream>>,
    serving: Option<JoinHandle<std::io::Result<()>>>,
    next: u64,
}

impl Agent {
    pub(crate) fn over(mcp: Mcp) -> Agent {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let serving = runtime.spawn(async move {
            let (read, write) = split(theirs);
            mcp.serve(read, write, std::future::pending()).await
        });
        let (read, write) = split(ours);
        let mut agent = Agent {
            runtime,
            write: Some(write),
            read: BufReader::new(read),
            serving: Some(serving),
            next: 0,
        };
        let client = json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": { "name": "test", "version": "1" },
        });
        let answer = agent.request("initialize", client);
        assert_eq!(answer["result"]["serverInfo"]["name"], "gridctl-telemetry");
        agent.say(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        agent
    }

    /// Sends a message.
    pub(crate) fn say(&mut self, message: &Value) {
        let line = format!("{message}\n");
        let write = self.write.as_mut().unwrap();
        self.runtime
            .block_on(write.write_all(line.as_bytes()))
            .unwrap();
    }

    /// The next message.
    pub(crate) fn hear(&mut self) -> Value {
        let mut line = String::new();
        let read = self.read.read_line(&mut line);
        // A timeout needs the clock of the runtime.
        let read = self.runtime.block_on(async { timeout(HUNG, read).await });
        assert!(read.unwrap().unwrap() > 0, "the server has ended");
        serde_json::from_str(&line).unwrap()
    }

    /// The number of the request that is sent.
    pub(crate) fn ask(&mut self, method: &str, params: Value) -> u64 {
        self.next += 1;
        let id = self.next;
        self.say(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        id
    }

    /// The whole answer to a request.
    pub(crate) fn request(&mut self, method: &str, params: Value) -> Value {
        let id = self.ask(method, params);
        let answer = self.hear();
        assert_eq!(answer["id"], id, "{answer}");
        answer
    }

    /// The result of a tool. Fails the test if it exceeds the bound that the arguments ask for.
    pub(crate) fn result(&mut self, tool: &str, arguments: &Value) -> Value {
        let mut answer = self.request(
            "tools/call",
            json!({ "name": tool, "arguments": arguments }),
        );
        let result = answer["result"].take();
        assert!(result.is_object(), "{answer}");
        let bytes = arguments["bytes"].as_u64().unwrap_or(4096);
        let size = result.to_string().len() as u64;
        assert!(size <= bytes, "{tool} {arguments}: {size} bytes\n{result}");
        result
    }

    /// The text and the structured content of a tool's answer, which is no error.
    pub(crate) fn call(&mut self, tool: &str, arguments: Value) -> (String, Value) {
        let mut result = self.result(tool, &arguments);
        assert_eq!(result["isError"], false, "{tool} {arguments}: {result}");
        let text = result["content"][0]["text"].as_str().unwrap().to_owned();
        (text, result["structuredContent"].take())
    }

    /// What a tool says that cannot answer.
    pub(crate) fn refused(&mut self, tool: &str, arguments: Value) -> String {
        let result = self.result(tool, &arguments);
        assert_eq!(result["isError"], true, "{tool} {arguments}: {result}");
        result["content"][0]["text"].as_str().unwrap().to_owned()
    }

    /// All items of a list, page by page, with what each page says.
    pub(crate) fn pages(&mut self, tool: &str, list: &str, arguments: &Value) -> Vec<Value> {
        let mut all = Vec::new();
        let mut arguments = arguments.clone();
        loop {
            let (_, answer) = self.call(tool, arguments.clone());
            let items = answer[list].as_array().unwrap();
            assert!(!items.is_empty(), "{tool} {arguments}: {answer}");
            all.extend(items.iter().cloned());
            match answer["cursor"].as_str() {
                Some(cursor) => arguments["cursor"] = cursor.into(),
                None => return all,
            }
        }
    }

    /// The pieces of a text, joined.
    pub(crate) fn pieces(&mut self, tool: &str, mut arguments: Value) -> String {
        let mut all = String::new();
        loop {
            let (text, answer) = self.call(tool, arguments.clone());
            let piece = answer["untrusted"].as_str().unwrap();
            assert!(text.contains(&format!("«{piece}»")), "{text}");
            assert!(!piece.is_empty());
            all.push_str(piece);
            match &answer["next_offset"] {
                Value::Null => {
                    assert_eq!(answer["bytes"], all.len());
                    return all;
                }
                next => arguments["offset"] = next.clone(),
            }
        }
    }

    /// Closes the client's side, and returns what the server ended with.
    pub(crate) fn close(mut self) -> std::io::Result<()> {
        let mut write = self.write.take().unwrap();
        self.runtime.block_on(write.shutdown()).unwrap();
        let serving = self.serving.take().unwrap();
        let ended = self
            .runtime
            .block_on(async { timeout(HUNG, serving).await });
        ended.unwrap().unwrap()
    }
}
