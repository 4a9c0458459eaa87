//! The log router stores each event under the server that it names, as the line that it should be:
//! a test for each thing that it promises.
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
mod spans;
mod threads;
mod values;
