//! Records that serialize as JSON.
//!
//! A view serializes as the text of its line ([`RawValue`]), not as maps and numbers of serde: serde's
//! data model has neither the numbers beyond 64 bits nor the digits of a number that a line keeps, and
//! OTLP/JSON has one writer for all messages, which makes text. So a view is for `serde_json`, and what
//! it gives is byte for byte what an export writes. `serde_json` looks at the text once more, whether it is
//! one JSON value; it builds nothing from it.

use super::{LineFormat, LineWriter};
use crate::{
    error::{Error, Result},
    read::{RawRecord, StoredRecord},
    store::ReadRecord,
};
use serde::{Serialize, Serializer, ser::Error as _};
use serde_json::value::RawValue;

/// A record that serializes as JSON: as the line that [`LineWriter`] writes for it alone.
///
/// Made by [`RawRecord::json`] and [`StoredRecord::json`]. A metrics snapshot that resets its counters
/// has no sentinel line before it. Serializes with `serde_json` only; [`JsonView::write`] gives the text.
///
/// ```
/// use gridctl_telemetry::{LogRecord, Query, ServerName, Signal, Timestamp, lines::LineFormat};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let home = tempfile::tempdir()?;
/// # let home = home.path();
/// # let store = gridctl_telemetry::Store::open(home, "my-stack", Default::default())?;
/// # let (writer, guard) = gridctl_telemetry::Writer::start(&store, Default::default())?;
/// let record = LogRecord::new("2026-05-08T12:00:00Z".parse()?, Default::default(), "first");
/// writer.log(&ServerName::new("github")?, &record)?;
/// writer.flush()?;
///
/// // The answer of an HTTP handler.
/// let records = store.last(&Query::new(Signal::Logs), 100)?;
/// let views: Vec<_> = records.iter().map(|record| record.json(LineFormat::Ndjson)).collect();
/// assert_eq!(
///     serde_json::to_string(&views)?,
///     r#"[{"ts":"2026-05-08T12:00:00Z","level":"INFO","msg":"first"}]"#
/// );
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct JsonView<'a> {
    source: Source<'a>,
    format: LineFormat,
}

#[derive(Debug, Clone, Copy)]
enum Source<'a> {
    Raw(RawRecord<'a>),
    Stored(&'a StoredRecord),
}

impl JsonView<'_> {
    /// Appends the JSON to `out`, without a line feed.
    ///
    /// Fails with [`Error::InvalidRecord`] when the record cannot be encoded or decoded, and `out` is as
    /// it was.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<()> {
        match self.source {
            Source::Raw(record) => write(&record, self.format, out),
            Source::Stored(stored) => {
                let signal = stored.record.signal();
                let mut payload = Vec::new();
                stored
                    .record
                    .encode_payload(&mut payload)
                    .map_err(|error| Error::InvalidRecord {
                        signal,
                        reason: error.to_string(),
                    })?;
                let record = RawRecord {
                    server: &stored.server,
                    signal,
                    timestamp: stored.timestamp,
                    sequence: stored.sequence,
                    content: ReadRecord::Payload(&payload),
                };
                write(&record, self.format, out)
            }
        }
    }
}

impl<'a> RawRecord<'a> {
    /// The record as JSON, for `serde_json`.
    #[must_use]
    pub fn json(self, format: LineFormat) -> JsonView<'a> {
        JsonView {
            source: Source::Raw(self),
            format,
        }
    }
}

impl StoredRecord {
    /// The record as JSON, for `serde_json`.
    #[must_use]
    pub fn json(&self, format: LineFormat) -> JsonView<'_> {
        JsonView {
            source: Source::Stored(self),
            format,
        }
    }
}

impl Serialize for JsonView<'_> {
    /// Fails when the record cannot be encoded or decoded.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = Vec::new();
        self.write(&mut text).map_err(S::Error::custom)?;
        let text = String::from_utf8(text).map_err(S::Error::custom)?;
        let raw = RawValue::from_string(text).map_err(S::Error::custom)?;
        raw.serialize(serializer)
    }
}

fn write(record: &RawRecord<'_>, format: LineFormat, out: &mut Vec<u8>) -> Result<()> {
    let start = out.len();
    let mut lines = LineWriter::new(format);
    lines.write(record, out)?;
    lines.finish(out);
    if out.last() == Some(&b'\n') {
        out.pop();
    }
    // A reset is written after its sentinel, which would be a second value.
    let written = out.get(start..).unwrap_or_default();
    if let Some(sentinel) = written.iter().rposition(|byte| *byte == b'\n') {
        out.drain(start..=start + sentinel);
    }
    Ok(())
}
