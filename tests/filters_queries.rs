//! A filter applies to every way of reading: in both directions, page by page, the last records, of
//! several servers, those that arrived since, and while a store is followed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{HANG, home, on_demand, open, server};
use gridctl_telemetry::{
    Level, LogRecord, Query, Signal, Store, Timestamp, Writer,
    query::{Direction, Filter, TextPattern},
};
use std::ops::Range;

const RECORDS: u64 = 200;

fn record(number: u64) -> LogRecord {
    let level = if number.is_multiple_of(7) {
        Level::ERROR
    } else {
        Level::INFO
    };
    let time = 1_700_000_000_000_000_000 + number.cast_signed() * 1000;
    LogRecord::new(
        Timestamp::from_unix_nanos(time),
        level,
        format!("call {number}"),
    )
    .with("number", number)
}

/// Stores records of two servers in blocks and rows, of each server every second one.
fn store(store: &Store, numbers: Range<u64>) {
    let (writer, guard) = Writer::start(store, on_demand()).unwrap();
    for number in numbers {
        let name = if number.is_multiple_of(2) {
            "even"
        } else {
            "odd"
        };
        writer.log(&server(name), &record(number)).unwrap();
        if number.is_multiple_of(30) {
            writer.flush().unwrap();
        }
    }
    guard.close().unwrap();
}

fn failed() -> Query {
    Query::new(Signal::Logs)
        .level_at_least(Level::ERROR)
        .field("number>=20")
        .unwrap()
        .without(Filter::text(TextPattern::words("call 77").unwrap()))
}

fn expected(numbers: Range<u64>) -> Vec<String> {
    numbers
        .filter(|number| number.is_multiple_of(7) && *number >= 20 && *number != 77)
        .map(|number| format!("call {number}"))
        .collect()
}

fn messages(
    records: impl IntoIterator<Item = gridctl_telemetry::query::StoredRecord>,
) -> Vec<String> {
    records
        .into_iter()
        .map(|record| record.record.into_log().unwrap().message)
        .collect()
}

#[test]
fn every_way_of_reading_filters() {
    let home = home();
    let opened = open(home.path());
    store(&opened, 0..RECORDS);
    let scan = |query: &Query| messages(opened.scan(query).unwrap().map(Result::unwrap));

    let all = expected(0..RECORDS);
    assert_eq!(all.len(), 25);
    assert_eq!(scan(&failed()), all);
    let mut backward = scan(&failed().direction(Direction::Backward));
    backward.reverse();
    assert_eq!(backward, all);
    let last = opened.last(&failed(), 3).unwrap();
    assert_eq!(messages(last), all[22..]);

    let odd = scan(&failed().server(server("odd")));
    let even = scan(&failed().server(server("even")));
    assert_eq!((odd.len(), even.len()), (12, 13));
    let since = opened.snapshot().unwrap().next_sequence().unwrap();

    for direction in [Direction::Forward, Direction::Backward] {
        let mut paged = Vec::new();
        let mut query = failed().direction(direction);
        loop {
            let page: Vec<_> = opened
                .scan(&query)
                .unwrap()
                .take(4)
                .map(Result::unwrap)
                .collect();
            let Some(last) = page.last() else { break };
            query = query.after(last.cursor());
            paged.extend(messages(page));
        }
        if direction == Direction::Backward {
            paged.reverse();
        }
        assert_eq!(paged, all);
    }

    let mut follow = opened.follow(failed()).unwrap();
    let followed = (0..all.len()).map(|_| follow.next_timeout(HANG).unwrap().unwrap());
    assert_eq!(messages(followed), all);
    store(&opened, RECORDS..RECORDS + 50);
    let new = expected(RECORDS..RECORDS + 50);
    let followed = (0..new.len()).map(|_| follow.next_timeout(HANG).unwrap().unwrap());
    assert_eq!(messages(followed), new);
    assert_eq!(scan(&failed().since_sequence(since)), new);
}
