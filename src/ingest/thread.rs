//! The writer thread: takes messages from the queue, and commits and maintains when due.

use super::{
    WriterOptions,
    committer::{self, Committer, now},
    outage::OutageEvent,
    policy::Instant,
    writer::{Message, Shared},
};
use crate::{
    config::RetentionPolicy,
    error::{Error, Result},
    loss::LossCause,
    store::{Store, WipeScope},
    time::Timestamp,
};
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender};
use std::{cell::Cell, convert::Infallible, sync::Arc, thread::JoinHandle, time::Duration};

/// The wait after the first failure; each further failure doubles it.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// The longest wait between attempts.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Maximum number of messages between two readings of the clock.
const MESSAGES_PER_LOOK: u32 = 64;

pub(super) fn start(
    store: &Store,
    options: &WriterOptions,
    queue: Receiver<Message>,
    shared: &Arc<Shared>,
    running: Sender<Infallible>,
) -> Result<JoinHandle<()>> {
    let listener = (options.on_outage.as_ref())
        .map(|listener| listener.start(&store.path()))
        .transpose()?;
    let committer = Committer::new(store, options, Arc::clone(&shared.counters))?;
    let mut writer = WriterThread {
        committer,
        queue,
        shared: Arc::clone(shared),
        outage: None,
        listener,
        damage: None,
        clock: Clock::look(),
        _running: running,
    };
    std::thread::Builder::new()
        .name("gridctl-telemetry".to_owned())
        .spawn(move || writer.run())
        .map_err(|error| Error::io("start the writer of", &store.path(), error))
}

thread_local! {
    static IS_WRITER: Cell<bool> = const { Cell::new(false) };
}

/// Whether this is a writer thread. Its own log events must not be stored: each commit would cause
/// another.
pub(crate) fn is_writer_thread() -> bool {
    IS_WRITER.get()
}

struct WriterThread {
    committer: Committer,
    queue: Receiver<Message>,
    shared: Arc<Shared>,
    outage: Option<Outage>,
    listener: Option<Sender<OutageEvent>>,
    /// The damage reported last.
    damage: Option<String>,
    clock: Clock,
    /// Dropped when the thread ends, which wakes the callers that wait for its end.
    _running: Sender<Infallible>,
}

impl Drop for WriterThread {
    fn drop(&mut self) {
        // The batch is empty here unless the thread panicked. Records lost in a panic must be
        // counted.
        let _ = self.committer.abandon(LossCause::Closed);
        self.shared.end();
    }
}

/// A cached clock reading, refreshed at least every 64 messages. Under load, reading the clock for
/// each message would take as long as all other work on it.
struct Clock {
    now: Instant,
    /// The number of messages since the last reading.
    messages: u32,
}

impl Clock {
    fn look() -> Clock {
        Clock {
            now: now(),
            messages: 0,
        }
    }
}

/// A period during which the disk fails.
struct Outage {
    since: Timestamp,
    retry_at: Instant,
    wait: Duration,
    /// Whether the disk is full.
    is_full: bool,
}

impl WriterThread {
    fn run(&mut self) {
        IS_WRITER.set(true);
        self.give_space_back();
        loop {
            if self.shared.is_left_behind() && self.queue.is_empty() {
                self.close();
                return;
            }
            match self.next_message() {
                Ok(Message::Record(record)) => self.committer.push(record, self.clock.now),
                Ok(Message::Flush(answer)) => self.flush(&answer),
                Ok(Message::Wipe(scope, answer)) => self.wipe(&scope, &answer),
                Ok(Message::Retention(policy, answer)) => self.set_retention(&policy, &answer),
                Ok(Message::Dropped) => self.committer.note_drops(self.clock.now),
                Err(RecvTimeoutError::Timeout) => self.work(),
                Ok(Message::Close) | Err(RecvTimeoutError::Disconnected) => {
                    self.close();
                    return;
                }
            }
        }
    }

    /// Waits for a message until the next commit or maintenance is due.
    fn next_message(&mut self) -> Result<Message, RecvTimeoutError> {
        let wake = match &self.outage {
            Some(outage) => outage.retry_at,
            None => self.committer.due(),
        };
        if self.clock.now < wake
            && self.clock.messages < MESSAGES_PER_LOOK
            && let Ok(message) = self.queue.try_recv()
        {
            self.clock.messages += 1;
            return Ok(message);
        }
        let message = loop {
            let now = committer::now();
            let Some(wait) = wake.checked_sub(now) else {
                break Err(RecvTimeoutError::Timeout);
            };
            match self.committer.spill_due().filter(|due| *due < wake) {
                Some(due) => match self.queue.recv_timeout(due.saturating_sub(now)) {
                    Err(RecvTimeoutError::Timeout) => {
                        self.committer.spill_rest(committer::now(), wake);
                    }
                    message => break message,
                },
                None => break self.queue.recv_timeout(wait),
            }
        };
        self.clock = Clock::look();
        message
    }

    /// Performs the commit or the maintenance that is due.
    fn work(&mut self) {
        let commit_due = self
            .committer
            .commit_due()
            .is_some_and(|due| due <= self.clock.now);
        if commit_due || self.outage.is_some() {
            // `commit` reports its failures itself, and retries what it could not store.
            let _ = self.commit();
        } else {
            match self.committer.maintain(self.clock.now) {
                Ok(()) => {}
                // Retrying cannot repair damage, and storing must continue.
                Err(error @ Error::Corrupt { .. }) => self.report_damage(error.to_string()),
                Err(error) => self.fail(&error),
            }
        }
    }

    /// Logs damage once, not at every round of maintenance.
    fn report_damage(&mut self, error: String) {
        if self.damage.as_ref() != Some(&error) {
            tracing::error!(
                subsystem = "telemetry",
                error,
                "stored telemetry is damaged"
            );
            self.damage = Some(error);
        }
    }

    fn flush(&mut self, answer: &Sender<Result<()>>) {
        let outcome = self.commit().map_err(|error| Error::NotFlushed {
            reason: error.to_string(),
            source: Some(Box::new(error)),
        });
        // The caller may have stopped waiting.
        let _ = answer.send(outcome);
    }

    fn wipe(&mut self, scope: &WipeScope, answer: &Sender<Result<usize>>) {
        let outcome = self
            .reopen_after_failure()
            .and_then(|()| self.committer.wipe(scope));
        match &outcome {
            Ok(_) => self.give_space_back(),
            Err(error) => self.fail(error),
        }
        let _ = answer.send(outcome);
    }

    /// Compacts a little where a wipe or eviction probably left free pages.
    fn give_space_back(&self) {
        if let Err(error) = self.committer.give_space_back() {
            // A later compaction can do this; if the disk is at fault, the next commit reports it.
            tracing::warn!(
                subsystem = "telemetry",
                error = error.to_string(),
                "cannot compact telemetry; it takes more disk space than it needs"
            );
        }
    }

    fn set_retention(&mut self, policy: &RetentionPolicy, answer: &Sender<Result<()>>) {
        let outcome = self
            .reopen_after_failure()
            .and_then(|()| self.committer.set_retention(policy, self.clock.now));
        if let Err(error) = &outcome {
            self.fail(error);
        }
        let _ = answer.send(outcome);
    }

    fn close(&mut self) {
        // Records that producers queued while the guard was closing.
        while let Ok(message) = self.queue.try_recv() {
            match message {
                Message::Record(record) => self.committer.push(record, now()),
                Message::Flush(answer) => self.flush(&answer),
                Message::Wipe(scope, answer) => self.wipe(&scope, &answer),
                Message::Retention(policy, answer) => self.set_retention(&policy, &answer),
                Message::Dropped | Message::Close => {}
            }
        }
        if self.commit().is_err() {
            if self.committer.leave_in_spill() {
                return;
            }
            let losses = self.committer.abandon(LossCause::DiskFault);
            if let Err(error) = self.committer.leave_with_losses(losses) {
                // The next writer will report that this one did not end properly.
                self.fail(&error);
            }
        } else if let Err(error) = self.committer.leave() {
            // The next writer will wrongly report a crash, but no record is lost.
            self.fail(&error);
        } else {
            self.give_space_back();
        }
    }

    /// Commits all collected records, after reopening the store if the last attempt failed. A
    /// failure starts or prolongs an outage.
    fn commit(&mut self) -> Result<()> {
        let is_full = self.outage.as_ref().is_some_and(|outage| outage.is_full);
        let mut ready = self.reopen_after_failure();
        if ready.is_ok() && is_full {
            // On a full disk, pages freed by eviction can hold the next records.
            ready = self.committer.free_space();
        }
        match ready.and_then(|()| self.committer.commit(now())) {
            Ok(()) => {
                self.shared.notify_room();
                if let Some(outage) = self.outage.take() {
                    self.committer.note_recovery();
                    let (since, until) = (outage.since, Timestamp::now());
                    tracing::info!(
                        subsystem = "telemetry",
                        %since,
                        "telemetry is stored again"
                    );
                    self.tell_listener(OutageEvent::Ended { since, until });
                }
                Ok(())
            }
            Err(error) => {
                self.fail(&error);
                Err(error)
            }
        }
    }

    fn reopen_after_failure(&self) -> Result<()> {
        match &self.outage {
            Some(_) => self.committer.reopen(),
            None => Ok(()),
        }
    }

    fn tell_listener(&self, event: OutageEvent) {
        if let Some(listener) = &self.listener {
            // The listener's thread does not end before this one.
            let _ = listener.send(event);
        }
    }

    fn fail(&mut self, error: &Error) {
        let now = now();
        let since = self.committer.note_failure(error);
        if let Some(outage) = &mut self.outage {
            outage.wait = (outage.wait * 2).min(RETRY_MAX);
            outage.retry_at = now + outage.wait;
            outage.is_full = matches!(error, Error::StorageFull { .. });
            return;
        }
        // Once per outage: a line for every attempt would bury other log lines.
        tracing::error!(
            subsystem = "telemetry",
            %error,
            "telemetry cannot be stored; records are kept in memory while there is room"
        );
        let wait = RETRY_MIN;
        self.tell_listener(OutageEvent::Began {
            since,
            error: error.to_string(),
        });
        self.outage = Some(Outage {
            since,
            retry_at: now + wait,
            wait,
            is_full: matches!(error, Error::StorageFull { .. }),
        });
    }
}
