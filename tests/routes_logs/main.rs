//! The log router stores each event under the server that it names, and the event is exported as the
//! expected line: one test for each promise.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../common/mod.rs"]
mod common;

mod added_while_running;
mod bad_input;
mod daemon;
mod filter;
mod key;
mod routed;
mod servers;
mod source;
mod spans;
mod threads;
mod traces;
mod values;
