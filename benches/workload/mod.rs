//! Records as a gateway of five servers writes them: logs, spans and snapshots of metrics.
//!
//! The generators count the information in what they make, the negative logarithm of its probability: the size that no
//! codec falls below on average, and so the measure for every size on disk.

mod choices;
mod logs;
mod metrics;
mod spans;

pub(crate) use self::spans::otlp_line;
pub use self::{
    logs::{GatewayLogs, GatewayRecord},
    metrics::GatewayMetrics,
    spans::GatewaySpans,
};

use anyhow::{Context, Result};
use gridctl_telemetry::{
    Level, LogRecord, MetricsSnapshot, ServerName, Signal, SpanRecord, Timestamp, Value, Writer,
    ingest::DropCause,
};

/// The servers behind the gateway.
pub const SERVERS: [&str; 5] = ["github", "filesystem", "postgres", "browser", "slack"];

const TOOLS: [&str; 24] = [
    "search_code",
    "get_file_contents",
    "create_issue",
    "list_commits",
    "create_pull_request",
    "read_file",
    "write_file",
    "list_directory",
    "move_file",
    "directory_tree",
    "query",
    "list_schemas",
    "describe_table",
    "explain",
    "list_indexes",
    "navigate",
    "click",
    "screenshot",
    "evaluate",
    "fill",
    "post_message",
    "list_channels",
    "get_thread",
    "add_reaction",
];
/// The number of clients that are connected at a time.
const SESSIONS: usize = 300;
/// 2026-05-08T23:39:03Z.
const START_UNIX_NANOS: i64 = 1_778_283_543_000_000_000;

/// A record, its server, and what a peer stores of it.
#[derive(Debug, Clone)]
pub struct Row<R> {
    /// The server's index in [`SERVERS`].
    pub server: usize,
    /// The record.
    pub record: R,
    /// The record as JSON, without a line feed: a line of `logs.jsonl` or `metrics.jsonl`, or a span of OTLP/JSON.
    pub line: Box<[u8]>,
}

/// A record that our writer takes.
pub trait Recorded: Send + Sync {
    /// Its signal.
    const SIGNAL: Signal;

    /// The time that it is stored under.
    fn timestamp(&self) -> Timestamp;

    /// Gives it to a writer.
    fn offer(&self, writer: &Writer, server: &ServerName) -> Result<(), DropCause>;

    /// Whether the writer commits it at once.
    fn is_urgent(&self) -> bool {
        false
    }

    /// Its parts as columns of a table, without the server and the time.
    fn cells(&self) -> Vec<(&str, Cell)>;
}

/// A value in a column, with the type that someone who knows the records chooses for it.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// A number.
    Int(i64),
    /// A fraction.
    Float(f64),
    /// Yes or no.
    Bool(bool),
    /// A text.
    Text(String),
    /// The bytes of an id.
    Id(Vec<u8>),
}

impl Recorded for LogRecord {
    const SIGNAL: Signal = Signal::Logs;

    fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    fn offer(&self, writer: &Writer, server: &ServerName) -> Result<(), DropCause> {
        writer.log(server, self)
    }

    fn is_urgent(&self) -> bool {
        self.level >= Level::ERROR
    }

    fn cells(&self) -> Vec<(&str, Cell)> {
        let mut cells = vec![
            ("level", Cell::Text(self.level.to_string())),
            ("msg", Cell::Text(self.message.clone())),
        ];
        for (key, value) in &self.attributes {
            cells.push((key, cell(value)));
        }
        cells
    }
}

impl Recorded for SpanRecord {
    const SIGNAL: Signal = Signal::Traces;

    fn timestamp(&self) -> Timestamp {
        SpanRecord::timestamp(self)
    }

    fn offer(&self, writer: &Writer, server: &ServerName) -> Result<(), DropCause> {
        writer.span(server, self)
    }

    fn cells(&self) -> Vec<(&str, Cell)> {
        spans::cells(&self.span)
    }
}

impl Recorded for MetricsSnapshot {
    const SIGNAL: Signal = Signal::Metrics;

    fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    fn offer(&self, writer: &Writer, server: &ServerName) -> Result<(), DropCause> {
        writer.metrics(server, self)
    }

    fn cells(&self) -> Vec<(&str, Cell)> {
        metrics::cells(self)
    }
}

/// The cell of a value of a log. Ids are hex digits there.
fn cell(value: &Value) -> Cell {
    match value {
        Value::Int(value) => Cell::Int(*value),
        Value::Float(value) => Cell::Float(*value),
        Value::Bool(value) => Cell::Bool(*value),
        Value::String(text) => match unhex(text) {
            Some(id) => Cell::Id(id),
            None => Cell::Text(text.clone()),
        },
        other => Cell::Text(format!("{other:?}")),
    }
}

/// Appends a value as JSON, its entries in their order.
fn write_value(value: &Value, out: &mut Vec<u8>) -> Result<()> {
    match value {
        Value::String(text) => serde_json::to_writer(out, text)?,
        Value::Int(value) => serde_json::to_writer(out, value)?,
        Value::Float(value) => serde_json::to_writer(out, value)?,
        Value::Bool(value) => serde_json::to_writer(out, value)?,
        Value::Object(entries) => {
            for (number, (key, value)) in entries.iter().enumerate() {
                out.push(if number == 0 { b'{' } else { b',' });
                serde_json::to_writer(&mut *out, key)?;
                out.push(b':');
                write_value(value, out)?;
            }
            out.push(b'}');
        }
        other => anyhow::bail!("the generators make no {other:?}"),
    }
    Ok(())
}

/// The bytes of an id of 16 or 32 hex digits.
fn unhex(text: &str) -> Option<Vec<u8>> {
    if !matches!(text.len(), 16 | 32) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| match pair {
            [high, low] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
            _ => None,
        })
        .collect()
}

/// The name of a server of [`SERVERS`].
pub fn server_name(server: usize) -> Result<ServerName> {
    let name = SERVERS.get(server).context("there are five servers")?;
    Ok(ServerName::new(name)?)
}

/// The names of all [`SERVERS`].
pub fn server_names() -> Result<Vec<ServerName>> {
    (0..SERVERS.len()).map(server_name).collect()
}
