//! Random operations on a store and on a list in memory: the same answers, always.
//!
//! Tiers are made tiny, so that a few hundred records make rows, direct blocks, sealed blocks and
//! blocks that overlap in every way.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use gridctl_telemetry::{
    Level, LogRecord, Query, ServerName, Signal, Store, StoreOptions, Timestamp, Writer,
    WriterGuard, WriterOptions,
    maintenance::WipeScope,
    query::{Cursor, Direction, TimeRange},
};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Operation {
    /// Log so many records at these times, one after the other.
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
    ArrivedFrom {
        back: usize,
        backward: bool,
        memory: usize,
    },
    Inventory,
}

const SERVERS: [&str; 3] = ["github", "a/../b", "日本"];

fn time() -> impl Strategy<Value = i64> {
    prop_oneof![
        // A present in which records race, ties included.
        8 => 1_000_000i64..1_000_040,
        // Another one, and what comes late or from a clock that jumped.
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
            .prop_map(|(back, backward, memory)| Operation::ArrivedFrom { back, backward, memory }),
        1 => Just(Operation::Inventory),
    ]
}

/// A record of the model: server, time, order of arrival, message.
type Known = (usize, i64, usize, String);

struct Pair {
    home: tempfile::TempDir,
    store: Store,
    writer: Option<(Writer, WriterGuard)>,
    model: Vec<Known>,
    logged: usize,
}

fn start(home: &tempfile::TempDir) -> (Store, Option<(Writer, WriterGuard)>) {
    let store = Store::open(home.path(), "stack", StoreOptions::default()).unwrap();
    let options = WriterOptions::default()
        .commit_interval_min(std::time::Duration::from_secs(3600))
        .commit_interval_max(std::time::Duration::from_secs(3600))
        .tiering(40, 25, 16);
    let writer = Writer::start(&store, options).unwrap();
    (store, Some(writer))
}

fn name(server: usize) -> ServerName {
    ServerName::new(SERVERS[server]).unwrap()
}

impl Pair {
    fn new() -> Pair {
        let home = tempfile::tempdir().unwrap();
        let (store, writer) = start(&home);
        Pair {
            home,
            store,
            writer,
            model: Vec::new(),
            logged: 0,
        }
    }

    fn flush(&self) {
        self.writer.as_ref().unwrap().0.flush().unwrap();
    }

    /// What the model holds in the order of `query`.
    fn expected(
        &self,
        servers: &[usize],
        keep: impl Fn(&Known) -> bool,
        backward: bool,
    ) -> Vec<Known> {
        let mut expected: Vec<Known> = self
            .model
            .iter()
            .filter(|known| (servers.is_empty() || servers.contains(&known.0)) && keep(known))
            .cloned()
            .collect();
        // Between servers, records of one time come in the order in which they were committed,
        // which within one commit is by server; the model compares each server's order instead.
        expected.sort_by_key(|known| (known.1, known.0, known.2));
        if backward {
            expected.reverse();
        }
        expected
    }

    fn read(&self, query: &Query) -> Vec<Known> {
        self.store
            .scan(query)
            .unwrap()
            .map(|record| known(&record.unwrap()))
            .collect()
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each operation")]
    fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Log { server, times } => {
                for time in times {
                    let message = format!("record {}", self.logged);
                    let record = LogRecord::new(
                        Timestamp::from_unix_nanos(*time),
                        Level::INFO,
                        message.clone(),
                    )
                    .with("tool", "search");
                    self.writer
                        .as_ref()
                        .unwrap()
                        .0
                        .log(&name(*server), &record)
                        .unwrap();
                    self.model.push((*server, *time, self.logged, message));
                    self.logged += 1;
                }
            }
            Operation::Flush => self.flush(),
            Operation::Restart => {
                let (writer, guard) = self.writer.take().unwrap();
                guard.close().unwrap();
                drop(writer);
                self.store =
                    Store::open(self.home.path(), "other", StoreOptions::default()).unwrap();
                (self.store, self.writer) = start(&self.home);
            }
            Operation::Wipe { server } => {
                let scope = WipeScope::everything().server(server.map(name));
                if self.logged.is_multiple_of(2) {
                    self.store.wipe(&scope).unwrap();
                } else {
                    self.writer.as_ref().unwrap().0.wipe(&scope).unwrap();
                }
                self.model
                    .retain(|known| server.is_some_and(|wiped| wiped != known.0));
            }
            Operation::Scan {
                servers,
                since,
                until,
                backward,
                memory,
            } => {
                self.flush();
                let mut query = Query::new(Signal::Logs)
                    .range(TimeRange {
                        since: since.map(Timestamp::from_unix_nanos),
                        until: until.map(Timestamp::from_unix_nanos),
                    })
                    .direction(direction(*backward))
                    .memory_bytes(*memory);
                for server in servers {
                    query = query.server(name(*server));
                }
                let expected = self.expected(
                    servers,
                    |known| {
                        since.is_none_or(|since| known.1 >= since)
                            && until.is_none_or(|until| known.1 < until)
                    },
                    *backward,
                );
                same(self.read(&query), &expected, *backward);
            }
            Operation::Page { backward, size } => {
                self.flush();
                let mut read = Vec::new();
                let mut cursor: Option<Cursor> = None;
                loop {
                    let mut query = Query::new(Signal::Logs).direction(direction(*backward));
                    if let Some(cursor) = cursor {
                        query = query.after(cursor.to_string().parse().unwrap());
                    }
                    let page: Vec<_> = self
                        .store
                        .scan(&query)
                        .unwrap()
                        .take(*size)
                        .map(Result::unwrap)
                        .collect();
                    read.extend(page.iter().map(known));
                    cursor = page
                        .last()
                        .map(gridctl_telemetry::query::StoredRecord::cursor);
                    if page.len() < *size {
                        break;
                    }
                }
                same(read, &self.expected(&[], |_| true, *backward), *backward);
            }
            Operation::Last { server, count } => {
                self.flush();
                let mut query = Query::new(Signal::Logs);
                if let Some(server) = server {
                    query = query.server(name(*server));
                }
                let servers: Vec<usize> = server.iter().copied().collect();
                let read: Vec<Known> = self
                    .store
                    .last(&query, *count)
                    .unwrap()
                    .iter()
                    .map(known)
                    .collect();
                let all = self.expected(&servers, |_| true, false);
                let times: Vec<i64> = read.iter().map(|known| known.1).collect();
                let expected: Vec<i64> = all[all.len().saturating_sub(*count)..]
                    .iter()
                    .map(|known| known.1)
                    .collect();
                assert_eq!(times, expected);
                if server.is_some() {
                    assert_eq!(read, all[all.len().saturating_sub(*count)..]);
                }
            }
            Operation::ArrivedFrom {
                back,
                backward,
                memory,
            } => {
                self.flush();
                let mut all: Vec<_> = self
                    .store
                    .scan(&Query::new(Signal::Logs))
                    .unwrap()
                    .map(|record| record.unwrap())
                    .collect();
                all.sort_by_key(|record| record.sequence);
                let Some(from) = all.len().checked_sub(back + 1).map(|at| all[at].sequence) else {
                    return;
                };
                let mut expected: Vec<String> = all
                    .iter()
                    .filter(|record| record.sequence >= from)
                    .map(message)
                    .collect();
                let query = Query::new(Signal::Logs)
                    .since_sequence(from)
                    .direction(direction(*backward))
                    .memory_bytes(*memory);
                let mut read: Vec<String> = self.read(&query).into_iter().map(|it| it.3).collect();
                expected.sort_unstable();
                read.sort_unstable();
                assert_eq!(read, expected);
            }
            Operation::Inventory => {
                self.flush();
                let inventory = self.store.snapshot().unwrap().inventory(None).unwrap();
                let mut expected = Vec::new();
                for (server, server_name) in SERVERS.iter().enumerate() {
                    let times = || self.model.iter().filter(|it| it.0 == server).map(|it| it.1);
                    if let (Some(oldest), Some(newest)) = (times().min(), times().max()) {
                        expected.push((
                            (*server_name).to_owned(),
                            times().count() as u64,
                            Timestamp::from_unix_nanos(oldest),
                            Timestamp::from_unix_nanos(newest),
                        ));
                    }
                }
                expected.sort();
                let found: Vec<_> = inventory
                    .iter()
                    .map(|it| {
                        (
                            it.server.to_string(),
                            it.record_count,
                            it.oldest_time,
                            it.newest_time,
                        )
                    })
                    .collect();
                assert_eq!(found, expected);
            }
        }
    }
}

fn direction(backward: bool) -> Direction {
    if backward {
        Direction::Backward
    } else {
        Direction::Forward
    }
}

fn message(record: &gridctl_telemetry::query::StoredRecord) -> String {
    record.record.clone().into_log().unwrap().message
}

fn known(record: &gridctl_telemetry::query::StoredRecord) -> Known {
    let server = SERVERS
        .iter()
        .position(|name| *name == record.server.as_str())
        .unwrap();
    let message = message(record);
    let number = message.trim_start_matches("record ").parse().unwrap();
    (server, record.timestamp.unix_nanos(), number, message)
}

/// Compares, after checking that the records came in the order of time and that each server's
/// records of one time came in the order of their arrival.
fn same(mut read: Vec<Known>, expected: &[Known], backward: bool) {
    assert!(read.is_sorted_by(|a, b| if backward { a.1 >= b.1 } else { a.1 <= b.1 }));
    for server in 0..SERVERS.len() {
        let of = |list: &[Known]| -> Vec<Known> {
            list.iter()
                .filter(|known| known.0 == server)
                .cloned()
                .collect()
        };
        assert_eq!(of(&read), of(expected), "server {server}");
    }
    read.sort_by_key(|known| (known.1, known.0, known.2));
    if backward {
        read.reverse();
    }
    assert_eq!(read, expected);
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
    }
}
