//! The clocks of a machine.

use super::{DAY, HOUR, START};
use gridctl_telemetry::{StoreOptions, Timestamp, testing::ClockReading};
use std::sync::{Arc, Mutex};

/// The clocks of a machine, and the time that a store should trust. Clones show the same time.
#[derive(Clone)]
pub(crate) struct Clock(Arc<Mutex<State>>);

struct State {
    reading: ClockReading,
    /// The time that a store expects: the last trusted time plus the elapsed time.
    expected: i64,
    /// The expected time since which the system clock differs from it.
    since: Option<i64>,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        Clock(Arc::new(Mutex::new(State {
            reading: ClockReading {
                wall: Timestamp::from_unix_nanos(START),
                boot_nanos: HOUR.cast_unsigned(),
                boot: 1,
            },
            expected: START,
            since: None,
        })))
    }

    /// The time of the system clock.
    pub(crate) fn wall(&self) -> i64 {
        self.0.lock().unwrap().reading.wall.unix_nanos()
    }

    /// The time by which age is judged: the earlier of the system clock and the expected time, and
    /// the system clock alone once a jump has persisted for a day.
    pub(crate) fn trusted(&self) -> i64 {
        let state = self.0.lock().unwrap();
        state.expected.min(state.reading.wall.unix_nanos())
    }

    /// Whether the system clock shows a time that is not trusted yet.
    pub(crate) fn has_jumped(&self) -> bool {
        self.0.lock().unwrap().since.is_some()
    }

    /// Sets the system clock ahead or back.
    pub(crate) fn set(&self, nanos: i64) {
        let mut state = self.0.lock().unwrap();
        let wall = state.advance(nanos);
        state.since = (wall != state.expected).then_some(state.expected);
    }

    /// Lets time pass.
    pub(crate) fn wait(&self, nanos: i64) {
        let mut state = self.0.lock().unwrap();
        let wall = state.advance(nanos);
        state.reading.boot_nanos += nanos.cast_unsigned();
        state.expected += nanos;
        if state
            .since
            .is_some_and(|since| state.expected - since >= DAY)
        {
            state.expected = wall;
            state.since = None;
        }
    }

    /// Turns the machine off and on again.
    pub(crate) fn reboot(&self, off: i64) {
        let mut state = self.0.lock().unwrap();
        state.expected = state.advance(off);
        state.reading.boot_nanos = 0;
        state.reading.boot += 1;
    }

    /// Runs `look` at a time at which no record has expired.
    pub(crate) fn long_ago<T>(&self, look: impl FnOnce() -> T) -> T {
        let long_ago = Timestamp::from_unix_nanos(i64::MIN);
        let wall = std::mem::replace(&mut self.0.lock().unwrap().reading.wall, long_ago);
        let outcome = look();
        self.0.lock().unwrap().reading.wall = wall;
        outcome
    }

    /// Options of a store on this machine.
    pub(crate) fn options(&self) -> StoreOptions {
        let clock = Arc::clone(&self.0);
        StoreOptions::default().clock(move || clock.lock().unwrap().reading)
    }
}

impl State {
    /// Moves the system clock, and returns its new time.
    fn advance(&mut self, nanos: i64) -> i64 {
        let wall = self.reading.wall.unix_nanos() + nanos;
        self.reading.wall = Timestamp::from_unix_nanos(wall);
        wall
    }
}
