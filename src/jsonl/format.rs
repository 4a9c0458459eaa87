//! Records, whichever signal they are of, to lines.

use super::{
    log_line::transcode_log_payload,
    metrics_line::transcode_metrics_payload,
    otlp::{Envelope, write_message},
};
use crate::{
    error::{Error, Result},
    read::RawRecord,
    record::{SpanRecord, payload::PayloadError},
    signal::Signal,
};

/// The longest line that a Collector's default `max_log_size` takes whole: longer ones are split,
/// and every piece is lost without a word.
const LINE_BYTES_MAX: usize = 1 << 20;

/// Writes records as the lines of the flat files: logs and metrics as NDJSON, a sentinel line
/// before each reset, and traces as OTLP/JSON.
///
/// Spans that follow each other and have the same resource and scope share a line of at most
/// 1 MiB; a span that is longer than that by itself has a line of its own.
#[derive(Debug, Default)]
pub struct LineWriter {
    /// The line of spans that is not yet ended.
    open: Option<OpenLine>,
    span: Vec<u8>,
    long_lines: u64,
}

/// A line of spans that is not yet ended.
#[derive(Debug)]
struct OpenLine {
    /// A record of the line, its span taken out: what all of them share.
    shared: SpanRecord,
    /// What the line will have once it is ended.
    bytes: usize,
}

impl LineWriter {
    /// A writer that has written nothing.
    #[must_use]
    pub fn new() -> LineWriter {
        LineWriter::default()
    }

    /// Appends `record` to `out`. A line of spans may stay open: [`LineWriter::finish`] ends it.
    ///
    /// Fails with [`Error::InvalidRecord`] when the payload is not one that this crate wrote, and
    /// `out` is as it was.
    pub fn write(&mut self, record: &RawRecord<'_>, out: &mut Vec<u8>) -> Result<()> {
        let payload = record.payload;
        let outcome = match record.signal {
            Signal::Logs => transcode_log_payload(record.timestamp, payload, out),
            Signal::Metrics => {
                transcode_metrics_payload(record.server, record.timestamp, payload, out)
            }
            Signal::Traces => self.write_span(payload, out),
        };
        outcome.map_err(|error| Error::InvalidRecord {
            signal: record.signal,
            reason: error.to_string(),
        })
    }

    /// Ends the line that is open. Call it behind the last record.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if let Some(line) = self.open.take() {
            out.extend_from_slice(Envelope::CLOSING);
            out.push(b'\n');
            if line.bytes > LINE_BYTES_MAX {
                self.long_lines += 1;
            }
        }
    }

    /// How many lines of spans are longer than the 1 MiB that a Collector takes by default.
    #[must_use]
    pub fn long_lines(&self) -> u64 {
        self.long_lines
    }

    fn write_span(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), PayloadError> {
        let mut record = SpanRecord::decode_payload(payload)?;
        let span = std::mem::take(&mut record.span);
        self.span.clear();
        write_message(&span, &mut self.span);
        if let Some(line) = &mut self.open {
            let bytes = line.bytes + 1 + self.span.len();
            if line.shared == record && bytes <= LINE_BYTES_MAX {
                line.bytes = bytes;
                out.push(b',');
                out.extend_from_slice(&self.span);
                return Ok(());
            }
        }
        self.finish(out);
        let start = out.len();
        let envelope = Envelope {
            resource: record.resource.as_ref(),
            resource_schema_url: &record.resource_schema_url,
            scope: record.scope.as_ref(),
            scope_schema_url: &record.scope_schema_url,
        };
        envelope.open(Signal::Traces, out);
        out.extend_from_slice(&self.span);
        let bytes = out.len() - start + Envelope::CLOSING.len() + 1;
        self.open = Some(OpenLine {
            shared: record,
            bytes,
        });
        Ok(())
    }
}
