//! The writer thread: takes messages from the queue, and commits and maintains when due.

use super::{
    WriterOptions,
    committer::{Committer, Replaced, now},
    outage::OutageEvent,
    policy::Instant,
    scrub::{SCRUB_INTERVAL, Scrub},
    writer::{Message, Shared},
};
use crate::{
    config::RetentionPolicy,
    error::{Error, Result},
    loss::LossCause,
    store::{Finding, KnownDamage, SetAsideNote, Store, WipeScope},
    time::Timestamp,
};
use crossbeam::{
    channel::{Receiver, Sender},
    utils::Backoff,
};
use std::{
    cell::Cell,
    collections::{HashSet, VecDeque},
    convert::Infallible,
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

/// The wait after the first failure; each further failure doubles it.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// The longest wait between attempts.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// The longest time that the thread looks for the next message before it sleeps.
const SPIN: Duration = Duration::from_micros(20);
/// The thread looks for messages before it sleeps if it slept shorter than this the last time.
const SHORT_SLEEP: Duration = Duration::from_micros(50);

/// The time between two looks at a running scrub.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The time between two looks at the known damage, to which other processes add.
const LOOK_INTERVAL_MAX: Duration = Duration::from_secs(60);

/// Maximum number of messages between two readings of the clock.
const MESSAGES_PER_LOOK: u32 = 64;

pub(super) fn start(
    store: &Store,
    options: &WriterOptions,
    queue: Receiver<Message>,
    shared: &Arc<Shared>,
    running: Sender<Infallible>,
) -> Result<JoinHandle<Result<()>>> {
    let listener = (options.on_outage.as_ref())
        .map(|listener| listener.start(&store.path()))
        .transpose()?;
    let committer = Committer::new(store, options, Arc::clone(&shared.counters))?;
    if committer.spiller.has_spill() {
        committer.spiller.start(queue.clone(), &store.path())?;
    }
    let mut writer = WriterThread {
        committer,
        requests: VecDeque::new(),
        queue,
        shared: Arc::clone(shared),
        outage: None,
        listener,
        unflushed_records: 0,
        set_aside: 0,
        damage: None,
        told: HashSet::new(),
        scrub: None,
        look_at: Instant::ZERO,
        scrub_at: None,
        clock: Clock::look(),
        spins: false,
        _running: running,
    };
    std::thread::Builder::new()
        .name("gridctl-telemetry".to_owned())
        .spawn(move || writer.run())
        .map_err(|error| Error::io("start the writer of", &store.path(), error))
}

/// When the scrub after one at `last` is due.
fn next_scrub(last: Timestamp) -> Timestamp {
    let interval = i64::try_from(SCRUB_INTERVAL.as_nanos()).unwrap_or(i64::MAX);
    Timestamp::from_unix_nanos(last.unix_nanos().saturating_add(interval))
}

thread_local! {
    static IS_WRITER: Cell<bool> = const { Cell::new(false) };
}

/// To be called by the threads that write.
pub(super) fn never_store_own_events() {
    IS_WRITER.set(true);
}

/// Whether this is a thread that writes. Its own log events must not be stored: each commit would
/// cause another.
pub(crate) fn is_writer_thread() -> bool {
    IS_WRITER.get()
}

struct WriterThread {
    committer: Committer,
    /// The requests that the spiller took from the queue while this thread was busy. They come before
    /// all messages that are in the queue.
    requests: VecDeque<Message>,
    queue: Receiver<Message>,
    shared: Arc<Shared>,
    outage: Option<Outage>,
    listener: Option<Sender<OutageEvent>>,
    /// The records that were stored in a file that was then replaced, and that no flush has reported.
    unflushed_records: u64,
    /// The number of files that were set aside and that the listener knows of.
    set_aside: usize,
    /// The damage reported last.
    damage: Option<String>,
    /// The damage that was known before this writer, or that it has told.
    told: HashSet<KnownDamage>,
    scrub: Option<Scrub>,
    /// When to look next at the scrub and at the known damage.
    look_at: Instant,
    /// When the next scrub is due; `None` until that was looked up.
    scrub_at: Option<Timestamp>,
    clock: Clock,
    /// Whether messages come so fast that the thread looks for the next one before it sleeps.
    spins: bool,
    /// Dropped when the thread ends, which wakes the callers that wait for its end.
    _running: Sender<Infallible>,
}

impl Drop for WriterThread {
    fn drop(&mut self) {
        // The batch is empty here unless the thread panicked. Records lost in a panic must be
        // counted.
        let _ = self.committer.abandon(LossCause::Closed);
        for message in (self.requests.drain(..)).chain(self.committer.spiller.stop()) {
            self.shared.refuse(message);
        }
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
    /// Works until the writer is closed. Fails like [`WriterGuard::close`](super::WriterGuard::close).
    fn run(&mut self) -> Result<()> {
        never_store_own_events();
        self.busy(false, |writer| {
            writer.prepare();
            writer.give_space_back();
        });
        loop {
            if self.shared.is_left_behind() && self.requests.is_empty() && self.queue.is_empty() {
                return self.close();
            }
            match self.next_message() {
                Some(Message::Record(record)) => self.committer.push(record, self.clock.now),
                Some(Message::Flush(answer)) => self.busy(true, |writer| writer.flush(&answer)),
                Some(Message::Wipe(scope, answer)) => {
                    self.busy(false, |writer| writer.wipe(&scope, &answer));
                }
                Some(Message::Retention(policy, answer)) => {
                    self.busy(false, |writer| writer.set_retention(&policy, &answer));
                }
                Some(Message::Dropped) => self.committer.note_drops(self.clock.now),
                Some(Message::Close) => return self.close(),
                None => {
                    let commits = self.is_commit_due();
                    self.busy(commits, |writer| writer.work(commits));
                }
            }
        }
    }

    /// Does `work`, during which the spiller takes the messages. `commits` says whether the work is a
    /// commit.
    fn busy<T>(&mut self, commits: bool, work: impl FnOnce(&mut WriterThread) -> T) -> T {
        self.committer.begin_work(now(), commits);
        let outcome = work(self);
        self.note_replacement();
        // All records at once: those that are in the spill when the next commit begins must be in its
        // batch, for it cuts them off. A request may wait until records behind it are collected.
        let now = now();
        for message in self.committer.end_work() {
            match message {
                Message::Record(record) => self.committer.push(record, now),
                request => self.requests.push_back(request),
            }
        }
        outcome
    }

    /// The next message, if it is there.
    fn try_next(&mut self) -> Option<Message> {
        (self.requests.pop_front()).or_else(|| self.queue.try_recv().ok())
    }

    /// Waits for a message until the next commit or maintenance is due. Returns `None` when it is.
    fn next_message(&mut self) -> Option<Message> {
        let wake = match &self.outage {
            Some(outage) => outage.retry_at,
            None => self.committer.due().min(self.look_at),
        };
        if self.clock.now < wake
            && self.clock.messages < MESSAGES_PER_LOOK
            && let Some(message) = self.try_next()
        {
            self.clock.messages += 1;
            return Some(message);
        }
        loop {
            self.clock = Clock::look();
            let now = self.clock.now;
            if wake <= now {
                return None;
            }
            if let Some(message) = self.try_next() {
                return Some(message);
            }
            match self.committer.spill_due().filter(|due| *due < wake) {
                Some(due) if due <= now => self.committer.spill_rest(now, wake),
                due => {
                    let until = due.unwrap_or(wake);
                    self.wait_for_message(until.saturating_sub(now));
                }
            }
        }
    }

    /// Waits for a message for up to about `duration`. Under load, when the next one comes within
    /// microseconds, it does not sleep: its producer would have to wake it, which takes longer than
    /// all else that a record costs the producer.
    fn wait_for_message(&mut self, duration: Duration) {
        let started = now();
        let backoff = Backoff::new();
        while self.spins && now().saturating_sub(started) < SPIN {
            if !self.queue.is_empty() {
                return;
            }
            backoff.spin();
        }
        self.shared.wait_for_message(duration);
        self.spins = now().saturating_sub(started) < SHORT_SLEEP;
    }

    fn is_commit_due(&self) -> bool {
        let due = self.committer.commit_due();
        self.outage.is_some() || due.is_some_and(|due| due <= self.clock.now)
    }

    /// Performs the commit or the maintenance that is due.
    fn work(&mut self, commits: bool) {
        if commits {
            // `commit` reports its failures itself, and retries what it could not store.
            let _ = self.commit();
        } else if self.committer.maintenance_due <= self.clock.now {
            match self.committer.maintain(self.clock.now) {
                Ok(()) => {}
                // Retrying cannot repair damage, and storing must continue.
                Err(error @ Error::Corrupt { .. }) => self.report_damage(error.to_string()),
                Err(error) => self.fail(&error),
            }
        }
        if self.look_at <= self.clock.now && self.outage.is_none() {
            self.scrub();
            self.tell_damage();
            // Measured from the end, so that the messages that have arrived come first.
            self.look_at = now()
                + if self.scrub.is_some() {
                    LOOK_INTERVAL
                } else {
                    LOOK_INTERVAL_MAX
                };
        }
    }

    /// Checks the file before the first commit. Records are queued meanwhile.
    fn prepare(&mut self) {
        if let Err(error) = self.committer.prepare() {
            self.fail(&error);
        }
        if let Ok(known) = self.known_damage() {
            self.told.extend(known);
        }
    }

    fn known_damage(&self) -> Result<Vec<KnownDamage>> {
        self.committer.writer.store().snapshot()?.known_damage()
    }

    /// Starts a scrub when it is due, and enters what it found when it has ended.
    fn scrub(&mut self) {
        let outcome = match &self.scrub {
            Some(scrub) => match scrub.outcome() {
                Some(outcome) => outcome.and_then(|found| self.note_scrub(&found)),
                None => return,
            },
            None => self.start_scrub_if_due(),
        };
        if let Err(error) = outcome {
            tracing::warn!(
                subsystem = "telemetry",
                %error,
                "cannot check stored telemetry for damage; the next attempt is tomorrow"
            );
            self.scrub_at = Some(next_scrub(Timestamp::now()));
            self.scrub = None;
        }
    }

    fn note_scrub(&mut self, findings: &[Finding]) -> Result<()> {
        self.scrub = None;
        self.scrub_at = Some(next_scrub(Timestamp::now()));
        self.committer.writer.note_scrub(findings)
    }

    fn start_scrub_if_due(&mut self) -> Result<()> {
        let store = self.committer.writer.store();
        let due = match self.scrub_at {
            Some(due) => due,
            None if store.was_unclean() => Timestamp::MIN,
            None => next_scrub(store.snapshot()?.last_scrub()?.unwrap_or(Timestamp::now())),
        };
        self.scrub_at = Some(due);
        if due <= Timestamp::now() {
            self.scrub = Some(Scrub::start(store)?);
        }
        Ok(())
    }

    /// Tells of damage that was found since the last time.
    fn tell_damage(&mut self) {
        let Ok(known) = self.known_damage() else {
            return;
        };
        for damage in known {
            if !self.told.insert(damage.clone()) {
                continue;
            }
            self.report_damage(damage.to_string());
            self.tell_listener(OutageEvent::Damaged {
                server: damage.server,
                signal: damage.signal,
                records: damage.records,
                what: damage.what,
            });
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
        // The caller may have stopped waiting.
        let committed = self.commit().map_err(not_flushed);
        let _ = answer.send(committed.and_then(|()| self.tell_of_replacement()));
    }

    /// Reports that the database was set aside, or replaced by another file.
    fn note_replacement(&mut self) {
        let set_aside = self.committer.writer.store().set_aside_notes();
        for note in set_aside.into_iter().skip(self.set_aside) {
            let SetAsideNote { at, path, reason } = note;
            self.tell_listener(OutageEvent::SetAside { at, path, reason });
            self.set_aside += 1;
        }
        let Some(Replaced { at, records }) = self.committer.take_replaced() else {
            return;
        };
        tracing::error!(
            subsystem = "telemetry",
            records,
            "the telemetry database was replaced or deleted while it was open; telemetry is stored in \
             the file that is at its path now, which lacks the records that were stored before"
        );
        self.tell_listener(OutageEvent::Replaced { at, records });
        self.unflushed_records += records;
    }

    /// Fails, once, if records that were stored are no longer in the database.
    fn tell_of_replacement(&mut self) -> Result<()> {
        self.note_replacement();
        let records = self.unflushed_records;
        if !self.shared.is_closed() {
            // Otherwise the caller asks again, for the outcome of the close.
            self.unflushed_records = 0;
        }
        if records == 0 {
            return Ok(());
        }
        let path = self.committer.writer.store().path();
        Err(Error::NotFlushed {
            reason: format!(
                "the database was replaced or deleted, and {records} records that were stored in it \
                 are not in the present one; later records are"
            ),
            source: Some(Box::new(Error::DatabaseReplaced { path })),
        })
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

    fn close(&mut self) -> Result<()> {
        self.scrub = None;
        // All records that it has spilled are in the batch.
        self.committer.spiller.stop();
        self.busy(true, WriterThread::commit_rest_and_leave)
    }

    fn commit_rest_and_leave(&mut self) -> Result<()> {
        // Records that producers queued while the guard was closing.
        while let Some(message) = self.try_next() {
            match message {
                Message::Record(record) => self.committer.push(record, now()),
                Message::Flush(answer) => self.flush(&answer),
                Message::Wipe(scope, answer) => self.wipe(&scope, &answer),
                Message::Retention(policy, answer) => self.set_retention(&policy, &answer),
                Message::Dropped | Message::Close => {}
            }
        }
        let committed = self.commit().map_err(not_flushed);
        if committed.is_err() && self.committer.leave_in_spill() {
            return committed;
        }
        let left = if self.outage.is_some() {
            let losses = self.committer.abandon(LossCause::DiskFault);
            self.committer.leave_with_losses(losses)
        } else {
            // If the disk is full by now, the reserve has room for it.
            (self.committer.leave()).or_else(|_| self.committer.leave_with_losses(Vec::new()))
        };
        match left {
            Ok(()) if self.outage.is_none() => self.give_space_back(),
            Ok(()) => {}
            // The next writer will report that this one did not end properly.
            Err(error) => self.fail(&error),
        }
        committed.and_then(|()| self.tell_of_replacement())
    }

    /// Commits all collected records, after reopening the store if the last attempt failed, and seals
    /// what is ripe. A failure of either starts or prolongs an outage; only one of the commit is
    /// returned, because without it the records are on the disk.
    fn commit(&mut self) -> Result<()> {
        let is_full = self.outage.as_ref().is_some_and(|outage| outage.is_full);
        let mut ready = self.reopen_after_failure();
        if ready.is_ok() && is_full {
            // On a full disk, pages freed by eviction can hold the next records.
            ready = self.committer.free_space();
        }
        if let Err(error) = ready.and_then(|()| self.committer.commit(now())) {
            self.fail(&error);
            return Err(error);
        }
        self.shared.notify_room();
        match self.committer.seal(now()) {
            Err(error) => self.fail(&error),
            Ok(()) => {
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
            }
        }
        Ok(())
    }

    fn reopen_after_failure(&mut self) -> Result<()> {
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

fn not_flushed(error: Error) -> Error {
    Error::NotFlushed {
        reason: error.to_string(),
        source: Some(Box::new(error)),
    }
}

#[cfg(test)]
mod tests {
    use crate::ingest::queue::{Bounds, Queue};
    use std::{
        sync::{
            Arc, Barrier,
            atomic::{AtomicUsize, Ordering},
        },
        thread,
        time::Duration,
    };

    /// A thread that looks for messages all the time takes a whole processor.
    #[test]
    fn the_thread_sleeps_until_there_is_a_message() {
        let bounds = Bounds {
            messages_max: 2,
            bytes_max: 100,
            blocks: false,
        };
        let (queue, messages) = Queue::new(bounds, Arc::default(), Box::new(|()| {}));
        let begun = Barrier::new(2);
        let looks = AtomicUsize::new(0);
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                begun.wait();
                while messages.try_recv().is_err() {
                    looks.fetch_add(1, Ordering::Relaxed);
                    queue.wait_for_message(Duration::from_secs(3600));
                }
            });
            begun.wait();
            for _ in 0..20_000 {
                thread::yield_now();
            }
            queue.offer((), 1).unwrap();
            thread.join().unwrap();
        });
        let looks = looks.into_inner();
        assert!(looks < 100, "{looks} looks for one message");
    }
}
