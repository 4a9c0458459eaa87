//! A real store on a machine of the model.

use super::clock::Clock;
use crate::common::{STACK, home_in_memory, server};
use gridctl_telemetry::{Record, Store, WriterOptions, testing::SimulatedWriter};
use std::time::Duration;
use tempfile::TempDir;

/// A store, and a writer without a thread, which works only when a test calls it.
pub(crate) struct World {
    pub(crate) home: TempDir,
    pub(crate) clock: Clock,
    pub(crate) store: Store,
    pub(crate) writer: SimulatedWriter,
    /// The writer's time.
    pub(crate) time: Duration,
    options: WriterOptions,
}

impl World {
    pub(crate) fn new(options: WriterOptions) -> World {
        // Generated text can look like a secret.
        let options = options.redactor(None);
        let home = home_in_memory();
        let clock = Clock::new();
        let store = Store::open(home.path(), STACK, clock.options()).unwrap();
        let writer = SimulatedWriter::new(&store, options.clone()).unwrap();
        World {
            home,
            clock,
            store,
            writer,
            time: Duration::ZERO,
            options,
        }
    }

    pub(crate) fn offer(&mut self, name: &str, record: &Record) {
        self.writer
            .record(&server(name), record, self.time)
            .unwrap();
    }

    pub(crate) fn commit(&mut self) {
        self.writer.flush(self.time).unwrap();
    }

    /// Lets this much of the writer's time pass, in which the writer does all work that is due.
    pub(crate) fn work(&mut self, time: Duration) {
        self.time += time;
        self.writer.advance(self.time).unwrap();
    }

    /// Restarts as after a kill: uncommitted records are lost.
    pub(crate) fn restart(&mut self) {
        // All handles of a process share an engine, so another file is opened in between.
        for stack in ["other", STACK] {
            let options = self.clock.options();
            self.store = Store::open(self.home.path(), stack, options).unwrap();
            self.writer = SimulatedWriter::new(&self.store, self.options.clone()).unwrap();
        }
        self.time = Duration::ZERO;
    }

    /// The same store, opened for reading on a machine with these clocks.
    pub(crate) fn reader(&self, clock: &Clock) -> Store {
        Store::open_read_only(self.home.path(), STACK, clock.options())
            .unwrap()
            .unwrap()
    }
}
