//! A simulated disk beneath a real store:
//!
//! - [`disk`]: the bytes that are durable and those that are only written, and what a crash leaves of both;
//! - [`workload`]: a seeded history of a store, with every operation on its disk;
//! - [`check`]: opening what a crash left, and comparing it with what was acknowledged.
//!
//! The store runs unchanged: a hook sees each operation on its file before it happens. The files of spills
//! are read from the folder at every operation. Not simulated are the reserve, which has no contents, and
//! folders: the database file itself is never lost.
#![allow(dead_code, reason = "each test uses a part of it")]

pub(crate) mod check;
pub(crate) mod disk;
pub(crate) mod workload;
