//! Writers of one database that log, are closed and started, and wipe at random.

use super::{Random, STACK, numbers, on_demand, open, record, server};
use gridctl_telemetry::{
    Signal, Timestamp, Writer, WriterGuard,
    maintenance::{WipeScope, wipe},
};
use tempfile::TempDir;

/// The servers that they log for.
pub(crate) const SERVERS: [&str; 3] = ["a", "b", "c"];

/// Three writers, and what must be stored once they are flushed.
pub(crate) struct Writers {
    pub(crate) home: TempDir,
    running: Vec<(Writer, WriterGuard)>,
    /// The numbers of the records of each server.
    expected: [Vec<u64>; 3],
    /// The number of the next record.
    pub(crate) next: u64,
}

impl Writers {
    pub(crate) fn start(home: TempDir) -> Writers {
        let start = |_| Writer::start(&open(home.path()), on_demand()).unwrap();
        Writers {
            running: (0..3).map(start).collect(),
            home,
            expected: Default::default(),
            next: 0,
        }
    }

    /// A writer logs fewer than `count` records of a server.
    pub(crate) fn log(&mut self, count: usize, random: &mut Random) {
        let (writer, name) = (random.below(3), random.below(3));
        for _ in 0..random.below(count) {
            let (writer, _) = &self.running[writer];
            writer
                .log(&server(SERVERS[name]), &record(self.next))
                .unwrap();
            self.expected[name].push(self.next);
            self.next += 1;
        }
    }

    pub(crate) fn flush(&mut self, random: &mut Random) {
        self.running[random.below(3)].0.flush().unwrap();
    }

    /// Closes a writer and starts another one.
    pub(crate) fn restart(&mut self, random: &mut Random) {
        let (_, guard) = self.running.swap_remove(random.below(3));
        guard.close().unwrap();
        let store = open(self.home.path());
        self.running
            .push(Writer::start(&store, on_demand()).unwrap());
    }

    /// A writer wipes, which stores first what it has queued.
    pub(crate) fn wipe(&mut self, scope: &WipeScope, random: &mut Random) {
        self.running[random.below(3)].0.wipe(scope).unwrap();
        self.expect_wiped(scope);
    }

    /// No writer wipes, but another handle.
    pub(crate) fn wipe_from_outside(&mut self, scope: &WipeScope) {
        wipe(self.home.path(), STACK, scope).unwrap();
        self.expect_wiped(scope);
    }

    fn expect_wiped(&mut self, scope: &WipeScope) {
        if scope.signal == Some(Signal::Traces) {
            return;
        }
        for (numbers, of) in self.expected.iter_mut().zip(SERVERS) {
            if scope.server.as_ref().is_none_or(|name| name.as_str() == of) {
                let is_after = |time: Timestamp| scope.before.is_some_and(|before| time >= before);
                numbers.retain(|number| is_after(record(*number).timestamp));
            }
        }
    }

    /// Checks, once all writers are flushed, that what must be stored is, and that the tables agree.
    pub(crate) fn check(&self) {
        for (writer, _) in &self.running {
            writer.flush().unwrap();
        }
        let snapshot = open(self.home.path()).snapshot().unwrap();
        snapshot.check().unwrap();
        let found = numbers(&snapshot);
        for (name, numbers) in SERVERS.iter().zip(&self.expected) {
            let found = found.get(*name).cloned().unwrap_or_default();
            assert_eq!(found, *numbers, "{name}");
        }
    }
}
