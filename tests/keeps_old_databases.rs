//! Databases of every schema version: each is opened and migrated, and all of its records are read.
//!
//! `migrations/fixtures/` holds one of each version. The fixture of the current version is written by
//!
//! ```text
//! GRIDCTL_TELEMETRY_WRITE_FIXTURE=migrations/fixtures cargo test --test keeps_old_databases
//! ```
//!
//! before the version is released, and never again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{STACK, database, home, open, server};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use gridctl_telemetry::{
    Level, LogRecord, MetricsSnapshot, Query, Record, Signal, SpanRecord, Store, StoreOptions,
    Timestamp, Value, Writer, WriterOptions,
    ledger::LossCause,
    maintenance::{CompactOptions, VerifyOptions, WipeScope, wipe},
    metrics::MetricsFlusher,
    query::SeedRange,
    record::{CostCounts, TokenCounts},
};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value},
    resource::v1::Resource,
    trace::v1::{Span, Status, span},
};
use redb::{ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// The records of a fixture, in the order in which they were offered. Never changed, because the
/// fixtures were made from them.
fn records() -> Vec<(&'static str, Record)> {
    let mut records = Vec::new();
    // Alike, as most logs are: sealed into blocks of columns.
    for number in 0..150 {
        records.push(("github", Record::Log(plain_log(number))));
    }
    // No two alike: sealed into a block of payloads.
    for number in 0..600 {
        records.push(("odd", Record::Log(odd_log(number))));
    }
    for number in 0..90 {
        records.push(("github", Record::Metrics(snapshot(number))));
        records.push(("slack", Record::Span(Box::new(span_record(number)))));
    }
    // Late records, whose block overlaps others, and a tie.
    for number in 0..60 {
        records.push(("github", Record::Log(plain_log(number * 2))));
    }
    // The last records stay rows.
    for number in 1000..1005 {
        records.push(("github", Record::Log(plain_log(number))));
        records.push(("odd", Record::Log(odd_log(number))));
        records.push(("github", Record::Metrics(snapshot(number))));
        records.push(("slack", Record::Span(Box::new(span_record(number)))));
    }
    for (number, timestamp) in [(2000, Timestamp::MIN), (2001, Timestamp::MAX)] {
        let log = {
            let mut log = odd_log(number);
            log.timestamp = timestamp;
            log
        };
        records.push(("日本/../x", Record::Log(log)));
    }
    records
}

fn time(number: i64) -> Timestamp {
    Timestamp::from_unix_nanos(1_778_297_943_000_000_000 + number * 1_234_567)
}

fn plain_log(number: i64) -> LogRecord {
    LogRecord::new(time(number), Level::INFO, "tool call completed")
        .with("tool", ["search", "fetch", "list"][index(number, 3)])
        .with("duration_ms", number * 7 % 1000)
        .with("component", "github")
        .with("trace_id", format!("{:032x}", number * number * 7919))
}

fn odd_log(number: i64) -> LogRecord {
    // Errors come last: they are committed at once, and would end the batches anywhere.
    let level = if number < 1000 {
        Level([-8, -4, 0, 4, 7, -1, i32::MIN][index(number, 7)])
    } else {
        Level([8, 12, i32::MAX][index(number, 3)])
    };
    let mut log = LogRecord::new(time(number), level, format!("\"{number}\"\n\u{1f980}"))
        .with(format!("key {number}"), number)
        .with("same", "first")
        .with("same", Value::Null)
        .with(
            "extremes",
            Value::Array(vec![Value::Int(i64::MIN), Value::UInt(u64::MAX)]),
        )
        .with("float", -0.5)
        .with("zero", -0.0)
        .with("huge", Value::Number("1e999".into()))
        .with("true", true)
        .with(
            "group",
            Value::Object(vec![
                ("inner".to_owned(), Value::Object(Vec::new())),
                (format!("deep {}", number % 7), Value::Array(Vec::new())),
            ]),
        );
    log.utc_offset = time::UtcOffset::from_whole_seconds(-14_400).unwrap();
    log
}

fn snapshot(number: i64) -> MetricsSnapshot {
    let tokens = |factor: i64| TokenCounts {
        input_tokens: factor * 3,
        output_tokens: factor * 5,
        total_tokens: factor * 8,
    };
    let costs = |factor: i64| CostCounts {
        input_micro_usd: factor,
        output_micro_usd: 0,
        cache_read_micro_usd: -factor,
        cache_write_micro_usd: i64::MAX,
    };
    let mut snapshot = MetricsSnapshot::new(time(number));
    snapshot.reset = number % 10 == 0;
    snapshot.cost_reset = number % 15 == 0;
    snapshot.diff = tokens(1);
    snapshot.total = tokens(number);
    if number % 3 == 0 {
        snapshot.cost_diff = Some(costs(1));
        snapshot.cost_total = Some(costs(number));
    }
    if number % 4 == 0 {
        let usage = Value::Object(vec![("calls".to_owned(), Value::Int(number))]);
        let usage = Value::Object(vec![("search".to_owned(), usage)]);
        snapshot.extra.push(("tool_usage".to_owned(), usage));
    }
    snapshot
}

fn span_record(number: i64) -> SpanRecord {
    let unsigned = number.cast_unsigned();
    let id = |factor: u64, length: usize| {
        let id = unsigned.wrapping_mul(factor).to_le_bytes();
        id.iter().copied().cycle().take(length).collect::<Vec<u8>>()
    };
    let list = vec![
        any(any_value::Value::IntValue(i64::MIN)),
        any(any_value::Value::DoubleValue(f64::INFINITY)),
        any(any_value::Value::BytesValue(vec![0, 255])),
        AnyValue { value: None },
    ];
    let list = any_value::Value::ArrayValue(ArrayValue { values: list });
    let empty = any_value::Value::KvlistValue(KeyValueList { values: Vec::new() });
    let attributes = vec![
        entry(
            "server.name",
            any_value::Value::StringValue("slack".to_owned()),
        ),
        entry("number", any_value::Value::IntValue(number)),
        entry("list", list),
        entry("empty", empty),
    ];
    let start = time(number).unix_nanos().cast_unsigned();
    let failed = number >= 1000 && number % 2 == 0;
    SpanRecord::new(Span {
        trace_id: id(0x9e37_79b9_7f4a_7c15, 16),
        span_id: id(0x94d0_49bb_1331_11eb, 8),
        parent_span_id: if number % 4 == 0 {
            Vec::new()
        } else {
            id(3, 8)
        },
        trace_state: "a=b".to_owned(),
        flags: 0x101,
        name: format!("tools/call {}", number % 3),
        kind: span::SpanKind::Client.into(),
        start_time_unix_nano: start - 1_000_000,
        end_time_unix_nano: start,
        events: vec![span::Event {
            time_unix_nano: start - 5,
            name: "exception".to_owned(),
            attributes: attributes.clone(),
            dropped_attributes_count: 1,
        }],
        links: vec![span::Link {
            trace_id: id(5, 16),
            span_id: id(7, 8),
            attributes: attributes[..1].to_vec(),
            ..span::Link::default()
        }],
        attributes: attributes.clone(),
        dropped_attributes_count: u32::MAX,
        dropped_events_count: 3,
        dropped_links_count: 4,
        status: failed.then(|| Status {
            code: 2,
            message: "timeout".to_owned(),
        }),
    })
    .resource(
        (number % 5 != 0).then(|| Resource {
            attributes: attributes[..1].to_vec(),
            dropped_attributes_count: 2,
            ..Resource::default()
        }),
        "https://opentelemetry.io/schemas/1.30.0".to_owned(),
    )
    .scope(
        (number % 7 != 0).then(|| InstrumentationScope {
            name: "gateway".to_owned(),
            version: "1.2.3".to_owned(),
            attributes: attributes[1..2].to_vec(),
            dropped_attributes_count: 0,
        }),
        String::new(),
    )
}

fn any(value: any_value::Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

fn entry(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(any(value)),
        ..KeyValue::default()
    }
}

fn index(number: i64, length: i64) -> usize {
    usize::try_from(number % length).unwrap()
}

/// Makes a store of these records that contains everything that a store can contain.
fn make(home: &Path) {
    let options = || {
        let never = Duration::from_secs(3600);
        WriterOptions::default()
            .commit_interval_min(never)
            .commit_interval_max(never)
            .record_bytes_max(100_000)
    };
    let store = open(home);
    let records = records();
    let (settled, late, fresh) = (930, 990, records.len());
    let mut from = 0;
    for (until, options) in [
        // Direct blocks; blocks of few records, sealed from rows; rows.
        (settled, options().tiering(4096, 50, 4096)),
        (late, options().tiering(30, 4096, 16)),
        (fresh, options().tiering(4096, 4096, 4096)),
    ] {
        let (writer, guard) = Writer::start(&store, options).unwrap();
        for (name, record) in &records[from..until] {
            writer.record(&server(name), record).unwrap();
        }
        // A wipe leaves a mark, and a record that is too large leaves an entry in the ledger.
        writer.log(&server("wiped"), &plain_log(0)).unwrap();
        writer.flush().unwrap();
        writer.wipe(&scope_of("wiped")).unwrap();
        let too_large = plain_log(0).with("filler", "x".repeat(100_000));
        writer.log(&server("github"), &too_large).unwrap_err();
        guard.close().unwrap();
        from = until;
    }
    drop(store);

    // As if the machine had restarted since the wipe, and with it the clock in the mark.
    let database = redb::Database::open(database(home)).unwrap();
    let transaction = database.begin_write().unwrap();
    let mut wipes = transaction.open_table(WIPES).unwrap();
    // A mark, and its checksum.
    let mark = wipes
        .get(("wiped", u8::MAX))
        .unwrap()
        .unwrap()
        .value()
        .to_vec();
    let (generation, _): (u64, u64) = rmp_serde::from_slice(&mark[..mark.len() - 4]).unwrap();
    let mut mark = rmp_serde::to_vec(&(generation, u64::MAX)).unwrap();
    let key = <(&str, u8) as redb::Value>::as_bytes(&("wiped", u8::MAX));
    let checksum = xxh3_64_with_seed(&key, xxh3_64(&mark));
    mark.extend_from_slice(&checksum.to_le_bytes()[..4]);
    wipes.insert(("wiped", u8::MAX), mark.as_slice()).unwrap();
    drop(wipes);
    transaction.commit().unwrap();
}

const WIPES: TableDefinition<'_, (&str, u8), &[u8]> = TableDefinition::new("wipes");

fn scope_of(name: &str) -> WipeScope {
    WipeScope::everything().server(server(name))
}

/// Writes the fixture of the current version when the variable is set.
#[test]
fn writes_a_fixture() {
    let Some(folder) = std::env::var_os("GRIDCTL_TELEMETRY_WRITE_FIXTURE") else {
        return;
    };
    let home = home();
    make(home.path());
    let path = Path::new(&folder).join(format!("v{}.redb.gz", version(home.path())));
    let mut file = GzEncoder::new(File::create(&path).unwrap(), Compression::best());
    file.write_all(&fs::read(database(home.path())).unwrap())
        .unwrap();
    file.finish().unwrap().sync_all().unwrap();
    let bytes = fs::metadata(&path).unwrap().len();
    assert!(bytes < 200_000, "{} has {bytes} bytes", path.display());
}

fn version(home: &Path) -> u64 {
    let database = redb::Database::open(database(home)).unwrap();
    let meta = TableDefinition::<&str, u64>::new("meta");
    let meta = database.begin_read().unwrap().open_table(meta).unwrap();
    meta.get("schema_version").unwrap().unwrap().value()
}

/// The number of summaries.
fn summaries(home: &Path) -> u64 {
    let database = redb::Database::open(database(home)).unwrap();
    let summaries = TableDefinition::<&[u8; 21], &[u8]>::new("summaries");
    let transaction = database.begin_read().unwrap();
    transaction.open_table(summaries).unwrap().len().unwrap()
}

/// Checks that the fixture of version 1 has both codecs, rows and a wipe mark.
fn assert_complete(home: &Path) {
    let database = redb::Database::open(database(home)).unwrap();
    let transaction = database.begin_read().unwrap();
    let blocks = transaction
        .open_table(TableDefinition::<&[u8; 21], &[u8; 54]>::new("blocks"))
        .unwrap();
    let mut codecs = BTreeMap::<u8, usize>::new();
    for block in blocks.iter().unwrap() {
        *codecs.entry(block.unwrap().1.value()[1]).or_default() += 1;
    }
    assert_eq!(
        codecs.keys().copied().collect::<Vec<u8>>(),
        [1, 2],
        "both codecs"
    );
    let rows = TableDefinition::<&[u8; 20], &[u8]>::new("rows");
    assert_eq!(transaction.open_table(rows).unwrap().len().unwrap(), 22);
    assert_eq!(transaction.open_table(WIPES).unwrap().len().unwrap(), 1);
}

fn check(store: &Store) {
    for signal in [Signal::Logs, Signal::Metrics, Signal::Traces] {
        let mut expected: Vec<(&str, Record)> = records();
        expected.retain(|(_, record)| record.signal() == signal);
        // A stable sort: records of one time stay in the order of their arrival.
        expected.sort_by_key(|(_, record)| record.timestamp());
        let mut of_server = BTreeMap::<&str, Vec<Record>>::new();
        for (name, record) in expected {
            of_server.entry(name).or_default().push(record);
        }
        for (name, expected) in of_server {
            let query = Query::new(signal).server(server(name));
            let found: Vec<Record> = store
                .scan(&query)
                .unwrap()
                .map(|found| found.unwrap().record)
                .collect();
            assert_eq!(found.len(), expected.len(), "{signal} of {name}");
            for (found, expected) in found.into_iter().zip(expected) {
                assert_eq!(found, expected);
            }
        }
    }
    let snapshot = store.snapshot().unwrap();
    let inventory = snapshot.inventory(None).unwrap();
    let counts: Vec<(&str, Signal, u64)> = inventory
        .iter()
        .map(|entry| (entry.server.as_str(), entry.signal, entry.record_count))
        .collect();
    let expected = [
        ("github", Signal::Logs, 215),
        ("github", Signal::Metrics, 95),
        ("odd", Signal::Logs, 605),
        ("slack", Signal::Traces, 95),
        ("日本/../x", Signal::Logs, 2),
    ];
    assert_eq!(counts, expected);
    let losses = snapshot.ledger(..).unwrap();
    assert!(losses.iter().all(|loss| loss.cause == LossCause::TooLarge));
    assert_eq!(losses.iter().map(|loss| loss.count).sum::<u64>(), 3);
    let mut findings = Vec::new();
    let options = VerifyOptions::default();
    (store.verify(&options, |finding| findings.push(finding))).unwrap();
    assert_eq!(findings, []);
}

/// A home with the fixture of a version.
fn fixture(version: u64) -> tempfile::TempDir {
    let name = format!("v{version}.redb.gz");
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("migrations/fixtures")
        .join(name);
    let packed = File::open(&path).unwrap_or_else(|error| {
        panic!(
            "{}: {error}; the top of this file says how to write it",
            path.display()
        )
    });
    let home = home();
    fs::create_dir_all(database(home.path()).parent().unwrap()).unwrap();
    let mut file = File::create(database(home.path())).unwrap();
    std::io::copy(&mut GzDecoder::new(packed), &mut file).unwrap();
    home
}

#[test]
fn databases_of_every_version_are_read_completely() {
    let newest = home();
    drop(open(newest.path()));
    let newest = version(newest.path());
    for found in 1..=newest {
        assert_complete(fixture(1).path());
        let home = fixture(found);
        assert_eq!(version(home.path()), found);
        let steps = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&steps);
        let options = StoreOptions::default()
            .on_migration(move |step| seen.lock().unwrap().push((step.version, step.target)));
        let store = Store::open_read_only(home.path(), STACK, options)
            .unwrap()
            .unwrap();
        check(&store);
        let expected: Vec<(u64, u64)> = (found + 1..=newest).map(|step| (step, newest)).collect();
        assert_eq!(*steps.lock().unwrap(), expected, "the migrations");
        drop(store);

        // The totals are those of the snapshots that arrived last, blocks and rows together.
        let store = open(home.path());
        let (writer, guard) = Writer::start(&store, WriterOptions::default()).unwrap();
        let flusher = MetricsFlusher::new(Arc::default(), writer, Duration::ZERO);
        let report = flusher.seed(&store, SeedRange::Newest(10)).unwrap();
        let seeded = &report.servers[&server("github")];
        assert_eq!(report.servers.len(), 1);
        assert_eq!(seeded.tokens, snapshot(1004).total);
        assert_eq!(seeded.cost, snapshot(1002).cost_total);
        assert_eq!(seeded.last_snapshot, time(1004));
        assert_eq!(seeded.counting_since, time(1000), "the last reset");
        guard.close().unwrap();
        drop((flusher, store));

        // Compacting adds the summaries that blocks of earlier versions lack.
        let store = open(home.path());
        store.compact(CompactOptions::default()).unwrap();
        store.snapshot().unwrap().check().unwrap();
        check(&store);
        drop(store);
        assert_eq!(summaries(home.path()), summaries(fixture(newest).path()));

        // The store goes on: new records are sealed together with those of the fixture.
        let store = open(home.path());
        let options = WriterOptions::default().tiering(1, 4096, 4096);
        let (writer, guard) = Writer::start(&store, options).unwrap();
        // Makes the writer look at all marks.
        writer.wipe(&scope_of("none")).unwrap();
        for name in ["github", "wiped"] {
            writer.log(&server(name), &plain_log(1)).unwrap();
        }
        guard.close().unwrap();
        assert_eq!(
            writer.stats().stored,
            2,
            "an old wipe does not cover new records"
        );
        let query = Query::new(Signal::Logs).server(server("github"));
        assert_eq!(store.scan(&query).unwrap().count(), 216);
        wipe(home.path(), STACK, &WipeScope::everything()).unwrap();
        assert_eq!(store.scan(&query).unwrap().count(), 0);
        drop((store, writer));
        assert_eq!(version(home.path()), newest);
    }
}

#[test]
fn the_present_version_reads_what_a_fixture_would_hold() {
    let home = home();
    make(home.path());
    check(&open(home.path()));
}
