//! What the [queue](super::queue) synchronises with. A test compiles the queue with other ones, which try many
//! schedules.

pub(super) use crossbeam::channel;
pub(super) use std::{
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering, fence},
    },
    thread::{Thread, current, park_timeout},
};
