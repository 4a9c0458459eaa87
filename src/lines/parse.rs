//! Lines, whichever signal they are of, to records.

use super::{
    json::{JsonError, JsonResult, write_value},
    ndjson::{
        log::read_log_line,
        metrics::{MetricsLine, read_metrics_line},
    },
    otlp_json::{keep_foreign, read_message},
};
use crate::{
    otlp::{self, metrics_from_otlp, spans_from_otlp},
    record::{LogRecord, MetricsSnapshot, SpanRecord, Value},
    signal::Signal,
    time::Timestamp,
};
use opentelemetry_proto::tonic::{logs::v1::LogsData, metrics::v1::MetricsData};
use std::fmt;

/// What a line of a flat file holds.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ParsedLine {
    /// Log records, each with the server that the line names: one, or those of a `LogsData`.
    Logs(Vec<(Option<String>, LogRecord)>),
    /// Metrics snapshots, each with the server that the line names: one, or those of a `MetricsData`.
    Metrics(Vec<(Option<String>, MetricsSnapshot)>),
    /// The line that announces a reset. The snapshot that follows it says the same and more.
    Sentinel {
        /// The server that the line names.
        server: Option<String>,
        /// Its time.
        timestamp: Timestamp,
    },
    /// Spans, each with the server that its `server.name` names.
    Spans(Vec<(Option<String>, SpanRecord)>),
}

/// Why a line holds no record.
#[derive(Debug)]
pub struct LineError {
    error: JsonError,
}

impl LineError {
    /// Where in the line the trouble begins, in bytes from its start.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.error.offset()
    }

    /// Where in the line's JSON the trouble is, such as `resourceSpans[0].scopeSpans[2]`; empty at
    /// the top.
    #[must_use]
    pub fn path(&self) -> String {
        self.error.path()
    }
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl std::error::Error for LineError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

/// Reads one line of `logs.jsonl`, `metrics.jsonl` or `traces.jsonl`, without its line feed, in
/// either [`LineFormat`](crate::lines::LineFormat).
///
/// OTLP/JSON is read in every form that OTLP/JSON allows, and in the form of the Go program before
/// this one (base64 ids, enum names).
///
/// Fails with where and why when the line is not one; nothing of it is used then.
pub fn parse_line(signal: Signal, line: &[u8]) -> Result<ParsedLine, LineError> {
    parse(signal, line).map_err(|error| LineError { error })
}

fn parse(signal: Signal, line: &[u8]) -> JsonResult<ParsedLine> {
    Ok(match signal {
        Signal::Logs if begins_with(line, ["resourceLogs", "resource_logs"]) => {
            ParsedLine::Logs(logs_from_otlp(read_message(line)?))
        }
        Signal::Logs => ParsedLine::Logs(vec![(None, read_log_line(line)?)]),
        Signal::Metrics if begins_with(line, ["resourceMetrics", "resource_metrics"]) => {
            let data: MetricsData = read_message(line)?;
            ParsedLine::Metrics(match metrics_from_otlp(data.clone()) {
                Ok(snapshots) => snapshots,
                // Other programs' metrics are kept as they are.
                Err(_) => keep_foreign(data)?,
            })
        }
        Signal::Metrics => match read_metrics_line(line)? {
            MetricsLine::Snapshot { server, snapshot } => {
                ParsedLine::Metrics(vec![(server, snapshot)])
            }
            MetricsLine::Sentinel { server, timestamp } => {
                ParsedLine::Sentinel { server, timestamp }
            }
        },
        Signal::Traces => ParsedLine::Spans(spans_from_otlp(read_message(line)?)),
    })
}

/// Whether the first key of the line's object is one of `keys`, which only OTLP/JSON begins with: a
/// slog line begins with its time.
fn begins_with(line: &[u8], keys: [&str; 2]) -> bool {
    let key = line
        .trim_ascii_start()
        .strip_prefix(b"{")
        .map(<[u8]>::trim_ascii_start);
    let Some(key) = key.and_then(|rest| rest.strip_prefix(b"\"")) else {
        return false;
    };
    keys.iter().any(|name| {
        key.strip_prefix(name.as_bytes())
            .is_some_and(|rest| rest.starts_with(b"\""))
    })
}

/// The log records of a message, see [`otlp::logs_from_otlp`]. A body that is no string becomes JSON.
pub(super) fn logs_from_otlp(data: LogsData) -> Vec<(Option<String>, LogRecord)> {
    otlp::logs_from_otlp(data, json_text)
}

fn json_text(value: &Value) -> String {
    let mut text = Vec::new();
    write_value(value, &mut text);
    String::from_utf8(text).unwrap_or_default()
}
