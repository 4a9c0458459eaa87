//! The time that our own JSON reader and writer save on log lines, compared with `serde_json`.
//!
//! ```text
//! cargo bench -p gridctl-telemetry-benches --bench json [-- --quick | --records N --rounds N]
//! ```
//!
//! All contenders take turns in one process, on the same lines. Reading makes a record from a line.
//! `serde_json` does that in its usual way, through a tree of `Value`s, and in its fastest way, with a
//! visitor that makes the record's fields while it parses. Writing makes a line from a stored record.
//! Our writer uses the record's encoding, and `serde_json` a decoded record, with and without the time
//! of decoding.

use anyhow::{Context, Result, ensure};
use gridctl_telemetry::{
    Level, LogRecord, Query, ServerName, Signal, Store, StoreOptions, Timestamp, Value, Writer,
    WriterOptions,
    ingest::WhenFull,
    lines::{LineFormat, LineWriter, ParsedLine, parse_line},
    query::RawRecord,
};
use gridctl_telemetry_benches::{
    Arguments, GatewayLogs, GatewayRecord, Table, bench_folder, median, per_second, ratio, time,
};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor},
    ser::SerializeMap,
};
use std::{borrow::Cow, fmt, hint::black_box, time::Duration};

const SEED: u64 = 2026;
/// Where the benchmark writes.
const FOLDER: &str = env!("CARGO_TARGET_TMPDIR");

fn main() -> Result<()> {
    let arguments = Arguments::read(&["--quick", "--records", "--rounds"])?;
    let quick = arguments.has("--quick");
    let records = arguments.value("--records", if quick { 20_000 } else { 200_000 })?;
    let rounds = arguments.value("--rounds", if quick { 3 } else { 9 })?;
    let records: Vec<GatewayRecord> = GatewayLogs::new(SEED)
        .take(records)
        .collect::<Result<_>>()?;
    let bytes: u64 = records.iter().map(|record| record.line.len() as u64).sum();
    println!(
        "{} log lines, {:.1} MB; median of {rounds} rounds\n",
        records.len(),
        ratio(bytes, 1_000_000)
    );
    println!("{}", reading(&records, bytes, rounds)?);
    println!("{}", writing(&records, bytes, rounds)?);
    Ok(())
}

/// A way to do the same work: its name, and the function that does it for all records.
type Contender<'a> = (&'a str, Box<dyn FnMut() -> Result<()> + 'a>);

fn contest(
    work: &str,
    bytes: u64,
    rounds: usize,
    mut contenders: Vec<Contender<'_>>,
) -> Result<Table> {
    let mut times = vec![Vec::new(); contenders.len()];
    for _ in 0..rounds {
        for ((_, run), times) in contenders.iter_mut().zip(&mut times) {
            times.push(time(run)?.1);
        }
    }
    let medians: Vec<Duration> = times
        .iter()
        .map(|times| median(times))
        .collect::<Result<_>>()?;
    let ours = *medians.first().context("ours comes first")?;
    let mut table = Table::new(&[work, "MB/s", "time beside ours"]);
    for ((name, _), took) in contenders.iter().zip(medians) {
        table.row(vec![
            (*name).to_owned(),
            format!("{:.0}", per_second(bytes, took) / 1e6),
            format!("{:.2}", took.as_secs_f64() / ours.as_secs_f64()),
        ]);
    }
    Ok(table)
}

fn reading(records: &[GatewayRecord], bytes: u64, rounds: usize) -> Result<Table> {
    for record in records {
        ensure!(
            our_record(&record.line)? == record.record,
            "ours reads another record"
        );
        let theirs = serde_record(&record.line)?;
        ensure!(
            theirs == record.record,
            "serde_json reads {theirs:?} from {}",
            String::from_utf8_lossy(&record.line)
        );
    }
    let each = |read: fn(&[u8]) -> Result<()>| -> Box<dyn FnMut() -> Result<()>> {
        Box::new(move || records.iter().try_for_each(|record| read(&record.line)))
    };
    let contenders: Vec<Contender<'_>> = vec![
        (
            "our reader, to a record",
            each(|line| {
                black_box(our_record(line)?);
                Ok(())
            }),
        ),
        (
            "serde_json, to a record by a visitor",
            each(|line| {
                black_box(serde_record(line)?);
                Ok(())
            }),
        ),
        (
            "serde_json, to its `Value` alone",
            each(|line| {
                black_box(serde_json::from_slice::<serde_json::Value>(line)?);
                Ok(())
            }),
        ),
    ];
    contest("reading", bytes, rounds, contenders)
}

fn writing(records: &[GatewayRecord], bytes: u64, rounds: usize) -> Result<Table> {
    let folder = bench_folder(FOLDER)?;
    let store = Store::open(folder.path(), "json", StoreOptions::default())?;
    let options = WriterOptions::default().when_full(WhenFull::Block);
    let (writer, guard) = Writer::start(&store, options)?;
    let server = ServerName::new("github")?;
    for record in records {
        writer.log(&server, &record.record)?;
    }
    guard.close()?;
    let snapshot = store.snapshot()?;
    let query = Query::new(Signal::Logs);
    let decoded: Vec<LogRecord> = records.iter().map(|record| record.record.clone()).collect();

    let scan = |each: &mut dyn FnMut(RawRecord<'_>) -> Result<()>| -> Result<()> {
        let mut scan = snapshot.scan(&query)?;
        while let Some(record) = scan.next()? {
            each(record)?;
        }
        Ok(())
    };
    let contenders: Vec<Contender<'_>> = vec![
        (
            "our writer, from a scan's encoded records",
            Box::new(|| {
                let mut lines = LineWriter::new(LineFormat::Ndjson);
                let mut out = Vec::with_capacity(1 << 10);
                scan(&mut |record| {
                    out.clear();
                    lines.write(&record, &mut out)?;
                    black_box(&out);
                    Ok(())
                })
            }),
        ),
        (
            "serde_json, from a scan's decoded records",
            Box::new(|| {
                let mut out = Vec::with_capacity(1 << 10);
                scan(&mut |record| {
                    out.clear();
                    let record = record.decode()?.into_log().context("a log record")?;
                    serde_json::to_writer(&mut out, &Line(&record))?;
                    black_box(&out);
                    Ok(())
                })
            }),
        ),
        (
            "the scan alone",
            Box::new(|| {
                scan(&mut |record| {
                    black_box(record.message());
                    Ok(())
                })
            }),
        ),
        (
            "our writer, from records in memory",
            Box::new(|| {
                let mut out = Vec::with_capacity(1 << 10);
                for record in &decoded {
                    out.clear();
                    record.write_line(&mut out);
                    black_box(&out);
                }
                Ok(())
            }),
        ),
        (
            "serde_json, from records in memory",
            Box::new(|| {
                let mut out = Vec::with_capacity(1 << 10);
                for record in &decoded {
                    out.clear();
                    serde_json::to_writer(&mut out, &Line(record))?;
                    black_box(&out);
                }
                Ok(())
            }),
        ),
    ];
    contest("writing", bytes, rounds, contenders)
}

fn our_record(line: &[u8]) -> Result<LogRecord> {
    match parse_line(Signal::Logs, line)? {
        ParsedLine::Logs(mut records) => Ok(records.pop().context("a record")?.1),
        other => anyhow::bail!("a log line holds {other:?}"),
    }
}

fn serde_record(line: &[u8]) -> Result<LogRecord> {
    Ok(serde_json::from_slice::<Parsed>(line)?.0)
}

/// A record that `serde_json` reads without a tree in between.
struct Parsed(LogRecord);

impl<'de> Deserialize<'de> for Parsed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Parsed, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Parsed;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a log line")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parsed, A::Error> {
                let (mut time, mut level, mut message) = (None, None, None);
                let mut attributes = Vec::new();
                while let Some(Text(key)) = map.next_key()? {
                    match &*key {
                        "ts" if time.is_none() => {
                            let Text(text) = map.next_value()?;
                            time =
                                Some(Timestamp::parse_rfc3339(&text).map_err(de::Error::custom)?);
                        }
                        "level" if level.is_none() => {
                            let Text(text) = map.next_value()?;
                            level = Some(text.parse::<Level>().map_err(de::Error::custom)?);
                        }
                        "msg" if message.is_none() => message = Some(map.next_value()?),
                        _ => attributes.push((key.into_owned(), map.next_value_seed(AnyValue)?)),
                    }
                }
                let (timestamp, utc_offset) = time.ok_or_else(|| de::Error::missing_field("ts"))?;
                let message: String = message.unwrap_or_default();
                let mut record = LogRecord::new(timestamp, level.unwrap_or(Level::INFO), message);
                record.utc_offset = utc_offset;
                record.attributes = attributes;
                Ok(Parsed(record))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// A string that is borrowed from the line unless it holds escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Makes a [`Value`].
struct AnyValue;

impl<'de> DeserializeSeed<'de> for AnyValue {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(AnyValue)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            entries.push((key, map.next_value_seed(AnyValue)?));
        }
        Ok(Value::Object(entries))
    }
}

/// A record as `serde_json` writes it.
struct Line<'a>(&'a LogRecord);

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let record = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("ts", &record.timestamp.to_rfc3339_in(record.utc_offset))?;
        map.serialize_entry("level", &record.level)?;
        map.serialize_entry("msg", &record.message)?;
        for (key, value) in &record.attributes {
            map.serialize_entry(key, &Attribute(value))?;
        }
        map.end()
    }
}

/// An attribute's value as `serde_json` writes it.
struct Attribute<'a>(&'a Value);

impl Serialize for Attribute<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::Int(value) => serializer.serialize_i64(*value),
            Value::UInt(value) => serializer.serialize_u64(*value),
            Value::Float(value) => serializer.serialize_f64(*value),
            Value::String(text) => serializer.serialize_str(text),
            // The generator makes no others.
            _ => serializer.serialize_unit(),
        }
    }
}
