//! A model of a store and of a machine's clocks, kept in memory beside the real ones:
//!
//! - [`clock`]: the clocks of a machine, and the time that a store should trust;
//! - [`store`]: the records, which follow from their numbers, and the results that readers should get;
//! - [`world`]: a real store on such a machine, with a writer that a test drives.
#![allow(dead_code, reason = "each test uses a part of it")]

pub(crate) mod clock;
pub(crate) mod store;
pub(crate) mod world;

use gridctl_telemetry::Signal;

pub(crate) const SECOND: i64 = 1_000_000_000;
pub(crate) const MINUTE: i64 = 60 * SECOND;
pub(crate) const HOUR: i64 = 60 * MINUTE;
pub(crate) const DAY: i64 = 24 * HOUR;
/// 2026-01-01T00:00:00Z
pub(crate) const START: i64 = 1_767_225_600 * SECOND;

pub(crate) const SERVERS: [&str; 3] = ["github", "a/../b", "日本"];

/// The index of a server in [`SERVERS`], and a signal.
pub(crate) type SeriesKey = (usize, Signal);
