//! Several processes append to one store, read it and wipe it at the same time: each succeeds, and each
//! reader sees a consistent state.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{
    Helper, STACK, helper_arguments, number, numbers, numbers_of, on_demand, open, record, say,
    server,
};
use gridctl_telemetry::{
    Query, Record, ServerName, Signal, Store, StoreOptions, Writer,
    import::{ImportBatch, Importer},
    maintenance::{WipeScope, wipe},
    query::{Direction, inventory},
};
use std::{
    path::Path,
    time::{Duration, Instant},
};

const ROUNDS: usize = 40;
/// The number of records that are appended before each flush.
const RECORDS: u64 = 15;

/// Appends to one server, round after round.
#[test]
fn helper_appends() {
    let Some((arguments, _store, writer, guard)) = common::helper_writer() else {
        return;
    };
    let name = server(&arguments[1]);
    for number in 0..ROUNDS as u64 * RECORDS {
        writer.log(&name, &record(number)).unwrap();
        if number % RECORDS == RECORDS - 1 {
            writer.flush().unwrap();
            say(number + 1);
        }
    }
    guard.close().unwrap();
    say("done");
}

/// Reads everything in every way, each time from one snapshot.
#[test]
fn helper_reads() {
    let Some(arguments) = helper_arguments() else {
        return;
    };
    let home = Path::new(&arguments[0]);
    let long_lived = Store::open_existing(home, STACK, StoreOptions::default())
        .unwrap()
        .unwrap();
    let mut last = 0;
    for round in 0..ROUNDS {
        let fresh = Store::open_read_only(home, STACK, StoreOptions::for_tools())
            .unwrap()
            .unwrap();
        let store = if round % 2 == 0 { &long_lived } else { &fresh };
        let snapshot = store.snapshot().unwrap();
        let sequence = snapshot.next_sequence().unwrap();
        assert!(sequence >= last, "a reader sees an older state than before");
        last = sequence;
        let query = Query::new(Signal::Logs);
        // Checks that records are unchanged, in order and stored once, as the inventory counts them.
        let found = numbers(&snapshot);
        let count: usize = found.values().map(Vec::len).sum();
        // Reads the same records later and backward.
        let backward = query.clone().direction(Direction::Backward);
        let read = snapshot.scan(&backward).unwrap().records();
        assert_eq!(read.map(Result::unwrap).count(), count);
        let newest = snapshot.last(&query, 10).unwrap();
        assert_eq!(newest.len(), count.min(10));
        assert!(newest.iter().all(|record| record.sequence < sequence));
        inventory(home, STACK, None).unwrap();
        say(count);
    }
    say("done");
}

/// Wipes one server, again and again.
#[test]
fn helper_wipes() {
    let Some(arguments) = helper_arguments() else {
        return;
    };
    let home = Path::new(&arguments[0]);
    let scope = WipeScope::everything().server(ServerName::new(&arguments[1]).unwrap());
    for _ in 0..ROUNDS {
        wipe(home, STACK, &scope).unwrap();
        say("wiped");
    }
    say("done");
}

fn finish(mut helper: Helper) {
    while helper.heard() != "done" {}
    helper.end();
}

#[test]
fn processes_append_read_and_wipe_at_once() {
    let home = common::home();
    let path = home.path().to_str().unwrap();
    let mut daemon = Helper::start("helper_appends", &[path, "kept"]);
    daemon.heard();
    let helpers = [
        Helper::start("helper_appends", &[path, "wiped"]),
        Helper::start("helper_appends", &[path, "also kept"]),
        Helper::start("helper_reads", &[path]),
        Helper::start("helper_reads", &[path]),
        Helper::start("helper_wipes", &[path, "wiped"]),
    ];
    // This process takes part as well.
    let store = Store::open_read_only(home.path(), STACK, StoreOptions::default())
        .unwrap()
        .unwrap();
    let mut cursor = None;
    let mut followed = Vec::new();
    loop {
        let line = daemon.heard();
        let mut query = Query::new(Signal::Logs).server(server("kept"));
        if let Some(from) = cursor {
            query = query.since_sequence(from);
        }
        let snapshot = store.snapshot().unwrap();
        cursor = Some(snapshot.next_sequence().unwrap());
        for found in snapshot.scan(&query).unwrap().records() {
            followed.push(number(&found.unwrap().record.into_log().unwrap()));
        }
        if line == "done" {
            break;
        }
    }
    daemon.end();
    helpers.into_iter().for_each(finish);

    let all: Vec<u64> = (0..ROUNDS as u64 * RECORDS).collect();
    followed.sort_unstable();
    assert_eq!(followed, all, "the records that a reader followed");
    let found = numbers(&open(home.path()).snapshot().unwrap());
    assert_eq!(found["kept"], all);
    assert_eq!(found["also kept"], all);
    // All records after the last wipe are stored.
    let rest = found.get("wiped").cloned().unwrap_or_default();
    assert!(all.ends_with(&rest), "{rest:?}");
}

/// Also if an earlier creation was interrupted.
#[test]
fn processes_that_create_one_store_at_once_share_it() {
    for interrupted in [false, true] {
        let home = common::home();
        if interrupted {
            let folder = home.path().join("telemetry").join(STACK);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("telemetry.redb"), vec![0; 1 << 20]).unwrap();
        }
        let path = home.path().to_str().unwrap();
        let names = ["a", "b", "c", "d"];
        let helpers = names.map(|name| Helper::start("helper_appends", &[path, name]));
        helpers.into_iter().for_each(finish);
        let found = numbers(&open(home.path()).snapshot().unwrap());
        for name in names {
            assert_eq!(found[name].len() as u64, ROUNDS as u64 * RECORDS, "{name}");
        }
    }
}

/// Each thread of one process may open the store for itself.
#[test]
fn stores_of_one_process_share_the_file() {
    let home = common::home();
    std::thread::scope(|scope| {
        for name in ["a", "b", "c"] {
            let path = home.path();
            scope.spawn(move || {
                for round in 0..10 {
                    let store = open(path);
                    let (writer, guard) = Writer::start(&store, on_demand()).unwrap();
                    for number in 0..RECORDS {
                        let number = round * RECORDS + number;
                        writer.log(&server(name), &record(number)).unwrap();
                    }
                    guard.close().unwrap();
                    let found = numbers(&store.snapshot().unwrap());
                    assert_eq!(found[name].len() as u64, (round + 1) * RECORDS);
                }
            });
        }
    });
}

/// An import that knows every record already looks each of them up. It lets others commit in between, however many
/// servers there are: `GRIDCTL_TELEMETRY_SERVERS` sets their number.
#[test]
fn a_daemon_commits_while_many_servers_are_imported_again() {
    let servers: u64 = common::number_from_env("GRIDCTL_TELEMETRY_SERVERS", 5000);
    let home = common::home();
    let store = open(home.path());
    let import = || {
        let mut batch = ImportBatch::default();
        for number in 0..servers {
            let name = server(&format!("server-{number}"));
            batch.push(&name, &Record::Log(record(number))).unwrap();
        }
        Importer::new(&open(home.path()))
            .unwrap()
            .add(batch)
            .unwrap()
    };
    assert_eq!(import().added, servers);

    let (writer, guard) = Writer::start(&store, on_demand()).unwrap();
    let (commits, waited, counts) = std::thread::scope(|scope| {
        let importing = scope.spawn(import);
        let (mut commits, mut waited) = (0, Duration::ZERO);
        while !importing.is_finished() {
            writer.log(&server("daemon"), &record(commits)).unwrap();
            let asked = Instant::now();
            writer.flush().unwrap();
            waited = waited.max(asked.elapsed());
            commits += 1;
        }
        (commits, waited, importing.join().unwrap())
    });
    guard.close().unwrap();
    println!(
        "{commits} commits of a daemon while {servers} servers were imported again; the longest took {waited:.0?}"
    );
    assert_eq!((counts.added, counts.duplicates), (0, servers));
    assert_eq!(numbers_of(&store, "daemon").len() as u64, commits);
    // A transaction of an import takes a thousand servers, and a commit waits for one of them at most.
    assert!(commits > servers / 2000, "{commits} commits");
}
