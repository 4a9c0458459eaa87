//! The records that a store should hold.

use super::{SERVERS, SeriesKey};
use crate::common::Random;
use gridctl_telemetry::{
    Level, LogRecord, MetricsSnapshot, Query, Record, Signal, Snapshot, SpanRecord, Timestamp,
    Value,
    query::{Direction, InventoryRecord, StoredRecord},
};
use opentelemetry_proto::tonic::trace::v1::Span;
use std::collections::BTreeMap;

/// The size of a record.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Size {
    Tiny,
    /// Text that compresses well, of this many bytes.
    Text(usize),
    /// Text that does not compress, of this many bytes.
    Noise(usize),
}

/// A record: everything else about it follows from its number.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) time: i64,
    pub(crate) size: Size,
    /// Its position in the order of arrival.
    pub(crate) arrival: u64,
    /// The sequence that the store returned first.
    pub(crate) sequence: Option<u64>,
}

impl Known {
    pub(crate) fn new(signal: Signal, time: i64, size: Size) -> Known {
        Known {
            // A span's time is unsigned, and 0 means that it has none.
            time: if signal == Signal::Traces {
                time.max(1)
            } else {
                time
            },
            size,
            arrival: 0,
            sequence: None,
        }
    }

    /// Maximum size of its payload and of its share of a row or block, in bytes.
    pub(crate) fn bytes_max(&self) -> u64 {
        let text = match self.size {
            Size::Tiny => 0,
            Size::Text(bytes) | Size::Noise(bytes) => bytes,
        };
        text as u64 + 250
    }
}

/// The records of a series by number.
pub(crate) type Records = BTreeMap<u64, Known>;

/// The records of a store.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) series: BTreeMap<SeriesKey, Records>,
    numbers: u64,
    arrivals: u64,
}

impl Model {
    /// The number of the next record.
    pub(crate) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// The number of records so far.
    pub(crate) fn numbers(&self) -> u64 {
        self.numbers
    }

    /// Stores a record.
    pub(crate) fn add(&mut self, key: SeriesKey, number: u64, mut known: Known) {
        self.arrivals += 1;
        known.arrival = self.arrivals;
        self.series.entry(key).or_default().insert(number, known);
    }

    pub(crate) fn wipe(&mut self, server: Option<usize>, signal: Option<Signal>) {
        for (key, records) in &mut self.series {
            if covers(server, signal, *key) {
                records.clear();
            }
        }
    }

    /// The kept records in the order of time and arrival: series, number and record.
    pub(crate) fn sorted(
        &self,
        signal: Signal,
        keep: impl Fn(SeriesKey, i64) -> bool,
    ) -> Vec<(SeriesKey, u64, &Known)> {
        let mut all: Vec<_> = (self.series.iter())
            .filter(|(key, _)| key.1 == signal)
            .flat_map(|(key, records)| records.iter().map(|(number, known)| (*key, *number, known)))
            .filter(|(key, _, known)| keep(*key, known.time))
            .collect();
        all.sort_by_key(|(_, _, known)| (known.time, known.arrival));
        all
    }

    /// Compares a result, oldest record first, with the records that should be in it.
    pub(crate) fn compare(
        &mut self,
        signal: Signal,
        found: Vec<StoredRecord>,
        keep: impl Fn(SeriesKey, i64) -> bool,
    ) {
        let mut by_series: BTreeMap<SeriesKey, Vec<StoredRecord>> = BTreeMap::new();
        for record in found {
            let key = (position(record.server.as_str()), signal);
            by_series.entry(key).or_default().push(record);
        }
        let keys: Vec<SeriesKey> = self.series.keys().copied().collect();
        for key in keys.into_iter().filter(|key| key.1 == signal) {
            let found = by_series.remove(&key).unwrap_or_default();
            let missing = self.reconcile(key, &found, |time| keep(key, time));
            assert!(missing.is_empty(), "{key:?}: {missing:?} are missing");
        }
        let keys = by_series.keys();
        assert!(by_series.is_empty(), "{keys:?} were never stored");
    }

    /// Compares the records read from a series with those that should be kept, and removes missing
    /// ones from the model.
    pub(crate) fn reconcile(
        &mut self,
        key: SeriesKey,
        found: &[StoredRecord],
        keep: impl Fn(i64) -> bool,
    ) -> Records {
        let records = self.series.entry(key).or_default();
        let mut seen = BTreeMap::new();
        for stored in found {
            let number = number_of(&stored.record);
            let known = records
                .get_mut(&number)
                .unwrap_or_else(|| panic!("{key:?}: {number} is stored and should not be"));
            assert!(keep(known.time), "{key:?}: {number} is out of range");
            assert_eq!(stored.timestamp.unix_nanos(), known.time);
            assert_eq!(stored.record, record(key.1, number, known), "{key:?}");
            let sequence = *known.sequence.get_or_insert(stored.sequence);
            assert_eq!(sequence, stored.sequence, "{key:?}: {number}");
            let twice = seen.insert(number, known.arrival);
            assert!(twice.is_none(), "{key:?}: {number} is stored twice");
        }
        for (first, second) in found.iter().zip(found.iter().skip(1)) {
            if first.timestamp == second.timestamp {
                let arrival = |it: &StoredRecord| seen[&number_of(&it.record)];
                assert!(
                    arrival(first) < arrival(second),
                    "{key:?}: equal times are out of order"
                );
            }
        }
        let (missing, kept) = std::mem::take(records)
            .into_iter()
            .partition(|(number, known)| keep(known.time) && !seen.contains_key(number));
        *records = kept;
        missing
    }

    /// Compares the counts and times of an inventory with the records that should be kept.
    pub(crate) fn compare_inventory(
        &self,
        inventory: &[InventoryRecord],
        keep: impl Fn(SeriesKey, i64) -> bool,
    ) {
        let found: BTreeMap<SeriesKey, _> = (inventory.iter())
            .map(|entry| {
                let range = (entry.oldest_time, entry.newest_time);
                let key = (position(entry.server.as_str()), entry.signal);
                (key, (entry.record_count, range))
            })
            .collect();
        assert_eq!(found.len(), inventory.len(), "{inventory:?}");
        let expected: BTreeMap<SeriesKey, _> = (self.series.iter())
            .filter_map(|(key, records)| {
                let times = || {
                    let all = records.values().map(|known| known.time);
                    all.filter(|time| keep(*key, *time))
                };
                let range = (times().min()?, times().max()?);
                let range = (
                    Timestamp::from_unix_nanos(range.0),
                    Timestamp::from_unix_nanos(range.1),
                );
                Some((*key, (times().count() as u64, range)))
            })
            .collect();
        assert_eq!(found, expected, "the inventory");
    }
}

/// Whether a wipe of this scope covers a series.
pub(crate) fn covers(server: Option<usize>, signal: Option<Signal>, key: SeriesKey) -> bool {
    server.is_none_or(|only| only == key.0) && signal.is_none_or(|only| only == key.1)
}

/// The index of a name in [`SERVERS`].
pub(crate) fn position(name: &str) -> usize {
    SERVERS.iter().position(|server| *server == name).unwrap()
}

pub(crate) fn direction(backward: bool) -> Direction {
    if backward {
        Direction::Backward
    } else {
        Direction::Forward
    }
}

/// The records of a query, oldest first. Panics when they are not in the order of the query.
pub(crate) fn all_of(snapshot: &Snapshot, query: Query, backward: bool) -> Vec<StoredRecord> {
    let scan = snapshot
        .scan(&query.direction(direction(backward)))
        .unwrap();
    in_order(scan.records().map(Result::unwrap).collect(), backward)
}

/// The records of a result, oldest first. Panics when they are not in the requested order.
pub(crate) fn in_order(mut records: Vec<StoredRecord>, backward: bool) -> Vec<StoredRecord> {
    if backward {
        records.reverse();
    }
    assert!(
        records.is_sorted_by(|a, b| (a.timestamp, a.sequence) < (b.timestamp, b.sequence)),
        "out of order"
    );
    records
}

/// The record of a number: everything about it follows from the number, its time and its size.
pub(crate) fn record(signal: Signal, number: u64, known: &Known) -> Record {
    let timestamp = Timestamp::from_unix_nanos(known.time);
    let text = match known.size {
        Size::Tiny => String::new(),
        Size::Text(bytes) => "tool call completed ".chars().cycle().take(bytes).collect(),
        Size::Noise(bytes) => {
            let mut random = Random::new(number);
            let mut text = String::with_capacity(bytes + 8);
            while text.len() < bytes {
                let bytes = random.next().to_le_bytes();
                text.extend(bytes.map(|byte| char::from(b' ' + byte % 64)));
            }
            text.truncate(bytes);
            text
        }
    };
    match signal {
        Signal::Logs => Record::Log(
            LogRecord::new(timestamp, Level::INFO, text).with("number", number.cast_signed()),
        ),
        Signal::Metrics => {
            let mut snapshot = MetricsSnapshot::new(timestamp);
            snapshot.total.input_tokens = number.cast_signed();
            snapshot.extra.push(("text".to_owned(), text.into()));
            Record::Metrics(snapshot)
        }
        Signal::Traces => Record::Span(Box::new(SpanRecord::new(Span {
            name: text,
            end_time_unix_nano: known.time.cast_unsigned(),
            dropped_events_count: u32::try_from(number).unwrap(),
            ..Span::default()
        }))),
    }
}

/// The number of a record.
pub(crate) fn number_of(record: &Record) -> u64 {
    match record {
        Record::Log(record) => match record.attribute("number") {
            Some(Value::Int(number)) => number.cast_unsigned(),
            _ => panic!("a record that was never written: {record:?}"),
        },
        Record::Metrics(record) => record.total.input_tokens.cast_unsigned(),
        Record::Span(record) => record.span.dropped_events_count.into(),
        other => panic!("{other:?}"),
    }
}
