//! Scans: the records of a query, from all its servers, in order.

use super::{
    Cursor, Query, ValueView,
    log::{damaged_parts, record_of_parts},
};
use crate::{
    error::{Error, Result},
    filter::{Encoded, Filter, IdKind},
    record::{Level, Record, ServerName, Value},
    signal::Signal,
    store::{
        DamagedPart, DamagedSeries, Direction, LogValue, MemoryBudget, Order, PositionRange,
        ReadRecord, SeriesEntry, SeriesQuery, SeriesScan, Snapshot, Store,
    },
    time::Timestamp,
};
use opentelemetry_proto::tonic::trace::v1::{span::SpanKind, status::StatusCode};
use std::{borrow::Cow, cmp::Reverse, collections::BinaryHeap, time::Duration};

/// A stored record, with its server and its position.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct StoredRecord {
    /// The server of the record.
    pub server: ServerName,
    /// The timestamp that the record is stored under.
    pub timestamp: Timestamp,
    /// The record's number in the order of arrival in this database.
    pub sequence: u64,
    /// The record.
    pub record: Record,
}

impl StoredRecord {
    /// The position directly after this record.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        Cursor {
            timestamp: self.timestamp,
            sequence: self.sequence,
        }
    }
}

/// A stored record, not yet built: each method reads what it returns.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct RawRecord<'a> {
    /// The server of the record.
    pub server: &'a ServerName,
    /// The signal of the record.
    pub signal: Signal,
    /// The timestamp that the record is stored under.
    pub timestamp: Timestamp,
    /// The record's number in the order of arrival in this database.
    pub sequence: u64,
    pub(crate) content: ReadRecord<'a>,
}

impl<'a> RawRecord<'a> {
    /// The position directly after this record.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        Cursor {
            timestamp: self.timestamp,
            sequence: self.sequence,
        }
    }

    /// The length of the encoded record, in bytes. A log that a scan has decoded is encoded for this.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.payload().len()
    }

    /// The record in this crate's private encoding.
    pub(crate) fn payload(&self) -> Cow<'a, [u8]> {
        if let ReadRecord::Payload(payload) = self.content {
            return Cow::Borrowed(payload);
        }
        let mut payload = Vec::new();
        self.append_payload(&mut payload);
        Cow::Owned(payload)
    }

    /// Appends the same to `out`.
    pub(crate) fn append_payload(&self, out: &mut Vec<u8>) {
        match &self.content {
            ReadRecord::Payload(payload) => out.extend_from_slice(payload),
            // Of a damaged log, the rest is missing, which a reader of the payload is told.
            ReadRecord::Log(log) => _ = log.write_payload(out),
        }
    }

    /// Decodes the record.
    ///
    /// Fails with [`Error::InvalidRecord`] when the payload was not written by this crate.
    pub fn decode(&self) -> Result<Record> {
        match self.content {
            ReadRecord::Payload(payload) => {
                Record::decode_payload(self.signal, self.timestamp, payload).map_err(|error| {
                    Error::InvalidRecord {
                        signal: self.signal,
                        reason: error.to_string(),
                    }
                })
            }
            ReadRecord::Log(parts) => {
                let record = record_of_parts(&parts, self.timestamp);
                record.map(Record::Log).ok_or_else(damaged_parts)
            }
        }
    }

    /// The severity of a log. A failed span has [`Level::ERROR`], any other span [`Level::INFO`], and a
    /// metrics snapshot none. Like all methods below, it reads only this part of the record, and returns
    /// `None` for a part that the record does not have.
    #[must_use]
    pub fn level(&self) -> Option<Level> {
        match self.content {
            ReadRecord::Payload(_) => self.encoded()?.level(),
            ReadRecord::Log(log) => log.level(),
        }
    }

    /// The message of a log, or of the status of a span.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        match self.content {
            ReadRecord::Payload(_) => self.encoded()?.message(),
            ReadRecord::Log(log) => log.message(),
        }
    }

    /// The trace id of a span in lower-case hex, or the attribute `trace_id` of a log.
    #[must_use]
    pub fn trace_id(&self) -> Option<Cow<'_, str>> {
        self.id(IdKind::Trace)
    }

    /// The id of a span in lower-case hex, or the attribute `span_id` of a log.
    #[must_use]
    pub fn span_id(&self) -> Option<Cow<'_, str>> {
        self.id(IdKind::Span)
    }

    /// The id of a span's parent in lower-case hex; `None` for a root.
    #[must_use]
    pub fn parent_span_id(&self) -> Option<Cow<'_, str>> {
        self.id(IdKind::Parent)
    }

    /// The name of a span.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.encoded()?.name()
    }

    /// The kind of a span. A number that OTLP does not know is [`SpanKind::Unspecified`].
    #[must_use]
    pub fn kind(&self) -> Option<SpanKind> {
        let kind = self.encoded()?.kind()?;
        Some(SpanKind::try_from(kind).unwrap_or_default())
    }

    /// The status of a span. A number that OTLP does not know is [`StatusCode::Unset`].
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        let status = self.encoded()?.status()?;
        Some(StatusCode::try_from(status).unwrap_or_default())
    }

    /// When a span began; `None` when it does not say.
    #[must_use]
    pub fn start(&self) -> Option<Timestamp> {
        let start = self.encoded()?.start().filter(|start| *start != 0)?;
        Some(Timestamp::from_unix_nanos(
            i64::try_from(start).unwrap_or(i64::MAX),
        ))
    }

    /// How long a span took; `None` when its start or its end is unknown.
    #[must_use]
    pub fn duration(&self) -> Option<Duration> {
        self.encoded()?.duration().map(Duration::from_nanos)
    }

    /// The value under the path `key`, as in [`Filter::field`]; of several the last one, of an array the
    /// whole.
    #[must_use]
    pub fn attribute(&self, key: &str) -> Option<Value> {
        match self.content {
            ReadRecord::Payload(_) => self.encoded()?.value(key).ok()?,
            ReadRecord::Log(log) => {
                let mut found = None;
                // None of the values has others within it.
                log.visit(|name, value| {
                    if name == key {
                        found = Some(value);
                    }
                    Some(())
                })?;
                Some(ValueView::from(found?).to_value())
            }
        }
    }

    /// Whether `filter` matches the record. A damaged record does, so that a caller who decodes it is
    /// told about it.
    #[must_use]
    pub fn matches(&self, filter: &Filter) -> bool {
        filter.matches(self.signal, &self.payload())
    }

    /// The record, if it was read as a payload, as all but logs are.
    pub(super) fn encoded(&self) -> Option<Encoded<'a>> {
        match self.content {
            ReadRecord::Payload(payload) => Some(Encoded {
                signal: self.signal,
                payload,
            }),
            ReadRecord::Log(_) => None,
        }
    }

    fn id(&self, kind: IdKind) -> Option<Cow<'a, str>> {
        match self.content {
            ReadRecord::Payload(_) => Some(self.encoded()?.id(kind)?.text()),
            ReadRecord::Log(log) => {
                let (key, mut found) = (kind.key()?, None);
                log.visit(|name, value| {
                    if let LogValue::Text(text) = value
                        && name == key
                    {
                        found = Some(Cow::Borrowed(text));
                    }
                    Some(())
                })?;
                found
            }
        }
    }

    /// Decodes the record, and keeps its server and its position with it.
    ///
    /// Fails like [`RawRecord::decode`].
    pub fn to_stored(self) -> Result<StoredRecord> {
        Ok(StoredRecord {
            server: self.server.clone(),
            timestamp: self.timestamp,
            sequence: self.sequence,
            record: self.decode()?,
        })
    }
}

impl Snapshot {
    /// Reads the records that `query` asks for. Records older than the age limit of their server
    /// are left out one by one, even if their disk space has not been reclaimed yet.
    ///
    /// Memory is bounded by [`Query::memory_bytes`], plus one part of a block (64 records) for each
    /// server and the largest record. Fails with [`Error::Database`] and [`Error::Corrupt`].
    pub fn scan(&self, query: &Query) -> Result<Scan> {
        self.scan_expecting(query, None)
    }

    /// Does the same for a caller that will probably read `records_expected` records.
    fn scan_expecting(&self, query: &Query, records_expected: Option<usize>) -> Result<Scan> {
        let budget = MemoryBudget::new(query.memory_bytes);
        let mut sources = Vec::new();
        let (series, damage) = self.series_of(query)?;
        for (entry, range) in series {
            let wanted = SeriesQuery {
                signal: query.signal,
                range,
                direction: query.direction,
                since_sequence: query.since_sequence,
                filter: query.filter.clone(),
                skips_damaged: query.skips_damaged,
                records_expected,
            };
            let scan = SeriesScan::new(self.view(), &entry.state, wanted, budget.clone())?;
            sources.push((entry.server, scan));
        }
        Ok(Scan {
            signal: query.signal,
            direction: query.direction,
            sources,
            present: None,
            heads: BinaryHeap::new(),
            started: false,
            skips_damaged: query.skips_damaged,
            other_damage: damage,
        })
    }

    /// The series of a query, each with the range of its positions that is read, and what is left out if
    /// the query skips damage.
    pub(super) fn series_of(&self, query: &Query) -> Result<(Vec<WantedSeries>, Vec<Damage>)> {
        let range = positions(query);
        let (mut series, mut damage) = (Vec::new(), Vec::new());
        let is_wanted =
            |server: &ServerName| query.servers.is_empty() || query.servers.contains(server);
        let (readable, damaged) = if query.skips_damaged {
            self.view().readable_series()?
        } else {
            (self.view().series()?, Vec::new())
        };
        for entry in readable {
            if entry.signal != query.signal || !is_wanted(&entry.server) {
                continue;
            }
            let mut range = range;
            match self.view().cutoff(&entry.server) {
                Ok(cutoff) => range.first = range.first.max((cutoff.unwrap_or(i64::MIN), 0)),
                // Expired records are better than none.
                Err(Error::Corrupt { what, .. }) if query.skips_damaged => {
                    damage.push(Damage::of_server(&entry.server, what));
                }
                Err(error) => return Err(error),
            }
            series.push((entry, range));
        }
        for DamagedSeries {
            server,
            signal,
            what,
        } in damaged
        {
            if signal.is_none_or(|signal| signal == query.signal)
                && server.as_ref().is_none_or(is_wanted)
            {
                damage.push(Damage {
                    server,
                    records: None,
                    what,
                });
            }
        }
        Ok((series, damage))
    }

    /// The last `count` records that `query` asks for, oldest first in either direction of the
    /// query.
    ///
    /// The cost grows with `count`, not with the number of stored records. Fails like
    /// [`Snapshot::scan`].
    pub fn last(&self, query: &Query, count: usize) -> Result<Vec<StoredRecord>> {
        Ok(self.last_and_damage(query, count)?.0)
    }

    /// Like [`Snapshot::last`], and says what was skipped if the query [asks for
    /// that](Query::skip_damaged).
    pub(super) fn last_and_damage(
        &self,
        query: &Query,
        count: usize,
    ) -> Result<(Vec<StoredRecord>, Vec<Damage>)> {
        let query = query.clone().direction(Direction::Backward);
        let mut found = self.scan_expecting(&query, Some(count))?.records();
        let mut records = Vec::with_capacity(count.min(LAST_RESERVED_MAX));
        for record in found.by_ref().take(count) {
            records.push(record?);
        }
        records.reverse();
        Ok((records, found.damage()))
    }
}

impl Store {
    /// Reads the records that `query` asks for from the present state of the store; see
    /// [`Snapshot::scan`].
    pub fn scan(&self, query: &Query) -> Result<Records> {
        Ok(self.snapshot()?.scan(query)?.records())
    }

    /// The last `count` records that `query` asks for; see [`Snapshot::last`].
    pub fn last(&self, query: &Query, count: usize) -> Result<Vec<StoredRecord>> {
        self.snapshot()?.last(query, count)
    }
}

/// The maximum number of records for which there is room before they are found: a caller may want all.
const LAST_RESERVED_MAX: usize = 1024;

/// A series of a query, and the range of its positions that is read.
type WantedSeries = (SeriesEntry, PositionRange);

/// The range of positions of a query.
fn positions(query: &Query) -> PositionRange {
    let mut range = PositionRange {
        first: (i64::MIN, 0),
        last: (i64::MAX, u64::MAX),
    };
    let nothing = PositionRange {
        first: (i64::MAX, u64::MAX),
        last: (i64::MIN, 0),
    };
    if let Some(since) = query.range.since {
        range.first = (since.unix_nanos(), 0);
    }
    if let Some(until) = query.range.until {
        match until.unix_nanos().checked_sub(1) {
            Some(last) => range.last = (last, u64::MAX),
            None => return nothing,
        }
    }
    if let Some(cursor) = query.after {
        let at = (cursor.timestamp.unix_nanos(), cursor.sequence);
        let neighbour = match query.direction {
            Direction::Forward => crate::store::successor(at),
            Direction::Backward => crate::store::predecessor(at),
        };
        match (neighbour, query.direction) {
            (Some(first), Direction::Forward) => range.first = range.first.max(first),
            (Some(last), Direction::Backward) => range.last = range.last.min(last),
            (None, _) => return nothing,
        }
    }
    range
}

/// Stored records that a scan skipped because they cannot be read, see [`Query::skip_damaged`].
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Damage {
    /// The server of the records; `None` when its name is damaged, too.
    pub server: Option<ServerName>,
    /// The number of the records; `None` when it is not known either.
    pub records: Option<u64>,
    /// What cannot be read, and why.
    pub what: String,
}

impl Damage {
    /// Damage to what is known of a server beside its records.
    pub(crate) fn of_server(server: &ServerName, what: String) -> Damage {
        Damage {
            server: Some(server.clone()),
            records: Some(0),
            what,
        }
    }

    pub(super) fn of_record(record: &RawRecord<'_>, error: &Error) -> Damage {
        Damage {
            server: Some(record.server.clone()),
            records: Some(1),
            what: format!("the record of {}: {error}", record.timestamp),
        }
    }
}

impl Damage {
    pub(super) fn of(server: &ServerName, block: DamagedPart) -> Damage {
        Damage {
            server: Some(server.clone()),
            records: block.records,
            what: block.what,
        }
    }
}

/// A scan over the records of a query. It lends out each record; [`Scan::records`] returns owned,
/// decoded ones.
pub struct Scan {
    signal: Signal,
    direction: Direction,
    sources: Vec<(ServerName, SeriesScan)>,
    /// The source of the present record.
    present: Option<usize>,
    /// The next record of each other source. The first in order is on top.
    heads: BinaryHeap<Reverse<(Order, usize)>>,
    started: bool,
    skips_damaged: bool,
    /// Series and single records that were left out.
    other_damage: Vec<Damage>,
}

impl std::fmt::Debug for Scan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scan")
            .field("signal", &self.signal)
            .finish_non_exhaustive()
    }
}

impl Scan {
    /// Advances to the next record and returns it; `None` after the last one.
    ///
    /// Fails with [`Error::Database`] and [`Error::Corrupt`]. After an error it returns `None`.
    // Not an `Iterator`, because a record borrows from the scan.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator cannot lend its items"
    )]
    pub fn next(&mut self) -> Result<Option<RawRecord<'_>>> {
        if self.started {
            if let Some(index) = self.present.take() {
                self.present = self.go_on(index)?;
            }
        } else {
            self.started = true;
            for index in 0..self.sources.len() {
                if self.advance(index)?
                    && let Some(order) = self.order_of(index)
                {
                    self.heads.push(Reverse((order, index)));
                }
            }
            self.present = self.pop();
        }
        Ok(self.current())
    }

    fn current(&self) -> Option<RawRecord<'_>> {
        let (server, source) = self.sources.get(self.present?)?;
        let ((timestamp, sequence), content) = source.current()?;
        Some(RawRecord {
            server,
            signal: self.signal,
            timestamp: Timestamp::from_unix_nanos(timestamp),
            sequence,
            content,
        })
    }

    /// Advances the source of the last record, and returns the source of the next one.
    fn go_on(&mut self, index: usize) -> Result<Option<usize>> {
        if !self.advance(index)? {
            return Ok(self.pop());
        }
        // Often several records of a source follow each other, and often there is one source.
        if let Some(mut first) = self.heads.peek_mut()
            && let Some((_, source)) = self.sources.get(index)
            && let Some((position, _)) = source.current()
        {
            let next = Reverse((Order::new(self.direction, position), index));
            if next < *first {
                let Reverse((_, earlier)) = std::mem::replace(&mut *first, next);
                return Ok(Some(earlier));
            }
        }
        Ok(Some(index))
    }

    fn pop(&mut self) -> Option<usize> {
        self.heads.pop().map(|Reverse((_, index))| index)
    }

    fn order_of(&self, index: usize) -> Option<Order> {
        let (_, source) = self.sources.get(index)?;
        let (position, _) = source.current()?;
        Some(Order::new(self.direction, position))
    }

    /// Moves a source to its next record. Returns `false` when there is none.
    fn advance(&mut self, index: usize) -> Result<bool> {
        let Some((_, source)) = self.sources.get_mut(index) else {
            return Ok(false);
        };
        source.advance().inspect_err(|_| {
            // Without this source, the other sources would be merged with an undetected gap.
            self.heads.clear();
            self.sources.clear();
        })
    }

    /// The damage that this scan has skipped so far; none unless [`Query::skip_damaged`] is set.
    #[must_use]
    pub fn damage(&self) -> Vec<Damage> {
        let blocks = self.sources.iter().flat_map(|(server, source)| {
            let blocks = source.damaged().iter();
            blocks.map(|block| Damage::of(server, block.clone()))
        });
        (self.other_damage.iter().cloned()).chain(blocks).collect()
    }

    /// The records of this scan, decoded.
    #[must_use]
    pub fn records(self) -> Records {
        Records { scan: self }
    }
}

/// The decoded records of a scan. An error of the scan ends it. A record that cannot be decoded
/// yields an error, and the next record follows.
#[derive(Debug)]
pub struct Records {
    scan: Scan,
}

impl Records {
    /// The damage that was skipped so far, see [`Scan::damage`].
    #[must_use]
    pub fn damage(&self) -> Vec<Damage> {
        self.scan.damage()
    }
}

impl Iterator for Records {
    type Item = Result<StoredRecord>;

    fn next(&mut self) -> Option<Result<StoredRecord>> {
        loop {
            let skips_damaged = self.scan.skips_damaged;
            let damage = match self.scan.next() {
                Ok(Some(record)) => match record.to_stored() {
                    Err(error) if skips_damaged => Damage::of_record(&record, &error),
                    outcome => return Some(outcome),
                },
                Ok(None) => return None,
                Err(error) => return Some(Err(error)),
            };
            self.scan.other_damage.push(damage);
        }
    }
}
