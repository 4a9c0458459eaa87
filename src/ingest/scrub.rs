//! The scrub: a check of all stored records beside a running writer.
//!
//! redb does not verify what it reads, and a damaged page can hide records without an error. So all records are
//! read once a day, and soon after a writer was killed: the checksums of rows and blocks, the order of keys,
//! and the counts of each series. A thread of its own does that, slowly and from short snapshots, and nothing
//! waits for it. The writer thread enters what it finds in the database.

use crate::{
    error::{Error, Result},
    read::VerifyOptions,
    store::{Finding, Store},
};
use crossbeam::channel::{Receiver, Sender};
use std::{
    convert::Infallible,
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// The time between two scrubs.
pub(super) const SCRUB_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);
/// A scrub rests this number of times as long as it works.
const REST_TIMES: u32 = 9;
/// Its longest rest.
const REST_MAX: Duration = Duration::from_secs(1);
/// Maximum number of findings of a scrub. Beyond that, a list no longer says more.
const FINDINGS_MAX: usize = 1000;

/// A scrub that runs.
pub(super) struct Scrub {
    thread: Option<JoinHandle<()>>,
    outcome: Receiver<Result<Vec<Finding>>>,
    /// Dropped to end the scrub.
    stop: Option<Sender<Infallible>>,
}

impl Scrub {
    /// Starts a scrub.
    ///
    /// Fails with [`Error::Io`] when the thread cannot be started.
    pub(super) fn start(store: &Store) -> Result<Scrub> {
        let (stop, stopped) = crossbeam::channel::bounded::<Infallible>(0);
        let (sender, outcome) = crossbeam::channel::bounded(1);
        let (scrubbed, path) = (store.clone(), store.path());
        let thread = std::thread::Builder::new()
            .name("gridctl-telemetry-scrub".to_owned())
            .spawn(move || {
                let outcome = scrub(&scrubbed, stopped);
                // Before the end is told: it keeps the file open.
                drop(scrubbed);
                let _ = sender.send(outcome);
            })
            .map_err(|error| Error::io("start the scrub of", &path, error))?;
        Ok(Scrub {
            thread: Some(thread),
            outcome,
            stop: Some(stop),
        })
    }

    /// What it found, if it has ended.
    pub(super) fn outcome(&self) -> Option<Result<Vec<Finding>>> {
        self.outcome.try_recv().ok()
    }
}

impl Drop for Scrub {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It ends after the block that it reads. A panic in it has been reported.
            let _ = thread.join();
        }
    }
}

fn scrub(store: &Store, stopped: Receiver<Infallible>) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let resting = stopped.clone();
    let started = std::sync::Mutex::new(Instant::now());
    let options = VerifyOptions::default()
        .cancel_when(move || {
            stopped
                .try_recv()
                .is_err_and(|error| error.is_disconnected())
        })
        .between_snapshots(move || {
            let mut started = started
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            let rest = (started.elapsed() * REST_TIMES).min(REST_MAX);
            // Ends at once when the scrub is to end.
            let _ = resting.recv_timeout(rest);
            *started = Instant::now();
        });
    store.verify(&options, |finding| {
        if findings.len() < FINDINGS_MAX {
            findings.push(finding);
        }
    })?;
    Ok(findings)
}
