//! What the [queue](super::queue) and the [spiller](super::spiller) synchronise with. A test compiles them with
//! other primitives, which try many schedules.

pub(super) use crossbeam::channel;
pub(super) use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering, fence},
    },
    thread::{Builder, Thread, current, park_timeout},
};
