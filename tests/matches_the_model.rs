//! Random operations on a store and on a model in memory: both always give the same answers.
//!
//! Tiers are tiny, so that a few hundred records make rows, direct blocks, sealed blocks and blocks
//! that overlap in every way.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;
mod model;

use common::{home_in_memory, on_demand, open, server};
use gridctl_telemetry::{
    Query, Signal, Store, StoreOptions, Timestamp, Writer, WriterGuard,
    maintenance::{VerifyOptions, WipeScope},
    query::{Cursor, StoredRecord, TimeRange},
};
use model::{
    SERVERS, SeriesKey,
    store::{Known, Model, Size, all_of, direction, in_order, number_of, record},
};
use proptest::prelude::*;
use tempfile::TempDir;

#[derive(Debug, Clone)]
enum Operation {
    /// Log records at these times, one after the other.
    Log {
        server: usize,
        times: Vec<i64>,
    },
    Flush,
    /// Close the store and open it again.
    Restart,
    Wipe {
        server: Option<usize>,
    },
    Scan {
        servers: Vec<usize>,
        since: Option<i64>,
        until: Option<i64>,
        backward: bool,
        memory: usize,
    },
    Page {
        backward: bool,
        size: usize,
    },
    Last {
        server: Option<usize>,
        count: usize,
    },
    SinceSequence {
        back: usize,
        backward: bool,
        memory: usize,
    },
    Inventory,
}

fn time() -> impl Strategy<Value = i64> {
    prop_oneof![
        // The present, in which records race, ties included.
        8 => 1_000_000i64..1_000_040,
        // A later present, next to which the first is late, or a clock that jumped.
        4 => 9_000_000_000i64..9_000_000_100,
        2 => any::<i64>(),
        1 => Just(i64::MIN),
        1 => Just(i64::MAX),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    let memory = prop_oneof![Just(0usize), Just(2000), Just(1 << 20)];
    prop_oneof![
        6 => (0usize..3, prop::collection::vec(time(), 1..60))
            .prop_map(|(server, times)| Operation::Log { server, times }),
        4 => Just(Operation::Flush),
        1 => Just(Operation::Restart),
        1 => prop::option::of(0usize..3).prop_map(|server| Operation::Wipe { server }),
        3 => (
            prop::collection::vec(0usize..3, 0..3),
            prop::option::of(time()),
            prop::option::of(time()),
            any::<bool>(),
            memory.clone(),
        )
            .prop_map(|(servers, since, until, backward, memory)| Operation::Scan {
                servers, since, until, backward, memory
            }),
        1 => (any::<bool>(), 1usize..50)
            .prop_map(|(backward, size)| Operation::Page { backward, size }),
        1 => (prop::option::of(0usize..3), 0usize..200)
            .prop_map(|(server, count)| Operation::Last { server, count }),
        1 => (0usize..100, any::<bool>(), memory)
            .prop_map(|(back, backward, memory)| Operation::SinceSequence { back, backward, memory }),
        1 => Just(Operation::Inventory),
    ]
}

struct Pair {
    home: TempDir,
    store: Store,
    writer: Option<(Writer, WriterGuard)>,
    model: Model,
}

fn start(home: &TempDir) -> (Store, Option<(Writer, WriterGuard)>) {
    let store = open(home.path());
    let writer = Writer::start(&store, on_demand()).unwrap();
    (store, Some(writer))
}

impl Pair {
    fn new() -> Pair {
        let home = home_in_memory();
        let (store, writer) = start(&home);
        Pair {
            home,
            store,
            writer,
            model: Model::default(),
        }
    }

    fn writer(&self) -> &Writer {
        &self.writer.as_ref().unwrap().0
    }

    fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Log { server, times } => self.log(*server, times),
            Operation::Flush => self.writer().flush().unwrap(),
            Operation::Restart => self.restart(),
            Operation::Wipe { server } => self.wipe(*server),
            Operation::Scan {
                servers,
                since,
                until,
                backward,
                memory,
            } => {
                let query = of_servers(servers)
                    .range(TimeRange {
                        since: since.map(Timestamp::from_unix_nanos),
                        until: until.map(Timestamp::from_unix_nanos),
                    })
                    .memory_bytes(*memory);
                self.scan(query, *backward, |(server, _), time| {
                    (servers.is_empty() || servers.contains(&server))
                        && since.is_none_or(|since| time >= since)
                        && until.is_none_or(|until| time < until)
                });
            }
            Operation::Page { backward, size } => self.page(*backward, *size),
            Operation::Last { server, count } => self.last(*server, *count),
            Operation::SinceSequence {
                back,
                backward,
                memory,
            } => self.since_sequence(*back, *backward, *memory),
            Operation::Inventory => {
                self.writer().flush().unwrap();
                let inventory = self.store.snapshot().unwrap().inventory(None).unwrap();
                self.model.compare_inventory(&inventory, |_, _| true);
                let names: Vec<&str> = inventory.iter().map(|it| it.server.as_str()).collect();
                assert!(names.is_sorted(), "{names:?}");
            }
        }
    }

    fn log(&mut self, place: usize, times: &[i64]) {
        for time in times {
            let number = self.model.number();
            let known = Known::new(Signal::Logs, *time, Size::Text(20));
            let log = record(Signal::Logs, number, &known).into_log().unwrap();
            self.writer().log(&server(SERVERS[place]), &log).unwrap();
            self.model.add((place, Signal::Logs), number, known);
        }
    }

    fn restart(&mut self) {
        let (writer, guard) = self.writer.take().unwrap();
        guard.close().unwrap();
        drop(writer);
        self.store = Store::open(self.home.path(), "other", StoreOptions::default()).unwrap();
        (self.store, self.writer) = start(&self.home);
    }

    fn wipe(&mut self, place: Option<usize>) {
        let scope = WipeScope::everything().server(place.map(|place| server(SERVERS[place])));
        if self.model.numbers().is_multiple_of(2) {
            self.store.wipe(&scope).unwrap();
        } else {
            self.writer().wipe(&scope).unwrap();
        }
        self.model.wipe(place, None);
    }

    /// Compares a scan with those records of the model for which `keep` is true.
    fn scan(&mut self, query: Query, backward: bool, keep: impl Fn(SeriesKey, i64) -> bool) {
        self.writer().flush().unwrap();
        let found = all_of(&self.store.snapshot().unwrap(), query, backward);
        self.model.compare(Signal::Logs, found, keep);
    }

    fn page(&mut self, backward: bool, size: usize) {
        self.writer().flush().unwrap();
        let mut read = Vec::new();
        let mut cursor: Option<Cursor> = None;
        loop {
            let mut query = Query::new(Signal::Logs).direction(direction(backward));
            if let Some(cursor) = cursor {
                query = query.after(cursor.to_string().parse().unwrap());
            }
            let scan = self.store.scan(&query).unwrap();
            let page: Vec<_> = scan.take(size).map(Result::unwrap).collect();
            cursor = page.last().map(StoredRecord::cursor);
            let is_last = page.len() < size;
            read.extend(page);
            if is_last {
                break;
            }
        }
        let read = in_order(read, backward);
        self.model.compare(Signal::Logs, read, |_, _| true);
    }

    fn last(&mut self, place: Option<usize>, count: usize) {
        self.writer().flush().unwrap();
        let query = of_servers(place.as_slice());
        let read = in_order(self.store.last(&query, count).unwrap(), false);
        let all = self.model.sorted(Signal::Logs, |(server, _), _| {
            place.is_none_or(|place| place == server)
        });
        let newest = &all[all.len().saturating_sub(count)..];
        let times: Vec<i64> = read.iter().map(|it| it.timestamp.unix_nanos()).collect();
        let expected: Vec<i64> = newest.iter().map(|(_, _, known)| known.time).collect();
        assert_eq!(times, expected);
        for (stored, (key, number, known)) in read.iter().zip(newest) {
            // Records of several servers at one time come in the order of their commits, and within
            // one commit by server.
            if place.is_some() {
                assert_eq!(stored.server.as_str(), SERVERS[key.0]);
                assert_eq!(stored.record, record(Signal::Logs, *number, known));
            }
        }
    }

    fn since_sequence(&mut self, back: usize, backward: bool, memory: usize) {
        self.writer().flush().unwrap();
        let snapshot = self.store.snapshot().unwrap();
        let mut all = all_of(&snapshot, Query::new(Signal::Logs), false);
        all.sort_by_key(|record| record.sequence);
        let Some(from) = all.len().checked_sub(back + 1).map(|at| all[at].sequence) else {
            return;
        };
        let query = Query::new(Signal::Logs)
            .since_sequence(from)
            .memory_bytes(memory);
        let mut read = numbers(&all_of(&snapshot, query, backward));
        all.retain(|record| record.sequence >= from);
        let mut expected = numbers(&all);
        expected.sort_unstable();
        read.sort_unstable();
        assert_eq!(read, expected);
    }
}

fn of_servers(places: &[usize]) -> Query {
    let query = Query::new(Signal::Logs);
    (places.iter()).fold(query, |query, place| query.server(server(SERVERS[*place])))
}

fn numbers(records: &[StoredRecord]) -> Vec<u64> {
    records.iter().map(|it| number_of(&it.record)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_store_answers_as_the_model_does(operations in prop::collection::vec(operation(), 1..40)) {
        let mut pair = Pair::new();
        for operation in &operations {
            pair.apply(operation);
        }
        pair.apply(&Operation::Inventory);
        pair.apply(&Operation::Page { backward: true, size: 7 });
        let mut findings = Vec::new();
        let options = VerifyOptions::default();
        pair.store.verify(&options, |finding| findings.push(finding)).unwrap();
        prop_assert_eq!(findings, []);
    }
}
