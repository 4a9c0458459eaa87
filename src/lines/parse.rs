//! One line alone.

use super::reader::{Found, LineError, RecordReader};
use crate::{
    record::{LogRecord, MetricsSnapshot, Record, ServerName, SpanRecord},
    signal::Signal,
    time::Timestamp,
};

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

/// Reads one line of `logs.jsonl`, `metrics.jsonl` or `traces.jsonl`, without its line feed, in
/// either [`LineFormat`](crate::lines::LineFormat), as a [`RecordReader`] does that knows nothing but
/// the line. What the line has of other signals than that of its first record is left out.
///
/// Fails with where and why when anything of the line cannot be read; nothing of it is used then.
pub fn parse_line(signal: Signal, line: &[u8]) -> Result<ParsedLine, LineError> {
    let (mut logs, mut metrics, mut spans) = (Vec::new(), Vec::new(), Vec::new());
    let (mut sentinel, mut problem, mut first) = (None, None, None);
    let name = |server: Option<ServerName>| server.map(|server| server.to_string());
    let mut reader = RecordReader::new(signal);
    let mut found = |found: Found| match found {
        Found::Record(found) => {
            first.get_or_insert(found.record.signal());
            match found.record {
                Record::Log(record) => logs.push((name(found.server), record)),
                Record::Metrics(record) => metrics.push((name(found.server), record)),
                Record::Span(record) => spans.push((name(found.server), *record)),
            }
        }
        Found::Sentinel {
            server, timestamp, ..
        } => sentinel = Some((name(server), timestamp)),
        Found::Problem(error) => {
            problem.get_or_insert(error);
        }
        // A reader finds logs encoded only where it is asked to.
        Found::Repaired(_) | Found::Encoded(_) => {}
    };
    reader.read_line(line, &mut found);
    reader.finish(&mut found);
    match (problem, first, sentinel) {
        (Some(error), ..) => Err(error),
        (None, Some(Signal::Logs), _) => Ok(ParsedLine::Logs(logs)),
        (None, Some(Signal::Metrics), _) => Ok(ParsedLine::Metrics(metrics)),
        (None, Some(Signal::Traces), _) => Ok(ParsedLine::Spans(spans)),
        (None, None, Some((server, timestamp))) => Ok(ParsedLine::Sentinel { server, timestamp }),
        (None, None, None) => Err(LineError::empty()),
    }
}
