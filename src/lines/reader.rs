//! Reads records from untrusted text.

use super::{
    json::{JsonError, Kind, NESTING_MAX, Reader, Skim, value_text},
    ndjson::{
        dialect::{Dialect, is_log, log_of_entries},
        line::LineReason,
        log::encode_line,
        metrics::{MetricsLine, read_metrics},
    },
    otlp_json::{
        OTLP_NESTING_MAX, keep_foreign,
        records::{
            self, Found as OtlpFound, Origin, OtlpRecord, TEXT_BYTES_MAX, VALUES_MAX,
            read_envelope, signal_of_key,
        },
    },
};
use crate::{
    lines::json::read_value,
    otlp::{
        FoundLog as OtlpFoundLog, FoundMetric, SnapshotReader, log_from_otlp, said_server,
        said_service, server_names,
    },
    record::{EncodedLog, Record, ServerName, SpanRecord, Value},
    signal::Signal,
    time::Timestamp,
};
use opentelemetry_proto::tonic::{
    metrics::v1::{Metric, ResourceMetrics, ScopeMetrics},
    resource::v1::Resource,
};
use std::{borrow::Cow, fmt};

/// Reads the lines of a file, in whatever [`LineFormat`](crate::lines::LineFormat) and [`Dialect`]
/// each of them is, and loses no record for the sake of another.
///
/// What a line holds is told by its keys: each signal of OTLP/JSON is read whatever file it stands
/// in, and so are snapshots and logs of one object a line. A line may hold several values, and a value
/// may span several lines. OTLP/JSON is read in every form that it allows, in the form of older
/// versions (`instrumentationLibrarySpans`, …), and in the form of the Go program before this one
/// (base64 ids, enum names).
///
/// A record that cannot be read is a problem that names its place; the others of its line are found.
/// Text that is damaged, but can be told, is repaired: half of a surrogate pair, bytes that are no
/// UTF-8 and NULs at the beginning or the end of a line, for instance. A value that is nested too deep
/// is read as null. A line whose JSON is broken is a problem as a whole, and reading goes on with the
/// next line.
///
/// A log without a time gets that of the record before it, or else what [`RecordReader::time`] says.
///
/// The server of a record is the one that it names itself (the attribute `server.name` of a span, of
/// an OTLP log or of the resource; the key `server` of a snapshot), or else
/// [`RecordReader::server`]; only where neither is known, the `service.name` of logs and metrics, and
/// the `component` of spans.
///
/// At most 64 MiB of text are one value, and a value that is larger is a problem. So is a record with
/// more than 524,288 values or 32 MiB of text. Reading takes at most 256 MiB, with the text.
#[derive(Debug)]
pub struct RecordReader {
    signal: Signal,
    dialect: Dialect,
    server: Option<ServerName>,
    time: Option<Timestamp>,
    line: u64,
    /// A value that has begun.
    pending: Option<Pending>,
    /// Whether something of the line was repaired.
    repaired: bool,
    /// Whether simple logs are found encoded.
    encodes: bool,
}

/// What a line was found to hold.
#[derive(Debug)]
#[non_exhaustive]
pub enum Found {
    /// A record.
    Record(Box<FoundRecord>),
    /// A log, encoded already, if [`RecordReader::encode_logs`] was asked for.
    Encoded(FoundLog),
    /// The line that announces a reset. The snapshot after it says the same and more.
    Sentinel {
        /// Whose counters are reset, if that is known.
        server: Option<ServerName>,
        /// Its time.
        timestamp: Timestamp,
        /// Where it stands.
        place: Place,
    },
    /// What is not read.
    Problem(LineError),
    /// Something of the line with this number was repaired.
    Repaired(u64),
}

/// A record of a line.
#[derive(Debug)]
#[non_exhaustive]
pub struct FoundRecord {
    /// Whose it is, if that is known.
    pub server: Option<ServerName>,
    /// The record.
    pub record: Record,
    /// Where it stands.
    pub place: Place,
    /// Whether the time of the record is its own.
    pub has_time: bool,
}

/// A log of a line in the encoding in which it is stored.
#[derive(Debug)]
#[non_exhaustive]
pub struct FoundLog {
    /// Whose it is, if that is known.
    pub server: Option<ServerName>,
    /// The log.
    pub log: EncodedLog,
    /// Where it stands.
    pub place: Place,
}

/// Where a record stands: the line, and the path in its JSON, which is what this displays as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    line: u64,
    index: Option<usize>,
    path: Option<records::Place>,
}

impl Place {
    /// The number of the line, from 1; of a value that spans several, its first.
    #[must_use]
    pub fn line(&self) -> u64 {
        self.line
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(index) = self.index {
            write!(f, "[{index}]")?;
        }
        match (&self.path, self.index) {
            (Some(path), Some(_)) => write!(f, ".{path}"),
            (Some(path), None) => write!(f, "{path}"),
            (None, _) => Ok(()),
        }
    }
}

/// Why something of a line is no record.
#[derive(Debug)]
pub struct LineError {
    line: u64,
    records: u64,
    error: JsonError,
}

impl LineError {
    /// The error of a line that holds nothing.
    pub(super) fn empty() -> LineError {
        LineError {
            line: 1,
            records: 1,
            error: Reader::refuse(0, Reason::NoRecord),
        }
    }

    /// The number of the line, from 1; of a value that spans several, its first.
    #[must_use]
    pub fn line(&self) -> u64 {
        self.line
    }

    /// How many records are lost with it: 1 for a line that holds none that can be told.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

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
        fmt::Display::fmt(&self.error, f)?;
        match self.records {
            0 | 1 => Ok(()),
            records => write!(f, ": {records} records are lost with it"),
        }
    }
}

impl std::error::Error for LineError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

/// Why a value holds no record.
#[derive(Debug, thiserror::Error)]
enum Reason {
    #[error("the line holds no record")]
    NoRecord,
    #[error("the value that begins here breaks off at line {line}: {error}")]
    Broken { line: u64, error: JsonError },
    #[error("the value that begins here is not complete at the end of the file")]
    Incomplete,
    #[error("the value that begins here is longer than {max} bytes")]
    TooLong { max: usize },
}

/// A value that spans lines.
#[derive(Debug)]
struct Pending {
    /// The number of its first line.
    line: u64,
    text: String,
    skim: Skim,
}

type Sink<'a> = dyn FnMut(Found) + 'a;

impl RecordReader {
    /// The longest text of one value, in bytes. No record is larger.
    pub const VALUE_BYTES_MAX: usize = 64 << 20;

    /// A reader at the start of a file of one signal, which decides where a line's keys do not.
    #[must_use]
    pub fn new(signal: Signal) -> RecordReader {
        RecordReader {
            signal,
            dialect: Dialect::default(),
            server: None,
            time: None,
            line: 0,
            pending: None,
            repaired: false,
            encodes: false,
        }
    }

    /// Finds a log as [`Found::Encoded`] if its line is as our own files have it and nothing in it is nested.
    /// That takes a third of the time of a record that is built and then encoded, as an import does.
    #[must_use]
    pub fn encode_logs(mut self) -> RecordReader {
        self.encodes = true;
        self
    }

    /// How the logs of the file are spelled.
    #[must_use]
    pub fn dialect(mut self, dialect: Dialect) -> RecordReader {
        self.dialect = dialect;
        self
    }

    /// Whose the records are that do not say so themselves.
    #[must_use]
    pub fn server(mut self, server: impl Into<Option<ServerName>>) -> RecordReader {
        self.server = server.into();
        self
    }

    /// The time of logs that have none, before the first record that has one.
    #[must_use]
    pub fn time(mut self, time: impl Into<Option<Timestamp>>) -> RecordReader {
        self.time = time.into();
        self
    }

    /// The time of the last record that was found, or else what [`RecordReader::time`] said.
    #[must_use]
    pub fn last_time(&self) -> Option<Timestamp> {
        self.time
    }

    /// The number of lines that were read.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.line
    }

    /// Reads the next line, without its line end, and calls `found` with everything in it. A value
    /// that does not end with the line is found when it does.
    pub fn read_line(&mut self, line: &[u8], found: &mut dyn FnMut(Found)) {
        self.line += 1;
        let Some(text) = self.text_of(line) else {
            let max = Self::VALUE_BYTES_MAX;
            let reason = Reason::TooLong { max };
            return match self.pending.take() {
                Some(pending) => self.give_up(&pending, reason, found),
                None => problem(self.line, Reader::refuse(0, reason), 1, found),
            };
        };
        let mut text = text.as_ref();
        if let Some(pending) = self.pending.take() {
            text = self.go_on(pending, text, found);
        }
        self.read_values(text, found);
        if std::mem::take(&mut self.repaired) {
            found(Found::Repaired(self.line));
        }
    }

    /// Passes over a line that was not read, and with it over a value that has begun.
    pub fn skip_line(&mut self, found: &mut dyn FnMut(Found)) {
        self.line += 1;
        if let Some(pending) = self.pending.take() {
            let max = Self::VALUE_BYTES_MAX;
            self.give_up(&pending, Reason::TooLong { max }, found);
        }
    }

    /// Ends the file: a value that is not complete is a problem.
    pub fn finish(&mut self, found: &mut dyn FnMut(Found)) {
        if let Some(pending) = self.pending.take() {
            self.give_up(&pending, Reason::Incomplete, found);
        }
        if std::mem::take(&mut self.repaired) {
            found(Found::Repaired(self.line));
        }
    }

    /// The line as text, without what is no part of it: NULs around it, which a file has that was
    /// truncated while it was written or that lost power, and a byte order mark. `None` when it is too
    /// long: a byte that is no UTF-8 becomes three.
    fn text_of<'a>(&mut self, line: &'a [u8]) -> Option<Cow<'a, str>> {
        let mut rest = line;
        loop {
            let before = rest.len();
            rest = rest.strip_prefix(b"\xef\xbb\xbf").unwrap_or(rest);
            while let Some(inner) = rest.strip_prefix(b"\0").or(rest.strip_suffix(b"\0")) {
                rest = inner;
            }
            if rest.len() == before {
                break;
            }
        }
        if let Ok(text) = str::from_utf8(rest) {
            self.repaired |= rest.len() < line.len();
            return Some(Cow::Borrowed(text));
        }
        let replacements = rest
            .utf8_chunks()
            .filter(|chunk| !chunk.invalid().is_empty());
        let replacement_bytes = char::REPLACEMENT_CHARACTER.len_utf8();
        if rest.len() + replacements.count() * replacement_bytes > Self::VALUE_BYTES_MAX {
            return None;
        }
        self.repaired = true;
        Some(String::from_utf8_lossy(rest))
    }

    /// Reads on in a value that has begun. Returns the rest of the line.
    fn go_on<'a>(&mut self, mut pending: Pending, text: &'a str, found: &mut Sink<'_>) -> &'a str {
        let max = Self::VALUE_BYTES_MAX;
        if pending.text.len() + text.len() >= max {
            self.give_up(&pending, Reason::TooLong { max }, found);
            return text;
        }
        let mut reader = Reader::tolerant(text, OTLP_NESTING_MAX);
        let start = reader.mark();
        match reader.skim(&mut pending.skim) {
            Ok(complete) => {
                let part = reader.since(start);
                pending.text.push('\n');
                pending.text.push_str(part);
                if complete {
                    self.read_text(&pending.text, pending.line, found);
                } else {
                    self.pending = Some(pending);
                }
                text.get(part.len()..).unwrap_or_default()
            }
            Err(error) => {
                let line = self.line;
                self.give_up(&pending, Reason::Broken { line, error }, found);
                text
            }
        }
    }

    /// Gives up a value that is not complete. Lines of it that are values by themselves came after
    /// the damage, and are read.
    fn give_up(&mut self, pending: &Pending, reason: Reason, found: &mut Sink<'_>) {
        problem(pending.line, Reader::refuse(0, reason), 1, found);
        for (text, line) in pending.text.lines().zip(pending.line..).skip(1) {
            let mut reader = Reader::tolerant(text, OTLP_NESTING_MAX);
            let is_object = text.trim_start().starts_with('{');
            if is_object && reader.skip_value().is_ok() && reader.is_at_end() {
                self.read_text(text, line, found);
            }
        }
    }

    /// Reads the values of a line, and begins one that does not end with it.
    fn read_values(&mut self, text: &str, found: &mut Sink<'_>) {
        let line = self.line;
        if self.encodes
            && matches!(self.dialect, Dialect::Auto | Dialect::Slog)
            && let Some(log) = encode_line(text)
        {
            self.time = Some(log.timestamp());
            return found(Found::Encoded(FoundLog {
                server: self.server.clone(),
                log,
                place: Place {
                    line,
                    index: None,
                    path: None,
                },
            }));
        }
        let mut reader = Reader::tolerant(text, OTLP_NESTING_MAX);
        while !reader.is_at_end() {
            let start = reader.mark();
            let mut skim = Skim::default();
            match reader.skim(&mut skim) {
                Ok(true) => {
                    let end = reader.mark();
                    reader.go_to(start);
                    self.read_value(&mut reader, line, found);
                    reader.go_to(end);
                }
                Ok(false) => {
                    let text = reader.since(start).to_owned();
                    self.pending = Some(Pending { line, text, skim });
                    break;
                }
                Err(error) => {
                    problem(line, error, 1, found);
                    break;
                }
            }
        }
        self.repaired |= reader.repairs() > 0;
    }

    /// Reads a text that is one value.
    fn read_text(&mut self, text: &str, line: u64, found: &mut Sink<'_>) {
        let mut reader = Reader::tolerant(text, OTLP_NESTING_MAX);
        self.read_value(&mut reader, line, found);
        self.repaired |= reader.repairs() > 0;
    }

    /// Reads a value that is known to be JSON: an object, or an array of them.
    fn read_value(&mut self, reader: &mut Reader<'_>, line: u64, found: &mut Sink<'_>) {
        let mut place = Place {
            line,
            index: None,
            path: None,
        };
        let is_array = matches!(reader.peek(), Ok(Kind::Array));
        if !is_array {
            return self.read_object(reader, place, found);
        }
        let mut is_empty = true;
        let read = reader.read_array(|reader, index| {
            is_empty = false;
            place.index = Some(index);
            let start = reader.mark();
            reader.skip_value()?;
            let end = reader.mark();
            reader.go_to(start);
            self.read_object(reader, place, found);
            reader.go_to(end);
            Ok(())
        });
        match read {
            Ok(()) if is_empty => problem(line, Reader::refuse(0, Reason::NoRecord), 1, found),
            Ok(()) => {}
            Err(error) => problem(line, error, 1, found),
        }
    }

    /// Reads an object: an envelope of OTLP, or a record by itself.
    fn read_object(&mut self, reader: &mut Reader<'_>, place: Place, found: &mut Sink<'_>) {
        let start = reader.mark();
        let offset = reader.offset();
        let mut entries = Vec::new();
        let mut is_envelope = false;
        let mut count = 0;
        reader.allow(VALUES_MAX, TEXT_BYTES_MAX);
        reader.set_nesting_max(NESTING_MAX);
        let read = reader.read_object(|reader, key| {
            if let Some(signal) = signal_of_key(&key) {
                is_envelope = true;
                reader.allow_all();
                reader.set_nesting_max(OTLP_NESTING_MAX);
                count += self.read_records(reader, signal, place, found)?;
                reader.allow(VALUES_MAX, TEXT_BYTES_MAX);
                reader.set_nesting_max(NESTING_MAX);
            } else {
                entries.push((key.into_owned(), read_value(reader)?));
            }
            Ok(())
        });
        reader.allow_all();
        reader.set_nesting_max(OTLP_NESTING_MAX);
        let none = || Reader::refuse(offset, Reason::NoRecord);
        match read {
            Err(error) => problem_at(place, error, 1, found),
            Ok(()) if is_envelope => {
                if count == 0 {
                    problem_at(place, none(), 1, found);
                }
            }
            Ok(()) if self.dialect == Dialect::Otlp => problem_at(place, none(), 1, found),
            Ok(()) if self.is_snapshot(&entries) => {
                reader.go_to(start);
                match read_metrics(reader) {
                    Ok(line) => self.snapshot(line, place, found),
                    Err(error) => problem_at(place, error, 1, found),
                }
            }
            Ok(()) if self.signal != Signal::Logs && !is_log(&entries, self.dialect) => {
                problem_at(place, none(), 1, found);
            }
            Ok(()) => match log_of_entries(entries, self.dialect) {
                Ok(None) => problem_at(place, none(), 1, found),
                Ok(Some(log)) => {
                    let log = OtlpFoundLog {
                        record: log.record,
                        has_time: log.has_time,
                    };
                    let owner = self.server.clone();
                    self.log(log, owner, place, offset, found);
                }
                Err(reason) => problem_at(place, Reader::refuse(offset, reason), 1, found),
            },
        }
    }

    /// Whether the entries are those of a snapshot, or meant to be.
    fn is_snapshot(&self, entries: &[(String, Value)]) -> bool {
        let has = |key: &str, of: fn(&Value) -> bool| {
            entries.iter().any(|(name, value)| name == key && of(value))
        };
        if self.dialect != Dialect::Auto || is_log(entries, self.dialect) {
            return false;
        }
        let is_object = |value: &Value| matches!(value, Value::Object(_));
        let is_sentinel = has("reset", |value| *value == Value::Bool(true))
            && entries
                .iter()
                .all(|(key, _)| ["reset", "ts", "server"].contains(&key.as_str()));
        self.signal == Signal::Metrics
            || is_sentinel
            || (has("diff", is_object) && has("total", is_object) && has("ts", |_| true))
    }

    fn snapshot(&mut self, line: MetricsLine, place: Place, found: &mut Sink<'_>) {
        match line {
            MetricsLine::Sentinel { server, timestamp } => match self.owner(server, None) {
                Ok(server) => found(Found::Sentinel {
                    server,
                    timestamp,
                    place,
                }),
                Err(error) => problem_at(place, Reader::refuse(0, error), 1, found),
            },
            MetricsLine::Snapshot { server, snapshot } => match self.owner(server, None) {
                Ok(server) => self.found(server, Record::Metrics(*snapshot), true, place, found),
                Err(error) => problem_at(place, Reader::refuse(0, error), 1, found),
            },
        }
    }

    /// Reads the list of an envelope. Returns how many records it has.
    fn read_records(
        &mut self,
        reader: &mut Reader<'_>,
        signal: Signal,
        place: Place,
        found: &mut Sink<'_>,
    ) -> crate::lines::json::JsonResult<u64> {
        let mut snapshots = SnapshotReader::default();
        // The metric that a snapshot of several begins with, or stands alone in.
        let mut first = place;
        let mut problems = 0;
        let records = read_envelope(reader, signal, &mut |part| match part {
            OtlpFound::Problem(error, records) => {
                problems += 1;
                problem_at(place, error, records, found);
            }
            OtlpFound::Record(origin, record, path) => {
                let place = Place {
                    path: Some(path),
                    ..place
                };
                match record {
                    OtlpRecord::Log(log) => {
                        // A log's resource comes first: an export of ours names the owner there.
                        let said = said(&[], origin.resource.as_ref())
                            .or_else(|| said(&log.attributes, None));
                        match self.owner(said, service_of(origin)) {
                            Ok(owner) => {
                                let log = log_from_otlp(
                                    *log,
                                    origin.resource.as_ref(),
                                    origin.scope.as_ref(),
                                    owner.as_deref(),
                                    value_text,
                                );
                                self.log(log, owner, place, 0, found);
                            }
                            Err(error) => problem_at(place, Reader::refuse(0, error), 1, found),
                        }
                    }
                    OtlpRecord::Metric(metric) => {
                        let mut is_foreign = false;
                        snapshots.next(metric, |metric| {
                            is_foreign = matches!(metric, FoundMetric::Foreign(_));
                            let at = if is_foreign { place } else { first };
                            self.metric(metric, origin, at, found);
                        });
                        if !is_foreign {
                            first = place;
                        }
                    }
                    OtlpRecord::Span(span) => {
                        let said = said(&span.attributes, origin.resource.as_ref());
                        let named = server_names(&span).next().map(str::to_owned);
                        let span = SpanRecord::new(*span)
                            .resource(origin.resource.clone(), &origin.resource_schema_url)
                            .scope(origin.scope.clone(), &origin.scope_schema_url);
                        match self.owner(said, named) {
                            Ok(owner) => {
                                self.found(owner, Record::Span(Box::new(span)), true, place, found);
                            }
                            Err(error) => problem_at(place, Reader::refuse(0, error), 1, found),
                        }
                    }
                }
            }
            OtlpFound::ScopeEnd(origin) => {
                if let Some(snapshot) = std::mem::take(&mut snapshots).finish() {
                    self.metric(FoundMetric::Snapshot(snapshot), origin, first, found);
                }
            }
        })?;
        Ok(records.max(problems))
    }

    fn metric(&mut self, metric: FoundMetric, origin: &Origin, place: Place, found: &mut Sink<'_>) {
        let said = said(&[], origin.resource.as_ref());
        let owner = match self.owner(said, service_of(origin)) {
            Ok(owner) => owner,
            Err(error) => return problem_at(place, Reader::refuse(0, error), 1, found),
        };
        let snapshot = match metric {
            FoundMetric::Snapshot(snapshot) => Ok(snapshot),
            FoundMetric::Foreign(metric) => keep_foreign(&alone(metric, origin)),
        };
        match snapshot {
            Ok(snapshot) => self.found(owner, Record::Metrics(snapshot), true, place, found),
            Err(error) => problem_at(place, error, 1, found),
        }
    }

    /// Finds a log, with the time of the record before it if it has none.
    fn log(
        &mut self,
        mut log: OtlpFoundLog,
        owner: Option<ServerName>,
        place: Place,
        offset: usize,
        found: &mut Sink<'_>,
    ) {
        if !log.has_time {
            let Some(time) = self.time else {
                return problem_at(place, Reader::refuse(offset, LineReason::NoTime), 1, found);
            };
            log.record.timestamp = time;
        }
        self.found(owner, Record::Log(log.record), log.has_time, place, found);
    }

    fn found(
        &mut self,
        server: Option<ServerName>,
        mut record: Record,
        has_time: bool,
        place: Place,
        found: &mut Sink<'_>,
    ) {
        self.repaired |= record.cut_deep_values();
        self.time = Some(record.timestamp());
        found(Found::Record(Box::new(FoundRecord {
            server,
            record,
            place,
            has_time,
        })));
    }

    /// Whose a record is: who it says, or else the file, or else what it hints at.
    fn owner(
        &self,
        said: Option<String>,
        hint: Option<String>,
    ) -> crate::Result<Option<ServerName>> {
        let some = |name: Option<String>| name.filter(|name| !name.is_empty());
        match (some(said), &self.server, some(hint)) {
            (Some(name), ..) | (None, None, Some(name)) => ServerName::new(name).map(Some),
            (None, server, _) => Ok(server.clone()),
        }
    }
}

/// The server that a record says, or its resource.
fn said(
    attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue],
    resource: Option<&Resource>,
) -> Option<String> {
    said_server(attributes)
        .or_else(|| said_server(&resource?.attributes))
        .map(str::to_owned)
}

fn service_of(origin: &Origin) -> Option<String> {
    said_service(&origin.resource.as_ref()?.attributes).map(str::to_owned)
}

/// A message of one metric.
fn alone(metric: Metric, origin: &Origin) -> ResourceMetrics {
    ResourceMetrics {
        resource: origin.resource.clone(),
        schema_url: origin.resource_schema_url.clone(),
        scope_metrics: vec![ScopeMetrics {
            scope: origin.scope.clone(),
            schema_url: origin.scope_schema_url.clone(),
            metrics: vec![metric],
        }],
    }
}

fn problem(line: u64, error: JsonError, records: u64, found: &mut Sink<'_>) {
    found(Found::Problem(LineError {
        line,
        records,
        error,
    }));
}

fn problem_at(place: Place, error: JsonError, records: u64, found: &mut Sink<'_>) {
    let error = match place.path {
        Some(path) if error.path().is_empty() => path.locate(3, error),
        _ => error,
    };
    let error = match place.index {
        Some(index) => error.under_index(index),
        None => error,
    };
    problem(place.line, error, records, found);
}
