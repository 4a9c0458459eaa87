//! A flipped bit ends no process and makes no record a wrong one, whatever is done with the store.
//!
//! `GRIDCTL_TELEMETRY_FLIPS` sets the number of flips of each database, 12 by default; `all` flips a bit of
//! every byte.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{
    Helper, Random, STACK, database, helper_arguments, home, home_in_memory, on_demand, open,
    record, say, server,
};
use gridctl_telemetry::{
    Error, Query, Record, Signal, Store, StoreOptions, Value, Writer, WriterOptions,
    import::{ImportBatch, Importer},
    maintenance::{CompactOptions, VerifyOptions, WipeScope},
};
use std::{
    fs,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

const RECORDS: u64 = 60;
const THREADS: usize = 2;

fn write(store: &Store, options: WriterOptions) {
    let (writer, guard) = Writer::start(store, options).unwrap();
    for number in 0..RECORDS {
        let name = server(["a", "b"][usize::from(number % 3 == 0)]);
        writer.log(&name, &record(number)).unwrap();
        if number % 70 == 69 {
            writer.flush().unwrap();
        }
    }
    writer.flush().unwrap();
    guard.close().unwrap();
}

/// The file of a database whose records are rows, or blocks for the most part.
fn closed(options: WriterOptions) -> Vec<u8> {
    let home = home();
    write(&open(home.path()), options);
    fs::read(database(home.path())).unwrap()
}

/// The file of a database whose process was killed.
fn killed() -> Vec<u8> {
    let home = home();
    let mut helper = Helper::start("writes_until_killed", &[home.path().to_str().unwrap()]);
    assert_eq!(helper.heard(), "stored");
    helper.kill();
    fs::read(database(home.path())).unwrap()
}

#[test]
fn writes_until_killed() {
    let Some((_, _store, writer, _guard)) = common::helper_writer() else {
        return;
    };
    for number in 0..RECORDS {
        writer.log(&server("a"), &record(number)).unwrap();
    }
    writer.flush().unwrap();
    say("stored");
    loop {
        std::thread::park();
    }
}

/// Checks that each record of a scan is one that was stored. Returns how many there are.
fn read(store: &Store) -> Result<usize, Error> {
    let mut count = 0;
    for found in store.scan(&Query::new(Signal::Logs).skip_damaged())? {
        let Record::Log(log) = found?.record else {
            panic!("a record of another signal");
        };
        let Some(Value::Int(number)) = log.attribute("number") else {
            panic!("no number: {log:?}");
        };
        assert_eq!(log, record(number.cast_unsigned()), "a wrong record");
        count += 1;
    }
    Ok(count)
}

fn all(home: &Path, way: &str) -> Result<(), Error> {
    if way == "read" {
        let store = Store::open_read_only(home, STACK, StoreOptions::for_tools())?.unwrap();
        let count = read(&store);
        let _ = store.space();
        let _ = store.snapshot()?.readable_inventory();
        let mut findings = 0;
        let verified = store.verify(&VerifyOptions::default(), |_| findings += 1);
        let is_complete = count.is_ok_and(|count| count as u64 == RECORDS);
        assert!(
            is_complete || findings > 0 || verified.is_err(),
            "records are missing, and verification does not say so"
        );
        return Ok(());
    }
    let store = Store::open(home, STACK, StoreOptions::default())?;
    match way {
        "write" => {
            let (writer, guard) = Writer::start(&store, on_demand().tiering(40, 25, 16))?;
            for number in RECORDS..RECORDS + 60 {
                let _ = writer.log(&server("a"), &record(number));
            }
            let _ = writer.flush();
            let _ = guard.close();
            drop(writer);
        }
        "compact" => drop(store.compact(CompactOptions::default())),
        "wipe" => drop(store.wipe(&WipeScope::everything().server(server("a")))),
        "import" => {
            let mut batch = ImportBatch::default();
            for number in 0..60 {
                batch.push(&server("b"), &Record::Log(record(number)))?;
            }
            let _ = Importer::new(&store)?.add(batch);
        }
        other => panic!("unknown way {other}"),
    }
    read(&store)?;
    Ok(())
}

const WAYS: [&str; 5] = ["read", "write", "compact", "wipe", "import"];

/// Flips bits of a file, one at a time, and uses the store. Says each case before it begins.
#[test]
fn flips() {
    let Some(arguments) = helper_arguments() else {
        return;
    };
    let whole = fs::read(&arguments[0]).unwrap();
    for case in &arguments[1..] {
        let (at, bit) = case.split_once('.').unwrap();
        let (at, bit): (usize, usize) = (at.parse().unwrap(), bit.parse().unwrap());
        for way in WAYS {
            say(format!("byte {at}, bit {bit}, {way}"));
            let home = home_in_memory();
            fs::create_dir_all(database(home.path()).parent().unwrap()).unwrap();
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << bit;
            fs::write(database(home.path()), &damaged).unwrap();
            let _ = all(home.path(), way);
        }
    }
    say("done");
}

/// The cases of the file at `path` in which the process that tried them ended.
fn try_cases(path: &Path, cases: &[String]) -> Vec<String> {
    let mut failures = Vec::new();
    let mut rest: Vec<&str> = cases.iter().map(String::as_str).collect();
    while !rest.is_empty() {
        let mut arguments = vec![path.to_str().unwrap()];
        arguments.extend(&rest);
        let mut helper = Helper::start("flips", &arguments);
        let mut last = None;
        while let Some(said) = helper.hear() {
            last = Some(said);
        }
        let last = last.unwrap_or_default();
        if last == "done" {
            break;
        }
        // The process ended at this case; the others have their own.
        let at = last.split([' ', ',']).nth(1).unwrap_or_default().to_owned();
        let done = rest
            .iter()
            .position(|case| case.split('.').next() == Some(&at));
        rest.drain(..=done.unwrap_or(rest.len() - 1));
        failures.push(last);
    }
    failures
}

#[test]
fn no_flip_ends_a_process_or_makes_a_wrong_record() {
    if helper_arguments().is_some() {
        return;
    }
    let mut random = Random::from_env();
    let wanted = std::env::var("GRIDCTL_TELEMETRY_FLIPS").unwrap_or_else(|_| "12".to_owned());
    let failures = Mutex::new(Vec::new());
    for (name, bytes) in [
        ("rows", closed(on_demand().tiering(4096, 4096, 4096))),
        ("blocks", closed(on_demand())),
        ("killed", killed()),
    ] {
        let folder = home();
        let file = folder.path().join(name);
        fs::write(&file, &bytes).unwrap();
        let cases: Vec<String> = match wanted.as_str() {
            "all" => (0..bytes.len())
                .map(|at| format!("{at}.{}", random.below(8)))
                .collect(),
            count => (0..count.parse().unwrap())
                .map(|_| format!("{}.{}", random.below(bytes.len()), random.below(8)))
                .collect(),
        };
        let chunks: Vec<&[String]> = cases.chunks(100).collect();
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    while let Some(cases) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let failed = try_cases(&file, cases);
                        let failed = failed.iter().map(|case| format!("{name}: {case}"));
                        failures.lock().unwrap().extend(failed);
                    }
                });
            }
        });
        println!(
            "{name}: {} of {} bytes flipped, {} ways each",
            cases.len(),
            bytes.len(),
            WAYS.len()
        );
    }
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{failures:#?}");
}
