//! A damaged file ends no process and makes no record a wrong one, whatever is done with the store, and
//! verification notices each record that is missing.
//!
//! A bit is flipped, the file is cut off, or a page is zeroed, swapped with another one, or replaced by what it
//! was earlier. `GRIDCTL_TELEMETRY_FLIPS` sets the number of flips of each database, 12 by default, and a third
//! of that is the number of each other damage; `all` flips a bit of every byte, cuts at every sector, and
//! damages every page. `GRIDCTL_TELEMETRY_PART=3/50` tries the third of 50 parts of them.

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
    record, say, server, told,
};
use gridctl_telemetry::{
    Error, Query, Record, Signal, Store, StoreOptions, Value, Writer, WriterOptions,
    import::{ImportBatch, Importer},
    maintenance::{CompactOptions, VerifyOptions, WipeScope},
};
use std::{
    fs,
    ops::Range,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

const RECORDS: u64 = 60;
const THREADS: usize = 2;

fn write(store: &Store, options: WriterOptions, numbers: Range<u64>) {
    let (writer, guard) = Writer::start(store, options).unwrap();
    for number in numbers {
        let name = server(["a", "b"][usize::from(number % 3 == 0)]);
        writer.log(&name, &record(number)).unwrap();
        if number % 70 == 69 {
            writer.flush().unwrap();
        }
    }
    writer.flush().unwrap();
    guard.close().unwrap();
}

/// Two states of the file of a database.
struct States {
    earlier: Vec<u8>,
    now: Vec<u8>,
}

/// A database whose records are rows, or blocks for the most part.
fn closed(options: &WriterOptions) -> States {
    let home = home();
    let half = RECORDS / 2;
    write(&open(home.path()), options.clone(), 0..half);
    let earlier = fs::read(database(home.path())).unwrap();
    write(&open(home.path()), options.clone(), half..RECORDS);
    let now = fs::read(database(home.path())).unwrap();
    States { earlier, now }
}

/// A database whose process was killed.
fn killed() -> States {
    let home = home();
    let mut helper = Helper::start("writes_until_killed", &[home.path().to_str().unwrap()]);
    assert_eq!(helper.heard(), "begun");
    let earlier = fs::read(database(home.path())).unwrap();
    helper.tell("go on");
    assert_eq!(helper.heard(), "stored");
    helper.kill();
    let now = fs::read(database(home.path())).unwrap();
    States { earlier, now }
}

#[test]
fn writes_until_killed() {
    let Some((_, _store, writer, _guard)) = common::helper_writer() else {
        return;
    };
    for number in 0..RECORDS {
        writer.log(&server("a"), &record(number)).unwrap();
        if number == RECORDS / 2 {
            writer.flush().unwrap();
            say("begun");
            told();
        }
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
        // And closed.
        "open" => {}
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

const WAYS: [&str; 6] = ["read", "open", "write", "compact", "wipe", "import"];

const PAGE: usize = 4096;
const SECTOR: usize = 512;

/// A damage, written as its name and numbers.
fn damage(states: &States, case: &str) -> Vec<u8> {
    let mut words = case.split('.');
    let kind = words.next().unwrap();
    let numbers: Vec<usize> = words.map(|word| word.parse().unwrap()).collect();
    let mut bytes = states.now.clone();
    let page = |number: usize| number * PAGE..(number + 1) * PAGE;
    match (kind, &numbers[..]) {
        ("flip", [at, bit]) => bytes[*at] ^= 1 << bit,
        ("cut", [length]) => bytes.truncate(*length),
        ("zero", [number]) => bytes[page(*number)].fill(0),
        ("swap", [one, other]) => {
            bytes[page(*one)].copy_from_slice(&states.now[page(*other)]);
            bytes[page(*other)].copy_from_slice(&states.now[page(*one)]);
        }
        ("stale", [number]) => {
            let stale = states.earlier.get(page(*number)).unwrap_or(&[0; PAGE]);
            bytes[page(*number)].copy_from_slice(stale);
        }
        other => panic!("unknown damage {other:?}"),
    }
    bytes
}

/// A third as many cases of each damage as `flips`, or all of them.
fn other_cases(states: &States, flips: Option<usize>, random: &mut Random) -> Vec<String> {
    let pages = states.now.len() / PAGE;
    let mut cases = Vec::new();
    let mut add = |all: usize, case: &mut dyn FnMut(usize) -> String| match flips {
        None => cases.extend((0..all).map(case)),
        Some(flips) => cases.extend((0..flips.div_ceil(3)).map(|_| case(random.below(all)))),
    };
    add(states.now.len() / SECTOR - 1, &mut |at| {
        format!("cut.{}", (at + 1) * SECTOR)
    });
    add(pages, &mut |page| format!("zero.{page}"));
    // With an earlier header, the file of a killed process is an earlier state as a whole.
    add(pages - 1, &mut |page| format!("stale.{}", page + 1));
    add(pages * 3, &mut |number| {
        let page = number / 3;
        format!("swap.{page}.{}", (page + 1 + number % 3 * 5) % pages)
    });
    cases
}

/// Damages a file, in one way at a time, and uses the store. Says each case before it begins.
#[test]
fn damages() {
    let Some(arguments) = helper_arguments() else {
        return;
    };
    let states = States {
        earlier: fs::read(&arguments[0]).unwrap(),
        now: fs::read(&arguments[1]).unwrap(),
    };
    for case in &arguments[2..] {
        let damaged = damage(&states, case);
        for way in WAYS {
            say(format!("{case} {way}"));
            let home = home_in_memory();
            fs::create_dir_all(database(home.path()).parent().unwrap()).unwrap();
            fs::write(database(home.path()), &damaged).unwrap();
            let _ = all(home.path(), way);
        }
    }
    say("done");
}

/// The cases of the files in `folder` in which the process that tried them ended.
fn try_cases(folder: &Path, cases: &[String]) -> Vec<String> {
    let files = ["earlier", "now"].map(|name| folder.join(name));
    let mut failures = Vec::new();
    let mut rest: Vec<&str> = cases.iter().map(String::as_str).collect();
    while !rest.is_empty() {
        let mut arguments: Vec<&str> = files.iter().map(|it| it.to_str().unwrap()).collect();
        arguments.extend(&rest);
        let mut helper = Helper::start("damages", &arguments);
        let mut last = None;
        while let Some(said) = helper.hear() {
            last = Some(said);
        }
        let last = last.unwrap_or_default();
        if last == "done" {
            break;
        }
        // The process ended at this case; the others have their own.
        let ended = last.split(' ').next().unwrap_or_default().to_owned();
        let done = rest.iter().position(|case| *case == ended);
        rest.drain(..=done.unwrap_or(rest.len() - 1));
        failures.push(last);
    }
    failures
}

#[test]
fn no_damage_ends_a_process_or_makes_a_wrong_record() {
    if helper_arguments().is_some() {
        return;
    }
    let mut random = Random::from_env();
    let wanted = std::env::var("GRIDCTL_TELEMETRY_FLIPS").unwrap_or_else(|_| "12".to_owned());
    let part = std::env::var("GRIDCTL_TELEMETRY_PART").unwrap_or_else(|_| "1/1".to_owned());
    let (part, parts) = part.split_once('/').unwrap();
    let (part, parts) = (part.parse::<usize>().unwrap() - 1, parts.parse().unwrap());
    let failures = Mutex::new(Vec::new());
    let flips = (wanted != "all").then(|| wanted.parse::<usize>().unwrap());
    for (name, states) in [
        ("rows", closed(&on_demand().tiering(4096, 4096, 4096))),
        ("blocks", closed(&on_demand())),
        ("killed", killed()),
    ] {
        let folder = home();
        fs::write(folder.path().join("earlier"), &states.earlier).unwrap();
        fs::write(folder.path().join("now"), &states.now).unwrap();
        let bytes = states.now.len();
        let mut cases: Vec<String> = match flips {
            None => (0..bytes)
                .map(|at| format!("flip.{at}.{}", random.below(8)))
                .collect(),
            Some(flips) => (0..flips)
                .map(|_| format!("flip.{}.{}", random.below(bytes), random.below(8)))
                .collect(),
        };
        cases.extend(other_cases(&states, flips, &mut random));
        // Every part has damages everywhere in the file.
        let cases: Vec<String> = cases.into_iter().skip(part).step_by(parts).collect();
        let chunks: Vec<&[String]> = cases.chunks(100).collect();
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    while let Some(cases) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let failed = try_cases(folder.path(), cases);
                        let failed = failed.iter().map(|case| format!("{name}: {case}"));
                        failures.lock().unwrap().extend(failed);
                    }
                });
            }
        });
        println!(
            "{name}: {} damages of {bytes} bytes, {} ways each",
            cases.len(),
            WAYS.len()
        );
    }
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{failures:#?}");
}
