//! Random queries, compared with a plain filter over a list of decoded records.
//!
//! `GRIDCTL_TELEMETRY_RUNS` is the number of runs.

use super::{CallQuery, CountBy, Query, RawRecord, StoredRecord, TraceQuery};
use crate::{
    error::Error,
    filter::{
        Condition, Filter, IdKind,
        arbitrary::{Draw, Said},
    },
    ingest::{Writer, WriterOptions},
    lines::LineFormat,
    otlp::{arbitrary, attributes::value_of},
    record::{Level, LogRecord, MetricsSnapshot, Record, ServerName, SpanRecord, Value},
    signal::Signal,
    store::{Direction, ReadRecord, Snapshot, Store, StoreOptions, layout::tables::SUMMARIES},
    time::Timestamp,
};
use opentelemetry_proto::tonic::{common::v1::KeyValue, trace::v1::Span};
use proptest::prelude::*;
use redb::ReadableTable;
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// What has become of the summaries of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Summaries {
    Present,
    Damaged,
    Missing,
}

fn runs() -> u32 {
    let runs = std::env::var("GRIDCTL_TELEMETRY_RUNS");
    runs.map_or(12, |runs| runs.parse().unwrap())
}

fn any_record() -> impl Strategy<Value = Record> {
    let time = || (0..20i64).prop_map(Timestamp::from_unix_nanos);
    let log = (
        time(),
        prop_oneof![-8..13i32, any::<i32>()],
        "[a-cKs\u{17f}\u{212a} ]{0,9}|.{0,20}|request [0-9]{5} forwarded|er\u{1b}\\[31mror",
        crate::record::arbitrary::any_entries(),
        prop::option::of("[0-9a-f]{32}|[0-9A-F]{32}|.{0,5}"),
    )
        .prop_map(|(time, level, message, attributes, trace_id)| {
            let mut log = LogRecord::new(time, Level(level), message);
            log.attributes = attributes;
            let id = trace_id.map(|id| ("trace_id".to_owned(), id.into()));
            log.attributes.extend(id);
            Record::Log(log)
        });
    let metrics = (time(), crate::record::arbitrary::any_entries(), 0..3i64).prop_map(
        |(time, extra, tokens)| {
            let mut snapshot = MetricsSnapshot::new(time);
            snapshot.extra = extra;
            snapshot.diff.input_tokens = tokens;
            Record::Metrics(snapshot)
        },
    );
    let span =
        (arbitrary::span(), 0..20u64, any::<bool>()).prop_map(|(mut span, end, is_failed)| {
            span.end_time_unix_nano = end;
            span.start_time_unix_nano %= 20;
            if is_failed {
                span.status.get_or_insert_default().code = 2;
            }
            Record::Span(Box::new(SpanRecord::new(span)))
        });
    prop_oneof![3 => log, 1 => metrics, 3 => span]
}

fn server(number: usize) -> ServerName {
    ServerName::new(["github", "slack"][number]).unwrap()
}

/// Stores records, of which some stay rows and the others become blocks of a few.
fn stored(home: &Path, records: &[(usize, Record)], flush_every: usize) -> Store {
    let store = Store::open(home, "stack", StoreOptions::default()).unwrap();
    let never = Duration::from_secs(3600);
    let options = WriterOptions::default()
        .commit_interval_min(never)
        .commit_interval_max(never)
        .tiering(12, 6, 9);
    let (writer, guard) = Writer::start(&store, options).unwrap();
    for (number, (name, record)) in records.iter().enumerate() {
        // A record can be nested too deep.
        let _ = writer.record(&server(*name), record);
        if number % flush_every == flush_every - 1 {
            writer.flush().unwrap();
        }
    }
    guard.close().unwrap();
    store
}

fn spoil(store: &Store, summaries: Summaries, at: usize) {
    let change = |transaction: &crate::store::engine::transaction::WriteTransaction| {
        let mut table = transaction.open_table(SUMMARIES)?;
        let all: Vec<_> = table
            .iter()?
            .map(|entry| entry.map(|(key, value)| (*key.value(), value.value().to_vec())))
            .collect::<Result<_, _>>()?;
        for (key, mut summary) in all {
            match summaries {
                Summaries::Present => {}
                Summaries::Damaged => {
                    let at = at % summary.len();
                    summary[at] ^= 1 << (at % 8);
                    table.insert(&key, summary.as_slice())?;
                }
                Summaries::Missing => _ = table.remove(&key)?,
            }
        }
        Ok(())
    };
    store.writer().unwrap().transact("spoil", change).unwrap();
}

/// Whether a decoded record matches, by a plain walk through all of it.
fn matches(filter: &Filter, record: &Record) -> bool {
    match filter.condition() {
        Condition::All(filters) => filters.iter().all(|it| matches(it, record)),
        Condition::Any(filters) => filters.iter().any(|it| matches(it, record)),
        Condition::Not(filter) => !matches(filter, record),
        Condition::Level { min, max } => {
            let level = match record {
                Record::Log(log) => log.level,
                Record::Metrics(_) => return false,
                Record::Span(it) if it.span.status.as_ref().is_some_and(|it| it.code == 2) => {
                    Level::ERROR
                }
                Record::Span(_) => Level::INFO,
            };
            *min <= level && level <= *max
        }
        Condition::Id(wanted) => match record {
            Record::Log(log) => {
                let key = match wanted.kind {
                    IdKind::Trace => "trace_id",
                    IdKind::Span => "span_id",
                    IdKind::Parent => return false,
                };
                let ids = log
                    .attributes
                    .iter()
                    .rev()
                    .filter(|(found, _)| found == key);
                let mut ids = ids.filter_map(|(_, value)| match value {
                    Value::String(id) => Some(id),
                    _ => None,
                });
                ids.next().is_some_and(|id| wanted.is_in(id))
            }
            Record::Metrics(_) => false,
            Record::Span(it) => {
                let id = match wanted.kind {
                    IdKind::Trace => &it.span.trace_id,
                    IdKind::Span => &it.span.span_id,
                    IdKind::Parent => &it.span.parent_span_id,
                };
                let hex: String = id
                    .iter()
                    .flat_map(|byte| {
                        [byte >> 4, byte & 15].map(|it| char::from_digit(it.into(), 16).unwrap())
                    })
                    .collect();
                !id.is_empty() && wanted.is_in(&hex)
            }
        },
        Condition::Text(pattern) => {
            let mut texts: Vec<String> = match record {
                Record::Log(log) => vec![log.message.clone()],
                Record::Metrics(_) => Vec::new(),
                Record::Span(it) => {
                    let events = it.span.events.iter().map(|it| it.name.clone());
                    let status = it.span.status.iter().map(|it| it.message.clone());
                    let name = [it.span.name.clone()];
                    name.into_iter()
                        .chain(status.filter(|it| !it.is_empty()))
                        .chain(events.filter(|it| !it.is_empty()))
                        .collect()
                }
            };
            let entries = match record {
                Record::Metrics(snapshot) => snapshot.extra.clone(),
                _ => entries(record),
            };
            for (_, value) in nodes(&entries) {
                if let Value::String(text) = value {
                    texts.push(text.clone());
                }
            }
            texts.iter().any(|text| pattern.is_match(text))
        }
        Condition::Field(field) => nodes(&entries(record))
            .iter()
            .any(|(path, value)| *path == field.path && field.test.accepts(value)),
        Condition::Name(pattern) => span(record).is_some_and(|it| pattern.is_match(&it.name)),
        Condition::Kind(kind) => span(record).is_some_and(|it| it.kind == *kind),
        Condition::Status(status) => {
            span(record).is_some_and(|it| it.status.as_ref().map_or(0, |it| it.code) == *status)
        }
        Condition::Duration { min, max } => span(record).is_some_and(|it| {
            let (start, end) = (it.start_time_unix_nano, it.end_time_unix_nano);
            let nanos = end.saturating_sub(start);
            start != 0 && end != 0 && *min <= nanos && nanos <= *max
        }),
    }
}

fn span(record: &Record) -> Option<&opentelemetry_proto::tonic::trace::v1::Span> {
    match record {
        Record::Span(record) => Some(&record.span),
        _ => None,
    }
}

/// The entries of a record.
fn entries(record: &Record) -> Vec<(String, Value)> {
    match record {
        Record::Log(log) => log.attributes.clone(),
        Record::Metrics(it) => {
            let tokens = |it: crate::record::TokenCounts| {
                let counts = [it.input_tokens, it.output_tokens, it.total_tokens];
                let keys = ["input_tokens", "output_tokens", "total_tokens"];
                let counts = counts.map(Value::Int);
                Value::Object(keys.map(str::to_owned).into_iter().zip(counts).collect())
            };
            let mut entries = vec![
                ("reset".to_owned(), Value::Bool(it.reset)),
                ("cost_reset".to_owned(), Value::Bool(it.cost_reset)),
                ("diff".to_owned(), tokens(it.diff)),
                ("total".to_owned(), tokens(it.total)),
            ];
            assert!(it.cost_diff.is_none() && it.cost_total.is_none());
            entries.extend(it.extra.clone());
            entries
        }
        Record::Span(it) => {
            let resource = it.resource.iter().flat_map(|it| &it.attributes);
            let scope = it.scope.iter().flat_map(|it| &it.attributes);
            let events = it.span.events.iter().flat_map(|it| &it.attributes);
            let entry = |it: &KeyValue| {
                let value = it.value.clone().map_or(Value::Null, value_of);
                (it.key.clone(), value)
            };
            let all = resource
                .chain(scope)
                .chain(events)
                .chain(&it.span.attributes);
            all.map(entry).collect()
        }
    }
}

/// All values with their paths. The items of an array have the path of the array, which is a value
/// itself only if it is empty.
fn nodes(entries: &[(String, Value)]) -> Vec<(String, &Value)> {
    fn add<'v>(path: &str, value: &'v Value, nodes: &mut Vec<(String, &'v Value)>) {
        match value {
            Value::Array(items) if !items.is_empty() => {
                for item in items {
                    add(path, item, nodes);
                }
            }
            Value::Object(entries) => {
                nodes.push((path.to_owned(), value));
                for (key, value) in entries {
                    add(&format!("{path}.{key}"), value, nodes);
                }
            }
            _ => nodes.push((path.to_owned(), value)),
        }
    }
    let mut nodes = Vec::new();
    for (key, value) in entries {
        add(key, value, &mut nodes);
    }
    nodes
}

fn scan(store: &Store, query: &Query) -> Vec<StoredRecord> {
    let mut scan = store.snapshot().unwrap().scan(query).unwrap();
    let mut found = Vec::new();
    while let Some(record) = scan.next().unwrap() {
        let payload = record.payload();
        let encoded = RawRecord {
            content: ReadRecord::Payload(&payload),
            ..record
        };
        // As text, for a NaN does not equal itself.
        assert_eq!(said_by(&record), said_by(&encoded));
        found.push(record.to_stored().unwrap());
    }
    found
}

/// Everything that a record says of itself.
fn said_by(record: &RawRecord<'_>) -> String {
    let keys = ["tool", "n", "a", "trace_id", "a.b", "service.name"];
    let mut said = format!(
        "{:?}",
        (
            keys.map(|key| record.attribute(key)),
            (record.payload_bytes(), record.level(), record.message()),
            (record.trace_id(), record.span_id(), record.parent_span_id()),
            (record.name(), record.kind(), record.status()),
            (record.start(), record.duration()),
            record.log().unwrap(),
            record.decode().unwrap(),
        )
    );
    for format in [LineFormat::Ndjson, LineFormat::Otlp] {
        let mut line = Vec::new();
        record.json(format).write(&mut line).unwrap();
        said += &String::from_utf8(line).unwrap();
    }
    said
}

/// The records that a query gives in pages of some records.
fn pages(store: &Store, query: &Query, page: usize) -> Vec<StoredRecord> {
    let mut found: Vec<StoredRecord> = Vec::new();
    loop {
        let query = match found.last() {
            Some(last) => query.clone().after(last.cursor()),
            None => query.clone(),
        };
        let before = found.len();
        found.extend(store.scan(&query).unwrap().take(page).map(Result::unwrap));
        if found.len() == before {
            return found;
        }
    }
}

/// Records by their place; their contents may hold NaN, which equals nothing.
fn positions(records: &[StoredRecord]) -> Vec<(ServerName, Timestamp, u64)> {
    let position = |it: &StoredRecord| (it.server.clone(), it.timestamp, it.sequence);
    records.iter().map(position).collect()
}

/// Empty keys make paths that no expression names.
fn is_named(filter: &Filter) -> bool {
    match filter.condition() {
        Condition::All(filters) | Condition::Any(filters) => filters.iter().all(is_named),
        Condition::Not(filter) => is_named(filter),
        Condition::Field(field) => field.path.split('.').all(|key| !key.is_empty()),
        _ => true,
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(runs())
    })]

    #[test]
    fn a_query_finds_what_a_filter_over_a_list_does(
        records in prop::collection::vec((0..2usize, any_record()), 1..60),
        flush_every in 4..40usize,
        seed: u64,
    ) {
        let memory = Path::new("/dev/shm");
        let home = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let home = home.unwrap();
        let store = stored(home.path(), &records, flush_every);
        let mut draw = Draw(seed);
        for summaries in [Summaries::Present, Summaries::Damaged, Summaries::Missing] {
            spoil(&store, summaries, draw.below(1000));
            for signal in Signal::ALL {
                let query = Query::new(signal);
                let query = if draw.below(2) == 0 { query.server(server(0)) } else { query };
                let all = scan(&store, &query);
                let values: Vec<Record> = all.iter().map(|it| it.record.clone()).collect();
                let filter = Said::by(&values).filter(&mut draw, 2);
                if !is_named(&filter) {
                    continue;
                }
                let mut expected: Vec<StoredRecord> = Vec::new();
                for found in all {
                    let mut payload = Vec::new();
                    found.record.encode_payload(&mut payload).unwrap();
                    let is_match = matches(&filter, &found.record);
                    prop_assert_eq!(
                        filter.matches(signal, &payload), is_match, "{:?} {:?}", filter, found.record
                    );
                    if is_match {
                        expected.push(found);
                    }
                }
                let query = query.filter(filter.clone());
                let page = 1 + draw.below(5);
                let mut expected = positions(&expected);
                let found = positions(&scan(&store, &query));
                prop_assert_eq!(&found, &expected, "{:?} {:?}", summaries, filter);
                prop_assert_eq!(&positions(&pages(&store, &query, page)), &expected);
                prop_assert_eq!(
                    &positions(&store.last(&query, page).unwrap()),
                    &expected[expected.len().saturating_sub(page)..]
                );
                let tight = query.clone().memory_bytes(0);
                prop_assert_eq!(&positions(&scan(&store, &tight)), &expected);
                let since = expected.get(expected.len() / 2).map_or(0, |(.., sequence)| *sequence);
                let fresh = query.clone().since_sequence(since);
                let of_fresh: Vec<_> =
                    expected.iter().filter(|(.., it)| *it >= since).cloned().collect();
                prop_assert_eq!(positions(&scan(&store, &fresh)), of_fresh);
                expected.reverse();
                let backward = query.direction(Direction::Backward);
                prop_assert_eq!(&positions(&scan(&store, &backward)), &expected);
                prop_assert_eq!(&positions(&pages(&store, &backward, page)), &expected);
            }
        }
    }
}

/// What reads many records of a snapshot.
type Read = fn(&Snapshot) -> crate::Result<()>;

#[test]
fn reading_ends_wherever_it_is_asked_to() {
    let records = (0..40_u8).flat_map(|number| {
        let at = Timestamp::from_unix_nanos(i64::from(number));
        let log = LogRecord::new(at, Level::INFO, "a record");
        let span = Span {
            trace_id: vec![number; 16],
            span_id: vec![number; 8],
            end_time_unix_nano: u64::from(number),
            ..Span::default()
        };
        let span = Record::Span(Box::new(SpanRecord::new(span)));
        [(0, Record::Log(log)), (1, span)]
    });
    let records: Vec<(usize, Record)> = records.collect();
    let home = tempfile::tempdir().unwrap();
    let store = stored(home.path(), &records, 8);
    let reads: [(&str, Read); 6] = [
        ("scan", |snapshot| {
            let mut scan = snapshot.scan(&Query::new(Signal::Logs).skip_damaged())?;
            while scan.next()?.is_some() {}
            Ok(())
        }),
        ("count", |snapshot| {
            let by = [CountBy::Level];
            snapshot.count(&Query::new(Signal::Logs), &by).map(drop)
        }),
        ("count of names", |snapshot| {
            let by = [CountBy::Name];
            snapshot.count(&Query::new(Signal::Traces), &by).map(drop)
        }),
        ("traces", |snapshot| {
            let query = TraceQuery::new(Query::new(Signal::Traces).skip_damaged());
            snapshot.traces(&query, 100).map(drop)
        }),
        ("tools", |snapshot| {
            let query = CallQuery::new(Query::new(Signal::Traces).skip_damaged());
            snapshot.tools(&query).map(drop)
        }),
        ("trace", |snapshot| {
            snapshot.trace("07070707070707070707070707070707").map(drop)
        }),
    ];
    for (name, read) in reads {
        let run = |last: usize| {
            let looked = Arc::new(AtomicUsize::new(0));
            let looks = Arc::clone(&looked);
            let wanted = move || looks.fetch_add(1, Ordering::Relaxed) >= last;
            let snapshot = store.snapshot().unwrap().cancel_when(wanted);
            (read(&snapshot), looked.load(Ordering::Relaxed))
        };
        let (whole, looks) = run(usize::MAX);
        whole.unwrap();
        // Once for the rows, and for each block.
        assert!(looks > 3, "{name}: {looks}");
        for last in 0..looks {
            let (ended, looked) = run(last);
            assert!(
                matches!(ended, Err(Error::Cancelled { .. })),
                "{name} {last}"
            );
            assert_eq!(looked, last + 1, "{name}");
        }
    }
}
