//! One signal on its way: its records are read, sent in batches, and noted as sent.
//!
//! Records are sent in stretches: all that had arrived at some moment, in the order of their times, then those that
//! have arrived since. So a record that comes late with an old time is sent, too. A stretch is read from one snapshot
//! after the other, because an old one pins pages of the database: none is held while a batch is sent again.

use crate::{
    answer::Verdict,
    backoff::{Backoff, LONGEST},
    client::Client,
    cursor::{CursorFile, Position},
    error::ForwardError,
    forwarder::Shared,
    reading::{Place, Reader, Reading, Stretch},
    refused,
    source::News,
    stats::{ForwardEvent, SignalStats},
};
use gridctl_telemetry::{
    Error, ServerName, Signal, Store, Timestamp,
    ledger::LedgerEntry,
    send::{self, OtlpBatch},
};
use std::{
    collections::BTreeMap,
    mem,
    ops::Range,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

/// The maximum number of records of a batch.
const RECORDS_MAX: usize = 4096;
/// How often a batch is sent to an endpoint whose answers are none of OTLP.
const UNCLEAR_MAX: u32 = 5;
/// How often the cursor file is written before that is given up, where it can be.
const SAVES_MAX: u32 = 3;
/// How often the inventory is asked whether a wipe deleted what was sent.
const CAUGHT_UP_INTERVAL: Duration = Duration::from_secs(60);
/// How long an answer is waited for when forwarding is to end, and how often that is looked at.
const ANSWER_GRACE: Duration = Duration::from_millis(400);
const ANSWER_INTERVAL: Duration = Duration::from_millis(50);

/// What of a signal is forwarded, and how.
pub(crate) struct Lane {
    pub(crate) signal: Signal,
    pub(crate) servers: Vec<ServerName>,
    pub(crate) follow: bool,
    pub(crate) give_up_after: Option<Duration>,
    pub(crate) store: Store,
    pub(crate) folder: PathBuf,
    pub(crate) cursor: Arc<CursorFile>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) reader: Reader,
}

/// Why a lane goes on or ends.
enum Step {
    GoOn,
    /// Forwarding is to end.
    Stop,
}

/// What became of a body that was sent.
enum Sent {
    Taken,
    TooLarge(String),
    Refused(String),
    Stopped,
}

/// A lane that runs.
struct Running {
    lane: Arc<Lane>,
    client: Arc<Client>,
    jobs: Sender<(Arc<Vec<u8>>, u64)>,
    answers: Receiver<Verdict>,
    position: Position,
    /// What was known about the store when the present stretch began.
    news: News,
    reading: Reading,
    /// The maximum number of records of a batch, less after the endpoint found one too large.
    records_max: usize,
    batches_since_too_large: u32,
    backoff: Backoff,
    /// The trouble that was reported last.
    trouble: Option<String>,
    caught_up_at: Option<Instant>,
    /// Whether the endpoint may have a batch that the cursor file does not know.
    is_uncertain: bool,
}

impl Lane {
    /// Forwards until all is sent, or until the end if it follows.
    ///
    /// Fails when records cannot be forwarded, see [`ForwardError`].
    pub(crate) fn run(self: &Arc<Lane>, client: Client) -> Result<(), ForwardError> {
        let client = Arc::new(client);
        let (jobs, todo) = channel::<(Arc<Vec<u8>>, u64)>();
        let (done, answers) = channel();
        let sending = Arc::clone(&client);
        // A thread of its own: a request cannot be interrupted, and the end must not wait for its answer.
        thread::Builder::new()
            .name(format!("forward-{}", self.signal))
            .spawn(move || {
                for (body, records) in todo {
                    if done.send(sending.send(&body, records)).is_err() {
                        return;
                    }
                }
            })
            .map_err(|error| ForwardError::Option(format!("cannot start a thread: {error}")))?;
        let position = self.cursor.position(self.signal).unwrap_or_default();
        let news = self.shared.source.news();
        let mut running = Running {
            lane: Arc::clone(self),
            client,
            jobs,
            answers,
            reading: Reading::new(self.new_batch(position.database)),
            position,
            news,
            records_max: RECORDS_MAX,
            batches_since_too_large: 0,
            backoff: Backoff::default(),
            trouble: None,
            caught_up_at: None,
            is_uncertain: false,
        };
        running.begin()?;
        let outcome = running.run();
        running.end(outcome)
    }

    fn new_batch(&self, database: u64) -> OtlpBatch {
        let batch = OtlpBatch::new(self.signal).name_servers();
        (send::origin(database).iter()).fold(batch, |batch, (key, value)| {
            batch.resource_default(key, value)
        })
    }

    pub(crate) fn tell(&self, event: ForwardEvent) {
        self.shared.tell(event);
    }

    pub(crate) fn count(&self, change: impl FnOnce(&mut SignalStats)) {
        self.shared.count(self.signal, change);
    }
}

impl Running {
    /// Stores that this run has begun: before anything is sent, so that a folder or a disk that takes no cursor is
    /// known.
    fn begin(&mut self) -> Result<(), ForwardError> {
        if self.position.is_open {
            self.lane.tell(ForwardEvent::Resumed {
                signal: self.lane.signal,
                records_max: RECORDS_MAX as u64,
            });
        }
        self.position.is_open = true;
        self.adopt_database();
        let saved = self.lane.cursor.save(self.lane.signal, &self.position);
        saved.map_err(|reason| ForwardError::Unsaved {
            signal: self.lane.signal,
            records: 0,
            reason,
        })
    }

    /// Stores how far the signal was sent, and whether a batch may be on its way.
    fn end(mut self, outcome: Result<Step, ForwardError>) -> Result<(), ForwardError> {
        self.release();
        self.position.is_open = self.is_uncertain;
        let saved = self.lane.cursor.save(self.lane.signal, &self.position);
        outcome?;
        saved.map_err(|reason| ForwardError::Unsaved {
            signal: self.lane.signal,
            records: 0,
            reason,
        })
    }

    fn run(&mut self) -> Result<Step, ForwardError> {
        let shared = Arc::clone(&self.lane.shared);
        let source = &shared.source;
        // A run that does not follow sends what is stored now.
        let goal = self.news.next_sequence;
        loop {
            let news = source.news();
            if news.is_stopped {
                return Ok(Step::Stop);
            }
            if news.replaced != self.news.replaced {
                self.begin_anew(news);
            }
            if self.position.since_sequence >= self.position.end_sequence {
                let end = if self.lane.follow {
                    news.next_sequence
                } else {
                    goal
                };
                if self.position.end_sequence >= end {
                    self.lane.count(|stats| stats.is_caught_up = true);
                    if !self.lane.follow {
                        return Ok(Step::GoOn);
                    }
                    self.news = source.wait_for_other(news);
                    // A replacement is noticed above.
                    self.news.replaced = news.replaced;
                    continue;
                }
                self.adopt_database();
                self.position.since_sequence = self.position.end_sequence;
                self.position.end_sequence = end;
                self.position.after = None;
            }
            self.lane.count(|stats| stats.is_caught_up = false);
            let step = match self.fill()? {
                Ok(true) => match self.deliver()? {
                    Step::GoOn if self.reading.is_read => {
                        self.end_stretch()?;
                        Step::GoOn
                    }
                    step => step,
                },
                Ok(false) => {
                    self.end_stretch()?;
                    Step::GoOn
                }
                Err(error) => self.wait_after(error)?,
            };
            if let Step::Stop = step {
                return Ok(Step::Stop);
            }
        }
    }

    /// A position that has sent nothing belongs to the database that is there.
    fn adopt_database(&mut self) {
        let database = self.lane.shared.source.news().database;
        if self.position.database == 0 && database != 0 {
            self.position.database = database;
            self.reading.batch = self.lane.new_batch(database);
        }
    }

    /// The database was replaced. One that only has another file, such as a restored copy with all that was sent, is
    /// continued.
    fn begin_anew(&mut self, news: News) {
        self.release();
        self.news = news;
        let is_same = news.database == self.position.database
            && news.next_sequence >= self.position.end_sequence;
        if !is_same {
            self.position = Position {
                is_open: true,
                ..Position::default()
            };
            self.adopt_database();
            self.lane.tell(ForwardEvent::Replaced {
                signal: self.lane.signal,
            });
        }
    }

    /// Waits after an error of the store, if it is to be read again.
    fn wait_after(&mut self, error: Error) -> Result<Step, ForwardError> {
        self.release();
        self.reading.batch.clear();
        if !self.lane.follow {
            return Err(error.into());
        }
        let reason = error.to_string();
        if self.trouble.as_ref() != Some(&reason) {
            self.trouble = Some(reason.clone());
            self.lane.tell(ForwardEvent::Failing { reason });
        }
        Ok(self.sleep(LONGEST))
    }

    fn sleep(&self, duration: Duration) -> Step {
        if self.lane.shared.source.sleep(duration) {
            Step::Stop
        } else {
            Step::GoOn
        }
    }

    fn note_evicted(&mut self, evicted: &[LedgerEntry]) {
        let is_wanted = |entry: &&LedgerEntry| {
            let server = entry.server.as_ref();
            self.lane.servers.is_empty() || server.is_some_and(|it| self.lane.servers.contains(it))
        };
        let evicted: Vec<LedgerEntry> = evicted.iter().filter(is_wanted).cloned().collect();
        for missed in self
            .position
            .series
            .note_evicted(self.lane.signal, &evicted)
        {
            self.lane.count(|stats| stats.missed += missed.count);
            self.lane.tell(ForwardEvent::Missed(missed));
        }
    }

    /// Reads the next batch. Returns whether there is one, which is not so at the end of the stretch; the error in it
    /// is one of the store.
    fn fill(&mut self) -> Result<Result<bool, Error>, ForwardError> {
        let stretch = Stretch {
            since_sequence: self.position.since_sequence,
            end_sequence: self.position.end_sequence,
            after: self.position.after,
            records_max: self.records_max,
        };
        let lane = Arc::clone(&self.lane);
        let filled = self.read(move |reading| reading.next(&lane, &stretch))?;
        let evicted = mem::take(&mut self.reading.evicted);
        self.note_evicted(&evicted);
        Ok(filled)
    }

    /// Does something with the batch on the thread that reads.
    fn read<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Reading) -> T + Send + 'static,
    ) -> Result<T, ForwardError> {
        let empty = Reading::new(OtlpBatch::new(self.lane.signal));
        let mut reading = mem::replace(&mut self.reading, empty);
        let (reading, outcome) = self.lane.reader.run(move || {
            let outcome = work(&mut reading);
            (reading, outcome)
        })?;
        self.reading = reading;
        Ok(outcome)
    }

    /// Gives the snapshot back.
    fn release(&mut self) {
        self.reading.release(&self.lane);
    }

    /// All records of the stretch are sent.
    fn end_stretch(&mut self) -> Result<(), ForwardError> {
        if self.lane.shared.source.is_stopped() {
            // It may not have been read to its end.
            return Ok(());
        }
        self.release();
        self.position.since_sequence = self.position.end_sequence;
        self.position.after = None;
        let is_due = (self.caught_up_at).is_none_or(|at| at.elapsed() > CAUGHT_UP_INTERVAL);
        if is_due || !self.lane.follow {
            self.caught_up_at = Some(Instant::now());
            if let Some(snapshot) = self.lane.shared.source.snapshot()? {
                self.note_evicted(&snapshot.evicted()?);
                if snapshot.next_sequence()? == self.position.end_sequence {
                    let (stored, _) = snapshot.readable_inventory()?;
                    self.position
                        .series
                        .note_caught_up(self.lane.signal, &stored);
                }
            }
        }
        Ok(())
    }

    /// Sends the batch: whole, or in parts if it is too large for the endpoint.
    fn deliver(&mut self) -> Result<Step, ForwardError> {
        let (mut from, mut size) = (0, self.reading.batch.len());
        while from < self.reading.batch.len() {
            let to = (from + size).min(self.reading.batch.len());
            let body = self.body(from..to)?;
            let records = (to - from) as u64;
            match self.send(&Arc::new(body), records)? {
                Sent::Stopped => return Ok(Step::Stop),
                Sent::Taken => {}
                Sent::TooLarge(_) if to - from > 1 => {
                    size = (to - from).div_ceil(2);
                    self.records_max = size;
                    self.batches_since_too_large = 0;
                    continue;
                }
                Sent::TooLarge(reason) | Sent::Refused(reason) => {
                    self.refuse(from..to, reason);
                }
            }
            for place in self.reading.places.get(from..to).unwrap_or_default() {
                if let Some(server) = self.reading.names.get(place.server) {
                    self.position.series.note_sent(server);
                }
            }
            let last = to
                .checked_sub(1)
                .and_then(|last| self.reading.places.get(last));
            self.position.after = last.map(|place| place.cursor);
            if let Step::Stop = self.save(records)? {
                return Ok(Step::Stop);
            }
            from = to;
        }
        self.batches_since_too_large += 1;
        if self.records_max < RECORDS_MAX && self.batches_since_too_large >= 100 {
            self.records_max = (self.records_max * 2).min(RECORDS_MAX);
            self.batches_since_too_large = 0;
        }
        Ok(Step::GoOn)
    }

    /// The body of a request with some records of the batch.
    fn body(&mut self, records: Range<usize>) -> Result<Vec<u8>, ForwardError> {
        let client = Arc::clone(&self.client);
        self.read(move |reading| client.body_of(reading.batch.encode(records)))?
            .map_err(|error| ForwardError::Option(format!("cannot compress a request: {error}")))
    }

    /// Sends a body until the endpoint has decided on it.
    fn send(&mut self, body: &Arc<Vec<u8>>, records: u64) -> Result<Sent, ForwardError> {
        let began = Instant::now();
        let bytes = body.len() as u64;
        loop {
            self.lane.count(|stats| stats.in_flight = records);
            let was_uncertain = mem::replace(&mut self.is_uncertain, true);
            let Some(verdict) = self.request(body, records) else {
                // The batch may arrive: the count of records in flight says so.
                return Ok(Sent::Stopped);
            };
            self.lane.count(|stats| stats.in_flight = 0);
            let (reason, after, is_unclear) = match verdict {
                Verdict::Taken { rejected, message } => {
                    self.is_uncertain = false;
                    self.backoff.reset();
                    if self.trouble.take().is_some() {
                        self.lane.tell(ForwardEvent::Recovered {
                            signal: self.lane.signal,
                        });
                    }
                    if rejected > 0 || !message.is_empty() {
                        self.lane.tell(ForwardEvent::Rejected {
                            signal: self.lane.signal,
                            records: rejected,
                            message,
                        });
                    }
                    self.lane.count(|stats| {
                        stats.sent += records.saturating_sub(rejected);
                        stats.rejected += rejected;
                        stats.batches += 1;
                        stats.bytes += bytes;
                    });
                    return Ok(Sent::Taken);
                }
                Verdict::TooLarge { reason } => {
                    self.is_uncertain = was_uncertain;
                    return Ok(Sent::TooLarge(reason));
                }
                Verdict::Refused { reason } => {
                    self.is_uncertain = was_uncertain;
                    self.backoff.reset();
                    return Ok(Sent::Refused(reason));
                }
                Verdict::Later {
                    after,
                    reason,
                    is_answered,
                } => {
                    if is_answered {
                        self.is_uncertain = was_uncertain;
                    } else {
                        self.lane.count(|stats| stats.maybe_twice += records);
                    }
                    let is_over = self
                        .lane
                        .give_up_after
                        .is_some_and(|it| began.elapsed() >= it);
                    if is_over {
                        return self.give_up(reason);
                    }
                    (reason, after, false)
                }
                Verdict::Unclear { reason } => {
                    self.lane.count(|stats| stats.maybe_twice += records);
                    let is_over = self.backoff.attempts() + 1 >= UNCLEAR_MAX;
                    if is_over && !self.lane.follow {
                        return self.give_up(reason);
                    }
                    (reason, is_over.then_some(LONGEST), true)
                }
                Verdict::Unusable { reason } => {
                    self.is_uncertain = was_uncertain;
                    if !self.lane.follow {
                        return self.give_up(reason);
                    }
                    (reason, Some(LONGEST), false)
                }
            };
            // Pages that were freed since must not stay pinned while the endpoint is away.
            self.release();
            let wait = self.backoff.next(after);
            let is_new = self.trouble.as_ref() != Some(&reason);
            if is_new && (!is_unclear || self.backoff.attempts() >= UNCLEAR_MAX) {
                self.trouble = Some(reason.clone());
                self.lane.tell(ForwardEvent::Trouble {
                    signal: self.lane.signal,
                    reason,
                    retry_in: wait,
                });
            }
            if let Step::Stop = self.sleep(wait) {
                return Ok(Sent::Stopped);
            }
            self.lane.count(|stats| stats.retries += 1);
        }
    }

    fn give_up<T>(&self, reason: String) -> Result<T, ForwardError> {
        Err(ForwardError::Endpoint {
            signal: self.lane.signal,
            reason,
        })
    }

    /// Sends a body once. `None` when forwarding is to end and there is no answer yet.
    fn request(&self, body: &Arc<Vec<u8>>, records: u64) -> Option<Verdict> {
        let ended = || Verdict::Later {
            after: None,
            reason: "the thread that sends has ended".to_owned(),
            is_answered: false,
        };
        if self.jobs.send((Arc::clone(body), records)).is_err() {
            return Some(ended());
        }
        let mut asked = None;
        loop {
            match self.answers.recv_timeout(ANSWER_INTERVAL) {
                Ok(verdict) => return Some(verdict),
                Err(RecvTimeoutError::Disconnected) => return Some(ended()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.lane.shared.source.is_stopped() {
                let asked = *asked.get_or_insert_with(Instant::now);
                if asked.elapsed() >= ANSWER_GRACE {
                    return None;
                }
            }
        }
    }

    /// Keeps a part of the batch that was refused as a file, and enters its records in the ledger.
    fn refuse(&mut self, refused: Range<usize>, reason: String) {
        let signal = self.lane.signal;
        let places = self.reading.places.get(refused.clone()).unwrap_or_default();
        let Some(last) = places.last().map(|place| place.cursor) else {
            return;
        };
        let mut spans: BTreeMap<usize, (u64, Timestamp, Timestamp)> = BTreeMap::new();
        for Place { server, at, .. } in places {
            let span = spans.entry(*server).or_insert((0, *at, *at));
            *span = (span.0 + 1, span.1.min(*at), span.2.max(*at));
        }
        let entries: Vec<LedgerEntry> = spans
            .into_iter()
            .filter_map(|(number, (count, first, last))| {
                let server = self.reading.names.get(number)?.clone();
                Some(LedgerEntry::refused(server, signal, count, (first, last)))
            })
            .collect();
        let message = self.reading.batch.encode(refused);
        let kept = refused::keep(&self.lane.folder, signal, last, &message);
        let file = kept.unwrap_or_else(|reason| {
            self.lane.tell(ForwardEvent::Failing { reason });
            None
        });
        let records = places.len() as u64;
        // The store is opened for writing, and the snapshot of the scan would be older.
        self.release();
        if let Err(error) = self.lane.store.enter_refused(&entries) {
            self.lane.tell(ForwardEvent::Failing {
                reason: format!("the ledger does not say that records were refused: {error}"),
            });
        }
        self.lane.count(|stats| stats.refused += records);
        self.lane.tell(ForwardEvent::Refused {
            signal,
            records,
            reason,
            file,
        });
    }

    /// Stores the position. Nothing more is sent until it is stored: after a kill, all of that would be sent again.
    fn save(&mut self, records: u64) -> Result<Step, ForwardError> {
        let mut backoff = Backoff::default();
        loop {
            let Err(reason) = self.lane.cursor.save(self.lane.signal, &self.position) else {
                return Ok(Step::GoOn);
            };
            if backoff.attempts() == 0 {
                self.lane.tell(ForwardEvent::Failing {
                    reason: reason.clone(),
                });
            }
            let unsaved = ForwardError::Unsaved {
                signal: self.lane.signal,
                records,
                reason,
            };
            if backoff.attempts() >= SAVES_MAX && !self.lane.follow {
                return Err(unsaved);
            }
            self.release();
            let wait = backoff.next(None);
            if let Step::Stop = self.sleep(wait) {
                return Err(unsaved);
            }
        }
    }
}
