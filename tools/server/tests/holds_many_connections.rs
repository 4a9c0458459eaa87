//! Ten thousand connections that say nothing, or half of something, and clients that do not read their answers, keep
//! nobody else from being answered, and are gone when the server ends.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{JSON, Running};
use gridctl_telemetry::Signal;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{
    io::{Read, Write},
    net::TcpStream,
};

/// The number of connections.
const COUNT: u64 = 10_000;

/// Lets this process have as many open files as the system allows, and returns how many connections that are.
fn connections() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let maximum = limit.maximum.unwrap_or(u64::MAX);
    let wanted = maximum.min(2 * COUNT);
    let raised = Rlimit {
        current: Some(wanted),
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
    COUNT.min(wanted.saturating_sub(2000))
}

fn answers(running: &Running) {
    assert_eq!(running.get("/login", &[]).status, 200);
    assert_eq!(running.export(Signal::Logs, &[JSON], b"{}").status, 200);
}

#[test]
fn that_say_nothing_or_half_of_something() {
    let count = connections();
    let mut running = Running::start();
    let mut held = Vec::new();
    for number in 0..count {
        let mut stream = TcpStream::connect(running.address).unwrap();
        // The server may have ended it already, in favour of a later one.
        let _ = match number % 3 {
            0 => Ok(()),
            1 => stream.write_all(b"GET / HTTP/1.1\r\nHost: loc"),
            _ => stream.write_all(b"POST /v1/logs HTTP/1.1\r\nHost: localhost\r\nContent-Le"),
        };
        held.push(stream);
        if number % 1000 == 999 {
            answers(&running);
        }
    }
    answers(&running);
    running.stop();
    // All of them are told that it has ended, those that were served and those that were not.
    for mut stream in held {
        stream.set_read_timeout(Some(common::HANG)).unwrap();
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest);
        assert!(
            ended.is_ok() || ended.is_err_and(|it| it.kind() != std::io::ErrorKind::WouldBlock)
        );
    }
}

#[test]
fn whose_bodies_do_not_come() {
    let running = Running::start();
    let mut held = Vec::new();
    // More than there are places for connections.
    for _ in 0..600 {
        let mut stream = running.connect();
        let request = format!(
            "POST /v1/logs HTTP/1.1\r\nHost: localhost\r\n{JSON}\r\nContent-Length: 15000000\r\n\r\n{{"
        );
        let _ = stream.write_all(request.as_bytes());
        held.push(stream);
    }
    answers(&running);
}

#[test]
fn whose_answers_are_not_read() {
    let running = Running::start();
    let mut held = Vec::new();
    for _ in 0..100 {
        let mut stream = running.connect();
        for _ in 0..50 {
            let request = b"GET /login HTTP/1.1\r\nHost: localhost\r\n\r\n";
            stream.write_all(request).unwrap();
        }
        held.push(stream);
    }
    answers(&running);
}

#[test]
fn that_ask_several_things_one_after_the_other() {
    let running = Running::start();
    let mut stream = running.connect();
    for last in [false, false, true] {
        let close = if last { "Connection: close\r\n" } else { "" };
        let request = format!("GET /login HTTP/1.1\r\nHost: localhost\r\n{close}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
    }
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 3);
}
